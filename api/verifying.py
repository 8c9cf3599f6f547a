"""Verification on schedule, beside a service that serves: in a process of its own, which gives way to everything.

Its last result lies in a file beside the signing key: outside the database that it is about, and where every worker
of the service, and the service after a restart, finds it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import msgspec
import structlog
from sqlalchemy import make_url

from api.settings import Settings
from storage.verify import Report
from workflow.events import at_text

log = structlog.get_logger()

COMMAND = (sys.executable, "-m", "api.cli", "verify", "--json")
LAST_PRIORITY = 19  # of POSIX: whatever else wants the processor has it first
STOP_SECONDS = 5


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found; `first` says what is wrong, or why nobody knows."""

    at: str
    ok: bool
    seconds: float
    events: int = 0
    faults: int = 0
    first: str | None = None


def last_result(settings: Settings) -> Verified | None:
    """None while there has been none, or none is to be made."""
    if settings.verify_every is None:
        return None
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(result_file(settings).read_bytes(), type=Verified)
    return None


def result_file(settings: Settings) -> Path:
    """Named after the database, since several may have their keys in one folder."""
    return settings.keys_in / f"{Path(make_url(settings.database_url).database or 'casework').name}.verification"


@contextmanager
def scheduled(settings: Settings) -> Iterator[None]:
    """While the service serves, verify as often as the settings say; the first time at once, unless that was lately."""
    if settings.verify_every is None:
        yield
        return
    schedule = Schedule(settings, timedelta(hours=settings.verify_every))
    schedule.start()
    try:
        yield
    finally:
        schedule.stop()


class Schedule:
    """A thread that does nothing but wait: for the next time, or for the process that verifies."""

    def __init__(self, settings: Settings, every: timedelta) -> None:
        self.settings = settings
        self.every = every
        self.last = last_result(settings)
        self.stopping = Event()
        self.child: subprocess.Popen[bytes] | None = None
        self.thread = Thread(target=self.run, name="verification", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
        self.thread.join(STOP_SECONDS)

    def run(self) -> None:
        while not self.stopping.wait(self.pause()):
            result = self.verify()
            if self.stopping.is_set():
                return  # what was cut off says nothing
            (log.info if result.ok else log.error)("verified", **msgspec.to_builtins(result))
            self.last = result
            keep(result_file(self.settings), result)

    def pause(self) -> float:
        """Seconds until the next time."""
        if self.last is None:
            return 0
        return max(0, (datetime.fromisoformat(self.last.at) + self.every - datetime.now(UTC)).total_seconds())

    def verify(self) -> Verified:
        at, began = at_text(datetime.now(UTC)), time.monotonic()
        self.child = subprocess.Popen(  # noqa: S603 - our own command
            COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        if hasattr(os, "setpriority"):
            with suppress(OSError):  # it is over already
                os.setpriority(os.PRIO_PROCESS, self.child.pid, LAST_PRIORITY)
        said, complaint = self.child.communicate()
        return verdict(at, time.monotonic() - began, said, complaint)


def verdict(at: str, seconds: float, said: bytes, complaint: bytes) -> Verified:
    try:
        report = msgspec.json.decode(said, type=Report)
    except msgspec.MsgspecError:
        *_, last = ["nothing was said", *complaint.decode(errors="replace").splitlines()]
        return Verified(at=at, ok=False, seconds=seconds, first=f"it could not be verified: {last}")
    return Verified(
        at=at,
        ok=report.fault_count == 0,
        seconds=seconds,
        events=report.counts["events"],
        faults=report.fault_count,
        first=str(report.first) if report.first else None,
    )


def keep(path: Path, result: Verified) -> None:
    """Whole, or not at all: others read it at any time."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(msgspec.json.encode(result))
        partial.replace(path)
    except OSError as failure:
        log.warning("verification_not_kept", failure=str(failure))
