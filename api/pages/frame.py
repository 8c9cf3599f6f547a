"""What is around every page of the desk: who is signed in, and where else one can go."""

from typing import Any

from starlette.responses import Response

from api.pages.rendering import page
from api.pages.routing import PageCall
from storage import people
from workflow.roles import OVERSEERS, READERS, Role

PLACES: tuple[tuple[str, str, frozenset[Role]], ...] = (
    ("Queue", "/queue", READERS),
    ("Board", "/board", READERS),
    ("Insights", "/insights", OVERSEERS),
    ("Audit", "/audit-desk", OVERSEERS),
)


async def desk_page(call: PageCall, template: str, *, here: str, **facts: Any) -> Response:
    names = await people.names_of(call.desk.database, [call.person])
    mine = names.get(call.person.id, {})
    return page(
        template,
        me={"name": mine.get("name", ""), "email": mine.get("email", ""), "roles": [str(r) for r in call.person.roles]},
        nav=[
            {"text": text, "url": url, "here": url == here, "count": ""}
            for text, url, roles in PLACES
            if call.caller.actor.may(roles)
        ],
        csrf=call.csrf,
        since=call.since,
        **facts,
    )
