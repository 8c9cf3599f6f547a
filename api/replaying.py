"""What the log of one case tells to whoever asks at the command line."""

from datetime import datetime

import msgspec

from diagrams.diagram import Diagram
from diagrams.path import path_diagram
from storage import cases, people
from storage.batch import Entry
from storage.database import Database, utc_now
from workflow.errors import CaseworkError, NotFound
from workflow.events import Recorded
from workflow.guards import Context
from workflow.permissions import permissions
from workflow.roles import STAFF_ROLES, Actor

# Whoever stands at the command line is nobody in particular: what any role may do is possible.
ANYBODY = Actor(kind="system", id="operator", roles=frozenset(STAFF_ROLES))


class NoSuchMoment(CaseworkError):
    """The case was not open then, or never had that version."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A case as its events up to a point tell of it. `names` are people's, with their roles, by actor.

    `matches` says of the whole history whether it leads to the stored row; None for a part of it.
    """

    entry: Entry
    history: tuple[Recorded, ...]
    texts: dict[str, str]
    names: dict[str, str]
    matches: bool | None


async def replayed(database: Database, name: str, version: int | None, at: datetime | None) -> Replay:
    """Raises NotFound or NoSuchMoment."""
    case_id = await known_case(database, name)
    stored, history = await cases.with_history(database, case_id)
    whole = entry = await cases.stood(database, history)
    matches = None
    if version is not None:
        if version > whole.case.version:
            raise NoSuchMoment(f"the case has {whole.case.version} events")
        entry, history = await cases.at_version(database, case_id, version)
    elif at is not None:
        if at < whole.case.opened_at:
            raise NoSuchMoment(f"the case was opened at {whole.case.opened_at:%Y-%m-%dT%H:%M:%S.%fZ}")
        entry, history = await cases.at_moment(database, case_id, at)
    else:
        matches = stored == whole.case
    return Replay(
        entry=entry,
        history=history,
        texts=await cases.texts_of(database, case_id),
        names=await names_of_actors(database),
        matches=matches,
    )


async def known_case(database: Database, name: str) -> str:
    case_id = await cases.find(database, name)
    if case_id is None:
        raise NotFound(f"case: {name}")
    return case_id


async def names_of_actors(database: Database) -> dict[str, str]:
    names = await people.names(database)
    return {
        person.key: f"{names[person.id]['name']} ({', '.join(person.roles)})"
        for person in await people.everybody(database)
        if "name" in names.get(person.id, {})
    }


async def path_of(database: Database, name: str) -> Diagram:
    """Raises NotFound."""
    case_id = await known_case(database, name)
    entry, history = await cases.at_version(database, case_id, 2**31 - 1)
    directory = await people.directory(database)
    context = Context(policies=directory.policies, people=directory.people)
    return path_diagram(history, permissions(entry.case, ANYBODY, utc_now(), context))
