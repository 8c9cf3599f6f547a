"""Findings: what an auditor has found in an event of a case, what people answer, and how it was closed."""

import uuid
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api import views as v
from api.errors import documented
from api.feed import PageQuery
from api.routing import Answer, Call, DeskRoute, ReadCall, Rules, WriteCall, reads, ruled
from storage import auditing, cases
from storage.auditing import Told
from workflow.cases import chain_of
from workflow.errors import NotFound, bad_field
from workflow.events import Severity
from workflow.findings import FINDING_ROLES, AnswerFinding, CloseFinding, FindingCommand, OpenFinding
from workflow.roles import READERS

router = APIRouter(prefix="/v1", tags=["audit"], route_class=DeskRoute)

CASE = "/cases/{case_id}/findings"
FINDING = f"{CASE}/{{finding_id}}"
WRITTEN = documented(404, 409, 413, 415, 422)


class FindingAnswerView(TypedDict):
    by: str
    at: datetime
    text: str


class FindingView(TypedDict):
    """`about` is the receipt of the event that it is about, `receipt` that of the finding's own last event."""

    id: str
    case: str
    about: str
    severity: Severity
    open: bool
    opened_by: str
    opened_at: datetime
    changed_at: datetime
    text: str
    answers: list[FindingAnswerView]
    closed_by: str | None
    conclusion: str | None
    receipt: str


class FindingListView(TypedDict):
    items: list[FindingView]
    next: int | None


class FindingIn(i.Input):
    """`hash` is that of the event number `seq` of the case, as its history has it."""

    seq: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
    hash: i.Identifier
    severity: Severity
    text: i.Reason


class SayingIn(i.Input):
    text: i.Reason


class FindingsQuery(PageQuery):
    case: i.Identifier | None = Field(default=None, description="its id, or its number such as C-1042")
    status: Literal["open", "closed"] | None = None


@router.post(CASE, status_code=201, response_model=FindingView, responses=WRITTEN)
@ruled(Rules(roles=FINDING_ROLES[OpenFinding], command=OpenFinding))
async def open_finding(call: WriteCall, case_id: str, body: FindingIn) -> Response:
    """Attach a finding to an event of a case. The case itself is not changed by it."""
    return await answer_with_finding(call, case_id, await opening(call, case_id, body))


async def opening(call: Call, case_id: str, body: FindingIn) -> OpenFinding:
    """Raises NotFound, or BadInput for an event that is not this one."""
    if await call.desk.version_of(case_id) is None:
        raise NotFound("case")
    at = await cases.events(call.desk.database, case_id, after=body.seq - 1, until=body.seq)
    if [one.hash for one, _ in at] != [body.hash]:
        raise bad_field("hash", f"is not the hash of event {body.seq} of this case")
    return OpenFinding(
        finding_id=str(uuid.uuid4()), seq=body.seq, event=body.hash, severity=body.severity, text=body.text
    )


@router.post(f"{FINDING}/answers", status_code=201, response_model=FindingView, responses=WRITTEN)
@ruled(Rules(roles=FINDING_ROLES[AnswerFinding], command=AnswerFinding))
async def answer_finding(call: WriteCall, case_id: str, finding_id: str, body: SayingIn) -> Response:
    """Say what there is to say to a finding; somebody else than who opened it does, while it is open."""
    return await answer_with_finding(call, case_id, AnswerFinding(finding_id=finding_id, text=body.text))


@router.post(f"{FINDING}/closing", status_code=201, response_model=FindingView, responses=WRITTEN)
@ruled(Rules(roles=FINDING_ROLES[CloseFinding], command=CloseFinding))
async def close_finding(call: WriteCall, case_id: str, finding_id: str, body: SayingIn) -> Response:
    """Close a finding, with the conclusion; an auditor does who has not answered it."""
    return await answer_with_finding(call, case_id, CloseFinding(finding_id=finding_id, text=body.text))


async def answer_with_finding(call: WriteCall, case_id: str, command: FindingCommand) -> Response:
    receipt = await call.desk.submit(call, command, case_id)
    if receipt.finding is None:
        raise NotFound("finding")
    told = await auditing.finding(call.desk.database, case_id, receipt.finding.id)
    if told is None:
        raise NotFound("finding")
    # A repeated request gets what the first was answered with, though more may have been said since.
    view = finding_view(Told(finding=receipt.finding, texts=told.texts))
    version = await call.desk.version_of(case_id)
    return Answer(view, 201, {"audit-receipt": view["receipt"], "etag": f'"{version}"'})


@router.get("/findings", response_model=FindingListView, responses=documented(422))
@reads(READERS)
async def list_findings(call: ReadCall, query: Annotated[FindingsQuery, Query()]) -> Response:
    """What was found, newest first: in one case or in all, still open or closed."""
    database = call.desk.database
    case_id = await cases.find(database, query.case) if query.case is not None else None
    if query.case is not None and case_id is None:
        raise bad_field("case", "is no case of this desk")
    is_open = None if query.status is None else query.status == "open"
    found = await auditing.findings(
        database, case_id=case_id, is_open=is_open, before=query.cursor, limit=query.limit + 1
    )
    page = found[: query.limit]
    following = page[-1].place if len(found) > query.limit else None
    return Answer(FindingListView(items=[finding_view(one) for one in page], next=following))


@router.get(FINDING, response_model=FindingView, responses=documented(404))
@reads(READERS)
async def read_finding(call: ReadCall, case_id: str, finding_id: str) -> Response:
    """One finding, with what was answered."""
    told = await auditing.finding(call.desk.database, case_id, finding_id)
    if told is None:
        raise NotFound("finding")
    return Answer(finding_view(told), headers={"etag": f'"{await call.desk.version_of(case_id)}"'})


def finding_view(told: Told) -> FindingView:
    one, texts = told.finding, told.texts
    return {
        "id": one.id,
        "case": one.case,
        "about": f"{chain_of(one.case)}/{one.seq}/{one.event}",
        "severity": one.severity,
        "open": one.is_open,
        "opened_by": one.opened_by,
        "opened_at": one.opened_at,
        "changed_at": one.changed_at,
        "text": v.text(texts, one.text),
        "answers": [{"by": each.by, "at": each.at, "text": v.text(texts, each.text)} for each in one.answers],
        "closed_by": one.closed_by,
        "conclusion": v.text_or_none(texts, one.conclusion),
        "receipt": f"{one.chain}/{one.version}/{one.head}",
    }
