"""What has become of all cases: counted, timed and summed by days, as the log tells it event by event.

Kept in columns of numbers, of some hundred bytes a case, so that a large desk fits into memory and any period can be
asked about at once. Days are those of the desk's own zone; moments are microseconds since 1970.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from functools import partial
from heapq import nsmallest
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

from workflow import events as e
from workflow.errors import BrokenHistory
from workflow.money import Money
from workflow.states import CaseState, Trigger

T = TypeVar("T")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FAR_AWAY = 2**63 - 1  # until when a stay lasts that goes on

STATES, TRIGGERS = tuple(CaseState), tuple(Trigger)
STATE_INDEX = {state.value: index for index, state in enumerate(STATES)}
TRIGGER_INDEX = {trigger.value: index for index, trigger in enumerate(TRIGGERS)}
CLOSED = STATE_INDEX[CaseState.CLOSED]
NONE_YET = -1

TYPES = tuple(
    e.TYPE_NAMES[data]
    for data in (
        *(e.Opened, e.InvestigationStarted, e.AdjustmentOffered, e.ConsultationScheduled, e.CompensationIssued),
        *(e.Refunded, e.Resumed, e.Closed, e.Reopened),
        *(e.Recategorized, e.Proposed, e.PaymentReversed, e.AttemptRefused),
    )
)
"""The events that a survey takes in; of all others it learns nothing."""


class What(StrEnum):
    """What happened, to be counted."""

    OPENED = "opened"
    CLOSED = "closed"
    REFUNDED = "refunded"
    REVERSED = "reversed"  # a refund that came back
    COMPENSATED = "compensated"
    REFUSED = "refused"  # an attempt
    REASON = "reason"  # one of the reasons of a refused attempt


MONEY = (What.REFUNDED, What.REVERSED, What.COMPENSATED)


class Kind(NamedTuple):
    """Told apart as far as anybody asks. `code` is the resolution, clause, compensation's kind or refusal's code.

    `category` is the one that the case had then.
    """

    what: What
    code: str = ""
    category: str = ""
    currency: str = ""


class Total(NamedTuple):
    times: int = 0
    amount_minor: int = 0


class Way(NamedTuple):
    """A stay in a state, and the trigger that ended it."""

    state: CaseState
    trigger: Trigger


class Days(NamedTuple):
    """From the first to the last, both included."""

    first: date
    last: date


class Stay(NamedTuple):
    """Of a case in a state. `until` and `trigger` are None while it goes on."""

    number: int
    opened: datetime
    state: CaseState
    since: datetime
    until: datetime | None
    trigger: Trigger | None


class Happening(NamedTuple):
    """`position` is the event's in the log, `number` the case's, if it concerned one."""

    position: int
    number: int | None
    at: datetime
    kind: Kind
    amount_minor: int

    @property
    def money(self) -> Money | None:
        return Money(self.amount_minor, self.kind.currency) if self.kind.currency else None


class Found(Generic[T]):
    """Rows that are made as they are looked at."""

    def __init__(self, places: Sequence[int], row: Callable[[int], T]) -> None:
        self.places = places
        self.row = row

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[T]:
        return map(self.row, self.places)

    def page(self, skip: int, limit: int) -> list[T]:
        return [self.row(place) for place in self.places[skip : skip + limit]]


class Survey:
    """Takes in the events of TYPES in the order of the log. `position` is how far that got."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self.position = 0
        # Of each case, in the order of their opening.
        self.places: dict[str, int] = {}
        self.numbers = array("q")
        self.opened = array("q")
        self.categories: list[str] = []
        self.stays = array("q")  # the one that goes on
        self.unclosed: set[int] = set()
        self.going_on: list[dict[int, int]] = [{} for _ in STATES]  # stays and since when, but in closed
        self.proposals: dict[tuple[int, str], tuple[str, Money]] = {}  # clause or kind, and amount
        # Of each stay in a state.
        self.stay_case, self.stay_state, self.stay_trigger = array("q"), array("b"), array("b")
        self.stay_since, self.stay_until = array("q"), array("q")
        # Of each thing that happened.
        self.kinds: dict[Kind, int] = {}
        self.event_position, self.event_case, self.event_at = array("q"), array("q"), array("q")
        self.event_kind, self.event_amount = array("q"), array("q")
        # By day.
        self.moves: defaultdict[int, list[int]] = defaultdict(lambda: [0] * len(STATES))
        self.lengths: defaultdict[Way, defaultdict[int, array[int]]] = defaultdict(lambda: defaultdict(a_column))
        self.counts: defaultdict[int, Counter[Kind]] = defaultdict(Counter)
        self.sums: defaultdict[int, Counter[Kind]] = defaultdict(Counter)

    # Taking in.

    def take(self, position: int, recorded: e.Recorded) -> None:
        """Raises BrokenHistory for an event of a case that was never opened."""
        event, data, at = recorded.event, recorded.data, recorded.at
        moment, day = moment_of(at), at.astimezone(self.zone).toordinal()
        if isinstance(data, e.AttemptRefused):
            case = self.places.get(f"case:{data.case}", NONE_YET)
            kinds = [Kind(What.REFUSED, data.code)]
            kinds += [Kind(What.REASON, code) for code in dict.fromkeys(data.refusals or (data.code,))]
            for kind in kinds:
                self.happened(position, case, moment, day, kind)
            return
        if isinstance(data, e.Opened):
            case = self.open(event.chain, data, moment)
        elif (known := self.places.get(event.chain)) is not None:
            case = known
        else:
            raise BrokenHistory(event.chain, event.seq, "the chain does not begin with an opened case")
        if event.trigger is not None:
            self.leave(case, TRIGGER_INDEX[event.trigger], moment, day)
        if event.trigger is not None or isinstance(data, e.Opened):
            self.enter(case, STATE_INDEX[str(event.state_after)], moment, day)
        if (told := self.told(case, event.seq, data)) is not None:
            what, code, money = told
            kind = Kind(what, code, self.categories[case], money.currency if money else "")
            self.happened(position, case, moment, day, kind, money.amount_minor if money else 0)

    def open(self, name: str, data: e.Opened, moment: int) -> int:
        case = self.places[name] = len(self.numbers)
        self.numbers.append(data.number)
        self.opened.append(moment)
        self.categories.append(data.category)
        self.stays.append(NONE_YET)
        return case

    def leave(self, case: int, trigger: int, moment: int, day: int) -> None:
        stay = self.stays[case]
        state = self.stay_state[stay]
        self.stay_until[stay], self.stay_trigger[stay] = moment, trigger
        self.moves[day][state] -= 1
        self.going_on[state].pop(stay, None)
        self.lengths[Way(STATES[state], TRIGGERS[trigger])][day].append(moment - self.stay_since[stay])

    def enter(self, case: int, state: int, moment: int, day: int) -> None:
        stay = self.stays[case] = len(self.stay_case)
        self.stay_case.append(case)
        self.stay_state.append(state)
        self.stay_trigger.append(NONE_YET)
        self.stay_since.append(moment)
        self.stay_until.append(FAR_AWAY)
        self.moves[day][state] += 1
        if state == CLOSED:
            self.unclosed.discard(case)
        else:
            self.unclosed.add(case)
            self.going_on[state][stay] = moment

    def told(self, case: int, seq: int, data: e.EventData) -> tuple[What, str, Money | None] | None:
        """What there is to count, by clause where money went back by one."""
        match data:
            case e.Opened():
                return What.OPENED, "", None
            case e.Closed(resolution=resolution):
                return What.CLOSED, resolution, None
            case e.Recategorized(category=category):
                self.categories[case] = category
            case e.Proposed(judgement=judgement, kind=kind, remedy=remedy, amount=amount):
                code = judgement.clauses[0] if judgement else kind or remedy
                self.proposals[case, f"p{seq}"] = code, amount
            case e.Refunded(proposal=proposal, amount=amount):
                return What.REFUNDED, self.proposals[case, proposal][0], amount
            case e.PaymentReversed(proposal=proposal, amount=amount):
                return What.REVERSED, self.proposals[case, proposal][0], amount
            case e.CompensationIssued(proposal=proposal):
                return What.COMPENSATED, *self.proposals[case, proposal]
            case _:
                pass
        return None

    def happened(self, position: int, case: int, moment: int, day: int, kind: Kind, amount: int = 0) -> None:  # noqa: PLR0917 - one row
        self.event_position.append(position)
        self.event_case.append(case)
        self.event_at.append(moment)
        self.event_kind.append(self.kinds.setdefault(kind, len(self.kinds)))
        self.event_amount.append(amount)
        self.counts[day][kind] += 1
        if amount:
            self.sums[day][kind] += amount

    # Being asked: how many.

    @property
    def first_day(self) -> date | None:
        """On which something was taken in."""
        days = [min(one) for one in (self.moves, self.counts) if one]
        return date.fromordinal(min(days)) if days else None

    def stood(self, days: Sequence[date]) -> list[dict[CaseState, int]]:
        """How many cases were in each state at the end of each of these days, which are in their order."""
        counts = [0] * len(STATES)
        found = []
        changes = iter(sorted(self.moves))
        change = next(changes, None)
        for day in days:
            while change is not None and change <= day.toordinal():
                counts = [count + by for count, by in zip(counts, self.moves[change], strict=True)]
                change = next(changes, None)
            found.append(dict(zip(STATES, counts, strict=True)))
        return found

    def totals(self, days: Days) -> dict[Kind, Total]:
        """What happened in these days, and how much money was in it."""
        counts: Counter[Kind] = Counter()
        sums: Counter[Kind] = Counter()
        for day in within(self.counts, days):
            counts.update(self.counts[day])
        for day in within(self.sums, days):
            sums.update(self.sums[day])
        return {kind: Total(count, sums[kind]) for kind, count in counts.items()}

    def ended(self, days: Days) -> dict[Way, list[int]]:
        """How many microseconds the stays took that ended in these days, the shortest first."""
        found = {}
        for way, by_day in self.lengths.items():
            lengths = sorted(chain.from_iterable(by_day[day] for day in within(by_day, days)))
            if lengths:
                found[way] = lengths
        return found

    def count_longer_than(self, limits: Mapping[CaseState, timedelta], now: datetime) -> int:
        """As many as `longer_than` finds."""
        latest = {STATE_INDEX[state]: moment_of(now - limit) for state, limit in limits.items()}
        return sum(since < moment for state, moment in latest.items() for since in self.going_on[state].values())

    # Being asked: which.

    def oldest(self, count: int) -> list[Stay]:
        """Where the cases are that were opened first, of those that are not closed."""
        return [self.stay(self.stays[case]) for case in nsmallest(count, self.unclosed)]

    def longer_than(self, limits: Mapping[CaseState, timedelta], now: datetime) -> Found[Stay]:
        """The stays that go on for longer than that, the longest first; none in states without a limit."""
        found: list[int] = []
        for state, limit in limits.items():
            latest = moment_of(now - limit)
            found += [stay for stay, since in self.going_on[STATE_INDEX[state]].items() if since < latest]
        return Found(sorted(found, key=self.stay_since.__getitem__), self.stay)

    def standing(self, day: date, state: CaseState | None = None) -> Found[Stay]:
        """The stays that went on at the end of a day, the oldest case first; without a state, in any but closed."""
        wanted, end = wanted_states(state), self.end_of(day)
        rows = zip(self.stay_state, self.stay_since, self.stay_until, strict=True)
        found = [stay for stay, (one, since, until) in enumerate(rows) if since < end <= until and one in wanted]
        return Found(sorted(found, key=self.stay_case.__getitem__), self.stay)

    def stayed(self, days: Days, state: CaseState, trigger: Trigger | None = None) -> Found[Stay]:
        """The stays that ended in these days, the longest first; by whatever trigger, or by one."""
        wanted, start, end = STATE_INDEX[state], self.start_of(days.first), self.end_of(days.last)
        triggers = range(len(TRIGGERS)) if trigger is None else (TRIGGER_INDEX[trigger],)
        rows = zip(self.stay_state, self.stay_until, self.stay_trigger, strict=True)
        found = [
            stay
            for stay, (one, until, how) in enumerate(rows)
            if one == wanted and start <= until < end and how in triggers
        ]
        found.sort(key=lambda stay: self.stay_since[stay] - self.stay_until[stay])
        return Found(found, self.stay)

    def happenings(self, days: Days, is_wanted: Callable[[Kind], bool]) -> Found[Happening]:
        """What happened in these days, the latest first."""
        wanted = {index for kind, index in self.kinds.items() if is_wanted(kind)}
        start, end = self.start_of(days.first), self.end_of(days.last)
        rows = zip(self.event_kind, self.event_at, strict=True)
        found = [row for row, (kind, at) in enumerate(rows) if kind in wanted and start <= at < end]
        return Found(found[::-1], partial(self.happening, tuple(self.kinds)))

    # How it is kept.

    def stay(self, stay: int) -> Stay:
        goes_on = self.stay_until[stay] == FAR_AWAY
        case = self.stay_case[stay]
        return Stay(
            number=self.numbers[case],
            opened=at_moment(self.opened[case]),
            state=STATES[self.stay_state[stay]],
            since=at_moment(self.stay_since[stay]),
            until=None if goes_on else at_moment(self.stay_until[stay]),
            trigger=None if goes_on else TRIGGERS[self.stay_trigger[stay]],
        )

    def happening(self, kinds: Sequence[Kind], row: int) -> Happening:
        case = self.event_case[row]
        return Happening(
            position=self.event_position[row],
            number=None if case == NONE_YET else self.numbers[case],
            at=at_moment(self.event_at[row]),
            kind=kinds[self.event_kind[row]],
            amount_minor=self.event_amount[row],
        )

    def start_of(self, day: date) -> int:
        return moment_of(datetime.combine(day, time(), self.zone))

    def end_of(self, day: date) -> int:
        return self.start_of(day + timedelta(days=1))


def wanted_states(state: CaseState | None) -> frozenset[int]:
    return frozenset({STATE_INDEX[state]} if state else {*range(len(STATES))} - {CLOSED})


def percentile(lengths: Sequence[int], percent: int) -> timedelta:
    """The shortest of these lengths, sorted and at least one, that so many percent of them do not exceed."""
    return timedelta(microseconds=lengths[-(-len(lengths) * percent // 100) - 1])


def within(by_day: Mapping[int, object], days: Days) -> list[int]:
    """Those of the days that are there, in their order."""
    first, last = days.first.toordinal(), days.last.toordinal()
    return sorted(day for day in by_day if first <= day <= last)


def moment_of(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND


def at_moment(moment: int) -> datetime:
    return EPOCH + moment * MICROSECOND


def a_column() -> "array[int]":
    return array("q")
