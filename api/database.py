"""The database as a process needs it: reachable, with this release's schema, and with the desk in it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from api.desk import Desk
from api.settings import Settings
from storage.database import Database, SqliteDatabase, open_database, utc_now
from storage.defences import grants, schema_of
from storage.desk import ensure_desk
from storage.keys import ensure_key
from storage.schema import HEAD
from storage.writer import Clock
from workflow.errors import CaseworkError


class NotReady(CaseworkError):
    """The database cannot be reached, or this release cannot work with it; the text says what to do."""


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """For reading a desk that exists. Raises NotReady."""
    database = open_database(settings.database_url)
    try:
        with explained():
            await bring_up_to_date(database, existing=True)
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def running(settings: Settings, clock: Clock = utc_now) -> AsyncIterator[Desk]:
    """The desk, ready to take commands; made first, where there is none. Raises NotReady, or TimezoneChanged."""
    database = open_database(settings.database_url)
    try:
        await prepare(database, settings, clock())
        desk = Desk(settings, database, clock)
        await desk.open()
        try:
            yield desk
        finally:
            await desk.close()
    finally:
        await database.close()


async def prepare(database: Database, settings: Settings, now: datetime) -> None:
    """Everything that has to be so before the desk can run. Raises NotReady, TimezoneChanged or CannotSign."""
    with explained():
        await bring_up_to_date(database)
        await database.run(lambda connection: ensure_desk(connection, settings.timezone, now))
        if isinstance(database, SqliteDatabase):
            await ensure_key(database, settings.keys_in, now)


async def bring_up_to_date(database: Database, *, existing: bool = False) -> None:
    """A SQLite file is one desk's own and migrated on the way; a PostgreSQL database only by `casework migrate`."""
    if existing and isinstance(database, SqliteDatabase) and not database.path.exists():
        raise NotReady(f"there is no desk: {database.path} does not exist")
    revision = await database.revision()
    if existing and revision is None:
        raise NotReady("there is no desk in this database")
    if revision == HEAD:
        return
    if database.dialect == "postgresql":
        state = "has no schema yet" if revision is None else f"has schema {revision}, and this release needs {HEAD}"
        raise NotReady(f"the database {state}: run casework migrate")
    await database.upgrade()


async def migrate(settings: Settings, now: datetime) -> None:
    """Bring the schema up to date, and make the desk and its key where there are none. Raises as `prepare`."""
    async with schema_ready(settings) as database:
        await database.run(lambda connection: ensure_desk(connection, settings.timezone, now))
        await ensure_key(database, settings.keys_in, now)


@asynccontextmanager
async def schema_ready(settings: Settings) -> AsyncIterator[Database]:
    """A database of this release's schema, and perhaps nothing in it; for whoever may do anything there.

    Where an owner's URL is set, that is the owner, who lets the role of the ordinary URL serve. Raises NotReady.
    """
    database = open_database(settings.database_url)
    owner = open_database(settings.owner_url) if settings.owner_url else database
    try:
        with explained():
            await owner.upgrade()
            if owner is not database:
                role = await database.run(role_of)
                await owner.run(lambda connection: let_serve(connection, role))
        yield owner
    finally:
        await owner.close()
        await database.close()


def role_of(connection: Connection) -> str:
    return str(connection.exec_driver_sql("SELECT current_user").scalar_one())


def let_serve(connection: Connection, role: str) -> None:
    if role == role_of(connection):
        return
    for statement in grants(role, schema_of(connection)):
        connection.exec_driver_sql(statement)


@contextmanager
def explained() -> Iterator[None]:
    """What the database says when it cannot be used, without the URL, which may hold a password."""
    try:
        yield
    except (OSError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as failure:
        said = str(failure.orig if isinstance(failure, DBAPIError) else failure).partition("\n")[0]
        raise NotReady(f"the database cannot be used: {said or type(failure).__name__}") from failure
