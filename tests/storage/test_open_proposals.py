"""Which proposals can still be decided is listed apart, so that nobody has to look through all cases for them."""

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect, text

from storage import proposals
from storage.backup import backup, restore
from storage.database import open_database
from tests.databases import copy_sqlite, migrate, raw_sql, run_sync
from tests.storage.desks import Office, an_office, together
from tests.workflow.builders import (
    ANA,
    BO,
    CHECK,
    CLEO,
    DIRK,
    a_letter,
    a_purchase,
    approves,
    begins,
    closing,
    euros,
    fails,
    firing,
    proposes,
    proposes_credit,
    refunds,
    refuses,
    restates,
    verifies,
)
from workflow import commands as c
from workflow.cases import Proposal
from workflow.policy import GroundKind
from workflow.states import Resolution, Trigger


async def listed(office: Office) -> set[tuple[str, str]]:
    rows = await office.database.rows(text("SELECT case_id, proposal FROM open_proposals"))
    return {(case_id, proposal) for case_id, proposal in rows}


async def a_refund(office: Office, case_id: str = "A") -> Proposal:
    """Proposed by Ana, of an error that Bo has verified."""
    await office.investigate(ANA, case_id, purchase=a_purchase(reference=f"D-{case_id}"))
    await office.do(ANA, CHECK, case_id)
    ground = c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=euros("300.00"), statement="charged twice")
    await office.do(BO, verifies((await office.do(ANA, ground, case_id)).grounds[-1]), case_id)
    return (await office.do(ANA, proposes(euros("300.00")), case_id)).proposals[-1]


async def test_a_proposal_is_listed_until_it_is_refused(database_url: str) -> None:
    async with an_office(database_url) as office:
        proposal = await a_refund(office)
        assert await listed(office) == {("A", proposal.id)}
        await office.do(CLEO, refuses(proposal))
        assert await listed(office) == set()
        assert await office.faults() == []


async def test_a_proposal_is_listed_until_it_is_being_paid_and_again_when_that_fails(database_url: str) -> None:
    async with an_office(database_url) as office:
        proposal = await a_refund(office)
        await office.do(CLEO, approves(proposal))
        assert await listed(office) == {("A", proposal.id)}
        await office.do(DIRK, begins(proposal))
        assert await listed(office) == set()
        await office.do(DIRK, fails(proposal))
        assert await listed(office) == {("A", proposal.id)}
        assert await office.faults() == []
        await office.do(DIRK, refunds(proposal))
        assert await listed(office) == set()
        assert await office.faults() == []


async def test_begun_and_failed_in_one_breath_it_is_still_listed(database_url: str) -> None:
    async with an_office(database_url) as office:
        proposal = await a_refund(office)
        await office.do(CLEO, approves(proposal))
        await together(office.do(DIRK, begins(proposal)), office.do(DIRK, fails(proposal)))
        assert await listed(office) == {("A", proposal.id)}
        assert await office.faults() == []


async def test_what_is_void_withdrawn_or_ended_with_its_case_is_not_listed(database_url: str) -> None:
    async with an_office(database_url) as office:
        void = await a_refund(office, "A")
        await office.do(ANA, restates((await office.case("A")).purchase, package="larger"), "A")
        assert (await office.case("A")).proposals[-1].id == void.id
        withdrawn = await a_refund(office, "B")
        await office.do(ANA, c.WithdrawProposal(proposal=withdrawn.id, reason="a slip"), "B")
        await a_refund(office, "C")
        await office.do(ANA, proposes_credit(euros("5.00")), "C")
        assert len(await listed(office)) == 2
        await office.do(ANA, a_letter(), "C")
        await office.do(ANA, closing(Resolution.WITHDRAWN), "C")
        assert await listed(office) == set()
        assert await office.faults() == []


async def test_the_listed_are_found_the_most_urgent_first(database_url: str) -> None:
    async with an_office(database_url) as office:
        for case_id in ("A", "B", "C"):
            await a_refund(office, case_id)
        await office.do(ANA, a_letter(awaits_reply=True), "B")  # its deadlines pause: nothing is due
        await office.do(ANA, proposes_credit(euros("5.00")), "C")
        await office.open("D", purchase=None)

        found = await proposals.with_open_ones(office.database, 10)
        assert [one.id for one in found] == ["A", "C", "B"]
        assert [one.id for one in await proposals.with_open_ones(office.database, 2)] == ["A", "C"]
        assert {one.id for one in await proposals.some_with_open_ones(office.database, 10)} == {"A", "B", "C"}
        assert {one.id for one in await proposals.some_with_open_ones(office.database, 2)} == {"A", "B"}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM open_proposals",
        "INSERT INTO open_proposals VALUES ('A', 'p99')",
        "UPDATE open_proposals SET proposal = 'p1'",
    ],
)
async def test_a_list_that_was_tampered_with_is_found(database_url: str, statement: str) -> None:
    async with an_office(database_url) as office:
        await a_refund(office)
        with raw_sql(database_url) as raw:
            raw.run(statement)
        (fault,) = await office.faults()
        assert "can still be decided is not what the log says" in fault


async def test_a_proposal_of_no_case_is_found(database_url: str) -> None:
    async with an_office(database_url) as office:
        with raw_sql(database_url) as raw:
            raw.run("INSERT INTO open_proposals VALUES ('Z', 'p1')")
        assert await office.faults() == ["a proposal is listed of the case Z, which does not exist"]


def test_a_desk_of_an_earlier_release_has_its_proposals_listed(database_url: str) -> None:
    async def before() -> None:
        async with an_office(database_url) as office:
            await a_refund(office, "A")
            await office.do(CLEO, refuses(await a_refund(office, "B")), "B")
            await office.do(CLEO, approves(await a_refund(office, "C")), "C")
            await office.investigate(ANA, "D", purchase=None)

    def as_it_was(connection: Connection) -> None:
        with connection.begin():
            for table in ("open_proposals", "identities", "client_links", "passwords", "webhooks"):
                connection.exec_driver_sql(f"DROP TABLE {table}")
            connection.exec_driver_sql("DROP INDEX cases_by_client")
            for index in inspect(connection).get_indexes("cases"):
                if str(index["name"]).startswith(("open_cases", "closed_cases")):
                    connection.exec_driver_sql(f"DROP INDEX {index['name']}")
            config = Config()
            config.set_main_option("script_location", "storage:migrations")
            config.attributes["connection"] = connection
            command.stamp(config, "0002")

    async def after() -> None:
        async with an_office(database_url) as office:
            assert {case_id for case_id, _ in await listed(office)} == {"A", "C"}
            assert await office.faults() == []

    asyncio.run(before())
    run_sync(database_url, as_it_was)
    migrate(database_url)
    asyncio.run(after())


async def test_the_list_comes_back_with_a_backup(database_url: str, tmp_path: Path, sqlite_template: str) -> None:
    async with an_office(database_url) as office:
        await a_refund(office)
        before = await listed(office)
        await backup(office.database, tmp_path / "backup")
    database = open_database(copy_sqlite(sqlite_template, tmp_path / "restored.db"))
    await restore(tmp_path / "backup", database)
    await database.close()
    async with an_office(f"sqlite:///{tmp_path / 'restored.db'}") as restored:
        assert await listed(restored) == before
        assert await restored.faults() == []
        await restored.do(BO, firing(Trigger.SCHEDULE_CONSULTATION))
