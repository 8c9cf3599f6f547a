"""The pages as a browser asks for them: how soon they are made on small desks and large ones, and how much is sent."""

import asyncio
import gzip
import re
import statistics
from collections.abc import Mapping

import httpx2
import msgspec

from bench.client import Repeat, run_round
from bench.desk import open_cases, prepared
from bench.live import cpu_seconds, sessions
from bench.reads import EVENTS, ROUNDS
from bench.serving import service
from workflow import commands as c
from workflow.cases import case_number_text
from workflow.states import Direction

SECONDS = 1.0
STATIC = re.compile(r'(?:src|href)="(/static/[^"#]+)')

# By name; {case} is a case of 20 events in the middle of the desk.
PATHS = {
    "queue": "/queue?tab=all",
    "queue, unassigned": "/queue?tab=unassigned",
    "queue, overdue": "/queue?tab=overdue",
    "queue, searched": "/queue?q=invoice+promised",
    "board": "/board",
    "case": "/cases/{case}",
}


class Page(msgspec.Struct):
    """One page of a small desk and of a large one: medians in milliseconds; kilobytes as they go over the wire.

    `cpu_ms` is what the service uses for it on the large desk: other work on the machine does not count.
    """

    name: str
    small_ms: float
    large_ms: float
    cpu_ms: float
    html_kb: float
    first_kb: float

    @property
    def ratio(self) -> float:
        return self.large_ms / self.small_ms


async def filled(url: str, cases: int) -> tuple[str, str]:
    """A desk of that many cases: a session's secret, and the number of a case of 20 events."""
    desk, _ = await prepared(url)
    entries = await open_cases(desk, cases)
    long = entries[len(entries) // 2].case
    await asyncio.gather(
        *(
            desk.submit_as_system(
                "bench", c.AddMessage(direction=Direction.INBOUND, text=f"Any news? {n}"), long.id, via="api"
            )
            for n in range(EVENTS - 1)
        )
    )
    (secret,) = await sessions(desk, 1)
    await desk.close()
    return secret, case_number_text(long.number)


async def measure(urls: Mapping[int, str]) -> list[Page]:
    """In turns, so that the machine's moods fall on all alike."""
    desks = {size: await filled(url, size) for size, url in urls.items()}
    small, large = min(urls), max(urls)
    found: dict[str, dict[int, list[float]]] = {name: {small: [], large: []} for name in PATHS}
    used: dict[str, list[float]] = {name: [] for name in PATHS}
    sent: dict[str, tuple[float, float]] = {}
    async with service(urls[small]) as (first, _), service(urls[large]) as (second, process):
        for number in range(ROUNDS + 1):
            for size, port in ((small, first), (large, second)):
                secret, case = desks[size]
                for name, path in PATHS.items():
                    wanted = path.format(case=case)
                    before = cpu_seconds(process.pid)
                    result = await run_round(port, [Repeat(request(wanted, secret))], SECONDS)
                    cpu = cpu_seconds(process.pid) - before
                    if result.failures:
                        raise RuntimeError(f"{result.failures} requests of {wanted} failed")
                    if number:  # the first round warms up
                        found[name][size].append(result.percentile(0.5) * 1000)
                        used[name] += [cpu / result.requests * 1000] if size == large else []
                    elif size == large:
                        sent[name] = await asyncio.to_thread(weigh, f"http://127.0.0.1:{port}", wanted, secret)
    return [
        Page(
            name=name,
            small_ms=statistics.median(figures[small]),
            large_ms=statistics.median(figures[large]),
            cpu_ms=statistics.median(used[name]),
            html_kb=sent[name][0] / 1000,
            first_kb=sent[name][1] / 1000,
        )
        for name, figures in found.items()
    ]


def request(path: str, secret: str) -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nCookie: casework={secret}\r\nAccept-Encoding: gzip\r\n\r\n"
    return head.encode()


def weigh(host: str, path: str, secret: str) -> tuple[int, int]:
    """Bytes of the page as it is sent, and with every file that it names: what a first visit loads."""
    html = fetch(host + path, secret)
    files = sorted(set(STATIC.findall(gzip.decompress(html).decode())))
    return len(html), len(html) + sum(len(fetch(host + file, secret)) for file in files)


def fetch(url: str, secret: str) -> bytes:
    """What goes over the wire."""
    headers = {"cookie": f"casework={secret}", "accept-encoding": "gzip"}
    with httpx2.stream("GET", url, headers=headers) as answer:
        return b"".join(answer.raise_for_status().iter_raw())
