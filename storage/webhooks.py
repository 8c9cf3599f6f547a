"""Questions about systems that follow the desk: which there are, what each was sent, what could be sent again."""

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import select, text

from storage.cases import EVENTS, POSITIONS
from storage.cuts import end_of_log
from storage.database import Database
from storage.events import recorded
from storage.outbox import OUTBOX, SELECTED, Effect, effect_of
from storage.tables import TARGETED, WebhooksRow, columns
from workflow.events import Recorded, at_text
from workflow.webhooks import EVENTS_TOLD, Place, Webhook, Webhooks, webhook_type_of

WEBHOOKS = columns(WebhooksRow)

MOST_REPLAYED = 1000  # by one command
LOOKED_THROUGH = 100_000  # events, for one command
SKEW = timedelta(minutes=1)  # by which the clocks of two writers may differ

ENDPOINTS = select(WEBHOOKS.body)
decoder = msgspec.json.Decoder(Webhooks)


async def endpoints(database: Database) -> Webhooks:
    """As they are stored now."""
    row = await database.first(ENDPOINTS)
    return decoder.decode(row[0]) if row else Webhooks()


async def event_at(database: Database, chain: str, seq: int) -> Recorded | None:
    row = await database.first(select(EVENTS.body, EVENTS.hash).where(EVENTS.chain == chain, EVENTS.seq == seq))
    return recorded(*row) if row else None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint was sent, or is yet to be sent, of one event."""

    effect: Effect
    recorded: Recorded


async def deliveries(database: Database, webhook_id: str, before: int | None, limit: int) -> list[Delivery]:
    """Newest first; those before one of them."""
    query = select(*SELECTED, EVENTS.body, EVENTS.hash).where(
        EVENTS.chain == OUTBOX.chain, EVENTS.seq == OUTBOX.seq, OUTBOX.target == webhook_id, text(TARGETED)
    )
    if before is not None:
        query = query.where(OUTBOX.id < before)
    rows = await database.rows(query.order_by(OUTBOX.id.desc()).limit(limit))
    return [Delivery(effect=effect_of(row[:-2]), recorded=recorded(*row[-2:])) for row in rows]


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """The events after one position through another that an endpoint hears of; `is_last` says that no more follow."""

    after: int
    through: int
    places: tuple[Place, ...]
    is_last: bool


async def heard(database: Database, webhook: Webhook, after: int, since: datetime | None = None) -> Stretch:
    """As many as one command sends again."""
    end = await end_of_log(database)
    if since is not None:
        after = max(after, await position_before(database, at_text(since - SKEW), end))
    through = min(after + LOOKED_THROUGH, end)
    query = (
        select(POSITIONS.position, EVENTS.body, EVENTS.hash)
        .where(EVENTS.id == POSITIONS.event_id, POSITIONS.position > after, POSITIONS.position <= through)
        .where(EVENTS.type.in_(EVENTS_TOLD))
        .order_by(POSITIONS.position)
    )
    if since is not None:
        query = query.where(EVENTS.at >= at_text(since))
    places: list[Place] = []
    async for position, body, digest in database.stream(query):
        one = recorded(body, digest)
        if webhook_type_of(one) not in webhook.types:
            continue
        places.append(Place(one.event.chain, one.event.seq, one.event.at))
        if len(places) == MOST_REPLAYED:
            through = position
            break
    return Stretch(after=after, through=max(after, through), places=tuple(places), is_last=through >= end)


def is_cut_short(after: int, through: int, deliveries: int) -> bool:
    """Whether a stretch ended because it was full, so that more may follow."""
    return deliveries >= MOST_REPLAYED or through - after >= LOOKED_THROUGH


async def position_before(database: Database, at: str, end: int) -> int:
    """A position up to which nothing happened at that time or later, as far as writers' clocks agree."""
    first = 0
    while first < end:
        middle = (first + end + 1) // 2
        query = select(EVENTS.at).where(EVENTS.id == POSITIONS.event_id, POSITIONS.position == middle)
        row = await database.first(query)
        if row is not None and row[0] < at:
            first = middle
        else:
            end = middle - 1
    return first
