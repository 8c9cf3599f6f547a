"""Killed at any step of sequencing, signing or changing the key, a desk keeps a log that verifies, and goes on."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, zip_longest
from pathlib import Path

import pytest

from storage.database import open_database
from storage.tree import length
from storage.verify import verify
from tests.databases import PostgresServer, copy_sqlite
from tests.storage.desks import NOTE, an_office
from tests.storage.dying import Work, adopt, dies, make_key, rotate, settle, settle_beside_a_ledger
from tests.storage.full_desk import fill
from tests.storage.signing import signed_desk
from tests.workflow.builders import ANA

# Something new takes the place of a file, and is on the disk before it does.
REPLACING = ("remove .partial", "write .partial", "fdopen", "fsync", "rename .partial", "fsync")
TAKING_OVER = ("rename .next", "fsync")
ANNOUNCING = ("INSERT INTO events", "COMMIT")
SEQUENCING = ("UPDATE tiles", "INSERT INTO tiles", "INSERT INTO tiles", "COMMIT")
SIGNING = ("write .lock", *REPLACING, "INSERT INTO checkpoints", "COMMIT")
FIRST_KEY = ("mkdir folder", "write .lock", *REPLACING, *ANNOUNCING, *REPLACING, *TAKING_OVER)

# All that each work changes, one after the other: whoever adds a step names it here. Before each the process died, and
# before whatever it read meanwhile as well.
STEPS: dict[Work, tuple[str, ...]] = {
    settle: (*SEQUENCING, *SIGNING),
    make_key: FIRST_KEY,
    rotate: ("write .lock", *REPLACING, *ANNOUNCING, *TAKING_OVER),
    adopt: FIRST_KEY,
}
NUMBERING = ("WITH next AS", "COMMIT")  # which SQLite does as it writes an event


@contextmanager
def copied(url: str, path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    if url.startswith("sqlite"):
        yield copy_sqlite(url, path)
        for one in path.parent.glob(f"{path.name}*"):
            one.unlink()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    copy = server.new_database(url)
    yield copy
    server.drop_database(copy)


async def much_happens(url: str) -> None:
    async with an_office(url) as office:
        await asyncio.gather(*(office.do(ANA, NOTE, "A") for _ in range(300)))


async def sign(url: str, folder: Path) -> None:
    async with signed_desk(url, folder) as desk:
        await desk.settle()


async def goes_on(url: str, folder: Path) -> None:
    database = open_database(url)
    left = await verify(database, folder=folder)
    await database.close()
    assert left.faults == ()

    async with signed_desk(url, folder) as desk:
        signed = await desk.settle()

        assert signed.size == await desk.database.run(length)
        assert await desk.sequencer.lag() == 0
        assert await desk.faults() == []


@pytest.mark.parametrize("work", STEPS, ids=lambda work: work.__name__)
def test_a_process_that_is_killed_leaves_a_log_that_verifies(
    work: Work, database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    has_to_number = work is settle and database_url.startswith("postgresql")

    changes = changed_until_killed(work, database_url, tmp_path, request)

    assert_are(changes, (*NUMBERING, *STEPS[work]) if has_to_number else STEPS[work])


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_so_does_one_that_is_killed_while_its_ledger_lends_its_connection(
    database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    changes = changed_until_killed(settle_beside_a_ledger, database_url, tmp_path, request)

    assert_are(changes, STEPS[settle])


def changed_until_killed(work: Work, database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    """Kill it before its first step, before its second, … and see that it goes on; what it was about to change."""
    fill(database_url)
    before, folder = tmp_path / "before", tmp_path / "keys"
    before.mkdir()
    if work is not make_key:
        asyncio.run(sign(database_url, before))
    asyncio.run(much_happens(database_url))

    seen: list[str] = []
    for step in count(1):
        shutil.copytree(before, folder)
        with copied(database_url, tmp_path / "copy.db", request) as url:
            about_to = dies(work, url, folder, step)
            asyncio.run(goes_on(url, folder))
        shutil.rmtree(folder)
        if not about_to:
            return [*changes_among(seen)]
        seen.append(about_to)
    raise AssertionError


def assert_are(changes: list[str], wanted: tuple[str, ...]) -> None:
    """Each begins as is wanted, and there are no more of them."""
    assert [one[: len(name)] for one, name in zip_longest(changes, wanted, fillvalue="")] == [*wanted], changes


def changes_among(steps: list[str]) -> Iterator[str]:
    """Without reading, and the end of transactions in which nothing else was done."""
    is_changed = False
    for one in steps:
        if one.startswith(("SELECT", "read", "BEGIN")) or (one == "COMMIT" and not is_changed):
            continue
        is_changed = one.startswith(("INSERT", "UPDATE", "DELETE", "WITH"))
        yield one
