"""The survey of a real log, read on bit by bit, is what replaying every case says; and nobody waits for it."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Executable

from storage import auditing, cases, cuts, insights
from storage.cuts import Cut, end_of_log
from storage.database import Rows, SqliteDatabase
from storage.insights import Insights, Load, loads
from storage.sequencer import Sequencer
from storage.submissions import Unavailable
from tests.databases import copy_sqlite
from tests.storage.desks import Office, an_office
from tests.storage.test_random_ledgers import LedgerWalk
from tests.storage.test_reviewing import fill_in_thread
from tests.workflow.builders import ANA, BO, NOON, STAFF, a_letter, closing, firing
from tests.workflow.reckoning import Reckoning
from tests.workflow.test_random_desk import ALL_ROUNDERS
from workflow.deadlines import next_due
from workflow.events import Recorded
from workflow.insights import Days, Happening, Survey, What
from workflow.states import CaseState, Trigger
from workflow.timezones import zone

UTC = zone("UTC")
EVER = Days(date(2026, 1, 1), date(2028, 12, 31))
BURSTS = 60


def over(office: Office) -> Insights:
    return Insights(office.database, Sequencer(office.database))


async def everything(office: Office) -> list[tuple[int, Recorded]]:
    """The log as the feed tells it."""
    await Sequencer(office.database).catch_up()
    return [(position, one) for position, one, _ in await cases.feed(office.database, 0, 100_000)]


def told(survey: Survey) -> tuple[Any, ...]:
    days = [date(2026, 3, 1) + timedelta(days=count) for count in range(0, 200, 5)]
    return (
        survey.position,
        survey.stood(days),
        survey.ended(EVER),
        survey.totals(EVER),
        in_order(survey.happenings(EVER, lambda _: True)),
        survey.oldest(10),
    )


def in_order(found: Any) -> list[Happening]:
    return sorted(found, key=lambda one: (-one.position, one.kind))


async def test_whatever_people_do_at_once_the_survey_is_what_replaying_says(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insights, "SLICE", 7)
    walk = LedgerWalk(1)
    async with an_office(database_url, walk.clock, (*STAFF, *ALL_ROUNDERS)) as office:
        await walk.begin(office, fresh=True)
        early, late = over(office), over(office)
        for number in range(BURSTS):
            await walk.burst([office])
            if number % 10 == 3:
                survey, end = await early.ask(UTC, 60)
                assert survey.position == end
        survey, end = await early.ask(UTC, 60)
        again, _ = await late.ask(UTC, 60)
        log = await everything(office)

        assert survey.position == end == await end_of_log(office.database) == log[-1][0]
        assert told(survey) == told(again)
        reckoning = Reckoning(log, UTC)
        assert survey.ended(EVER) == reckoning.ended(EVER)
        assert survey.totals(EVER) == reckoning.totals(EVER)
        assert in_order(survey.happenings(EVER, lambda _: True)) == reckoning.happenings()
        assert {kind.what for kind in survey.totals(EVER)} > {What.OPENED, What.REFUNDED, What.REASON}
        last = walk.clock().date()
        assert survey.stood([last]) == [reckoning.stood(last)]
        counts = await cuts.counted(office.database, Cut(end))
        assert survey.stood([date.max]) == [counts]
        refused = [one async for one in auditing.refusals(office.database, Cut(end), auditing.Period())]
        assert sum(one.times for kind, one in survey.totals(EVER).items() if kind.what is What.REFUSED) == len(refused)


async def test_a_desk_where_a_bit_of_everything_happened_is_surveyed(database_url: str) -> None:
    fill_in_thread(database_url)
    async with an_office(database_url) as office:
        survey, _ = await over(office).ask(UTC, 60)
        reckoning = Reckoning(await everything(office), UTC)

        assert survey.totals(EVER) == reckoning.totals(EVER)
        assert survey.ended(EVER) == reckoning.ended(EVER)
        shown = await insights.numbered(office.database, [one.number for one in survey.oldest(10)])
        assert {entry.case.number for entry in shown.values()} == {*shown}
        found = survey.happenings(EVER, lambda kind: kind.what is What.REFUNDED)
        events = await insights.placed(office.database, [one.position for one in found])
        assert [one.event.type for one in events.values()] == ["refunded"]
        assert await insights.numbered(office.database, []) == {}
        assert await insights.placed(office.database, []) == {}


async def test_an_empty_desk_has_a_survey_of_nothing(database_url: str) -> None:
    async with an_office(database_url) as office:
        survey, end = await over(office).ask(UTC, 60)
        assert survey.position == end
        assert not survey.numbers
        assert survey.first_day is None
        assert await loads(office.database, NOON) == []


async def test_days_are_those_of_the_zone_that_is_asked_for(database_url: str) -> None:
    async with an_office(database_url, lambda: NOON + timedelta(hours=4)) as office:
        await office.open(purchase=None)
        days, asked = [NOON.date(), NOON.date() + timedelta(days=1)], over(office)
        found = []
        for timezone in ("Asia/Tokyo", "UTC", "Asia/Tokyo"):
            survey, end = await asked.ask(zone(timezone), 60)
            assert survey.position == end
            found.append([one[CaseState.OPENED] for one in survey.stood(days)])

        assert found == [[0, 1], [1, 1], [0, 1]]


# Nobody waits, and nothing is counted twice.


async def test_whoever_asks_of_a_large_log_is_told_how_far_it_was_read(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insights, "SLICE", 1)
    async with an_office(database_url) as office:
        await some_cases(office, 5)
        asked = over(office)

        survey, end = await asked.ask(UTC, 0)
        assert survey.position < end

        turns = 0
        while (await asked.ask(UTC, 0.001))[0].position < end:
            turns += 1
        await asked.close()
        assert turns > 0
        assert told(survey) == told((await over(office).ask(UTC, 60))[0])


async def test_several_who_ask_at_once_share_one_reading(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insights, "SLICE", 3)
    async with an_office(database_url) as office:
        await some_cases(office, 5)
        asked = over(office)

        found = await asyncio.gather(*(asked.ask(UTC, 60) for _ in range(5)))

        assert {id(survey) for survey, _ in found} == {id(found[0][0])}
        assert told(found[0][0]) == told((await over(office).ask(UTC, 60))[0])


async def test_others_get_their_turns_while_a_log_is_read(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insights, "SLICE", 1)
    async with an_office(database_url) as office:
        await some_cases(office, 5)
        turns = Counter[str]()

        async def others() -> None:
            while True:
                turns["others"] += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        _, end = await over(office).ask(UTC, 60)
        task.cancel()

        assert turns["others"] >= end - 1


class Faltering(SqliteDatabase):
    """Out of reach for one reading, in the middle of a log."""

    readings = 0

    async def rows(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Rows:
        if statement is insights.NEXT:
            self.readings += 1
            if self.readings == 3:
                raise Unavailable("away")
        return await super().rows(statement, parameters)


async def test_a_reading_that_was_cut_off_begins_anew(
    sqlite_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insights, "SLICE", 5)
    async with an_office(copy_sqlite(sqlite_template, tmp_path / "casework.db")) as office:
        await some_cases(office, 5)
        database = Faltering(tmp_path / "casework.db")
        asked = Insights(database, Sequencer(database))

        with pytest.raises(Unavailable):
            await asked.ask(UTC, 60)

        survey, _ = await asked.ask(UTC, 60)
        assert told(survey) == told((await over(office).ask(UTC, 60))[0])
        await database.close()


async def test_a_reading_ends_with_the_service(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insights, "SLICE", 1)
    async with an_office(database_url) as office:
        await some_cases(office, 3)
        asked = over(office)
        await asked.ask(UTC, 0.0001)
        reader = asked.reader

        await asked.close()

        assert reader is not None
        assert reader.task is not None
        assert reader.task.done()
        assert reader.survey.position > 0


async def some_cases(office: Office, count: int) -> None:
    for number in range(count):
        case = f"C{number}"
        await office.investigate((ANA, BO)[number % 2], case, purchase=None)
        await office.do(ANA, a_letter(awaits_reply=number % 3 == 0), case)
        if number % 4 == 3:
            await office.do(ANA, closing(), case)


# What the rows tell.


async def test_the_load_of_each_is_what_their_open_cases_say(database_url: str) -> None:
    async with an_office(database_url) as office:
        await some_cases(office, 9)
        await office.open("new", purchase=None)
        await office.do(ANA, firing(Trigger.OFFER_ADJUSTMENT), "C0")
        stored = [await office.case(case) for case in [*(f"C{number}" for number in range(9)), "new"]]
        for days in (0, 3, 40):
            now = NOON + timedelta(days=days)
            expected: dict[str | None, Load] = {}
            for one in stored:
                if one.state is CaseState.CLOSED:
                    continue
                due = next_due(one)
                late, waiting = due is not None and due < now, one.waiting_since is not None
                before = expected.get(one.assignee, Load(one.assignee, 0, 0, 0, 0))
                expected[one.assignee] = Load(
                    one.assignee,
                    before.open + 1,
                    before.late + late,
                    before.waiting + waiting,
                    before.both + (late and waiting),
                )

            found = await loads(office.database, now)

            assert {one.assignee: one for one in found} == expected
            assert [one.open for one in found] == sorted((one.open for one in found), reverse=True)
        assert any(one.both for one in await loads(office.database, NOON + timedelta(days=40)))
