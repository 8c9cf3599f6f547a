"""Mails in files: what is found where, in which order, and byte for byte."""

from pathlib import Path

import pytest

from api.mail_files import ENOUGH_BYTES, Found, NoMail, Unread, mails_in

LETTER = b"From: orla@kiosk.example.com\nSubject: Pixel\n\nThe pixel is off.\n"
OTHER = b"From: tibor@borpince.example.net\n\nThe cap is wrong.\n"
MBOX_LINE = b"From orla@kiosk.example.com Mon Nov  2 09:00:00 2026\n"


def found(path: Path) -> list[bytes]:
    return [one.raw for one in mails_in(path) if isinstance(one, Found)]


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_is_one_letter_byte_for_byte(tmp_path: Path) -> None:
    raw = LETTER.replace(b"\n", b"\r\n") + b"\xff\0"
    path = written(tmp_path / "letter", raw)

    assert list(mails_in(path)) == [Found(where=str(path), raw=raw)]


def test_a_folder_gives_its_letters_by_name_and_those_of_the_folders_in_it(tmp_path: Path) -> None:
    for name in ("b.eml", "a/2.EML", "a/10.eml", "c.eml"):
        written(tmp_path / name, name.encode())

    assert found(tmp_path) == [b"a/10.eml", b"a/2.EML", b"b.eml", b"c.eml"]


def test_what_does_not_look_like_mail_is_left_out_of_a_folder(tmp_path: Path) -> None:
    written(tmp_path / "17", LETTER)
    written(tmp_path / "broken.eml", b"\0")
    readme, table = written(tmp_path / "README.md", b"# Mails\n"), written(tmp_path / "table.json", b'[{"from": 1}]')

    assert [one for one in mails_in(tmp_path) if isinstance(one, NoMail)] == [
        NoMail(where=str(readme)),
        NoMail(where=str(table)),
    ]
    assert found(tmp_path) == [LETTER, b"\0"]


def test_what_is_named_itself_is_read_whatever_it_looks_like(tmp_path: Path) -> None:
    assert found(written(tmp_path / "README.md", b"# Mails\n")) == [b"# Mails\n"]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_an_mbox_gives_its_letters_one_by_one(tmp_path: Path, line_end: bytes) -> None:
    content = MBOX_LINE + LETTER + b"\n" + MBOX_LINE + OTHER + b"\n"
    path = written(tmp_path / "inbox", content.replace(b"\n", line_end))

    assert list(mails_in(path)) == [
        Found(where=f"{path}, mail 1", raw=LETTER.replace(b"\n", line_end)),
        Found(where=f"{path}, mail 2", raw=OTHER.replace(b"\n", line_end)),
    ]


def test_lines_of_a_letter_that_an_mbox_had_to_quote_are_as_they_were(tmp_path: Path) -> None:
    letter = LETTER + b"\nFrom here on\n>From there\nFrom now\n> From a quote\n"
    quoted = LETTER + b"\n>From here on\n>>From there\nFrom now\n> From a quote\n"

    assert found(written(tmp_path / "inbox", MBOX_LINE + quoted + b"\n" + MBOX_LINE + OTHER)) == [letter, OTHER]


def test_an_mbox_lies_in_a_folder_like_any_letter(tmp_path: Path) -> None:
    written(tmp_path / "archive/inbox", MBOX_LINE + LETTER + b"\n" + MBOX_LINE + OTHER)

    assert found(tmp_path) == [LETTER, OTHER]


def test_a_saved_letter_that_begins_with_a_line_of_an_mbox_is_one_letter(tmp_path: Path) -> None:
    raw = MBOX_LINE + LETTER + b"\nFrom here on\n"

    assert found(written(tmp_path / "saved.eml", raw)) == [raw]


def test_a_huge_letter_is_read_only_until_it_is_seen_to_be_too_large(tmp_path: Path) -> None:
    huge = LETTER + b"x" * (2 * ENOUGH_BYTES)

    alone = found(written(tmp_path / "huge.eml", huge))
    in_mbox = found(written(tmp_path / "inbox", MBOX_LINE + huge + b"\n\n" + MBOX_LINE + OTHER))

    assert [len(raw) for raw in alone] == [ENOUGH_BYTES]
    assert [len(raw) for raw in in_mbox] == [ENOUGH_BYTES, len(OTHER)]


def test_an_mbox_line_within_a_long_line_separates_nothing(tmp_path: Path) -> None:
    letter = LETTER + b"\n" + b"x" * (64 * 1024) + b"From here on\n"

    assert found(written(tmp_path / "inbox", MBOX_LINE + letter)) == [letter]


def test_a_maildir_gives_what_has_arrived_in_the_order_of_arrival(tmp_path: Path) -> None:
    for name in ("cur/1762000001.M1.host:2,S", "new/1762000000.M1.host", "new/1762000002.M1.host"):
        written(tmp_path / name, name.encode())
    written(tmp_path / ".Archive/cur/1.M1.host:2,S", b"archived")
    (tmp_path / ".Archive/new").mkdir()
    written(tmp_path / "tmp/1762000003.M1.host", LETTER)
    written(tmp_path / "dovecot.index", b"From: no letter")

    assert found(tmp_path) == [
        b"new/1762000000.M1.host",
        b"cur/1762000001.M1.host:2,S",
        b"new/1762000002.M1.host",
        b"archived",
    ]


def test_what_cannot_be_read_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    gone, circle = tmp_path / "1.eml", tmp_path / "2"
    gone.symlink_to(tmp_path / "nowhere")
    circle.symlink_to(tmp_path)
    written(tmp_path / "3.eml", LETTER)

    assert list(mails_in(tmp_path)) == [
        Unread(where=str(gone), problem="there is no such file or folder"),
        Unread(where=str(circle), problem="is a link to a folder, and may lead in a circle"),
        Found(where=str(tmp_path / "3.eml"), raw=LETTER),
    ]


def test_a_path_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"

    assert list(mails_in(path)) == [Unread(where=str(path), problem="there is no such file or folder")]
