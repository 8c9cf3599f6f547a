"""What auditors ask of the history of one case, believing nothing but its events.

Each report is a function from a history, oldest first, to what it found in it; time and the log's end are the caller's.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from workflow import events as e
from workflow.money import Money
from workflow.policy import ApprovalRule, PolicyVersion, Refund, approvals_needed
from workflow.sampling import bounds_of, place_of
from workflow.states import RemedyKind, Verdict

History = Sequence[e.Recorded]
Policies = Mapping[int, PolicyVersion]


class Approved(msgspec.Struct, frozen=True, kw_only=True):
    by: str
    roles: tuple[str, ...]
    at: datetime


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal with everybody who had a part in it. `recorded` is its event, `settled` the one that ended it.

    `policy` was in force when its approvals were asked for: as its payout began or, without one, as it was settled.
    """

    id: str
    recorded: e.Recorded
    remedy: RemedyKind
    amount: Money
    needs_approval: bool
    clause: str | None
    policy: int
    grounds: tuple[str, ...] = ()
    evidence_by: tuple[str, ...] = ()  # the latest to record or to verify its grounds
    approvals: tuple[Approved, ...] = ()
    begun_by: str | None = None
    settled: e.Recorded | None = None

    @property
    def proposed_by(self) -> str:
        return self.recorded.event.actor

    @property
    def settled_by(self) -> str | None:
        return self.settled.event.actor if self.settled else None


class Part(StrEnum):
    """Two parts that one person had in a payment."""

    PROPOSED_AND_APPROVED = "proposed_and_approved"
    PROPOSED_AND_BEGAN = "proposed_and_began"
    PROPOSED_AND_SETTLED = "proposed_and_settled"
    EVIDENCED_AND_APPROVED = "evidenced_and_approved"
    APPROVED_AND_BEGAN = "approved_and_began"
    APPROVED_AND_SETTLED = "approved_and_settled"


# What the rules let one person do; a compensation is no payment, and whoever proposed it may grant it once approved.
ALLOWED = {
    RemedyKind.REFUND: frozenset({Part.APPROVED_AND_BEGAN, Part.APPROVED_AND_SETTLED}),
    RemedyKind.COMPENSATION: frozenset({Part.APPROVED_AND_SETTLED, Part.PROPOSED_AND_SETTLED}),
}


class Duties(msgspec.Struct, frozen=True, kw_only=True):
    """`rule` is what the tiers demanded, None where no approval is needed; `missing` are approvals that it lacked."""

    payment: Payment
    rule: ApprovalRule | None
    same: tuple[Part, ...]
    missing: int

    @property
    def is_breach(self) -> bool:
        return bool({*self.same} - ALLOWED[self.payment.remedy]) or self.missing > 0


def payments(history: History) -> list[Payment]:
    """Every proposal of the case, as it ended."""
    found: dict[str, Payment] = {}
    grounds: dict[str, dict[str, str]] = {}  # ground → what was done about it → by whom last
    for one in history:
        event, data = one.event, one.data
        match data:
            case e.GroundRecorded():
                grounds[f"g{event.seq}"] = {"recorded": event.actor}
            case e.GroundVerified():
                grounds.setdefault(data.ground, {})["verified"] = event.actor
            case e.Proposed():
                found[f"p{event.seq}"] = payment_of(one, data)
            case e.VerdictGiven(proposal=name, verdict=Verdict.APPROVE):
                approval = Approved(by=event.actor, roles=data.roles, at=one.at)
                paid = found[name]
                evidence = {by for ground in paid.grounds for by in grounds.get(ground, {}).values()}
                found[name] = replace(
                    paid,
                    approvals=(*paid.approvals, approval),
                    evidence_by=tuple(sorted({*paid.evidence_by, *evidence})),
                )
            case e.PayoutBegun(proposal=name):
                found[name] = replace(found[name], begun_by=event.actor, policy=event.policy)
            case e.PayoutFailed(proposal=name):
                found[name] = replace(found[name], begun_by=None)
            case e.Refunded(proposal=name) | e.CompensationIssued(proposal=name):
                paid = found[name]
                policy = paid.policy if paid.begun_by else event.policy
                found[name] = replace(paid, settled=one, policy=policy)
            case _:
                pass
    return list(found.values())


def payment_of(recorded: e.Recorded, data: e.Proposed) -> Payment:
    judged = data.judgement
    return Payment(
        id=f"p{recorded.event.seq}",
        recorded=recorded,
        remedy=data.remedy,
        amount=data.amount,
        needs_approval=judged is None or judged.needs_approval,
        clause=judged.clauses[0] if judged else None,
        policy=recorded.event.policy,
        grounds=data.grounds,
    )


def duties(payment: Payment, policies: Policies) -> Duties:
    rule = None
    missing = 0
    if payment.needs_approval:
        rule = approvals_needed(payment.amount, policies[payment.policy].settings)
        entitled = {one.by for one in payment.approvals if {*one.roles} & {*rule.roles}}
        missing = max(0, rule.count - len(entitled))
    approvers = {one.by for one in payment.approvals}
    parts = {
        Part.PROPOSED_AND_APPROVED: payment.proposed_by in approvers,
        Part.PROPOSED_AND_BEGAN: payment.proposed_by == payment.begun_by,
        Part.PROPOSED_AND_SETTLED: payment.proposed_by == payment.settled_by,
        Part.EVIDENCED_AND_APPROVED: not approvers.isdisjoint(payment.evidence_by),
        Part.APPROVED_AND_BEGAN: payment.begun_by in approvers,
        Part.APPROVED_AND_SETTLED: payment.settled_by in approvers,
    }
    return Duties(
        payment=payment, rule=rule, same=tuple(part for part, is_so in parts.items() if is_so), missing=missing
    )


def bound_above(payment: Payment, policies: Policies, percent: int) -> str | None:
    """The limit of the tier that a refund needs, if it is at most so many percent below; by the policy of that time."""
    if payment.remedy is not RemedyKind.REFUND or not payment.needs_approval:
        return None
    bounds = bounds_of(policies[payment.recorded.event.policy].settings)
    place = place_of(payment.amount, bounds)
    if place == len(bounds):
        return None
    is_near = Decimal(payment.amount.decimal_text()) * 100 >= Decimal(bounds[place]) * (100 - percent)
    return bounds[place] if is_near else None


class OverrideKind(StrEnum):
    REQUESTED_AT_CORRECTED = "requested_at_corrected"  # which can decide whether the window was kept
    ALLOWED_REFUND_REFUSED = "allowed_refund_refused"  # a person said no where the policy allows it
    ANSWER_WAIVED = "answer_waived"  # the client's message needs no answer
    ERASED_EARLY = "erased_early"  # before the data need no longer be kept


class Override(msgspec.Struct, frozen=True, kw_only=True):
    kind: OverrideKind
    recorded: e.Recorded


def overrides(history: History) -> list[Override]:
    """Where a person decided otherwise than the policy would by itself. None can pay more than it allows."""
    allowed: set[str] = set()
    found = []
    for one in history:
        kind = None
        match one.data:
            case e.Proposed(judgement=judgement) if judgement is not None and judgement.refund != Refund.NONE:
                allowed.add(f"p{one.event.seq}")
            case e.VerdictGiven(verdict=Verdict.REFUSE, proposal=name) if name in allowed:
                kind = OverrideKind.ALLOWED_REFUND_REFUSED
            case e.RequestedAtCorrected():
                kind = OverrideKind.REQUESTED_AT_CORRECTED
            case e.AnswerWaived():
                kind = OverrideKind.ANSWER_WAIVED
            case e.Erased(overridden=True):
                kind = OverrideKind.ERASED_EARLY
            case _:
                pass
        if kind is not None:
            found.append(Override(kind=kind, recorded=one))
    return found


class Voided(msgspec.Struct, frozen=True, kw_only=True):
    """Approvals that a change of what they rested on has made void. `recorded` is the change."""

    payment: Payment
    recorded: e.Recorded


def voided_approvals(history: History) -> list[Voided]:
    found = []
    for index, one in enumerate(history):
        names = getattr(one.data, "voids", ())
        if names:
            found += [
                Voided(payment=payment, recorded=one)
                for payment in payments(history[:index])
                if payment.id in names and payment.approvals
            ]
    return found
