"""Gives committed events their place in the dense order that the feed pages by, and in the tree over the log.

Identity numbers are given out before transactions commit, so that a reader who pages by them can miss a late one.
Here one pass at a time, whichever process makes it, numbers what is committed; writers never wait for it. On SQLite
numbering needs no pass: its writers follow one another, and a trigger numbers each event as it is written.

A second kind of pass takes numbered events into the tree, and every few seconds a checkpoint of it is signed. Each
step may be cut off, and be done by another process meanwhile: the next one goes on from what is there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from storage import checkpoints, tree
from storage.checkpoints import Signed
from storage.database import Database, asking, utc_now
from storage.keys import KeyFolder
from storage.signals import GROWN
from storage.sqlite import driver
from storage.writer import Clock
from workflow.errors import CaseworkError

log = structlog.get_logger()

PAUSE_SECONDS = 0.2
TREE_SECONDS = 1.0
CHECKPOINT_SECONDS = 5.0
PASS_SIZE = 10_000

EXPECTED: tuple[type[Exception], ...] = (CaseworkError, SQLAlchemyError, OSError, driver.Error)

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
CALL = text("SELECT pg_notify(:channel, '')")


def number_events(connection: Connection) -> int:
    """One pass; answers with how many events it placed, and calls whoever follows the log.

    Here and not where events are written: PostgreSQL lets those who call commit one after the other.
    """
    connection.execute(LOCK)
    placed = connection.execute(NUMBER, {"size": PASS_SIZE}).rowcount
    if placed:
        connection.execute(CALL, {"channel": GROWN})
    return placed


class Sequencer:
    """One in each process. `faults` say why the tree does not grow, or is not signed, until it is again."""

    def __init__(self, database: Database, keys: KeyFolder | None = None, clock: Clock = utc_now) -> None:
        self.database = database
        self.keys = keys
        self.clock = clock
        self.faults: dict[str, str] = {}
        self.closing = False
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.task = asyncio.create_task(self.run(), name="sequencer")

    async def close(self) -> None:
        self.closing = True  # a step that is cancelled may end with another error
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def run(self) -> None:
        grow_at = sign_at = 0.0
        while not self.closing:
            placed = await self.attempt("positions", self.catch_up)
            if time.monotonic() >= grow_at:
                grow_at = time.monotonic() + TREE_SECONDS
                await self.attempt("tree", self.grow)
            if time.monotonic() >= sign_at:
                sign_at = time.monotonic() + CHECKPOINT_SECONDS
                await self.attempt("checkpoints", self.sign)
            if placed < PASS_SIZE and not self.closing:
                await asyncio.sleep(PAUSE_SECONDS if self.database.dialect == "postgresql" else TREE_SECONDS)

    async def attempt(self, part: str, step: Callable[[], Awaitable[int]]) -> int:
        try:
            done = await step()
        except Exception as failure:  # whatever it is: a task that ends would do so in silence
            said = str(failure) if isinstance(failure, CaseworkError) else type(failure).__name__
            if self.faults.get(part) != said:
                bug = None if isinstance(failure, EXPECTED) else failure
                log.warning("sequencer_waits", part=part, failure=said, exc_info=bug)
            self.faults[part] = said
            return 0
        self.faults.pop(part, None)
        return done

    async def catch_up(self) -> int:
        """Place whatever is committed by now, so that a reader finds what was acknowledged to it."""
        if self.database.dialect != "postgresql":
            return 0
        if await self.database.first(text("SELECT 1 FROM pending_events LIMIT 1")) is None:
            return 0
        with asking():
            return await self.database.run(number_events)

    async def grow(self) -> int:
        """Take all numbered events into the tree, a bounded pass at a time."""
        grown = 0
        if not await self.lag():
            return grown  # a transaction that writes nothing would still wait for its turn
        while True:
            with asking():
                taken = await self.database.transact(tree.extend)
            grown += taken
            if taken < tree.PASS_SIZE:
                return grown
            await asyncio.sleep(0)  # whoever has a request to answer gets their turn

    async def sign(self) -> int:
        """Raises CannotSign."""
        if self.keys is not None:
            await checkpoints.sign(self.database, self.keys, self.clock())
        return 0

    async def settle(self) -> Signed | None:
        """Everything that was acknowledged by now is in the tree and under the checkpoint that is answered with.

        None where there are no keys. Raises CannotSign, BrokenTree, Unavailable.
        """
        while await self.catch_up() == PASS_SIZE:
            pass
        await self.grow()
        await self.sign()
        return await checkpoints.newest(self.database)

    async def lag(self) -> int:
        """How many events are not in the tree yet."""
        with asking():
            return await self.database.run(tree.lag)
