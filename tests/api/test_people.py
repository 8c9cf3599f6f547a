"""People and their tokens over HTTP: an admin's routes, and that whoever may no longer act does not, at once."""

import asyncio
from typing import Any

import pytest

from tests.api.driving import Clock, Json, Service, an_inquiry, day, done, reasons, refused, running, wrong_fields


async def people(service: Service) -> dict[str, Json]:
    return {one["id"]: one for one in done(await service.ana.get("/v1/people"))["items"]}


async def a_token(service: Service, person_id: str = "bo", **body: Any) -> Json:
    token: Json = done(await service.adam.post(f"/v1/people/{person_id}/tokens", body), 201)
    return token


async def test_everybody_is_known_by_name_address_and_roles(service: Service) -> None:
    known = await people(service)

    assert [one["name"] for one in known.values()] == ["Adam", "Ana", "Audrey", "Bo", "Cleo", "Dirk", "Eli", "Lou"]
    bo = {"id": "bo", "name": "Bo", "email": "bo@step-into.example", "roles": ["agent"], "active": True}
    assert known["bo"] == bo
    assert done(await service.bo.get("/v1/me")) == bo


async def test_somebody_new_can_work_as_soon_as_they_have_a_token(service: Service) -> None:
    body = {"email": "Kim.O'Hara@Example.com", "name": "Kim", "roles": ["lead", "agent"]}
    response = await service.adam.post("/v1/people", body)

    kim = done(response, 201)
    assert response.headers["audit-receipt"].startswith(f"desk:person:{kim['id']}/1/")
    assert kim == {
        "id": kim["id"],
        "name": "Kim",
        "email": "kim.o'hara@example.com",
        "roles": ["agent", "lead"],
        "active": True,
    }
    token = await a_token(service, kim["id"])
    case = done(await service.signed_in(token["token"]).post("/v1/cases", an_inquiry()), 201)
    (opened,) = done(await service.ana.get(f"/v1/cases/{case['id']}/events"))["items"]
    assert opened["actor"] == f"person:{kim['id']}"


async def test_an_address_is_one_persons_however_it_is_written(service: Service) -> None:
    body = {"email": "BO@Step-Into.example", "name": "Another", "roles": ["agent"]}
    assert wrong_fields(await service.adam.post("/v1/people", body)) == ["email"]

    body = {"email": "new@step-into.example", "name": "New", "roles": ["agent"]}
    answers = await asyncio.gather(*(service.adam.post("/v1/people", body) for _ in range(5)))

    assert sorted(one.status_code for one in answers) == [201, 422, 422, 422, 422]
    assert len(await people(service)) == 9


async def test_the_address_of_a_client_can_be_somebodys_here(service: Service) -> None:
    await service.ana.open(client={"name": "Una", "email": "una@example.com"})

    done(await service.adam.post("/v1/people", {"email": "una@example.com", "name": "Una", "roles": ["agent"]}), 201)


async def test_an_address_is_one_persons_in_another_process_too(service: Service, desk_url: str, clock: Clock) -> None:
    body = {"email": "new@step-into.example", "name": "New", "roles": ["agent"]}
    async with running(desk_url, clock) as other:
        answers = await asyncio.gather(*(one.adam.post("/v1/people", body) for one in (service, other)))

    assert sorted(one.status_code for one in answers) == [201, 422]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"email": "kim"}, ["email"]),
        ({"email": "k" * 250 + "@example.com"}, ["email"]),
        ({"name": " "}, ["name"]),
        ({"roles": []}, ["roles"]),
        ({"roles": ["boss"]}, ["roles[0]"]),
        ({"roles": ["system"]}, ["roles"]),
        ({"roles": ["agent", "client"]}, ["roles"]),
        ({"roles": "agent"}, ["roles"]),
        ({"id": "kim"}, ["id"]),
    ],
    ids=str,
)
async def test_what_is_wrong_with_a_person_is_named(changes: Json, fields: list[str], service: Service) -> None:
    body = {"email": "kim@example.com", "name": "Kim", "roles": ["agent"]} | changes

    assert wrong_fields(await service.adam.post("/v1/people", body)) == fields


async def test_new_roles_count_at_the_very_next_request(service: Service, desk_url: str, clock: Clock) -> None:
    case = await service.bo.investigate()
    done(await service.bo.get("/v1/cases"))
    async with running(desk_url, clock) as other:
        done(await other.bo.post(f"/v1/cases/{case['id']}/notes", {"text": "hm"}), 201)
        changed = done(await service.adam.put("/v1/people/bo/roles", {"roles": ["admin", "auditor"]}))
        assert changed["roles"] == ["auditor", "admin"]

        for one in (service, other):
            refused(await one.bo.post(f"/v1/cases/{case['id']}/notes", {"text": "hm"}), 403, "forbidden")
            done(await one.bo.get("/v1/refusals"))
        done(await service.adam.put("/v1/people/bo/roles", {"roles": ["approver"]}))
        for one in (service, other):
            refused(await one.bo.get("/v1/refusals"), 403, "forbidden")
            assert done(await one.bo.post(f"/v1/cases/{case['id']}/notes", {"text": "hm"}), 201)


async def test_the_answer_to_a_change_shows_what_its_author_may_do_now(service: Service) -> None:
    case = await service.bo.investigate()
    done(await service.adam.put("/v1/people/bo/roles", {"roles": ["approver"]}))

    changed = done(await service.bo.put(f"/v1/cases/{case['id']}/category", {"category": "delay"}))

    close = next(one for one in changed["transitions"] if one["trigger"] == "close")
    assert [why["code"] for why in close["refusals"]] == ["role"]


async def test_the_same_roles_again_change_nothing(service: Service) -> None:
    response = await service.adam.put("/v1/people/bo/roles", {"roles": ["agent", "agent"]})

    assert done(response)["roles"] == ["agent"]
    assert "audit-receipt" not in response.headers


# Tokens.


async def test_a_token_is_shown_once(service: Service) -> None:
    response = await service.adam.post("/v1/people/bo/tokens", {"expires_at": "2026-04-01T00:00:00+02:00"})

    token = done(response, 201)
    assert response.headers["cache-control"] == "no-store"
    assert token["token"].startswith("cw_")
    assert len(token["token"]) > 40
    assert token["expires_at"] == "2026-03-31T22:00:00Z"
    for path in ("/v1/people", "/v1/me", "/v1/events?limit=1000", "/v1/refusals"):
        assert token["token"] not in (await service.lou.get(path)).text
    assert done(await service.signed_in(token["token"]).get("/v1/me"))["id"] == "bo"


async def test_a_token_that_is_revoked_is_refused_at_the_very_next_request(
    service: Service, desk_url: str, clock: Clock
) -> None:
    case = await service.ana.open()
    note = f"/v1/cases/{case['id']}/notes"
    token = await a_token(service)
    async with running(desk_url, clock) as other:
        bo = [one.signed_in(token["token"]) for one in (service, other)]
        for one in bo:
            done(await one.post(note, {"text": "hm"}), 201)
            done(await one.get("/v1/me"))

        revocation = f"/v1/people/bo/tokens/{token['id']}/revocation"
        assert done(await service.adam.post(revocation, {"reason": "lost"}), 201)["active"]

        for one in bo:
            refused(await one.post(note, {"text": "hm"}), 401, "unauthorized")
            refused(await one.post(note, {"text": "hm"}, key="k"), 401, "unauthorized")
            refused(await one.post(note, {}), 401, "unauthorized")
            refused(await one.send("POST", f"/v1/cases/{case['id']}/transitions", {}), 401, "unauthorized")
            refused(await one.get(f"/v1/cases/{case['id']}"), 401, "unauthorized")
    done(await service.bo.post(note, {"text": "with another token"}), 201)
    refused(await service.adam.post(revocation, {"reason": "again"}), 404, "not_found")


async def test_a_token_of_another_person_is_not_found(service: Service) -> None:
    for name in ("ana", "nobody"):
        refused(
            await service.adam.post(f"/v1/people/{name}/tokens/token-bo/revocation", {"reason": "lost"}),
            404,
            "not_found",
        )


async def test_whoever_is_disabled_is_refused_at_the_very_next_request(
    service: Service, desk_url: str, clock: Clock
) -> None:
    case = await service.bo.investigate()
    async with running(desk_url, clock) as other:
        for one in (service, other):
            done(await one.bo.post(f"/v1/cases/{case['id']}/notes", {"text": "hm"}), 201)

        gone = done(await service.adam.post("/v1/people/bo/disabling", {"reason": "left"}), 201)

        assert (gone["active"], gone["roles"]) == (False, ["agent"])
        for one in (other, service):
            refused(await one.bo.post(f"/v1/cases/{case['id']}/notes", {"text": "hm"}), 401, "unauthorized")
            refused(await one.bo.get("/v1/me"), 401, "unauthorized")
    assert reasons(await service.lou.put(f"/v1/cases/{case['id']}/assignee", {"assignee": "bo"}, if_match="*")) == [
        "assignee_works_cases"
    ]
    assert reasons(await service.adam.post("/v1/people/bo/tokens", {})) == ["person_is_active"]
    assert reasons(await service.adam.post("/v1/people/bo/disabling", {"reason": "left"})) == ["person_is_active"]
    assert reasons(await service.adam.put("/v1/people/bo/roles", {"roles": ["lead"]})) == ["person_is_active"]
    assert not (await people(service))["bo"]["active"]


async def test_a_token_runs_out_at_its_instant(service: Service, clock: Clock) -> None:
    case = await service.ana.open()
    token = await a_token(service, expires_at=day(1))
    bo = service.signed_in(token["token"])
    note = f"/v1/cases/{case['id']}/notes"

    clock.advance(days=1, microseconds=-1)
    done(await bo.get("/v1/me"))
    done(await bo.post(note, {"text": "hm"}), 201)
    clock.advance(microseconds=1)
    refused(await bo.post(note, {"text": "hm"}), 401, "unauthorized")
    refused(await bo.get("/v1/me"), 401, "unauthorized")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_what_is_wrong_comes_before_what_is_refused(service: Service) -> None:
    done(await service.adam.post("/v1/people/bo/disabling", {"reason": "left"}), 201)

    assert wrong_fields(await service.adam.post("/v1/people/bo/tokens", {"expires_at": day(-1)})) == ["expires_at"]
    assert wrong_fields(await service.adam.put("/v1/people/bo/roles", {"roles": ["client"]})) == ["roles"]
    assert wrong_fields(await service.adam.post("/v1/people/ana/tokens", {"expires_at": day(0)})) == ["expires_at"]


async def test_a_wrong_token_forgets_nobody_else(service: Service) -> None:
    case = await service.ana.open()
    known = set(service.desk.callers)

    refused(
        await service.signed_in("cw_wrong").post(f"/v1/cases/{case['id']}/notes", {"text": "hm"}), 401, "unauthorized"
    )

    assert set(service.desk.callers) == known != set()


async def test_an_admin_can_be_an_agent_as_well(service: Service) -> None:
    done(await service.adam.put("/v1/people/adam/roles", {"roles": ["admin", "agent"]}))

    assert (await service.adam.investigate())["assignee"] == "adam"
