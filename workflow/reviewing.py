"""Why: each decision of a case with what it rested on, and the same decision made once more.

The event says what was asked. It is decided again on the case as it stood, under the rules that were logged by then,
for an actor with the roles held then, at the moment that was recorded; what comes of it has to be what was recorded.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import msgspec

from workflow import commands as c
from workflow import events as e
from workflow.cases import Approval, Case, Proposal
from workflow.comparing import Change, changes
from workflow.deciding import DECISIONS, OUTCOMES, Attempt, check_trigger_data, forbid_unless, roles_of
from workflow.errors import CaseworkError, GuardRefused, Refusal, Refused
from workflow.guards import Context, Guard, GuardContext, judge_or_none, slot_was_proposed, with_data
from workflow.lifecycle import TRANSITIONS, no_edge
from workflow.policy import Decision, Facts, PolicyVersion, version_in_force
from workflow.roles import CLIENTS, Actor, Role, in_order
from workflow.states import CaseState, RemedyKind, Resolution, Trigger

GUARDS: dict[str, Guard] = {guard.__name__: guard for row in TRANSITIONS for guard in row.guards}
AS_RECORDED = "as recorded"  # for texts, which no rule reads: that there was one is all it takes


class Then(msgspec.Struct, frozen=True, kw_only=True):
    """What was so besides the case when something was decided: from what the log had before that event, alone."""

    actor: Actor
    context: Context
    lifecycles: Mapping[str, tuple[e.Edge, ...]]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a guard says when it is asked again; `refusal` None: it lets it pass."""

    guard: str
    refusal: Refusal | None = None


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """A decision with what it rested on. `differences` are between what was recorded and what comes of it again.

    `policy` was in force at that moment (tiers, deadlines, reopening); `judged_by` is the purchase's (window,
    grounds), by which `decision` follows from `facts`. These three are there where money or its refusal rests on them.
    """

    recorded: e.Recorded
    before: Case
    roles: tuple[Role, ...]
    policy: PolicyVersion
    judged_by: PolicyVersion | None = None
    facts: Facts | None = None
    decision: Decision | None = None
    proposal: Proposal | None = None
    guards: tuple[Answer, ...] = ()
    differences: tuple[Change, ...] = ()

    @property
    def seq(self) -> int:
        return self.recorded.event.seq

    @property
    def approvals(self) -> tuple[Approval, ...]:
        return self.proposal.approvals if self.proposal else ()

    @property
    def is_equal(self) -> bool:
        return not self.differences


def is_decision(recorded: e.Recorded) -> bool:
    return type(recorded.data) in COMMANDS


def review(before: Case, caused: Sequence[e.Recorded], then: Then) -> Review:
    """`caused` is what the decision has made in the chain of its case, oldest first: the decision itself is first."""
    first = caused[0]
    proposal = before.proposal(getattr(first.data, "proposal", None))
    again = Again(before, then.context, then.actor, first.at)
    policy = version_in_force(then.context.policies, first.at)
    differences = [*changes({"policy": first.event.policy}, {"policy": policy.version})]
    try:
        drafts = again.decide(first, then.lifecycles)
    except (CaseworkError, ValueError, KeyError, TypeError) as failure:  # what a forged event may hold is endless
        why = ", ".join(sorted(failure.codes)) if isinstance(failure, Refused) else str(failure)
        differences += [Change(path="outcome", before="recorded", after=f"refused: {why}")]
        if first.event.guards and again.answers:
            differences += changes({"guards": first.event.guards}, {"guards": again.verdicts})
    else:
        own = [one for one in drafts if one.chain in {None, before.chain}]
        differences += changes(as_recorded(caused), as_decided(own, before))
    judged = rests_on_policy(first.data, proposal)
    return Review(
        recorded=first,
        before=before,
        roles=in_order(then.actor.roles),
        policy=policy,
        judged_by=then.context.policy_for(before) if judged else None,
        facts=before.facts if judged else None,
        decision=judge_or_none(before, then.context) if judged else None,
        proposal=proposal,
        guards=tuple(again.answers),
        differences=tuple(differences),
    )


def rests_on_policy(data: e.EventData, proposal: Proposal | None) -> bool:
    match data:
        case e.Proposed(remedy=remedy):
            return remedy is RemedyKind.REFUND
        case e.Closed(resolution=resolution):
            return resolution is Resolution.NO_REFUND_DUE
        case _:
            return proposal is not None and proposal.remedy is RemedyKind.REFUND


# Deciding again.


class Again(Attempt):
    """An attempt that keeps what each guard answers."""

    __slots__ = ("answers",)

    def __init__(self, *attempt: Any) -> None:
        super().__init__(*attempt)
        self.answers: list[Answer] = []

    @property
    def verdicts(self) -> dict[str, bool]:
        return {one.guard: one.refusal is None for one in self.answers}

    def demand(self, *guards: Guard, **about: Any) -> None:
        self.ask({guard.__name__: guard for guard in guards}, self.guard_context(**about))

    def ask(self, guards: Mapping[str, Guard | None], ctx: GuardContext) -> None:
        answers = [Answer(guard=name, refusal=guard(ctx) if guard else unknown(name)) for name, guard in guards.items()]
        self.answers += answers
        if refusals := [one.refusal for one in answers if one.refusal is not None]:
            raise GuardRefused(*refusals)

    def decide(self, recorded: e.Recorded, lifecycles: Mapping[str, tuple[e.Edge, ...]]) -> tuple[e.Draft, ...]:
        """Raises what `deciding.decide` raises, and what comes of data that no command could have had."""
        command = command_of(recorded)
        roles = roles_of(command, self.case, self.actor)
        if not isinstance(command, c.Fire):
            forbid_unless(self.actor, roles, command)
            return DECISIONS[type(command)](self, command)
        edge = step_in(lifecycles.get(recorded.event.lifecycle, ()), self.case.state, command.trigger)
        forbid_unless(self.actor, roles & admitted(edge), command)
        check_trigger_data(self, command)
        self.ask({name: GUARDS.get(name) for name in edge.guards}, with_data(self.guard_context(), command.data))
        data, texts, further = OUTCOMES[command.trigger](self, command.data)
        step = e.Draft(
            data=data, personal=texts, trigger=command.trigger, state_after=edge.target, guards=self.verdicts
        )
        return (step, *further)


def admitted(edge: e.Edge) -> frozenset[Role]:
    """Clients too, where the table that was logged asked whether their slot had been proposed."""
    return frozenset(edge.roles) | (CLIENTS if slot_was_proposed.__name__ in edge.guards else frozenset())


def step_in(table: Sequence[e.Edge], source: CaseState, trigger: Trigger) -> e.Edge:
    for edge in table:
        if (edge.source, edge.trigger) == (source, trigger):
            return edge
    raise GuardRefused(no_edge(source, trigger))


def unknown(guard: str) -> Refusal:
    return Refusal(code=guard, text="this release does not know this guard, so it cannot be asked again")


def command_of(recorded: e.Recorded) -> c.Command:
    """What was asked, as far as it can matter."""
    command: c.Command = COMMANDS[type(recorded.data)](recorded.data, recorded.event.actor)
    return command


def fired(trigger: Trigger, data: c.TriggerData) -> c.Fire:
    return c.Fire(trigger=trigger, reason=AS_RECORDED, data=data)


def investigating(data: e.InvestigationStarted, actor: str) -> c.Command:
    taken = actor == f"person:{data.assignee}"
    return fired(Trigger.INVESTIGATE, c.InvestigateData(assignee=None if taken else data.assignee))


def offering(data: e.AdjustmentOffered, _: str) -> c.Command:
    offer = c.OfferAdjustmentData(description=AS_RECORDED, answer_by=date.fromisoformat(data.answer_by))
    return fired(Trigger.OFFER_ADJUSTMENT, offer)


def scheduling(data: e.ConsultationScheduled, _: str) -> c.Command:
    slot = c.ScheduleConsultationData(
        starts_at=data.starts_at, minutes=data.minutes, channel=AS_RECORDED, slot_of=data.slot_of
    )
    return fired(Trigger.SCHEDULE_CONSULTATION, slot)


def moving(data: e.ConsultationMoved, _: str) -> c.Command:
    return c.MoveConsultation(starts_at=data.starts_at, minutes=data.minutes, channel=AS_RECORDED, reason=AS_RECORDED)


def refunding(data: e.Refunded, _: str) -> c.Command:
    return fired(Trigger.REFUND, c.RefundData(proposal=data.proposal, payment_reference=data.payment_reference))


def closing(data: e.Closed, _: str) -> c.Command:
    return fired(Trigger.CLOSE, c.CloseData(resolution=data.resolution, duplicate_of=data.duplicate_of))


def proposing(data: e.Proposed, _: str) -> c.Command:
    return c.Propose(remedy=data.remedy, amount=data.amount, reason=AS_RECORDED, kind=data.kind, grounds=data.grounds)


def giving_verdict(data: e.VerdictGiven, _: str) -> c.Command:
    return c.GiveVerdict(proposal=data.proposal, verdict=data.verdict, digest=data.digest, reason=AS_RECORDED)


COMMANDS: dict[type[e.EventData], Any] = {
    e.InvestigationStarted: investigating,
    e.AdjustmentOffered: offering,
    e.ConsultationScheduled: scheduling,
    e.ConsultationMoved: moving,
    e.CompensationIssued: lambda data, _: fired(
        Trigger.ISSUE_COMPENSATION, c.IssueCompensationData(proposal=data.proposal, confirmation=data.confirmation)
    ),
    e.Refunded: refunding,
    e.Resumed: lambda data, _: fired(
        Trigger.RESUME, c.ResumeData(reason_code=data.reason_code, payment_reference=data.payment_reference)
    ),
    e.Closed: closing,
    e.Reopened: lambda _, __: fired(Trigger.REOPEN, c.ReopenData()),
    e.Proposed: proposing,
    e.VerdictGiven: giving_verdict,
    e.PayoutBegun: lambda data, _: c.BeginPayout(proposal=data.proposal, reason=AS_RECORDED),
    e.PayoutFailed: lambda data, _: c.FailPayout(proposal=data.proposal, reason=AS_RECORDED),
    e.ProposalWithdrawn: lambda data, _: c.WithdrawProposal(proposal=data.proposal, reason=AS_RECORDED),
}
"""Of each event that is a decision, the command that leads to it; all other events are facts, or follow from these."""


# Comparing what was recorded with what comes of it again.


def as_recorded(caused: Sequence[e.Recorded]) -> dict[str, Any]:
    first, *others = caused
    event = first.event
    step = {"trigger": event.trigger, "state_after": event.state_after, "guards": event.guards}
    return told(step, first.data, [one.data for one in others])


def as_decided(drafts: Sequence[e.Draft], before: Case) -> dict[str, Any]:
    first, *others = drafts
    step = {"trigger": first.trigger, "state_after": first.state_after or before.state, "guards": first.guards}
    return told(step, first.data, [one.data for one in others])


def told(step: dict[str, Any], data: e.EventData, others: Sequence[e.EventData]) -> dict[str, Any]:
    return {
        "type": e.TYPE_NAMES[type(data)],
        **step,
        "data": timeless(data),
        "effects": [{"type": e.TYPE_NAMES[type(one)], "data": timeless(one)} for one in others],
    }


def timeless(data: e.EventData) -> dict[str, Any]:
    """Without the next deadline: where chains share a moment, it is counted from a microsecond before their event."""
    said: dict[str, Any] = msgspec.to_builtins(data)
    said.pop("update_due", None)
    return said
