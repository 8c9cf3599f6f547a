"""Finds the mails in files: single letters, mbox files, Maildirs, and folders of any of these."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from api.mail_parsing import Limits

# Enough for the parser to see that a mail is too large, and no more of it in memory.
ENOUGH_BYTES = Limits().message_bytes + 1

LINE_BYTES = 64 * 1024  # of a longer line a piece at a time
MBOX_LINE = b"From "
QUOTED_MBOX_LINE = re.compile(rb">+From ")
LIKELY_MAIL = re.compile(rb"(?:\xef\xbb\xbf)?(?:\r?\n)*(?:From |[A-Za-z][A-Za-z0-9-]{0,99}:[ \t])")
MAIL_SUFFIX = ".eml"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One mail as it lies there; `where` is for people."""

    where: str
    raw: bytes


class Unread(msgspec.Struct, frozen=True, kw_only=True):
    """Something that should have been read, and could not be."""

    where: str
    problem: str


class NoMail(msgspec.Struct, frozen=True, kw_only=True):
    """A file that lies among the mails and does not look like one."""

    where: str


Lying = Found | Unread | NoMail


def mails_in(path: Path, *, spared: frozenset[str] = frozenset(), named: bool = True) -> Iterator[Lying]:
    """Every mail in a file or folder, by name; a folder may hold others, Maildirs too. Raises nothing.

    The files `spared` (by their real paths) are not even opened. A file that is not itself `named` by somebody counts
    only if it looks like mail.
    """
    try:
        if path.is_dir():
            yield from mails_in_folder(path, spared)
        elif os.path.realpath(path) in spared or not (named or looks_like_mail(path)):
            yield NoMail(where=str(path))
        else:
            yield from mails_in_file(path)
    except OSError as failure:
        yield Unread(where=str(path), problem=failure.strerror or str(failure))


def mails_in_folder(folder: Path, spared: frozenset[str]) -> Iterator[Lying]:
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    if all((folder / name).is_dir() for name in ("cur", "new")):
        # A name begins with the time of delivery; what lies in tmp, or beside these, is no mail that has arrived.
        letters = [letter for name in ("cur", "new") for letter in (folder / name).iterdir()]
        for letter in sorted(letters, key=lambda letter: letter.name):
            yield from mails_in(letter, spared=spared)
        entries = [entry for entry in entries if entry.name not in ("cur", "new", "tmp") and entry.is_dir()]
    for entry in entries:
        if entry.is_dir() and entry.is_symlink():
            yield Unread(where=str(entry), problem="is a link to a folder, and may lead in a circle")
        else:
            yield from mails_in(entry, spared=spared, named=False)


def mails_in_file(path: Path) -> Iterator[Lying]:
    if not path.is_file():
        problem = "is no file" if path.exists() else "there is no such file or folder"
        yield Unread(where=str(path), problem=problem)
        return
    with path.open("rb") as file:
        is_mbox = path.suffix.lower() != MAIL_SUFFIX and file.read(len(MBOX_LINE)) == MBOX_LINE
        file.seek(0)
        if is_mbox:
            for number, raw in enumerate(mails_in_mbox(file), start=1):
                yield Found(where=f"{path}, mail {number}", raw=raw)
        else:
            yield Found(where=str(path), raw=file.read(ENOUGH_BYTES))


def looks_like_mail(path: Path) -> bool:
    if path.suffix.lower() == MAIL_SUFFIX or not path.is_file():
        return True
    try:
        with path.open("rb") as file:
            return LIKELY_MAIL.match(file.read(1024)) is not None
    except OSError:
        return True  # reading it will say why it cannot be read


def mails_in_mbox(file: BinaryIO) -> Iterator[bytes]:
    """One mail at a time: each begins with a line "From …" after a blank one (RFC 4155).

    The lines of a mail that begin like that are quoted with ">", which is undone.
    """
    mail: bytearray | None = None
    line_begins = after_blank_line = True
    while piece := file.readline(LINE_BYTES):
        if line_begins and after_blank_line and piece.startswith(MBOX_LINE):
            if mail is not None:
                yield whole(mail)
            mail = bytearray()
        elif mail is not None and len(mail) < ENOUGH_BYTES:
            quoted = line_begins and QUOTED_MBOX_LINE.match(piece) is not None
            mail += piece[1:] if quoted else piece
        after_blank_line = line_begins and not piece.strip(b"\r\n")
        line_begins = piece.endswith(b"\n")
    if mail is not None:
        yield whole(mail)


def whole(mail: bytearray) -> bytes:
    """Without the blank line that separates it from the next."""
    raw = bytes(mail[:ENOUGH_BYTES])
    return raw.removesuffix(b"\r\n" if raw.endswith(b"\n\r\n") else b"\n" if raw.endswith(b"\n\n") else b"")
