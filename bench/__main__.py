"""`make bench`: every figure that docs/benchmarks.md publishes, measured in one run and printed as its tables."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from bench import deliveries, live, pages, reads, starting, writes
from tests.databases import PostgresServer, sqlite_url

CLIENTS = (16, 64)
WORKERS_CLIENTS = 128  # as many for each of two processes as the most for one


@contextmanager
def databases() -> Iterator[dict[str, Callable[[], str]]]:
    """For each kind of database, what makes the URL of a new one: durable, as in production."""
    with tempfile.TemporaryDirectory(prefix="casework-bench-") as folder, PostgresServer(durable=True) as server:
        os.environ["CASEWORK_KEY_FOLDER"] = folder  # of every desk here: checkpoints are signed as they should be
        numbers = iter(range(1000))
        yield {
            "sqlite": lambda: sqlite_url(Path(folder) / f"{next(numbers)}.db"),
            "postgresql": server.new_database,
        }


async def bench_writes(new: dict[str, Callable[[], str]], *, quick: bool) -> None:
    rounds, seconds = (1, 1.0) if quick else (5, 3.0)
    print("## Transitions per second over HTTP\n")
    print("| database | clients | transitions/s | no-op | ratio | no-op, own route | tutorial's shape | times |")
    print("|---|---|---|---|---|---|---|---|")
    found = []
    for kind, url in new.items():
        for clients in CLIENTS:
            f = await writes.measure(url(), tutorial_url(url()), clients=clients, rounds=rounds, seconds=seconds)
            found.append(f)
            print(
                f"| {kind} | {clients} | {f.transitions:,.0f} | {f.noop:,.0f} | {f.ratio:.2f} | {f.noop_own:,.0f} |"
                f" {f.tutorial:,.0f} | {f.times_tutorial:.1f} |",
                flush=True,
            )
    print("\n## p99 in milliseconds\n")
    print("| database | clients | transitions, no pause | no-op, no pause | transitions at half that rate |")
    print("|---|---|---|---|---|")
    for f in found:
        print(f"| {f.database} | {f.clients} | {f.p99_ms:.1f} | {f.noop_p99_ms:.1f} | {f.half_p99_ms:.1f} |")
    ways = (writes.Way(new["postgresql"]()), writes.Way(new["postgresql"](), workers=2))
    w = await writes.measure_beside(ways, clients=WORKERS_CLIENTS, rounds=rounds, seconds=seconds)
    print(
        f"\nTwo processes on PostgreSQL, {WORKERS_CLIENTS} clients: {w.second:,.0f}/s, one {w.first:,.0f}/s,"
        f" ratio {w.ratio:.2f}."
    )
    print(
        f"CPU of a transition with one: service {w.service_us:.0f} µs, database {w.database_us:.0f}, load generator"
        f" {w.client_us:.0f}.\n",
        flush=True,
    )
    for kind, url in new.items():
        beside = (writes.Way(url(), sequencer=False), writes.Way(url()))
        s = await writes.measure_beside(beside, clients=CLIENTS[-1], rounds=rounds, seconds=seconds)
        print(f"With the sequencer on {kind}: {s.second:,.0f}/s, without {s.first:,.0f}/s, ratio {s.ratio:.2f}.\n")


def tutorial_url(url: str) -> str:
    """As SQLAlchemy's synchronous engines want it."""
    return url.replace("postgresql://", "postgresql+psycopg://")


async def bench_reads(new: dict[str, Callable[[], str]], *, quick: bool) -> None:
    sizes = (100, 1000) if quick else (reads.SMALL, reads.LARGE)
    print("## Reading, one client, medians\n")
    print("| database | cases | a case of 20 events, ms | list of 50, ms | search, ms |")
    print("|---|---|---|---|---|")
    for kind, url in new.items():
        found = await reads.measure({size: url() for size in sizes})
        for one in found:
            print(
                f"| {kind} | {one.cases:,} | {one.case_ms:.2f} | {one.list_ms:.2f} | {one.search_ms:.2f} |", flush=True
            )
        small, large = found
        print(
            f"| {kind} | large ÷ small | | {large.list_ms / small.list_ms:.2f} |"
            f" {large.search_ms / small.search_ms:.2f} |"
        )


async def bench_pages(new: dict[str, Callable[[], str]], *, quick: bool) -> None:
    sizes = (100, 1000) if quick else (reads.SMALL, reads.LARGE)
    print("\n## Pages, one client, medians\n")
    print(
        f"| database | page | ms, {sizes[0]:,} cases | ms, {sizes[1]:,} | ratio | CPU of the service, ms |"
        " HTML, kB | first load, kB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind, url in new.items():
        for one in await pages.measure({size: url() for size in sizes}):
            print(
                f"| {kind} | {one.name} | {one.small_ms:.1f} | {one.large_ms:.1f} | {one.ratio:.2f} |"
                f" {one.cpu_ms:.1f} | {one.html_kb:.1f} | {one.first_kb:.1f} |",
                flush=True,
            )


async def bench_live(new: dict[str, Callable[[], str]], *, quick: bool) -> None:
    rounds, seconds = (1, 1.0) if quick else (5, 3.0)
    print(f"\n## Transitions per second beside {live.STREAMS} open pages\n")
    print("| database | beside | transitions/s | ratio | CPU of the service, µs | told/s, each | loaded again/s, all |")
    print("|---|---|---|---|---|---|---|")
    for kind, url in new.items():
        one = await live.measure(url(), clients=CLIENTS[-1], rounds=rounds, seconds=seconds)
        told = ("", f"{one.told:.2f}", "")
        loaded = ("", "", f"{one.loaded:.1f}")
        for way, name in enumerate(("nothing", "their streams", "pages that load again")):
            figures = f"{one.rates[way]:,.0f} | {one.ratios[way]:.2f} | {one.cpu_us[way]:.0f}"
            print(f"| {kind} | {name} | {figures} | {told[way]} | {loaded[way]} |", flush=True)


async def bench_deliveries(new: dict[str, Callable[[], str]], *, quick: bool) -> None:
    mails, effects, processes = (200, 300, 2) if quick else (3000, 10_000, 4)
    print(f"\n## Mail in and letters out: {mails:,} mails, and a backlog of {effects:,}\n")
    print("| database | taken in/s | and acknowledged/s | delay, median s | p95 s | processes | drained/s | twice |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, url in new.items():
        several = 1 if kind == "sqlite" else processes
        came = await deliveries.intake(url(), mails)
        median, p95 = deliveries.median_and_p95(await deliveries.delays(url(), 20 if quick else 100, pause=0.1))
        left = await deliveries.drain(url(), effects, several)
        print(
            f"| {kind} | {came.taken:,.0f} | {came.acknowledged:,.0f} | {median:.2f} | {p95:.2f} | {several} |"
            f" {left.rate:,.0f} | {left.twice} |",
            flush=True,
        )


async def bench_starts(new: dict[str, Callable[[], str]]) -> None:
    print("\n## Starting\n")
    print("| database | `casework serve` to its first answer, s | resident while idle, MB |\n|---|---|---|")
    for kind, url in new.items():
        one = await starting.measure(url())
        print(f"| {kind} | {one.seconds:.2f} | {one.idle_mb:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", default=["writes", "reads", "pages", "live", "deliveries", "starts", "verifying", "proofs"]
    )
    parser.add_argument(
        "--quick", action="store_true", help="short rounds and small desks: whether it runs, not how fast"
    )
    options = parser.parse_args()
    with databases() as new:
        if "writes" in options.parts:
            uvloop.run(bench_writes(new, quick=options.quick))
        if "reads" in options.parts:
            uvloop.run(bench_reads(new, quick=options.quick))
        if "pages" in options.parts:
            uvloop.run(bench_pages(new, quick=options.quick))
        if "live" in options.parts:
            uvloop.run(bench_live(new, quick=options.quick))
        if "deliveries" in options.parts:
            uvloop.run(bench_deliveries(new, quick=options.quick))
        if "starts" in options.parts:
            uvloop.run(bench_starts(new))
        if "verifying" in options.parts:
            command = [sys.executable, "-m", "bench.verifying", *(["--events", "10000"] if options.quick else [])]
            subprocess.run(command, check=True)
        if "proofs" in options.parts:
            print("\n## Proofs\n", flush=True)
            command = [sys.executable, "-m", "bench.proofs", *(["--events", "10000"] if options.quick else [])]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
