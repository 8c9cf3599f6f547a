"""SQL past the program can add to the log only what the program could have added, and take nothing away.

Every attack has its control: where just what refused it has been taken down, the same attack goes through.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import pytest

from storage import defences
from storage.sealing import EVENT_COLUMNS, Circumstances, seal
from tests.databases import REFUSALS, RawSql
from workflow.canonical import MAX_BYTES, ZEROS, canonical, leaf_hash
from workflow.events import Closed, DeskCreated, Draft, InvestigationStarted, NoteAdded, Opened, Refunded
from workflow.lifecycle import LIFECYCLE, LOGGED_TABLE, TRANSITIONS
from workflow.money import Money
from workflow.policy import Category
from workflow.states import CaseState, Resolution, Trigger

Row = dict[str, Any]

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
CIRCUMSTANCES = Circumstances(log="desk", policy=1, at=NOON, actor="person:ana", via="api", request="r-1")
OTHER_HASH = "ab" * 32

OPENED = Draft(
    data=Opened(
        number=1001,
        mail_tag="7K3M9Q2F",
        category=Category.BILLING,
        received_at=NOON,
        first_answer_due=NOON,
        update_due=NOON,
    ),
    state_after=CaseState.OPENED,
)
INVESTIGATED = Draft(
    data=InvestigationStarted(assignee="ana"), trigger=Trigger.INVESTIGATE, state_after=CaseState.INVESTIGATING
)
NOTED = Draft(data=NoteAdded())
CLOSED = Draft(data=Closed(resolution=Resolution.EXPLAINED), trigger=Trigger.CLOSE, state_after=CaseState.CLOSED)
REFUNDED = Draft(
    data=Refunded(proposal="p1", amount=Money(amount_minor=100, currency="EUR"), payment_reference="x"),
    trigger=Trigger.REFUND,
    state_after=CaseState.REFUNDED,
)
DESK_CREATED = Draft(data=DeskCreated(timezone="UTC"))


# Rows as the ledger writes them, and as somebody else would like to.


def event(draft: Draft, *, chain: str = "case:1", after: Row | None = None) -> Row:
    place = (chain, 1, None, None) if after is None else (after["chain"], after["seq"] + 1, after["hash"], after["state_after"])
    return dict(zip(EVENT_COLUMNS, seal(draft, CIRCUMSTANCES, *place).event, strict=True))


ABSENT = object()


def saying(row: Row, **words: Any) -> Row:
    """The row with other words in its body, and the hash of that body."""
    body = {**msgspec.json.decode(row["body"]), **words}
    text = canonical({key: value for key, value in body.items() if value is not ABSENT})
    return {**row, "body": text.decode(), "hash": leaf_hash(text)}


def claiming(row: Row, **columns: Any) -> Row:
    """The row with other columns, and a body that says the same."""
    changed = {**row, **columns}
    return saying(
        changed,
        **{column: changed[column] for column in ("chain", "seq", "type", "lifecycle", "at")},
        prev=changed["prev_hash"] or ZEROS,
        state_before=changed["state_before"] or None,
        state_after=changed["state_after"] or None,
        trigger=changed["trigger"] or ABSENT,
    )


class History(NamedTuple):
    """What is in the database when an attack begins. The desk's event has no position yet on PostgreSQL."""

    opened: Row
    investigated: Row
    noted: Row
    new_case: Row
    desk: Row

    @property
    def next(self) -> Row:
        """An event that would be right."""
        return event(NOTED, after=self.noted)

    @property
    def closed(self) -> Row:
        """Another one."""
        return event(CLOSED, after=self.noted)


@pytest.fixture
def history(raw: RawSql) -> History:
    for edge in LOGGED_TABLE:
        row = {"lifecycle": LIFECYCLE, "trigger": edge.trigger, "source": edge.source, "target": edge.target}
        raw.insert("lifecycle_edges", row)
    opened = event(OPENED)
    investigated = event(INVESTIGATED, after=opened)
    noted = event(NOTED, after=investigated)
    told = History(opened, investigated, noted, event(OPENED, chain="case:2"), event(DESK_CREATED, chain="desk:settings"))
    for row in told:
        raw.insert("events", row)
    if raw.dialect == "postgresql":
        raw.run("INSERT INTO positions (position, event_id) SELECT id, id FROM events WHERE chain <> 'desk:settings'")
    raw.insert("policies", {"version": 1, "body": "{}"})
    raw.insert("personal", {"chain": "case:1", "seq": 1, "field": "subject", "salt": b"salt", "value": "My bill"})
    return told


def contents(raw: RawSql) -> list[list[tuple[Any, ...]]]:
    schema = "main" if raw.dialect == "sqlite" else "public"
    return [sorted(raw.run(f"SELECT * FROM {schema}.{table}"), key=repr) for table in (*defences.APPEND_ONLY, "personal")]


# The attacks. `sqlite` and `postgresql` name what refuses it there; an attack that names nothing cannot be tried there.


class Attack(NamedTuple):
    name: str
    act: Callable[[RawSql, History], None]
    sqlite: tuple[str, ...]
    postgresql: tuple[str, ...]

    def refused_by(self, dialect: str) -> tuple[str, ...]:
        return self.sqlite if dialect == "sqlite" else self.postgresql


def forging(name: str, forge: Callable[[History], Row], *refused_by: str, postgresql: tuple[str, ...] = ()) -> Attack:
    """The attempt to append a row to the log."""
    return Attack(
        name, lambda raw, history: raw.insert("events", forge(history)), refused_by, postgresql or refused_by
    )


def sql(name: str, statement: str, *, sqlite: tuple[str, ...] = (), postgresql: tuple[str, ...] = ()) -> Attack:
    def act(raw: RawSql, _: History) -> None:
        for one in statement.split(";"):
            raw.run(one)

    return Attack(name, act, sqlite, postgresql)


def on_both(name: str, statement: str, *refused_by: str) -> Attack:
    return sql(name, statement, sqlite=refused_by, postgresql=refused_by)


def rewrite(raw: RawSql, history: History) -> None:
    row = saying(history.desk, actor="person:eve")
    raw.run("UPDATE events SET body = ?1, hash = ?2 WHERE chain = 'desk:settings'", row["body"], row["hash"])


def upsert(raw: RawSql, history: History) -> None:
    conflict = "ON CONFLICT (chain, seq) DO UPDATE SET body = excluded.body, hash = excluded.hash"
    raw.insert("events", saying(history.noted, actor="person:eve"), conflict=conflict)


def replace_in_place(raw: RawSql, history: History) -> None:
    raw.insert("events", saying(history.noted, actor="person:eve"), how="INSERT OR REPLACE")


def replace_by_id(raw: RawSql, _: History) -> None:
    raw.insert("events", {"id": 1, **event(OPENED, chain="case:3")}, how="INSERT OR REPLACE")


def shadow_the_edges(raw: RawSql, history: History) -> None:
    raw.run("CREATE TEMPORARY TABLE lifecycle_edges (lifecycle text, trigger text, source text, target text)")
    raw.run("INSERT INTO pg_temp.lifecycle_edges VALUES (?1, 'refund', 'opened', 'refunded')", LIFECYCLE)
    raw.insert("events", event(REFUNDED, after=history.new_case))


def refund_as_a_replica(raw: RawSql, history: History) -> None:
    raw.run("SET session_replication_role = replica")
    raw.insert("events", event(REFUNDED, after=history.new_case))


CHAINS = (
    forging(
        "a second event behind the same one",
        lambda history: claiming(history.noted, at="2026-03-05T13:00:00.000000Z"),
        "events_are_never_replaced",
        "one_event_per_place",
        postgresql=("one_event_per_place",),
    ),
    forging(
        "an event behind one that is not there",
        lambda history: claiming(history.next, seq=5, prev_seq=4),
        "event_follows_its_predecessor",
    ),
    forging(
        "an event that leaves a place out",
        lambda history: claiming(history.next, seq=5),
        "event_follows_its_predecessor",
        postgresql=("only_the_first_has_no_predecessor",),
    ),
    forging(
        "an event that names another predecessor",
        lambda history: claiming(history.next, prev_hash=OTHER_HASH),
        "event_follows_its_predecessor",
    ),
    forging(
        "an event that names a predecessor in another chain",
        lambda history: claiming(history.next, prev_hash=history.desk["hash"]),
        "event_follows_its_predecessor",
    ),
    forging(
        "an event behind a state that was not reached",
        lambda history: claiming(history.closed, state_before="opened"),
        "event_follows_its_predecessor",
    ),
    forging(
        "a first event with a predecessor",
        lambda history: claiming(
            event(OPENED, chain="case:3"), prev_seq=0, prev_hash=history.opened["hash"], state_before="opened"
        ),
        "event_follows_its_predecessor",
        postgresql=("only_the_first_has_no_predecessor", "event_follows_its_predecessor"),
    ),
    forging(
        "a later event without a predecessor",
        lambda _: claiming(event(NOTED, chain="desk:other"), seq=2),
        "event_follows_its_predecessor",
        "only_a_trigger_changes_the_state",
        postgresql=("only_the_first_has_no_predecessor",),
    ),
)

STATES = (
    forging(
        "a step that the lifecycle does not have",
        lambda history: event(REFUNDED, after=history.new_case),
        "edge_is_of_the_lifecycle",
    ),
    forging(
        "a step to another state than the trigger's",
        lambda history: claiming(history.closed, state_after="refunded"),
        "edge_is_of_the_lifecycle",
    ),
    forging(
        "a step of a lifecycle that was never logged",
        lambda history: claiming(history.closed, lifecycle=OTHER_HASH),
        "edge_is_of_the_lifecycle",
    ),
    Attack("a step of a lifecycle in a temporary table", shadow_the_edges, (), ("edge_is_of_the_lifecycle",)),
    Attack("a step taken in a replica's name", refund_as_a_replica, (), ("edge_is_of_the_lifecycle",)),
    forging(
        "another state without a trigger",
        lambda history: claiming(history.next, state_after="closed"),
        "only_a_trigger_changes_the_state",
    ),
    forging(
        "a first event with a trigger",
        lambda _: claiming(event(OPENED, chain="case:3"), trigger="investigate"),
        "only_a_trigger_changes_the_state",
        "edge_is_of_the_lifecycle",
    ),
    forging(
        "a case that begins refunded",
        lambda _: claiming(event(OPENED, chain="case:3"), state_after="refunded"),
        "a_case_begins_opened",
    ),
    forging(
        "a case that begins with a note",
        lambda _: claiming(event(OPENED, chain="case:3"), type="note_added"),
        "a_case_begins_opened",
    ),
    forging(
        "a case that is opened twice", lambda history: claiming(history.next, type="opened"), "a_case_begins_opened"
    ),
    forging(
        "a case without a state",
        lambda _: claiming(event(OPENED, chain="case:3"), state_after=""),
        "only_cases_have_states",
        "a_case_begins_opened",
    ),
    forging(
        "a state of something that is no case",
        lambda _: claiming(event(DESK_CREATED, chain="desk:other"), state_after="opened"),
        "only_cases_have_states",
    ),
)

BODIES = (
    forging(
        "a hash that is not the body's", lambda history: {**history.next, "hash": OTHER_HASH}, "hash_is_of_the_body"
    ),
    forging(
        "a body that was changed after it was hashed",
        lambda history: {**history.next, "body": history.next["body"].replace("person:ana", "person:eve")},
        "hash_is_of_the_body",
    ),
    forging(
        "a body beyond the limit",
        lambda history: saying(history.next, data={"text": "é" * (MAX_BYTES // 2)}),
        "body_is_within_its_limit",
    ),
    *(
        forging(
            f"a body that says another {key}",
            lambda history, key=key, value=value: saying(history.next, **{key: value}),
            "columns_agree_with_the_body",
        )
        for key, value in (
            ("chain", "case:2"),
            ("seq", 5),
            ("prev", OTHER_HASH),
            ("type", "assigned"),
            ("state_before", "opened"),
            ("state_after", "closed"),
            ("lifecycle", OTHER_HASH),
            ("at", "2026-03-05T13:00:00.000000Z"),
        )
    ),
    *(
        forging(
            f"a body that {does}",
            lambda history, words=words: saying(history.next, **words),
            "columns_agree_with_the_body",
        )
        for does, words in (
            ("says no state before", {"state_before": None}),
            ("leaves the state after out", {"state_after": ABSENT}),
            ("says a trigger where there was none", {"trigger": "close"}),
            ("says that no trigger was null", {"trigger": None}),
        )
    ),
    forging(
        "a first body that leaves the state before out",
        lambda _: saying(event(OPENED, chain="case:3"), state_before=ABSENT),
        "columns_agree_with_the_body",
    ),
    forging(
        "a body that says another trigger",
        lambda history: saying(history.closed, trigger="resume"),
        "columns_agree_with_the_body",
    ),
    forging(
        "a body that keeps its trigger to itself",
        lambda history: saying(history.closed, trigger=ABSENT),
        "columns_agree_with_the_body",
    ),
)

CHANGES = (
    Attack("an event rewritten", rewrite, ("events_are_never_changed",), ("events_are_never_changed",)),
    Attack(
        "an event rewritten by an insert",
        upsert,
        ("events_are_never_replaced", "events_are_never_changed"),
        ("events_are_never_changed",),
    ),
    Attack("an event replaced in its place", replace_in_place, ("events_are_never_replaced",), ()),
    Attack("an event replaced by its id", replace_by_id, ("events_are_never_replaced", "positions_are_never_replaced"), ()),
    sql(
        "an event replaced by another",
        "UPDATE OR REPLACE events SET id = 1 WHERE id = 2",
        sqlite=("events_are_never_changed",),
    ),
    on_both("an event deleted", "DELETE FROM events WHERE chain = 'desk:settings'", "events_are_never_deleted"),
    sql(
        "an event merged away",
        "MERGE INTO events USING (SELECT 'desk:settings' AS chain) AS gone ON events.chain = gone.chain"
        " WHEN MATCHED THEN DELETE",
        postgresql=("events_are_never_deleted",),
    ),
    sql(
        "an event deleted in a replica's name",
        "SET session_replication_role = replica; DELETE FROM events WHERE chain = 'desk:settings'",
        postgresql=("events_are_never_deleted",),
    ),
    sql(
        "all events truncated",
        "TRUNCATE events CASCADE",
        postgresql=("events_are_never_truncated", "positions_are_never_truncated"),
    ),
    on_both("a position changed", "UPDATE positions SET position = 9 WHERE position = 1", "positions_are_never_changed"),
    on_both("a position deleted", "DELETE FROM positions WHERE position = 1", "positions_are_never_deleted"),
    sql("all positions truncated", "TRUNCATE positions", postgresql=("positions_are_never_truncated",)),
    sql(
        "a position replaced",
        "INSERT OR REPLACE INTO positions (position, event_id) VALUES (6, 1)",
        sqlite=("positions_are_never_replaced",),
    ),
    sql(
        "a second position for an event",
        "INSERT INTO positions (position, event_id) VALUES (5, 1)",
        postgresql=("positions_event_id_key",),
    ),
    sql(
        "a position beyond the next",
        "INSERT INTO positions (position, event_id) VALUES (7, 5)",
        postgresql=("positions_leave_no_gap",),
    ),
    sql(
        "positions with a gap between them",
        "INSERT INTO positions (position, event_id) VALUES (5, 5), (7, 6)",
        postgresql=("positions_leave_no_gap", "position_of_an_event"),
    ),
    sql(
        "a position of an event that is not there",
        "INSERT INTO positions (position, event_id) VALUES (5, 99)",
        postgresql=("position_of_an_event",),
    ),
    sql(
        "the next position for an event that is not there",
        "INSERT INTO positions (position, event_id) VALUES (6, 99)",
        sqlite=("positions_leave_no_gap",),
    ),
    on_both(
        "an edge changed",
        "UPDATE lifecycle_edges SET target = 'refunded' WHERE \"trigger\" = 'investigate'",
        "lifecycle_edges_are_never_changed",
    ),
    on_both("an edge deleted", "DELETE FROM lifecycle_edges", "lifecycle_edges_are_never_deleted"),
    sql("all edges truncated", "TRUNCATE lifecycle_edges", postgresql=("lifecycle_edges_are_never_truncated",)),
    sql(
        "an edge replaced",
        f"REPLACE INTO lifecycle_edges VALUES ('{LIFECYCLE}', 'investigate', 'opened', 'refunded')",
        sqlite=("lifecycle_edges_are_never_replaced",),
    ),
    on_both("a policy changed", "UPDATE policies SET body = '[]'", "policies_are_never_changed"),
    on_both("a policy deleted", "DELETE FROM policies", "policies_are_never_deleted"),
    sql("all policies truncated", "TRUNCATE policies", postgresql=("policies_are_never_truncated",)),
    sql("a policy replaced", "REPLACE INTO policies VALUES (1, '[]')", sqlite=("policies_are_never_replaced",)),
    on_both("a personal text reworded", "UPDATE personal SET value = 'Your bill'", "personal_are_never_changed"),
    sql(
        "a personal text replaced",
        "REPLACE INTO personal VALUES ('case:1', 1, 'subject', x'00', 'Your bill')",
        sqlite=("personal_are_never_replaced",),
    ),
)

EVERY_ATTACK = pytest.mark.parametrize(
    ("backend", "attack"),
    [
        pytest.param(dialect, attack, id=f"{attack.name}, {dialect}")
        for attack in (*CHAINS, *STATES, *BODIES, *CHANGES)
        for dialect in ("sqlite", "postgresql")
        if attack.refused_by(dialect)
    ],
)


@EVERY_ATTACK
def test_the_database_refuses(raw: RawSql, history: History, attack: Attack) -> None:
    before = contents(raw)

    with pytest.raises(REFUSALS) as refused:
        attack.act(raw, history)

    assert any(name in str(refused.value) for name in attack.refused_by(raw.dialect)), refused.value
    assert contents(raw) == before


@EVERY_ATTACK
def test_without_its_defence_it_does_not_refuse(raw: RawSql, history: History, attack: Attack) -> None:
    take_down(raw, attack.refused_by(raw.dialect))
    before = contents(raw)

    attack.act(raw, history)

    assert contents(raw) != before


def take_down(raw: RawSql, names: tuple[str, ...]) -> None:
    triggers = defences.SQLITE_TRIGGERS if raw.dialect == "sqlite" else defences.POSTGRESQL_TRIGGERS
    places = {trigger.name: trigger.place for trigger in triggers}
    for name in names:
        if raw.dialect == "sqlite":
            raw.run(f"DROP TRIGGER {name}") if name in places else give_up_keys(raw)
        elif name in places:
            raw.run(f"DROP TRIGGER {name} ON {places[name]}")
        else:
            table = raw.run("SELECT conrelid::regclass::text FROM pg_constraint WHERE conname = ?1", name)[0][0]
            raw.run(f"ALTER TABLE {table} DROP CONSTRAINT {name}")


def give_up_keys(raw: RawSql) -> None:
    """SQLite drops no constraint, but a copy of a table has none."""
    raw.run("PRAGMA legacy_alter_table = ON")
    raw.run("CREATE TABLE copied AS SELECT * FROM events")
    raw.run("DROP TABLE events")
    raw.run("ALTER TABLE copied RENAME TO events")


# What has to go through.


def test_every_step_of_the_lifecycle_is_accepted(raw: RawSql, history: History) -> None:
    investigate = next(row for row in TRANSITIONS if row.trigger is Trigger.INVESTIGATE)
    ways = {CaseState.OPENED: (), CaseState.INVESTIGATING: (investigate,)}
    for row in TRANSITIONS:
        ways.setdefault(row.target, (investigate, row))

    for number, row in enumerate(TRANSITIONS):
        last = event(OPENED, chain=f"case:walk-{number}")
        raw.insert("events", last)
        for step in (*ways[row.source], row):
            last = event(Draft(data=NoteAdded(), trigger=step.trigger, state_after=step.target), after=last)
            raw.insert("events", last)

    ends = raw.run("SELECT count(*) FROM events WHERE \"trigger\" = 'reopen'")
    assert ends == [(1,)]


def test_a_chain_without_states_grows(raw: RawSql, history: History) -> None:
    raw.insert("events", event(DESK_CREATED, after=history.desk))

    assert raw.run("SELECT state_before, state_after FROM events WHERE chain = 'desk:settings' AND seq = 2") == [("", "")]


def test_a_body_may_be_as_long_as_the_limit(raw: RawSql, history: History) -> None:
    short = saying(history.next, data={"text": ""})
    row = saying(history.next, data={"text": "x" * (MAX_BYTES - len(short["body"]))})

    raw.insert("events", row)

    assert len(row["body"].encode()) == MAX_BYTES


def test_personal_texts_can_be_erased(raw: RawSql, history: History) -> None:
    raw.run("DELETE FROM personal WHERE chain = 'case:1'")

    assert raw.run("SELECT * FROM personal") == []


@pytest.mark.parametrize("backend", ["sqlite"])
def test_on_sqlite_every_event_has_the_next_position_at_once(raw: RawSql, history: History) -> None:
    raw.insert("events", history.next)

    assert raw.run("SELECT position, event_id FROM positions") == [(number, number) for number in range(1, 7)]


@pytest.mark.parametrize("backend", ["postgresql"])
def test_on_postgresql_every_event_waits_for_its_position(raw: RawSql, history: History) -> None:
    raw.insert("events", history.next)
    raw.run("INSERT INTO positions (position, event_id) VALUES (6, 6), (5, 5)")

    assert raw.run("SELECT event_id FROM pending_events ORDER BY event_id") == [(number,) for number in range(1, 7)]
    assert raw.run("SELECT count(*), max(position) FROM positions") == [(6, 6)]


# Money.

PURCHASE = {"reference": "A-1", "currency": "EUR", "paid": 1000, "refunded": 600, "reserved": 400, "body": "{}"}


def test_all_that_was_paid_can_be_refunded_or_reserved(raw: RawSql) -> None:
    raw.insert("purchases", PURCHASE)

    assert raw.run("SELECT refunded + reserved FROM purchases") == [(1000,)]


@pytest.mark.parametrize("amounts", [{"reserved": 401}, {"refunded": 1001, "reserved": 0}, {"refunded": -1}, {"paid": 999}])
def test_no_more_goes_back_than_was_paid(raw: RawSql, amounts: dict[str, int]) -> None:
    if raw.dialect == "sqlite":
        raw.run("PRAGMA ignore_check_constraints = OFF")

    with pytest.raises(REFUSALS, match="never_more_back_than_was_paid"):
        raw.insert("purchases", PURCHASE | amounts)

    assert raw.run("SELECT * FROM purchases") == []


@pytest.mark.parametrize("amounts", [{"reserved": 401}, {"refunded": 1001, "reserved": 0}, {"refunded": -1}, {"paid": 999}])
def test_without_the_check_more_would_go_back(raw: RawSql, amounts: dict[str, int]) -> None:
    if raw.dialect == "postgresql":
        raw.run("ALTER TABLE purchases DROP CONSTRAINT never_more_back_than_was_paid")

    raw.insert("purchases", PURCHASE | amounts)

    assert raw.run("SELECT count(*) FROM purchases") == [(1,)]
