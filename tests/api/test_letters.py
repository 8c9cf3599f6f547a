"""Letters over HTTP: drafted from the record, edited, sent, and refused once the record says something else."""

import pytest

from tests.api.driving import (
    Json,
    Service,
    a_fresh_purchase,
    a_purchase,
    day,
    done,
    euros,
    reasons,
    refused,
    wrong_fields,
)

OUTBOUND = {"direction": "outbound"}


async def an_offer(service: Service) -> Json:
    case = await service.ana.investigate()
    data = {"description": "another audience", "answer_by": day(7)[:10]}
    moved: Json = done(await service.ana.fire(case["id"], "offer_adjustment", **data))
    return moved


async def drafts(service: Service, case_id: str, **query: str) -> Json:
    found: Json = done(await service.ana.get(f"/v1/cases/{case_id}/letters", **query))
    return found


async def test_what_was_decided_is_drafted_signed_and_sent_as_edited(service: Service) -> None:
    case = await an_offer(service)
    found = await drafts(service, case["id"], language="de")
    (draft,) = found["items"]
    assert (draft["kind"], draft["language"], draft["basis"]) == ("adjustment", "de", 3)
    assert draft["text"].endswith("Ana\nStep-Into")
    assert draft["subject"] == f"Re: The banners {case['mail_tag']}"
    assert {"code": "uk", "name": "Українська"} in found["languages"]

    letter = {name: draft[name] for name in ("kind", "basis", "language")}
    said = OUTBOUND | {"text": draft["text"] + "\nPS: Danke!", "subject": draft["subject"], "letter": letter}
    sent = await service.ana.add(case["id"], "messages", **said)

    assert (sent["letter"], sent["language"], sent["subject"]) == ("adjustment", "de", draft["subject"])
    kept = done(await service.ana.get(f"/v1/cases/{case['id']}/messages"))[-1]
    assert kept == sent
    event = done(await service.ana.get(f"/v1/cases/{case['id']}/events"))["items"][-1]
    assert {name: event["data"][name] for name in ("letter", "basis", "language")} == {
        "letter": "adjustment",
        "basis": 3,
        "language": "de",
    }


async def test_without_a_language_the_clients_own_is_taken(service: Service) -> None:
    german = "Guten Tag, ich habe die Rechnung noch nicht bekommen. Bitte senden Sie mir eine."
    case = await service.ana.investigate(message=german)

    assert (await drafts(service, case["id"]))["language"] == "de"
    assert (await drafts(service, case["id"], language="uk"))["language"] == "uk"


async def test_a_letter_is_refused_once_something_else_is_recorded(service: Service) -> None:
    case = await an_offer(service)
    (draft,) = (await drafts(service, case["id"]))["items"]
    letter = {name: draft[name] for name in ("kind", "basis", "language")}
    done(await service.ana.fire(case["id"], "resume", reason_code="declined"))
    path, said = f"/v1/cases/{case['id']}/messages", OUTBOUND | {"text": "We offer you …", "letter": letter}

    assert reasons(await service.ana.post(path, said)) == ["letter_states_what_is_recorded"]

    data = {"description": "yet another", "answer_by": day(9)[:10]}
    done(await service.ana.fire(case["id"], "offer_adjustment", **data))
    assert reasons(await service.ana.post(path, said)) == ["letter_states_what_is_recorded"]
    newer = (await drafts(service, case["id"]))["items"][0]["basis"]
    await service.ana.add(case["id"], "messages", **said | {"letter": letter | {"basis": newer}})
    attempts = done(await service.lou.get("/v1/refusals"))["items"]
    assert {one["code"] for one in attempts} == {"guard_refused"}


async def test_no_refund_rests_on_the_facts_and_falls_with_them(service: Service) -> None:
    case = await service.ana.investigate(purchase=a_purchase())
    assert (await drafts(service, case["id"]))["items"] == []  # nobody has checked the purchase
    done(await service.ana.post(f"/v1/cases/{case['id']}/purchase/checks", {"reason": "the books"}), 201)
    (draft,) = (await drafts(service, case["id"]))["items"]
    assert draft["kind"] == "no_refund"
    letter = {name: draft[name] for name in ("kind", "basis", "language")}
    said = OUTBOUND | {"text": draft["text"], "letter": letter}
    claim = {"kind": "billing_error", "affected": euros("9.00"), "statement": "twice"}

    done(await service.ana.post(f"/v1/cases/{case['id']}/notes", {"text": "rang"}), 201)  # which changes no fact
    await service.ana.add(case["id"], "messages", **said)
    done(await service.ana.post(f"/v1/cases/{case['id']}/grounds", claim), 201)

    assert reasons(await service.ana.post(f"/v1/cases/{case['id']}/messages", said)) == [
        "letter_states_what_is_recorded"
    ]


@pytest.mark.parametrize(
    ("letter", "field"),
    [
        ({"kind": "adjustment", "basis": 3, "language": "tlh"}, "letter.language"),
        ({"kind": "a_gift", "basis": 3, "language": "en"}, "letter.kind"),
        ({"kind": "adjustment", "basis": 0, "language": "en"}, "letter.basis"),
        ({"kind": "adjustment", "basis": 3}, "letter.language"),
    ],
)
async def test_a_letter_that_makes_no_sense_is_refused(service: Service, letter: Json, field: str) -> None:
    case = await an_offer(service)
    body = OUTBOUND | {"text": "Hello", "letter": letter}

    assert wrong_fields(await service.ana.post(f"/v1/cases/{case['id']}/messages", body)) == [field]


async def test_only_a_message_to_the_client_can_be_a_letter(service: Service) -> None:
    case = await an_offer(service)
    letter = {"kind": "adjustment", "basis": 3, "language": "en"}
    body = {"direction": "inbound", "text": "Hello", "letter": letter}

    assert wrong_fields(await service.ana.post(f"/v1/cases/{case['id']}/messages", body)) == ["letter"]


async def test_an_unknown_language_and_an_unknown_case_are_named(service: Service) -> None:
    case = await service.ana.open(purchase=a_fresh_purchase())

    assert wrong_fields(await service.ana.get(f"/v1/cases/{case['id']}/letters", language="tlh")) == ["language"]
    refused(await service.ana.get("/v1/cases/nothing/letters"), 404, "not_found")
    letter = {"kind": "adjustment", "basis": 3, "language": "en"}
    body = OUTBOUND | {"text": "Hello", "letter": letter}
    refused(await service.ana.post("/v1/cases/nothing/messages", body), 404, "not_found")
