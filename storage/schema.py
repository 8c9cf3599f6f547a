"""The schema of a database: bringing it up to date, saying how old it is, and checking that its defences stand."""

from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import Connection, Dialect, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint, inspect
from sqlalchemy.schema import CreateTable
from sqlmodel import SQLModel

import storage.tables  # noqa: F401 - declares the tables
from storage import defences
from storage.defences import Defence

# Said here too, since importing Alembic takes longer than most commands; a test compares it with the migrations.
HEAD = "0005"

# Any number that nothing else in the database locks.
MIGRATION_LOCK = 7_305_808_869_231_650_155

BEGIN = {
    "sqlite": ("BEGIN IMMEDIATE",),
    "postgresql": (
        "SET LOCAL lock_timeout = 0",
        f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})",
        # While a migration waits for a table, everybody else waits behind it: better to fail, and try again later.
        "SET LOCAL lock_timeout = '5s'",
    ),
}


def upgrade(connection: Connection) -> None:
    """Brings the schema to HEAD in a transaction of its own; if a step fails, everything is as it was.

    Several processes may do this at once: one does the work, the others wait and find it done.
    """
    with connection.begin():
        for statement in BEGIN[connection.dialect.name]:
            connection.exec_driver_sql(statement)
        if revision(connection) != HEAD:
            migrate(connection)


def migrate(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - see HEAD
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "storage:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def revision(connection: Connection) -> str | None:
    """The migration that the database is at; None if it has never been migrated."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found


def faults(connection: Connection) -> tuple[str, ...]:
    """Why this database might not refuse what it should: empty if every defence stands as it was written.

    Definitions are compared, since a name proves nothing. On PostgreSQL it is a fault too if the connected role could
    take the defences down.
    """
    if connection.dialect.name == "sqlite":
        return tuple(sqlite_faults(connection))
    return (*postgresql_faults(connection), *role_faults(connection))


def sqlite_faults(connection: Connection) -> Iterator[str]:
    master = connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_master").all()
    yield from differences(
        "table",
        wanted={table.name: str(CreateTable(table).compile(connection)) for table in SQLModel.metadata.sorted_tables},
        found={name: sql for kind, name, _, sql in master if kind == "table"},
    )
    triggers = (Defence(table, name, sql) for kind, name, table, sql in master if kind == "trigger")
    yield from trigger_faults(by_place(defences.SQLITE_TRIGGERS), by_place(triggers))


def postgresql_faults(connection: Connection) -> Iterator[str]:
    def found(query: str) -> dict[str, str]:
        return by_place(Defence(*row) for row in connection.exec_driver_sql(query))

    yield from differences("column", wanted=by_place(postgresql_columns(connection.dialect)), found=found(COLUMNS))
    constraints = (
        *postgresql_keys(connection.dialect),
        *defences.POSTGRESQL_DECLARED_CHECKS,
        *defences.POSTGRESQL_CHECKS,
    )
    yield from differences("constraint", wanted=by_place(constraints), found=found(CONSTRAINTS))
    functions = defences.postgresql_functions(defences.schema_of(connection))
    yield from differences("function", wanted=by_place(functions), found=found(FUNCTIONS))
    yield from trigger_faults(by_place(defences.POSTGRESQL_TRIGGERS), found(TRIGGERS))
    yield from connection.exec_driver_sql(BYPASSES).scalars()


def role_faults(connection: Connection) -> Iterator[str]:
    """Nothing, if the connected role can be held to what `defences.grants` allows it. PostgreSQL only."""
    yield from connection.exec_driver_sql(TOO_MIGHTY).scalars()


def trigger_faults(wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    """A trigger too many can undo what another one does, so it is as bad as one that is missing."""
    yield from differences("trigger", wanted, found)
    yield from (f"the trigger {name} is none of ours" for name in found if name not in wanted)


def differences(kind: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for name, definition in wanted.items():
        if name not in found:
            yield f"the {kind} {name} is missing"
        elif plain(found[name]) != plain(definition):
            yield f"the {kind} {name} is not as it was written"


def plain(definition: str) -> str:
    """Without the blanks and quotes in which printers of SQL differ."""
    return " ".join(definition.replace('"', "").split()).replace(" (", "(")


def by_place(defended: Iterable[Defence]) -> dict[str, str]:
    return {f"{one.name} of {one.place}": one.definition for one in defended}


# What `storage.tables` declares, as PostgreSQL prints it.


def postgresql_columns(dialect: Dialect) -> Iterator[Defence]:
    for table in SQLModel.metadata.sorted_tables:
        for column in table.columns:
            null = "" if column.nullable else " NOT NULL"
            yield Defence(table.name, column.name, f"{column.type.compile(dialect).lower()}{null}")


def postgresql_keys(dialect: Dialect) -> Iterator[Defence]:
    """Those that have no name are given one by PostgreSQL."""
    compiler = dialect.ddl_compiler(dialect, None)  # type: ignore[arg-type]
    for table in SQLModel.metadata.sorted_tables:
        for key in table.constraints:
            if not isinstance(key, PrimaryKeyConstraint | UniqueConstraint | ForeignKeyConstraint):
                continue
            ending = "pkey" if isinstance(key, PrimaryKeyConstraint) else "_".join([*key.columns.keys(), "key"])
            name = str(key.name or f"{table.name}_{ending}")
            yield Defence(table.name, name, compiler.process(key).removeprefix(f"CONSTRAINT {name} "))


# What PostgreSQL prints. All of it is about tables in the schema where ours are.

OUR_TABLES = ", ".join(f"'{name}'" for name in SQLModel.metadata.tables)
FROM_OUR_TABLES = f"""
    FROM pg_catalog.pg_class AS relation
    JOIN pg_catalog.pg_namespace AS namespace
        ON namespace.oid = relation.relnamespace AND namespace.nspname = current_schema()
        AND relation.relname IN ({OUR_TABLES})
"""
COLUMNS = f"""
    SELECT relation.relname, attname,
        pg_catalog.format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
    {FROM_OUR_TABLES}
    JOIN pg_catalog.pg_attribute ON attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
"""
CONSTRAINTS = f"""
    SELECT relation.relname, conname, pg_catalog.pg_get_constraintdef(pg_constraint.oid, true)
    {FROM_OUR_TABLES}
    JOIN pg_catalog.pg_constraint ON conrelid = relation.oid
"""
FUNCTIONS = """
    SELECT quote_ident(nspname), proname, pg_catalog.pg_get_functiondef(pg_proc.oid)
    FROM pg_catalog.pg_proc
    JOIN pg_catalog.pg_namespace ON pg_namespace.oid = pronamespace AND nspname = current_schema()
    WHERE proname LIKE 'casework%'
"""
TRIGGERS = f"""
    SELECT relation.relname, tgname, pg_catalog.pg_get_triggerdef(pg_trigger.oid, true)
    {FROM_OUR_TABLES}
    JOIN pg_catalog.pg_trigger ON tgrelid = relation.oid AND NOT tgisinternal
"""
# Definitions can all be right while something else keeps them from working.
BYPASSES = f"""
    SELECT format('the trigger %s of %s is not always enabled', tgname, relation.relname)
    {FROM_OUR_TABLES}
    JOIN pg_catalog.pg_trigger ON tgrelid = relation.oid AND NOT tgisinternal AND tgenabled <> 'A'
    UNION
    SELECT format('the foreign keys of %s are not enforced', relation.relname)
    {FROM_OUR_TABLES}
    JOIN pg_catalog.pg_trigger ON tgrelid = relation.oid AND tgisinternal AND tgenabled NOT IN ('O', 'A')
    UNION
    SELECT format('the rule %s of %s is none of ours', rulename, relation.relname)
    {FROM_OUR_TABLES}
    JOIN pg_catalog.pg_rewrite ON ev_class = relation.oid
    UNION
    SELECT format('the table %s shares its rows with another', relation.relname)
    {FROM_OUR_TABLES}
    JOIN pg_catalog.pg_inherits ON relation.oid IN (inhrelid, inhparent)
    UNION
    SELECT format('the table %s hides rows', relation.relname)
    {FROM_OUR_TABLES}
    WHERE relrowsecurity
    UNION
    SELECT format('the table %s does not survive a crash', relation.relname)
    {FROM_OUR_TABLES}
    WHERE relpersistence <> 'p'
"""
TOO_MIGHTY = """
    SELECT CASE WHEN rolsuper
        THEN format('the role %s is a superuser, whom nothing can be refused', rolname)
        ELSE format('the role %s owns the events and could take their defences down', rolname)
    END
    FROM pg_catalog.pg_roles
    LEFT JOIN pg_catalog.pg_class ON pg_class.oid = pg_catalog.to_regclass('events')
    WHERE rolname = current_user AND (rolsuper OR pg_catalog.pg_has_role(relowner, 'MEMBER'))
"""
