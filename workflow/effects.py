"""What a recorded event sets in motion outside the desk."""

import hashlib
from enum import StrEnum

from workflow.events import (
    ConsultationMoved,
    ConsultationScheduled,
    EventData,
    MessageSent,
    Opened,
    PayoutBegun,
    Recorded,
    Reopened,
    SlotsProposed,
)
from workflow.states import CaseState


class EffectKind(StrEnum):
    ACKNOWLEDGE = "acknowledge"  # tell the client that their inquiry has arrived
    LETTER = "letter"  # bring the client what a person tells them: a message, or times to pick from
    INVITE = "invite"  # put a consultation into calendars, move it there, or take it out
    PAY = "pay"  # ask the payment provider for a refund
    WEBHOOK = "webhook"  # tell a system that follows the desk


# What leaves as mail, with texts of the client: in one order for each case, and never once those are erased.
LETTERS = frozenset({EffectKind.ACKNOWLEDGE, EffectKind.LETTER, EffectKind.INVITE})

CLIENT, HOST = "client", "host"  # whom an invitation is for

BY_EVENT: dict[type[EventData], tuple[EffectKind, ...]] = {
    MessageSent: (EffectKind.LETTER,),
    SlotsProposed: (EffectKind.LETTER,),
    ConsultationScheduled: (EffectKind.INVITE,),
    ConsultationMoved: (EffectKind.INVITE,),
    Reopened: (EffectKind.INVITE,),  # a consultation that a closed case had accepted is not held any more
    PayoutBegun: (EffectKind.PAY,),
}


def effects_of(recorded: Recorded) -> tuple[EffectKind, ...]:
    """Without the webhooks, which are a matter of who listens."""
    data = recorded.data
    if isinstance(data, Opened):
        return () if data.silent else (EffectKind.ACKNOWLEDGE,)
    if is_called_off(recorded):
        return (EffectKind.INVITE,)
    return BY_EVENT.get(type(data), ())


def is_called_off(recorded: Recorded) -> bool:
    """Whether a booked consultation ends with this event."""
    event = recorded.event
    return event.state_before == CaseState.CONSULTATION_SCHEDULED and event.state_after not in {
        None,
        CaseState.CONSULTATION_SCHEDULED,
    }


def targets_of(kind: EffectKind) -> tuple[str, ...]:
    """Each is an effect of its own: what fails for one is tried again for that one alone."""
    return (CLIENT, HOST) if kind is EffectKind.INVITE else ("",)


def lane_of(kind: EffectKind, chain: str, target: str = "") -> str:
    """What happens in order: the mails of a case to each recipient, its payments, what one system hears of it."""
    if kind in LETTERS:
        return f"mail:{HOST}:{chain}" if target == HOST else f"mail:{chain}"
    return f"{kind}:{target}:{chain}" if target else f"{kind}:{chain}"


def letter_name(mail_tag: str, event_hash: str, kind: EffectKind) -> str:
    """The left part of a letter's Message-ID: the same at every attempt, and only a reader of the letter knows it.

    The hash alone would not do, since a log may be published.
    """
    return f"c.{hashlib.sha256(f'{mail_tag}/{event_hash}/{kind}'.encode()).hexdigest()[:32]}"
