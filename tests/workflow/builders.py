"""People, cases and a small desk: what a test of casework begins with.

Nothing here invents a case: each is folded from events that `decide` returned, as a ledger would do it.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from workflow import commands as c
from workflow.canonical import ZEROS, canonical, leaf_hash
from workflow.cases import Case, Ground, Proposal, Purchase, booked_slot, chain_of, host_of
from workflow.deciding import decide
from workflow.errors import BadInput, GuardRefused
from workflow.events import Draft, Event, Recorded, at_text
from workflow.guards import Context, Slot
from workflow.lifecycle import LIFECYCLE
from workflow.money import Money, parse_money
from workflow.people import Person
from workflow.policy import Category, GroundKind, PolicyVersion, first_version
from workflow.replaying import evolve
from workflow.roles import Actor, Role, system_actor
from workflow.states import (
    CaseState,
    CompensationKind,
    Direction,
    RemedyKind,
    Resolution,
    ResumeReason,
    Trigger,
    Verdict,
)

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)


def somebody(name: str, *roles: Role) -> Actor:
    return Actor(kind="person", id=name, roles=frozenset(roles))


ANA = somebody("ana", Role.AGENT)
BO = somebody("bo", Role.AGENT)
LOU = somebody("lou", Role.LEAD)
CLEO = somebody("cleo", Role.APPROVER)
DIRK = somebody("dirk", Role.APPROVER)
ELI = somebody("eli", Role.APPROVER)
AUDREY = somebody("audrey", Role.AUDITOR)
ADAM = somebody("adam", Role.ADMIN)
STAFF = (ANA, BO, LOU, CLEO, DIRK, ELI, AUDREY, ADAM)

MAIL = system_actor("mail")
PROVIDER = system_actor("payments")
# Una comes by the link that `a_link` makes.
UNA = Actor(kind="client", id="una", roles=frozenset({Role.CLIENT}))


def as_person(actor: Actor) -> Person:
    return Person(
        id=actor.id,
        version=1,
        head=ZEROS,
        roles=tuple(role for role in Role if role in actor.roles),
        name="1/name",
        email="1/email",
        changed_at=NOON - 365 * DAY,
    )


PEOPLE: Mapping[str, Person] = {one.id: as_person(one) for one in STAFF}
V1 = first_version()


def euros(amount: str) -> Money:
    return parse_money(amount, "EUR")


def a_purchase(amount: str = "20000.00", currency: str = "EUR", **changes: Any) -> Purchase:
    """Bought a month ago and delivered since, so that only grounds count (P6)."""
    purchase = Purchase(
        reference="D-1",
        package="launch",
        paid=parse_money(amount, currency),
        purchased_at=NOON - 30 * DAY,
        service_started_at=NOON - 28 * DAY,
        deliverables_provided_at=NOON - 20 * DAY,
    )
    return replace(purchase, **changes)


def a_fresh_purchase(amount: str = "590.00", **changes: Any) -> Purchase:
    """Bought two days ago, nothing delivered: the client may have all of it back (P5)."""
    fresh = {"purchased_at": NOON - 2 * DAY, "service_started_at": None, "deliverables_provided_at": None}
    return a_purchase(amount, **(fresh | changes))


def an_opening(case_id: str = "A", **changes: Any) -> c.OpenCase:
    opening = c.OpenCase(
        case_id=case_id,
        mail_tag=f"TAG{case_id}",
        subject="The banners",
        message="They never ran.",
        client_name="Una",
        client_email="una@example.com",
        category=Category.BILLING,
        purchase=a_purchase(),
    )
    return replace(opening, **changes)


def a_context(**changes: Any) -> Context:
    context = Context(policies=(V1,), people=PEOPLE, next_number=1, known_cases=frozenset({"A", "B"}))
    return replace(context, **changes)


DATA: dict[Trigger, dict[str, Any]] = {
    Trigger.INVESTIGATE: {},
    Trigger.OFFER_ADJUSTMENT: {"description": "another audience", "answer_by": (NOON + 7 * DAY).date()},
    Trigger.SCHEDULE_CONSULTATION: {"starts_at": NOON + 3 * DAY, "minutes": 30, "channel": "by phone"},
    Trigger.ISSUE_COMPENSATION: {},
    Trigger.REFUND: {"payment_reference": "TR-1"},
    Trigger.RESUME: {"reason_code": ResumeReason.INSUFFICIENT},
    Trigger.CLOSE: {},
    Trigger.REOPEN: {},
}


def firing(trigger: Trigger, reason: str = "as agreed", **data: Any) -> c.Fire:
    return c.Fire(trigger=trigger, reason=reason, data=c.TRIGGER_DATA[trigger](**(DATA[trigger] | data)))


def closing(resolution: Resolution = Resolution.EXPLAINED, duplicate_of: str | None = None) -> c.Fire:
    return firing(Trigger.CLOSE, resolution=resolution, duplicate_of=duplicate_of)


def a_letter(text: str = "We have looked into it.", **changes: Any) -> c.AddMessage:
    return replace(c.AddMessage(direction=Direction.OUTBOUND, text=text), **changes)


def from_the_client(text: str = "And the second banner?") -> c.AddMessage:
    return c.AddMessage(direction=Direction.INBOUND, text=text)


def a_link(client: Actor = UNA, until: datetime = NOON + 90 * DAY) -> c.IssueClientLink:
    """By which this client comes."""
    return c.IssueClientLink(link_id=client.id, secret_hash=f"#{client.id}", expires_at=until)


def answers(case: Case, *, accepted: bool, text: str = "") -> c.AnswerOffer:
    """The last offer."""
    return c.AnswerOffer(offer=case.remedies[-1].seq, accepted=accepted, text=text)


SLOTS = (NOON + 3 * DAY, NOON + 4 * DAY)


def proposes_slots(*slots: datetime, **changes: Any) -> c.ProposeSlots:
    return replace(c.ProposeSlots(slots=slots or SLOTS, minutes=30, channel="by phone"), **changes)


def picks(case: Case, slot: datetime = SLOTS[0], **changes: Any) -> c.Fire:
    """One of the slots that were proposed last."""
    proposed = case.proposed_slots
    about = {"slot_of": proposed.seq, "minutes": proposed.minutes} if proposed else {"slot_of": 1}
    return firing(Trigger.SCHEDULE_CONSULTATION, starts_at=slot, **(about | changes))


def moves(starts_at: datetime = NOON + 5 * DAY, **changes: Any) -> c.MoveConsultation:
    moving = c.MoveConsultation(starts_at=starts_at, minutes=30, channel="by video", reason="Una is away that day")
    return replace(moving, **changes)


def begins(proposal: Proposal) -> c.BeginPayout:
    return c.BeginPayout(proposal=proposal.id, reason="paid by transfer")


def fails(proposal: Proposal) -> c.FailPayout:
    return c.FailPayout(proposal=proposal.id, reason="the account is closed")


def refunds(proposal: Proposal) -> c.Fire:
    return firing(Trigger.REFUND, proposal=proposal.id)


def approves(proposal: Proposal) -> c.GiveVerdict:
    return c.GiveVerdict(proposal=proposal.id, verdict=Verdict.APPROVE, digest=proposal.digest, reason="it is due")


def refuses(proposal: Proposal) -> c.GiveVerdict:
    return replace(approves(proposal), verdict=Verdict.REFUSE)


def proposes(amount: Money, grounds: tuple[str, ...] = ()) -> c.Propose:
    return c.Propose(remedy=RemedyKind.REFUND, amount=amount, grounds=grounds, reason="the error is ours")


def proposes_credit(amount: Money) -> c.Propose:
    return c.Propose(
        remedy=RemedyKind.COMPENSATION, amount=amount, kind=CompensationKind.SERVICE_CREDIT, reason="for the trouble"
    )


def restates(purchase: Purchase | None, **changes: Any) -> c.RecordPurchase:
    """The same purchase with other facts."""
    assert purchase is not None
    return c.RecordPurchase(purchase=replace(purchase, **changes))


CHECK = c.CheckPurchase(reason="compared with the books")
MONEY_CAME_BACK = firing(Trigger.RESUME, reason_code=ResumeReason.PAYMENT_FAILED)


class Desk:
    """A ledger in memory: decides each command, gives the events their place in the chains, folds the cases."""

    def __init__(self, *policies: PolicyVersion, people: Mapping[str, Person] = PEOPLE, now: datetime = NOON) -> None:
        self.policies = policies or (V1,)
        self.people = people
        self.now = now
        self.cases: dict[str, Case] = {}
        self.purchases: dict[str, Purchase] = {}
        self.histories: dict[str, list[Recorded]] = {}

    @property
    def case(self) -> Case:
        return self.cases["A"]

    @property
    def events(self) -> int:
        return sum(map(len, self.histories.values()))

    def do(self, actor: Actor, command: c.Command, case_id: str = "A") -> Case:
        """The case after the command. Raises what `decide` raises, and then nothing has changed."""
        case = self.cases.get(case_id)
        context = self.context(actor, command, case)
        after = [one.changed_at + MICROSECOND for one in (*context.linked, *([case] if case else ()))]
        at = max([self.now, *after])
        for draft in decide(case, context, command, actor, at):
            self.record(draft, draft.chain or chain_of(case_id), actor, at)
        return self.cases[case_id]

    def context(self, actor: Actor, command: c.Command, case: Case | None) -> Context:
        named = None
        if isinstance(command, c.OpenCase):
            named = command.purchase.reference if command.purchase else command.purchase_reference
        if isinstance(command, c.RecordPurchase):
            named = command.purchase.reference if command.purchase else command.reference
        host = host_of(case, actor.id, getattr(getattr(command, "data", None), "slot_of", None))
        if isinstance(command, c.MoveConsultation) and case is not None and (booked := booked_slot(case)) is not None:
            host = booked[0]
        others = [one for one in self.cases.values() if case is None or one.id != case.id]
        return Context(
            policies=self.policies,
            people=self.people,
            next_number=len(self.cases) + 1,
            known_purchase=self.purchases.get(named) if named else None,
            linked=tuple(one for one in others if case and shared(one, case)),
            calendar=tuple(slot for one in others if (slot := slot_of(one, host)) is not None),
            known_cases=frozenset(self.cases),
        )

    def record(self, draft: Draft, chain: str, actor: Actor, at: datetime) -> None:
        case_id = chain.removeprefix("case:")
        case = self.cases.get(case_id)
        recorded = sealed(draft, chain, case, actor, at)
        after = evolve(case, recorded)
        self.histories.setdefault(case_id, []).append(recorded)
        self.cases[case_id] = after
        if after.purchase is not None:
            self.purchases[after.purchase.reference] = after.purchase

    # What tests do again and again.

    def open(self, case_id: str = "A", by: Actor = MAIL, **changes: Any) -> Case:
        return self.do(by, an_opening(case_id, **changes), case_id)

    def investigate(self, case_id: str = "A", by: Actor = ANA) -> Case:
        return self.do(by, firing(Trigger.INVESTIGATE), case_id)

    def ground(
        self,
        affected: Money,
        case_id: str = "A",
        kind: GroundKind = GroundKind.BILLING_ERROR,
        recorded_by: Actor = ANA,
        verified_by: Actor | None = BO,
    ) -> Ground:
        recording = c.RecordGround(kind=kind, affected=affected, statement="charged twice")
        ground = self.do(recorded_by, recording, case_id).grounds[-1]
        if verified_by is not None:
            self.do(verified_by, verifies(ground), case_id)
        return self.cases[case_id].grounds[-1]

    def propose(self, amount: Money, by: Actor = ANA, case_id: str = "A", *, credit: bool = False) -> Proposal:
        command = proposes_credit(amount) if credit else proposes(amount)
        return self.do(by, command, case_id).proposals[-1]

    def approve(self, proposal: Proposal, by: Actor = CLEO, case_id: str = "A") -> Proposal:
        return self.read(self.do(by, approves(proposal), case_id), proposal)

    def proposal(self, proposal: Proposal, case_id: str = "A") -> Proposal:
        """As it stands now."""
        return self.read(self.cases[case_id], proposal)

    @staticmethod
    def read(case: Case, proposal: Proposal) -> Proposal:
        return next(one for one in case.proposals if one.id == proposal.id)


def refusal(desk: Desk, actor: Actor, command: c.Command, case_id: str = "A") -> set[str]:
    """The codes of every reason the guards give; a refused command has changed nothing."""
    before = dict(desk.cases)
    with pytest.raises(GuardRefused) as refused:
        desk.do(actor, command, case_id)
    assert desk.cases == before
    return refused.value.codes


def wrong_fields(desk: Desk, actor: Actor, command: c.Command, case_id: str = "A") -> list[str]:
    """The fields that bad input is told to correct."""
    before = dict(desk.cases)
    with pytest.raises(BadInput) as bad:
        desk.do(actor, command, case_id)
    assert desk.cases == before
    return [error.field for error in bad.value.errors]


def verifies(ground: Ground, *, verified: bool = True) -> c.VerifyGround:
    return c.VerifyGround(ground=ground.id, verified=verified, evidence="the statement of the bank")


def shared(one: Case, other: Case) -> bool:
    return (
        one.purchase is not None and other.purchase is not None and one.purchase.reference == other.purchase.reference
    )


def slot_of(case: Case, host: str) -> Slot | None:
    slot = booked_slot(case)
    return Slot(case=case.id, starts_at=slot[1], ends_at=slot[2]) if slot and slot[0] == host else None


def sealed(draft: Draft, chain: str, case: Case | None, actor: Actor, at: datetime) -> Recorded:
    """The event in its place. Its commitments are plain hashes: tests keep no secrets."""
    before = case.state.value if case else None
    event = Event(
        v=1,
        log="test",
        chain=chain,
        seq=case.version + 1 if case else 1,
        prev=case.head if case else ZEROS,
        type=draft.type,
        state_before=before,
        state_after=draft.state_after.value if draft.state_after else before,
        lifecycle=LIFECYCLE,
        policy=1,
        at=at_text(at),
        actor=actor.key,
        via="api",
        request="r1",
        data=draft.data,
        personal={field: hashlib.sha256(text.encode()).hexdigest() for field, text in draft.personal.items()},
        trigger=draft.trigger,
        guards=draft.guards,
    )
    return Recorded(event=event, data=draft.data, hash=leaf_hash(canonical(event)))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal to be made of a case: by whom, and approved by whom."""

    amount: Money
    proposed_by: Actor
    approved_by: tuple[Actor, ...]
    credit: bool

    def carry_out(self, desk: Desk) -> None:
        proposal = desk.propose(self.amount, self.proposed_by, credit=self.credit)
        for approver in self.approved_by:
            desk.approve(proposal, approver)


def a_refund(amount: str = "300.00", proposed_by: Actor = ANA) -> Plan:
    return Plan(amount=euros(amount), proposed_by=proposed_by, approved_by=(), credit=False)


def an_approved_refund(
    amount: str = "300.00", proposed_by: Actor = ANA, approved_by: tuple[Actor, ...] = (CLEO,)
) -> Plan:
    return replace(a_refund(amount, proposed_by), approved_by=approved_by)


def an_approved_credit(
    amount: str = "50.00", proposed_by: Actor = ANA, approved_by: tuple[Actor, ...] = (CLEO,)
) -> Plan:
    return Plan(amount=euros(amount), proposed_by=proposed_by, approved_by=approved_by, credit=True)


# As a_desk names what it records: after the fifth event, and the proposal after the seventh.
FIRST_GROUND = "g5"
FIRST_PROPOSAL = "p7"


def a_desk(*policies: PolicyVersion, affected: str | None = "8000.00", **opening: Any) -> Desk:
    """Case A under investigation by Ana; of 20 000.00 EUR paid, an error over `affected` is proven."""
    desk = Desk(*policies)
    purchase = desk.open(**opening).purchase
    desk.investigate()
    if purchase is not None:
        desk.do(ANA, CHECK)
        if affected is not None:
            desk.ground(parse_money(affected, purchase.paid.currency))
    return desk


def a_fresh_desk() -> Desk:
    """Case A under investigation by Ana; all of 590.00 EUR is due under P5."""
    return a_desk(affected=None, purchase=a_fresh_purchase())


def a_case(state: CaseState = CaseState.INVESTIGATING, proposal: Plan | None = None, **opening: Any) -> Case:
    """A case that was led to this state, with the proposal made on the way."""
    if state is CaseState.OPENED:
        return Desk().open(**opening)
    desk = a_desk(**opening)
    if proposal is not None:
        proposal.carry_out(desk)
    lead_to(state, desk)
    return desk.case


def lead_to(state: CaseState, desk: Desk) -> None:
    """From investigating."""
    match state:
        case CaseState.ADJUSTMENT_OFFERED:
            desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))
        case CaseState.CONSULTATION_SCHEDULED:
            desk.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION))
        case CaseState.COMPENSATION_ISSUED:
            an_approved_credit().carry_out(desk)
            desk.do(ANA, firing(Trigger.ISSUE_COMPENSATION, proposal=desk.case.proposals[-1].id))
        case CaseState.REFUNDED:
            an_approved_refund().carry_out(desk)
            desk.do(DIRK, refunds(desk.case.proposals[-1]))
        case CaseState.CLOSED:
            desk.do(ANA, a_letter())
            desk.do(ANA, closing())
        case _:
            pass


def a_ready_desk(state: CaseState) -> Desk:
    """A case in this state that nothing but state and role keeps from whatever is fired."""
    if state is CaseState.OPENED:
        desk = Desk()
        desk.open()
    else:
        desk = a_desk()
        an_approved_refund().carry_out(desk)
        an_approved_credit().carry_out(desk)
        lead_to(state, desk)
    desk.do(ANA, a_letter())
    return desk
