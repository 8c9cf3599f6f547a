"""Paying through a provider, as approvers see it: begun by a person, ended by the provider's answer."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, expect

from api.payouts import pay
from tests.api.driving import Clock
from tests.api.paying import PAID, SALE, Till, a_paying_desk
from tests.api.stripe_standin import StripeStandIn, open_for_business
from tests.pages.browsing import DESKTOP, PHONE, Site, a_site, picture, require_accessible, require_tidy
from tests.workflow.builders import ANA, a_letter, closing
from workflow.cases import case_number_text
from workflow.states import Resolution


@pytest.fixture
def standin() -> Iterator[StripeStandIn]:
    with open_for_business() as standin:
        standin.sell(SALE, PAID)
        yield standin


@pytest_asyncio.fixture(loop_scope="session")
async def till(desk_url: str, clock: Clock, standin: StripeStandIn, tmp_path: Path) -> AsyncIterator[Till]:
    async with a_paying_desk(desk_url, clock, standin, tmp_path) as service:
        yield Till(service, standin)


@pytest_asyncio.fixture(loop_scope="session")
async def site(till: Till, browser: Browser) -> AsyncIterator[Site]:
    async with a_site(till.service, browser) as site:
        yield site


async def place(till: Till) -> str:
    return f"/cases/{case_number_text((await till.case()).number)}"


async def send(part: Locator, title: str, button: str, reason: str) -> None:
    """One of the forms in a part of the page."""
    await part.get_by_text(title).first.click()
    form = part.locator("form", has=part.page.get_by_role("button", name=button))
    await form.locator("textarea").fill(reason)
    await form.get_by_role("button", name=button).click()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desk", "phone"])
async def test_an_approver_begins_a_payout_and_sees_it_with_the_provider_until_that_answers(
    viewport: dict[str, int], till: Till, site: Site
) -> None:
    proposal = await till.approved()
    page = await site.visit("dirk", viewport=viewport)
    await page.goto(await place(till))

    part = page.locator(f"#{proposal.id}")
    await send(part, "Pay it back through Stripe", "Pay it back through Stripe", "as approved")
    await expect(part).to_contain_text("About to go to the payment provider (Stripe)")

    till.standin.outcome = "pending"
    effect = await till.claim()
    await pay(till.desk, effect)
    await page.goto(await place(till))
    await expect(part).to_contain_text("With the payment provider (Stripe) since")
    await expect(part).to_contain_text("The payment provider has been asked for this refund and has not answered yet")
    await expect(page.locator("[name='data.payment_reference']")).to_have_count(0)
    await require_accessible(page)
    await require_tidy(page)
    await picture(page, f"with-the-provider-{viewport['width']}")
    await page.goto(f"/approvals?at={(await place(till)).removeprefix('/cases/')}/{proposal.id}")
    await expect(page.locator(".facts")).to_contain_text("with the payment provider (Stripe)")
    await picture(page, f"approvals-with-the-provider-{viewport['width']}")

    till.standin.settle("re_1", "failed", "expired_or_canceled_card")
    await pay(till.desk, effect)
    await page.goto(await place(till))
    await expect(part).to_contain_text("reported that the payment for the proposal")
    await expect(part).to_contain_text("expired or canceled card")
    await picture(page, f"payout-failed-{viewport['width']}")


async def test_money_that_came_back_after_closing_is_shown_on_the_case_and_in_the_queue(till: Till, site: Site) -> None:
    proposal = await till.begun()
    await till.work()
    await till.do(ANA, a_letter(), "A")
    await till.do(ANA, closing(Resolution.REMEDY_ACCEPTED), "A")
    page = await site.visit("dirk")
    await page.goto(await place(till))
    part = page.locator(f"#{proposal.id}")
    await send(part, "The money came back", "Record that it came back", "the bank has sent it back")

    await expect(part).to_contain_text("recorded that 300.00 EUR came back")
    await expect(page.locator("#remedies")).to_contain_text("ended: payment failed")
    lead = await site.visit("lou")
    await lead.goto("/queue?tab=mail")
    await expect(lead.locator("main")).to_contain_text(case_number_text((await till.case()).number))
