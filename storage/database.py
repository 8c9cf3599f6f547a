"""Opens a database by its URL: SQLite or PostgreSQL, for reading through SQLAlchemy and writing through a writer."""

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Executable, Row, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolIsEmpty
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from storage import schema
from storage.batch import NO_EFFECTS
from storage.postgres_writer import LOST, PostgresWriter
from storage.signals import Hear, PostgresSignals, Signals, Silence
from storage.sqlite import connect, driver, is_statement_wrong
from storage.sqlite_writer import SqliteWriter
from storage.submissions import Unavailable
from storage.writer import Clock, Writer
from workflow.effects import EffectKind

AnyRow = Row[*tuple[Any, ...]]
Rows = Sequence[AnyRow]
T = TypeVar("T")

STREAM_SIZE = 1000
CONNECTIONS = 10  # to PostgreSQL, for questions: the ledger has its own


def utc_now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def asking() -> Iterator[None]:
    """Raises Unavailable where the database cannot be asked; any other error is a bug, and passes."""
    try:
        yield
    except (OSError, PoolIsEmpty) as failure:
        raise Unavailable(str(failure)) from failure
    except DBAPIError as failure:
        if is_out_of_reach(failure):
            raise Unavailable(str(failure)) from failure
        raise


def is_out_of_reach(failure: DBAPIError) -> bool:
    """Whether the database is at fault rather than the statement."""
    if is_statement_wrong(failure.orig):
        return False
    never_asked = failure.connection_invalidated or failure.statement is None
    lost = isinstance(getattr(failure.orig, "__cause__", None), LOST)
    return never_asked or lost or isinstance(failure, OperationalError)


class BadDatabaseUrl(ValueError):
    """Neither sqlite:///path nor postgresql://host/name."""


def open_database(url: str) -> "Database":
    if url.startswith("sqlite:///"):
        return SqliteDatabase(Path(url.removeprefix("sqlite:///")))
    if re.match(r"postgres(ql)?://", url):
        return PostgresDatabase(re.sub(r"^postgres(ql)?://", "postgresql://", url))
    raise BadDatabaseUrl("the database URL has to begin with sqlite:/// or postgresql://")


class Database(ABC):
    """Reads; the writer is the ledger's alone. Every method opens and closes what it needs."""

    @property
    @abstractmethod
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""

    @abstractmethod
    async def rows(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Rows:
        """All rows of one statement. Raises Unavailable."""

    @abstractmethod
    def stream(self, statement: Executable) -> AsyncIterator[AnyRow]:
        """Row by row, in flat memory."""

    @abstractmethod
    async def run(self, work: Callable[[Connection], T]) -> T:
        """Carry out synchronous work, such as a migration, on a connection of its own."""

    @abstractmethod
    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Carry out something small in one transaction that may write; the commands of a ledger get their turns."""

    @abstractmethod
    def writer(self, clock: Clock = utc_now, effects: frozenset[EffectKind] = NO_EFFECTS) -> Writer:
        """For one ledger. `effects` are the kinds that somebody will carry out; no others are planned."""

    @abstractmethod
    def signals(self, hear: Hear) -> Signals:
        """To and from the other processes over this database."""

    @abstractmethod
    async def close(self) -> None: ...

    async def first(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> AnyRow | None:
        return next(iter(await self.rows(statement, parameters)), None)

    async def revision(self) -> str | None:
        """The schema's revision; None where there is no schema yet."""
        return await self.run(schema.revision)

    async def upgrade(self) -> None:
        await self.run(schema.upgrade)


class SqliteDatabase(Database):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledgers_writer: SqliteWriter | None = None
        self.engine: Engine = create_engine(
            "sqlite://", creator=lambda: connect(path), module=driver, poolclass=StaticPool, hide_parameters=True
        )

    @property
    def dialect(self) -> str:
        return "sqlite"

    async def rows(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Rows:
        with asking(), self.engine.connect() as connection:
            return connection.execute(statement, parameters).all()

    async def stream(self, statement: Executable) -> AsyncIterator[AnyRow]:
        # Its own connection: a long reading must not be seen by the short ones.
        connection = connect(self.path)
        try:
            with create_engine(
                "sqlite://", creator=lambda: connection, module=driver, poolclass=StaticPool, hide_parameters=True
            ).connect() as c:
                for row in c.execution_options(yield_per=STREAM_SIZE).execute(statement):
                    yield row
        finally:
            connection.close()

    async def run(self, work: Callable[[Connection], T]) -> T:
        engine = create_engine(
            "sqlite://", creator=lambda: connect(self.path), module=driver, poolclass=NullPool, hide_parameters=True
        )
        with engine.connect() as connection:
            return work(connection)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        if self.ledgers_writer is not None and self.ledgers_writer.is_open:
            return await self.ledgers_writer.aside(work)

        def at_once(connection: Connection) -> T:
            connection.execute(text("BEGIN IMMEDIATE"))
            try:
                result = work(connection)
                connection.execute(text("COMMIT"))
            except BaseException:
                connection.execute(text("ROLLBACK"))
                raise
            return result

        return await self.run(at_once)

    def writer(self, clock: Clock = utc_now, effects: frozenset[EffectKind] = NO_EFFECTS) -> Writer:
        self.ledgers_writer = SqliteWriter(self.path, clock, effects)
        return self.ledgers_writer

    def signals(self, hear: Hear) -> Signals:  # noqa: ARG002 - there is nobody to hear
        return Silence()

    async def close(self) -> None:
        self.engine.dispose()


class PostgresDatabase(Database):
    def __init__(self, url: str) -> None:
        self.url = url
        self.engine: AsyncEngine = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://", 1),
            pool_size=CONNECTIONS,
            max_overflow=0,  # what overflows is closed again at once, and to connect costs more than to ask
            pool_use_lifo=True,
            pool_pre_ping=False,
            hide_parameters=True,  # logs tell of failures: whom somebody looked for is none of their business
            isolation_level="AUTOCOMMIT",
            connect_args={"server_settings": {"application_name": "casework", "jit": "off"}},
        )

    @property
    def dialect(self) -> str:
        return "postgresql"

    async def rows(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Rows:
        with asking():
            async with self.engine.connect() as connection:
                return (await connection.execute(statement, parameters)).all()

    async def stream(self, statement: Executable) -> AsyncIterator[AnyRow]:
        async with self.engine.connect() as connection:
            reading = await connection.execution_options(isolation_level="REPEATABLE READ", yield_per=STREAM_SIZE)
            async for row in await reading.stream(statement):
                yield row

    async def run(self, work: Callable[[Connection], T]) -> T:
        async with self.engine.connect() as connection:
            exclusive = await connection.execution_options(isolation_level="READ COMMITTED")
            result = await exclusive.run_sync(work)
            await exclusive.commit()
            return result

    async def transact(self, work: Callable[[Connection], T]) -> T:
        return await self.run(work)

    def writer(self, clock: Clock = utc_now, effects: frozenset[EffectKind] = NO_EFFECTS) -> Writer:
        return PostgresWriter(self.url, clock, effects)

    def signals(self, hear: Hear) -> Signals:
        return PostgresSignals(self.url, hear)

    async def close(self) -> None:
        await self.engine.dispose()
