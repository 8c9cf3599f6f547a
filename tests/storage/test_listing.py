"""Lists of cases by everything that can be asked of them together, whichever index helps: all that fit, each once."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy import Connection, func, select

from storage import board, cases
from storage.batch import CASE_COLUMNS
from storage.cases import CASES, Filter, Sort, conditions
from storage.writer import case_decoder
from tests.storage.desks import Office, an_office
from tests.workflow.builders import ANA, BO, LOU, MAIL, NOON, a_letter, closing, firing, from_the_client
from workflow import commands as c
from workflow.cases import Case
from workflow.deadlines import next_due
from workflow.policy import Category
from workflow.states import CaseState, Resolution, Trigger

LATER = NOON + timedelta(days=1)  # than everything that has happened, and than some of what is due

EITHER = (True, False)

# By the names that the queue has for them; and the columns of the board.
LISTS = {
    # Any of them, of what is common.
    "open_cases_by_": [
        Filter(ended=False),
        Filter(ended=False, has_deadline=False),
        Filter(waiting=False, ended=False),
        Filter(state=CaseState.INVESTIGATING),
    ],
    "open_cases_by_assignee": [Filter(assignee="ana", ended=False), Filter(assignee="", ended=False)],
    "open_cases_by_waiting": [Filter(waiting=True, ended=False)],
    "cases_by_deadline": [Filter(overdue=True), Filter(due_from=NOON, due_until=LATER)],  # of all, or of open ones
    "closed_cases_with_mail": [Filter(mail_after_closing=True)],
    "cases_by_state": [Filter(state=CaseState.CLOSED)],
    "open_cases_by_state": [Filter(state=CaseState.OPENED), Filter(state=CaseState.ADJUSTMENT_OFFERED)],
}


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


@pytest_asyncio.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    """With forty cases, of which no two have gone the same way."""
    async with an_office(database_url, Clock()) as opened:
        for number in range(40):
            await a_case(opened, f"case-{number}", number)
        yield opened


async def a_case(office: Office, case_id: str, number: int) -> None:
    received_at = NOON - timedelta(hours=7 * (number % 9))
    category = [Category.BILLING, Category.DELAY, Category.OTHER][number % 3]
    await office.open(case_id, purchase=None, category=category, received_at=received_at)
    who = [ANA, BO, LOU][number % 3]
    if number % 7 == 3:
        await office.do(LOU, c.Assign(assignee=ANA.id), case_id)
    if number % 5 == 0:
        return
    if number % 5 == 1:
        await office.do(who, closing(Resolution.SPAM), case_id)
        if number % 2:
            await office.do(MAIL, from_the_client(), case_id)
        return
    await office.do(who, firing(Trigger.INVESTIGATE), case_id)
    if number % 4 == 0:
        await office.do(who, a_letter(awaits_reply=True), case_id)
    if number % 4 == 1:
        await office.do(who, firing(Trigger.OFFER_ADJUSTMENT), case_id)
    if number % 8 == 3:
        await office.do(who, a_letter(), case_id)
        await office.do(who, closing(), case_id)


async def everything(office: Office) -> list[Case]:
    rows = await office.database.rows(select(CASES.body))
    return [case_decoder.decode(body) for (body,) in rows]


def fits(case: Case, wanted: Filter, now: datetime) -> bool:
    due = next_due(case)
    is_late = due is not None and due < now
    return all(
        (
            wanted.state in {None, case.state},
            wanted.assignee is None or (wanted.assignee or None) == case.assignee,
            wanted.category in {None, case.category},
            wanted.waiting is None or wanted.waiting == (case.waiting_since is not None),
            wanted.ended is None or wanted.ended == (case.state is CaseState.CLOSED),
            wanted.overdue is None or wanted.overdue == is_late,
            wanted.has_deadline is None or wanted.has_deadline == (due is not None),
            wanted.due_from is None or (due is not None and due >= wanted.due_from),
            wanted.due_until is None or (due is not None and due < wanted.due_until),
            not wanted.mail_after_closing or (case.state is CaseState.CLOSED and case.has_new_mail),
        )
    )


def in_order(them: list[Case], sort: Sort) -> list[int]:
    keys: dict[Sort, Any] = {
        Sort.NEWEST: lambda case: -case.number,
        Sort.OLDEST: lambda case: case.number,
        Sort.DEADLINE: lambda case: (next_due(case) or datetime.max.replace(tzinfo=NOON.tzinfo), case.number),
        Sort.CHANGED: lambda case: (-case.changed_at.timestamp(), -case.number),
    }
    return [case.number for case in sorted(them, key=keys[sort])]


def filters(seed: int, count: int) -> list[Filter]:
    """At random, of everything that can be asked together: some of it makes no sense."""
    random = Random(seed)

    def maybe(*values: Any) -> Any:
        return random.choice([*values, None, None])

    return [
        Filter(
            state=maybe(*CaseState),
            assignee=maybe("ana", "bo", ""),
            category=maybe(Category.BILLING, Category.OTHER),
            overdue=maybe(*EITHER),
            due_from=maybe(NOON + timedelta(hours=5)),
            due_until=maybe(NOON + timedelta(hours=30)),
            has_deadline=maybe(*EITHER),
            waiting=maybe(*EITHER),
            ended=maybe(*EITHER),
            mail_after_closing=random.random() < 0.1,
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("looked_through", [(1,), (4, 9), (1000,)])
async def test_whatever_is_asked_together_each_case_that_fits_comes_once_and_in_order(
    looked_through: tuple[int, ...], office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "LOOKED_THROUGH", looked_through)
    them, random = await everything(office), Random(3)
    single = [one for lists in LISTS.values() for one in lists] + [Filter()]
    for wanted in [*single, *filters(len(looked_through), 60)]:
        for sort in Sort if wanted in single else random.sample([*Sort], 1):
            expected = in_order([case for case in them if fits(case, wanted, LATER)], sort)
            seen: list[int] = []
            after = None
            while True:
                page = await cases.listing(office.database, wanted, sort, now=LATER, after=after, limit=6)
                seen += [one.entry.case.number for one in page]
                if len(page) < 6:
                    break
                after = page[-1].place
            assert seen == expected, (wanted, sort)


@pytest.mark.parametrize("looked_through", [(2,), (1000,)])
async def test_a_count_is_right_or_says_that_there_may_be_more(
    looked_through: tuple[int, ...], office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "LOOKED_THROUGH", looked_through)
    them = await everything(office)
    for wanted in [*(one for lists in LISTS.values() for one in lists), *filters(9, 80)]:
        expected = sum(fits(case, wanted, LATER) for case in them)
        for most in (3, 1000):
            found, is_all = await cases.count(office.database, wanted, LATER, most)
            assert found == expected if is_all else found <= expected, wanted
            assert is_all or looked_through == (2,) or most == 3, wanted


async def test_several_lists_are_counted_in_one_question(office: Office) -> None:
    them = await everything(office)
    lists = [one for each in LISTS.values() for one in each]

    found = await cases.counts(office.database, lists, LATER, 1000)

    assert found == [sum(fits(case, wanted, LATER) for case in them) for wanted in lists]
    assert max(await cases.counts(office.database, lists, LATER, 2)) == 3


@pytest.mark.parametrize("few", [1, 2000])
async def test_a_board_has_the_first_cases_of_each_state_and_their_number(
    few: int, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "FEW", few)
    them = await everything(office)
    for wanted in (Filter(), Filter(assignee="ana"), Filter(assignee=""), Filter(category=Category.OTHER)):
        columns = await board.columns(office.database, wanted, LATER, limit=3, most=1000)

        assert [*columns] == [*CaseState]
        for state, column in columns.items():
            here = [case for case in them if fits(case, replace(wanted, state=state), LATER)]
            order = Sort.NEWEST if state is CaseState.CLOSED else Sort.DEADLINE
            assert [one.entry.case.number for one in column.cards] == in_order(here, order)[:3], (wanted, state)
            assert (column.count, column.is_all) == (len(here), True), (wanted, state)
            is_open = state is not CaseState.CLOSED
            assert (column.oldest is not None) == (bool(here) and is_open), (wanted, state)


async def test_cases_are_found_by_their_numbers(office: Office) -> None:
    them = await everything(office)

    found = await cases.numbered(office.database, [them[0].number, 999_999, them[5].number])

    assert {one.case.id for one in found} == {them[0].id, them[5].id}
    assert {one.texts[one.case.client_name] for one in found} == {"Una"}


MANY = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)",
    "postgresql": "WITH n (i) AS (SELECT generate_series(1, 100))",
}


async def test_each_list_of_work_is_counted_along_an_index_of_its_own(office: Office) -> None:
    def add_many(connection: Connection) -> None:
        """Others, among which those of most lists are few: planners take the trouble only then."""
        other = {
            "id": "id || '-' || i",
            "number": "number + 1000 * i",
            "mail_tag": "mail_tag || '-' || i",
            "assignee": "'zoe'",
            "waiting": "false",
            "next_deadline": "CASE state WHEN 'closed' THEN NULL ELSE '2999' END",
        }
        with connection.begin():
            connection.exec_driver_sql(
                f"{MANY[connection.dialect.name]} INSERT INTO cases ({', '.join(CASE_COLUMNS)})"
                f" SELECT {', '.join(other.get(column, column) for column in CASE_COLUMNS)}"
                " FROM cases, n WHERE state IN ('closed', 'investigating')"
            )
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("ANALYZE cases")

    def plan(connection: Connection, wanted: Filter) -> str:
        some = select(CASES.number).where(*conditions(wanted, LATER).values()).limit(1000).subquery()
        query = select(func.count()).select_from(some)
        said = str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        if connection.dialect.name == "sqlite":
            return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {said}").all())
        for setting in ("enable_seqscan", "enable_bitmapscan"):
            connection.exec_driver_sql(f"SET LOCAL {setting} = off")
        return str(connection.exec_driver_sql(f"EXPLAIN {said}").all())

    await office.database.run(add_many)
    for index, lists in LISTS.items():
        for wanted in lists:
            found = await office.database.run(partial(plan, wanted=wanted))
            assert index in found, (wanted, found)
