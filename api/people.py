"""People over HTTP: who works here, and the routes by which an admin changes that."""

import base64
import hmac
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api import views as v
from api.errors import documented
from api.routing import Answer, Call, DeskRoute, PutCall, ReadCall, Rules, WriteCall, reads, ruled
from storage import people
from storage.database import Database
from storage.submissions import Receipt, Unauthorized
from workflow.errors import NotFound, bad_field
from workflow.events import TokenCreated
from workflow.people import AddPerson, CreateToken, DisablePerson, LinkIdentity, Person, RevokeToken, SetRoles
from workflow.roles import ADMINS, EVERYONE, Role, TokenKind

router = APIRouter(prefix="/v1", tags=["people"], route_class=DeskRoute)
WRITTEN = documented(404, 409, 413, 415, 422)


class PeopleView(TypedDict):
    items: list[v.PersonView]


@router.get("/me", response_model=v.PersonView, responses=documented())
@reads(EVERYONE)
async def read_me(call: ReadCall) -> Response:
    """Whose token this is."""
    person = await people.one(call.desk.database, call.caller.actor.id)
    if person is None:
        raise Unauthorized
    return Answer(await view_of(call, person))


@router.get("/people", response_model=PeopleView, responses=documented())
@reads(EVERYONE)
async def list_people(call: ReadCall) -> Response:
    """Everybody who works or worked here."""
    found = await people.everybody(call.desk.database)
    names = await people.names_of(call.desk.database, found)
    views = [v.person_view(one, names.get(one.id, {})) for one in found]
    return Answer(PeopleView(items=sorted(views, key=lambda one: (one["name"], one["id"]))))


class PersonIn(i.Input):
    email: i.Email
    name: i.Line
    roles: Annotated[list[Role], Field(min_length=1, max_length=5)]


@router.post("/people", status_code=201, response_model=v.PersonView, responses=documented(409, 413, 415, 422))
@ruled(Rules(roles=ADMINS, command=AddPerson))
async def add_person(call: WriteCall, body: PersonIn) -> Response:
    """Somebody new."""
    command = AddPerson(person_id=str(uuid.uuid4()), email=body.email, name=body.name, roles=tuple(body.roles))
    return await answer_with_person(call, await call.desk.submit(call, command), 201)


class RolesIn(i.Input):
    roles: Annotated[list[Role], Field(min_length=1, max_length=5)]


@router.put("/people/{person_id}/roles", response_model=v.PersonView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=SetRoles))
async def set_roles(call: PutCall, person_id: str, body: RolesIn) -> Response:
    """What they may do from now on."""
    command = SetRoles(person_id=person_id, roles=tuple(body.roles))
    return await answer_with_person(call, await call.desk.submit(call, command))


@router.post("/people/{person_id}/disabling", status_code=201, response_model=v.PersonView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=DisablePerson))
async def disable_person(call: WriteCall, person_id: str, body: i.ReasonIn) -> Response:
    """They can do nothing any more, from their very next request on."""
    return await answer_with_person(
        call, await call.desk.submit(call, DisablePerson(person_id=person_id, reason=body.reason)), 201
    )


class TokenIn(i.Input):
    expires_at: i.Moment | None = None


class NewTokenView(TypedDict):
    """`token` is in this answer alone; only its hash is kept."""

    id: str
    token: str
    expires_at: datetime | None


@router.post("/people/{person_id}/tokens", status_code=201, response_model=NewTokenView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=CreateToken))
async def create_token(call: WriteCall, person_id: str, body: TokenIn) -> Response:
    """A bearer token for somebody."""
    token_id = new_token_id()
    command, secret = new_token(person_id, body.expires_at, token_id, secret_under_key(call, token_id))
    receipt = await call.desk.submit(call, command)
    created = receipt.events[-1].data
    if receipt.repeated and isinstance(created, TokenCreated):
        token_id, secret = created.token, secret_under_key(call, created.token) or secret
    view = NewTokenView(id=token_id, token=secret, expires_at=body.expires_at)
    return Answer(view, 201, {"cache-control": "no-store", "audit-receipt": str(receipt.audit_receipt)})


def new_token(
    person_id: str, expires_at: datetime | None = None, token_id: str = "", secret: str | None = None
) -> tuple[CreateToken, str]:
    """The command that makes a token, and its secret: 256 bits, recognisable to secret scanners by the prefix."""
    secret = secret or "cw_" + secrets.token_urlsafe(32)
    command = CreateToken(
        person_id=person_id,
        token_id=token_id or new_token_id(),
        secret_hash=people.secret_hash(secret),
        expires_at=expires_at,
    )
    return command, secret


LINK = timedelta(days=1)


def new_link(person_id: str, now: datetime, token_id: str = "", secret: str | None = None) -> tuple[CreateToken, str]:
    """The command that lets somebody sign in once without a password, and the secret that the link ends with."""
    secret = secret or secrets.token_urlsafe(32)
    command = CreateToken(
        person_id=person_id,
        token_id=token_id or new_token_id(),
        secret_hash=people.secret_hash(secret),
        kind=TokenKind.LINK,
        expires_at=now + LINK,
    )
    return command, secret


def new_calendar(person_id: str, token_id: str = "", secret: str | None = None) -> tuple[CreateToken, str]:
    """The command that lets a calendar program read somebody's consultations, and the secret in its address."""
    command, secret = new_token(person_id, None, token_id, secret)
    return msgspec.structs.replace(command, kind=TokenKind.CALENDAR), secret


def new_identity(person_id: str, issuer: str, subject: str) -> LinkIdentity:
    """The command that lets somebody sign in whom an identity provider knows by this."""
    return LinkIdentity(
        person_id=person_id,
        identity_id=new_token_id(),
        issuer=issuer,
        subject=subject,
        salt=secrets.token_bytes(32),
    )


def new_token_id() -> str:
    return secrets.token_hex(8)


def secret_under_key(call: Call, token_id: str) -> str | None:
    """A secret that whoever repeats the request under its idempotency key is given again, though it is kept nowhere.

    It takes the service's own key and the client's to make it; the database has neither.
    """
    if not call.key_scope:
        return None
    seed = hmac.digest(call.desk.secret, f"token {token_id}\n{call.key_scope}".encode(), "sha256")
    return "cw_" + base64.urlsafe_b64encode(seed).decode().rstrip("=")


@router.post(
    "/people/{person_id}/tokens/{token_id}/revocation", status_code=201, response_model=v.PersonView, responses=WRITTEN
)
@ruled(Rules(roles=ADMINS, command=RevokeToken))
async def revoke_token(call: WriteCall, person_id: str, token_id: str, body: i.ReasonIn) -> Response:
    """The token is no good from its very next use on."""
    command = RevokeToken(person_id=person_id, token_id=token_id, reason=body.reason)
    return await answer_with_person(call, await call.desk.submit(call, command), 201)


async def answer_with_person(call: Call, receipt: Receipt, status: int = 200) -> Answer:
    if receipt.person is None:
        raise NotFound("person")
    call.desk.forget_directory()
    proof = receipt.audit_receipt
    return Answer(await view_of(call, receipt.person), status, {"audit-receipt": proof} if proof else None)


async def view_of(call: Call, person: Person) -> v.PersonView:
    names = await people.names_of(call.desk.database, [person])
    return v.person_view(person, names.get(person.id, {}))


async def assignee_of(database: Database, name: str | None) -> str | None:
    """The id of whoever an id or address names, since addresses are not recorded; or nothing. Raises BadInput."""
    if not name:
        return name
    person = await (people.by_email if "@" in name else people.one)(database, name)
    if person is None:
        raise bad_field("assignee", "is nobody of this desk")
    return person.id
