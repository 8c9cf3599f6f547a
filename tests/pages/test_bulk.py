"""Several cases at once: each row is decided by itself, and what became of it is said row by row."""

import html
import re
from typing import Any

import pytest
from httpx2 import Response
from playwright.async_api import Page, expect

from api.pages import bulk
from api.pages.asking import PAGE_ROWS
from tests.api.driving import Json, Service, done
from tests.pages.browsing import Site
from tests.pages.test_queue import HOSTILE, of, require_good_order, write
from workflow.states import Trigger

ROW = re.compile(r'<tr class="(done|refused)">(.*?)</tr>', re.DOTALL)


def seen(*cases: Json, version: int | None = None) -> list[str]:
    """What the queue's boxes say of cases."""
    return [f"{case['number'].removeprefix('C-')}.{version or case['version']}" for case in cases]


def outcomes(answer: Response) -> dict[str, tuple[str, str]]:
    """By number: whether it was done, and what is said of it."""
    assert answer.status_code == 200, answer.text
    found = {}
    for kind, row in ROW.findall(answer.text):
        plain = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", row)).split())
        found[plain.split()[0]] = (kind, plain)
    return found


async def stands(service: Service, *cases: Json) -> list[tuple[str, str | None]]:
    read = [await service.ana.read(case["id"]) for case in cases]
    return [(case["state"], case["assignee"]) for case in read]


# In a browser.


async def select(page: Page, *cases: Json) -> None:
    for case in cases:
        await page.get_by_label(f"Select {case['number']}", exact=True).check()


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
async def test_cases_are_closed_together_and_each_says_what_became_of_it(scripts: bool, site: Site) -> None:
    first, second = [await site.service.ana.open(subject=f"Spam {number}") for number in range(2)]
    asked = await site.service.ana.investigate(subject="A real question")
    page = await site.visit("ana", java_script_enabled=scripts)
    await page.goto("/queue?tab=us&sort=oldest")
    await select(page, first, second, asked)
    await page.get_by_role("button", name="Close…").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("Close 3 cases")
    await page.get_by_label("How it ended").select_option("no_response")  # which no case that is opened can take
    await page.get_by_label("Reason").fill("they never came back")
    await page.get_by_role("checkbox", name=asked["number"]).check()
    await page.get_by_role("button", name="Close").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("Close: 0 of 3 done")
    await expect(page.locator(".outcomes tr", has_text=first["number"])).to_contain_text("closes as withdrawn")
    await expect(page.locator(".outcomes tr", has_text=asked["number"])).to_contain_text("has not been answered")
    await page.get_by_role("link", name="← Queue").click()
    await page.wait_for_url("**/queue?tab=us&sort=oldest")

    await select(page, first, second, asked)
    await page.get_by_role("button", name="Close…").click()
    await page.get_by_label("How it ended").select_option("spam")
    await page.get_by_label("Reason").fill("sent to everybody")
    await page.get_by_role("checkbox", name=asked["number"]).uncheck()
    await page.get_by_role("button", name="Close").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("Close: all 2 done")
    await page.get_by_role("link", name=first["number"]).click()
    await page.wait_for_url(f"**/cases/{first['number']}")
    assert [state for state, _ in await stands(site.service, first, second, asked)] == [
        "closed",
        "closed",
        "investigating",
    ]


async def test_what_cannot_be_done_is_said_before_it_is_tried(site: Site) -> None:
    able = await site.service.ana.open()
    unable = await site.service.ana.investigate()
    page = await site.visit("ana")
    await page.goto("/queue?tab=all")
    await page.get_by_label("Select all of this page").check()
    await page.get_by_role("button", name="Investigate…").click()

    await expect(page.locator("li", has_text=able["number"]).get_by_role("checkbox")).to_be_checked()
    row = page.locator("li", has_text=unable["number"])
    await expect(row.get_by_role("checkbox")).not_to_be_checked()
    await expect(row).to_contain_text("investigate needs a case that is opened")


async def test_one_takes_several_cases_by_keys_alone(site: Site) -> None:
    cases = [await site.service.ana.open() for _ in range(2)]
    page = await site.visit("ana")
    await page.goto("/queue?tab=unassigned")
    for key in ("j", "x", "j", "x", "b", "Enter"):
        await page.keyboard.press(key)

    await expect(page.get_by_role("heading", level=1)).to_have_text("Take: all 2 done")
    assert await stands(site.service, *cases) == [("opened", "ana")] * 2


async def test_the_forms_and_the_results_are_tidy_whatever_people_wrote(site: Site) -> None:
    for text in (*HOSTILE, "unbreakable" * 40):
        await site.service.ana.investigate(subject=text, client={"name": text[:200], "email": "x@y.example"})
    page = await site.visit("lou")
    await page.goto("/queue?tab=all")
    await page.get_by_label("Select all of this page").check()
    await require_good_order(page, "bulk-bar")
    await page.get_by_role("button", name="Close…").click()
    for box in await page.locator(".rows input").all():
        await box.check()
    await require_good_order(page, "bulk")
    await page.get_by_label("How it ended").select_option("spam")
    await page.get_by_label("Reason").fill(HOSTILE[0])
    await page.get_by_role("button", name="Close").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Close: all {len(HOSTILE) + 1} done")
    for text in HOSTILE:
        await expect(page.locator(".outcomes .title", has_text=text).first).to_be_visible()
    await require_good_order(page, "bulk-done")


# By hand.


async def test_a_case_that_was_changed_meanwhile_is_refused_by_itself(service: Service) -> None:
    first, second = await service.ana.open(), await service.ana.open()
    await write(service, first)
    lou = of(service, "lou")

    answer = await lou.send("/queue/bulk", {"do": "take", "case": seen(first, second)})

    found = outcomes(answer)
    assert found[second["number"]][0] == "done"
    kind, said = found[first["number"]]
    assert (kind, "message received" in said) == ("refused", True)
    assert await stands(service, first, second) == [("opened", None), ("opened", "lou")]
    again = re.findall(r'name="case" value="([\d.]+)"', answer.text)
    assert again == seen(first, version=first["version"] + 1)  # as it is now, to be looked at again


async def test_what_has_changed_is_not_ticked_and_says_what_has(service: Service) -> None:
    case = await service.ana.open()
    await write(service, case)

    page = await of(service, "ana").send("/queue/bulk", {"do": "close", "case": seen(case)})
    assert "changed since you chose it: message received" in page.text
    assert f'value="{seen(case, version=case["version"] + 1)[0]}">' in page.text


async def test_a_form_that_is_sent_twice_is_carried_out_once(service: Service) -> None:
    cases = [await service.ana.open() for _ in range(3)]
    form = {"do": "assign", "step": "go", "assignee": "bo", "reason": "he is free", "key": "a" * 32}
    for _ in range(2):
        answer = await of(service, "lou").send("/queue/bulk", {**form, "case": seen(*cases)})
        assert {kind for kind, _ in outcomes(answer).values()} == {"done"}

    assert await stands(service, *cases) == [("opened", "bo")] * 3
    for case in cases:
        types = [one["type"] for one in done(await service.ana.get(f"/v1/cases/{case['id']}/events"))["items"]]
        assert types.count("assigned") == 1


async def test_what_is_so_already_says_so(service: Service) -> None:
    case = await service.ana.investigate()

    found = outcomes(await of(service, "ana").send("/queue/bulk", {"do": "take", "case": seen(case)}))
    assert "was so already" in found[case["number"]][1]


async def test_each_row_is_recorded_as_done_or_refused_by_whoever_tried(service: Service) -> None:
    case, other = await service.ana.investigate(), await service.ana.open()
    form = {"do": "investigate", "step": "go", "reason": "mine now", "case": seen(case, other)}

    found = outcomes(await of(service, "bo").send("/queue/bulk", form))

    assert found[case["number"]][0] == "refused"
    assert found[other["number"]][0] == "done"
    (refusal,) = done(await service.lou.get("/v1/refusals"))["items"]
    assert (refusal["actor"], refusal["via"], refusal["case"]) == ("person:bo", "page", case["id"])
    last = done(await service.ana.get(f"/v1/cases/{other['id']}/events"))["items"][-1]
    assert (last["type"], last["actor"], last["via"]) == ("investigation_started", "person:bo", "page")


NONSENSE: list[tuple[dict[str, Any], int, str]] = [
    ({}, 422, "No case is selected"),
    ({"case": ["1001"]}, 422, "in a way that no list does"),
    ({"case": ["1001.1", "1001.2"]}, 422, "in a way that no list does"),
    ({"case": ["<script>.1"]}, 422, "in a way that no list does"),
    ({"case": ["9999.1"]}, 422, "does not exist"),
    ({"case": [f"{number}.1" for number in range(2000, 2001 + PAGE_ROWS)]}, 422, "At most 50 cases"),
    ({"do": "refund", "case": ["1001.1"]}, 422, "is nothing that can be done"),
    ({"do": "", "case": ["1001.1"]}, 422, "is nothing that can be done"),
    ({"do": "close", "step": "go", "case": ["1001.1"]}, 422, 'value="1001.1"'),
    ({"csrf": "0" * 64, "case": ["1001.1"]}, 403, "too old"),
]


async def test_a_form_that_makes_no_sense_changes_nothing(service: Service) -> None:
    case = await service.ana.open()
    for form, status, said in NONSENSE:
        answer = await of(service, "lou").send("/queue/bulk", {"do": "take", **form})

        assert answer.status_code == status, form
        assert said in answer.text, form
        assert "<script>." not in answer.text
    assert await stands(service, case) == [("opened", None)]


async def test_what_was_typed_stays_when_something_is_missing(service: Service) -> None:
    case = await service.ana.open()
    form = {"do": "close", "step": "go", "case": seen(case), "reason": HOSTILE[1], "back": "tab=us&state=opened"}

    answer = await of(service, "ana").send("/queue/bulk", form)
    assert answer.status_code == 422
    assert html.escape(HOSTILE[1]).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert 'href="/queue?tab=us&amp;state=opened"' in answer.text


async def test_only_who_works_on_cases_changes_several_and_only_a_lead_gives_them_away(service: Service) -> None:
    case = await service.ana.open()
    for name in ("cleo", "audrey", "adam"):
        assert (await of(service, name).send("/queue/bulk", {"do": "take", "case": seen(case)})).status_code == 403
    form = {"do": "assign", "step": "go", "assignee": "bo", "case": seen(case)}

    found = outcomes(await of(service, "ana").send("/queue/bulk", form))
    assert found[case["number"]][0] == "refused"
    found = outcomes(await of(service, "lou").send("/queue/bulk", {**form, "assignee": "audrey"}))
    assert "only be given to an active agent or lead" in found[case["number"]][1]
    assert await stands(service, case) == [("opened", None)]
    signed_out = await service.client.post(
        "http://127.0.0.1/queue/bulk", data={"do": "take"}, headers={"sec-fetch-site": "same-origin"}
    )
    assert signed_out.status_code == 303


async def test_of_transitions_only_those_are_offered_that_need_nothing_said_of_each_case(service: Service) -> None:
    offered = {deed.trigger for deed in bulk.DEEDS.values()} - {None}
    assert offered == {Trigger.INVESTIGATE, Trigger.RESUME, Trigger.CLOSE, Trigger.REOPEN}

    case = await service.ana.open()
    page = await of(service, "ana").send("/queue/bulk", {"do": "close", "case": seen(case)})
    options = re.findall(r'<option value="(\w+)"', page.text)
    assert options == ["withdrawn", "duplicate", "spam"]
    assert (
        "payment_failed"
        not in (await of(service, "ana").send("/queue/bulk", {"do": "resume", "case": seen(case)})).text
    )


async def test_duplicates_are_closed_together_by_the_number_of_the_first(service: Service) -> None:
    first, *copies = [await service.ana.open() for _ in range(3)]
    form = {
        "do": "close",
        "step": "go",
        "data.resolution": "duplicate",
        "data.duplicate_of": first["number"],
        "reason": "the same letter",
    }

    found = outcomes(await of(service, "ana").send("/queue/bulk", {**form, "case": seen(*copies)}))
    assert {kind for kind, _ in found.values()} == {"done"}
    events = done(await service.ana.get(f"/v1/cases/{copies[0]['id']}/events"))["items"]
    assert events[-1]["data"]["duplicate_of"] == first["id"]
