"""Signing in and out, in a browser and by hand."""

from datetime import timedelta

import pytest
from playwright.async_api import expect

from api.passwords import password_command
from api.people import new_link
from tests.api.driving import Service
from tests.pages.browsing import Site, require_accessible, require_tidy, sign_in

PASSWORD = "correct horse battery"


async def with_password(service: Service, name: str = "ana") -> None:
    await service.desk.submit_as_system("operator", await password_command(name, PASSWORD), via="cli", admin=True)


async def a_link(service: Service, name: str = "ana") -> str:
    command, secret = new_link(name, service.clock())
    await service.desk.submit_as_system("operator", command, via="cli", admin=True)
    return f"/sign-in/{secret}"


async def test_whoever_signs_in_comes_to_the_page_they_asked_for(site: Site) -> None:
    await with_password(site.service)
    page = await site.visit()
    await page.goto("/queue?tab=overdue")
    await require_accessible(page)
    await require_tidy(page)

    await page.get_by_label("Address").fill("ana@step-into.example")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()

    await page.wait_for_url("**/queue?tab=overdue")
    await expect(page.get_by_text("Ana", exact=True)).to_be_visible()


async def test_a_wrong_password_says_so_and_no_more(site: Site) -> None:
    await with_password(site.service)
    site.allow("403")
    page = await site.visit()
    for address in ("ana@step-into.example", "nobody@step-into.example", "bo@step-into.example"):
        await page.goto("/sign-in")
        await page.get_by_label("Address").fill(address)
        await page.get_by_label("Password").fill("wrong horse battery")
        await page.get_by_role("button", name="Sign in").click()

        await expect(page.get_by_role("alert")).to_have_text("This address and password do not go together.")
        await expect(page.get_by_label("Address")).to_have_value(address)


async def test_a_link_signs_in_once(site: Site) -> None:
    link = await a_link(site.service)
    page = await site.visit()
    await page.goto(link)
    await require_accessible(page)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/queue")

    site.allow("403")
    second = await site.visit()
    await second.goto(link)
    await second.get_by_role("button", name="Sign in").click()
    await expect(second.locator("main")).to_contain_text("used already")
    await second.goto("/queue")
    await second.wait_for_url("**/sign-in?next=*")


async def test_a_link_that_has_run_out_signs_nobody_in(site: Site) -> None:
    link = await a_link(site.service)
    site.service.clock.advance(days=1, seconds=1)
    site.allow("403")
    page = await site.visit()
    await page.goto(link)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("main")).to_contain_text("run out")


async def test_whoever_signs_out_is_out(site: Site) -> None:
    page = await site.visit("ana")
    await page.goto("/queue")
    await require_accessible(page)
    await page.get_by_text("Ana", exact=True).click()
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("**/sign-in")

    await page.go_back()
    await page.reload()
    await page.wait_for_url("**/sign-in?next=*")


async def test_a_session_ends_by_itself(service: Service) -> None:
    cookie = {"cookie": f"casework={await sign_in(service, 'ana')}"}
    assert (await service.client.get("http://127.0.0.1/queue", headers=cookie)).status_code == 200
    service.clock.now += timedelta(hours=12)
    assert (await service.client.get("http://127.0.0.1/queue", headers=cookie)).status_code == 303


async def test_a_new_password_ends_all_sessions(service: Service) -> None:
    cookie = {"cookie": f"casework={await sign_in(service, 'ana')}"}
    await with_password(service)
    assert (await service.client.get("http://127.0.0.1/queue", headers=cookie)).status_code == 303


async def test_a_session_is_no_token_for_the_api_and_a_token_no_session(service: Service) -> None:
    session = await sign_in(service, "ana")
    assert (await service.signed_in(session).get("/v1/me")).status_code == 401
    cookie = {"cookie": f"casework={service.ana.token}"}
    assert (await service.client.get("http://127.0.0.1/queue", headers=cookie)).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://elsewhere.example"},
        {"origin": "null"},
        {},
    ],
)
async def test_a_form_of_another_site_changes_nothing(service: Service, headers: dict[str, str]) -> None:
    cookie = {"cookie": f"casework={await sign_in(service, 'ana')}"}
    answer = await service.client.post("http://127.0.0.1/sign-out", headers=cookie | headers, data={"csrf": "0"})
    assert answer.status_code == 403
    assert (await service.client.get("http://127.0.0.1/queue", headers=cookie)).status_code == 200


async def test_a_form_without_the_sessions_own_mark_changes_nothing(service: Service) -> None:
    cookie = {"cookie": f"casework={await sign_in(service, 'ana')}", "sec-fetch-site": "same-origin"}
    for mark in ({"other": "1"}, {"csrf": ""}, {"csrf": "0" * 64}):
        answer = await service.client.post("http://127.0.0.1/sign-out", headers=cookie, data=mark)
        assert answer.status_code == 403
    assert (await service.client.get("http://127.0.0.1/queue", headers=cookie)).status_code == 200


async def test_over_plain_http_from_afar_no_password_is_taken(service: Service) -> None:
    said = await service.client.get("http://desk.example/sign-in")
    assert "https://" in said.text
    assert 'name="password"' not in said.text
    form = {"email": "ana@step-into.example", "password": PASSWORD}
    answer = await service.client.post(
        "http://desk.example/sign-in", data=form, headers={"sec-fetch-site": "same-origin"}
    )
    assert answer.status_code == 403


async def test_over_https_the_cookie_is_for_this_host_alone(service: Service) -> None:
    await with_password(service)
    form = {"email": "ana@step-into.example", "password": PASSWORD}
    answer = await service.client.post(
        "https://desk.example/sign-in", data=form, headers={"sec-fetch-site": "same-origin"}
    )
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-casework=")
    assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= {one.strip() for one in cookie.split(";")}


@pytest.mark.parametrize("target", ["//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example", "x"])
async def test_nobody_is_sent_elsewhere_after_signing_in(service: Service, target: str) -> None:
    await with_password(service)
    form = {"email": "ana@step-into.example", "password": PASSWORD, "next": target}
    answer = await service.client.post("https://desk.example/sign-in", data=form, headers={"sec-fetch-site": "none"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_every_page_forbids_whatever_it_does_not_need(service: Service) -> None:
    answer = await service.client.get("https://desk.example/sign-in")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
