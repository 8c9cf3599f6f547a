"""Whole cases told step by step over HTTP: each step has its outcome, and what is refused leaves all as it was."""

import json
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response

from storage.verify import verify
from tests.api.driving import Clock, Json, Person, Service, an_inquiry, done, in_roles, prepare, running
from tests.shared import SHARED, shared_path
from workflow import commands as c
from workflow.errors import Refused
from workflow.roles import Actor, Role
from workflow.states import Direction, Trigger

OWN = Path(__file__).parents[1] / "workflow" / "stories.json"
PUBLISHED = SHARED / "stories.json"

# What an approver may do besides, where stories leave it open.
APPROVERS = {"approvers": in_roles(Role.APPROVER), "approvers_who_lead": in_roles(Role.APPROVER, Role.LEAD)}


def named(path: Path) -> list[Any]:
    return [pytest.param(story, id=story["name"]) for story in json.loads(path.read_bytes())]


@pytest.mark.parametrize("staff", APPROVERS.values(), ids=APPROVERS)
@pytest.mark.parametrize("story", named(OWN))
async def test_every_story_of_ours_goes_as_written(
    story: Json, staff: tuple[Actor, ...], database_url: str, clock: Clock
) -> None:
    await assert_it_goes_as_written(story, staff, database_url, clock)


@pytest.mark.parametrize("staff", APPROVERS.values(), ids=APPROVERS)
@pytest.mark.parametrize("story", named(PUBLISHED) if PUBLISHED.exists() else [{}])
async def test_every_published_story_goes_as_written(
    story: Json, staff: tuple[Actor, ...], database_url: str, clock: Clock
) -> None:
    shared_path("stories.json")
    await assert_it_goes_as_written(story, staff, database_url, clock)


async def assert_it_goes_as_written(story: Json, staff: tuple[Actor, ...], url: str, clock: Clock) -> None:
    opening = story["steps"][0]["data"]
    clock.now = datetime.fromisoformat(opening["requested_at"])
    await prepare(url, opening["timezone"], staff)
    async with running(url, clock) as service:
        telling = Telling(service)
        for number, step in enumerate(story["steps"], 1):
            before = await telling.everything()
            codes = await telling.tell(step)
            expected = step["expect"]

            assert ("refused" in expected) == (codes is not None), (number, codes)
            if "refused" in expected:
                assert await telling.everything() == before, number
                assert codes == expected.get("codes", codes), number
                continue
            case = await service.audrey.read(telling.cases[step["data"]["case"]])
            assert case["state"] == expected["state"], number
            if "refunded_so_far" in expected:
                assert case["purchase"]["refunded"] == expected["refunded_so_far"], number
        for case_id in telling.cases.values():
            assert done(await service.audrey.get(f"/v1/cases/{case_id}/replay"))["matches_stored"]
        assert (await verify(service.desk.database)).faults == ()


class Telling:
    """What the story calls by names of its own: cases, proposals and grounds."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.cases: dict[str, str] = {}
        self.proposals: dict[str, Json] = {}
        self.grounds: dict[str, str] = {}

    async def everything(self) -> list[Json]:
        """All cases as they stand, without what is possible next."""
        cases = [await self.service.lou.read(case_id) for case_id in self.cases.values()]
        return [{field: value for field, value in case.items() if field != "transitions"} for case in cases]

    async def tell(self, step: Json) -> list[str] | None:
        """The codes of the reasons why the step was refused, if it was."""
        data, do = step["data"], step["do"]
        clock = self.service.clock
        clock.advance(minutes=1)
        role, _, name = step["actor"].partition(" ")
        if do == "open":
            clock.now = max(clock.now, datetime.fromisoformat(data["requested_at"]))
            case = done(await self.service.lou.post("/v1/cases", inquiry_of(data)), 201)
            self.cases[data["case"]] = case["id"]
            return None
        if role == "system":
            return await self.tell_as_system(name, do, data)
        # What the client writes, somebody at the desk takes down.
        person: Person = getattr(self.service, name or "lou")
        steps = {trigger.value: fire for trigger in Trigger} | STEPS
        response = await steps[do](self, person, do, data)
        if response.is_success:
            return None
        assert 400 <= response.status_code < 500
        return sorted(one["code"] for one in response.json().get("refusals", []))

    async def tell_as_system(self, part: str, do: str, data: Json) -> list[str] | None:
        case_id = self.cases[data["case"]]
        command: c.Command
        match do:
            case "refund":
                refund = c.RefundData(proposal=self.proposals[data["proposal"]]["id"], payment_reference="T-1")
                command = c.Fire(trigger=Trigger.REFUND, reason="as reported", data=refund)
            case "fail_payout":
                command = c.FailPayout(proposal=self.proposals[data["proposal"]]["id"], reason="as reported")
            case "bounce":
                sent = [one["id"] for one in await messages(self, case_id) if one["direction"] == "outbound"]
                command = c.RecordBounce(message=sent[-1])
            case _:
                command = c.AddMessage(direction=Direction.OUTBOUND, text=data["text"])
        try:
            await self.service.as_system(part, command, case_id)
        except Refused as refused:
            return sorted(refused.codes)
        return None

    async def post(self, person: Person, data: Json, path: str, body: Json) -> Response:
        return await person.post(f"/v1/cases/{self.cases[data['case']]}/{path}", body)


async def messages(telling: Telling, case_id: str) -> list[Json]:
    found: list[Json] = done(await telling.service.lou.get(f"/v1/cases/{case_id}/messages"))
    return found


async def fire(telling: Telling, person: Person, do: str, data: Json) -> Response:
    case_id, clock = telling.cases[data["case"]], telling.service.clock
    fields: Json
    match do:
        case "refund":
            fields = {"proposal": proposal_id(telling, data), "payment_reference": "T-1"}
        case "issue_compensation":
            fields = {"proposal": proposal_id(telling, data)}
        case "offer_adjustment":
            fields = {"description": data["what"], "answer_by": (clock.now + timedelta(days=7)).date().isoformat()}
        case "schedule_consultation":
            starts_at = clock.now + timedelta(days=data["starts_in_days"])
            fields = {"starts_at": starts_at.isoformat(), "minutes": 30, "channel": "telephone"}
        case "resume":
            fields = {"reason_code": data.get("reason_code", "insufficient")}
        case "close":
            state = (await telling.service.lou.read(case_id))["state"]
            fitting = {"opened": "withdrawn", "investigating": "explained"}
            fields = {"resolution": fitting.get(state, "remedy_accepted")}
        case _:
            fields = {}
    return await person.fire(case_id, do, **fields)


def proposal_id(telling: Telling, data: Json) -> str | None:
    return telling.proposals[data["proposal"]]["id"] if data["proposal"] else None


async def check_facts(telling: Telling, person: Person, _: str, data: Json) -> Response:
    return await telling.post(person, data, "purchase/checks", {"reason": "seen in the books"})


async def record_delivery(telling: Telling, person: Person, _: str, data: Json) -> Response:
    case_id = telling.cases[data["case"]]
    known = (await telling.service.lou.read(case_id))["purchase"]
    facts = {field: known[field] for field in ("reference", "package", "paid", "purchased_at")}
    times = {field: data[field] for field in ("service_started_at", "deliverables_provided_at")}
    return await person.put(f"/v1/cases/{case_id}/purchase", facts | times)


async def record_ground(telling: Telling, person: Person, _: str, data: Json) -> Response:
    body = {"kind": data["kind"], "affected": data["affected"], "statement": "as the client wrote"}
    response = await telling.post(person, data, "grounds", body)
    if response.is_success:
        telling.grounds[data["ground"]] = response.json()["id"]
    return response


async def verify_ground(telling: Telling, person: Person, _: str, data: Json) -> Response:
    body = {"verified": True, "evidence": data["evidence"] or ""}
    return await telling.post(person, data, f"grounds/{telling.grounds[data['ground']]}/verifications", body)


async def propose(telling: Telling, person: Person, do: str, data: Json) -> Response:
    remedy = do.removeprefix("propose_")
    kind = {"kind": "service_credit"} if remedy == "compensation" else {}
    body = {"remedy": remedy, "amount": data["amount"], "reason": "as the facts say", **kind}
    response = await telling.post(person, data, "proposals", body)
    if response.is_success:
        telling.proposals[data["proposal"]] = response.json()
    return response


async def approve(telling: Telling, person: Person, _: str, data: Json) -> Response:
    proposal = telling.proposals[data["proposal"]]
    body = {"verdict": "approve", "digest": proposal["digest"], "reason": "as the facts say"}
    return await telling.post(person, data, f"proposals/{proposal['id']}/verdicts", body)


async def begin_payout(telling: Telling, person: Person, _: str, data: Json) -> Response:
    proposal = telling.proposals[data["proposal"]]
    return await telling.post(person, data, f"proposals/{proposal['id']}/payouts", {"reason": "let it go"})


async def answer(telling: Telling, person: Person, _: str, data: Json) -> Response:
    return await telling.post(person, data, "messages", {"text": data["text"], "direction": "outbound"})


async def write(telling: Telling, person: Person, _: str, data: Json) -> Response:
    return await telling.post(person, data, "messages", {"text": data["text"], "direction": "inbound"})


async def waive_answer(telling: Telling, person: Person, _: str, data: Json) -> Response:
    written = [one for one in await messages(telling, telling.cases[data["case"]]) if one["direction"] == "inbound"]
    return await telling.post(person, data, f"messages/{written[-1]['id']}/no-answer-needed", {"reason": "only thanks"})


STEPS: dict[str, Callable[[Telling, Person, str, Json], Coroutine[Any, Any, Response]]] = {
    "check_facts": check_facts,
    "record_delivery": record_delivery,
    "record_ground": record_ground,
    "verify_ground": verify_ground,
    "propose_refund": propose,
    "propose_compensation": propose,
    "approve_refund": approve,
    "approve_compensation": approve,
    "answer": answer,
    "write": write,
    # Only in stories of our own:
    "begin_payout": begin_payout,
    "waive_answer": waive_answer,
}


def inquiry_of(data: Json) -> Json:
    purchase = data["purchase"] and {"package": "as ordered", **data["purchase"]}
    client = {"name": "The client", "email": data["client"]}
    return an_inquiry(client=client, category=data["category"], received_at=data["requested_at"], purchase=purchase)
