"""Systems that follow the desk, over HTTP: an admin's endpoints, their secrets, and what each was sent."""

import secrets
from datetime import datetime
from typing import Annotated, Any, NotRequired

from fastapi import APIRouter, Query
from pydantic import Field, model_validator
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api.errors import documented
from api.network import Unreachable
from api.routing import Answer, Call, DeskRoute, PutCall, ReadCall, Rules, WriteCall, reads, ruled
from api.webhook_delivery import secret_of, webhook_id_of
from storage import webhooks
from storage.submissions import Receipt
from storage.webhooks import Delivery, Stretch
from workflow.errors import NotFound, bad_field
from workflow.events import WebhookAdded
from workflow.roles import ADMINS, AUDITORS
from workflow.webhooks import (
    MAX_URL_CHARACTERS,
    TYPES,
    AddWebhook,
    ChangeWebhook,
    PingWebhook,
    RemoveWebhook,
    ReplayWebhook,
    RotateWebhookSecret,
    Webhook,
    fault_of,
    known,
    webhook_type_of,
)

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=DeskRoute)
WRITTEN = documented(404, 409, 413, 415, 422)


class WebhookView(TypedDict):
    """Until `previous_secret_until`, the secret before this generation signs as well.

    `reason` says why the desk itself has switched it off: `gone`, because the other side said so (410).
    """

    id: str
    url: str
    types: list[str]
    description: str
    active: bool
    reason: str
    added_at: datetime
    secret_generation: int
    previous_secret_until: datetime | None


class NewWebhookView(WebhookView):
    """`secret` is in this answer alone; it is kept nowhere."""

    secret: str


class WebhooksView(TypedDict):
    items: list[WebhookView]
    types: list[str]


def webhook_view(one: Webhook, now: datetime) -> WebhookView:
    overlaps = one.retiring is not None and one.retiring.until > now
    return {
        "id": one.id,
        "url": one.url,
        "types": [*one.types],
        "description": one.description,
        "active": one.active,
        "reason": one.reason,
        "added_at": one.added_at,
        "secret_generation": one.generation,
        "previous_secret_until": one.retiring.until if one.retiring and overlaps else None,
    }


@router.get("", response_model=WebhooksView, responses=documented())
@reads(ADMINS | AUDITORS)
async def list_webhooks(call: ReadCall) -> Response:
    """Every endpoint, and what there is to hear of."""
    found = (await webhooks.endpoints(call.desk.database)).endpoints
    now = call.desk.clock()
    return Answer(WebhooksView(items=[webhook_view(one, now) for one in found], types=[*TYPES]))


Url = Annotated[i.Line, Field(max_length=MAX_URL_CHARACTERS, json_schema_extra={"format": "uri"})]


class WebhookIn(i.Input):
    url: Url
    types: Annotated[list[str], Field(min_length=1, max_length=100, description="of those that GET lists")]
    description: i.Text = ""


class WebhookChangeIn(WebhookIn):
    active: Annotated[bool, Field(strict=True)]


@router.post("", status_code=201, response_model=NewWebhookView, responses=documented(409, 413, 415, 422))
@ruled(Rules(roles=ADMINS, command=AddWebhook))
async def add_webhook(call: WriteCall, body: WebhookIn) -> Response:
    """An endpoint that hears of these types from now on. Its URL has to lead to a public address, over TLS."""
    await require_reachable(call, body.url)
    receipt = await call.desk.submit(call, new_webhook(body))
    return answer_with_secret(call, receipt)


def new_webhook(given: WebhookIn) -> AddWebhook:
    return AddWebhook(
        webhook_id=f"wh_{secrets.token_hex(8)}",
        url=given.url,
        types=tuple(given.types),
        description=given.description,
    )


async def require_reachable(call: Call, url: str) -> None:
    """Raises BadInput. It is looked at again whenever something is sent."""
    if (fault := fault_of(url)) is not None:
        raise bad_field("url", fault)
    try:
        await call.desk.network.addresses(url)
    except Unreachable as refused:
        raise bad_field("url", str(refused)) from refused


def answer_with_secret(call: Call, receipt: Receipt) -> Answer:
    one, secret = with_secret(call, receipt)
    view = NewWebhookView(**webhook_view(one, call.desk.clock()), secret=secret)
    return Answer(view, 201, headers_of(receipt) | {"cache-control": "no-store"})


def with_secret(call: Call, receipt: Receipt) -> tuple[Webhook, str]:
    """The endpoint whose secret is new, and that secret."""
    data: Any = receipt.events[0].data
    generation = 1 if isinstance(data, WebhookAdded) else data.generation
    return changed_in(receipt, data.webhook), secret_of(call.desk, data.webhook, generation)


def changed_in(receipt: Receipt, webhook_id: str) -> Webhook:
    if receipt.webhooks is None:
        raise NotFound("webhook")
    return known(receipt.webhooks, webhook_id)


def headers_of(receipt: Receipt) -> dict[str, str]:
    proof = receipt.audit_receipt
    return {"audit-receipt": proof} if proof else {}


@router.get("/{webhook_id}", response_model=WebhookView, responses=documented(404))
@reads(ADMINS | AUDITORS)
async def read_webhook(call: ReadCall, webhook_id: str) -> Response:
    """One endpoint, without its secret."""
    return Answer(webhook_view(await one_of(call, webhook_id), call.desk.clock()))


async def one_of(call: Call, webhook_id: str) -> Webhook:
    """Raises NotFound."""
    return known(await webhooks.endpoints(call.desk.database), webhook_id)


@router.put("/{webhook_id}", response_model=WebhookView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=ChangeWebhook))
async def change_webhook(call: PutCall, webhook_id: str, body: WebhookChangeIn) -> Response:
    """Everything as it shall be. What is on its way already goes where the endpoint is then."""
    await one_of(call, webhook_id)
    if body.active:
        await require_reachable(call, body.url)
    receipt = await call.desk.submit(call, changing(webhook_id, body))
    return Answer(webhook_view(changed_in(receipt, webhook_id), call.desk.clock()), 200, headers_of(receipt))


def changing(webhook_id: str, given: WebhookChangeIn) -> ChangeWebhook:
    return ChangeWebhook(
        webhook_id=webhook_id,
        url=given.url,
        types=tuple(given.types),
        active=given.active,
        description=given.description,
    )


@router.delete("/{webhook_id}", status_code=204, response_model=None, responses=documented(404, 409))
@ruled(Rules(roles=ADMINS, command=RemoveWebhook))
async def remove_webhook(call: PutCall, webhook_id: str) -> Response:
    """It hears of nothing any more, not even of what is on its way."""
    receipt = await call.desk.submit(call, RemoveWebhook(webhook_id=webhook_id))
    return Response(status_code=204, headers=headers_of(receipt))


@router.post("/{webhook_id}/secrets", status_code=201, response_model=NewWebhookView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=RotateWebhookSecret))
async def rotate_secret(call: WriteCall, webhook_id: str) -> Response:
    """A new secret signs from now on, and for 24 hours the one before signs beside it."""
    return answer_with_secret(call, await call.desk.submit(call, RotateWebhookSecret(webhook_id=webhook_id)))


class PingView(TypedDict):
    """`receipt` is that of the event that is being told."""

    receipt: str


@router.post("/{webhook_id}/pings", status_code=201, response_model=PingView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=PingWebhook))
async def ping(call: WriteCall, webhook_id: str) -> Response:
    """Sends `casework.ping`, which says nothing: what became of it stands among the deliveries."""
    receipt = await call.desk.submit(call, PingWebhook(webhook_id=webhook_id))
    return Answer(PingView(receipt=str(receipt.audit_receipt)), 201, headers_of(receipt))


class DeliveryQuery(i.Input):
    limit: int = Field(default=50, ge=1, le=200)
    cursor: int | None = Field(default=None, ge=1, le=2**53)


class AttemptView(TypedDict):
    """One that failed. `code` is stable, such as `http_500`, `timed_out` or `certificate_refused`."""

    at: datetime
    code: str


class DeliveryView(TypedDict):
    """`status` is waiting, done, withheld, dead or cancelled. `due_at` is the next attempt; `settled_at` the last."""

    id: int
    webhook_id: str
    type: str
    receipt: str
    case: str | None
    at: datetime
    status: str
    attempts: int
    failed: list[AttemptView]
    due_at: NotRequired[datetime]
    settled_at: NotRequired[datetime]


class DeliveryListView(TypedDict):
    items: list[DeliveryView]
    next: int | None


@router.get("/{webhook_id}/deliveries", response_model=DeliveryListView, responses=documented(404, 422))
@reads(ADMINS | AUDITORS)
async def list_deliveries(call: ReadCall, webhook_id: str, query: Annotated[DeliveryQuery, Query()]) -> Response:
    """What it was sent or is yet to be sent, newest first, with the latest failed attempts at each.

    What was settled long ago is no longer listed; the log has it as events of the type `effect_settled`.
    """
    await one_of(call, webhook_id)
    return Answer(await deliveries_of(call, webhook_id, query))


async def deliveries_of(call: Call, webhook_id: str, query: DeliveryQuery) -> DeliveryListView:
    found = await webhooks.deliveries(call.desk.database, webhook_id, query.cursor, query.limit + 1)
    log = (await call.desk.directory()).log
    shown = found[: query.limit]
    following = shown[-1].effect.id if len(found) > query.limit else None
    return DeliveryListView(items=[delivery_view(one, log) for one in shown], next=following)


def delivery_view(one: Delivery, log: str) -> DeliveryView:
    effect, event = one.effect, one.recorded.event
    view: DeliveryView = {
        "id": effect.id,
        "webhook_id": webhook_id_of(log, effect),
        "type": webhook_type_of(one.recorded) or event.type,
        "receipt": f"{event.chain}/{event.seq}/{one.recorded.hash}",
        "case": event.chain.removeprefix("case:") if event.chain.startswith("case:") else None,
        "at": one.recorded.at,
        "status": effect.status,
        "attempts": effect.fence,
        "failed": [{"at": failed.at, "code": failed.code} for failed in effect.attempts],
    }
    if effect.status == "waiting":
        view["due_at"] = effect.due_at
    else:
        view["settled_at"] = effect.due_at
    return view


class ReplayIn(i.Input):
    """One of both: the position of the last event that the receiver has, or a time."""

    after: Annotated[int, Field(ge=0, le=2**53)] | None = None
    since: i.Moment | None = Field(default=None, alias="from")

    @model_validator(mode="after")
    def one_of_both(self) -> "ReplayIn":
        if (self.after is None) == (self.since is None):
            raise ValueError("give either after or from")
        return self


class ReplayView(TypedDict):
    """So many events after one position through another are sent again; `next` is the `after` of what remains."""

    deliveries: int
    after: int
    through: int
    next: int | None


@router.post("/{webhook_id}/replays", status_code=201, response_model=ReplayView, responses=WRITTEN)
@ruled(Rules(roles=ADMINS, command=ReplayWebhook))
async def replay(call: WriteCall, webhook_id: str, body: ReplayIn) -> Response:
    """Sends again what it hears of and happened since, at most 1000 events at once.

    Each keeps the `webhook-id` that it had or would have had, so that the receiver can tell what it knows already.
    """
    webhook = await one_of(call, webhook_id)
    stretch = await stretch_of(call, webhook, body)
    command = ReplayWebhook(webhook_id=webhook_id, after=stretch.after, through=stretch.through, places=stretch.places)
    receipt = await call.desk.submit(call, command)
    data: Any = receipt.events[0].data
    # By what was recorded alone, so that the same request is told the same again, whatever has happened since.
    goes_on = webhooks.is_cut_short(data.after, data.through, data.deliveries)
    view = ReplayView(
        deliveries=data.deliveries, after=data.after, through=data.through, next=data.through if goes_on else None
    )
    return Answer(view, 201, headers_of(receipt))


async def stretch_of(call: Call, webhook: Webhook, given: ReplayIn) -> Stretch:
    await call.desk.sequencer.catch_up()
    return await webhooks.heard(call.desk.database, webhook, given.after or 0, given.since)
