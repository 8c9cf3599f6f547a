"""Keeps a whole desk in one file and brings it back, into the same kind of database or the other.

A backup is a compressed text with a JSON value in each line: a header; then for each table its name and columns, and
its rows; at the end the SHA-256 of all that. Events come in the order of their positions. The search index and
the tree over the log are left out, since they are made of what is in.
"""

import gzip
import hashlib
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg
import msgspec
from sqlalchemy import Column, Table
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
    """In an order in which they can be filled. Positions are kept with their events; the sequencer makes the tiles."""
    apart = {"positions", "pending_events", "tiles"}
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
            put(Heading(table=str(table.name), columns=columns))
            for query in queries:
                pages = reading.pages(query, FILES_AT_ONCE) if table.name == "attachments" else reading.pages(query)
                async for page in pages:
                    put(*as_declared(table, page))
                    count += len(page)
                    progress(count)
        put(Ending(sha256=digest.hexdigest()))
    return header


NOT_PLACED = "NOT EXISTS (SELECT 1 FROM positions WHERE event_id = id)"


def contents(table: Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is kept of a table: the columns, and the queries that give all rows."""
    columns = tuple(map(str, table.columns.keys()))
    names = ", ".join(f'"{column}"' for column in columns)
    if table.name != "events":
        return columns, (f"SELECT {names} FROM {table.name}",)  # noqa: S608 - names, no input
    return (*columns, "position"), (
        f"SELECT {names}, position FROM positions JOIN events ON id = event_id ORDER BY position",  # noqa: S608 - names, no input
        f"SELECT {names}, NULL FROM events WHERE {NOT_PLACED} ORDER BY id",  # noqa: S608 - names, no input
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
            if await target.reading.rows(f"SELECT 1 FROM {table.name} LIMIT 1"):  # noqa: S608 - a name
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
        header = msgspec.json.decode(next(reading, b""), type=Header)
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
    heading, size = Heading(table="", columns=()), 0
    rows: list[Row] = []
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
    kinds = [kind_of(columns[name]) if name in columns else int | None for name in heading.columns]
    return tuple.__class_getitem__(tuple(kinds))


def kind_of(column: Column[Any]) -> Any:
    kind = column.type.python_type
    return kind | None if column.nullable else kind


# Filling a database.


class Target(ABC):
    """An open transaction on the database that is filled."""

    reading: Snapshot

    @abstractmethod
    async def fill(self, heading: Heading, rows: Sequence[Row]) -> None:
        """Insert rows as they are, with their own numbers; events are given the positions that they had."""

    @abstractmethod
    async def settle(self) -> None:
        """Let the numbers of new rows go on after those of the restored ones."""

    @abstractmethod
    async def add_words(self, texts: Sequence[tuple[int, str]], *, first: bool) -> None:
        """Let cases be found, by number, by a text each; by another one if it is not the first."""


def filling(database: Database) -> AbstractAsyncContextManager[Target]:
    match database:
        case SqliteDatabase():
            return filling_sqlite(database.path)
        case PostgresDatabase():
            return filling_postgres(database.url)
        case _:
            raise TypeError(type(database).__name__)


class SqliteTarget(Target):
    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.reading = SqliteSnapshot(connection)

    async def fill(self, heading: Heading, rows: Sequence[Row]) -> None:
        if heading.table != "events":
            self.connection.executemany(sqlite_writer.insert(heading.table, heading.columns), rows)
            return
        # A trigger gives each event its position, so that they only have to come in their order.
        self.connection.executemany(sqlite_writer.insert("events", heading.columns[:-1]), [row[:-1] for row in rows])
        ((last,),) = await self.reading.rows("SELECT max(position) FROM positions")
        if any(row[-1] not in {None, place} for place, row in enumerate(rows, start=last - len(rows) + 1)):
            raise DamagedBackup(f"the positions of the events before {last} are not in order")

    async def settle(self) -> None:
        """A new row is always given the largest number plus one."""

    async def add_words(self, texts: Sequence[tuple[int, str]], *, first: bool) -> None:
        documents = [(number, search.fts5_document(text)) for number, text in texts]
        if first:
            self.connection.executemany(sqlite_writer.INSERT_WORDS, documents)
            return
        limit = sqlite_writer.MAX_INDEXED_CHARACTERS
        self.connection.executemany(sqlite_writer.ADD_WORDS, [(words, number, limit) for number, words in documents])


@asynccontextmanager
async def filling_sqlite(path: Path) -> AsyncIterator[Target]:
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield SqliteTarget(connection)
        connection.execute("COMMIT")


class PostgresTarget(Target):
    def __init__(self, connection: "asyncpg.Connection[Any]") -> None:
        self.connection = connection
        self.reading = PostgresSnapshot(connection)

    async def fill(self, heading: Heading, rows: Sequence[Row]) -> None:
        """COPY keeps the numbers of identity columns, and fires every trigger."""
        if heading.table != "events":
            await self.connection.copy_records_to_table(heading.table, records=rows, columns=heading.columns)
            return
        events = [row[:-1] for row in rows]
        await self.connection.copy_records_to_table("events", records=events, columns=heading.columns[:-1])
        number = heading.columns.index("id")
        placed = [(row[-1], row[number]) for row in rows if row[-1] is not None]
        await self.connection.copy_records_to_table("positions", records=placed, columns=("position", "event_id"))
        await self.connection.execute(
            "DELETE FROM pending_events WHERE event_id = ANY($1::bigint[])", [event for _, event in placed]
        )

    async def settle(self) -> None:
        numbered = [("cases", "number", "'case_numbers'")]
        for table in tables():
            for column in table.columns:
                if column.identity is not None:
                    sequence = f"pg_get_serial_sequence('{table.name}', '{column.name}')"
                    numbered.append((table.name, column.name, sequence))
        for table_name, column_name, sequence in numbered:
            largest = f"SELECT max({column_name}) AS largest FROM {table_name}"  # noqa: S608 - names, no input
            found = f"({largest}) AS found WHERE largest IS NOT NULL"
            await self.connection.execute(f"SELECT setval({sequence}, largest) FROM {found}")  # noqa: S608 - names

    async def add_words(self, texts: Sequence[tuple[int, str]], *, first: bool) -> None:
        statement = postgres_writer.INSERT_WORDS if first else postgres_writer.ADD_WORDS
        numbers, words = [number for number, _ in texts], [search.tsvector(text) for _, text in texts]
        await self.connection.execute(statement, numbers, words)


@asynccontextmanager
async def filling_postgres(url: str) -> AsyncIterator[Target]:
    connection = await asyncpg.connect(url, server_settings={"application_name": "casework restore", "jit": "off"})
    try:
        async with connection.transaction():
            # As the first start of a service does: it would otherwise create a desk meanwhile.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('casework desk'))")
            yield PostgresTarget(connection)
    finally:
        await connection.close()


# The search index, as the ledger would have written it.


FOUND_IN = {TYPE_NAMES[data]: fields for data, fields in FOUND_BY.items()}
TEXTS = f"""
    SELECT personal.chain, personal.seq, type, field, value
    FROM personal JOIN events ON events.chain = personal.chain AND events.seq = personal.seq
    WHERE type IN ({", ".join(f"'{name}'" for name in FOUND_IN)}) AND personal.chain
"""  # noqa: S608 - names
CASES = "SELECT number, id FROM cases WHERE number > {} ORDER BY number LIMIT {}"


async def make_findable(target: Target) -> None:
    """Event by event, since what is too much for the index depends on that."""
    last = 0
    while cases := await target.reading.rows(CASES.format(last, CASES_AT_ONCE)):
        numbers = {chain_of(case_id): number for number, case_id in cases}
        texts: dict[int, list[str]] = {number: [] for number, _ in cases}
        found = [row for row in await target.reading.among(TEXTS, list(numbers)) if row[3] in FOUND_IN[row[2]]]
        found.sort(key=lambda row: (row[0], row[1], FOUND_IN[row[2]].index(row[3])))
        for (chain, _), fields in groupby(found, key=itemgetter(0, 1)):
            texts[numbers[chain]].append("\n".join(value for *_, value in fields))
        await target.add_words([(number, one[0] if one else "") for number, one in texts.items()], first=True)
        for index in range(1, max(map(len, texts.values()))):
            further = [(number, one[index]) for number, one in texts.items() if index < len(one)]
            await target.add_words(further, first=False)
        last = cases[-1][0]
