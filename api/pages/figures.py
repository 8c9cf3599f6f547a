"""What sections of the leads' view are made of: tables, bars, words, and steps through a period."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

from markupsafe import Markup

from api.pages.showing import words
from workflow.insights import Days, Kind, Total, What
from workflow.money import Money
from workflow.states import CaseState

FEW = 10  # days, of which hours are told as well

DAYS_BY_DAY, DAYS_BY_WEEK, DAYS_BY_MONTH = 35, 35 * 7, 48 * 31


# What a section is made of.


class Cell(NamedTuple):
    """`value` is for machines, `text` for people. `kind` is how it is shown: a number, a state, somebody's words."""

    value: str | int | None
    text: str
    link: str = ""
    kind: str = ""


class Table(NamedTuple):
    """`name` is its file's, too."""

    name: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]


class Bar(NamedTuple):
    """A labelled bar, lying down; `state` in place of a label."""

    label: str
    link: str
    drawn: Markup
    value: str
    state: CaseState | None = None


class Bars(NamedTuple):
    title: str
    bars: list[Bar]


class Key(NamedTuple):
    """What a colour means."""

    kind: str
    text: str
    link: str = ""
    state: CaseState | None = None


class Section(NamedTuple):
    name: str
    title: str
    reading: str
    tables: list[Table]
    chart: Markup | None = None
    bars: Sequence[Bars] = ()
    keys: Sequence[Key] = ()
    note: str = ""
    is_table: bool = False  # that nobody has to ask for


def total(totals: Mapping[Kind, Total], *what: What, **wanted: str) -> Total:
    """Of all kinds of happenings that are like this."""
    found = [one for kind, one in totals.items() if kind.what in what and is_like(kind, wanted)]
    return Total(sum(one.times for one in found), sum(one.amount_minor for one in found))


def is_like(kind: Kind, wanted: Mapping[str, str]) -> bool:
    return all(getattr(kind, name) == value for name, value in wanted.items())


def in_address(days: Days) -> dict[str, str]:
    return {"from": days.first.isoformat(), "until": days.last.isoformat()}


def behind(what: str, **wanted: str) -> str:
    """Where the cases are that a number counts."""
    return f"/insights/cases?{urlencode({'what': what} | {name: one for name, one in wanted.items() if one})}"


def queue(tab: str = "all", **wanted: str) -> str:
    return f"/queue?{urlencode({'tab': tab} | wanted)}"


# Words.


def count(number: int, one: str = "case", many: str = "cases") -> str:
    return f"{number:,} {one if number == 1 else many}"


def day_text(day: date, *, year: bool = True) -> str:
    return f"{day.day} {day:%b}" + (f" {day.year}" if year else "")


def days_text(days: Days) -> str:
    same_year = days.first.year == days.last.year
    if days.first == days.last:
        return day_text(days.first)
    return f"{day_text(days.first, year=not same_year)} to {day_text(days.last)}"


def took(length: timedelta, *, short: bool = False) -> str:
    """In two units, such as `2 days 4 h`; a long one in days alone."""
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [
        (days, " d" if short else " day" if days == 1 else " days"),
        (hours if days < FEW else 0, " h"),
        (0 if days else minutes, " min"),
        (0 if days or hours or minutes else seconds, " s"),
    ]
    said = [f"{number:,}{unit}" for number, unit in parts if number]
    return " ".join(said) or "0 s"


def compared(now: int, before: int, since: str) -> str:
    return f"as many as on {since}" if now == before else f"{more(now, before)} than on {since}"


def more(now: int, before: int) -> str:
    return f"{abs(now - before):,} {'fewer' if now < before else 'more'}"


def times_text(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def amount_text(money: Money) -> str:
    whole, point, fraction = money.decimal_text().partition(".")
    return f"{int(whole):,}{point}{fraction} {money.currency}"


# Cells.


def said(value: str, link: str = "") -> Cell:
    return Cell(value, words(value), link)


def state_cell(state: CaseState, link: str = "") -> Cell:
    return Cell(state, words(state), link, "state")


def number(value: int, link: str = "") -> Cell:
    return Cell(value, f"{value:,}", link if value else "", "number")


def length(value: timedelta | None) -> Cell:
    """In seconds, for machines."""
    if value is None:
        return Cell(None, "—", kind="number")
    return Cell(int(value.total_seconds()), took(value), kind="number")


def day_cell(day: date, link: str = "") -> Cell:
    return Cell(day.isoformat(), day_text(day), link)


def amount(money: Money) -> tuple[Cell, Cell]:
    text = amount_text(money).removesuffix(f" {money.currency}")
    return Cell(money.decimal_text(), text, kind="number"), Cell(money.currency, money.currency)


# Periods, and steps through one.


def days_before(days: Days) -> Days:
    """As many."""
    length = days.last - days.first
    last = days.first - timedelta(days=1)
    return Days(last - length, last)


def steps(days: Days) -> list[Days]:
    """Days, weeks from Monday on, months or years, so that they are neither few nor too many."""
    length_days = (days.last - days.first).days + 1
    found, first = [], days.first
    while first <= days.last:
        last = min(last_of_step(first, length_days), days.last)
        found.append(Days(first, last))
        first = last + timedelta(days=1)
    return found


def last_of_step(day: date, length_days: int) -> date:
    if length_days <= DAYS_BY_DAY:
        return day
    if length_days <= DAYS_BY_WEEK:
        return day + timedelta(days=6 - day.weekday())
    if length_days <= DAYS_BY_MONTH:
        return (day.replace(day=1) + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    return day.replace(month=12, day=31)


def step_label(step: Days, days: Days) -> str:
    length_days = (days.last - days.first).days + 1
    if length_days <= DAYS_BY_WEEK:
        return day_text(step.first, year=False)
    return f"{step.first:%b %y}" if length_days <= DAYS_BY_MONTH else f"{step.first.year}"
