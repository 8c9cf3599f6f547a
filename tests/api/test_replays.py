"""Replay over HTTP: all cases at one point of the log, the difference between two points of one, and why."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from api.demo import demonstrate
from api.replaying import POINTERS
from api.settings import Settings
from storage.database import open_database
from storage.reviewing import reviews
from tests.api.driving import Clock, Json, Service, a_purchase, done, euros, refused, wrong_fields
from tests.api.routes import a_furnished_case, furnish
from tests.databases import raw_sql, sqlite_url
from tests.storage.test_verify import undefended
from workflow.cases import Approval, Case, Ground, Proposal, RemedyGiven

# All cases at one point.


async def test_all_cases_stand_at_a_position_as_each_is_replayed_to_it(service: Service, clock: Clock) -> None:
    first = await service.ana.open(purchase=a_purchase())
    clock.advance(hours=1)
    await service.ana.open()
    await furnish(service, first["id"])
    feed = done(await service.lou.get("/v1/events", limit=1000))["items"]
    opened = [one["position"] for one in feed if one["event"]["type"] == "opened"]

    early = done(await service.lou.get("/v1/replay", position=opened[1] - 1))
    late = done(await service.lou.get("/v1/replay", counts="true"))

    assert [(one["state"], one["version"]) for one in early["items"]] == [("opened", 2)]
    assert "counts" not in early
    assert (late["position"], late["at"], late["next"]) == (feed[-1]["position"], None, None)
    assert [(one["number"], one["state"], one["version"]) for one in late["items"]] == [
        ("C-1001", "investigating", 7),
        ("C-1002", "opened", 1),
    ]
    (case, other) = late["items"]
    assert (case["assignee"], other["assignee"], other["purchase"]) == ("ana", None, None)
    assert (case["purchase"]["paid"], case["purchase"]["left"]) == (euros("2000.00"), euros("2000.00"))
    assert case["receipt"].startswith(f"case:{case['id']}/7/")
    assert {state: count for state, count in late["counts"].items() if count} == {"opened": 1, "investigating": 1}


async def test_all_cases_stand_at_an_instant_as_each_is_replayed_to_it(service: Service, clock: Clock) -> None:
    one = await service.ana.open(purchase=a_purchase())
    clock.advance(hours=1)
    other = await service.ana.open()
    clock.advance(hours=1)
    done(await service.ana.fire(one["id"], "investigate"))
    done(await service.ana.fire(other["id"], "investigate"))

    async def at(moment: str) -> list[Any]:
        items = done(await service.audrey.get("/v1/replay", at=moment))["items"]
        for item in items:
            alone = done(await service.ana.get(f"/v1/cases/{item['id']}/replay", at=moment))
            assert {
                name: alone["case"][name] for name in ("version", "state", "assignee", "purchase", "changed_at")
            } == {name: item[name] for name in ("version", "state", "assignee", "purchase", "changed_at")}
        return [(item["number"], item["version"]) for item in items]

    assert await at("2026-03-05T11:59:59.999999Z") == []
    assert await at("2026-03-05T12:00:00Z") == [("C-1001", 2)]
    assert await at("2026-03-05T14:59:59+01:00") == [("C-1001", 2), ("C-1002", 1)]
    assert await at("2026-03-05T14:00:00Z") == [("C-1001", 3), ("C-1002", 2)]


async def test_pages_of_all_cases_stay_at_their_point(service: Service) -> None:
    for _ in range(3):
        await service.ana.open()

    first = await service.ana.get("/v1/replay", limit=2, at="2030-01-01T00:00:00Z")
    await service.ana.open()
    second = await service.ana.get(first.headers["link"].partition(">")[0].removeprefix("<"))

    assert [one["number"] for one in done(first)["items"]] == ["C-1001", "C-1002"]
    assert [one["number"] for one in done(second)["items"]] == ["C-1003"]
    assert done(second)["position"] == done(first)["position"]
    assert (done(second)["next"], "link" in second.headers) == (None, False)
    assert len(done(await service.ana.get("/v1/replay", cursor=done(first)["next"], limit=1))["items"]) == 1


async def test_a_point_that_cannot_be_is_named(service: Service) -> None:
    for query, fields in (
        ({"position": 0}, ["position"]),
        ({"position": 10_000}, ["position"]),
        ({"at": "yesterday"}, ["at"]),
        ({"at": "2026-03-05T12:00:00Z", "position": 1}, ["at"]),
        ({"cursor": "x"}, ["cursor"]),
        ({"cursor": forged("\0")}, ["cursor"]),
        ({"cursor": forged("-" * 27)}, ["cursor"]),
        ({"cursor": forged("2026-03-05T12:00:00")}, ["cursor"]),
        ({"cursor": forged("0001-01-01T00:00:00+23:00")}, ["cursor"]),
        ({"limit": 201}, ["limit"]),
    ):
        assert wrong_fields(await service.ana.get("/v1/replay", **query)) == fields


def forged(at: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([1, at, 1]).encode()).decode()


# Between two points of a case.


async def test_the_difference_says_which_facts_changed_and_which_events_did_it(service: Service, clock: Clock) -> None:
    case = await service.ana.open(purchase=a_purchase())
    clock.advance(hours=1)
    await furnish(service, case["id"])
    path = f"/v1/cases/{case['id']}/difference"

    response = await service.ana.get(path, **{"from": "2", "to": "6"})

    found = done(response)
    changes = {one["path"]: (one["before"], one["after"]) for one in found["changes"]}
    assert response.headers["etag"] == '"7"'
    assert (found["from"]["version"], found["to"]["version"]) == (2, 6)
    assert found["to"]["receipt"].startswith(f"case:{case['id']}/6/")
    assert [one["seq"] for one in found["events"]] == [3, 4, 5, 6]
    assert found["events"][-1]["texts"] == {"evidence": "bank statement"}
    assert changes.keys() == {"state", "assignee", "purchase.checked", "grounds[g5]"}
    assert changes["state"] == ("opened", "investigating")
    assert changes["purchase.checked"] == (False, True)
    ground = changes["grounds[g5]"][1]
    assert (ground["statement"], ground["evidence"], ground["verified"]) == ("charged twice", "bank statement", True)
    by_time = done(await service.ana.get(path, **{"from": "2026-03-05T12:00:00Z"}))
    assert (by_time["from"]["version"], by_time["to"]["version"]) == (2, 7)
    same = done(await service.ana.get(path, **{"from": "3", "to": "3"}))
    assert (same["changes"], same["events"]) == ([], [])


async def test_a_difference_between_points_that_cannot_be_is_named(service: Service) -> None:
    case = await service.ana.investigate()
    path = f"/v1/cases/{case['id']}/difference"

    for query, fields in (
        ({}, ["from"]),
        ({"from": "0"}, ["from"]),
        ({"from": "3"}, ["from"]),
        ({"from": "1", "to": "99"}, ["to"]),
        ({"from": "2", "to": "1"}, ["from"]),
        ({"from": "2020-01-01T00:00:00Z"}, ["from"]),
        ({"from": "2026-03-05T12:00:00"}, ["from"]),
        ({"from": "1", "to": "then"}, ["to"]),
    ):
        assert wrong_fields(await service.ana.get(path, **query)) == fields
    refused(await service.ana.get("/v1/cases/nowhere/difference", **{"from": "1"}), 404, "not_found")


async def test_an_erased_text_reads_so_in_a_difference(service: Service, desk_url: str) -> None:
    case = await service.ana.open(purchase=a_purchase())
    await furnish(service, case["id"])
    with raw_sql(desk_url) as raw:
        raw.run("DELETE FROM personal WHERE field = 'statement'")

    found = done(await service.ana.get(f"/v1/cases/{case['id']}/difference", **{"from": "4"}))

    (ground,) = (one["after"] for one in found["changes"] if one["path"] == "grounds[g5]")
    assert ground["statement"] == "erased"


def test_every_field_that_points_at_a_text_is_resolved() -> None:
    fields: set[str] = set()
    for struct in (Case, Ground, Proposal, Approval, RemedyGiven):
        source = Path(str(__import__(struct.__module__, fromlist=["x"]).__file__)).read_text("utf-8")
        body = source.partition(f"class {struct.__name__}(")[2].partition("\nclass ")[0]
        for line in body.splitlines():
            name, _, kind = line.strip().partition(": ")
            if "Pointer" in kind and name.isidentifier():
                fields.add(name)

    assert fields == POINTERS


# Why.


async def a_refund(service: Service) -> str:
    parts = await a_furnished_case(service)
    (proposal,) = (await service.cleo.read(parts["case_id"]))["proposals"]
    verdict = {"verdict": "approve", "digest": proposal["digest"], "reason": "it is due"}
    await service.cleo.add(parts["case_id"], "proposals/p7/verdicts", **verdict)
    done(await service.dirk.fire(parts["case_id"], "refund", proposal="p7", payment_reference="T-1"))
    return parts["case_id"]


async def test_each_decision_is_told_with_what_it_rested_on_and_made_again(service: Service) -> None:
    case_id = await a_refund(service)

    why = done(await service.audrey.get(f"/v1/cases/{case_id}/decisions"))

    assert why["equal"]
    assert [(one["seq"], one["type"], one["equal"]) for one in why["items"]] == [
        (3, "investigation_started", True),
        (7, "proposed", True),
        (10, "verdict_given", True),
        (11, "refunded", True),
    ]
    refund = why["items"][-1]
    assert (refund["trigger"], refund["actor"], refund["roles"], refund["policy"]) == (
        "refund", "person:dirk", ["approver"], 1,
    )  # fmt: skip
    assert (refund["decision"]["maximum"], refund["decision"]["clauses"]) == (euros("300.00"), ["P6"])
    assert [one["id"] for one in refund["clauses"]] == ["P6"]
    assert refund["facts"]["purchase"]["paid"] == euros("2000.00")
    assert [one["verified"] for one in refund["facts"]["grounds"]] == [True]
    assert {one["guard"] for one in refund["guards"] if one["passed"]} >= {
        "within_maximum",
        "settled_by_another_person",
    }
    assert [(one["by"], one["roles"], one["reason"]) for one in refund["approvals"]] == [
        ("person:cleo", ["approver"], "it is due")
    ]
    assert (refund["proposal"]["id"], refund["proposal"]["amount"]) == ("p7", euros("300.00"))
    assert refund == done(await service.audrey.get(f"/v1/cases/{case_id}/decisions/11"))
    assert why["items"][0]["facts"] is why["items"][0]["decision"] is None


async def test_a_decision_that_was_altered_is_said_to_be_unequal(service: Service, desk_url: str) -> None:
    case_id = await a_refund(service)
    await service.desk.sequencer.catch_up()  # which must not be half-way while nothing else can go on
    with raw_sql(desk_url) as raw, undefended(raw):
        said, says = '"maximum":{"amount_minor":30000', '"maximum":{"amount_minor":20000'
        raw.run(f"UPDATE events SET body = replace(body, '{said}', '{says}') WHERE type = 'proposed'")

    why = done(await service.audrey.get(f"/v1/cases/{case_id}/decisions"))

    assert (why["equal"], [one["seq"] for one in why["items"] if not one["equal"]]) == (False, [7])
    assert why["items"][1]["differences"] == [
        {"path": "data.judgement.maximum.amount_minor", "recorded": 20000, "again": 30000}
    ]


async def test_what_is_no_decision_has_no_reasons(service: Service) -> None:
    case = await service.ana.investigate()

    for seq in ("1", "99", "x", "-2", "9" * 12):
        refused(await service.ana.get(f"/v1/cases/{case['id']}/decisions/{seq}"), 404, "not_found")
    refused(await service.ana.get("/v1/cases/nowhere/decisions"), 404, "not_found")


async def test_auditors_leave_a_trace_of_what_they_replayed(service: Service) -> None:
    case = await service.ana.investigate()
    path = f"/v1/cases/{case['id']}"

    await service.audrey.get(f"{path}/difference", **{"from": "1"})
    await service.audrey.get(f"{path}/decisions")

    items: list[Json] = done(await service.lou.get("/v1/events", limit=1000))["items"]
    read = [one["event"]["data"]["what"] for one in items if one["event"]["type"] == "case_read"]
    assert read == ["difference", "decisions"]


# The demonstration desk.


@pytest.fixture(scope="module")
def demo_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = sqlite_url(tmp_path_factory.mktemp("demo") / "demo.db")
    asyncio.run(demonstrate(Settings(database_url=url), clock=lambda: datetime(2026, 3, 5, 15, 30, tzinfo=UTC)))
    return url


async def test_every_decision_of_the_demonstration_desk_is_equal_when_made_again(demo_url: str) -> None:
    database = open_database(demo_url)
    ids = [one for (one,) in await database.rows(text("SELECT id FROM cases"))]
    found = [one for case_id in ids for one in await reviews(database, case_id)]
    await database.close()

    assert len(found) > 90
    assert [one for one in found if not one.is_equal] == []
