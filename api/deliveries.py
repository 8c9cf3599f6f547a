"""What has left the desk or still has to (letters, invitations, payments, webhooks), and what people do about it."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api.carrying_out import answer_nothing
from api.desk import Desk
from api.errors import documented
from api.feed import PageQuery
from api.routing import Answer, Call, DeskRoute, ReadCall, Rules, WriteCall, reads, ruled
from storage import cases, outbox
from storage.outbox import Effect
from workflow.cases import chain_of
from workflow.effects import EffectKind
from workflow.errors import NotFound, bad_field
from workflow.events import EffectRetried, EffectSettled
from workflow.roles import ADMINS, READERS, Actor
from workflow.settling import ANY_HANDLER, WAITING, CancelEffect, RetryEffect

router = APIRouter(prefix="/v1/deliveries", tags=["deliveries"], route_class=DeskRoute)

WATCHERS = READERS | ADMINS
WRITTEN = documented(404, 409, 413, 415, 422)


class AttemptView(TypedDict):
    """One that did not succeed. `code` is stable, `detail` what the other side said."""

    at: datetime
    code: str
    detail: str


class DeliveryView(TypedDict):
    """`about` is the event that asks for it, `case` the case's id if it is one's; `key` is what the other side sees.

    `due_at` is when it is tried (again), while `status` is `waiting`; `dead` needs somebody to look at it.
    """

    id: int
    kind: EffectKind
    status: str
    case: str | None
    about: str
    target: str
    key: str
    at: datetime
    due_at: datetime | None
    failures: int
    attempts: list[AttemptView]


class DeliveryOrderView(TypedDict):
    """What somebody has ordered, as the log has it; what comes of it the delivery itself shows."""

    id: int
    status: str
    kind: EffectKind
    about: str
    by: str
    at: str
    receipt: str


class DeliveryListView(TypedDict):
    items: list[DeliveryView]
    next: int | None


class DeliveriesQuery(PageQuery):
    status: Literal["waiting", "done", "withheld", "dead", "cancelled"] | None = None
    kind: EffectKind | None = None
    case: i.Identifier | None = Field(default=None, description="its id, or its number such as C-1042")


@router.get("", response_model=DeliveryListView, responses=documented(422))
@reads(WATCHERS)
async def list_deliveries(call: ReadCall, query: Annotated[DeliveriesQuery, Query()]) -> Response:
    """Newest first. What was settled leaves the list after 30 days; the log keeps what became of it."""
    return Answer(await deliveries(call, query))


async def deliveries(call: Call, query: DeliveriesQuery) -> DeliveryListView:
    """Raises BadInput for a case that there is not."""
    database = call.desk.database
    case_id = await cases.find(database, query.case) if query.case is not None else None
    if query.case is not None and case_id is None:
        raise bad_field("case", "is no case of this desk")
    found = await outbox.listed(
        database,
        status=query.status,
        kind=query.kind,
        chain=chain_of(case_id) if case_id else None,
        before=query.cursor,
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    following = page[-1].id if len(found) > query.limit else None
    return DeliveryListView(items=[delivery_view(one) for one in page], next=following)


@router.get("/{delivery_id}", response_model=DeliveryView, responses=documented(404))
@reads(WATCHERS)
async def read_delivery(call: ReadCall, delivery_id: str) -> Response:
    """One of them, with the latest attempts."""
    return Answer(delivery_view(await delivery(call.desk, delivery_id)))


@router.post("/{delivery_id}/retries", status_code=201, response_model=DeliveryOrderView, responses=WRITTEN)
@ruled(Rules(roles=ANY_HANDLER, command=RetryEffect))
async def retry(call: WriteCall, delivery_id: str, body: i.ReasonIn) -> Response:
    """Try it again now, under the same key: what the other side has done already it does not do again."""
    effect = (await delivery(call.desk, delivery_id)).id
    return await ordered(call, RetryEffect(effect=effect, reason=body.reason))


@router.post("/{delivery_id}/cancellation", status_code=201, response_model=DeliveryOrderView, responses=WRITTEN)
@ruled(Rules(roles=ANY_HANDLER, command=CancelEffect))
async def cancel(call: WriteCall, delivery_id: str, body: i.ReasonIn) -> Response:
    """Give it up. What has left already cannot be called back."""
    effect = await delivery(call.desk, delivery_id)
    response = await ordered(call, CancelEffect(effect=effect.id, reason=body.reason))
    await answer_nothing(call.desk, effect, "called off")
    return response


async def ordered(call: WriteCall, command: RetryEffect | CancelEffect) -> Response:
    receipt = await call.desk.submit(call, command)
    (done,) = receipt.events
    event, told = done.event, done.data
    if not isinstance(told, EffectSettled | EffectRetried):
        raise NotFound("delivery")
    view = DeliveryOrderView(
        id=command.effect,
        status=told.outcome if isinstance(told, EffectSettled) else WAITING,
        kind=EffectKind(told.kind),
        about=f"{told.chain}/{told.seq}",
        by=event.actor,
        at=event.at,
        receipt=f"{event.chain}/{event.seq}/{done.hash}",
    )
    return Answer(view, 201, {"audit-receipt": view["receipt"]})


async def delivery(desk: Desk, delivery_id: str) -> Effect:
    """Raises NotFound."""
    found = await outbox.one(desk.database, delivery_id)
    if found is None:
        raise NotFound("delivery")
    return found


COUNTED = 99


async def count(desk: Desk, _: Actor) -> str:
    """How many failed for good and nobody has looked at, in few characters; empty for none."""
    number = await outbox.count_dead(desk.database, COUNTED + 1)
    return f"{COUNTED}+" if number > COUNTED else f"{number or ''}"


def delivery_view(effect: Effect) -> DeliveryView:
    own = chain_of("")
    return {
        "id": effect.id,
        "kind": effect.kind,
        "status": effect.status,
        "case": effect.chain.removeprefix(own) if effect.chain.startswith(own) else None,
        "about": f"{effect.chain}/{effect.seq}",
        "target": effect.target,
        "key": effect.key,
        "at": effect.at,
        "due_at": effect.due_at if effect.status == "waiting" else None,
        "failures": effect.failures,
        "attempts": [{"at": one.at, "code": one.code, "detail": one.detail} for one in effect.attempts],
    }
