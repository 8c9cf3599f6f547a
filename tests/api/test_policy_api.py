"""The policy over HTTP: decisions for given facts, and versions that take effect when and where they should."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.api.driving import (
    Json,
    Service,
    a_fresh_purchase,
    a_purchase,
    day,
    done,
    euros,
    reasons,
    refused,
    wrong_fields,
)
from tests.shared import SHARED, shared_path
from tests.workflow.builders import NOON

OWN = Path(__file__).parents[1] / "workflow" / "policy_examples.json"
PUBLISHED = SHARED / "policy-cases.json"

# Decisions are made without a database.
on_one_database = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def named(path: Path) -> list[Any]:
    return [pytest.param(row, id=row["name"]) for row in json.loads(path.read_bytes())]


@on_one_database
@pytest.mark.parametrize("row", named(OWN))
async def test_every_example_of_ours_is_decided_as_written(row: Json, service: Service) -> None:
    await assert_decided_as_written(row, service)


@on_one_database
@pytest.mark.parametrize("row", named(PUBLISHED) if PUBLISHED.exists() else [{}])
async def test_every_published_example_is_decided_as_written(row: Json, service: Service) -> None:
    shared_path("policy-cases.json")
    await assert_decided_as_written(row, service)


async def assert_decided_as_written(row: Json, service: Service) -> None:
    response = await service.ana.post("/v1/policy/evaluate", row["input"])
    if "error" in row:
        fields = wrong_fields(response)
        assert fields
        assert all(re.fullmatch(rf"{re.escape(row['error'])}(\..+)?", field) for field in fields), fields
        return
    decision = done(response)
    assert [one for one in decision["reasons"] if not one["text"]] == []
    decision["reasons"] = sorted(one["code"] for one in decision["reasons"])
    assert decision.pop("policy") == 1
    assert {"maximum": None} | decision == row["expect"]
    assert ("maximum" in decision) == (row["input"]["purchase"] is not None)


def some_facts(**changes: Any) -> Json:
    facts: Json = {
        "requested_at": day(0),
        "category": "billing",
        "purchase": a_purchase(),
        "refunded": None,
        "grounds": [],
    }
    return facts | changes


@on_one_database
async def test_every_impossible_fact_is_named_at_once(service: Service) -> None:
    ground = {"kind": "billing_error", "verified": True, "affected": euros("10.00"), "refunded": euros("10.01")}
    facts = some_facts(requested_at=day(-31), refunded=euros("2000.01"), grounds=[ground], timezone="Europe/Atlantis")

    fields = wrong_fields(await service.ana.post("/v1/policy/evaluate", facts))

    assert sorted(fields) == ["grounds[0].refunded", "refunded", "requested_at", "timezone"]


@on_one_database
async def test_a_fact_that_does_not_exist_is_named(service: Service) -> None:
    facts = some_facts(purchase=a_purchase(discount="5 %"), mood="bad")

    assert sorted(wrong_fields(await service.ana.post("/v1/policy/evaluate", facts))) == ["mood", "purchase.discount"]


@on_one_database
async def test_everybody_at_the_desk_may_ask_what_the_policy_says(service: Service) -> None:
    for name in ("ana", "lou", "cleo", "audrey", "adam"):
        person = getattr(service, name)
        assert done(await person.post("/v1/policy/evaluate", some_facts()))["refund"] == "none"
        (version,) = done(await person.get("/v1/policy"))["items"]
        assert (version["version"], version["effective_from"], version["in_force"]) == (1, None, True)
        assert [clause["id"] for clause in version["clauses"]] == [f"P{number}" for number in range(1, 10)]


# Versions.


async def add_version(service: Service, **changes: Any) -> Json:
    """A version of the policy with other settings, or from another time on."""
    effective = {"effective_from": changes.pop("effective_from")} if "effective_from" in changes else {}
    added: Json = done(await service.adam.post("/v1/policy", {"settings": changes, **effective}), 201)
    return added


async def test_a_new_version_changes_what_it_names_and_is_in_force_at_once(service: Service) -> None:
    response = await service.adam.post("/v1/policy", {"settings": {"window_days": 14}})

    added = done(response, 201)
    assert response.headers["audit-receipt"].startswith("desk:policy/2/")
    first, second = done(await service.ana.get("/v1/policy"))["items"]
    assert second == added
    assert (added["version"], added["in_force"], first["in_force"]) == (2, True, False)
    assert added["effective_from"] == "2026-03-05T12:00:00Z"
    assert added["settings"] == first["settings"] | {"window_days": 14}


async def test_the_window_is_that_of_the_version_in_force_at_the_purchase(service: Service) -> None:
    await add_version(service, window_days=14)

    before = some_facts(requested_at=day(12), purchase=a_fresh_purchase(purchased_at=day(-1 / 86400)))
    since = some_facts(requested_at=day(12), purchase=a_fresh_purchase(purchased_at=day(0)))

    decided = [done(await service.ana.post("/v1/policy/evaluate", facts)) for facts in (before, since)]
    assert [(one["refund"], one["policy"]) for one in decided] == [("none", 1), ("full", 2)]


async def test_a_case_is_judged_by_the_version_of_its_purchase(service: Service) -> None:
    await add_version(service, window_days=14, timezone="Asia/Tokyo")
    service.clock.advance(days=10)

    policies = []
    for number, bought in enumerate((-2, 1)):
        purchase = a_fresh_purchase(f"D-{number}", purchased_at=day(bought))
        case = await service.ana.investigate(purchase=purchase, received_at=day(3))
        await service.ana.add(case["id"], "purchase/checks", reason="seen")
        body = {"remedy": "refund", "amount": euros("2000.00"), "reason": "P5"}
        proposal = done(await service.ana.post(f"/v1/cases/{case['id']}/proposals", body), 201)
        policies.append(proposal["decision"]["policy"])

    assert policies == [1, 2]


async def test_a_later_version_waits_for_its_instant(service: Service) -> None:
    await add_version(service, first_answer_hours=1, effective_from=day(1))
    service.clock.now = NOON + timedelta(days=1, microseconds=-1)
    last = await service.ana.open()
    service.clock.now = NOON + timedelta(days=1)
    first = await service.ana.open()

    hours = {"first_answer": 1, "next_update": 7 * 24}
    due = {one["kind"]: one["due_at"] for one in first["deadlines"]}
    assert due == {
        kind: (service.clock.now + timedelta(hours=one)).isoformat()[:19] + "Z" for kind, one in hours.items()
    }
    assert last["deadlines"][0]["due_at"] == "2026-03-07T11:59:59.999999Z"


async def test_of_two_versions_from_the_same_instant_the_later_counts(service: Service) -> None:
    await add_version(service, first_answer_hours=1)
    added = await add_version(service, first_answer_hours=2)

    assert (added["version"], added["in_force"]) == (3, True)
    assert (await service.ana.open())["deadlines"][0]["due_at"] == "2026-03-05T14:00:00Z"


def tiers_up_to(*limits: str) -> list[Json]:
    tiers = [{"up_to": limit, "roles": ["lead", "approver"], "count": 1} for limit in limits]
    return [*tiers, {"up_to": None, "roles": ["approver"], "count": 2}]


async def a_proposal(service: Service, amount: str) -> tuple[str, Json]:
    """The case, and Ana's proposal to refund this much for an error that Bo verified."""
    case = await service.ana.investigate(purchase=a_purchase())
    case_id: str = case["id"]
    await service.ana.add(case_id, "purchase/checks", reason="seen")
    claim = {"kind": "billing_error", "affected": euros(amount), "statement": "twice"}
    ground = await service.ana.add(case_id, "grounds", **claim)
    await service.bo.add(case_id, f"grounds/{ground['id']}/verifications", verified=True, evidence="statement")
    proposal = await service.ana.add(
        case_id, "proposals", remedy="refund", amount=euros(amount), reason="charged twice"
    )
    return case_id, proposal


async def test_tiers_are_those_in_force_now_at_approval_and_at_payout(service: Service) -> None:
    case_id, proposal = await a_proposal(service, "400.00")
    verdict = {"verdict": "approve", "digest": proposal["digest"], "reason": "due"}
    path = f"/v1/cases/{case_id}/proposals/{proposal['id']}"

    await add_version(service, tiers=tiers_up_to("100.00"))
    assert reasons(await service.lou.post(f"{path}/verdicts", verdict)) == ["within_approval_tier"]

    await add_version(service, tiers=tiers_up_to("400.00"))
    assert done(await service.lou.post(f"{path}/verdicts", verdict), 201)["status"] == "approved"

    await add_version(service, tiers=tiers_up_to("399.99"))
    assert reasons(await service.cleo.post(f"{path}/payouts", {"reason": "go"})) == ["proposal_is_approved"]


async def test_reopening_follows_the_version_in_force_now(service: Service) -> None:
    case = await service.ana.open()
    done(await service.ana.fire(case["id"], "close", resolution="spam"))
    await add_version(service, reopening_days=1)
    service.clock.advance(days=2)

    assert reasons(await service.ana.fire(case["id"], "reopen")) == ["within_reopening_days"]


async def test_no_version_begins_in_the_past(service: Service) -> None:
    body = {"settings": {"window_days": 14}, "effective_from": day(-1)}

    assert wrong_fields(await service.adam.post("/v1/policy", body)) == ["effective_from"]
    assert len(done(await service.adam.get("/v1/policy"))["items"]) == 1


@on_one_database
@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"window_days": 0}, ["settings.window_days"]),
        ({"window_days": 10**30}, ["settings.window_days"]),
        ({"window_days": "7"}, ["settings.window_days"]),
        ({"window_days": 7.5}, ["settings.window_days"]),
        ({"weather": "fine", "mood": 1}, ["settings.weather", "settings.mood"]),
        ({"timezone": "Europe/Atlantis"}, ["settings.timezone"]),
        ({"timezone": "../../etc/passwd"}, ["settings.timezone"]),
        ({"grounds": []}, ["settings.grounds"]),
        ({"grounds": ["billing_error"] * 9}, ["settings.grounds"]),
        ({"grounds": ["bad_mood"]}, ["settings.grounds[0]"]),
        ({"tiers": tiers_up_to("500.00", "100.00")}, ["settings.tiers[1].up_to"]),
        ({"tiers": tiers_up_to("9" * 70_000)}, ["settings.tiers[0].up_to"]),
        ({"tiers": tiers_up_to(*map(str, range(1, 5000)))}, ["settings.tiers"]),
        ({"tiers": [{"up_to": None, "roles": ["agent"], "count": 1}]}, ["settings.tiers[0].roles"]),
        ({"tiers": [{"up_to": None, "roles": ["approver"], "count": 10**400}]}, ["settings.tiers[0].count"]),
        ({"tiers": [{"up_to": None, "roles": ["approver"], "count": 1, "who": "Cleo"}]}, ["settings.tiers[0]"]),
        ({"tiers": 5}, ["settings.tiers"]),
    ],
    ids=lambda given: str(given)[:60],
)
async def test_settings_that_make_no_sense_are_named(settings: Json, fields: list[str], service: Service) -> None:
    assert wrong_fields(await service.adam.post("/v1/policy", {"settings": settings})) == fields


async def test_only_an_admin_changes_the_policy(service: Service) -> None:
    for name in ("ana", "lou", "cleo", "audrey"):
        response = await getattr(service, name).post("/v1/policy", {"settings": {"window_days": 14}})
        (refusal,) = refused(response, 403, "forbidden")["refusals"]
        assert refusal["who"] == ["admin"]
    assert len(done(await service.adam.get("/v1/policy"))["items"]) == 1
