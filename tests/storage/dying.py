"""A process that dies just before a given step of its work: a statement, a commit, or anything done to a file."""

import asyncio
import multiprocessing
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from storage import keys
from storage.database import Database, open_database, utc_now
from storage.keys import KeyFolder, log_of
from storage.sequencer import Sequencer
from storage.sqlite_writer import SqliteWriter

KILLED = 9
WRITING = os.O_WRONLY | os.O_RDWR

# Forked from one that has imported what takes so long.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["__main__", __name__])


async def settle(database: Database, folder: Path) -> None:
    await Sequencer(database, KeyFolder(folder, await log_of(database))).settle()


async def settle_beside_a_ledger(database: Database, folder: Path) -> None:
    """As a service does, which on SQLite has one connection for all that it writes."""
    writer = database.writer()
    await writer.open()
    await settle(database, folder)
    await writer.close()


async def make_key(database: Database, folder: Path) -> None:
    await keys.ensure_key(database, folder, utc_now())


async def rotate(database: Database, folder: Path) -> None:
    await keys.rotate(database, folder, utc_now())


async def adopt(database: Database, folder: Path) -> None:
    await keys.adopt(database, folder, utc_now())


Work = Callable[[Database, Path], Awaitable[None]]


def dies(work: Work, url: str, folder: Path, step: int) -> str:
    """What the process was about to do as its `step`th when it died; empty if it did all it had to with fewer."""
    last_words = folder.with_name("last_words")
    last_words.write_text("")
    process = FORKS.Process(target=work_until, args=(work, url, folder, step, str(last_words)))
    process.start()
    process.join()
    assert process.exitcode in {0, KILLED}
    return last_words.read_text() if process.exitcode else ""


def work_until(work: Work, url: str, folder: Path, last: int, last_words: str) -> None:
    steps = 0
    words = os.open(last_words, os.O_WRONLY)

    def count(what: str) -> None:
        nonlocal steps
        steps += 1
        if steps == last:
            os.write(words, what.encode())
            os._exit(KILLED)

    def file_step(what: str, arguments: tuple[Any, ...]) -> None:
        if any(isinstance(one, str) and one.startswith(str(folder)) for one in arguments):
            count(words_for(what, arguments))

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:  # where Python itself tells nobody
        def after_counting(*arguments: Any) -> Any:
            count(work.__name__)
            return work(*arguments)

        return after_counting

    async def commit(writer: SqliteWriter) -> None:
        count("COMMIT")
        await make_durable(writer)

    os.fdopen, os.fsync = counted(os.fdopen), counted(os.fsync)
    make_durable, SqliteWriter.make_durable = SqliteWriter.make_durable, commit  # type: ignore[assignment, method-assign]
    sys.addaudithook(file_step)
    event.listen(Engine, "before_cursor_execute", lambda *arguments: count(" ".join(arguments[2].split())))
    event.listen(Engine, "commit", lambda _: count("COMMIT"))

    async def run() -> None:
        database = open_database(url)
        await work(database, folder)
        await database.close()

    asyncio.run(run())


def words_for(what: str, arguments: tuple[Any, ...]) -> str:
    """Such as `write .key`."""
    if what == "open":
        _, _, flags = arguments
        what = "write" if flags & WRITING else "read"
    return f"{what.removeprefix('os.')} {Path(arguments[0]).suffix or 'folder'}"
