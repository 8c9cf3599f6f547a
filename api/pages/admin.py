"""Admin: who works here and how they sign in, the policy, and how the desk itself is doing. No case stands here."""

import secrets
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field
from starlette.responses import RedirectResponse, Response

from api import inputs as i
from api import views as v
from api.errors import problem_of
from api.health import ready_view
from api.pages import policy_forms as forms
from api.pages.frame import desk_page
from api.pages.oidc import BACK
from api.pages.reading import read_as
from api.pages.routing import PageCall, Pages, address_of
from api.pages.tokens import tokens_of
from api.people import PersonIn, RolesIn, new_identity, new_link, new_token, new_token_id, secret_under_key
from api.policy import policy_view, settings_view
from storage import people
from storage.submissions import Receipt
from workflow.errors import BadInput, NotFound, Refused
from workflow.events import TokenCreated
from workflow.people import (
    AddPerson,
    CreateToken,
    DisablePerson,
    Person,
    RevokeToken,
    SetRoles,
    UnlinkIdentity,
)
from workflow.policy import version_in_force
from workflow.roles import ADMINS, STAFF_ROLES, Role, TokenKind

pages = Pages()

TABS = (("People", "/admin"), ("Policy", "/admin/policy"), ("Webhooks", "/admin/webhooks"), ("Health", "/admin/health"))
DONE = {
    "added": "They are known here now, and have no way in yet: make them a link.",
    "roles": "These roles count from their very next request on.",
    "disabled": "They can do nothing any more, from their very next request on.",
    "ended": "It has ended: from its very next use on it is no good.",
    "sessions": "Their sessions have ended.",
    "linked": "Whoever the provider knows by this signs in as them from now on.",
    "unlinked": "The identity is unlinked, and their sessions have ended.",
    "policy": "The version is recorded.",
    "webhook": "It is so from the very next event on.",
    "ping": "The ping is on its way: what becomes of it stands below.",
    "unfollowed": "It is removed, and hears of nothing any more.",
}
ROLE_WORDS = {
    Role.AGENT: "works on cases",
    Role.LEAD: "works on cases, assigns, approves small amounts, sees insights",
    Role.APPROVER: "approves, and settles payments",
    Role.AUDITOR: "reads and replays everything, changes no case",
    Role.ADMIN: "people, policy and health; no cases by that alone",
}
LABELS = {"email": "Address", "days": "Good for days", "reason": "Why"}
Failure = BadInput | Refused


async def admin_page(
    call: PageCall,
    template: str,
    tab: str,
    failure: Failure | None = None,
    *,
    status: int = HTTPStatus.OK,
    labels: Mapping[str, object] | None = None,
    **facts: Any,
) -> Response:
    problem = problem_of(failure, call.request_id)[0] if failure else None
    return await desk_page(
        call,
        template,
        here="/admin",
        status=problem["status"] if problem else status,
        tabs=[{"text": text, "url": url, "here": url == tab} for text, url in TABS],
        now=call.desk.clock(),
        key=secrets.token_hex(16),
        done=DONE.get(call.request.query_params.get("done", ""), ""),
        problem=problem,
        errors={one["field"]: one["message"] for one in problem.get("errors", [])} if problem else {},
        typed=call.form,
        all_roles=STAFF_ROLES,
        what=ROLE_WORDS,
        labels=labels or LABELS,
        **facts,
    )


# People.


@pages.get("/admin", ADMINS)
async def everybody(call: PageCall) -> Response:
    return await show_everybody(call)


async def show_everybody(call: PageCall, failure: Failure | None = None) -> Response:
    database, now = call.desk.database, call.desk.clock()
    found = await people.everybody(database)
    names, linked = await people.names_of(database, found), await people.with_identity(database)
    rows = [
        {
            **v.person_view(one, names.get(one.id, {})),
            "sessions": sum(token.is_good(now) for token in one.sessions),
            "ways": [*(["password"] if one.password else []), *(["provider"] if one.id in linked else [])],
            "tokens": sum(token.kind is TokenKind.API and token.is_good(now) for token in one.tokens),
        }
        for one in found
    ]
    rows.sort(key=lambda one: (not one["active"], str(one["name"]).casefold(), one["id"]))
    return await admin_page(call, "admin_people.html", "/admin", failure, people=rows)


@pages.post("/admin/people", ADMINS)
async def add_person(call: PageCall) -> Response:
    try:
        given = read_as(PersonIn, email=call.field("email"), name=call.field("name"), roles=call.form.getlist("roles"))
        command = AddPerson(person_id=str(uuid.uuid4()), email=given.email, name=given.name, roles=tuple(given.roles))
        receipt = await call.desk.submit(call, command)
    except (BadInput, Refused) as failure:
        return await show_everybody(call, failure)
    call.desk.forget_directory()
    return to_person(receipt.person.id if receipt.person else command.person_id, "added")


@pages.get("/admin/people/{person_id}", ADMINS)
async def person(call: PageCall, person_id: str) -> Response:
    return await show_person(call, await known(call, person_id))


async def known(call: PageCall, person_id: str) -> Person:
    """Raises NotFound."""
    found = await people.one(call.desk.database, person_id)
    if found is None:
        raise NotFound("person")
    return found


def to_person(person_id: str, done: str) -> Response:
    return RedirectResponse(f"/admin/people/{quote(person_id, safe='')}?done={done}", HTTPStatus.SEE_OTHER)


async def show_person(
    call: PageCall, one: Person, failure: Failure | None = None, *, link: str = "", token: str = ""
) -> Response:
    """`link` and `token` are shown this once."""
    names = await people.names_of(call.desk.database, [one])
    provider = call.desk.provider
    return await admin_page(
        call,
        "admin_person.html",
        "/admin",
        failure,
        status=HTTPStatus.CREATED if link or token else HTTPStatus.OK,
        person=v.person_view(one, names.get(one.id, {})),
        is_me=one.id == call.person.id,
        has_password=one.password is not None,
        identities=await people.identities_of(call.desk.database, one.id),
        issuer=provider.issuer if provider else "",
        link=link,
        token=token,
        ways_in=await tokens_of(call, one),
    )


async def changed(call: PageCall, person_id: str, change: Callable[[], Awaitable[Any]], done: str) -> Response:
    """Carry it out, and show the person again: as they are now, or with why not."""
    one = await known(call, person_id)
    try:
        await change()
    except (BadInput, Refused) as failure:
        return await show_person(call, one, failure)
    call.desk.forget_directory()
    return to_person(person_id, done)


@pages.post("/admin/people/{person_id}/roles", ADMINS)
async def set_roles(call: PageCall, person_id: str) -> Response:
    async def change() -> Receipt:
        given = read_as(RolesIn, roles=call.form.getlist("roles"))
        return await call.desk.submit(call, SetRoles(person_id=person_id, roles=tuple(given.roles)))

    return await changed(call, person_id, change, "roles")


@pages.post("/admin/people/{person_id}/disabling", ADMINS)
async def disable(call: PageCall, person_id: str) -> Response:
    async def change() -> Receipt:
        given = read_as(i.ReasonIn, reason=call.field("reason"))
        return await call.desk.submit(call, DisablePerson(person_id=person_id, reason=given.reason))

    return await changed(call, person_id, change, "disabled")


# Ways in.


@pages.post("/admin/people/{person_id}/links", ADMINS)
async def make_link(call: PageCall, person_id: str) -> Response:
    """Shown in this answer alone; the same form again gives the same link."""
    token_id = new_token_id()
    command, secret = new_link(person_id, call.desk.clock(), token_id, secret_under_key(call, token_id))
    return await show_made(call, person_id, command, secret)


class TokenIn(i.Input):
    days: Annotated[int, Field(ge=1, le=3650)] | None = None


@pages.post("/admin/people/{person_id}/tokens", ADMINS)
async def make_token(call: PageCall, person_id: str) -> Response:
    """A bearer token for a program that works in somebody's name."""
    try:
        days = read_as(TokenIn, days=call.field("days") or None).days
    except BadInput as failure:
        return await show_person(call, await known(call, person_id), failure)
    until = call.desk.clock() + timedelta(days=days) if days else None
    token_id = new_token_id()
    command, secret = new_token(person_id, until, token_id, secret_under_key(call, token_id))
    return await show_made(call, person_id, command, secret)


async def show_made(call: PageCall, person_id: str, command: CreateToken, secret: str) -> Response:
    one = await known(call, person_id)
    try:
        receipt = await call.desk.submit(call, command)
    except (BadInput, Refused) as failure:
        return await show_person(call, one, failure)
    call.desk.forget_directory()
    created = receipt.events[-1].data
    if receipt.repeated and isinstance(created, TokenCreated):
        secret = secret_under_key(call, created.token) or secret
    one = await known(call, person_id)
    if command.kind is TokenKind.LINK:
        return await show_person(call, one, link=f"{address_of(call)}/sign-in/{secret}")
    return await show_person(call, one, token=secret)


@pages.post("/admin/people/{person_id}/tokens/{token_id}/revocation", ADMINS)
async def revoke(call: PageCall, person_id: str, token_id: str) -> Response:
    """A session, a token or a link; that it has ended already is just as well."""
    if (await known(call, person_id)).token(token_id) is not None:
        await call.desk.submit(call, RevokeToken(person_id=person_id, token_id=token_id))
    call.desk.forget_directory()
    return to_person(person_id, "ended")


@pages.post("/admin/people/{person_id}/sessions/ending", ADMINS)
async def end_sessions(call: PageCall, person_id: str) -> Response:
    call.key = None  # of a form that is several commands; each ends what can end but once
    for one in (await known(call, person_id)).sessions:
        if one.id != call.caller.token:
            await call.desk.submit(call, RevokeToken(person_id=person_id, token_id=one.id))
    return to_person(person_id, "sessions")


class IdentityIn(i.Input):
    issuer: i.Text
    subject: i.Text


@pages.post("/admin/people/{person_id}/identities", ADMINS)
async def link_identity(call: PageCall, person_id: str) -> Response:
    async def change() -> Receipt:
        given = read_as(IdentityIn, issuer=call.field("issuer"), subject=call.field("subject"))
        return await call.desk.submit(call, new_identity(person_id, given.issuer, given.subject))

    return await changed(call, person_id, change, "linked")


@pages.post("/admin/people/{person_id}/identities/{identity_id}/unlinking", ADMINS)
async def unlink_identity(call: PageCall, person_id: str, identity_id: str) -> Response:
    async def change() -> None:
        if (await known(call, person_id)).has_identity(identity_id):
            await call.desk.submit(call, UnlinkIdentity(person_id=person_id, identity_id=identity_id))

    return await changed(call, person_id, change, "unlinked")


# The policy.


@pages.get("/admin/policy", ADMINS)
async def policy(call: PageCall) -> Response:
    return await show_policy(call)


async def show_policy(call: PageCall, failure: Failure | None = None) -> Response:
    policies, now = (await call.desk.directory()).policies, call.desk.clock()
    current = version_in_force(policies, now)
    views = [policy_view(one, current) for one in reversed(policies)]
    return await admin_page(
        call,
        "admin_policy.html",
        "/admin/policy",
        failure,
        current=policy_view(current, current),
        later=[one for one in views if one["effective_from"] and one["effective_from"] > now],
        earlier=[
            one for one in views if not one["in_force"] and not (one["effective_from"] and one["effective_from"] > now)
        ],
        seen=policies[-1].version,
        form=forms.as_sent(call.form) if failure else forms.filled(settings_view(current.settings)),
        said=forms.said([{"field": one.field, "message": one.message} for one in failure.errors])
        if isinstance(failure, BadInput)
        else [],
        labels=forms.LABELS,
        numbers=forms.NUMBERS,
        grounds=forms.GROUNDS,
        tier_roles=forms.TIER_ROLES,
    )


@pages.post("/admin/policy", ADMINS)
async def add_policy(call: PageCall) -> Response:
    """In force from now at the earliest; what was decided stays as it was."""
    call.desk.forget_directory()
    try:
        policies = (await call.desk.directory()).policies
        await call.desk.submit(call, forms.asked_for(call.form, policies, call.desk.clock()))
    except (BadInput, Refused) as failure:
        return await show_policy(call, failure)
    call.desk.forget_directory()
    return RedirectResponse("/admin/policy?done=policy", HTTPStatus.SEE_OTHER)


# Health.


@pages.get("/admin/health", ADMINS)
async def health(call: PageCall) -> Response:
    """What /readyz says, in words."""
    settings, provider = call.desk.settings, call.desk.provider
    return await admin_page(
        call,
        "admin_health.html",
        "/admin/health",
        ready=await ready_view(call.desk),
        every=settings.verify_every,
        address=address_of(call),
        is_public=settings.public_url is not None,
        provider={"name": provider.name, "issuer": provider.issuer, "back": f"{address_of(call)}{BACK}"}
        if provider
        else None,
    )
