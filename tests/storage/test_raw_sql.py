"""SQL past the program can add to the log only what the program could have added, and take nothing away.

Every attack has its control: where just what refused it has been taken down, the same attack goes through.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from storage import defences
from tests.databases import REFUSALS, PostgresServer, RawSql, copy_sqlite, raw_sql
from tests.storage.histories import (
    ABSENT,
    CLOSING,
    DESK_CREATED,
    HISTORY,
    NEXT,
    NOTED,
    OPENED,
    REFUNDED,
    Row,
    claiming,
    event,
    saying,
    tell,
)
from workflow.canonical import MAX_BYTES
from workflow.events import Draft, NoteAdded
from workflow.lifecycle import LIFECYCLE, TRANSITIONS
from workflow.states import CaseState, Trigger

OTHER_HASH = "ab" * 32


@pytest.fixture(scope="module")
def told_sqlite(sqlite_template: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return tell(copy_sqlite(sqlite_template, tmp_path_factory.mktemp("told") / "casework.db"))


@pytest.fixture(scope="module")
def told_postgresql(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    url = tell(postgres.new_database(postgres_template))
    yield url
    postgres.drop_database(url)


@pytest.fixture
def raw(backend: str, request: pytest.FixtureRequest) -> Iterator[RawSql]:
    """The database in which the history is; whoever changes it undoes that again."""
    with raw_sql(request.getfixturevalue(f"told_{backend}")) as connection:
        yield connection


@pytest.fixture
def undone(raw: RawSql) -> Iterator[RawSql]:
    """The same, in a transaction that is rolled back."""
    raw.run("BEGIN")
    yield raw
    raw.run("ROLLBACK")


def contents(raw: RawSql) -> list[list[tuple[Any, ...]]]:
    schema = "main" if raw.dialect == "sqlite" else "public"
    tables = (*defences.APPEND_ONLY, "personal")
    return [sorted(raw.run(f"SELECT * FROM {schema}.{table}"), key=repr) for table in tables]


# The attacks. `sqlite` and `postgresql` name what refuses it there; an attack that names nothing cannot be tried there.


class Attack(NamedTuple):
    name: str
    act: Callable[[RawSql], None]
    sqlite: tuple[str, ...]
    postgresql: tuple[str, ...]

    def refused_by(self, dialect: str) -> tuple[str, ...]:
        return self.sqlite if dialect == "sqlite" else self.postgresql


def forged(name: str, row: Row, *refused_by: str, postgresql: tuple[str, ...] = ()) -> Attack:
    """The attempt to append a row to the log."""
    return Attack(name, lambda raw: raw.insert("events", row), refused_by, postgresql or refused_by)


def sql(name: str, statement: str, *, sqlite: tuple[str, ...] = (), postgresql: tuple[str, ...] = ()) -> Attack:
    def act(raw: RawSql) -> None:
        for one in statement.split(";"):
            raw.run(one)

    return Attack(name, act, sqlite, postgresql)


def on_both(name: str, statement: str, *refused_by: str) -> Attack:
    return sql(name, statement, sqlite=refused_by, postgresql=refused_by)


def rewrite(raw: RawSql) -> None:
    row = saying(HISTORY.desk, actor="person:eve")
    raw.run("UPDATE events SET body = ?1, hash = ?2 WHERE chain = 'desk:settings'", row["body"], row["hash"])


def upsert(raw: RawSql) -> None:
    conflict = "ON CONFLICT (chain, seq) DO UPDATE SET body = excluded.body, hash = excluded.hash"
    raw.insert("events", saying(HISTORY.noted, actor="person:eve"), conflict=conflict)


def replace_in_place(raw: RawSql) -> None:
    raw.insert("events", saying(HISTORY.noted, actor="person:eve"), how="INSERT OR REPLACE")


def replace_by_id(raw: RawSql) -> None:
    raw.insert("events", {"id": 1, **event(OPENED, chain="case:3")}, how="INSERT OR REPLACE")


def shadow_the_edges(raw: RawSql) -> None:
    raw.run("CREATE TEMPORARY TABLE lifecycle_edges (lifecycle text, trigger text, source text, target text)")
    raw.run("INSERT INTO pg_temp.lifecycle_edges VALUES (?1, 'refund', 'opened', 'refunded')", LIFECYCLE)
    raw.insert("events", event(REFUNDED, after=HISTORY.new_case))


def redefine_equality(raw: RawSql) -> None:
    raw.run("DROP SCHEMA IF EXISTS other CASCADE")
    raw.run("CREATE SCHEMA other")
    raw.run(
        "CREATE FUNCTION other.same(text, text) RETURNS boolean LANGUAGE sql"
        " RETURN $1 = $2 OR $2 = 'refund' OR $2 = 'refunded'"
    )
    raw.run("CREATE OPERATOR other.= (LEFTARG = text, RIGHTARG = text, FUNCTION = other.same)")
    raw.run("SET search_path = other, pg_catalog, public")
    raw.insert("events", event(REFUNDED, after=HISTORY.new_case))


def refund_as_a_replica(raw: RawSql) -> None:
    raw.run("SET session_replication_role = replica")
    raw.insert("events", event(REFUNDED, after=HISTORY.new_case))


CHAINS = (
    forged(
        "a second event behind the same one",
        claiming(HISTORY.noted, at="2026-03-05T13:00:00.000000Z"),
        "events_are_never_replaced",
        "one_event_per_place",
        postgresql=("one_event_per_place",),
    ),
    forged(
        "an event behind one that is not there",
        claiming(NEXT, seq=5, prev_seq=4),
        "event_follows_its_predecessor",
    ),
    forged(
        "an event that leaves a place out",
        claiming(NEXT, seq=5),
        "event_follows_its_predecessor",
        postgresql=("only_the_first_has_no_predecessor",),
    ),
    forged(
        "an event that names another predecessor",
        claiming(NEXT, prev_hash=OTHER_HASH),
        "event_follows_its_predecessor",
    ),
    forged(
        "an event that names a predecessor in another chain",
        claiming(NEXT, prev_hash=HISTORY.desk["hash"]),
        "event_follows_its_predecessor",
    ),
    forged(
        "an event behind a state that was not reached",
        claiming(CLOSING, state_before="opened"),
        "event_follows_its_predecessor",
    ),
    forged(
        "a first event with a predecessor",
        claiming(event(OPENED, chain="case:3"), prev_seq=0, prev_hash=HISTORY.opened["hash"], state_before="opened"),
        "event_follows_its_predecessor",
        postgresql=("only_the_first_has_no_predecessor", "event_follows_its_predecessor"),
    ),
    forged(
        "a later event without a predecessor",
        claiming(event(NOTED, chain="desk:other"), seq=2),
        "event_follows_its_predecessor",
        "only_a_trigger_changes_the_state",
        postgresql=("only_the_first_has_no_predecessor", "only_a_trigger_changes_the_state"),
    ),
)

STATES = (
    forged(
        "a step that the lifecycle does not have",
        event(REFUNDED, after=HISTORY.new_case),
        "edge_is_of_the_lifecycle",
    ),
    forged(
        "a step to another state than the trigger's",
        claiming(CLOSING, state_after="refunded"),
        "edge_is_of_the_lifecycle",
    ),
    forged(
        "a step of a lifecycle that was never logged",
        claiming(CLOSING, lifecycle=OTHER_HASH),
        "edge_is_of_the_lifecycle",
    ),
    Attack("a step of a lifecycle in a temporary table", shadow_the_edges, (), ("edge_is_of_the_lifecycle",)),
    Attack("a step where a refund equals everything", redefine_equality, (), ("edge_is_of_the_lifecycle",)),
    Attack("a step taken in a replica's name", refund_as_a_replica, (), ("edge_is_of_the_lifecycle",)),
    forged(
        "another state without a trigger",
        claiming(NEXT, state_after="closed"),
        "only_a_trigger_changes_the_state",
    ),
    forged(
        "a first event with a trigger",
        claiming(event(OPENED, chain="case:3"), trigger="investigate"),
        "only_a_trigger_changes_the_state",
        "edge_is_of_the_lifecycle",
    ),
    forged(
        "a case that begins refunded",
        claiming(event(OPENED, chain="case:3"), state_after="refunded"),
        "a_case_begins_opened",
    ),
    forged(
        "a case that begins with a note",
        claiming(event(OPENED, chain="case:3"), type="note_added"),
        "a_case_begins_opened",
    ),
    forged("a case that is opened twice", claiming(NEXT, type="opened"), "a_case_begins_opened"),
    forged(
        "a case without a state",
        claiming(event(OPENED, chain="case:3"), state_after=""),
        "only_cases_have_states",
        "a_case_begins_opened",
    ),
    forged(
        "a state of something that is no case",
        claiming(event(DESK_CREATED, chain="desk:other"), state_after="opened"),
        "only_cases_have_states",
    ),
)

BODIES = (
    forged("a hash that is not the body's", {**NEXT, "hash": OTHER_HASH}, "hash_is_of_the_body"),
    forged(
        "a body that was changed after it was hashed",
        {**NEXT, "body": NEXT["body"].replace("person:ana", "person:eve")},
        "hash_is_of_the_body",
    ),
    forged(
        "a body beyond the limit",
        saying(NEXT, data={"text": "é" * (MAX_BYTES // 2)}),
        "body_is_within_its_limit",
    ),
    *(
        forged(
            f"a body that says another {key}",
            saying(NEXT, **{key: value}),
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
        forged(
            f"a body that {does}",
            saying(NEXT, **words),
            "columns_agree_with_the_body",
        )
        for does, words in (
            ("says no state before", {"state_before": None}),
            ("leaves the state after out", {"state_after": ABSENT}),
            ("says a trigger where there was none", {"trigger": "close"}),
            ("says that no trigger was null", {"trigger": None}),
        )
    ),
    forged(
        "a first body that leaves the state before out",
        saying(event(OPENED, chain="case:3"), state_before=ABSENT),
        "columns_agree_with_the_body",
    ),
    forged(
        "a body that says another trigger",
        saying(CLOSING, trigger="resume"),
        "columns_agree_with_the_body",
    ),
    forged(
        "a body that keeps its trigger to itself",
        saying(CLOSING, trigger=ABSENT),
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
    Attack(
        "an event replaced by its id", replace_by_id, ("events_are_never_replaced", "positions_are_never_replaced"), ()
    ),
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
    on_both(
        "a position changed", "UPDATE positions SET position = 9 WHERE position = 1", "positions_are_never_changed"
    ),
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
        "REPLACE INTO lifecycle_edges SELECT lifecycle, \"trigger\", source, 'refunded' FROM lifecycle_edges",
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
def test_the_database_refuses(raw: RawSql, attack: Attack) -> None:
    before = contents(raw)

    with pytest.raises(REFUSALS) as refused:
        attack.act(raw)

    assert any(name in str(refused.value) for name in attack.refused_by(raw.dialect)), refused.value
    assert contents(raw) == before


@EVERY_ATTACK
def test_without_its_defence_it_does_not_refuse(undone: RawSql, attack: Attack) -> None:
    take_down(undone, attack.refused_by(undone.dialect))
    before = contents(undone)

    attack.act(undone)

    assert contents(undone) != before


@pytest.mark.parametrize("backend", ["postgresql"])
@pytest.mark.parametrize(
    ("weaken", "attack"),
    [
        ("ALTER TABLE events ENABLE TRIGGER every_event_is_checked", refund_as_a_replica),
        ("ALTER FUNCTION casework_check_event() RESET search_path", redefine_equality),
    ],
)
def test_a_check_that_depends_on_the_session_does_not_refuse(
    undone: RawSql, weaken: str, attack: Callable[[RawSql], None]
) -> None:
    undone.run(weaken)

    attack(undone)

    assert undone.run("SELECT type FROM events ORDER BY id DESC LIMIT 1") == [("refunded",)]


def take_down(raw: RawSql, names: tuple[str, ...]) -> None:
    """Just these, and nothing else that one trigger or function checks together with them."""
    take_down_on_sqlite(raw, names) if raw.dialect == "sqlite" else take_down_on_postgresql(raw, names)


def take_down_on_sqlite(raw: RawSql, names: tuple[str, ...]) -> None:
    if "one_event_per_place" in names:
        give_up_keys(raw)
    for name, (table, rules) in defences.SQLITE_CHECKS.items():
        fewer = without(rules, names)
        if fewer != rules:
            raw.run(f"DROP TRIGGER IF EXISTS {name}")
        if fewer not in ({}, rules):
            raw.run(defences.check(table, name, fewer).definition)
    for trigger in defences.SQLITE_TRIGGERS:
        if trigger.name in names:
            raw.run(f"DROP TRIGGER {trigger.name}")


def take_down_on_postgresql(raw: RawSql, names: tuple[str, ...]) -> None:
    _, function = defences.event_check(without(defences.POSTGRESQL_EVENT_RULES, names))
    raw.run(function.replace("{schema}", "public"))
    for trigger in defences.POSTGRESQL_TRIGGERS:
        if trigger.name in names:
            raw.run(f"DROP TRIGGER {trigger.name} ON {trigger.place}")
    constraints = raw.run("SELECT conname, conrelid::regclass::text FROM pg_constraint WHERE conrelid <> 0")
    for name, table in constraints:
        if name in names:
            raw.run(f"ALTER TABLE {table} DROP CONSTRAINT {name}")


def without(rules: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: rule for name, rule in rules.items() if name not in names}


def give_up_keys(raw: RawSql) -> None:
    """SQLite drops no constraint, but a copy of a table has none."""
    raw.run("PRAGMA legacy_alter_table = ON")
    raw.run("CREATE TABLE copied AS SELECT * FROM events")
    raw.run("DROP TABLE events")
    raw.run("ALTER TABLE copied RENAME TO events")


# What has to go through.


def test_every_step_of_the_lifecycle_is_accepted(undone: RawSql) -> None:
    investigate = next(row for row in TRANSITIONS if row.trigger is Trigger.INVESTIGATE)
    ways = {CaseState.OPENED: (), CaseState.INVESTIGATING: (investigate,)}
    for row in TRANSITIONS:
        ways.setdefault(row.target, (investigate, row))

    for number, row in enumerate(TRANSITIONS):
        last = event(OPENED, chain=f"case:walk-{number}")
        undone.insert("events", last)
        for step in (*ways[row.source], row):
            last = event(Draft(data=NoteAdded(), trigger=step.trigger, state_after=step.target), after=last)
            undone.insert("events", last)

    ends = undone.run("SELECT count(*) FROM events WHERE \"trigger\" = 'reopen'")
    assert ends == [(1,)]


def test_a_chain_without_states_grows(undone: RawSql) -> None:
    undone.insert("events", event(DESK_CREATED, after=HISTORY.desk))

    grown = undone.run("SELECT seq, state_before, state_after FROM events WHERE chain = 'desk:settings' ORDER BY seq")
    assert grown == [(1, None, ""), (2, "", "")]


def test_a_body_may_be_as_long_as_the_limit(undone: RawSql) -> None:
    short = saying(NEXT, data={"text": ""})
    row = saying(NEXT, data={"text": "x" * (MAX_BYTES - len(short["body"]))})

    undone.insert("events", row)

    assert len(row["body"].encode()) == MAX_BYTES


def test_personal_texts_can_be_erased(undone: RawSql) -> None:
    undone.run("DELETE FROM personal WHERE chain = 'case:1'")

    assert undone.run("SELECT * FROM personal") == []


@pytest.mark.parametrize("backend", ["sqlite"])
def test_on_sqlite_every_event_has_the_next_position_at_once(undone: RawSql) -> None:
    undone.insert("events", NEXT)

    assert undone.run("SELECT position, event_id FROM positions") == [(number, number) for number in range(1, 7)]


@pytest.mark.parametrize("backend", ["postgresql"])
def test_on_postgresql_every_event_waits_for_its_position(undone: RawSql) -> None:
    undone.run("DELETE FROM pending_events")
    undone.insert("events", NEXT)

    assert undone.run("SELECT chain, seq FROM pending_events JOIN events ON event_id = id") == [("case:1", 4)]


@pytest.mark.parametrize("backend", ["postgresql"])
def test_on_postgresql_many_positions_can_be_given_at_once_in_any_order(undone: RawSql) -> None:
    undone.insert("events", NEXT)
    undone.run(
        "INSERT INTO positions (position, event_id)"
        " SELECT 4 + row_number() OVER (ORDER BY id DESC), id FROM events WHERE id > 4"
    )

    assert undone.run("SELECT count(*), max(position) FROM positions") == [(6, 6)]


# Money.

PURCHASE = {"reference": "A-1", "currency": "EUR", "paid": 1000, "refunded": 600, "reserved": 400, "body": "{}"}
TOO_MUCH = pytest.mark.parametrize(
    "amounts", [{"reserved": 401}, {"refunded": 1001, "reserved": 0}, {"refunded": -1}, {"paid": 999}]
)


def test_all_that_was_paid_can_be_refunded_or_reserved(undone: RawSql) -> None:
    undone.insert("purchases", PURCHASE)

    assert undone.run("SELECT refunded + reserved FROM purchases") == [(1000,)]


@TOO_MUCH
def test_no_more_goes_back_than_was_paid(raw: RawSql, amounts: dict[str, int]) -> None:
    if raw.dialect == "sqlite":
        raw.run("PRAGMA ignore_check_constraints = OFF")

    with pytest.raises(REFUSALS, match="never_more_back_than_was_paid"):
        raw.insert("purchases", PURCHASE | amounts)

    assert raw.run("SELECT * FROM purchases") == []


@TOO_MUCH
def test_without_the_check_more_would_go_back(undone: RawSql, amounts: dict[str, int]) -> None:
    if undone.dialect == "postgresql":
        undone.run("ALTER TABLE purchases DROP CONSTRAINT never_more_back_than_was_paid")

    undone.insert("purchases", PURCHASE | amounts)

    assert undone.run("SELECT count(*) FROM purchases") == [(1,)]
