"""Mails are handed to a real server: what it answers, refuses or leaves open becomes a result."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api import sending
from api.carrying_out import Done, Failed, Hopeless, Result
from api.sending import Mailer, Outgoing
from api.settings import Settings
from api.smtp_server import Encryption, NoSmtpServer, SmtpServer, smtp_server
from tests.api.post_office import PostOffice, a_certificate, open_post_office

RECIPIENT = "una.quill@example.com"


def a_mail(name: str = "c.1", **changes: Any) -> Outgoing:
    content = b"Subject: Hello\r\n\r\nHello.\r\n.a line with a dot\r\n"
    return Outgoing(
        **({"name": name, "sender": "support+T@desk.example", "recipient": RECIPIENT, "content": content} | changes)
    )


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    async with open_post_office() as office:
        yield office


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's, which this machine trusts."""
    context, file = a_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return context


async def sent(url: str, *mails: Outgoing) -> list[Result]:
    mailer = Mailer(url, "desk.example")
    try:
        return [await mailer.send(one) for one in mails or (a_mail(),)]
    finally:
        await mailer.close()


async def test_mails_arrive_as_they_are_over_one_connection(office: PostOffice) -> None:
    results = await sent(office.url(), *(a_mail(f"c.{number}") for number in range(20)))

    assert results == [Done(reference=f"c.{number}") for number in range(20)]
    assert len(office.connections) == 1
    first = office.delivered[0]
    assert (first.sender, first.recipients) == ("support+T@desk.example", [RECIPIENT])
    assert first.content == a_mail().content


async def test_several_at_once_take_a_few_connections(office: PostOffice) -> None:
    mailer = Mailer(office.url(), "desk.example")

    await asyncio.gather(*(mailer.send(a_mail(f"c.{number}")) for number in range(60)))
    await mailer.close()

    assert len(office.delivered) == 60
    assert 1 < len(office.connections) <= sending.CONNECTIONS


async def test_a_password_goes_over_tls_alone(certificate: ssl.SSLContext) -> None:
    async with open_post_office(certificate, password="open sesame") as office:
        assert await sent(office.url("localhost", "desk:open%20sesame@")) == [Done(reference="c.1")]
        assert [(one.is_encrypted, one.user) for one in office.delivered] == [(True, "desk")]
        (wrong,) = await sent(office.url("localhost", "desk:guessed@"))
    assert isinstance(wrong, Failed)
    assert wrong.code == "smtp_535"


async def test_tls_from_the_first_byte(certificate: ssl.SSLContext) -> None:
    async with open_post_office(certificate, in_tls=True) as office:
        assert await sent(office.url("localhost", scheme="smtps")) == [Done(reference="c.1")]


async def test_a_server_that_is_somebody_else_gets_nothing(tmp_path: Path) -> None:
    context, _ = a_certificate(tmp_path)
    async with open_post_office(context) as office:
        (result,) = await sent(office.url("localhost"))
        assert isinstance(result, Failed)
        assert office.delivered == []


async def test_what_leaves_this_machine_is_encrypted_or_stays_here(office: PostOffice) -> None:
    mailer = Mailer("smtp://mail.example.com", "desk.example")
    mailer.server = SmtpServer(host="127.0.0.1", port=office.port, encryption=Encryption.REQUIRED)

    result = await mailer.send(a_mail())

    assert isinstance(result, Failed)
    assert office.delivered == []
    assert await sent(office.url(query="?starttls=never")) == [Done(reference="c.1")]


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("451 4.7.1 Greylisted, come again", Failed(code="smtp_451", detail="4.7.1")),
        ("452 too many recipients", Failed(code="smtp_452")),
        (f"550 5.1.1 <{RECIPIENT}>: no such user", Hopeless(code="smtp_550", detail="5.1.1")),
        ("552 5.2.2 mailbox full", Hopeless(code="smtp_552", detail="5.2.2")),
        (f"550 {RECIPIENT} unknown", Hopeless(code="smtp_550")),
        ("550 5.7.1 we do not relay for you", Failed(code="smtp_550", detail="5.7.1")),
        ("554 rejected", Failed(code="smtp_554")),
        ("530 5.7.0 authentication required", Failed(code="smtp_530", detail="5.7.0")),
    ],
)
async def test_what_a_server_says_of_a_recipient(office: PostOffice, answer: str, result: Result) -> None:
    office.recipients = [answer]

    results = await sent(office.url(), a_mail("c.1"), a_mail("c.2"))

    assert results == [result, Done(reference="c.2")]  # the connection is good for others
    assert RECIPIENT not in repr(results[0])
    assert len(office.connections) == 1


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("451 4.3.0 try again", Failed(code="smtp_451", detail="4.3.0")),
        ("550 5.7.1 it looks like spam", Failed(code="smtp_550", detail="5.7.1")),
        ("550 no", Failed(code="smtp_550")),
        ("550 5.1.1 forwarded to nobody", Hopeless(code="smtp_550", detail="5.1.1")),
    ],
)
async def test_what_a_server_says_of_a_mail(office: PostOffice, answer: str, result: Result) -> None:
    office.contents = [answer]

    assert await sent(office.url()) == [result]


async def test_a_greylisted_mail_arrives_at_the_next_attempt_once(office: PostOffice) -> None:
    office.recipients = ["451 4.7.1 come again"]

    first, second = await sent(office.url(), a_mail(), a_mail())

    assert (first, second) == (Failed(code="smtp_451", detail="4.7.1"), Done(reference="c.1"))
    assert len(office.delivered) == 1


async def test_a_server_that_hangs_up_after_the_mail_leaves_it_open(office: PostOffice) -> None:
    mailer = Mailer(office.url(), "desk.example")
    office.hangs_up = True
    assert await mailer.send(a_mail()) == Failed(code="smtp_disconnected", detail="SMTPServerDisconnected")

    office.hangs_up = False
    assert await mailer.send(a_mail()) == Done(reference="c.1")
    await mailer.close()


async def test_a_server_that_answers_late_is_not_waited_for(
    office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sending.SEND_SECONDS < 45
    monkeypatch.setattr(sending, "SEND_SECONDS", 0.3)
    office.late_seconds = 1.0

    (result,) = await sent(office.url())

    assert result == Failed(code="smtp_timeout", detail="TimeoutError")


async def test_a_connection_that_the_server_has_ended_meanwhile_is_replaced(office: PostOffice) -> None:
    mailer = Mailer(office.url(), "desk.example")
    await mailer.send(a_mail("c.1"))
    office.end_connections()

    assert await mailer.send(a_mail("c.2")) == Done(reference="c.2")
    assert len(office.connections) == 2
    await mailer.close()


async def test_a_server_that_is_not_there_is_tried_again_later() -> None:
    (result,) = await sent("smtp://127.0.0.1:1")

    assert isinstance(result, Failed)
    assert result.code == "smtp_unreachable"


async def test_an_address_beyond_ascii_needs_a_server_that_takes_it(office: PostOffice) -> None:
    beyond = a_mail(recipient="уна@example.com", needs_utf8=True)
    assert await sent(office.url(), beyond) == [Done(reference="c.1")]
    assert office.delivered[0].recipients == ["уна@example.com"]

    async with open_post_office(utf8=False) as old:
        assert await sent(old.url(), beyond, a_mail()) == [
            Hopeless(code="smtputf8_not_supported"),
            Done(reference="c.1"),
        ]


# The URL.


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://localhost", SmtpServer(host="localhost", port=25, encryption=Encryption.OFFERED)),
        ("smtp://mail.example.com:587", SmtpServer(host="mail.example.com", port=587, encryption=Encryption.REQUIRED)),
        ("smtps://mail.example.com", SmtpServer(host="mail.example.com", port=465, encryption=Encryption.TLS)),
        (
            "smtp://a%40b:p%3Aq@10.0.0.1?starttls=never",
            SmtpServer(host="10.0.0.1", port=25, encryption=Encryption.NEVER, user="a@b", password="p:q"),
        ),
    ],
)
def test_a_url_names_a_server(url: str, server: SmtpServer) -> None:
    assert smtp_server(url) == server


@pytest.mark.parametrize(
    "url", ["", "mail.example.com", "http://mail", "smtp://", "smtp://[x", "smtp://m:x", "smtp://m?starttls=maybe"]
)
def test_a_url_that_names_no_server_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(NoSmtpServer):
        smtp_server(url)
    if url:
        with pytest.raises(ValueError, match="smtp_url"):
            Settings.model_validate({"smtp_url": url})


def test_what_is_wrong_with_the_url_is_said_without_its_password() -> None:
    with pytest.raises(NoSmtpServer) as refused:
        smtp_server("smtp://user:s3cr3t/x@host")

    assert "s3cr3t" not in str(refused.value)


def test_letters_need_a_plain_address_to_leave_from() -> None:
    with pytest.raises(ValueError, match=r"support_address\n.*plain address"):
        Settings.model_validate({"smtp_url": "smtp://mail.example", "support_address": "Desk <support@example.com>"})
