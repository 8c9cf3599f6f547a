"""Which letters a case's record supports, and on which recorded event each of them rests.

A letter is only ever drafted from a `Basis`: where the record holds none for its kind, there is nothing to be said.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from workflow import events as e
from workflow.cases import Case
from workflow.commands import Basis
from workflow.errors import Refusal
from workflow.guards import Context, GuardContext, judge_or_none
from workflow.policy import Refund
from workflow.roles import WORKERS, in_order
from workflow.states import CaseState, LetterKind, Resolution

# What changes the facts that the policy decides on.
FACTS = (
    e.Opened,
    e.PurchaseChanged,
    e.GroundRecorded,
    e.GroundVerified,
    e.Recategorized,
    e.RequestedAtCorrected,
)

# The last event of these is what a letter of the kind rests on.
RESTS_ON: dict[LetterKind, tuple[type[e.EventData], ...]] = {
    LetterKind.ADJUSTMENT: (e.AdjustmentOffered,),
    LetterKind.CONSULTATION: (e.ConsultationScheduled,),
    LetterKind.COMPENSATION: (e.CompensationIssued,),
    LetterKind.REFUND_FULL: (e.Refunded,),
    LetterKind.REFUND_PART: (e.Refunded,),
    LetterKind.NO_REFUND: FACTS,
    LetterKind.CLOSING: (e.Closed,),
}


def bases(case: Case, context: Context, now: datetime) -> dict[LetterKind, Basis]:
    """What can be written about now, by kind."""
    return {kind: basis for kind in LetterKind if (basis := basis_of(kind, case, context, now)) is not None}


def basis_of(kind: LetterKind, case: Case, context: Context, now: datetime) -> Basis | None:
    """What a letter of this kind states; None where that is not recorded, or not so any more."""
    match kind:
        case LetterKind.ADJUSTMENT:
            return offered(case, now)
        case LetterKind.CONSULTATION:
            return booked(case, now)
        case LetterKind.COMPENSATION:
            return granted(case)
        case LetterKind.REFUND_FULL | LetterKind.REFUND_PART:
            paid_back = refunded(case)
            return paid_back if paid_back is not None and paid_back.kind is kind else None
        case LetterKind.NO_REFUND:
            return nothing_due(case, context)
        case LetterKind.CLOSING:
            return closed(case, context, now)


def rests_on(kind: LetterKind, history: Sequence[e.Recorded]) -> int | None:
    """The seq of the event that a letter of this kind rests on."""
    return next((one.event.seq for one in reversed(history) if isinstance(one.data, RESTS_ON[kind])), None)


def letter_states_what_is_recorded(ctx: GuardContext) -> Refusal | None:
    """What it was drafted from is still what the record says."""
    letter = ctx.letter
    if letter is None:
        return None
    basis = basis_of(letter.kind, ctx.case, ctx.context, ctx.now)
    if basis is not None and basis == letter.states:
        return None
    text = (
        "nothing is recorded that such a letter could state"
        if basis is None
        else "something was recorded since the letter was drafted that changes what it has to say; draft it anew"
    )
    return Refusal(code="letter_states_what_is_recorded", text=text, clause="P8", who=in_order(WORKERS))


def offered(case: Case, now: datetime) -> Basis | None:
    """While it can be answered."""
    offer = case.open_offer
    if offer is None or (case.offer_due is not None and now > case.offer_due):
        return None
    return Basis(kind=LetterKind.ADJUSTMENT, remedy=offer)


def booked(case: Case, now: datetime) -> Basis | None:
    """Until it begins."""
    if case.state is not CaseState.CONSULTATION_SCHEDULED:
        return None
    last = case.remedies[-1]
    return Basis(kind=LetterKind.CONSULTATION, remedy=last) if last.starts_at and now < last.starts_at else None


def granted(case: Case) -> Basis | None:
    if case.state is not CaseState.COMPENSATION_ISSUED:
        return None
    last = case.remedies[-1]
    return Basis(kind=LetterKind.COMPENSATION, remedy=last, proposal=case.proposal(last.proposal))


def refunded(case: Case) -> Basis | None:
    """In full, if it gave back all that was left of the payment, and all of that is back."""
    if case.state is not CaseState.REFUNDED or case.purchase is None:
        return None
    last, paid = case.remedies[-1], case.purchase.paid
    proposal = case.proposal(last.proposal)
    if proposal is None or proposal.judgement is None:
        return None
    before = proposal.judgement.facts.refunded
    left = paid.amount_minor - (before.amount_minor if before else 0)
    is_all = proposal.amount.amount_minor == left and case.purchase.refunded_minor == paid.amount_minor
    kind = LetterKind.REFUND_FULL if is_all else LetterKind.REFUND_PART
    return Basis(kind=kind, remedy=last, proposal=proposal, paid=paid)


def nothing_due(case: Case, context: Context) -> Basis | None:
    """Decided on facts that were checked, once every claim has been examined."""
    if case.state is not CaseState.INVESTIGATING or case.payout_under_way is not None:
        return None
    if case.purchase is not None and not case.purchase.checked:
        return None
    if any(ground.verified_by is None for ground in case.grounds):
        return None
    decision = judge_or_none(case, context)
    if decision is None or decision.refund is not Refund.NONE:
        return None
    return Basis(kind=LetterKind.NO_REFUND, decision=decision, facts=case.facts)


def closed(case: Case, context: Context, now: datetime) -> Basis | None:
    """While it can be reopened. Nobody writes to a sender of spam."""
    if case.closed_at is None or case.resolution in {None, Resolution.SPAM}:
        return None
    until = case.closed_at + timedelta(days=context.settings_now(now).reopening_days)
    if now > until:
        return None
    return Basis(kind=LetterKind.CLOSING, resolution=case.resolution, closed_at=case.closed_at, reopens_until=until)
