"""The difference between two points of a case is all that differs, and no more."""

import re
from typing import Any

import msgspec
import pytest

from tests.workflow.builders import DIRK, a_desk, an_approved_refund, refunds
from tests.workflow.test_random_desk import walked
from workflow.cases import Case
from workflow.comparing import Change, changes
from workflow.replaying import replay

PART = re.compile(r"([^.\[\]]+)|\[([^\]]+)\]")


def test_what_changed_is_told_field_by_field() -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    before = desk.case
    after = desk.do(DIRK, refunds(before.proposals[-1]))

    found = {one.path: (one.before, one.after) for one in changes(before, after)}

    assert found["state"] == ("investigating", "refunded")
    assert found["purchase.refunded_minor"] == (0, 30000)
    assert found["grounds[g5].refunded_minor"] == (0, 30000)
    assert found["proposals[p7].status"] == ("approved", "settled")
    assert found["remedies[9]"][0] is None
    assert found["remedies[9]"][1]["kind"] == "refund"
    assert "assignee" not in found
    assert "grounds" not in found


def test_a_case_does_not_differ_from_itself() -> None:
    case = a_desk().case

    assert changes(case, case) == ()


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
        ({"a": {"b": None}}, {"a": {"b": [1]}}, [("a.b", None, [1])]),
        ({"a": [1, 2]}, {"a": [2]}, [("a", [1, 2], [2])]),
        ({"a": [{"id": "x", "n": 1}]}, {"a": []}, [("a[x]", {"id": "x", "n": 1}, None)]),
        ({"a": [{"n": 1}]}, {"a": [{"n": 2}]}, [("a[0].n", 1, 2)]),
        # Parts that cannot be told apart, or only change their order, are compared as a whole.
        ({"a": [{"id": 1}, {"id": 1}]}, {"a": []}, [("a", [{"id": 1}, {"id": 1}], [])]),
        ([{"id": 1}, {"id": 2}], [{"id": 2}, {"id": 1}], [("", [{"id": 1}, {"id": 2}], [{"id": 2}, {"id": 1}])]),
        ("x", "y", [("", "x", "y")]),
    ],
)  # fmt: skip
def test_a_path_names_the_smallest_part_that_can_be_named(before: Any, after: Any, found: list[Any]) -> None:
    assert [(one.path, one.before, one.after) for one in changes(before, after)] == found


@pytest.mark.parametrize("seed", range(4))
def test_the_difference_applied_to_the_first_point_gives_the_second(seed: int) -> None:
    for history in walked(seed).desk.histories.values():
        points = range(1, len(history) + 1, max(1, len(history) // 12))
        cases = [replay(history[:point]) for point in points]
        for index, first in enumerate(cases):
            for second in cases[index:]:
                assert first is not None
                assert applied(first, changes(first, second)) == second


LEFT_OUT = {field.name for field in msgspec.structs.fields(Case) if field.default is msgspec.UNSET}


def applied(case: Case, found: tuple[Change, ...]) -> Case:
    facts = msgspec.json.decode(msgspec.json.encode(case))
    for change in found:
        *parents, last = [name or f"[{key}]" for name, key in PART.findall(change.path)]
        target = facts
        for part in parents:
            target = target[index_of(target, part)] if isinstance(target, list) else target[part]
        if isinstance(target, list):
            index = index_of(target, last)
            target[index : index + 1] = [change.after]
        elif change.after is None and not parents and last in LEFT_OUT:
            del target[last]
        else:
            target[last] = change.after
    for part in (facts, *facts["remedies"]):  # what is absent is told as None
        for name in OFTEN_ABSENT & part.keys():
            if part[name] is None:
                del part[name]
    return msgspec.convert(facts, Case)


OFTEN_ABSENT = {"hold", "erasure", "erasures", "client_links", "accepted", "slots", "moved", "attended"}


def index_of(parts: list[Any], name: str) -> int:
    """Of the part with this name; behind the last one, if it is new."""
    keys = [f"[{part.get('id', part.get('seq', index))}]" for index, part in enumerate(parts)]
    return keys.index(name) if name in keys else len(parts)
