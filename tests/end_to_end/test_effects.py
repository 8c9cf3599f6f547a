"""Whenever a worker is killed: money leaves once, letters and webhooks under one name each, and all is recorded."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path

import msgspec
import pytest

from storage import cases, outbox
from storage.database import open_database
from storage.verify import verify
from tests.api.driving import SETTINGS, Clock, Json, Service, done, euros, running
from tests.api.post_office import PostOffice, open_post_office
from tests.api.receivers import Receiver, a_receiver
from tests.api.stripe_standin import KEY, StripeStandIn, open_for_business
from tests.databases import raw_sql
from tests.end_to_end.mortals import MOMENTS, Process
from workflow.effects import LETTERS, EffectKind
from workflow.events import EffectSettled
from workflow.states import CaseState

SALE, PAID = "pi_1", "2000.00"
HEARD = ["casework.case.opened", "casework.transition.allowed", "casework.transition.refused"]


class World(msgspec.Struct):
    """Everybody whom the desk deals with."""

    settings: Json
    office: PostOffice
    receiver: Receiver
    bank: StripeStandIn


@asynccontextmanager
async def a_world(url: str, folder: Path) -> AsyncIterator[World]:
    async with open_post_office() as office:
        with a_receiver() as receiver, open_for_business() as bank:
            bank.sell(SALE, 2000_00)
            settings = SETTINGS | {
                "database_url": url,
                "key_folder": str(folder),
                "smtp_url": office.url(),
                "payments": "stripe",
                "stripe_key": KEY,
                "stripe_url": bank.url,
                "webhook_networks": "127.0.0.0/8",
            }
            yield World(settings, office, receiver, bank)


async def a_day(world: World) -> str:
    """One effect of each kind at least; the case that is refunded."""
    now = datetime.now(UTC)
    async with running(world.settings["database_url"], Clock(now), **world.settings) as service:
        url = f"http://127.0.0.1:{world.receiver.port}/heard"
        done(await service.adam.post("/v1/webhooks", {"url": url, "types": HEARD}), 201)
        invited = await service.ana.investigate()
        await service.ana.add(invited["id"], "messages", direction="outbound", text="Dear Una")
        slot: Json = {"starts_at": in_days(now, 3), "minutes": 30, "channel": "by phone"}
        done(await service.ana.fire(invited["id"], "schedule_consultation", **slot))
        return await a_payout(service, now)


def in_days(now: datetime, days: float) -> str:
    return (now + timedelta(days=days)).isoformat()


async def a_payout(service: Service, now: datetime) -> str:
    purchase = {
        "reference": SALE,
        "package": "launch",
        "paid": euros(PAID),
        "purchased_at": in_days(now, -30),
        "service_started_at": in_days(now, -28),
        "deliverables_provided_at": in_days(now, -20),
    }
    case_id = (await service.ana.investigate(purchase=purchase))["id"]
    await service.ana.add(case_id, "purchase/checks", reason="seen")
    claim = {"kind": "billing_error", "affected": euros("300.00"), "statement": "charged twice"}
    ground = await service.ana.add(case_id, "grounds", **claim)
    await service.bo.add(case_id, f"grounds/{ground['id']}/verifications", verified=True, evidence="bank statement")
    refund = {"remedy": "refund", "amount": euros("300.00"), "reason": "charged twice"}
    proposal = await service.ana.add(case_id, "proposals", **refund)
    verdict = {"verdict": "approve", "digest": proposal["digest"], "reason": "so it is"}
    await service.cleo.add(case_id, f"proposals/{proposal['id']}/verdicts", **verdict)
    await service.dirk.add(case_id, f"proposals/{proposal['id']}/payouts", reason="approved")
    return str(case_id)


async def until_settled(url: str) -> None:
    async with asyncio.timeout(60):
        while statuses(url)["waiting"]:  # noqa: ASYNC110 - other processes' doing
            await asyncio.sleep(0.02)


def statuses(url: str) -> "Counter[str]":
    with raw_sql(url) as raw:
        return Counter(status for (status,) in raw.run("SELECT status FROM outbox"))


def claims_run_out(url: str) -> None:
    """A minute and a half later."""
    with raw_sql(url) as raw:
        raw.run("UPDATE outbox SET due_at = at WHERE status = 'waiting'")


async def faults(world: World, refunded: str) -> AsyncIterator[str]:
    """What has not happened as it should, or more often."""
    database = open_database(world.settings["database_url"])
    effects = await outbox.listed(database, limit=200)
    for what in left_undone(world, effects):
        yield what
    if world.bank.paid() != [300_00]:
        yield f"money left as {world.bank.paid()}"
    entry = await cases.one(database, refunded)
    if entry is None or entry.case.state is not CaseState.REFUNDED:
        yield "the case is not refunded"
    settled = await cases.of_type(database, "effect_settled", None, 200)
    told = [one.data for _, one, _ in settled if isinstance(one.data, EffectSettled)]
    recorded = Counter((one.chain, one.seq, one.kind, one.target) for one in told)
    places = {(one.chain, one.seq, one.kind.value, one.target) for one in effects}
    if recorded != dict.fromkeys(places, 1):
        yield f"recorded are {recorded}"
    for fault in (await verify(database)).faults:
        yield str(fault)
    await database.close()


def left_undone(world: World, effects: list[outbox.Effect]) -> Iterator[str]:
    kinds = Counter(one.kind for one in effects)
    if {*kinds} != {*EffectKind}:
        yield f"there is no effect of some kind: {kinds}"
    letters = {str(message_from_bytes(one.content)["message-id"]) for one in world.office.delivered}
    # Invitations to the client and to whoever holds the consultation are two; of two inquiries one is acknowledged.
    acknowledged = sum(one.status == "done" for one in effects if one.kind is EffectKind.ACKNOWLEDGE)
    if len(letters) != acknowledged + kinds[EffectKind.LETTER] + kinds[EffectKind.INVITE] or acknowledged != 1:
        yield f"{len(letters)} letters have come, {acknowledged} of them acknowledgements"
    heard = {one.headers["webhook-id"] for one in world.receiver.received}
    if len(heard) != kinds[EffectKind.WEBHOOK]:
        yield f"{len(heard)} of {kinds[EffectKind.WEBHOOK]} webhooks have come"
    for one in effects:
        if one.status not in {"done", "withheld"} or (one.status == "withheld" and one.kind not in LETTERS):
            yield f"{one.key} is {one.status}"


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_worker_that_is_killed_at_any_effect_leaves_nothing_undone_or_doubled(
    moment: str, desk_url: str, tmp_path: Path
) -> None:
    async with a_world(desk_url, tmp_path) as world:
        case_id = await a_day(world)
        for kind in EffectKind:
            await Process(world.settings, moment, kind).death()
            claims_run_out(desk_url)
        last = Process(world.settings)
        await until_settled(desk_url)
        await last.stop()

        assert [fault async for fault in faults(world, case_id)] == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_worker_that_records_first_is_found_out(desk_url: str, tmp_path: Path) -> None:
    async with a_world(desk_url, tmp_path) as world:
        case_id = await a_day(world)
        for kind in (EffectKind.LETTER, EffectKind.WEBHOOK, EffectKind.PAY):
            await Process(world.settings, "claimed", kind, careless=True).death()
            claims_run_out(desk_url)
        last = Process(world.settings)
        await until_settled(desk_url)
        await last.stop()

        found = "\n".join([fault async for fault in faults(world, case_id)])
        assert "letters have come" in found
        assert "webhooks have come" in found
        assert "money left as []" in found
