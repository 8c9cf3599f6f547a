"""Cases with a past worth drawing."""

from datetime import timedelta

from diagrams.diagram import Diagram
from diagrams.path import path_diagram
from tests.workflow.builders import ANA, LOU, Desk, a_context, a_desk, a_letter, closing, firing, lead_to
from workflow.permissions import permissions
from workflow.roles import Actor
from workflow.states import REMEDY_STATES, CaseState, Resolution, Trigger

BETWEEN_STEPS = timedelta(hours=1, minutes=47)

INVESTIGATING = CaseState.INVESTIGATING
OFFERED = CaseState.ADJUSTMENT_OFFERED
SCHEDULED = CaseState.CONSULTATION_SCHEDULED
COMPENSATED = CaseState.COMPENSATION_ISSUED
REFUNDED = CaseState.REFUNDED
CLOSED = CaseState.CLOSED

REOPENED = (OFFERED, INVESTIGATING, REFUNDED, CLOSED, INVESTIGATING)
THIRTY_STEPS = (  # the first one is that from opened to investigating
    *(OFFERED, INVESTIGATING, SCHEDULED, INVESTIGATING, COMPENSATED, CLOSED, INVESTIGATING) * 3,
    *(REFUNDED, INVESTIGATING, OFFERED, CLOSED, INVESTIGATING, REFUNDED, INVESTIGATING, CLOSED),
)


def a_fresh_case() -> Desk:
    desk = Desk()
    desk.open()
    return desk


def a_case_that_went(*states: CaseState) -> Desk:
    """Opened, taken up, and then led through these states."""
    desk = a_desk()
    for state in states:
        desk.now += BETWEEN_STEPS
        match desk.case.state, state:
            case CaseState.CLOSED, _:
                desk.do(ANA, firing(Trigger.REOPEN))
            case _, CaseState.INVESTIGATING:
                desk.do(ANA, firing(Trigger.RESUME))
            case before, CaseState.CLOSED if before in REMEDY_STATES:
                desk.do(ANA, a_letter())
                desk.do(ANA, closing(Resolution.REMEDY_ACCEPTED))
            case _:
                lead_to(state, desk)
    return desk


def drawn(desk: Desk, viewer: Actor = LOU) -> Diagram:
    """The path as this viewer sees it now."""
    return path_diagram(desk.histories["A"], permissions(desk.case, viewer, desk.now, a_context()))
