"""What others follow: the feed over all chains, refused attempts, and mail that opened nothing."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api import views as v
from api.errors import documented
from api.routing import Answer, Call, DeskRoute, ReadCall, reads
from storage import cases
from workflow.events import AttemptRefused, Recorded
from workflow.roles import OVERSEERS, READERS
from workflow.states import Trigger

router = APIRouter(prefix="/v1", tags=["feed"], route_class=DeskRoute)

MOST_SECONDS = 10  # less than a service that stops waits for the requests under way
LOOK_SECONDS = 0.25


class FeedQuery(i.Input):
    after: int = Field(default=0, ge=0, le=2**53, description="the position of the last event you have")
    limit: int = Field(default=100, ge=1, le=1000)
    wait: int = Field(
        default=0, ge=0, le=MOST_SECONDS, description="seconds to wait for the next event, where there is none yet"
    )


@router.get("/events", response_model=v.FeedView, responses=documented(422))
@reads(READERS)
async def feed(call: ReadCall, query: Annotated[FeedQuery, Query()]) -> Response:
    """Every event of the desk by its dense position, without a gap: ask again with `after` set to `next`.

    Texts are not part of it; `body` is what was hashed. docs/feed.md says how to follow it.
    """
    found = await awaited(call, query)
    items = [v.FeedEventView(position=position, event=v.event_view(one, body, None)) for position, one, body in found]
    return Answer(v.FeedView(items=items, next=items[-1]["position"] if items else query.after))


async def awaited(call: Call, query: FeedQuery) -> list[tuple[int, Recorded, str]]:
    """What there is, or what comes next: at once if anything is there, and empty once the wait is over."""
    ends_at = time.monotonic() + query.wait
    while True:
        await call.desk.sequencer.catch_up()
        found = await cases.feed(call.desk.database, query.after, query.limit)
        if found or time.monotonic() >= ends_at:
            return found
        await asyncio.sleep(LOOK_SECONDS)


class PageQuery(i.Input):
    limit: int = Field(default=50, ge=1, le=200)
    cursor: int | None = Field(default=None, ge=1, le=2**53)


class RefusedAttemptView(TypedDict):
    at: str
    actor: str
    via: str
    request: str
    code: str
    command: str
    case: str | None
    version: int | None
    trigger: Trigger | None
    refusals: list[str]
    receipt: str


class RefusalListView(TypedDict):
    items: list[RefusedAttemptView]
    next: int | None


@router.get("/refusals", response_model=RefusalListView, responses=documented(422))
@reads(OVERSEERS)
async def list_refusals(call: ReadCall, query: Annotated[PageQuery, Query()]) -> Response:
    """Attempts that the rules refused, newest first."""
    return Answer(await refused_attempts(call, query))


async def refused_attempts(call: Call, query: PageQuery) -> RefusalListView:
    found = await cases.of_type(call.desk.database, "refused", query.cursor, query.limit + 1)
    items = []
    for _, one, _ in found[: query.limit]:
        if isinstance(data := one.data, AttemptRefused):
            items.append(
                RefusedAttemptView(
                    at=one.event.at,
                    actor=one.event.actor,
                    via=one.event.via,
                    request=one.event.request,
                    code=data.code,
                    command=data.command,
                    case=data.case,
                    version=data.version,
                    trigger=data.trigger,
                    refusals=list(data.refusals),
                    receipt=f"{one.event.chain}/{one.event.seq}/{one.hash}",
                )
            )
    return RefusalListView(items=items, next=found[query.limit - 1][0] if len(found) > query.limit else None)


class SetAsideView(TypedDict):
    at: str
    reason: str
    sender: str
    subject: str
    text: str


class SetAsideListView(TypedDict):
    items: list[SetAsideView]
    next: int | None


@router.get("/set-aside", response_model=SetAsideListView, responses=documented(422))
@reads(READERS)
async def list_set_aside(call: ReadCall, query: Annotated[PageQuery, Query()]) -> Response:
    """Mail that opened nothing, newest first, for a person to look at."""
    return Answer(await mail_set_aside(call, query))


async def mail_set_aside(call: Call, query: PageQuery) -> SetAsideListView:
    found = await cases.of_type(call.desk.database, "mail_set_aside", query.cursor, query.limit + 1)
    items = [
        SetAsideView(
            at=one.event.at,
            reason=str(one.event.data["reason"]),
            sender=texts.get("sender", v.ERASED),
            subject=texts.get("subject", v.ERASED),
            text=texts.get("text", v.ERASED),
        )
        for _, one, texts in found[: query.limit]
    ]
    return SetAsideListView(items=items, next=found[query.limit - 1][0] if len(found) > query.limit else None)
