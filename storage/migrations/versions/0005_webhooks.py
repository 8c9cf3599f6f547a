"""Systems that follow the desk: their endpoints, and what each was sent."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name="one_set_of_webhooks"),
        sa.PrimaryKeyConstraint("id"),
    )
    targeted = sa.text("target <> ''")
    op.create_index("outbox_by_target", "outbox", ["target", "id"], sqlite_where=targeted, postgresql_where=targeted)
