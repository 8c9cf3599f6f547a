"""Who follows the desk is told of an event by the very transaction that records it, whichever process writes it."""

from typing import Any

import pytest

from storage import webhooks
from storage.sequencer import Sequencer
from storage.submissions import Receipt
from tests.databases import RawSql
from tests.storage.desks import NOTE, Office, a_key, an_office, together
from tests.workflow.builders import ADAM, ANA, AUDREY, LOU, MAIL, NOON, a_letter, an_opening, firing
from workflow.errors import BadInput, Forbidden, NoSuchTransition, NotFound
from workflow.events import at_text
from workflow.states import Trigger
from workflow.webhooks import (
    AddWebhook,
    ChangeWebhook,
    DisableWebhook,
    PingWebhook,
    Place,
    RemoveWebhook,
    ReplayWebhook,
    RotateWebhookSecret,
    Webhooks,
)

OPENED, ALLOWED, REFUSED = "casework.case.opened", "casework.transition.allowed", "casework.transition.refused"
MOVE = firing(Trigger.INVESTIGATE)


def an_endpoint(name: str = "crm", *types: str) -> AddWebhook:
    return AddWebhook(webhook_id=name, url=f"https://{name}.example/", types=types or (OPENED, ALLOWED, REFUSED))


async def add(office: Office, *endpoints: AddWebhook) -> None:
    for one in endpoints:
        await office.submit(ADAM, one, None)


def planned(raw: RawSql) -> list[tuple[Any, ...]]:
    """Kind of chain or case, number of the event, and who hears of it."""
    rows = raw.run("SELECT chain, seq, target, lane FROM outbox WHERE kind = 'webhook' ORDER BY id")
    assert all(lane == f"webhook:{target}:{chain}" for chain, _, target, lane in rows)
    return [(chain if chain.startswith("case:") else chain.partition(":")[0], seq, to) for chain, seq, to, _ in rows]


async def test_each_endpoint_hears_of_what_it_asked_for_and_of_nothing_before_it_was_added(
    database_url: str, raw: RawSql
) -> None:
    async with an_office(database_url) as office:
        await office.open("A")
        assert planned(raw) == []
        await add(office, an_endpoint("crm"), an_endpoint("books", ALLOWED))
        await office.investigate(ANA, "B", purchase=None)
        await office.do(ANA, NOTE, "B")

        assert planned(raw) == [("case:B", 1, "crm"), ("case:B", 2, "crm"), ("case:B", 2, "books")]
        assert await office.faults() == []


async def test_a_refused_command_is_told_as_that_and_as_nothing_else(database_url: str, raw: RawSql) -> None:
    async with an_office(database_url) as office:
        await office.investigate(ANA, purchase=None)
        await add(office, an_endpoint())

        with pytest.raises(NoSuchTransition):
            await office.do(ANA, MOVE)
        with pytest.raises(Forbidden):
            await office.do(AUDREY, MOVE)
        with pytest.raises(NotFound):
            await office.do(ANA, MOVE, "nothing")

        assert planned(raw) == [("refusal", 1, "crm")] * 2


async def test_commands_of_one_batch_are_each_told_or_not(database_url: str, raw: RawSql) -> None:
    async with an_office(database_url) as office:
        for case in "AB":
            await office.open(case, purchase=None)
        await office.do(ANA, MOVE, "B")
        await add(office, an_endpoint())

        outcomes = await together(*(office.submit(ANA, MOVE, case) for case in "ABA"))

        assert [isinstance(one, Receipt) for one in outcomes] == [True, False, False]
        assert sorted(planned(raw)) == [("case:A", 2, "crm"), *[("refusal", 1, "crm")] * 2]


async def test_nothing_is_told_of_a_batch_that_was_rolled_back(database_url: str, raw: RawSql) -> None:
    async with an_office(database_url) as office:
        await add(office, an_endpoint())
        await office.open("A")
        # The same case once more: the database itself refuses it, whatever the ledger thinks.
        outcomes = await together(office.submit(MAIL, an_opening("A"), None), office.submit(ANA, MOVE, "A"))

        assert not isinstance(outcomes[0], Receipt)
        assert isinstance(outcomes[1], Receipt)
        assert planned(raw) == [("case:A", 1, "crm"), ("case:A", 3, "crm")]  # the purchase is linked between them
        assert await office.faults() == []


async def test_an_endpoint_that_another_process_has_added_hears_of_the_very_next_write(
    database_url: str, raw: RawSql
) -> None:
    async with an_office(database_url) as one, an_office(database_url) as other:
        await one.open("A", purchase=None)
        await one.do(ANA, NOTE, "A")  # whatever a process knows of the desk, this one knows by now
        await add(other, an_endpoint("crm"))
        await one.do(ANA, MOVE, "A")
        await other.submit(ADAM, RemoveWebhook(webhook_id="crm"), None)
        await one.do(ANA, a_letter(), "A")
        await one.do(ANA, firing(Trigger.OFFER_ADJUSTMENT), "A")

        assert planned(raw) == [("case:A", 3, "crm")]


async def test_endpoints_are_changed_one_after_the_other_by_whichever_process(database_url: str) -> None:
    async with an_office(database_url) as one, an_office(database_url) as other:
        names = [f"e{number}" for number in range(8)]
        await together(*(office.submit(ADAM, an_endpoint(f"{name}{place}"), None)
                         for name in names for place, office in enumerate((one, other))))  # fmt: skip
        stored = await webhooks.endpoints(one.database)

        assert stored.version == len(stored.endpoints) == 16
        assert await other.faults() == []


async def test_what_endpoints_there_are_is_what_the_log_says(database_url: str, raw: RawSql) -> None:
    async with an_office(database_url) as office:
        assert await webhooks.endpoints(office.database) == Webhooks()
        await add(office, an_endpoint("crm"), an_endpoint("books"))
        moved = ChangeWebhook(webhook_id="crm", url="https://crm.example/new", types=(OPENED,), active=True)
        for command in (moved, RotateWebhookSecret(webhook_id="crm"), RemoveWebhook(webhook_id="books")):
            await office.submit(ADAM, command, None)
        (crm,) = (await webhooks.endpoints(office.database)).endpoints
        assert (crm.url, crm.types, crm.generation) == ("https://crm.example/new", (OPENED,), 2)
        assert await office.faults() == []

        raw.run("UPDATE webhooks SET body = replace(body, 'crm.example', 'eve.example')")
        assert await office.faults() == [
            "the set of webhooks 1: the row is not what the log says in body.endpoints",
        ]
        raw.run("DELETE FROM webhooks")
        assert await office.faults() == ["the set of webhooks 1: the log has it, and no row"]


async def test_a_change_that_changes_nothing_is_no_event_and_a_key_gives_the_first_answer(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.submit(ADAM, an_endpoint("crm"), None, key=a_key())
        again = await office.submit(ADAM, an_endpoint("other"), None, key=a_key())
        gone = DisableWebhook(webhook_id="crm", url="https://crm.example/", reason="gone")
        elsewhere = DisableWebhook(webhook_id="crm", url="https://crm.example/old", reason="gone")
        events = []
        for command in (elsewhere, gone, gone):
            receipt = await office.submit(MAIL, command, None)
            assert isinstance(receipt, Receipt)
            events.append(len(receipt.events))

        assert not isinstance(again, Receipt)
        assert events == [0, 1, 0]
        assert [(one.id, one.active) for one in (await webhooks.endpoints(office.database)).endpoints] == [
            ("crm", False)
        ]


async def test_a_ping_and_a_replay_are_planned_with_the_events_that_tell_of_them(
    database_url: str, raw: RawSql
) -> None:
    async with an_office(database_url) as office:
        await office.open("A", purchase=None)
        await add(office, an_endpoint())
        await office.open("B", purchase=None)
        await Sequencer(office.database).catch_up()
        raw.run("UPDATE outbox SET status = 'done', fence = 1, failures = 3")
        (crm,) = (await webhooks.endpoints(office.database)).endpoints
        stretch = await webhooks.heard(office.database, crm, 0)
        assert [place.chain for place in stretch.places] == ["case:A", "case:B"]
        assert stretch.is_last

        command = ReplayWebhook(webhook_id="crm", after=0, through=stretch.through, places=stretch.places)
        for sent in (PingWebhook(webhook_id="crm"), command, command):
            await office.submit(ADAM, sent, None)

        assert sorted(planned(raw)) == [("case:A", 1, "crm"), ("case:B", 1, "crm"), ("ping", 1, "crm")]
        rows = raw.run("SELECT chain, status, fence, failures FROM outbox WHERE chain LIKE 'case:%' ORDER BY chain")
        assert rows == [("case:A", "waiting", 0, 0), ("case:B", "waiting", 2, 0)]
        shown = await webhooks.deliveries(office.database, "crm", None, 10)
        assert [one.recorded.event.type for one in shown] == ["opened", "webhook_pinged", "opened"]
        assert await webhooks.deliveries(office.database, "crm", shown[-1].effect.id, 10) == []
        assert await office.faults() == []


async def test_nothing_is_sent_again_to_an_endpoint_that_is_off_or_unknown(database_url: str, raw: RawSql) -> None:
    async with an_office(database_url) as office:
        await add(office, an_endpoint())
        off = ChangeWebhook(webhook_id="crm", url="https://crm.example/", types=(OPENED,), active=False)
        await office.submit(ADAM, off, None)
        place = Place("case:A", 1, at_text(NOON))
        for name, refusal in (("crm", BadInput), ("nobody", NotFound)):
            again = ReplayWebhook(webhook_id=name, after=0, through=1, places=(place,))
            for command in (PingWebhook(webhook_id=name), again):
                with pytest.raises(refusal):
                    await office.submit(ADAM, command, None)
        with pytest.raises(Forbidden):
            await office.submit(LOU, PingWebhook(webhook_id="crm"), None)

        await office.open("A")
        assert planned(raw) == []


async def test_a_replay_can_begin_at_a_time_and_goes_on_where_it_ended(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MOST_REPLAYED", 2)
    clock = [NOON]
    async with an_office(database_url, lambda: clock[0]) as office:
        for number in range(6):
            clock[0] = NOON.replace(hour=13 + number)
            await office.open(f"C{number}", purchase=None)
        await add(office, an_endpoint())
        await Sequencer(office.database).catch_up()
        (crm,) = (await webhooks.endpoints(office.database)).endpoints

        found, after, stretches = [], 0, 0
        while True:
            stretch = await webhooks.heard(office.database, crm, after, NOON.replace(hour=15))
            found += [place.chain for place in stretch.places]
            after, stretches = stretch.through, stretches + 1
            if stretch.is_last:
                break
        assert found == ["case:C2", "case:C3", "case:C4", "case:C5"]
        assert stretches == 3  # the last finds out that nothing follows
