"""Proves the chain of one case, level by level, each by itself: what `storage.verify` does for the whole log.

What was done to other cases, or to the end of the log, only the whole verification tells.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError

from storage import notes
from storage.batch import CASE_COLUMNS, case_row
from storage.chains import COLUMNS, ROWS, Chain, Known, differing
from storage.checkpoints import NEWEST, Signed, contradiction
from storage.database import Database, asking
from storage.events import UNFIT, misplaced, recorded, strictly
from storage.keys import CHAIN, Announcements, CannotSign, KeyFolder, kept_in
from storage.merkle import verify_inclusion
from storage.notes import Checkpoint, Note
from storage.sealing import commitment
from storage.submissions import Row
from storage.tree import BrokenTree, Tree
from storage.verify import (
    AS_BYTES,
    BOOKING_COLUMNS,
    FILES,
    KNOWN,
    LINKS,
    PURCHASE_COLUMNS,
    TEXTS,
    Drift,
    Fault,
    booking_row,
    commitments,
    drifts,
    purchase_row,
)
from workflow.canonical import ZEROS, leaf_hash
from workflow.cases import Case, chain_of
from workflow.desk import SIGNING_CHAIN
from workflow.errors import BrokenHistory, CaseworkError, NotFound
from workflow.events import Erased, Event, Recorded
from workflow.people import token_commitment


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """What was checked; `holds` is None where there was nothing to check it with."""

    name: str
    holds: bool | None
    said: str
    faults: tuple[Fault, ...] = ()


class CaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """`version` is that of the last event; `checkpoint` the newest that was signed."""

    case_id: str
    version: int
    checkpoint: Signed | None
    levels: tuple[Level, ...]

    @property
    def holds(self) -> bool:
        """Nothing is wrong, as far as there was something to check it with."""
        return all(one.holds is not False for one in self.levels)


async def verify_case(database: Database, case_id: str, folder: Path | None = None) -> CaseReport:
    """As it is at one moment; the last checkpoint is kept outside, in `folder`. Raises NotFound or Unavailable."""
    # Before the database is looked at, whose log may grow and be signed meanwhile.
    kept = {log: one.checkpoint for log, one in kept_in(folder).items()}

    def look(connection: Connection) -> CaseReport:
        hold_still(connection)
        return CaseVerification(connection, case_id, kept).report()

    with asking():
        return await database.run(look)


def hold_still(connection: Connection) -> None:
    """Whatever is asked from now on is answered from one moment."""
    is_sqlite = connection.dialect.name == "sqlite"
    connection.execute(text("BEGIN" if is_sqlite else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))


NO_TEXT = "Could not decode"


class Damaged(CaseworkError):
    """SQLite keeps whatever it is given: here something that is no text."""


# What comes of values that no column should hold.
WRONG: tuple[type[Exception], ...] = (
    AttributeError,
    BrokenHistory,
    BrokenTree,
    CannotSign,
    Damaged,
    LookupError,
    TypeError,
    *UNFIT,
)


class Stored(NamedTuple):
    """An event as it is stored: `event` is None where its bytes are none that casework writes, and `unfit` says why."""

    seq: int
    body: bytes
    digest: str
    linked: object
    columns: Sequence[Any]
    position: int | None
    event: Event | None
    unfit: str

    @property
    def as_it_is(self) -> Recorded | None:
        """With the hash that its bytes have, whatever is stored beside them."""
        if self.event is None:
            return None
        return Recorded(event=self.event, data=self.event.data, hash=leaf_hash(self.body))


class CaseVerification:
    def __init__(self, connection: Connection, case_id: str, kept: dict[str, bytes]) -> None:
        self.connection = connection
        self.case_id = case_id
        self.chain = chain_of(case_id)
        self.kept = kept
        self.bytes = AS_BYTES[connection.dialect.name]
        self.stored: Sequence[Stored] = ()
        self.damage = ""
        try:
            self.stored = [*self.read()]
        except Damaged as damage:
            self.damage = str(damage)
        if not self.stored and not self.damage:
            raise NotFound("case")

    def report(self) -> CaseReport:
        checks: dict[str, Callable[[], Level]] = {
            "bytes": lambda: self.level("bytes", self.bytes_faults, self.bytes_said),
            "hashes": lambda: self.level(
                "hashes", self.hash_faults, lambda: "each is the SHA-256 of its event's bytes"
            ),
            "chain": lambda: self.level("chain", self.chain_faults, self.chain_said),
            "rules": lambda: self.level("rules", self.rule_faults, self.rules_said),
            "row": lambda: self.level("row", self.row_faults, self.row_said),
            "tree": self.tree,
            "signature": self.signature,
            "outside": self.outside,
            "texts": lambda: self.level("texts", self.text_faults, self.texts_said),
        }
        levels = tuple(self.tried(name, check) for name, check in checks.items())
        version = max((one.seq for one in self.stored), default=0)
        checkpoint = None
        with suppress(Damaged):
            checkpoint = self.checkpoint
        return CaseReport(case_id=self.case_id, version=version, checkpoint=checkpoint, levels=levels)

    def tried(self, name: str, check: Callable[[], Level]) -> Level:
        """What a check says, or what kept it from being made."""
        if self.damage and name != "bytes":
            return Level(name=name, holds=None, said="not looked at: the events cannot be read")
        try:
            return check()
        except WRONG as wrong:
            return self.failing(name, self.fault(f"what is stored cannot be read: {wrong}"))

    def level(self, name: str, find: Callable[[], Iterator[Fault]], said: Callable[[], str]) -> Level:
        if faults := tuple(find()):
            return self.failing(name, *faults)
        return Level(name=name, holds=True, said=said())

    def failing(self, name: str, *faults: Fault) -> Level:
        said = "one thing is wrong" if len(faults) == 1 else f"{len(faults)} things are wrong"
        return Level(name=name, holds=False, said=said, faults=faults)

    def fault(self, what: str, seq: int | None = None, drift: tuple[Drift, ...] = ()) -> Fault:
        return Fault(what=what, chain=self.chain if seq is not None else None, seq=seq, drift=drift)

    @property
    def count(self) -> str:
        return "one event" if len(self.stored) == 1 else f"{len(self.stored)} events"

    # What is stored.

    def rows(self, query: str | TextClause, **parameters: Any) -> Sequence[Row]:
        """Raises Damaged for a text that is none."""
        try:
            statement = text(query) if isinstance(query, str) else query
            return [tuple(row) for row in self.connection.execute(statement, parameters)]
        except DBAPIError as failure:
            if NO_TEXT in str(failure.orig):
                raise Damaged(str(failure.orig)) from failure
            raise

    def read(self) -> Iterator[Stored]:
        query = ROWS.format(zeros=ZEROS, **self.bytes)
        positions = {row[0]: row[1] for row in self.rows(POSITIONS, chain=self.chain)}
        for body, digest, linked, *columns in self.rows(f"{query} WHERE chain = :chain ORDER BY seq", chain=self.chain):
            event, unfit = None, ""
            try:
                event = strictly(body)
            except UNFIT as failure:
                unfit = str(failure)
            seq = columns[SEQ]
            yield Stored(seq, body, digest, linked, columns, positions.get(seq), event, unfit)

    @cached_property
    def known(self) -> Known:
        """The rules that the log has."""
        known = Known()
        for body, digest in self.rows(KNOWN):
            with suppress(KeyError, *UNFIT):
                known.learn(recorded(body, digest))
        return known

    @cached_property
    def checkpoint(self) -> Signed | None:
        """Raises Damaged."""
        rows = self.rows(NEWEST)
        try:
            return msgspec.convert(dict(zip(Signed.__struct_fields__, rows[0], strict=True)), Signed) if rows else None
        except msgspec.ValidationError as unfit:
            raise Damaged(f"the newest checkpoint: {unfit}") from unfit

    @cached_property
    def announced(self) -> Announcements:
        """Raises BrokenHistory, or what comes of a key that is none."""
        found = Announcements()
        for body, digest in self.rows(CHAIN, chain=SIGNING_CHAIN):
            found = found.after(recorded(body, digest))
        return found

    # Each event by itself.

    def bytes_faults(self) -> Iterator[Fault]:
        if self.damage:
            yield self.fault(self.damage)
        for one in self.stored:
            if one.event is None:
                yield self.fault(f"the body is not as casework writes it: {one.unfit}", one.seq)

    def bytes_said(self) -> str:
        size = sum(len(one.body) for one in self.stored)
        return f"{self.count} of {size:,} bytes, each in the one form that casework writes"

    def hash_faults(self) -> Iterator[Fault]:
        for one in self.stored:
            if leaf_hash(one.body) != one.digest:
                yield self.fault("the hash is not the body's", one.seq)

    # What they are to each other.

    def chain_faults(self) -> Iterator[Fault]:
        last: Recorded | None = None
        for one in self.stored:
            expected = last.event.seq + 1 if last else 1
            if (this := one.as_it_is) is None:
                yield self.fault("cannot be read, so that nothing can be said of what follows it", one.seq)
                return
            if one.seq != expected:
                yield self.fault(f"is missing; event {one.seq} comes next", expected)
            elif fault := misplaced(last, self.chain, this.event) or differing(this.event, one.linked, one.columns):
                yield self.fault(fault, one.seq)
            last = this

    def chain_said(self) -> str:
        return "each follows the one before it, by number, hash, state and time, from the first one on"

    def rule_faults(self) -> Iterator[Fault]:
        for one in self.stored:
            if one.event is None:
                yield self.fault("cannot be read", one.seq)
                continue
            try:
                self.known.check(one.event)
            except BrokenHistory as broken:
                yield self.fault(broken.fault, one.seq)

    def rules_said(self) -> str:
        steps = sum(one.event is not None and one.event.trigger is not None for one in self.stored)
        moved = "one change of state is a step" if steps == 1 else f"{steps or 'no'} changes of state are steps"
        policies = sorted({one.event.policy for one in self.stored if one.event is not None})
        versions = ", ".join(map(str, policies))
        return f"{moved} of the lifecycle that was logged, with its guards; policy version {versions} was logged before"

    def row_said(self) -> str:
        return f"replaying {self.count} leads to the very row that is stored"

    def row_faults(self) -> Iterator[Fault]:
        try:
            case = self.replayed()
        except BrokenHistory as broken:
            yield self.fault(f"cannot be replayed: {broken.fault}", broken.seq)
            return
        yield from self.compared("the case", "cases", CASE_COLUMNS, case, case_row(case))
        yield from self.compared("its consultation", "consultations", BOOKING_COLUMNS, case, booking_row(case))
        if case.purchase is not None:
            yield from self.compared("its purchase", "purchases", PURCHASE_COLUMNS, case, purchase_row(case.purchase))
        stored = {link: token_commitment(digest) for link, _, digest in self.rows(f"{LINKS} = :case", case=case.id)}
        logged = {one.id: one.commitment for one in case.issued_links}
        for link in sorted(stored.keys() | logged.keys()):
            if stored.get(link) != logged.get(link):
                yield self.fault(f"the client's link {link}: the row is not what the log says", case.version)

    def replayed(self) -> Case:
        """Raises BrokenHistory."""
        chain = Chain(self.chain, self.known)
        for one in self.stored:
            if (this := one.as_it_is) is None:
                raise BrokenHistory(self.chain, one.seq, one.unfit)
            chain.apply(this)
        case: Case = chain.state
        return case

    def compared(
        self, name: str, table: str, columns: Sequence[str], case: Case, wanted: Row | None
    ) -> Iterator[Fault]:
        """With the row that has the same key, which is the first column."""
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE {columns[0]} = :key"  # noqa: S608 - names, no input
        found = next(iter(self.rows(query, key=wanted[0] if wanted else case.id)), None)
        if found == wanted:
            return
        if found is None or wanted is None:
            what = "the log has it, and no row" if found is None else "there is a row, and nothing in the log"
            yield self.fault(f"{name}: {what}", case.version)
        else:
            drift = tuple(drifts(columns, found, wanted))
            yield self.fault(f"{name}: the row is not what the log says", case.version, drift)

    # What was signed.

    def tree(self) -> Level:
        """Each event is a leaf of the tree whose root was signed."""
        if self.checkpoint is None:
            return Level(name="tree", holds=None, said="no checkpoint has been signed yet")
        size = self.checkpoint.size
        covered = [one for one in self.stored if one.position is not None and one.position <= size]
        if faults := tuple(self.tree_faults(covered, size)):
            return self.failing("tree", *faults)
        newer = len(self.stored) - len(covered)
        if not covered:
            return Level(name="tree", holds=None, said=f"all are newer than the checkpoint over {size:,} events")
        said = f"{len(covered)} of {self.count} are proved to be in the log of {size:,} events that was signed"
        said += f"; {newer} are newer than that" if newer else ""
        return Level(name="tree", holds=True, said=said)

    def tree_faults(self, covered: Sequence[Stored], size: int) -> Iterator[Fault]:
        """By inclusion proofs (RFC 9162 §2.1.3)."""
        tree = Tree(self.connection)
        if tree.size < size:
            yield self.fault(f"the tree has {tree.size} events, and a checkpoint over {size} was signed")
            return
        root = bytes.fromhex(self.checkpoint.root) if self.checkpoint else b""
        for one in covered:
            position = one.position or 0
            try:
                proof = tree.inclusion(position, size)
                leaf = bytes.fromhex(leaf_hash(one.body))
                is_in = verify_inclusion(leaf, position - 1, size, proof, root)
            except (BrokenTree, IndexError, ValueError) as broken:
                yield self.fault(f"its proof cannot be made: {broken}", one.seq)
                continue
            if not is_in:
                yield self.fault(f"is not the event that was signed for at position {position}", one.seq)

    def signature(self) -> Level:
        """The checkpoint is what the key has signed that the log announced."""
        if (signed := self.checkpoint) is None:
            return Level(name="signature", holds=None, said="no checkpoint has been signed yet")
        try:
            note = Note.parse(signed.note.encode(errors="surrogatepass"))
            (by, *_) = notes.verify(note, self.announced.verifiers)
            checkpoint = Checkpoint.parse(note.text)
            if (checkpoint.origin, checkpoint.size, checkpoint.root.hex()) != (signed.origin, signed.size, signed.root):
                raise ValueError("the row does not say what the note says")
        except (BrokenHistory, KeyError, *UNFIT) as wrong:
            what = f"the checkpoint over {signed.size} events is not one that was signed: {wrong}"
            return self.failing("signature", self.fault(what))
        said = f"the checkpoint over {signed.size:,} events is signed by the key {by.id.hex()}, which the log announced"
        return Level(name="signature", holds=True, said=said)

    def outside(self) -> Level:
        """What is stored goes on from the checkpoint that the database cannot take back."""
        octets = self.kept.get(self.known.log)
        if octets is None:
            return Level(name="outside", holds=None, said="no checkpoint is kept outside the database")
        size = 0
        try:
            last = Checkpoint.parse(KeyFolder(Path(), self.known.log).parsed(octets).text)
            size, wrong = last.size, contradiction(Tree(self.connection), last)
        except (BrokenTree, CannotSign, IndexError, *UNFIT) as broken:
            wrong = str(broken)
        if wrong is not None:
            return self.failing("outside", self.fault(wrong))
        if size == 0:
            return Level(name="outside", holds=None, said="nothing has been signed yet")
        said = f"the log goes on from the last checkpoint that was put outside the database, over {size:,} events"
        return Level(name="outside", holds=True, said=said)

    # What people wrote.

    def text_faults(self) -> Iterator[Fault]:
        """Each that is kept opens what its event committed to, and none is gone that was not erased."""
        there: set[tuple[int, str]] = set()
        texts, files = TEXTS.format(**self.bytes), FILES.format(**self.bytes)
        for _, seq, field, salt, value, body in self.rows(f"{texts} WHERE text.chain = :chain", chain=self.chain):
            there.add((seq, field))
            yield from self.opened(f"the text {field!r}", seq, commitments(body).personal.get(field), salt, value)
        for (file,) in self.rows("SELECT id FROM attachments WHERE case_id = :case", case=self.case_id):
            ((_, _, seq, salt, content, body),) = self.rows(f"{files} WHERE file.id = :file", file=file)
            there.add((seq, "content"))
            event = commitments(body)
            committed = event.personal.get("content") if event.data.attachment == file else None
            yield from self.opened(f"the file {file}", seq, committed, salt, content)
        for one in self.stored:
            for field in commitments(one.body.decode(errors="replace")).personal:
                if (one.seq, field) not in there and one.seq > self.erased_through:
                    yield self.fault(f"the text {field!r} is gone, and nothing says that it was erased", one.seq)

    def opened(self, name: str, seq: int, committed: str | None, salt: bytes, value: bytes) -> Iterator[Fault]:
        if committed is None:
            yield self.fault(f"{name} is none that the event speaks of", seq)
        elif committed != commitment(salt, value):
            yield self.fault(f"{name} is not what it was when the event was written", seq)
        if seq <= self.erased_through and seq not in self.erasures:
            yield self.fault(f"{name} was erased, and is there", seq)

    @cached_property
    def erasures(self) -> dict[int, Erased]:
        """By their own place, which keeps its texts."""
        events = [one.event for one in self.stored if one.event is not None]
        return {event.seq: event.data for event in events if isinstance(event.data, Erased)}

    @property
    def erased_through(self) -> int:
        return max((one.through for one in self.erasures.values()), default=0)

    def texts_said(self) -> str:
        through = self.erased_through
        kept = "every text and file that is kept is the one that its event committed to"
        return f"{kept}; those up to event {through} were erased, and are gone" if through else kept


POSITIONS = "SELECT seq, position FROM events JOIN positions ON event_id = events.id WHERE chain = :chain"
SEQ = COLUMNS.index("seq")
