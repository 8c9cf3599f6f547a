"""Findings on a real database: verified with the log, carried by backups, erased with their case."""

from pathlib import Path

import pytest

from storage import auditing, cases
from storage.backup import backup, restore
from storage.batch import Repeat
from storage.database import open_database
from storage.erasures import Erasures
from storage.journal import Journal
from storage.keys import log_of
from storage.submissions import Receipt
from storage.verify import verify
from tests.databases import PostgresServer, copy_sqlite, raw_sql
from tests.storage.desks import Office, a_key, an_office, at_noon, together
from tests.workflow.builders import ADAM, ANA, AUDREY, BO, LOU
from workflow import commands as c
from workflow.errors import GuardRefused
from workflow.events import Erased, Severity
from workflow.findings import AnswerFinding, CloseFinding, Finding, FindingCommand, OpenFinding
from workflow.roles import Actor

ERASE = c.Erase(legal_basis="GDPR Art. 17(1)(a)", reason="asked", override=True)


async def opening(office: Office, finding_id: str = "f", case_id: str = "A", text: str = "who saw it?") -> OpenFinding:
    first, _ = (await cases.events(office.database, case_id))[0]
    return OpenFinding(finding_id=finding_id, seq=1, event=first.hash, severity=Severity.MAJOR, text=text)


async def found(office: Office, by: Actor, command: FindingCommand, case_id: str = "A") -> Finding:
    receipt = await office.submit(by, command, case_id)
    assert isinstance(receipt, Receipt)
    assert receipt.finding is not None
    return receipt.finding


async def texts(office: Office, finding_id: str = "f", case_id: str = "A") -> dict[str, str]:
    told = await auditing.finding(office.database, case_id, finding_id)
    assert told is not None
    return told.texts


async def a_discussion(office: Office, case_id: str = "A") -> Finding:
    await office.open(case_id, purchase=None)
    await found(office, AUDREY, await opening(office, case_id=case_id), case_id)
    return await found(office, ANA, AnswerFinding(finding_id="f", text="Bo did"), case_id)


async def test_a_finding_is_a_chain_of_its_own_that_verifies(database_url: str) -> None:
    async with an_office(database_url) as office:
        finding = await a_discussion(office)
        closed = await found(office, AUDREY, CloseFinding(finding_id="f", text="seen"))

        assert (finding.version, closed.version, (await office.case()).version) == (2, 3, 1)
        assert await texts(office) == {"1/text": "who saw it?", "2/text": "Bo did", "3/text": "seen"}
        told = await auditing.finding(office.database, "A", "f")
        assert told is not None
        assert told.finding == closed
        assert await office.faults() == []


async def test_answers_at_the_same_time_all_find_their_place(database_url: str) -> None:
    async with an_office(database_url) as one, an_office(database_url) as other:
        await one.open("A", purchase=None)
        await found(one, AUDREY, await opening(one))
        answer = AnswerFinding(finding_id="f", text="so it was")

        outcomes = await together(*(each.submit(by, answer) for each in (one, other) for by in (ANA, BO, LOU)))

        assert [type(outcome) for outcome in outcomes] == [Receipt] * 6
        told = await auditing.finding(one.database, "A", "f")
        assert told is not None
        assert (told.finding.version, len(told.finding.answers)) == (7, 6)
        assert await one.faults() == []


async def test_of_two_closings_at_once_one_comes_too_late(database_url: str) -> None:
    async with an_office(database_url) as one, an_office(database_url) as other:
        await a_discussion(one)
        closing = CloseFinding(finding_id="f", text="seen")

        outcomes = await together(one.submit(AUDREY, closing), other.submit(AUDREY, closing))

        assert {type(outcome) for outcome in outcomes} == {Receipt, GuardRefused}


async def test_a_key_answers_with_the_finding_as_it_was_then(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_discussion(office)
        command = AnswerFinding(finding_id="f", text="and it is attached")
        await office.submit(LOU, command, key=a_key())
        await found(office, BO, AnswerFinding(finding_id="f", text="I saw it"))

        again = await office.submit(LOU, command, key=a_key())

        assert again == Repeat(chain="finding:A:f", seq=3, version=3)


async def test_erasing_a_case_takes_what_was_said_in_its_findings_and_nobody_else_s(
    database_url: str,
) -> None:
    async with an_office(database_url) as office:
        for case_id in ("A", "AA"):
            await a_discussion(office, case_id)
        await found(office, AUDREY, await opening(office, "another"))

        erased = await office.submit(ADAM, ERASE)

        assert (await texts(office), len(await texts(office, case_id="AA"))) == ({}, 2)
        assert isinstance(erased, Receipt)
        data = erased.events[-1].data
        assert isinstance(data, Erased)
        assert {one.field: one.seqs for one in data.fields}["finding.text"] == "1-2"
        assert data.texts == 4 + 3  # as the case was opened, and in its two findings
        assert await office.faults() == []
        await found(office, AUDREY, await opening(office, "later"))
        assert await texts(office, "later") == {"1/text": "who saw it?"}
        assert await office.faults() == []


async def test_what_is_said_of_an_erased_case_can_be_erased_again(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_discussion(office)
        await office.submit(ADAM, ERASE)
        await found(office, AUDREY, await opening(office, "later"))

        again = await office.submit(ADAM, ERASE)

        assert isinstance(again, Receipt)
        assert [one.event.type for one in again.events] == ["erased"]
        assert await texts(office, "later") == {}
        assert (await office.submit(ADAM, ERASE)).seq == again.seq + 1  # nothing was left


async def test_what_is_said_in_the_batch_that_erases_is_gone_if_it_came_before(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.open("A", purchase=None)
        first, second = await opening(office, "before"), await opening(office, "after")

        outcomes = await together(
            office.submit(AUDREY, first), office.submit(ADAM, ERASE), office.submit(AUDREY, second)
        )

        assert [type(one) for one in outcomes] == [Receipt] * 3
        assert (await texts(office, "before"), len(await texts(office, "after"))) == ({}, 1)
        assert await office.faults() == []


async def test_verify_names_a_text_that_came_back(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_discussion(office)
        with raw_sql(database_url) as raw:
            (row,) = raw.run("SELECT salt, value FROM personal WHERE chain = 'finding:A:f' AND seq = 1")
        await office.submit(ADAM, ERASE)
        with raw_sql(database_url) as raw:
            raw.run(
                "INSERT INTO personal (chain, seq, field, salt, value) VALUES ('finding:A:f', 1, 'text', ?1, ?2)", *row
            )

        assert await office.faults() == ["finding:A:f event 1: the text 'text' was erased with its case, and is there"]


@pytest.mark.parametrize(("seq", "event"), [(2, None), (1, "0" * 64)], ids=["no such event", "another event"])
async def test_verify_names_a_finding_about_what_the_log_does_not_have(
    seq: int, event: str | None, database_url: str
) -> None:
    async with an_office(database_url) as office:
        await office.open("A", purchase=None)
        honest = await opening(office)
        forged = OpenFinding(
            finding_id="f", seq=seq, event=event or honest.event, severity=Severity.MINOR, text="made up"
        )
        await office.submit(AUDREY, forged)

        assert await office.faults() == ["finding:A:f event 1: is about an event that the log does not have"]


async def test_what_was_erased_does_not_come_back_with_an_older_backup(
    database_url: str, other_url: str, tmp_path: Path
) -> None:
    async with an_office(database_url) as office:
        await a_discussion(office)
        await backup(office.database, tmp_path / "desk.backup")
        office.ledger.journal = Journal(tmp_path, await log_of(office.database))
        office.ledger.journal.may_begin = True
        await office.submit(ADAM, ERASE)

    database = open_database(other_url)
    await restore(tmp_path / "desk.backup", database)
    await database.close()
    async with an_office(other_url) as office:
        assert len(await texts(office)) == 2
        erasures = Erasures(office.database, office.ledger, at_noon)
        await erasures.open(Journal(tmp_path, await log_of(office.database)))
        await erasures.close()

        assert await texts(office) == {}
        assert await office.faults() == []


@pytest.fixture
def other_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the other kind."""
    if backend == "postgresql":
        return copy_sqlite(request.getfixturevalue("sqlite_template"), tmp_path / "restored.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database(template=request.getfixturevalue("postgres_template"))


async def test_a_backup_carries_findings_from_one_database_to_the_other(
    database_url: str, other_url: str, tmp_path: Path
) -> None:
    async with an_office(database_url) as office:
        finding = await a_discussion(office)
        await backup(office.database, tmp_path / "desk.backup")

    database = open_database(other_url)
    try:
        await restore(tmp_path / "desk.backup", database)
        told = await auditing.finding(database, "A", "f")
        assert told is not None
        assert (told.finding, len(told.texts)) == (finding, 2)
        assert (await verify(database)).faults == ()
    finally:
        await database.close()
