"""Consultations over HTTP: slots, moves and attendance."""

from typing import Any

import pytest

from tests.api.driving import Json, Service, day, done, reasons, refused, wrong_fields

SLOTS: Json = {"slots": [day(4), day(3)], "minutes": 30, "channel": "by phone"}
MOVE: Json = {"starts_at": day(5), "minutes": 45, "channel": "by video", "reason": "Una is away"}


async def a_booked_case(service: Service) -> Json:
    case = await service.ana.investigate()
    done(await service.ana.fire(case["id"], "schedule_consultation", starts_at=day(3), minutes=30, channel="by phone"))
    return case


async def test_slots_are_proposed_and_shown_with_the_case(service: Service) -> None:
    case = await service.ana.investigate()

    proposed = await service.ana.add(case["id"], "slots", **SLOTS, text="Which suits you?")

    assert proposed == {
        "slots": ["2026-03-08T12:00:00Z", "2026-03-09T12:00:00Z"],
        "minutes": 30,
        "channel": "by phone",
        "text": "Which suits you?",
        "host": "ana",
        "at": proposed["at"],
    }
    after = await service.ana.read(case["id"])
    assert (after["slots"], after["waiting"], after["state"]) == (proposed, True, "investigating")


async def test_a_booked_consultation_is_moved_and_attended(service: Service) -> None:
    case = await a_booked_case(service)

    moved = done(await service.ana.put(f"/v1/cases/{case['id']}/consultation", MOVE))

    remedy = moved["remedies"][-1]
    assert (moved["state"], remedy["starts_at"], remedy["minutes"], remedy["channel"]) == (
        "consultation_scheduled",
        "2026-03-10T12:00:00Z",
        45,
        "by video",
    )
    assert (len(remedy["moved"]), remedy["attended"]) == (1, None)
    assert reasons(await service.ana.post(f"/v1/cases/{case['id']}/attendance", {"attended": True})) == [
        "consultation_has_begun"
    ]
    service.clock.advance(days=5)
    attended = await service.ana.add(case["id"], "attendance", attended=True, text="We agreed on two weeks more")
    assert attended["attended"] is True
    assert reasons(await service.ana.fire(case["id"], "resume", reason_code="no_show")) == ["no_show_was_not_attended"]
    last = done(await service.ana.get(f"/v1/cases/{case['id']}/events"))["items"][-1]
    assert (last["type"], last["texts"]) == ("consultation_attended", {"remark": "We agreed on two weeks more"})


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"slots": []}, ["slots"]),
        ({"slots": [day(index) for index in range(1, 22)]}, ["slots"]),
        ({"slots": [day(1), day(1)]}, ["slots"]),
        ({"slots": [day(-1)]}, ["slots"]),
        ({"slots": ["2026-03-08T12:00:30Z"]}, ["slots"]),
        ({"slots": ["tomorrow"]}, ["slots[0]"]),
        ({"slots": "2026-03-08T12:00:00Z", "minutes": "30"}, ["slots", "minutes"]),
        ({"minutes": 0, "channel": " "}, ["minutes", "channel"]),
        ({"slot_of": 1}, ["slot_of"]),
    ],
)
async def test_slots_that_make_no_sense_are_refused_by_field(
    service: Service, changes: dict[str, Any], fields: list[str]
) -> None:
    case = await service.ana.investigate()

    assert wrong_fields(await service.ana.post(f"/v1/cases/{case['id']}/slots", SLOTS | changes)) == fields
    assert (await service.ana.read(case["id"]))["slots"] is None


async def test_nobody_at_the_desk_books_in_the_clients_name(service: Service) -> None:
    case = await service.ana.investigate()
    await service.ana.add(case["id"], "slots", **SLOTS)
    data: Json = {"starts_at": day(3), "minutes": 30, "channel": "by phone", "slot_of": 3}

    answer = await service.ana.fire(case["id"], "schedule_consultation", **data)

    assert wrong_fields(answer) == ["data.slot_of"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "slots", SLOTS), ("PUT", "consultation", MOVE), ("POST", "attendance", {"attended": False})],
)
async def test_all_three_ask_which_version_was_seen_and_are_for_workers(
    service: Service, method: str, path: str, body: Json
) -> None:
    case = await a_booked_case(service)
    url = f"/v1/cases/{case['id']}/{path}"

    refused(await service.ana.send(method, url, body), 428, "precondition_required")
    refused(await service.ana.send(method, url, body, if_match='"1"'), 412, "stale_version")
    for person in (service.cleo, service.audrey, service.adam):
        refused(await person.send(method, url, body, if_match='"1"'), 403, "forbidden")
    wrong = {**body, "unknown": 1}
    assert wrong_fields(await service.ana.send(method, url, wrong, if_match='"3"')) == ["unknown"]


async def test_the_same_request_under_the_same_key_proposes_once(service: Service) -> None:
    case = await service.ana.investigate()
    url, version = f"/v1/cases/{case['id']}/slots", service.seen[case["id"]]

    first, again = [await service.ana.post(url, SLOTS, if_match=version, key="k") for _ in range(2)]

    assert (first.status_code, first.json()) == (again.status_code, again.json()) == (201, first.json())
    types = [one["type"] for one in done(await service.ana.get(f"/v1/cases/{case['id']}/events"))["items"]]
    assert types.count("slots_proposed") == 1
