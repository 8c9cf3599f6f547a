"""Questions about acknowledgements: whom they went to lately, and how many there were."""

import re
from datetime import datetime

from sqlalchemy import Connection, text

from storage.database import Database
from storage.outbox import Effect
from workflow.effects import EffectKind
from workflow.events import at_text

# Earlier than this effect; it need not have left yet. As many addresses as anybody likes lead to one mailbox: una+1@…,
# una+2@… No index finds them, so the latest are read.
LATEST = 10_000
EARLIER = text(
    f"""
    SELECT 1 WHERE EXISTS (
        SELECT 1 FROM personal AS p JOIN outbox AS o ON o.chain = p.chain
        WHERE p.field = 'client_email' AND p.value = :address AND o.kind = '{EffectKind.ACKNOWLEDGE}'
        AND o.id < :id AND o.at > :since AND o.status NOT IN ('withheld', 'cancelled')
    ) OR EXISTS (
        SELECT 1 FROM outbox AS o
        JOIN personal AS p ON p.chain = o.chain AND p.seq = o.seq AND p.field = 'client_email'
        WHERE o.id < :id AND o.id >= :first AND o.kind = '{EffectKind.ACKNOWLEDGE}' AND o.at > :since
        AND o.status NOT IN ('withheld', 'cancelled')
        AND (lower(p.value) = :bare OR lower(p.value) LIKE :suffixed ESCAPE '!')
    )
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
    """Whether somebody at this address, which is in lower case, was to be told of another inquiry since then.

    Whatever stands behind a plus sign is no part of it.
    """
    local, _, domain = address.rpartition("@")
    name = local.partition("+")[0] or local
    parameters = {
        "id": effect.id,
        "since": at_text(since),
        "address": address,
        "first": effect.id - LATEST,
        "bare": f"{name}@{domain}",
        "suffixed": f"{literally(name)}+%@{literally(domain)}",
    }
    return await database.first(EARLIER, parameters) is not None


def literally(text: str) -> str:
    """For a pattern of LIKE."""
    return re.sub("([!%_])", r"!\1", text)


async def sent_since(database: Database, since: datetime, most: int) -> int:
    """How many have left, counted up to `most`."""

    def counted(connection: Connection) -> int:
        return int(connection.execute(SENT, {"since": at_text(since), "most": most}).scalar_one())

    return await database.run(counted)
