"""The case page: what was said, what is so, and everything that can be done about it, with why not."""

import asyncio
from http import HTTPStatus
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from api.attachments import read_attachment
from api.errors import HttpProblem, PreconditionRequired
from api.pages.case_actions import ACTIONS, Action, Asked
from api.pages.case_forms import Returned, Standing
from api.pages.case_view import CasePage
from api.pages.forms import read
from api.pages.frame import desk_page
from api.pages.routing import PageCall, Pages
from storage import cases, people
from storage.ledger import KeyInFlight
from storage.submissions import KeyReused, Receipt
from workflow import events as e
from workflow.cases import Case
from workflow.desk import RecordRefusal
from workflow.errors import (
    BadInput,
    Forbidden,
    NotFound,
    PurchaseDiffers,
    Refusal,
    Refused,
    StaleVersion,
)
from workflow.roles import READERS, in_order

pages = Pages()

# What leaves the page as it was, with what was typed and the reasons in place.
RETURNED = (BadInput, Refused, StaleVersion, PreconditionRequired, PurchaseDiffers, KeyReused, HttpProblem)

PATIENCE, PATIENCE_SECONDS = 40, 0.05


# The pages.


@pages.get("/cases/{name}", READERS)
async def case_page(call: PageCall, name: str) -> Response:
    """By number (C-1042) or by id."""
    found = await standing(call, name)
    await call.desk.record_read(call, found.case.id, found.case.version, "case")
    return await show(call, found)


@pages.post("/cases/{name}/{action}", READERS)
async def act(call: PageCall, name: str, action: str) -> Response:
    """Carry out what a form of the page asks for; what is refused comes back with the form as it was typed."""
    chosen = ACTIONS.get(action)
    if chosen is None:
        raise NotFound("page")
    found = await standing(call, name)
    try:
        receipt = await carry_out(call, chosen, found)
    except RETURNED as failure:
        left = Returned(action=chosen, part=call.field("part"), form=call.form, failure=failure)
        return await show(call, await standing(call, name), left)
    return RedirectResponse(f"/cases/{found.number}?done={result_of(receipt)}", HTTPStatus.SEE_OTHER)


@pages.get("/cases/{name}/{action}", READERS)
async def back(_: PageCall, name: str, action: str) -> Response:
    """The address at which a form came back, asked for anew."""
    if action not in ACTIONS:
        raise NotFound("page")
    return RedirectResponse(f"/cases/{quote(name)}#{action}", HTTPStatus.SEE_OTHER)


@pages.get("/cases/{name}/attachments/{attachment_id}", READERS)
async def attachment(call: PageCall, name: str, attachment_id: str) -> Response:
    """As the API gives it: to be saved, never opened in our name."""
    return await read_attachment(call, await case_id_of(call, name), attachment_id)


def result_of(receipt: Receipt) -> str:
    """The place of what happened in the history, and in the conversation where it is part of that; 0 for nothing."""
    if not receipt.events:
        return "0"
    place = {e.MessageSent: "m", e.MessageReceived: "m", e.NoteAdded: "n"}.get(type(receipt.events[0].data), "")
    return f"{receipt.seq}#{place}{receipt.seq}" if place else str(receipt.seq)


# Carrying out.


async def carry_out(call: PageCall, action: Action, found: Standing) -> Receipt:
    """Raises one of RETURNED, or what ends in a page of its own."""
    if action.moving and call.expected is None:
        raise PreconditionRequired
    try:
        body = read(action.model, call.form, found.zone, fixed=action.fixed, was=found.times)
        command = await action.make(Asked(call, body, call.field("part")))
    except BadInput:
        await refuse_earlier(call, action, found.case)
        raise
    for _ in range(PATIENCE):
        try:
            return await call.desk.submit(call, command, found.case.id)
        except KeyInFlight:  # the same form, sent twice at once: a browser shows the answer to the second
            await asyncio.sleep(PATIENCE_SECONDS)
    return await call.desk.submit(call, command, found.case.id)


async def refuse_earlier(call: PageCall, action: Action, case: Case) -> None:
    """Raise what comes before fields that make no sense: that this is for others, or that the case has changed."""
    if not call.caller.actor.may(action.roles):
        who = in_order(action.roles)
        refused = Forbidden(Refusal(code="role", text=f"this is for: {', '.join(who)}", who=who))
        attempted, codes = action.command.__name__, tuple(refused.codes)
        record = RecordRefusal(code=refused.code, attempted=attempted, case=case.id, refusals=codes)
        await call.desk.record_refusal(call, record)
        raise refused
    if action.moving and call.expected is not None and case.version not in call.expected:
        raise StaleVersion(case.version)


# What a page is made from.


async def case_id_of(call: PageCall, name: str) -> str:
    """Raises NotFound."""
    found = await cases.find(call.desk.database, name)
    if found is None:
        raise NotFound("case")
    return found


async def standing(call: PageCall, name: str) -> Standing:
    """Raises NotFound."""
    database = call.desk.database
    case_id = await case_id_of(call, name)
    case, history = await cases.with_history(database, case_id)
    context = await call.desk.context(case)
    return Standing(
        case=case,
        history=history,
        texts=await cases.texts_of(database, case_id),
        names=await people.names_of(database, context.people.values()),
        neighbours=await cases.neighbours(database, case),
        context=context,
        now=call.desk.clock(),
    )


async def show(call: PageCall, found: Standing, left: Returned | None = None) -> Response:
    view = CasePage(call, found, left)
    status = view.problem["status"] if view.problem else HTTPStatus.OK
    return await desk_page(call, "case.html", here="", status=status, **view.facts())
