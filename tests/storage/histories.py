"""Rows of the log as the ledger writes them, and as somebody else would like to."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from storage.sealing import EVENT_COLUMNS, Circumstances, seal
from tests.databases import raw_sql
from workflow.canonical import ZEROS, canonical, leaf_hash
from workflow.events import Closed, DeskCreated, Draft, InvestigationStarted, NoteAdded, Opened, Refunded
from workflow.lifecycle import LIFECYCLE, LOGGED_TABLE
from workflow.money import Money
from workflow.policy import Category
from workflow.states import CaseState, Resolution, Trigger

Row = dict[str, Any]

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
CIRCUMSTANCES = Circumstances(log="desk", policy=1, at=NOON, actor="person:ana", via="api", request="r-1")

OPENED = Draft(
    data=Opened(
        number=1001,
        mail_tag="7K3M9Q2F",
        category=Category.BILLING,
        received_at=NOON,
        first_answer_due=NOON,
        update_due=NOON,
    ),
    state_after=CaseState.OPENED,
)
INVESTIGATED = Draft(
    data=InvestigationStarted(assignee="ana"), trigger=Trigger.INVESTIGATE, state_after=CaseState.INVESTIGATING
)
NOTED = Draft(data=NoteAdded())
CLOSED = Draft(data=Closed(resolution=Resolution.EXPLAINED), trigger=Trigger.CLOSE, state_after=CaseState.CLOSED)
REFUNDED = Draft(
    data=Refunded(proposal="p1", amount=Money(amount_minor=100, currency="EUR"), payment_reference="x"),
    trigger=Trigger.REFUND,
    state_after=CaseState.REFUNDED,
)
DESK_CREATED = Draft(data=DeskCreated(timezone="UTC"))


def event(draft: Draft, *, chain: str = "case:1", after: Row | None = None) -> Row:
    """The row that records the draft, behind `after` or as the first of its chain."""
    if after is None:
        sealed = seal(draft, CIRCUMSTANCES, chain, 1, None, None)
    else:
        sealed = seal(draft, CIRCUMSTANCES, after["chain"], after["seq"] + 1, after["hash"], after["state_after"])
    return dict(zip(EVENT_COLUMNS, sealed.event, strict=True))


ABSENT = object()


def saying(row: Row, **words: Any) -> Row:
    """The row with other words in its body, and the hash of that body."""
    body = {**msgspec.json.decode(row["body"]), **words}
    text = canonical({key: value for key, value in body.items() if value is not ABSENT})
    return {**row, "body": text.decode(), "hash": leaf_hash(text)}


def claiming(row: Row, **columns: Any) -> Row:
    """The row with other columns, and a body that says the same."""
    changed = {**row, **columns}
    return saying(
        changed,
        **{column: changed[column] for column in ("chain", "seq", "type", "lifecycle", "at")},
        prev=changed["prev_hash"] or ZEROS,
        state_before=changed["state_before"] or None,
        state_after=changed["state_after"] or None,
        trigger=changed["trigger"] or ABSENT,
    )


class History(NamedTuple):
    """What was recorded before anybody came. On PostgreSQL the desk's event has no position yet."""

    opened: Row
    investigated: Row
    noted: Row
    new_case: Row
    desk: Row


OPENED_ROW = event(OPENED)
INVESTIGATED_ROW = event(INVESTIGATED, after=OPENED_ROW)
HISTORY = History(
    opened=OPENED_ROW,
    investigated=INVESTIGATED_ROW,
    noted=event(NOTED, after=INVESTIGATED_ROW),
    new_case=event(OPENED, chain="case:2"),
    desk=event(DESK_CREATED, chain="desk:settings"),
)
# Either could be recorded next.
NEXT = event(NOTED, after=HISTORY.noted)
CLOSING = event(CLOSED, after=HISTORY.noted)


def tell(url: str) -> str:
    """Writes HISTORY, and what belongs to it, into the migrated database at `url`."""
    with raw_sql(url) as raw:
        for edge in LOGGED_TABLE:
            row = {"lifecycle": LIFECYCLE, "trigger": edge.trigger, "source": edge.source, "target": edge.target}
            raw.insert("lifecycle_edges", row)
        for row in HISTORY:
            raw.insert("events", row)
        if raw.dialect == "postgresql":
            raw.run("INSERT INTO positions SELECT id, id FROM events WHERE chain <> 'desk:settings'")
        raw.insert("policies", {"version": 1, "body": "{}"})
        raw.insert("personal", {"chain": "case:1", "seq": 1, "field": "subject", "salt": b"salt", "value": "My bill"})
    return url
