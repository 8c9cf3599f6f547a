"""Links for clients over HTTP: the secret is told once, and whoever repeats the request is told the same."""

import pytest

from tests.api.driving import Service, day, done, reasons, refused, wrong_fields
from workflow.deciding import MAX_CLIENT_LINKS

HOME = "http://127.0.0.1"


async def test_a_link_is_made_with_its_secret_and_listed_without(service: Service) -> None:
    case = await service.ana.open()

    response = await service.ana.post(f"/v1/cases/{case['id']}/client-links", {})

    made = done(response, 201)
    assert made.keys() == {"id", "path", "expires_at"}
    assert made["expires_at"] == day(90).replace("+00:00", "Z")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["audit-receipt"].startswith(f"case:{case['id']}/2/")
    listed = (await service.ana.read(case["id"]))["client_links"]
    assert listed == [{"id": made["id"], "expires_at": made["expires_at"]}]
    secret = made["path"].removeprefix("/c/")
    for told in (f"/v1/cases/{case['id']}", f"/v1/cases/{case['id']}/events", "/v1/events"):
        assert secret not in (await service.lou.get(told)).text


async def test_the_path_opens_the_clients_page_until_it_is_revoked(service: Service) -> None:
    case = await service.ana.open()
    made = await service.ana.add(case["id"], "client-links", expires_at=day(7))
    assert (await service.client.get(f"{HOME}{made['path']}")).status_code == 200

    path = f"/v1/cases/{case['id']}/client-links/{made['id']}/revocation"
    revoked = done(await service.bo.post(path, {"reason": "sent to the wrong address"}), 201)

    assert revoked["client_links"] == []
    assert (await service.client.get(f"{HOME}{made['path']}")).status_code == 404
    refused(await service.bo.post(path, {"reason": "again"}), 404, "not_found")


async def test_the_same_request_under_its_key_is_told_the_same_secret_again(service: Service) -> None:
    case = await service.ana.open()
    path = f"/v1/cases/{case['id']}/client-links"

    first, again = [done(await service.ana.post(path, {}, key="k"), 201) for _ in range(2)]

    assert first == again
    assert (await service.client.get(f"{HOME}{again['path']}")).status_code == 200
    other = done(await service.ana.post(path, {}, key="another"), 201)
    assert other["path"] != first["path"]
    assert len((await service.ana.read(case["id"]))["client_links"]) == 2


@pytest.mark.parametrize("body", [{"expires_at": day(0)}, {"expires_at": day(-1)}, {"expires_at": day(367)}])
async def test_a_link_ends_in_the_future_and_within_a_year(service: Service, body: dict[str, str]) -> None:
    case = await service.ana.open()

    assert wrong_fields(await service.ana.post(f"/v1/cases/{case['id']}/client-links", body)) == ["expires_at"]


async def test_nobody_chooses_the_secret_or_the_id(service: Service) -> None:
    case = await service.ana.open()
    for field in ("id", "secret_hash", "link_id", "path"):
        body = {field: "chosen"}
        assert wrong_fields(await service.ana.post(f"/v1/cases/{case['id']}/client-links", body)) == [field]


async def test_a_case_has_so_many_links_and_no_more(service: Service) -> None:
    case = await service.ana.open()
    for _ in range(MAX_CLIENT_LINKS):
        await service.ana.add(case["id"], "client-links")

    assert reasons(await service.ana.post(f"/v1/cases/{case['id']}/client-links", {})) == ["client_links_are_few"]


async def test_of_no_case_and_of_no_link_nothing_is_found(service: Service) -> None:
    case, other = await service.ana.open(), await service.ana.open()
    made = await service.ana.add(case["id"], "client-links")

    refused(await service.ana.post("/v1/cases/nothing/client-links", {}), 404, "not_found")
    foreign = f"/v1/cases/{other['id']}/client-links/{made['id']}/revocation"
    refused(await service.ana.post(foreign, {"reason": "lost"}), 404, "not_found")
    assert len((await service.ana.read(case["id"]))["client_links"]) == 1


async def test_who_made_a_link_and_who_revoked_it_is_recorded(service: Service) -> None:
    case = await service.ana.open()
    made = await service.ana.add(case["id"], "client-links")
    await service.lou.add(case["id"], f"client-links/{made['id']}/revocation", reason="lost")

    *_, issued, revoked = done(await service.audrey.get(f"/v1/cases/{case['id']}/events"))["items"]
    assert (issued["type"], issued["actor"], issued["data"]["link"]) == ("client_link_issued", "person:ana", made["id"])
    assert (revoked["type"], revoked["actor"]) == ("client_link_revoked", "person:lou")
    assert revoked["texts"] == {"reason": "lost"}
