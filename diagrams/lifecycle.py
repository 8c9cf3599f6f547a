"""The lifecycle as a picture: every state, and every transition of the table."""

from collections.abc import Sequence

from diagrams.diagram import Diagram, Edge, Form, Node, Standing
from workflow.guards import words
from workflow.lifecycle import TRANSITIONS, Transition
from workflow.states import CaseState


def lifecycle_diagram(transitions: Sequence[Transition] = TRANSITIONS) -> Diagram:
    nodes = {state: Node(id=state, state=state, standing=Standing.DEFINED) for state in CaseState}
    return Diagram(
        form=Form.GRAPH,
        title="The lifecycle of a case",
        nodes=tuple(nodes.values()),
        edges=tuple(
            Edge(source=nodes[row.source], target=nodes[row.target], label=words(row.trigger)) for row in transitions
        ),
    )
