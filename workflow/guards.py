"""The questions that must be answered with yes before something happens; each no comes with its reason.

A guard is pure: it sees one case, one actor, one moment, and the data of the attempt. All guards of a step are
asked, so that a person hears every reason at once.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import wraps

import msgspec

from workflow.cases import Case, Proposal, Purchase, Share
from workflow.commands import (
    CloseData,
    InvestigateData,
    IssueCompensationData,
    Letter,
    RefundData,
    ResumeData,
    ScheduleConsultationData,
    TriggerData,
)
from workflow.errors import ImpossibleFacts, Refusal
from workflow.money import Money
from workflow.people import Person
from workflow.policy import (
    Decision,
    PolicyVersion,
    Refund,
    Settings,
    approvals_needed,
    evaluate,
    version_in_force,
)
from workflow.roles import HOLDERS, PAYERS, SETTLERS, WORKERS, Actor, Role, in_order
from workflow.states import (
    NEEDS_NO_ANSWER,
    RESOLUTIONS,
    CaseState,
    ProposalStatus,
    RemedyKind,
    ResumeReason,
    Verdict,
)

APPROVER_ONLY = (Role.APPROVER,)


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A booked consultation of somebody's calendar."""

    case: str
    starts_at: datetime
    ends_at: datetime


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision needs besides the case: loaded under the same locks, so that it is true while deciding."""

    policies: tuple[PolicyVersion, ...]
    people: Mapping[str, Person]
    next_number: int = 0
    known_purchase: Purchase | None = None  # the desk's record of the purchase that a command names
    linked: tuple[Case, ...] = ()  # the other cases that share the purchase concerned
    calendar: tuple[Slot, ...] = ()  # of the person who would hold the consultation
    known_cases: frozenset[str] = frozenset()  # which of the cases that the command names exist
    provider_is_asked: bool = False  # for the case's refund, and has not answered yet
    kept: tuple[tuple[int, str], ...] = ()  # the seq and field of all texts and files of the case that can be erased

    def settings_now(self, now: datetime) -> Settings:
        """Tiers, deadlines and reopening follow the version in force now."""
        return version_in_force(self.policies, now).settings

    def policy_for(self, case: Case) -> PolicyVersion:
        """Window, grounds and zone follow the version in force at the purchase, or at the opening without one."""
        return version_in_force(self.policies, case.purchase.purchased_at if case.purchase else case.opened_at)


class GuardContext(msgspec.Struct, frozen=True, kw_only=True):
    case: Case
    actor: Actor
    now: datetime
    context: Context
    data: TriggerData | None = None
    proposal: Proposal | None = None
    letter: Letter | None = None


Guard = Callable[[GuardContext], Refusal | None]


def ask(guards: Iterable[Guard], ctx: GuardContext) -> tuple[Refusal, ...]:
    """Every reason at once."""
    return tuple([refusal for guard in guards if (refusal := guard(ctx)) is not None])


# Conversation and closing.


def client_is_answered(ctx: GuardContext) -> Refusal | None:
    """A person has answered the client's last message, or has said why it needs no answer."""
    if ctx.case.is_answered or (isinstance(ctx.data, CloseData) and ctx.data.resolution in NEEDS_NO_ANSWER):
        return None
    return Refusal(
        code="client_is_answered",
        text="the client's last message has not been answered by a person",
        clause="P9",
        who=in_order(WORKERS),
    )


def resolution_fits_state(ctx: GuardContext) -> Refusal | None:
    if not isinstance(ctx.data, CloseData) or ctx.data.resolution in RESOLUTIONS[ctx.case.state]:
        return None
    fitting = ", ".join(RESOLUTIONS[ctx.case.state])
    return Refusal(
        code="resolution_fits_state",
        text=f"a case that is {words(ctx.case.state)} closes as {fitting}, not as {ctx.data.resolution}",
    )


def within_reopening_days(ctx: GuardContext) -> Refusal | None:
    days = ctx.context.settings_now(ctx.now).reopening_days
    if ctx.case.closed_at is None or ctx.now <= ctx.case.closed_at + timedelta(days=days):
        return None
    return Refusal(
        code="within_reopening_days",
        text=f"the case was closed more than {days} days ago; open a new one and link it",
    )


def link_is_good(ctx: GuardContext) -> Refusal | None:
    """A client comes by a link of this very case that has neither run out nor been revoked."""
    link = ctx.case.client_link(ctx.actor.id)
    if ctx.actor.kind != "client" or (link is not None and link.is_good(ctx.now)):
        return None
    return Refusal(code="link_is_good", text="the link has run out, was revoked, or is of another case")


def offer_can_be_answered(ctx: GuardContext) -> Refusal | None:
    """The whole of the last day is the client's, and no more: afterwards it is the agency's to offer it again."""
    if ctx.case.open_offer is None:
        return Refusal(code="offer_can_be_answered", text="no offer of this case waits for an answer")
    if ctx.case.offer_due is None or ctx.now <= ctx.case.offer_due:
        return None
    return Refusal(code="offer_can_be_answered", text="the time to answer the offer is over", who=in_order(WORKERS))


# Consultations.


def no_other_consultation_overlaps(ctx: GuardContext) -> Refusal | None:
    """Nobody can hold two consultations at once."""
    if not isinstance(ctx.data, ScheduleConsultationData):
        return None
    slot = overlapping(ctx.data.starts_at, ctx.data.minutes, ctx.context.calendar)
    if slot is None:
        return None
    return Refusal(
        code="no_other_consultation_overlaps",
        text=f"the person who would hold it has another consultation from {slot.starts_at:%Y-%m-%d %H:%M} UTC"
        f" to {slot.ends_at:%H:%M} UTC",
    )


def overlapping(starts_at: datetime, minutes: int, calendar: Iterable[Slot]) -> Slot | None:
    """The first that takes some of this time."""
    ends_at = starts_at + timedelta(minutes=minutes)
    return next((one for one in calendar if one.starts_at < ends_at and starts_at < one.ends_at), None)


def slot_was_proposed(ctx: GuardContext) -> Refusal | None:
    """A client books nothing but what the person who would hold it has agreed to, and stands by."""
    data, proposed = ctx.data, ctx.case.proposed_slots
    if not isinstance(data, ScheduleConsultationData) or data.slot_of is None:
        return None
    offered = proposed is not None and (proposed.seq, proposed.minutes) == (data.slot_of, data.minutes)
    if proposed is not None and offered and data.starts_at in proposed.slots:
        if refuse_assignee(ctx.context.people, proposed.host) is None:
            return None
        text = "the person who agreed to it does not work cases any more"
    else:
        text = "this slot is not, or not any more, one of those that were proposed"
    return Refusal(code="slot_was_proposed", text=text, who=in_order(WORKERS))


def consultation_is_booked(ctx: GuardContext) -> Refusal | None:
    if ctx.case.consultation is not None:
        return None
    return Refusal(
        code="consultation_is_booked",
        text=f"this needs a booked consultation; the case is {words(ctx.case.state)}",
        who=in_order(WORKERS),
    )


def consultation_has_begun(ctx: GuardContext) -> Refusal | None:
    booked = ctx.case.consultation
    if booked is None or booked.starts_at is None or booked.starts_at <= ctx.now:
        return None
    return Refusal(
        code="consultation_has_begun", text=f"the consultation begins only at {booked.starts_at:%Y-%m-%d %H:%M} UTC"
    )


def client_has_not_come(ctx: GuardContext) -> Refusal | None:
    """What has taken place stays where it was; another consultation is booked, not this one moved."""
    booked = ctx.case.consultation
    if booked is None or booked.attended is not True:
        return None
    return Refusal(
        code="client_has_not_come",
        text="the client came to this consultation; book another one, or correct that first",
        who=in_order(WORKERS),
    )


def no_show_was_not_attended(ctx: GuardContext) -> Refusal | None:
    """Nobody can have come and not have come."""
    if not isinstance(ctx.data, ResumeData) or ctx.data.reason_code is not ResumeReason.NO_SHOW:
        return None
    booked = ctx.case.consultation
    if booked is None or booked.attended is not True:
        return None
    return Refusal(
        code="no_show_was_not_attended",
        text="it was recorded that the client came; correct that first",
        who=in_order(WORKERS),
    )


# What is kept of the client.


def no_hold_stands(ctx: GuardContext) -> Refusal | None:
    if not ctx.case.is_held:
        return None
    return Refusal(
        code="no_hold_stands",
        text="the case is under a legal hold, so nothing of it may be erased until the hold is released",
        who=in_order(HOLDERS),
    )


def a_hold_stands(ctx: GuardContext) -> Refusal | None:
    return None if ctx.case.is_held else Refusal(code="a_hold_stands", text="the case is under no legal hold")


# Working the case.


def assignee_works_cases(ctx: GuardContext) -> Refusal | None:
    if not isinstance(ctx.data, InvestigateData) or ctx.data.assignee is None:
        return None
    return refuse_assignee(ctx.context.people, ctx.data.assignee)


def refuse_assignee(people: Mapping[str, Person], assignee: str) -> Refusal | None:
    person = people.get(assignee)
    if person is not None and person.active and not WORKERS.isdisjoint(person.roles):
        return None
    return Refusal(code="assignee_works_cases", text="a case can only be given to an active agent or lead")


def no_payout_under_way(ctx: GuardContext) -> Refusal | None:
    """While money is on its way the case stays where its arrival or failure can be recorded."""
    paying = ctx.case.payout_under_way
    if paying is None or paying == ctx.proposal:
        return None
    asked = ctx.context.provider_is_asked
    return Refusal(
        code="no_payout_under_way",
        text="a payout is with the payment provider, whose answer ends it"
        if asked
        else "a payout is under way; confirm it or record that it failed first",
        clause="P6",
        who=(Role.SYSTEM,) if asked else in_order(SETTLERS),
    )


# Proposals and money.


def there_is_a_purchase(ctx: GuardContext) -> Refusal | None:
    if ctx.case.purchase is not None:
        return None
    return Refusal(code="there_is_a_purchase", text="no purchase is recorded, so nothing can be refunded", clause="P4")


def until_payout(guard: Guard) -> Guard:
    """Not asked again once a payout has begun: the money is on its way, whatever changes."""

    @wraps(guard)
    def asked(ctx: GuardContext) -> Refusal | None:
        paying = ctx.proposal is not None and ctx.proposal.status is ProposalStatus.PAYING
        return None if paying else guard(ctx)

    return asked


@until_payout
def facts_are_checked(ctx: GuardContext) -> Refusal | None:
    if ctx.case.purchase is None or ctx.case.purchase.checked:
        return None
    return Refusal(
        code="facts_are_checked",
        text="nobody has checked the facts of the purchase against the books since they last changed",
        clause="P3",
        who=in_order(WORKERS),
    )


def case_is_investigated(ctx: GuardContext) -> Refusal | None:
    if ctx.case.state is CaseState.INVESTIGATING:
        return None
    return Refusal(
        code="case_is_investigated",
        text=f"this needs a case under investigation; this one is {words(ctx.case.state)}",
        clause="P3",
        who=in_order(WORKERS),
    )


def case_is_open(ctx: GuardContext) -> Refusal | None:
    if ctx.case.state is not CaseState.CLOSED:
        return None
    return Refusal(code="case_is_open", text="the case is closed; reopen it first", who=in_order(WORKERS))


@until_payout
def proposal_is_approved(ctx: GuardContext) -> Refusal | None:
    """Enough people approved exactly this amount, by the tiers now in force."""
    proposal, settings = ctx.proposal, ctx.context.settings_now(ctx.now)
    if proposal is None:
        return Refusal(code="proposal_is_approved", text="there is no approved proposal", who=in_order(WORKERS))
    if not proposal.is_open:
        return Refusal(code="proposal_is_approved", text=f"the proposal is {proposal.status}", clause="P6")
    missing = missing_approvals(proposal, settings)
    if not missing:
        return None
    return Refusal(
        code="proposal_is_approved",
        text=f"{missing} more approval{'s are' if missing > 1 else ' is'} needed",
        clause="P6",
        who=approvals_needed(proposal.amount, settings).roles,
    )


def proposal_is_of_this_remedy(ctx: GuardContext) -> Refusal | None:
    wanted = RemedyKind.REFUND if isinstance(ctx.data, RefundData) else RemedyKind.COMPENSATION
    if ctx.proposal is None or ctx.proposal.remedy is wanted:
        return None
    return Refusal(code="proposal_is_of_this_remedy", text=f"the proposal is for a {ctx.proposal.remedy}")


def proposal_is_not_void(ctx: GuardContext) -> Refusal | None:
    if ctx.proposal is None or ctx.proposal.status is not ProposalStatus.VOID:
        return None
    return Refusal(
        code="proposal_is_not_void",
        text="what the proposal rested on has changed since; propose again",
        clause="P6",
        who=in_order(WORKERS),
    )


def proposal_is_open(ctx: GuardContext) -> Refusal | None:
    if ctx.proposal is None or ctx.proposal.is_open:
        return None
    return Refusal(code="proposal_is_open", text=f"the proposal is {ctx.proposal.status} already")


def provider_confirms_a_begun_payout(ctx: GuardContext) -> Refusal | None:
    """A provider reports on money that a person has let go; it lets none go by itself."""
    begun = ctx.proposal is not None and ctx.proposal.status is ProposalStatus.PAYING
    if begun or ctx.actor.may(PAYERS):
        return None
    return Refusal(
        code="provider_confirms_a_begun_payout",
        text="no payout of this proposal has begun; an approver begins it",
        clause="P6",
        who=APPROVER_ONLY,
    )


def settled_by_another_person(ctx: GuardContext) -> Refusal | None:
    """Whoever proposed a payment may not also make it or confirm that it was made."""
    if ctx.proposal is None or ctx.actor.key != ctx.proposal.proposed_by:
        return None
    return Refusal(
        code="settled_by_another_person",
        text="you proposed this payment; somebody else must make and confirm it",
        clause="P6",
        who=APPROVER_ONLY,
    )


def reversed_by_another_person(ctx: GuardContext) -> Refusal | None:
    if not isinstance(ctx.data, ResumeData) or ctx.data.reason_code is not ResumeReason.PAYMENT_FAILED:
        return None
    proposal = reversed_refund(ctx)
    if proposal is None or ctx.actor.key != proposal.proposed_by:
        return None
    return Refusal(
        code="reversed_by_another_person",
        text="you proposed this payment; somebody else must record that it came back",
        clause="P6",
        who=APPROVER_ONLY,
    )


def payment_failed_only_from_refunded(ctx: GuardContext) -> Refusal | None:
    if not isinstance(ctx.data, ResumeData) or ctx.data.reason_code is not ResumeReason.PAYMENT_FAILED:
        return None
    if ctx.case.state is CaseState.REFUNDED:
        return None
    return Refusal(code="payment_failed_only_from_refunded", text="no payment has been made that could have failed")


def provider_reverses_its_own_refund(ctx: GuardContext) -> Refusal | None:
    """A payment provider knows that money came back only of the very payment that it made."""
    data = ctx.data
    if not isinstance(data, ResumeData) or data.reason_code is not ResumeReason.PAYMENT_FAILED:
        return None
    refund = reversed_refund(ctx)
    if ctx.actor.may(PAYERS) or (refund is not None and refund.payment_reference == data.payment_reference):
        return None
    return Refusal(
        code="provider_reverses_its_own_refund",
        text="the refund was not made by this payment; an approver can say that it came back",
        clause="P6",
        who=APPROVER_ONLY,
    )


def refund_was_paid(ctx: GuardContext) -> Refusal | None:
    proposal = ctx.proposal
    if proposal and proposal.remedy is RemedyKind.REFUND and proposal.status is ProposalStatus.SETTLED:
        return None
    return Refusal(code="refund_was_paid", text="no money has left for this proposal that could have come back")


def case_stands_without_it(ctx: GuardContext) -> Refusal | None:
    """A case that is refunded by this very payment is taken up again; any other state stays as it is."""
    if ctx.case.state is not CaseState.REFUNDED or ctx.proposal != last_settled_refund(ctx.case):
        return None
    return Refusal(
        code="case_stands_without_it",
        text="the case is refunded by this payment; resume it, as payment failed",
        who=APPROVER_ONLY,
    )


def payment_is_not_with_the_provider(ctx: GuardContext) -> Refusal | None:
    """A person who ended a payout that the provider may still carry out would have it paid twice."""
    if not ctx.context.provider_is_asked or not ctx.actor.may(PAYERS):
        return None
    return Refusal(
        code="payment_is_not_with_the_provider",
        text="the payment provider has been asked for this refund and has not answered yet; its answer ends the payout",
        clause="P6",
        who=(Role.SYSTEM,),
    )


def approved_by_another_person(ctx: GuardContext) -> Refusal | None:
    """Four eyes: neither the proposer nor the latest to record or verify one of the grounds approves."""
    if ctx.proposal is None or ctx.actor.key not in involved_in(ctx.case, ctx.proposal):
        return None
    text = (
        "you proposed this; somebody else must approve it"
        if ctx.actor.key == ctx.proposal.proposed_by
        else "you recorded or verified one of its grounds; somebody else must approve it"
    )
    return Refusal(code="approved_by_another_person", text=text, clause="P6", who=APPROVER_ONLY)


def approves_once(ctx: GuardContext) -> Refusal | None:
    if ctx.proposal is None or all(approval.by != ctx.actor.key for approval in ctx.proposal.approvals):
        return None
    return Refusal(code="approves_once", text="you have approved this already; the second pair of eyes is missing")


def within_approval_tier(ctx: GuardContext) -> Refusal | None:
    if ctx.proposal is None:
        return None
    rule = approvals_needed(ctx.proposal.amount, ctx.context.settings_now(ctx.now))
    if ctx.actor.may(frozenset(rule.roles)):
        return None
    return Refusal(
        code="within_approval_tier",
        text=f"{ctx.proposal.amount} is above what your role may approve",
        clause="P6",
        who=rule.roles,
    )


def approval_is_needed(ctx: GuardContext) -> Refusal | None:
    if ctx.proposal is None or ctx.proposal.needs_approval:
        return None
    return Refusal(
        code="approval_is_needed",
        text="the client is entitled to this refund; it needs no approval, only somebody else to settle it",
        clause="P5",
    )


@until_payout
def within_maximum(ctx: GuardContext) -> Refusal | None:
    """The amount is what the policy allows on the facts as they stand now, less what is reserved elsewhere."""
    proposal = ctx.proposal
    if proposal is None or proposal.remedy is not RemedyKind.REFUND or ctx.case.purchase is None:
        return None
    try:
        decision = judge(ctx.case, ctx.context)
    except ImpossibleFacts as impossible:
        return facts_cannot_be_true(impossible)
    return refuse_amount(ctx.case, proposal.amount, proposal.grounds, decision)


# What is asked before somebody approves or refuses a proposal.
REFUSING: tuple[Guard, ...] = (case_is_open, proposal_is_not_void, proposal_is_open, approved_by_another_person)
VERDICT_GUARDS: dict[Verdict, tuple[Guard, ...]] = {
    Verdict.REFUSE: REFUSING,
    Verdict.APPROVE: (*REFUSING, approval_is_needed, within_approval_tier, approves_once, within_maximum),
}


def facts_cannot_be_true(impossible: ImpossibleFacts) -> Refusal:
    """Facts that contradict each other allow nothing."""
    return Refusal(code="facts_are_possible", text=f"the recorded facts cannot be true: {impossible}")


def refuse_amount(case: Case, amount: Money, grounds: tuple[str, ...], decision: Decision) -> Refusal | None:
    """`decision` is the policy's on the case as it stands; `case` has a purchase."""
    purchase = case.purchase
    if purchase is None or decision.maximum is None:
        return None
    if decision.refund is Refund.NONE:
        reason = " ".join(one.text for one in decision.reasons)
        return Refusal(
            code="within_maximum", text=f"the policy allows no refund: {reason}", clause=decision.clauses[-1]
        )
    limit = max(0, decision.maximum.amount_minor - purchase.reserved_minor)
    clause = decision.clauses[0]
    if not decision.needs_approval:
        if amount.amount_minor == limit:
            return None
        text = f"the client is entitled to the full amount, exactly {Money(limit, amount.currency)}"
        return Refusal(code="within_maximum", text=text, clause=clause)
    named = sum(ground.left_minor for ground in case.grounds if ground.id in grounds and ground.verified)
    limit = min(limit, named)
    if amount.amount_minor <= limit:
        return None
    return Refusal(
        code="within_maximum",
        text=f"the most that may be refunded is {Money(limit, amount.currency)}",
        clause=clause,
    )


# What several guards ask.


def judge(case: Case, context: Context) -> Decision:
    return evaluate(case.facts, context.policy_for(case))


def judge_or_none(case: Case, context: Context) -> Decision | None:
    """As `judge`, for readers: facts recorded as impossible are shown as undecided instead of failing the page."""
    try:
        return judge(case, context)
    except ImpossibleFacts:
        return None


def involved_in(case: Case, proposal: Proposal) -> frozenset[str]:
    """Who may not approve: the proposer, and the latest to record or verify one of its grounds."""
    people = {proposal.proposed_by}
    for ground in case.grounds:
        if ground.id in proposal.grounds:
            people.add(ground.recorded_by)
            if ground.verified_by is not None:
                people.add(ground.verified_by)
    return frozenset(people)


def missing_approvals(proposal: Proposal, settings: Settings) -> int:
    """How many approvals the tiers still ask for."""
    if not proposal.needs_approval:
        return 0
    rule = approvals_needed(proposal.amount, settings)
    given = sum(1 for approval in proposal.approvals if not frozenset(rule.roles).isdisjoint(map(Role, approval.roles)))
    return max(0, rule.count - given)


def who_can_approve(case: Case, proposal: Proposal, context: Context, now: datetime) -> tuple[str, ...]:
    """The people who may approve this proposal as things stand, by id."""
    if not proposal.is_open or not missing_approvals(proposal, context.settings_now(now)):
        return ()
    rule = approvals_needed(proposal.amount, context.settings_now(now))
    barred = involved_in(case, proposal) | {approval.by for approval in proposal.approvals}
    return tuple(
        sorted(
            person.id
            for person in context.people.values()
            if person.active and not frozenset(rule.roles).isdisjoint(person.roles) and person.key not in barred
        )
    )


def shares_of(case: Case, proposal: Proposal) -> tuple[Share, ...]:
    """How the amount falls on the grounds it consumes, in their order."""
    left, shares = proposal.amount.amount_minor, []
    for ground_id in proposal.grounds:
        ground = case.ground(ground_id)
        part = min(left, ground.left_minor) if ground else 0
        if part > 0:
            shares.append(Share(ground=ground_id, amount_minor=part))
            left -= part
    return tuple(shares)


def last_settled_refund(case: Case) -> Proposal | None:
    """The one that was paid last, whichever was proposed last."""
    paid = (case.proposal(remedy.proposal) for remedy in reversed(case.remedies) if remedy.kind is RemedyKind.REFUND)
    return next((one for one in paid if one is not None and one.status is ProposalStatus.SETTLED), None)


def reversed_refund(ctx: GuardContext) -> Proposal | None:
    """The one whose money came back: as named, or else the last."""
    return ctx.proposal or last_settled_refund(ctx.case)


def with_data(ctx: GuardContext, data: TriggerData) -> GuardContext:
    """The same question about this data, and about the proposal that it names."""
    proposal = ctx.case.proposal(data.proposal) if isinstance(data, RefundData | IssueCompensationData) else None
    return GuardContext(case=ctx.case, actor=ctx.actor, now=ctx.now, context=ctx.context, data=data, proposal=proposal)


def words(name: str) -> str:
    return name.replace("_", " ")
