"""Saved filters as they are stored: whose they are, who sees them, and that the log accounts for each."""

from collections.abc import AsyncIterator

import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy import text

from storage import people
from storage.people import KeptFilter
from tests.storage.desks import Office, a_key, an_office
from tests.workflow.builders import ANA, BO, LOU
from workflow.people import RemoveFilter, SaveFilter, person_chain

OWN = SaveFilter(person_id="ana", filter_id="f1", name="Una", query="q=una")
SHARED = SaveFilter(person_id="bo", filter_id="f2", name="billing", query="category=billing", shared=True)
OF_BO = KeptFilter(id="f2", person_id="bo", name="billing", query="category=billing", shared=True)


@pytest_asyncio.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    async with an_office(database_url) as opened:
        await opened.submit(ANA, OWN, None)
        await opened.submit(BO, SHARED, None)
        await opened.submit(BO, replace(SHARED, filter_id="f3", name="mine alone", shared=False), None)
        yield opened


async def seen_by(office: Office, reader: str) -> list[KeptFilter]:
    return await people.filters(office.database, await people.everybody(office.database), reader)


async def test_everybody_sees_their_own_filters_and_what_others_share(office: Office) -> None:
    own = KeptFilter(id="f1", person_id="ana", name="Una", query="q=una", shared=False)

    assert await seen_by(office, "ana") == [own, OF_BO]
    assert await seen_by(office, "lou") == [OF_BO]
    assert [one.id for one in await seen_by(office, "bo")] == ["f2", "f3"]


async def test_what_a_lead_removes_is_gone_for_all_and_the_log_leads_to_the_same_people(office: Office) -> None:
    await office.submit(LOU, RemoveFilter(person_id="bo", filter_id="f2"), None)

    assert [one.id for one in await seen_by(office, "bo")] == ["f3"]
    assert await office.faults() == []


async def test_the_same_form_sent_twice_saves_once(office: Office) -> None:
    for filter_id in ("f4", "f5"):
        await office.submit(ANA, replace(OWN, filter_id=filter_id), None, key=a_key())

    assert [one.id for one in await seen_by(office, "ana")] == ["f1", "f4", "f2"]


async def test_a_filter_leaves_the_persons_name_as_it_is(office: Office) -> None:
    names = await people.names(office.database)

    assert names["ana"] == {"name": "ana", "email": "ana@step-into.example"}


async def test_a_filter_whose_texts_are_gone_is_shown_no_more(office: Office) -> None:
    gone = text("DELETE FROM personal WHERE chain = :chain AND field LIKE 'filter%'").bindparams(
        chain=person_chain("bo")
    )
    await office.database.transact(lambda connection: connection.execute(gone))

    assert [one.id for one in await seen_by(office, "ana")] == ["f1"]
