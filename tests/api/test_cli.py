"""The command line, as whoever runs the desk uses it: what each command does, prints and exits with."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from sqlalchemy import text
from typer.testing import CliRunner

from api.cli import cli
from storage import people
from storage.database import open_database
from tests.databases import PostgresServer, raw_sql, sqlite_url
from tests.processes import PROGRAM, ROOT, casework, environment
from tests.shared import shared_path
from workflow.canonical import canonical, leaf_hash

LETTER = """\
From: Una =?utf-8?b?4oCu?= <una@example.com>
To: support@localhost
Subject: [bold]The banners[/bold] =?utf-8?q?=1B[31m?=
Message-ID: <1@example.com>
Date: Thu, 5 Mar 2026 09:00:00 +0000

They never ran.
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "desk.db")


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.eml"
    path.write_text(LETTER, "utf-8")
    return path


def asked(*arguments: str) -> Any:
    """Of a command that needs no desk, without a process of its own."""
    return CliRunner().invoke(cli, arguments)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    async def ask() -> list[tuple[Any, ...]]:
        database = open_database(url)
        found = [tuple(row) for row in await database.rows(text(query))]
        await database.close()
        return found

    return asyncio.run(ask())


# Usage.


def test_help_names_every_command() -> None:
    shown = asked("--help").stdout

    for command in ("serve", "migrate", "demo", "user", "token", "policy", "import-mail", "replay", "verify"):
        assert command in shown
    for command in ("export", "diagram", "backup", "restore"):
        assert command in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["dance"],
        ["user", "add", "ana@step-into.example", "--name", "Ana"],
        ["user", "add", "no address", "--name", "Ana", "--role", "agent"],
        ["user", "add", "ana@step-into.example", "--name", " ", "--role", "agent"],
        ["user", "add", "ana@step-into.example", "--name", "Ana", "--role", "client"],
        ["user", "roles", "ana@step-into.example"],
        ["token", "create", "ana@step-into.example", "--expires", "tomorrow"],
        ["token", "create", "ana@step-into.example", "--expires", "2030-01-01T00:00:00"],
        ["serve", "--port", "70000"],
        ["serve", "--workers", "0"],
        ["replay", "C-1001", "--version", "0"],
        ["replay", "C-1001", "--version", "1", "--at", "2030-01-01T00:00:00Z"],
        ["diagram", "--format", "bmp"],
        ["import-mail"],
        ["policy", "add", "/no/such/file"],
        ["restore", "/no/such/file"],
    ],
)
def test_what_makes_no_sense_on_the_command_line_is_a_usage_error(arguments: list[str]) -> None:
    assert asked(*arguments).exit_code == 2


# Expected failures: one line, no traceback, exit 1.


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"database_url": "mysql://localhost/desk"}, "sqlite:/// or postgresql://"),
        ({"database_url": "sqlite:////no/such/folder/desk.db"}, "unable to open database file"),
        ({"database_url": "postgresql://ana:hunter2@127.0.0.1:1/desk"}, "the database cannot be used"),
        ({"timezone": "Mars/Olympus"}, "CASEWORK_TIMEZONE: is not a time zone"),
        ({"max_body_bytes": "many", "log_level": "loud"}, "CASEWORK_LOG_LEVEL"),
    ],
)
def test_what_can_be_expected_to_fail_is_said_in_one_line(url: str, settings: dict[str, str], said: str) -> None:
    failed = casework("migrate", **({"url": settings.pop("database_url", url)} | settings))

    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("casework: ")
    assert failed.stderr.count("\n") == 1
    assert said in failed.stderr
    assert "hunter2" not in failed.stderr


def test_a_file_that_is_no_database_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Not a database, however long it is. " * 100, "utf-8")

    assert (
        casework("verify", url=sqlite_url(path)).stderr
        == "casework: the database cannot be used: file is not a database\n"
    )


@pytest.mark.parametrize("command", [["verify"], ["export"], ["replay", "C-1001"], ["token", "list"]])
def test_what_only_reads_makes_no_desk(tmp_path: Path, command: list[str]) -> None:
    failed = casework(*command, url=sqlite_url(tmp_path / "desk.db"))

    assert failed.returncode == 1
    assert "there is no desk" in failed.stderr
    assert not list(tmp_path.iterdir())


# The database.


def test_a_database_is_migrated_and_migrating_it_again_changes_nothing(empty_url: str) -> None:
    first = casework("migrate", url=empty_url)
    size = rows(empty_url, "SELECT count(*) FROM events")

    again = casework("migrate", url=empty_url)

    assert (first.returncode, first.stderr) == (again.returncode, again.stderr) == (0, "")
    assert rows(empty_url, "SELECT count(*) FROM events") == size


def test_postgresql_is_not_migrated_on_the_way(postgres: PostgresServer) -> None:
    refused = casework(
        "user", "add", "ana@step-into.example", "--name", "Ana", "--role", "agent", url=postgres.new_database()
    )

    assert (refused.returncode, refused.stderr) == (
        1,
        "casework: the database has no schema yet: run casework migrate\n",
    )


def test_the_owner_of_the_tables_lets_a_lesser_role_serve(postgres: PostgresServer) -> None:
    owned = postgres.new_database()
    with raw_sql(owned) as raw:
        raw.run("CREATE ROLE clerk LOGIN")
    url = owned.replace("postgres@", "clerk@")

    migrated = casework("migrate", url=url, owner_url=owned)
    added = casework("user", "add", "ana@step-into.example", "--name", "Ana", "--role", "agent", url=url)
    verified = casework("verify", url=url)

    assert (migrated.returncode, added.returncode, verified.returncode) == (0, 0, 0)
    assert verified.stderr == ""
    with raw_sql(url) as raw, pytest.raises(Exception, match="must be owner of table events"):
        raw.run("ALTER TABLE events DISABLE TRIGGER ALL")


# People and tokens.


def test_somebody_is_added_gains_roles_is_given_others_and_is_disabled(empty_url: str) -> None:
    casework("migrate", url=empty_url)

    added = casework("user", "add", "Ana@step-into.example", "--name", "Ana", "--role", "agent", url=empty_url)
    gained = casework("user", "add", "ana@step-into.example", "--role", "lead", "--role", "agent", url=empty_url)
    assert added.stdout == gained.stdout
    assert roles_of(empty_url, added.stdout.strip()) == ["agent", "lead"]

    assert casework("user", "roles", "ana@step-into.example", "auditor", url=empty_url).returncode == 0
    assert roles_of(empty_url, added.stdout.strip()) == ["auditor"]

    assert casework("user", "disable", "ana@step-into.example", url=empty_url).returncode == 0
    refused = casework("token", "create", "ana@step-into.example", url=empty_url)
    assert (refused.returncode, refused.stderr) == (1, "casework: the person has been disabled\n")


def roles_of(url: str, person_id: str) -> list[str]:
    bodies = dict(rows(url, "SELECT id, body FROM people"))
    return list(json.loads(bodies[person_id])["roles"])


def test_somebody_new_needs_a_name(url: str) -> None:
    refused = casework("user", "add", "ana@step-into.example", "--role", "agent", url=url)

    assert refused.returncode == 1
    assert "--name" in refused.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["user", "roles", "no@step-into.example", "agent"],
        ["user", "disable", "no@step-into.example"],
        ["token", "create", "no@step-into.example"],
    ],
)
def test_nobody_by_that_address_is_refused(url: str, command: list[str]) -> None:
    refused = casework(*command, url=url)

    assert (refused.returncode, refused.stderr) == (1, "casework: there is no such person: no@step-into.example\n")


def test_a_token_is_printed_alone_listed_by_its_id_and_good_until_it_is_revoked(empty_url: str) -> None:
    casework("migrate", url=empty_url)
    casework("user", "add", "ana@step-into.example", "--name", "Ana", "--role", "agent", url=empty_url)

    made = casework("token", "create", "ana@step-into.example", "--expires", "2999-01-01T00:00:00+01:00", url=empty_url)
    listed = casework("token", "list", url=empty_url)

    token_id = whose(empty_url, made.stdout.removesuffix("\n"))
    assert token_id is not None
    assert listed.stdout.splitlines()[1].split() == [token_id, "ana@step-into.example", "agent", "2998-12-31", "23:00"]
    assert made.stdout.strip() not in listed.stdout

    assert casework("token", "revoke", token_id, url=empty_url).returncode == 0
    assert whose(empty_url, made.stdout.strip()) is None
    again = casework("token", "revoke", token_id, url=empty_url)
    assert (again.returncode, again.stderr) == (1, "casework: there is no such token\n")


def test_a_clients_link_is_printed_alone_and_opens_the_case_that_was_named(url: str, letter: Path) -> None:
    casework("import-mail", letter, url=url)

    made = casework("client-link", "C-1001", "--days", "7", "--url", "https://desk.example/", url=url)

    assert made.stderr == ""
    assert made.stdout.startswith("https://desk.example/c/")
    secret = made.stdout.removeprefix("https://desk.example/c/").removesuffix("\n")
    ((digest, case_id),) = rows(url, "SELECT hash, case_id FROM client_links")
    assert digest == people.secret_hash(secret)
    assert rows(url, "SELECT number FROM cases WHERE id = '" + case_id + "'") == [(1001,)]
    missing = casework("client-link", "C-9", url=url)
    assert (missing.returncode, missing.stderr) == (1, "casework: there is no such case: C-9\n")


def whose(url: str, secret: str) -> str | None:
    """The id of the token with this secret."""
    return dict(rows(url, "SELECT hash, id FROM tokens")).get(people.secret_hash(secret))


def test_an_identity_is_linked_to_one_person_and_removed(empty_url: str) -> None:
    casework("migrate", url=empty_url)
    for name in ("ana", "bo"):
        casework("user", "add", f"{name}@step-into.example", "--name", name, "--role", "agent", url=empty_url)
    identity = ("https://id.step-into.example", "248289761001")

    def linking(name: str, *options: str) -> tuple[int, str]:
        done = casework("user", "identity", f"{name}@step-into.example", *identity, *options, url=empty_url)
        return done.returncode, done.stderr

    assert linking("ana") == (0, "")
    assert rows(empty_url, "SELECT issuer, subject FROM identities") == [identity]
    assert linking("bo") == (1, "casework: subject: is somebody's already\n")
    assert linking("bo", "--remove") == (1, "casework: there is no such identity\n")
    assert linking("ana", "--remove") == (0, "")
    assert rows(empty_url, "SELECT issuer, subject FROM identities") == []


def test_what_the_operator_does_is_in_the_log_under_that_name(url: str) -> None:
    casework("user", "add", "ana@step-into.example", "--name", "Ana", "--role", "agent", url=url)

    [(body,)] = rows(url, "SELECT body FROM events WHERE type = 'person_added'")

    event = json.loads(body)
    assert (event["actor"], event["via"]) == ("system:operator", "cli")
    assert "Ana" not in body


# The policy.


def test_a_version_of_the_policy_is_added_from_a_file(url: str, tmp_path: Path) -> None:
    changes = tmp_path / "policy.json"
    changes.write_text('{"settings": {"window_days": 14}, "effective_from": "2999-01-01T00:00:00Z"}', "utf-8")

    added = casework("policy", "add", changes, url=url)

    assert added.stdout == "policy version 2 is in force from 2999-01-01T00:00:00+00:00\n"
    [(_,), (body,)] = rows(url, "SELECT body FROM policies ORDER BY version")
    assert json.loads(body)["settings"]["window_days"] == 14


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('{"settings": {"window_days": 0}}', "settings.window_days"),
        ('{"settings": {}, "effective_from": "2999-01-01T00:00:00"}', "timezone"),
        ("{", "policy.json"),
    ],
)
def test_a_policy_file_that_makes_no_sense_is_refused_by_field(
    url: str, tmp_path: Path, written: str, said: str
) -> None:
    changes = tmp_path / "policy.json"
    changes.write_text(written, "utf-8")

    refused = casework("policy", "add", changes, url=url)

    assert refused.returncode == 1
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


# Mail.


def test_mail_is_imported_once_with_a_summary_and_nothing_else(empty_url: str) -> None:
    casework("migrate", url=empty_url)
    folder = shared_path("inquiries")

    first = casework("import-mail", folder, url=empty_url)
    again = casework("import-mail", folder, url=empty_url)

    assert (first.returncode, first.stderr) == (0, "")
    assert "opened" in first.stdout
    assert first.stdout.count("\n") == 1
    assert again.stdout == "26 mails, 26 duplicate\n"


def test_mail_that_is_not_there_is_named_and_the_rest_is_taken_in(url: str, letter: Path) -> None:
    imported = casework("import-mail", letter.with_name("no.eml"), letter, url=url)

    assert imported.returncode == 1
    assert imported.stdout == "2 mails, 1 opened, 1 not taken in\n"
    assert "no.eml" in imported.stderr


# A case's history.


@pytest.fixture(scope="module")
def demo_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = sqlite_url(tmp_path_factory.mktemp("demo") / "demo.db")
    made = casework("demo", url=url)
    assert made.returncode == 0, made.stderr
    return url


def test_a_history_says_when_who_what_and_why_and_what_became_of_the_case(demo_url: str) -> None:
    told = casework("replay", number_of(demo_url, "Zwei Tage keine Auslieferung"), url=demo_url)

    assert told.returncode == 0
    for words in (
        "Svenja Petersen",
        "Ana (agent)",
        "investigate: opened →",
        "g6 technical",
        "300.00 EUR",
        "verdict given: approve",
        "approved by Lou (lead)",
        "refunded 300.00 EUR, reserved 0.00 EUR, left 900.00 EUR",
        "Incident 41",
        "The log leads to the case as it is stored.",
    ):
        assert words in told.stdout, told.stdout


def test_every_history_fits_a_terminal_of_80_columns(demo_url: str) -> None:
    for (number,) in rows(demo_url, "SELECT number FROM cases WHERE number % 7 = 3"):
        told = casework("replay", str(number), url=demo_url).stdout

        assert told
        assert max(map(cell_len, told.splitlines())) <= 80


def test_a_case_is_shown_as_it_stood_at_a_version_or_a_moment(demo_url: str) -> None:
    number = number_of(demo_url, "Zwei Tage keine Auslieferung")
    moments = dict(
        rows(demo_url, "SELECT number, at FROM events JOIN cases ON chain = 'case:' || cases.id WHERE seq = 3")
    )
    at = moments[int(number[2:])]

    by_version = casework("replay", number, "--version", "3", url=demo_url)
    by_moment = casework("replay", number, "--at", at, url=demo_url)

    assert by_version.stdout == by_moment.stdout
    assert "investigating since" in by_version.stdout
    assert "So the case stood at version 3, by its log alone." in by_version.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--version", "99"], "events"), (["--at", "2020-01-01T00:00:00Z"], "was opened at")],
)
def test_a_time_at_which_there_was_no_case_is_refused(demo_url: str, options: list[str], said: str) -> None:
    refused = casework("replay", "C-1001", *options, url=demo_url)

    assert refused.returncode == 1
    assert said in refused.stderr


def test_a_case_that_there_is_not_is_refused(demo_url: str) -> None:
    refused = casework("replay", "C-9", url=demo_url)

    assert (refused.returncode, refused.stderr) == (1, "casework: there is no such case: C-9\n")


def test_a_stored_case_that_its_log_does_not_lead_to_is_found_wrong(url: str, letter: Path) -> None:
    casework("import-mail", letter, url=url)
    with raw_sql(url) as raw:
        raw.run("UPDATE cases SET body = replace(body, '\"other\"', '\"delay\"')")

    told = casework("replay", "C-1001", url=url)

    assert told.returncode == 1
    assert "does not lead to the case as it is stored" in told.stdout


def test_nothing_that_a_client_wrote_steers_the_terminal_or_counts_as_markup(url: str, letter: Path) -> None:
    casework("import-mail", letter, url=url)

    told = casework("replay", "C-1001", url=url).stdout

    assert "[bold]The banners[/bold]" in told
    assert "\x1b" not in told
    assert "\u202e" not in told


def number_of(url: str, subject: str) -> str:
    return f"C-{dict(rows(url, SUBJECTS))[subject]}"


SUBJECTS = "SELECT value, number FROM cases JOIN personal ON chain = 'case:' || cases.id WHERE field = 'subject'"


# The whole log.


def test_a_desk_verifies_until_somebody_alters_it(url: str, letter: Path) -> None:
    casework("import-mail", letter, url=url)
    assert casework("verify", url=url).returncode == 0
    with raw_sql(url) as raw:
        raw.run("UPDATE cases SET state = 'closed'")

    found = casework("verify", url=url)

    assert found.returncode == 1
    assert "casework: " in found.stderr


def test_the_log_is_exported_line_by_line_as_it_was_hashed_and_without_personal_data(
    empty_url: str, letter: Path
) -> None:
    casework("migrate", url=empty_url)
    casework("import-mail", letter, url=empty_url)

    exported = casework("export", url=empty_url).stdout

    lines = [json.loads(line) for line in exported.splitlines()]
    assert [line["position"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(leaf_hash(canonical(line["event"])) == line["hash"] for line in lines)
    assert rows(empty_url, "SELECT count(*) FROM events") == [(len(lines),)]
    assert "una@example.com" not in exported


def test_an_export_to_a_file_is_there_only_when_it_is_whole(demo_url: str, tmp_path: Path) -> None:
    target = tmp_path / "log.jsonl"

    assert casework("export", "-o", target, url=demo_url).stdout == ""

    assert [one.name for one in tmp_path.iterdir()] == ["log.jsonl"]
    assert target.read_text("utf-8") == casework("export", url=demo_url).stdout


def test_whoever_reads_only_the_beginning_of_an_export_hears_no_complaint(demo_url: str) -> None:
    with subprocess.Popen(
        [*PROGRAM, "export"], cwd=ROOT, env=environment(demo_url), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        assert process.stderr.read() == b""


def test_a_desk_that_is_brought_back_from_a_backup_verifies(empty_url: str, demo_url: str, tmp_path: Path) -> None:
    target = tmp_path / "desk.backup"

    kept = casework("backup", target, url=demo_url)
    restored = casework("restore", target, url=empty_url)

    assert (kept.returncode, kept.stderr) == (restored.returncode, restored.stderr) == (0, "")
    assert casework("verify", url=empty_url).returncode == 0
    assert casework("export", url=empty_url).stdout == casework("export", url=demo_url).stdout


def test_neither_a_backup_nor_a_desk_is_ever_overwritten(demo_url: str, url: str, tmp_path: Path) -> None:
    target = tmp_path / "desk.backup"
    casework("backup", target, url=demo_url)
    casework("migrate", url=url)

    again = casework("backup", target, url=demo_url)
    refused = casework("restore", target, url=url)

    assert (again.returncode, again.stderr) == (1, f"casework: {target}: File exists\n")
    assert refused.returncode == 1
    assert "empty" in refused.stderr


# Pictures.


@pytest.mark.parametrize(("form", "begins"), [("svg", "<"), ("mmd", "---"), ("dot", "digraph")])
def test_the_lifecycle_is_drawn_without_any_desk(form: str, begins: str) -> None:
    drawn = asked("diagram", "--format", form)

    assert drawn.exit_code == 0
    assert drawn.stdout.startswith(begins)


def test_the_path_of_a_case_is_drawn_into_a_file(demo_url: str, tmp_path: Path) -> None:
    target = tmp_path / "path.svg"

    assert casework("diagram", "C-1001", "-o", target, url=demo_url).returncode == 0

    assert "The path of C-1001" in target.read_text("utf-8")


# The demonstration.


def test_the_demonstration_prints_a_token_for_everybody_and_how_to_use_one(url: str) -> None:
    shown = casework("demo", "--url", "http://127.0.0.1:8123", url=url)

    table, _, example = shown.stdout.partition("For example")
    tokens = [word for word in table.split() if word.startswith("cw_")]
    assert (shown.returncode, shown.stderr, len(tokens)) == (0, "", 8)
    assert all(whose(url, token) for token in tokens)
    assert f"curl -H 'Authorization: Bearer {tokens[0]}' 'http://127.0.0.1:8123/v1/cases?limit=3'" in example
