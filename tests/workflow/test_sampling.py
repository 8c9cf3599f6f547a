"""A sample follows from its plan and the cases alone, and gives each stratum its share."""

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflow.builders import ANA, BO, NOON, a_case, a_desk, a_fresh_purchase, an_approved_credit, euros
from workflow.cases import Case
from workflow.policy import Category, Settings
from workflow.sampling import Allocation, Drawing, Only, Plan, Sample, StratifiedBy, band, bounds_of
from workflow.states import CaseState

TIERS = bounds_of(Settings())


def cases(count: int, state: CaseState = CaseState.OPENED, **changes: Any) -> list[Case]:
    """Alike in all but their names."""
    return [replace(a_case(state), id=f"{state.value}-{number}", **changes) for number in range(count)]


def a_plan(size: int, *strata: StratifiedBy, **changes: Any) -> Plan:
    return replace(Plan(seed="a seed", size=size, strata=strata, bounds=TIERS), **changes)


def draw(plan: Plan, among: Iterable[Case]) -> Sample:
    drawing = Drawing(plan)
    for case in among:
        drawing.take(case)
    return drawing.sample()


def test_cases_are_drawn_in_the_order_of_their_hashes_under_the_seed() -> None:
    known = cases(20)

    drawn = [one.id for one in draw(a_plan(5), known).cases]

    by_hash = sorted((hashlib.sha256(b"a seed\n" + one.id.encode()).hexdigest(), one.id) for one in known)
    assert drawn == [name for _, name in by_hash[:5]]


def test_the_same_are_drawn_in_whatever_order_the_cases_come() -> None:
    known = [*cases(9), *cases(5, CaseState.CLOSED), *cases(3, CaseState.INVESTIGATING)]
    plan = a_plan(6, StratifiedBy.STATE)
    sample = draw(plan, known)

    for number in range(5):
        assert draw(plan, Random(number).sample(known, len(known))) == sample


def test_another_seed_draws_others() -> None:
    known = cases(50)

    digests = {draw(replace(a_plan(5), seed=str(number)), known).digest for number in range(10)}

    assert len(digests) == 10


def test_strata_share_the_size_in_proportion_and_the_largest_remainders_come_first() -> None:
    known = [*cases(10, CaseState.CLOSED), *cases(7, CaseState.INVESTIGATING), *cases(3)]

    sample = draw(a_plan(9, StratifiedBy.STATE), known)

    shares = {one.values[0]: (one.population, len(one.cases)) for one in sample.strata}
    assert shares == {"closed": (10, 5), "investigating": (7, 3), "opened": (3, 1)}  # of 4.5, 3.15 and 1.35
    assert (sample.population, len(sample.cases)) == (20, 9)


def test_equal_remainders_are_served_in_the_order_of_the_strata() -> None:
    known = [*cases(3, CaseState.OPENED), *cases(3, CaseState.CLOSED)]

    sample = draw(a_plan(3, StratifiedBy.STATE), known)

    assert [(one.values, len(one.cases)) for one in sample.strata] == [(("closed",), 2), (("opened",), 1)]


@pytest.mark.parametrize("size", range(1, 25))
def test_a_proportional_sample_is_as_large_as_it_should_be_and_no_stratum_gives_more_than_it_has(size: int) -> None:
    known = [*cases(11, CaseState.CLOSED), *cases(6, CaseState.INVESTIGATING), *cases(1)]

    sample = draw(a_plan(size, StratifiedBy.STATE), known)

    assert len(sample.cases) == min(size, 18)
    assert all(len(one.cases) <= one.population for one in sample.strata)


def test_so_many_of_each_stratum_or_all_where_there_are_fewer() -> None:
    known = [*cases(10, CaseState.CLOSED), *cases(2)]

    sample = draw(a_plan(4, StratifiedBy.STATE, allocation=Allocation.PER_STRATUM), known)

    assert [len(one.cases) for one in sample.strata] == [4, 2]


def test_several_strata_cross() -> None:
    known = [*cases(2, CaseState.CLOSED, assignee="ana"), *cases(2, CaseState.INVESTIGATING, assignee=None)]

    sample = draw(a_plan(9, StratifiedBy.AGENT, StratifiedBy.STATE, StratifiedBy.AMOUNT), known)

    assert [one.values for one in sample.strata] == [("", "investigating", "none"), ("ana", "closed", "none")]


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("500.00", "up to 500.00"), ("500.01", "up to 5000.00"), ("5000.01", "above 5000.00")],
)
def test_a_limit_belongs_to_what_is_below_it(amount: str, expected: str) -> None:
    desk = a_desk()
    desk.propose(euros(amount))

    assert band(desk.case, TIERS) == expected


def test_a_case_lies_where_the_highest_amount_lies_that_was_ever_proposed() -> None:
    desk = a_desk()
    desk.propose(euros("6000.00"))
    an_approved_credit("50.00").carry_out(desk)

    assert band(desk.case, TIERS) == "above 5000.00"
    assert band(desk.case, ()) == "any"


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (Only(), {"A", "B"}),
        (Only(state=CaseState.INVESTIGATING), {"A"}),
        (Only(category=Category.OTHER), {"B"}),
        (Only(assignee="ana"), {"A"}),
        (Only(assignee=""), {"B"}),
        (Only(opened_from=NOON + timedelta(hours=1)), set()),
        (Only(opened_until=NOON + timedelta(hours=1)), {"A", "B"}),
        (Only(opened_until=NOON), set()),
    ],
)
def test_only_those_that_were_asked_for_are_drawn_from(only: Only, expected: set[str]) -> None:
    known = [
        replace(a_case(CaseState.INVESTIGATING), id="A"),
        replace(a_case(CaseState.OPENED), id="B", category=Category.OTHER),
    ]

    assert {one.id for one in draw(a_plan(9, only=only), known).cases} == expected


def test_the_digest_tells_a_case_at_one_version_from_the_same_at_another() -> None:
    desk = a_desk(purchase=a_fresh_purchase(), affected=None)
    before = draw(a_plan(1), [desk.case])
    desk.ground(euros("9.00"), recorded_by=ANA, verified_by=BO)

    assert draw(a_plan(1), [desk.case]).digest != before.digest


def test_nothing_is_drawn_from_nothing() -> None:
    sample = draw(a_plan(5, StratifiedBy.STATE), [])

    assert (sample.strata, sample.population, sample.digest) == ((), 0, hashlib.sha256(b"").hexdigest())
