"""Consultations as calendars know them: invitations, what moves or ends them, and the feed of one person.

iCalendar is RFC 5545; that invitations, changes and cancellations carry a method and a sequence number is RFC 5546.
What is made follows from recorded events alone, so the same event always gives the same octets.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING
from unicodedata import category

import msgspec

from workflow.cases import Case, Pointer, RemedyGiven, booked_slot, case_number_text
from workflow.events import ConsultationMoved, ConsultationScheduled, Recorded
from workflow.replaying import evolve, replay
from workflow.timezones import zone

if TYPE_CHECKING:
    from icalendar import Calendar, Event, Timezone

PRODUCT = "-//Casework//Consultations//EN"
AROUND = timedelta(days=366)  # of a consultation, for which its time zone is told
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


class Party(msgspec.Struct, frozen=True, kw_only=True):
    address: str
    name: str = ""


class Appointment(msgspec.Struct, frozen=True, kw_only=True):
    """A consultation as an event has left it; `at` is when that was, `channel` None: its text was erased."""

    uid: str
    sequence: int
    at: datetime
    starts_at: datetime
    ends_at: datetime
    host: str
    number: str
    channel: str | None
    is_new: bool = False
    is_off: bool = False


def appointment_after(history: Sequence[Recorded], texts: dict[Pointer, str]) -> Appointment | None:
    """What calendars have to hear of the last of these events of a case, oldest first; None for nothing.

    Of a consultation that had ended by then they hear nothing any more.
    """
    *earlier, last = history
    before = replay(earlier)
    if before is None:
        return None
    after = evolve(before, last)
    if isinstance(last.data, ConsultationScheduled | ConsultationMoved):
        found = appointment_of(after, last.event.log, texts.get(after.remedies[-1].channel or ""))
        return msgspec.structs.replace(found, at=last.at, is_new=isinstance(last.data, ConsultationScheduled))
    if booked_slot(before) is None or booked_slot(after) is not None:
        return None
    held = appointment_of(before, last.event.log, texts.get(before.remedies[-1].channel or ""))
    if held.ends_at <= last.at:
        return None
    return msgspec.structs.replace(held, at=last.at, sequence=held.sequence + 1, is_off=True)


def appointment_of(case: Case, log: str, channel: str | None) -> Appointment:
    """The consultation that the case holds."""
    remedy = case.remedies[-1]
    starts_at = remedy.starts_at or remedy.at
    return Appointment(
        uid=uid_of(log, case.chain, remedy),
        sequence=len(remedy.moves),
        at=(remedy.at, *remedy.moves)[-1],
        starts_at=starts_at,
        ends_at=remedy.ends_at or starts_at,
        host=remedy.host or "",
        number=case_number_text(case.number),
        channel=channel,
    )


def uid_of(log: str, chain: str, remedy: RemedyGiven) -> str:
    """One for each booking, however often it moves."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"casework:{log}/{chain}/{remedy.seq}"))


# What is sent, and what is subscribed to.


def invitation(
    appointment: Appointment, timezone: str, organizer: Party, guests: Iterable[Party], host: Party
) -> bytes:
    """`guests` are asked whether they come; the host has agreed already."""
    from icalendar import vCalAddress, vText  # noqa: PLC0415 - loaded by the first calendar that is made

    def address(party: Party, **parameters: str) -> vCalAddress:
        found = vCalAddress(f"mailto:{plain(party.address)}")
        for name, value in (({"CN": quotable(party.name)} if party.name else {}) | parameters).items():
            found.params[name] = vText(value)
        return found

    event = event_of(appointment, timezone)
    event.add("organizer", address(organizer))
    for guest in guests:
        asked = {"ROLE": "REQ-PARTICIPANT", "PARTSTAT": "NEEDS-ACTION", "RSVP": "TRUE"}
        event.add("attendee", address(guest, **asked))
    if host.address:
        event.add("attendee", address(host, ROLE="REQ-PARTICIPANT", PARTSTAT="ACCEPTED", RSVP="FALSE"))
    method = "CANCEL" if appointment.is_off else "REQUEST"
    return octets(calendar_of([appointment], timezone, method), [event])


def feed(appointments: Sequence[Appointment], timezone: str, name: str) -> bytes:
    """For calendar programs to subscribe to: no addresses, and no texts but how people speak with each other."""
    calendar = calendar_of(appointments, timezone, "PUBLISH")
    calendar.add("x-wr-calname", plain(name))
    calendar.add("refresh-interval", timedelta(hours=1), parameters={"VALUE": "DURATION"})
    return octets(calendar, [event_of(one, timezone) for one in appointments])


def calendar_of(appointments: Sequence[Appointment], timezone: str, method: str) -> "Calendar":
    from icalendar import Calendar  # noqa: PLC0415 - as above

    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    calendar.add("method", method)
    if appointments and not is_utc(timezone):
        since = min(one.starts_at for one in appointments) - AROUND
        until = max(one.ends_at for one in appointments) + AROUND
        calendar.add_component(timezone_of(timezone, since, until))
    return calendar


def octets(calendar: "Calendar", events: Iterable["Event"]) -> bytes:
    for one in events:
        calendar.add_component(one)
    made: bytes = calendar.to_ical()
    return made


def event_of(appointment: Appointment, timezone: str) -> "Event":
    from icalendar import Event  # noqa: PLC0415 - as above

    event, channel = Event(), plain(appointment.channel or "")
    event.add("uid", appointment.uid)
    event.add("sequence", appointment.sequence)
    event.add("dtstamp", appointment.at.astimezone(UTC))
    event.add("dtstart", local(appointment.starts_at, timezone))
    event.add("dtend", local(appointment.ends_at, timezone))
    event.add("summary", f"{appointment.number}: {channel}" if channel else appointment.number)
    if channel:
        event.add("location", channel)
    event.add("status", "CANCELLED" if appointment.is_off else "CONFIRMED")
    event.add("transp", "TRANSPARENT" if appointment.is_off else "OPAQUE")
    return event


# Time zones.


def is_utc(timezone: str) -> bool:
    return timezone in {"UTC", "Etc/UTC"}


def local(moment: datetime, timezone: str) -> datetime:
    """In the zone, unless that says it twice: of an hour that the clocks repeat a local time means the first."""
    there = moment.replace(microsecond=0).astimezone(zone(timezone))
    return there.astimezone(UTC) if there.fold or is_utc(timezone) else there


def timezone_of(name: str, since: datetime, until: datetime) -> "Timezone":
    """Every change of the clocks between the two, one by one: rules of zones change, what is so then does not."""
    from icalendar import Timezone, TimezoneDaylight, TimezoneStandard  # noqa: PLC0415 - as above

    there = zone(name)
    found = Timezone()
    found.add("tzid", name)
    begin = since.astimezone(UTC).replace(microsecond=0)
    for at, before in ((begin, begin), *((one, one - SECOND) for one in changes(there, begin, until))):
        was, now = before.astimezone(there), at.astimezone(there)
        observed = TimezoneDaylight() if now.dst() else TimezoneStandard()
        offset = was.utcoffset() or timedelta()
        observed.add("dtstart", (at + offset).replace(tzinfo=None))
        observed.add("tzoffsetfrom", offset)
        observed.add("tzoffsetto", now.utcoffset())
        observed.add("tzname", now.tzname() or name)
        found.add_component(observed)
    return found


def changes(there: tzinfo, since: datetime, until: datetime) -> Iterator[datetime]:
    """The instants from which on the zone has another offset, to the second."""
    start = since
    while start < until:
        end = start + DAY
        if differs(there, start, end):
            low, high = start, end
            while high - low > SECOND:
                middle = (low + (high - low) / 2).replace(microsecond=0)
                low, high = (low, middle) if differs(there, low, middle) else (middle, high)
            yield high
        start = end


def differs(there: tzinfo, one: datetime, other: datetime) -> bool:
    return one.astimezone(there).utcoffset() != other.astimezone(there).utcoffset()


# Texts.


UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, halves of characters, ends of lines


def plain(text: str) -> str:
    """In one line without what no calendar program should be sent; escaping and folding are the library's."""
    return " ".join("".join(" " if category(one) in UNFIT else one for one in text).split())


def quotable(name: str) -> str:
    """A parameter cannot hold a quotation mark (RFC 5545 §3.2), and programs disagree on backslashes in it."""
    return plain(name).replace('"', "'").replace("\\", "")
