"""Where the states of a lifecycle stand, and how its arrows run without crossing a word or a box.

The main line stands in one column. The remedies stand in a second, beside the state that leads to them, the hub, which
is as tall as all of them: so each remedy has its own level arrows there and back. Neighbours on the main line have
upright arrows. Every other way leaves to the right, and ways with the same trigger and target join in one rail.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from diagrams.diagram import Diagram, Edge, Node
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
    text_at,
    text_width,
    touch,
)
from workflow.states import REMEDY_STATES

MARGIN = 16
PAD = 12  # within a box
GLYPH = 24  # a glyph and the space after it
LINE = 17
ABOVE = 8  # a label, above its arrow
PITCH = 24  # between arrows at one box, so that a label fits between
HEIGHT = 44  # the least of a box
BESIDE = 16  # between boxes beside the hub
BELOW = 52  # between boxes of the main line
RAIL = 20  # between rails

Rail = tuple[str, str]
"""What the ways on a rail have in common: their label, and the id of their target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def middle(self) -> int:
        return self.top + self.height // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which nodes stand in which column, and which kind of way each edge takes."""

    spine: tuple[Node, ...]
    remedies: tuple[Node, ...]
    hub: Node
    level: dict[str, list[Edge]]  # by remedy
    upright: dict[tuple[str, str], list[Edge]]  # by upper and lower neighbour
    rails: dict[Rail, list[Edge]]

    def ports(self, node: Node) -> list[tuple[Rail, bool]]:
        """The rails that the node's right side meets; True where they arrive."""
        leaving = [(rail, False) for rail, edges in self.rails.items() if any(edge.source is node for edge in edges)]
        return leaving + [(rail, True) for rail in self.rails if rail[1] == node.id]


def draw_graph(diagram: Diagram) -> Drawing:
    plan = planned(diagram)
    boxes = placed(plan)
    # The labels of rails to a remedy stand between the remedies and the first rail.
    labels = [text_width(label) for label, target in plan.rails if target in plan.level]
    # So do the facts of those that leave one.
    facts = [text_width(edge.fact) for edges in plan.rails.values() for edge in edges if edge.source.id in plan.level]
    first = max(box.right for box in boxes.values()) + max(labels + facts, default=0) + RAIL
    return Drawing(
        width=first + RAIL * len(plan.rails),
        height=max(box.bottom for box in boxes.values()) + MARGIN,
        shapes=(
            *level_arrows(plan, boxes),
            *upright_arrows(plan, boxes),
            *rail_arrows(plan, boxes, first),
            *(drawn(node, boxes[node.id]) for node in diagram.nodes),
        ),
    )


def planned(diagram: Diagram) -> Plan:
    remedies = tuple(node for node in diagram.nodes if node.state in REMEDY_STATES)
    spine = tuple(node for node in diagram.nodes if node.state not in REMEDY_STATES)
    leads_to_remedies = [edge.source for edge in diagram.edges if edge.target in remedies]
    hub = max(spine, key=leads_to_remedies.count)
    plan = Plan(
        spine=spine,
        remedies=remedies,
        hub=hub,
        level={node.id: [] for node in remedies},
        upright={(upper.id, lower.id): [] for upper, lower in pairwise(spine)},
        rails={},
    )
    for edge in diagram.edges:
        source, target = edge.source.id, edge.target.id
        if edge.source is hub and edge.target in remedies:
            plan.level[target].append(edge)
        elif edge.target is hub and edge.source in remedies:
            plan.level[source].append(edge)
        elif (source, target) in plan.upright:
            plan.upright[source, target].append(edge)
        elif (target, source) in plan.upright:
            plan.upright[target, source].append(edge)
        else:
            plan.rails.setdefault((edge.label, target), []).append(edge)
    return plan


def placed(plan: Plan) -> dict[str, Box]:
    boxes: dict[str, Box] = {}
    widths = [len(edges) * (widest(edges) + 2 * PAD) for edges in plan.upright.values()]
    width = max((*widths, *map(width_of, plan.spine)))
    beside = {
        "left": MARGIN + width + 2 * PAD + HEAD + max(map(widest, plan.level.values())),
        "width": max(map(width_of, plan.remedies)),
        "height": max(
            max(height_of(node, len(plan.level[node.id])), height_of(node, len(plan.ports(node))))
            for node in plan.remedies
        ),
    }
    top = MARGIN
    for node in plan.spine:
        ports = len(plan.ports(node))
        height = height_of(node, ports)
        if node is plan.hub:
            for count, remedy in enumerate(plan.remedies):
                boxes[remedy.id] = Box(top=top + (beside["height"] + BESIDE) * count, **beside)
            # The hub's own rails leave below the last remedy.
            height = boxes[plan.remedies[-1].id].bottom - top + (BESIDE + PITCH * ports if ports else 0)
        boxes[node.id] = Box(left=MARGIN, top=top, width=width, height=height)
        top += height + BELOW
    return boxes


def level_arrows(plan: Plan, boxes: dict[str, Box]) -> Iterator[str]:
    hub = boxes[plan.hub.id]
    for remedy, edges in plan.level.items():
        box = boxes[remedy]
        for y, edge in zip(spread(box.top, box.height, len(edges)), edges, strict=True):
            there = ((hub.right, y), (box.left, y))
            middle = ((hub.right + box.left) // 2, y - ABOVE)
            yield edge_group(
                edge,
                arrow(there if edge.source is plan.hub else there[::-1]),
                text_at(middle, edge.label, "cw-label", anchor="middle", remark=edge.fact),
            )


def upright_arrows(plan: Plan, boxes: dict[str, Box]) -> Iterator[str]:
    for (upper, lower), edges in plan.upright.items():
        above, below = boxes[upper], boxes[lower]
        for x, edge in zip(spread(above.left, above.width, len(edges)), edges, strict=True):
            down = ((x, above.bottom), (x, below.top))
            beside = (x + HEAD, (above.bottom + below.top) // 2)
            yield edge_group(
                edge,
                arrow(down if edge.source.id == upper else down[::-1]),
                text_at(beside, edge.label, "cw-label", remark=edge.fact),
            )


def rail_arrows(plan: Plan, boxes: dict[str, Box], first: int) -> Iterator[str]:
    ports = dict(rail_ports(plan, boxes))
    for count, (rail, edges) in enumerate(plan.rails.items()):
        label, target = rail
        x = first + RAIL * count
        right, y = ports[target, rail, True]
        starts = [ports[edge.source.id, rail, False] for edge in edges]
        routes = [(start, (x, start[1]), (x, y), (right, y)) for start in starts]
        yield arrow(*routes)
        yield text_at((right + 2 * HEAD, y - ABOVE), label, "cw-label")
        for edge, route, (x, y) in zip(edges, routes, starts, strict=True):
            fact = [text_at((x + 2 * HEAD, y - ABOVE), edge.fact, "cw-remark")] if edge.fact else []
            yield edge_group(edge, touch(route), *fact)


def rail_ports(plan: Plan, boxes: dict[str, Box]) -> Iterator[tuple[tuple[str, Rail, bool], Point]]:
    """Where the rails meet each box, all at different heights."""
    for node in (*plan.spine, *plan.remedies):
        box, ports = boxes[node.id], plan.ports(node)
        length = PITCH * len(ports) if node is plan.hub else box.height
        for y, (rail, arrives) in zip(spread(box.bottom - length, length, len(ports)), ports, strict=True):
            yield (node.id, rail, arrives), (box.right, y)


def drawn(node: Node, box: Box) -> str:
    names, left = node.name.split(), box.left + PAD + GLYPH
    first = box.middle - LINE * (len(names) + len(node.facts) - 1) // 2
    return node_group(
        node,
        f'<rect class="cw-box" x="{box.left}" y="{box.top}" width="{box.width}" height="{box.height}" rx="8"/>',
        glyph_at((box.left + PAD + GLYPH // 3, box.middle), node),
        *(text_at((left, first + LINE * count), name, "cw-name") for count, name in enumerate(names)),
        *(text_at((left, first + LINE * count), fact, "cw-label") for count, fact in enumerate(node.facts, len(names))),
    )


def spread(start: int, length: int, count: int) -> list[int]:
    """So many places, evenly along a side."""
    return [start + length * (2 * one + 1) // (2 * count) for one in range(count)]


def width_of(node: Node) -> int:
    names = (text_width(name, NAME) for name in node.name.split())
    return 2 * PAD + GLYPH + max(*names, *map(text_width, node.facts), 0)


def height_of(node: Node, arrows: int) -> int:
    return max(HEIGHT, PITCH * arrows, LINE * (len(node.name.split()) + len(node.facts) + 1))


def widest(edges: Iterable[Edge]) -> int:
    return max(
        (text_width(edge.label) + (AFTER + text_width(edge.fact) if edge.fact else 0) for edge in edges), default=0
    )
