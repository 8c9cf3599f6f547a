"""What leads see of the desk, section by section: a reading in words, a chart, and tables of the same numbers."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import chain
from typing import NamedTuple

from markupsafe import Markup

from api.pages import figures as f
from api.pages.asking import NOBODY
from api.pages.charts import Column, Part, bar, columns
from api.pages.showing import words
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
    stays: dict[CaseState, list[int]]  # those of `ended`, however they did
    stuck: int  # in their state for longer than nine in ten were

    @property
    def period(self) -> dict[str, str]:
        return f.in_address(self.days)

    def name(self, person: str | None) -> str:
        return "nobody" if person is None else self.names.get(person) or person

    def behind(self, what: What, **wanted: str) -> str:
        return f.behind(what, **wanted, **self.period)

    def total(self, *what: What, **wanted: str) -> Total:
        return f.total(self.totals, *what, **wanted)


def owner_cell(asked: Asked, person: str | None) -> f.Cell:
    return f.Cell(asked.name(person), asked.name(person), kind="words")


def sections(asked: Asked) -> list[f.Section]:
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


def by_state(ended: Mapping[Way, list[int]]) -> dict[CaseState, list[int]]:
    """The shortest first."""
    return {
        state: sorted(chain.from_iterable(lengths for way, lengths in ended.items() if way.state is state))
        for state in CaseState
    }


def limits(stays: Mapping[CaseState, list[int]]) -> dict[CaseState, timedelta]:
    """What nine in ten stays did not exceed, where there were enough of them; nothing is owed to what is closed."""
    return {state: percentile(stays[state], MOST) for state in OPEN_STATES if len(stays[state]) >= ENOUGH}


def standing_now(survey: Survey) -> dict[CaseState, int]:
    return survey.stood([date.max])[0]


def lifecycle(asked: Asked) -> f.Section:
    """The table of transitions, with the traffic over it."""
    now = standing_now(asked.survey)
    places = {}
    for state in CaseState:
        lengths = asked.stays[state]
        facts = [f"{now[state]:,} now"]
        if lengths and state in OPEN_STATES:  # few leave what is closed, and nobody waits there
            facts.append(f"median {f.took(percentile(lengths, MEDIAN), short=True)}")
        places[state] = Traffic(facts=tuple(facts), link=f.queue(state=state))
    ways: dict[tuple[CaseState, Trigger], Traffic] = {
        way: Traffic(
            facts=(f"{len(lengths):,} ·", f.took(percentile(lengths, MEDIAN), short=True)),
            link=f.behind("stayed", state=way.state, trigger=way.trigger, **asked.period),
        )
        for way, lengths in asked.ended.items()
    }
    picture = lifecycle_diagram(title="The lifecycle, with its traffic", states=places, ways=ways)
    open_now = sum(now[state] for state in OPEN_STATES)
    most = max(OPEN_STATES, key=now.__getitem__)
    reading = "Nothing is open."
    if open_now:
        verb = "is" if now[most] == 1 else "are"
        reading = f"Of {f.count(open_now, 'open case', 'open cases')} {now[most]:,} {verb} {words(most)}"
        lengths = asked.stays[most]
        reading += f"; half of such stays end within {f.took(percentile(lengths, MEDIAN))}." if lengths else "."
    table = f.Table(
        "ways",
        ("state", "trigger", "to", "times", "median_seconds", "nine_in_ten_seconds"),
        [
            (
                f.state_cell(row.source),
                f.said(row.trigger),
                f.state_cell(row.target),
                f.number(len(lengths), f.behind("stayed", state=row.source, trigger=row.trigger, **asked.period)),
                f.length(percentile(lengths, MEDIAN) if lengths else None),
                f.length(percentile(lengths, MOST) if lengths else None),
            )
            for row in TRANSITIONS
            for lengths in [asked.ended.get(Way(row.source, row.trigger), [])]
        ],
    )
    return f.Section(
        "lifecycle",
        "Where cases are, and which way they go",
        reading,
        [table],
        chart=Markup(as_svg(picture, styled=False)),  # noqa: S704 - our own, escaped where it is drawn
        note="In each state: how many are there now, and the median of the stays that ended in these days. At each"
        " arrow: how often it was taken, and after how long in the middle.",
    )


def states(asked: Asked) -> f.Section:
    shown = f.steps(asked.days)
    before, *ends = asked.survey.stood([asked.days.first - timedelta(days=1), *(step.last for step in shown)])

    def link(step: Days, state: str = "") -> str:
        return f.behind("standing", on=step.last.isoformat(), state=state)

    open_then = [sum(one[state] for state in OPEN_STATES) for one in ends]
    is_today = asked.days.last >= asked.today
    said_of_end = f"{f.count(open_then[-1])} {'is' if open_then[-1] == 1 else 'are'} open"
    if not is_today:
        verb = "was" if open_then[-1] == 1 else "were"
        said_of_end = f"{f.count(open_then[-1])} {verb} open at the end of {f.day_text(asked.days.last)}"
    open_before = sum(before[state] for state in OPEN_STATES)
    since = f.day_text(asked.days.first - timedelta(days=1))
    drawn = columns(
        "Open cases by state",
        f"From {open_then[0]:,} at the end of {f.day_text(shown[0].last)} to {open_then[-1]:,} at the end of"
        f" {f.day_text(shown[-1].last)}.",
        [
            Column(
                label=f.step_label(step, asked.days),
                said=f"End of {f.day_text(step.last)}: {total_open:,} open, "
                + ", ".join(f"{counts[state]:,} {words(state)}" for state in OPEN_STATES if counts[state]),
                link=link(step),
                parts=tuple(Part(state, counts[state]) for state in OPEN_STATES),
            )
            for step, counts, total_open in zip(shown, ends, open_then, strict=True)
        ],
        stacked=True,
    )
    table = f.Table(
        "states",
        ("end_of", "open", *CaseState),
        [
            (
                f.day_cell(step.last),
                f.number(total_open, link(step)),
                *(f.number(counts[state], link(step, state)) for state in CaseState),
            )
            for step, counts, total_open in zip(shown, ends, open_then, strict=True)
        ],
    )
    return f.Section(
        "states",
        "Open cases",
        f"{said_of_end}, {f.compared(open_then[-1], open_before, since)}.",
        [table],
        chart=drawn,
        keys=[f.Key(state, words(state), f.queue(state=state), state) for state in OPEN_STATES],
    )


def flow(asked: Asked) -> f.Section:
    shown = [(step, asked.survey.totals(step)) for step in f.steps(asked.days)]
    counted = [
        (step, f.total(found, What.OPENED).times, f.total(found, What.CLOSED).times, f.in_address(step))
        for step, found in shown
    ]
    came, went = asked.total(What.OPENED).times, asked.total(What.CLOSED).times
    drawn = columns(
        "Cases that came in, and cases that were closed",
        f"{came:,} came in and {went:,} were closed, {f.days_text(asked.days)}.",
        [
            Column(
                label=f.step_label(step, asked.days),
                parts=(
                    Part("in", opened, f"{f.days_text(step)}: {opened:,} came in", f.behind(What.OPENED, **period)),
                    Part("out", closed, f"{f.days_text(step)}: {closed:,} closed", f.behind(What.CLOSED, **period)),
                ),
            )
            for step, opened, closed, period in counted
        ],
        stacked=False,
    )
    table = f.Table(
        "flow",
        ("from", "until", "came_in", "closed"),
        [
            (
                f.day_cell(step.first),
                f.day_cell(step.last),
                f.number(opened, f.behind(What.OPENED, **period)),
                f.number(closed, f.behind(What.CLOSED, **period)),
            )
            for step, opened, closed, period in counted
        ],
    )
    return f.Section(
        "flow",
        "Coming and going",
        f"{f.count(came)} came in, {went:,} {'was' if went == 1 else 'were'} closed{changed(asked, came, went)}.",
        [table],
        chart=drawn,
        keys=[f.Key("in", "came in", asked.behind(What.OPENED)), f.Key("out", "closed", asked.behind(What.CLOSED))],
    )


def changed(asked: Asked, came: int, went: int) -> str:
    """Against as many days before; nothing, if the desk is younger than that."""
    first_day = asked.survey.first_day
    length = asked.days.last - asked.days.first
    if first_day is None or asked.days.first - first_day <= length:
        return ""
    before = f.days_before(asked.days)
    then = asked.survey.totals(before)
    more_came = f.more(came, f.total(then, What.OPENED).times)
    more_went = f.more(went, f.total(then, What.CLOSED).times)
    return f": {more_came} and {more_went} than in as many days before"


def times(asked: Asked) -> f.Section:
    found = {
        state: (lengths, percentile(lengths, MEDIAN), percentile(lengths, MOST))
        for state in OPEN_STATES
        for lengths in [asked.stays[state]]
        if lengths
    }
    longest = max((most for _, _, most in found.values()), default=timedelta(0)) // timedelta(seconds=1)
    stuck = asked.stuck
    reading = "No stay in a state ended in these days."
    if found:
        slowest = max(found, key=lambda state: found[state][1])
        reading = f"Slowest is {words(slowest)}: half of the stays end within {f.took(found[slowest][1])}."
        reading += f" Unusually long in their state: {f.count(stuck)}."
    table = f.Table(
        "times",
        ("state", "ended_stays", "median_seconds", "nine_in_ten_seconds", "longest_seconds"),
        [
            (
                f.state_cell(state),
                f.number(len(lengths), f.behind("stayed", state=state, **asked.period)),
                f.length(median),
                f.length(most),
                f.length(timedelta(microseconds=lengths[-1])),
            )
            for state, (lengths, median, most) in found.items()
        ],
    )
    bars = [
        f.Bar(
            label=words(state),
            link=f.behind("stayed", state=state, **asked.period),
            drawn=bar(
                [
                    Part(state, median // timedelta(seconds=1)),
                    Part(f"{state} more", (most - median) // timedelta(seconds=1)),
                ],
                longest,
            ),
            value=f"{f.took(median)} · {f.took(most)}",
            state=state,
        )
        for state, (_, median, most) in found.items()
    ]
    return f.Section(
        "times",
        "Time in each state",
        reading,
        [table],
        bars=[f.Bars("", bars)] if bars else [],
        keys=[f.Key("solid", "half of the stays that ended in these days"), f.Key("more", "nine in ten")]
        if bars
        else [],
    )


def oldest(asked: Asked) -> f.Section:
    rows = []
    for stay in asked.oldest:
        entry = asked.entries[stay.number]
        case = case_number_text(stay.number)
        rows.append(
            (
                f.Cell(case, case, f"/cases/{case}"),
                f.state_cell(stay.state),
                f.Cell(stay.opened.isoformat(), f.took(asked.now - stay.opened), kind="number"),
                f.Cell(stay.since.isoformat(), f.took(asked.now - stay.since), kind="number"),
                owner_cell(asked, entry.case.assignee),
            )
        )
    reading = "Nothing is open."
    if rows:
        reading = f"The oldest open case came in {f.took(asked.now - asked.oldest[0].opened)} ago."
    return f.Section(
        "oldest",
        "Oldest open cases",
        reading,
        [f.Table("oldest", ("case", "state", "open_since", "in_this_state_since", "owner"), rows)],
        is_table=True,
    )


def workload(asked: Asked) -> f.Section:
    known = {load.assignee: load for load in asked.loads}
    idle = [Load(one, 0, 0, 0, 0) for one in asked.workers if one not in known]
    shown = [*asked.loads, *idle]
    most = max((load.open for load in shown), default=0)
    late, everything = sum(load.late for load in shown), sum(load.open for load in shown)
    nobody = known.get(None)
    reading = f"{f.count(everything, 'open case', 'open cases')}, {late:,} overdue"
    reading += f", {nobody.open:,} without an owner." if nobody else "; each has an owner."
    bars, rows = [], []
    for load in shown:
        owner = load.assignee or ""
        link = f.queue("unassigned") if load.assignee is None else f.queue("open", owner=owner)
        parts = [
            Part("late", load.late),
            Part("waits", load.waiting - load.both),
            Part("in", load.open - load.late - load.waiting + load.both),
        ]
        value = f"{load.open:,}" + (f", {load.late:,} overdue" if load.late else "")
        bars.append(f.Bar(asked.name(load.assignee), link, bar(parts, most), value))
        rows.append(
            (
                owner_cell(asked, load.assignee),
                f.number(load.open, link),
                f.number(load.late, f.queue("overdue", owner=owner or NOBODY)),
                f.number(load.waiting, f.queue("client", owner=owner or NOBODY)),
            )
        )
    return f.Section(
        "workload",
        "Work at hand",
        reading,
        [f.Table("workload", ("owner", "open", "overdue", "waiting_for_the_client"), rows)],
        bars=[f.Bars("", bars)] if shown else [],
        keys=[f.Key("late", "overdue"), f.Key("waits", "waiting for the client"), f.Key("in", "waiting for us")],
    )


def outcomes(asked: Asked) -> f.Section:
    found = {resolution: asked.total(What.CLOSED, code=resolution).times for resolution in Resolution}
    ordered = sorted((one for one in Resolution if found[one]), key=lambda one: -found[one])
    closed = sum(found.values())
    reading = "Nothing was closed in these days."
    if ordered:
        reading = f"{f.count(closed)} {'was' if closed == 1 else 'were'} closed, most often as {words(ordered[0])}:"
        reading += f" {found[ordered[0]]:,}."
    bars = [
        f.Bar(
            words(one).capitalize(),
            asked.behind(What.CLOSED, code=one),
            bar([Part("in", found[one])], found[ordered[0]]),
            f"{found[one]:,}",
        )
        for one in ordered
    ]
    table = f.Table(
        "outcomes",
        ("resolution", "closed", *Category),
        [
            (
                f.said(one),
                f.number(found[one], asked.behind(What.CLOSED, code=one)),
                *(
                    f.number(
                        asked.total(What.CLOSED, code=one, category=category).times,
                        asked.behind(What.CLOSED, code=one, category=category),
                    )
                    for category in Category
                ),
            )
            for one in ordered
        ],
    )
    return f.Section("outcomes", "How cases end", reading, [table], bars=[f.Bars("", bars)] if bars else [])


def money(asked: Asked) -> f.Section:
    """Of each currency by itself."""
    kinds = {kind: one for kind, one in asked.totals.items() if kind.what in MONEY}
    currencies = sorted({kind.currency for kind in kinds})
    groups, parts = [], []
    for currency in currencies:
        by_clause = {
            (what, code): f.total(kinds, what, code=code, currency=currency)
            for what in MONEY
            for code in sorted({kind.code for kind in kinds if kind.what is what and kind.currency == currency})
        }
        most = max(one.amount_minor for one in by_clause.values())
        groups.append(
            f.Bars(
                currency,
                [
                    f.Bar(
                        f"{MONEY_WORDS[what].capitalize()}, {words(code)}",
                        asked.behind(what, code=code, currency=currency),
                        bar([Part(MONEY_LOOKS[what], one.amount_minor)], most),
                        f"{f.amount_text(Money(one.amount_minor, currency))}, {f.times_text(one.times)}",
                    )
                    for (what, code), one in by_clause.items()
                ],
            )
        )
        for what in MONEY:
            sum_of = f.total(kinds, what, currency=currency)
            if sum_of.times:
                parts.append(f"{f.amount_text(Money(sum_of.amount_minor, currency))} {MONEY_WORDS[what]}")
    return f.Section(
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


def money_table(asked: Asked, kinds: Mapping[Kind, Total], name: str, by: str) -> f.Table:
    keys = sorted({(getattr(kind, by), MONEY.index(kind.what), kind.currency) for kind in kinds})
    rows = []
    for value, what, currency in keys:
        wanted = {by: value, "currency": currency}
        one = f.total(kinds, MONEY[what], **wanted)
        rows.append(
            (
                f.said(value),
                f.Cell(MONEY[what], MONEY_WORDS[MONEY[what]]),
                f.number(one.times, asked.behind(MONEY[what], **wanted)),
                *f.amount(Money(one.amount_minor, currency)),
            )
        )
    return f.Table(name, ("clause" if by == "code" else by, "what", "times", "amount", "currency"), rows)


def refusals(asked: Asked) -> f.Section:
    attempts = asked.total(What.REFUSED).times
    reasons = {kind.code: one.times for kind, one in asked.totals.items() if kind.what is What.REASON}
    ordered = sorted(reasons, key=lambda code: (-reasons[code], code))
    reading = "No attempt was refused in these days."
    if ordered:
        reading = f"{f.count(attempts, 'attempt was', 'attempts were')} refused, most often by “{words(ordered[0])}”:"
        reading += f" {reasons[ordered[0]]:,}."
    bars = [
        f.Bar(
            words(code).capitalize(),
            asked.behind(What.REASON, code=code),
            bar([Part("late", reasons[code])], reasons[ordered[0]]),
            f"{reasons[code]:,}",
        )
        for code in ordered
    ]
    table = f.Table(
        "refusals",
        ("rule", "refused"),
        [(f.said(code), f.number(reasons[code], asked.behind(What.REASON, code=code))) for code in ordered],
    )
    return f.Section(
        "refusals",
        "What was refused",
        reading,
        [table],
        bars=[f.Bars("", bars)] if bars else [],
        note="By the rule that said no; an attempt can break several." if bars else "",
    )
