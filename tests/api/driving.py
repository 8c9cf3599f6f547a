"""The service as its users drive it: started over a real database, with a signed-in client for each person."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx2
from fastapi import FastAPI
from httpx2 import Response

from api.app import create_app
from api.desk import Desk
from api.people import new_token
from api.settings import Settings
from storage.database import open_database
from storage.desk import ensure_desk
from storage.submissions import Receipt
from tests.workflow.builders import NOON, STAFF
from workflow.commands import Command
from workflow.people import AddPerson
from workflow.roles import Actor, Role, in_order

SETTINGS: dict[str, Any] = {
    "secret_key": "known to the tests and to nobody else",
    "max_body_bytes": 1_000_000,
    "max_attachment_bytes": 100_000,
    "smtp_url": "smtp://localhost:9",  # so that letters are planned; nobody carries them out unless a test does
}
CASE_PATH = re.compile(r"/v1/cases/([^/?]+)")
LAST_SEEN = "the version that was seen last"

Json = dict[str, Any]


class Clock:
    """Stands still until a test moves it."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


class Service:
    """`seen` holds the ETag of each case as the last answer about it gave it, whoever got that answer."""

    def __init__(self, app: FastAPI, desk: Desk, client: httpx2.AsyncClient, clock: Clock) -> None:
        self.app = app
        self.desk = desk
        self.client = client
        self.clock = clock
        self.seen: dict[str, str] = {}

    def __getattr__(self, name: str) -> "Person":
        """Somebody of STAFF: `service.ana`."""
        return Person(self, token_of(name))

    def signed_in(self, token: str | None) -> "Person":
        return Person(self, token)

    async def as_system(self, part: str, command: Command, case_id: str) -> Receipt:
        """What mail, timers and payment providers do."""
        receipt = await self.desk.submit_as_system(part, command, case_id, via="api")
        assert receipt.case is not None
        self.seen[case_id] = f'"{receipt.case.version}"'
        return receipt


class Person:
    def __init__(self, service: Service, token: str | None) -> None:
        self.service = service
        self.token = token

    async def get(self, path: str, **query: Any) -> Response:
        return await self.send("GET", path, params=query or None)

    async def post(
        self, path: str, body: object, *, if_match: str | None = LAST_SEEN, key: str | None = None
    ) -> Response:
        return await self.send("POST", path, body, if_match=if_match, key=key)

    async def put(self, path: str, body: object, *, if_match: str | None = LAST_SEEN) -> Response:
        return await self.send("PUT", path, body, if_match=if_match)

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        if_match: str | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Response:
        """`if_match` None sends none; a `body` of bytes is sent as it is."""
        sent = {"authorization": f"Bearer {self.token}"} if self.token is not None else {}
        case = CASE_PATH.match(path)
        if if_match == LAST_SEEN:
            if_match = self.service.seen.get(case[1]) if case else None
        sent |= {} if if_match is None else {"if-match": if_match}
        sent |= {} if key is None else {"idempotency-key": key}
        if body is not None:
            sent["content-type"] = "application/json"
            more["content"] = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = await self.service.client.request(method, path, headers=sent | dict(headers or {}), **more)
        self.remember(response, case[1] if case else None)
        return response

    def remember(self, response: Response, case_id: str | None) -> None:
        if response.is_success and case_id is None and (at := CASE_PATH.match(response.headers.get("location", ""))):
            case_id = at[1]
        if case_id is not None and "etag" in response.headers:
            self.service.seen[case_id] = response.headers["etag"]

    # What most tests begin with.

    async def open(self, **changes: Any) -> Json:
        """A case, as the answer shows it."""
        case: Json = done(await self.post("/v1/cases", an_inquiry(**changes)), 201)
        return case

    async def investigate(self, **changes: Any) -> Json:
        """A case that this person works on."""
        case = await self.open(**changes)
        moved: Json = done(await self.fire(case["id"], "investigate"))
        return moved

    async def fire(self, case_id: str, trigger: str, *, key: str | None = None, **data: Any) -> Response:
        body = {"trigger": trigger, "reason": "as agreed", **({"data": data} if data else {})}
        return await self.post(f"/v1/cases/{case_id}/transitions", body, key=key)

    async def read(self, case_id: str) -> Json:
        case: Json = done(await self.get(f"/v1/cases/{case_id}"))
        return case

    async def add(self, case_id: str, path: str, **body: Any) -> Json:
        """What a POST below the case has made."""
        made: Json = done(await self.post(f"/v1/cases/{case_id}/{path}", body), 201)
        return made


def done(response: Response, status: int = 200) -> Any:
    """What a request that succeeds is answered with."""
    assert response.status_code == status, response.text
    return response.json()


def refused(response: Response, status: int, code: str) -> Json:
    """The problem that a request is refused with."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        response.text
    )
    problem: Json = response.json()
    assert (problem["status"], problem["code"]) == (status, code), problem
    assert problem["type"] == f"urn:casework:problem:{code}"
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


def reasons(response: Response) -> list[str]:
    """Why the guards say no."""
    return sorted(one["code"] for one in refused(response, 409, "guard_refused")["refusals"])


def wrong_fields(response: Response) -> list[str]:
    problem = refused(response, 422, "invalid")
    assert all(one["message"] for one in problem["errors"])
    return [one["field"] for one in problem["errors"]]


def euros(amount: str) -> Json:
    return {"amount": amount, "currency": "EUR"}


def day(days: float) -> str:
    """So many days after noon of the day at which the tests' clock stands, or before it."""
    return (NOON + timedelta(days=days)).isoformat()


def a_purchase(reference: str = "D-1", **changes: Any) -> Json:
    """Bought a month ago and delivered since, so that only grounds count (P6)."""
    purchase = {
        "reference": reference,
        "package": "launch",
        "paid": euros("2000.00"),
        "purchased_at": day(-30),
        "service_started_at": day(-28),
        "deliverables_provided_at": day(-20),
    }
    return purchase | changes


def a_fresh_purchase(reference: str = "D-1", **changes: Any) -> Json:
    """Bought two days ago, nothing delivered: the client may have all of it back (P5)."""
    fresh = {"purchased_at": day(-2), "service_started_at": None, "deliverables_provided_at": None}
    return a_purchase(reference, **(fresh | changes))


def an_inquiry(**changes: Any) -> Json:
    """Without a purchase, unless one is given."""
    inquiry = {
        "subject": "The banners",
        "message": "They never ran.",
        "client": {"name": "Una", "email": "una@example.com"},
        "category": "billing",
    }
    return inquiry | changes


# Starting.


def token_of(name: str) -> str:
    return f"cw_{name}-0123456789abcdefghijklmnopqrstuvwxyz"


async def prepare(url: str, timezone: str = "UTC", staff: tuple[Actor, ...] = STAFF) -> None:
    """Make the desk in a migrated database, with everybody at it; each can sign in with `token_of` their name."""
    database = open_database(url)
    await database.run(partial(ensure_desk, timezone=timezone, now=NOON))
    desk = Desk(Settings.model_validate(SETTINGS), database, Clock())
    await desk.open()
    for one in staff:
        added = AddPerson(
            person_id=one.id, email=f"{one.id}@step-into.example", name=one.id.title(), roles=in_order(one.roles)
        )
        token, _ = new_token(one.id, token_id=f"token-{one.id}", secret=token_of(one.id))
        for command in (added, token):
            await desk.submit_as_system("operator", command, via="cli", admin=True)
    await desk.close()


@asynccontextmanager
async def running(url: str, clock: Clock, **settings: Any) -> AsyncIterator[Service]:
    """One process of the service; several may run over one database."""
    chosen = Settings.model_validate(SETTINGS | settings)
    desk = Desk(chosen, open_database(url), clock)
    app = SPARE_APPS.pop() if SPARE_APPS else create_app(chosen, desk)
    app.state.desk = desk
    await desk.open()
    try:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=ADDRESS) as client:
            yield Service(app, desk, client, clock)
    finally:
        await desk.close()
        SPARE_APPS.append(app)


# Making one takes FastAPI a third of a second, and all that it keeps is which desk it serves.
SPARE_APPS: list[FastAPI] = []
ADDRESS = "http://desk.example"


def in_roles(role: Role, *more: Role) -> tuple[Actor, ...]:
    """STAFF, where whoever holds `role` holds more roles besides."""
    return tuple(
        Actor(kind=one.kind, id=one.id, roles=one.roles | set(more)) if role in one.roles else one for one in STAFF
    )
