"""Consultations are booked once, whoever books them and in whatever process, and their log is judged as it was."""

from datetime import datetime

from msgspec.structs import replace

from storage import cases
from storage.submissions import Receipt
from tests.databases import raw_sql
from tests.storage.desks import OPERATOR, Office, an_office, together
from tests.storage.test_client_links import Clock
from tests.storage.test_reviewing import reviewed
from tests.workflow.builders import (
    ANA,
    BO,
    CLEO,
    LOU,
    NOON,
    SLOTS,
    UNA,
    a_link,
    firing,
    moves,
    picks,
    proposes_slots,
)
from workflow import commands as c
from workflow.errors import Forbidden, GuardRefused
from workflow.events import at_text
from workflow.people import DisablePerson
from workflow.states import CaseState, ResumeReason, Trigger

FIRST, SECOND = SLOTS


async def a_case_with_slots(office: Office, case_id: str = "A") -> None:
    await office.investigate(ANA, case_id, purchase=None)
    await office.do(ANA, a_link(replace(UNA, id=f"una-{case_id}")), case_id)
    await office.do(ANA, proposes_slots(text="Shall we talk about Zaphod?"), case_id)


async def pick(office: Office, case_id: str = "A", slot: datetime = FIRST) -> object:
    command = picks(await office.case(case_id), slot)
    return await office.submit(replace(UNA, id=f"una-{case_id}"), command, case_id)


def booked(url: str) -> list[tuple[str, str, str, str]]:
    with raw_sql(url) as raw:
        return sorted(raw.run("SELECT case_id, host, starts_at, ends_at FROM consultations"))


async def test_of_two_clients_who_pick_one_persons_slot_at_once_one_gets_it(database_url: str) -> None:
    """In two processes, several times over."""
    async with an_office(database_url) as office, an_office(database_url) as other:
        for number in range(3):
            first, second = f"A{number}", f"B{number}"
            slots = tuple(one.replace(hour=8 + number) for one in SLOTS)
            for case_id in (first, second):
                await office.investigate(ANA, case_id, purchase=None)
                await office.do(ANA, a_link(replace(UNA, id=f"una-{case_id}")), case_id)
                await office.do(ANA, proposes_slots(*slots), case_id)

            answers = await together(pick(office, first, slots[0]), pick(other, second, slots[0]))

            (refused,) = (one for one in answers if not isinstance(one, Receipt))
            assert isinstance(refused, GuardRefused)
            assert refused.codes == {"no_other_consultation_overlaps"}
            late = second if isinstance(answers[0], Receipt) else first
            assert isinstance(await pick(office, late, slots[1]), Receipt)
        assert len(booked(database_url)) == 6
        assert await office.faults() == []


async def test_a_pick_and_a_new_proposal_at_once_leave_a_history_that_holds(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_case_with_slots(office)

        picked, proposed = await together(pick(office), office.submit(ANA, proposes_slots(SECOND)))

        assert isinstance(picked, Receipt) is not isinstance(proposed, Receipt)
        assert await office.faults() == []


async def test_a_consultation_is_picked_moved_and_not_attended(database_url: str) -> None:
    clock = Clock()
    async with an_office(database_url, clock) as office:
        await a_case_with_slots(office)
        found = await cases.listing(
            office.database, cases.Filter(q="Zaphod"), cases.Sort.OLDEST, now=NOON, after=None, limit=9
        )
        assert [one.entry.case.id for one in found] == ["A"]
        await pick(office)
        assert [row[2] for row in booked(database_url)] == [at_text(FIRST)]

        await office.do(LOU, moves(SECOND))
        assert [row[1:3] for row in booked(database_url)] == [("ana", at_text(SECOND))]
        assert await office.faults() == []

        clock.now = SECOND
        await office.do(ANA, c.RecordAttendance(attended=False, text="Rang twice"))
        case = await office.do(ANA, firing(Trigger.RESUME, reason_code=ResumeReason.NO_SHOW))

        assert (case.state, case.remedies[-1].attended) == (CaseState.INVESTIGATING, False)
        assert booked(database_url) == []
        assert await office.faults() == []
    assert [one.differences for one in await reviewed(database_url)] == [()] * 4


async def test_what_moved_frees_its_old_time_and_takes_its_new_one(database_url: str) -> None:
    async with an_office(database_url) as office:
        for case_id in "AB":
            await a_case_with_slots(office, case_id)
        await pick(office)
        await office.do(ANA, moves(SECOND))

        (late,) = await together(pick(office, "B", SECOND))
        assert isinstance(late, GuardRefused)
        assert isinstance(await pick(office, "B", FIRST), Receipt)
        (back,) = await together(office.submit(ANA, moves(FIRST)))
        assert isinstance(back, GuardRefused)
        assert await office.faults() == []
    assert [one.differences for one in await reviewed(database_url, "B")] == [(), ()]


async def test_a_slot_of_somebody_who_was_disabled_is_none_any_more(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_case_with_slots(office)
        await office.do(LOU, c.Assign(assignee=BO.id))
        await office.submit(OPERATOR, DisablePerson(person_id=ANA.id), None)

        (refused,) = await together(pick(office))

        assert isinstance(refused, GuardRefused)
        assert refused.codes == {"slot_was_proposed"}
        await office.do(BO, proposes_slots())
        assert isinstance(await pick(office), Receipt)
        assert [row[1] for row in booked(database_url)] == ["bo"]
    assert [one.differences for one in await reviewed(database_url)] == [(), ()]


async def test_whoever_may_not_propose_or_move_leaves_nothing_but_the_attempt(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_case_with_slots(office)
        before = await office.case()

        for actor, command in ((CLEO, proposes_slots()), (CLEO, moves()), (UNA, c.RecordAttendance(attended=True))):
            (refused,) = await together(office.submit(actor, command))
            assert isinstance(refused, Forbidden)
        assert await office.case() == before
