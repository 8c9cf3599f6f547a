"""A desk with people on a real database, and as many ledgers over it as there are processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from storage import cases, people
from storage.batch import NO_EFFECTS, Repeat
from storage.database import open_database
from storage.desk import ensure_desk
from storage.ledger import Ledger
from storage.submissions import Key, Receipt, Submission
from storage.verify import verify
from storage.writer import Clock
from tests.workflow.builders import MAIL, NOON, STAFF, an_opening, firing
from workflow import commands as c
from workflow.cases import Case
from workflow.effects import EffectKind
from workflow.people import AddPerson
from workflow.roles import Actor, Role, system_actor
from workflow.states import Trigger

OPERATOR = replace(system_actor("operator"), roles=frozenset({Role.SYSTEM, Role.ADMIN}))

NOTE = c.AddNote(text="rang, nobody answered")


class Office:
    """What one process of the service has: a ledger of its own over the database that all share."""

    def __init__(self, url: str, clock: Clock, effects: frozenset[EffectKind] = NO_EFFECTS) -> None:
        self.database = open_database(url)
        self.ledger = Ledger(self.database.writer(clock, effects))

    async def submit(self, actor: Actor, command: c.Command, case_id: str | None = "A", **how: Any) -> Receipt | Repeat:
        return await self.ledger.submit(a_submission(actor, command, case_id, **how))

    async def do(self, actor: Actor, command: c.Command, case_id: str | None = "A", **how: Any) -> Case:
        """The case after a command that is carried out."""
        receipt = await self.submit(actor, command, case_id, **how)
        assert isinstance(receipt, Receipt)
        assert receipt.case is not None
        return receipt.case

    async def open(self, case_id: str = "A", **changes: Any) -> Case:
        return await self.do(MAIL, an_opening(case_id, **changes), None)

    async def investigate(self, by: Actor, case_id: str = "A", **changes: Any) -> Case:
        """A new case, under investigation."""
        await self.open(case_id, **changes)
        return await self.do(by, firing(Trigger.INVESTIGATE), case_id)

    # What is stored, whoever has written it.

    async def case(self, case_id: str = "A") -> Case:
        stored = await cases.stored(self.database, case_id)
        assert stored is not None
        return stored[0]

    async def history(self, case_id: str = "A") -> list[str]:
        return [recorded.event.type for recorded, _ in await cases.events(self.database, case_id)]

    async def faults(self) -> list[str]:
        """What verifying the whole database finds wrong."""
        return [str(one) for one in (await verify(self.database)).faults]


def a_submission(actor: Actor, command: c.Command, case_id: str | None = "A", **how: Any) -> Submission:
    return Submission(command=command, actor=actor, via="api", request="r-1", case_id=case_id, **how)


async def together(*work: Any) -> list[Any]:
    """The answers to what is begun at once, refusals among them. What one ledger is handed so makes one batch."""
    return list(await asyncio.gather(*work, return_exceptions=True))


def a_key(name: str = "key", body: str = "the same body") -> Key:
    return Key(hash=name, fingerprint=body)


def at_noon() -> Any:
    return NOON


@asynccontextmanager
async def an_office(
    url: str, clock: Clock = at_noon, staff: tuple[Actor, ...] = STAFF, effects: frozenset[EffectKind] = NO_EFFECTS
) -> AsyncIterator[Office]:
    """Open, and with its staff known to the desk. `effects` are planned, for whoever claims them."""
    office = Office(url, clock, effects)
    await office.database.run(lambda connection: ensure_desk(connection, "UTC", NOON))
    await office.ledger.open()
    try:
        known = {one.id for one in await people.everybody(office.database)}
        await asyncio.gather(*(office.submit(OPERATOR, joins(one), None) for one in staff if one.id not in known))
        yield office
    finally:
        await office.ledger.close()
        await office.database.close()


def joins(actor: Actor) -> AddPerson:
    roles = tuple(role for role in Role if role in actor.roles)
    return AddPerson(person_id=actor.id, email=f"{actor.id}@step-into.example", name=actor.id, roles=roles)
