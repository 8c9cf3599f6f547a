"""One case's chain is proved level by level, and each level says by itself what is wrong."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import open_database
from storage.verify_case import CaseReport, verify_case
from tests.databases import RawSql, raw_sql
from tests.storage import test_verify as attacks
from tests.storage.signing import signed_desk
from tests.storage.test_tampering import forget_checkpoints_too, grow_another_tree
from tests.storage.test_verify import THE_LOG, THE_ROWS, Attack, read, running, saying_of, undefended
from workflow.errors import NotFound
from workflow.events import Draft, NoteAdded

full_sqlite = attacks.full_sqlite
full_postgresql = attacks.full_postgresql
plain_desk_url = attacks.desk_url

LEVELS = ("bytes", "hashes", "chain", "rules", "row", "tree", "signature", "outside", "texts")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def desk_url(plain_desk_url: str, keys: Path) -> str:
    """All of it in the tree, and under a checkpoint."""

    async def sign() -> None:
        async with signed_desk(plain_desk_url, keys) as desk:
            await desk.settle()

    asyncio.run(sign())
    return plain_desk_url


@pytest.fixture
def raw(desk_url: str) -> Iterator[RawSql]:
    with raw_sql(desk_url) as connection:
        yield connection


def verified(url: str, folder: Path | None, case_id: str = "A") -> CaseReport:
    async def run() -> CaseReport:
        database = open_database(url)
        try:
            return await verify_case(database, case_id, folder)
        finally:
            await database.close()

    return asyncio.run(run())


def failing(report: CaseReport) -> list[str]:
    return [one.name for one in report.levels if one.holds is False]


def test_what_the_ledger_wrote_holds_on_every_level(desk_url: str, keys: Path) -> None:
    report = verified(desk_url, keys)

    assert [(one.name, one.holds, one.faults) for one in report.levels] == [(name, True, ()) for name in LEVELS]
    assert (report.holds, report.version) == (True, 15)
    assert "15 of 15 events are proved" in {one.name: one.said for one in report.levels}["tree"]


def test_before_anything_is_signed_nothing_is_said_of_it(plain_desk_url: str) -> None:
    report = verified(plain_desk_url, None)

    assert [one.name for one in report.levels if one.holds is None] == ["tree", "signature", "outside"]
    assert report.holds


def test_events_newer_than_the_checkpoint_are_counted(desk_url: str, keys: Path, raw: RawSql) -> None:
    attacks.append(raw, "case:A", Draft(data=NoteAdded()))
    tree = next(one for one in verified(desk_url, keys).levels if one.name == "tree")
    assert (tree.holds, tree.said.endswith("; 1 are newer than that")) == (True, True)


def test_a_case_that_never_was_is_not_there(desk_url: str, keys: Path) -> None:
    with pytest.raises(NotFound):
        verified(desk_url, keys, "nobody")


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(one, id=one.name)
        for one in (*THE_LOG, *THE_ROWS)
        if one.place is not None and one.place[0] == "case:A"
    ],
)
def test_whatever_the_whole_verification_finds_in_a_case_is_found_in_it_alone(
    attack: Attack, raw: RawSql, desk_url: str, keys: Path
) -> None:
    with undefended(raw):
        attack.act(raw)

    report = verified(desk_url, keys)

    assert attack.place is not None
    assert attack.place[1] in {fault.seq for one in report.levels for fault in one.faults}, report.levels


A8 = ("case:A", 8)


LAST = "chain = 'case:A' AND seq = 15"
# What is done, and the levels that say so.
WRONG: list[tuple[Attack, list[str]]] = [
    (
        running("a byte", A8, "", "UPDATE events SET body = replace(body, 'api', 'cli') WHERE seq = 8"),
        ["hashes", "chain", "row", "tree"],
    ),
    (running("a hash", ("case:A", 15), "", f"UPDATE events SET hash = '{'ab' * 32}' WHERE {LAST}"), ["hashes"]),
    (saying_of("another actor, linked anew", "", actor="person:bo"), ["row", "tree"]),
    (running("a text", ("case:A", 15), "", f"UPDATE personal SET value = 'Never!' WHERE {LAST}"), ["texts"]),
    (running("the row", ("case:A", 15), "", "UPDATE cases SET state = 'opened' WHERE id = 'A'"), ["row"]),
    (
        running("the purchase", ("case:A", 15), "", "UPDATE purchases SET refunded = 1 WHERE reference = 'D-1'"),
        ["row"],
    ),
    (
        running("a checkpoint", None, "", f"UPDATE checkpoints SET root = '{'ab' * 32}'"),
        ["tree", "signature"],
    ),
]


@pytest.mark.parametrize("wrong", [pytest.param(one, id=one[0].name) for one in WRONG])
def test_each_level_fails_by_itself(wrong: tuple[Attack, list[str]], raw: RawSql, desk_url: str, keys: Path) -> None:
    attack, levels = wrong
    with undefended(raw):
        attack.act(raw)

    report = verified(desk_url, keys)

    assert failing(report) == levels
    assert not report.holds
    assert attack.place is None or attack.place[1] in {fault.seq for one in report.levels for fault in one.faults}


def test_what_drifted_is_told_field_by_field(raw: RawSql, desk_url: str, keys: Path) -> None:
    raw.run("UPDATE cases SET assignee = 'bo' WHERE id = 'A'")

    (fault,) = next(one for one in verified(desk_url, keys).levels if one.name == "row").faults

    assert [(one.field, one.stored) for one in fault.drift] == [("assignee", "bo")]


@pytest.mark.parametrize("cover", [grow_another_tree, forget_checkpoints_too])
def test_a_log_that_was_rewritten_and_grown_anew_is_told_by_the_checkpoint_outside(
    cover: object, raw: RawSql, desk_url: str, keys: Path
) -> None:
    with undefended(raw):
        saying_of("another actor", "", actor="person:bo").act(raw)
        cover(raw, desk_url)  # type: ignore[operator]

    report = verified(desk_url, keys)

    assert "outside" in failing(report)
    assert read(raw, ("case:A", 15))["hash"]


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.parametrize("value", ["x'ff00'", "CAST(x'ff41' AS TEXT)", "9.5"])
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("events", "body"),
        ("events", "type"),
        ("events", "hash"),
        ("cases", "body"),
        ("personal", "value"),
        ("personal", "salt"),
        ("attachments", "content"),
        ("checkpoints", "note"),
        ("checkpoints", "size"),
        ("tiles", "hashes"),
    ],
)
def test_values_that_no_column_should_hold_are_told(
    raw: RawSql, desk_url: str, keys: Path, *, table: str, column: str, value: str
) -> None:
    where = {"events": LAST, "personal": LAST, "cases": "id = 'A'", "attachments": "case_id = 'A'"}.get(table, "true")
    with undefended(raw):
        raw.run(f"UPDATE {table} SET {column} = {value} WHERE {where}")

    assert not verified(desk_url, keys).holds


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE client_links SET hash = 'stolen' WHERE id = 'l-una'",
        "DELETE FROM client_links WHERE id = 'l-una'",
        "INSERT INTO client_links SELECT 'other', 'l-eve', case_id FROM client_links",
    ],
)
def test_a_link_that_the_log_does_not_know_opens_nothing_unseen(
    statement: str, raw: RawSql, desk_url: str, keys: Path
) -> None:
    assert verified(desk_url, keys, "E").holds
    raw.run(statement)

    (fault,) = next(one for one in verified(desk_url, keys, "E").levels if one.name == "row").faults

    assert fault.what.startswith("the client's link l-")
