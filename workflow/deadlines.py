"""What is due on a case, and when: derived from its events and the settings they recorded."""

from datetime import datetime
from enum import StrEnum

import msgspec

from workflow.cases import Case


class DeadlineKind(StrEnum):
    FIRST_ANSWER = "first_answer"  # by a person
    NEXT_UPDATE = "next_update"  # to the client
    OFFER_ANSWER = "offer_answer"  # by the client


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """`paused`: it stands still while the client is waited for, and moves by as long as that takes."""

    kind: DeadlineKind
    due_at: datetime
    paused: bool


def deadlines(case: Case) -> tuple[Deadline, ...]:
    """Soonest first."""
    waiting = case.waiting_since is not None
    dues = (
        (DeadlineKind.FIRST_ANSWER, case.first_answer_due, waiting),
        (DeadlineKind.NEXT_UPDATE, case.update_due, waiting),
        (DeadlineKind.OFFER_ANSWER, case.offer_due, False),
    )
    found = (Deadline(kind=kind, due_at=due, paused=paused) for kind, due, paused in dues if due is not None)
    return tuple(sorted(found, key=lambda one: one.due_at))


def next_due(case: Case) -> datetime | None:
    """The soonest deadline that is running: the first of `deadlines` that is not paused, found without making them."""
    if case.waiting_since is not None:
        return case.offer_due
    dues = (case.first_answer_due, case.update_due, case.offer_due)
    return min((due for due in dues if due is not None), default=None)
