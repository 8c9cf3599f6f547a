"""The mail server that everything leaves by, as CASEWORK_SMTP_URL names it."""

from enum import StrEnum
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from workflow.errors import CaseworkError

SMTP_PORT, TLS_PORT = 25, 465
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
SHAPE = "has to be like smtp://user:password@host:587, or smtps://…"


class Encryption(StrEnum):
    TLS = "tls"  # from the first byte
    REQUIRED = "required"  # by STARTTLS
    OFFERED = "offered"  # by STARTTLS, if the server offers it
    NEVER = "never"


class NoSmtpServer(CaseworkError):
    """The URL names none; the text says why, and nothing of its password."""


class SmtpServer(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int
    encryption: Encryption
    user: str | None = None
    password: str = ""


def smtp_server(url: str) -> SmtpServer:
    """Of smtp[s]://[user:password@]host[:port][?starttls=never]. Raises NoSmtpServer.

    Whatever leaves this machine is encrypted, unless the URL says that it never is.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        options = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise NoSmtpServer(SHAPE) from None  # what the library says repeats parts of the password
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or options not in ({}, {"starttls": ["never"]}):
        raise NoSmtpServer(SHAPE)
    is_tls = parts.scheme == "smtps"
    return SmtpServer(
        host=parts.hostname,
        port=port or (TLS_PORT if is_tls else SMTP_PORT),
        encryption=encryption_of(parts.hostname, is_tls=is_tls, never=bool(options)),
        user=None if parts.username is None else unquote(parts.username),
        password=unquote(parts.password or ""),
    )


def encryption_of(host: str, *, is_tls: bool, never: bool) -> Encryption:
    if is_tls:
        return Encryption.TLS
    if never:
        return Encryption.NEVER
    return Encryption.OFFERED if host in THIS_MACHINE else Encryption.REQUIRED
