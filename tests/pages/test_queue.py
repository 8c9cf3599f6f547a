"""The queue: what it lists and in which order, what stands in its address, and lists that are kept under a name."""

import gzip
import html
import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page, ViewportSize, expect

from api.pages import asking, queue
from api.pages.asking import PAGE_ROWS
from storage import people
from storage.submissions import Submission
from tests.api.driving import Json, Service, a_purchase, done
from tests.pages.browsing import DESKTOP, PHONE, Site, picture, require_accessible, require_tidy
from tests.pages.visiting import Visitor
from tests.workflow.builders import ANA, NOON
from workflow import commands as c
from workflow.people import MAX_FILTERS, SaveFilter
from workflow.states import Direction

NARROW: ViewportSize = {"width": 320, "height": 640}
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "{{ 7 * 7 }} ${7*7}",
    "\N{RIGHT-TO-LEFT OVERRIDE}txet\N{POP DIRECTIONAL FORMATTING}",
    "سلام שלום 日本語",
)
ROW = re.compile(r'<tr[^>]* id="(C-\d+)"')


def of(service: Service, name: str) -> Visitor:
    return Visitor(service, name)


async def numbers(visitor: Visitor, **query: str) -> list[str]:
    page = await visitor.get("/queue", **query)
    assert page.status_code == 200
    return ROW.findall(page.text)


async def a_desk_in_use(service: Service) -> dict[str, Json]:
    """A case for each tab."""
    ana, clock = service.ana, service.clock
    found = {"new": await ana.open(subject="The pixel fires twice", category="technical")}
    clock.advance(minutes=1)
    found["mine"] = await ana.investigate(subject="Charged twice", purchase=a_purchase())
    clock.advance(minutes=1)
    found["his"] = await service.bo.investigate(subject="Late banners", category="delay")
    clock.advance(minutes=1)
    found["asked"] = await ana.investigate(subject="Which banner?")
    await ana.add(found["asked"]["id"], "messages", text="Which one?", direction="outbound", awaits_reply=True)
    clock.advance(minutes=1)
    found["late"] = await ana.open(subject="Nobody answers", received_at=(NOON - timedelta(days=3)).isoformat())
    clock.advance(minutes=1)
    found["spam"] = await ana.open(subject="Your growth!!!")
    done(await ana.fire(found["spam"]["id"], "close", resolution="spam"))
    clock.advance(hours=1)
    return found


async def write(service: Service, case: Json, text: str = "Any news?") -> None:
    await service.as_system("mail", c.AddMessage(direction=Direction.INBOUND, text=text), case["id"])


# What is listed.


async def test_each_tab_lists_its_cases_and_says_how_many(service: Service) -> None:
    found = await a_desk_in_use(service)
    ana = of(service, "ana")
    expected = {
        "mine": ["mine", "asked"],
        "unassigned": ["late", "new"],
        "us": ["late", "new", "mine", "his"],
        "client": ["asked"],
        "overdue": ["late"],
        "all": ["late", "new", "mine", "his", "asked", "spam"],
    }
    page = (await ana.get("/queue")).text
    counts = dict(re.findall(r'href="/queue\?tab=(\w+)"[^>]*>[^<]*<span class="count">(\d+)</span>', page))

    for tab, names in expected.items():
        assert await numbers(ana, tab=tab) == [found[name]["number"] for name in names], tab
        assert counts[tab] == str(len(names)), tab
    assert "mail" not in counts
    assert ROW.findall(page) == [found["mine"]["number"], found["asked"]["number"]]  # mine comes first


async def test_mail_to_a_closed_case_has_a_tab_until_it_is_answered(service: Service) -> None:
    found = await a_desk_in_use(service)
    ana = of(service, "ana")
    await write(service, found["spam"], "I am no robot.")

    assert "Closed, new mail" in (await ana.get("/queue")).text
    assert await numbers(ana, tab="mail") == [found["spam"]["number"]]

    await service.ana.add(found["spam"]["id"], "messages", text="Sorry!", direction="outbound")
    assert "Closed, new mail" not in (await ana.get("/queue")).text
    assert await numbers(ana, tab="mail") == []


ASKED: list[tuple[dict[str, str], list[str]]] = [
    ({"state": "investigating"}, ["mine", "his", "asked"]),
    ({"category": "delay"}, ["his"]),
    ({"owner": "me"}, ["mine", "asked"]),
    ({"owner": "bo"}, ["his"]),
    ({"owner": "none"}, ["late", "new", "spam"]),
    ({"due": "overdue"}, ["late"]),
    ({"due": "today"}, []),
    ({"due": "week"}, ["late", "new", "mine", "his"]),
    ({"due": "none"}, ["asked", "spam"]),
    ({"q": "banner"}, ["asked"]),
    ({"q": "bann"}, ["his", "asked"]),
    ({"state": "investigating", "owner": "me", "q": "twice"}, ["mine"]),
    ({"sort": "newest"}, ["spam", "late", "asked", "his", "mine", "new"]),
    ({"sort": "oldest"}, ["new", "mine", "his", "asked", "late", "spam"]),
    ({"sort": "changed"}, ["spam", "late", "asked", "his", "mine", "new"]),
]


async def test_a_list_is_what_its_address_asks_for(service: Service) -> None:
    found = await a_desk_in_use(service)
    for asked, names in ASKED:
        assert await numbers(of(service, "ana"), tab="all", **asked) == [found[name]["number"] for name in names], asked


async def test_days_and_weeks_are_those_of_the_desk(service: Service) -> None:
    # A Thursday: the first answers are due in 24 hours less these, and the week ends with Sunday night.
    for hours in (0, 10, 23):
        await service.ana.open(received_at=(NOON - timedelta(hours=hours)).isoformat())

    assert await numbers(of(service, "ana"), tab="all", due="today") == ["C-1003"]
    assert await numbers(of(service, "ana"), tab="all", due="week") == ["C-1003", "C-1002", "C-1001"]
    service.clock.now += timedelta(days=4)  # Monday
    assert await numbers(of(service, "bo"), tab="all", due="week") == []
    assert await numbers(of(service, "bo"), tab="all", due="overdue") == ["C-1003", "C-1002", "C-1001"]


async def test_pages_lead_on_and_back_to_the_start_and_hold_every_case_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "PAGE_ROWS", 4)
    for number in range(10):
        await service.ana.open(received_at=(NOON - timedelta(hours=number % 3)).isoformat())
    ana, seen = of(service, "ana"), []
    url, pages = "/queue?tab=all", 0
    while url:
        page = (await service.client.get(f"http://127.0.0.1{url}", headers=await ana.headers())).text
        seen += ROW.findall(page)
        pages += 1
        assert ("From the start" in page) == (pages > 1)
        onward = re.search(r'<a href="([^"]+)" rel="next"', page)
        url = html.unescape(onward[1]) if onward else ""
        assert "tab=all" in url or not url

    assert (pages, len(seen)) == (3, 10)
    assert sorted(seen) == [f"C-{number}" for number in range(1001, 1011)]


async def test_a_total_counts_only_as_far_as_somebody_would_wait(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await service.ana.open()
    ana = of(service, "ana")
    assert ">5 cases," in (await ana.get("/queue", tab="all")).text
    assert ">1 case," in (await ana.get("/queue", q="1003")).text

    monkeypatch.setattr(queue, "PAGE_ROWS", 2)
    assert ">5 cases," in (await ana.get("/queue", tab="all")).text
    monkeypatch.setattr(queue, "COUNTED", 3)
    page = (await ana.get("/queue", tab="all")).text
    assert ">more than 3 cases," in page
    assert '<span class="count">3+</span>' in page


NONSENSE: list[dict[str, str]] = [
    {"tab": "nothing"},
    {"state": "melted", "category": "x", "due": "never", "sort": "by mood"},
    {"owner": "\x00'; DROP TABLE cases; --"},
    {"cursor": "bm9uc2Vuc2U"},
    {"cursor": "\ud7ff%00"},
    {"q": "\x00"},
    {"q": "x" * 10_000},
    {"q": "<script>alert(1)</script>"},
    {"q": "*\"' AND OR NOT ( ) : ^"},
    {"tab": "mail", "state": "refunded", "due": "today", "owner": "me"},
]


async def test_an_address_that_makes_no_sense_is_answered_all_the_same(service: Service) -> None:
    await service.ana.open()
    for asked in NONSENSE:
        page = await of(service, "ana").get("/queue", **asked)

        assert page.status_code == 200, asked
        assert "<script>alert" not in page.text


async def test_a_row_says_what_there_is_to_know(site: Site) -> None:
    found = await a_desk_in_use(site.service)
    page = await site.visit("ana")
    await page.goto("/queue?tab=all")

    row = page.locator(f"#{found['mine']['number']}")
    for said in ("investigating", found["mine"]["number"], "Charged twice", "Una", "2,000.00 EUR", "in 22 h", "Ana"):
        await expect(row).to_contain_text(said)
    await expect(row.locator("time").first).to_have_attribute("title", re.compile("received 5 Mar 2026, 12:01 UTC"))
    late = page.locator(f"#{found['late']['number']}")
    await expect(late.locator(".late")).to_have_text("2 days late")
    await expect(late).to_contain_text("3 days")
    await expect(page.locator(f"#{found['asked']['number']}")).to_contain_text(re.compile("client.s turn"))


async def test_new_mail_marks_a_row_by_weight_and_in_words(site: Site) -> None:
    found = await a_desk_in_use(site.service)
    page = await site.visit("ana")

    async def weight(name: str) -> str:
        await page.goto("/queue?tab=all")
        link = page.locator(f"#{found[name]['number']} .title a")
        return str(await link.evaluate("(one) => getComputedStyle(one).fontWeight"))

    assert await weight("asked") == "400"
    await write(site.service, found["asked"])
    assert await weight("asked") == "600"
    await expect(page.locator(f"#{found['asked']['number']} .title")).to_contain_text("New mail")
    assert await weight("spam") == "400"


async def test_whoever_searches_does_so_among_all_cases_and_sees_what_they_asked(site: Site) -> None:
    found = await a_desk_in_use(site.service)
    page = await site.visit("ana")
    await page.goto("/queue")
    await page.keyboard.press("/")
    await page.keyboard.type("banners")
    await page.keyboard.press("Enter")

    await page.wait_for_url("**/queue?q=banners")
    await expect(page.get_by_label("Search cases")).to_have_value("banners")
    await expect(page.locator(".cases tbody tr")).to_have_count(1)
    await expect(page.locator(f"#{found['his']['number']}")).to_be_visible()
    await page.get_by_label("Search for nothing").click()
    await expect(page.locator(".cases tbody tr")).to_have_count(6)


async def test_menus_narrow_a_list_down_one_after_the_other(site: Site) -> None:
    await a_desk_in_use(site.service)
    page = await site.visit("lou")
    await page.goto("/queue?tab=all")

    for menu, choice in (("State", "investigating"), ("Owner", "Ana"), ("Deadline", "none")):
        await page.locator(".narrowing .menu:not(.order) summary", has_text=menu).click()
        await page.locator(".menu[open]").get_by_role("link", name=choice, exact=True).click()
        await expect(page.locator(".narrowing .chosen", has_text=menu)).to_contain_text(choice)
    assert "state=investigating&owner=ana&due=none" in page.url
    await expect(page.locator(".cases tbody tr")).to_have_count(1)
    await page.get_by_role("link", name="clear").click()
    await expect(page.locator(".cases tbody tr")).to_have_count(6)


async def test_a_menu_closes_by_escape_and_when_something_else_is_clicked(site: Site) -> None:
    page = await site.visit("ana")
    await page.goto("/queue")
    opened = page.locator(".narrowing .menu[open]")
    await page.locator(".narrowing .menu:not(.order) summary", has_text="State").click()
    await expect(opened).to_have_count(1)
    await page.locator(".narrowing .menu:not(.order) summary", has_text="Category").click()
    await expect(opened).to_have_count(1)
    await page.keyboard.press("Escape")
    await expect(opened).to_have_count(0)
    await page.locator(".narrowing .menu:not(.order) summary", has_text="State").click()
    await page.mouse.click(600, 700)
    await expect(opened).to_have_count(0)


async def test_the_list_is_walked_through_by_keys(site: Site) -> None:
    found = await a_desk_in_use(site.service)
    page = await site.visit("ana")
    await page.goto("/queue?tab=us")
    focused = page.locator(".cases tr:has(.title a:focus)")
    order = [found[name]["number"] for name in ("late", "new", "mine", "his")]

    for number in (*order, order[-1]):
        await page.keyboard.press("j")
        await expect(focused).to_have_id(number)
    await page.keyboard.press("k")
    await page.keyboard.press("x")
    await expect(page.locator(f"#{order[2]} .pick input")).to_be_checked()
    await expect(page.locator(".bulk")).to_be_visible()
    await page.keyboard.press("x")
    await expect(page.locator(".bulk")).to_be_hidden()
    await page.keyboard.press("?")
    await expect(page.locator("dialog")).to_contain_text("Next case")
    await page.keyboard.press("Escape")
    await page.locator(f"#{order[2]} .title a").focus()
    await page.keyboard.press("k")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/cases/{order[1]}")


# Saved lists.


async def test_a_list_is_kept_under_a_name_and_shared(site: Site) -> None:
    await a_desk_in_use(site.service)
    ana = await site.visit("ana")
    await ana.goto("/queue?tab=us&category=delay")
    await save(ana, "Delays ⟂ ours", shared=True)
    await ana.wait_for_url("**/queue?tab=us&category=delay")
    await expect(ana.locator(".saved summary")).to_contain_text("Delays ⟂ ours")

    bo = await site.visit("bo")
    await bo.goto("/queue")
    await bo.locator(".saved summary").click()
    await expect(bo.locator(".saved")).to_contain_text("by Ana")
    await expect(bo.locator(".saved").get_by_role("button", name="Remove")).to_have_count(0)
    await bo.get_by_role("link", name="Delays ⟂ ours").click()
    await bo.wait_for_url("**/queue?tab=us&category=delay")
    await expect(bo.locator(".cases tbody tr")).to_have_count(1)

    lou = await site.visit("lou")
    await lou.goto("/queue")
    await lou.locator(".saved summary").click()
    await lou.get_by_role("button", name="Remove “Delays ⟂ ours”").click()
    await expect(lou.locator(".saved")).not_to_contain_text("Delays")
    await ana.reload()
    await expect(ana.locator(".saved")).not_to_contain_text("Delays")


async def save(page: Page, name: str, *, shared: bool = False) -> None:
    await page.locator(".saved summary").click()
    await page.get_by_label("Save this list as").fill(name)
    if shared:
        await page.get_by_label("for everybody").check()
    await page.get_by_role("button", name="Save").click()


async def test_what_one_keeps_for_oneself_nobody_else_sees(service: Service) -> None:
    ana = of(service, "ana")
    answer = await ana.send("/queue/filters", {"name": "about Una", "query": "tab=all&q=una"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/queue?tab=all&q=una")
    assert "about Una" in (await ana.get("/queue")).text
    for name in ("bo", "lou", "audrey"):
        assert "about Una" not in (await of(service, name).get("/queue")).text


async def test_a_form_that_is_sent_twice_saves_once(service: Service) -> None:
    for _ in range(2):
        await of(service, "ana").send("/queue/filters", {"name": "late", "query": "tab=overdue", "key": "a" * 32})

    person = await people.one(service.desk.database, "ana")
    assert person is not None
    assert len(person.filters) == 1


@pytest.mark.parametrize(
    ("form", "said"),
    [({"name": " "}, "The name has to be"), ({"name": "x" * 10_000}, "The name has to be")],
)
async def test_a_filter_that_cannot_be_saved_comes_back_as_it_was_typed(
    form: dict[str, str], said: str, service: Service
) -> None:
    answer = await of(service, "ana").send("/queue/filters", {"query": "tab=overdue&due=week", "shared": "yes", **form})

    assert answer.status_code == 422
    assert said in answer.text
    assert '<details class="menu saved" open>' in answer.text
    assert f'value="{form["name"].strip()}"' in answer.text
    assert 'value="yes" checked' in answer.text
    assert 'value="tab=overdue&amp;due=week"' in answer.text


async def test_one_filter_too_many_is_refused_with_the_reason(service: Service) -> None:
    for number in range(MAX_FILTERS):
        command = SaveFilter(person_id="ana", filter_id=f"f{number}", name=f"list {number}", query="tab=all")
        await service.desk.ledger.submit(as_ana(command))

    answer = await of(service, "ana").send("/queue/filters", {"name": "one more", "query": "tab=all"})
    assert answer.status_code == 422
    assert "one too many" in answer.text


def as_ana(command: SaveFilter) -> Any:
    return Submission(command=command, actor=ANA, via="page", request="r-1")


async def test_only_an_own_or_a_shared_filter_is_removed_and_by_whom_it_may(service: Service) -> None:
    await of(service, "ana").send("/queue/filters", {"name": "mine", "query": "tab=all"})
    await of(service, "ana").send("/queue/filters", {"name": "ours", "query": "tab=us", "shared": "yes"})
    person = await people.one(service.desk.database, "ana")
    assert person is not None
    own, shared = (f"/queue/filters/ana/{one.id}/removal" for one in person.filters)

    for name, path in (("bo", own), ("bo", shared), ("lou", own), ("audrey", shared)):
        assert (await of(service, name).send(path, {})).status_code == 403
    assert (await of(service, "lou").send(shared, {"query": "tab=us"})).headers["location"] == "/queue?tab=us"
    assert (await of(service, "ana").send(own, {})).status_code == 303
    assert (await of(service, "ana").send(own, {})).status_code == 303  # gone already, as it should be
    assert (await of(service, "ana").send("/queue/filters/nobody/f/removal", {})).status_code == 404


async def test_a_saved_list_leads_nowhere_but_to_the_queue(service: Service) -> None:
    hostile = 'tab=all&next=//elsewhere.example&q="><script>alert(1)</script>'
    answer = await of(service, "ana").send("/queue/filters", {"name": HOSTILE[0], "query": hostile})

    assert answer.headers["location"].startswith("/queue?tab=all&q=")
    page = (await of(service, "ana").get("/queue")).text
    assert "elsewhere" not in page
    assert "<script>alert" not in page
    assert html.escape(HOSTILE[0]) in page


# Who sees it, and how it looks.


async def test_everybody_who_reads_cases_sees_the_queue_and_nobody_else(service: Service) -> None:
    await service.ana.open()
    expected = {"ana": 200, "lou": 200, "cleo": 200, "audrey": 200, "adam": 403}

    for name, status in expected.items():
        page = await of(service, name).get("/queue", tab="all")
        assert page.status_code == status, name
        assert ('name="case"' in page.text) == (name in {"ana", "lou"}), name  # only who works on cases selects some
        saved = await of(service, name).send("/queue/filters", {"name": "x", "query": "tab=all"})
        assert saved.status_code == (303 if status == 200 else 403), name
    assert "Mine" not in (await of(service, "cleo").get("/queue")).text
    signed_out = await service.client.get("http://127.0.0.1/queue?tab=overdue")
    assert signed_out.headers["location"] == "/sign-in?next=%2Fqueue%3Ftab%3Doverdue"


async def test_whatever_people_wrote_stands_there_as_text_and_in_good_order(site: Site) -> None:
    for number, text in enumerate((*HOSTILE, "unbreakable" * 40)):
        case = await site.service.ana.investigate(
            subject=text, client={"name": text[:200], "email": "x@y.example"}, purchase=a_purchase(f"D-{number}")
        )
        await write(site.service, case)
    page = await site.visit("ana")
    await page.goto("/queue?" + urlencode({"tab": "all", "category": "billing", "owner": "me"}))
    await save(page, HOSTILE[1])

    await expect(page.locator(".cases tbody tr")).to_have_count(len(HOSTILE) + 1)
    for text in HOSTILE:
        await expect(page.get_by_role("link", name=text, exact=True).first).to_be_visible()
    await require_good_order(page, "queue")
    await page.locator(".saved summary").click()
    await require_good_order(page, "queue-saved")
    await page.keyboard.press("Escape")
    await page.locator(".narrowing .menu:not(.order) summary", has_text="Category").click()
    for viewport in (NARROW, PHONE, DESKTOP):
        await page.set_viewport_size(viewport)
        await require_tidy(page)


async def require_good_order(page: Page, name: str) -> None:
    """At every width."""
    for viewport in (NARROW, PHONE, DESKTOP):
        await page.set_viewport_size(viewport)
        await require_tidy(page)
        await picture(page, f"{name}-{viewport['width']}")
        if viewport is not NARROW:
            await require_accessible(page)


async def test_an_empty_list_says_what_will_be_in_it(site: Site) -> None:
    page = await site.visit("ana")
    for tab in asking.TABS:
        await page.goto(f"/queue?tab={tab}")
        await expect(page.locator(".empty p")).to_have_text(re.compile("[.]$"))
        if tab in {"mine", "all"}:
            await require_accessible(page)
        await page.goto(f"/queue?tab={tab}&state=refunded")
        await expect(page.locator(".empty")).to_contain_text("No case is like that")


async def test_without_scripts_everything_is_there_but_the_keys(site: Site) -> None:
    found = await a_desk_in_use(site.service)
    page = await site.visit("ana", java_script_enabled=False)
    await page.goto("/queue?tab=all")

    await page.locator(".narrowing .menu:not(.order) summary", has_text="Category").click()
    await page.get_by_role("link", name="delay").click()
    await expect(page.locator(".cases tbody tr")).to_have_count(1)
    await save(page, "Delays")
    await expect(page.locator(".saved summary")).to_contain_text("Delays")
    await page.locator(".pick input[name]").check()
    await expect(page.locator(".bulk")).to_be_visible()
    await page.get_by_role("button", name="Clear").click()
    await expect(page.locator(".bulk")).to_be_hidden()
    await page.get_by_role("link", name="Late banners").click()
    await page.wait_for_url(f"**/cases/{found['his']['number']}")


async def test_a_page_of_the_longest_list_is_small(service: Service) -> None:
    for number in range(PAGE_ROWS + 1):
        await service.ana.open(subject=f"{number} " + "words that differ " * 20, purchase=a_purchase(f"D-{number}"))
    page = await of(service, "ana").get("/queue", tab="all")

    assert len(ROW.findall(page.text)) == PAGE_ROWS
    assert len(gzip.compress(page.content)) < 60_000
