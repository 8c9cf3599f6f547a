"""Findings over HTTP: attached to an event of a case, answered by others, closed; the case goes its own way."""

from typing import Any

import pytest

from tests.api.driving import Clock, Json, Service, done, reasons, refused, wrong_fields

FINDINGS = "/v1/findings"


async def event_of(service: Service, case_id: str, seq: int) -> Json:
    events: list[Json] = done(await service.ana.get(f"/v1/cases/{case_id}/events"))["items"]
    return events[seq - 1]


async def found(service: Service, case_id: str, seq: int = 1, **changes: Any) -> Json:
    about = {"seq": seq, "hash": (await event_of(service, case_id, seq))["hash"]}
    said = {"severity": "major", "text": "who saw the statement?"}
    finding: Json = done(await service.audrey.post(f"/v1/cases/{case_id}/findings", about | said | changes), 201)
    return finding


def path_of(finding: Json) -> str:
    return f"/v1/cases/{finding['case']}/findings/{finding['id']}"


async def listed(service: Service, **query: Any) -> list[str]:
    return [one["id"] for one in done(await service.ana.get(FINDINGS, **query))["items"]]


async def test_a_finding_is_about_one_event_and_comes_back_as_it_was_told(service: Service) -> None:
    case = await service.ana.investigate()
    event = await event_of(service, case["id"], 2)

    finding = await found(service, case["id"], 2)

    assert finding["about"] == f"case:{case['id']}/2/{event['hash']}"
    assert (finding["severity"], finding["open"], finding["text"]) == ("major", True, "who saw the statement?")
    assert (finding["opened_by"], finding["answers"], finding["closed_by"]) == ("person:audrey", [], None)
    assert done(await service.ana.get(path_of(finding))) == finding


async def test_it_is_answered_and_closed(service: Service, clock: Clock) -> None:
    case = await service.ana.open()
    finding = await found(service, case["id"])
    clock.advance(hours=1)

    done(await service.ana.post(f"{path_of(finding)}/answers", {"text": "Bo did"}), 201)
    answered = done(await service.lou.post(f"{path_of(finding)}/answers", {"text": "it is attached now"}), 201)
    closed = done(await service.audrey.post(f"{path_of(finding)}/closing", {"text": "seen"}), 201)

    assert [(one["by"], one["text"]) for one in answered["answers"]] == [
        ("person:ana", "Bo did"),
        ("person:lou", "it is attached now"),
    ]
    assert (closed["open"], closed["closed_by"], closed["conclusion"]) == (False, "person:audrey", "seen")
    assert closed["receipt"].startswith(f"finding:{case['id']}:{finding['id']}/4/")
    for way, person in (("answers", service.ana), ("closing", service.audrey)):
        assert reasons(await person.post(f"{path_of(finding)}/{way}", {"text": "one more"})) == ["finding_is_open"]


async def test_the_case_is_not_touched_and_its_work_goes_on(service: Service) -> None:
    case = await service.ana.investigate()

    finding = await found(service, case["id"])
    await service.ana.post(f"{path_of(finding)}/answers", {"text": "so it was"})

    assert (await service.ana.read(case["id"]))["version"] == case["version"]
    moved = await service.ana.post(
        f"/v1/cases/{case['id']}/grounds",
        {"kind": "billing_error", "affected": {"amount": "9.00", "currency": "EUR"}, "statement": "twice"},
        if_match=f'"{case["version"]}"',
    )
    assert moved.status_code != 412


async def test_findings_are_listed_by_case_and_by_status_newest_first(service: Service) -> None:
    cases = [await service.ana.open() for _ in range(2)]
    first, second = await found(service, cases[0]["id"]), await found(service, cases[1]["id"])
    third = await found(service, cases[0]["id"])
    done(await service.audrey.post(f"{path_of(first)}/closing", {"text": "a slip of mine"}), 201)

    assert await listed(service) == [third["id"], second["id"], first["id"]]
    assert await listed(service, case=cases[0]["id"]) == [third["id"], first["id"]]
    assert await listed(service, case=cases[1]["number"]) == [second["id"]]
    assert await listed(service, status="open") == [third["id"], second["id"]]
    assert await listed(service, status="closed", case=cases[0]["id"]) == [first["id"]]
    page = done(await service.ana.get(FINDINGS, limit=2))
    assert await listed(service, limit=2, cursor=page["next"]) == [first["id"]]


async def test_auditors_open_and_close_others_answer_and_admins_have_no_part_in_it(service: Service) -> None:
    case = await service.ana.open()
    finding = await found(service, case["id"])
    about = {"seq": 1, "hash": "0" * 64, "severity": "minor", "text": "!"}

    for person in (service.ana, service.lou, service.cleo, service.adam):
        refused(await person.post(f"/v1/cases/{case['id']}/findings", about), 403, "forbidden")
        refused(await person.post(f"{path_of(finding)}/closing", {"text": "!"}), 403, "forbidden")
    for person in (service.audrey, service.adam):
        refused(await person.post(f"{path_of(finding)}/answers", {"text": "!"}), 403, "forbidden")
    refused(await service.adam.get(FINDINGS), 403, "forbidden")


async def test_nobody_answers_their_own_finding_or_closes_what_they_answered(service: Service) -> None:
    done(await service.adam.put("/v1/people/lou/roles", {"roles": ["lead", "auditor"]}))
    case = await service.ana.open()
    hers = await found(service, case["id"])
    about = {"seq": 1, "hash": hers["about"].rpartition("/")[2], "severity": "minor", "text": "?"}
    own = done(await service.lou.post(f"/v1/cases/{case['id']}/findings", about), 201)

    assert reasons(await service.lou.post(f"{path_of(own)}/answers", {"text": "!"})) == ["answered_by_another_person"]
    done(await service.lou.post(f"{path_of(hers)}/answers", {"text": "since it was late"}), 201)
    assert reasons(await service.lou.post(f"{path_of(hers)}/closing", {"text": "!"})) == ["closed_by_another_person"]
    refusals = done(await service.audrey.get("/v1/refusals"))["items"]
    assert [(one["command"], one["case"]) for one in refusals] == [
        ("CloseFinding", case["id"]),
        ("AnswerFinding", case["id"]),
    ]


async def test_what_is_not_there_has_no_finding(service: Service) -> None:
    case, other = await service.ana.open(), await service.ana.open()
    event, finding = await event_of(service, case["id"], 1), await found(service, other["id"])
    about = {"seq": 1, "hash": event["hash"], "severity": "minor", "text": "?"}
    path = f"/v1/cases/{case['id']}/findings"

    refused(await service.audrey.post("/v1/cases/unknown/findings", about), 404, "not_found")
    for wrong in ({"seq": 2}, {"hash": "0" * 64}):
        assert wrong_fields(await service.audrey.post(path, about | wrong)) == ["hash"]
    for wrong in ({"seq": 0}, {"severity": "fatal"}, {"text": " "}):
        assert wrong_fields(await service.audrey.post(path, about | wrong)) == [*wrong]
    for person, way in ((service.ana, "answers"), (service.audrey, "closing"), (service.adam, "answers")):
        refused(await person.post(f"{path}/{finding['id']}/{way}", {"text": "!"}), 404, "not_found")
    refused(await service.ana.get(f"{path}/{finding['id']}"), 404, "not_found")
    assert wrong_fields(await service.ana.get(FINDINGS, case="C-9999")) == ["case"]


@pytest.mark.parametrize("way", ["findings", "answers", "closing"])
async def test_the_same_request_again_does_it_once(way: str, service: Service) -> None:
    case = await service.ana.open()
    finding = await found(service, case["id"])
    about = {"seq": 1, "hash": finding["about"].rpartition("/")[2], "severity": "minor", "text": "?"}
    person, path, body = {
        "findings": (service.audrey, f"/v1/cases/{case['id']}/findings", about),
        "answers": (service.ana, f"{path_of(finding)}/answers", {"text": "so it was"}),
        "closing": (service.audrey, f"{path_of(finding)}/closing", {"text": "seen"}),
    }[way]
    first = await person.post(path, body, key="once")
    if way == "answers":
        await service.bo.post(path, {"text": "and I saw it"})

    second = await person.post(path, body, key="once")

    assert done(second, 201) == done(first, 201)
    assert second.headers["audit-receipt"] == first.headers["audit-receipt"]
    assert len(await listed(service)) == (2 if way == "findings" else 1)


async def test_what_was_said_goes_with_the_client_s_data(service: Service) -> None:
    case = await service.ana.open()
    finding = await found(service, case["id"], text="Una called twice")
    done(await service.ana.post(f"{path_of(finding)}/answers", {"text": "Una wrote, too"}), 201)
    asking = {"client": "una@example.com", "legal_basis": "GDPR Art. 17(1)(a)", "reason": "asked", "override": True}

    done(await service.adam.post("/v1/erasures", asking), 201)

    told = done(await service.ana.get(path_of(finding)))
    assert (told["text"], told["answers"][0]["text"], told["severity"]) == ("erased", "erased", "major")
    (erasure,) = done(await service.audrey.get("/v1/erasures"))["items"]
    assert erasure["fields"]["finding.text"] == "1-2"
    later = await found(service, case["id"], text="was it erased in time?")
    assert done(await service.ana.get(path_of(later)))["text"] == "was it erased in time?"
