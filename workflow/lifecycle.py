"""Everything that can happen to a case: one table, read by code, API, pages, diagrams, database edges and tests."""

import hashlib
import logging
from types import MappingProxyType
from typing import cast

import msgspec
from transitions import EventData, Machine, MachineError

from workflow.canonical import canonical
from workflow.commands import (
    TRIGGER_DATA,
    IssueCompensationData,
    ResumeData,
    ScheduleConsultationData,
    TriggerData,
)
from workflow.errors import GuardRefused, NoSuchTransition, Refusal
from workflow.events import Edge
from workflow.guards import (
    Guard,
    GuardContext,
    ask,
    assignee_works_cases,
    client_is_answered,
    facts_are_checked,
    no_other_consultation_overlaps,
    no_payout_under_way,
    no_show_was_not_attended,
    payment_failed_only_from_refunded,
    payment_is_not_with_the_provider,
    proposal_is_approved,
    proposal_is_not_void,
    proposal_is_of_this_remedy,
    provider_confirms_a_begun_payout,
    provider_reverses_its_own_refund,
    resolution_fits_state,
    reversed_by_another_person,
    settled_by_another_person,
    slot_was_proposed,
    there_is_a_purchase,
    within_maximum,
    within_reopening_days,
    words,
)
from workflow.roles import CLIENTS, PAYERS, SETTLERS, SYSTEMS, WORKERS, Role, in_order
from workflow.states import REMEDY_STATES, CaseState, ResumeReason, Trigger

# The library logs every step at INFO, which costs three times the step itself.
logging.getLogger("transitions").setLevel(logging.WARNING)


class Transition(msgspec.Struct, frozen=True):
    """One row: who may fire `trigger` in `source`, where it leads, and what must be so besides."""

    trigger: Trigger
    source: CaseState
    target: CaseState
    roles: frozenset[Role]
    guards: tuple[Guard, ...] = ()

    @property
    def data(self) -> type[TriggerData]:
        return TRIGGER_DATA[self.trigger]

    def roles_for(self, data: TriggerData | None) -> frozenset[Role]:
        """`resume` is a worker's, but only whoever pays can say that a payment failed.

        What a compensation was granted as, only the system that granted it can say. A client may book what a worker
        has proposed: that one has agreed to it, and the guards see to the rest.
        """
        match data:
            case ResumeData(reason_code=code):
                return SETTLERS if code is ResumeReason.PAYMENT_FAILED else WORKERS
            case IssueCompensationData(confirmation=confirmation):
                return SYSTEMS if confirmation else WORKERS | PAYERS
            case ScheduleConsultationData(slot_of=int()):
                return self.roles | CLIENTS
            case _:
                return self.roles


OPEN_STATES = tuple(state for state in CaseState if state is not CaseState.CLOSED)

TRANSITIONS: tuple[Transition, ...] = (
    Transition(
        Trigger.INVESTIGATE,
        CaseState.OPENED,
        CaseState.INVESTIGATING,
        WORKERS,
        (assignee_works_cases,),
    ),
    Transition(
        Trigger.OFFER_ADJUSTMENT,
        CaseState.INVESTIGATING,
        CaseState.ADJUSTMENT_OFFERED,
        WORKERS,
        (no_payout_under_way,),
    ),
    Transition(
        Trigger.SCHEDULE_CONSULTATION,
        CaseState.INVESTIGATING,
        CaseState.CONSULTATION_SCHEDULED,
        WORKERS,
        (no_payout_under_way, no_other_consultation_overlaps, slot_was_proposed),
    ),
    Transition(
        Trigger.ISSUE_COMPENSATION,
        CaseState.INVESTIGATING,
        CaseState.COMPENSATION_ISSUED,
        WORKERS | SETTLERS,
        (proposal_is_of_this_remedy, proposal_is_not_void, proposal_is_approved, no_payout_under_way),
    ),
    Transition(
        Trigger.REFUND,
        CaseState.INVESTIGATING,
        CaseState.REFUNDED,
        SETTLERS,
        (
            there_is_a_purchase,
            proposal_is_of_this_remedy,
            proposal_is_not_void,
            proposal_is_approved,
            provider_confirms_a_begun_payout,
            settled_by_another_person,
            facts_are_checked,
            within_maximum,
            no_payout_under_way,
            payment_is_not_with_the_provider,
        ),
    ),
    # A remedy that did not help leads back to the facts, never straight to another remedy.
    *(
        Transition(
            Trigger.RESUME,
            state,
            CaseState.INVESTIGATING,
            WORKERS | SETTLERS,
            (
                payment_failed_only_from_refunded,
                reversed_by_another_person,
                provider_reverses_its_own_refund,
                no_show_was_not_attended,
            ),
        )
        for state in REMEDY_STATES
    ),
    *(
        Transition(
            Trigger.CLOSE,
            state,
            CaseState.CLOSED,
            WORKERS,
            (resolution_fits_state, client_is_answered, no_payout_under_way),
        )
        for state in OPEN_STATES
    ),
    Transition(Trigger.REOPEN, CaseState.CLOSED, CaseState.INVESTIGATING, WORKERS, (within_reopening_days,)),
)

BY_SOURCE = MappingProxyType({(row.source, row.trigger): row for row in TRANSITIONS})

# Wherever a trigger exists it leads to the same state.
TARGETS = MappingProxyType({row.trigger: row.target for row in TRANSITIONS})

LOGGED_TABLE: tuple[Edge, ...] = tuple(
    Edge(
        trigger=row.trigger,
        source=row.source,
        target=row.target,
        roles=in_order(row.roles),
        guards=tuple(guard.__name__ for guard in row.guards),
    )
    for row in TRANSITIONS
)
LIFECYCLE = hashlib.sha256(canonical(LOGGED_TABLE)).hexdigest()
"""The hash of the table, named by every event that was decided under it."""


class Move:
    """What the machine moves: not the case, which is frozen, but a marker on its state for one attempt."""

    __slots__ = ("ctx", "refusals", "state")

    def __init__(self, state: CaseState, ctx: GuardContext) -> None:
        self.state: str = state.value  # the library takes an enum member by its name
        self.ctx = ctx
        self.refusals: tuple[Refusal, ...] = ()


def all_guards_pass(step: EventData) -> bool:
    """The machine's only condition. Asks every guard of the row instead of stopping at the first no."""
    move = cast("Move", step.model)
    row = BY_SOURCE[CaseState(move.state), Trigger(step.event.name)]
    move.refusals = ask(row.guards, move.ctx)
    return not move.refusals


def build_machine() -> Machine:
    """One machine for all cases; it never holds a model, so nothing grows with their number."""
    return Machine(
        model=None,
        states=[state.value for state in CaseState],
        initial=CaseState.OPENED.value,
        transitions=[
            {
                "trigger": row.trigger.value,
                "source": row.source.value,
                "dest": row.target.value,
                "conditions": all_guards_pass,
            }
            for row in TRANSITIONS
        ],
        auto_transitions=False,  # the default adds to_refunded() from everywhere
        send_event=True,
        queued=False,
    )


MACHINE = build_machine()

FROZEN: MappingProxyType[tuple[str, str], str] = MappingProxyType(
    {
        (source, name): step.dest
        for name, event in MACHINE.events.items()
        for source, steps in event.transitions.items()
        for step in steps
        if step.dest is not None
    }
)
"""What the machine allows, as `(source, trigger) → target`: for replaying millions of events."""


def fire(trigger: Trigger, ctx: GuardContext) -> CaseState:
    """The state that the trigger leads to. Raises NoSuchTransition, or GuardRefused with every reason."""
    move = Move(ctx.case.state, ctx)
    try:
        moved = MACHINE.events[trigger].trigger(move)
    except MachineError:
        raise NoSuchTransition(
            trigger, ctx.case.state, triggers_of(ctx.case.state), no_edge(ctx.case.state, trigger)
        ) from None
    if not moved:
        raise GuardRefused(*move.refusals)
    return CaseState(move.state)


def triggers_of(state: CaseState) -> tuple[Trigger, ...]:
    return tuple(trigger for trigger in Trigger if (state, trigger) in BY_SOURCE)


def no_edge(state: CaseState, trigger: Trigger) -> Refusal:
    sources = " or ".join(words(row.source) for row in TRANSITIONS if row.trigger is trigger)
    if trigger is Trigger.CLOSE:
        sources = "not closed yet"
    return Refusal(
        code="no_such_transition",
        text=f"the case is {words(state)}; {words(trigger)} needs a case that is {sources}",
    )
