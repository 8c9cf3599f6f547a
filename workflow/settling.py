"""What becomes of effects: recorded by whoever carries them out, or ordered by a person."""

from typing import Any

import msgspec

from workflow.commands import Command
from workflow.deciding import forbid_unless
from workflow.effects import EffectKind
from workflow.errors import CaseworkError, GuardRefused, Refusal
from workflow.events import Draft, EffectOutcome, EffectRetried, EffectSettled
from workflow.roles import ADMINS, PAYERS, WORKERS, Actor, Role, in_order

SETTLES = frozenset({Role.SYSTEM})

# A person who may bring an effect about by other means may have it tried again, or called off.
HANDLERS: dict[EffectKind, frozenset[Role]] = {
    EffectKind.ACKNOWLEDGE: WORKERS | ADMINS,
    EffectKind.LETTER: WORKERS | ADMINS,
    EffectKind.INVITE: WORKERS | ADMINS,
    EffectKind.PAY: PAYERS,
    EffectKind.WEBHOOK: ADMINS,
}

ANY_HANDLER = frozenset().union(*HANDLERS.values())

WAITING = "waiting"


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """An effect as it stands. `status` is `waiting` or an EffectOutcome; `case` the id of the case, if it has one."""

    id: int
    chain: str
    seq: int
    kind: EffectKind
    target: str
    case: str | None
    status: str
    fence: int


class ClaimLost(CaseworkError):
    """Somebody else has claimed the effect since, or settled it."""


class SettleEffect(Command, frozen=True, kw_only=True):
    """By whoever holds the claim `fence`."""

    effect: int
    fence: int
    outcome: EffectOutcome
    reference: str = ""
    reason: str = ""


class RetryEffect(Command, frozen=True, kw_only=True):
    effect: int
    reason: str


class CancelEffect(Command, frozen=True, kw_only=True):
    effect: int
    reason: str


EffectCommand = SettleEffect | RetryEffect | CancelEffect


def decide_effect(
    effect: Pending, command: EffectCommand, actor: Actor, carried_out: frozenset[EffectKind]
) -> tuple[Draft, Pending]:
    """The event, and the effect as it stands then; `carried_out` are the kinds that the desk has a worker do.

    Raises Forbidden, GuardRefused or ClaimLost.
    """
    roles = SETTLES if isinstance(command, SettleEffect) else HANDLERS[effect.kind]
    forbid_unless(actor, roles, command)
    place: dict[str, Any] = {"chain": effect.chain, "seq": effect.seq, "kind": effect.kind, "target": effect.target}
    match command:
        case SettleEffect():
            if effect.status != WAITING or effect.fence != command.fence:
                raise ClaimLost("the effect is in other hands")
            settled = EffectSettled(
                **place,
                case=effect.case,
                outcome=command.outcome,
                attempts=effect.fence,
                reference=command.reference,
                reason=command.reason,
            )
            return Draft(data=settled), msgspec.structs.replace(effect, status=command.outcome)
        case RetryEffect():
            if effect.status == EffectOutcome.DONE:
                text = "the other side has it already"
                raise GuardRefused(Refusal(code="effect_is_open", text=text, who=in_order(roles)))
            draft = Draft(data=EffectRetried(**place, case=effect.case), personal={"reason": command.reason})
            return draft, msgspec.structs.replace(effect, status=WAITING, fence=effect.fence + 1)
        case CancelEffect():
            if effect.status not in {WAITING, EffectOutcome.DEAD}:
                text = "it has been settled already"
                raise GuardRefused(Refusal(code="effect_is_open", text=text, who=in_order(roles)))
            # Where nobody asks a provider any more, no answer of it will ever end the payout.
            is_asked = effect.status == WAITING and effect.fence and effect.kind in carried_out
            if effect.kind is EffectKind.PAY and is_asked:
                text = "the payment provider may have it already; it can be called off once that has been given up"
                raise GuardRefused(Refusal(code="payment_is_not_with_the_provider", text=text, who=in_order(roles)))
            cancelled = EffectSettled(**place, case=effect.case, outcome=EffectOutcome.CANCELLED, attempts=effect.fence)
            draft = Draft(data=cancelled, personal={"reason": command.reason})
            return draft, msgspec.structs.replace(effect, status=EffectOutcome.CANCELLED, fence=effect.fence + 1)
