"""What the log of one case tells to whoever asks: as it stood, between two points, and why."""

import re
from datetime import datetime
from typing import Any

import msgspec

from api import inputs as i
from diagrams.diagram import Diagram
from diagrams.path import path_diagram
from storage import cases, people
from storage.batch import Entry
from storage.database import Database, utc_now
from storage.reviewing import reviews
from storage.sequencer import Sequencer
from workflow.cases import Case
from workflow.comparing import Change, changes
from workflow.errors import CaseworkError, NotFound, bad_field
from workflow.events import Recorded, at_text
from workflow.guards import Context
from workflow.permissions import permissions
from workflow.replaying import replay
from workflow.reviewing import Review
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


# Between two points.

VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)

# What these fields of a case hold is where a text is kept.
POINTERS = frozenset(
    {
        "subject",
        "title",
        "client_name",
        "client_email",
        "participants",
        "statement",
        "evidence",
        "reason",
        "description",
        "channel",
        "hold",
    }
)

# Every event changes these: the points themselves say them.
POINT_FIELDS = frozenset({"version", "head", "changed_at"})


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """A case's events, each with its body: all up to the second point, of which `start` are up to the first."""

    history: list[tuple[Recorded, str]]
    start: int
    version: int  # the latest there is

    @property
    def between(self) -> list[tuple[Recorded, str]]:
        return self.history[self.start :]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """`texts` are all that is kept of the case's."""

    before: Case
    after: Case
    changes: tuple[Change, ...]
    texts: dict[str, str]


async def stretch_of(database: Database, case_id: str, start: str, end: str | None) -> Stretch:
    """Each point is a version or an instant, as it was written. Raises NotFound, or BadInput naming `from` or `to`."""
    history = await cases.events(database, case_id)
    if not history:
        raise NotFound("case")
    first = version_at(history, "from", start)
    last = len(history) if end is None else version_at(history, "to", end)
    if first > last:
        raise bad_field("from", "is after the other point")
    return Stretch(history=history[:last], start=first, version=len(history))


def version_at(history: list[tuple[Recorded, str]], field: str, point: str) -> int:
    if VERSION.fullmatch(point) is not None:
        if int(point) > len(history):
            raise bad_field(field, f"the case has {len(history)} events")
        return int(point)
    try:
        moment = at_text(i.in_utc(datetime.fromisoformat(i.is_rfc3339(point))))
    except ValueError:
        raise bad_field(field, "has to be a version, or an RFC 3339 time with an offset") from None
    version = sum(one.event.at <= moment for one, _ in history)
    if version == 0:
        raise bad_field(field, "is before the case was opened")
    return version


async def differing(database: Database, stretch: Stretch) -> Difference:
    before = replay(one for one, _ in stretch.history[: stretch.start])
    after = replay(one for one, _ in stretch.history)
    if before is None or after is None:
        raise NotFound("case")
    return Difference(
        before=before,
        after=after,
        changes=tuple(one for one in changes(before, after) if one.path not in POINT_FIELDS),
        texts=await cases.texts_of(database, after.id),
    )


def resolved(path: str, value: Any, texts: dict[str, str], erased: str) -> Any:
    """The value with the texts that it points at; `path` ends with the name of its field."""
    match value:
        case dict():
            return {name: resolved(name, part, texts, erased) for name, part in value.items()}
        case list() | tuple():
            return [resolved(path, part, texts, erased) for part in value]
        case str() if path.rpartition(".")[2] in POINTERS:
            return texts.get(value, erased)
        case _:
            return value


class Stretched(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line shows of the difference between two points."""

    stretch: Stretch
    difference: Difference
    names: dict[str, str]

    @property
    def as_replay(self) -> Replay:
        """Of the events between alone."""
        case, texts = self.difference.after, self.difference.texts
        return Replay(
            entry=Entry(case=case, texts=texts, stored_version=case.version),
            history=tuple(one for one, _ in self.stretch.between),
            texts=texts,
            names=self.names,
            matches=None,
        )


async def between(database: Database, name: str, start: str, end: str | None) -> Stretched:
    """Raises NotFound or BadInput."""
    stretch = await stretch_of(database, await known_case(database, name), start, end)
    difference = await differing(database, stretch)
    return Stretched(stretch=stretch, difference=difference, names=await names_of_actors(database))


# Why.


class Reasons(msgspec.Struct, frozen=True, kw_only=True):
    reviews: tuple[Review, ...]
    texts: dict[str, str]
    names: dict[str, str]


async def reasons(database: Database, name: str, seq: int | None) -> Reasons:
    """Raises NotFound."""
    case_id = await known_case(database, name)
    await Sequencer(database).catch_up()
    return Reasons(
        reviews=await reviews(database, case_id, seq),
        texts=await cases.texts_of(database, case_id),
        names=await names_of_actors(database),
    )
