"""What is sent of a consultation, to whom, and when nothing is."""

from collections.abc import AsyncIterator
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest
from icalendar import Calendar

from api.carrying_out import Done, Failed, Hopeless, Needless, Result
from api.client_links import new_client_link
from api.invitations import Told, invitation_mail, invite, told_of
from api.letters.languages import Words, codes, languages
from api.letters.post import Post
from api.sending import Outgoing
from storage import cases
from storage.batch import letter_ref
from storage.outbox import Effect, claim
from storage.submissions import Submission
from tests.api.driving import Clock, Json, Service, a_purchase, day, done, running
from tests.databases import raw_sql
from tests.storage.test_verify import undefended
from tests.workflow.builders import NOON, picks
from workflow.effects import EffectKind
from workflow.roles import CLIENTS, Actor

LEASE, SOON = timedelta(minutes=1), timedelta(seconds=1)  # the events of a moment are microseconds apart


@pytest.fixture
def backend() -> str:
    """What is claimed and recorded is tested on both databases elsewhere."""
    return "sqlite"


@pytest.fixture
async def service(desk_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Service]:
    """One that sends mail."""
    settings = {"key_folder": tmp_path / "keys", "smtp_url": "smtp://127.0.0.1:1", "database_url": desk_url}
    async with running(desk_url, clock, **settings) as service:
        yield service


class PostOffice(Post):
    """Takes whatever it is handed, or answers as it is told to for a recipient."""

    def __init__(self, answers: dict[str, Result] | None = None) -> None:
        self.mailer = None
        self.answers = answers or {}
        self.taken: list[tuple[str, EmailMessage]] = []

    async def send(self, mail: Outgoing) -> Result:
        read: Any = message_from_bytes(mail.content, policy=policy.default)
        self.taken.append((mail.recipient, read))
        return self.answers.get(mail.recipient, Done(reference="250"))

    def to(self, recipient: str) -> list[EmailMessage]:
        return [mail for address, mail in self.taken if address == recipient]


UNA, ANA = "una@example.com", "ana@step-into.example"


def event_in(mail: EmailMessage) -> tuple[str, Any]:
    """The method and the event; as a mail program takes it, and as the file beside it holds it."""
    (part,) = (one for one in mail.walk() if one.get_content_type() == "text/calendar")
    (file,) = (one for one in mail.iter_attachments() if one.get_content_type() == "application/ics")
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    assert file.get_payload(decode=True) == octets
    calendar: Any = Calendar.from_ical(octets)
    assert part.get_param("method") == calendar["METHOD"]
    (event,) = calendar.walk("VEVENT")
    return str(calendar["METHOD"]), event


async def waiting(service: Service) -> list[Effect]:
    """The invitations that are due."""
    return await claim(
        service.desk.database, frozenset({EffectKind.INVITE}), service.clock() + SOON, lease=LEASE, limit=99
    )


async def invited(service: Service, effect: Effect, office: PostOffice) -> Result:
    service.desk.post = office
    return await invite(service.desk, effect)


async def carried_out(service: Service, office: PostOffice) -> list[Result]:
    """Whatever is due, in its order; a real worker would settle it and take the next of its lane."""
    results = []
    while due := await waiting(service):
        for effect in due:
            results.append(await invited(service, effect, office))
            with raw_sql(url_of(service)) as raw:
                raw.run(f"UPDATE outbox SET status = 'done' WHERE id = {effect.id}")
    return results


def url_of(service: Service) -> str:
    return service.desk.settings.database_url


async def a_booking(service: Service, **client: str) -> Json:
    """Of Ana's, in three days."""
    contact = {"name": "Una", "email": UNA} | client
    case = await service.ana.investigate(client=contact, purchase=a_purchase())
    done(await service.ana.fire(case["id"], "schedule_consultation", starts_at=day(3), minutes=30, channel="by phone"))
    acknowledged(service)
    return case


def acknowledged(service: Service) -> None:
    with raw_sql(url_of(service)) as raw:
        raw.run("UPDATE outbox SET status = 'done' WHERE kind <> 'invite'")


async def move(service: Service, case: Json, days: float, **changes: Any) -> None:
    body = {"starts_at": day(days), "minutes": 45, "channel": "by video", "reason": "Una is away"} | changes
    done(await service.ana.put(f"/v1/cases/{case['id']}/consultation", body))


async def test_both_are_invited_kept_up_to_date_and_told_that_it_is_off(service: Service) -> None:
    case, office = await a_booking(service), PostOffice()
    await move(service, case, 4)
    done(await service.ana.fire(case["id"], "resume", reason_code="new_information"))

    results = await carried_out(service, office)

    assert results == [Done(reference="250")] * 6
    for recipient in (UNA, ANA):
        heard = [event_in(mail) for mail in office.to(recipient)]
        assert [(method, event["SEQUENCE"]) for method, event in heard] == [
            ("REQUEST", 0),
            ("REQUEST", 1),
            ("CANCEL", 2),
        ]
        assert len({event["UID"] for _, event in heard}) == 1
        assert [event.start for _, event in heard] == [NOON + timedelta(days=days) for days in (3, 4, 4)]


async def test_the_mail_can_be_read_without_a_calendar_and_joins_the_case_when_it_is_answered(service: Service) -> None:
    case, office = await a_booking(service), PostOffice()
    await carried_out(service, office)

    (mail,) = office.to(UNA)

    assert mail["To"] == UNA or UNA in str(mail["To"])
    assert mail["Subject"] == f"Consultation on 8 March 2026, 12:00 (UTC) {case['mail_tag']}"
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_body(("plain",))
    assert text is not None
    assert text.get_content().splitlines()[:6] == [
        "Your consultation is booked.",
        "",
        "When: 8 March 2026, 12:00 (UTC)",
        "How long: 30 min",
        "How: by phone",
        f"Case: {case['number']}",
    ]
    name = str(mail["Message-ID"]).strip("<>").partition("@")[0]
    with raw_sql(url_of(service)) as raw:
        known = {key for (key,) in raw.run("SELECT key FROM mail_refs")}
    assert letter_ref(name) in known
    assert letter_ref(str(mail["References"]).strip("<>").partition("@")[0]) in known


async def test_the_client_is_told_nobodys_address_but_ours(service: Service) -> None:
    await a_booking(service)
    office = PostOffice()
    await carried_out(service, office)
    (to_client,), (to_host,) = office.to(UNA), office.to(ANA)

    assert ANA not in to_client.as_string()
    tag = str(to_client["Subject"]).partition("[#")[2].strip("]")
    # Whoever presses Accept answers to this address.
    assert str(event_in(to_client)[1]["ORGANIZER"]) == f"mailto:support+{tag}@localhost"
    assert ANA.encode() not in event_in(to_client)[1].to_ical()
    assert [str(one) for one in event_in(to_host)[1]["ATTENDEE"]] == [f"mailto:{UNA}", f"mailto:{ANA}"]
    assert to_client["Message-ID"] != to_host["Message-ID"]
    assert "[#" not in str(to_host["Subject"])  # it is no participant's to answer with


async def test_made_again_it_is_the_very_same_mail(service: Service) -> None:
    """A process may die after it was sent and before that was recorded."""
    await a_booking(service)
    effects, office = await waiting(service), PostOffice()
    for _ in range(2):
        for effect in effects:
            await invited(service, effect, office)

    for recipient in (UNA, ANA):
        first, again = office.to(recipient)
        assert first["Message-ID"] == again["Message-ID"]
        assert event_in(first)[1].to_ical() == event_in(again)[1].to_ical()


@pytest.mark.parametrize(("away", "there"), [(UNA, ANA), (ANA, UNA)])
async def test_one_that_cannot_be_reached_neither_keeps_the_other_from_being_invited_nor_doubles_it(
    away: str, there: str, service: Service
) -> None:
    await a_booking(service)
    effects = await waiting(service)  # both at once: none waits for the other
    office = PostOffice({away: Failed(code="greylisted")})

    results = {one.target: await invited(service, one, office) for one in effects}
    failed = [one for one in effects if isinstance(results[one.target], Failed)]
    again = [await invited(service, one, office) for one in failed]

    assert sorted(results) == ["client", "host"]
    assert again == [Failed(code="greylisted")]
    assert len(office.to(there)) == 1


# When nothing is sent.


async def test_what_is_over_by_now_is_nobodys_to_come_to(service: Service) -> None:
    case, office = await a_booking(service), PostOffice()
    service.clock.advance(days=3, minutes=30)
    assert await carried_out(service, office) == [Needless(code="past")] * 2

    done(await service.ana.fire(case["id"], "resume", reason_code="no_show"))
    assert await carried_out(service, office) == [Needless(code="nothing_booked")] * 2
    assert office.taken == []


async def test_of_an_erased_client_nothing_is_sent(service: Service) -> None:
    await a_booking(service)
    effects, office = await waiting(service), PostOffice()
    with raw_sql(url_of(service)) as raw, undefended(raw):
        raw.run("DELETE FROM personal WHERE field IN ('client_email', 'channel')")

    assert [await invited(service, one, office) for one in effects] == [Needless(code="erased")] * 2
    assert office.taken == []


async def test_what_was_accepted_as_the_remedy_stands_until_the_case_is_taken_up_again(service: Service) -> None:
    case, office = await a_booking(service), PostOffice()
    await service.ana.add(case["id"], "messages", text="Until then!", direction="outbound")
    done(await service.ana.fire(case["id"], "close", resolution="remedy_accepted"))
    acknowledged(service)
    assert await carried_out(service, office) == [
        *[Done(reference="250")] * 2,
        *[Needless(code="nothing_booked")] * 2,
    ]

    done(await service.ana.fire(case["id"], "reopen"))

    assert await carried_out(service, office) == [Done(reference="250")] * 2
    assert [event_in(mail)[0] for mail in office.to(UNA)] == ["REQUEST", "CANCEL"]


async def test_a_client_whose_address_fits_into_no_header_is_a_persons_to_look_at(service: Service) -> None:
    await a_booking(service)
    effect, _ = await waiting(service)
    with raw_sql(url_of(service)) as raw, undefended(raw):
        raw.run("UPDATE personal SET value = 'a b@@' || char(10) || 'X: y' WHERE field = 'client_email'")

    result = await invited(service, effect, PostOffice())

    assert isinstance(result, Hopeless)
    assert (result.code, UNA in result.detail) == ("address_unfit", False)


# How it reads.


async def test_a_german_client_is_invited_in_german_and_the_host_as_the_desk_speaks(service: Service) -> None:
    said = "Guten Tag, ich habe die Rechnung noch nicht bekommen. Mit freundlichen Grüßen"
    case = await service.ana.investigate(client={"name": "Una", "email": UNA}, message=said, purchase=a_purchase())
    done(await service.ana.fire(case["id"], "schedule_consultation", starts_at=day(3), minutes=30, channel="Telefon"))
    acknowledged(service)

    await carried_out(service, office := PostOffice())

    (to_client,), (to_host,) = office.to(UNA), office.to(ANA)
    assert (to_client["Content-Language"], to_host["Content-Language"]) == ("de", "en")
    assert str(to_client["Subject"]).startswith("Beratung am 8. März 2026, 12:00 Uhr (UTC)")
    assert str(to_host["Subject"]).startswith("Consultation on 8 March 2026")


@pytest.mark.parametrize("language", codes())
async def test_every_language_says_all_of_it(service: Service, language: str) -> None:
    case = await a_booking(service)
    await move(service, case, 4)
    effect, _ = await waiting(service)
    told = await told_of(service.desk, effect)
    assert isinstance(told, Told)
    words = Words(languages()[language], "Europe/Kyiv")
    told = msgspec.structs.replace(told, words=words, host_words=words)

    for for_host in (False, True):
        mail = invitation_mail(told, for_host=for_host)
        text = mail.get_body(("plain",))
        assert text is not None
        assert "by phone" in text.get_content()
        assert words.moment(NOON + timedelta(days=3)) in text.get_content()
        assert "{" not in text.get_content() + str(mail["Subject"])


HOSTILE = ("Una\r\nBcc: all@example.com", '"; <x@y.example>', "日本語 " * 30, "=?utf-8?q?x?=")


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_name_or_channel_becomes_a_header(service: Service, name: str) -> None:
    case = await a_booking(service, name=name[:200])
    await move(service, case, 4, channel=name[:500])
    office = PostOffice()

    await carried_out(service, office)

    for mail in office.to(UNA):
        assert mail["Bcc"] is None
        assert [one.addr_spec for one in mail["To"].addresses] == [UNA]
        assert len(mail.get_all("Subject") or ()) == 1
        assert event_in(mail)[0] == "REQUEST"


async def test_a_pick_of_the_client_invites_as_a_booking_does(service: Service) -> None:
    case = await service.ana.investigate()
    slots = {"slots": [day(3), day(4)], "minutes": 30, "channel": "by phone"}
    await service.ana.add(case["id"], "slots", **slots)
    acknowledged(service)
    assert await waiting(service) == []
    link, _ = new_client_link(NOON + timedelta(days=9))
    await service.as_system("operator", link, case["id"])
    await picked(service, case["id"], link.link_id)

    assert await carried_out(service, office := PostOffice()) == [Done(reference="250")] * 2
    assert len(office.taken) == 2


async def picked(service: Service, case_id: str, link: str) -> None:
    entry = await cases.one(service.desk.database, case_id)
    assert entry is not None
    client = Actor(kind="client", id=link, roles=CLIENTS)
    await service.desk.ledger.submit(
        Submission(command=picks(entry.case), actor=client, via="page", request="r", case_id=case_id)
    )
