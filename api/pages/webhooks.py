"""Admin: systems that follow the desk, their secrets, and what each was sent."""

from contextlib import suppress
from http import HTTPStatus
from urllib.parse import quote, urlsplit

from starlette.responses import RedirectResponse, Response

from api import webhooks as api
from api.pages.admin import Failure, admin_page
from api.pages.reading import read_as
from api.pages.routing import PageCall, Pages
from storage import webhooks
from storage.submissions import Receipt
from workflow.errors import BadInput, NotFound, Refused
from workflow.roles import ADMINS
from workflow.webhooks import TYPES, PingWebhook, RemoveWebhook, RotateWebhookSecret, Webhook

pages = Pages()

HERE = "/admin/webhooks"
AT = f"{HERE}/{{webhook_id}}"


@pages.get(HERE, ADMINS)
async def everything(call: PageCall) -> Response:
    return await show_all(call)


async def show_all(call: PageCall, failure: Failure | None = None) -> Response:
    now = call.desk.clock()
    found = (await webhooks.endpoints(call.desk.database)).endpoints
    shown = [api.webhook_view(one, now) for one in found]
    return await admin_page(call, "admin_webhooks.html", HERE, failure, webhooks=shown, types=TYPES)


@pages.post(HERE, ADMINS)
async def add(call: PageCall) -> Response:
    """The secret is shown in this answer alone; the same form again gives the same."""
    try:
        given = read_as(
            api.WebhookIn,
            url=call.field("url"),
            types=call.form.getlist("types"),
            description=call.field("description"),
        )
        await api.require_reachable(call, given.url)
        receipt = await call.desk.submit(call, api.new_webhook(given))
    except (BadInput, Refused) as failure:
        return await show_all(call, failure)
    return await show_secret(call, receipt)


async def show_secret(call: PageCall, receipt: Receipt) -> Response:
    one, secret = api.with_secret(call, receipt)
    return await show_one(call, one, secret=secret)


@pages.get(AT, ADMINS)
async def one(call: PageCall, webhook_id: str) -> Response:
    return await show_one(call, await api.one_of(call, webhook_id))


async def show_one(call: PageCall, one: Webhook, failure: Failure | None = None, *, secret: str = "") -> Response:
    query = read_as(api.DeliveryQuery, cursor=call.request.query_params.get("cursor"))
    sent = await api.deliveries_of(call, one.id, query)
    return await admin_page(
        call,
        "admin_webhook.html",
        HERE,
        failure,
        status=HTTPStatus.CREATED if secret else HTTPStatus.OK,
        webhook=api.webhook_view(one, call.desk.clock()),
        host=urlsplit(one.url).netloc,
        secret=secret,
        types=TYPES,
        deliveries=sent["items"],
        earlier=sent["next"],
    )


@pages.post(AT, ADMINS)
async def change(call: PageCall, webhook_id: str) -> Response:
    known = await api.one_of(call, webhook_id)
    try:
        given = read_as(
            api.WebhookChangeIn,
            url=call.field("url"),
            types=call.form.getlist("types"),
            description=call.field("description"),
            active=call.field("active") == "yes",
        )
        if given.active:
            await api.require_reachable(call, given.url)
        await call.desk.submit(call, api.changing(webhook_id, given))
    except (BadInput, Refused) as failure:
        return await show_one(call, known, failure)
    return to_webhook(webhook_id, "webhook")


def to_webhook(webhook_id: str, done: str) -> Response:
    return RedirectResponse(f"{HERE}/{quote(webhook_id, safe='')}?done={done}", HTTPStatus.SEE_OTHER)


@pages.post(f"{AT}/secrets", ADMINS)
async def rotate(call: PageCall, webhook_id: str) -> Response:
    return await show_secret(call, await call.desk.submit(call, RotateWebhookSecret(webhook_id=webhook_id)))


@pages.post(f"{AT}/pings", ADMINS)
async def ping(call: PageCall, webhook_id: str) -> Response:
    known = await api.one_of(call, webhook_id)
    try:
        await call.desk.submit(call, PingWebhook(webhook_id=webhook_id))
    except (BadInput, Refused) as failure:
        return await show_one(call, known, failure)
    return to_webhook(webhook_id, "ping")


@pages.post(f"{AT}/removal", ADMINS)
async def remove(call: PageCall, webhook_id: str) -> Response:
    """That it is gone already is just as well."""
    with suppress(NotFound):
        await call.desk.submit(call, RemoveWebhook(webhook_id=webhook_id))
    return RedirectResponse(f"{HERE}?done=unfollowed", HTTPStatus.SEE_OTHER)
