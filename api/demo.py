"""The demonstration desk: its people, their tokens, and a past in which its stories were lived through the ledger."""

import uuid
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, time, timedelta
from functools import partial
from operator import attrgetter
from random import Random
from typing import NamedTuple

from sqlalchemy import select

from api.database import migrate, running
from api.demo_steps import MAIL, Scene, moment_of
from api.demo_stories import ANA, AUDREY, BEGINNING, PEOPLE, READS, SET_ASIDE, STORIES
from api.desk import Desk
from api.people import new_link, new_token, new_token_id
from api.settings import PaymentMethod, Settings
from storage import people
from storage.cases import CASES
from storage.database import utc_now
from storage.submissions import Receipt, Submission
from storage.writer import Clock
from workflow.commands import Command
from workflow.desk import RecordRead, SetMailAside
from workflow.errors import CaseworkError, Refused
from workflow.people import AddPerson, RevokeToken
from workflow.roles import Actor, Role, system_actor

SPACE = uuid.UUID("6b1f8c5e-0d3a-4d43-9a55-2f6f3c1c9a10")  # in which names become ids, the same on every desk
TOKEN_PREFIX = "demo-"  # noqa: S105 - of a token's id; what the user made besides stays


class NotADemonstration(CaseworkError):
    def __init__(self) -> None:
        super().__init__("this desk is in use: the demonstration is only put into an empty one; nothing was changed")


class Pass(NamedTuple):
    """A way in: whose, with which role, the token's secret, and that of the link which signs in once."""

    roles: str
    name: str
    token: str
    link: str


class ScriptedClock:
    """Shows the time that the story has reached, and the true time once it is told."""

    def __init__(self, moment: datetime, true: Clock) -> None:
        self.moment: datetime | None = moment
        self.true = true

    def __call__(self) -> datetime:
        return self.moment or self.true()


def id_of(name: str) -> str:
    return str(uuid.uuid5(SPACE, name))


async def demonstrate(
    settings: Settings, progress: Callable[[int, int], None] = lambda *_: None, clock: Clock = utc_now
) -> list[Pass]:
    """Fill the desk if it is empty, and make everybody a new token and a new link; those made here before end.

    `progress` hears how many steps are told, and of how many. Raises NotADemonstration where others work.
    """
    midnight = datetime.combine(clock().astimezone(UTC).date(), time.min, UTC)
    scripted = ScriptedClock(moment_of(BEGINNING, midnight), clock)
    await migrate(settings, scripted())
    # Whatever is configured: nobody is to hear of clients who do not exist, nor is anything to be paid to them.
    unheard = settings.model_copy(update={"smtp_url": None, "payments": PaymentMethod.MANUAL})
    async with running(unheard, scripted) as desk:
        known = {person.id for person in await people.everybody(desk.database)}
        in_use = await desk.database.first(select(CASES.id).limit(1))
        if not in_use and known <= {id_of(name) for name in PEOPLE}:
            await tell(desk, scripted, list(timeline(midnight, known)), progress)
        elif id_of(ANA) not in known:
            raise NotADemonstration
        scripted.moment = None
        return await passes(desk)


# The past.


class Moment(NamedTuple):
    """Something that happens, and when; `scene` is the case that it happens to, where it happens to one."""

    at: datetime
    actor: Actor
    via: str
    command: Callable[[], Command]
    is_refused: bool = False
    scene: Scene | None = None


def timeline(midnight: datetime, known: Collection[str]) -> Iterator[Moment]:
    """All that happens, in no order."""
    beginning = moment_of(BEGINNING, midnight)
    for number, (name, roles) in enumerate(PEOPLE.items(), start=1):
        if id_of(name) not in known:
            at = beginning + timedelta(minutes=10 * number)
            operator = Actor(kind="system", id="operator", roles=frozenset({Role.SYSTEM, Role.ADMIN}))
            yield Moment(at, operator, "cli", partial(newcomer, name, roles))
    for story in STORIES:
        scene = Scene(story.name, midnight, id_of)
        seconds = Random(story.name)  # noqa: S311 - only that nobody acts on the stroke of the minute
        for step in story.steps:
            at = scene.moment(step.when) + timedelta(seconds=seconds.uniform(0, 59))
            actor, via = (system_actor(MAIL), "mail") if step.who == MAIL else (as_actor(step.who), "api")
            yield Moment(at, actor, via, partial(step.does, scene), step.is_refused, scene)
    for when, *said in SET_ASIDE:
        yield Moment(moment_of(when, midnight), system_actor(MAIL), "mail", partial(set_aside, *said))
    for when, name in READS:
        yield Moment(moment_of(when, midnight), as_actor(AUDREY), "api", partial(reading, name))


async def tell(desk: Desk, clock: ScriptedClock, moments: list[Moment], progress: Callable[[int, int], None]) -> None:
    for number, moment in enumerate(sorted(moments, key=attrgetter("at")), start=1):
        clock.moment = moment.at
        case = moment.scene and moment.scene.opened
        submission = Submission(
            command=moment.command(),
            actor=moment.actor,
            via=moment.via,
            request=id_of(f"moment {number}"),
            case_id=case.id if case else None,
        )
        try:
            receipt = await desk.ledger.submit(submission)
        except Refused:
            if not moment.is_refused:
                raise
        else:
            if moment.scene is not None and isinstance(receipt, Receipt):
                moment.scene.opened = receipt.case
        progress(number, len(moments))


def newcomer(name: str, roles: tuple[Role, ...]) -> Command:
    return AddPerson(person_id=id_of(name), email=f"{name.lower()}@step-into.example", name=name, roles=roles)


def set_aside(reason: str, sender: str, subject: str, text: str) -> Command:
    return SetMailAside(reason=reason, sender=sender, subject=subject, text=text)


def reading(name: str) -> Command:
    return RecordRead(case=id_of(name), version=1, what="events")


def as_actor(name: str) -> Actor:
    return Actor(kind="person", id=id_of(name), roles=frozenset(PEOPLE[name]))


# The way in.


async def passes(desk: Desk) -> list[Pass]:
    known = {person.id: person for person in await people.everybody(desk.database)}
    made = []
    for name in PEOPLE:
        person = known.get(id_of(name))
        if person is None or not person.active:  # as whoever tries the desk out has left it
            continue
        for token in person.tokens:
            if token.id.startswith(TOKEN_PREFIX):
                await give(desk, RevokeToken(person_id=person.id, token_id=token.id))
        command, secret = new_token(person.id, token_id=TOKEN_PREFIX + new_token_id())
        await give(desk, command)
        link, link_secret = new_link(person.id, desk.clock(), token_id=TOKEN_PREFIX + new_token_id())
        await give(desk, link)
        made.append(Pass(", ".join(person.roles), name, secret, link_secret))
    return made


async def give(desk: Desk, command: Command) -> None:
    await desk.submit_as_system("operator", command, via="cli", admin=True)
