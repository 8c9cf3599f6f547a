"""What goes on beside the requests, in `serve` or in `casework work`: effects are carried out, mail is received."""

import asyncio
import gc
import signal
from typing import TYPE_CHECKING

import structlog

from api.carrying_out import AT_ONCE, CLAIMED_TOGETHER, FOR_ONE_TARGET, Handler, Worker
from api.receiving import Receiving
from workflow.effects import LETTERS, EffectKind
from workflow.webhooks import MAX_WEBHOOKS

if TYPE_CHECKING:
    from api.desk import Desk
    from api.settings import Settings

log = structlog.get_logger()

# Though all of them hang but one, that one is told.
WEBHOOKS_AT_ONCE = FOR_ONE_TARGET * MAX_WEBHOOKS + CLAIMED_TOGETHER


def handlers_of(settings: "Settings") -> tuple[dict[EffectKind, Handler], ...]:
    """What these settings allow to be carried out: a group for each worker, so that none waits for another's sake.

    What only some desks need is loaded only there.
    """
    from api.webhook_delivery import deliver  # noqa: PLC0415 - needs the desk, which needs us

    letters: dict[EffectKind, Handler] = {}
    payments: dict[EffectKind, Handler] = {}
    if not LETTERS.isdisjoint(settings.effects):
        from api.invitations import invite  # noqa: PLC0415 - as just said
        from api.letters.posting import acknowledge, letter  # noqa: PLC0415

        letters = {EffectKind.ACKNOWLEDGE: acknowledge, EffectKind.LETTER: letter, EffectKind.INVITE: invite}
    if EffectKind.PAY in settings.effects:
        from api.payouts import pay  # noqa: PLC0415

        payments = {EffectKind.PAY: pay}
    webhooks: dict[EffectKind, Handler] = {EffectKind.WEBHOOK: deliver}
    return tuple(group for group in (letters, payments, webhooks) if group)


class Channels:
    """One in each process that is to carry out and receive."""

    def __init__(self, desk: "Desk") -> None:
        self.receiving = Receiving(desk)
        self.workers = [
            Worker(desk, handlers, WEBHOOKS_AT_ONCE if EffectKind.WEBHOOK in handlers else AT_ONCE)
            for handlers in handlers_of(desk.settings)
        ]

    def open(self) -> None:
        self.receiving.open()
        for worker in self.workers:
            worker.open()

    async def close(self) -> None:
        """Before the desk closes: what has begun is recorded."""
        await asyncio.gather(self.receiving.close(), *(worker.close() for worker in self.workers))


async def work(desk: "Desk") -> None:
    """Until a SIGTERM or SIGINT."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stop.set)
    channels = Channels(desk)
    channels.open()
    leave_alone_what_stays()
    log.info("working", effects=sorted(desk.settings.effects), sources=[one.name for one in channels.receiving.states])
    await stop.wait()
    await channels.close()


def leave_alone_what_stays() -> None:
    """What is loaded by now: without it in every collection of garbage, the slowest answers are three times as fast."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
