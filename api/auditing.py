"""Who looked at what, and who changed the desk itself: two streams of the log that auditors read by themselves."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response
from typing_extensions import TypedDict

from api.errors import documented
from api.feed import PageQuery
from api.routing import Answer, Call, DeskRoute, ReadCall, reads
from storage import auditing
from workflow.events import Recorded
from workflow.people import person_chain
from workflow.roles import ADMINS, OVERSEERS

router = APIRouter(prefix="/v1", tags=["audit"], route_class=DeskRoute)

READS = ("case_read", "export_taken")
CHANGES = (
    "person_added",
    "roles_set",
    "person_disabled",
    "token_created",
    "token_revoked",
    "password_set",
    "identity_linked",
    "identity_unlinked",
    "policy_added",
    "desk_created",
    "lifecycle_adopted",
    "signing_key_announced",
    "webhook_added",
    "webhook_changed",
    "webhook_secret_rotated",
    "webhook_removed",
    "webhook_pinged",
    "webhook_replayed",
)


class NotedView(TypedDict):
    """`receipt` is the event's place in the log, and its hash."""

    type: str
    at: str
    actor: str
    via: str
    request: str
    data: dict[str, Any]
    receipt: str


class ReadListView(TypedDict):
    items: list[NotedView]
    next: int | None


@router.get("/reads", response_model=ReadListView, responses=documented(422))
@reads(OVERSEERS)
async def list_reads(call: ReadCall, query: Annotated[PageQuery, Query()]) -> Response:
    """What auditors have read of cases, and the bundles and exports that anybody has taken away; newest first.

    Each was recorded before it was handed out.
    """
    items, following = await noted(call, READS, query)
    return Answer(ReadListView(items=[noted_view(one) for one in items], next=following))


class ChangeOfDeskView(NotedView):
    """`person` is whom it is about, where it is about somebody."""

    person: str | None


class ChangesOfDeskView(TypedDict):
    items: list[ChangeOfDeskView]
    next: int | None


@router.get("/changes", response_model=ChangesOfDeskView, responses=documented(422))
@reads(OVERSEERS | ADMINS)
async def list_changes(call: ReadCall, query: Annotated[PageQuery, Query()]) -> Response:
    """Every change of people, roles, tokens, policy, lifecycle, signing keys and the desk's settings; newest first."""
    items, following = await noted(call, CHANGES, query)
    views = [ChangeOfDeskView(**noted_view(one), person=person_of(one)) for one in items]
    return Answer(ChangesOfDeskView(items=views, next=following))


async def noted(call: Call, kinds: tuple[str, ...], query: PageQuery) -> tuple[list[Recorded], int | None]:
    """A page, and what the next one begins after."""
    found = await auditing.listed(call.desk.database, kinds, query.cursor, query.limit + 1)
    page = found[: query.limit]
    return [one for _, one in page], page[-1][0] if len(found) > query.limit else None


def noted_view(recorded: Recorded) -> NotedView:
    event = recorded.event
    return {
        "type": event.type,
        "at": event.at,
        "actor": event.actor,
        "via": event.via,
        "request": event.request,
        "data": msgspec.to_builtins(recorded.data),
        "receipt": receipt_of(recorded),
    }


def person_of(recorded: Recorded) -> str | None:
    chain, people = recorded.event.chain, person_chain("")
    return chain.removeprefix(people) if chain.startswith(people) else None


def receipt_of(recorded: Recorded) -> str:
    return f"{recorded.event.chain}/{recorded.event.seq}/{recorded.hash}"
