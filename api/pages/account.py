"""One's own account: who one is here, one's password, and where one is signed in."""

import secrets
from http import HTTPStatus

from starlette.responses import RedirectResponse, Response

from api.errors import HttpProblem, problem_of
from api.limits import origin_of
from api.pages.calendar import path_of
from api.pages.frame import desk_page
from api.pages.routing import PageCall, Pages, address_of, clear_cookie
from api.pages.sign_in import begin, kept_password, too_often
from api.pages.tokens import tokens_of
from api.passwords import MIN_CHARACTERS, is_password, password_command
from api.people import new_calendar, new_token_id, secret_under_key
from storage import people
from workflow.errors import BadInput, bad_field
from workflow.events import TokenCreated
from workflow.people import RevokeToken
from workflow.roles import EVERYONE, WORKERS, TokenKind

pages = Pages()

DONE = {
    "password": "Your password is set. Wherever else you were signed in, you are out.",
    "ended": "It has ended: from its very next use on it is no good.",
    "others": "Your other sessions have ended.",
}


@pages.get("/account", EVERYONE)
async def account(call: PageCall) -> Response:
    return await show(call)


async def show(call: PageCall, failure: BadInput | None = None, calendar: str = "") -> Response:
    """`calendar` is the address of a new one, shown this once."""
    errors = {one.field: one.message for one in failure.errors} if failure else {}
    database, person = call.desk.database, call.person
    return await desk_page(
        call,
        "account.html",
        here="/account",
        status=problem_of(failure, call.request_id)[0]["status"] if failure else HTTPStatus.OK,
        now=call.desk.clock(),
        key=secrets.token_hex(16),
        done=DONE.get(call.request.query_params.get("done", ""), ""),
        errors=errors,
        has_password=person.password is not None,
        least=MIN_CHARACTERS,
        calendar=calendar,
        may_subscribe=call.caller.actor.may(WORKERS),
        identities=await people.identities_of(database, person.id),
        **await tokens_of(call, person),
    )


@pages.post("/account/password", EVERYONE)
async def set_password(call: PageCall) -> Response:
    """The present one is asked for: a browser that was left open gives away its session, and no more."""
    given, again = str(call.form.get("password", "")), str(call.form.get("again", ""))
    names = (await people.names_of(call.desk.database, [call.person])).get(call.person.id, {})
    try:
        await require_present(call)
        if given != again:
            raise bad_field("again", "is not the same")
        command = await password_command(call.person.id, given, *names.values())
    except BadInput as failure:
        return await show(call, failure)
    await call.desk.submit(call, command)
    # All sessions have ended with it, this one too: whoever has just said the password gets another.
    return await begin(call.desk, call.request, call.person, "/account?done=password")


async def require_present(call: PageCall) -> None:
    """Raises BadInput if it is another, and HttpProblem after too many of them: sessions can be stolen."""
    if call.person.password is None:
        return
    limits, now = call.desk.sign_in_limits, call.desk.clock()
    origin, key = origin_of(call.request), f"present password of {call.person.id}"
    if seconds := limits.wait(origin, key, now):
        raise HttpProblem(429, "too_many_requests", too_often(seconds), {"retry-after": f"{seconds}"})
    limits.begin(origin, key, now)
    if not await is_password(str(call.form.get("present", "")), await kept_password(call.desk, call.person.id)):
        raise bad_field("present", "is not your password")
    limits.succeed(origin, key)


@pages.post("/account/calendars", WORKERS)
async def make_calendar(call: PageCall) -> Response:
    """The address is shown in this answer, and never again."""
    token_id = new_token_id()
    command, secret = new_calendar(call.person.id, token_id, secret_under_key(call, token_id))
    try:
        receipt = await call.desk.submit(call, command)
    except BadInput as failure:
        return await show(call, failure)
    created = receipt.events[-1].data
    if receipt.repeated and isinstance(created, TokenCreated):
        secret = secret_under_key(call, created.token) or secret
    call.person = await people.one(call.desk.database, call.person.id) or call.person
    return await show(call, calendar=f"{address_of(call)}{path_of(secret)}")


@pages.post("/account/tokens/{token_id}/revocation", EVERYONE)
async def revoke(call: PageCall, token_id: str) -> Response:
    """A session or a token of one's own; that it has ended already is just as well."""
    if call.person.token(token_id) is not None:
        await call.desk.submit(call, RevokeToken(person_id=call.person.id, token_id=token_id))
    if token_id != call.caller.token:
        return RedirectResponse("/account?done=ended", HTTPStatus.SEE_OTHER)
    response = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    clear_cookie(response, call.request)
    return response


@pages.post("/account/sessions/others", EVERYONE)
async def end_others(call: PageCall) -> Response:
    call.key = None  # of a form that is several commands; each ends what can end but once
    for one in call.person.tokens:
        if one.kind is TokenKind.SESSION and one.id != call.caller.token:
            await call.desk.submit(call, RevokeToken(person_id=call.person.id, token_id=one.id))
    return RedirectResponse("/account?done=others", HTTPStatus.SEE_OTHER)
