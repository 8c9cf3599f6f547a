"""Receives mail as it comes: every source by itself, taken up again whatever happens to it.

A source hands in each mail at least once; taking it in has no second effect.
"""

import asyncio
import random
from collections import OrderedDict
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

import asyncpg
import msgspec
import structlog
from prometheus_client import Counter
from sqlalchemy.exc import InterfaceError, OperationalError

from api.mail_intake import Outcome, Taken, set_raw_aside, take_in
from storage.sqlite import driver
from storage.submissions import DuplicateMail, OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from api.desk import Desk

log = structlog.get_logger()

RECEIVED = Counter("casework_mails_received_total", "Mails that arrived, by what became of them", ["outcome"])

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0

ATTEMPTS = 3  # at a mail that fails for a reason of its own
KNOWN_FAILURES = 10_000

# The desk, or the database under it, cannot take any mail now; what else is raised is about the mail.
AWAY = (
    Unavailable,
    OutcomeUnknown,
    OSError,
    OperationalError,
    InterfaceError,
    driver.OperationalError,
    asyncpg.InterfaceError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresConnectionError,
    asyncpg.ReadOnlySQLTransactionError,
)


class NotNow(Exception):
    """The desk can take no mail now: keep this one, and come back later."""


class Unhandled(Exception):
    """The mail failed: keep it, and hand it in again later; others may do better."""


class Stuck(Unhandled):
    """It has failed often enough; people are told of it, with its beginning."""


class SourceProblem(Exception):
    """Why nothing can be received from a source; `code` is stable."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class SourceState(msgspec.Struct, kw_only=True):
    """How a source of mail is doing. `name` says which of the settings it is, and holds no address."""

    name: str
    received_at: datetime | None = None  # when it last worked, with mail or without
    problem: str | None = None  # a code; None while it works


class Source(Protocol):
    state: SourceState

    async def run(self) -> None:
        """Receive until cancelled, or until something is in the way, which is raised."""


class Reception:
    """What every source hands its mails to."""

    def __init__(self, desk: "Desk") -> None:
        self.desk = desk
        self.failures: OrderedDict[bytes, int] = OrderedDict()

    async def take(self, raw: bytes, arrived_at: datetime | None = None) -> Taken:
        """Once it is durable. Raises NotNow, or Unhandled."""
        try:
            taken = await take_in(self.desk, raw, arrived_at=arrived_at or self.desk.clock())
        except AWAY as failure:
            log.warning("mail_waits", failure=type(failure).__name__)
            RECEIVED.labels("waits").inc()
            raise NotNow from failure
        except Exception as failure:
            log.exception("mail_failed")
            RECEIVED.labels("failed").inc()
            raise await self.failed(raw, failure) from failure
        RECEIVED.labels(taken.outcome).inc()
        return taken

    async def failed(self, raw: bytes, failure: Exception) -> Unhandled:
        key = sha256(raw).digest()
        self.failures[key] = self.failures.pop(key, 0) + 1
        if len(self.failures) > KNOWN_FAILURES:
            self.failures.popitem(last=False)
        if self.failures[key] < ATTEMPTS:
            return Unhandled()
        return Stuck() if await self.set_aside(raw, f"failed: {type(failure).__name__}") else Unhandled()

    async def set_aside(self, raw: bytes, reason: str) -> bool:
        """Whether people find it now where mail is that was set aside."""
        try:
            await set_raw_aside(self.desk, raw, reason)
        except DuplicateMail:
            return True
        except Exception as failure:  # noqa: BLE001 - whatever it is, the mail is kept where it was
            log.warning("mail_not_set_aside", failure=type(failure).__name__)
            return False
        RECEIVED.labels(Outcome.SET_ASIDE).inc()
        return True


class Receiving:
    """All the sources that the settings name. One in each process that is to receive.

    Of several processes over one database one reads a mailbox, and the others stand by.
    """

    def __init__(self, desk: "Desk") -> None:
        self.desk = desk
        self.sources: list[Source] = []
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def states(self) -> list[SourceState]:
        return [source.state for source in self.sources]

    def open(self) -> None:
        """Begin; what speaks IMAP and LMTP is loaded only where there is need of it."""
        settings, reception = self.desk.settings, Reception(self.desk)
        if settings.mailboxes:
            from api.mailboxes import Mailbox  # noqa: PLC0415 - as just said

            self.sources += [
                Mailbox(reception, one, f"mailbox-{number}") for number, one in enumerate(settings.mailboxes, start=1)
            ]
        if settings.lmtp:
            from api.lmtp import Listener  # noqa: PLC0415 - as just said

            self.sources.append(Listener(reception, settings.lmtp))
        self.desk.receiving = self
        self.tasks = [asyncio.create_task(supervise(one), name=one.state.name) for one in self.sources]

    async def close(self) -> None:
        """Before the desk closes. What has been begun and not acknowledged comes again."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def supervise(source: Source) -> None:
    """Run it again whenever it ends, after pauses that grow while it does not work at all."""
    pause, state = FIRST_PAUSE_SECONDS, source.state
    while True:
        worked_at = state.received_at
        try:
            await source.run()
        except SourceProblem as problem:
            state.problem = problem.code
        except Exception as failure:
            state.problem = type(failure).__name__
            log.debug("mail_source_failed", source=state.name, exc_info=True)
        pause = FIRST_PAUSE_SECONDS if state.received_at != worked_at else min(2 * pause, LONGEST_PAUSE_SECONDS)
        if state.problem:
            log.warning("mail_source_waits", source=state.name, problem=state.problem, seconds=pause)
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
