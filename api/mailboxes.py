"""Fetches mail from mailboxes (IMAP, RFC 3501 and 9051).

Whatever lies in the folder has not been taken in: a mail is read without being marked, handed in, and moved to another
folder once the desk has it. So it does not matter what people or other programs mark as read, nor where a connection
breaks: what was not moved is fetched again, and known again.
"""

import asyncio
import imaplib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

import msgspec
import structlog
from imap_tools import (
    BaseMailBox,
    MailBox,
    MailboxFolderSelectError,
    MailboxLoginError,
    MailBoxUnencrypted,
)
from imap_tools.idle import get_socket_poller
from imap_tools.utils import encode_folder

from api.mail_files import ENOUGH_BYTES
from api.receiving import ATTEMPTS, NotNow, Reception, SourceProblem, SourceState, Stuck, Unhandled
from api.settings import LOOPBACK, MailboxSettings
from storage.turns import turn

log = structlog.get_logger()

ANSWER_SECONDS = 60.0  # for a server to say anything
IDLE_SECONDS = 60.0  # then it is asked all the same: some forget to tell
POLL_SECONDS = 15.0  # of servers that tell nothing by themselves
AGAIN_SECONDS = 5.0  # after a mail that failed
STAND_BY_SECONDS = 10.0  # while another process reads the mailbox
SECRET_SECONDS = 30.0  # for a command that prints a password or a token
END_SECONDS = 1.0  # after it was killed
SECRET_BYTES = 64 * 1024

CHUNK_MAILS = 25
CHUNK_BYTES = 4 * 1024 * 1024
ASKED_AT_ONCE = 500

T = TypeVar("T")
Place = tuple[str, int]
"""Of a mail in its folder: for as long as the first part (UIDVALIDITY) stays, the second (UID) is this mail's alone."""


class Waiting(msgspec.Struct, frozen=True):
    """A mail that lies in the folder, by its UID, with as many bytes as the server thinks it has."""

    uid: int
    size: int


class Fetched(msgspec.Struct, frozen=True):
    """Of a mail that is too large its beginning, enough to see that."""

    uid: int
    raw: bytes
    arrived_at: datetime | None


class NotDone(Exception):
    """The server understood, and refused."""


class Mailbox:
    """A source of mail. Each mail is handed in after the ones before it, so that an answer finds what it answers."""

    def __init__(self, reception: Reception, settings: MailboxSettings, name: str) -> None:
        self.reception = reception
        self.settings = settings
        self.state = SourceState(name=name)
        self.taken: set[Place] = set()  # the desk has them, and they may still lie there
        self.refused: dict[Place, int] = {}  # how often the server would not hand them out
        self.one_by_one = False  # the connection broke while several were fetched

    async def run(self) -> None:
        desk = self.reception.desk
        async with turn(desk.database, f"mailbox {self.settings.url}") as is_ours:
            if is_ours:
                await self.receive()
            self.state.problem = "read_elsewhere"
            await asyncio.sleep(STAND_BY_SECONDS)

    async def receive(self) -> NoReturn:
        """Until something is in the way."""
        session = Session(self.settings, await secret_of(self.settings))
        thread = ThreadPoolExecutor(1, thread_name_prefix=self.state.name)
        loop = asyncio.get_running_loop()

        def call(work: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
            return loop.run_in_executor(thread, work, *arguments)

        try:
            await call(session.open)
            while True:
                seconds = await self.take_all(session, call)
                self.state.received_at = self.reception.desk.clock()
                await call(session.wait, seconds)
        finally:
            session.abort()
            thread.submit(session.close)
            thread.shutdown(wait=False)

    async def take_all(self, session: "Session", call: "Callable[..., asyncio.Future[Any]]") -> float:
        """Whatever lies there; answers with how long to wait for more."""
        waiting: list[Waiting] = await call(session.waiting)
        places = {(session.validity, one.uid) for one in waiting}
        self.taken &= places
        self.refused = {place: count for place, count in self.refused.items() if place in places}
        self.state.problem = None
        known = [one.uid for one in waiting if (session.validity, one.uid) in self.taken]
        await self.put_away(session, call, known)
        left = 0
        for chunk in chunks([one for one in waiting if one.uid not in set(known)], one_by_one=self.one_by_one):
            left += await self.take_chunk(session, call, chunk)
        self.one_by_one = False
        return AGAIN_SECONDS if left else IDLE_SECONDS

    async def take_chunk(
        self, session: "Session", call: "Callable[..., asyncio.Future[Any]]", uids: Sequence[int]
    ) -> int:
        """How many of them the desk does not have yet. Raises SourceProblem where it cannot take any."""
        self.one_by_one = True  # unless it goes well
        try:
            fetched: list[Fetched] = await call(session.fetch, uids)
        except NotDone:
            if len(uids) > 1:
                return sum([await self.take_chunk(session, call, [uid]) for uid in uids])
            return await self.not_handed_out(session, call, uids[0])
        done: list[int] = []
        problem = None
        try:
            for mail in fetched:
                if await self.take(mail):
                    done.append(mail.uid)  # noqa: PERF401 - what is done stays so when the next one fails
        except NotNow:
            problem = SourceProblem("desk_unavailable")
        self.taken |= {(session.validity, uid) for uid in done}
        await self.put_away(session, call, done)
        self.one_by_one = False
        if problem:
            raise problem
        return len(fetched) - len(done)

    async def take(self, mail: Fetched) -> bool:
        """Whether it can leave the folder. Raises NotNow."""
        try:
            await self.reception.take(mail.raw, mail.arrived_at)
        except Stuck:
            return True  # people are told, and find the whole of it in the other folder
        except Unhandled:
            return False
        return True

    async def not_handed_out(self, session: "Session", call: "Callable[..., asyncio.Future[Any]]", uid: int) -> int:
        """Of a mail that the server will not show. People are told, and it goes to the other folder, if it can."""
        place = (session.validity, uid)
        self.refused[place] = self.refused.get(place, 0) + 1
        said = f"The server does not hand out mail {uid} of {self.state.name} ({session.validity})."
        if self.refused[place] < ATTEMPTS or not await self.reception.set_aside(said.encode(), "not_handed_out"):
            return 1
        self.taken.add(place)
        await self.put_away(session, call, [uid])
        return 0

    async def put_away(
        self, session: "Session", call: "Callable[..., asyncio.Future[Any]]", uids: Sequence[int]
    ) -> None:
        """What cannot be put away is no reason not to receive what comes after it; it is tried again each time."""
        try:
            if uids:
                await call(session.put_away, uids)
        except NotDone:
            self.state.problem = "cannot_move"
            log.warning("mail_not_moved", source=self.state.name, mails=len(uids))


def chunks(waiting: Sequence[Waiting], *, one_by_one: bool) -> Iterator[list[int]]:
    """In order, a bounded number of bytes at a time."""
    chunk: list[int] = []
    size = 0
    for one in waiting:
        least = min(one.size, ENOUGH_BYTES)
        if chunk and (one_by_one or len(chunk) == CHUNK_MAILS or size + least > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(one.uid)
        size += least
    if chunk:
        yield chunk


# Secrets.


async def secret_of(settings: MailboxSettings) -> str:
    """The password, or the token. Raises SourceProblem."""
    if settings.password is not None:
        return settings.password.get_secret_value()
    try:
        process = await asyncio.create_subprocess_exec(
            *(settings.password_command or settings.token_command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as failure:
        raise SourceProblem("secret_command_not_started") from failure
    try:
        async with asyncio.timeout(SECRET_SECONDS):
            said = await first_line(process)
            code = await process.wait()
    except TimeoutError:
        raise SourceProblem("secret_command_too_slow") from None
    finally:
        await ended(process)
    if code or not said:
        raise SourceProblem("secret_command_failed")
    return said


async def ended(process: asyncio.subprocess.Process) -> None:
    """Nothing of it is left, unless somebody whom it has begun holds on to its output."""
    with suppress(ProcessLookupError):
        process.kill()
    with suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await first_line(process)
            await process.wait()


async def first_line(process: asyncio.subprocess.Process) -> str:
    if process.stdout is None:  # it is a pipe
        return ""
    said = b""
    while piece := await process.stdout.read(SECRET_BYTES):
        said = (said + piece)[:SECRET_BYTES]
    return said.partition(b"\n")[0].strip().decode(errors="replace")


# One connection.

UID = re.compile(rb"\bUID (\d+)")
SIZE = re.compile(rb"\bRFC822\.SIZE (\d+)")
INTERNAL_DATE = re.compile(rb'\bINTERNALDATE "([^"]{1,40})"')
BODY = re.compile(rb"\bBODY\[\](?:<0>)? ")
QUOTED_BODY = re.compile(rb'\bBODY\[\](?:<0>)? "((?:[^"\\]|\\.)*)"')


class Session:
    """A connection with the folder open; for one thread, all but `abort`.

    `validity` is what the UIDs hold for. Raises SourceProblem; NotDone; whatever imaplib does, if the line is broken.
    """

    def __init__(self, settings: MailboxSettings, secret: str) -> None:
        self.settings = settings
        self.secret = secret
        self.box: BaseMailBox | None = None
        self.can: frozenset[str] = frozenset()
        self.validity = ""
        self.ended = threading.Event()

    @property
    def opened(self) -> BaseMailBox:
        if self.box is None or self.ended.is_set():
            raise SourceProblem("interrupted")
        return self.box

    @property
    def client(self) -> imaplib.IMAP4:
        return self.opened.client

    def open(self) -> None:
        self.connect()
        self.sign_in()
        self.can = frozenset(self.said("CAPABILITY").upper().split())
        self.make_folder()
        try:
            self.opened.folder.set(self.settings.folder)
        except (MailboxFolderSelectError, imaplib.IMAP4.readonly) as failure:
            raise SourceProblem("folder_not_opened") from failure
        (validity,) = self.client.response("UIDVALIDITY")[1][-1:] or (None,)
        self.validity = (validity or b"").decode(errors="replace")

    def connect(self) -> None:
        """So that nobody between here and there can listen."""
        where, host = self.settings, self.settings.host
        context = ssl.create_default_context()
        try:
            if where.scheme == "imaps":
                self.box = MailBox(host, where.port, timeout=ANSWER_SECONDS, ssl_context=context)
                return
            self.box = MailBoxUnencrypted(host, where.port, timeout=ANSWER_SECONDS)
            if where.scheme == "imap+starttls" or host not in LOOPBACK:
                self.client.starttls(context)
        except ssl.SSLError as failure:
            raise SourceProblem("no_encryption") from failure
        except OSError as failure:
            raise SourceProblem("not_connected") from failure
        except imaplib.IMAP4.error as failure:
            unable = "TLS" in str(failure)  # what imaplib says itself where the server offers none
            raise SourceProblem("no_encryption" if unable else "not_connected") from failure

    def sign_in(self) -> None:
        box = self.opened
        user, secret = self.settings.user, self.secret
        try:
            if self.settings.token_command:
                box.xoauth2(user, secret, initial_folder=None)
            elif "AUTH=PLAIN" in box.client.capabilities and not (user + secret).isascii():
                box.login_utf8(user, secret, initial_folder=None)
            else:
                box.login(user, secret, initial_folder=None)
        except imaplib.IMAP4.abort:
            raise
        except (MailboxLoginError, imaplib.IMAP4.error) as failure:
            raise SourceProblem("sign_in_refused") from failure

    def make_folder(self) -> None:
        """For what was taken. That it is there already is no reason to complain, and moving will say the rest."""
        name = encode_folder(self.settings.taken)
        with suppress(NotDone):
            self.do("CREATE", name)

    def waiting(self) -> list[Waiting]:
        """In the order in which they came."""
        self.do("NOOP")  # some tell of new mail only then
        self.client.untagged_responses.clear()  # imaplib keeps for good what nobody asks it for
        uids = sorted(int(uid) for uid in b" ".join(filter(None, self.uid("SEARCH", "UNDELETED"))).split())
        found: dict[int, int] = {}
        for start in range(0, len(uids), ASKED_AT_ONCE):
            asked = listed(uids[start : start + ASKED_AT_ONCE])
            for item in self.uid("FETCH", asked, "(UID RFC822.SIZE)"):
                uid, size = (pattern.search(item) if isinstance(item, bytes) else None for pattern in (UID, SIZE))
                if uid:
                    found[int(uid[1])] = int(size[1]) if size else ENOUGH_BYTES
        return [Waiting(uid, found[uid]) for uid in uids if uid in found]

    def fetch(self, uids: Sequence[int]) -> list[Fetched]:
        """Those of them that are still there; a server's word on a size may be wrong, so that it is bounded again."""
        parts = f"(UID INTERNALDATE BODY.PEEK[]<0.{ENOUGH_BYTES}>)"
        found = {mail.uid: mail for mail in mails_in(self.uid("FETCH", listed(uids), parts))}
        return [found[uid] for uid in uids if uid in found]

    def put_away(self, uids: Sequence[int]) -> None:
        place = encode_folder(self.settings.taken)
        if "MOVE" in self.can:
            self.uid("MOVE", listed(uids), place)
            return
        self.uid("COPY", listed(uids), place)
        self.uid("STORE", listed(uids), "+FLAGS.SILENT", r"(\Deleted)")
        if "UIDPLUS" in self.can:
            self.uid("EXPUNGE", listed(uids))
        # Else they stay, marked as deleted: a plain EXPUNGE would end what people have marked, too.

    def wait(self, seconds: float) -> None:
        """Until there may be something new."""
        if self.client.untagged_responses.pop("EXISTS", None):
            return
        if "IDLE" in self.can:
            self.idle(min(seconds, IDLE_SECONDS))
        else:
            self.ended.wait(min(seconds, POLL_SECONDS))

    def idle(self, seconds: float) -> None:
        """Let the server speak (RFC 2177). imap-tools reads lines as far as they have come, and loses the rest."""
        client = self.client
        tag = client._command("IDLE")  # noqa: SLF001 - as imap-tools does
        while client._get_response() is not None:  # noqa: SLF001 - None is what it makes of a "+"
            if client.tagged_commands.get(tag):
                raise NotDone
        if "EXISTS" not in client.untagged_responses and not has_more(client):
            get_socket_poller(client.sock, seconds)  # type: ignore[arg-type]  # parts of one do as well
        client.send(b"DONE\r\n")
        client._get_tagged_response(tag)  # noqa: SLF001 - as above

    def abort(self) -> None:
        """From any thread: whoever waits for the server waits no longer."""
        self.ended.set()
        if self.box is not None:
            with suppress(OSError):  # it is closed already
                self.box.client.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self.box is not None:
            self.box.client.shutdown()

    # Commands.

    def do(self, name: str, *arguments: bytes) -> list[Any]:
        return answer(self.client._simple_command(name, *arguments))  # noqa: SLF001 - as imap-tools does

    def uid(self, name: str, *arguments: "str | bytes") -> list[Any]:
        return answer(self.client.uid(name, *arguments))  # type: ignore[arg-type]  # bytes are as good

    def said(self, name: str) -> str:
        self.do(name)
        return b" ".join(self.client.response(name)[1] or ()).decode(errors="replace")


def has_more(client: imaplib.IMAP4) -> bool:
    """Whether something was read already with what was asked for, so that the socket will not tell of it."""
    read_ahead = getattr(client, "_readbuf", None)  # Python 3.14 keeps it itself
    if read_ahead is not None:
        return bool(read_ahead)
    stream: Any = client.file  # buffered
    timeout = client.sock.gettimeout()
    client.sock.settimeout(0)
    try:
        return bool(stream.peek(1))
    except OSError:  # TLS says so that there is nothing
        return False
    finally:
        client.sock.settimeout(timeout)


def answer(said: "tuple[str, list[Any]]") -> list[Any]:
    if said[0] != "OK":
        raise NotDone
    return [one for one in said[1] if one is not None]


def listed(uids: Sequence[int]) -> str:
    return ",".join(map(str, uids))


def mails_in(items: Sequence[Any]) -> Iterator[Fetched]:
    """From what imaplib makes of an answer: a pair for each literal, followed by the rest of its line."""
    for index, item in enumerate(items):
        if isinstance(item, tuple):
            head, raw = bytes(item[0]), bytes(item[1])
            rest = items[index + 1] if index + 1 < len(items) else b""
            line = head + b" " + (rest if isinstance(rest, bytes) else b"")
        elif quoted := QUOTED_BODY.search(item):  # of a very short one
            line, raw = item, re.sub(rb"\\(.)", rb"\1", quoted[1])
        else:
            continue
        uid = UID.search(line)
        if uid and BODY.search(line):
            yield Fetched(int(uid[1]), raw, moment_in(line))


def moment_in(line: bytes) -> datetime | None:
    """When the server received it."""
    said = INTERNAL_DATE.search(line)
    try:
        return datetime.strptime(said[1].decode().strip(), "%d-%b-%Y %H:%M:%S %z").astimezone(UTC) if said else None
    except ValueError:
        return None
