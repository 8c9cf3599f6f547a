"""What is around every page of the desk: who is signed in, and where else one can go."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response

from api import approving, deliveries
from api.desk import Desk
from api.pages.rendering import page
from api.pages.routing import PageCall
from storage import people
from workflow.roles import ADMINS, APPROVERS, OVERSEERS, READERS, Actor, Role

PLACES: tuple[tuple[str, str, frozenset[Role]], ...] = (
    ("Queue", "/queue", READERS),
    ("Board", "/board", READERS),
    ("Approvals", "/approvals", APPROVERS),
    ("Insights", "/insights", OVERSEERS),
    ("Audit", "/audit-desk", OVERSEERS),
    ("Admin", "/admin", ADMINS),
    ("Deliveries", "/deliveries", deliveries.WATCHERS),
)

# What waits for whoever looks, in few characters; asked for on every page, so it has to be cheap.
COUNTS: dict[str, Callable[[Desk, Actor], Awaitable[str]]] = {
    "/approvals": approving.count,
    "/deliveries": deliveries.count,
}


def first_place(actor: Actor) -> str:
    return next((url for _, url, roles in PLACES if actor.may(roles)), "/account")


async def desk_page(call: PageCall, template: str, *, here: str, **facts: Any) -> Response:
    known = facts.get("names", {})
    if call.person.id not in known:
        known = await people.names_of(call.desk.database, [call.person])
    mine, actor = known.get(call.person.id, {}), call.caller.actor
    return page(
        template,
        me={"name": mine.get("name", ""), "email": mine.get("email", ""), "roles": [str(r) for r in call.person.roles]},
        reads_cases=actor.may(READERS),
        nav=[
            {
                "text": text,
                "url": url,
                "here": url == here,
                "count": await COUNTS[url](call.desk, actor) if url in COUNTS else "",
            }
            for text, url, roles in PLACES
            if actor.may(roles)
        ],
        csrf=call.csrf,
        since=call.since,
        **facts,
    )
