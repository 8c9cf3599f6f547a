"""How a page is reached: by a session's cookie, with forms that only our own pages can send."""

import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import structlog
from starlette.datastructures import FormData
from starlette.formparsers import FormParser, MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from api.attachments import FORM as PARTS
from api.attachments import Upload, read_parts
from api.desk import Caller, Desk, versions_in
from api.errors import HttpProblem, problem_of
from api.pages.packing import pack
from api.pages.rendering import page
from api.routing import Call, Handler, PageRoute, read_stream
from api.settings import LOOPBACK
from storage import people
from storage.submissions import Unauthorized
from workflow.desk import RecordRefusal
from workflow.errors import CaseworkError, Forbidden, NotFound, Refusal, bad_field
from workflow.people import Person
from workflow.roles import Role, TokenKind, in_order

log = structlog.get_logger()

FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 20  # beside a file
EVENT_STREAM = "text/event-stream"
LOADED_AGAIN = "x-loaded-again"  # says an open page that was told of changes
TOKEN_BYTES = 32


class Visit:
    """One request for a page by somebody who need not be known. `form` is what was sent, empty for GET."""

    __slots__ = ("desk", "form", "request")

    def __init__(self, request: Request, desk: Desk) -> None:
        self.request = request
        self.desk = desk
        self.form = FormData()

    def field(self, name: str) -> str:
        return field_of(self.form, name)


class PageCall(Call):
    """One request for a page by `person`, who is signed in. `form` is what was sent, empty for GET; `upload` its file.

    What happened up to the position `since` is on the page that is made; an open page is told of the rest.
    A form says in `version` which version of its case was seen, and has a `key` of its own: sent twice, it is carried
    out once.
    """

    __slots__ = ("form", "person", "since", "upload")

    def __init__(self, request: Request, desk: Desk, caller: Caller, person: Person) -> None:
        super().__init__(request, desk, caller)
        self.person = person
        self.since = 0
        self.form = FormData()
        self.upload: Upload | None = None

    @property
    def via(self) -> str:
        return "page"

    @property
    def csrf(self) -> str:
        return csrf_token(self.desk, self.caller.token or "")

    def field(self, name: str) -> str:
        return field_of(self.form, name)

    def take_form(self, form: FormData, upload: Upload | None = None) -> None:
        """Raises HttpProblem for a form that none of our pages of this session sent."""
        self.form, self.upload = form, upload
        if from_elsewhere(self.request) or not is_token(self.field("csrf"), self.desk, self.caller.token or ""):
            raise HttpProblem(403, "forbidden", "This form is too old, or this desk did not send it. Reload its page.")
        if version := self.field("version"):
            self.expected = versions_in(f'"{version}"')
        if key := self.field("key"):
            self.key_scope = f"{self.caller.actor.key}\nPOST\n{self.request.scope['path']}\n{key}"
            sent = [(name, value) for name, value in form.multi_items() if isinstance(value, str) and name != "csrf"]
            self.take_key(msgspec.json.encode((sent, upload)))


def field_of(form: FormData, name: str) -> str:
    """What stands in a field, with plain line ends and without space around it; empty where there is none."""
    value = form.get(name)
    return value.replace("\r\n", "\n").strip() if isinstance(value, str) else ""


def csrf_token(desk: Desk, session: str) -> str:
    """What a form of this session carries; nobody else can make it. It looks different each time: see `padded_gzip`."""
    mask = secrets.token_bytes(TOKEN_BYTES)
    return (mask + masked(mask, session_token(desk, session))).hex()


def is_token(given: str, desk: Desk, session: str) -> bool:
    try:
        octets = bytes.fromhex(given)
    except ValueError:
        return False
    unmasked = masked(octets[:TOKEN_BYTES], octets[TOKEN_BYTES:])
    return len(octets) == 2 * TOKEN_BYTES and hmac.compare_digest(unmasked, session_token(desk, session))


def session_token(desk: Desk, session: str) -> bytes:
    return hmac.digest(desk.secret, f"csrf {session}".encode(), "sha256")


def masked(mask: bytes, token: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(mask, token, strict=False))


# Cookies.


def is_private(request: Request) -> bool:
    """Whether nobody can listen on the way: over TLS, or on this very machine."""
    return request.url.scheme == "https" or request.url.hostname in LOOPBACK


def cookie_name(request: Request) -> str:
    """With the prefix browsers take it over TLS alone, for this host alone; plain HTTP is for a desk at home."""
    return "__Host-casework" if request.url.scheme == "https" else "casework"


def address_of(call: "Visit | PageCall") -> str:
    """Where the desk is reached, for links that are handed on: as it is set, or as whoever asks has reached it."""
    return (call.desk.settings.public_url or str(call.request.base_url)).rstrip("/")


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
    if found is None or not found[0].may_use(found[1], TokenKind.SESSION, desk.clock()):
        raise Unauthorized
    person, token_id = found
    return Caller(actor=person.as_actor(), token=token_id), person


def from_elsewhere(request: Request) -> bool:
    """Whether another site's page sent this; browsers say where a form comes from."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc != request.url.netloc


def kind_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_form_or_parts(request: Request, desk: Desk) -> tuple[FormData, Upload | None]:
    """Raises HttpProblem or BadInput."""
    if kind_of(request) == PARTS:
        return await read_parts(request, desk.settings.max_attachment_bytes, fields=MOST_FIELDS)
    return await read_form(request, desk.settings.max_body_bytes), None


async def read_form(request: Request, limit: int) -> FormData:
    """Raises HttpProblem, and BadInput for what no database can hold."""
    if kind_of(request) != FORM:
        raise HttpProblem(415, "unsupported_media_type", "send a form", {"accept": FORM})
    octets = await read_stream(request, limit)

    async def stream() -> Any:
        yield octets
        yield b""

    try:
        form = await FormParser(request.headers, stream()).parse()
    except MultiPartException as too_much:
        raise HttpProblem(413, "too_large", too_much.message) from too_much
    for name, value in form.multi_items():
        if isinstance(value, str) and "\x00" in value:
            raise bad_field(name.replace("\x00", ""), "holds a NUL character")
    return form


# Routes.

Endpoint = Callable[..., Awaitable[Response]]


class Pages:
    """The pages of a module: `get` and `post` say who may see them; without roles, whoever comes."""

    def __init__(self) -> None:
        self.routes: list[PageRoute] = []

    def get(self, path: str, roles: frozenset[Role] | None = None) -> Callable[[Endpoint], Endpoint]:
        return self.add("GET", path, roles)

    def post(self, path: str, roles: frozenset[Role] | None = None) -> Callable[[Endpoint], Endpoint]:
        return self.add("POST", path, roles)

    def add(self, method: str, path: str, roles: frozenset[Role] | None) -> Callable[[Endpoint], Endpoint]:
        def declare(endpoint: Endpoint) -> Endpoint:
            self.routes.append(PageRoute(path, with_failures_shown(endpoint, roles), method))
            return endpoint

        return declare


def with_failures_shown(endpoint: Endpoint, roles: frozenset[Role] | None) -> Handler:
    """Signed out: to the sign-in page, and back afterwards. What goes wrong is a page as well."""

    async def handle(request: Request) -> Response:
        began = time.perf_counter()
        response = pack(await respond(request), request)
        if LOADED_AGAIN in request.headers and roles is not None and response.status_code == HTTPStatus.OK:
            request.app.state.desk.live.loaded(time.perf_counter() - began)
        return response

    async def respond(request: Request) -> Response:
        desk: Desk = request.app.state.desk
        try:
            call = await (visited(request, desk) if roles is None else signed_in(request, desk, roles))
            return await endpoint(call, **request.path_params)
        except Unauthorized:
            return sign_in_first(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except (CaseworkError, HttpProblem) as failure:
            return show_failure(failure, request)
        except Exception as bug:
            log.exception("page_failed", request_id=request.scope["request_id"], path=request.scope["route"].path)
            return show_failure(bug, request)

    return handle


async def visited(request: Request, desk: Desk) -> Visit:
    """Raises HttpProblem and NotFound."""
    require_sense(request)
    visit = Visit(request, desk)
    if request.method == "POST":
        visit.form = await read_form(request, desk.settings.max_body_bytes)
        if from_elsewhere(request):
            raise HttpProblem(403, "forbidden", "This form was not sent by this desk.")
    return visit


def require_sense(request: Request) -> None:
    """Raises NotFound for what no database can look up."""
    if any("\x00" in value for value in request.path_params.values()):
        raise NotFound("page")


async def signed_in(request: Request, desk: Desk, roles: frozenset[Role]) -> PageCall:
    """Raises Unauthorized, HttpProblem, and Forbidden; a change that was tried without the role is recorded."""
    require_sense(request)
    caller, person = await session_of(desk, request)
    request.scope["actor"] = caller.actor.key
    call = PageCall(request, desk, caller, person)
    if request.method == "POST":
        call.take_form(*await read_form_or_parts(request, desk))
    if not caller.actor.may(roles):
        who = in_order(roles)
        refused = Forbidden(Refusal(code="role", text=f"this is for: {', '.join(who)}", who=who))
        if request.method == "POST":
            attempted = f"POST {request.scope['route'].path}"
            await desk.record_refusal(
                call, RecordRefusal(code=refused.code, attempted=attempted, refusals=tuple(refused.codes))
            )
        raise refused
    call.since = await desk.live.since()
    return call


def sign_in_first(request: Request) -> Response:
    """And back afterwards: to the page that was asked for, or to the one whose form was sent, where a draft is kept."""
    if request.headers.get("accept") == EVENT_STREAM:
        return Response(status_code=204)  # what tells a browser not to try again
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method == "POST":
        sent_from = urlsplit(request.headers.get("referer", ""))
        target = sent_from.path if sent_from.netloc == request.url.netloc else ""
    wanted = f"?next={quote(target, safe='')}" if target not in {"", "/"} else ""
    return RedirectResponse(f"/sign-in{wanted}", HTTPStatus.SEE_OTHER)


def show_failure(failure: Exception, request: Request) -> Response:
    problem, headers = problem_of(failure, request.scope["request_id"])
    return page("failure.html", problem["status"], headers, problem=problem)
