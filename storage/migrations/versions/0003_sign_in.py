"""Passwords and identities, for those who sign in with them, links for clients, who never do; lists of open work."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

OPEN = ("proposed", "approved")


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
    op.create_table(
        "identities",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("issuer", "subject", name="one_person_per_identity"),
    )
    proposals = op.create_table(
        "open_proposals",
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("proposal", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("case_id", "proposal"),
        sqlite_with_rowid=False,
    )
    if found := open_now():
        op.bulk_insert(proposals, found)
    index_open_cases()


def index_open_cases() -> None:
    partial("open_cases_by_deadline", "next_deadline", "number", where="state <> 'closed'")
    for column, *carried in (("assignee", "waiting"), ("waiting",), ("state",)):
        partial(f"open_cases_by_{column}", column, "next_deadline", "number", *carried, where="state <> 'closed'")
    partial(
        "closed_cases_with_mail",
        "number",
        where=r"""body LIKE '%"mail_after_closing"\:true%'""",
    )


def partial(name: str, *columns: str, where: str) -> None:
    op.create_index(name, "cases", [*columns], sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def open_now() -> list[dict[str, str]]:
    """Those of the cases that there are: what is looked for stands in few of them, and only there is it read."""
    stands = " OR ".join(f'body LIKE \'%"status":"{status}"%\'' for status in OPEN)
    cases = op.get_bind().execute(sa.text(f"SELECT id, body FROM cases WHERE {stands}"))  # noqa: S608 - names
    return [
        {"case_id": case_id, "proposal": one["id"]}
        for case_id, body in cases
        for one in json.loads(body)["proposals"]
        if one["status"] in OPEN
    ]
