"""Samples are drawn by a recorded seed, and anybody who has the log draws the same cases again."""

import hashlib
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from tests.api.driving import Clock, Json, Service, a_purchase, day, done, euros, refused, wrong_fields
from tests.databases import raw_sql

SAMPLES = "/v1/samples"


async def some_cases(service: Service) -> list[str]:
    """Of four kinds; in two of them money was proposed."""
    ids = [(await service.ana.open())["id"] for _ in range(4)]
    ids += [(await service.ana.investigate())["id"] for _ in range(3)]
    for number, affected in enumerate(("300.00", "900.00")):
        case = await service.bo.investigate(purchase=a_purchase(f"D-{number}"))
        await service.bo.add(case["id"], "purchase/checks", reason="seen")
        claim = {"kind": "billing_error", "affected": euros(affected), "statement": "charged twice"}
        ground = await service.bo.add(case["id"], "grounds", **claim)
        await service.ana.add(case["id"], f"grounds/{ground['id']}/verifications", verified=True, evidence="seen")
        await service.bo.add(case["id"], "proposals", remedy="refund", amount=euros(affected), reason="twice")
        ids.append(case["id"])
    return ids


async def drawn(service: Service, **plan: Any) -> Json:
    sample: Json = done(await service.audrey.post(SAMPLES, plan), 201)
    return sample


def cases_of(sample: Json) -> list[str]:
    return [case["id"] for stratum in sample["items"] for case in stratum["cases"]]


async def feed_until(service: Service, position: int) -> list[Json]:
    items = done(await service.lou.get("/v1/events", limit=1000))["items"]
    return [one["event"] for one in items if one["position"] <= position]


def by_the_log_alone(events: list[Json], sample: Json) -> list[str]:
    """As docs/auditing.md tells it to a third party, with nothing of casework's own."""
    state, agent, versions, heads = {}, {}, {}, {}
    amounts: dict[str, Decimal] = {}
    for event in events:
        kind, _, case = event["chain"].partition(":")
        if kind != "case":
            continue
        state[case], versions[case], heads[case] = event["state_after"], event["seq"], event["hash"]
        if event["type"] in {"investigation_started", "assigned"}:
            agent[case] = event["data"].get("assignee", "")
        if event["type"] == "proposed":
            amount = Decimal(event["data"]["amount"]["amount_minor"]) / 100  # all of them in euros
            amounts[case] = max(amounts.get(case, amount), amount)

    def band(case: str) -> str:
        if case not in amounts:
            return "none"
        fitting = [bound for bound in sample["bounds"] if amounts[case] <= Decimal(bound)]
        return f"up to {fitting[0]}" if fitting else f"above {sample['bounds'][-1]}"

    values = {"state": lambda case: state[case], "agent": lambda case: agent.get(case, ""), "amount": band}
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for case in state:
        strata[tuple(values[by](case) for by in sample["strata"])].append(case)
    total = min(sample["size"], len(state))
    shares = {key: total * len(known) // len(state) for key, known in strata.items()}
    by_remainder = sorted(strata, key=lambda key: (-(total * len(strata[key]) % len(state)), key))
    for key in by_remainder[: total - sum(shares.values())]:
        shares[key] += 1
    chosen = [
        case
        for key in sorted(strata)
        for case in sorted(
            strata[key], key=lambda case: hashlib.sha256(f"{sample['seed']}\n{case}".encode()).hexdigest()
        )[: shares[key]]
    ]
    lines = "".join(f"{case} {versions[case]} {heads[case]}\n" for case in chosen)
    assert hashlib.sha256(lines.encode()).hexdigest() == sample["digest"]
    return chosen


@pytest.mark.parametrize("strata", [[], ["state"], ["amount"], ["agent"], ["state", "amount", "agent"]])
async def test_a_third_party_draws_the_same_from_the_log_alone(strata: list[str], service: Service) -> None:
    await some_cases(service)

    sample = await drawn(service, size=5, strata=strata)

    events = await feed_until(service, sample["position"])
    assert by_the_log_alone(events, sample) == cases_of(sample)
    assert (sample["population"], sample["drawn"], sample["matches"]) == (9, 5, True)


async def test_a_sample_stays_the_same_whatever_happens_to_its_cases(service: Service, clock: Clock) -> None:
    for case_id in await some_cases(service):
        await service.ana.read(case_id)
    sample = await drawn(service, size=4, strata=["state"])
    clock.advance(days=1)
    for case_id in cases_of(sample):
        await service.ana.add(case_id, "notes", text="looked at again")
    await some_cases(service)

    again = done(await service.lou.get(f"{SAMPLES}/{sample['id']}"))

    assert again == sample


async def test_a_seed_that_the_auditor_brings_is_recorded_as_theirs(service: Service) -> None:
    await some_cases(service)

    mine, drawn_here = await drawn(service, size=3, seed="2026-03-05/dice:4412"), await drawn(service, size=3)

    assert (mine["seed"], mine["seed_given"]) == ("2026-03-05/dice:4412", True)
    assert (len(drawn_here["seed"]), drawn_here["seed_given"]) == (32, False)
    again = await drawn(service, size=3, seed=mine["seed"], position=mine["position"])
    assert cases_of(again) == cases_of(mine)
    assert again["id"] != mine["id"]


async def test_a_sample_is_of_the_log_as_it_was_at_its_position(service: Service) -> None:
    first = await service.ana.open()
    position = done(await service.lou.get("/v1/events", limit=1000))["next"]
    await some_cases(service)

    sample = await drawn(service, size=5, position=position)

    assert cases_of(sample) == [first["id"]]
    (event,) = done(await service.lou.get(f"/v1/cases/{first['id']}/events"))["items"]
    assert sample["items"][0]["cases"][0]["receipt"] == f"case:{first['id']}/1/{event['hash']}"


async def test_only_those_are_drawn_from_that_were_asked_for(service: Service) -> None:
    await some_cases(service)

    working = await drawn(service, size=9, state="investigating", assignee="bo@step-into.example")
    nobody = await drawn(service, size=9, assignee="")
    future = await drawn(service, size=9, opened_from=day(1))

    assert (working["population"], working["only"]) == (2, {"state": "investigating", "assignee": "bo"})
    assert (nobody["population"], future["population"]) == (4, 0)
    assert future["only"] == {"opened_from": "2026-03-06T12:00:00.000000Z"}


async def test_so_many_of_each_stratum_can_be_asked_for(service: Service) -> None:
    await some_cases(service)

    sample = await drawn(service, size=2, strata=["state"], allocation="per_stratum")

    assert [(one["values"], one["population"], len(one["cases"])) for one in sample["items"]] == [
        ({"state": "investigating"}, 5, 2),
        ({"state": "opened"}, 4, 2),
    ]


async def test_the_same_request_again_draws_nothing_new(service: Service) -> None:
    await some_cases(service)
    first = await service.audrey.post(SAMPLES, {"size": 3}, key="once")
    await some_cases(service)

    second = await service.audrey.post(SAMPLES, {"size": 3}, key="once")

    assert done(second, 201) == done(first, 201)
    assert second.headers["audit-receipt"] == first.headers["audit-receipt"] == first.json()["receipt"]
    assert len(done(await service.lou.get(SAMPLES))["items"]) == 1
    refused(await service.audrey.post(SAMPLES, {"size": 4}, key="once"), 422, "idempotency_key_reused")


async def test_samples_are_listed_newest_first_without_their_cases(service: Service) -> None:
    await service.ana.open()
    made = [await drawn(service, size=size) for size in (1, 2, 3)]

    page = done(await service.lou.get(SAMPLES, limit=2))
    rest = done(await service.lou.get(SAMPLES, limit=2, cursor=page["next"]))

    assert [one["id"] for one in (*page["items"], *rest["items"])] == [one["id"] for one in reversed(made)]
    assert rest["next"] is None
    assert "items" not in page["items"][0]


async def test_only_auditors_draw(service: Service) -> None:
    for person in (service.ana, service.lou, service.cleo, service.adam):
        refused(await person.post(SAMPLES, {"size": 1}), 403, "forbidden")
    assert done(await service.lou.get(SAMPLES))["items"] == []


async def test_an_auditor_who_is_one_no_more_draws_no_more(service: Service) -> None:
    await service.ana.open()
    await drawn(service, size=1)
    done(await service.adam.put("/v1/people/audrey/roles", {"roles": ["agent"]}))

    refused(await service.audrey.post(SAMPLES, {"size": 1}), 403, "forbidden")

    assert len(done(await service.lou.get(SAMPLES))["items"]) == 1
    assert done(await service.lou.get("/v1/refusals"))["items"][0]["command"] == "DrawSample"


async def test_a_plan_that_makes_no_sense_is_refused_field_by_field(service: Service) -> None:
    plans: list[tuple[Json, list[str]]] = [
        ({}, ["size"]),
        ({"size": 0}, ["size"]),
        ({"size": 1001}, ["size"]),
        ({"size": 1, "seed": "two words"}, ["seed"]),
        ({"size": 1, "seed": ""}, ["seed"]),
        ({"size": 1, "strata": ["state", "state"]}, ["strata"]),
        ({"size": 1, "strata": ["shoe size"]}, ["strata[0]"]),
        ({"size": 1, "position": 10**9}, ["position"]),
        ({"size": 1, "assignee": "stranger"}, ["assignee"]),
        ({"size": 1, "more": 1}, ["more"]),
    ]
    for plan, fields in plans:
        assert wrong_fields(await service.audrey.post(SAMPLES, plan)) == fields


async def test_there_is_no_other_sample(service: Service) -> None:
    case = await service.ana.open()
    for name in ("unknown", case["id"]):
        refused(await service.lou.get(f"{SAMPLES}/{name}"), 404, "not_found")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_that_the_log_was_rewritten_is_seen_in_the_sample(service: Service, desk_url: str) -> None:
    case = await service.ana.open()
    sample = await drawn(service, size=1)
    with raw_sql(desk_url) as raw:
        raw.run("DROP TRIGGER events_are_never_changed")
        raw.run("UPDATE events SET hash = ?1 WHERE chain = ?2", "0" * 64, f"case:{case['id']}")

    again = done(await service.lou.get(f"{SAMPLES}/{sample['id']}"))

    assert (sample["matches"], again["matches"]) == (True, False)
