"""The people of the desk: who may change them, and what their chain tells of them."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflow.builders import ADAM, ANA, AUDREY, BO, CLEO, DAY, LOU, MAIL, NOON, sealed
from workflow.errors import BadInput, BrokenHistory, Forbidden, GuardRefused
from workflow.events import Draft, NoteAdded, Recorded
from workflow.people import (
    AddPerson,
    CreateToken,
    DisablePerson,
    Person,
    PersonCommand,
    RevokeToken,
    SetRoles,
    Token,
    decide_person,
    evolve_person,
    person_chain,
    token_commitment,
)
from workflow.roles import STAFF_ROLES, Actor, Role

ADDING = AddPerson(person_id="kim", email="kim@example.com", name="Kim", roles=(Role.LEAD, Role.AGENT))
TOKEN = CreateToken(person_id="kim", token_id="t1", secret_hash="0" * 64)


def recorded(draft: Draft, person: Person | None) -> Recorded:
    one = sealed(draft, person_chain("kim"), None, ADAM, NOON)
    return replace(one, event=replace(one.event, seq=person.version + 1 if person else 1))


def after(*commands: PersonCommand) -> Person:
    """Kim after these commands of an admin."""
    person = None
    for command in commands:
        for draft in decide_person(person, command, ADAM, NOON):
            person = evolve_person(person, recorded(draft, person))
    assert person is not None
    return person


def wrong_field(command: PersonCommand, person: Person | None) -> str:
    with pytest.raises(BadInput) as bad:
        decide_person(person, command, ADAM, NOON)
    (error,) = bad.value.errors
    return error.field


def test_a_new_person_has_the_roles_given_in_the_order_people_list_them() -> None:
    kim = after(ADDING)

    assert (kim.id, kim.key, kim.chain) == ("kim", "person:kim", "desk:person:kim")
    assert kim.roles == (Role.AGENT, Role.LEAD)
    assert (kim.name, kim.email) == ("1/name", "1/email")
    assert kim.active
    assert kim.as_actor() == Actor(kind="person", id="kim", roles=frozenset({Role.AGENT, Role.LEAD}))


def test_names_and_addresses_stay_out_of_the_event() -> None:
    (draft,) = decide_person(None, ADDING, ADAM, NOON)

    assert set(draft.personal) == {"name", "email"}
    assert "Kim" not in str(draft.data)


@pytest.mark.parametrize("actor", [ANA, LOU, CLEO, AUDREY, MAIL])
@pytest.mark.parametrize(
    "command",
    [
        ADDING,
        SetRoles(person_id="kim", roles=(Role.ADMIN,)),
        DisablePerson(person_id="kim"),
        TOKEN,
        RevokeToken(person_id="kim", token_id="t1"),
    ],
)
def test_only_an_admin_changes_people_and_tokens(actor: Actor, command: PersonCommand) -> None:
    with pytest.raises(Forbidden) as refused:
        decide_person(after(ADDING), command, actor, NOON)

    assert refused.value.refusals[0].who == (Role.ADMIN,)


@pytest.mark.parametrize("roles", [(), (Role.SYSTEM,), (Role.AGENT, Role.CLIENT)])
def test_people_hold_staff_roles_and_at_least_one(roles: tuple[Role, ...]) -> None:
    assert wrong_field(replace(ADDING, roles=roles), None) == "roles"
    assert wrong_field(SetRoles(person_id="kim", roles=roles), after(ADDING)) == "roles"


def test_a_person_can_hold_every_staff_role() -> None:
    assert after(replace(ADDING, roles=(*reversed(STAFF_ROLES), Role.AGENT))).roles == STAFF_ROLES


def test_roles_are_replaced_and_the_same_roles_are_not_told_again() -> None:
    auditor = after(ADDING, SetRoles(person_id="kim", roles=(Role.AUDITOR,)))

    assert auditor.roles == (Role.AUDITOR,)
    assert decide_person(auditor, SetRoles(person_id="kim", roles=(Role.AUDITOR,)), ADAM, NOON) == ()


def test_a_disabled_person_loses_every_token_and_gets_no_new_one_nor_roles() -> None:
    gone = after(ADDING, TOKEN, DisablePerson(person_id="kim"))

    assert not gone.active
    assert gone.tokens == ()
    commands: list[Any] = [TOKEN, SetRoles(person_id="kim", roles=(Role.ADMIN,)), DisablePerson(person_id="kim")]
    for command in commands:
        with pytest.raises(GuardRefused) as refused:
            decide_person(gone, command, ADAM, NOON)
        assert refused.value.codes == {"person_is_active"}


def test_a_token_is_known_by_its_id_until_it_is_revoked() -> None:
    kim = after(ADDING, replace(TOKEN, expires_at=NOON + DAY))
    assert kim.tokens == (Token(id="t1", commitment=token_commitment(TOKEN.secret_hash), expires_at=NOON + DAY),)

    (draft,) = decide_person(kim, RevokeToken(person_id="kim", token_id="t1"), ADAM, NOON)
    assert evolve_person(kim, recorded(draft, kim)).tokens == ()


def test_no_secret_of_a_token_enters_the_log() -> None:
    (draft,) = decide_person(after(ADDING), TOKEN, ADAM, NOON)

    assert draft.personal == {}
    assert TOKEN.secret_hash not in str(draft.data)


def test_impossible_changes_of_people_name_their_field() -> None:
    kim = after(ADDING)

    assert wrong_field(ADDING, kim) == "person_id"
    assert wrong_field(TOKEN, None) == "person_id"
    assert wrong_field(replace(TOKEN, expires_at=NOON), kim) == "expires_at"
    assert wrong_field(RevokeToken(person_id="kim", token_id="t9"), kim) == "token"


def test_a_persons_chain_begins_with_the_person_and_tells_of_nothing_else() -> None:
    kim = after(ADDING)
    (adding,) = decide_person(None, ADDING, ADAM, NOON)
    (disabling,) = decide_person(kim, DisablePerson(person_id="kim"), ADAM, NOON)

    for person, draft in [(None, disabling), (kim, adding), (kim, Draft(data=NoteAdded()))]:
        with pytest.raises(BrokenHistory):
            evolve_person(person, recorded(draft, person))


def test_a_person_knows_when_they_were_last_changed() -> None:
    kim = after(ADDING)
    (draft,) = decide_person(kim, TOKEN, ADAM, NOON)
    later = sealed(draft, kim.chain, None, ADAM, NOON + timedelta(hours=1))

    changed = evolve_person(kim, later)

    assert (changed.changed_at, changed.head) == (NOON + timedelta(hours=1), later.hash)


def test_an_actor_may_what_any_of_their_roles_may() -> None:
    both = Actor(kind="person", id="kim", roles=frozenset({Role.AUDITOR, Role.AGENT}))

    assert both.may(frozenset({Role.AGENT, Role.LEAD}))
    assert not both.may(frozenset({Role.APPROVER}))
    assert not Actor(kind="person", id="kim", roles=frozenset()).may(frozenset(Role))
    assert BO.key == "person:bo"
    assert MAIL.key == "system:mail"
