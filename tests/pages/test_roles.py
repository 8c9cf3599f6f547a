"""Every page in every role, and for whoever is not signed in; and what is told to nobody but those whom it concerns."""

import re
from datetime import timedelta
from typing import Any

import pytest
from httpx2 import Response

from api.client_links import new_client_link
from api.pages import PAGES
from api.pages.case_actions import ACTIONS
from tests.api.driving import Service, an_inquiry, done
from tests.api.routes import (
    ADMIN,
    APPROVER,
    AUDITOR,
    EVERYONE,
    LEAD,
    READERS,
    RECORDERS,
    WORKERS,
    a_furnished_case,
)
from tests.api.test_roles import BY_ROLE, histories
from tests.pages.visiting import Visitor

ANYBODY: frozenset[str] = frozenset()
OVERSEERS = LEAD | AUDITOR

# Who sees what, by the addresses that routes have. Of the forms of a case a note is tried; each has rules of its own.
WHO: dict[str, frozenset[str]] = {
    "GET /": EVERYONE,
    "GET /account": EVERYONE,
    "POST /account/calendars": WORKERS,
    "POST /account/password": EVERYONE,
    "POST /account/sessions/others": EVERYONE,
    "POST /account/tokens/{token_id}/revocation": EVERYONE,
    "GET /admin": ADMIN,
    "GET /admin/health": ADMIN,
    "POST /admin/people": ADMIN,
    "GET /admin/people/{person_id}": ADMIN,
    "POST /admin/people/{person_id}/disabling": ADMIN,
    "POST /admin/people/{person_id}/identities": ADMIN,
    "POST /admin/people/{person_id}/identities/{identity_id}/unlinking": ADMIN,
    "POST /admin/people/{person_id}/links": ADMIN,
    "POST /admin/people/{person_id}/roles": ADMIN,
    "POST /admin/people/{person_id}/sessions/ending": ADMIN,
    "POST /admin/people/{person_id}/tokens": ADMIN,
    "POST /admin/people/{person_id}/tokens/{token_id}/revocation": ADMIN,
    "GET /admin/policy": ADMIN,
    "POST /admin/policy": ADMIN,
    "GET /admin/webhooks": ADMIN,
    "POST /admin/webhooks": ADMIN,
    "GET /admin/webhooks/{webhook_id}": ADMIN,
    "POST /admin/webhooks/{webhook_id}": ADMIN,
    "POST /admin/webhooks/{webhook_id}/secrets": ADMIN,
    "POST /admin/webhooks/{webhook_id}/pings": ADMIN,
    "POST /admin/webhooks/{webhook_id}/removal": ADMIN,
    "GET /approvals": LEAD | APPROVER,
    "POST /approvals/{case_id}/{proposal_id}": LEAD | APPROVER,
    "POST /approvals/{case_id}/{proposal_id}/question": LEAD | APPROVER,
    "GET /audit-desk": OVERSEERS,
    "GET /audit-desk/cases": READERS,
    "GET /audit-desk/cases/{name}": READERS,
    "GET /audit-desk/cases/{name}/bundle": OVERSEERS,
    "GET /audit-desk/cases/{name}/decisions": READERS,
    "POST /audit-desk/cases/{name}/findings": AUDITOR,
    "GET /audit-desk/cases/{name}/step": READERS,
    "GET /audit-desk/cases/{name}/verification": OVERSEERS,
    "GET /audit-desk/changes": OVERSEERS | ADMIN,
    "GET /audit-desk/checkpoint": OVERSEERS,
    "GET /audit-desk/events/{position}": OVERSEERS,
    "GET /audit-desk/exports/{what}": OVERSEERS,
    "GET /audit-desk/feed": READERS,
    "GET /audit-desk/findings": READERS,
    "GET /audit-desk/findings/{case_id}/{finding_id}": READERS,
    "POST /audit-desk/findings/{case_id}/{finding_id}/answers": RECORDERS,
    "POST /audit-desk/findings/{case_id}/{finding_id}/closing": AUDITOR,
    "GET /audit-desk/reads": OVERSEERS,
    "GET /audit-desk/refused": OVERSEERS,
    "GET /audit-desk/reports": OVERSEERS,
    "GET /audit-desk/reports/{name}": OVERSEERS,
    "GET /audit-desk/samples": OVERSEERS,
    "POST /audit-desk/samples": AUDITOR,
    "GET /audit-desk/samples/{sample_id}": OVERSEERS,
    "GET /audit-desk/set-aside": READERS,
    "GET /audit-desk/take-away": OVERSEERS,
    "GET /board": READERS,
    "GET /board/moves/{name}/{target}": READERS,
    "POST /board/moves/{name}/{target}": READERS,
    "GET /c/{secret}": ANYBODY,
    "POST /c/{secret}": ANYBODY,
    "GET /c/{secret}/receipts/{seq}": ANYBODY,
    "GET /c/{secret}/slots/{slot}": ANYBODY,
    "POST /c/{secret}/slots/{slot}": ANYBODY,
    "GET /calendar/{secret}.ics": ANYBODY,
    "GET /c/{secret}/{answer}": ANYBODY,
    "POST /c/{secret}/{answer}": ANYBODY,
    "GET /cases/{name}": READERS,
    "GET /cases/{name}/attachments/{attachment_id}": READERS,
    "GET /cases/{name}/{action}": READERS,
    "POST /cases/{name}/{action}": RECORDERS,
    "GET /cases/{number}/client-links": READERS,
    "POST /cases/{number}/client-links": WORKERS,
    "POST /cases/{number}/client-links/{link_id}/revoke": WORKERS,
    "GET /deliveries": EVERYONE,
    "POST /deliveries/{delivery_id}/{way}": WORKERS | ADMIN,
    "GET /insights": OVERSEERS,
    "GET /insights/cases": OVERSEERS,
    "GET /insights/{name}.csv": OVERSEERS,
    "GET /live": READERS,
    "GET /oidc/begin": ANYBODY,
    "GET /oidc/callback": ANYBODY,
    "GET /queue": READERS,
    "POST /queue/bulk": WORKERS,
    "POST /queue/filters": READERS,
    "POST /queue/filters/{person_id}/{filter_id}/removal": READERS,
    "GET /sign-in": ANYBODY,
    "POST /sign-in": ANYBODY,
    "GET /sign-in/{secret}": ANYBODY,
    "POST /sign-in/{secret}": ANYBODY,
    "POST /sign-out": EVERYONE,
    "GET /static/{digest}/{name}": ANYBODY,
}
FOR_SOMEBODY = {name: who for name, who in WHO.items() if who}


async def addresses(service: Service) -> dict[str, str]:
    """What stands in paths: of a case in which there is something of everything, and of the desk around it."""
    parts = await a_furnished_case(service)
    number = (await service.ana.read(parts["case_id"]))["number"]
    return parts | {
        "name": number,
        "number": number,
        "target": "compensation_issued",
        "action": "note",
        "position": "7",
        "what": "cases",
        "identity_id": "nothing",
        "filter_id": "nothing",
        "secret": "nothing",
        "answer": "accept",
        "way": "retries",
        "slot": "20260308T1200Z",
        "digest": "nothing",
    }


def address(name: str, parts: dict[str, str]) -> tuple[str, str]:
    method, _, path = name.partition(" ")
    special = {
        "GET /audit-desk/reports/{name}": {"name": "duties"},
        "GET /audit-desk/exports/{what}": {"what": "events"},
        "GET /insights/{name}.csv": {"name": "states"},
        "GET /live": {},
    }
    return method, path.format(**(parts | special.get(name, {})))


async def use(visitor: Visitor, name: str, parts: dict[str, str]) -> Response:
    """As far as a form without anything in it goes: who may not send it is told so before it is read."""
    method, path = address(name, parts)
    if method == "POST":
        return await visitor.post(path, {"csrf": await mark(visitor)})
    return await visitor.get(path)


async def mark(visitor: Visitor) -> str:
    """What the forms of this session carry."""
    page = await visitor.get("/account")
    found = re.search(r'name="csrf" value="(\w+)"', page.text)
    assert found
    return found[1]


def test_every_page_is_in_the_table() -> None:
    served = [(one.path, one.methods) for pages in PAGES for one in pages.routes]
    assert {f"{method} {path}" for path, methods in served for method in methods or () if method != "HEAD"} == set(WHO)


@pytest.mark.parametrize("role", BY_ROLE)
async def test_a_page_is_shown_in_its_roles_and_in_no_other(role: str, service: Service) -> None:
    parts = await addresses(service)
    visitor = Visitor(service, BY_ROLE[role])
    ends_the_session = "POST /sign-out", "POST /account/sessions/others"

    for name in sorted(FOR_SOMEBODY, key=lambda name: name in ends_the_session):
        answer = await use(visitor, name, parts)
        if role not in WHO[name]:
            assert answer.status_code == 403, name
        elif name.startswith("GET "):
            needs_more = name in {"GET /live", "GET /insights/cases"}  # what to watch, and which cases
            assert answer.status_code in ({422} if needs_more else {200, 303}), (name, answer.text)
        else:
            assert answer.status_code in {200, 201, 303, 404, 409, 412, 422, 428}, (name, answer.text)


async def test_whoever_is_not_signed_in_is_led_there_and_nothing_is_told(service: Service) -> None:
    parts = await addresses(service)
    for name in FOR_SOMEBODY:
        method, path = address(name, parts)
        data = {"text": "let me in"} if method == "POST" else None

        answer = await service.client.request(
            method, f"http://127.0.0.1{path}", data=data, headers={"sec-fetch-site": "same-origin"}
        )

        assert answer.status_code == 303, name
        assert answer.headers["location"].startswith("/sign-in")
        assert answer.text == ""


async def test_an_auditor_changes_nothing_by_any_form_of_a_case(service: Service) -> None:
    parts = await addresses(service)
    audrey = Visitor(service, "audrey")
    csrf = await mark(audrey)
    before = await histories(service)
    said: dict[str, Any] = {"csrf": csrf, "version": "9", "part": "g5", "reason": "me", "text": "me", "verified": "yes"}

    for action in ACTIONS:
        answer = await audrey.post(f"/cases/{parts['name']}/{action}", said)
        assert answer.status_code in {403, 404, 422}, action
    for target in ("investigating", "closed", "compensation_issued", "refunded", "consultation_scheduled"):
        for trigger in ("investigate", "close", "issue_compensation", "refund", "schedule_consultation", "resume"):
            answer = await audrey.post(f"/board/moves/{parts['name']}/{target}", said | {"trigger": trigger})
            assert answer.status_code in {403, 404, 422}, (target, trigger)

    assert await histories(service) == before


CANARY = "canary"
OF_A_CASE = {
    "subject": f"{CANARY} subject",
    "message": f"{CANARY} text",
    "client": {"name": f"{CANARY} client", "email": f"{CANARY}@example.com"},
}


async def test_whoever_only_administers_reads_nothing_of_any_case(service: Service) -> None:
    parts = await addresses(service)
    case = done(await service.ana.post("/v1/cases", an_inquiry(**OF_A_CASE)), 201)
    await service.ana.add(case["id"], "notes", text=f"{CANARY} note")
    parts |= {"case_id": case["id"], "name": case["number"], "number": case["number"]}
    seen = await everything_told(service, "adam", parts)

    assert "adam@step-into.example" in seen
    assert CANARY not in seen.lower()


async def test_how_people_sign_in_is_told_to_administrators_alone(service: Service) -> None:
    parts = await addresses(service)
    adam = Visitor(service, "adam")
    linked = {
        "csrf": await mark(adam),
        "issuer": "https://login.example.com",
        "subject": f"{CANARY}-of-bo",
        "reason": "new",
    }
    assert (await adam.post("/admin/people/bo/identities", linked)).status_code == 303
    assert CANARY in await everything_told(service, "adam", parts)

    for name in ("ana", "lou", "cleo", "audrey"):
        assert CANARY not in await everything_told(service, name, parts), name


async def everything_told(service: Service, who: str, parts: dict[str, str]) -> str:
    """All that somebody is answered, whatever page they ask for."""
    visitor = Visitor(service, who)
    answers = [
        await visitor.get(address(name, parts)[1]) for name in WHO if name.startswith("GET ") and name != "GET /live"
    ]
    return "\n".join(one.text for one in answers)


async def test_a_session_is_no_clients_link_and_a_clients_link_no_session(service: Service) -> None:
    case = await service.ana.open()
    command, secret = new_client_link(service.clock() + timedelta(days=30))
    await service.desk.submit_as_system("operator", command, case["id"], via="cli")

    for name in FOR_SOMEBODY:
        method, path = address(name, dict.fromkeys(re.findall(r"{(\w+)}", name), str(case["number"])))
        if method == "GET":
            cookie = {"cookie": f"casework={secret}"}
            answer = await service.client.get(f"http://127.0.0.1{path}", headers=cookie)
            assert answer.status_code == 303, name
