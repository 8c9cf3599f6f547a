"""Follows one chain of the log, event by event, and works out what it tells of: believing nothing that it can check."""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import astuple

from storage.events import Links
from storage.sealing import EVENT_COLUMNS
from storage.submissions import Row
from workflow.canonical import canonical
from workflow.desk import POLICY_CHAIN, SETTINGS_CHAIN
from workflow.errors import BrokenHistory
from workflow.events import (
    AttemptRefused,
    CaseRead,
    DeskCreated,
    Event,
    EventData,
    LifecycleAdopted,
    MailSetAside,
    PolicyAdded,
    Recorded,
)
from workflow.people import evolve_person, person_chain
from workflow.policy import PolicyVersion
from workflow.replaying import evolve
from workflow.states import CaseState, Trigger

# What each transition's event comes of; no other event has a trigger.
TRIGGERS: dict[str, str] = {
    "investigation_started": Trigger.INVESTIGATE,
    "adjustment_offered": Trigger.OFFER_ADJUSTMENT,
    "consultation_scheduled": Trigger.SCHEDULE_CONSULTATION,
    "compensation_issued": Trigger.ISSUE_COMPENSATION,
    "refunded": Trigger.REFUND,
    "resumed": Trigger.RESUME,
    "closed": Trigger.CLOSE,
    "reopened": Trigger.REOPEN,
}


class Step(msgspec.Struct, frozen=True):
    target: str
    guards: dict[str, bool]


Steps = dict[tuple[str, str], Step]
"""A lifecycle as it was logged, by source and trigger."""


class Known(msgspec.Struct, kw_only=True):
    """What the log says of the desk itself, and every event refers to."""

    log: str = ""
    timezone: str = ""
    lifecycles: dict[str, Steps] = {}
    policies: dict[int, PolicyVersion] = {}

    def learn(self, recorded: Recorded) -> None:
        match recorded.data:
            case DeskCreated(timezone=timezone):
                self.log, self.timezone = recorded.event.log, timezone
            case PolicyAdded(version=version):
                self.policies[version.version] = version
            case LifecycleAdopted(lifecycle=lifecycle, table=table):
                self.lifecycles[lifecycle] = {
                    (row.source.value, row.trigger.value): Step(row.target.value, dict.fromkeys(row.guards, True))
                    for row in table
                }
            case _:
                pass


class Chain:
    """`state` is the case, or person, that the events so far tell of."""

    __slots__ = ("fold", "is_broken", "known", "links", "name", "state")

    def __init__(self, name: str, known: Known) -> None:
        self.name = name
        self.known = known
        self.links = Links(name)
        self.fold = fold_of(name)
        self.state: Any = None
        self.is_broken = False

    def follow(self, row: Row) -> None:
        """Go on to the event of this row, in the order of EVENT_COLUMNS but with its body as bytes.

        Raises BrokenHistory, and from then on nobody can say what the further events should be.
        """
        self.is_broken = True
        seq = self.links.seq + 1
        if row[1] != seq:
            raise BrokenHistory(self.name, seq, f"is missing; event {row[1]} comes next")
        recorded = self.links.follow(row[11], row[10], row[7])
        self.check(recorded, row)
        try:
            self.state = self.fold(self.state, recorded)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as misfit:
            raise BrokenHistory(self.name, seq, f"does not fit what came before it: {misfit!r}") from misfit
        self.is_broken = False

    def check(self, recorded: Recorded, row: Row) -> None:
        event, known = recorded.event, self.known
        _, log, chain, seq, prev, kind, before, after, lifecycle, policy, at, _, _, _, _, _, trigger, _ = astuple(event)
        start = (None, None, None) if seq == 1 else (seq - 1, prev, before or "")
        columns = (chain, seq, *start, after or "", trigger, kind, lifecycle, at, recorded.hash)
        if row[:11] != columns:
            pairs = zip(EVENT_COLUMNS, row, columns, strict=False)
            names = ", ".join(name for name, stored, said in pairs if stored != said)
            raise BrokenHistory(chain, seq, f"the row does not say what the body says of {names}")
        if log != known.log:
            raise BrokenHistory(chain, seq, f"is of another log, {log}")
        if policy not in known.policies:
            raise BrokenHistory(chain, seq, f"the log has no policy version {policy}")
        steps = known.lifecycles.get(lifecycle)
        if steps is None:
            raise BrokenHistory(chain, seq, f"the log has no lifecycle {lifecycle}")
        if trigger is not None or kind in TRIGGERS or after != before:
            check_transition(event, steps)


def check_transition(event: Event, steps: Steps) -> None:
    """Raises BrokenHistory unless the lifecycle that the event names has this step, with these guards."""
    before, after, trigger = event.state_before, event.state_after, event.trigger
    if trigger != TRIGGERS.get(event.type):
        raise BrokenHistory(event.chain, event.seq, f"{event.type} is not what the trigger {trigger} leads to")
    if trigger is None:
        if event.seq == 1 and after == CaseState.OPENED:
            return
        raise BrokenHistory(event.chain, event.seq, f"without a trigger nothing leads from {before} to {after}")
    step = steps.get((str(before), trigger))
    if step is None or step.target != after:
        raise BrokenHistory(event.chain, event.seq, f"its lifecycle has no {trigger} from {before} to {after}")
    if event.guards != step.guards:
        raise BrokenHistory(event.chain, event.seq, f"its lifecycle has other guards for {trigger} from {before}")


# What the events of a chain add up to.


def fold_of(chain: str) -> Callable[[Any, Recorded], Any]:
    if chain.startswith("case:"):
        return evolve
    if chain.startswith(person_chain("")):
        return evolve_person
    return {SETTINGS_CHAIN: check_settings, POLICY_CHAIN: check_policy}.get(chain, check_single)


def check_settings(_: None, recorded: Recorded) -> None:
    event, data = recorded.event, recorded.data
    if not isinstance(data, DeskCreated if event.seq == 1 else LifecycleAdopted):
        raise BrokenHistory(event.chain, event.seq, f"{event.type} has no place in this chain")
    if isinstance(data, LifecycleAdopted) and data.lifecycle != hashlib.sha256(canonical(data.table)).hexdigest():
        raise BrokenHistory(event.chain, event.seq, "the lifecycle's name is not the hash of its table")


def check_policy(_: None, recorded: Recorded) -> None:
    event, data = recorded.event, recorded.data
    if not isinstance(data, PolicyAdded) or data.version.version != event.seq:
        raise BrokenHistory(event.chain, event.seq, f"is not version {event.seq} of the policy")


SINGLE: dict[str, type[EventData]] = {"refusal": AttemptRefused, "set_aside": MailSetAside, "read": CaseRead}


def check_single(_: None, recorded: Recorded) -> None:
    """A chain of one event, named after its kind."""
    event = recorded.event
    kind = SINGLE.get(event.chain.partition(":")[0])
    if kind is None or not isinstance(recorded.data, kind) or event.seq > 1:
        raise BrokenHistory(event.chain, event.seq, f"{event.type} has no place in this chain")
