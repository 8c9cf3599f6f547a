"""The board: a column for each state. Moving a card is the same guarded transition as anywhere else, with its form."""

import secrets
from datetime import UTC
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import RedirectResponse, Response

from api import views as v
from api.errors import PreconditionRequired, Problem, problem_of
from api.pages.asking import Asked
from api.pages.frame import desk_page
from api.pages.moves import FORMS, choices_for, command_in, fields_with, people_of, trigger_between
from api.pages.queue import menus, owners, row_of
from api.pages.routing import PageCall, Pages
from api.pages.showing import span, words
from storage import board as stored
from storage import cases
from storage.batch import Entry
from storage.cases import Listed
from workflow.cases import Case, case_number_text
from workflow.errors import BadInput, NotFound, Refusal, Refused, StaleVersion
from workflow.lifecycle import BY_SOURCE, TARGETS, TRANSITIONS
from workflow.permissions import permissions
from workflow.roles import READERS, Actor
from workflow.states import CaseState, Trigger
from workflow.timezones import zone

pages = Pages()

CARDS = 15  # of one column; the queue has them all
COUNTED = 999
MOVERS = frozenset().union(*(row.roles for row in TRANSITIONS))


@pages.get("/board", READERS)
async def board(call: PageCall) -> Response:
    """Of all cases, or of an owner's or a category's."""
    asked = on_the_board(Asked.of(call.request.query_params))
    now, database = call.desk.clock(), call.desk.database
    them = await people_of(call)
    wanted = asked.filter(call.person.id, now, UTC)  # nothing of the board is asked by days
    columns = await stored.columns(database, wanted, now, limit=CARDS + 1, most=COUNTED)
    return await desk_page(
        call,
        "board.html",
        here="/board",
        q="",
        now=now,
        asked=asked,
        names=them.names,
        menus=menus(asked, owners(call, them.context, them.names), "/board", ("category", "owner")),
        columns=[
            {
                "state": state,
                "count": f"{one.count}" if one.is_all else f"{one.count}+",
                "url": asked.url(state=state.value),
                "oldest": span(now - one.oldest) if one.oldest is not None else "",
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
    return msgspec.structs.replace(asked, tab="all", state="", due="", q="", sort="", cursor="")


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
    return f"/board/moves/{number}/{target}?{asked.query()}"


# Moving.


@pages.get("/board/moves/{name}/{target}", READERS)
async def ask(call: PageCall, name: str, target: str) -> Response:
    """The form that moves the case there, or why it cannot be."""
    entry, state = await found(call, name), state_named(target)
    await call.desk.record_read(call, entry.case.id, entry.case.version, "transitions")
    return await show(call, entry, state)


@pages.post("/board/moves/{name}/{target}", READERS)
async def move(call: PageCall, name: str, target: str) -> Response:
    entry, state = await found(call, name), state_named(target)
    trigger = next((one for one in Trigger if one == call.field("trigger")), None)
    if trigger is None or TARGETS[trigger] is not state:
        raise NotFound("transition")
    if call.expected is None:
        raise PreconditionRequired
    context = await call.desk.context()
    try:
        command = await command_in(call, trigger, zone(context.settings_now(call.desk.clock()).timezone))
        await call.desk.submit(call, command, entry.case.id)
    except (BadInput, Refused, StaleVersion) as failure:
        problem, _ = problem_of(failure, call.request_id)
        since = await cases.types_since(call.desk.database, entry.case.id, max(call.expected))
        return await show(call, await found(call, name), state, Returned(problem=problem, since=since))
    asked = on_the_board(Asked.of(call.request.query_params))
    return RedirectResponse(f"{asked.url('/board')}#{case_number_text(entry.case.number)}", HTTPStatus.SEE_OTHER)


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """Why the case was not moved; `since` is what has happened to it meanwhile."""

    problem: Problem
    since: list[str]


async def found(call: PageCall, name: str) -> Entry:
    """Raises NotFound."""
    case_id = await cases.find(call.desk.database, name)
    entry = await cases.one(call.desk.database, case_id) if case_id is not None else None
    if entry is None:
        raise NotFound("case")
    return entry


def state_named(name: str) -> CaseState:
    """Raises NotFound."""
    if name not in set(CaseState):
        raise NotFound("state")
    return CaseState(name)


async def show(call: PageCall, entry: Entry, target: CaseState, left: Returned | None = None) -> Response:
    case, now, them = entry.case, call.desk.clock(), await people_of(call)
    trigger = trigger_towards(case, target)
    refusals = why_not(call, case, trigger, them.actor, them.context)
    problem = left.problem if left else None
    errors = problem.get("errors", []) if problem else []
    zone_name = them.context.settings_now(now).timezone
    fields = (
        fields_with(
            FORMS[trigger],
            choices_for(trigger, [case], them),
            typed=call.form if left else None,
            errors=errors,
            zone_name=zone_name,
        )
        if not refusals
        else []
    )
    known = {one.field.name for one in fields}
    return await desk_page(
        call,
        "move.html",
        status=problem["status"] if problem else HTTPStatus.OK,
        here="/board",
        q="",
        row=v.listed_case_view(entry, None, now),
        target=target,
        trigger=trigger,
        refusals=refusals,
        fields=fields,
        others=[one for one in errors if one["field"] not in known],
        problem=problem,
        since=left.since if left else [],
        asked=on_the_board(Asked.of(call.request.query_params)),
        key=secrets.token_hex(16),
    )


def trigger_towards(case: Case, target: CaseState) -> Trigger:
    """The one that leads there from where the case is; if none does, one that leads there from elsewhere."""
    elsewhere = (trigger for trigger, state in TARGETS.items() if state is target)
    return trigger_between(case.state, target) or next(elsewhere, Trigger.INVESTIGATE)


def why_not(call: PageCall, case: Case, trigger: Trigger, actor: Actor, context: Any) -> tuple[Refusal, ...]:
    answers = permissions(case, actor, call.desk.clock(), context)
    return next(one.refusals for one in answers if one.trigger is trigger)
