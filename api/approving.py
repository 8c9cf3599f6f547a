"""What waits for whom to approve it: the proposals that lack approvals, each with why somebody cannot give one."""

from collections.abc import Iterable, Iterator

import msgspec

from api.desk import Desk
from storage import proposals
from workflow.cases import Case, Proposal
from workflow.errors import Refusal
from workflow.guards import GuardContext, missing_approvals
from workflow.permissions import may_give, verdict_refusals
from workflow.roles import Actor
from workflow.states import Verdict

COUNTED = 99
LOOKED_AT = 200  # cases, for a count on every page; where more are waiting, their number is the least of it


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal that lacks approvals, for somebody who gives verdicts; `refusals` say why they cannot approve it."""

    case: Case
    proposal: Proposal
    missing: int
    refusals: tuple[Refusal, ...]
    may_refuse: bool


async def waiting(desk: Desk, actor: Actor, limit: int) -> list[Waiting]:
    """Those of the most urgent cases, which are `limit` at most."""
    found = await proposals.with_open_ones(desk.database, limit)
    return [seen(ctx, missing) for ctx, missing in await lacking(desk, actor, found)]


async def count(desk: Desk, actor: Actor) -> str:
    """How many this person can approve, in few characters; empty for none."""
    found = await proposals.some_with_open_ones(desk.database, LOOKED_AT)
    number = 0
    for ctx, _ in await lacking(desk, actor, found):
        number += may_give(Verdict.APPROVE, ctx)
        if number > COUNTED:
            break
    if number > COUNTED or len(found) == LOOKED_AT:
        return f"{min(number, COUNTED)}+"
    return f"{number}" if number else ""


async def lacking(desk: Desk, actor: Actor, cases: Iterable[Case]) -> Iterator[tuple[GuardContext, int]]:
    """What is asked about each proposal that lacks approvals, and how many it lacks."""
    context, now = await desk.context(), desk.clock()
    settings = context.settings_now(now)
    return (
        (GuardContext(case=case, actor=actor, now=now, context=context, proposal=proposal), missing)
        for case in cases
        for proposal in case.proposals
        if proposal.is_open and (missing := missing_approvals(proposal, settings))
    )


def seen(ctx: GuardContext, missing: int) -> Waiting:
    proposal: Proposal = ctx.proposal  # type: ignore[assignment]  # of `lacking`, which names one
    return Waiting(
        case=ctx.case,
        proposal=proposal,
        missing=missing,
        refusals=verdict_refusals(Verdict.APPROVE, ctx),
        may_refuse=may_give(Verdict.REFUSE, ctx),
    )
