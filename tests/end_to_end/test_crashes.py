"""kill -9 of the service under load, again and again: all that was acknowledged is there, and nothing by halves."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.api.driving import prepare
from tests.databases import PostgresServer, copy_sqlite, migrate, raw_sql
from tests.end_to_end.crashing import (
    Load,
    Server,
    checkpoints,
    found_wrong,
    make_key,
    serve_as_ever,
    serve_carelessly,
)
from tests.shared import lacking

KILLS = int(os.environ.get("TEST_KILLS", "20"))
CLIENTS = 8


@pytest.fixture(scope="module")
def durable_postgres() -> Iterator[PostgresServer]:
    """It waits for the disk, as a real one does."""
    try:
        server = PostgresServer(durable=True).start()
    except ImportError:
        lacking("PostgreSQL: its wheel is not made for it")
    yield server
    server.stop()


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if backend == "sqlite":
        database = copy_sqlite(request.getfixturevalue("sqlite_desk"), tmp_path / "desk.db")
    else:
        server: PostgresServer = request.getfixturevalue("durable_postgres")
        database = migrate(server.new_database())
        asyncio.run(prepare(database))
    return asyncio.run(make_key(database))


@asynccontextmanager
async def under_load(
    url: str, work: Callable[[str, int], None], processes: int
) -> AsyncIterator[tuple[list[Server], Load]]:
    """Processes, and clients who use them until the end; then the processes are killed as well."""
    servers = [Server(url, work) for _ in range(processes)]
    try:
        await asyncio.gather(*(one.ready() for one in servers))
        load = Load(servers, CLIENTS)
        yield servers, load
        await load.stop()
    finally:
        for one in servers:
            one.kill()


async def kill_and_restart(servers: list[Server], load: Load, times: int, within: float = 0.1) -> None:
    """At some moment within so many seconds of an acknowledgement."""
    for _ in range(times):
        await load.more(20)
        await asyncio.sleep(random.uniform(0, within))
        victims = random.sample(servers, random.randint(1, len(servers)))
        for one in victims:
            one.kill()
        for one in victims:
            one.start_again()
        await asyncio.gather(*(one.ready() for one in victims))


async def test_whenever_it_is_killed_nothing_is_lost_and_nothing_is_there_by_halves(backend: str, url: str) -> None:
    async with under_load(url, serve_as_ever, processes=1 if backend == "sqlite" else 2) as (servers, load):
        await kill_and_restart(servers, load, KILLS)

    signed = checkpoints(url)
    assert await found_wrong(url, load) == []
    assert load.repeated > 0
    assert signed > KILLS
    sys.stdout.write(
        f"{backend}: {KILLS} kills, {len(load.done)} writes acknowledged, {load.repeated} asked again,"
        f" {signed} checkpoints\n"
    )


async def test_a_service_that_acknowledges_before_it_commits_is_found_out(url: str) -> None:
    async with under_load(url, serve_carelessly, processes=1) as (servers, load):
        await kill_and_restart(servers, load, 3, within=0)

    assert [one for one in await found_wrong(url, load) if one.startswith("lost: case:")]


async def test_when_postgresql_itself_crashes_everybody_waits_and_nothing_is_lost() -> None:
    with PostgresServer(durable=True) as postgres:
        url = await asyncio.to_thread(lambda: migrate(postgres.new_database()))
        await prepare(url)
        await make_key(url)
        async with under_load(url, serve_as_ever, processes=2) as (_, load):
            for _ in range(3):
                await load.more(50)
                await asyncio.to_thread(crash, url)
                await load.more(1)

        assert await found_wrong(url, load) == []


def crash(url: str) -> None:
    """The end of one session by SIGKILL makes PostgreSQL end them all and recover from its log."""
    with raw_sql(url) as raw:
        ((pid,), *_) = raw.run("SELECT pid FROM pg_stat_activity WHERE application_name = 'casework ledger'")
    os.kill(pid, signal.SIGKILL)
