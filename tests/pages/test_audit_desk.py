"""Auditors replay cases, have them proved, and look over the whole desk: in a browser, and by hand."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from httpx2 import Response
from playwright.async_api import Page, ViewportSize, expect

from api.casework_verify import FAILS, parsed_key, verify
from api.pages.telling import KINDS
from storage.chains import TRIGGERS
from storage.keys import announcements, ensure_key
from tests.api.driving import Json, Service, a_purchase, done, euros
from tests.api.test_erasures import BASIS, ZAPHOD, a_closed_case
from tests.databases import raw_sql
from tests.pages.browsing import DESKTOP, PHONE, Site, picture, require_accessible, require_tidy, sign_in
from tests.storage.test_verify import undefended
from tests.workflow.builders import STAFF
from workflow.events import TYPE_NAMES
from workflow.replaying import CHANGES

BASE = "http://127.0.0.1"
DESK = "/audit-desk"
NARROW: ViewportSize = {"width": 320, "height": 700}


async def a_story(service: Service, **changes: Any) -> Json:
    """A refund, from the mail to the payment: fourteen events."""
    case = await service.ana.investigate(purchase=a_purchase(), **changes)
    await service.ana.add(case["id"], "purchase/checks", reason="seen in the books")
    claim = {"kind": "billing_error", "affected": euros("300.00"), "statement": "charged twice"}
    ground = await service.ana.add(case["id"], "grounds", **claim)
    await service.bo.add(case["id"], f"grounds/{ground['id']}/verifications", verified=True, evidence="two lines")
    refund = {"remedy": "refund", "amount": euros("300.00"), "reason": "due"}
    proposal = await service.ana.add(case["id"], "proposals", **refund)
    verdict = {"verdict": "approve", "reason": "as counted", "digest": proposal["digest"]}
    await service.cleo.add(case["id"], f"proposals/{proposal['id']}/verdicts", **verdict)
    await service.dirk.add(case["id"], f"proposals/{proposal['id']}/payouts", reason="by card")
    done(await service.dirk.fire(case["id"], "refund", proposal=proposal["id"], payment_reference="T-1"))
    await service.ana.add(case["id"], "messages", text="It is on its way.", direction="outbound", awaits_reply=True)
    await service.ana.add(case["id"], "notes", text="phoned")
    story: Json = await service.ana.read(case["id"])
    assert story["version"] == 14
    return story


async def get(service: Service, path: str, name: str = "audrey", **query: Any) -> Response:
    cookie = {"cookie": f"casework={await sign_in(service, name)}"}
    return await service.client.get(f"{BASE}{DESK}{path}", headers=cookie, params=query or None)


async def post(service: Service, path: str, form: Mapping[str, Any], name: str = "audrey") -> Response:
    headers = {"cookie": f"casework={await sign_in(service, name)}", "sec-fetch-site": "same-origin"}
    return await service.client.post(f"{BASE}{DESK}{path}", headers=headers, data=dict(form))


def hidden(html: str, form: str) -> dict[str, str]:
    """The hidden fields of the form that is sent there."""
    found = re.search(rf'<form method="post" action="{re.escape(DESK + form)}">(.*?)</form>', html, re.DOTALL)
    assert found is not None, f"there is no form for {form}"
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', found[1]))


async def reads_of(service: Service) -> list[str]:
    items = done(await service.lou.get("/v1/reads"))["items"]
    return [one["data"]["what"] for one in reversed(items) if one["actor"] == "person:audrey"]


STOOD = """() => Object.fromEntries([...document.querySelectorAll(".stood dl > div:not(.gone)")].map((line) => {
  const value = line.querySelector("dd").cloneNode(true);
  value.querySelectorAll(".since, .written").forEach((one) => one.remove());
  return [line.querySelector("dt").textContent.trim(), value.textContent.replace(/\\s+/g, " ").trim()];
}))"""
STEP = "() => document.getElementById('step').innerText"


async def shown(page: Page, at: int) -> None:
    await expect(page.locator("#step")).to_have_attribute("data-at", str(at))


def test_every_event_of_a_case_is_of_some_kind_to_its_reader() -> None:
    assert {*CHANGES} - {*TRIGGERS} - {TYPE_NAMES[data] for data in KINDS} == set()


# The player.


async def test_each_step_shows_the_case_as_its_replay_at_that_version_has_it(site: Site) -> None:
    story = await a_story(site.service)
    page = await site.visit("audrey")
    await page.goto(f"{DESK}/cases/{story['number']}?at=1")

    for version in range(1, 15):
        await shown(page, version)
        case = done(await site.service.lou.get(f"/v1/cases/{story['id']}/replay", version=version))["case"]
        stood = await page.evaluate(STOOD)
        assert stood["State"] == case["state"].replace("_", " ")
        assert stood["Owner"] == {"ana": "Ana", None: "nobody"}[case["assignee"]]
        assert stood["Client answered"] == ("yes" if case["answered"] else "not yet")
        assert (stood["Waiting for the client"] != "no") == case["waiting"]
        if case["purchase"] is None:
            assert "Paid" not in stood
        else:
            for label, field in (("Refunded", "refunded"), ("Reserved", "reserved"), ("Left", "left")):
                assert stood[label].replace(",", "") == f"{case['purchase'][field]['amount']} EUR"
            assert stood["Checked against the books"] == ("yes" if case["purchase"]["checked"] else "no")
        for ground in case["grounds"]:
            assert f"{ground['id']} billing error" in stood
            assert ("is so" in stood["found"]) == ground["verified"]
        for proposal in case["proposals"]:
            assert stood["stands at"] == proposal["status"]
        assert len([one for one in stood if one in {"First answer", "Next update"}]) == len(case["deadlines"])
        if version < 14:
            await page.keyboard.press("]")


async def test_what_a_step_changed_is_marked_against_the_step_before(service: Service) -> None:
    story = await a_story(service)

    def marks(html: str) -> list[str]:
        lines = re.findall(r'<div class="(?:new|changed|gone)"><dt>([^<]*)</dt>(.*?)</div>', html, re.DOTALL)
        return [f"{label}: {' '.join(re.findall(r'[(](new|was|no longer)', rest))}" for label, rest in lines]

    refund = await get(service, f"/cases/{story['number']}", at=11)
    sums = await get(service, f"/cases/{story['number']}", at=12)
    note = await get(service, f"/cases/{story['number']}", at=14)

    assert marks(refund.text)[:1] == ["State: was"]
    assert "stands at: was" in marks(refund.text)
    assert "Refund: new" in marks(refund.text)
    assert marks(sums.text) == ["Refunded: was", "Reserved: was"]
    assert '(was <span dir="auto">0.00 EUR</span>)' in sums.text
    assert marks(note.text) == []


async def test_what_a_step_recorded_is_told_with_its_proof(service: Service) -> None:
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    story = await a_story(service)
    await service.desk.sequencer.settle()
    events = done(await service.lou.get(f"/v1/cases/{story['id']}/events"))["items"]
    verdict = events[7]

    page = (await get(service, f"/cases/{story['number']}", at=8)).text

    assert verdict["type"] == "verdict_given"
    for said in (
        '<b dir="auto">Cleo</b> approved the proposal p7.',
        "(approver, then)",
        "5 Mar 2026 12:00:00.000 UTC",
        "via api",
        verdict["request"],
        "as counted",
        verdict["hash"],
        verdict["prev"],
        "P6</span>",
        "asked, all passed",
        "the same, from the log alone",
        "in the checkpoint over",
    ):
        assert said in page, said
    assert verdict["body"].replace('"', "&#34;") in page


async def test_keys_links_and_the_slider_step_without_loading_a_page(site: Site) -> None:
    story = await a_story(site.service)
    page = await site.visit("audrey")
    await page.goto(f"{DESK}/cases/{story['number']}?at=5")
    await page.evaluate("window.stillHere = true")
    slider = page.get_by_role("slider", name="Event")

    async def came_to(at: int) -> None:
        await shown(page, at)
        await expect(slider).to_have_value(str(at))
        await expect(page).to_have_url(re.compile(rf"[?]at={at}$"))

    await page.keyboard.press("]")
    await came_to(6)
    await page.keyboard.press("[")
    await came_to(5)
    await page.get_by_role("link", name="Last event").click()
    await came_to(14)
    await page.keyboard.press("]")  # there is nothing after it
    await came_to(14)
    await expect(page.get_by_role("link", name="Step on")).to_have_attribute("aria-disabled", "true")
    await page.keyboard.press("Home")  # where the focus is: in the player
    await came_to(1)
    await slider.focus()
    await page.keyboard.press("End")
    await came_to(14)
    await page.keyboard.press("ArrowLeft")
    await came_to(13)
    await page.keyboard.press("[")
    await came_to(12)
    await slider.fill("7")
    await came_to(7)
    await page.locator(".all .events a").nth(2).click()
    await came_to(3)
    await expect(page.locator(".all [aria-current=step]")).to_contain_text("took the case on")
    await expect(page.get_by_role("status")).to_have_text("event 3 of 14: Ana took the case on")
    assert await slider.get_attribute("aria-valuetext") == "event 3 of 14: took the case on"
    assert await page.evaluate("window.stillHere") is True


async def test_a_step_that_was_fetched_is_the_step_that_is_loaded(site: Site) -> None:
    story = await a_story(site.service)
    page = await site.visit("audrey")
    await page.goto(f"{DESK}/cases/{story['number']}?at=1&from=2")
    stepped = {}
    for at in range(2, 15):
        await page.keyboard.press("]")
        await shown(page, at)
        stepped[at] = await page.evaluate(STEP)

    for at in (2, 8, 11, 14):
        await page.goto(f"{DESK}/cases/{story['number']}?at={at}&from=2")
        assert await page.evaluate(STEP) == stepped[at]


async def test_playing_is_stepping_until_the_end(site: Site) -> None:
    story = await a_story(site.service)
    page = await site.visit("audrey")
    await page.goto(f"{DESK}/cases/{story['number']}?at=12")
    play = page.get_by_role("button", name="Play, step by step")

    await play.click()

    await expect(play).to_have_attribute("aria-pressed", "true")
    await shown(page, 14)
    await expect(play).to_have_attribute("aria-pressed", "false")


async def test_without_scripts_every_step_is_a_page_and_the_slider_a_form(site: Site) -> None:
    story = await a_story(site.service)
    page = await site.visit("audrey", java_script_enabled=False)
    await page.goto(f"{DESK}/cases/{story['number']}?at=5")
    await expect(page.get_by_role("button", name="Play, step by step")).to_be_hidden()

    await page.get_by_role("link", name="Step on").click()
    await expect(page.locator(".point")).to_contain_text("As of event 6 of 14")
    await page.get_by_role("link", name="First event").click()
    await expect(page.locator(".point")).to_contain_text("As of event 1 of 14")
    await page.get_by_role("slider", name="Event").focus()
    for _ in range(3):
        await page.keyboard.press("ArrowRight")
    await page.get_by_label("compare with").select_option("2")
    await page.get_by_role("button", name="Show").click()

    await expect(page.locator(".point")).to_contain_text("As of event 4 of 14")
    await expect(page.get_by_role("heading", name="From event 2 to event 4")).to_be_visible()


async def test_two_points_are_compared_as_the_api_compares_them(service: Service) -> None:
    story = await a_story(service)
    path = f"/v1/cases/{story['id']}/difference"
    for first, last in ((2, 8), (5, 14)):
        expected = done(await service.lou.get(path, **{"from": first, "to": last}))["changes"]
        for start, at in ((first, last), (last, first)):
            page = (await get(service, f"/cases/{story['number']}?from={start}&at={at}")).text
            table = page[page.index('<section class="comparison"') :]
            assert f"From event {first} to event {last}" in table
            assert table.count('<th scope="row">') == len(expected) > 3
            assert ("charged twice" in table) == (first == 2)


async def test_whoever_opens_the_player_has_read_the_case_once(service: Service) -> None:
    story = await a_story(service)
    page = (await get(service, f"/cases/{story['number']}", at=3)).text
    steps = re.search(r'data-steps="([^"]+)"', page)
    assert steps is not None
    address = steps[1].replace("&amp;", "&").removeprefix(DESK)

    for at in range(1, 15):
        assert f'data-at="{at}"' in (await get(service, f"{address}&at={at}")).text
    assert await reads_of(service) == ["replay"]

    # Without the mark, with another's, or of a case that has gone on, it is one more read.
    mark = re.search(r"mark=(\w+)", address)
    assert mark is not None
    for wrong in (address.replace(mark[1], "0" * 32), "/cases/C-1001/step?at=2", address.replace("seen=14", "seen=13")):
        await get(service, wrong)
    assert await reads_of(service) == ["replay"] * 4


async def test_agents_replay_without_a_trace_and_without_what_is_for_auditors(service: Service) -> None:
    story = await a_story(service)
    page = (await get(service, f"/cases/{story['number']}", "ana", at=8)).text
    assert "approved the proposal p7" in page
    assert "/verification" not in page
    assert "/findings" in page  # a list that they may read
    assert "Record a finding" not in page
    assert done(await service.lou.get("/v1/reads"))["items"] == []


async def test_a_case_that_goes_on_meanwhile_keeps_its_player_and_says_so(site: Site) -> None:
    story = await a_story(site.service)
    page = await site.visit("audrey")
    await page.goto(f"{DESK}/cases/{story['number']}?at=3")
    await site.service.ana.add(story["id"], "notes", text="one more")

    await page.keyboard.press("]")
    await shown(page, 4)
    await page.get_by_role("link", name="Last event").click()
    await shown(page, 14)

    await expect(page.locator(".point")).to_contain_text("As of event 14 of 14")
    await page.get_by_role("link", name="The case has 15 events by now").click()
    await expect(page.locator(".point")).to_contain_text("As of event 15 of 15")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?at=15", 422),
        ("?at=0", 422),
        ("?at=x", 422),
        ("?at=2026-03-05T12:00:00Z", 200),
        ("?at=2020-03-05T12:00:00Z", 422),
        ("?at=3&from=99", 422),
        ("?at=3&at=4", 200),
        ("?at=3&unknown=1", 422),
        (f"?at={'9' * 5000}", 422),
        ("?at=%00", 422),
        ("?at=&from=", 200),
    ],
)
async def test_a_point_that_makes_no_sense_is_named(service: Service, query: str, status: int) -> None:
    await a_story(service)
    answer = await get(service, f"/cases/C-1001{query}")
    assert answer.status_code == status
    if status == 422:
        assert re.search(r"<code>(at|from|unknown)</code>", answer.text)


# Proved.


async def test_a_click_proves_a_case_level_by_level(site: Site) -> None:
    service = site.service
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    story = await a_story(service)
    page = await site.visit("audrey")
    await page.goto(f"{DESK}/cases/{story['number']}")

    await page.get_by_role("link", name="Verify this case").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("C-1001: what could be checked holds")
    await expect(page.locator(".proved > .holds")).to_have_count(9)
    await expect(page.locator(".proved")).to_contain_text("14 of 14 events are proved")
    await expect(page.locator("main")).to_contain_text("This page is served by the desk that is being checked.")
    await require_accessible(page)


TAMPERED = {
    "a text of an event": (
        "UPDATE events SET body = replace(body, '30000', '90000') WHERE chain = ?1 AND seq = 5",
        "Hashes",
        "Event 5",
        "the hash is not the body&#39;s",
    ),
    "an event is gone": (
        "DELETE FROM events WHERE chain = ?1 AND seq = 10",
        "Chain",
        "Event 10",
        "is missing; event 11 comes next",
    ),
    "the row": (
        "UPDATE cases SET assignee = 'bo' WHERE 'case:' || id = ?1",
        "The case as shown",
        "Event 14",
        "stored is &#34;bo&#34;, the log says &#34;ana&#34;",
    ),
    "a letter": (
        "UPDATE personal SET value = 'Never.' WHERE chain = ?1 AND seq = 13",
        "Texts and files",
        "Event 13",
        "is not what it was when the event was written",
    ),
    "no event at all": (
        "UPDATE events SET body = '{' WHERE chain = ?1 AND seq = 9",
        "Bytes",
        "Event 9",
        "the body is not as casework writes it",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
async def test_what_was_tampered_with_is_named_where_it_is(service: Service, desk_url: str, name: str) -> None:
    story = await a_story(service)
    statement, level, place, words = TAMPERED[name]
    with raw_sql(desk_url) as raw, undefended(raw):
        raw.run("PRAGMA foreign_keys = OFF")
        raw.run(statement, f"case:{story['id']}")

    page = (await get(service, f"/cases/{story['number']}/verification")).text

    assert "something is wrong" in page
    fails = [one for one in page.split('<li class="') if one.startswith("fails")]
    (found,) = [one for one in fails if f"<b>{level}</b>" in one]
    assert place in found
    assert words in found


async def test_a_history_that_cannot_be_replayed_says_so_and_leads_to_its_proof(
    service: Service, desk_url: str
) -> None:
    story = await a_story(service)
    with raw_sql(desk_url) as raw, undefended(raw):
        raw.run("UPDATE events SET body = '{' WHERE chain = ?1 AND seq = 9", f"case:{story['id']}")
    for path in ("", "/step?at=3", "/decisions"):
        answer = await get(service, f"/cases/{story['number']}{path}")
        assert answer.status_code == 503
        assert "cannot be replayed" in answer.text
        assert f"{DESK}/cases/C-1001/verification" in answer.text


async def test_decisions_are_made_again_in_front_of_the_auditor(service: Service) -> None:
    story = await a_story(service)
    expected = done(await service.lou.get(f"/v1/cases/{story['id']}/decisions"))["items"]

    page = (await get(service, f"/cases/{story['number']}/decisions")).text

    assert len(expected) == 5
    assert "5 decisions, made again, are the same" in page
    assert page.count("✓ the same, from the log alone") == 5
    assert "The request of 2026-03-05" in page


async def test_a_bundle_from_the_page_verifies_elsewhere_and_is_recorded(service: Service) -> None:
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    story = await a_story(service)
    trusted = [parsed_key(one.vkey) for one in await service.desk.database.run(announcements)]

    for query, has_texts in (({}, True), ({"redacted": "true"}, False)):
        answer = await get(service, f"/cases/{story['number']}/bundle", **query)
        assert answer.headers["content-disposition"].startswith("attachment")
        assert [one for one in verify(answer.content, trusted) if one.verdict == FAILS] == []
        assert (b"They never ran." in answer.content) == has_texts
    assert await reads_of(service) == ["bundle", "bundle"]
    assert (await get(service, "/cases/C-1001/bundle", since="x")).status_code == 422


# Findings.


async def test_a_finding_is_recorded_at_a_step_answered_and_closed(site: Site) -> None:
    story = await a_story(site.service)
    auditor = await site.visit("audrey")
    await auditor.goto(f"{DESK}/cases/{story['number']}?at=5")
    await auditor.keyboard.press("]")
    await shown(auditor, 6)
    await auditor.get_by_text("Record a finding about this event").click()
    await auditor.get_by_label("How serious").select_option("major")
    await auditor.get_by_label("What you found").fill("The evidence <b>names</b> nobody.")
    await auditor.get_by_role("button", name="Record it").click()
    await expect(auditor.get_by_role("heading", level=1)).to_have_text("Finding on C-1001, event 6")
    await expect(auditor.locator("main")).to_contain_text("Not by you")
    await require_accessible(auditor)
    address = auditor.url

    agent = await site.visit("ana")
    await agent.goto(address)
    await agent.get_by_label("What there is to say").fill("It is on page two.")
    await agent.get_by_role("button", name="Answer").click()
    await expect(agent.locator("main")).to_contain_text("It is on page two.")

    await auditor.goto(address)
    await auditor.get_by_label("Your conclusion").fill("So it is.")
    await auditor.get_by_role("button", name="Close it").click()
    await expect(auditor.locator(".ways")).to_contain_text("closed")
    (found,) = done(await site.service.lou.get("/v1/findings"))["items"]
    assert (found["text"], found["open"], found["conclusion"]) == (
        "The evidence <b>names</b> nobody.",
        False,
        "So it is.",
    )
    await auditor.goto(f"{DESK}/cases/{story['number']}?at=6")
    await expect(auditor.locator(".findings")).to_contain_text("major, closed: The evidence <b>names</b> nobody.")


async def test_a_finding_sent_twice_is_one_and_what_was_typed_is_kept(service: Service) -> None:
    story = await a_story(service)
    page = (await get(service, f"/cases/{story['number']}", at=6)).text
    form = hidden(page, f"/cases/{story['number']}/findings") | {"severity": "minor", "text": "Who said so?"}

    first, second = [await post(service, f"/cases/{story['number']}/findings", form) for _ in range(2)]
    assert (first.status_code, first.headers["location"]) == (303, second.headers["location"])

    blank = await post(service, f"/cases/{story['number']}/findings", form | {"key": "a" * 32, "text": "  "})
    assert (blank.status_code, "text: must not be blank" in blank.text) == (422, True)
    other = form | {"key": "b" * 32, "hash": "0" * 64}
    wrong = await post(service, f"/cases/{story['number']}/findings", other)
    assert (wrong.status_code, "Who said so?</textarea>" in wrong.text) == (422, True)
    assert "is not the hash of event 6 of this case" in wrong.text
    for seq in ("9" * 5000, "x", "-1", "99", "٣"):
        strange = await post(service, f"/cases/{story['number']}/findings", other | {"seq": seq, "key": "c" * 32})
        assert strange.status_code == 422
    assert len(done(await service.lou.get("/v1/findings"))["items"]) == 1


async def test_who_may_not_answer_or_close_a_finding_hears_why(service: Service) -> None:
    story = await a_story(service)
    page = (await get(service, f"/cases/{story['number']}", at=6)).text
    form = hidden(page, f"/cases/{story['number']}/findings") | {"severity": "minor", "text": "Who said so?"}
    address = (await post(service, f"/cases/{story['number']}/findings", form)).headers["location"].removeprefix(DESK)
    mine = (await get(service, address, "ana")).text

    refused = await post(service, f"{address}/closing", {"csrf": form["csrf"], "text": "x", "key": "1"})
    answered = hidden(mine, f"{address}/answers") | {"text": "I did."}
    assert refused.status_code == 303
    late = await post(service, f"{address}/answers", answered, "ana")
    assert (late.status_code, "the finding has been closed" in late.text) == (409, True)
    own = await post(service, f"{address}/closing", answered, "ana")
    assert own.status_code == 403


# Samples.


async def test_a_sample_is_drawn_once_and_can_be_drawn_again(site: Site) -> None:
    for _ in range(6):
        await site.service.ana.open()
    page = await site.visit("audrey")
    await page.goto(f"{DESK}/samples")
    await page.get_by_label("How many").fill("4")
    await page.get_by_label("state", exact=True).check()
    await page.get_by_role("button", name="Draw").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("4 of 6 cases")
    await expect(page.locator("main")).to_contain_text("✓ Drawn again from the log just now: the same cases.")
    await expect(page.locator(".drawn a")).to_have_count(4)
    await require_accessible(page)
    await page.goto(f"{DESK}/samples")
    await expect(page.get_by_role("link", name="4 of 6 cases")).to_be_visible()


async def test_a_plan_that_makes_no_sense_is_kept_and_named(service: Service) -> None:
    form = hidden((await get(service, "/samples")).text, "/samples")
    for wrong in ({"size": "many"}, {"size": "0"}, {"size": "9" * 5000}, {"size": "4", "seed": "two words"}):
        answer = await post(service, "/samples", form | {"size": "4", "seed": "\u202edices", "key": "k"} | wrong)
        assert answer.status_code == 422, wrong
        assert re.search(r"(size|seed): ", answer.text)
    plan = form | {"size": "4", "strata": ["state", "agent"], "seed": "dice-7"}
    first, second = [await post(service, "/samples", plan) for _ in range(2)]
    assert (first.status_code, first.headers["location"]) == (303, second.headers["location"])
    assert "dice-7" in (await get(service, first.headers["location"].removeprefix(DESK))).text


# Over all cases.


async def test_a_case_is_found_by_number_words_and_state(site: Site) -> None:
    await a_story(site.service)
    await site.service.ana.open(subject="Where is my tracking tag?")
    page = await site.visit("audrey")
    await page.goto(DESK)
    await require_accessible(page)
    await page.get_by_label("Find a case").fill("tracking")
    await page.get_by_role("button", name="Find").click()
    await expect(page.locator(".cases li")).to_have_count(1)

    await page.get_by_label("Number or words").fill("")
    await page.get_by_label("State").select_option("refunded")
    await page.get_by_role("button", name="Find").click()
    await expect(page.locator(".cases li")).to_have_count(1)
    await page.locator(".cases a").click()
    await expect(page.locator(".point")).to_contain_text("As of event 14 of 14")
    await page.goto(f"{DESK}/cases?q=c-1002")
    await expect(page.locator(".cases li")).to_have_count(1)


async def test_the_feed_goes_back_event_by_event_to_the_first(service: Service) -> None:
    await a_story(service)
    expected = done(await service.lou.get("/v1/events", limit=1000))["items"]
    positions: list[int] = []
    path: str | None = "/feed"
    while path is not None:
        page = (await get(service, path)).text
        positions += [int(one.replace(",", "")) for one in re.findall(r'class="seq">([\d,]+)<', page)]
        more = re.search(r'href="([^"]+)" rel="next"', page)
        path = more[1].replace("&amp;", "&").removeprefix(DESK) if more else None

    assert positions == list(range(positions[0], 0, -1))  # reading it added some: sessions
    assert positions[0] >= len(expected)


async def test_the_feed_is_narrowed_by_type_by_person_and_by_case(service: Service) -> None:
    story = await a_story(service)

    async def told(**query: str) -> list[tuple[str, str]]:
        page = (await get(service, "/feed", **query)).text
        found = re.finditer(r'class="told"><b dir="auto">([^<]*)</b> ([^<]*)<', page)
        return [(one[1], one[2]) for one in found]

    assert await told(type="verdict_given") == [("Cleo", "approved the proposal p7")]
    assert {who for who, _ in await told(actor="person:dirk")} == {"Dirk"}
    assert len(await told(chain=story["number"])) == 14
    assert len(await told(chain=f"case:{story['id']}", type="note_added")) == 1
    assert await told(chain="nothing like this") == []
    assert len(await told(actor="person:nobody")) == len(await told())  # no filter that there is


async def test_an_event_shows_its_bytes_and_the_proof_that_the_tree_holds_it(service: Service) -> None:
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    await a_story(service)
    signed = await service.desk.sequencer.settle()
    assert signed is not None
    page = (await get(service, f"/events/{signed.size}")).text

    assert f"of the tree of {signed.size} events" in page
    assert signed.root in page
    assert (await get(service, "/events/1")).status_code == 200
    for wrong in ("0", "x", "9" * 15, "9" * 5000, "٣", "1e3"):
        assert (await get(service, f"/events/{wrong}")).status_code == 404


async def test_reports_and_exports_are_taken_away_by_page(service: Service) -> None:
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    await a_story(service)
    duties = await get(service, "/reports/duties", format="json")
    assert duties.json()["items"][0]["proposed_by"] == "person:ana"
    assert "300.00 EUR" in (await get(service, "/reports/duties")).text
    assert "nothing to report" in (await get(service, "/reports/duties", to="2026-01-01")).text
    assert (await get(service, "/reports/duties", to="tomorrow")).status_code == 422
    assert (await get(service, "/reports/unknown")).status_code == 404

    log = await get(service, "/exports/log")
    assert json.loads(log.text.splitlines()[0])["casework_log"] == 1
    assert "C-1001" in (await get(service, "/exports/cases", format="csv", state="", personal="")).text
    assert (await get(service, "/exports/events", format="pdf")).status_code == 422
    assert (await get(service, "/exports/unknown")).status_code == 404
    assert "\n" in (await get(service, "/checkpoint")).text
    items = done(await service.lou.get("/v1/reads"))["items"]
    assert [one["data"]["what"] for one in items] == ["cases", "log"]


async def test_what_was_refused_read_and_changed_stands_in_its_list(service: Service) -> None:
    story = await a_story(service)
    done(await service.ana.fire(story["id"], "investigate"), 409)
    await get(service, f"/cases/{story['number']}")

    refused, reads, changes = [(await get(service, f"/{name}")).text for name in ("refused", "reads", "changes")]

    assert 'href="/audit-desk/cases/C-1001?at=14">C-1001</a>' in refused
    assert "no such transition" in refused
    assert "read a case at version 14: replay" in reads
    assert "gave Audrey a session" in changes


# Who may see what, and what they may have written.

PAGES = {
    "": "lead auditor",
    "/cases": "agent lead approver auditor",
    "/feed": "agent lead approver auditor",
    "/events/1": "lead auditor",
    "/refused": "lead auditor",
    "/reads": "lead auditor",
    "/changes": "lead auditor admin",
    "/set-aside": "agent lead approver auditor",
    "/findings": "agent lead approver auditor",
    "/samples": "lead auditor",
    "/reports": "lead auditor",
    "/reports/duties": "lead auditor",
    "/reports/near-tiers": "lead auditor",
    "/reports/overrides": "lead auditor",
    "/reports/voided-approvals": "lead auditor",
    "/reports/refusals": "lead auditor",
    "/take-away": "lead auditor",
    "/exports/events": "lead auditor",
    "/exports/cases": "lead auditor",
    "/cases/C-1001": "agent lead approver auditor",
    "/cases/C-1001/step": "agent lead approver auditor",
    "/cases/C-1001/verification": "lead auditor",
    "/cases/C-1001/decisions": "agent lead approver auditor",
    "/cases/C-1001/bundle": "lead auditor",
    "/checkpoint": "lead auditor",
    "/exports/log": "lead auditor",
}


async def test_every_page_is_for_those_who_may_ask_the_same_of_the_api(service: Service) -> None:
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    await a_story(service)
    await service.desk.sequencer.settle()
    for path, roles in PAGES.items():
        for one in STAFF:
            expected = 200 if one.roles & {*roles.split()} else 403
            assert (await get(service, path, one.id)).status_code == expected, (path, one.id)
        away = await service.client.get(f"{BASE}{DESK}{path}")
        assert (away.status_code, away.headers["location"].startswith("/sign-in?next=")) == (303, True)
    for path in ("/cases/C-9999", "/cases/x/step", "/cases/C-9999/verification", "/findings/x/y", "/samples/x"):
        assert (await get(service, path)).status_code == 404


async def test_what_is_for_auditors_alone_is_refused_to_others_and_recorded(service: Service) -> None:
    await a_story(service)
    csrf = hidden((await get(service, "/samples")).text, "/samples")["csrf"]
    for path in ("/samples", "/cases/C-1001/findings"):
        assert (await post(service, path, {"csrf": csrf, "size": "1"}, "lou")).status_code == 403  # another's mark
        assert (await post(service, path, {"csrf": "0", "size": "1"})).status_code == 403
    assert (await service.client.post(f"{BASE}{DESK}/samples", data={})).status_code in {303, 403}


HOSTILE = "<script>alert(1)</script>\"'>&amp;<img src=x onerror=alert(2)> \u202eevil\u202c שלום مرحبا "


async def test_whatever_people_wrote_is_shown_as_text(site: Site) -> None:
    service = site.service
    story = await service.ana.investigate(
        subject=HOSTILE, message=HOSTILE + "w" * 10_000, client={"name": HOSTILE, "email": "una@example.com"},
        purchase=a_purchase("<b>D-1</b>\u202e", package=HOSTILE),
    )  # fmt: skip
    claim = {"kind": "billing_error", "affected": euros("300.00"), "statement": HOSTILE + "x" * 9_000}
    await service.ana.add(story["id"], "grounds", **claim)
    form = {"file": ("<i>.txt", b"evidence", "text/plain")}
    done(await service.ana.send("POST", f"/v1/cases/{story['id']}/attachments", files=form), 201)
    page = await site.visit("audrey", viewport=NARROW)
    page.on("dialog", lambda dialog: site.faults.append(f"a dialog: {dialog.message}"))

    await page.goto(f"{DESK}/cases/{story['number']}?at=1&from=1")
    for at in range(1, 6):
        await shown(page, at)
        await require_tidy(page)
        await page.keyboard.press("]")
    for path in ("/cases", "/feed", f"/cases/{story['number']}/decisions", f"/cases/{story['number']}/verification"):
        await page.goto(f"{DESK}{path}")
        await require_tidy(page)
    assert await page.locator("main script, main b b, main i, main img").count() == 0
    for query in ("q", "state", "chain", "type", "case", "cursor", "before"):
        for path in ("/cases", "/feed", "/findings", "/refused"):
            answer = await get(service, path, **{query: HOSTILE})
            assert answer.status_code in {200, 404, 422}
            assert "<script>alert" not in answer.text


async def test_what_was_erased_reads_erased_and_still_proves(site: Site) -> None:
    service = site.service
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    case = await a_closed_case(service)
    asked = {"client": ZAPHOD["email"], "legal_basis": BASIS, "reason": "asked", "override": True}
    done(await service.adam.post("/v1/erasures", asked), 201)
    page = await site.visit("audrey")
    await page.goto(f"{DESK}/cases/{case['number']}?at=1")
    text = await page.locator("main").inner_text()
    assert "Zaphod" not in text
    assert text.count("erased") >= 4
    await require_accessible(page)
    await page.goto(f"{DESK}/cases/{case['number']}/verification")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("what could be checked holds")
    await expect(page.locator(".proved")).to_contain_text("were erased, and are gone")


async def test_every_page_is_accessible_and_tidy_at_every_width(site: Site) -> None:
    service = site.service
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    story = await a_story(service, subject="Über die Bänner, 広告が重複しています", message="w" * 3_000)
    done(await service.ana.fire(story["id"], "investigate"), 409)
    await service.desk.sequencer.settle()
    pages = [
        path for path in PAGES if "export" not in path and not path.endswith(("/step", "/bundle", "/checkpoint"))
    ] + ["/cases/C-1001?at=8&from=2", "/findings?status=open", "/feed?type=refused"]
    page = await site.visit("audrey")
    for path in pages:
        await page.set_viewport_size(DESKTOP)
        await page.goto(f"{DESK}{path}")
        assert await page.locator("h1").count() == 1
        await require_accessible(page)
        for name, size in (("narrow", NARROW), ("phone", PHONE), ("desktop", DESKTOP)):
            await page.set_viewport_size(size)
            await require_tidy(page)
            await picture(page, f"audit{path.replace('/', '-').replace('?', '-')}-{name}")
    dark = await site.visit("audrey", color_scheme="dark", viewport=PHONE)
    for path in ("", "/feed", "/cases/C-1001?at=8&from=2", "/cases/C-1001/verification"):
        await dark.goto(f"{DESK}{path}")
        await require_accessible(dark)
        await require_tidy(dark)


async def test_an_empty_desk_says_what_will_be_there(site: Site) -> None:
    page = await site.visit("audrey")
    for path, words in {
        "": "No attempt was refused",
        "/cases": "There is no case yet",
        "/findings": "Nothing was found yet",
        "/samples": "No sample was drawn yet",
        "/refused": "No attempt was refused",
        "/reads": "Nobody has read anything yet",
        "/set-aside": "No mail was set aside",
        "/reports/duties": "There is nothing to report",
    }.items():
        await page.goto(f"{DESK}{path}")
        await expect(page.locator("main")).to_contain_text(words)
    await require_accessible(page)
