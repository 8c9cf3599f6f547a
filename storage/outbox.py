"""Effects that wait to be carried out: who may do it now, what has been tried, and what became of them.

Settling, retrying and cancelling are commands of the ledger (`workflow.settling`); claiming and postponing leave no
trace in the log, since nothing has happened yet.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, Text, bindparam, null, or_, select, text

from storage.database import Database
from storage.tables import OutboxRow, columns
from workflow.effects import EffectKind
from workflow.events import at_text

KEPT_ATTEMPTS = 10

OUTBOX = columns(OutboxRow)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One that did not settle the effect. `code` is stable; `detail` is what the other side said, if it may be kept."""

    at: datetime
    code: str
    detail: str = ""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One of a kind, of the event `seq` of a chain. `fence` tells this claim from every other one."""

    id: int
    chain: str
    seq: int
    kind: EffectKind
    target: str
    at: datetime
    due_at: datetime
    status: str  # "waiting", or an EffectOutcome
    fence: int
    failures: int
    attempts: tuple[Attempt, ...]

    @property
    def key(self) -> str:
        """The same at every attempt, and no other effect's: by it the other side knows what it has done already."""
        place = f"{self.chain}/{self.seq}/{self.kind}"
        return f"{place}/{self.target}" if self.target else place


FIELDS = ("id", "chain", "seq", "kind", "target", "at", "due_at", "status", "fence", "failures", "attempts")
SELECTED = tuple(OUTBOX[field] for field in FIELDS)

# The first of each lane, if it is due. A claim that has run out is due again.
CLAIM = """
    UPDATE outbox SET fence = fence + 1, due_at = :until
    WHERE id IN (
        SELECT o.id FROM outbox AS o
        WHERE o.status = 'waiting' AND o.due_at <= :now AND o.kind IN (SELECT value FROM {kinds})
        AND (o.target = '' OR o.target NOT IN (SELECT value FROM {busy}))
        AND NOT EXISTS (
            SELECT 1 FROM outbox AS before WHERE before.status = 'waiting' AND before.lane = o.lane AND before.id < o.id
        )
        ORDER BY o.due_at, o.id LIMIT :limit {locking}
    ) AND status = 'waiting' AND due_at <= :now
    RETURNING {fields}
"""
CLAIM_ON = {
    dialect: text(
        CLAIM.format(kinds=each.format("kinds"), busy=each.format("busy"), locking=locking, fields=", ".join(FIELDS))
    )
    for dialect, each, locking in (
        ("sqlite", "json_each(:{})", ""),
        ("postgresql", "jsonb_array_elements_text(CAST(:{} AS jsonb)) AS k (value)", "FOR UPDATE OF o SKIP LOCKED"),
    )
}
ANY_DUE = text("SELECT 1 FROM outbox WHERE status = 'waiting' AND due_at <= :now LIMIT 1")
LISTED = (
    select(*SELECTED)
    .where(
        or_(bindparam("status", type_=Text) == null(), OUTBOX.status == bindparam("status", type_=Text)),
        or_(bindparam("kind", type_=Text) == null(), OUTBOX.kind == bindparam("kind", type_=Text)),
        or_(bindparam("chain", type_=Text) == null(), OUTBOX.chain == bindparam("chain", type_=Text)),
        or_(bindparam("target", type_=Text) == null(), OUTBOX.target == bindparam("target", type_=Text)),
        OUTBOX.id < bindparam("before"),
    )
    .order_by(OUTBOX.id.desc())
    .limit(bindparam("limit"))
)
ASKED = text("SELECT 1 FROM outbox WHERE chain = :chain AND kind = 'pay' AND status = 'waiting' AND fence > 0")
POSTPONE = text(
    "UPDATE outbox SET due_at = :due_at, failures = :failures, attempts = :attempts"
    " WHERE id = :id AND fence = :fence AND status = 'waiting'"
)
FORGET = text("DELETE FROM outbox WHERE status IN ('done', 'withheld', 'cancelled') AND at < :before")


async def claim(
    database: Database,
    kinds: frozenset[EffectKind],
    now: datetime,
    *,
    lease: timedelta,
    limit: int,
    busy: frozenset[str] = frozenset(),
) -> list[Effect]:
    """Up to `limit` effects that nobody else carries out until `now` + `lease`; none for targets that are `busy`."""
    parameters = {
        "now": at_text(now),
        "until": at_text(now + lease),
        "kinds": msgspec.json.encode(sorted(kinds)).decode(),
        "busy": msgspec.json.encode(sorted(busy)).decode(),
        "limit": limit,
    }
    if limit <= 0 or await database.first(ANY_DUE, {"now": parameters["now"]}) is None:
        return []

    def claimed(connection: Connection) -> list[Effect]:
        return [effect_of(row) for row in connection.execute(CLAIM_ON[connection.dialect.name], parameters)]

    return sorted(await database.transact(claimed), key=lambda effect: effect.id)


async def postpone(database: Database, effect: Effect, due_at: datetime, failure: Attempt | None = None) -> bool:
    """Let go of a claim until then; False if it had been lost."""
    attempts = effect.attempts if failure is None else (*effect.attempts, failure)[-KEPT_ATTEMPTS:]
    parameters = {
        "id": effect.id,
        "fence": effect.fence,
        "due_at": at_text(due_at),
        "failures": effect.failures + (failure is not None),
        "attempts": msgspec.json.encode(attempts).decode(),
    }
    return await database.transact(lambda connection: bool(connection.execute(POSTPONE, parameters).rowcount))


LATEST = 2**53


async def listed(
    database: Database,
    *,
    status: str | None = None,
    kind: EffectKind | None = None,
    chain: str | None = None,
    target: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Effect]:
    """Newest first."""
    asked = {"status": status, "kind": kind, "chain": chain, "target": target}
    rows = await database.rows(LISTED, {**asked, "before": before or LATEST, "limit": limit})
    return [effect_of(row) for row in rows]


MAX_DIGITS = 15


async def one(database: Database, number: str) -> Effect | None:
    """By its number, however that was spelled."""
    if not (number.isascii() and number.isdecimal() and len(number) <= MAX_DIGITS):
        return None
    row = await database.first(select(*SELECTED).where(OUTBOX.id == int(number)))
    return effect_of(row) if row else None


DEAD = text("SELECT count(*) FROM (SELECT 1 FROM outbox WHERE status = 'dead' LIMIT :limit) AS dead")


async def count_dead(database: Database, limit: int) -> int:
    """Of all, as far as `limit`."""
    row = await database.first(DEAD, {"limit": limit})
    return row[0] if row else 0


async def is_payment_asked(database: Database, chain: str) -> bool:
    """Whether the payment provider has been asked for the case's refund, and has not answered yet."""
    return await database.first(ASKED, {"chain": chain}) is not None


async def forget(database: Database, before: datetime) -> None:
    """Settled effects of before; the log remembers what became of them."""
    await database.transact(lambda connection: connection.execute(FORGET, {"before": at_text(before)}).rowcount)


def effect_of(row: Sequence[object]) -> Effect:
    """From a row of FIELDS."""
    values = dict(zip(FIELDS, row, strict=True))
    values["attempts"] = msgspec.json.decode(str(values["attempts"]))
    return msgspec.convert(values, Effect, strict=False)
