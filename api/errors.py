"""Turns facts into answers: one table of errors and their statuses, one shape (RFC 9457) for all of them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NotRequired

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from api.payments import LookupRefused, NotSigned, ProviderSilent
from storage.journal import CannotErase
from storage.keys import CannotSign
from storage.ledger import KeyInFlight
from storage.submissions import DuplicateMail, KeyReused, OutcomeUnknown, Unauthorized, Unavailable
from storage.tree import BrokenTree
from workflow.errors import (
    BadInput,
    BrokenHistory,
    CaseworkError,
    Forbidden,
    GuardRefused,
    NoSuchTransition,
    NotFound,
    PurchaseDiffers,
    Refusal,
    Refused,
    StaleVersion,
    WrongDigest,
)
from workflow.roles import Role
from workflow.states import Trigger

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2


class FieldProblem(TypedDict):
    field: str
    message: str


class RefusalBody(TypedDict):
    code: str
    text: str
    clause: str | None
    who: list[Role]


class Problem(TypedDict):
    """RFC 9457. `code` is stable; the rest is there where it applies."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: NotRequired[list[FieldProblem]]
    refusals: NotRequired[list[RefusalBody]]
    allowed: NotRequired[list[Trigger]]
    current_version: NotRequired[int]
    events_since: NotRequired[list[str]]


class HttpProblem(Exception):
    """A fact about the request itself rather than about a case."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})


class PreconditionRequired(CaseworkError):
    """The request would change a case and does not say which version it has seen."""


class Stale(CaseworkError):
    """`StaleVersion` with what happened since the version that the caller had seen."""

    def __init__(self, current: int, events_since: list[str]) -> None:
        super().__init__(f"the case is at version {current} now")
        self.current = current
        self.events_since = events_since


# Status, code and title of every error, most special first.
STATUSES: tuple[tuple[type[Exception], int, str, str], ...] = (
    (NotSigned, 400, "not_signed", "Not signed by whom it should be"),
    (Unauthorized, 401, "unauthorized", "Sign in first"),
    (NotFound, 404, "not_found", "Not found"),
    (Forbidden, 403, "forbidden", "Not for this role"),
    (PreconditionRequired, 428, "precondition_required", "If-Match is missing"),
    (Stale, 412, "stale_version", "The case has changed"),
    (StaleVersion, 412, "stale_version", "The case has changed"),
    (KeyReused, 422, "idempotency_key_reused", "This idempotency key was used for another request"),
    (BadInput, 422, "invalid", "Some fields make no sense"),
    (NoSuchTransition, 409, "no_such_transition", "The case is in another state"),
    (WrongDigest, 409, "wrong_digest", "The proposal is another one"),
    (GuardRefused, 409, "guard_refused", "Not yet"),
    (PurchaseDiffers, 409, "purchase_differs", "The desk knows this purchase with other facts"),
    (KeyInFlight, 409, "idempotency_key_in_flight", "The same request is being carried out"),
    (DuplicateMail, 409, "duplicate_mail", "This mail has arrived before"),
    (OutcomeUnknown, 503, "outcome_unknown", "It is not known whether the change was made"),
    (Unavailable, 503, "unavailable", "The desk cannot do this now"),
    (ProviderSilent, 503, "provider_silent", "The payment provider gives no answer"),
    (LookupRefused, 503, "payment_not_shown", "The payment provider does not show a payment"),
    (CannotSign, 503, "cannot_sign", "The log cannot be signed now"),
    (CannotErase, 503, "cannot_erase", "Nothing can be erased now"),
    (BrokenHistory, 503, "broken_log", "The log is not as it was written"),
    (BrokenTree, 503, "broken_log", "The log is not as it was written"),
)

# What is said of a request that reaches no command, by the status that goes with it.
REQUEST_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    500: "internal",
}
CODES = {code: status for _, status, code, _ in STATUSES} | {code: status for status, code in REQUEST_CODES.items()}
"""Every code that a problem can have, and its status."""

DETAILS: dict[type[Exception], str] = {
    Unauthorized: "a valid bearer token is needed",
    PreconditionRequired: 'send If-Match with the ETag of the case you have seen, such as "7"',
    KeyReused: "use a new key for a new request",
    KeyInFlight: "wait for the first answer, then repeat the request with the same key",
    CannotSign: "whoever runs the desk has to look into it: /readyz and its log say why",
    CannotErase: "whoever runs the desk has to look into it: /readyz and its log say why",
    BrokenHistory: "whoever runs the desk has to look into it: casework verify says what was altered",
    BrokenTree: "whoever runs the desk has to look into it: casework verify says what was altered",
    Unavailable: "nothing was changed; try again in a moment",
    OutcomeUnknown: "repeat the request with the same idempotency key, or read the case, before doing it again",
}


def problem_of(failure: Exception, request_id: str) -> tuple[Problem, dict[str, str]]:
    """The answer to a failure, and the headers that go with it."""
    if isinstance(failure, HttpProblem):
        title = failure.code.replace("_", " ").capitalize()
        return problem(failure.status, failure.code, title, failure.detail, request_id), failure.headers
    for kind, status, code, title in STATUSES:
        if isinstance(failure, kind):
            body = problem(status, code, title, DETAILS.get(kind) or str(failure), request_id)
            add_facts(body, failure)
            return body, headers_of(status)
    body = problem(
        500, "internal", "Something went wrong on our side", "it has been logged with this request id", request_id
    )
    return body, {}


def problem(status: int, code: str, title: str, detail: str, request_id: str) -> Problem:
    return {
        "type": f"urn:casework:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }


def add_facts(body: Problem, failure: Exception) -> None:
    if isinstance(failure, BadInput):
        body["errors"] = [{"field": one.field, "message": one.message} for one in failure.errors]
    if isinstance(failure, PurchaseDiffers):
        body["errors"] = [{"field": f"{failure.at}{field}", "message": "differs"} for field in failure.fields]
    if isinstance(failure, Refused):
        body["refusals"] = [refusal_body(one) for one in failure.refusals]
    if isinstance(failure, NoSuchTransition):
        body["allowed"] = list(failure.allowed)
    if isinstance(failure, Stale | StaleVersion):
        body["current_version"] = failure.current
    if isinstance(failure, Stale):
        body["events_since"] = failure.events_since


def refusal_body(one: Refusal) -> RefusalBody:
    return {"code": one.code, "text": one.text, "clause": one.clause, "who": list(one.who)}


def documented_header(name: str, description: str) -> dict[str, Any]:
    return {name: {"description": description, "schema": {"type": "string"}}}


HEADERS_OF = {
    401: documented_header("WWW-Authenticate", "How to sign in"),
    503: documented_header("Retry-After", "Seconds"),
}


def headers_of(status: int) -> dict[str, str]:
    if status == HTTPStatus.UNAUTHORIZED:
        return {"www-authenticate": 'Bearer realm="casework"'}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"retry-after": str(RETRY_SECONDS)}
    return {}


def respond(failure: Exception, request: Request) -> Response:
    body, headers = problem_of(failure, request.scope.get("request_id", ""))
    return Response(msgspec.json.encode(body), body["status"], headers, MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: what a route can answer besides success. Every one can answer 401, 403 and 503."""
    return documented_alone(401, 403, 503, *statuses)


def documented_alone(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """As `documented`, for a route that asks nobody who they are."""
    return {
        status: {
            "description": ", ".join(code for code, its_status in CODES.items() if its_status == status),
            **({"headers": HEADERS_OF[status]} if status in HEADERS_OF else {}),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses})
    }
