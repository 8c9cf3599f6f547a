"""Letters on the case page: drafted from the record, changed and sent, with no script needed."""

import html
import re

from playwright.async_api import Locator, Page, expect

from tests.api.driving import Json, Service, day, done
from tests.pages.browsing import PHONE, Site, require_accessible, require_tidy
from tests.pages.visiting import Visitor


async def an_offer(service: Service) -> Json:
    case = await service.ana.investigate()
    data = {"description": "another audience", "answer_by": day(7)[:10]}
    moved: Json = done(await service.ana.fire(case["id"], "offer_adjustment", **data))
    return moved


async def test_a_letter_is_drafted_changed_and_sent(site: Site) -> None:
    case = await an_offer(site.service)
    without_script = await site.visit("ana", viewport=PHONE, java_script_enabled=False)
    await draft_in_german(without_script, case)
    ana = await site.visit("ana")
    text = await draft_in_german(ana, case)
    await require_tidy(ana)
    await require_accessible(ana)

    await text.fill("Guten Tag Una,\n\nwir bieten Ihnen etwas an.")
    await ana.get_by_role("button", name="Send to the client").click()

    await expect(ana.locator("#done")).to_contain_text("a letter of the kind adjustment")
    sent = done(await site.service.ana.get(f"/v1/cases/{case['id']}/messages"))[-1]
    assert (sent["letter"], sent["language"]) == ("adjustment", "de")
    assert sent["text"] == "Guten Tag Una,\n\nwir bieten Ihnen etwas an."


async def draft_in_german(page: Page, case: Json) -> Locator:
    await page.goto(f"/cases/{case['number']}")
    await page.locator("#letters select[name=language]").select_option("de")
    await page.get_by_role("button", name="Draft it").click()
    text = page.get_by_label("To the client")
    await expect(text).to_have_value(re.compile(r"Guten Tag Una,[\s\S]*another audience[\s\S]*Ana\nStep-Into"))
    return text


async def test_a_letter_whose_basis_has_gone_is_given_back_as_it_was_written(service: Service) -> None:
    case = await an_offer(service)
    ana = Visitor(service, "ana")
    page = (await ana.get(f"/cases/{case['number']}", letter="adjustment", language="en")).text
    fields = dict(re.findall(r'type="hidden" name="(letter|basis|language)" value="([^"]*)"', page))
    assert fields == {"letter": "adjustment", "basis": "3", "language": "en"}
    done(await service.ana.fire(case["id"], "resume", reason_code="declined"))
    version = (await service.ana.read(case["id"]))["version"]

    form = fields | {"text": "We offer you something.", "key": "k", "version": version}
    answer = await ana.send(f"/cases/{case['number']}/reply", form)

    assert answer.status_code == 409
    returned = html.unescape(answer.text)
    assert "Nothing is recorded that such a letter could state" in returned
    assert "We offer you something." in returned
    assert 'name="letter" value="adjustment"' in returned


async def test_a_letter_that_is_none_is_refused_and_one_that_cannot_be_drafted_is_said_to_be_so(
    service: Service,
) -> None:
    case = await an_offer(service)
    ana = Visitor(service, "ana")
    version = (await service.ana.read(case["id"]))["version"]
    for letter, basis, language in (("gift", "3", "en"), ("adjustment", "x", "en"), ("adjustment", "3", "tlh")):
        form = {"letter": letter, "basis": basis, "language": language, "text": "Hello", "version": version}
        answer = await ana.send(f"/cases/{case['number']}/reply", form | {"key": f"{letter}{basis}{language}"})
        assert answer.status_code == 422

    page = (await ana.get(f"/cases/{case['number']}", letter="refund_full", language="tlh")).text

    assert "Refund full: what is recorded does not support such a letter now." in page
    assert 'name="basis"' not in page


async def test_where_nothing_is_decided_nothing_is_offered(service: Service) -> None:
    case = await service.ana.open()

    assert 'id="letters"' not in (await Visitor(service, "ana").get(f"/cases/{case['number']}")).text
    offered = await an_offer(service)
    assert 'id="letters"' not in (await Visitor(service, "audrey").get(f"/cases/{offered['number']}")).text
