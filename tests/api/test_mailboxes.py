"""Mailboxes: what lies there reaches the desk, whatever people, servers and lines do, and leaves the folder then."""

import asyncio
import os
import random
import re
import ssl
import stat
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api import mail_intake, mailboxes, receiving
from api.desk import Desk
from api.mail_parsing import Limits, parse_mail
from api.receiving import Receiving, SourceProblem
from api.settings import MailboxSettings
from tests.api.imap import ARRIVED, PASSWORD, USER, Folder, ImapServer, between
from tests.api.mailing import (
    Clock,
    a_mail,
    acknowledgements,
    all_cases,
    cases_by_letter,
    events_written,
    examples,
    expected,
    in_some_order,
    opened_desk,
    set_aside,
    with_the_tag,
)
from tests.databases import copy_sqlite

LINES = int(os.environ.get("TEST_LINES", "1"))

PATIENCE_SECONDS = 60  # of a machine that is busy with other tests


@pytest.fixture(scope="module")
def server() -> Iterator[ImapServer]:
    server = ImapServer()
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture
def folder(server: ImapServer) -> Iterator[Folder]:
    with server.folder() as folder:
        yield folder


@pytest.fixture
def url(sqlite_template: str, tmp_path: Path) -> str:
    return copy_sqlite(sqlite_template, tmp_path / "casework.db")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long."""
    for module, name, seconds in (
        (mailboxes, "AGAIN_SECONDS", 0.05),
        (mailboxes, "POLL_SECONDS", 0.1),
        (mailboxes, "STAND_BY_SECONDS", 0.05),
        (receiving, "FIRST_PAUSE_SECONDS", 0.01),
        (receiving, "LONGEST_PAUSE_SECONDS", 0.05),
    ):
        monkeypatch.setattr(module, name, seconds)


@asynccontextmanager
async def receives(url: str, *places: Any) -> AsyncIterator[tuple[Desk, Receiving]]:
    """A desk that reads these mailboxes."""
    async with opened_desk(url, Clock(), mailboxes=list(places)) as desk:
        receiving = Receiving(desk)
        receiving.open()
        try:
            yield desk, receiving
        finally:
            await receiving.close()


async def until(holds: Callable[[], Any]) -> None:
    """Looked at in a thread: a folder is asked in the ordinary way."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def until_taken(folder: Folder, mails: int) -> None:
    await until(lambda: not folder.left and len(folder.put_away) == mails)


# What becomes of a mail.


async def test_a_mail_opens_a_case_and_leaves_the_folder_as_it_came(folder: Folder, url: str) -> None:
    raw = a_mail(received=None)
    folder.put(raw)

    async with receives(url, folder.settings()) as (desk, receiving):
        await until_taken(folder, 1)

        (case,) = await all_cases(desk)
        assert case.received_at == ARRIVED
        assert folder.mails(folder.taken) == [(raw, ())]
        assert receiving.states[0].problem is None
        assert receiving.states[0].received_at is not None


async def test_a_mail_that_somebody_has_read_or_answered_is_taken_all_the_same(folder: Folder, url: str) -> None:
    folder.put(a_mail(), r"\Seen", r"\Answered")

    async with receives(url, folder.settings()) as (desk, _):
        await until_taken(folder, 1)

        assert len(await all_cases(desk)) == 1


async def test_a_mail_that_somebody_has_deleted_is_theirs(folder: Folder, url: str) -> None:
    folder.put(a_mail(), r"\Deleted")
    folder.put(a_mail())

    async with receives(url, folder.settings()) as (desk, _):
        await until(lambda: len(folder.put_away) == 1)

        assert len(await all_cases(desk)) == 1
        assert len(folder.left) == 1


@pytest.mark.parametrize("hidden", [(), (b"IDLE",)], ids=["told", "asked"])
async def test_a_mail_is_taken_as_it_arrives(folder: Folder, url: str, hidden: tuple[bytes, ...]) -> None:
    async with between(folder.port) as line:
        line.hidden = hidden
        async with receives(url, folder.settings(line.port)) as (desk, receiving):
            await until(lambda: receiving.states[0].received_at)
            await asyncio.to_thread(folder.put, a_mail())
            await until_taken(folder, 1)

            assert len(await all_cases(desk)) == 1
    assert any(b"IDLE" in one for one in line.commands) is not bool(hidden)


async def test_mails_are_taken_in_the_order_in_which_they_came(folder: Folder, url: str) -> None:
    folder.put(a_mail(message_id="<1@kiosk.example.com>"))
    for number in range(2, 60):
        folder.put(a_mail(message_id=f"<{number}@kiosk.example.com>", references=f"<{number - 1}@kiosk.example.com>"))

    async with receives(url, folder.settings()) as (desk, _):
        await until_taken(folder, 59)

        assert len(await all_cases(desk)) == 1


async def test_a_server_that_cannot_move_copies_and_ends_only_what_was_taken(folder: Folder, url: str) -> None:
    folder.put(a_mail(), r"\Deleted")
    folder.put(a_mail())

    async with between(folder.port) as line:
        line.hidden = (b"MOVE",)
        async with receives(url, folder.settings(line.port)):
            await until(lambda: len(folder.put_away) == len(folder.left) == 1)

    assert any(b"UID EXPUNGE" in one for one in line.commands)
    assert not any(b"MOVE" in one for one in line.commands)


async def test_a_server_that_can_end_no_mail_alone_is_told_to_end_none(folder: Folder, url: str) -> None:
    folder.put(a_mail())

    async with between(folder.port) as line:
        line.hidden = (b"MOVE", b"UIDPLUS", b"IDLE")
        async with receives(url, folder.settings(line.port)) as (desk, _):
            await until(lambda: sum(b"SEARCH" in one for one in line.commands) > 3)
            assert len(await all_cases(desk)) == 1

    assert [flags for _, flags in folder.mails()] == [(r"\Deleted",)]
    assert len(folder.put_away) == 1
    assert not any(b"EXPUNGE" in one for one in line.commands)


async def test_what_cannot_be_moved_is_fetched_once_and_keeps_nothing_waiting(folder: Folder, url: str) -> None:
    folder.put(a_mail())

    async with between(folder.port) as line:
        line.hidden, line.refused = (b"IDLE",), re.compile(rb"UID MOVE")
        async with receives(url, folder.settings(line.port)) as (desk, receiving):
            await until(lambda: receiving.states[0].problem == "cannot_move")
            await asyncio.to_thread(folder.put, a_mail())
            await until(lambda: sum(b"UID MOVE" in one for one in line.commands) > 5)
            assert len(await all_cases(desk)) == 2

            line.refused = None
            await until_taken(folder, 2)
    assert sum(b"BODY.PEEK" in one for one in line.commands) == 2


# What fails.


async def test_a_mail_that_fails_is_set_aside_after_some_attempts_and_stops_no_other(
    folder: Folder, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Counter[bool]()

    def failing(raw: bytes, **given: Any) -> Any:
        is_poison = b"poison" in raw
        attempts[is_poison] += 1
        if is_poison:
            raise RecursionError("somewhere deep in a parser")
        return parse_mail(raw, **given)

    monkeypatch.setattr(mail_intake, "parse_mail", failing)
    for text in ("One.", "A poisoned one: poison.", "Two."):
        folder.put(a_mail(text=text))

    async with receives(url, folder.settings()) as (desk, _):
        await until_taken(folder, 3)

        assert len(await all_cases(desk)) == 2
        ((reason, texts),) = await set_aside(desk)
    assert reason == "failed: RecursionError"
    assert "A poisoned one" in texts["text"]
    assert attempts[True] == receiving.ATTEMPTS


async def test_a_mail_that_the_server_does_not_hand_out_is_named_and_stops_no_other(folder: Folder, url: str) -> None:
    for text in ("One.", "Two.", "Three."):
        folder.put(a_mail(text=text))

    async with between(folder.port) as line:
        line.refused = re.compile(rb"FETCH (101,)?102(,103)? \(UID INTERNALDATE")
        async with receives(url, folder.settings(line.port)) as (desk, _):
            await until_taken(folder, 3)

            assert len(await all_cases(desk)) == 2
            ((reason, texts),) = await set_aside(desk)
    assert reason == "not_handed_out"
    assert "mail 102 of mailbox-1" in texts["text"]


async def test_a_mail_that_is_too_large_is_fetched_as_far_as_is_needed_to_see_that(
    folder: Folder, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1_000_000
    monkeypatch.setattr(mailboxes, "ENOUGH_BYTES", limit + 1)
    monkeypatch.setattr(mail_intake, "Limits", partial(Limits, message_bytes=limit))
    await asyncio.to_thread(folder.put, a_mail(text="x" * (limit + 1_000_000)))
    await asyncio.to_thread(folder.put, a_mail())

    async with between(folder.port) as line, receives(url, folder.settings(line.port)) as (desk, _):
        await until(lambda: len(line.commands) and any(b"MOVE" in one for one in line.commands[-2:]))
        await until(lambda: receiving_done(folder))

        ((reason, _texts),) = await set_aside(desk)
        assert reason == "too_large"
        assert len(await all_cases(desk)) == 1
    assert line.sent < limit + 100_000


def receiving_done(folder: Folder) -> bool:
    """Without asking for what lies there."""
    folder.box.folder.set(folder.name, readonly=True)
    return not folder.box.uids()


async def test_while_the_desk_can_take_nothing_everything_stays_where_it_is(folder: Folder, url: str) -> None:
    folder.put(a_mail())

    async with opened_desk(url, Clock(), mailboxes=[folder.settings()]) as desk:
        await desk.ledger.close()
        source = Receiving(desk)
        source.open()
        await until(lambda: source.states[0].problem == "desk_unavailable")
        assert (len(folder.left), folder.put_away) == (1, [])
        await source.close()

    async with receives(url, folder.settings()) as (desk, _):
        await until_taken(folder, 1)
        assert len(await all_cases(desk)) == 1


async def test_a_mailbox_that_does_not_work_stops_no_other(server: ImapServer, folder: Folder, url: str) -> None:
    with server.folder() as other:
        broken = [
            other.settings(password="wrong"),
            other.settings(1),
            {**other.settings(), "url": f"imap://{USER}@127.0.0.1:{server.port}/Nowhere"},
        ]
        folder.put(a_mail())

        async with receives(url, *broken, folder.settings()) as (desk, receiving):
            await until_taken(folder, 1)
            assert len(await all_cases(desk)) == 1
            await until(lambda: all(one.problem for one in receiving.states[:3]))

            assert [(one.name, one.problem) for one in receiving.states] == [
                ("mailbox-1", "sign_in_refused"),
                ("mailbox-2", "not_connected"),
                ("mailbox-3", "folder_not_opened"),
                ("mailbox-4", None),
            ]


async def test_receiving_stops_at_once_though_it_waits_for_mail(folder: Folder, url: str) -> None:
    async with between(folder.port) as line, receives(url, folder.settings(line.port)) as (_, receiving):
        await until(lambda: any(b"IDLE" in one for one in line.commands))

        async with asyncio.timeout(5):
            await receiving.close()


async def test_of_two_processes_one_reads_a_mailbox_until_it_ends(folder: Folder, postgres_desk: str) -> None:
    async with receives(postgres_desk, folder.settings()) as (_, first):
        await until(lambda: first.states[0].received_at)
        async with receives(postgres_desk, folder.settings()) as (_, second):
            await until(lambda: second.states[0].problem == "read_elsewhere")
            assert second.states[0].received_at is None

            await first.close()
            await until(lambda: second.states[0].received_at)
            assert second.states[0].problem is None


# Ways in.


def a_program(folder: Path, text: str) -> list[str]:
    path = folder / "says"
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(stat.S_IRWXU)
    return [str(path)]


async def test_the_password_can_come_from_a_command(folder: Folder, url: str, tmp_path: Path) -> None:
    command = a_program(tmp_path, f"print({PASSWORD!r}); print('and more')")

    async with receives(url, folder.settings(password_command=command)) as (_, receiving):
        await until(lambda: receiving.states[0].received_at)


async def test_a_token_is_asked_for_anew_for_each_connection(folder: Folder, url: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("the first")
    command = a_program(tmp_path, f"print(open({str(token)!r}).read())")

    async with between(folder.port) as line:
        line.tokens = ["the second"]
        async with receives(url, folder.settings(line.port, token_command=command)) as (_, receiving):
            await until(lambda: receiving.states[0].problem == "sign_in_refused")
            token.write_text("the second")
            await until(lambda: receiving.states[0].received_at)
    assert not any(PASSWORD.encode() in one for one in line.commands)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import sys; print('x'); sys.exit(1)", "secret_command_failed"),
        ("", "secret_command_failed"),
        (None, "secret_command_not_started"),
    ],
)
async def test_a_command_that_gives_no_secret_is_named(
    folder: Folder, url: str, tmp_path: Path, text: str | None, problem: str
) -> None:
    command = [str(tmp_path / "nothing")] if text is None else a_program(tmp_path, text)

    async with receives(url, folder.settings(token_command=command)) as (_, receiving):
        await until(lambda: receiving.states[0].problem)
        assert receiving.states[0].problem == problem


@pytest.mark.parametrize("is_too_slow", [True, False], ids=["too slow", "stopped"])
async def test_a_command_that_is_given_up_leaves_no_process(
    is_too_slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = tmp_path / "pid"
    text = (
        f"import os, time; print('x', flush=True); open({str(began)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )
    settings = MailboxSettings(url="imap://a@127.0.0.1", token_command=tuple(a_program(tmp_path, text)))
    if is_too_slow:
        monkeypatch.setattr(mailboxes, "SECRET_SECONDS", 3.0)
    asked = asyncio.create_task(mailboxes.secret_of(settings))
    await until(lambda: began.exists() and began.read_text())

    if is_too_slow:
        with pytest.raises(SourceProblem, match="secret_command_too_slow"):
            await asked
    else:
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    with pytest.raises(ProcessLookupError):
        os.kill(int(began.read_text()), 0)


ELSEWHERE = "127.0.0.2"  # answers here, and is not taken for this machine


async def test_no_password_goes_to_another_machine_in_the_clear(folder: Folder, url: str) -> None:
    async with between(folder.port, host=ELSEWHERE) as line:
        place = folder.settings(line.port, host=ELSEWHERE)
        async with receives(url, place) as (_, receiving):
            await until(lambda: receiving.states[0].problem)
            assert receiving.states[0].problem == "no_encryption"
    assert not any(b"LOGIN" in one or b"AUTHENTICATE" in one for one in line.commands)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of localhost alone, signed by itself, with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("host", "known", "problem"),
    [("localhost", True, None), ("localhost", False, "no_encryption"), (ELSEWHERE, True, "no_encryption")],
)
async def test_a_server_has_to_prove_who_it_is(  # noqa: PLR0917 - fixtures, by name
    folder: Folder,
    url: str,
    certificate: Path,
    host: str,
    known: bool,
    problem: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if known:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)

    async with (
        between(folder.port, host=host if host == ELSEWHERE else "127.0.0.1", tls=tls) as line,
        receives(url, folder.settings(line.port, scheme="imaps", host=host)) as (_, receiving),
    ):
        await until(lambda: receiving.states[0].problem or receiving.states[0].received_at)
        assert receiving.states[0].problem == problem
    assert bool(line.commands) is (problem is None)


async def test_the_line_can_be_made_safe_once_it_is_there(
    url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = ImapServer(certificate)
    try:
        server.wait()
        place = {"url": f"imap+starttls://{USER}@localhost:{server.port}", "password": PASSWORD}
        async with receives(url, place) as (_, receiving):
            await until(lambda: receiving.states[0].received_at or receiving.states[0].problem)
            assert receiving.states[0].problem is None
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "https://support@mail.example", "password": "x"}, "imaps://user@host"),
        ({"url": "imaps://mail.example", "password": "x"}, "imaps://user@host"),
        ({"url": "imaps://support:secret@mail.example"}, "must not hold the password"),
        ({"url": "imaps://support@mail.example"}, "exactly one"),
        ({"url": "imaps://support@mail.example", "password": "x", "token_command": ["y"]}, "exactly one"),
        ({"url": "imaps://support@mail.example/Casework", "password": "x"}, "another folder"),
        ({"url": "imaps://support@mail.example", "pasword": "x"}, "pasword"),
    ],
)
def test_a_mailbox_that_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MailboxSettings.model_validate(given)


def test_an_address_is_a_user_name_as_it_is_or_escaped() -> None:
    for url in (
        "imaps://support@step.example@mail.example/Post/In",
        "imaps://support%40step.example@mail.example/Post%2FIn",
    ):
        found = MailboxSettings.model_validate({"url": url, "password": "x"})

        assert (found.user, found.host, found.port) == ("support@step.example", "mail.example", 993)
        assert found.folder == "Post/In"


# All of it.


@pytest.mark.parametrize("seed", range(LINES))
async def test_all_inquiries_lead_to_the_cases_they_should_however_often_the_line_breaks(
    folder: Folder, url: str, seed: int
) -> None:
    chance = random.Random(seed)
    index = examples("published")

    async with between(folder.port) as line:
        soon = iter([chance.randint(1, 20_000) for _ in range(8)])
        line.cut_after = lambda: next(soon, chance.randint(1, 400_000))
        async with receives(url, folder.settings(line.port)) as (desk, _):
            tagged = [(entry, raw) for entry, raw in index if "tag_placeholder" in entry]
            first = in_some_order([(entry, raw) for entry, raw in index if "tag_placeholder" not in entry], chance)
            await asyncio.to_thread(put_all, folder, [raw for _, raw in first])
            await until_taken(folder, len(first))
            last = [await with_the_tag(desk, index, entry, raw) for entry, raw in tagged]
            await asyncio.to_thread(put_all, folder, last)
            await until_taken(folder, len(index))
            assert await cases_by_letter(desk) == expected(index)
            before = await events_written(desk)

            again = [*last, *(raw for _, raw in first)]
            chance.shuffle(again)
            await asyncio.to_thread(put_all, folder, again)
            await until_taken(folder, 2 * len(index))

            assert await cases_by_letter(desk) == expected(index)
            assert await events_written(desk) == before
            assert await acknowledgements(desk) == len(await all_cases(desk))
    assert line.cuts >= 8


def put_all(folder: Folder, mails: list[bytes]) -> None:
    for raw in mails:
        folder.put(raw)
