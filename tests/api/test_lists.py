"""Lists of cases: every case once however they change meanwhile, filters, and a search in any alphabet."""

from datetime import timedelta
from typing import Any

import pytest
from httpx2 import Response

from storage import cases
from tests.api.driving import Clock, Json, Service, a_purchase, an_inquiry, done, euros, wrong_fields
from tests.workflow.builders import NOON

SORTS = ("-number", "number", "deadline", "-changed_at")


async def numbers(service: Service, **query: Any) -> list[str]:
    return [case["number"] for case in done(await service.ana.get("/v1/cases", **query))["items"]]


def next_url(response: Response) -> str | None:
    """Where the `Link` header leads on."""
    if "link" not in response.headers:
        return None
    url, _, relation = response.headers["link"].partition("; ")
    assert relation == 'rel="next"'
    return str(url.removeprefix("<").removesuffix(">"))


# Paging.


@pytest.mark.parametrize("sort", SORTS)
async def test_every_case_comes_once_while_cases_come_and_change(sort: str, service: Service, clock: Clock) -> None:
    known = []
    for number in range(25):
        clock.advance(minutes=7)
        received_at = (NOON - timedelta(hours=number % 4)).isoformat()
        case = await service.ana.open(received_at=received_at)
        known.append(case["number"])
        if number % 5 == 0:  # so that it has no deadline
            done(await service.ana.fire(case["id"], "close", resolution="spam"))

    seen: list[str] = []
    url: str | None = f"/v1/cases?limit=4&sort={sort}"
    while url is not None:
        response = await service.ana.get(url)
        page = done(response)
        seen.extend(case["number"] for case in page["items"])
        url = next_url(response)
        assert (page["next"] is None) == (url is None)
        assert len(page["items"]) == 4 or url is None
        clock.advance(minutes=1)
        await service.bo.open()

    assert len(seen) == len(set(seen))
    assert set(known) <= set(seen)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("-number", ["C-1003", "C-1002", "C-1001"]),
        ("number", ["C-1001", "C-1002", "C-1003"]),
        ("deadline", ["C-1002", "C-1003", "C-1001"]),
        ("-changed_at", ["C-1001", "C-1003", "C-1002"]),
    ],
)
async def test_cases_come_in_the_order_that_is_asked_for(
    sort: str, order: list[str], service: Service, clock: Clock
) -> None:
    first = await service.ana.open()
    for hours in (3, 1):
        clock.advance(minutes=1)
        await service.ana.open(received_at=(clock.now - timedelta(hours=hours)).isoformat())
    clock.advance(minutes=1)
    done(await service.ana.fire(first["id"], "close", resolution="spam"))

    assert await numbers(service, sort=sort) == order
    by_deadline = done(await service.ana.get("/v1/cases", sort="deadline"))["items"]
    assert [case["next_deadline"] is None for case in by_deadline] == [False, False, True]


async def test_the_newest_come_first_unless_asked_otherwise(service: Service) -> None:
    for _ in range(3):
        await service.ana.open()

    assert await numbers(service) == await numbers(service, sort="-number")


async def test_the_link_to_the_next_page_keeps_the_filters(service: Service) -> None:
    for _ in range(3):
        await service.ana.open(subject="naïve & slow", category="delay")

    response = await service.ana.get("/v1/cases", q="naive slow", category="delay", limit=2)

    url = next_url(response)
    assert url is not None
    assert url.startswith("/v1/cases?")
    assert [case["number"] for case in done(await service.ana.get(url))["items"]] == ["C-1001"]


async def test_a_page_holds_at_most_two_hundred(service: Service) -> None:
    assert done(await service.ana.get("/v1/cases", limit=200)) == {"items": [], "next": None}
    for limit in (0, -1, 201, "many"):
        assert wrong_fields(await service.ana.get("/v1/cases", limit=limit)) == ["limit"]


async def test_a_cursor_is_good_for_its_own_order_only(service: Service) -> None:
    for _ in range(2):
        await service.ana.open()
    cursors = {sort: done(await service.ana.get("/v1/cases", limit=1, sort=sort))["next"] for sort in SORTS}

    for sort, cursor in cursors.items():
        for other in SORTS:
            response = await service.ana.get("/v1/cases", sort=other, cursor=cursor)
            if sort == other:
                done(response)
            else:
                assert wrong_fields(response) == ["cursor"]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "nonsense",
        "%%%",
        "W10",  # []
        "bnVsbA",  # null
        "WyItbnVtYmVyIl0",  # ["-number"]
        "WyItbnVtYmVyIiwtMV0",  # ["-number",-1]
        "WyItbnVtYmVyIiwxZTk5XQ",  # ["-number",1e99]
        "WyItbnVtYmVyIiwiMSJd",  # ["-number","1"]
        "WyItbnVtYmVyIiw5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OV0",
        "WyItbnVtYmVyIiwxLDJd",  # ["-number",1,2]
        "\x00",
        "é",
        "x" * 501,
    ],
)
async def test_a_cursor_that_was_never_given_out_is_refused(cursor: str, service: Service) -> None:
    assert wrong_fields(await service.ana.get("/v1/cases", cursor=cursor)) == ["cursor"]


# What they say is a NUL and half of a character.
@pytest.mark.parametrize(
    ("sort", "cursor"),
    [("deadline", "WyJkZWFkbGluZSIsIlx1MDAwMCIsMV0"), ("-changed_at", "WyItY2hhbmdlZF9hdCIsIlx1ZDgwMCIsMV0")],
)
async def test_a_cursor_holds_nothing_that_a_database_chokes_on(sort: str, cursor: str, service: Service) -> None:
    assert wrong_fields(await service.ana.get("/v1/cases", sort=sort, cursor=cursor)) == ["cursor"]


# Filters.


async def test_filters_narrow_and_work_together(service: Service, clock: Clock) -> None:
    opened = await service.ana.open(category="delay")
    bos = await service.bo.investigate(category="delay")
    anas = await service.ana.investigate(category="billing")
    await service.ana.add(anas["id"], "messages", text="Which one?", direction="outbound", awaits_reply=True)
    closed = await service.lou.open(category="billing")
    done(await service.lou.fire(closed["id"], "close", resolution="spam"))
    clock.advance(days=2)
    late = [opened["number"], bos["number"]]

    expected: list[tuple[Json, list[str]]] = [
        ({"state": "opened"}, [opened["number"]]),
        ({"state": "closed"}, [closed["number"]]),
        ({"state": "refunded"}, []),
        ({"category": "delay"}, [opened["number"], bos["number"]]),
        ({"assignee": "bo"}, [bos["number"]]),
        ({"assignee": "Bo@step-into.example"}, [bos["number"]]),
        ({"assignee": "me"}, [anas["number"]]),
        ({"assignee": "none"}, [opened["number"], closed["number"]]),
        ({"assignee": "nobody@example.com"}, []),
        ({"waiting": "true"}, [anas["number"]]),
        ({"waiting": "false", "state": "investigating"}, [bos["number"]]),
        ({"overdue": "true"}, late),
        ({"overdue": "false"}, [anas["number"], closed["number"]]),
        ({"overdue": "true", "assignee": "none", "category": "delay"}, [opened["number"]]),
        ({"state": "investigating", "category": "billing", "q": "banners"}, [anas["number"]]),
    ]
    for query, found in expected:
        assert await numbers(service, sort="number", **query) == found, query
    for case in done(await service.ana.get("/v1/cases"))["items"]:
        assert case["overdue"] == (case["number"] in late)


@pytest.mark.parametrize(
    "query",
    [
        {"state": "open"},
        {"category": "weather"},
        {"overdue": "perhaps"},
        {"waiting": ""},
        {"sort": "name"},
        {"assignee": "\x00"},
        {"q": "\x00"},
        {"q": "x" * 501},
        {"status": "opened"},
    ],
    ids=str,
)
async def test_a_filter_that_makes_no_sense_is_named(query: Json, service: Service) -> None:
    assert wrong_fields(await service.ana.get("/v1/cases", **query)) == [*query]


async def test_a_listed_case_shows_what_a_queue_needs(service: Service) -> None:
    case = await service.ana.open(purchase=a_purchase())

    (listed,) = done(await service.ana.get("/v1/cases"))["items"]

    assert listed.pop("amount") == euros("2000.00")
    assert listed.pop("next_deadline") == "2026-03-06T12:00:00.000000Z"
    assert listed == {name: case[name] for name in listed}


# Search.

LETTERS = {
    "Charged twice": "I was charged twice for the Naïve café campaign, see invoice 2026/118.",
    "Подвійна оплата": "Доброго дня! Двічі зняли оплату за рекламу.",
    "二重請求について": "先月の広告キャンペーンの料金が二重に請求されました。",
    "投放问题": "请问像素追踪为什么没有数据?我们在北京。",
    "عطل في التتبع": "لم يعمل رمز التتبع منذ أسبوع.",
    "Straße gesperrt": "Die Anzeige für GROSSE STRASSEN lief nicht über Übermut.",
    "환불 요청": "광고비를 환불해 주세요.",
    "รายงานไม่ถึง": "รายงานประจำเดือนยังไม่ถึง",
}


@pytest.mark.parametrize(
    ("query", "subject"),
    [
        ("charged", "Charged twice"),
        ("CHARGED TWICE", "Charged twice"),
        ("twice charged", "Charged twice"),
        ("charg", "Charged twice"),
        ("naive", "Charged twice"),
        ("NAÏVE CAFÉ", "Charged twice"),
        ("2026/118", "Charged twice"),
        ("оплата", "Подвійна оплата"),
        ("ОПЛАТУ", "Подвійна оплата"),
        ("рекл", "Подвійна оплата"),
        ("請求", "二重請求について"),
        ("広告", "二重請求について"),
        ("キャンペーン", "二重請求について"),
        ("ｷｬﾝﾍﾟｰﾝ", "二重請求について"),
        ("追踪", "投放问题"),
        ("像素追踪", "投放问题"),
        ("北京 数据", "投放问题"),
        ("التتبع", "عطل في التتبع"),
        ("أسبوع", "عطل في التتبع"),
        ("strasse", "Straße gesperrt"),
        ("große", "Straße gesperrt"),
        ("ubermut", "Straße gesperrt"),
        ("환불", "환불 요청"),
        ("광고비", "환불 요청"),
        ("รายงาน", "รายงานไม่ถึง"),
    ],
)
async def test_words_are_found_in_any_alphabet(query: str, subject: str, service: Service) -> None:
    for one, message in LETTERS.items():
        await service.ana.open(subject=one, message=message)

    found = done(await service.ana.get("/v1/cases", q=query))["items"]

    assert [case["title"] for case in found] == [subject]


FOUND_DESPITE_SIGNS = ("charged)", "!charged", "charged:*")


@pytest.mark.parametrize(
    "query",
    [
        *(
            "charged thrice",
            "harged",
            "求請",
            "告広",
            "zzz",
            "a AND b",
            "NOT charged",
            "NEAR(charged twice)",
            "words:charged",
        ),
        *("'", '"', "''", "*", "&", "\\", "-", "%", "_", "\u202e", "\N{PILE OF POO}"),
        *FOUND_DESPITE_SIGNS,
    ],
)
async def test_what_was_not_written_is_not_found_whatever_signs_are_in_it(query: str, service: Service) -> None:
    await service.ana.open(subject="Charged twice", message="二重請求 広告")

    found = done(await service.ana.get("/v1/cases", q=query))["items"]

    assert [case["number"] for case in found] == (["C-1001"] if query in FOUND_DESPITE_SIGNS else [])


@pytest.mark.parametrize("looked_through", [1, 3, 1000])
@pytest.mark.parametrize("sort", SORTS)
async def test_a_search_finds_common_and_rare_words_in_the_order_of_the_list(
    looked_through: int, sort: str, service: Service, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "LOOKED_THROUGH", (looked_through,))
    for number in range(8):
        clock.advance(minutes=7)
        received_at = (NOON - timedelta(hours=number % 3)).isoformat()
        case = await service.ana.open(subject="rare 1002" if number == 5 else "common", received_at=received_at)
        if number % 4 == 0:  # so that it has no deadline
            done(await service.ana.fire(case["id"], "close", resolution="spam"))

    everything = await numbers(service, sort=sort)
    for query, hits in (("common", {*everything} - {"C-1006"}), ("rare", {"C-1006"}), ("1002", {"C-1002", "C-1006"})):
        found: list[str] = []
        url: str | None = f"/v1/cases?limit=2&sort={sort}&q={query}"
        while url is not None:
            response = await service.ana.get(url)
            found.extend(case["number"] for case in done(response)["items"])
            url = next_url(response)
        assert found == [one for one in everything if one in hits]


async def test_a_search_finds_letters_names_and_numbers_but_no_notes(service: Service) -> None:
    case = await service.ana.open(client={"name": "Ümit Çelik", "email": "umit@nebula.example"})
    await service.ana.open()
    await service.ana.add(case["id"], "messages", text="The pelican is late", direction="inbound")
    await service.ana.add(case["id"], "messages", text="A heron is under way", direction="outbound")
    await service.ana.add(case["id"], "notes", text="Perhaps an ostrich")

    for query in (
        "pelican",
        "heron",
        "pelican heron",
        "umit",
        "CELIK",
        "nebula",
        "umit@nebula.example",
        "C-1001",
        "c-1001",
        "1001",
    ):
        assert await numbers(service, q=query) == ["C-1001"], query
    assert await numbers(service, q="ostrich") == []
    assert await numbers(service, q="  ") == ["C-1002", "C-1001"]


async def test_letters_too_long_to_be_found_by_their_last_words_are_kept_all_the_same(service: Service) -> None:
    case = await service.ana.open(message=" ".join(f"{'ﷺ' * 8}word{number}" for number in range(11_000)))
    for start in range(0, 60_000, 6_000):
        long = " ".join(f"{'abcdefghij' * 3}{number}" for number in range(start, start + 5_000))
        await service.ana.add(case["id"], "messages", text=long, direction="inbound")

    assert await numbers(service, q="banners") == ["C-1001"]
    assert await numbers(service, q=f"{'abcdefghij' * 3}7") == ["C-1001"]
    assert len(done(await service.ana.get(f"/v1/cases/{case['id']}/messages"))) == 11


async def test_a_case_without_a_word_is_found_by_its_number(service: Service) -> None:
    done(
        await service.ana.post(
            "/v1/cases", an_inquiry(subject="…", message="!", client={"name": "", "email": "a@b.example"})
        ),
        201,
    )

    assert await numbers(service, q="C-1001") == ["C-1001"]


# What lies beside a case.


async def test_beside_a_case_are_those_it_names_and_those_of_its_purchase(service: Service) -> None:
    first = await service.ana.open(subject="First", purchase=a_purchase())
    second = await service.ana.open(subject="Second", purchase={"reference": "D-1"})
    third = await service.ana.open(subject="", message="The third")
    await service.ana.open()
    await service.ana.add(second["id"], "links", kind="related", case=third["id"])

    async def beside(case: Json) -> list[tuple[str, str | None, str | None]]:
        entry = await cases.one(service.desk.database, case["id"])
        assert entry is not None
        found = await cases.neighbours(service.desk.database, entry.case)
        return [(one.id, one.title, one.purchase) for one in found]

    assert await beside(first) == [(second["id"], "Second", "D-1")]
    assert await beside(second) == [(first["id"], "First", "D-1"), (third["id"], "The third", None)]
    assert await beside(third) == []
