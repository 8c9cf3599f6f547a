"""Mail that is delivered: whose case it is, what it opens, and that it counts once."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api import mail_intake
from api.desk import MAIL_TAG_ALPHABET, Desk
from api.mail_intake import Outcome, Summary, Taken, import_mail
from storage import cases
from storage.submissions import Unavailable
from tests.api.mailing import (
    NOON,
    Clock,
    a_mail,
    all_cases,
    as_lead,
    close,
    collapsed,
    deliver,
    events_written,
    examples,
    history,
    opened_desk,
    set_aside,
    the_case,
)
from tests.workflow.builders import firing, proposes_slots
from workflow.commands import AddMessage, Erase, SetParticipants
from workflow.effects import EffectKind, letter_name
from workflow.events import AttachmentAdded, EventData, MessageBounced, MessageReceived, Opened
from workflow.policy import Category
from workflow.states import CaseState, Direction, MailKind, Trigger

EXAMPLES = ("published", "own")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, clock) as desk:
        yield desk


# The examples.


async def deliver_examples(desk: Desk, collection: str) -> dict[str, tuple[dict[str, Any], bytes, Taken]]:
    """In the order of the index, with the real tags of the cases they belong to."""
    delivered: dict[str, tuple[dict[str, Any], bytes, Taken]] = {}
    for entry, example in examples(collection):
        raw, placeholder = example, entry.get("tag_placeholder")
        if placeholder:
            tag = f"[#{(await the_case(desk, delivered[entry['thread_of']][2])).mail_tag}]"
            raw = raw.replace(placeholder.encode(), tag.encode())
            entry["subject"] = entry["subject"].replace(placeholder, tag)
        delivered[entry["file"]] = (entry, raw, await deliver(desk, raw))
    return delivered


EXPECTED = {
    "new": Outcome.OPENED,
    "follow_up": Outcome.JOINED,
    "duplicate": Outcome.DUPLICATE,
    "automatic": Outcome.SET_ASIDE,
    "rejected": Outcome.SET_ASIDE,
}


@pytest.mark.parametrize("collection", EXAMPLES)
async def test_every_example_opens_or_joins_the_case_it_belongs_to(desk: Desk, collection: str) -> None:
    delivered = await deliver_examples(desk, collection)

    for file, (entry, _, taken) in delivered.items():
        assert taken.outcome is EXPECTED[entry["kind"]], file
        if entry["kind"] == "follow_up" and entry.get("thread_of"):
            assert taken.case_id == delivered[entry["thread_of"]][2].case_id, file
        if "must_not_join" in entry:
            assert taken.case_id != delivered[entry["must_not_join"]][2].case_id, file
    opened = {taken.case_id for entry, _, taken in delivered.values() if entry["kind"] == "new"}
    assert {case.id for case in await all_cases(desk)} == opened


@pytest.mark.parametrize("collection", EXAMPLES)
async def test_every_example_is_kept_as_it_was_meant(desk: Desk, collection: str) -> None:
    delivered = await deliver_examples(desk, collection)

    for file, (entry, _, taken) in delivered.items():
        if taken.case_id is None:
            continue
        story = await history(desk, taken.case_id)
        letter = next(
            number
            for number, (data, texts) in enumerate(story)
            if isinstance(data, Opened | MessageReceived) and collapsed(texts.get("subject", "")) == entry["subject"]
        )
        data, texts = story[letter]
        text = texts["message" if isinstance(data, Opened) else "text"]
        assert (texts["client_email"] if isinstance(data, Opened) else texts["sender"]) == entry["from"], file
        assert entry["must_contain"] in collapsed(text), file
        assert not [one for one in entry["must_not_contain"] if one in text], file
        names = [texts["name"] for data, texts in story if of_message(data, f"m{letter + 1}")]
        assert names == entry["attachments"], file


def of_message(data: EventData, message: str) -> bool:
    return isinstance(data, AttachmentAdded) and data.message == message


@pytest.mark.parametrize("collection", EXAMPLES)
async def test_the_examples_delivered_once_more_have_no_effect(desk: Desk, collection: str) -> None:
    delivered = await deliver_examples(desk, collection)
    before = await events_written(desk)

    again = [await deliver(desk, raw) for _, raw, _ in delivered.values()]

    assert {taken.outcome for taken in again} == {Outcome.DUPLICATE}
    assert await events_written(desk) == before


@pytest.mark.parametrize("collection", EXAMPLES)
@pytest.mark.parametrize("seed", range(3))
async def test_in_whatever_order_the_examples_come_each_counts_once(desk: Desk, collection: str, seed: int) -> None:
    mails = [raw for _, raw in examples(collection)]
    random.Random(seed).shuffle(mails)
    first = [await deliver(desk, raw) for raw in mails]
    before = await events_written(desk)

    again = [await deliver(desk, raw) for raw in reversed(mails)]

    assert sum(taken.outcome is not Outcome.DUPLICATE for taken in first) == len(set(mails))
    assert {taken.outcome for taken in again} == {Outcome.DUPLICATE}
    assert await events_written(desk) == before


# A new case.


async def test_a_letter_opens_a_case_with_a_tag_and_without_a_category(desk: Desk) -> None:
    taken = await deliver(desk, a_mail("Orla Quince <Orla@Kiosk.example.com>"))

    case = await the_case(desk, taken)
    ((_, texts),) = await history(desk, case.id)
    assert texts["client_name"] == "Orla Quince"
    assert texts["client_email"] == "orla@kiosk.example.com"
    assert re.fullmatch(f"[{MAIL_TAG_ALPHABET}]{{8}}", case.mail_tag)
    assert case.category is Category.OTHER
    assert (case.follows, case.unverified_of) == (None, None)


async def test_the_log_says_that_the_mail_did_it(desk: Desk) -> None:
    taken = await deliver(desk, a_mail())

    ((event, _),) = await cases.events(desk.database, taken.case_id or "")
    assert (event.event.actor, event.event.via) == ("system:mail", "mail")


async def test_a_letter_without_a_subject_has_its_first_words_for_a_title(desk: Desk) -> None:
    taken = await deliver(desk, a_mail(subject=None, text="The pixel is off.\r\nSince noon."))

    ((_, texts),) = await history(desk, taken.case_id or "")
    assert (texts["subject"], texts["title"]) == ("", "The pixel is off. Since noon.")


async def test_a_letter_of_a_subject_alone_is_a_letter(desk: Desk) -> None:
    taken = await deliver(desk, a_mail(subject="Please call", text=""))

    ((_, texts),) = await history(desk, taken.case_id or "")
    assert (texts["subject"], texts["message"]) == ("Please call", "")


async def test_the_request_was_made_when_our_server_received_it_whatever_its_date_says(desk: Desk) -> None:
    taken = await deliver(desk, a_mail(date="Sat, 1 Aug 2026 08:00:00 +0000"))

    assert (await the_case(desk, taken)).received_at == datetime(2026, 11, 2, 9, tzinfo=UTC)


async def test_in_an_archive_of_ones_own_the_dates_are_believed(desk: Desk) -> None:
    taken = await deliver(desk, a_mail(date="Sat, 1 Aug 2026 08:00:00 +0000"), trust_dates=True)

    assert (await the_case(desk, taken)).received_at == datetime(2026, 8, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize("impossible", ["Mon, 2 Nov 2037 09:00:00 +0000", "Mon, 2 Nov 0999 09:00:00 +0000"])
async def test_no_request_was_made_in_the_future_or_in_the_middle_ages(desk: Desk, impossible: str) -> None:
    received = f"from kiosk by mx.step-into.example; {impossible}"

    taken = await deliver(desk, a_mail(received=received))

    assert (await the_case(desk, taken)).received_at == NOON


async def test_a_mail_tag_that_a_case_has_already_is_drawn_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = await the_case(desk, await deliver(desk, a_mail()))
    tags = iter([taken.mail_tag, "7K3M9Q2F"])
    monkeypatch.setattr(mail_intake, "new_mail_tag", lambda: next(tags))

    other = await deliver(desk, a_mail())

    assert other.outcome is Outcome.OPENED
    assert (await the_case(desk, other)).mail_tag == "7K3M9Q2F"


# The case that a letter joins.


@pytest.mark.parametrize("field", ["references", "in_reply_to"])
async def test_the_clients_answer_joins_the_case_that_it_refers_to(desk: Desk, field: str) -> None:
    opened = await deliver(desk, a_mail(message_id="<first@kiosk.example.com>"))

    taken = await deliver(
        desk, a_mail("ORLA@kiosk.example.com", subject="Thanks!", **{field: "<first@kiosk.example.com>"})
    )

    assert taken == Taken(outcome=Outcome.JOINED, case_id=opened.case_id)
    _, (data, texts) = await history(desk, opened.case_id or "")
    assert isinstance(data, MessageReceived)
    assert (texts["sender"], texts["subject"]) == ("orla@kiosk.example.com", "Thanks!")


async def test_an_answer_to_an_answer_joins_as_well(desk: Desk) -> None:
    opened = await deliver(desk, a_mail(message_id="<1@kiosk.example.com>"))
    await deliver(desk, a_mail(message_id="<2@kiosk.example.com>", references="<1@kiosk.example.com>"))

    taken = await deliver(desk, a_mail(in_reply_to="<2@kiosk.example.com>"))

    assert taken.case_id == opened.case_id


async def test_the_clients_letter_with_the_tag_joins_the_case(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())
    tag = (await the_case(desk, opened)).mail_tag

    taken = await deliver(desk, a_mail(subject=f"AW: [#{tag.lower()}] your letter"))

    assert taken == Taken(outcome=Outcome.JOINED, case_id=opened.case_id)


async def test_the_clients_letter_with_the_number_alone_opens_another_case(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())
    number = (await the_case(desk, opened)).number

    taken = await deliver(desk, a_mail(subject=f"Re: C-{number}"))

    assert taken.outcome is Outcome.OPENED
    assert (await the_case(desk, taken)).unverified_of is None


@pytest.mark.parametrize("knowing", ["tag", "message_id"])
async def test_a_stranger_who_knows_the_thread_opens_a_case_beside_it(desk: Desk, knowing: str) -> None:
    opened = await deliver(desk, a_mail(message_id="<first@kiosk.example.com>"))
    tag = (await the_case(desk, opened)).mail_tag
    known: dict[str, str] = (
        {"subject": f"Re: [#{tag}]"} if knowing == "tag" else {"references": "<first@kiosk.example.com>"}
    )

    taken = await deliver(desk, a_mail("Orla Quince <orla@kiosk.example.net>", text="Another bank account.", **known))

    assert taken.outcome is Outcome.OPENED
    assert (await the_case(desk, taken)).unverified_of == opened.case_id
    assert (await the_case(desk, opened)).version == 1


@pytest.mark.parametrize("knowing", ["references", "subject"])
async def test_mail_forged_in_the_clients_name_opens_a_case_beside_it_and_tells_nobody(
    desk: Desk, knowing: str
) -> None:
    opened = await deliver(desk, a_mail(message_id="<first@kiosk.example.com>"))
    known = {"references": "<first@kiosk.example.com>", "subject": f"[#{(await the_case(desk, opened)).mail_tag}]"}
    results = "mx.step-into.example; dmarc=fail header.from=kiosk.example.com"

    taken = await deliver(desk, a_mail(authentication_results=results, **{knowing: known[knowing]}))

    assert taken.outcome is Outcome.OPENED
    assert (await the_case(desk, taken)).unverified_of == opened.case_id
    assert (await the_case(desk, opened)).version == 1
    ((data, _),) = await history(desk, taken.case_id or "")
    assert isinstance(data, Opened)
    assert data.silent


async def test_whoever_was_made_a_participant_may_join(desk: Desk) -> None:
    opened = await deliver(desk, a_mail(message_id="<first@kiosk.example.com>"))
    await as_lead(desk, SetParticipants(participants=("Colleague@Kiosk.example.com",)), opened.case_id or "")

    taken = await deliver(desk, a_mail("colleague@kiosk.example.COM", references="<first@kiosk.example.com>"))

    assert taken == Taken(outcome=Outcome.JOINED, case_id=opened.case_id)


async def test_whoever_is_no_participant_any_more_may_not_join(desk: Desk) -> None:
    opened = await deliver(desk, a_mail(message_id="<first@kiosk.example.com>"))
    for participants in (("colleague@kiosk.example.com",), ()):
        await as_lead(desk, SetParticipants(participants=participants), opened.case_id or "")

    taken = await deliver(desk, a_mail("colleague@kiosk.example.com", references="<first@kiosk.example.com>"))

    assert taken.outcome is Outcome.OPENED


async def test_of_several_cases_the_latest_reference_that_fits_counts(desk: Desk) -> None:
    await deliver(desk, a_mail(message_id="<old@kiosk.example.com>"))
    latest = await deliver(desk, a_mail(message_id="<new@kiosk.example.com>"))
    await deliver(desk, a_mail("thief@example.net", message_id="<theirs@example.net>"))
    references = "<old@kiosk.example.com> <new@kiosk.example.com> <unknown@example.net> <theirs@example.net>"

    taken = await deliver(desk, a_mail(references=references))

    assert taken == Taken(outcome=Outcome.JOINED, case_id=latest.case_id)


async def test_the_thread_of_a_letter_counts_before_an_old_tag_in_its_subject(desk: Desk) -> None:
    tag = (await the_case(desk, await deliver(desk, a_mail()))).mail_tag
    other = await deliver(desk, a_mail(message_id="<other@kiosk.example.com>"))

    taken = await deliver(desk, a_mail(subject=f"Re: [#{tag}]", references="<other@kiosk.example.com>"))

    assert taken.case_id == other.case_id


async def test_mail_that_was_set_aside_starts_no_thread(desk: Desk) -> None:
    await deliver(desk, a_mail(message_id="<auto@kiosk.example.com>", auto_submitted="auto-replied"))

    taken = await deliver(desk, a_mail(references="<auto@kiosk.example.com>"))

    assert taken.outcome is Outcome.OPENED
    assert (await the_case(desk, taken)).unverified_of is None


# What anybody can write.

STRANGER, VICTIM, STAFF, OURS = (
    "eve@elsewhere.example",
    "orla@kiosk.example.com",
    "lead@step-into.example",
    "support@step-into.example",
)


@pytest.mark.parametrize("forged", [VICTIM, STAFF, OURS])
@pytest.mark.parametrize("fields", [("reply_to",), ("sender_field",), ("references", "in_reply_to"), ("return_path",)])
async def test_somebody_elses_address_beside_ones_own_gains_nothing(
    desk: Desk, forged: str, fields: tuple[str, ...]
) -> None:
    victims = await deliver(desk, a_mail())
    await as_lead(desk, SetParticipants(participants=()), victims.case_id or "")
    version = (await the_case(desk, victims)).version
    written = {"sender" if one == "sender_field" else one: f"<{forged}>" for one in fields}
    raw = a_mail(STRANGER).replace(
        b"subject:", "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in written.items()).encode() + b"subject:", 1
    )

    taken = await deliver(desk, raw)

    assert taken.outcome is Outcome.OPENED
    case = await the_case(desk, taken)
    assert (case.unverified_of, case.follows) == (None, None)
    ((_, texts),) = await history(desk, case.id)
    assert texts["client_email"] == STRANGER
    assert (await the_case(desk, victims)).version == version


@pytest.mark.parametrize("forged", [VICTIM, STAFF])
async def test_somebody_elses_address_in_place_of_ones_own_opens_a_case_and_gains_nothing(
    desk: Desk, forged: str
) -> None:
    victims = await deliver(desk, a_mail())
    await as_lead(desk, SetParticipants(participants=()), victims.case_id or "")
    before = await the_case(desk, victims)

    taken = await deliver(desk, a_mail(forged, subject=f"Re: C-{before.number}", text="Release the refund."))

    assert taken.outcome is Outcome.OPENED
    ((event, _),) = await cases.events(desk.database, taken.case_id or "")
    assert event.event.actor == "system:mail"
    assert await the_case(desk, victims) == before


@pytest.mark.parametrize("forged", [OURS, "support+7K3M9Q2F@step-into.example", "Support@STEP-INTO.example"])
async def test_our_own_address_opens_nothing_whoever_is_named_beside_it(desk: Desk, forged: str) -> None:
    victims = await deliver(desk, a_mail(message_id="<first@kiosk.example.com>"))

    for sender in (forged, f"{VICTIM}, {forged}"):
        taken = await deliver(desk, a_mail(sender, references="<first@kiosk.example.com>"))
        assert taken == Taken(outcome=Outcome.SET_ASIDE, reason="own_address")

    assert (await the_case(desk, victims)).version == 1


# Letters of ours.


async def ours(desk: Desk, case_id: str, kind: EffectKind = EffectKind.ACKNOWLEDGE, seq: int = 1) -> str:
    """The left part of the Message-ID of a letter that an event of the case set in motion."""
    entry = await cases.one(desk.database, case_id)
    assert entry is not None
    event = (await cases.events(desk.database, case_id))[seq - 1][0]
    return letter_name(entry.case.mail_tag, event.hash, kind)


async def answered(desk: Desk, case_id: str, text: str = "We look into it.") -> int:
    """A person has written; the seq of their message."""
    await as_lead(desk, AddMessage(direction=Direction.OUTBOUND, text=text), case_id)
    return len(await cases.events(desk.database, case_id))


@pytest.mark.parametrize("host", ["step-into.example", "an.earlier.example"])
async def test_the_clients_answer_to_our_acknowledgement_joins(desk: Desk, host: str) -> None:
    opened = await deliver(desk, a_mail())
    name = await ours(desk, opened.case_id or "")

    taken = await deliver(desk, a_mail(in_reply_to=f"<{name}@{host}>"))

    assert taken == Taken(outcome=Outcome.JOINED, case_id=opened.case_id)


async def test_the_clients_answer_to_a_persons_letter_joins(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())
    name = await ours(desk, opened.case_id or "", EffectKind.LETTER, await answered(desk, opened.case_id or ""))

    taken = await deliver(desk, a_mail(references=f"<older@kiosk.example.com> <{name}@step-into.example>"))

    assert taken == Taken(outcome=Outcome.JOINED, case_id=opened.case_id)


async def test_a_stranger_who_answers_our_letter_opens_a_case_beside_it(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())
    name = await ours(desk, opened.case_id or "")

    taken = await deliver(desk, a_mail("orla@kiosk.example.net", in_reply_to=f"<{name}@step-into.example>"))

    assert taken.outcome is Outcome.OPENED
    assert (await the_case(desk, taken)).unverified_of == opened.case_id


async def test_a_name_that_no_letter_of_ours_has_joins_nothing(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())
    name = await ours(desk, opened.case_id or "")
    guessed = f"{name[:-1]}{'0' if name[-1] != '0' else '1'}"

    taken = await deliver(desk, a_mail(in_reply_to=f"<{guessed}@step-into.example>"))

    assert taken.outcome is Outcome.OPENED
    assert (await the_case(desk, taken)).unverified_of is None


async def test_the_name_of_each_mail_is_kept_so_that_ours_can_answer_it(desk: Desk) -> None:
    opened = await deliver(desk, a_mail(message_id="<first@kiosk.example.com>"))
    await deliver(desk, a_mail(message_id="<second@kiosk.example.com>", references="<first@kiosk.example.com>"))
    long = f"<{'x' * 600}@kiosk.example.com>"
    await deliver(desk, a_mail(message_id=long, references="<first@kiosk.example.com>"))

    story = await history(desk, opened.case_id or "")

    assert [texts.get("message_id") for _, texts in story] == [
        "<first@kiosk.example.com>",
        "<second@kiosk.example.com>",
        None,
    ]


# Letters of ours that come back.


def a_bounce(name: str, *, status: str = "Action: failed\r\nStatus: 5.1.1", **fields: str) -> bytes:
    """As a mail server returns the letter of that name."""
    parts = [
        "Content-Type: text/plain\r\n\r\nSorry.",
        (
            "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.net\r\n\r\n"
            f"Final-Recipient: rfc822; orla@kiosk.example.com\r\n{status}\r\n"
            "Diagnostic-Code: smtp; 550 5.1.1 no such\r\n user here"
        ),
        f"Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: <{name}@step-into.example>\r\nSubject: Pixel",
    ]
    body = "".join(f"--r\r\n{part}\r\n" for part in parts) + "--r--"
    header = {
        "return_path": "<>",
        "subject": "Undelivered",
        "content_type": "multipart/report; report-type=delivery-status; boundary=r",
    }
    return a_mail("MAILER-DAEMON@mx.example.net", text=body, **header | fields)


async def bounces(desk: Desk, case_id: str) -> list[tuple[str, MailKind, str | None]]:
    return [
        (data.message, data.mail, texts.get("reason"))
        for data, texts in await history(desk, case_id)
        if isinstance(data, MessageBounced)
    ]


async def test_an_acknowledgement_that_comes_back_is_shown_on_its_case(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())

    taken = await deliver(desk, a_bounce(await ours(desk, opened.case_id or "")))

    assert taken == Taken(outcome=Outcome.BOUNCED, case_id=opened.case_id)
    assert await bounces(desk, opened.case_id or "") == [
        ("m1", MailKind.ACKNOWLEDGEMENT, "550 5.1.1 no such user here")
    ]
    assert await set_aside(desk) == []


async def test_an_answer_that_comes_back_leaves_the_client_unanswered(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())
    seq = await answered(desk, opened.case_id or "")

    await deliver(desk, a_bounce(await ours(desk, opened.case_id or "", EffectKind.LETTER, seq)))

    assert not (await the_case(desk, opened)).is_answered


async def test_times_that_come_back_leave_the_client_unanswered_and_owing_no_reply(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())
    case_id = opened.case_id or ""
    await as_lead(desk, firing(Trigger.INVESTIGATE), case_id)
    await as_lead(desk, proposes_slots(desk.clock() + timedelta(days=3)), case_id)
    seq = len(await cases.events(desk.database, case_id))

    await deliver(desk, a_bounce(await ours(desk, case_id, EffectKind.LETTER, seq)))

    case = await the_case(desk, opened)
    assert (case.is_answered, case.waiting_since) == (False, None)
    assert [one[:2] for one in await bounces(desk, case_id)] == [(f"m{seq}", MailKind.MESSAGE)]


async def test_of_two_answers_the_one_that_came_back_is_named(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())
    first, _ = [await answered(desk, opened.case_id or "", text) for text in ("One.", "Two.")]

    await deliver(desk, a_bounce(await ours(desk, opened.case_id or "", EffectKind.LETTER, first)))

    assert (await the_case(desk, opened)).is_answered
    assert [one[:2] for one in await bounces(desk, opened.case_id or "")] == [(f"m{first}", MailKind.MESSAGE)]


async def test_a_letter_comes_back_once_however_often_that_is_said(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())
    name = await ours(desk, opened.case_id or "")
    raw = a_bounce(name)

    taken = [await deliver(desk, one) for one in (raw, raw, a_bounce(name))]

    assert [one.outcome for one in taken] == [Outcome.BOUNCED, Outcome.DUPLICATE, Outcome.SET_ASIDE]
    assert len(await bounces(desk, opened.case_id or "")) == 1


@pytest.mark.parametrize("status", ["Action: delayed\r\nStatus: 4.4.1", "Status: 4.2.2"])
async def test_a_letter_that_is_late_has_not_come_back(desk: Desk, status: str) -> None:
    opened = await deliver(desk, a_mail())

    taken = await deliver(desk, a_bounce(await ours(desk, opened.case_id or ""), status=status))

    assert taken == Taken(outcome=Outcome.SET_ASIDE, reason="bounce")
    assert (await the_case(desk, opened)).version == 1


async def test_whoever_does_not_know_a_letters_name_cannot_return_it(desk: Desk) -> None:
    opened = await deliver(desk, a_mail(message_id="<first@kiosk.example.com>"))
    tag = (await the_case(desk, opened)).mail_tag

    forged = [
        a_bounce("c." + "0" * 32, subject=f"Undelivered [#{tag}]"),
        a_bounce("first", references="<first@kiosk.example.com>"),
    ]

    assert {(await deliver(desk, one)).outcome for one in forged} == {Outcome.SET_ASIDE}
    assert (await the_case(desk, opened)).version == 1


async def test_a_letter_returned_in_an_older_shape_is_known_by_what_is_quoted(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())
    name = await ours(desk, opened.case_id or "")
    text = f"Hi. This is the qmail-send program.\r\n\r\nMessage-ID: <{name}@step-into.example>\r\nSubject: Pixel"

    taken = await deliver(desk, a_mail("MAILER-DAEMON@mx.example.net", subject="failure notice", text=text))

    assert taken.outcome is Outcome.BOUNCED


async def test_what_came_back_to_a_client_who_was_erased_is_nobodys(desk: Desk) -> None:
    opened = await deliver(desk, a_mail())
    name = await ours(desk, opened.case_id or "")
    erase = Erase(legal_basis="GDPR Art. 17(1)", override=True)
    await desk.submit_as_system("operator", erase, opened.case_id, via="cli", admin=True)

    assert (await deliver(desk, a_bounce(name))).outcome is Outcome.SET_ASIDE


# Who is told that their inquiry has arrived.


@pytest.mark.parametrize(
    ("fields", "is_silent"),
    [
        ({}, False),
        ({"authentication_results": "mx.step-into.example; dkim=none; dmarc=pass header.from=x"}, False),
        ({"authentication_results": "mx.step-into.example; spf=pass; dmarc=fail (p=reject) header.from=x"}, True),
        ({"authentication_results": "mx.step-into.example; dmarc = FAIL"}, True),
        ({"authentication_results": "mx.step-into.example; x=y (dmarc=fail; dmarc=fail)"}, False),
        ({"authentication_results": "elsewhere.example; dmarc=fail"}, False),
        ({"sender": "Postmaster <postmaster@kiosk.example.com>"}, True),
    ],
)
async def test_nobody_is_told_who_may_not_have_written(desk: Desk, fields: dict[str, str], is_silent: bool) -> None:
    opened = await deliver(desk, a_mail(**fields))

    ((data, _),) = await history(desk, opened.case_id or "")
    assert isinstance(data, Opened)
    assert data.silent is is_silent


@pytest.mark.parametrize("acknowledge", [True, False])
async def test_whoever_wrote_what_is_in_an_archive_is_told_only_on_request(
    desk: Desk, mailbox: Path, acknowledge: bool
) -> None:
    (mailbox / "1.eml").write_bytes(a_mail())

    await import_mail(desk, [mailbox], trust_dates=False, acknowledge=acknowledge)

    (case,) = await all_cases(desk)
    ((data, _),) = await history(desk, case.id)
    assert isinstance(data, Opened)
    assert data.silent is not acknowledge


# A closed case.


@pytest.fixture
async def closed(desk: Desk) -> Taken:
    opened = await deliver(desk, a_mail(message_id="<first@kiosk.example.com>"))
    await close(desk, opened.case_id or "")
    return opened


async def test_mail_to_a_case_closed_lately_is_recorded_and_the_case_stays_closed(
    desk: Desk, clock: Clock, closed: Taken
) -> None:
    clock.now += timedelta(days=30)

    taken = await deliver(desk, a_mail(references="<first@kiosk.example.com>"))

    assert taken == Taken(outcome=Outcome.JOINED, case_id=closed.case_id)
    case = await the_case(desk, closed)
    assert (case.state, case.client_messages) == (CaseState.CLOSED, (1, 3))


async def test_mail_to_a_case_closed_long_ago_opens_one_that_follows(desk: Desk, clock: Clock, closed: Taken) -> None:
    clock.now += timedelta(days=30, minutes=1)

    taken = await deliver(desk, a_mail(message_id="<late@kiosk.example.com>", references="<first@kiosk.example.com>"))

    assert taken.outcome is Outcome.OPENED
    case = await the_case(desk, taken)
    assert (case.follows, case.unverified_of) == (closed.case_id, None)
    assert (await the_case(desk, closed)).version == 2
    answer = await deliver(desk, a_mail(references="<first@kiosk.example.com> <late@kiosk.example.com>"))
    assert answer == Taken(outcome=Outcome.JOINED, case_id=case.id)


async def test_a_strangers_mail_to_a_case_closed_long_ago_follows_nothing(
    desk: Desk, clock: Clock, closed: Taken
) -> None:
    clock.now += timedelta(days=31)

    taken = await deliver(desk, a_mail("thief@example.net", references="<first@kiosk.example.com>"))

    case = await the_case(desk, taken)
    assert (case.follows, case.unverified_of) == (None, closed.case_id)


# Mail that opens nothing.


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"auto_submitted": "auto-replied"}, "auto_submitted"),
        ({"list_id": "<gossip.example.org>"}, "list"),
        ({"sender": "support@step-into.example"}, "own_address"),
        ({"sender": "MAILER-DAEMON@example.net"}, "bounce"),
        ({"sender": "nobody"}, "no_sender"),
    ],
)
async def test_mail_that_nobody_can_be_answered_for_is_set_aside_with_the_reason(
    desk: Desk, fields: dict[str, Any], reason: str
) -> None:
    taken = await deliver(desk, a_mail(subject="Spring offers", text="Buy now.", **fields))

    assert taken == Taken(outcome=Outcome.SET_ASIDE, reason=reason)
    ((recorded, texts),) = await set_aside(desk)
    assert recorded == reason
    assert (texts["subject"], texts["text"]) == ("Spring offers", "Buy now.")
    assert await all_cases(desk) == []


async def test_automatic_mail_in_a_known_thread_leaves_the_case_as_it_is(desk: Desk) -> None:
    opened = await deliver(desk, a_mail(message_id="<first@kiosk.example.com>"))

    await deliver(desk, a_mail(references="<first@kiosk.example.com>", auto_submitted="auto-replied"))

    assert (await the_case(desk, opened)).version == 1


PRESSED = "BEGIN:VCALENDAR\r\nMETHOD:REPLY\r\nATTENDEE;PARTSTAT=ACCEPTED:mailto:orla@kiosk.example.com\r\nEND:VCALENDAR"
UNANSWERED = "BEGIN:VCALENDAR\r\nMETHOD:REPLY\r\nEND:VCALENDAR"


@pytest.mark.parametrize(
    ("fields", "calendar", "outcome"),
    [
        ({"references": "<first@kiosk.example.com>"}, PRESSED, Outcome.JOINED),
        ({"references": "<first@kiosk.example.com>"}, UNANSWERED, Outcome.SET_ASIDE),
        ({"references": "<first@kiosk.example.com>", "sender": "thief@example.net"}, PRESSED, Outcome.SET_ASIDE),
        ({}, PRESSED, Outcome.SET_ASIDE),
    ],
)
async def test_a_machines_answer_to_an_invitation_joins_a_case_of_its_sender_and_opens_none(
    desk: Desk, fields: dict[str, str], calendar: str, outcome: Outcome
) -> None:
    opened = await deliver(desk, a_mail(message_id="<first@kiosk.example.com>"))
    kind = "text/calendar; method=REPLY"

    taken = await deliver(desk, a_mail(text=calendar, auto_submitted="auto-replied", content_type=kind, **fields))

    assert taken.outcome is outcome
    assert [case.id for case in await all_cases(desk)] == [opened.case_id]


async def test_what_cannot_be_read_is_set_aside_once_with_its_beginning(desk: Desk) -> None:
    raw = b"\0no mail \xff" * 100_000

    outcomes = [(await deliver(desk, raw)).outcome for _ in range(2)]

    assert outcomes == [Outcome.SET_ASIDE, Outcome.DUPLICATE]
    ((reason, texts),) = await set_aside(desk)
    assert reason == "no_header"
    assert texts["text"].startswith("\ufffdno mail \ufffd")
    assert len(texts["text"]) < 50_000


async def test_a_letter_that_the_rules_refuse_is_set_aside_with_the_reason(desk: Desk, clock: Clock) -> None:
    class TurnedBack(Clock):
        """A machine's clock that is put right between two readings of it."""

        def __call__(self) -> datetime:
            self.now -= timedelta(hours=1)
            return self.now

    desk.clock = TurnedBack()
    clock.now -= timedelta(days=1)

    taken = await deliver(desk, a_mail())

    assert taken == Taken(outcome=Outcome.SET_ASIDE, reason="refused: invalid")
    assert len(await set_aside(desk)) == 1


# The same mail again.


async def test_twenty_deliveries_of_one_letter_at_once_open_one_case(desk: Desk) -> None:
    raw = a_mail()

    taken = await asyncio.gather(*(deliver(desk, raw) for _ in range(20)))

    assert sorted(one.outcome for one in taken) == [Outcome.DUPLICATE] * 19 + [Outcome.OPENED]
    assert len(await all_cases(desk)) == 1


async def test_two_services_that_receive_the_same_letters_open_each_case_once(
    desk: Desk, database_url: str, clock: Clock
) -> None:
    mails = [a_mail() for _ in range(10)]

    async with opened_desk(database_url, clock) as other:
        taken = await asyncio.gather(*(deliver(one, raw) for raw in mails for one in (desk, other)))

    assert sorted(one.outcome for one in taken) == [Outcome.DUPLICATE] * 10 + [Outcome.OPENED] * 10
    assert len(await all_cases(desk)) == 10


async def test_two_letters_under_one_message_id_are_two_letters(desk: Desk) -> None:
    taken = [await deliver(desk, a_mail(message_id="<same@kiosk.example.com>", text=text)) for text in ("One.", "Two.")]

    assert [one.outcome for one in taken] == [Outcome.OPENED, Outcome.OPENED]


async def test_a_letter_that_comes_by_another_route_is_the_same_letter(desk: Desk) -> None:
    raw = a_mail()
    await deliver(desk, raw)

    taken = await deliver(
        desk, b"Received: from relay by mx.step-into.example; Tue, 3 Nov 2026 10:00:00 +0000\r\n" + raw
    )

    assert taken.outcome is Outcome.DUPLICATE


# Whatever comes.


HOSTILE = {
    "nothing": b"",
    "NUL": b"From: a@kiosk.example.com\r\nSubject: a\0b\r\n\r\nc\0d",
    "half a character": b"From: a@kiosk.example.com\r\nSubject: =?utf-8?Q?=ED=A0=80?=\r\n\r\n\xed\xa0\x80",
    "an endless line": b"From: a@kiosk.example.com\r\n\r\n" + b"x" * 3_000_000,
    "an endless name": b"From: " + b"a" * 60_000 + b" <a@kiosk.example.com>\r\n\r\nx",
    "an endless subject": b"From: a@kiosk.example.com\r\nSubject: " + b"a " * 30_000 + b"\r\n\r\nx",
    "an endless type": (
        b"From: a@kiosk.example.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: "
        b"application/" + b"x" * 60_000 + b'; name="a.pdf"\r\n\r\nx\r\n--b--'
    ),
    "thousands of references": (
        b"From: a@kiosk.example.com\r\nReferences: " + b" ".join(b"<%d@x>" % n for n in range(6000)) + b"\r\n\r\nx"
    ),
    "a hundred tags": b"From: a@kiosk.example.com\r\nSubject: " + b"[#7K3M9Q2F]" * 100 + b"\r\n\r\nx",
    "a hundred parts": (
        b"From: a@kiosk.example.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nx\r\n" * 100
    ),
    "SQL": b"From: a'; DROP TABLE cases;--@kiosk.example.com\r\nMessage-ID: <'; DROP TABLE events;-->\r\n\r\nx",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
async def test_whatever_is_sent_is_kept_once(desk: Desk, raw: bytes) -> None:
    first, again = [await deliver(desk, raw) for _ in range(2)]

    assert first.outcome in {Outcome.OPENED, Outcome.SET_ASIDE}
    assert again.outcome is Outcome.DUPLICATE


@pytest.mark.parametrize("seed", range(3))
async def test_damaged_mail_is_kept_once_as_well(desk: Desk, seed: int) -> None:
    chance = random.Random(seed)
    for _, raw in examples("own"):
        damaged = bytearray(raw[: chance.randint(1, len(raw))])
        for _ in range(20):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)

        outcomes = [(await deliver(desk, bytes(damaged))).outcome for _ in range(2)]

        assert outcomes[1] is Outcome.DUPLICATE


# Importing.


@pytest.fixture
def mailbox(tmp_path: Path) -> Path:
    folder = tmp_path / "mailbox"
    folder.mkdir()
    return folder


async def test_an_import_takes_the_files_in_their_order(desk: Desk, mailbox: Path) -> None:
    (mailbox / "1.eml").write_bytes(a_mail(message_id="<first@kiosk.example.com>"))
    (mailbox / "2.eml").write_bytes(a_mail(references="<first@kiosk.example.com>"))
    (mailbox / "3.eml").write_bytes((mailbox / "1.eml").read_bytes())
    (mailbox / "4.eml").write_bytes(a_mail(auto_submitted="auto-replied"))
    (mailbox / "notes.md").write_text("# Not a mail")
    seen: list[int] = []

    summary = await import_mail(desk, [mailbox], trust_dates=False, progress=lambda so_far: seen.append(so_far.mails))

    assert summary == Summary(counts=summary.counts, skipped=[str(mailbox / "notes.md")])
    assert summary.counts == dict.fromkeys(set(Outcome) - {Outcome.BOUNCED}, 1)
    assert seen == [1, 2, 3, 4, 4]


def files_of_the_database(folder: Path) -> list[Path]:
    return sorted(folder.glob("casework.db*"))


async def test_the_desks_own_database_is_not_touched_where_it_lies_among_the_mails(
    desk: Desk, backend: str, tmp_path: Path
) -> None:
    (tmp_path / "1.eml").write_bytes(a_mail())
    database = files_of_the_database(tmp_path)

    summary = await import_mail(desk, [tmp_path, *database], trust_dates=False)

    assert summary.counts == {Outcome.OPENED: 1}
    assert summary.skipped == [str(path) for path in database] * 2
    assert bool(database) == (backend == "sqlite")


async def test_a_file_that_is_not_there_stops_no_other(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "here.eml").write_bytes(a_mail())
    gone = tmp_path / "gone.eml"

    summary = await import_mail(desk, [gone, tmp_path / "here.eml"], trust_dates=False)

    assert summary.problems == [f"{gone}: there is no such file or folder"]
    assert summary.counts == {Outcome.OPENED: 1}


async def test_mail_that_the_desk_cannot_take_now_is_reported_and_can_be_imported_again(
    desk: Desk, database_url: str, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "1.eml").write_bytes(a_mail())
    async with opened_desk(database_url, clock) as closing:
        await closing.ledger.close()
        failed = await import_mail(closing, [tmp_path], trust_dates=False)
        with pytest.raises(Unavailable):
            await deliver(closing, a_mail())

    summary = await import_mail(desk, [tmp_path], trust_dates=False)

    assert failed.problems == [f"{tmp_path / '1.eml'}: LedgerClosed"]
    assert summary.counts == {Outcome.OPENED: 1}
