"""All cases as they stood at one point of the log: each by its events up to there alone.

A point is a position, an instant, or both: every event up to that position which is not later than that instant. Of
each chain that is a beginning, since positions and times of a chain grow with it; and the events of one command share
their time, so that an instant never falls between them.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from sqlalchemy import Select, func, select

from storage.cases import EVENTS, POSITIONS
from storage.chains import TRIGGERS
from storage.database import Database
from storage.events import recorded
from workflow.cases import Case
from workflow.replaying import evolve
from workflow.states import CaseState

CASES_AT_ONCE = 100
END_OF_TIME = "9999-12-31T23:59:59.999999Z"


class Cut(msgspec.Struct, frozen=True):
    """`at` is a time as events have it."""

    position: int
    at: str = END_OF_TIME


class Stood(msgspec.Struct, frozen=True):
    """`place` is what further cases come after."""

    place: int
    case: Case


async def end_of_log(database: Database) -> int:
    """The last position; 0 where nothing has one."""
    row = await database.first(select(func.max(POSITIONS.position)))
    return (row and row[0]) or 0


async def cut_at(database: Database, at: str) -> Cut:
    """Of an instant, up to the last position that has been given to something by then."""
    last = select(POSITIONS.position).where(EVENTS.id == POSITIONS.event_id, EVENTS.at <= at)
    row = await database.first(last.order_by(POSITIONS.position.desc()).limit(1))
    return Cut(row[0] if row else 0, at)


def within(query: Select[Any], cut: Cut) -> Select[Any]:
    return query.where(EVENTS.id == POSITIONS.event_id, POSITIONS.position <= cut.position, EVENTS.at <= cut.at)


async def stood(database: Database, cut: Cut, *, after: int = 0, limit: int = CASES_AT_ONCE) -> list[Stood]:
    """The next cases in the order of their opening, at most `limit`. Raises BrokenHistory."""
    openings = within(select(EVENTS.id, EVENTS.chain).where(EVENTS.type == "opened", EVENTS.id > after), cut)
    places = {chain: place for place, chain in await database.rows(openings.order_by(EVENTS.id).limit(limit))}
    found: dict[str, Case] = {}
    history = within(select(EVENTS.chain, EVENTS.body, EVENTS.hash).where(EVENTS.chain.in_(places)), cut)
    if places:
        async for chain, body, digest in database.stream(history.order_by(EVENTS.chain, EVENTS.seq)):
            if chain not in found:
                await asyncio.sleep(0)  # a service in this process gets its turn
            found[chain] = evolve(found.get(chain), recorded(body, digest))
    return [Stood(place, found[chain]) for chain, place in places.items()]


async def all_stood(database: Database, cut: Cut) -> AsyncIterator[Case]:
    """Every case, in flat memory."""
    after = 0
    while page := await stood(database, cut, after=after):
        for one in page:
            yield one.case
        after = page[-1].place


async def counted(database: Database, cut: Cut) -> dict[CaseState, int]:
    """How many cases were in each state: those that entered it, less those that left it."""
    query = select(EVENTS.state_before, EVENTS.state_after, func.count())
    moves = within(query.where(EVENTS.type.in_(["opened", *TRIGGERS])), cut)
    counts: Counter[CaseState] = Counter(dict.fromkeys(CaseState, 0))
    for before, after, count in await database.rows(moves.group_by(EVENTS.state_before, EVENTS.state_after)):
        counts[CaseState(after)] += count
        if before is not None:
            counts[CaseState(before)] -= count
    return dict(counts)
