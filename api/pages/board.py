"""The board: a column for each state. Moving a card is the same guarded transition as anywhere else, with its form."""

from collections.abc import Sequence
from datetime import UTC
from http import HTTPStatus
from typing import Any

from msgspec.structs import replace
from starlette.responses import RedirectResponse, Response

from api.pages.asking import Asked
from api.pages.case import RETURNED, carry_out, standing
from api.pages.case_actions import TRANSITIONS, Action
from api.pages.case_forms import Form, Returned, Standing, Why
from api.pages.case_view import CasePage
from api.pages.frame import desk_page
from api.pages.queue import age_of, menus, owners, row_of
from api.pages.routing import PageCall, Pages
from api.pages.showing import words
from storage import board as stored
from storage import people
from storage.cases import Listed
from workflow.cases import Case
from workflow.errors import NotFound
from workflow.lifecycle import BY_SOURCE, TARGETS
from workflow.lifecycle import TRANSITIONS as LIFECYCLE_ROWS
from workflow.roles import READERS
from workflow.states import CaseState, Trigger

pages = Pages()

CARDS = 15  # of one column; the queue has them all
COUNTED = 999
MOVERS = frozenset().union(*(row.roles for row in LIFECYCLE_ROWS))


@pages.get("/board", READERS)
async def board(call: PageCall) -> Response:
    """Of all cases, or of an owner's or a category's."""
    asked = on_the_board(Asked.of(call.request.query_params))
    now, database = call.desk.clock(), call.desk.database
    context = await call.desk.context()
    names = await people.names_of(database, context.people.values())
    wanted = asked.filter(call.person.id, now, UTC)  # nothing of the board is asked by days
    columns = await stored.columns(database, wanted, now, limit=CARDS + 1, most=COUNTED)
    return await desk_page(
        call,
        "board.html",
        here="/board",
        q="",
        now=now,
        asked=asked,
        names=names,
        menus=menus(asked, owners(call, context, names), "/board", ("category", "owner")),
        columns=[
            {
                "state": state,
                "count": f"{one.count}" if one.is_all else f"{one.count}+",
                "url": asked.url(state=state.value),
                "oldest": age_of(one.oldest, now) if one.oldest is not None else "",
                "oldest_url": asked.url(state=state.value, sort="oldest"),
                "cards": [card_of(card, call, asked) for card in one.cards[:CARDS]],
                "has_more": len(one.cards) > CARDS,
            }
            for state, one in columns.items()
        ],
        is_mover=call.caller.actor.may(MOVERS),
    )


def on_the_board(asked: Asked) -> Asked:
    """Tabs, states and orders are the queue's."""
    return replace(asked, tab="all", state="", due="", q="", sort="", cursor="")


def card_of(one: Listed, call: PageCall, asked: Asked) -> dict[str, Any]:
    """What the queue shows of it, and where it could be moved by somebody with these roles."""
    row, state = row_of(one, call.desk.clock()), one.entry.case.state
    moves = [
        {"to": move.target, "text": words(move.trigger), "url": move_url(row["number"], move.target, asked)}
        for (source, _), move in BY_SOURCE.items()
        if source is state and call.caller.actor.may(move.roles)
    ]
    return {**row, "moves": moves}


def move_url(number: str, target: CaseState, asked: Asked) -> str:
    return asked.url(f"/board/moves/{number}/{target}")


# Moving.


@pages.get("/board/moves/{name}/{target}", READERS)
async def ask(call: PageCall, name: str, target: str) -> Response:
    """The form that moves the case there, or why it cannot be."""
    state, found = state_named(target), await standing(call, name)
    await call.desk.record_read(call, found.case.id, found.case.version, "transitions")
    return await show(call, found, state, None)


@pages.post("/board/moves/{name}/{target}", READERS)
async def move(call: PageCall, name: str, target: str) -> Response:
    """As on the case page; and then back to the board."""
    state, found = state_named(target), await standing(call, name)
    action = next((one for one in TRANSITIONS if one.fixed["trigger"] == call.field("trigger")), None)
    if action is None or TARGETS[Trigger(action.fixed["trigger"])] is not state:
        raise NotFound("transition")
    try:
        await carry_out(call, action, found)
    except RETURNED as failure:
        left = Returned(action=action, part="", form=call.form, failure=failure)
        return await show(call, await standing(call, name), state, left)
    asked = on_the_board(Asked.of(call.request.query_params))
    return RedirectResponse(f"{asked.url('/board')}#{found.number}", HTTPStatus.SEE_OTHER)


def state_named(name: str) -> CaseState:
    """Raises NotFound."""
    if name not in set(CaseState):
        raise NotFound("state")
    return CaseState(name)


async def show(call: PageCall, found: Standing, target: CaseState, left: Returned | None) -> Response:
    """The form, or the reasons for which there is none."""
    view = CasePage(call, found, left)
    action = left.action if left is not None else action_towards(found.case, target)
    back = view.returned()
    form, whys = (back["form"], back["whys"]) if back is not None else form_of(view, action)
    asked = on_the_board(Asked.of(call.request.query_params))
    return await desk_page(
        call,
        "move.html",
        status=view.problem["status"] if view.problem else HTTPStatus.OK,
        here="/board",
        q="",
        now=found.now,
        case=view.view,
        target=target,
        title=action.title if action else "Move",
        trigger=action.fixed["trigger"] if action else "",
        form=form and replace(form, url=move_url(found.number, target, asked), is_above=False),
        reasons=[replace(one, link=f"/cases/{found.number}{one.link}" if one.link else "") for one in whys],
        back=back,
        asked=asked,
    )


def form_of(view: CasePage, action: Action | None) -> tuple[Form | None, Sequence[Why]]:
    if action is None:
        return None, NO_WAY
    trigger = Trigger(action.fixed["trigger"])
    permission = next(one for one in view.permissions if one.trigger is trigger)
    if permission.allowed:
        return view.form(action, refused=(), **view.filled(action)), ()
    return None, view.whys(permission.refusals, trigger)


NO_WAY = (Why(code="no_such_transition", text="No step leads there: a case is opened once, and then goes on"),)


def action_towards(case: Case, target: CaseState) -> Action | None:
    """The one that leads there from where the case is; if none does, one that leads there from elsewhere."""
    here = [row.trigger for row in LIFECYCLE_ROWS if row.target is target and row.source is case.state]
    triggers = here or [row.trigger for row in LIFECYCLE_ROWS if row.target is target]
    return next((one for one in TRANSITIONS if triggers and one.fixed["trigger"] == triggers[0]), None)
