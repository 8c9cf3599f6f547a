"""The log for whoever verifies it: C2SP's tlog-tiles under /audit/, and proofs as JSON."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import PlainTextResponse, Response
from typing_extensions import TypedDict

from api import inputs as i
from api.errors import documented
from api.routing import Answer, Call, DeskRoute, ReadCall, reads
from api.settings import Settings
from storage import checkpoints
from storage.database import asking
from storage.merkle import entry_bundle, parsed_tile_path, tile_width
from storage.tree import Tree
from workflow.errors import NotFound, bad_field
from workflow.roles import ADMINS, OVERSEERS

T = TypeVar("T")

router = APIRouter(prefix="/audit", tags=["audit"], route_class=DeskRoute)

LOG_READERS = OVERSEERS | ADMINS
BINARY = "application/octet-stream"
YEAR_SECONDS = 365 * 24 * 3600


def is_public(settings: Settings) -> bool:
    return settings.public_audit_log


async def of_tree(call: Call, question: Callable[[Tree], T]) -> T:
    """The answer to a question about the tree as it stands."""

    def ask(connection: Connection) -> T:
        return question(Tree(connection))

    with asking():
        return await call.desk.database.run(ask)


def answering(media_type: str, schema: dict[str, Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": schema}}}, **documented(*statuses)}


# As C2SP says (c2sp.org/tlog-tiles).


@router.get("/checkpoint", response_class=Response, responses=answering("text/plain", {"type": "string"}, 404))
@reads(LOG_READERS, is_public)
async def checkpoint(call: ReadCall) -> Response:
    """The newest checkpoint: a signed note of origin, size and root (c2sp.org/tlog-checkpoint)."""
    signed = await checkpoints.newest(call.desk.database)
    if signed is None:
        raise NotFound("checkpoint")
    return PlainTextResponse(signed.note, headers={"cache-control": "no-cache"})


@router.get(
    "/tile/{tile:path}",
    response_class=Response,
    responses=answering(BINARY, {"type": "string", "format": "binary"}, 404),
)
@reads(LOG_READERS, is_public)
async def tile(call: ReadCall, tile: str) -> Response:
    """The hashes of a tile, `<L>/<N>[.p/<W>]`, or the events under one of level 0, `entries/<N>[.p/<W>]`.

    Numbers are written as c2sp.org/tlog-tiles says, such as `0/x001/x234/067.p/8`. Events are the bytes that were
    hashed, each after its length in two; they hold no personal data.
    """
    try:
        level, index, width = parsed_tile_path(f"tile/{tile}")
    except ValueError:
        raise NotFound("tile") from None

    def content(tree: Tree) -> bytes:
        if width > tile_width(level or 0, index, tree.size):
            raise NotFound("tile")
        return entry_bundle(tree.entries(index, width)) if level is None else tree.tile(level, index, width)

    octets = await of_tree(call, content)
    scope = "public" if is_public(call.desk.settings) else "private"
    caching = {"cache-control": f"{scope}, max-age={YEAR_SECONDS}, immutable"}
    return Response(octets, headers=caching, media_type=BINARY)


# Proofs, for those who would rather not fetch tiles. Hashes are in hex, as in events.

Size = Annotated[int | None, Field(ge=1, le=2**53, description="of the tree; if not given, as large as it is")]


class InclusionQuery(i.Input):
    position: int = Field(ge=1, le=2**53, description="of the event, as the feed gives it; the leaf's index plus one")
    size: Size = None


class InclusionView(TypedDict):
    position: int
    index: int
    size: int
    leaf: str
    proof: list[str]
    root: str


class ConsistencyQuery(i.Input):
    first: int = Field(alias="from", ge=1, le=2**53)
    second: int | None = Field(default=None, alias="to", ge=1, le=2**53, description="if not given, as large as it is")


class ConsistencyView(TypedDict):
    first: int
    second: int
    first_root: str
    second_root: str
    proof: list[str]


@router.get("/proofs/inclusion", response_model=InclusionView, responses=documented(422))
@reads(LOG_READERS, is_public)
async def inclusion(call: ReadCall, query: Annotated[InclusionQuery, Query()]) -> Response:
    """That an event is in the tree of a size (RFC 9162 §2.1.3), such as that of a checkpoint."""
    return Answer(await proof_of(call, query.position, query.size))


async def proof_of(call: Call, position: int, wanted: int | None) -> InclusionView:
    """Raises BadInput."""

    def prove(tree: Tree) -> InclusionView:
        size = within(tree, "size", wanted)
        if position > size:
            raise bad_field("position", f"is not in a tree of {size} events")
        return InclusionView(
            position=position,
            index=position - 1,
            size=size,
            leaf=tree.node(0, position - 1).hex(),
            proof=in_hex(tree.inclusion(position, size)),
            root=tree.root(size).hex(),
        )

    return await of_tree(call, prove)


@router.get("/proofs/consistency", response_model=ConsistencyView, responses=documented(422))
@reads(LOG_READERS, is_public)
async def consistency(call: ReadCall, query: Annotated[ConsistencyQuery, Query()]) -> Response:
    """That the tree of one size begins with that of a smaller one, event by event (RFC 9162 §2.1.4)."""

    def prove(tree: Tree) -> ConsistencyView:
        second = within(tree, "to", query.second)
        if query.first > second:
            raise bad_field("from", f"is larger than {second}")
        return ConsistencyView(
            first=query.first,
            second=second,
            first_root=tree.root(query.first).hex(),
            second_root=tree.root(second).hex(),
            proof=in_hex(tree.consistency(query.first, second)),
        )

    return Answer(await of_tree(call, prove))


def within(tree: Tree, field: str, size: int | None) -> int:
    """Raises BadInput."""
    if size is None:
        return tree.size
    if size > tree.size:
        raise bad_field(field, f"the tree has {tree.size} events")
    return size


def in_hex(hashes: list[bytes]) -> list[str]:
    return [one.hex() for one in hashes]
