"""One case's path as a picture: where it was and when, where it is, where it may go next, where it never came."""

from collections.abc import Sequence
from datetime import UTC
from itertools import pairwise

from diagrams.diagram import Diagram, Edge, Form, Node, Standing
from workflow.cases import case_number_text
from workflow.events import Closed, Opened, Recorded, Resumed
from workflow.guards import words
from workflow.permissions import Permission
from workflow.states import CaseState, Trigger


def path_diagram(
    history: Sequence[Recorded], permissions: Sequence[Permission] = (), *, seen: int | None = None
) -> Diagram:
    """The path of the case with these events, oldest first; the first few of them give its path until then.

    Where only the first `seen` of them have been seen, the rest of the path is there as what came later.
    Only events that changed the state show, and only permissions that allow something. Times are UTC.
    """
    arrivals = [one for one in history if one.event.state_before is None or one.event.trigger is not None]
    here = sum(seen is None or one.event.seq <= seen for one in arrivals) - 1
    visits = [
        Node(
            id=f"visit_{number}",
            state=CaseState(str(arrival.event.state_after)),
            standing=standing_of(number, here),
            at=f"{arrival.at.astimezone(UTC):%Y-%m-%d %H:%M}",
        )
        for number, arrival in enumerate(arrivals)
    ]
    steps = [
        Edge(source=before, target=after, label=step_label(arrival), number=number)
        for number, ((before, after), arrival) in enumerate(zip(pairwise(visits), arrivals[1:], strict=True), start=1)
    ]
    ways = [
        Edge(
            source=end,
            target=Node(id=f"possible_{one.trigger}", state=one.target, standing=Standing.POSSIBLE),
            label=words(one.trigger),
        )
        for end in visits[-1:]
        for one in permissions
        if one.allowed
    ]
    shown = [*visits, *(way.target for way in ways)]
    unreached = [
        Node(id=f"unreached_{state}", state=state, standing=Standing.UNREACHED)
        for state in CaseState
        if all(node.state is not state for node in shown)
    ]
    return Diagram(form=Form.TIMELINE, title=title(history), nodes=(*shown, *unreached), edges=(*steps, *ways))


def standing_of(number: int, here: int) -> Standing:
    if number == here:
        return Standing.CURRENT
    return Standing.VISITED if number < here else Standing.LATER


def step_label(arrival: Recorded) -> str:
    """The trigger; for the two that can mean several things with the code that tells which."""
    trigger = words(Trigger(str(arrival.event.trigger)))
    match arrival.data:
        case Resumed(reason_code=code) | Closed(resolution=code):
            return f"{trigger}, {code.replace('_', ' ')}"
        case _:
            return trigger


def title(history: Sequence[Recorded]) -> str:
    numbers = [one.data.number for one in history if isinstance(one.data, Opened)]
    return f"The path of {case_number_text(numbers[0])}" if numbers else "The path of a case"
