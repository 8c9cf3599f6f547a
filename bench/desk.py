"""Desks of any size for the benchmarks, filled through the ledger."""

import asyncio
import uuid
from datetime import UTC, datetime

from api.desk import Desk, new_case_id, new_mail_tag
from api.people import new_token
from api.settings import Settings
from storage.batch import Entry
from storage.database import open_database
from storage.desk import ensure_desk
from storage.keys import ensure_key
from workflow import commands as c
from workflow.people import AddPerson
from workflow.policy import Category
from workflow.roles import Role

SECRET_KEY = "benchmarks need no secret, but the service does"

WORDS = [
    "campaign",
    "banner",
    "invoice",
    "pixel",
    "audience",
    "refund",
    "slot",
    "landing",
    "report",
    "budget",
    "tracking",
    "creative",
]


async def prepared(url: str) -> tuple[Desk, str]:
    """A migrated desk, open, with one agent; and the agent's token."""
    database = open_database(url)
    await database.upgrade()
    now = datetime.now(UTC)
    await database.run(lambda connection: ensure_desk(connection, "UTC", now))
    settings = Settings(database_url=url, secret_key=SECRET_KEY)  # type: ignore[arg-type]
    await ensure_key(database, settings.keys_in, now)
    desk = Desk(settings, database)
    await desk.open()
    person = AddPerson(
        person_id=str(uuid.uuid4()),
        email=f"{uuid.uuid4()}@step-into.example",
        name="Ana",
        roles=(Role.AGENT, Role.LEAD),
    )
    await desk.submit_as_system("bench", person, via="cli", admin=True)
    command, token = new_token(person.person_id)
    await desk.submit_as_system("bench", command, via="cli", admin=True)
    return desk, token


async def open_cases(desk: Desk, count: int) -> list[Entry]:
    """Cases of an ordinary size, many at once."""
    found: list[Entry] = []
    for start in range(0, count, 2000):
        opening = (
            desk.submit_as_system("bench", a_case(start + n), via="api") for n in range(min(2000, count - start))
        )
        for receipt in await asyncio.gather(*opening):
            assert receipt.case is not None
            found.append(Entry(case=receipt.case, texts=receipt.texts, stored_version=receipt.case.version))
    return found


def a_case(number: int) -> c.OpenCase:
    word = WORDS[number % len(WORDS)]
    return c.OpenCase(
        case_id=new_case_id(datetime.now(UTC)),
        mail_tag=new_mail_tag(),
        subject=f"The {word} of order {number} is not what we agreed on",
        message=f"Good morning, the {word} that we ordered in spring does not work as promised. Please look into order"
        f" {number} and tell us what can be done. It was due a week ago and our season begins on Monday.",
        client_name=f"Client {number}",
        client_email=f"client{number}@example.com",
        category=list(Category)[number % len(Category)],
    )
