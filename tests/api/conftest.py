"""Tests of the service get one that runs, on each of the two databases, with everybody at their desk."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.api.driving import Clock, Service, prepare, running
from tests.databases import PostgresServer, copy_sqlite
from tests.storage import conftest as databases

postgres = databases.postgres
postgres_template = databases.postgres_template
sqlite_template = databases.sqlite_template
backend = databases.backend
database_url = databases.database_url


@pytest.fixture(scope="session")
def sqlite_desk(sqlite_template: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = copy_sqlite(sqlite_template, tmp_path_factory.mktemp("desk") / "casework.db")
    asyncio.run(prepare(url))
    return url


@pytest.fixture(scope="session")
def postgres_desk(postgres: PostgresServer, postgres_template: str) -> str:
    url = postgres.new_database(template=postgres_template)
    asyncio.run(prepare(url))
    return url


@pytest.fixture
def desk_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own with the desk and its people in it."""
    if backend == "sqlite":
        yield copy_sqlite(request.getfixturevalue("sqlite_desk"), tmp_path / "desk.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database(template=request.getfixturevalue("postgres_desk"))
    yield url
    server.drop_database(url)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def service(desk_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Service]:
    async with running(desk_url, clock, key_folder=tmp_path / "keys") as service:
        yield service
