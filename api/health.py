"""Is it alive, is it ready, how is it doing."""

import os
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response
from typing_extensions import TypedDict

from api.errors import RETRY_SECONDS
from api.routing import Answer
from storage import schema
from storage.sqlite import JOURNAL_MODE, WAL_IS_SAFE, driver

if TYPE_CHECKING:
    from api.desk import Desk

log = structlog.get_logger()
router = APIRouter(tags=["health"])


class HealthView(TypedDict):
    status: str


class ReadyView(TypedDict):
    status: str
    database: str
    schema: str | None
    journal: str | None
    warnings: list[str]


@router.get("/healthz", response_model=HealthView)
async def healthz() -> Response:
    """The process answers."""
    return Answer(HealthView(status="alive"))


@router.get("/readyz", response_model=ReadyView, responses={503: {"model": ReadyView, "description": "not ready"}})
async def readyz(request: Request) -> Response:
    """The database can be reached and has this release's schema; and what an operator should know besides."""
    desk: Desk = request.app.state.desk
    view = ReadyView(status="ready", database=desk.database.dialect, schema=None, journal=None, warnings=[])
    if not desk.ready:
        view["status"] = "shutting_down"  # and its connections are closed
    else:
        await look_at_database(desk, view)
    if desk.database.dialect == "sqlite":
        view["journal"] = JOURNAL_MODE
        if not WAL_IS_SAFE:
            view["warnings"].append(f"SQLite {driver.sqlite_version} can corrupt WAL databases; {JOURNAL_MODE} is used")
    if view["status"] == "ready":
        return Answer(view)
    return Answer(view, 503, {"retry-after": str(RETRY_SECONDS)})


async def look_at_database(desk: "Desk", view: ReadyView) -> None:
    try:
        view["schema"] = await desk.database.revision()
        view["warnings"] = list(await desk.self_check())
    except (OSError, SQLAlchemyError) as failure:
        log.warning("not_ready", failure=type(failure).__name__)
        view["status"] = "database_unreachable"
    else:
        if view["schema"] != schema.HEAD:
            view["status"] = "schema_differs"


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics() -> Response:
    """For Prometheus."""
    registry: Any = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # several workers answer for one service
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
