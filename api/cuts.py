"""All cases as they stood at one point of the log, a page at a time."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, NotRequired

import msgspec
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api import views as v
from api.errors import documented
from api.routing import Answer, DeskRoute, ReadCall, reads
from storage import cuts
from storage.cuts import END_OF_TIME, Cut
from storage.database import Database
from storage.sequencer import Sequencer
from workflow.cases import Case, case_number_text
from workflow.errors import bad_field
from workflow.events import at_text
from workflow.policy import Category
from workflow.roles import READERS
from workflow.states import CaseState, Resolution

router = APIRouter(prefix="/v1", tags=["replay"], route_class=DeskRoute)

MAX_POSITION = 2**53
Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_POSITION)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class CutQuery(i.Input):
    """Without either: the end of the log. `cursor` is the `next` of the page before, and stays at its point."""

    at: i.Moment | None = Field(default=None, description="everything that was recorded until this instant")
    position: int | None = Field(
        default=None, ge=1, le=MAX_POSITION, description="everything up to this one, as the feed gives them"
    )
    counts: bool = Field(default=False, description="with how many of all cases were in each state")
    limit: int = Field(default=50, ge=1, le=200)
    cursor: i.Text | None = None


class StoodView(TypedDict):
    """A case as it stood; without its texts, as in the feed. `receipt` is its last event until then."""

    id: str
    number: str
    version: int
    state: CaseState
    category: Category
    assignee: str | None
    changed_at: datetime
    purchase: v.PurchaseView | None
    resolution: Resolution | None
    receipt: str


class CutView(TypedDict):
    """`position` is the last one that belongs to it."""

    position: int
    at: datetime | None
    counts: NotRequired[dict[str, int]]
    items: list[StoodView]
    next: str | None


@router.get("/replay", response_model=CutView, responses=documented(422))
@reads(READERS)
async def replay_all(call: ReadCall, query: Annotated[CutQuery, Query()]) -> Response:
    """Every case as it stood at one point of the log, by the log alone, in the order in which they were opened.

    All pages are of the same point, whatever is recorded meanwhile.
    """
    if query.at is not None and query.position is not None:
        raise bad_field("at", "give a position or an instant, not both")
    database = call.desk.database
    if query.cursor is None:
        cut, after = await point(database, call.desk.sequencer, query.position, query.at), 0
    else:
        cut, after = read_cursor(query.cursor)
    found = await cuts.stood(database, cut, after=after, limit=query.limit + 1)
    page = found[: query.limit]
    view = CutView(
        position=cut.position,
        at=None if cut.at == END_OF_TIME else datetime.fromisoformat(cut.at),
        items=[stood_view(one.case) for one in page],
        next=cursor_after(cut, page[-1].place) if len(found) > query.limit else None,
    )
    if query.counts:
        view["counts"] = {state.value: count for state, count in (await cuts.counted(database, cut)).items()}
    headers = {}
    if view["next"] is not None:
        url = call.request.url.include_query_params(cursor=view["next"]).remove_query_params(["at", "position"])
        headers["link"] = f'<{url.path}?{url.query}>; rel="next"'
    return Answer(view, headers=headers)


async def point(database: Database, sequencer: Sequencer, position: int | None, at: datetime | None) -> Cut:
    """Raises BadInput for a position that the log has not reached."""
    await sequencer.catch_up()
    if at is not None:
        return await cuts.cut_at(database, at_text(at))
    end = await cuts.end_of_log(database)
    if position is not None and position > end:
        raise bad_field("position", f"the log has {end} events")
    return Cut(end if position is None else position)


def cursor_after(cut: Cut, place: int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((cut.position, cut.at, place))).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[Cut, int]:
    """Raises BadInput."""
    try:
        octets = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        position, at, place = msgspec.json.decode(octets, type=tuple[Number, Time, Number])
        return Cut(position, at_text(at)), place
    except (binascii.Error, ValueError, OverflowError):
        raise bad_field("cursor", "is not one that this service gave out") from None


def stood_view(case: Case) -> StoodView:
    return {
        "id": case.id,
        "number": case_number_text(case.number),
        "version": case.version,
        "state": case.state,
        "category": case.category,
        "assignee": case.assignee,
        "changed_at": case.changed_at,
        "purchase": v.purchase_view(case.purchase) if case.purchase else None,
        "resolution": case.resolution,
        "receipt": f"{case.chain}/{case.version}/{case.head}",
    }
