"""Casework as real processes: one command at a time, or a service that is started, asked and stopped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from sqlalchemy import make_url

from tests import commands

ROOT = commands.ROOT
PROGRAM = (sys.executable, "-m", "api.cli")
SECRET_KEY = "known to the tests and to nobody else"
PATIENCE_SECONDS = 90  # of a machine that is busy with other tests


def environment(url: str, **settings: str) -> dict[str, str]:
    """`settings` are named without their CASEWORK_; none of the surrounding environment's count."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CASEWORK_")}
    settings = {"database_url": url, "secret_key": SECRET_KEY, "key_folder": str(key_folder(url))} | settings
    return kept | {f"CASEWORK_{name.upper()}": value for name, value in settings.items()}


def key_folder(url: str) -> Path:
    """Beside the database; it goes when that goes."""
    target = make_url(url)
    if target.get_backend_name() == "sqlite":
        return Path(str(target.database)).parent
    return Path(str(target.query.get("host", "/nowhere"))).parent / "keys"


def casework(*arguments: str | Path, url: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end; its output is no terminal."""
    return commands.run([*map(str, arguments)], environment(url, **settings), PATIENCE_SECONDS)


class Served:
    """A service that runs by itself. `records` are those of its log, oldest first."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.records: list[dict[str, Any]] = []
        self.heard = Condition()
        self.reader = Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.heard:
                self.records.append(json.loads(line) if line.startswith("{") else {"event": line.rstrip("\n")})
                self.heard.notify_all()
        with self.heard:
            self.heard.notify_all()

    def wait_for(self, what: Callable[[dict[str, Any]], bool], after: int = 0) -> dict[str, Any]:
        """The first record of this kind, not counting the first `after` ones of the log."""

        def found() -> dict[str, Any] | None:
            return next((one for one in self.records[after:] if what(one)), None)

        with self.heard:
            self.heard.wait_for(lambda: found() or not self.reader.is_alive(), PATIENCE_SECONDS)
            record = found()
        assert record is not None, self.records
        return record

    @property
    def url(self) -> str:
        return str(self.wait_for(lambda one: one["event"] == "serving")["url"])

    def stop(self, how: int = signal.SIGTERM) -> int:
        """The exit code, once the service has stopped."""
        self.process.send_signal(how)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(PATIENCE_SECONDS)
        self.reader.join(PATIENCE_SECONDS)
        return code


@contextmanager
def serving(*options: str, url: str, program: tuple[str, ...] = PROGRAM, **settings: str) -> Iterator[Served]:
    """A service on a free port; at the end it is stopped, if it still runs."""
    process = subprocess.Popen(
        [*program, "serve", "--port", "0", *options],
        cwd=ROOT,
        env=environment(url, **settings),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    served = Served(process)
    try:
        yield served
    finally:
        if process.poll() is None:
            served.stop(signal.SIGKILL if "--workers" not in options else signal.SIGTERM)
        served.ended()
        if process.stderr is not None:
            process.stderr.close()
