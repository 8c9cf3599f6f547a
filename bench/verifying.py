"""How fast a log is verified, and in how much memory: `python -m bench.verifying [--events N]`, on SQLite.

The log is made up at full speed: one story that the rules allow is decided once, and its events are sealed again for
every case. Its rows are inserted past the ledger, with the triggers taken down meanwhile; what is measured is a desk
in which everything is in place again, read by a process of its own.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection

from storage import defences
from storage.batch import CASE_COLUMNS, case_row
from storage.database import open_database
from storage.desk import ensure_desk
from storage.sealing import EVENT_COLUMNS, Circumstances, seal
from storage.sqlite import connect
from storage.sqlite_writer import insert
from storage.verify import PURCHASE_COLUMNS, purchase_row, verify
from tests.workflow.builders import (
    ANA,
    CLEO,
    DIRK,
    Desk,
    a_desk,
    a_letter,
    begins,
    closing,
    euros,
    from_the_client,
    refunds,
)
from workflow import commands as c
from workflow.cases import Case, chain_of
from workflow.events import Draft, Opened, PurchaseChanged, Recorded, VerdictGiven
from workflow.replaying import evolve
from workflow.states import CaseState, Resolution

SIZES = (10_000, 100_000, 1_000_000)
AT_ONCE = 1000  # cases that are worked on side by side, so that a chain is not written in one piece
START = datetime(2026, 3, 5, 12, tzinfo=UTC)
TEXT = "We have compared the invoice with what was delivered, and found that the second banner never ran. " * 3


def a_story() -> list[Recorded]:
    """A refund from the first letter to the last: 21 events."""
    desk: Desk = a_desk()
    desk.do(ANA, a_letter())
    desk.do(ANA, from_the_client())
    desk.do(ANA, c.AddNote(text="called the agency"))
    desk.do(ANA, a_letter(awaits_reply=True))
    desk.do(ANA, from_the_client())
    proposal = desk.approve(desk.propose(euros("300.00")), CLEO)
    desk.do(DIRK, begins(proposal))
    desk.do(DIRK, refunds(proposal))
    desk.do(ANA, a_letter())
    desk.do(ANA, from_the_client())
    desk.do(ANA, a_letter())
    desk.do(ANA, closing(Resolution.REMEDY_ACCEPTED))
    return desk.histories["A"]


def made_up(story: list[Recorded], number: int, log: str) -> Iterator[tuple[Case, Any, Any]]:
    """The same story told of another case, event by event: the case so far, the event's row, its texts' rows."""
    case_id, case, digest = str(uuid.uuid4()), None, ""
    for hours, told in enumerate(story):
        data = told.data
        if isinstance(data, Opened):
            data = replace(data, number=number, mail_tag=f"{number:08}")
        elif isinstance(data, PurchaseChanged):
            data = replace(data, purchase=replace(data.purchase, reference=f"D-{number}"))
        elif isinstance(data, VerdictGiven):
            data = replace(data, digest=digest)
        draft = Draft(
            data=data,
            personal=dict.fromkeys(told.event.personal, TEXT),
            trigger=told.event.trigger,
            state_after=CaseState(told.event.state_after),
            guards=told.event.guards,
        )
        at = START + timedelta(hours=hours, microseconds=number)
        circumstances = Circumstances(
            log=log, policy=1, at=at, actor=told.event.actor, via="api", request=str(uuid.uuid4())
        )
        place = (case.version + 1, case.head, case.state.value) if case else (1, None, None)
        sealed = seal(draft, circumstances, chain_of(case_id), *place)
        case, digest = evolve(case, sealed.recorded), sealed.recorded.hash
        yield case, sealed.event, sealed.personal


async def make_desk(path: Path, events: int) -> None:
    database = open_database(f"sqlite:///{path}")
    await database.upgrade()
    await database.run(lambda connection: ensure_desk(connection, "UTC", START - timedelta(days=365)))
    story = a_story()
    connection = connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    for trigger in defences.SQLITE_TRIGGERS:
        connection.execute(f"DROP TRIGGER {trigger.name}")
    ((log,),) = connection.execute("SELECT log FROM desk").fetchall()
    for first in range(1001, 1001 + events // len(story), AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, 1001 + events // len(story)))
        connection.execute("BEGIN")
        for steps in zip(*(made_up(story, number, log) for number in numbers), strict=True):
            connection.executemany(insert("events", EVENT_COLUMNS), [event for _, event, _ in steps])
            texts = [row for _, _, personal in steps for row in personal]
            connection.executemany(insert("personal", ("chain", "seq", "field", "salt", "value")), texts)
        cases = [case for case, _, _ in steps]
        connection.executemany(
            insert("purchases", PURCHASE_COLUMNS), [purchase_row(case.purchase) for case in cases if case.purchase]
        )
        connection.executemany(insert("cases", CASE_COLUMNS), [case_row(case) for case in cases])
        connection.execute("COMMIT")
    connection.execute(
        "INSERT INTO positions SELECT id, id FROM events WHERE id > (SELECT max(position) FROM positions)"
    )
    connection.close()
    await database.run(install_defences)


def install_defences(connection: Connection) -> None:
    with connection.begin():
        defences.install(connection)


async def measure(path: Path) -> dict[str, float]:
    cpu = time.process_time()
    report = await verify(open_database(f"sqlite:///{path}"))
    assert not report.fault_count, report.faults
    return {
        "events": report.counts["events"],
        "texts": report.counts["texts"],
        "chains": report.chain_seconds,
        "with texts": report.chain_seconds + report.text_seconds,
        "all": report.seconds,
        "cpu": time.process_time() - cpu,
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, help="one log of this size")
    parser.add_argument("--of", type=Path, help=argparse.SUPPRESS)  # what this program calls itself for
    chosen = parser.parse_args()
    if chosen.of:
        print(json.dumps(asyncio.run(measure(chosen.of))))
        return
    print(f"{'events':>10}{'events/s':>12}{'with texts':>12}{'with all':>12}{'peak MB':>10}")
    for size in [chosen.events] if chosen.events else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "casework.db")
            asyncio.run(make_desk(path, size))
            command = [sys.executable, "-m", "bench.verifying", "--of", str(path)]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        rates = "".join(f"{found['events'] / found[part]:12,.0f}" for part in ("chains", "with texts", "all"))
        print(f"{found['events']:10,.0f}{rates}{found['MB']:10.1f}", flush=True)


if __name__ == "__main__":
    main()
