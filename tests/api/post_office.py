"""A real mail server for tests, which can be told to be slow, choosy or gone."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct

OK = "250 OK"
Answer = Callable[[str], str]


class Delivered(Struct, frozen=True):
    sender: str
    recipients: list[str]
    content: bytes
    is_encrypted: bool
    user: str


class PostOffice:
    """Takes every mail, unless told otherwise; `asked` counts connections, `answers` are for the next recipients."""

    def __init__(self) -> None:
        self.delivered: list[Delivered] = []
        self.connections: list[SMTP] = []
        self.recipients: list[str] = []  # answers to the next RCPT commands, one each
        self.contents: list[str] = []  # and to the next DATA commands
        self.hangs_up = False
        self.late_seconds = 0.0
        self.port = 0

    def url(self, host: str = "127.0.0.1", user: str = "", scheme: str = "smtp", query: str = "") -> str:
        return f"{scheme}://{user}{host}:{self.port}{query}"

    def end_connections(self) -> None:
        for one in self.connections:
            if one.transport is not None:
                one.transport.close()

    # What the server asks.

    async def handle_RCPT(self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]) -> str:  # noqa: N802
        answer = self.recipients.pop(0) if self.recipients else OK
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.hangs_up:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        await asyncio.sleep(self.late_seconds)
        answer = self.contents.pop(0) if self.contents else OK
        if answer.startswith("2"):
            content = envelope.original_content or b""
            signed_in: object = session.auth_data
            user = signed_in.login.decode() if isinstance(signed_in, LoginPassword) else ""
            is_encrypted = session.ssl is not None
            self.delivered.append(
                Delivered(str(envelope.mail_from), list(envelope.rcpt_tos), content, is_encrypted, user)
            )
        return answer


@asynccontextmanager
async def open_post_office(
    tls: ssl.SSLContext | None = None, *, password: str = "", in_tls: bool = False, **options: Any
) -> AsyncIterator[PostOffice]:
    """On a port of its own; with `tls` it offers STARTTLS, or speaks nothing else, with `password` it asks for it."""
    office = PostOffice()

    def authenticate(_: SMTP, __: Session, ___: Envelope, ____: str, given: Any) -> AuthResult:
        fits = isinstance(given, LoginPassword) and given.password == password.encode()
        return AuthResult(success=fits, handled=False, auth_data=given)

    def made() -> SMTP:
        server = SMTP(
            office,
            hostname="post.example",
            tls_context=None if in_tls else tls,
            authenticator=authenticate if password else None,
            auth_required=bool(password),
            auth_require_tls=bool(password) and not in_tls,
            enable_SMTPUTF8=options.get("utf8", True),
            ident="post office",
        )
        office.connections.append(server)
        return server

    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0, ssl=tls if in_tls else None)
    office.port = server.sockets[0].getsockname()[1]
    try:
        yield office
    finally:
        server.close()
        office.end_connections()
        await asyncio.sleep(0)


def a_certificate(folder: Path, host: str = "localhost") -> tuple[ssl.SSLContext, Path]:
    """Of a server of this name, for a day; and the file that whoever trusts it has."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file, private = folder / "certificate.pem", folder / "key.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, private)
    return context, file
