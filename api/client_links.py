"""The links by which clients see their case: made, listed with the case, and revoked. The secret is told once."""

import secrets
from datetime import datetime, timedelta

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api import views as v
from api.cases import HEADERS, WRITTEN, answer_with_case, headers_of
from api.people import new_token_id, secret_under_key
from api.routing import Answer, Call, DeskRoute, WriteCall, writes
from storage import people
from storage.submissions import Receipt
from workflow.commands import IssueClientLink, RevokeClientLink
from workflow.deciding import LONGEST_CLIENT_LINK
from workflow.errors import NotFound
from workflow.events import ClientLinkIssued

router = APIRouter(prefix="/v1/cases", tags=["cases"], route_class=DeskRoute)

USUAL = timedelta(days=90)


class ClientLinkIn(i.Input):
    expires_at: i.Moment | None = Field(
        default=None,
        description=f"in {USUAL.days} days, if absent; at most {LONGEST_CLIENT_LINK.days} days ahead",
    )


class NewClientLinkView(TypedDict):
    """`path` holds the secret and is in this answer alone; only its hash is kept."""

    id: str
    path: str
    expires_at: datetime


@router.post(
    "/{case_id}/client-links",
    status_code=201,
    response_model=NewClientLinkView,
    responses={201: {"headers": HEADERS}, **WRITTEN},
)
@writes(IssueClientLink)
async def issue_client_link(call: WriteCall, case_id: str, body: ClientLinkIn) -> Response:
    """A secret address at which the client sees this case and answers, without an account."""
    made, receipt = await issue(call, case_id, body.expires_at)
    return Answer(made, 201, headers_of(receipt) | {"cache-control": "no-store"})


@router.post(
    "/{case_id}/client-links/{link_id}/revocation",
    status_code=201,
    response_model=v.CaseView,
    responses={201: {"headers": HEADERS}, **WRITTEN},
)
@writes(RevokeClientLink)
async def revoke_client_link(call: WriteCall, case_id: str, link_id: str, body: i.ReasonIn) -> Response:
    """The link is no good from its very next use on."""
    receipt = await call.desk.submit(call, RevokeClientLink(link_id=link_id, reason=body.reason), case_id)
    return await answer_with_case(call, receipt, 201)


async def issue(call: Call, case_id: str, expires_at: datetime | None) -> tuple[NewClientLinkView, Receipt]:
    """Whoever repeats the request under its key is told the same secret again, though it is kept nowhere."""
    link_id = new_token_id()
    command, secret = new_client_link(expires_at or call.desk.clock() + USUAL, link_id, secret_under_key(call, link_id))
    receipt = await call.desk.submit(call, command, case_id)
    issued = receipt.events[0].data
    if not isinstance(issued, ClientLinkIssued):
        raise NotFound("link")
    if receipt.repeated:
        secret = secret_under_key(call, issued.link) or secret
    return NewClientLinkView(id=issued.link, path=path_of(secret), expires_at=issued.expires_at), receipt


def new_client_link(expires_at: datetime, link_id: str = "", secret: str | None = None) -> tuple[IssueClientLink, str]:
    """The command that makes a link, and the secret that it ends with: 256 bits."""
    secret = secret or "cw_" + secrets.token_urlsafe(32)
    command = IssueClientLink(
        link_id=link_id or new_token_id(), secret_hash=people.secret_hash(secret), expires_at=expires_at
    )
    return command, secret


def path_of(secret: str) -> str:
    return f"/c/{secret}"
