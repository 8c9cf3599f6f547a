"""What a survey is asked, answered the long way: by replaying every case, event by event, as often as it takes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, tzinfo

from workflow.cases import Case, Proposal
from workflow.events import AttemptRefused, Recorded
from workflow.insights import Days, Happening, Kind, Stay, Total, Way, What
from workflow.replaying import evolve, replay
from workflow.states import CaseState, ProposalStatus, RemedyKind, Trigger

MICROSECONDS = 1_000_000


class Reckoning:
    """Over the histories of all cases and the attempts that were refused, each with its position."""

    def __init__(self, log: Sequence[tuple[int, Recorded]], zone: tzinfo) -> None:
        self.zone = zone
        self.histories: defaultdict[str, list[Recorded]] = defaultdict(list)
        self.refused: list[tuple[int, Recorded]] = []
        self.positions = {one.hash: position for position, one in log}
        for position, one in log:
            if one.event.chain.startswith("case:"):
                self.histories[one.event.chain].append(one)
            elif isinstance(one.data, AttemptRefused):
                self.refused.append((position, one))

    def day(self, at: datetime) -> date:
        return at.astimezone(self.zone).date()

    def is_within(self, at: datetime, days: Days) -> bool:
        return days.first <= self.day(at) <= days.last

    def stood(self, day: date) -> dict[CaseState, int]:
        then = [replay(one for one in history if self.day(one.at) <= day) for history in self.histories.values()]
        counts = Counter(case.state for case in then if case is not None)
        return {state: counts[state] for state in CaseState}

    def steps(self) -> Iterator[tuple[Case | None, Recorded, Case]]:
        """Each event of each case, with the case before it and after it."""
        for history in self.histories.values():
            before: Case | None = None
            for one in history:
                after = evolve(before, one)
                yield before, one, after
                before = after

    def stays(self) -> list[Stay]:
        found: list[Stay] = []
        for before, one, after in self.steps():
            if before is not None and before.state is not after.state:
                found[-1] = found[-1]._replace(until=one.at, trigger=Trigger(str(one.event.trigger)))
            if before is None or before.state is not after.state:
                found.append(Stay(after.number, after.opened_at, after.state, one.at, None, None))
        return found

    def ended(self, days: Days) -> dict[Way, list[int]]:
        found: defaultdict[Way, list[int]] = defaultdict(list)
        for one in self.stays():
            if one.until is not None and one.trigger is not None and self.is_within(one.until, days):
                length = one.until - one.since
                found[Way(one.state, one.trigger)].append(
                    (length.days * 86400 + length.seconds) * MICROSECONDS + length.microseconds
                )
        return {way: sorted(lengths) for way, lengths in found.items()}

    def happenings(self) -> list[Happening]:
        """The latest first."""
        found = [
            Happening(self.positions[one.hash], after.number, one.at, *what)
            for before, one, after in self.steps()
            for what in changes(before, after)
        ]
        numbers = {chain.removeprefix("case:"): case.number for chain, case in self.cases().items()}
        for position, one in self.refused:
            assert isinstance(one.data, AttemptRefused)
            reasons = {*one.data.refusals} or {one.data.code}
            kinds = [Kind(What.REFUSED, one.data.code), *(Kind(What.REASON, code) for code in reasons)]
            found += [Happening(position, numbers.get(one.data.case or ""), one.at, kind, 0) for kind in kinds]
        return sorted(found, key=lambda one: (-one.position, one.kind))

    def cases(self) -> dict[str, Case]:
        found = {chain: replay(history) for chain, history in self.histories.items()}
        return {chain: case for chain, case in found.items() if case is not None}

    def totals(self, days: Days) -> dict[Kind, Total]:
        times: Counter[Kind] = Counter()
        sums: Counter[Kind] = Counter()
        for one in self.happenings():
            if self.is_within(one.at, days):
                times[one.kind] += 1
                sums[one.kind] += one.amount_minor
        return {kind: Total(count, sums[kind]) for kind, count in times.items()}


def changes(before: Case | None, after: Case) -> Iterable[tuple[Kind, int]]:
    """What there is to count, by comparing the two."""
    if before is None:
        yield Kind(What.OPENED, "", after.category), 0
        return
    if before.resolution is None and after.resolution is not None:
        yield Kind(What.CLOSED, after.resolution, after.category), 0
    for one in after.proposals:
        was = before.proposal(one.id)
        if was is not None and was.status is not one.status and ProposalStatus.SETTLED in {was.status, one.status}:
            yield money_of(one, after)


def money_of(proposal: Proposal, case: Case) -> tuple[Kind, int]:
    what = What.COMPENSATED if proposal.remedy is RemedyKind.COMPENSATION else What.REFUNDED
    if proposal.status is not ProposalStatus.SETTLED:
        what = What.REVERSED
    code = proposal.judgement.clauses[0] if proposal.judgement else str(proposal.kind)
    return Kind(what, code, case.category, proposal.amount.currency), proposal.amount.amount_minor
