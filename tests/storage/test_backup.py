"""A backup is a whole desk or no file; what is restored from it is the same desk, whatever database it came from."""

import asyncio
import gzip
import hashlib
import resource
import stat
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from storage import cases, defences, schema
from storage.backup import (
    DamagedBackup,
    NotEmpty,
    NotMigrated,
    OtherRevision,
    Progress,
    backup,
    check,
    restore,
    tables,
)
from storage.cases import Filter, Sort
from storage.database import Database, open_database
from storage.verify import verify
from tests.databases import PostgresServer, RawSql, copy_sqlite, raw_sql
from tests.storage.desks import NOTE, Office, an_office
from tests.storage.full_desk import fill
from tests.workflow.builders import ANA, NOON, from_the_client

T = TypeVar("T")

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"])


@pytest.fixture
def desk_url(database_url: str) -> str:
    """A desk on which a bit of everything has happened."""
    return fill(database_url)


@pytest.fixture(params=["sqlite", "postgresql"])
def other_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A second database, migrated and empty, of each kind."""
    if request.param == "sqlite":
        yield copy_sqlite(request.getfixturevalue("sqlite_template"), tmp_path / "other.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database(request.getfixturevalue("postgres_template"))
    yield url
    server.drop_database(url)


@pytest.fixture
def into(other_url: str) -> Iterator[RawSql]:
    with raw_sql(other_url) as connection:
        yield connection


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "desk.backup"


def on(url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    """What `work` returns, given the opened database."""

    async def run() -> T:
        database = open_database(url)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def back_up(url: str, target: Path, progress: Progress | None = None) -> Path:
    on(url, lambda database: backup(database, target, progress))
    return target


def bring_back(source: Path, url: str, progress: Progress | None = None) -> None:
    on(url, lambda database: restore(source, database, progress))


def found_by(url: str, words: str) -> list[str]:
    """The ids of the cases that a search finds."""
    how: dict[str, Any] = {"now": NOON, "after": None, "limit": 50}
    page = on(url, lambda database: cases.listing(database, Filter(q=words), Sort.OLDEST, **how))
    return [one.entry.case.id for one in page]


def at_the(url: str, work: Callable[[Office], Awaitable[T]]) -> T:
    """What `work` returns, given the office over the database."""

    async def run() -> T:
        async with an_office(url) as office:
            return await work(office)

    return asyncio.run(run())


def lines_of(source: Path) -> list[bytes]:
    return gzip.decompress(source.read_bytes()).splitlines(keepends=True)


def rows_of(source: Path) -> set[tuple[str, bytes]]:
    """Every row with its table; of events without their positions."""
    found, table = set(), ""
    for line in lines_of(source)[1:-1]:
        if line.startswith(b"{"):
            table = msgspec.json.decode(line)["table"]
        else:
            found.add((table, line.rpartition(b",")[0] if table == "events" else line))
    return found


def is_empty(raw: RawSql) -> bool:
    names = [*(table.name for table in tables()), "positions", "pending_events", "tiles", "case_search"]
    return not any(raw.run(f"SELECT 1 FROM {name} LIMIT 1") for name in names)


# There and back.


def test_a_restored_desk_is_the_same_and_verifies_clean(
    desk_url: str, other_url: str, file: Path, tmp_path: Path
) -> None:
    back_up(desk_url, file)

    bring_back(file, other_url)

    report = on(other_url, verify)
    assert rows_of(back_up(other_url, tmp_path / "again.backup")) == rows_of(file)
    assert report.faults == ()
    assert report.counts["events"] == 60
    assert report.counts["attachments"] == 2


def test_events_keep_their_positions(desk_url: str, into: RawSql, other_url: str, file: Path) -> None:
    bring_back(back_up(desk_url, file), other_url)

    positions = "SELECT position, chain, seq FROM positions JOIN events ON events.id = event_id ORDER BY position"
    with raw_sql(desk_url) as raw:
        before = raw.run(positions)
    after = into.run(positions)
    assert after[: len(before)] == before
    assert len(after) == (60 if into.dialect == "sqlite" else len(before))


def test_work_goes_on_where_it_was_left(desk_url: str, other_url: str, file: Path) -> None:
    bring_back(back_up(desk_url, file), other_url)

    opened = at_the(other_url, lambda office: office.open("F", purchase=None))
    noted = at_the(other_url, lambda office: office.do(ANA, NOTE, "A"))

    assert opened.number == 1006
    assert noted.version == 16
    assert on(other_url, verify).faults == ()


def test_what_was_found_by_its_words_is_found_again(desk_url: str, other_url: str, file: Path) -> None:
    at_the(desk_url, lambda office: office.do(ANA, from_the_client("Where is the zeppelin?"), "A"))

    bring_back(back_up(desk_url, file), other_url)

    found = {
        words: found_by(other_url, words) for words in ("баннеры", "zeppelin", "never ran", "una", "nothing of it")
    }
    assert found == {
        "баннеры": ["A"],
        "zeppelin": ["A"],
        "never ran": ["A", "B", "C", "D", "E"],
        "una": ["A", "B", "C", "D", "E"],
        "nothing of it": [],
    }


def test_a_case_whose_texts_were_erased_can_be_found_by_new_ones(desk_url: str, other_url: str, file: Path) -> None:
    with raw_sql(desk_url) as raw:
        raw.run("DELETE FROM personal WHERE chain = 'case:A'")
    bring_back(back_up(desk_url, file), other_url)

    at_the(other_url, lambda office: office.do(ANA, from_the_client("Where is the zeppelin?"), "A"))

    assert found_by(other_url, "zeppelin") == ["A"]


def test_a_database_in_which_nothing_has_happened_can_be_kept_too(
    database_url: str, other_url: str, into: RawSql, file: Path
) -> None:
    bring_back(back_up(database_url, file), other_url)

    assert check(file).log == ""
    assert is_empty(into)


def test_a_backup_of_a_desk_at_work_is_one_moment_of_it(desk_url: str, other_url: str, file: Path) -> None:
    def work_meanwhile(rows: int) -> None:
        if rows == 1:
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(at_the, desk_url, lambda office: office.do(ANA, NOTE, "A")).result()

    bring_back(back_up(desk_url, file, work_meanwhile), other_url)

    assert on(desk_url, verify).counts["events"] == 61
    report = on(other_url, verify)
    assert report.faults == ()
    assert report.counts["events"] == 60


def test_progress_is_told_in_rows(desk_url: str, other_url: str, file: Path) -> None:
    written: list[int] = []
    restored: list[int] = []

    bring_back(back_up(desk_url, file, written.append), other_url, restored.append)

    assert written[-1] == restored[-1] == len(rows_of(file))
    assert written == sorted(written)
    assert restored == sorted(restored)


# The file.


def test_a_backup_says_what_it_is_of(desk_url: str, backend: str, file: Path) -> None:
    back_up(desk_url, file)

    header = check(file)

    with raw_sql(desk_url) as raw:
        assert [(header.log,)] == raw.run("SELECT log FROM desk")
    assert (header.dialect, header.revision) == (backend, schema.HEAD)


@on_sqlite
def test_only_its_owner_can_read_a_backup(desk_url: str, file: Path) -> None:
    back_up(desk_url, file)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@on_sqlite
def test_no_file_is_ever_overwritten(desk_url: str, file: Path) -> None:
    file.write_bytes(b"something dear")

    with pytest.raises(FileExistsError):
        back_up(desk_url, file)

    assert file.read_bytes() == b"something dear"


def test_a_full_disk_leaves_no_file(desk_url: str, file: Path) -> None:
    with raw_sql(desk_url) as keeps_shared_memory_open:
        keeps_shared_memory_open.run("SELECT 1 FROM desk")
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, most))
        try:
            with pytest.raises(OSError, match="too large"):
                back_up(desk_url, file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    assert list(file.parent.glob("*backup*")) == []


@on_sqlite
def test_what_an_interrupted_backup_left_is_no_backup_and_in_nobodys_way(desk_url: str, file: Path) -> None:
    file.touch()
    partial = file.with_name(f".{file.name}.partial")
    partial.write_bytes(b"half")

    with pytest.raises(DamagedBackup):
        check(file)
    file.unlink()
    back_up(desk_url, file)

    assert check(file).dialect == "sqlite"
    assert not partial.exists()


def flipped(packed: bytes) -> bytes:
    middle = len(packed) // 2
    return packed[:middle] + bytes([packed[middle] ^ 1]) + packed[middle + 1 :]


def rewritten(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    """Packed again, so that only the contents are wrong."""
    return lambda packed: gzip.compress(b"".join(change(gzip.decompress(packed).splitlines(keepends=True))))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no backup at all": lambda _: b"Dear diary,",
    "something else that is packed": lambda _: gzip.compress(b"Dear diary,\n"),
    "cut at the start": lambda packed: packed[:5],
    "cut in the middle": lambda packed: packed[: len(packed) // 2],
    "cut at the end": lambda packed: packed[:-1],
    "a bit is flipped": flipped,
    "goes on after its end": lambda packed: packed + b"more",
    "is followed by another": lambda packed: packed + packed,
    "without its ending": rewritten(lambda lines: lines[:-1]),
    "a row is missing": rewritten(lambda lines: [*lines[:9], *lines[10:]]),
    "a row is there twice": rewritten(lambda lines: [*lines[:9], lines[9], *lines[9:]]),
    "rows are swapped": rewritten(lambda lines: [*lines[:9], lines[10], lines[9], *lines[11:]]),
    "a row is changed": rewritten(lambda lines: [line.replace(b'"UTC"', b'"CET"') for line in lines]),
    "a later format": rewritten(lambda lines: sealed([lines[0].replace(b'"casework":1', b'"casework":2'), *lines[1:]])),
    "a header without its revision": rewritten(lambda lines: sealed([b'{"casework":1}\n', *lines[1:]])),
}


def sealed(lines: list[bytes]) -> list[bytes]:
    """With the ending that belongs to the lines."""
    return [*lines[:-1], b'{"sha256":"%s"}\n' % hashlib.sha256(b"".join(lines[:-1])).hexdigest().encode()]


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in DAMAGES.items()])
def test_a_damaged_backup_is_refused_and_changes_nothing(
    damage: Callable[[bytes], bytes], kept: bytes, other_url: str, into: RawSql, file: Path
) -> None:
    file.write_bytes(damage(kept))

    with pytest.raises(DamagedBackup):
        bring_back(file, other_url)

    assert is_empty(into)


@pytest.fixture(scope="module")
def kept(sqlite_template: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A backup that nothing is wrong with."""
    folder = tmp_path_factory.mktemp("kept")
    url = fill(copy_sqlite(sqlite_template, folder / "casework.db"))
    return back_up(url, folder / "desk.backup").read_bytes()


FORGERIES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a text of the log": lambda lines: [line.replace(b"larger", b"lesser") for line in lines],
    "an event left out": lambda lines: [line for line in lines if b'"case:A",2,' not in line[:30]],
    "a sum": lambda lines: [
        line.replace(b'"D-1","EUR",2000000,30000,', b'"D-1","EUR",2000000,9000000,') for line in lines
    ],
    "a position": lambda lines: [line[:-4] + b"99]\n" if line.endswith(b",20]\n") else line for line in lines],
}


@pytest.mark.parametrize("forge", [pytest.param(forge, id=name) for name, forge in FORGERIES.items()])
def test_what_the_database_refuses_is_not_restored_by_half(
    forge: Callable[[list[bytes]], list[bytes]], kept: bytes, other_url: str, into: RawSql, file: Path
) -> None:
    file.write_bytes(rewritten(lambda lines: sealed(forge(lines)))(kept))

    with pytest.raises(DamagedBackup, match=r"the database refuses|positions"):
        bring_back(file, other_url)

    assert is_empty(into)


# The database.


def test_a_desk_is_never_restored_over_another(desk_url: str, kept: bytes, file: Path) -> None:
    file.write_bytes(kept)
    before = back_up(desk_url, file.with_name("before"))

    with pytest.raises(NotEmpty, match="desk"):
        bring_back(file, desk_url)

    assert rows_of(back_up(desk_url, file.with_name("after"))) == rows_of(before)


def test_another_schema_is_refused(kept: bytes, other_url: str, into: RawSql, file: Path) -> None:
    file.write_bytes(kept)
    into.run("UPDATE alembic_version SET version_num = '0000'")

    with pytest.raises(OtherRevision, match=f"of the schema {schema.HEAD}, and the database has 0000"):
        bring_back(file, other_url)


def test_a_database_without_a_schema_is_neither_kept_nor_filled(empty_url: str, kept: bytes, file: Path) -> None:
    file.write_bytes(kept)

    with pytest.raises(NotMigrated):
        back_up(empty_url, file.with_name("another"))
    with pytest.raises(OtherRevision, match="has none"):
        bring_back(file, empty_url)

    assert not file.with_name("another").exists()


def test_the_defences_stand_while_and_after_restoring(kept: bytes, other_url: str, into: RawSql, file: Path) -> None:
    file.write_bytes(kept)

    bring_back(file, other_url)

    for table in set(defences.APPEND_ONLY) - {"checkpoints"}:  # of which there is none
        with pytest.raises(Exception, match="never_deleted"):
            into.run(f"DELETE FROM {table}")
