"""Invitations open in a standard parser, at the right time in every zone, and the same event is always the same octets.

Read back with the library that made them, with another one's reader of time zones, and by the grammar of RFC 5545.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from dateutil.tz import tzical
from icalendar import Calendar
from msgspec.structs import replace

from api.calendars import Appointment, Party, appointment_after, feed, invitation
from tests.workflow.builders import (
    ANA,
    DAY,
    NOON,
    SLOTS,
    UNA,
    Desk,
    a_desk,
    a_letter,
    a_link,
    closing,
    firing,
    moves,
    picks,
    proposes_slots,
)
from workflow import commands as c
from workflow.states import Resolution, ResumeReason, Trigger
from workflow.timezones import zone

DESK = Party(address="support@step-into.example", name="Step-Into")
CLIENT = Party(address="una@example.com", name="Una")
HOST = Party(address="ana@step-into.example", name="Ana")
FIRST = SLOTS[0]


def a_booked_desk() -> Desk:
    desk = a_desk()
    desk.do(ANA, a_link())
    desk.do(ANA, proposes_slots())
    desk.do(UNA, picks(desk.case))
    return desk


def now(desk: Desk) -> Appointment | None:
    """What calendars hear of the last event."""
    texts = {desk.case.remedies[-1].channel or "": "by phone"} if desk.case.remedies else {}
    return appointment_after(desk.histories["A"], texts)


def an_appointment(starts_at: datetime = FIRST, minutes: int = 30, **changes: Any) -> Appointment:
    found = Appointment(
        uid="0b7a",
        sequence=0,
        at=NOON,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(minutes=minutes),
        host="ana",
        number="C-1",
        channel="by phone",
    )
    return replace(found, **changes)


def made(appointment: Appointment, timezone: str = "Europe/Kyiv") -> bytes:
    return invitation(appointment, timezone, DESK, [CLIENT], HOST)


def read(octets: bytes) -> Any:
    return Calendar.from_ical(octets)


def event_in(octets: bytes) -> Any:
    (event,) = read(octets).walk("VEVENT")
    return event


# A second reader: the grammar of RFC 5545 §3.1, written down by hand, and another library's time zones.

NAME = r"[A-Za-z0-9-]+"
QUOTED, BARE = r'"[^"\x00-\x08\x0a-\x1f\x7f]*"', r'[^";:,\x00-\x08\x0a-\x1f\x7f]*'
LINE = re.compile(rf"({NAME})((?:;{NAME}=(?:{QUOTED}|{BARE})(?:,(?:{QUOTED}|{BARE}))*)*):([^\x00-\x08\x0a-\x1f\x7f]*)")
LONGEST = 75  # octets


def lines_of(octets: bytes) -> Iterator[tuple[str, str, str]]:
    """Name, parameters and value of each; fails for what the grammar does not know."""
    assert octets.endswith(b"\r\n")
    folded = octets.removesuffix(b"\r\n").split(b"\r\n")
    for line in folded:
        assert len(line) <= LONGEST
        line.decode()  # no character is torn apart
        assert not {*b"\r\n"} & {*line}
    for one in octets.decode().removesuffix("\r\n").replace("\r\n ", "").split("\r\n"):
        found = LINE.fullmatch(one)
        assert found, one
        yield found[1], found[2], found[3]


def instant(octets: bytes, name: str) -> datetime:
    """As the second reader understands it, from the lines and the zone that comes with them."""
    inside, found = False, []
    for what, parameters, value in lines_of(octets):
        inside = inside or (what, value) == ("BEGIN", "VEVENT")
        if inside and what == name:
            found.append((parameters, value))
    ((parameters, value),) = found
    if value.endswith("Z"):
        return datetime.strptime(value, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    there = tzical(StringIO(octets.decode())).get(parameters.partition("TZID=")[2])
    return datetime.strptime(value, "%Y%m%dT%H%M%S").replace(tzinfo=there).astimezone(UTC)


# What an invitation says.


def test_a_booked_consultation_is_requested_of_the_client_and_agreed_by_whoever_holds_it() -> None:
    appointment = now(a_booked_desk())
    assert appointment is not None

    calendar = read(made(appointment))

    assert (calendar["METHOD"], calendar["VERSION"]) == ("REQUEST", "2.0")
    event = event_in(made(appointment))
    assert (event["SEQUENCE"], event["STATUS"], event["LOCATION"]) == (0, "CONFIRMED", "by phone")
    assert (event.start, event.end) == (FIRST, FIRST + timedelta(minutes=30))
    assert event["ORGANIZER"] == "mailto:support@step-into.example"
    client, host = event["ATTENDEE"]
    assert (client, client.params["RSVP"], client.params["PARTSTAT"]) == (
        "mailto:una@example.com",
        "TRUE",
        "NEEDS-ACTION",
    )
    assert (host, host.params["RSVP"], host.params["PARTSTAT"]) == ("mailto:ana@step-into.example", "FALSE", "ACCEPTED")


def test_moves_and_the_end_of_a_booking_have_its_name_and_ever_higher_numbers() -> None:
    desk, heard = a_booked_desk(), []
    heard.append(now(desk))
    desk.do(ANA, moves())
    heard.append(now(desk))
    desk.do(ANA, c.AddNote(text="rang"))
    assert now(desk) is None
    desk.do(ANA, moves(NOON + 6 * DAY))
    heard.append(now(desk))
    desk.do(ANA, firing(Trigger.RESUME, reason_code=ResumeReason.NEW_INFORMATION))
    heard.append(now(desk))

    events = [event_in(made(one)) for one in heard if one is not None]

    assert [one["SEQUENCE"] for one in events] == [0, 1, 2, 3]
    assert len({one["UID"] for one in events}) == 1
    assert [one["STATUS"] for one in events] == ["CONFIRMED", "CONFIRMED", "CONFIRMED", "CANCELLED"]
    assert [one.start for one in events] == [FIRST, NOON + 5 * DAY, NOON + 6 * DAY, NOON + 6 * DAY]
    last = heard[-1]
    assert last is not None
    assert read(made(last))["METHOD"] == "CANCEL"
    desk.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION))
    again = now(desk)
    assert again is not None
    assert again.uid != last.uid


def test_a_consultation_that_took_place_is_not_called_off() -> None:
    desk = a_booked_desk()
    desk.now = FIRST + timedelta(minutes=30)
    desk.do(ANA, firing(Trigger.RESUME, reason_code=ResumeReason.INSUFFICIENT))

    assert now(desk) is None


@pytest.mark.parametrize(("resolution", "is_off"), [(Resolution.WITHDRAWN, True), (Resolution.REMEDY_ACCEPTED, False)])
def test_a_case_that_is_closed_calls_it_off_unless_it_is_the_remedy(resolution: Resolution, is_off: bool) -> None:
    desk = a_booked_desk()
    desk.do(ANA, a_letter())
    desk.do(ANA, closing(resolution))

    closed = now(desk)
    assert (closed is not None and closed.is_off) == is_off
    desk.do(ANA, firing(Trigger.REOPEN))
    reopened = now(desk)
    assert (reopened is not None and reopened.is_off) is not is_off


def test_the_same_event_is_always_the_same_octets() -> None:
    desk = a_booked_desk()
    booking, texts = tuple(desk.histories["A"]), {f"{desk.case.version}/channel": "by phone"}
    first = appointment_after(booking, texts)
    desk.do(ANA, moves())

    again = appointment_after(booking, texts | {f"{desk.case.version}/channel": "by video"})

    assert first is not None
    assert again is not None
    assert made(again) == made(first)
    assert event_in(made(first))["DTSTAMP"].dt == booking[-1].at.replace(microsecond=0)


# When it is.

# Around the changes of clocks of 2026: of an hour, of half an hour, and where there are none any more.
ZONES = ("Europe/Kyiv", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe", "Africa/Casablanca", "UTC")
TIMES = tuple(
    day + timedelta(minutes=minutes)
    for day in map(
        datetime.fromisoformat,
        (
            "2026-03-28T22:00:00+00:00",  # Kyiv, forward
            "2026-10-24T22:00:00+00:00",  # and back
            "2026-03-08T05:00:00+00:00",  # New York
            "2026-11-01T04:00:00+00:00",
            "2026-04-04T13:00:00+00:00",  # Lord Howe
            "2026-10-03T14:00:00+00:00",
            "2026-02-15T01:00:00+00:00",  # Casablanca, for Ramadan
            "2026-03-22T01:00:00+00:00",
        ),
    )
    for minutes in range(0, 300, 30)
)


@pytest.mark.parametrize("timezone", ZONES)
def test_both_readers_find_the_instant_that_was_booked(timezone: str) -> None:
    for starts_at in TIMES:
        octets = made(an_appointment(starts_at, minutes=90), timezone)
        event, expected = event_in(octets), (starts_at, starts_at + timedelta(minutes=90))

        if timezone != "Africa/Casablanca":  # the first reader goes by the machine's own zones, which may be older
            assert (event.start.astimezone(UTC), event.end.astimezone(UTC)) == expected
        assert (instant(octets, "DTSTART"), instant(octets, "DTEND")) == expected


@pytest.mark.parametrize("timezone", ZONES[:5])
def test_the_zone_that_is_sent_has_the_clocks_of_the_whole_year_around(timezone: str) -> None:
    starts_at = datetime(2026, 6, 1, 9, tzinfo=UTC)
    sent = tzical(StringIO(made(an_appointment(starts_at), timezone).decode())).get(timezone)

    for days in range(-360, 360):
        there = (starts_at + timedelta(days=days)).astimezone(zone(timezone))
        assert sent.utcoffset(there.replace(tzinfo=None)) == there.utcoffset(), there


def test_times_are_told_in_the_desks_zone_but_in_the_hour_that_its_clocks_repeat() -> None:
    def told(at: str) -> bytes:
        octets: bytes = event_in(made(an_appointment(datetime.fromisoformat(f"2026-10-25T{at}:00Z"))))[
            "DTSTART"
        ].to_ical()
        return octets

    assert [told("00:15"), told("01:15"), told("02:15")] == [
        b"20261025T031500",
        b"20261025T011500Z",
        b"20261025T041500",
    ]


# Whatever people write.

HOSTILE = (
    "by phone\r\nATTENDEE:mailto:evil@example.com\r\nX-A:1",
    "a; b, c: d \\n \\; \"quoted\" 'x' ^n ^' ^^",
    "END:VEVENT\nEND:VCALENDAR\nBEGIN:VCALENDAR",
    "日本語の会議室🙂" * 60,
    "\x07\x0b\x1b\x85\u2028\u2029 \u202etxet",
    "می‌خواهم 👩‍👩‍👧",
    " \t ",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_anything_but_a_text(text: str) -> None:
    appointment = an_appointment(channel=text)
    party = Party(address="una@example.com", name=text)

    for octets in (
        invitation(appointment, "Europe/Kyiv", party, [party], party),
        feed([appointment], "Europe/Kyiv", text),
    ):
        names = [name for name, _, _ in lines_of(octets)]
        assert names.count("BEGIN") == names.count("END")
        assert "X-A" not in names
        event = event_in(octets)
        shown = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text).split())
        assert event.get("LOCATION", "") == shown
        if "ATTENDEE" in event:
            assert [str(one) for one in event["ATTENDEE"]] == ["mailto:una@example.com"] * 2
            assert event["ATTENDEE"][0].params.get("CN", "") == shown.replace('"', "'").replace("\\", "")


def test_a_feed_holds_each_consultation_once_and_nobodys_address() -> None:
    held = [an_appointment(FIRST + index * DAY, uid=str(index), number=f"C-{index}") for index in range(30)]

    octets = feed(held, "America/New_York", "Step-Into")

    calendar = read(octets)
    events = calendar.walk("VEVENT")
    assert calendar["METHOD"] == "PUBLISH"
    assert len(calendar.walk("VTIMEZONE")) == 1
    assert [(one["UID"], one.start) for one in events] == [(one.uid, one.starts_at) for one in held]
    assert b"mailto" not in octets
    assert {name for name, _, _ in lines_of(feed([], "Europe/Kyiv", "x"))} >= {"METHOD", "VERSION", "PRODID"}
