"""Compares the ledger's refunds with what the provider, or the bank's statement, has: every difference by its name.

Both sides are read row by row into a database that lies on disk for as long as that takes, so that memory stays flat.
"""

import csv
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select

from api.payments import Payment, Payments
from storage.cases import EVENTS
from storage.database import Database
from storage.events import recorded
from storage.sqlite import driver
from workflow.cases import chain_of
from workflow.errors import InvalidMoney, bad_field
from workflow.events import PaymentReversed, PayoutBegun, PayoutFailed, Recorded, Refunded, at_text
from workflow.money import Money, parse_money

LONG = timedelta(days=1)  # for a payout to be under way
SETTLING = timedelta(days=30)  # from asking a provider to its answer, at most
COLUMNS = ("payment_reference", "amount", "currency")
TYPES = ("payout_begun", "payout_failed", "refunded", "payment_reversed")


class What(StrEnum):
    MISSING = "missing"  # paid by the ledger; the other side knows nothing of it
    UNKNOWN = "unknown"  # paid by the other side; the ledger does not say so
    AMOUNT = "amount"
    CURRENCY = "currency"
    STATUS = "status"  # paid on one side, and not on the other
    DOUBLE = "double"  # one reference twice, or two payments for one proposal
    UNDER_WAY = "under_way"  # for more than a day


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """`ledger` and `other` say what each side has."""

    what: What
    reference: str
    case: str
    proposal: str
    ledger: str
    other: str


# A proposal is paid once at most, so that its row is where it stands.
SCHEMA = """
    CREATE TABLE ledger (
        "case" TEXT, proposal TEXT, reference TEXT, minor INTEGER, currency TEXT, status TEXT, at TEXT,
        PRIMARY KEY ("case", proposal)
    );
    CREATE INDEX ledger_by_reference ON ledger (reference);
    CREATE TABLE other (
        "case" TEXT, proposal TEXT, reference TEXT, minor INTEGER, currency TEXT, status TEXT, at TEXT
    );
    CREATE INDEX other_by_reference ON other (reference);
    CREATE INDEX other_by_proposal ON other ("case", proposal);
"""
PUT = {table: f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)" for table in ("ledger", "other")}
FAILED = """DELETE FROM ledger WHERE "case" = ? AND proposal = ?"""
REVERSED = """UPDATE ledger SET status = 'reversed' WHERE "case" = ? AND proposal = ?"""

# What each difference is, as rows of reference, case, proposal, and amount, currency, status and time on both sides.
BOTH = """l.reference, l."case", l.proposal, l.minor, l.currency, l.status, l.at, o.minor, o.currency, o.status, o.at"""
LEDGER = """l.reference, l."case", l.proposal, l.minor, l.currency, l.status, l.at, NULL, NULL, NULL, NULL"""
OTHER = """o.reference, o."case", o.proposal, NULL, NULL, NULL, NULL, o.minor, o.currency, o.status, o.at"""
SAME = "ledger AS l JOIN other AS o ON o.reference = l.reference"
FOUND = {
    What.DOUBLE: f"""
        SELECT {LEDGER} FROM ledger AS l WHERE l.reference <> ''
            AND (SELECT count(*) FROM ledger AS x WHERE x.reference = l.reference) > 1
        UNION ALL SELECT {OTHER} FROM other AS o WHERE o.status <> 'failed' AND (
            (SELECT count(*) FROM other AS x WHERE x.reference = o.reference) > 1
            OR o."case" <> '' AND (
                SELECT count(*) FROM other AS x
                WHERE x."case" = o."case" AND x.proposal = o.proposal AND x.status <> 'failed'
            ) > 1
        )""",
    What.CURRENCY: f"SELECT {BOTH} FROM {SAME} WHERE l.currency <> o.currency",
    What.AMOUNT: f"SELECT {BOTH} FROM {SAME} WHERE l.currency = o.currency AND l.minor <> o.minor",
    What.STATUS: f"""
        SELECT {BOTH} FROM {SAME}
        WHERE o.status <> 'booked' AND (l.status = 'paid') <> (o.status = 'succeeded')""",
    What.MISSING: f"""
        SELECT {LEDGER} FROM ledger AS l WHERE l.status = 'paid' AND l.at >= :since
        AND NOT EXISTS (SELECT 1 FROM other AS o WHERE o.reference = l.reference)""",
    What.UNKNOWN: f"""
        SELECT {OTHER} FROM other AS o WHERE o.status <> 'failed' AND o.at >= :since
        AND NOT EXISTS (SELECT 1 FROM ledger AS l WHERE l.reference = o.reference)
        AND NOT EXISTS (
            SELECT 1 FROM ledger AS l WHERE l."case" = o."case" AND l.proposal = o.proposal AND l.status = 'under way'
        )""",
    What.UNDER_WAY: f"SELECT {LEDGER} FROM ledger AS l WHERE l.status = 'under way' AND l.at < :long",
}

ALWAYS = "0000"  # before every time


class Comparison:
    """What both sides have, until it is compared."""

    def __init__(self) -> None:
        self.connection: Any = driver.connect("", isolation_level=None)  # a file that goes with the connection
        self.connection.executescript(SCHEMA)
        self.connection.execute("BEGIN")

    def close(self) -> None:
        self.connection.close()

    async def read_ledger(self, database: Database) -> None:
        query = select(EVENTS.body, EVENTS.hash).where(EVENTS.type.in_(TYPES)).order_by(EVENTS.id)
        async for body, digest in database.stream(query):
            self.book(recorded(body, digest))

    def book(self, one: Recorded) -> None:
        case = one.event.chain.removeprefix(chain_of(""))
        match one.data:
            case PayoutBegun(proposal=proposal, amount=amount):
                self.put("ledger", (case, proposal, ""), amount, "under way", one.event.at)
            case PayoutFailed(proposal=proposal):
                self.connection.execute(FAILED, (case, proposal))
            case Refunded(proposal=proposal, amount=amount, payment_reference=reference):
                self.put("ledger", (case, proposal, reference), amount, "paid", one.event.at)
            case PaymentReversed(proposal=proposal):
                self.connection.execute(REVERSED, (case, proposal))

    def put(self, table: str, place: tuple[str, str, str], amount: Money, status: str, at: str) -> None:
        """`place` is case, proposal and reference."""
        self.connection.execute(PUT[table], (*place, amount.amount_minor, amount.currency, status, at))

    def add_payment(self, one: Payment) -> None:
        self.put("other", (one.case, one.proposal, one.id), one.amount, str(one.status), at_text(one.at))

    def differences(self, since: datetime | None, now: datetime) -> Iterator[Difference]:
        moments = {"since": at_text(since) if since else ALWAYS, "long": at_text(now - LONG)}
        for what, query in FOUND.items():
            for reference, case, proposal, *sides in self.connection.execute(f"{query} ORDER BY 2, 3, 1", moments):
                yield Difference(
                    what=what,
                    reference=reference,
                    case=case,
                    proposal=proposal,
                    ledger=said(*sides[:4]),
                    other=said(*sides[4:]),
                )


def said(minor: int | None, currency: str, status: str, at: str) -> str:
    """Such as `300.00 EUR paid 2026-03-05`; empty where a side has nothing."""
    if minor is None:
        return ""
    return " ".join(filter(None, (str(Money(minor, currency)), status, at[:10])))


async def with_provider(
    database: Database, provider: Payments, log_name: str, since: datetime | None, now: datetime
) -> AsyncIterator[Difference]:
    """Refunds of other desks that share the account are none of ours."""
    with closing(Comparison()) as compared:
        await compared.read_ledger(database)
        start = since - SETTLING if since else datetime.fromtimestamp(0, now.tzinfo)
        async for one in provider.refunds(start):
            if one.log in {"", log_name}:
                compared.add_payment(one)
        for difference in compared.differences(since, now):
            yield difference


async def with_statement(
    database: Database, file: Path, since: datetime | None, now: datetime
) -> AsyncIterator[Difference]:
    """A bank's statement as CSV: payment_reference, amount, currency. Raises BadInput, naming the line."""
    with closing(Comparison()) as compared:
        await compared.read_ledger(database)
        for reference, amount in lines(file):
            compared.put("other", ("", "", reference), amount, "booked", at_text(now))
        for difference in compared.differences(since, now):
            yield difference


def lines(file: Path) -> Iterable[tuple[str, Money]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = csv.DictReader(opened)
        if missing := set(COLUMNS) - set(rows.fieldnames or ()):
            raise bad_field("statement", f"has no column {', '.join(sorted(missing))}")
        for row in rows:
            yield line_of(row, f"statement, line {rows.line_num}")


def line_of(row: dict[str, Any], place: str) -> tuple[str, Money]:
    """Banks may write what left as less than nothing."""
    reference, amount, currency = ((row[name] or "").strip() for name in COLUMNS)
    if not reference:
        raise bad_field(place, "has no payment_reference")
    try:
        return reference, parse_money(amount.removeprefix("-"), currency.upper())
    except InvalidMoney as wrong:
        raise bad_field(place, "; ".join(f"{one.field} {one.message}" for one in wrong.errors)) from wrong
