"""Erasing what is kept of a client, and the holds that forbid it."""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, NotRequired

import msgspec
from fastapi import APIRouter, Query
from pydantic import Field, model_validator
from sqlalchemy import text
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api.auditing import noted, receipt_of
from api.cases import HEADERS, WRITTEN, headers_of
from api.desk import Desk
from api.errors import RefusalBody, documented, refusal_body
from api.feed import PageQuery
from api.routing import Answer, DeskRoute, PutCall, ReadCall, WriteCall, reads, writes
from storage import cases, erasures
from storage.submissions import Key, KeyReused, Receipt
from workflow import commands as c
from workflow.cases import case_number_text
from workflow.errors import GuardRefused, NotFound, Refusal, bad_field
from workflow.events import Erased, ErasureRequested, Recorded
from workflow.roles import ADMINS, OVERSEERS

router = APIRouter(prefix="/v1", tags=["erasures"], route_class=DeskRoute)


class Outcome(StrEnum):
    ERASED = "erased"
    SCHEDULED = "scheduled"  # until it need no longer be kept
    NOTHING = "nothing"  # was left to erase
    REFUSED = "refused"


class ErasureView(TypedDict):
    """What became of one case, or of one mail that was set aside: `case` and `number` are null then.

    `due_at` is null while the case is open: it has to be closed first.
    """

    case: str | None
    number: str | None
    outcome: Outcome
    due_at: NotRequired[datetime | None]
    texts: NotRequired[int]
    files: NotRequired[int]
    receipt: str | None
    refusals: list[RefusalBody]


class ErasuresView(TypedDict):
    """`also_in` are cases of others that the client's address takes part in: it goes when those are erased."""

    items: list[ErasureView]
    also_in: list[str]


class ErasureIn(i.Input):
    """Of all cases of a client and their mail that was set aside, or of one case."""

    client: i.Email | None = Field(default=None, description="the address that their cases were opened for")
    case: i.Identifier | None = Field(default=None, description="its id, or its number such as C-1042")
    legal_basis: i.LegalBasis = Field(
        description="stays in the log for good, so it names nobody", examples=["GDPR Art. 17(1)(a)"]
    )
    reason: i.ErasureReason = Field(description="stays readable for good, so it names nobody")
    override: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="at once, though the case is open or its data have to be kept"
    )

    @model_validator(mode="after")
    def names_one(self) -> "ErasureIn":
        if (self.client is None) == (self.case is None):
            raise ValueError("name a client or a case")
        return self


Submit = Callable[[c.Erase, str | None], Awaitable[Receipt]]


@router.post("/erasures", status_code=201, response_model=ErasuresView, responses=documented(409, 413, 415, 422))
@writes(c.Erase)
async def erase(call: WriteCall, body: ErasureIn) -> Response:
    """Delete the personal data of a client, or of one case: at once, or as soon as nothing requires to keep them.

    What can be erased is, though others of the client's cases may be under a hold; 409 if that is so of all. Under an
    address that nothing is kept for there is nothing to erase.
    """
    key, done = call.key, await done_under(call.desk, call.key)

    async def submit(command: c.Erase, case_id: str | None) -> Receipt:
        target = case_id or command.mail
        call.key = nth(key, done.index(target) if target in done else len(done))
        receipt = await call.desk.submit(call, command, case_id)
        if target not in done:
            done.append(target)
        return receipt

    # The client's address may be gone by now: whom the first request found, its key knows.
    found = await named(call.desk, body.client, body.case) if not done or body.case is None else []
    command = c.Erase(legal_basis=body.legal_basis, reason=body.reason, override=body.override)
    items = await erase_each(call.desk, [*done, *(one for one in found if one not in done)], command, submit)
    also_in = await erasures.also_in(call.desk.database, body.client) if body.client is not None else []
    return Answer(ErasuresView(items=items, also_in=also_in), 201)


def nth(key: Key | None, index: int) -> Key | None:
    """A key for each of several commands that one request gives."""
    if key is None or index == 0:
        return key
    return msgspec.structs.replace(key, hash=hashlib.sha256(f"{key.hash}/{index}".encode()).hexdigest())


DONE = text("SELECT fingerprint, chain FROM idempotency WHERE key = :key AND version > 0")


async def done_under(desk: Desk, key: Key | None) -> list[str]:
    """The cases and mails that an earlier request with this key was about. Raises KeyReused."""
    done: list[str] = []
    while (one := nth(key, len(done))) is not None:
        row = await desk.database.first(DONE, {"key": one.hash})
        if row is None:
            break
        if row.fingerprint != one.fingerprint:
            raise KeyReused
        done.append(row.chain.removeprefix("case:"))
    return done


async def named(desk: Desk, client: str | None, case: str | None) -> list[str]:
    """The ids of the cases, and the chains of mails. Raises BadInput for a case that there is not."""
    if client is not None:
        own = await erasures.cases_of(desk.database, client)
        return own + await erasures.mails_of(desk.database, client)
    found = await cases.find(desk.database, case or "")
    if found is None:
        raise bad_field("case", "is no case of this desk")
    return [found]


async def erase_each(desk: Desk, targets: list[str], command: c.Erase, submit: Submit) -> list[ErasureView]:
    """Case by case, mail by mail. Raises GuardRefused with all reasons if each of them is refused."""
    items: list[ErasureView] = []
    refusals: list[Refusal] = []
    for target in targets:
        try:
            items.append(await outcome_of(desk, await submit(*erasures.aimed(command, target))))
        except GuardRefused as refused:
            refusals.extend(refused.refusals)
            items.append(await refused_view(desk, target, refused))
    if items and all(one["outcome"] is Outcome.REFUSED for one in items):
        raise GuardRefused(*dict.fromkeys(refusals))
    return items


async def outcome_of(desk: Desk, receipt: Receipt) -> ErasureView:
    case = receipt.case
    view = ErasureView(
        case=case.id if case else None,
        number=case_number_text(case.number) if case else None,
        outcome=Outcome.NOTHING,
        receipt=receipt.audit_receipt,
        refusals=[],
    )
    data = receipt.events[-1].data if receipt.events else None
    if isinstance(data, Erased):
        view |= {"outcome": Outcome.ERASED, "texts": data.texts, "files": data.files}
    elif case is not None and case.erasure_request is not None:
        settings = (await desk.context()).settings_now(desk.clock())
        view |= {"outcome": Outcome.SCHEDULED, "due_at": case.erasure_due(settings.kept_days)}
    return view


async def refused_view(desk: Desk, case_id: str, refused: GuardRefused) -> ErasureView:
    stored = await cases.stored(desk.database, case_id)
    number = case_number_text(stored[0].number) if stored else ""
    said = [refusal_body(one) for one in refused.refusals]
    return ErasureView(case=case_id, number=number, outcome=Outcome.REFUSED, receipt=None, refusals=said)


class RecordedErasureView(TypedDict):
    """What was erased, or is to be; nothing of it names the client. `case` is null for mail that was set aside."""

    case: str | None
    type: str
    at: str
    actor: str
    legal_basis: str
    due_at: NotRequired[datetime | None]
    texts: NotRequired[int]
    files: NotRequired[int]
    fields: NotRequired[dict[str, str]]
    overridden: NotRequired[bool]
    reapplies: NotRequired[str]
    receipt: str


class ErasureListView(TypedDict):
    items: list[RecordedErasureView]
    next: int | None


@router.get("/erasures", response_model=ErasureListView, responses=documented(422))
@reads(OVERSEERS | ADMINS)
async def list_erasures(call: ReadCall, query: Annotated[PageQuery, Query()]) -> Response:
    """What was erased, and what has been asked for, newest first."""
    items, following = await noted(call, ("erased", "erasure_requested"), query)
    return Answer(ErasureListView(items=[recorded_view(one) for one in items], next=following))


def recorded_view(recorded: Recorded) -> RecordedErasureView:
    event, data = recorded.event, recorded.data
    view = RecordedErasureView(
        case=None if erasures.is_mail(event.chain) else event.chain.removeprefix("case:"),
        type=event.type,
        at=event.at,
        actor=event.actor,
        legal_basis="",
        receipt=receipt_of(recorded),
    )
    match data:
        case ErasureRequested():
            view |= {"legal_basis": data.legal_basis, "due_at": data.due_at}
        case Erased():
            view |= {
                "legal_basis": data.legal_basis,
                "texts": data.texts,
                "files": data.files,
                "fields": {one.field: one.seqs for one in data.fields},
                "overridden": data.overridden,
            }
            if data.reapplies:
                view["reapplies"] = data.reapplies
    return view


# Legal hold.


class HoldView(TypedDict):
    """Whether a hold stands, without the case: an admin does not read cases."""

    case: str
    version: int
    held: bool


@router.put("/cases/{case_id}/hold", response_model=HoldView, responses={200: {"headers": HEADERS}, **WRITTEN})
@writes(c.PlaceHold)
async def place_hold(call: PutCall, case_id: str, body: i.ReasonIn) -> Response:
    """Nothing of the case may be erased from now on."""
    return hold_answer(await call.desk.submit(call, c.PlaceHold(reason=body.reason), case_id), 200)


@router.post(
    "/cases/{case_id}/hold/release",
    status_code=201,
    response_model=HoldView,
    responses={201: {"headers": HEADERS}, **WRITTEN},
)
@writes(c.ReleaseHold)
async def release_hold(call: WriteCall, case_id: str, body: i.ReasonIn) -> Response:
    """What is due may be erased again."""
    return hold_answer(await call.desk.submit(call, c.ReleaseHold(reason=body.reason), case_id), 201)


def hold_answer(receipt: Receipt, status: int) -> Answer:
    case = receipt.case
    if case is None:
        raise NotFound("case")
    return Answer(HoldView(case=case.id, version=case.version, held=case.is_held), status, headers_of(receipt))
