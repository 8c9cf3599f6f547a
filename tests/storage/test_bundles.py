"""A bundle holds what proves a case, from either database, and nothing of anybody else's."""

import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection

from api import casework_verify as verifier
from storage import bundles
from storage.notes import Note, Signer, Unsigned
from storage.sequencer import Sequencer
from tests.databases import RawSql, raw_sql, run_sync
from tests.storage.desks import NOTE, an_office
from tests.storage.full_desk import EVIDENCE, fill
from tests.storage.proofs import Log, disarm
from tests.workflow.builders import ANA
from workflow.errors import NotFound

T = TypeVar("T")


@pytest.fixture
def desk_url(database_url: str) -> str:
    return fill(database_url)


class Told:
    """The log of a database, and what it tells of a case."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.log = Log.of(connection)

    def bundle(self, chain: str = "case:A", size: int | None = None, since: Iterable[int] = (), **how: bool) -> bytes:
        size = self.log.size if size is None else size
        return self.log.bundle(bundles.evidence(self.connection, chain, size, **how), size, since)


async def numbered(url: str) -> None:
    async with an_office(url) as office:
        await Sequencer(office.database).catch_up()


async def looking(url: str, work: Callable[[Told], T]) -> T:
    """What `work` returns, of the log with every event in its place."""
    await numbered(url)
    return run_sync(url, lambda connection: work(Told(connection)))


def faults(bundle: bytes, told: Told) -> list[str]:
    trusted = [verifier.parsed_key(str(told.log.signer.verifier))]
    return [one.text for one in verifier.verify(bundle, trusted) if one.verdict == verifier.FAILS]


async def test_the_bundle_of_every_case_verifies(desk_url: str) -> None:
    def check(told: Told) -> int:
        chains = told.connection.exec_driver_sql("SELECT id FROM cases").scalars().all()
        for case_id in chains:
            for redacted in (False, True):
                assert faults(told.bundle(f"case:{case_id}", redacted=redacted), told) == []
        return len(chains)

    assert await looking(desk_url, check) == 5


async def test_the_events_are_the_very_bytes_that_are_stored(desk_url: str) -> None:
    def check(told: Told) -> None:
        bundle = told.bundle()
        for (body,) in told.connection.exec_driver_sql("SELECT body FROM events WHERE chain = 'case:A'"):
            assert body.encode() in bundle

    await looking(desk_url, check)


async def test_the_same_case_at_the_same_checkpoint_gives_the_same_file(desk_url: str) -> None:
    def check(told: Told) -> None:
        assert told.bundle(since=(5, 3)) == told.bundle(since=[3, 5, 5, 0, told.log.size, told.log.size + 1])

    await looking(desk_url, check)


async def test_a_bundle_tells_what_had_happened_when_its_checkpoint_was_signed(desk_url: str) -> None:
    size = await looking(desk_url, lambda told: told.log.size)
    async with an_office(desk_url) as office:
        await office.do(ANA, NOTE)

    def check(told: Told) -> None:
        then, now = (json.loads(told.bundle(size=one)) for one in (size, None))
        assert [one["event"] for one in then["case"]] == [one["event"] for one in now["case"]][:-1]
        assert max(one["seq"] for one in then["openings"]) < max(one["seq"] for one in now["openings"])
        assert faults(told.bundle(size=size), told) == []
        with pytest.raises(NotFound):
            told.bundle(size=2)

    await looking(desk_url, check)


async def test_texts_are_opened_and_files_when_they_are_asked_for(desk_url: str) -> None:
    def check(told: Told) -> None:
        plain, whole = json.loads(told.bundle()), json.loads(told.bundle(files=True))
        redacted = json.loads(told.bundle(files=True, redacted=True))
        texts = {one["field"]: one.get("value") for one in plain["openings"]}
        assert texts["subject"] == "The banners / Баннеры"
        assert "content" not in texts
        assert [one["field"] for one in whole["openings"] if "base64" in one] == ["content"]
        assert redacted["openings"] == []
        assert redacted["case"] == plain["case"] == whole["case"]

    await looking(desk_url, check)


async def test_files_that_are_too_large_together_are_not_put_into_a_bundle(
    desk_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(told: Told) -> None:
        assert told.bundle(files=True)
        monkeypatch.setattr(bundles, "MAX_FILE_BYTES", len(EVIDENCE.content) - 1)
        with pytest.raises(bundles.TooLarge):
            told.bundle(files=True)
        assert told.bundle()

    await looking(desk_url, check)


async def test_what_was_erased_is_not_opened_and_the_rest_verifies(desk_url: str) -> None:
    with raw_sql(desk_url) as raw:
        erase(raw)

    def check(told: Told) -> None:
        bundle = told.bundle()
        assert faults(bundle, told) == []
        assert "subject" not in {one["field"] for one in json.loads(bundle)["openings"]}

    await looking(desk_url, check)


def erase(raw: RawSql) -> None:
    raw.run("DELETE FROM personal WHERE chain = 'case:A' AND field = 'subject'")


async def test_a_bundle_holds_the_rules_of_its_case_and_no_later_ones(desk_url: str) -> None:
    def check(told: Told) -> None:
        bundle = json.loads(told.bundle())
        events = [one["event"] for one in bundle["case"]]
        assert bundle["settings"][-1]["event"]["data"]["lifecycle"] in {one["lifecycle"] for one in events}
        assert bundle["policy"][-1]["event"]["seq"] == max(one["policy"] for one in events)
        chains = {one["event"]["chain"] for part in ("case", "settings", "policy") for one in bundle[part]}
        assert chains == {"case:A", "desk:settings", "desk:policy"}

    await looking(desk_url, check)


async def test_a_bundle_carries_the_desks_own_signature_alone(desk_url: str) -> None:
    def check(told: Told) -> None:
        witness = Signer("witness", bytes(32))
        checkpoint = told.log.checkpoint()
        seen = Note(checkpoint.text, (witness.signature(checkpoint.text), *checkpoint.signatures))
        found = bundles.evidence(told.connection, "case:A", told.log.size)
        assert bundles.bundle(found, seen, told.log.node, told.log.signer) == told.bundle()
        with pytest.raises(Unsigned):
            bundles.bundle(found, seen, told.log.node, Signer(told.log.signer.verifier.name, bytes(32)))

    await looking(desk_url, check)


@pytest.mark.parametrize(
    ("attack", "level"),
    [
        (
            'UPDATE events SET body = replace(body, \'"via":"api"\', \'"via":"cli"\') WHERE chain = \'case:A\'',
            "inclusion",
        ),
        ("UPDATE personal SET value = 'another' WHERE chain = 'case:A' AND field = 'subject'", "openings"),
        ("DELETE FROM events WHERE chain = 'case:A' AND seq = 9", "chain"),
    ],
)
async def test_what_was_changed_in_the_database_after_it_was_signed_is_found(
    desk_url: str, attack: str, level: str
) -> None:
    def check(connection: Connection) -> Any:
        told = Told(connection)
        connection.rollback()
        with raw_sql(desk_url) as raw:
            disarm(raw)
            raw.run(attack)
        return [one.level for one in verifier.verify(told.bundle()) if one.verdict == verifier.FAILS]

    await numbered(desk_url)
    assert level in run_sync(desk_url, check)
