"""Mails that leave: what any program reads in them, what threads them, and what cannot be slipped into them."""
# The words of many languages hold letters that look like others.
# ruff: noqa: RUF001

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest

from api.mail_addresses import Unmailable, is_own, mailbox_of
from api.mail_building import MOST_REFERENCES, Content, as_html, build
from api.mail_parsing import Mail, parse_mail
from api.sending import Outgoing

SUPPORT = "support@step-into.example"
AT = datetime(2026, 3, 5, 12, tzinfo=UTC)
THEIRS = "<a-very-long-id-" + "x" * 150 + "@mail.example.com>"
OURS = "<c.0123456789abcdef0123456789abcdef@step-into.example>"


SAID: dict[str, Any] = {
    "name": "c.1",
    "subject": "Re: The banners [#7K3M9Q2F]",
    "text": "Guten Tag,\n\nдва <b>рядки</b>\nі ще один",
    "language": "uk",
}


def built(to: str = "una@example.com", organisation: str = "Step-Into", **said: Any) -> Outgoing:
    content = Content(**(SAID | said))
    return build(content, to=to, support=SUPPORT, tag="7K3M9Q2F", organisation=organisation, at=AT)


def read(mail: Outgoing) -> EmailMessage:
    message = email.message_from_bytes(mail.content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert all(not part.defects for part in message.walk())
    return message


def as_we_read(mail: Outgoing, support: str = "other@desk.example") -> Mail:
    return parse_mail(mail.content, arrived_at=AT, support_address=support)


def test_a_mail_says_the_same_in_text_and_html() -> None:
    message = read(built())

    text, page = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert page is not None
    assert text.get_content().split("\r\n") == ["Guten Tag,", "", "два <b>рядки</b>", "і ще один", ""]
    assert "<p>два &lt;b&gt;рядки&lt;/b&gt;<br>\r\nі ще один</p>" in page.get_content()
    assert '<html lang="uk">' in page.get_content()
    assert [part.get_content_type() for part in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert message["content-language"] == "uk"
    assert all(len(line) <= 998 for line in built(text="x" * 5_000).content.split(b"\r\n"))
    assert b"\n" not in built().content.replace(b"\r\n", b"")


def test_links_are_links_and_nothing_else_is_markup() -> None:
    page = as_html('See https://desk.example/c/s?a=1&b=2. <script>alert("x")</script> javascript:alert(1)', "en")

    assert '<a href="https://desk.example/c/s?a=1&amp;b=2">https://desk.example/c/s?a=1&amp;b=2</a>.' in page
    assert page.count("<a ") == 1
    assert "<script" not in page
    assert 'href="javascript' not in page


def test_it_threads_in_the_clients_program() -> None:
    message = read(built(thread=(OURS, THEIRS), answers=THEIRS))

    assert message["message-id"] == "<c.1@step-into.example>"
    assert message["in-reply-to"] == THEIRS
    assert message["references"].split() == [OURS, THEIRS]
    assert f"In-Reply-To: {THEIRS}\r\n".encode() in built(answers=THEIRS).content
    assert (message["from"], message["reply-to"]) == (f"Step-Into <{SUPPORT}>", "support+7K3M9Q2F@step-into.example")
    assert message["to"] == "una@example.com"
    assert built().sender == "support+7K3M9Q2F@step-into.example"


def test_what_the_client_answers_finds_the_case() -> None:
    sent = as_we_read(built())
    answer = f"From: una@example.com\r\nTo: {sent.reply_to}\r\nIn-Reply-To: {sent.message_id}\r\n\r\nYes.".encode()

    read_again = parse_mail(answer, arrived_at=AT, support_address=SUPPORT)

    assert (read_again.tags, read_again.references) == (("7K3M9Q2F",), ("<c.1@step-into.example>",))
    assert sent.subject == "Re: The banners [#7K3M9Q2F]"
    assert sent.new_text.startswith("Guten Tag")


def test_of_a_long_conversation_the_first_and_the_latest_are_named() -> None:
    ids = [f"<{number}@example.com>" for number in range(100)]

    named = read(built(thread=ids, answers=ids[-1]))["references"].split()

    assert (named[0], named[-1], len(named)) == (ids[0], ids[-1], MOST_REFERENCES + 1)


def test_only_an_acknowledgement_says_that_nobody_wrote_it() -> None:
    automatic, personal = built(is_automatic=True), built()

    message = read(automatic)
    assert message["auto-submitted"] == "auto-replied"
    assert (message["precedence"], message["x-auto-response-suppress"]) == ("bulk", "All")
    assert as_we_read(automatic).automatic == "auto_submitted"
    assert as_we_read(personal).automatic is None
    assert as_we_read(personal, SUPPORT).automatic == "own_address"
    assert read(personal)["auto-submitted"] is None


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\u2028", "\x0b", "\0"])
def test_nothing_can_be_slipped_into_a_header(break_: str) -> None:
    evil = f"Hello{break_}Bcc: victim@example.com"

    mail = built(subject=evil, organisation=evil, thread=(f"<x{break_}Bcc:victim@example.com>",), answers=evil)

    message = read(mail)
    assert message["bcc"] is None
    assert message["subject"] == "Hello Bcc: victim@example.com"
    assert message["references"] is None
    assert b"\r\nBcc" not in mail.content
    with pytest.raises(Unmailable):
        built(to=f"una@example.com{break_}bcc@example.com")


@pytest.mark.parametrize("subject", ["ж" * 300, "a" * 5_000, "日本語" * 100, "=?utf-8?q?x?="])
def test_a_long_or_foreign_subject_arrives(subject: str) -> None:
    mail = built(subject=subject)

    assert all(len(line) <= 998 for line in mail.content.partition(b"\r\n\r\n")[0].split(b"\r\n"))
    assert str(read(mail)["subject"])[:100].replace(" ", "") == subject[:100] or subject.startswith("=?")


@pytest.mark.parametrize(
    ("address", "as_sent"),
    [
        ("una@example.com", "una@example.com"),
        ("una@straße.example", "una@xn--strae-oqa.example"),
        ("una@пошта.укр", "una@xn--80a1acn3a.xn--j1amh"),
        ("o'hara+tag@example.co.uk", "o'hara+tag@example.co.uk"),
        ("two..dots@docomo.example", '"two..dots"@docomo.example'),
        ("уна@example.com", "уна@example.com"),
    ],
)
def test_an_address_is_written_as_servers_take_it(address: str, as_sent: str) -> None:
    mail = built(to=address)

    assert mail.recipient == as_sent
    assert mail.needs_utf8 is not as_sent.isascii()
    assert as_we_read(mail).subject == "Re: The banners [#7K3M9Q2F]"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "una",
        "@example.com",
        "una@",
        "una@exa mple.com",
        "una@[192.0.2.1]",
        "una@-example.com",
        "una@example..com",
        "una, bo@example.com",
        "a@b@example.com",
        "<una@example.com>",
        "una\u202e@example.com",
        f"{'x' * 65}@example.com",
        f"una@{'x' * 64}.com",
        "una@" + "ä" * 80 + ".com",
    ],
)
def test_an_address_that_cannot_be_mailed_is_named_so(address: str) -> None:
    with pytest.raises(Unmailable):
        mailbox_of(address)


@pytest.mark.parametrize("address", [SUPPORT, "Support@STEP-INTO.example", "support+7K3M9Q2F@step-into.example"])
def test_the_desks_own_address_is_recognised(address: str) -> None:
    assert is_own(address, SUPPORT)
    assert not is_own("supporter@step-into.example", SUPPORT)
    assert not is_own("support@other.example", SUPPORT)


@pytest.mark.parametrize("local", ["a" * 50 + '"', "a" * 1_000_000 + '"', "a\ud800"])
def test_an_address_is_refused_at_once(local: str) -> None:
    with pytest.raises(Unmailable):
        mailbox_of(f"{local}@x.example")
