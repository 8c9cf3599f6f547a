"""Questions about acknowledgements: whom they went to lately, and how many there were."""

from datetime import datetime

from sqlalchemy import Connection, text

from storage.database import Database
from storage.outbox import Effect
from workflow.effects import EffectKind
from workflow.events import at_text

# Of the same address, and earlier than this effect; it need not have left yet.
EARLIER = text(
    f"""
    SELECT 1 FROM personal AS p JOIN outbox AS o ON o.chain = p.chain
    WHERE p.field = 'client_email' AND p.value = :address AND o.kind = '{EffectKind.ACKNOWLEDGE}'
    AND o.id < :id AND o.at > :since AND o.status NOT IN ('withheld', 'cancelled') LIMIT 1
    """  # noqa: S608 - a constant of ours
)
# A settled effect is due when it was settled.
SENT = text(
    f"""
    SELECT COUNT(*) FROM (
        SELECT 1 FROM outbox WHERE status = 'done' AND kind = '{EffectKind.ACKNOWLEDGE}' AND due_at > :since LIMIT :most
    ) AS sent
    """  # noqa: S608 - a constant of ours
)


async def has_earlier(database: Database, effect: Effect, address: str, since: datetime) -> bool:
    """Whether somebody at this address, which is in lower case, was to be told of another inquiry since then."""
    parameters = {"address": address, "id": effect.id, "since": at_text(since)}
    return await database.first(EARLIER, parameters) is not None


async def sent_since(database: Database, since: datetime, most: int) -> int:
    """How many have left, counted up to `most`."""

    def counted(connection: Connection) -> int:
        return int(connection.execute(SENT, {"since": at_text(since), "most": most}).scalar_one())

    return await database.run(counted)
