"""Durable, audited transitions per second over HTTP, beside a no-op and the tutorial's shape on the same server."""

import asyncio
import itertools
import os
import statistics
import time
import urllib.request
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.client import Conversation, Repeat, Request, Round, post, run_round
from bench.desk import open_cases, prepared
from bench.serving import compared

if TYPE_CHECKING:
    from collections.abc import Sequence

NEXT_MONTH = (datetime.now(UTC).date() + timedelta(days=30)).isoformat()

STEPS: tuple[tuple[str, dict[str, str]], ...] = (
    ("investigate", {}),
    ("offer_adjustment", {"description": "another audience, shown to former buyers only", "answer_by": NEXT_MONTH}),
    ("resume", {"reason_code": "declined"}),
    ("offer_adjustment", {"description": "a new headline and two more banners", "answer_by": NEXT_MONTH}),
    ("resume", {"reason_code": "insufficient"}),
    ("offer_adjustment", {"description": "a month of retargeting on the house", "answer_by": NEXT_MONTH}),
)
BODIES = tuple(
    msgspec.json.encode({"trigger": trigger, "reason": "as the client asked on the telephone", "data": data})
    for trigger, data in STEPS
)


class Movers:
    """The cases that a round's connections share out among themselves, each moved along STEPS."""

    def __init__(self, case_ids: list[str], token: str, *, first_version: int = 1) -> None:
        self.case_ids = iter(case_ids)
        self.token = token
        self.first_version = first_version
        self.keys = itertools.count()
        self.run = os.urandom(4).hex()


class Mover(Conversation):
    """One connection: takes a case through all its steps, with If-Match and a fresh Idempotency-Key each time."""

    def __init__(self, shared: Movers, path: str = "/v1/cases/{}/transitions") -> None:
        self.shared = shared
        self.path = path
        self.case_id: str | None = None
        self.step = len(STEPS)
        self.version = 0

    def next_request(self) -> Request | None:
        if self.step == len(STEPS):
            self.case_id = next(self.shared.case_ids, None)
            self.step, self.version = 0, self.shared.first_version
        if self.case_id is None:
            return None
        body = BODIES[self.step]
        self.step += 1
        return post(
            self.path.format(self.case_id),
            self.shared.token,
            body,
            If_Match=f'"{self.version}"',
            Idempotency_Key=f"{self.shared.run}-{next(self.shared.keys)}",
        )

    def answered(self, status: int, head: bytes) -> None:  # noqa: ARG002 - the conversation's interface
        if status == 200:
            self.version += 1
        else:
            self.step = len(STEPS)


class Figures(msgspec.Struct):
    """Medians over the rounds: rates per second, and in milliseconds what the slowest hundredth takes at least.

    `p99_ms` and `noop_p99_ms` are of clients that never pause; `half_p99_ms` of as many at half that rate.
    """

    database: str
    clients: int
    transitions: float
    p99_ms: float
    half_p99_ms: float
    noop_p99_ms: float
    noop: float
    noop_own: float
    tutorial: float
    ratio: float
    times_tutorial: float


async def measure(url: str, tutorial_url: str, *, clients: int, rounds: int = 3, seconds: float = 3.0) -> Figures:
    desk, token = await prepared(url)
    expected = int(9000 * seconds * (rounds + 1) / len(STEPS)) + clients
    cases = iter([entry.case.id for entry in await open_cases(desk, expected)])
    await desk.close()
    results: dict[str, list[Round]] = {"transitions": [], "noop": [], "noop_own": [], "tutorial": [], "half": []}
    async with compared(url, tutorial_url) as port:
        tutorial_cases = iter([await tutorial_case(port) for _ in range(150 * (rounds + 1))])
        for number in range(rounds + 1):
            taken = list(itertools.islice(cases, expected // (rounds + 1)))
            movers = Movers(taken, token)
            rounds_now: dict[str, Sequence[Conversation]] = {
                "noop": [Repeat(post("/bench/noop/x", token, BODIES[1], If_Match='"1"', Idempotency_Key="x"))]
                * clients,
                "transitions": [Mover(movers) for _ in range(clients)],
                "noop_own": [Repeat(post("/bench/noop-own/x", token, BODIES[1], If_Match='"1"'))] * clients,
            }
            tutorials = Movers(list(itertools.islice(tutorial_cases, 150)), token)
            rounds_now["tutorial"] = [Mover(tutorials, "/bench/tutorial/{}") for _ in range(clients)]
            for name, conversations in rounds_now.items():
                result = await run_round(port, list(conversations), seconds)
                if result.failures and name != "tutorial":
                    raise RuntimeError(f"{result.failures} of {result.requests} requests of {name} failed")
                if number:  # the first round warms up
                    results[name].append(result)
            pace = clients / (results["transitions"][-1].rate / 2) if number else 0.1
            paced = await run_round(port, [Mover(movers) for _ in range(clients)], seconds, pace)
            if number:
                results["half"].append(paced)

    def rate(name: str) -> float:
        return statistics.median(one.rate for one in results[name]) if results[name] else 0.0

    def p99_ms(name: str) -> float:
        return statistics.median(one.percentile(0.99) for one in results[name]) * 1000

    ratios = [t.rate / n.rate for t, n in zip(results["transitions"], results["noop"], strict=True)]
    return Figures(
        database=url.partition(":")[0],
        clients=clients,
        transitions=rate("transitions"),
        p99_ms=p99_ms("transitions"),
        half_p99_ms=p99_ms("half"),
        noop_p99_ms=p99_ms("noop"),
        noop=rate("noop"),
        noop_own=rate("noop_own"),
        tutorial=rate("tutorial"),
        ratio=statistics.median(ratios),
        times_tutorial=rate("transitions") / rate("tutorial") if rate("tutorial") else 0.0,
    )


async def tutorial_case(port: int) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/bench/tutorial", method="POST", data=b"")
    answer = await asyncio.to_thread(urllib.request.urlopen, request)
    return str(msgspec.json.decode(answer.read())["id"])


class Way(msgspec.Struct, frozen=True):
    """A service to be measured beside another one: on a new database, with so many processes."""

    url: str
    workers: int = 1
    sequencer: bool = True


class Beside(msgspec.Struct):
    """Rates of two ways in turns, second ÷ first, and the CPU of a transition in the first way, by who uses it."""

    first: float
    second: float
    ratio: float
    service_us: float
    database_us: float
    client_us: float


async def measure_beside(ways: tuple[Way, Way], *, clients: int, rounds: int, seconds: float) -> Beside:
    """With clients that never pause."""
    rates: tuple[list[float], list[float]] = ([], [])
    used: list[tuple[float, ...]] = []
    async with AsyncExitStack() as stack:
        desks = []
        for way in ways:
            desk, token = await prepared(way.url)
            count = int(8000 * way.workers * seconds * (rounds + 1) / len(STEPS)) + clients
            cases = iter([entry.case.id for entry in await open_cases(desk, count)])
            await desk.close()
            port = await stack.enter_async_context(compared(way.url, "", way.workers, sequencer=way.sequencer))
            desks.append((port, token, cases, count // (rounds + 1)))
        for number in range(rounds + 1):
            for port, token, cases, count in desks:
                is_first = port == desks[0][0]
                movers = Movers(list(itertools.islice(cases, count)), token)
                before = cpu_seconds()
                result = await run_round(port, [Mover(movers) for _ in range(clients)], seconds)
                if result.failures:
                    raise RuntimeError(f"{result.failures} of {result.requests} requests failed")
                if number:  # the first round warms up
                    rates[not is_first].append(result.rate)
                if number and is_first:
                    service, database, client = (b - a for a, b in zip(before, cpu_seconds(), strict=True))
                    used.append((service, database, client, result.requests))
    service, database, client, requests = (sum(column) for column in zip(*used, strict=True))
    return Beside(
        first=statistics.median(rates[0]),
        second=statistics.median(rates[1]),
        ratio=statistics.median(b / a for a, b in zip(*rates, strict=True)),
        service_us=service / requests * 1e6,
        database_us=database / requests * 1e6,
        client_us=client / requests * 1e6,
    )


def cpu_seconds() -> tuple[float, float, float]:
    """Used so far by the services that listen, by PostgreSQL, and by this process. Linux only."""
    service = database = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name, _, rest = (process / "stat").read_text().rpartition(") ")
            seconds = sum(map(int, rest.split()[11:13])) / os.sysconf("SC_CLK_TCK")
            if "(postgres" in name:
                database += seconds
            elif b"bench.apps:app" in (process / "cmdline").read_bytes():
                service += seconds
    return service, database, time.process_time()
