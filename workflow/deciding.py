"""What a command does to a case: the story of each command, in order, told as events.

`decide` is pure. It raises what `workflow.errors` lists; what it returns has not happened until the ledger records it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any

from msgspec.structs import replace

from workflow import commands as c
from workflow import events as e
from workflow.cases import Case, Judgement, NewAttachment, Purchase, host_of
from workflow.errors import (
    BadInput,
    FieldError,
    Forbidden,
    GuardRefused,
    ImpossibleFacts,
    NotFound,
    PurchaseDiffers,
    Refusal,
    WrongDigest,
    bad_field,
)
from workflow.guards import (
    VERDICT_GUARDS,
    Context,
    Guard,
    GuardContext,
    a_hold_stands,
    ask,
    case_is_investigated,
    case_is_open,
    case_stands_without_it,
    client_has_not_come,
    consultation_has_begun,
    consultation_is_booked,
    facts_are_checked,
    facts_cannot_be_true,
    judge,
    last_settled_refund,
    link_is_good,
    missing_approvals,
    no_hold_stands,
    no_other_consultation_overlaps,
    no_payout_under_way,
    offer_can_be_answered,
    payment_is_not_with_the_provider,
    proposal_is_approved,
    proposal_is_not_void,
    proposal_is_open,
    provider_reverses_its_own_refund,
    refund_was_paid,
    refuse_amount,
    refuse_assignee,
    reversed_by_another_person,
    settled_by_another_person,
    shares_of,
    there_is_a_purchase,
    with_data,
    within_maximum,
)
from workflow.letters import letter_states_what_is_recorded
from workflow.lifecycle import BY_SOURCE, TRANSITIONS, fire
from workflow.people import token_commitment
from workflow.policy import Decision, GroundKind
from workflow.roles import (
    ADMINS,
    APPROVERS,
    CLIENTS,
    ERASERS,
    HOLDERS,
    INTAKE,
    LINKERS,
    PAYERS,
    RECORDERS,
    SETTLERS,
    WORKERS,
    Actor,
    Role,
    in_order,
)
from workflow.states import (
    CaseState,
    Direction,
    MailKind,
    ProposalStatus,
    RemedyKind,
    Resolution,
    ResumeReason,
    Trigger,
    Verdict,
)
from workflow.timezones import zone

MAX_TITLE = 78
MAX_GROUNDS = 100  # keeps a decision's recorded facts within one event
MAX_PROPOSALS = 200  # an event can name them all
MAX_PARTICIPANTS = 50
MAX_CONSULTATION_MINUTES = 24 * 60
MAX_SLOTS = 20  # to pick one from
MAX_CLIENT_LINKS = 20  # that are good at once: who needs more has lost track of them
LONGEST_CLIENT_LINK = timedelta(days=366)
LINK_LASTS = timedelta(days=30)  # a link in a letter is good for so long at least
MAX_SCOPE_CHARACTERS = 20_000  # of the list of what was erased: an event has to hold it
FURTHEST = timedelta(days=3650)  # later is a slip, and would run off the calendar

Drafts = tuple[e.Draft, ...]


def decide(case: Case | None, context: Context, command: c.Command, actor: Actor, now: datetime) -> Drafts:
    """What this command does, as events in order; none if everything is so already.

    `case` is None exactly for OpenCase. Raises Forbidden, BadInput, NotFound, Refused with every reason, or
    PurchaseDiffers.
    """
    forbid_unless(actor, roles_of(command, case, actor), command)
    check_texts(command)
    if isinstance(command, c.OpenCase):
        return open_case(context, command, now)
    if case is None:
        raise NotFound("case")
    attempt = Attempt(case, context, actor, now)
    attempt.demand(link_is_good)
    return DECISIONS[type(command)](attempt, command)


def require_target(case: Case, command: c.Command) -> None:
    """Raise NotFound where the command names a part that the case does not have."""
    match command:
        case (
            c.GiveVerdict(proposal=proposal)
            | c.BeginPayout(proposal=proposal)
            | c.FailPayout(proposal=proposal)
            | c.ReversePayment(proposal=proposal)
            | c.WithdrawProposal(proposal=proposal)
        ):
            found, what = case.proposal(proposal) is not None, "proposal"
        case c.VerifyGround(ground=ground):
            found, what = case.ground(ground) is not None, "ground"
        case c.WaiveAnswer(message=message):
            found, what = message in {f"m{seq}" for seq in case.client_messages}, "message"
        case c.AnswerOffer(offer=offer):
            found, what = offer in {one.seq for one in case.remedies if one.kind is RemedyKind.ADJUSTMENT}, "offer"
        case c.RevokeClientLink(link_id=link):
            found, what = case.client_link(link) is not None, "link"
        case _:
            return
    if not found:
        raise NotFound(what)


class Attempt:
    """One command's view: the case, who asks, when, and what is known besides."""

    __slots__ = ("actor", "case", "context", "now")

    def __init__(self, case: Case, context: Context, actor: Actor, now: datetime) -> None:
        self.case = case
        self.context = context
        self.actor = actor
        self.now = now

    def demand(self, *guards: Guard, **about: Any) -> None:
        """Raise GuardRefused with the reason of every guard that says no."""
        refusals = ask(guards, self.guard_context(**about))
        if refusals:
            raise GuardRefused(*refusals)

    def guard_context(self, **about: Any) -> GuardContext:
        return GuardContext(case=self.case, actor=self.actor, now=self.now, context=self.context, **about)

    def update_due(self) -> datetime:
        return self.now + timedelta(days=self.context.settings_now(self.now).next_update_days)


def roles_of(command: c.Command, case: Case | None, actor: Actor) -> frozenset[Role]:
    """Who may ever give this command."""
    if isinstance(command, c.Assign):
        return assigners(command.assignee, actor)
    if isinstance(command, c.Erase) and command.override:
        return ADMINS
    if isinstance(command, c.AddMessage) and command.direction is Direction.INBOUND:
        return INTAKE | CLIENTS
    if not isinstance(command, c.Fire):
        return COMMAND_ROLES[type(command)]
    rows = (row for row in TRANSITIONS if row.trigger is command.trigger)
    row = (case and BY_SOURCE.get((case.state, command.trigger))) or next(rows)
    return row.roles_for(command.data)


def assigners(assignee: str | None, actor: Actor) -> frozenset[Role]:
    """An agent may take a case; giving one to somebody else, or to nobody, is a lead's."""
    return WORKERS if assignee == actor.id else frozenset({Role.LEAD})


def forbid_unless(actor: Actor, roles: frozenset[Role], command: c.Command) -> None:
    if actor.may(roles):
        return
    what = command.trigger if isinstance(command, c.Fire) else type(command).__name__
    who = in_order(roles)
    raise Forbidden(Refusal(code="role", text=f"{what} is for: {', '.join(who)}", who=who))


def check_texts(command: c.Command) -> None:
    """A reason, a statement, evidence or a payment's reference that is asked for has to say something."""
    given: list[tuple[str, c.Command | c.TriggerData]] = [("", command)]
    if isinstance(command, c.Fire):
        given.append(("data.", command.data))
    missing = [
        FieldError(field=f"{at}{field}", message="must not be empty")
        for at, struct in given
        for field in REQUIRED_TEXTS.get(type(struct), ())
        if not getattr(struct, field).strip()
    ]
    if missing:
        raise BadInput(*missing)


# Opening.


def open_case(context: Context, command: c.OpenCase, now: datetime) -> Drafts:
    received_at = command.received_at or now
    if received_at > now:
        raise bad_field("received_at", "is in the future")
    settings = context.settings_now(now)
    opened = e.Opened(
        number=context.next_number,
        mail_tag=command.mail_tag,
        category=command.category,
        received_at=received_at,
        first_answer_due=received_at + timedelta(hours=settings.first_answer_hours),
        update_due=now + timedelta(days=settings.next_update_days),
        follows=command.follows,
        unverified_of=command.unverified_of,
        silent=command.silent,
    )
    personal = {
        "subject": command.subject,
        "message": command.message,
        "client_name": command.client_name,
        "client_email": command.client_email,
    }
    personal |= only_given(message_id=command.message_id)
    if not command.subject.strip():
        personal["title"] = title_from(command.message)
    purchase = purchase_to_link(context, command.purchase, command.purchase_reference, "purchase.")
    linking: Drafts = ()
    if purchase is not None:
        if purchase.purchased_at > received_at:
            raise bad_field("received_at", "is before the purchase")
        linking = (e.Draft(data=e.PurchaseChanged(purchase=purchase, change="linked")),)
    return (
        e.Draft(data=opened, personal=personal, state_after=CaseState.OPENED),
        *linking,
        *(attached(one, "m1") for one in command.attachments),
        *(() if command.link is None or command.silent else (link_for_letters(command.link),)),
    )


def title_from(message: str) -> str:
    """What a person reads where the client gave no subject: the first words of the letter."""
    first = " ".join(message.split())
    shown = first if len(first) <= MAX_TITLE else first[: MAX_TITLE - 1] + "…"
    return shown or "(no subject)"


def purchase_to_link(context: Context, stated: Purchase | None, reference: str | None, at: str) -> Purchase | None:
    """The desk's own record of the purchase where it has one; `at` prefixes the field names of errors."""
    known = context.known_purchase
    if stated is None and reference is None:
        return None
    if known is None:
        if stated is None:
            raise bad_field(f"{at}reference", "is no purchase that the desk knows; give its facts")
        return replace(stated, checked=False, refunded_minor=0, reserved_minor=0)
    if stated is not None and not known.states_the_same_as(stated):
        raise PurchaseDiffers(known.reference, differing_facts(known, stated), at)
    return known


def differing_facts(known: Purchase, stated: Purchase) -> tuple[str, ...]:
    fields = ("package", "paid", "purchased_at", "service_started_at", "deliverables_provided_at")
    return tuple(field for field in fields if getattr(known, field) != getattr(stated, field))


# Transitions.


def fire_trigger(attempt: Attempt, command: c.Fire) -> Drafts:
    check_trigger_data(attempt, command)
    ctx = with_data(attempt.guard_context(), command.data)
    target = fire(command.trigger, ctx)
    row = BY_SOURCE[attempt.case.state, command.trigger]
    data, texts, further = OUTCOMES[command.trigger](attempt, command.data)
    step = e.Draft(
        data=data,
        personal={"reason": command.reason, **texts},
        trigger=command.trigger,
        state_after=target,
        guards={guard.__name__: True for guard in row.guards},
    )
    return (step, *further)


def check_trigger_data(attempt: Attempt, command: c.Fire) -> None:
    """What makes no sense whatever the state: 422 comes before 409."""
    match command.data:
        case c.OfferAdjustmentData(answer_by=answer_by):
            today = attempt.now.astimezone(desk_zone(attempt)).date()
            if not today <= answer_by <= today + FURTHEST:
                raise bad_field("data.answer_by", f"has to be from today to {FURTHEST.days} days ahead")
        case c.ScheduleConsultationData(starts_at=starts_at, minutes=minutes):
            check_slot(attempt, starts_at, minutes, "data.")
        case c.RefundData(proposal=proposal) | c.IssueCompensationData(proposal=proposal):
            if proposal is not None and attempt.case.proposal(proposal) is None:
                raise bad_field("data.proposal", "is no proposal of this case")
        case c.CloseData(resolution=resolution, duplicate_of=duplicate_of):
            if duplicate_of is None:
                return
            if resolution is not Resolution.DUPLICATE:
                raise bad_field("data.duplicate_of", "goes with the resolution duplicate only")
            if duplicate_of == attempt.case.id or duplicate_of not in attempt.context.known_cases:
                raise bad_field("data.duplicate_of", "is no other case of this desk")


Outcome = tuple[e.EventData, dict[str, str], Drafts]


def investigate(attempt: Attempt, data: c.InvestigateData) -> Outcome:
    return e.InvestigationStarted(assignee=data.assignee or attempt.actor.id), {}, ()


def offer_adjustment(attempt: Attempt, data: c.OfferAdjustmentData) -> Outcome:
    # The whole of the last day is the client's.
    end = datetime.combine(data.answer_by, time.max, tzinfo=desk_zone(attempt))
    return (
        e.AdjustmentOffered(answer_by=data.answer_by.isoformat(), answer_due=end.astimezone(UTC)),
        {"description": data.description},
        (),
    )


def schedule_consultation(attempt: Attempt, data: c.ScheduleConsultationData) -> Outcome:
    event = e.ConsultationScheduled(
        starts_at=data.starts_at,
        minutes=data.minutes,
        host=host_of(attempt.case, attempt.actor.id, data.slot_of),
        slot_of=data.slot_of,
    )
    return event, {"channel": data.channel}, ()


def issue_compensation(_: Attempt, data: c.IssueCompensationData) -> Outcome:
    return e.CompensationIssued(proposal=data.proposal or "", confirmation=data.confirmation), {}, ()


def refund(attempt: Attempt, data: c.RefundData) -> Outcome:
    case = attempt.case
    proposal = case.proposal(data.proposal)
    if proposal is None or case.purchase is None:  # the guards have seen to it
        raise NotFound("proposal")
    amount = proposal.amount.amount_minor
    released = amount if proposal.status is ProposalStatus.PAYING else 0
    sums = replace(
        case.purchase,
        refunded_minor=case.purchase.refunded_minor + amount,
        reserved_minor=case.purchase.reserved_minor - released,
    )
    event = e.Refunded(
        proposal=proposal.id,
        amount=proposal.amount,
        payment_reference=data.payment_reference,
        shares=shares_of(case, proposal),
    )
    return event, {}, purchase_drafts(attempt, sums, "sums")


def resume(attempt: Attempt, data: c.ResumeData) -> Outcome:
    reference = data.payment_reference
    event = e.Resumed(reason_code=data.reason_code, update_due=attempt.update_due(), payment_reference=reference)
    if data.reason_code is not ResumeReason.PAYMENT_FAILED:
        return event, {}, ()
    proposal = last_settled_refund(attempt.case)
    if proposal is None:  # the guards have seen to it
        raise NotFound("proposal")
    return event, {}, reversal(attempt, e.PaymentReversed(proposal=proposal.id, amount=proposal.amount), {})


def reversal(attempt: Attempt, data: e.PaymentReversed, texts: dict[str, str]) -> Drafts:
    """The money is the agency's again, in the case and in every other one of the purchase."""
    purchase = attempt.case.purchase
    if purchase is None:  # the guards have seen to it
        raise NotFound("purchase")
    sums = replace(purchase, refunded_minor=purchase.refunded_minor - data.amount.amount_minor)
    return (e.Draft(data=data, personal=texts), *purchase_drafts(attempt, sums, "sums"))


def close(attempt: Attempt, data: c.CloseData) -> Outcome:
    withdrawn = tuple(one.id for one in attempt.case.proposals if one.is_open)
    return e.Closed(resolution=data.resolution, duplicate_of=data.duplicate_of, withdrawn=withdrawn), {}, ()


def reopen(attempt: Attempt, _: c.ReopenData) -> Outcome:
    return e.Reopened(update_due=attempt.update_due()), {}, ()


OUTCOMES: dict[Trigger, Callable[[Attempt, Any], Outcome]] = {
    Trigger.INVESTIGATE: investigate,
    Trigger.OFFER_ADJUSTMENT: offer_adjustment,
    Trigger.SCHEDULE_CONSULTATION: schedule_consultation,
    Trigger.ISSUE_COMPENSATION: issue_compensation,
    Trigger.REFUND: refund,
    Trigger.RESUME: resume,
    Trigger.CLOSE: close,
    Trigger.REOPEN: reopen,
}


# The purchase and its facts.


def record_purchase(attempt: Attempt, command: c.RecordPurchase) -> Drafts:
    case, stated = attempt.case, command.purchase
    reference = stated.reference if stated else command.reference
    old = case.purchase
    attempt.demand(case_is_open)
    if old is None or reference != old.reference:
        if old is not None and old.has_moved_money:
            raise fixed_by_money("reference_is_fixed", "the reference is fixed, since money has moved on it")
        purchase = purchase_to_link(attempt.context, stated, command.reference, "")
        if purchase is None:
            return ()
        check_purchase_fits(purchase, (case,))
        linked = e.PurchaseChanged(purchase=purchase, change="linked", voids=voidable(case))
        return (e.Draft(data=linked),)
    if stated is None or old.states_the_same_as(stated):
        return ()
    if old.has_moved_money and stated.paid.currency != old.paid.currency:
        raise fixed_by_money("currency_is_fixed", "the currency is fixed, since money has moved on the purchase")
    if stated.paid.amount_minor < old.refunded_minor + old.reserved_minor:
        raise fixed_by_money("paid_covers_refunds", "less would have been paid than is refunded and reserved already")
    purchase = replace(stated, checked=False, refunded_minor=old.refunded_minor, reserved_minor=old.reserved_minor)
    check_purchase_fits(purchase, (case, *attempt.context.linked))
    return purchase_drafts(attempt, purchase, "facts")


def fixed_by_money(code: str, text: str) -> GuardRefused:
    return GuardRefused(Refusal(code=code, text=text))


def check_purchase_fits(purchase: Purchase, cases: tuple[Case, ...]) -> None:
    """No linked case may be left with facts that contradict each other (policy 2.10)."""
    if any(purchase.purchased_at > case.received_at for case in cases):
        raise bad_field("purchased_at", "is after the client's request")
    if any(ground.affected.currency != purchase.paid.currency for case in cases for ground in case.grounds):
        raise bad_field("paid.currency", "is not the currency of the grounds that are recorded")


def check_purchase(attempt: Attempt, command: c.CheckPurchase) -> Drafts:
    attempt.demand(case_is_open, there_is_a_purchase)
    if attempt.case.purchase is None or attempt.case.purchase.checked:
        return ()
    return purchase_drafts(attempt, replace(attempt.case.purchase, checked=True), "check", reason=command.reason)


def purchase_drafts(attempt: Attempt, purchase: Purchase, change: str, **personal: str) -> Drafts:
    """The same fact in the chain of every case that shares the purchase, so that each replays from its own alone."""
    return tuple(
        e.Draft(
            data=e.PurchaseChanged(purchase=purchase, change=change, voids=voidable(case) if change == "facts" else ()),
            personal=personal if case is attempt.case else {},
            chain=case.chain,
        )
        for case in (attempt.case, *attempt.context.linked)
    )


def voidable(case: Case) -> tuple[str, ...]:
    return tuple(one.id for one in case.proposals if one.is_open or one.status is ProposalStatus.PAYING)


# Grounds.


def record_ground(attempt: Attempt, command: c.RecordGround) -> Drafts:
    purchase = attempt.case.purchase
    if purchase is not None and command.affected.currency != purchase.paid.currency:
        raise bad_field("affected.currency", f"differs from what was paid in, {purchase.paid.currency}")
    if any(ground.affected.currency != command.affected.currency for ground in attempt.case.grounds):
        raise bad_field("affected.currency", "differs from the other grounds")
    if len(attempt.case.grounds) >= MAX_GROUNDS:
        raise bad_field("kind", f"the case has {MAX_GROUNDS} grounds already")
    attempt.demand(case_is_open)
    data = e.GroundRecorded(kind=command.kind, affected=command.affected, voids=voidable(attempt.case))
    return (e.Draft(data=data, personal={"statement": command.statement}),)


def verify_ground(attempt: Attempt, command: c.VerifyGround) -> Drafts:
    if attempt.case.ground(command.ground) is None:
        raise NotFound("ground")
    attempt.demand(case_is_open)
    data = e.GroundVerified(ground=command.ground, verified=command.verified, voids=voidable(attempt.case))
    return (e.Draft(data=data, personal={"evidence": command.evidence}),)


# Proposals, verdicts, payouts.


def propose(attempt: Attempt, command: c.Propose) -> Drafts:
    if command.amount.amount_minor == 0:
        raise bad_field("amount.amount", "has to be more than nothing")
    if len(attempt.case.proposals) >= MAX_PROPOSALS:
        raise bad_field("remedy", f"the case has {MAX_PROPOSALS} proposals already")
    if command.remedy is RemedyKind.COMPENSATION:
        return propose_compensation(attempt, command)
    return propose_refund(attempt, command)


def propose_compensation(attempt: Attempt, command: c.Propose) -> Drafts:
    if command.kind is None:
        raise bad_field("kind", "a compensation says what it is: service_credit, extra_service or discount")
    if command.grounds:
        raise bad_field("grounds", "a compensation consumes no grounds")
    attempt.demand(case_is_investigated)
    data = e.Proposed(remedy=command.remedy, amount=command.amount, kind=command.kind)
    return (e.Draft(data=data, personal={"reason": command.reason}),)


def propose_refund(attempt: Attempt, command: c.Propose) -> Drafts:
    case = attempt.case
    if command.kind is not None:
        raise bad_field("kind", "goes with compensations only")
    if case.purchase is not None and command.amount.currency != case.purchase.paid.currency:
        raise bad_field("amount.currency", f"differs from what was paid in, {case.purchase.paid.currency}")
    recognised = attempt.context.policy_for(case).settings.grounds
    check_named_grounds(case, command.grounds, recognised)
    verified = (one for one in case.grounds if one.verified and one.kind in recognised)
    grounds = command.grounds or tuple(one.id for one in sorted(verified, key=lambda one: one.verified_seq))
    attempt.demand(case_is_investigated, there_is_a_purchase, facts_are_checked)
    decision = judged(attempt)
    if not decision.needs_approval:
        grounds = ()  # P5 gives everything back whatever went wrong
    refusal = refuse_amount(case, command.amount, grounds, decision)
    if refusal is not None:
        raise GuardRefused(refusal)
    judgement = Judgement(
        policy=decision.policy,
        refund=decision.refund,
        maximum=decision.maximum,
        needs_approval=decision.needs_approval,
        clauses=tuple(decision.clauses),
        reasons=tuple(one.code for one in decision.reasons),
        facts=case.facts,
    )
    data = e.Proposed(remedy=command.remedy, amount=command.amount, grounds=grounds, judgement=judgement)
    return (e.Draft(data=data, personal={"reason": command.reason}),)


def check_named_grounds(case: Case, named: tuple[str, ...], recognised: tuple[GroundKind, ...]) -> None:
    errors = []
    for index, ground_id in enumerate(named):
        ground = case.ground(ground_id)
        if ground is None:
            errors.append(FieldError(field=f"grounds[{index}]", message="is no ground of this case"))
        elif ground_id in named[:index]:
            errors.append(FieldError(field=f"grounds[{index}]", message="is named twice"))
        elif not ground.verified:
            errors.append(FieldError(field=f"grounds[{index}]", message="has not been verified"))
        elif ground.kind not in recognised:
            message = "is no ground for a refund under the policy of this purchase"
            errors.append(FieldError(field=f"grounds[{index}]", message=message))
    if errors:
        raise BadInput(*errors)


def judged(attempt: Attempt) -> Decision:
    """The policy's decision on the facts as recorded."""
    try:
        return judge(attempt.case, attempt.context)
    except ImpossibleFacts as impossible:
        raise GuardRefused(facts_cannot_be_true(impossible)) from impossible


def give_verdict(attempt: Attempt, command: c.GiveVerdict) -> Drafts:
    proposal = attempt.case.proposal(command.proposal)
    if proposal is None:
        raise NotFound("proposal")
    if command.digest != proposal.digest:
        refusal = Refusal(
            code="digest_matches", text="the digest is not this proposal's; read it again before you decide"
        )
        raise WrongDigest(refusal)
    attempt.demand(*VERDICT_GUARDS[command.verdict], proposal=proposal)
    complete = False
    if command.verdict is Verdict.APPROVE:
        complete = missing_approvals(proposal, attempt.context.settings_now(attempt.now)) <= 1
    data = e.VerdictGiven(
        proposal=proposal.id,
        verdict=command.verdict,
        digest=command.digest,
        roles=in_order(attempt.actor.roles),
        complete=complete,
    )
    return (e.Draft(data=data, personal={"reason": command.reason}),)


def begin_payout(attempt: Attempt, command: c.BeginPayout) -> Drafts:
    """From here on the amount is reserved and the money may leave at any moment."""
    case, proposal = attempt.case, attempt.case.proposal(command.proposal)
    if proposal is None:
        raise NotFound("proposal")
    if proposal.remedy is not RemedyKind.REFUND:
        raise GuardRefused(Refusal(code="proposal_is_of_this_remedy", text="only a refund is paid out"))
    attempt.demand(
        case_is_investigated,
        there_is_a_purchase,
        proposal_is_not_void,
        proposal_is_open,
        proposal_is_approved,
        settled_by_another_person,
        facts_are_checked,
        within_maximum,
        no_payout_under_way,
        proposal=proposal,
    )
    data = e.PayoutBegun(proposal=proposal.id, amount=proposal.amount)
    return (
        e.Draft(data=data, personal={"reason": command.reason}),
        *purchase_drafts(attempt, reserve(case, proposal.amount.amount_minor), "sums"),
    )


def fail_payout(attempt: Attempt, command: c.FailPayout) -> Drafts:
    case, proposal = attempt.case, attempt.case.proposal(command.proposal)
    if proposal is None:
        raise NotFound("proposal")
    if proposal.status is not ProposalStatus.PAYING:
        raise GuardRefused(Refusal(code="payout_is_under_way", text="no payout of this proposal is under way"))
    attempt.demand(payment_is_not_with_the_provider, proposal=proposal)
    return (
        e.Draft(data=e.PayoutFailed(proposal=proposal.id), personal={"reason": command.reason}),
        *purchase_drafts(attempt, reserve(case, -proposal.amount.amount_minor), "sums"),
    )


def reverse_payment(attempt: Attempt, command: c.ReversePayment) -> Drafts:
    """Whatever became of the case since, the books are right again."""
    proposal = attempt.case.proposal(command.proposal)
    if proposal is None:
        raise NotFound("proposal")
    reference = command.payment_reference
    attempt.demand(
        refund_was_paid,
        case_stands_without_it,
        reversed_by_another_person,
        provider_reverses_its_own_refund,
        proposal=proposal,
        data=c.ResumeData(reason_code=ResumeReason.PAYMENT_FAILED, payment_reference=reference),
    )
    data = e.PaymentReversed(proposal=proposal.id, amount=proposal.amount, payment_reference=reference)
    return reversal(attempt, data, {"reason": command.reason})


def reserve(case: Case, amount_minor: int) -> Purchase:
    if case.purchase is None:  # the guards have seen to it
        raise NotFound("purchase")
    return replace(case.purchase, reserved_minor=case.purchase.reserved_minor + amount_minor)


def withdraw_proposal(attempt: Attempt, command: c.WithdrawProposal) -> Drafts:
    proposal = attempt.case.proposal(command.proposal)
    if proposal is None:
        raise NotFound("proposal")
    attempt.demand(proposal_is_open, proposal=proposal)
    return (e.Draft(data=e.ProposalWithdrawn(proposal=proposal.id), personal={"reason": command.reason}),)


# The case itself.


def assign(attempt: Attempt, command: c.Assign) -> Drafts:
    if command.assignee is not None:
        refusal = refuse_assignee(attempt.context.people, command.assignee)
        if refusal is not None:
            raise GuardRefused(refusal)
    attempt.demand(case_is_open)
    if command.assignee == attempt.case.assignee:
        return ()
    return (e.Draft(data=e.Assigned(assignee=command.assignee), personal=only_given(reason=command.reason)),)


def recategorize(attempt: Attempt, command: c.Recategorize) -> Drafts:
    attempt.demand(case_is_open)
    if command.category is attempt.case.category:
        return ()
    data = e.Recategorized(category=command.category, voids=voidable(attempt.case))
    return (e.Draft(data=data, personal=only_given(reason=command.reason)),)


def correct_requested_at(attempt: Attempt, command: c.CorrectRequestedAt) -> Drafts:
    case = attempt.case
    if command.requested_at > attempt.now:
        raise bad_field("requested_at", "is in the future")
    if case.purchase is not None and command.requested_at < case.purchase.purchased_at:
        raise bad_field("requested_at", "is before the purchase")
    attempt.demand(case_is_open)
    if command.requested_at == case.received_at:
        return ()
    data = e.RequestedAtCorrected(requested_at=command.requested_at, voids=voidable(case))
    return (e.Draft(data=data, personal={"reason": command.reason}),)


def set_participants(_: Attempt, command: c.SetParticipants) -> Drafts:
    addresses = tuple(dict.fromkeys(command.participants))
    if len(addresses) > MAX_PARTICIPANTS:
        raise bad_field("participants", f"at most {MAX_PARTICIPANTS} addresses")
    personal = {f"participant_{index}": address for index, address in enumerate(addresses)}
    return (e.Draft(data=e.ParticipantsSet(count=len(addresses)), personal=personal),)


# The conversation.


def add_note(_: Attempt, command: c.AddNote) -> Drafts:
    return (e.Draft(data=e.NoteAdded(), personal={"text": command.text}),)


def add_message(attempt: Attempt, command: c.AddMessage) -> Drafts:
    if command.direction is Direction.INBOUND and command.awaits_reply:
        raise bad_field("awaits_reply", "only a message to the client can await a reply")
    if command.direction is Direction.INBOUND and command.letter is not None:
        raise bad_field("letter", "only a message to the client can be one")
    data: e.EventData = (
        e.MessageReceived(update_due=attempt.update_due())
        if command.direction is Direction.INBOUND
        else message_sent(attempt, command)
    )
    message = f"m{attempt.case.version + 1}"
    given = only_given(subject=command.subject, sender=command.sender, message_id=command.message_id)
    personal = {"text": command.text, **given}
    return (
        e.Draft(data=data, personal=personal),
        *(attached(one, message) for one in command.attachments),
        *fresh_link(attempt, command.link if command.direction is Direction.OUTBOUND else None),
    )


def message_sent(attempt: Attempt, command: c.AddMessage) -> e.MessageSent:
    letter = command.letter
    sent = e.MessageSent(awaits_reply=command.awaits_reply, update_due=attempt.update_due())
    if letter is None:
        return sent
    attempt.demand(letter_states_what_is_recorded, letter=letter)
    return replace(sent, letter=letter.kind, basis=letter.basis, language=letter.language)


def fresh_link(attempt: Attempt, link: c.NewLink | None) -> Drafts:
    """The one that came along, unless an earlier one for letters is good for a while, or there are too many."""
    good = [one for one in attempt.case.issued_links if one.is_good(attempt.now)]
    lasts = any(one.letters is True and one.is_good(attempt.now + LINK_LASTS) for one in good)
    if link is None or lasts or len(good) >= MAX_CLIENT_LINKS:
        return ()
    return (link_for_letters(link),)


def link_for_letters(link: c.NewLink) -> e.Draft:
    commitment = token_commitment(link.secret_hash)
    data = e.ClientLinkIssued(link=link.link_id, commitment=commitment, expires_at=link.expires_at, letters=True)
    return e.Draft(data=data)


def record_bounce(attempt: Attempt, command: c.RecordBounce) -> Drafts:
    """Of any letter; but only that of an answer which stands leaves the client without one."""
    if command.message not in {f"m{seq}" for seq in range(1, attempt.case.version + 1)}:
        raise NotFound("message")
    update_due = None
    if command.mail is MailKind.MESSAGE and command.message in {f"m{seq}" for seq in attempt.case.answers}:
        update_due = attempt.now + timedelta(hours=attempt.context.settings_now(attempt.now).first_answer_hours)
    data = e.MessageBounced(message=command.message, mail=command.mail, update_due=update_due)
    return (e.Draft(data=data, personal=only_given(reason=command.reason)),)


def answer_offer(attempt: Attempt, command: c.AnswerOffer) -> Drafts:
    """Of the very offer that was read: another one may have come since."""
    offer = attempt.case.open_offer
    attempt.demand(offer_can_be_answered)
    if offer is None or offer.seq != command.offer:
        raise GuardRefused(Refusal(code="offer_is_the_last", text="the offer was replaced by another one"))
    data = e.OfferAnswered(offer=offer.seq, accepted=command.accepted, update_due=attempt.update_due())
    return (e.Draft(data=data, personal=only_given(text=command.text)),)


def waive_answer(attempt: Attempt, command: c.WaiveAnswer) -> Drafts:
    if command.message not in {f"m{seq}" for seq in attempt.case.client_messages}:
        raise NotFound("message")
    return (e.Draft(data=e.AnswerWaived(message=command.message), personal={"reason": command.reason}),)


def add_attachment(_: Attempt, command: c.AddAttachment) -> Drafts:
    return (attached(command.attachment, None),)


def attached(attachment: NewAttachment, message: str | None) -> e.Draft:
    data = e.AttachmentAdded(
        attachment=attachment.id,
        content_type=attachment.content_type,
        size=len(attachment.content),
        problem=attachment.problem,
        message=message,
    )
    return e.Draft(data=data, personal={"name": attachment.name}, attachment=attachment)


def link_case(attempt: Attempt, command: c.LinkCase) -> Drafts:
    if command.case == attempt.case.id or command.case not in attempt.context.known_cases:
        raise bad_field("case", "is no other case of this desk")
    if any(link.case == command.case and link.kind is command.kind for link in attempt.case.links):
        return ()
    return (e.Draft(data=e.Linked(kind=command.kind, case=command.case)),)


# Consultations, beside their booking.


def check_slot(attempt: Attempt, starts_at: datetime, minutes: int, at: str = "") -> None:
    """`at` prefixes the field names of errors."""
    if not attempt.now < starts_at <= attempt.now + FURTHEST:
        raise bad_field(f"{at}starts_at", f"has to be in the future, at most {FURTHEST.days} days ahead")
    if not 0 < minutes <= MAX_CONSULTATION_MINUTES:
        raise bad_field(f"{at}minutes", f"has to be from 1 to {MAX_CONSULTATION_MINUTES}")


def propose_slots(attempt: Attempt, command: c.ProposeSlots) -> Drafts:
    """In place of those proposed before. Whether one is free still is asked when it is picked."""
    slots, last = tuple(sorted(command.slots)), attempt.now + FURTHEST
    if not 0 < len(slots) <= MAX_SLOTS:
        raise bad_field("slots", f"has to be 1 to {MAX_SLOTS} times")
    if len({*slots}) < len(slots):
        raise bad_field("slots", "names a time twice")
    if not attempt.now < slots[0] <= slots[-1] <= last:
        raise bad_field("slots", f"have to be in the future, at most {FURTHEST.days} days ahead")
    if any(one.second or one.microsecond for one in slots):
        raise bad_field("slots", "have to begin with a minute")
    if not 0 < command.minutes <= MAX_CONSULTATION_MINUTES:
        raise bad_field("minutes", f"has to be from 1 to {MAX_CONSULTATION_MINUTES}")
    attempt.demand(case_is_investigated, no_payout_under_way)
    host = host_of(attempt.case, attempt.actor.id)
    data = e.SlotsProposed(slots=slots, minutes=command.minutes, host=host, update_due=attempt.update_due())
    personal = {"channel": command.channel, **only_given(remark=command.text)}
    return (e.Draft(data=data, personal=personal), *fresh_link(attempt, command.link))


def move_consultation(attempt: Attempt, command: c.MoveConsultation) -> Drafts:
    """Whoever holds it goes on holding it."""
    check_slot(attempt, command.starts_at, command.minutes)
    wanted = c.ScheduleConsultationData(starts_at=command.starts_at, minutes=command.minutes, channel=command.channel)
    attempt.demand(consultation_is_booked, client_has_not_come, no_other_consultation_overlaps, data=wanted)
    data = e.ConsultationMoved(
        starts_at=command.starts_at, minutes=command.minutes, host=attempt.case.remedies[-1].host or ""
    )
    return (e.Draft(data=data, personal={"channel": command.channel, "reason": command.reason}),)


def record_attendance(attempt: Attempt, command: c.RecordAttendance) -> Drafts:
    attempt.demand(consultation_is_booked, consultation_has_begun)
    if attempt.case.remedies[-1].attended is command.attended and not command.text:
        return ()
    return (e.Draft(data=e.ConsultationAttended(attended=command.attended), personal=only_given(remark=command.text)),)


# The links by which the client sees the case.


def issue_client_link(attempt: Attempt, command: c.IssueClientLink) -> Drafts:
    if not attempt.now < command.expires_at <= attempt.now + LONGEST_CLIENT_LINK:
        days = LONGEST_CLIENT_LINK.days
        raise bad_field("expires_at", f"has to be in the future, at most {days} days ahead")
    if attempt.case.client_link(command.link_id) is not None:
        raise bad_field("link_id", "is a link of this case already")
    if sum(one.is_good(attempt.now) for one in attempt.case.issued_links) >= MAX_CLIENT_LINKS:
        text = f"the case has {MAX_CLIENT_LINKS} links already; revoke one first"
        raise GuardRefused(Refusal(code="client_links_are_few", text=text, who=in_order(WORKERS)))
    commitment = token_commitment(command.secret_hash)
    return (
        e.Draft(data=e.ClientLinkIssued(link=command.link_id, commitment=commitment, expires_at=command.expires_at)),
    )


def revoke_client_link(attempt: Attempt, command: c.RevokeClientLink) -> Drafts:
    if attempt.case.client_link(command.link_id) is None:
        raise NotFound("link")
    return (e.Draft(data=e.ClientLinkRevoked(link=command.link_id), personal=only_given(reason=command.reason)),)


# What is kept of the client.


def place_hold(attempt: Attempt, command: c.PlaceHold) -> Drafts:
    if attempt.case.is_held:
        return ()
    return (e.Draft(data=e.HoldPlaced(), personal={"reason": command.reason}),)


def release_hold(attempt: Attempt, command: c.ReleaseHold) -> Drafts:
    attempt.demand(a_hold_stands)
    return (e.Draft(data=e.HoldReleased(), personal={"reason": command.reason}),)


def erase(attempt: Attempt, command: c.Erase) -> Drafts:
    """What is gone stays gone, hold or not; else a hold refuses, and the time that data have to be kept delays."""
    case, now, kept = attempt.case, attempt.now, attempt.context.kept
    if command.reapplies:
        done = command.reapplies in case.carried_out_erasures
        return () if done else (erased(case.version, kept, command, overridden=False),)
    if not kept:
        return ()
    attempt.demand(no_hold_stands)
    days = attempt.context.settings_now(now).kept_days
    due_at = case.erasure_due(days)
    is_due = due_at is not None and due_at <= now
    if is_due or command.override:
        return (erased(case.version, kept, command, overridden=not is_due),)
    if case.erasure_request is not None:
        return ()
    data = e.ErasureRequested(legal_basis=command.legal_basis, retention_days=days, due_at=due_at)
    return (e.Draft(data=data, personal=only_given(reason=command.reason)),)


def erase_mail(
    history: Sequence[e.Recorded], kept: tuple[tuple[int, str], ...], command: c.Erase, actor: Actor
) -> e.Draft | None:
    """What becomes of a mail that was set aside; nothing where nothing is left of it. Raises Forbidden."""
    forbid_unless(actor, roles_of(command, None, actor), command)
    done = {one.data.reapplies or one.hash for one in history if isinstance(one.data, e.Erased)}
    if command.reapplies in done or not (kept or command.reapplies):
        return None
    return erased(history[-1].event.seq, kept, command, overridden=False)


def erased(through: int, kept: tuple[tuple[int, str], ...], command: c.Erase, *, overridden: bool) -> e.Draft:
    by_field: dict[str, list[int]] = {}
    for seq, field in kept:
        by_field.setdefault(field, []).append(seq)
    fields = tuple(e.ErasedField(field=field, seqs=spans(seqs)) for field, seqs in sorted(by_field.items()))
    files = len(by_field.get("content", ()))
    data = e.Erased(
        legal_basis=command.legal_basis,
        through=through,
        texts=len(kept) - files,
        files=files,
        fields=fields if sum(len(one.seqs) + len(one.field) for one in fields) <= MAX_SCOPE_CHARACTERS else (),
        overridden=overridden,
        reapplies=command.reapplies,
    )
    return e.Draft(data=data, personal=only_given(reason=command.reason))


def spans(seqs: list[int]) -> str:
    """Such as `1-3,7`."""
    found: list[list[int]] = []
    for seq in sorted({*seqs}):
        if found and found[-1][1] == seq - 1:
            found[-1][1] = seq
        else:
            found.append([seq, seq])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def only_given(**texts: str) -> dict[str, str]:
    return {field: text for field, text in texts.items() if text}


def desk_zone(attempt: Attempt) -> tzinfo:
    return zone(attempt.context.settings_now(attempt.now).timezone)


DECISIONS: dict[type[c.Command], Callable[[Attempt, Any], Drafts]] = {
    c.Fire: fire_trigger,
    c.RecordPurchase: record_purchase,
    c.CheckPurchase: check_purchase,
    c.RecordGround: record_ground,
    c.VerifyGround: verify_ground,
    c.Propose: propose,
    c.GiveVerdict: give_verdict,
    c.BeginPayout: begin_payout,
    c.FailPayout: fail_payout,
    c.ReversePayment: reverse_payment,
    c.WithdrawProposal: withdraw_proposal,
    c.Assign: assign,
    c.Recategorize: recategorize,
    c.CorrectRequestedAt: correct_requested_at,
    c.SetParticipants: set_participants,
    c.AddNote: add_note,
    c.AddMessage: add_message,
    c.RecordBounce: record_bounce,
    c.AnswerOffer: answer_offer,
    c.WaiveAnswer: waive_answer,
    c.ProposeSlots: propose_slots,
    c.MoveConsultation: move_consultation,
    c.RecordAttendance: record_attendance,
    c.AddAttachment: add_attachment,
    c.LinkCase: link_case,
    c.IssueClientLink: issue_client_link,
    c.RevokeClientLink: revoke_client_link,
    c.PlaceHold: place_hold,
    c.ReleaseHold: release_hold,
    c.Erase: erase,
}

COMMAND_ROLES: dict[type[c.Command], frozenset[Role]] = {
    c.OpenCase: INTAKE,
    c.RecordPurchase: RECORDERS,
    c.CheckPurchase: RECORDERS,
    c.RecordGround: RECORDERS,
    c.VerifyGround: RECORDERS,
    c.Propose: RECORDERS,
    c.GiveVerdict: APPROVERS,
    c.BeginPayout: PAYERS,
    c.FailPayout: SETTLERS,
    c.ReversePayment: SETTLERS,
    c.WithdrawProposal: RECORDERS,
    c.Assign: WORKERS,
    c.Recategorize: RECORDERS,
    c.CorrectRequestedAt: frozenset({Role.LEAD}),
    c.SetParticipants: RECORDERS,
    c.AddNote: RECORDERS,
    c.AddMessage: INTAKE,  # and the client, of their own
    c.RecordBounce: INTAKE,
    c.AnswerOffer: CLIENTS,
    c.WaiveAnswer: RECORDERS,
    c.ProposeSlots: WORKERS,
    c.MoveConsultation: WORKERS,
    c.RecordAttendance: WORKERS,
    c.AddAttachment: INTAKE,
    c.LinkCase: RECORDERS,
    c.IssueClientLink: LINKERS,
    c.RevokeClientLink: LINKERS,
    c.PlaceHold: HOLDERS,
    c.ReleaseHold: HOLDERS,
    c.Erase: ERASERS,
}

REQUIRED_TEXTS: dict[type[c.Command | c.TriggerData], tuple[str, ...]] = {
    c.Fire: ("reason",),
    c.OfferAdjustmentData: ("description",),
    c.ScheduleConsultationData: ("channel",),
    c.RefundData: ("payment_reference",),
    c.CheckPurchase: ("reason",),
    c.RecordGround: ("statement",),
    c.VerifyGround: ("evidence",),
    c.Propose: ("reason",),
    c.GiveVerdict: ("reason",),
    c.BeginPayout: ("reason",),
    c.FailPayout: ("reason",),
    c.ReversePayment: ("reason",),
    c.WithdrawProposal: ("reason",),
    c.CorrectRequestedAt: ("reason",),
    c.WaiveAnswer: ("reason",),
    c.ProposeSlots: ("channel",),
    c.MoveConsultation: ("channel", "reason"),
    c.PlaceHold: ("reason",),
    c.ReleaseHold: ("reason",),
    c.Erase: ("legal_basis",),
}
