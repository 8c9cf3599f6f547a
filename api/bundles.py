"""What proves a case to somebody who trusts nobody here, as a file to take away: docs/bundle.md describes it."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from api import inputs as i
from api.errors import documented
from api.routing import DeskRoute, ReadCall, reads
from storage.bundles import TooLarge, bundle_of
from workflow.desk import RecordRead
from workflow.errors import NotFound, bad_field
from workflow.roles import OVERSEERS

router = APIRouter(prefix="/v1/cases", tags=["audit"], route_class=DeskRoute)


class BundleQuery(i.Input):
    redacted: bool = Field(default=False, description="without the texts and files, and verifying the same")
    files: bool = Field(default=False, description="with the evidence files, which make it large")
    since: int | None = Field(
        default=None,
        ge=1,
        le=2**53,
        description="size of a checkpoint that you hold: with a proof that the log goes on from it",
    )


@router.get(
    "/{case_id}/bundle",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}, **documented(404, 422)},
)
@reads(OVERSEERS)
async def bundle(call: ReadCall, case_id: str, query: Annotated[BundleQuery, Query()]) -> Response:
    """The case's events with proofs that the log holds them, which `casework-verify` checks offline.

    Whoever takes it away is recorded.
    """
    version = await call.desk.version_of(case_id)
    if version is None:
        raise NotFound("case")
    await call.desk.submit_event(call, RecordRead(case=case_id, version=version, what="bundle"))
    since = () if query.since is None else (query.since,)
    try:
        content = await bundle_of(call.desk.sequencer, case_id, redacted=query.redacted, files=query.files, since=since)
    except TooLarge as refused:
        raise bad_field("files", str(refused)) from refused
    headers = {
        "etag": f'"{version}"',
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="case-{case_id}.bundle.json"',
    }
    return Response(content, headers=headers, media_type="application/json")
