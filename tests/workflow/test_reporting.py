"""What reports find in a history: who had which part in a payment, what lay near a limit, what departs from policy."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ANA,
    BO,
    CHECK,
    CLEO,
    DAY,
    DIRK,
    ELI,
    LOU,
    NOON,
    PROVIDER,
    V1,
    Desk,
    a_desk,
    a_fresh_desk,
    an_approved_credit,
    approves,
    begins,
    euros,
    firing,
    refunds,
    sealed,
    verifies,
)
from workflow import commands as c
from workflow.events import Draft, Erased, Recorded
from workflow.policy import Category
from workflow.reporting import (
    OverrideKind,
    Part,
    Payment,
    bound_above,
    duties,
    overrides,
    payments,
    voided_approvals,
)
from workflow.roles import Role
from workflow.states import Trigger, Verdict

POLICIES = {1: V1}


def last(desk: Desk) -> Payment:
    return payments(desk.histories["A"])[-1]


def forged(history: Sequence[Recorded], kind: str, **changes: Any) -> list[Recorded]:
    """The history with the last event of a type as somebody else's, as no desk would have taken it."""
    events = list(history)
    place = max(index for index, one in enumerate(events) if one.event.type == kind)
    events[place] = replace(events[place], event=replace(events[place].event, **changes))
    return events


def a_paid_refund(amount: str = "300.00") -> Desk:
    """Ana recorded and proposed, Bo verified, Cleo approved, Dirk began and settled."""
    desk = a_desk()
    proposal = desk.propose(euros(amount))
    desk.approve(proposal)
    desk.do(DIRK, begins(proposal))
    desk.do(DIRK, refunds(proposal))
    return desk


def test_everybody_who_had_a_part_in_a_refund_is_named() -> None:
    payment = last(a_paid_refund())

    assert (payment.proposed_by, payment.begun_by, payment.settled_by) == ("person:ana", "person:dirk", "person:dirk")
    assert [(one.by, one.roles) for one in payment.approvals] == [("person:cleo", ("approver",))]
    assert payment.evidence_by == ("person:ana", "person:bo")
    assert payment.clause == "P6"


def test_different_people_are_no_breach_and_the_rule_is_told() -> None:
    found = duties(last(a_paid_refund()), POLICIES)

    assert found.rule is not None
    assert (found.rule.roles, found.rule.count) == ((Role.LEAD, Role.APPROVER), 1)
    assert (found.same, found.missing, found.is_breach) == ((), 0, False)


def test_that_an_approver_settles_is_told_and_allowed() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("300.00"))
    desk.approve(proposal, CLEO)
    desk.do(CLEO, refunds(proposal))

    found = duties(last(desk), POLICIES)

    assert (found.same, found.is_breach) == ((Part.APPROVED_AND_SETTLED,), False)


def test_above_the_last_limit_two_approvals_are_demanded() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("6000.00"))
    for approver in (CLEO, ELI):
        desk.approve(proposal, approver)
    desk.do(DIRK, refunds(proposal))

    found = duties(last(desk), POLICIES)

    assert found.rule is not None
    assert (found.rule.count, found.missing, found.is_breach) == (2, 0, False)


def test_what_the_client_is_entitled_to_demands_no_approval() -> None:
    desk = a_fresh_desk()
    proposal = desk.propose(euros("590.00"))
    desk.do(DIRK, refunds(proposal))

    found = duties(last(desk), POLICIES)

    assert (found.rule, found.missing, found.is_breach, found.payment.clause) == (None, 0, False, "P5")


def test_a_compensation_has_its_parts_too() -> None:
    desk = a_desk()
    an_approved_credit().carry_out(desk)
    desk.do(ANA, firing(Trigger.ISSUE_COMPENSATION, proposal=desk.case.proposals[-1].id))

    found = duties(last(desk), POLICIES)

    assert (found.payment.clause, found.payment.settled_by) == (None, "person:ana")
    assert (found.same, found.is_breach) == ((Part.PROPOSED_AND_SETTLED,), False)


@pytest.mark.parametrize(
    ("kind", "actor", "part"),
    [
        ("verdict_given", "person:ana", Part.PROPOSED_AND_APPROVED),
        ("verdict_given", "person:bo", Part.EVIDENCED_AND_APPROVED),
        ("payout_begun", "person:ana", Part.PROPOSED_AND_BEGAN),
        ("refunded", "person:ana", Part.PROPOSED_AND_SETTLED),
    ],
)
def test_what_the_rules_forbid_is_a_breach_if_it_is_in_the_log_all_the_same(kind: str, actor: str, part: Part) -> None:
    history = forged(a_paid_refund().histories["A"], kind, actor=actor)

    found = duties(payments(history)[-1], POLICIES)

    assert part in found.same
    assert found.is_breach


def test_missing_approvals_are_counted() -> None:
    history = [one for one in a_paid_refund().histories["A"] if one.event.type != "verdict_given"]

    found = duties(payments(history)[-1], POLICIES)

    assert (found.missing, found.is_breach) == (1, True)


def test_a_payout_that_failed_was_begun_by_nobody() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("300.00"))
    desk.approve(proposal)
    desk.do(DIRK, begins(proposal))
    desk.do(PROVIDER, c.FailPayout(proposal=proposal.id, reason="closed account"))

    assert (last(desk).begun_by, last(desk).settled) == (None, None)


# Near a limit.


@pytest.mark.parametrize(
    ("amount", "percent", "expected"),
    [
        ("500.00", 10, "500.00"),
        ("450.00", 10, "500.00"),
        ("449.99", 10, None),
        ("500.00", 0, "500.00"),
        ("499.99", 0, None),
        ("500.01", 10, None),
        ("4500.00", 10, "5000.00"),
        ("5000.01", 10, None),
    ],
)
def test_a_refund_is_near_a_limit_that_it_keeps(amount: str, percent: int, expected: str | None) -> None:
    desk = a_desk()
    desk.propose(euros(amount))

    assert bound_above(last(desk), POLICIES, percent) == expected


def test_what_needs_no_approval_and_what_is_no_refund_is_near_no_limit() -> None:
    entitled, credited = a_fresh_desk(), a_desk()
    entitled.propose(euros("590.00"))
    credited.propose(euros("500.00"), credit=True)

    assert bound_above(last(entitled), POLICIES, 100) is None
    assert bound_above(last(credited), POLICIES, 100) is None


# Decided otherwise.


def test_an_allowed_refund_that_is_refused_is_an_override() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("300.00"))
    credit = desk.propose(euros("50.00"), credit=True)
    for one in (proposal, credit):
        desk.do(CLEO, c.GiveVerdict(proposal=one.id, verdict=Verdict.REFUSE, digest=one.digest, reason="no"))

    (found,) = overrides(desk.histories["A"])

    assert (found.kind, found.recorded.event.actor) == (OverrideKind.ALLOWED_REFUND_REFUSED, "person:cleo")


def test_corrected_times_and_waived_answers_are_overrides() -> None:
    desk = a_desk()
    desk.do(LOU, c.CorrectRequestedAt(requested_at=NOON - DAY, reason="it was in the other mailbox"))
    desk.do(ANA, c.WaiveAnswer(message="m1", reason="rang"))

    assert [one.kind for one in overrides(desk.histories["A"])] == [
        OverrideKind.REQUESTED_AT_CORRECTED,
        OverrideKind.ANSWER_WAIVED,
    ]


@pytest.mark.parametrize("overridden", [True, False])
def test_an_erasure_is_one_where_it_was_not_due(overridden: bool) -> None:
    desk = a_desk()
    data = Erased(legal_basis="GDPR", through=1, texts=1, files=0, overridden=overridden)
    erased = sealed(Draft(data=data), "case:A", desk.case, LOU, NOON)

    assert [one.kind for one in overrides([*desk.histories["A"], erased])] == (
        [OverrideKind.ERASED_EARLY] if overridden else []
    )


def test_usual_work_overrides_nothing() -> None:
    assert overrides(a_paid_refund().histories["A"]) == []


# Void.


def test_approvals_that_a_change_made_void_are_told_with_the_change() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("300.00"))
    desk.approve(proposal, CLEO)
    desk.do(ANA, c.Recategorize(category=Category.OTHER))

    (found,) = voided_approvals(desk.histories["A"])

    assert (found.payment.id, [one.by for one in found.payment.approvals]) == (proposal.id, ["person:cleo"])
    assert (found.recorded.event.type, found.recorded.event.actor) == ("recategorized", "person:ana")


def test_a_void_proposal_that_nobody_had_approved_is_not_among_them() -> None:
    desk = a_desk()
    desk.propose(euros("300.00"))
    desk.do(ANA, c.Recategorize(category=Category.OTHER))

    assert voided_approvals(desk.histories["A"]) == []


def test_each_proposal_is_void_once() -> None:
    desk = a_desk()
    desk.do(CLEO, approves(desk.propose(euros("300.00"))))
    ground = desk.case.grounds[0]
    desk.do(BO, verifies(ground, verified=False))
    desk.do(BO, verifies(ground))
    desk.do(ANA, CHECK)
    desk.do(CLEO, approves(desk.propose(euros("200.00"))))
    desk.do(ANA, c.Recategorize(category=Category.OTHER))

    assert [one.recorded.event.type for one in voided_approvals(desk.histories["A"])] == [
        "ground_verified",
        "recategorized",
    ]
