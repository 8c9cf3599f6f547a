"""The strokes that SVG pictures are made of: text, arrows, glyphs. Whatever is text is escaped here."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from diagrams.diagram import Edge, Node
from diagrams.glyphs import GLYPHS

Point = tuple[int, int]

NAME, LABEL = 13, 12  # font sizes: of a state's name, and of all that is said about it
HEAD = 7  # the length of an arrow's head
CORNER = 8
AFTER = 8  # between a text and the remark that follows it

# What XML 1.0 cannot hold at all, not even escaped.
UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    width: int
    height: int
    shapes: tuple[str, ...]


def xml(text: str) -> str:
    return escape(UNSPEAKABLE.sub("\ufffd", text))


def text_width(text: str, size: int = LABEL) -> int:
    """Enough room for a text in any common system font; which one it will be is only known where it is read."""
    return round(sum(map(ems, text)) * size)


def ems(char: str) -> float:
    if char in "fijlrt .,:;|!'()-":
        return 0.37
    if char in "mwMW" or char >= "\u2e80":
        return 0.95
    return 0.72 if char.isupper() else 0.62


def text_at(place: Point, text: str, kind: str, *, anchor: str = "start", remark: str = "") -> str:
    """A line of text whose small letters have their middle at `place`; `kind` is its class, a remark follows it."""
    x, y = place
    more = f'<tspan class="cw-remark" dx="{AFTER}">{xml(remark)}</tspan>' if remark else ""
    return f'<text class="{kind}" x="{x}" y="{y + 4}" text-anchor="{anchor}">{xml(text)}{more}</text>'


def glyph_at(place: Point, node: Node) -> str:
    return f'<g transform="translate({at(place)})">{GLYPHS[node.state]}</g>'


def node_group(node: Node, *shapes: str) -> str:
    group = (
        f'<g class="cw-node cw-{node.state} cw-{node.standing}" data-node="{xml(node.id)}">'
        f"<title>{xml(', '.join(node.lines))}</title>{''.join(shapes)}</g>"
    )
    return linked(node.link, ", ".join(node.lines), group)


def edge_group(edge: Edge, *shapes: str) -> str:
    kind = "cw-edge cw-later" if edge.is_later else "cw-edge"
    group = (
        f'<g class="{kind}" data-source="{xml(edge.source.id)}" data-target="{xml(edge.target.id)}" '
        f'data-label="{xml(edge.text)}"><title>{xml(edge.sentence)}</title>{"".join(shapes)}</g>'
    )
    return linked(edge.link, edge.sentence, group)


def linked(link: str, said: str, group: str) -> str:
    """For pointers; whoever has none finds the same links beside the picture, in its table."""
    return f'<a href="{xml(link)}" aria-label="{xml(said)}" tabindex="-1">{group}</a>' if link else group


def arrow(*routes: Sequence[Point]) -> str:
    """Routes that share a stretch, each ending in a head; one path, so that no stretch is drawn over twice."""
    lines, heads = [], []
    for *way, before, (x, y) in routes:
        across, down = sign(x - before[0]), sign(y - before[1])
        neck_x, neck_y = x - across * HEAD, y - down * HEAD
        left, right = (neck_x + 4 * down, neck_y + 4 * across), (neck_x - 4 * down, neck_y - 4 * across)
        lines.append(line((*way, before, (neck_x, neck_y))))
        heads.append(f'<path class="cw-head" d="M{x} {y}L{at(left)}L{at(right)}z"/>')
    return f'<path class="cw-line" d="{"".join(lines)}"/>{"".join(dict.fromkeys(heads))}'


def touch(route: Sequence[Point]) -> str:
    """What a pointer meets of an edge whose line is drawn together with others."""
    return f'<path class="cw-touch" d="{line(route)}"/>'


def line(route: Sequence[Point]) -> str:
    """Path data for straight pieces, each level or upright, with rounded corners."""
    bends = [
        f"L{toward(corner, before)}Q{at(corner)} {toward(corner, after)}"
        for before, corner, after in zip(route, route[1:], route[2:], strict=False)
    ]
    return f"M{at(route[0])}{''.join(bends)}L{at(route[-1])}"


def toward(corner: Point, other: Point) -> str:
    """Where a rounded corner begins, on the way to the other point."""
    across, down = other[0] - corner[0], other[1] - corner[1]
    reach = min(CORNER, (abs(across) + abs(down)) // 2)
    return at((corner[0] + sign(across) * reach, corner[1] + sign(down) * reach))


def at(point: Point) -> str:
    return f"{point[0]} {point[1]}"


def sign(number: int) -> int:
    return (number > 0) - (number < 0)
