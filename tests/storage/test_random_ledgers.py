"""Whatever several people do at once, through two ledgers, to cases that share a purchase: what must hold, holds."""

from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from storage import cases, people
from storage.tables import PurchaseRow, columns
from tests.storage.desks import OPERATOR, Office, an_office, together
from tests.workflow.builders import ANA, BO, CHECK, NOON, STAFF, UNA, Desk, a_purchase, euros, verifies
from tests.workflow.test_random_desk import ALL_ROUNDERS, CHANGED_SETTINGS, OTHERS, Walk, Watch, client_of
from workflow import commands as c
from workflow.cases import Purchase
from workflow.desk import AddPolicy
from workflow.errors import CaseworkError
from workflow.policy import GroundKind

BURSTS, SIZE = 80, 8


class LedgerWalk(Walk):
    """As `Walk`, but several commands at a time; `desk` only reflects what the database holds after each burst."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.desk = Desk()
        self.watch = Watch(self.desk)

    def clock(self) -> datetime:
        return self.desk.now

    async def begin(self, office: Office, *, fresh: bool) -> None:
        facts: dict[str, Any] = (
            {"purchased_at": NOON - timedelta(days=6), "deliverables_provided_at": None} if fresh else {}
        )
        ground = c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=euros("9000.00"), statement="charged twice")
        for case_id in "ABC":
            await office.investigate(self.random.choice(ALL_ROUNDERS), case_id, purchase=a_purchase(**facts))
            (recorded,) = (await office.do(ANA, ground, case_id)).grounds
            await office.do(BO, verifies(recorded), case_id)
        await office.do(ANA, CHECK)
        await self.read(office)

    async def burst(self, offices: list[Office]) -> None:
        self.desk.now += timedelta(hours=self.random.choice((0, 1, 1, 30)))
        attempts = []
        for _ in range(SIZE):
            case = self.desk.cases[self.random.choice("ABC")]
            actor = self.random.choice(ALL_ROUNDERS * 6 + OTHERS)
            actor = client_of(case) if actor is UNA else actor
            expected = self.random.choice((None, None, None, frozenset({case.version})))
            office = self.random.choice(offices)
            attempts.append(office.submit(actor, self.some_command(case), case.id, expected=expected))

        answers = await together(*attempts)

        assert [one for one in answers if isinstance(one, Exception) and not isinstance(one, CaseworkError)] == []
        await self.read(offices[0])
        self.watch.look()

    async def read(self, office: Office) -> None:
        desk = self.desk
        for case_id in "ABC":
            desk.cases[case_id] = await office.case(case_id)
            desk.histories[case_id] = [recorded for recorded, _ in await cases.events(office.database, case_id)]
        rows = await office.database.rows(select(columns(PurchaseRow).body))
        stored = [msgspec.json.decode(body, type=Purchase) for (body,) in rows]
        desk.purchases = {one.reference: one for one in stored}
        desk.policies = (await people.directory(office.database)).policies


@pytest.mark.parametrize("seed", [0, 1])
async def test_whatever_people_do_at_once_every_promise_holds_after_it(database_url: str, seed: int) -> None:
    walk = LedgerWalk(seed)
    staff = (*STAFF, *ALL_ROUNDERS)
    async with an_office(database_url, walk.clock, staff) as one, an_office(database_url, walk.clock, staff) as two:
        await walk.begin(one, fresh=seed == 1)
        for number in range(BURSTS):
            if number in {BURSTS // 3, BURSTS // 2}:
                settings = CHANGED_SETTINGS[len(walk.desk.policies) - 1]
                await two.submit(OPERATOR, AddPolicy(settings=settings), None)
            await walk.burst([one, two])

        assert await one.faults() == []
    assert walk.watch.seen["refunded"] > 0
