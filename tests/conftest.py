"""What holds for every test, and what most of them get: real databases, and the desk with everybody in it.

There is one PostgreSQL server for each process that tests, begun with the first test that needs it.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.api.driving import Clock, prepare
from tests.databases import PostgresServer, RawSql, copy_sqlite, migrate, raw_sql, sqlite_url
from tests.shared import lacking

# A machine that is busy with other tests is slow, not wrong.
settings.register_profile("unhurried", parent=settings(), deadline=None)
settings.load_profile("unhurried")

# They take longest, mostly waiting: begun last, one of them would keep everybody waiting.
FIRST = (
    "test_crashes.py",
    "test_dying.py",
    "test_serving.py",
    "test_exports.py",
    "test_openapi.py",
    "test_verifying.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in FIRST)


# Databases, migrated and empty: SQLite files, and new ones on the PostgreSQL server.


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    try:
        server = PostgresServer().start()
    except ImportError:
        lacking("PostgreSQL: its wheel is not made for it")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    return migrate(postgres.new_database())


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> str:
    return migrate(sqlite_url(tmp_path_factory.mktemp("template") / "casework.db"))


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database in which nothing is, not even the schema."""
    if backend == "sqlite":
        yield sqlite_url(tmp_path / "empty.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database()
    yield url
    server.drop_database(url)


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of the test's own, on each of the two kinds."""
    if backend == "sqlite":
        yield copy_sqlite(request.getfixturevalue("sqlite_template"), tmp_path / "casework.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database(template=request.getfixturevalue("postgres_template"))
    yield url
    server.drop_database(url)


@pytest.fixture
def raw(database_url: str) -> Iterator[RawSql]:
    with raw_sql(database_url) as connection:
        yield connection


# Databases with the desk and its people in them.


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
