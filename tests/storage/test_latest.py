"""The feed backwards: what happened last, of which type, by whom and in which chain."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from storage import cases, checkpoints, reviewing
from storage.cases import Sought
from storage.sequencer import Sequencer
from tests.storage.desks import NOTE, OPERATOR, Office, an_office
from tests.workflow.builders import ANA, BO
from workflow.people import SetRoles
from workflow.roles import Role


def told(url: str, ask: Callable[[Office], Coroutine[Any, Any, Any]]) -> Any:
    """What is answered after a case was opened by mail, taken on by Ana, and both have written notes."""

    async def run() -> Any:
        async with an_office(url) as office:
            await office.investigate(ANA)
            for actor in (ANA, BO, ANA, BO):
                await office.do(actor, NOTE)
            await Sequencer(office.database).catch_up()
            return await ask(office)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("sought", "expected"),
    [
        (Sought(kind="note_added"), ["person:bo", "person:ana", "person:bo", "person:ana"]),
        (Sought(kind="note_added", actor="person:bo"), ["person:bo", "person:bo"]),
        (Sought(chain="case:A", actor="system:"), ["system:mail", "system:mail"]),
        (Sought(chain="case:A", actor="person:a"), []),
        (Sought(chain="case:%"), []),
        (Sought(actor="person:%"), []),
        (Sought(kind="nothing"), []),
    ],
)
def test_what_is_sought_comes_newest_first(database_url: str, sought: Sought, expected: list[str]) -> None:
    async def ask(office: Office) -> list[str]:
        found, more = await cases.latest(office.database, sought, None, 100)
        assert more is None
        return [one.event.actor for _, one in found]

    assert told(database_url, ask) == expected


async def paged(office: Office, sought: Sought) -> list[int]:
    """The positions on all pages."""
    positions: list[int] = []
    before: int | None = None
    while True:
        found, before = await cases.latest(office.database, sought, before, 2)
        positions += [position for position, _ in found]
        if before is None:
            return positions


def test_page_by_page_every_event_comes_once_down_to_the_first(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "LOOKED_BACK", 5)

    async def ask(office: Office) -> tuple[list[int], list[int], int]:
        everything, first = [await paged(office, sought) for sought in (Sought(), Sought(kind="desk_created"))]
        return everything, first, len(await cases.feed(office.database, 0, 1000))

    everything, first, count = told(database_url, ask)
    assert everything == list(range(count, 0, -1))
    assert len(first) == 1


def test_an_event_has_its_position_and_no_checkpoint_before_one_is_signed(database_url: str) -> None:
    async def ask(office: Office) -> None:
        ((position, one),) = (await cases.latest(office.database, Sought(), None, 1))[0]
        assert await cases.position_of(office.database, one.event.chain, one.event.seq) == position
        assert await cases.position_of(office.database, one.event.chain, 99) is None
        assert await checkpoints.covering(office.database, position) is None
        assert await cases.numbers_of(office.database, ["A", "nobody"]) == {
            "A": await cases.number_of(office.database, "A")
        }

    told(database_url, ask)


def test_roles_are_those_that_were_held_then(database_url: str) -> None:
    async def ask(office: Office) -> list[tuple[Role, ...]]:
        before = (await cases.latest(office.database, Sought(), None, 1))[0][0][0]
        await office.submit(OPERATOR, SetRoles(person_id="ana", roles=(Role.LEAD,)), None)
        await Sequencer(office.database).catch_up()
        return [
            await reviewing.roles_then(office.database, "person:ana", before),
            await reviewing.roles_then(office.database, "person:ana", before + 2),
            await reviewing.roles_then(office.database, "system:mail", before),
        ]

    assert told(database_url, ask) == [(Role.AGENT,), (Role.LEAD,), ()]
