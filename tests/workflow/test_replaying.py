"""A history folded again gives the same case, at any version and any moment; and what the fold tells of deadlines."""

from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ANA,
    BO,
    CLEO,
    DAY,
    DIRK,
    MAIL,
    MONEY_CAME_BACK,
    NOON,
    Desk,
    a_case,
    a_desk,
    a_letter,
    an_approved_refund,
    begins,
    closing,
    fails,
    firing,
    from_the_client,
    lead_to,
    refunds,
    verifies,
)
from workflow import commands as c
from workflow.cases import Case
from workflow.deadlines import Deadline, DeadlineKind, deadlines, next_due
from workflow.errors import BrokenHistory
from workflow.events import DeskCreated, Recorded
from workflow.replaying import replay
from workflow.states import CaseState, RemedyKind, Resolution, ResumeReason, Trigger

HOUR = timedelta(hours=1)


def a_long_story() -> tuple[Desk, list[Case]]:
    """A case through most of its life, and the case as it was after each command."""
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    proposal = desk.case.proposals[-1]
    cases = [desk.case]
    for actor, command in [
        (DIRK, begins(proposal)),
        (DIRK, fails(proposal)),
        (DIRK, refunds(proposal)),
        (CLEO, MONEY_CAME_BACK),
        (BO, verifies(desk.case.grounds[0], verified=False)),
        (ANA, firing(Trigger.OFFER_ADJUSTMENT)),
        (ANA, a_letter(awaits_reply=True)),
        (MAIL, from_the_client("No, thank you.")),
        (ANA, firing(Trigger.RESUME, reason_code=ResumeReason.DECLINED)),
        (ANA, firing(Trigger.SCHEDULE_CONSULTATION)),
        (ANA, a_letter("Until Sunday.")),
        (ANA, closing(Resolution.REMEDY_ACCEPTED)),
        (ANA, firing(Trigger.REOPEN)),
    ]:
        desk.now += HOUR
        cases.append(desk.do(actor, command))
    return desk, cases


def test_a_replay_gives_the_case_as_it_was_at_every_version() -> None:
    desk, cases = a_long_story()
    history = desk.histories["A"]

    for case in cases:
        assert replay(history[: case.version]) == case
    assert replay(history) == desk.case


def test_a_replay_gives_the_case_as_it_was_at_every_moment() -> None:
    desk, cases = a_long_story()

    for case in cases:
        assert replay(one for one in desk.histories["A"] if one.at <= case.changed_at) == case


def test_a_replay_of_nothing_is_no_case() -> None:
    assert replay([]) is None


def test_a_case_survives_being_kept_as_json() -> None:
    for case in a_long_story()[1]:
        assert msgspec.json.decode(msgspec.json.encode(case), type=Case) == case


def test_a_case_knows_the_place_and_the_hash_of_its_last_event() -> None:
    desk, _ = a_long_story()
    last = desk.histories["A"][-1]

    assert (desk.case.version, desk.case.head, desk.case.changed_at) == (last.event.seq, last.hash, last.at)


def test_a_chain_that_these_rules_cannot_have_written_is_broken() -> None:
    first, second, *_ = a_desk().histories["A"]
    stranger = Recorded(
        event=replace(second.event, type="desk_created"), data=DeskCreated(timezone="UTC"), hash=second.hash
    )

    for history, seq in [([second], 2), ([first, first], 1), ([first, stranger], 2)]:
        with pytest.raises(BrokenHistory) as broken:
            replay(history)
        assert (broken.value.chain, broken.value.seq) == ("case:A", seq)


# Remedies.


def test_a_remedy_remembers_what_it_was_and_how_it_ended() -> None:
    desk, _ = a_long_story()

    assert [(one.kind, one.ended) for one in desk.case.remedies] == [
        (RemedyKind.REFUND, "payment_failed"),
        (RemedyKind.ADJUSTMENT, "declined"),
        (RemedyKind.CONSULTATION, None),
    ]
    consultation = desk.case.remedies[-1]
    assert (consultation.starts_at, consultation.minutes, consultation.host) == (NOON + 3 * DAY, 30, "ana")
    assert consultation.channel == f"{consultation.seq}/channel"


# Deadlines.


def test_a_letter_by_a_person_is_the_first_answer_and_puts_off_the_next_update() -> None:
    desk = Desk()
    desk.open()
    desk.now = NOON + 5 * HOUR

    answered = desk.do(ANA, a_letter())

    assert answered.first_answer_due is None
    assert answered.update_due == NOON + 5 * HOUR + 7 * DAY


def test_a_message_that_needs_no_answer_needs_no_first_answer_either() -> None:
    desk = Desk()
    desk.open()

    assert desk.do(ANA, c.WaiveAnswer(message="m1", reason="spoken to")).first_answer_due is None


def test_an_automatic_acknowledgement_puts_off_nothing() -> None:
    desk = Desk()
    opened = desk.open()
    desk.now = NOON + HOUR

    acknowledged = desk.do(MAIL, a_letter(awaits_reply=True))

    assert acknowledged.first_answer_due == opened.first_answer_due
    assert acknowledged.update_due == opened.update_due
    assert acknowledged.waiting_since is None


def test_a_letter_of_the_client_asks_for_an_update_within_days() -> None:
    desk = a_desk()
    desk.now = NOON + 2 * DAY

    assert desk.do(MAIL, from_the_client()).update_due == NOON + 9 * DAY


def test_a_question_to_the_client_waits_for_their_answer() -> None:
    desk = a_desk()

    assert desk.do(ANA, a_letter()).waiting_since is None
    assert desk.do(ANA, a_letter("Which banner?", awaits_reply=True)).waiting_since is not None
    assert desk.do(MAIL, from_the_client("The red one.")).waiting_since is None


def test_an_offer_waits_for_the_client_and_deadlines_stand_still_meanwhile() -> None:
    desk = a_desk()
    first_due = desk.case.first_answer_due
    assert first_due is not None

    offered = desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))
    waiting_since = offered.waiting_since
    assert waiting_since is not None
    assert {one.kind: one.paused for one in deadlines(offered)} == {
        DeadlineKind.FIRST_ANSWER: True,
        DeadlineKind.NEXT_UPDATE: True,
        DeadlineKind.OFFER_ANSWER: False,
    }
    assert next_due(offered) == offered.offer_due

    desk.now = waiting_since + 2 * DAY
    answered = desk.do(MAIL, from_the_client("Let me think."))
    assert answered.waiting_since is None
    assert answered.first_answer_due == first_due + 2 * DAY
    assert answered.offer_due == offered.offer_due


def test_a_letter_while_the_client_is_waited_for_starts_the_clock_of_the_update_anew() -> None:
    desk = a_desk()
    desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))
    desk.now = NOON + DAY

    reminded = desk.do(ANA, a_letter("A reminder."))

    assert reminded.waiting_since == NOON + DAY
    assert reminded.update_due == NOON + 8 * DAY


def test_a_remedy_that_is_over_waits_for_nobody() -> None:
    desk = a_desk()
    desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))
    desk.now = NOON + DAY

    resumed = desk.do(ANA, firing(Trigger.RESUME, reason_code=ResumeReason.DECLINED))

    assert (resumed.waiting_since, resumed.offer_due) == (None, None)
    assert resumed.update_due == NOON + 8 * DAY


def test_a_letter_that_bounced_waits_for_nobody_and_is_to_be_written_again_soon() -> None:
    desk = a_desk()
    letter = desk.do(ANA, a_letter(awaits_reply=True)).version
    desk.now = NOON + HOUR

    bounced = desk.do(MAIL, c.RecordBounce(message=f"m{letter}"))

    assert bounced.waiting_since is None
    assert next_due(bounced) == bounced.update_due == NOON + HOUR + DAY


def test_a_letter_that_bounced_after_closing_leaves_the_client_unanswered_and_the_case_closed() -> None:
    desk = a_desk()
    lead_to(CaseState.CLOSED, desk)

    bounced = desk.do(MAIL, c.RecordBounce(message=f"m{desk.case.answers[-1]}"))

    assert not bounced.is_answered
    assert bounced.state is CaseState.CLOSED
    assert deadlines(bounced) == ()


def test_a_closed_case_has_no_deadlines_and_a_reopened_one_has_the_next_update() -> None:
    desk = a_desk()
    desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))
    desk.do(ANA, a_letter())
    closed = desk.do(ANA, closing(Resolution.REMEDY_ACCEPTED))
    assert deadlines(closed) == ()
    assert next_due(closed) is None

    desk.now = NOON + DAY
    reopened = desk.do(ANA, firing(Trigger.REOPEN))
    assert deadlines(reopened) == (Deadline(kind=DeadlineKind.NEXT_UPDATE, due_at=NOON + 8 * DAY, paused=False),)
    assert (reopened.closed_at, reopened.resolution) == (None, None)


def test_mail_to_a_closed_case_is_recorded_and_leaves_it_closed() -> None:
    desk = a_desk()
    lead_to(CaseState.CLOSED, desk)

    written = desk.do(MAIL, from_the_client("One more thing."))

    assert written.state is CaseState.CLOSED
    assert not written.is_answered
    assert deadlines(desk.do(ANA, a_letter("Gladly.", awaits_reply=True))) == ()
    assert desk.case.waiting_since is None


@pytest.mark.parametrize("way", ["answer", "waive", "reopen"])
def test_mail_to_a_closed_case_is_new_until_somebody_answers_or_need_not(way: str) -> None:
    desk = a_desk()
    lead_to(CaseState.CLOSED, desk)
    assert not desk.case.has_new_mail

    written = desk.do(MAIL, from_the_client("One more thing."))
    assert written.has_new_mail
    assert desk.do(BO, c.AddNote(text="who takes it?")).has_new_mail

    ways: dict[str, c.Command] = {
        "answer": a_letter("Gladly."),
        "waive": c.WaiveAnswer(message=f"m{written.client_wrote_seq}", reason="only thanks"),
        "reopen": firing(Trigger.REOPEN),
    }
    after = desk.do(ANA, ways[way])
    assert after.mail_after_closing is msgspec.UNSET
    assert after.has_new_mail == (way == "reopen")  # in an open case it waits as any other does


def test_a_letter_that_comes_back_to_a_closed_case_is_new_mail() -> None:
    desk = a_desk()
    lead_to(CaseState.CLOSED, desk)

    assert desk.do(MAIL, c.RecordBounce(message=f"m{desk.case.answers[-1]}")).has_new_mail


def test_what_was_closed_unanswered_as_spam_is_new_only_when_they_write_again() -> None:
    desk = Desk()
    desk.open()
    assert desk.case.has_new_mail

    assert not desk.do(ANA, closing(Resolution.SPAM)).has_new_mail
    assert desk.do(MAIL, from_the_client("I am no robot.")).has_new_mail


def test_an_old_message_that_needs_no_answer_leaves_a_newer_one_new() -> None:
    desk = a_desk()
    lead_to(CaseState.CLOSED, desk)
    first = desk.do(MAIL, from_the_client()).client_wrote_seq
    desk.do(MAIL, from_the_client("Hello?"))

    assert desk.do(ANA, c.WaiveAnswer(message=f"m{first}", reason="said twice")).has_new_mail


def test_deadlines_come_soonest_first() -> None:
    case = a_case(CaseState.OPENED, received_at=NOON - HOUR)

    assert [(one.kind, one.due_at) for one in deadlines(case)] == [
        (DeadlineKind.FIRST_ANSWER, NOON + 23 * HOUR),
        (DeadlineKind.NEXT_UPDATE, NOON + 7 * DAY),
    ]
    assert next_due(case) == NOON + 23 * HOUR
