"""The ledger under attack: commands that fail beside others, several ledgers on one database, callers that go away."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from storage import cases, desk, ledger, people
from storage.batch import Repeat
from storage.ledger import KeyInFlight, LedgerBusy, LedgerClosed
from storage.sealing import UnfitBody
from storage.submissions import KeyReused, Receipt, Unauthorized
from tests.databases import RawSql
from tests.storage.desks import NOTE, OPERATOR, Office, a_key, a_submission, an_office, together
from tests.workflow.builders import (
    ANA,
    BO,
    CHECK,
    CLEO,
    DAY,
    DIRK,
    LOU,
    MAIL,
    NOON,
    a_letter,
    a_purchase,
    an_opening,
    approves,
    begins,
    euros,
    firing,
    proposes,
    refunds,
    restates,
    verifies,
)
from workflow import commands as c
from workflow.canonical import canonical
from workflow.cases import Case, Proposal
from workflow.desk import AddPolicy
from workflow.effects import EffectKind
from workflow.errors import Forbidden, GuardRefused, NoSuchTransition, StaleVersion
from workflow.lifecycle import LOGGED_TABLE
from workflow.people import AddPerson, CreateToken, DisablePerson, RevokeToken, SetRoles
from workflow.policy import GroundKind, Settings, Tier
from workflow.roles import Role
from workflow.states import CaseState, ResumeReason, Trigger

INVESTIGATE = firing(Trigger.INVESTIGATE)
OFFER = firing(Trigger.OFFER_ADJUSTMENT)
RESUME = firing(Trigger.RESUME)


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    async with an_office(database_url) as opened:
        yield opened


@pytest.fixture
async def other(database_url: str, office: Office) -> AsyncIterator[Office]:
    """Another process on the same database."""
    assert office.ledger.task is not None
    async with an_office(database_url) as opened:
        yield opened


async def a_proposal(office: Office, case_id: str = "A", refund: str = "300.00", paid: str = "20000.00") -> Proposal:
    """By Ana, for a ground that Bo has verified."""
    await office.investigate(ANA, case_id, purchase=a_purchase(paid))
    await office.do(ANA, CHECK, case_id)
    ground = c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=euros(refund), statement="charged twice")
    (recorded,) = (await office.do(ANA, ground, case_id)).grounds
    await office.do(BO, verifies(recorded), case_id)
    return (await office.do(ANA, proposes(euros(refund)), case_id)).proposals[-1]


async def an_approved_proposal(office: Office, case_id: str, refund: str, paid: str) -> Proposal:
    proposal = await a_proposal(office, case_id, refund, paid)
    return (await office.do(CLEO, approves(proposal), case_id)).proposals[-1]


# One batch.


async def test_a_refused_command_harms_nobody_else_in_its_batch(office: Office) -> None:
    for case_id in "ABC":
        await office.open(case_id)

    one, refused, forbidden, two = await together(
        office.do(ANA, INVESTIGATE, "A"),
        office.do(ANA, OFFER, "B"),
        office.do(CLEO, INVESTIGATE, "B"),
        office.do(BO, INVESTIGATE, "C"),
    )

    assert (one.state, two.state) == (CaseState.INVESTIGATING, CaseState.INVESTIGATING)
    assert isinstance(refused, NoSuchTransition)
    assert isinstance(forbidden, Forbidden)
    assert await office.history("B") == ["opened", "purchase_changed"]
    assert await office.faults() == []


async def test_commands_on_one_case_are_each_decided_on_what_the_ones_before_have_left(office: Office) -> None:
    seen = frozenset({(await office.open()).version})

    answers = await together(
        office.do(ANA, INVESTIGATE, expected=seen),
        office.do(BO, INVESTIGATE, expected=seen),
        office.do(ANA, OFFER),
        office.do(ANA, RESUME),
        office.do(BO, NOTE),
    )

    assert [one.version if isinstance(one, Case) else type(one) for one in answers] == [3, StaleVersion, 4, 5, 6]
    assert (await office.case()).assignee == ANA.id
    assert await office.faults() == []


async def test_a_row_that_is_in_the_way_fails_only_the_command_that_meets_it(database_url: str, raw: RawSql) -> None:
    async with an_office(database_url, effects=frozenset({EffectKind.LETTER})) as office:
        await office.investigate(ANA, "A")
        await office.investigate(ANA, "B")
        raw.insert(
            "outbox",
            {"chain": "case:B", "seq": 4, "kind": "letter", "target": "", "lane": "", "at": "whenever", "due_at": ""},
        )

        one, collides, two = await together(
            office.do(ANA, a_letter(), "A"), office.do(ANA, a_letter(), "B"), office.do(MAIL, an_opening("C"), None)
        )

        assert (one.version, two.version) == (4, 2)
        assert isinstance(collides, Exception)
        assert (await office.case("B")).version == 3

        raw.run("DELETE FROM outbox WHERE at = 'whenever'")
        assert (await office.do(ANA, a_letter(), "B")).version == 4
        assert await office.faults() == []


async def test_a_text_that_nobody_can_store_fails_only_its_own_command(office: Office) -> None:
    await office.open()

    one, unfit, two = await together(
        office.do(ANA, NOTE), office.do(ANA, c.AddNote(text="half a pair: \ud83d")), office.do(BO, NOTE)
    )

    assert isinstance(unfit, UnicodeEncodeError)
    assert (one.version, two.version) == (3, 4)
    assert await office.faults() == []


async def test_an_event_that_cannot_be_sealed_leaves_nothing_of_the_events_before_it(office: Office) -> None:
    too_long = a_purchase(reference="D-2", package="x" * 70_000)

    before, unfit, after = await together(
        office.open("A"), office.open("B", purchase=too_long), office.open("C", purchase=a_purchase(reference="D-3"))
    )

    assert isinstance(unfit, UnfitBody)
    assert (before.version, after.version) == (2, 2)
    assert await office.history("B") == []
    assert await office.faults() == []


# Keys.


async def test_a_key_is_in_flight_until_its_first_request_is_answered(office: Office) -> None:
    await office.open()

    first, second = await together(office.do(ANA, NOTE, key=a_key()), office.do(ANA, NOTE, key=a_key()))
    third = await office.submit(ANA, NOTE, key=a_key())

    assert first.version == 3
    assert isinstance(second, KeyInFlight)
    assert third == Repeat(chain="case:A", seq=3, version=3)


async def test_requests_with_the_same_key_in_one_batch_have_one_effect(office: Office) -> None:
    await office.open()
    request = a_submission(ANA, NOTE, key=a_key())
    reused = a_submission(ANA, NOTE, key=a_key(body="another body"))

    first, second, third = await office.ledger.writer.commit([request, request, reused])

    assert isinstance(first, Receipt)
    assert second == Repeat(chain="case:A", seq=3, version=3)
    assert isinstance(third, KeyReused)
    assert (await office.case()).version == 3


async def test_a_request_that_changed_nothing_is_remembered_like_any_other(office: Office) -> None:
    await office.investigate(ANA)
    command = c.Assign(assignee=ANA.id)

    first = await office.submit(LOU, command, key=a_key())
    await office.do(ANA, NOTE)
    second = await office.submit(LOU, command, key=a_key())

    assert isinstance(first, Receipt)
    assert (first.events, first.seq) == ((), 4)
    assert second == Repeat(chain="case:A", seq=4, version=3)


async def test_a_refused_request_does_not_use_up_its_key(office: Office) -> None:
    await office.open()

    with pytest.raises(NoSuchTransition):
        await office.submit(ANA, OFFER, key=a_key())
    await office.do(ANA, INVESTIGATE)

    assert (await office.do(ANA, OFFER, key=a_key())).version == 4


# Callers and closing.


async def test_a_caller_who_goes_away_takes_only_the_answer_along(office: Office) -> None:
    await office.open()
    leaving = asyncio.create_task(office.do(ANA, NOTE, key=a_key()))
    staying = asyncio.create_task(office.do(BO, NOTE))
    await asyncio.sleep(0)

    leaving.cancel()
    answers = await together(leaving, staying, office.submit(ANA, NOTE, key=a_key()))

    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1].version == 4
    assert isinstance(answers[2], KeyInFlight)
    assert await office.submit(ANA, NOTE, key=a_key()) == Repeat(chain="case:A", seq=3, version=3)
    assert await office.faults() == []


async def test_who_comes_when_too_many_wait_is_sent_away_at_once_and_everybody_else_is_answered(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MAX_WAITING", 100)
    await office.open()

    answers = await together(*(office.do(ANA, NOTE) for _ in range(150)))

    assert sum(isinstance(one, LedgerBusy) for one in answers) == 50
    assert (await office.case()).version == 102


async def test_a_closing_ledger_carries_out_what_it_has_accepted_and_nothing_more(office: Office) -> None:
    await office.open()
    accepted = [asyncio.create_task(office.do(ANA, NOTE)) for _ in range(150)]
    await asyncio.sleep(0)

    closing_down = asyncio.create_task(office.ledger.close())
    await asyncio.sleep(0)
    with pytest.raises(LedgerClosed):
        await office.do(BO, NOTE)
    await closing_down

    assert {task.result().version for task in accepted} == set(range(3, 153))
    assert (await office.case()).version == 152


# Two ledgers.


async def test_what_another_ledger_has_written_is_never_overwritten(office: Office, other: Office) -> None:
    await office.open()
    await other.do(ANA, INVESTIGATE)

    assert (await office.do(BO, NOTE)).version == 4
    with pytest.raises(StaleVersion) as stale:
        await other.do(ANA, OFFER, expected=frozenset({3}))
    with pytest.raises(NoSuchTransition):
        await office.do(BO, INVESTIGATE)

    assert stale.value.current == 4
    assert await office.history() == ["opened", "purchase_changed", "investigation_started", "note_added"]
    assert await office.faults() == []


async def test_of_two_who_saw_the_same_version_one_wins(office: Office, other: Office) -> None:
    await office.investigate(ANA)
    for version in range(3, 43):
        seen = frozenset({version})

        answers = await together(office.do(ANA, NOTE, expected=seen), other.do(BO, NOTE, expected=seen))

        assert sorted(one.version if isinstance(one, Case) else 0 for one in answers) == [0, version + 1]
        assert [one.current for one in answers if isinstance(one, StaleVersion)] == [version + 1]


async def test_nothing_is_taken_for_done_that_another_ledger_has_undone(office: Office, other: Office) -> None:
    await office.investigate(ANA)
    await office.open("B")
    await other.do(LOU, c.Assign(assignee=BO.id))

    # For all that this ledger remembers, Ana has the case already.
    again, stale, _ = await together(
        office.submit(LOU, c.Assign(assignee=ANA.id), key=a_key("again")),
        office.submit(LOU, c.Assign(assignee=ANA.id), key=a_key("stale"), expected=frozenset({3})),
        office.do(ANA, NOTE, "B"),
    )

    assert [one.event.type for one in again.events] == ["assigned"]
    assert isinstance(stale, StaleVersion)
    assert (await office.case()).assignee == ANA.id
    assert await office.submit(LOU, c.Assign(assignee=ANA.id), key=a_key("again")) == Repeat(
        chain="case:A", seq=5, version=5
    )


async def test_nothing_is_refused_for_what_another_ledger_has_changed(office: Office, other: Office) -> None:
    await office.open()
    await other.do(ANA, INVESTIGATE)

    assert (await office.do(ANA, OFFER)).state is CaseState.ADJUSTMENT_OFFERED


async def test_what_people_may_do_changes_at_once_wherever_they_work(office: Office, other: Office) -> None:
    await office.submit(OPERATOR, CreateToken(person_id=BO.id, token_id="t1", secret_hash="x"), None)
    await office.open()
    await other.do(ANA, NOTE)

    await other.submit(OPERATOR, SetRoles(person_id=ANA.id, roles=(Role.AUDITOR,)), None)
    with pytest.raises(Forbidden):
        await office.do(ANA, NOTE)
    await other.submit(OPERATOR, SetRoles(person_id=ANA.id, roles=(Role.AGENT,)), None)
    assert (await office.do(ANA, NOTE)).version == 4

    await office.do(BO, NOTE, token="t1")
    await other.submit(OPERATOR, RevokeToken(person_id=BO.id, token_id="t1"), None)
    with pytest.raises(Unauthorized):
        await office.do(BO, NOTE, token="t1")

    await other.submit(OPERATOR, DisablePerson(person_id=BO.id), None)
    with pytest.raises(Unauthorized):
        await office.do(BO, NOTE)
    with pytest.raises(GuardRefused) as refused:
        await office.do(LOU, firing(Trigger.INVESTIGATE, assignee=BO.id))
    assert refused.value.codes == {"assignee_works_cases"}
    assert await office.faults() == []


async def test_a_new_policy_holds_at_once_wherever_people_work(office: Office, other: Office) -> None:
    proposal = await a_proposal(office)
    tiers = (Tier(up_to=None, roles=(Role.APPROVER,), count=2),)

    await other.submit(OPERATOR, AddPolicy(settings=Settings(tiers=tiers)), None)

    with pytest.raises(GuardRefused) as refused:
        await office.do(LOU, approves(proposal))
    assert refused.value.codes == {"within_approval_tier"}
    assert await office.faults() == []


async def test_an_address_belongs_to_one_person_though_two_are_added_at_once(office: Office, other: Office) -> None:
    def add(name: str) -> AddPerson:
        return AddPerson(person_id=name, email="una@step-into.example", name=name, roles=(Role.AGENT,))

    answers = await together(office.submit(OPERATOR, add("una"), None), other.submit(OPERATOR, add("uno"), None))

    assert sorted(type(one).__name__ for one in answers) == ["BadInput", "Receipt"]
    assert len({"una", "uno"} & {one.id for one in await people.everybody(office.database)}) == 1
    assert await office.faults() == []


async def test_policies_that_are_added_at_once_come_one_after_the_other(office: Office, other: Office) -> None:
    adding = [AddPolicy(settings=Settings(reopening_days=days)) for days in (10, 20)]

    answers = await together(
        *(one.submit(OPERATOR, add, None) for one, add in zip((office, other), adding, strict=True))
    )

    assert sorted(one.seq for one in answers) == [2, 3]
    assert await office.faults() == []


async def test_the_same_request_sent_to_two_processes_has_one_effect(office: Office, other: Office) -> None:
    await office.open()
    for number in range(20):
        key = a_key(f"key {number}")

        answers = await together(office.submit(ANA, NOTE, key=key), other.submit(ANA, NOTE, key=key))

        receipt = next(one for one in answers if isinstance(one, Receipt))
        assert Repeat(chain="case:A", seq=receipt.seq, version=receipt.seq) in answers
    assert await office.history() == ["opened", "purchase_changed", *["note_added"] * 20]


async def test_a_key_is_for_one_body_though_two_come_at_once(office: Office, other: Office) -> None:
    await office.open()
    for number in range(20):
        one, two = a_key(f"key {number}", "one body"), a_key(f"key {number}", "another body")

        answers = await together(office.submit(ANA, NOTE, key=one), other.submit(ANA, NOTE, key=two))

        assert sorted(type(one).__name__ for one in answers) == ["KeyReused", "Receipt"]
    assert (await office.case()).version == 22


async def test_the_same_mail_brought_by_two_processes_has_one_effect(office: Office, other: Office) -> None:
    for number in range(10):
        refs = (f"mail:{number}", f"id:{number}")
        one, two = an_opening(f"A{number}", purchase=None), an_opening(f"B{number}", purchase=None)

        answers = await together(
            office.submit(MAIL, one, None, mail_refs=refs), other.submit(MAIL, two, None, mail_refs=refs)
        )

        assert sorted(type(one).__name__ for one in answers) == ["DuplicateMail", "Receipt"]
    assert await office.faults() == []


async def test_processes_whose_clocks_disagree_still_tell_one_story(database_url: str, office: Office) -> None:
    async with an_office(database_url, lambda: NOON - DAY) as behind:
        await office.investigate(ANA)
        for roles in ((Role.LEAD,), (Role.AGENT,), (Role.LEAD,)):
            await behind.do(ANA, NOTE)
            await office.do(ANA, NOTE)
            await office.submit(OPERATOR, SetRoles(person_id=BO.id, roles=(Role.AUDITOR,)), None)
            await behind.submit(OPERATOR, SetRoles(person_id=BO.id, roles=roles), None)

    times = [recorded.at for recorded, _ in await cases.events(office.database, "A")]
    assert times == sorted(times)
    assert min(times) == NOON
    assert await office.faults() == []


# What is shared by several cases.


async def test_one_purchase_comes_of_two_cases_opened_with_it_at_once(office: Office, other: Office) -> None:
    for number in range(10):
        purchase = a_purchase(reference=f"N-{number}")
        one, two = f"A{number}", f"B{number}"

        answers = await together(office.open(one, purchase=purchase), other.open(two, purchase=purchase))

        assert [case.purchase for case in answers] == [purchase, purchase]
    assert await office.faults() == []


async def test_two_cases_opened_at_once_cannot_tell_different_things_of_one_purchase(
    office: Office, other: Office
) -> None:
    for number in range(10):
        purchase = a_purchase(reference=f"N-{number}")
        dearer = replace(purchase, paid=euros("30000.00"))
        one, two = f"A{number}", f"B{number}"

        answers = await together(office.open(one, purchase=purchase), other.open(two, purchase=dearer))

        assert sorted(type(one).__name__ for one in answers) == ["Case", "PurchaseDiffers"]
    assert await office.faults() == []


async def test_a_changed_purchase_reaches_the_cases_that_are_linked_to_it_meanwhile(
    office: Office, other: Office
) -> None:
    purchase = (await office.open("A")).purchase
    for number in range(10):
        changing = restates(purchase, package=f"launch {number}")

        answers = await together(
            office.do(ANA, changing, "A"),
            other.open(f"B{number}", purchase=None, purchase_reference="D-1"),
            other.do(ANA, NOTE, "A"),
        )

        assert all(isinstance(one, Case) for one in answers)
        purchase = (await office.case("A")).purchase
        assert (await office.case(f"B{number}")).purchase == purchase
    assert await office.faults() == []


async def test_the_same_money_is_not_promised_twice(office: Office, other: Office) -> None:
    """Two cases share a purchase with 1000.00 left; each has an approved refund of 600.00."""
    proposals = [await an_approved_proposal(office, case_id, "600.00", paid="1000.00") for case_id in "AB"]

    answers = await together(
        office.do(DIRK, begins(proposals[0]), "A"),
        other.do(DIRK, begins(proposals[1]), "B"),
        other.do(DIRK, refunds(proposals[1]), "B"),
        office.do(DIRK, refunds(proposals[0]), "A"),
    )

    refused = [one for one in answers if isinstance(one, GuardRefused)]
    assert all("within_maximum" in one.codes for one in refused)
    for case_id in "AB":
        purchase = (await office.case(case_id)).purchase
        assert purchase is not None
        assert purchase.refunded_minor + purchase.reserved_minor == 600_00
    assert await office.faults() == []


async def test_nobody_is_booked_twice_for_one_hour(office: Office, other: Office) -> None:
    for number in range(10):
        one, two = f"A{number}", f"B{number}"
        await office.investigate(ANA, one)
        await office.investigate(ANA, two)
        booking = firing(Trigger.SCHEDULE_CONSULTATION, starts_at=NOON + (1 + number) * DAY)

        answers = await together(office.do(ANA, booking, one), other.do(ANA, booking, two))

        assert sorted(type(one).__name__ for one in answers) == ["Case", "GuardRefused"]
    assert await office.faults() == []


async def test_a_slot_that_another_ledger_frees_can_be_booked(office: Office, other: Office) -> None:
    await office.investigate(ANA, "A")
    await other.investigate(ANA, "B")
    booking = firing(Trigger.SCHEDULE_CONSULTATION)
    await office.do(ANA, booking, "A")
    with pytest.raises(GuardRefused):
        await other.do(ANA, booking, "B")

    await office.do(ANA, firing(Trigger.RESUME, reason_code=ResumeReason.NO_SHOW), "A")

    assert (await other.do(ANA, booking, "B")).state is CaseState.CONSULTATION_SCHEDULED
    assert await office.faults() == []


async def test_a_new_lifecycle_comes_after_what_was_logged_before_whatever_the_clock_says(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = LOGGED_TABLE[1:]
    monkeypatch.setattr(desk, "LOGGED_TABLE", table)
    monkeypatch.setattr(desk, "LIFECYCLE", hashlib.sha256(canonical(table)).hexdigest())

    await office.database.run(lambda connection: desk.ensure_desk(connection, "UTC", NOON - DAY))

    assert await office.faults() == []
