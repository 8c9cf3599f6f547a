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
    Identity,
    LinkIdentity,
    Person,
    PersonCommand,
    RevokeToken,
    SetPassword,
    SetRoles,
    SignIn,
    Token,
    UnlinkIdentity,
    decide_person,
    evolve_person,
    identity_commitment,
    person_chain,
    token_commitment,
)
from workflow.roles import STAFF_ROLES, Actor, Role, TokenKind, system_actor

ADDING = AddPerson(person_id="kim", email="kim@example.com", name="Kim", roles=(Role.LEAD, Role.AGENT))
TOKEN = CreateToken(person_id="kim", token_id="t1", secret_hash="0" * 64)
LINKING = LinkIdentity(
    person_id="kim", identity_id="i1", issuer="https://id.example.com", subject="24400320", salt=b"s" * 32
)
SIGNING_IN = SignIn(person_id="kim", session_id="s1", secret_hash="1" * 64, expires_at=NOON + DAY / 2)
DESK = system_actor("sign-in")


def recorded(draft: Draft, person: Person | None) -> Recorded:
    one = sealed(draft, person_chain("kim"), None, ADAM, NOON)
    return replace(one, event=replace(one.event, seq=person.version + 1 if person else 1))


def after(*commands: PersonCommand) -> Person:
    """Kim after these commands of an admin, or of the desk where it is the desk's."""
    person = None
    for command in commands:
        for draft in decide_person(person, command, DESK if isinstance(command, SignIn) else ADAM, NOON):
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
        LINKING,
        UnlinkIdentity(person_id="kim", identity_id="i1"),
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
    assert wrong_field(UnlinkIdentity(person_id="kim", identity_id="i9"), kim) == "identity"


def test_a_disabled_person_loses_every_identity() -> None:
    gone = after(ADDING, LINKING, DisablePerson(person_id="kim"))

    assert gone.identities == ()
    with pytest.raises(GuardRefused) as refused:
        decide_person(gone, LINKING, ADAM, NOON)
    assert refused.value.codes == {"person_is_active"}


def test_an_identity_is_known_by_its_id_until_it_is_unlinked() -> None:
    kim = after(ADDING, LINKING)
    commitment = identity_commitment(LINKING.salt, LINKING.issuer, LINKING.subject)
    assert kim.identities == (Identity(id="i1", commitment=commitment),)

    assert after(ADDING, LINKING, UnlinkIdentity(person_id="kim", identity_id="i1")).identities == ()


def test_whom_a_provider_knows_does_not_enter_the_log_and_cannot_be_guessed_from_it() -> None:
    (draft,) = decide_person(after(ADDING), LINKING, ADAM, NOON)

    assert draft.personal == {}
    assert LINKING.subject not in str(draft.data)
    (another,) = decide_person(after(ADDING), replace(LINKING, salt=b"t" * 32), ADAM, NOON)
    assert draft.data != another.data


def test_issuer_and_subject_of_a_commitment_cannot_be_shifted() -> None:
    assert identity_commitment(b"s", "https://a", "bc") != identity_commitment(b"s", "https://ab", "c")


@pytest.mark.parametrize("ending", [SetPassword(person_id="kim", password_hash="$argon2id$"), None])
def test_a_new_password_and_an_unlinked_identity_end_all_sessions_and_no_token(ending: SetPassword | None) -> None:
    kim = after(ADDING, TOKEN, LINKING, SIGNING_IN, ending or UnlinkIdentity(person_id="kim", identity_id="i1"))

    assert [one.id for one in kim.tokens] == ["t1"]


def test_a_session_begins_by_an_identity_of_that_person_alone() -> None:
    kim = after(ADDING, LINKING, replace(SIGNING_IN, identity="i1"))
    assert [(one.id, one.kind) for one in kim.sessions] == [("s1", TokenKind.SESSION)]

    with pytest.raises(BadInput, match="identity"):
        decide_person(kim, replace(SIGNING_IN, identity="i2"), DESK, NOON)
    with pytest.raises(Forbidden):
        decide_person(kim, SIGNING_IN, ADAM, NOON)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"issuer": "id.example.com"}, "issuer"),
        ({"issuer": "https://id.example.com/" + "x" * 500}, "issuer"),
        ({"issuer": "https://id.example.com/\n"}, "issuer"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 256}, "subject"),
        ({"subject": "Кім"}, "subject"),
        ({"subject": "kim\x00"}, "subject"),
    ],
)
def test_an_identity_that_no_provider_can_have_is_refused(changes: dict[str, str], field: str) -> None:
    assert wrong_field(replace(LINKING, **changes), after(ADDING)) == field


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
