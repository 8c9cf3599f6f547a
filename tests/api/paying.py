"""A desk that pays through the stand-in for Stripe: cases ready to be paid, and a worker that can be killed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from api.carrying_out import Done, Handler, Hopeless, Needless, Result
from api.desk import Desk
from api.payments import Order, Payment, Payments
from api.payouts import pay
from storage import cases, outbox
from storage.outbox import Effect
from storage.submissions import Receipt
from tests.api.driving import Clock, Service, running
from tests.api.stripe_standin import KEY, WEBHOOK_SECRET, StripeStandIn
from tests.storage.desks import a_submission
from tests.workflow.builders import (
    ANA,
    BO,
    CHECK,
    CLEO,
    DIRK,
    MAIL,
    a_purchase,
    an_opening,
    approves,
    begins,
    euros,
    firing,
    proposes,
    verifies,
)
from workflow import commands as c
from workflow.cases import Case, Proposal
from workflow.effects import EffectKind
from workflow.events import EffectOutcome
from workflow.policy import GroundKind
from workflow.roles import Actor
from workflow.settling import SettleEffect
from workflow.states import Trigger

LEASE = timedelta(seconds=60)
ATTEMPTS = 12
SALE = "pi_1"
PAID = 20_000_00  # as builders have it


@asynccontextmanager
async def a_paying_desk(url: str, clock: Clock, standin: StripeStandIn, keys: Path) -> AsyncIterator[Service]:
    settings = {
        "payments": "stripe",
        "stripe_key": KEY,
        "stripe_webhook_secret": WEBHOOK_SECRET,
        "stripe_url": standin.url,
        "key_folder": keys,
    }
    async with running(url, clock, **settings) as service:
        yield service


class Till:
    """What people do at the desk, and what is on the case then."""

    def __init__(self, service: Service, standin: StripeStandIn) -> None:
        self.service = service
        self.standin = standin
        self.desk: Desk = service.desk

    async def do(self, actor: Actor, command: c.Command, case_id: str) -> Case:
        receipt = await self.desk.ledger.submit(a_submission(actor, command, case_id))
        assert isinstance(receipt, Receipt)
        assert receipt.case is not None
        self.service.seen[case_id] = f'"{receipt.case.version}"'
        return receipt.case

    async def approved(
        self, case_id: str = "A", amount: str = "300.00", reference: str = SALE, affected: str = "2000.00"
    ) -> Proposal:
        """A refund that somebody else only has to begin. The purchase is a known one, or a new one of 20,000.00."""
        known = await self.desk.database.run(
            lambda connection: connection.exec_driver_sql(
                "SELECT 1 FROM purchases WHERE reference = '" + reference + "'"
            ).first()
        )
        which: dict[str, Any] = {"purchase": None, "purchase_reference": reference}
        opening = which if known else {"purchase": a_purchase(reference=reference)}
        await self.desk.ledger.submit(a_submission(MAIL, an_opening(case_id, **opening), None))
        await self.do(ANA, firing(Trigger.INVESTIGATE), case_id)
        await self.do(ANA, CHECK, case_id)
        claim = c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=euros(affected), statement="charged twice")
        case = await self.do(ANA, claim, case_id)
        await self.do(BO, verifies(case.grounds[-1]), case_id)
        return await self.proposed(case_id, amount)

    async def proposed(self, case_id: str, amount: str) -> Proposal:
        case = await self.do(ANA, proposes(euros(amount)), case_id)
        return (await self.do(CLEO, approves(case.proposals[-1]), case_id)).proposals[-1]

    async def begun(self, case_id: str = "A", amount: str = "300.00", reference: str = SALE) -> Proposal:
        proposal = await self.approved(case_id, amount, reference)
        return (await self.do(DIRK, begins(proposal), case_id)).proposals[-1]

    async def case(self, case_id: str = "A") -> Case:
        entry = await cases.one(self.desk.database, case_id)
        assert entry is not None
        return entry.case

    async def types(self, case_id: str = "A") -> list[str]:
        return [one.event.type for one, _ in await cases.events(self.desk.database, case_id)]

    # The worker.

    async def claimed(self) -> list[Effect]:
        self.service.clock.advance(seconds=1)  # events that share a moment are told apart by microseconds after it
        kinds = frozenset({EffectKind.PAY})
        return await outbox.claim(self.desk.database, kinds, self.service.clock(), lease=LEASE, limit=10)

    async def claim(self) -> Effect:
        (effect,) = await self.claimed()
        return effect

    async def work(self, handler: Handler = pay, *, forgetful: bool = False) -> Result:
        """Attempt after attempt at the one payout there is, until something is known of it; and record that.

        Where the provider is `forgetful`, a day passes between two attempts, and it has forgotten all keys.
        """
        for _ in range(ATTEMPTS):
            effect = await self.claim()
            try:
                result = await handler(self.desk, effect)
            except Killed:
                result = None
            if isinstance(result, Done | Needless | Hopeless):
                await self.record(effect, result)
                return result
            self.service.clock.advance(days=1)
            if forgetful:
                self.standin.forget_keys()
        raise AssertionError("nobody knows what became of the payout")

    async def record(self, effect: Effect, result: Done | Needless | Hopeless) -> None:
        outcomes: dict[type[Result], EffectOutcome] = {
            Done: EffectOutcome.DONE,
            Needless: EffectOutcome.WITHHELD,
            Hopeless: EffectOutcome.DEAD,
        }
        settled = SettleEffect(effect=effect.id, fence=effect.fence, outcome=outcomes[type(result)])
        await self.desk.submit_as_system("worker", settled, via="timer")


# Killing.


class Killed(BaseException):
    """The process is gone: nothing after this line has happened."""


class Dying:
    """A provider, and a ledger, asked by a process that dies at the first moment of this kind."""

    def __init__(self, desk: Desk, step: str, moment: str) -> None:
        assert desk.payments is not None
        self.name = desk.payments.name
        self.provider: Payments = desk.payments
        self.at = (step, moment)
        self.left_over: list[asyncio.Task[Any]] = []
        self.has_died = False
        self.submit_to_ledger = desk.ledger.submit

    async def step(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        step, moment = self.at
        if self.has_died or name != step:
            return await work()
        self.has_died = True
        if moment == "before":
            raise Killed
        if moment == "during":
            # What the process has sent is sent; whoever has it carries it out.
            self.left_over.append(asyncio.ensure_future(work()))
            await asyncio.sleep(0.005)
            raise Killed
        await work()
        raise Killed

    async def refund(self, order: Order) -> Payment:
        payment: Payment = await self.step("refund", lambda: self.provider.refund(order))
        return payment

    async def find(self, order: Order) -> tuple[Payment, ...]:
        found: tuple[Payment, ...] = await self.step("find", lambda: self.provider.find(order))
        return found

    async def submit(self, *what: Any) -> Any:
        return await self.step("record", lambda: self.submit_to_ledger(*what))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.provider, name)


async def pay_and_die(desk: Desk, effect: Effect, dying: Dying) -> Result:
    """`pay` in a process that dies as `dying` says."""
    provider, submit = desk.payments, desk.ledger.submit
    desk.payments, desk.ledger.submit = dying, dying.submit  # type: ignore[assignment,method-assign]
    try:
        return await pay(desk, effect)
    finally:
        desk.payments, desk.ledger.submit = provider, submit  # type: ignore[method-assign]


Attempt = Callable[[Desk, Effect], Awaitable[Result]]
