"""Tests of pages get a service that runs, and a browser to look at it, all in the browser's own event loop."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from argon2 import PasswordHasher
from playwright.async_api import Browser, async_playwright

from api import passwords
from tests.api.driving import Clock, Service, running
from tests.pages.browsing import Site, a_site, start_browser

HERE = Path(__file__).parent


@pytest.fixture
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same hashes of passwords, at costs that are not felt."""
    monkeypatch.setattr(passwords, "hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    passwords.nobodys.cache_clear()
    yield
    passwords.nobodys.cache_clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture
def backend() -> str:
    """Pages ask what the API asks, which is tested on both databases."""
    return "sqlite"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await start_browser(playwright)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def service(desk_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Service]:
    async with running(desk_url, clock, key_folder=tmp_path / "keys") as service:
        yield service


@pytest_asyncio.fixture(loop_scope="session")
async def site(service: Service, browser: Browser) -> AsyncIterator[Site]:
    async with a_site(service, browser) as site:
        yield site
