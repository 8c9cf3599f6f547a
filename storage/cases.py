"""Questions about cases: one as it stands or stood, lists of them, their events and their conversation."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Select,
    SelectBase,
    Subquery,
    Text,
    and_,
    bindparam,
    column,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    table,
    text,
    tuple_,
    union_all,
)
from sqlalchemy import case as case_when
from sqlalchemy import true as always

from storage import search
from storage.batch import UNCACHED_FIELDS, Entry
from storage.database import AnyRow, Database
from storage.events import recorded
from storage.tables import (
    MAIL_AFTER_CLOSING,
    AttachmentRow,
    CaseRow,
    EventRow,
    PersonalRow,
    PositionRow,
    columns,
)
from storage.writer import case_decoder, entries_of
from workflow.cases import Case, chain_of
from workflow.errors import NotFound
from workflow.events import Recorded, at_text
from workflow.policy import Category
from workflow.replaying import replay
from workflow.states import CaseState

CASES, EVENTS, PERSONAL, POSITIONS, ATTACHMENTS = (
    columns(model) for model in (CaseRow, EventRow, PersonalRow, PositionRow, AttachmentRow)
)
case_search = table("case_search", column("number"), column("words"), column("rowid"))

# Asked for every page of a case and every letter about one.
TEXTS = select(PERSONAL.seq, PERSONAL.field, PERSONAL.value).where(PERSONAL.chain == bindparam("chain"))
ROW = select(CASES.body).where(CASES.id == bindparam("case")).scalar_subquery()
ROW_AND_LOG = (
    select(EVENTS.body, EVENTS.hash, case_when((EVENTS.seq == 1, ROW)))
    .where(EVENTS.chain == bindparam("chain"))
    .order_by(EVENTS.seq)
)

MAX_NUMBER_DIGITS = 16  # longer ones fit no column


async def version_of(database: Database, case_id: str) -> int | None:
    row = await database.first(select(CASES.version).where(CASES.id == case_id))
    return row[0] if row else None


async def number_of(database: Database, case_id: str) -> int:
    """Raises NotFound."""
    row = await database.first(select(CASES.number).where(CASES.id == case_id))
    if row is None:
        raise NotFound("case")
    return int(row[0])


async def numbers_of(database: Database, ids: Iterable[str]) -> dict[str, int]:
    """By id, of those that there are."""
    query = select(CASES.id, CASES.number).where(CASES.id.in_(sorted({*ids})))
    return {row[0]: row[1] for row in await database.rows(query)}


async def find(database: Database, name: str) -> str | None:
    """The id of a case by its id or by its number, as people say it (C-1042)."""
    number = name.upper().removeprefix("C-")
    by_number = (
        CASES.number == int(number)
        if number.isascii() and number.isdigit() and len(number) < MAX_NUMBER_DIGITS
        else None
    )
    where = CASES.id == name if by_number is None else or_(CASES.id == name, by_number)
    row = await database.first(select(CASES.id).where(where))
    return row[0] if row else None


# In one question, since asking is what takes time: first the case, with no field's name, then its texts.
CASE_AND_TEXTS = union_all(
    select(CASES.body, literal_column("0").label("seq"), literal_column("''").label("field")).where(
        CASES.id == bindparam("case_id")
    ),
    select(PERSONAL.value, PERSONAL.seq, PERSONAL.field).where(
        PERSONAL.chain == bindparam("chain"), PERSONAL.field.not_in(sorted(UNCACHED_FIELDS))
    ),
)


async def one(database: Database, case_id: str) -> Entry | None:
    """The case as it is stored, with its short texts."""
    rows = await database.rows(CASE_AND_TEXTS, {"case_id": case_id, "chain": chain_of(case_id)})
    texts = {f"{seq}/{field}": value for value, seq, field in rows}
    body = texts.pop("0/", None)
    if body is None:
        return None
    case = case_decoder.decode(body)
    return Entry(case=case, texts=texts, stored_version=case.version)


async def numbered(database: Database, numbers: Sequence[int]) -> list[Entry]:
    """The cases with these numbers, as they stand, in no order; numbers of none are left out."""
    wanted = CASES.number.in_(bindparam("numbers", expanding=True))
    rows = await database.rows(select(CASES.body).where(wanted), {"numbers": list(numbers)})
    chains = [chain_of(case_decoder.decode(body).id) for (body,) in rows]
    return [*entries_of([(body,) for (body,) in rows], await short_texts(database, chains) if chains else [])]


async def short_texts(database: Database, chains: Sequence[str]) -> list[tuple[Any, ...]]:
    query = select(PERSONAL.chain, PERSONAL.seq, PERSONAL.field, PERSONAL.value).where(
        PERSONAL.chain.in_(bindparam("chains", expanding=True)), PERSONAL.field.not_in(sorted(UNCACHED_FIELDS))
    )
    return [tuple(row) for row in await database.rows(query, {"chains": list(chains)})]


# History.


async def events(
    database: Database, case_id: str, *, after: int = 0, until: int | None = None, limit: int | None = None
) -> list[tuple[Recorded, str]]:
    """The case's events with seq in (after, until], oldest first, each with its body as stored."""
    return await events_of(database, chain_of(case_id), after=after, until=until, limit=limit)


async def events_of(
    database: Database, chain: str, *, after: int = 0, until: int | None = None, limit: int | None = None
) -> list[tuple[Recorded, str]]:
    """As `events`, of any chain."""
    query = select(EVENTS.body, EVENTS.hash).where(EVENTS.chain == chain, EVENTS.seq > after)
    if until is not None:
        query = query.where(EVENTS.seq <= until)
    rows = await database.rows(query.order_by(EVENTS.seq).limit(limit))
    return [(recorded(body, digest), body) for body, digest in rows]


async def types_since(database: Database, case_id: str, version: int) -> list[str]:
    query = select(EVENTS.type).where(EVENTS.chain == chain_of(case_id), EVENTS.seq > version)
    return [kind for (kind,) in await database.rows(query.order_by(EVENTS.seq))]


async def texts_of(database: Database, case_id: str) -> dict[str, str]:
    """All texts of a case by pointer; what was erased is not among them."""
    rows = await database.rows(TEXTS, {"chain": chain_of(case_id)})
    return {f"{seq}/{field}": value for seq, field, value in rows}


async def at_version(database: Database, case_id: str, version: int) -> tuple[Entry, tuple[Recorded, ...]]:
    """The case as it stood at a version, from its log alone. Raises NotFound."""
    history = tuple(event for event, _ in await events(database, case_id, until=version))
    return await stood(database, history), history


async def at_moment(database: Database, case_id: str, moment: datetime) -> tuple[Entry, tuple[Recorded, ...]]:
    """The case as it stood at an instant, that instant included. Raises NotFound if it was not open yet."""
    history = tuple(event for event, _ in await events(database, case_id) if event.event.at <= at_text(moment))
    return await stood(database, history), history


async def stood(database: Database, history: tuple[Recorded, ...]) -> Entry:
    case = replay(history)
    if case is None:
        raise NotFound("case")
    texts = await short_texts(database, [case.chain])
    known = {f"{seq}/{field}": value for _, seq, field, value in texts if seq <= case.version}
    return Entry(case=case, texts=known, stored_version=case.version)


async def with_history(database: Database, case_id: str) -> tuple[Case, tuple[Recorded, ...]]:
    """The stored row and its whole log, both as they were at one moment. Raises NotFound."""
    rows = await database.rows(ROW_AND_LOG, {"case": case_id, "chain": chain_of(case_id)})
    if not rows or rows[0][2] is None:
        raise NotFound("case")
    return case_decoder.decode(rows[0][2]), tuple(recorded(body, digest) for body, digest, _ in rows)


async def stored(database: Database, case_id: str) -> tuple[Case, str] | None:
    """The stored row: the case, and its body's very text."""
    row = await database.first(select(CASES.body).where(CASES.id == case_id))
    return (case_decoder.decode(row[0]), row[0]) if row else None


async def attachment(database: Database, case_id: str, attachment_id: str) -> bytes | None:
    query = select(ATTACHMENTS.content).where(ATTACHMENTS.id == attachment_id, ATTACHMENTS.case_id == case_id)
    row = await database.first(query)
    return row[0] if row else None


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """Another case, as much as a link to it says. `title` is None where it was erased."""

    id: str
    number: int
    state: CaseState
    title: str | None
    purchase: str | None


MOST_NEIGHBOURS = 50


async def neighbours(database: Database, case: Case) -> list[Neighbour]:
    """The cases that this one names, and those about the same purchase; oldest first."""
    named = {one.case for one in case.links} | ({case.follows, case.unverified_of} - {None})
    found: list[ColumnElement[bool]] = [CASES.id.in_(sorted(map(str, named)))] if named else []
    if case.purchase is not None:
        found.append(CASES.purchase == case.purchase.reference)
    if not found:
        return []
    query = select(CASES.body, CASES.purchase).where(or_(*found), CASES.id != case.id).order_by(CASES.number)
    rows = await database.rows(query.limit(MOST_NEIGHBOURS))
    cases = [case_decoder.decode(body) for body, _ in rows]
    titles = await titles_of(database, cases) if cases else {}
    return [
        Neighbour(
            id=one.id, number=one.number, state=one.state, title=titles.get(f"{one.chain}/{one.title}"), purchase=row[1]
        )
        for one, row in zip(cases, rows, strict=True)
    ]


async def titles_of(database: Database, cases: Iterable[Case]) -> dict[str, str]:
    """By chain and pointer."""
    query = select(PERSONAL.chain, PERSONAL.seq, PERSONAL.field, PERSONAL.value).where(
        PERSONAL.chain.in_([one.chain for one in cases]), PERSONAL.seq == 1, PERSONAL.field.in_(("title", "subject"))
    )
    return {f"{chain}/{seq}/{field}": value for chain, seq, field, value in await database.rows(query)}


# Lists.


class Sort(StrEnum):
    """`-` first means the largest first. Every order ends with the number, so that no two cases are equal."""

    NEWEST = "-number"
    OLDEST = "number"
    DEADLINE = "deadline"
    CHANGED = "-changed_at"


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    state: CaseState | None = None
    assignee: str | None = None  # "" asks for cases without one
    category: Category | None = None
    overdue: bool | None = None
    due_from: datetime | None = None
    due_until: datetime | None = None  # that moment not included
    has_deadline: bool | None = None
    waiting: bool | None = None
    ended: bool | None = None  # closed
    mail_after_closing: bool = False  # closed, and something came in since that nobody has answered
    q: str | None = None
    # Whether the words of `q` also match as beginnings, which costs as much as they are common.
    beginnings: bool = False

    @property
    def is_due(self) -> bool | None:
        """Whether all that is wanted has a deadline; False where none of it has, as nothing that is closed."""
        if self.overdue or self.has_deadline or self.due_from is not None or self.due_until is not None:
            return True
        is_closed = self.mail_after_closing or self.ended or self.state is CaseState.CLOSED
        return False if is_closed or self.has_deadline is False else None

    @property
    def is_open(self) -> bool:
        """Whether all that is wanted is open."""
        return bool(self.ended is False or self.is_due or self.waiting or self.state not in {None, CaseState.CLOSED})


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    entry: Entry
    next_deadline: str | None
    place: tuple[Any, ...]  # what the next page begins after


LAST = "9999"  # after every deadline: cases without one come last


async def listing(
    database: Database, wanted: Filter, sort: Sort, *, now: datetime, after: Sequence[Any] | None, limit: int
) -> list[Listed]:
    """A page of cases: those after `after`, at most `limit`."""
    return await listed(database, await rows_of(database, wanted, sort, now=now, after=after, limit=limit))


async def rows_of(
    database: Database, wanted: Filter, sort: Sort, *, now: datetime, after: Sequence[Any] | None, limit: int
) -> list[AnyRow]:
    """Bodies, deadlines, places."""
    rows: list[AnyRow] = []
    q = (wanted.q or "").strip()
    sought = search_for(q, database.dialect, beginnings=wanted.beginnings) if q else None
    for stretch in ORDERS[sort]:
        if len(rows) < limit and stretch.can_hold(wanted):
            rows += await found_in(database, Look(stretch, wanted, sought, now, after), limit - len(rows))
    return rows


async def listed(database: Database, rows: Sequence[AnyRow]) -> list[Listed]:
    chains = [chain_of(case_decoder.decode(row[0]).id) for row in rows]
    texts = await short_texts(database, chains) if chains else []
    entries = entries_of([(row[0],) for row in rows], texts)
    return [
        Listed(entry=entry, next_deadline=row[1], place=tuple(row[2:]))
        for entry, row in zip(entries, rows, strict=True)
    ]


async def count(database: Database, wanted: Filter, now: datetime, most: int) -> tuple[int, bool]:
    """How many cases there are, whatever is searched for, and whether these are all: nobody counts for long.

    What one index has is counted up to `most`; of what none has together, the first cases are looked through.
    """
    known = conditions(wanted, now)
    filed = [name for name in (*WORKED, "category") if name in known][:1]
    at_hand = known.keys() & {*filed, *COUNTED_WITH}
    rows = select(*ASKED).where(*(known[name] for name in at_hand))
    if at_hand == known.keys():
        row = await database.first(select(func.count()).select_from(rows.limit(most + 1).subquery()))
        found = row[0] if row else 0
        return min(found, most), found <= most
    first = rows.limit(LOOKED_THROUGH[0]).subquery()
    rest = [one for name, one in conditions(wanted, now, first).items() if name not in at_hand]
    row = await database.first(select(func.count(), func.count(case_when((and_(*rest), 1)))).select_from(first))
    return (row[1], row[0] < LOOKED_THROUGH[0]) if row else (0, True)


async def counts(database: Database, lists: Sequence[Filter], now: datetime, most: int) -> list[int]:
    """How many cases each list has, in one question, up to one more than `most`. For lists that an index has."""
    of_each = (select(CASES.number).where(*conditions(one, now).values()).limit(most + 1).subquery() for one in lists)
    row = await database.first(select(*(select(func.count()).select_from(one).scalar_subquery() for one in of_each)))
    return [*row] if row else []


# What an index of open cases, or of deadlines, has besides.
COUNTED_WITH = ("open", "ended", "mail", "due", "not_due", "late", "due_from", "due_until")


# As the partial indexes say it: only then are they used.
IS_OPEN: ColumnElement[bool] = CASES.state != literal_column("'closed'")
IS_DUE: ColumnElement[bool] = CASES.next_deadline > literal_column("''")  # not null, as SQLite's planner best likes it
HAS_MAIL: ColumnElement[bool] = text(MAIL_AFTER_CLOSING)  # type: ignore[assignment]


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Cases that stand together in an index: in the order of the keys, of which a constant orders nothing.

    `filed` are the conditions that an index has before the keys, one of them at a time, the most telling first;
    `carried` are those that it has besides.
    """

    keys: tuple[ColumnElement[Any], ...]
    filed: tuple[str, ...] = ()
    carried: frozenset[str] = frozenset()
    only: ColumnElement[bool] = always()
    is_due: bool | None = None
    descending: bool = False

    def can_hold(self, wanted: Filter) -> bool:
        return None in {self.is_due, wanted.is_due} or self.is_due == wanted.is_due

    @property
    def names(self) -> list[str]:
        return [f"k{index}" for index in range(len(self.keys))]

    @property
    def places(self) -> list[ColumnElement[Any]]:
        return [key.label(name) for name, key in zip(self.names, self.keys, strict=True)]

    def in_order(self, rows: FromClause | None = None) -> list[ColumnElement[Any]]:
        """By the keys, or by what is called so in `rows`."""
        keys = [one for one in self.keys if isinstance(one, Column)] if rows is None else [*self.of(rows)]
        return [one.desc() if self.descending else one.asc() for one in keys]

    def of(self, rows: FromClause) -> Iterator[ColumnElement[Any]]:
        return (rows.c[name] for name in self.names)

    def beyond(self, after: Sequence[Any]) -> ColumnElement[bool]:
        """The rows that come after a place."""
        keys = [*zip(self.keys, after, strict=True)]
        if isinstance(self.keys[0], Column):
            here = tuple_(*self.keys)
            place = tuple_(*(literal(one, key.type) for key, one in keys))
            return here < place if self.descending else here > place
        (_, first), (number, last) = keys
        return number > last if first == LAST else always()


# An index that had cases without a deadline last would have no other use than their order.
NUMBERED = ("assignee", "state", "category")
WORKED = ("assignee", "state", "waiting")
ORDERS: dict[Sort, tuple[Stretch, ...]] = {
    Sort.NEWEST: (Stretch(keys=(CASES.number,), filed=NUMBERED, descending=True),),
    Sort.OLDEST: (Stretch(keys=(CASES.number,), filed=NUMBERED),),
    Sort.CHANGED: (Stretch(keys=(CASES.changed_at, CASES.number), descending=True),),
    Sort.DEADLINE: (
        Stretch(
            keys=(CASES.next_deadline, CASES.number),
            filed=WORKED,
            carried=frozenset({"open", "due", "late", "due_from", "due_until"}),
            only=and_(IS_OPEN, IS_DUE),
            is_due=True,
        ),
        Stretch(
            keys=(literal_column(f"'{LAST}'", Text), CASES.number),
            filed=WORKED,
            carried=frozenset({"open", "not_due"}),
            only=CASES.next_deadline.is_(None),
            is_due=False,
        ),
    ),
}
# What else can be asked of a case.
ASKED = (CASES.state, CASES.assignee, CASES.category, CASES.waiting, CASES.next_deadline)


def conditions(wanted: Filter, now: datetime, rows: FromClause | None = None) -> dict[str, ColumnElement[bool]]:
    """All but what is searched for, by name; of cases, or of what has been selected from them."""
    of: Any = CASES if rows is None else rows.c
    found: dict[str, ColumnElement[bool]] = {}
    if wanted.mail_after_closing and rows is None:  # no index has more of them, so that all are looked through first
        found["mail"] = HAS_MAIL
    if wanted.assignee is not None:
        found["assignee"] = of.assignee == wanted.assignee if wanted.assignee else of.assignee.is_(None)
    if wanted.state is not None:
        found["state"] = of.state == wanted.state.value
    if wanted.category is not None:
        found["category"] = of.category == wanted.category.value
    if wanted.waiting is not None:
        found["waiting"] = of.waiting == wanted.waiting
    # What is due is open: to say so as well helps only where an index of open cases has something else to go by.
    if wanted.is_open and not (wanted.is_due and found.keys().isdisjoint(WORKED)):
        found["open"] = of.state != literal_column("'closed'")
    if wanted.ended:
        found["ended"] = of.state == CaseState.CLOSED.value
    return found | by_deadline(wanted, now, of.next_deadline)


def by_deadline(wanted: Filter, now: datetime, due: ColumnElement[Any]) -> dict[str, ColumnElement[bool]]:
    found: dict[str, ColumnElement[bool]] = {}
    if wanted.is_due:
        found["due"] = due > literal_column("''")
    if wanted.has_deadline is False:
        found["not_due"] = due.is_(None)
    if wanted.overdue is not None:
        late = due < at_text(now)
        found["late"] = late if wanted.overdue else or_(due.is_(None), ~late)
    if wanted.due_from is not None:
        found["due_from"] = due >= at_text(wanted.due_from)
    if wanted.due_until is not None:
        found["due_until"] = due < at_text(wanted.due_until)
    return found


# How many cases are looked through for those that are wanted, before all of them are.
LOOKED_THROUGH = (1_000, 10_000)


async def found_in(database: Database, look: "Look", limit: int) -> Sequence[AnyRow]:
    """The first rows of a stretch: bodies, deadlines, places.

    No index has everything that can be asked for together, and nobody can foresee how many cases are like that. So the
    first ones of those that an index does have are looked through, where what is common is found, and only then are
    all of them, for what is rare. Words are looked for in the same way: their index tells all hits at once and in no
    order.
    """
    if look.is_indexed:
        return await database.rows(look.page(look.walk(look.known, limit)))
    few = look.work(LOOKED_THROUGH[0])
    if few is not None and await is_all(database, few, LOOKED_THROUGH[0]):
        return await database.rows(look.page(look.seen(few, limit)))
    for most in LOOKED_THROUGH[: look.patience]:
        first = look.walk(look.at_hand, most)
        rows = await database.rows(look.page(look.seen(first, limit)))
        if len(rows) == limit or await is_all(database, first, most):
            return rows
    return await database.rows(look.page(look.among_all(limit)))


async def is_all(database: Database, rows: Subquery, most: int) -> bool:
    row = await database.first(select(func.count()).select_from(rows))
    return row is not None and row[0] < most


class Look:
    """What is wanted, looked for in one stretch. What its methods answer with has the names of the stretch's keys."""

    def __init__(
        self, stretch: Stretch, wanted: Filter, sought: "Search | None", now: datetime, after: Sequence[Any] | None
    ) -> None:
        self.stretch = stretch
        self.wanted = wanted
        self.sought = sought
        self.now = now
        self.after = after
        self.known = conditions(wanted, now)
        self.at_hand = self.carried()

    def carried(self) -> Collection[str]:
        """The conditions that an index has before the keys of the stretch."""
        if "mail" in self.known:
            return {"mail"}
        filed = [name for name in self.stretch.filed if name in self.known]
        return self.known.keys() & {*filed[:1], *self.stretch.carried}

    @property
    def is_indexed(self) -> bool:
        return self.sought is None and self.at_hand == self.known.keys()

    @property
    def patience(self) -> int:
        """In how many of LOOKED_THROUGH to look."""
        return len(LOOKED_THROUGH) if self.sought is None else int(self.sought.words is not None)

    def all(self, names: Collection[str]) -> Select[Any]:
        """Those for which these conditions hold, in no order."""
        held = [one for name, one in self.known.items() if name in names]
        only = [] if "mail" in names else [self.stretch.only]  # an index of its own, and of few
        query: Select[Any] = select(*self.stretch.places, *ASKED).where(*only, *held)
        return query if self.after is None else query.where(self.stretch.beyond(self.after))

    def walk(self, names: Collection[str], most: int) -> Subquery:
        return self.all(names).order_by(*self.stretch.in_order()).limit(most).subquery()

    def work(self, most: int) -> Subquery | None:
        """Up to so many open cases of whom or what is wanted, in no order, where there is an index of those."""
        filed = [name for name in WORKED if name in self.known][:1]
        if not self.wanted.is_open or self.sought is not None or not filed:
            return None
        return self.all({"open", *filed}).limit(most).subquery()

    def seen(self, rows: Subquery, limit: int) -> Subquery:
        """Those of some cases that are wanted."""
        held = [*conditions(self.wanted, self.now, rows).values()]
        if self.sought is not None:
            held.append(self.sought.among([*self.stretch.of(rows)][-1]))
        query = select(*self.stretch.of(rows)).where(*held)
        return query.order_by(*self.stretch.in_order(rows)).limit(limit).subquery()

    def among_all(self, limit: int) -> Subquery:
        hits = self.all(self.known)
        if self.sought is not None:
            numbers = self.sought.hits.cte("numbers").prefix_with("MATERIALIZED", dialect="postgresql")
            hits = hits.where(CASES.number.in_(select(*numbers.c))).offset(0)
        rows = hits.subquery()
        return select(*self.stretch.of(rows)).order_by(*self.stretch.in_order(rows)).limit(limit).subquery()

    def page(self, rows: Subquery) -> Select[Any]:
        """Bodies, deadlines, places."""
        number = [*self.stretch.of(rows)][-1]
        whole = select(CASES.body, CASES.next_deadline, *self.stretch.of(rows)).select_from(rows)
        return whole.join(CASES.number.table, CASES.number == number).order_by(*self.stretch.in_order(rows))


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """The cases whose subject or messages hold all words of a query; its number finds a case as well."""

    dialect: str
    words: str | None
    number: int | None

    @property
    def by_words(self) -> Select[Any]:
        """The numbers of the cases whose words are these."""
        named, matches = INDEX[self.dialect]
        return select(named).where(text(matches).bindparams(words=self.words))

    @property
    def hits(self) -> SelectBase:
        """The numbers of all cases that are found."""
        found = [select(literal(self.number))] if self.number is not None else []
        if self.words is not None:
            found.append(self.by_words)
        return union_all(*found) if found else select(literal(0)).where(~always())

    def among(self, numbers: ColumnElement[Any]) -> ColumnElement[bool]:
        """Which of some cases are found, without asking for all others: each by itself, or from the first to the last.

        PostgreSQL reads a row quickly and its index as a whole; of FTS5's index a stretch costs less than a single row.
        """
        named, _ = INDEX[self.dialect]
        holds: ColumnElement[bool]
        if self.dialect == "postgresql":
            holds = exists(self.by_words.where(named == numbers).offset(0))
        else:
            first, last = (select(end(numbers)).scalar_subquery() for end in (func.min, func.max))
            holds = numbers.in_(self.by_words.where(named.between(first, last)))
        return or_(numbers == self.number, holds) if self.number is not None else holds


# The column of a case's number in the full-text index, and what a row of it is asked.
INDEX: dict[str, tuple[ColumnElement[Any], str]] = {
    "sqlite": (case_search.c.rowid, "case_search MATCH :words"),
    "postgresql": (case_search.c.number, "words @@ CAST(:words AS tsquery)"),
}


def search_for(q: str, dialect: str, *, beginnings: bool) -> Search:
    number = q.strip().upper().removeprefix("C-")
    is_number = number.isdecimal() and number.isascii() and len(number) < MAX_NUMBER_DIGITS
    expression = search.fts5_query if dialect == "sqlite" else search.tsquery
    return Search(
        dialect=dialect, words=expression(q, beginnings=beginnings), number=int(number) if is_number else None
    )


# The feed.


async def feed(database: Database, after: int, limit: int) -> list[tuple[int, Recorded, str]]:
    """Events of all chains by their dense position, each with its body as stored."""
    query = (
        select(POSITIONS.position, EVENTS.body, EVENTS.hash)
        .where(EVENTS.id == POSITIONS.event_id)
        .where(POSITIONS.position > after)
        .order_by(POSITIONS.position)
        .limit(limit)
    )
    return [(position, recorded(body, digest), body) for position, body, digest in await database.rows(query)]


async def position_of(database: Database, chain: str, seq: int) -> int | None:
    """None while it has none, or where there is no such event."""
    query = select(POSITIONS.position).where(EVENTS.id == POSITIONS.event_id, EVENTS.chain == chain, EVENTS.seq == seq)
    row = await database.first(query)
    return row[0] if row else None


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """Of which type, by whom and in which chain; `actor` is such as `person:3f…`, or `system:` for all of these."""

    kind: str | None = None
    actor: str | None = None
    chain: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[Any] = []
        if self.kind is not None:
            found.append(EVENTS.type == self.kind)
        if self.actor is not None:  # canonical: written in one way, and nothing that is quoted could be taken for it
            named = f'"actor":"{self.actor}' + ("" if self.actor.endswith(":") else '"')
            found.append(EVENTS.body.contains(named, autoescape=True))
        if self.chain is not None:
            found.append(EVENTS.chain == self.chain)
        return found


LOOKED_BACK = 50_000


async def latest(
    database: Database, sought: Sought, before: int | None, limit: int
) -> tuple[list[tuple[int, Recorded]], int | None]:
    """Events of all chains, newest first, with their positions; and the position that further ones come before.

    Where few are sought, no more than the latest `LOOKED_BACK` are looked through at once.
    """
    if before is None:
        row = await database.first(select(func.max(POSITIONS.position)))
        before = ((row and row[0]) or 0) + 1
    start = 0 if sought.chain is not None else max(0, before - 1 - LOOKED_BACK)
    query = (
        select(POSITIONS.position, EVENTS.body, EVENTS.hash)
        .where(EVENTS.id == POSITIONS.event_id, POSITIONS.position < before, POSITIONS.position > start)
        .where(*sought.conditions())
        .order_by(POSITIONS.position.desc())
        .limit(limit + 1)
    )
    rows = await database.rows(query)
    found = [(position, recorded(body, digest)) for position, body, digest in rows[:limit]]
    if len(rows) > limit:
        return found, found[-1][0]
    return found, start + 1 if start else None


async def of_type(
    database: Database, kind: str, before: int | None, limit: int
) -> list[tuple[int, Recorded, dict[str, str]]]:
    """One-event chains of a type, newest first, with their texts: refused attempts, mail that was set aside."""
    query = select(EVENTS.id, EVENTS.body, EVENTS.hash).where(EVENTS.type == kind)
    if before is not None:
        query = query.where(EVENTS.id < before)
    rows = await database.rows(query.order_by(EVENTS.id.desc()).limit(limit))
    found = [(event_id, recorded(body, digest)) for event_id, body, digest in rows]
    chains = [one.event.chain for _, one in found]
    texts: dict[str, dict[str, str]] = {}
    if chains:
        personal = select(PERSONAL.chain, PERSONAL.field, PERSONAL.value).where(PERSONAL.chain.in_(chains))
        for chain, field, value in await database.rows(personal):
            texts.setdefault(chain, {})[field] = value
    return [(event_id, one, texts.get(one.event.chain, {})) for event_id, one in found]
