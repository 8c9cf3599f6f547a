"""A real IMAP server, what stands between it and us, and a look into its folders."""

import asyncio
import base64
import imaplib
import socket
import ssl
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imap_tools import MailBoxUnencrypted

if TYPE_CHECKING:
    import re

USER, PASSWORD = "support@step-into.example", "what only the mailbox knows"
START_SECONDS = 30
ARRIVED = datetime(2026, 11, 2, 11, tzinfo=UTC)


class ImapServer:
    """pymap, as a process, with one user. Its folders last as long as it runs."""

    def __init__(self, certificate: Path | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        tls = ["--no-tls"] if certificate is None else ["--cert", str(certificate), "--key", str(certificate)]
        user = ["--demo-user", USER, "--demo-password", PASSWORD]
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import pymap.main; pymap.main.main()",
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
                *tls,
                "dict",
                *user,
            ],
            stderr=subprocess.DEVNULL,
        )
        self.numbers = count(1)

    def wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise TimeoutError("the IMAP server does not start")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    @contextmanager
    def folder(self) -> Iterator["Folder"]:
        """A new one, and one for what was taken."""
        with MailBoxUnencrypted("127.0.0.1", self.port, timeout=START_SECONDS).login(USER, PASSWORD, None) as box:
            name = f"Desk{next(self.numbers)}"
            box.folder.create(name)
            yield Folder(box, self.port, name)


class Folder:
    """As a person sees it with a mail program of their own."""

    def __init__(self, box: MailBoxUnencrypted, port: int, name: str) -> None:
        self.box = box
        self.port = port
        self.name = name
        self.taken = f"{name}-taken"

    def settings(self, port: int | None = None, *, scheme: str = "imap", host: str = "127.0.0.1", **given: Any) -> Any:
        """As the desk's settings have it."""
        url = f"{scheme}://{USER}@{host}:{port or self.port}/{self.name}"
        ways_in = {"password", "password_command", "token_command"}
        way_in = {} if ways_in & given.keys() else {"password": PASSWORD}
        return {"url": url, "taken": self.taken, **way_in, **given}

    def put(self, raw: bytes, *flags: str) -> None:
        self.box.append(raw, self.name, ARRIVED, flags)

    def mails(self, name: str | None = None) -> list[tuple[bytes, tuple[str, ...]]]:
        """What lies there, oldest first, with its flags."""
        with suppress(Exception):
            self.box.folder.unset()
        try:
            self.box.folder.set(name or self.name, readonly=True)
        except Exception:  # noqa: BLE001 - there is no such folder yet
            return []
        found = self.box.client.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[])")[1]
        pairs = [one for one in found if isinstance(one, tuple)]
        return [(raw, tuple(flag.decode() for flag in imaplib.ParseFlags(head))) for head, raw in pairs]

    def mark(self, flag: str) -> None:
        """All that lies there."""
        self.box.folder.set(self.name)
        self.box.flag(self.box.uids(), flag, value=True)

    def mark_deleted(self) -> None:
        """Without ending it."""
        self.box.folder.set(self.name)
        self.box.client.uid("STORE", "1:*", "+FLAGS", r"(\Deleted)")

    @property
    def left(self) -> list[bytes]:
        return [raw for raw, _ in self.mails()]

    @property
    def put_away(self) -> list[bytes]:
        return [raw for raw, _ in self.mails(self.taken)]


class Between:
    """Stands between the desk and a server, line by line from the one, piece by piece from the other."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.port = 0
        self.cut_after: Callable[[], int] | None = None  # bytes of a connection, in both directions
        self.hidden: tuple[bytes, ...] = ()  # what the server can do, and does not say
        self.refused: re.Pattern[bytes] | None = None  # commands that are answered with NO
        self.tokens: list[str] = []  # those that XOAUTH2 lets in, with the server's own password
        self.commands: list[bytes] = []
        self.sent = 0  # bytes to the desk
        self.cuts = 0
        self.writers: set[StreamWriter] = set()

    async def serve(self, desk: StreamReader, to_desk: StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self.server_port, limit=2**26)
        self.writers |= {to_desk, to_server}
        left = [self.cut_after() if self.cut_after else sys.maxsize]
        answering = asyncio.create_task(self.answer(server, to_desk, left))
        asking = asyncio.create_task(self.ask(desk, to_server, to_desk, left))
        try:
            await asyncio.wait({answering, asking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, asking):
                task.cancel()
            await asyncio.gather(answering, asking, return_exceptions=True)
            for writer in (to_desk, to_server):
                self.writers.discard(writer)
                writer.close()

    async def answer(self, server: StreamReader, to_desk: StreamWriter, left: list[int]) -> None:
        while data := await server.read(65536):
            for one in self.hidden:
                data = data.replace(b" " + one, b" " + b"X" * len(one))
            self.sent += len(data)
            if not await self.passed(data, to_desk, left):
                return

    async def ask(self, desk: StreamReader, to_server: StreamWriter, to_desk: StreamWriter, left: list[int]) -> None:
        while line := await desk.readline():
            self.commands.append(line)
            tag = line.split(b" ")[0]
            if self.refused and self.refused.search(line):
                to_desk.write(tag + b" NO [SERVERBUG] not this one\r\n")
                continue
            if b"AUTHENTICATE XOAUTH2" in line:
                to_desk.write(b"+ \r\n")
                said = base64.b64decode(await desk.readline()).decode()
                if said not in [f"user={USER}\1auth=Bearer {token}\1\1" for token in self.tokens]:
                    to_desk.write(tag + b" NO [AUTHENTICATIONFAILED] no\r\n")
                    continue
                line = b'%b LOGIN "%b" "%b"\r\n' % (tag, USER.encode(), PASSWORD.encode())
            if not await self.passed(line, to_server, left):
                return

    async def passed(self, data: bytes, writer: StreamWriter, left: list[int]) -> bool:
        """Whether the connection lives on."""
        writer.write(data[: left[0]])
        with suppress(ConnectionError):
            await writer.drain()
        left[0] -= len(data)
        self.cuts += left[0] <= 0
        return left[0] > 0


@asynccontextmanager
async def between(port: int, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Between]:
    proxy = Between(port)
    server = await asyncio.start_server(proxy.serve, host, 0, limit=2**20, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for writer in [*proxy.writers]:
            writer.close()
        await asyncio.sleep(0)
