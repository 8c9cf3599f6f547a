"""A request that is sent again under its key is answered again and has no second effect."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from httpx2 import Response

from tests.api.driving import (
    Clock,
    Json,
    Person,
    Service,
    a_purchase,
    an_inquiry,
    day,
    done,
    euros,
    refused,
    running,
    wrong_fields,
)
from tests.api.routes import ROUTES, SIGNED, a_furnished_case
from tests.databases import raw_sql


async def events(service: Service) -> int:
    """How many events the desk has."""
    found: int = done(await service.lou.get("/v1/events", limit=1000))["next"]
    return found


def as_told(response: Response, route: str = "") -> tuple[int, Any, dict[str, str]]:
    """An answer, but for what is its own request's. One to a finding, which changes no case, has the case's version."""
    names = ("location", "audit-receipt") if "/findings" in route else ("etag", "location", "audit-receipt")
    return response.status_code, response.json(), {name: response.headers.get(name, "") for name in names}


# A request as it can be sent more than once.
Sending = Callable[[Service], Awaitable[Response]]


class Day:
    """One request for each route that makes something, in an order in which all of them succeed."""

    def __init__(self, service: Service, parts: dict[str, str], other: str, digest: str, first: str) -> None:
        """`digest` is the proposal's, `first` the hash of the case's first event."""
        self.service = service
        self.parts = parts
        self.other = other
        self.digest = digest
        self.first = first

    async def requests(self) -> AsyncIterator[tuple[str, Sending]]:
        """Each with the name of its route; the next one when the one before has been carried out."""
        because = {"reason": "as agreed"}
        verdict = {"verdict": "approve", "digest": self.digest, **because}
        claim = {"kind": "billing_error", "affected": euros("5.00"), "statement": "twice"}
        credit = {"remedy": "compensation", "kind": "discount", "amount": euros("5.00"), **because}
        offer = {"description": "another audience", "answer_by": "2026-03-20"}
        person = {"email": "kim@step-into.example", "name": "Kim", "roles": ["agent"]}
        found = {"seq": 1, "hash": self.first, "severity": "minor", "text": "why?"}
        erasure = {"case": self.other, "legal_basis": "GDPR Art. 17(1)(a)", "override": True, **because}
        proposal, case = "/v1/cases/{case_id}/proposals/{proposal_id}", "/v1/cases/{case_id}"
        finding = f"{case}/findings/{{finding_id}}"
        plan: tuple[tuple[str, str, Json], ...] = (
            ("ana", "/v1/cases", an_inquiry(purchase=a_purchase("D-2"))),
            ("cleo", f"{proposal}/verdicts", verdict),
            ("dirk", f"{proposal}/payouts", because),
            ("dirk", f"{proposal}/payout-failures", because),
            ("cleo", f"{proposal}/payment-reversals", because),
            ("ana", f"{case}/purchase/checks", because),  # as it is already
            ("lou", f"{case}/grounds", claim),
            ("ana", f"{case}/grounds/{{ground_id}}/verifications", {"verified": False, "evidence": "none"}),
            ("ana", f"{case}/proposals", credit),
            ("ana", f"{proposal}/withdrawal", because),
            ("ana", f"{case}/notes", {"text": "called back"}),
            ("ana", f"{case}/messages", {"text": "Hello", "direction": "outbound"}),
            ("ana", f"{case}/messages/{{message_id}}/no-answer-needed", because),
            ("ana", f"{case}/links", {"kind": "related", "case": self.other}),
            ("ana", f"{case}/client-links", {}),
            ("ana", f"{case}/client-links/{{link_id}}/revocation", because),
            ("ana", f"{case}/slots", {"slots": [day(3)], "minutes": 30, "channel": "by phone"}),
            ("ana", f"{case}/attendance", {"attended": True}),
            ("ana", f"{case}/transitions", {"trigger": "offer_adjustment", "data": offer, **because}),
            ("lou", f"{case}/hold/release", because),
            ("audrey", f"{case}/findings", found),
            ("ana", f"{finding}/answers", {"text": "it was agreed on the phone"}),
            ("audrey", f"{finding}/closing", {"text": "so it was"}),
            ("audrey", "/v1/samples", {"size": 1}),
            ("adam", "/v1/erasures", erasure),
            ("lou", "/v1/deliveries/{delivery_id}/retries", because),
            ("lou", "/v1/deliveries/{delivery_id}/cancellation", because),
            ("adam", "/v1/people", person),
            ("adam", "/v1/people/{person_id}/tokens", {"expires_at": "2026-04-01T00:00:00Z"}),
            ("adam", "/v1/people/{person_id}/tokens/{token_id}/revocation", because),
            ("adam", "/v1/people/{person_id}/disabling", because),
            ("adam", "/v1/policy", {"settings": {"window_days": 14}}),
            ("adam", "/v1/webhooks", {"url": "https://9.9.9.9/", "types": ["casework.case.opened"]}),
            ("adam", "/v1/webhooks/{webhook_id}/secrets", {}),
            ("adam", "/v1/webhooks/{webhook_id}/pings", {}),
            ("adam", "/v1/webhooks/{webhook_id}/replays", {"after": 0}),
        )
        for name, path, body in plan:
            await self.lead_to(path.rpartition("/")[-1])
            yield f"POST {path}", self.sending(name, path.format(**self.parts), body)
        yield f"POST {case}/attachments", self.handing_in(f"{case}/attachments".format(**self.parts))

    async def lead_to(self, act: str) -> None:
        """What has to have happened before."""
        case_id, clock, ana = self.parts["case_id"], self.service.clock, self.service.ana
        match act:
            case "payment-reversals":
                paid = {"proposal": self.parts["proposal_id"], "payment_reference": "TR-1"}
                done(await self.service.dirk.fire(case_id, "refund", **paid))
                done(await ana.fire(case_id, "resume", reason_code="insufficient"))
            case "withdrawal":
                self.parts["proposal_id"] = (await ana.read(case_id))["proposals"][-1]["id"]
            case "attendance":
                starts_at = (clock() + timedelta(minutes=1)).isoformat()
                booked: Json = {"starts_at": starts_at, "minutes": 30, "channel": "by phone"}
                done(await ana.fire(case_id, "schedule_consultation", **booked))
                clock.advance(minutes=2)
            case "transitions":
                done(await ana.fire(case_id, "resume", reason_code="insufficient"))
            case _:
                pass

    def sending(self, name: str, path: str, body: Json) -> Sending:
        if_match = self.service.seen.get(self.parts["case_id"]) if "/v1/cases/" in path else None

        async def send(service: Service) -> Response:
            person: Person = getattr(service, name)
            return await person.send("POST", path, body, if_match=if_match, key="the same")

        return send

    def handing_in(self, path: str) -> Sending:
        async def send(service: Service) -> Response:
            form = {"file": ("letter.txt", b"Dear desk", "text/plain")}
            return await service.ana.send("POST", path, key="the same", files=form)

        return send


async def a_day(service: Service) -> Day:
    parts = await a_furnished_case(service)
    other = await service.bo.open()
    (proposal,) = (await service.lou.read(parts["case_id"]))["proposals"]
    done(await service.lou.put(f"/v1/cases/{parts['case_id']}/hold", {"reason": "the court asks"}))
    first = done(await service.lou.get(f"/v1/cases/{parts['case_id']}/events"))["items"][0]
    return Day(service, parts, other["id"], proposal["digest"], first["hash"])


async def test_the_first_answer_is_given_again_whatever_has_happened_since(
    service: Service, desk_url: str, clock: Clock
) -> None:
    day = await a_day(service)
    answered = []
    async for name, send in day.requests():
        first = await send(service)
        assert first.is_success, (name, first.text)
        answered.append((name, send, as_told(first, name)))
    done(await service.lou.fire(day.parts["case_id"], "resume", reason_code="declined"))
    await service.lou.add(day.parts["case_id"], "notes", text="and something else")
    before = await events(service)

    for name, send, told in answered:
        assert as_told(await send(service), name) == told, name
    async with running(desk_url, clock, key_folder=service.desk.settings.key_folder) as restarted:
        for name, send, told in answered:
            assert as_told(await send(restarted), name) == told, name

    assert await events(service) == before
    assert {name for name, *_ in answered} == {
        name
        for name, route in ROUTES.items()
        if name.startswith("POST") and not name.endswith("/evaluate") and route != SIGNED
    }


async def test_another_body_under_the_same_key_is_refused(service: Service) -> None:
    case = await service.ana.open()
    done(await service.ana.post(f"/v1/cases/{case['id']}/notes", {"text": "one"}, key="k"), 201)
    form = {"file": ("letter.txt", b"Dear desk", "text/plain")}
    path = f"/v1/cases/{case['id']}/attachments"
    done(await service.ana.send("POST", path, key="k", files=form), 201)
    done(await service.adam.post("/v1/policy", {"settings": {"window_days": 8}}, key="k"), 201)
    done(await service.adam.post("/v1/people/bo/tokens", {}, key="k"), 201)
    before = await events(service)

    form = {"file": ("letter.txt", b"Dear desk!", "text/plain")}
    for response in (
        await service.ana.post(f"/v1/cases/{case['id']}/notes", {"text": "two"}, key="k"),
        await service.ana.send("POST", path, key="k", files=form),
        await service.adam.post("/v1/policy", {"settings": {"window_days": 9}}, key="k"),
        await service.adam.post("/v1/people/bo/tokens", {"expires_at": None}, key="k"),
    ):
        refused(response, 422, "idempotency_key_reused")
    assert await events(service) == before


async def test_a_key_is_its_actors_own_and_its_paths(service: Service) -> None:
    case = await service.ana.open()
    note, message = {"text": "Hello"}, {"text": "Hello", "direction": "inbound"}

    answers = [
        await service.ana.post(f"/v1/cases/{case['id']}/notes", note, key="k"),
        await service.bo.post(f"/v1/cases/{case['id']}/notes", note, key="k"),
        await service.ana.post(f"/v1/cases/{case['id']}/messages", message, key="k"),
        await service.ana.post(f"/v1/cases/{case['id']}/notes", note, key="l"),
        await service.ana.post(f"/v1/cases/{case['id']}/notes", note),
        await service.ana.post(f"/v1/cases/{case['id']}/notes", note),
    ]

    assert [one.headers["etag"] for one in answers] == [f'"{version}"' for version in range(2, 8)]


async def test_only_what_succeeded_is_remembered(service: Service) -> None:
    case = await service.ana.investigate()
    path = f"/v1/cases/{case['id']}/transitions"
    body = {"trigger": "close", "reason": "explained", "data": {"resolution": "explained"}}

    refused(await service.ana.post(path, body, key="k"), 409, "guard_refused")
    refused(await service.ana.post(path, body, key="k", if_match='"1"'), 412, "stale_version")
    refused(await service.ana.post(path, body, key="k", if_match=None), 428, "precondition_required")
    assert wrong_fields(await service.ana.post(path, body | {"reason": ""}, key="k")) == ["reason"]
    await service.ana.add(case["id"], "messages", text="So it is.", direction="outbound")

    assert done(await service.ana.post(path, body, key="k"))["state"] == "closed"
    assert done(await service.ana.post(path, body, key="k", if_match='"1"'))["state"] == "closed"


async def test_a_request_that_is_still_being_carried_out_is_not_begun_again(service: Service) -> None:
    sendings = (service.ana.post("/v1/cases", an_inquiry(), key="k") for _ in range(5))

    answers = await asyncio.gather(*sendings)

    assert sorted(one.status_code for one in answers) == [201, 409, 409, 409, 409]
    for one in answers:
        if one.status_code == 409:
            refused(one, 409, "idempotency_key_in_flight")
    again = done(await service.ana.post("/v1/cases", an_inquiry(), key="k"), 201)
    assert [case["id"] for case in done(await service.ana.get("/v1/cases"))["items"]] == [again["id"]]


async def test_in_another_process_the_second_waits_for_the_first(service: Service, desk_url: str, clock: Clock) -> None:
    case = await service.ana.open()
    async with running(desk_url, clock) as other:
        for number in range(5):
            for path, body in (("/v1/cases", an_inquiry()), (f"/v1/cases/{case['id']}/notes", {"text": "hm"})):
                answers = await asyncio.gather(
                    *(one.ana.post(path, body, key=f"k{number}") for one in (service, other))
                )
                assert as_told(answers[0]) == as_told(answers[1])
                assert answers[0].status_code == 201

    assert len(done(await service.ana.get("/v1/cases"))["items"]) == 6
    assert (await service.ana.read(case["id"]))["version"] == 6


async def test_a_change_that_changes_nothing_can_be_repeated_too(service: Service) -> None:
    case = await service.ana.investigate(purchase=a_purchase())
    path = f"/v1/cases/{case['id']}/purchase/checks"
    done(await service.ana.post(path, {"reason": "seen"}), 201)

    nothing = await service.ana.post(path, {"reason": "seen"}, key="k")
    await service.ana.add(case["id"], "notes", text="hm")
    again = await service.ana.post(path, {"reason": "seen"}, key="k")

    assert as_told(nothing) == as_told(again)
    refused(await service.ana.post(path, {"reason": "other"}, key="k"), 422, "idempotency_key_reused")


async def test_a_key_is_forgotten_after_seven_days(desk_url: str, clock: Clock) -> None:
    opened = []
    for days, seconds in ((0, 0), (7, 0), (0, 1)):
        clock.advance(days=days, seconds=seconds)
        async with running(desk_url, clock) as service:
            await service.ana.open()  # then there is time for housekeeping
            opened.append(done(await service.ana.post("/v1/cases", an_inquiry(), key="k"), 201)["id"])

    assert opened[0] == opened[1] != opened[2]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("key", ["", '""', " ", "x" * 256, "\x7f", "\xfc", "a\tb"], ids=repr)
async def test_a_key_that_cannot_be_one_is_named(key: str, service: Service) -> None:
    headers: Any = {"idempotency-key": key.encode("latin-1")}

    response = await service.ana.send("POST", "/v1/cases", an_inquiry(), headers=headers)

    assert wrong_fields(response) == ["Idempotency-Key"]


async def test_a_key_may_stand_in_quotation_marks(service: Service) -> None:
    first = done(await service.ana.post("/v1/cases", an_inquiry(), key="k-1"), 201)

    assert done(await service.ana.post("/v1/cases", an_inquiry(), key='"k-1"'), 201) == first


async def test_what_is_remembered_holds_nothing_of_what_was_sent(service: Service, desk_url: str) -> None:
    done(await service.ana.post("/v1/cases", an_inquiry(subject="my secret"), key="una@example.com"), 201)
    done(await service.adam.post("/v1/people/bo/tokens", {}, key="una@example.com"), 201)

    with raw_sql(desk_url) as raw:
        rows = raw.run("SELECT * FROM idempotency")

    assert len(rows) == 2
    assert not any(word in str(rows) for word in ("una", "secret", "ana"))


async def test_a_token_that_is_asked_for_again_is_the_same_token(service: Service, desk_url: str) -> None:
    first = done(await service.adam.post("/v1/people/bo/tokens", {}, key="k"), 201)
    again = done(await service.adam.post("/v1/people/bo/tokens", {}, key="k"), 201)
    other = done(await service.adam.post("/v1/people/bo/tokens", {}, key="l"), 201)

    assert again == first
    assert first["token"] != other["token"]
    assert done(await service.signed_in(first["token"]).get("/v1/me"))["id"] == "bo"
    with raw_sql(desk_url) as raw:
        kept = str([raw.run(f"SELECT * FROM {table}") for table in ("tokens", "people", "events", "idempotency")])
    assert first["id"] in kept
    assert first["token"] not in kept

    revocation = f"/v1/people/bo/tokens/{first['id']}/revocation"
    done(await service.adam.post(revocation, {"reason": "lost"}), 201)
    assert done(await service.adam.post("/v1/people/bo/tokens", {}, key="k"), 201) == first
    refused(await service.signed_in(first["token"]).get("/v1/me"), 401, "unauthorized")
