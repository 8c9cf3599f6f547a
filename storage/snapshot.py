"""One moment of the whole database, held still while others go on writing: what is verified and what is backed up."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import asyncpg
import msgspec

from storage.database import Database, PostgresDatabase, SqliteDatabase
from storage.sqlite import connect, driver
from storage.submissions import Row

T = TypeVar("T")

PAGE_ROWS = 96  # what is made of them stays in the processor's cache
PAGES_AT_ONCE = 8  # going to a thread and back costs as much as a page


# What reading raises where a file or a page of it is damaged.
UNREADABLE: tuple[type[Exception], ...] = (driver.DatabaseError, asyncpg.DataError, asyncpg.InternalServerError)


class Snapshot(ABC):
    """A query may be asked while the pages of another one are being read."""

    dialect: str

    @abstractmethod
    def pages(self, query: str, rows: int = PAGE_ROWS, values: Sequence[Any] = ()) -> AsyncIterator[Sequence[Row]]:
        """All rows of a query with these parameters, at most so many at a time, in flat memory."""

    @abstractmethod
    async def among(self, query: str, values: Sequence[str]) -> Sequence[Row]:
        """The rows of a query that ends with the name of a text column, where that column has one of the values."""

    async def rows(self, query: str) -> list[Row]:
        return [row async for page in self.pages(query) for row in page]


def snapshot(database: Database) -> AbstractAsyncContextManager[Snapshot]:
    """Of the database as it is when the first query is asked."""
    match database:
        case SqliteDatabase():
            return sqlite_snapshot(database.path)
        case PostgresDatabase():
            return postgres_snapshot(database.url)
        case _:
            raise TypeError(type(database).__name__)


class SqliteSnapshot(Snapshot):
    dialect = "sqlite"

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def pages(
        self, query: str, rows: int = PAGE_ROWS, values: Sequence[Any] = ()
    ) -> AsyncIterator[Sequence[Row]]:
        cursor = await self.aside(partial(self.connection.execute, query, values))
        many = rows * PAGES_AT_ONCE if rows == PAGE_ROWS else rows  # fewer are asked for where each can be large
        while fetched := await self.aside(partial(cursor.fetchmany, many)):
            for start in range(0, len(fetched), rows):
                yield fetched[start : start + rows]
                await asyncio.sleep(0)  # a service in this process gets its turn

    async def aside(self, work: Callable[[], T]) -> T:
        """In a thread: a service in this process goes on while something is looked for or sorted."""
        working = asyncio.create_task(asyncio.to_thread(work))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:  # the connection is closed next, and must not be in use then
            self.connection.interrupt()
            await asyncio.gather(working, return_exceptions=True)
            raise

    async def among(self, query: str, values: Sequence[str]) -> Sequence[Row]:
        statement = f"{query} IN (SELECT value FROM json_each(?))"  # noqa: S608 - the values are a parameter
        rows: list[Row] = self.connection.execute(statement, (msgspec.json.encode(values).decode(),)).fetchall()
        return rows


@asynccontextmanager
async def sqlite_snapshot(path: Path) -> AsyncIterator[Snapshot]:
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA temp_store = FILE")  # what has to be sorted may be larger than memory
        if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            connection.execute("BEGIN")
            yield SqliteSnapshot(connection)
            return
        # Without a write-ahead log a long reading keeps everybody from writing, and a quick copy does not.
        with TemporaryDirectory(dir=path.parent) as folder, closing(connect(Path(folder, "copy.db"))) as copy:
            connection.backup(copy)
            yield SqliteSnapshot(copy)


class PostgresSnapshot(Snapshot):
    dialect = "postgresql"

    def __init__(self, connection: "asyncpg.Connection[Any]") -> None:
        self.connection = connection

    async def pages(
        self, query: str, rows: int = PAGE_ROWS, values: Sequence[Any] = ()
    ) -> AsyncIterator[Sequence[Row]]:
        cursor = await self.connection.cursor(query, *values)
        while page := await cursor.fetch(rows):
            yield page

    async def among(self, query: str, values: Sequence[str]) -> Sequence[Row]:
        return await self.connection.fetch(query + " = ANY($1::text[])", list(values))


@asynccontextmanager
async def postgres_snapshot(url: str) -> AsyncIterator[Snapshot]:
    settings = {"application_name": "casework snapshot", "jit": "off"}
    connection = await asyncpg.connect(url, server_settings=settings)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield PostgresSnapshot(connection)
    finally:
        await connection.close()
