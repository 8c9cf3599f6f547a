"""What the service's log says of a failure, and what it keeps to itself."""

import json
import subprocess
import sys

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from storage.database import open_database

FAILING = """
import logging, structlog
from api.logs import configure_logs

def fail(letter):
    raise ValueError("something is wrong")

configure_logs("info")
for log in (structlog.get_logger(), logging.getLogger("a library")):
    try:
        fail("what the client wrote")
    except ValueError:
        log.exception("failed")
"""


def test_a_traceback_says_where_it_went_wrong_and_not_what_was_in_hand() -> None:
    said = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, check=True).stderr

    records = [json.loads(line) for line in said.splitlines()]
    assert [one["exception"][0]["frames"][-1]["name"] for one in records] == ["fail", "fail"]
    assert "what the client wrote" not in said


async def test_what_the_database_complains_of_does_not_say_whom_somebody_looked_for(database_url: str) -> None:
    database = open_database(database_url)
    query, client = text("SELECT 1 FROM nowhere WHERE email = :email"), {"email": "zaphod@secret.example"}

    with pytest.raises(SQLAlchemyError) as failures:
        await database.rows(query, client)
    with pytest.raises(SQLAlchemyError) as others:
        await database.run(lambda connection: connection.execute(query, client).all())

    await database.close()
    for failure in (failures.value, others.value):
        assert "nowhere" in str(failure)
        assert "zaphod" not in repr(failure) + str(failure)
