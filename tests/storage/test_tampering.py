"""What a superuser does to the log past every defence is found, however well they cover it up."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.database import open_database
from storage.tree import extend
from storage.verify import verify
from tests.databases import PostgresServer, RawSql, copy_sqlite, raw_sql
from tests.storage.desks import NOTE, an_office
from tests.storage.full_desk import fill
from tests.storage.histories import saying
from tests.storage.signing import signed_desk
from tests.storage.test_verify import read, undefended
from tests.workflow.builders import ANA

# The last three events are chains of their own: nothing else in the database speaks of them.
EVENTS = 61
SET_ASIDE, READ, REFUSED = "set_aside:%", "read:%", "refusal:%"


@pytest.fixture
def desk_url(database_url: str, tmp_path: Path) -> str:
    """A full desk, all of it in the tree and under a checkpoint."""
    keys = tmp_path / "keys"

    async def begin() -> None:
        async with an_office(database_url), signed_desk(database_url, keys):
            pass

    async def sign() -> None:
        async with signed_desk(database_url, keys) as desk:
            assert (await desk.settle()).size == EVENTS

    asyncio.run(begin())
    fill(database_url)
    asyncio.run(sign())
    return database_url


@pytest.fixture
def raw(desk_url: str) -> Iterator[RawSql]:
    with raw_sql(desk_url) as connection:
        yield connection


def faults(url: str, folder: Path | None) -> list[str]:
    """But for the constraints that `undefended` does not put back."""

    async def run() -> list[str]:
        database = open_database(url)
        try:
            return [str(one) for one in (await verify(database, folder=folder)).faults]
        finally:
            await database.close()

    return [one for one in asyncio.run(run()) if not one.startswith("the constraint ")]


# The attacks. None of them leaves a trace in a chain, a case or any other row.


def place_of(raw: RawSql, like: str) -> tuple[int, str]:
    """The position and the chain of the only event of this kind."""
    ((position, chain),) = raw.run(
        "SELECT position, chain FROM positions JOIN events ON id = event_id WHERE chain LIKE ?1", like
    )
    return position, chain


def edit(raw: RawSql) -> None:
    _, chain = place_of(raw, READ)
    row = saying(read(raw, (chain, 1)), actor="person:bo")
    raw.run("UPDATE events SET body = ?1, hash = ?2 WHERE chain = ?3", row["body"], row["hash"], chain)


def delete(raw: RawSql) -> None:
    position, chain = place_of(raw, READ)
    raw.run("DELETE FROM positions WHERE position = ?1", position)
    raw.run("DELETE FROM events WHERE chain = ?1", chain)
    raw.run("UPDATE positions SET position = position - 1 WHERE position > ?1", position)


def insert(raw: RawSql) -> None:
    position, chain = place_of(raw, READ)
    other = "read:forged"
    row = saying(read(raw, (chain, 1)), chain=other) | {"chain": other}
    raw.insert("events", row)
    # By way of negative ones, since each place can be taken only once.
    raw.run("UPDATE positions SET position = - position - 1 WHERE position >= ?1", position)
    raw.run("UPDATE positions SET position = - position WHERE position < 0")
    raw.run("DELETE FROM positions WHERE event_id = (SELECT id FROM events WHERE chain = ?1)", other)
    raw.run("DELETE FROM pending_events")
    raw.run("INSERT INTO positions SELECT CAST(?1 AS int), id FROM events WHERE chain = ?2", position, other)
    raw.run("DELETE FROM positions WHERE position > ?1", EVENTS + 1)


def reorder(raw: RawSql) -> None:
    (one, _), (other, _) = place_of(raw, SET_ASIDE), place_of(raw, READ)
    for here, there in ((one, -1), (other, one), (-1, other)):
        raw.run("UPDATE positions SET position = ?1 WHERE position = ?2", there, here)


def truncate(raw: RawSql) -> None:
    position, chain = place_of(raw, REFUSED)
    raw.run("DELETE FROM positions WHERE position >= ?1", position)
    raw.run("DELETE FROM events WHERE chain = ?1", chain)


# How the attacker covers it up.


def not_at_all(_: RawSql, __: str) -> None:
    pass


def grow_another_tree(raw: RawSql, url: str) -> None:
    raw.run("DELETE FROM tiles")

    async def grow() -> None:
        database = open_database(url)
        await database.transact(extend)
        await database.close()

    asyncio.run(grow())


def forget_checkpoints_too(raw: RawSql, url: str) -> None:
    raw.run("DELETE FROM checkpoints")
    grow_another_tree(raw, url)


TREE = "is not the event that the tree has at position"
STORED = r"the checkpoint 1 is over 61 events"
OUTSIDE = "the last checkpoint, in "
CUT_OFF = "some were cut off"

ATTACKS: dict[str, tuple[Callable[[RawSql], None], str]] = {
    "edit": (edit, TREE),
    "deletion": (delete, TREE),
    "insertion": (insert, TREE),
    "reordering": (reorder, TREE),
    "truncation": (truncate, CUT_OFF),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("cover_up", [not_at_all, grow_another_tree, forget_checkpoints_too])
def test_what_is_done_to_the_log_is_found(
    attack: str, cover_up: Callable[[RawSql, str], None], raw: RawSql, desk_url: str, tmp_path: Path
) -> None:
    act, found_by_the_tree = ATTACKS[attack]
    keys = tmp_path / "keys"
    assert faults(desk_url, keys) == []

    with undefended(raw):
        act(raw)
        cover_up(raw, desk_url)

    found = faults(desk_url, keys)
    words = {not_at_all: found_by_the_tree, grow_another_tree: STORED, forget_checkpoints_too: OUTSIDE}[cover_up]
    assert any(words in one for one in found), found
    if cover_up is forget_checkpoints_too:
        assert faults(desk_url, None) == [], "nothing inside the database tells of it"


def test_a_rollback_is_found_only_from_outside(
    backend: str, desk_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    keys = tmp_path / "keys"
    if backend == "sqlite":
        older = copy_sqlite(desk_url, tmp_path / "older.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        older = server.new_database(desk_url)

    async def go_on() -> None:
        async with an_office(desk_url) as office:
            await office.do(ANA, NOTE, "A")
        async with signed_desk(desk_url, keys) as desk:
            await desk.settle()

    asyncio.run(go_on())
    assert faults(desk_url, keys) == []

    (found,) = faults(older, keys)
    assert "is over 62 events, and there are 61: some were cut off, or rolled back" in found
    shutil.rmtree(keys)
    assert faults(older, None) == []


# The tree and the checkpoints themselves.

TILES = {
    "UPDATE tiles SET hashes = substr(hashes, 33) WHERE level = 0": TREE,
    "DELETE FROM tiles WHERE level = 0": "",  # it is made of the events, and can be made again
    "UPDATE tiles SET level = 3": "tile/3/000, which it cannot have yet",
    "INSERT INTO tiles SELECT 1, 0, substr(hashes, 1, 32) FROM tiles": "tile/1/000, which it cannot have yet",
    "UPDATE checkpoints SET size = 60": "the row does not say what the note says",
    "UPDATE checkpoints SET root = 'ab'": "the row does not say what the note says",
    "UPDATE checkpoints SET note = replace(note, '61', '60')": "is not one that was signed",
    "UPDATE checkpoints SET note = ''": "is not one that was signed",
}


@pytest.mark.parametrize("statement", TILES)
def test_what_is_done_to_the_tree_is_found(statement: str, raw: RawSql, desk_url: str, tmp_path: Path) -> None:
    with undefended(raw):
        raw.run(statement)

    found = faults(desk_url, tmp_path / "keys")

    assert (found == []) if not TILES[statement] else any(TILES[statement] in one for one in found), found
