"""An admin's endpoints over HTTP: what can be one, whose secret is told when, and what each was sent."""

from typing import Any

import pytest

from storage import webhooks
from tests.api.driving import Json, Service, done, refused, wrong_fields
from workflow.webhooks import MAX_WEBHOOKS, TYPES

ENDPOINT = {"url": "https://9.9.9.9/hook", "types": ["casework.case.opened"], "description": "the CRM"}


async def added(service: Service, **changes: Any) -> Json:
    webhook: Json = done(await service.adam.post("/v1/webhooks", ENDPOINT | changes), 201)
    return webhook


async def test_the_secret_is_told_when_it_is_made_and_never_again(service: Service) -> None:
    response = await service.adam.post("/v1/webhooks", ENDPOINT)
    webhook = done(response, 201)
    at = f"/v1/webhooks/{webhook['id']}"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["audit-receipt"].startswith("desk:webhooks/1/")

    shown = done(await service.adam.get(at))
    assert shown == {name: value for name, value in webhook.items() if name != "secret"}
    assert done(await service.audrey.get("/v1/webhooks")) == {"items": [shown], "types": [*TYPES]}
    rotated = done(await service.adam.post(f"{at}/secrets", None), 201)
    assert (rotated["secret_generation"], rotated["secret"] != webhook["secret"]) == (2, True)
    feed = (await service.lou.get("/v1/events", limit=1000)).text
    for secret in (webhook["secret"], rotated["secret"]):
        assert secret.startswith("whsec_")
        assert secret not in feed


async def test_the_same_request_under_the_same_key_tells_the_same_secret(service: Service) -> None:
    first = done(await service.adam.post("/v1/webhooks", ENDPOINT, key="k"), 201)
    await service.adam.send("DELETE", f"/v1/webhooks/{first['id']}")

    assert done(await service.adam.post("/v1/webhooks", ENDPOINT, key="k"), 201) == first
    assert (await webhooks.endpoints(service.desk.database)).endpoints == ()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *(
            ({"url": url}, "url")
            for url in (
                *("http://9.9.9.9/", "ftp://9.9.9.9/", "https://", "//9.9.9.9/", "https://[::1", "https://9.9.9.9:0/"),
                *("https://a@9.9.9.9/", "https://a:b@9.9.9.9/", "https://9.9.9.9/#a", "https://9.9.9.9\\@127.0.0.1/"),
                *("https://127.0.0.1/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/latest/meta-data/"),
                *("https://9.9.9.9/ä", "https://9.9.9.9/a b", "https://9.9.9.9/\n", "https://9.9.9.9:99999/"),
            )
        ),
        ({"types": []}, "types"),
        ({"types": ["casework.ping"]}, "types"),
        ({"types": ["casework.case.opened", "*"]}, "types"),
        ({"secret": "whsec_mine"}, "secret"),
    ],
)
async def test_what_cannot_be_an_endpoint_is_named_by_its_field(service: Service, changes: Json, field: str) -> None:
    assert wrong_fields(await service.adam.post("/v1/webhooks", ENDPOINT | changes)) == [field]
    webhook = await added(service)
    changed = {**ENDPOINT, "active": True, **changes}
    assert wrong_fields(await service.adam.put(f"/v1/webhooks/{webhook['id']}", changed)) == [field]
    assert done(await service.adam.get(f"/v1/webhooks/{webhook['id']}"))["url"] == ENDPOINT["url"]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_desk_has_no_more_endpoints_than_it_can_serve(service: Service) -> None:
    for number in range(MAX_WEBHOOKS):
        await added(service, url=f"https://9.9.9.9/{number}")

    assert wrong_fields(await service.adam.post("/v1/webhooks", ENDPOINT)) == ["url"]


async def test_only_an_admin_changes_endpoints_and_an_auditor_reads_them(service: Service) -> None:
    at = f"/v1/webhooks/{(await added(service))['id']}"
    for path in ("secrets", "pings"):
        refused(await service.audrey.post(f"{at}/{path}", None), 403, "forbidden")
    refused(await service.lou.get(at), 403, "forbidden")
    refused(await service.adam.get("/v1/webhooks/nothing"), 404, "not_found")
    refused(await service.adam.post("/v1/webhooks/nothing/pings", None), 404, "not_found")
    refused(await service.adam.send("DELETE", "/v1/webhooks/nothing"), 404, "not_found")


async def test_what_was_sent_is_listed_and_can_be_sent_again(service: Service) -> None:
    before = (await service.ana.open())["id"]
    end = done(await service.lou.get("/v1/events", limit=1000))["next"]
    webhook = await added(service)
    at = f"/v1/webhooks/{webhook['id']}"
    case = (await service.ana.open())["id"]
    done(await service.adam.post(f"{at}/pings", None), 201)

    first = done(await service.adam.get(f"{at}/deliveries", limit=1))
    (ping,) = first["items"]
    (told,) = done(await service.audrey.get(f"{at}/deliveries", cursor=first["next"]))["items"]
    assert (ping["type"], ping["case"], ping["status"]) == ("casework.ping", None, "waiting")
    assert (told["type"], told["case"], told["attempts"], told["failed"]) == ("casework.case.opened", case, 0, [])

    again = done(await service.adam.post(f"{at}/replays", {"after": end}), 201)
    assert (again["deliveries"], again["after"], again["next"]) == (1, end, None)
    everything = done(await service.adam.post(f"{at}/replays", {"from": "2026-03-05T00:00:00Z"}), 201)
    assert everything["deliveries"] == 2
    listed = done(await service.adam.get(f"{at}/deliveries"))["items"]
    assert [one["case"] for one in listed] == [before, None, case]
    assert told in listed  # the same message, under the same name
    for body in ({}, {"after": 1, "from": "2026-03-05T00:00:00Z"}, {"after": -1}):
        assert (await service.adam.post(f"{at}/replays", body)).status_code == 422
