"""Pictures of the pages for README, taken from the running demonstration desk: `make screenshots`."""

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from playwright.async_api import Browser, StorageState, async_playwright

from tests.pages.browsing import DESKTOP, PHONE, start_browser
from tests.processes import casework, serving

FOLDER = Path(__file__).parents[2] / "docs" / "pages"


class Picture(NamedTuple):
    name: str
    who: str
    path: str
    is_phone: bool = False
    is_dark: bool = False


PICTURES = (
    Picture("queue", "Ana", "/queue?tab=all"),
    Picture("board", "Ana", "/board"),
    Picture("case", "Ana", "/cases/C-1019"),
    Picture("case-phone", "Ana", "/cases/C-1019", is_phone=True),
    Picture("approvals", "Cleo", "/approvals"),
    Picture("insights", "Lou", "/insights"),
    Picture("replay", "Audrey", "/audit-desk/cases/C-1004?at=9"),
    Picture("replay-dark", "Audrey", "/audit-desk/cases/C-1004?at=9", is_dark=True),
)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        database = f"sqlite:///{home}/casework.db"
        said = casework("demo", url=database).stdout
        with serving(url=database) as served:
            asyncio.run(take(served.url, dict(re.findall(r"(\w+) +http://\S+?(/sign-in/\S+)", said)), folder))


async def take(url: str, links: dict[str, str], folder: Path) -> None:
    async with async_playwright() as playwright:
        browser = await start_browser(playwright)
        sessions = {who: await session_of(browser, url + links[who]) for who in {one.who for one in PICTURES}}
        for picture in PICTURES:
            page = await browser.new_page(
                base_url=url,
                storage_state=sessions[picture.who],
                viewport=PHONE if picture.is_phone else DESKTOP,
                color_scheme="dark" if picture.is_dark else "light",
            )
            answer = await page.goto(picture.path)
            if answer is None or not answer.ok:
                raise SystemExit(f"{picture.path} cannot be shown to {picture.who}")
            await page.screenshot(path=folder / f"{picture.name}.png")
            await page.close()
        await browser.close()


async def session_of(browser: Browser, link: str) -> StorageState:
    """Links are good once."""
    page = await browser.new_page()
    await page.goto(link)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/queue*")
    state = await page.context.storage_state()
    await page.close()
    return state


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
