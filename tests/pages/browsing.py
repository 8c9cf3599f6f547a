"""The desk in a real browser: served, its people signed in, and its pages watched for what they must not do."""

import asyncio
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, Playwright, Request, ViewportSize
from uvicorn import Config, Server

from api.connections import Connection
from storage import people
from tests.api.driving import Service
from workflow.people import SignIn

NAMES = ("chromium", "chromium-browser", "google-chrome")
# It runs as root on a machine without a network, and looks for nobody.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PATIENCE_MS = 15_000  # of a machine that is busy with other tests


async def start_browser(playwright: Playwright) -> Browser:
    """Chromium as the system has it. Skips the test without one, unless CI has to have it."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no Chromium")
        pytest.skip("there is no Chromium on the PATH")
    return await playwright.chromium.launch(executable_path=program, args=FLAGS)


def session_of(name: str) -> str:
    """The secret in the cookie of somebody who is signed in."""
    return f"session-of-{name}-0123456789abcdefghijklmnop"


async def sign_in(service: Service, name: str) -> str:
    """A session for somebody of STAFF, by its cookie's secret."""
    secret = session_of(name)
    if await people.by_token(service.desk.database, people.secret_hash(secret)) is None:
        command = SignIn(
            person_id=name,
            session_id=f"session-{name}",
            secret_hash=people.secret_hash(secret),
            expires_at=service.clock() + timedelta(hours=12),
        )
        await service.desk.submit_as_system("sign-in", command, via="page")
    return secret


class Site:
    """A service on a port of its own, and whatever its pages have done that no page may do."""

    def __init__(self, service: Service, browser: Browser) -> None:
        self.service = service
        self.browser = browser
        self.faults: list[str] = []
        self.allowed: list[str] = []
        self.elsewhere: list[str] = []  # where a test sends its browsers, besides the desk
        self.url = ""

    async def visit(self, name: str | None = None, **options: Any) -> Page:
        """A new browser, signed in as somebody of STAFF, or not at all."""
        context = await self.browser.new_context(base_url=self.url, **({"viewport": DESKTOP} | options))
        context.set_default_timeout(PATIENCE_MS)
        if name is not None:
            secret = await sign_in(self.service, name)
            await context.add_cookies([{"name": "casework", "value": secret, "url": self.url}])
        page = await context.new_page()
        page.on("console", self.hear)
        page.on("pageerror", lambda error: self.faults.append(f"script error: {error}"))
        page.on("request", self.watch)
        return page

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not any(re.search(one, message.text) for one in self.allowed):
            self.faults.append(f"console: {message.text}")

    def watch(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", "blob:", *self.elsewhere)):
            self.faults.append(f"a request left the desk: {request.url}")

    def allow(self, pattern: str) -> None:
        """Chromium tells on its console that an answer was a refusal; where that is what a test is about."""
        self.allowed.append(pattern)


@asynccontextmanager
async def a_site(service: Service, browser: Browser) -> AsyncIterator[Site]:
    site = Site(service, browser)
    listening = socket.create_server(("127.0.0.1", 0))
    site.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = Server(Config(service.app, http=Connection, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield site
    finally:
        for context in browser.contexts:
            await context.close()
        server.should_exit = True
        await serving
    assert not site.faults, "\n".join(site.faults)


async def look_away(page: Page, *, hidden: bool) -> None:
    """A page that cannot be seen is not brought up to date: nothing moves while something in it is clicked."""
    await page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def require_accessible(page: Page) -> None:
    """By the rules of axe-core for WCAG 2.2 AA."""
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    results = await Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}, "resultTypes": ["violations"]})
    assert results.violations_count == 0, results.generate_report()


async def require_tidy(page: Page) -> None:
    """Nothing is wider than the window, at whatever width it has."""
    wide, width = await page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= width, f"{page.url} is {wide} pixels wide in a window of {width}"


async def picture(page: Page, name: str) -> None:
    """Kept where PICTURES names a folder, to be looked at."""
    if folder := os.environ.get("PICTURES"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
