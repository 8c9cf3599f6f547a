"""The leads' view: its numbers are right, each leads to as many cases as it counts, and everybody can read it."""

import csv
import html
import io
import re
from contextlib import suppress
from datetime import date, timedelta

import pytest
from httpx2 import Response
from playwright.async_api import Page, ViewportSize, expect

from api.pages import insights as page_module
from storage import cases
from storage import insights as storage_module
from storage.submissions import Receipt
from tests.api.driving import Service
from tests.pages.browsing import PHONE, Site, picture, require_accessible, require_tidy, sign_in
from tests.storage.desks import a_submission
from tests.workflow.builders import (
    ANA,
    BO,
    CHECK,
    CLEO,
    DAY,
    DIRK,
    ELI,
    LOU,
    MAIL,
    MONEY_CAME_BACK,
    a_fresh_purchase,
    a_letter,
    a_purchase,
    an_opening,
    approves,
    closing,
    euros,
    firing,
    proposes,
    proposes_credit,
    refunds,
    verifies,
)
from tests.workflow.reckoning import Reckoning
from workflow import commands as c
from workflow.cases import Case
from workflow.errors import Refused
from workflow.insights import MONEY, Days, What, percentile
from workflow.money import Money
from workflow.people import AddPerson
from workflow.policy import Category, GroundKind
from workflow.roles import Actor, Role
from workflow.states import CaseState, Resolution, ResumeReason, Trigger
from workflow.timezones import zone

HOSTILE = '"><script>alert(1)</script>\u202e=HYPERLINK("x") ' + "שלום " * 30
FILES = (
    *("ways", "states", "flow", "times", "oldest", "workload", "outcomes"),
    *("money-by-clause", "money-by-category", "refusals"),
)
FROM = "2026-03-01"
SIZES: tuple[ViewportSize, ...] = (
    {"width": 1280, "height": 900},
    {"width": 390, "height": 844},
    {"width": 320, "height": 700},
)


# What happens on the desk.


async def do(service: Service, actor: Actor, command: c.Command, case: str) -> Case:
    receipt = await service.desk.ledger.submit(a_submission(actor, command, case))
    assert isinstance(receipt, Receipt)
    assert receipt.case is not None
    return receipt.case


async def investigate(service: Service, case: str, by: Actor = ANA, **changes: object) -> None:
    opening = an_opening(case, **({"purchase": None, "mail_tag": case} | changes))
    await service.desk.ledger.submit(a_submission(MAIL, opening, None))
    await do(service, by, firing(Trigger.INVESTIGATE), case)


async def happen(service: Service) -> None:
    """Weeks in which a bit of everything happens."""
    for number, category in enumerate(Category):
        case = f"c{number}"
        await investigate(service, case, (ANA, BO)[number % 2], category=category, subject=f"Order {number}")
        service.clock.advance(days=3, hours=number)
        await do(service, ANA, a_letter(awaits_reply=number % 3 == 0), case)
        if number % 3:
            resolution = (Resolution.EXPLAINED, Resolution.NO_REFUND_DUE)[number % 2]
            await do(service, BO, closing(resolution), case)
    await refund(service, "paid", a_purchase(), euros("300.00"))
    await refund(service, "back", a_purchase(reference="D-2"), euros("70.50"))
    service.clock.advance(days=2)
    await do(service, ELI, MONEY_CAME_BACK, "back")
    yen = Money(48_000, "JPY")
    fresh = a_fresh_purchase(reference="D-3", paid=yen, purchased_at=service.clock.now - 2 * DAY)
    await refund(service, "yen", fresh, yen)
    await investigate(service, "credit", purchase=a_purchase(reference="D-4"))
    credit = (await do(service, ANA, proposes_credit(euros("40.00")), "credit")).proposals[-1]
    await do(service, CLEO, approves(credit), "credit")
    await do(service, LOU, firing(Trigger.ISSUE_COMPENSATION, proposal=credit.id), "credit")
    await investigate(service, "hostile", subject=HOSTILE)
    offer = firing(Trigger.OFFER_ADJUSTMENT, answer_by=(service.clock.now + 7 * DAY).date())
    await do(service, ANA, offer, "hostile")
    service.clock.advance(days=9)
    await do(service, ANA, firing(Trigger.RESUME, reason_code=ResumeReason.DECLINED), "hostile")
    await do(service, ANA, firing(Trigger.REOPEN), "c7")
    for actor, command in (
        (ANA, firing(Trigger.REOPEN)),
        (ANA, closing(Resolution.REMEDY_ACCEPTED)),
        (BO, proposes(euros("1.00"))),
        (BO, refunds(credit)),
    ):
        with suppress(Refused):
            await do(service, actor, command, "hostile")
    await service.desk.ledger.submit(a_submission(MAIL, an_opening("new", purchase=None, mail_tag="new"), None))
    service.clock.advance(hours=30)


async def refund(service: Service, case: str, purchase: object, amount: Money) -> None:
    await investigate(service, case, purchase=purchase)
    await do(service, ANA, CHECK, case)
    if case != "yen":
        ground = c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=amount, statement="charged twice")
        (recorded,) = (await do(service, ANA, ground, case)).grounds
        await do(service, BO, verifies(recorded), case)
    proposal = (await do(service, ANA, proposes(amount), case)).proposals[-1]
    if case != "yen":
        await do(service, CLEO, approves(proposal), case)
    await do(service, DIRK, refunds(proposal), case)


# What is seen of it.


async def look(service: Service, path: str, name: str = "lou") -> Response:
    cookie = {"cookie": f"casework={await sign_in(service, name)}"}
    return await service.client.get(f"http://127.0.0.1{path}", headers=cookie)


async def text_of(service: Service, path: str) -> str:
    answer = await look(service, path)
    assert answer.status_code == 200, answer.text
    return answer.text


async def rows_of(service: Service, name: str, query: str = f"from={FROM}") -> list[dict[str, str]]:
    answer = await look(service, f"/insights/{name}.csv?{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="casework-{name}.csv"'
    return list(csv.DictReader(io.StringIO(answer.text)))


async def reckoned(service: Service) -> tuple[Reckoning, Days]:
    """Everything until now, counted by replaying it."""
    log = [(position, one) for position, one, _ in await cases.feed(service.desk.database, 0, 100_000)]
    return Reckoning(log, zone("UTC")), Days(date.fromisoformat(FROM), service.clock.now.date())


def minor(amount: str, currency: str) -> int:
    return int(amount.replace(".", "")) if currency != "JPY" else int(amount)


NUMBER_LINK = re.compile(r'<a href="([^"]+)"(?: aria-label="([^"]*)")?[^>]*>(?:<b>)?([^<]*)')


def links_with_numbers(page: str) -> dict[str, int]:
    """Where each number leads: in tables, in the head, beside bars and in charts."""
    main = page[page.index("<main") :]
    found: dict[str, int] = {}
    for cell in re.findall(r'<td class="number"><a href="([^"]+)">([\d,]+)</a>', main):
        found[html.unescape(cell[0])] = int(cell[1].replace(",", ""))
    for url, number in re.findall(r'<a href="([^"]+)"><b>([\d,]+)</b>', main):
        found[html.unescape(url)] = int(number)
    for url, said in re.findall(r'<a href="(/insights/cases[^"]+)" aria-label="([^"]+)" tabindex="-1"><title>', main):
        number = re.search(r": ([\d,]+) (?:open|came in|closed)", html.unescape(said))
        assert number, said
        found[html.unescape(url)] = int(number[1].replace(",", ""))
    return found


def listed(page: str) -> int:
    """How many a list says there are; and it shows them."""
    heading = re.search(r'<h1>.*<span class="count">([\d,]+)</span></h1>', page)
    assert heading
    assert page.count('class="case') == int(heading[1])
    return int(heading[1])


async def test_every_number_leads_to_as_many_cases_as_it_counts(service: Service) -> None:
    await happen(service)
    numbers = links_with_numbers(await text_of(service, f"/insights?from={FROM}"))

    in_lists = {url: number for url, number in numbers.items() if url.startswith("/insights/cases")}
    assert len(in_lists) > 60
    assert {url: listed(await text_of(service, url)) for url in in_lists} == in_lists
    queues = {url: number for url, number in numbers.items() if url.startswith("/queue")}
    assert {*numbers} == {*in_lists, *queues}
    assert {url: rows_in_queue(await text_of(service, url)) for url in queues} == queues


def rows_in_queue(page: str) -> int:
    return len({*re.findall(r'href="/cases/(C-\d+)', page)})


async def test_the_diagram_counts_what_its_links_lead_to(service: Service) -> None:
    await happen(service)
    page = await text_of(service, f"/insights?from={FROM}")
    drawn = [
        (html.unescape(url), html.unescape(said))
        for url, said in re.findall(r'<a href="([^"]+)" aria-label="([^"]+)" tabindex="-1"><g', page)
    ]

    ways = {url: number for url, said in drawn for number in map(int, re.findall(r", (\d+) ·", said))}
    states = {url: number for url, said in drawn for number in map(int, re.findall(r", (\d+) now", said))}
    assert len(ways) >= 8
    assert {url: listed(await text_of(service, url)) for url in ways} == ways
    assert len(states) == len(CaseState)
    assert {url: rows_in_queue(await text_of(service, url)) for url in states} == states


# The numbers are right.


async def test_the_files_hold_what_replaying_every_case_says(service: Service) -> None:
    await happen(service)
    reckoning, days = await reckoned(service)
    totals, ended = reckoning.totals(days), reckoning.ended(days)

    states = await rows_of(service, "states")
    assert [{state: int(row[state]) for state in CaseState} for row in states] == [
        reckoning.stood(date.fromisoformat(row["end_of"])) for row in states
    ]
    assert all(int(row["open"]) == sum(int(row[one]) for one in CaseState if one != "closed") for row in states)
    flow = await rows_of(service, "flow")
    for row in flow:
        step = reckoning.totals(Days(date.fromisoformat(row["from"]), date.fromisoformat(row["until"])))
        assert int(row["came_in"]) == sum(one.times for kind, one in step.items() if kind.what is What.OPENED)
        assert int(row["closed"]) == sum(one.times for kind, one in step.items() if kind.what is What.CLOSED)
    assert sum(int(row["came_in"]) for row in flow) == len(reckoning.histories)

    ways = {(row["state"], row["trigger"]): row for row in await rows_of(service, "ways")}
    assert {way for way, row in ways.items() if row["times"] != "0"} == {*ended}
    for way, lengths in ended.items():
        assert int(ways[way]["times"]) == len(lengths)
        assert int(ways[way]["median_seconds"]) == seconds(percentile(lengths, 50))
        assert int(ways[way]["nine_in_ten_seconds"]) == seconds(percentile(lengths, 90))
    for row in await rows_of(service, "times"):
        lengths = sorted(one for way, some in ended.items() if way.state == row["state"] for one in some)
        assert int(row["ended_stays"]) == len(lengths)
        assert int(row["median_seconds"]) == seconds(percentile(lengths, 50))
        assert int(row["longest_seconds"]) == lengths[-1] // 1_000_000

    outcomes = {row["resolution"]: row for row in await rows_of(service, "outcomes")}
    for kind, one in totals.items():
        if kind.what is What.CLOSED:
            assert int(outcomes[kind.code][kind.category]) == one.times
    refusals = {row["rule"]: int(row["refused"]) for row in await rows_of(service, "refusals")}
    assert refusals == {kind.code: one.times for kind, one in totals.items() if kind.what is What.REASON}
    assert len(refusals) >= 3


def seconds(length: timedelta) -> int:
    return length // timedelta(seconds=1)


async def test_money_is_counted_exactly_and_never_added_across_currencies(service: Service) -> None:
    await happen(service)

    by_clause = await rows_of(service, "money-by-clause")

    assert [tuple(row.values()) for row in by_clause] == [
        ("P5", "refunded", "1", "48000", "JPY"),
        ("P6", "refunded", "2", "370.50", "EUR"),
        ("P6", "reversed", "1", "70.50", "EUR"),
        ("service_credit", "compensated", "1", "40.00", "EUR"),
    ]
    reckoning, days = await reckoned(service)
    by_category = {
        (row["category"], row["what"], row["currency"]): minor(row["amount"], row["currency"])
        for row in await rows_of(service, "money-by-category")
    }
    assert by_category == {
        (kind.category, kind.what, kind.currency): sum(
            one.amount_minor for other, one in reckoning.totals(days).items() if other._replace(code="") == kind
        )
        for kind in {other._replace(code="") for other in reckoning.totals(days) if other.what in MONEY}
    }
    page = await text_of(service, f"/insights?from={FROM}")
    assert "370.50 EUR refunded; 70.50 EUR came back; 40.00 EUR compensated; 48,000 JPY refunded." in page


async def test_work_at_hand_is_what_the_rows_of_the_cases_say(service: Service) -> None:
    await happen(service)
    reckoning, _ = await reckoned(service)
    open_now = [one for one in reckoning.cases().values() if one.state is not CaseState.CLOSED]

    rows = {row["owner"]: row for row in await rows_of(service, "workload")}

    assert {*rows} == {"Ana", "Bo", "Lou", "nobody"}
    assert int(rows["Lou"]["open"]) == 0
    for name, person in (("Ana", "ana"), ("Bo", "bo"), ("nobody", None)):
        theirs = [one for one in open_now if one.assignee == person]
        assert int(rows[name]["open"]) == len(theirs)
        assert int(rows[name]["waiting_for_the_client"]) == sum(one.waiting_since is not None for one in theirs)
    oldest = await rows_of(service, "oldest")
    assert [row["case"] for row in oldest] == [
        f"C-{one.number}" for one in sorted(open_now, key=lambda one: one.opened_at)[:10]
    ]


async def test_another_period_is_another_question(service: Service) -> None:
    await happen(service)
    reckoning, _ = await reckoned(service)
    days = Days(date(2026, 3, 8), date(2026, 3, 17))
    query = f"from={days.first}&until={days.last}"

    flow = await rows_of(service, "flow", query)

    assert [row["from"] for row in flow] == [str(days.first + timedelta(days=count)) for count in range(10)]
    came = sum(one.times for kind, one in reckoning.totals(days).items() if kind.what is What.OPENED)
    assert sum(int(row["came_in"]) for row in flow) == came > 0
    page = await text_of(service, f"/insights?{query}")
    assert "8 Mar to 17 Mar 2026" in page
    assert "at the end of 17 Mar 2026" in page
    listed_then = await rows_of(service, "cases", f"what=opened&{query}")
    assert len(listed_then) == came


async def test_a_change_is_in_the_next_look(service: Service) -> None:
    await happen(service)
    before = await rows_of(service, "flow")
    await investigate(service, "later")
    after = await rows_of(service, "flow")
    assert int(after[-1]["came_in"]) == int(before[-1]["came_in"]) + 1


# Files.


async def test_a_file_holds_no_formula_and_no_text_of_a_client(service: Service) -> None:
    await happen(service)
    formula = AddPerson(person_id="eve", email="eve@step-into.example", name='=HYPERLINK("x")', roles=(Role.AGENT,))
    await service.desk.submit_as_system("operator", formula, via="cli", admin=True)
    service.desk.forget_directory()
    assert '\'=HYPERLINK("x")' in [row["owner"] for row in await rows_of(service, "workload")]

    lists = ("what=opened", "what=refused", "what=refunded", "what=stayed&state=investigating", "what=stuck")
    contents = [(await look(service, f"/insights/{name}.csv?from={FROM}")).text for name in FILES]
    contents += [(await look(service, f"/insights/cases.csv?{query}&from={FROM}")).text for query in lists]
    for content in contents:
        assert "script" not in content
        assert "una@example.com" not in content
        for row in csv.reader(io.StringIO(content)):
            assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@"))]


async def test_a_list_as_a_file_is_as_long_as_the_list(service: Service) -> None:
    await happen(service)
    for query in (
        f"what=stayed&state=investigating&from={FROM}",
        f"what=standing&on={service.clock.now.date()}",
        f"what=reason&from={FROM}",
        f"what=closed&code=explained&category=delay&from={FROM}",
    ):
        page = await text_of(service, f"/insights/cases?{query}")
        assert len(await rows_of(service, "cases", query)) == listed(page)


async def test_a_long_list_is_turned_over_page_by_page(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "ROWS", 5)
    await happen(service)
    numbers: list[str] = []
    url: str | None = f"/insights/cases?what=opened&from={FROM}"
    while url is not None:
        page = await text_of(service, url)
        numbers += re.findall(r'<a href="/cases/(C-\d+)"', page)
        more = re.search(r'<a href="([^"]+)" rel="next">', page)
        url = html.unescape(more[1]) if more else None
    assert len(numbers) == len({*numbers}) == 14


# Who may, and what is asked wrongly.


@pytest.mark.parametrize("path", ["/insights", "/insights/cases?what=opened", "/insights/states.csv"])
async def test_insights_are_for_leads_and_auditors(service: Service, path: str) -> None:
    await investigate(service, "one")
    statuses = {
        name: (await look(service, path, name)).status_code for name in ("lou", "audrey", "ana", "cleo", "adam")
    }
    assert statuses == {"lou": 200, "audrey": 200, "ana": 403, "cleo": 403, "adam": 403}
    answer = await service.client.get(f"http://127.0.0.1{path}")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?next=%2Finsights")


async def test_only_they_are_shown_the_way(service: Service) -> None:
    assert 'href="/insights"' in await text_of(service, "/queue")
    assert 'href="/insights"' not in (await look(service, "/queue", "ana")).text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("until=2026-02-30", "until"),
        ("from=2026-03-10&until=2026-03-01", "from"),
        ("from=2099-01-01", "from"),
        (f"from={'9' * 10_000}", "from"),
        ("from=%00", "from"),
        ("from=%3Cscript%3E", "from"),
        ("until=%D7%A9%D7%9C%D7%95%D7%9D", "until"),
    ],
)
async def test_a_period_that_makes_no_sense_is_named_and_the_usual_one_shown(
    service: Service, query: str, field: str
) -> None:
    await investigate(service, "one")
    answer = await look(service, f"/insights?{query}")
    assert answer.status_code == 422
    assert f'role="alert"><code>{field}</code>' in answer.text
    assert "<script>" not in answer.text
    assert "Coming and going" in answer.text
    for path in ("/insights/flow.csv", "/insights/cases?what=opened&x=1"):
        refused = await look(service, f"{path}{'&' if '?' in path else '?'}{query}")
        assert (refused.status_code, f"<code>{field}</code>" in refused.text) == (422, True)


@pytest.mark.parametrize("query", ["from=0001-01-01", "until=0001-01-01", "from=0001-01-01&until=9999-12-31"])
async def test_a_period_far_outside_the_log_is_as_much_of_it_as_there_is(service: Service, query: str) -> None:
    await investigate(service, "one")
    service.clock.advance(days=800)
    for path in ("/insights", "/insights/states.csv", "/insights/cases"):
        assert (await look(service, f"{path}?what=standing&on=9999-12-31&{query}")).status_code == 200
    assert (await look(service, f"/insights/cases?what=standing&on=0001-01-01&{query}")).status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "what"),
        ("what=everything", "what"),
        ("what=standing", "on"),
        ("what=standing&on=2026-99-99", "on"),
        ("what=standing&on=2026-03-05&state=lost", "state"),
        ("what=stayed", "state"),
        ("what=stayed&state=opened&trigger=vanish", "trigger"),
    ],
)
async def test_a_list_of_nonsense_is_refused_by_name(service: Service, query: str, field: str) -> None:
    for path in ("/insights/cases", "/insights/cases.csv"):
        answer = await look(service, f"{path}?{query}")
        assert (answer.status_code, f"<code>{field}</code>" in answer.text) == (422, True)


async def test_a_list_of_what_there_is_not_is_empty(service: Service) -> None:
    await investigate(service, "one")
    for query in (
        "what=closed&code=%3Cscript%3E&category=x",
        "what=refunded&currency=XXX",
        f"what=opened&skip={'9' * 50}",
    ):
        page = await text_of(service, f"/insights/cases?{query}")
        assert "<script>alert" not in page
    assert (await look(service, "/insights/secrets.csv")).status_code == 404


# An empty desk, and one whose log is long.


async def test_an_empty_desk_says_what_will_be_here(site: Site) -> None:
    page = await site.visit("lou")
    await page.goto("/insights")
    await expect(page.get_by_text("Nothing has come in yet")).to_be_visible()
    await require_accessible(page)
    for size in SIZES:
        await page.set_viewport_size(size)
        await require_tidy(page)
    assert await rows_of(site.service, "outcomes") == []
    assert listed_none(await text_of(site.service, "/insights/cases?what=opened"))


def listed_none(page: str) -> bool:
    return 'class="count">0<' in page and "None." in page


async def test_while_the_log_is_read_the_page_says_how_far_and_asks_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await happen(site.service)
    monkeypatch.setattr(storage_module, "SLICE", 1)
    monkeypatch.setattr(page_module, "PATIENCE_SECONDS", 0)
    patient = await site.visit("lou")
    await patient.route("**/insights.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    await patient.goto("/insights")
    await expect(patient.get_by_role("status")).to_contain_text("The log is being read:")
    await require_accessible(patient)
    for size in SIZES:
        await patient.set_viewport_size(size)
        await require_tidy(patient)
    await site.service.desk.insights.close()
    page = await site.visit("lou")
    await page.goto("/insights")
    await expect(page.get_by_role("status")).to_contain_text("The log is being read:")

    monkeypatch.setattr(page_module, "PATIENCE_SECONDS", 30)
    monkeypatch.setattr(storage_module, "SLICE", 500)

    await expect(page.get_by_role("heading", name="Coming and going")).to_be_visible()


async def test_a_file_waits_until_the_log_is_read(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    await happen(service)
    monkeypatch.setattr(page_module, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(storage_module, "SLICE", 1)
    assert "The log is being read" in await text_of(service, "/insights/cases?what=opened")
    assert len(await rows_of(service, "cases", f"what=opened&from={FROM}")) == 14
    await service.desk.insights.close()
    monkeypatch.setattr(page_module, "FILE_PATIENCE_SECONDS", 0)
    assert (await look(service, "/insights/flow.csv")).status_code == 503


# In a browser.


async def opened_up(page: Page) -> None:
    """With every table shown."""
    await page.evaluate("document.querySelectorAll('details.numbers').forEach((one) => { one.open = true })")


async def test_everybody_can_read_it_at_every_width(site: Site) -> None:
    await happen(site.service)
    page = await site.visit("lou")
    for name, path in (
        ("insights", f"/insights?from={FROM}"),
        ("insights-cases", f"/insights/cases?what=opened&from={FROM}"),
        ("insights-refused", f"/insights/cases?what=refused&from={FROM}"),
    ):
        await page.goto(path)
        await opened_up(page)
        for size in SIZES:
            await page.set_viewport_size(size)
            await require_tidy(page)
            await picture(page, f"{name}-{size['width']}")
        await page.set_viewport_size(SIZES[0])
        await require_accessible(page)


async def test_it_can_be_read_in_the_dark(site: Site) -> None:
    await happen(site.service)
    page = await site.visit("lou", color_scheme="dark", viewport=PHONE)
    await page.goto(f"/insights?from={FROM}")
    await opened_up(page)
    await require_accessible(page)


async def test_without_javascript_nothing_is_missing(site: Site) -> None:
    await happen(site.service)
    page = await site.visit("lou", java_script_enabled=False)
    await page.goto("/insights")
    await page.get_by_label("From").fill("2026-03-08")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_text("8 Mar to 11 Apr 2026 · as of event")).to_be_visible()
    await page.locator("#outcomes summary").click()
    await page.locator("#outcomes td a").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Closed")


async def test_with_the_keyboard_alone_a_number_is_followed(site: Site) -> None:
    await happen(site.service)
    page = await site.visit("lou")
    await page.goto(f"/insights?from={FROM}")
    await page.locator("#flow summary").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#flow table")).to_be_visible()
    await page.keyboard.press("Tab")  # the table, which may be wider than its place
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.closest('td') !== null")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Came in")


async def test_a_bar_opens_its_cases(site: Site) -> None:
    await happen(site.service)
    page = await site.visit("lou")
    await page.goto(f"/insights?from={FROM}")
    await page.locator("#states .columns a").last.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Open at the end of")
    await page.go_back()
    await page.locator("#outcomes .bars a").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Closed")


async def test_what_people_wrote_is_text_wherever_it_is_shown(site: Site) -> None:
    await happen(site.service)
    page = await site.visit("audrey")
    await page.goto(f"/insights/cases?what=opened&from={FROM}")
    await expect(page.locator(".behind .title", has_text="<script>alert(1)</script>")).to_be_visible()
    await require_tidy(page)
