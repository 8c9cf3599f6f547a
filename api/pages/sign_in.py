"""Signing in, by password or by a link that is good once; and out."""

import asyncio
import secrets
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import urlsplit

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.desk import Desk
from api.errors import HttpProblem
from api.pages.rendering import STATIC, page
from api.pages.routing import (
    PageCall,
    clear_cookie,
    cookie_name,
    from_elsewhere,
    is_private,
    page_router,
    read_form,
    session_of,
    set_cookie,
    shows,
)
from api.people import new_token_id
from storage import people
from storage.submissions import Unauthorized
from workflow.errors import BadInput, CaseworkError, NotFound
from workflow.people import Person, RevokeToken, SignIn
from workflow.roles import TokenKind

log = structlog.get_logger()
router = page_router()

SESSION = timedelta(hours=12)
PASSWORD_HASH = text("SELECT hash FROM passwords WHERE person_id = :person")
WRONG = "This address and password do not go together."

hasher = PasswordHasher()
NOBODYS = hasher.hash(secrets.token_hex(16))
"""Checked where there is no such person, so that an answer takes as long."""


@router.get("/sign-in")
async def ask(desk: Desk, request: Request) -> Response:
    """The form; who is signed in already is sent on."""
    target = local(request.query_params.get("next", ""))
    try:
        await session_of(desk, request)
    except Unauthorized:
        return page("sign_in.html", next=target, said="", email="", is_private=is_private(request))
    return RedirectResponse(target, HTTPStatus.SEE_OTHER)


@router.post("/sign-in")
async def sign_in(desk: Desk, request: Request) -> Response:
    """By address and password."""
    form = await own_form(desk, request)
    email, password, target = (str(form.get(name, "")) for name in ("email", "password", "next"))
    person = await by_password(desk, email.strip(), password)
    if person is None:
        log.warning("sign_in_refused", request_id=request.scope["request_id"])
        return page("sign_in.html", 403, next=local(target), said=WRONG, email=email, is_private=True)
    return await begin(desk, request, person, local(target))


@router.get("/sign-in/{secret}")
async def ask_by_link(desk: Desk, request: Request, secret: str) -> Response:
    """A button: what only fetches the address, such as a mail program's preview, uses the link up for nobody."""
    return page("sign_in_link.html", action=request.url.path, is_private=is_private(request))


@router.post("/sign-in/{secret}")
async def sign_in_by_link(desk: Desk, request: Request, secret: str) -> Response:
    """By a link that the command line has printed."""
    await own_form(desk, request)
    found = await people.by_token(desk.database, people.secret_hash(secret))
    if found is None:
        raise HttpProblem(403, "forbidden", "This link was used already, or has run out. Ask for another one.")
    person, token_id = found
    token = person.token(token_id)
    if token is None or token.kind is not TokenKind.LINK:
        raise NotFound("link")
    return await begin(desk, request, person, "/", link=token_id)


@router.post("/sign-out")
@shows()
async def sign_out(call: PageCall) -> Response:
    await call.desk.submit(call, RevokeToken(person_id=call.person.id, token_id=str(call.caller.token)))
    response = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    clear_cookie(response, call.request)
    return response


@router.get("/static/{digest}/{name}")
async def static(desk: Desk, request: Request, digest: str, name: str) -> Response:
    response = STATIC.response(name) if digest == STATIC.digest else None
    if response is None:
        raise NotFound("file")
    return response


async def own_form(desk: Desk, request: Request) -> object:
    """Raises HttpProblem for a form of another site, or one that could be listened to."""
    form = await read_form(request, desk.settings.max_body_bytes)
    if from_elsewhere(request):
        raise HttpProblem(403, "forbidden", "This form was not sent by this desk.")
    if not is_private(request):
        raise HttpProblem(403, "forbidden", "Passwords are taken over https:// alone.")
    return form


async def by_password(desk: Desk, email: str, password: str) -> Person | None:
    person = await people.by_email(desk.database, email) if email else None
    row = await desk.database.first(PASSWORD_HASH, {"person": person.id}) if person else None
    matches = await asyncio.to_thread(is_password, str(row[0]) if row else NOBODYS, password)
    return person if person is not None and person.active and row is not None and matches else None


def is_password(derived: str, password: str) -> bool:
    try:
        return hasher.verify(derived, password)
    except (VerificationError, InvalidHashError):
        return False


async def begin(desk: Desk, request: Request, person: Person, target: str, link: str = "") -> Response:
    """Raises HttpProblem if the link is good no more."""
    secret = secrets.token_urlsafe(32)
    command = SignIn(
        person_id=person.id,
        session_id=new_token_id(),
        secret_hash=people.secret_hash(secret),
        expires_at=desk.clock() + SESSION,
        link=link,
    )
    try:
        await desk.submit_as_system("sign-in", command, via="page")
    except (BadInput, CaseworkError) as refused:
        raise HttpProblem(403, "forbidden", "This link was used already, or has run out.") from refused
    response = RedirectResponse(target, HTTPStatus.SEE_OTHER)
    set_cookie(response, request, secret, int(SESSION.total_seconds()))
    return response


def local(target: str) -> str:
    """A path of this desk, or its first page: nobody is sent elsewhere."""
    parts = urlsplit(target)
    is_path = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return target if is_path and target.isprintable() and "\\" not in target else "/"
