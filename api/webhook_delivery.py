"""Tells an endpoint of one event: CloudEvents 1.0 in JSON, signed as Standard Webhooks has it, to a checked address.

https://www.standardwebhooks.com and https://github.com/cloudevents/spec (v1.0.2, structured mode).
"""

import asyncio
import base64
import hashlib
import hmac
from contextlib import suppress
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from api.carrying_out import Done, Failed, Needless, NotYet, Result
from api.network import Unreachable
from storage import cases, webhooks
from storage.outbox import Effect
from workflow.errors import NotFound
from workflow.webhooks import DisableWebhook, Webhook, case_told_of, told, webhook_type_of

if TYPE_CHECKING:
    from api.desk import Desk

ANSWER_SECONDS = 15.0  # for all of it: from looking the name up to the head of the answer
SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(hours=1)
# However soon it is asked for, the first time and each time after that.
AT_LEAST = tuple(timedelta(seconds=seconds) for seconds in (1, 5, 15, 30, 60))
PATIENCE = timedelta(days=3)  # with who asks for later again and again; after that it counts as a failure

MEDIA_TYPE = "application/cloudevents+json; charset=utf-8"
USER_AGENT = "Casework-Webhooks/1.0"
BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


async def deliver(desk: "Desk", effect: Effect) -> Result:
    """One attempt. The other side knows a second one by its `webhook-id`."""
    from api.webhook_post import Unanswered, post  # noqa: PLC0415 - 3 MB that a desk without endpoints need not load

    webhook = (await webhooks.endpoints(desk.database)).one(effect.target)
    if webhook is None:
        return Needless(code="webhook_removed")
    if not webhook.active:
        return Needless(code="webhook_disabled")
    if not desk.settings.secret:
        return Failed(code="secret_key_missing")
    body = await message(desk, effect)
    headers = signed(desk, webhook, webhook_id_of(await log_of(desk), effect), body)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            addresses = await desk.network.addresses(webhook.url)
            status, retry_after = await post(webhook.url, addresses, headers, body)
    except TimeoutError:
        return Failed(code="timed_out")
    except Unreachable as refused:
        return Failed(code=refused.code)
    except Unanswered as failure:
        return Failed(code=failure.code)
    return await judged(desk, webhook, effect, status, retry_after)


async def judged(desk: "Desk", webhook: Webhook, effect: Effect, status: int, retry_after: str) -> Result:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Done(reference=f"http_{status}")
    if status == HTTPStatus.GONE:
        command = DisableWebhook(webhook_id=webhook.id, url=webhook.url, reason="gone")
        with suppress(NotFound):  # removed meanwhile
            await desk.submit_as_system("webhooks", command, via="webhook")
        return Needless(code="webhook_gone")
    now = desk.clock()
    if status in BUSY and now - effect.at < PATIENCE and (pause := pause_of(retry_after, now)) is not None:
        return NotYet(after=max(pause, AT_LEAST[min(effect.fence, len(AT_LEAST)) - 1]))
    return Failed(code=f"http_{status}")


def pause_of(retry_after: str, now: datetime) -> timedelta | None:
    """What `Retry-After` asks for (RFC 9110 §10.2.3), within reason; None where it says nothing."""
    if retry_after.isascii() and retry_after.isdigit():
        asked = timedelta(seconds=int(retry_after[:9]))
    else:
        try:
            asked = parsedate_to_datetime(retry_after) - now
        except (TypeError, ValueError, OverflowError):
            return None
    return min(max(asked, SHORTEST_PAUSE), LONGEST_PAUSE)


# What is sent.


async def message(desk: "Desk", effect: Effect) -> bytes:
    recorded = await webhooks.event_at(desk.database, effect.chain, effect.seq)
    if recorded is None:
        raise NotFound("event")
    case = case_told_of(recorded)
    number = (await cases.numbers_of(desk.database, [case])).get(case) if case else None
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"{recorded.event.chain}/{recorded.event.seq}/{recorded.hash}",
        "source": desk.settings.public_url or f"urn:uuid:{await log_of(desk)}",
        "type": webhook_type_of(recorded),
        "time": recorded.event.at,
        "datacontenttype": "application/json",
        "data": told(recorded, number),
    }
    return msgspec.json.encode(event | ({"subject": case} if case else {}))


async def log_of(desk: "Desk") -> str:
    return (await desk.directory()).log


def webhook_id_of(log: str, effect: Effect) -> str:
    """The same at every attempt and when it is sent again later; no other message of any desk has it."""
    return f"msg_{hashlib.sha256(f'{log}/{effect.key}'.encode()).hexdigest()[:32]}"


def secret_of(desk: "Desk", webhook_id: str, generation: int) -> str:
    """Kept nowhere: whoever has the desk's own secret can work it out again."""
    derived = hmac.digest(desk.secret, f"webhook {webhook_id} {generation}".encode(), "sha256")
    return f"whsec_{base64.b64encode(derived).decode()}"


def signed(desk: "Desk", webhook: Webhook, name: str, body: bytes) -> dict[str, str]:
    """The headers: a signature for each secret that is in force."""
    now = desk.clock()
    timestamp = str(int(now.timestamp()))
    secrets = (secret_of(desk, webhook.id, generation) for generation in webhook.generations(now))
    return {
        "content-type": MEDIA_TYPE,
        "user-agent": USER_AGENT,
        "webhook-id": name,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signature(secret, name, timestamp, body) for secret in secrets),
    }


def signature(secret: str, name: str, timestamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed_octets = f"{name}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed_octets, 'sha256')).decode()}"
