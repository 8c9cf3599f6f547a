"""kill -9 of the service under load, again and again: what was acknowledged is there, and nothing is there by halves."""

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.api import conftest as desks
from tests.databases import PostgresServer, copy_sqlite, migrate
from tests.end_to_end.crashing import Load, Server, found_wrong, serve_as_ever, serve_carelessly
from tests.shared import lacking

sqlite_desk = desks.sqlite_desk

KILLS = int(os.environ.get("TEST_KILLS", "20"))
CLIENTS = 8


@pytest.fixture(scope="module")
def durable_postgres() -> Iterator[PostgresServer]:
    try:
        server = PostgresServer(durable=True).start()
    except ImportError:
        lacking("PostgreSQL: its wheel is not made for it")
    yield server
    server.stop()
