"""The HTTP service: one app over one desk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api import (
    attachments,
    audit,
    auditing,
    bundles,
    cases,
    client_links,
    cuts,
    deliveries,
    erasures,
    exports,
    feed,
    findings,
    health,
    lifecycle,
    payment_hooks,
    people,
    policy,
    reports,
    reviewing,
    samples,
    webhooks,
)
from api.channels import Channels, leave_alone_what_stays
from api.desk import Desk
from api.errors import CODES, REQUEST_CODES, HttpProblem, Problem, respond
from api.letters import routes as letters
from api.middleware import Requests
from api.pages import PAGES
from api.pages.routing import Pages
from api.routing import DeskRoute, DirectRoutes
from api.settings import Settings
from storage.database import open_database

VERSION = "0.3.0"

ROUTERS: tuple[APIRouter | Pages, ...] = (
    cases.router,
    client_links.router,
    letters.router,
    attachments.router,
    bundles.router,
    exports.router,
    erasures.router,
    deliveries.router,
    reviewing.router,
    cuts.router,
    lifecycle.path_router,
    feed.router,
    audit.router,
    auditing.router,
    samples.router,
    findings.router,
    reports.router,
    policy.router,
    payment_hooks.router,
    lifecycle.lifecycle_router,
    people.router,
    webhooks.router,
    health.router,
    *PAGES,
)


def create_app(settings: Settings, desk: Desk | None = None) -> "CaseworkApp":
    """The service; `desk` is opened and closed with it. The database has to be migrated."""
    desk = desk or Desk(settings, open_database(settings.database_url))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await desk.open()
        leave_alone_what_stays()
        channels = Channels(desk) if settings.work_inside else None
        if channels:
            channels.open()
        try:
            yield
        finally:
            if channels:
                await channels.close()
            await desk.close()

    app = CaseworkApp(
        title="Casework", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.state.desk = desk
    app.add_exception_handler(HTTPException, unknown_route)
    for router in ROUTERS:
        app.take(router)
    return app


async def unknown_route(request: Request, failure: Exception) -> Response:
    if not isinstance(failure, HTTPException):
        raise failure
    headers = {name.lower(): value for name, value in (failure.headers or {}).items()}
    if failure.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework names the methods of the first route with this path; there may be more with it.
        headers["allow"] = ", ".join(sorted(methods_at(request.url.path)))
    code = REQUEST_CODES[failure.status_code]
    return respond(HttpProblem(failure.status_code, code, str(failure.detail), headers), request)


def methods_at(path: str) -> set[str]:
    routes: list[Any] = [route for router in ROUTERS for route in router.routes]
    return set().union(*(one.methods for one in routes if one.path_regex.match(path))) or {"GET", "HEAD"}


def documented_routes() -> list[APIRoute]:
    """Those of the API, with all that FastAPI knows of them."""
    routes = [one for router in ROUTERS for one in router.routes if isinstance(one, APIRoute)]
    return [one.documented() if isinstance(one, DeskRoute) else one for one in routes]


class CaseworkApp(FastAPI):
    """FastAPI for what is declared and documented; the desk's own routes are reached without its detours."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.direct = DirectRoutes(super().__call__, self)
        self.front = Requests(self.direct)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.front if scope["type"] == "http" else super().__call__)(scope, receive, send)

    def take(self, router: APIRouter | Pages) -> None:
        """As `include_router`, for routers that say all there is to say themselves: one list of routes, no nesting."""
        self.router.routes.extend(router.routes)
        self.direct.add(router.routes)

    def openapi(self) -> dict[str, Any]:
        """FastAPI's document, with the one shape of all errors and without its own validation errors."""
        if self.openapi_schema is None:
            document = get_openapi(title=self.title, version=self.version, routes=documented_routes())
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            shape = TypeAdapter(Problem).json_schema(ref_template="#/components/schemas/{model}")
            schemas |= shape.pop("$defs", {})
            shape["properties"]["code"]["enum"] = sorted(CODES)
            schemas["Problem"] = shape
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            for path in document["paths"].values():
                for operation in path.values():
                    responses = operation.get("responses", {})
                    if "HTTPValidationError" in str(responses.get("422")):
                        del responses["422"]
            self.openapi_schema = document
        return self.openapi_schema
