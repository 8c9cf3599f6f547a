"""Servers that are killed and started again within a moment, clients that go on all the while, and what is left."""

import asyncio
import atexit
import itertools
import multiprocessing
import random
import socket
import time
from asyncio import Task
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import msgspec

from api.app import create_app
from api.desk import Desk
from api.logs import configure_logs
from api.serving import Service, config_of, listen, serve
from api.settings import Settings
from storage import sequencer
from storage.batch import Batch
from storage.database import SqliteDatabase, open_database, utc_now
from storage.events import recorded
from storage.keys import ensure_key
from storage.postgres_writer import PostgresWriter
from storage.sqlite_writer import SqliteWriter
from storage.submissions import Submission
from storage.writer import Answer
from tests.api.driving import a_purchase, an_inquiry, token_of
from tests.databases import raw_sql
from tests.processes import SECRET_KEY, key_folder
from tests.storage.signing import signed_desk
from workflow.effects import effects_of, targets_of

HOST = "127.0.0.1"
PATIENCE_SECONDS = 60

Json = dict[str, Any]


# Servers.


def settings_of(url: str) -> Settings:
    return Settings.model_validate(
        {
            "database_url": url,
            "key_folder": key_folder(url),
            "secret_key": SECRET_KEY,
            "smtp_url": f"smtp://{HOST}:9",  # letters are planned, and attempted in vain
            "log_level": "error",
        }
    )


async def make_key(url: str) -> str:
    """Makes the key that signs the log, as `casework migrate` does, and returns the URL."""
    database = open_database(url)
    await ensure_key(database, key_folder(url), utc_now())
    await database.close()
    return url


REST_SECONDS = 0.02


def serve_as_ever(url: str, port: int) -> None:
    """What `casework serve` does, but that the sequencer and the signer hardly rest, so that a kill meets them."""
    sequencer.PAUSE_SECONDS = sequencer.TREE_SECONDS = sequencer.CHECKPOINT_SECONDS = REST_SECONDS
    serve(settings_of(url), HOST, port)


LATE_SECONDS = 0.05


class CarelessSqliteWriter(SqliteWriter):
    """Says that a command is durable, and makes it so a little later."""

    late: Task[None] | None = None
    is_batch = False

    async def begin(self) -> None:
        if self.late is not None:
            await self.late
        await super().begin()

    async def commit_together(self, submissions: Sequence[Submission]) -> list[Answer]:
        self.is_batch = True
        try:
            return await super().commit_together(submissions)
        finally:
            self.is_batch = False

    async def make_durable(self) -> None:
        """What is done between batches is rolled back unless it is durable when it ends, and acknowledged to nobody."""
        if self.is_batch:
            self.late = asyncio.create_task(self.commit_later())
        else:
            await super().make_durable()

    async def commit_later(self) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await super().make_durable()


class CarelessPostgresWriter(PostgresWriter):
    """As careless."""

    late: Task[None] | None = None

    async def connected(self) -> Any:
        if self.late is not None and asyncio.current_task() is not self.late:
            await self.late
        return await super().connected()

    async def write(self, connection: Any, batch: Batch) -> None:
        self.late = asyncio.create_task(self.write_later(connection, batch))

    async def write_later(self, connection: Any, batch: Batch) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await super().write(connection, batch)


def serve_carelessly(url: str, port: int) -> None:
    configure_logs("error")
    database = open_database(url)
    desk = Desk(settings_of(url), database)
    if isinstance(database, SqliteDatabase):
        database.ledgers_writer = CarelessSqliteWriter(database.path, utc_now, desk.settings.effects)
        desk.ledger.writer = database.ledgers_writer
    else:
        desk.ledger.writer = CarelessPostgresWriter(url, utc_now, desk.settings.effects)
    Service(config_of(create_app(settings_of(url), desk), 1)).run(sockets=[listen(HOST, port)])


# Each is a process of its own, forked from one that has imported what takes so long.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["__main__", __name__])


class Server:
    """At one address, whichever process serves there."""

    def __init__(self, url: str, work: Callable[[str, int], None]) -> None:
        with socket.create_server((HOST, 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.url = url
        self.work = work
        self.process = self.start()

    def start(self) -> Any:
        process = FORKS.Process(target=self.work, args=(self.url, self.port))
        process.start()
        atexit.register(process.kill)  # whatever becomes of the test
        return process

    def kill(self) -> None:
        """With SIGKILL: nothing is finished, nothing is said."""
        self.process.kill()
        self.process.join()

    def start_again(self) -> None:
        self.process = self.start()

    async def ready(self) -> None:
        ends_at = time.monotonic() + PATIENCE_SECONDS
        async with httpx2.AsyncClient() as client:
            while True:
                try:
                    if (await client.get(f"http://{HOST}:{self.port}/healthz")).status_code == 200:
                        return
                except httpx2.TransportError:
                    assert time.monotonic() < ends_at, "the service does not come back"
                await asyncio.sleep(0.02)


# Clients.


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """`mark` is a text in the body that stands in no other. Without a key it is asked once."""

    path: str
    body: Json
    mark: str
    version: int | None = None
    key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        headers = {} if self.key is None else {"idempotency-key": self.key}
        return headers if self.version is None else headers | {"if-match": f'"{self.version}"'}


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What the service has acknowledged."""

    request: Request
    receipt: str


class Load:
    """Clients with a case at a time each. Whoever hears no answer asks again under the same key, wherever it can."""

    def __init__(self, servers: list[Server], clients: int) -> None:
        self.addresses = [f"http://{HOST}:{one.port}" for one in servers]
        self.done: list[Done] = []
        self.unheard: list[Request] = []
        self.surprises: list[str] = []
        self.repeated = 0
        self.stopping = False
        self.tasks = [asyncio.create_task(self.client(number)) for number in range(clients)]

    async def more(self, count: int) -> None:
        """Wait until so much more is done."""
        wanted, ends_at = len(self.done) + count, time.monotonic() + PATIENCE_SECONDS
        while len(self.done) < wanted:
            assert time.monotonic() < ends_at, self.surprises
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self.stopping = True
        await asyncio.gather(*self.tasks)

    async def client(self, number: int) -> None:
        headers = {"authorization": f"Bearer {token_of('ana')}"}
        async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE_SECONDS) as client:
            for count in itertools.count():
                if self.stopping:
                    return
                await self.work_on_a_case(client, f"{number}-{count}")

    async def work_on_a_case(self, client: httpx2.AsyncClient, name: str) -> None:
        opening = an_inquiry(subject=name, purchase=a_purchase(name))
        answer = await self.ask(client, Request(path="/v1/cases", body=opening, mark=name, key=name))
        case = answer.headers["location"] if answer else ""
        for step, (path, body, field, needs_version, has_key) in enumerate(WORK):
            if answer is None:
                return
            mark = f"{name}-{step}"
            request = Request(
                path=f"{case}/{path}",
                body=body | {field: mark},
                mark=mark,
                version=int(answer.headers["etag"].strip('"')) if needs_version else None,
                key=mark if has_key else None,
            )
            answer = await self.ask(client, request)

    async def ask(self, client: httpx2.AsyncClient, request: Request) -> httpx2.Response | None:
        """The answer; None where there is none, or another than was to be expected."""
        while True:
            try:
                address = random.choice(self.addresses)
                answer = await client.post(address + request.path, json=request.body, headers=request.headers)
            except httpx2.ConnectError:  # was not even asked
                await asyncio.sleep(0.02)
                continue
            except httpx2.TransportError:
                code = "unheard"
            else:
                if answer.is_success:
                    self.done.append(Done(request=request, receipt=answer.headers["audit-receipt"]))
                    return answer
                code = answer.json().get("code", "")
            if code in {"unheard", "outcome_unknown"}:
                if request.key is None:
                    self.unheard.append(request)
                    return None
                self.repeated += 1
            elif code not in {"unavailable", "idempotency_key_in_flight"}:
                self.surprises.append(f"{request.path}: {code}")
                return None
            await asyncio.sleep(0.02)


# By path below the case: the body, the field that takes the mark, and whether it names a version and a key.
WORK: tuple[tuple[str, Json, str, bool, bool], ...] = (
    ("transitions", {"trigger": "investigate"}, "reason", True, True),
    ("notes", {}, "text", False, False),
    ("purchase/checks", {}, "reason", True, True),
    (
        "transitions",
        {"trigger": "offer_adjustment", "data": {"description": "another audience", "answer_by": "2035-01-01"}},
        "reason",
        True,
        True,
    ),
    ("messages", {"direction": "outbound"}, "text", False, True),
    ("transitions", {"trigger": "resume", "data": {"reason_code": "declined"}}, "reason", True, False),
    ("notes", {}, "text", False, True),
)


# What is left.


async def found_wrong(url: str, load: Load) -> list[str]:
    """Everything that should not be so after all the crashes, in sentences."""
    async with signed_desk(url, key_folder(url)) as desk:
        await desk.settle()
        faults = await desk.faults()
    with raw_sql(url) as raw:
        events = {(chain, seq): (digest, body) for chain, seq, digest, body in raw.run(EVENTS)}
        marks = Counter(value for (value,) in raw.run("SELECT value FROM personal"))
        texts = {tuple(row) for row in raw.run("SELECT chain, seq, field FROM personal")}
        effects = {tuple(row) for row in raw.run("SELECT chain, seq, kind, target FROM outbox")}
        keys = {tuple(row) for row in raw.run("SELECT chain, version FROM idempotency")}
    return [
        *faults,
        *load.surprises,
        *lost(load.done, events, keys),
        *repeated(load, marks),
        *half_written(events, texts, effects),
    ]


def checkpoints(url: str) -> int:
    """How often the log was signed."""
    with raw_sql(url) as raw:
        ((count,),) = raw.run("SELECT count(*) FROM checkpoints")
    return int(count)


EVENTS = "SELECT chain, seq, hash, body FROM events"
Place = tuple[str, int]
Events = dict[Place, tuple[str, str]]


def lost(done: list[Done], events: Events, keys: set[tuple[Any, ...]]) -> Iterator[str]:
    for one in done:
        chain, seq, digest = one.receipt.split("/")
        if events.get((chain, int(seq)), ("", ""))[0] != digest:
            yield f"lost: {one.receipt}"
        elif one.request.key is not None and (chain, int(seq)) not in keys:
            yield f"lost: the key of {one.receipt}"


def repeated(load: Load, marks: "Counter[str]") -> Iterator[str]:
    for one in load.done:
        if marks[one.request.mark] > 1:
            yield f"done {marks[one.request.mark]} times: {one.receipt}"
    for request in load.unheard:
        if marks[request.mark] > 1:
            yield f"done {marks[request.mark]} times: {request.path}"


def half_written(events: Events, texts: set[tuple[Any, ...]], effects: set[tuple[Any, ...]]) -> Iterator[str]:
    """`verify` follows chains and rows; this looks for what should stand beside an event and does not."""
    for (chain, seq), (digest, body) in events.items():
        one = recorded(body, digest)
        if not {(chain, seq, field) for field in one.event.personal} <= texts:
            yield f"half written: the texts of {chain}/{seq}"
        if not {(chain, seq, kind.value, to) for kind in effects_of(one) for to in targets_of(kind)} <= effects:
            yield f"half written: the effects of {chain}/{seq}"
