"""Whole cases told step by step: each step has its outcome, and whatever is refused leaves everything as it was."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.shared import SHARED, lacking
from tests.workflow.builders import (
    CHECK,
    MAIL,
    PEOPLE,
    Desk,
    a_letter,
    an_opening,
    approves,
    as_person,
    begins,
    fails,
    firing,
    from_the_client,
    proposes,
    proposes_credit,
    somebody,
)
from workflow import commands as c
from workflow.cases import Case, Proposal, Purchase
from workflow.errors import CaseworkError, Refused
from workflow.money import Money, parse_money
from workflow.policy import Category, GroundKind, first_version
from workflow.replaying import replay
from workflow.roles import Actor, Role, system_actor
from workflow.states import RESOLUTIONS, CaseState, ResumeReason, Trigger

OWN_STORIES = Path(__file__).with_name("stories.json")
# The published stories lie beside the repository where both are laid out together.
PUBLISHED_STORIES = SHARED / "stories.json"

TRIGGERS = frozenset(trigger.value for trigger in Trigger)
ROLES = {
    "agent": (Role.AGENT,),
    "lead": (Role.LEAD,),
    "approver": (Role.APPROVER, Role.LEAD),  # in these stories an approver has a lead's rights too
    "auditor": (Role.AUDITOR,),
}


def stories(path: Path) -> list[Any]:
    return [pytest.param(story, id=story["name"]) for story in json.loads(path.read_bytes())]


@pytest.mark.parametrize("story", stories(OWN_STORIES))
def test_every_story_of_ours_goes_as_written(story: dict[str, Any]) -> None:
    assert_it_goes_as_written(story)


@pytest.mark.parametrize("story", stories(PUBLISHED_STORIES) if PUBLISHED_STORIES.exists() else [{}])
def test_every_published_story_goes_as_written(story: dict[str, Any]) -> None:
    if not story:
        lacking("../shared/stories.json")
    assert_it_goes_as_written(story)


def assert_it_goes_as_written(story: dict[str, Any]) -> None:
    telling = Telling(story["steps"])
    for number, step in enumerate(story["steps"], 1):
        expected = step["expect"]
        before = dict(telling.desk.cases)
        refused = telling.tell(step)
        cases = telling.desk.cases

        assert ("refused" in expected) == (refused is not None), (number, refused)
        if refused is not None:
            assert cases == before, number
            if "codes" in expected:
                assert isinstance(refused, Refused)
                assert sorted(refused.codes) == expected["codes"], number
            continue
        case = cases[step["data"]["case"]]
        assert case.state == expected["state"], number
        if "refunded_so_far" in expected:
            assert case.purchase is not None
            assert case.purchase.refunded_minor == money(expected["refunded_so_far"]).amount_minor, number
    assert {case_id: replay(history) for case_id, history in telling.desk.histories.items()} == telling.desk.cases


class Telling:
    """A desk, and the real names of the proposals and grounds that the story calls by names of its own."""

    def __init__(self, steps: list[dict[str, Any]]) -> None:
        opening = steps[0]["data"]
        people = {one.id: as_person(one) for one in (actor_of(step["actor"]) for step in steps)}
        self.desk = Desk(first_version(opening["timezone"]), people={**PEOPLE, **people}, now=moment(opening))
        self.proposals: dict[str, Proposal] = {}
        self.grounds: dict[str, str] = {}

    def tell(self, step: dict[str, Any]) -> CaseworkError | None:
        """Why the step was refused, if it was."""
        data = step["data"]
        opens = step["do"] == "open"
        self.desk.now = max(self.desk.now + timedelta(minutes=1), moment(data) if opens else self.desk.now)
        command = self.command(step["do"], data, None if opens else self.desk.cases[data["case"]])
        try:
            after = self.desk.do(actor_of(step["actor"]), command, data["case"])
        except CaseworkError as refused:
            return refused
        if isinstance(command, c.Propose):
            self.proposals[data["proposal"]] = after.proposals[-1]
        if isinstance(command, c.RecordGround):
            self.grounds[data["ground"]] = after.grounds[-1].id
        return None

    def command(self, do: str, data: dict[str, Any], case: Case | None) -> c.Command:
        if case is None:
            return opening_of(data)
        if do in TRIGGERS:
            return self.trigger(Trigger(do), data, case)
        return STEPS[do](self, data, case)

    def trigger(self, trigger: Trigger, data: dict[str, Any], case: Case) -> c.Fire:
        match trigger:
            case Trigger.REFUND | Trigger.ISSUE_COMPENSATION:
                named = data["proposal"]
                return firing(trigger, proposal=self.proposals[named].id if named else None)
            case Trigger.OFFER_ADJUSTMENT:
                return firing(trigger, description=data["what"], answer_by=(self.desk.now + timedelta(days=7)).date())
            case Trigger.SCHEDULE_CONSULTATION:
                return firing(trigger, starts_at=self.desk.now + timedelta(days=data["starts_in_days"]))
            case Trigger.CLOSE:
                fitting = RESOLUTIONS.get(case.state, RESOLUTIONS[CaseState.INVESTIGATING])
                return firing(trigger, resolution=fitting[0])
            case Trigger.RESUME:
                return firing(trigger, reason_code=ResumeReason(data.get("reason_code", ResumeReason.INSUFFICIENT)))
            case _:
                return firing(trigger)


def a_recorded_delivery(_: Telling, data: dict[str, Any], case: Case) -> c.Command:
    assert case.purchase is not None
    started, provided = delivery(data)
    changed = replace(case.purchase, service_started_at=started, deliverables_provided_at=provided)
    return c.RecordPurchase(purchase=changed)


def a_recorded_ground(_: Telling, data: dict[str, Any], __: Case) -> c.Command:
    return c.RecordGround(
        kind=GroundKind(data["kind"]), affected=money(data["affected"]), statement="as the client wrote"
    )


def a_verification(telling: Telling, data: dict[str, Any], _: Case) -> c.Command:
    return c.VerifyGround(ground=telling.grounds[data["ground"]], verified=True, evidence=data["evidence"] or "")


STEPS: dict[str, Callable[[Telling, dict[str, Any], Case], c.Command]] = {
    "check_facts": lambda *_: CHECK,
    "record_delivery": a_recorded_delivery,
    "record_ground": a_recorded_ground,
    "verify_ground": a_verification,
    "propose_refund": lambda _, data, __: proposes(money(data["amount"])),
    "propose_compensation": lambda _, data, __: proposes_credit(money(data["amount"])),
    "approve_refund": lambda telling, data, _: approves(telling.proposals[data["proposal"]]),
    "approve_compensation": lambda telling, data, _: approves(telling.proposals[data["proposal"]]),
    "answer": lambda _, data, __: a_letter(data["text"]),
    "write": lambda _, data, __: from_the_client(data["text"]),
    # Only in stories of our own:
    "begin_payout": lambda telling, data, _: begins(telling.proposals[data["proposal"]]),
    "fail_payout": lambda telling, data, _: fails(telling.proposals[data["proposal"]]),
    "bounce": lambda _, __, case: c.RecordBounce(message=f"m{case.answers[-1]}"),
    "waive_answer": lambda _, __, case: c.WaiveAnswer(message=f"m{case.client_wrote_seq}", reason="only thanks"),
}


def actor_of(named: str) -> Actor:
    role, _, name = named.partition(" ")
    match role:
        case "client":
            return MAIL  # whose letter the mail brings
        case "system":
            return system_actor(name)
        case _:
            return somebody(name, *ROLES[role])


def opening_of(data: dict[str, Any]) -> c.OpenCase:
    return an_opening(
        data["case"],
        client_email=data["client"],
        category=Category(data["category"]),
        received_at=moment(data),
        purchase=purchase_of(data["purchase"]) if data["purchase"] else None,
    )


def purchase_of(data: dict[str, Any]) -> Purchase:
    started, provided = delivery(data)
    return Purchase(
        reference=data["reference"],
        package="as ordered",
        paid=money(data["paid"]),
        purchased_at=datetime.fromisoformat(data["purchased_at"]),
        service_started_at=started,
        deliverables_provided_at=provided,
    )


def delivery(data: dict[str, Any]) -> tuple[datetime | None, datetime | None]:
    started, provided = data["service_started_at"], data["deliverables_provided_at"]
    return started and datetime.fromisoformat(started), provided and datetime.fromisoformat(provided)


def moment(data: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(data["requested_at"])


def money(data: dict[str, str]) -> Money:
    return parse_money(data["amount"], data["currency"])
