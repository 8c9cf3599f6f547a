"""Stands between the service and PostgreSQL, and lets connections fail at a chosen moment."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path

from sqlalchemy import make_url


class Fault(Enum):
    """What becomes of the request that holds the marker."""

    LOST = "it never arrives"
    CUT = "it arrives, and the connection breaks at once"
    UNANSWERED = "it is carried out, and the connection breaks before the answer"
    SILENT = "it is carried out, and nothing is heard any more"


class Proxy:
    """Faultless until `break_on`; every fault happens once."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.fault: Fault | None = None
        self.marker = b""
        self.for_good = False
        self.struck = asyncio.Event()
        self.deaf = False  # takes connections, and says nothing
        self.url = ""
        self.writers: set[StreamWriter] = set()
        self.clients: set[StreamWriter] = set()

    def break_on(self, marker: bytes, fault: Fault, *, for_good: bool = False) -> None:
        """Strike when the client next sends `marker`; `for_good`: and be deaf from then on."""
        self.marker, self.fault, self.for_good = marker, fault, for_good
        self.struck.clear()

    def say(self, message: bytes) -> None:
        """To whoever is connected, as if the server said it."""
        for writer in self.clients:
            writer.write(message)

    async def serve(self, client: StreamReader, to_client: StreamWriter) -> None:
        if self.deaf:
            self.writers.add(to_client)
            return
        server, to_server = await asyncio.open_unix_connection(self.socket)
        self.writers |= {to_client, to_server}
        self.clients.add(to_client)
        answering = asyncio.create_task(self.pump(server, to_client))
        try:
            while data := await client.read(65536):
                fault = self.fault if self.marker in data else None
                if fault is None:
                    to_server.write(data)
                    continue
                self.fault, self.deaf = None, self.for_good
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
                if fault is not Fault.LOST:
                    to_server.write(data)
                    await to_server.drain()
                if fault in {Fault.UNANSWERED, Fault.SILENT}:
                    await server.read(65536)  # the server says nothing before it has committed
                self.struck.set()
                if fault is not Fault.SILENT:
                    break
        finally:
            answering.cancel()
            for writer in (to_client, to_server):
                self.close(writer)

    @staticmethod
    async def pump(source: StreamReader, sink: StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    def close(self, writer: StreamWriter) -> None:
        self.writers.discard(writer)
        self.clients.discard(writer)
        writer.close()


@asynccontextmanager
async def a_proxy(url: str) -> AsyncIterator[Proxy]:
    """Before the PostgreSQL of this URL, which is then reached by the proxy's."""
    target = make_url(url)
    proxy = Proxy(Path(str(target.query["host"]), ".s.PGSQL.5432"))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy.url = f"postgresql://postgres@127.0.0.1:{port}/{target.database}"
    try:
        yield proxy
    finally:
        server.close()
        for writer in list(proxy.writers):
            proxy.close(writer)
