"""Whatever is changed behind the ledger's back is found and named, though nothing stood in the way of changing it."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import make_url

from storage import defences
from storage.batch import CASE_COLUMNS, case_row
from storage.chains import Walk
from storage.database import open_database
from storage.events import recorded
from storage.events import verified as chain_verified
from storage.sealing import EVENT_COLUMNS, Circumstances, seal
from storage.snapshot import PAGE_ROWS
from storage.verify import LISTED_FAULTS, Report, verify
from tests.databases import PostgresServer, RawSql, copy_sqlite, raw_sql
from tests.storage.desks import NOTE, an_office
from tests.storage.full_desk import fill
from tests.storage.histories import Row, claiming, saying
from tests.workflow.builders import ANA, NOON, a_purchase
from workflow import events as e
from workflow.canonical import canonical, leaf_hash
from workflow.cases import Case
from workflow.errors import BrokenHistory
from workflow.events import Draft, at_text
from workflow.lifecycle import LIFECYCLE, LOGGED_TABLE
from workflow.policy import Category, first_version
from workflow.replaying import replay
from workflow.states import CaseState, Resolution, Trigger

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"])


@pytest.fixture(scope="module")
def full_sqlite(sqlite_template: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return fill(copy_sqlite(sqlite_template, tmp_path_factory.mktemp("full") / "casework.db"))


@pytest.fixture(scope="module")
def full_postgresql(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    url = fill(postgres.new_database(postgres_template))
    yield url
    postgres.drop_database(url)


@pytest.fixture
def desk_url(backend: str, request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[str]:
    """A desk of the test's own, on which a bit of everything has happened."""
    template = request.getfixturevalue(f"full_{backend}")
    if backend == "sqlite":
        yield copy_sqlite(template, tmp_path / "desk.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database(template)
    yield url
    server.drop_database(url)


@pytest.fixture
def raw(desk_url: str) -> Iterator[RawSql]:
    with raw_sql(desk_url) as connection:
        yield connection


def verified(url: str, progress: Callable[[int], None] | None = None) -> Report:
    async def run() -> Report:
        database = open_database(url)
        try:
            return await verify(database, progress)
        finally:
            await database.close()

    return asyncio.run(run())


# A desk that only the ledger has written to.


def test_a_desk_on_which_everything_went_by_the_rules_is_clean(desk_url: str, backend: str) -> None:
    report = verified(desk_url)

    assert report.faults == ()
    assert report.fault_count == 0
    assert report.first is None
    assert report.counts == {
        "events": 60,
        "cases": 5,
        "people": 8,
        "purchases": 3,
        "texts": 59,
        "attachments": 2,
        "positions": 60 if backend == "sqlite" else 39,
        "pending": 0 if backend == "sqlite" else 21,
    }
    assert report.events_per_second > 0


def test_a_database_in_which_nothing_has_happened_is_clean(database_url: str) -> None:
    assert verified(database_url).faults == ()


def test_progress_is_told_in_events(desk_url: str) -> None:
    told: list[int] = []

    verified(desk_url, told.append)

    assert told == [60]


def test_a_desk_at_work_is_verified_as_it_is_at_one_moment(desk_url: str) -> None:
    async def a_note() -> None:
        async with an_office(desk_url) as office:
            await office.do(ANA, NOTE, "A")

    def work_meanwhile(_: int) -> None:
        """When the log has been read, and the cases have not been compared with it yet."""
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(asyncio.run, a_note()).result()

    report = verified(desk_url, work_meanwhile)

    assert report.faults == ()
    assert report.counts["events"] == 60
    assert verified(desk_url).counts["events"] == 61


@on_sqlite
def test_without_a_write_ahead_log_a_copy_is_verified(
    desk_url: str, raw: RawSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sqlite.JOURNAL_MODE", "DELETE")  # as with a library that cannot do better safely
    raw.run("PRAGMA journal_mode = DELETE")

    report = verified(desk_url, lambda _: raw.insert("mail_refs", {"key": "id:2", "case_id": "A"}))

    assert report.faults == ()
    assert [path.name for path in Path(str(make_url(desk_url).database)).parent.iterdir()] == ["desk.db"]


def test_chains_go_on_from_page_to_page(desk_url: str, raw: RawSql) -> None:
    async def notes() -> None:
        async with an_office(desk_url) as office:
            await asyncio.gather(*(office.do(ANA, NOTE, case) for case in "AB" for _ in range(PAGE_ROWS)))

    asyncio.run(notes())
    assert verified(desk_url).faults == ()

    for seq in (PAGE_ROWS, PAGE_ROWS + 1):
        with undefended(raw):
            raw.run("UPDATE events SET state_after = 'closed' WHERE chain = 'case:A' AND seq = ?1", seq)
        report = verified(desk_url)
        with undefended(raw):
            raw.run("UPDATE events SET state_after = 'refunded' WHERE chain = 'case:A' AND seq = ?1", seq)

        assert report.first is not None
        assert (report.first.chain, report.first.seq) == ("case:A", seq)
        # The other chain on the same page is followed to its end, and the broken one is not believed.
        assert report.counts["cases"] == 4


def test_looking_at_each_event_by_itself_finds_nothing_more(desk_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Walk, "sound", lambda *_: None)

    assert verified(desk_url).faults == ()


# Taking the defences down, and what can be done then.


@contextmanager
def undefended(raw: RawSql) -> Iterator[None]:
    """With everything taken down that would refuse; put back afterwards, as whoever covers their tracks would."""
    tables = sorted({trigger.place for trigger in defences.POSTGRESQL_TRIGGERS} | {"cases", "purchases"})
    if raw.dialect == "sqlite":
        for trigger in defences.SQLITE_TRIGGERS:
            raw.run(f"DROP TRIGGER {trigger.name}")
        yield
        for trigger in defences.SQLITE_TRIGGERS:
            raw.run(trigger.definition)
        return
    for table in tables:
        raw.run(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    for check in (*defences.POSTGRESQL_CHECKS, *defences.POSTGRESQL_DECLARED_CHECKS):
        raw.run(f"ALTER TABLE {check.place} DROP CONSTRAINT IF EXISTS {check.name}")
    yield
    for table in tables:
        raw.run(f"ALTER TABLE {table} ENABLE TRIGGER ALL")
    for trigger in defences.POSTGRESQL_TRIGGERS:
        raw.run(f"ALTER TABLE {trigger.place} ENABLE ALWAYS TRIGGER {trigger.name}")


Place = tuple[str, int]
A15: Place = ("case:A", 15)  # the last event of its chain: nothing has to be made to follow it


def read(raw: RawSql, place: Place) -> Row:
    columns = ", ".join(f'"{column}"' for column in EVENT_COLUMNS)
    (row,) = raw.run(f"SELECT {columns} FROM events WHERE chain = ?1 AND seq = ?2", *place)
    return dict(zip(EVENT_COLUMNS, row, strict=True))


def write(raw: RawSql, place: Place, row: Row) -> None:
    changes = ", ".join(f'"{column}" = ?{number}' for number, column in enumerate(row, start=3))
    raw.run(f"UPDATE events SET {changes} WHERE chain = ?1 AND seq = ?2", *place, *row.values())


def append(raw: RawSql, chain: str, draft: Draft, **how: Any) -> Place:
    """An event with a right hash in the right place, whatever it says."""
    ((log,),) = raw.run("SELECT log FROM desk")
    rows = raw.run("SELECT seq, hash, state_after FROM events WHERE chain = ?1 ORDER BY seq DESC LIMIT 1", chain)
    seq, prev, state = rows[0] if rows else (0, None, None)
    circumstances = Circumstances(
        log=log, policy=1, at=how.pop("at", LATER), actor="person:ana", via="api", request="r-2"
    )
    sealed = seal(draft, circumstances, chain, seq + 1, prev, state)
    raw.insert("events", dict(zip(EVENT_COLUMNS, sealed.event, strict=True)))
    return chain, seq + 1


LATER = NOON + timedelta(days=1)


class Attack(NamedTuple):
    """What is done, and what is found of it first: where, and in which words."""

    name: str
    act: Callable[[RawSql], Any]
    place: Place | None
    words: str


def running(name: str, place: Place | None, words: str, *statements: str) -> Attack:
    def act(raw: RawSql) -> None:
        for statement in statements:
            raw.run(statement)

    return Attack(name, act, place, words)


def rewriting(name: str, words: str, change: Callable[[str], str], place: Place = A15) -> Attack:
    """Another text of an event, with the hash of that text."""

    def act(raw: RawSql) -> None:
        body = change(read(raw, place)["body"])
        assert body != read(raw, place)["body"]
        write(raw, place, {"body": body, "hash": leaf_hash(body.encode(errors="surrogatepass"))})

    return Attack(name, act, place, words)


def saying_of(name: str, words: str, place: Place = A15, **said: Any) -> Attack:
    """Other words in the body, its hash made to fit."""
    return Attack(name, lambda raw: write(raw, place, saying(read(raw, place), **said)), place, words)


def claiming_of(name: str, words: str, place: Place = A15, **claimed: Any) -> Attack:
    """Other words in the body, with its hash and all columns made to fit."""
    return Attack(name, lambda raw: write(raw, place, claiming(read(raw, place), **claimed)), place, words)


def appending(name: str, chain: str, seq: int, words: str, draft: Draft, **how: Any) -> Attack:
    return Attack(name, lambda raw: append(raw, chain, draft, **how), (chain, seq), words)


def swapped(old: str, new: str) -> Callable[[str], str]:
    return lambda body: body.replace(old, new, 1)


OPENED = e.Opened(
    number=1099,
    mail_tag="7K3M9Q2F",
    category=Category.BILLING,
    received_at=NOON,
    first_answer_due=NOON,
    update_due=NOON,
)

THE_LOG = [
    running(
        "a byte of a body",
        ("case:A", 5),
        "the hash is not the body's",
        "UPDATE events SET body = replace(body, '30000', '90000') WHERE chain = 'case:A' AND seq = 5",
    ),
    running(
        "a hash",
        ("case:A", 5),
        "the hash is not the body's",
        f"UPDATE events SET hash = '{'ab' * 32}' WHERE chain = 'case:A' AND seq = 5",
    ),
    *(
        running(
            f"the column {column} = {value}",
            ("case:A", 12),
            f"the row does not say what the body says of {said}",
            f"UPDATE events SET \"{column}\" = {value} WHERE chain = 'case:A' AND seq = 12",
        )
        for column, said, value in (
            ("prev_seq", "prev_seq", "10"),
            ("prev_seq", "prev_seq", "NULL"),
            ("prev_hash", "prev", f"'{'ab' * 32}'"),
            ("prev_hash", "prev", "NULL"),
            ("state_before", "state_before", "'opened'"),
            ("state_after", "state_after", "'closed'"),
            ("trigger", "trigger", "'close'"),
            ("trigger", "trigger", "NULL"),
            ("type", "type", "'closed'"),
            ("type", "type", "'unknown'"),
            ("lifecycle", "lifecycle", f"'{'ab' * 32}'"),
            ("at", "at", "'2026-03-05T12:00:00.999999Z'"),
        )
    ),
    running(
        "the column chain",
        ("case:A", 12),
        "is missing; event 13 comes next",
        "UPDATE events SET chain = 'case:Z' WHERE chain = 'case:A' AND seq = 12",
    ),
    running(
        "the column seq",
        ("case:A", 12),
        "is missing; event 13 comes next",
        "UPDATE events SET seq = 99 WHERE chain = 'case:A' AND seq = 12",
    ),
    running(
        "an event is deleted",
        ("case:A", 4),
        "is missing; event 5 comes next",
        "DELETE FROM events WHERE chain = 'case:A' AND seq = 4",
    ),
    running(
        "the first event is deleted",
        ("case:A", 1),
        "is missing; event 2 comes next",
        "DELETE FROM events WHERE chain = 'case:A' AND seq = 1",
    ),
    running(
        "the last event is deleted",
        ("case:A", 14),
        "C-1001 at version 14: the row is not what the log says in version, head",
        "DELETE FROM events WHERE chain = 'case:A' AND seq = 15",
    ),
    running(
        "a case is deleted from the log",
        None,
        "the case A has a row and no chain",
        "DELETE FROM events WHERE chain = 'case:A'",
    ),
    running(
        "a person is deleted from the log",
        None,
        "the person ana: there is a row, and nothing in the log",
        "DELETE FROM events WHERE chain = 'desk:person:ana'",
    ),
    # Bodies with the right hash that casework would not have written so.
    rewriting("a blank", "not in canonical form", swapped('","', '", "')),
    rewriting("another order of keys", "not in canonical form", swapped('"v":1,"via":"api"', '"via":"api","v":1')),
    rewriting("a key twice", "not in canonical form", swapped('"v":1', '"v":1,"v":1')),
    rewriting("a float", "Expected `int`, got `float`", swapped('"v":1', '"v":1.0')),
    rewriting("an exponent", "Expected `int`, got `float`", swapped('"v":1', '"v":1e0')),
    rewriting("a letter escaped", "not in canonical form", swapped('"api"', '"\\u0061pi"')),
    rewriting("a default written out", "not in canonical form", swapped('"lifecycle"', '"guards":null,"lifecycle"')),
    rewriting("another way to write a time", "not in canonical form", swapped('Z"},"', '+00:00"},"')),
    rewriting("an unknown field of the data", "not in canonical form", swapped('"data":{', '"data":{"extra":"1",')),
    rewriting("an unknown field", "unknown field `zebra`", swapped('"api"}', '"api","zebra":1}')),
    rewriting("a field left out", "missing required field `via`", swapped(',"via":"api"', "")),
    rewriting("a text for a number", "Expected `int`", swapped('"v":1', '"v":"1"')),
    rewriting("another type of event", "not in canonical form", swapped('"message_received"', '"assigned"')),
    rewriting("no type of event", "its type is unknown", swapped('"message_received"', '"teleported"')),
    rewriting("no JSON", "truncated", lambda body: body[:-1]),
    rewriting(
        "lists without end", "recursion", swapped('"data":{', '"data":{"extra":' + "[" * 30_000 + "]" * 30_000 + ",")
    ),
    rewriting("half a letter", "not as casework writes it", swapped('"r-1"', '"r-1\\ud800"')),
    rewriting("a NUL", "a NUL character", swapped('"r-1"', '"r-1\\u0000"')),
    rewriting("a key in capitals", "the key 'Text'", swapped('"text"', '"Text"')),
    rewriting(
        "a large number",
        "9007199254740991 - at `$.data.number`",
        swapped('"number":1001', f'"number":{2**53}'),
        ("case:A", 1),
    ),
    rewriting(
        "a small number",
        "9007199254740991 - at `$.data.number`",
        swapped('"number":1001', f'"number":-{2**53}'),
        ("case:A", 1),
    ),
    rewriting(
        "a huge number",
        "9007199254740991 - at `$.data.number`",
        swapped('"number":1001', f'"number":{10**30}'),
        ("case:A", 1),
    ),
    rewriting("another format", "the format 2 is unknown", swapped('"v":1', '"v":2')),
    rewriting("too much", "more than 65535 bytes", swapped('"r-1"', f'"{"r" * 65_535}"')),
    claiming_of("a time without its fraction", "is not how a time is written", at="2027-03-05T12:00:00Z"),
    # Bodies that casework could have written, but not there.
    saying_of("another place", "the body says that it is case:A event 99", seq=99),
    saying_of("another chain", "the body says that it is case:Z event 15", chain="case:Z"),
    claiming_of("another predecessor", "does not follow the event before it", prev_hash="ab" * 32),
    claiming_of("another state", "does not start from the state", state_before="opened", state_after="opened"),
    claiming_of("an earlier time", "is not later than the event before it", at=at_text(NOON)),
    Attack(
        "the time of another command",
        lambda raw: write(
            raw, A15, saying(claiming(read(raw, A15), at=read(raw, ("case:A", 14))["at"]), request="r-9")
        ),
        A15,
        "is not later than the event before it",
    ),
    claiming_of("an unknown lifecycle", "the log has no lifecycle abab", lifecycle="ab" * 32),
    saying_of("an unknown policy", "the log has no policy version 3", policy=3),
    saying_of("another log", "is of another log, elsewhere", log="elsewhere"),
    appending(
        "a step that the lifecycle does not have",
        "case:B",
        6,
        "its lifecycle has no close from opened to refunded",
        Draft(data=e.Closed(resolution=Resolution.SPAM), trigger=Trigger.CLOSE, state_after=CaseState.REFUNDED),
    ),
    appending(
        "a trigger that the state does not have",
        "case:B",
        6,
        "its lifecycle has no reopen from opened to investigating",
        Draft(data=e.Reopened(update_due=NOON), trigger=Trigger.REOPEN, state_after=CaseState.INVESTIGATING),
    ),
    appending(
        "a step without its guards",
        "case:B",
        6,
        "its lifecycle has other guards for close from opened",
        Draft(data=e.Closed(resolution=Resolution.SPAM), trigger=Trigger.CLOSE, state_after=CaseState.CLOSED),
    ),
    appending(
        "a state without a trigger",
        "case:B",
        6,
        "without a trigger nothing leads from opened to closed",
        Draft(data=e.NoteAdded(), state_after=CaseState.CLOSED),
    ),
    appending(
        "a closing without a trigger",
        "case:B",
        6,
        "closed is not what the trigger None leads to",
        Draft(data=e.Closed(resolution=Resolution.SPAM)),
    ),
    appending(
        "a trigger with another event",
        "case:B",
        6,
        "note_added is not what the trigger close leads to",
        Draft(data=e.NoteAdded(), trigger=Trigger.CLOSE, state_after=CaseState.CLOSED),
    ),
    appending("a second opening", "case:B", 6, "the case is opened a second time", Draft(data=OPENED)),
    appending(
        "a case that begins in the middle",
        "case:Y",
        1,
        "does not begin with an opened case",
        Draft(data=e.NoteAdded()),
    ),
    appending(
        "a case that begins closed",
        "case:Y",
        1,
        "without a trigger nothing leads from None to closed",
        Draft(data=OPENED, state_after=CaseState.CLOSED),
    ),
    appending(
        "a token in a case",
        "case:B",
        6,
        "token_created is no event of a case",
        Draft(data=e.TokenCreated(token="t", commitment="s")),
    ),
    appending(
        "a note about a person", "desk:person:ana", 5, "note_added is no event of a person", Draft(data=e.NoteAdded())
    ),
    appending(
        "a time without a zone",
        "case:E",
        10,
        "C-1005 at version 10 cannot be",
        Draft(data=e.MessageReceived(update_due=NOON.replace(tzinfo=None))),
    ),
    appending(
        "a chain of no kind", "elsewhere:1", 1, "note_added has no place in this chain", Draft(data=e.NoteAdded())
    ),
    appending(
        "a sample that is none", "sample:1", 1, "note_added has no place in this chain", Draft(data=e.NoteAdded())
    ),
    appending(
        "an answer to nothing",
        "finding:A:1",
        1,
        "the chain does not begin with its finding",
        Draft(data=e.FindingAnswered()),
    ),
    appending(
        "a refusal that is none", "refusal:1", 1, "note_added has no place in this chain", Draft(data=e.NoteAdded())
    ),
    appending(
        "a second desk",
        "desk:settings",
        3,
        "desk_created has no place in this chain",
        Draft(data=e.DeskCreated(timezone="UTC")),
    ),
    appending(
        "a lifecycle under another's name",
        "desk:settings",
        3,
        "the lifecycle's name is not the hash of its table",
        Draft(data=e.LifecycleAdopted(lifecycle=LIFECYCLE, table=LOGGED_TABLE[1:])),
    ),
    appending(
        "a policy version twice",
        "desk:policy",
        3,
        "is not version 3 of the policy",
        Draft(data=e.PolicyAdded(version=first_version())),
    ),
]


def drifting(
    table: str, where: str, name: str, *columns: tuple[str, str, str], place: Place | None = None
) -> list[Attack]:
    """Columns of a row, each with another value, and with what the row is found to differ in."""
    return [
        running(
            f"{table}.{column} = {value}",
            place,
            f"{name}: the row is not what the log says in {said}",
            f"UPDATE {table} SET {column} = {value} WHERE {where}",
        )
        for column, value, said in columns
    ]


CASES = {
    "number": "1999",
    "mail_tag": "'AAAAAAAA'",
    "version": "14",
    "head": f"'{'ab' * 32}'",
    "state": "'closed'",
    "category": "'delay'",
    "assignee": "'bo'",
    "waiting": "true",
    "received_at": "'2026-03-05T11:00:00.000000Z'",
    "changed_at": "'2026-03-05T11:00:00.000000Z'",
    "next_deadline": "NULL",
    "purchase": "'D-3'",
}

FIRST, SECOND = (f"SELECT id FROM events WHERE chain = 'case:A' AND seq = {seq}" for seq in (1, 2))

PLACE = "SELECT position FROM positions"

THE_ROWS = [
    *drifting(
        "cases",
        "id = 'A'",
        "C-1001 at version 15",
        *((column, value, column) for column, value in CASES.items()),
        ("body", """replace(body, '"state":"refunded"', '"state":"closed"')""", "body.state"),
        ("body", """replace(body, '"assignee":"ana"', '"assignee":"bo"')""", "body.assignee"),
        ("body", """replace(body, '"answers"', ' "answers"')""", "body"),
        ("body", "'{'", "body"),
        ("body", f"'{'[' * 30_000}'", "body"),
        place=A15,
    ),
    *drifting(
        "purchases",
        "reference = 'D-1'",
        "the purchase of C-1001 at version 15",
        ("currency", "'USD'", "currency"),
        ("paid", "9000000", "paid"),
        ("refunded", "0", "refunded"),
        ("reserved", "1", "reserved"),
        ("body", "replace(body, '30000', '0')", "body.refunded_minor"),
    ),
    *drifting("purchases", "reference = 'D-2'", "the purchase D-2", ("refunded", "1", "refunded")),
    *drifting(
        "consultations",
        "case_id = 'C'",
        "the consultation of C-1003 at version 3",
        ("host", "'bo'", "host"),
        ("starts_at", "'2026-03-05T11:00:00.000000Z'", "starts_at"),
        ("ends_at", "'2027-03-05T11:00:00.000000Z'", "ends_at"),
    ),
    *drifting(
        "people",
        "id = 'audrey'",
        "the person audrey",
        ("version", "2", "version"),
        ("body", """replace(body, '["auditor"]', '["admin"]')""", "body.roles"),
    ),
    *drifting(
        "policies",
        "version = 1",
        "the policy version 1",
        ("body", "replace(body, '500.00', '900.00')", "body.settings"),
    ),
    *drifting("lifecycle_edges", "target = 'refunded'", "/refund", ("target", "'closed'", "target")),
    *drifting(
        "tokens", "id = 't-ana'", "the token t-ana", ("person_id", "'adam'", "person_id"), ("hash", "'stolen'", "hash")
    ),
    *drifting(
        "client_links",
        "id = 'l-una'",
        "the client's link l-una",
        ("case_id", "'C'", "case_id"),
        ("hash", "'stolen'", "hash"),
    ),
    *drifting("desk", "id = 1", "", ("timezone", "'Europe/Kyiv'", "timezone")),
    *(
        running(f"{table}: {words}", None, words, f"DELETE FROM {table} WHERE {where}")
        for table, where, words in (
            ("cases", "id = 'A'", "C-1001 at version 15: the log has it, and no row"),
            ("purchases", "reference = 'D-1'", "the purchase of C-1001 at version 15: the log has it, and no row"),
            ("consultations", "case_id = 'C'", "the consultation of C-1003 at version 3: the log has it, and no row"),
            ("people", "id = 'ana'", "the person ana: the log has it, and no row"),
            ("tokens", "id = 't-ana'", "the token t-ana: the log has it, and no row"),
            ("client_links", "id = 'l-una'", "the client's link l-una: the log has it, and no row"),
            ("policies", "version = 2", "the policy version 2: the log has it, and no row"),
            ("desk", "id = 1", "the log has it, and no row"),
            ("lifecycle_edges", "target = 'refunded'", "/investigating/refund: the log has it, and no row"),
        )
    ),
    *(
        running(f"{table}: {words}", None, words, f"INSERT INTO {table} {row}")
        for table, row, words in (
            (
                "cases",
                f"SELECT 'Z', 1999, 'T', {', '.join([*CASES][2:])}, body FROM cases WHERE id = 'C'",
                "the case Z has a row and no chain",
            ),
            (
                "purchases",
                "SELECT 'D-9', currency, paid, refunded, reserved, body FROM purchases WHERE reference = 'D-1'",
                "the purchase D-9: there is a row, and nothing in the log",
            ),
            (
                "consultations",
                "SELECT 'D', host, starts_at, ends_at FROM consultations",
                "the consultation of C-1004 at version 6: there is a row, and nothing in the log",
            ),
            (
                "consultations",
                "SELECT 'Z', host, starts_at, ends_at FROM consultations",
                "a consultation is booked for the case Z, which does not exist",
            ),
            (
                "people",
                "SELECT 'eve', version, body FROM people WHERE id = 'adam'",
                "the person eve: there is a row, and nothing in the log",
            ),
            ("tokens", "VALUES ('#', 't-eve', 'adam')", "the token t-eve: there is a row, and nothing in the log"),
            ("tokens", "VALUES ('#', 't-old', 'ana')", "the token t-old: there is a row, and nothing in the log"),
            (
                "client_links",
                "VALUES ('#', 'l-eve', 'A')",
                "the client's link l-eve: there is a row, and nothing in the log",
            ),
            (
                "client_links",
                "VALUES ('#', 'l-old', 'E')",
                "the client's link l-old: there is a row, and nothing in the log",
            ),
            (
                "client_links",
                "VALUES ('#', 'l-eve', 'Z')",
                "the client's link l-eve is of the case Z, which does not exist",
            ),
            (
                "policies",
                "SELECT 3, body FROM policies WHERE version = 2",
                "the policy version 3: there is a row, and nothing in the log",
            ),
            (
                "lifecycle_edges",
                f"VALUES ('{LIFECYCLE}', 'refund', 'opened', 'refunded')",
                "/opened/refund: there is a row, and nothing in the log",
            ),
            ("mail_refs", "VALUES ('id:9', 'Z')", "mail is remembered for the case Z, which does not exist"),
            ("idempotency", "VALUES ('k', 'f', 'case:A', 1, 16, '')", "a request is remembered for case:A event 16"),
            (
                "outbox",
                "(chain, seq, kind, target, lane, at, due_at) VALUES ('case:A', 16, 'letter', '', '', '', '')",
                "an effect is kept of case:A event 16",
            ),
            ("personal", "VALUES ('case:A', 16, 'text', '', 'x')", "the text 'text' is none that the event speaks of"),
            (
                "personal",
                "VALUES ('case:A', 15, 'subject', '', 'x')",
                "the text 'subject' is none that the event speaks of",
            ),
            (
                "attachments",
                "SELECT 'copy', case_id, seq, salt, content FROM attachments WHERE id = 'file'",
                "the attachment copy is none that the event speaks of",
            ),
        )
    ),
    running(
        "more back than was paid",
        None,
        "in refunded",
        "UPDATE purchases SET refunded = paid + 1 WHERE reference = 'D-3'",
    ),
    # What was committed to.
    running(
        "another text",
        ("case:A", 15),
        "the text 'text' is not what it was when the event was written",
        "UPDATE personal SET value = 'Never!' WHERE chain = 'case:A' AND seq = 15",
    ),
    running(
        "another salt",
        ("case:A", 15),
        "the text 'text' is not what it was when the event was written",
        "UPDATE personal SET salt = '' WHERE chain = 'case:A' AND seq = 15",
    ),
    running(
        "another attachment",
        ("case:A", 7),
        "the attachment file is not what it was when the event was written",
        "UPDATE attachments SET content = '' WHERE id = 'file'",
    ),
    running(
        "a text that is gone",
        ("case:A", 15),
        "of its texts and files 1 are gone, and nothing says that they were erased",
        "DELETE FROM personal WHERE chain = 'case:A' AND seq = 15 AND field = 'text'",
    ),
    running(
        "an attachment that is gone",
        ("case:A", 7),
        "of its texts and files 1 are gone, and nothing says that they were erased",
        "DELETE FROM attachments WHERE id = 'file'",
    ),
    # Positions.
    running(
        "a position is deleted",
        None,
        "the position 8 does not follow the one before it",
        "DELETE FROM positions WHERE position = 7",
    ),
    running(
        "the last position is deleted",
        None,
        "has no position and waits for none",
        "DELETE FROM positions WHERE position = (SELECT max(position) FROM positions)",
    ),
    running(
        "an event waits though it has a position",
        None,
        "has no position and waits for none, or has one and waits for another",
        "INSERT INTO pending_events SELECT event_id FROM positions WHERE position = 5",
    ),
    running(
        "a position of no event", None, "is of no event", "UPDATE positions SET event_id = 9999 WHERE position = 5"
    ),
    running(
        "a position is due to no event",
        None,
        "a position is due to the event number 9999, which does not exist",
        "INSERT INTO pending_events VALUES (9999)",
    ),
    running(
        "positions are swapped",
        ("case:A", 2),
        "has a position before the one of its predecessor",
        f"UPDATE positions SET position = 0 WHERE event_id = ({FIRST})",
        f"UPDATE positions SET position = position - 1 WHERE event_id = ({SECOND})",
        f"UPDATE positions SET position = 1 + ({PLACE} WHERE event_id = ({SECOND})) WHERE position = 0",
    ),
]


@pytest.mark.parametrize("attack", [pytest.param(one, id=one.name) for one in (*THE_LOG, *THE_ROWS)])
def test_what_was_changed_is_found_and_named(attack: Attack, raw: RawSql, desk_url: str) -> None:
    with undefended(raw):
        attack.act(raw)

    first = verified(desk_url).first

    assert first is not None
    assert attack.words in first.what
    assert attack.place in {None, (first.chain, first.seq)}


def test_the_first_faults_are_listed_and_all_are_counted(raw: RawSql, desk_url: str) -> None:
    with undefended(raw):
        raw.run("UPDATE personal SET salt = ''")

    report = verified(desk_url)

    assert report.fault_count >= 59
    assert len(report.faults) == LISTED_FAULTS


def test_sums_that_cannot_be_are_found_though_everything_agrees_on_them(raw: RawSql, desk_url: str) -> None:
    """Whoever can compute hashes can write a log that says anything, but not make it true."""
    overpaid = a_purchase(reference="D-3", package="larger", refunded_minor=2_000_001)
    draft = Draft(data=e.PurchaseChanged(purchase=overpaid, change="sums"))
    with undefended(raw):
        place = append(raw, "case:E", draft)
        case = replayed(raw, "case:E")
        changes = dict(zip(CASE_COLUMNS, case_row(case), strict=True))
        sets = ", ".join(f"{column} = ?{number}" for number, column in enumerate(changes, start=1))
        raw.run(f"UPDATE cases SET {sets} WHERE id = 'E'", *changes.values())
        raw.run(
            "UPDATE purchases SET refunded = 2000001, body = ?1 WHERE reference = 'D-3'", canonical(overpaid).decode()
        )

    faults = [fault.what for fault in verified(desk_url).faults]

    assert place == ("case:E", 10)
    assert "more has gone back on the purchase D-3 than was paid" in faults
    assert not [what for what in faults if "C-1005" in what]


def replayed(raw: RawSql, chain: str) -> Case:
    rows = raw.run("SELECT body, hash FROM events WHERE chain = ?1 ORDER BY seq", chain)
    case = replay(recorded(body, digest) for body, digest in rows)
    assert case is not None
    return case


# One chain, given as texts.


def test_one_chain_can_be_followed_by_itself(raw: RawSql) -> None:
    texts = raw.run("SELECT body, hash FROM events WHERE chain = 'case:A' ORDER BY seq")

    followed = [*chain_verified(texts, "case:A")]

    assert followed[-1].event.seq == 15
    assert replay(followed) == replayed(raw, "case:A")


@pytest.mark.parametrize(
    ("change", "seq"),
    [
        (lambda texts: [*texts[:3], *texts[4:]], 4),
        (lambda texts: [*texts[:3], (texts[3][0], "ab" * 32)], 4),
        (lambda texts: [*texts[:3], ("\ud800", leaf_hash("\ud800".encode(errors="surrogatepass")))], 4),
        (lambda texts: texts[1:], 1),
    ],
    ids=["an event is missing", "a hash is wrong", "a text is none", "the beginning is missing"],
)
def test_of_a_chain_the_first_wrong_event_is_named(raw: RawSql, change: Callable[[Any], Any], seq: int) -> None:
    texts = raw.run("SELECT body, hash FROM events WHERE chain = 'case:A' ORDER BY seq")

    with pytest.raises(BrokenHistory) as broken:
        [*chain_verified(change(texts), "case:A")]

    assert (broken.value.chain, broken.value.seq) == ("case:A", seq)


# The database itself.


def test_a_defence_that_is_missing_is_named(raw: RawSql, desk_url: str) -> None:
    raw.run("DROP TRIGGER events_are_never_changed" + (" ON events" if raw.dialect == "postgresql" else ""))

    assert [str(fault) for fault in verified(desk_url).faults] == [
        "the trigger events_are_never_changed of events is missing"
    ]


def test_a_role_that_could_take_the_defences_down_is_a_warning(desk_url: str, backend: str) -> None:
    report = verified(desk_url)

    mighty = ("the role postgres is a superuser, whom nothing can be refused",)
    assert report.warnings == (mighty if backend == "postgresql" else ())


@on_sqlite
def test_a_damaged_file_is_told(desk_url: str) -> None:
    path = Path(str(make_url(desk_url).database))
    pages = bytearray(path.read_bytes())
    start = pages.index(b"the statement of the bank") // 4096 * 4096
    pages[start : start + 8] = b"\xff" * 8
    path.write_bytes(pages)

    report = verified(desk_url)

    assert any("cannot be read" in fault.what or "is damaged" in fault.what for fault in report.faults)


@on_sqlite
@pytest.mark.parametrize("column", [*EVENT_COLUMNS])
@pytest.mark.parametrize("value", ["x'ff00'", "CAST(x'ff41' AS TEXT)", "9.5"])
def test_values_that_no_column_should_hold_are_found(raw: RawSql, desk_url: str, column: str, value: str) -> None:
    with undefended(raw):
        raw.run(f"UPDATE events SET \"{column}\" = {value} WHERE chain = 'case:A' AND seq = 12")

    assert verified(desk_url).first is not None


@on_sqlite
@pytest.mark.parametrize("value", ["x'ff00'", "CAST(x'ff41' AS TEXT)", "9.5"])
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("cases", "id"),
        ("cases", "body"),
        ("cases", "version"),
        ("purchases", "body"),
        ("purchases", "paid"),
        ("consultations", "case_id"),
        ("people", "body"),
        ("tokens", "id"),
        ("client_links", "hash"),
        ("client_links", "case_id"),
        ("policies", "body"),
        ("desk", "log"),
        ("personal", "value"),
        ("personal", "salt"),
        ("attachments", "content"),
        ("positions", "event_id"),
    ],
)
def test_nor_do_they_keep_anything_else_from_being_verified(
    raw: RawSql, desk_url: str, table: str, column: str, value: str
) -> None:
    with undefended(raw):
        where = "seq = 15" if table == "personal" else f"rowid = (SELECT max(rowid) FROM {table})"
        raw.run(f"UPDATE {table} SET {column} = {value} WHERE {where}")

    assert verified(desk_url).first is not None
