"""Mail in, letters out: how many a second, how soon, and how fast a backlog drains."""

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import msgspec

from bench.desk import SECRET_KEY, a_case, prepared
from bench.serving import ROOT, free_port

SUPPORT = "support@desk.example"
SENDERS = 16  # connections of the mail server that hands mail in
PATIENCE_SECONDS = 300.0

MAIL = """\
Received: from mx.example by desk.example; Mon, 5 Jan 2026 10:00:00 +0000\r
From: Client {number} <client{number}@example.com>\r
To: {support}\r
Subject: The banner of order {number} is not what we agreed on\r
Message-ID: <{number}@example.com>\r
Date: Mon, 5 Jan 2026 10:00:00 +0000\r
Content-Type: text/plain; charset=utf-8\r
\r
Good morning, the banner that we ordered in spring does not work as promised. Please look into order {number} and\r
tell us what can be done. It was due a week ago and our season begins on Monday.\r
"""


class Sink:
    """A mail server that takes everything at once, and remembers when each letter came."""

    def __init__(self) -> None:
        self.came: dict[str, float] = {}  # whom to → when first
        self.letters: Counter[str] = Counter()
        self.changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self.converse, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = ""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(b"220 sink\r\n")
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"RCPT":
                    to = line.partition(b"<")[2].partition(b">")[0].decode()
                if verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    self.take(to, await reader.readuntil(b"\r\n.\r\n"))
                writer.write(b"250-sink\r\n250 8BITMIME\r\n" if verb == b"EHLO" else b"250 fine\r\n")
                if verb == b"QUIT":
                    break
        writer.close()

    def take(self, to: str, letter: bytes) -> None:
        self.came.setdefault(to, time.perf_counter())
        name = letter.lower().partition(b"message-id: ")[2].partition(b"\r\n")[0]
        self.letters[name.decode()] += 1
        self.changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.letters) < count:
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def working(url: str, smtp: int, lmtp: int | None = None, processes: int = 1) -> AsyncIterator[None]:
    """`casework work`, in so many processes; the first takes mail in if there is a port for it."""
    settings = {
        "CASEWORK_DATABASE_URL": url,
        "CASEWORK_SECRET_KEY": SECRET_KEY,
        "CASEWORK_SMTP_URL": f"smtp://127.0.0.1:{smtp}",
        "CASEWORK_SUPPORT_ADDRESS": SUPPORT,
        "CASEWORK_ACKNOWLEDGEMENTS_PER_HOUR": "1000000",
        "CASEWORK_LOG_LEVEL": "error",
        "PYTHONPATH": str(ROOT),
    }
    command = [str(Path(sys.executable).parent / "casework"), "work"]
    with Path(os.environ.get("BENCH_LOG", os.devnull)).open("ab") as log:
        started = []
        for n in range(processes):
            receives = {"CASEWORK_LMTP": f"127.0.0.1:{lmtp}"} if lmtp and n == 0 else {}
            started.append(subprocess.Popen(command, env=os.environ | settings | receives, stderr=log, stdout=log))
        try:
            if lmtp:
                await until_it_listens(lmtp)
            yield
        finally:
            for one in started:
                one.terminate()
            for one in started:
                one.wait(30)


async def until_it_listens(port: int) -> None:
    for _ in range(2000):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("nobody takes mail in")


class Server:
    """One connection by which mail is handed in (LMTP, RFC 2033)."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        await self.answer()
        await self.say("LHLO bench")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def say(self, line: str) -> None:
        self.writer.write(f"{line}\r\n".encode())
        await self.answer()

    async def answer(self) -> None:
        while (line := await self.reader.readline())[3:4] == b"-":
            pass
        assert line[:1] in {b"2", b"3"}, line

    async def hand_in(self, number: int) -> float:
        """When it was taken."""
        await self.say(f"MAIL FROM:<client{number}@example.com>")
        await self.say(f"RCPT TO:<{SUPPORT}>")
        await self.say("DATA")
        await self.say(MAIL.format(number=number, support=SUPPORT) + ".")
        return time.perf_counter()


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """Mails a second, until all are durable, and until all are acknowledged."""

    taken: float
    acknowledged: float


async def intake(url: str, mails: int) -> Intake:
    desk, _ = await prepared(url)
    await desk.close()
    sink, lmtp = Sink(), free_port()
    numbers = iter(range(mails))

    async def hand_in_all() -> None:
        async with Server(lmtp) as server:
            for number in numbers:
                await server.hand_in(number)

    async with sink.listening() as smtp, working(url, smtp, lmtp):
        began = time.perf_counter()
        await asyncio.gather(*(hand_in_all() for _ in range(SENDERS)))
        taken = time.perf_counter() - began
        await sink.until(mails)
        acknowledged = time.perf_counter() - began
    return Intake(taken=mails / taken, acknowledged=mails / acknowledged)


async def delays(url: str, mails: int, pause: float) -> list[float]:
    """Seconds from when an inquiry is durable to when the other side has its acknowledgement; sorted."""
    desk, _ = await prepared(url)
    await desk.close()
    sink, lmtp = Sink(), free_port()
    taken: dict[str, float] = {}
    async with sink.listening() as smtp, working(url, smtp, lmtp), Server(lmtp) as server:
        for number in range(mails):
            taken[f"client{number}@example.com"] = await server.hand_in(number)
            await asyncio.sleep(pause)
        await sink.until(mails)
    return sorted(sink.came[to] - at for to, at in taken.items())


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    rate: float
    twice: int


async def drain(url: str, effects: int, processes: int) -> Drained:
    """A backlog of letters, by so many processes, from when the first has left."""
    os.environ["CASEWORK_SMTP_URL"] = "smtp://127.0.0.1:9"  # planned, and carried out by nobody yet
    desk, _ = await prepared(url)
    for start in range(0, effects, 1000):
        several = range(start, min(start + 1000, effects))
        await asyncio.gather(*(desk.submit_as_system("bench", a_case(n), via="api") for n in several))
    await desk.close()
    del os.environ["CASEWORK_SMTP_URL"]
    sink = Sink()
    async with sink.listening() as smtp, working(url, smtp, processes=processes):
        await sink.until(1)
        began, before = time.perf_counter(), len(sink.letters)
        await sink.until(effects)
        seconds = time.perf_counter() - began
    return Drained(rate=(effects - before) / seconds, twice=sum(count > 1 for count in sink.letters.values()))


def median_and_p95(found: list[float]) -> tuple[float, float]:
    return statistics.median(found), found[int(len(found) * 0.95)]
