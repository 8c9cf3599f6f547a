"""A person's sessions, tokens and links, as pages list them: to oneself, and to whoever runs the desk."""

from typing import Any

import msgspec

from api.pages.routing import PageCall
from api.pages.telling import who
from storage import people
from workflow.people import Person
from workflow.roles import TokenKind


class TokenShown(msgspec.Struct, frozen=True, kw_only=True):
    """`by` is who made it, `here` says that it is the session of whoever looks."""

    id: str
    at: str
    by: str
    expires_at: Any
    here: bool


async def tokens_of(call: PageCall, person: Person) -> dict[str, list[TokenShown]]:
    """Those that are good, the newest first: `sessions`, `tokens`, `links` and `calendars`."""
    now, made = call.desk.clock(), await people.tokens_made(call.desk.database, person)
    good = [one for one in person.tokens if one.is_good(now) and one.id in made]
    names = await people.names(call.desk.database)
    shown: dict[TokenKind, list[TokenShown]] = {kind: [] for kind in TokenKind}
    for one in sorted(good, key=lambda token: made[token.id].event.at, reverse=True):
        event = made[one.id].event
        here = one.id == call.caller.token
        shown[one.kind].append(
            TokenShown(id=one.id, at=event.at, by=who(event.actor, names), expires_at=one.expires_at, here=here)
        )
    return {
        "sessions": shown[TokenKind.SESSION],
        "tokens": shown[TokenKind.API],
        "links": shown[TokenKind.LINK],
        "calendars": shown[TokenKind.CALENDAR],
    }
