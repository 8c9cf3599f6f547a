"""What is erased is gone from the database, stays gone after a restore, and takes no proof with it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from storage import cases
from storage.backup import backup, restore
from storage.cases import Filter, Sort
from storage.database import open_database
from storage.erasures import REQUESTED, Erasures, cases_of, mails_of, renew_journal, said_of_journal
from storage.journal import CannotErase, Journal
from storage.keys import log_of
from storage.sequencer import Sequencer
from storage.verify import verify
from tests.databases import PostgresServer, copy_sqlite, raw_sql
from tests.storage.desks import Office, a_submission, an_office, together
from tests.storage.full_desk import EVIDENCE
from tests.storage.test_verify import undefended
from tests.workflow.builders import ADAM, ANA, LOU, MAIL, NOON, a_letter, closing, from_the_client
from workflow import commands as c
from workflow.desk import SetMailAside
from workflow.errors import Forbidden, GuardRefused, NotFound
from workflow.events import Erased
from workflow.policy import RETENTION_DAYS
from workflow.states import Resolution

SECRET = "Zaphodsecret"  # in every text of the client
ERASE = c.Erase(legal_basis="GDPR Art. 17(1)(a)", reason="asked by telephone", override=True)
SCHEDULE = c.Erase(legal_basis="GDPR Art. 17(1)(a)")
DAY = timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Outside the database."""
    return tmp_path / "keys"


@asynccontextmanager
async def a_desk(url: str, folder: Path, clock: Clock) -> AsyncIterator[tuple[Office, Erasures]]:
    """An office with its erasures, as a process that serves has them."""
    async with an_office(url, clock) as office:
        erasures = Erasures(office.database, office.ledger, clock)
        await erasures.open(Journal(folder, await log_of(office.database)))
        try:
            yield office, erasures
        finally:
            await erasures.close()


def journal_of(office: Office) -> Journal:
    assert office.ledger.journal is not None
    return office.ledger.journal


async def a_client_writes(office: Office, case_id: str = "A", email: str = "zaphod@secret.example") -> None:
    """A case with something of everything that a client leaves behind."""
    file = EVIDENCE.__class__(
        id=f"file-{case_id}", name=f"{SECRET}.pdf", content_type="application/pdf", content=f"%PDF {SECRET}".encode()
    )
    await office.open(
        case_id,
        purchase=None,
        subject=f"{SECRET} and the banners",
        message=f"They never ran, says {SECRET}.",
        client_name=f"{SECRET} Beeblebrox",
        client_email=email,
        attachments=(file,),
    )
    await office.do(MAIL, from_the_client(f"{SECRET} again"), case_id, mail_refs=(f"id:{case_id}", f"mail:{case_id}"))
    await office.do(ANA, a_letter(f"Dear {SECRET}"), case_id)
    await office.do(ANA, c.AddNote(text=f"{SECRET} rang"), case_id)


async def is_found(office: Office, words: str) -> list[str]:
    how: dict[str, Any] = {"now": NOON, "after": None, "limit": 50}
    return [one.entry.case.id for one in await cases.listing(office.database, Filter(q=words), Sort.OLDEST, **how)]


def rows_about(url: str, what: str) -> list[str]:
    """The tables of a PostgreSQL database in which a row holds the text, or the files of SQLite that hold its bytes."""
    with raw_sql(url) as raw:
        if raw.dialect == "sqlite":
            path = Path(url.removeprefix("sqlite:///"))
            files = [one for one in path.parent.glob(f"{path.name}*") if one.is_file()]
            return [one.name for one in files if what.lower().encode() in one.read_bytes().lower()]
        tables = raw.run("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        return [
            table
            for (table,) in tables
            if raw.run(f'SELECT 1 FROM "{table}" AS one WHERE one::text ILIKE ?1 LIMIT 1', f"%{what}%")
        ]


def bytes_about(url: str, what: str) -> list[str]:
    """As `rows_about`; a file's content is bytes, which PostgreSQL writes in hex."""
    return [*rows_about(url, what), *(rows_about(url, what.encode().hex()) if "postgresql" in url else [])]


async def test_nothing_of_what_is_erased_is_found_anywhere_in_the_database(
    database_url: str, folder: Path, clock: Clock
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await office.open("B", purchase=None, message="Ford is well.")
        await a_client_writes(office)
        await office.open("C", purchase=None, message="Trillian is well.")
        assert await is_found(office, SECRET) == ["A"]
        assert bytes_about(database_url, SECRET)

        await office.do(ADAM, ERASE, "A")

        assert bytes_about(database_url, SECRET) == []
        assert await is_found(office, SECRET) == []
        assert await is_found(office, "trillian") == ["C"]
        assert await cases_of(office.database, "zaphod@secret.example") == []
        entry = await cases.one(office.database, "A")
        assert entry is not None
        assert entry.texts == {f"{entry.case.version}/reason": "asked by telephone"}
        assert await office.faults() == []
    assert bytes_about(database_url, SECRET) == []


async def test_the_event_of_an_erasure_says_what_went_and_names_nobody(
    database_url: str, folder: Path, clock: Clock
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)

        await office.do(ADAM, ERASE, "A")

        recorded, body = (await cases.events(office.database, "A"))[-1]
        assert isinstance(recorded.data, Erased)
        assert {one.field: one.seqs for one in recorded.data.fields} == {
            "client_email": "1",
            "client_name": "1",
            "content": "2",
            "message": "1",
            "name": "2",
            "subject": "1",
            "text": "3-5",
        }
        assert (recorded.data.texts, recorded.data.files, recorded.data.through) == (8, 1, 5)
        assert SECRET not in body


async def test_a_second_erasure_does_nothing_until_there_is_something_again(
    database_url: str, folder: Path, clock: Clock
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)
        erased = await office.do(ADAM, ERASE, "A")

        assert (await office.do(ADAM, ERASE, "A")).version == erased.version

        await office.do(MAIL, from_the_client(f"{SECRET} once more"), "A")
        assert await is_found(office, SECRET) == ["A"]
        again = await office.do(ADAM, ERASE, "A")
        assert bytes_about(database_url, SECRET) == []
        reasons = {f"{one.version}/reason": ERASE.reason for one in (erased, again)}
        assert await cases.texts_of(office.database, "A") == reasons
        entry = office.ledger.writer.cache.get("A")
        assert entry is not None
        assert entry.texts == reasons
        assert await office.faults() == []


async def test_what_comes_in_one_batch_with_an_erasure_goes_or_stays_by_its_place(
    database_url: str, folder: Path, clock: Clock
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)

        await together(
            office.submit(MAIL, from_the_client(f"{SECRET} before"), "A"),
            office.submit(ADAM, ERASE, "A"),
            office.submit(MAIL, from_the_client("Thank you, Marvin."), "A"),
        )

        history = await office.history("A")
        texts = await cases.texts_of(office.database, "A")
        place = history.index("erased") + 1
        assert {pointer for pointer in texts if int(pointer.partition("/")[0]) < place} == set()
        after = [seq for seq, kind in enumerate(history, 1) if seq > place]
        assert {int(pointer.partition("/")[0]) for pointer in texts} == {place, *after}
        assert await office.faults() == []


async def test_messages_that_are_written_meanwhile_are_erased_or_whole(
    database_url: str, folder: Path, clock: Clock, backend: str
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)
        async with an_office(database_url, clock) as other:
            writers = (office, other) if backend == "postgresql" else (office,)
            notes = [one.submit(ANA, c.AddNote(text=f"note {n}"), "A") for one in writers for n in range(10)]

            answers = await together(*notes[:7], office.submit(ADAM, ERASE, "A"), *notes[7:])

        assert [one for one in answers if isinstance(one, Exception)] == []
        history, texts = await office.history("A"), await cases.texts_of(office.database, "A")
        place = history.index("erased") + 1
        written = {f"{seq}/text" for seq, kind in enumerate(history, 1) if kind == "note_added" and seq > place}
        assert texts.keys() == written | {f"{place}/reason"}
        assert await office.faults() == []


@pytest.mark.parametrize("backend", ["postgresql"])
async def test_another_process_forgets_what_was_erased(database_url: str, folder: Path, clock: Clock) -> None:
    async with (
        a_desk(database_url, folder, clock) as (office, _),
        a_desk(database_url, folder, clock) as (other, watch),
    ):
        await a_client_writes(other)
        assert other.ledger.writer.cache.get("A") is not None

        await office.do(ADAM, ERASE, "A")
        await Sequencer(office.database).catch_up()
        await watch.forget()

        assert other.ledger.writer.cache.get("A") is None


@pytest.mark.parametrize("backend", ["sqlite"])
async def test_what_somebody_was_reading_while_it_was_erased_goes_when_they_have_read(
    database_url: str, folder: Path, clock: Clock
) -> None:
    async with a_desk(database_url, folder, clock) as (office, watch):
        await a_client_writes(office)
        with raw_sql(database_url) as reader:
            reader.run("BEGIN")
            reader.run("SELECT count(*) FROM cases")
            await office.do(ADAM, ERASE, "A")
            await watch.forget()
            reader.run("ROLLBACK")

        await watch.forget()

        assert bytes_about(database_url, SECRET) == []


# Hold and retention.


async def test_an_erasure_waits_until_the_case_need_no_longer_be_kept_and_no_hold_stands(
    database_url: str, folder: Path, clock: Clock
) -> None:
    async with a_desk(database_url, folder, clock) as (office, erasures):
        await a_client_writes(office)
        assert (await office.do(ADAM, SCHEDULE, "A")).erasure_request is not None
        await office.do(ANA, closing(Resolution.WITHDRAWN), "A")

        clock.now += (RETENTION_DAYS - 1) * DAY
        assert await erasures.carry_out_due() == []
        clock.now += 2 * DAY
        await office.do(LOU, c.PlaceHold(reason=f"a court wants to hear {SECRET}"), "A")
        assert await erasures.carry_out_due() == []
        with pytest.raises(GuardRefused):
            await office.do(ADAM, ERASE, "A")
        await office.do(LOU, c.ReleaseHold(reason="it has heard them"), "A")
        ((case, receipt),) = await erasures.carry_out_due()

        assert (case.id, receipt.events[-1].event.actor) == ("A", "system:timer")
        assert bytes_about(database_url, SECRET) == []
        assert await erasures.carry_out_due() == []
        assert await office.faults() == []


async def test_what_is_due_is_found_without_reading_every_case(database_url: str, folder: Path, clock: Clock) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)
        await office.do(ADAM, SCHEDULE, "A")
    with raw_sql(database_url) as raw:
        if raw.dialect == "postgresql":
            raw.run("SET enable_seqscan = off")  # which is the fastest among so few
        how = "EXPLAIN QUERY PLAN" if raw.dialect == "sqlite" else "EXPLAIN"

        plan = "\n".join(str(row[-1]) for row in raw.run(f"{how} {REQUESTED}"))

    assert ("SEARCH cases" if raw.dialect == "sqlite" else "Index Cond: (id = ") in plan, plan


async def test_a_case_that_cannot_be_read_does_not_end_the_watch_for_what_is_due(
    database_url: str, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.erasures.FORGET_SECONDS", 0.01)
    monkeypatch.setattr("storage.erasures.DUE_SECONDS", 0)
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)
        await office.do(ADAM, SCHEDULE, "A")
        await office.do(ANA, closing(Resolution.WITHDRAWN), "A")
        ((body,),) = await office.database.rows(text("SELECT body FROM cases"))

        def alter() -> None:
            """In a thread: it waits for locks that the desk may hold, and the desk has to go on."""
            with raw_sql(database_url) as raw, undefended(raw):
                raw.run("UPDATE cases SET body = replace(body, '{', '{{')")
                clock.now += (RETENTION_DAYS + 1) * DAY
                time.sleep(0.1)
                raw.run("UPDATE cases SET body = ?1", body)

        await asyncio.to_thread(alter)

        for _ in range(3000):
            await asyncio.sleep(0.01)
            if bytes_about(database_url, SECRET) == []:
                return
        pytest.fail("it is not erased")


# The journal.


@pytest.fixture
def older_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A second database of the same kind, migrated and empty."""
    if backend == "sqlite":
        yield copy_sqlite(request.getfixturevalue("sqlite_template"), tmp_path / "older.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database(request.getfixturevalue("postgres_template"))
    yield url
    server.drop_database(url)


async def bring_back(source: Path, url: str) -> None:
    database = open_database(url)
    await restore(source, database)
    await database.close()


async def test_what_was_erased_does_not_come_back_with_an_older_backup(
    database_url: str, older_url: str, folder: Path, clock: Clock, tmp_path: Path
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)
        await office.open("B", purchase=None, message="Ford is well.")
        await backup(office.database, tmp_path / "desk.backup")
        await office.open("later", purchase=None)
        for case_id in ("A", "later"):
            await office.do(ADAM, ERASE, case_id)
        first = (await cases.events(office.database, "A"))[-1][0]
    await bring_back(tmp_path / "desk.backup", older_url)
    assert bytes_about(older_url, SECRET)

    async with a_desk(older_url, folder, clock) as (office, _):
        again = (await cases.events(office.database, "A"))[-1][0]
        assert isinstance(again.data, Erased)
        assert (again.data.reapplies, again.event.actor) == (first.hash, "system:journal")
        assert bytes_about(older_url, SECRET) == []
        assert await is_found(office, "ford") == ["B"]
        report = await verify(office.database, erasures_in=folder)
        assert (report.faults, [one for one in report.warnings if "journal" in one]) == ((), [])
        assert [one.key for one in journal_of(office).entries()].count(first.hash) == 2
        version = (await office.case("A")).version
        assert (await office.do(ADAM, ERASE, "A")).version == version

    async with a_desk(older_url, folder, clock) as (office, _):
        assert (await office.case("A")).version == version


async def test_without_its_journal_the_same_backup_would_bring_everything_back(
    database_url: str, older_url: str, folder: Path, clock: Clock, tmp_path: Path
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)
        await backup(office.database, tmp_path / "desk.backup")
        await office.do(ADAM, ERASE, "A")
    await bring_back(tmp_path / "desk.backup", older_url)

    async with a_desk(older_url, tmp_path / "nothing", clock):
        assert bytes_about(older_url, SECRET)


async def test_a_backup_of_after_the_erasure_holds_nothing_of_it(
    database_url: str, older_url: str, folder: Path, clock: Clock, tmp_path: Path
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)
        await office.do(ADAM, ERASE, "A")
        await backup(office.database, tmp_path / "desk.backup")
    await bring_back(tmp_path / "desk.backup", older_url)

    async with a_desk(older_url, folder, clock) as (office, _):
        assert bytes_about(older_url, SECRET) == []
        assert (await office.history("A")).count("erased") == 1
        assert await office.faults() == []


async def test_what_a_crash_kept_from_the_journal_is_made_good_at_the_next_start(
    database_url: str, folder: Path, clock: Clock
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)
        await a_client_writes(office, "B")
        await office.do(ADAM, ERASE, "A")
        journal, office.ledger.journal = journal_of(office), None
        await office.do(ADAM, ERASE, "B")
        with journal.path.open("ab") as file:
            file.write(b'{"at":"2026')  # torn
        assert len(journal.entries()) == 1

    async with a_desk(database_url, folder, clock) as (office, _):
        assert [one.chain for one in journal_of(office).entries()] == ["case:A", "case:B"]
        assert (await verify(office.database, erasures_in=folder)).faults == ()


async def test_a_journal_that_is_missing_is_told_and_nothing_more_is_erased_until_it_is_made_good(
    database_url: str, folder: Path, clock: Clock
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)
        await a_client_writes(office, "B")
        await office.do(ADAM, ERASE, "A")
        journal_of(office).path.unlink()

    async with a_desk(database_url, folder, clock) as (office, _):
        (fault,) = (await verify(office.database, erasures_in=folder)).faults
        assert "is missing: put it back" in str(fault)
        answers = await together(office.submit(ANA, c.AddNote(text="a note"), "B"), office.submit(ADAM, ERASE, "B"))
        assert [type(one).__name__ for one in answers] == ["Receipt", "CannotErase"]

        assert await renew_journal(office.database, journal_of(office)) == 1
        await office.do(ADAM, ERASE, "B")

        assert [one.chain for one in journal_of(office).entries()] == ["case:A", "case:B"]
        assert (await verify(office.database, erasures_in=folder)).faults == ()
        with pytest.raises(CannotErase):
            await renew_journal(office.database, journal_of(office))


async def test_verify_finds_an_erased_text_that_somebody_put_back(
    database_url: str, folder: Path, clock: Clock
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)
        with raw_sql(database_url) as raw:
            kept = raw.run("SELECT chain, seq, field, salt, value FROM personal WHERE chain = 'case:A' AND seq = 1")
            await office.do(ADAM, ERASE, "A")
            for row in kept[:1]:
                raw.insert("personal", dict(zip(("chain", "seq", "field", "salt", "value"), row, strict=True)))

        (fault,) = await office.faults()
        assert "was erased, and is there" in fault


async def test_a_refused_erasure_leaves_everything_and_no_entry(database_url: str, folder: Path, clock: Clock) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_client_writes(office)
        await office.do(LOU, c.PlaceHold(reason="a court asks for it"), "A")

        (answer,) = await asyncio.gather(office.ledger.submit(a_submission(ADAM, ERASE, "A")), return_exceptions=True)

        assert isinstance(answer, GuardRefused)
        assert await is_found(office, SECRET) == ["A"]
        assert journal_of(office).entries() == ()


# Mail that was set aside belongs to no case.


async def a_mail_is_set_aside(office: Office, sender: str, text: str) -> None:
    await office.submit(MAIL, SetMailAside(reason="auto_submitted", sender=sender, subject="Away", text=text), None)


async def erase_mails(office: Office, email: str = "zaphod@secret.example") -> list[Any]:
    """By two at once, as two processes might."""
    chains = await mails_of(office.database, email)
    commands = [replace(ERASE, mail=chain) for chain in chains]
    return await together(*(office.submit(ADAM, one, None) for one in commands for _ in range(2)))


async def test_mail_that_was_set_aside_goes_with_its_sender_and_does_not_come_back(
    database_url: str, folder: Path, clock: Clock, sqlite_template: str, tmp_path: Path
) -> None:
    restored = copy_sqlite(sqlite_template, tmp_path / "restored.db")
    async with a_desk(database_url, folder, clock) as (office, _):
        for sender, text in (
            ("zaphod@secret.example", f"{SECRET} is on holiday"),
            ("", f"\ufffdFrom: <Zaphod@secret.example> {SECRET}"),
            ("ford@example.com", "Ford is on holiday"),
            ("", "\ufffdFrom: <azaphod@secret.example>"),
        ):
            await a_mail_is_set_aside(office, sender, text)
        await backup(office.database, tmp_path / "backup")

        answers = await erase_mails(office)

        assert sorted(len(one.events) for one in answers) == [0, 0, 1, 1]
        assert bytes_about(database_url, SECRET) == []
        assert rows_about(database_url, "Ford is on holiday")
        assert rows_about(database_url, "azaphod@secret.example")
        assert await mails_of(office.database, "zaphod@secret.example") == []
        (erased, _) = (one.events[0] for one in answers if one.events)
        assert (erased.event.seq, erased.data.texts, erased.data.through) == (2, 3, 1)
        assert await office.faults() == []
        assert len(journal_of(office).entries()) == 2

    older = open_database(restored)
    await restore(tmp_path / "backup", older)
    assert "2" in (await said_of_journal(older, Journal(folder, await log_of(older))))[0]
    await older.close()
    assert bytes_about(restored, SECRET)
    for _ in range(2):
        async with a_desk(restored, folder, clock) as (office, _):
            assert bytes_about(restored, SECRET) == []
            assert await office.faults() == []
            assert len(journal_of(office).entries()) == 4


async def test_only_an_admin_erases_mail_and_only_what_was_set_aside(
    database_url: str, folder: Path, clock: Clock
) -> None:
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_mail_is_set_aside(office, "zaphod@secret.example", f"{SECRET} is on holiday")
        await a_client_writes(office)
        (chain,) = await mails_of(office.database, "zaphod@secret.example")

        refusals = await together(
            office.submit(LOU, replace(ERASE, mail=chain), None),
            office.submit(ADAM, replace(ERASE, mail="case:A"), None),
            office.submit(ADAM, replace(ERASE, mail="set_aside:nothing"), None),
        )

        assert [type(one) for one in refusals] == [Forbidden, NotFound, NotFound]
        assert await mails_of(office.database, "zaphod@secret.example") == [chain]
        assert await office.faults() == []


async def test_an_erased_mail_that_is_put_back_is_found(database_url: str, folder: Path, clock: Clock) -> None:
    columns = ("chain", "seq", "field", "salt", "value")
    async with a_desk(database_url, folder, clock) as (office, _):
        await a_mail_is_set_aside(office, "zaphod@secret.example", f"{SECRET} is on holiday")
        with raw_sql(database_url) as raw:
            (row,) = raw.run(f"SELECT {', '.join(columns)} FROM personal WHERE field = 'text'")
            await erase_mails(office)
            raw.insert("personal", dict(zip(columns, row, strict=True)))

        (fault,) = await office.faults()
        assert "the text 'text' was erased, and is there" in fault
