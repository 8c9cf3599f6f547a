"""Questions about cases by state: the first ones of each, how many there are, and how old the oldest is."""

from datetime import datetime

import msgspec
from msgspec.structs import replace
from sqlalchemy import select, union_all

from storage.cases import (
    CASES,
    LAST,
    ORDERS,
    Filter,
    Listed,
    Look,
    Sort,
    conditions,
    count,
    counts,
    listed,
    rows_of,
)
from storage.database import AnyRow, Database
from workflow.states import CaseState

FEW = 2_000  # open cases of one owner, all of which are read at once

OPEN_STATES = tuple(state for state in CaseState if state is not CaseState.CLOSED)


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """`count` is told as far as somebody waits for it; `oldest` is when the case was received that was opened first."""

    cards: list[Listed]
    count: int
    is_all: bool
    oldest: datetime | None = None


class Numbered(msgspec.Struct, frozen=True):
    number: int
    state: str
    next_deadline: str | None
    received_at: str


async def columns(
    database: Database, wanted: Filter, now: datetime, *, limit: int, most: int
) -> dict[CaseState, Column]:
    """The first `limit` cases of each state: of open ones what is due first, of closed ones the newest."""
    few = await work_of(database, wanted, now) if wanted.assignee is not None else None
    each = {state: replace(wanted, state=state) for state in CaseState}
    rows = await walked(database, each, now, limit) if wanted == Filter() else {}
    if few is not None:
        rows = await first_of(database, few, limit)
    for state in CaseState:
        if state not in rows:
            rows[state] = await rows_of(database, each[state], order_of(state), now=now, after=None, limit=limit)
    cards = iter(await listed(database, [row for state in CaseState for row in rows[state]]))
    numbers = await numbers_of(database, each, few, now, most)
    oldest = await oldest_of(database, each, few, now)
    return {
        state: Column(
            cards=[next(cards) for _ in rows[state]],
            count=numbers[state][0],
            is_all=numbers[state][1],
            oldest=oldest.get(state),
        )
        for state in CaseState
    }


async def work_of(database: Database, wanted: Filter, now: datetime) -> dict[CaseState, list[Numbered]] | None:
    """All open cases that are wanted, by state, as they are due; None if they are many."""
    query = select(CASES.number, CASES.state, CASES.next_deadline, CASES.received_at)
    known = conditions(replace(wanted, ended=False), now)
    found = await database.rows(query.where(*known.values()).limit(FEW + 1))
    if len(found) > FEW:
        return None
    them = sorted((Numbered(*row) for row in found), key=lambda one: (one.next_deadline or LAST, one.number))
    return {state: [one for one in them if one.state == state] for state in OPEN_STATES}


def order_of(state: CaseState) -> Sort:
    """Nothing is due of what is closed."""
    return Sort.NEWEST if state is CaseState.CLOSED else Sort.DEADLINE


async def walked(
    database: Database, each: dict[CaseState, Filter], now: datetime, limit: int
) -> dict[CaseState, list[AnyRow]]:
    """The first cases of each state along the indexes that have them, in one question."""
    walks = []
    for state, wanted in each.items():
        for stretch in ORDERS[order_of(state)]:
            if stretch.can_hold(wanted):
                look = Look(stretch, wanted, None, now, None)
                walks.append(select([*stretch.of(look.walk(look.known, limit))][-1].label("number")))
    numbers = union_all(*walks).subquery()
    query = select(CASES.body, CASES.next_deadline, CASES.number, CASES.state)
    found = await database.rows(query.join(numbers, CASES.number == numbers.c.number))
    by_state = {state: [row for row in found if row[3] == state] for state in each}
    return {
        state: sorted(them, key=newest if state is CaseState.CLOSED else as_due)[:limit]
        for state, them in by_state.items()
    }


def as_due(row: AnyRow) -> tuple[str, int]:
    return row[1] or LAST, row[2]


def newest(row: AnyRow) -> tuple[str, int]:
    return "", -row[2]


async def first_of(
    database: Database, few: dict[CaseState, list[Numbered]], limit: int
) -> dict[CaseState, list[AnyRow]]:
    """Bodies, deadlines, numbers."""
    shown = {state: [one.number for one in them[:limit]] for state, them in few.items()}
    numbers = [number for each in shown.values() for number in each]
    query = select(CASES.body, CASES.next_deadline, CASES.number).where(CASES.number.in_(numbers))
    found = {row[-1]: row for row in await database.rows(query)} if numbers else {}
    return {state: [found[number] for number in each if number in found] for state, each in shown.items()}


async def numbers_of(
    database: Database,
    each: dict[CaseState, Filter],
    few: dict[CaseState, list[Numbered]] | None,
    now: datetime,
    most: int,
) -> dict[CaseState, tuple[int, bool]]:
    if few is not None:
        known = {state: (len(them), True) for state, them in few.items()}
        return {**known, CaseState.CLOSED: await count(database, each[CaseState.CLOSED], now, most)}
    if all(one == Filter(state=state) for state, one in each.items()):  # an index has each
        found = await counts(database, [*each.values()], now, most)
        return {state: (min(one, most), one <= most) for state, one in zip(each, found, strict=True)}
    return {state: await count(database, one, now, most) for state, one in each.items()}


async def oldest_of(
    database: Database, each: dict[CaseState, Filter], few: dict[CaseState, list[Numbered]] | None, now: datetime
) -> dict[CaseState, datetime]:
    """When the first case of each open state was received, in one question."""
    if few is not None:
        oldest = [min(few[state], key=lambda one: one.number, default=None) for state in OPEN_STATES]
        first = [one.received_at if one is not None else None for one in oldest]
    else:
        query = select(CASES.received_at).order_by(CASES.number).limit(1)
        parts = [query.where(*conditions(each[state], now).values()).scalar_subquery() for state in OPEN_STATES]
        first = [*(await database.rows(select(*parts)))[0]]
    return {state: datetime.fromisoformat(at) for state, at in zip(OPEN_STATES, first, strict=True) if at is not None}
