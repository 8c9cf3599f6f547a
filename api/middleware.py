"""What every request gets: an id, a record in the log, a place in the metrics, and an answer even to a bug."""

import os
import time

import msgspec
import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import MEDIA_TYPE, problem_of

log = structlog.get_logger("request")

REQUESTS = Counter("casework_requests_total", "Requests by route and status", ["method", "route", "status"])
SECONDS = Histogram(
    "casework_request_seconds",
    "Time to answer, by route",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


class Requests:
    """Pure ASGI: a few microseconds a request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.counters: dict[tuple[str, str, int], Counter] = {}
        self.timers: dict[str, Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = os.urandom(16).hex()
        scope["request_id"] = request_id
        began = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                said = {name for name, _ in message["headers"]}
                safe = [one for one in SAFE_HEADERS if one[0] not in said]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), *safe]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as bug:
            log.exception("request_failed", request_id=request_id, method=scope["method"], route=route_of(scope))
            if status == 0:
                await answer_bug(bug, request_id, send_with_id)
        finally:
            self.record(scope, status, time.perf_counter() - began, request_id)

    def record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        method, route = scope["method"], route_of(scope)
        key = (method, route, status)
        counter = self.counters.get(key)
        if counter is None:
            counter = self.counters[key] = REQUESTS.labels(method, route, status)
            self.timers[route] = SECONDS.labels(route)
        counter.inc()
        self.timers[route].observe(seconds)
        # The route, not the path: identifiers are in the audit log, and query strings hold what people search for.
        log.info(
            "request",
            request_id=request_id,
            method=method,
            route=route,
            status=status,
            ms=round(seconds * 1000, 2),
            actor=scope.get("actor"),
        )


def route_of(scope: Scope) -> str:
    """The route's template; paths that nobody declared count together."""
    route = scope.get("route")
    return getattr(route, "path", "unknown")


async def answer_bug(bug: Exception, request_id: str, send: Send) -> None:
    """Nothing of the failure itself: it may hold what nobody should read."""
    body, _ = problem_of(bug, request_id)
    headers = [(b"content-type", MEDIA_TYPE.encode())]
    await send({"type": "http.response.start", "status": body["status"], "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(body)})
