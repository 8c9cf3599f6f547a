"""What a recorded event sets in motion outside the desk."""

from enum import StrEnum

from workflow.events import EventData, MessageSent, Opened
from workflow.states import Trigger


class EffectKind(StrEnum):
    ACKNOWLEDGE = "acknowledge"  # tell the client that their inquiry has arrived
    LETTER = "letter"  # bring the client a person's message
    NOTIFY = "notify"  # tell the systems that follow the desk


def effects_of(data: EventData, trigger: Trigger | None) -> tuple[EffectKind, ...]:
    if trigger is not None:
        return (EffectKind.NOTIFY,)
    if isinstance(data, Opened):
        return (EffectKind.ACKNOWLEDGE, EffectKind.NOTIFY)
    if isinstance(data, MessageSent):
        return (EffectKind.LETTER,)
    return ()
