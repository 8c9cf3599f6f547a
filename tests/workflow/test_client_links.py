"""A client sees and answers one case by a link, for as long as that is good, and does nothing else."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ADAM,
    ANA,
    BO,
    DAY,
    LOU,
    MAIL,
    NOON,
    UNA,
    Desk,
    a_context,
    a_desk,
    a_letter,
    a_link,
    an_opening,
    answers,
    closing,
    firing,
    from_the_client,
    refusal,
    wrong_fields,
)
from workflow import commands as c
from workflow import events as e
from workflow.cases import Case
from workflow.deciding import MAX_CLIENT_LINKS, decide, require_target
from workflow.errors import Forbidden, NotFound
from workflow.people import token_commitment
from workflow.replaying import replay
from workflow.roles import Actor, Role, system_actor
from workflow.states import CaseState, RemedyKind, Resolution, ResumeReason, Trigger

HOUR = timedelta(hours=1)
REVOKE = c.RevokeClientLink(link_id=UNA.id, reason="sent to the wrong address")


def a_linked_desk() -> Desk:
    """Case A under investigation, which Una can see."""
    desk = a_desk()
    desk.do(ANA, a_link())
    return desk


def an_offer_is_made() -> Desk:
    """To be answered within seven days."""
    desk = a_linked_desk()
    desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))
    return desk


def links(case: Case) -> list[str]:
    return [one.id for one in case.issued_links]


def last(desk: Desk) -> e.Recorded:
    return desk.histories["A"][-1]


# The links.


@pytest.mark.parametrize("actor", [ANA, LOU, system_actor("operator")])
def test_whoever_works_cases_makes_a_link_that_the_case_knows_by_its_id(actor: Actor) -> None:
    desk = a_desk()
    (link,) = desk.do(actor, a_link()).issued_links

    assert (link.id, link.expires_at) == ("una", NOON + 90 * DAY)
    assert link.commitment == token_commitment("#una")


def test_neither_the_secret_nor_its_hash_enters_the_log() -> None:
    desk = a_linked_desk()

    assert b"#una" not in msgspec.json.encode(last(desk).event)
    assert last(desk).event.personal == {}


@pytest.mark.parametrize("until", [NOON - DAY, NOON, NOON + 366 * DAY + HOUR])
def test_a_link_ends_in_the_future_and_within_a_year(until: datetime) -> None:
    assert wrong_fields(a_desk(), ANA, a_link(until=until)) == ["expires_at"]


def test_an_id_is_given_once() -> None:
    assert wrong_fields(a_linked_desk(), ANA, a_link()) == ["link_id"]


def test_a_case_that_never_had_a_link_is_kept_as_it_was_before_there_were_any() -> None:
    desk = a_linked_desk()
    revoked = desk.do(ANA, REVOKE)

    assert b"client_links" not in msgspec.json.encode(a_desk().case)
    assert b"client_links" not in msgspec.json.encode(revoked)
    assert b"accepted" not in msgspec.json.encode(an_offer_is_made().case)


def test_a_link_that_is_revoked_is_gone_and_the_reason_stays_personal() -> None:
    desk = a_linked_desk()

    assert links(desk.do(BO, REVOKE)) == []
    assert set(last(desk).event.personal) == {"reason"}
    with pytest.raises(NotFound):
        desk.do(BO, REVOKE)
    with pytest.raises(NotFound):
        require_target(desk.case, REVOKE)


def test_links_that_have_run_out_go_with_the_next_one() -> None:
    desk = a_desk()
    desk.do(ANA, a_link(replace(UNA, id="short"), until=NOON + HOUR))
    desk.do(ANA, a_link(replace(UNA, id="long")))
    desk.now = NOON + HOUR
    assert links(desk.case) == ["short", "long"]

    assert links(desk.do(ANA, a_link(replace(UNA, id="new")))) == ["long", "new"]


def test_a_case_has_so_many_links_at_most_that_are_good() -> None:
    desk = a_desk()
    for number in range(MAX_CLIENT_LINKS):
        desk.do(ANA, a_link(replace(UNA, id=f"l{number}"), until=NOON + DAY))
    assert refusal(desk, ANA, a_link()) == {"client_links_are_few"}

    desk.now = NOON + DAY
    assert links(desk.do(ANA, a_link())) == ["una"]


def test_an_erased_clients_links_end() -> None:
    desk = a_linked_desk()
    command = c.Erase(legal_basis="GDPR Art. 17(1)(a)", override=True)
    (draft,) = decide(desk.case, a_context(kept=((1, "subject"),)), command, ADAM, NOON + HOUR)
    desk.record(draft, "case:A", ADAM, NOON + HOUR)

    assert links(desk.case) == []
    assert refusal(desk, UNA, from_the_client()) == {"link_is_good"}


# Whoever comes by one.


def test_a_message_by_a_link_is_the_clients_like_any_other() -> None:
    desk = a_linked_desk()
    desk.do(ANA, a_letter("Which banner?", awaits_reply=True))
    desk.now = NOON + HOUR

    case = desk.do(UNA, from_the_client("The red one."))

    assert last(desk).event.actor == "client:una"
    assert (case.waiting_since, case.is_answered, case.client_wrote_seq) == (None, False, case.version)
    assert case.update_due == NOON + HOUR + 7 * DAY


def other_case(desk: Desk) -> str:
    desk.open("B", purchase=None)
    return "B"


def run_out(desk: Desk) -> str:
    desk.now = NOON + 90 * DAY
    return "A"


def revoked(desk: Desk) -> str:
    desk.do(ANA, REVOKE)
    return "A"


def never_made(desk: Desk) -> str:
    desk.open("C", purchase=None)
    desk.do(ANA, a_link(replace(UNA, id="another")), "C")
    return "C"


@pytest.mark.parametrize("situation", [other_case, run_out, revoked, never_made])
def test_by_a_link_that_is_not_good_for_this_case_nothing_can_be_done(situation: Any) -> None:
    desk = an_offer_is_made()
    case_id = situation(desk)

    assert refusal(desk, UNA, from_the_client(), case_id) == {"link_is_good"}
    assert refusal(desk, UNA, answers(desk.case, accepted=True), case_id) == {"link_is_good"}


def test_a_link_is_good_until_the_very_moment_it_ends() -> None:
    desk = a_linked_desk()
    desk.now = NOON + 90 * DAY - timedelta(microseconds=1)

    assert desk.do(UNA, from_the_client()).client_wrote_seq == desk.case.version


@pytest.mark.parametrize(
    "command",
    [
        a_letter(),
        c.AddNote(text="hm"),
        an_opening("Z"),
        a_link(replace(UNA, id="further")),
        REVOKE,
        c.WaiveAnswer(message="m1", reason="thanks"),
        c.SetParticipants(participants=("una@elsewhere.example",)),
        c.Erase(legal_basis="GDPR Art. 17(1)"),
        closing(Resolution.WITHDRAWN),
        *(firing(trigger) for trigger in (Trigger.INVESTIGATE, Trigger.RESUME, Trigger.OFFER_ADJUSTMENT)),
    ],
    ids=lambda one: getattr(one, "trigger", type(one).__name__),
)
def test_a_client_writes_and_answers_offers_and_can_do_nothing_else(command: c.Command) -> None:
    with pytest.raises(Forbidden):
        an_offer_is_made().do(UNA, command)


@pytest.mark.parametrize("role", Role)
def test_what_the_client_said_is_written_down_by_them_or_by_whoever_heard_it(role: Role) -> None:
    desk = a_linked_desk()
    actor = Actor(kind="client", id="una", roles=frozenset({role}))
    if role in {Role.AUDITOR, Role.ADMIN}:
        with pytest.raises(Forbidden):
            desk.do(actor, from_the_client())
    else:
        assert desk.do(actor, from_the_client()).client_wrote_seq == desk.case.version


def test_nobody_but_the_client_answers_an_offer() -> None:
    desk = an_offer_is_made()

    for actor in (ANA, LOU, MAIL, system_actor("operator")):
        with pytest.raises(Forbidden):
            desk.do(actor, answers(desk.case, accepted=True))


# Answers to offers.


@pytest.mark.parametrize("accepted", [True, False])
def test_an_answer_to_an_offer_ends_the_waiting_and_is_kept_with_the_remedy(accepted: bool) -> None:
    desk = an_offer_is_made()
    due = desk.case.update_due
    assert desk.case.waiting_since is not None
    assert due is not None
    desk.now = NOON + DAY

    case = desk.do(UNA, answers(desk.case, accepted=accepted, text="But not before May."))

    assert (case.state, case.waiting_since, case.offer_due) == (CaseState.ADJUSTMENT_OFFERED, None, None)
    assert (case.remedies[-1].kind, case.remedies[-1].accepted) == (RemedyKind.ADJUSTMENT, accepted)
    assert case.open_offer is None
    assert case.update_due == NOON + DAY + 7 * DAY
    assert set(last(desk).event.personal) == {"text"}
    assert replay(desk.histories["A"]) == case


def test_an_answer_needs_no_further_words() -> None:
    desk = an_offer_is_made()
    desk.do(UNA, answers(desk.case, accepted=True))

    assert last(desk).event.personal == {}


def test_whoever_answered_an_offer_is_answered_by_a_person_before_the_case_is_closed() -> None:
    desk = an_offer_is_made()
    desk.do(ANA, a_letter())
    answered = desk.do(UNA, answers(desk.case, accepted=True))

    assert refusal(desk, ANA, closing(Resolution.REMEDY_ACCEPTED)) == {"client_is_answered"}
    desk.do(ANA, c.WaiveAnswer(message=f"m{answered.version}", reason="nothing is left to say"))
    assert desk.do(ANA, closing(Resolution.REMEDY_ACCEPTED)).state is CaseState.CLOSED


def test_after_a_refused_offer_the_case_is_investigated_again() -> None:
    desk = an_offer_is_made()
    desk.do(UNA, answers(desk.case, accepted=False))

    case = desk.do(ANA, firing(Trigger.RESUME, reason_code=ResumeReason.DECLINED))

    assert case.state is CaseState.INVESTIGATING
    assert (case.remedies[-1].accepted, case.remedies[-1].ended) == (False, "declined")


def test_an_offer_is_answered_once() -> None:
    desk = an_offer_is_made()
    desk.do(UNA, answers(desk.case, accepted=True))

    assert refusal(desk, UNA, answers(desk.case, accepted=False)) == {"offer_can_be_answered"}


def test_the_whole_of_the_last_day_is_the_clients_and_no_more() -> None:
    desk = an_offer_is_made()
    due = desk.case.offer_due
    assert due is not None

    desk.now = due + timedelta(microseconds=1)
    assert refusal(desk, UNA, answers(desk.case, accepted=True)) == {"offer_can_be_answered"}
    desk.now = due
    assert desk.do(UNA, answers(desk.case, accepted=True)).remedies[-1].accepted is True


def test_the_offer_that_was_read_is_the_one_that_is_answered() -> None:
    desk = an_offer_is_made()
    first = answers(desk.case, accepted=True)
    desk.do(ANA, firing(Trigger.RESUME))
    assert refusal(desk, UNA, first) == {"offer_can_be_answered"}

    desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))
    assert refusal(desk, UNA, first) == {"offer_is_the_last"}
    case = desk.do(UNA, answers(desk.case, accepted=True))
    assert [one.accepted for one in case.remedies] == [msgspec.UNSET, True]


def test_what_was_never_offered_cannot_be_answered() -> None:
    desk = an_offer_is_made()

    with pytest.raises(NotFound):
        require_target(desk.case, c.AnswerOffer(offer=1, accepted=True))


def test_a_message_leaves_the_offer_open() -> None:
    desk = an_offer_is_made()
    case = desk.do(UNA, from_the_client("What would it cost?"))

    assert case.open_offer is not None
    assert case.offer_due is not None
    assert desk.do(UNA, answers(case, accepted=True)).open_offer is None
