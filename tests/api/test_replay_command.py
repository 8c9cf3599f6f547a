"""`casework replay` beyond one case's history: all cases, the difference between two points, and why."""

from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from api.cli import cli
from tests.databases import copy_sqlite, raw_sql, sqlite_url
from tests.processes import casework
from tests.storage.full_desk import fill
from tests.storage.test_verify import undefended


@pytest.fixture
def desk_url(database_url: str) -> str:
    """Case A is C-1001: a refund, proposed by its event 9."""
    return fill(database_url)


def asked(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["replay", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--at", "2030-01-01T00:00:00Z"],
        ["C-1", "--all"],
        ["--all", "--version", "1"],
        ["--all", "--why"],
        ["--all", "--from", "1"],
        ["--all", "--at", "2030-01-01T00:00:00Z", "--position", "1"],
        ["--all", "--position", "0"],
        ["C-1", "--position", "1"],
        ["C-1", "--to", "2"],
        ["C-1", "2"],
        ["C-1", "--why", "0"],
        ["C-1", "--why", "--version", "1"],
        ["C-1", "--from", "1", "--at", "2030-01-01T00:00:00Z"],
    ],
)
def test_what_makes_no_sense_together_is_a_usage_error(arguments: list[str]) -> None:
    assert asked(*arguments).exit_code == 2


def test_all_cases_are_told_a_line_each_and_counted(desk_url: str) -> None:
    told = casework("replay", "--all", url=desk_url)

    lines = told.stdout.splitlines()
    assert (told.returncode, told.stderr) == (0, "")
    assert [line.split()[0] for line in lines[1:-1]] == ["C-1001", "C-1002", "C-1003", "C-1004", "C-1005"]
    assert "refunded" in lines[1]
    assert lines[1].split("  ")[-1].strip() == "0.00 EUR"
    assert "300.00 EUR" in lines[1]
    said = lines[-1].partition(": ")[2]
    assert said == "1 opened, 1 investigating, 1 consultation scheduled, 1 refunded, 1 closed"


def test_all_cases_stand_as_they_did_at_a_position_or_an_instant(desk_url: str) -> None:
    early = casework("replay", "--all", "--at", "2020-01-01T00:00:00Z", url=desk_url)
    late = casework("replay", "--all", "--position", "9999", url=desk_url)

    assert early.stdout.splitlines()[1:] == ["at position 0: no case"]
    assert (late.returncode, late.stderr.startswith("casework: position: the log has ")) == (1, True)


def test_the_difference_between_two_points_is_a_table_of_facts_and_the_events_between(desk_url: str) -> None:
    told = casework("replay", "C-1001", "--from", "2", "--to", "6", url=desk_url)

    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("C-1001 from version 2 to version 6")
    for words in ("investigate: opened", "purchase.checked", "grounds[g5].kind", "charged twice"):
        assert words in told.stdout, told.stdout
    assert max(map(cell_len, told.stdout.splitlines())) <= 80
    nothing = casework("replay", "C-1001", "--from", "3", "--to", "3", url=desk_url)
    assert "No fact changed." in nothing.stdout


def test_a_point_that_cannot_be_is_said_in_one_line(desk_url: str) -> None:
    refused = casework("replay", "C-1001", "--from", "99", url=desk_url)

    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "from: the case has" in refused.stderr


def test_decisions_are_told_with_what_they_rested_on(desk_url: str) -> None:
    told = casework("replay", "C-1001", "--why", url=desk_url)

    assert (told.returncode, told.stderr) == (0, "")
    for words in ("refund: investigating → refunded", "within maximum: yes", "at most 300.00 EUR", "are as recorded"):
        assert words in told.stdout, told.stdout
    assert max(map(cell_len, told.stdout.splitlines())) <= 80
    one = casework("replay", "C-1001", "--why", "9", url=desk_url)
    assert "Made again, 1 of 1 are as recorded." in one.stdout
    none = casework("replay", "C-1001", "1", "--why", url=desk_url)
    assert (none.returncode, none.stderr) == (1, "casework: there is no such decision\n")


def test_a_decision_that_is_not_as_recorded_is_said_loudly(tmp_path: Path, sqlite_template: str) -> None:
    url = fill(copy_sqlite(sqlite_template, tmp_path / "desk.db"))
    with raw_sql(url) as raw, undefended(raw):
        raw.run("UPDATE events SET body = replace(body, '\"within_maximum\":true', '\"within_maximum\":false')")

    told = casework("replay", "C-1001", "--why", url=sqlite_url(tmp_path / "desk.db"))

    assert told.returncode == 1
    assert "NOT WHAT WAS RECORDED, when made again:" in told.stdout
    assert "guards.within_maximum: recorded false, but made again true" in told.stdout
