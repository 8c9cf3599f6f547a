"""One's own account: a password of one's own, and where one is signed in."""

import secrets
from datetime import timedelta

import pytest
from playwright.async_api import ViewportSize, expect

from api.passwords import password_command
from storage import people
from tests.api.driving import Service, done
from tests.pages.browsing import DESKTOP, PHONE, Site, picture, require_accessible, require_tidy, sign_in
from tests.pages.forms import HERE, post
from workflow.people import SignIn

PASSWORD = "correct horse battery"
ANOTHER = "wonderful green trees"
NARROW: ViewportSize = {"width": 320, "height": 640}


@pytest.fixture(autouse=True)
def _quick_hashes(quick_hashes: None) -> None:
    """With costs that are meant to be felt these would take long."""


async def with_password(service: Service, name: str = "ana") -> None:
    await service.desk.submit_as_system("operator", await password_command(name, PASSWORD), via="cli", admin=True)


async def another_session(service: Service, number: int = 2, name: str = "ana") -> str:
    secret = f"another-session-{number}-of-{name}"
    command = SignIn(
        person_id=name,
        session_id=f"session-{number}-{name}",
        secret_hash=people.secret_hash(secret),
        expires_at=service.clock() + timedelta(hours=12),
    )
    await service.desk.submit_as_system("sign-in", command, via="page")
    return secret


async def is_in(service: Service, secret: str) -> bool:
    answer = await service.client.get(f"{HERE}/account", headers={"cookie": f"casework={secret}"})
    return answer.status_code == 200


async def signs_in(service: Service, password: str) -> bool:
    form = {"email": "ana@step-into.example", "password": password}
    answer = await service.client.post(f"{HERE}/sign-in", data=form, headers={"sec-fetch-site": "same-origin"})
    service.client.cookies.clear()
    return answer.status_code == 303


# In a browser.


async def test_somebody_sets_a_first_password_and_stays_signed_in(site: Site) -> None:
    other = await another_session(site.service)
    page = await site.visit("ana")
    await page.goto("/queue")
    await page.get_by_text("Ana", exact=True).click()
    await page.get_by_role("link", name="Account and password").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Account")
    await expect(page.get_by_text("ana@step-into.example").nth(1)).to_be_visible()
    await expect(page.get_by_label("Present password")).to_have_count(0)

    await page.get_by_label("New password").fill(PASSWORD)
    await page.get_by_label("Once more").fill(PASSWORD)
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("status")).to_contain_text("Your password is set")
    await expect(page.get_by_role("heading", name="Change your password")).to_be_visible()
    await expect(page.get_by_text("This session")).to_have_count(1)
    assert not await is_in(site.service, other)
    assert await signs_in(site.service, PASSWORD)


async def test_a_password_is_changed_without_a_script_by_whoever_knows_it(site: Site) -> None:
    await with_password(site.service)
    site.allow("422")
    page = await site.visit("ana", java_script_enabled=False)
    await page.goto("/account")
    await page.get_by_label("Present password").fill("wrong horse battery")
    await page.get_by_label("New password").fill(ANOTHER)
    await page.get_by_label("Once more").fill(ANOTHER)
    await page.get_by_role("button", name="Change password").click()
    await expect(page.get_by_label("Present password")).to_have_accessible_description("Is not your password")
    assert not await signs_in(site.service, ANOTHER)

    await page.get_by_label("Present password").fill(PASSWORD)
    await page.get_by_label("New password").fill(ANOTHER)
    await page.get_by_label("Once more").fill(ANOTHER)
    await page.get_by_role("button", name="Change password").click()
    await expect(page.get_by_role("status")).to_contain_text("Your password is set")
    assert await signs_in(site.service, ANOTHER)
    assert not await signs_in(site.service, PASSWORD)


async def test_sessions_are_ended_one_by_one_or_all_others_at_once(site: Site) -> None:
    others = [await another_session(site.service, number) for number in (2, 3, 4)]
    site.service.clock.advance(hours=3, seconds=1)
    page = await site.visit("ana")
    await page.goto("/account")
    sessions = page.get_by_role("region", name="Where you are signed in")
    await expect(sessions.get_by_role("listitem")).to_have_count(4)
    await expect(sessions.get_by_role("listitem").nth(0)).to_contain_text("This session begun just now")
    await expect(sessions.get_by_role("listitem").nth(1)).to_contain_text("begun 3 h ago · until 6 Mar 2026, 00:00 UTC")
    for size in (DESKTOP, PHONE, NARROW):
        await page.set_viewport_size(size)
        await require_tidy(page)
        await picture(page, f"account-{size['width']}")
    await require_accessible(page)

    await sessions.get_by_role("button", name="End session-3-ana").click()
    await expect(page.get_by_role("status")).to_contain_text("It has ended")
    assert [await is_in(site.service, one) for one in others] == [True, False, True]

    await page.get_by_role("button", name="End all others").click()
    await expect(sessions.get_by_role("listitem")).to_have_count(1)
    assert not any([await is_in(site.service, one) for one in others])

    await sessions.get_by_role("button", name="End this session").click()
    await page.wait_for_url("**/sign-in")
    await page.goto("/account")
    await page.wait_for_url("**/sign-in?next=*")


async def test_ones_own_tokens_are_listed_and_revoked(site: Site) -> None:
    page = await site.visit("ana")
    await page.goto("/account")
    tokens = page.get_by_role("region", name="Your tokens for the API")
    await expect(tokens.get_by_role("listitem")).to_contain_text("token-ana made just now, by The operator")
    done(await site.service.ana.get("/v1/me"))
    await tokens.get_by_role("button", name="Revoke token-ana").click()
    await expect(tokens).to_contain_text("None. An admin makes one")
    assert (await site.service.ana.get("/v1/me")).status_code == 401


# By hand.


@pytest.mark.parametrize("who", ["ana", "lou", "cleo", "audrey", "adam"])
async def test_everybody_has_an_account(service: Service, who: str) -> None:
    cookie = {"cookie": f"casework={await sign_in(service, who)}"}
    answer = await service.client.get(f"{HERE}/account", headers=cookie)
    assert answer.status_code == 200
    assert f"{who}@step-into.example" in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_nobody_who_is_signed_out_has_one(service: Service) -> None:
    for path in ("/account/password", "/account/sessions/others", "/account/tokens/token-ana/revocation"):
        answer = await service.client.post(f"{HERE}{path}", data={"x": "1"}, headers={"sec-fetch-site": "same-origin"})
        assert answer.headers["location"] == "/sign-in"
    assert (await service.client.get(f"{HERE}/account")).headers["location"] == "/sign-in?next=%2Faccount"
    done(await service.ana.get("/v1/me"))


WEAK = {
    "too short": "eleven char",
    "on everybody's list": "qazwsxedcrfv",
    "a word and a year": "Password2026!",
    "the desk's own name": "Casework1234",
    "one's own address": "ana@step-into.example",
    "one's own name": "Ana-------------1",
    "the same again and again": "horsehorsehorse",
    "along the keyboard": "qwertyuiopas",
    "backwards": "0987654321098",
    "few characters": "aabbaabbccaa",
    "too long": "correct horse " * 100,
}


@pytest.mark.parametrize("weakness", WEAK)
async def test_a_password_that_others_would_guess_is_refused(service: Service, weakness: str) -> None:
    password = WEAK[weakness]
    answer = await post(service, "/account/password", password=password, again=password)
    assert answer.status_code == 422
    assert 'id="wrong-password"' in answer.text
    assert password not in answer.text.replace("ana@step-into.example", "")
    assert not await signs_in(service, password)


async def test_a_password_that_was_mistyped_once_is_not_set(service: Service) -> None:
    answer = await post(service, "/account/password", password=PASSWORD, again=ANOTHER)
    assert answer.status_code == 422
    assert 'id="wrong-again"' in answer.text
    assert not await signs_in(service, PASSWORD)


async def test_spaces_and_other_alphabets_are_part_of_a_password(service: Service) -> None:
    password = "  \u0442\u0440\u0430\u0432\u0430\tgreen \U0001f33f  "
    assert (await post(service, "/account/password", password=password, again=password)).status_code == 303
    assert not await signs_in(service, password.strip())
    assert await signs_in(service, password)


async def test_the_present_password_cannot_be_tried_without_end(service: Service) -> None:
    await with_password(service)
    form = {"present": "wrong horse battery", "password": ANOTHER, "again": ANOTHER}
    for _ in range(10):
        assert (await post(service, "/account/password", **form)).status_code == 422
    answer = await post(service, "/account/password", **form | {"present": PASSWORD})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "90")
    assert not await signs_in(service, ANOTHER)


async def test_the_sessions_and_tokens_of_others_are_out_of_reach(service: Service) -> None:
    bo = await sign_in(service, "bo")
    for token in ("session-bo", "token-bo", "nothing", "%00", "x" * 1000):
        answer = await post(service, f"/account/tokens/{token}/revocation")
        assert answer.status_code in {303, 404}
    assert await is_in(service, bo)
    done(await service.bo.get("/v1/me"))


async def test_a_form_that_is_sent_twice_is_carried_out_once(service: Service) -> None:
    await another_session(service)
    key = secrets.token_hex(16)
    for _ in range(2):
        assert (await post(service, "/account/tokens/session-2-ana/revocation", key=key)).status_code == 303
    changes = done(await service.lou.get("/v1/changes?limit=200"))["items"]
    assert [one["data"] for one in changes if one["type"] == "token_revoked"] == [{"token": "session-2-ana"}]


async def test_a_new_password_is_recorded_without_a_trace_of_it(service: Service) -> None:
    await post(service, "/account/password", password=PASSWORD, again=PASSWORD)
    (change,) = [one for one in done(await service.lou.get("/v1/changes"))["items"] if one["type"] == "password_set"]
    assert (change["actor"], change["person"], change["via"]) == ("person:ana", "ana", "page")
    assert PASSWORD not in str(change)
    assert "argon2" not in str(change)
