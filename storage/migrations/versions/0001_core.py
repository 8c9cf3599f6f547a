"""The tables of `storage.tables`, the search index, and the defences."""

import sqlalchemy as sa
from alembic import op

from storage import defences

revision = "0001"
down_revision = None

# SQLite numbers rows by itself only where the key is spelled INTEGER.
BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

POSTGRESQL_ONLY = (
    "CREATE SEQUENCE case_numbers START 1001",
    "CREATE TABLE case_search (number BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)",
    "CREATE INDEX case_search_by_word ON case_search USING gin (words)",
)
# Texts arrive as words already, so this tokenizer has nothing to do but split at blanks.
SQLITE_ONLY = ("CREATE VIRTUAL TABLE case_search USING fts5(words, tokenize='ascii')",)


def upgrade() -> None:
    create_log()
    create_desk()
    create_cases()
    connection = op.get_bind()
    dialect = connection.dialect.name
    for statement in POSTGRESQL_ONLY if dialect == "postgresql" else SQLITE_ONLY:
        connection.exec_driver_sql(statement)
    defences.install(connection, "events", "positions", "lifecycle_edges", "policies", "personal")


def create_log() -> None:
    op.create_table(
        "events",
        sa.Column("id", BIG_KEY, sa.Identity(always=True), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("prev_seq", sa.Integer(), nullable=True),
        sa.Column("prev_hash", sa.Text(), nullable=True),
        sa.Column("state_before", sa.Text(), nullable=True),
        sa.Column("state_after", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("lifecycle", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("chain", "seq", name="one_event_per_place"),
        sa.UniqueConstraint("chain", "seq", "hash", "state_after", name="event_can_be_followed"),
        sa.ForeignKeyConstraint(
            ["chain", "prev_seq", "prev_hash", "state_before"],
            ["events.chain", "events.seq", "events.hash", "events.state_after"],
            name="event_follows_its_predecessor",
        ),
        sa.CheckConstraint(
            "(seq = 1 AND prev_seq IS NULL AND prev_hash IS NULL AND state_before IS NULL)"
            " OR (seq > 1 AND prev_seq = seq - 1 AND prev_hash IS NOT NULL AND state_before IS NOT NULL)",
            name="only_the_first_has_no_predecessor",
        ),
    )
    op.create_index("events_by_type", "events", ["type", "id"])
    op.create_table(
        "pending_events",
        sa.Column("event_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_table(
        "positions",
        sa.Column("position", BIG_KEY, autoincrement=False, nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name="position_of_an_event"),
        sa.UniqueConstraint("event_id"),
    )
    op.create_table(
        "personal",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", "seq", "field"),
        sqlite_with_rowid=False,
    )
    of_an_address = sa.text("field = 'email'")
    op.create_index(
        "people_by_email", "personal", ["value"], sqlite_where=of_an_address, postgresql_where=of_an_address
    )
    op.create_table(
        "lifecycle_edges",
        sa.Column("lifecycle", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("lifecycle", "trigger", "source"),
    )


def create_desk() -> None:
    op.create_table(
        "desk",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("id = 1", name="one_desk_per_database"),
    )
    op.create_table(
        "policies",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "people",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "tokens",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        sa.UniqueConstraint("id"),
    )
    op.create_table(
        "idempotency",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sqlite_with_rowid=False,
    )
    op.create_index("idempotency_by_age", "idempotency", ["at"])
    op.create_table(
        "outbox",
        sa.Column("id", BIG_KEY, sa.Identity(always=True), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("chain", "seq", "kind", name="one_effect_of_a_kind_per_event"),
    )


def create_cases() -> None:
    op.create_table(
        "purchases",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("paid", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("reference"),
        sa.CheckConstraint(
            "refunded >= 0 AND reserved >= 0 AND refunded + reserved <= paid",
            name="never_more_back_than_was_paid",
        ),
    )
    op.create_table(
        "cases",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("mail_tag", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("assignee", sa.Text(), nullable=True),
        sa.Column("waiting", sa.Boolean(), nullable=False),
        sa.Column("received_at", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Text(), nullable=False),
        sa.Column("next_deadline", sa.Text(), nullable=True),
        sa.Column("purchase", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["purchase"], ["purchases.reference"], name="case_of_a_known_purchase"),
        sa.UniqueConstraint("number"),
        sa.UniqueConstraint("mail_tag"),
    )
    for name, column in (
        ("cases_by_state", "state"),
        ("cases_by_assignee", "assignee"),
        ("cases_by_category", "category"),
        ("cases_by_deadline", "next_deadline"),
        ("cases_by_change", "changed_at"),
    ):
        op.create_index(name, "cases", [column, "number"])
    op.create_index("cases_of_a_purchase", "cases", ["purchase"])
    op.create_table(
        "attachments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("attachments_of_a_case", "attachments", ["case_id", "seq"])
    op.create_table(
        "consultations",
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.Text(), nullable=False),
        sa.Column("ends_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("case_id"),
    )
    op.create_index("consultations_of_a_host", "consultations", ["host", "starts_at"])
    op.create_table(
        "mail_refs",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("mail_refs_of_a_case", "mail_refs", ["case_id"])
