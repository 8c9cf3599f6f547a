"""Several cases at once: each row is a command of its own, decided by itself, and the result is told row by row."""

import asyncio
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from api import views as v
from api.errors import Problem, problem_of
from api.pages.asking import PAGE_ROWS, Asked
from api.pages.case_actions import ACTIONS, TRANSITIONS, Action
from api.pages.case_actions import Asked as Said
from api.pages.case_forms import LABELS, Shown, concerns, typed
from api.pages.forms import Choice, fields_of, read
from api.pages.frame import desk_page
from api.pages.routing import PageCall, Pages
from api.pages.showing import words
from storage import cases, people
from storage.batch import Entry
from storage.ledger import KeyInFlight
from storage.submissions import Receipt, Unauthorized
from workflow import commands as c
from workflow.cases import Case, case_number_text
from workflow.errors import BadInput, CaseworkError, Refusal, StaleVersion, bad_field
from workflow.guards import Context
from workflow.lifecycle import BY_SOURCE
from workflow.permissions import NEEDS, permissions
from workflow.roles import WORKERS, Actor, Role
from workflow.states import RESOLUTIONS, CaseState, Resolution, ResumeReason, Trigger
from workflow.timezones import zone

pages = Pages()

SEEN = re.compile(r"([1-9][0-9]{0,14})\.([1-9][0-9]{0,8})", re.ASCII)
PATIENCE, PATIENCE_SECONDS = 40, 0.05


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can be done to many cases. Without an action it needs no form."""

    name: str
    title: str
    done: str = ""  # what is said of a case afterwards, where its state does not say it
    action: Action | None = None
    for_leads: bool = False

    @property
    def trigger(self) -> Trigger | None:
        said = self.action.fixed.get("trigger") if self.action else None
        return Trigger(said) if said else None


def moves_of_many() -> Iterator[Action]:
    """Those that need nothing said of each case by itself: whatever has to be given is one of a few codes."""
    for action in TRANSITIONS:
        kinds = {field.name: field.kind for field in fields_of(action.model)}
        if all(kinds[f"data.{name}"] == "choice" for name in NEEDS[Trigger(action.fixed["trigger"])]):
            yield action


DEEDS: dict[str, Deed] = {
    one.name: one
    for one in (
        Deed(name="take", title="Take", done="yours"),
        Deed(name="assign", title="Assign", done="assigned", action=ACTIONS["assign"], for_leads=True),
        *(Deed(name=action.name, title=action.title, action=action) for action in moves_of_many()),
    )
}


def deeds_for(actor: Actor, states: Collection[CaseState]) -> list[Deed]:
    """What this person could do with some of the cases that are in these states."""
    if not actor.may(WORKERS):
        return []
    triggers = {trigger for state, trigger in BY_SOURCE if state in states}
    may = (one for one in DEEDS.values() if one.trigger is None or one.trigger in triggers)
    return [one for one in may if Role.LEAD in actor.roles or not one.for_leads]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A case that was chosen, and the version of it that was seen."""

    entry: Entry
    seen: int

    @property
    def has_changed(self) -> bool:
        return self.entry.case.version != self.seen


@pages.post("/queue/bulk", WORKERS)
async def bulk(call: PageCall) -> Response:
    """Ask what there is to say about it, and then do it; what needs no word is done at once."""
    deed = DEEDS.get(call.field("do"))
    if deed is None:
        raise bad_field("do", "is nothing that can be done to several cases")
    try:
        rows = await chosen_rows(call)
    except BadInput as failure:
        return await show_nothing(call, deed, problem_of(failure, call.request_id)[0])
    if deed.action is not None and call.field("step") != "go":
        return await ask(call, deed, rows)
    try:
        command = await command_of(call, deed)
    except BadInput as failure:
        return await ask(call, deed, rows, problem_of(failure, call.request_id)[0])
    outcomes = await asyncio.gather(*(carry_out(call, command, row) for row in rows))
    return await show_outcomes(call, deed, rows, outcomes)


async def chosen_rows(call: PageCall) -> list[Row]:
    """In the order in which they stood in the list. Raises BadInput."""
    given = [one for one in call.form.getlist("case") if isinstance(one, str)]
    parts = [SEEN.fullmatch(one) for one in dict.fromkeys(given)]
    seen = {int(one[1]): int(one[2]) for one in parts if one is not None}
    if not given:
        raise bad_field("case", "no case is selected")
    if None in parts or len(seen) != len(parts):
        raise bad_field("case", "this names cases in a way that no list does")
    if len(seen) > PAGE_ROWS:
        raise bad_field("case", f"at most {PAGE_ROWS} cases can be changed at once")
    entries = {one.case.number: one for one in await cases.numbered(call.desk.database, list(seen))}
    if len(entries) != len(seen):
        raise bad_field("case", "one of these cases does not exist")
    return [Row(entry=entries[number], seen=version) for number, version in seen.items()]


async def command_of(call: PageCall, deed: Deed) -> c.Command:
    """Raises BadInput."""
    if deed.action is None:
        return c.Assign(assignee=call.person.id)
    settings = (await call.desk.context()).settings_now(call.desk.clock())
    body = read(deed.action.model, call.form, zone(settings.timezone), fixed=deed.action.fixed, was={})
    return await deed.action.make(Said(call, body, ""))


async def carry_out(call: PageCall, command: c.Command, row: Row) -> Receipt | CaseworkError:
    """One row by itself: as it was seen, and under a key of its own."""
    own = PageCall(call.request, call.desk, call.caller, call.person)
    own.expected = frozenset({row.seen})
    if call.key_scope:
        own.key_scope = f"{call.key_scope}\n{row.entry.case.id}"
        own.take_key(msgspec.json.encode((type(command).__name__, command, row.seen)))
    for attempt in range(PATIENCE + 1):
        try:
            return await call.desk.submit(own, command, row.entry.case.id)
        except KeyInFlight as twice:  # the same form, sent twice at once: a browser shows the answer to the second
            if attempt == PATIENCE:
                return twice
            await asyncio.sleep(PATIENCE_SECONDS)
        except Unauthorized:
            raise
        except CaseworkError as failure:
            return failure
    raise AssertionError


# What is shown.


async def ask(call: PageCall, deed: Deed, rows: Sequence[Row], problem: Problem | None = None) -> Response:
    """The form, and which of the cases it could move as they stand."""
    context = await call.desk.context()
    names = await people.names_of(call.desk.database, context.people.values())
    shown = [
        view_of(row)
        | {
            "refusals": refusals(call, deed, row, context),
            "since": await cases.types_since(call.desk.database, row.entry.case.id, row.seen),
            "seen": f"{row.entry.case.number}.{row.entry.case.version}",
        }
        for row in rows
    ]
    errors = problem.get("errors", []) if problem else []
    fields = fields_for(call, deed, choices(call, deed, rows, workers(call, context, names)), problem)
    return await desk_page(
        call,
        "bulk.html",
        status=problem["status"] if problem else HTTPStatus.OK,
        here="/queue",
        q="",
        deed=deed,
        rows=shown,
        fields=fields,
        others=[one for one in errors if not any(concerns(field.field.name, one) for field in fields)],
        back=Asked.read(call.field("back")),
        key=secrets.token_hex(16),
    )


def refusals(call: PageCall, deed: Deed, row: Row, context: Context) -> Sequence[Refusal]:
    """Why this case could not be moved now, whatever the form says."""
    if deed.trigger is None:
        return ()
    answers = permissions(row.entry.case, call.caller.actor, call.desk.clock(), context)
    return next(one.refusals for one in answers if one.trigger is deed.trigger)


def workers(call: PageCall, context: Context, names: Mapping[str, Mapping[str, str]]) -> list[Choice]:
    """Whom a case can be given to, whoever asks before all others."""
    able = [one.id for one in context.people.values() if one.active and not WORKERS.isdisjoint(one.roles)]
    named = {one: names.get(one, {}).get("name", v.ERASED) for one in able}
    able.sort(key=lambda one: (one != call.person.id, named[one].casefold()))
    return [Choice(one, named[one] + (" (you)" if one == call.person.id else "")) for one in able]


Choices = dict[str, tuple[Choice, ...]]


def choices(call: PageCall, deed: Deed, rows: Sequence[Row], able: list[Choice]) -> Choices:
    """What there is to choose from, by field: what none of the cases could take is not offered."""
    moved, trigger = [row.entry.case for row in rows], deed.trigger
    match trigger:
        case Trigger.INVESTIGATE:
            return {"data.assignee": (Choice("", "you"), *(one for one in able if one.value != call.person.id))}
        case Trigger.CLOSE:
            fitting = {one for case in moved for one in RESOLUTIONS.get(case.state, ())}
            return {"data.resolution": tuple(Choice(one.value, words(one)) for one in Resolution if one in fitting)}
        case Trigger.RESUME:
            fits = [one for one in ResumeReason if any(may_resume(call.caller.actor, case, one) for case in moved)]
            return {"data.reason_code": tuple(Choice(one.value, words(one)) for one in fits)}
        case None:
            return {"assignee": (*able, Choice("", "nobody"))}
        case _:
            return {}


def may_resume(actor: Actor, case: Case, reason: ResumeReason) -> bool:
    row = BY_SOURCE.get((case.state, Trigger.RESUME))
    return row is not None and actor.may(row.roles_for(c.ResumeData(reason_code=reason)))


DUPLICATE = Choice(Resolution.DUPLICATE.value, words(Resolution.DUPLICATE))


def fields_for(call: PageCall, deed: Deed, offered: Choices, problem: Problem | None) -> list[Shown]:
    """The reason comes last: it is about all the rest."""
    if deed.action is None:
        return []
    errors = problem.get("errors", []) if problem else []
    shown = []
    for field in sorted(fields_of(deed.action.model), key=lambda one: one.name == "reason"):
        is_vain = field.name == "data.duplicate_of" and DUPLICATE not in offered["data.resolution"]
        if is_vain or field.name in deed.action.fixed:
            continue
        label, hint = LABELS.get(field.name, (field.label, ""))
        options = offered.get(field.name, field.choices)
        only = (options[0].value,) if field.required and len(options) == 1 else ()
        shown.append(
            Shown(
                field=field,
                id=f"{deed.name}.{field.name}",
                label=label,
                hint=hint,
                choices=options,
                values=typed(field, call.form) if problem else only,
                currency="",
                errors=tuple(one["message"] for one in errors if concerns(field.name, one)),
            )
        )
    return shown


async def show_outcomes(
    call: PageCall, deed: Deed, rows: Sequence[Row], outcomes: Sequence[Receipt | CaseworkError]
) -> Response:
    shown = [
        await outcome_of(call, row, outcome) | {"done": isinstance(outcome, Receipt)}
        for row, outcome in zip(rows, outcomes, strict=True)
    ]
    return await desk_page(
        call,
        "bulk_done.html",
        here="/queue",
        q="",
        deed=deed,
        rows=shown,
        done=sum(one["done"] for one in shown),
        again=[one for one in shown if one["is_stale"]],
        back=Asked.read(call.field("back")),
        key=secrets.token_hex(16),
    )


async def outcome_of(call: PageCall, row: Row, outcome: Receipt | CaseworkError) -> dict[str, Any]:
    """The case as it is now, and the problem if there was one."""
    database, case = call.desk.database, row.entry.case
    if isinstance(outcome, Receipt):
        after = outcome.case or case
        nothing = not outcome.events and not outcome.repeated
        return view_of(row) | {"state": after.state, "nothing": nothing, "is_stale": False}
    problem, _ = problem_of(outcome, call.request_id)
    if not isinstance(outcome, StaleVersion):
        return view_of(row) | {"problem": problem, "is_stale": False}
    return view_of(row) | {
        "is_stale": True,
        "since": await cases.types_since(database, case.id, row.seen),
        "seen": f"{case.number}.{outcome.current}",
    }


async def show_nothing(call: PageCall, deed: Deed, problem: Problem) -> Response:
    return await desk_page(
        call,
        "bulk_none.html",
        status=problem["status"],
        here="/queue",
        q="",
        deed=deed,
        problem=problem,
        back=Asked.read(call.field("back")),
    )


def view_of(row: Row) -> dict[str, Any]:
    case, texts = row.entry.case, row.entry.texts
    return {
        "number": case_number_text(case.number),
        "state": case.state,
        "title": v.text(texts, case.title),
        "client": v.text(texts, case.client_name),
    }
