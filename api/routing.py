"""How an endpoint is reached: who asks, what they sent, and whether it makes sense, checked in one order for all.

Endpoints are declared as usual in FastAPI, so that OpenAPI is complete; `DeskRoute` then calls them directly with what
it has read, which is about three times as fast as the ordinary machinery.
"""

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from functools import cached_property
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import structlog
from fastapi import Depends, Header, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from api import inputs as i
from api.desk import ANY_VERSION, Caller, Desk, versions_in
from api.errors import HttpProblem, PreconditionRequired, respond
from api.settings import Settings
from storage import auditing, cases, outbox, people, webhooks
from storage.submissions import Key, OutcomeUnknown, Unavailable
from storage.tree import BrokenTree
from workflow.cases import Case
from workflow.commands import Command
from workflow.deciding import COMMAND_ROLES
from workflow.desk import RecordRefusal
from workflow.errors import (
    BadInput,
    BrokenHistory,
    CaseworkError,
    FieldError,
    Forbidden,
    NotFound,
    Refusal,
    StaleVersion,
    bad_field,
)
from workflow.roles import Actor, Role, in_order
from workflow.states import Trigger

log = structlog.get_logger()

JSON = "application/json"
MAX_KEY_CHARACTERS = 255


class Answer(Response):
    """A body that is encoded already, or none."""

    def __init__(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(msgspec.json.encode(body), status, headers, JSON)


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold before an endpoint is reached: who may ever use it, and whether it needs If-Match.

    Where the settings open it to everybody, nobody is asked who they are.
    Where what was sent decides who may, `roles_for` says so of a body that may make no sense otherwise.
    """

    roles: frozenset[Role]
    is_open: Callable[[Settings], bool] = lambda _: False
    if_match: bool = False
    command: type[Command] | None = None
    roles_for: "RolesFor | None" = None


RolesFor = Callable[["Call", dict[str, Any]], Awaitable[frozenset[Role]]]
Endpoint = Callable[..., Coroutine[Any, Any, Response]]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def reads(
    roles: frozenset[Role], is_open: Callable[[Settings], bool] = lambda _: False
) -> Callable[[Endpoint], Endpoint]:
    return ruled(Rules(roles=roles, is_open=is_open))


def writes(
    command: type[Command], *, if_match: bool = False, roles_for: RolesFor | None = None
) -> Callable[[Endpoint], Endpoint]:
    """An endpoint that hands this command to the ledger; the command says who may."""
    return ruled(Rules(roles=COMMAND_ROLES[command], if_match=if_match, command=command, roles_for=roles_for))


def ruled(rules: Rules) -> Callable[[Endpoint], Endpoint]:
    def remember(endpoint: Endpoint) -> Endpoint:
        endpoint.rules = rules  # type: ignore[attr-defined]
        return endpoint

    return remember


class Call:
    """One request on its way to its endpoint."""

    __slots__ = ("caller", "carried_out", "desk", "expected", "key", "key_scope", "raw", "request")

    def __init__(self, request: Request, desk: Desk, caller: Caller) -> None:
        self.request = request
        self.desk = desk
        self.caller = caller
        self.raw = b""
        self.expected: frozenset[int] | None = None
        self.key: Key | None = None
        self.key_scope = ""
        self.carried_out = False  # whether the ledger has made the change

    @property
    def request_id(self) -> str:
        return str(self.request.scope["request_id"])

    def take_key(self, body: bytes) -> None:
        """Say what was sent under the key, if there is one."""
        if self.key_scope:
            scope = hashlib.sha256(self.key_scope.encode()).hexdigest()
            self.key = Key(hash=scope, fingerprint=self.desk.fingerprint(body))

    @property
    def via(self) -> str:
        return "api"


# Declared for OpenAPI only: DeskRoute reads the headers and makes the call.

BEARER = Security(HTTPBearer(auto_error=False, description="`casework token create` prints one"))
SEEN = Header(alias="If-Match", description='The ETag of the case you have seen, such as `"7"`; without it: 428')
KEY = Header(
    alias="Idempotency-Key",
    min_length=1,
    max_length=MAX_KEY_CHARACTERS,
    description="The same key and body again get the first answer, without a second effect, for 7 days",
)


def documented_call(_: Annotated[Any, BEARER] = None) -> None:
    """For reading, and for writing what may be written again."""


def documented_message() -> None:
    """For what another system tells, which signs it instead."""


def documented_write(_: Annotated[Any, BEARER] = None, __: Annotated[str | None, KEY] = None) -> None:
    """For making something."""


def documented_replacement(__: Annotated[str, SEEN], _: Annotated[Any, BEARER] = None) -> None:
    """For replacing a fact of a case that the caller has seen."""


def documented_change(
    __: Annotated[str, SEEN], _: Annotated[Any, BEARER] = None, ___: Annotated[str | None, KEY] = None
) -> None:
    """For moving a case that the caller has seen."""


ReadCall = Annotated[Call, Depends(documented_call)]
SignedCall = Annotated[Call, Depends(documented_message)]
PutCall = Annotated[Call, Depends(documented_call)]
WriteCall = Annotated[Call, Depends(documented_write)]  # takes an Idempotency-Key
ReplaceCall = Annotated[Call, Depends(documented_replacement)]  # needs If-Match
ChangeCall = Annotated[Call, Depends(documented_change)]  # needs If-Match, takes an Idempotency-Key


class DeskRoute(APIRoute):
    """Faults are told in the order 401, 404, 403, 428, 412, 422 (with 413 and 415), 409, wherever they are found.

    What FastAPI makes of a declaration is made when the document is asked for: a service that starts needs none of it.
    """

    def __init__(self, path: str, endpoint: Endpoint, *, methods: Collection[str], **documentation: Any) -> None:
        Route.__init__(self, path, endpoint)
        self.app = request_response(self.answer)
        self.methods = set(methods)
        self.documentation = documentation

    def documented(self) -> APIRoute:
        return APIRoute(self.path, self.endpoint, methods=self.methods, **self.documentation)

    async def answer(self, request: Request) -> Response:
        return await self.handler(request)

    @cached_property
    def handler(self) -> Handler:
        endpoint: Endpoint = self.endpoint
        rules: Rules = endpoint.rules  # type: ignore[attr-defined]
        body_type, query_type = inputs_of(endpoint)
        body_reader = TypeAdapter(body_type) if body_type is not None else None
        query_reader = TypeAdapter(query_type) if query_type is not None else None

        async def handle(request: Request) -> Response:
            desk: Desk = request.app.state.desk
            try:
                caller = await caller_of(desk, request, rules, fresh=rules.command is None)
                request.scope["actor"] = caller.actor.key
                call = Call(request, desk, caller)
                inputs: dict[str, Any] = dict(request.path_params)
                if any("\x00" in value for value in inputs.values()):
                    raise NotFound("thing")
                try:
                    if body_reader is not None:
                        inputs["body"] = await read_body(call, body_reader)
                    if query_reader is not None:
                        inputs["query"] = read_query(query_reader, request)
                    if rules.command is not None:
                        read_headers(call, rules)
                    if not caller.actor.may(rules.roles):
                        await refuse_earlier(call, rules)
                    return await endpoint(call, **inputs)
                except (BadInput, HttpProblem, PreconditionRequired):
                    await refuse_earlier(call, rules)
                    raise
                except Unavailable as away:
                    if call.carried_out:  # only the answer could not be made
                        raise OutcomeUnknown from away
                    raise
            except ClientDisconnect:
                return Response(status_code=400)
            except (CaseworkError, HttpProblem) as failure:
                return await answer_failure(desk, failure, request)

        return handle


class PageRoute(Route):
    """What is not of the API: called with the request as it came, and not in its document."""

    def __init__(self, path: str, handler: Handler, method: str) -> None:
        super().__init__(path, handler, methods=[method], include_in_schema=False)
        self.handler = handler


class DirectRoutes:
    """Answers the desk's own routes; whatever is none of them goes on to FastAPI's stack of middleware and routers.

    That stack costs more than a small request itself, and all it would do for these routes `DeskRoute` does.
    """

    def __init__(self, app: ASGIApp, owner: Starlette) -> None:
        self.app = app
        self.owner = owner  # the app that handlers ask for its state
        self.table: dict[tuple[str, int], list[DeskRoute | PageRoute]] = {}

    def add(self, routes: Iterable[BaseRoute]) -> None:
        for route in routes:
            if isinstance(route, DeskRoute | PageRoute):
                for method in route.methods or ():
                    self.table.setdefault((method, route.path.count("/")), []).append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        for route in self.table.get((scope["method"], path.count("/")), ()):
            if (match := route.path_regex.match(path)) is not None:
                scope["app"], scope["route"], scope["path_params"] = self.owner, route, match.groupdict()
                response = await route.handler(Request(scope, receive))
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


def inputs_of(endpoint: Endpoint) -> tuple[Any, Any]:
    """The types of the endpoint's `body` and `query`, where it has them."""
    hints = get_type_hints(endpoint, include_extras=True)
    parameters = inspect.signature(endpoint).parameters
    found = []
    for name in ("body", "query"):
        hint = hints[name] if name in parameters else None
        found.append(get_args(hint)[0] if get_origin(hint) is Annotated and name == "query" else hint)
    return found[0], found[1]


async def caller_of(desk: Desk, request: Request, rules: Rules, *, fresh: bool) -> Caller:
    """Raises Unauthorized."""
    if rules.is_open(desk.settings):
        return Caller(actor=Actor(kind="client", id="anybody", roles=rules.roles))
    return await desk.caller(request, fresh=fresh)


async def refuse_earlier(call: Call, rules: Rules) -> None:
    """Raise whichever fault of the request comes before the one that was found."""
    desk, request = call.desk, call.request
    call.caller = await caller_of(desk, request, rules, fresh=True)
    version = await version_of_target(call)
    roles = rules.roles
    if rules.roles_for is not None:
        roles = await rules.roles_for(call, as_object(call.raw))
    if not call.caller.actor.may(roles):
        await forbid(call, rules, roles, version)
    if rules.if_match and version is not None and not expected_versions(request) & {version, *ANY_VERSION}:
        raise StaleVersion(version)


PARTS: dict[str, Callable[[Case, str], bool]] = {
    "proposal": lambda case, part: case.proposal(part) is not None,
    "ground": lambda case, part: case.ground(part) is not None,
    "message": lambda case, part: part in {f"m{seq}" for seq in case.client_messages},
    "link": lambda case, part: case.client_link(part) is not None,
}


async def version_of_target(call: Call) -> int | None:
    """The version of the case that the path names, if it names one. Raises NotFound if anything it names is not."""
    path, database = call.request.path_params, call.desk.database
    if (person_id := path.get("person_id")) is not None:
        person = await people.one(database, person_id)
        if person is None:
            raise NotFound("person")
        if "token_id" in path and path["token_id"] not in {one.id for one in person.tokens}:
            raise NotFound("token")
    if (number := path.get("delivery_id")) is not None and await outbox.one(database, number) is None:
        raise NotFound("delivery")
    if (webhook := path.get("webhook_id")) is not None and (await webhooks.endpoints(database)).one(webhook) is None:
        raise NotFound("webhook")
    if (case_id := path.get("case_id")) is None:
        return None
    entry = await cases.one(database, case_id)
    if entry is None:
        raise NotFound("case")
    for what, is_there in PARTS.items():
        if (part := path.get(f"{what}_id")) is not None and not is_there(entry.case, part):
            raise NotFound(what)
    if (file := path.get("attachment_id")) is not None and await cases.attachment(database, case_id, file) is None:
        raise NotFound("attachment")
    if (finding := path.get("finding_id")) is not None and await auditing.finding(database, case_id, finding) is None:
        raise NotFound("finding")
    return entry.case.version


def as_object(raw: bytes) -> dict[str, Any]:
    """As much of the body as can be read."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


async def forbid(call: Call, rules: Rules, roles: frozenset[Role], version: int | None) -> None:
    who = in_order(roles)
    refused = Forbidden(Refusal(code="role", text=f"this is for: {', '.join(who)}", who=who))
    path = getattr(call.request.scope.get("route"), "path", "")
    trigger = as_object(call.raw).get("trigger")
    await call.desk.record_refusal(
        call,
        RecordRefusal(
            code=refused.code,
            attempted=rules.command.__name__ if rules.command else f"{call.request.method} {path}",
            case=call.request.path_params.get("case_id"),
            version=version,
            trigger=Trigger(trigger) if isinstance(trigger, str) and trigger in TRIGGERS else None,
            refusals=tuple(refused.codes),
        ),
    )
    raise refused


async def answer_failure(desk: Desk, failure: Exception, request: Request) -> Response:
    """The problem, with the current version of the case that it is about."""
    case_id = request.path_params.get("case_id")
    if isinstance(failure, BrokenHistory | BrokenTree):
        log.error("log_is_broken", request_id=request.scope["request_id"], failure=str(failure))
    try:
        response = respond(await desk.explain(failure, request), request)
        if case_id is not None and response.status_code in TELLS_VERSION:
            version = await desk.version_of(case_id)
            if version is not None:
                response.headers["etag"] = f'"{version}"'
    except Unavailable as away:
        return respond(away, request)
    return response


TELLS_VERSION = frozenset({403, 409, 412, 413, 415, 422, 428})


def read_headers(call: Call, rules: Rules) -> None:
    """Raises PreconditionRequired, or BadInput naming the header."""
    if rules.if_match:
        call.expected = expected_versions(call.request)
    key = call.request.headers.get("idempotency-key")
    if key is None or call.request.method != "POST":
        return
    key = key.strip().strip('"')
    if not 0 < len(key) <= MAX_KEY_CHARACTERS or not key.isascii() or not key.isprintable():
        raise bad_field("Idempotency-Key", f"has to be 1 to {MAX_KEY_CHARACTERS} printable ASCII characters")
    call.key_scope = f"{call.caller.actor.key}\n{call.request.method}\n{call.request.scope['path']}\n{key}"
    call.take_key(call.raw)


def expected_versions(request: Request) -> frozenset[int]:
    """Raises PreconditionRequired where the request does not say what it has seen."""
    given = request.headers.getlist("if-match")
    if not given:
        raise PreconditionRequired
    return versions_in(", ".join(given))


async def read_body(call: Call, reader: TypeAdapter[Any]) -> Any:
    """Raises HttpProblem, or BadInput naming each wrong field."""
    kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    call.raw = await read_stream(call.request, call.desk.settings.max_body_bytes)
    if kind != JSON and not kind.endswith("+json") and (kind or call.raw):
        raise HttpProblem(415, "unsupported_media_type", "send application/json", {"accept": JSON})
    try:
        return reader.validate_json(call.raw)
    except ValidationError as invalid:
        raise BadInput(*field_errors(invalid)) from invalid


async def read_stream(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and (len(declared) > MAX_LENGTH_DIGITS or int(declared) > limit):
        raise HttpProblem(413, "too_large", f"at most {limit} bytes")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise HttpProblem(413, "too_large", f"at most {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


MAX_LENGTH_DIGITS = 15


def read_query(reader: TypeAdapter[Any], request: Request) -> Any:
    """Raises BadInput naming each wrong parameter."""
    given: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, value in request.query_params.multi_items():
        if name in given:
            errors.append(FieldError(field=name, message="is given twice"))
        given[name] = value
    try:
        query = reader.validate_python(given)
    except ValidationError as invalid:
        raise BadInput(*errors, *field_errors(invalid)) from invalid
    if errors:
        raise BadInput(*errors)
    return query


def field_errors(invalid: ValidationError) -> list[FieldError]:
    """Pydantic's findings, each with the path of its field: `purchase.paid.amount`, `grounds[0].kind`."""
    found = []
    for error in invalid.errors(include_url=False, include_context=False, include_input=False):
        path = ""
        where = (*error["loc"], "trigger") if error["type"] in NO_VARIANT else error["loc"]
        for place, part in enumerate(where):
            if place < len(where) - 1 and part in TAGS:
                continue  # names a variant that was tried rather than a field
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        found.append(FieldError(field=path or "body", message=str(error["msg"]).removeprefix("Value error, ")))
    return found


TRIGGERS = frozenset(Trigger)
TAGS = TRIGGERS | i.PURCHASE_FORMS
NO_VARIANT = frozenset({"union_tag_invalid", "union_tag_not_found"})  # the trigger is what tells variants apart
