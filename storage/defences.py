"""What the databases refuse by themselves, whoever writes the SQL: every trigger, function and check.

Each text is written as the database itself prints it, so that what installs a defence is also what the self-check of
`storage.schema` compares. A refusal carries the name of what refused. A migration that changes a text here first drops
what stands under that name, if anything does: on a new database the first migration has installed today's already.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection

from workflow.canonical import MAX_BYTES, ZEROS
from workflow.states import CaseState


class Defence(NamedTuple):
    """A trigger or check of a table, or a function of a schema."""

    place: str
    name: str
    definition: str


# Rows of these are history: there may be more, never others. (Personal texts may be erased, but not reworded.)
APPEND_ONLY = ("events", "positions", "lifecycle_edges", "policies")

OPENED = CaseState.OPENED.value


def install(connection: Connection) -> None:
    """Puts every defence in place, in the caller's transaction."""
    if connection.dialect.name == "sqlite":
        for trigger in SQLITE_TRIGGERS:
            connection.exec_driver_sql(trigger.definition)
        return
    for function in postgresql_functions(schema_of(connection)):
        connection.exec_driver_sql(function.definition)
    for check in POSTGRESQL_CHECKS:
        connection.exec_driver_sql(f"ALTER TABLE {check.place} ADD CONSTRAINT {check.name} {check.definition}")
    for trigger in POSTGRESQL_TRIGGERS:
        connection.exec_driver_sql(trigger.definition)
        # Otherwise a session that plays the part of a replica passes unseen.
        connection.exec_driver_sql(f"ALTER TABLE {trigger.place} ENABLE ALWAYS TRIGGER {trigger.name}")


def schema_of(connection: Connection) -> str:
    return str(connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one())


# SQLite. Only triggers stand in the way here: any connection may ignore checks and foreign keys with a PRAGMA, and
# one without recursive triggers deletes unseen what it replaces. So an insert that would replace is refused as such.


def refuse(table: str, moment: str, name: str, unless: str | None = None) -> Defence:
    condition = "" if unless is None else f" WHEN ({unless}) IS NOT TRUE"
    return Defence(
        table,
        name,
        f"CREATE TRIGGER {name} BEFORE {moment} ON {table}{condition}\nBEGIN SELECT RAISE(ABORT, '{name}'); END",
    )


def refuse_replacement(table: str, *keys: tuple[str, ...]) -> Defence:
    taken = " OR ".join(
        f"EXISTS (SELECT 1 FROM {table} WHERE {' AND '.join(f'{column} = NEW.{column}' for column in key)})"
        for key in keys
    )
    return refuse(table, "INSERT", f"{table}_are_never_replaced", unless=f"NOT ({taken})")


SQLITE_TRIGGERS = (
    *(
        refuse(table, moment, f"{table}_are_never_{done}")
        for table in APPEND_ONLY
        for moment, done in (("UPDATE", "changed"), ("DELETE", "deleted"))
    ),
    refuse_replacement("events", ("id",), ("chain", "seq")),
    refuse_replacement("positions", ("position",), ("event_id",)),
    refuse_replacement("lifecycle_edges", ("lifecycle", '"trigger"', "source")),
    refuse_replacement("policies", ("version",)),
    refuse("personal", "UPDATE", "personal_are_never_changed"),
    refuse_replacement("personal", ("chain", "seq", "field")),
    # As a check it would be called by every tool that vacuums or loads a dump, and those do not have the function.
    refuse("events", "INSERT", "hash_is_of_the_body", unless="NEW.hash = casework_leaf_hash(NEW.body)"),
    refuse(
        "events", "INSERT", "body_is_within_its_limit", unless=f"length(CAST(NEW.body AS BLOB)) <= {MAX_BYTES}"
    ),
    refuse(
        "events",
        "INSERT",
        "columns_agree_with_the_body",
        unless=f"""
    json_array(
        NEW.chain, NEW.seq, coalesce(NEW.prev_hash, '{ZEROS}'), NEW.type, nullif(NEW.state_before, ''),
        nullif(NEW.state_after, ''), NEW."trigger", NEW.lifecycle, NEW.at
    ) = json_extract(
        NEW.body, '$.chain', '$.seq', '$.prev', '$.type', '$.state_before',
        '$.state_after', '$.trigger', '$.lifecycle', '$.at'
    )
    AND json_type(NEW.body, '$.state_before') IS NOT NULL
    AND json_type(NEW.body, '$.state_after') IS NOT NULL
    AND (json_type(NEW.body, '$.trigger') IS NULL) = (NEW."trigger" IS NULL)
""",
    ),
    refuse(
        "events",
        "INSERT",
        "event_follows_its_predecessor",
        unless="""
    NEW.seq = 1 AND NEW.prev_seq IS NULL AND NEW.prev_hash IS NULL AND NEW.state_before IS NULL
    OR NEW.seq > 1 AND NEW.prev_seq = NEW.seq - 1 AND EXISTS (
        SELECT 1 FROM events
        WHERE chain = NEW.chain AND seq = NEW.prev_seq AND hash = NEW.prev_hash AND state_after = NEW.state_before
    )
""",
    ),
    refuse(
        "events",
        "INSERT",
        "only_cases_have_states",
        unless="(NEW.chain GLOB 'case:*') = (NEW.state_after <> '')",
    ),
    refuse(
        "events",
        "INSERT",
        "a_case_begins_opened",
        unless=f"""
    NEW.chain NOT GLOB 'case:*'
    OR (NEW.type = 'opened') = (NEW.seq = 1) AND (NEW.seq > 1 OR NEW.state_after = '{OPENED}')
""",
    ),
    refuse(
        "events",
        "INSERT",
        "only_a_trigger_changes_the_state",
        unless="""
    NEW.seq = 1 AND NEW."trigger" IS NULL
    OR NEW.seq > 1 AND (NEW."trigger" IS NOT NULL OR NEW.state_before = NEW.state_after)
""",
    ),
    refuse(
        "events",
        "INSERT",
        "edge_is_of_the_lifecycle",
        unless="""
    NEW."trigger" IS NULL OR EXISTS (
        SELECT 1 FROM lifecycle_edges
        WHERE lifecycle = NEW.lifecycle AND "trigger" = NEW."trigger"
            AND source = NEW.state_before AND target = NEW.state_after
    )
""",
    ),
    Defence(
        "events",
        "events_take_their_position",
        """CREATE TRIGGER events_take_their_position AFTER INSERT ON events
BEGIN
    INSERT INTO positions (position, event_id)
    VALUES ((SELECT coalesce(max(position), 0) + 1 FROM positions), NEW.id);
END""",
    ),
    # An id below 1 would be taken for one that is yet to be given, and then block every later insert.
    refuse(
        "positions",
        "INSERT",
        "positions_leave_no_gap",
        unless="""
    NEW.position = (SELECT coalesce(max(position), 0) + 1 FROM positions)
    AND NEW.event_id > 0 AND EXISTS (SELECT 1 FROM events WHERE id = NEW.event_id)
""",
    ),
)


# PostgreSQL. Checks are bound when they are made: neither another search path nor a disabled trigger changes them.

POSTGRESQL_CHECKS = (
    Defence(
        "events",
        "hash_is_of_the_body",
        r"CHECK (hash = encode(sha256('\x00'::bytea || convert_to(body, 'UTF8'::name)), 'hex'::text))",
    ),
    Defence("events", "body_is_within_its_limit", f"CHECK (octet_length(body) <= {MAX_BYTES})"),
    Defence(
        "events",
        "columns_agree_with_the_body",
        "CHECK (body::jsonb @> jsonb_build_object("
        "'chain', chain, 'seq', seq, 'prev', COALESCE(prev_hash, repeat('0'::text, 64)), 'type', type,"
        " 'state_before', NULLIF(state_before, ''::text), 'state_after', NULLIF(state_after, ''::text),"
        " 'lifecycle', lifecycle, 'at', at)"
        " AND NOT (body::jsonb -> 'trigger'::text) IS DISTINCT FROM to_jsonb(trigger))",
    ),
    Defence("events", "only_cases_have_states", "CHECK (starts_with(chain, 'case:'::text) = (state_after <> ''::text))"),
    Defence(
        "events",
        "a_case_begins_opened",
        "CHECK (NOT starts_with(chain, 'case:'::text)"
        f" OR (type = 'opened'::text) = (seq = 1) AND (seq > 1 OR state_after = '{OPENED}'::text))",
    ),
    Defence(
        "events",
        "only_a_trigger_changes_the_state",
        "CHECK (seq = 1 AND trigger IS NULL OR seq > 1 AND (trigger IS NOT NULL OR state_before = state_after))",
    ),
)


# The checks that `storage.tables` declares, as PostgreSQL prints them.
POSTGRESQL_DECLARED_CHECKS = (
    Defence(
        "events",
        "only_the_first_has_no_predecessor",
        "CHECK (seq = 1 AND prev_seq IS NULL AND prev_hash IS NULL AND state_before IS NULL"
        " OR seq > 1 AND prev_seq = (seq - 1) AND prev_hash IS NOT NULL AND state_before IS NOT NULL)",
    ),
    Defence(
        "purchases",
        "never_more_back_than_was_paid",
        "CHECK (refunded >= 0 AND reserved >= 0 AND (refunded + reserved) <= paid)",
    ),
    Defence("desk", "one_desk_per_database", "CHECK (id = 1)"),
)

# Tables are named with their schema: a temporary table of the same name would otherwise come first.
POSTGRESQL_FUNCTIONS = {
    "casework_refuse": """CREATE OR REPLACE FUNCTION {schema}.casework_refuse()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION '%', TG_NAME USING ERRCODE = 'restrict_violation';
END
$function$
""",
    "casework_check_edge": """CREATE OR REPLACE FUNCTION {schema}.casework_check_edge()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM FROM {schema}.lifecycle_edges AS edge
    WHERE edge.lifecycle = NEW.lifecycle AND edge.trigger = NEW.trigger
        AND edge.source = NEW.state_before AND edge.target = NEW.state_after;
    IF NOT FOUND THEN
        RAISE EXCEPTION '%', TG_NAME USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$function$
""",
    "casework_await_positions": """CREATE OR REPLACE FUNCTION {schema}.casework_await_positions()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO {schema}.pending_events (event_id) SELECT id FROM inserted;
    RETURN NULL;
END
$function$
""",
    # Positions are unique, so a batch has no gap if it spans as many as it has and begins where the last one ended.
    "casework_check_positions": """CREATE OR REPLACE FUNCTION {schema}.casework_check_positions()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE
    first bigint;
    last bigint;
    size bigint;
BEGIN
    SELECT min(position), max(position), count(*) INTO first, last, size FROM inserted;
    IF first < 1 OR last - first + 1 <> size
        OR first > 1 AND NOT EXISTS (SELECT FROM {schema}.positions WHERE position = first - 1)
    THEN
        RAISE EXCEPTION '%', TG_NAME USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$function$
""",
    # A statement that writes on a condition asks this at its end, so that all of it happens or nothing.
    "casework_confirm": """CREATE OR REPLACE FUNCTION {schema}.casework_confirm(agreed boolean)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
BEGIN
    IF agreed IS NOT TRUE THEN
        RAISE EXCEPTION 'the desk has changed' USING ERRCODE = 'CW001';
    END IF;
END
$function$
""",
}


def postgresql_functions(schema: str) -> Iterator[Defence]:
    for name, text in POSTGRESQL_FUNCTIONS.items():
        yield Defence(schema, name, text.replace("{schema}", schema))


def refuse_with_function(table: str, moment: str, name: str, each: str = "ROW") -> Defence:
    return Defence(
        table,
        name,
        f"CREATE TRIGGER {name} BEFORE {moment} ON {table} FOR EACH {each} EXECUTE FUNCTION casework_refuse()",
    )


POSTGRESQL_TRIGGERS = (
    *(
        refuse_with_function(table, moment, f"{table}_are_never_{done}", each)
        for table in APPEND_ONLY
        for moment, done, each in (
            ("UPDATE", "changed", "ROW"),
            ("DELETE", "deleted", "ROW"),
            ("TRUNCATE", "truncated", "STATEMENT"),
        )
    ),
    refuse_with_function("personal", "UPDATE", "personal_are_never_changed"),
    Defence(
        "events",
        "edge_is_of_the_lifecycle",
        "CREATE TRIGGER edge_is_of_the_lifecycle BEFORE INSERT ON events FOR EACH ROW"
        " WHEN (new.trigger IS NOT NULL) EXECUTE FUNCTION casework_check_edge()",
    ),
    Defence(
        "events",
        "events_await_their_position",
        "CREATE TRIGGER events_await_their_position AFTER INSERT ON events"
        " REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION casework_await_positions()",
    ),
    Defence(
        "positions",
        "positions_leave_no_gap",
        "CREATE TRIGGER positions_leave_no_gap AFTER INSERT ON positions"
        " REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION casework_check_positions()",
    ),
)

# What the service does to each table, besides reading it. It needs no more, and never TRUNCATE or DDL.
SERVICE_RIGHTS = {
    "events": "INSERT",
    "pending_events": "INSERT, DELETE",
    "positions": "INSERT",
    "personal": "INSERT, DELETE",
    "attachments": "INSERT, DELETE",
    "purchases": "INSERT, UPDATE",
    "cases": "INSERT, UPDATE",
    "case_search": "INSERT, UPDATE, DELETE",
    "consultations": "INSERT, UPDATE, DELETE",
    "idempotency": "INSERT, UPDATE, DELETE",
    "outbox": "INSERT, UPDATE, DELETE",
    "mail_refs": "INSERT, UPDATE, DELETE",
    "people": "INSERT, UPDATE",
    "tokens": "INSERT, UPDATE, DELETE",
    "policies": "INSERT",
    "lifecycle_edges": "INSERT",
    "desk": "INSERT",
}


def grants(role: str, schema: str = "public") -> tuple[str, ...]:
    """The statements with which the owner of the tables lets `role` serve. PostgreSQL only; safe to repeat."""
    grantee = '"{}"'.format(role.replace('"', '""'))
    return (
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {grantee}",
        f"GRANT USAGE ON SCHEMA {schema} TO {grantee}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {grantee}",
        *(f"GRANT {rights} ON {schema}.{table} TO {grantee}" for table, rights in SERVICE_RIGHTS.items()),
        f"GRANT USAGE ON SEQUENCE {schema}.case_numbers TO {grantee}",
        f"GRANT EXECUTE ON FUNCTION {schema}.casework_confirm(boolean) TO {grantee}",
    )
