"""Pages that keep themselves up to date: in a browser, and as a script hears the stream behind them."""

import asyncio
import gzip
import hashlib
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from playwright.async_api import Browser, Page, Route, expect

from api.live import MAX_OF_A_SESSION
from api.pages import live
from api.pages.rendering import HERE, STATIC
from tests.api.driving import Service
from tests.pages.browsing import PHONE, Site, a_site, look_away, picture, require_accessible, require_tidy, sign_in
from workflow.commands import AddMessage
from workflow.people import DisablePerson
from workflow.states import Direction

SOON = 5.0  # seconds
TOO_MUCH = 20_000_000  # bytes
STREAM = {"accept": "text/event-stream"}


# The queue.


async def test_what_somebody_does_is_seen_in_the_open_queue_of_another(site: Site) -> None:
    case = await site.service.ana.open(subject="The banners never ran")
    page = await site.visit("bo")
    await page.goto("/queue?tab=unassigned")
    row = page.locator(f"#{case['number']}")
    await expect(row).to_contain_text("opened")
    await page.evaluate("window.isTheSamePage = true")
    await site.service.lou.open(subject="<b>Two</b> more banners")
    second = page.locator("#list").get_by_text("<b>Two</b> more banners")
    await expect(second).to_be_visible()
    await expect(page.locator(".tabs [aria-current]")).to_contain_text("2")
    await site.service.ana.fire(case["id"], "investigate")

    await expect(row).to_have_count(0)
    await expect(second).to_be_visible()
    assert await page.evaluate("window.isTheSamePage")
    await require_accessible(page)


async def test_whoever_reads_a_list_keeps_their_place_in_it(site: Site) -> None:
    cases = [await site.service.ana.open(subject=f"Banner {number}") for number in range(45)]
    page = await site.visit("bo")
    await page.goto("/queue?tab=unassigned")
    link = page.locator(f"#{cases[30]['number']} .title a")
    await link.focus()
    await link.evaluate("one => { one.isTheSame = true; }")
    scrolled = await page.evaluate("scrollY")
    assert scrolled > 0
    await site.service.lou.fire(cases[40]["id"], "investigate")

    await expect(page.locator(f"#{cases[40]['number']}")).to_have_count(0)
    assert await page.evaluate("document.activeElement.isTheSame")
    assert await page.evaluate("scrollY") == scrolled
    below = page.locator(f"#{cases[30]['number']} + tr .title a")
    name = await below.inner_text()
    await site.service.lou.fire(cases[30]["id"], "investigate")
    await expect(link).to_have_count(0)
    assert await page.evaluate("document.activeElement.innerText") == name  # where one goes on with the keyboard


async def test_what_is_selected_stays_so_and_an_empty_list_becomes_a_whole_one(site: Site) -> None:
    page = await site.visit("bo")
    await page.goto("/queue?tab=unassigned")
    cases = [await site.service.ana.open(subject=f"Banner {number}") for number in range(2)]
    boxes = [page.locator(f"#{case['number']}").get_by_role("checkbox") for case in cases]
    await boxes[1].check()
    await expect(page.locator(".bulk")).to_be_visible()
    await site.service.lou.put(f"/v1/cases/{cases[1]['id']}/category", {"category": "results", "reason": "as they say"})
    await site.service.lou.open(subject="One more banner")

    await expect(page.get_by_text("One more banner")).to_be_visible()
    await expect(boxes[1]).to_be_checked()
    assert "2" in str(await boxes[1].get_attribute("value"))  # the version that is seen now
    await expect(boxes[0]).not_to_be_checked()
    await expect(page.get_by_label("Select all")).to_be_visible()
    assert await page.get_by_label("Select all").evaluate("one => one.indeterminate")


async def test_a_card_goes_to_another_column_of_an_open_board(site: Site) -> None:
    case = await site.service.ana.open()
    page = await site.visit("bo")
    await page.goto("/board")
    card = page.locator(f"#{case['number']}")
    await expect(page.locator("[data-state=opened] .card")).to_have_count(1)
    await card.locator(".title a").focus()
    await site.service.ana.fire(case["id"], "investigate")
    new = await site.service.ana.open()

    await expect(page.locator("[data-state=investigating]").locator(card)).to_be_visible()
    await expect(page.locator(f"#{new['number']}")).to_have_attribute("draggable", "true")


async def test_whoever_comes_from_another_tab_sees_what_happened_meanwhile(site: Site) -> None:
    service = site.service
    case = await service.ana.open()
    page = await site.visit("bo")
    await page.goto("/queue?tab=unassigned")
    await until(lambda: len(service.desk.live.watchers) == 1)
    await look_away(page, hidden=True)
    await until(lambda: not service.desk.live.watchers)
    await service.ana.fire(case["id"], "investigate")
    await look_away(page, hidden=False)

    await expect(page.locator(f"#{case['number']}")).to_have_count(0)


async def test_a_page_whose_person_has_signed_out_elsewhere_says_so(site: Site) -> None:
    page = await site.visit("bo")
    await page.goto("/queue")
    other = await page.context.new_page()
    await other.goto("/queue")
    await other.get_by_text("Bo", exact=True).click()
    await other.get_by_role("button", name="Sign out").click()

    await expect(page.get_by_role("status")).to_contain_text("no longer updates")
    await require_accessible(page)
    for width in (1280, PHONE["width"], 320):
        await page.set_viewport_size({"width": width, "height": 800})
        await require_tidy(page)
        await picture(page, f"live-ended-{width}")
    await page.get_by_role("link", name="Load it again").click()
    await page.wait_for_url("**/sign-in?next=*")


async def test_a_page_that_was_signed_out_while_nobody_looked_says_so(site: Site) -> None:
    page = await site.visit("bo")
    await page.clock.install()
    async with page.expect_response("**/live?*"):
        await page.goto("/queue")
    await look_away(page, hidden=True)
    await site.service.desk.submit_as_system("operator", DisablePerson(person_id="bo"), via="cli", admin=True)
    async with page.expect_response("**/live?*") as answer:
        await look_away(page, hidden=False)
    assert (await answer.value).status == 204
    await page.clock.fast_forward(25_000)

    await expect(page.get_by_role("status")).to_contain_text("no longer updates")


# The page of a case.


async def test_whoever_looks_at_the_same_case_is_named(site: Site) -> None:
    case = await site.service.ana.open()
    ana, bo, cleo = [await site.visit(name) for name in ("ana", "bo", "cleo")]
    await ana.goto(f"/cases/{case['number']}")
    await expect(ana.locator("#lookers")).to_be_hidden()
    await bo.goto(f"/cases/{case['number']}")
    await expect(ana.locator("#lookers")).to_have_text("Bo is looking at this too")
    await expect(bo.locator("#lookers")).to_have_text("Ana is looking at this too")
    await cleo.goto(f"/cases/{case['number']}")
    await expect(ana.locator("#lookers")).to_have_text("Bo and Cleo are looking at this too")
    await require_accessible(ana)
    for width in (1280, PHONE["width"], 320):
        await ana.set_viewport_size({"width": width, "height": 800})
        await require_tidy(ana)
        await picture(ana, f"live-lookers-{width}")
    await cleo.close()
    await bo.goto("/queue")

    await expect(ana.locator("#lookers")).to_be_hidden()


async def test_what_one_does_is_seen_by_another_who_is_writing_and_loses_nothing(site: Site) -> None:
    service = site.service
    case = await service.ana.investigate()
    ana, bo = [await site.visit(name) for name in ("ana", "bo")]
    for page in (ana, bo):
        await page.goto(f"/cases/{case['number']}")
    offer = bo.locator("#offer-adjustment")
    await offer.locator("summary").click()
    await offer.locator("[name=reason]").fill("They were promised more.")
    await offer.locator("[name='data.description']").press_sequentially("Another aud")
    note = ana.locator("#note")
    await note.locator("summary").click()
    await note.locator("textarea").fill("<i>They</i> called.")
    await note.get_by_role("button").last.click()
    await expect(ana.locator("#done")).to_be_visible()

    await expect(bo.locator("#messages")).to_contain_text("<i>They</i> called.")
    await offer.locator("[name='data.description']").press_sequentially("ience")
    await expect(offer.locator("[name=reason]")).to_have_value("They were promised more.")
    await expect(offer.locator("[name='data.description']")).to_have_value("Another audience")
    await require_accessible(bo)
    await picture(bo, "live-case-held")
    await service.as_system("mail", AddMessage(direction=Direction.INBOUND, text="Any news?"), case["id"])
    await expect(bo.locator("#messages")).to_contain_text("Any news?")
    await expect(ana.locator("#messages")).to_contain_text("Any news?")
    await expect(ana.locator("#done")).to_be_visible()
    await offer.locator("[name='data.answer_by']").fill((service.clock() + timedelta(days=9)).date().isoformat())
    await bo.get_by_role("button", name="keep what I wrote").click()
    await offer.get_by_role("button").last.click()

    await expect(bo.locator("#head")).to_contain_text("adjustment offered")
    await expect(ana.locator("#head")).to_contain_text("adjustment offered")


async def test_what_one_does_oneself_loads_no_page_twice(site: Site) -> None:
    case = await site.service.ana.open()
    page = await site.visit("bo")
    await page.goto(f"/cases/{case['number']}")
    loaded: list[str] = []
    page.on("request", lambda one: loaded.append(one.method) if f"/{case['number']}" in one.url else None)
    note = page.locator("#note")
    await note.locator("summary").click()
    await note.locator("textarea").fill("They called.")
    await note.get_by_role("button").last.click()
    await expect(page.locator("#done")).to_be_visible()
    (watcher,) = site.service.desk.live.watchers
    (topic,) = watcher.topics
    watcher.change(topic, case["version"] + 1, 0.0)  # as where events are numbered later
    await until(lambda: not watcher.changed)
    await page.wait_for_timeout(1200)

    assert loaded == ["POST", "GET"]


async def test_what_came_back_to_be_sent_again_stays_when_the_case_changes_once_more(site: Site) -> None:
    service = site.service
    site.allow("412")
    case = await service.ana.investigate()
    page = await site.visit("bo")
    await page.goto(f"/cases/{case['number']}")
    await look_away(page, hidden=True)  # so that the form is late
    await service.ana.add(case["id"], "notes", text="meanwhile")
    close = page.locator("#close")
    await close.locator("summary").click()
    await close.locator("[name='data.resolution']").select_option("spam")
    await close.locator("[name=reason]").fill("They sell rings.")
    await close.get_by_role("button").last.click()
    returned = page.locator("#returned")
    await expect(returned).to_contain_text("Somebody changed the case")
    await service.ana.add(case["id"], "notes", text="and once more")

    await expect(page.locator("#messages")).to_contain_text("and once more")
    await expect(returned.locator("[name=reason]")).to_have_value("They sell rings.")
    assert await page.locator("[id='close.reason']").count() == 1  # of the new form, which can be sent as well


async def test_a_draft_that_was_found_again_is_not_said_to_have_changed(site: Site) -> None:
    case = await site.service.ana.investigate()
    page = await site.visit("bo")
    await page.goto(f"/cases/{case['number']}")
    note = page.locator("#note textarea")
    await page.locator("#note summary").click()
    await note.fill("She is patient.")
    await page.reload()
    await expect(page.locator(".kept")).to_contain_text("Your draft of")
    await site.service.ana.add(case["id"], "notes", text="They called.")

    await expect(page.locator("#messages")).to_contain_text("They called.")
    await expect(note).to_have_value("She is patient.")
    await expect(page.locator(".held")).to_have_count(0)


async def test_whoever_reads_a_history_keeps_their_place_in_it(site: Site) -> None:
    case = await site.service.ana.investigate()
    page = await site.visit("bo")
    await page.goto(f"/cases/{case['number']}")
    link = page.get_by_role("link", name="Event 1 in the replay")
    await link.focus()
    await link.evaluate("one => { one.isTheSame = true; }")
    await site.service.ana.add(case["id"], "notes", text="They called.")

    await expect(page.locator("#messages")).to_contain_text("They called.")
    await expect(link).to_be_focused()
    assert await link.evaluate("one => one.isTheSame")


async def test_nothing_moves_while_a_page_is_loaded(site: Site) -> None:
    case = await site.service.ana.open()
    page = await site.visit("bo")
    for path in ("/queue?tab=unassigned", "/board", f"/cases/{case['number']}"):
        await page.goto(path)
        await page.wait_for_timeout(500)
        assert await page.evaluate(MOVED) == 0


MOVED = """() => new Promise((answer) => {
    let moved = 0;
    new PerformanceObserver((list) => {
        for (const one of list.getEntries()) moved += one.value;
    }).observe({ type: "layout-shift", buffered: true });
    setTimeout(() => answer(moved), 100);
})"""


# What is done to a page: one that is made up here, with the desk's own stream.


class Trial:
    """A page at /trial that shows `inner` in a region about a case."""

    def __init__(self, case: str) -> None:
        self.case = case
        self.inner = ""
        self.loaded = 0

    async def answer(self, route: Route) -> None:
        self.loaded += 1
        body = f"""<!doctype html><html lang="en"><title>Trial {self.loaded}</title>
            <link rel="stylesheet" href="{STATIC.url("casework.css")}">
            <script src="{STATIC.url("idiomorph.min.js")}" defer></script>
            <script src="{STATIC.url("live.js")}" defer></script>
            <body data-since="0"><main><h1>Trial</h1><p id="lookers" hidden></p>
            <div id="case" data-live="case:{self.case}">{self.inner}</div></main></body></html>"""
        await route.fulfill(body=body, content_type="text/html")

    async def visit(self, site: Site, name: str) -> Page:
        page = await site.visit(name)
        await page.route("**/trial", self.answer)
        await page.goto("/trial")
        return page


async def test_what_somebody_is_typing_is_left_alone_and_can_be_taken_along(site: Site) -> None:
    case = await site.service.ana.open()
    trial = Trial(case["number"])

    def shown(version: int, more: str = "") -> str:
        return f"""<p>at version {version}</p>
            <form id="reply"><input type="hidden" name="key" value="{trial.loaded}">
              <input type="hidden" name="version" value="{version}">
              <label>Reply <textarea name="text"></textarea></label>
              {more}</form>
            <form id="note"><label>Note <input name="note"></label>
              <label>Of <select><option>us</option><option>them</option></select></label><b>{version}</b></form>"""

    trial.inner = shown(1)
    page = await trial.visit(site, "bo")
    await page.get_by_label("Reply").fill("Dear Una,")
    trial.inner = shown(1)
    await site.service.ana.add(case["id"], "notes", text="nothing that is on the page")
    await until(lambda: trial.loaded == 3)  # once for what happened since position 0
    await expect(page.get_by_role("status")).to_have_count(0)
    more = "<label>Wait <input type=checkbox name=wait></label>"
    trial.inner = f"<h2>News</h2>{shown(2, more)}"
    await site.service.ana.add(case["id"], "notes", text="and something that is")

    await expect(page.get_by_text("at version 2")).to_be_visible()
    await expect(page.locator("#note b")).to_have_text("2")
    await expect(page.get_by_label("Reply")).to_have_value("Dear Una,")
    await expect(page.locator("[name=version]")).to_have_value("1")
    await require_accessible(page)
    await picture(page, "live-held")
    trial.inner = f"<p class='note'>Other news</p><div><form></form></div>{shown(3, more)}"
    await site.service.ana.add(case["id"], "notes", text="again")
    await expect(page.get_by_text("at version 3")).to_be_visible()
    await expect(page.get_by_role("status")).to_have_count(1)
    await page.get_by_role("button", name="keep what I wrote").click()
    await expect(page.locator("[name=version]")).to_have_value("3")
    await expect(page.get_by_label("Reply")).to_have_value("Dear Una,")
    await expect(page.get_by_label("Wait")).not_to_be_checked()
    await expect(page.get_by_role("status")).to_have_count(0)


@pytest.mark.parametrize(
    "left", ["", "<h3 id='last'>Last</h3>", "<h3 id='last'>Last</h3><ul><li id='first'>First</li></ul>"]
)
async def test_what_somebody_has_written_stays_though_its_part_of_the_page_goes(site: Site, left: str) -> None:
    case = await site.service.ana.open()
    trial = Trial(case["number"])
    reply = "<form><label>Reply <textarea></textarea></label></form>"
    trial.inner = f"<ol><li id='first'>First</li><li>{reply}</li></ol><h3 id='last'>Last</h3>"
    page = await trial.visit(site, "bo")
    await page.get_by_label("Reply").fill("Dear Una,")
    await page.get_by_label("Reply").blur()
    trial.inner = f"<h2>Closed</h2>{left}"
    await site.service.ana.add(case["id"], "notes", text="again")

    await expect(page.get_by_text("Closed")).to_be_visible()
    await expect(page.get_by_text("First")).to_be_visible()
    await expect(page.get_by_label("Reply")).to_have_value("Dear Una,")


async def test_what_is_unfolded_or_a_scripts_own_stays_as_it_is(site: Site) -> None:
    case = await site.service.ana.open()
    trial = Trial(case["number"])
    trial.inner = """<details><summary>History</summary><p class="some">1 event</p></details>
        <p data-own>made here: </p><input type="checkbox" aria-label="All" hidden>"""
    page = await trial.visit(site, "bo")
    await page.get_by_text("History").click()
    await page.locator("[data-own]").evaluate("one => { one.textContent = 'made here: 5'; }")
    await page.locator("[aria-label=All]").evaluate("one => { one.hidden = false; one.checked = true; }")
    trial.inner = trial.inner.replace("1 event", "2 events").replace('class="some"', 'class="more"')
    await site.service.ana.add(case["id"], "notes", text="again")

    await expect(page.get_by_text("2 events")).to_be_visible()
    await expect(page.locator("[data-own]")).to_have_text("made here: 5")
    await expect(page.get_by_label("All")).to_be_checked()
    await expect(page.locator("p.more")).to_be_visible()


async def test_whatever_changes_the_page_becomes_what_the_desk_shows(site: Site) -> None:
    case = await site.service.ana.open()
    trial = Trial(case["number"])

    def show(names: str, mark: int) -> None:
        rows = "\n".join(
            f"<li id='row-{one}' title='{mark}{one}'>{one}{'<b>*</b>' * (one in 'bx')}</li>" for one in names.split()
        )
        parts = [f"<p class='{'note' * (mark % 3)}'>text {names}</p>", f"<h2>{names}</h2>", f"<ul>\n{rows}\n</ul>"]
        trial.inner = "\n".join(parts[mark % 3 :] + parts[: mark % 2]) + f"<hr>as of {mark}{'<hr>' * len(names)}"

    show("", 0)
    page = await trial.visit(site, "bo")
    for mark, names in enumerate(("a b c", "c a b", "b", "", "a b c d e", "e x b a y", "z"), 1):
        show(names, mark)
        await site.service.ana.add(case["id"], "notes", text="again")
        await expect(page.get_by_text(f"as of {mark}")).to_be_visible()

        assert await page.evaluate(IS_AS_SHOWN)


IS_AS_SHOWN = """async () => {
    const shown = new DOMParser().parseFromString(await (await fetch("/trial")).text(), "text/html");
    return document.getElementById("case").isEqualNode(shown.getElementById("case"));
}"""


# The stream itself.


class Heard:
    """A stream as a script hears it."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.lines = response.aiter_lines()
        self.last_id = ""

    async def next(self) -> tuple[str, Any] | None:
        """The next event and what it says; None at the end."""
        event = ""
        async with asyncio.timeout(SOON):
            async for line in self.lines:
                field, _, value = line.partition(": ")
                if field == "id":
                    self.last_id = value
                elif field == "event":
                    event = value
                elif field == "data":
                    return event, json.loads(value)
        return None


@asynccontextmanager
async def a_stream(site: Site, name: str | None, query: str, **headers: str) -> AsyncIterator[Heard]:
    cookie = {"cookie": f"casework={await sign_in(site.service, name)}"} if name else {}
    async with (
        httpx2.AsyncClient(base_url=site.url, timeout=SOON) as client,
        client.stream("GET", f"/live?{query}", headers=STREAM | cookie | headers) as response,
    ):
        yield Heard(response)


async def until(question: Any) -> None:
    async with asyncio.timeout(SOON):
        while not question():  # noqa: ASYNC110 - it is about the state of the service
            await asyncio.sleep(0.02)


async def test_a_stream_is_one_and_is_kept_by_nobody(site: Site) -> None:
    async with a_stream(site, "ana", "list") as heard:
        headers = heard.response.headers
        assert (heard.response.status_code, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
        assert "content-length" not in headers


async def test_a_stream_goes_on_from_what_was_heard_last(site: Site) -> None:
    case = await site.service.ana.open()
    query = f"case={case['number']}&since=0"
    async with a_stream(site, "bo", query) as heard:
        assert await heard.next() == ("changed", {f"case:{case['id']}": 1})
    await site.service.ana.fire(case["id"], "investigate")
    async with a_stream(site, "bo", query, **{"last-event-id": heard.last_id}) as again:
        assert await again.next() == ("changed", {f"case:{case['id']}": 2})
    async with a_stream(site, "bo", query, **{"last-event-id": again.last_id}):
        (watcher,) = site.service.desk.live.watchers
        assert not watcher.changed


@pytest.mark.parametrize("since", ["", "x", "-1", "٣", "1e3", "9" * 40, "\x00"])
async def test_a_place_that_makes_no_sense_is_none(site: Site, since: str) -> None:
    async with a_stream(site, "bo", str(httpx2.QueryParams({"list": "", "since": since}))) as heard:
        assert heard.response.status_code == 200


@pytest.mark.parametrize(
    ("name", "query", "status"),
    [
        (None, "list", 204),  # a browser does not try again
        ("adam", "list", 403),
        ("ana", "", 422),
        ("ana", "case=C-1", 404),
        ("ana", "case=%00", 404),
        ("ana", "case=", 404),
        ("ana", f"case={'9' * 5000}", 404),
        ("ana", "case=%3Cscript%3E&list", 404),
    ],
)
async def test_who_may_hear_what(site: Site, name: str | None, query: str, status: int) -> None:
    async with a_stream(site, name, query) as heard:
        assert heard.response.status_code == status
    assert not site.service.desk.live.watchers


async def test_a_session_has_so_many_streams_at_once(site: Site) -> None:
    await sign_in(site.service, "ana")
    ready: asyncio.Queue[int] = asyncio.Queue()
    done = asyncio.Event()

    async def hold() -> None:
        async with a_stream(site, "ana", "list") as heard:
            ready.put_nowait(heard.response.status_code)
            await done.wait()

    async with asyncio.TaskGroup() as holding:
        for _ in range(MAX_OF_A_SESSION):
            holding.create_task(hold())
        assert {await ready.get() for _ in range(MAX_OF_A_SESSION)} == {200}
        async with a_stream(site, "ana", "list") as heard:
            assert (heard.response.status_code, heard.response.headers["retry-after"]) == (429, "60")
        done.set()


async def test_a_connection_that_is_closed_leaves_nothing_behind(site: Site) -> None:
    hub = site.service.desk.live
    case = await site.service.ana.open()
    await sign_in(site.service, "bo")
    await asyncio.sleep(0)
    before = {task.get_name() for task in asyncio.all_tasks()}
    for _ in range(3):
        async with a_stream(site, "bo", f"case={case['id']}&list") as heard:
            assert heard.response.status_code == 200
            assert hub.watchers
    await until(lambda: not hub.watchers and hub.task is None)

    assert (hub.watching, hub.people, hub.presence.open) == ({}, {}, {})
    assert {task.get_name() for task in asyncio.all_tasks()} <= before


@asynccontextmanager
async def somebody_who_reads_nothing(site: Site) -> AsyncIterator[socket.socket]:
    """With more on the way to them than the machine keeps for them."""
    hub = site.service.desk.live
    cookie = await sign_in(site.service, "bo")
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.settimeout(0)
        host, _, port = site.url.removeprefix("http://").partition(":")
        loop = asyncio.get_running_loop()
        await loop.sock_connect(stuck, (host, int(port)))
        request = f"GET /live?list HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: casework={cookie}\r\n\r\n"
        await loop.sock_sendall(stuck, request.encode())
        await until(lambda: hub.watchers)
        (watcher,) = hub.watchers
        watcher.show_looking(("x" * TOO_MUCH,))
        await until(lambda: not watcher.is_looking_news)
        watcher.show_looking(("y",))
        yield stuck


async def test_who_reads_nothing_is_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STUCK_SECONDS", 0.2)
    async with somebody_who_reads_nothing(site) as stuck:
        await until(lambda: not site.service.desk.live.watchers)
        received = 0
        with suppress(ConnectionResetError):
            while data := await asyncio.get_running_loop().sock_recv(stuck, 1_000_000):
                received += len(data)

    assert received < TOO_MUCH  # nothing waits for the rest to be read


async def test_who_reads_nothing_does_not_hold_up_a_server_that_stops(
    service: Service, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(a_site(service, browser))
        stuck = somebody_who_reads_nothing(site)
        await stuck.__aenter__()  # it outlives the server
        await stack.aclose()
        assert not service.desk.live.watchers
        assert not [one for one in caplog.records if one.levelname == "ERROR"]
        await stuck.__aexit__(None, None, None)


# How pages are sent.


async def test_pages_are_sent_packed_to_whoever_takes_that(service: Service) -> None:
    cookie = {"cookie": f"casework={await sign_in(service, 'ana')}"}
    plain = await service.client.get("http://127.0.0.1/queue", headers=cookie | {"accept-encoding": "identity"})
    refusing = await service.client.get("http://127.0.0.1/queue", headers=cookie | {"accept-encoding": "gzip;q=0, br"})
    packed = await service.client.get("http://127.0.0.1/queue", headers=cookie | {"accept-encoding": "br, gzip"})

    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in refusing.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert "Accept-Encoding" in packed.headers["vary"]
    assert packed.text.count("<li>") == plain.text.count("<li>")


async def test_the_length_of_a_packed_page_says_nothing_of_what_is_on_it(service: Service) -> None:
    cookie = {"cookie": f"casework={await sign_in(service, 'ana')}", "accept-encoding": "gzip"}
    answers = [await service.client.get("http://127.0.0.1/queue?q=abc", headers=cookie) for _ in range(20)]

    assert len({one.headers["content-length"] for one in answers}) > 5
    marks = {one.text.partition('name="csrf" value="')[2].partition('"')[0] for one in answers}
    assert len(marks) == len(answers)
    form = {"csrf": marks.pop()}
    headers = cookie | {"sec-fetch-site": "same-origin"}
    signed_out = await service.client.post("http://127.0.0.1/sign-out", headers=headers, data=form)
    assert signed_out.status_code == 303


def test_what_others_made_is_served_as_they_made_it() -> None:
    told = (HERE / "static" / "VENDORED.md").read_text()
    digests = dict(re.findall(r"^## (\S+)$.*?SHA-256 `(\w+)`", told, re.DOTALL | re.MULTILINE))

    assert digests == {
        name: hashlib.sha256(content).hexdigest() for name, content in STATIC.content.items() if ".min." in name
    }


async def test_static_files_are_packed_once(service: Service) -> None:
    url = f"http://127.0.0.1{STATIC.url('casework.css')}"
    plain = await service.client.get(url, headers={"accept-encoding": "identity"})
    packed = await service.client.get(url, headers={"accept-encoding": "gzip"})

    assert (
        plain.content
        == packed.content
        == STATIC.content["casework.css"]
        == gzip.decompress(STATIC.packed["casework.css"])
    )
    assert packed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["vary"]
