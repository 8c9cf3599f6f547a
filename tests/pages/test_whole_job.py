"""From a mail to a closed case, in browsers alone: each role does its whole job, and nobody does another's."""

from playwright.async_api import Page, expect

from api.mail_intake import take_in
from api.passwords import password_command
from storage.keys import ensure_key
from tests.api.driving import done, euros
from tests.pages.browsing import Site
from tests.pages.test_audit_desk import shown
from tests.pages.test_case import fill, saying
from tests.pages.test_sign_in import PASSWORD, a_link

MAIL = b"""\
From: =?utf-8?q?Una_=C5=A0ev=C4=8Denko?= <una@example.com>
To: support@localhost
Date: Thu, 05 Mar 2026 11:58:00 +0000
Message-ID: <twice@example.com>
Subject: Charged twice in March
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Hello,

my card was charged twice for the launch package, 590.00 EUR each time.

Una
"""


async def signed_in_by_link(site: Site, name: str) -> Page:
    page = await site.visit()
    await page.goto(await a_link(site.service, name))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    return page


async def signed_in_by_password(site: Site, name: str) -> Page:
    await site.service.desk.submit_as_system("operator", await password_command(name, PASSWORD), via="cli", admin=True)
    page = await site.visit()
    await page.goto("/")
    await page.get_by_label("Address").fill(f"{name}@step-into.example")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    return page


async def test_each_role_does_its_whole_job_from_the_mail_to_the_closed_case(site: Site) -> None:
    service = site.service
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    case_id = str((await take_in(service.desk, MAIL, arrived_at=service.clock())).case_id)
    number = (await service.ana.read(case_id))["number"]

    kim = await an_administrator_lets_somebody_in(site)
    await the_agent_works_the_case(kim)
    una = await the_client_answers(site, await a_link_for_the_client(kim, number))
    await expect(kim.locator("form[action$='/refund'] button:enabled")).to_have_count(0)  # they proposed it themselves
    await an_approver_decides(site)
    await another_pays(site, number)
    await the_lead_gives_it_to_somebody_else(site, number)
    ana = await another_agent_closes_it(site)
    await una.get_by_role("link", name="Back to your case").click()
    await expect(una.locator("main")).to_contain_text("The second charge is on its way back.")
    await the_auditor_looks_into_it(site, number, (await service.ana.read(case_id))["version"])
    await the_agent_answers_the_auditor(ana)

    stands = await service.ana.read(case_id)
    assert (stands["state"], stands["resolution"], stands["assignee"]) == ("closed", "remedy_accepted", "ana")
    assert stands["purchase"]["refunded"] == euros("590.00")
    history = done(await service.lou.get(f"/v1/cases/{case_id}/events"))["items"]
    assert {one["via"] for one in history} == {"mail", "page"}
    who = {one["type"]: one["actor"].removeprefix("person:") for one in history}
    assert (who["verdict_given"], who["refunded"], who["assigned"], who["closed"]) == ("cleo", "dirk", "lou", "ana")


async def an_administrator_lets_somebody_in(site: Site) -> Page:
    adam = await signed_in_by_password(site, "adam")
    await adam.get_by_label("Name").fill("Kim Ödegård")
    await adam.get_by_label("Address").fill("kim@step-into.example")
    await adam.get_by_label("agent").check()
    await adam.keyboard.press("Enter")
    await adam.get_by_role("button", name="Make a link").click()
    kim = await site.visit()
    await kim.goto(await adam.get_by_label("The link").input_value())
    await kim.get_by_role("button", name="Sign in").click()
    await kim.wait_for_url("**/queue")
    return kim


async def the_agent_works_the_case(kim: Page) -> None:
    """Found among what is nobody's."""
    await kim.get_by_role("link", name="Unassigned 1").click()
    await kim.get_by_role("link", name="Charged twice in March").click()
    await expect(kim.locator("#conversation")).to_contain_text("my card was charged twice")
    await fill(kim, "investigate", "Investigate", reason="billing is mine")
    bought = {
        "purchased_at": "2026-02-03",
        "service_started_at": "2026-02-05",
        "deliverables_provided_at": "2026-02-13",
    }
    paid = {"reference": "INV-77", "package": "launch", "paid__amount": "1180.00"}
    await fill(kim, "purchase", "purchase", **paid, **{name: f"{day}T10:00" for name, day in bought.items()})
    await expect(kim.locator("#money")).to_contain_text("1,180.00 EUR")
    await fill(kim, "check", "Check", reason="the ledger of February")
    ground = {"kind": "billing_error", "affected__amount": "590", "statement": "charged twice"}
    await fill(kim, "ground", "Record a ground", **ground)
    await fill(kim, "verify", "Verify", verified="yes", evidence="bank statement with both lines")
    await fill(kim, "propose-refund", "Propose a refund", amount__amount="590.00", reason="the second charge")
    await expect(kim.locator("#next")).to_contain_text(saying("Cleo, Dirk or Eli can"))


async def a_link_for_the_client(kim: Page, number: str) -> str:
    await kim.get_by_role("button", name="Make a link for the client").click()
    link = await kim.locator("input.address").input_value()
    await kim.goto(f"/cases/{number}")
    return link


async def the_client_answers(site: Site, link: str) -> Page:
    """Told where it stands, and nothing of what is being proposed."""
    una = await site.visit()
    await una.goto(link)
    await expect(una.locator("main")).to_contain_text("Charged twice in March")
    await expect(una.locator("main")).not_to_contain_text("second charge")
    await una.get_by_label("Your message").fill("Any news? Дякую!")
    await una.get_by_role("button", name="Send message").click()
    await expect(una.locator("main")).to_contain_text("Any news? Дякую!")
    return una


async def an_approver_decides(site: Site) -> None:
    cleo = await signed_in_by_link(site, "cleo")
    await cleo.get_by_role("navigation", name="Main").get_by_role("link", name="Approvals 1").click()
    await expect(cleo.get_by_role("region", name="One in full")).to_contain_text("Verified by Kim Ödegård")
    await cleo.get_by_label("Why").fill("The bank says so.")
    await cleo.get_by_role("button", name="Approve 590.00 EUR").click()
    await expect(cleo.get_by_role("status")).to_contain_text("It can be settled now.")


async def another_pays(site: Site, number: str) -> None:
    dirk = await signed_in_by_link(site, "dirk")
    await dirk.goto(f"/cases/{number}")
    await fill(dirk, "refund", "Refund", data__payment_reference="TX-19", reason="transferred")
    await expect(dirk.locator("#head")).to_contain_text("refunded")


async def the_lead_gives_it_to_somebody_else(site: Site, number: str) -> None:
    lou = await signed_in_by_password(site, "lou")
    await lou.goto("/board")
    await expect(lou.locator("main")).to_contain_text("Charged twice in March")
    await lou.goto(f"/cases/{number}")
    assigning = lou.locator("details.opening:has(select[name=assignee])")
    await assigning.locator("summary").click()
    await assigning.get_by_label("Who").select_option("ana")
    await assigning.get_by_label("Reason").fill("Kim is away")
    await assigning.get_by_role("button").click()
    await expect(lou.locator("#done")).to_contain_text("Ana")
    await lou.goto("/insights")
    await expect(lou.locator("main")).to_contain_text("590.00")


async def another_agent_closes_it(site: Site) -> Page:
    ana = await signed_in_by_link(site, "ana")
    await ana.get_by_role("link", name="Charged twice in March").click()
    await fill(ana, "reply", text="The second charge is on its way back.")
    await fill(ana, "close", "Close", data__resolution="remedy_accepted", reason="settled")
    await expect(ana.locator("#head")).to_contain_text("closed")
    return ana


async def the_auditor_looks_into_it(site: Site, number: str, last: int) -> None:
    """Step by step, with the chain verified; and something has to be asked."""
    await site.service.desk.sequencer.settle()
    audrey = await signed_in_by_password(site, "audrey")
    await audrey.goto(f"/audit-desk/cases/{number}?at=1")
    for at in range(2, last + 1):
        await audrey.keyboard.press("]")
        await shown(audrey, at)
    await expect(audrey.locator("main")).to_contain_text("closed")
    await audrey.get_by_text("Record a finding about this event").click()
    await audrey.get_by_label("How serious").select_option("minor")
    await audrey.get_by_label("What you found").fill("Who told the bank?")
    await audrey.get_by_role("button", name="Record it").click()
    await audrey.goto(f"/audit-desk/cases/{number}/verification")
    await expect(audrey.locator("main")).to_contain_text("does not prove")


async def the_agent_answers_the_auditor(ana: Page) -> None:
    await ana.goto("/audit-desk/findings")
    await ana.get_by_role("link", name="Who told the bank?").click()
    await ana.get_by_label("What there is to say").fill("Dirk did, by transfer TX-19.")
    await ana.get_by_role("button", name="Answer").click()
    await expect(ana.locator("main")).to_contain_text("Dirk did, by transfer TX-19.")
