"""The one door for writes: commands wait here, are decided and made durable in groups, and answered only then."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from storage.batch import Repeat
from storage.journal import CannotErase, Journal, entry_of
from storage.submissions import OutcomeUnknown, OutOfReach, Receipt, Submission, Unavailable
from storage.writer import Answer, Writer
from workflow.commands import Erase
from workflow.errors import CaseworkError
from workflow.events import Erased, Recorded

log = structlog.get_logger()

MAX_BATCH = 64
MAX_WAITING = 10_000  # some seconds' work; whoever comes later had better come again

# How long a repeated request gets its first answer, and how often what is older is forgotten.
KEY_LIFETIME = timedelta(days=7)
FORGETTING_SECONDS = 3600.0


class KeyInFlight(CaseworkError):
    """A request with the same idempotency key is being carried out in this process."""


class LedgerClosed(Unavailable):
    """The service is shutting down and takes no more commands."""


class LedgerBusy(Unavailable):
    """More commands are waiting than would be answered in good time."""


Waiting = tuple[Submission, "asyncio.Future[Receipt | Repeat]"]


class Ledger:
    """One per process. `submit` may be called by any number of tasks at once."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.journal: Journal | None = None  # outside the database, of what is erased
        self.after_commit: Callable[[], None] = lambda: None  # for whoever follows the log; must not take long
        self.waiting: deque[Waiting] = deque()
        self.keys_in_flight: set[str] = set()
        self.wake = asyncio.Event()
        self.closing = False
        self.forget_at = 0.0
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.writer.open()
        self.task = asyncio.create_task(self.run(), name="ledger")

    async def close(self) -> None:
        """Carry out whatever has been accepted, then stop."""
        self.closing = True
        self.wake.set()
        if self.task is not None:
            await self.task
        await self.writer.close()

    async def submit(self, submission: Submission) -> Receipt | Repeat:
        """What the command did, once it is durable.

        Raises the command's refusal; Unauthorized, KeyReused, KeyInFlight, DuplicateMail; Unavailable when nothing
        was written, and OutcomeUnknown when nobody can tell.
        """
        if self.closing:
            raise LedgerClosed
        if len(self.waiting) >= MAX_WAITING:
            raise LedgerBusy
        key = submission.key.hash if submission.key else None
        if key is not None and key in self.keys_in_flight:
            raise KeyInFlight
        future: asyncio.Future[Receipt | Repeat] = asyncio.get_running_loop().create_future()
        if key is not None:
            self.keys_in_flight.add(key)
        self.waiting.append((submission, future))
        self.wake.set()
        # A caller that goes away takes only its answer along: the command is carried out all the same.
        return await future

    async def run(self) -> None:
        while True:
            if not self.waiting:
                if self.closing:
                    return
                await self.idle()
                continue
            group = [self.waiting.popleft() for _ in range(min(len(self.waiting), MAX_BATCH))]
            answers = await self.commit_journalled([submission for submission, _ in group])
            for (submission, future), answer in zip(group, answers, strict=True):
                if isinstance(answer, Exception) and not isinstance(answer, CaseworkError):
                    log.error("command_failed", command=type(submission.command).__name__, exc_info=answer)
                if submission.key is not None:
                    self.keys_in_flight.discard(submission.key.hash)
                settle(future, answer)
            self.after_commit()

    async def idle(self) -> None:
        """Wait for a command, and do the housekeeping meanwhile."""
        self.wake.clear()
        loop = asyncio.get_running_loop()
        if loop.time() >= self.forget_at:
            self.forget_at = loop.time() + FORGETTING_SECONDS
            loop.call_at(self.forget_at, self.wake.set)
            try:
                await self.writer.forget_keys(KEY_LIFETIME)
            except Exception as failure:  # noqa: BLE001 - tried again in an hour; commands must not wait for it
                log.warning("old_keys_kept", failure=type(failure).__name__)
            return
        await self.wake.wait()

    async def commit_journalled(self, submissions: Sequence[Submission]) -> list[Answer]:
        """Nothing is erased where it cannot be journalled, and nobody hears of it before it is."""
        erasing = [index for index, one in enumerate(submissions) if isinstance(one.command, Erase)]
        if self.journal is None or not erasing:
            return await self.commit(submissions)
        try:
            self.journal.check()
        except CannotErase as refused:
            rest = iter(await self.commit([one for one in submissions if not isinstance(one.command, Erase)]))
            return [refused if isinstance(one.command, Erase) else next(rest) for one in submissions]
        answers = await self.commit(submissions)
        done = [event for index in erasing for event in events_of(answers[index]) if isinstance(event.data, Erased)]
        try:
            await asyncio.to_thread(self.journal.add, map(entry_of, done))
        except OSError as failure:
            log.warning("erasure_not_journalled", failure=str(failure))  # the next start makes up for it
            return [
                OutcomeUnknown() if index in erasing and isinstance(one, Receipt) else one
                for index, one in enumerate(answers)
            ]
        return answers

    async def commit(self, submissions: Sequence[Submission]) -> list[Answer]:
        """Together if possible; if the batch fails, one by one, so that only the culprit fails."""
        try:
            return await self.writer.commit(submissions)
        except OutOfReach as failure:
            return [failure for _ in submissions]  # nor would it be another for each alone
        except Exception as failure:  # noqa: BLE001 - every waiting caller gets an answer
            if len(submissions) == 1:
                return [failure]
            log.warning("batch_failed", size=len(submissions), failure=type(failure).__name__)
        return [answer for one in submissions for answer in await self.commit([one])]


def events_of(answer: Answer) -> tuple[Recorded, ...]:
    return answer.events if isinstance(answer, Receipt) else ()


def settle(future: "asyncio.Future[Receipt | Repeat]", answer: Answer) -> None:
    if future.cancelled():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
        future.exception()  # a caller that went away leaves nobody to retrieve it
    else:
        future.set_result(answer)
