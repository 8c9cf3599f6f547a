"""Who may use what: every route in every role, and that some change nothing whatever they try."""

from typing import Any

import pytest

from tests.api.driving import Person, Service, done, refused
from tests.api.routes import APPROVER, ROUTES, SIGNED, WORKERS, Route, a_furnished_case, served

# One person in each role, and in that role alone.
BY_ROLE = {"agent": "ana", "lead": "lou", "approver": "cleo", "auditor": "audrey", "admin": "adam"}


def test_every_route_is_in_the_table() -> None:
    assert served().keys() == ROUTES.keys()


def test_what_needs_the_version_that_was_seen_is_what_the_table_says() -> None:
    assert {name for name, one in served().items() if needs_if_match(one.endpoint)} == {
        name for name, route in ROUTES.items() if route.if_match
    }


def needs_if_match(endpoint: Any) -> bool:
    rules = getattr(endpoint, "rules", None)
    return rules is not None and rules.if_match


async def use(person: Person, name: str, route: Route, parts: dict[str, str]) -> int:
    """The status of the answer."""
    method, _, path = name.partition(" ")
    path = f"{path.format(**parts)}{f'?{route.query}' if route.query else ''}"
    if name.endswith("/attachments") and method == "POST":
        form = {"file": ("letter.txt", b"Dear desk", "text/plain")}
        return (await person.send(method, path, files=form)).status_code
    if route.if_match:
        return (await person.send(method, path, route.body, if_match="*")).status_code
    return (await person.send(method, path, route.body)).status_code


@pytest.mark.parametrize("role", BY_ROLE)
async def test_a_route_can_be_used_in_its_roles_and_in_no_other(role: str, service: Service) -> None:
    parts = await a_furnished_case(service)
    person: Person = getattr(service, BY_ROLE[role])

    for name, route in ROUTES.items():
        status = await use(person, name, route, parts)
        if route.who and role not in route.who:
            assert status == 403, name
        elif route is SIGNED:
            assert status == 404, name  # nobody is asked who they are; nothing of the kind is configured here
        else:
            refers = name.endswith(("/links", "/findings"))  # to what is not there
            assert status in {200, 201, 204, 409} or (refers and status == 422), (name, status)


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_nothing_is_told_to_somebody_who_is_not_signed_in(name: str, service: Service) -> None:
    route = ROUTES[name]
    stranger = service.signed_in(None)
    names = "case_id", "ground_id", "proposal_id", "message_id", "seq", "attachment_id", "tile", "delivery_id"
    parts = dict.fromkeys((*names, "finding_id", "sample_id", "link_id", "webhook_id"), "nothing")

    status = await use(stranger, name, route, {**parts, "person_id": "nobody", "token_id": "none"})

    assert status == (404 if route is SIGNED else 401 if route.who else 200)


async def histories(service: Service) -> dict[str, int]:
    """How many events each chain has, but for what is recorded of reading, of refusals and of auditors' own work."""
    counts: dict[str, int] = {}
    for item in done(await service.lou.get("/v1/events", limit=1000))["items"]:
        chain = item["event"]["chain"]
        if chain.partition(":")[0] not in {"read", "refusal", "sample", "finding"}:
            counts[chain] = counts.get(chain, 0) + 1
    return counts


async def test_an_auditor_reads_everything_and_changes_nothing(service: Service) -> None:
    parts = await a_furnished_case(service)
    before = await histories(service)

    for name, route in ROUTES.items():
        await use(service.audrey, name, route, parts)

    assert await histories(service) == before


async def test_an_admin_does_no_case_work(service: Service) -> None:
    parts = await a_furnished_case(service)
    before = await histories(service)

    for name, route in ROUTES.items():
        if "/v1/cases" in name and "/hold" not in name:
            await use(service.adam, name, route, parts)

    assert await histories(service) == before


# Transitions.

TRIGGERS: dict[str, tuple[frozenset[str], dict[str, Any]]] = {
    "investigate": (WORKERS, {}),
    "offer_adjustment": (WORKERS, {"description": "another audience", "answer_by": "2026-03-09"}),
    "schedule_consultation": (WORKERS, {"starts_at": "2026-03-09T10:00:00Z", "minutes": 30, "channel": "telephone"}),
    "issue_compensation": (WORKERS | APPROVER, {"proposal": None}),
    "refund": (APPROVER, {"proposal": None, "payment_reference": "T-1"}),
    "resume": (WORKERS, {"reason_code": "declined"}),
    "close": (WORKERS, {"resolution": "explained"}),
    "reopen": (WORKERS, {}),
}


@pytest.mark.parametrize("trigger", TRIGGERS)
async def test_a_trigger_is_fired_in_its_roles_whatever_the_state(trigger: str, service: Service) -> None:
    case = await service.ana.open()
    who, data = TRIGGERS[trigger]

    for role, name in BY_ROLE.items():
        response = await getattr(service, name).fire(case["id"], trigger, **data)
        if role in who:
            assert response.status_code in {200, 409}
        else:
            (refusal,) = refused(response, 403, "forbidden")["refusals"]
            assert (refusal["code"], role in refusal["who"]) == ("role", False)


async def test_only_an_approver_says_that_money_came_back(service: Service) -> None:
    case = await service.ana.investigate()

    for role, name in BY_ROLE.items():
        response = await getattr(service, name).fire(case["id"], "resume", reason_code="payment_failed")
        assert (response.status_code == 403) == (role not in APPROVER), role


async def test_an_agent_takes_a_case_and_a_lead_gives_it_to_somebody(service: Service) -> None:
    case = await service.ana.open()
    path = f"/v1/cases/{case['id']}/assignee"

    assert done(await service.bo.put(path, {"assignee": "bo"}))["assignee"] == "bo"
    assert done(await service.ana.put(path, {"assignee": "ana@step-into.example"}))["assignee"] == "ana"
    for other in ("bo", None):
        (refusal,) = refused(await service.ana.put(path, {"assignee": other}), 403, "forbidden")["refusals"]
        assert refusal["who"] == ["lead"]
    assert done(await service.lou.put(path, {"assignee": "bo@step-into.example"}))["assignee"] == "bo"
    assert done(await service.lou.put(path, {"assignee": None}))["assignee"] is None


async def test_roles_that_are_held_together_add_up(service: Service) -> None:
    done(await service.adam.put("/v1/people/bo/roles", {"roles": ["agent", "auditor"]}))
    case = await service.bo.investigate()

    assert done(await service.bo.get("/v1/refusals"))["items"] == []
    assert case["state"] == "investigating"
    assert refused(await service.bo.put(f"/v1/cases/{case['id']}/assignee", {"assignee": "ana"}), 403, "forbidden")
