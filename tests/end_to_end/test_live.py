"""Open pages and the processes behind them: several of them, and one that stops."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy import text

from storage.database import open_database, utc_now
from storage.signals import APPLICATION_NAME
from tests.api.driving import Clock, an_inquiry, running, token_of
from tests.pages import browsing
from tests.processes import Served, serving

SOON = 20.0  # seconds, of a busy machine
AT_ONCE = 5.0
PEOPLE = ("ana", "bo")
STREAMS = 10


@pytest.fixture
def url(desk_url: str) -> str:
    """Of a desk at which Ana and Bo have signed in."""
    asyncio.run(sign_in(desk_url))
    return desk_url


async def sign_in(url: str) -> None:
    async with running(url, Clock(utc_now())) as service:
        for name in PEOPLE:
            await browsing.sign_in(service, name)


@contextmanager
def browser(service: Served, name: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url, timeout=SOON, cookies={"casework": browsing.session_of(name)}) as client:
        yield client


@contextmanager
def a_stream(client: httpx2.Client, query: str) -> Iterator[Iterator[str]]:
    with client.stream("GET", f"/live?{query}", headers={"accept": "text/event-stream"}) as response:
        assert response.status_code == 200
        yield response.iter_lines()


def next_event(lines: Iterator[str], kind: str) -> Any:
    event = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            event = value
        elif field == "data" and event == kind:
            return json.loads(value)
    return None


def open_case(service: Served) -> str:
    headers = {"authorization": f"Bearer {token_of('ana')}"}
    answer = httpx2.post(f"{service.url}/v1/cases", json=an_inquiry(), headers=headers, timeout=SOON)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_service_stops_at_once_however_many_pages_are_open(url: str) -> None:
    """Also where one of them has not read what it was sent."""
    with serving(url=url) as service, ExitStack() as stack:
        client = stack.enter_context(browser(service, "ana"))
        streams = [stack.enter_context(a_stream(client, "list")) for _ in range(STREAMS)]
        stack.enter_context(closing(deaf(service, client)))
        began = time.monotonic()

        assert service.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < AT_ONCE
        for lines in streams:
            assert next_event(lines, "ended") is None  # a whole answer, after which a browser comes back

    assert not [one for one in service.records if one.get("level") in {"error", "critical"}]


def deaf(service: Served, client: httpx2.Client) -> socket.socket:
    """A connection with a stream on it that nobody reads."""
    target = urlsplit(service.url)
    connection = socket.create_connection((str(target.hostname), int(target.port or 0)))
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    connection.sendall(f"GET /live?list HTTP/1.1\r\nHost: {target.netloc}\r\nCookie: {cookies}\r\n\r\n".encode())
    return connection


def test_a_browser_finds_its_place_again_after_a_restart(url: str) -> None:
    with serving(url=url) as service, browser(service, "bo") as bo, a_stream(bo, "list") as lines:
        place = next(line.partition(": ")[2] for line in lines if line.startswith("id: "))
        assert service.stop(signal.SIGINT) == 0
    with serving(url=url) as service, browser(service, "bo") as bo:
        open_case(service)
        headers = {"accept": "text/event-stream", "last-event-id": place}
        with bo.stream("GET", "/live?list", headers=headers) as response:
            assert next_event(response.iter_lines(), "changed") == {"list": 0}


class TestOnPostgreSQL:
    @pytest.fixture
    def backend(self) -> str:
        return "postgresql"

    def test_two_processes_tell_each_others_pages_what_is_written_and_who_is_looking(self, url: str) -> None:
        with serving(url=url) as first, serving(url=url) as second, ExitStack() as stack:
            ana = stack.enter_context(browser(first, "ana"))
            bo = stack.enter_context(browser(second, "bo"))
            with a_stream(bo, "list&since=999999") as lines:
                case = open_case(first)
                assert next_event(lines, "changed") == {"list": 0}
            with a_stream(ana, f"case={case}") as here, a_stream(bo, f"case={case}") as there:
                assert next_event(here, "lookers") == {"names": ["Bo"]}
                assert next_event(there, "lookers") == {"names": ["Ana"]}
                second.process.kill()  # it has no time to say so
                second.ended()
                assert asyncio.run(listeners(url, 1)) == 1
            assert asyncio.run(listeners(url, 0)) == 0

    def test_workers_stop_at_once_as_well(self, url: str) -> None:
        with serving("--workers", "2", url=url) as service, ExitStack() as stack:
            clients = [stack.enter_context(browser(service, name)) for name in PEOPLE]
            streams = [stack.enter_context(a_stream(client, "list")) for client in clients for _ in range(STREAMS)]
            open_case(service)
            for lines in streams:
                assert next_event(lines, "changed") == {"list": 0}
            began = time.monotonic()

            assert service.stop(signal.SIGTERM) == 0
            assert time.monotonic() - began < AT_ONCE


async def listeners(url: str, wanted: int) -> int:
    """How many processes listen, once it is as many as are wanted."""
    database = open_database(url)
    query = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = :n")
    found = -1
    for _ in range(int(SOON * 10)):
        ((found,),) = await database.rows(query, {"n": APPLICATION_NAME})
        if found == wanted:
            break
        await asyncio.sleep(0.1)
    await database.close()
    return found
