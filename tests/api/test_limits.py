"""Limits let so much through in so long, for each of whom it counts, and remember no more than they must."""

from datetime import timedelta

import pytest
from starlette.requests import Request

from api.limits import Limit, SignInLimits, origin_of
from tests.workflow.builders import NOON

SECOND = timedelta(seconds=1)


def a_limit(keys: int = 100) -> Limit:
    """Three in a minute."""
    return Limit(3, timedelta(minutes=1), keys)


def test_so_many_at_once_and_then_one_after_the_other() -> None:
    limit = a_limit()

    assert [limit.take("a", NOON) for _ in range(5)] == [0, 0, 0, 20, 20]
    assert limit.take("a", NOON + 19 * SECOND) == 1
    assert limit.take("a", NOON + 20 * SECOND) == 0
    assert limit.take("a", NOON + 20 * SECOND) == 20


def test_after_the_whole_period_all_of_it_may_be_done_again() -> None:
    limit = a_limit()
    for _ in range(3):
        limit.take("a", NOON)

    assert [limit.take("a", NOON + 60 * SECOND) for _ in range(4)] == [0, 0, 0, 20]


def test_everybody_has_a_limit_of_their_own() -> None:
    limit = a_limit()
    for _ in range(3):
        limit.take("a", NOON)

    assert limit.wait("a", NOON) == 20
    assert limit.wait("b", NOON) == 0


def test_what_was_refused_does_not_count() -> None:
    limit = a_limit()
    for _ in range(100):
        limit.take("a", NOON)

    assert limit.take("a", NOON + 20 * SECOND) == 0


def test_a_clock_that_was_set_back_locks_nobody_out_for_longer() -> None:
    limit = a_limit()
    for _ in range(3):
        limit.take("a", NOON)

    assert limit.wait("a", NOON - timedelta(hours=1)) == 20


def test_no_more_are_remembered_than_there_is_room_for() -> None:
    limit = a_limit(keys=10)
    for number in range(1000):
        limit.take(f"address {number}", NOON)

    assert len(limit.full_at) == 10


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
def test_a_request_comes_from_an_address_or_from_a_network(host: str, origin: str) -> None:
    assert origin_of(Request({"type": "http", "client": (host, 1)})) == origin


def test_a_request_may_come_from_nowhere() -> None:
    assert not origin_of(Request({"type": "http", "client": None}))


# Of signing in.


def test_what_is_given_back_does_not_count() -> None:
    limits = SignInLimits()
    for _ in range(60):
        limits.begin("origin", "address", NOON)
        limits.undecided("origin", "address")

    assert limits.wait("origin", "address", NOON) == 0


def test_who_succeeds_at_an_address_begins_anew_there_and_only_there() -> None:
    limits = SignInLimits()
    for _ in range(10):
        limits.begin("origin", "address", NOON)
    limits.succeed("origin", "address")

    assert limits.wait("origin", "address", NOON) == 0
    for _ in range(10):
        limits.begin("origin", "another", NOON)
    assert limits.wait("origin", "another", NOON) == 90
    assert limits.wait("elsewhere", "another", NOON) == 90
    assert limits.wait("origin", None, NOON) == 0


def test_long_addresses_take_no_more_room_than_short_ones() -> None:
    limits = SignInLimits()
    limits.begin("origin", "x" * 1_000_000, NOON)

    assert max(map(len, limits.wrong_at.full_at)) == 32
