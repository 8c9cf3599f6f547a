"""Every state with every trigger and every role: what the table does not list does not happen.

`BY_HAND` was typed from the design, not derived from the table, so that a wrong table is noticed.
"""

from itertools import combinations, product

import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    DIRK,
    MONEY_CAME_BACK,
    NOON,
    a_context,
    a_ready_desk,
    begins,
    closing,
    firing,
    refunds,
)
from workflow.cases import Case
from workflow.commands import Fire, IssueCompensationData
from workflow.deciding import decide
from workflow.errors import Refused
from workflow.lifecycle import BY_SOURCE, FROZEN, MACHINE, TARGETS, TRANSITIONS
from workflow.roles import Actor, Role
from workflow.states import CaseState, RemedyKind, Resolution, ResumeReason, Trigger

REMEDIES = ("adjustment_offered", "consultation_scheduled", "compensation_issued", "refunded")
EVERY_STATE = ("opened", "investigating", *REMEDIES, "closed")
AGENTS = {"agent", "lead"}

# trigger: sources, target, roles, guards
BY_HAND: dict[str, tuple[tuple[str, ...], str, set[str], set[str]]] = {
    "investigate": (("opened",), "investigating", AGENTS, {"assignee_works_cases"}),
    "offer_adjustment": (("investigating",), "adjustment_offered", AGENTS, {"no_payout_under_way"}),
    "schedule_consultation": (
        ("investigating",),
        "consultation_scheduled",
        AGENTS,
        {"no_payout_under_way", "no_other_consultation_overlaps", "slot_was_proposed"},
    ),
    "issue_compensation": (
        ("investigating",),
        "compensation_issued",
        AGENTS | {"approver", "system"},
        {"proposal_is_of_this_remedy", "proposal_is_not_void", "proposal_is_approved", "no_payout_under_way"},
    ),
    "refund": (
        ("investigating",),
        "refunded",
        {"approver", "system"},
        {
            "there_is_a_purchase",
            "proposal_is_of_this_remedy",
            "proposal_is_not_void",
            "proposal_is_approved",
            "provider_confirms_a_begun_payout",
            "settled_by_another_person",
            "facts_are_checked",
            "within_maximum",
            "no_payout_under_way",
            "payment_is_not_with_the_provider",
        },
    ),
    "resume": (
        REMEDIES,
        "investigating",
        AGENTS | {"approver", "system"},
        {
            "payment_failed_only_from_refunded",
            "reversed_by_another_person",
            "provider_reverses_its_own_refund",
            "no_show_was_not_attended",
        },
    ),
    "close": (
        ("opened", "investigating", *REMEDIES),
        "closed",
        AGENTS,
        {"resolution_fits_state", "client_is_answered", "no_payout_under_way"},
    ),
    "reopen": (("closed",), "investigating", AGENTS, {"within_reopening_days"}),
}

PAIRS = list(product(CaseState, Trigger))
ROLE_SETS = [frozenset(roles) for size in range(len(Role) + 1) for roles in combinations(Role, size)]


def is_listed(state: CaseState, trigger: Trigger) -> bool:
    return state.value in BY_HAND[trigger.value][0]


def may(roles: frozenset[Role], trigger: Trigger, reason: ResumeReason = ResumeReason.INSUFFICIENT) -> bool:
    listed = BY_HAND[trigger.value][2]
    if trigger is Trigger.RESUME:
        listed = {"approver", "system"} if reason is ResumeReason.PAYMENT_FAILED else AGENTS
    if trigger is Trigger.ISSUE_COMPENSATION:
        listed = AGENTS | {"approver"}  # without what the granting system knows it by
    return not listed.isdisjoint(role.value for role in roles)


READY: dict[CaseState, Case] = {state: a_ready_desk(state).case for state in CaseState}


def a_case_being_paid() -> Case:
    desk = a_ready_desk(CaseState.INVESTIGATING)
    return desk.do(DIRK, begins(desk.case.proposals[0]))


BEING_PAID = a_case_being_paid()


def a_good_attempt(state: CaseState, trigger: Trigger) -> tuple[Case, Fire]:
    """The case, and data that every guard accepts."""
    case = READY[state]
    match trigger:
        case Trigger.REFUND if state is CaseState.INVESTIGATING:
            return BEING_PAID, refunds(BEING_PAID.proposals[0])
        case Trigger.REFUND:
            return case, firing(trigger, proposal=None)
        case Trigger.ISSUE_COMPENSATION:
            credits = [one.id for one in case.proposals if one.remedy is RemedyKind.COMPENSATION]
            return case, firing(trigger, proposal=credits[-1] if credits else None)
        case Trigger.CLOSE if state in {CaseState.OPENED, CaseState.INVESTIGATING}:
            return case, closing(Resolution.WITHDRAWN)
        case Trigger.CLOSE:
            return case, closing(Resolution.REMEDY_ACCEPTED)
        case _:
            return case, firing(trigger)


def outcome(case: Case, command: Fire, roles: frozenset[Role]) -> str:
    """The target, or the kind of refusal."""
    actor = Actor(kind="person", id="somebody", roles=roles)
    try:
        first, *_ = decide(case, a_context(), command, actor, NOON)
    except Refused as refused:
        return refused.code
    assert first.trigger is command.trigger
    assert first.state_after is not None
    return first.state_after.value


@pytest.mark.parametrize(("state", "trigger"), PAIRS)
def test_only_a_listed_trigger_fired_in_a_listed_role_moves_a_case(state: CaseState, trigger: Trigger) -> None:
    case, command = a_good_attempt(state, trigger)
    assert case.state is state

    for roles in ROLE_SETS:
        expected = BY_HAND[trigger.value][1] if is_listed(state, trigger) else "no_such_transition"
        assert outcome(case, command, roles) == (expected if may(roles, trigger) else "forbidden"), roles


@pytest.mark.parametrize("state", CaseState)
def test_only_an_approver_says_that_money_came_back_and_only_of_a_refunded_case(state: CaseState) -> None:
    for roles in ROLE_SETS:
        expected = "no_such_transition"
        if state.value in REMEDIES:
            expected = "investigating" if state is CaseState.REFUNDED and Role.APPROVER in roles else "guard_refused"
        if not may(roles, Trigger.RESUME, ResumeReason.PAYMENT_FAILED):
            expected = "forbidden"
        assert outcome(READY[state], MONEY_CAME_BACK, roles) == expected, roles


@pytest.mark.parametrize("state", CaseState)
def test_a_payment_provider_says_so_of_its_own_payment(state: CaseState) -> None:
    own, other = (
        firing(Trigger.RESUME, reason_code=ResumeReason.PAYMENT_FAILED, payment_reference=reference)
        for reference in ("TR-1", "TR-2")
    )
    provider = frozenset({Role.SYSTEM})

    assert outcome(READY[state], own, provider) == (
        "investigating" if state is CaseState.REFUNDED else outcome(READY[state], other, provider)
    )
    assert outcome(READY[state], other, provider) == (
        "guard_refused" if state.value in REMEDIES else "no_such_transition"
    )


@pytest.mark.parametrize("state", CaseState)
def test_only_the_system_that_granted_a_compensation_confirms_it(state: CaseState) -> None:
    case, command = a_good_attempt(state, Trigger.ISSUE_COMPENSATION)
    assert isinstance(command.data, IssueCompensationData)
    confirmed = replace(command, data=replace(command.data, confirmation="credit-7"))

    for role in Role:
        expected = "compensation_issued" if state is CaseState.INVESTIGATING else "no_such_transition"
        assert outcome(case, confirmed, frozenset({role})) == (expected if role is Role.SYSTEM else "forbidden")


@pytest.mark.parametrize("state", CaseState)
@pytest.mark.parametrize("reason", [one for one in ResumeReason if one is not ResumeReason.PAYMENT_FAILED])
def test_every_other_reason_to_resume_is_a_workers_in_every_remedy(state: CaseState, reason: ResumeReason) -> None:
    command = firing(Trigger.RESUME, reason_code=reason)

    for role in Role:
        expected = "investigating" if state.value in REMEDIES else "no_such_transition"
        assert outcome(READY[state], command, frozenset({role})) == (
            expected if may(frozenset({role}), Trigger.RESUME) else "forbidden"
        )


def test_the_table_says_what_the_design_says() -> None:
    listed = {
        (source, trigger, target, frozenset(roles), frozenset(guards))
        for trigger, (sources, target, roles, guards) in BY_HAND.items()
        for source in sources
    }

    assert len(TRANSITIONS) == len(listed)
    assert {
        (
            row.source.value,
            row.trigger.value,
            row.target.value,
            frozenset(role.value for role in row.roles),
            frozenset(guard.__name__ for guard in row.guards),
        )
        for row in TRANSITIONS
    } == listed


def test_machine_and_frozen_table_and_targets_agree_with_the_design() -> None:
    edges = {(source, trigger): row[1] for trigger, row in BY_HAND.items() for source in row[0]}

    assert dict(FROZEN) == edges
    assert {key: row.target.value for key, row in BY_SOURCE.items()} == edges
    assert {trigger.value: target.value for trigger, target in TARGETS.items()} == {
        trigger: row[1] for trigger, row in BY_HAND.items()
    }
    assert {
        (step.source, name): step.dest
        for name, event in MACHINE.events.items()
        for steps in event.transitions.values()
        for step in steps
    } == edges


def test_states_and_triggers_are_named_as_their_values_in_machine_and_design() -> None:
    assert tuple(MACHINE.states) == tuple(state.value for state in CaseState) == EVERY_STATE
    assert [state.name for state in CaseState] == [state.upper() for state in EVERY_STATE]
    assert [trigger.value for trigger in Trigger] == list(BY_HAND)
    assert [trigger.name for trigger in Trigger] == [trigger.upper() for trigger in BY_HAND]


def test_the_machine_knows_no_way_around_the_table() -> None:
    assert set(MACHINE.events) == set(BY_HAND)
    assert not [name for name in MACHINE.events if name.startswith("to_")]


def test_the_machine_holds_no_case_however_many_it_moved() -> None:
    for state, trigger in PAIRS:
        outcome(*a_good_attempt(state, trigger), frozenset(Role))

    assert MACHINE.models == []
