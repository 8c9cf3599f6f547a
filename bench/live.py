"""Open pages: what transitions cost beside two hundred of them, with their streams alone and as browsers load again."""

import asyncio
import itertools
import os
import secrets
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from api.desk import Desk
from api.live import MAX_OF_A_SESSION
from bench.client import Conversation, run_round
from bench.desk import open_cases, prepared
from bench.serving import service
from bench.writes import STEPS, Mover, Movers
from storage import people
from workflow.people import SignIn

STREAMS = 200
PAGE = "/queue?tab=all"
WAYS = ALONE, ONLY_STREAMS, PAGES = 0, 1, 2


class Beside(msgspec.Struct):
    """Transitions per second: alone, with open streams, and with pages that load again when they are told to.

    The ratios are medians of those of each round. `cpu_us` is what the service uses for a transition and all that goes
    on beside it: other work on the machine does not count.
    """

    database: str
    rates: tuple[float, ...]
    ratios: tuple[float, ...]
    cpu_us: tuple[float, ...]
    told: float  # of one stream in a second
    loaded: float  # pages in a second


async def sessions(desk: Desk, count: int) -> list[str]:
    """The secrets of so many sessions of the desk's one agent."""
    (person,) = await people.everybody(desk.database)
    made = []
    for _ in range(count):
        secret = secrets.token_urlsafe(32)
        command = SignIn(
            person_id=person.id,
            session_id=secrets.token_hex(8),
            secret_hash=people.secret_hash(secret),
            expires_at=datetime.now(UTC) + timedelta(hours=12),
        )
        await desk.submit_as_system("bench", command, via="page")
        made.append(secret)
    return made


class Stream(asyncio.Protocol):
    """An open page. Where it loads again, it does so on a connection of its own, and reads the whole answer."""

    def __init__(self, session: str, port: int, *, loads: bool) -> None:
        self.session = session
        self.port = port
        self.loads = loads
        self.told = self.loaded = 0
        self.is_open = False
        self.loading: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(self.request("/live?list"))

    def request(self, path: str, more: str = "") -> bytes:
        head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nCookie: casework={self.session}\r\nAccept-Encoding: gzip\r\n"
        return f"{head}{more}\r\n".encode()

    def data_received(self, data: bytes) -> None:
        self.is_open = self.is_open or data.startswith(b"HTTP/1.1 200")
        news = data.count(b"event: changed")
        self.told += news
        if news and self.loads and (self.loading is None or self.loading.done()):
            self.loading = asyncio.create_task(self.load())

    async def load(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self.request(PAGE, "Connection: close\r\nX-Loaded-Again: 1\r\n"))
        answer = await reader.read()
        writer.close()
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the page was answered with {answer[:50]!r}")
        self.loaded += 1


@asynccontextmanager
async def open_streams(port: int, secrets_: Sequence[str], count: int, *, loads: bool) -> AsyncIterator[list[Stream]]:
    loop = asyncio.get_running_loop()
    streams = [Stream(secrets_[n // MAX_OF_A_SESSION], port, loads=loads) for n in range(count)]
    for stream in streams:
        await loop.create_connection(lambda s=stream: s, "127.0.0.1", port)  # type: ignore[misc]
    while not all(one.is_open for one in streams):  # noqa: ASYNC110 - they all say so by themselves
        await asyncio.sleep(0.01)
    yield streams
    for stream in streams:
        stream.loads = False
    await asyncio.gather(*(one.loading for one in streams if one.loading is not None))
    for stream in streams:
        stream.transport.close()
    await asyncio.sleep(0.2)


async def measure(url: str, *, clients: int, rounds: int, seconds: float) -> Beside:
    desk, token = await prepared(url)
    per_round = int(3000 * seconds / len(STEPS)) + clients
    cases = iter([entry.case.id for entry in await open_cases(desk, 3 * per_round * (rounds + 1))])
    secrets_ = await sessions(desk, -(-STREAMS // MAX_OF_A_SESSION))
    await desk.close()
    rates: tuple[list[float], ...] = ([], [], [])
    used: tuple[list[float], ...] = ([], [], [])
    told, loaded = [], []
    async with service(url) as (port, process):
        for number in range(rounds + 1):
            for way in WAYS if number % 2 else reversed(WAYS):
                movers = Movers(list(itertools.islice(cases, per_round)), token)
                conversations: list[Conversation] = [Mover(movers) for _ in range(clients)]
                async with open_streams(port, secrets_, STREAMS if way else 0, loads=way == PAGES) as streams:
                    before = cpu_seconds(process.pid)
                    result = await run_round(port, conversations, seconds)
                    cpu = cpu_seconds(process.pid) - before
                    if result.failures:
                        raise RuntimeError(f"{result.failures} of {result.requests} requests failed")
                    if not number:  # the first round warms up
                        continue
                    rates[way].append(result.rate)
                    used[way].append(cpu / result.requests * 1e6)
                    told += [sum(one.told for one in streams) / STREAMS / result.seconds] if way == ONLY_STREAMS else []
                    loaded += [sum(one.loaded for one in streams) / result.seconds] if way == PAGES else []

    def ratio(way: int) -> float:
        return statistics.median(b / a for a, b in zip(rates[ALONE], rates[way], strict=True))

    return Beside(
        database=url.partition(":")[0],
        rates=tuple(map(statistics.median, rates)),
        ratios=tuple(map(ratio, WAYS)),
        cpu_us=tuple(map(statistics.median, used)),
        told=statistics.median(told),
        loaded=statistics.median(loaded),
    )


def cpu_seconds(pid: int) -> float:
    """Used so far by a process. Linux only."""
    _, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")
    return float(sum(map(int, rest.split()[11:13])) / os.sysconf("SC_CLK_TCK"))
