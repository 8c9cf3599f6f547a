"""One case between two points, and why: its decisions, each with what it rested on, judged again."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api import views as v
from api.auditing import receipt_of
from api.errors import RefusalBody, documented, refusal_body
from api.policy import ClauseView
from api.replaying import Difference, Stretch, differing, resolved, stretch_of
from api.routing import Answer, DeskRoute, ReadCall, reads
from storage import cases
from storage.reviewing import reviews
from workflow.cases import Approval, Case, Proposal
from workflow.comparing import Change
from workflow.errors import NotFound
from workflow.policy import Category, Facts, GroundKind
from workflow.reviewing import Answer as GuardAnswer
from workflow.reviewing import Review
from workflow.roles import READERS, Role
from workflow.states import RemedyKind, Trigger

log = structlog.get_logger()

router = APIRouter(prefix="/v1/cases/{case_id}", tags=["replay"], route_class=DeskRoute)

MAX_SEQ_DIGITS = 9


# Between two points.


class DifferenceQuery(i.Input):
    """Each point is a version, such as `7`, or an instant, such as `2026-03-05T12:00:00Z`."""

    start: i.Text = Field(alias="from")
    end: i.Text | None = Field(default=None, alias="to", description="if not given, the case as it stands")


class PointView(TypedDict):
    version: int
    at: datetime
    receipt: str


class ChangeView(TypedDict):
    """`path` is such as `purchase.checked` or `grounds[g5].verified`; sums are in minor units where it says so."""

    path: str
    before: Any
    after: Any


DifferenceView = TypedDict(
    "DifferenceView",
    {"from": PointView, "to": PointView, "changes": list[ChangeView], "events": list[v.EventView]},
)


@router.get("/difference", response_model=DifferenceView, responses=documented(404, 422))
@reads(READERS)
async def difference(call: ReadCall, case_id: str, query: Annotated[DifferenceQuery, Query()]) -> Response:
    """What changed between two points of a case, field by field, and the events that did it; by its log alone."""
    database = call.desk.database
    stretch: Stretch = await stretch_of(database, case_id, query.start, query.end)
    found: Difference = await differing(database, stretch)
    await call.desk.record_read(call, case_id, found.after.version, "difference")
    view: DifferenceView = {
        "from": point_view(found.before),
        "to": point_view(found.after),
        "changes": [
            {
                "path": one.path,
                "before": resolved(one.path, one.before, found.texts, v.ERASED),
                "after": resolved(one.path, one.after, found.texts, v.ERASED),
            }
            for one in found.changes
        ],
        "events": [v.event_view(one, body, found.texts) for one, body in stretch.between],
    }
    return Answer(view, headers={"etag": f'"{stretch.version}"'})


def point_view(case: Case) -> PointView:
    return {
        "version": case.version,
        "at": case.changed_at,
        "receipt": f"{case.chain}/{case.version}/{case.head}",
    }


# Why.


class PurchaseFactsView(TypedDict):
    paid: v.MoneyView
    purchased_at: datetime
    service_started_at: datetime | None
    deliverables_provided_at: datetime | None


class GroundFactsView(TypedDict):
    kind: GroundKind
    verified: bool
    affected: v.MoneyView
    refunded: v.MoneyView | None


class FactsView(TypedDict):
    requested_at: datetime
    category: Category
    purchase: PurchaseFactsView | None
    refunded: v.MoneyView | None
    grounds: list[GroundFactsView]


class GuardView(TypedDict):
    guard: str
    passed: bool
    refusal: RefusalBody | None


class GivenApprovalView(TypedDict):
    by: str
    roles: list[str]
    at: datetime
    reason: str


class AboutProposalView(TypedDict):
    id: str
    remedy: RemedyKind
    amount: v.MoneyView
    grounds: list[str]
    proposed_by: str
    digest: str


class RecordedAgainView(TypedDict):
    """What was recorded of the decision, and what comes of it when it is made again."""

    path: str
    recorded: Any
    again: Any


class WhyView(TypedDict):
    """A decision with what it rested on. `roles` are those that the actor held then.

    `policy` is the version that was in force; where money rests on it, `judged_by` is the version that goes with the
    purchase, and `decision` what it says of `facts`, in its `clauses`. `equal` says that the same decision, made again
    on all that, is what was recorded; if not, `differences` say in what it is not.
    """

    seq: int
    type: str
    trigger: Trigger | None
    state_before: str | None
    state_after: str | None
    at: str
    actor: str
    roles: list[Role]
    reason: str
    data: dict[str, Any]
    policy: int
    judged_by: int | None
    facts: FactsView | None
    decision: v.DecisionView | None
    clauses: list[ClauseView]
    guards: list[GuardView]
    proposal: AboutProposalView | None
    approvals: list[GivenApprovalView]
    equal: bool
    differences: list[RecordedAgainView]
    receipt: str


class WhysView(TypedDict):
    """`equal`: all of them are."""

    equal: bool
    items: list[WhyView]


@router.get("/decisions", response_model=WhysView, responses=documented(404))
@reads(READERS)
async def decisions(call: ReadCall, case_id: str) -> Response:
    """Every decision of the case, oldest first: what it rested on, and whether it is the same when made again.

    Decisions are transitions, proposals, their withdrawals, verdicts and payouts. Each is made again from the log
    alone: on the case as it stood, under the rules that were logged, by somebody with the roles of that moment.
    """
    found, version = await reviewed(call, case_id, None)
    texts = await cases.texts_of(call.desk.database, case_id)
    view = WhysView(equal=all(one.is_equal for one in found), items=[why_view(one, texts) for one in found])
    return Answer(view, headers={"etag": f'"{version}"'})


@router.get("/decisions/{seq}", response_model=WhyView, responses=documented(404))
@reads(READERS)
async def decision(call: ReadCall, case_id: str, seq: str) -> Response:
    """The decision that an event records: what it rested on, and whether it is the same when made again."""
    if not (seq.isascii() and seq.isdigit() and len(seq) <= MAX_SEQ_DIGITS):
        raise NotFound("decision")
    (found,), version = await reviewed(call, case_id, int(seq))
    view = why_view(found, await cases.texts_of(call.desk.database, case_id))
    return Answer(view, headers={"etag": f'"{version}"'})


async def reviewed(call: ReadCall, case_id: str, seq: int | None) -> tuple[tuple[Review, ...], int]:
    """With the version of the case."""
    version = await call.desk.version_of(case_id)
    if version is None:
        raise NotFound("case")
    await call.desk.sequencer.catch_up()
    found = await reviews(call.desk.database, case_id, seq)
    for one in found:
        if not one.is_equal:
            log.error("decision_not_equal", case=case_id, seq=one.seq, paths=[each.path for each in one.differences])
    await call.desk.record_read(call, case_id, version, "decisions")
    return found, version


def why_view(review: Review, texts: dict[str, str]) -> WhyView:
    event, judged = review.recorded.event, review.decision
    clauses = review.judged_by.clauses if review.judged_by and judged else ()
    return {
        "seq": event.seq,
        "type": event.type,
        "trigger": Trigger(event.trigger) if event.trigger else None,
        "state_before": event.state_before,
        "state_after": event.state_after,
        "at": event.at,
        "actor": event.actor,
        "roles": list(review.roles),
        "reason": texts.get(f"{event.seq}/reason", v.ERASED),
        "data": msgspec.to_builtins(review.recorded.data),
        "policy": review.policy.version,
        "judged_by": review.judged_by.version if review.judged_by else None,
        "facts": facts_view(review.facts) if review.facts else None,
        "decision": v.decision_view(judged) if judged else None,
        "clauses": [{"id": one.id, "text": one.text} for one in clauses if judged and one.id in judged.clauses],
        "guards": [guard_view(one) for one in review.guards],
        "proposal": about_proposal_view(review.proposal) if review.proposal else None,
        "approvals": [approval_view(one, texts) for one in review.approvals],
        "equal": review.is_equal,
        "differences": [recorded_again_view(one) for one in review.differences],
        "receipt": receipt_of(review.recorded),
    }


def facts_view(facts: Facts) -> FactsView:
    purchase = facts.purchase
    return {
        "requested_at": facts.requested_at,
        "category": facts.category,
        "purchase": {
            "paid": v.money(purchase.paid),
            "purchased_at": purchase.purchased_at,
            "service_started_at": purchase.service_started_at,
            "deliverables_provided_at": purchase.deliverables_provided_at,
        }
        if purchase
        else None,
        "refunded": v.money(facts.refunded) if facts.refunded else None,
        "grounds": [
            {
                "kind": one.kind,
                "verified": one.verified,
                "affected": v.money(one.affected),
                "refunded": v.money(one.refunded) if one.refunded else None,
            }
            for one in facts.grounds
        ],
    }


def guard_view(answer: GuardAnswer) -> GuardView:
    refusal = answer.refusal
    return {"guard": answer.guard, "passed": refusal is None, "refusal": refusal_body(refusal) if refusal else None}


def approval_view(approval: Approval, texts: dict[str, str]) -> GivenApprovalView:
    reason = v.text(texts, approval.reason)
    return {"by": approval.by, "roles": list(approval.roles), "at": approval.at, "reason": reason}


def about_proposal_view(proposal: Proposal) -> AboutProposalView:
    return {
        "id": proposal.id,
        "remedy": proposal.remedy,
        "amount": v.money(proposal.amount),
        "grounds": list(proposal.grounds),
        "proposed_by": proposal.proposed_by,
        "digest": proposal.digest,
    }


def recorded_again_view(change: Change) -> RecordedAgainView:
    return {"path": change.path, "recorded": change.before, "again": change.after}
