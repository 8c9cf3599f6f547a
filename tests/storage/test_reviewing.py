"""Every decision in the log, made again on what the log had before it, is what was recorded."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.database import open_database
from storage.reviewing import reviews
from storage.sequencer import Sequencer
from tests.databases import raw_sql
from tests.storage.desks import OPERATOR, an_office
from tests.storage.full_desk import fill
from tests.storage.test_verify import undefended
from tests.workflow.builders import (
    ANA,
    BO,
    CLEO,
    LOU,
    NOON,
    a_letter,
    approves,
    closing,
    euros,
    firing,
    proposes,
    verifies,
)
from workflow import commands as c
from workflow.desk import AddPolicy
from workflow.errors import NotFound
from workflow.people import DisablePerson, SetRoles
from workflow.policy import GroundKind, Settings
from workflow.reviewing import Review
from workflow.roles import Role
from workflow.states import Resolution, Trigger


async def reviewed(url: str, case_id: str = "A", seq: int | None = None) -> tuple[Review, ...]:
    database = open_database(url)
    try:
        await Sequencer(database).catch_up()
        return await reviews(database, case_id, seq)
    finally:
        await database.close()


async def test_every_decision_of_a_desk_is_equal(database_url: str) -> None:
    fill_in_thread(database_url)

    found = [one for case in "ABCDE" for one in await reviewed(database_url, case)]

    assert len(found) == 10
    assert [one.differences for one in found if not one.is_equal] == []


def fill_in_thread(url: str) -> None:
    """It has an event loop of its own."""
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(fill, url).result()


async def test_roles_and_policy_are_those_of_the_moment_and_not_those_of_today(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.investigate(ANA)
        ground = c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=euros("300.00"), statement="twice")
        (recorded,) = (await office.do(ANA, ground)).grounds
        await office.do(BO, verifies(recorded))
        await office.do(ANA, c.CheckPurchase(reason="seen"))
        (proposal,) = (await office.do(ANA, proposes(euros("300.00")))).proposals
        await office.do(LOU, approves(proposal))
        await office.submit(OPERATOR, SetRoles(person_id=LOU.id, roles=(Role.AUDITOR,)), None)
        await office.submit(OPERATOR, DisablePerson(person_id=ANA.id), None)
        await office.submit(OPERATOR, AddPolicy(settings=Settings(grounds=(GroundKind.TECHNICAL_FAILURE,))), None)
        await office.do(CLEO, firing(Trigger.REFUND, proposal=proposal.id))

    investigated, proposed, approved, refunded = await reviewed(database_url)

    assert [one.differences for one in (investigated, proposed, approved)] == [()] * 3
    assert (approved.roles, approved.policy.version) == ((Role.LEAD,), 1)
    assert [one.by for one in refunded.approvals] == ["person:lou"]
    assert (refunded.is_equal, refunded.policy.version, refunded.before.version) == (True, 2, 8)


async def test_a_calendar_is_as_it_was_when_a_consultation_was_booked(database_url: str) -> None:
    async with an_office(database_url) as office:
        for case_id in "AB":
            await office.investigate(ANA, case_id, purchase=None)
        await office.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION), "A")
        await office.do(ANA, firing(Trigger.RESUME), "A")
        await office.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION), "B")  # the same time, free again
        await office.do(ANA, a_letter(), "A")
        await office.do(ANA, closing(Resolution.DUPLICATE, "B"), "A")

    found = [one for case_id in "AB" for one in await reviewed(database_url, case_id)]

    assert [one.differences for one in found] == [()] * 6


async def test_a_slot_that_was_taken_is_noticed(database_url: str) -> None:
    """Somebody added the booking of a second consultation behind the ledger's back: it could not have been made."""
    async with an_office(database_url) as office:
        for case_id in "AB":
            await office.investigate(ANA, case_id, purchase=None)
        await office.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION), "A")
        await office.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION, starts_at=NOON.replace(day=20)), "B")
    forge(database_url, "case:B", "consultation_scheduled", "2026-03-20T12", "2026-03-08T12")

    *_, booked = await reviewed(database_url, "B")

    assert [one.path for one in booked.differences] == ["outcome", "guards.no_other_consultation_overlaps"]


def forge(url: str, chain: str, kind: str, said: str, says: str) -> None:
    with raw_sql(url) as raw, undefended(raw):
        raw.run(
            f"UPDATE events SET body = replace(body, '{said}', '{says}') WHERE chain = '{chain}' AND type = '{kind}'"
        )


@pytest.mark.parametrize(
    ("kind", "said", "says", "path"),
    [
        ("proposed", '"maximum":{"amount_minor":30000', '"maximum":{"amount_minor":90000', "data.judgement.maximum"),
        ("refunded", '"within_maximum":true', '"within_maximum":false', "guards.within_maximum"),
        ("verdict_given", '"roles":["approver"]', '"roles":["lead"]', "data.roles"),
        ("investigation_started", '"policy":2', '"policy":1', "policy"),
    ],
)
async def test_a_decision_that_somebody_altered_is_shown_unequal(
    kind: str, said: str, says: str, path: str, database_url: str
) -> None:
    fill_in_thread(database_url)
    forge(database_url, "case:A", kind, said, says)

    (wrong,) = [one for one in await reviewed(database_url) if not one.is_equal]

    assert wrong.recorded.event.type == kind
    assert wrong.differences[0].path.startswith(path)


async def test_one_decision_is_asked_for_by_its_event(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.investigate(ANA)

    (found,) = await reviewed(database_url, seq=3)

    assert found.recorded.event.type == "investigation_started"
    for case_id, seq in (("A", 1), ("A", 99), ("nowhere", None)):
        with pytest.raises(NotFound):
            await reviewed(database_url, case_id, seq)
