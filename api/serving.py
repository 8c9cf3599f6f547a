"""Starting the service, in one process or in several that share a socket, and stopping it without loss."""

import asyncio
import gc
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import structlog
from uvicorn import Config, Server
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from api.database import prepare
from api.logs import configure_logs
from api.settings import MIN_SECRET_CHARACTERS, Settings
from api.verifying import scheduled
from storage.database import open_database, utc_now
from storage.sqlite import JOURNAL_MODE, WAL_IS_SAFE, driver
from workflow.errors import CaseworkError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn.config import HTTPProtocolType

log = structlog.get_logger()

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 65  # longer than proxies keep theirs: a request must not meet a connection that we are closing
STOP_SECONDS = 20  # for the requests under way; longer than the ledger ever waits for a lock
START_SECONDS = 30  # for a worker, on a busy machine


class CannotServe(CaseworkError):
    """The service cannot start like this; the text says what to do."""


def serve(settings: Settings, host: str, port: int, workers: int = 1) -> int:
    """Serve until a SIGTERM or SIGINT, and answer with the exit code. Raises CannotServe, NotReady, TimezoneChanged.

    Then no more connections are taken, and what was asked before is answered: nothing acknowledged is lost.
    """
    gc.disable()  # starting makes nothing but what stays; the app sets up the collector as it serves
    configure_logs(settings.log_level)
    if len(settings.secret) < MIN_SECRET_CHARACTERS:
        raise CannotServe(
            f"CASEWORK_SECRET_KEY has to be set to at least {MIN_SECRET_CHARACTERS} characters that nobody can guess."
            " This makes one: python3 -c 'import secrets; print(secrets.token_hex(32))'"
        )
    database = open_database(settings.database_url)
    if workers > 1 and database.dialect == "sqlite":
        raise CannotServe("several workers need PostgreSQL: a SQLite file has one writer at a time")
    in_its_own_process(get_ready, settings)
    with listen(host, port) as listener, scheduled(settings):
        return serve_alone(settings, listener) if workers == 1 else serve_together(listener, workers)


def in_its_own_process(task: Callable[[Settings], None], settings: Settings) -> None:
    """Raises what the task raises. The memory that it takes is given back."""
    context = get_context("fork" if "fork" in get_all_start_methods() else None)
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=told, args=(task, settings, send))
    process.start()
    send.close()
    try:
        failure = receive.recv()
    except EOFError:
        failure = CannotServe("the database could not be prepared: the process that did so was ended")
    process.join()
    if failure:
        raise failure


def told(task: Callable[[Settings], None], settings: Settings, send: Connection) -> None:
    try:
        task(settings)
    except Exception as failure:  # noqa: BLE001 - it is raised over there
        send.send(failure)
    else:
        send.send(None)


def get_ready(settings: Settings) -> None:
    """Migrations need 9 MB of libraries that nothing else does."""
    asyncio.run(prepared(settings))


async def prepared(settings: Settings) -> None:
    database = open_database(settings.database_url)
    try:
        await prepare(database, settings, utc_now())
    finally:
        await database.close()
    if database.dialect == "sqlite" and not WAL_IS_SAFE:
        log.warning("rollback_journal", sqlite=driver.sqlite_version, journal_mode=JOURNAL_MODE, safe_from="3.51.3")


def listen(host: str, port: int) -> socket.socket:
    """From now on connections queue up, even if nobody answers them yet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as failure:
        said = str(failure.strerror).partition(" (while")[0]  # Python tells the address once more
        raise CannotServe(f"cannot listen on {host} port {port}: {said}") from failure


def announce(listener: socket.socket, workers: int) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    log.info("serving", url=url, workers=workers)
    if sys.stderr.isatty():
        sys.stderr.write(f"\nCasework is at {url} (Ctrl-C stops it)\n\n")


def config_of(app: "FastAPI | str", workers: int) -> Config:
    return Config(
        app,
        factory=isinstance(app, str),
        workers=workers,
        http=protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # our middleware logs
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_worker_healthcheck=START_SECONDS,
    )


def protocol() -> "type[asyncio.Protocol] | HTTPProtocolType":
    if sys.platform == "win32":
        return "auto"
    from api import connections  # noqa: PLC0415 - httptools is not there

    return connections.Connection


# One process.


def serve_alone(settings: Settings, listener: socket.socket) -> int:
    from api.app import create_app  # noqa: PLC0415 - only where requests are served

    server = Service(config_of(create_app(settings), 1))
    gc.freeze()  # the app collects what starting leaves over, and need not look at all that stays
    # Once it has stopped, the server sends the signal that stopped it again, for others to see: it has done its work.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: None)
    server.run(sockets=[listener])
    return 0 if server.started else 1


class Service(Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.enable()
        for listener in sockets or ():
            announce(listener, 1)


# Several processes.


def serve_together(listener: socket.socket, workers: int) -> int:
    with tempfile.TemporaryDirectory(prefix="casework-metrics-") as folder:
        # The workers count in files, so that each can answer for all; read when their metrics are imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        service = Workers(config_of("api.serving:worker", workers), [listener])
        service.run()
        return 1 if any(one.exitcode == STARTUP_FAILURE for one in service.processes) else 0


def worker() -> "FastAPI":
    """The app of one of several processes, which has the settings from the same environment."""
    from api.app import create_app  # noqa: PLC0415 - as above

    settings = Settings()
    configure_logs(settings.log_level)
    return create_app(settings)


class Workers(Multiprocess):
    """Starts another worker wherever one dies."""

    def init_processes(self) -> None:
        super().init_processes()
        gc.enable()
        if any(one.wait_until_ready(START_SECONDS, self.should_exit) for one in self.processes):
            announce(self.sockets[0], self.processes_num)
