"""Effects: each follows from a committed event, is carried out in its turn, and what became of it is recorded."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from api.carrying_out import LEASE, PAUSES, Done, Failed, Handler, Hopeless, Needless, NotYet, Result, Worker
from api.desk import Desk
from storage import outbox
from storage.outbox import Effect
from storage.verify import verify
from tests.api.driving import Clock, Json, Service, done, reasons, refused, running
from workflow.effects import LETTERS, EffectKind
from workflow.events import EffectOutcome
from workflow.settling import ClaimLost

HELLO = {"direction": "outbound", "text": "Hello"}
BECAUSE = {"reason": "the server is back"}


class OtherSide:
    """Answers as told, one result after the other, the last for good; remembers what it was asked."""

    def __init__(self, *results: Result) -> None:
        self.results = list(results) or [Done()]
        self.asked: list[Effect] = []
        self.gate: Callable[[Effect], Awaitable[object]] | None = None

    async def __call__(self, _: Desk, effect: Effect) -> Result:
        self.asked.append(effect)
        if self.gate is not None:
            await self.gate(effect)
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]

    @property
    def places(self) -> list[tuple[str, int]]:
        return [(one.chain, one.seq) for one in self.asked]


def all_letters(handler: Handler) -> dict[EffectKind, Handler]:
    return dict.fromkeys(LETTERS, handler)


@asynccontextmanager
async def working(desk: Desk, handler: Handler, at_once: int = 8) -> AsyncIterator[Worker]:
    worker = Worker(desk, all_letters(handler), at_once)
    worker.open()
    try:
        yield worker
    finally:
        await worker.close()


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)


async def settled(service: Service, count: int = 1) -> list[Json]:
    """So many deliveries that wait no more."""

    async def there() -> bool:
        return len(await not_waiting(service)) >= count

    await until(there)
    return await not_waiting(service)


async def not_waiting(service: Service) -> list[Json]:
    items = done(await service.ana.get("/v1/deliveries", limit=200))["items"]
    return [one for one in items if one["status"] != "waiting"]


async def recorded(service: Service) -> list[Json]:
    """What the log says became of effects, oldest first."""
    items = done(await service.ana.get("/v1/events", limit=1000))["items"]
    return [one["event"] for one in items if one["event"]["type"] in {"effect_settled", "effect_retried"}]


async def test_what_the_other_side_took_is_recorded_once_and_the_case_stays_as_it_is(service: Service) -> None:
    case = await service.ana.open()

    async with working(service.desk, OtherSide(Done(reference="250 queued"))):
        (delivery,) = await settled(service)

    assert (delivery["kind"], delivery["status"], delivery["case"]) == ("acknowledge", "done", case["id"])
    (event,) = await recorded(service)
    assert event["data"] == {
        "chain": f"case:{case['id']}",
        "seq": 1,
        "kind": "acknowledge",
        "case": case["id"],
        "outcome": "done",
        "attempts": 1,
        "reference": "250 queued",
    }
    assert (await service.ana.read(case["id"]))["version"] == case["version"]
    assert not (await verify(service.desk.database)).faults


async def test_the_mails_of_a_case_leave_in_order_and_no_case_waits_for_another(service: Service) -> None:
    slow, quick = [await service.ana.investigate() for _ in range(2)]
    for case in (slow, quick):
        for _ in range(2):
            await service.ana.add(case["id"], "messages", **HELLO)
    release = asyncio.Event()
    other = OtherSide()
    other.gate = lambda effect: release.wait() if slow["id"] in effect.chain else asyncio.sleep(0)

    async with working(service.desk, other):
        await settled(service, 3)
        begun = [place for place in other.places if slow["id"] in place[0]]
        release.set()
        await settled(service, 6)

    assert begun == [(f"case:{slow['id']}", 1)]
    for case in (slow, quick):
        assert [seq for chain, seq in other.places if case["id"] in chain] == [1, 3, 4]


async def test_letters_are_not_kept_back_because_many_are_to_clients(service: Service) -> None:
    """Only a system that follows the desk, and hangs, has a limit of its own."""
    release, other = asyncio.Event(), OtherSide()
    other.gate = lambda effect: release.wait() if effect.target else asyncio.sleep(0)

    def asked() -> Counter[str]:
        return Counter(one.target for one in other.asked if one.target)

    async with working(service.desk, other, at_once=64):
        for number in range(1, 7):  # one after the other: what is claimed at once is never kept back
            case = await service.ana.investigate()
            slot: Json = {"starts_at": str(service.clock() + timedelta(days=number)), "minutes": 30, "channel": "phone"}
            done(await service.ana.fire(case["id"], "schedule_consultation", **slot))
            expected = {"client": number, "host": number}
            await until(lambda expected=expected: asked() == expected)
        release.set()
        await settled(service, 18)


async def test_what_fails_is_tried_again_with_growing_pauses_and_then_somebody_has_to_look(
    service: Service, clock: Clock
) -> None:
    case = await service.ana.investigate()
    other = OtherSide(Failed(code="smtp_451", detail="try later"))

    async with working(service.desk, other) as worker:
        for failures, pause in enumerate(PAUSES, start=1):
            await until(lambda failures=failures: len(other.asked) == failures)
            await until(lambda: not worker.begun)
            clock.advance(seconds=pause.total_seconds() * 0.85)
            worker.ring()
            await asyncio.sleep(0.01)
            assert len(other.asked) == failures
            clock.advance(seconds=pause.total_seconds() * 0.3)
            worker.ring()
        (delivery,) = await settled(service)

    assert len({one.key for one in other.asked}) == 1
    assert (delivery["status"], delivery["failures"]) == ("dead", len(PAUSES) + 1)
    assert {(one["code"], one["detail"]) for one in delivery["attempts"]} == {("smtp_451", "try later")}
    (event,) = await recorded(service)
    assert (event["data"]["outcome"], event["data"]["reason"]) == ("dead", "smtp_451")
    # What comes after it does not wait for good.
    await service.ana.add(case["id"], "messages", **HELLO)
    async with working(service.desk, OtherSide()):
        assert [one["status"] for one in await settled(service, 2)] == ["done", "dead"]


@pytest.mark.parametrize(
    ("result", "status", "reason"),
    [
        (Hopeless(code="smtp_550", detail="no such mailbox"), "dead", "smtp_550"),
        (Needless(code="erased"), "withheld", "erased"),
    ],
)
async def test_what_will_never_work_is_not_tried_again(
    service: Service, result: Result, status: str, reason: str
) -> None:
    await service.ana.open()
    other = OtherSide(result)

    async with working(service.desk, other):
        (delivery,) = await settled(service)

    assert (delivery["status"], len(other.asked)) == (status, 1)
    (event,) = await recorded(service)
    assert (event["data"]["outcome"], event["data"]["reason"]) == (status, reason)


async def test_what_is_pending_elsewhere_is_asked_after_again_and_counts_as_no_failure(
    service: Service, clock: Clock
) -> None:
    await service.ana.open()
    other = OtherSide(NotYet(after=timedelta(minutes=1)), Done())

    async with working(service.desk, other) as worker:
        await until(lambda: bool(other.asked) and not worker.begun)
        clock.advance(minutes=1)
        (delivery,) = await settled(service)

    assert (delivery["status"], delivery["failures"], len(other.asked)) == ("done", 0, 2)


async def test_a_handler_that_breaks_is_a_failure_like_others(service: Service, clock: Clock) -> None:
    await service.ana.open()
    other = OtherSide()
    breaks = [True]

    async def gate(_: Effect) -> None:
        if breaks.pop() if breaks else False:
            raise RuntimeError("a bug")

    other.gate = gate
    async with working(service.desk, other) as worker:
        await until(lambda: bool(other.asked) and not worker.begun)
        clock.advance(minutes=1)
        (delivery,) = await settled(service)

    assert (delivery["status"], [one["code"] for one in delivery["attempts"]]) == ("done", ["internal"])


async def test_of_many_workers_each_effect_is_begun_by_one(desk_url: str, clock: Clock, tmp_path: Path) -> None:
    async with (
        running(desk_url, clock, key_folder=tmp_path / "keys") as service,
        running(desk_url, clock, key_folder=tmp_path / "keys") as another,
    ):
        cases = [await service.ana.open() for _ in range(12)]
        other = OtherSide()
        async with working(service.desk, other, 4), working(another.desk, other, 4), working(another.desk, other, 4):
            await settled(service, len(cases))

        assert Counter(other.places) == {(f"case:{case['id']}", 1): 1 for case in cases}
        assert len(await recorded(service)) == len(cases)


async def test_a_worker_that_dies_leaves_its_work_to_others_under_the_same_key(service: Service, clock: Clock) -> None:
    await service.ana.open()
    (left,) = await outbox.claim(service.desk.database, LETTERS, clock(), lease=LEASE, limit=1)  # and is killed
    other = OtherSide()

    async with working(service.desk, other) as worker:
        clock.advance(seconds=LEASE.total_seconds() - 1)
        worker.ring()
        await asyncio.sleep(0.05)
        assert not other.asked
        clock.advance(seconds=1)
        (delivery,) = await settled(service)

    assert [one.key for one in other.asked] == [left.key]
    assert (delivery["status"], (await recorded(service))[0]["data"]["attempts"]) == ("done", 2)


async def test_whoever_lost_the_claim_records_nothing(service: Service, clock: Clock) -> None:
    await service.ana.open()
    late = Worker(service.desk, {})
    (slow,) = await outbox.claim(service.desk.database, LETTERS, clock(), lease=LEASE, limit=1)
    clock.advance(seconds=LEASE.total_seconds())
    (quick,) = await outbox.claim(service.desk.database, LETTERS, clock(), lease=LEASE, limit=1)

    for result in (Done(), Needless(code="erased"), NotYet(after=timedelta(1)), Failed(code="x"), Hopeless(code="x")):
        with pytest.raises(ClaimLost):
            await late.record(slow, result)
    await late.record(quick, Done(reference="theirs"))

    with pytest.raises(ClaimLost):
        await late.record(quick, Done(reference="again"))
    assert [one["data"].get("reference") for one in await recorded(service)] == ["theirs"]


async def test_a_worker_that_stops_ends_what_it_has_begun(service: Service) -> None:
    await service.ana.open()
    begun, release = asyncio.Event(), asyncio.Event()
    other = OtherSide()

    async def gate(_: Effect) -> None:
        begun.set()
        await release.wait()

    other.gate = gate
    worker = Worker(service.desk, all_letters(other))
    worker.open()
    await begun.wait()
    closing = asyncio.create_task(worker.close())
    await asyncio.sleep(0.01)
    release.set()
    await closing

    assert [one["status"] for one in await not_waiting(service)] == ["done"]


async def test_a_refused_command_sets_nothing_in_motion(service: Service) -> None:
    case = await service.ana.open()
    before = await outbox.listed(service.desk.database)

    assert reasons(await service.ana.fire(case["id"], "investigate", assignee="audrey"))

    assert await outbox.listed(service.desk.database) == before


async def test_letters_that_wait_go_with_what_is_erased(service: Service) -> None:
    case = await service.ana.open()
    command = {"case": case["id"], "legal_basis": "GDPR Art. 17", "reason": "asked", "override": True}

    done(await service.adam.post("/v1/erasures", command), 201)

    assert await outbox.listed(service.desk.database) == []


# What people do.


async def a_dead_one(service: Service) -> Json:
    await service.ana.open()
    async with working(service.desk, OtherSide(Hopeless(code="smtp_550"))):
        (delivery,) = await settled(service)
    return delivery


async def test_a_dead_letter_is_sent_after_all(service: Service) -> None:
    delivery = await a_dead_one(service)

    waiting = done(await service.ana.post(f"/v1/deliveries/{delivery['id']}/retries", BECAUSE), 201)
    assert (waiting["status"], waiting["by"]) == ("waiting", "person:ana")
    async with working(service.desk, OtherSide()):
        (sent,) = await settled(service)

    assert (sent["status"], sent["key"]) == ("done", delivery["key"])
    assert [one["type"] for one in await recorded(service)] == ["effect_settled", "effect_retried", "effect_settled"]
    assert refused(await service.ana.post(f"/v1/deliveries/{sent['id']}/retries", BECAUSE), 409, "guard_refused")


@pytest.mark.parametrize("is_called_off", [False, True])
async def test_a_letter_that_never_left_has_answered_nobody(*, is_called_off: bool, service: Service) -> None:
    case = await service.ana.investigate()
    await service.ana.add(case["id"], "messages", **HELLO)
    (letter, _) = done(await service.ana.get("/v1/deliveries"))["items"]

    if is_called_off:
        done(await service.ana.post(f"/v1/deliveries/{letter['id']}/cancellation", BECAUSE), 201)
    else:
        async with working(service.desk, OtherSide(Hopeless(code="smtp_550"))):
            await settled(service, 2)

    await service.ana.read(case["id"])
    assert reasons(await service.ana.fire(case["id"], "close", resolution="explained")) == ["client_is_answered"]
    messages = done(await service.ana.get(f"/v1/cases/{case['id']}/messages"))
    assert [one.get("bounced") for one in messages] == [None, True]
    assert not (await verify(service.desk.database)).faults


async def test_a_letter_that_waits_is_called_off(service: Service) -> None:
    await service.ana.open()
    (waiting,) = done(await service.ana.get("/v1/deliveries"))["items"]

    cancelled = done(await service.lou.post(f"/v1/deliveries/{waiting['id']}/cancellation", BECAUSE), 201)

    other = OtherSide()
    async with working(service.desk, other):
        await asyncio.sleep(0.05)
    assert (cancelled["status"], other.asked) == (EffectOutcome.CANCELLED, [])
    again = await service.lou.post(f"/v1/deliveries/{waiting['id']}/cancellation", BECAUSE)
    assert refused(again, 409, "guard_refused")


async def test_one_that_is_called_off_while_it_is_carried_out_stays_called_off(service: Service, clock: Clock) -> None:
    await service.ana.open()
    (claimed,) = await outbox.claim(service.desk.database, LETTERS, clock(), lease=LEASE, limit=1)

    done(await service.lou.post(f"/v1/deliveries/{claimed.id}/cancellation", BECAUSE), 201)

    with pytest.raises(ClaimLost):
        await Worker(service.desk, {}).record(claimed, Done())
    assert [one["data"]["outcome"] for one in await recorded(service)] == ["cancelled"]


async def test_a_repeated_order_has_one_effect(service: Service) -> None:
    delivery = await a_dead_one(service)
    path = f"/v1/deliveries/{delivery['id']}/retries"

    first, second = [await service.ana.post(path, BECAUSE, key="once") for _ in range(2)]

    assert (done(first, 201), [one["type"] for one in await recorded(service)][1:]) == (
        done(second, 201),
        ["effect_retried"],
    )


async def test_lists_are_by_status_kind_and_case_and_go_on_where_they_ended(service: Service) -> None:
    cases = [await service.ana.investigate() for _ in range(3)]
    await service.ana.add(cases[0]["id"], "messages", **HELLO)

    first = done(await service.audrey.get("/v1/deliveries", limit=2))
    rest = done(await service.audrey.get("/v1/deliveries", limit=2, cursor=first["next"]))
    letters = done(await service.audrey.get("/v1/deliveries", kind="letter"))["items"]
    of_case = done(await service.audrey.get("/v1/deliveries", case=cases[0]["number"], status="waiting"))["items"]

    assert [one["kind"] for one in (*first["items"], *rest["items"])] == ["letter", *["acknowledge"] * 3]
    assert rest["next"] is None
    assert [one["case"] for one in letters] == [cases[0]["id"]]
    assert [one["kind"] for one in of_case] == ["letter", "acknowledge"]
    assert refused(await service.ana.get("/v1/deliveries", case="C-9"), 422, "invalid")
    assert refused(await service.ana.get("/v1/deliveries/nine"), 404, "not_found")
