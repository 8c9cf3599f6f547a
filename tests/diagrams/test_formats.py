"""Every format writes what it is told and nothing else: hostile text stays text, one picture is one text."""

import json
import re
from collections.abc import Callable

import pytest

from diagrams.diagram import Diagram, Edge, Form, Node, Standing
from diagrams.dot import as_dot
from diagrams.mermaid import as_mermaid
from diagrams.svg import as_svg
from tests.diagrams.paths import REOPENED, a_case_that_went, drawn
from tests.diagrams.reading import Picture
from workflow.states import CaseState

HOSTILE = "\"]; }\n<script>&amp;</script> \\N \\\" %% #35; --> {x} '日'"


def a_diagram_saying(text: str, form: Form = Form.GRAPH) -> Diagram:
    here = Node(id="here", state=CaseState.OPENED, standing=Standing.CURRENT, at=text)
    there = Node(id="there", state=CaseState.REFUNDED, standing=Standing.POSSIBLE)
    return Diagram(form=form, title=text, nodes=(here, there), edges=(Edge(source=here, target=there, label=text),))


@pytest.mark.parametrize("form", Form)
def test_in_svg_hostile_text_is_only_text(form: Form) -> None:
    picture = Picture(as_svg(a_diagram_saying(HOSTILE, form)))

    assert picture.root.get("aria-label") == HOSTILE.replace(
        "\n", " "
    )  # XML reads a line end in an attribute as a blank
    assert HOSTILE in picture.texts
    assert not [one for one in picture.root.iter() if one.tag.endswith("script")]


def test_in_svg_characters_that_xml_cannot_hold_are_replaced() -> None:
    picture = Picture(as_svg(a_diagram_saying("a\0b\x1bc\ud800d\uffffe")))

    assert picture.root.get("aria-label") == "a\ufffdb\ufffdc\ufffdd\ufffde"


def test_in_dot_hostile_text_stays_within_its_quotes() -> None:
    text = as_dot(a_diagram_saying(HOSTILE + "\0"))

    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "TEXT", text)
    assert outside.splitlines()[0] == "digraph TEXT {"
    assert outside.splitlines()[-2:] == ["  TEXT -> TEXT [label=TEXT, style=TEXT]", "}"]
    assert not re.search(r"script|--&gt;|\\N", outside)
    label = re.search(r'-> "there" \[label="((?:[^"\\]|\\.)*)"', text)
    assert label is not None
    read = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), label[1]).replace("&amp;", "&")
    assert read == HOSTILE + "\ufffd"


def test_in_mermaid_hostile_text_is_spelled_in_character_numbers() -> None:
    text = as_mermaid(a_diagram_saying(HOSTILE))

    title, label = text.splitlines()[1], text.splitlines()[-1]
    assert json.loads(title.removeprefix("title: ")) == HOSTILE
    written = label.removeprefix("    here --> there: ")
    assert re.fullmatch(r"(?:[\w .,:/()+-]|#\d+;)+", written, re.ASCII)
    assert re.sub(r"#(\d+);", lambda number: chr(int(number[1])), written) == HOSTILE


@pytest.mark.parametrize("as_text", [as_mermaid, as_dot, as_svg])
def test_the_same_path_is_the_same_text(as_text: Callable[[Diagram], str]) -> None:
    assert as_text(drawn(a_case_that_went(*REOPENED))) == as_text(drawn(a_case_that_went(*REOPENED)))
