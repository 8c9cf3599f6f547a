"""The queue: which cases there are, the most urgent first."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import RedirectResponse, Response

from api import views as v
from api.cases import cursor_after, read_cursor
from api.errors import Problem, problem_of
from api.pages.asking import CATEGORIES, DUE, ME, NOBODY, OF_SOMEBODY, PAGE_ROWS, SORTS, STATES, TABS, Asked, of_tab
from api.pages.bulk import deeds_for
from api.pages.frame import desk_page, first_place
from api.pages.routing import PageCall, Pages
from api.pages.showing import MINUTE, span
from storage import cases, people
from storage.cases import Filter, Listed
from storage.people import KeptFilter
from workflow.errors import BadInput, NotFound, Refused
from workflow.guards import Context
from workflow.people import RemoveFilter, SaveFilter
from workflow.roles import EVERYONE, READERS, WORKERS, Role
from workflow.timezones import zone

pages = Pages()

COUNTED = 999


@pages.get("/", EVERYONE)
async def first_page(call: PageCall) -> Response:
    return RedirectResponse(first_place(call.caller.actor), HTTPStatus.SEE_OTHER)


@pages.get("/queue", READERS)
async def queue(call: PageCall) -> Response:
    """A tab, narrowed down by what stands in the address."""
    return await show_queue(call, Asked.of(call.request.query_params, default_tab(call)))


def default_tab(call: PageCall) -> str:
    return "mine" if call.caller.actor.may(WORKERS) else "all"


class Unsaved(msgspec.Struct, frozen=True, kw_only=True):
    """A filter that could not be saved, as it was typed."""

    name: str = ""
    shared: bool = False
    problem: Problem | None = None


# Saved filters.


@pages.post("/queue/filters", READERS)
async def save_filter(call: PageCall) -> Response:
    """Keep what is asked for under a name."""
    asked = Asked.read(call.field("query"))
    name, shared = call.field("name"), call.field("shared") == "yes"
    command = SaveFilter(
        person_id=call.person.id, filter_id=secrets.token_hex(8), name=name, query=asked.query(), shared=shared
    )
    try:
        await call.desk.submit(call, command)
    except (BadInput, Refused) as failure:
        problem, _ = problem_of(failure, call.request_id)
        return await show_queue(call, asked, Unsaved(name=name, shared=shared, problem=problem))
    call.desk.forget_directory()
    return RedirectResponse(asked.url(), HTTPStatus.SEE_OTHER)


@pages.post("/queue/filters/{person_id}/{filter_id}/removal", READERS)
async def remove_filter(call: PageCall, person_id: str, filter_id: str) -> Response:
    """One that is gone already is as it should be."""
    person = await people.one(call.desk.database, person_id)
    if person is None:
        raise NotFound("person")
    if person.filter(filter_id) is not None:
        await call.desk.submit(call, RemoveFilter(person_id=person_id, filter_id=filter_id))
        call.desk.forget_directory()
    return RedirectResponse(Asked.read(call.field("query")).url(), HTTPStatus.SEE_OTHER)


# What is shown.


async def show_queue(call: PageCall, asked: Asked, unsaved: Unsaved | None = None) -> Response:
    context, database, me = await call.desk.context(), call.desk.database, call.person.id
    now = call.desk.clock()
    asked, wanted, found = await rows_of(call, asked, context)
    shown = found[:PAGE_ROWS]
    more = cursor_after(shown[-1], asked.order, wanted) if len(found) > PAGE_ROWS else ""
    names = await people.names_of(database, context.people.values())
    tabs = [name for name in TABS if name != "mine" or call.caller.actor.may(WORKERS)]
    counts = await cases.counts(database, [of_tab(name, me) for name in tabs], now, COUNTED)
    return await desk_page(
        call,
        "queue.html",
        status=unsaved.problem["status"] if unsaved and unsaved.problem else HTTPStatus.OK,
        here="/queue",
        q=asked.q,
        now=now,
        asked=asked,
        title=TABS[asked.tab][0],
        tabs=[
            {"name": name, "text": TABS[name][0], "url": f"/queue?tab={name}", "count": counted(count)}
            for name, count in zip(tabs, counts, strict=True)
            if count or name == asked.tab or name != "mail"
        ],
        rows=[row_of(one, now) for one in shown],
        names=names,
        menus=menus(asked, owners(call, context, names)),
        order=SORTS[asked.sort or "deadline"][0],
        orders=[(text, asked.url(sort=name), name == (asked.sort or "deadline")) for name, (text, _) in SORTS.items()],
        total=await total(call, asked, wanted, found),
        more=asked.url(cursor=more) if more else "",
        saved=saved_menu(call, asked, await people.filters(database, context.people.values(), me), names),
        unsaved=unsaved or Unsaved(),
        key=secrets.token_hex(16),
        buttons=deeds_for(call.caller.actor, {one.entry.case.state for one in shown}),
    )


async def rows_of(call: PageCall, asked: Asked, context: Context) -> tuple[Asked, Filter, list[Listed]]:
    """One row more than a page has. A cursor that nobody gave out leads to the start."""
    now, database, sort = call.desk.clock(), call.desk.database, asked.order
    wanted = asked.filter(call.person.id, now, zone(context.settings_now(now).timezone))
    try:
        beginnings, after = read_cursor(asked.cursor or None, sort)
    except BadInput:
        asked, beginnings, after = msgspec.structs.replace(asked, cursor=""), False, None
    wanted = msgspec.structs.replace(wanted, beginnings=beginnings)
    found = await cases.listing(database, wanted, sort, now=now, after=after, limit=PAGE_ROWS + 1)
    if not found and wanted.q and after is None:
        # Nothing holds these words as they are: perhaps they are beginnings.
        wanted = msgspec.structs.replace(wanted, beginnings=True)
        found = await cases.listing(database, wanted, sort, now=now, after=None, limit=PAGE_ROWS + 1)
    return asked, wanted, found


def row_of(one: Listed, now: datetime) -> dict[str, Any]:
    """What the page shows beyond the view: whether new mail waits, the age, and what a form says that was seen."""
    case, view = one.entry.case, v.listed_case_view(one.entry, one.next_deadline, now)
    seen = f"{case.number}.{case.version}"
    return {**view, "new": case.has_new_mail, "age": age_of(case.received_at, now), "seen": seen}


def age_of(received_at: datetime, now: datetime) -> str:
    """In a column that is narrow."""
    age = now - received_at
    return span(age) if age >= MINUTE else "new"


async def total(call: PageCall, asked: Asked, wanted: Filter, found: list[Listed]) -> str:
    """Such as `53 cases`; as far as somebody waits to have them counted."""
    count, is_all = len(found), len(found) <= PAGE_ROWS and not asked.cursor
    if not is_all and not asked.q:
        count, is_all = await cases.count(call.desk.database, wanted, call.desk.clock(), COUNTED)
    if not is_all:
        return f"more than {max(count, PAGE_ROWS):,} cases"
    return f"{count} {'case' if count == 1 else 'cases'}"


def counted(count: int) -> str:
    return f"{count}" if count <= COUNTED else f"{COUNTED}+"


# Menus.


def owners(call: PageCall, context: Context, names: dict[str, dict[str, str]]) -> dict[str, str]:
    """Whoever could have a case, by what the address says for them."""
    able = [one for one in context.people.values() if one.active and not WORKERS.isdisjoint(one.roles)]
    others = {one.id: names.get(one.id, {}).get("name", v.ERASED) for one in able if one.id != call.person.id}
    mine = {ME: "me"} if call.caller.actor.may(WORKERS) else {}
    return {**mine, NOBODY: "nobody", **dict(sorted(others.items(), key=lambda one: one[1].casefold()))}


def menus(
    asked: Asked,
    people_by_id: dict[str, str],
    path: str = "/queue",
    names: Sequence[str] = ("state", "category", "owner", "due"),
) -> list[dict[str, Any]]:
    """What can narrow a list down: each choice is an address."""
    offered = {
        "state": ("State", STATES),
        "category": ("Category", CATEGORIES),
        "owner": ("Owner", people_by_id),
        "due": ("Deadline", DUE),
    }
    fixed = {"owner"} if asked.tab in OF_SOMEBODY else set()
    return [menu(asked, name, *offered[name], path) for name in names if name not in fixed]


def menu(asked: Asked, name: str, title: str, choices: dict[str, str], path: str) -> dict[str, Any]:
    now: str = getattr(asked, name)
    return {
        "name": name,
        "title": title,
        "chosen": choices.get(now, "somebody else") if now else "",
        "choices": [
            {"text": text, "url": asked.url(path, **{name: value}), "here": value == now, "value": value}
            for value, text in {"": "any", **choices}.items()
        ],
    }


def saved_menu(
    call: PageCall, asked: Asked, kept: list[KeptFilter], names: dict[str, dict[str, str]]
) -> list[dict[str, Any]]:
    here = asked.query()
    return [
        {
            "id": one.id,
            "person_id": one.person_id,
            "name": one.name,
            "url": f"/queue?{one.query}",
            "here": one.query == here,
            "shared": one.shared,
            "by": "" if one.person_id == call.person.id else names.get(one.person_id, {}).get("name", v.ERASED),
            "removable": one.person_id == call.person.id or Role.LEAD in call.person.roles,
        }
        for one in kept
    ]
