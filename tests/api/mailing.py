"""Mails, and a desk that takes them: what tests of mail share."""

import json
import random
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import func, select

from api.desk import Desk
from api.mail_intake import Taken, take_in
from api.settings import Settings
from storage import cases
from storage.cases import Filter, Sort
from storage.database import open_database
from storage.desk import ensure_desk
from storage.submissions import Receipt, Submission
from storage.tables import EventRow, OutboxRow, columns
from tests.shared import shared_path
from workflow.cases import Case
from workflow.commands import CloseData, Command, Fire
from workflow.effects import EffectKind
from workflow.events import EventData, MailSetAside, MessageReceived, Opened
from workflow.people import AddPerson
from workflow.roles import Role, system_actor
from workflow.states import Resolution, Trigger

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
LEAD = "lead-1"
OWN_MAILS = Path(__file__).parent / "mails"


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@asynccontextmanager
async def opened_desk(url: str, clock: Clock, **given: Any) -> AsyncIterator[Desk]:
    settings = Settings.model_validate(
        {
            "support_address": "support@step-into.example",
            "mail_host": "mx.step-into.example",
            "smtp_url": "smtp://127.0.0.1:9",  # so that letters are planned; nothing here sends them
            **given,
        }
    )
    database = open_database(url)
    await database.run(partial(ensure_desk, timezone="UTC", now=clock()))
    desk = Desk(settings, database, clock)
    await desk.open()
    yield desk
    await desk.close()


def a_mail(
    sender: str = "Orla Quince <orla@kiosk.example.com>", *, text: str = "The pixel is off.", **fields: str | None
) -> bytes:
    """A letter to the desk; `fields` are header fields by name, with None to leave one out."""
    header = {
        "received": "from kiosk by mx.step-into.example; Mon, 2 Nov 2026 09:00:00 +0000",
        "from": sender,
        "to": "support@step-into.example",
        "subject": "Pixel",
        "message-id": f"<{uuid.uuid4()}@kiosk.example.com>",
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    lines = [f"{name}: {value}" for name, value in header.items() if value is not None]
    return "\r\n".join([*lines, "", text, ""]).encode()


async def deliver(desk: Desk, raw: bytes, *, trust_dates: bool = False) -> Taken:
    return await take_in(desk, raw, arrived_at=desk.clock(), trust_dates=trust_dates)


async def the_case(desk: Desk, taken: Taken) -> Case:
    entry = await cases.one(desk.database, taken.case_id or "")
    assert entry is not None
    return entry.case


async def all_cases(desk: Desk) -> list[Case]:
    return [
        one.entry.case
        for one in await cases.listing(desk.database, Filter(), Sort.OLDEST, now=NOON, after=None, limit=200)
    ]


async def history(desk: Desk, case_id: str) -> list[tuple[EventData, dict[str, str]]]:
    """What happened in a case, each event with its texts by field."""
    texts = await cases.texts_of(desk.database, case_id)
    found = []
    for one, _ in await cases.events(desk.database, case_id):
        here = {key.partition("/")[2]: text for key, text in texts.items() if key.startswith(f"{one.event.seq}/")}
        found.append((one.data, here))
    return found


async def set_aside(desk: Desk) -> list[tuple[str, dict[str, str]]]:
    """Reason and texts of all mail that was set aside, newest first."""
    found = await cases.of_type(desk.database, "mail_set_aside", None, 200)
    return [(one.data.reason, texts) for _, one, texts in found if isinstance(one.data, MailSetAside)]


async def events_written(desk: Desk) -> int:
    (row,) = await desk.database.rows(select(func.count(columns(EventRow).id)))
    return int(row[0])


async def as_lead(desk: Desk, command: Command, case_id: str) -> None:
    directory = await desk.ledger.writer.directory()
    if LEAD not in directory.people:
        lead = AddPerson(person_id=LEAD, email="lead@step-into.example", name="Lea Lead", roles=(Role.LEAD,))
        await desk.submit_as_system("operator", lead, via="cli", admin=True)
    actor = msgspec.structs.replace(system_actor(LEAD), kind="person")
    submission = Submission(command=command, actor=actor, via="api", request=str(uuid.uuid4()), case_id=case_id)
    assert isinstance(await desk.ledger.submit(submission), Receipt)


async def close(desk: Desk, case_id: str) -> None:
    data = CloseData(resolution=Resolution.SPAM)
    await as_lead(desk, Fire(trigger=Trigger.CLOSE, reason="nothing to do", data=data), case_id)


def collapsed(text: str) -> str:
    return re.sub(r"[\s\0-\x1f\x7f]+", " ", text).strip()


def examples(collection: str) -> list[tuple[dict[str, Any], bytes]]:
    folder = shared_path("inquiries") if collection == "published" else OWN_MAILS
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return [(entry, (folder / entry["file"]).read_bytes()) for entry in index]


# The examples, delivered by whatever way.


def in_some_order(
    entries: list[tuple[dict[str, Any], bytes]], chance: random.Random
) -> list[tuple[dict[str, Any], bytes]]:
    """Each after what it belongs to."""
    left, found = [*entries], list[tuple[dict[str, Any], bytes]]()
    while left:
        there = {entry["file"] for entry, _ in found}
        ready = [one for one in left if one[0]["thread_of"] in {None, *there}]
        found.append(chance.choice(ready))
        left.remove(found[-1])
    return found


async def with_the_tag(
    desk: Desk, index: list[tuple[dict[str, Any], bytes]], entry: dict[str, Any], raw: bytes
) -> bytes:
    (original,) = [one for one, _ in index if one["file"] == entry["thread_of"]]
    for case in await all_cases(desk):
        (_, texts), *_ = await history(desk, case.id)
        if collapsed(texts["subject"]) == original["subject"]:
            return raw.replace(entry["tag_placeholder"].encode(), f"[#{case.mail_tag}]".encode())
    raise AssertionError(f"{original['file']} has opened no case")


def expected(index: list[tuple[dict[str, Any], bytes]]) -> Counter[tuple[tuple[str, ...], ...]]:
    """Of each case the letters that are in it, by sender and what they have to say."""
    cases = {entry["file"]: [entry] for entry, _ in index if entry["kind"] == "new"}
    for entry, _ in index:
        if entry["kind"] == "follow_up":
            cases[entry["thread_of"]].append(entry)
    return Counter(
        tuple(sorted((one["from"], re.sub(r"\[#\S+\]", "[#]", one["subject"])) for one in letters))
        for letters in cases.values()
    )


async def cases_by_letter(desk: Desk) -> Counter[tuple[tuple[str, ...], ...]]:
    found = []
    for case in await all_cases(desk):
        letters = []
        for data, texts in await history(desk, case.id):
            if isinstance(data, Opened | MessageReceived):
                sender = texts["client_email" if isinstance(data, Opened) else "sender"]
                letters.append((sender, re.sub(r"\[#\S+\]", "[#]", collapsed(texts.get("subject", "")))))
        found.append(tuple(sorted(letters)))
    return Counter(found)


async def acknowledgements(desk: Desk) -> int:
    outbox = columns(OutboxRow)
    (row,) = await desk.database.rows(select(func.count(outbox.id)).where(outbox.kind == EffectKind.ACKNOWLEDGE))
    return int(row[0])
