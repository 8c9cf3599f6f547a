"""The leads' view: how many, how old, who is stuck, what it costs, what changed; and the cases behind each number."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from api import views as v
from api.exporting import MEDIA_TYPES, Cell, Format, in_blocks, table
from api.pages import figures as f
from api.pages import sections as s
from api.pages.frame import desk_page
from api.pages.rendering import HEADERS
from api.pages.routing import PageCall, Pages
from api.pages.showing import words
from storage import insights, people
from storage.insights import PATIENCE_SECONDS
from storage.submissions import Unavailable
from workflow.cases import case_number_text
from workflow.errors import BadInput, FieldError, NotFound, bad_field
from workflow.events import AttemptRefused
from workflow.insights import Days, Found, Happening, Kind, Stay, Survey, What
from workflow.roles import OVERSEERS, WORKERS
from workflow.states import CaseState, Trigger
from workflow.timezones import zone

pages = Pages()

E = TypeVar("E", bound=StrEnum)

WEEKS = 12
ROWS = 100
FILE_PATIENCE_SECONDS = 30.0  # somebody who wants a file would rather wait than come again
TURN = 1000  # rows of a file, between which others are answered

SKIP = re.compile(r"[0-9]{1,9}")

QUICK = ((4, "4 weeks"), (12, "12 weeks"), (52, "a year"))


# Whatever period is asked about.


class Period(NamedTuple):
    """`typed` are the days that the form shows; `faults` say what of them makes no sense."""

    days: Days
    typed: dict[str, str]
    faults: tuple[FieldError, ...]


def period_of(asked: Mapping[str, str], today: date, first_day: date | None) -> Period:
    """Twelve weeks until today, where nothing else is asked for; never before the log or after today."""
    faults = []
    given: dict[str, date] = {}
    for name in ("from", "until"):
        if text := asked.get(name, ""):
            try:
                given[name] = date.fromisoformat(text)
            except ValueError:
                faults.append(FieldError(field=name, message=f"“{text[:20]}” is no day such as 2026-03-31"))
    if "from" in given and given["from"] > given.get("until", today):
        faults.append(FieldError(field="from", message="is after the last day"))
    sensible = {} if faults else given
    beginning = min(first_day or today, today)
    last = max(min(sensible.get("until", today), today), beginning)
    first = max(sensible.get("from", week_of(last) - timedelta(weeks=WEEKS - 1)), beginning)
    days = Days(min(first, last), last)
    typed = f.in_address(days) | {name: day.isoformat() for name, day in given.items()}
    return Period(days, typed, tuple(faults))


def week_of(day: date) -> date:
    """Its Monday."""
    return day - timedelta(days=day.weekday())


# The page.


@pages.get("/insights", OVERSEERS)
async def overview(call: PageCall) -> Response:
    survey, end = await surveyed(call, PATIENCE_SECONDS)
    if survey.position < end:
        return await reading_on(call, survey, end)
    asked, period = await everything(call, survey)
    open_now = s.standing_now(survey)
    loads = asked.loads
    unassigned = sum(one.open for one in loads if one.assignee is None)
    return await desk_page(
        call,
        "insights.html",
        status=422 if period.faults else 200,
        here="/insights",
        position=survey.position,
        now=asked.now,
        typed=period.typed,
        faults=period.faults,
        days=f.days_text(asked.days),
        today=asked.today.isoformat(),
        quick=[(text, f"/insights?from={(asked.today - timedelta(weeks=weeks)).isoformat()}") for weeks, text in QUICK],
        heads=[
            ("open", sum(open_now[state] for state in CaseState if state is not CaseState.CLOSED), f.queue("open")),
            ("overdue", sum(one.late for one in loads), f.queue("overdue")),
            ("waiting for the client", sum(one.waiting for one in loads), f.queue("client")),
            ("without an owner", unassigned, f.queue("unassigned")),
            ("unusually long in their state", asked.stuck, f.behind("stuck", **asked.period)),
            ("came in", asked.total(What.OPENED).times, asked.behind(What.OPENED)),
            ("closed", asked.total(What.CLOSED).times, asked.behind(What.CLOSED)),
        ],
        sections=s.sections(asked) if survey.numbers else [],
        period=asked.period,
    )


async def surveyed(call: PageCall, patience: float) -> tuple[Survey, int]:
    """By days of the zone that the desk has now."""
    settings = (await call.desk.context()).settings_now(call.desk.clock())
    return await call.desk.insights.ask(zone(settings.timezone), patience)


async def reading_on(call: PageCall, survey: Survey, end: int) -> Response:
    """Nothing but how far it is: a number that leaves out a part of the log would be wrong."""
    return await desk_page(call, "insights_reading.html", here="/insights", position=survey.position, end=end)


async def everything(call: PageCall, survey: Survey) -> tuple[s.Asked, Period]:
    """All questions to the database come first, so that the survey stands still while it is counted."""
    desk, now = call.desk, call.desk.clock()
    loads = await insights.loads(desk.database, now)
    names = await names_of(call)
    staff = (await desk.directory()).people.values()
    oldest = survey.oldest(s.OLDEST)
    entries = await insights.numbered(desk.database, [one.number for one in oldest])
    today = now.astimezone(survey.zone).date()
    period = period_of(call.request.query_params, today, survey.first_day)
    ended = survey.ended(period.days)
    stays = s.by_state(ended)
    asked = s.Asked(
        survey=survey,
        days=period.days,
        today=today,
        now=now,
        loads=loads,
        names=names,
        workers=[one.id for one in staff if one.active and WORKERS & {*one.roles}],
        oldest=oldest,
        entries=entries,
        totals=survey.totals(period.days),
        ended=ended,
        stays=stays,
        stuck=survey.count_longer_than(s.limits(stays), now),
    )
    return asked, period


async def names_of(call: PageCall) -> dict[str, str]:
    return {person: one.get("name", "") for person, one in (await people.names(call.desk.database)).items()}


# Files.


@pages.get("/insights/{name}.csv", OVERSEERS)
async def file(call: PageCall, name: str) -> Response:
    """The numbers of a table, or of the cases behind a number; without any text of a client."""
    survey = await whole_survey(call)
    if name == "cases":
        listed = list_of(call, survey)
        return as_file(name, listed.columns, map(listed.values, listed.found))
    asked, period = await everything(call, survey)
    require_sense(period)
    tables = {one.name: one for section in s.sections(asked) for one in section.tables}
    if name not in tables:
        raise NotFound("table")
    found = tables[name]
    return as_file(name, found.columns, ([cell.value for cell in row] for row in found.rows))


async def whole_survey(call: PageCall) -> Survey:
    """Raises Unavailable, if the log is still being read."""
    survey, end = await surveyed(call, FILE_PATIENCE_SECONDS)
    if survey.position < end:
        raise Unavailable("the log is still being read")
    return survey


def require_sense(period: Period) -> None:
    """Raises BadInput."""
    if period.faults:
        raise BadInput(*period.faults)


def as_file(name: str, columns: tuple[str, ...], rows: Iterable[Sequence[Cell]]) -> Response:
    async def in_turns() -> AsyncIterator[list[Cell]]:
        for number, row in enumerate(rows, 1):
            yield [*row]
            if number % TURN == 0:
                await asyncio.sleep(0)

    headers = {**HEADERS, "content-disposition": f'attachment; filename="casework-{name}.csv"'}
    return StreamingResponse(in_blocks(table(columns, in_turns())), headers=headers, media_type=MEDIA_TYPES[Format.CSV])


# What is behind a number.


class Row(NamedTuple):
    """`told` is what there is to say besides."""

    number: str | None
    title: str
    state: CaseState | None
    at: datetime
    told: str
    who: str


class Listed(NamedTuple):
    """`heading` says what they have in common, `values` is one row of the file, `rows` some of the page."""

    heading: str
    columns: tuple[str, ...]
    found: Found[Any]
    values: Callable[[Any], Sequence[Cell]]
    rows: Callable[[PageCall, Any], Awaitable[list[Row]]]
    who: str = "By"
    when: str = "When"


@pages.get("/insights/cases", OVERSEERS)
async def cases(call: PageCall) -> Response:
    """What a number of the leads' view counts, one by one."""
    survey, end = await surveyed(call, PATIENCE_SECONDS)
    if survey.position < end:
        return await reading_on(call, survey, end)
    asked = call.request.query_params
    listed = list_of(call, survey)
    skip = int(asked["skip"]) if SKIP.fullmatch(asked.get("skip", "")) else 0
    shown = listed.found.page(skip, ROWS)
    more = skip + ROWS if skip + ROWS < len(listed.found) else None
    return await desk_page(
        call,
        "insights_cases.html",
        here="/insights",
        now=call.desk.clock(),
        heading=listed.heading,
        who=listed.who,
        when=listed.when,
        total=len(listed.found),
        first=skip + 1,
        rows=await listed.rows(call, shown),
        file=f"/insights/cases.csv?{urlencode(dict(asked))}",
        before=address(asked, max(skip - ROWS, 0)) if skip else None,
        more=address(asked, more) if more else None,
        back=f"/insights?{urlencode({name: asked[name] for name in ('from', 'until') if name in asked})}",
    )


def address(asked: Mapping[str, str], skip: int) -> str:
    return f"/insights/cases?{urlencode(dict(asked) | {'skip': skip})}"


def list_of(call: PageCall, survey: Survey) -> Listed:
    """Raises BadInput."""
    asked, now = call.request.query_params, call.desk.clock()
    period = period_of(asked, now.astimezone(survey.zone).date(), survey.first_day)
    require_sense(period)
    what, days = asked.get("what", ""), period.days
    if what in set(What):
        return of_happenings(survey, What(what), days, asked)
    match what:
        case "standing":
            state, day = one_of(CaseState, asked, "state"), day_in(asked, "on", days)
            heading = f"{words(state or 'open').capitalize()} at the end of {f.day_text(day)}"
            return of_stays(heading, survey.standing(day, state), now)
        case "stayed":
            state, trigger = one_of(CaseState, asked, "state"), one_of(Trigger, asked, "trigger")
            if state is None:
                raise bad_field("state", "is missing")
            ended = f"ended by {words(trigger)}" if trigger else "ended"
            heading = f"Stays in {words(state)} that {ended}, {f.days_text(days)}"
            return of_stays(heading, survey.stayed(days, state, trigger), now)
        case "stuck":
            heading = f"In their state for longer than nine in ten were, {f.days_text(days)}"
            limits = s.limits(s.by_state(survey.ended(days)))
            return of_stays(heading, survey.longer_than(limits, now), now)
        case _:
            raise bad_field("what", f"has to be {', '.join([*What, 'standing', 'stayed'])} or stuck")


def one_of(kind: type[E], asked: Mapping[str, str], name: str) -> E | None:
    """Raises BadInput."""
    value = asked.get(name, "")
    if value and value not in {*kind}:
        raise bad_field(name, f"has to be {', '.join(kind)}")
    return kind(value) if value else None


def day_in(asked: Mapping[str, str], name: str, days: Days) -> date:
    """No later than the last of these days, which is today or before. Raises BadInput."""
    try:
        return min(date.fromisoformat(asked.get(name, "")), days.last)
    except ValueError:
        raise bad_field(name, "has to be a day such as 2026-03-31") from None


def of_stays(heading: str, found: Found[Stay], now: datetime) -> Listed:
    async def rows(call: PageCall, shown: Sequence[Stay]) -> list[Row]:
        entries = await insights.numbered(call.desk.database, [one.number for one in shown])
        names = await names_of(call)
        return [
            Row(
                number=case_number_text(one.number),
                title=v.text(entries[one.number].texts, entries[one.number].case.title),
                state=entries[one.number].case.state,
                at=one.since,
                told=told_of_stay(one, now),
                who=names.get(entries[one.number].case.assignee or "", ""),
            )
            for one in shown
        ]

    return Listed(heading, STAY_COLUMNS, found, stay_values, rows, "Owner", "Since")


STAY_COLUMNS = ("case", "state", "since", "until", "seconds", "trigger")


def told_of_stay(one: Stay, now: datetime) -> str:
    if one.until is None:
        return f"{words(one.state)} for {f.took(now - one.since)}"
    return f"{words(one.state)} for {f.took(one.until - one.since)}, then {words(one.trigger)}"


def stay_values(one: Stay) -> Sequence[Cell]:
    until, seconds = (
        (one.until.isoformat(), int((one.until - one.since).total_seconds())) if one.until else (None, None)
    )
    return [case_number_text(one.number), one.state, one.since.isoformat(), until, seconds, one.trigger]


def of_happenings(survey: Survey, what: What, days: Days, asked: Mapping[str, str]) -> Listed:
    wanted = {name: asked[name] for name in ("code", "category", "currency") if asked.get(name)}

    def is_wanted(kind: Kind) -> bool:
        return kind.what is what and f.is_like(kind, wanted)

    heading = ", ".join([HEADINGS[what], *map(words, wanted.values()), f.days_text(days)])
    columns = ("position", "case", "at", "what", "code", "category", "amount", "currency")
    return Listed(heading, columns, survey.happenings(days, is_wanted), happening_values, happening_rows)


HEADINGS = {
    What.OPENED: "Came in",
    What.CLOSED: "Closed",
    What.REFUNDED: "Refunded",
    What.REVERSED: "Came back",
    What.COMPENSATED: "Compensated",
    What.REFUSED: "Refused attempts",
    What.REASON: "Refused",
}


async def happening_rows(call: PageCall, shown: Sequence[Happening]) -> list[Row]:
    entries = await insights.numbered(call.desk.database, [one.number for one in shown if one.number is not None])
    events = await insights.placed(call.desk.database, [one.position for one in shown])
    names = await names_of(call)
    rows = []
    for one in shown:
        entry = entries.get(one.number) if one.number is not None else None
        data = events[one.position].data
        told = [f.amount_text(one.money)] if one.money else []
        told += [attempted(data)] if isinstance(data, AttemptRefused) else []
        told += [words(one.kind.code)] if one.kind.code else []
        rows.append(
            Row(
                number=case_number_text(one.number) if one.number is not None else None,
                title=v.text(entry.texts, entry.case.title) if entry else "",
                state=entry.case.state if entry else None,
                at=one.at,
                told=", ".join([*told, *([words(one.kind.category)] if one.kind.category else [])]),
                who=named(events[one.position].event.actor, names),
            )
        )
    return rows


def attempted(data: AttemptRefused) -> str:
    """In words: the trigger, or else the command, or the address that was asked for."""
    is_command = data.command.isalpha()
    return words(data.trigger or (WORD_BEGINS.sub(" ", data.command).lower() if is_command else data.command))


WORD_BEGINS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def happening_values(one: Happening) -> Sequence[Cell]:
    case = case_number_text(one.number) if one.number is not None else None
    amount = one.money.decimal_text() if one.money else None
    return [
        one.position,
        case,
        one.at.isoformat(),
        one.kind.what,
        one.kind.code,
        one.kind.category,
        amount,
        one.kind.currency,
    ]


def named(actor: str, names: Mapping[str, str]) -> str:
    """Who did it: a person by name, a part of the system by what it is."""
    kind, _, name = actor.partition(":")
    return names.get(name) or name if kind == "person" else f"{kind}: {name}"
