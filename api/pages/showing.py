"""How values look to people: money, times, ages, states."""

from datetime import UTC, datetime, timedelta
from typing import Any

from workflow.states import CaseState

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SPANS = ((DAY, "day", "days"), (HOUR, "h", "h"), (MINUTE, "min", "min"))

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


def money(value: Any) -> str:
    """`1,180.00 EUR`, of an amount as the API shows it; a dash where there is none."""
    if value is None:
        return "—"
    whole, point, fraction = str(value["amount"]).partition(".")
    return f"{int(whole):,}{point}{fraction} {value['currency']}"


def words(value: object) -> str:
    """A code as people say it."""
    return str(value).replace("_", " ")


FILTERS = {"ago": ago, "exact": exact, "money": money, "until": until, "words": words}
