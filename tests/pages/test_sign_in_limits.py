"""How often somebody may try to sign in, and that nobody is kept out by it who has another way in."""

import asyncio
from datetime import timedelta

import pytest
from httpx2 import ASGITransport, AsyncClient, Response
from playwright.async_api import ViewportSize, expect

from api.limits import Limit
from api.passwords import password_command
from api.people import new_link
from tests.api.driving import Service, done
from tests.pages.browsing import DESKTOP, PHONE, Site, picture, require_accessible, require_tidy

PASSWORD = "correct horse battery"
WRONG = "wrong horse battery"
ANA = "ana@step-into.example"
QUARTER = timedelta(minutes=15)


async def with_password(service: Service, name: str = "ana") -> None:
    await service.desk.submit_as_system("operator", await password_command(name, PASSWORD), via="cli", admin=True)


@pytest.fixture(autouse=True)
def _quick_hashes(quick_hashes: None) -> None:
    """So many attempts with costs that are meant to be felt would take minutes."""


async def attempt(
    service: Service, email: str = ANA, password: str = WRONG, client: AsyncClient | None = None
) -> Response:
    form = {"email": email, "password": password}
    headers = {"sec-fetch-site": "same-origin"}
    return await (client or service.client).post("http://127.0.0.1/sign-in", data=form, headers=headers)


def from_host(service: Service, host: str) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app=service.app, client=(host, 1234)))


async def test_the_eleventh_attempt_at_an_address_has_to_wait(service: Service) -> None:
    await with_password(service)
    for _ in range(10):
        assert (await attempt(service)).status_code == 403

    answer = await attempt(service, password=PASSWORD)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "90"
    assert "Try again in 90 seconds" in answer.text
    assert f'value="{ANA}"' in answer.text  # what was typed is kept

    service.clock.advance(seconds=90)
    assert (await attempt(service)).status_code == 403
    assert (await attempt(service, password=PASSWORD)).status_code == 429
    service.clock.advance(minutes=15)
    assert (await attempt(service, password=PASSWORD)).status_code == 303


async def test_an_address_that_nobody_has_is_limited_alike(service: Service) -> None:
    nobody = "nobody@step-into.example"
    answers = [await attempt(service, nobody) for _ in range(11)]
    assert [one.status_code for one in answers] == [403] * 10 + [429]
    for _ in range(10):
        await attempt(service, "bo@step-into.example")
    known = await attempt(service, "BO@Step-Into.example")
    assert known.status_code == 429
    assert known.text.replace("BO@Step-Into.example", nobody) == answers[-1].text


async def test_many_attempts_at_once_do_not_slip_through(service: Service) -> None:
    await with_password(service)
    answers = await asyncio.gather(*(attempt(service) for _ in range(14)))
    assert sorted(one.status_code for one in answers) == [403] * 10 + [429] * 4


async def test_whoever_gets_it_right_begins_anew(service: Service) -> None:
    await with_password(service)
    for _ in range(2):
        for _ in range(9):
            assert (await attempt(service)).status_code == 403
        assert (await attempt(service, password=PASSWORD)).status_code == 303


async def test_a_host_has_fifty_attempts_at_all_addresses_and_others_are_not_concerned(service: Service) -> None:
    await with_password(service)
    one, other = from_host(service, "203.0.113.7"), from_host(service, "203.0.113.8")
    service.desk.sign_in_limits.wrong_from = Limit(5, QUARTER)  # a tenth of them takes a tenth of the time
    for number in range(5):
        assert (await attempt(service, f"p{number}@step-into.example", client=one)).status_code == 403
    assert (await attempt(service, password=PASSWORD, client=one)).status_code == 429
    assert (await attempt(service, password=PASSWORD, client=other)).status_code == 303


async def test_a_link_signs_in_however_often_others_have_tried(service: Service) -> None:
    answers = [await attempt(service) for _ in range(11)]
    assert answers[-1].status_code == 429
    command, secret = new_link("ana", service.clock())
    await service.desk.submit_as_system("operator", command, via="cli", admin=True)
    signed = await service.client.post(
        f"http://127.0.0.1/sign-in/{secret}", data={"x": "1"}, headers={"sec-fetch-site": "same-origin"}
    )
    assert signed.status_code == 303


async def test_a_desk_that_cannot_tell_counts_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    await with_password(service)
    with monkeypatch.context() as broken:
        broken.setattr("api.pages.sign_in.by_password", fails)
        for _ in range(12):
            assert (await attempt(service)).status_code == 500
    assert (await attempt(service, password=PASSWORD)).status_code == 303


async def fails(*_: object) -> None:
    raise RuntimeError("the disk is full")


async def test_what_failed_is_in_the_log_without_saying_who_and_not_without_end(service: Service) -> None:
    service.desk.sign_in_limits.recorded = Limit(3, QUARTER, keys=1)
    for _ in range(5):
        await attempt(service, "somebody.in.particular@step-into.example")
    items = done(await service.lou.get("/v1/refusals"))["items"]
    assert [(one["actor"], one["code"], one["refusals"]) for one in items] == [
        ("system:sign-in", "sign_in_refused", ["wrong_password"])
    ] * 3
    service.clock.advance(minutes=15)
    await attempt(service, "somebody.in.particular@step-into.example")
    feed = await service.audrey.get("/v1/events?limit=1000")
    assert len(done(await service.lou.get("/v1/refusals"))["items"]) == 4
    assert "somebody" not in feed.text


async def test_hostile_addresses_and_passwords_are_refused_and_no_more(service: Service) -> None:
    hostile = (
        "x" * 10_000,
        "<script>alert(1)</script>@x",
        "\u202egnp.exe@x",
        "'; DROP TABLE people; --",
        "",
    )
    for email in hostile:
        answer = await attempt(service, email, "\U0001f600" * 5000)
        assert answer.status_code == 403
        assert "<script>alert" not in answer.text
    assert (await attempt(service, "a\x00b@x")).status_code == 422


async def test_the_page_of_an_attempt_too_many_says_how_long(site: Site) -> None:
    site.allow("403|429")
    for _ in range(10):
        site.service.desk.sign_in_limits.begin("127.0.0.1", ANA, site.service.clock())
    page = await site.visit()
    for size in (DESKTOP, PHONE, ViewportSize(width=320, height=640)):
        await page.set_viewport_size(size)
        await page.goto("/sign-in")
        await page.get_by_label("Address").fill(ANA)
        await page.get_by_label("Password").fill("wrong horse battery")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("Try again in 90 seconds. A link signs you in")
        await expect(page.get_by_label("Address")).to_have_value(ANA)
        await require_tidy(page)
        await picture(page, f"sign-in-limited-{size['width']}")
    await require_accessible(page)
