"""Effects that wait to be carried out: who may do it now, what has been tried, and what became of them.

Settling, retrying and cancelling are commands of the ledger (`workflow.settling`); claiming and postponing leave no
trace in the log, since nothing has happened yet.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, select, text

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
        AND NOT EXISTS (
            SELECT 1 FROM outbox AS before WHERE before.status = 'waiting' AND before.lane = o.lane AND before.id < o.id
        )
        ORDER BY o.due_at, o.id LIMIT :limit {locking}
    ) AND status = 'waiting' AND due_at <= :now
    RETURNING {fields}
"""
CLAIM_ON = {
    dialect: text(CLAIM.format(kinds=kinds, locking=locking, fields=", ".join(FIELDS)))
    for dialect, kinds, locking in (
        ("sqlite", "json_each(:kinds)", ""),
        ("postgresql", "jsonb_array_elements_text(CAST(:kinds AS jsonb)) AS k (value)", "FOR UPDATE SKIP LOCKED"),
    )
}
ANY_DUE = select(OUTBOX.id).where(OUTBOX.status == "waiting", OUTBOX.due_at <= text(":now")).limit(1)
ASKED = text("SELECT 1 FROM outbox WHERE chain = :chain AND kind = 'pay' AND status = 'waiting' AND fence > 0")
POSTPONE = text(
    "UPDATE outbox SET due_at = :due_at, failures = :failures, attempts = :attempts"
    " WHERE id = :id AND fence = :fence AND status = 'waiting'"
)
FORGET = text("DELETE FROM outbox WHERE status IN ('done', 'withheld', 'cancelled') AND at < :before")


async def claim(
    database: Database, kinds: frozenset[EffectKind], now: datetime, lease: timedelta, limit: int
) -> list[Effect]:
    """Up to `limit` effects that nobody else carries out until `now` + `lease`, in the order in which they are due."""
    parameters = {
        "now": at_text(now),
        "until": at_text(now + lease),
        "kinds": msgspec.json.encode(sorted(kinds)).decode(),
        "limit": limit,
    }
    if await database.first(ANY_DUE, {"now": parameters["now"]}) is None:
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
