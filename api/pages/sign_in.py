"""Signing in, by password or by a link that is good once; and out."""

import secrets
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import quote, urlsplit

import structlog
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.desk import Desk
from api.errors import HttpProblem
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
        return page("sign_in.html", next=target, said="", email="", is_private=is_private(visit.request))
    return RedirectResponse(target, HTTPStatus.SEE_OTHER)


@pages.post("/sign-in")
async def sign_in(visit: Visit) -> Response:
    """By address and password."""
    require_privacy(visit.request)
    email, target = visit.field("email"), local(visit.field("next"))
    person = await by_password(visit.desk, email, str(visit.form.get("password", "")))
    if person is None:
        log.warning("sign_in_refused", request_id=visit.request.scope["request_id"])
        return page("sign_in.html", 403, next=target, said=WRONG, email=email, is_private=True)
    return await begin(visit, person, target)


@pages.get("/sign-in/{secret}")
async def ask_by_link(visit: Visit, secret: str) -> Response:
    """A button: what only fetches the address, such as a mail program's preview, uses the link up for nobody."""
    return page("sign_in_link.html", action=f"/sign-in/{quote(secret)}", is_private=is_private(visit.request))


@pages.post("/sign-in/{secret}")
async def sign_in_by_link(visit: Visit, secret: str) -> Response:
    """By a link that the command line has printed."""
    require_privacy(visit.request)
    found = await people.by_token(visit.desk.database, people.secret_hash(secret))
    token = found[0].token(found[1]) if found else None
    if found is None or token is None or token.kind is not TokenKind.LINK:
        raise USED_UP
    return await begin(visit, found[0], "/", link=token.id)


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


async def by_password(desk: Desk, email: str, password: str) -> Person | None:
    person = await people.by_email(desk.database, email) if email else None
    row = await desk.database.first(PASSWORD_HASH, {"person": person.id}) if person else None
    is_right = await is_password(password, row[0] if row else None)
    return person if is_right and person is not None and person.active else None


async def begin(visit: Visit, person: Person, target: str, link: str = "") -> Response:
    """Raises HttpProblem if the link is good no more."""
    secret = secrets.token_urlsafe(32)
    command = SignIn(
        person_id=person.id,
        session_id=new_token_id(),
        secret_hash=people.secret_hash(secret),
        expires_at=visit.desk.clock() + SESSION,
        link=link,
    )
    try:
        await visit.desk.submit_as_system("sign-in", command, via="page")
    except (BadInput, Refused) as refused:
        raise USED_UP from refused
    response = RedirectResponse(target, HTTPStatus.SEE_OTHER)
    set_cookie(response, visit.request, secret, int(SESSION.total_seconds()))
    return response


def local(target: str) -> str:
    """A path of this desk, or its first page: nobody is sent elsewhere."""
    parts = urlsplit(target)
    is_path = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return target if is_path and target.isprintable() and "\\" not in target else "/"
