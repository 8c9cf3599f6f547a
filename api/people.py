"""People over HTTP: who works here, and the routes by which an admin changes that."""

import secrets
import uuid
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api import views as v
from api.errors import documented
from api.routing import Answer, Call, DeskRoute, ReadCall, Rules, WriteCall, reads, ruled
from storage import people
from storage.submissions import Receipt
from workflow.errors import NotFound, bad_field
from workflow.people import AddPerson, CreateToken, DisablePerson, RevokeToken, SetRoles
from workflow.roles import ADMINS, EVERYONE, Role

router = APIRouter(prefix="/v1", tags=["people"], route_class=DeskRoute)
WRITTEN = documented(404, 409, 413, 415, 422)


class PeopleView(TypedDict):
    items: list[v.PersonView]


@router.get("/me", response_model=v.PersonView, responses=documented())
@reads(EVERYONE)
async def read_me(call: ReadCall) -> Response:
    """Whose token this is."""
    return Answer(await person_answer(call, call.caller.actor.id))


@router.get("/people", response_model=PeopleView, responses=documented())
@reads(EVERYONE)
async def list_people(call: ReadCall) -> Response:
    """Everybody who works or worked here."""
    names = await people.names(call.desk.database)
    found = await people.everybody(call.desk.database)
    views = [v.person_view(one, names.get(one.id, {})) for one in found]
    return Answer(PeopleView(items=sorted(views, key=lambda one: (one["name"], one["id"]))))


class PersonIn(i.Input):
    email: i.Email
    name: i.Line
    roles: Annotated[list[Role], Field(min_length=1, max_length=5)]


@router.post("/people", status_code=201, response_model=v.PersonView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=AddPerson))
async def add_person(call: WriteCall, body: PersonIn) -> Response:
    """Somebody new."""
    if await people.by_email(call.desk.database, body.email) is not None:
        raise bad_field("email", "is somebody's already")
    command = AddPerson(person_id=str(uuid.uuid4()), email=body.email, name=body.name, roles=tuple(body.roles))
    return await answer_with_person(call, await call.desk.submit(call, command), 201)


class RolesIn(i.Input):
    roles: Annotated[list[Role], Field(min_length=1, max_length=5)]


@router.put("/people/{person_id}/roles", response_model=v.PersonView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=SetRoles))
async def set_roles(call: WriteCall, person_id: str, body: RolesIn) -> Response:
    """What they may do from now on."""
    await known_person(call, person_id)
    command = SetRoles(person_id=person_id, roles=tuple(body.roles))
    return await answer_with_person(call, await call.desk.submit(call, command))


@router.post("/people/{person_id}/disabling", status_code=201, response_model=v.PersonView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=DisablePerson))
async def disable_person(call: WriteCall, person_id: str, body: i.ReasonIn) -> Response:
    """They can do nothing any more, from their very next request on."""
    await known_person(call, person_id)
    return await answer_with_person(call, await call.desk.submit(call, DisablePerson(person_id=person_id)), 201)


class TokenIn(i.Input):
    expires_at: i.Moment | None = None


class NewTokenView(TypedDict):
    """`token` is shown this once; only its hash is kept."""

    id: str
    token: str
    expires_at: str | None


@router.post("/people/{person_id}/tokens", status_code=201, response_model=NewTokenView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=CreateToken))
async def create_token(call: WriteCall, person_id: str, body: TokenIn) -> Response:
    """A bearer token for somebody."""
    await known_person(call, person_id)
    command, secret = new_token(person_id, body.expires_at)
    # A secret cannot be shown twice, so a repeated request makes a second token.
    call.key = None
    await call.desk.submit(call, command)
    view = NewTokenView(id=command.token_id, token=secret, expires_at=v.when_or_none(body.expires_at))
    return Answer(view, 201, {"cache-control": "no-store"})


def new_token(person_id: str, expires_at: datetime | None = None) -> tuple[CreateToken, str]:
    """The command that makes a token, and its secret: 256 bits, recognisable to secret scanners by the prefix."""
    secret = "cw_" + secrets.token_urlsafe(32)
    command = CreateToken(
        person_id=person_id,
        token_id=secrets.token_hex(8),
        secret_hash=people.secret_hash(secret),
        expires_at=expires_at,
    )
    return command, secret


@router.post("/people/{person_id}/tokens/{token_id}/revocation", status_code=201, response_model=v.PersonView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=RevokeToken))
async def revoke_token(call: WriteCall, person_id: str, token_id: str, body: i.ReasonIn) -> Response:
    """The token is no good from its very next use on."""
    await known_person(call, person_id)
    command = RevokeToken(person_id=person_id, token_id=token_id)
    return await answer_with_person(call, await call.desk.submit(call, command), 201)


async def known_person(call: Call, person_id: str) -> None:
    if person_id not in {one.id for one in await people.everybody(call.desk.database)}:
        raise NotFound("person")


async def answer_with_person(call: Call, receipt: Receipt, status: int = 200) -> Answer:
    if receipt.person is None:
        raise NotFound("person")
    call.desk.forget_directory()
    return Answer(await person_answer(call, receipt.person.id), status, {"audit-receipt": receipt.audit_receipt or ""})


async def person_answer(call: Call, person_id: str) -> v.PersonView:
    names = await people.names(call.desk.database)
    person = next((one for one in await people.everybody(call.desk.database) if one.id == person_id), None)
    if person is None:
        raise NotFound("person")
    return v.person_view(person, names.get(person_id, {}))
