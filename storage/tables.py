"""The tables. What must always hold is a named constraint here, or a trigger in `storage.defences`.

Times are UTC texts with six decimals, so that they sort and compare alike on both databases; hashes are hex.
Bodies are JSON texts, stored verbatim: `jsonb` would change their bytes.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlmodel import Field, SQLModel

# SQLite numbers rows by itself only where the key is spelled INTEGER.
BIG_KEY = BigInteger().with_variant(Integer, "sqlite")


# SQLite keeps such a table in the order of its key alone, which halves the work of an insert.
KEYED = {"sqlite_with_rowid": False}


def partial(name: str, *columns: str, where: str) -> Index:
    """An index of some rows alone; a query uses it where it says the very same."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


# What lists of work are about: on an old desk few cases among many.
OPEN = "state <> 'closed'"

# Of effects: not settled yet.
WAITING = "status = 'waiting'"

# Of effects: one of several that hear of the same event.
TARGETED = "target <> ''"

# Closed, and something came in since that nobody has answered; of the body, which names what is so in just this way.
MAIL_AFTER_CLOSING = r"""body LIKE '%"mail_after_closing"\:true%'"""


class Rows(SQLModel):
    """Nothing is validated by these, so that no validators are made of them: it would take a tenth of a start."""

    model_config = {"defer_build": True}


class EventRow(Rows, table=True):
    """The log: append-only, each chain linked by hash and by state."""

    __tablename__ = "events"
    __table_args__ = (
        Unique("chain", "seq", name="one_event_per_place"),
        Unique("chain", "seq", "hash", "state_after", name="event_can_be_followed"),
        # No fork, no gap, no other predecessor than the one that is named, no state that was not reached.
        ForeignKeyConstraint(
            ["chain", "prev_seq", "prev_hash", "state_before"],
            ["events.chain", "events.seq", "events.hash", "events.state_after"],
            name="event_follows_its_predecessor",
        ),
        CheckConstraint(
            "(seq = 1 AND prev_seq IS NULL AND prev_hash IS NULL AND state_before IS NULL)"
            " OR (seq > 1 AND prev_seq = seq - 1 AND prev_hash IS NOT NULL AND state_before IS NOT NULL)",
            name="only_the_first_has_no_predecessor",
        ),
        Index("events_by_type", "type", "id"),
    )

    id: int | None = Field(default=None, sa_column=Column(BIG_KEY, Identity(always=True), primary_key=True))
    chain: str = Field(sa_type=Text)
    seq: int
    prev_seq: int | None
    prev_hash: str | None = Field(sa_type=Text)
    state_before: str | None = Field(sa_type=Text)
    state_after: str = Field(sa_type=Text)  # "" in chains that have no states
    trigger: str | None = Field(sa_type=Text)
    type: str = Field(sa_type=Text)
    lifecycle: str = Field(sa_type=Text)
    at: str = Field(sa_type=Text)
    hash: str = Field(sa_type=Text)
    body: str = Field(sa_type=Text)


class PendingEventRow(Rows, table=True):
    """Committed events that have no position yet (PostgreSQL only: SQLite gives it while writing)."""

    __tablename__ = "pending_events"

    event_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))


class PositionRow(Rows, table=True):
    """The dense order over all chains that the feed pages by."""

    __tablename__ = "positions"
    __table_args__ = (ForeignKeyConstraint(["event_id"], ["events.id"], name="position_of_an_event"),)

    position: int = Field(sa_column=Column(BIG_KEY, primary_key=True, autoincrement=False))
    event_id: int = Field(sa_column=Column(BigInteger, unique=True, nullable=False))


class TileRow(Rows, table=True):
    """The tree over the log, as C2SP's tlog-tiles: the hashes of one tile, one after the other."""

    __tablename__ = "tiles"

    level: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    n: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    hashes: bytes = Field(sa_type=LargeBinary)


class CheckpointRow(Rows, table=True):
    """The checkpoints that were signed. What nobody can take back lies outside: see `storage.keys`."""

    __tablename__ = "checkpoints"
    __table_args__ = (Unique("origin", "size", name="one_checkpoint_per_size"),)

    id: int | None = Field(default=None, sa_column=Column(BIG_KEY, Identity(always=True), primary_key=True))
    origin: str = Field(sa_type=Text)
    size: int = Field(sa_type=BigInteger)
    root: str = Field(sa_type=Text)
    note: str = Field(sa_type=Text)
    at: str = Field(sa_type=Text)


class PersonalRow(Rows, table=True):
    """Personal texts with the salts of their commitments. Deleting a row erases; the chain stays whole."""

    __tablename__ = "personal"
    __table_args__ = (
        partial("people_by_email", "value", where="field = 'email'"),  # a sign-in starts from an address
        partial("cases_by_client", "value", where="field = 'client_email'"),
        KEYED,
    )

    chain: str = Field(sa_type=Text, primary_key=True)
    seq: int = Field(primary_key=True)
    field: str = Field(sa_type=Text, primary_key=True)
    salt: bytes = Field(sa_type=LargeBinary)
    value: str = Field(sa_type=Text)


class AttachmentRow(Rows, table=True):
    """Evidence files under random keys; the log holds a commitment to each content."""

    __tablename__ = "attachments"
    __table_args__ = (Index("attachments_of_a_case", "case_id", "seq"),)

    id: str = Field(sa_type=Text, primary_key=True)
    case_id: str = Field(sa_type=Text)
    seq: int
    salt: bytes = Field(sa_type=LargeBinary)
    content: bytes = Field(sa_type=LargeBinary)


class PurchaseRow(Rows, table=True):
    """One row for all cases that share the purchase."""

    __tablename__ = "purchases"
    __table_args__ = (
        # Nothing is refunded twice, over all cases, under any concurrency (policy 2.8).
        CheckConstraint(
            "refunded >= 0 AND reserved >= 0 AND refunded + reserved <= paid",
            name="never_more_back_than_was_paid",
        ),
    )

    reference: str = Field(sa_type=Text, primary_key=True)
    currency: str = Field(sa_type=Text)
    paid: int = Field(sa_type=BigInteger)
    refunded: int = Field(sa_type=BigInteger)
    reserved: int = Field(sa_type=BigInteger)
    body: str = Field(sa_type=Text)


class CaseRow(Rows, table=True):
    """The last page of each case's log. `body` is the whole case; the columns are what lists ask for."""

    __tablename__ = "cases"
    __table_args__ = (
        Index("cases_by_state", "state", "number"),
        Index("cases_by_assignee", "assignee", "number"),
        Index("cases_by_category", "category", "number"),
        Index("cases_by_deadline", "next_deadline", "number"),
        Index("cases_by_change", "changed_at", "number"),
        Index("cases_of_a_purchase", "purchase"),
        # Of work, in the order in which it is due: each tab of the queue and each column of the board is one stretch.
        # By assignee it tells the load of each as well, which makes nobody read the rows.
        partial("open_cases_by_deadline", "next_deadline", "number", where=OPEN),
        partial("open_cases_by_assignee", "assignee", "next_deadline", "number", "waiting", where=OPEN),
        partial("open_cases_by_waiting", "waiting", "next_deadline", "number", where=OPEN),
        partial("open_cases_by_state", "state", "next_deadline", "number", where=OPEN),
        partial("closed_cases_with_mail", "number", where=MAIL_AFTER_CLOSING),
        ForeignKeyConstraint(["purchase"], ["purchases.reference"], name="case_of_a_known_purchase"),
    )

    id: str = Field(sa_type=Text, primary_key=True)
    number: int = Field(sa_type=BigInteger, unique=True)
    mail_tag: str = Field(sa_type=Text, unique=True)
    version: int
    head: str = Field(sa_type=Text)
    state: str = Field(sa_type=Text)
    category: str = Field(sa_type=Text)
    assignee: str | None = Field(sa_type=Text)
    waiting: bool
    received_at: str = Field(sa_type=Text)
    changed_at: str = Field(sa_type=Text)
    next_deadline: str | None = Field(sa_type=Text)
    purchase: str | None = Field(sa_type=Text)
    body: str = Field(sa_type=Text)


class ConsultationRow(Rows, table=True):
    """Booked slots; a row goes when its consultation is over or off."""

    __tablename__ = "consultations"
    __table_args__ = (Index("consultations_of_a_host", "host", "starts_at"),)

    case_id: str = Field(sa_type=Text, primary_key=True)
    host: str = Field(sa_type=Text)
    starts_at: str = Field(sa_type=Text)
    ends_at: str = Field(sa_type=Text)


class OpenProposalRow(Rows, table=True):
    """Which proposals can still be decided, or paid: few among many cases. A row goes when that is over."""

    __tablename__ = "open_proposals"
    __table_args__ = (KEYED,)

    case_id: str = Field(sa_type=Text, primary_key=True)
    proposal: str = Field(sa_type=Text, primary_key=True)


class IdempotencyRow(Rows, table=True):
    """What a key did, so that the same request again gets the same answer. Holds no personal data."""

    __tablename__ = "idempotency"
    __table_args__ = (Index("idempotency_by_age", "at"), KEYED)

    key: str = Field(sa_type=Text, primary_key=True)  # a hash over actor, method, path and key
    fingerprint: str = Field(sa_type=Text)  # a keyed hash of the body
    chain: str = Field(sa_type=Text)  # of the case, the person or the policy that was changed
    seq: int  # of the first event that the request caused
    version: int  # of the chain after it; 0 while the first request is being carried out
    at: str = Field(sa_type=Text)


class OutboxRow(Rows, table=True):
    """Effects that a committed event asks for: written with it, carried out later by whoever claims them first.

    A claim raises `fence` and moves `due_at` to when it runs out: who comes back with an older fence has lost it.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        Unique("chain", "seq", "kind", "target", name="one_effect_of_a_kind_per_event"),
        # Only the first of each lane can be claimed.
        partial("outbox_by_lane", "lane", "id", where=WAITING),
        partial("outbox_by_due", "due_at", "id", where=WAITING),
        Index("outbox_by_status", "status", "id"),
        partial("outbox_by_target", "target", "id", where=TARGETED),
    )

    id: int | None = Field(default=None, sa_column=Column(BIG_KEY, Identity(always=True), primary_key=True))
    chain: str = Field(sa_type=Text)
    seq: int
    kind: str = Field(sa_type=Text)
    target: str = Field(sa_type=Text)  # which of several that hear of the same event; "" where there is one
    lane: str = Field(sa_type=Text)
    at: str = Field(sa_type=Text)
    due_at: str = Field(sa_type=Text)
    status: str = Field(sa_column=Column(Text, nullable=False, server_default="waiting"))
    fence: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    failures: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    attempts: str = Field(sa_column=Column(Text, nullable=False, server_default="[]"))  # the latest, as JSON


class MailRefRow(Rows, table=True):
    """What mail is recognised by: hashes of Message-IDs (`id:…`) and of mails (`mail:…`), our letters (`ours:…`)."""

    __tablename__ = "mail_refs"
    __table_args__ = (Index("mail_refs_of_a_case", "case_id"),)

    key: str = Field(sa_type=Text, primary_key=True)
    case_id: str | None = Field(sa_type=Text)


class PersonRow(Rows, table=True):
    """The last page of each person's log."""

    __tablename__ = "people"

    id: str = Field(sa_type=Text, primary_key=True)
    version: int
    body: str = Field(sa_type=Text)


class TokenRow(Rows, table=True):
    """Which person a token speaks for; only the hash of its secret is kept."""

    __tablename__ = "tokens"

    hash: str = Field(sa_type=Text, primary_key=True)
    id: str = Field(sa_type=Text, unique=True)
    person_id: str = Field(sa_type=Text)


class PasswordRow(Rows, table=True):
    """What a person's password is checked against: the text of a key derivation function, with its salt and costs."""

    __tablename__ = "passwords"

    person_id: str = Field(sa_type=Text, primary_key=True)
    hash: str = Field(sa_type=Text)


class ClientLinkRow(Rows, table=True):
    """Which case a link opens to its client; only the hash of its secret is kept."""

    __tablename__ = "client_links"
    __table_args__ = (Index("links_of_a_case", "case_id"),)

    hash: str = Field(sa_type=Text, primary_key=True)
    id: str = Field(sa_type=Text, unique=True)
    case_id: str = Field(sa_type=Text)


class IdentityRow(Rows, table=True):
    """By what identity providers know people: never by an address, which others may be given later."""

    __tablename__ = "identities"
    __table_args__ = (Unique("issuer", "subject", name="one_person_per_identity"),)

    id: str = Field(sa_type=Text, primary_key=True)
    person_id: str = Field(sa_type=Text)
    issuer: str = Field(sa_type=Text)
    subject: str = Field(sa_type=Text)
    salt: bytes = Field(sa_type=LargeBinary)


class PolicyRow(Rows, table=True):
    __tablename__ = "policies"

    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    body: str = Field(sa_type=Text)


class WebhooksRow(Rows, table=True):
    """The last page of the endpoints' log: all of them in one row, since every write has to know its version."""

    __tablename__ = "webhooks"
    __table_args__ = (CheckConstraint("id = 1", name="one_set_of_webhooks"),)

    id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    version: int
    body: str = Field(sa_type=Text)


class LifecycleEdgeRow(Rows, table=True):
    """The edges of every transition table that was ever logged; an event may take no other."""

    __tablename__ = "lifecycle_edges"

    lifecycle: str = Field(sa_type=Text, primary_key=True)
    trigger: str = Field(sa_type=Text, primary_key=True)
    source: str = Field(sa_type=Text, primary_key=True)
    target: str = Field(sa_type=Text)


class DeskRow(Rows, table=True):
    """The one row that says which desk this is: the log's name and the zone it was created with."""

    __tablename__ = "desk"
    __table_args__ = (CheckConstraint("id = 1", name="one_desk_per_database"),)

    id: int = Field(default=1, primary_key=True)
    log: str = Field(sa_type=Text)
    timezone: str = Field(sa_type=Text)


def columns(model: type[SQLModel]) -> ReadOnlyColumnCollection[str, Column[Any]]:
    """The columns of a table as queries name them."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    return table.c
