"""Reading mail: what the desk takes from a letter, however odd its bytes are."""
# Letters come in many languages, whose characters look like others.
# ruff: noqa: RUF001

import base64
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.mail_parsing import Attachment, Limits, Mail, UnreadableMail, parse_mail
from tests.shared import SHARED, shared_path

DESK = "support@step-into.example"
OUR_SERVER = "mx.step-into.example"
ARRIVED = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
OWN_MAILS = Path(__file__).parent / "mails"
MIB = 1024 * 1024


def read(raw: bytes, **settings: Any) -> Mail:
    return parse_mail(raw, arrived_at=ARRIVED, support_address=DESK, **settings)


def a_mail(*fields: str | bytes, body: str | bytes = "", sender: str = "Ana <ana@client.example>") -> bytes:
    lines = [f"From: {sender}", *fields, b"", body]
    return b"\r\n".join(line.encode() if isinstance(line, str) else line for line in lines)


def a_letter_with(*fields: str | bytes, content: bytes = b"data") -> Attachment:
    """The attachment that comes of a part with these fields."""
    part = b"\r\n".join(field.encode() if isinstance(field, str) else field for field in fields)
    body = b"--b\r\n\r\nSee the file.\r\n--b\r\n" + part + b"\r\n\r\n" + content + b"\r\n--b--\r\n"
    mail = read(a_mail("Content-Type: multipart/mixed; boundary=b", body=body))
    assert mail.text == "See the file."
    (attachment,) = mail.attachments
    return attachment


PRESSED = (
    "BEGIN:VCALENDAR\r\nMETHOD:REPLY\r\nBEGIN:VEVENT\r\nORGANIZER;CN=Step-Into:mailto:support@step-into.example\r\n"
    "ATTENDEE;CN=Ana;PART\r\n STAT=DECLINED;X-NUM-GUESTS=0:mailto:ana@client.example\r\n{comment}"
    "SUMMARY;LANGUAGE=en:C-1001: by\r\n  phone\\, at noon\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
CALENDAR = "Content-Type: text/calendar; charset=UTF-8; method=REPLY"


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        (CALENDAR, PRESSED.format(comment=""), "Declined: C-1001: by phone, at noon"),
        (
            CALENDAR,
            PRESSED.format(comment="COMMENT:I am away.\\nThe week after?\r\n"),
            "Declined: C-1001: by phone, at noon\n\nI am away.\nThe week after?",
        ),
        (
            "Content-Type: multipart/alternative; boundary=b",
            f"--b\r\n\r\nAna has declined.\r\n--b\r\n{CALENDAR}\r\n\r\n{PRESSED.format(comment='')}--b--\r\n",
            "Ana has declined.",
        ),
        (
            "Content-Type: multipart/alternative; boundary=b",
            f"--b\r\n\r\n\r\n--b\r\n{CALENDAR}\r\n\r\n{PRESSED.format(comment='')}--b--\r\n",
            "Declined: C-1001: by phone, at noon",
        ),
        (CALENDAR, "BEGIN:VCALENDAR\r\nMETHOD:REPLY\r\nEND:VCALENDAR\r\n", ""),
        ("Content-Type: text/calendar; method=REQUEST", PRESSED.format(comment=""), ""),
    ],
)
@pytest.mark.parametrize("submitted", [(), ("Auto-Submitted: auto-generated",)])
def test_an_answer_to_an_invitation_can_be_read(
    content_type: str, body: str, text: str, submitted: tuple[str, ...]
) -> None:
    mail = read(a_mail("Subject: Declined", *submitted, content_type, body=body))

    assert mail.text == text
    assert [one.name for one in mail.attachments] == ["attachment.ics"]
    answers = bool(text) and "method=REPLY" in content_type + body
    assert mail.automatic == (("calendar_reply" if answers else "auto_submitted") if submitted else None)


def as_html(body: str) -> Mail:
    return read(a_mail("Content-Type: text/html; charset=utf-8", body=body))


def collapsed(text: str) -> str:
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()


def letters_in(folder: Path) -> list[dict[str, Any]]:
    letters: list[dict[str, Any]] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return [{**letter, "folder": folder} for letter in letters]


PUBLISHED = letters_in(SHARED / "inquiries") if (SHARED / "inquiries").exists() else [{"file": "the published ones"}]
LETTERS = [*letters_in(OWN_MAILS), *PUBLISHED]
each_letter = pytest.mark.parametrize("letter", LETTERS, ids=[letter["file"] for letter in LETTERS])


def raw_letter(letter: dict[str, Any]) -> bytes:
    folder = Path(letter.get("folder") or shared_path("inquiries"))
    return (folder / str(letter["file"])).read_bytes()


# --- Whole letters ---


@each_letter
def test_a_letter_is_read_as_a_careful_person_reads_it(letter: dict[str, Any]) -> None:
    mail = read(raw_letter(letter), trusted_host=OUR_SERVER)

    assert collapsed(mail.subject) == collapsed(letter["subject"])
    assert [attachment.name for attachment in mail.attachments] == letter["attachments"]
    assert letter["must_contain"] in collapsed(mail.text)
    assert [text for text in letter["must_not_contain"] if text in mail.text] == []
    assert (mail.automatic is None) == (letter["kind"] not in ("automatic", "rejected"))
    assert list(mail.bounced) == letter.get("bounced", list(mail.bounced))
    assert letter["from"] in (mail.sender, None)
    assert mail.received_at.year == 2026
    assert mail.received_at < ARRIVED
    assert (mail.authentication or "").startswith("mx.step-into.example; spf=")


@each_letter
def test_a_letter_that_comes_again_by_another_route_is_recognised(letter: dict[str, Any]) -> None:
    raw = raw_letter(letter)
    own_fields = re.sub(
        rb"(?mi)^(?:Return-Path|Delivered-To|Received|Authentication-Results):.*\r\n(?:[ \t].*\r\n)*", b"", raw
    )
    routes = (
        b"Return-Path: <bounce@relay.example>\r\nReceived: from a by b; Mon, 1 Jan 2026 00:00:00 +0000\r\n"
        + own_fields,
        b"From ana@client.example Mon Jan  1 00:00:00 2026\n" + raw.replace(b"\r\n", b"\n"),
        own_fields + b"\r\n",
    )

    assert {read(route).digest for route in routes} == {read(raw).digest}


def test_every_letter_of_the_set_is_told_from_every_other() -> None:
    digests = [read(raw_letter(letter)).digest for letter in letters_in(OWN_MAILS)]

    assert len(set(digests)) == len(digests)


def test_the_published_duplicate_is_the_only_letter_that_is_not_told_from_another() -> None:
    folder = shared_path("inquiries")
    digests = {letter["file"]: read(raw_letter(letter)).digest for letter in letters_in(folder)}

    same = {name for name, digest in digests.items() if list(digests.values()).count(digest) > 1}

    assert same == {"04-missing-mobile-ads.eml", "17-missing-mobile-ads-again.eml"}


@pytest.mark.parametrize(
    "other",
    [
        a_mail("Subject: Fee", "Date: Mon, 5 Oct 2026 10:00:00 +0000", body="Any news?", sender="ana@other.example"),
        a_mail("Subject: Fee", "Date: Mon, 5 Oct 2026 10:00:01 +0000", body="Any news?"),
        a_mail("Subject: Fees", "Date: Mon, 5 Oct 2026 10:00:00 +0000", body="Any news?"),
        a_mail("Subject: Fee", "Date: Mon, 5 Oct 2026 10:00:00 +0000", body="Any news??"),
        a_mail(
            "Subject: Fee", "Date: Mon, 5 Oct 2026 10:00:00 +0000", "Message-ID: <1@client.example>", body="Any news?"
        ),
    ],
)
def test_another_letter_without_an_id_is_not_taken_for_the_first(other: bytes) -> None:
    first = a_mail("Subject: Fee", "Date: Mon, 5 Oct 2026 10:00:00 +0000", body="Any news?")

    assert read(first).digest != read(other).digest


def test_a_letter_is_the_same_whether_sent_as_eight_bits_or_quoted_printable() -> None:
    plain = a_mail("Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", body="für\r\n")
    quoted = plain.replace(b"8bit", b"quoted-printable").replace("ü".encode(), b"=C3=BC")

    assert read(plain).digest == read(quoted).digest


def test_a_letter_cut_off_on_its_way_keeps_its_text_and_what_came_of_the_attachment() -> None:
    mail = read((OWN_MAILS / "cut-off.eml").read_bytes())

    (minutes,) = mail.attachments
    assert minutes.problem == "damaged"
    assert minutes.content.startswith(b"%PDF-1.4")


def test_of_the_published_letters_a_bounce_names_ours_and_a_reply_shows_its_one_new_line_first() -> None:
    folder = shared_path("inquiries")

    bounce = read((folder / "20-bounce.eml").read_bytes())
    reply = read((folder / "12-any-news.eml").read_bytes())

    assert (bounce.automatic, bounce.bounced) == ("bounce", ("<si.out.3344@step-into.example>",))
    assert reply.new_text == "Any news on this? The bank needs an answer from us by Friday."
    assert reply.references == ("<20260907091402.51A7C@mopple-teapots.example.com>",)


def test_an_attached_letter_keeps_its_bytes() -> None:
    mail = read((OWN_MAILS / "letter-attached.eml").read_bytes())

    assert mail.sender == "lorcan@sundial-garden.example.com"
    assert mail.reply_to is None
    assert mail.attachments[0].content_type == "message/rfc822"
    assert mail.attachments[0].content.startswith(b"From: Enda Sundial <enda@sundial-garden.example.com>\r\n")
    assert mail.attachments[0].content.endswith(b"--inside--")


# --- The envelope: who wrote, about what ---


@pytest.mark.parametrize(
    ("field", "name", "address"),
    [
        ('"Trumbleton, Odalys" <o@x.example>', "Trumbleton, Odalys", "o@x.example"),
        ("Nubbins, Inc. <p@x.example>", "Nubbins, Inc.", "p@x.example"),
        ("U@X.EXAMPLE (Ursula (the elder) Quill)", "Ursula (the elder) Quill", "u@x.example"),
        ("Jan Kowalski jan@x.example", "Jan Kowalski", "jan@x.example"),
        ("Jan <jan@x.example", "Jan", "jan@x.example"),
        ('"Jan <jan@x.example>', '"Jan', "jan@x.example"),
        ("<<jan@x.example>>", "", "jan@x.example"),
        ("'Jan' <mailto:jan@x.example>", "'Jan'", "jan@x.example"),
        ("friends: a@x.example, b@x.example;", "", "a@x.example"),
        ("=?utf-8?Q?Bell,_Ana?= <a@x.example>", "Bell, Ana", "a@x.example"),
        ('"=?utf-8?Q?Bell=2C_Ana?=" <a@x.example>', "Bell, Ana", "a@x.example"),
        ("Zdzisława <z@świece.example>", "Zdzisława", "z@świece.example"),
        ("<@relay.example,@other.example:a@x.example>", "", "a@x.example"),
        ('"john doe"@x.example', "", '"john doe"@x.example'),
        ('"john"@x.example', "", "john@x.example"),
        ("a..b@docomo.example", "", "a..b@docomo.example"),
        ("\u202eAna\u200b <a@x.example>", "Ana", "a@x.example"),
    ],
)
def test_the_sender_is_the_address_in_from(field: str, name: str, address: str) -> None:
    mail = read(a_mail(sender=field))

    assert (mail.sender_name, mail.sender) == (name, address)


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("=?utf-8?Q?=3Cvictim=40x=2Eexample=3E?= <writer@y.example>", "writer@y.example"),
        ('"victim@x.example" <writer@y.example>', "writer@y.example"),
        ("victim@x.example <writer@y.example>", "writer@y.example"),
        ("=?utf-8?Q?Victim_=3Cvictim=40x=2Eexample=3E?=", ""),
        ("Mi\u212ae <mi\u212ae@x.example>", ""),
        ("<a@x.example> <b@x.example>", ""),
    ],
)
def test_nobody_becomes_the_sender_by_a_display_name_or_by_letters_that_look_alike(field: str, address: str) -> None:
    assert read(a_mail(sender=field)).sender == address


@pytest.mark.parametrize(
    "field", ["", "  ", "Ana", "ana@", "@x.example", "a@b@c", ":;@", "a@-x.example", "<a b@x.example>", "(", '"', "=?"]
)
def test_a_letter_without_a_usable_sender_is_still_read(field: str) -> None:
    mail = read(a_mail(sender=field, body="Hello"))

    assert (mail.sender, mail.text) == ("", "Hello")


def test_reply_to_is_shown_and_is_never_who_wrote() -> None:
    mail = read(a_mail("Reply-To: Accounts <Accounts@Other.Example>"))

    assert (mail.sender, mail.reply_to) == ("ana@client.example", "accounts@other.example")


@pytest.mark.parametrize(
    ("field", "subject"),
    [
        ("=?utf-8?Q?a?= =?utf-8?Q?b?=", "ab"),
        ("=?utf-8?Q?a?= b =?utf-8?Q?c?=", "a b c"),
        ("Re:=?utf-8?Q?a?==?utf-8?Q?b?=c", "Re:abc"),
        ("=?utf-8?B?4oI=?=\r\n =?UTF-8?Q?=AC?= 5", "€ 5"),
        ("=?utf-8?B?w7w?=", "ü"),
        ("=?utf-8?Q?Why?_me?=", "Why? me"),
        ("=?utf-8?Q?one two?=", "one two"),
        ("=?windows-1252?Q?d=92ao=FBt_=80?=", "d’août €"),
        ("=?iso-8859-1?Q?5_=80?=", "5 €"),
        ("=?koi8-r?B?8NLJ18XU?=", "Привет"),
        ("=?gb2312?B?1tDOxA==?=", "中文"),
        ("=?iso-2022-jp*ja?B?GyRCJEobKEI=?= =?iso-2022-jp?B?GyRCJEobKEI=?=", "なな"),
        ("=?x-nobody-knows?Q?=C3=BC?=", "ü"),
        ("=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        ("=?utf-8?Q?unfinished", "=?utf-8?Q?unfinished"),
        ("a\t b\r\n\tc", "a b c"),
        ("a\0b", "a\ufffdb"),
        ("=?utf-7?Q?a+2AA-b?=", "a\ufffdb"),
        ("=?utf-8?Q?a=0D=0ABcc=3A_b=0B=E2=80=A8c?=", "a Bcc: b c"),
        ("  ", ""),
        (b"gr\xfc\xdfe", "grüße"),
        ("żółć".encode(), "żółć"),
        (b"\xcf\xf0\xe8\xe2\xe5\xf2 =?windows-1251?Q?=CF?=", "Привет П"),
    ],
)
def test_a_subject_is_decoded_into_one_line(field: str | bytes, subject: str) -> None:
    encoded = field.encode() if isinstance(field, str) else field

    assert read(a_mail(b"Subject: " + encoded)).subject == subject


def test_references_are_the_ids_in_both_fields_each_once() -> None:
    mail = read(
        a_mail(
            "Message-ID:\r\n <3@client.example>",
            "In-Reply-To: Your letter <2@desk.example> of Monday",
            "References: <1@client.example>\r\n <2@desk.\r\n example> broken <>",
        )
    )

    assert mail.message_id == "<3@client.example>"
    assert mail.references == ("<2@desk.example>", "<1@client.example>")


def test_an_id_that_came_without_its_brackets_is_an_id_all_the_same() -> None:
    mail = read(a_mail("Message-ID: 3@client.example", "In-Reply-To: 2@desk.example"))

    assert (mail.message_id, mail.references) == ("<3@client.example>", ("<2@desk.example>",))


def test_tags_stand_in_the_subject_or_behind_the_plus_of_the_desks_own_address() -> None:
    mail = read(
        a_mail(
            "To: Desk <Support+7K3M9Q2F@Step-Into.Example>, other+AAAAAAAA@client.example",
            "Cc: support+sales@step-into.example",
            "Delivered-To: support+bbbbbbbb@step-into.example",
            "Subject: =?utf-8?Q?AW:_[=23cccccccc]?= [#7K3M9Q2F] [#ILOUILOU] [#12345] [#CASE-TAG#]",
        )
    )

    assert mail.tags == ("CCCCCCCC", "7K3M9Q2F", "BBBBBBBB")


# --- When it came, and what our own server says of it ---

RECEIVED = "Received: from a.example (b) by mx.step-into.example (Postfix) id 1; Mon, 7 Sep 2026 09:14:22 +0200 (CEST)"
AT_OUR_SERVER = datetime(2026, 9, 7, 7, 14, 22, tzinfo=UTC)
SENT = "Date: Tue, 1 Sep 2026 08:00:00 +0000"
SAID_SENT = datetime(2026, 9, 1, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "settings", "received_at"),
    [
        ([RECEIVED, SENT], {"trusted_host": OUR_SERVER}, AT_OUR_SERVER),
        ([RECEIVED, SENT], {}, AT_OUR_SERVER),
        (
            ["Received: from x by evil.example; Mon, 7 Sep 2020 09:14:22 +0000", RECEIVED],
            {"trusted_host": OUR_SERVER},
            ARRIVED,
        ),
        ([RECEIVED], {"trusted_host": "other.example"}, ARRIVED),
        (
            ["Received: from by (mx.step-into.example) by evil.example; Mon, 7 Sep 2020 09:14:22 GMT"],
            {"trusted_host": OUR_SERVER},
            ARRIVED,
        ),
        (["Received: (qmail 1 invoked from network); 7 Sep 2026 07:14:22 -0000"], {}, AT_OUR_SERVER),
        (
            ["Received: by MX.Step-Into.Example. with LMTP; Mon, 7 Sep 2026 02:14:22 EST"],
            {"trusted_host": OUR_SERVER},
            AT_OUR_SERVER,
        ),
        (["Received: nonsense", SENT], {}, ARRIVED),
        ([SENT], {}, ARRIVED),
        ([RECEIVED, SENT], {"trust_dates": True}, SAID_SENT),
        ([RECEIVED, "Date: Someday, 41 Septembruary 2026 26:71:00 +9900"], {"trust_dates": True}, AT_OUR_SERVER),
        (["Date: Fri, 31 Dec 9999 23:59:59 -2359"], {"trust_dates": True}, ARRIVED),
        (["Date: 1 Sep 2026 10:00 +" + "9" * 5000], {"trust_dates": True}, ARRIVED),
        (["Date: Mon,"], {"trust_dates": True}, ARRIVED),
    ],
)
def test_a_letter_came_when_our_own_server_took_it_whatever_its_date_says(
    fields: list[str], settings: dict[str, Any], received_at: datetime
) -> None:
    assert read(a_mail(*fields), **settings).received_at == received_at


@pytest.mark.parametrize(
    ("fields", "trusted_host", "authentication"),
    [
        (
            ["Authentication-Results: mx.step-into.example;\r\n\tdkim=pass"],
            OUR_SERVER,
            "mx.step-into.example; dkim=pass",
        ),
        (
            ["Authentication-Results: (a;b) MX.step-into.example 1; none"],
            OUR_SERVER,
            "(a;b) MX.step-into.example 1; none",
        ),
        (["Authentication-Results: mx.step-into.example; dkim=pass"], None, None),
        (["Authentication-Results: mx.step-into.example.evil.example; dkim=pass"], OUR_SERVER, None),
        (
            [
                "Authentication-Results: evil.example; spf=pass",
                "Authentication-Results: mx.step-into.example; dkim=pass",
            ],
            OUR_SERVER,
            None,
        ),
        ([], OUR_SERVER, None),
    ],
)
def test_only_our_own_servers_word_on_the_sender_is_believed(
    fields: list[str], trusted_host: str | None, authentication: str | None
) -> None:
    assert read(a_mail(*fields), trusted_host=trusted_host).authentication == authentication


# --- The text ---


@pytest.mark.parametrize(
    ("label", "body", "text"),
    [
        ("", "Żółć".encode(), "Żółć"),
        ("", "café à 5".encode("cp1252"), "café à 5"),
        ("us-ascii", "Żółć".encode(), "Żółć"),
        ("iso-8859-1", "Żółć".encode(), "Żółć"),
        ("iso-8859-1", "5 € – d’août".encode("cp1252"), "5 € – d’août"),
        ("iso-8859-2", "Żółć".encode("iso8859-2"), "Żółć"),
        ("utf-8", "café 5".encode("cp1252"), "café 5"),
        ("utf-8", "Żółć".encode()[:-1], "Żół\ufffd"),
        ("utf-8", "Żółć ".encode() + b"caf\xe9!", "Żółć café!"),
        ("koi8-u", "Привіт, їжаче".encode("koi8-u"), "Привіт, їжаче"),
        ("windows-1251", "Привіт, їжаче".encode("cp1251"), "Привіт, їжаче"),
        ("iso-8859-8-i", "שלום".encode("cp1255"), "שלום"),
        ("windows-1256", "مرحبا".encode("cp1256"), "مرحبا"),
        ("iso-8859-7", "Καλημέρα".encode("iso8859-7"), "Καλημέρα"),
        ("tis-620", "สวัสดี".encode("cp874"), "สวัสดี"),
        ("gb2312", "朱镕基".encode("gbk"), "朱镕基"),
        ("gb2312", "您好，我们的广告没有投放".encode(), "您好，我们的广告没有投放"),
        ("big5", "廣告".encode("big5"), "廣告"),
        ("shift_jis", "①髙橋".encode("cp932"), "①髙橋"),
        ("x-sjis", "広告".encode("cp932"), "広告"),
        ("euc-jp", "広告".encode("euc-jp"), "広告"),
        ("ks_c_5601-1987", "똠방각하".encode("cp949"), "똠방각하"),
        ("iso-2022-kr", "안녕".encode("iso2022_kr"), "안녕"),
        ("iso-2022-jp", "広告".encode("iso2022_jp"), "広告"),
        ("iso-2022-jp", "広告".encode(), "広告"),
        ("", "広告".encode("iso2022_jp"), "広告"),
        ("iso-2022-jp", b"\x1b$B9-9p", "広告"),
        ("hz-gb-2312", b"~{VPND~}", "中文"),
        ("utf-16", "Żółć".encode("utf-16"), "Żółć"),
        ("utf-16le", "Привіт".encode("utf-16-le"), "Привіт"),
        ("utf-16", b"no such thing", "no such thing"),
        ("utf-7", b"caf+AOk-", "café"),
        ("ibm037", "Hello".encode("cp037"), "Hello"),
        ("unicode_escape", rb"\u0041 \q", r"\u0041 \q"),
        ("zlib", b"text", "text"),
        ("idna", b"xn--caf-dma", "xn--caf-dma"),
        ("x-nobody-knows", "naïve 5 €".encode("cp1252"), "naïve 5 €"),
        ("\"utf-8' ;", "é".encode(), "é"),
        ("u\0tf", "é".encode(), "é"),
        ("utf-8", b"\xef\xbb\xbfHello", "Hello"),
        ("utf-8", b"a\0b\x07c\x0cd", "a\ufffdb\ufffdc\nd"),
    ],
)
def test_a_text_is_read_in_its_own_charset_or_by_the_best_guess(label: str, body: bytes, text: str) -> None:
    field = f"Content-Type: text/plain; charset={label}"

    assert read(a_mail(field, "Content-Transfer-Encoding: 8bit", body=body)).text == text


def test_a_charset_named_elsewhere_in_the_mail_helps_with_a_text_that_has_no_label() -> None:
    assert read(a_mail("Subject: =?windows-1251?Q?=CF?=", body="Привет".encode("cp1251"))).text == "Привет"


@pytest.mark.parametrize(
    ("encoding", "body", "text"),
    [
        ("BASE64 (really)", b"SGVsbG8gd29y\r\nbGQh", "Hello world!"),
        ("base64", b"SGVsbG8gd29ybGQ", "Hello world"),
        ("base64", b"SGVsbG8gd29ybGQhQ", "Hello world!"),
        ("base64", b"SGVs\x00bG8g*d29y\r\nbGQh", "Hello world!"),
        ("base64", b"SGVsbG8=\r\nIHdvcmxk\r\n", "Hello world"),
        ("base64", b"SGVsbG8=\r\n\r\n____\r\nScanned by a gateway, all clean.\r\n", "Hello"),
        ("base64", b"Hello\r\n\r\nplease send it back.\r\n", "Hello\n\nplease send it back."),
        ("base64", "Доброго дня".encode(), "Доброго дня"),
        ("base64", b"", ""),
        ("quoted-printable", b"f=C3=BCr=\r\n dich=20=", "für dich"),
        ("Quoted-Printable", b"f=c3=bcr= \r\ndich =ZZ =C", "fürdich =ZZ"),
        ("quoted_printable", b"=C3=BC", "ü"),
        ("x-unknown", b"Hello", "Hello"),
    ],
)
def test_a_text_is_read_through_a_damaged_or_wrong_transfer_encoding(encoding: str, body: bytes, text: str) -> None:
    assert read(a_mail(f"Content-Transfer-Encoding: {encoding}", body=body)).text == text


@pytest.mark.parametrize(
    "raw",
    [
        b"From: Ana <ana@client.example>\nSubject: Fee\n of May\n\nHello\nthere\n",
        b"From: Ana <ana@client.example>\rSubject: Fee\r of May\r\rHello\rthere\r",
        b"From: Ana <ana@client.example>\r\r\nSubject: Fee\r\r\n of May\r\r\n\r\r\nHello\r\r\nthere",
        b"\xef\xbb\xbf\r\nFrom: Ana <ana@client.example>\r\nSubject: Fee\r\n of May\r\n\r\nHello\r\nthere",
        b"From ana Mon Sep  7 09:14:22 2026\nFrom: Ana <ana@client.example>\nSubject: Fee\n\tof May\n\nHello\nthere",
        b"From : Ana <ana@client.example>\r\nSUBJECT : Fee of May\r\n\r\nHello\r\nthere",
        b"From: Ana <ana@client.example>\r\nthis line is dirt\r\nSubject: Fee of May\r\n\r\nHello\r\nthere",
        b"From: Ana <ana@client.example>\r\nSubject: Fee of May\r\nHello\r\nthere",
        b"Subject: Fee of May\r\nFrom: Ana <ana@client.example>\r\nFrom: Bea <bea@x.example>\r\n\r\nHello\r\nthere",
    ],
)
def test_a_header_is_read_whatever_its_line_ends_and_dirt(raw: bytes) -> None:
    mail = read(raw)

    assert (mail.sender, mail.subject, mail.text) == ("ana@client.example", "Fee of May", "Hello\nthere")


def test_a_header_quoted_below_a_letter_without_a_blank_line_does_not_replace_its_own() -> None:
    mail = read(b"From: ana@client.example\nSubject: Fee\nDate: today\nHello\nFrom: boss@desk.example\nTo: x\n\nmore")

    assert mail.sender == "ana@client.example"
    assert "boss@desk.example" in mail.text or mail.text == "more"


@pytest.mark.parametrize(
    ("fields", "body", "text", "names"),
    [
        ("multipart/mixed", "--x\nContent-Type: text/plain\n\nHello\n--x--\n", "Hello", []),
        ("multipart/mixed; boundary=y", "--x\nContent-Type: text/plain\n\nHello\n--x--\n", "Hello", []),
        ('multipart/mixed; boundary="a b "', "--a b\n\nHello\n--a b--\n", "Hello", []),
        ("multipart/mixed; boundary=x", "Only a text.\n", "Only a text.", []),
        ("multipart/mixed; boundary=x", "--x--\n", "", []),
        ("multipart/mixed; boundary=x", "--x\n--x\n\nHello\n--x\n--x--\n", "Hello", []),
        ("multipart/mixed; boundary=x", "--x\nNote: see below\nHello\n--x--\n", "Note: see below\nHello", []),
        (
            "multipart/mixed; boundary=x",
            "--x\n\nHello\n--x\nContent-Type: application/pdf\n\n%PDF-1.4",
            "Hello",
            ["attachment.pdf"],
        ),
        (
            "multipart/mixed; boundary=x",
            (
                "--x\nContent-Type: multipart/alternative; boundary=y\n\n--y\n\nHello\n--y\nContent-Type: text/html\n\n"
                "<p>Hello\n--x\nContent-Type: application/pdf; name=a.pdf\n\n%PDF\n--x--\n"
            ),
            "Hello",
            ["a.pdf"],
        ),
        (
            "multipart/mixed; boundary=x",
            (
                "--x\nContent-Type: multipart/alternative; boundary=x\n\n--x\n\nHello there\n--x\n"
                "Content-Type: text/html\n\n<p>Hello <b>there</b>\n--x--\n\n--x\n"
                "Content-Type: application/pdf; name=a.pdf\n\n%PDF\n--x--\n"
            ),
            "Hello there",
            ["a.pdf"],
        ),
        ("multipart/mixed; boundary=x", "--x\n\nHello\n--x\n\nand more\n--x--\n", "Hello\n\nand more", []),
        ("multipart/mixed; boundary=x", "--x\n\nI know\n--x\n\nno\n--x--\n", "I know\n\nno", []),
        (
            "multipart/mixed; boundary=x",
            "--x\n\nHello  there\n--x\nContent-Type: text/html\n\n<p>Hello <b>there</b></p>\n--x--\n",
            "Hello  there",
            [],
        ),
        (
            "multipart/mixed; boundary=x",
            "--x\n\nHello\n--x\nContent-Type: text/html\n\n<p>Hello, <b>much</b> more</p>\n--x--\n",
            "Hello, much more",
            [],
        ),
        (
            "multipart/mixed; boundary=x",
            "--x\n\nHello\n--x\nContent-Type: text/html\n\n<p>and this</p>\n--x--\n",
            "Hello\n\nand this",
            [],
        ),
        (
            "multipart/alternative; boundary=x",
            "--x\n\n \n--x\nContent-Type: text/html\n\n<p>Hello\n--x\nContent-Type: text/calendar\n\nBEGIN:V\n--x--\n",
            "Hello",
            ["attachment.ics"],
        ),
        (
            "multipart/alternative; boundary=x",
            "--x\nContent-Type: text/html\n\n<p>Hello\n--x\n\nHello!\n--x--\n",
            "Hello!",
            [],
        ),
        (
            "multipart/digest; boundary=x",
            "--x\n\nSubject: one\n\na\n--x\n\nSubject: two/2\n\nb\n--x--\n",
            "",
            ["one.eml", "two_2.eml"],
        ),
        ("text", "Hello\n", "Hello", []),
        ("text/plain; name=letter.txt", "Hello\n", "Hello", []),
        ("text/plain", "<html><body><p>Hello</p>", "Hello", []),
        ("text/html", "Hello\nthere &amp; here", "Hello\nthere & here", []),
        ("application/pdf", "%PDF-1.4", "", ["attachment.pdf"]),
        (
            "text/plain; format=flowed; delsp=yes",
            "bro \nken\n \n-- \nAna \n> kept \n> kept\n",
            "broken\n\n-- \nAna \n> kept \n> kept",
            [],
        ),
        ("text/plain; format=flowed", "one \ntwo\n  indented\n", "one two\n indented", []),
    ],
)
def test_the_text_is_found_in_a_malformed_letter(fields: str, body: str, text: str, names: list[str]) -> None:
    mail = read(a_mail(f"Content-Type: {fields}", body=body.replace("\n", "\r\n")))

    assert (mail.text, [attachment.name for attachment in mail.attachments]) == (text, names)


def test_a_multipart_that_was_encoded_as_a_whole_is_read_all_the_same() -> None:
    body = base64.encodebytes(b"--x\r\n\r\nHello\r\n--x--\r\n")

    mail = read(a_mail("Content-Type: multipart/mixed; boundary=x", "Content-Transfer-Encoding: base64", body=body))

    assert mail.text == "Hello"


def test_a_text_beyond_the_limit_is_cut_with_a_mark() -> None:
    mail = read(a_mail(body="word " * 100), limits=Limits(text_characters=50))

    assert len(mail.text) <= 50
    assert mail.text.startswith("word word")
    assert mail.text.endswith("\n[…]")


# --- HTML ---


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p>one<b>two</b></p><p>three", "onetwo\n\nthree"),
        ("<div>one</div><div>two<br>three<br><br>four</div>", "one\ntwo\nthree\n\nfour"),
        ("<p>1&nbsp;288,80&nbsp;&euro; &#8211; &amp;lt; &#x80; soft&shy;hyphen</p>", "1 288,80 € – &lt; € softhyphen"),
        ("<table><tr><th>a<th>b</tr><tr><td>1</td><td>2</td></tr></table>", "a\tb\n1\t2"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("<pre>a\n  b\n</pre>c", "a\n  b\n\nc"),
        ("<blockquote>old<br><blockquote>older</blockquote></blockquote>new", "> old\n>\n> > older\n>\n\nnew"),
        ("<script>a</script>b<STYLE >c</style x>d<title>e</title>f<!-- <p>g --><![if !mso]>h<![endif]>", "bdfh"),
        ("<!--[if mso]><xml>a</xml><![endif]-->b<xml>c</xml><iframe src=d>e</iframe>", "b"),
        ("a<script>unclosed <p>b", "a"),
        ("<title>unclosed</p>", "unclosed"),
        ('<img title=">" onerror="alert(1)" src="https://beacon.example/1.gif">a', "a"),
        ("<img alt='a chart' src=cid:1><img alt=\U0001f600>", "[a chart]\U0001f600"),
        ('<p>a <img src="https://beacon.example/1.gif" onerr', "a"),
        ("<p don't>it's</p>", "it's"),
        (
            "a < b, 3<5, <ana@client.example> or <https://client.example/x>",
            "a < b, 3<5, <ana@client.example> or <https://client.example/x>",
        ),
        (
            '<p>see <a href="https://client.example/plan?a=1&amp;b=2">the plan</a>, please</p><p>Ana',
            "see the plan, please\n<https://client.example/plan?a=1&b=2>\n\nAna",
        ),
        ('<a href="https://client.example/">client.example</a>', "client.example"),
        ('<a href="mailto:ana@client.example?subject=x">ana@client.example</a>', "ana@client.example"),
        (
            '<a href="java&#115;cript:alert(1)">a</a> <a href=" JaVaScript:b">b</a> <a href="data:text/html,c">c</a>',
            "a b c",
        ),
        ('<a href="https://client.example/"><img src=logo.gif></a>a', "a"),
        ("&lt;script&gt;", "<script>"),
        ("<p>&#0;&#xD800;&#x110000;&#99999999999;&#" + "9" * 5000 + ";", "\ufffd" * 5),
    ],
)
def test_html_becomes_the_words_that_a_reader_would_see(source: str, text: str) -> None:
    assert as_html(source).text == text


# --- New words above old ones ---

HISTORY = "> Dear Ana,\n>\n> we have your letter.\n>> Hello\n"


@pytest.mark.parametrize(
    "below",
    [
        HISTORY,
        f"On 7 Sep 2026 Step-Into Support wrote:\n{HISTORY}",
        f"On Mon, Sep 7, 2026 at 11:14 AM Step-Into Support\n<support@step-into.example> wrote:\n\n{HISTORY}",
        f"Step-Into Support wrote:\n{HISTORY}",
        f"Am Mo., 7. Sept. 2026 um 11:14 Uhr schrieb Step-Into <support@step-into.example>:\n\n{HISTORY}",
        f"Le lun. 7 sept. 2026 à 11:14, Step-Into a écrit :\n\n{HISTORY}",
        f"W dniu 7.09.2026 o 11:14, Step-Into pisze:\n{HISTORY}",
        f"пн, 7 вер. 2026 р. о 11:14 Step-Into <support@step-into.example> пише:\n\n{HISTORY}",
        f"2026年9月7日(月) 11:14 Step-Into <support@step-into.example>:\n\n{HISTORY}",
        f"在 2026年9月7日 11:14，Step-Into 写道：\n{HISTORY}",
        "Op ma 7 sep 2026 om 11:14 schreef Step-Into <support@step-into.example>:\n\nBeste Ana,\n",
        "-----Original Message-----\nFrom: Step-Into\nSent: Monday\nTo: Ana\n\nDear Ana\n",
        "-------- Ursprüngliche Nachricht --------\nVon: Step-Into\nDatum: Montag\n\nHallo Ana\n",
        "________________________________\nFrom: Step-Into\nSent: Monday\nTo: Ana\nSubject: Fee\n\nDear Ana\n",
        "От: Step-Into\nОтправлено: понедельник\nКому: Ана\nТема: Сбор\n\nЗдравствуйте\n",
    ],
)
def test_what_is_new_is_told_from_the_history_below_it(below: str) -> None:
    text = f"It has not come.\nPlease look.\n\n{below}"

    mail = read(a_mail("Subject: Re: Fee", "Content-Type: text/plain; charset=utf-8", body=text))

    assert mail.new_text == "It has not come.\nPlease look."
    assert mail.text == text.strip()


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Re: Fee", "> Was it paid?\nYes.\n\n> When?\nOn Monday.\n"),
        ("Re: Fee", "On 7 Sep 2026 Step-Into wrote:\n> Was it paid?\n\nYes, on Monday.\n"),
        (
            "Re: Fee",
            "Hi,\n\nOn 7 Sep 2026 at 11:14 Step-Into <s@x.example> wrote:\n> Was it paid?\nYes.\n> When?\nOn Monday.\n",
        ),
        ("Re: Fee", HISTORY),
        ("Fee", "FYI\n\nBegin forwarded message:\n\nFrom: Bea\nDate: Monday\nSubject: Fee\n\nIt is wrong.\n"),
        ("Fee", "Name: Ana\nMail: ana@client.example\nOrder: 5\n\nThe fee is wrong.\n"),
        ("Fee", "From: my side all is well.\nThanks\n"),
        (
            "Re: Fee",
            "FYI\n\n---------- Forwarded message ---------\nFrom: Bea\nDate: Monday\nSubject: Fee\n\nIt is wrong.\n",
        ),
        ("WG: Fee", "Siehe unten\n\nVon: Bea\nGesendet: Montag\nAn: Ana\nBetreff: Fee\n\nThe fee is wrong.\n"),
    ],
)
def test_nothing_is_split_off_a_letter_that_answers_in_between_or_forwards_news(subject: str, text: str) -> None:
    mail = read(a_mail(f"Subject: {subject}", body=text))

    assert mail.new_text == mail.text == text.strip()


def test_what_is_new_in_an_html_letter_stands_above_the_quoted_block() -> None:
    mail = as_html(
        "It has not come.<div>Am 7. Sep. 2026 um 11:14 schrieb D &lt;<a href='mailto:d@x.example'>d@x.example</a>&gt;:"
        "<br></div><blockquote>Hallo<p>Ana</p></blockquote>"
    )

    assert mail.new_text == "It has not come."


@each_letter
def test_the_new_words_of_a_letter_are_some_of_its_words(letter: dict[str, Any]) -> None:
    mail = read(raw_letter(letter))

    assert mail.text.startswith(mail.new_text)
    assert mail.new_text == letter.get("new_text", mail.new_text)
    assert len(mail.new_text) < 1000


# --- Attachments ---


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        ('filename="plan.pdf"', "plan.pdf"),
        ("filename=my plan.pdf", "my plan.pdf"),
        ("FileName = Plan.PDF ; size=5", "Plan.PDF"),
        ("filename*=UTF-8''plan%20%E2%80%93%20May.pdf", "plan – May.pdf"),
        ("filename*=iso-8859-1'de'%fc.pdf; filename=u.pdf", "ü.pdf"),
        ("filename*0*=utf-8''%E2%82; filename*1*=%AC; filename*2=\" 5.pdf\"", "€ 5.pdf"),
        ("filename*=plan.pdf", "plan.pdf"),
        ('filename="=?utf-8?B?w7wucGRm?="', "ü.pdf"),
        ('filename="ü.pdf"', "ü.pdf"),
        (b'filename="\xfc.pdf"', "ü.pdf"),
        ('filename="a;b\\"c.pdf"', 'a;b"c.pdf'),
        ('filename="unclosed.pdf', "unclosed.pdf"),
        (r'filename="C:\Users\ana\plan.pdf"', "plan.pdf"),
        ('filename="../../etc/plan.pdf"', "plan.pdf"),
        ("filename*=utf-8''..%2Fa%0D%0Ab%00.pdf", "a b\ufffd.pdf"),
        ('filename=".plan.pdf. "', "plan.pdf"),
        ("filename=\"'plan.pdf'\"", "plan.pdf"),
        ('filename="plan\u202e\u200b.pdf"', "plan.pdf"),
        ('filename="' + "x" * 400 + '.pdf"', "x" * 251 + ".pdf"),
        ('filename="' + "ж" * 400 + '.pdf"', "ж" * 125 + ".pdf"),
        ('filename="..."', "attachment.pdf"),
        ("", "attachment.pdf"),
    ],
    ids=ascii,
)
def test_an_attachment_has_a_name_that_is_safe_to_save(parameter: str | bytes, name: str) -> None:
    encoded = parameter.encode() if isinstance(parameter, str) else parameter

    attachment = a_letter_with("Content-Type: application/pdf", b"Content-Disposition: attachment; " + encoded)

    assert attachment == Attachment(name=name, content_type="application/pdf", content=b"data", problem=None)


@pytest.mark.parametrize(
    ("fields", "content", "name"),
    [
        ("Content-Type: image/jpeg", b"\xff\xd8\xff", "attachment.jpg"),
        ("Content-Type: text/calendar; method=REQUEST", b"BEGIN:VCALENDAR", "attachment.ics"),
        ("Content-Type: application/octet-stream", b"%PDF-1.4\n", "attachment.pdf"),
        ("Content-Type: message/rfc822", b"Subject: =?utf-8?Q?f=C3=BCr/dich?=\r\n\r\nHello", "für_dich.eml"),
        ("Content-Type: message/rfc822", b"From: ana@client.example\r\n\r\nHello", "attachment.eml"),
        ("Content-Type: message/rfc822", b"\xff\xfe", "attachment.eml"),
        ("Content-Type: application/pgp-signature", b"-----BEGIN PGP SIGNATURE-----", "attachment.asc"),
        ("Content-Type: text/plain; name=mz.txt", b"MZ is how my letter begins", "mz.txt"),
    ],
)
def test_an_attachment_without_a_name_is_named_after_what_it_is(fields: str, content: bytes, name: str) -> None:
    attachment = a_letter_with(fields, content=content)

    assert (attachment.name, attachment.content, attachment.problem) == (name, content, None)


@pytest.mark.parametrize(
    ("fields", "content", "name"),
    [
        ("Content-Type: application/pdf; name=plan.pdf.exe", b"data", "plan.pdf.exe"),
        ('Content-Type: application/pdf; name="plan.exe. "', b"data", "plan.exe"),
        ('Content-Type: application/pdf; name="plan\u202efdp.exe"', b"data", "planfdp.exe"),
        ("Content-Type: application/pdf; name=plan.pdf", b"MZ\x90\0\3\0\0\0", "plan.pdf"),
        ("Content-Type: image/png; name=chart.png", b"\x7fELF\2\1\1", "chart.png"),
        ("Content-Type: text/plain; name=notes.txt", b"#!/bin/sh\nrm -r /", "notes.txt"),
        ("Content-Type: text/html; name=page.html", b"<p>Hello", "page.html"),
        ("Content-Type: text/plain; name=a.js", b"alert(1)", "a.js"),
        ("Content-Type: application/x-msdownload", b"MZ\x90\0\3\0", "attachment.exe"),
        ("Content-Type: application/octet-stream; name=table.xlsm", b"data", "table.xlsm"),
        ("Content-Type: application/x-nobody-knows", b"zz", "attachment"),
    ],
)
def test_a_program_is_kept_by_name_only(fields: str, content: bytes, name: str) -> None:
    attachment = a_letter_with(fields, content=content)

    assert (attachment.name, attachment.content, attachment.problem) == (name, b"", "type_not_allowed")


@pytest.mark.parametrize(
    ("encoding", "content", "kept"),
    [
        ("base64", b"JVBERi0xLjQ", b"%PDF-1.4"),
        ("base64", b"JVBERi0x*LjQ=", b"%PDF-1.4"),
        ("quoted-printable", b"%PDF=2D1.4=ZZ", b"%PDF-1.4=ZZ"),
        ("x-uuencode", b"%PDF-1.4", b"%PDF-1.4"),
    ],
)
def test_a_damaged_attachment_keeps_what_can_be_read_and_says_so(encoding: str, content: bytes, kept: bytes) -> None:
    fields = ("Content-Type: application/pdf; name=plan.pdf", f"Content-Transfer-Encoding: {encoding}")

    attachment = a_letter_with(*fields, content=content)

    assert (attachment.content, attachment.problem) == (kept, "damaged")


def test_attachments_beyond_the_limits_are_kept_by_name_only() -> None:
    parts = "".join(f"--b\r\nContent-Type: image/png; name={name}.png\r\n\r\n{'x' * size}\r\n" for name, size in
                    (("fits", 60), ("large", 101), ("too", 60), ("small", 40)))  # fmt: skip
    raw = a_mail("Content-Type: multipart/mixed; boundary=b", body=f"{parts}--b--\r\n")

    mail = read(raw, limits=Limits(attachment_bytes=100, attachments_bytes=100))

    kept = {attachment.name: (len(attachment.content), attachment.problem) for attachment in mail.attachments}
    assert kept == {
        "fits.png": (60, None),
        "large.png": (0, "too_large"),
        "too.png": (0, "too_large"),
        "small.png": (40, None),
    }


# --- Mail that no person wrote ---


@pytest.mark.parametrize(
    ("fields", "sender", "reason"),
    [
        ([], "ana@client.example", None),
        (["Auto-Submitted: no"], "ana@client.example", None),
        (["Auto-Submitted: (by hand) No; x=y"], "ana@client.example", None),
        (["Auto-Submitted: auto-generated; owner=x"], "ana@client.example", "auto_submitted"),
        (["Auto-Submitted: (vacation) auto-replied"], "ana@client.example", "auto_submitted"),
        (["Precedence: first-class"], "ana@client.example", None),
        (["Precedence: Bulk"], "ana@client.example", "bulk"),
        (["Precedence: junk"], "ana@client.example", "bulk"),
        (["Precedence: list"], "ana@client.example", "list"),
        (["Precedence: auto_reply"], "ana@client.example", "auto_reply"),
        (["List-Id: Gossip <gossip.example>"], "ana@client.example", "list"),
        (["List-Unsubscribe: <mailto:leave@x.example>", "Auto-Submitted: no"], "ana@client.example", "list"),
        (["X-Autoreply: yes"], "ana@client.example", "auto_reply"),
        (["X-Autoreply: no"], "ana@client.example", None),
        (["X-Autorespond: I am away"], "ana@client.example", "auto_reply"),
        (["X-Auto-Response-Suppress: All"], "ana@client.example", "auto_reply"),
        (["X-Auto-Response-Suppress: None"], "ana@client.example", None),
        (["X-Auto-Response-Suppress: DR, RN"], "ana@client.example", None),
        (["X-Auto-Response-Suppress: DR", "Subject: Réponse automatique : Fee"], "ana@client.example", "auto_reply"),
        (["Subject: Automatic reply: Fee"], "ana@client.example", None),
        (["Subject: Undelivered mail"], "ana@client.example", None),
        (["Return-Path: <>"], "ana@client.example", "empty_return_path"),
        (["Return-Path: <>", "Subject: Mail delivery failed: returning message to sender"], "x@mta.example", "bounce"),
        (["X-Failed-Recipients: bea@client.example"], "x@mta.example", "bounce"),
        ([], "Mail Delivery System <MAILER-DAEMON@mta.example>", "bounce"),
        (["Subject: Undelivered Mail Returned to Sender"], "postmaster@mta.example", "bounce"),
        (["Subject: The fee is wrong"], "Postmaster <postmaster@client.example>", None),
        ([], "MailerDaemon@mta.example", "bounce"),
        (["X-Loop: Support@step-into.example"], "ana@client.example", "loop"),
        (["X-Loop: <support+7K3M9Q2F@step-into.example>", "Auto-Submitted: no"], "ana@client.example", "loop"),
        (["X-Loop: ana@client.example"], "ana@client.example", None),
        ([], "no-reply@shop.example", "no_reply"),
        ([], "Shop <DoNotReply+17@shop.example>", "no_reply"),
        (["Auto-Submitted: no"], "noreply@shop.example", None),
        ([], "norbert.eply@client.example", None),
        ([], "SUPPORT@Step-Into.Example", "own_address"),
        ([], "The director <support+7K3M9Q2F@step-into.example.>", "own_address"),
        ([], "ana@client.example, support@step-into.example", "own_address"),
        ([], '"support@step-into.example" <ana@client.example>', None),
        ([], "support@step-into.example.evil.example", None),
        ([], "supporter@step-into.example", None),
    ],
)
def test_mail_that_no_person_wrote_opens_nothing(fields: list[str], sender: str, reason: str | None) -> None:
    assert read(a_mail(*fields, sender=sender)).automatic == reason


def a_report(action: str, returned: str = "message/rfc822", kind: str = "delivery-status") -> bytes:
    parts = [
        "Content-Type: text/plain\n\nSorry.",
        f"Content-Type: message/{kind}\n\nReporting-MTA: dns; x.example\n\nFinal-Recipient: rfc822; b@x\n{action}",
        f"Content-Type: {returned}\n\nSubject: Fee\nmessage-id:\n <desk-9@step-into.example>\nTo: b@x.example\n\nHello",
    ]
    body = "".join(f"--r\n{part}\n" for part in parts) + "--r--\n"
    return a_mail("Content-Type: multipart/report; boundary=r", "Subject: Report", body=body.replace("\n", "\r\n"))


@pytest.mark.parametrize("returned", ["message/rfc822", "text/rfc822-headers", "message/global"])
def test_a_bounce_says_which_letter_of_ours_did_not_arrive(returned: str) -> None:
    mail = read(a_report("Action: FAILED (5.1.1)", returned))

    assert (mail.automatic, mail.bounced) == ("bounce", ("<desk-9@step-into.example>",))
    assert (mail.text, mail.attachments) == ("Sorry.", ())


@pytest.mark.parametrize("action", ["Action: delayed", "Action: relayed", "Action: delivered", "Status: 4.4.7"])
def test_a_report_of_a_delay_or_a_delivery_is_no_failure(action: str) -> None:
    mail = read(a_report(action))

    assert (mail.automatic, mail.bounced) == ("bounce", ())


def test_a_receipt_opens_nothing_and_reports_no_failure() -> None:
    mail = read(a_report("Disposition: manual-action; displayed", kind="disposition-notification"))

    assert (mail.automatic, mail.bounced) == ("report", ())


def test_a_bounce_in_an_old_form_names_the_letter_in_its_text_or_in_what_it_answers() -> None:
    sender = "MAILER-DAEMON@mta.example"
    quoting = a_mail(
        sender=sender, body="Sorry.\n\n--- Below is a copy.\n\nTo: bea@x.example\nMessage-Id: <desk-9@x.example>\n"
    )
    answering = a_mail("References: <desk-9@x.example>", sender=sender, body="Sorry.")

    assert read(quoting).bounced == read(answering).bounced == ("<desk-9@x.example>",)


def test_a_person_who_sends_a_bounce_along_is_still_a_person() -> None:
    report = a_report("Action: failed")
    body = b"--b\r\n\r\nWhat is this?\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n" + report + b"\r\n--b--\r\n"

    mail = read(a_mail("Content-Type: multipart/mixed; boundary=b", body=body))

    assert (mail.automatic, mail.bounced) == (None, ())
    assert [attachment.name for attachment in mail.attachments] == ["Report.eml"]


# --- Hostile mail ---


SECONDS = 8  # of work, not of waiting


def of_size(unit: bytes) -> bytes:
    return unit * (24 * MIB // len(unit))


def multipart(body: bytes) -> bytes:
    return a_mail("Content-Type: multipart/mixed; boundary=b", body=body)


def in_one_part_each(count: int, header: str, content: bytes = b"x") -> bytes:
    return multipart((b"--b\r\n" + header.encode() + b"\r\n" + content + b"\r\n") * count)


def nested(depth: int) -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(depth))


UNREADABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "26 MB": (lambda: a_mail(body="x" * 26 * MIB), "too_large"),
    "one long field": (lambda: a_mail("X: " + "x" * 66_000), "header_too_large"),
    "many fields": (lambda: a_mail(*["X: y"] * 20_000), "header_too_large"),
    "many folds": (lambda: a_mail("X: y\r\n" + " \r\n" * 30_000), "header_too_large"),
    "headers of parts": (lambda: in_one_part_each(100, "X:\r\n" * 10_000), "header_too_large"),
    "deep nesting": (lambda: b"From: a@x.example\r\n" + nested(5000) + b"\r\nHello", "too_deep"),
    "many parts": (lambda: in_one_part_each(300, "Content-Type: text/plain\r\n"), "too_many_parts"),
    "many delimiters": (lambda: multipart(b"--b\n" * 5_000_000), "too_many_parts"),
    "nothing": (lambda: b"", "no_header"),
    "blank lines": (lambda: b"\r\n\r\n", "no_header"),
    "a text alone": (lambda: b"Dear desk,\r\n\r\nhello", "no_header"),
    "bytes alone": (lambda: b"\0\xff" * 100, "no_header"),
}


@pytest.mark.parametrize(("mail", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_only_a_mail_beyond_all_bounds_is_unreadable(mail: Callable[[], bytes], reason: str) -> None:
    raw = mail()
    begun = time.process_time()

    with pytest.raises(UnreadableMail) as unreadable:
        read(raw)

    assert unreadable.value.reason == reason
    assert time.process_time() - begun < SECONDS


def test_a_letter_wrapped_as_deep_as_is_allowed_is_read() -> None:
    assert read(b"From: a@x.example\r\n" + nested(32) + b"\r\nHello").text == "Hello"


@pytest.mark.parametrize(
    ("fields", "unit"),
    [
        ([], b"x" * 80_000 + b"\r\n"),
        ([], b"\n"),
        ([], b"> a\n"),
        ([], b"\xff\xc3\xa9"),
        (["Content-Transfer-Encoding: base64"], b"ab=="),
        (["Content-Transfer-Encoding: quoted-printable"], b"= \n"),
        (["Content-Type: text/plain; charset=iso-2022-jp"], b"\x1b$B-!"),
        (["Content-Type: text/html"], b"<"),
        (["Content-Type: text/html"], b"<a"),
        (["Content-Type: text/html"], b"<a "),
        (["Content-Type: text/html"], b"<!--"),
        (["Content-Type: text/html"], b"<!["),
        (["Content-Type: text/html"], b'<a =">"'),
        (["Content-Type: text/html"], b"<script>"),
        (["Content-Type: text/html"], b"<title>"),
        (["Content-Type: text/html"], b"<b>"),
        (["Content-Type: text/html"], b"<pre>\n"),
        (["Content-Type: text/html"], b"&#9"),
        (["Content-Type: text/html"], b"<a href=http://x>y</a>"),
        (["Content-Type: text/html", "", "<a "], b"a= "),
        (["Content-Type: text/html", "", "<pre>"], b"a\n"),
        (["Content-Type: multipart/mixed; boundary=b"], b"--bx\n"),
        (["Content-Type: multipart/mixed"], b"\n--b"),
    ],
    ids=ascii,
)
def test_no_long_letter_takes_long_to_read(fields: list[str], unit: bytes) -> None:
    raw = a_mail(*fields, body=of_size(unit))
    begun = time.process_time()

    mail = read(raw)

    assert time.process_time() - begun < SECONDS
    assert len(mail.text) <= 200_000


@pytest.mark.parametrize(
    ("field", "unit"),
    [
        ("To: ", "("),
        ("To: ", "a,"),
        ("To: ", '\\"'),
        ("To: ", "(a(a)"),
        ("To: ", "a.@"),
        ("To: x", " "),
        ("Subject: ", "=?utf-8?q?"),
        ("Subject: ", "=?utf-8?b?=?="),
        ("References: ", "<"),
        ("Received: ", "("),
        ("Date: ", "9"),
        ("Content-Type: ", '; a="'),
        ('Content-Type: multipart/mixed; boundary="', "("),
        ("Content-Disposition: attachment; filename*=utf-8''", "%41"),
        ("X-Dirt: x", "\r\ndirt"),
    ],
)
def test_no_long_header_takes_long_to_read(field: str, unit: str) -> None:
    raw = a_mail(field + unit * (50_000 // len(unit)), "Date: Mon, 5 Oct 2026 10:00:00 +0000", body="Hello")
    begun = time.process_time()

    read(raw, trust_dates=True)

    assert time.process_time() - begun < SECONDS


MANY_PARTS: dict[str, Callable[[], bytes]] = {
    "deep and long": lambda: b"From: a@x.example\r\n" + nested(31) + b"\r\n" + of_size(b"--b\n"),
    "letters": lambda: in_one_part_each(199, "Content-Type: message/rfc822\r\n", b"a:\n" * 20_000),
    "HTML": lambda: in_one_part_each(199, "Content-Type: text/html\r\n", b"<b>" * 40_000),
    "texts": lambda: in_one_part_each(199, "Content-Type: text/plain\r\n", b"word " * 20_000),
}


@pytest.mark.parametrize("mail", MANY_PARTS.values(), ids=MANY_PARTS)
def test_no_letter_of_many_parts_takes_long_to_read(mail: Callable[[], bytes]) -> None:
    raw = mail()
    begun = time.process_time()

    read(raw)

    assert time.process_time() - begun < SECONDS


REAL_MAILS = [path.read_bytes() for path in sorted(OWN_MAILS.glob("*.eml"))]
FRAGMENTS = [
    *(
        b"\r\n\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xed\xa0\x80",
        b"\x1b$B",
        b"=?utf-8?B?",
        b"?=",
        b"=?utf-7?Q?+2AA-?=",
    ),
    *(
        b"--",
        b"--horn\r\n",
        b"--outer--",
        b'"',
        b"<",
        b">",
        b"(",
        b";",
        b":",
        b"@",
        b"=",
        b"%",
        b"&#xD800;",
        b"<a href=",
        b"<!--",
    ),
    *(
        b'Content-Type: multipart/mixed; boundary=""\r\n',
        b"Content-Type: multipart/report\r\n",
        b"Content-Type: message/rfc822\r\n",
    ),
    *(
        b"Content-Type: text/html; charset=utf-7\r\n",
        b"Content-Type: text/plain; charset=utf-16; format=flowed; delsp=yes\r\n",
    ),
    *(
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n",
        b"Subject: ",
        b"From: ",
    ),
    *(
        b"Content-Disposition: attachment; filename*0*=x'y'%ff; filename*1=",
        b"charset*=x''%00",
        b"Date: ",
        b"Received: ;",
    ),
]


@st.composite
def spoilt_mail(draw: st.DrawFn) -> bytes:
    """A real mail with pieces cut out, doubled, moved, or replaced by troublesome ones."""
    raw = draw(st.sampled_from(REAL_MAILS))
    for _ in range(draw(st.integers(1, 6))):
        begin = draw(st.integers(0, len(raw)))
        end = draw(st.integers(begin, min(len(raw), begin + 60)))
        put = draw(
            st.one_of(st.sampled_from(FRAGMENTS), st.just(b""), st.just(raw[begin:end] * 2), st.binary(max_size=20))
        )
        raw = raw[:begin] + put + raw[end:]
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw


@given(
    raw=st.one_of(
        spoilt_mail(),
        st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=10)), max_size=40).map(b"".join),
        st.binary(max_size=300).map(b"From: a@x.example\r\n".__add__),
    )
)
@example(raw=b"To: :;@\r\nFrom: foo@[\r\n\r\n")
@example(raw=b'From: a@x.example\r\nSubject: =?utf-8?b?A?=\r\nContent-Type: text/plain; charset="\0"\r\n\r\n')
@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_whatever_break_the_reading(raw: bytes) -> None:
    try:
        mail = read(raw, trusted_host=OUR_SERVER, trust_dates=True)
    except UnreadableMail:
        return

    names = [name for attachment in mail.attachments for name in (attachment.name, attachment.content_type)]
    ids = [*mail.references, *mail.bounced, *mail.tags]
    lines = [mail.sender, mail.sender_name, mail.reply_to or "", mail.subject, mail.message_id or "", *names, *ids]
    assert [line for line in lines if re.search(r"[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", line)] == []
    assert re.search(r"[\0\r\ud800-\udfff]", mail.text) is None
    assert mail.new_text in mail.text
    assert all(0 < len(attachment.name.encode()) <= 255 for attachment in mail.attachments)
    assert mail.received_at.tzinfo is UTC
    assert read(raw, trusted_host=OUR_SERVER, trust_dates=True) == mail
