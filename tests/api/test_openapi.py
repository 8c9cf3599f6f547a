"""What OpenAPI says is what the service does: every operation tried with what fits and what does not."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from copy import deepcopy
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from api.app import create_app
from api.errors import CODES
from api.settings import Settings
from storage.keys import ensure_key
from storage.submissions import Submission
from tests.api.driving import SETTINGS, Clock, Json, Service, euros, prepare, running, token_of
from tests.api.routes import ROUTES, SIGNED, furnish, served
from tests.databases import copy_sqlite
from tests.workflow.builders import AUDREY, MAIL, STAFF, a_purchase, an_opening
from workflow import commands as c
from workflow.cases import NewAttachment
from workflow.events import Severity
from workflow.findings import OpenFinding
from workflow.policy import Category, ClauseId, GroundKind, ReasonCode, Refund
from workflow.roles import STAFF_ROLES, Actor, Role
from workflow.states import (
    CaseState,
    CompensationKind,
    Direction,
    LinkKind,
    ProposalStatus,
    RemedyKind,
    Resolution,
    ResumeReason,
    Trigger,
    Verdict,
)

DOCUMENT: Json = create_app(Settings.model_validate(SETTINGS | {"database_url": "sqlite:///nowhere.db"})).openapi()


def operations() -> Iterator[tuple[str, Json]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


# What is written down.


def test_the_document_is_of_the_version_that_clients_expect_and_tells_of_every_route() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert dict(operations()).keys() == ROUTES.keys() == served().keys()
    assert len({operation["operationId"] for _, operation in operations()}) == len(ROUTES)
    assert all(operation["summary"] and operation["description"] for _, operation in operations())


def test_every_route_tells_every_error_that_it_can_give() -> None:
    for name, operation in operations():
        told = {int(status) for status in operation["responses"] if int(status) >= 400}
        assert told == errors_of(name), name


def errors_of(name: str) -> set[int]:
    """By what the route takes."""
    method, _, path = name.partition(" ")
    route = served()[name]
    rules: Any = getattr(route.endpoint, "rules", None)
    if rules is None:
        return {503} if path == "/readyz" else set()
    if ROUTES[name] is SIGNED:
        return {400, 404, 413, 503} | ({409, 422} if path.endswith("/confirmations") else set())
    errors = {401, 403, 503}
    if "{" in path or path == "/audit/checkpoint":
        errors |= {404}
    takes_body = method in {"POST", "PUT"}
    if takes_body:
        errors |= {413, 415, 422}
    if "query" in route.endpoint.__annotations__:
        errors |= {422}
    if rules.if_match:
        errors |= {412, 428}
    if rules.command is not None:
        errors |= {409}
    return errors


def test_every_error_has_the_one_shape_and_names_its_codes() -> None:
    for _, operation in operations():
        for status, answer in operation["responses"].items():
            if int(status) < 400 or "application/problem+json" not in answer["content"]:
                continue
            assert answer["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }
            codes = {code for code, its_status in CODES.items() if its_status == int(status)}
            assert set(answer["description"].split(", ")) == codes


# Where the words of the lifecycle stand in answers and requests.
ENUMS: dict[str, tuple[type[Any], ...]] = {
    "CaseState": (CaseState,),
    "Trigger": (Trigger,),
    "Role": (Role,),
    "Category": (Category,),
    "GroundKind": (GroundKind,),
    "Resolution": (Resolution,),
    "ResumeReason": (ResumeReason,),
    "CompensationKind": (CompensationKind,),
    "Direction": (Direction,),
    "LinkKind": (LinkKind,),
    "ProposalStatus": (ProposalStatus,),
    "RemedyKind": (RemedyKind,),
    "Verdict": (Verdict,),
    "ReasonCode": (ReasonCode,),
    "Refund": (Refund,),
    "ClauseId": (ClauseId,),
}


@pytest.mark.parametrize("name", ENUMS)
def test_the_document_uses_the_words_of_the_lifecycle_and_no_others(name: str) -> None:
    (words,) = ENUMS[name]

    assert DOCUMENT["components"]["schemas"][name]["enum"] == [one.value for one in words]


def refers_to(schema: Json, name: str) -> bool:
    return f"'#/components/schemas/{name}'" in str(schema)


def test_answers_are_made_of_these_words() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for view, fields in {
        "CaseView": {"state": "CaseState", "category": "Category", "resolution": "Resolution"},
        "ListedCaseView": {"state": "CaseState", "category": "Category"},
        "PermissionView": {"trigger": "Trigger", "target": "CaseState"},
        "RefusalBody": {"who": "Role"},
        "ProposalView": {"status": "ProposalStatus", "remedy": "RemedyKind", "kind": "CompensationKind"},
        "GroundView": {"kind": "GroundKind"},
        "PersonView": {"roles": "Role"},
        "Problem": {"allowed": "Trigger"},
        "DecisionView": {"refund": "Refund", "clauses": "ClauseId"},
        "ReasonView": {"code": "ReasonCode"},
    }.items():
        for field, name in fields.items():
            assert refers_to(schemas[view]["properties"][field], name), (view, field)
    assert schemas["Problem"]["properties"]["code"]["enum"] == sorted(CODES)


def test_each_trigger_is_documented_with_its_own_data() -> None:
    body = DOCUMENT["paths"]["/v1/cases/{case_id}/transitions"]["post"]["requestBody"]["content"]["application/json"]

    assert set(body["schema"]["discriminator"]["mapping"]) == {one.value for one in Trigger}


# What is done.

ZOE = Actor(kind="person", id="zoe", roles=frozenset(STAFF_ROLES))  # may do everything
CASES = tuple("ABCDEFGHIJKL")

# What paths and bodies can refer to: each of the cases is furnished alike.
KNOWN: dict[str, list[str]] = {
    "case_id": [*CASES],
    "ground_id": ["g5"],
    "proposal_id": ["p7", "p9"],
    "message_id": ["m1"],
    "seq": ["3", "7"],
    "attachment_id": ["file-A"],
    "person_id": ["bo"],
    "token_id": ["token-bo"],
    "tile": ["0/000.p/1", "entries/000.p/9"],
    "finding_id": ["found"],
}
REFERENCES = {
    ("RefundDataIn", "proposal"): "proposal_id",
    ("IssueCompensationDataIn", "proposal"): "proposal_id",
    ("AssigneeIn", "assignee"): "person_id",
    ("InvestigateDataIn", "assignee"): "person_id",
    ("LinkIn", "case"): "case_id",
}


def with_known_references() -> Json:
    """The document, where whatever refers to something names what is there."""
    document = deepcopy(DOCUMENT)
    for path, methods in document["paths"].items():
        known = KNOWN | ({"case_id": ["A"]} if "{attachment_id}" in path or "{finding_id}" in path else {})
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in known:
                    parameter["schema"] = {"type": "string", "enum": known[parameter["name"]]}
                if parameter["name"] == "If-Match":
                    parameter["schema"] = {"type": "string", "enum": ["*"]}
    for (schema, field), name in REFERENCES.items():
        fields = document["components"]["schemas"][schema]["properties"]
        fields[field] = {"enum": [*KNOWN[name], *([None] if "null" in str(fields[field]) else [])]}
    return document


async def furnish_all(service: Service) -> None:
    for case_id in CASES:
        purchase = a_purchase(reference=f"D-{case_id}")
        file = NewAttachment(id=f"file-{case_id}", name="a.txt", content_type="text/plain", content=b"evidence")
        opening = an_opening(case_id, purchase=purchase)
        await service.desk.ledger.submit(Submission(command=opening, actor=MAIL, via="mail", request="r"))
        await service.ana.read(case_id)
        await furnish(service, case_id)
        verdict = {"verdict": "approve", "reason": "due"}
        (refund,) = (await service.cleo.read(case_id))["proposals"]
        await service.cleo.add(case_id, "proposals/p7/verdicts", digest=refund["digest"], **verdict)
        credit = {"remedy": "compensation", "kind": "discount", "amount": euros("5.00"), "reason": "sorry"}
        proposal = await service.ana.add(case_id, "proposals", **credit)
        await service.cleo.add(case_id, "proposals/p9/verdicts", digest=proposal["digest"], **verdict)
        await service.as_system("mail", c.AddAttachment(attachment=file), case_id)
    found = OpenFinding(finding_id="found", seq=1, event="its hash", severity=Severity.MINOR, text="why?")
    await service.desk.ledger.submit(
        Submission(command=found, actor=AUDREY, via="api", request="r", case_id="A", token="token-audrey")
    )
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    await service.desk.sequencer.settle()


Message = MutableMapping[str, Any]


class Relay:
    """The service on an event loop of its own, for a client that has another for each request."""

    loop: asyncio.AbstractEventLoop
    app: Any

    @contextlib.contextmanager
    def over(self, url: str, keys: Path) -> Iterator[None]:
        """Serve what is at `url`, furnished."""
        self.loop = asyncio.new_event_loop()
        thread = Thread(target=self.loop.run_forever)
        thread.start()
        stack = contextlib.AsyncExitStack()

        async def start() -> None:
            service = await stack.enter_async_context(running(url, Clock(), key_folder=keys))
            await furnish_all(service)
            service.desk.network.resolve = quad9
            self.app = service.app

        try:
            asyncio.run_coroutine_threadsafe(start(), self.loop).result()
            yield
        finally:
            asyncio.run_coroutine_threadsafe(stack.aclose(), self.loop).result()
            self.loop.call_soon_threadsafe(self.loop.stop)
            thread.join()
            self.loop.close()

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":  # the client's, which is as short as a request
            for _ in range(2):
                await send({"type": f"{(await receive())['type']}.complete"})
            return
        body, more = b"", True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        for message in await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.answer(scope, body), self.loop)):
            await send(message)

    async def answer(self, scope: Message, body: bytes) -> list[Message]:
        told: list[Message] = []
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if not unread:
                await asyncio.Event().wait()  # a client that stays says no more
            return unread.pop()

        async def send(message: Message) -> None:
            told.append(message)

        await self.app(dict(scope), receive, send)
        return told


async def quad9(_host: str, _port: int) -> list[str]:
    """Whatever is looked up; nobody is asked."""
    return ["9.9.9.9"]


RELAY = Relay()


@pytest.fixture(scope="module")
def relay(sqlite_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    folder = tmp_path_factory.mktemp("openapi")
    url = copy_sqlite(sqlite_template, folder / "desk.db")
    asyncio.run(prepare(url, staff=(*STAFF, ZOE)))
    with RELAY.over(url, folder):
        yield RELAY


# A request that fits can still meet a rule of casework (422), or a proposal that another has settled meanwhile (409).
ACCEPTED = ["2xx", 409, 422]
CONFIG = {
    "auth": {"openapi": {"HTTPBearer": {"bearer": token_of(ZOE.id)}}},
    "generation": {"max-examples": 20, "deterministic": True, "database": "none"},
    "operations": [
        {
            "include-path-regex": "revocation$|sample_id|webhook_id",  # made as it is asked for
            "checks": {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, 404]}},
        },
        {
            "include-path-regex": "payments/stripe$|confirmations$",  # nobody who could sign them is configured
            "checks": {"positive_data_acceptance": {"expected-statuses": [404]}},
        },
    ],
    "checks": {
        "positive_data_acceptance": {"expected-statuses": ACCEPTED},
        "negative_data_rejection": {"expected-statuses": [401, 404, 405, 409, 412, 413, 415, 422, 428]},
        "missing_required_header": {"expected-statuses": [401, 404, 428]},
    },
}
SCHEMA = schemathesis.openapi.from_dict(with_known_references(), config=SchemathesisConfig.from_dict(CONFIG))
SCHEMA.app = RELAY


@SCHEMA.parametrize()
@settings(suppress_health_check=list(HealthCheck), deadline=None)
@pytest.mark.usefixtures("relay")
def test_the_service_does_what_the_document_says(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate()
