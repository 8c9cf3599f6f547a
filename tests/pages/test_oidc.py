"""Signing in by an identity provider: a real one in a browser, and one that lies in every way it can."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
import pytest_asyncio
from joserfc.jwk import ECKey
from playwright.async_api import Browser, Page, expect
from starlette.responses import Response
from structlog.testing import capture_logs

from api.limits import Limit
from api.people import new_identity
from storage import people
from tests.api.driving import Clock, Service, running
from tests.api.provider import CLIENT, SECRET, Company, open_for_business
from tests.pages.browsing import Site, a_site, picture, require_accessible, require_tidy
from workflow.people import DisablePerson, UnlinkIdentity

HERE = "http://127.0.0.1"


async def by_operator(service: Service, command: Any) -> None:
    await service.desk.submit_as_system("operator", command, via="cli", admin=True)


async def linked(service: Service, company: Company, name: str = "ana") -> None:
    await by_operator(service, new_identity(name, company.url, company.subject))


@pytest_asyncio.fixture(loop_scope="session")
async def company(clock: Clock) -> AsyncIterator[Company]:
    async with open_for_business(Company(clock)) as company:
        yield company


def settings_of(company: Company, **more: Any) -> dict[str, Any]:
    return {
        "oidc_issuer": company.url,
        "oidc_client_id": CLIENT,
        "oidc_client_secret": SECRET,
        "oidc_name": "Step Into ID",
    } | more


@pytest_asyncio.fixture(loop_scope="session")
async def service(desk_url: str, clock: Clock, tmp_path: Path, company: Company) -> AsyncIterator[Service]:
    async with running(desk_url, clock, key_folder=tmp_path / "keys", **settings_of(company)) as service:
        yield service


class Browsing:
    """A browser's part, by hand: what it was told to keep, and where it was sent."""

    def __init__(self, service: Service, company: Company, host: str = HERE) -> None:
        self.service = service
        self.company = company
        self.host = host
        self.cookie = ""
        self.state = ""

    async def begin(self, path: str = "/oidc/begin") -> httpx2.Response:
        answer = await self.service.client.get(f"{self.host}{path}")
        self.service.client.cookies.clear()  # what is kept, a test says itself
        if answer.status_code == 303:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
            self.state = self.company.sent(answer.headers["location"])["state"]
        return answer

    async def come_back(self, **query: str | None) -> httpx2.Response:
        asked = {name: value for name, value in ({"code": "good", "state": self.state} | query).items() if value}
        headers = {"cookie": self.cookie} if self.cookie else {}
        return await self.service.client.get(f"{self.host}/oidc/callback?{urlencode(asked)}", headers=headers)


async def signing_in(service: Service, company: Company, **query: str | None) -> httpx2.Response:
    browser = Browsing(service, company)
    await browser.begin()
    return await browser.come_back(**query)


async def why_not(service: Service, company: Company, **query: str | None) -> str:
    """Why nobody was signed in, as the log has it."""
    with capture_logs() as logs:
        answer = await signing_in(service, company, **query)
    assert answer.status_code == 403, answer.text
    assert "casework=" not in answer.headers.get("set-cookie", "")
    (said,) = (one["why"] for one in logs if one["event"] == "oidc_refused")
    return str(said)


async def whoever(service: Service, answer: httpx2.Response) -> str:
    """The person whose session begins with this answer."""
    assert answer.status_code == 303, answer.text
    cookies = [one.partition(";")[0] for one in answer.headers.get_list("set-cookie")]
    secret = next(one.removeprefix("casework=") for one in cookies if one.startswith("casework="))
    found = await people.by_token(service.desk.database, people.secret_hash(secret))
    assert found is not None
    return found[0].id


# A provider that tells the truth.


async def test_whoever_is_linked_is_signed_in_and_comes_to_the_page_they_asked_for(
    service: Service, company: Company
) -> None:
    await linked(service, company)
    browser = Browsing(service, company)
    answer = await browser.begin("/oidc/begin?next=%2Fqueue%3Ftab%3Doverdue")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=600"} <= {one.strip() for one in cookie.split(";")}
    wanted = company.wanted
    assert (wanted["response_type"], wanted["scope"], wanted["client_id"]) == ("code", "openid", CLIENT)
    assert wanted["redirect_uri"] == f"{HERE}/oidc/callback"
    assert len({wanted["state"], wanted["nonce"], wanted["code_challenge"]}) == 3

    answer = await browser.come_back()

    assert await whoever(service, answer) == "ana"
    assert answer.headers["location"] == "/queue?tab=overdue"
    assert any(one.startswith('casework-oidc="";') for one in answer.headers.get_list("set-cookie"))


async def test_an_address_makes_nobody_known(service: Service, company: Company) -> None:
    """The provider says that it is Ana's address, and that it has verified it."""
    answer = await signing_in(service, company)
    assert answer.status_code == 403
    assert company.subject in answer.text
    assert company.url in answer.text
    assert "ana@step-into.example" not in answer.text


async def test_whoever_is_unlinked_or_disabled_is_known_no_more(service: Service, company: Company) -> None:
    await linked(service, company)
    answer = await signing_in(service, company)
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("casework=")).partition(";")[0]
    ((identity, _, _),) = await people.identities_of(service.desk.database, "ana")
    await by_operator(service, UnlinkIdentity(person_id="ana", identity_id=identity))
    assert (await service.client.get(f"{HERE}/queue", headers={"cookie": cookie})).status_code == 303
    assert "does not know you yet" in (await signing_in(service, company)).text

    await linked(service, company, "bo")
    assert await whoever(service, await signing_in(service, company)) == "bo"
    await by_operator(service, DisablePerson(person_id="bo"))
    assert "does not know you yet" in (await signing_in(service, company)).text


async def test_what_is_not_believed_signs_nobody_in(service: Service, company: Company) -> None:
    await linked(service, company)
    company.claims = lambda claims: claims | {"nonce": "another"}
    assert await why_not(service, company) == "nonce"


async def test_what_the_provider_publishes_is_asked_for_once(service: Service, company: Company) -> None:
    await linked(service, company)
    for _ in range(3):
        assert (await signing_in(service, company)).status_code == 303
    assert sorted(company.asked) == sorted(["/.well-known/openid-configuration", "/jwks", *["/token"] * 3])


async def test_another_key_is_asked_for_but_not_at_anybodys_bidding(service: Service, company: Company) -> None:
    await linked(service, company)
    assert (await signing_in(service, company)).status_code == 303
    company.key = ECKey.generate_key("P-256", auto_kid=True)
    assert await why_not(service, company) == "signature"
    assert company.asked.count("/jwks") == 1
    provider = service.desk.provider
    assert provider is not None
    provider.keys_read_at -= 61
    assert (await signing_in(service, company)).status_code == 303


# Answers that are none.


ANSWERS: dict[str, tuple[dict[str, str | None], str]] = {
    "of another attempt": ({"state": "another"}, "state"),
    "of no attempt": ({"state": None}, "state"),
    "without a code": ({"code": None}, "no_code"),
    "with somebody else's code": ({"code": "stolen"}, "code"),
    "a refusal": ({"code": None, "error": "access_denied", "error_description": "<b>"}, "refused_by_the_provider"),
    "a refusal of no attempt": ({"code": None, "state": None, "error": "<b>"}, "refused_by_the_provider"),
    "of another provider": ({"iss": "https://id.elsewhere.example"}, "iss_of_the_answer"),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_answer_that_is_none_signs_nobody_in(service: Service, company: Company, answer: str) -> None:
    await linked(service, company)
    query, why = ANSWERS[answer]
    assert await why_not(service, company, **query) == why


async def test_an_answer_is_good_once_for_the_browser_that_asked_and_not_for_long(
    service: Service, company: Company
) -> None:
    await linked(service, company)
    browser = Browsing(service, company)
    await browser.begin()
    kept = browser.cookie
    other = Browsing(service, company)
    await other.begin()
    with capture_logs() as logs:
        browser.cookie = ""
        assert (await browser.come_back()).status_code == 403  # somebody else's browser
        browser.cookie = other.cookie
        assert (await browser.come_back()).status_code == 403
        browser.cookie = kept[:-6] + "AAAAAA"
        assert (await browser.come_back()).status_code == 403
        browser.cookie = "casework-oidc=%00!"
        assert (await browser.come_back()).status_code == 403
    assert [one["why"] for one in logs if one["event"] == "oidc_refused"] == [
        "no_attempt",
        "state",
        "no_attempt",
        "no_attempt",
    ]
    company.wanted["nonce"] = ""
    browser.cookie = kept
    await browser.begin()
    kept = browser.cookie
    assert (await browser.come_back()).status_code == 303
    browser.cookie = kept
    with capture_logs() as logs:
        assert (await browser.come_back()).status_code == 403
        await browser.begin()
        service.clock.advance(minutes=10)
        assert (await browser.come_back()).status_code == 403
    assert [one["why"] for one in logs if one["event"] == "oidc_refused"] == ["used_already", "too_late"]


async def test_what_failed_is_limited_by_host_and_recorded(service: Service, company: Company) -> None:
    service.desk.sign_in_limits.wrong_from = Limit(3, timedelta(minutes=15))
    for _ in range(3):
        assert await why_not(service, company, code="stolen") == "code"
    answer = await signing_in(service, company)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "300")
    items = (await service.lou.get("/v1/refusals")).json()["items"]
    assert [(one["command"], one["refusals"]) for one in items] == [("GET /oidc/callback", ["wrong_provider"])] * 3


async def test_without_the_provider_there_are_other_ways_in(service: Service, company: Company) -> None:
    company.answers["/token"] = Response("no", 502)
    answer = await signing_in(service, company)
    assert answer.status_code == 503
    assert "Step Into ID does not answer at the moment. A password or a link signs you in all the same." in answer.text
    assert 'name="password"' in answer.text


# Where people are sent back.


async def test_over_a_name_that_anybody_can_write_nobody_is_sent_back(service: Service) -> None:
    answer = await service.client.get("https://desk.example/oidc/begin")
    assert answer.status_code == 503
    assert "CASEWORK_PUBLIC_URL" in answer.text
    assert (await service.client.get("http://desk.example/oidc/begin")).status_code == 403


async def test_people_are_sent_back_to_the_address_that_is_set(
    desk_url: str, clock: Clock, tmp_path: Path, company: Company
) -> None:
    public = settings_of(company, public_url="https://desk.example/")
    async with running(desk_url, clock, key_folder=tmp_path / "keys", **public) as service:
        await linked(service, company)
        browser = Browsing(service, company, "https://desk.example")
        answer = await browser.begin()
        assert company.wanted["redirect_uri"] == "https://desk.example/oidc/callback"
        assert answer.headers["set-cookie"].startswith("__Host-casework-oidc=")
        assert "Secure" in answer.headers["set-cookie"]
        answer = await browser.come_back()
        assert any(one.startswith("__Host-casework=") for one in answer.headers.get_list("set-cookie"))


async def test_a_desk_without_a_provider_says_so(desk_url: str, clock: Clock, tmp_path: Path) -> None:
    async with running(desk_url, clock, key_folder=tmp_path / "keys") as service:
        assert "/oidc/begin" not in (await service.client.get(f"{HERE}/sign-in")).text
        for path in ("/oidc/begin", "/oidc/callback?code=x&state=y"):
            assert (await service.client.get(f"{HERE}{path}")).status_code == 404


# A real provider, in a real browser.


@pytest.fixture(scope="session")
def mock() -> Iterator[str]:
    """`oidc-provider-mock`, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    claims = [{"sub": "kim", "email": "ana@step-into.example"}, {"sub": "lou-at-the-company"}]
    arguments = [one for each in claims for one in ("--user-claims", json.dumps(each))]
    process = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "oidc_provider_mock",
            "--port",
            str(port),
            "--require-nonce",
            *arguments,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


async def answers(url: str) -> None:
    async with httpx2.AsyncClient() as client:
        for _ in range(150):
            try:
                await client.get(f"{url}/.well-known/openid-configuration")
            except httpx2.HTTPError:
                await asyncio.sleep(0.1)
            else:
                return
    pytest.fail("the provider does not start")


@pytest_asyncio.fixture(loop_scope="session")
async def company_site(mock: str, desk_url: str, clock: Clock, tmp_path: Path, browser: Browser) -> AsyncIterator[Site]:
    await answers(mock)
    clock.now = max(clock.now, datetime.now(UTC))  # the provider's clock is the real one
    settings: dict[str, Any] = {"oidc_issuer": mock, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET}
    settings |= {"oidc_name": "Step Into ID", "key_folder": tmp_path / "keys"}
    async with running(desk_url, clock, **settings) as service, a_site(service, browser) as site:
        site.elsewhere = [mock, "https://cdn.jsdelivr.net/"]  # which the provider's own pages ask for a style
        site.allow("ERR_FAILED|403")
        yield site


async def to_the_provider(page: Page) -> None:
    await page.route("https://cdn.jsdelivr.net/**", lambda route: route.abort())
    await page.goto("/queue?tab=overdue")
    await require_accessible(page)
    await require_tidy(page)
    await picture(page, "sign-in-provider")
    await page.get_by_role("link", name="Sign in with Step Into ID").click()


@pytest.mark.parametrize("javascript", [True, False])
async def test_with_a_real_provider_somebody_unknown_is_shown_what_an_admin_links(
    company_site: Site, mock: str, javascript: bool
) -> None:
    page = await company_site.visit(java_script_enabled=javascript)
    await page.route("https://cdn.jsdelivr.net/**", lambda route: route.abort())
    if javascript:
        await to_the_provider(page)
    else:
        await page.goto("/sign-in?next=%2Fqueue%3Ftab%3Doverdue")
        await page.get_by_role("link", name="Sign in with Step Into ID").click()
    await page.get_by_role("button", name="kim").first.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("The desk does not know you yet")
    await expect(page.locator("dd").nth(0)).to_have_text(mock)
    await expect(page.locator("dd").nth(1)).to_have_text("kim")
    if javascript:
        await require_accessible(page)
        await require_tidy(page)
        await picture(page, "oidc-unknown")

    admin = await company_site.visit("adam")
    await admin.goto("/admin/people/ana")
    await admin.get_by_text("Link an identity").click()
    await expect(admin.get_by_label("Issuer")).to_have_value(mock)
    await admin.get_by_label("Subject").fill("kim")
    await admin.get_by_role("button", name="Link", exact=True).click()
    await expect(admin.get_by_role("status")).to_contain_text("signs in as them from now on")

    await page.get_by_role("link", name="Back to signing in").click()
    await page.goto("/sign-in?next=%2Fqueue%3Ftab%3Doverdue")
    await page.get_by_role("link", name="Sign in with Step Into ID").click()
    await page.get_by_role("button", name="kim").first.click()
    await page.wait_for_url("**/queue?tab=overdue")
    await expect(page.get_by_text("Ana", exact=True)).to_be_visible()


async def test_whoever_changes_their_mind_at_the_provider_is_back_where_they_were(company_site: Site) -> None:
    page = await company_site.visit()
    await to_the_provider(page)
    await page.get_by_role("button", name="Deny").click()
    await expect(page.get_by_role("alert")).to_have_text(
        "Step Into ID did not confirm who you are. Nobody was signed in."
    )
    await expect(page.get_by_label("Password")).to_be_visible()
