"""The service as a process: how it starts, when it refuses to, and how it stops without losing anything."""

import asyncio
import os
import signal
import socket
import sqlite3
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from storage.database import open_database
from tests.databases import PostgresServer, migrate, sqlite_url
from tests.processes import Served, casework, serving

CLIENTS = 16


def test_it_logs_the_port_it_was_given_and_answers_there(tmp_path: Path) -> None:
    with serving(url=sqlite_url(tmp_path / "desk.db")) as service:
        ready = get(f"{service.url}/readyz")

        assert '"status":"ready"' in ready
        assert service.stop() == 0


def test_an_idle_process_is_small(tmp_path: Path) -> None:
    with serving(url=sqlite_url(tmp_path / "desk.db")) as service:
        get(f"{service.url}/readyz")

        status = Path(f"/proc/{service.process.pid}/status").read_text("utf-8")

    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    assert int(resident.split()[1]) < 120 * 1024


def test_nobody_is_told_what_serves_them(tmp_path: Path) -> None:
    with serving(url=sqlite_url(tmp_path / "desk.db")) as service:
        assert "server" not in httpx2.get(f"{service.url}/healthz").headers


@pytest.mark.parametrize("key", ["", "too short to be a secret"])
def test_it_refuses_to_start_without_a_secret_key_and_says_how_to_make_one(tmp_path: Path, key: str) -> None:
    refused = casework("serve", "--port", "0", url=sqlite_url(tmp_path / "desk.db"), secret_key=key)

    assert refused.returncode == 1
    assert "CASEWORK_SECRET_KEY" in refused.stderr
    assert "token_hex" in refused.stderr
    assert not (tmp_path / "desk.db").exists()


def test_several_workers_are_refused_on_sqlite(tmp_path: Path) -> None:
    refused = casework("serve", "--port", "0", "--workers", "2", url=sqlite_url(tmp_path / "desk.db"))

    assert (refused.returncode, refused.stderr) == (
        1,
        "casework: several workers need PostgreSQL: a SQLite file has one writer at a time\n",
    )


def test_a_postgresql_database_has_to_be_migrated_first(postgres: PostgresServer) -> None:
    refused = casework("serve", "--port", "0", url=postgres.new_database())

    assert refused.returncode == 1
    assert "casework migrate" in refused.stderr


def test_another_time_zone_than_the_desk_was_created_with_is_explained(database_url: str) -> None:
    casework("migrate", url=database_url, timezone="Europe/Kyiv")

    refused = casework("serve", "--port", "0", url=database_url, timezone="Asia/Tokyo")

    assert refused.returncode == 1
    assert "Europe/Kyiv" in refused.stderr
    assert "Asia/Tokyo" in refused.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])

        refused = casework("serve", "--port", port, url=sqlite_url(tmp_path / "desk.db"))

    assert refused.returncode == 1
    assert refused.stderr.endswith(f"casework: cannot listen on 127.0.0.1 port {port}: Address already in use\n")


def test_it_says_when_the_sqlite_library_makes_it_use_a_rollback_journal(tmp_path: Path) -> None:
    without_the_wheel = "import sys; sys.modules['pysqlite3'] = None; from api.cli import main; main()"

    with serving(url=sqlite_url(tmp_path / "desk.db"), program=(sys.executable, "-c", without_the_wheel)) as service:
        ready = get(f"{service.url}/readyz")

    is_affected = sqlite3.sqlite_version_info < (3, 51, 3)
    assert any(one["event"] == "rollback_journal" for one in service.records) == is_affected
    assert ('"journal":"DELETE"' in ready) == is_affected


# Stopping.


async def test_what_was_asked_before_it_stops_is_answered_and_nothing_else_is_done(empty_url: str) -> None:
    token = await asyncio.to_thread(a_token, empty_url)
    with serving(url=empty_url) as service:
        load = await stopped_under_load(service, token)

        assert service.ended() == 0

    assert len(load.answered) > 2 * CLIENTS
    assert await subjects(empty_url) == load.answered


def test_ctrl_c_stops_it_just_as_well(tmp_path: Path) -> None:
    with serving(url=sqlite_url(tmp_path / "desk.db")) as service:
        get(f"{service.url}/readyz")

        assert service.stop(signal.SIGINT) == 0


async def test_several_workers_stop_as_well_behaved_as_one(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    token = await asyncio.to_thread(a_token, url)
    with serving("--workers", "2", url=url) as service:
        load = await stopped_under_load(service, token)

        assert service.ended() == 0

    assert len(load.answered) > 2 * CLIENTS
    assert await subjects(url) == load.answered


def test_a_worker_that_dies_is_replaced_and_their_metrics_are_counted_together(postgres: PostgresServer) -> None:
    url = migrate(postgres.new_database())
    with serving("--workers", "2", url=url) as service:
        for _ in range(20):
            get(f"{service.url}/healthz")
        assert 'casework_requests_total{method="GET",route="/healthz",status="200"} 20.0' in get(
            f"{service.url}/metrics"
        )
        worker = int(str(service.wait_for(is_a_start)["event"]).split("[")[1].rstrip("]"))
        logged = len(service.records)

        os.kill(worker, signal.SIGKILL)

        service.wait_for(is_a_start, after=logged)
        assert '"status":"ready"' in get(f"{service.url}/readyz")
        assert service.stop() == 0


def is_a_start(record: dict[str, Any]) -> bool:
    return str(record["event"]).startswith("Started server process")


def get(url: str) -> str:
    return httpx2.get(url, timeout=30).text


def a_token(url: str) -> str:
    """Of an agent; the database is migrated on the way."""
    casework("migrate", url=url)
    casework("user", "add", "ana@step-into.example", "--name", "Ana", "--role", "agent", url=url)
    return casework("token", "create", "ana@step-into.example", url=url).stdout.strip()


class Load:
    """Clients that open one case after the other until nobody answers them; `answered` are the subjects."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.headers = {"authorization": f"Bearer {token}"}
        self.answered: set[str] = set()
        self.enough = asyncio.Event()

    async def client(self, number: int) -> None:
        async with httpx2.AsyncClient(base_url=self.url, headers=self.headers, timeout=30) as client:
            for count in range(10_000):
                subject = f"{number} {count}"
                inquiry = {
                    "subject": subject,
                    "message": "It is late.",
                    "client": {"name": "Una", "email": "una@example.com"},
                    "category": "delay",
                }
                try:
                    answer = await client.post("/v1/cases", json=inquiry)
                except httpx2.TransportError:
                    return
                assert answer.status_code == 201, answer.text
                self.answered.add(subject)
                if len(self.answered) > 10 * CLIENTS:
                    self.enough.set()


async def stopped_under_load(service: Served, token: str) -> Load:
    load = Load(await asyncio.to_thread(lambda: service.url), token)
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(load.client(number))
        await load.enough.wait()
        service.process.send_signal(signal.SIGTERM)
    return load


async def subjects(url: str) -> set[str]:
    database = open_database(url)
    rows = await database.rows(text("SELECT value FROM personal WHERE field = 'subject'"))
    await database.close()
    return {subject for (subject,) in rows}
