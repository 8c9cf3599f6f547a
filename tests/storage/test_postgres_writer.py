"""What can go wrong between a ledger and PostgreSQL: real faults of a real connection, met with little patience."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from storage import postgres_writer
from storage.batch import Repeat
from storage.submissions import OutcomeUnknown, OutOfReach, Unavailable
from tests.databases import RawPostgres
from tests.storage.desks import NOTE, Office, a_key, an_office, together
from tests.storage.proxies import Fault, Proxy, a_proxy
from tests.workflow.builders import ANA, BO, CHECK, a_purchase, firing
from workflow import commands as c
from workflow.cases import Case
from workflow.states import Trigger

pytestmark = pytest.mark.parametrize("backend", ["postgresql"])

IN_A_NOTE = NOTE.text.encode()
TERMINATE = b"X\x00\x00\x00\x04"  # how a client takes leave
ENDED = b"SFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
BOOKING = firing(Trigger.SCHEDULE_CONSULTATION)  # is decided under locks


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LOCK_TIMEOUT": "600ms",
        "COMMAND_SECONDS": 1.0,
        "LOOKUP_PAUSES": (0.0, 0.1, 0.2),
        "PATIENCE_SECONDS": 2.0,
    }.items():
        monkeypatch.setattr(postgres_writer, name, value)


class Line:
    """An office with a case under investigation, the proxy by which it reaches its database, and somebody else."""

    def __init__(self, office: Office, proxy: Proxy, raw: RawPostgres) -> None:
        self.office = office
        self.proxy = proxy
        self.raw = raw

    def keep_locked(self, case_id: str) -> None:
        self.raw.run("BEGIN")
        self.raw.run("SELECT 1 FROM cases WHERE id = ?1 FOR UPDATE", case_id)

    def let_go(self) -> None:
        self.raw.run("ROLLBACK")

    def kill_the_session(self) -> None:
        """The ledger's, wherever it is."""
        sessions = "pg_stat_activity WHERE application_name = 'casework ledger' AND datname = current_database()"
        self.raw.run(f"SELECT pg_terminate_backend(pid, 2000) FROM {sessions}")

    def configure(self, setting: str) -> None:
        """For every session from now on."""
        ((database,),) = self.raw.run("SELECT current_database()")
        self.raw.run(f"ALTER DATABASE {database} SET {setting}")
        self.kill_the_session()


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Line]:
    async with a_proxy(database_url) as proxy, an_office(proxy.url) as office:
        await office.investigate(ANA)
        with RawPostgres(database_url) as raw:
            yield Line(office, proxy, raw)


# Connections.


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize(
    ("command", "marker", "kind"),
    [(NOTE, IN_A_NOTE, "note_added"), (BOOKING, b"COMMIT;", "consultation_scheduled")],
    ids=["without locks", "under locks"],
)
async def test_a_command_has_one_effect_whenever_the_connection_breaks(
    line: Line, fault: Fault, command: c.Command, marker: bytes, kind: str
) -> None:
    line.proxy.break_on(marker, fault)

    case = await line.office.do(ANA, command)

    assert line.proxy.struck.is_set()
    assert case.version == 4
    assert (await line.office.history()).count(kind) == 1
    assert await line.office.faults() == []


async def test_a_session_that_goes_on_unheard_is_ended_before_its_outcome_is_looked_up(line: Line) -> None:
    line.keep_locked("A")
    line.proxy.break_on(IN_A_NOTE, Fault.CUT)
    noting = asyncio.create_task(line.office.do(ANA, NOTE))
    await line.proxy.struck.wait()
    await asyncio.sleep(0.2)

    line.let_go()

    assert (await noting).version == 4
    assert (await line.office.history()).count("note_added") == 1


async def test_while_nobody_can_be_asked_what_became_of_a_commit_it_stays_unknown(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    await line.office.open("B")
    monkeypatch.setattr(postgres_writer, "CONNECT_SECONDS", 0.3)
    line.proxy.break_on(IN_A_NOTE, Fault.UNANSWERED, for_good=True)

    answers = await together(
        line.office.do(ANA, NOTE, "A", key=a_key("one")), line.office.do(BO, NOTE, "B", key=a_key("two"))
    )

    assert [type(one) for one in answers] == [OutcomeUnknown, OutcomeUnknown]
    with pytest.raises(OutOfReach):
        await line.office.do(ANA, NOTE)

    line.proxy.deaf = False
    monkeypatch.undo()
    assert await line.office.submit(ANA, NOTE, "A", key=a_key("one")) == Repeat(chain="case:A", seq=4, version=4)
    assert await line.office.submit(BO, NOTE, "B", key=a_key("two")) == Repeat(chain="case:B", seq=3, version=3)


async def test_that_the_database_is_out_of_reach_is_found_out_once_for_all_who_wait(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_writer, "CONNECT_SECONDS", 0.3)
    line.proxy.break_on(IN_A_NOTE, Fault.LOST, for_good=True)
    began = time.monotonic()

    answers = await together(line.office.do(ANA, NOTE), *(line.office.do(ANA, BOOKING) for _ in range(30)))
    later = await together(*(line.office.do(ANA, NOTE) for _ in range(30)))

    assert [type(one) for one in answers] == [OutcomeUnknown, *[OutOfReach] * 30]
    assert {type(one) for one in later} == {OutOfReach}
    assert time.monotonic() - began < 6
    line.proxy.deaf = False
    monkeypatch.undo()
    assert (await line.office.do(ANA, NOTE)).version == 4


@pytest.mark.parametrize("marker", [b"FROM people", b"FROM personal", b"nextval", b"FOR UPDATE"])
async def test_a_session_that_ends_while_a_command_is_prepared_is_replaced(line: Line, marker: bytes) -> None:
    await line.office.ledger.close()
    async with an_office(line.proxy.url) as office:
        line.proxy.break_on(marker, Fault.LOST)

        answers = await together(office.do(ANA, NOTE), office.open("B"))

        assert line.proxy.struck.is_set()
        assert [type(one) for one in answers] == [Case, Case]
        assert await office.faults() == []


async def test_a_session_that_ends_between_two_commands_is_replaced(line: Line) -> None:
    line.kill_the_session()

    assert (await line.office.do(ANA, NOTE)).version == 4


async def test_a_session_whose_end_was_heard_before_its_connection_closed_is_replaced(line: Line) -> None:
    line.proxy.say(b"E" + (4 + len(ENDED)).to_bytes(4, "big") + ENDED)
    await asyncio.sleep(0.1)  # for everybody to hear it

    assert (await line.office.do(ANA, NOTE)).version == 4
    with pytest.raises(Unavailable):
        await line.office.history()


async def test_a_server_that_says_nothing_more_keeps_nobody_from_closing(line: Line) -> None:
    line.proxy.break_on(TERMINATE, Fault.SILENT)

    await asyncio.wait_for(line.office.ledger.close(), 5)

    assert line.proxy.struck.is_set()


# Locks.


async def test_a_command_whose_session_is_killed_while_it_waits_begins_again(line: Line) -> None:
    line.keep_locked("A")
    noting = asyncio.create_task(line.office.do(ANA, NOTE))
    await asyncio.sleep(0.1)

    line.kill_the_session()
    line.let_go()

    assert (await noting).version == 4
    assert (await line.office.history()).count("note_added") == 1


async def test_a_lock_that_somebody_keeps_makes_only_its_own_case_unavailable(line: Line) -> None:
    await line.office.open("B")
    line.keep_locked("A")
    began = time.monotonic()

    locked, free = await together(line.office.do(ANA, NOTE, "A"), line.office.do(ANA, NOTE, "B"))

    assert type(locked) is Unavailable
    assert free.version == 3
    assert time.monotonic() - began < 8
    line.let_go()
    assert (await line.office.do(ANA, NOTE, "A")).version == 4
    assert await line.office.faults() == []


async def test_a_lock_that_is_let_go_in_time_only_takes_time(line: Line) -> None:
    line.keep_locked("A")
    noting = asyncio.create_task(line.office.do(ANA, NOTE))
    await asyncio.sleep(0.8)

    line.let_go()

    assert (await noting).version == 4


async def test_what_has_to_be_locked_is_found_out_again_when_it_has_changed(line: Line, database_url: str) -> None:
    """One moves A to the purchase of B while another, who waits for the purchase it had, means to check it."""
    await line.office.open("B", purchase=a_purchase(reference="D-2"))
    async with an_office(database_url) as other:
        line.raw.run("BEGIN")
        line.raw.run("SELECT 1 FROM purchases WHERE reference = 'D-1' FOR UPDATE")
        moving = asyncio.create_task(line.office.do(ANA, c.RecordPurchase(reference="D-2")))
        await asyncio.sleep(0.1)
        checking = asyncio.create_task(other.do(ANA, CHECK))
        await asyncio.sleep(0.1)

        line.let_go()

        await moving
        purchase = (await checking).purchase
        assert purchase is not None
        assert (purchase.reference, purchase.checked) == ("D-2", True)
        assert (await other.case("B")).purchase == purchase
        assert await other.faults() == []


async def test_a_deadlock_costs_nobody_the_command(line: Line) -> None:
    """The ledger holds A and waits for B, which shares its purchase; somebody holds B and waits for A."""
    line.configure("deadlock_timeout = '300ms'")
    await line.office.open("B")
    line.keep_locked("B")
    checking = asyncio.create_task(line.office.do(ANA, CHECK, "A"))
    await asyncio.sleep(0.1)

    await asyncio.to_thread(line.raw.run, "SELECT 1 FROM cases WHERE id = 'A' FOR UPDATE")
    line.let_go()

    case = await checking
    assert case.purchase is not None
    assert case.purchase.checked
    assert (await line.office.case("B")).purchase == case.purchase
    assert await line.office.faults() == []


# What the server cannot do, and what it will not store.

DISK_IS_FULL = """
    CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER disk_is_full BEFORE INSERT ON events EXECUTE FUNCTION disk_is_full()
"""


@pytest.mark.parametrize("command", [NOTE, BOOKING], ids=["without locks", "under locks"])
async def test_a_full_disk_is_no_bug_of_ours(line: Line, command: c.Command) -> None:
    for statement in DISK_IS_FULL.split(";\n    "):
        line.raw.run(statement)

    with pytest.raises(Unavailable):
        await line.office.do(ANA, command)

    line.raw.run("DROP FUNCTION disk_is_full CASCADE")
    assert (await line.office.do(ANA, command)).version == 4


async def test_a_server_that_only_reads_is_no_bug_of_ours(line: Line) -> None:
    line.configure("default_transaction_read_only = on")

    for command in (NOTE, BOOKING):
        with pytest.raises(Unavailable):
            await line.office.do(ANA, command)

    line.configure("default_transaction_read_only = off")
    assert (await line.office.do(ANA, NOTE)).version == 4


async def test_a_text_that_the_server_will_not_store_fails_only_its_own_command(line: Line) -> None:
    one, unfit, two = await together(
        line.office.do(ANA, NOTE), line.office.do(ANA, c.AddNote(text="a \x00")), line.office.do(BO, NOTE)
    )

    assert not isinstance(unfit, Case | Unavailable)
    assert {one.version, two.version} == {4, 5}
    assert await line.office.faults() == []
