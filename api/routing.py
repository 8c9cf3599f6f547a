"""How an endpoint is reached: who asks, what they sent, and whether it makes sense, checked in one order for all.

Endpoints are declared as usual in FastAPI, so that OpenAPI is complete; `DeskRoute` then calls them directly with what
it has read, which is about three times as fast as the ordinary machinery.
"""

import hashlib
import inspect
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from fastapi import Depends, Header, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.desk import ANY_VERSION, Caller, Desk, versions_in
from api.errors import HttpProblem, PreconditionRequired, respond
from storage.submissions import Key
from workflow.commands import Command
from workflow.deciding import COMMAND_ROLES
from workflow.errors import BadInput, CaseworkError, FieldError, Forbidden, NotFound, Refusal, StaleVersion
from workflow.roles import Role, in_order
from workflow.states import Trigger

JSON = "application/json"
MAX_KEY_CHARACTERS = 255


class Answer(Response):
    """A body that is encoded already, or none."""

    def __init__(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(msgspec.json.encode(body), status, headers, JSON)


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold before an endpoint is reached: who may ever use it, and whether it needs If-Match."""

    roles: frozenset[Role]
    if_match: bool = False
    command: type[Command] | None = None


Endpoint = Callable[..., Coroutine[Any, Any, Response]]


def reads(roles: frozenset[Role]) -> Callable[[Endpoint], Endpoint]:
    return ruled(Rules(roles=roles))


def writes(command: type[Command], *, if_match: bool = False) -> Callable[[Endpoint], Endpoint]:
    """An endpoint that hands this command to the ledger; the command says who may."""
    return ruled(Rules(roles=COMMAND_ROLES[command], if_match=if_match, command=command))


def ruled(rules: Rules) -> Callable[[Endpoint], Endpoint]:
    def remember(endpoint: Endpoint) -> Endpoint:
        endpoint.rules = rules  # type: ignore[attr-defined]
        return endpoint

    return remember


class Call:
    """One request on its way to its endpoint."""

    __slots__ = ("caller", "desk", "expected", "key", "request")

    def __init__(self, request: Request, desk: Desk, caller: Caller) -> None:
        self.request = request
        self.desk = desk
        self.caller = caller
        self.expected: frozenset[int] | None = None
        self.key: Key | None = None

    @property
    def request_id(self) -> str:
        return str(self.request.scope["request_id"])

    @property
    def via(self) -> str:
        return "api"


def documented_read(
    _: Annotated[Any, Security(HTTPBearer(auto_error=False, description="`casework token create` prints one"))] = None,
) -> Call:
    """Only for OpenAPI; DeskRoute makes the call."""
    raise RuntimeError("DeskRoute makes the call")


def documented_write(
    _: Annotated[Any, Security(HTTPBearer(auto_error=False, description="`casework token create` prints one"))] = None,
    __: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            max_length=MAX_KEY_CHARACTERS,
            description="The same key and body again get the first answer, without a second effect, for 7 days",
        ),
    ] = None,
) -> Call:
    raise RuntimeError("DeskRoute makes the call")


def documented_change(
    _: Annotated[Any, Security(HTTPBearer(auto_error=False, description="`casework token create` prints one"))] = None,
    __: Annotated[
        str | None,
        Header(alias="If-Match", description='The ETag of the case you have seen, such as `"7"`; without it: 428'),
    ] = None,
    ___: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            max_length=MAX_KEY_CHARACTERS,
            description="The same key and body again get the first answer, without a second effect, for 7 days",
        ),
    ] = None,
) -> Call:
    raise RuntimeError("DeskRoute makes the call")


ReadCall = Annotated[Call, Depends(documented_read)]
WriteCall = Annotated[Call, Depends(documented_write)]
ChangeCall = Annotated[Call, Depends(documented_change)]


class DeskRoute(APIRoute):
    """Checks in the order 401, 413, 415, 404, 403, 428, 412, 422; the ledger does the rest and checks again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Endpoint = self.endpoint
        rules: Rules = endpoint.rules  # type: ignore[attr-defined]
        body_type, query_type = inputs_of(endpoint)
        body_reader = TypeAdapter(body_type) if body_type is not None else None
        query_reader = TypeAdapter(query_type) if query_type is not None else None

        async def handle(request: Request) -> Response:
            desk: Desk = request.app.state.desk
            try:
                caller = await desk.caller(request, fresh=rules.command is None)
                request.scope["actor"] = caller.actor.key
                call = Call(request, desk, caller)
                inputs: dict[str, Any] = dict(request.path_params)
                if any("\x00" in value for value in inputs.values()):
                    raise NotFound("such thing")
                errors: list[FieldError] = []
                raw = await read_body(request, desk.settings.max_body_bytes) if body_reader else b""
                if body_reader is not None:
                    inputs["body"] = read_json(body_reader, raw, errors)
                if query_reader is not None:
                    inputs["query"] = read_query(query_reader, request, errors)
                if rules.command is not None:
                    read_headers(call, rules, raw, errors)
                if errors or (rules.if_match and call.expected is None) or rules.command is None:
                    await check_first(call, rules, errors)
                return await endpoint(call, **inputs)
            except ClientDisconnect:
                return Response(status_code=400)
            except (CaseworkError, HttpProblem) as failure:
                return respond(await desk.explain(failure, request), request)

        return handle


def inputs_of(endpoint: Endpoint) -> tuple[Any, Any]:
    """The types of the endpoint's `body` and `query`, where it has them."""
    hints = get_type_hints(endpoint, include_extras=True)
    parameters = inspect.signature(endpoint).parameters
    found = []
    for name in ("body", "query"):
        hint = hints[name] if name in parameters else None
        found.append(get_args(hint)[0] if get_origin(hint) is Annotated and name == "query" else hint)
    return found[0], found[1]


async def check_first(call: Call, rules: Rules, errors: list[FieldError]) -> None:
    """What comes before a wrong body: a case that is not there, a role that may never, a version that is missing."""
    case_id = call.request.path_params.get("case_id")
    if case_id is not None and (errors or rules.command is not None):
        version = await call.desk.version_of(case_id)
        if version is None:
            raise NotFound("case")
    else:
        version = None
    if not call.caller.actor.may(rules.roles):
        await forbid(call, rules)
    if rules.if_match and call.expected is None and not any(error.field == "If-Match" for error in errors):
        raise PreconditionRequired
    if version is not None and rules.if_match and call.expected != ANY_VERSION and version not in (call.expected or ()):
        raise StaleVersion(version)
    if errors:
        raise BadInput(*errors)


async def forbid(call: Call, rules: Rules) -> None:
    who = in_order(rules.roles)
    refused = Forbidden(Refusal(code="role", text=f"this is for: {', '.join(who)}", who=who))
    await call.desk.record_refusal(call, refused.code)
    raise refused


async def read_body(request: Request, limit: int) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON and not kind.endswith("+json"):
        raise HttpProblem(415, "unsupported_media_type", "send application/json", {"accept": JSON})
    return await read_stream(request, limit)


async def read_stream(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared) > limit:
        raise HttpProblem(413, "too_large", f"at most {limit} bytes")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise HttpProblem(413, "too_large", f"at most {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def read_json(reader: TypeAdapter[Any], raw: bytes, errors: list[FieldError]) -> Any:
    try:
        return reader.validate_json(raw)
    except ValidationError as invalid:
        errors.extend(field_errors(invalid))
    except BadInput as bad:
        errors.extend(bad.errors)
    return None


def read_query(reader: TypeAdapter[Any], request: Request, errors: list[FieldError]) -> Any:
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            errors.append(FieldError(field=name, message="is given twice"))
        given[name] = value
    try:
        return reader.validate_python(given)
    except ValidationError as invalid:
        errors.extend(field_errors(invalid))
    return None


def field_errors(invalid: ValidationError) -> list[FieldError]:
    """Pydantic's findings, each with the path of its field: `purchase.paid.amount`, `grounds[0].kind`."""
    found = []
    for error in invalid.errors(include_url=False, include_context=False, include_input=False):
        path = ""
        for place, part in enumerate(error["loc"]):
            if is_tag(part, place):
                continue
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        found.append(FieldError(field=path or "body", message=str(error["msg"]).removeprefix("Value error, ")))
    return found


def is_tag(part: int | str, place: int) -> bool:
    """Whether it names a variant that was tried rather than a field."""
    return isinstance(part, str) and (part.startswith("<") or (place == 0 and part in TRIGGERS))


TRIGGERS = frozenset(Trigger)


def read_headers(call: Call, rules: Rules, raw: bytes, errors: list[FieldError]) -> None:
    headers = call.request.headers
    if rules.if_match and (given := headers.get("if-match")) is not None:
        call.expected = versions_in(given)
    key = headers.get("idempotency-key")
    if key is not None and call.request.method == "POST":
        if not 0 < len(key) <= MAX_KEY_CHARACTERS or not key.isascii() or not key.isprintable():
            errors.append(FieldError(field="Idempotency-Key", message=f"1 to {MAX_KEY_CHARACTERS} printable characters"))
            return
        scope = f"{call.caller.actor.key}\n{call.request.method}\n{call.request.url.path}\n{key.strip(chr(34))}"
        call.key = Key(
            hash=hashlib.sha256(scope.encode()).hexdigest(),
            fingerprint=call.desk.fingerprint(raw),
        )
