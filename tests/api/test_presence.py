"""Who is looking at which case, over several processes that call it out to each other."""

import pytest

from api.presence import GRACE_SECONDS, SILENT_SECONDS, Presence


class Desk:
    """Processes that hear each other, on a clock that stands still."""

    def __init__(self) -> None:
        self.now = 100.0
        self.processes: list[Presence] = []
        self.deaf: set[Presence] = set()
        self.said: list[str] = []

    def process(self) -> Presence:
        made = Presence(self.tell, lambda: self.now)
        self.processes.append(made)
        return made

    def tell(self, said: str) -> None:
        self.said.append(said)
        for one in self.processes:
            if one not in self.deaf:
                one.hear(said)

    def pass_time(self, seconds: float) -> None:
        """With a look around every second, as a process does."""
        for _ in range(int(seconds)):
            self.now += 1
            for one in self.processes:
                if one not in self.deaf:
                    one.settle()


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_everybody_who_has_a_case_open_is_known_in_every_process(desk: Desk) -> None:
    here, there = desk.process(), desk.process()
    here.come("1", "ana")
    there.come("1", "bo")

    assert here.of("1") == there.of("1") == {"ana", "bo"}


def test_whoever_comes_later_hears_of_those_who_were_there_before(desk: Desk) -> None:
    here = desk.process()
    here.come("1", "ana")
    there = desk.process()
    there.come("1", "bo")

    assert there.of("1") == {"ana", "bo"}
    assert there.settle() == {"1"}


def test_a_process_hears_only_of_the_cases_that_are_looked_at_there(desk: Desk) -> None:
    here, there = desk.process(), desk.process()
    here.come("1", "ana")
    there.come("2", "bo")

    assert there.of("1") == set()
    assert not there.elsewhere.get(here.me)


def test_whoever_leaves_is_gone_a_moment_later_everywhere(desk: Desk) -> None:
    here, there = desk.process(), desk.process()
    here.come("1", "ana")
    there.come("1", "bo")
    here.go("1", "ana")
    desk.pass_time(GRACE_SECONDS + 1)

    assert there.of("1") == {"bo"}
    assert here.is_empty


def test_loading_a_page_anew_is_not_leaving(desk: Desk) -> None:
    here, there = desk.process(), desk.process()
    there.come("1", "bo")
    here.come("1", "ana")
    there.settle()
    said = len(desk.said)
    here.go("1", "ana")
    here.come("1", "ana")
    desk.pass_time(GRACE_SECONDS + 1)

    assert there.of("1") == {"ana", "bo"}
    assert all('"case"' not in one for one in desk.said[said:])


def test_two_pages_of_one_person_are_one_person(desk: Desk) -> None:
    here = desk.process()
    here.come("1", "ana")
    here.come("1", "ana")
    here.go("1", "ana")
    desk.pass_time(GRACE_SECONDS + 1)

    assert here.of("1") == {"ana"}


def test_a_process_that_died_is_forgotten(desk: Desk) -> None:
    here, there = desk.process(), desk.process()
    here.come("1", "ana")
    there.come("1", "bo")
    desk.deaf.add(there)
    desk.pass_time(SILENT_SECONDS - 2)
    assert here.of("1") == {"ana", "bo"}
    desk.pass_time(3)

    assert here.of("1") == {"ana"}


def test_a_process_that_only_waits_is_not(desk: Desk) -> None:
    here, there = desk.process(), desk.process()
    here.come("1", "ana")
    there.come("1", "bo")
    desk.pass_time(3 * SILENT_SECONDS)

    assert here.of("1") == {"ana", "bo"}


def test_a_process_that_ends_says_so(desk: Desk) -> None:
    here, there = desk.process(), desk.process()
    here.come("1", "ana")
    there.come("1", "bo")
    here.settle()
    there.leave()

    assert here.of("1") == {"ana"}
    assert here.settle() == {"1"}


def test_what_was_missed_is_asked_for(desk: Desk) -> None:
    here, there = desk.process(), desk.process()
    here.come("1", "ana")
    there.come("1", "bo")
    desk.deaf.add(here)
    there.come("1", "cleo")
    desk.deaf.clear()
    assert here.of("1") == {"ana", "bo"}
    here.call_all()

    assert here.of("1") == {"ana", "bo", "cleo"}


def test_calls_of_others_are_passed_over(desk: Desk) -> None:
    here = desk.process()
    here.come("1", "ana")
    for said in ("", "{}", "[1]", '{"from": 1}', '{"from":"x","case":"1","people":"ana"}', "\x00"):
        here.hear(said)

    assert here.of("1") == {"ana"}


def test_a_call_is_short_enough_for_postgresql_however_many_look(desk: Desk) -> None:
    here = desk.process()
    for number in range(1000):
        here.come("018f2b1e-0000-7000-8000-000000000001", f"018f2b1e-0000-7000-8000-{number:012}")

    assert max(map(len, desk.said)) < 8000
