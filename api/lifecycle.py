"""The lifecycle over HTTP: the table itself, and its pictures; and the pictures of one case's path."""

from collections.abc import Callable

from fastapi import APIRouter
from starlette.responses import Response
from typing_extensions import TypedDict

from api.cases import READ, READ_ERRORS, found_entry, history_of
from api.errors import documented
from api.routing import Answer, Call, DeskRoute, ReadCall, reads
from diagrams.diagram import Diagram
from diagrams.dot import as_dot
from diagrams.lifecycle import lifecycle_diagram
from diagrams.mermaid import as_mermaid
from diagrams.path import path_diagram
from diagrams.svg import as_svg
from workflow.lifecycle import LIFECYCLE, LOGGED_TABLE
from workflow.permissions import NEEDS, permissions
from workflow.roles import EVERYONE, READERS, Role
from workflow.states import CaseState, Trigger

lifecycle_router = APIRouter(prefix="/v1/lifecycle", tags=["lifecycle"], route_class=DeskRoute)
path_router = APIRouter(prefix="/v1/cases", tags=["cases"], route_class=DeskRoute)

SVG = "image/svg+xml"
PLAIN = "text/plain; charset=utf-8"
# An SVG may be opened by itself: it shall run and load nothing.
PICTURE_HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


class TransitionView(TypedDict):
    trigger: Trigger
    source: CaseState
    target: CaseState
    roles: list[Role]
    guards: list[str]
    needs: list[str]


class LifecycleView(TypedDict):
    hash: str
    states: list[CaseState]
    transitions: list[TransitionView]


@lifecycle_router.get("", response_model=LifecycleView, responses=documented())
@reads(EVERYONE)
async def read_lifecycle(_: ReadCall) -> Response:
    """Everything that can happen to a case, and the hash by which events name this table."""
    rows = [
        TransitionView(
            trigger=row.trigger,
            source=row.source,
            target=row.target,
            roles=list(row.roles),
            guards=list(row.guards),
            needs=list(NEEDS[row.trigger]),
        )
        for row in LOGGED_TABLE
    ]
    return Answer(LifecycleView(hash=LIFECYCLE, states=list(CaseState), transitions=rows))


def picture(text: str, media_type: str, version: int | None = None) -> Response:
    headers = PICTURE_HEADERS if version is None else {**PICTURE_HEADERS, "etag": f'"{version}"'}
    return Response(text, headers=headers, media_type=media_type)


def documented_picture(media_type: str) -> dict[int | str, dict[str, object]]:
    return {200: {"content": {media_type.partition(";")[0]: {"schema": {"type": "string"}}}}}


async def path_of(call: Call, case_id: str) -> tuple[Diagram, int]:
    """The picture, and the version that it shows."""
    history, _, version = await history_of(call, case_id)
    entry = await found_entry(call, case_id)
    await call.desk.record_read(call, case_id, version, "diagram")
    possible = permissions(entry.case, call.caller.actor, call.desk.clock(), await call.desk.context())
    return path_diagram([one for one, _ in history], possible), version


def add_pictures(ending: str, draw: Callable[[Diagram], str], media_type: str) -> None:
    """The same two pictures in one more format."""

    @lifecycle_router.get(
        f"/diagram.{ending}",
        response_class=Response,
        responses={**documented_picture(media_type), **documented()},
        name=f"lifecycle_{ending}",
    )
    @reads(EVERYONE)
    async def draw_lifecycle(_: ReadCall) -> Response:
        """The lifecycle as a picture."""
        return picture(draw(lifecycle_diagram()), media_type)

    @path_router.get(
        f"/{{case_id}}/diagram.{ending}",
        response_class=Response,
        responses={200: READ[200] | documented_picture(media_type)[200], **READ_ERRORS},
        name=f"path_{ending}",
    )
    @reads(READERS)
    async def draw_path(call: ReadCall, case_id: str) -> Response:
        """The way the case has gone, where it stands, and what is possible next."""
        diagram, version = await path_of(call, case_id)
        return picture(draw(diagram), media_type, version)


add_pictures("svg", as_svg, SVG)
add_pictures("mmd", as_mermaid, PLAIN)
add_pictures("dot", as_dot, PLAIN)
