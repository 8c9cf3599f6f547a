"""Follows the log as it grows: what is new after a position, by whichever process it was written."""

from typing import NamedTuple

from sqlalchemy import bindparam, func, literal_column, select

from storage.database import Database
from storage.tables import EventRow, PositionRow, columns
from workflow.cases import chain_of

EVENTS, POSITIONS = columns(EventRow), columns(PositionRow)

ANY_CASE = chain_of("")
LOOKED_THROUGH = 1000  # older news than that many events is taken to be of every kind


class Step(NamedTuple):
    """One event's place: in the order over all chains, and in its own."""

    position: int
    chain: str
    seq: int


LAST = select(func.coalesce(func.max(POSITIONS.position), 0))
STEPS = (
    select(POSITIONS.position, EVENTS.chain, EVENTS.seq)
    .where(EVENTS.id == POSITIONS.event_id, POSITIONS.position > bindparam("after"))
    .order_by(POSITIONS.position)
    .limit(bindparam("limit"))
)
LAST_OF_CHAIN = (
    select(POSITIONS.position, EVENTS.chain, EVENTS.seq)
    .where(EVENTS.id == POSITIONS.event_id, EVENTS.chain == bindparam("chain"))
    .order_by(EVENTS.seq.desc())
    .limit(1)
)
RECENT = (
    select(POSITIONS.event_id)
    .where(POSITIONS.position > bindparam("after"))
    .order_by(POSITIONS.position)
    .limit(bindparam("limit"))
    .subquery()
)
ABOUT_CASES = select(
    func.count(),
    func.count(literal_column("1")).filter(EVENTS.chain.startswith(ANY_CASE, autoescape=True)),
).where(EVENTS.id == RECENT.c.event_id)


async def last_position(database: Database) -> int:
    """Of the newest event that has one; 0 in an empty log."""
    row = await database.first(LAST)
    return row[0] if row else 0


async def steps(database: Database, after: int, limit: int) -> list[Step]:
    return [Step(*row) for row in await database.rows(STEPS, {"after": after, "limit": limit})]


async def last_of_chain(database: Database, chain: str) -> Step | None:
    """The newest event of a chain that has a position."""
    row = await database.first(LAST_OF_CHAIN, {"chain": chain})
    return Step(*row) if row else None


async def any_case_changed(database: Database, after: int) -> bool:
    """Whether an event of some case came after a position; of one long ago, that is supposed."""
    row = await database.first(ABOUT_CASES, {"after": after, "limit": LOOKED_THROUGH})
    recent, about_cases = row or (0, 0)
    return bool(about_cases or recent == LOOKED_THROUGH)
