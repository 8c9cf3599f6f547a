"""Auditors see who looked at what and who changed the desk; what cannot be recorded is not handed out."""

from typing import Any

import pytest

from storage.submissions import OutOfReach, Submission
from tests.api.driving import Clock, Json, Service, a_purchase, done, refused
from tests.api.routes import a_furnished_case
from tests.api.test_exports import taken
from workflow.desk import RecordExport, RecordRead


async def listed(service: Service, path: str) -> list[Json]:
    items: list[Json] = done(await service.audrey.get(path))["items"]
    return items


async def test_what_auditors_read_and_what_anybody_takes_away_is_listed_newest_first(service: Service) -> None:
    parts = await a_furnished_case(service)
    case = f"/v1/cases/{parts['case_id']}"
    for path in (case, f"{case}/events", f"{case}/messages"):
        done(await service.audrey.get(path))
    done(await service.ana.get(case))
    await taken(service.lou, f"{case}/bundle")
    await taken(service.lou, "/v1/exports/cases", state="closed")

    items = await listed(service, "/v1/reads")

    assert [(one["actor"], one["type"], one["data"]["what"]) for one in items] == [
        ("person:lou", "export_taken", "cases"),
        ("person:lou", "case_read", "bundle"),
        ("person:audrey", "case_read", "messages"),
        ("person:audrey", "case_read", "events"),
        ("person:audrey", "case_read", "case"),
    ]
    assert items[0]["data"]["only"] == "state=closed"
    assert items[1]["data"]["case"] == parts["case_id"]
    assert all(one["receipt"].startswith("read:") and one["via"] == "api" for one in items)


async def test_the_list_is_paged_and_nothing_comes_twice(service: Service) -> None:
    case = await service.ana.open()
    for _ in range(5):
        await service.audrey.read(case["id"])
    receipts: list[str] = []
    cursor: Json = {}
    while True:
        page = done(await service.audrey.get("/v1/reads", limit=2, **cursor))
        receipts += [one["receipt"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
        await service.audrey.read(case["id"])  # what comes meanwhile is newer than all that follows

    assert len(receipts) == len({*receipts}) == 5


@pytest.mark.parametrize("path", ["bundle", "export", "case"])
async def test_what_cannot_be_recorded_is_not_handed_out(
    path: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = await a_furnished_case(service)
    case = f"/v1/cases/{parts['case_id']}"
    submit: Any = service.desk.ledger.submit

    def refuse(submission: Submission) -> Any:
        if isinstance(submission.command, RecordRead | RecordExport):
            raise OutOfReach("the disk is full")
        return submit(submission)

    monkeypatch.setattr(service.desk.ledger, "submit", refuse)
    response = await service.audrey.get(
        {"bundle": f"{case}/bundle", "export": "/v1/exports/events", "case": case}[path]
    )

    refused(response, 503, "unavailable")


async def test_every_change_of_people_tokens_and_policy_is_listed(service: Service, clock: Clock) -> None:
    person = done(
        await service.adam.post("/v1/people", {"email": "kim@step-into.example", "name": "Kim", "roles": ["agent"]}),
        201,
    )
    path = f"/v1/people/{person['id']}"
    done(await service.adam.put(f"{path}/roles", {"roles": ["lead"]}))
    token = done(await service.adam.post(f"{path}/tokens", {}), 201)
    done(await service.adam.post(f"{path}/tokens/{token['id']}/revocation", {"reason": "lost"}), 201)
    done(await service.adam.post(f"{path}/disabling", {"reason": "left"}), 201)
    clock.advance(minutes=1)
    done(await service.adam.post("/v1/policy", {"settings": {"window_days": 14}}), 201)

    items = (await listed(service, "/v1/changes"))[:6]

    assert [(one["type"], one["person"]) for one in items] == [
        ("policy_added", None),
        ("person_disabled", person["id"]),
        ("token_revoked", person["id"]),
        ("token_created", person["id"]),
        ("roles_set", person["id"]),
        ("person_added", person["id"]),
    ]
    assert {one["actor"] for one in items} == {"person:adam"}
    assert items[0]["data"]["version"]["settings"]["window_days"] == 14
    assert items[4]["data"] == {"roles": ["lead"]}
    assert token["token"] not in str(items)


async def test_how_the_desk_began_is_listed_too(service: Service) -> None:
    items = done(await service.audrey.get("/v1/changes", limit=200))["items"]

    assert {"desk_created", "lifecycle_adopted", "policy_added", "person_added", "token_created"} <= {
        one["type"] for one in items
    }


async def test_cases_are_no_changes_of_the_desk(service: Service) -> None:
    before = len(await listed(service, "/v1/changes"))

    await service.ana.investigate(purchase=a_purchase())

    assert len(await listed(service, "/v1/changes")) == before
