"""The lifecycle as a picture: every state, and every transition of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diagrams.diagram import Diagram, Edge, Form, Node, Standing
from workflow.guards import words
from workflow.lifecycle import TRANSITIONS, Transition
from workflow.states import CaseState, Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is told of a state or a transition besides its name, and where that leads."""

    facts: tuple[str, ...]
    link: str = ""


def lifecycle_diagram(
    transitions: Sequence[Transition] = TRANSITIONS,
    *,
    title: str = "The lifecycle of a case",
    states: Mapping[CaseState, Traffic] = {},
    ways: Mapping[tuple[CaseState, Trigger], Traffic] = {},
) -> Diagram:
    """The table as it is, or with the traffic over it."""
    nodes = {
        state: Node(id=state, state=state, standing=Standing.DEFINED, facts=told.facts, link=told.link)
        for state in CaseState
        for told in [states.get(state, NO_TRAFFIC)]
    }
    return Diagram(
        form=Form.GRAPH,
        title=title,
        nodes=tuple(nodes.values()),
        edges=tuple(
            Edge(
                source=nodes[row.source],
                target=nodes[row.target],
                label=words(row.trigger),
                fact=" ".join(told.facts),
                link=told.link,
            )
            for row in transitions
            for told in [ways.get((row.source, row.trigger), NO_TRAFFIC)]
        ),
    )


NO_TRAFFIC = Traffic(facts=())
