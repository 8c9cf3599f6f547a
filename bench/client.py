"""A load generator: keep-alive connections that each send a request when the last one is answered, or at a pace."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator

import msgspec

TAKING_SECONDS = 0.1

Request = bytes
# Makes a connection's next request, given the answer to its last (status and whole head); None ends it.
Script = Callable[[], Iterator[Request]]


class Round(msgspec.Struct):
    """What one round saw. Times in seconds."""

    requests: int
    failures: int
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Connection(asyncio.Protocol):
    """Sends the script's requests one after the other; answers are whole when `content-length` bytes have come.

    With a `pace`, a request is due so many seconds after the one before it, and late from then on: what waits for a
    slow answer is counted as slow too.
    """

    def __init__(self, script: "Conversation") -> None:
        self.script = script
        self.buffer = b""
        self.latencies: list[float] = []
        self.failures = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def begin(self, ends_at: float, pace: float) -> None:
        self.ends_at = ends_at
        self.pace = pace
        self.due_at = time.perf_counter() + random.random() * pace
        self.send_when_due()

    def send_when_due(self) -> None:
        wait = self.due_at - time.perf_counter() if self.pace else 0.0
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self.send)
        else:
            self.send()

    def send(self) -> None:
        request = self.script.next_request() if time.perf_counter() < self.ends_at else None
        if request is None:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.sent_at = self.due_at if self.pace else time.perf_counter()
        self.due_at += self.pace
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head_end = self.buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self.buffer[:head_end].lower()
        at = head.find(b"content-length: ") + 16
        length = int(head[at:].partition(b"\r")[0])
        if len(self.buffer) < head_end + 4 + length:
            return
        self.latencies.append(time.perf_counter() - self.sent_at)
        status = int(head[9:12])
        if status >= 300:
            self.failures += 1
        self.script.answered(status, head)
        self.buffer = b""
        self.send_when_due()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Conversation:
    """What one connection says: subclasses decide."""

    def next_request(self) -> Request | None:
        raise RuntimeError("a conversation says something")

    def answered(self, status: int, head: bytes) -> None:
        """Take note of an answer."""


class Repeat(Conversation):
    """The same request again and again."""

    def __init__(self, request: Request) -> None:
        self.request = request

    def next_request(self) -> Request:
        return self.request


async def run_round(port: int, conversations: list[Conversation], seconds: float, pace: float = 0.0) -> Round:
    """All begin together, once the service has taken their connections."""
    loop = asyncio.get_running_loop()
    connections = [Connection(conversation) for conversation in conversations]
    for connection in connections:
        await loop.create_connection(lambda c=connection: c, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.sleep(TAKING_SECONDS)
    began = time.perf_counter()
    for connection in connections:
        connection.begin(began + seconds, pace)
    await asyncio.wait([connection.done for connection in connections])
    took = time.perf_counter() - began
    latencies = [one for connection in connections for one in connection.latencies]
    return Round(
        requests=len(latencies),
        failures=sum(connection.failures for connection in connections),
        seconds=took,
        latencies=latencies,
    )


def post(path: str, token: str, body: bytes, **headers: str) -> Request:
    """The bytes of a request."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", f"Authorization: Bearer {token}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def get(path: str, token: str) -> Request:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
