"""Builds the mails that leave: text and HTML of the same words, in the thread of the client's mail program."""

import html
import re
from binascii import b2a_qp
from collections.abc import Iterable, Sequence
from datetime import datetime
from email import policy
from email.headerregistry import Address
from email.utils import format_datetime
from functools import lru_cache

import msgspec

from api.letters.composing import one_line
from api.mail_addresses import mailbox_of
from api.sending import Outgoing

MOST_REFERENCES = 20  # the first and the latest; programs thread by the last one that they know
MAX_SUBJECT = 400

# What may stand in a header as it is (RFC 5322 §3.6.4, generously).
MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}>")
PART = 'Content-Type: text/{}; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n'
LINK = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)\]]")


AUTOMATIC = (
    ("Auto-Submitted", "auto-replied"),  # RFC 3834 §5
    ("Precedence", "bulk"),  # what older programs look at
    ("X-Auto-Response-Suppress", "All"),  # and Exchange
)


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a mail says. `thread` are the Message-IDs of the conversation so far, oldest first; it answers `answers`."""

    name: str
    subject: str
    text: str
    language: str
    thread: Sequence[str] = ()
    answers: str = ""
    is_automatic: bool = False


def build(content: Content, *, to: str, support: str, tag: str, organisation: str, at: datetime) -> Outgoing:
    """To one recipient. Raises Unmailable.

    The envelope's sender and Reply-To carry the tag, so that an answer, and a bounce, find the case.
    """
    recipient, own = mailbox_of(to), mailbox_of(support)
    reply_to = own.with_tag(tag)
    needs_utf8 = not (recipient.is_ascii and own.is_ascii)
    fields = [
        always("From", str(Address(one_line(organisation), own.local, own.host)), is_utf8=needs_utf8),
        field("Reply-To", str(Address("", reply_to.local, reply_to.host)), is_utf8=needs_utf8),
        field("To", str(Address("", recipient.local, recipient.host)), is_utf8=needs_utf8),
        field("Subject", one_line(content.subject)[:MAX_SUBJECT], is_utf8=needs_utf8),
        f"Date: {format_datetime(at)}\r\n".encode(),
        *(always(name, value) for name, value in (AUTOMATIC if content.is_automatic else ())),
        always("Content-Language", content.language),
        always("MIME-Version", "1.0"),
    ]
    return Outgoing(
        name=content.name,
        sender=reply_to.address,
        recipient=recipient.address,
        content=b"".join((thread_fields(content, own.host), *fields, body(content))),
        needs_utf8=needs_utf8,
    )


def field(name: str, value: str, *, is_utf8: bool = False) -> bytes:
    """Encoded and folded as RFC 5322 and 2047 have it, or RFC 6532. Raises ValueError for more than one line."""
    rules = policy.SMTPUTF8 if is_utf8 else policy.SMTP
    return rules.fold_binary(*rules.header_store_parse(name, value))


always = lru_cache(maxsize=64)(field)  # what every mail says is encoded once


def body(content: Content) -> bytes:
    """With the field that says how it is divided. The standard library takes longer for this than sending takes."""
    boundary = f"=_{content.name}"  # no line that is quoted-printable holds "=_" (RFC 2045 §6.7)
    parts = (("plain", content.text), ("html", as_html(content.text, content.language)))
    said = "".join(f"--{boundary}\r\n{PART.format(kind)}\r\n{printable(text)}\r\n" for kind, text in parts)
    return f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n{said}--{boundary}--\r\n'.encode()


def printable(text: str) -> str:
    """Quoted-printable, in lines that end as mail wants it."""
    lines = "".join(f"{line}\n" for line in text.splitlines())
    return b2a_qp(lines.encode(), istext=True).decode().replace("\n", "\r\n")


def message_id(name: str, support: str) -> str:
    """Of a letter of ours. Raises Unmailable."""
    return f"<{name}@{mailbox_of(support).host}>"


def thread_fields(content: Content, host: str) -> bytes:
    """Written here and not by the standard library, which takes a long Message-ID for words to be encoded."""
    fields = [("Message-ID", [f"<{content.name}@{host}>"])]
    if answered := [*fit_ids([content.answers])]:
        fields.append(("In-Reply-To", answered))
    known = [*dict.fromkeys(fit_ids([*content.thread, content.answers]))]
    if known:
        fields.append(("References", [*known[:1], *known[1:][-MOST_REFERENCES:]]))
    lines = (f"{field}:" + "\r\n".join(f" {one}" for one in ids) + "\r\n" for field, ids in fields)
    return "".join(lines).encode()


def fit_ids(ids: Iterable[str]) -> Iterable[str]:
    return (one for one in ids if MESSAGE_ID.fullmatch(one))


# The same in HTML: paragraphs, lines and links, nothing else.


def as_html(text: str, language: str) -> str:
    paragraphs = "\n".join(f"<p>{lines_of(one)}</p>" for one in re.split(r"\n{2,}", text.strip("\n")))
    return f'<!DOCTYPE html>\n<html lang="{html.escape(language)}"><body dir="auto">\n{paragraphs}\n</body></html>\n'


def lines_of(paragraph: str) -> str:
    return "<br>\n".join(linked(line) for line in paragraph.split("\n"))


def linked(line: str) -> str:
    """Escaped, with addresses on the web as links."""
    pieces, end = [], 0
    for found in LINK.finditer(line):
        target = html.escape(found[0])
        pieces += [html.escape(line[end : found.start()]), f'<a href="{target}">{target}</a>']
        end = found.end()
    return "".join([*pieces, html.escape(line[end:])])
