"""One table says everything that can happen; the machine moves by it and answers with reasons."""

import hashlib
import json
import logging

import msgspec
import pytest

from tests.workflow.builders import (
    ANA,
    CLEO,
    DAY,
    NOON,
    a_case,
    a_context,
    a_desk,
    a_refund,
    closing,
    firing,
    refunds,
    refusal,
    restates,
)
from workflow.canonical import canonical
from workflow.deciding import decide
from workflow.errors import NoSuchTransition
from workflow.events import Edge
from workflow.guards import GuardContext
from workflow.lifecycle import LIFECYCLE, LOGGED_TABLE, TRANSITIONS, fire, triggers_of
from workflow.states import CaseState, Resolution, Trigger


def test_a_trigger_that_the_state_lacks_is_refused_with_those_it_has() -> None:
    case = a_case(CaseState.OPENED)

    with pytest.raises(NoSuchTransition) as refused:
        fire(Trigger.REFUND, GuardContext(case=case, actor=CLEO, now=NOON, context=a_context()))

    assert (refused.value.trigger, refused.value.state) == (Trigger.REFUND, CaseState.OPENED)
    assert refused.value.allowed == (Trigger.INVESTIGATE, Trigger.CLOSE) == triggers_of(CaseState.OPENED)
    assert str(refused.value) == "the case is opened; refund needs a case that is investigating"


def test_a_closed_case_can_only_be_reopened() -> None:
    assert triggers_of(CaseState.CLOSED) == (Trigger.REOPEN,)


def test_a_refusal_gives_the_reason_of_every_guard_at_once() -> None:
    desk = a_desk()
    a_refund("600.00", proposed_by=CLEO).carry_out(desk)
    desk.do(ANA, restates(desk.case.purchase, deliverables_provided_at=NOON - 19 * DAY))

    assert refusal(desk, CLEO, refunds(desk.case.proposals[-1])) == {
        "proposal_is_not_void",
        "proposal_is_approved",
        "settled_by_another_person",
        "facts_are_checked",
    }
    assert refusal(desk, ANA, closing(Resolution.REMEDY_ACCEPTED)) == {"resolution_fits_state", "client_is_answered"}


def test_a_transition_is_told_with_its_trigger_its_states_and_the_verdict_of_every_guard() -> None:
    desk = a_desk()

    desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT, reason="the audience was too wide"))

    event = desk.histories["A"][-1].event
    assert (event.type, event.trigger) == ("adjustment_offered", "offer_adjustment")
    assert (event.state_before, event.state_after) == ("investigating", "adjustment_offered")
    assert event.guards == {"no_payout_under_way": True}
    assert event.lifecycle == LIFECYCLE
    assert set(event.personal) == {"reason", "description"}


def test_a_mistake_inside_a_guard_is_not_taken_for_a_no() -> None:
    desk_without_a_policy = a_context(policies=())

    with pytest.raises(ValueError, match="empty"):
        decide(a_case(CaseState.CLOSED), desk_without_a_policy, firing(Trigger.REOPEN), ANA, NOON)


def test_the_logged_table_has_every_row_and_is_named_by_its_hash() -> None:
    body = canonical(LOGGED_TABLE)

    assert len(LOGGED_TABLE) == len(TRANSITIONS)
    assert msgspec.convert(json.loads(body), tuple[Edge, ...]) == LOGGED_TABLE
    assert hashlib.sha256(body).hexdigest() == LIFECYCLE


def test_the_library_does_not_log_every_step() -> None:
    assert logging.getLogger("transitions").level == logging.WARNING
