"""The policy over HTTP: its versions, a decision for given facts, and the route by which an admin adds a version."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api import views as v
from api.errors import documented
from api.routing import Answer, DeskRoute, ReadCall, Rules, WriteCall, reads, ruled
from workflow.desk import AddPolicy
from workflow.errors import BadInput, FieldError, bad_field
from workflow.events import PolicyAdded
from workflow.policy import (
    Category,
    Facts,
    GroundFacts,
    GroundKind,
    PolicyVersion,
    PurchaseFacts,
    Settings,
    evaluate,
    version_in_force,
)
from workflow.roles import ADMINS, EVERYONE

router = APIRouter(prefix="/v1/policy", tags=["policy"], route_class=DeskRoute)


class ClauseView(TypedDict):
    id: str
    text: str


class PolicyView(TypedDict):
    version: int
    effective_from: datetime | None
    in_force: bool
    settings: dict[str, Any]
    clauses: list[ClauseView]


class PoliciesView(TypedDict):
    items: list[PolicyView]


def policy_view(version: PolicyVersion, in_force: PolicyVersion) -> PolicyView:
    return {
        "version": version.version,
        "effective_from": version.effective_from,
        "in_force": version.version == in_force.version,
        "settings": settings_view(version.settings),
        "clauses": [{"id": one.id, "text": one.text} for one in version.clauses],
    }


def settings_view(settings: Settings) -> dict[str, Any]:
    """All of them: a version that was recorded before there was such a setting has its default."""
    return {**msgspec.to_builtins(settings), "retention_days": settings.kept_days}


@router.get("", response_model=PoliciesView, responses=documented())
@reads(EVERYONE)
async def list_policies(call: ReadCall) -> Response:
    """Every version that was ever in force or will be, oldest first."""
    policies = (await call.desk.directory()).policies
    current = version_in_force(policies, call.desk.clock())
    return Answer(PoliciesView(items=[policy_view(one, current) for one in policies]))


class PurchaseFactsIn(i.Input):
    paid: i.MoneyIn
    purchased_at: i.Moment
    service_started_at: i.Moment | None = None
    deliverables_provided_at: i.Moment | None = None
    reference: i.Line | None = None
    package: i.Line | None = None


class GroundFactsIn(i.Input):
    kind: GroundKind
    verified: Annotated[bool, Field(strict=True)]
    affected: i.MoneyIn
    refunded: i.MoneyIn | None = None


class FactsIn(i.Input):
    requested_at: i.Moment
    category: Category
    timezone: i.Text | None = None
    purchase: PurchaseFactsIn | None
    refunded: i.MoneyIn | None = None
    grounds: Annotated[list[GroundFactsIn], Field(max_length=1000)] = Field(default_factory=list)

    @property
    def facts(self) -> Facts:
        purchase = self.purchase
        return Facts(
            requested_at=self.requested_at,
            category=self.category,
            purchase=PurchaseFacts(
                paid=purchase.paid.money,
                purchased_at=purchase.purchased_at,
                service_started_at=purchase.service_started_at,
                deliverables_provided_at=purchase.deliverables_provided_at,
            )
            if purchase
            else None,
            refunded=self.refunded.money if self.refunded else None,
            grounds=tuple(
                GroundFacts(
                    kind=ground.kind,
                    verified=ground.verified,
                    affected=ground.affected.money,
                    refunded=ground.refunded.money if ground.refunded else None,
                )
                for ground in self.grounds
            ),
        )


@router.post("/evaluate", response_model=v.DecisionView, responses=documented(413, 415, 422))
@reads(EVERYONE)
async def evaluate_facts(call: ReadCall, body: FactsIn) -> Response:
    """What the policy says of these facts; nothing is recorded."""
    policies = (await call.desk.directory()).policies
    moment = body.purchase.purchased_at if body.purchase else body.requested_at
    decision = evaluate(body.facts, version_in_force(policies, moment), body.timezone)
    return Answer(v.decision_view(decision))


class PolicyIn(i.Input):
    """`settings` replace the numbers of the version in force; what is not named stays as it is."""

    settings: dict[str, Any]
    effective_from: i.Moment | None = Field(default=None, description="now, if absent; never earlier")


@router.post("", status_code=201, response_model=PolicyView, responses=documented(409, 413, 415, 422))
@ruled(Rules(roles=ADMINS, command=AddPolicy))
async def add_policy(call: WriteCall, body: PolicyIn) -> Response:
    """Add a version, in force from now at the earliest."""
    call.desk.forget_directory()
    policies = (await call.desk.directory()).policies
    command = policy_command(policies, body.settings, body.effective_from, call.desk.clock())
    receipt = await call.desk.submit(call, command)
    call.desk.forget_directory()
    policies = (await call.desk.directory()).policies
    added = next(one.version for event in receipt.events if isinstance(one := event.data, PolicyAdded))
    view = policy_view(added, version_in_force(policies, call.desk.clock()))
    return Answer(view, 201, {"audit-receipt": str(receipt.audit_receipt)})


def policy_command(
    policies: tuple[PolicyVersion, ...], changes: dict[str, Any], effective_from: datetime | None, now: datetime
) -> AddPolicy:
    """From the settings that change. Raises BadInput naming those that make no sense."""
    current = msgspec.to_builtins(version_in_force(policies, now).settings)
    known = Settings.__struct_fields__
    unknown = [FieldError(field=f"settings.{name}", message="is no setting") for name in changes if name not in known]
    if unknown:
        raise BadInput(*unknown)
    try:
        settings = msgspec.convert(current | changes, Settings)
    except msgspec.ValidationError as invalid:
        message, _, place = str(invalid).partition(" - at ")
        raise bad_field("settings" + place.strip("`").removeprefix("$"), message) from invalid
    return AddPolicy(settings=settings, effective_from=effective_from)
