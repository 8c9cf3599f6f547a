"""What a survey says of all cases is what replaying every one of them says."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from random import Random

import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ANA,
    CLEO,
    DAY,
    DIRK,
    ELI,
    MONEY_CAME_BACK,
    NOON,
    Desk,
    a_desk,
    a_letter,
    begins,
    closing,
    euros,
    firing,
    refunds,
)
from tests.workflow.reckoning import Reckoning
from tests.workflow.test_random_desk import walked as random_walk
from workflow import commands as c
from workflow.errors import BrokenHistory
from workflow.events import AttemptRefused, Recorded
from workflow.insights import MONEY, Days, Happening, Kind, Survey, What, percentile
from workflow.policy import Category
from workflow.states import CaseState, Trigger
from workflow.timezones import zone

# East and west of UTC, by hours and by less, with clocks that change.
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns")
SEEDS = 8
EVER = Days(date(2026, 1, 1), date(2027, 12, 31))


@cache
def walked(seed: int) -> list[tuple[int, Recorded]]:
    return log_of(random_walk(seed).desk)


def log_of(desk: Desk) -> list[tuple[int, Recorded]]:
    events = [one for history in desk.histories.values() for one in history]
    return list(enumerate(sorted(events, key=lambda one: one.at), 1))


def surveyed(log: Sequence[tuple[int, Recorded]], timezone: str = "UTC") -> Survey:
    survey = Survey(zone(timezone))
    for position, one in log:
        survey.take(position, one)
    return survey


def some_days(log: Sequence[tuple[int, Recorded]], random: Random) -> Days:
    first, last = sorted(random.choice(log)[1].at.date() + random.choice((-DAY, DAY)) for _ in range(2))
    return Days(first, last)


everywhere = pytest.mark.parametrize(("seed", "timezone"), [(seed, ZONES[seed % len(ZONES)]) for seed in range(SEEDS)])


@everywhere
def test_as_many_cases_were_in_each_state_on_each_day_as_replaying_them_all_says(seed: int, timezone: str) -> None:
    log = walked(seed)
    reckoning, survey = Reckoning(log, zone(timezone)), surveyed(log, timezone)
    first = log[0][1].at.date() - DAY
    days = [first + timedelta(days=count) for count in range(0, (log[-1][1].at.date() - first).days + 3, 3)]

    found = survey.stood(days)

    assert found == [reckoning.stood(day) for day in days]
    assert sum(found[-1].values()) == len(reckoning.histories)
    assert survey.first_day == reckoning.day(log[0][1].at)


@everywhere
def test_stays_happenings_and_money_are_what_replaying_all_cases_says(seed: int, timezone: str) -> None:
    log = walked(seed)
    reckoning, survey = Reckoning(log, zone(timezone)), surveyed(log, timezone)
    random = Random(seed)
    for days in [EVER, *(some_days(log, random) for _ in range(4))]:
        assert survey.ended(days) == reckoning.ended(days)
        assert survey.totals(days) == reckoning.totals(days)
        wanted = [one for one in reckoning.happenings() if reckoning.is_within(one.at, days)]
        assert in_order(survey.happenings(days, lambda _: True)) == wanted


def in_order(found: Iterable[Happening]) -> list[Happening]:
    return sorted(found, key=lambda one: (-one.position, one.kind))


@everywhere
def test_the_stays_behind_each_number_are_those_it_counts(seed: int, timezone: str) -> None:
    log = walked(seed)
    reckoning, survey = Reckoning(log, zone(timezone)), surveyed(log, timezone)
    days = some_days(log, Random(seed))
    stays = reckoning.stays()

    for way, lengths in survey.ended(days).items():
        found = list(survey.stayed(days, way.state, way.trigger))
        assert [one.until - one.since for one in found if one.until] == [
            timedelta(microseconds=length) for length in reversed(lengths)
        ]
        assert {*found} <= {*stays}
    for state, count in survey.stood([days.last])[0].items():
        found = list(survey.standing(days.last, state))
        assert len(found) == count
        assert all(
            reckoning.day(one.since) <= days.last and (one.until is None or reckoning.day(one.until) > days.last)
            for one in found
        )


@pytest.mark.parametrize("seed", range(3))
def test_the_oldest_open_cases_and_those_that_stay_longest_are_told(seed: int) -> None:
    log = walked(seed)[: Random(seed).randrange(100, 400)]
    survey, now = surveyed(log), log[-1][1].at
    going_on = [one for one in Reckoning(log, zone("UTC")).stays() if one.until is None]
    still_open = sorted((one for one in going_on if one.state is not CaseState.CLOSED), key=lambda one: one.opened)

    assert survey.oldest(2) == still_open[:2]
    limits = dict.fromkeys(CaseState, limit := sorted(now - one.since for one in going_on)[1])
    assert survey.count_longer_than(limits, now) == len(survey.longer_than(limits, now))
    assert list(survey.longer_than(limits, now)) == sorted(
        (one for one in still_open if now - one.since > limit), key=lambda one: one.since
    )
    assert not survey.longer_than({}, now)


def test_a_survey_that_is_made_in_two_parts_is_the_one_made_at_once() -> None:
    log = walked(0)
    survey = surveyed(log[:200])
    survey.totals(EVER)
    survey.ended(EVER)
    for position, one in log[200:]:
        survey.take(position, one)

    assert survey.totals(EVER) == surveyed(log).totals(EVER)
    assert survey.ended(EVER) == surveyed(log).ended(EVER)


def test_money_that_came_back_counts_apart_under_the_clause_it_had_gone_by() -> None:
    desk = a_desk()
    proposal = desk.approve(desk.propose(euros("300.00")), CLEO)
    desk.do(DIRK, begins(proposal))
    desk.do(DIRK, refunds(proposal))
    desk.do(ELI, MONEY_CAME_BACK)

    found = surveyed(log_of(desk)).totals(Days(NOON.date(), NOON.date()))

    money = {kind: one for kind, one in found.items() if kind.what in MONEY}
    assert money == {
        Kind(What.REFUNDED, "P6", "billing", "EUR"): (1, 300_00),
        Kind(What.REVERSED, "P6", "billing", "EUR"): (1, 300_00),
    }


def test_a_day_ends_at_midnight_in_the_desks_own_zone() -> None:
    desk = Desk(now=datetime.fromisoformat("2026-03-05T22:59:59.999999+00:00"))
    desk.open()
    desk.now += timedelta(microseconds=1)
    desk.investigate()
    desk.do(ANA, a_letter())
    desk.now += timedelta(days=1)
    desk.do(ANA, closing())
    survey = surveyed(log_of(desk), "Europe/Berlin")

    states = [
        [state for state, count in one.items() if count]
        for one in survey.stood([date(2026, 3, day) for day in (4, 5, 6, 7)])
    ]

    assert states == [[], [CaseState.OPENED], [CaseState.INVESTIGATING], [CaseState.CLOSED]]
    assert [len(survey.standing(date(2026, 3, day))) for day in (4, 5, 6, 7)] == [0, 1, 1, 0]
    assert len(survey.stayed(Days(date(2026, 3, 6), date(2026, 3, 6)), CaseState.OPENED, Trigger.INVESTIGATE)) == 1


@pytest.mark.parametrize(
    ("count", "percent", "expected"), [(1, 50, 1), (1, 90, 1), (2, 50, 1), (3, 50, 2), (10, 90, 9), (11, 90, 10)]
)
def test_so_many_percent_do_not_exceed_a_percentile_and_no_shorter_one_has_that(
    count: int, percent: int, expected: int
) -> None:
    assert percentile(range(1, count + 1), percent) == timedelta(microseconds=expected)


def test_an_event_of_a_case_that_was_never_opened_is_no_history() -> None:
    _, *others = walked(0)

    with pytest.raises(BrokenHistory):
        surveyed([one for one in others if one[1].event.chain == walked(0)[0][1].event.chain])


def test_the_walks_come_by_whatever_a_case_can_be_counted_for() -> None:
    kinds = [kind for seed in range(SEEDS) for kind in surveyed(walked(seed)).totals(EVER)]

    assert {kind.what for kind in kinds} == {What.OPENED, What.CLOSED, *MONEY}
    assert {kind.code for kind in kinds if kind.what is What.REFUNDED} == {"P5", "P6"}


def test_a_case_counts_under_the_category_that_it_had_then() -> None:
    desk = a_desk()
    desk.do(ANA, c.Recategorize(category=Category.DELAY))
    desk.do(ANA, a_letter())
    desk.do(ANA, closing())
    desk.do(ANA, firing(Trigger.REOPEN))
    desk.do(ANA, c.Recategorize(category=Category.TECHNICAL))

    assert {*surveyed(log_of(desk)).totals(EVER)} == {
        Kind(What.OPENED, "", "billing"),
        Kind(What.CLOSED, "explained", "delay"),
    }


def test_refused_attempts_are_counted_once_and_under_each_of_their_reasons() -> None:
    refused = AttemptRefused(code="guard_refused", command="Fire", case="A", refusals=("within_maximum", "role"))
    elsewhere = AttemptRefused(code="wrong_digest", command="GiveVerdict")
    desk = a_desk()
    one = desk.histories["A"][0]
    log = [*log_of(desk), *((100 + n, replace(one, data=data)) for n, data in enumerate((refused, elsewhere)))]

    survey = surveyed(log)

    counted = {(kind.what, kind.code): total.times for kind, total in survey.totals(EVER).items()}
    assert counted == {
        (What.OPENED, ""): 1,
        (What.REFUSED, "guard_refused"): 1,
        (What.REFUSED, "wrong_digest"): 1,
        (What.REASON, "within_maximum"): 1,
        (What.REASON, "role"): 1,
        (What.REASON, "wrong_digest"): 1,
    }
    found = survey.happenings(EVER, lambda kind: kind.what is What.REFUSED)
    assert [(one.position, one.number) for one in found] == [(101, None), (100, 1)]


def test_an_unfinished_stay_has_no_length_yet() -> None:
    desk = a_desk()
    desk.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION))

    survey = surveyed(log_of(desk))

    assert {way.state for way in survey.ended(Days(NOON.date(), NOON.date()))} == {
        CaseState.OPENED,
        CaseState.INVESTIGATING,
    }
