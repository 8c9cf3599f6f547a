"""By what identity providers know people: one person's alone, kept beside the log, and proved by it."""

from pathlib import Path

import pytest
from sqlalchemy import text

from storage import people
from storage.backup import backup, restore
from storage.database import open_database
from tests.databases import REFUSALS, copy_sqlite, raw_sql
from tests.storage.desks import OPERATOR, Office, a_submission, an_office, together
from tests.workflow.builders import ADAM, ANA, BO, NOON
from workflow.errors import BadInput
from workflow.people import (
    CreateToken,
    DisablePerson,
    LinkIdentity,
    RevokeToken,
    SetPassword,
    SignIn,
    UnlinkIdentity,
)
from workflow.roles import Actor

ISSUER = "https://id.step-into.example"


def linking(person: Actor = ANA, subject: str = "248289761001", identity_id: str = "i-1") -> LinkIdentity:
    return LinkIdentity(person_id=person.id, identity_id=identity_id, issuer=ISSUER, subject=subject, salt=b"s" * 32)


async def stored(office: Office) -> list[tuple[str, str, str]]:
    query = text("SELECT id, person_id, subject FROM identities ORDER BY id")
    return [tuple(row) for row in await office.database.rows(query)]


async def test_an_identity_is_kept_until_it_is_unlinked(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.submit(ADAM, linking(), None)
        await office.submit(ADAM, linking(subject="another", identity_id="i-2"), None)
        assert await stored(office) == [("i-1", "ana", "248289761001"), ("i-2", "ana", "another")]
        assert await office.faults() == []

        await office.submit(ADAM, UnlinkIdentity(person_id="ana", identity_id="i-1"), None)
        assert await stored(office) == [("i-2", "ana", "another")]
        assert await office.faults() == []


async def test_a_person_is_found_by_issuer_and_subject_together(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.submit(ADAM, linking(), None)
        found = await people.by_identity(office.database, ISSUER, "248289761001")
        assert found is not None
        assert (found[0].id, found[1]) == ("ana", "i-1")
        assert await people.by_identity(office.database, f"{ISSUER}/", "248289761001") is None
        assert await people.by_identity(office.database, ISSUER, "24828976100") is None
        assert await people.identities_of(office.database, "ana") == [("i-1", ISSUER, "248289761001")]
        assert await people.identities_of(office.database, "bo") == []
        assert await people.with_identity(office.database) == {"ana"}


async def test_when_and_by_whom_the_tokens_that_somebody_has_were_made(database_url: str) -> None:
    async with an_office(database_url) as office:
        for token in ("t_1", "t%1", "t-gone"):
            await office.submit(ADAM, CreateToken(person_id="ana", token_id=token, secret_hash=f"#{token}"), None)
        await office.submit(OPERATOR, CreateToken(person_id="bo", token_id="tx1", secret_hash="#tx1"), None)
        await office.submit(ADAM, RevokeToken(person_id="ana", token_id="t-gone"), None)
        ana, bo, cleo = [await people.one(office.database, name) for name in ("ana", "bo", "cleo")]
        assert ana is not None
        assert bo is not None
        assert cleo is not None

        made = await people.tokens_made(office.database, ana)
        assert {token: one.event.actor for token, one in made.items()} == {"t_1": "person:adam", "t%1": "person:adam"}
        made = await people.tokens_made(office.database, bo)
        assert [one.event.actor for one in made.values()] == ["system:operator"]
        assert await people.tokens_made(office.database, cleo) == {}


async def test_nothing_of_an_identity_but_a_commitment_enters_the_log(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.submit(ADAM, linking(), None)
        await office.submit(ADAM, UnlinkIdentity(person_id="ana", identity_id="i-1"), None)

        bodies = await office.database.rows(text("SELECT body FROM events UNION ALL SELECT value FROM personal"))
        assert not [body for (body,) in bodies if "248289761001" in body or ISSUER in body]


async def test_an_identity_is_one_persons_alone(database_url: str) -> None:
    async with an_office(database_url) as office:
        answers = await together(
            office.submit(ADAM, linking(ANA), None), office.submit(ADAM, linking(BO, identity_id="i-2"), None)
        )
        assert sorted(type(one).__name__ for one in answers) == ["BadInput", "Receipt"]
        with pytest.raises(BadInput, match="subject: is somebody's already"):
            await office.submit(ADAM, linking(ANA, identity_id="i-3"), None)
        assert len(await stored(office)) == 1


async def test_an_identity_is_one_persons_in_another_process_too(database_url: str) -> None:
    async with an_office(database_url) as office, an_office(database_url) as other:
        answers = await together(
            office.submit(ADAM, linking(ANA), None), other.submit(ADAM, linking(BO, identity_id="i-2"), None)
        )
        assert sorted(type(one).__name__ for one in answers) == ["BadInput", "Receipt"]


async def test_an_identity_that_was_unlinked_can_be_anothers_at_once(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.submit(ADAM, linking(ANA), None)
        await together(
            office.submit(ADAM, UnlinkIdentity(person_id="ana", identity_id="i-1"), None),
            office.submit(ADAM, linking(BO, identity_id="i-2"), None),
        )
        assert await stored(office) == [("i-2", "bo", "248289761001")]
        await office.submit(ADAM, DisablePerson(person_id="bo"), None)
        assert await stored(office) == []
        await office.submit(ADAM, linking(ANA, identity_id="i-3"), None)
        assert await office.faults() == []


async def test_nobody_signs_in_by_an_identity_that_was_unlinked_meanwhile(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.submit(ADAM, linking(), None)
        await office.submit(ADAM, UnlinkIdentity(person_id="ana", identity_id="i-1"), None)
        session = SignIn(
            person_id="ana",
            session_id="s-1",
            secret_hash="#",
            expires_at=NOON.replace(hour=23),
            identity="i-1",
        )
        with pytest.raises(BadInput, match="identity"):
            await office.ledger.submit(a_submission(OPERATOR, session, None))


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE identities SET person_id = 'bo'", "the identity i-1: the row is not what the log says in person_id"),
        ("UPDATE identities SET subject = 'x'", "the identity i-1: the row is not what the log says in pair"),
        ("UPDATE identities SET id = 'i-9'", "the identity i-9: there is a row, and nothing in the log"),
        ("DELETE FROM identities", "the identity i-1: the log has it, and no row"),
    ],
)
async def test_an_identity_that_was_tampered_with_is_found(database_url: str, statement: str, said: str) -> None:
    async with an_office(database_url) as office:
        await office.submit(ADAM, linking(), None)
        with raw_sql(database_url) as raw:
            raw.run(statement)
        assert said in await office.faults()


async def test_the_database_itself_refuses_a_second_person(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.submit(ADAM, linking(), None)
        with raw_sql(database_url) as raw, pytest.raises(REFUSALS, match=r"one_person_per_identity|UNIQUE"):
            raw.run("INSERT INTO identities SELECT 'i-2', 'bo', issuer, subject, salt FROM identities")


async def test_identities_and_passwords_come_back_with_a_backup(
    database_url: str, tmp_path: Path, sqlite_template: str
) -> None:
    async with an_office(database_url) as office:
        await office.submit(ADAM, linking(), None)
        await office.submit(ADAM, SetPassword(person_id="bo", password_hash="$argon2id$…"), None)
        before = await stored(office)
        await backup(office.database, tmp_path / "backup")
    database = open_database(copy_sqlite(sqlite_template, tmp_path / "restored.db"))
    await restore(tmp_path / "backup", database)
    await database.close()
    async with an_office(f"sqlite:///{tmp_path / 'restored.db'}") as restored:
        assert await stored(restored) == before
        assert await restored.faults() == []
