"""The journal of erasures: a file outside the database, so that what was erased does not come back with a backup.

It is only ever added to, and holds no personal data: a heading, then a line of JSON for each `erased` event.
"""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from workflow.canonical import canonical
from workflow.errors import CaseworkError
from workflow.events import Erased, Recorded

FORMAT = 1
HINT = (
    "put it back from where you keep a copy; if it is lost, casework erase --renew-journal makes another of the"
    " erasures that the log knows of"
)


class CannotErase(CaseworkError):
    """Nothing is erased: the text says why, and what to do."""


class Heading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    casework_erasures: int
    log: str


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `erased` event: by `event`, its hash. `reapplies` is the hash of the one that it makes good again."""

    chain: str
    seq: int
    through: int
    event: str
    at: str
    legal_basis: str
    reapplies: str = ""

    @property
    def target(self) -> str:
        """The case's id, or the chain of a mail that was set aside."""
        return self.chain.removeprefix("case:")

    @property
    def key(self) -> str:
        """What names the erasure, however often it had to be carried out."""
        return self.reapplies or self.event


def entry_of(recorded: Recorded) -> Entry:
    event, data = recorded.event, recorded.data
    if not isinstance(data, Erased):
        raise TypeError(event.type)
    return Entry(
        chain=event.chain,
        seq=event.seq,
        through=data.through,
        event=recorded.hash,
        at=event.at,
        legal_basis=data.legal_basis,
        reapplies=data.reapplies,
    )


class Journal:
    """`may_begin`: nothing has been erased yet, so that a file that is missing was never there."""

    def __init__(self, folder: Path, log: str) -> None:
        self.may_begin = False
        self.folder = folder
        self.path = folder / f"{log}.erasures"
        self.log = log

    def exists(self) -> bool:
        return self.path.exists()

    def make(self, entries: Iterable[Entry] = ()) -> None:
        """A new one; it is there whole, or not at all. Raises FileExistsError: none is ever replaced."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")
        lines = [canonical(Heading(casework_erasures=FORMAT, log=self.log)), *map(canonical, entries)]
        try:
            with os.fdopen(os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
                file.write(b"".join(line + b"\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
            os.link(partial, self.path)
        finally:
            partial.unlink(missing_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def check(self) -> None:
        """Make the very first one; raises CannotErase unless it can be added to."""
        if self.may_begin and not self.exists():
            try:
                self.make()
            except FileExistsError:  # another process was faster
                pass
            except OSError as failure:
                said = failure.strerror
                raise CannotErase(f"the journal of erasures, {self.path}, cannot be made: {said}") from failure
        self.entries()
        if not os.access(self.path, os.W_OK):
            raise CannotErase(f"the journal of erasures, {self.path}, cannot be written")

    def entries(self) -> tuple[Entry, ...]:
        """Oldest first. Raises CannotErase where it is missing or damaged."""
        try:
            *lines, last = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            raise CannotErase(f"the journal of erasures, {self.path}, is missing: {HINT}") from None
        except OSError as failure:
            raise CannotErase(f"the journal of erasures, {self.path}, cannot be read: {failure.strerror}") from failure
        del last  # empty, or what was cut off while it was written, and nobody was told of
        try:
            heading = msgspec.json.decode(lines[0] if lines else b"", type=Heading)
            entries = tuple(msgspec.json.decode(line, type=Entry) for line in lines[1:] if line)
        except msgspec.MsgspecError as bad:
            raise CannotErase(f"the journal of erasures, {self.path}, is damaged: {bad}; {HINT}") from bad
        if heading != Heading(casework_erasures=FORMAT, log=self.log):
            raise CannotErase(f"{self.path} is the journal of the log {heading.log}, and this log is {self.log}")
        return entries

    def add(self, entries: Iterable[Entry]) -> None:
        """Safe on the disk when this returns; several processes may do it at once. Raises OSError."""
        lines = b"".join(canonical(one) + b"\n" for one in entries)
        if not lines:
            return
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            whole = os.pread(descriptor, 1, size - 1) == b"\n" if size else True
            if not whole:  # what an earlier process could not finish
                os.ftruncate(descriptor, size - len(os.pread(descriptor, size, 0).rpartition(b"\n")[2]))
            written = os.write(descriptor, lines)
            if written < len(lines):
                raise OSError(f"only {written} of {len(lines)} bytes could be written to {self.path}")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def undone(entries: tuple[Entry, ...], known: tuple[Entry, ...]) -> list[Entry]:
    """The erasures of the journal that the log lacks, each once."""
    keys = {one.key for one in known}
    lacking: dict[str, Entry] = {}
    for one in entries:
        if one.key not in keys:
            lacking.setdefault(one.key, one)
    return [*lacking.values()]


def journal_faults(journal: Journal, known: tuple[Entry, ...]) -> list[str]:
    """What would let erased data come back. A journal is made before anything is erased, so none need be there yet."""
    if not known and not journal.exists():
        return []
    try:
        entries = journal.entries()
    except CannotErase as fault:
        return [str(fault)]
    lacking = {one.event for one in known} - {one.event for one in entries}
    return [f"the journal of erasures, {journal.path}, lacks {len(lacking)} that the log has"] if lacking else []
