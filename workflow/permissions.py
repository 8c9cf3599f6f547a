"""Why not? For every trigger, in every state, for every actor: whether it is allowed, and if not, every reason."""

from datetime import datetime
from functools import cache

import msgspec

from workflow.cases import Case
from workflow.commands import (
    CloseData,
    Command,
    IssueCompensationData,
    RefundData,
    ResumeData,
    TriggerData,
)
from workflow.deciding import decide
from workflow.errors import BadInput, Refusal, Refused
from workflow.guards import VERDICT_GUARDS, Context, GuardContext, ask, with_data, words
from workflow.lifecycle import BY_SOURCE, TARGETS, TRANSITIONS, Transition, no_edge
from workflow.roles import Actor, Role, in_order
from workflow.states import NEEDS_NO_ANSWER, RESOLUTIONS, CaseState, RemedyKind, ResumeReason, Trigger, Verdict

# Any row of each trigger: its data and its roles are the same in all of them.
ROWS: dict[Trigger, Transition] = {row.trigger: row for row in TRANSITIONS}

# The data without which a trigger cannot be fired, by field.
NEEDS: dict[Trigger, tuple[str, ...]] = {
    trigger: tuple(field.name for field in msgspec.structs.fields(row.data) if field.required)
    for trigger, row in ROWS.items()
}

# Where a guard asks for the data at all, its answer is the same for all others of the kind.
CLOSE_DATA: dict[CaseState, tuple[CloseData, ...]] = {
    state: tuple(
        CloseData(resolution=next(one for one in fitting if (one in NEEDS_NO_ANSWER) is silent))
        for silent in (True, False)
        if any((one in NEEDS_NO_ANSWER) is silent for one in fitting)
    )
    for state, fitting in RESOLUTIONS.items()
}
RESUME_DATA = (ResumeData(reason_code=ResumeReason.DECLINED), ResumeData(reason_code=ResumeReason.PAYMENT_FAILED))


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """Whether some data would pass; `needs` names the data, `refusals` say why none would."""

    trigger: Trigger
    target: CaseState
    allowed: bool
    needs: tuple[str, ...]
    refusals: tuple[Refusal, ...]


def permissions(case: Case, actor: Actor, now: datetime, context: Context) -> tuple[Permission, ...]:
    """One answer for each trigger, in the order of the lifecycle."""
    ctx = GuardContext(case=case, actor=actor, now=now, context=context)
    return tuple([permission(trigger, ctx) for trigger in TRIGGERS])


def permission(trigger: Trigger, ctx: GuardContext) -> Permission:
    """`ctx` has no data: whether some would pass is the question."""
    row = BY_SOURCE.get((ctx.case.state, trigger))
    if row is None:
        return no_edge_permission(ctx.case.state, trigger, ctx.actor.may(ROWS[trigger].roles))
    refusals = fewest_refusals(row, ctx)
    return answer(trigger, refusals) if refusals else ALLOWED[trigger]


def answer(trigger: Trigger, refusals: tuple[Refusal, ...]) -> Permission:
    return Permission(
        trigger=trigger,
        target=TARGETS[trigger],
        allowed=not refusals,
        needs=NEEDS[trigger],
        refusals=refusals,
    )


TRIGGERS = tuple(Trigger)
ALLOWED = {trigger: answer(trigger, ()) for trigger in TRIGGERS}


@cache
def no_edge_permission(state: CaseState, trigger: Trigger, may: bool) -> Permission:  # noqa: FBT001 - a key
    refusals = (no_edge(state, trigger), *(() if may else (role_refusal(trigger, ROWS[trigger].roles),)))
    return answer(trigger, refusals)


def fewest_refusals(row: Transition, ctx: GuardContext) -> tuple[Refusal, ...]:
    """The reasons that remain with the most promising data."""
    best: tuple[Refusal, ...] | None = None
    for data in promising(row.trigger, ctx.case):
        asked = ctx if data is None else with_data(ctx, data)
        refusals = (*refused_role(row, data, ctx.actor), *ask(row.guards, asked))
        if not refusals:
            return ()
        if best is None or len(refusals) < len(best):
            best = refusals
    return best or ()


def promising(trigger: Trigger, case: Case) -> tuple[TriggerData | None, ...]:
    """The data on which the guards' answer can depend; None stands for data that no guard minds."""
    match trigger:
        case Trigger.CLOSE:
            return CLOSE_DATA[case.state]
        case Trigger.RESUME:
            return RESUME_DATA
        case Trigger.REFUND:
            refunds = [one.id for one in case.proposals if one.remedy is RemedyKind.REFUND]
            return tuple(RefundData(proposal=one, payment_reference="") for one in refunds or (None,))
        case Trigger.ISSUE_COMPENSATION:
            credits = [one.id for one in case.proposals if one.remedy is RemedyKind.COMPENSATION]
            return tuple(IssueCompensationData(proposal=one) for one in credits or (None,))
        case _:
            return (None,)


def verdict_refusals(verdict: Verdict, ctx: GuardContext) -> tuple[Refusal, ...]:
    """Why somebody whose roles give verdicts cannot give this one on the proposal; nothing, if they can."""
    return ask(VERDICT_GUARDS[verdict], ctx)


def may_give(verdict: Verdict, ctx: GuardContext) -> bool:
    """Whether there is no such reason: sooner known than all of them."""
    return all(guard(ctx) is None for guard in VERDICT_GUARDS[verdict])


def refused_role(row: Transition, data: TriggerData | None, actor: Actor) -> tuple[Refusal, ...]:
    roles = row.roles_for(data)
    return () if actor.may(roles) else (role_refusal(row.trigger, roles),)


@cache
def role_refusal(trigger: Trigger, roles: frozenset[Role]) -> Refusal:
    who = in_order(roles)
    return Refusal(code="role", text=f"{words(trigger)} is for: {', '.join(who)}", who=who)


def why_not(case: Case, command: Command, actor: Actor, now: datetime, context: Context) -> tuple[Refusal, ...]:
    """The reasons for which this very command would be refused now: asked by deciding it, and doing nothing."""
    try:
        decide(case, context, command, actor, now)
    except Refused as refused:
        return refused.refusals
    except BadInput:  # what is asked with need make no sense otherwise
        pass
    return ()
