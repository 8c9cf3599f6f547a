"""What is taken away is what the filter says, as of one moment, and however much there is in the same memory."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api.exporting import Format
from bench.verifying import make_desk
from storage import backup as backups
from storage.database import open_database
from storage.exports import ChainKind, Wanted, export
from storage.submissions import Unavailable
from tests.databases import PostgresServer, RawSql, sqlite_url
from tests.processes import ROOT
from tests.storage.desks import Office, an_office
from tests.storage.full_desk import fill
from tests.storage.proofs import disarm
from tests.workflow.builders import ANA, LOU, NOON, a_letter, firing
from workflow.canonical import leaf_hash
from workflow.policy import Category
from workflow.states import CaseState, Trigger


class Clock:
    now = NOON

    def __call__(self) -> Any:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def office(database_url: str, clock: Clock) -> AsyncIterator[Office]:
    """Ana's case A of Monday, in which something happens on Wednesday, and nobody's case B of Tuesday."""
    async with an_office(database_url, clock) as office:
        await office.investigate(ANA, "A", purchase=None)
        clock.now += timedelta(days=1)
        await office.open("B", purchase=None, category=Category.DELAY)
        clock.now += timedelta(days=1)
        await office.do(ANA, a_letter(), "A")
        yield office


MONDAY, TUESDAY, WEDNESDAY, THURSDAY = (NOON + timedelta(days=days) for days in range(4))


async def cases(office: Office, wanted: Wanted) -> list[str]:
    async with export(office.database, wanted) as found:
        return [one.case.id async for one in found.cases()]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Wanted(), ["A", "B"]),
        (Wanted(state=CaseState.INVESTIGATING), ["A"]),
        (Wanted(category=Category.DELAY), ["B"]),
        (Wanted(assignee="ana"), ["A"]),
        (Wanted(assignee=""), ["B"]),
        (Wanted(assignee="ana' OR '%' LIKE '%"), []),
        (Wanted(opened_from=TUESDAY), ["B"]),
        (Wanted(opened_from=MONDAY, opened_until=TUESDAY), ["A"]),
        (Wanted(changed_from=WEDNESDAY), ["A"]),
        (Wanted(changed_from=TUESDAY, changed_until=WEDNESDAY), ["B"]),
        (Wanted(opened_until=TUESDAY, changed_until=WEDNESDAY), []),
    ],
)
async def test_cases_are_chosen_as_they_are_now(office: Office, wanted: Wanted, ids: list[str]) -> None:
    assert await cases(office, wanted) == ids

    async with export(office.database, wanted) as found:
        assert sorted({one.event.chain async for one in found.steps()}) == [f"case:{one}" for one in ids]
    if wanted != Wanted():
        async with export(office.database, wanted) as found:
            assert sorted({one.event.chain async for one in found.events()}) == [f"case:{one}" for one in ids]


async def test_events_come_in_the_order_of_the_log_with_the_bytes_that_were_hashed(office: Office) -> None:
    async with export(office.database) as found:
        log = [one async for one in found.events()]

    assert [one.position for one in log] == list(range(1, len(log) + 1))
    assert all(leaf_hash(one.body.encode()) == one.hash for one in log)
    assert {one.event.chain.partition(":")[0] for one in log} == {"case", "desk"}


async def test_events_of_a_kind_of_chain_can_be_asked_for(office: Office) -> None:
    async with export(office.database) as found:
        everything = [one.hash async for one in found.events()]
        parts = {kind: [one.hash async for one in found.events(kind)] for kind in ChainKind}
        both = [one.hash async for one in found.events(ChainKind.CASE, ChainKind.DESK)]

    assert sum(map(len, parts.values())) == len(everything)
    assert both == everything
    assert len(parts[ChainKind.CASE]) == 4
    assert parts[ChainKind.REFUSAL] == []


async def test_the_events_of_a_case_come_together(office: Office) -> None:
    async with export(office.database) as found:
        steps = [(one.number, one.event.seq) async for one in found.steps()]

    assert steps == [(1001, 1), (1001, 2), (1001, 3), (1002, 1)]


async def test_an_export_is_of_one_moment_whatever_happens_while_it_is_read(office: Office) -> None:
    async with export(office.database) as found:
        before = [one.hash async for one in found.events()]
        await office.do(ANA, a_letter(), "A")
        await office.open("C", purchase=None)

        assert [one.hash async for one in found.events()] == before
        assert [one.case.id async for one in found.cases()] == ["A", "B"]

    assert await cases(office, Wanted()) == ["A", "B", "C"]


async def test_texts_are_there_only_for_whoever_asks_and_not_when_they_are_erased(office: Office, raw: RawSql) -> None:
    async with export(office.database) as found:
        assert {one.texts is None async for one in found.events()} == {True}
        assert {one.texts is None async for one in found.cases()} == {True}
    disarm(raw)
    raw.run("DELETE FROM personal WHERE chain = 'case:B'")

    async with export(office.database, personal=True) as found:
        texts = {one.event.chain: one.texts async for one in found.events(ChainKind.CASE) if one.event.seq == 1}
        of_cases = {one.case.id: (one.client, one.texts) async for one in found.cases()}
        clients = {one async for one in found.clients()}

    assert texts == {
        "case:A": {
            "client_email": "una@example.com",
            "client_name": "Una",
            "message": "They never ran.",
            "subject": "The banners",
        },
        "case:B": {},
    }
    assert of_cases["A"][0] == "una@example.com"
    assert "They never ran." not in str(of_cases["A"])
    assert of_cases["B"] == ("case:B", {})
    assert clients == {"una@example.com", "case:B"}


async def test_purchases_and_clients_of_several_cases_come_once(database_url: str) -> None:
    await asyncio.to_thread(fill, database_url)
    database = open_database(database_url)
    async with export(database) as found:
        assert [one async for one in found.clients()] == ["una@example.com"]
        assert [one.reference async for one in found.purchases()] == ["D-1", "D-3"]
    async with export(database, Wanted(state=CaseState.OPENED)) as found:
        assert [one.reference async for one in found.purchases()] == ["D-1"]
    await database.close()


async def test_what_was_acknowledged_before_is_in_it_though_the_sequencer_has_not_come_by(office: Office) -> None:
    receipt = await office.do(LOU, firing(Trigger.INVESTIGATE), "B")

    async with export(office.database) as found:
        assert receipt.head in [one.hash async for one in found.events()]


async def test_a_database_that_cannot_be_reached_is_told_as_that(postgres: PostgresServer) -> None:
    database = open_database(postgres.url("casework_of_nobody"))

    with pytest.raises(Unavailable):
        async with export(database):
            raise AssertionError
    await database.close()


# Memory.

# The smaller log fills all there is to fill: the pages of 768 cases, and the caches of SQLite.
SMALL, LARGE = 16_000, 40_000
BYTES_OF_A_HASH = 120  # and its place in a list: whoever keeps anything of each event needs more
EXPORTING = """
import asyncio, sys
from api.exporting import Format, Order, What, written
from bench.verifying import peak_mb
from storage.database import open_database

kept = []

async def run() -> None:
    database = open_database(sys.argv[1])
    for what, form in ((What(one), Format(other)) for one, other in (pair.split(".") for pair in sys.argv[3:])):
        async for block in written(database, Order(what=what, format=form, personal=True), b""):
            if sys.argv[2] == "keep":
                kept.append(block)
    await database.close()

asyncio.run(run())
print(peak_mb())
"""
EVERYTHING = [*(f"events.{form}" for form in Format), "cases.jsonl", "cases.csv"]
# What is written is the same wherever it was read.
FILES = {"sqlite": EVERYTHING, "postgresql": ["events.jsonl", "cases.jsonl"]}


def megabytes(url: str, files: Sequence[str], how: str = "pass on") -> float:
    """What a process needs at most that exports these, whether it passes on what it reads or keeps it."""
    command = [sys.executable, "-c", EXPORTING, url, how, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return float(done.stdout)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small one and a large one."""
    folder = tmp_path_factory.mktemp("logs")
    for size in (SMALL, LARGE):
        asyncio.run(make_desk(folder / f"{size}.db", size))
    return [folder / f"{size}.db" for size in (SMALL, LARGE)]


def bytes_for_each(needed: list[float]) -> float:
    """What an event more takes."""
    return (needed[1] - needed[0]) * 2**20 / (LARGE - SMALL)


def test_many_more_events_need_no_more_memory(
    backend: str, logs: list[Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    needed = []
    for path in logs:
        url = sqlite_url(path)
        if backend == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres")
            url = server.new_database(template=request.getfixturevalue("postgres_template"))
            asyncio.run(move(path, url, tmp_path / f"{path.name}.backup"))
        needed.append(megabytes(url, FILES[backend]))

    assert bytes_for_each(needed) < BYTES_OF_A_HASH, needed


def test_an_export_that_kept_what_it_has_read_would_be_noticed(logs: list[Path]) -> None:
    needed = [megabytes(sqlite_url(path), ["events.jsonl"], "keep") for path in logs]

    assert bytes_for_each(needed) > BYTES_OF_A_HASH, needed


async def move(path: Path, url: str, file: Path) -> None:
    database = open_database(sqlite_url(path))
    await backups.backup(database, file)
    await database.close()
    database = open_database(url)
    await backups.restore(file, database)
    await database.close()
