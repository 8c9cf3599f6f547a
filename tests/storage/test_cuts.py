"""All cases at one point of the log stand as each is replayed to there, whatever is recorded meanwhile."""

import asyncio
import tracemalloc
from collections import Counter
from datetime import timedelta

import pytest

from storage import cases, cuts
from storage.cuts import Cut
from storage.database import Database, open_database
from storage.sequencer import Sequencer
from tests.databases import RawSql, copy_sqlite, raw_sql
from tests.storage.desks import NOTE, an_office
from tests.storage.full_desk import fill
from tests.workflow.builders import ANA, NOON
from workflow.cases import Case
from workflow.events import Recorded, at_text
from workflow.replaying import evolve
from workflow.states import CaseState


@pytest.fixture
def desk_url(database_url: str) -> str:
    return fill(database_url)


async def placed(database: Database) -> list[tuple[int, Recorded]]:
    await Sequencer(database).catch_up()
    return [(position, one) for position, one, _ in await cases.feed(database, 0, 10_000)]


def folded(events: list[Recorded]) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for one in events:
        if one.event.chain.startswith("case:"):
            found[one.event.chain] = evolve(found.get(one.event.chain), one)
    return found


async def stood(database: Database, cut: Cut) -> list[Case]:
    return [one async for one in cuts.all_stood(database, cut)]


async def test_at_every_position_every_case_stands_as_its_events_up_to_there_say(desk_url: str) -> None:
    database = open_database(desk_url)
    events = await placed(database)

    for end in range(len(events) + 1):
        wanted = folded([one for position, one in events if position <= end])
        assert {one.chain: one for one in await stood(database, Cut(end))} == wanted
        counts = Counter(one.state for one in wanted.values())
        assert await cuts.counted(database, Cut(end)) == {state: counts[state] for state in CaseState}
    assert await cuts.end_of_log(database) == len(events)
    await database.close()


async def test_at_every_instant_every_case_stands_as_its_events_until_then_say(desk_url: str) -> None:
    database = open_database(desk_url)
    events = await placed(database)

    for moment in {one.at for _, one in events} | {NOON - timedelta(days=1), NOON + timedelta(days=1)}:
        until = [(position, one) for position, one in events if one.at <= moment]
        cut = await cuts.cut_at(database, at_text(moment))
        assert cut.position == max((position for position, _ in until), default=0)
        assert {one.chain: one for one in await stood(database, cut)} == folded([one for _, one in until])
    await database.close()


@pytest.mark.parametrize("backend", ["postgresql"])
async def test_it_is_the_position_that_counts_and_not_the_number_of_the_row(desk_url: str) -> None:
    """Rows are numbered before they are committed: here the last two changed places."""
    database = open_database(desk_url)
    async with an_office(desk_url) as office:
        await office.do(ANA, NOTE, "A")
        await office.do(ANA, NOTE, "C")
    end = (await placed(database))[-1][0]
    with raw_sql(desk_url) as raw:
        swap_last(raw, end)

    before = {one.id: one.version for one in await stood(database, Cut(end - 2))}
    between = {one.id: one.version for one in await stood(database, Cut(end - 1))}

    assert {case for case, version in between.items() if before[case] != version} == {"C"}
    await database.close()


def swap_last(raw: RawSql, end: int) -> None:
    raw.run("ALTER TABLE positions DISABLE TRIGGER ALL")
    (first,), (second,) = raw.run("SELECT event_id FROM positions WHERE position >= $1 ORDER BY position", end - 1)
    raw.run("DELETE FROM positions WHERE position >= $1", end - 1)
    raw.run("INSERT INTO positions VALUES ($1, $2), ($3, $4)", end - 1, second, end, first)


async def test_pages_follow_one_another_and_stay_at_their_point(desk_url: str) -> None:
    async with an_office(desk_url) as office:
        database = office.database
        cut = Cut(len(await placed(database)))
        whole = await stood(database, cut)

        first = await cuts.stood(database, cut, limit=2)
        await office.open("F", purchase=None)
        await asyncio.gather(*(office.do(ANA, NOTE, case) for case in "ABCE"))
        await placed(database)
        second = await cuts.stood(database, cut, after=first[-1].place, limit=2)
        third = await cuts.stood(database, cut, after=second[-1].place, limit=2)

        assert [one.case for one in (*first, *second, *third)] == whole
        assert [one.case.id for one in first] == ["A", "B"]
        assert await cuts.stood(database, cut, after=third[-1].place) == []


async def test_memory_does_not_grow_with_the_number_of_cases(
    sqlite_template: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = copy_sqlite(sqlite_template, tmp_path_factory.mktemp("many") / "desk.db")
    async with an_office(url) as office:
        peaks = []
        for number in range(4):
            await asyncio.gather(*(office.open(f"{number}-{one}", purchase=None) for one in range(200)))
            cut = Cut(await cuts.end_of_log(office.database))
            tracemalloc.start()
            async for _ in cuts.all_stood(office.database, cut):
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    assert peaks[-1] < peaks[0] * 1.5
