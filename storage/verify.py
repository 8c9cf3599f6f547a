"""Proves that the log is one that casework wrote, and that every other table says what the log says.

Nothing is believed because the database should have refused it: bytes, hashes, links, states and sums are all worked
out again, over one snapshot and in flat memory. (The search index is no evidence, and is not looked at.)
"""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from sqlalchemy import Connection

from storage import schema
from storage.batch import CASE_COLUMNS, case_row
from storage.chains import EVENTS, Known, Walk
from storage.database import Database
from storage.events import UNFIT, recorded
from storage.sealing import commitment
from storage.snapshot import UNREADABLE, Snapshot, snapshot
from storage.submissions import Row
from workflow.canonical import ZEROS, canonical
from workflow.cases import Case, Purchase, booked_slot, case_number_text
from workflow.events import PurchaseChanged, at_text
from workflow.people import Person, token_commitment

LISTED_FAULTS = 21
COMPARED_TOGETHER = 200  # cases whose chains have been followed, and whose rows are then read
COUNTS = ("events", "cases", "people", "texts", "attachments")
FILES_AT_ONCE = 4  # attachments can be large


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that casework cannot have written and, if it lies in a chain, at which event."""

    what: str
    chain: str | None = None
    seq: int | None = None

    def __str__(self) -> str:
        return self.what if self.chain is None else f"{self.chain} event {self.seq}: {self.what}"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what was found: `faults` are the first ones of `fault_count`.

    `warnings` say who could take the database's own defences down. `chain_seconds` went into following and replaying
    the chains and comparing the cases with them, `text_seconds` into opening commitments.
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


async def verify(database: Database, progress: Callable[[int], None] | None = None) -> Report:
    """Follow and replay every chain, and compare every row. `progress` hears how many events have been followed."""
    began = time.perf_counter()
    async with snapshot(database) as reading:
        verification = Verification(reading, progress or (lambda _: None))
        await verification.run()
    missing, warnings = await database.run(defence_faults)
    for one in missing:
        verification.fault(one)
    seconds = verification.seconds
    return Report(
        counts=dict(verification.counts),
        faults=tuple(verification.faults),
        fault_count=verification.fault_count,
        warnings=warnings,
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

    def __init__(self, reading: Snapshot, progress: Callable[[int], None]) -> None:
        self.reading = reading
        self.bytes = AS_BYTES[reading.dialect]
        self.progress = progress
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self.seconds: dict[str, float] = {}
        self.faults: list[Fault] = []
        self.fault_count = 0
        self.known = Known()
        self.followed: list[Case] = []
        self.people: list[Person] = []

    def fault(self, what: str, chain: str | None = None, seq: int | None = None) -> None:
        self.fault_count += 1
        if len(self.faults) < LISTED_FAULTS:
            self.faults.append(Fault(what=what, chain=chain, seq=seq))

    async def run(self) -> None:
        # What says most precisely where something is wrong comes first.
        checks = (self.chains, self.purchases, self.desk, self.relations, self.texts, self.attachments, self.file)
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
        await self.compare_cases()

    def keep(self, state: object) -> None:
        if isinstance(state, Case):
            self.followed.append(state)
        elif isinstance(state, Person):
            self.people.append(state)

    async def compare_cases(self) -> None:
        """Those that were followed since the last time, with everything that is stored of them."""
        cases, self.followed = self.followed, []
        self.counts["cases"] += len(cases)
        ids = [case.id for case in cases]
        stored = await self.stored("cases", CASE_COLUMNS, ids)
        bookings = await self.stored("consultations", BOOKING_COLUMNS, ids)
        linked = await self.stored(
            "purchases", PURCHASE_COLUMNS, [case.purchase.reference for case in cases if case.purchase]
        )
        for case in cases:
            try:
                wanted = case_row(case)
            except (OverflowError, TypeError, ValueError) as misfit:
                self.fault(f"{name_at(case)} cannot be: {misfit}", case.chain, case.version)
                continue
            self.compare_of(case, "", CASE_COLUMNS, stored.get(case.id), wanted)
            self.compare_of(case, "the consultation of ", BOOKING_COLUMNS, bookings.get(case.id), booking_row(case))
            if case.purchase is not None:
                row = linked.get(case.purchase.reference)
                self.compare_of(case, "the purchase of ", PURCHASE_COLUMNS, row, purchase_row(case.purchase))

    async def stored(self, table: str, columns: Sequence[str], keys: Sequence[str]) -> dict[str, Row]:
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE {columns[0]}"  # noqa: S608 - names, no input
        return {row[0]: tuple(row) for row in await self.reading.among(query, keys)}

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
        """Its own row, policies, lifecycles, people and their tokens."""
        known = self.known
        desk = [(known.log, known.timezone)] if known.log else []
        policies = [(one.version, canonical(one).decode()) for one in known.policies.values()]
        steps = [
            (f"{lifecycle}/{source}/{trigger}", step.target)
            for lifecycle, steps in known.lifecycles.items()
            for (source, trigger), step in steps.items()
        ]
        people = [(one.id, one.version, canonical(one).decode()) for one in self.people]
        tokens = [(token.id, one.id, token.commitment) for one in self.people for token in one.tokens]
        self.counts["people"] = len(people)
        for name, columns, query, wanted in (
            ("the desk", ("log", "timezone"), "SELECT log, timezone FROM desk", desk),
            ("the policy version", ("version", "body"), "SELECT version, body FROM policies", policies),
            ("the step", ("name", "target"), STEPS, steps),
            ("the person", ("id", "version", "body"), "SELECT id, version, body FROM people", people),
        ):
            self.compare_all(name, columns, await self.reading.rows(query), wanted)
        stored = [
            (token, person, token_commitment(digest))
            for token, person, digest in await self.reading.rows("SELECT id, person_id, hash FROM tokens")
        ]
        self.compare_all("the token", ("id", "person_id", "hash"), stored, tokens)

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
            self.fault(f"{name}: the row is not what the log says in {differing(columns, found, wanted)}", *place)


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
    "sqlite": {name: f"CAST({name} AS BLOB)" for name in ("body", "salt", "value", "content")},
    "postgresql": {
        "body": "convert_to(body, 'UTF8')",
        "salt": "salt",
        "value": "convert_to(value, 'UTF8')",
        "content": "content",
    },
}
PURCHASE_COLUMNS = ("reference", "currency", "paid", "refunded", "reserved", "body")
BOOKING_COLUMNS = ("case_id", "host", "starts_at", "ends_at")
UNLINKED = f"""
    SELECT {", ".join(PURCHASE_COLUMNS)} FROM purchases
    WHERE NOT EXISTS (SELECT 1 FROM cases WHERE cases.purchase = purchases.reference)
"""  # noqa: S608 - names
PURCHASES_CHANGED = "SELECT body, hash FROM events WHERE type = 'purchase_changed' ORDER BY id"
STEPS = """SELECT lifecycle || '/' || source || '/' || "trigger", target FROM lifecycle_edges"""

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
