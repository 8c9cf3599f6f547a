"""Hands the newest checkpoint to somebody outside: from then on nobody inside can rewrite what it covers unnoticed."""

import mailbox
import os
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from api.smtp_server import Encryption, NoSmtpServer, SmtpServer, smtp_server
from storage.checkpoints import Signed
from storage.database import utc_now
from workflow.errors import CaseworkError

TIMEOUT_SECONDS = 10
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class NotPublished(CaseworkError):
    """Nobody has got the checkpoint; the text says why."""


def publish(*ways: Callable[[], object]) -> None:
    """Each of them, whatever becomes of the others. Raises NotPublished, with all that went wrong."""
    failures = []
    for way in ways:
        try:
            way()
        except CaseworkError as failure:
            failures.append(str(failure))
        except OSError as failure:
            failures.append(f"{failure.filename}: {failure.strerror}")
    if failures:
        raise NotPublished("; ".join(failures))


def append_to(file: Path, signed: Signed) -> bool:
    """Whether it is new there. Checkpoints are parted by a blank line; the file is safe on the disk."""
    with file.open("a+b") as stream:
        stream.seek(0)
        held, note = stream.read(), signed.note.encode()
        if note in held:
            return False
        stream.write(b"\n" + note if held else note)
        stream.flush()
        os.fsync(stream.fileno())
    return True


class NoRedirects(HTTPRedirectHandler):
    """What is signed goes where the operator said."""

    def redirect_request(self, *_: Any) -> None:
        return None


def post_to(url: str, signed: Signed) -> None:
    """As text/plain, over HTTPS (or to this machine itself). Raises NotPublished unless the answer is a 2xx."""
    target = parsed(url, "the webhook's URL")
    if target.scheme != "https" and not (target.scheme == "http" and target.hostname in LOOPBACK):
        raise NotPublished("a webhook's URL has to begin with https://")
    headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "casework"}
    try:
        request = Request(url, signed.note.encode(), headers, method="POST")  # noqa: S310 - checked above
        build_opener(NoRedirects).open(request, timeout=TIMEOUT_SECONDS).close()
    except HTTPError as refused:
        with refused:
            raise NotPublished(f"{target.hostname} answered {refused.code}") from refused
    except (URLError, HTTPException, OSError, ValueError) as failure:  # the last of a host that can be none
        raise NotPublished(f"{target.hostname} cannot be reached: {failure}") from failure


def parsed(url: str, name: str) -> SplitResult:
    """Raises NotPublished."""
    try:
        target = urlsplit(url)
        _ = target.port  # which is looked at only then
    except ValueError as unfit:
        raise NotPublished(f"{name} is none: {unfit}") from unfit
    return target


def deliver_to(maildir: Path, signed: Signed, sender: str) -> None:
    mailbox.Maildir(maildir).add(letter(signed, sender, sender))


def mail_to(address: str, signed: Signed, sender: str, url: str) -> None:
    """By the SMTP server that CASEWORK_SMTP_URL names. Raises NotPublished."""
    try:
        server = smtp_server(url)
    except NoSmtpServer as unfit:
        raise NotPublished(f"CASEWORK_SMTP_URL {unfit}") from unfit
    try:
        with connected(server) as connection:
            if server.user is not None:
                connection.login(server.user, server.password)
            connection.send_message(letter(signed, sender, address))
    except (smtplib.SMTPException, OSError, ValueError) as failure:
        raise NotPublished(f"{server.host} did not take the mail: {failure}") from failure


def connected(server: SmtpServer) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if server.encryption is Encryption.TLS:
        return smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_SECONDS, context=context)
    connection = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_SECONDS)
    connection.ehlo()
    if server.encryption is not Encryption.NEVER and connection.has_extn("starttls"):
        connection.starttls(context=context)
    elif server.encryption is Encryption.REQUIRED:
        connection.close()
        raise NotPublished(f"{server.host} offers no encryption")
    return connection


def letter(signed: Signed, sender: str, to: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = sender, to
    message["Subject"] = f"Checkpoint: {signed.size} events in {signed.origin}"
    message["Date"] = format_datetime(utc_now())
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(signed.note, cte="base64")  # no server on the way may change a byte
    return message
