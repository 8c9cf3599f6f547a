"""The queue: which cases there are, the most urgent first."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.responses import RedirectResponse, Response

from api import views as v
from api.cases import cursor_after, read_cursor
from api.pages.frame import desk_page
from api.pages.routing import PageCall, Pages
from storage import cases, people
from storage.cases import Filter, Sort
from workflow.policy import Category
from workflow.roles import EVERYONE, READERS
from workflow.states import CaseState

pages = Pages()

PAGE_ROWS = 50
COUNTED = 999

TABS: dict[str, tuple[str, Filter]] = {
    "mine": ("Mine", Filter(ended=False)),  # the assignee is whoever looks
    "unassigned": ("Unassigned", Filter(assignee="", ended=False)),
    "us": ("Waiting for us", Filter(waiting=False, ended=False)),
    "client": ("Waiting for the client", Filter(waiting=True, ended=False)),
    "overdue": ("Overdue", Filter(overdue=True)),
    "all": ("All", Filter()),
}


@pages.get("/", EVERYONE)
async def first_page(_: PageCall) -> Response:
    return RedirectResponse("/queue", HTTPStatus.SEE_OTHER)


@pages.get("/queue", READERS)
async def queue(call: PageCall) -> Response:
    """A tab, narrowed down by what stands in the address; filters that make no sense are none."""
    now, database = call.desk.clock(), call.desk.database
    asked = call.request.query_params
    tab = asked.get("tab", "all" if asked.get("q") else "mine")
    wanted = narrowed(of_tab(tab, call.person.id), asked)
    sort = Sort.DEADLINE
    beginnings, after = read_cursor(asked.get("cursor"), sort)
    wanted = msgspec.structs.replace(wanted, beginnings=beginnings)
    found = await cases.listing(database, wanted, sort, now=now, after=after, limit=PAGE_ROWS + 1)
    if not found and wanted.q and after is None:
        wanted = msgspec.structs.replace(wanted, beginnings=True)
        found = await cases.listing(database, wanted, sort, now=now, after=None, limit=PAGE_ROWS + 1)
    shown = found[:PAGE_ROWS]
    counts = await asyncio.gather(
        *(cases.count(database, of_tab(name, call.person.id), now, COUNTED + 1) for name in TABS)
    )
    more = cursor_after(shown[-1], sort, wanted) if len(found) > PAGE_ROWS else None
    return await desk_page(
        call,
        "queue.html",
        here="/queue",
        now=now,
        tabs=[
            {"text": text, "url": f"/queue?tab={name}", "count": counted(count), "here": name == tab}
            for (name, (text, _)), count in zip(TABS.items(), counts, strict=True)
        ],
        rows=[v.listed_case_view(one.entry, one.next_deadline, now) for one in shown],
        names=await people.names(database),
        asked={"tab": tab, "q": "", "state": "", "category": ""} | dict(asked),
        states=list(CaseState),
        categories=list(Category),
        more=f"/queue?{urlencode(dict(asked) | {'cursor': more})}" if more else None,
    )


def of_tab(name: str, person_id: str) -> Filter:
    _, wanted = TABS.get(name, TABS["all"])
    return msgspec.structs.replace(wanted, assignee=person_id) if name == "mine" else wanted


def narrowed(wanted: Filter, asked: Mapping[str, Any]) -> Filter:
    changes: dict[str, Any] = {}
    if asked.get("state") in set(CaseState):
        changes["state"] = CaseState(asked["state"])
    if asked.get("category") in set(Category):
        changes["category"] = Category(asked["category"])
    if q := str(asked.get("q", "")).strip().replace("\x00", ""):
        changes["q"] = q
    return msgspec.structs.replace(wanted, **changes)


def counted(count: int) -> str:
    return f"{count}" if count <= COUNTED else f"{COUNTED}+"
