"""How exports are written: JSON Lines, CSV, XES and OCEL, piece by piece as they are read. See docs/exports.md."""

import csv
import hmac
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlencode
from xml.sax.saxutils import quoteattr

import msgspec

from api.views import ERASED
from storage.database import Database
from storage.exports import ChainKind, Export, ExportedCase, LoggedEvent, Step, Wanted, export
from storage.sequencer import Sequencer
from storage.whole_log import log_lines
from workflow.cases import Pointer, Purchase, case_number_text
from workflow.errors import bad_field
from workflow.events import Event, at_text
from workflow.replaying import CHANGES

T = TypeVar("T")

BLOCK_CHARACTERS = 1 << 16
PROGRESS_STEP = 1000


class What(StrEnum):
    EVENTS = "events"
    CASES = "cases"
    LOG = "log"


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    XES = "xes"
    OCEL = "ocel"


MEDIA_TYPES = {
    Format.JSONL: "application/jsonl",
    Format.CSV: "text/csv; charset=utf-8",
    Format.XES: "application/xml",
    Format.OCEL: "application/json",
}
MINED = frozenset({Format.XES, Format.OCEL})
"""What tools for process mining read: events, each of one case."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written. `chains` are kinds of chains of events, none meaning all."""

    what: What = What.EVENTS
    format: Format = Format.JSONL
    personal: bool = False
    chains: tuple[ChainKind, ...] = ()
    wanted: Wanted = Wanted()

    def check(self) -> None:
        """Raises BadInput."""
        if self.format in MINED and self.what is not What.EVENTS:
            raise bad_field("format", f"{self.format} is of events")
        if self.format in MINED and {*self.chains} - {ChainKind.CASE}:
            raise bad_field("chains", f"{self.format} is of the chains of cases alone")

    @property
    def only(self) -> str:
        """The filter as a query string."""
        said: dict[str, str] = msgspec.to_builtins(self.wanted)
        if self.chains:
            said["chains"] = ",".join(self.chains)
        return urlencode(said)

    @property
    def file_name(self) -> str:
        ending = {Format.OCEL: "ocel.json"}.get(self.format, self.format)
        return f"casework-{self.what}.{ending}"


async def written(
    database: Database, order: Order, key: bytes, progress: Callable[[int], None] = lambda _: None
) -> AsyncGenerator[bytes]:
    """The file, block by block, from one moment of the database. `key` makes the pseudonyms of clients.

    `progress` is told how many events or cases are written. Raises Unavailable.
    """
    async with export(database, order.wanted, personal=order.personal) as found:
        async for block in in_blocks(pieces(found, order, key, progress)):
            yield block


async def whole_log(sequencer: Sequencer, progress: Callable[[int], None] = lambda _: None) -> AsyncGenerator[bytes]:
    """The log under a checkpoint, for `casework-verify`. Raises CannotSign, BrokenTree or Unavailable."""
    async with aclosing(log_lines(sequencer)) as lines:
        async for block in in_blocks(counted(lines, progress)):
            yield block


async def in_blocks(pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    block: list[str] = []
    size = 0
    async for piece in pieces:
        block.append(piece)
        size += len(piece)
        if size >= BLOCK_CHARACTERS:
            yield "".join(block).encode()
            block, size = [], 0
    yield "".join(block).encode()


def pieces(found: Export, order: Order, key: bytes, progress: Callable[[int], None]) -> AsyncIterator[str]:
    match order.what, order.format:
        case What.CASES, Format.CSV:
            return case_table(counted(found.cases(), progress), personal=order.personal)
        case What.CASES, _:
            return case_lines(counted(found.cases(), progress))
        case _, Format.CSV:
            return event_table(counted(found.events(*order.chains), progress), personal=order.personal)
        case _, Format.XES:
            return xes(counted(found.steps(), progress))
        case _, Format.OCEL:
            return ocel(found, counted(found.steps(), progress), key)
        case _:
            return event_lines(counted(found.events(*order.chains), progress))


async def counted(things: AsyncIterator[T], progress: Callable[[int], None]) -> AsyncIterator[T]:
    count = 0
    async for thing in things:
        yield thing
        count += 1
        if count % PROGRESS_STEP == 0:
            progress(count)


def json_text(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


# JSON Lines: bodies as they are stored, so that an event's line holds the very bytes of its hash.


async def event_lines(events: AsyncIterator[LoggedEvent]) -> AsyncIterator[str]:
    async for one in events:
        texts = "" if one.texts is None else f',"texts":{json_text(one.texts)}'
        yield f'{{"position":{one.position},"hash":"{one.hash}","event":{one.body}{texts}}}\n'


async def case_lines(cases: AsyncIterator[ExportedCase]) -> AsyncIterator[str]:
    async for one in cases:
        texts = "" if one.texts is None else f',"texts":{json_text(one.texts)}'
        yield f'{{"case":{one.body}{texts}}}\n'


# CSV (RFC 4180). Every text is quoted: a spreadsheet may take another character than the comma for the separator.

Cell = str | int | None

# What a spreadsheet takes for the beginning of a formula, also after blanks and what it may drop since nobody sees it,
# and in the widths of East Asia.
UNSEEN = r"[\s\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
FORMULA = re.compile(rf"{UNSEEN}*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def harmless(cell: Cell) -> Cell:
    """With an apostrophe before what a spreadsheet would calculate."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


class Echo:
    """A file for `csv` that hands back what is written to it."""

    def write(self, text: str) -> str:
        return text


async def table(columns: tuple[str, ...], rows: AsyncIterator[list[Cell]]) -> AsyncIterator[str]:
    write = csv.writer(Echo(), quoting=csv.QUOTE_NONNUMERIC).writerow
    yield str(write(columns))
    async for row in rows:
        yield str(write(map(harmless, row)))


EVENT_FIELDS = (
    *("chain", "seq", "type", "at", "actor", "via", "trigger", "state_before", "state_after"),
    *("policy", "lifecycle", "request", "prev"),
)


def event_table(events: AsyncIterator[LoggedEvent], *, personal: bool) -> AsyncIterator[str]:
    async def rows() -> AsyncIterator[list[Cell]]:
        async for one in events:
            event = one.event
            fields = [getattr(event, name) for name in EVENT_FIELDS]
            texts = [json_text(one.texts)] if personal else []
            yield [one.position, *fields, one.hash, json_text(event.data), json_text(event.personal), *texts]

    return table(("position", *EVENT_FIELDS, "hash", "data", "commitments", *(["texts"] if personal else [])), rows())


CASE_COLUMNS = (
    *("number", "id", "state", "resolution", "category", "assignee", "received_at", "opened_at", "changed_at"),
    *("waiting_since", "next_deadline", "version", "head"),
    *("purchase", "currency", "paid", "refunded", "reserved"),
)
CASE_TEXTS = ("subject", "client_name", "client_email")


def case_table(cases: AsyncIterator[ExportedCase], *, personal: bool) -> AsyncIterator[str]:
    async def rows() -> AsyncIterator[list[Cell]]:
        async for one in cases:
            yield [*case_cells(one), *(case_texts(one) if personal else [])]

    return table((*CASE_COLUMNS, *(CASE_TEXTS if personal else ())), rows())


def case_cells(one: ExportedCase) -> Iterator[Cell]:
    case = one.case
    yield from (case_number_text(case.number), case.id, case.state, case.resolution, case.category, case.assignee)
    for moment in (case.received_at, case.opened_at, case.changed_at, case.waiting_since):
        yield at_text(moment) if moment else None
    yield from (one.next_deadline, case.version, case.head)
    if (purchase := case.purchase) is None:
        yield from [None] * 5
        return
    yield from (purchase.reference, purchase.paid.currency, purchase.paid.decimal_text())
    for minor in (purchase.refunded_minor, purchase.reserved_minor):
        yield msgspec.structs.replace(purchase.paid, amount_minor=minor).decimal_text()


def case_texts(one: ExportedCase) -> Iterator[Cell]:
    def text(at: Pointer) -> str:
        return (one.texts or {}).get(at, ERASED)

    yield from (text(one.case.subject), text(one.case.client_name), text(one.case.client_email))


# XES (IEEE 1849-2023): a trace for each case.

XES_BEGINNING = """\
<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1849.2023" xes.features="" xmlns="http://www.xes-standard.org/">
<extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
<extension name="Time" prefix="time" uri="http://www.xes-standard.org/time.xesext"/>
<extension name="Organizational" prefix="org" uri="http://www.xes-standard.org/org.xesext"/>
<extension name="Lifecycle" prefix="lifecycle" uri="http://www.xes-standard.org/lifecycle.xesext"/>
<global scope="trace"><string key="concept:name" value=""/></global>
<global scope="event">
<string key="concept:name" value=""/><date key="time:timestamp" value="1970-01-01T00:00:00.000000Z"/>
<string key="org:resource" value=""/><string key="lifecycle:transition" value="complete"/>
</global>
<classifier name="Activity" keys="concept:name"/>
"""
REPLACED = "\N{REPLACEMENT CHARACTER}"
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 §2.2 has no way to write them


async def xes(steps: AsyncIterator[Step]) -> AsyncIterator[str]:
    yield XES_BEGINNING
    last = None
    async for step in steps:
        if step.number != last:
            yield "</trace>\n" if last is not None else ""
            yield "<trace>\n" + "".join(trace_attributes(step)) + "\n"
            last = step.number
        yield "<event>" + "".join(event_attributes(step)) + "</event>\n"
    yield "</trace>\n</log>\n" if last is not None else "</log>\n"


def trace_attributes(step: Step) -> Iterator[str]:
    yield attribute("string", "concept:name", case_number_text(step.number))
    yield attribute("string", "id", step.case_id)
    yield attribute("string", "state", step.state)
    yield attribute("string", "category", step.category)


def event_attributes(step: Step) -> Iterator[str]:
    event = step.event
    yield attribute("string", "concept:name", event.type)
    yield attribute("date", "time:timestamp", event.at)
    yield attribute("string", "org:resource", event.actor)
    yield attribute("string", "lifecycle:transition", "complete")
    for name, value in own_attributes(step).items():
        yield attribute("int" if isinstance(value, int) else "string", name, str(value))


def attribute(kind: str, key: str, value: str) -> str:
    return f'<{kind} key="{key}" value={quoteattr(NOT_XML.sub(REPLACED, value))}/>'


# What events have besides what they have in common with those of others, and its types as OCEL names them.
OWN = {
    "seq": "integer",
    "hash": "string",
    "via": "string",
    "policy": "integer",
    "trigger": "string",
    "state_before": "string",
    "state_after": "string",
    "data": "string",
    "texts": "string",
}


def own_attributes(step: Step) -> dict[str, str | int]:
    """Named as OWN does; what an event has not is left out. `data` and `texts` are JSON texts."""
    event = step.event
    values: dict[str, str | int | None] = {
        "seq": event.seq,
        "hash": step.hash,
        "via": event.via,
        "policy": event.policy,
        "trigger": event.trigger,
        "state_before": event.state_before,
        "state_after": event.state_after,
        "data": json_text(event.data),
        "texts": None if step.texts is None else json_text(step.texts),
    }
    return {name: value for name, value in values.items() if value is not None}


# OCEL 2.0 as JSON: events, and the objects that they are about.

OBJECTS: dict[str, dict[str, str]] = {
    "case": {"number": "string", "state": "string", "category": "string"},
    "client": {},
    "staff": {},
    "purchase": {"package": "string", "currency": "string", "paid_minor": "integer"},
    "proposal": {"remedy": "string", "currency": "string", "amount_minor": "integer", "status": "string"},
}

# Events that concern the client, and those that move money on the purchase.
OF_CLIENT = frozenset(
    {"opened", "message_received", "message_sent", "message_bounced", "offer_answered", "slots_proposed"}
)
OF_PURCHASE = frozenset({"payout_begun", "payout_failed", "refunded", "payment_reversed"})

Related = list[tuple[str, str]]
"""Identifiers of objects, each with what it is to the event or object that refers to it."""


async def ocel(found: Export, steps: AsyncIterator[Step], key: bytes) -> AsyncIterator[str]:
    """The events come first: what they show to be staff are few, and named when all else is written."""

    def pseudonym(client: str) -> str:
        return f"client:{hmac.digest(key, f'client {client}'.encode(), 'sha256').hex()[:32]}"

    event_types = {name: {"actor": "string", **OWN} for name in ("opened", *CHANGES)}
    yield f'{{"objectTypes":{types(OBJECTS)},\n"eventTypes":{types(event_types)},\n"events":['
    staff: set[str] = set()
    comma = "\n"
    async for step in steps:
        related = relations(step, pseudonym)
        staff.update(who for who, _ in related if who.startswith("person:"))
        yield comma + json_text(ocel_event(step, related))
        comma = ",\n"
    yield '],\n"objects":['
    comma = "\n"
    async for made in objects(found, staff, pseudonym):
        yield comma + json_text(made)
        comma = ",\n"
    yield "]}\n"


def types(attributes: dict[str, dict[str, str]]) -> str:
    return json_text(
        [
            {"name": name, "attributes": [{"name": one, "type": kind} for one, kind in its.items()]}
            for name, its in attributes.items()
        ]
    )


def ocel_event(step: Step, related: Related) -> dict[str, Any]:
    event = step.event
    own = {"actor": event.actor, **own_attributes(step)}
    return {
        "id": f"{event.chain}/{event.seq}",
        "type": event.type,
        "time": event.at,
        "attributes": [{"name": name, "value": value} for name, value in own.items()],
        "relationships": relationships(related),
    }


def relationships(related: Related) -> list[dict[str, str]]:
    return [{"objectId": one, "qualifier": qualifier} for one, qualifier in dict.fromkeys(related)]


def relations(step: Step, pseudonym: Callable[[str], str]) -> Related:
    event, data = step.event, step.event.data
    related = [(event.chain, "case")]
    if event.actor.startswith("person:"):
        related.append((event.actor, "actor"))
    related += [(f"person:{data[role]}", role) for role in ("assignee", "host") if data.get(role)]
    if event.type in OF_CLIENT:
        related.append((pseudonym(step.client), "client"))
    # Of what the case has moved on from, such as a reference that was a slip, there is no object.
    if step.purchase and (event.type in OF_PURCHASE or data.get("purchase", {}).get("reference") == step.purchase):
        related.append((purchase_id(step.purchase), "purchase"))
    return related + [(f"{event.chain}/{proposal}", role) for proposal, role in proposals(event)]


def proposals(event: Event) -> Iterator[tuple[str, str]]:
    if event.type == "proposed":
        yield f"p{event.seq}", "proposal"
    if "proposal" in event.data:
        yield event.data["proposal"], "proposal"
    for role in ("voids", "withdrawn"):
        yield from ((one, role) for one in event.data.get(role, ()))


async def objects(found: Export, staff: set[str], pseudonym: Callable[[str], str]) -> AsyncIterator[dict[str, Any]]:
    async for one in found.cases():
        for made in case_objects(one, pseudonym):
            yield made
            staff.update(other["objectId"] for other in made["relationships"] if other["qualifier"] == "assignee")
    async for client in found.clients():
        yield an_object(pseudonym(client), "client", [])
    async for purchase in found.purchases():
        yield purchase_object(purchase)
    for person in sorted(staff):
        yield an_object(person, "staff", [])


def case_objects(one: ExportedCase, pseudonym: Callable[[str], str]) -> Iterator[dict[str, Any]]:
    """The case and its proposals. What can change is told as of the last change."""
    case, changed = one.case, at_text(one.case.changed_at)
    related = [(pseudonym(one.client), "client")]
    if case.purchase is not None:
        related.append((purchase_id(case.purchase.reference), "purchase"))
    if case.assignee is not None:
        related.append((f"person:{case.assignee}", "assignee"))
    values: dict[str, str | int] = {
        "number": case_number_text(case.number),
        "state": case.state,
        "category": case.category,
    }
    yield an_object(case.chain, "case", related, values, changed)
    for proposal in case.proposals:
        values = {
            "remedy": proposal.remedy,
            "currency": proposal.amount.currency,
            "amount_minor": proposal.amount.amount_minor,
            "status": proposal.status,
        }
        yield an_object(f"{case.chain}/{proposal.id}", "proposal", [(case.chain, "case")], values, changed)


def purchase_object(purchase: Purchase) -> dict[str, Any]:
    values: dict[str, str | int] = {
        "package": purchase.package,
        "currency": purchase.paid.currency,
        "paid_minor": purchase.paid.amount_minor,
    }
    return an_object(purchase_id(purchase.reference), "purchase", [], values, at_text(purchase.purchased_at))


def purchase_id(reference: str) -> str:
    return f"purchase:{reference}"


def an_object(
    name: str, kind: str, related: Related, values: dict[str, str | int] | None = None, since: str = ""
) -> dict[str, Any]:
    return {
        "id": name,
        "type": kind,
        "attributes": [{"name": one, "time": since, "value": value} for one, value in (values or {}).items()],
        "relationships": relationships(related),
    }
