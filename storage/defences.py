"""What the databases refuse by themselves, whoever writes the SQL: every trigger, function and check.

Each text is written as the database itself prints it, so that what installs a defence is also what the self-check of
`storage.schema` compares. A refusal carries the name of what refused. A migration that changes a text here first drops
what stands under that name, if anything does: on a new database the first migration has installed today's already.
"""

from collections.abc import Iterator, Mapping
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
APPEND_ONLY = ("events", "positions", "lifecycle_edges", "policies", "checkpoints")

# What has to be true of a new row of events, on both databases.
EVENT_RULES = {
    "only_cases_have_states": "(substr(NEW.chain, 1, 5) = 'case:') = (NEW.state_after <> '')",
    "a_case_begins_opened": f"""
        substr(NEW.chain, 1, 5) <> 'case:'
        OR (NEW.type = 'opened') = (NEW.seq = 1) AND (NEW.seq > 1 OR NEW.state_after = '{CaseState.OPENED.value}')
    """,
    "only_a_trigger_changes_the_state": """
        NEW.seq = 1 AND NEW.trigger IS NULL
        OR NEW.seq > 1 AND (NEW.trigger IS NOT NULL OR NEW.state_before = NEW.state_after)
    """,
    "edge_is_of_the_lifecycle": """
        NEW.trigger IS NULL OR EXISTS (
            SELECT 1 FROM {schema}.lifecycle_edges AS edge
            WHERE edge.lifecycle = NEW.lifecycle AND edge.trigger = NEW.trigger
                AND edge.source = NEW.state_before AND edge.target = NEW.state_after
        )
    """,
}

# What has to be true of a new row of tiles, and of one that is changed: a tile only grows, hash by hash.
TILE_RULES = {"tiles_hold_whole_hashes": "length(NEW.hashes) BETWEEN 32 AND 8192 AND length(NEW.hashes) % 32 = 0"}
GROWING_RULES = {
    **TILE_RULES,
    "tiles_only_grow": """
        NEW.level = OLD.level AND NEW.n = OLD.n AND length(NEW.hashes) > length(OLD.hashes)
        AND substr(NEW.hashes, 1, length(OLD.hashes)) = OLD.hashes
    """,
}


def install(connection: Connection, *tables: str) -> None:
    """Puts every defence of these tables, or of all, in place, in the caller's transaction."""
    tables = tables or tuple(trigger.place for trigger in (*SQLITE_TRIGGERS, *POSTGRESQL_TRIGGERS))
    if connection.dialect.name == "sqlite":
        for trigger in SQLITE_TRIGGERS:
            if trigger.place in tables:
                connection.exec_driver_sql(trigger.definition)
        return
    for function in postgresql_functions(schema_of(connection)):
        connection.exec_driver_sql(function.definition)
    for check in POSTGRESQL_CHECKS:
        if check.place in tables:
            connection.exec_driver_sql(f"ALTER TABLE {check.place} ADD CONSTRAINT {check.name} {check.definition}")
    for trigger in POSTGRESQL_TRIGGERS:
        if trigger.place in tables:
            connection.exec_driver_sql(trigger.definition)
            # Otherwise a session that plays the part of a replica passes unseen.
            connection.exec_driver_sql(f"ALTER TABLE {trigger.place} ENABLE ALWAYS TRIGGER {trigger.name}")


def schema_of(connection: Connection) -> str:
    return str(connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one())


# SQLite. Only triggers stand in the way here: any connection may ignore checks and foreign keys with a PRAGMA, and
# one without recursive triggers deletes unseen what it replaces. So an insert that would replace is refused as such.


def refuse(table: str, moment: str, name: str) -> Defence:
    return Defence(
        table, name, f"CREATE TRIGGER {name} BEFORE {moment} ON {table}\nBEGIN SELECT RAISE(ABORT, '{name}'); END"
    )


def check(table: str, name: str, rules: Mapping[str, str], moment: str = "INSERT") -> Defence:
    """A row that breaks one of the rules is refused in its name."""
    cases = "\n".join(f"WHEN ({rule}) IS NOT TRUE THEN RAISE(ABORT, '{broken}')" for broken, rule in rules.items())
    text = f"CREATE TRIGGER {name} BEFORE {moment} ON {table}\nBEGIN SELECT CASE\n{cases}\nEND; END"
    return Defence(table, name, text)


def nothing_replaced(table: str, *keys: tuple[str, ...]) -> dict[str, str]:
    alike = (" AND ".join(f"{column} = NEW.{column}" for column in key) for key in keys)
    free = (f"NOT EXISTS (SELECT 1 FROM {table} WHERE {one})" for one in alike)  # noqa: S608 - names of ours
    return {f"{table}_are_never_replaced": " AND ".join(free)}


SQLITE_EVENT_RULES = {
    **nothing_replaced("events", ("id",), ("chain", "seq")),
    # As a check it would be called by every tool that vacuums or loads a dump, and those do not have the function.
    "hash_is_of_the_body": "NEW.hash = casework_leaf_hash(NEW.body)",
    "body_is_within_its_limit": f"length(CAST(NEW.body AS BLOB)) <= {MAX_BYTES}",
    "columns_agree_with_the_body": f"""
        json_array(
            NEW.chain, NEW.seq, coalesce(NEW.prev_hash, '{ZEROS}'), NEW.type, nullif(NEW.state_before, ''),
            nullif(NEW.state_after, ''), NEW.trigger, NEW.lifecycle, NEW.at
        ) = json_extract(
            NEW.body, '$.chain', '$.seq', '$.prev', '$.type', '$.state_before',
            '$.state_after', '$.trigger', '$.lifecycle', '$.at'
        )
        AND json_type(NEW.body, '$.state_before') IS NOT NULL
        AND json_type(NEW.body, '$.state_after') IS NOT NULL
        AND (json_type(NEW.body, '$.trigger') IS NULL) = (NEW.trigger IS NULL)
    """,
    "event_follows_its_predecessor": """
        NEW.seq = 1 AND NEW.prev_seq IS NULL AND NEW.prev_hash IS NULL AND NEW.state_before IS NULL
        OR NEW.seq > 1 AND NEW.prev_seq = NEW.seq - 1 AND EXISTS (
            SELECT 1 FROM events
            WHERE chain = NEW.chain AND seq = NEW.prev_seq AND hash = NEW.prev_hash AND state_after = NEW.state_before
        )
    """,
    **{name: rule.replace("{schema}.", "") for name, rule in EVENT_RULES.items()},
}

# By the name of the trigger: its table, and the rules for each new row.
SQLITE_CHECKS: dict[str, tuple[str, dict[str, str]]] = {
    "every_event_is_checked": ("events", SQLITE_EVENT_RULES),
    "every_position_is_checked": (
        "positions",
        {
            **nothing_replaced("positions", ("position",), ("event_id",)),
            # An id below 1 would be taken for one that is yet to be given, and then block every later insert.
            "positions_leave_no_gap": """
                NEW.position = (SELECT coalesce(max(position), 0) + 1 FROM positions)
                AND NEW.event_id > 0 AND EXISTS (SELECT 1 FROM events WHERE id = NEW.event_id)
            """,
        },
    ),
    "every_edge_is_checked": (
        "lifecycle_edges",
        nothing_replaced("lifecycle_edges", ("lifecycle", '"trigger"', "source")),
    ),
    "every_policy_is_checked": ("policies", nothing_replaced("policies", ("version",))),
    "every_personal_text_is_checked": ("personal", nothing_replaced("personal", ("chain", "seq", "field"))),
    "every_tile_is_checked": ("tiles", {**nothing_replaced("tiles", ("level", "n")), **TILE_RULES}),
    "every_checkpoint_is_checked": ("checkpoints", nothing_replaced("checkpoints", ("id",), ("origin", "size"))),
}

SQLITE_TRIGGERS = (
    *(
        refuse(table, moment, f"{table}_are_never_{done}")
        for table in APPEND_ONLY
        for moment, done in (("UPDATE", "changed"), ("DELETE", "deleted"))
    ),
    refuse("personal", "UPDATE", "personal_are_never_changed"),
    refuse("tiles", "DELETE", "tiles_are_never_deleted"),
    check("tiles", "tiles_only_grow", GROWING_RULES, "UPDATE"),
    *(check(table, name, rules) for name, (table, rules) in SQLITE_CHECKS.items()),
    Defence(
        "events",
        "events_take_their_position",
        """CREATE TRIGGER events_take_their_position AFTER INSERT ON events
BEGIN
    INSERT INTO positions (position, event_id)
    VALUES ((SELECT coalesce(max(position), 0) + 1 FROM positions), NEW.id);
END""",
    ),
)


# PostgreSQL. What the constraints of the tables leave open, one function checks: it parses a body once, and costs less
# than as many checks, each of which every statement would prepare anew.

POSTGRESQL_CHECKS = (
    Defence(
        "events",
        "hash_is_of_the_body",
        r"CHECK (hash = encode(sha256('\x00'::bytea || convert_to(body, 'UTF8'::name)), 'hex'::text))",
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
    Defence("webhooks", "one_set_of_webhooks", "CHECK (id = 1)"),
)

POSTGRESQL_EVENT_RULES = {
    "body_is_within_its_limit": f"octet_length(NEW.body) <= {MAX_BYTES}",
    "columns_agree_with_the_body": f"""
        said ->> 'chain' = NEW.chain
        AND said -> 'seq' = to_jsonb(NEW.seq)
        AND said ->> 'prev' = coalesce(NEW.prev_hash, '{ZEROS}')
        AND said ->> 'type' = NEW.type
        AND said -> 'state_before' = coalesce(to_jsonb(nullif(NEW.state_before, '')), 'null')
        AND said -> 'state_after' = coalesce(to_jsonb(nullif(NEW.state_after, '')), 'null')
        AND said -> 'trigger' IS NOT DISTINCT FROM to_jsonb(NEW.trigger)
        AND said ->> 'lifecycle' = NEW.lifecycle
        AND said ->> 'at' = NEW.at
    """,
    **EVENT_RULES,
}


def function(signature: str, returns: str, body: str) -> tuple[str, str]:
    """Neither the caller's search path nor their temporary tables change what it means."""
    return (
        signature.partition("(")[0],
        f"""CREATE OR REPLACE FUNCTION {{schema}}.{signature}
 RETURNS {returns}
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
{body}
$function$
""",
    )


def event_check(rules: Mapping[str, str]) -> tuple[str, str]:
    return row_check("casework_check_event", rules, "DECLARE\n    said jsonb := NEW.body::jsonb;\n")


def row_check(name: str, rules: Mapping[str, str], declared: str = "") -> tuple[str, str]:
    judgements = "".join(
        f"    IF ({rule}) IS NOT TRUE THEN\n"
        f"        RAISE EXCEPTION '{broken}' USING ERRCODE = 'check_violation';\n"
        f"    END IF;\n"
        for broken, rule in rules.items()
    )
    return function(f"{name}()", "trigger", f"{declared}BEGIN\n{judgements}    RETURN NEW;\nEND")


POSTGRESQL_FUNCTIONS = dict(
    (
        event_check(POSTGRESQL_EVENT_RULES),
        row_check("casework_check_tile", TILE_RULES),
        row_check("casework_check_growth", GROWING_RULES),
        function(
            "casework_refuse()",
            "trigger",
            """BEGIN
    RAISE EXCEPTION '%', TG_NAME USING ERRCODE = 'restrict_violation';
END""",
        ),
        function(
            "casework_await_positions()",
            "trigger",
            """BEGIN
    INSERT INTO {schema}.pending_events (event_id) SELECT id FROM inserted;
    RETURN NULL;
END""",
        ),
        # Positions are unique: many of them leave no gap if they span no more, and begin where the last ones ended.
        function(
            "casework_check_positions()",
            "trigger",
            """DECLARE
    first bigint;
    last bigint;
    many bigint;
BEGIN
    SELECT min(position), max(position), count(*) INTO first, last, many FROM inserted;
    IF first < 1 OR last - first + 1 <> many
        OR first > 1 AND NOT EXISTS (SELECT FROM {schema}.positions WHERE position = first - 1)
    THEN
        RAISE EXCEPTION '%', TG_NAME USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END""",
        ),
        # A statement that writes on a condition asks this at its end, so that all of it happens or nothing.
        function(
            "casework_confirm(agreed boolean)",
            "void",
            """BEGIN
    IF agreed IS NOT TRUE THEN
        RAISE EXCEPTION 'the desk has changed' USING ERRCODE = 'CW001';
    END IF;
END""",
        ),
    )
)


def postgresql_functions(schema: str) -> Iterator[Defence]:
    for name, text in POSTGRESQL_FUNCTIONS.items():
        yield Defence(schema, name, text.replace("{schema}", schema))


def execute(name: str, moment: str, table: str, each: str, function: str) -> Defence:
    text = f"CREATE TRIGGER {name} {moment} ON {table} {each} EXECUTE FUNCTION {function}()"
    return Defence(table, name, text)


EACH_ROW = "FOR EACH ROW"
AT_ONCE = "FOR EACH STATEMENT"
ALL_NEW = "REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT"

POSTGRESQL_TRIGGERS = (
    *(
        execute(f"{table}_are_never_{done}", f"BEFORE {moment}", table, each, "casework_refuse")
        for table in APPEND_ONLY
        for moment, done, each in (
            ("UPDATE", "changed", EACH_ROW),
            ("DELETE", "deleted", EACH_ROW),
            ("TRUNCATE", "truncated", AT_ONCE),
        )
    ),
    execute("personal_are_never_changed", "BEFORE UPDATE", "personal", EACH_ROW, "casework_refuse"),
    *(
        execute(f"tiles_are_never_{done}", f"BEFORE {moment}", "tiles", each, "casework_refuse")
        for moment, done, each in (("DELETE", "deleted", EACH_ROW), ("TRUNCATE", "truncated", AT_ONCE))
    ),
    execute("every_tile_is_checked", "BEFORE INSERT", "tiles", EACH_ROW, "casework_check_tile"),
    execute("tiles_only_grow", "BEFORE UPDATE", "tiles", EACH_ROW, "casework_check_growth"),
    execute("every_event_is_checked", "BEFORE INSERT", "events", EACH_ROW, "casework_check_event"),
    execute("events_await_their_position", "AFTER INSERT", "events", ALL_NEW, "casework_await_positions"),
    execute("positions_leave_no_gap", "AFTER INSERT", "positions", ALL_NEW, "casework_check_positions"),
)

# What the service does to each table, besides reading it. It needs no more, and never TRUNCATE or DDL.
SERVICE_RIGHTS = {
    "events": "INSERT",
    "pending_events": "INSERT, DELETE",
    "positions": "INSERT",
    "tiles": "INSERT, UPDATE",
    "checkpoints": "INSERT",
    "personal": "INSERT, DELETE",
    "attachments": "INSERT, DELETE",
    "purchases": "INSERT, UPDATE",
    "cases": "INSERT, UPDATE",
    "case_search": "INSERT, UPDATE, DELETE",
    "consultations": "INSERT, UPDATE, DELETE",
    "open_proposals": "INSERT, DELETE",
    "idempotency": "INSERT, UPDATE, DELETE",
    "outbox": "INSERT, UPDATE, DELETE",
    "mail_refs": "INSERT, UPDATE, DELETE",
    "people": "INSERT, UPDATE",
    "tokens": "INSERT, UPDATE, DELETE",
    "passwords": "INSERT, UPDATE",
    "client_links": "INSERT, DELETE",
    "identities": "INSERT, DELETE",
    "policies": "INSERT",
    "webhooks": "INSERT, UPDATE",
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
