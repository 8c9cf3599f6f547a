"""The page of what has left the desk or still has to: what failed first, and what can be done about it."""

import secrets
from http import HTTPStatus
from typing import Any

from starlette.responses import RedirectResponse, Response

from api.carrying_out import answer_nothing
from api.deliveries import WATCHERS, DeliveriesQuery, DeliveryView, deliveries, delivery
from api.inputs import ReasonIn
from api.pages.audit_frame import asked, names_of_people, read, told_of
from api.pages.frame import desk_page
from api.pages.routing import PageCall, Pages
from storage import cases
from workflow.cases import case_number_text
from workflow.errors import BadInput, Refused
from workflow.events import EffectOutcome
from workflow.settling import ANY_HANDLER, HANDLERS, CancelEffect, RetryEffect

pages = Pages()

HERE = "/deliveries"
TABS = (
    ("Failed", "dead"),
    ("Waiting", "waiting"),
    ("Delivered", "done"),
    ("Withheld", "withheld"),
    ("Called off", "cancelled"),
    ("All", "all"),
)
WAYS = {"retries": RetryEffect, "cancellation": CancelEffect}


@pages.get(HERE, WATCHERS)
async def list_deliveries(call: PageCall) -> Response:
    """What failed, unless something else is asked for."""
    return await listing(call)


async def listing(call: PageCall, status: int = 200, *, number: int = 0, reasons: list[str] | None = None) -> Response:
    """`reasons` are why nothing was done about the delivery `number`."""
    chosen = call.request.query_params.get("status", "dead")
    query = asked(DeliveriesQuery, call).model_copy(update={"status": None if chosen == "all" else chosen})
    found = await deliveries(call, query)
    about = {one["case"] for one in found["items"] if one["case"]}
    numbers = {one: case_number_text(await cases.number_of(call.desk.database, one)) for one in about}
    following = call.request.url.include_query_params(cursor=found["next"]) if found["next"] else None
    response = await desk_page(
        call,
        "deliveries.html",
        here=HERE,
        tabs=[{"text": text, "url": f"{HERE}?status={name}", "here": name == chosen} for text, name in TABS],
        chosen=chosen,
        items=[row_of(call, one) for one in found["items"]],
        numbers=numbers,
        names=await names_of_people(call),
        more=f"{HERE}?{following.query}" if following else "",
        now=call.desk.clock(),
        key=secrets.token_hex(16),
        wrong=number,
        reasons=reasons or [],
        typed=call.field("reason"),
    )
    response.status_code = status
    return response


def row_of(call: PageCall, view: DeliveryView) -> dict[str, Any]:
    may = call.caller.actor.may(HANDLERS[view["kind"]])
    is_open = view["status"] in {"waiting", EffectOutcome.DEAD}
    return {
        **view,
        "retried": may and view["status"] != EffectOutcome.DONE,
        "cancelled": may and is_open,
        "last": view["attempts"][-1] if view["attempts"] else None,
    }


@pages.post(f"{HERE}/{{delivery_id}}/{{way}}", ANY_HANDLER)
async def order(call: PageCall, delivery_id: str, way: str) -> Response:
    """Have it tried again, or give it up."""
    found = await delivery(call.desk, delivery_id if way in WAYS else "")
    try:
        reason = call.field("reason")
        if call.caller.actor.may(HANDLERS[found.kind]):  # the ledger refuses the rest, and records that
            reason = read(ReasonIn, {"reason": reason}).reason
        await call.desk.submit(call, WAYS[way](effect=found.id, reason=reason))
        if way == "cancellation":
            await answer_nothing(call.desk, found, "called off")
    except (BadInput, Refused) as failure:
        status, reasons = told_of(failure, call)
        return await listing(call, status, number=found.id, reasons=reasons)
    return RedirectResponse(f"{HERE}?status={call.field('status') or 'dead'}", HTTPStatus.SEE_OTHER)
