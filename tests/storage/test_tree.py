"""The tree over the log is the one that RFC 6962 defines, in the tiles that C2SP names, whoever takes the events in."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from storage import tree
from storage.database import Database, open_database
from storage.merkle import Range, grown_tiles, verify_consistency, verify_inclusion
from storage.sequencer import Sequencer
from storage.tree import BrokenTree, Tree, extend
from tests.databases import REFUSALS, RawSql, raw_sql
from tests.storage.desks import NOTE, an_office
from tests.storage.full_desk import fill
from tests.storage.test_verify import undefended
from tests.workflow.builders import ANA

LARGE = 66_000  # more than 256 full tiles, so that there are three levels


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def full_url(database_url: str) -> str:
    return fill(database_url)


def make_up(raw: RawSql, many: int) -> list[bytes]:
    """As many events as that, of which nothing is right but their hashes, and those hashes."""
    made = "lower(hex(randomblob(32)))" if raw.dialect == "sqlite" else "md5(i::text) || md5((i + 1)::text)"
    numbers = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)"
        if raw.dialect == "sqlite"
        else "WITH n AS (SELECT generate_series(1, ?1::int) AS i)"
    )
    with undefended(raw):
        raw.run(
            f"{numbers} INSERT INTO events (chain, seq, state_after, type, lifecycle, at, hash, body)"
            f" SELECT 'made_up:' || i, 1, '', '', '', '', {made}, '{{}}' FROM n",
            many,
        )
        raw.run("INSERT INTO positions SELECT id, id FROM events")
    return [bytes.fromhex(digest) for (digest,) in raw.run("SELECT hash FROM events ORDER BY id")]


async def grow(database: Database, passes: int = 1000) -> int:
    grown = 0
    for _ in range(passes):
        taken = await database.transact(extend)
        grown += taken
        if not taken:
            break
    return grown


async def test_a_log_that_was_there_before_is_taken_in_pass_by_pass(database: Database, raw: RawSql) -> None:
    leaves = make_up(raw, LARGE)
    edge, roots = Range(), []
    for leaf in leaves:
        edge.append(leaf)
        roots.append(edge.root())

    assert await database.run(tree.lag) == LARGE
    assert await grow(database, passes=1) == tree.PASS_SIZE
    assert await database.run(tree.lag) == LARGE - tree.PASS_SIZE
    assert await grow(database) == LARGE - tree.PASS_SIZE
    assert await database.run(tree.lag) == 0

    stored = {(level, n): len(hashes) // 32 for level, n, hashes in raw.run("SELECT level, n, hashes FROM tiles")}
    assert stored == {(level, n): width for level, n, width in grown_tiles(0, LARGE)}
    grown = await database.run(Tree)
    assert grown.size == LARGE

    def prove(connection: object) -> None:
        whole = Tree(connection)  # type: ignore[arg-type]
        for size in (1, 2, 255, 256, 257, 65_535, 65_536, 65_537, LARGE):
            assert whole.root(size) == roots[size - 1]
            assert verify_consistency(size, LARGE, whole.consistency(size, LARGE), roots[size - 1], roots[-1])
            proof = whole.inclusion(size, LARGE)
            assert verify_inclusion(leaves[size - 1], size - 1, LARGE, proof, roots[-1])

    await database.run(prove)


async def test_the_tree_follows_the_log_event_by_event(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.investigate(ANA)
        sequencer = Sequencer(office.database)
        for _ in range(5):
            await office.do(ANA, NOTE)
            await sequencer.settle()
            assert await sequencer.lag() == 0

        assert await office.faults() == []
        found = await office.database.run(lambda connection: Tree(connection).entries(0, 3))
        assert [b'"seq":1' in body for body in found] == [True, True, False]


async def test_a_second_sequencer_changes_nothing(full_url: str) -> None:
    first, second = (Sequencer(open_database(full_url)) for _ in range(2))
    await first.settle()
    with raw_sql(full_url) as raw:
        before = raw.run("SELECT level, n, hashes FROM tiles ORDER BY level, n")

        assert await second.grow() == 0
        await asyncio.gather(*(one.settle() for one in (first, second) * 3))

        assert raw.run("SELECT level, n, hashes FROM tiles ORDER BY level, n") == before
    await asyncio.gather(*(one.database.close() for one in (first, second)))


async def test_sequencers_at_once_take_in_every_event_once(database: Database, database_url: str, raw: RawSql) -> None:
    many = 3 * tree.PASS_SIZE
    leaves = make_up(raw, many)

    taken = await asyncio.gather(*(asyncio.to_thread(take_in, database_url) for _ in range(3)))

    assert sum(taken) == many
    edge = Range()
    for leaf in leaves:
        edge.append(leaf)
    assert await database.run(lambda connection: Tree(connection).root(many)) == edge.root()


def take_in(url: str) -> int:
    async def run() -> int:
        database = open_database(url)
        try:
            return await grow(database)
        finally:
            await database.close()

    return asyncio.run(run())


async def test_a_log_with_a_gap_is_not_taken_for_a_shorter_one(database: Database, raw: RawSql) -> None:
    make_up(raw, 10)
    with undefended(raw):
        raw.run("DELETE FROM positions WHERE position = 4")

    with pytest.raises(BrokenTree, match="no event has the position 4"):
        await database.transact(extend)
    assert raw.run("SELECT * FROM tiles") == []


async def test_a_tile_that_is_gone_is_missed(database: Database, raw: RawSql) -> None:
    make_up(raw, 300)
    await grow(database)
    with undefended(raw):
        raw.run("DELETE FROM tiles WHERE level = 0 AND n = 0")

    with pytest.raises(BrokenTree, match=r"tile/0/000 is missing"):
        await database.run(lambda connection: Tree(connection).inclusion(1, 300))


# What the database refuses by itself.

REFUSED = {
    "UPDATE tiles SET hashes = substr(hashes, 1, 32)": "tiles_only_grow",
    "UPDATE tiles SET hashes = CAST(substr(hashes, 33) || hashes AS {bytes})": "tiles_only_grow",
    "UPDATE tiles SET n = n + 1": "tiles_only_grow",
    "UPDATE tiles SET hashes = CAST(hashes || substr(hashes, 1, 31) AS {bytes})": "tiles_hold_whole_hashes",
    "DELETE FROM tiles": "tiles_are_never_deleted",
    "INSERT INTO tiles SELECT level, n + 1, substr(hashes, 1, 31) FROM tiles": "tiles_hold_whole_hashes",
}


@pytest.mark.parametrize("statement", REFUSED)
async def test_sql_past_the_program_cannot_change_a_tile(statement: str, database: Database, raw: RawSql) -> None:
    make_up(raw, 10)
    await grow(database)
    before = raw.run("SELECT * FROM tiles")

    with pytest.raises(REFUSALS, match=REFUSED[statement]):
        raw.run(statement.format(bytes="blob" if raw.dialect == "sqlite" else "bytea"))

    assert raw.run("SELECT * FROM tiles") == before
