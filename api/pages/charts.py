"""Charts as SVG of our own: as wide as their place, coloured by the page's classes, each part a link to its cases.

Lengths across are percentages, so that words keep their size in every width. What leads somewhere cannot be an image
for assistive technology; these are groups with a title and a description. Their links are for pointers alone: the
table below every chart has the same ones for everybody.
"""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

HEIGHT = 160  # of the tallest column
ABOVE, BELOW = 8, 24  # it
TICKS = 4
LABELS = 6  # so many fit below the columns of a phone
GAP = 0.2  # between columns, of their width


class Part(NamedTuple):
    """`kind` is a class that says how it looks; `said` is all of it in words."""

    kind: str
    value: int
    said: str = ""
    link: str = ""


class Column(NamedTuple):
    """Of parts that stand on one another, the first below, and lead where the column does; or else side by side."""

    label: str
    parts: tuple[Part, ...]
    said: str = ""
    link: str = ""


def columns(title: str, description: str, shown: Sequence[Column], *, stacked: bool) -> Markup:
    highest = max((top_of(one, stacked=stacked) for one in shown), default=0)
    step = tick_step(highest)
    top = max(step * -(-highest // step), 1)
    every = -(-len(shown) // LABELS)
    width = 100 / max(len(shown), 1)
    draw = stack if stacked else row
    lines = Markup().join(tick(value, top) for value in range(0, top + 1, step))
    drawn = Markup().join(draw(one, width * index, width, top) for index, one in enumerate(shown))
    labels = Markup().join(
        Markup('<text x="{:.3f}%" y="{}" text-anchor="middle">{}</text>').format(
            width * (index + 0.5), ABOVE + HEIGHT + BELOW, one.label
        )
        for index, one in enumerate(shown)
        if index % every == 0
    )
    return Markup(
        '<svg class="columns" role="group" aria-label="{title}" width="100%" height="{height}">'
        "<title>{title}</title><desc>{description}</desc>{drawn}</svg>"
    ).format(
        title=title,
        description=description,
        height=ABOVE + HEIGHT + BELOW + ABOVE,
        drawn=Markup().join((lines, drawn, labels)),
    )


def stack(one: Column, left: float, width: float, top: int) -> Markup:
    rects, base = [touch(left, width)], 0
    for part in one.parts:
        rects.append(rect(part, left + width * GAP / 2, width * (1 - GAP), base, top))
        base += part.value
    return linked(one.link, one.said, Markup().join(rects))


def row(one: Column, left: float, width: float, top: int) -> Markup:
    each = width * (1 - GAP) / len(one.parts)
    start = left + width * GAP / 2
    places = [(part, start + each * place) for place, part in enumerate(one.parts)]
    drawn = [linked(part.link, part.said, touch(x, each) + rect(part, x, each, 0, top)) for part, x in places]
    return Markup().join(drawn)


def rect(part: Part, left: float, width: float, base: int, top: int) -> Markup:
    if not part.value:
        return Markup()
    low, high = height_of(base, top), height_of(base + part.value, top)
    return Markup('<rect class="{}" x="{:.3f}%" y="{:.1f}" width="{:.3f}%" height="{:.1f}"/>').format(
        part.kind, left, ABOVE + HEIGHT - high, width, max(high - low, 1)
    )


def touch(left: float, width: float) -> Markup:
    """What a pointer meets, however small the number."""
    return Markup('<rect class="touch" x="{:.3f}%" y="{}" width="{:.3f}%" height="{}"/>').format(
        left, ABOVE, width, HEIGHT
    )


def linked(link: str, said: str, drawn: Markup) -> Markup:
    return Markup('<a href="{link}" aria-label="{said}" tabindex="-1"><title>{said}</title>{drawn}</a>').format(
        link=link, said=said, drawn=drawn
    )


def tick(value: int, top: int) -> Markup:
    y = ABOVE + HEIGHT - height_of(value, top)
    return Markup('<line x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>{text}').format(
        y=y,
        text=Markup('<text class="tick" x="-6" y="{:.1f}" text-anchor="end">{:,}</text>').format(y + 4, value),
    )


def bar(parts: Sequence[Part], most: int) -> Markup:
    """One bar lying down, of parts one after the other; `most` is as long as there is room."""
    rects, left = [], 0.0
    for part in parts:
        width = 100 * part.value / max(most, 1)
        if part.value:
            rects.append(
                Markup('<rect class="{}" x="{:.3f}%" width="{:.3f}%" height="12"/>').format(part.kind, left, width)
            )
        left += width
    return Markup('<svg class="strip" aria-hidden="true" focusable="false" width="100%" height="12">{}</svg>').format(
        Markup().join(rects)
    )


def top_of(one: Column, *, stacked: bool) -> int:
    values = [part.value for part in one.parts]
    return sum(values) if stacked else max(values, default=0)


def height_of(value: int, top: int) -> float:
    return HEIGHT * value / top


def tick_step(highest: int) -> int:
    """1, 2 or 5, or ten, a hundred… times as much: so that there are few lines."""
    power = 1
    while True:
        for step in (power, 2 * power, 5 * power):
            if step * TICKS >= highest:
                return step
        power *= 10
