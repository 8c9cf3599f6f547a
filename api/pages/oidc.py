"""Signing in by the company's identity provider: to it, and back with what it says."""

import base64
import binascii
import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.desk import Desk
from api.errors import HttpProblem
from api.limits import origin_of
from api.oidc import Attempt, NotVouchedFor, ProviderAway
from api.pages.rendering import page
from api.pages.routing import Pages, Visit
from api.pages.sign_in import asks_too_often, begin, local, record_failure, require_privacy, show_form
from api.settings import LOOPBACK
from storage import people
from workflow.errors import BadInput, NotFound, Refused

if TYPE_CHECKING:
    from api.oidc_provider import Provider

log = structlog.get_logger()
pages = Pages()

MAX_TARGET_CHARACTERS = 1000  # a cookie holds no more than four kilobytes
BACK = "/oidc/callback"

UNKNOWN_ATTEMPT = "This sign-in was not begun in this browser, was used already, or took too long. Begin again."
NOT_VOUCHED_FOR = "{} did not confirm who you are. Nobody was signed in."
AWAY = "{} does not answer at the moment. A password or a link signs you in all the same."


@pages.get("/oidc/begin")
async def go(visit: Visit) -> Response:
    """A plain link, not a form: browsers that heed our policy let no form end elsewhere."""
    provider, request = required(visit), visit.request
    require_privacy(request)
    target = local(request.query_params.get("next", ""))
    try:
        url, attempt = await provider.begin(way_back(visit), target if len(target) <= MAX_TARGET_CHARACTERS else "/")
    except ProviderAway as away:
        return unavailable(visit, away)
    response = RedirectResponse(url, HTTPStatus.SEE_OTHER)
    seconds = int((attempt.ends_at - visit.desk.clock()).total_seconds())
    response.set_cookie(
        cookie_name(request),
        sealed(visit.desk, msgspec.json.encode(attempt)),
        max_age=seconds,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return response


@pages.get(BACK)
async def come_back(visit: Visit) -> Response:
    """Whoever the provider vouches for, and the desk knows by issuer and subject, is signed in."""
    provider, desk, request = required(visit), visit.desk, visit.request
    require_privacy(request)
    if (said := asks_too_often(visit, None)) is not None:
        return said
    try:
        attempt = msgspec.json.decode(unsealed(desk, request.cookies.get(cookie_name(request), "")), type=Attempt)
    except msgspec.MsgspecError:
        return await refused(visit, "no_attempt", UNKNOWN_ATTEMPT)
    try:
        issuer, subject = await provider.vouched_for(attempt, dict(request.query_params), way_back(visit))
    except NotVouchedFor as no:
        text = UNKNOWN_ATTEMPT if no.why in {"state", "too_late", "used_already"} else NOT_VOUCHED_FOR
        return await refused(visit, no.why, text.format(provider.name))
    except ProviderAway as away:
        return unavailable(visit, away)
    found = await people.by_identity(desk.database, issuer, subject)
    if found is None:
        return forgetting(page("oidc_unknown.html", 403, issuer=issuer, subject=subject, name=provider.name), request)
    person, identity = found
    try:
        return forgetting(await begin(desk, request, person, attempt.target, identity=identity), request)
    except (BadInput, Refused):  # unlinked at this very moment
        return await refused(visit, "identity", NOT_VOUCHED_FOR.format(provider.name))


async def refused(visit: Visit, why: str, said: str) -> Response:
    """Counts for its origin alone: there is no address that somebody could be kept out of."""
    log.warning("oidc_refused", request_id=visit.request.scope["request_id"], why=why)
    visit.desk.sign_in_limits.begin(origin_of(visit.request), None, visit.desk.clock())
    await record_failure(visit, "provider")
    return forgetting(show_form(visit, 403, said=said), visit.request)


def unavailable(visit: Visit, away: Exception) -> Response:
    log.error("oidc_provider_away", request_id=visit.request.scope["request_id"], failure=str(away))
    name = visit.desk.provider.name if visit.desk.provider else ""
    return forgetting(show_form(visit, 503, said=AWAY.format(name)), visit.request)


def required(visit: Visit) -> "Provider":
    """Raises NotFound where the desk has no provider."""
    if visit.desk.provider is None:
        raise NotFound("page")
    return visit.desk.provider


def way_back(visit: Visit) -> str:
    """Where the provider sends people: never by what a request says of its own host, unless it is this very machine."""
    request, known = visit.request, visit.desk.settings.public_url
    if known:
        return known.rstrip("/") + BACK
    if request.url.hostname in LOOPBACK:
        return f"{request.url.scheme}://{request.url.netloc}{BACK}"
    raise HttpProblem(503, "unavailable", "Whoever runs the desk has to set CASEWORK_PUBLIC_URL first.")


# The cookie.


def cookie_name(request: Request) -> str:
    return "__Host-casework-oidc" if request.url.scheme == "https" else "casework-oidc"


def forgetting(response: Response, request: Request) -> Response:
    response.delete_cookie(
        cookie_name(request), path="/", secure=request.url.scheme == "https", httponly=True, samesite="lax"
    )
    return response


def sealed(desk: Desk, content: bytes) -> str:
    """What only this desk can have written."""
    return base64.urlsafe_b64encode(seal_of(desk, content) + content).decode()


def unsealed(desk: Desk, value: str) -> bytes:
    """Empty if it was not written by this desk."""
    try:
        octets = base64.b64decode(value.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    seal, content = octets[:32], octets[32:]
    return content if hmac.compare_digest(seal, seal_of(desk, content)) else b""


def seal_of(desk: Desk, content: bytes) -> bytes:
    return hmac.digest(desk.secret, b"oidc attempt " + content, "sha256")
