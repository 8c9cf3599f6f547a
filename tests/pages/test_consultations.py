"""Consultations as people see them: the client picks a time, the desk moves it, and a calendar program shows it."""

import asyncio
import re
from typing import Any

import pytest
from httpx2 import Response
from icalendar import Calendar

from tests.api.driving import Json, Service, day, done, token_of
from tests.pages.browsing import DESKTOP, PHONE, Site, picture, require_accessible, require_tidy
from tests.pages.test_client import HOME, OURS, fields_in, get, history, linked, plain, read, send
from tests.pages.visiting import Visitor
from workflow.people import DisablePerson

FIRST, SECOND = "20260308T1200Z", "20260309T1200Z"
SLOTS: Json = {"slots": [day(3), day(4)], "minutes": 30, "channel": "by phone"}


async def proposed(service: Service, **changes: Any) -> tuple[Json, str]:
    """A case with two slots of Ana's, and the path of the client's page."""
    case = await service.ana.investigate()
    await service.ana.add(case["id"], "slots", **SLOTS | changes)
    return case, await linked(service, case["id"])


async def booked(service: Service, starts_at: str = day(3), **changes: Any) -> Json:
    case = await service.ana.investigate()
    data: Json = {"starts_at": starts_at, "minutes": 30, "channel": "by phone"} | changes
    done(await service.ana.fire(case["id"], "schedule_consultation", **data))
    return case


# The client's page.


async def test_the_client_picks_a_time_in_two_steps_and_gets_a_receipt(service: Service) -> None:
    case, path = await proposed(service, text="Which would suit you?")
    page = await read(service, path)
    assert "We have proposed times for a consultation, and wait for you to pick one." in page
    assert "Please pick a time for a consultation of 30 minutes, by phone: Which would suit you?" in page
    assert "8 March 2026, 12:00 (UTC) Pick this time 9 March 2026, 12:00 (UTC) Pick this time" in page
    assert "When 9 March 2026, 12:00 (UTC) How long 30 minutes How by phone" in await read(
        service, f"{path}/slots/{SECOND}"
    )

    sent = await send(service, f"{path}/slots/{SECOND}")

    assert sent.status_code == 303
    receipt = await read(service, sent.headers["location"])
    assert "We have booked the time that you picked." in receipt
    assert "Consultation 9 March 2026, 12:00 (UTC), 30 minutes, by phone" in receipt
    last = (await history(service, case["id"]))[-1]
    assert (last["type"], last["actor"].partition(":")[0], last["via"]) == ("consultation_scheduled", "client", "page")
    after = await service.ana.read(case["id"])
    assert (after["state"], after["waiting"], after["remedies"][-1]["host"]) == ("consultation_scheduled", False, "ana")
    page = await read(service, path)
    assert "A consultation is booked for 9 March 2026, 12:00 (UTC): 30 minutes, by phone." in page
    assert "Pick this time" not in page


async def test_whoever_picks_twice_gets_the_same_receipt(service: Service) -> None:
    _, path = await proposed(service)
    form = fields_in(await get(service, f"{path}/slots/{FIRST}"))
    other = fields_in(await get(service, f"{path}/slots/{FIRST}"))
    assert form["key"] != other["key"]

    answers = [await post(service, f"{path}/slots/{FIRST}", one) for one in (form, form, other)]

    assert [one.status_code for one in answers] == [303] * 3
    assert len({one.headers["location"] for one in answers}) == 1
    late = await post(service, f"{path}/slots/{SECOND}", other | {"key": "another"})
    assert (late.status_code, "This time is not to be had any more" in plain(late)) == (409, True)


async def post(service: Service, path: str, form: dict[str, str]) -> Response:
    return await service.client.post(f"{HOME}{path}", headers=OURS, data=form)


async def test_what_was_taken_meanwhile_is_shown_as_taken_and_the_rest_can_be_picked(service: Service) -> None:
    case, path = await proposed(service)
    form = fields_in(await get(service, f"{path}/slots/{FIRST}"))
    await booked(service, day(3 + 0.5 / 24))

    late = await post(service, f"{path}/slots/{FIRST}", form)
    assert late.status_code == 303  # the other one begins when this one ends

    case, path = await proposed(service)
    page = await read(service, path)
    assert "8 March 2026, 12:00 (UTC) not free any more 9 March 2026, 12:00 (UTC) Pick this time" in page
    assert (await get(service, f"{path}/slots/{FIRST}")).status_code == 409
    form = fields_in(await get(service, f"{path}/slots/{SECOND}"))
    late = await post(service, f"{path}/slots/{FIRST}", form)
    assert late.status_code == 409
    assert "somebody was faster" in plain(late)
    assert (await service.ana.read(case["id"]))["state"] == "investigating"
    assert (await post(service, f"{path}/slots/{SECOND}", form | {"key": "anew"})).status_code == 303


async def test_two_clients_who_press_at_once_do_not_share_a_time(service: Service) -> None:
    paths = [(await proposed(service))[1] for _ in range(2)]
    forms = [fields_in(await get(service, f"{path}/slots/{FIRST}")) for path in paths]

    answers = await asyncio.gather(
        *(post(service, f"{path}/slots/{FIRST}", form) for path, form in zip(paths, forms, strict=True))
    )

    assert sorted(one.status_code for one in answers) == [303, 409]


async def test_only_what_was_read_is_picked(service: Service) -> None:
    case, path = await proposed(service)
    form = fields_in(await get(service, f"{path}/slots/{FIRST}"))
    await service.ana.add(case["id"], "slots", **SLOTS | {"minutes": 60})

    late = await post(service, f"{path}/slots/{FIRST}", form)

    assert late.status_code == 409
    assert "a consultation of 60 minutes" in plain(late)


async def test_times_pass(service: Service) -> None:
    case, path = await proposed(service)
    form = fields_in(await get(service, f"{path}/slots/{FIRST}"))
    service.clock.advance(days=3)
    assert (await post(service, f"{path}/slots/{FIRST}", form)).status_code == 409
    service.clock.advance(days=1)

    assert "none of them is free any more. Write to us below" in await read(service, path)
    assert (await service.ana.read(case["id"]))["state"] == "investigating"


@pytest.mark.parametrize(
    "slot", ["x", "20260308T1200", "20269999T1200Z", "\N{ARABIC-INDIC DIGIT TWO}0260308T1200Z", "0", "%00"]
)
async def test_what_is_no_time_is_no_page(service: Service, slot: str) -> None:
    _, path = await proposed(service)

    assert (await get(service, f"{path}/slots/{slot}")).status_code == 404
    assert (await post(service, f"{path}/slots/{slot}", fields_in(await get(service, path)))).status_code == 404


async def test_a_time_that_was_not_proposed_and_a_form_from_elsewhere_book_nothing(service: Service) -> None:
    case, path = await proposed(service)
    form = fields_in(await get(service, f"{path}/slots/{FIRST}"))

    assert (await post(service, f"{path}/slots/20260308T1230Z", form)).status_code == 409
    assert (await post(service, f"{path}/slots/{FIRST}", form | {"csrf": "0"})).status_code == 403
    assert (await post(service, f"{path}/slots/{FIRST}", form | {"offer": "9" * 30})).status_code == 404
    assert (await service.ana.read(case["id"]))["state"] == "investigating"


@pytest.mark.parametrize(
    ("attended", "said"), [(True, "Our consultation took place on"), (False, "did not take place")]
)
async def test_the_client_reads_whether_it_took_place(service: Service, attended: bool, said: str) -> None:
    case = await booked(service)
    service.clock.advance(days=3)
    await service.ana.add(case["id"], "attendance", attended=attended)

    assert said in await read(service, await linked(service, case["id"]))


# The case page.


async def test_the_desk_proposes_moves_and_records_who_came_by_forms(service: Service) -> None:
    case, ana = await service.ana.investigate(), Visitor(service, "ana")
    page = f"/cases/{case['number']}"
    version = case["version"]

    slots = {"slots": ["2026-03-09T09:30", "", "2026-03-08T10:00"], "minutes": "30", "channel": "by phone", "text": ""}
    assert (await ana.send(f"{page}/propose-slots", {"version": version, **slots})).status_code == 303
    shown = without_isolates(await ana.get(page))
    assert "Times proposed for a consultation of 30 minutes, by phone , with Ana" in shown
    assert "Ana proposed 2 times for 30 minutes with Ana" in shown
    assert "Move the consultation" not in shown
    await service.ana.read(case["id"])
    booking: Json = {"minutes": 30, "channel": "by phone", "starts_at": "2026-03-05T14:00:00Z"}
    done(await service.ana.fire(case["id"], "schedule_consultation", **booking))
    assert "The consultation begins only at 2026-03-05 14:00 UTC" in plain(await ana.get(page))

    move = {"starts_at": "2026-03-05T16:00", "minutes": "45", "channel": "by video", "reason": "Una is late"}
    assert (await ana.send(f"{page}/move-consultation", {"version": version + 2, **move})).status_code == 303
    service.clock.advance(hours=5)
    came = {"version": version + 3, "attended": "no", "text": "Rang twice"}
    assert (await ana.send(f"{page}/attendance", came)).status_code == 303

    shown = without_isolates(await ana.get(page))
    assert "the client did not come" in shown
    assert "Ana recorded that the client did not come: Rang twice" in shown
    assert "Ana moved the consultation to 5 Mar 2026, 16:00 UTC" in shown


def without_isolates(response: Response) -> str:
    return re.sub("[\u2068\u2069]", "", plain(response))


async def test_a_form_of_times_comes_back_with_all_that_was_typed(service: Service) -> None:
    case, ana = await service.ana.investigate(), Visitor(service, "ana")
    slots = {"slots": ["2026-03-09T09:30", "2026-03-01T10:00"], "minutes": "0", "channel": "by phone", "text": ""}

    answer = await ana.send(f"/cases/{case['number']}/propose-slots", {"version": case["version"], **slots})

    assert answer.status_code == 422
    returned = answer.text[answer.text.index('id="returned"') :]
    assert re.findall(r'name="slots"[^>]* value="([^"]+)"', returned) == slots["slots"]


async def test_forms_and_pages_of_a_consultation_look_as_they_should(site: Site) -> None:
    service = site.service
    case, path = await proposed(service, text="Which would suit you?")
    await booked(service)  # of which Ana's first slot is taken
    for size in (DESKTOP, PHONE):
        page = await site.visit("ana", viewport=size)
        await page.goto(f"/cases/{case['number']}")
        await page.locator("#propose-slots > summary").click()
        await require_tidy(page)
        await require_accessible(page)
        await picture(page, f"consultation-propose-{size['width']}")
        for name, address in (("slots", path), ("slot", f"{path}/slots/{SECOND}")):
            client = await site.visit(viewport=size)
            await client.goto(address)
            await require_tidy(client)
            await require_accessible(client)
            await picture(client, f"consultation-client-{name}-{size['width']}")


# A calendar to subscribe to.


async def subscribed(service: Service, name: str = "ana") -> str:
    """The path of a calendar that somebody has made on their account page."""
    visitor = Visitor(service, name)
    answer = await visitor.send("/account/calendars", {"key": "first"})
    found = re.search(r'value="http://127.0.0.1(/calendar/[^"]+)"', answer.text)
    assert found, answer.text
    again = await visitor.send("/account/calendars", {"key": "first"})
    assert found[1] in again.text  # the form sent twice made one
    assert found[1] not in (await visitor.get("/account")).text
    return found[1]


def events_in(response: Response) -> list[Any]:
    assert (response.status_code, response.headers["content-type"]) == (200, "text/calendar; charset=utf-8")
    calendar: Any = Calendar.from_ical(response.content)
    assert calendar["METHOD"] == "PUBLISH"
    return list(calendar.walk("VEVENT"))


async def test_a_calendar_holds_ones_own_consultations_and_follows_them(service: Service) -> None:
    path = await subscribed(service)
    assert events_in(await get(service, path)) == []
    case = await booked(service)
    bos = await service.bo.investigate()
    done(await service.bo.fire(bos["id"], "schedule_consultation", starts_at=day(3), minutes=30, channel="by phone"))

    (event,) = events_in(answer := await get(service, path))
    assert (event["SUMMARY"], event.start.isoformat()) == (f"{case['number']}: by phone", "2026-03-08T12:00:00+00:00")
    assert b"una@example.com" not in answer.content
    assert (await get(service, path, **{"if-none-match": answer.headers["etag"]})).status_code == 304
    await service.ana.add(case["id"], "notes", text="nothing of this is in it")
    assert (await get(service, path, **{"if-none-match": f'"x", W/{answer.headers["etag"]}'})).status_code == 304

    moving = {"starts_at": day(5), "minutes": 30, "channel": "by video", "reason": "Una is away"}
    done(await service.ana.put(f"/v1/cases/{case['id']}/consultation", moving))
    (moved,) = events_in(await get(service, path, **{"if-none-match": answer.headers["etag"]}))
    assert (moved["UID"], moved["SEQUENCE"], moved.start.day) == (event["UID"], 1, 10)
    service.clock.advance(days=90)
    assert len(events_in(await get(service, path))) == 1
    service.clock.advance(days=6)
    assert events_in(await get(service, path)) == []


async def test_an_address_that_is_not_good_leads_nowhere(service: Service) -> None:
    path, session = await subscribed(service), (await Visitor(service, "ana").headers())["cookie"].partition("=")[2]
    for secret in ("x", "%00", "ü", token_of("ana"), session):
        answer = await get(service, f"/calendar/{secret}.ics")
        assert (answer.status_code, answer.text) == (404, "There is no calendar here."), secret
    assert (await service.client.get(f"http://desk.example{path}")).status_code == 403


async def test_the_address_of_a_calendar_opens_nothing_else(service: Service) -> None:
    secret = (await subscribed(service)).removeprefix("/calendar/").removesuffix(".ics")

    assert (await service.signed_in(secret).get("/v1/me")).status_code == 401
    assert (await service.signed_in(secret).post("/v1/cases", {})).status_code == 401
    page = await service.client.get(f"{HOME}/account", headers={"cookie": f"casework={secret}"})
    assert page.status_code == 303
    for address in (f"/sign-in/{secret}", f"/c/{secret}"):
        answer = await service.client.get(f"{HOME}{address}", follow_redirects=False)
        assert answer.status_code in {200, 404}
        assert "Ana" not in answer.text
    form = await service.client.post(f"{HOME}/sign-in/{secret}", headers=OURS, data={})
    assert "set-cookie" not in form.headers


async def test_a_calendar_ends_when_it_is_revoked_or_its_owner_is_disabled(service: Service) -> None:
    first = await subscribed(service)
    ana = Visitor(service, "ana")
    second = re.search(r"(/calendar/[^\"]+)", (await ana.send("/account/calendars", {"key": "second"})).text)
    assert second
    account = (await ana.get("/account")).text
    revocations = re.findall(r'action="(/account/tokens/\w+/revocation)"', account[account.index('id="calendars"') :])
    assert (await ana.send(revocations[-2], {})).status_code == 303

    assert sorted([(await get(service, path)).status_code for path in (first, second[1])]) == [200, 404]
    await service.desk.submit_as_system("operator", DisablePerson(person_id="ana"), via="cli", admin=True)
    assert [(await get(service, path)).status_code for path in (first, second[1])] == [404, 404]


async def test_nobody_has_more_calendars_than_programs(service: Service) -> None:
    ana = Visitor(service, "ana")
    for number in range(5):
        assert (await ana.send("/account/calendars", {"key": f"{number}"})).status_code == 200

    answer = await ana.send("/account/calendars", {"key": "5"})

    assert answer.status_code == 422
    assert "is one too many" in answer.text


async def test_guessing_calendars_is_slowed_down(service: Service) -> None:
    answers = [(await get(service, f"/calendar/guess-{number}.ics")).status_code for number in range(61)]

    assert (answers[:60], answers[60]) == ([404] * 60, 429)
