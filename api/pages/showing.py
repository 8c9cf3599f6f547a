"""How values look to people: money, times, ages, states."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from workflow.states import CaseState, Trigger

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SPANS = ((DAY, "day", "days"), (HOUR, "h", "h"), (MINUTE, "min", "min"))

# The letter that fires a trigger, after `t`; the same on every page.
TRIGGER_KEYS = {
    Trigger.INVESTIGATE: "i",
    Trigger.OFFER_ADJUSTMENT: "a",
    Trigger.SCHEDULE_CONSULTATION: "s",
    Trigger.ISSUE_COMPENSATION: "m",
    Trigger.REFUND: "r",
    Trigger.RESUME: "u",
    Trigger.CLOSE: "c",
    Trigger.REOPEN: "o",
}

STATE_WORDS = {state: state.value.replace("_", " ") for state in CaseState}


def span(length: timedelta) -> str:
    """Such as `3 h` or `2 days`: one unit, rounded down."""
    for unit, one, many in SPANS:
        if length >= unit:
            count = length // unit
            return f"{count} {one if count == 1 else many}"
    return "a moment"


def until(due: datetime | str, now: datetime) -> str:
    """`in 3 h`, or `2 days late`."""
    left = moment(due) - now
    return f"in {span(left)}" if left >= timedelta(0) else f"{span(-left)} late"


def ago(then: datetime | str, now: datetime) -> str:
    passed = now - moment(then)
    return f"{span(passed)} ago" if passed >= MINUTE else "just now"


def moment(value: datetime | str) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def exact(value: datetime | str) -> str:
    """For hovering over, and for print."""
    return moment(value).astimezone(UTC).strftime("%-d %b %Y, %H:%M UTC")


def in_zone(value: datetime | str, zone: tzinfo) -> str:
    """Such as `5 Mar 2026, 14:00 EET`."""
    try:
        return moment(value).astimezone(zone).strftime("%-d %b %Y, %H:%M %Z")
    except OverflowError:  # at either end of the calendar
        return exact(value)


def day(value: date | str) -> str:
    return (date.fromisoformat(value) if isinstance(value, str) else value).strftime("%-d %b %Y")


def size(count: int) -> str:
    """Of a file."""
    for unit, bytes_in in (("MB", 1_000_000), ("kB", 1_000)):
        if count >= bytes_in:
            return f"{count / bytes_in:.1f} {unit}"
    return f"{count} bytes"


def money(value: Any) -> str:
    """`1,180.00 EUR`, of an amount as the API shows it; a dash where there is none."""
    if value is None:
        return "—"
    whole, point, fraction = str(value["amount"]).partition(".")
    return f"{int(whole):,}{point}{fraction} {value['currency']}"


def words(value: object) -> str:
    """A code as people say it."""
    return str(value).replace("_", " ")


def capitalize(value: object) -> str:
    """As the beginning of a sentence; what follows stays as it is, other than Jinja has it: EUR, Ana, P6."""
    text = str(value)
    return text[:1].upper() + text[1:]


FILTERS = {
    "ago": ago,
    "capitalize": capitalize,
    "day": day,
    "exact": exact,
    "in_zone": in_zone,
    "money": money,
    "size": size,
    "until": until,
    "words": words,
}
