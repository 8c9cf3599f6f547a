"""A diagram as DOT, for Graphviz."""

from diagrams.diagram import Diagram, Edge, Form, Node, Standing
from diagrams.glyphs import LIGHT_HUES

STYLES = {
    Standing.CURRENT: {"penwidth": "3"},
    Standing.POSSIBLE: {"style": "rounded,dashed"},
    Standing.LATER: {"color": "#8c959f", "fontcolor": "#59636e"},
    Standing.UNREACHED: {"color": "#8c959f", "fontcolor": "#59636e"},
}


def as_dot(diagram: Diagram) -> str:
    title = quoted(diagram.title)
    direction = "LR" if diagram.form is Form.GRAPH else "TB"
    lines = (
        f"digraph {title} {{",
        f'  graph [label={title}, labelloc=t, rankdir={direction}, fontname="sans-serif"]',
        '  node [shape=box, style=rounded, fontname="sans-serif"]',
        '  edge [color="#59636e", fontname="sans-serif", fontsize=11]',
        *(f"  {quoted(node.id)} {attributes(node_look(node))}" for node in diagram.nodes),
        *(
            f"  {quoted(edge.source.id)} -> {quoted(edge.target.id)} {attributes(edge_look(edge))}"
            for edge in diagram.edges
        ),
        "}",
    )
    return "\n".join(lines) + "\n"


def node_look(node: Node) -> dict[str, str]:
    return {"label": "\n".join(node.lines), "color": LIGHT_HUES[node.state]} | STYLES.get(node.standing, {})


def edge_look(edge: Edge) -> dict[str, str]:
    return {"label": edge.text} | ({"style": "dashed"} if edge.is_possible else {})


def attributes(look: dict[str, str]) -> str:
    return f"[{', '.join(f'{name}={quoted(value)}' for name, value in look.items())}]"


def quoted(text: str) -> str:
    """A DOT string: Graphviz reads backslashes and HTML entities in it, and a NUL would end it."""
    for plain, written in (("\0", "\ufffd"), ("&", "&amp;"), ("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        text = text.replace(plain, written)
    return f'"{text}"'
