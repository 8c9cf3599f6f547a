"""Effects are claimed, retried and settled; a client's cases are found by their address.

What the outbox held was never carried out, and nobody wants letters of long ago: it begins empty.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# SQLite numbers rows by itself only where the key is spelled INTEGER.
BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.drop_table("outbox")
    op.create_table(
        "outbox",
        sa.Column("id", BIG_KEY, sa.Identity(always=True), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Text(), server_default="[]", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("chain", "seq", "kind", "target", name="one_effect_of_a_kind_per_event"),
    )
    partial("outbox_by_lane", "outbox", "lane", "id", where="status = 'waiting'")
    partial("outbox_by_due", "outbox", "due_at", "id", where="status = 'waiting'")
    op.create_index("outbox_by_status", "outbox", ["status", "id"])
    partial("cases_by_client", "personal", "value", where="field = 'client_email'")


def partial(name: str, table: str, *columns: str, where: str) -> None:
    op.create_index(name, table, [*columns], sqlite_where=sa.text(where), postgresql_where=sa.text(where))
