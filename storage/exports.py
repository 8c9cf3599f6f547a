"""What is taken away in one piece: events and cases by filter, as they are at one moment, in flat memory."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Dialect, Select, Text, cast, exists, func, literal_column, make_url, or_, select

from storage.cases import CASES, EVENTS, PERSONAL, POSITIONS
from storage.database import Database
from storage.events import event_decoder
from storage.postgres_writer import LOST, UNABLE
from storage.sequencer import PASS_SIZE, Sequencer
from storage.snapshot import Snapshot, snapshot
from storage.sqlite import driver, is_statement_wrong
from storage.submissions import Row, Unavailable
from storage.tables import PurchaseRow, columns
from storage.writer import BULKY, case_decoder
from workflow.cases import Case, Purchase
from workflow.events import Event, at_text
from workflow.policy import Category
from workflow.states import CaseState

PURCHASES = columns(PurchaseRow)


class ChainKind(StrEnum):
    """What the name of a chain begins with."""

    CASE = "case"
    DESK = "desk"
    EFFECT = "effect"
    FINDING = "finding"
    PING = "ping"
    READ = "read"
    REFUSAL = "refusal"
    REPLAY = "replay"
    SAMPLE = "sample"
    SET_ASIDE = "set_aside"


class Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which cases, as they stand now; from a moment on, and until just before one. Nothing said: everything."""

    state: CaseState | None = None
    category: Category | None = None
    assignee: str | None = None  # "" asks for cases without one
    opened_from: datetime | None = None
    opened_until: datetime | None = None
    changed_from: datetime | None = None
    changed_until: datetime | None = None


class LoggedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the order of the log. `texts` by field without the erased ones; None where they are not wanted."""

    position: int
    hash: str
    body: str
    texts: dict[str, str] | None

    @property
    def event(self) -> Event:
        return event_decoder.decode(self.body)


class ExportedCase(msgspec.Struct, frozen=True, kw_only=True):
    """`client` is their address, or the case's own chain where it is erased; `texts` are the short ones, by pointer."""

    case: Case
    body: str
    next_deadline: str | None
    client: str
    texts: dict[str, str] | None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the order of its case, with what the case is now."""

    number: int
    case_id: str
    state: str
    category: str
    purchase: str | None
    client: str
    event: Event
    hash: str
    texts: dict[str, str] | None


@asynccontextmanager
async def export(
    database: Database, wanted: Wanted | None = None, *, personal: bool = False
) -> AsyncIterator["Export"]:
    """Raises Unavailable, also while it is being read."""
    sequencer = Sequencer(database)
    while await sequencer.catch_up() == PASS_SIZE:  # whatever was acknowledged by now has its position
        pass
    async with AsyncExitStack() as stack:
        with reached():
            reading = await stack.enter_async_context(snapshot(database))
        yield Export(reading, wanted or Wanted(), personal=personal)


class Export:
    def __init__(self, reading: Snapshot, wanted: Wanted, *, personal: bool) -> None:
        self.reading = reading
        self.chosen = list(conditions(wanted))
        self.personal = personal

    async def events(self, *chains: ChainKind) -> AsyncIterator[LoggedEvent]:
        """Of chains of these kinds, or of all; a filter of cases leaves only theirs."""
        query = (
            select(POSITIONS.position, EVENTS.hash, EVENTS.body, self.texts_of_event)
            .where(EVENTS.id == POSITIONS.event_id)
            .order_by(POSITIONS.position)
        )
        if chains:
            query = query.where(or_(*map(is_of_kind, chains)))
        if self.chosen:
            query = query.where(EVENTS.chain == CHAIN, *self.chosen)
        async for position, digest, body, texts in self.rows(query):
            yield LoggedEvent(position=position, hash=digest, body=body, texts=self.read(texts))

    async def cases(self) -> AsyncIterator[ExportedCase]:
        """In the order of their numbers."""
        texts = self.texts(PERSONAL.chain == CHAIN, PERSONAL.field.not_in(BULKY), key=POINTER)
        query = select(CASES.body, CASES.next_deadline, CLIENT, texts).where(*self.chosen).order_by(CASES.number)
        async for body, next_deadline, client, opened in self.rows(query):
            case = case_decoder.decode(body)
            yield ExportedCase(
                case=case, body=body, next_deadline=next_deadline, client=client, texts=self.read(opened)
            )

    async def steps(self) -> AsyncIterator[Step]:
        """The events of each case together."""
        facts = CASES.number, CASES.id, CASES.state, CASES.category, CASES.purchase
        query = (
            select(*facts, CLIENT, EVENTS.body, EVENTS.hash, self.texts_of_event)
            .where(EVENTS.chain == CHAIN, *self.chosen)
            .order_by(CASES.number, EVENTS.seq)
        )
        async for number, case_id, state, category, purchase, client, body, digest, texts in self.rows(query):
            yield Step(
                number=number,
                case_id=case_id,
                state=state,
                category=category,
                purchase=purchase,
                client=client,
                event=event_decoder.decode(body),
                hash=digest,
                texts=self.read(texts),
            )

    async def clients(self) -> AsyncIterator[str]:
        """Each once, as cases name them."""
        async for (client,) in self.rows(select(CLIENT).where(*self.chosen).distinct()):
            yield client

    async def purchases(self) -> AsyncIterator[Purchase]:
        """Each once, as it is now."""
        is_chosen = exists().where(CASES.purchase == PURCHASES.reference, *self.chosen)
        query = select(PURCHASES.body).where(is_chosen).order_by(PURCHASES.reference)
        async for (body,) in self.rows(query):
            yield msgspec.json.decode(body, type=Purchase)

    async def bodies(self, size: int) -> AsyncIterator[str]:
        """Of the first `size` events of the log, in its order."""
        query = select(EVENTS.body).where(EVENTS.id == POSITIONS.event_id, POSITIONS.position <= size)
        async for (body,) in self.rows(query.order_by(POSITIONS.position)):
            yield body

    # How they are asked for.

    async def rows(self, query: Select[Any]) -> AsyncIterator[Row]:
        compiled = query.compile(dialect=dialect_of(self.reading.dialect), compile_kwargs={"render_postcompile": True})
        values = [compiled.params[name] for name in compiled.positiontup or ()]
        pages = self.reading.pages(str(compiled), values=values)
        while True:
            with reached():
                page = await anext(pages, None)
            if page is None:
                return
            for row in page:
                yield row

    @property
    def texts_of_event(self) -> ColumnElement[str]:
        return self.texts(PERSONAL.chain == EVENTS.chain, PERSONAL.seq == EVENTS.seq, key=PERSONAL.field)

    def texts(self, *of: ColumnElement[bool], key: ColumnElement[str]) -> ColumnElement[str]:
        """A JSON object of texts; null where they are not wanted."""
        if not self.personal:
            return literal_column("NULL", Text)
        gathered = func.json_group_object if self.reading.dialect == "sqlite" else func.json_object_agg
        return select(cast(gathered(key, PERSONAL.value), Text)).where(*of).scalar_subquery()

    def read(self, texts: str | None) -> dict[str, str] | None:
        if not self.personal:
            return None
        found = msgspec.json.decode(texts or "{}", type=dict[str, str])
        return dict(sorted(found.items()))


# The names of things, as SQL says them.
CHAIN = literal_column("'case:'", Text).concat(CASES.id)
POINTER = cast(PERSONAL.seq, Text).concat(literal_column("'/'", Text)).concat(PERSONAL.field)
ADDRESS = select(PERSONAL.value).where(
    PERSONAL.chain == CHAIN, PERSONAL.seq == literal_column("1"), PERSONAL.field == literal_column("'client_email'")
)
CLIENT = func.coalesce(ADDRESS.correlate(CASES.id.table).scalar_subquery(), CHAIN)
first = EVENTS.id.table.alias("first")
opened_at = (
    select(first.c.at)
    .where(first.c.chain == CHAIN, first.c.seq == literal_column("1"))
    .correlate(CASES.id.table)
    .scalar_subquery()
)


def is_of_kind(kind: ChainKind) -> ColumnElement[bool]:
    beginning = f"{kind}:"
    return func.substr(EVENTS.chain, 1, len(beginning)) == beginning


def conditions(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    if wanted.state is not None:
        yield CASES.state == wanted.state.value
    if wanted.category is not None:
        yield CASES.category == wanted.category.value
    if wanted.assignee is not None:
        yield CASES.assignee == wanted.assignee if wanted.assignee else CASES.assignee.is_(None)
    if wanted.changed_from is not None:
        yield CASES.changed_at >= at_text(wanted.changed_from)
    if wanted.changed_until is not None:
        yield CASES.changed_at < at_text(wanted.changed_until)
    if wanted.opened_from is not None:
        yield opened_at >= at_text(wanted.opened_from)
    if wanted.opened_until is not None:
        yield opened_at < at_text(wanted.opened_until)


@cache
def dialect_of(database: str) -> Dialect:
    """That of the driver which a snapshot reads with: it says how parameters are written. Loaded once it is needed."""
    dialect: Dialect = make_url(
        {"sqlite": "sqlite://", "postgresql": "postgresql+asyncpg://"}[database]
    ).get_dialect()()
    return dialect


@contextmanager
def reached() -> Iterator[None]:
    """Raises Unavailable where the database cannot be asked; any other error is a bug, and passes."""
    try:
        yield
    except (*LOST, *UNABLE) as failure:
        raise Unavailable(str(failure)) from failure
    except driver.OperationalError as failure:
        if is_statement_wrong(failure):
            raise
        raise Unavailable(str(failure)) from failure
