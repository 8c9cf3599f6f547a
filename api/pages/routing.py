"""How a page is reached: by a session's cookie, with forms that only our own pages can send."""

import hmac
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter
from starlette.datastructures import FormData
from starlette.formparsers import FormParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from api.desk import Caller, Desk
from api.errors import HttpProblem, problem_of
from api.pages.rendering import page
from api.routing import Call, DeskRoute, Handler, read_stream
from storage import people
from storage.submissions import Unauthorized
from workflow.errors import CaseworkError, Forbidden, Refusal
from workflow.people import Person
from workflow.roles import EVERYONE, Role, TokenKind, in_order

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
FORM = "application/x-www-form-urlencoded"


class PageCall(Call):
    """One request for a page. `form` is what was sent, empty for GET; `person` who asks."""

    __slots__ = ("form", "person")

    def __init__(self, request: Request, desk: Desk, caller: Caller, person: Person) -> None:
        super().__init__(request, desk, caller)
        self.person = person
        self.form = FormData()

    @property
    def via(self) -> str:
        return "page"

    @property
    def csrf(self) -> str:
        return csrf_token(self.desk, self.caller.token or "")


def csrf_token(desk: Desk, session: str) -> str:
    """What a form of this session carries; nobody else can make it."""
    return hmac.digest(desk.secret, f"csrf {session}".encode(), "sha256").hex()


# Cookies.


def is_private(request: Request) -> bool:
    """Whether nobody can listen on the way: over TLS, or on this very machine."""
    return request.url.scheme == "https" or request.url.hostname in LOOPBACK


def cookie_name(request: Request) -> str:
    """With the prefix browsers take it over TLS alone, for this host alone; plain HTTP is for a desk at home."""
    return "__Host-casework" if request.url.scheme == "https" else "casework"


def set_cookie(response: Response, request: Request, secret: str, seconds: int) -> None:
    is_secure = request.url.scheme == "https"
    response.set_cookie(
        cookie_name(request), secret, max_age=seconds, path="/", secure=is_secure, httponly=True, samesite="lax"
    )


def clear_cookie(response: Response, request: Request) -> None:
    is_secure = request.url.scheme == "https"
    response.delete_cookie(cookie_name(request), path="/", secure=is_secure, httponly=True, samesite="lax")


# Who asks.


async def session_of(desk: Desk, request: Request) -> tuple[Caller, Person]:
    """By cookie; the ledger looks again at whatever is handed to it. Raises Unauthorized."""
    secret = request.cookies.get(cookie_name(request), "")
    found = await people.by_token(desk.database, people.secret_hash(secret)) if secret else None
    if found is None:
        raise Unauthorized
    person, token_id = found
    token = person.token(token_id)
    if token is None or token.kind is not TokenKind.SESSION or not person.may_act(token_id, desk.clock()):
        raise Unauthorized
    return Caller(actor=person.as_actor(), token=token_id), person


def from_elsewhere(request: Request) -> bool:
    """Whether another site's page sent this; browsers say where a form comes from."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc != request.url.netloc


async def read_form(request: Request, limit: int) -> FormData:
    """Raises HttpProblem."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise HttpProblem(415, "unsupported_media_type", "send a form", {"accept": FORM})
    octets = await read_stream(request, limit)

    async def stream() -> Any:
        yield octets
        yield b""

    return await FormParser(request.headers, stream()).parse()


# Routes.

Endpoint = Callable[..., Awaitable[Response]]
ROLES = "page_roles"


def shows(roles: frozenset[Role] = EVERYONE) -> Callable[[Endpoint], Endpoint]:
    """A page for people with one of these roles."""

    def remember(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, ROLES, roles)
        return endpoint

    return remember


class PageRoute(DeskRoute):
    """Signed out: to the sign-in page, and back afterwards. What goes wrong is a page as well."""

    def get_route_handler(self) -> Handler:
        endpoint: Any = self.endpoint
        roles: frozenset[Role] | None = getattr(endpoint, ROLES, None)

        async def handle(request: Request) -> Response:
            desk: Desk = request.app.state.desk
            try:
                if roles is None:
                    return await endpoint(desk, request, **request.path_params)
                caller, person = await session_of(desk, request)
                request.scope["actor"] = caller.actor.key
                call = PageCall(request, desk, caller, person)
                if request.method == "POST":
                    call.form = await read_form(request, desk.settings.max_body_bytes)
                    require_own(call)
                if not caller.actor.may(roles):
                    who = in_order(roles)
                    raise Forbidden(Refusal(code="role", text=f"this is for: {', '.join(who)}", who=who))
                return await endpoint(call, **request.path_params)
            except Unauthorized:
                return sign_in_first(request)
            except ClientDisconnect:
                return Response(status_code=400)
            except (CaseworkError, HttpProblem) as failure:
                return show_failure(failure, request)

        return handle


def require_own(call: PageCall) -> None:
    """Raises HttpProblem for a form that none of our pages of this session sent."""
    given = str(call.form.get("csrf", ""))
    if from_elsewhere(call.request) or not hmac.compare_digest(given.encode(), call.csrf.encode()):
        raise HttpProblem(403, "forbidden", "This form is too old, or was not sent by this desk. Go back and reload it.")


def sign_in_first(request: Request) -> Response:
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    wanted = f"?next={quote(target, safe='')}" if request.method == "GET" and target != "/" else ""
    return RedirectResponse(f"/sign-in{wanted}", HTTPStatus.SEE_OTHER)


def show_failure(failure: Exception, request: Request) -> Response:
    problem, headers = problem_of(failure, request.scope["request_id"])
    return page("failure.html", problem["status"], headers, problem=problem)


def page_router() -> APIRouter:
    return APIRouter(route_class=PageRoute, include_in_schema=False)
