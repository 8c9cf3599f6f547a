"""The ledger's hands on PostgreSQL: a batch is one statement, conditional on every version it rests on.

The common case is decided on what is cached and written optimistically. Whatever needs more (a refusal, a conflict, a
key seen before, a purchase, a calendar) is done again by itself under row locks, taken in one order: the idempotency
key, purchases, cases, people.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, get_args

import asyncpg
import msgspec

from storage import search
from storage.batch import (
    AGAIN,
    CAN_GO,
    CASE_COLUMNS,
    EFFECT,
    FINDINGS_OF,
    HISTORY,
    KEPT,
    KNOWN_ADDRESS,
    KNOWN_IDENTITY,
    LETTER_KINDS,
    NO_EFFECTS,
    OUTBOX_COLUMNS,
    PAYMENTS,
    Batch,
    Loaded,
    Repeat,
    effect_of,
    needs_of,
)
from storage.cache import Cache
from storage.directory import DIRECTORY_QUERIES, Directory, directory_of
from storage.events import recorded
from storage.sealing import EVENT_COLUMNS
from storage.sqlite_writer import slot_of
from storage.submissions import OutcomeUnknown, OutOfReach, Receipt, Row, Submission, Unavailable
from storage.writer import BULKY, Answer, Clock, entries_of
from workflow.cases import Purchase, chain_of
from workflow.commands import OpenCase
from workflow.desk import AddPolicy
from workflow.effects import EffectKind
from workflow.errors import CaseworkError
from workflow.events import at_text
from workflow.findings import replay_finding
from workflow.people import AddPerson, LinkIdentity, PersonCommand
from workflow.settling import SettleEffect
from workflow.webhooks import WebhookCommand

LOCK_TIMEOUT = "2s"
IDLE_TIMEOUT = "10s"  # a process that was cut off in the middle must not keep its locks
COMMAND_SECONDS = 10.0  # a connection that is silent for longer is given up
CONNECT_SECONDS = 3.0
LOOKUP_PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 4.0)  # between the questions what became of a COMMIT
ATTEMPTS = 8
PATIENCE_SECONDS = 5.0  # others are waiting for this command to end

# People, the policy and the endpoints are changed by few and rarely: under locks, one at a time.
ABOUT_THE_DESK = (*get_args(PersonCommand), AddPolicy, *get_args(WebhookCommand))

# Raised by casework_confirm: something that the batch rests on is not as it was.
DESK_HAS_CHANGED = "CW001"

TEXT, INT, BIGINT, BYTES, BOOL = "text[]", "int[]", "bigint[]", "bytea[]", "bool[]"

EVENT_TYPES = (TEXT, INT, INT, *(TEXT,) * 9)
CASE_TYPES = (TEXT, BIGINT, TEXT, TEXT, TEXT, TEXT, TEXT, INT, TEXT, TEXT, BOOL, TEXT, TEXT, TEXT)
PERSONAL_COLUMNS, PERSONAL_TYPES = ("chain", "seq", "field", "salt", "value"), (TEXT, INT, TEXT, BYTES, TEXT)
OUTBOX_TYPES = (TEXT, INT, *(TEXT,) * 5)
KEY_COLUMNS = ("key", "fingerprint", "chain", "seq", "version", "at")
KEY_TYPES = (TEXT, TEXT, TEXT, INT, INT, TEXT)


class Parameters:
    """Numbers the placeholders of one statement, and turns rows into one array per column."""

    def __init__(self) -> None:
        self.types: list[str] = []

    def unnest(self, types: Sequence[str]) -> str:
        marks = []
        for one in types:
            self.types.append(one)
            marks.append(f"${len(self.types)}::{one}")
        return f"unnest({', '.join(marks)})"

    def single(self, kind: str) -> str:
        self.types.append(kind)
        return f"${len(self.types)}::{kind}"


def names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def build_write() -> str:
    """Events, texts, effects, keys and case rows in one statement that undoes itself unless all versions hold."""
    p = Parameters()
    return f"""
        WITH logged AS (
            INSERT INTO events ({names(EVENT_COLUMNS)}) SELECT * FROM {p.unnest(EVENT_TYPES)}
        ), texts AS (
            INSERT INTO personal ({names(PERSONAL_COLUMNS)}) SELECT * FROM {p.unnest(PERSONAL_TYPES)}
        ), effects AS (
            INSERT INTO outbox ({names(OUTBOX_COLUMNS)}) SELECT * FROM {p.unnest(OUTBOX_TYPES)}
        ), keys AS (
            INSERT INTO idempotency ({names(KEY_COLUMNS)}) SELECT * FROM {p.unnest(KEY_TYPES)}
        ), moved AS (
            UPDATE cases SET ({names(CASE_COLUMNS[3:])}) = ROW ({", ".join(f"j.{c}" for c in CASE_COLUMNS[3:])})
            FROM {p.unnest((*CASE_TYPES, INT))} AS j ({names(CASE_COLUMNS)}, replaces)
            WHERE cases.id = j.id AND cases.version = j.replaces
            RETURNING 1
        )
        SELECT casework_confirm(
            (SELECT count(*) FROM moved) = {p.single("bigint")}
            AND (SELECT count(*) FROM people JOIN {p.unnest((TEXT, INT))} AS u (id, version) USING (id, version))
                = {p.single("bigint")}
            AND (SELECT max(version) FROM policies) = {p.single("int")}
            AND coalesce((SELECT version FROM webhooks), 0) = {p.single("int")}
        )
    """


WRITE = build_write()


def build_insert(table: str, columns: Sequence[str], types: Sequence[str], conflict: str = "") -> str:
    return f"INSERT INTO {table} ({names(columns)}) SELECT * FROM {Parameters().unnest(types)} {conflict}"


def replacing(key: str, *columns: str) -> str:
    return f"ON CONFLICT ({key}) DO UPDATE SET " + ", ".join(f"{column} = excluded.{column}" for column in columns)


INSERT_CASES = build_insert("cases", CASE_COLUMNS, CASE_TYPES)
INSERT_ATTACHMENTS = build_insert(
    "attachments", ("id", "case_id", "seq", "salt", "content"), (TEXT, TEXT, INT, BYTES, BYTES)
)
INSERT_MAIL_REFS = build_insert("mail_refs", ("key", "case_id"), (TEXT, TEXT))
INSERT_TOKENS = build_insert("tokens", ("hash", "id", "person_id"), (TEXT, TEXT, TEXT))
DELETE_TOKENS = "DELETE FROM tokens WHERE id = ANY($1::text[])"
INSERT_PASSWORDS = build_insert("passwords", ("person_id", "hash"), (TEXT, TEXT), replacing("person_id", "hash"))
INSERT_CLIENT_LINKS = build_insert("client_links", ("hash", "id", "case_id"), (TEXT, TEXT, TEXT))
DELETE_CLIENT_LINKS = "DELETE FROM client_links WHERE id = ANY($1::text[])"
INSERT_IDENTITIES = build_insert(
    "identities", ("id", "person_id", "issuer", "subject", "salt"), (TEXT, TEXT, TEXT, TEXT, BYTES)
)
DELETE_IDENTITIES = "DELETE FROM identities WHERE id = ANY($1::text[])"
INSERT_POLICIES = build_insert("policies", ("version", "body"), (INT, TEXT))
INSERT_WEBHOOKS = build_insert(
    "webhooks", ("id", "version", "body"), (INT, INT, TEXT), replacing("id", "version", "body")
)
PLAN_AGAIN = build_insert("outbox", OUTBOX_COLUMNS, OUTBOX_TYPES, AGAIN)
INSERT_PEOPLE = build_insert("people", ("id", "version", "body"), (TEXT, INT, TEXT), replacing("id", "version", "body"))
PURCHASE_COLUMNS = ("reference", "currency", "paid", "refunded", "reserved", "body")
PURCHASE_TYPES = (TEXT, TEXT, BIGINT, BIGINT, BIGINT, TEXT)
# What is new to this batch may be new to another one too; what it has locked is replaced.
INSERT_PURCHASES = build_insert("purchases", PURCHASE_COLUMNS, PURCHASE_TYPES)
REPLACE_PURCHASES = build_insert("purchases", PURCHASE_COLUMNS, PURCHASE_TYPES, replacing(*PURCHASE_COLUMNS))
INSERT_BOOKINGS = build_insert(
    "consultations",
    ("case_id", "host", "starts_at", "ends_at"),
    (TEXT, TEXT, TEXT, TEXT),
    replacing("case_id", "host", "starts_at", "ends_at"),
)
DELETE_BOOKINGS = "DELETE FROM consultations WHERE case_id = ANY($1::text[])"
INSERT_PROPOSALS = build_insert("open_proposals", ("case_id", "proposal"), (TEXT, TEXT), "ON CONFLICT DO NOTHING")
DELETE_PROPOSALS = (
    "DELETE FROM open_proposals USING unnest($1::text[], $2::text[]) AS u (case_id, proposal)"
    " WHERE open_proposals.case_id = u.case_id AND open_proposals.proposal = u.proposal"
)
# Locked by now, or as they were when they were looked at.
CHANGE_EFFECTS = (
    "UPDATE outbox SET status = u.status, fence = u.fence, due_at = u.due_at,"
    " failures = CASE u.status WHEN 'waiting' THEN 0 ELSE failures END"
    " FROM unnest($1::text[], $2::int[], $3::text[], $4::bigint[], $5::int[]) AS u (status, fence, due_at, id, before)"
    " WHERE outbox.id = u.id AND outbox.fence = u.before"
)
INSERT_WORDS = (
    "INSERT INTO case_search (number, words) SELECT n, w::tsvector FROM unnest($1::bigint[], $2::text[]) AS u (n, w)"
)
# An index entry may not grow beyond what PostgreSQL can hold; the last words of a very long case are not found.
ADD_WORDS = (
    "UPDATE case_search SET words = case_search.words || u.w::tsvector"
    " FROM unnest($1::bigint[], $2::text[]) AS u (n, w)"
    " WHERE number = u.n AND pg_column_size(case_search.words || ''::tsvector) < 400000"  # not of its compressed form
)

ERASE = (
    f"DELETE FROM personal WHERE chain = $1 AND {CAN_GO}",
    f"DELETE FROM outbox WHERE chain = $1 AND kind IN ({LETTER_KINDS})",
)
ERASE_BESIDE = (
    f"DELETE FROM personal WHERE chain IN ({FINDINGS_OF.format('$1::text')})",
    "DELETE FROM attachments WHERE case_id = $1",
    "DELETE FROM mail_refs WHERE case_id = $1",
)
ERASE_WORDS = "UPDATE case_search SET words = '' WHERE number = $1"

# A process of the server may go on though nobody hears it any more. Another ledger may have its number by now: that one
# copes with it as we do.
END_SESSION = """
    SELECT coalesce(bool_and(pg_terminate_backend(pid, 2000)), true) FROM pg_stat_activity
    WHERE pid = $1 AND pid <> pg_backend_pid() AND application_name = 'casework ledger'
"""


def columns_of(rows: Sequence[Row], width: int) -> list[Sequence[Any]]:
    return [*map(list, zip(*rows, strict=True))] if rows else [[] for _ in range(width)]


class PostgresWriter:
    def __init__(self, url: str, clock: Clock, effects: frozenset[EffectKind] = NO_EFFECTS) -> None:
        self.url = url
        self.clock = clock
        self.effects = effects
        self.cache = Cache()
        self.known_directory: Directory | None = None
        self.connection: asyncpg.Connection[Any] | None = None
        self.session = 0  # the connection's process on the server

    async def open(self) -> None:
        await self.connected()

    async def close(self) -> None:
        if self.connection is not None and not self.connection.is_closed():
            with suppress(TimeoutError):
                await self.connection.close(timeout=CONNECT_SECONDS)

    async def connected(self) -> "asyncpg.Connection[Any]":
        """The ledger's only connection. Raises OutOfReach.

        A new one comes after the end of the one before: what that has not written by then, it never will.
        """
        if self.connection is not None and not self.connection.is_closed():
            return self.connection
        try:
            connection = await asyncpg.connect(
                self.url,
                timeout=CONNECT_SECONDS,
                command_timeout=COMMAND_SECONDS,
                server_settings={
                    "application_name": "casework ledger",
                    "lock_timeout": LOCK_TIMEOUT,
                    "idle_in_transaction_session_timeout": IDLE_TIMEOUT,
                    "synchronous_commit": "on",
                    "jit": "off",
                },
            )
            if not await connection.fetchval(END_SESSION, self.session):
                connection.terminate()
                raise OutOfReach("the session before goes on")
        except (*LOST, asyncpg.PostgresError) as failure:
            raise OutOfReach(str(failure)) from failure
        self.connection, self.session = connection, connection.get_server_pid()
        return connection

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.terminate()

    async def directory(self) -> Directory:
        """Read anew: another process may have changed it."""
        self.known_directory = await self.load_directory(await self.connected())
        return self.known_directory

    async def commit(self, submissions: Sequence[Submission]) -> list[Answer]:
        answers = await self.commit_optimistically(submissions)
        out_of_reach: Answer | None = None
        for index, submission in enumerate(submissions):
            if index not in answers:
                answers[index] = out_of_reach or await self.commit_carefully(submission)
                if isinstance(answers[index], OutOfReach):
                    out_of_reach = answers[index]  # for the rest too: they need not wait for it one by one
        return [answers[index] for index in range(len(submissions))]

    async def forget_keys(self, lifetime: timedelta) -> None:
        connection = await self.connected()
        await connection.execute("DELETE FROM idempotency WHERE at < $1", at_text(self.clock() - lifetime))

    async def clear_journal(self) -> bool:
        return True  # the server's, which expires

    # The common case.

    async def commit_optimistically(self, submissions: Sequence[Submission]) -> dict[int, Answer]:
        """The answers that could be given; whatever is missing has left no trace."""
        connection = await self.connected()
        try:
            if self.known_directory is None:
                self.known_directory = await self.load_directory(connection)
            loaded = Loaded(directory=self.known_directory)
            await self.load_entries(connection, loaded, [one.case_id for one in submissions if one.case_id], lock=False)
            await self.load_what_mail_and_workers_name(connection, loaded, submissions)
            batch = Batch(loaded, self.clock(), self.effects)
            simple = {index: one for index, one in enumerate(submissions) if self.is_simple(batch, one)}
            opening = sum(isinstance(one.command, OpenCase) for one in simple.values())
            numbers = await self.numbers(connection, opening)
        except LOST:
            self.hang_up()
            return {}
        answers: dict[int, Answer] = {}
        for index, submission in simple.items():
            if isinstance(submission.command, OpenCase):
                loaded.next_number = numbers.pop()
            # A refusal may come from a cache that another process has overtaken: it is decided again under locks.
            answer = self.attempt(batch, submission)
            # So may the belief that nothing has to change.
            if isinstance(answer, Receipt) and answer.events:
                answers[index] = answer
        if not answers:
            return {}
        try:
            await self.write(connection, batch)
        except LOST:
            self.distrust(batch)
            self.hang_up()
            try:
                return answers if await self.was_written(batch) else {}
            except OutcomeUnknown as unknown:
                return dict.fromkeys(answers, unknown)
        except asyncpg.PostgresError as failure:
            self.distrust(batch)
            if is_overtaken(failure) or isinstance(failure, asyncpg.IntegrityConstraintViolationError):
                return {}
            raise told(failure) from failure
        except SetGrew:
            self.distrust(batch)
            return {}
        self.remember(batch)
        return answers

    @staticmethod
    def is_simple(batch: Batch, submission: Submission) -> bool:
        if isinstance(submission.command, ABOUT_THE_DESK):
            return False
        if isinstance(submission.command, SettleEffect):
            return submission.command.effect in batch.loaded.effects
        entry = batch.entry(submission.case_id)
        return needs_of(submission, entry.case if entry else None).nothing

    @staticmethod
    def attempt(batch: Batch, submission: Submission) -> Answer:
        events, keys, effects = len(batch.events), len(batch.keys), len(batch.outbox)
        answer: Answer
        try:
            answer = batch.submit(submission)
        except CaseworkError as refusal:
            answer = refusal
        if not (isinstance(answer, Receipt) and answer.events):
            # What was recorded of a refusal, and the key of what changes nothing, belong to the careful decision.
            del batch.events[events:]
            del batch.keys[keys:]
            del batch.outbox[effects:]
        return answer

    def distrust(self, batch: Batch) -> None:
        self.known_directory = None
        for case_id in (*batch.changed, *batch.loaded.entries):
            self.cache.drop(case_id)

    def remember(self, batch: Batch) -> None:
        for case_id, entry in batch.loaded.entries.items():
            if case_id not in batch.changed:
                self.cache.put(entry)
        for entry in batch.entries_written():
            self.cache.put(entry)
        if batch.people or batch.policies or batch.webhooks:
            self.known_directory = None

    async def was_written(self, batch: Batch) -> bool:
        """After the answer to COMMIT was lost: ask the log itself. Raises OutcomeUnknown."""
        chain, seq, digest = (batch.events[0][EVENT_COLUMNS.index(name)] for name in ("chain", "seq", "hash"))
        for pause in LOOKUP_PAUSES:
            await asyncio.sleep(pause)
            try:
                connection = await self.connected()
                found = await connection.fetchval(
                    "SELECT hash = $3 FROM events WHERE chain = $1 AND seq = $2", chain, seq, digest
                )
            except (OutOfReach, *LOST):
                self.hang_up()
                continue
            return bool(found)
        raise OutcomeUnknown

    # Everything else, one by one, under locks.

    async def commit_carefully(self, submission: Submission) -> Answer:
        ends_at = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        answer: Answer = Unavailable("the case is too busy; try again")
        for attempt in range(ATTEMPTS):
            try:
                return await self.commit_under_locks(submission)
            except SetGrew:
                pass
            except (OutOfReach, OutcomeUnknown) as failure:
                return failure
            except LOST:
                self.hang_up()
            except asyncpg.UniqueViolationError as failure:
                answer = failure  # unless somebody else has just made the same
            except asyncpg.PostgresError as failure:
                if not is_overtaken(failure):
                    return told(failure)
            except Exception as failure:  # noqa: BLE001 - raised, it would have the commands before it done again
                return failure
            if asyncio.get_running_loop().time() > ends_at:
                break
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter, not a secret
        return answer

    async def commit_under_locks(self, submission: Submission) -> Answer:
        connection = await self.connected()
        transaction = connection.transaction()
        await transaction.start()
        batch: Batch | None = None
        try:
            loaded = await self.load_under_locks(connection, submission)
            batch = Batch(loaded, self.clock(), self.effects)
            answer: Answer
            try:
                answer = batch.submit(submission)
            except CaseworkError as refusal:
                answer = refusal
            if submission.key is not None and not isinstance(answer, Receipt | Repeat):
                await connection.execute("DELETE FROM idempotency WHERE key = $1 AND version = 0", submission.key.hash)
            if batch.is_empty:
                await transaction.rollback()
                return answer
            await self.write_rows(connection, batch)
        except BaseException as failure:
            if batch is not None:
                self.distrust(batch)
            if not isinstance(failure, LOST):
                await transaction.rollback()
            raise
        try:
            await transaction.commit()
        except LOST:
            self.distrust(batch)
            self.hang_up()
            if await self.was_written(batch):
                return answer
            raise
        self.remember(batch)
        return answer

    async def load_under_locks(self, connection: "asyncpg.Connection[Any]", submission: Submission) -> Loaded:
        """Lock in the one order, and read only then."""
        keys: dict[str, Row] = {}
        if submission.key is not None:
            keys = await self.take_key(connection, submission)
        command, case_id = submission.command, submission.case_id
        entry = None
        if case_id is not None:
            rows = await connection.fetch("SELECT body FROM cases WHERE id = $1", case_id)
            entry = next(iter(entries_of([tuple(row) for row in rows], ())), None)
        needs = needs_of(submission, entry.case if entry else None)
        purchases = await self.lock_purchases(connection, sorted(needs.purchases))
        sharing = await connection.fetch(
            "SELECT id, purchase FROM cases WHERE purchase = ANY($1::text[])", list(needs.purchases)
        )
        linked: dict[str, set[str]] = {reference: set() for reference in needs.purchases}
        for row in sharing:
            linked[row["purchase"]].add(row["id"])
        # Only the commands that change a purchase write to its other cases.
        wanted = {row["id"] for row in sharing} | ({case_id} if case_id is not None else set())
        if isinstance(command, ABOUT_THE_DESK):
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('casework desk'))")
        for each in sorted(wanted):
            await connection.fetch("SELECT 1 FROM cases WHERE id = $1 FOR UPDATE", each)
        for host in sorted({*needs.hosts, submission.actor.id}):
            how = "FOR UPDATE" if host in needs.hosts else "FOR SHARE"
            await connection.fetch(f"SELECT 1 FROM people WHERE id = $1 {how}", host)
        loaded = Loaded(directory=await self.load_directory(connection), purchases=purchases, linked=linked, keys=keys)
        await self.load_entries(connection, loaded, sorted(wanted), lock=True)
        fresh = loaded.entries.get(case_id) if case_id is not None else None
        if needs_of(submission, fresh.case if fresh else None) != needs:
            raise SetGrew
        for host in needs.hosts:
            rows = await connection.fetch(
                "SELECT case_id, starts_at, ends_at FROM consultations WHERE host = $1 AND ends_at > $2",
                host,
                at_text(self.clock()),
            )
            loaded.slots[host] = [slot_of(tuple(row)) for row in rows]
        found = await connection.fetch("SELECT id FROM cases WHERE id = ANY($1::text[])", list(needs.cases))
        loaded.known_cases = {row["id"] for row in found}
        if needs.kept and fresh is not None:
            stored = await connection.fetch(KEPT.format("$1", "$2::text"), fresh.case.chain, fresh.case.id)
            loaded.kept[fresh.case.chain] = [(row["seq"], row["field"]) for row in stored]
        await self.load_finding(connection, loaded, needs.finding)
        await self.load_mail(connection, loaded, needs.mail)
        await self.load_effect(connection, loaded, needs.effect)
        await self.load_payment(connection, loaded, fresh.case.chain if fresh and needs.payment else "")
        refs = await connection.fetch(
            "SELECT key FROM mail_refs WHERE key = ANY($1::text[])", list(submission.mail_refs)
        )
        loaded.mail_refs = {row["key"] for row in refs}
        if isinstance(command, OpenCase):
            (loaded.next_number,) = await self.numbers(connection, 1)
        if isinstance(command, AddPerson | LinkIdentity):
            await self.load_owner(connection, loaded, command)
        return loaded

    async def take_key(self, connection: "asyncpg.Connection[Any]", submission: Submission) -> dict[str, Row]:
        """Write the key before deciding: a second request with it waits here until the first is through."""
        key = submission.key
        if key is None:
            return {}
        taken = await connection.fetchval(
            "INSERT INTO idempotency (key, fingerprint, chain, seq, version, at) VALUES ($1, $2, '', 0, 0, $3)"
            " ON CONFLICT (key) DO NOTHING RETURNING true",
            key.hash,
            key.fingerprint,
            at_text(self.clock()),
        )
        if taken:
            return {}
        row = await connection.fetchrow(
            "SELECT fingerprint, chain, seq, version FROM idempotency WHERE key = $1", key.hash
        )
        if row is None:  # the first request was refused meanwhile
            raise SetGrew
        return {key.hash: tuple(row)}

    async def lock_purchases(
        self, connection: "asyncpg.Connection[Any]", references: Iterable[str]
    ) -> dict[str, Purchase]:
        purchases = {}
        for reference in references:
            body = await connection.fetchval("SELECT body FROM purchases WHERE reference = $1 FOR UPDATE", reference)
            if body is not None:
                purchases[reference] = msgspec.json.decode(body, type=Purchase)
        return purchases

    # Reading.

    async def load_directory(self, connection: "asyncpg.Connection[Any]") -> Directory:
        desk, policies, people, head = [
            [tuple(row) for row in await connection.fetch(query)] for query in DIRECTORY_QUERIES
        ]
        return directory_of(desk[0], policies, people, head[0])

    async def load_entries(
        self, connection: "asyncpg.Connection[Any]", loaded: Loaded, case_ids: Sequence[str], *, lock: bool
    ) -> None:
        """Under locks everything is read; otherwise what is cached serves."""
        missing = []
        for case_id in dict.fromkeys(case_ids):
            entry = None if lock else self.cache.get(case_id)
            if entry is None:
                missing.append(case_id)
            else:
                loaded.entries[case_id] = entry
        if not missing:
            return
        cases = await connection.fetch("SELECT body FROM cases WHERE id = ANY($1::text[])", missing)
        texts = await connection.fetch(
            "SELECT chain, seq, field, value FROM personal WHERE chain = ANY($1::text[]) AND field <> ALL($2::text[])",
            [chain_of(case_id) for case_id in missing],
            list(BULKY),
        )
        for entry in entries_of((tuple(row) for row in cases), (tuple(row) for row in texts)):
            loaded.entries[entry.case.id] = entry

    @staticmethod
    async def load_owner(
        connection: "asyncpg.Connection[Any]", loaded: Loaded, command: AddPerson | LinkIdentity
    ) -> None:
        """Whether somebody has already what can be one person's alone."""
        if isinstance(command, AddPerson):
            if await connection.fetchval(KNOWN_ADDRESS.format("$1"), command.email):
                loaded.known_addresses.add(command.email)
            return
        pair = (command.issuer, command.subject)
        if known := await connection.fetchval(KNOWN_IDENTITY.format("$1", "$2"), *pair):
            loaded.known_identities[pair] = known

    @staticmethod
    async def load_finding(connection: "asyncpg.Connection[Any]", loaded: Loaded, chain: str) -> None:
        history = await connection.fetch(HISTORY.format("$1"), chain) if chain else ()
        if finding := replay_finding(recorded(*row) for row in history):
            loaded.findings[chain] = finding

    @staticmethod
    async def load_mail(connection: "asyncpg.Connection[Any]", loaded: Loaded, chain: str) -> None:
        if chain:
            loaded.mails[chain] = [recorded(*row) for row in await connection.fetch(HISTORY.format("$1"), chain)]
            stored = await connection.fetch(KEPT.format("$1", "$2::text"), chain, "")
            loaded.kept[chain] = [(row["seq"], row["field"]) for row in stored]

    @staticmethod
    async def load_what_mail_and_workers_name(
        connection: "asyncpg.Connection[Any]", loaded: Loaded, submissions: Sequence[Submission]
    ) -> None:
        """Without locks: a mail that somebody else takes in meanwhile collides, and fences are asked once more."""
        if refs := [ref for one in submissions for ref in one.mail_refs]:
            known = await connection.fetch("SELECT key FROM mail_refs WHERE key = ANY($1::text[])", refs)
            loaded.mail_refs = {row["key"] for row in known}
        if settled := [one.command.effect for one in submissions if isinstance(one.command, SettleEffect)]:
            for row in await connection.fetch(EFFECT.format("= ANY($1::bigint[])"), settled):
                loaded.effects[row["id"]] = effect_of(tuple(row))

    @staticmethod
    async def load_effect(connection: "asyncpg.Connection[Any]", loaded: Loaded, number: int) -> None:
        for row in await connection.fetch(f"{EFFECT.format('= $1')} FOR UPDATE OF o", number) if number else ():
            loaded.effects[number] = effect_of(tuple(row))

    @staticmethod
    async def load_payment(connection: "asyncpg.Connection[Any]", loaded: Loaded, chain: str) -> None:
        """Whoever is about to claim one has been before us, or waits."""
        for row in await connection.fetch(f"{PAYMENTS.format('$1')} FOR UPDATE", chain) if chain else ():
            loaded.asked[chain] = loaded.asked.get(chain, False) or row["fence"] > 0

    @staticmethod
    async def numbers(connection: "asyncpg.Connection[Any]", count: int) -> list[int]:
        """Fresh case numbers, the smallest last."""
        if not count:
            return []
        rows = await connection.fetch("SELECT nextval('case_numbers') AS number FROM generate_series(1, $1)", count)
        return sorted((row["number"] for row in rows), reverse=True)

    # Writing.

    async def write(self, connection: "asyncpg.Connection[Any]", batch: Batch) -> None:
        if has_more_than_log(batch):
            async with connection.transaction():
                await self.write_rows(connection, batch)
        else:
            await connection.execute(WRITE, *write_arguments(batch))

    async def write_rows(self, connection: "asyncpg.Connection[Any]", batch: Batch) -> None:
        opened = [row for replaces, row in batch.case_rows() if replaces == 0] if batch.new_numbers else []
        new = {number: texts for number, texts in batch.words.items() if number in batch.new_numbers}
        more = {number: texts for number, texts in batch.words.items() if number not in batch.new_numbers}
        if batch.keys:
            # Taken before deciding, filled now; the statement below inserts only what was not taken.
            await connection.execute(
                "DELETE FROM idempotency WHERE key = ANY($1) AND version = 0", [row[0] for row in batch.keys]
            )
        for chain, case in batch.erasures.items():
            beside = ((ERASE_BESIDE, case.id), ((ERASE_WORDS,), case.number)) if case else ()
            for statements, key in ((ERASE, chain), *beside):
                for statement in statements:
                    await connection.execute(statement, key)
        purchases = batch.purchase_rows()
        for statement, rows in (
            (INSERT_PURCHASES, [row for row in purchases if row[0] not in batch.loaded.purchases]),
            (REPLACE_PURCHASES, [row for row in purchases if row[0] in batch.loaded.purchases]),
            (INSERT_CASES, opened),
            (INSERT_ATTACHMENTS, batch.attachments),
            (INSERT_MAIL_REFS, batch.mail_refs),
            (INSERT_TOKENS, batch.tokens),
            (DELETE_TOKENS, batch.revoked_tokens),
            (INSERT_PASSWORDS, batch.passwords),
            (INSERT_CLIENT_LINKS, batch.client_links),
            (DELETE_CLIENT_LINKS, batch.ended_links),
            (INSERT_IDENTITIES, batch.identities),
            (DELETE_IDENTITIES, batch.unlinked_identities),
            (INSERT_POLICIES, batch.policies),
            (INSERT_WEBHOOKS, batch.webhooks_rows()),
            (PLAN_AGAIN, batch.again),
            (INSERT_PEOPLE, batch.person_rows()),
            (INSERT_BOOKINGS, batch.booking_rows()),
            (DELETE_BOOKINGS, batch.ended_bookings()),
            (INSERT_PROPOSALS, batch.opened_proposals()),
            (DELETE_PROPOSALS, batch.ended_proposals()),
            (INSERT_WORDS, word_rows(new)),
            (ADD_WORDS, word_rows(more)),
        ):
            if rows:
                await connection.execute(statement, *columns_of(rows, 0))
        if effects := batch.effect_rows():
            changed = await connection.execute(CHANGE_EFFECTS, *columns_of(effects, 0))
            if changed != f"UPDATE {len(effects)}":
                raise SetGrew
        await connection.execute(WRITE, *write_arguments(batch))


def has_more_than_log(batch: Batch) -> bool:
    """Whether the batch touches more than the one statement writes."""
    return bool(
        batch.new_numbers
        or batch.purchases
        or batch.attachments
        or batch.mail_refs
        or batch.people
        or batch.policies
        or batch.webhooks
        or batch.again
        or batch.client_links
        or batch.ended_links
        or batch.bookings
        or batch.proposals
        or batch.words
        or batch.erasures
        or batch.effects
    )


def word_rows(words: dict[int, list[str]]) -> list[Row]:
    return [(number, search.tsvector("\n".join(texts))) for number, texts in words.items()]


def write_arguments(batch: Batch) -> list[Any]:
    moved = [(*row, replaces) for replaces, row in batch.case_rows() if replaces]
    directory = batch.loaded.directory
    people = [(one, directory.people[one].version) for one in sorted(batch.decided_people) if one in directory.people]
    # Whoever this batch changes has a new version by now.
    people = [(one, batch.people[one].version if one in batch.people else version) for one, version in people]
    return [
        *columns_of(batch.events, len(EVENT_TYPES)),
        *columns_of(batch.personal, len(PERSONAL_TYPES)),
        *columns_of(batch.outbox, len(OUTBOX_TYPES)),
        *columns_of(batch.keys, len(KEY_TYPES)),
        *columns_of(moved, len(CASE_TYPES) + 1),
        len(moved),
        *columns_of(people, 2),
        len(people),
        directory.policy_version,
        directory.webhooks.version,
    ]


class SetGrew(Exception):
    """What was read, or has to be locked, has become another: begin again."""


# The connection is gone, or as good as gone; TimeoutError is an OSError.
LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg answers between a session's last words and the end of its connection
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
TRANSIENT = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
UNABLE = (asyncpg.InsufficientResourcesError, asyncpg.ReadOnlySQLTransactionError, asyncpg.PostgresSystemError)


def is_overtaken(failure: asyncpg.PostgresError) -> bool:
    """Whether others came first, so that the same command has to be decided anew."""
    return isinstance(failure, TRANSIENT) or failure.sqlstate == DESK_HAS_CHANGED


def told(failure: asyncpg.PostgresError) -> Exception:
    """A full disk is Unavailable; the rest are bugs, and told as they are."""
    return Unavailable(str(failure)) if isinstance(failure, UNABLE) else failure
