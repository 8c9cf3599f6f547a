"""What auditors ask the log: what was read, changed and drawn, what they found, and histories up to a cut."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import func, select

from storage.cases import EVENTS, PERSONAL, events_of
from storage.cuts import CASES_AT_ONCE, Cut, all_stood, within
from storage.database import Database
from storage.events import recorded
from workflow.desk import POLICY_CHAIN
from workflow.events import PolicyAdded, Recorded, at_text
from workflow.findings import Finding, finding_chain, findings_of, replay_finding
from workflow.policy import PolicyVersion
from workflow.sampling import Drawing, Plan, Sample


async def listed(
    database: Database, kinds: Sequence[str], before: int | None, limit: int
) -> list[tuple[int, Recorded]]:
    """Events of these types, newest first, each with the number to go on from."""
    query = select(EVENTS.id, EVENTS.body, EVENTS.hash).where(EVENTS.type.in_(kinds))
    if before is not None:
        query = query.where(EVENTS.id < before)
    rows = await database.rows(query.order_by(EVENTS.id.desc()).limit(limit))
    return [(number, recorded(body, digest)) for number, body, digest in rows]


# Samples.


async def drawn(database: Database, plan: Plan, position: int) -> Sample:
    """What the plan draws from the cases as they stood at this position of the log. Raises BrokenHistory."""
    drawing = Drawing(plan)
    async for case in all_stood(database, Cut(position)):
        drawing.take(case)
    return drawing.sample()


# Findings.


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A finding with those of its texts that have not been erased, by pointer; `place` is what earlier ones precede."""

    finding: Finding
    texts: dict[str, str]
    place: int = 0


async def finding(database: Database, case_id: str, finding_id: str) -> Told | None:
    chain = finding_chain(case_id, finding_id)
    return (await told(database, [chain])).get(chain)


async def findings(
    database: Database, *, case_id: str | None, is_open: bool | None, before: int | None, limit: int
) -> list[Told]:
    """Newest first."""
    query = select(EVENTS.id, EVENTS.chain).where(EVENTS.type == "finding_opened")
    if case_id is not None:
        beginning = findings_of(case_id)
        query = query.where(func.substr(EVENTS.chain, 1, len(beginning)) == beginning)
    if is_open is not None:
        closed = select(EVENTS.chain).where(EVENTS.type == "finding_closed")
        query = query.where(EVENTS.chain.not_in(closed) if is_open else EVENTS.chain.in_(closed))
    if before is not None:
        query = query.where(EVENTS.id < before)
    places = {chain: place for place, chain in await database.rows(query.order_by(EVENTS.id.desc()).limit(limit))}
    known = await told(database, [*places])
    return [msgspec.structs.replace(known[chain], place=place) for chain, place in places.items()]


async def told(database: Database, chains: Sequence[str]) -> dict[str, Told]:
    if not chains:
        return {}
    events = select(EVENTS.chain, EVENTS.body, EVENTS.hash).where(EVENTS.chain.in_(chains))
    histories: dict[str, list[Recorded]] = {}
    for chain, body, digest in await database.rows(events.order_by(EVENTS.chain, EVENTS.seq)):
        histories.setdefault(chain, []).append(recorded(body, digest))
    personal = select(PERSONAL.chain, PERSONAL.seq, PERSONAL.field, PERSONAL.value).where(PERSONAL.chain.in_(chains))
    texts: dict[str, dict[str, str]] = {}
    for chain, seq, field, value in await database.rows(personal):
        texts.setdefault(chain, {})[f"{seq}/{field}"] = value
    found = {chain: replay_finding(history) for chain, history in histories.items()}
    return {chain: Told(finding=one, texts=texts.get(chain, {})) for chain, one in found.items() if one is not None}


# Reports.


async def policies(database: Database) -> tuple[PolicyVersion, ...]:
    """By the log itself."""
    found = await events_of(database, POLICY_CHAIN)
    return tuple(one.data.version for one, _ in found if isinstance(one.data, PolicyAdded))


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """From a moment on, and until just before one."""

    start: datetime | None = None
    end: datetime | None = None

    def includes(self, moment: datetime) -> bool:
        return (self.start is None or moment >= self.start) and (self.end is None or moment < self.end)

    def conditions(self) -> list[Any]:
        found: list[Any] = []
        if self.start is not None:
            found.append(EVENTS.at >= at_text(self.start))
        if self.end is not None:
            found.append(EVENTS.at < at_text(self.end))
        return found


async def histories(
    database: Database, cut: Cut, kinds: Sequence[str], period: Period
) -> AsyncIterator[tuple[Recorded, ...]]:
    """Of each case in which something of these types happened in the period, everything up to the cut."""
    chosen = within(select(EVENTS.chain).where(EVENTS.type.in_(kinds), *period.conditions()), cut)
    chains = [chain for (chain,) in await database.rows(chosen.distinct().order_by(EVENTS.chain))]
    for start in range(0, len(chains), CASES_AT_ONCE):
        some = chains[start : start + CASES_AT_ONCE]
        events = within(select(EVENTS.chain, EVENTS.body, EVENTS.hash).where(EVENTS.chain.in_(some)), cut)
        found: dict[str, list[Recorded]] = {}
        async for chain, body, digest in database.stream(events.order_by(EVENTS.chain, EVENTS.seq)):
            found.setdefault(chain, []).append(recorded(body, digest))
        for history in found.values():
            await asyncio.sleep(0)  # a service in this process gets its turn
            yield tuple(history)


async def refusals(database: Database, cut: Cut, period: Period) -> AsyncIterator[Recorded]:
    """Refused attempts, in the order of the log."""
    query = within(select(EVENTS.body, EVENTS.hash).where(EVENTS.type == "refused", *period.conditions()), cut)
    async for body, digest in database.stream(query.order_by(EVENTS.id)):
        yield recorded(body, digest)
