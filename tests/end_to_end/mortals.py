"""`casework work`, in processes that die at a chosen moment of carrying out an effect."""

import asyncio
import multiprocessing
import os
from collections.abc import Mapping
from typing import Any

from api import channels
from api.carrying_out import Done, Handler, Result, Worker
from api.channels import work
from api.database import running
from api.desk import Desk
from api.logs import configure_logs
from api.settings import Settings
from storage.outbox import Effect
from workflow.effects import LETTERS, EffectKind

MOMENTS = ("claimed", "attempted", "recorded")
DIED = 9

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["__main__", __name__, "api.letters.posting", "api.payouts", "api.webhook_post", "stripe"])


class Mortal(Worker):
    """Dies just after the `moment`, with the first effect of that kind; nothing is finished, nothing is said.

    What others carry out at the same time it leaves alone, so that something of each kind is left to die with.
    """

    moment = ""
    kind = ""

    def __init__(self, desk: Desk, handlers: Mapping[EffectKind, Handler], at_once: int) -> None:
        lane = LETTERS if self.kind in LETTERS else {self.kind}
        chosen = {kind: one for kind, one in handlers.items() if not self.kind or kind in lane}
        super().__init__(desk, chosen, at_once)

    def passes(self, moment: str, effect: Effect) -> None:
        if (moment, effect.kind) == (self.moment, self.kind):
            os._exit(DIED)

    async def attempt(self, effect: Effect) -> Result:
        self.passes("claimed", effect)
        result = await super().attempt(effect)
        self.passes("attempted", effect)
        return result

    async def record(self, effect: Effect, result: Result) -> None:
        await super().record(effect, result)
        self.passes("recorded", effect)


class Careless(Mortal):
    """Records that an effect has happened, and only then makes it happen."""

    async def carry_out(self, effect: Effect) -> None:
        await self.record(effect, Done())
        await self.attempt(effect)


def work_until_told(settings: dict[str, Any], moment: str, kind: str, *, careless: bool = False) -> None:
    configure_logs("error")

    async def run() -> None:
        async with running(chosen) as desk:
            await work(desk)

    chosen = Settings.model_validate(settings)
    kind_of_worker: Any = Careless if careless else Mortal
    kind_of_worker.moment, kind_of_worker.kind = moment, kind
    vars(channels)["Worker"] = kind_of_worker
    asyncio.run(run())


class Process:
    """One that works, until it dies or is told to stop."""

    def __init__(self, settings: dict[str, Any], moment: str = "", kind: str = "", *, careless: bool = False) -> None:
        self.process = FORKS.Process(
            target=work_until_told, args=(settings, moment, kind), kwargs={"careless": careless}, daemon=True
        )
        self.process.start()

    async def death(self) -> None:
        """Wait until it has come."""
        await asyncio.to_thread(self.process.join, 60)
        assert self.process.exitcode == DIED

    async def stop(self) -> None:
        self.process.terminate()
        await asyncio.to_thread(self.process.join, 60)
        assert self.process.exitcode == 0
