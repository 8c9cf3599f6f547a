"""The client's page: it says where the case stands, takes answers, and tells nothing else to anybody."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from html import unescape
from itertools import pairwise
from typing import Any

import pytest
from httpx2 import Response
from playwright.async_api import Page, expect
from sqlalchemy import event as sql_events

from api.client_links import new_client_link, path_of
from api.pages.client_words import ENGLISH, Words
from storage.database import SqliteDatabase
from tests.api.driving import Clock, Json, Service, a_fresh_purchase, a_purchase, day, done, euros, running
from tests.pages.browsing import DESKTOP, PHONE, Site, picture, require_accessible, require_tidy, sign_in
from tests.workflow.builders import NOON
from workflow import commands as c
from workflow.cases import NewAttachment
from workflow.people import CreateToken
from workflow.policy import ClauseId
from workflow.states import CompensationKind, Direction, Resolution

HOME = "http://127.0.0.1"
NARROW = {"width": 320, "height": 640}
OURS = {"sec-fetch-site": "same-origin"}
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "{{ 7 * 7 }} {organisation} %s",
    "\N{RIGHT-TO-LEFT OVERRIDE}txet",
    "سلام שלום 日本語",
)


# How a test comes to a page.


async def linked(service: Service, case_id: str, **until: float) -> str:
    """The path of a new link."""
    command, secret = new_client_link(service.clock() + timedelta(**(until or {"days": 90})))
    await service.as_system("operator", command, case_id)
    return path_of(secret)


async def get(service: Service, path: str, **headers: str) -> Response:
    return await service.client.get(f"{HOME}{path}", headers=headers)


async def read(service: Service, path: str) -> str:
    """What a person reads there, in one line."""
    return plain(await get(service, path))


def plain(response: Response) -> str:
    body = re.split(r"<body[^>]*>", response.text)[1]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def fields_in(response: Response) -> dict[str, str]:
    """The hidden fields of its form."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', response.text))


async def send(service: Service, path: str, /, headers: dict[str, str] | None = None, **changes: str) -> Response:
    """The form that is at this path, filled in."""
    form = fields_in(await get(service, path)) | changes
    return await service.client.post(f"{HOME}{path}", headers=OURS if headers is None else headers, data=form)


async def history(service: Service, case_id: str) -> list[Json]:
    events: list[Json] = done(await service.ana.get(f"/v1/cases/{case_id}/events"))["items"]
    return events


async def said_by_client(service: Service, case_id: str) -> list[str]:
    return [one["texts"].get("text", "") for one in await history(service, case_id) if "client:" in one["actor"]]


# Situations. Each leads a case to where a sentence is due, and gives what has to be read.

OFFER = {"description": "Three more weeks in another audience", "answer_by": "2026-03-12"}


async def fire(service: Service, case: Json, trigger: str, **data: Any) -> None:
    done(await service.ana.fire(case["id"], trigger, **data))


async def ask(service: Service, case: Json) -> None:
    await service.ana.add(case["id"], "messages", text="Which banner?", direction="outbound", awaits_reply=True)


async def reply(service: Service, case: Json) -> None:
    await service.ana.add(case["id"], "messages", text="We have looked into it.", direction="outbound")


async def credit(service: Service, case: Json) -> None:
    proposal = await service.ana.add(
        case["id"],
        "proposals",
        remedy="compensation",
        kind="extra_service",
        amount=euros("1500.00"),
        reason="for the trouble",
    )
    verdict = {"verdict": "approve", "digest": proposal["digest"], "reason": "fair"}
    await service.cleo.add(case["id"], f"proposals/{proposal['id']}/verdicts", **verdict)
    await fire(service, case, "issue_compensation", proposal=proposal["id"])


async def refund(service: Service, case: Json) -> None:
    await service.ana.add(case["id"], "purchase/checks", reason="seen")
    proposal = await service.ana.add(
        case["id"], "proposals", remedy="refund", amount=euros("2000.00"), reason="not begun"
    )
    data = {"proposal": proposal["id"], "payment_reference": "TX-19"}
    done(await service.cleo.fire(case["id"], "refund", **data))


Situation = Callable[[Service], Awaitable[tuple[Json, list[str]]]]


async def opened(service: Service) -> tuple[Json, list[str]]:
    return await service.ana.open(), [
        "We have received your message of 5 March 2026. Nobody has begun to look into it yet.",
        "What we need from you Nothing at the moment.",
        "A person answers you by 6 March 2026, 12:00 (UTC).",
    ]


async def opened_and_asked(service: Service) -> tuple[Json, list[str]]:
    case = await service.ana.open()
    await ask(service, case)
    return case, [
        "We have received your message of 5 March 2026. We have asked you something and wait for your answer.",
        "Please answer our message of 5 March 2026.",
        "As soon as we have your answer, we go on.",
    ]


async def late(service: Service) -> tuple[Json, list[str]]:
    case = await service.ana.open()
    service.clock.advance(days=2)
    return case, ["A person should have answered you by 6 March 2026, 12:00 (UTC). We are late, and we are sorry."]


async def investigated(service: Service) -> tuple[Json, list[str]]:
    case = await service.ana.investigate()
    await reply(service, case)
    return case, [
        "We are looking into your case and finding out what happened.",
        "You hear from us by 12 March 2026, 12:00 (UTC).",
    ]


async def investigated_late(service: Service) -> tuple[Json, list[str]]:
    case, _ = await investigated(service)
    service.clock.advance(days=8)
    return case, ["You should have heard from us by 12 March 2026, 12:00 (UTC). We are late, and we are sorry."]


async def investigated_and_asked(service: Service) -> tuple[Json, list[str]]:
    case = await service.ana.investigate()
    await ask(service, case)
    return case, [
        "finding out what happened. We have asked you something and wait for your answer.",
        "Please answer our message of 5 March 2026.",
    ]


async def offered(service: Service) -> tuple[Json, list[str]]:
    case = await service.ana.investigate()
    await fire(service, case, "offer_adjustment", **OFFER)
    return case, [
        "We have offered you a change to your service, and it waits for your answer.",
        "by the end of 12 March 2026 whether you accept this offer: Three more weeks in another audience",
        "Accept the offer Decline the offer",
        "As soon as we have your answer, we go on.",
    ]


async def offered_in_vain(service: Service) -> tuple[Json, list[str]]:
    case, _ = await offered(service)
    service.clock.advance(days=8)
    return case, [
        "The time to answer it ended on 12 March 2026. The offer was: Three more weeks",
        "If you still want what we offered, write to us below.",
    ]


def answered(answer: str, said: str) -> Situation:
    async def situation(service: Service) -> tuple[Json, list[str]]:
        case, _ = await offered(service)
        await send(service, f"{await linked(service, case['id'])}/{answer}")
        return case, [
            f"You {said} our offer on 5 March 2026. The offer was: Three more weeks",
            "Nothing at the moment.",
            "A person answers you by 6 March 2026",
        ]

    return situation


async def accepted_and_asked(service: Service) -> tuple[Json, list[str]]:
    case, _ = await answered("accept", "accepted")(service)
    await ask(service, case)
    return case, ["You accepted our offer on 5 March 2026. We have asked you something and wait for your answer."]


async def taken_up_again(service: Service) -> tuple[Json, list[str]]:
    case, _ = await offered(service)
    await fire(service, case, "resume", reason_code="declined")
    return case, ["We are looking into your case again."]


async def booked(service: Service) -> tuple[Json, list[str]]:
    case = await service.ana.investigate()
    await fire(
        service, case, "schedule_consultation", starts_at="2026-03-09T10:00:00Z", minutes=30, channel="by telephone"
    )
    return case, [
        "A consultation is booked for 9 March 2026, 10:00 (UTC): 30 minutes, by telephone.",
        "We speak with each other on 9 March 2026, 10:00 (UTC).",
        "Consultation on 9 March 2026",
    ]


async def held(service: Service) -> tuple[Json, list[str]]:
    case, _ = await booked(service)
    service.clock.advance(days=5)
    return case, ["A consultation was booked for 9 March 2026, 10:00 (UTC): 30 minutes, by telephone."]


async def compensated(service: Service) -> tuple[Json, list[str]]:
    case = await service.ana.investigate()
    await credit(service, case)
    return case, [
        "We have given you an extra service worth 1,500.00 EUR. It was recorded on 5 March 2026.",
        "If this settles it, you need not do anything.",
        "What you have received Extra service worth 1,500.00 EUR, recorded on 5 March 2026",
    ]


async def refunded(service: Service) -> tuple[Json, list[str]]:
    case = await service.ana.investigate(purchase=a_fresh_purchase())
    await refund(service, case)
    return case, [
        "We have refunded 2,000.00 EUR. It was recorded on 5 March 2026.",
        "Refund of 2,000.00 EUR, recorded on 5 March 2026",
        "Your refund rests on this clause.",
    ]


async def money_came_back(service: Service) -> tuple[Json, list[str]]:
    case, _ = await refunded(service)
    done(await service.cleo.fire(case["id"], "resume", reason_code="payment_failed"))
    return case, ["The refund of 2,000.00 EUR that we recorded on 5 March 2026 came back to us."]


def closed(resolution: Resolution, said: str) -> Situation:
    async def situation(service: Service) -> tuple[Json, list[str]]:
        case = await service.ana.investigate()
        await reply(service, case)
        if resolution is Resolution.REMEDY_ACCEPTED:
            await fire(service, case, "offer_adjustment", **OFFER)
        await fire(service, case, "close", resolution=resolution)
        return case, [
            f"Your case was closed on 5 March 2026{said}",
            "Nothing more, unless you write to us. Until 4 April 2026 your case can be taken up again.",
        ]

    return situation


async def closed_for_good(service: Service) -> tuple[Json, list[str]]:
    case, _ = await closed(Resolution.EXPLAINED, "")(service)
    service.clock.advance(days=31)
    return case, ["What we need from you Nothing.", "write to us by mail: that becomes a new case."]


CLOSED = {
    Resolution.EXPLAINED: ", after we explained what happened.",
    Resolution.NO_REFUND_DUE: ". Under our published rules no refund is due.",
    Resolution.REMEDY_ACCEPTED: ", with the solution that is listed below.",
    Resolution.WITHDRAWN: ", because it was withdrawn.",
    Resolution.NO_RESPONSE: ", because we had no answer from you.",
    Resolution.DUPLICATE: ", because the same matter had been recorded already.",
    Resolution.SPAM: ". What we need",
}
SITUATIONS: dict[str, Situation] = {
    one.__name__: one
    for one in (
        opened,
        opened_and_asked,
        late,
        investigated,
        investigated_late,
        investigated_and_asked,
        offered,
        offered_in_vain,
        accepted_and_asked,
        taken_up_again,
        booked,
        held,
        compensated,
        refunded,
        money_came_back,
        closed_for_good,
    )
} | {
    "accepted": answered("accept", "accepted"),
    "declined": answered("decline", "declined"),
    **{f"closed as {resolution}": closed(resolution, said) for resolution, said in CLOSED.items()},
}


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_a_client_reads_where_their_case_stands(service: Service, situation: str) -> None:
    case, sentences = await SITUATIONS[situation](service)
    page = await read(service, await linked(service, case["id"]))

    for sentence in sentences:
        assert sentence in page, page


def test_there_are_words_for_whatever_a_case_can_be() -> None:
    assert CLOSED.keys() == set(Resolution)
    for kind in CompensationKind:
        assert {f"kind.{kind}", f"Kind.{kind}"} <= ENGLISH.keys()


def test_dates_are_those_of_the_desks_own_calendar() -> None:
    words = Words(ENGLISH, "Europe/Kyiv")
    evening = NOON.replace(hour=23)

    assert words.moment(evening) == "6 March 2026, 01:00 (Europe/Kyiv)"
    assert words.day(evening.date()) == "5 March 2026"


async def test_the_rules_are_those_of_the_case_with_their_clauses(service: Service) -> None:
    shown = {}
    for category in ("billing", "results"):
        case = await service.ana.open(category=category)
        page = (await get(service, await linked(service, case["id"]))).text
        shown[category] = set(re.findall(r"<dt>(P\d)</dt>", page))
        assert "Here that means 7 days." in page

    assert shown["billing"] == {"P3", "P4", "P5", "P6", "P9"}
    assert shown["results"] == shown["billing"] | {"P7", "P8"}
    assert shown["results"] < set(ClauseId)


async def test_what_was_said_is_shown_as_it_was_and_by_whom(service: Service) -> None:
    case = await service.ana.open(message="They never ran.\nNot once.")
    path = await linked(service, case["id"])
    await reply(service, case)
    await service.ana.add(case["id"], "messages", text="She rang: it is urgent.", direction="inbound")
    received = c.AddMessage(
        direction=Direction.INBOUND,
        text="And here is proof.",
        sender="una@example.com",
        attachments=(NewAttachment(id="x", name="proof.pdf", content_type="application/pdf", content=b"%PDF"),),
    )
    await service.as_system("mail", received, case["id"])
    acknowledged = c.AddMessage(direction=Direction.OUTBOUND, text="We have it.")
    await service.as_system("mail", acknowledged, case["id"])
    await service.as_system("mail", c.RecordBounce(message="m3"), case["id"])

    page = await get(service, path)
    heads = [" ".join(one.split()) for one in re.findall(r"<h3>(.+?) <time", page.text)]
    assert heads == ["You, as we noted it", "Step-Into", "You, as we noted it", "You", "Step-Into, automatically"]
    assert "They never ran.\nNot once." in page.text
    assert "And here is proof. Files that came with it: 1" in plain(page)


async def test_of_a_long_conversation_the_latest_is_shown_and_the_rest_can_be_asked_for(service: Service) -> None:
    case = await service.ana.open()
    for number in range(45):
        await service.as_system("mail", c.AddMessage(direction=Direction.INBOUND, text=f"Letter {number}."), case["id"])
    path = await linked(service, case["id"])

    page = await read(service, path)
    assert "Earlier messages: 6" in page
    assert ("Letter 4." in page, "Letter 5." in page) == (False, True)
    assert "Letter 0." in await read(service, f"{path}?all")


async def test_whoever_only_asks_whether_a_page_is_there_is_told(service: Service) -> None:
    path = await linked(service, (await service.ana.open())["id"])

    for at, status in ((path, 200), ("/c/nothing", 404)):
        answer = await service.client.head(f"{HOME}{at}")
        assert (answer.status_code, answer.headers["referrer-policy"]) == (status, "no-referrer")


async def test_what_was_erased_says_so(service: Service) -> None:
    case = await service.ana.open(message="They never ran.")
    erase = {"case": case["id"], "legal_basis": "GDPR Art. 17(1)", "override": True, "reason": "asked"}
    done(await service.adam.post("/v1/erasures", erase), 201)

    page = await read(service, await linked(service, case["id"]))

    assert "This text was erased." in page
    assert "They never ran." not in page


# Nothing else is ever told.


async def everything_internal(service: Service) -> tuple[str, list[str]]:
    """A case with something to be found by in every field that no client may see, and its pages on the way."""
    other = await service.ana.open(subject="Canary of another case", message="Canary of another case")
    case = await service.ana.open(purchase=a_purchase("Canary-D-1", package="Canary package"))
    case_id, because = case["id"], "Canary reason"
    path = await linked(service, case_id)
    pages = [path]

    async def seen(trigger: str, who: str = "ana", **data: object) -> None:
        body = {"trigger": trigger, "reason": because, **({"data": data} if data else {})}
        done(await getattr(service, who).post(f"/v1/cases/{case_id}/transitions", body))
        pages.append((await get(service, path)).text)

    pages.append((await get(service, path)).text)
    await seen("investigate")
    await service.ana.add(case_id, "notes", text="Canary note")
    await service.ana.add(case_id, "purchase/checks", reason=because)
    claim = {"kind": "billing_error", "affected": euros("311.00"), "statement": "Canary statement"}
    ground = await service.ana.add(case_id, "grounds", **claim)
    await service.bo.add(case_id, f"grounds/{ground['id']}/verifications", verified=True, evidence="Canary evidence")
    file = {"file": ("Canary-file.txt", b"Canary content", "text/plain")}
    done(await service.ana.send("POST", f"/v1/cases/{case_id}/attachments", files=file), 201)
    done(await service.ana.put(f"/v1/cases/{case_id}/participants", {"participants": ["canary@elsewhere.example"]}))
    await service.ana.add(case_id, "links", kind="related", case=other["id"])
    done(await service.lou.put(f"/v1/cases/{case_id}/hold", {"reason": because}))
    recategorized = {"category": "technical", "reason": because}
    done(await service.ana.put(f"/v1/cases/{case_id}/category", recategorized))
    corrected = {"requested_at": day(-1), "reason": because}
    done(await service.lou.put(f"/v1/cases/{case_id}/requested-at", corrected))
    await service.ana.add(case_id, "messages/m1/no-answer-needed", reason=because)
    first = (await history(service, case_id))[0]
    found = {"seq": 1, "hash": first["hash"], "severity": "minor", "text": "Canary finding"}
    await service.audrey.add(case_id, "findings", **found)
    await seen("offer_adjustment", **OFFER)
    await seen("resume", reason_code="insufficient")
    await seen("schedule_consultation", starts_at="2026-03-09T10:00:00Z", minutes=30, channel="by telephone")
    await seen("resume", reason_code="no_show")
    credit = {"remedy": "compensation", "kind": "discount", "amount": euros("5.00"), "reason": because}
    refund = {"remedy": "refund", "amount": euros("300.00"), "reason": because}
    for trigger, body, who, data in (
        ("issue_compensation", credit, "ana", {}),
        ("refund", refund, "dirk", {"payment_reference": "Canary-TX"}),
    ):
        proposal = await service.ana.add(case_id, "proposals", **body)
        verdict = {"verdict": "approve", "digest": proposal["digest"], "reason": because}
        await service.cleo.add(case_id, f"proposals/{proposal['id']}/verdicts", **verdict)
        await seen(trigger, who, proposal=proposal["id"], **data)
        if trigger == "issue_compensation":
            await seen("resume", reason_code="insufficient")
    await service.ana.add(case_id, "messages", text="Told to the client.", direction="outbound")
    revoked = await linked(service, case_id)
    assert revoked
    (last, *_) = reversed((await service.ana.read(case_id))["client_links"])
    await service.ana.add(case_id, f"client-links/{last['id']}/revocation", reason=because)
    await seen("close", resolution="remedy_accepted")
    answer = await send(service, path, text="Thank you.")
    pages.append((await get(service, answer.headers["location"])).text)
    return case_id, pages


async def test_nothing_internal_is_ever_told(service: Service) -> None:
    case_id, pages = await everything_internal(service)
    case = await service.ana.read(case_id)
    everything = "\n".join(pages[1:])

    # What the search would find, if it were there.
    whole = str(case) + str(await history(service, case_id))
    for canary in ("note", "reason", "statement", "evidence", "file.txt", "TX", "package", "D-1"):
        assert re.search(f"[Cc]anary[ -]{canary}", whole), canary
    assert "Told to the client." in everything

    assert "canary" not in everything.lower()
    assert "311.00" not in everything
    names = [one.title() for one in ("ana", "bo", "lou", "cleo", "dirk", "audrey", "adam")]
    assert not [one for one in names if re.search(rf"\b{one}\b", everything)]
    assert "step-into.example" not in everything
    for secret in (case_id, case["mail_tag"].strip("[#]"), *(one["id"] for one in case["client_links"])):
        assert secret not in everything
    for word in ("assignee", "guard", "approver", "proposal", "ground", "legal hold", "investigating", "billing"):
        assert not re.search(rf"\b{word}\b", everything.lower().replace("an error in billing", "")), word


async def test_a_link_opens_one_case_and_none_of_the_clients_others(service: Service) -> None:
    one = await service.ana.open(subject="About the banners", message="The red one.")
    other = await service.ana.open(subject="About the invoice", message="It came twice.")
    first, second = await linked(service, one["id"]), await linked(service, other["id"])

    assert "About the banners" in await read(service, first)
    for words in ("invoice", "It came twice.", other["number"]):
        assert words not in await read(service, first)
    answer = await send(service, second, text="Please hurry.")
    receipt = answer.headers["location"].removeprefix(second)
    assert (await get(service, f"{first}{receipt}")).status_code == 404


@pytest.mark.parametrize("seq", ["1", "2", "3", "0", "-1", "99", "9" * 40, "x", "%00", "\N{ARABIC-INDIC DIGIT ONE}"])
async def test_there_is_a_receipt_of_what_was_done_by_the_link_and_of_nothing_else(service: Service, seq: str) -> None:
    case = await service.ana.investigate()
    await service.ana.add(case["id"], "notes", text="internal")

    answer = await get(service, f"{await linked(service, case['id'])}/receipts/{seq}")

    assert answer.status_code == 404
    assert "internal" not in answer.text


async def test_no_page_keeps_or_passes_anything_on(service: Service) -> None:
    case, _ = await offered(service)
    path = await linked(service, case["id"])
    cookie = {"cookie": f"casework={await sign_in(service, 'ana')}"}
    receipt = (await send(service, path, text="Hello")).headers["location"]

    for at, status in ((path, 200), (f"{path}/accept", 200), (receipt, 200), ("/c/nothing", 404)):
        answer = await get(service, at, **cookie)
        headers = answer.headers
        assert (answer.status_code, "set-cookie" in headers) == (status, False)
        assert headers.get_list("referrer-policy") == ["no-referrer"]
        assert headers["cache-control"] == "no-store"
        assert "noindex" in headers["x-robots-tag"]
        assert "script-src" not in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert 'name="robots" content="noindex' in answer.text
        assert "<script" not in answer.text
        assert "Ana" not in answer.text
    redirect = await send(service, path, text="Hello again")
    assert (redirect.headers["referrer-policy"], redirect.headers["cache-control"]) == ("no-referrer", "no-store")


async def test_the_secret_is_in_no_log_and_in_no_table(
    service: Service, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    case = await service.ana.open()
    path = await linked(service, case["id"])
    await send(service, path, text="Hello")
    secret = path.removeprefix("/c/")

    assert isinstance(service.desk.database, SqliteDatabase)
    file = service.desk.database.path
    kept = b"".join(one.read_bytes() for one in file.parent.glob(f"{file.name}*"))
    assert b"client_link_issued" in kept
    assert secret.encode() not in kept
    assert secret not in caplog.text + "".join(capsys.readouterr())


# Whoever has no good link.


async def ways_not_to_come_in(service: Service) -> dict[str, str]:
    case = await service.ana.open()
    expired, revoked = await linked(service, case["id"], hours=1), await linked(service, case["id"])
    for link in (await service.ana.read(case["id"]))["client_links"][1:]:
        await service.ana.add(case["id"], f"client-links/{link['id']}/revocation", reason="lost")
    erased = await service.ana.open(client={"name": "Ed", "email": "ed@example.com"})
    gone = await linked(service, erased["id"])
    erase = {"case": erased["id"], "legal_basis": "GDPR Art. 17(1)", "override": True, "reason": "asked"}
    done(await service.adam.post("/v1/erasures", erase), 201)
    service.clock.advance(hours=1)
    return {
        "expired": expired,
        "revoked": revoked,
        "erased": gone,
        "unknown": path_of("cw_" + "A" * 43),
        "cut off": expired[:-1],
        "hostile": "/c/%3Cscript%3E'\"%F0%9F%92%A5%ED%A0%80",
        "nothing": "/c/%00",
    }


async def test_links_that_are_not_good_are_all_alike(service: Service) -> None:
    ways = await ways_not_to_come_in(service)
    answers = {}
    for name, path in ways.items():
        for further in ("", "/accept", "/receipts/1"):
            answer = await get(service, f"{path}{further}")
            headers = {key: value for key, value in answer.headers.items() if key != "x-request-id"}
            answers[name, "GET", further] = (answer.status_code, answer.text, headers)
        form = {"text": "Hello", "csrf": "0", "offer": "1"}
        for further in ("", "/accept"):
            answer = await service.client.post(f"{HOME}{path}{further}", headers=OURS, data=form)
            headers = {key: value for key, value in answer.headers.items() if key != "x-request-id"}
            answers[name, "POST", further] = (answer.status_code, answer.text, headers)

    for (one, first), (other, second) in pairwise(answers.items()):
        assert first == second, (one, other)
    status, text, _ = next(iter(answers.values()))
    assert status == 404
    assert "support@localhost" in text


async def test_the_database_is_asked_the_same_of_all_of_them(service: Service) -> None:
    ways = await ways_not_to_come_in(service)
    assert isinstance(service.desk.database, SqliteDatabase)
    asked: list[str] = []
    sql_events.listen(
        service.desk.database.engine, "before_cursor_execute", lambda _, __, statement, *___: asked.append(statement)
    )
    await get(service, "/c/first")  # what is read once a second is read by now
    for path in ways.values():
        asked.clear()
        await get(service, path)
        assert len([one for one in asked if "client_links" in one]) == 1
        assert [one for one in asked if "client_links" not in one] == []


async def test_a_link_to_sign_in_a_session_and_a_token_open_no_case(service: Service) -> None:
    await service.ana.open()
    session = await sign_in(service, "ana")
    command = CreateToken(person_id="ana", token_id="t", secret_hash="#")
    await service.desk.submit_as_system("operator", command, via="cli", admin=True)

    for secret in (session, service.ana.token, "#"):
        assert (await get(service, path_of(secret or ""))).status_code == 404


async def test_a_clients_link_is_good_for_nothing_else(service: Service) -> None:
    case = await service.ana.open()
    secret = (await linked(service, case["id"])).removeprefix("/c/")

    assert (await service.signed_in(secret).get(f"/v1/cases/{case['id']}")).status_code == 401
    assert (await get(service, "/queue", cookie=f"casework={secret}")).status_code == 303
    answer = await service.client.post(f"{HOME}/sign-in/{secret}", headers=OURS, data={"a": "b"})
    assert answer.status_code == 403


async def test_over_plain_http_from_afar_nothing_is_told(service: Service) -> None:
    case = await service.ana.open()
    path = await linked(service, case["id"])

    for at in (path, "/c/nothing"):
        answer = await service.client.get(f"http://desk.example{at}")
        assert answer.status_code == 403
        assert "https://" in answer.text
        assert "They never ran." not in answer.text
    assert (await service.client.get(f"https://desk.example{path}")).status_code == 200


# Answers.


async def test_a_message_is_recorded_as_the_clients_and_ends_the_waiting(service: Service) -> None:
    case, _ = await opened_and_asked(service)
    path = await linked(service, case["id"])

    answer = await send(service, path, text="  The red one.\r\n\r\nThank you! ")

    last = (await history(service, case["id"]))[-1]
    (link,) = (await service.ana.read(case["id"]))["client_links"]
    assert (answer.status_code, answer.headers["location"]) == (303, f"{path}/receipts/{last['seq']}")
    assert (last["type"], last["actor"], last["via"]) == ("message_received", f"client:{link['id']}", "page")
    assert last["texts"] == {"text": "The red one.\n\nThank you!"}
    assert (await service.ana.read(case["id"]))["waiting"] is False
    receipt = await read(service, answer.headers["location"])
    digest = last["hash"]
    assert f"Case {case['number']} Recorded on 5 March 2026, 12:00 (UTC) Entry {last['seq']}" in receipt
    assert f"Fingerprint {digest[:4]} {digest[4:8]} {digest[8:12]} {digest[12:16]}" in receipt
    assert "What you wrote The red one." in receipt


async def test_the_same_form_sent_twice_is_one_message(service: Service) -> None:
    case = await service.ana.open()
    path = await linked(service, case["id"])
    form = fields_in(await get(service, path)) | {"text": "Please hurry."}

    async def post(text: str) -> Response:
        return await service.client.post(f"{HOME}{path}", headers=OURS, data=form | {"text": text})

    first, second = await asyncio.gather(post("Please hurry."), post("Please hurry."))
    third = await post("Please hurry.")
    other = await post("Please hurry more.")

    assert [one.status_code for one in (first, second, third, other)] == [303, 303, 303, 422]
    assert first.headers["location"] == second.headers["location"] == third.headers["location"]
    assert await said_by_client(service, case["id"]) == ["Please hurry."]
    assert "Please hurry more.</textarea>" in other.text
    assert fields_in(other)["key"] != form["key"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Please write something first."),
        (" \r\n ", "Please write something first."),
        ("x" * 20_001, "Please write at most 20,000 characters; these are 20,001."),
    ],
)
async def test_what_cannot_be_kept_comes_back_with_the_reason(service: Service, text: str, said: str) -> None:
    case, _ = await offered(service)
    path = await linked(service, case["id"])

    for at in (path, f"{path}/accept") if text.strip() else (path,):
        answer = await send(service, at, text=text)
        assert answer.status_code == 422
        assert said in plain(answer)
        assert unescape(answer.text).count(text.strip()) >= 1
    assert await said_by_client(service, case["id"]) == []


async def test_what_no_database_can_hold_is_told(service: Service) -> None:
    path = await linked(service, (await service.ana.open())["id"])

    answer = await send(service, path, text="a\x00b")

    assert answer.status_code == 422
    assert "There is something in your text that cannot be kept" in plain(answer)


async def test_a_long_text_in_any_script_is_kept_whole(service: Service) -> None:
    case = await service.ana.open()
    text = ("".join(HOSTILE) + "\n") * 150
    assert (await send(service, await linked(service, case["id"]), text=text)).status_code == 303

    assert await said_by_client(service, case["id"]) == [text.strip()]


async def test_what_is_no_form_of_ours_changes_nothing(service: Service) -> None:
    case = await service.ana.open()
    path, other = await linked(service, case["id"]), await linked(service, case["id"])
    form = fields_in(await get(service, path)) | {"text": "Hello"}
    wrong: list[tuple[dict[str, str], dict[str, str], int]] = [
        ({"sec-fetch-site": "cross-site"}, form, 403),
        ({"sec-fetch-site": "same-site"}, form, 403),
        ({"origin": "http://elsewhere.example"}, form, 403),
        ({}, form, 403),
        (OURS, form | {"csrf": ""}, 403),
        (OURS, form | {"csrf": "0" * 64}, 403),
        (OURS, form | {"csrf": fields_in(await get(service, other))["csrf"]}, 403),
        (OURS, {f"field{number}": "x" for number in range(1001)}, 413),
        (OURS, {"text": "x" * 1_000_001}, 413),
    ]
    for headers, data, status in wrong:
        answer = await service.client.post(f"{HOME}{path}", headers=headers, data=data)
        assert answer.status_code == status
        assert "Nothing was sent" in answer.text or "nothing was sent" in answer.text
    answer = await service.client.post(f"{HOME}{path}", headers=OURS, content=b"{}")
    assert answer.status_code == 415
    assert await said_by_client(service, case["id"]) == []


async def test_a_browser_that_says_little_can_answer_all_the_same(service: Service) -> None:
    """A page without a referrer sends no origin, and old browsers tell no more than that."""
    case = await service.ana.open()
    path = await linked(service, case["id"])

    answer = await send(service, path, headers={"origin": "null"}, text="Hello")

    assert answer.status_code == 303
    assert (await send(service, path, headers={"origin": "null"}, csrf="0", text="Hello")).status_code == 403


async def test_a_closed_case_takes_messages_for_as_long_as_it_can_be_taken_up_again(service: Service) -> None:
    case, _ = await closed(Resolution.EXPLAINED, "")(service)
    path = await linked(service, case["id"])
    form = fields_in(await get(service, path)) | {"text": "One more thing."}
    assert (await send(service, path, text="It happened again.")).status_code == 303
    service.clock.advance(days=30, seconds=1)

    answer = await service.client.post(f"{HOME}{path}", headers=OURS, data=form)

    assert answer.status_code == 409
    assert "This case was closed for good." in plain(answer)
    assert "One more thing.</textarea>" in answer.text
    assert "<textarea" not in (await get(service, path)).text
    assert await said_by_client(service, case["id"]) == ["It happened again."]


async def test_while_nothing_can_be_kept_the_text_is_not_lost(service: Service) -> None:
    case = await service.ana.open()
    path = await linked(service, case["id"])
    service.desk.ledger.closing = True

    answer = await send(service, path, text="Please hurry.")

    service.desk.ledger.closing = False
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "Please hurry.</textarea>" in answer.text


# Offers.


@pytest.mark.parametrize(("answer", "accepted"), [("accept", True), ("decline", False)])
async def test_an_answer_to_an_offer_is_recorded_with_the_offer(service: Service, answer: str, accepted: bool) -> None:
    case, _ = await offered(service)
    path = await linked(service, case["id"])

    sent = await send(service, f"{path}/{answer}", text="Not before May.")

    last = (await history(service, case["id"]))[-1]
    assert (sent.status_code, last["type"], last["data"]["accepted"]) == (303, "offer_answered", accepted)
    after = await service.ana.read(case["id"])
    assert (after["state"], after["waiting"], after["remedies"][0]["accepted"]) == (
        "adjustment_offered",
        False,
        accepted,
    )
    receipt = await read(service, sent.headers["location"])
    assert f"We have recorded that you {answer} our offer." in receipt
    assert "The offer Three more weeks in another audience What you wrote Not before May." in receipt
    page = await read(service, path)
    assert f"You {answer}{'ed' if accepted else 'd'} our offer. Not before May." in page
    messages = done(await service.ana.get(f"/v1/cases/{case['id']}/messages"))
    assert (messages[-1]["text"], messages[-1]["accepts"]) == ("Not before May.", accepted)


async def test_only_the_offer_that_was_read_is_answered(service: Service) -> None:
    case, _ = await offered(service)
    path = await linked(service, case["id"])
    form = fields_in(await get(service, f"{path}/accept"))
    await fire(service, case, "resume", reason_code="insufficient")
    await fire(service, case, "offer_adjustment", **(OFFER | {"description": "Something dearer"}))

    answer = await service.client.post(f"{HOME}{path}/accept", headers=OURS, data=form | {"text": "Gladly!"})

    assert answer.status_code == 409
    assert "This offer can no longer be answered here" in plain(answer)
    assert "Something dearer" in answer.text
    assert "Gladly!" in answer.text
    assert (await service.ana.read(case["id"]))["remedies"][-1]["accepted"] is None


async def test_an_offer_is_answered_once_and_in_time(service: Service) -> None:
    case, _ = await offered(service)
    path = await linked(service, case["id"])
    form = fields_in(await get(service, f"{path}/decline"))
    assert (await send(service, f"{path}/accept")).status_code == 303

    again = await service.client.post(f"{HOME}{path}/decline", headers=OURS, data=form)
    assert again.status_code == 409
    assert (await get(service, f"{path}/accept")).status_code == 409

    other, _ = await offered(service)
    late = await linked(service, other["id"])
    form = fields_in(await get(service, f"{late}/accept"))
    service.clock.advance(days=8)
    answer = await service.client.post(f"{HOME}{late}/accept", headers=OURS, data=form)
    assert answer.status_code == 409
    assert (await service.ana.read(other["id"]))["remedies"][0]["accepted"] is None


@pytest.mark.parametrize("changes", [{"offer": ""}, {"offer": "1"}, {"offer": "x"}, {"offer": "9" * 30}])
async def test_what_was_never_offered_is_not_accepted(service: Service, changes: dict[str, Any]) -> None:
    case, _ = await offered(service)

    answer = await send(service, f"{await linked(service, case['id'])}/accept", **changes)

    assert answer.status_code in {404, 409}
    assert (await service.ana.read(case["id"]))["remedies"][0]["accepted"] is None


# How often, and until when.


async def test_a_link_sends_so_much_at_once_and_then_waits(service: Service) -> None:
    case = await service.ana.open()
    path = await linked(service, case["id"])
    for number in range(20):
        assert (await send(service, path, text=f"Message {number}")).status_code == 303

    answer = await send(service, path, text="Once more")

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "30"
    assert "Once more</textarea>" in answer.text
    assert "in 30 seconds" in plain(answer)
    service.clock.advance(seconds=30)
    assert (await send(service, path, text="Once more")).status_code == 303


async def test_many_wrong_secrets_are_slowed_down_and_nobody_else_is(service: Service) -> None:
    case = await service.ana.open()
    path = await linked(service, case["id"])
    statuses = [(await get(service, path_of(f"guess-{number}"))).status_code for number in range(62)]

    assert statuses == [404] * 60 + [429] * 2
    answer = await get(service, path_of("guess"))
    assert (answer.headers["retry-after"], "set-cookie" in answer.headers) == ("10", False)
    assert "Too many tries" in answer.text
    assert (await get(service, path)).status_code == 200
    service.clock.advance(seconds=10)
    assert (await get(service, path_of("guess"))).status_code == 404


async def test_a_page_is_not_asked_for_without_end(service: Service) -> None:
    case = await service.ana.open()
    path = await linked(service, case["id"])
    (link,) = (await service.ana.read(case["id"]))["client_links"]
    for _ in range(600):
        service.desk.client_limits.reads_by.count(link["id"], service.clock())

    assert (await get(service, path)).status_code == 429
    for _ in range(1200):
        service.desk.client_limits.reads_from.count("127.0.0.1", service.clock())
    assert (await get(service, await linked(service, case["id"]))).status_code == 429


async def test_a_link_that_ends_while_they_write_takes_nothing_more(service: Service) -> None:
    case, _ = await offered(service)
    path = await linked(service, case["id"])
    forms = {at: fields_in(await get(service, at)) for at in (path, f"{path}/accept")}
    (link,) = (await service.ana.read(case["id"]))["client_links"]
    await service.ana.add(case["id"], f"client-links/{link['id']}/revocation", reason="lost")

    for at, form in forms.items():
        answer = await service.client.post(f"{HOME}{at}", headers=OURS, data=form | {"text": "Too late"})
        assert answer.status_code == 404
    assert await said_by_client(service, case["id"]) == []


async def test_a_message_and_a_revocation_at_the_same_moment_agree_on_which_came_first(service: Service) -> None:
    outcomes = set()
    for number in range(8):
        case = await service.ana.open()
        path = await linked(service, case["id"])
        form = fields_in(await get(service, path)) | {"text": "In time?"}
        (link,) = (await service.ana.read(case["id"]))["client_links"]

        async def revoke(pause: int, case_id: str, link_id: str) -> None:
            for _ in range(pause):
                await asyncio.sleep(0)
            command = c.RevokeClientLink(link_id=link_id)
            await service.as_system("operator", command, case_id)

        post = service.client.post(f"{HOME}{path}", headers=OURS, data=form)
        both = [post, revoke(number // 2, case["id"], link["id"])]
        answers = await asyncio.gather(*(both if number % 2 else reversed(both)))
        answer = answers[0 if number % 2 else 1]
        types = [one["type"] for one in await history(service, case["id"])]
        came_first = types[-2:] == ["message_received", "client_link_revoked"]
        assert (answer.status_code, "message_received" in types) in {(303, True), (404, False)}
        assert came_first == ("message_received" in types)
        outcomes.add(answer.status_code)
    assert outcomes == {303, 404}


# In a browser.


async def at_all_sizes(page: Page, name: str) -> None:
    for size in (DESKTOP, PHONE, NARROW):
        await page.set_viewport_size({"width": size["width"], "height": size["height"]})
        await require_tidy(page)
        await picture(page, f"{name}-{size['width']}")
    await require_accessible(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_client_declines_without_javascript_and_keeps_a_receipt(site: Site, scheme: str) -> None:
    case, _ = await offered(site.service)
    path = await linked(site.service, case["id"])
    page = await site.visit(java_script_enabled=False, color_scheme=scheme)
    await page.goto(path)
    await page.get_by_role("link", name="Decline the offer").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Decline this offer?")
    await page.get_by_role("link", name="No, go back").click()
    await page.get_by_role("link", name="Accept the offer").click()
    await page.get_by_label("Is there anything you want to add?").fill("Not before May.")
    await page.get_by_role("button", name="Yes, accept the offer").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("Receipt")
    await expect(page.locator("main")).to_contain_text("Not before May.")
    await page.get_by_role("link", name="Back to your case").click()
    await expect(page.locator(".where")).to_contain_text("You accepted our offer")
    assert await said_by_client(site.service, case["id"]) == ["Not before May."]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_of_the_client_is_tidy_and_can_be_read_by_everybody(site: Site, scheme: str) -> None:
    case, _ = await offered(site.service)
    await ask(site.service, case)
    path = await linked(site.service, case["id"])
    receipt = (await send(site.service, path, text="\n".join(HOSTILE))).headers["location"]
    site.allow("404")
    page = await site.visit(color_scheme=scheme)
    for at, name in (
        (path, "client"),
        (f"{path}/accept", "client-offer"),
        (receipt, "client-receipt"),
        ("/c/nothing", "client-nothing"),
    ):
        await page.goto(at)
        await at_all_sizes(page, f"{name}-{scheme}")
        assert await page.locator("h1").count() == 1


async def test_whatever_people_write_is_shown_as_they_wrote_it(site: Site) -> None:
    for number, text in enumerate(HOSTILE):
        case = await site.service.ana.investigate(
            subject=text, message=text, purchase=a_purchase(f"D-{number}"), client={"name": text, "email": "a@b.c"}
        )
        await fire(site.service, case, "offer_adjustment", description=text, answer_by="2026-03-12")
        await site.service.ana.add(case["id"], "messages", text=text * 300, direction="outbound")
        path = await linked(site.service, case["id"])
        page = await site.visit(viewport=PHONE)
        await page.goto(path)

        await expect(page.locator(".subject")).to_have_text(text)
        await expect(page.locator("blockquote")).to_have_text(text)
        assert await page.locator(".said .text").first.inner_text() == text
        await require_tidy(page)


async def test_the_page_is_worked_by_keyboard_alone(site: Site) -> None:
    case, _ = await offered(site.service)
    page = await site.visit()
    await page.goto(await linked(site.service, case["id"]))
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Accept the offer")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.get_by_label("Is there anything you want to add?").focus()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("heading", level=1)).to_have_text("Receipt")


async def test_what_can_be_pressed_is_large_enough(site: Site) -> None:
    case, _ = await offered(site.service)
    page = await site.visit(viewport=PHONE)
    await page.goto(await linked(site.service, case["id"]))

    for one in await page.locator("button, .button, textarea").all():
        box = await one.bounding_box()
        assert box is not None
        assert box["height"] >= 44


async def test_on_paper_there_is_what_was_recorded_and_no_form(site: Site) -> None:
    case, _ = await investigated(site.service)
    path = await linked(site.service, case["id"])
    receipt = (await send(site.service, path, text="The red one.")).headers["location"]
    page = await site.visit()
    await page.emulate_media(media="print")
    await page.goto(path)

    await expect(page.get_by_text("We are looking into your case")).to_be_visible()
    await expect(page.get_by_text("The red one.")).to_be_visible()
    await expect(page.locator("form")).not_to_be_visible()
    await page.goto(receipt)
    await expect(page.get_by_text("Fingerprint", exact=True)).to_be_visible()
    await expect(page.get_by_role("link", name="Back to your case")).not_to_be_visible()


async def test_the_page_bears_the_agencys_name(desk_url: str, clock: Clock) -> None:
    name = "Ögonblick & Söner <b>"
    async with running(desk_url, clock, organisation=name, support_address="help@agency.example") as service:
        case = await service.ana.open()
        await reply(service, case)
        answer = await get(service, await linked(service, case["id"]))

        assert "Ögonblick &amp; Söner &lt;b&gt;" in answer.text
        assert plain(answer).count(name) == 2
        assert "Casework" not in answer.text
        assert "mailto:help@agency.example" in (await get(service, "/c/nothing")).text


# The desk's side.


async def test_an_agent_makes_a_link_sees_it_once_and_revokes_it(site: Site) -> None:
    case = await site.service.ana.investigate()
    page = await site.visit("ana", java_script_enabled=False)
    await page.goto(f"/cases/{case['number']}")
    await page.get_by_label("Good for").select_option("7")
    await page.get_by_role("button", name="Make a link for the client").click()
    address = await page.locator("input.address").input_value()
    assert address.startswith(f"{site.url}/c/")
    await page.get_by_role("link", name=case["number"], exact=True).click()
    (link,) = (await site.service.ana.read(case["id"]))["client_links"]
    assert link["expires_at"] == day(7).replace("+00:00", "Z")
    await expect(page.locator("#client-links")).to_contain_text(f"{link['id']}, good until 12 Mar 2026")
    assert address not in await page.content()

    client = await site.visit()
    await client.goto(address)
    await client.get_by_label("Your message").fill("Hello from the page")
    await client.get_by_role("button", name="Send message").click()
    await page.reload()
    await expect(page.locator("#messages")).to_contain_text("on their page")
    await expect(page.locator("#messages")).to_contain_text("Hello from the page")
    await expect(page.locator("#history")).to_contain_text("wrote on their page")

    await page.get_by_role("button", name=f"Revoke link {link['id']}").click()
    await page.wait_for_url("**#client-links")
    await expect(page.locator("#client-links")).to_contain_text("No link.")
    site.allow("404")
    await client.goto(address)
    await expect(client.get_by_role("heading", level=1)).to_have_text("This link does not lead anywhere")


async def test_the_case_page_tells_what_the_client_answered(service: Service) -> None:
    case, _ = await offered(service)
    await send(service, f"{await linked(service, case['id'])}/accept")

    page = await read_as(service, "ana", f"/cases/{case['number']}")

    assert "Accepts the offer." in page
    assert "accepted by the client" in page
    assert "accepted the offer" in page
    assert "erased" not in page.replace("nothing may be erased", "")


async def as_staff(service: Service, name: str) -> dict[str, str]:
    return {"cookie": f"casework={await sign_in(service, name)}", **OURS}


async def read_as(service: Service, name: str, path: str) -> str:
    answer = await service.client.get(f"{HOME}{path}", headers=await as_staff(service, name))
    assert answer.status_code == 200, answer.text
    return plain(answer)


@pytest.mark.parametrize(
    ("name", "reads", "makes"),
    [
        ("ana", 200, 200),
        ("lou", 200, 200),
        ("cleo", 200, 403),
        ("audrey", 200, 403),
        ("adam", 403, 403),
        (None, 303, 303),
    ],
)
async def test_links_are_made_by_whoever_works_cases(
    service: Service, name: str | None, reads: int, makes: int
) -> None:
    case = await service.ana.investigate()
    await linked(service, case["id"])
    (link,) = (await service.ana.read(case["id"]))["client_links"]
    headers = await as_staff(service, name) if name else dict(OURS)
    at = f"{HOME}/cases/{case['number']}/client-links"

    page = await service.client.get(at, headers=headers)
    assert page.status_code == reads
    assert (link["id"] in page.text) == (reads == 200)
    assert ("Make a link" in page.text) == (makes == 200)
    home = await service.client.get(f"{HOME}/queue", headers=headers)
    csrf = fields_in(page).get("csrf") or fields_in(home).get("csrf", "")
    form = {"csrf": csrf, "key": "k" * 32, "days": "30"}
    made = await service.client.post(at, headers=headers, data=form)
    assert made.status_code == makes
    ended = await service.client.post(f"{at}/{link['id']}/revoke", headers=headers, data=form)
    assert ended.status_code == (303 if makes in {200, 303} else makes)
    left = [one["id"] for one in (await service.ana.read(case["id"]))["client_links"]]
    assert (link["id"] in left) == (makes != 200)
    assert len(left) == 1


async def test_the_form_for_a_link_sent_twice_makes_one_and_shows_it_again(service: Service) -> None:
    case = await service.ana.open()
    headers, at = await as_staff(service, "ana"), f"{HOME}/cases/{case['id']}/client-links"
    form = fields_in(await service.client.get(at, headers=headers)) | {"days": "90"}

    one, other = [(await service.client.post(at, headers=headers, data=form)).text for _ in range(2)]

    (first,), (second,) = (re.findall(rf"{HOME}/c/[\w-]+", text) for text in (one, other))
    assert first == second
    assert (await get(service, first.removeprefix(HOME))).status_code == 200
    assert len((await service.ana.read(case["id"]))["client_links"]) == 1


@pytest.mark.parametrize("days", ["", "0", "8", "-1", "9999999999", "<b>", "1e3"])
async def test_a_link_is_good_for_as_long_as_can_be_chosen(service: Service, days: str) -> None:
    case = await service.ana.open()
    headers, at = await as_staff(service, "ana"), f"{HOME}/cases/{case['number']}/client-links"
    form = fields_in(await service.client.get(at, headers=headers)) | {"days": days}

    answer = await service.client.post(at, headers=headers, data=form)

    assert answer.status_code == 422
    assert "days has to be one of 7, 30, 90, 180, 366" in plain(answer)
    assert (await service.ana.read(case["id"]))["client_links"] == []


async def test_too_many_links_are_refused_with_the_reason(site: Site) -> None:
    case = await site.service.ana.open()
    for _ in range(20):
        await linked(site.service, case["id"])
    site.allow("409")
    page = await site.visit("ana")
    await page.goto(f"/cases/{case['number']}/client-links")
    await page.get_by_role("button", name="Make a link for the client").click()

    await expect(page.get_by_role("alert")).to_have_text("the case has 20 links already; revoke one first")
    await at_all_sizes(page, "client-links")


async def test_of_a_case_that_is_not_there_there_are_no_links(service: Service) -> None:
    headers = await as_staff(service, "ana")
    csrf = fields_in(await service.client.get(f"{HOME}/queue", headers=headers))["csrf"]
    for number in ("C-99", "nothing", "%00", "<b>"):
        at = f"{HOME}/cases/{number}/client-links"
        assert (await service.client.get(at, headers=headers)).status_code == 404
        assert (await service.client.post(at, headers=headers, data={"csrf": csrf})).status_code == 404


async def test_an_auditor_who_looks_at_the_links_is_recorded(service: Service) -> None:
    case = await service.ana.open()
    await read_as(service, "audrey", f"/cases/{case['number']}/client-links")

    (looked, *_) = done(await service.audrey.get("/v1/reads"))["items"]
    assert case["id"] in str(looked)
    assert "client links" in str(looked)
