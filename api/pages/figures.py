"""What leads see of the desk, section by section: a reading in words, a chart, and tables of the same numbers."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import chain
from typing import NamedTuple
from urllib.parse import urlencode

from markupsafe import Markup

from api.pages.charts import Column, Part, bar, columns
from api.pages.showing import exact, words
from diagrams.lifecycle import Traffic, lifecycle_diagram
from diagrams.svg import as_svg
from storage.batch import Entry
from storage.insights import Load
from workflow.cases import case_number_text
from workflow.insights import MONEY, Days, Kind, Stay, Survey, Total, Way, What, percentile
from workflow.lifecycle import OPEN_STATES, TRANSITIONS
from workflow.money import Money
from workflow.policy import Category
from workflow.states import CaseState, Resolution, Trigger

MEDIAN, MOST = 50, 90  # percent
ENOUGH = 10  # stays, to say of another that it takes long
OLDEST = 10

NOBODY = "none"  # as the queue names the owner of what has none

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


class Asked(NamedTuple):
    """What all sections rest on: the survey at one position, and what the rows tell now."""

    survey: Survey
    days: Days
    today: date
    now: datetime
    loads: list[Load]
    names: Mapping[str, str]
    workers: Sequence[str]
    entries: Mapping[int, Entry]
    oldest: list[Stay]
    totals: dict[Kind, Total]
    ended: dict[Way, list[int]]

    @property
    def period(self) -> dict[str, str]:
        return in_address(self.days)

    def name(self, person: str | None) -> str:
        return "nobody" if person is None else self.names.get(person) or person

    def behind(self, what: What, **wanted: str) -> str:
        return behind(what, **wanted, **self.period)

    def total(self, *what: What, **wanted: str) -> Total:
        return total(self.totals, *what, **wanted)


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
        (hours if days < ENOUGH else 0, " h"),
        (0 if days else minutes, " min"),
        (0 if days or hours or minutes else seconds, " s"),
    ]
    said = [f"{number:,}{unit}" for number, unit in parts if number]
    return " ".join(said) or "0 s"


def compared(now: int, before: int, since: str) -> str:
    if now == before:
        return f"as many as on {since}"
    return f"{abs(now - before):,} {'more' if now > before else 'fewer'} than on {since}"


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


def owner_cell(asked: Asked, person: str | None) -> Cell:
    return Cell(asked.name(person), asked.name(person), kind="words")


def day_cell(day: date, link: str = "") -> Cell:
    return Cell(day.isoformat(), day_text(day), link)


def moment_cell(at: datetime) -> Cell:
    return Cell(at.isoformat(), exact(at))


def amount(money: Money) -> tuple[Cell, Cell]:
    text = amount_text(money).removesuffix(f" {money.currency}")
    return Cell(money.decimal_text(), text, kind="number"), Cell(money.currency, money.currency)


# Steps through a period.


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


# The sections.


def sections(asked: Asked) -> list[Section]:
    return [
        lifecycle(asked),
        states(asked),
        flow(asked),
        times(asked),
        oldest(asked),
        workload(asked),
        outcomes(asked),
        money(asked),
        refusals(asked),
    ]


def of_state(ended: Mapping[Way, list[int]], state: CaseState) -> list[int]:
    return sorted(chain.from_iterable(lengths for way, lengths in ended.items() if way.state is state))


def limits(ended: Mapping[Way, list[int]]) -> dict[CaseState, timedelta]:
    """What nine in ten stays did not exceed, where there were enough of them; nothing is owed to what is closed."""
    by_state = {state: of_state(ended, state) for state in OPEN_STATES}
    return {state: percentile(lengths, MOST) for state, lengths in by_state.items() if len(lengths) >= ENOUGH}


def standing_now(survey: Survey) -> dict[CaseState, int]:
    return survey.stood([date.max])[0]


def lifecycle(asked: Asked) -> Section:
    """The table of transitions, with the traffic over it."""
    now = standing_now(asked.survey)
    places = {}
    for state in CaseState:
        lengths = of_state(asked.ended, state)
        facts = [f"{now[state]:,} now"]
        if lengths and state in OPEN_STATES:  # few leave what is closed, and nobody waits there
            facts.append(f"median {took(percentile(lengths, MEDIAN), short=True)}")
        places[state] = Traffic(facts=tuple(facts), link=queue(state=state))
    ways: dict[tuple[CaseState, Trigger], Traffic] = {
        way: Traffic(
            facts=(f"{len(lengths):,} ·", took(percentile(lengths, MEDIAN), short=True)),
            link=behind("stayed", state=way.state, trigger=way.trigger, **asked.period),
        )
        for way, lengths in asked.ended.items()
    }
    picture = lifecycle_diagram(title="The lifecycle, with its traffic", states=places, ways=ways)
    open_now = sum(now[state] for state in OPEN_STATES)
    most = max(OPEN_STATES, key=now.__getitem__)
    reading = "Nothing is open."
    if open_now:
        verb = "is" if now[most] == 1 else "are"
        reading = f"Of {count(open_now, 'open case', 'open cases')} {now[most]:,} {verb} {words(most)}"
        lengths = of_state(asked.ended, most)
        reading += f"; half of such stays end within {took(percentile(lengths, MEDIAN))}." if lengths else "."
    table = Table(
        "ways",
        ("state", "trigger", "to", "times", "median_seconds", "nine_in_ten_seconds"),
        [
            (
                state_cell(row.source),
                said(row.trigger),
                state_cell(row.target),
                number(len(lengths), behind("stayed", state=row.source, trigger=row.trigger, **asked.period)),
                length(percentile(lengths, MEDIAN) if lengths else None),
                length(percentile(lengths, MOST) if lengths else None),
            )
            for row in TRANSITIONS
            for lengths in [asked.ended.get(Way(row.source, row.trigger), [])]
        ],
    )
    return Section(
        "lifecycle",
        "Where cases are, and which way they go",
        reading,
        [table],
        chart=Markup(as_svg(picture, styled=False)),  # noqa: S704 - our own, escaped where it is drawn
        note="In each state: how many are there now, and the median of the stays that ended in these days. At each"
        " arrow: how often it was taken, and after how long in the middle.",
    )


def states(asked: Asked) -> Section:
    shown = steps(asked.days)
    before, *ends = asked.survey.stood([asked.days.first - timedelta(days=1), *(step.last for step in shown)])

    def link(step: Days, state: str = "") -> str:
        return behind("standing", on=step.last.isoformat(), state=state)

    open_then = [sum(one[state] for state in OPEN_STATES) for one in ends]
    is_today = asked.days.last >= asked.today
    said_of_end = f"{count(open_then[-1])} {'is' if open_then[-1] == 1 else 'are'} open"
    if not is_today:
        verb = "was" if open_then[-1] == 1 else "were"
        said_of_end = f"{count(open_then[-1])} {verb} open at the end of {day_text(asked.days.last)}"
    open_before = sum(before[state] for state in OPEN_STATES)
    since = day_text(asked.days.first - timedelta(days=1))
    drawn = columns(
        "Open cases by state",
        f"From {open_then[0]:,} at the end of {day_text(shown[0].last)} to {open_then[-1]:,} at the end of"
        f" {day_text(shown[-1].last)}.",
        [
            Column(
                label=step_label(step, asked.days),
                said=f"End of {day_text(step.last)}: {total_open:,} open, "
                + ", ".join(f"{counts[state]:,} {words(state)}" for state in OPEN_STATES if counts[state]),
                link=link(step),
                parts=tuple(Part(state, counts[state]) for state in OPEN_STATES),
            )
            for step, counts, total_open in zip(shown, ends, open_then, strict=True)
        ],
        stacked=True,
    )
    table = Table(
        "states",
        ("end_of", "open", *CaseState),
        [
            (
                day_cell(step.last),
                number(total_open, link(step)),
                *(number(counts[state], link(step, state)) for state in CaseState),
            )
            for step, counts, total_open in zip(shown, ends, open_then, strict=True)
        ],
    )
    return Section(
        "states",
        "Open cases",
        f"{said_of_end}, {compared(open_then[-1], open_before, since)}.",
        [table],
        chart=drawn,
        keys=[Key(state, words(state), queue(state=state), state) for state in OPEN_STATES],
    )


def flow(asked: Asked) -> Section:
    shown = [(step, asked.survey.totals(step)) for step in steps(asked.days)]
    counted = [
        (step, total(found, What.OPENED).times, total(found, What.CLOSED).times, in_address(step))
        for step, found in shown
    ]
    came, went = asked.total(What.OPENED).times, asked.total(What.CLOSED).times
    drawn = columns(
        "Cases that came in, and cases that were closed",
        f"{came:,} came in and {went:,} were closed, {days_text(asked.days)}.",
        [
            Column(
                label=step_label(step, asked.days),
                parts=(
                    Part("in", opened, f"{days_text(step)}: {opened:,} came in", behind(What.OPENED, **period)),
                    Part("out", closed, f"{days_text(step)}: {closed:,} closed", behind(What.CLOSED, **period)),
                ),
            )
            for step, opened, closed, period in counted
        ],
        stacked=False,
    )
    table = Table(
        "flow",
        ("from", "until", "came_in", "closed"),
        [
            (
                day_cell(step.first),
                day_cell(step.last),
                number(opened, behind(What.OPENED, **period)),
                number(closed, behind(What.CLOSED, **period)),
            )
            for step, opened, closed, period in counted
        ],
    )
    return Section(
        "flow",
        "Coming and going",
        f"{count(came)} came in, {went:,} {'was' if went == 1 else 'were'} closed.",
        [table],
        chart=drawn,
        keys=[Key("in", "came in", asked.behind(What.OPENED)), Key("out", "closed", asked.behind(What.CLOSED))],
    )


def times(asked: Asked) -> Section:
    known = {state: of_state(asked.ended, state) for state in OPEN_STATES}
    found = {
        state: (lengths, percentile(lengths, MEDIAN), percentile(lengths, MOST))
        for state, lengths in known.items()
        if lengths
    }
    longest = max((most for _, _, most in found.values()), default=timedelta(0)) // timedelta(seconds=1)
    stuck = len(asked.survey.longer_than(limits(asked.ended), asked.now))
    reading = "No stay in a state ended in these days."
    if found:
        slowest = max(found, key=lambda state: found[state][1])
        reading = f"Slowest is {words(slowest)}: half of the stays end within {took(found[slowest][1])}."
        reading += f" Unusually long in their state: {count(stuck)}."
    table = Table(
        "times",
        ("state", "ended_stays", "median_seconds", "nine_in_ten_seconds", "longest_seconds"),
        [
            (
                state_cell(state),
                number(len(lengths), behind("stayed", state=state, **asked.period)),
                length(median),
                length(most),
                length(timedelta(microseconds=lengths[-1])),
            )
            for state, (lengths, median, most) in found.items()
        ],
    )
    bars = [
        Bar(
            label=words(state),
            link=behind("stayed", state=state, **asked.period),
            drawn=bar(
                [
                    Part(state, median // timedelta(seconds=1)),
                    Part(f"{state} more", (most - median) // timedelta(seconds=1)),
                ],
                longest,
            ),
            value=f"{took(median)} · {took(most)}",
            state=state,
        )
        for state, (_, median, most) in found.items()
    ]
    return Section(
        "times",
        "Time in each state",
        reading,
        [table],
        bars=[Bars("", bars)],
        keys=[Key("solid", "half of the stays that ended in these days"), Key("more", "nine in ten of them")],
    )


def oldest(asked: Asked) -> Section:
    rows = []
    for stay in asked.oldest:
        entry = asked.entries[stay.number]
        case = case_number_text(stay.number)
        rows.append(
            (
                Cell(case, case, f"/cases/{case}"),
                state_cell(stay.state),
                Cell(stay.opened.isoformat(), took(asked.now - stay.opened), kind="number"),
                Cell(stay.since.isoformat(), took(asked.now - stay.since), kind="number"),
                owner_cell(asked, entry.case.assignee),
            )
        )
    reading = "Nothing is open."
    if rows:
        reading = f"The oldest open case came in {took(asked.now - asked.oldest[0].opened)} ago."
    return Section(
        "oldest",
        "Oldest open cases",
        reading,
        [Table("oldest", ("case", "state", "open_since", "in_this_state_since", "owner"), rows)],
        is_table=True,
    )


def workload(asked: Asked) -> Section:
    known = {load.assignee: load for load in asked.loads}
    idle = [Load(one, 0, 0, 0, 0) for one in asked.workers if one not in known]
    shown = [*asked.loads, *idle]
    most = max((load.open for load in shown), default=0)
    late, everything = sum(load.late for load in shown), sum(load.open for load in shown)
    nobody = known.get(None)
    reading = f"{count(everything, 'open case', 'open cases')}, {late:,} overdue"
    reading += f", {nobody.open:,} without an owner." if nobody else "; each has an owner."
    bars, rows = [], []
    for load in shown:
        owner = load.assignee or ""
        link = queue("unassigned") if load.assignee is None else queue("open", owner=owner)
        parts = [
            Part("late", load.late),
            Part("waits", load.waiting - load.both),
            Part("in", load.open - load.late - load.waiting + load.both),
        ]
        value = f"{load.open:,}" + (f", {load.late:,} overdue" if load.late else "")
        bars.append(Bar(asked.name(load.assignee), link, bar(parts, most), value))
        rows.append(
            (
                owner_cell(asked, load.assignee),
                number(load.open, link),
                number(load.late, queue("overdue", owner=owner or NOBODY)),
                number(load.waiting, queue("client", owner=owner or NOBODY)),
            )
        )
    return Section(
        "workload",
        "Work at hand",
        reading,
        [Table("workload", ("owner", "open", "overdue", "waiting_for_the_client"), rows)],
        bars=[Bars("", bars)] if shown else [],
        keys=[Key("late", "overdue"), Key("waits", "waiting for the client"), Key("in", "waiting for us")],
    )


def outcomes(asked: Asked) -> Section:
    found = {resolution: asked.total(What.CLOSED, code=resolution).times for resolution in Resolution}
    ordered = sorted((one for one in Resolution if found[one]), key=lambda one: -found[one])
    closed = sum(found.values())
    reading = "Nothing was closed in these days."
    if ordered:
        reading = f"{count(closed)} {'was' if closed == 1 else 'were'} closed, most often as {words(ordered[0])}:"
        reading += f" {found[ordered[0]]:,}."
    bars = [
        Bar(
            words(one).capitalize(),
            asked.behind(What.CLOSED, code=one),
            bar([Part("in", found[one])], found[ordered[0]]),
            f"{found[one]:,}",
        )
        for one in ordered
    ]
    table = Table(
        "outcomes",
        ("resolution", "closed", *Category),
        [
            (
                said(one),
                number(found[one], asked.behind(What.CLOSED, code=one)),
                *(
                    number(
                        asked.total(What.CLOSED, code=one, category=category).times,
                        asked.behind(What.CLOSED, code=one, category=category),
                    )
                    for category in Category
                ),
            )
            for one in ordered
        ],
    )
    return Section("outcomes", "How cases end", reading, [table], bars=[Bars("", bars)] if bars else [])


def money(asked: Asked) -> Section:
    """Of each currency by itself."""
    kinds = {kind: one for kind, one in asked.totals.items() if kind.what in MONEY}
    currencies = sorted({kind.currency for kind in kinds})
    groups, parts = [], []
    for currency in currencies:
        by_clause = {
            (what, code): total(kinds, what, code=code, currency=currency)
            for what in MONEY
            for code in sorted({kind.code for kind in kinds if kind.what is what and kind.currency == currency})
        }
        most = max(one.amount_minor for one in by_clause.values())
        groups.append(
            Bars(
                currency,
                [
                    Bar(
                        f"{MONEY_WORDS[what].capitalize()}, {words(code)}",
                        asked.behind(what, code=code, currency=currency),
                        bar([Part(MONEY_LOOKS[what], one.amount_minor)], most),
                        f"{amount_text(Money(one.amount_minor, currency))}, {times_text(one.times)}",
                    )
                    for (what, code), one in by_clause.items()
                ],
            )
        )
        for what in MONEY:
            sum_of = total(kinds, what, currency=currency)
            if sum_of.times:
                parts.append(f"{amount_text(Money(sum_of.amount_minor, currency))} {MONEY_WORDS[what]}")
    return Section(
        "money",
        "What it costs",
        f"{'; '.join(parts)}." if parts else "No money went back in these days.",
        [
            money_table(asked, kinds, "money-by-clause", "code"),
            money_table(asked, kinds, "money-by-category", "category"),
        ]
        if kinds
        else [],
        bars=groups,
        note="By clause of the policy where a refund rests on one; compensations by their kind." if kinds else "",
    )


MONEY_LOOKS = {What.REFUNDED: "refunded", What.REVERSED: "closed", What.COMPENSATED: "compensation_issued"}
MONEY_WORDS = {What.REFUNDED: "refunded", What.REVERSED: "came back", What.COMPENSATED: "compensated"}


def money_table(asked: Asked, kinds: Mapping[Kind, Total], name: str, by: str) -> Table:
    keys = sorted({(getattr(kind, by), MONEY.index(kind.what), kind.currency) for kind in kinds})
    rows = []
    for value, what, currency in keys:
        wanted = {by: value, "currency": currency}
        one = total(kinds, MONEY[what], **wanted)
        rows.append(
            (
                said(value),
                Cell(MONEY[what], MONEY_WORDS[MONEY[what]]),
                number(one.times, asked.behind(MONEY[what], **wanted)),
                *amount(Money(one.amount_minor, currency)),
            )
        )
    return Table(name, ("clause" if by == "code" else by, "what", "times", "amount", "currency"), rows)


def refusals(asked: Asked) -> Section:
    attempts = asked.total(What.REFUSED).times
    reasons = {kind.code: one.times for kind, one in asked.totals.items() if kind.what is What.REASON}
    ordered = sorted(reasons, key=lambda code: (-reasons[code], code))
    reading = "No attempt was refused in these days."
    if ordered:
        reading = f"{count(attempts, 'attempt was', 'attempts were')} refused, most often by “{words(ordered[0])}”:"
        reading += f" {reasons[ordered[0]]:,}."
    bars = [
        Bar(
            words(code).capitalize(),
            asked.behind(What.REASON, code=code),
            bar([Part("late", reasons[code])], reasons[ordered[0]]),
            f"{reasons[code]:,}",
        )
        for code in ordered
    ]
    table = Table(
        "refusals",
        ("rule", "refused"),
        [(said(code), number(reasons[code], asked.behind(What.REASON, code=code))) for code in ordered],
    )
    return Section(
        "refusals",
        "What was refused",
        reading,
        [table],
        bars=[Bars("", bars)] if bars else [],
        note="By the rule that said no; an attempt can break several." if bars else "",
    )
