"""What other systems tell the desk, signed or not believed: how a refund ended, that a compensation was granted."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import StringConstraints, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api.errors import documented_alone
from api.payments import NotSigned
from api.payouts import record
from api.routing import Answer, Call, DeskRoute, Rules, SignedCall, field_errors, read_stream, ruled
from storage import cases
from workflow.commands import Fire, IssueCompensationData
from workflow.errors import BadInput, NotFound, Refused
from workflow.roles import SYSTEMS
from workflow.states import Trigger

router = APIRouter(prefix="/v1", tags=["payments"], route_class=DeskRoute)

MAX_BYTES = 256_000  # of a message; Stripe's have some thousands
GRANTING = "granting"

# Nobody is asked who they are: the signature says it.
SIGNED = Rules(roles=SYSTEMS, is_open=lambda _: True)


def signed_body(schema: dict[str, Any], *headers: str) -> dict[str, Any]:
    """For OpenAPI: read as it came, since it is the very bytes that are signed."""
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "parameters": [
            {"name": one, "in": "header", "required": True, "schema": {"type": "string"}} for one in headers
        ],
    }


class HeardView(TypedDict):
    """How many payments of the desk the message was about."""

    payments: int


@router.post(
    "/payments/stripe",
    response_model=HeardView,
    responses=documented_alone(400, 404, 413, 503),
    openapi_extra=signed_body({"type": "object"}, "Stripe-Signature"),
)
@ruled(SIGNED)
async def hear_stripe(call: SignedCall) -> Response:
    """Stripe's messages about refunds, which it repeats, delays and sends in any order.

    They only say where to look: what is recorded is what Stripe answers when it is asked then. What the desk has not
    asked for is left for `casework reconcile`.
    """
    desk, provider = call.desk, call.desk.payments
    if provider is None or provider.name != "stripe" or not desk.settings.stripe_webhook_secret:
        raise NotFound("payment provider")
    body = await read_stream(call.request, MAX_BYTES)
    log_name = (await desk.directory()).log
    told = await provider.announced(body, call.request.headers.get("stripe-signature", ""))
    own = [one for one in told if one.log == log_name]
    for one in own:
        await record(desk, one, via="api")
    return Answer(HeardView(payments=len(own)))


# Compensations.

Reference = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=100, pattern=i.NO_ADDRESS), i.Storable
]


class ConfirmationIn(i.Input):
    """`reference` is what the granting system knows it by; it stays in the log, so nothing that names somebody."""

    case: i.Identifier
    proposal: i.Identifier
    reference: Annotated[Reference, i.AfterValidator(i.not_blank)]


class ConfirmationView(TypedDict):
    case: str
    proposal: str
    reference: str


CONFIRMATION: TypeAdapter[ConfirmationIn] = TypeAdapter(ConfirmationIn)


@router.post(
    "/compensations/confirmations",
    response_model=ConfirmationView,
    responses=documented_alone(400, 404, 409, 413, 422, 503),
    openapi_extra=signed_body(
        ConfirmationIn.model_json_schema(), "webhook-id", "webhook-timestamp", "webhook-signature"
    ),
)
@ruled(SIGNED)
async def confirm_compensation(call: SignedCall) -> Response:
    """A system that grants credits, services or discounts says that it has: the case is compensation_issued then.

    Signed as Standard Webhooks has it, with CASEWORK_GRANTING_SECRET. The same again is answered the same.
    """
    secret = call.desk.settings.granting_secret
    if secret is None:
        raise NotFound("granting system")
    body = await read_stream(call.request, MAX_BYTES)
    verify(body, call.request, secret.get_secret_value())
    try:
        told = CONFIRMATION.validate_json(body)
    except ValidationError as invalid:
        raise BadInput(*field_errors(invalid)) from invalid
    await grant(call, told)
    return Answer(ConfirmationView(case=told.case, proposal=told.proposal, reference=told.reference))


def verify(body: bytes, request: Request, secret: str) -> None:
    """Raises NotSigned."""
    from standardwebhooks import Webhook, WebhookVerificationError  # noqa: PLC0415 - only where something is granted

    try:
        Webhook(secret).verify(body, dict(request.headers), json_parse=False)
    except (WebhookVerificationError, ValueError) as wrong:
        raise NotSigned("the message is not signed by the granting system, or too old") from wrong


async def grant(call: Call, told: ConfirmationIn) -> None:
    """A repeated message finds what the first one did. Raises what `decide` does."""
    data = IssueCompensationData(proposal=told.proposal, confirmation=told.reference)
    command = Fire(trigger=Trigger.ISSUE_COMPENSATION, reason="the granting system confirms it", data=data)
    if await is_granted(call, told):
        return
    try:
        await call.desk.submit_as_system(GRANTING, command, told.case, via="api")
    except Refused:
        if not await is_granted(call, told):  # by the same message at the same moment
            raise


async def is_granted(call: Call, told: ConfirmationIn) -> bool:
    """Raises NotFound."""
    entry = await cases.one(call.desk.database, told.case)
    if entry is None:
        raise NotFound("case")
    return any((one.proposal, one.confirmation) == (told.proposal, told.reference) for one in entry.case.remedies)
