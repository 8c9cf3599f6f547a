"""What a picture says, whatever it is drawn as: the one description that Mermaid, DOT and SVG all start from."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from workflow.guards import words
from workflow.states import CaseState


class Form(StrEnum):
    GRAPH = "graph"  # every state once, and all the ways between them
    TIMELINE = "timeline"  # every visit to a state once, oldest first


class Standing(StrEnum):
    """What a state is to the picture."""

    DEFINED = "defined"  # a state of the lifecycle, of no particular case
    VISITED = "visited"
    CURRENT = "current"
    POSSIBLE = "possible"
    LATER = "later"  # visited after the moment that is shown
    UNREACHED = "unreached"


# Colour alone says nothing: what sets a node apart is also said in words.
REMARKS = {
    Standing.CURRENT: "now",
    Standing.POSSIBLE: "possible next",
    Standing.LATER: "later",
    Standing.UNREACHED: "never reached",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A state, or one visit to it; `at` is when the visit began, as it is shown.

    `facts` are what else is told of it; `link` is where that leads, in a picture within a page.
    """

    id: str  # made of letters, digits and underscores
    state: CaseState
    standing: Standing
    at: str = ""
    facts: tuple[str, ...] = ()
    link: str = ""

    @property
    def name(self) -> str:
        return words(self.state).capitalize()

    @property
    def remark(self) -> str:
        return REMARKS.get(self.standing, "")

    @property
    def lines(self) -> tuple[str, ...]:
        """All there is to say of the node, line by line."""
        return tuple(line for line in (self.name, self.at, self.remark, *self.facts) if line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A way from one node to another. The steps that a case took are numbered from 1.

    `fact` and `link` are as of nodes.
    """

    source: Node
    target: Node
    label: str
    number: int | None = None
    fact: str = ""
    link: str = ""

    @property
    def is_possible(self) -> bool:
        """Not taken yet, but open to be taken: drawn dashed."""
        return self.target.standing is Standing.POSSIBLE

    @property
    def is_later(self) -> bool:
        return self.target.standing is Standing.LATER

    @property
    def text(self) -> str:
        text = self.label if self.number is None else f"{self.number} {self.label}"
        return f"{text}, {self.fact}" if self.fact else text

    @property
    def sentence(self) -> str:
        return f"{self.source.name}: {self.text} leads to {self.target.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    form: Form
    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def of(self, *standings: Standing) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.standing in standings)

    def sentences(self) -> Iterator[str]:
        """The whole picture, for those who hear it instead of seeing it."""
        yield from (f"{', '.join(node.lines)}." for node in self.nodes)
        yield from (f"{edge.sentence}." for edge in self.edges)
