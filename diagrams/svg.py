"""A diagram as SVG: one self-contained text that reads on white, on black and on paper."""

from diagrams.diagram import Diagram, Form
from diagrams.glyphs import DARK_HUES, LIGHT_HUES
from diagrams.graph import draw_graph
from diagrams.shapes import LABEL, NAME, xml
from diagrams.timeline import draw_timeline
from workflow.states import CaseState

DRAW = {Form.GRAPH: draw_graph, Form.TIMELINE: draw_timeline}

SHAPE = f"""
.cw{{font:{NAME}px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}}
.cw{{font-variant-numeric:tabular-nums}}
.cw-label,.cw-number,.cw-remark{{font-size:{LABEL}px}}
.cw-name{{font-weight:500}}
.cw-current .cw-name,.cw-number,.cw-heading{{font-weight:600}}
.cw-line,.cw-stroke,.cw-tick,.cw-touch{{fill:none;stroke-width:1.5;stroke-linecap:round;stroke-linejoin:round}}
.cw-stroke,.cw-box,.cw-current .cw-spot,.cw-possible .cw-spot,.cw-later .cw-spot{{stroke:currentColor;stroke-width:1.5}}
.cw-solid,.cw-band,.cw-box{{fill:currentColor}}
.cw-box{{fill-opacity:.07}}
.cw-band{{fill-opacity:.1}}
.cw-lane{{stroke-opacity:.2}}
.cw-touch{{stroke-width:12;pointer-events:stroke}}
.cw-number{{paint-order:stroke;stroke-width:5;stroke-linejoin:round}}
.cw-dashed .cw-line{{stroke-dasharray:4 3;stroke-linecap:butt}}
.cw-possible .cw-spot,.cw-later .cw-spot{{stroke-dasharray:3 2.76}}
.cw-later .cw-line{{stroke-dasharray:2 4}}
"""


def as_svg(diagram: Diagram, *, styled: bool = True) -> str:
    """Classes begin with `cw-` and there are no ids, so that several pictures can stand in one page.

    A page that may hold no style of its own has it from a file, which is `STYLE`.
    """
    drawing = DRAW[diagram.form](diagram)
    size = f'width="{drawing.width}" height="{drawing.height}"'
    view = f'viewBox="0 0 {drawing.width} {drawing.height}"'
    title = xml(diagram.title)
    # What is in an image leads nowhere.
    links = [*(node.link for node in diagram.nodes), *(edge.link for edge in diagram.edges)]
    role = "group" if any(links) else "img"
    lines = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} class="cw" role="{role}" aria-label="{title}">',
        f"<title>{title}</title>",
        f"<desc>{xml(' '.join(diagram.sentences()))}</desc>",
        *((f"<style>{STYLE}</style>",) if styled else ()),
        f'<rect class="cw-paper" {size} rx="8"/>',
        *drawing.shapes,
        "</svg>",
    )
    return "\n".join(lines) + "\n"


def scheme(hues: dict[CaseState, str], *, paper: str, ink: str, quiet: str) -> str:
    """The rules of one colour scheme; `quiet` is for what is not a state that the case has been in."""
    rules = (
        f".cw-paper,.cw-spot{{fill:{paper}}}",
        f".cw-tick,.cw-number{{stroke:{paper}}}",
        f".cw-name,.cw-number{{fill:{ink}}}",
        f".cw-label,.cw-remark,.cw-head,.cw-possible .cw-name,.cw-unreached .cw-name{{fill:{quiet}}}",
        f".cw-later .cw-name,.cw-later .cw-number{{fill:{quiet}}}",
        f".cw-line,.cw-lane{{stroke:{quiet}}}",
        *(f".cw-{state}{{color:{hue}}}" for state, hue in hues.items()),
        f".cw-unreached,.cw-node.cw-later{{color:{quiet}}}",
    )
    return "\n".join(rules)


LIGHT = scheme(LIGHT_HUES, paper="#ffffff", ink="#1f2328", quiet="#59636e")
DARK = scheme(DARK_HUES, paper="#0f141a", ink="#e8ebef", quiet="#9aa5b1")
PRINT = scheme(LIGHT_HUES, paper="#ffffff", ink="#000000", quiet="#333333")
STYLE = f"{SHAPE}{LIGHT}\n@media (prefers-color-scheme: dark){{\n{DARK}\n}}\n@media print{{\n{PRINT}\n}}\n"
