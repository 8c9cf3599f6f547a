"""The keys that sign the log's checkpoints: the files outside the database, and what the log says of them.

In one folder lie, readable by their owner only and named after the log, the private key and the last checkpoint that
was signed. What a database says can be rolled back; what lies here says so.
"""

import asyncio
import fcntl
import os
import re
import stat
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
from sqlalchemy import Connection, text

from storage import notes
from storage.database import Database
from storage.desk import OPERATOR, append
from storage.events import recorded
from storage.merkle import EMPTY_ROOT
from storage.notes import BadNote, Checkpoint, Note, Signer, Verifier
from storage.sealing import Circumstances
from workflow.desk import SIGNING_CHAIN
from workflow.errors import BrokenHistory, CaseworkError
from workflow.events import Draft, Recorded, SigningKeyAnnounced, at_text

WAIT_SECONDS = 10.0
BETWEEN_TRIES_SECONDS = 0.02
OTHERS = stat.S_IRWXG | stat.S_IRWXO
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ADOPT = "If that was meant, as when a backup had to be restored, casework checkpoint adopt goes on under a new name"


class CannotSign(CaseworkError):
    """No checkpoint is signed: the text says why, and what to do."""


# The files.


class KeyFolder:
    """Whoever changes anything here, or signs, holds the lock."""

    def __init__(self, folder: Path, log: str) -> None:
        if FILE_NAME.fullmatch(log) is None:
            raise CannotSign(f"the log's name, {log!r}, can name no file")
        self.folder = folder
        self.key = folder / f"{log}.key"
        self.next_key = folder / f"{log}.key.next"
        self.checkpoint = folder / f"{log}.checkpoint"
        self.lock = folder / f"{log}.lock"

    def make(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """One process at a time; the system takes the lock from one that dies. Raises CannotSign."""
        try:
            descriptor = os.open(self.lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise CannotSign(f"the folder of the signing key, {self.folder}, does not exist") from None
        try:
            ends_at = asyncio.get_running_loop().time() + WAIT_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if asyncio.get_running_loop().time() > ends_at:
                        raise CannotSign(f"another process keeps {self.lock} locked") from None
                    await asyncio.sleep(BETWEEN_TRIES_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def look(self) -> None:
        """Raises CannotSign where there is no key at all: then nothing is made here, not even a lock."""
        if not self.key.exists() and not self.next_key.exists():
            raise missing(self.key)

    def signer(self) -> Signer:
        """Raises CannotSign where there is no key, or one that others can read."""
        return read_key(self.key)

    def verifiers(self) -> frozenset[str]:
        """Of the key that is here and of the one that is to be announced. Raises CannotSign where one is no use."""
        return frozenset(str(read_key(one).verifier) for one in (self.key, self.next_key) if one.exists())

    def kept(self) -> Note:
        """The last checkpoint that was signed. Raises CannotSign."""
        with suppress(FileNotFoundError):
            return self.parsed(self.checkpoint.read_bytes())
        raise CannotSign(
            f"the last checkpoint, {self.checkpoint}, is missing: put it back from where you keep a copy. {ADOPT}"
        )

    def parsed(self, octets: bytes) -> Note:
        """What was kept. Raises CannotSign."""
        try:
            note = Note.parse(octets)
            Checkpoint.parse(note.text)
        except BadNote as bad:
            raise CannotSign(f"the last checkpoint, {self.checkpoint}, is damaged: {bad}. {ADOPT}") from bad
        return note

    def keep(self, note: Note) -> None:
        replace_file(self.checkpoint, str(note))

    def prepare(self, signer: Signer) -> None:
        """The key that is to be announced; it signs nothing before it is."""
        replace_file(self.next_key, f"{signer.private_text()}\n")

    def settle(self, history: tuple[SigningKeyAnnounced, ...]) -> None:
        """Finish what was begun: the key that is used is the one that was announced last."""
        if history and self.next_key.exists():
            announced = history[-1]
            signer = read_key(self.next_key)
            if str(signer.verifier) == announced.vkey:
                if self.said_of_checkpoint() in {announced.abandoned, ""} and not announced.statement:
                    self.keep(nothing_signed(signer))
                sync_rename(self.next_key, self.key)
            else:
                self.next_key.unlink()  # it was never announced

    def said_of_checkpoint(self) -> str:
        with suppress(OSError, UnicodeDecodeError):
            return self.checkpoint.read_text()
        return ""


class Kept(msgspec.Struct, frozen=True):
    """The last checkpoint of a log, as it is written, and the verifiers of the keys that lie beside it."""

    checkpoint: bytes
    verifiers: frozenset[str]


def kept_in(folder: Path | None) -> dict[str, Kept]:
    """What a folder holds at this moment, by the log that it is of; but for what is another user's."""
    kept = {}
    for path in folder.glob("*.checkpoint") if folder is not None else ():
        verifiers: frozenset[str] = frozenset()
        with suppress(CannotSign, OSError):  # which is said when it is used
            verifiers = KeyFolder(path.parent, path.stem).verifiers()
        with suppress(OSError):
            kept[path.stem] = Kept(path.read_bytes(), verifiers)
    return kept


def nothing_signed(signer: Signer) -> Note:
    """What is kept before the first checkpoint, so that a file that is missing was taken away."""
    return notes.sign(str(Checkpoint(signer.verifier.name, 0, EMPTY_ROOT)), signer)


def read_key(path: Path) -> Signer:
    try:
        with path.open() as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & OTHERS:
                raise CannotSign(f"the signing key {path} can be read by others than its owner: chmod 600 {path}")
            return Signer.parse(file.read().removesuffix("\n"))
    except FileNotFoundError:
        raise missing(path) from None
    except (BadNote, UnicodeDecodeError) as bad:
        raise CannotSign(f"the signing key {path} is damaged: {bad}") from bad


def missing(key: Path) -> CannotSign:
    return CannotSign(
        f"the signing key {key} is missing: casework migrate makes the first one of a log, and no other."
        " Put it back from where you keep a copy; if it is lost, casework checkpoint adopt goes on under a new name"
    )


def replace_file(path: Path, content: str) -> None:
    """After a crash at any moment there is the old content or the new, whole."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_rename(partial, path)


def sync_rename(source: Path, target: Path) -> None:
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# What the log says of keys.


def statement_of(origin: str, vkey: str) -> str:
    """What the old key signs; it is no checkpoint, which has three lines."""
    return f"{origin}\nis signed from now on by {vkey}\n"


class Announcements(msgspec.Struct, frozen=True):
    """What the chain of the keys leads to."""

    history: tuple[SigningKeyAnnounced, ...] = ()

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        return tuple(Verifier.parse(one.vkey) for one in self.history)

    def after(self, recorded: Recorded) -> "Announcements":
        """Raises BrokenHistory."""
        event, data = recorded.event, recorded.data
        if not isinstance(data, SigningKeyAnnounced):
            raise BrokenHistory(event.chain, event.seq, f"{event.type} has no place in this chain")
        if fault := self.fault_of(data, event.log):
            raise BrokenHistory(event.chain, event.seq, fault)
        return Announcements((*self.history, data))

    def fault_of(self, data: SigningKeyAnnounced, log: str) -> str | None:
        if Verifier.parse(data.vkey).name != data.origin:
            return "the key is of another origin"
        if data.origin != log and not data.origin.startswith(f"{log}/"):
            return "the origin is of another log"
        if data.statement:
            last = self.history[-1] if self.history else None
            if last is None or last.origin != data.origin:
                return "no earlier key can have stated this"
            note = Note.parse(data.statement.encode())
            notes.verify(note, [Verifier.parse(last.vkey)])
            return None if note.text == statement_of(data.origin, data.vkey) else "the statement is about another key"
        if any(one.origin == data.origin for one in self.history):
            return "the key before it has not stated this"
        if data.abandoned:
            Checkpoint.parse(Note.parse(data.abandoned.encode()).text)
        return None


def follow_keys(before: Announcements | None, recorded: Recorded) -> Announcements:
    return (before or Announcements()).after(recorded)


class Introduction(msgspec.Struct, frozen=True):
    """What a key has signed about the one after it."""

    key: str
    statement: str


def introductions(history: Iterable[SigningKeyAnnounced], verifier: Verifier) -> tuple[Introduction, ...]:
    """From the first key of this origin to this key, by which those who trust an earlier one get to it."""
    found: list[Introduction] = []
    for earlier, later in pairwise(one for one in history if one.origin == verifier.name):
        if earlier.vkey == str(verifier):
            break
        found.append(Introduction(earlier.vkey, later.statement))
    return tuple(found)


CHAIN = text("SELECT body, hash FROM events WHERE chain = :chain ORDER BY seq")
POLICY = text("SELECT max(version) FROM policies")


def announcements(connection: Connection) -> tuple[SigningKeyAnnounced, ...]:
    rows = connection.execute(CHAIN, {"chain": SIGNING_CHAIN})
    return tuple(one.data for one in (recorded(*row) for row in rows) if isinstance(one.data, SigningKeyAnnounced))


def announce(connection: Connection, data: SigningKeyAnnounced, log: str, now: datetime) -> None:
    last = connection.execute(
        text("SELECT max(at) FROM events WHERE chain = :chain"), {"chain": SIGNING_CHAIN}
    ).scalar()
    if last is not None:
        now = max(now, datetime.fromisoformat(last) + timedelta(microseconds=1))
    circumstances = Circumstances(
        log=log,
        policy=connection.execute(POLICY).scalar_one(),
        at=now,
        actor=OPERATOR.key,
        via="cli",
        request=str(uuid.uuid4()),
    )
    append(connection, circumstances, SIGNING_CHAIN, Draft(data=data))


# Making, changing and replacing the key.


async def log_of(database: Database) -> str:
    row = await database.first(text("SELECT log FROM desk"))
    if row is None:
        raise CannotSign("there is no desk in this database")
    return str(row[0])


async def ensure_key(database: Database, folder: Path, now: datetime) -> None:
    """Make and announce the first key of a log that has none. Raises CannotSign for one that others can read.

    A key that was announced and is missing is not made again: that would hide that it is gone.
    """
    log = await log_of(database)
    keys = KeyFolder(folder, log)
    keys.make()
    async with keys.locked():
        history = await database.run(announcements)
        keys.settle(history)
        if history:
            if keys.key.exists():
                keys.signer()
            return
        if keys.checkpoint.exists() and Checkpoint.parse(keys.kept().text).size:
            return  # the database is older than its key: signing says so
        await install(database, keys, Signer.generate(log), now)


async def rotate(database: Database, folder: Path, now: datetime) -> Verifier:
    """Let another key sign from now on, which the one before it introduces. Raises CannotSign."""
    keys = KeyFolder(folder, await log_of(database))
    async with keys.locked():
        history = await database.run(announcements)
        keys.settle(history)
        old = announced_signer(keys, history)
        new = Signer.generate(old.verifier.name)
        statement = notes.sign(statement_of(new.verifier.name, str(new.verifier)), old)
        return await install(database, keys, new, now, statement=str(statement))


async def adopt(database: Database, folder: Path, now: datetime) -> Verifier:
    """Go on from the database as it is, under a new origin and key, naming the checkpoint that is given up.

    For an operator who knows why the log is another than the one that was signed.
    """
    log = await log_of(database)
    keys = KeyFolder(folder, log)
    keys.make()
    async with keys.locked():
        keys.settle(await database.run(announcements))
        abandoned = keys.said_of_checkpoint() or await newest_note(database)
        if abandoned:
            try:
                Checkpoint.parse(Note.parse(abandoned.encode()).text)
            except BadNote as bad:
                raise CannotSign(f"{keys.checkpoint} is damaged: if it cannot be put back, remove it first") from bad
        return await install(database, keys, Signer.generate(f"{log}/{at_text(now)}"), now, abandoned=abandoned)


async def newest_note(database: Database) -> str:
    row = await database.first(text("SELECT note FROM checkpoints ORDER BY id DESC LIMIT 1"))
    return str(row[0]) if row else ""


async def install(database: Database, keys: KeyFolder, signer: Signer, now: datetime, **grounds: str) -> Verifier:
    """First the key is safe on the disk, then it is announced, then used; `settle` finishes what was cut off."""
    log = await log_of(database)
    data = SigningKeyAnnounced(origin=signer.verifier.name, vkey=str(signer.verifier), **grounds)
    keys.prepare(signer)
    await database.transact(lambda connection: announce(connection, data, log, now))
    keys.settle(await database.run(announcements))
    return signer.verifier


def announced_signer(keys: KeyFolder, history: tuple[SigningKeyAnnounced, ...]) -> Signer:
    """The key in the file, if it is the one that the log announced last. Raises CannotSign."""
    if not history:
        raise CannotSign("the log has no signing key yet: casework migrate makes one")
    signer = keys.signer()
    if str(signer.verifier) != history[-1].vkey:
        raise CannotSign(f"the signing key {keys.key} is not the one that the log announced last. {ADOPT}")
    return signer
