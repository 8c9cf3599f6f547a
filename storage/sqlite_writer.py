"""The ledger's hands on SQLite: one transaction per batch on the event loop, only the fsync of COMMIT off it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from storage import search
from storage.batch import (
    AGAIN,
    CAN_GO,
    CASE_COLUMNS,
    EFFECT,
    FILED_COLUMNS,
    FINDINGS_OF,
    HISTORY,
    KEPT,
    KNOWN_ADDRESS,
    KNOWN_IDENTITY,
    LETTER_KINDS,
    MOVING_COLUMNS,
    NO_EFFECTS,
    OUTBOX_COLUMNS,
    PAYMENTS,
    Batch,
    Loaded,
    effect_of,
    filed_under,
    needs_of,
)
from storage.cache import Cache
from storage.directory import DIRECTORY_QUERIES, Directory, directory_of
from storage.events import recorded
from storage.sealing import EVENT_COLUMNS
from storage.sqlite import connect, driver, is_statement_wrong
from storage.submissions import OutOfReach, Row, Submission, Unavailable
from storage.writer import BULKY, Answer, Clock, entries_of
from workflow.cases import Purchase, chain_of
from workflow.effects import EffectKind
from workflow.errors import CaseworkError
from workflow.events import at_text
from workflow.findings import replay_finding
from workflow.guards import Slot
from workflow.people import AddPerson, LinkIdentity

T = TypeVar("T")

LOCK_TIMEOUT_SECONDS = 10.0
SHORT_WAIT_SECONDS = 0.002


def insert(table: str, columns: Sequence[str], conflict: str = "") -> str:
    marks = ", ".join("?" * len(columns))
    names = ", ".join(f'"{column}"' for column in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({marks}) {conflict}"


def update_case(columns: Sequence[str]) -> str:
    return f"UPDATE cases SET {', '.join(f'{column} = ?' for column in columns)} WHERE id = ? AND version = ?"


INSERT_EVENT = insert("events", EVENT_COLUMNS)
INSERT_PERSONAL = insert("personal", ("chain", "seq", "field", "salt", "value"))
INSERT_ATTACHMENT = insert("attachments", ("id", "case_id", "seq", "salt", "content"))
INSERT_OUTBOX = insert("outbox", OUTBOX_COLUMNS)
CHANGE_EFFECT = """
    UPDATE outbox SET status = ?1, fence = ?2, due_at = ?3, failures = CASE ?1 WHEN 'waiting' THEN 0 ELSE failures END
    WHERE id = ?4 AND fence = ?5
"""
INSERT_KEY = insert("idempotency", ("key", "fingerprint", "chain", "seq", "version", "at"))
INSERT_MAIL_REF = insert("mail_refs", ("key", "case_id"))
INSERT_TOKEN = insert("tokens", ("hash", "id", "person_id"))
INSERT_CLIENT_LINK = insert("client_links", ("hash", "id", "case_id"))
INSERT_IDENTITY = insert("identities", ("id", "person_id", "issuer", "subject", "salt"))
INSERT_PROPOSAL = insert("open_proposals", ("case_id", "proposal"), "ON CONFLICT DO NOTHING")
INSERT_POLICY = insert("policies", ("version", "body"))
UPSERT_WEBHOOKS = insert(
    "webhooks",
    ("id", "version", "body"),
    "ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body",
)
PLAN_AGAIN = insert("outbox", OUTBOX_COLUMNS, AGAIN)
INSERT_CASE = insert("cases", CASE_COLUMNS)
# SQLite writes the index of every column that is named, whether its value is another or not.
FILED = slice(-len(FILED_COLUMNS) - len(MOVING_COLUMNS), -len(MOVING_COLUMNS))
MOVING = slice(-len(MOVING_COLUMNS), None)
MOVE_CASE = update_case(MOVING_COLUMNS)
FILE_CASE = update_case((*FILED_COLUMNS, *MOVING_COLUMNS))
UPSERT_PASSWORD = insert(
    "passwords", ("person_id", "hash"), "ON CONFLICT (person_id) DO UPDATE SET hash = excluded.hash"
)
UPSERT_PERSON = insert(
    "people",
    ("id", "version", "body"),
    "ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body",
)
UPSERT_PURCHASE = insert(
    "purchases",
    ("reference", "currency", "paid", "refunded", "reserved", "body"),
    "ON CONFLICT (reference) DO UPDATE SET currency = excluded.currency, paid = excluded.paid,"
    " refunded = excluded.refunded, reserved = excluded.reserved, body = excluded.body",
)
UPSERT_BOOKING = insert(
    "consultations",
    ("case_id", "host", "starts_at", "ends_at"),
    "ON CONFLICT (case_id) DO UPDATE"
    " SET host = excluded.host, starts_at = excluded.starts_at, ends_at = excluded.ends_at",
)
FORGET_KEYS = "DELETE FROM idempotency WHERE at < ?"
INSERT_WORDS = "INSERT INTO case_search (rowid, words) VALUES (?, ?)"
ADD_WORDS = "UPDATE case_search SET words = words || ' ' || ? WHERE rowid = ? AND length(words) < ?"
MAX_INDEXED_CHARACTERS = 2_000_000
ERASE = (
    f"DELETE FROM personal WHERE chain = :chain AND {CAN_GO}",
    f"DELETE FROM personal WHERE chain IN ({FINDINGS_OF.format(':case')})",
    "DELETE FROM attachments WHERE case_id = :case",
    "DELETE FROM mail_refs WHERE case_id = :case",
    f"DELETE FROM outbox WHERE chain = :chain AND kind IN ({LETTER_KINDS})",
    "UPDATE case_search SET words = '' WHERE rowid = :number",
)
# The index only marks what was deleted, and forgets it when its parts are merged.
FORGET_WORDS = "INSERT INTO case_search (case_search) VALUES ('optimize')"


class SqliteWriter:
    """Everything that is cached is dropped when another connection has written (PRAGMA data_version)."""

    def __init__(self, path: Path | str, clock: Clock, effects: frozenset[EffectKind] = NO_EFFECTS) -> None:
        self.path = path
        self.clock = clock
        self.effects = effects
        self.cache = Cache()
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self.known_directory: Directory | None = None
        self.next_number = 0
        self.data_version = -1
        self.connection: Any = None
        self.turn = asyncio.Lock()
        self.is_open = False

    async def open(self) -> None:
        self.connection = connect(self.path, busy_timeout_ms=0)
        self.is_open = True
        self.engine = create_engine(
            "sqlite://", creator=lambda: self.connection, module=driver, poolclass=StaticPool, hide_parameters=True
        )

    async def close(self) -> None:
        self.is_open = False
        self.executor.shutdown()
        if self.connection is not None:
            self.connection.close()

    async def directory(self) -> Directory:
        self.notice_other_writers()
        return self.current_directory()

    async def commit(self, submissions: Sequence[Submission]) -> list[Answer]:
        async with self.turn:
            return await self.commit_together(submissions)

    async def aside(self, work: Callable[[Connection], T]) -> T:
        """Carry out something small between two batches, which nothing that is cached depends on.

        Done on another connection it would have to wait for a gap between batches, and empty the cache.
        """
        async with self.turn:
            # SQLAlchemy rolls back what it finds as it begins and ends: both has to lie outside.
            with self.engine.connect() as connection:
                await self.begin()
                try:
                    result = work(connection)
                    await self.make_durable()
                except BaseException:
                    self.abandon()
                    raise
            return result

    async def commit_together(self, submissions: Sequence[Submission]) -> list[Answer]:
        await self.begin()
        try:
            self.notice_other_writers()
            batch, answers = self.decide(submissions)
            if batch.is_empty:
                self.connection.execute("ROLLBACK")
                return answers
            self.write(batch)
            await self.make_durable()
        except BaseException as failure:
            self.abandon()
            if isinstance(failure, driver.OperationalError) and not is_statement_wrong(failure):
                raise Unavailable(str(failure)) from failure
            raise
        self.remember(batch)
        if batch.erasures:
            self.begin_journal_anew()
        return answers

    def begin_journal_anew(self) -> bool:
        """What was erased still stands in the write-ahead log until then; a reader can put that off."""
        (is_busy, *_) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not is_busy

    async def clear_journal(self) -> bool:
        async with self.turn:
            return self.begin_journal_anew()

    async def forget_keys(self, lifetime: timedelta) -> None:
        before = at_text(self.clock() - lifetime)
        await self.aside(lambda connection: connection.exec_driver_sql(FORGET_KEYS, (before,)))

    async def begin(self) -> None:
        """Never wait inside SQLite: that would hold up the event loop."""
        deadline = asyncio.get_running_loop().time() + LOCK_TIMEOUT_SECONDS
        while True:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
            except driver.OperationalError as busy:
                if asyncio.get_running_loop().time() > deadline or "locked" not in str(busy):
                    raise OutOfReach(str(busy)) from busy
                await asyncio.sleep(SHORT_WAIT_SECONDS)
            else:
                return

    async def make_durable(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LOCK_TIMEOUT_SECONDS
        while True:
            commit = loop.run_in_executor(self.executor, self.connection.execute, "COMMIT")
            try:
                # A cancelled caller must not leave a transaction half-way: the commit is always seen to its end.
                await asyncio.shield(commit)
            except asyncio.CancelledError:
                await commit
                raise
            except driver.OperationalError as busy:  # readers, in a rollback journal
                if loop.time() > deadline or "locked" not in str(busy):
                    raise
                await asyncio.sleep(SHORT_WAIT_SECONDS)
            else:
                return

    def abandon(self) -> None:
        self.cache.clear()
        self.known_directory = None
        self.data_version = -1
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def notice_other_writers(self) -> None:
        (version,) = self.connection.execute("PRAGMA data_version").fetchone()
        if version != self.data_version:
            self.cache.clear()
            self.known_directory = None
            self.next_number = 0
            self.data_version = version

    def current_directory(self) -> Directory:
        if self.known_directory is None:
            desk, policies, people, head = (self.connection.execute(query).fetchall() for query in DIRECTORY_QUERIES)
            self.known_directory = directory_of(desk[0], policies, people, head[0])
        return self.known_directory

    # Deciding.

    def decide(self, submissions: Sequence[Submission]) -> tuple[Batch, list[Answer]]:
        """Each command on the state that the ones before it left."""
        loaded = Loaded(directory=self.current_directory(), next_number=self.number())
        self.load_keys(loaded, submissions)
        refs = [ref for one in submissions for ref in one.mail_refs]
        if refs:
            known = self.select_among("SELECT key FROM mail_refs WHERE key IN (SELECT value FROM json_each(?))", refs)
            loaded.mail_refs = {key for (key,) in known}
        self.load_entries(loaded, {one.case_id for one in submissions if one.case_id is not None})
        batch = Batch(loaded, self.clock(), self.effects)
        answers: list[Answer] = []
        for submission in submissions:
            self.load_needs(batch, submission)
            try:
                answers.append(batch.submit(submission))
            except CaseworkError as refusal:
                answers.append(refusal)
        return batch, answers

    def number(self) -> int:
        if not self.next_number:
            (self.next_number,) = self.connection.execute(
                "SELECT coalesce(max(number), 1000) + 1 FROM cases"
            ).fetchone()
        return self.next_number

    def load_keys(self, loaded: Loaded, submissions: Sequence[Submission]) -> None:
        keys = [one.key.hash for one in submissions if one.key is not None]
        if keys:
            query = (
                "SELECT key, fingerprint, chain, seq, version FROM idempotency"
                " WHERE key IN (SELECT value FROM json_each(?))"
            )
            loaded.keys = {key: tuple(row) for key, *row in self.select_among(query, keys)}

    def load_entries(self, loaded: Loaded, case_ids: Iterable[str]) -> None:
        missing = []
        for case_id in case_ids:
            if case_id in loaded.entries:
                continue
            entry = self.cache.get(case_id)
            if entry is None:
                missing.append(case_id)
            else:
                loaded.entries[case_id] = entry
        if missing:
            cases = self.select_among("SELECT body FROM cases WHERE id IN (SELECT value FROM json_each(?))", missing)
            texts = self.select_among(
                "SELECT chain, seq, field, value FROM personal WHERE chain IN (SELECT value FROM json_each(?))"
                f" AND field NOT IN {BULKY}",
                [chain_of(case_id) for case_id in missing],
            )
            for entry in entries_of(cases, texts):
                loaded.entries[entry.case.id] = entry

    def load_needs(self, batch: Batch, submission: Submission) -> None:
        loaded, entry = batch.loaded, batch.entry(submission.case_id)
        if isinstance(submission.command, AddPerson | LinkIdentity):
            self.load_owner(loaded, submission.command)
            return
        needs = needs_of(submission, entry.case if entry else None)
        if needs.kept and entry is not None and (chain := entry.case.chain) not in loaded.kept:
            loaded.kept[chain] = self.connection.execute(KEPT.format("?1", "?2"), (chain, entry.case.id)).fetchall()
        if needs.finding and needs.finding not in loaded.findings:
            history = self.connection.execute(HISTORY.format("?"), (needs.finding,)).fetchall()
            if finding := replay_finding(recorded(*row) for row in history):
                loaded.findings[needs.finding] = finding
        if (mail := needs.mail) and mail not in loaded.mails:
            history = self.connection.execute(HISTORY.format("?"), (mail,)).fetchall()
            loaded.mails[mail] = [recorded(*row) for row in history]
            loaded.kept[mail] = self.connection.execute(KEPT.format("?1", "?2"), (mail, "")).fetchall()
        if needs.effect and needs.effect not in loaded.effects:
            row = self.connection.execute(EFFECT.format("= ?"), (needs.effect,)).fetchone()
            loaded.effects |= {needs.effect: effect_of(row)} if row else {}
        self.load_payment(loaded, entry.case.chain if entry and needs.payment else "")
        for reference in needs.purchases:
            if reference not in loaded.linked:
                self.load_purchase(loaded, reference)
        for host in needs.hosts:
            if host not in loaded.slots:
                rows = self.connection.execute(
                    "SELECT case_id, starts_at, ends_at FROM consultations WHERE host = ? AND ends_at > ?",
                    (host, at_text(batch.now)),
                )
                loaded.slots[host] = [slot_of(row) for row in rows]
        if needs.cases:
            found = self.select_among("SELECT id FROM cases WHERE id IN (SELECT value FROM json_each(?))", needs.cases)
            loaded.known_cases.update(case_id for (case_id,) in found)

    def load_owner(self, loaded: Loaded, command: AddPerson | LinkIdentity) -> None:
        """Whether somebody has already what can be one person's alone."""
        if isinstance(command, AddPerson):
            if self.connection.execute(KNOWN_ADDRESS.format("?"), (command.email,)).fetchone():
                loaded.known_addresses.add(command.email)
            return
        pair = (command.issuer, command.subject)
        if found := self.connection.execute(KNOWN_IDENTITY.format("?", "?"), pair).fetchone():
            loaded.known_identities.setdefault(pair, found[0])

    def load_payment(self, loaded: Loaded, chain: str) -> None:
        if chain and chain not in loaded.asked:
            claims = self.connection.execute(PAYMENTS.format("?"), (chain,)).fetchall()
            loaded.asked[chain] = any(fence for (fence,) in claims)

    def load_purchase(self, loaded: Loaded, reference: str) -> None:
        row = self.connection.execute("SELECT body FROM purchases WHERE reference = ?", (reference,)).fetchone()
        if row is not None:
            loaded.purchases[reference] = msgspec.json.decode(row[0], type=Purchase)
        sharing = self.connection.execute("SELECT id FROM cases WHERE purchase = ?", (reference,)).fetchall()
        loaded.linked[reference] = {case_id for (case_id,) in sharing}
        self.load_entries(loaded, loaded.linked[reference])

    def select_among(self, query: str, values: Sequence[str]) -> list[Row]:
        rows: list[Row] = self.connection.execute(query, (msgspec.json.encode(values).decode(),)).fetchall()
        return rows

    # Writing.

    def write(self, batch: Batch) -> None:
        many = self.connection.executemany
        for chain, case in batch.erasures.items():
            about = {"chain": chain, "case": case.id if case else "", "number": case.number if case else 0}
            for statement in ERASE:
                self.connection.execute(statement, about)
        for statement, rows in (
            (INSERT_EVENT, batch.events),
            (INSERT_PERSONAL, batch.personal),
            (INSERT_OUTBOX, batch.outbox),
            (PLAN_AGAIN, batch.again),
            (CHANGE_EFFECT, batch.effect_rows()),
            (INSERT_KEY, batch.keys),
            (INSERT_ATTACHMENT, batch.attachments),
            (INSERT_MAIL_REF, batch.mail_refs),
            (INSERT_TOKEN, batch.tokens),
            ("DELETE FROM tokens WHERE id = ?", batch.revoked_tokens),
            (UPSERT_PASSWORD, batch.passwords),
            (INSERT_CLIENT_LINK, batch.client_links),
            ("DELETE FROM client_links WHERE id = ?", batch.ended_links),
            (INSERT_IDENTITY, batch.identities),
            ("DELETE FROM identities WHERE id = ?", batch.unlinked_identities),
            (INSERT_POLICY, batch.policies),
            (UPSERT_WEBHOOKS, batch.webhooks_rows()),
            (UPSERT_PERSON, batch.person_rows()),
            (UPSERT_PURCHASE, batch.purchase_rows()),
            (UPSERT_BOOKING, batch.booking_rows()),
            ("DELETE FROM consultations WHERE case_id = ?", batch.ended_bookings()),
            (INSERT_PROPOSAL, batch.opened_proposals()),
            ("DELETE FROM open_proposals WHERE case_id = ? AND proposal = ?", batch.ended_proposals()),
        ):
            if rows:
                many(statement, rows)
        self.write_cases(batch)
        for number, texts in batch.words.items():
            document = search.fts5_document("\n".join(texts))
            if number in batch.new_numbers:
                self.connection.execute(INSERT_WORDS, (number, document))
            else:
                self.connection.execute(ADD_WORDS, (document, number, MAX_INDEXED_CHARACTERS))
        if batch.erasures:
            self.connection.execute(FORGET_WORDS)

    def write_cases(self, batch: Batch) -> None:
        """The only place where SQLite's case rows change."""
        opened, moved, filed = [], [], []
        for replaces, row in batch.case_rows():
            case_id = row[0]
            if replaces == 0:
                opened.append(row)
            elif row[FILED] == filed_under(batch.loaded.entries[case_id].case):
                moved.append((*row[MOVING], case_id, replaces))
            else:
                filed.append((*row[FILED], *row[MOVING], case_id, replaces))
        if opened:
            self.connection.executemany(INSERT_CASE, opened)
        for statement, rows in ((MOVE_CASE, moved), (FILE_CASE, filed)):
            if rows and self.connection.executemany(statement, rows).rowcount != len(rows):
                raise RuntimeError("a case was changed under the write lock")

    def remember(self, batch: Batch) -> None:
        for entry in batch.entries_written():
            self.cache.put(entry)
        for case_id, entry in batch.loaded.entries.items():
            if case_id not in batch.changed:
                self.cache.put(entry)
        self.next_number = batch.loaded.next_number
        if batch.people or batch.policies or batch.webhooks:
            self.known_directory = None


def slot_of(row: Row) -> Slot:
    case_id, starts_at, ends_at = row
    return Slot(case=case_id, starts_at=datetime.fromisoformat(starts_at), ends_at=datetime.fromisoformat(ends_at))
