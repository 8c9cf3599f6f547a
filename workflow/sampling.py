"""Which cases an auditor looks at: drawn by a seed that is recorded, so that whoever has the log draws the same ones.

A case belongs to one stratum. Within it, cases are taken in the order of SHA-256 over the seed, a line feed and the
case's id: nobody can tell that order before the seed is known, and nothing but the seed and the log goes into it.
"""

import hashlib
from bisect import insort
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter

import msgspec

from workflow.canonical import Integer
from workflow.cases import Case
from workflow.money import Money
from workflow.policy import Category, Settings
from workflow.states import CaseState


class StratifiedBy(StrEnum):
    STATE = "state"
    AMOUNT = "amount"
    AGENT = "agent"


class Allocation(StrEnum):
    PROPORTIONAL = "proportional"  # so many over all, each stratum by its share, the largest remainders first
    PER_STRATUM = "per_stratum"  # so many of each, or all where there are fewer


class Only(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which cases are drawn from, as they stood; from a moment on, and until just before one."""

    state: CaseState | None = None
    category: Category | None = None
    assignee: str | None = None  # "" asks for cases without one
    opened_from: datetime | None = None
    opened_until: datetime | None = None

    def admits(self, case: Case) -> bool:
        return (
            self.state in {None, case.state}
            and self.category in {None, case.category}
            and self.assignee in {None, case.assignee or ""}
            and (self.opened_from is None or case.opened_at >= self.opened_from)
            and (self.opened_until is None or case.opened_at < self.opened_until)
        )


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything besides the log that the selection follows from. `bounds` part amounts, in major units."""

    seed: str
    size: Integer
    allocation: Allocation = Allocation.PROPORTIONAL
    strata: tuple[StratifiedBy, ...] = ()
    bounds: tuple[str, ...] = ()
    only: Only = Only()

    def stratum_of(self, case: Case) -> tuple[str, ...]:
        """One value for each of `strata`."""
        return tuple(self.value(case, by) for by in self.strata)

    def value(self, case: Case, by: StratifiedBy) -> str:
        match by:
            case StratifiedBy.STATE:
                return case.state.value
            case StratifiedBy.AGENT:
                return case.assignee or ""
            case StratifiedBy.AMOUNT:
                return band(case, self.bounds)

    def rank(self, case_id: str) -> str:
        return hashlib.sha256(f"{self.seed}\n{case_id}".encode()).hexdigest()


def bounds_of(settings: Settings) -> tuple[str, ...]:
    """The limits of the tiers of approval."""
    return tuple(tier.up_to for tier in settings.tiers if tier.up_to is not None)


def band(case: Case, bounds: tuple[str, ...]) -> str:
    """Where the highest amount lies that was ever proposed in the case; limits belong to what is below them."""
    if not case.proposals:
        return "none"
    place = max(place_of(one.amount, bounds) for one in case.proposals)
    if place < len(bounds):
        return f"up to {bounds[place]}"
    return f"above {bounds[-1]}" if bounds else "any"


def place_of(amount: Money, bounds: tuple[str, ...]) -> int:
    major = Decimal(amount.decimal_text())
    return sum(major > Decimal(bound) for bound in bounds)


class Picked(msgspec.Struct, frozen=True, kw_only=True):
    """A case as it stood: its last event until then was number `version`, with the hash `head`."""

    id: str
    number: int
    version: int
    head: str
    rank: str


class Stratum(msgspec.Struct, frozen=True, kw_only=True):
    values: tuple[str, ...]
    population: int
    cases: tuple[Picked, ...]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Strata in the order of their values, the cases of each by rank."""

    strata: tuple[Stratum, ...]

    @property
    def population(self) -> int:
        return sum(one.population for one in self.strata)

    @property
    def cases(self) -> tuple[Picked, ...]:
        return tuple(case for stratum in self.strata for case in stratum.cases)

    @property
    def digest(self) -> str:
        """SHA-256 over a line for each case: its id, version and head with a space between them."""
        lines = "".join(f"{one.id} {one.version} {one.head}\n" for one in self.cases)
        return hashlib.sha256(lines.encode()).hexdigest()


class Drawing:
    """Takes the cases in any order, and keeps no more of a stratum than could be drawn."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.populations: dict[tuple[str, ...], int] = {}
        self.first: dict[tuple[str, ...], list[Picked]] = {}

    def take(self, case: Case) -> None:
        if not self.plan.only.admits(case):
            return
        values = self.plan.stratum_of(case)
        self.populations[values] = self.populations.get(values, 0) + 1
        first = self.first.setdefault(values, [])
        rank = self.plan.rank(case.id)
        insort(
            first,
            Picked(id=case.id, number=case.number, version=case.version, head=case.head, rank=rank),
            key=attrgetter("rank"),
        )
        del first[self.plan.size :]

    def sample(self) -> Sample:
        sizes = self.sizes()
        return Sample(
            strata=tuple(
                Stratum(values=values, population=self.populations[values], cases=tuple(first[: sizes[values]]))
                for values, first in sorted(self.first.items())
            )
        )

    def sizes(self) -> dict[tuple[str, ...], int]:
        if self.plan.allocation is Allocation.PER_STRATUM:
            return dict.fromkeys(self.populations, self.plan.size)
        everything = sum(self.populations.values())
        total = min(self.plan.size, everything)
        shares = {values: divmod(total * count, everything) for values, count in self.populations.items()}
        sizes = {values: whole for values, (whole, _) in shares.items()}
        by_remainder = sorted(shares, key=lambda values: (-shares[values][1], values))
        for values in by_remainder[: total - sum(sizes.values())]:
            sizes[values] += 1
        return sizes
