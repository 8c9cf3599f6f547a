"""How approved refunds are paid: by hand, which is the default, or by a payment provider behind one port."""

from collections.abc import AsyncIterator
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from api.settings import PaymentMethod, Settings
from workflow.errors import CaseworkError
from workflow.money import Money


class PaymentStatus(StrEnum):
    PENDING = "pending"  # the provider is at it
    SUCCEEDED = "succeeded"  # the money is on its way to the client, for all that the provider knows
    FAILED = "failed"  # it never left, or came back


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One payout. `key` is the same whenever it is asked for; `purchase` is what the books call the sale.

    `log`, `case` and `proposal` go to the provider beside it, so that it can be found there after the key is forgotten.
    """

    key: str
    purchase: str
    amount: Money
    log: str
    case: str
    proposal: str


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A refund as the provider knows it now. What says which payout it is of is empty where the desk asked for none."""

    id: str
    status: PaymentStatus
    amount: Money
    at: datetime
    reason: str = ""  # why it failed, in the provider's words
    key: str = ""
    log: str = ""
    case: str = ""
    proposal: str = ""


class PaymentRefused(CaseworkError):
    """The provider says no for good to what it is asked to pay, and has done nothing; the text is its reason."""


class LookupRefused(CaseworkError):
    """The provider does not show a sale or a refund: it knows none, or several. Whether money has left is not said."""


class ProviderSilent(CaseworkError):
    """Nobody can tell whether it has been done: no answer, or one that is none. `code` is stable."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"the payment provider gives no answer: {detail or code}")
        self.code = code
        self.detail = detail


class NotSigned(CaseworkError):
    """A message that is to come from a system we trust is not signed by it, or too long ago."""


class Payments(Protocol):
    """A payment provider. Each call ends within some seconds. All raise ProviderSilent."""

    name: str

    async def refund(self, order: Order) -> Payment:
        """Ask for it; asking again with the same order asks for nothing more.

        Raises PaymentRefused, or LookupRefused, after which it may have been made.
        """
        ...

    async def find(self, order: Order) -> tuple[Payment, ...]:
        """All that was ever asked for this order's proposal, whatever its key. Raises LookupRefused."""
        ...

    async def status(self, payment_id: str) -> Payment | None: ...

    async def announced(self, body: bytes, signature: str) -> tuple[Payment, ...]:
        """The desks' payments that a message of the provider is about, read anew. Raises NotSigned or LookupRefused."""
        ...

    def refunds(self, since: datetime) -> AsyncIterator[Payment]:
        """All that were made since, newest first, by whomever."""
        ...

    async def close(self) -> None: ...


def payments_of(settings: Settings) -> Payments | None:
    """The provider that the settings name; None where people pay."""
    if settings.payments is PaymentMethod.MANUAL:
        return None
    from api.stripe_payments import StripePayments  # noqa: PLC0415 - 30 MB of libraries that most desks need not load

    return StripePayments(settings)
