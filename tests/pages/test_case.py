"""The case page: in a browser as people work with it, and by hand as nobody should."""

import asyncio
import gzip
import html
import re
from collections.abc import Mapping
from typing import Any

import pytest
from httpx2 import Response
from playwright.async_api import Locator, Page, expect

from tests.api.driving import Json, Service, a_fresh_purchase, a_purchase, done, euros
from tests.pages.browsing import DESKTOP, PHONE, Site, look_away, picture, require_accessible, require_tidy, sign_in
from workflow import commands as c
from workflow.states import Direction, MailKind

NARROW = {"width": 320, "height": 640}
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "{{ 7 * 7 }} ${7*7}",
    "\N{RIGHT-TO-LEFT OVERRIDE}txet\N{POP DIRECTIONAL FORMATTING}",
    "سلام שלום 日本語",
)


UNFOLD = "document.querySelectorAll('details').forEach((one) => { one.removeAttribute('name'); one.open = true })"


# In a browser.


async def opened(page: Page, case: Json, **query: str) -> None:
    asked = "?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else ""
    await page.goto(f"/cases/{case['number']}{asked}")


def form(page: Page, name: str) -> Locator:
    """The form of an action, wherever it stands."""
    return page.locator(f'form[action$="/{name}"]')


async def fill(page: Page, name: str, summary: str = "", **fields: str) -> None:
    """Open the form of an action, type, and send it."""
    opening = page.locator(f"details.opening:has(form[action$='/{name}'])").first
    if summary and await opening.get_attribute("open") is None:
        await opening.locator("summary").click()
    for field, value in fields.items():
        await put(form(page, name).first, field.replace("__", "."), value)
    await form(page, name).first.locator("button.main").click()


async def put(within: Locator, name: str, value: str) -> None:
    field = within.locator(f'[name="{name}"]').first
    kind = await field.evaluate("(one) => one.type")
    if kind == "select-one":
        await field.select_option(value)
    elif kind in {"radio", "checkbox"}:
        await within.locator(f'[name="{name}"][value="{value}"]').check()
    else:
        await field.fill(value)


async def test_a_case_goes_from_opened_to_closed_by_clicking(site: Site) -> None:
    case = await site.service.ana.open(purchase=a_purchase())
    ana = await site.visit("ana")
    await opened(ana, case)
    await expect(ana.locator("#conversation")).to_contain_text("They never ran.")

    await fill(ana, "investigate", "Investigate", reason="billing is mine")
    await expect(ana.locator("#done")).to_contain_text("took the case on")
    await expect(ana.locator("#head")).to_contain_text("investigating")
    await fill(ana, "check", "Check", reason="the ledger of March")
    await expect(ana.locator("#money")).to_contain_text("✓ by")
    await fill(
        ana,
        "ground",
        "Record a ground",
        kind="billing_error",
        affected__amount="590",
        statement="charged twice",
    )
    await fill(ana, "verify", "Verify", verified="yes", evidence="bank statement with both lines")
    await expect(ana.locator("#policy")).to_contain_text("Refund of up to 590.00 EUR")
    await fill(ana, "propose-refund", "Propose a refund", amount__amount="590.00", reason="the second charge")
    await expect(ana.locator("#proposals")).to_contain_text("1 more approval is needed")
    await expect(ana.locator("#next")).to_contain_text(saying("Cleo, Dirk or Eli can"))

    read = await site.service.cleo.read(case["id"])
    proposal = read["proposals"][0]
    verdict = {"verdict": "approve", "digest": proposal["digest"], "reason": "as the bank says"}
    await site.service.cleo.add(case["id"], f"proposals/{proposal['id']}/verdicts", **verdict)

    dirk = await site.visit("dirk")
    await opened(dirk, case)
    await fill(dirk, "refund", "Refund", data__payment_reference="TX-19", reason="transferred")
    await expect(dirk.locator("#done")).to_contain_text("590.00 EUR went back")
    await expect(dirk.locator("#head")).to_contain_text("refunded")

    await ana.reload()
    await fill(ana, "reply", text="The second charge is on its way back.")
    await expect(ana.locator("#messages article").last).to_contain_text("is on its way back")
    await fill(ana, "close", "Close", data__resolution="remedy_accepted", reason="settled")
    await expect(ana.locator("#head")).to_contain_text("closed")
    stands = await site.service.ana.read(case["id"])
    assert (stands["state"], stands["resolution"]) == ("closed", "remedy_accepted")
    assert stands["purchase"]["refunded"] == euros("590.00")
    history = done(await site.service.ana.get(f"/v1/cases/{case['id']}/events"))["items"]
    by_page = [one["type"] for one in history if one["via"] == "page"]
    assert len(by_page) == len(history) - 3  # it was opened, with its purchase, and approved through the API


async def test_what_cannot_be_done_says_why_and_what_would_help(site: Site) -> None:
    case = await site.service.ana.investigate(purchase=a_fresh_purchase())
    page = await site.visit("ana")
    await opened(page, case)

    not_now = page.locator(".notnow").first
    await expect(not_now).to_contain_text("Nobody has checked the facts of the purchase against the books")
    await expect(not_now).to_contain_text(saying("Cleo, Dirk or Eli can"))
    await expect(not_now).to_contain_text(saying("Reopen only from closed"))
    await not_now.get_by_role("link", name="check the purchase").first.click()
    await expect(page.locator("#check textarea")).to_be_focused()
    await page.locator("#check textarea").fill("the books")
    await page.locator("#check").get_by_role("button").click()
    await expect(page.locator("#next")).to_contain_text("Propose a refund")
    amount = page.locator('#propose-refund [name="amount.amount"]')
    await expect(amount).to_have_value("2000.00")  # what the client is entitled to, and nothing else
    close = page.locator("#close")
    await close.locator("summary").click()
    await expect(close.locator("option")).to_have_text(["choose", "duplicate", "spam"])
    await expect(close).to_contain_text("not explained, no refund due, withdrawn, no response: the client's last")


async def test_a_lost_race_keeps_the_draft_and_one_click_sends_it(site: Site) -> None:
    service = site.service
    case = await service.ana.investigate(purchase=a_purchase())
    page = await site.visit("ana")
    await opened(page, case)
    await page.locator("#offer-adjustment summary").click()
    await put(form(page, "offer-adjustment"), "data.description", "another audience")
    await put(form(page, "offer-adjustment"), "data.answer_by", "2026-03-12")
    await put(form(page, "offer-adjustment"), "reason", "they would rather go on")
    await look_away(page, hidden=True)
    await service.bo.add(case["id"], "notes", text="I have asked the client")
    done(await service.lou.put(f"/v1/cases/{case['id']}/category", {"category": "results", "reason": "as they say"}))

    site.allow("412")
    await form(page, "offer-adjustment").locator("button.main").click()
    returned = page.locator("#returned")
    await expect(returned).to_contain_text("Somebody changed the case while you wrote")
    await expect(returned.locator(".since li")).to_have_count(2)
    await expect(returned).to_contain_text("wrote a note")
    await expect(returned).to_contain_text("the case is about results")
    await expect(returned.locator('[name="data.description"]')).to_have_value("another audience")
    await expect(returned.locator('[name="data.answer_by"]')).to_have_value("2026-03-12")
    await expect(page.locator("#returned-title")).to_be_focused()
    await require_accessible(page)
    await picture(page, "case-returned")

    await returned.get_by_role("button", name="all the same").click()
    await expect(page.locator("#head")).to_contain_text("adjustment offered")
    assert (await service.ana.read(case["id"]))["state"] == "adjustment_offered"


async def test_a_draft_outlives_a_reload_a_lost_race_and_the_session(site: Site) -> None:
    service = site.service
    case = await service.ana.investigate()
    page = await site.visit("ana")
    await opened(page, case)
    reply = form(page, "reply").locator("textarea")
    await reply.fill("Dear Una, we have")
    await page.locator("#note summary").click()
    await form(page, "note").locator("textarea").fill("she is patient")

    await page.reload()
    await expect(reply).to_have_value("Dear Una, we have")
    await expect(form(page, "note").locator("textarea")).to_have_value("she is patient")
    await expect(page.locator(".kept").first).to_contain_text("Your draft of")

    site.allow("412")
    await look_away(page, hidden=True)
    await service.bo.add(case["id"], "notes", text="meanwhile")
    await reply.fill("Dear Una, we have looked")
    await form(page, "reply").get_by_role("button", name="Send").click()
    await expect(page.locator("#returned textarea")).to_have_value("Dear Una, we have looked")

    await page.context.clear_cookies()
    await page.locator("#returned").get_by_role("button", name="all the same").click()
    await page.wait_for_url("**/sign-in?next=*")
    assert (await service.ana.read(case["id"]))["answered"] is False
    secret = await sign_in(service, "ana")
    await page.context.add_cookies([{"name": "casework", "value": secret, "url": site.url}])
    await page.reload()
    await page.wait_for_url("**/cases/C-*")
    await expect(reply).to_have_value("Dear Una, we have looked")

    await form(page, "reply").get_by_role("button", name="Send").click()
    await expect(page.locator("#messages article").last).to_contain_text("we have looked")
    await expect(reply).to_have_value("")
    await expect(form(page, "note").locator("textarea")).to_have_value("she is patient")
    bo = await site.visit("bo")
    await opened(bo, case)
    await expect(form(bo, "note").locator("textarea")).to_have_value("")
    await page.locator(".kept").get_by_role("button", name="Discard").click()
    await page.reload()
    await expect(form(page, "note").locator("textarea")).to_have_value("")


async def test_all_of_it_works_without_javascript(site: Site) -> None:
    case = await site.service.ana.open()
    page = await site.visit("ana", java_script_enabled=False)
    await opened(page, case)
    await fill(page, "investigate", "Investigate", reason="mine")
    await expect(page.locator("#head")).to_contain_text("investigating")
    await fill(page, "note", "Internal note", text="she called twice")
    await expect(page.locator("#messages .note")).to_contain_text("she called twice")
    await fill(page, "reply", "Reply", text="We are looking into it.")
    await page.locator("#file summary").click()
    file = {"name": "invoice.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4 both lines"}
    await form(page, "file").locator("[type=file]").set_input_files(file)  # type: ignore[arg-type]
    await form(page, "file").get_by_role("button", name="Add").click()
    await expect(page.locator("#evidence")).to_contain_text("invoice.pdf")
    async with page.expect_download() as download:
        await page.locator("#evidence").get_by_role("link", name="invoice.pdf").click()
    assert (await download.value).suggested_filename == "invoice.pdf"

    site.allow("409")
    await page.locator("#close summary").click()
    await look_away(page, hidden=True)
    await site.service.bo.add(case["id"], "messages", text="Wait!", direction="inbound")
    await put(form(page, "close"), "data.resolution", "explained")
    await put(form(page, "close"), "reason", "done")
    site.allow("412")
    await form(page, "close").get_by_role("button").click()
    await expect(page.locator("#returned")).to_contain_text("wrote down what the client said")
    await put(page.locator("#returned"), "data.resolution", "spam")
    await page.locator("#returned").get_by_role("button").click()
    await expect(page.locator("#head")).to_contain_text("closed")


async def test_everything_is_within_reach_of_the_keys(site: Site) -> None:
    case = await site.service.ana.investigate()
    page = await site.visit("ana")
    await opened(page, case)
    await page.keyboard.press("t")
    await expect(page.locator("#keys-begun")).to_contain_text("Offer adjustment")
    await page.keyboard.press("c")
    await expect(page.locator('#close [name="data.resolution"]')).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator("#close summary")).to_be_focused()
    await page.keyboard.press("n")
    await expect(form(page, "note").locator("textarea")).to_be_focused()
    await page.keyboard.type("r? n/")  # keys are letters where one writes
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#messages .note")).to_contain_text("r? n/")
    note = form(page, "note")
    await page.keyboard.press("n")
    await note.locator("textarea").fill("pressed twice")
    await note.get_by_role("button").dblclick()
    await expect(page.locator("#messages .note")).to_have_count(2)
    await page.keyboard.press("r")
    await expect(form(page, "reply").locator("textarea")).to_be_focused()
    await page.keyboard.press("Escape")

    await page.keyboard.press("?")
    keys = page.get_by_role("dialog")
    for name in ("Reply", "Internal note", "Search cases", "Close", "This list"):
        await expect(keys).to_contain_text(name)
    await require_accessible(page)
    await keys.get_by_role("checkbox").uncheck()
    await page.keyboard.press("Escape")
    await page.keyboard.press("n")
    await expect(form(page, "note").locator("textarea")).not_to_be_visible()
    await page.reload()
    await page.locator(".menu summary").click()
    await page.get_by_role("button", name="Keys").click()
    await keys.get_by_role("checkbox").check()
    await page.get_by_role("button", name="Close").last.click()
    await page.keyboard.press("n")
    await expect(form(page, "note").locator("textarea")).to_be_focused()


async def test_the_page_is_accessible_and_tidy_wherever_it_is_looked_at(site: Site) -> None:
    service = site.service
    case = await a_long_story(service)
    for scheme, sizes in (("light", (DESKTOP, PHONE, NARROW)), ("dark", (DESKTOP,))):
        for size in sizes:
            page = await site.visit("lou", viewport=size, color_scheme=scheme)
            await opened(page, case)
            await require_tidy(page)
            await page.evaluate(UNFOLD)
            await require_tidy(page)
            await require_accessible(page)
            await picture(page, f"case-{scheme}-{size['width']}")
    phone = await site.visit("lou", viewport=PHONE)
    await opened(phone, case)
    tops = [await top_of(phone, f"#{part}") for part in ("head", "next", "conversation", "facts", "history")]
    assert tops == sorted(tops)


async def top_of(page: Page, selector: str) -> float:
    box = await page.locator(selector).bounding_box()
    assert box is not None
    return box["y"]


async def test_the_header_stays_in_sight(site: Site) -> None:
    case = await a_long_story(site.service)
    page = await site.visit("ana")
    await opened(page, case)
    await page.locator("#history li").last.scroll_into_view_if_needed()
    assert await top_of(page, "#head") == 0
    await page.get_by_role("link", name="g4").first.click()
    assert await top_of(page, "#g4") >= (await page.locator("#head").evaluate("(one) => one.offsetHeight"))


async def a_long_story(service: Service) -> Json:
    """With something in every part of the page, in many scripts, and all of it long."""
    long = " ".join(HOSTILE) + " " + "Donaudampfschifffahrtsgesellschaftskapitän" * 4
    case = await service.ana.open(
        subject=f"{HOSTILE[4]} {long}"[:400],
        message=f"{long}\n" * 60,
        client={"name": f"{HOSTILE[0]} {HOSTILE[4]}", "email": "una.von-und-zu.hohenlohe@very-long.example.com"},
        purchase=a_purchase("D-1-" + "x" * 60, package=HOSTILE[1]),
    )
    path = f"/v1/cases/{case['id']}"
    await service.ana.add(case["id"], "purchase/checks", reason=HOSTILE[0])
    await service.ana.add(case["id"], "grounds", kind="billing_error", affected=euros("590.00"), statement=long)
    await service.bo.add(case["id"], "grounds/g4/verifications", verified=True, evidence=HOSTILE[3])
    done(await service.ana.fire(case["id"], "investigate"))
    await service.ana.add(case["id"], "proposals", remedy="refund", amount=euros("100.00"), reason=HOSTILE[1])
    other = await service.bo.open(subject=HOSTILE[1], purchase={"reference": "D-1-" + "x" * 60})
    await service.ana.add(case["id"], "links", kind="related", case=other["id"])
    await service.ana.add(case["id"], "notes", text=long)
    await service.ana.add(case["id"], "messages", text=long, direction="outbound", awaits_reply=True)
    participants = {"participants": ["somebody.else@example.com"]}
    done(await service.ana.put(f"{path}/participants", participants))
    done(await service.lou.put(f"{path}/hold", {"reason": HOSTILE[4]}))
    for name, kind in (("'\"><b>x</b>.pdf", "application/pdf"), ("ملف.txt", "text/plain")):
        files = {"file": (name, b"lines", kind)}
        await service.client.post(
            f"{path}/attachments", files=files, headers={"authorization": f"Bearer {service.ana.token}"}
        )
    return await service.ana.read(case["id"])


async def test_hostile_texts_are_texts(site: Site) -> None:
    case = await a_long_story(site.service)
    page = await site.visit("ana")
    await opened(page, case)
    for text in HOSTILE[:3]:
        await expect(page.locator("body")).to_contain_text(text)
    assert await page.locator("main script, main img, main b >> text=x").count() == 0
    assert "49" not in await page.locator("#conversation .text").first.inner_text()
    await fill(page, "note", "note", text="x" * 10_000 + HOSTILE[0])
    await expect(page.locator("#messages .note").last).to_contain_text("characters")
    await page.goto(page.url + "?whole")
    await expect(page.locator("#messages .note").last).to_contain_text(HOSTILE[0])


# By hand.


class Visitor:
    """Somebody with a session and without a browser, who fills in the forms that a page shows."""

    def __init__(self, service: Service, name: str, secret: str) -> None:
        self.service = service
        self.name = name
        self.headers = {"cookie": f"casework={secret}", "sec-fetch-site": "same-origin"}

    async def get(self, path: str) -> Response:
        return await self.service.client.get(f"http://127.0.0.1{path}", headers=self.headers)

    async def page(self, case: Json) -> str:
        answer = await self.get(f"/cases/{case['number']}")
        assert answer.status_code == 200, answer.text
        return answer.text

    async def send(self, about: Json, action: str, hidden: Mapping[str, str], **fields: Any) -> Response:
        """`reason` and `affected__amount` are fields."""
        data = {**hidden, **{name.replace("__", "."): value for name, value in fields.items()}}
        address = f"http://127.0.0.1/cases/{about['number']}/{action}"
        return await self.service.client.post(address, headers=self.headers, data=data)

    async def does(self, about: Json, action: str, **fields: Any) -> Response:
        return await self.send(about, action, hidden_of(await self.page(about), action), **fields)


async def visitor(service: Service, name: str) -> Visitor:
    return Visitor(service, name, await sign_in(service, name))


def forms_of(page: str) -> dict[str, str]:
    """What stands in each form, by its action's name."""
    found = re.findall(r'<form method="post" action="/cases/C-\d+/([\w-]+)".*?>(.*?)</form>', page, re.DOTALL)
    return dict(reversed(found))


def hidden_of(page: str, action: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', forms_of(page)[action]))


def text_of(answer: Response | str) -> str:
    """What there is to read."""
    page = answer if isinstance(answer, str) else answer.text
    return " ".join(re.sub("[\u2066-\u2069]", "", html.unescape(re.sub(r"<[^>]+>", " ", page))).split())


def saying(text: str) -> re.Pattern[str]:
    """These words one after the other, whatever marks and spaces are between them."""
    return re.compile(r"\W*".join(re.findall(r"[\w.]+", text)), re.IGNORECASE)


WORKING = {"reply", "note", "message", "file", "link", "purchase", "ground", "category", "participants"}


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("ana", {*WORKING, "no-answer", "known-purchase", "investigate", "close", "assign"}),
        ("lou", {*WORKING, "no-answer", "known-purchase", "investigate", "close", "assign", "requested-at", "hold"}),
        ("cleo", {*WORKING, "no-answer", "known-purchase"}),
        ("audrey", set()),
    ],
)
async def test_everybody_is_offered_what_their_role_may(service: Service, name: str, forms: set[str]) -> None:
    case = await service.bo.open()
    page = await (await visitor(service, name)).page(case)
    assert set(forms_of(page)) == forms
    assert "They never ran." in page


async def test_an_admin_alone_does_not_read_cases(service: Service) -> None:
    case = await service.ana.open()
    adam = await visitor(service, "adam")
    answer = await adam.get(f"/cases/{case['number']}")
    assert answer.status_code == 403
    assert "They never ran." not in answer.text
    posted = await adam.send(case, "note", {"csrf": "0"}, text="x")
    assert posted.status_code == 403


async def test_an_auditors_look_is_recorded_and_changes_nothing(service: Service) -> None:
    case = await service.ana.open()
    audrey = await visitor(service, "audrey")
    assert "why not now" in await audrey.page(case)
    reads = done(await service.audrey.get("/v1/reads"))["items"]
    assert [(one["data"]["case"], one["actor"], one["via"]) for one in reads] == [(case["id"], "person:audrey", "page")]
    csrf = re.search(r'name="csrf" value="([^"]+)"', await audrey.page(case))
    assert csrf is not None
    refused = await audrey.send(case, "note", {"csrf": csrf[1]}, text="I was here")
    assert refused.status_code == 403
    assert "Not for your role; you, Ana" not in text_of(refused)
    assert re.search(r"Not for your role; Ana, Bo, Cleo or \d others can", text_of(refused))
    assert (await service.ana.read(case["id"]))["version"] == 1


async def test_signed_out_one_signs_in_and_comes_back(service: Service) -> None:
    case = await service.ana.open()
    nobody = Visitor(service, "", "nothing")
    assert (await nobody.get(f"/cases/{case['number']}")).headers["location"] == (
        f"/sign-in?next=%2Fcases%2F{case['number']}"
    )
    nobody.headers["referer"] = f"http://127.0.0.1/cases/{case['number']}?done=3"
    sent = await nobody.send(case, "note", {}, text="x")
    assert (sent.status_code, sent.headers["location"]) == (303, f"/sign-in?next=%2Fcases%2F{case['number']}")
    nobody.headers["referer"] = "http://elsewhere.example/cases"
    assert (await nobody.send(case, "note", {}, text="x")).headers["location"] == "/sign-in"


async def test_a_case_is_found_by_its_number_and_by_its_id(service: Service) -> None:
    case = await service.ana.open()
    ana = await visitor(service, "ana")
    for name in (case["number"], case["number"].lower(), case["number"][2:], case["id"]):
        assert (await ana.get(f"/cases/{name}")).status_code == 200
    for name in ("C-1", "C-", "x", "C-99999999999999999999", "%00", "%F0%9F", "C-1001%0A"):
        assert (await ana.get(f"/cases/{name}")).status_code == 404
    assert (await ana.send(case, "sorcery", hidden_of(await ana.page(case), "note"))).status_code == 404


async def test_the_same_form_twice_is_carried_out_once(service: Service) -> None:
    case = await service.ana.open()
    ana = await visitor(service, "ana")
    hidden = hidden_of(await ana.page(case), "note")
    answers = [await ana.send(case, "note", hidden, text="once") for _ in range(2)]
    assert [one.status_code for one in answers] == [303, 303]
    assert answers[0].headers["location"] == answers[1].headers["location"] == f"/cases/{case['number']}?done=2#n2"
    assert (await service.ana.read(case["id"]))["version"] == 2
    hidden = hidden_of(await ana.page(case), "note")
    at_once = await asyncio.gather(*(ana.send(case, "note", hidden, text="twice") for _ in range(2)))
    assert [one.status_code for one in at_once] == [303, 303]
    assert (await service.ana.read(case["id"]))["version"] == 3
    other = await ana.send(case, "note", hidden, text="another")
    assert other.status_code == 422
    assert "another" in forms_of(other.text)["note"]
    assert (await ana.send(case, "note", hidden_of(other.text, "note"), text="another")).status_code == 303


@pytest.mark.parametrize(("version", "status"), [("1", 412), ("", 428), ("0", 412), ("99", 412), ("*", 412)])
async def test_a_form_of_another_version_changes_nothing(service: Service, version: str, status: int) -> None:
    case = await service.ana.open()
    await service.bo.add(case["id"], "notes", text="meanwhile")
    ana = await visitor(service, "ana")
    hidden = hidden_of(await ana.page(case), "investigate") | {"version": version}
    answer = await ana.send(case, "investigate", hidden, reason="mine")
    assert answer.status_code == status
    assert "mine" in forms_of(answer.text)["investigate"]
    assert ("wrote a note" in text_of(answer.text.partition("</section>")[0])) == (version in {"1", "0"})
    assert (await service.ana.read(case["id"]))["state"] == "opened"
    again = await ana.send(case, "investigate", hidden_of(answer.text, "investigate"), reason="mine")
    assert again.status_code == 303


async def test_notes_cross_with_whatever_happens(service: Service) -> None:
    case = await service.ana.open()
    ana = await visitor(service, "ana")
    hidden = hidden_of(await ana.page(case), "note")
    await service.bo.add(case["id"], "notes", text="meanwhile")
    assert (await ana.send(case, "note", hidden, text="mine")).status_code == 303


async def test_wrong_fields_are_named_where_they_are_with_what_was_typed(service: Service) -> None:
    case = await service.ana.investigate()
    ana = await visitor(service, "ana")
    answer = await ana.does(
        case,
        "schedule-consultation",
        data__starts_at="2026-03-01T10:00",
        data__minutes="30",
        data__channel="<b>by phone</b>",
        reason="they asked",
    )
    assert answer.status_code == 422
    assert "has to be in the future" in text_of(forms_of(answer.text)["schedule-consultation"])
    assert "&lt;b&gt;by phone&lt;/b&gt;" in forms_of(answer.text)["schedule-consultation"]
    assert 'value="2026-03-01T10:00"' in answer.text
    blank = await ana.does(case, "ground", kind="sorcery", affected__amount="1,5", affected__currency="EUR")
    assert blank.status_code == 422
    assert text_of(forms_of(blank.text)["ground"]).count("amount has to be a plain decimal") == 1
    await service.bo.add(case["id"], "notes", text="meanwhile")
    hidden = hidden_of(blank.text, "ground")
    assert (await ana.send(case, "ground", hidden, kind="sorcery")).status_code == 412  # what changed comes first


async def test_what_the_rules_refuse_is_recorded_and_shown_with_its_reasons(service: Service) -> None:
    case = await service.ana.investigate(purchase=a_purchase())
    ana = await visitor(service, "ana")
    hidden = hidden_of(await ana.page(case), "close")
    answer = await ana.send(case, "refund", hidden, data__payment_reference="TX-1", reason="now", data__proposal="")
    assert answer.status_code == 403
    assert "Cleo, Dirk or Eli can" in text_of(answer)
    closing = await ana.send(case, "close", hidden, data__resolution="explained", reason="enough")
    assert closing.status_code == 409
    assert "has not been answered by a person" in text_of(closing)
    refusals = done(await service.lou.get("/v1/refusals"))["items"]
    assert [one["trigger"] for one in refusals] == ["close", "refund"]


async def test_facts_that_nobody_changed_stay_as_they_are(service: Service) -> None:
    exact = a_purchase(purchased_at="2026-02-01T09:08:07.123456Z")
    case = await service.ana.investigate(purchase=exact)
    ana = await visitor(service, "ana")
    fields = dict(
        re.findall(r'<input [^>]*?name="([\w.]+)"[^>]*? value="([^"]*)"', forms_of(await ana.page(case))["purchase"])
    )
    assert fields["purchased_at"] == "2026-02-01T09:08"
    same = await ana.send(case, "purchase", fields)
    assert (same.status_code, same.headers["location"]) == (303, f"/cases/{case['number']}?done=0")
    assert "Nothing had to change" in text_of(await ana.get(same.headers["location"]))
    fields = dict(fields, **hidden_of(await ana.page(case), "purchase"), package="another")
    assert (await ana.send(case, "purchase", fields)).status_code == 303
    stands = (await service.ana.read(case["id"]))["purchase"]
    assert (stands["package"], stands["purchased_at"]) == ("another", "2026-02-01T09:08:07.123456Z")


async def test_a_file_is_taken_with_the_limits_of_the_api(service: Service) -> None:
    case = await service.ana.open()
    ana = await visitor(service, "ana")

    async def sends(content: bytes, name: str = "a.pdf", **fields: str) -> Response:
        hidden = hidden_of(await ana.page(case), "file") | fields
        address = f"http://127.0.0.1/cases/{case['number']}/file"
        return await service.client.post(
            address, headers=ana.headers, data=hidden, files={"file": (name, content, "application/pdf")}
        )

    kept = await sends(b"%PDF-1.4")
    assert (kept.status_code, kept.headers["location"]) == (303, f"/cases/{case['number']}?done=2")
    assert (await sends(b"x" * 100_001)).status_code == 413
    assert (await sends(b"x" * 200_000)).status_code == 413
    assert (await sends(b"x", "a.exe")).status_code == 422
    assert (await sends(b"", "")).status_code == 422
    assert (await sends(b"x", csrf="0")).status_code == 403
    hidden = hidden_of(await ana.page(case), "file")
    assert (await ana.send(case, "file", hidden)).status_code == 422
    damaged = await service.client.post(
        f"http://127.0.0.1/cases/{case['number']}/file",
        headers=ana.headers | {"content-type": "multipart/form-data; boundary=x"},
        content=b"--x\r\nnonsense",
    )
    assert damaged.status_code == 422
    [file] = done(await service.ana.get(f"/v1/cases/{case['id']}/attachments"))
    got = await ana.get(f"/cases/{case['number']}/attachments/{file['id']}")
    assert got.content == b"%PDF-1.4"
    assert got.headers["content-disposition"] == "attachment; filename*=UTF-8''a.pdf"
    assert got.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in got.headers["content-security-policy"]
    other = await service.bo.open()
    assert (await ana.get(f"/cases/{other['number']}/attachments/{file['id']}")).status_code == 404


async def test_links_lead_to_the_cases_beside_it(service: Service) -> None:
    case = await service.ana.open(purchase=a_purchase())
    twin = await service.bo.open(subject="Again", purchase={"reference": "D-1"})
    third = await service.bo.open(subject="Something else")
    ana = await visitor(service, "ana")
    linked = await ana.does(case, "link", kind="duplicate", case=f" {third['number'].lower()} ")
    assert linked.status_code == 303
    page = text_of(await ana.page(case))
    assert f"{twin['number']} Again opened · the same purchase" in page
    assert f"{third['number']} Something else opened · duplicate" in page
    assert f"linked the case that this one repeats ({third['number']})" in page
    assert (await ana.does(case, "link", kind="related", case="C-77")).status_code == 422


async def test_what_was_erased_reads_so(service: Service) -> None:
    case = await service.ana.open(subject="")
    await service.ana.add(case["id"], "messages", text="Dear Una", direction="outbound")
    erasure = {"case": case["id"], "legal_basis": "GDPR Art. 17(1)(a)", "reason": "asked for", "override": True}
    done(await service.adam.post("/v1/erasures", erasure), 201)
    page = await (await visitor(service, "ana")).page(case)
    assert "They never ran." not in page
    assert "Dear Una" not in page
    assert "erased" in page


async def test_what_came_back_is_shown_with_what_it_was_about(service: Service) -> None:
    case = await service.ana.open()
    await service.ana.add(case["id"], "messages", text="Dear Una", direction="outbound")
    acknowledgement = c.RecordBounce(message="m1", mail=MailKind.ACKNOWLEDGEMENT, reason="550 no <such> mailbox")
    await service.as_system("mail", acknowledgement, case["id"])
    await service.as_system("mail", c.RecordBounce(message="m2"), case["id"])

    inquiry, letter = done(await service.ana.get(f"/v1/cases/{case['id']}/messages"))
    assert (inquiry["acknowledgement_bounced"], "bounced" in inquiry) == (True, False)
    assert (letter["bounced"], "acknowledgement_bounced" in letter) == (True, False)
    page = await (await visitor(service, "ana")).page(case)
    assert "Our acknowledgement of it came back undelivered" in page
    assert "550 no &lt;such&gt; mailbox" in page
    assert "It came back undelivered" in page
    assert "brought the acknowledgement of m1 back" in page


async def test_a_long_conversation_shows_its_beginning_and_its_end(service: Service) -> None:
    case = await service.ana.open()
    for number in range(60):
        command = c.AddMessage(direction=Direction.INBOUND, text=f"Any news? {number} " + "really? " * 400)
        await service.as_system("mail", command, case["id"])
    ana = await visitor(service, "ana")
    asked = counting(service)
    page = await ana.page(case)
    assert asked() <= 11  # four of them for what is known of the desk for a second
    assert "They never ran." in page
    assert "Any news? 59 " in page
    assert "Any news? 5 " not in page
    assert "21 more in between" in text_of(page)
    whole = (await ana.get(f"/cases/{case['number']}?whole")).text
    assert "Any news? 5 " in whole
    assert len(gzip.compress(page.encode())) < 60_000


def counting(service: Service) -> Any:
    """How many questions the database is asked from here on."""
    database = service.desk.database
    rows, asked = database.rows, []

    async def counted(*question: Any) -> Any:
        asked.append(question)
        return await rows(*question)

    database.rows = counted  # type: ignore[assignment, method-assign]
    return lambda: len(asked)
