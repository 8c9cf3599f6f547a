"""Why: every decision, made again on what it rested on, is what was recorded; and what was forged is not."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ANA,
    BO,
    CLEO,
    DIRK,
    LOU,
    NOON,
    Desk,
    a_desk,
    a_letter,
    begins,
    closing,
    euros,
    firing,
    proposes,
    refunds,
)
from tests.workflow.test_random_desk import Walk
from workflow import commands as c
from workflow import events as e
from workflow.cases import Case
from workflow.guards import Context
from workflow.lifecycle import LIFECYCLE, LOGGED_TABLE
from workflow.money import Money
from workflow.policy import PolicyVersion, Settings
from workflow.reviewing import COMMANDS, Review, Then, is_decision, review
from workflow.roles import Actor, Role
from workflow.states import Resolution, Trigger, Verdict

LIFECYCLES = {LIFECYCLE: LOGGED_TABLE}


class Made:
    """A decision with what was so when it was made."""

    def __init__(self, before: Case, caused: Sequence[e.Recorded], actor: Actor, context: Context) -> None:
        self.before = before
        self.caused = caused
        self.then = Then(actor=actor, context=context, lifecycles=LIFECYCLES)

    def again(self, **then: Any) -> Review:
        return review(self.before, self.caused, replace(self.then, **then))

    def forged(self, **event: Any) -> Review:
        """Made again, where the log says something else of it."""
        first, *others = self.caused
        data = event.pop("data", first.data)
        return review(self.before, [replace(first, data=data, event=replace(first.event, **event)), *others], self.then)


def make(desk: Desk, actor: Actor, command: c.Command) -> Made:
    before, context = desk.case, desk.context(actor, command, desk.case)
    desk.do(actor, command)
    return Made(before, desk.histories["A"][before.version :], actor, context)


def a_proposal() -> Made:
    return make(a_desk(), ANA, proposes(euros("300.00")))


def paths(found: Review) -> list[str]:
    return [one.path for one in found.differences]


class RememberingWalk(Walk):
    """Reviews what it does, as it does it."""

    reviews: list[Review]

    def attempt(self, actor: Actor, command: c.Command, case_id: str) -> None:
        before, context = self.desk.cases[case_id], self.desk.context(actor, command, self.desk.cases[case_id])
        super().attempt(actor, command, case_id)
        caused = self.desk.histories[case_id][before.version :]
        if caused and is_decision(caused[0]):
            self.reviews.append(review(before, caused, Then(actor=actor, context=context, lifecycles=LIFECYCLES)))


def test_whatever_people_decide_is_the_same_when_it_is_decided_again() -> None:
    seen = set()
    for seed in range(20):
        walk = RememberingWalk(seed)
        walk.reviews = []
        walk.go(98)
        assert [one for one in walk.reviews if not one.is_equal] == []
        seen |= {type(one.recorded.data) for one in walk.reviews}

    assert seen | {e.InvestigationStarted} == set(COMMANDS)  # that one happens before the walk


def test_a_proposal_rests_on_facts_that_the_purchases_policy_judges() -> None:
    made = a_proposal()

    found = made.again()

    assert (found.is_equal, found.seq, found.roles) == (True, 7, (Role.AGENT,))
    assert found.facts == made.before.facts
    assert found.decision is not None
    assert (found.decision.maximum, found.decision.clauses) == (euros("8000.00"), ("P6",))
    assert found.judged_by is found.policy
    assert [one.guard for one in found.guards] == ["case_is_investigated", "there_is_a_purchase", "facts_are_checked"]


def test_a_verdict_and_a_payout_rest_on_the_proposal_and_its_approvals() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("300.00"))
    verdict = make(
        desk, CLEO, c.GiveVerdict(proposal=proposal.id, verdict=Verdict.APPROVE, digest=proposal.digest, reason="due")
    )
    payout = make(desk, DIRK, begins(proposal))
    refund = make(desk, DIRK, refunds(proposal))

    assert [one.again().is_equal for one in (verdict, payout, refund)] == [True] * 3
    assert [one.by for one in payout.again().approvals] == [CLEO.key]
    assert {one.guard: one.refusal for one in refund.again().guards}["settled_by_another_person"] is None
    assert verdict.forged(data=replace(verdict.caused[0].data, complete=False)).differences[0].path == "data.complete"


def test_a_closing_for_want_of_a_refund_shows_what_the_policy_said() -> None:
    desk = a_desk(affected=None)
    desk.do(ANA, a_letter())

    made = make(desk, ANA, closing(Resolution.NO_REFUND_DUE))

    decision = made.again().decision
    assert made.again().is_equal
    assert decision is not None
    assert decision.refund == "none"


def test_a_maximum_that_was_forged_is_not_what_the_policy_says() -> None:
    made = a_proposal()
    (data,) = (one.data for one in made.caused)
    assert isinstance(data, e.Proposed)
    assert data.judgement is not None

    found = made.forged(data=replace(data, judgement=replace(data.judgement, maximum=Money(9_999_00, "EUR"))))

    (difference,) = found.differences
    assert difference.path == "data.judgement.maximum.amount_minor"
    assert (difference.before, difference.after) == (9_999_00, 8_000_00)


@pytest.mark.parametrize(
    ("guards", "path"),
    [
        ({"assignee_works_cases": False}, "guards.assignee_works_cases"),
        ({}, "guards.assignee_works_cases"),
        ({"assignee_works_cases": True, "the_sun_shines": True}, "guards.the_sun_shines"),
    ],
)
def test_a_guard_that_was_forged_is_not_what_it_says(guards: dict[str, bool], path: str) -> None:
    desk = Desk()
    desk.open()
    made = make(desk, ANA, firing(Trigger.INVESTIGATE))

    assert made.again().is_equal
    assert paths(made.forged(guards=guards)) == [path]


def test_what_somebody_did_without_the_role_for_it_would_be_refused() -> None:
    made = a_proposal()

    (difference,) = made.again(actor=Actor(kind="person", id="ana", roles=frozenset({Role.AUDITOR}))).differences

    assert (difference.path, difference.before, difference.after) == ("outcome", "recorded", "refused: role")


def test_what_a_guard_forbids_would_be_refused_and_the_guard_says_why() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("300.00"))
    desk.approve(proposal)
    made = make(desk, DIRK, refunds(proposal))

    found = made.again(actor=replace(ANA, roles=frozenset({Role.APPROVER})))

    assert paths(found) == ["outcome", "guards.settled_by_another_person"]
    assert found.differences[0].after == "refused: settled_by_another_person"


def test_another_policy_than_the_one_in_force_is_noticed() -> None:
    made = a_proposal()
    later = PolicyVersion(version=2, effective_from=NOON, settings=Settings())

    assert paths(made.again(context=replace(made.then.context, policies=(*made.then.context.policies, later)))) == [
        "policy"
    ]


def test_a_step_that_its_lifecycle_does_not_have_would_be_refused() -> None:
    desk = Desk()
    desk.open()
    made = make(desk, LOU, firing(Trigger.INVESTIGATE, assignee=BO.id))

    assert made.again().is_equal
    (difference,) = made.again(lifecycles={}).differences
    assert difference.after == "refused: no_such_transition"


def test_a_guard_of_another_release_is_asked_by_its_name_or_said_to_be_unknown() -> None:
    desk = Desk()
    desk.open()
    made = make(desk, ANA, firing(Trigger.INVESTIGATE))
    older = tuple(replace(edge, guards=(*edge.guards, "moon_is_full")) for edge in LOGGED_TABLE)

    found = made.again(lifecycles={LIFECYCLE: older})

    assert "outcome" in paths(found)
    assert found.guards[-1].refusal is not None
    assert "does not know" in found.guards[-1].refusal.text


def test_what_a_forged_event_can_hold_is_told_rather_than_fallen_over() -> None:
    desk = a_desk()
    offer = make(desk, ANA, firing(Trigger.OFFER_ADJUSTMENT))
    data = offer.caused[0].data
    assert isinstance(data, e.AdjustmentOffered)

    assert paths(offer.forged(data=replace(data, answer_by="never"))) == ["outcome"]
    assert paths(
        a_proposal().forged(data=e.VerdictGiven(proposal="p99", verdict=Verdict.APPROVE, digest="", roles=()))
    ) == ["outcome"]


def test_what_follows_from_a_decision_is_part_of_it() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("300.00"))
    desk.approve(proposal)
    made = make(desk, DIRK, begins(proposal))
    begun, sums = made.caused
    assert isinstance(sums.data, e.PurchaseChanged)
    forged = replace(sums, data=replace(sums.data, purchase=replace(sums.data.purchase, reserved_minor=1)))

    found = review(made.before, [begun, forged], made.then)

    assert paths(found) == ["effects[0].data.purchase.reserved_minor"]
    assert paths(review(made.before, [begun], made.then)) == ["effects[0]"]
