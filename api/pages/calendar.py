"""The calendar that somebody subscribes to with a calendar program: their own consultations, by a secret address.

The address opens nothing else. Whoever has none that is good learns nothing, not even whether there ever was one.
"""

import hashlib
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from api.calendars import appointment_of, feed
from api.errors import RETRY_SECONDS
from api.limits import origin_of
from api.pages.routing import Pages, is_private
from api.routing import PageRoute
from storage import consultations, people
from storage.submissions import Unavailable
from workflow.policy import version_in_force
from workflow.roles import TokenKind

if TYPE_CHECKING:
    from api.desk import Desk

pages = Pages()

PAST = timedelta(days=90)
HEADERS = {
    "cache-control": "private, no-cache",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex, nofollow, noarchive",
}


def path_of(secret: str) -> str:
    return f"/calendar/{secret}.ics"


async def subscribed(request: Request) -> Response:
    """As the desk stands now; 304 where that is what the program has already (RFC 9110 §13.1.2)."""
    try:
        return await answered(request)
    except Unavailable:
        return refused(HTTPStatus.SERVICE_UNAVAILABLE, "Not just now.", {"retry-after": str(RETRY_SECONDS)})


async def answered(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    if not is_private(request):
        return refused(HTTPStatus.FORBIDDEN, "The address has to begin with https://")
    now, limits, origin = desk.clock(), desk.client_limits, origin_of(request)
    if seconds := limits.reads_from.take(origin, now):
        return too_often(seconds)
    secret = request.path_params["secret"]
    found = await people.by_token(desk.database, people.secret_hash(secret if secret.isascii() else ""))
    if found is None or not found[0].may_use(found[1], TokenKind.CALENDAR, now):
        seconds = limits.wrong.take(origin, now)
        return too_often(seconds) if seconds else refused(HTTPStatus.NOT_FOUND, "There is no calendar here.")
    person, token = found
    if seconds := limits.reads_by.take(token, now):
        return too_often(seconds)
    request.scope["actor"] = person.key
    directory = await desk.directory()
    held = await consultations.held_by(desk.database, person.id, now - PAST)
    octets = feed(
        [appointment_of(one.case, directory.log, one.channel) for one in held],
        version_in_force(directory.policies, now).settings.timezone,
        desk.settings.organisation,
    )
    tag = f'"{hashlib.sha256(octets).hexdigest()[:32]}"'
    headers = {"etag": tag, **HEADERS}
    if tag in {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    disposition = {"content-disposition": 'inline; filename="consultations.ics"'}
    return Response(octets, headers=headers | disposition, media_type="text/calendar; charset=utf-8")


def too_often(seconds: int) -> Response:
    return refused(HTTPStatus.TOO_MANY_REQUESTS, "Too often.", {"retry-after": str(seconds)})


def refused(status: int, said: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(said, status, HEADERS | {"cache-control": "no-store"} | (headers or {}))


pages.routes.append(PageRoute("/calendar/{secret}.ics", subscribed, "GET"))
