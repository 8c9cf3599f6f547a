"""Refunds through the payment provider: never twice, and every outcome on the case, whoever dies in between."""

import asyncio
import os
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from api import stripe_payments
from api.carrying_out import Done, Failed, Hopeless, Needless, NotYet
from api.desk import Desk
from api.payments import Order, Payment
from api.payouts import pay
from storage.outbox import Effect
from tests.api.driving import Clock, done, refused, running
from tests.api.paying import PAID, SALE, Dying, Till, a_paying_desk, pay_and_die
from tests.api.stripe_standin import Fault, StripeStandIn
from tests.commands import FORKS
from tests.workflow.builders import DIRK, begins, fails, refunds
from workflow.errors import GuardRefused
from workflow.states import CaseState, ProposalStatus

PATIENCE = 1.0  # of a machine that is busy with other tests


@pytest.fixture
def standin(standin: StripeStandIn, monkeypatch: pytest.MonkeyPatch) -> StripeStandIn:
    monkeypatch.setattr(stripe_payments, "TIMEOUT", (2.0, PATIENCE))
    standin.patience = PATIENCE
    return standin


on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


async def test_a_payout_is_paid_once_and_recorded_with_the_providers_reference(till: Till) -> None:
    proposal = await till.begun()

    result = await till.work()

    case = await till.case()
    assert result == Done(reference="re_1")
    assert (case.state, case.proposals[-1].payment_reference) == (CaseState.REFUNDED, "re_1")
    (refund,) = till.standin.refunds.values()
    assert (refund["payment_intent"], refund["amount"]) == (SALE, 300_00)
    assert refund["metadata"] == {
        "casework_key": f"case:A/{case.version - 3}/pay",  # after it the sums, then the refund with its sums
        "casework_log": (await till.desk.directory()).log,
        "casework_case": "A",
        "casework_proposal": proposal.id,
    }
    assert await till.claimed() == []


async def test_without_a_provider_nothing_is_planned_and_people_pay(
    desk_url: str, clock: Clock, tmp_path: Path
) -> None:
    async with running(desk_url, clock, key_folder=tmp_path) as service:
        till = Till(service, StripeStandIn())
        proposal = await till.begun()

        assert await till.claimed() == []
        assert (await till.do(DIRK, refunds(proposal), "A")).state is CaseState.REFUNDED


# Killed before, during and after each step, whatever the other side does.

SIDES: dict[str, tuple[tuple[Fault, ...], str, bool]] = {
    "answers": ((), "succeeded", True),
    "answers twice": ((Fault.TWICE,), "succeeded", True),
    "loses the request": ((Fault.LOST, Fault.LOST), "succeeded", True),
    "drops the connection": ((Fault.DROPPED,), "succeeded", True),
    "answers after the timeout": ((Fault.LATE,), "succeeded", True),
    "does it after the timeout": ((Fault.SLOW,), "succeeded", True),
    "fails after the work": ((Fault.BROKEN,), "succeeded", True),
    "has too much to do": ((Fault.BUSY,), "succeeded", True),
    "takes its time": ((), "pending", True),
    "fails to pay": ((), "failed", False),
    "waits for the client": ((), "requires_action", False),
    "refuses": ((), "refused", False),
}
STEPS, MOMENTS = ("find", "refund", "record"), ("before", "during", "after")
PLACES = [*enumerate(product(STEPS, MOMENTS))]
EVERY_PLACE = os.environ.get("TEST_PAYOUTS") == "all"


def places_for(side: str) -> list[tuple[int, tuple[str, str]]]:
    """Every other one, unless all are asked for: half of the sides meet one half, and half of them the other."""
    return PLACES if EVERY_PLACE else PLACES[[*SIDES].index(side) % 2 :: 2]


async def matrix(
    till: Till, side: str, handler: Any, *, forgetful: bool, places: list[tuple[int, tuple[str, str]]] = PLACES
) -> None:
    """One payout for each place to die at."""
    faults, outcome, is_paid = SIDES[side]
    standin = till.standin
    for number, (step, moment) in places:
        case_id, sale = f"{number}", f"pi_{number}x"
        standin.sell(sale, PAID)
        if outcome == "refused":
            standin.refund_by_hand(sale, PAID)
        standin.outcome = "succeeded" if outcome == "refused" else outcome
        standin.faults.extend(faults)
        await till.begun(case_id, reference=sale)
        dying = Dying(till.desk, step, moment)

        async def attempt(desk: Desk, effect: Effect, dying: Dying = dying) -> Any:
            if outcome == "pending" and effect.fence > 1:
                for one in standin.refunds.values():
                    one["status"] = "succeeded"
            return await handler(desk, effect, dying)

        result = await till.work(attempt, forgetful=forgetful)
        await asyncio.gather(*dying.left_over, return_exceptions=True)
        standin.faults.clear()

        case = await till.case(case_id)
        assert standin.paid(case_id) == ([300_00] if is_paid else []), (side, step, moment)
        assert case.state is (CaseState.REFUNDED if is_paid else CaseState.INVESTIGATING), (side, step, moment)
        assert isinstance(result, Done if is_paid else Needless), (side, step, moment)
        assert case.purchase is not None
        assert (case.purchase.refunded_minor, case.purchase.reserved_minor) == (300_00 if is_paid else 0, 0)
        told = await till.types(case_id)
        assert told.count("refunded" if is_paid else "payout_failed") == 1, (side, step, moment)


@on_sqlite
@pytest.mark.parametrize("side", SIDES)
async def test_nobody_is_paid_twice_wherever_the_worker_is_killed_even_when_keys_are_forgotten(
    side: str, till: Till
) -> None:
    await matrix(till, side, pay_and_die, forgetful=True, places=places_for(side))


class Blind(Dying):
    """Looks for nothing that was asked before."""

    async def find(self, order: Order) -> tuple[Payment, ...]:
        await super().find(order)
        return ()


class Careless(Blind):
    """And asks under another key each time."""

    async def refund(self, order: Order) -> Payment:
        self.asked = getattr(self, "asked", 0) + 1
        return await super().refund(replace(order, key=f"{order.key}/{self.asked}"))


def as_a(kind: type[Dying]) -> Any:
    async def handler(desk: Desk, effect: Effect, dying: Dying) -> Any:
        dying.__class__ = kind
        return await pay_and_die(desk, effect, dying)

    return handler


@on_sqlite
async def test_within_a_day_the_key_alone_would_do(till: Till) -> None:
    await matrix(till, "answers after the timeout", as_a(Blind), forgetful=False)


@on_sqlite
@pytest.mark.parametrize(("kind", "forgetful"), [(Blind, True), (Careless, False)])
async def test_control_without_looking_or_without_the_key_somebody_is_paid_twice(
    kind: type[Dying], forgetful: bool, till: Till
) -> None:
    with pytest.raises(AssertionError):
        await matrix(till, "answers after the timeout", as_a(kind), forgetful=forgetful)

    assert max(len(till.standin.paid(case_id)) for case_id in map(str, range(9))) > 1


def carry_out(url: str, stripe_url: str) -> None:
    """In a process of its own, until it is killed."""

    async def run() -> None:
        standin = StripeStandIn()
        standin.url = stripe_url
        async with a_paying_desk(url, Clock(), standin, Path("/nowhere")) as service:
            till = Till(service, standin)
            await pay(service.desk, await till.claim())

    stripe_payments.TIMEOUT = (30.0, 30.0)
    asyncio.run(run())


@on_sqlite
@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.LATE])
async def test_a_process_that_is_really_killed_leaves_nothing_that_is_paid_twice(
    fault: Fault, till: Till, desk_url: str
) -> None:
    await till.begun()
    till.standin.faults.append(fault)
    till.standin.patience = 60.0
    asked = len(till.standin.asked)
    process = FORKS.Process(target=carry_out, args=(desk_url, till.standin.url))
    process.start()
    while "POST /v1/refunds" not in till.standin.asked[asked:]:
        assert process.is_alive()
        await asyncio.sleep(0.02)
    if fault is Fault.LATE:
        assert await asyncio.to_thread(till.standin.worked.wait, 10)
    process.kill()
    process.join()
    till.standin.hold.set()  # what was asked for is done, with nobody left to hear of it
    till.standin.forget_keys()
    till.service.clock.advance(days=1)

    assert await till.work() == Done(reference="re_1")

    assert till.standin.paid() == [300_00]
    assert (await till.case()).state is CaseState.REFUNDED


# What the provider answers, and when.


@on_sqlite
async def test_a_pending_refund_is_asked_about_again_and_reserves_its_amount_until_then(till: Till) -> None:
    await till.begun()
    till.standin.outcome = "pending"
    effect = await till.claim()

    result = await pay(till.desk, effect)

    assert isinstance(result, NotYet)
    case = await till.case()
    assert case.purchase is not None
    assert (case.state, case.purchase.reserved_minor) == (CaseState.INVESTIGATING, 300_00)
    till.standin.settle("re_1", "succeeded")
    assert await pay(till.desk, effect) == Done(reference="re_1")


@on_sqlite
@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("pi_unknown", "No such object: 'pi_unknown'"),
        ("D-17", "Stripe knows no payment for this purchase"),
        ("pi_dollars", "pi_dollars was paid in USD, not in EUR"),
        ("D-twice", "Stripe knows several payments for this purchase"),
    ],
)
async def test_what_the_provider_cannot_refund_is_released_with_the_reason(
    reference: str, reason: str, till: Till
) -> None:
    till.standin.sell("pi_dollars", PAID, "usd")
    for sale in ("pi_a", "pi_b"):
        till.standin.sell(sale, PAID, casework_purchase="D-twice")
    await till.begun(reference=reference)

    assert await till.work() == Needless(code="payout_failed")

    case = await till.case()
    assert (case.state, case.proposals[-1].status) == (CaseState.INVESTIGATING, ProposalStatus.APPROVED)
    history = (await till.service.cleo.get("/v1/cases/A/events")).json()["items"]
    assert [one["reason"] for one in map(texts_of, history) if "reason" in one][-1] == reason


@on_sqlite
async def test_a_refund_that_the_client_acts_on_while_it_is_called_off_is_under_way(till: Till) -> None:
    till.standin.outcome, till.standin.client_acts = "requires_action", True
    await till.begun()
    effect = await till.claim()

    assert isinstance(await pay(till.desk, effect), NotYet)

    assert (await till.case()).payout_under_way is not None
    till.standin.settle("re_1", "succeeded")
    assert await pay(till.desk, effect) == Done(reference="re_1")
    assert till.standin.paid() == [300_00]


@on_sqlite
@pytest.mark.parametrize("why", ["another sale of that name", "the index lags", "a key of another account"])
async def test_money_that_may_have_left_is_not_released_because_its_sale_cannot_be_found(why: str, till: Till) -> None:
    sales = till.standin.sales
    reference = SALE if why == "a key of another account" else "D-7"
    sales[SALE]["metadata"] = {"casework_purchase": "D-7"}
    await till.begun(reference=reference)
    till.standin.faults.append(Fault.DROPPED)
    assert isinstance(await pay(till.desk, await till.claim()), Failed)
    as_before = dict(sales)
    if why == "another sale of that name":
        till.standin.sell("pi_2", PAID, casework_purchase="D-7")
    else:
        sales.clear()
    till.service.clock.advance(minutes=1)
    effect = await till.claim()

    results = [await pay(till.desk, effect), await pay(till.desk, replace(effect, failures=3))]

    assert [(type(one), getattr(one, "code", "")) for one in results] == [
        (Failed, "payment_not_shown"),
        (Hopeless, "payment_not_shown"),
    ]
    assert (await till.case()).payout_under_way is not None
    sales.clear()
    sales.update(as_before)
    assert await pay(till.desk, effect) == Done(reference="re_1")
    assert till.standin.paid() == [300_00]


@on_sqlite
@pytest.mark.parametrize("effect_is", ["claimed before", "old"])
async def test_a_sale_that_is_not_there_fails_a_payout_only_if_nobody_can_have_asked_for_it(
    effect_is: str, till: Till
) -> None:
    """An outbox that was restored from a backup counts anew."""
    await till.begun(reference="pi_unknown")
    if effect_is == "claimed before":
        await till.claim()
        till.service.clock.advance(seconds=61)
    else:
        till.service.clock.advance(minutes=3)

    assert await pay(till.desk, await till.claim()) == Failed(
        code="payment_not_shown", detail="No such object: 'pi_unknown'"
    )

    assert (await till.case()).payout_under_way is not None


def texts_of(event: dict[str, Any]) -> dict[str, str]:
    texts: dict[str, str] = event.get("texts") or event.get("personal") or {}
    return texts


@on_sqlite
@pytest.mark.parametrize("sale", ["ch_7", "pi_7"])
async def test_a_purchase_that_has_a_reference_of_its_own_is_found_by_it(sale: str, till: Till) -> None:
    till.standin.sell(sale, PAID, casework_purchase="D-7")
    await till.begun(reference="D-7")

    assert await till.work() == Done(reference="re_1")
    assert till.standin.refunded(sale) == 300_00


@on_sqlite
async def test_a_key_that_is_wrong_is_tried_again_and_never_taken_for_a_no(till: Till) -> None:
    await till.begun()
    provider: Any = till.desk.payments
    right, provider.client = (
        provider.client,
        provider.client.__class__("sk_wrong", base_addresses={"api": till.standin.url}),
    )

    assert await pay(till.desk, await till.claim()) == Failed(code="stripe_401")

    provider.client = right
    till.service.clock.advance(days=1)
    assert await till.work() == Done(reference="re_1")


@on_sqlite
async def test_a_second_payout_takes_up_the_money_that_the_first_one_sent_unknown_to_anybody(till: Till) -> None:
    """The first was given up after days without an answer, and somebody released it by mistake."""
    proposal = await till.begun()
    till.standin.faults.append(Fault.DROPPED)
    effect = await till.claim()
    assert isinstance(await pay(till.desk, effect), Failed)
    await till.record(effect, Hopeless(code="gave_up"))
    await till.do(DIRK, fails(proposal), "A")
    till.standin.forget_keys()
    await till.do(DIRK, begins(proposal), "A")

    assert await till.work() == Done(reference="re_1")
    assert till.standin.paid() == [300_00]


@on_sqlite
async def test_a_payout_that_failed_can_be_begun_again_with_a_key_of_its_own(till: Till) -> None:
    till.standin.outcome = "failed"
    proposal = await till.begun()
    assert await till.work() == Needless(code="payout_failed")
    till.standin.outcome = "succeeded"
    await till.do(DIRK, begins(proposal), "A")

    assert await till.work() == Done(reference="re_2")
    assert till.standin.paid() == [300_00]


# What people may do meanwhile.


@pytest.mark.parametrize("end", [fails, refunds])
async def test_a_person_ends_a_payout_only_while_nobody_has_asked_for_it_or_after_it_was_given_up(
    end: Any, till: Till
) -> None:
    proposal = await till.begun()
    effect = await till.claim()

    with pytest.raises(GuardRefused) as refused:
        await till.do(DIRK, end(proposal), "A")

    assert refused.value.codes == {"payment_is_not_with_the_provider"}
    await till.record(effect, Hopeless(code="gave_up"))
    case = await till.do(DIRK, end(proposal), "A")
    assert case.state is (CaseState.INVESTIGATING if end is fails else CaseState.REFUNDED)


@pytest.mark.parametrize("end", [fails, refunds])
async def test_what_a_provider_was_asked_that_the_desk_has_no_more_is_called_off_and_ended_by_people(
    end: Any, till: Till, desk_url: str, clock: Clock, tmp_path: Path
) -> None:
    proposal = await till.begun()
    effect = await till.claim()
    path, why = f"/v1/deliveries/{effect.id}/cancellation", {"reason": "Stripe's dashboard shows none"}
    refused(await till.service.dirk.post(path, why), 409, "guard_refused")

    async with running(desk_url, clock, key_folder=tmp_path) as by_hand:
        now = Till(by_hand, till.standin)
        with pytest.raises(GuardRefused):
            await now.do(DIRK, end(proposal), "A")
        refused(await by_hand.ana.post(path, why), 403, "forbidden")
        done(await by_hand.dirk.post(path, why), 201)
        case = await now.do(DIRK, end(proposal), "A")

    assert case.state is (CaseState.INVESTIGATING if end is fails else CaseState.REFUNDED)


@pytest.mark.parametrize("end", [fails, refunds])
async def test_a_payout_that_a_person_has_ended_before_is_not_asked_for(end: Any, till: Till) -> None:
    proposal = await till.begun()
    await till.do(DIRK, end(proposal), "A")

    result = await till.work()

    assert result == Needless(code="payout_failed" if end is fails else "paid_by_hand")
    assert till.standin.asked == []


async def test_either_a_person_ends_the_payout_or_the_worker_asks_for_it(till: Till) -> None:
    for number in range(8):
        case_id = f"{number}"
        proposal = await till.begun(case_id)
        ended, claimed = await asyncio.gather(
            till.do(DIRK, fails(proposal), case_id), till.claimed(), return_exceptions=True
        )
        for effect in claimed if isinstance(claimed, list) else ():
            result = await pay(till.desk, effect)
            assert isinstance(result, Needless if not isinstance(ended, Exception) else Done)
            await till.record(effect, result)
        till.service.clock.advance(days=1)
        for effect in await till.claimed():
            assert await pay(till.desk, effect) == Needless(code="payout_failed")
            await till.record(effect, Needless(code="payout_failed"))
        paid = till.standin.paid(case_id)
        assert paid == ([] if not isinstance(ended, Exception) else [300_00])


# Many at once.


async def test_fifty_settlements_at_once_never_exceed_what_was_paid(till: Till) -> None:
    names = [f"{number}" for number in range(50)]
    proposals = {name: await till.approved(name, "700.00", affected="20000.00") for name in names}

    begun = await asyncio.gather(
        *(till.do(DIRK, begins(proposals[name]), name) for name in names), return_exceptions=True
    )
    assert sum(not isinstance(one, Exception) for one in begun) == PAID // 700_00
    effects = [one for _ in range(5) for one in await till.claimed()]
    results = await asyncio.gather(*(pay(till.desk, one) for one in effects for _ in range(2)))

    assert {type(one) for one in results} == {Done}
    assert sum(till.standin.paid()) == len(till.standin.paid()) * 700_00 <= PAID
    case = await till.case("0")
    assert case.purchase is not None
    assert (case.purchase.refunded_minor, case.purchase.reserved_minor) == (sum(till.standin.paid()), 0)
