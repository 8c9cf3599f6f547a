"""What the log tells over HTTP: histories, replays, pictures, the feed over all, and what was refused or read."""

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import pytest

from storage.verify import verify
from tests.api.driving import (
    Clock,
    Json,
    Person,
    Service,
    a_purchase,
    day,
    done,
    euros,
    reasons,
    refused,
    running,
    wrong_fields,
)
from tests.api.routes import a_furnished_case
from workflow.canonical import ZEROS, canonical, leaf_hash
from workflow.lifecycle import LIFECYCLE
from workflow.states import CaseState


async def history(person: Person, case_id: str, **query: Any) -> list[Json]:
    items: list[Json] = done(await person.get(f"/v1/cases/{case_id}/events", **query))["items"]
    return items


# The history of a case.


async def test_a_history_is_told_oldest_first_as_it_was_hashed(service: Service, clock: Clock) -> None:
    case = await service.ana.open(purchase=a_purchase())
    clock.advance(minutes=1)
    done(await service.bo.fire(case["id"], "investigate"))

    response = await service.lou.get(f"/v1/cases/{case['id']}/events")

    told = done(response)["items"]
    assert response.headers["etag"] == '"3"'
    assert [one["seq"] for one in told] == [1, 2, 3]
    assert [one["type"] for one in told] == ["opened", "purchase_changed", "investigation_started"]
    assert [one.get("trigger") for one in told] == [None, None, "investigate"]
    assert [one["actor"] for one in told] == ["person:ana", "person:ana", "person:bo"]
    assert [(one["state_before"], one["state_after"]) for one in told] == [
        (None, "opened"), ("opened", "opened"), ("opened", "investigating"),
    ]  # fmt: skip
    assert [one["at"] for one in told] == ["2026-03-05T12:00:00.000000Z"] * 2 + ["2026-03-05T12:01:00.000000Z"]
    assert {(one["chain"], one["via"], one["lifecycle"], one["policy"]) for one in told} == {
        (f"case:{case['id']}", "api", LIFECYCLE, 1)
    }
    assert told[2]["request"] != told[0]["request"] == told[1]["request"]
    assert told[2]["guards"] == {"assignee_works_cases": True}
    assert told[0]["texts"]["message"] == "They never ran."
    assert told[2]["texts"] == {"reason": "as agreed"}
    prev = ZEROS
    for one in told:
        body = json.loads(one["body"])
        assert canonical(body) == one["body"].encode()
        assert leaf_hash(one["body"].encode()) == one["hash"]
        assert one["prev"] == body["prev"] == prev
        assert {name: body[name] for name in ("seq", "type", "at", "actor", "data")} == {
            name: one[name] for name in ("seq", "type", "at", "actor", "data")
        }
        prev = one["hash"]


async def test_what_people_wrote_is_in_no_event(service: Service) -> None:
    case = await service.ana.open()
    await service.ana.add(case["id"], "notes", text="sounds angry")

    for one in await history(service.ana, case["id"]):
        for word in ("Una", "una@example.com", "banners", "never ran", "angry"):
            assert word not in one["body"]


async def test_a_long_history_is_told_in_parts(service: Service) -> None:
    case = await service.ana.open()
    for number in range(4):
        await service.ana.add(case["id"], "notes", text=str(number))

    first = done(await service.ana.get(f"/v1/cases/{case['id']}/events", limit=2))
    second = done(await service.ana.get(f"/v1/cases/{case['id']}/events", limit=3, after=first["next"]))

    assert [one["seq"] for one in first["items"] + second["items"]] == [1, 2, 3, 4, 5]
    assert "next" not in second
    assert await history(service.ana, case["id"], after=5) == []


async def test_an_event_at_the_same_instant_is_told_a_microsecond_later(service: Service) -> None:
    case = await service.ana.open()
    for _ in range(2):
        await service.ana.add(case["id"], "notes", text="hm")

    assert [one["at"][-7:] for one in await history(service.ana, case["id"])] == ["000000Z", "000001Z", "000002Z"]


# Replay.


async def test_a_case_is_replayed_to_every_version_as_it_was_answered_then(service: Service, clock: Clock) -> None:
    answers = [await service.ana.open(purchase=a_purchase())]
    case_id = answers[0]["id"]
    clock.advance(hours=1)
    answers.append(done(await service.ana.fire(case_id, "investigate")))
    clock.advance(hours=1)
    await service.ana.add(case_id, "messages", text="Which?", direction="outbound", awaits_reply=True)
    answers.append(await service.ana.read(case_id))
    clock.advance(hours=1)
    offer = {"description": "another audience", "answer_by": "2026-03-20"}
    answers.append(done(await service.ana.fire(case_id, "offer_adjustment", **offer)))

    for answer in answers:
        replayed = done(await service.ana.get(f"/v1/cases/{case_id}/replay", version=answer["version"]))
        assert (replayed["version"], replayed["matches_stored"]) == (answer["version"], True)
        assert as_it_was(replayed["case"]) == as_it_was(answer)
        at = done(await service.ana.get(f"/v1/cases/{case_id}/replay", at=answer["changed_at"]))
        assert (at["version"], at["at"]) == (answer["version"], answer["changed_at"])
        assert as_it_was(at["case"]) == as_it_was(answer)
    response = await service.ana.get(f"/v1/cases/{case_id}/replay")
    assert done(response)["case"] == await service.ana.read(case_id)
    assert response.headers["etag"] == f'"{answers[-1]["version"]}"'
    early = await service.ana.get(f"/v1/cases/{case_id}/replay", version=1)
    assert (done(early)["version"], early.headers["etag"]) == (1, f'"{answers[-1]["version"]}"')


def as_it_was(case: Json) -> Json:
    """Without what depends on when it is looked at."""
    return {name: value for name, value in case.items() if name not in {"transitions", "overdue", "deadlines"}}


async def test_a_replay_at_an_instant_includes_it(service: Service, clock: Clock) -> None:
    case = await service.ana.open()
    clock.advance(hours=1)
    done(await service.ana.fire(case["id"], "investigate"))

    async def version_at(moment: str) -> int:
        version: int = done(await service.ana.get(f"/v1/cases/{case['id']}/replay", at=moment))["version"]
        return version

    assert await version_at("2026-03-05T12:00:00Z") == 1
    assert await version_at("2026-03-05T12:59:59.999999Z") == 1
    assert await version_at("2026-03-05T14:00:00+01:00") == 2
    assert await version_at("9000-01-01T00:00:00Z") == 2


async def test_a_replay_that_cannot_be_is_named(service: Service) -> None:
    case = await service.ana.open()
    path = f"/v1/cases/{case['id']}/replay"

    for query, fields in (
        ({"version": 2}, ["version"]),
        ({"version": 0}, ["version"]),
        ({"version": 2**31}, ["version"]),
        ({"at": "yesterday"}, ["at"]),
        ({"at": "2026-03-05T11:59:59.999999Z"}, ["at"]),
        ({"at": "2026-03-05T12:00:00"}, ["at"]),
        ({"version": 1, "at": day(0)}, ["at"]),
    ):
        assert wrong_fields(await service.ana.get(path, **query)) == fields


async def test_a_case_that_moves_meanwhile_still_matches_its_replay(service: Service) -> None:
    case = await service.ana.open()
    path = f"/v1/cases/{case['id']}"

    async def write() -> None:
        for number in range(30):
            done(await service.ana.post(f"{path}/notes", {"text": str(number)}), 201)

    async def replay() -> None:
        for _ in range(30):
            assert done(await service.bo.get(f"{path}/replay"))["matches_stored"]

    await asyncio.gather(write(), replay())


# Pictures.


@pytest.mark.parametrize(
    ("ending", "kind", "begins"),
    [
        ("svg", "image/svg+xml", "<svg"),
        ("mmd", "text/plain; charset=utf-8", "stateDiagram"),
        ("dot", "text/plain; charset=utf-8", "digraph"),
    ],
)
async def test_pictures_show_the_lifecycle_and_a_cases_path(
    ending: str, kind: str, begins: str, service: Service
) -> None:
    case = await service.ana.investigate()

    for path in (f"/v1/cases/{case['id']}/diagram.{ending}", f"/v1/lifecycle/diagram.{ending}"):
        response = await service.lou.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"] == kind
        assert "sandbox" in response.headers["content-security-policy"]
        assert response.text.startswith(begins) or begins in response.text[:200]
    assert (await service.lou.get(f"/v1/cases/{case['id']}/diagram.{ending}")).headers["etag"] == '"2"'


async def test_the_lifecycle_is_told_as_the_log_names_it(service: Service) -> None:
    case = await service.ana.investigate()
    told = done(await service.ana.get("/v1/lifecycle"))

    assert told["hash"] == (await history(service.ana, case["id"]))[-1]["lifecycle"]
    assert told["states"] == list(CaseState)
    edges = {(one["source"], one["trigger"]): one["target"] for one in told["transitions"]}
    remedies = told["states"][2:6]
    assert edges == {
        ("opened", "investigate"): "investigating",
        ("investigating", "offer_adjustment"): "adjustment_offered",
        ("investigating", "schedule_consultation"): "consultation_scheduled",
        ("investigating", "issue_compensation"): "compensation_issued",
        ("investigating", "refund"): "refunded",
        **{(state, "resume"): "investigating" for state in remedies},
        **{(state, "close"): "closed" for state in told["states"][:-1]},
        ("closed", "reopen"): "investigating",
    }


# The feed.


async def whole_feed(person: Person, limit: int) -> list[Json]:
    items: list[Json] = []
    after = 0
    while True:
        page = done(await person.get("/v1/events", after=after, limit=limit))
        assert page["next"] == (page["items"][-1]["position"] if page["items"] else after)
        if not page["items"]:
            return items
        items.extend(page["items"])
        after = page["next"]


@pytest.mark.parametrize("limit", [7, 1000])
async def test_the_feed_is_dense_and_tells_what_the_histories_tell(
    limit: int, service: Service, desk_url: str, clock: Clock
) -> None:
    async with running(desk_url, clock) as other:
        cases = await asyncio.gather(
            *(person.open() for one in (service, other) for person in (one.ana, one.bo) for _ in range(5))
        )
        await asyncio.gather(*(other.lou.post(f"/v1/cases/{case['id']}/notes", {"text": "hm"}) for case in cases))
    refused(await service.audrey.post("/v1/cases", {}), 403, "forbidden")

    feed = await whole_feed(service.lou, limit)

    assert [one["position"] for one in feed] == list(range(1, len(feed) + 1))
    by_chain: dict[str, list[Json]] = {}
    for one in feed:
        assert "texts" not in one["event"]
        by_chain.setdefault(one["event"]["chain"], []).append(one["event"])
    for case in cases:
        told = await history(service.lou, case["id"])
        assert [without_texts(one) for one in told] == by_chain[f"case:{case['id']}"]
    assert {chain.partition(":")[0] for chain in by_chain} == {"desk", "case", "refusal"}


def without_texts(event: Json) -> Json:
    return {name: value for name, value in event.items() if name != "texts"}


async def test_whoever_follows_the_feed_misses_nothing_and_sees_nothing_twice(service: Service) -> None:
    seen: list[int] = []
    done_writing = asyncio.Event()

    async def write() -> None:
        await asyncio.gather(*(person.open() for person in (service.ana, service.bo, service.lou) for _ in range(15)))
        done_writing.set()

    async def follow() -> None:
        after = 0
        while True:
            finished = done_writing.is_set()
            page = done(await service.audrey.get("/v1/events", after=after, limit=10))
            seen.extend(one["position"] for one in page["items"])
            after = page["next"]
            if finished and not page["items"]:
                return
            await asyncio.sleep(0)

    await asyncio.gather(write(), follow())

    assert seen == list(range(1, len(seen) + 1))
    assert len([one for one in await whole_feed(service.lou, 1000) if one["event"]["type"] == "opened"]) == 45


# What was refused.


async def refusals(service: Service) -> list[Json]:
    items: list[Json] = done(await service.lou.get("/v1/refusals"))["items"]
    return items


async def test_four_kinds_of_refused_attempts_are_recorded(service: Service) -> None:
    parts = await a_furnished_case(service)
    case_id, path = parts["case_id"], f"/v1/cases/{parts['case_id']}"
    version = (await service.ana.read(case_id))["version"]

    refused(await service.ana.fire(case_id, "refund", proposal=None, payment_reference="T-1"), 403, "forbidden")
    refused(await service.ana.fire(case_id, "reopen"), 409, "no_such_transition")
    assert reasons(await service.ana.fire(case_id, "close", resolution="explained")) == ["client_is_answered"]
    verdict = {"verdict": "approve", "digest": "another", "reason": "due"}
    refused(await service.cleo.post(f"{path}/proposals/{parts['proposal_id']}/verdicts", verdict), 409, "wrong_digest")
    refused(await service.audrey.post(f"{path}/notes", {"text": "hm"}), 403, "forbidden")
    refused(await service.adam.get(path), 403, "forbidden")
    refused(await service.ana.get("/v1/refusals"), 403, "forbidden")
    refused(await service.ana.send("POST", f"{path}/transitions", {"trigger": "refund"}), 403, "forbidden")

    told = [
        (one["code"], one["command"], one["trigger"], one["actor"], one["case"], one["refusals"])
        for one in await refusals(service)
    ]
    assert told == [
        ("forbidden", "Fire", "refund", "person:ana", case_id, ["role"]),
        ("forbidden", "GET /v1/refusals", None, "person:ana", None, ["role"]),
        ("forbidden", "GET /v1/cases/{case_id}", None, "person:adam", case_id, ["role"]),
        ("forbidden", "AddNote", None, "person:audrey", case_id, ["role"]),
        ("wrong_digest", "GiveVerdict", None, "person:cleo", case_id, ["digest_matches"]),
        ("guard_refused", "Fire", "close", "person:ana", case_id, ["client_is_answered"]),
        ("no_such_transition", "Fire", "reopen", "person:ana", case_id, ["no_such_transition"]),
        ("forbidden", "Fire", "refund", "person:ana", case_id, ["role"]),
    ]
    assert {one["version"] for one in await refusals(service) if one["case"]} == {version}
    assert all(re.fullmatch(r"refusal:[0-9a-f-]{36}/1/[0-9a-f]{64}", one["receipt"]) for one in await refusals(service))
    assert (await service.ana.read(case_id))["version"] == version


async def test_other_faults_are_not_recorded(service: Service) -> None:
    await service.ana.open(purchase=a_purchase())
    case = await service.ana.open()
    path = f"/v1/cases/{case['id']}/transitions"
    body = {"trigger": "investigate", "reason": "r"}

    refused(await service.signed_in("wrong").post(path, body), 401, "unauthorized")
    refused(await service.ana.post("/v1/cases/nowhere/transitions", body), 404, "not_found")
    refused(await service.audrey.get("/v1/cases/nowhere"), 404, "not_found")
    refused(await service.ana.post(path, body, if_match=None), 428, "precondition_required")
    refused(await service.ana.post(path, body, if_match='"9"'), 412, "stale_version")
    refused(await service.ana.post(path, {}), 422, "invalid")
    refused(
        await service.ana.send("POST", path, body, if_match="*", headers={"content-type": "text/plain"}),
        415,
        "unsupported_media_type",
    )
    refused(await service.ana.post("/v1/cases", b"x" * 1_000_001), 413, "too_large")
    differs = a_purchase(paid=euros("1.00"))
    refused(await service.ana.put(f"/v1/cases/{case['id']}/purchase", differs), 409, "purchase_differs")

    assert await refusals(service) == []


async def test_refusals_are_told_newest_first_in_pages(service: Service) -> None:
    case = await service.ana.open()
    for trigger in ("reopen", "resume", "refund"):
        await service.cleo.fire(
            case["id"], trigger, **({"reason_code": "payment_failed"} if trigger == "resume" else {})
        )
    await service.ana.fire(case["id"], "reopen")

    first = done(await service.audrey.get("/v1/refusals", limit=2))
    second = done(await service.audrey.get("/v1/refusals", limit=2, cursor=first["next"]))

    told = [one["trigger"] for one in first["items"] + second["items"]]
    assert told == ["reopen", "resume", "reopen"]
    assert second["next"] is None


# What was read.


async def test_what_an_auditor_reads_of_a_case_is_recorded(service: Service) -> None:
    parts = await a_furnished_case(service)
    path = f"/v1/cases/{parts['case_id']}"
    version = (await service.ana.read(parts["case_id"]))["version"]
    endings = {
        "": "case", "/transitions": "transitions", "/events": "events", "/replay": "replay", "/messages": "messages",
        "/attachments": "attachments", f"/attachments/{parts['attachment_id']}": "attachment",
        "/diagram.svg": "diagram", "/diagram.mmd": "diagram", "/diagram.dot": "diagram",
    }  # fmt: skip

    for ending in endings:
        assert (await service.audrey.get(path + ending)).status_code == 200
        assert (await service.lou.get(path + ending)).status_code == 200
    refused(await service.audrey.get("/v1/cases/nowhere"), 404, "not_found")
    done(await service.audrey.get("/v1/cases"))

    feed = await whole_feed(service.lou, 1000)
    read = [one["event"] for one in feed if one["event"]["type"] == "case_read"]
    assert [one["data"] for one in read] == [
        {"case": parts["case_id"], "version": version, "what": what} for what in endings.values()
    ]
    assert {one["actor"] for one in read} == {"person:audrey"}
    assert (await service.lou.read(parts["case_id"]))["version"] == version


async def test_mail_that_opened_nothing_is_shown_to_whoever_reads_cases(service: Service) -> None:
    assert done(await service.ana.get("/v1/set-aside")) == {"items": [], "next": None}


async def test_after_all_that_the_log_is_whole(service: Service, clock: Clock) -> None:
    parts = await a_furnished_case(service)
    clock.now += timedelta(days=1)
    for person in (service.ana, service.audrey, service.adam):
        await person.get(f"/v1/cases/{parts['case_id']}")
        await person.post(f"/v1/cases/{parts['case_id']}/notes", {"text": "hm"}, key="k")

    report = await verify(service.desk.database)

    assert report.faults == ()
    assert report.counts["events"] > 25
