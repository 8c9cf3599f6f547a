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


# Whoever has the link to a case: it is their way in and the page itself.
CLIENT = "client"
CLIENTS_CASE = "C-1019"


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
    Picture("client-phone", CLIENT, "/", is_phone=True),
)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        database = f"sqlite:///{home}/casework.db"
        said = casework("demo", url=database).stdout
        links = dict(re.findall(r"(\w+) +http://\S+?(/sign-in/\S+)", said))
        links[CLIENT] = "/c/" + casework("client-link", CLIENTS_CASE, url=database).stdout.strip().rpartition("/")[2]
        with serving(url=database) as served:
            asyncio.run(take(served.url, links, folder))


async def take(url: str, links: dict[str, str], folder: Path) -> None:
    async with async_playwright() as playwright:
        browser = await start_browser(playwright)
        people = {one.who for one in PICTURES} - {CLIENT}
        sessions = {who: await session_of(browser, url + links[who]) for who in people}
        for picture in PICTURES:
            page = await browser.new_page(
                base_url=url,
                storage_state=sessions.get(picture.who),
                viewport=PHONE if picture.is_phone else DESKTOP,
                color_scheme="dark" if picture.is_dark else "light",
            )
            answer = await page.goto(links[CLIENT] if picture.who == CLIENT else picture.path)
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
