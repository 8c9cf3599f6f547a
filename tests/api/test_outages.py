"""What people are told while the database is away."""

import pytest

from storage.database import PostgresDatabase
from tests.api.driving import Clock, done, refused, running
from tests.storage.proxies import Fault, a_proxy

pytestmark = pytest.mark.parametrize("backend", ["postgresql"])


async def test_what_was_done_is_not_said_to_be_undone_because_the_answer_cannot_be_made(
    desk_url: str, clock: Clock
) -> None:
    async with a_proxy(desk_url) as proxy, running(proxy.url, clock) as service:
        case = await service.ana.open()
        # The answer shows who may do what next, and that has to be read anew.
        service.desk.forget_directory()
        assert isinstance(service.desk.database, PostgresDatabase)
        await service.desk.database.engine.dispose()
        proxy.break_on(b"FROM policies", Fault.LOST)

        answer = await service.ana.fire(case["id"], "investigate")

        refused(answer, 503, "outcome_unknown")
        assert answer.headers["retry-after"]
        assert (await service.ana.read(case["id"]))["state"] == "investigating"


async def test_a_question_that_the_database_cannot_answer_can_be_asked_again(desk_url: str, clock: Clock) -> None:
    async with a_proxy(desk_url) as proxy, running(proxy.url, clock) as service:
        case = await service.ana.open()
        assert isinstance(service.desk.database, PostgresDatabase)
        await service.desk.database.engine.dispose()
        proxy.break_on(b"FROM cases", Fault.LOST)

        answer = await service.ana.get(f"/v1/cases/{case['id']}")

        refused(answer, 503, "unavailable")
        assert answer.headers["retry-after"]
        done(await service.ana.get(f"/v1/cases/{case['id']}"))


async def test_a_refusal_whose_version_cannot_be_told_says_that_nothing_was_changed(
    desk_url: str, clock: Clock
) -> None:
    async with a_proxy(desk_url) as proxy, running(proxy.url, clock) as service:
        case = await service.ana.open()
        assert isinstance(service.desk.database, PostgresDatabase)
        await service.desk.database.engine.dispose()
        proxy.break_on(b"SELECT cases.version", Fault.LOST)

        answer = await service.ana.fire(case["id"], "resume", reason_code="declined")

        assert proxy.struck.is_set()
        refused(answer, 503, "unavailable")
        assert answer.headers["retry-after"]
        assert (await service.ana.read(case["id"]))["version"] == case["version"]
