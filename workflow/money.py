"""Money: an exact number of minor units and an ISO 4217 currency, never a float."""

import re

import iso4217
import msgspec

from workflow.canonical import Integer
from workflow.errors import InvalidMoney

# What every JSON reader holds exactly, and the audit log's limit for integers (RFC 8785).
MAX_MINOR = 2**53 - 1

PLAIN_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]+))?")

# Withdrawn since 2023: purchases made in them are still judged, and still read, for years.
WITHDRAWN = {"ANG": 2, "BGN": 2, "HRK": 2, "SLL": 2, "ZWL": 2}
# Codes without a minor unit (gold, test codes, no currency at all) are nothing to pay with.
MINOR_DIGITS = WITHDRAWN | {
    currency.code: currency.exponent for currency in iso4217.Currency if currency.exponent is not None
}


class Money(msgspec.Struct, frozen=True):
    """Plain data; `parse_money` and `checked` say whether it is money that can be paid."""

    amount_minor: Integer
    currency: str

    def __str__(self) -> str:
        return f"{self.decimal_text()} {self.currency}"

    def decimal_text(self) -> str:
        """With all decimals of the currency: `1200.00` in EUR, `48000` in JPY, `0.001` in KWD."""
        digits = minor_digits(self.currency)
        sign = "-" if self.amount_minor < 0 else ""
        whole, fraction = divmod(abs(self.amount_minor), 10**digits)
        return f"{sign}{whole}.{fraction:0{digits}}" if digits else f"{sign}{whole}"


def parse_money(amount: str, currency: str) -> Money:
    """Read a plain decimal such as `1200.00`; fewer decimals than the currency has are fine, more are not.

    Raises InvalidMoney naming `currency` (not a current ISO 4217 code with a minor unit) or `amount` (anything but
    ASCII digits with at most one point between them, finer than the minor unit even by zeros, above MAX_MINOR).
    """
    digits = minor_digits(currency)
    plain = PLAIN_DECIMAL.fullmatch(amount)
    if plain is None:
        raise InvalidMoney("amount", "has to be a plain decimal such as 1200.00, not negative")
    whole, fraction = plain[1], plain[2] or ""
    if len(fraction) > digits:
        raise InvalidMoney("amount", f"is finer than {currency} allows, which has {digits or 'no'} decimals")
    # Cut after more digits than the limit has: int() refuses thousands of them with an error of its own.
    minor = (whole + fraction.ljust(digits, "0")).lstrip("0")[: len(str(MAX_MINOR)) + 1]
    return checked(Money(int(minor or "0"), currency))


def checked(money: Money) -> Money:
    """The same money, or InvalidMoney: an unknown currency, a negative amount, one above MAX_MINOR."""
    minor_digits(money.currency)
    if money.amount_minor < 0:
        raise InvalidMoney("amount", "must not be negative")
    if money.amount_minor > MAX_MINOR:
        raise InvalidMoney("amount", f"is above {Money(MAX_MINOR, money.currency)}, the most that is kept exactly")
    return money


def minor_digits(currency: str) -> int:
    """How many decimals the currency has. Raises InvalidMoney naming `currency` if it is not one."""
    digits = MINOR_DIGITS.get(currency)
    if digits is None:
        raise InvalidMoney("currency", "is not a current ISO 4217 code with a minor unit, such as EUR")
    return digits
