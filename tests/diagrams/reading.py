"""Reads pictures back: what an SVG shows, and how much room its words, boxes and lines take."""

import re
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Self
from xml.etree import ElementTree as ET

from diagrams.shapes import LABEL, NAME, text_width

SVG = "{http://www.w3.org/2000/svg}"
POINT = re.compile(r"(-?\d+) (-?\d+)")


@dataclass(frozen=True)
class Area:
    what: str
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Self) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


class Picture:
    def __init__(self, svg: str) -> None:
        self.root = ET.fromstring(svg)  # noqa: S314 - our own text

    def by_class(self, name: str) -> list[ET.Element]:
        return [one for one in self.root.iter() if name in one.get("class", "").split()]

    @property
    def nodes(self) -> list[tuple[str, str]]:
        """Each node's id, and what is said of it."""
        return [(one.attrib["data-node"], said(one)) for one in self.by_class("cw-node")]

    @property
    def edges(self) -> list[tuple[str, str, str]]:
        return [
            (one.attrib["data-source"], one.attrib["data-target"], one.attrib["data-label"])
            for one in self.by_class("cw-edge")
        ]

    @property
    def texts(self) -> list[str]:
        return ["".join(one.itertext()) for one in self.root.iter(f"{SVG}text")]

    @property
    def canvas(self) -> Area:
        return Area("canvas", 0, 0, float(self.root.attrib["width"]), float(self.root.attrib["height"]))

    @property
    def labels(self) -> list[Area]:
        return [area_of_text(one) for one in self.root.iter(f"{SVG}text")]

    @property
    def boxes(self) -> list[Area]:
        """The boxes or, in a timeline, the glyphs of all nodes."""
        boxes = [
            Area(f"box at {left} {top}", left, top, left + width, top + height)
            for one in self.by_class("cw-box")
            for left, top, width, height in [[float(one.attrib[name]) for name in ("x", "y", "width", "height")]]
        ]
        glyphs = [
            Area(f"glyph at {x} {y}", x - r, y - r, x + r, y + r)
            for one in self.by_class("cw-spot")
            for x, y, r in [[float(one.attrib[name]) for name in ("cx", "cy", "r")]]
        ]
        return boxes + glyphs

    @property
    def strokes(self) -> list[Area]:
        """All straight pieces of all arrows, thin as they are."""
        return [
            Area(f"line {x} {y} to {to_x} {to_y}", min(x, to_x), min(y, to_y), max(x, to_x), max(y, to_y))
            for one in self.by_class("cw-line")
            for route in one.attrib["d"].split("M")[1:]
            for (x, y), (to_x, to_y) in pairwise([(int(x), int(y)) for x, y in POINT.findall(route)])
        ]


def said(element: ET.Element) -> str:
    title = element.find(f"{SVG}title")
    assert title is not None
    assert title.text is not None
    return title.text


def area_of_text(element: ET.Element) -> Area:
    text = "".join(element.itertext())
    size = NAME if element.attrib["class"] == "cw-name" else LABEL
    x, y, width = float(element.attrib["x"]), float(element.attrib["y"]), text_width(text, size)
    left = x - {"start": 0, "middle": width / 2, "end": width}[element.attrib["text-anchor"]]
    return Area(text, left, y - size * 0.8, left + width, y + size * 0.25)


def collisions(picture: Picture) -> list[tuple[str, str]]:
    """What stands in another's way: labels, boxes, arrows through either, and what leaves the canvas."""
    free = [label for label in picture.labels if not label.what.isdigit()]  # the number of a step is on its arrow
    inner = [Area(box.what, box.left + 1, box.top + 1, box.right - 1, box.bottom - 1) for box in picture.boxes]
    outside = [
        (one.what, "the edge")
        for one in (*picture.labels, *picture.boxes, *picture.strokes)
        if one.left < 0 or one.top < 0 or one.right > picture.canvas.right or one.bottom > picture.canvas.bottom
    ]
    return outside + [
        (one.what, other.what)
        for one, other in (
            *combinations(picture.labels, 2),
            *combinations(picture.boxes, 2),
            *((stroke, thing) for stroke in picture.strokes for thing in (*free, *inner)),
        )
        if one.meets(other)
    ]
