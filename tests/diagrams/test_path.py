"""A case's path tells where it was and when, where it is, where it may go, and where it never came."""

import re

from diagrams.diagram import Standing
from diagrams.dot import as_dot
from diagrams.mermaid import as_mermaid
from diagrams.path import path_diagram
from diagrams.svg import as_svg
from tests.diagrams.paths import (
    CLOSED,
    INVESTIGATING,
    OFFERED,
    REFUNDED,
    REOPENED,
    SCHEDULED,
    THIRTY_STEPS,
    a_case_that_went,
    a_fresh_case,
    drawn,
)
from tests.diagrams.reading import Picture
from tests.workflow.builders import ANA, AUDREY, a_letter
from workflow.states import REMEDY_STATES, CaseState


def test_the_states_stand_in_the_order_they_were_visited_with_their_times_in_utc() -> None:
    diagram = drawn(a_case_that_went(OFFERED, INVESTIGATING, REFUNDED))

    visits = diagram.of(Standing.VISITED, Standing.CURRENT)
    assert [(visit.state, visit.at) for visit in visits] == [
        (CaseState.OPENED, "2026-03-05 12:00"),
        (INVESTIGATING, "2026-03-05 12:00"),
        (OFFERED, "2026-03-05 13:47"),
        (INVESTIGATING, "2026-03-05 15:34"),
        (REFUNDED, "2026-03-05 17:21"),
    ]


def test_steps_are_numbered_in_every_format_however_many_there_are() -> None:
    diagram = drawn(a_case_that_went(*THIRTY_STEPS))
    steps = [edge for edge in diagram.edges if edge.number is not None]

    assert [step.number for step in steps] == list(range(1, 31))
    assert [step.target.state for step in steps] == [INVESTIGATING, *THIRTY_STEPS]
    expected = [(f"visit_{step.number - 1}", f"visit_{step.number}", step.text) for step in steps if step.number]
    assert re.findall(r"(\w+) --> (\w+): (\d+ .+)", as_mermaid(diagram)) == expected
    assert re.findall(r'"(\w+)" -> "(\w+)" \[label="(\d+ .+)"\]', as_dot(diagram)) == expected
    picture = Picture(as_svg(diagram))
    assert [edge for edge in picture.edges if edge[2][0].isdigit()] == expected
    assert [text for text in picture.texts if text.isdigit()] == [str(number) for number in range(1, 31)]


def test_each_visit_stands_lower_than_the_one_before() -> None:
    picture = Picture(as_svg(drawn(a_case_that_went(*THIRTY_STEPS))))

    heights = [float(spot.attrib["cy"]) for spot in picture.by_class("cw-spot")]

    assert heights == sorted(set(heights))


def test_a_step_back_and_a_closing_say_why() -> None:
    diagram = drawn(a_case_that_went(SCHEDULED, INVESTIGATING, REFUNDED, CLOSED))

    assert [edge.text for edge in diagram.edges if edge.number] == [
        "1 investigate",
        "2 schedule consultation",
        "3 resume, insufficient",
        "4 refund",
        "5 close, remedy accepted",
    ]


def test_where_the_case_is_now_is_marked_and_said_once() -> None:
    diagram = drawn(a_case_that_went(*REOPENED))

    assert [(node.id, node.state) for node in diagram.of(Standing.CURRENT)] == [("visit_6", INVESTIGATING)]
    picture = Picture(as_svg(diagram))
    assert picture.by_class("cw-current")[0].get("data-node") == "visit_6"
    assert [text for text in picture.texts if text.endswith("now")] == ["Investigatingnow"]
    assert "    class visit_6 current\n" in as_mermaid(diagram)
    assert as_mermaid(diagram).count("<br/>now") == 1
    assert [line for line in as_dot(diagram).splitlines() if "penwidth" in line] == [
        '  "visit_6" [label="Investigating\\n2026-03-05 20:55\\nnow", color="#1d4ed8", penwidth="3"]'
    ]


def test_what_is_possible_next_is_dashed_and_depends_on_who_looks() -> None:
    desk = a_case_that_went(REFUNDED)
    desk.do(ANA, a_letter())

    diagram = drawn(desk, viewer=ANA)

    assert [(edge.label, edge.target.state) for edge in diagram.edges if edge.is_possible] == [
        ("resume", INVESTIGATING),
        ("close", CLOSED),
    ]
    assert drawn(desk, viewer=AUDREY).of(Standing.POSSIBLE) == ()
    assert '"visit_2" -> "possible_close" [label="close", style="dashed"]' in as_dot(diagram)
    assert "    class possible_close possible\n" in as_mermaid(diagram)
    picture = Picture(as_svg(diagram))
    assert len(picture.by_class("cw-dashed")) == 1
    assert picture.edges[:2] == [("visit_2", "possible_resume", "resume"), ("visit_2", "possible_close", "close")]


def test_what_was_never_reached_is_muted_unless_it_is_possible_next() -> None:
    diagram = drawn(a_fresh_case())

    assert [node.state for node in diagram.of(Standing.POSSIBLE)] == [INVESTIGATING, CLOSED]
    assert [node.state for node in diagram.of(Standing.UNREACHED)] == list(REMEDY_STATES)
    picture = Picture(as_svg(diagram))
    assert len(picture.by_class("cw-unreached")) == 4
    assert picture.texts.count("never reached") == 1


def test_a_path_needs_no_permissions_and_then_shows_only_the_past() -> None:
    diagram = path_diagram(a_case_that_went(*REOPENED).histories["A"])

    assert diagram.of(Standing.POSSIBLE) == ()
    assert [node.state for node in diagram.of(Standing.UNREACHED)] == [
        CaseState.CONSULTATION_SCHEDULED,
        CaseState.COMPENSATION_ISSUED,
    ]


def test_the_first_events_of_a_history_give_the_path_until_then() -> None:
    history = a_case_that_went(*REOPENED).histories["A"]
    offered = next(count for count, one in enumerate(history, start=1) if one.event.state_after == OFFERED)

    assert [node.state for node in path_diagram(history[:offered]).of(Standing.CURRENT)] == [OFFERED]


def test_what_came_after_the_moment_that_is_shown_stands_there_as_later() -> None:
    history = a_case_that_went(*REOPENED).histories["A"]
    offered = next(one.event.seq for one in history if one.event.state_after == OFFERED)

    diagram = path_diagram(history, seen=offered)

    assert [node.state for node in diagram.of(Standing.CURRENT)] == [OFFERED]
    assert [node.state for node in diagram.of(Standing.LATER)] == list(REOPENED[1:])
    assert diagram.of(Standing.VISITED) == path_diagram(history[:offered]).of(Standing.VISITED)
    picture = Picture(as_svg(diagram))
    assert len(picture.by_class("cw-later")) == 2 * (len(REOPENED) - 1)
    assert "    class visit_3 later\n" in as_mermaid(diagram)


def test_what_moves_nothing_does_not_show() -> None:
    desk = a_case_that_went(OFFERED)
    before = path_diagram(desk.histories["A"])

    desk.do(ANA, a_letter())

    assert path_diagram(desk.histories["A"]) == before


def test_the_picture_is_named_after_the_case() -> None:
    desk = a_fresh_case()

    assert drawn(desk).title == f"The path of C-{desk.case.number}"


def test_no_history_is_a_picture_of_what_was_never_reached() -> None:
    diagram = path_diagram([])

    assert {node.standing for node in diagram.nodes} == {Standing.UNREACHED}
    assert Picture(as_svg(diagram)).nodes[0][1] == "Opened, never reached"
