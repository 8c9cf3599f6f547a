"""Cases over HTTP: opening, reading, moving, and everything that is said or found about them."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api import views as v
from api.desk import new_case_id, new_mail_tag
from api.errors import documented, documented_header
from api.letters.drafting import letter_of
from api.routing import (
    Answer,
    Call,
    ChangeCall,
    DeskRoute,
    PutCall,
    ReadCall,
    ReplaceCall,
    Rules,
    WriteCall,
    reads,
    ruled,
    writes,
)
from storage import cases
from storage.batch import Entry
from storage.cases import Filter, Listed, Sort
from storage.submissions import Receipt
from workflow import commands as c
from workflow.deciding import assigners
from workflow.errors import NotFound, bad_field
from workflow.events import Recorded, at_text
from workflow.lifecycle import TRANSITIONS
from workflow.permissions import permissions
from workflow.policy import Category
from workflow.roles import READERS, WORKERS, Role
from workflow.states import CaseState, ResumeReason

router = APIRouter(prefix="/v1/cases", tags=["cases"], route_class=DeskRoute)

OPENED = documented(409, 413, 415, 422)
WRITTEN = documented(404, 409, 413, 415, 422)
CHANGED = documented(404, 409, 412, 413, 415, 422, 428)
READ_ERRORS = documented(404)
ASKED_ERRORS = documented(404, 422)
HEADERS = {
    **documented_header("ETag", "The version, for If-Match"),
    **documented_header(
        "Audit-Receipt", "The last event of this change, as chain/seq/hash; absent if nothing had to change"
    ),
}
LOCATION = documented_header("Location", "Where the case is")
READ = {200: {"headers": documented_header("ETag", "The version of the case, for If-Match")}, **READ_ERRORS}
ASKED = READ | ASKED_ERRORS
Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
RESUME_REASONS = frozenset(ResumeReason)
ALLOWED_TRIGGER_ROLES: frozenset[Role] = frozenset().union(*(row.roles for row in TRANSITIONS))


async def answer_with_case(call: Call, receipt: Receipt, status: int = 200) -> Answer:
    """The case as the command left it."""
    if receipt.case is None:
        raise NotFound("case")
    return Answer(await case_of(call, receipt), status, headers_of(receipt))


async def case_of(call: Call, receipt: Receipt) -> v.CaseView:
    if receipt.case is None:
        raise NotFound("case")
    entry = Entry(case=receipt.case, texts=receipt.texts, stored_version=receipt.case.version)
    context = await call.desk.context()
    # A write is known by its token alone: what its person may do next, the directory knows better.
    person = context.people.get(call.caller.actor.id)
    return v.case_view(entry, person.as_actor() if person else call.caller.actor, call.desk.clock(), context)


def headers_of(receipt: Receipt) -> dict[str, str]:
    headers = {"etag": f'"{receipt.case.version}"'} if receipt.case else {}
    if (proof := receipt.audit_receipt) is not None:
        headers["audit-receipt"] = proof
    return headers


# Opening and reading.


@router.post("", status_code=201, response_model=v.CaseView, responses={201: {"headers": HEADERS | LOCATION}, **OPENED})
@writes(c.OpenCase)
async def open_case(call: WriteCall, body: i.CaseIn) -> Response:
    """Open a case for an inquiry that came by telephone, letter or another system."""
    purchase = body.purchase
    command = c.OpenCase(
        case_id=new_case_id(call.desk.clock()),
        mail_tag=new_mail_tag(),
        subject=body.subject,
        message=body.message,
        client_name=body.client.name,
        client_email=body.client.email,
        category=body.category,
        received_at=body.received_at,
        purchase=purchase.purchase if isinstance(purchase, i.PurchaseIn) else None,
        purchase_reference=purchase.reference if isinstance(purchase, i.PurchaseReferenceIn) else None,
    )
    receipt = await call.desk.submit(call, command)
    answer = await answer_with_case(call, receipt, 201)
    if receipt.case is not None:
        answer.headers["location"] = f"/v1/cases/{receipt.case.id}"
    return answer


class ListQuery(i.Input):
    """All filters together; `cursor` is the `next` of the page before."""

    state: CaseState | None = None
    assignee: i.Text | None = Field(default=None, description="a person's id or address, `me`, or `none`")
    category: Category | None = None
    overdue: bool | None = None
    waiting: bool | None = Field(default=None, description="for the client")
    q: i.Text | None = Field(
        default=None,
        description="words of the subject or the messages, in any alphabet; beginnings of words where no word fits",
    )
    sort: Sort = Sort.NEWEST
    limit: int = Field(default=50, ge=1, le=200)
    cursor: i.Text | None = None


@router.get("", response_model=v.CaseListView, responses=documented(422))
@reads(READERS)
async def list_cases(call: ReadCall, query: Annotated[ListQuery, Query()]) -> Response:
    """Cases by filter, a page at a time."""
    items, cursor = await listed_cases(call, query)
    headers = {}
    if cursor is not None:
        url = call.request.url.include_query_params(cursor=cursor)
        headers["link"] = f'<{url.path}?{url.query}>; rel="next"'
    return Answer(v.CaseListView(items=items, next=cursor), headers=headers)


async def listed_cases(call: Call, query: ListQuery) -> tuple[list[v.ListedCaseView], str | None]:
    """A page, and the cursor of the next one. Raises BadInput."""
    now, database = call.desk.clock(), call.desk.database
    beginnings, after = read_cursor(query.cursor, query.sort)
    wanted = Filter(
        state=query.state,
        assignee=await assignee_named(call, query.assignee),
        category=query.category,
        overdue=query.overdue,
        waiting=query.waiting,
        q=query.q,
        beginnings=beginnings,
    )
    found = await cases.listing(database, wanted, query.sort, now=now, after=after, limit=query.limit + 1)
    if not found and query.q and query.cursor is None:
        # Nothing holds these words as they are: perhaps they are beginnings.
        wanted = msgspec.structs.replace(wanted, beginnings=True)
        found = await cases.listing(database, wanted, query.sort, now=now, after=None, limit=query.limit + 1)
    page = found[: query.limit]
    cursor = cursor_after(page[-1], query.sort, wanted) if len(found) > query.limit else None
    return [v.listed_case_view(one.entry, one.next_deadline, now) for one in page], cursor


async def assignee_named(call: Call, name: str | None) -> str | None:
    if name == "none":
        return ""
    if name == "me":
        return call.caller.actor.id
    return await call.desk.person_id(name)


def cursor_after(last: Listed, sort: Sort, wanted: Filter) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((sort, wanted.beginnings, *last.place))).decode().rstrip("=")


def read_cursor(cursor: str | None, sort: Sort) -> tuple[bool, tuple[Any, ...] | None]:
    """Whether the search is for beginnings of words, and the place to go on after."""
    if cursor is None:
        return False, None
    shape: Any = tuple[Sort, bool, Number] if sort in {Sort.NEWEST, Sort.OLDEST} else tuple[Sort, bool, str, Number]
    try:
        made_for, beginnings, *place = msgspec.json.decode(
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=shape
        )
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        made_for, beginnings, place = None, False, []
    if made_for != sort or "\x00" in str(place[0]):
        raise bad_field("cursor", "is not one that this service gave out for this order")
    return beginnings, tuple(place)


@router.get("/{case_id}", response_model=v.CaseView, responses=READ)
@reads(READERS)
async def read_case(call: ReadCall, case_id: str) -> Response:
    """The case as it stands, with what this reader may do next and why not."""
    entry = await found_entry(call, case_id)
    await call.desk.record_read(call, case_id, entry.case.version, "case")
    view = v.case_view(entry, call.caller.actor, call.desk.clock(), await call.desk.context(entry.case))
    # What is possible depends on the reader and the moment: never from a cache.
    return Answer(view, headers={"etag": f'"{entry.case.version}"', "cache-control": "no-store"})


async def found_entry(call: Call, case_id: str) -> Entry:
    entry = await cases.one(call.desk.database, case_id)
    if entry is None:
        raise NotFound("case")
    return entry


# Transitions.


@router.get("/{case_id}/transitions", response_model=list[v.PermissionView], responses=READ)
@reads(READERS)
async def list_transitions(call: ReadCall, case_id: str) -> Response:
    """Every trigger: whether this reader may fire it now, and if not, every reason."""
    entry = await found_entry(call, case_id)
    await call.desk.record_read(call, case_id, entry.case.version, "transitions")
    allowed = permissions(entry.case, call.caller.actor, call.desk.clock(), await call.desk.context(entry.case))
    headers = {"etag": f'"{entry.case.version}"'}
    return Answer(v.permission_views(allowed), headers=headers)


async def who_may_fire(_: Call, body: dict[str, Any]) -> frozenset[Role]:
    rows = [row for row in TRANSITIONS if row.trigger == body.get("trigger")]
    if not rows:
        return ALLOWED_TRIGGER_ROLES
    data = body.get("data")
    code = data.get("reason_code") if isinstance(data, dict) else None
    return rows[0].roles_for(
        c.ResumeData(reason_code=ResumeReason(code)) if isinstance(code, str) and code in RESUME_REASONS else None
    )


@router.post("/{case_id}/transitions", response_model=v.CaseView, responses={200: {"headers": HEADERS}, **CHANGED})
@ruled(Rules(roles=ALLOWED_TRIGGER_ROLES, if_match=True, command=c.Fire, roles_for=who_may_fire))
async def fire(call: ChangeCall, case_id: str, body: i.TransitionIn) -> Response:
    """Move the case along its lifecycle."""
    data = i.trigger_data(body)
    if isinstance(data, c.InvestigateData) and data.assignee is not None:
        data = c.InvestigateData(assignee=await call.desk.person_id(data.assignee))
    receipt = await call.desk.submit(call, c.Fire(trigger=body.trigger, reason=body.reason, data=data), case_id)
    return await answer_with_case(call, receipt)


# Consultations.


@router.post(
    "/{case_id}/slots", status_code=201, response_model=v.SlotsView, responses={201: {"headers": HEADERS}, **CHANGED}
)
@writes(c.ProposeSlots, if_match=True)
async def propose_slots(call: ChangeCall, case_id: str, body: i.SlotsIn) -> Response:
    """Times for a consultation that the client picks from by their link; they replace those proposed before."""
    command = c.ProposeSlots(slots=tuple(body.slots), minutes=body.minutes, channel=body.channel, text=body.text)
    receipt = await call.desk.submit(call, command, case_id)
    return Answer((await case_of(call, receipt))["slots"], 201, headers_of(receipt))


@router.put("/{case_id}/consultation", response_model=v.CaseView, responses={200: {"headers": HEADERS}, **CHANGED})
@writes(c.MoveConsultation, if_match=True)
async def move_consultation(call: ReplaceCall, case_id: str, body: i.ConsultationIn) -> Response:
    """The booked consultation takes place at another time or by another channel."""
    command = c.MoveConsultation(
        starts_at=body.starts_at, minutes=body.minutes, channel=body.channel, reason=body.reason
    )
    return await answer_with_case(call, await call.desk.submit(call, command, case_id))


@router.post(
    "/{case_id}/attendance",
    status_code=201,
    response_model=v.RemedyView,
    responses={201: {"headers": HEADERS}, **CHANGED},
)
@writes(c.RecordAttendance, if_match=True)
async def record_attendance(call: ChangeCall, case_id: str, body: i.AttendanceIn) -> Response:
    """Whether the client came to the consultation; recorded again, it corrects what was recorded before."""
    command = c.RecordAttendance(attended=body.attended, text=body.text)
    receipt = await call.desk.submit(call, command, case_id)
    return Answer((await case_of(call, receipt))["remedies"][-1], 201, headers_of(receipt))


# The purchase.


@router.put("/{case_id}/purchase", response_model=v.CaseView, responses={200: {"headers": HEADERS}, **CHANGED})
@writes(c.RecordPurchase, if_match=True)
async def record_purchase(call: ReplaceCall, case_id: str, body: i.AnyPurchaseIn) -> Response:
    """The facts as the books have them, again when they change; or a known purchase's reference, to link it."""
    command = (
        c.RecordPurchase(purchase=body.purchase)
        if isinstance(body, i.PurchaseIn)
        else c.RecordPurchase(reference=body.reference)
    )
    return await answer_with_case(call, await call.desk.submit(call, command, case_id))


@router.post(
    "/{case_id}/purchase/checks",
    status_code=201,
    response_model=v.PurchaseView,
    responses={201: {"headers": HEADERS}, **CHANGED},
)
@writes(c.CheckPurchase, if_match=True)
async def check_purchase(call: ChangeCall, case_id: str, body: i.ReasonIn) -> Response:
    """Somebody has checked the facts against the books."""
    receipt = await call.desk.submit(call, c.CheckPurchase(reason=body.reason), case_id)
    return Answer((await case_of(call, receipt))["purchase"], 201, headers_of(receipt))


# Grounds.


@router.post(
    "/{case_id}/grounds", status_code=201, response_model=v.GroundView, responses={201: {"headers": HEADERS}, **CHANGED}
)
@writes(c.RecordGround, if_match=True)
async def record_ground(call: ChangeCall, case_id: str, body: i.GroundIn) -> Response:
    """What the client claims went wrong, and how much of the price it affected."""
    command = c.RecordGround(kind=body.kind, affected=body.affected.money, statement=body.statement)
    receipt = await call.desk.submit(call, command, case_id)
    return await answer_with_part(call, receipt, "grounds", f"g{receipt.seq}")


@router.post(
    "/{case_id}/grounds/{ground_id}/verifications",
    status_code=201,
    response_model=v.GroundView,
    responses={201: {"headers": HEADERS}, **CHANGED},
)
@writes(c.VerifyGround, if_match=True)
async def verify_ground(call: ChangeCall, case_id: str, ground_id: str, body: i.VerificationIn) -> Response:
    """What an examination of the claim found."""
    command = c.VerifyGround(ground=ground_id, verified=body.verified, evidence=body.evidence)
    receipt = await call.desk.submit(call, command, case_id)
    return await answer_with_part(call, receipt, "grounds", ground_id)


async def answer_with_part(call: Call, receipt: Receipt, kind: str, part_id: str) -> Answer:
    """One ground or proposal of the case as the command left it."""
    parts: list[dict[str, Any]] = (await case_of(call, receipt))[kind]  # type: ignore[literal-required]
    part = next(one for one in parts if one["id"] == part_id)
    return Answer(part, 201, headers_of(receipt))


# Proposals.


@router.post(
    "/{case_id}/proposals",
    status_code=201,
    response_model=v.ProposalView,
    responses={201: {"headers": HEADERS}, **CHANGED},
)
@writes(c.Propose, if_match=True)
async def propose(call: ChangeCall, case_id: str, body: i.ProposalIn) -> Response:
    """Propose a refund or a compensation; the answer says who can approve it."""
    command = c.Propose(
        remedy=body.remedy,
        amount=body.amount.money,
        reason=body.reason,
        kind=body.kind,
        grounds=tuple(body.grounds or ()),
    )
    receipt = await call.desk.submit(call, command, case_id)
    return await answer_with_part(call, receipt, "proposals", f"p{receipt.seq}")


@router.post(
    "/{case_id}/proposals/{proposal_id}/verdicts",
    status_code=201,
    response_model=v.ProposalView,
    responses={201: {"headers": HEADERS}, **CHANGED},
)
@writes(c.GiveVerdict, if_match=True)
async def give_verdict(call: ChangeCall, case_id: str, proposal_id: str, body: i.VerdictIn) -> Response:
    """Approve or refuse exactly the proposal whose digest was read."""
    command = c.GiveVerdict(proposal=proposal_id, verdict=body.verdict, digest=body.digest, reason=body.reason)
    receipt = await call.desk.submit(call, command, case_id)
    return await answer_with_part(call, receipt, "proposals", proposal_id)


@router.post(
    "/{case_id}/proposals/{proposal_id}/payouts",
    status_code=201,
    response_model=v.ProposalView,
    responses={201: {"headers": HEADERS}, **CHANGED},
)
@writes(c.BeginPayout, if_match=True)
async def begin_payout(call: ChangeCall, case_id: str, proposal_id: str, body: i.ReasonIn) -> Response:
    """Reserve the amount: from here on the money may leave."""
    receipt = await call.desk.submit(call, c.BeginPayout(proposal=proposal_id, reason=body.reason), case_id)
    return await answer_with_part(call, receipt, "proposals", proposal_id)


@router.post(
    "/{case_id}/proposals/{proposal_id}/payout-failures",
    status_code=201,
    response_model=v.ProposalView,
    responses={201: {"headers": HEADERS}, **CHANGED},
)
@writes(c.FailPayout, if_match=True)
async def fail_payout(call: ChangeCall, case_id: str, proposal_id: str, body: i.ReasonIn) -> Response:
    """The payout did not happen: release the amount."""
    receipt = await call.desk.submit(call, c.FailPayout(proposal=proposal_id, reason=body.reason), case_id)
    return await answer_with_part(call, receipt, "proposals", proposal_id)


@router.post(
    "/{case_id}/proposals/{proposal_id}/payment-reversals",
    status_code=201,
    response_model=v.ProposalView,
    responses={201: {"headers": HEADERS}, **CHANGED},
)
@writes(c.ReversePayment, if_match=True)
async def reverse_payment(call: ChangeCall, case_id: str, proposal_id: str, body: i.ReasonIn) -> Response:
    """The money of a settled refund came back, and the case has moved on since; else it is resumed."""
    receipt = await call.desk.submit(call, c.ReversePayment(proposal=proposal_id, reason=body.reason), case_id)
    return await answer_with_part(call, receipt, "proposals", proposal_id)


@router.post(
    "/{case_id}/proposals/{proposal_id}/withdrawal",
    status_code=201,
    response_model=v.ProposalView,
    responses={201: {"headers": HEADERS}, **CHANGED},
)
@writes(c.WithdrawProposal, if_match=True)
async def withdraw_proposal(call: ChangeCall, case_id: str, proposal_id: str, body: i.ReasonIn) -> Response:
    """Take the proposal back."""
    receipt = await call.desk.submit(call, c.WithdrawProposal(proposal=proposal_id, reason=body.reason), case_id)
    return await answer_with_part(call, receipt, "proposals", proposal_id)


# The case itself.


async def who_may_assign(call: Call, body: dict[str, Any]) -> frozenset[Role]:
    assignee = body.get("assignee")
    if "assignee" not in body or not isinstance(assignee, str | None):
        return WORKERS
    return assigners(await call.desk.person_id(assignee), call.caller.actor)


@router.put("/{case_id}/assignee", response_model=v.CaseView, responses={200: {"headers": HEADERS}, **CHANGED})
@writes(c.Assign, if_match=True, roles_for=who_may_assign)
async def assign(call: ReplaceCall, case_id: str, body: i.AssigneeIn) -> Response:
    """Who works on it. An agent may take a case; giving one to somebody else is a lead's."""
    command = c.Assign(assignee=await call.desk.person_id(body.assignee), reason=body.reason)
    return await answer_with_case(call, await call.desk.submit(call, command, case_id))


@router.put("/{case_id}/category", response_model=v.CaseView, responses={200: {"headers": HEADERS}, **CHANGED})
@writes(c.Recategorize, if_match=True)
async def recategorize(call: ReplaceCall, case_id: str, body: i.CategoryIn) -> Response:
    """What the inquiry is about."""
    command = c.Recategorize(category=body.category, reason=body.reason)
    return await answer_with_case(call, await call.desk.submit(call, command, case_id))


@router.put("/{case_id}/requested-at", response_model=v.CaseView, responses={200: {"headers": HEADERS}, **CHANGED})
@writes(c.CorrectRequestedAt, if_match=True)
async def correct_requested_at(call: ReplaceCall, case_id: str, body: i.RequestedAtIn) -> Response:
    """When the request was really made: a lead's correction, which counts as a change of facts."""
    command = c.CorrectRequestedAt(requested_at=body.requested_at, reason=body.reason)
    return await answer_with_case(call, await call.desk.submit(call, command, case_id))


@router.put("/{case_id}/participants", response_model=v.CaseView, responses={200: {"headers": HEADERS}, **WRITTEN})
@writes(c.SetParticipants)
async def set_participants(call: PutCall, case_id: str, body: i.ParticipantsIn) -> Response:
    """Whose mail counts as the client's."""
    command = c.SetParticipants(participants=tuple(body.participants))
    return await answer_with_case(call, await call.desk.submit(call, command, case_id))


@router.post(
    "/{case_id}/links", status_code=201, response_model=v.LinkView, responses={201: {"headers": HEADERS}, **WRITTEN}
)
@writes(c.LinkCase)
async def link_case(call: WriteCall, case_id: str, body: i.LinkIn) -> Response:
    """Another case that belongs beside this one."""
    receipt = await call.desk.submit(call, c.LinkCase(kind=body.kind, case=body.case), case_id)
    return Answer(v.LinkView(kind=body.kind, case=body.case), 201, headers_of(receipt))


# The conversation.


@router.post(
    "/{case_id}/notes", status_code=201, response_model=v.NoteView, responses={201: {"headers": HEADERS}, **WRITTEN}
)
@writes(c.AddNote)
async def add_note(call: WriteCall, case_id: str, body: i.NoteIn) -> Response:
    """For colleagues only."""
    receipt = await call.desk.submit(call, c.AddNote(text=body.text), case_id)
    event = receipt.events[0].event
    view = v.NoteView(id=f"n{event.seq}", text=body.text, at=event.at, by=event.actor)
    return Answer(view, 201, headers_of(receipt))


@router.post(
    "/{case_id}/messages",
    status_code=201,
    response_model=v.MessageView,
    responses={201: {"headers": HEADERS}, **WRITTEN},
)
@writes(c.AddMessage)
async def add_message(call: WriteCall, case_id: str, body: i.NewMessageIn) -> Response:
    """A message to the client, or one from them by telephone or letter.

    One that was drafted as a letter says so: it is refused if what it states is not what is recorded any more.
    """
    letter = body.letter
    command = c.AddMessage(
        direction=body.direction,
        text=body.text,
        awaits_reply=body.awaits_reply,
        subject=body.subject,
        letter=await letter_of(call, case_id, letter.kind, letter.basis, letter.language) if letter else None,
    )
    receipt = await call.desk.submit(call, command, case_id)
    event = receipt.events[0].event
    (view,) = v.messages_of(receipt.events[:1], {f"{event.seq}/text": body.text, f"{event.seq}/subject": body.subject})
    return Answer(view, 201, headers_of(receipt))


@router.get("/{case_id}/messages", response_model=list[v.MessageView], responses=READ)
@reads(READERS)
async def list_messages(call: ReadCall, case_id: str) -> Response:
    """The conversation, oldest first, the inquiry itself included."""
    history, texts, version = await history_of(call, case_id)
    await call.desk.record_read(call, case_id, version, "messages")
    return Answer(v.messages_of([one for one, _ in history], texts), headers={"etag": f'"{version}"'})


@router.post(
    "/{case_id}/messages/{message_id}/no-answer-needed",
    status_code=201,
    response_model=v.CaseView,
    responses={201: {"headers": HEADERS}, **WRITTEN},
)
@writes(c.WaiveAnswer)
async def waive_answer(call: WriteCall, case_id: str, message_id: str, body: i.ReasonIn) -> Response:
    """Say why a client's message needs no answer."""
    receipt = await call.desk.submit(call, c.WaiveAnswer(message=message_id, reason=body.reason), case_id)
    return await answer_with_case(call, receipt, 201)


async def history_of(call: Call, case_id: str) -> tuple[list[tuple[Recorded, str]], dict[str, str], int]:
    """All events with their bodies, all texts, and the version they lead to."""
    history = await cases.events(call.desk.database, case_id)
    if not history:
        raise NotFound("case")
    return history, await cases.texts_of(call.desk.database, case_id), history[-1][0].event.seq


# History and replay.


class EventsQuery(i.Input):
    after: int = Field(default=0, ge=0, le=2**31 - 1, description="events with a higher seq")
    limit: int | None = Field(default=None, ge=1, le=1000)


@router.get("/{case_id}/events", response_model=v.EventListView, responses=ASKED)
@reads(READERS)
async def list_events(call: ReadCall, case_id: str, query: Annotated[EventsQuery, Query()]) -> Response:
    """The history, oldest first."""
    version = await call.desk.version_of(case_id)
    if version is None:
        raise NotFound("case")
    history = await cases.events(call.desk.database, case_id, after=query.after, limit=query.limit)
    texts = await cases.texts_of(call.desk.database, case_id)
    await call.desk.record_read(call, case_id, version, "events")
    items = [v.event_view(one, body, texts) for one, body in history]
    view = v.EventListView(items=items)
    if items and items[-1]["seq"] < version:
        view["next"] = items[-1]["seq"]
    return Answer(view, headers={"etag": f'"{version}"'})


class ReplayQuery(i.Input):
    version: int | None = Field(default=None, ge=1, le=2**31 - 1)
    at: i.Moment | None = None


LAST = "9999"  # after every time


class ReplayView(TypedDict):
    case: v.CaseView
    version: int
    at: datetime
    matches_stored: bool


@router.get("/{case_id}/replay", response_model=ReplayView, responses=ASKED)
@reads(READERS)
async def replay_case(call: ReadCall, case_id: str, query: Annotated[ReplayQuery, Query()]) -> Response:
    """The case as it stood at a version or at an instant, from its log alone.

    `matches_stored` says whether the whole log leads to the very row that is stored.
    """
    if query.version is not None and query.at is not None:
        raise bad_field("at", "give a version or an instant, not both")
    database = call.desk.database
    stored, history = await cases.with_history(database, case_id)
    whole = entry = await cases.stood(database, history)
    if query.version is not None and query.version > whole.case.version:
        raise bad_field("version", f"the case has {whole.case.version} events")
    if query.version is not None or query.at is not None:
        until = at_text(query.at) if query.at else LAST
        history = tuple(one for one in history[: query.version] if one.event.at <= until)
        if not history:
            raise bad_field("at", "is before the case was opened")
        entry = await cases.stood(database, history)
    await call.desk.record_read(call, case_id, entry.case.version, "replay")
    moment: datetime = query.at or history[-1].at
    view = ReplayView(
        case=v.case_view(entry, call.caller.actor, call.desk.clock(), await call.desk.context()),
        version=entry.case.version,
        at=moment,
        matches_stored=whole.case == stored,
    )
    return Answer(view, headers={"etag": f'"{whole.case.version}"'})
