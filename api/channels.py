"""What goes on beside the requests, in `serve` or in `casework work`: effects are carried out, mail is received."""

import asyncio
import signal
from typing import TYPE_CHECKING

import structlog

from api.carrying_out import Handler, Worker
from workflow.effects import EffectKind

if TYPE_CHECKING:
    from api.desk import Desk
    from api.settings import Settings

log = structlog.get_logger()


def handlers_of(settings: "Settings") -> tuple[dict[EffectKind, Handler], ...]:
    """What these settings allow to be carried out: a group for each worker, so that none waits for another's sake."""
    return ()


class Channels:
    """One in each process that is to carry out and receive."""

    def __init__(self, desk: "Desk") -> None:
        self.workers = [Worker(desk, handlers) for handlers in handlers_of(desk.settings) if handlers]

    def open(self) -> None:
        for worker in self.workers:
            worker.open()

    async def close(self) -> None:
        """Before the desk closes: what has begun is recorded."""
        await asyncio.gather(*(worker.close() for worker in self.workers))


async def work(desk: "Desk") -> None:
    """Until a SIGTERM or SIGINT."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stop.set)
    channels = Channels(desk)
    channels.open()
    log.info("working", kinds=sorted(kind for worker in channels.workers for kind in worker.handlers))
    await stop.wait()
    await channels.close()
