"""What the log had before each decision of a case, so that it can be judged again as it was made.

What comes before what is told by the dense positions alone: clocks of several processes differ.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

import msgspec
from sqlalchemy import select

from storage.cases import EVENTS, POSITIONS
from storage.database import Database
from storage.events import recorded
from workflow.cases import Case, booked_slot, chain_of, host_of
from workflow.desk import POLICY_CHAIN, SETTINGS_CHAIN
from workflow.errors import NotFound
from workflow.events import (
    Closed,
    ConsultationMoved,
    ConsultationScheduled,
    Edge,
    InvestigationStarted,
    LifecycleAdopted,
    PolicyAdded,
    Recorded,
    SlotsProposed,
)
from workflow.guards import Context, Slot
from workflow.people import Person, person_chain, replay_person
from workflow.policy import PolicyVersion
from workflow.replaying import evolve, replay
from workflow.reviewing import Review, Then, is_decision, review
from workflow.roles import Actor, Role, in_order, system_actor

NOT_PLACED = 2**63 - 1  # what was recorded just now comes after everything that has a position

POSITION = select(POSITIONS.position).where(POSITIONS.event_id == EVENTS.id).scalar_subquery()


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    position: int
    recorded: Recorded


async def reviews(database: Database, case_id: str, seq: int | None = None) -> tuple[Review, ...]:
    """Every decision of the case, or that of one event, each judged again. Raises NotFound, BrokenHistory."""
    history = (await chains(database, [chain_of(case_id)])).get(chain_of(case_id))
    if history is None:
        raise NotFound("case")
    background = Background(
        await chains(database, [POLICY_CHAIN, SETTINGS_CHAIN, *map(person_chain, concerned(history))])
    )
    found: list[Review] = []
    case: Case | None = None
    for index, one in enumerate(history):
        if case is not None and is_decision(one.recorded) and seq in {None, one.recorded.event.seq}:
            then = background.then(one, await calendar(database, case, one), await known_cases(database, one))
            found.append(review(case, caused_by(history[index:]), then))
        case = evolve(case, one.recorded)
    if seq is not None and not found:
        raise NotFound("decision")
    return tuple(found)


async def roles_then(database: Database, actor: str, position: int | None) -> tuple[Role, ...]:
    """Those that somebody held just before this position of the log; None is after all that has one."""
    kind, _, name = actor.partition(":")
    if kind != "person":
        return ()
    background = Background(await chains(database, [person_chain(name)]))
    people = background.people(NOT_PLACED if position is None else position)
    return in_order(actor_of(actor, people).roles)


async def chains(database: Database, names: Iterable[str]) -> dict[str, list[Placed]]:
    """The events of these chains, oldest first."""
    query = select(EVENTS.body, EVENTS.hash, POSITION).where(EVENTS.chain.in_(sorted({*names})))
    found: dict[str, list[Placed]] = {}
    for body, digest, position in await database.rows(query.order_by(EVENTS.chain, EVENTS.seq)):
        one = Placed(position=NOT_PLACED if position is None else position, recorded=recorded(body, digest))
        found.setdefault(one.recorded.event.chain, []).append(one)
    return found


def concerned(history: Sequence[Placed]) -> set[str]:
    """The people who decided, were given the case by somebody who did, or would hold a consultation."""
    events = [one.recorded for one in history]
    actors = {one.event.actor.removeprefix("person:") for one in events if one.event.actor.startswith("person:")}
    given = {one.data.assignee for one in events if isinstance(one.data, InvestigationStarted)}
    return actors | given | {one.data.host for one in events if isinstance(one.data, SlotsProposed)}


def caused_by(later: Sequence[Placed]) -> list[Recorded]:
    """What one command has made: its events share their request and their time."""
    first = later[0].recorded.event
    return [
        one.recorded
        for one in takewhile(
            lambda one: (one.recorded.event.request, one.recorded.event.at) == (first.request, first.at), later
        )
    ]


class Background:
    """Policies, lifecycles and people, at any position of the log."""

    def __init__(self, histories: Mapping[str, list[Placed]]) -> None:
        self.histories = histories

    def before(self, chain: str, position: int) -> list[Recorded]:
        return [one.recorded for one in self.histories.get(chain, ()) if one.position < position]

    def then(self, one: Placed, slots: tuple[Slot, ...], known: frozenset[str]) -> Then:
        people = self.people(one.position)
        context = Context(policies=self.policies(one.position), people=people, calendar=slots, known_cases=known)
        return Then(
            actor=actor_of(one.recorded.event.actor, people),
            context=context,
            lifecycles=self.lifecycles(one.position),
        )

    def policies(self, position: int) -> tuple[PolicyVersion, ...]:
        added = (one.data for one in self.before(POLICY_CHAIN, position))
        return tuple(data.version for data in added if isinstance(data, PolicyAdded))

    def lifecycles(self, position: int) -> dict[str, tuple[Edge, ...]]:
        adopted = (one.data for one in self.before(SETTINGS_CHAIN, position))
        return {data.lifecycle: data.table for data in adopted if isinstance(data, LifecycleAdopted)}

    def people(self, position: int) -> dict[str, Person]:
        chains = [chain for chain in self.histories if chain.startswith(person_chain(""))]
        people = (replay_person(self.before(chain, position)) for chain in chains)
        return {person.id: person for person in people if person is not None}


def actor_of(key: str, people: Mapping[str, Person]) -> Actor:
    """With the roles held then: none, for somebody whom the desk did not have, or not any more."""
    kind, _, name = key.partition(":")
    if kind == "system":
        return system_actor(name)
    person = people.get(name)
    if kind == "person" and person is not None and person.active:
        return person.as_actor()
    return Actor(kind=kind, id=name, roles=frozenset({Role.CLIENT} if kind == "client" else ()))


async def calendar(database: Database, case: Case, one: Placed) -> tuple[Slot, ...]:
    """What else was booked in the calendar of who would hold a consultation, when it was scheduled or moved."""
    data = one.recorded.data
    match data:
        case ConsultationScheduled():
            host = host_of(case, one.recorded.event.actor.partition(":")[2], data.slot_of)
        case ConsultationMoved() if case.consultation is not None:
            host = case.consultation.host or ""
        case _:
            return ()
    query = (
        select(EVENTS.body, EVENTS.hash)
        .where(EVENTS.type == "consultation_scheduled", EVENTS.chain != case.chain)
        .where(EVENTS.id == POSITIONS.event_id, POSITIONS.position < one.position)
    )
    others = set()
    async for body, digest in database.stream(query):
        other = recorded(body, digest)
        if isinstance(other.data, ConsultationScheduled) and other.data.host == host:
            others.add(other.event.chain)
    slots = []
    for history in (await chains(database, others)).values() if others else ():
        stood = replay(event.recorded for event in history if event.position < one.position)
        if stood is not None and (slot := booked_slot(stood)) is not None and slot[0] == host:
            slots.append(Slot(case=stood.id, starts_at=slot[1], ends_at=slot[2]))
    return tuple(slots)


async def known_cases(database: Database, one: Placed) -> frozenset[str]:
    """The case that this one was closed as a copy of, if there was one."""
    data = one.recorded.data
    if not isinstance(data, Closed) or data.duplicate_of is None:
        return frozenset()
    opened = (await chains(database, [chain_of(data.duplicate_of)])).get(chain_of(data.duplicate_of), ())
    return frozenset({data.duplicate_of} if any(other.position < one.position for other in opened) else ())
