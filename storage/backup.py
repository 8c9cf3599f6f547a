"""Keeps a whole desk in one file and brings it back, into the same kind of database or the other.

A backup is a compressed text with a JSON value in each line: a header; then for each table its name and columns, and
its rows; at the end the SHA-256 of all that. Events come in the order of their positions. The search index is left
out, since it is made of texts that are in.
"""

import gzip
import hashlib
import os
import zlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg
import msgspec
from sqlalchemy import Table
from sqlmodel import SQLModel

from storage import postgres_writer, search, sqlite_writer
from storage.batch import FOUND_BY
from storage.database import Database, PostgresDatabase, SqliteDatabase, utc_now
from storage.snapshot import PostgresSnapshot, Snapshot, SqliteSnapshot, snapshot
from storage.sqlite import connect, driver
from storage.submissions import Row
from workflow.cases import chain_of
from workflow.errors import CaseworkError
from workflow.events import TYPE_NAMES, at_text

FORMAT = 1
COMPRESSION = 3  # more takes much longer for little
FILES_AT_ONCE = 4  # attachments can be large
BYTES_AT_ONCE = 2**20
CASES_AT_ONCE = 50

Progress = Callable[[int], None]


class DamagedBackup(CaseworkError):
    """The file is not what a backup has written, or not all of it."""


class OtherRevision(CaseworkError):
    def __init__(self, backup: str, database: str | None) -> None:
        super().__init__(
            f"the backup is of the schema {backup}, and the database has {database or 'none'}:"
            " restore it with the release that made it, and migrate then"
        )


class NotEmpty(CaseworkError):
    def __init__(self, table: str) -> None:
        super().__init__(f"a backup is restored into an empty database, and this one has {table}")


class NotMigrated(CaseworkError):
    def __init__(self) -> None:
        super().__init__("the database has no schema yet, so there is nothing to back up")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """`casework` is the version of the format; `log` names the desk, and is empty where there is none yet."""

    casework: int = FORMAT
    revision: str
    log: str
    dialect: str
    at: str


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """What the following rows are. At the end of an event stands its position, if it has one."""

    table: str
    columns: tuple[str, ...]


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    sha256: str


encoder = msgspec.json.Encoder()


def tables() -> list[Table]:
    """In an order in which they can be filled. Positions are kept with their events."""
    apart = {"positions", "pending_events"}
    before_events = {"desk", "lifecycle_edges"}
    found = [table for table in SQLModel.metadata.sorted_tables if table.name not in apart]
    return sorted(found, key=lambda table: table.name not in before_events)


# Writing.


async def backup(database: Database, target: Path, progress: Progress | None = None) -> Header:
    """Write all there is at this moment into a new file, while others go on working: it will be there whole or not.

    `progress` hears how many rows have been written. Raises FileExistsError, since no file is ever overwritten.
    """
    revision = await database.revision()
    if revision is None:
        raise NotMigrated
    with new_file(target) as file:
        async with snapshot(database) as reading:
            return await write(file, reading, revision, progress or (lambda _: None))


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """An empty file keeps the name; it is replaced by what was written when that is safe on the disk."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL, 0o600))
    partial = target.with_name(f".{target.name}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        target.unlink()
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


async def write(file: BinaryIO, reading: Snapshot, revision: str, progress: Progress) -> Header:
    desk = await reading.rows("SELECT log FROM desk")
    header = Header(revision=revision, log=desk[0][0] if desk else "", dialect=reading.dialect, at=at_text(utc_now()))
    digest, count = hashlib.sha256(), 0
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=COMPRESSION) as packed:

        def put(*values: object) -> None:
            lines = encoder.encode_lines(values)
            digest.update(lines)
            packed.write(lines)

        put(header)
        for table in tables():
            columns, queries = contents(table)
            put(Heading(table=table.name, columns=columns))
            for query in queries:
                pages = reading.pages(query, FILES_AT_ONCE) if table.name == "attachments" else reading.pages(query)
                async for page in pages:
                    put(*as_declared(table, page))
                    count += len(page)
                    progress(count)
        put(Ending(sha256=digest.hexdigest()))
    return header


def contents(table: Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is kept of a table: the columns, and the queries that give all rows."""
    columns = tuple(table.columns.keys())
    names = ", ".join(f'"{column}"' for column in columns)
    if table.name != "events":
        return columns, (f"SELECT {names} FROM {table.name}",)
    return (*columns, "position"), (
        f"SELECT {names}, position FROM positions JOIN events ON id = event_id ORDER BY position",
        f"SELECT {names}, NULL FROM events WHERE NOT EXISTS (SELECT 1 FROM positions WHERE event_id = id) ORDER BY id",
    )


def as_declared(table: Table, page: Sequence[Row]) -> Iterator[Sequence[Any]]:
    """SQLite has only numbers for yes and no."""
    flags = [index for index, column in enumerate(table.columns) if column.type.python_type is bool]
    for row in page:
        values = [*row]
        for index in flags:
            values[index] = bool(values[index])
        yield values


# Reading.


async def restore(source: Path, database: Database, progress: Progress | None = None) -> Header:
    """Bring back everything in one transaction. Constraints and triggers stay on, so a log that is broken stays out.

    `progress` hears how many rows have been written. Raises DamagedBackup, OtherRevision or NotEmpty.
    """
    header = check(source)
    revision = await database.revision()
    if revision != header.revision:
        raise OtherRevision(header.revision, revision)
    count = 0
    async with filling(database) as target:
        for table in tables():
            if await target.reading.rows(f"SELECT 1 FROM {table.name} LIMIT 1"):
                raise NotEmpty(table.name)
        try:
            for heading, rows in pages_of(source):
                await target.fill(heading, rows)
                count += len(rows)
                if progress:
                    progress(count)
        except REFUSED as refused:
            raise DamagedBackup(f"the database refuses what is in {source}: {refused}") from refused
        await target.settle()
        await make_findable(target)
    return header


REFUSED: tuple[type[Exception], ...] = (driver.IntegrityError, asyncpg.IntegrityConstraintViolationError)


def check(source: Path) -> Header:
    """The header of a backup that is whole, all of which has been read. Raises DamagedBackup."""
    reading = lines_of(source)
    try:
        header = msgspec.json.decode(next(reading), type=Header)
    except msgspec.MsgspecError as unreadable:
        raise DamagedBackup(f"{source} is no backup: {unreadable}") from unreadable
    if header.casework != FORMAT:
        raise DamagedBackup(f"{source} is a backup in the format {header.casework}, which this release does not know")
    for _ in reading:
        pass
    return header


def lines_of(source: Path) -> Iterator[bytes]:
    """All but the last, which has to say what the others were. Raises DamagedBackup."""
    digest, last = hashlib.sha256(), b""
    try:
        with gzip.open(source) as file:
            for line in file:
                if last:
                    digest.update(last)
                    yield last
                last = line
    except (EOFError, gzip.BadGzipFile, zlib.error) as failure:
        raise DamagedBackup(f"{source} is damaged: {failure}") from failure
    if last != encoder.encode_lines([Ending(sha256=digest.hexdigest())]):
        raise DamagedBackup(f"{source} does not end as it should: something was cut off, added or changed")


def pages_of(source: Path) -> Iterator[tuple[Heading, list[Row]]]:
    """The rows of a backup, not too many at a time."""
    lines = lines_of(source)
    next(lines)  # the header
    heading, rows, size = Heading(table="", columns=()), [], 0
    decoder: msgspec.json.Decoder[Row] = msgspec.json.Decoder()
    for line in lines:
        starts_table = line.startswith(b"{")
        if rows and (starts_table or size > BYTES_AT_ONCE):
            yield heading, rows
            rows, size = [], 0
        if starts_table:
            heading = msgspec.json.decode(line, type=Heading)
            decoder = msgspec.json.Decoder(row_type(heading))
        else:
            rows.append(decoder.decode(line))
            size += len(line)
    if rows:
        yield heading, rows


def row_type(heading: Heading) -> Any:
    columns = SQLModel.metadata.tables[heading.table].columns
    kinds = [
        columns[name].type.python_type | (None if columns[name].nullable else columns[name].type.python_type)
        for name in heading.columns
        if name in columns
    ]
    if heading.table == "events":
        kinds.append(int | None)
    return tuple[tuple(kinds)]  # type: ignore[misc]  # known only now


class Target(ABC):
    """An open transaction on the database that is filled."""

    reading: Snapshot

    @abstractmethod
    async def fill(self, heading: Heading, rows: Sequence[Row]) -> None:
        """Insert rows as they are, with their own numbers, and give events the positions that they had."""

    @abstractmethod
    async def settle(self) -> None:
        """Let what numbers new rows go on after the restored ones."""

    @abstractmethod
    async def add_words(self, texts: Sequence[tuple[int, str]], *, more: bool) -> None:
        """Make cases findable, by number, by these texts; `more` than by those before."""


class SqliteTarget(Target):
    """A trigger numbers events as they come, so they have to come in order; the next number is the largest plus one."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.reading = SqliteSnapshot(connection)

    async def fill(self, heading: Heading, rows: Sequence[Row]) -> None:
        ...
