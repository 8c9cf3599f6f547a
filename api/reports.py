"""Reports for auditors, each from the log as it was at one position, by the events alone."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import Field, ValidationError
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api import views as v
from api.auditing import receipt_of
from api.cuts import MAX_POSITION, point
from api.errors import documented
from api.routing import Answer, DeskRoute, ReadCall, field_errors, reads
from storage import auditing
from storage.auditing import Period
from storage.cuts import Cut
from storage.database import Database
from storage.sequencer import Sequencer
from workflow import reporting
from workflow.cases import case_number_text
from workflow.errors import BadInput
from workflow.events import AttemptRefused, Opened, Recorded
from workflow.policy import PolicyVersion
from workflow.reporting import Duties, OverrideKind, Part, Payment
from workflow.roles import OVERSEERS, Role
from workflow.states import RemedyKind

router = APIRouter(prefix="/v1/reports", tags=["audit"], route_class=DeskRoute)


NEAR_PERCENT = 10


class ReportQuery(i.Input):
    """Of what was recorded in a period, up to a position of the log; by default all of it, to its end."""

    start: i.Moment | None = Field(default=None, alias="from")
    end: i.Moment | None = Field(default=None, alias="to", description="that moment not included")
    position: int | None = Field(default=None, ge=1, le=MAX_POSITION, description="as the feed gives them")


class NearTiersQuery(ReportQuery):
    percent: int = Field(
        default=NEAR_PERCENT, ge=0, le=100, description="how far below a tier's limit, in percent of it"
    )


class OfCaseView(TypedDict):
    case: str
    number: str


class GivenView(TypedDict):
    by: str
    roles: list[str]
    at: datetime


class RuleView(TypedDict):
    """What the tiers of that policy version demanded: so many different people with one of these roles."""

    policy: int
    roles: list[Role]
    count: int


class ReportView(TypedDict):
    """`position` is the last one of the log that the report rests on: with it, the same report can be had again."""

    position: int


class Report:
    """What a report rests on."""

    def __init__(self, database: Database, query: ReportQuery, cut: Cut, policies: Iterable[PolicyVersion]) -> None:
        self.database = database
        self.query = query
        self.cut = cut
        self.period = Period(start=query.start, end=query.end)
        self.policies = {one.version: one for one in policies}

    @classmethod
    async def of(cls, database: Database, sequencer: Sequencer, query: ReportQuery) -> "Report":
        """Raises BadInput for a position that the log has not reached."""
        cut = await point(database, sequencer, query.position, None)
        return cls(database, query, cut, await auditing.policies(database))

    def histories(self, *kinds: str, whenever: bool = False) -> AsyncIterator[tuple[Recorded, ...]]:
        """Of the cases in which something of these types happened: in the period, or whenever."""
        return auditing.histories(self.database, self.cut, kinds, Period() if whenever else self.period)


async def answer(call: ReadCall, query: ReportQuery, made: Callable[[Report], Awaitable[ReportView]]) -> Response:
    return Answer(await made(await Report.of(call.desk.database, call.desk.sequencer, query)))


class DutiesItemView(OfCaseView):
    """`clause` is the policy's, of refunds; `rule` is absent where no approval is needed.

    `same` names the parts that one person had; `breach` says that the rules forbid one of these, or that approvals were
    missing.
    """

    proposal: str
    remedy: RemedyKind
    amount: v.MoneyView
    clause: str | None
    rule: RuleView | None
    proposed_by: str
    proposed_at: datetime
    evidence_by: list[str]
    approvals: list[GivenView]
    begun_by: str | None
    settled_by: str
    settled_at: datetime
    same: list[Part]
    missing_approvals: int
    breach: bool
    receipt: str


class DutiesView(ReportView):
    breaches: int
    items: list[DutiesItemView]


@router.get("/duties", response_model=DutiesView, responses=documented(422))
@reads(OVERSEERS)
async def duties(call: ReadCall, query: Annotated[ReportQuery, Query()]) -> Response:
    """Each refund and compensation that was settled in the period: who proposed, approved, began and settled it.

    With what the rules demanded, whether one person had two of these parts, and whether that was allowed.
    """
    return await answer(call, query, duties_in)


async def duties_in(report: Report) -> DutiesView:
    items = [
        duties_view(history, reporting.duties(payment, report.policies))
        async for history in report.histories("refunded", "compensation_issued")
        for payment in reporting.payments(history)
        if payment.settled is not None and report.period.includes(payment.settled.at)
    ]
    breaches = sum(one["breach"] for one in items)
    return DutiesView(position=report.cut.position, breaches=breaches, items=items)


def duties_view(history: Sequence[Recorded], found: Duties) -> DutiesItemView:
    paid, rule = found.payment, found.rule
    settled = paid.settled or paid.recorded
    return {
        **of_case(history),
        "proposal": paid.id,
        "remedy": paid.remedy,
        "amount": v.money(paid.amount),
        "clause": paid.clause,
        "rule": {"policy": paid.policy, "roles": list(rule.roles), "count": rule.count} if rule else None,
        "proposed_by": paid.proposed_by,
        "proposed_at": paid.recorded.at,
        "evidence_by": list(paid.evidence_by),
        "approvals": approvals_view(paid),
        "begun_by": paid.begun_by,
        "settled_by": settled.event.actor,
        "settled_at": settled.at,
        "same": list(found.same),
        "missing_approvals": found.missing,
        "breach": found.is_breach,
        "receipt": receipt_of(settled),
    }


class NearTierItemView(OfCaseView):
    proposal: str
    amount: v.MoneyView
    limit: str
    proposed_at: datetime
    receipt: str


class NearTierGroupView(TypedDict):
    proposed_by: str
    count: int
    items: list[NearTierItemView]


class NearTiersView(ReportView):
    percent: int
    groups: list[NearTierGroupView]


@router.get("/near-tiers", response_model=NearTiersView, responses=documented(422))
@reads(OVERSEERS)
async def near_tiers(call: ReadCall, query: Annotated[NearTiersQuery, Query()]) -> Response:
    """Refunds proposed in the period for an amount at the limit of a tier of approval, or a little below it.

    By who proposed them, those with most first. Refunds that need no approval are not among them.
    """
    return await answer(call, query, near_tiers_in)


async def near_tiers_in(report: Report) -> NearTiersView:
    percent = report.query.percent if isinstance(report.query, NearTiersQuery) else NEAR_PERCENT
    by_proposer: defaultdict[str, list[NearTierItemView]] = defaultdict(list)
    async for history in report.histories("proposed"):
        for payment in reporting.payments(history):
            limit = reporting.bound_above(payment, report.policies, percent)
            if limit is not None and report.period.includes(payment.recorded.at):
                by_proposer[payment.proposed_by].append(
                    {
                        **of_case(history),
                        "proposal": payment.id,
                        "amount": v.money(payment.amount),
                        "limit": limit,
                        "proposed_at": payment.recorded.at,
                        "receipt": receipt_of(payment.recorded),
                    }
                )
    groups = [
        NearTierGroupView(proposed_by=who, count=len(items), items=items)
        for who, items in sorted(by_proposer.items(), key=lambda group: (-len(group[1]), group[0]))
    ]
    return NearTiersView(position=report.cut.position, percent=percent, groups=groups)


class OverrideView(OfCaseView):
    kind: OverrideKind
    at: datetime
    by: str
    data: dict[str, Any]
    receipt: str


class OverridesView(ReportView):
    items: list[OverrideView]


@router.get("/overrides", response_model=OverridesView, responses=documented(422))
@reads(OVERSEERS)
async def overrides(call: ReadCall, query: Annotated[ReportQuery, Query()]) -> Response:
    """Where a person decided otherwise than the policy would by itself.

    When a request was made was corrected, a refund that the policy allows was refused, an answer was waived, or data
    were erased before that was due. Nobody can pay more than the policy allows.
    """
    return await answer(call, query, overrides_in)


async def overrides_in(report: Report) -> OverridesView:
    kinds = ("requested_at_corrected", "verdict_given", "answer_waived", "erased")
    items = [
        OverrideView(
            **of_case(history),
            kind=one.kind,
            at=one.recorded.at,
            by=one.recorded.event.actor,
            data=msgspec.to_builtins(one.recorded.data),
            receipt=receipt_of(one.recorded),
        )
        async for history in report.histories(*kinds)
        for one in reporting.overrides(history)
        if report.period.includes(one.recorded.at)
    ]
    return OverridesView(position=report.cut.position, items=items)


class VoidedView(OfCaseView):
    """`type`, `at` and `by` are of the change that made these approvals void."""

    proposal: str
    remedy: RemedyKind
    amount: v.MoneyView
    proposed_by: str
    approvals: list[GivenView]
    type: str
    at: datetime
    by: str
    receipt: str


class VoidedApprovalsView(ReportView):
    items: list[VoidedView]


@router.get("/voided-approvals", response_model=VoidedApprovalsView, responses=documented(422))
@reads(OVERSEERS)
async def voided_approvals(call: ReadCall, query: Annotated[ReportQuery, Query()]) -> Response:
    """Approvals that became void in the period, since what they rested on was changed, and by which event."""
    return await answer(call, query, voided_approvals_in)


async def voided_approvals_in(report: Report) -> VoidedApprovalsView:
    items = [
        VoidedView(
            **of_case(history),
            proposal=one.payment.id,
            remedy=one.payment.remedy,
            amount=v.money(one.payment.amount),
            proposed_by=one.payment.proposed_by,
            approvals=approvals_view(one.payment),
            type=one.recorded.event.type,
            at=one.recorded.at,
            by=one.recorded.event.actor,
            receipt=receipt_of(one.recorded),
        )
        async for history in report.histories("verdict_given", whenever=True)
        for one in reporting.voided_approvals(history)
        if report.period.includes(one.recorded.at)
    ]
    return VoidedApprovalsView(position=report.cut.position, items=items)


class RefusedView(TypedDict):
    """`code` is the kind of refusal, `reason` one of its reasons; `cases` are those that it concerned."""

    actor: str
    code: str
    reason: str
    count: int
    cases: int
    first_at: str
    last_at: str


class RefusalsView(ReportView):
    items: list[RefusedView]


@router.get("/refusals", response_model=RefusalsView, responses=documented(422))
@reads(OVERSEERS)
async def refusals(call: ReadCall, query: Annotated[ReportQuery, Query()]) -> Response:
    """How often each person's attempts were refused in the period, reason by reason, the most frequent first."""
    return await answer(call, query, refusals_in)


async def refusals_in(report: Report) -> RefusalsView:
    found: dict[tuple[str, str, str], RefusedView] = {}
    concerned: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    async for one in auditing.refusals(report.database, report.cut, report.period):
        if isinstance(data := one.data, AttemptRefused):
            at, actor = one.event.at, one.event.actor
            for reason in data.refusals or (data.code,):
                key = (actor, data.code, reason)
                first = RefusedView(
                    actor=actor, code=data.code, reason=reason, count=0, cases=0, first_at=at, last_at=at
                )
                counted = found.setdefault(key, first)
                counted["count"] += 1
                counted["first_at"], counted["last_at"] = min(counted["first_at"], at), max(counted["last_at"], at)
                concerned[key] |= {data.case} if data.case else set()
                counted["cases"] = len(concerned[key])
    items = [one for _, one in sorted(found.items(), key=lambda each: (-each[1]["count"], each[0]))]
    return RefusalsView(position=report.cut.position, items=items)


# What they share.


def of_case(history: Sequence[Recorded]) -> OfCaseView:
    first = history[0]
    number = first.data.number if isinstance(first.data, Opened) else 0
    return {"case": first.event.chain.removeprefix("case:"), "number": case_number_text(number)}


def approvals_view(payment: Payment) -> list[GivenView]:
    return [{"by": one.by, "roles": list(one.roles), "at": one.at} for one in payment.approvals]


# By name, for the command line.
REPORTS: dict[str, Callable[[Report], Awaitable[ReportView]]] = {
    "duties": duties_in,
    "near-tiers": near_tiers_in,
    "overrides": overrides_in,
    "voided-approvals": voided_approvals_in,
    "refusals": refusals_in,
}


def asked(name: str, said: dict[str, Any]) -> ReportQuery:
    """What these parameters ask for. Raises BadInput."""
    try:
        return (NearTiersQuery if name == "near-tiers" else ReportQuery).model_validate(said)
    except ValidationError as invalid:
        raise BadInput(*field_errors(invalid)) from invalid
