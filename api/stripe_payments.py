"""Stripe behind the port of payments, spoken with by its own library.

A refund carries what it is for in its metadata, since Stripe forgets idempotency keys after a day.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

import msgspec
import requests
import stripe

from api.payments import LookupRefused, NotSigned, Order, Payment, PaymentRefused, PaymentStatus, ProviderSilent
from api.settings import Settings
from workflow.money import MINOR_DIGITS, Money

T = TypeVar("T")

API = "https://api.stripe.com"
TIMEOUT = (3.05, 8.0)  # seconds to connect and to answer: some calls have to fit into one attempt at a payout
THREADS = 4
PAGE = 100
TOLERANCE = 300  # seconds that a signed message may be old

# Stripe counts these otherwise than ISO 4217 (docs.stripe.com/currencies).
DIGITS = {"ISK": 2, "UGX": 2, "MGA": 0}

STATUSES = {"succeeded": PaymentStatus.SUCCEEDED, "failed": PaymentStatus.FAILED, "canceled": PaymentStatus.FAILED}
REFUND_EVENTS = frozenset({"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"})
# A request that came too soon, or while the same one is being carried out, is no answer to it.
NOT_DEFINITE = frozenset({"lock_timeout", "idempotency_key_in_use", "rate_limit"})
DEFINITE = frozenset({400, 402, 404})


class Sale(msgspec.Struct, frozen=True, kw_only=True):
    """What is refunded: `kind` is payment_intent or charge."""

    kind: str
    id: str
    currency: str


class About(msgspec.Struct):
    id: str = ""
    metadata: dict[str, str] | None = None


class Changed(msgspec.Struct):
    object: About


class Message(msgspec.Struct):
    """As much of an event of Stripe's as is read."""

    type: str
    data: Changed


# What the library raises at a body or a header that is none.
GARBLED = (ValueError, AttributeError, TypeError, KeyError, IndexError, OverflowError, RecursionError)


class StripePayments:
    name = "stripe"

    def __init__(self, settings: Settings) -> None:
        if settings.stripe_key is None:
            raise ValueError("there is no key for Stripe")
        secret = settings.stripe_webhook_secret
        self.webhook_secret = secret.get_secret_value() if secret else ""
        self.session = requests.Session()
        self.client: Any = stripe.StripeClient(
            settings.stripe_key.get_secret_value(),
            base_addresses={"api": settings.stripe_url or API},
            http_client=stripe.RequestsClient(timeout=TIMEOUT, session=self.session),
            max_network_retries=0,  # whoever asks tries again, and looks first what became of it
        )
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="stripe")

    async def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.session.close()

    async def ask(self, question: Callable[[], T]) -> T:
        """Raises LookupRefused or ProviderSilent, and what the question raises."""
        with answered(LookupRefused):
            return await asyncio.get_running_loop().run_in_executor(self.threads, question)

    # The port.

    async def refund(self, order: Order) -> Payment:
        return await self.ask(lambda: self.make(order))

    async def find(self, order: Order) -> tuple[Payment, ...]:
        return await self.ask(lambda: self.made_for(order))

    async def status(self, payment_id: str) -> Payment | None:
        try:
            return await self.ask(lambda: self.settled(self.client.v1.refunds.retrieve(payment_id)))
        except LookupRefused:
            return None

    async def announced(self, body: bytes, signature: str) -> tuple[Payment, ...]:
        told = self.message(body, signature)
        if told.type in REFUND_EVENTS:
            ids = [told.data.object.id] if "casework_log" in (told.data.object.metadata or {}) else []
            return await self.ask(lambda: self.read(ids))
        if told.type == "charge.refunded":
            return await self.ask(lambda: self.read(self.asked_by_a_desk(told.data.object.id)))
        return ()

    async def refunds(self, since: datetime) -> AsyncIterator[Payment]:
        made = {"created": {"gte": int(since.timestamp())}, "limit": PAGE}
        listed = iter((await self.ask(lambda: self.client.v1.refunds.list(made))).auto_paging_iter())
        while page := await self.ask(lambda: list(islice(listed, PAGE))):
            for one in page:
                yield payment_of(one)

    # What is asked, in a thread.

    def make(self, order: Order) -> Payment:
        sale = self.sale(order)
        wanted = {
            sale.kind: sale.id,
            "amount": stripe_minor(order.amount),
            "metadata": {
                "casework_key": order.key,
                "casework_log": order.log,
                "casework_case": order.case,
                "casework_proposal": order.proposal,
            },
        }
        with answered(PaymentRefused):  # here alone a no means that nothing was paid
            refund = self.client.v1.refunds.create(wanted, {"idempotency_key": idempotency_key(order)})
        return self.settled(refund)

    def made_for(self, order: Order) -> tuple[Payment, ...]:
        sale = self.sale(order)
        found = map(payment_of, self.refunds_of(sale.kind, sale.id))
        return tuple(
            self.settled(self.client.v1.refunds.retrieve(one.id))
            for one in found
            if (one.log, one.case, one.proposal) == (order.log, order.case, order.proposal)
        )

    def refunds_of(self, kind: str, sale_id: str) -> Iterator[Any]:
        yield from self.client.v1.refunds.list({kind: sale_id, "limit": PAGE}).auto_paging_iter()

    def asked_by_a_desk(self, charge: str) -> list[str]:
        return [one.id for one in self.refunds_of("charge", charge) if payment_of(one).log]

    def read(self, ids: Iterable[str]) -> tuple[Payment, ...]:
        """As they stand: messages come late, twice and in any order."""
        return tuple(self.settled(self.client.v1.refunds.retrieve(one)) for one in ids)

    def settled(self, refund: Any) -> Payment:
        """One that waits for the client to act would be paid who knows when: it is called off, which is a failure.

        Unless the client has acted since: then it cannot be, and is on its way.
        """
        if refund.status == "requires_action":
            try:
                refund = self.client.v1.refunds.cancel(refund.id)
            except stripe.InvalidRequestError:
                refund = self.client.v1.refunds.retrieve(refund.id)
        return payment_of(refund)

    def sale(self, order: Order) -> Sale:
        """What the client paid, by Stripe's own id or by the reference in its metadata. Raises LookupRefused."""
        sale = self.known_sale(order.purchase)
        if sale.currency != order.amount.currency:
            raise LookupRefused(f"{sale.id} was paid in {sale.currency}, not in {order.amount.currency}")
        return sale

    def known_sale(self, reference: str) -> Sale:
        if reference.startswith("pi_"):
            return sale_of("payment_intent", self.client.v1.payment_intents.retrieve(reference))
        if reference.startswith(("ch_", "py_")):
            return sale_of("charge", self.client.v1.charges.retrieve(reference))
        quoted = reference.replace("\\", "\\\\").replace("'", "\\'")
        query = f"metadata['casework_purchase']:'{quoted}' AND status:'succeeded'"
        searches: tuple[tuple[str, Callable[[Any], Any]], ...] = (
            ("payment_intent", self.client.v1.payment_intents.search),
            ("charge", self.client.v1.charges.search),
        )
        for kind, search in searches:
            found = search({"query": query, "limit": 2}).data
            if len(found) > 1:
                raise LookupRefused("Stripe knows several payments for this purchase")
            if found:
                return sale_of(kind, found[0])
        raise LookupRefused("Stripe knows no payment for this purchase")

    def message(self, body: bytes, signature: str) -> "Message":
        """Raises NotSigned."""
        if not self.webhook_secret:
            raise NotSigned("there is no secret to check the message's signature with")
        try:
            event = stripe.Webhook.construct_event(body, signature, self.webhook_secret, TOLERANCE)
            return msgspec.convert(event.to_dict(), Message)
        except (stripe.SignatureVerificationError, msgspec.ValidationError, *GARBLED) as wrong:
            raise NotSigned("the message is not signed by Stripe, or too old") from wrong


# What Stripe says, in the words of the port.


@contextmanager
def answered(refusal: type[PaymentRefused | LookupRefused]) -> Iterator[None]:
    """Raises the `refusal` where Stripe says that it has not done what it was asked for, and else ProviderSilent."""
    try:
        yield
    except (stripe.CardError, stripe.InvalidRequestError) as said:
        if said.http_status not in DEFINITE or said.code in NOT_DEFINITE:
            raise ProviderSilent(f"stripe_{said.http_status}", said.code or "") from said
        raise refusal(said.user_message or said.code or "Stripe refuses it") from said
    except stripe.APIConnectionError as lost:
        raise ProviderSilent("stripe_unreachable") from lost
    except stripe.StripeError as failed:
        raise ProviderSilent(f"stripe_{failed.http_status}", failed.code or "") from failed


def payment_of(refund: Any) -> Payment:
    about = refund.metadata.to_dict() if refund.metadata else {}
    return Payment(
        id=refund.id,
        status=STATUSES.get(refund.status, PaymentStatus.PENDING),
        amount=money_of(refund.amount, refund.currency),
        at=datetime.fromtimestamp(refund.created, UTC),
        reason=(getattr(refund, "failure_reason", None) or "").replace("_", " "),
        key=about.get("casework_key", ""),
        log=about.get("casework_log", ""),
        case=about.get("casework_case", ""),
        proposal=about.get("casework_proposal", ""),
    )


def sale_of(kind: str, found: Any) -> Sale:
    return Sale(kind=kind, id=found.id, currency=found.currency.upper())


def idempotency_key(order: Order) -> str:
    """Of one payout of one desk: several may share an account."""
    return f"casework-{hashlib.sha256(f'{order.log}/{order.key}'.encode()).hexdigest()[:40]}"


def stripe_minor(amount: Money) -> int:
    """Raises PaymentRefused where Stripe cannot say the amount."""
    more, fewer = powers(amount.currency)
    minor, rest = divmod(amount.amount_minor * more, fewer)
    if rest:
        raise PaymentRefused(f"Stripe cannot pay a part of a unit of {amount.currency}")
    return minor


def money_of(minor: int, currency: str) -> Money:
    more, fewer = powers(currency.upper())
    return Money(minor * fewer // more, currency.upper())


def powers(currency: str) -> tuple[int, int]:
    """By what minor units are multiplied and divided to become Stripe's."""
    more = DIGITS.get(currency, 0) - MINOR_DIGITS.get(currency, 0) if currency in DIGITS else 0
    return pow(10, max(more, 0)), pow(10, max(-more, 0))
