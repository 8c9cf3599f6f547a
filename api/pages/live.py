"""The streams that keep open pages up to date: server-sent events, one stream per page that can be seen."""

import asyncio
from contextlib import aclosing
from http import HTTPStatus

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.errors import HttpProblem
from api.live import LIST, TooMany, Watcher
from api.pages.routing import EVENT_STREAM, PageCall, Pages
from storage import cases
from workflow.cases import chain_of
from workflow.errors import NotFound, bad_field
from workflow.roles import READERS

log = structlog.get_logger()
pages = Pages()

# A connection that takes nothing for so long is closed: the browser makes another, and goes on from what it had.
STUCK_SECONDS = 30.0
MAX_DIGITS = 15


@pages.get("/live", READERS)
async def live(call: PageCall) -> Response:
    """Of `case`, by its id or number, and of the `list` of all cases: what changes from now on, or after `since`."""
    asked = call.request.query_params
    topics = {LIST} if "list" in asked else set()
    if (name := asked.get("case")) is not None:
        case_id = await cases.find(call.desk.database, name.replace("\x00", ""))
        if case_id is None:
            raise NotFound("case")
        topics.add(chain_of(case_id))
    if not topics:
        raise bad_field("case", "say what to watch: a case, or the list")
    since = position(call.request.headers.get("last-event-id")) or position(asked.get("since"))
    try:
        watcher = await call.desk.live.watch(call.person, str(call.caller.token), topics, since)
    except TooMany as many:
        headers = {"retry-after": "60"}
        raise HttpProblem(HTTPStatus.TOO_MANY_REQUESTS, "too_many_streams", str(many), headers) from many
    return EventStream(watcher)


def position(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


class EventStream(Response):
    """Ends with the watcher, when the browser goes away, and when it takes nothing any more."""

    def __init__(self, watcher: Watcher) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}  # nor may a proxy keep anything back
        super().__init__(None, 200, headers, EVENT_STREAM)
        del self.headers["content-length"]
        self.watcher = watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (connection := scope.get("connection")) is not None:
            connection.stream = self.watcher
        hearing = asyncio.create_task(self.until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with aclosing(self.watcher.messages()) as messages:
                async for said in messages:
                    async with asyncio.timeout(STUCK_SECONDS):
                        await send({"type": "http.response.body", "body": said, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            log.info("stream_stuck", request_id=scope["request_id"])
            if connection is not None:
                connection.drop()
                await hearing
        finally:
            self.watcher.live.leave(self.watcher)
            hearing.cancel()

    async def until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.watcher.end()
