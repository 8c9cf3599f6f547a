"""What letters leave when something is recorded: to whom, saying what, and to whom none leaves."""

import email
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import msgspec
import pytest

from api.carrying_out import Done, Failed, Hopeless, Needless, NotYet, Result
from api.letters.links import link_in_letters
from api.letters.posting import acknowledge, conversation, letter
from api.mail_intake import Outcome, take_in
from storage import cases, client_links, outbox, people
from storage.batch import Entry
from storage.outbox import Effect
from tests.api.driving import Clock, Json, Service, day, done, running
from tests.api.post_office import PostOffice, open_post_office
from tests.api.writing import about
from tests.databases import copy_sqlite
from tests.workflow.builders import (
    ANA,
    MAIL,
    NOON,
    Desk,
    a_letter,
    an_opening,
    from_the_client,
    proposes_slots,
)
from workflow.commands import Erase
from workflow.effects import LETTERS, EffectKind
from workflow.events import EffectOutcome
from workflow.settling import SettleEffect

SUPPORT = "support@step-into.example"
OTHER = "help@other-desk.example"


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    async with open_post_office() as office:
        yield office


@asynccontextmanager
async def a_desk_with_mail(url: str, clock: Clock, office: PostOffice, **settings: Any) -> AsyncIterator[Service]:
    facts = {"smtp_url": office.url(), "support_address": SUPPORT, "public_url": "https://desk.example"}
    async with running(url, clock, **(facts | settings)) as service:
        yield service


@pytest.fixture
async def service(desk_url: str, clock: Clock, office: PostOffice) -> AsyncIterator[Service]:
    async with a_desk_with_mail(desk_url, clock, office) as service:
        yield service


async def opened(service: Service, case_id: str = "A", **changes: Any) -> Entry:
    command = an_opening(case_id, **({"purchase": None, "mail_tag": f"7K3M9Q2{case_id}"} | changes))
    receipt = await service.desk.submit_as_system("mail", command, via="mail")
    assert receipt.case is not None
    return Entry(case=receipt.case, texts=receipt.texts, stored_version=0)


async def due(service: Service) -> list[Effect]:
    return await outbox.claim(service.desk.database, LETTERS, service.clock(), lease=timedelta(seconds=1), limit=100)


async def carried_out(service: Service) -> list[Result]:
    """Whatever is due, with what became of it recorded."""
    results = []
    for effect in await due(service):
        handler = {EffectKind.ACKNOWLEDGE: acknowledge, EffectKind.LETTER: letter}[effect.kind]
        result = await handler(service.desk, effect)
        if isinstance(result, Done | Needless):
            outcome = EffectOutcome.DONE if isinstance(result, Done) else EffectOutcome.WITHHELD
            settle = SettleEffect(effect=effect.id, fence=effect.fence, outcome=outcome)
            await service.desk.submit_as_system("outbox", settle, via="outbox")
        results.append(result)
    return results


def read(office: PostOffice, number: int = -1) -> EmailMessage:
    message = email.message_from_bytes(office.delivered[number].content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def text_of(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


# The acknowledgement.


async def test_an_inquiry_is_acknowledged_with_all_that_a_client_needs(service: Service, office: PostOffice) -> None:
    case = (await opened(service)).case

    (result,) = await carried_out(service)

    message, text = read(office), text_of(read(office))
    assert isinstance(result, Done)
    assert message["message-id"] == f"<{result.reference}@step-into.example>"
    assert office.delivered[0].recipients == ["una@example.com"]
    assert office.delivered[0].sender == message["reply-to"] == "support+7K3M9Q2A@step-into.example"
    assert message["subject"] == "Your inquiry C-1001 [#7K3M9Q2A]"
    assert message["auto-submitted"] == "auto-replied"
    assert all(said in text for said in ("C-1", "6 March 2026, 12:00 (UTC)", "reply to this mail"))
    assert "They never ran" not in text
    path = link_in_letters(case, service.desk.secret, service.clock())
    assert f"https://desk.example{path}\n" in text
    assert (await service.client.get(f"http://127.0.0.1{path}")).status_code == 200


async def test_the_secret_of_a_letters_link_is_kept_nowhere(service: Service) -> None:
    case = (await opened(service)).case
    await carried_out(service)

    (link,) = case.issued_links
    secret = (link_in_letters(case, service.desk.secret, service.clock()) or "").removeprefix("/c/")
    assert len(secret) == 43
    assert link.letters is True
    found = await client_links.by_secret(service.desk.database, people.secret_hash(secret))
    assert found is not None
    assert found[1] == link.id
    for where in (f"/v1/cases/{case.id}", f"/v1/cases/{case.id}/events", "/v1/events"):
        assert secret not in (await service.audrey.get(where)).text
    assert link_in_letters(case, b"another key", service.clock()) is None
    assert link_in_letters(case, service.desk.secret, service.clock() + timedelta(days=91)) is None


async def test_in_the_clients_language(service: Service, office: PostOffice) -> None:
    await opened(service, message="Guten Tag, ich habe die Rechnung noch nicht bekommen. Mit freundlichen Grüßen")

    await carried_out(service)

    assert read(office)["content-language"] == "de"
    assert "6. März 2026, 12:00 Uhr (UTC)" in text_of(read(office))


async def test_the_same_attempt_again_has_the_same_name(service: Service, office: PostOffice) -> None:
    await opened(service)
    (effect,) = await due(service)

    first, second = [await acknowledge(service.desk, effect) for _ in range(2)]

    assert first == second
    assert read(office, 0)["message-id"] == read(office, 1)["message-id"]


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_an_address_is_told_once_an_hour_whatever_is_sent_in_its_name(
    service: Service, office: PostOffice, clock: Clock
) -> None:
    for number in range(5):
        await opened(
            service, str(number), client_email="una@example.com" if number < 3 else f"Una+{number}@Example.com"
        )
    await opened(service, "D", client_email="unax@example.com")
    await opened(service, "E", client_email="una+1@example.net")
    await opened(service, "B", client_email="bo@example.com")

    first = await carried_out(service)
    clock.advance(minutes=61)
    await opened(service, "C", client_email="una@example.com")
    later = await carried_out(service)

    assert [isinstance(one, Done) for one in first] == [True, *[False] * 4, True, True, True]
    assert [type(one) for one in later] == [Done]
    assert [one.recipients for one in office.delivered] == [
        ["una@example.com"],
        ["unax@example.com"],
        ["una+1@example.net"],
        ["bo@example.com"],
        ["una@example.com"],
    ]


async def test_what_was_withheld_does_not_count_as_told(service: Service) -> None:
    spam = (await opened(service, "A")).case
    await service.desk.submit_as_system("mail", a_letter(), spam.id, via="mail")
    closed = await service.lou.post(
        f"/v1/cases/{spam.id}/transitions",
        {"trigger": "close", "reason": "junk", "data": {"resolution": "spam"}},
        if_match="*",
    )
    assert closed.status_code == 200, closed.text
    assert (await carried_out(service))[0] == Needless(code="closed_as_spam")
    await opened(service, "B")

    assert isinstance((await carried_out(service))[-1], Done)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_beyond_the_ceiling_acknowledgements_wait(desk_url: str, clock: Clock, office: PostOffice) -> None:
    async with a_desk_with_mail(desk_url, clock, office, acknowledgements_per_hour=2) as service:
        for case_id in "ABC":
            await opened(service, case_id, client_email=f"{case_id.lower()}@example.com")
        results = await carried_out(service)
        assert [type(one) for one in results] == [Done, Done, NotYet]

        service.desk.post.reckoned_at = float("-inf")
        clock.advance(minutes=10)
        assert [type(one) for one in await carried_out(service)] == [NotYet]
        service.desk.post.reckoned_at = float("-inf")
        clock.advance(minutes=61)
        assert [type(one) for one in await carried_out(service)] == [Done]


async def test_beyond_the_ceiling_the_pauses_grow_until_it_is_too_late(service: Service) -> None:
    await opened(service)
    (effect,) = await due(service)
    post, minute = service.desk.post, timedelta(minutes=1)
    post.reckoned_at, post.left = float("inf"), service.desk.settings.acknowledgements_per_hour
    waited = {0: NotYet(after=5 * minute), 120: NotYet(after=30 * minute), 24 * 60 + 1: Needless(code="too_late")}

    for minutes, result in waited.items():
        at = service.clock() - minutes * minute
        assert await acknowledge(service.desk, msgspec.structs.replace(effect, at=at)) == result


@pytest.mark.parametrize(
    ("address", "result"),
    [
        ("", Needless(code="no_address")),
        (SUPPORT, Needless(code="own_address")),
        ("support+7K3M9Q2F@STEP-INTO.example", Needless(code="own_address")),
        ("una@[192.0.2.1]", Hopeless(code="unmailable_address")),
        ("una@example.com, bo@example.com", Hopeless(code="unmailable_address")),
        ("una@example.com\r\nBcc: bo@example.com", Hopeless(code="unmailable_address")),
    ],
)
async def test_to_some_addresses_no_mail_leaves(
    service: Service, office: PostOffice, address: str, result: Result
) -> None:
    await opened(service, client_email=address)

    assert await carried_out(service) == [result]
    assert office.delivered == []


async def test_a_silent_case_is_told_to_nobody(service: Service) -> None:
    case = (await opened(service, silent=True)).case

    assert await due(service) == []
    assert case.issued_links == ()


async def test_of_an_erased_case_nothing_leaves(service: Service, office: PostOffice) -> None:
    case = (await opened(service)).case
    (effect,) = await due(service)
    erase = Erase(legal_basis="GDPR Art. 17", override=True)
    await service.desk.submit_as_system("operator", erase, case.id, via="cli", admin=True)

    assert await acknowledge(service.desk, effect) == Needless(code="erased")
    assert office.delivered == []


async def test_a_server_that_says_later_is_asked_again(service: Service, office: PostOffice) -> None:
    await opened(service)
    office.recipients = ["451 4.7.1 come again"]
    (effect,) = await due(service)

    assert await acknowledge(service.desk, effect) == Failed(code="smtp_451", detail="4.7.1")
    assert isinstance(await acknowledge(service.desk, effect), Done)
    assert len(office.delivered) == 1


# A person's letter.


async def test_a_letter_brings_what_was_written_in_the_same_thread(service: Service, office: PostOffice) -> None:
    raw = (
        b"From: Una <una@example.com>\r\nTo: support@step-into.example\r\nSubject: The banners\r\n"
        b"Message-ID: <first@mail.example.com>\r\n\r\nThey never ran."
    )
    taken = await take_in(service.desk, raw, arrived_at=NOON)
    await carried_out(service)
    acknowledged = read(office)["message-id"]
    sent = await service.ana.post(
        f"/v1/cases/{taken.case_id}/messages", {"text": "Dear Una,\n\nWe look.", "direction": "outbound"}
    )
    assert sent.status_code == 201

    (result,) = await carried_out(service)

    message, text = read(office), text_of(read(office))
    assert isinstance(result, Done)
    assert acknowledged in message["references"].split()
    assert message["auto-submitted"] is None
    assert text.startswith("Dear Una,\n\nWe look.\n\nTo answer, simply reply")
    assert "https://desk.example/c/" in text
    answer = (
        f"From: una@example.com\r\nTo: {message['reply-to']}\r\nSubject: {message['subject']}\r\n"
        f"In-Reply-To: {message['message-id']}\r\nMessage-ID: <second@mail.example.com>\r\n\r\nThank you."
    ).encode()
    joined = await take_in(service.desk, answer, arrived_at=NOON)
    assert (joined.outcome, joined.case_id) == (Outcome.JOINED, taken.case_id)


async def test_links_are_made_anew_only_when_the_last_one_runs_out(service: Service, clock: Clock) -> None:
    case = (await opened(service)).case
    path = f"/v1/cases/{case.id}/messages"

    async def write() -> int:
        await service.ana.post(path, {"text": "We look.", "direction": "outbound"})
        entry = await cases.one(service.desk.database, case.id)
        assert entry is not None
        return len(entry.case.issued_links)

    assert await write() == 1
    clock.advance(days=59)
    assert await write() == 1
    clock.advance(days=2)
    assert await write() == 2


async def test_a_letter_that_was_erased_stays_here(service: Service, office: PostOffice) -> None:
    case = (await opened(service)).case
    await carried_out(service)
    await service.ana.post(f"/v1/cases/{case.id}/messages", {"text": "We look.", "direction": "outbound"})
    (effect,) = await due(service)
    erase = Erase(legal_basis="GDPR Art. 17", override=True)
    await service.desk.submit_as_system("operator", erase, case.id, via="cli", admin=True)

    assert await letter(service.desk, effect) == Needless(code="erased")
    assert len(office.delivered) == 1


# Times for a consultation.


async def proposed(service: Service, office: PostOffice, **changes: Any) -> tuple[str, Effect]:
    """A case of which Ana has proposed two times, and what brings them to the client."""
    case = (await opened(service, **changes)).case
    await carried_out(service)
    office.delivered.clear()
    await service.ana.read(case.id)
    done(await service.ana.fire(case.id, "investigate"))
    slots = {"slots": [day(3), day(4)], "minutes": 30, "channel": "by phone", "text": "Which would suit you?"}
    await service.ana.add(case.id, "slots", **slots)
    (effect,) = await due(service)
    return case.id, effect


async def test_proposed_times_reach_the_client_with_the_link_by_which_to_pick(
    service: Service, office: PostOffice
) -> None:
    case_id, effect = await proposed(service, office)

    result = await letter(service.desk, effect)

    assert isinstance(result, Done)
    entry = await cases.one(service.desk.database, case_id)
    assert entry is not None
    path = link_in_letters(entry.case, service.desk.secret, service.clock())
    assert [line for line in text_of(read(office)).splitlines() if line] == [
        "Dear Una,",
        "Which would suit you?",
        "For a consultation about your case C-1001 we can offer you these times:",
        "- 8 March 2026, 12:00 (UTC)",
        "- 9 March 2026, 12:00 (UTC)",
        "How long: 30 min",
        "How: by phone",
        "Please choose one of them on your page, which is for you alone:",
        f"https://desk.example{path}",
        "A reply to this mail that says which one suits you will do as well.",
        "None of them is held for you until you have chosen.",
        "If none suits you, tell us, and we will look for another time with you.",
        "Kind regards",
        "Step-Into",
        "To answer, simply reply to this mail. Case C-1001.",
    ]
    assert read(office)["subject"] == "Re: The banners [#7K3M9Q2A]"
    assert (await service.client.get(f"http://127.0.0.1{path}")).status_code == 200


async def test_without_a_page_to_pick_on_a_reply_is_asked_for(desk_url: str, clock: Clock, office: PostOffice) -> None:
    said = "Guten Tag, ich habe die Rechnung noch nicht bekommen. Mit freundlichen Grüßen"
    async with a_desk_with_mail(desk_url, clock, office, public_url=None) as service:
        _, effect = await proposed(service, office, message=said)
        await letter(service.desk, effect)

    text = text_of(read(office))
    assert "- 8. März 2026, 12:00 Uhr (UTC)\n- 9. März 2026, 12:00 Uhr (UTC)\n" in text
    assert "Bitte antworten Sie auf diese E-Mail" in text
    assert "http" not in text


async def test_only_times_that_stand_are_offered(service: Service, office: PostOffice, clock: Clock) -> None:
    _, effect = await proposed(service, office)
    other = await service.ana.investigate()
    done(await service.ana.fire(other["id"], "schedule_consultation", starts_at=day(3), minutes=30, channel="phone"))

    await letter(service.desk, effect)
    clock.advance(days=4)
    late = await letter(service.desk, effect)

    assert ("8 March" in text_of(read(office)), "9 March" in text_of(read(office))) == (False, True)
    assert late == Hopeless(code="no_slot_is_free")
    assert len(office.delivered) == 1


@pytest.mark.parametrize("ending", ["proposed anew", "booked", "closed"])
async def test_times_that_something_has_replaced_stay_here(service: Service, office: PostOffice, ending: str) -> None:
    case_id, effect = await proposed(service, office)
    if ending == "proposed anew":
        await service.ana.add(case_id, "slots", slots=[day(5)], minutes=30, channel="by phone")
    elif ending == "booked":
        booking: Json = {"starts_at": day(3), "minutes": 30, "channel": "by phone"}
        done(await service.ana.fire(case_id, "schedule_consultation", **booking))
    else:
        done(await service.ana.fire(case_id, "close", resolution="withdrawn"))

    assert await letter(service.desk, effect) == Needless(code="slots_replaced")
    assert office.delivered == []


async def test_times_of_an_erased_case_stay_here(service: Service, office: PostOffice) -> None:
    case_id, effect = await proposed(service, office)
    erase = Erase(legal_basis="GDPR Art. 17", override=True)
    await service.desk.submit_as_system("operator", erase, case_id, via="cli", admin=True)

    assert await letter(service.desk, effect) == Needless(code="erased")
    assert office.delivered == []


# The conversation.


async def test_it_answers_the_clients_last_mail_and_names_the_whole_conversation() -> None:
    desk = Desk()
    desk.open()
    desk.do(ANA, a_letter())
    desk.do(MAIL, from_the_client())
    desk.investigate()
    desk.do(ANA, proposes_slots())
    desk.do(ANA, a_letter())
    texts = {"1/message_id": "<1@example.com>", "4/message_id": "<4@example.com>"}

    thread = [*conversation(about(desk, texts=texts), SUPPORT)]

    assert [one for one, is_theirs in thread if is_theirs] == ["<1@example.com>", "<4@example.com>"]
    assert [is_theirs for _, is_theirs in thread] == [True, False, False, True, False]
    assert all(one.endswith("@step-into.example>") for one, is_theirs in thread if not is_theirs)


# Two desks.


async def test_two_desks_that_write_to_each_other_stop(sqlite_desk: str, clock: Clock, tmp_path: Any) -> None:
    async with open_post_office() as office:
        urls = [copy_sqlite(sqlite_desk, tmp_path / f"{name}.db") for name in ("one", "other")]
        async with (
            a_desk_with_mail(urls[0], clock, office) as one,
            a_desk_with_mail(urls[1], clock, office, support_address=OTHER) as other,
        ):
            begun = f"From: {OTHER}\r\nTo: {SUPPORT}\r\nSubject: Hello\r\nMessage-ID: <1@other-desk.example>\r\n\r\nHi."
            await take_in(one.desk, begun.encode(), arrived_at=NOON)
            assert [type(result) for result in await carried_out(one)] == [Done]

            taken = await take_in(other.desk, office.delivered[0].content, arrived_at=NOON)

            assert (taken.outcome, taken.reason) == (Outcome.SET_ASIDE, "auto_submitted")
            assert await carried_out(other) == []
            assert len(office.delivered) == 1
