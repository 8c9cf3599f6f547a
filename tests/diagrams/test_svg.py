"""What an SVG promises its readers: nothing in another's way, legible on any background, and nothing from outside."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagrams.diagram import Diagram
from diagrams.glyphs import DARK_HUES, GLYPHS, LIGHT_HUES
from diagrams.lifecycle import Traffic, lifecycle_diagram
from diagrams.svg import as_svg
from tests.diagrams.paths import REOPENED, SCHEDULED, THIRTY_STEPS, a_case_that_went, a_fresh_case, drawn
from tests.diagrams.reading import SVG, Picture, collisions
from workflow.lifecycle import Transition
from workflow.states import CaseState, Trigger

PICTURES = {
    "lifecycle": lifecycle_diagram(),
    "fresh": drawn(a_fresh_case()),
    "short": drawn(a_case_that_went(SCHEDULED)),
    "reopened": drawn(a_case_that_went(*REOPENED)),
    "thirty steps": drawn(a_case_that_went(*THIRTY_STEPS)),
}
every_picture = pytest.mark.parametrize("diagram", PICTURES.values(), ids=PICTURES.keys())

tables = st.dictionaries(
    st.tuples(st.sampled_from(Trigger), st.sampled_from(CaseState)), st.sampled_from(CaseState), max_size=56
).map(lambda ways: [Transition(trigger, source, target, frozenset()) for (trigger, source), target in ways.items()])


@every_picture
def test_no_word_box_or_arrow_stands_in_anothers_way(diagram: Diagram) -> None:
    picture = Picture(as_svg(diagram))

    assert collisions(picture) == []
    assert len(picture.boxes) == len(diagram.nodes)


@given(table=tables)
def test_whatever_the_table_nothing_stands_in_anothers_way(table: list[Transition]) -> None:
    diagram = lifecycle_diagram(table)
    picture = Picture(as_svg(diagram))

    assert collisions(picture) == []
    assert len(picture.edges) == len(table)


facts = st.lists(st.text(st.sampled_from("0123456789 ·,dmedianow"), min_size=1, max_size=20), max_size=3).map(tuple)


@given(
    table=tables,
    states=st.dictionaries(st.sampled_from(CaseState), facts),
    ways=st.dictionaries(st.tuples(st.sampled_from(CaseState), st.sampled_from(Trigger)), facts, max_size=56),
)
def test_whatever_the_traffic_nothing_stands_in_anothers_way(
    table: list[Transition],
    states: dict[CaseState, tuple[str, ...]],
    ways: dict[tuple[CaseState, Trigger], tuple[str, ...]],
) -> None:
    diagram = lifecycle_diagram(
        table,
        states={state: Traffic(facts=told) for state, told in states.items()},
        ways={way: Traffic(facts=told) for way, told in ways.items()},
    )

    assert collisions(Picture(as_svg(diagram))) == []


def test_a_word_on_an_arrow_is_noticed() -> None:
    """The control of the two tests above."""
    label = re.compile(r'y="(\d+)" text-anchor="middle">refund<')
    lowered = label.sub(
        lambda found: f'y="{int(found[1]) + 8}" text-anchor="middle">refund<', as_svg(PICTURES["lifecycle"])
    )

    assert [what for _, what in collisions(Picture(lowered))] == ["refund"]


@every_picture
def test_a_picture_stands_on_its_own(diagram: Diagram) -> None:
    """GitHub and `<img>` load nothing for it, and a page that holds two of them must not mix them up."""
    svg = as_svg(diagram)
    root = Picture(svg).root

    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "desc", "style", "g", "rect", "circle", "path", "text", "tspan")
    }
    assert not re.search(r"href|url\(|@import|@font-face|<script|\sid=|\son\w+=", svg)
    assert svg.count("://") == 1  # the namespace


def test_within_a_page_a_picture_leads_somewhere_and_brings_no_style() -> None:
    link = "/queue?tab=all&state=opened"
    diagram = lifecycle_diagram(
        states={CaseState.OPENED: Traffic(facts=("41 now",), link=link)},
        ways={(CaseState.OPENED, Trigger.CLOSE): Traffic(facts=("3 h",), link="/insights/cases?what=stayed")},
    )

    root = Picture(as_svg(diagram, styled=False)).root

    assert root.get("role") == "group"  # what is in an image leads nowhere
    assert root.find(f"{SVG}style") is None
    led = {one.get("href"): one.get("aria-label") for one in root.iter(f"{SVG}a")}
    assert led == {
        link: "Opened, 41 now",
        "/insights/cases?what=stayed": "Opened: close, 3 h leads to Closed",
    }


@every_picture
def test_a_picture_can_be_heard(diagram: Diagram) -> None:
    root = Picture(as_svg(diagram)).root

    assert (root.get("role"), root.get("aria-label")) == ("img", diagram.title)
    assert root.findtext(f"{SVG}title") == diagram.title
    description = root.findtext(f"{SVG}desc") or ""
    assert all(edge.sentence in description for edge in diagram.edges)
    assert all(node.at in description for node in diagram.nodes)


def test_every_state_has_a_glyph_and_a_hue_of_its_own() -> None:
    for look in (GLYPHS, LIGHT_HUES, DARK_HUES):
        assert list(look) == list(CaseState)
        assert len(set(look.values())) == len(CaseState)


SCHEMES = dict(
    zip(
        ("light", "dark", "print"),
        re.split(r"@media [^{]+\{\n", Picture(as_svg(PICTURES["lifecycle"])).root.findtext(f"{SVG}style") or ""),
        strict=True,
    )
)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_words_and_glyphs_are_legible_in_every_scheme(scheme: str) -> None:
    """WCAG 2.2: text at least 4.5:1, glyphs and lines at least 3:1; also on the tint of a box or of the current row."""
    paper = colour("cw-paper", "fill", scheme)
    hues = [colour(f"cw-{state}", "color", scheme) for state in CaseState]
    grounds = [paper, *(mixed(hue, paper, share) for hue in hues for share in (0.07, 0.1))]

    for text in ("cw-name", "cw-label"):
        assert min(contrast(colour(text, "fill", scheme), ground) for ground in grounds) >= 4.5
    for glyph in (*hues, colour("cw-line", "stroke", scheme), colour("cw-unreached", "color", scheme)):
        assert min(contrast(glyph, ground) for ground in grounds) >= 3


def test_print_is_black_on_white() -> None:
    assert contrast(colour("cw-name", "fill", "print"), colour("cw-paper", "fill", "print")) == 21


Colour = tuple[float, ...]


def colour(kind: str, what: str, scheme: str) -> Colour:
    (digits,) = re.findall(rf"^(?:.+,)?\.{kind}(?:,.+)?{{{what}:#(\w{{6}})}}$", SCHEMES[scheme], re.MULTILINE)
    return tuple(bytes.fromhex(digits))


def mixed(top: Colour, ground: Colour, share: float) -> Colour:
    return tuple(share * one + (1 - share) * other for one, other in zip(top, ground, strict=True))


def contrast(one: Colour, other: Colour) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(of: Colour) -> float:
    linear = [part / 255 / 12.92 if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in of]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
