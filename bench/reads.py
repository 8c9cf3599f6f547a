"""Reading: one case, the list, a search; small desks and large ones side by side."""

import asyncio
import statistics
from collections.abc import Iterator

import msgspec

from bench.client import Repeat, get, run_round
from bench.desk import open_cases, prepared
from bench.serving import service
from workflow import commands as c
from workflow.states import Direction

SMALL, LARGE = 1_000, 100_000
EVENTS = 20
ROUNDS = 5
SECONDS = 1.0


class Reading(msgspec.Struct):
    """Medians in milliseconds at one client."""

    database: str
    cases: int
    case_ms: float
    list_ms: float
    search_ms: float


async def filled(url: str, cases: int) -> tuple[str, str]:
    """A desk of that many cases, one of them with 20 events; the token and that case's id."""
    desk, token = await prepared(url)
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
    await desk.close()
    return token, long.id


async def measure(urls: dict[int, str]) -> list[Reading]:
    """One reading for each size, measured in turns so that the machine's moods fall on all alike."""
    prepared_desks = {size: await filled(url, size) for size, url in urls.items()}
    found: dict[int, dict[str, list[float]]] = {size: {"case": [], "list": [], "search": []} for size in urls}
    async with service(urls[min(urls)]) as (small, _), service(urls[max(urls)]) as (large, _):
        ports = {min(urls): small, max(urls): large}
        for number in range(ROUNDS + 1):
            for size, port in ports.items():
                for name, path in paths(prepared_desks[size][1]):
                    result = await run_round(port, [Repeat(get(path, prepared_desks[size][0]))], SECONDS)
                    if result.failures:
                        raise RuntimeError(f"{result.failures} requests of {path} failed")
                    if number:
                        found[size][name].append(result.percentile(0.5) * 1000)
    return [
        Reading(
            database=urls[size].partition(":")[0],
            cases=size,
            case_ms=statistics.median(figures["case"]),
            list_ms=statistics.median(figures["list"]),
            search_ms=statistics.median(figures["search"]),
        )
        for size, figures in found.items()
    ]


def paths(case_id: str) -> Iterator[tuple[str, str]]:
    yield "case", f"/v1/cases/{case_id}"
    yield "list", "/v1/cases?limit=50"
    # About one case in twelve holds the first word, each of the others all of them.
    yield "search", "/v1/cases?limit=50&q=invoice+promised"
