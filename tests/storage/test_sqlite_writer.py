"""What can go wrong between a ledger and its SQLite file: other writers, readers that stay, a disk that is full."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from storage import sqlite, sqlite_writer
from storage.sqlite_writer import SqliteWriter
from storage.submissions import OutOfReach, Unavailable
from tests.databases import RawSql, copy_sqlite
from tests.storage.desks import NOTE, Office, an_office, together
from tests.workflow.builders import ANA, BO
from workflow import commands as c
from workflow.cases import Case

pytestmark = pytest.mark.parametrize("backend", ["sqlite"])

LARGE_NOTE = c.AddNote(text="x" * 20_000)


@pytest.fixture(params=["WAL", "DELETE"], autouse=True)
def journal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With a library that cannot be trusted with a write-ahead log the service uses the older journal."""
    monkeypatch.setattr(sqlite, "JOURNAL_MODE", request.param)
    monkeypatch.setattr(sqlite_writer, "LOCK_TIMEOUT_SECONDS", 1.0)
    return str(request.param)


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    async with an_office(database_url) as opened:
        await opened.investigate(ANA)
        yield opened


class Heartbeat:
    """The longest time for which nothing else got its turn."""

    async def __aenter__(self) -> Self:
        self.longest = 0.0
        self.beating = asyncio.create_task(self.beat())
        return self

    async def beat(self) -> None:
        while True:
            last = time.monotonic()
            await asyncio.sleep(0.01)
            self.longest = max(self.longest, time.monotonic() - last)

    async def __aexit__(self, *_: object) -> None:
        self.beating.cancel()


# Other connections.


async def test_a_lock_that_is_let_go_in_time_only_takes_time(office: Office, raw: RawSql) -> None:
    raw.run("BEGIN IMMEDIATE")
    async with Heartbeat() as heart:
        noting = [asyncio.create_task(office.do(ANA, NOTE)) for _ in range(3)]
        await asyncio.sleep(0.6)
        raw.run("ROLLBACK")

        versions = [(await one).version for one in noting]

    assert versions == [4, 5, 6]
    assert heart.longest < 0.4


async def test_a_file_that_somebody_keeps_locked_is_said_to_be_so_once_for_all_who_wait(
    office: Office, raw: RawSql
) -> None:
    raw.run("BEGIN IMMEDIATE")
    began = time.monotonic()
    async with Heartbeat() as heart:
        answers = await together(*(office.do(ANA, NOTE) for _ in range(50)))

    assert {type(one) for one in answers} == {OutOfReach}
    assert time.monotonic() - began < 4
    assert heart.longest < 0.4
    raw.run("ROLLBACK")
    assert (await office.do(ANA, NOTE)).version == 4
    assert await office.faults() == []


async def test_what_somebody_else_writes_between_two_commands_is_seen(office: Office, raw: RawSql) -> None:
    raw.run("UPDATE people SET body = json_set(body, '$.roles', json_array('auditor')) WHERE id = ?1", BO.id)

    refused, done = await together(office.do(BO, NOTE), office.do(ANA, NOTE))

    assert isinstance(refused, Exception)
    assert done.version == 4


async def test_somebody_who_reads_for_long_never_sees_half_of_a_command(
    office: Office, raw: RawSql, journal: str
) -> None:
    raw.run("BEGIN")
    before = raw.run("SELECT count(*) FROM events")

    (answer,) = await together(office.do(ANA, NOTE))

    # A rollback journal makes the writer wait for the reader; a write-ahead log does not.
    assert type(answer) is (Case if journal == "WAL" else Unavailable)
    assert raw.run("SELECT count(*) FROM events") == before
    raw.run("ROLLBACK")
    assert (await office.do(ANA, NOTE)).version == (5 if journal == "WAL" else 4)
    assert await office.faults() == []


# The disk.


class SmallDisk:
    """Has room for two megabytes; where this user may mount none, the file itself is kept from growing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_mounted = not self.mount("-t", "tmpfs", "-o", "size=2m", "casework").returncode

    def mount(self, *how: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(["mount", *how, self.folder], check=False, capture_output=True)

    def limit(self, writer: SqliteWriter, pages: int) -> None:
        if not self.is_mounted:
            writer.connection.execute(f"PRAGMA max_page_count = {pages}").close()

    def grow(self, writer: SqliteWriter) -> None:
        if self.is_mounted:
            self.mount("-o", "remount,size=20m")
        self.limit(writer, 5000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = SmallDisk(folder)
    yield disk
    if disk.is_mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_full_disk_loses_nothing_and_more_room_is_used_at_once(database_url: str, disk: SmallDisk) -> None:
    async with an_office(copy_sqlite(database_url, disk.folder / "casework.db")) as office:
        writer = office.ledger.writer
        assert isinstance(writer, SqliteWriter)
        disk.limit(writer, 250)
        await office.open()
        noted = 0
        with suppress(Unavailable):
            while noted < 500:
                await office.do(ANA, LARGE_NOTE)
                noted += 1
        assert 5 < noted < 500

        answers = await together(*(office.do(ANA, LARGE_NOTE) for _ in range(8)))

        noted += sum(isinstance(one, Case) for one in answers)
        assert {type(one) for one in answers} <= {Case, Unavailable}
        assert (await office.history()).count("note_added") == noted

        disk.grow(writer)
        assert (await office.do(ANA, LARGE_NOTE)).version == 3 + noted
        assert await office.faults() == []


async def test_a_statement_of_ours_that_is_wrong_is_a_bug_and_no_outage(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "INSERT_EVENT", sqlite_writer.INSERT_EVENT.replace("events", "evnts"))

    with pytest.raises(sqlite.driver.OperationalError, match="no such table"):
        await office.do(ANA, NOTE)
