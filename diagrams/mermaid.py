"""A diagram as Mermaid: a `stateDiagram-v2`, for whatever renders Markdown."""

import json
import re

from diagrams.diagram import Diagram, Form, Standing
from diagrams.glyphs import LIGHT_HUES

# All that could end a label or begin markup, a directive or an entity; Mermaid reads `#35;` as the character 35.
SPECIAL = re.compile(r"[^\w .,:/()+-]", re.ASCII)

# Mermaid gives no style to a single arrow of a state diagram: what is possible next has a dashed border instead.
STYLES = {
    Standing.CURRENT: "stroke-width:4px,font-weight:bold",
    Standing.POSSIBLE: "stroke-dasharray:4 4",
    Standing.LATER: "stroke:#8c959f,color:#59636e",
    Standing.UNREACHED: "stroke:#8c959f,color:#59636e",
}


def as_mermaid(diagram: Diagram) -> str:
    direction = "LR" if diagram.form is Form.GRAPH else "TB"
    lines = (
        "---",
        f"title: {json.dumps(diagram.title)}",
        "---",
        "stateDiagram-v2",
        f"    direction {direction}",
        *(f"    classDef {state} fill:#fff,color:#1f2328,stroke:{hue}" for state, hue in LIGHT_HUES.items()),
        *(f"    classDef {standing} {style}" for standing, style in STYLES.items() if diagram.of(standing)),
        *(f'    state "{"<br/>".join(map(escaped, node.lines))}" as {node.id}' for node in diagram.nodes),
        *(f"    class {node.id} {node.state}" for node in diagram.nodes),
        *(f"    class {node.id} {node.standing}" for node in diagram.of(*STYLES)),
        *(f"    {edge.source.id} --> {edge.target.id}: {escaped(edge.text)}" for edge in diagram.edges),
    )
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    return SPECIAL.sub(lambda special: f"#{ord(special[0])};", text)
