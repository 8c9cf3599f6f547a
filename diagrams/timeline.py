"""How one case's path is drawn: a lane for each state, a row for each visit, one arrow from row to row.

No two steps share a row, so no arrow ever meets another, however long the history and however often it returns.
"""

from collections.abc import Iterator

from diagrams.diagram import REMARKS, Diagram, Edge, Node, Standing
from diagrams.shapes import (
    AFTER,
    HEAD,
    NAME,
    Drawing,
    Point,
    arrow,
    edge_group,
    glyph_at,
    node_group,
    sign,
    text_at,
    text_width,
    touch,
)
from workflow.states import CaseState

MARGIN = 16
LANE = 26
ROW = 48
LOW_ROW = 30  # where no step stands between a row and the one above
BAND = 28  # behind the current row
REACH = 12  # from a glyph's middle to where an arrow touches it
SPACE = 18  # between columns

LANES = {state: MARGIN + REACH + LANE * count for count, state in enumerate(CaseState)}
TEXT = max(LANES.values()) + REACH + SPACE

Places = dict[str, Point]


def draw_timeline(diagram: Diagram) -> Drawing:
    places, headings = placed(diagram)
    steps = [edge for edge in diagram.edges if not edge.is_possible]
    ways = [edge for edge in diagram.edges if edge.is_possible]
    notes = {node.id: node.at for node in diagram.nodes} | {way.target.id: way.label for way in ways}
    rows = [name_width(node) + SPACE + text_width(notes[node.id]) for node in diagram.nodes]
    right = TEXT + max((*rows, *(text_width(step.label) for step in steps)))
    bottom = max(y for _, y in places.values()) + REACH + MARGIN // 2
    return Drawing(
        width=right + MARGIN,
        height=bottom + MARGIN // 2,
        shapes=(
            *(f'<path class="cw-lane" d="M{x} {MARGIN // 2}V{bottom}"/>' for x in LANES.values()),
            *(text_at((TEXT, y), REMARKS[standing], "cw-label cw-heading") for standing, y in headings.items()),
            *ways_shapes(ways, places, right),
            *(edge_group(step, *step_shapes(step, places)) for step in steps),
            *(node_group(node, *node_shapes(node, places[node.id], right)) for node in diagram.nodes),
        ),
    )


def placed(diagram: Diagram) -> tuple[Places, dict[Standing, int]]:
    """The middle of each node: visits first, then, each under its heading, what may follow and what never was."""
    places: Places = {}
    headings: dict[Standing, int] = {}
    y = MARGIN + REACH
    for node in diagram.of(Standing.VISITED, Standing.CURRENT, Standing.LATER):
        places[node.id] = (LANES[node.state], y)
        y += ROW
    y -= ROW - LOW_ROW
    for standing in (Standing.POSSIBLE, Standing.UNREACHED):
        if nodes := diagram.of(standing):
            headings[standing] = y
            y += LOW_ROW
        for node in nodes:
            places[node.id] = (LANES[node.state], y)
            y += LOW_ROW
    return places, headings


def node_shapes(node: Node, place: Point, right: int) -> Iterator[str]:
    x, y = place
    is_current = node.standing is Standing.CURRENT
    if is_current:
        yield (f'<rect class="cw-band" x="{MARGIN // 2}" y="{y - BAND // 2}" width="{right}" height="{BAND}" rx="8"/>')
    yield f'<circle class="cw-spot" cx="{x}" cy="{y}" r="{REACH - 1}"/>'
    yield glyph_at(place, node)
    yield text_at((TEXT, y), node.name, "cw-name", remark=node.remark if is_current else "")
    if node.at:
        yield text_at((right, y), node.at, "cw-label", anchor="end")


def step_shapes(step: Edge, places: Places) -> tuple[str, ...]:
    (x, y), (to_x, to_y) = places[step.source.id], places[step.target.id]
    bend = (y + to_y - HEAD) // 2
    return (
        arrow(((x, y + REACH), (x, bend), (to_x, bend), (to_x, to_y - REACH))),
        text_at(((x + to_x) // 2, bend), str(step.number), "cw-number", anchor="middle"),
        text_at((TEXT, bend), step.label, "cw-label"),
    )


def ways_shapes(ways: list[Edge], places: Places, right: int) -> Iterator[str]:
    """One trunk down from where the case is, and a branch into each row."""
    routes: list[tuple[Point, ...]] = []
    for way in ways:
        (x, y), (to_x, to_y) = places[way.source.id], places[way.target.id]
        start, tip = (x, y + REACH), (to_x + REACH * sign(x - to_x), to_y)
        route = (start, (x, to_y - REACH)) if to_x == x else (start, (x, to_y), tip)
        routes.append(route)
        yield edge_group(way, touch(route), text_at((right, to_y), way.label, "cw-label", anchor="end"))
    if routes:
        yield f'<g class="cw-dashed">{arrow(*routes)}</g>'


def name_width(node: Node) -> int:
    if node.standing is not Standing.CURRENT:
        return text_width(node.name, NAME)
    return text_width(f"{node.name} {node.remark}", NAME) * 11 // 10 + AFTER  # semibold is wider
