"""Proves that the log is one that casework wrote, and that every other table says what the log says.

Nothing is believed because the database should have refused it: bytes, hashes, links, states and sums are all worked
out again, over one snapshot and in flat memory. (The search index is no evidence, and is not looked at.)
"""

import gc
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from storage import notes, schema
from storage.batch import CASE_COLUMNS, case_row
from storage.chains import EVENTS, Known, Walk
from storage.database import Database
from storage.events import UNFIT, recorded
from storage.journal import CannotErase, Journal, entry_of, journal_faults, undone
from storage.keys import Announcements, CannotSign, Kept, KeyFolder, kept_in
from storage.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Range, grown_tiles, tile_path
from storage.notes import Checkpoint, Note
from storage.sealing import commitment
from storage.snapshot import UNREADABLE, Snapshot, snapshot
from storage.submissions import Row
from storage.tree import TILE_BYTES
from workflow.canonical import MAX_INTEGER, ZEROS, canonical
from workflow.cases import Case, Purchase, booked_slot, case_number_text, chain_of
from workflow.comparing import Change, changes
from workflow.events import PurchaseChanged, at_text
from workflow.findings import Finding
from workflow.people import Person, identity_commitment, token_commitment
from workflow.webhooks import Webhooks

LISTED_FAULTS = 21
COMPARED_TOGETHER = 200  # cases whose chains have been followed, and whose rows are then read
COUNTS = ("events", "cases", "people", "texts", "attachments")
TILES_AT_ONCE = 32
FILES_AT_ONCE = 4  # attachments can be large


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a row that is not what the log says: `body.grounds[g5].verified`. None is what is absent as well."""

    field: str
    stored: Any
    logged: Any


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that casework cannot have written and, if it lies in a chain, at which event.

    Of a row that is not what the log says, `drift` has field by field what differs.
    """

    what: str
    chain: str | None = None
    seq: int | None = None
    drift: tuple[Drift, ...] = ()

    def __str__(self) -> str:
        return self.what if self.chain is None else f"{self.chain} event {self.seq}: {self.what}"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what was found: `faults` are the first ones of `fault_count`.

    `warnings` say who could take the database's own defences down, and what could not be compared. `chain_seconds`
    went into following and replaying the chains and comparing the cases with them, `text_seconds` into opening
    commitments.
    """

    counts: dict[str, int]
    faults: tuple[Fault, ...]
    fault_count: int
    warnings: tuple[str, ...]
    chain_seconds: float
    text_seconds: float
    seconds: float

    @property
    def first(self) -> Fault | None:
        return self.faults[0] if self.faults else None

    @property
    def events_per_second(self) -> float:
        """Followed, replayed and compared; opening commitments not counted."""
        return self.counts["events"] / self.chain_seconds


async def verify(
    database: Database,
    progress: Callable[[int], None] | None = None,
    folder: Path | None = None,
    erasures_in: Path | None = None,
) -> Report:
    """Follow and replay every chain, and compare every row. `progress` hears how many events have been followed.

    What was cut off or rolled back can be told only by the last checkpoint, which is kept outside, in `folder`.
    """
    began = time.perf_counter()
    kept = kept_in(folder)  # before the database is looked at, whose log may grow and be signed meanwhile
    async with snapshot(database) as reading:
        verification = Verification(reading, progress or (lambda _: None), folder, erasures_in)
        verification.kept = kept
        await verification.run()
    missing, warnings = await database.run(defence_faults)
    for one in missing:
        verification.fault(one)
    seconds = verification.seconds
    return Report(
        counts=dict(verification.counts),
        faults=tuple(verification.faults),
        fault_count=verification.fault_count,
        warnings=(*warnings, *verification.warnings),
        chain_seconds=seconds["chains"],
        text_seconds=seconds["texts"] + seconds["attachments"],
        seconds=time.perf_counter() - began,
    )


def defence_faults(connection: Connection) -> tuple[list[str], tuple[str, ...]]:
    """What does not stand as it was written, and what the connected role could take down."""
    weaknesses = tuple(schema.role_faults(connection)) if connection.dialect.name == "postgresql" else ()
    return [one for one in schema.faults(connection) if one not in weaknesses], weaknesses


@contextmanager
def no_collector() -> Iterator[None]:
    """Millions of values come and go, none of them in a circle: looking for circles takes time and finds nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Verification:
    """One run over one snapshot."""

    def __init__(
        self,
        reading: Snapshot,
        progress: Callable[[int], None],
        folder: Path | None,
        erasures_in: Path | None = None,
    ) -> None:
        self.reading = reading
        self.erasures_in = erasures_in
        self.folder = folder
        self.kept: dict[str, Kept] = {}
        self.warnings: list[str] = []
        self.keys = Announcements()
        self.bytes = AS_BYTES[reading.dialect]
        self.progress = progress
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self.seconds: dict[str, float] = {}
        self.faults: list[Fault] = []
        self.fault_count = 0
        self.known = Known()
        self.followed: list[Case] = []
        self.people: list[Person] = []
        self.webhooks: Webhooks | None = None
        self.findings: list[Finding] = []
        self.commitments = 0
        self.erased: dict[str, tuple[int, int]] = {}

    def fault(self, what: str, chain: str | None = None, seq: int | None = None, drift: tuple[Drift, ...] = ()) -> None:
        self.fault_count += 1
        if len(self.faults) < LISTED_FAULTS:
            self.faults.append(Fault(what=what, chain=chain, seq=seq, drift=drift))

    async def run(self) -> None:
        # What says most precisely where something is wrong comes first.
        checks = (
            self.chains,
            self.purchases,
            self.desk,
            self.attachings,
            self.relations,
            self.tree,
            self.texts,
            self.attachments,
            self.erasures,
            self.losses,
            self.file,
        )
        for check in checks:
            began = time.perf_counter()
            try:
                await check()
            except UNREADABLE as failure:
                self.fault(f"the {check.__name__} cannot be read: {failure}")
            self.seconds[check.__name__] = time.perf_counter() - began

    # Chains, and the cases that they tell of.

    async def chains(self) -> None:
        for body, digest in await self.reading.rows(KNOWN):
            with suppress(KeyError, *UNFIT):  # told where its chain is followed
                self.known.learn(recorded(body, digest))
        walk = Walk(self.known, self.keep)
        with no_collector():
            async for page in self.reading.pages(EVENTS.format(zeros=ZEROS, **self.bytes)):
                for broken in walk.take(page):
                    self.fault(broken.fault, broken.chain, broken.seq)
                self.counts["events"] += len(page)
                self.progress(self.counts["events"])
                if len(self.followed) >= COMPARED_TOGETHER:
                    await self.compare_cases()
        walk.end()
        self.commitments = walk.commitments
        await self.compare_cases()

    def keep(self, state: object) -> None:
        if isinstance(state, Case):
            self.followed.append(state)
        elif isinstance(state, Person):
            self.people.append(state)
        elif isinstance(state, Finding):
            self.findings.append(state)
        elif isinstance(state, Announcements):
            self.keys = state
        elif isinstance(state, Webhooks):
            self.webhooks = state

    async def compare_cases(self) -> None:
        """Those that were followed since the last time, with everything that is stored of them."""
        cases, self.followed = self.followed, []
        self.counts["cases"] += len(cases)
        ids = [case.id for case in cases]
        stored = await self.stored("cases", CASE_COLUMNS, ids)
        bookings = await self.stored("consultations", BOOKING_COLUMNS, ids)
        listed: defaultdict[str, set[str]] = defaultdict(set)
        for case_id, proposal in await self.reading.among(OPEN_PROPOSALS, ids):
            listed[case_id].add(proposal)
        linked = await self.stored(
            "purchases", PURCHASE_COLUMNS, [case.purchase.reference for case in cases if case.purchase]
        )
        await self.compare_links(cases)
        for case in cases:
            try:
                wanted = case_row(case)
            except (OverflowError, TypeError, ValueError) as misfit:
                self.fault(f"{name_at(case)} cannot be: {misfit}", case.chain, case.version)
                continue
            self.compare_of(case, "", CASE_COLUMNS, stored.get(case.id), wanted)
            self.compare_of(case, "the consultation of ", BOOKING_COLUMNS, bookings.get(case.id), booking_row(case))
            wrong = sorted(listed[case.id] ^ case.open_proposals)
            if wrong:
                what = f"whether {', '.join(wrong)} can still be decided is not what the log says"
                self.fault(f"the proposals of {name_at(case)}: {what}", case.chain, case.version)
            if case.purchase is not None:
                row = linked.get(case.purchase.reference)
                self.compare_of(case, "the purchase of ", PURCHASE_COLUMNS, row, purchase_row(case.purchase))

    async def compare_links(self, cases: Sequence[Case]) -> None:
        """Those by which clients see these cases."""
        found = await self.reading.among(LINKS, [case.id for case in cases])
        stored = [
            (link, case_id, token_commitment(digest) if isinstance(digest, str) else None)
            for link, case_id, digest in found
        ]
        logged = [(link.id, case.id, link.commitment) for case in cases for link in case.issued_links]
        self.compare_all("the client's link", ("id", "case_id", "hash"), stored, logged)

    async def stored(self, table: str, columns: Sequence[str], keys: Sequence[str]) -> dict[str, Row]:
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE {columns[0]}"  # noqa: S608 - names, no input
        return {row[0]: tuple(row) for row in await self.reading.among(query, keys)}

    # The tree over the log, and what was signed of it.

    async def tree(self) -> None:
        """The tiles are made of the events in the order of their positions, and so is every root that was signed."""
        grown, claims = Regrown(), Claims(self.signed())
        stored = TileReader(self.reading.pages(TILES.format(**self.bytes), TILES_AT_ONCE))
        with no_collector():
            is_whole = await self.regrow(grown, stored, claims)
        if is_whole:
            async for fault in stored.faults(grown):
                self.fault(fault)
        async for one in claims.up_to(MAX_INTEGER):  # also to have all notes looked at
            if is_whole:
                there = f"and there are {grown.size}: some were cut off, or rolled back"
                self.fault(f"{one.what} is over {one.size} events, {there}")

    async def regrow(self, grown: "Regrown", stored: "TileReader", claims: "Claims") -> bool:
        """Whether there is one tree from the first event to the last."""
        await self.compare_signed(grown, claims)
        async for page in self.reading.pages(POSITIONED):
            for position, chain, seq, digest in page:
                if position != grown.size + 1:
                    self.fault(f"no event has the position {grown.size + 1}, after which {position} comes")
                    return False
                leaf = await stored.leaf(grown.size)
                if leaf is not None and leaf.hex() != digest:
                    self.fault(f"is not the event that the tree has at position {position}", chain, seq)
                    return False  # from here on everything is another tree
                try:
                    grown.append(bytes.fromhex(digest))
                except (TypeError, ValueError):
                    self.fault("has no hash", chain, seq)
                    return False
                if claims.size == grown.size:
                    await self.compare_signed(grown, claims)
        return True

    async def compare_signed(self, grown: "Regrown", claims: "Claims") -> None:
        async for one in claims.up_to(grown.size):
            if one.root != grown.root():
                self.fault(f"{one.what} is over {one.size} events that are not the first {one.size} of this log")

    async def signed(self) -> "AsyncIterator[Claim]":
        """Each checkpoint whose note says what its row says, and is signed; by size, and as many as there may be."""
        outside = [*self.outside()]
        async for page in self.reading.pages(CHECKPOINTS.format(**self.bytes)):
            for number, origin, size, root, note in page:
                what = f"the checkpoint {number}"
                if (checkpoint := self.opened(note, what)) is None:
                    continue
                if (checkpoint.origin, checkpoint.size, checkpoint.root.hex()) != (origin, size, root):
                    self.fault(f"{what}: the row does not say what the note says")
                    continue
                if outside and outside[0].size <= size:
                    yield outside.pop()
                yield Claim(what, checkpoint.size, checkpoint.root)
        for one in outside:
            yield one

    def opened(self, note: bytes, what: str) -> Checkpoint | None:
        try:
            read = Note.parse(note)
            notes.verify(read, self.keys.verifiers)
            return Checkpoint.parse(read.text)
        except UNFIT as unfit:
            self.fault(f"{what} is not one that was signed: {unfit}")
            return None

    def outside(self) -> "Iterator[Claim]":
        """The checkpoint that is kept outside, unless an operator has given it up."""
        if self.folder is None or not self.known.log:
            return
        try:
            keys = KeyFolder(self.folder, self.known.log)
            if (kept := self.kept.get(self.known.log)) is None:
                if keys.key.exists():
                    keys.kept()  # which was made meanwhile, or is missing
                elif self.keys.history:
                    self.warnings.append(f"no checkpoint outside the database was looked at: {self.folder} has none")
                return
            note = str(keys.parsed(kept.checkpoint))
        except CannotSign as missing:
            self.fault(str(missing))
            return
        is_announced = self.announced(keys, kept)
        given_up = {one.abandoned for one in self.keys.history}
        if note not in given_up or not is_announced:
            checkpoint = Checkpoint.parse(Note.parse(note.encode()).text)
            yield Claim(f"the last checkpoint, in {keys.checkpoint},", checkpoint.size, checkpoint.root)

    def announced(self, keys: KeyFolder, before: Kept) -> bool:
        """Whether the key beside that checkpoint is the log's: who gives one up has made a key there.

        Whoever can write nothing but the database could say in it that the checkpoint was given up.
        """
        last = self.keys.history[-1].vkey if self.keys.history else ""
        try:
            kept = before.verifiers | keys.verifiers()  # it may have been changed meanwhile
        except CannotSign as unusable:
            self.fault(str(unusable))
            return False
        if kept and last not in kept:
            self.fault(f"the signing key {keys.key} is not the one that the log announced last")
        return last in kept

    # What else is stored.

    async def texts(self) -> None:
        """Every personal text that has not been erased opens the commitment that its event made."""
        async for page in self.reading.pages(TEXTS.format(**self.bytes)):
            for chain, seq, field, salt, value, body in page:
                committed = commitments(body).personal.get(field)
                self.open(f"the text {field!r}", chain, seq, committed, commitment(salt, value))
            self.counts["texts"] += len(page)

    async def attachments(self) -> None:
        async for page in self.reading.pages(FILES.format(**self.bytes), FILES_AT_ONCE):
            for attachment, chain, seq, salt, content, body in page:
                event = commitments(body)
                committed = event.personal.get("content") if event.data.attachment == attachment else None
                self.open(f"the attachment {attachment}", chain, seq, committed, commitment(salt, content))
            self.counts["attachments"] += len(page)

    async def erasures(self) -> None:
        """What was erased is gone, and would not come back with an older backup."""
        known = []
        for number, body, digest in await self.reading.rows(ERASED):
            with suppress(KeyError, TypeError, *UNFIT):  # told where its chain is followed
                known.append(entry := entry_of(recorded(body, digest)))
                self.erased[entry.chain] = entry.through, number
        for one in known:
            for what, left_over in LEFT_OVER.items():
                for seq, name in await self.reading.among(left_over.format(one.through), [one.chain]):
                    self.fault(f"the {what} {name!r} was erased, and is there", one.chain, seq)
        for chain, seq, name in await self.reading.rows(LEFT_OVER_IN_FINDINGS):
            self.fault(f"the text {name!r} was erased with its case, and is there", chain, seq)
        if self.erasures_in is None or not self.known.log:
            return
        journal = Journal(self.erasures_in, self.known.log)
        for fault in journal_faults(journal, tuple(known)):
            self.fault(fault)
        with suppress(CannotErase):
            chains = [*{one.chain for one in undone(journal.entries(), tuple(known))}]
            if waiting := await self.reading.among("SELECT chain FROM events WHERE seq = 1 AND chain", chains):
                self.warnings.append(
                    f"the journal of erasures, {journal.path}, has some of {len(waiting)} cases and set-aside mails"
                    " that this database lacks: they are carried out again before the desk serves"
                )

    async def losses(self) -> None:
        """Every text and file that an event speaks of is there, unless it was erased."""
        if self.commitments == self.counts["texts"] + self.counts["attachments"]:
            return  # each of which opens one of them, or was told of
        async for page in self.reading.pages(SPOKEN_OF.format(**self.bytes)):
            for number, chain, seq, body, found in page:
                lost = len(commitments(body).personal) - found
                with suppress(AttributeError, TypeError):  # of no place, which is told where its chain is followed
                    if lost > 0 and not self.was_erased(number, chain, seq):
                        what = f"of its texts and files {lost} are gone, and nothing says that they were erased"
                        self.fault(what, chain, seq)

    def was_erased(self, number: int, chain: str, seq: int) -> bool:
        """Up to an event of its case; or, what was found in it, before that was recorded."""
        through, _ = self.erased.get(chain, (0, 0))
        kind, _, rest = chain.partition(":")
        _, before = self.erased.get(chain_of(rest.rpartition(":")[0]), (0, 0))
        return seq <= through or (kind == "finding" and number < before)

    def open(self, name: str, chain: str, seq: int, committed: str | None, opened: str) -> None:
        if committed is None:
            self.fault(f"{name} is none that the event speaks of", chain, seq)
        elif committed != opened:
            self.fault(f"{name} is not what it was when the event was written", chain, seq)

    async def purchases(self) -> None:
        """Those that no case is linked to any more are as the last event about them says."""
        found = await self.reading.rows(UNLINKED)
        references = {row[0] for row in found}
        wanted: dict[str, Row] = {}
        if references:
            async for page in self.reading.pages(PURCHASES_CHANGED):
                for body, digest in page:
                    with suppress(KeyError, *UNFIT):  # told where its chain is followed
                        data = recorded(body, digest).data
                        if isinstance(data, PurchaseChanged) and data.purchase.reference in references:
                            wanted[data.purchase.reference] = purchase_row(data.purchase)
        self.compare_all("the purchase", PURCHASE_COLUMNS, found, wanted.values())

    async def desk(self) -> None:
        """Its own row, policies, lifecycles, who follows it, people and their tokens."""
        known = self.known
        desk = [(known.log, known.timezone)] if known.log else []
        policies = [(one.version, canonical(one).decode()) for one in known.policies.values()]
        steps = [
            (f"{lifecycle}/{source}/{trigger}", step.target)
            for lifecycle, steps in known.lifecycles.items()
            for (source, trigger), step in steps.items()
        ]
        webhooks = [(1, one.version, canonical(one).decode()) for one in (self.webhooks,) if one]
        people = [(one.id, one.version, canonical(one).decode()) for one in self.people]
        tokens = [(token.id, one.id, token.commitment) for one in self.people for token in one.tokens]
        self.counts["people"] = len(people)
        for name, columns, query, wanted in (
            ("the desk", ("log", "timezone"), "SELECT log, timezone FROM desk", desk),
            ("the policy version", ("version", "body"), "SELECT version, body FROM policies", policies),
            ("the step", ("name", "target"), STEPS, steps),
            ("the set of webhooks", ("id", "version", "body"), "SELECT id, version, body FROM webhooks", webhooks),
            ("the person", ("id", "version", "body"), "SELECT id, version, body FROM people", people),
        ):
            self.compare_all(name, columns, await self.reading.rows(query), wanted)
        stored = [
            (token, person, token_commitment(digest))
            for token, person, digest in await self.reading.rows("SELECT id, person_id, hash FROM tokens")
        ]
        self.compare_all("the token", ("id", "person_id", "hash"), stored, tokens)
        passwords = [
            (person, token_commitment(derived))
            for person, derived in await self.reading.rows("SELECT person_id, hash FROM passwords")
        ]
        set_by = [(one.id, one.password) for one in self.people if one.password is not None]
        self.compare_all("the password of", ("person_id", "hash"), passwords, set_by)
        stored_identities = [
            (identity, person, identity_commitment(salt, issuer, subject))
            for identity, person, issuer, subject, salt in await self.reading.rows(IDENTITIES.format(**self.bytes))
        ]
        identities = [(identity.id, one.id, identity.commitment) for one in self.people for identity in one.identities]
        self.compare_all("the identity", ("id", "person_id", "pair"), stored_identities, identities)

    async def attachings(self) -> None:
        """What was found is found in an event that the log has."""
        cases = sorted({chain_of(one.case) for one in self.findings})
        events = {
            tuple(row) for row in await self.reading.among("SELECT chain, seq, hash FROM events WHERE chain", cases)
        }
        for one in self.findings:
            if (chain_of(one.case), one.seq, one.event) not in events:
                self.fault("is about an event that the log does not have", one.chain, 1)

    async def relations(self) -> None:
        for sentence, query in NAMES.items():
            for row in await self.reading.rows(f"{query} LIMIT {LISTED_FAULTS}"):
                self.fault(sentence.format(*row))
        for sentence, query in PLACES.items():
            for chain, seq in await self.reading.rows(f"{query} LIMIT {LISTED_FAULTS}"):
                self.fault(sentence, chain, seq)
        for name, query in COUNTED.items():
            ((self.counts[name],),) = await self.reading.rows(query)

    async def file(self) -> None:
        if self.reading.dialect == "sqlite":
            for (message,) in await self.reading.rows(f"PRAGMA integrity_check({LISTED_FAULTS})"):
                if message != "ok":
                    self.fault(f"the file is damaged: {message}")

    # Comparing.

    def compare_all(self, name: str, columns: Sequence[str], found: Iterable[Row], wanted: Iterable[Row]) -> None:
        """Rows by what their first column says."""
        stored, logged = {row[0]: tuple(row) for row in found}, {row[0]: row for row in wanted}
        for key in stored | logged:
            self.compare(f"{name} {key}", columns, stored.get(key), logged.get(key))

    def compare_of(self, case: Case, what: str, columns: Sequence[str], found: Row | None, wanted: Row | None) -> None:
        if found != wanted:
            self.compare(what + name_at(case), columns, found, wanted, (case.chain, case.version))

    def compare(
        self,
        name: str,
        columns: Sequence[str],
        found: Row | None,
        wanted: Row | None,
        place: tuple[str | None, int | None] = (None, None),
    ) -> None:
        if found == wanted:
            return
        if found is None:
            self.fault(f"{name}: the log has it, and no row", *place)
        elif wanted is None:
            self.fault(f"{name}: there is a row, and nothing in the log", *place)
        else:
            what = f"{name}: the row is not what the log says in {differing(columns, found, wanted)}"
            self.fault(what, *place, tuple(drifts(columns, found, wanted)))


class Claim(msgspec.Struct, frozen=True):
    """A checkpoint that was signed, and what it is."""

    what: str
    size: int
    root: bytes


class Claims:
    """What was signed, by size, each to be looked at as the tree has grown so far: `size` is that of the next one."""

    def __init__(self, claims: AsyncIterator[Claim]) -> None:
        self.claims = claims
        self.next: Claim | None = None
        self.size = 0

    async def up_to(self, size: int) -> AsyncIterator[Claim]:
        """All further ones of at most this size."""
        while self.size <= size:
            if self.next is not None:
                yield self.next
            self.next = await anext(self.claims, None)
            self.size = self.next.size if self.next else MAX_INTEGER + 1


class Regrown:
    """The tree over the leaves that are given to it, and its nodes that stand in tiles."""

    def __init__(self) -> None:
        self.range = Range()
        self.upper: defaultdict[int, bytearray] = defaultdict(bytearray)

    @property
    def size(self) -> int:
        return self.range.size

    def append(self, leaf: bytes) -> None:
        completed = self.range.append(leaf)
        for level, node in enumerate(completed[TILE_HEIGHT::TILE_HEIGHT], start=1):
            self.upper[level] += node

    def root(self) -> bytes:
        return self.range.root()

    def tile(self, level: int, index: int) -> bytes:
        return bytes(self.upper[level][index * TILE_BYTES : (index + 1) * TILE_BYTES])


class TileReader:
    """The stored tiles, lowest level first, in one reading."""

    def __init__(self, tiles: AsyncIterator[Sequence[Row]]) -> None:
        self.tiles = tiles
        self.page: list[Row] = []
        self.size = 0  # of the tree, as far as its leaves have been read
        self.hashes = b""
        self.ended = False

    async def next(self) -> Row | None:
        if not self.page:
            async for page in self.tiles:
                self.page = [*page]
                break
        return self.page.pop(0) if self.page else None

    async def leaf(self, index: int) -> bytes | None:
        """The hash of a leaf, each asked for in its turn; None where the tree has not come so far."""
        if index >= self.size and not self.ended:
            tile = await self.next()
            if tile is not None and tile[:2] == (0, index // TILE_WIDTH) and len(tile[2]) in TILE_SIZES:
                self.hashes = tile[2]
                self.size = index + len(self.hashes) // HASH_BYTES
            else:
                self.ended = True
                self.page[:0] = [tile] if tile else []
        place = index % TILE_WIDTH * HASH_BYTES
        return self.hashes[place : place + HASH_BYTES] if index < self.size else None

    async def faults(self, grown: Regrown) -> AsyncIterator[str]:
        """What is wrong with all further tiles."""
        if self.size > grown.size:
            yield f"the tree has {self.size} events, and the log {grown.size}: some were cut off"
            return
        expected = {(level, index): width for level, index, width in grown_tiles(0, self.size) if level}
        while (tile := await self.next()) is not None:
            level, index, hashes = tile
            width = expected.pop((level, index), 0)
            if width == 0:
                yield f"the tree has the tile {tile_path(level, index)}, which it cannot have yet"
            elif hashes != grown.tile(level, index)[: width * HASH_BYTES]:
                yield f"the tile {tile_path(level, index)} is not what follows from the events"
        for level, index in expected:
            yield f"the tile {tile_path(level, index)} is missing"


def name_at(case: Case) -> str:
    return f"{case_number_text(case.number)} at version {case.version}"


def differing(columns: Sequence[str], found: Row, wanted: Row) -> str:
    """The columns that differ; of a body the fields."""
    names: list[str] = []
    for column, one, other in zip(columns, found, wanted, strict=True):
        if one == other:
            continue
        names.extend(differing_fields(one, other) if column == "body" else [column])
    return ", ".join(names)


def differing_fields(found: str, wanted: str) -> list[str]:
    try:
        one, other = (msgspec.json.decode(body, type=dict[str, Any]) for body in (found, wanted))
    except UNFIT:
        return ["body"]
    return [f"body.{key}" for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)] or ["body"]


def drifts(columns: Sequence[str], found: Row, wanted: Row) -> Iterator[Drift]:
    """What differs, with what is stored and what the log says; of a body field by field."""
    for column, one, other in zip(columns, found, wanted, strict=True):
        if one == other:
            continue
        inner: tuple[Change, ...] = ()
        if column == "body":
            with suppress(*UNFIT):
                inner = changes(*(msgspec.json.decode(body, type=dict[str, Any]) for body in (one, other)))
        for change in inner or (Change(path="", before=one, after=other),):
            yield Drift(field=f"{column}.{change.path}".removesuffix("."), stored=change.before, logged=change.after)


def purchase_row(purchase: Purchase) -> Row:
    return (
        purchase.reference,
        purchase.paid.currency,
        purchase.paid.amount_minor,
        purchase.refunded_minor,
        purchase.reserved_minor,
        canonical(purchase).decode(),
    )


def booking_row(case: Case) -> Row | None:
    slot = booked_slot(case)
    return (case.id, slot[0], at_text(slot[1]), at_text(slot[2])) if slot is not None else None


class Attached(msgspec.Struct, frozen=True):
    attachment: str | None = None


class Commitments(msgspec.Struct, frozen=True):
    """Of an event: what its texts, and the content of its attachment, are compared with."""

    personal: dict[str, str] = {}
    data: Attached = Attached()


commitments_decoder = msgspec.json.Decoder(Commitments)


def commitments(body: str | None) -> Commitments:
    with suppress(*UNFIT):
        return commitments_decoder.decode(body or "{}")
    return Commitments()


# Queries. Names of columns and limits are put into them, never input.

KNOWN = """
    SELECT body, hash FROM events
    WHERE type IN ('desk_created', 'lifecycle_adopted', 'policy_added') ORDER BY chain, seq
"""
TEXTS = """
    SELECT text.chain, text.seq, field, {salt}, {value}, body
    FROM personal AS text LEFT JOIN events ON events.chain = text.chain AND events.seq = text.seq
"""
FILES = """
    SELECT file.id, 'case:' || case_id, file.seq, {salt}, {content}, body
    FROM attachments AS file LEFT JOIN events ON events.chain = 'case:' || case_id AND events.seq = file.seq
"""
# SQLite keeps whatever it is given, whatever the column.
AS_BYTES = {
    "sqlite": {name: f"CAST({name} AS BLOB)" for name in ("body", "salt", "value", "content", "hashes", "note")},
    "postgresql": {
        "body": "convert_to(body, 'UTF8')",
        "salt": "salt",
        "value": "convert_to(value, 'UTF8')",
        "content": "content",
        "hashes": "hashes",
        "note": "convert_to(note, 'UTF8')",
    },
}
PURCHASE_COLUMNS = ("reference", "currency", "paid", "refunded", "reserved", "body")
LINKS = "SELECT id, case_id, hash FROM client_links WHERE case_id"
BOOKING_COLUMNS = ("case_id", "host", "starts_at", "ends_at")
UNLINKED = f"""
    SELECT {", ".join(PURCHASE_COLUMNS)} FROM purchases
    WHERE NOT EXISTS (SELECT 1 FROM cases WHERE cases.purchase = purchases.reference)
"""  # noqa: S608 - names
OPEN_PROPOSALS = "SELECT case_id, proposal FROM open_proposals WHERE case_id"
IDENTITIES = "SELECT id, person_id, issuer, subject, {salt} FROM identities"
PURCHASES_CHANGED = "SELECT body, hash FROM events WHERE type = 'purchase_changed' ORDER BY id"
STEPS = """SELECT lifecycle || '/' || source || '/' || "trigger", target FROM lifecycle_edges"""

POSITIONED = "SELECT position, chain, seq, hash FROM positions JOIN events ON id = event_id ORDER BY position"
TILES = "SELECT level, n, {hashes} FROM tiles ORDER BY level, n"
TILE_SIZES = range(HASH_BYTES, TILE_BYTES + 1, HASH_BYTES)
CHECKPOINTS = "SELECT id, origin, size, root, {note} FROM checkpoints ORDER BY size, id"

ERASED = "SELECT id, body, hash FROM events WHERE type = 'erased' ORDER BY id"
SPOKEN_OF = """
    SELECT id, chain, seq, {body},
        (SELECT count(*) FROM personal AS text WHERE text.chain = events.chain AND text.seq = events.seq)
        + (SELECT count(*) FROM attachments WHERE case_id = substr(events.chain, 6) AND attachments.seq = events.seq)
    FROM events WHERE body LIKE '%"personal":{{"%' ORDER BY id
"""
LEFT_OVER = {
    "text": """
        SELECT seq, field FROM personal WHERE NOT EXISTS (
            SELECT 1 FROM events WHERE events.chain = personal.chain AND events.seq = personal.seq AND type = 'erased'
        ) AND seq <= {} AND chain
    """,
    "attachment": "SELECT seq, id FROM attachments WHERE seq <= {} AND 'case:' || case_id",
}
LEFT_OVER_IN_FINDINGS = """
    SELECT DISTINCT text.chain, text.seq, text.field FROM events AS erased
    JOIN events AS opened ON opened.type = 'finding_opened'
        AND substr(opened.chain, 1, length(erased.chain) + 4) = 'finding:' || substr(erased.chain, 6) || ':'
    JOIN personal AS text ON text.chain = opened.chain
    JOIN events AS said ON said.chain = text.chain AND said.seq = text.seq AND said.id < erased.id
    WHERE erased.type = 'erased' ORDER BY 1, 2, 3
"""

# What must not be: names for the sentence, or a place in a chain.
NAMES = {
    "the case {} has a row and no chain": """
        SELECT id FROM cases WHERE NOT EXISTS (SELECT 1 FROM events WHERE chain = 'case:' || cases.id)
    """,
    "more has gone back on the purchase {} than was paid": """
        SELECT reference FROM purchases WHERE refunded < 0 OR reserved < 0 OR refunded + reserved > paid
    """,
    "a consultation is booked for the case {}, which does not exist": """
        SELECT case_id FROM consultations WHERE NOT EXISTS (SELECT 1 FROM cases WHERE id = case_id)
    """,
    "the client's link {} is of the case {}, which does not exist": """
        SELECT id, case_id FROM client_links WHERE NOT EXISTS (SELECT 1 FROM cases WHERE id = case_id)
    """,
    "a proposal is listed of the case {}, which does not exist": """
        SELECT DISTINCT case_id FROM open_proposals WHERE NOT EXISTS (SELECT 1 FROM cases WHERE id = case_id)
    """,
    "mail is remembered for the case {}, which does not exist": """
        SELECT case_id FROM mail_refs
        WHERE case_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM cases WHERE id = case_id)
    """,
    "a request is remembered for {} event {}, which does not exist": """
        SELECT chain, version FROM idempotency AS request
        WHERE NOT EXISTS (SELECT 1 FROM events WHERE events.chain = request.chain AND events.seq = request.version)
    """,
    "an effect is kept of {} event {}, which does not exist": """
        SELECT chain, seq FROM outbox
        WHERE NOT EXISTS (SELECT 1 FROM events WHERE events.chain = outbox.chain AND events.seq = outbox.seq)
    """,
    "the position {} does not follow the one before it": """
        SELECT position FROM positions AS place
        WHERE position <> 1 AND NOT EXISTS (SELECT 1 FROM positions WHERE position = place.position - 1)
    """,
    "the position {} is of no event": """
        SELECT position FROM positions WHERE NOT EXISTS (SELECT 1 FROM events WHERE events.id = event_id)
    """,
    "a position is due to the event number {}, which does not exist": """
        SELECT event_id FROM pending_events WHERE NOT EXISTS (SELECT 1 FROM events WHERE events.id = event_id)
    """,
}
PLACES = {
    "has no position and waits for none, or has one and waits for another": """
        SELECT chain, seq FROM events LEFT JOIN positions ON positions.event_id = events.id
        LEFT JOIN pending_events ON pending_events.event_id = events.id
        WHERE (positions.event_id IS NULL) = (pending_events.event_id IS NULL)
    """,
    "has a position before the one of its predecessor": """
        SELECT chain, seq FROM (
            SELECT chain, seq, position, lag(position) OVER (PARTITION BY chain ORDER BY seq) AS last
            FROM events LEFT JOIN positions ON event_id = events.id
        ) AS placed WHERE position < last
    """,
}
COUNTED = {
    "purchases": "SELECT count(*) FROM purchases",
    "positions": "SELECT count(*) FROM positions",
    "pending": "SELECT count(*) FROM pending_events",
}
