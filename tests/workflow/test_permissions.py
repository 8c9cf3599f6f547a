"""Why not: for every trigger, in every state, for every actor, whether it is allowed and every reason if not."""

from datetime import datetime
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ANA,
    AUDREY,
    CHECK,
    CLEO,
    DAY,
    DIRK,
    LOU,
    NOON,
    Desk,
    a_case,
    a_context,
    a_desk,
    a_letter,
    a_purchase,
    a_ready_desk,
    a_refund,
    an_approved_refund,
    begins,
    closing,
    euros,
    firing,
    proposes,
    restates,
)
from workflow import commands as c
from workflow.cases import Case
from workflow.deciding import decide
from workflow.errors import Refused
from workflow.guards import GuardContext
from workflow.permissions import Permission, permission, permissions, why_not
from workflow.policy import Settings
from workflow.roles import Actor, Role
from workflow.states import CaseState, Resolution, ResumeReason, Trigger


def a_question(case: Case, actor: Actor, at: datetime = NOON, **known: Any) -> GuardContext:
    return GuardContext(case=case, actor=actor, now=at, context=a_context(**known))


def asked(case: Case, actor: Actor, trigger: Trigger) -> Permission:
    return permission(trigger, a_question(case, actor))


def codes(answer: Permission) -> list[str]:
    return [refusal.code for refusal in answer.refusals]


def every_attempt(case: Case, trigger: Trigger) -> list[c.Fire]:
    """With all data that can make a difference."""
    match trigger:
        case Trigger.CLOSE:
            return [closing(resolution) for resolution in Resolution]
        case Trigger.RESUME:
            return [firing(trigger, reason_code=reason) for reason in ResumeReason]
        case Trigger.REFUND | Trigger.ISSUE_COMPENSATION:
            return [firing(trigger, proposal=one) for one in (None, *(proposal.id for proposal in case.proposals))]
        case _:
            return [firing(trigger)]


def succeeds(case: Case, actor: Actor, attempt: c.Fire) -> bool:
    try:
        decide(case, a_context(), attempt, actor, NOON)
    except Refused:
        return False
    return True


def situations() -> dict[str, Case]:
    paying = a_ready_desk(CaseState.INVESTIGATING)
    paying.do(DIRK, begins(paying.case.proposals[0]))
    fresh = {f"{state} unanswered": a_case(state) for state in CaseState}
    ready = {f"{state} ready": a_ready_desk(state).case for state in CaseState}
    return fresh | ready | {"paying": paying.case, "without a purchase": a_desk(purchase=None).case}


SITUATIONS = situations()


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_said_to_be_allowed_is_what_some_data_can_do(situation: str) -> None:
    case = SITUATIONS[situation]
    people = [Actor(kind="person", id="somebody", roles=frozenset(roles)) for roles in combinations(Role, 2)]

    for actor in (ANA, LOU, CLEO, AUDREY, *people):
        for answer in permissions(case, actor, NOON, a_context()):
            can = any(succeeds(case, actor, attempt) for attempt in every_attempt(case, answer.trigger))
            assert answer.allowed == can, (actor, answer)
            assert answer.allowed == (not answer.refusals)
            assert all(refusal.code and refusal.text for refusal in answer.refusals)


def test_every_trigger_is_answered_once_with_where_it_leads() -> None:
    answers = permissions(a_case(), ANA, NOON, a_context())

    assert [answer.trigger for answer in answers] == list(Trigger)
    assert [answer.target.value for answer in answers] == [
        "investigating",
        "adjustment_offered",
        "consultation_scheduled",
        "compensation_issued",
        "refunded",
        "investigating",
        "closed",
        "investigating",
    ]


def test_an_answer_names_the_data_that_an_attempt_needs() -> None:
    needs = {answer.trigger.value: answer.needs for answer in permissions(a_case(), ANA, NOON, a_context())}

    assert needs == {
        "investigate": (),
        "offer_adjustment": ("description", "answer_by"),
        "schedule_consultation": ("starts_at", "minutes", "channel"),
        "issue_compensation": ("proposal",),
        "refund": ("proposal", "payment_reference"),
        "resume": ("reason_code",),
        "close": ("resolution",),
        "reopen": (),
    }


def test_a_state_without_the_trigger_is_a_reason_and_a_role_that_never_may_is_another() -> None:
    opened = a_case(CaseState.OPENED)

    assert codes(asked(opened, CLEO, Trigger.REFUND)) == ["no_such_transition"]
    assert codes(asked(opened, ANA, Trigger.REFUND)) == ["no_such_transition", "role"]
    assert asked(opened, ANA, Trigger.REFUND).refusals[1].who == (Role.APPROVER, Role.SYSTEM)


def test_every_reason_is_given_at_once_with_its_clause_and_who_could() -> None:
    desk = a_desk()
    a_refund("600.00").carry_out(desk)
    desk.do(ANA, restates(desk.case.purchase, package="launch and care"))

    answer = asked(desk.case, ANA, Trigger.REFUND)

    assert set(codes(answer)) == {
        "role",
        "proposal_is_not_void",
        "proposal_is_approved",
        "provider_confirms_a_begun_payout",
        "settled_by_another_person",
        "facts_are_checked",
    }
    facts = next(refusal for refusal in answer.refusals if refusal.code == "facts_are_checked")
    assert facts.clause == "P3"
    assert facts.who == (Role.AGENT, Role.LEAD)


def test_one_proposal_that_can_be_paid_is_enough() -> None:
    desk = a_desk()
    a_refund().carry_out(desk)
    an_approved_refund().carry_out(desk)
    a_refund().carry_out(desk)

    assert asked(desk.case, CLEO, Trigger.REFUND).allowed


def test_the_reasons_are_those_of_the_proposal_that_is_closest_to_being_paid() -> None:
    desk = a_desk()
    an_approved_refund("10.00", proposed_by=CLEO, approved_by=(DIRK,)).carry_out(desk)
    a_refund("10.00", proposed_by=CLEO).carry_out(desk)

    assert codes(asked(desk.case, CLEO, Trigger.REFUND)) == ["settled_by_another_person"]


def test_an_approver_may_resume_a_refunded_case_only_to_say_that_the_money_came_back() -> None:
    assert asked(a_case(CaseState.REFUNDED), CLEO, Trigger.RESUME).allowed
    assert not asked(a_case(CaseState.ADJUSTMENT_OFFERED), CLEO, Trigger.RESUME).allowed


def test_an_unanswered_client_keeps_a_remedy_from_closing_but_not_junk() -> None:
    assert codes(asked(a_case(CaseState.REFUNDED), ANA, Trigger.CLOSE)) == ["client_is_answered"]
    assert asked(a_case(CaseState.INVESTIGATING), ANA, Trigger.CLOSE).allowed


def test_facts_that_cannot_be_true_are_a_reason_and_not_an_accident() -> None:
    desk = a_desk(replace(a_context().policies[0], settings=Settings(timezone="Pacific/Kiritimati")))
    an_approved_refund().carry_out(desk)
    desk.do(ANA, restates(a_purchase(), deliverables_provided_at=NOON.replace(year=9999, month=12, day=31)))
    desk.do(ANA, CHECK)

    answer = permission(Trigger.REFUND, a_question(desk.case, CLEO, policies=desk.policies))

    assert "facts_are_possible" in codes(answer)


def test_the_time_to_reopen_is_over_after_thirty_days() -> None:
    desk = Desk()
    desk.open()
    desk.do(ANA, a_letter())
    desk.do(ANA, closing(Resolution.WITHDRAWN))

    on_time, late = (permission(Trigger.REOPEN, a_question(desk.case, ANA, at=NOON + days * DAY)) for days in (30, 31))

    assert on_time.allowed
    assert codes(late) == ["within_reopening_days"]


def test_why_not_is_what_the_very_command_would_be_refused_for() -> None:
    desk = a_desk()
    desk.do(ANA, restates(a_purchase(), package="another"))  # which nobody has checked
    before = desk.case

    def reasons(command: c.Command, actor: Actor = ANA) -> list[str]:
        return [one.code for one in why_not(desk.case, command, actor, NOON, a_context())]

    assert reasons(proposes(euros("10.00"))) == ["facts_are_checked"]
    assert reasons(CHECK) == []
    assert reasons(CHECK, AUDREY) == ["role"]
    assert reasons(firing(Trigger.REOPEN)) == ["no_such_transition"]
    assert reasons(c.AddNote(text="")) == []
    assert desk.case is before
