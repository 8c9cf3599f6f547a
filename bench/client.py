"""A load generator: keep-alive connections that each send a request as soon as the last one is answered."""

import asyncio
import time
from collections.abc import Callable, Iterator

import msgspec

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
    """Sends the script's requests one after the other; answers are whole when `content-length` bytes have come."""

    def __init__(self, script: "Conversation", ends_at: float) -> None:
        self.script = script
        self.ends_at = ends_at
        self.buffer = b""
        self.latencies: list[float] = []
        self.failures = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.send()

    def send(self) -> None:
        request = self.script.next_request() if time.perf_counter() < self.ends_at else None
        if request is None:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.sent_at = time.perf_counter()
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
        self.send()

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


async def run_round(port: int, conversations: list[Conversation], seconds: float) -> Round:
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    ends_at = began + seconds
    connections = []
    for conversation in conversations:
        _, connection = await loop.create_connection(lambda c=conversation: Connection(c, ends_at), "127.0.0.1", port)  # type: ignore[misc]
        connections.append(connection)
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
