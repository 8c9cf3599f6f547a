"""Tells open pages what has changed and who else is looking, for as long as somebody has one open.

While there is a watcher, one task follows the log by its positions: woken by this process's ledger, by whichever
process numbers events on PostgreSQL, and every second in any case. Without watchers there is no task, no connection.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

import msgspec
import structlog
from prometheus_client import Gauge

from api.presence import Presence
from storage import following, people
from storage.database import Database
from storage.following import ANY_CASE, Step
from storage.signals import LOOKING, Signals
from storage.submissions import Unavailable
from storage.writer import Clock
from workflow.errors import CaseworkError
from workflow.people import Person, person_chain
from workflow.roles import READERS, TokenKind

log = structlog.get_logger()

OPEN = Gauge("casework_live_pages", "Open pages that are told of changes", multiprocess_mode="livesum")

LIST = "list"  # what a page of many cases watches; other pages watch the chain of their case

TICK_SECONDS = 1.0
PAUSE_SECONDS = 0.1  # between two looks at the log, however fast it grows
READ_AT_ONCE = 1000
RECHECK_SECONDS = 15.0  # people are read anew, should the log have stood still

GAP_SECONDS = 0.5  # between two changes that a page is told of
# A page that is told of changes loads itself again. That may take so much of each second in all, by how long it takes:
# a busy desk, on which everything takes longer, tells its pages less often.
LOADING_SHARE = 0.05
LOADING_SECONDS = 0.02  # as long as nobody knows better
LEAST_APART, MOST_APART = 0.01, 1.0
HEARTBEAT_SECONDS = 15.0  # proxies cut what is silent
RETRY_MS = 2000

MAX_OF_A_SESSION = 20
MAX_OPEN = 500  # half of what the usual limit of open files leaves room for


class TooMany(CaseworkError):
    """Of this session, or in this process."""


class Watcher:
    """One open page: what it watches, by whose session, and what it has not been told yet.

    That is bounded, however slowly somebody reads: for each thing watched, the newest version, and who looks at it.
    """

    def __init__(self, live: "Live", person: Person, session: str, topics: frozenset[str]) -> None:
        self.live = live
        self.person_id = person.id
        self.roles = person.roles
        self.session = session
        self.topics = topics
        self.changed: dict[str, int] = {}
        self.due_at = 0.0
        self.told_at = 0.0
        self.looking: tuple[str, ...] = ()
        self.is_looking_news = False
        self.is_over = False
        self.may_come_again = True
        self.wake = asyncio.Event()

    def change(self, topic: str, version: int, due_at: float) -> None:
        if not self.changed:
            self.due_at = due_at
            self.wake.set()
        self.changed[topic] = version

    def show_looking(self, names: tuple[str, ...]) -> None:
        if names != self.looking:
            self.looking, self.is_looking_news = names, True
            self.wake.set()

    def end(self, *, may_come_again: bool = True) -> None:
        """The connection is closed, and the browser told whether to make another."""
        self.may_come_again = may_come_again and self.may_come_again
        self.is_over = True
        self.wake.set()

    async def messages(self) -> AsyncGenerator[bytes]:
        """As server-sent events. What has an id can be gone on from: everything until there was told."""
        yield f"retry: {RETRY_MS}\n{self.place()}\n".encode()
        beat_at = time.monotonic() + HEARTBEAT_SECONDS
        while not self.is_over:
            self.wake.clear()
            now = time.monotonic()
            if self.is_looking_news:
                self.is_looking_news = False
                yield message("lookers", {"names": self.looking})
            elif self.changed and now >= self.due_at:
                if not self.live.admits(self):
                    self.end(may_come_again=False)
                    break
                said, self.changed, self.told_at = self.changed, {}, now
                beat_at = now + HEARTBEAT_SECONDS
                yield message("changed", said, self.place())
            elif now >= beat_at:
                beat_at = now + HEARTBEAT_SECONDS
                yield f": still here\n{self.place()}\n".encode()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout((min(beat_at, self.due_at) if self.changed else beat_at) - now):
                        await self.wake.wait()
        if not self.may_come_again:
            yield message("ended", {})

    def place(self) -> str:
        """Where to go on from, unless there is something before it that was not told yet."""
        return "" if self.changed else f"id: {self.live.position}\n"


def message(kind: str, said: object, place: str = "") -> bytes:
    return f"event: {kind}\n{place}data: {msgspec.json.encode(said).decode()}\n\n".encode()


class Live:
    """One per process. `ring` is called after each commit of the ledger, which must not wait."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.position = 0  # up to which the log has been looked at, while somebody watches
        self.watchers: dict[Watcher, None] = {}
        self.watching: dict[str, dict[Watcher, None]] = {}  # by what they watch, and by the chain of their person
        self.people: dict[str, Person] = {}
        self.bell = asyncio.Event()
        self.signals: Signals | None = None
        self.presence = Presence(self.call, time.monotonic)
        self.loading_seconds = LOADING_SECONDS
        self.faults: dict[str, str] = {}
        self.recheck_at = self.admit_at = 0.0
        self.task: asyncio.Task[None] | None = None
        self.closing = False

    def ring(self) -> None:
        self.bell.set()

    async def since(self) -> int:
        """The position up to which a page that is made from now on shows everything; it may show more."""
        return await following.last_position(self.database)

    def loaded(self, seconds: float) -> None:
        """A page that was told of changes has loaded itself again; it took so long to make."""
        self.loading_seconds += (seconds - self.loading_seconds) / 10

    # Coming and going.

    async def watch(self, person: Person, session: str, topics: Iterable[str], since: int | None) -> Watcher:
        """From now on, or from `since`. Who watches has to `leave` in the end. Raises TooMany, Unavailable."""
        position = await following.last_position(self.database)
        if self.closing:
            raise Unavailable("the desk is closing")
        if len(self.watchers) >= MAX_OPEN:
            raise TooMany("too many pages of this desk are open")
        mine = self.watching.get(person.chain, {})
        if sum(one.session == session for one in mine) >= MAX_OF_A_SESSION:
            raise TooMany(f"{MAX_OF_A_SESSION} of your pages are open, and no more can be told of changes")
        if self.task is None:
            self.position = position
            self.signals = self.database.signals(self.hear)
            self.task = asyncio.create_task(self.run(self.signals), name="live")
        watcher = Watcher(self, person, session, frozenset(topics))
        self.enter(watcher, person)
        try:
            await self.look_at([person.id])  # whatever happened before is found now, the rest in the log
            if since is not None:
                await self.catch_up(watcher, since)
        except BaseException:
            self.leave(watcher)
            raise
        return watcher

    def enter(self, watcher: Watcher, person: Person) -> None:
        self.people[person.id] = person
        self.watchers[watcher] = None
        for chain in (*watcher.topics, person.chain):
            self.watching.setdefault(chain, {})[watcher] = None
        for case_id in cases_in(watcher.topics):
            self.presence.come(case_id, person.id)
        OPEN.inc()
        self.ring()

    def leave(self, watcher: Watcher) -> None:
        if watcher not in self.watchers:
            return
        del self.watchers[watcher]
        mine = person_chain(watcher.person_id)
        for chain in (*watcher.topics, mine):
            del self.watching[chain][watcher]
            if not self.watching[chain]:
                del self.watching[chain]
        if mine not in self.watching:
            del self.people[watcher.person_id]
        for case_id in cases_in(watcher.topics):
            self.presence.go(case_id, watcher.person_id)
        OPEN.dec()
        self.ring()

    async def catch_up(self, watcher: Watcher, since: int) -> None:
        for topic in watcher.topics:
            if topic == LIST:
                if await following.any_case_changed(self.database, since):
                    watcher.change(LIST, 0, 0.0)
            elif (last := await following.last_of_chain(self.database, topic)) and last.position > since:
                watcher.change(topic, last.seq, 0.0)

    async def close(self) -> None:
        """End every connection, at once."""
        self.closing = True
        for watcher in self.watchers:
            watcher.end()
        if self.task is not None:
            self.presence.leave()
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    # Following.

    async def run(self, signals: Signals) -> None:
        try:
            while (self.watchers or not self.presence.is_empty) and not self.closing:
                self.bell.clear()
                await self.attempt("signals", self.tend)
                await self.attempt("log", self.look)
                await asyncio.sleep(PAUSE_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK_SECONDS):
                        await self.bell.wait()
        finally:
            self.task = self.signals = None
            await signals.close()

    async def attempt(self, part: str, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Exception as failure:  # whatever it is: a task that ends would do so in silence
            said = type(failure).__name__
            if self.faults.get(part) != said:
                bug = None if isinstance(failure, Unavailable) else failure
                log.warning("live_waits", part=part, failure=said, exc_info=bug)
            self.faults[part] = said
        else:
            self.faults.pop(part, None)

    def call(self, said: str) -> None:
        if self.signals is not None:
            self.signals.tell(LOOKING, said)
            self.ring()

    def hear(self, channel: str, said: str) -> None:
        if channel == LOOKING:
            self.presence.hear(said)
        self.ring()

    async def tend(self) -> None:
        if self.signals is not None and await self.signals.tend():
            self.presence.call_all()
            await self.signals.tend()

    async def look(self) -> None:
        """Hand out whatever is new: in the log, of people, and of who looks at what."""
        while found := await following.steps(self.database, self.position, READ_AT_ONCE):
            await self.dispatch(found)
            if len(found) < READ_AT_ONCE:
                break
            await asyncio.sleep(0)  # whoever has a request to answer gets their turn
        now = time.monotonic()
        if now >= self.recheck_at:
            self.recheck_at = now + RECHECK_SECONDS
            await self.look_at(self.people)
        if now >= self.admit_at:
            self.admit_at = now + TICK_SECONDS
            for watcher in self.watchers:
                if not self.admits(watcher):  # time alone ends a session, too
                    watcher.end(may_come_again=False)
        await self.show_looking(self.presence.settle())

    async def dispatch(self, found: Sequence[Step]) -> None:
        told: dict[Watcher, dict[str, int]] = {}
        changed_people: set[str] = set()
        for step in found:
            for watcher in self.watching.get(step.chain, ()):
                if step.chain in watcher.topics:
                    told.setdefault(watcher, {})[step.chain] = step.seq
                else:
                    changed_people.add(watcher.person_id)
        self.tell(told)
        if any(step.chain.startswith(ANY_CASE) for step in found):
            self.tell({watcher: {LIST: 0} for watcher in self.watching.get(LIST, ())})
        self.position = found[-1].position
        await self.look_at(changed_people)

    def tell(self, told: dict[Watcher, dict[str, int]]) -> None:
        """One after the other, if they are many, so that not all of them load their pages at the same moment."""
        now = time.monotonic()
        apart = min(max(self.loading_seconds / LOADING_SHARE, LEAST_APART), MOST_APART)
        gap = max(GAP_SECONDS, len(told) * apart)
        for place, (watcher, changed) in enumerate(told.items()):
            due_at = max(now + place * apart, watcher.told_at + gap)
            for topic, version in changed.items():
                watcher.change(topic, version, due_at)

    # Who may watch.

    def admits(self, watcher: Watcher) -> bool:
        """By what is known of the person, which is read anew as soon as the log says that it is otherwise."""
        person = self.people[watcher.person_id]
        return person.may_use(watcher.session, TokenKind.SESSION, self.clock()) and person.as_actor().may(READERS)

    async def look_at(self, ids: Iterable[str]) -> None:
        """Read these people anew; who may watch no more is told so, and who may do other things sees other pages."""
        wanted = [one for one in ids if one in self.people]
        found = {one.id: one for one in await people.some(self.database, wanted)} if wanted else {}
        for person_id, person in found.items():
            if person_id in self.people:  # they may have gone meanwhile
                self.people[person_id] = person
            for watcher in self.watching.get(person.chain, ()):
                if not self.admits(watcher):
                    watcher.end(may_come_again=False)
                elif watcher.roles != person.roles:
                    watcher.roles = person.roles
                    for topic in watcher.topics:
                        watcher.change(topic, 0, 0.0)

    # Who else is looking.

    async def show_looking(self, case_ids: Iterable[str]) -> None:
        for case_id in case_ids:
            looking = self.presence.of(case_id)
            names = await people.names_by_id(self.database, looking) if len(looking) > 1 else {}
            for watcher in self.watching.get(f"{ANY_CASE}{case_id}", ()):
                others = looking - {watcher.person_id}
                watcher.show_looking(
                    tuple(sorted(names[one]["name"] for one in others if "name" in names.get(one, {})))
                )


def cases_in(topics: Iterable[str]) -> list[str]:
    return [one.removeprefix(ANY_CASE) for one in topics if one != LIST]
