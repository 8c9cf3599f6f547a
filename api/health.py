"""Is it alive, is it ready, how is it doing."""

import os
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import structlog
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Gauge, generate_latest, multiprocess
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response
from typing_extensions import TypedDict

from api.errors import RETRY_SECONDS
from api.routing import Answer
from api.verifying import last_result
from storage import checkpoints, schema
from storage.sqlite import JOURNAL_MODE, WAL_IS_SAFE, driver
from storage.submissions import Unavailable

if TYPE_CHECKING:
    from api.desk import Desk

log = structlog.get_logger()

WAITING = Gauge(
    "casework_events_waiting",
    "Events in the log that are not in the tree over it yet",
    multiprocess_mode="mostrecent",
)

VERIFIED_AT = Gauge(
    "casework_verified_timestamp_seconds",
    "When the last scheduled verification began; 0 where there has been none",
    multiprocess_mode="mostrecent",
)
VERIFIED_FAULTS = Gauge(
    "casework_verified_faults",
    "What the last scheduled verification found wrong; 1 where it could not verify",
    multiprocess_mode="mostrecent",
)

# Another process of the desk does it, which is as it should be.
STANDING_BY = ("read_elsewhere", "address_in_use")

router = APIRouter(tags=["health"])


class HealthView(TypedDict):
    status: str


class CheckpointView(TypedDict):
    """The newest one that was signed."""

    origin: str
    size: int
    root: str
    at: str


class LogView(TypedDict):
    """`waiting` events are not in the tree yet."""

    waiting: int
    checkpoint: CheckpointView | None


class VerificationView(TypedDict):
    """The last one that was made on schedule; `first` says what is wrong, or why nobody knows."""

    at: str
    ok: bool
    seconds: float
    events: int
    faults: int
    first: str | None


class MailSourceView(TypedDict):
    """A mailbox or the LMTP listener; `problem` is a code, and null while it works."""

    name: str
    received_at: datetime | None  # when it last worked, with mail or without
    problem: str | None


class ReadyView(TypedDict):
    status: str
    database: str
    schema: str | None
    journal: str | None
    log: LogView | None
    verification: VerificationView | None
    mail: list[MailSourceView]
    warnings: list[str]


@router.get("/healthz", response_model=HealthView)
async def healthz() -> Response:
    """The process answers."""
    return Answer(HealthView(status="alive"))


@router.get("/readyz", response_model=ReadyView, responses={503: {"model": ReadyView, "description": "not ready"}})
async def readyz(request: Request) -> Response:
    """The database can be reached and has this release's schema; and what an operator should know besides."""
    view = await ready_view(request.app.state.desk)
    if view["status"] == "ready":
        return Answer(view)
    return Answer(view, 503, {"retry-after": str(RETRY_SECONDS)})


async def ready_view(desk: "Desk") -> ReadyView:
    view = ReadyView(
        status="ready",
        database=desk.database.dialect,
        schema=None,
        journal=None,
        log=None,
        verification=None,
        mail=[],
        warnings=[],
    )
    if not desk.ready:
        view["status"] = "shutting_down"  # and its connections are closed
    else:
        await look_at_database(desk, view)
    if (verified := last_result(desk.settings)) is not None:
        view["verification"] = cast("VerificationView", verified)  # is encoded as it stands
        if not verified.ok:
            view["warnings"].append(f"the verification of {verified.at} found something wrong: {verified.first}")
    for one in desk.receiving.states if desk.receiving else ():
        view["mail"].append({"name": one.name, "received_at": one.received_at, "problem": one.problem})
        if one.problem not in (None, *STANDING_BY):
            view["warnings"].append(f"no mail is received from {one.name}: {one.problem}")
    if desk.database.dialect == "sqlite":
        view["journal"] = JOURNAL_MODE
        if not WAL_IS_SAFE:
            view["warnings"].append(f"SQLite {driver.sqlite_version} can corrupt WAL databases; {JOURNAL_MODE} is used")
    return view


async def look_at_database(desk: "Desk", view: ReadyView) -> None:
    try:
        view["schema"] = await desk.database.revision()
        view["warnings"] = [*await desk.self_check(), *desk.sequencer.faults.values()]
        if view["schema"] == schema.HEAD:
            view["log"] = LogView(waiting=await desk.sequencer.lag(), checkpoint=await newest_checkpoint(desk))
    except (OSError, SQLAlchemyError, Unavailable) as failure:
        log.warning("not_ready", failure=type(failure).__name__)
        view["status"] = "database_unreachable"
    else:
        if view["schema"] != schema.HEAD:
            view["status"] = "schema_differs"


async def newest_checkpoint(desk: "Desk") -> CheckpointView | None:
    signed = await checkpoints.newest(desk.database)
    return CheckpointView(origin=signed.origin, size=signed.size, root=signed.root, at=signed.at) if signed else None


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    desk: Desk = request.app.state.desk
    with suppress(OSError, SQLAlchemyError, Unavailable):  # then it says what was so before
        WAITING.set(await desk.sequencer.lag())
    if (verified := last_result(desk.settings)) is not None:
        VERIFIED_AT.set(datetime.fromisoformat(verified.at).timestamp())
        VERIFIED_FAULTS.set(verified.faults or int(not verified.ok))
    registry: Any = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # several workers answer for one service
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
