"""What open pages are told of, on both databases and between two processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from api import live
from api.live import LIST, TooMany, Watcher
from storage import following, people
from storage.database import PostgresDatabase
from storage.following import last_position
from storage.signals import APPLICATION_NAME, GROWN
from tests.api.driving import Service, done, running
from workflow.cases import chain_of
from workflow.people import DisablePerson, RevokeToken, SetRoles, SignIn
from workflow.roles import Role

SOON = 4.0  # seconds
NOTHING = 0.6
LISTENING = "datname = current_database() AND application_name = :name"


class Page:
    """An open page, as its browser hears of changes."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.heard: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.last_id = 0

    async def listen(self) -> None:
        async with aclosing(self.watcher.messages()) as messages:
            async for said in messages:
                fields = dict(line.split(": ", 1) for line in said.decode().strip().split("\n") if line[0] != ":")
                self.last_id = int(fields.get("id", self.last_id))
                if "event" in fields:
                    self.heard.put_nowait({"event": fields["event"]} | msgspec.json.decode(fields["data"]))
        self.heard.put_nowait(None)

    async def next(self) -> dict[str, Any] | None:
        """What is heard next; None at the end."""
        return await asyncio.wait_for(self.heard.get(), SOON)

    async def hears_nothing(self) -> bool:
        await asyncio.sleep(NOTHING)
        return self.heard.empty()


@asynccontextmanager
async def a_page(service: Service, name: str, *topics: str, since: int | None = None) -> AsyncIterator[Page]:
    session = await sign_in(service, name)
    person = await people.one(service.desk.database, name)
    assert person is not None
    await service.desk.sequencer.catch_up()  # what has no position yet would be told, too
    page = Page(await service.desk.live.watch(person, session, topics, since))
    listening = asyncio.create_task(page.listen())
    try:
        yield page
    finally:
        service.desk.live.leave(page.watcher)
        page.watcher.end()
        await listening


async def sign_in(service: Service, name: str, hours: float = 12) -> str:
    session = f"session-{name}"
    person = await people.one(service.desk.database, name)
    assert person is not None
    if person.token(session) is None:
        command = SignIn(
            person_id=name,
            session_id=session,
            secret_hash=people.secret_hash(session),
            expires_at=service.clock() + timedelta(hours=hours),
        )
        await service.desk.submit_as_system("sign-in", command, via="page")
    return session


# What changes.


async def test_a_page_of_a_case_hears_of_its_newest_version(service: Service) -> None:
    case = await service.ana.open()
    async with a_page(service, "bo", chain_of(case["id"])) as page:
        moved = done(await service.ana.fire(case["id"], "investigate"))

        assert await page.next() == {"event": "changed", chain_of(case["id"]): moved["version"]}
        assert page.last_id == await last_position(service.desk.database)


async def test_a_page_of_a_case_hears_of_no_other(service: Service) -> None:
    case, other = await service.ana.open(), await service.ana.open()
    async with a_page(service, "bo", chain_of(case["id"])) as page:
        await service.ana.fire(other["id"], "investigate")

        assert await page.hears_nothing()


async def test_a_list_hears_of_every_case_and_of_nothing_else(service: Service) -> None:
    async with a_page(service, "bo", LIST) as page:
        await service.ana.open()
        assert await page.next() == {"event": "changed", LIST: 0}
        await sign_in(service, "lou")

        assert await page.hears_nothing()


async def test_many_changes_are_told_as_few(service: Service) -> None:
    case = await service.ana.investigate()
    async with a_page(service, "bo", LIST, chain_of(case["id"])) as page:
        for number in range(30):
            await service.ana.add(case["id"], "notes", text=f"note {number}")
        told: list[dict[str, Any]] = []
        while not told or told[-1][chain_of(case["id"])] < case["version"] + 30:
            said = await page.next()
            assert said is not None
            told.append(said)

        assert len(told) < 8


async def test_what_happened_since_the_page_was_made_is_told_at_once(service: Service) -> None:
    case = await service.ana.open()
    since = await service.desk.live.since()
    moved = done(await service.ana.fire(case["id"], "investigate"))
    await service.desk.sequencer.catch_up()
    async with a_page(service, "bo", chain_of(case["id"]), LIST, since=since) as page:
        assert await page.next() == {"event": "changed", chain_of(case["id"]): moved["version"], LIST: 0}


async def test_who_comes_back_is_told_of_nothing_that_they_had(service: Service) -> None:
    case = await service.ana.open()
    async with a_page(service, "bo", chain_of(case["id"]), LIST) as page:
        await service.ana.fire(case["id"], "investigate")
        while await page.next() is None or not page.heard.empty():
            pass
        had = page.last_id
    await sign_in(service, "lou")
    async with a_page(service, "bo", chain_of(case["id"]), LIST, since=had) as page:
        assert await page.hears_nothing()


@pytest.mark.parametrize("looked_through", [1000, 3])
async def test_who_was_away_hears_of_a_list_only_if_a_case_may_have_changed(
    service: Service, looked_through: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether one did is looked for among so many events; if there were more, it is supposed."""
    monkeypatch.setattr(following, "LOOKED_THROUGH", looked_through)
    await service.desk.sequencer.catch_up()
    had = await service.desk.live.since()
    for name in ("cleo", "dirk", "eli"):
        await sign_in(service, name)
    async with a_page(service, "bo", LIST, since=had) as page:
        if looked_through == 3:
            assert await page.next() == {"event": "changed", LIST: 0}
        assert await page.hears_nothing()


async def test_a_desk_with_many_open_lists_tells_them_one_after_the_other(service: Service) -> None:
    pages = [await watcher(service, "bo") for _ in range(10)]
    hub = service.desk.live

    def told() -> list[float]:
        for one in pages:
            one.changed.clear()
        hub.tell({one: {LIST: 0} for one in pages})
        return sorted(one.due_at for one in pages)

    due = told()
    apart = live.LOADING_SECONDS / live.LOADING_SHARE
    assert due[-1] - due[0] == pytest.approx(9 * apart)
    for one in pages:
        one.told_at = one.due_at
    again = told()
    assert again[0] - due[0] >= 10 * apart

    for seconds in (1.0, 2.0, 3.0):  # pages take longer
        hub.loaded(seconds)
    later = told()
    assert later[0] - due[0] > again[0] - due[0]
    for seconds in (1e9, *[0.0] * 500):  # nobody waits for good
        hub.loaded(seconds)
        later = told()
        assert later[0] - due[-1] <= 10 * live.MOST_APART
    assert later[0] - due[0] >= live.GAP_SECONDS
    for one in pages:
        hub.leave(one)


async def watcher(service: Service, name: str, *topics: str) -> Watcher:
    session = await sign_in(service, name)
    person = await people.one(service.desk.database, name)
    assert person is not None
    return await service.desk.live.watch(person, session, topics or (LIST,), None)


async def test_who_reads_slowly_costs_no_memory(service: Service) -> None:
    """Nothing is read while a thousand changes are told; in the end there is one message."""
    case = await service.ana.open()
    slow = await watcher(service, "bo", LIST, chain_of(case["id"]))
    for version in range(1000):
        service.desk.live.tell({slow: {chain_of(case["id"]): version, LIST: 0}})

    assert slow.changed == {chain_of(case["id"]): 999, LIST: 0}
    service.desk.live.leave(slow)


async def test_a_quiet_stream_says_that_it_is_still_there_and_up_to_where(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)
    quiet = await watcher(service, "bo")
    async with aclosing(quiet.messages()) as messages:
        assert (await anext(messages)).startswith(b"retry: ")
        said = await asyncio.wait_for(anext(messages), SOON)

    assert said == f": still here\nid: {service.desk.live.position}\n\n".encode()
    service.desk.live.leave(quiet)


async def test_nobody_goes_on_from_behind_what_they_were_not_told(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the connection break after the first message, or after a sign of life."""
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)
    page = await watcher(service, "bo")
    page.change(LIST, 0, due_at=asyncio.get_running_loop().time() + 3600)
    async with aclosing(page.messages()) as messages:
        assert await anext(messages) == b"retry: 2000\n\n"
        assert await asyncio.wait_for(anext(messages), SOON) == b": still here\n\n"
    service.desk.live.leave(page)


# Who may.


@pytest.mark.parametrize(
    "command",
    [
        RevokeToken(person_id="bo", token_id="session-bo"),
        DisablePerson(person_id="bo"),
        SetRoles(person_id="bo", roles=(Role.ADMIN,)),
    ],
    ids=["signed out", "disabled", "in another role"],
)
async def test_a_stream_ends_within_a_second_of_its_session(
    service: Service, command: RevokeToken | DisablePerson | SetRoles
) -> None:
    async with a_page(service, "bo", LIST) as page, a_page(service, "lou", LIST) as other:
        await service.desk.submit_as_system("operator", command, via="cli", admin=True)
        began = asyncio.get_running_loop().time()
        assert await page.next() == {"event": "ended"}
        assert asyncio.get_running_loop().time() - began < 1.5
        assert await page.next() is None
        assert await other.hears_nothing()


async def test_a_stream_ends_when_time_ends_its_session(service: Service) -> None:
    async with a_page(service, "bo", LIST) as page:
        service.clock.advance(hours=12)

        assert await page.next() == {"event": "ended"}


async def test_nobody_is_told_anything_after_their_session_even_if_that_went_unnoticed(service: Service) -> None:
    async with a_page(service, "bo", LIST) as page:
        service.desk.live.admit_at = float("inf")
        service.clock.advance(hours=12)
        page.watcher.change(LIST, 0, 0.0)

        assert await page.next() == {"event": "ended"}


async def test_what_the_log_does_not_tell_in_time_is_found_all_the_same(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as while no events can be numbered."""
    async with a_page(service, "bo", LIST) as page:

        async def silent(*_: object) -> list[Any]:
            return []

        monkeypatch.setattr(following, "steps", silent)
        await service.desk.submit_as_system("operator", DisablePerson(person_id="bo"), via="cli", admin=True)
        service.desk.live.recheck_at = 0.0

        assert await page.next() == {"event": "ended"}


async def test_who_was_signed_out_while_they_came_is_not_let_in(service: Service) -> None:
    session = await sign_in(service, "bo")
    before = await people.one(service.desk.database, "bo")
    assert before is not None
    await service.desk.submit_as_system("operator", DisablePerson(person_id="bo"), via="cli", admin=True)
    late = await service.desk.live.watch(before, session, (LIST,), None)

    assert late.is_over
    service.desk.live.leave(late)


async def test_other_rights_make_another_page(service: Service) -> None:
    async with a_page(service, "bo", LIST) as page:
        roles = SetRoles(person_id="bo", roles=(Role.AGENT, Role.LEAD))
        await service.desk.submit_as_system("operator", roles, via="cli", admin=True)

        assert await page.next() == {"event": "changed", LIST: 0}


async def test_a_session_has_so_many_streams_and_no_more(service: Service) -> None:
    pages = [await watcher(service, "bo") for _ in range(live.MAX_OF_A_SESSION)]
    with pytest.raises(TooMany):
        await watcher(service, "bo")
    pages.append(await watcher(service, "lou"))
    for one in pages:
        service.desk.live.leave(one)
    service.desk.live.leave(await watcher(service, "bo"))


async def test_a_process_has_so_many_streams_and_no_more(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_OPEN", 1)
    only = await watcher(service, "bo")
    with pytest.raises(TooMany):
        await watcher(service, "lou")
    service.desk.live.leave(only)


# Who else is looking.


async def test_whoever_has_the_same_case_open_is_named(service: Service) -> None:
    case, other = await service.ana.open(), await service.ana.open()
    async with a_page(service, "ana", chain_of(case["id"])) as page, a_page(service, "cleo", chain_of(other["id"])):
        async with a_page(service, "bo", chain_of(case["id"])) as second, a_page(service, "bo", chain_of(case["id"])):
            assert await page.next() == {"event": "lookers", "names": ["Bo"]}
            assert await second.next() == {"event": "lookers", "names": ["Ana"]}
            assert await page.hears_nothing()

        assert await page.next() == {"event": "lookers", "names": []}


# Costs.


async def test_when_the_last_page_is_closed_nothing_is_left(service: Service) -> None:
    hub, database = service.desk.live, service.desk.database
    before = asyncio.all_tasks()
    case = await service.ana.open()

    async def is_followed() -> bool:
        return hub.task is not None

    async with a_page(service, "ana", LIST, chain_of(case["id"])):
        assert await is_followed()
        await until(lambda: listening(database), 1 if database.dialect == "postgresql" else 0)
    await until(lambda: listening(database), 0)
    await until(is_followed, answer=False)

    assert asyncio.all_tasks() == before
    assert (hub.watchers, hub.watching, hub.people, hub.presence.open, hub.presence.leaving) == ({}, {}, {}, {}, {})


async def listening(database: Any) -> int:
    if database.dialect != "postgresql":
        return 0
    query = f"SELECT count(*) FROM pg_stat_activity WHERE {LISTENING}"
    return int((await database.first(text(query), {"name": APPLICATION_NAME}))[0])


async def until(question: Any, answer: object) -> None:
    async with asyncio.timeout(2 * SOON):
        while await question() != answer:  # noqa: ASYNC110 - it is asked of a database
            await asyncio.sleep(0.05)


async def test_the_desk_closes_every_stream_and_takes_no_more(service: Service) -> None:
    async with a_page(service, "bo", LIST) as page:
        await service.desk.live.close()

        assert await page.next() is None


# Several processes.


@pytest.fixture
async def second(service: Service, desk_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    async with running(desk_url, service.clock, key_folder=tmp_path / "keys") as another:
        yield another


async def test_what_another_process_writes_is_told_here(service: Service, second: Service) -> None:
    case = await second.ana.open()
    async with a_page(service, "bo", chain_of(case["id"]), LIST) as page:
        moved = done(await second.ana.fire(case["id"], "investigate"))

        assert await page.next() == {"event": "changed", chain_of(case["id"]): moved["version"], LIST: 0}


async def test_a_session_that_ends_in_another_process_ends_here(service: Service, second: Service) -> None:
    async with a_page(service, "bo", LIST) as page:
        await second.desk.submit_as_system("operator", DisablePerson(person_id="bo"), via="cli", admin=True)

        assert await page.next() == {"event": "ended"}


class TestOnPostgreSQL:
    @pytest.fixture
    def backend(self) -> str:
        return "postgresql"

    async def test_whoever_looks_by_way_of_another_process_is_named(self, service: Service, second: Service) -> None:
        case = await service.ana.open()
        async with a_page(service, "ana", chain_of(case["id"])) as page:
            async with a_page(second, "bo", chain_of(case["id"])) as other:
                assert await page.next() == {"event": "lookers", "names": ["Bo"]}
                assert await other.next() == {"event": "lookers", "names": ["Ana"]}

            assert await page.next() == {"event": "lookers", "names": []}

    async def test_a_lost_connection_is_made_anew_and_nothing_is_missed(
        self, service: Service, second: Service
    ) -> None:
        case = await second.ana.open()
        database = service.desk.database
        async with a_page(service, "ana", chain_of(case["id"])) as page:
            await until(lambda: listening(database), 1)
            kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LISTENING}"
            await database.rows(text(kill), {"name": APPLICATION_NAME})
            moved = done(await second.bo.fire(case["id"], "investigate"))
            assert await page.next() == {"event": "changed", chain_of(case["id"]): moved["version"]}
            await until(lambda: listening(database), 1)
            async with a_page(second, "bo", chain_of(case["id"])):
                assert await page.next() == {"event": "lookers", "names": ["Bo"]}

    async def test_without_any_connection_of_its_own_it_looks_every_second(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database = service.desk.database
        assert isinstance(database, PostgresDatabase)
        away = PostgresDatabase("postgresql://postgres@127.0.0.1:1/nowhere")
        monkeypatch.setattr(database, "signals", away.signals)
        case = await service.ana.open()
        async with a_page(service, "bo", chain_of(case["id"])) as page:
            moved = done(await service.ana.fire(case["id"], "investigate"))

            assert await page.next() == {"event": "changed", chain_of(case["id"]): moved["version"]}
            assert service.desk.live.faults == {"signals": "Unavailable"}

    async def test_writers_call_nobody_and_whoever_numbers_events_does(self, service: Service) -> None:
        """PostgreSQL lets transactions that call commit one after the other."""
        await service.desk.sequencer.close()
        heard: list[str] = []
        signals = service.desk.database.signals(lambda channel, _: heard.append(channel))
        await signals.tend()
        await service.ana.investigate()
        await asyncio.sleep(NOTHING)
        assert heard == []
        await service.desk.sequencer.catch_up()
        async with asyncio.timeout(SOON):
            while not heard:  # noqa: ASYNC110 - it comes from the database
                await asyncio.sleep(0.05)

        assert heard == [GROWN]
        await signals.close()
