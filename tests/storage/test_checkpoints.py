"""A checkpoint is signed only of a log that goes on from the last one, and its key stays where it belongs."""

import asyncio
import stat
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from storage import keys, notes
from storage.backup import backup, restore
from storage.database import open_database
from storage.keys import CannotSign, announcements
from storage.notes import Checkpoint, Note, Signer, Verifier
from storage.sequencer import Sequencer
from storage.tree import BrokenTree, Tree
from storage.verify import Verification, verify
from tests.databases import REFUSALS, RawSql, copy_sqlite, raw_sql
from tests.storage.desks import NOTE, an_office
from tests.storage.full_desk import fill
from tests.storage.signing import SignedDesk, signed_desk
from tests.storage.test_verify import undefended
from tests.workflow.builders import ANA, NOON
from workflow.events import SigningKeyAnnounced, at_text

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"])


@pytest.fixture
def full_url(database_url: str) -> str:
    return fill(database_url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
async def desk(full_url: str, folder: Path) -> AsyncIterator[SignedDesk]:
    async with signed_desk(full_url, folder) as opened:
        yield opened


async def more(url: str, notes_added: int = 3) -> None:
    async with an_office(url) as office:
        for _ in range(notes_added):
            await office.do(ANA, NOTE, "A")


async def vkeys(desk: SignedDesk) -> list[str]:
    return [one.vkey for one in await desk.database.run(announcements)]


def verifiers(texts: list[str]) -> list[Verifier]:
    return [Verifier.parse(one) for one in texts]


# Signing.


async def test_a_checkpoint_tells_size_and_root_under_the_name_of_the_log(desk: SignedDesk) -> None:
    signed = await desk.settle()

    note = Note.parse(signed.note.encode())
    assert notes.verify(note, verifiers(await vkeys(desk)))
    checkpoint = Checkpoint.parse(note.text)
    root = await desk.database.run(lambda connection: Tree(connection).root(checkpoint.size))
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (await keys.log_of(desk.database), 61, root)
    assert desk.keys.checkpoint.read_text() == signed.note
    assert await desk.faults() == []


async def test_nothing_is_signed_again_until_something_has_happened(desk: SignedDesk, full_url: str) -> None:
    first = await desk.settle()
    before = desk.keys.checkpoint.stat()

    assert await desk.settle() == first
    assert desk.keys.checkpoint.stat().st_mtime_ns == before.st_mtime_ns
    with raw_sql(full_url) as raw:
        assert raw.run("SELECT count(*) FROM checkpoints") == [(1,)]

    await more(full_url)
    assert (await desk.settle()).size == first.size + 3


async def test_a_desk_without_events_to_cover_signs_nothing(database_url: str, folder: Path) -> None:
    async with an_office(database_url, staff=()):
        pass
    async with signed_desk(database_url, folder) as desk:
        await desk.sequencer.sign()  # nothing is in the tree yet

        kept = Checkpoint.parse(desk.keys.kept().text)
        assert (kept.size, kept.root.hex()[:8]) == (0, "e3b0c442")
        with raw_sql(database_url) as raw:
            assert raw.run("SELECT * FROM checkpoints") == []


async def test_several_processes_sign_one_after_another(
    desk: SignedDesk, full_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_desk(full_url, folder) as other:
        assert await desk.settle() == await other.settle()
        await more(full_url)
        monkeypatch.setattr(keys, "WAIT_SECONDS", 0.05)
        async with desk.keys.locked():
            with pytest.raises(CannotSign, match="another process"):
                await other.settle()
        assert (await other.settle()).size == (await desk.settle()).size


async def test_the_sequencer_signs_by_itself_and_tells_why_it_cannot(
    desk: SignedDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PAUSE_SECONDS", "TREE_SECONDS", "CHECKPOINT_SECONDS"):
        monkeypatch.setattr(f"storage.sequencer.{name}", 0.01)
    await desk.sequencer.open()
    try:
        await eventually(lambda: desk.keys.checkpoint.read_text().split("\n")[1] == "61")
        desk.keys.key.chmod(0o640)
        await eventually(lambda: "chmod 600" in desk.sequencer.faults.get("checkpoints", ""))
        desk.keys.key.chmod(0o600)
        await eventually(lambda: not desk.sequencer.faults)
    finally:
        await desk.sequencer.close()
    assert await desk.faults() == []


async def test_a_log_that_cannot_even_be_read_does_not_end_the_sequencer(
    desk: SignedDesk, full_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PAUSE_SECONDS", "TREE_SECONDS", "CHECKPOINT_SECONDS"):
        monkeypatch.setattr(f"storage.sequencer.{name}", 0.01)
    with raw_sql(full_url) as raw, undefended(raw):
        ((body,),) = raw.run("SELECT body FROM events WHERE chain = 'desk:signing'")
        await desk.sequencer.open()
        try:
            raw.run("UPDATE events SET body = '{}' WHERE chain = 'desk:signing'")
            await eventually(lambda: "checkpoints" in desk.sequencer.faults)
            raw.run("UPDATE events SET body = ?1 WHERE chain = 'desk:signing'", body)
            await eventually(lambda: not desk.sequencer.faults)
        finally:
            await desk.sequencer.close()


@on_sqlite
async def test_verifying_takes_no_more_memory_for_more_checkpoints(desk: SignedDesk, full_url: str) -> None:
    async def most() -> int:
        tracemalloc.start()
        try:
            assert await desk.faults()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await desk.settle()
    with raw_sql(full_url) as raw, undefended(raw):
        raw.run("UPDATE checkpoints SET size = 1")
        few = await most()
        raw.run(
            "WITH RECURSIVE some(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM some WHERE n < 6000)"
            " INSERT INTO checkpoints (origin, size, root, note, at) SELECT origin, n, root, note, at"
            " FROM some, (SELECT * FROM checkpoints WHERE size = 1)"
        )

    assert await most() < few + 1_000_000


@on_sqlite
async def test_while_nothing_happens_signing_waits_for_no_writer(desk: SignedDesk, full_url: str) -> None:
    await desk.settle()

    with raw_sql(full_url) as raw:
        raw.run("BEGIN IMMEDIATE")
        await desk.sequencer.sign()
        raw.run("ROLLBACK")


async def eventually(so: Callable[[], bool]) -> None:
    for _ in range(500):
        if so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not come about")


# Refusing.


async def refusal(desk: SignedDesk) -> str:
    with pytest.raises(CannotSign) as refused:
        await desk.sequencer.settle()
    return str(refused.value)


@on_sqlite
async def test_after_a_rollback_nothing_is_signed_until_the_operator_adopts_it(
    desk: SignedDesk, full_url: str, folder: Path, tmp_path: Path
) -> None:
    await desk.settle()
    await desk.database.close()
    with raw_sql(full_url) as raw:
        raw.run("PRAGMA wal_checkpoint(TRUNCATE)")
    older = copy_sqlite(full_url, tmp_path / "older.db")
    await more(full_url)
    last = await desk.settle()

    async with signed_desk(older, folder) as rolled_back:
        said = await refusal(rolled_back)
        assert "the log has shrunk: a checkpoint over 64 events was signed, and there are 61" in said
        assert "casework checkpoint adopt" in said
        assert any("over 64 events, and there are 61" in fault for fault in await rolled_back.faults())

        await more(older, 5)  # longer than what was signed, and another history
        assert "its first 64 events are not those" in await refusal(rolled_back)

        await keys.adopt(rolled_back.database, folder, NOON)
        signed = await rolled_back.settle()

        assert signed.origin == f"{last.origin}/{at_text(NOON)}"
        announced = (await rolled_back.database.run(announcements))[-1]
        assert announced.abandoned == last.note
        assert await rolled_back.faults() == []


async def test_a_log_that_was_rewritten_is_not_signed(desk: SignedDesk, raw: RawSql) -> None:
    await desk.settle()
    with undefended(raw):
        ((hashes,),) = raw.run("SELECT hashes FROM tiles WHERE level = 0")
        raw.run("UPDATE tiles SET hashes = ?1 WHERE level = 0", hashes[32:64] + hashes[32:])
        raw.run("DELETE FROM checkpoints")

    assert "not those for which a checkpoint was signed" in await refusal(desk)
    assert raw.run("SELECT * FROM checkpoints") == []


async def test_a_log_whose_end_was_replaced_does_not_grow_under_what_was_signed(
    desk: SignedDesk, raw: RawSql, full_url: str
) -> None:
    signed = await desk.settle()
    with undefended(raw):
        raw.run("DELETE FROM positions WHERE position = ?1", signed.size)
        raw.run("DELETE FROM events WHERE id NOT IN (SELECT event_id FROM positions)")

    for _ in range(2):
        with pytest.raises(BrokenTree, match=f"the event that the tree has at position {signed.size} is gone, or anot"):
            await desk.settle()
        await more(full_url)


async def test_without_the_last_checkpoint_nothing_is_signed(desk: SignedDesk, full_url: str) -> None:
    await desk.settle()
    await more(full_url)
    kept = desk.keys.checkpoint.read_bytes()
    desk.keys.checkpoint.unlink()

    assert "is missing: put it back" in await refusal(desk)
    assert any("is missing" in fault for fault in await desk.faults())

    desk.keys.checkpoint.write_bytes(kept[:-10])
    assert "is damaged" in await refusal(desk)
    desk.keys.checkpoint.write_bytes(kept)
    assert (await desk.settle()).size == 64


async def test_a_checkpoint_that_was_kept_but_not_shown_is_shown_and_not_signed_anew(
    desk: SignedDesk, raw: RawSql
) -> None:
    signed = await desk.settle()
    with undefended(raw):
        raw.run("DELETE FROM checkpoints")  # as if the process had died just before

    assert await desk.settle() == signed


# The key.


async def test_the_key_and_what_lies_beside_it_are_for_their_owner_alone(desk: SignedDesk, folder: Path) -> None:
    await desk.settle()
    await keys.rotate(desk.database, folder, NOON)

    modes = {path.suffix: mode_of(path) for path in (desk.keys.key, desk.keys.checkpoint, desk.keys.lock)}
    assert modes == dict.fromkeys((".key", ".checkpoint", ".lock"), 0o600)
    assert mode_of(folder) == 0o700
    assert not desk.keys.next_key.exists()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
async def test_a_key_that_others_can_read_is_not_used(desk: SignedDesk, mode: int) -> None:
    desk.keys.key.chmod(mode)

    said = await refusal(desk)

    assert f"chmod 600 {desk.keys.key}" in said
    with pytest.raises(CannotSign, match="can be read by others"):
        await keys.ensure_key(desk.database, desk.keys.folder, NOON)


async def test_a_key_that_is_there_is_kept(desk: SignedDesk, folder: Path) -> None:
    before = desk.keys.key.read_bytes()

    await keys.ensure_key(desk.database, folder, NOON)

    assert desk.keys.key.read_bytes() == before
    assert len(await vkeys(desk)) == 1


async def test_a_key_that_is_gone_is_missed_and_not_made_again(desk: SignedDesk, folder: Path) -> None:
    await desk.settle()
    desk.keys.key.unlink()

    await keys.ensure_key(desk.database, folder, NOON)

    assert "is missing: casework migrate makes the first one of a log" in await refusal(desk)
    verifier = await keys.adopt(desk.database, folder, NOON)
    assert (await desk.settle()).origin == verifier.name
    assert await desk.faults() == []


async def test_the_old_key_introduces_the_new_one(desk: SignedDesk, folder: Path) -> None:
    first = await desk.settle()

    new = await keys.rotate(desk.database, folder, NOON)

    assert await vkeys(desk) == [*(await vkeys(desk))[:1], str(new)]
    second = await desk.settle()
    old_key, new_key = verifiers(await vkeys(desk))
    (announced,) = [one for one in await desk.database.run(announcements) if one.statement]
    assert notes.verify(Note.parse(announced.statement.encode()), [old_key])
    assert notes.verify(Note.parse(second.note.encode()), [new_key])
    with pytest.raises(notes.Unsigned):
        notes.verify(Note.parse(second.note.encode()), [old_key])
    assert (first.origin, first.size + 1) == (second.origin, second.size)
    assert await desk.faults() == []


def unsaid(data: SigningKeyAnnounced) -> SigningKeyAnnounced:
    return replace(data, statement="")


def about_another(data: SigningKeyAnnounced) -> SigningKeyAnnounced:
    return replace(data, vkey=str(Signer(data.origin, bytes(32)).verifier))


def of_another_log(_: SigningKeyAnnounced) -> SigningKeyAnnounced:
    return SigningKeyAnnounced(origin="elsewhere", vkey=str(Signer("elsewhere", bytes(32)).verifier))


def by_nobody(data: SigningKeyAnnounced) -> SigningKeyAnnounced:
    stranger = Signer(data.origin, bytes(32))
    return replace(data, statement=str(notes.sign(keys.statement_of(data.origin, data.vkey), stranger)))


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (unsaid, "has not stated this"),
        (about_another, "is about another key"),
        (of_another_log, "is of another log"),
        (by_nobody, "no known key has signed"),
    ],
)
async def test_a_forged_announcement_is_found(
    desk: SignedDesk, forge: Callable[[SigningKeyAnnounced], SigningKeyAnnounced], words: str
) -> None:
    log = await keys.log_of(desk.database)
    vkey = str(Signer.generate(log).verifier)
    statement = notes.sign(keys.statement_of(log, vkey), desk.keys.signer())
    forged = forge(SigningKeyAnnounced(origin=log, vkey=vkey, statement=str(statement)))
    await desk.database.transact(lambda connection: keys.announce(connection, forged, log, NOON))

    assert any(words in fault for fault in await desk.faults())


async def test_a_stored_checkpoint_can_be_neither_changed_nor_taken_away(desk: SignedDesk, raw: RawSql) -> None:
    await desk.settle()

    for statement in (
        "UPDATE checkpoints SET size = 1",
        "DELETE FROM checkpoints",
        "INSERT INTO checkpoints (origin, size, root, note, at) SELECT origin, size, root, '', at FROM checkpoints",
    ):
        with pytest.raises(REFUSALS, match=r"checkpoints_are_never|one_checkpoint_per_size"):
            raw.run(statement)


async def test_a_verification_that_sees_no_checkpoint_outside_says_so(desk: SignedDesk, tmp_path: Path) -> None:
    await desk.settle()

    report = await verify(desk.database, folder=tmp_path / "nowhere")

    assert report.faults == ()
    assert "no checkpoint outside the database was looked at" in str(report.warnings)


async def test_a_restored_log_is_the_one_that_was_signed(
    desk: SignedDesk, folder: Path, tmp_path: Path, sqlite_template: str
) -> None:
    signed = await desk.settle()
    await backup(desk.database, tmp_path / "desk.backup")
    restored = open_database(copy_sqlite(sqlite_template, tmp_path / "restored.db"))
    await restore(tmp_path / "desk.backup", restored)
    await restored.close()

    async with signed_desk(f"sqlite:///{tmp_path / 'restored.db'}", folder) as elsewhere:
        assert await elsewhere.faults() == []  # before there is a tree again
        assert await elsewhere.settle() == signed
        assert await elsewhere.faults() == []


async def test_a_tree_that_is_made_anew_is_waited_for(desk: SignedDesk, raw: RawSql, full_url: str) -> None:
    signed = await desk.settle()
    with undefended(raw):
        raw.run("DELETE FROM tiles")  # as after a restore

    await desk.sequencer.sign()  # neither refused nor signed

    assert await desk.settle() == signed
    database = open_database(full_url)
    assert await Sequencer(database).lag() == 0
    await database.close()


async def test_a_log_that_grows_while_it_is_verified_has_not_been_cut_off(
    desk: SignedDesk, full_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.settle()
    look_at_purchases = Verification.purchases

    async def others_go_on(verification: Verification) -> None:
        await more(full_url)
        await keys.rotate(desk.database, desk.keys.folder, NOON)
        assert (await desk.settle()).size == 65
        await look_at_purchases(verification)

    monkeypatch.setattr(Verification, "purchases", others_go_on)

    assert await desk.faults() == []


async def test_nobody_gives_a_checkpoint_up_by_saying_so_in_the_database(desk: SignedDesk, raw: RawSql) -> None:
    last = await desk.settle()
    with undefended(raw):
        raw.run("DELETE FROM tiles")
        raw.run("DELETE FROM checkpoints")
        raw.run("DELETE FROM positions WHERE event_id = (SELECT max(id) FROM events)")
        raw.run("DELETE FROM events WHERE id = (SELECT max(id) FROM events)")
    forger = Signer.generate(f"{await keys.log_of(desk.database)}/{at_text(NOON)}")
    said = SigningKeyAnnounced(origin=forger.verifier.name, vkey=str(forger.verifier), abandoned=last.note)
    await desk.database.transact(lambda connection: keys.announce(connection, said, desk.keys.key.stem, NOON))
    await desk.sequencer.catch_up()
    await desk.sequencer.grow()

    found = [one for one in await desk.faults() if "constraint" not in one]

    assert any("is not the one that the log announced last" in one for one in found), found
    assert any("the last checkpoint" in one and "not the first 61 of this log" in one for one in found), found
