"""Passwords, for those who sign in with one, links for clients, who never do, and indexes of open cases."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "passwords",
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("person_id"),
    )
    op.create_table(
        "client_links",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("links_of_a_case", "client_links", ["case_id"])
    index_open_cases()


def index_open_cases() -> None:
    for column in ("assignee", "waiting", "state"):
        partial(f"open_cases_by_{column}", column, "next_deadline", "number", where="state <> 'closed'")
    partial(
        "closed_cases_with_mail",
        "number",
        where=r"""body LIKE '%"mail_after_closing"\:true%'""",
    )


def partial(name: str, *columns: str, where: str) -> None:
    op.create_index(name, "cases", [*columns], sqlite_where=sa.text(where), postgresql_where=sa.text(where))
