"""How fast a log is verified, and in how much memory: `python -m bench.verifying [--events N]`, on SQLite.

The log is made up at full speed: a few stories are decided once, by the rules, and their events sealed again for every
case. Its rows are inserted past the ledger, with the triggers taken down meanwhile; what is measured is a desk
in which everything is in place again, read by a process of its own.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection

from api.desk import new_case_id
from bench.memory import peak_mb
from storage import defences
from storage.batch import CASE_COLUMNS, case_row
from storage.database import open_database
from storage.desk import ensure_desk
from storage.sealing import EVENT_COLUMNS, Circumstances, seal
from storage.sqlite import connect
from storage.sqlite_writer import insert
from storage.submissions import Row
from storage.verify import BOOKING_COLUMNS, PURCHASE_COLUMNS, booking_row, purchase_row, verify
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
    firing,
    from_the_client,
    refunds,
)
from workflow import commands as c
from workflow.cases import Case, chain_of
from workflow.events import Draft, Opened, PurchaseChanged, Recorded, VerdictGiven
from workflow.replaying import evolve
from workflow.states import CaseState, Resolution, Trigger

SIZES = (10_000, 100_000, 1_000_000)
AT_ONCE = 1000  # cases that are worked on side by side, so that a chain is not written in one piece
START = datetime(2026, 3, 5, 12, tzinfo=UTC)
TEXT = "We have compared the invoice with what was delivered, and found that the second banner never ran. " * 3


def stories() -> list[list[Recorded]]:
    """Of four cases with 20 events on average one ends with a refund, one with a consultation, two with an answer."""
    refunded = a_desk()
    converse(refunded, 2)
    proposal = refunded.approve(refunded.propose(euros("300.00")), CLEO)
    refunded.do(DIRK, begins(proposal))
    refunded.do(DIRK, refunds(proposal))
    refunded.do(ANA, a_letter())
    refunded.do(ANA, closing(Resolution.REMEDY_ACCEPTED))
    consulted = a_desk()
    converse(consulted, 4)
    consulted.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION))
    consulted.do(ANA, closing(Resolution.REMEDY_ACCEPTED))
    answered = Desk()
    answered.open()
    answered.investigate()
    converse(answered, 5)
    answered.do(ANA, closing(Resolution.EXPLAINED))
    return [desk.histories["A"] for desk in (refunded, answered, consulted, answered)]


def converse(desk: Desk, times: int) -> None:
    for _ in range(times):
        desk.do(ANA, a_letter())
        desk.do(ANA, from_the_client())
        desk.do(ANA, c.AddNote(text="looked into the account"))
    desk.do(ANA, a_letter(awaits_reply=True))


def made_up(story: list[Recorded], number: int, log: str) -> Iterator[tuple[Case, Row, tuple[Row, ...]]]:
    """A story told of another case, event by event: the case so far, the event's row, its texts' rows."""
    opened_at = START + timedelta(minutes=number)
    case_id, case, digest = new_case_id(opened_at), None, ""
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
            trigger=Trigger(told.event.trigger) if told.event.trigger else None,
            state_after=CaseState(str(told.event.state_after)),
            guards=told.event.guards,
        )
        circumstances = Circumstances(
            log=log,
            policy=1,
            at=opened_at + timedelta(hours=hours),
            actor=told.event.actor,
            via="api",
            request=str(uuid.uuid4()),
        )
        place = (case.version + 1, case.head, case.state.value) if case else (1, None, None)
        sealed = seal(draft, circumstances, chain_of(case_id), *place)
        case, digest = evolve(case, sealed.recorded), sealed.recorded.hash
        yield case, sealed.event, sealed.personal


async def make_desk(path: Path, events: int) -> None:
    database = open_database(f"sqlite:///{path}")
    await database.upgrade()
    await database.run(lambda connection: ensure_desk(connection, "UTC", START - timedelta(days=365)))
    connection = connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    for trigger in defences.SQLITE_TRIGGERS:
        connection.execute(f"DROP TRIGGER {trigger.name}")
    ((log,),) = connection.execute("SELECT log FROM desk").fetchall()
    told = stories()
    numbers = range(1001, 1001 + events * len(told) // sum(map(len, told)))
    for first in numbers[::AT_ONCE]:
        together = range(first, min(first + AT_ONCE, numbers.stop))
        connection.execute("BEGIN")
        last: dict[int, Case] = {}
        for step in zip_longest(*(made_up(told[number % len(told)], number, log) for number in together)):
            there = [one for one in step if one is not None]
            last.update((case.number, case) for case, _, _ in there)
            connection.executemany(insert("events", EVENT_COLUMNS), [event for _, event, _ in there])
            texts = [row for _, _, personal in there for row in personal]
            connection.executemany(insert("personal", ("chain", "seq", "field", "salt", "value")), texts)
        write_rows(connection, list(last.values()))
        connection.execute("COMMIT")
    connection.execute(
        "INSERT INTO positions SELECT id, id FROM events WHERE id > (SELECT max(position) FROM positions)"
    )
    connection.close()
    await database.run(install_defences)


def write_rows(connection: Any, cases: list[Case]) -> None:
    purchases = [purchase_row(case.purchase) for case in cases if case.purchase]
    bookings = [row for case in cases if (row := booking_row(case)) is not None]
    connection.executemany(insert("purchases", PURCHASE_COLUMNS), purchases)
    connection.executemany(insert("consultations", BOOKING_COLUMNS), bookings)
    connection.executemany(insert("cases", CASE_COLUMNS), [case_row(case) for case in cases])


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
        "MB": peak_mb(),
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
