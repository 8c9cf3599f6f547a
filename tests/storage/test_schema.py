"""A migrated database is what `storage.tables` declares, with every defence in place; if one falls, it is noticed."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from storage import defences, schema
from storage.tree import extend
from tests.databases import REFUSALS, RawSql, database_of, migrate, raw_sql, run_sync
from tests.storage.histories import tell

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"])
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"])


# Migrating.


def test_the_newest_revision_is_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", "storage:migrations")

    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_a_command_that_does_not_migrate_does_not_wait_for_alembic() -> None:
    program = "import sys, storage.schema; print('alembic' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert answer.stdout == "False\n"


def test_migrating_brings_an_empty_database_to_the_newest_revision(empty_url: str) -> None:
    assert run_sync(empty_url, schema.revision) is None

    migrate(empty_url)

    assert run_sync(empty_url, schema.revision) == schema.HEAD


def test_migrating_again_changes_nothing(database_url: str) -> None:
    before = run_sync(database_url, everything)

    migrate(database_url)

    assert run_sync(database_url, everything) == before


def test_migrating_at_once_is_done_once(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as operators:
        list(operators.map(migrate, [empty_url] * 4))

    assert run_sync(empty_url, schema.revision) == schema.HEAD
    assert run_sync(empty_url, definition_faults) == ()


def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    with raw_sql(empty_url) as raw:
        raw.run("CREATE TABLE mail_refs (something_else INTEGER)")  # one of the last that the migration makes
    before = run_sync(empty_url, everything)

    with pytest.raises(DBAPIError, match="mail_refs"):
        migrate(empty_url)

    assert run_sync(empty_url, everything) == before


def test_a_desk_of_the_first_release_is_brought_up_to_date_and_its_log_taken_into_the_tree(empty_url: str) -> None:
    def first_release(connection: Connection) -> None:
        with connection.begin():
            config = Config()
            config.set_main_option("script_location", "storage:migrations")
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")

    run_sync(empty_url, first_release)
    tell(empty_url)

    migrate(empty_url)

    assert run_sync(empty_url, definition_faults) == ()
    assert run_sync(empty_url, extend) == (5 if empty_url.startswith("sqlite") else 4)  # one has no position yet


def test_the_migrated_schema_is_the_declared_one(database_url: str) -> None:
    def difference(connection: Connection) -> object:
        # SQLite takes an identity for a default that is missing.
        defaults = connection.dialect.name == "postgresql"
        options = {"compare_type": True, "compare_server_default": defaults, "include_name": is_declared}
        return compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata)

    assert run_sync(database_url, difference) == []


def test_whatever_the_migrated_schema_has_beyond_the_declared_one_is_known(database_url: str, empty_url: str) -> None:
    run_sync(empty_url, declare)

    declared, migrated = run_sync(empty_url, everything), run_sync(database_url, everything)

    assert declared <= migrated
    beyond = {name for name, _ in migrated - declared if not name.startswith(("case_search", "alembic_version"))}
    if database_url.startswith("sqlite"):
        assert beyond == {one.name for one in defences.SQLITE_TRIGGERS}
    else:
        ours = (*defences.POSTGRESQL_TRIGGERS, *defences.POSTGRESQL_CHECKS, *defences.postgresql_functions("public"))
        assert beyond == {"case_numbers", *(one.name for one in ours)}


@on_postgresql
def test_the_first_case_is_number_1001(raw: RawSql) -> None:
    assert raw.run("SELECT nextval('case_numbers')") == [(1001,)]


@on_postgresql
def test_a_write_that_was_not_agreed_to_is_undone(raw: RawSql) -> None:
    write = (
        "WITH written AS (INSERT INTO policies (version, body) VALUES (1, '{}') RETURNING 1)"
        " SELECT casework_confirm((SELECT count(*) FROM written) = ?1::bigint)"
    )

    for unagreed in (2, None):
        with pytest.raises(REFUSALS, match="the desk has changed"):
            raw.run(write, unagreed)
    assert raw.run("SELECT * FROM policies") == []

    raw.run(write, 1)
    assert raw.run("SELECT version FROM policies") == [(1,)]


# Checking oneself.


def test_a_migrated_database_has_no_faults(database_url: str) -> None:
    assert run_sync(database_url, definition_faults) == ()


def test_a_database_in_use_has_no_faults(database_url: str) -> None:
    tell(database_url)

    assert run_sync(database_url, definition_faults) == ()


def test_an_empty_database_has_every_fault(empty_url: str) -> None:
    found = run_sync(empty_url, definition_faults)

    assert all(fault.endswith(" is missing") for fault in found)
    assert "the trigger events_are_never_deleted of events is missing" in found


@on_sqlite
def test_on_sqlite_every_missing_trigger_is_named(database_url: str) -> None:
    for one in defences.SQLITE_TRIGGERS:
        assert faults_after(database_url, f"DROP TRIGGER {one.name}") == (
            f"the trigger {one.name} of {one.place} is missing",
        )


@on_postgresql
def test_on_postgresql_every_missing_or_disabled_trigger_is_named(database_url: str) -> None:
    for one in defences.POSTGRESQL_TRIGGERS:
        assert faults_after(database_url, f"DROP TRIGGER {one.name} ON {one.place}") == (
            f"the trigger {one.name} of {one.place} is missing",
        )
        for weaker in ("DISABLE", "ENABLE", "ENABLE REPLICA"):
            assert faults_after(database_url, f"ALTER TABLE {one.place} {weaker} TRIGGER {one.name}") == (
                f"the trigger {one.name} of {one.place} is not always enabled",
            )


@on_postgresql
def test_on_postgresql_every_missing_constraint_is_named(database_url: str, raw: RawSql) -> None:
    constraints = raw.run(
        "SELECT conname, relname FROM pg_constraint JOIN pg_class ON conrelid = pg_class.oid"
        " WHERE connamespace = 'public'::regnamespace AND contype <> 'n'"
        " AND relname NOT IN ('alembic_version', 'case_search')"
    )

    for name, table in constraints:
        found = faults_after(database_url, f"ALTER TABLE {table} DROP CONSTRAINT {name} CASCADE")
        assert f"the constraint {name} of {table} is missing" in found


@on_postgresql
def test_when_a_superuser_disables_all_triggers_each_is_named(database_url: str) -> None:
    found = faults_after(database_url, "ALTER TABLE events DISABLE TRIGGER ALL")

    assert set(found) == {
        "the foreign keys of events are not enforced",
        *(
            f"the trigger {one.name} of events is not always enabled"
            for one in defences.POSTGRESQL_TRIGGERS
            if one.place == "events"
        ),
    }


DO_NOTHING = "RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"
SQLITE_TAMPERING = {
    "the trigger events_are_never_deleted of events is not as it was written": (
        "DROP TRIGGER events_are_never_deleted",
        "CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events BEGIN SELECT 1; END",
    ),
    "the trigger forget of events is none of ours": (
        "CREATE TRIGGER forget BEFORE INSERT ON events BEGIN SELECT RAISE(IGNORE); END",
    ),
    "the table purchases is not as it was written": (
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, '<= paid', '<> paid') WHERE name = 'purchases'",
        "PRAGMA writable_schema = OFF",
    ),
    "the table events is not as it was written": ("ALTER TABLE events ADD COLUMN more TEXT",),
    "the table policies is missing": ("DROP TABLE policies",),
}
POSTGRESQL_TAMPERING = {
    "the function casework_refuse of public is not as it was written": (
        f"CREATE OR REPLACE FUNCTION casework_refuse() {DO_NOTHING}",
    ),
    "the function casework_check_event of public is not as it was written": (
        "ALTER FUNCTION casework_check_event() RESET search_path",
    ),
    "the trigger events_are_never_changed of events is not as it was written": (
        "DROP TRIGGER events_are_never_changed ON events",
        "CREATE TRIGGER events_are_never_changed BEFORE UPDATE OF at ON events EXECUTE FUNCTION casework_refuse()",
        "ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_never_changed",
    ),
    "the trigger forget of events is none of ours": (
        f"CREATE FUNCTION forget() {DO_NOTHING}",
        "CREATE TRIGGER forget BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION forget()",
        "ALTER TABLE events ENABLE ALWAYS TRIGGER forget",
    ),
    "the constraint never_more_back_than_was_paid of purchases is not as it was written": (
        "ALTER TABLE purchases DROP CONSTRAINT never_more_back_than_was_paid",
        "ALTER TABLE purchases ADD CONSTRAINT never_more_back_than_was_paid CHECK (refunded <= paid)",
    ),
    "the constraint hash_is_of_the_body of events is not as it was written": (
        "ALTER TABLE events DROP CONSTRAINT hash_is_of_the_body",
        "ALTER TABLE events ADD CONSTRAINT hash_is_of_the_body CHECK (hash IS NOT NULL) NOT VALID",
    ),
    "the constraint event_follows_its_predecessor of events is not as it was written": (
        "ALTER TABLE events ALTER CONSTRAINT event_follows_its_predecessor DEFERRABLE INITIALLY DEFERRED",
    ),
    "the column body of events is not as it was written": ("ALTER TABLE events ALTER body DROP NOT NULL",),
    "the rule forget of events is none of ours": ("CREATE RULE forget AS ON INSERT TO events DO INSTEAD NOTHING",),
    "the table events shares its rows with another": ("CREATE TABLE more () INHERITS (events)",),
    "the table events hides rows": ("ALTER TABLE events ENABLE ROW LEVEL SECURITY",),
    "the table idempotency does not survive a crash": ("ALTER TABLE idempotency SET UNLOGGED",),
}


@on_sqlite
def test_on_sqlite_whatever_weakens_a_defence_is_named(database_url: str) -> None:
    for fault, statements in SQLITE_TAMPERING.items():
        assert fault in faults_after(database_url, *statements)


@on_postgresql
def test_on_postgresql_whatever_weakens_a_defence_is_named(database_url: str) -> None:
    for fault, statements in POSTGRESQL_TAMPERING.items():
        assert fault in faults_after(database_url, *statements)


# The role that serves.


@on_postgresql
def test_a_superuser_is_named(database_url: str) -> None:
    assert run_sync(database_url, schema.faults) == ("the role postgres is a superuser, whom nothing can be refused",)


@pytest.fixture
def role(raw: RawSql, database_url: str) -> Iterator[str]:
    """A role that may sign in, and nothing else."""
    name = f"{database_of(database_url)}_role"
    raw.run(f"CREATE ROLE {name} LOGIN")
    yield name
    raw.run(f"DROP OWNED BY {name} CASCADE")
    raw.run(f"DROP ROLE {name}")


def signed_in(url: str, role: str) -> str:
    return make_url(url).set(username=role).render_as_string()


@on_postgresql
def test_the_owner_of_the_tables_is_named(database_url: str, raw: RawSql, role: str) -> None:
    raw.run(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    raw.run(f"ALTER TABLE events OWNER TO {role}")

    assert run_sync(signed_in(database_url, role), schema.faults) == (
        f"the role {role} owns the events and could take their defences down",
    )


def test_the_rights_to_serve_name_every_table() -> None:
    assert set(defences.SERVICE_RIGHTS) == {"case_search", *SQLModel.metadata.tables}


@pytest.fixture
def serving_url(database_url: str, raw: RawSql, role: str) -> str:
    """For signing in as a role that has been given what it takes to serve, twice."""
    for statement in defences.grants(role) * 2:
        raw.run(statement)
    return signed_in(database_url, role)


@on_postgresql
def test_a_role_that_can_only_serve_is_no_fault(serving_url: str) -> None:
    assert run_sync(serving_url, schema.faults) == ()
    assert run_sync(serving_url, schema.revision) == schema.HEAD


@on_postgresql
def test_a_role_that_can_only_serve_can_record(serving_url: str) -> None:
    tell(serving_url)

    with raw_sql(serving_url) as serving:
        serving.run("DELETE FROM pending_events")
        serving.run("DELETE FROM personal")
        serving.run("SELECT casework_confirm(true), nextval('case_numbers')")
        assert serving.run("SELECT count(*) FROM events") == [(5,)]


NOT_TO_SERVE = (
    "UPDATE events SET body = '{}'",
    "DELETE FROM events",
    "TRUNCATE personal",
    "DELETE FROM cases",
    "ALTER TABLE events DISABLE TRIGGER ALL",
    "ALTER TABLE events DROP CONSTRAINT hash_is_of_the_body",
    "DROP TRIGGER events_are_never_changed ON events",
    "DROP TABLE events CASCADE",
    f"CREATE OR REPLACE FUNCTION casework_refuse() {DO_NOTHING}",
    "CREATE TABLE more (id INTEGER)",
    "SET session_replication_role = replica",
    "SELECT setval('case_numbers', 1)",
    "UPDATE alembic_version SET version_num = '0000'",
)


@on_postgresql
def test_a_role_that_can_only_serve_can_do_no_more(serving_url: str) -> None:
    with raw_sql(serving_url) as serving:
        for statement in NOT_TO_SERVE:
            with pytest.raises(REFUSALS, match=r"permission denied|must be owner"):
                serving.run(statement)


# Asking a database.


def definition_faults(connection: Connection) -> tuple[str, ...]:
    """Without those of the role: the tests sign in as a superuser."""
    sqlite = connection.dialect.name == "sqlite"
    return tuple(schema.sqlite_faults(connection) if sqlite else schema.postgresql_faults(connection))


def faults_after(url: str, *statements: str) -> tuple[str, ...]:
    """What is found when these have been executed, which is then undone."""

    def work(connection: Connection) -> tuple[str, ...]:
        with connection.begin() as transaction:
            for statement in (*(["BEGIN"] if connection.dialect.name == "sqlite" else []), *statements):
                connection.exec_driver_sql(statement)
            found = definition_faults(connection)
            transaction.rollback()
        return found

    return run_sync(url, work)


def is_declared(name: str | None, kind: str, _: object) -> bool:
    return kind != "table" or name in SQLModel.metadata.tables


def declare(connection: Connection) -> None:
    SQLModel.metadata.create_all(connection)
    connection.commit()


def everything(connection: Connection) -> set[tuple[str, str]]:
    """The name and the definition of all that a database has."""
    if connection.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    else:
        query = """
            SELECT format('%s.%s', relname, attname), concat_ws(' ',
                attnum, format_type(atttypid, atttypmod), attnotnull, attidentity, pg_get_expr(adbin, adrelid))
            FROM pg_attribute
            JOIN pg_class ON attrelid = pg_class.oid AND relkind = 'r'
            JOIN pg_namespace ON relnamespace = pg_namespace.oid AND nspname = 'public'
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            WHERE attnum > 0
            UNION SELECT conname, concat_ws(' ', conrelid::regclass, pg_get_constraintdef(pg_constraint.oid))
            FROM pg_constraint
            JOIN pg_namespace ON connamespace = pg_namespace.oid AND nspname = 'public'
            UNION SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION SELECT sequencename, start_value::text FROM pg_sequences WHERE schemaname = 'public'
            UNION SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
            UNION SELECT proname, pg_get_functiondef(pg_proc.oid)
            FROM pg_proc
            JOIN pg_namespace ON pronamespace = pg_namespace.oid AND nspname = 'public'
        """
    return {(name, schema.plain(text)) for name, text in connection.exec_driver_sql(query)}
