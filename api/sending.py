"""Hands mails to the mail server, over connections that are used again, and says what became of each."""

import asyncio
import contextlib
import re
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec
import structlog

from api.carrying_out import HANDLER_SECONDS, Done, Failed, Hopeless, Result
from api.smtp_server import Encryption, SmtpServer, smtp_server

if TYPE_CHECKING:
    from aiosmtplib import SMTP

log = structlog.get_logger()

SEND_SECONDS = HANDLER_SECONDS - 7  # what comes before the mail takes time as well
ANSWER_SECONDS = 30  # RFC 5321 §4.5.3.2 has minutes, which nobody waits for here: it is tried again
CONNECT_SECONDS = 10
CONNECTIONS = 8
IDLE_SECONDS = 20  # servers hang up on whoever is silent for longer
MAILS_PER_CONNECTION = 200

# RFC 3463: what the first code says of a recipient (X.1, X.2), and what a server wants of anybody (X.7).
ENHANCED = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
ABOUT_THE_RECIPIENT = ("5.1.", "5.2.")
NOT_NOW = 421  # said before hanging up
TEMPORARY = range(400, 500)
# Of the codes without an enhanced one, those that can only be about the mailbox (RFC 5321 §4.2.3).
NO_SUCH_MAILBOX = frozenset({550, 551, 553})


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A mail with its envelope; `needs_utf8` where an address cannot be written in ASCII (RFC 6531)."""

    name: str  # the left part of its Message-ID
    sender: str
    recipient: str
    content: bytes
    needs_utf8: bool = False


class NotInUtf8(Exception):
    """The server takes no address such as this one."""


class Mailer:
    """One mail server. Up to CONNECTIONS mails are handed over at the same time."""

    def __init__(self, url: str, hello: str) -> None:
        """`hello` is the host that we say we are. Raises NoSmtpServer."""
        self.server = smtp_server(url)
        self.hello = hello
        self.idle: deque[Connection] = deque()
        self.places = asyncio.Semaphore(CONNECTIONS)
        self.tls: ssl.SSLContext | None = None

    async def send(self, mail: Outgoing) -> Result:
        """Within SEND_SECONDS. Nothing of what the server says is kept but its codes: it may repeat addresses."""
        try:
            async with asyncio.timeout(SEND_SECONDS), self.places:
                await self.hand_over(mail)
        except NotInUtf8:
            return Hopeless(code="smtputf8_not_supported")
        except Exception as failure:
            result = result_of(failure)
            if result is None:
                raise
            return result
        return Done(reference=mail.name)

    async def hand_over(self, mail: Outgoing) -> None:
        connection = await self.begin(mail)
        try:
            await connection.smtp.rcpt(mail.recipient, encoding="utf-8")
            await connection.smtp.data(mail.content)
        except BaseException as failure:
            await self.let_go(connection, failure)
            raise
        await self.let_go(connection)

    async def begin(self, mail: Outgoing) -> "Connection":
        """A connection on which the server expects the recipient. One that has gone stale meanwhile is replaced."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.is_fresh:
                connection.smtp.close()
                continue
            try:
                await self.say_from(connection, mail)
            except BaseException as failure:
                connection.smtp.close()
                if isinstance(failure, NotInUtf8) or not isinstance(failure, Exception):
                    raise
                continue  # a new one will tell what is wrong
            return connection
        connection = await self.connect()
        try:
            await self.say_from(connection, mail)
        except BaseException as failure:
            await self.let_go(connection, failure)
            raise
        return connection

    @staticmethod
    async def say_from(connection: "Connection", mail: Outgoing) -> None:
        if mail.needs_utf8 and not connection.smtp.supports_extension("smtputf8"):
            raise NotInUtf8
        options = ["SMTPUTF8"] if mail.needs_utf8 else []
        await connection.smtp.mail(mail.sender, options=options, encoding="utf-8" if mail.needs_utf8 else "ascii")

    async def connect(self) -> "Connection":
        import aiosmtplib  # noqa: PLC0415 - a desk that sends no mail needs none of it

        server = self.server
        smtp = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            local_hostname=self.hello,
            timeout=CONNECT_SECONDS,
            use_tls=server.encryption is Encryption.TLS,
            start_tls=STARTTLS[server.encryption],
            tls_context=self.tls_context(server),
        )
        try:
            await smtp.connect()
            smtp.timeout = ANSWER_SECONDS
            if server.user is not None:
                await smtp.login(server.user, server.password)
        except BaseException:
            smtp.close()
            raise
        return Connection(smtp)

    def tls_context(self, server: SmtpServer) -> ssl.SSLContext | None:
        if self.tls is None and server.encryption is not Encryption.NEVER:
            self.tls = ssl.create_default_context()
        return self.tls

    async def let_go(self, connection: "Connection", failure: BaseException | None = None) -> None:
        """For the next mail, if the server still listens to us."""
        connection.mails += 1
        connection.used_at = time.monotonic()
        is_refusal = failure is not None and (code := code_of(failure)) is not None and code != NOT_NOW
        if is_refusal:
            with contextlib.suppress(Exception):
                await connection.smtp.rset()
                self.idle.append(connection)
                return
        if failure is None and connection.mails < MAILS_PER_CONNECTION:
            self.idle.append(connection)
        else:
            connection.smtp.close()

    async def close(self) -> None:
        while self.idle:
            smtp = self.idle.pop().smtp
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await smtp.quit()
            smtp.close()


STARTTLS = {
    Encryption.TLS: False,
    Encryption.REQUIRED: True,
    Encryption.OFFERED: None,  # if it is offered
    Encryption.NEVER: False,
}


class Connection:
    __slots__ = ("mails", "smtp", "used_at")

    def __init__(self, smtp: "SMTP") -> None:
        self.smtp = smtp
        self.mails = 0
        self.used_at = time.monotonic()

    @property
    def is_fresh(self) -> bool:
        return self.smtp.is_connected and time.monotonic() - self.used_at < IDLE_SECONDS


# What went wrong.


def result_of(failure: Exception) -> Result | None:
    """None for what is no failure to send a mail, but a bug."""
    import aiosmtplib  # noqa: PLC0415 - as above

    code = code_of(failure)
    if code is not None:
        detail = enhanced_code(failure)
        if isinstance(failure, aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPDataError) and is_for_good(
            code, detail, is_of_recipient=isinstance(failure, aiosmtplib.SMTPRecipientRefused)
        ):
            return Hopeless(code=f"smtp_{code}", detail=detail)
        return Failed(code=f"smtp_{code}", detail=detail)
    for kind, name in (
        (ssl.SSLError, "smtp_tls"),
        (aiosmtplib.SMTPConnectError, "smtp_unreachable"),
        (TimeoutError, "smtp_timeout"),
        (ConnectionError, "smtp_disconnected"),
        (OSError, "smtp_unreachable"),
        (aiosmtplib.SMTPException, "smtp_no_encryption_or_login"),
    ):
        if isinstance(failure, kind):
            return Failed(code=name, detail=type(failure).__name__)
    return None


def is_for_good(code: int, enhanced: str, *, is_of_recipient: bool) -> bool:
    """Whether this very mailbox will never take the mail; what a server asks of every sender may change."""
    if code in TEMPORARY:
        return False
    if enhanced:
        return enhanced.startswith(ABOUT_THE_RECIPIENT)
    return is_of_recipient and code in NO_SUCH_MAILBOX


def code_of(failure: BaseException) -> int | None:
    """What the server answered with; None where it did not answer."""
    code = getattr(failure, "code", None)
    return code if isinstance(code, int) and code > 0 else None


def enhanced_code(failure: Exception) -> str:
    found = ENHANCED.search(str(getattr(failure, "message", "")))
    return found[1] if found else ""
