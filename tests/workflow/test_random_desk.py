"""Whatever several people do to cases that share a purchase, in whatever order: what must always hold, holds."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from random import Random
from typing import Any

import msgspec
import pytest
import rfc8785
from msgspec.structs import replace

from tests.workflow.builders import (
    ADAM,
    ANA,
    AUDREY,
    BO,
    CHECK,
    CLEO,
    DAY,
    DIRK,
    LOU,
    MAIL,
    NOON,
    PEOPLE,
    PROVIDER,
    UNA,
    V1,
    Desk,
    a_letter,
    a_link,
    a_purchase,
    approves,
    as_person,
    begins,
    closing,
    euros,
    fails,
    firing,
    from_the_client,
    moves,
    picks,
    proposes,
    proposes_credit,
    proposes_slots,
    refunds,
    refuses,
    restates,
    slot_of,
    somebody,
    verifies,
)
from workflow import commands as c
from workflow import events as e
from workflow.canonical import MAX_BYTES, ZEROS, canonical, faults_of, leaf_hash
from workflow.cases import Case, Proposal, Purchase
from workflow.deadlines import deadlines, next_due
from workflow.errors import CaseworkError
from workflow.lifecycle import FROZEN, triggers_of
from workflow.money import Money
from workflow.policy import Category, GroundKind, Settings, Tier, approvals_needed, version_in_force
from workflow.replaying import CHANGES, evolve, replay
from workflow.reporting import duties, payments
from workflow.roles import Actor, Role
from workflow.states import CaseState, ProposalStatus, RemedyKind, Resolution, ResumeReason, Trigger, Verdict

WALKS, STEPS = 16, 800

# Three who may do everything, so that only four eyes keep them from doing it alone.
ALL_ROUNDERS = [somebody(name, Role.AGENT, Role.LEAD, Role.APPROVER) for name in ("mia", "ned", "ola")]
OTHERS = [ANA, BO, LOU, CLEO, DIRK, PROVIDER, MAIL, AUDREY, ADAM, UNA]

AMOUNTS = (0, 1, 100_00, 400_00, 500_00, 500_01, 3_000_00, 5_000_00, 5_000_01, 9_000_00)
FACTS: tuple[dict[str, Any], ...] = (
    {"paid": euros("20000.00")},
    {"paid": euros("600.00")},
    {"paid": Money(10_000, "JPY")},
    {"package": "launch and care"},
    {"reference": "D-2"},
    {"service_started_at": None},
    {"deliverables_provided_at": NOON - DAY},
    {"purchased_at": NOON - 5 * DAY},
    {"purchased_at": NOON + 400 * DAY},
    {"checked": True, "refunded_minor": 0, "reserved_minor": 0},
)
CHANGED_SETTINGS = (
    Settings(grounds=(GroundKind.BILLING_ERROR, GroundKind.UNDELIVERED_PART)),
    Settings(
        tiers=(Tier(up_to="100.00", roles=(Role.LEAD,), count=1), Tier(up_to=None, roles=(Role.APPROVER,), count=2)),
        window_days=3,
    ),
)

Act = Callable[[Proposal], c.Command]


class Walk:
    """Three cases of one purchase, and a random command at each step, sensible or not."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.desk = Desk(people={**PEOPLE, **{one.id: as_person(one) for one in ALL_ROUNDERS}})
        self.watch = Watch(self.desk)
        # Half of the desks begin with a purchase of which all may go back (P5).
        fresh: dict[str, Any] = {"purchased_at": NOON - 6 * DAY, "deliverables_provided_at": None}
        purchase = a_purchase("20000.00", **(fresh if seed % 2 else {}))
        for case_id in "ABC":
            self.desk.open(case_id, purchase=purchase)
            self.desk.investigate(case_id, by=self.random.choice(ALL_ROUNDERS))
            self.desk.ground(euros("9000.00"), case_id, recorded_by=ANA, verified_by=BO)
        self.desk.do(ANA, CHECK)

    def go(self, steps: int) -> None:
        for step in range(steps):
            if step % 100 == 99 and len(self.desk.policies) <= len(CHANGED_SETTINGS):
                self.change_the_policy()
            self.desk.now += timedelta(hours=self.random.choice((0, 1, 1, 30)))
            case = self.desk.cases[self.random.choice("ABC")]
            command = self.some_command(case)
            actor = self.random.choice(ALL_ROUNDERS * 6 + OTHERS)
            by_link = isinstance(command, c.AnswerOffer) or (is_a_pick(command) and self.random.random() < 0.9)
            if by_link and self.random.random() < 0.9:
                actor = UNA  # who alone can do it
            actor = client_of(case) if actor is UNA else actor
            try:
                self.attempt(actor, command, case.id)
            except Exception as failure:
                failure.add_note(f"step {step}: {actor.id} gives {command} about {case}")
                raise

    def some_command(self, case: Case) -> c.Command:
        """Any command at any time, but oftener those that lead to money, and back to where it can move."""
        investigated = case.state is CaseState.INVESTIGATING
        makers: tuple[tuple[Callable[[Case], c.Command], float], ...] = (
            (self.trigger, 4 if investigated else 40),
            (self.proposal, 8),
            (self.verdict_or_payout, 40),
            (self.ground, 0.7),
            (self.verification, 0.7),
            (self.purchase, 0.7),
            (self.inquiry, 0.2),
            (self.conversation, 6),
            (self.answer, 20 if case.open_offer else 0.2),
            (self.consultation, 60 if case.consultation else 2),
            (self.pick, 20 if case.proposed_slots else 0.2),
            (lambda _: CHECK, 5),
        )
        (make,) = self.random.choices([one for one, _ in makers], [weight for _, weight in makers])
        return make(case)

    def attempt(self, actor: Actor, command: c.Command, case_id: str) -> None:
        cases, events = dict(self.desk.cases), self.desk.events
        try:
            self.desk.do(actor, command, case_id)
        except CaseworkError:
            assert (self.desk.cases, self.desk.events) == (cases, events)
        self.watch.look()

    # The commands.

    def trigger(self, case: Case) -> c.Command:
        pick, days = self.random.choice, self.random.randint(-1, 9)
        match trigger := pick((*Trigger, *triggers_of(case.state) * 4)):
            case Trigger.OFFER_ADJUSTMENT:
                return firing(trigger, answer_by=(self.desk.now + days * DAY).date())
            case Trigger.SCHEDULE_CONSULTATION:
                return firing(trigger, starts_at=self.desk.now + days * DAY, minutes=pick((0, 30, 1000)))
            case Trigger.ISSUE_COMPENSATION | Trigger.REFUND:
                return firing(trigger, proposal=pick([None, *(one.id for one in case.proposals[-3:])]))
            case Trigger.RESUME:
                return firing(trigger, reason_code=pick(tuple(ResumeReason)))
            case Trigger.CLOSE:
                return closing(pick(tuple(Resolution)), pick((None, None, "B")))
            case _:
                return firing(trigger)

    def proposal(self, case: Case) -> c.Command:
        purchase = purchase_of(case)
        left = purchase.paid.amount_minor - purchase.refunded_minor - purchase.reserved_minor
        amount = Money(self.random.choice((*AMOUNTS, left, left, left)), purchase.paid.currency)
        if self.random.random() < 0.15:
            return proposes_credit(amount)
        named = [one.id for one in case.grounds if one.verified or self.random.random() < 0.1]
        return proposes(amount, tuple(self.random.choice(([], [], named[:2]))))

    def verdict_or_payout(self, case: Case) -> c.Command:
        alive = [one for one in case.proposals if one.is_open or one.status is ProposalStatus.PAYING]
        if not case.proposals:
            return self.proposal(case)
        proposal = self.random.choice(alive[-2:] or case.proposals)
        settling = (issues,) if proposal.remedy is RemedyKind.COMPENSATION else (begins, refunds)
        paying = proposal.status is ProposalStatus.PAYING
        likely: tuple[Act, ...] = (refunds, refunds, fails) if paying else (approves, approves, *settling)
        anyway: tuple[Act, ...] = (approves, refuses, withdraws, begins, refunds, fails, issues)
        return self.random.choice((*likely * 5, *anyway))(proposal)

    def ground(self, case: Case) -> c.Command:
        kind, amount = self.random.choice(tuple(GroundKind)), self.random.choice(AMOUNTS)
        affected = Money(amount, purchase_of(case).paid.currency)
        return c.RecordGround(kind=kind, affected=affected, statement="as she wrote")

    def verification(self, case: Case) -> c.Command:
        unverified = [one for one in case.grounds if not one.verified]
        if unverified:
            return verifies(unverified[0])
        if not case.grounds or self.random.random() < 0.8:
            return CHECK
        return verifies(self.random.choice(case.grounds), verified=self.random.random() < 0.7)

    def purchase(self, case: Case) -> c.Command:
        if self.random.random() < 0.3:
            return c.RecordPurchase(reference=self.random.choice(("D-1", "D-2", "D-3")))
        return restates(case.purchase, **self.random.choice(FACTS))

    def inquiry(self, _: Case) -> c.Command:
        if self.random.random() < 0.5:
            return c.Recategorize(category=self.random.choice(tuple(Category)))
        requested_at = NOON + self.random.randint(-8, 30) * DAY
        return c.CorrectRequestedAt(requested_at=requested_at, reason="the date of the letter")

    def conversation(self, case: Case) -> c.Command:
        last = case.answers[-1] if case.answers else 0
        return self.random.choice(
            (
                a_letter(),
                a_letter(),
                a_letter(awaits_reply=True),
                from_the_client(),
                c.RecordBounce(message=f"m{last}"),
                c.WaiveAnswer(message=f"m{case.client_wrote_seq}", reason="thanks"),
                a_link(client_of(case), until=self.desk.now + 30 * DAY),
                c.RevokeClientLink(link_id=client_of(case).id),
                c.AddNote(text="rang"),
                c.Assign(assignee=self.random.choice(("mia", "ned", "ana", None))),
            )
        )

    def answer(self, case: Case) -> c.Command:
        offer = case.remedies[-1].seq if case.remedies else 0
        return c.AnswerOffer(offer=offer, accepted=self.random.random() < 0.5)

    def consultation(self, case: Case) -> c.Command:
        pick, now = self.random.choice, self.desk.now
        later = [now + timedelta(hours=pick((-2, 1, 30, 50))) for _ in range(pick((1, 3)))]
        whole = tuple({one.replace(second=0, microsecond=0) for one in later})
        anything: tuple[c.Command, ...] = (
            proposes_slots(*whole, minutes=pick((0, 30, 600))),
            moves(later[0], minutes=pick((30, 600))),
            c.RecordAttendance(attended=pick((True, False)), text=pick(("", "she rang"))),
            firing(Trigger.RESUME, reason_code=ResumeReason.NO_SHOW),
        )
        likely = anything[1:] if case.consultation else anything[:1]
        return pick((*likely * 4, *anything))

    def pick(self, case: Case) -> c.Command:
        slots = case.proposed_slots.slots if case.proposed_slots else (self.desk.now,)
        return picks(case, self.random.choice((*slots, *slots, self.desk.now + DAY)))

    def change_the_policy(self) -> None:
        known = self.desk.policies
        settings = CHANGED_SETTINGS[len(known) - 1]
        self.desk.policies = (
            *known,
            replace(V1, version=len(known) + 1, effective_from=self.desk.now, settings=settings),
        )


def is_a_pick(command: c.Command) -> bool:
    return isinstance(command, c.Fire) and getattr(command.data, "slot_of", None) is not None


def client_of(case: Case) -> Actor:
    """Una, by a link to this case: no two cases have the same."""
    return replace(UNA, id=f"{UNA.id}-{case.id}")


def issues(proposal: Proposal) -> c.Fire:
    return firing(Trigger.ISSUE_COMPENSATION, proposal=proposal.id)


def withdraws(proposal: Proposal) -> c.WithdrawProposal:
    return c.WithdrawProposal(proposal=proposal.id, reason="a slip")


class Watch:
    """Looks at every event and every case, and reckons the money from the events alone."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.known: dict[str, Case | None] = {}  # the cases as the watch itself has folded them
        self.seen: Counter[str] = Counter()
        self.refunded: Counter[str] = Counter()  # by the purchase's reference
        self.reserved: Counter[str] = Counter()
        self.paying: set[tuple[str, str]] = set()

    def look(self) -> None:
        for case_id, history in self.desk.histories.items():
            before = self.known.get(case_id)
            for recorded in history[before.version if before else 0 :]:
                self.is_in_its_place(recorded, before)
                self.is_canonical(recorded)
                if before is not None:
                    self.keeps_four_eyes(recorded, before)
                    self.comes_by_a_good_link(recorded, before)
                    self.books_what_was_agreed(recorded, before)
                    self.reckon(recorded.data, before)
                before = evolve(before, recorded)
                self.seen[name_of(recorded.data)] += 1
            if before != self.known.get(case_id):
                assert before is not None
                assert replay(history) == before == self.desk.cases[case_id]
                assert msgspec.json.decode(msgspec.json.encode(before), type=Case) == before
                assert next_due(before) == next((one.due_at for one in deadlines(before) if not one.paused), None)
            self.known[case_id] = before
        for case in self.desk.cases.values():
            self.is_sound(case)

    def is_in_its_place(self, recorded: e.Recorded, before: Case | None) -> None:
        event = recorded.event
        assert event.seq == (before.version + 1 if before else 1)
        assert event.prev == (before.head if before else ZEROS)
        assert event.state_before == (before.state if before else None)
        assert before is None or recorded.at >= before.changed_at
        if event.trigger is not None:
            assert FROZEN[str(event.state_before), event.trigger] == event.state_after
        else:
            assert event.state_after == (before.state if before else CaseState.OPENED)

    def comes_by_a_good_link(self, recorded: e.Recorded, before: Case) -> None:
        kind, _, name = recorded.event.actor.partition(":")
        link = before.client_link(name)
        assert kind != "client" or (link is not None and link.is_good(recorded.at))

    def is_canonical(self, recorded: e.Recorded) -> None:
        body = canonical(recorded.event)
        plain = json.loads(body)
        assert body == rfc8785.dumps(plain)
        assert faults_of(plain) is None
        assert len(body) <= MAX_BYTES
        assert leaf_hash(body) == recorded.hash
        assert msgspec.convert(plain["data"], e.EVENT_TYPES[recorded.event.type]) == recorded.data

    def keeps_four_eyes(self, recorded: e.Recorded, before: Case) -> None:
        data, actor = recorded.data, recorded.event.actor
        if isinstance(data, e.VerdictGiven) and data.verdict is Verdict.APPROVE:
            proposal = proposal_of(before, data.proposal)
            consumed = [one for one in before.grounds if one.id in proposal.grounds]
            barred = {proposal.proposed_by, *(one.by for one in proposal.approvals)}
            barred |= {one.recorded_by for one in consumed} | {str(one.verified_by) for one in consumed}
            assert actor not in barred
        if isinstance(data, e.PayoutBegun | e.Refunded | e.PaymentReversed):
            proposal = proposal_of(before, data.proposal)
            assert actor != proposal.proposed_by
            if proposal.is_open:  # no payout has begun before: the money leaves by this event
                self.is_due(proposal, before, recorded)
        if isinstance(data, e.CompensationIssued):
            self.is_approved(proposal_of(before, data.proposal), recorded)

    def is_due(self, proposal: Proposal, case: Case, recorded: e.Recorded) -> None:
        assert recorded.event.actor.startswith("person:")
        assert case.purchase is not None
        assert case.purchase.checked
        assert proposal.judgement is not None
        if proposal.judgement.clauses == ("P6",):
            self.is_approved(proposal, recorded)
            named = [one for one in case.grounds if one.id in proposal.grounds]
            assert all(one.verified for one in named)
            assert proposal.amount.amount_minor <= sum(one.left_minor for one in named)
        else:
            left = case.purchase.paid.amount_minor - case.purchase.refunded_minor - case.purchase.reserved_minor
            assert (proposal.judgement.clauses, proposal.amount.amount_minor) == (("P5",), left)

    def is_approved(self, proposal: Proposal, recorded: e.Recorded) -> None:
        rule = approvals_needed(proposal.amount, version_in_force(self.desk.policies, recorded.at).settings)
        able = [one for one in proposal.approvals if not frozenset(rule.roles).isdisjoint(map(Role, one.roles))]
        assert len({one.by for one in able}) >= rule.count

    def books_what_was_agreed(self, recorded: e.Recorded, before: Case) -> None:
        """A client moves the case by no other step than to a slot that a worker has proposed."""
        data, actor = recorded.data, recorded.event.actor
        if actor.startswith("client:") and recorded.event.trigger is not None:
            assert isinstance(data, e.ConsultationScheduled)
            assert before.proposed_slots is not None
            assert data.starts_at in before.proposed_slots.slots
        if isinstance(data, e.ConsultationScheduled | e.ConsultationMoved):
            ends_at = data.starts_at + timedelta(minutes=data.minutes)
            others = [slot_of(one, data.host) for one in self.desk.cases.values() if one.id != before.id]
            assert not [one for one in others if one and one.starts_at < ends_at and data.starts_at < one.ends_at]

    def reckon(self, data: e.EventData, before: Case) -> None:
        if not isinstance(data, e.PayoutBegun | e.PayoutFailed | e.Refunded | e.PaymentReversed):
            return
        amount = proposal_of(before, data.proposal).amount.amount_minor
        paying, reference = (before.id, data.proposal), purchase_of(before).reference
        match data:
            case e.PayoutBegun():
                self.paying.add(paying)
                self.reserved[reference] += amount
            case e.PayoutFailed():
                self.paying.remove(paying)
                self.reserved[reference] -= amount
            case e.Refunded():
                if paying in self.paying:
                    self.paying.remove(paying)
                    self.reserved[reference] -= amount
                self.refunded[reference] += amount
            case e.PaymentReversed():
                self.refunded[reference] -= amount

    def is_sound(self, case: Case) -> None:
        purchase = purchase_of(case)
        assert purchase == self.desk.purchases[purchase.reference]
        assert purchase.refunded_minor == self.refunded[purchase.reference] >= 0
        assert purchase.reserved_minor == self.reserved[purchase.reference] >= 0
        assert purchase.refunded_minor + purchase.reserved_minor <= purchase.paid.amount_minor
        assert all(0 <= one.refunded_minor <= one.affected.amount_minor for one in case.grounds)
        paying = [one.id for one in case.proposals if one.status is ProposalStatus.PAYING]
        assert [(case.id, one) for one in paying] == [one for one in self.paying if one[0] == case.id]
        assert not paying or case.state is CaseState.INVESTIGATING
        for proposal in case.proposals:
            assert proposal.proposed_by not in [one.by for one in proposal.approvals]


def name_of(data: e.EventData) -> str:
    return f"{e.TYPE_NAMES[type(data)]} {data.reason_code}" if isinstance(data, e.Resumed) else e.TYPE_NAMES[type(data)]


def proposal_of(case: Case, proposal_id: str) -> Proposal:
    return next(one for one in case.proposals if one.id == proposal_id)


def purchase_of(case: Case) -> Purchase:
    assert case.purchase is not None
    return case.purchase


@cache
def walked(seed: int) -> Walk:
    walk = Walk(seed)
    walk.go(STEPS)
    return walk


@pytest.mark.parametrize("seed", range(WALKS))
def test_whatever_people_do_every_promise_holds_after_every_step(seed: int) -> None:
    desk = walked(seed).desk

    assert {case_id: replay(history) for case_id, history in desk.histories.items()} == desk.cases


@pytest.mark.parametrize("seed", range(WALKS))
def test_whatever_people_do_auditors_are_told_of_no_breach(seed: int) -> None:
    desk = walked(seed).desk
    policies = {one.version: one for one in desk.policies}

    def in_force(one: e.Recorded) -> e.Recorded:  # the builders leave every event under the first version
        return replace(one, event=replace(one.event, policy=version_in_force(desk.policies, one.at).version))

    settled = [
        duties(payment, policies)
        for history in desk.histories.values()
        for payment in payments([in_force(one) for one in history])
        if payment.settled is not None
    ]

    assert settled
    assert [one for one in settled if one.is_breach] == []


def test_the_walks_come_by_every_kind_of_event_that_a_case_has() -> None:
    seen = sum((walked(seed).watch.seen for seed in range(WALKS)), Counter[str]())

    kept = {"hold_placed", "hold_released", "erasure_requested", "erased"}
    elsewhere = {"resumed", "participants_set", "attachment_added", "linked"} | kept
    assert set(seen) == {"opened", *CHANGES} - elsewhere | {f"resumed {reason}" for reason in ResumeReason}


def test_the_watch_notices_a_sum_that_is_wrong() -> None:
    walk = Walk(0)
    case = walk.desk.case
    walk.desk.cases["A"] = replace(case, purchase=replace(purchase_of(case), refunded_minor=1))

    with pytest.raises(AssertionError):
        walk.watch.look()


def test_the_watch_notices_an_event_that_was_changed() -> None:
    walk = Walk(0)
    first, *others = walk.desk.histories["A"]
    walk.desk.histories["A"] = [replace(first, event=replace(first.event, actor="person:nobody")), *others]

    with pytest.raises(AssertionError):
        walk.watch.look()
