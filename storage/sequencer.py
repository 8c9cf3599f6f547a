"""Gives committed events their place in the dense order that the feed pages by.

Identity numbers are given out before transactions commit, so that a reader who pages by them can miss a late one.
Here one pass at a time, whichever process makes it, numbers what is committed; writers never wait for it. SQLite needs
no pass: its writers follow one another, and a trigger numbers each event as it is written.
"""

import asyncio

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from storage.database import Database, asking
from storage.submissions import Unavailable

log = structlog.get_logger()

PAUSE_SECONDS = 0.2
PASS_SIZE = 10_000

LOCK = text("SELECT pg_advisory_xact_lock(hashtext('casework sequencer'))")
NUMBER = text(
    """
    WITH next AS (SELECT event_id FROM pending_events ORDER BY event_id LIMIT :size),
    placed AS (
        INSERT INTO positions (position, event_id)
        SELECT (SELECT coalesce(max(position), 0) FROM positions) + row_number() OVER (ORDER BY event_id), event_id
        FROM next ORDER BY event_id
        RETURNING event_id
    )
    DELETE FROM pending_events USING placed WHERE pending_events.event_id = placed.event_id
    """
)


def number_events(connection: Connection) -> int:
    """One pass; answers with how many events it placed."""
    connection.execute(LOCK)
    return connection.execute(NUMBER, {"size": PASS_SIZE}).rowcount


class Sequencer:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        if self.database.dialect == "postgresql":
            self.task = asyncio.create_task(self.run(), name="sequencer")

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def run(self) -> None:
        while True:
            try:
                placed = await self.catch_up()
            except (Unavailable, SQLAlchemyError) as failure:
                log.warning("sequencer_waits", failure=type(failure.__cause__ or failure).__name__)
                placed = 0
            if placed < PASS_SIZE:
                await asyncio.sleep(PAUSE_SECONDS)

    async def catch_up(self) -> int:
        """Place whatever is committed by now, so that a reader finds what was acknowledged to it."""
        if self.database.dialect != "postgresql":
            return 0
        if await self.database.first(text("SELECT 1 FROM pending_events LIMIT 1")) is None:
            return 0
        with asking():
            return await self.database.run(number_events)
