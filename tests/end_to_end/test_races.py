"""Many clients at once, each for itself, against real processes: one on SQLite, two on PostgreSQL."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import httpx2
import pytest
from httpx2 import Response

from storage.database import open_database
from storage.verify import verify
from tests.api.driving import Service, a_purchase, an_inquiry, done, euros
from tests.databases import copy_sqlite, raw_sql
from tests.processes import serving

CLIENTS, ATTEMPTS = 50, 8
REPEATS = 20
BECAUSE = {"reason": "as agreed"}
LIMITS = httpx2.Limits(max_connections=CLIENTS)

Processes = tuple[str, list[str]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """The URL of a database with everybody at their desk, and the addresses of what serves it."""
    if request.param == "sqlite":
        url = copy_sqlite(request.getfixturevalue("sqlite_desk"), tmp_path_factory.mktemp("races") / "desk.db")
    else:
        url = request.getfixturevalue("postgres").new_database(template=request.getfixturevalue("postgres_desk"))
    with ExitStack() as stack:
        started = [stack.enter_context(serving(url=url)) for _ in range(1 if request.param == "sqlite" else 2)]
        yield url, [one.url for one in started]


@pytest.fixture
async def services(processes: Processes) -> AsyncIterator[list[Service]]:
    """The desk as each process shows it. At the end of a test nothing is wrong with what they have written."""
    url, addresses = processes
    async with AsyncExitStack() as stack:
        clients = [httpx2.AsyncClient(base_url=one, timeout=60, limits=LIMITS) for one in addresses]
        yield [Remote(await stack.enter_async_context(client)) for client in clients]
    database = open_database(url)
    report = await verify(database)
    await database.close()
    assert [str(one) for one in report.faults] == []


class Remote(Service):
    """A process that is known by its address alone."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client
        self.seen = {}


async def everybody(services: list[Service], work: Callable[[Service, int], Awaitable[Any]], count: int) -> list[Any]:
    """What so many clients find, spread over the processes."""
    return await asyncio.gather(*(work(services[number % len(services)], number) for number in range(count)))


async def test_of_many_who_change_one_case_one_wins_each_version(services: list[Service]) -> None:
    case = await services[0].ana.investigate()
    offer = {"trigger": "offer_adjustment", "data": {"description": "a new audience", "answer_by": "2030-01-01"}}
    moves = (offer, {"trigger": "resume", "data": {"reason_code": "declined"}})  # by turns, from version 2 on

    async def compete(service: Service, number: int) -> list[Response]:
        chance, version, answers = random.Random(number), case["version"], []
        for _ in range(ATTEMPTS):
            move = moves[version % 2] if chance.random() < 0.9 else moves[1 - version % 2]
            path, seen = f"/v1/cases/{case['id']}/transitions", f'"{version}"'
            answer = await service.ana.post(path, BECAUSE | move, if_match=seen)
            version = int(answer.headers["etag"].strip('"'))
            answers.append(answer)
        return answers

    answers = [one for found in await everybody(services, compete, CLIENTS) for one in found]

    won = sorted((one for one in answers if one.status_code == 200), key=lambda one: one.json()["version"])
    assert {one.status_code for one in answers} <= {200, 409, 412}
    assert {one.json()["code"] for one in answers if one not in won} <= {"stale_version", "no_such_transition"}
    assert [one.json()["version"] for one in won] == list(range(3, 3 + len(won)))
    assert len(won) >= ATTEMPTS
    history = done(await services[0].ana.get(f"/v1/cases/{case['id']}/events"))["items"]
    receipts = [f"case:{case['id']}/{one['seq']}/{one['hash']}" for one in history]
    assert [one.headers["audit-receipt"] for one in won] == receipts[2:]


async def test_the_last_money_of_a_purchase_goes_back_once_whoever_asks_for_it(services: list[Service]) -> None:
    """Two cases, with five approved refunds of 6.00 each, share a purchase of 10.00."""
    refunds = [
        (case_id, proposal)
        for case_id in [await a_shared_case(services[0]) for _ in range(2)]
        for proposal in [await an_approved_refund(services[0], case_id) for _ in range(5)]
    ]

    async def pay(service: Service, number: int) -> Counter[str]:
        chance, said = random.Random(number), Counter[str]()
        for _ in range(4):
            case_id, proposal = chance.choice(refunds)
            somebody = chance.choice((service.dirk, service.eli))
            paid = {"trigger": "refund", "data": {"proposal": proposal, "payment_reference": f"TR-{number}"}}
            answer = await (
                somebody.post(f"/v1/cases/{case_id}/proposals/{proposal}/payouts", BECAUSE, if_match="*")
                if chance.random() < 0.5
                else somebody.post(f"/v1/cases/{case_id}/transitions", BECAUSE | paid, if_match="*")
            )
            said[answer.json().get("code") or f"{answer.status_code} {proposal}"] += 1
        return said

    said = sum(await everybody(services, pay, CLIENTS), Counter[str]())

    codes = {"guard_refused", "no_such_transition"}
    assert {one.split()[0] for one in said} <= {*codes, "200", "201"}
    settled = [count for one, count in said.items() if one.startswith("200")]
    assert sum(settled) <= 1
    purchases = [(await services[-1].ana.read(case_id))["purchase"] for case_id in {one for one, _ in refunds}]
    assert purchases[0] == purchases[1]
    assert sorted((purchases[0]["refunded"]["amount"], purchases[0]["reserved"]["amount"])) == ["0.00", "6.00"]
    assert purchases[0]["left"] == euros("4.00")


async def a_shared_case(service: Service) -> str:
    """All of its 10.00 was charged by mistake."""
    case = await service.ana.investigate(purchase=a_purchase(paid=euros("10.00")))
    at = f"/v1/cases/{case['id']}"
    done(await service.ana.post(f"{at}/purchase/checks", BECAUSE), 201)
    claim = {"kind": "billing_error", "affected": euros("10.00"), "statement": "charged twice"}
    ground = await service.ana.add(case["id"], "grounds", **claim)
    found = {"verified": True, "evidence": "the statement of the bank"}
    done(await service.bo.post(f"{at}/grounds/{ground['id']}/verifications", found), 201)
    return str(case["id"])


async def an_approved_refund(service: Service, case_id: str) -> str:
    wanted = {"remedy": "refund", "amount": euros("6.00"), **BECAUSE}
    proposal = await service.ana.add(case_id, "proposals", **wanted)
    verdict = {"verdict": "approve", "digest": proposal["digest"], **BECAUSE}
    done(await service.cleo.post(f"/v1/cases/{case_id}/proposals/{proposal['id']}/verdicts", verdict), 201)
    return str(proposal["id"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/cases", an_inquiry()),
        ("/v1/cases/{}/transitions", BECAUSE | {"trigger": "investigate"}),
        ("/v1/cases/{}/notes", {"text": "rang, nobody answered"}),
    ],
    ids=["opening", "transition", "note"],
)
async def test_a_request_that_many_send_again_has_one_effect_and_one_answer(
    processes: Processes, services: list[Service], path: str, body: dict[str, Any]
) -> None:
    case = await services[0].ana.open()
    before = events(processes)

    async def repeat(service: Service, _: int) -> tuple[Any, ...]:
        while True:
            answer = await service.ana.post(path.format(case["id"]), body, if_match='"1"', key="once")
            if answer.status_code != 409:
                told = ("etag", "location", "audit-receipt")
                return answer.status_code, answer.text, *(answer.headers.get(name) for name in told)
            assert answer.json()["code"] == "idempotency_key_in_flight"

    answers = await everybody(services, repeat, REPEATS)

    assert len(set(answers)) == 1
    assert answers[0][0] in {200, 201}
    assert events(processes) == before + 1


def events(processes: Processes) -> int:
    with raw_sql(processes[0]) as raw:
        ((count,),) = raw.run("SELECT count(*) FROM events")
    return int(count)
