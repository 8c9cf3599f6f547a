"""Keys and checkpoints on the command line: what is shown, what is handed out, and what is said when it cannot be."""

import mailbox
import socketserver
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from api import publishing
from api.publishing import NotPublished
from storage import notes
from storage.checkpoints import Signed
from storage.notes import Note, Verifier
from tests.databases import raw_sql, sqlite_url
from tests.processes import casework, key_folder
from tests.storage.test_verify import undefended

SIGNED = Signed(origin="desk", size=3, root="ab" * 32, note="desk\n3\nq80=\n\n— desk AAAA\n", at="")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "desk.db")


def said(*arguments: str | Path, url: str, code: int = 0, **settings: str) -> str:
    """What a command prints, on standard error if it fails."""
    done = casework(*arguments, url=url, **settings)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


# On the command line.


def test_a_desk_is_made_with_a_key_and_signs_what_is_recorded(empty_url: str) -> None:
    said("migrate", url=empty_url)
    (key,) = key_folder(empty_url).glob("*.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600

    vkeys = said("key", "show", url=empty_url).splitlines()
    note = said("checkpoint", "publish", url=empty_url)

    assert notes.verify(Note.parse(note.encode()), [Verifier.parse(one) for one in vkeys])
    assert len(vkeys) == 1
    assert said("checkpoint", "publish", url=empty_url) == note
    new = said("key", "rotate", url=empty_url).strip()
    assert said("key", "show", url=empty_url).splitlines() == [*vkeys, new]
    assert notes.verify(Note.parse(said("checkpoint", "publish", url=empty_url).encode()), [Verifier.parse(new)])
    said("verify", url=empty_url)


def test_a_key_that_others_can_read_is_refused_at_the_start(url: str) -> None:
    said("migrate", url=url)
    (key,) = key_folder(url).glob("*.key")
    key.chmod(0o644)

    for command in ("migrate", "serve"):
        assert f"chmod 600 {key}" in said(command, url=url, code=1)


def test_a_log_that_was_cut_off_is_not_signed_until_it_is_adopted(url: str, tmp_path: Path) -> None:
    said("migrate", url=url)
    published = tmp_path / "checkpoints"
    said("checkpoint", "publish", "--to", published, url=url)
    said("user", "add", "ana@example.com", "--name", "Ana", "--role", "agent", url=url)
    last = said("checkpoint", "publish", url=url)
    with raw_sql(url) as raw, undefended(raw):
        for table in ("tiles", "checkpoints", "people"):
            raw.run(f"DELETE FROM {table}")
        raw.run("DELETE FROM personal")
        raw.run("DELETE FROM positions WHERE event_id IN (SELECT id FROM events WHERE chain LIKE 'desk:person:%')")
        raw.run("DELETE FROM events WHERE chain LIKE 'desk:person:%'")

    assert "the log has shrunk" in said("checkpoint", "publish", url=url, code=1)
    assert "cut off, or rolled back" in said("verify", url=url, code=1)
    assert "goes on as" in said("checkpoint", "adopt", url=url)

    note = said("checkpoint", "publish", url=url)
    said("verify", url=url)
    assert note.partition("\n")[0].startswith(last.partition("\n")[0] + "/")
    assert len(said("key", "show", url=url).splitlines()) == 2


def test_a_checkpoint_is_handed_to_all_who_are_named(url: str, tmp_path: Path) -> None:
    said("migrate", url=url)
    file, maildir = tmp_path / "checkpoints", tmp_path / "mails"

    with listening(Taking) as http, listening(Taking) as other:
        targets = ("--to", file, "--webhook", f"http://127.0.0.1:{http}/hook", "--mailbox", maildir)
        said("checkpoint", "publish", *targets, url=url, support_address="desk@example.com")
        assert "answered 404" in said(
            "checkpoint", "publish", "--webhook", f"http://127.0.0.1:{other}/", url=url, code=1
        )

    note = file.read_text()
    assert Taking.taken[0] == ("text/plain; charset=utf-8", note)
    (mail,) = mailbox.Maildir(maildir)
    assert mail.get_payload(decode=True).decode() == note  # type: ignore[union-attr]
    assert mail["from"] == "desk@example.com"


# To a file.


def test_a_file_takes_each_checkpoint_once(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints"
    later = Signed(origin="desk", size=4, root="", note=SIGNED.note.replace("3", "4"), at="")

    assert [publishing.append_to(file, one) for one in (SIGNED, SIGNED, later, SIGNED)] == [True, False, True, False]

    assert file.read_text() == f"{SIGNED.note}\n{later.note}"


# To a webhook.


class Taking(BaseHTTPRequestHandler):
    """Takes what comes for /hook, and sends who asks for /moved there."""

    taken: ClassVar[list[tuple[str, str]]] = []

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        if self.path == "/hook":
            self.taken.append((self.headers["content-type"], text))
        self.send_response({"/hook": 204, "/moved": 307}.get(self.path, 404))
        self.send_header("location", "/hook")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def nothing_taken() -> None:
    Taking.taken.clear()
    Postbox.said.clear()


@contextmanager
def listening(handler: Any) -> Iterator[int]:
    """The port of a server that runs meanwhile."""
    kind = HTTPServer if issubclass(handler, BaseHTTPRequestHandler) else socketserver.ThreadingTCPServer
    with kind(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_webhook_that_sends_on_gets_nothing() -> None:
    with listening(Taking) as port, pytest.raises(NotPublished, match="answered 307"):
        publishing.post_to(f"http://127.0.0.1:{port}/moved", SIGNED)
    assert Taking.taken == []


@pytest.mark.parametrize("url", ["http://example.com/hook", "ftp://127.0.0.1/", "file:///etc/passwd", "example.com"])
def test_a_webhook_is_reached_over_https_alone(url: str) -> None:
    with pytest.raises(NotPublished, match="https://"):
        publishing.post_to(url, SIGNED)


@pytest.mark.parametrize("url", ["https://[host", "https://host:port", "https://a..b/", "https://h\u00e4/\u00e4"])
def test_a_webhook_that_can_be_none_is_named(url: str) -> None:
    with pytest.raises(NotPublished):
        publishing.post_to(url, SIGNED)


def test_a_webhook_that_is_not_there_is_named() -> None:
    with pytest.raises(NotPublished, match="localhost cannot be reached"):
        publishing.post_to("https://localhost:1/hook", SIGNED)


# By mail.


class Postbox(socketserver.StreamRequestHandler):
    """As much of an SMTP server as it takes to be handed a letter."""

    said: ClassVar[list[str]] = []

    def handle(self) -> None:
        self.answer("220 postbox")
        body = False
        while line := self.rfile.readline().decode().rstrip("\r\n"):
            self.said.append(line)
            if line.upper() == "DATA":
                self.answer("354 go on")
                while (part := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                    self.said.append(part)
                body = True
            self.answer("221 bye" if line.upper() == "QUIT" else "250 postbox")
            if line.upper() == "QUIT":
                break
        assert body

    def answer(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


def test_a_letter_carries_the_checkpoint_byte_by_byte() -> None:
    with listening(Postbox) as port:
        publishing.mail_to("auditor@example.com", SIGNED, "desk@example.com", f"smtp://127.0.0.1:{port}")

    said = "\n".join(Postbox.said)
    assert "rcpt to:<auditor@example.com>" in said.lower()
    assert "Subject: Checkpoint: 3 events in desk" in said
    assert "Auto-Submitted: auto-generated" in said
    assert publishing.letter(SIGNED, "desk@example.com", "x@example.com").get_content() == SIGNED.note


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("", "CASEWORK_SMTP_URL"),
        ("http://mail.example.com", "CASEWORK_SMTP_URL"),
        ("smtp://127.0.0.1:1", "did not take"),
    ],
)
def test_a_mail_server_that_takes_nothing_is_named(server: str, words: str) -> None:
    with pytest.raises(NotPublished, match=words):
        publishing.mail_to("auditor@example.com", SIGNED, "desk@example.com", server)


@pytest.mark.parametrize("server", ["smtp://[mail", "smtp://mail:port", "smtp://mail:99999", "smtp://mail..example"])
def test_a_mail_server_that_can_be_none_is_named(server: str) -> None:
    with pytest.raises(NotPublished):
        publishing.mail_to("auditor@example.com", SIGNED, "desk@example.com", server)


# To several.


def test_what_one_does_not_take_the_others_get_all_the_same(url: str, tmp_path: Path) -> None:
    said("migrate", url=url)
    file, maildir = tmp_path / "no" / "folder", tmp_path / "mails"

    targets = ("--to", file, "--webhook", "https://localhost:1/hook", "--mailbox", maildir)
    answer = said("checkpoint", "publish", *targets, url=url, code=1)

    assert f"{file}: No such file or directory; localhost cannot be reached" in answer
    assert len(mailbox.Maildir(maildir)) == 1
