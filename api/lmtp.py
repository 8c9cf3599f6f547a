"""Takes mail from one's own mail server (LMTP, RFC 2033): what is acknowledged is durable."""

import asyncio
import errno
import re
import socket
from typing import Any

import structlog
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import Envelope, Session

from api.mail_parsing import Limits, plus_part
from api.receiving import NotNow, Reception, SourceProblem, SourceState, Unhandled
from api.settings import lmtp_place

log = structlog.get_logger()

MAX_SESSIONS = 20  # as many as Postfix opens to one place; each may hold a mail in memory
LINE_BYTES = 256 * 1024  # servers break lines long before; whoever does not shall not fill the memory with one
MAX_RECIPIENTS = 100
TRACE_BYTES = 100_000  # that we add ourselves
MAIL_BYTES = Limits().message_bytes - TRACE_BYTES
SILENT_SECONDS = 300.0  # then who says nothing is cut off

OK = "250 2.0.0 the desk has it"
LATER = "451 4.3.0 the desk cannot take it now"
NOT_OURS = "550 5.1.1 only mail to the desk is taken here"
TOO_MANY = b"421 4.3.2 too many connections\r\n"

UNEXPLAINED = re.compile(r"([245])\d\d (?!\d\.\d)")
EXTENSIONS = ["250-PIPELINING", "250 ENHANCEDSTATUSCODES"]


class Listener:
    """A source of mail. Where another process listens already, it waits for its turn."""

    def __init__(self, reception: Reception, place: str) -> None:
        self.reception = reception
        self.place = place
        self.state = SourceState(name="lmtp")
        self.sessions: set[Conversation] = set()
        self.address: Any = None  # where it listens, while it does

    async def run(self) -> None:
        server = await self.listen()
        self.state.problem = None
        self.state.received_at = self.reception.desk.clock()
        try:
            self.address = server.sockets[0].getsockname()
            await asyncio.Event().wait()
        finally:
            self.address = None
            server.close()
            for one in [*self.sessions]:
                one.end()

    async def listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        try:
            if self.place.startswith("unix:"):
                path = self.place.removeprefix("unix:")
                if is_answered(path):
                    raise SourceProblem("address_in_use")
                return await loop.create_unix_server(self.session, path)
            return await loop.create_server(self.session, *lmtp_place(self.place))
        except OSError as failure:
            taken = failure.errno == errno.EADDRINUSE
            raise SourceProblem("address_in_use" if taken else "cannot_listen") from failure

    def session(self) -> asyncio.Protocol:
        return Refusal() if len(self.sessions) >= MAX_SESSIONS else Conversation(self)

    # What aiosmtpd asks. The names and arguments are its own.

    async def handle_EHLO(  # noqa: N802
        self, server: LMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        _ = server, envelope
        session.host_name = hostname
        return [*responses[:-1], *EXTENSIONS]

    async def handle_RCPT(  # noqa: N802
        self, server: LMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        _ = server, session
        if plus_part(address.lower(), self.reception.desk.settings.support_address) is None:
            return NOT_OURS
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 too many recipients"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: LMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """The same for each recipient: all of them are the desk."""
        _ = server, session
        try:
            await self.reception.take(traced(envelope))
        except (NotNow, Unhandled):
            return LATER
        self.state.received_at = self.reception.desk.clock()
        return OK

    async def handle_exception(self, failure: Exception) -> str:
        log.warning("lmtp_failed", failure=type(failure).__name__)
        return "451 4.3.0 something went wrong"


def is_answered(path: str) -> bool:
    """Whether somebody listens at this socket; what was left behind may be replaced."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(path) == 0


def traced(envelope: Envelope) -> bytes:
    """With what the envelope alone says, as who delivers has to add it (RFC 5321, section 4.4)."""
    sender = (envelope.mail_from or "").strip("<>")
    recipients = "".join(f"Delivered-To: {one}\r\n" for one in dict.fromkeys(envelope.rcpt_tos))
    header = f"Return-Path: <{sender}>\r\n{recipients}"
    return header.encode(errors="surrogateescape") + (envelope.original_content or b"")


class Conversation(LMTP):
    line_length_limit = LINE_BYTES

    def __init__(self, listener: Listener) -> None:
        super().__init__(
            listener,
            data_size_limit=MAIL_BYTES,  # the sender's server can say so; by other ways in it is set aside
            enable_SMTPUTF8=True,
            hostname="casework",
            ident="LMTP",
            timeout=SILENT_SECONDS,
            loop=asyncio.get_running_loop(),
        )
        self.listener = listener
        self.owed = 1  # answers to what was said last
        self.arrived: int | None = None  # bytes of the mail that is being sent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.listener.sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.listener.sessions.discard(self)
        super().connection_lost(error)

    def end(self) -> None:
        if self.transport is not None:
            self.transport.close()

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - aiosmtpd's name
        self.arrived = 0
        try:
            await super().smtp_DATA(arg)
        finally:
            self.owed = 1
            self.arrived = None

    def data_received(self, data: bytes) -> None:
        """Hang up on who sends far more than was offered.

        aiosmtpd reads on to the end before it refuses, and keeps all of a line that does not end.
        """
        if self.arrived is not None:
            self.arrived += len(data)
            if self.arrived > MAIL_BYTES + LINE_BYTES:
                log.warning("lmtp_mail_without_an_end")
                self.end()
                return
        super().data_received(data)

    async def push(self, status: Any) -> None:
        """One answer for each recipient, once their mail is there (RFC 2033, section 4.2); aiosmtpd gives one alone."""
        text = status.decode() if isinstance(status, bytes) else str(status)
        if not text.startswith("220 ") and text not in EXTENSIONS:
            text = UNEXPLAINED.sub(r"\g<0>\g<1>.0.0 ", text, count=1)
        await super().push("\r\n".join([text] * self.owed))
        if text.startswith("354") and self.envelope is not None:
            self.owed = len(self.envelope.rcpt_tos)


class Refusal(asyncio.Protocol):
    """For who comes while too many are here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(TOO_MANY)
            transport.close()
