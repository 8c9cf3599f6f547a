"""The demonstration desk: lived in, the same on every machine, and never in anybody's way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from api.demo import NotADemonstration, demonstrate
from api.demo_stories import PEOPLE, STORIES
from api.settings import Settings
from storage import cases, outbox, people
from storage.database import Database, open_database
from storage.keys import ensure_key
from storage.verify import verify
from tests.databases import copy_sqlite, sqlite_url
from tests.processes import key_folder
from workflow.cases import Case
from workflow.events import AttemptRefused, Recorded
from workflow.policy import Category
from workflow.roles import STAFF_ROLES
from workflow.states import CaseState, CompensationKind, ProposalStatus, Resolution

NOW = datetime(2026, 3, 5, 15, 30, tzinfo=UTC)
TODAY = datetime.combine(NOW, time.min, UTC)


def now() -> datetime:
    return NOW


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = sqlite_url(tmp_path_factory.mktemp("demo") / "demo.db")
    asyncio.run(demonstrate(settings_of(url), clock=now))
    return url


def settings_of(url: str) -> Settings:
    return Settings(database_url=url, key_folder=key_folder(url), smtp_url=SecretStr("smtp://localhost:9"))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = open_database(url)
    yield database
    await database.close()


async def all_cases(url: str) -> list[Case]:
    async with opened(url) as database:
        rows = await database.rows(text("SELECT id FROM cases ORDER BY number"))
        return [stored[0] for (one,) in rows if (stored := await cases.stored(database, one)) is not None]


async def all_events(url: str) -> list[Recorded]:
    async with opened(url) as database:
        return [one for _, one, _ in await cases.feed(database, 0, 10_000)]


# What there is to see.


async def test_it_has_about_forty_cases_in_all_states_of_all_categories_and_with_every_resolution(filled: str) -> None:
    found = await all_cases(filled)

    assert len(found) == len(STORIES)
    assert 35 <= len(found) <= 45
    assert {case.state for case in found} == set(CaseState)
    assert {case.category for case in found} == set(Category)
    assert {case.resolution for case in found} == {None, *Resolution}


async def test_its_proposals_are_everywhere_a_proposal_can_be_but_withdrawn(filled: str) -> None:
    found = [proposal for case in await all_cases(filled) for proposal in case.proposals]

    assert {proposal.status for proposal in found} == set(ProposalStatus) - {ProposalStatus.WITHDRAWN}
    assert {proposal.judgement.clauses for proposal in found if proposal.judgement} == {("P5",), ("P6",)}
    assert {proposal.kind for proposal in found} >= {CompensationKind.SERVICE_CREDIT, CompensationKind.EXTRA_SERVICE}
    # One has the first of two approvals that its amount asks for.
    assert any(one.approvals and one.status is ProposalStatus.PROPOSED for one in found)


async def test_there_is_something_to_do(filled: str) -> None:
    found = [case for case in await all_cases(filled) if case.state is not CaseState.CLOSED]

    assert any(not case.is_answered for case in found)
    assert any(case.waiting_since for case in found)
    assert any(case.update_due and case.update_due < NOW and not case.waiting_since for case in found)
    assert any(case.update_due and case.update_due > NOW for case in found)
    assert any(case.offer_due and case.offer_due < NOW for case in found)
    assert any(case.offer_due and case.offer_due > NOW for case in found)
    assert any(ground.verified_by and not ground.verified for case in found for ground in case.grounds)
    assert any(not ground.verified_by for case in found for ground in case.grounds)
    assert any(case.unverified_of for case in found)


async def test_every_booked_consultation_lies_ahead(filled: str) -> None:
    booked = [case for case in await all_cases(filled) if case.state is CaseState.CONSULTATION_SCHEDULED]

    assert booked
    assert all(starts_at and starts_at > NOW for case in booked for starts_at in [case.remedies[-1].starts_at])


async def test_a_client_can_still_pick_each_of_the_times_that_were_proposed(filled: str) -> None:
    found = [case for case in await all_cases(filled) if case.proposed_slots]

    assert found
    assert all(case.waiting_since and case.is_answered for case in found)
    assert all(starts_at > NOW for case in found if case.proposed_slots for starts_at in case.proposed_slots.slots)


async def test_one_purchase_is_shared_by_two_cases(filled: str) -> None:
    references = [case.purchase.reference for case in await all_cases(filled) if case.purchase]

    assert len(references) - len(set(references)) == 1


async def test_what_was_tried_against_the_rules_is_remembered(filled: str) -> None:
    refused = [one.data for one in await all_events(filled) if isinstance(one.data, AttemptRefused)]

    assert len(refused) == sum(step.is_refused for story in STORIES for step in story.steps)
    assert {one.code for one in refused} == {"forbidden", "guard_refused", "no_such_transition"}


async def test_some_of_it_arrived_as_files_notes_and_mail_that_opened_nothing(filled: str) -> None:
    types = {one.event.type for one in await all_events(filled)}

    assert types >= {"attachment_added", "note_added", "mail_set_aside", "case_read", "message_bounced", "reopened"}


# How it came about.


async def test_it_all_happened_in_the_weeks_before_in_its_order(filled: str) -> None:
    moments = [one.at for one in await all_events(filled) if not one.event.type.startswith("token_")]

    assert moments == sorted(moments)
    assert moments[0] < TODAY - timedelta(weeks=8)
    assert TODAY - timedelta(days=1) < moments[-1] < TODAY
    assert len({moment.date() for moment in moments}) > 30


async def test_nobody_outside_hears_of_clients_who_do_not_exist(filled: str) -> None:
    async with opened(filled) as database:
        assert await outbox.listed(database) == []


async def test_every_part_of_it_stands_up_to_verification(empty_url: str) -> None:
    await demonstrate(settings_of(empty_url))

    async with opened(empty_url) as database:
        report = await verify(database)

    assert report.first is None
    assert report.counts["cases"] == len(STORIES)


async def test_the_same_day_gives_the_same_desk(filled: str, tmp_path: Path) -> None:
    other = sqlite_url(tmp_path / "other.db")

    await demonstrate(settings_of(other), clock=now)

    assert await told(other) == await told(filled)


async def told(url: str) -> tuple[list[Any], list[Any]]:
    """What happened, when, by whom; and every text. Salts, hashes and secrets are of each desk alone."""
    async with opened(url) as database:
        texts = await database.rows(
            text("SELECT seq, field, value FROM personal WHERE chain LIKE 'case:%' ORDER BY chain, seq, field")
        )
    events = [
        (one.event.type, one.event.at, one.event.actor, one.event.state_after, dict(one.event.data) | {"digest": None})
        for one in await all_events(url)
        if not one.event.type.startswith(("token_", "desk_", "signing_"))
    ]
    return events, [tuple(row) for row in texts]


# Coming back.


async def test_there_is_a_token_for_everybody_and_every_role(filled: str, tmp_path: Path) -> None:
    url = copy_sqlite(filled, tmp_path / "copy.db")

    passes = await demonstrate(settings_of(url), clock=now)

    assert [one.name for one in passes] == list(PEOPLE)
    assert {one.roles for one in passes} == set(STAFF_ROLES)
    async with opened(url) as database:
        assert all([await people.by_token(database, people.secret_hash(one.token)) for one in passes])


async def test_a_second_time_nothing_is_told_again_and_only_its_own_tokens_end(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "demo.db")
    earlier = await demonstrate(settings_of(url))
    before = await all_events(url)

    later = await demonstrate(settings_of(url))

    news = (await all_events(url))[len(before) :]
    assert {one.event.type for one in news} == {"token_revoked", "token_created"}
    async with opened(url) as database:
        assert await people.by_token(database, people.secret_hash(earlier[0].token)) is None
        assert await people.by_token(database, people.secret_hash(later[0].token)) is not None


async def test_a_desk_where_others_work_is_left_alone(desk_url: str) -> None:
    async with opened(desk_url) as database:
        await ensure_key(database, key_folder(desk_url), TODAY)  # which every SQLite desk has once it was opened
    before = await size(desk_url)

    with pytest.raises(NotADemonstration):
        await demonstrate(settings_of(desk_url))

    assert await size(desk_url) == before


async def size(url: str) -> list[int]:
    async with opened(url) as database:
        rows = await database.rows(text("SELECT count(*) FROM events UNION ALL SELECT count(*) FROM tokens"))
        return [count for (count,) in rows]
