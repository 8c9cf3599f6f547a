"""Turns: what one process at a time may do, of those that work over one database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from storage.database import Database, PostgresDatabase, asking

CONNECT_SECONDS = 10.0
KEEP_ALIVE = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}


@asynccontextmanager
async def turn(database: Database, name: str) -> AsyncIterator[bool]:
    """Whether the turn of that name is ours until the end of this; it is free again when the process dies.

    A connection that breaks can leave two of them believing so for a while. A SQLite file is one process's anyway.
    Raises Unavailable.
    """
    if not isinstance(database, PostgresDatabase):
        yield True
        return
    with asking():
        connection = await asyncpg.connect(
            database.url,
            timeout=CONNECT_SECONDS,
            command_timeout=CONNECT_SECONDS,
            server_settings={"application_name": "casework", **KEEP_ALIVE},
        )
    try:
        with asking():
            is_ours = await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", f"casework turn {name}")
        yield bool(is_ours)
    finally:
        connection.terminate()
