"""What letters may rest on, and the links that they bring along."""

import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ANA,
    DAY,
    NOON,
    Desk,
    a_desk,
    a_letter,
    a_link,
    an_opening,
    firing,
    from_the_client,
    refusal,
    wrong_fields,
)
from workflow import commands as c
from workflow import events as e
from workflow.deciding import LINK_LASTS, MAX_CLIENT_LINKS
from workflow.guards import Context
from workflow.letters import basis_of, rests_on
from workflow.people import token_commitment
from workflow.replaying import replay
from workflow.roles import Actor, Role
from workflow.states import LetterKind, Trigger


def offered() -> Desk:
    desk = a_desk()
    desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))
    return desk


def as_letter(desk: Desk, kind: LetterKind = LetterKind.ADJUSTMENT) -> c.AddMessage:
    context = Context(policies=desk.policies, people=desk.people)
    basis = rests_on(kind, desk.histories["A"])
    states = basis_of(kind, desk.case, context, desk.now)
    return a_letter(letter=c.Letter(kind=kind, basis=basis or 1, language="en", states=states))


def test_a_letter_is_recorded_with_what_it_rests_on() -> None:
    desk = offered()

    desk.do(ANA, as_letter(desk))

    sent = desk.histories["A"][-1].data
    assert isinstance(sent, e.MessageSent)
    assert (sent.letter, sent.basis, sent.language) == (LetterKind.ADJUSTMENT, desk.case.remedies[-1].seq, "en")
    assert replay(desk.histories["A"]) == desk.case


def test_what_has_nothing_to_do_with_it_leaves_a_letter_true() -> None:
    desk = offered()
    letter = as_letter(desk)
    desk.do(ANA, c.AddNote(text="rang"))
    desk.do(ANA, from_the_client())

    desk.do(ANA, letter)


def test_a_letter_is_refused_when_its_offer_was_answered_or_replaced_or_is_over() -> None:
    answered, replaced, over = offered(), offered(), offered()
    letters = [as_letter(one) for one in (answered, replaced, over)]
    una = Actor(kind="client", id="una", roles=frozenset({Role.CLIENT}))
    answered.do(ANA, a_link())
    answered.do(una, c.AnswerOffer(offer=answered.case.remedies[-1].seq, accepted=True))
    replaced.do(ANA, firing(Trigger.RESUME))
    replaced.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))
    over.now += 8 * DAY

    for desk, letter in zip((answered, replaced, over), letters, strict=True):
        assert refusal(desk, ANA, letter) == {"letter_states_what_is_recorded"}


def test_a_letter_about_nothing_is_refused() -> None:
    for kind in LetterKind:
        desk = a_desk()
        assert refusal(desk, ANA, as_letter(desk, kind)) == {"letter_states_what_is_recorded"}


def test_a_message_from_the_client_is_no_letter() -> None:
    desk = offered()
    letter = as_letter(desk).letter

    assert wrong_fields(desk, ANA, replace(from_the_client(), letter=letter)) == ["letter"]


# The links.


def link(name: str = "l1") -> c.NewLink:
    return c.NewLink(link_id=name, secret_hash=f"#{name}", expires_at=NOON + 90 * DAY)


def test_an_inquiry_brings_a_link_for_letters_unless_nobody_is_told() -> None:
    desk = Desk()
    opened = desk.do(ANA, an_opening(link=link()))
    silent = desk.do(ANA, an_opening("B", link=link("l2"), silent=True), "B")

    (made,) = opened.issued_links
    assert (made.id, made.letters, made.commitment) == ("l1", True, token_commitment("#l1"))
    assert silent.issued_links == ()
    assert desk.histories["A"][-1].event.personal == {}


def test_a_letter_brings_another_only_once_the_last_one_is_about_to_run_out() -> None:
    desk = Desk()
    desk.do(ANA, an_opening(link=link()))

    desk.now = NOON + 90 * DAY - LINK_LASTS - DAY
    before = desk.do(ANA, a_letter(link=link("l2")))
    desk.now += 2 * DAY
    after = desk.do(ANA, a_letter(link=replace(link("l3"), expires_at=desk.now + 90 * DAY)))

    assert [one.id for one in before.issued_links] == ["l1"]
    assert [one.id for one in after.issued_links] == ["l1", "l3"]


def test_a_link_that_was_made_by_hand_is_not_one_for_letters() -> None:
    desk = a_desk()
    desk.do(ANA, a_link())

    case = desk.do(ANA, a_letter(link=link()))

    assert [one.letters is True for one in case.issued_links] == [False, True]


@pytest.mark.parametrize("inbound", [True, False])
def test_no_link_comes_with_what_the_client_writes_nor_beyond_the_limit(inbound: bool) -> None:
    desk = a_desk()
    for number in range(0 if inbound else MAX_CLIENT_LINKS):
        desk.do(ANA, replace(a_link(), link_id=f"by-hand-{number}"))

    message = from_the_client() if inbound else a_letter()
    case = desk.do(ANA, replace(message, link=link()))

    assert all(one.letters is not True for one in case.issued_links)
