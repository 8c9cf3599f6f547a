"""Charts are true to their numbers, and text in them stays text."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pages.charts import HEIGHT, Column, Part, bar, columns, tick_step

HOSTILE = '"><script>alert(1)</script>&\u202e'
values = st.integers(min_value=0, max_value=10**9)


def rects(svg: str, kind: str) -> list[dict[str, float]]:
    found = ET.fromstring(svg).iter("rect")  # noqa: S314 - our own text
    return [
        {name: float(one.attrib[name].rstrip("%")) for name in ("x", "width", "height")}
        for one in found
        if one.get("class") == kind
    ]


@given(st.lists(st.tuples(values, values), min_size=1, max_size=60))
def test_columns_are_as_high_as_their_numbers_and_keep_to_their_place(numbers: list[tuple[int, int]]) -> None:
    shown = [Column("", (Part("one", one), Part("two", two)), "said", "/x") for one, two in numbers]
    svg = columns("title", "description", shown, stacked=True)

    ones, twos = rects(svg, "one"), rects(svg, "two")
    assert len(ones) == sum(one > 0 for one, _ in numbers)
    highest = max(one + two for one, two in numbers)
    for kind, drawn, of in (("one", ones, [one for one, _ in numbers]), ("two", twos, [two for _, two in numbers])):
        for rect, number in zip(drawn, filter(None, of), strict=True):
            share = rect["height"] / HEIGHT
            assert share <= 1, kind
            assert abs(share - number / highest) <= 0.6  # the scale ends with a round number, never far above
            assert 0 <= rect["x"] <= rect["x"] + rect["width"] <= 100.01
    assert max((one["height"] for one in ones), default=0) <= HEIGHT


@given(st.lists(values, min_size=2, max_size=5).filter(lambda some: sum(some) > 0))
def test_a_bar_is_divided_as_its_numbers_are(numbers: list[int]) -> None:
    svg = bar([Part(f"part{index}", number) for index, number in enumerate(numbers)], sum(numbers))

    widths = [sum(one["width"] for one in rects(svg, f"part{index}")) for index in range(len(numbers))]

    assert widths == pytest.approx([100 * number / sum(numbers) for number in numbers], abs=0.001)


@pytest.mark.parametrize("stacked", [True, False])
def test_whatever_is_said_in_a_chart_is_text(*, stacked: bool) -> None:
    parts = (Part(HOSTILE, 1, HOSTILE, HOSTILE), Part("b", 0, HOSTILE, HOSTILE))
    svg = columns(HOSTILE, HOSTILE, [Column(HOSTILE, parts, HOSTILE, HOSTILE)], stacked=stacked)

    assert "<script" not in svg
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    assert root.findtext("title") == root.findtext("desc") == root.get("aria-label") == HOSTILE
    assert {one.get("href") for one in root.iter("a")} == {HOSTILE}


def test_a_chart_has_no_style_of_its_own_and_its_links_are_for_pointers() -> None:
    svg = columns("title", "description", [Column("a", (Part("in", 1),), "said", "/x")], stacked=True)

    assert "style" not in svg
    assert re.findall(r'role="(\w+)"', svg) == ["group"]
    assert svg.count("<a ") == svg.count('tabindex="-1"') == 1


def test_nothing_makes_an_empty_chart() -> None:
    assert "<a " not in columns("title", "description", [], stacked=True)
    assert rects(bar([Part("in", 0)], 0), "in") == []
    assert "<a " in columns("title", "description", [Column("a", (Part("in", 0),), "none", "/x")], stacked=True)


@pytest.mark.parametrize(
    ("highest", "step"), [(0, 1), (1, 1), (4, 1), (5, 2), (8, 2), (9, 5), (20, 5), (21, 10), (22_222, 10_000)]
)
def test_lines_stand_at_round_numbers(highest: int, step: int) -> None:
    assert tick_step(highest) == step
