"""The board: a column for each state; a card moves only as the rules let it, and a refused move says why."""

import gzip
import re
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from api.pages import board
from tests.api.driving import Json, Service, a_purchase, done
from tests.pages.browsing import Site, require_accessible, require_tidy
from tests.pages.test_queue import HOSTILE, a_desk_in_use, of, require_good_order, write
from workflow.states import CaseState

COLUMN = re.compile(r'<section class="column" data-state="(\w+)".*?</section>', re.DOTALL)


def columns(page: str) -> dict[str, str]:
    return {found[1]: found[0] for found in COLUMN.finditer(page)}


def cards(column: str) -> list[str]:
    return re.findall(r'<li class="card[^>]* id="(C-\d+)"', column)


async def state_of(service: Service, case: Json) -> str:
    return str((await service.ana.read(case["id"]))["state"])


# What stands on it.


async def test_each_state_has_its_cases_their_number_and_the_age_of_the_oldest(service: Service) -> None:
    found = await a_desk_in_use(service)
    page = (await of(service, "ana").get("/board")).text
    shown = columns(page)

    assert [*shown] == [*CaseState]
    assert cards(shown["opened"]) == [found["late"]["number"], found["new"]["number"]]  # what is due first comes first
    assert cards(shown["investigating"]) == [found[one]["number"] for one in ("mine", "his", "asked")]
    assert cards(shown["closed"]) == [found["spam"]["number"]]
    for state, count in (("opened", 2), ("investigating", 3), ("refunded", 0), ("closed", 1)):
        assert f'<span class="count">{count}</span>' in shown[state]
        assert f'href="/queue?tab=all&amp;state={state}"' in shown[state]
    assert "oldest 1 h" in shown["opened"]  # of those that stand first among the oldest in the queue
    assert "oldest 1 h" in shown["investigating"]
    card = " ".join(re.sub(r"<[^>]+>", " ", shown["investigating"]).split())
    assert "Charged twice Una C-1002 Ana 2,000.00 EUR in 22 h" in card


async def test_a_column_shows_the_first_and_leads_to_all(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "CARDS", 3)
    for _ in range(5):
        await service.ana.open()
    shown = columns((await of(service, "ana").get("/board")).text)

    assert len(cards(shown["opened"])) == 3
    assert '<a href="/queue?tab=all&amp;state=opened">all 5</a>' in shown["opened"]
    assert "all 0" not in shown["closed"]


async def test_a_board_is_of_an_owner_or_of_a_category(service: Service) -> None:
    found = await a_desk_in_use(service)
    ana = of(service, "ana")
    asked: dict[str, list[str]] = {
        "owner=me": ["mine", "asked"],
        "owner=bo": ["his"],
        "owner=none": ["late", "new", "spam"],
        "category=delay": ["his"],
        "owner=none&category=technical": ["new"],
        "owner=nobody-there": [],
    }
    for query, names in asked.items():
        page = (await ana.get("/board", **dict(one.split("=") for one in query.split("&")))).text
        shown = [number for column in columns(page).values() for number in cards(column)]
        assert shown == [found[name]["number"] for name in names], query
        for name in query.split("&"):
            assert name in re.findall(r'href="/queue\?(tab=all&amp;state=closed[^"]*)"', page)[0], query


# Moving.


def card(page: Page, case: Json) -> Locator:
    return page.locator(f"#{case['number']}")


async def choose(page: Page, case: Json, move: str) -> None:
    await card(page, case).locator(".move summary").click()
    await card(page, case).get_by_role("link", name=move).click()


async def test_a_card_that_is_dropped_opens_the_form_of_the_move_and_then_moves(site: Site) -> None:
    case = await site.service.ana.open(purchase=a_purchase())
    page = await site.visit("ana")
    await page.goto("/board")
    await card(page, case).drag_to(page.locator('[data-state="investigating"]'))

    form = page.locator("dialog[open] form")
    await expect(page.locator("dialog[open] h1")).to_have_text(f"Investigate {case['number']}")
    await require_accessible(page)
    await form.get_by_label("Reason").fill("billing is mine")
    await form.get_by_role("button", name="Investigate").click()

    await expect(page.locator(f'[data-state="investigating"] #{case["number"]}')).to_be_visible()
    await page.wait_for_url(f"**/board#{case['number']}")
    stands = await site.service.ana.read(case["id"])
    assert (stands["state"], stands["assignee"]) == ("investigating", "ana")
    last = done(await site.service.ana.get(f"/v1/cases/{case['id']}/events"))["items"][-1]
    assert (last["type"], last["via"], last["texts"]["reason"]) == ("investigation_started", "page", "billing is mine")


async def test_a_move_that_is_not_allowed_says_why_where_it_was_dropped(site: Site) -> None:
    case = await site.service.ana.investigate(purchase=a_purchase())
    page = await site.visit("ana")
    await page.goto("/board?owner=me")
    reasons = page.locator("dialog[open] .whys")

    await card(page, case).drag_to(page.locator('[data-state="refunded"]'))
    await expect(reasons).to_contain_text(re.compile("Not for your role; .?Cleo.?, .?Dirk.? or .?Eli.? can"))
    await expect(reasons).to_contain_text("Nobody has checked the facts of the purchase against the books")
    await expect(reasons.get_by_role("link").first).to_have_attribute("href", re.compile(f"/cases/{case['number']}#"))
    await page.get_by_role("link", name="Leave it where it is").click()
    await expect(page.locator("dialog[open]")).to_have_count(0)
    await card(page, case).drag_to(page.locator('[data-state="opened"]'))
    await expect(reasons).to_contain_text("a case is opened once")
    await page.keyboard.press("Escape")
    await card(page, case).drag_to(page.locator('[data-state="investigating"]'))
    await expect(page.locator("dialog[open]")).to_have_count(0)
    assert await state_of(site.service, case) == "investigating"


async def test_a_refused_form_stays_open_with_what_was_typed_and_the_reasons(site: Site) -> None:
    case = await site.service.ana.investigate()
    await site.service.ana.add(case["id"], "messages", text="Here you are.", direction="outbound")
    site.allow("412|422")
    page = await site.visit("ana")
    await page.goto("/board")
    await choose(page, case, "Close…")
    dialog = page.locator("dialog[open]")
    await dialog.get_by_label("How it ended").select_option("explained")
    await dialog.get_by_label("Of which case").fill("C-9999")
    await dialog.get_by_label("Reason").fill("told them all")
    await dialog.get_by_role("button", name="Close").click()

    await expect(dialog.locator(".mistake")).to_contain_text("goes with the resolution duplicate only")
    await expect(dialog.get_by_label("Reason")).to_have_value("told them all")
    await dialog.get_by_label("Of which case").fill("")
    await site.service.bo.add(case["id"], "notes", text="I would not")
    await dialog.get_by_role("button", name="Close").click()

    await expect(dialog.get_by_role("alert")).to_contain_text("Somebody changed the case meanwhile")
    await expect(dialog.get_by_role("alert")).to_contain_text("Bo")
    await expect(dialog.get_by_label("How it ended")).to_have_value("explained")
    assert await state_of(site.service, case) == "investigating"
    await dialog.get_by_role("button", name="Close all the same").click()
    await expect(page.locator(f'[data-state="closed"] #{case["number"]}')).to_be_visible()
    assert await state_of(site.service, case) == "closed"


async def test_a_card_is_moved_by_keys_alone(site: Site) -> None:
    case = await site.service.ana.open()
    page = await site.visit("ana")
    await page.goto("/board")
    for key in ("j", "m", "Enter"):
        await page.keyboard.press(key)
    await expect(page.locator("dialog[open] :focus")).to_have_attribute("name", "data.assignee")
    await page.keyboard.press("Tab")
    await page.keyboard.type("mine")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")

    await expect(page.locator(f'[data-state="investigating"] #{case["number"]}')).to_be_visible()


async def test_without_scripts_a_card_moves_by_its_menu(site: Site) -> None:
    case = await site.service.ana.open()
    page = await site.visit("ana", java_script_enabled=False)
    await page.goto("/board?owner=none")
    await choose(page, case, "Close…")

    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Close {case['number']}")
    await require_tidy(page)
    await page.get_by_label("How it ended").select_option("spam")
    await page.get_by_label("Reason").fill("sent to everybody")
    await page.get_by_role("button", name="Close").click()
    await page.wait_for_url(f"**/board?owner=none#{case['number']}")
    await expect(page.locator(f'[data-state="closed"] #{case["number"]}')).to_be_visible()


# By hand.


def a_move(case: Json, **fields: Any) -> dict[str, Any]:
    return {"trigger": "investigate", "reason": "mine", "version": str(case["version"])} | fields


async def test_a_stale_move_is_refused_and_says_what_has_happened(service: Service) -> None:
    case = await service.ana.open()
    await write(service, case)

    answer = await of(service, "ana").send(f"/board/moves/{case['number']}/investigating", a_move(case))
    assert answer.status_code == 412
    assert "Somebody changed the case meanwhile" in answer.text
    assert f'name="version" value="{case["version"] + 1}"' in answer.text
    assert await state_of(service, case) == "opened"


async def test_a_move_that_is_sent_twice_is_made_once(service: Service) -> None:
    case = await service.ana.open()
    for _ in range(2):
        form = a_move(case, key="a" * 32)
        answer = await of(service, "ana").send(f"/board/moves/{case['number']}/investigating", form, owner="me")
        assert answer.headers["location"] == f"/board?owner=me#{case['number']}"

    types = [one["type"] for one in done(await service.ana.get(f"/v1/cases/{case['id']}/events"))["items"]]
    assert types == ["opened", "investigation_started"]


NONSENSE: list[tuple[str, dict[str, str], int]] = [
    ("C-1001/investigating", {"reason": ""}, 422),
    ("C-1001/investigating", {"reason": "x" * 10_001}, 422),
    ("C-1001/investigating", {"version": ""}, 428),
    ("C-1001/investigating", {"version": "<script>"}, 412),
    ("C-1001/investigating", {"csrf": "0"}, 403),
    ("C-1001/investigating", {"trigger": "close"}, 404),
    ("C-1001/investigating", {"trigger": "resume", "data.reason_code": "declined"}, 409),
    ("C-1001/closed", {"trigger": "close", "data.resolution": "<script>"}, 422),
    ("C-1001/melted", {}, 404),
    ("C-9999/investigating", {}, 404),
    ("%00/investigating", {}, 404),
]


async def test_a_move_that_makes_no_sense_is_none(service: Service) -> None:
    case = await service.ana.open()
    for path, form, status in NONSENSE:
        answer = await of(service, "ana").send(f"/board/moves/{path}", a_move(case, **form))

        assert answer.status_code == status, (path, form)
        assert "<script>" not in answer.text.replace("<script src=", "")
    assert await state_of(service, case) == "opened"


async def test_who_reads_cases_sees_the_board_and_who_works_on_them_moves_them(service: Service) -> None:
    case = await service.ana.open()
    path = f"/board/moves/{case['number']}/investigating"
    expected = {
        "ana": (200, True),
        "lou": (200, True),
        "cleo": (200, False),
        "audrey": (200, False),
        "adam": (403, False),
    }
    for name, (status, moves) in expected.items():
        page = await of(service, name).get("/board")
        assert page.status_code == status, name
        assert (f'href="{path}' in page.text) == moves, name
        shown = await of(service, name).get(path)
        assert (shown.status_code, "<textarea" in shown.text) == (status, moves), name
        if not moves:
            assert (await of(service, name).send(path, a_move(case))).status_code == 403, name
    assert await state_of(service, case) == "opened"
    refused = done(await service.lou.get("/v1/refusals"))["items"]
    assert {one["actor"] for one in refused} == {"person:cleo", "person:audrey"}
    signed_out = await service.client.get(f"http://127.0.0.1{path}")
    assert signed_out.status_code == 303
    reads = done(await service.audrey.get("/v1/reads"))["items"]
    assert [one["data"] for one in reads] == [{"case": case["id"], "version": 1, "what": "transitions"}]


async def test_whatever_people_wrote_stands_on_cards_as_text_and_in_good_order(site: Site) -> None:
    for number, text in enumerate((*HOSTILE, "unbreakable" * 40)):
        client = {"name": text[:200], "email": "x@y.example"}
        case = await site.service.ana.investigate(subject=text, client=client, purchase=a_purchase(f"D-{number}"))
        await write(site.service, case)
    page = await site.visit("ana")
    await page.goto("/board?category=billing")

    for text in HOSTILE:
        await expect(page.get_by_role("link", name=text, exact=True).first).to_be_visible()
    await require_good_order(page, "board")
    await page.locator(".card .move summary").first.click()
    await require_tidy(page)
    await page.locator(".card .move[open]").get_by_role("link", name="Schedule").click()
    await expect(page.locator("dialog[open] form")).to_be_visible()
    await require_good_order(page, "board-move")


async def test_an_empty_board_has_all_its_columns(site: Site) -> None:
    page = await site.visit("ana")
    await page.goto("/board")

    await expect(page.locator(".column")).to_have_count(len(CaseState))
    await expect(page.locator(".column .oldest")).to_have_text(["none"] * len(CaseState))
    await require_accessible(page)


async def test_a_full_board_is_small(service: Service) -> None:
    for number in range(board.CARDS + 1):
        await service.ana.open(subject=f"{number} " + "words that differ " * 20, purchase=a_purchase(f"D-{number}"))
    page = await of(service, "ana").get("/board")

    assert len(cards(columns(page.text)["opened"])) == board.CARDS
    assert len(gzip.compress(page.content)) * len(CaseState) < 60_000
