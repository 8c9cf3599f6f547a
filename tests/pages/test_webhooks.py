"""An admin lets another system follow the desk, and sees what it was sent."""

from typing import Any

import pytest
from playwright.async_api import expect

from api.webhook_delivery import secret_of
from storage import webhooks
from tests.api.driving import Service
from tests.pages.browsing import DESKTOP, PHONE, Site, picture, require_accessible, require_tidy
from tests.pages.forms import get, post

LONG = "https://hooks.crm.example/" + "a-path-without-an-end/" * 12 + "?token=" + "0123456789abcdef" * 8


@pytest.fixture
def quad9(service: Service) -> None:
    """Whatever name is looked up."""

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["9.9.9.9"]

    service.desk.network.resolve = resolve


async def only_one(service: Service) -> Any:
    (one,) = (await webhooks.endpoints(service.desk.database)).endpoints
    return one


@pytest.mark.usefixtures("quad9")
async def test_an_admin_adds_a_webhook_and_sees_its_secret_once(site: Site) -> None:
    page = await site.visit("adam")
    await page.goto("/admin/webhooks")
    await page.get_by_label("URL").fill("https://crm.example/hook")
    await page.get_by_label("What it is").fill("the CRM")
    await page.get_by_label("casework.case.opened").check()
    await page.get_by_role("button", name="Add").click()

    one = await only_one(site.service)
    secret = await page.get_by_label("The secret").input_value()
    assert secret == secret_of(site.service.desk, one.id, 1)
    await page.reload()
    await expect(page.get_by_label("The secret")).to_have_value(secret)  # the same form again
    assert await only_one(site.service) == one

    await page.get_by_role("link", name="← Webhooks").click()
    await page.get_by_role("link", name="https://crm.example/hook").click()
    await expect(page.get_by_label("The secret")).to_have_count(0)
    await page.get_by_role("button", name="Send a ping").click()
    await expect(page.get_by_role("region", name="Deliveries").get_by_role("row")).to_have_count(2)
    await expect(page.get_by_role("region", name="Deliveries")).to_contain_text("casework.ping")
    await page.get_by_role("button", name="Make a new secret").click()
    await expect(page.get_by_label("The secret")).to_have_value(secret_of(site.service.desk, one.id, 2))

    await page.goto(f"/admin/webhooks/{one.id}")
    await page.get_by_label("is told of what happens").uncheck()
    await page.get_by_role("button", name="Change", exact=True).click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("switched off")
    await page.get_by_role("button", name="Remove").click()
    await expect(page.get_by_text("None. What follows the desk will stand here")).to_be_visible()


@pytest.mark.usefixtures("quad9")
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
async def test_long_urls_leave_the_pages_tidy(site: Site, viewport: Any) -> None:
    form = {"url": LONG, "types": ["casework.case.opened", "casework.message.sent"], "description": "x" * 80}
    await post(site.service, "/admin/webhooks", "adam", **form)
    one = await only_one(site.service)
    await post(site.service, f"/admin/webhooks/{one.id}/pings", "adam")
    await site.service.ana.open()
    page = await site.visit("adam")
    await page.set_viewport_size(viewport)
    for name, path in (("list", "/admin/webhooks"), ("one", f"/admin/webhooks/{one.id}")):
        await page.goto(path)
        await picture(page, f"webhooks-{name}-{viewport['width']}")
        await require_tidy(page)
        await require_accessible(page)


async def test_what_makes_no_sense_is_said_beside_its_field_and_nothing_is_added(service: Service) -> None:
    for url, words in (
        ("https://127.0.0.1/hook", "leads to an address that is not public"),
        ("ftp://crm.example/", "has to be an https:// URL with a host"),
        ("https://a:b@crm.example/", "must not hold a user name or password"),
    ):
        page = await post(service, "/admin/webhooks", "adam", url=url, types=["casework.case.opened"])
        assert page.status_code == 422
        assert words in page.text
    nothing = await post(service, "/admin/webhooks", "adam", url="https://9.9.9.9/")
    assert nothing.status_code == 422
    assert (await get(service, "/admin/webhooks/nothing", "adam")).status_code == 404
    assert (await webhooks.endpoints(service.desk.database)).endpoints == ()
