"""The example that mirrors a desk: killed again and again while others write, it has everything in the end, once."""

import asyncio
import importlib.util
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from tests.api.driving import Clock, an_inquiry, done, running, token_of
from tests.databases import copy_sqlite, raw_sql
from tests.processes import PATIENCE_SECONDS, ROOT, serving
from workflow.canonical import canonical, leaf_hash

PROGRAM = ROOT / "docs" / "examples" / "mirror.py"
WRITERS, CASES = 6, 12
KILLS = 6


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The URL of the database, and the addresses of the processes that serve it: two, where there can be."""
    if request.param == "sqlite":
        url = copy_sqlite(request.getfixturevalue("sqlite_desk"), tmp_path / "desk.db")
    else:
        url = request.getfixturevalue("postgres").new_database(template=request.getfixturevalue("postgres_desk"))
    with ExitStack() as stack:
        served = [stack.enter_context(serving(url=url)) for _ in range(1 if request.param == "sqlite" else 2)]
        yield url, [one.url for one in served]


def mirroring(url: str, file: Path, *options: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"CASEWORK_TOKEN": token_of("audrey")}
    return subprocess.Popen([sys.executable, PROGRAM, url, file, *options], env=environment, stderr=subprocess.PIPE)


async def write(url: str, who: str) -> None:
    """Cases, each of which moves, is noted, and is refused something."""
    headers = {"authorization": f"Bearer {token_of(who)}", "if-match": "*"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        for number in range(CASES):
            case = (await client.post("/v1/cases", json=an_inquiry())).json()
            path = f"/v1/cases/{case['id']}"
            move: dict[str, Any] = {"trigger": "investigate", "reason": "as agreed"}
            for _ in range(2):
                await client.post(f"{path}/transitions", json=move)
            for text in "abc"[: number % 4]:
                await client.post(f"{path}/notes", json={"text": text})


async def test_a_mirror_that_is_killed_again_and_again_loses_nothing_and_has_nothing_twice(
    desk: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, addresses = desk
    file, chance = tmp_path / "mirror.db", random.Random(7)
    writers = [
        asyncio.create_task(write(addresses[number % len(addresses)], who))
        for number, who in enumerate(("ana", "bo", "lou") * (WRITERS // 3))
    ]
    reached = []
    for kill in range(KILLS):
        mirror = mirroring(addresses[kill % len(addresses)], file, "--limit", "7")
        before = positions_in(file)
        while positions_in(file) == before:
            assert mirror.poll() is None, mirror.communicate()
            await asyncio.sleep(0.01)
        await asyncio.sleep(chance.uniform(0, 0.03))
        mirror.kill()
        mirror.communicate()
        assert mirror.returncode == -signal.SIGKILL
        reached.append(positions_in(file))
    await asyncio.gather(*writers)
    last = mirroring(addresses[0], file, "--once")
    assert (await asyncio.to_thread(last.wait, PATIENCE_SECONDS), last.communicate()[1]) == (0, b"")

    assert reached[-1] < positions_in(file), "it was never killed in the middle"
    with raw_sql(url) as raw, closing(sqlite3.connect(file)) as mirrored:
        events = "SELECT position, chain, seq, hash, body FROM {} ORDER BY position"
        logged = raw.run(events.format("positions JOIN events ON id = event_id"))
        assert mirrored.execute(events.format("events")).fetchall() == logged
        assert raw.run("SELECT count(*) FROM events") == [(len(logged),)]
        cases = "SELECT id, number, state, version FROM cases ORDER BY id"
        assert mirrored.execute(cases).fetchall() == raw.run(cases)
        assert len(logged) > WRITERS * CASES * 3


def positions_in(file: Path) -> int:
    if not file.exists():
        return 0
    with closing(sqlite3.connect(file)) as mirrored:
        try:
            (count,) = mirrored.execute("SELECT count(*) FROM events").fetchone()
        except sqlite3.OperationalError:  # killed before it had made its tables
            return 0
        return int(count)


async def pages(desk_url: str) -> list[dict[str, Any]]:
    async with running(desk_url, Clock()) as service:
        await service.ana.investigate()
        items: list[dict[str, Any]] = done(await service.audrey.get("/v1/events", limit=1000))["items"]
        return items


def the_program() -> Any:
    spec = importlib.util.spec_from_file_location("mirror", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_another_body(item: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Hashed as it should be."""
    body = canonical(msgspec.json.decode(item["event"]["body"]) | changes)
    return item | {"event": item["event"] | {"body": body.decode(), "hash": leaf_hash(body)}}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_mirror_takes_in_nothing_that_is_not_what_it_should_be(desk_url: str, tmp_path: Path) -> None:
    items, program = await pages(desk_url), the_program()
    *most, last = items
    for number, (page, words) in enumerate(
        (
            ([*items[:3], *items[4:]], "position 4 is missing: 5 came instead"),
            ([*items, last], f"position {len(items) + 1} is missing"),
            (items[1:], "position 1 is missing"),
            ([*most, last | {"event": last["event"] | {"hash": "0" * 64}}], "is not that of its body"),
            ([*most, with_another_body(last, prev="0" * 64)], "does not follow the one before it"),
            ([*most, with_another_body(last, seq=9)], "event 9 does not follow the one before it"),
        )
    ):
        mirror = program.Mirror(tmp_path / f"{number}.db")
        with closing(mirror.connection):
            with pytest.raises(program.NotAsItShouldBe, match=words):
                mirror.take(page)
            assert mirror.position == 0
            mirror.take(items)
            assert mirror.position == len(items)
            mirror.check_same_log([last])
            for other in ([], [items[0]]):
                with pytest.raises(program.NotAsItShouldBe, match="another event"):
                    mirror.check_same_log(other)
