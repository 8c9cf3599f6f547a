"""The log and the cases to take away as files, for people's own tools: docs/exports.md describes the formats."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from msgspec.structs import replace
from pydantic import Field, StringConstraints, ValidationError
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api import inputs as i
from api.errors import documented
from api.exporting import MEDIA_TYPES, Format, Order, What, whole_log, written
from api.people import assignee_of
from api.routing import DeskRoute, ReadCall, field_errors, reads
from storage.database import Database
from storage.exports import ChainKind, Wanted
from workflow.desk import RecordExport
from workflow.errors import BadInput
from workflow.policy import Category
from workflow.roles import OVERSEERS
from workflow.states import CaseState

router = APIRouter(prefix="/v1/exports", tags=["exports"], route_class=DeskRoute)

KINDS = "|".join(ChainKind)
Kinds = Annotated[str, StringConstraints(max_length=100, pattern=f"^({KINDS})(,({KINDS}))*$")]


class ExportQuery(i.Input):
    """Of cases, as they are now; events are then those of these cases."""

    personal: bool = Field(default=False, description="with the texts that the log holds only commitments to")
    state: CaseState | None = None
    category: Category | None = None
    assignee: i.Text | None = Field(default=None, description="an id or address; empty: cases without one")
    opened_from: i.Moment | None = None
    opened_until: i.Moment | None = Field(default=None, description="that moment not included")
    changed_from: i.Moment | None = None
    changed_until: i.Moment | None = Field(default=None, description="that moment not included")

    @property
    def wanted(self) -> Wanted:
        return Wanted(**{name: getattr(self, name) for name in Wanted.__struct_fields__})


class EventsQuery(ExportQuery):
    format: Format = Format.JSONL
    chains: Kinds | None = Field(default=None, description="kinds of chains, with commas between them")

    @property
    def order(self) -> Order:
        chains = tuple(map(ChainKind, self.chains.split(","))) if self.chains else ()
        return Order(format=self.format, personal=self.personal, chains=chains, wanted=self.wanted)


class CasesQuery(ExportQuery):
    format: Literal[Format.JSONL, Format.CSV] = Format.JSONL

    @property
    def order(self) -> Order:
        return Order(what=What.CASES, format=self.format, personal=self.personal, wanted=self.wanted)


def asked(what: What, said: dict[str, Any]) -> Order:
    """What these parameters ask for, whoever says them. Raises BadInput."""
    try:
        query = (CasesQuery if what == What.CASES else EventsQuery).model_validate(said)
    except ValidationError as invalid:
        raise BadInput(*field_errors(invalid)) from invalid
    query.order.check()
    return query.order


def files(*formats: Format) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI."""
    content = {
        MEDIA_TYPES[one].partition(";")[0]: {"schema": {"type": "object" if one is Format.OCEL else "string"}}
        for one in formats
    }
    return {200: {"description": "the file, as long as it is", "content": content}}


@router.get("/events", response_class=Response, responses=files(*Format) | documented(422))
@reads(OVERSEERS)
async def export_events(call: ReadCall, query: Annotated[EventsQuery, Query()]) -> Response:
    """Events, as many as there are, from one moment: the log in its order, or for process mining (XES, OCEL 2.0).

    Whoever takes them away is recorded.
    """
    return await download(call, query.order)


@router.get("/cases", response_class=Response, responses=files(Format.JSONL, Format.CSV) | documented(422))
@reads(OVERSEERS)
async def export_cases(call: ReadCall, query: Annotated[CasesQuery, Query()]) -> Response:
    """Cases as they stand, as many as there are, from one moment.

    Whoever takes them away is recorded.
    """
    return await download(call, query.order)


@router.get("/log", response_class=Response, responses=files(Format.JSONL) | documented())
@reads(OVERSEERS)
async def export_log(call: ReadCall) -> Response:
    """The whole log under a checkpoint signed just now, for `casework-verify` to check offline: no text of a client.

    Whoever takes it away is recorded, in this very file.
    """
    return await download(call, Order(what=What.LOG))


async def download(call: ReadCall, order: Order) -> Response:
    """Raises what there is to say before the first byte; what goes wrong later cuts the answer off."""
    desk = call.desk
    order.check()
    order = await with_assignee(desk.database, order)
    taken = RecordExport(what=order.what, format=order.format, personal=order.personal, only=order.only)
    await desk.submit_event(call, taken)
    blocks = whole_log(desk.sequencer) if order.what == What.LOG else written(desk.database, order, desk.secret)
    return Download(await anext(blocks), blocks, order)


async def with_assignee(database: Database, order: Order) -> Order:
    """The order with the assignee's id in place of an address, which is not to be recorded. Raises BadInput."""
    return replace(order, wanted=replace(order.wanted, assignee=await assignee_of(database, order.wanted.assignee)))


class Download(StreamingResponse):
    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], order: Order) -> None:
        async def content() -> AsyncGenerator[bytes]:
            yield first
            async for block in rest:
                yield block

        headers = {
            "cache-control": "no-store",
            "content-disposition": f'attachment; filename="{order.file_name}"',
        }
        super().__init__(content(), headers=headers, media_type=MEDIA_TYPES[order.format])
        self.rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.rest.aclose()  # whoever goes away early leaves no reading behind
