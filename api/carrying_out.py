"""Carrying out effects: what a handler of one kind promises, and the worker that hands them what is due.

An effect happens at least once: between what the other side does and our record of it lies a moment in which a process
can die. That nothing happens twice that must not is the handler's part, by the key that stays the same.
"""

import asyncio
import random
from collections import Counter as Counted
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import structlog
from prometheus_client import Counter
from sqlalchemy.exc import SQLAlchemyError

from storage import cases, outbox
from storage.outbox import Attempt, Effect
from storage.submissions import OutcomeUnknown, Unavailable
from workflow.cases import chain_of
from workflow.commands import RecordBounce
from workflow.effects import EffectKind
from workflow.events import EffectOutcome
from workflow.settling import ClaimLost, SettleEffect

if TYPE_CHECKING:
    from api.desk import Desk

log = structlog.get_logger()

SETTLED = Counter("casework_effects_total", "Effects that were settled", ["kind", "outcome"])
ATTEMPTS = Counter("casework_effect_failures_total", "Attempts that failed and are made again", ["kind", "code"])

PART = "outbox"  # of the system, as the log names it

HANDLER_SECONDS = 45.0  # for one attempt
LEASE = timedelta(seconds=90)  # longer than an attempt and its record take: nobody else begins meanwhile
AT_ONCE = 16
FOR_ONE_TARGET = 4  # so that one that hangs leaves the others their turns
CLAIMED_TOGETHER = 4  # at least, where there is much to do: it costs less than one by one
POLL_SECONDS = 0.4
AWAY_SECONDS = 2.0  # the database cannot be asked
STOP_SECONDS = 15.0  # for what has begun
FORGET_SECONDS = 3600.0
KEPT = timedelta(days=30)  # in lists; the log remembers for good

# Between attempts; after the last the effect is dead. About three days, as Standard Webhooks has it.
PAUSES = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 30, 5 * 60, 30 * 60, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24)))
)


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The other side has it. `reference` is what it knows it by; nothing personal, since it stays in the log."""

    reference: str = ""


class NotYet(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing went wrong: it is to be looked at again `after`."""

    after: timedelta


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """It may work later: tried again with growing pauses, then given up. `code` is stable and goes into lists."""

    code: str
    detail: str = ""


class Hopeless(msgspec.Struct, frozen=True, kw_only=True):
    """It will never work as it is: a person has to look at it."""

    code: str
    detail: str = ""


class Needless(msgspec.Struct, frozen=True, kw_only=True):
    """It is not to happen, or not any more; `code` says why."""

    code: str


Result = Done | NotYet | Failed | Hopeless | Needless

# One attempt at one effect. It may be made again although it succeeded (a process died before that was recorded), at
# the same time too (a claim ran out): `effect.key` tells the other side. What it raises counts as Failed.
Handler = Callable[["Desk", Effect], Awaitable[Result]]


class Worker:
    """Any number of them, in any number of processes, may work on one database: a claim belongs to one of them."""

    def __init__(self, desk: "Desk", handlers: Mapping[EffectKind, Handler], at_once: int = AT_ONCE) -> None:
        self.desk = desk
        self.handlers = handlers
        self.at_once = at_once
        self.begun: dict[asyncio.Task[None], Effect] = {}
        self.wake = asyncio.Event()
        self.closing = False
        self.forget_at = 0.0
        self.task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self.task = asyncio.create_task(self.run(), name="effects")

    async def close(self) -> None:
        """Let what has begun come to its end, if that is soon; what has not is free for others at once."""
        self.closing = True
        self.ring()
        if self.task is not None:
            await self.task
        if self.begun:
            await asyncio.wait(self.begun, timeout=STOP_SECONDS)
        left = dict(self.begun)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for effect in left.values():
            await self.let_go(effect, timedelta())

    def ring(self) -> None:
        """There may be something to do."""
        self.wake.set()

    async def run(self) -> None:
        while not self.closing:
            self.wake.clear()
            try:
                found = await self.claim()
                await self.forget()
            except Exception as failure:  # whatever it is, it is tried again
                bug = None if isinstance(failure, AWAY) else failure
                log.warning("effects_wait", failure=type(failure).__name__, exc_info=bug)
                await self.pause(AWAY_SECONDS)
                continue
            for effect in found:
                task = asyncio.create_task(self.carry_out(effect), name=f"effect {effect.id}")
                self.begun[task] = effect
                task.add_done_callback(self.ended)
            if not found:
                await self.pause(POLL_SECONDS)
            while self.at_once - len(self.begun) < CLAIMED_TOGETHER and not self.closing:
                await asyncio.wait(self.begun, return_when=asyncio.FIRST_COMPLETED)

    def ended(self, task: "asyncio.Task[None]") -> None:
        del self.begun[task]
        self.ring()  # what waited behind it in its lane may be due

    async def claim(self) -> list[Effect]:
        # Of letters a target says only for whom they are: all go to one server, however many there are.
        desk, begun = self.desk, self.begun.values()
        targets = Counted(effect.target for effect in begun if effect.kind is EffectKind.WEBHOOK)
        busy = frozenset(target for target, count in targets.items() if count >= FOR_ONE_TARGET)
        free = self.at_once - len(self.begun)
        limit = min(free, FOR_ONE_TARGET) if EffectKind.WEBHOOK in self.handlers else free
        kinds = frozenset(self.handlers)
        return await outbox.claim(desk.database, kinds, desk.clock(), lease=LEASE, limit=limit, busy=busy)

    async def pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        except TimeoutError:
            pass

    async def forget(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self.forget_at:
            self.forget_at = now + FORGET_SECONDS
            await outbox.forget(self.desk.database, self.desk.clock() - KEPT)

    # One effect.

    async def carry_out(self, effect: Effect) -> None:
        result = await self.attempt(effect)
        try:
            await self.record(effect, result)
        except ClaimLost:
            log.warning("claim_lost", effect=effect.id, kind=effect.kind)
        except Exception as failure:  # the claim runs out, and it is attempted again
            bug = None if isinstance(failure, AWAY) else failure
            log.warning("outcome_not_recorded", effect=effect.id, failure=type(failure).__name__, exc_info=bug)

    async def attempt(self, effect: Effect) -> Result:
        try:
            async with asyncio.timeout(HANDLER_SECONDS):
                return await self.handlers[effect.kind](self.desk, effect)
        except TimeoutError:
            return Failed(code="timeout")
        except AWAY as failure:
            return Failed(code="desk_unavailable", detail=type(failure).__name__)
        except Exception:
            log.exception("handler_failed", effect=effect.id, kind=effect.kind)
            return Failed(code="internal")

    async def record(self, effect: Effect, result: Result) -> None:
        """Raises ClaimLost."""
        match result:
            case Done(reference=reference):
                await self.settle(effect, EffectOutcome.DONE, reference=reference)
            case Needless(code=code):
                await self.settle(effect, EffectOutcome.WITHHELD, reason=code)
            case NotYet(after=after):
                await self.let_go(effect, after)
            case Failed() if effect.failures < len(PAUSES):
                ATTEMPTS.labels(effect.kind, result.code).inc()
                log.warning("effect_failed", effect=effect.id, kind=effect.kind, code=result.code)
                await self.let_go(effect, jittered(PAUSES[effect.failures]), result)
            case Failed() | Hopeless():
                await self.let_go(effect, LEASE, result)  # what was said of it belongs to its list of attempts
                await answer_nothing(self.desk, effect, result.code)
                await self.settle(effect, EffectOutcome.DEAD, reason=result.code)

    async def settle(self, effect: Effect, outcome: EffectOutcome, *, reference: str = "", reason: str = "") -> None:
        command = SettleEffect(
            effect=effect.id, fence=effect.fence, outcome=outcome, reference=reference, reason=reason
        )
        await self.desk.submit_as_system(PART, command, via="timer")
        SETTLED.labels(effect.kind, outcome).inc()
        log.info("effect_settled", effect=effect.id, kind=effect.kind, outcome=outcome, reason=reason)

    async def let_go(self, effect: Effect, after: timedelta, failure: Failed | Hopeless | None = None) -> None:
        now = self.desk.clock()
        attempt = Attempt(at=now, code=failure.code, detail=failure.detail) if failure else None
        if not await outbox.postpone(self.desk.database, effect, now + after, attempt):
            raise ClaimLost("the effect is in other hands")


async def answer_nothing(desk: "Desk", effect: Effect, reason: str) -> None:
    """A letter that never left has not answered the client, as one that came back has not."""
    if effect.kind is not EffectKind.LETTER:
        return
    case_id = effect.chain.removeprefix(chain_of(""))
    entry = await cases.one(desk.database, case_id)
    if entry is not None and effect.seq in entry.case.answers:
        bounce = RecordBounce(message=f"m{effect.seq}", reason=reason)
        await desk.submit_as_system(PART, bounce, case_id, via="timer")


# The database, or the ledger over it, is not there at the moment.
AWAY = (Unavailable, OutcomeUnknown, SQLAlchemyError, OSError)


def jittered(pause: timedelta) -> timedelta:
    """Not all at once, after the other side was away."""
    return pause * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
