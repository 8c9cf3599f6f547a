"""Follows one chain of the log, event by event, and works out what it tells of: believing nothing that it can check."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec
from msgspec.structs import astuple

from storage.events import DECODERS, UNFIT, clean, next_event
from storage.keys import follow_keys
from storage.submissions import Row
from workflow.canonical import ZEROS, canonical, canonical_together, leaf_hash
from workflow.desk import POLICY_CHAIN, SETTINGS_CHAIN, SIGNING_CHAIN
from workflow.errors import BrokenHistory
from workflow.events import (
    AttemptRefused,
    CaseRead,
    DeskCreated,
    Edge,
    EffectRetried,
    EffectSettled,
    Erased,
    Event,
    EventData,
    ExportTaken,
    LifecycleAdopted,
    MailSetAside,
    PolicyAdded,
    Recorded,
    SampleDrawn,
    WebhookPinged,
    WebhookReplayed,
)
from workflow.findings import FINDINGS, evolve_finding
from workflow.people import evolve_person, person_chain
from workflow.policy import PolicyVersion
from workflow.replaying import evolve
from workflow.states import CaseState, Trigger
from workflow.webhooks import WEBHOOKS_CHAIN, evolve_webhooks

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


def name_of(table: tuple[Edge, ...]) -> str:
    return hashlib.sha256(canonical(table)).hexdigest()


class Known(msgspec.Struct, kw_only=True):
    """What the log says of the desk itself, and every event refers to."""

    log: str = ""
    timezone: str = ""
    lifecycles: dict[str, Steps] = {}
    policies: dict[int, PolicyVersion] = {}

    def learn(self, recorded: Recorded) -> None:
        """Not what is said a second time or under a wrong name: that is found where its chain is followed."""
        match recorded.data:
            case DeskCreated(timezone=timezone) if not self.log:
                self.log, self.timezone = recorded.event.log, timezone
            case PolicyAdded(version=version):
                self.policies.setdefault(version.version, version)
            case LifecycleAdopted(lifecycle=lifecycle, table=table) if lifecycle == name_of(table):
                self.lifecycles[lifecycle] = {
                    (row.source.value, row.trigger.value): Step(row.target.value, dict.fromkeys(row.guards, True))
                    for row in table
                }
            case _:
                pass

    def check(self, event: Event) -> None:
        """Raises BrokenHistory unless the event is of this log, and decided under rules that the log has."""
        if event.log != self.log:
            raise BrokenHistory(event.chain, event.seq, f"is of another log, {event.log}")
        if event.policy not in self.policies:
            raise BrokenHistory(event.chain, event.seq, f"the log has no policy version {event.policy}")
        steps = self.lifecycles.get(event.lifecycle)
        if steps is None:
            raise BrokenHistory(event.chain, event.seq, f"the log has no lifecycle {event.lifecycle}")
        if event.trigger is not None or event.state_after != event.state_before or event.type in TRIGGERS:
            check_transition(event, steps)

    def allows(self, events: Sequence[Event], fields: Mapping[str, Sequence[Any]]) -> bool:
        """Whether `check` says nothing of any of these, whose fields are given as columns too."""
        if not (
            {*fields["log"]} == {self.log}
            and {*fields["policy"]} <= self.policies.keys()
            and {*fields["lifecycle"]} <= self.lifecycles.keys()
        ):
            return False
        steps = zip(events, *(fields[name] for name in ("trigger", "state_before", "state_after", "type")), strict=True)
        try:
            for event, trigger, before, after, kind in steps:
                if trigger is not None or before != after or kind in TRIGGERS:
                    check_transition(event, self.lifecycles[event.lifecycle])
        except BrokenHistory:
            return False
        return True


# What stands beside a body and has to agree with it, as the body says it; and whether it names its predecessor.
COLUMNS = ("chain", "seq", "prev", "type", "state_before", "state_after", "lifecycle", "at", "trigger")
ROWS = """
    SELECT {body}, hash,
        CASE seq WHEN 1 THEN prev_seq IS NULL AND prev_hash IS NULL AND state_before IS NULL
            ELSE prev_seq = seq - 1 AND prev_hash IS NOT NULL AND state_before IS NOT NULL END,
        chain, seq, coalesce(prev_hash, '{zeros}'), type, nullif(state_before, ''), nullif(state_after, ''),
        lifecycle, at, "trigger"
    FROM events
"""
EVENTS = f"{ROWS} ORDER BY chain, seq"
CHAIN, SEQ = 3, 4


class Walk:
    """Follows every chain, from the pages of EVENTS.

    A page is looked at as a whole, column by column, which is much faster than event by event. Only one in which
    something is not as it should be is gone through again, to say what.
    """

    def __init__(self, known: Known, ended: Callable[[Any], None]) -> None:
        """`ended` is called with the case, person, … that a chain has led to, if it is whole.

        `commitments` are counted, to personal texts and files.
        """
        self.commitments = 0
        self.known = known
        self.ended = ended
        self.chain = Chain("", known)

    def take(self, page: Sequence[Row]) -> Iterator[BrokenHistory]:
        """Go on with these rows, and tell what is wrong with them: of each chain the first thing."""
        chain = self.chain
        for row, recorded in zip(page, self.sound(page) or repeat(None), strict=False):
            if row[CHAIN] != chain.name:
                self.end()
                chain = self.chain = Chain(str(row[CHAIN]), self.known)
            if not chain.is_broken:
                try:
                    chain.apply(read := recorded or chain.read(row))
                    self.commitments += len(read.event.personal)
                except BrokenHistory as broken:
                    chain.is_broken = True
                    yield broken

    def end(self) -> None:
        if self.chain.last is not None and not self.chain.is_broken:
            self.ended(self.chain.state)

    def sound(self, page: Sequence[Row]) -> list[Recorded] | None:
        """The events of the page, if nothing is wrong with any of them but perhaps what they amount to."""
        bodies, hashes, linked, *columns = zip(*page, strict=True)
        kinds = columns[COLUMNS.index("type")]
        try:
            events = [DECODERS[kind].decode(body) for kind, body in zip(kinds, bodies, strict=True)]
            again = canonical_together(events)
        except (KeyError, *UNFIT):
            return None
        fields = dict(zip(Event.__struct_fields__, zip(*map(astuple, events), strict=True), strict=True))
        if (
            again == (together := b"".join(bodies))  # an object ends where it ends: none can borrow from the next
            and tuple(map(leaf_hash, bodies)) == hashes
            and all(linked)
            and [fields[name] for name in COLUMNS] == columns
            and clean(bodies, together, fields)
            and self.chain.leads_to(hashes, fields)
            and self.known.allows(events, fields)
        ):
            return [
                Recorded(event=event, data=event.data, hash=digest)
                for event, digest in zip(events, hashes, strict=True)
            ]
        return None


class Chain:
    """One chain as far as it has been followed. `state` is the case, or person, that its events tell of."""

    def __init__(self, name: str, known: Known) -> None:
        self.name = name
        self.known = known
        self.fold = fold_of(name)
        self.state: Any = None
        self.last: Recorded | None = None
        self.is_broken = False  # from then on nobody can say what the further events should be

    def read(self, row: Row) -> Recorded:
        """The event of a row of EVENTS, if it can be the next one. Raises BrokenHistory."""
        body, digest, linked, *columns = row
        seq = self.last.event.seq + 1 if self.last else 1
        if row[SEQ] != seq:
            raise BrokenHistory(self.name, seq, f"is missing; event {row[SEQ]} comes next")
        recorded = next_event(self.last, self.name, body, digest)
        if fault := differing(recorded.event, linked, columns):
            raise BrokenHistory(self.name, seq, fault)
        self.known.check(recorded.event)
        return recorded

    def apply(self, recorded: Recorded) -> None:
        """Raises BrokenHistory."""
        try:
            self.state = self.fold(self.state, recorded)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as misfit:
            place = recorded.event.chain, recorded.event.seq
            raise BrokenHistory(*place, f"does not fit what came before it: {misfit!r}") from misfit
        self.last = recorded

    def leads_to(self, hashes: Sequence[str], fields: Mapping[str, Sequence[Any]]) -> bool:
        """Whether the first of these events goes on from here, and each further one from the one before it."""
        here: Row = (self.name, 0, ZEROS, None, "", "")
        if self.last is not None:
            last = self.last.event
            here = (self.name, last.seq, self.last.hash, last.state_after, last.at, last.request)
        chain, seq, prev, before, after, at, request = (fields[name] for name in LINKED)
        ends = (here, *zip(chain, seq, hashes, after, at, request, strict=True))
        return not self.is_broken and all(map(follows, ends, zip(chain, seq, prev, before, at, request, strict=True)))


def differing(event: Event, linked: object, columns: Sequence[Any]) -> str | None:
    """What is wrong with the columns that stand beside an event, which are those after the hash in ROWS."""
    names = [name for name, stored in zip(COLUMNS, columns, strict=True) if getattr(event, name) != stored]
    if names or not linked:
        return f"the row does not say what the body says of {', '.join(names or ['prev_seq'])}"
    return None


LINKED = ("chain", "seq", "prev", "state_before", "state_after", "at", "request")


def follows(end: Row, start: Row) -> bool:
    """Whether an event that starts like this can be the one after an event that ended like that."""
    chain, seq, prev, before, at, request = start
    last_chain, last_seq, last_hash, last_state, last_at, last_request = end
    if chain != last_chain:
        return (seq, prev, before) == (1, ZEROS, None)
    later = at > last_at or (at == last_at and request == last_request)
    return later and (seq, prev, before) == (last_seq + 1, last_hash, last_state)


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
    if chain.startswith(FINDINGS):
        return evolve_finding
    return FOLDS.get(chain, check_single)


def check_settings(_: None, recorded: Recorded) -> None:
    event, data = recorded.event, recorded.data
    if not isinstance(data, DeskCreated if event.seq == 1 else LifecycleAdopted):
        raise BrokenHistory(event.chain, event.seq, f"{event.type} has no place in this chain")
    if isinstance(data, LifecycleAdopted) and data.lifecycle != name_of(data.table):
        raise BrokenHistory(event.chain, event.seq, "the lifecycle's name is not the hash of its table")


def check_policy(_: None, recorded: Recorded) -> None:
    event, data = recorded.event, recorded.data
    if not isinstance(data, PolicyAdded) or data.version.version != event.seq:
        raise BrokenHistory(event.chain, event.seq, f"is not version {event.seq} of the policy")


FOLDS: dict[str, Callable[[Any, Recorded], Any]] = {
    SETTINGS_CHAIN: check_settings,
    POLICY_CHAIN: check_policy,
    SIGNING_CHAIN: follow_keys,
    WEBHOOKS_CHAIN: evolve_webhooks,
}
SINGLE: dict[str, tuple[type[EventData], ...]] = {
    "refusal": (AttemptRefused,),
    "set_aside": (MailSetAside,),
    "read": (CaseRead, ExportTaken),
    "sample": (SampleDrawn,),
    "effect": (EffectSettled, EffectRetried),
    "ping": (WebhookPinged,),
    "replay": (WebhookReplayed,),
}


def check_single(_: None, recorded: Recorded) -> None:
    """A chain of one event, named after its kind; mail that was set aside can be erased."""
    event = recorded.event
    kind = event.chain.partition(":")[0]
    kinds = SINGLE.get(kind, ()) if event.seq == 1 else (Erased,) if kind == "set_aside" else ()
    if not isinstance(recorded.data, kinds):
        raise BrokenHistory(event.chain, event.seq, f"{event.type} has no place in this chain")
