"""Signing in, by password or by a link that is good once; and out."""

import secrets
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.desk import Desk
from api.errors import HttpProblem
from api.limits import origin_of
from api.pages.packing import takes_gzip
from api.pages.rendering import STATIC, page
from api.pages.routing import (
    PageCall,
    Pages,
    Visit,
    clear_cookie,
    is_private,
    session_of,
    set_cookie,
)
from api.passwords import is_password
from api.people import new_token_id
from storage import people
from storage.submissions import Unauthorized
from workflow.desk import RecordRefusal
from workflow.errors import BadInput, NotFound, Refused
from workflow.people import Person, RevokeToken, SignIn
from workflow.roles import EVERYONE, TokenKind

log = structlog.get_logger()
pages = Pages()

SESSION = timedelta(hours=12)
PASSWORD_HASH = text("SELECT hash FROM passwords WHERE person_id = :person")
WRONG = "This address and password do not go together."
USED_UP = HttpProblem(403, "forbidden", "This link was used already, or has run out. Ask for another one.")


@pages.get("/sign-in")
async def ask(visit: Visit) -> Response:
    """The form; who is signed in already is sent on."""
    target = local(visit.request.query_params.get("next", ""))
    try:
        await session_of(visit.desk, visit.request)
    except Unauthorized:
        return show_form(visit, target=target)
    return RedirectResponse(target, HTTPStatus.SEE_OTHER)


def show_form(
    visit: Visit,
    status: int = 200,
    headers: dict[str, str] | None = None,
    *,
    said: str = "",
    email: str = "",
    target: str = "/",
) -> Response:
    provider = visit.desk.provider
    facts: dict[str, Any] = {
        "next": target,
        "said": said,
        "email": email,
        "is_private": is_private(visit.request),
        "provider": provider.name if provider else "",
        "begin": f"/oidc/begin?next={quote(target, safe='')}",
    }
    return page("sign_in.html", status, headers, **facts)


@pages.post("/sign-in")
async def sign_in(visit: Visit) -> Response:
    """By address and password."""
    require_privacy(visit.request)
    email, target = visit.field("email"), local(visit.field("next"))
    if (said := asks_too_often(visit, email, target=target)) is not None:
        return said
    limits, origin, address = visit.desk.sign_in_limits, origin_of(visit.request), email.lower()
    limits.begin(origin, address, visit.desk.clock())
    try:
        person = await by_password(visit.desk, email, str(visit.form.get("password", "")))
    except BaseException:
        limits.undecided(origin, address)
        raise
    if person is None:
        log.warning("sign_in_refused", request_id=visit.request.scope["request_id"])
        await record_failure(visit, "password")
        return show_form(visit, 403, said=WRONG, email=email, target=target)
    limits.succeed(origin, address)
    return await begin(visit.desk, visit.request, person, target)


@pages.get("/sign-in/{secret}")
async def ask_by_link(visit: Visit, secret: str) -> Response:
    """A button: what only fetches the address, such as a mail program's preview, uses the link up for nobody."""
    return page("sign_in_link.html", action=f"/sign-in/{quote(secret)}", is_private=is_private(visit.request))


@pages.post("/sign-in/{secret}")
async def sign_in_by_link(visit: Visit, secret: str) -> Response:
    """By a link that the command line has printed, or an admin has made."""
    require_privacy(visit.request)
    found = await people.by_token(visit.desk.database, people.secret_hash(secret))
    token = found[0].token(found[1]) if found else None
    if found is None or token is None or token.kind is not TokenKind.LINK:
        raise USED_UP
    try:
        return await begin(visit.desk, visit.request, found[0], "/", link=token.id)
    except (BadInput, Refused) as refused:
        raise USED_UP from refused


@pages.post("/sign-out", EVERYONE)
async def sign_out(call: PageCall) -> Response:
    await call.desk.submit(call, RevokeToken(person_id=call.person.id, token_id=str(call.caller.token)))
    response = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    clear_cookie(response, call.request)
    return response


@pages.get("/static/{digest}/{name}")
async def static(visit: Visit, digest: str, name: str) -> Response:
    packed = takes_gzip(visit.request)
    response = STATIC.response(name, packed=packed) if digest == STATIC.digest else None
    if response is None:
        raise NotFound("file")
    return response


def require_privacy(request: Request) -> None:
    """Raises HttpProblem where others could listen."""
    if not is_private(request):
        raise HttpProblem(403, "forbidden", "Passwords and links are taken over https:// alone.")


def asks_too_often(visit: Visit, email: str | None, target: str = "/") -> Response | None:
    """The answer to an attempt too many, made before anything is looked up: it tells nothing of the address."""
    address = email.lower() if email is not None else None
    seconds = visit.desk.sign_in_limits.wait(origin_of(visit.request), address, visit.desk.clock())
    if not seconds:
        return None
    log.warning("sign_in_limited", request_id=visit.request.scope["request_id"])
    return show_form(
        visit,
        HTTPStatus.TOO_MANY_REQUESTS,
        {"retry-after": str(seconds)},
        said=f"{too_often(seconds)} A link signs you in all the same.",
        email=email or "",
        target=target,
    )


def too_often(seconds: int) -> str:
    return f"There were too many attempts. Try again in {seconds} second{'s' if seconds > 1 else ''}."


async def record_failure(visit: Visit, way: str) -> None:
    """In the log, where it stays for good, and so without saying who it was about; and not without end."""
    if not visit.desk.sign_in_limits.recorded.take("", visit.desk.clock()):
        attempted = f"{visit.request.method} {visit.request.scope['route'].path}"
        refusal = RecordRefusal(code="sign_in_refused", attempted=attempted, refusals=(f"wrong_{way}",))
        await visit.desk.submit_as_system("sign-in", refusal, via="page")


async def by_password(desk: Desk, email: str, password: str) -> Person | None:
    person = await people.by_email(desk.database, email) if email else None
    kept = await kept_password(desk, person.id if person else "")  # asked for anybody alike
    is_right = await is_password(password, kept)
    return person if is_right and person is not None and person.active else None


async def kept_password(desk: Desk, person_id: str) -> str | None:
    row = await desk.database.first(PASSWORD_HASH, {"person": person_id})
    return row[0] if row else None


async def begin(
    desk: Desk, request: Request, person: Person, target: str, *, link: str = "", identity: str = ""
) -> Response:
    """Raises BadInput or Refused if what they came with is good no more."""
    secret = secrets.token_urlsafe(32)
    command = SignIn(
        person_id=person.id,
        session_id=new_token_id(),
        secret_hash=people.secret_hash(secret),
        expires_at=desk.clock() + SESSION,
        link=link,
        identity=identity,
    )
    await desk.submit_as_system("sign-in", command, via="page")
    response = RedirectResponse(target, HTTPStatus.SEE_OTHER)
    set_cookie(response, request, secret, int(SESSION.total_seconds()))
    return response


def local(target: str) -> str:
    """A path of this desk, or its first page: nobody is sent elsewhere."""
    parts = urlsplit(target)
    is_path = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return target if is_path and target.isprintable() and "\\" not in target else "/"
