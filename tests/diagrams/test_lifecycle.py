"""The lifecycle's pictures are drawn from the table, whole, in every format."""

import re
from collections.abc import Callable, Sequence

import pytest

from diagrams.diagram import Diagram
from diagrams.dot import as_dot
from diagrams.lifecycle import Traffic, lifecycle_diagram
from diagrams.mermaid import as_mermaid
from diagrams.svg import as_svg
from tests.diagrams.reading import Picture
from workflow.lifecycle import TRANSITIONS, Transition
from workflow.roles import WORKERS
from workflow.states import CaseState, Trigger

Ways = list[tuple[str, str, str]]


def ways_in_mermaid(text: str) -> Ways:
    return re.findall(r"^    (\w+) --> (\w+): (.+)$", text, re.MULTILINE)


def ways_in_dot(text: str) -> Ways:
    return re.findall(r'^  "(\w+)" -> "(\w+)" \[label="(.+)"\]$', text, re.MULTILINE)


def ways_in_svg(text: str) -> Ways:
    return Picture(text).edges


def states_in_mermaid(text: str) -> list[tuple[str, str]]:
    return [(state, name) for name, state in re.findall(r'^    state "(.+)" as (\w+)$', text, re.MULTILINE)]


def states_in_dot(text: str) -> list[tuple[str, str]]:
    return re.findall(r'^  "(\w+)" \[label="([^"]+)"', text, re.MULTILINE)


def states_in_svg(text: str) -> list[tuple[str, str]]:
    return Picture(text).nodes


every_format = pytest.mark.parametrize(
    ("as_text", "states_in", "ways_in"),
    [
        pytest.param(as_mermaid, states_in_mermaid, ways_in_mermaid, id="mermaid"),
        pytest.param(as_dot, states_in_dot, ways_in_dot, id="dot"),
        pytest.param(as_svg, states_in_svg, ways_in_svg, id="svg"),
    ],
)


def ways_of(table: Sequence[Transition]) -> Ways:
    return [(row.source, row.target, row.trigger.replace("_", " ")) for row in table]


@every_format
def test_every_state_and_every_transition_is_drawn_once(
    as_text: Callable[[Diagram], str],
    states_in: Callable[[str], list[tuple[str, str]]],
    ways_in: Callable[[str], Ways],
) -> None:
    text = as_text(lifecycle_diagram())

    assert states_in(text) == [(state, state.replace("_", " ").capitalize()) for state in CaseState]
    assert sorted(ways_in(text)) == sorted(ways_of(TRANSITIONS))
    assert len(TRANSITIONS) == 16


@every_format
@pytest.mark.parametrize(
    "added",
    [
        Transition(Trigger.REFUND, CaseState.OPENED, CaseState.REFUNDED, WORKERS),
        Transition(Trigger.REFUND, CaseState.ADJUSTMENT_OFFERED, CaseState.REFUNDED, WORKERS),
        Transition(Trigger.REOPEN, CaseState.CLOSED, CaseState.OPENED, WORKERS),
    ],
)
def test_a_transition_added_to_the_table_is_in_every_picture(
    as_text: Callable[[Diagram], str],
    states_in: Callable[[str], list[tuple[str, str]]],
    ways_in: Callable[[str], Ways],
    added: Transition,
) -> None:
    table = (*TRANSITIONS, added)

    text = as_text(lifecycle_diagram(table))

    assert sorted(ways_in(text)) == sorted(ways_of(table))
    assert states_in(text) == states_in(as_text(lifecycle_diagram()))


def test_the_six_ways_to_close_share_one_label_beside_the_direct_one() -> None:
    """Five join in a rail with one head; the one from investigating, the neighbour, stands for itself."""
    texts = Picture(as_svg(lifecycle_diagram())).texts

    assert texts.count("close") == 2
    assert texts.count("resume") == 4


@every_format
def test_traffic_is_told_in_every_picture(
    as_text: Callable[[Diagram], str],
    states_in: Callable[[str], list[tuple[str, str]]],
    ways_in: Callable[[str], Ways],
) -> None:
    busy = Traffic(facts=("41 now", "median 2 d"))
    often = Traffic(facts=("120 ·", "3 h"))
    diagram = lifecycle_diagram(
        title="Traffic",
        states={CaseState.OPENED: busy},
        ways={(CaseState.OPENED, Trigger.CLOSE): often, (CaseState.OPENED, Trigger.INVESTIGATE): often},
    )

    text = as_text(diagram)

    assert "Traffic" in text
    assert "41 now" in dict(states_in(text))["opened"]
    assert "41 now" not in dict(states_in(text))["closed"]
    told = {(source, target): label for source, target, label in ways_in(text)}
    assert "3 h" in told["opened", "closed"]
    assert "3 h" in told["opened", "investigating"]
    assert told["investigating", "closed"] == "close"
