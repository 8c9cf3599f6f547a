"""A link opens one case for as long as the log says so, whatever else is done at the same moment, in any process."""

from datetime import datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from storage import cases, client_links
from storage.backup import backup, restore
from storage.batch import Repeat
from storage.database import open_database
from storage.submissions import Receipt
from storage.verify import verify
from tests.databases import copy_sqlite, raw_sql
from tests.storage.desks import OPERATOR, Office, a_key, an_office, together
from tests.workflow.builders import ANA, BO, DAY, NOON, UNA, a_link, answers, firing, from_the_client
from workflow import commands as c
from workflow.errors import GuardRefused, NotFound
from workflow.states import Trigger

REVOKE = c.RevokeClientLink(link_id=UNA.id, reason="sent to the wrong address")
ERASE = c.Erase(legal_basis="GDPR Art. 17(1)(a)", override=True)


class Clock:
    now = NOON

    def __call__(self) -> datetime:
        return self.now


async def opened_by(office: Office, digest: str = "#una") -> tuple[str, str] | None:
    """The case and the link that a secret leads to."""
    found = await client_links.by_secret(office.database, digest)
    return (found[0].id, found[1]) if found else None


def kept(url: str) -> list[str]:
    with raw_sql(url) as raw:
        return sorted(link for (link,) in raw.run("SELECT id FROM client_links"))


async def a_linked_case(office: Office, case_id: str = "A") -> None:
    await office.investigate(ANA, case_id, purchase=None)
    await office.do(ANA, a_link(), case_id)


async def test_a_secret_leads_to_its_case_and_no_other(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_linked_case(office)
        await office.investigate(BO, "B", purchase=None)
        await office.do(BO, a_link(replace(UNA, id="other")), "B")

        assert await opened_by(office) == ("A", "una")
        assert await opened_by(office, "#other") == ("B", "other")
        assert await opened_by(office, "#nobody") is None
        assert await office.faults() == []


async def test_what_is_revoked_or_has_run_out_leaves_no_row_behind(database_url: str) -> None:
    clock = Clock()
    async with an_office(database_url, clock) as office:
        await a_linked_case(office)
        await office.do(ANA, a_link(replace(UNA, id="short"), until=NOON + DAY))
        await office.do(ANA, REVOKE)
        assert kept(database_url) == ["short"]
        clock.now += DAY
        assert await opened_by(office, "#short") == ("A", "short")  # whether it is still good, the case says

        await office.do(ANA, a_link(replace(UNA, id="new"), until=NOON + 9 * DAY))

        assert kept(database_url) == ["new"]
        assert await office.faults() == []


async def test_an_erased_clients_links_are_gone(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_linked_case(office)
        await office.do(OPERATOR, ERASE)

        assert kept(database_url) == []
        assert await opened_by(office) is None
        assert await office.faults() == []


async def test_a_link_that_is_made_and_ended_in_one_batch_was_never_there(database_url: str) -> None:
    async with an_office(database_url) as office:
        await office.investigate(ANA, purchase=None)
        for end in (REVOKE, ERASE):
            made, ended = await together(office.submit(ANA, a_link()), office.submit(OPERATOR, end))
            assert isinstance(made, Receipt)
            assert isinstance(ended, Receipt)
            assert kept(database_url) == []
        assert await office.faults() == []


async def test_a_client_writes_and_answers_by_their_link(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_linked_case(office)
        case = await office.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))
        await office.do(UNA, from_the_client("What would it cost?"))
        await office.do(UNA, answers(case, accepted=True, text="Gladly, Zaphod!"))

        assert (await office.history())[-2:] == ["message_received", "offer_answered"]
        found = await cases.listing(
            office.database, cases.Filter(q="Zaphod"), cases.Sort.OLDEST, now=NOON, after=None, limit=9
        )
        assert [one.entry.case.id for one in found] == ["A"]
        assert await office.faults() == []


async def test_the_same_form_sent_twice_is_answered_once(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_linked_case(office)
        first = await office.submit(UNA, from_the_client(), key=a_key())
        again = await office.submit(UNA, from_the_client(), key=a_key())

        assert isinstance(first, Receipt)
        assert isinstance(again, Repeat)
        assert (await office.history()).count("message_received") == 1


async def test_of_a_message_and_a_revocation_at_once_only_what_came_first_counts(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_linked_case(office)
        _, revoked, late, answer = await together(
            office.submit(UNA, from_the_client("in time")),
            office.submit(ANA, REVOKE),
            office.submit(UNA, from_the_client("too late")),
            office.submit(UNA, c.AnswerOffer(offer=1, accepted=True)),
        )

        assert isinstance(revoked, Receipt)
        assert isinstance(late, GuardRefused)
        assert late.codes == {"link_is_good"}
        assert isinstance(answer, GuardRefused | NotFound)
        assert (await office.history())[-2:] == ["message_received", "client_link_revoked"]
        assert await office.faults() == []


async def test_what_one_process_has_revoked_no_other_takes_for_good(database_url: str) -> None:
    async with an_office(database_url) as one, an_office(database_url) as other:
        await a_linked_case(one)
        await other.do(UNA, from_the_client("in time"))  # from now on it knows the case with its link
        await one.do(ANA, REVOKE)

        (late,) = await together(other.submit(UNA, from_the_client("too late")))

        assert isinstance(late, GuardRefused)
        assert (await one.history())[-1] == "client_link_revoked"


async def test_whoever_tries_a_link_that_has_ended_is_recorded(database_url: str) -> None:
    async with an_office(database_url) as office:
        await a_linked_case(office)
        await office.do(ANA, REVOKE)
        await together(office.submit(UNA, from_the_client("too late")))

        ((_, refused, _),) = await cases.of_type(office.database, "refused", None, 9)
        assert refused.event.actor == "client:una"
        assert refused.event.data["refusals"] == ["link_is_good"]


async def test_links_come_back_with_a_backup(database_url: str, sqlite_template: str, tmp_path: Path) -> None:
    file = tmp_path / "desk.backup"
    async with an_office(database_url) as office:
        await a_linked_case(office)
        await backup(office.database, file)
    restored = open_database(copy_sqlite(sqlite_template, tmp_path / "restored.db"))
    await restore(file, restored)

    found = await client_links.by_secret(restored, "#una")
    assert found is not None
    assert found[0].client_link(found[1]) is not None
    assert (await verify(restored)).faults == ()
    await restored.close()


async def test_a_link_ends_by_itself(database_url: str) -> None:
    clock = Clock()
    async with an_office(database_url, clock) as office:
        await a_linked_case(office)
        clock.now += 90 * DAY - timedelta(seconds=1)
        await office.do(UNA, from_the_client("in time"))
        clock.now += timedelta(seconds=1)

        (late,) = await together(office.submit(UNA, from_the_client("too late")))

        assert isinstance(late, GuardRefused)
