"""What every payment provider keeps: the stand-in always, and Stripe itself in test mode where there is a key for it.

`CASEWORK_TEST_STRIPE_KEY=sk_test_… pytest tests/api/test_payments.py` asks Stripe too.
"""

import os
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from api.payments import LookupRefused, Order, PaymentRefused, PaymentStatus
from api.settings import Settings
from api.stripe_payments import StripePayments, money_of, stripe_minor
from tests.api.stripe_standin import KEY, open_for_business
from workflow.money import Money

PRICE = 50_00
Sell = Callable[[], str]
REAL_KEY = os.environ.get("CASEWORK_TEST_STRIPE_KEY", "")


@pytest.fixture(params=["stand-in", "stripe"] if REAL_KEY else ["stand-in"])
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[tuple[StripePayments, Sell]]:
    """And what sells something for 50.00 EUR there."""
    if request.param == "stripe":
        payments = StripePayments(settings(REAL_KEY))
        yield payments, lambda: sell_at_stripe(payments)
        await payments.close()
        return
    with open_for_business() as standin:
        payments = StripePayments(settings(KEY, standin.url))
        yield payments, lambda: standin.sell(f"pi_{uuid.uuid4().hex}", PRICE)
        await payments.close()


def settings(key: str, url: str | None = None) -> Settings:
    return Settings.model_validate({"payments": "stripe", "stripe_key": key, "stripe_url": url})


def sell_at_stripe(payments: StripePayments) -> str:
    wanted: dict[str, Any] = {
        "amount": PRICE,
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "confirm": True,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
    }
    return str(payments.client.v1.payment_intents.create(wanted).id)


def an_order(sale: str, amount: int = 20_00) -> Order:
    case = str(uuid.uuid4())
    money = Money(amount, "EUR")
    return Order(key=f"case:{case}/9/pay", purchase=sale, amount=money, log="tests", case=case, proposal="p7")


async def test_the_same_order_is_the_same_refund(provider: tuple[StripePayments, Sell]) -> None:
    payments, sell = provider
    order = an_order(sell())

    first, again = await payments.refund(order), await payments.refund(order)

    assert first.id == again.id
    assert (first.status, first.amount) == (PaymentStatus.SUCCEEDED, order.amount)
    assert (first.key, first.log, first.case, first.proposal) == (order.key, "tests", order.case, "p7")
    assert await payments.status(first.id) == first
    assert await payments.find(order) == (first,)


async def test_an_order_of_another_payout_of_the_proposal_finds_what_the_first_one_sent(
    provider: tuple[StripePayments, Sell],
) -> None:
    payments, sell = provider
    order = an_order(sell())
    first = await payments.refund(order)

    assert await payments.find(replace(order, key="another")) == (first,)
    assert await payments.find(replace(order, proposal="p8")) == ()
    assert await payments.find(replace(order, log="another desk")) == ()


async def test_no_more_is_refunded_than_was_paid(provider: tuple[StripePayments, Sell]) -> None:
    payments, sell = provider
    sale = sell()
    await payments.refund(an_order(sale, 30_00))

    with pytest.raises(PaymentRefused):
        await payments.refund(an_order(sale, 20_01))
    await payments.refund(an_order(sale, 20_00))
    with pytest.raises(PaymentRefused):
        await payments.refund(an_order(sale, 1))


async def test_what_was_never_paid_or_in_another_currency_is_refused(provider: tuple[StripePayments, Sell]) -> None:
    payments, sell = provider

    with pytest.raises(LookupRefused):
        await payments.refund(an_order("pi_that_nobody_has_paid"))
    with pytest.raises(LookupRefused, match="was paid in EUR, not in USD"):
        await payments.refund(replace(an_order(sell()), amount=Money(1_00, "USD")))
    assert await payments.status("re_that_nobody_has_made") is None


async def test_all_refunds_are_listed_newest_first(provider: tuple[StripePayments, Sell]) -> None:
    payments, sell = provider
    sale = sell()
    made = [(await payments.refund(an_order(sale, 1_00))).id for _ in range(3)]

    since = datetime.now(UTC) - timedelta(minutes=5)
    listed = [one.id async for one in payments.refunds(since) if one.id in made]

    assert sorted(listed) == sorted(made)


# Money and settings.


@pytest.mark.parametrize(
    ("money", "minor"),
    [
        (Money(12_34, "EUR"), 12_34),
        (Money(500, "JPY"), 500),
        (Money(1_234, "KWD"), 1_234),
        (Money(5, "ISK"), 500),
        (Money(5, "UGX"), 500),
        (Money(500, "MGA"), 5),
    ],
)
def test_amounts_are_said_as_stripe_counts_them(money: Money, minor: int) -> None:
    assert stripe_minor(money) == minor
    assert money_of(minor, money.currency.lower()) == money


def test_a_part_of_what_stripe_counts_is_refused() -> None:
    with pytest.raises(PaymentRefused):
        stripe_minor(Money(501, "MGA"))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"payments": "stripe"}, "stripe_key"),
        ({"payments": "paypal"}, "payments"),
        ({"stripe_url": "http://stripe.example"}, "stripe_url"),
        ({"granting_secret": "whsec_c2hvcnQ="}, "granting_secret"),
        ({"granting_secret": "not one at all, however long it may be"}, "granting_secret"),
    ],
)
def test_settings_that_cannot_work_are_named(given: dict[str, str], field: str) -> None:
    with pytest.raises(ValidationError) as invalid:
        Settings.model_validate(given)

    assert [one["loc"] for one in invalid.value.errors()] == [(field,)]
