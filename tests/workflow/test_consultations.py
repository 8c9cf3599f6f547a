"""Consultations: times are proposed, the client picks one, it is moved, and somebody came or did not."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ANA,
    BO,
    DAY,
    LOU,
    MAIL,
    NOON,
    PEOPLE,
    SLOTS,
    UNA,
    Desk,
    a_desk,
    a_letter,
    a_link,
    an_approved_refund,
    begins,
    closing,
    firing,
    from_the_client,
    moves,
    picks,
    proposes_slots,
    refusal,
    wrong_fields,
)
from workflow import commands as c
from workflow.canonical import canonical
from workflow.cases import booked_slot
from workflow.errors import Forbidden, GuardRefused, NoSuchTransition
from workflow.roles import Actor, Role
from workflow.states import CaseState, Resolution, ResumeReason, Trigger

FIRST, SECOND = SLOTS
AN_HOUR = timedelta(hours=1)
NO_SHOW = firing(Trigger.RESUME, reason_code=ResumeReason.NO_SHOW)


def a_proposing_desk() -> Desk:
    """Ana has proposed two slots; Una has a link to the case."""
    desk = a_desk()
    desk.do(ANA, a_link())
    desk.do(ANA, proposes_slots())
    return desk


def a_booked_desk() -> Desk:
    """Una has picked the first."""
    desk = a_proposing_desk()
    desk.do(UNA, picks(desk.case))
    return desk


def a_busy_desk(begins_at: datetime = FIRST) -> Desk:
    """As `a_proposing_desk`; and Ana has another consultation, of case B, by now."""
    desk = a_proposing_desk()
    desk.open("B", purchase=None)
    desk.investigate("B")
    desk.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION, starts_at=begins_at), "B")
    return desk


# Proposing.


def test_proposed_slots_wait_for_the_client_and_hold_nothing() -> None:
    desk = a_desk()

    case = desk.do(ANA, proposes_slots(SECOND, FIRST, text="Which would suit you?"))

    assert case.proposed_slots is not None
    assert (case.proposed_slots.slots, case.proposed_slots.host) == (SLOTS, ANA.id)
    assert (case.state, case.waiting_since, booked_slot(case)) == (CaseState.INVESTIGATING, case.changed_at, None)


def test_a_lead_proposes_the_owners_time() -> None:
    assert a_desk().do(LOU, proposes_slots()).proposed_slots.host == ANA.id  # type: ignore[union-attr]


def test_a_new_proposal_takes_the_place_of_the_one_before() -> None:
    desk = a_proposing_desk()
    before = desk.case

    desk.do(ANA, proposes_slots(NOON + 9 * DAY))

    assert refusal(desk, UNA, picks(before)) == {"slot_was_proposed"}
    assert desk.do(UNA, picks(desk.case, NOON + 9 * DAY)).state is CaseState.CONSULTATION_SCHEDULED


@pytest.mark.parametrize(
    ("slots", "changes", "field"),
    [
        ((NOON,), {}, "slots"),
        ((NOON - DAY, NOON + DAY), {}, "slots"),
        ((NOON + 3651 * DAY,), {}, "slots"),
        ((FIRST, FIRST), {}, "slots"),
        ((FIRST + timedelta(seconds=1),), {}, "slots"),
        (tuple(FIRST + index * AN_HOUR for index in range(21)), {}, "slots"),
        ((), {"slots": ()}, "slots"),
        ((), {"minutes": 0}, "minutes"),
        ((), {"minutes": 1441}, "minutes"),
        ((), {"channel": " "}, "channel"),
    ],
)
def test_slots_that_make_no_sense_are_refused_by_field(
    slots: tuple[datetime, ...], changes: dict[str, object], field: str
) -> None:
    assert wrong_fields(a_desk(), ANA, proposes_slots(*slots, **changes)) == [field]


def test_slots_are_proposed_of_a_case_under_investigation_while_no_money_is_on_its_way() -> None:
    desk = a_booked_desk()
    assert refusal(desk, ANA, proposes_slots()) == {"case_is_investigated"}

    paying = a_desk()
    an_approved_refund().carry_out(paying)
    paying.do(Actor(kind="person", id="dirk", roles=frozenset({Role.APPROVER})), begins(paying.case.proposals[-1]))
    assert refusal(paying, ANA, proposes_slots()) == {"no_payout_under_way"}


def test_deadlines_stand_still_until_the_client_picks() -> None:
    desk = a_proposing_desk()
    due = desk.case.update_due
    assert due is not None
    desk.now += DAY

    case = desk.do(UNA, picks(desk.case))

    waited = case.changed_at - desk.histories["A"][-2].at
    assert (case.waiting_since, case.update_due) == (None, due + waited)


def test_deadlines_are_moved_once_where_another_wait_follows() -> None:
    desk = a_proposing_desk()
    began, due = desk.case.waiting_since, desk.case.update_due
    assert began is not None
    assert due is not None
    desk.now += DAY
    desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))
    assert (desk.case.proposed_slots, desk.case.waiting_since, desk.case.update_due) == (None, began, due)
    desk.now += DAY

    case = desk.do(UNA, from_the_client("That would be fine"))

    assert case.waiting_since is None
    assert case.update_due == desk.histories["A"][-1].data.update_due  # type: ignore[attr-defined]


def test_a_message_of_the_client_leaves_the_slots_to_be_picked() -> None:
    desk = a_proposing_desk()
    desk.do(UNA, from_the_client("Do I need my papers?"))

    assert desk.case.waiting_since is None
    assert desk.do(UNA, picks(desk.case, SECOND)).remedies[-1].starts_at == SECOND


def test_times_are_an_answer_until_the_letter_that_brings_them_comes_back() -> None:
    desk = a_desk()
    before = desk.case
    after = desk.do(ANA, proposes_slots())
    assert (before.is_answered, after.is_answered) == (False, True)
    assert after.first_answer_due is None

    case = desk.do(MAIL, c.RecordBounce(message=f"m{desk.case.version}"))

    assert not case.is_answered
    assert case.waiting_since is None
    assert case.proposed_slots is not None  # whoever has a link picks one all the same
    assert refusal(desk, ANA, closing(Resolution.EXPLAINED)) == {"client_is_answered"}


def test_a_link_for_the_letter_comes_along_unless_there_is_one_that_lasts() -> None:
    desk = a_desk()
    links = [
        c.NewLink(link_id=f"{number:016x}", secret_hash=f"{number}" * 64, expires_at=desk.now + 90 * DAY)
        for number in range(2)
    ]

    for link in links:
        desk.do(ANA, proposes_slots(link=link))

    assert [(one.id, one.letters) for one in desk.case.issued_links] == [(links[0].link_id, True)]


# Picking.


def test_the_client_books_the_slot_that_they_pick() -> None:
    desk = a_proposing_desk()
    seq = desk.case.version

    case = desk.do(UNA, picks(desk.case))

    event = desk.histories["A"][-1].event
    assert (event.actor, event.trigger, event.data.slot_of) == (UNA.key, "schedule_consultation", seq)
    assert event.guards == dict.fromkeys(
        ("no_payout_under_way", "no_other_consultation_overlaps", "slot_was_proposed"), True
    )
    assert booked_slot(case) == (ANA.id, FIRST, FIRST + AN_HOUR / 2)
    assert case.proposed_slots is None
    assert case.is_answered


def test_who_has_agreed_holds_it_even_if_somebody_else_owns_the_case_by_now() -> None:
    desk = a_proposing_desk()
    desk.do(LOU, c.Assign(assignee=BO.id))

    assert desk.do(UNA, picks(desk.case)).remedies[-1].host == ANA.id


def test_the_time_of_somebody_who_has_left_cannot_be_picked() -> None:
    desk = a_proposing_desk()
    desk.people = {**PEOPLE, ANA.id: replace(PEOPLE[ANA.id], active=False)}

    assert refusal(desk, UNA, picks(desk.case)) == {"slot_was_proposed"}


@pytest.mark.parametrize(
    "changes",
    [{"slot": NOON + 7 * DAY}, {"slot": FIRST + AN_HOUR}, {"minutes": 60}, {"slot_of": 1}, {"slot_of": 99}],
)
def test_a_client_books_nothing_but_what_was_proposed(changes: dict[str, Any]) -> None:
    desk = a_proposing_desk()

    assert refusal(desk, UNA, picks(desk.case, **changes)) == {"slot_was_proposed"}


@pytest.mark.parametrize("trigger", Trigger)
def test_a_client_fires_nothing_that_names_no_proposal(trigger: Trigger) -> None:
    desk = a_proposing_desk()
    data: dict[str, Any] = {"proposal": None} if trigger in {Trigger.REFUND, Trigger.ISSUE_COMPENSATION} else {}
    command = closing() if trigger is Trigger.CLOSE else firing(trigger, **data)

    with pytest.raises(Forbidden):
        desk.do(UNA, command)


def test_a_slot_that_was_taken_meanwhile_is_refused_and_the_others_stay() -> None:
    desk = a_busy_desk(begins_at=FIRST + timedelta(minutes=29))

    assert refusal(desk, UNA, picks(desk.case)) == {"no_other_consultation_overlaps"}
    assert desk.do(UNA, picks(desk.case, SECOND)).state is CaseState.CONSULTATION_SCHEDULED


def test_a_slot_that_begins_when_another_consultation_ends_is_free() -> None:
    desk = a_busy_desk(begins_at=FIRST - timedelta(minutes=30))

    assert desk.do(UNA, picks(desk.case)).state is CaseState.CONSULTATION_SCHEDULED


def test_a_slot_that_has_passed_cannot_be_picked() -> None:
    desk = a_proposing_desk()
    desk.now = FIRST

    assert wrong_fields(desk, UNA, picks(desk.case)) == ["data.starts_at"]


def test_a_second_pick_finds_the_consultation_booked() -> None:
    desk = a_proposing_desk()
    pick, other = picks(desk.case), picks(desk.case, SECOND)
    desk.do(UNA, pick)

    for again in (pick, other):
        with pytest.raises(NoSuchTransition):
            desk.do(UNA, again)


@pytest.mark.parametrize("ending", [firing(Trigger.OFFER_ADJUSTMENT), closing(Resolution.WITHDRAWN)])
def test_slots_end_when_the_case_leaves_the_investigation(ending: c.Fire) -> None:
    desk = a_proposing_desk()
    pick = picks(desk.case)
    desk.do(ANA, a_letter())
    desk.do(ANA, ending)
    desk.do(ANA, firing(Trigger.REOPEN) if desk.case.closed_at else firing(Trigger.RESUME))

    assert desk.case.proposed_slots is None
    assert refusal(desk, UNA, pick) == {"slot_was_proposed"}


def test_a_worker_may_book_a_proposed_slot_for_the_client_or_any_other() -> None:
    desk = a_proposing_desk()
    assert desk.do(ANA, picks(desk.case)).state is CaseState.CONSULTATION_SCHEDULED

    desk = a_proposing_desk()
    case = desk.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION, starts_at=NOON + 8 * DAY))
    assert (case.proposed_slots, case.waiting_since) == (None, None)


# Moving.


def test_a_moved_consultation_is_held_by_the_same_person_at_another_time() -> None:
    desk = a_booked_desk()
    desk.do(LOU, c.Assign(assignee=BO.id))

    case = desk.do(LOU, moves(minutes=45))

    remedy = case.remedies[-1]
    assert booked_slot(case) == (ANA.id, NOON + 5 * DAY, NOON + 5 * DAY + timedelta(minutes=45))
    assert (case.state, remedy.moves, remedy.channel) == (
        CaseState.CONSULTATION_SCHEDULED,
        (case.changed_at,),
        f"{case.version}/channel",
    )
    assert len(desk.do(LOU, moves(NOON + 6 * DAY)).remedies[-1].moves) == 2


def test_a_consultation_moves_neither_into_another_one_nor_into_the_past() -> None:
    desk = a_busy_desk(begins_at=SECOND)
    desk.do(UNA, picks(desk.case))

    assert refusal(desk, ANA, moves(SECOND)) == {"no_other_consultation_overlaps"}
    assert wrong_fields(desk, ANA, moves(NOON - DAY)) == ["starts_at"]
    assert wrong_fields(desk, ANA, moves(minutes=0)) == ["minutes"]
    assert wrong_fields(desk, ANA, moves(channel="", reason=" ")) == ["channel", "reason"]
    # Its own old time is in nobody's way.
    assert desk.do(ANA, moves(FIRST + timedelta(minutes=10))).remedies[-1].starts_at == FIRST + timedelta(minutes=10)


def test_only_what_is_booked_is_moved_or_attended() -> None:
    desk = a_proposing_desk()

    assert refusal(desk, ANA, moves()) == {"consultation_is_booked"}
    assert refusal(desk, ANA, c.RecordAttendance(attended=True)) == {"consultation_is_booked"}


# Coming, or not.


def test_attendance_is_recorded_once_the_consultation_has_begun_and_can_be_corrected() -> None:
    desk = a_booked_desk()
    desk.now = FIRST - timedelta(seconds=1)
    assert refusal(desk, ANA, c.RecordAttendance(attended=True)) == {"consultation_has_begun"}

    desk.now = FIRST
    assert desk.do(ANA, c.RecordAttendance(attended=True)).remedies[-1].attended is True
    version = desk.case.version
    assert desk.do(ANA, c.RecordAttendance(attended=True)).version == version
    assert desk.do(ANA, c.RecordAttendance(attended=True, text="She rang")).version == version + 1
    assert desk.do(ANA, c.RecordAttendance(attended=False)).remedies[-1].attended is False


def test_nobody_who_came_has_not_come() -> None:
    desk = a_booked_desk()
    desk.now = FIRST
    desk.do(ANA, c.RecordAttendance(attended=True))

    assert refusal(desk, ANA, NO_SHOW) == {"no_show_was_not_attended"}
    assert refusal(desk, ANA, moves()) == {"client_has_not_come"}

    desk.do(ANA, c.RecordAttendance(attended=False))
    assert desk.do(ANA, NO_SHOW).remedies[-1].ended == "no_show"


def test_whoever_did_not_come_may_be_told_otherwise_about() -> None:
    desk = a_booked_desk()
    desk.now = FIRST
    desk.do(ANA, c.RecordAttendance(attended=False))

    moved = desk.do(ANA, moves()).remedies[-1]
    assert not isinstance(moved.attended, bool)
    assert desk.do(ANA, firing(Trigger.RESUME, reason_code=ResumeReason.INSUFFICIENT)).remedies[-1].ended


def test_a_case_that_never_had_any_of_it_is_stored_as_it_was_before() -> None:
    body = canonical(a_desk().do(ANA, firing(Trigger.SCHEDULE_CONSULTATION)))

    for word in (b'"slots"', b'"moved"', b'"attended"', b"slot_of"):
        assert word not in body


@pytest.mark.parametrize(
    "actor", [UNA, Actor(kind="person", id="cleo", roles=frozenset({Role.APPROVER, Role.AUDITOR}))]
)
@pytest.mark.parametrize("command", [proposes_slots(), moves(), c.RecordAttendance(attended=True)])
def test_proposing_moving_and_attendance_are_for_workers(actor: Actor, command: c.Command) -> None:
    with pytest.raises(Forbidden):
        a_booked_desk().do(actor, command)


def test_a_revoked_link_picks_nothing() -> None:
    desk = a_proposing_desk()
    desk.do(ANA, c.RevokeClientLink(link_id=UNA.id))

    with pytest.raises(GuardRefused) as refused:
        desk.do(UNA, picks(desk.case))
    assert refused.value.codes == {"link_is_good"}
