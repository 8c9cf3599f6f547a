"""Money is exact: what is read is what is kept and what is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.errors import InvalidMoney
from workflow.money import MAX_MINOR, MINOR_DIGITS, Money, checked, minor_digits, parse_money


@pytest.mark.parametrize(
    ("amount", "currency", "minor", "shown"),
    [
        ("1200.00", "EUR", 120_000, "1200.00"),
        ("12", "EUR", 1_200, "12.00"),
        ("12.5", "EUR", 1_250, "12.50"),
        ("0.05", "UAH", 5, "0.05"),
        ("48000", "JPY", 48_000, "48000"),
        ("0.001", "KWD", 1, "0.001"),
        ("31.0001", "CLF", 310_001, "31.0001"),
        ("0", "EUR", 0, "0.00"),
        ("90071992547409.91", "EUR", MAX_MINOR, "90071992547409.91"),
        ("5.00", "BGN", 500, "5.00"),  # withdrawn, but old purchases were made in it
    ],
)
def test_an_amount_is_kept_in_minor_units_and_shown_with_all_decimals(
    amount: str, currency: str, minor: int, shown: str
) -> None:
    money = parse_money(amount, currency)

    assert money == Money(minor, currency)
    assert money.decimal_text() == shown
    assert str(money) == f"{shown} {currency}"


@pytest.mark.parametrize(
    "amount",
    [
        "-0.01",
        "+1",
        "",
        " 1",
        "1\n",
        "1.",
        ".5",
        "1,200.00",
        "1_000",
        "1 000",
        "1e2",
        "NaN",
        "Infinity",
        "0x10",
        "\u0661\u0662",
        "\uff11\uff12",
        "1.2.3",
        "1.000",
        "90071992547409.92",
        "9" * 10_000,
    ],
)
def test_what_is_not_a_plain_exact_decimal_is_refused_as_an_amount(amount: str) -> None:
    with pytest.raises(InvalidMoney) as refused:
        parse_money(amount, "EUR")

    assert [error.field for error in refused.value.errors] == ["amount"]


@pytest.mark.parametrize(("amount", "currency"), [("48000.0", "JPY"), ("1.0000", "KWD"), ("1.00000", "CLF")])
def test_zeros_finer_than_the_minor_unit_are_refused_too(amount: str, currency: str) -> None:
    with pytest.raises(InvalidMoney, match="finer"):
        parse_money(amount, currency)


@pytest.mark.parametrize("currency", ["", "eur", "Eur", "EURO", "ABC", "XXX", "XAU", "XTS", "€", "EUR\0"])
def test_a_code_that_nobody_pays_in_is_refused_as_a_currency(currency: str) -> None:
    with pytest.raises(InvalidMoney) as refused:
        parse_money("1", currency)

    assert [error.field for error in refused.value.errors] == ["currency"]


@pytest.mark.parametrize(("currency", "digits"), [("EUR", 2), ("UAH", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)])
def test_each_currency_has_the_minor_unit_of_the_standard(currency: str, digits: int) -> None:
    assert minor_digits(currency) == digits


@pytest.mark.parametrize("amount_minor", [-1, MAX_MINOR + 1])
def test_money_made_elsewhere_is_checked_for_the_same_limits(amount_minor: int) -> None:
    with pytest.raises(InvalidMoney):
        checked(Money(amount_minor, "EUR"))


def test_money_taken_away_is_shown_with_its_sign() -> None:
    assert str(Money(-5, "EUR")) == "-0.05 EUR"


@given(minor=st.integers(0, MAX_MINOR), currency=st.sampled_from(sorted(MINOR_DIGITS)))
def test_what_is_shown_reads_back_as_the_same_money(minor: int, currency: str) -> None:
    money = Money(minor, currency)

    assert parse_money(money.decimal_text(), currency) == money


@given(amount=st.text(alphabet="0123456789.-+eE ,\u0663"), currency=st.sampled_from(["EUR", "JPY", "KWD", "XAU"]))
def test_any_text_is_either_money_within_the_limits_or_refused(amount: str, currency: str) -> None:
    try:
        money = parse_money(amount, currency)
    except InvalidMoney as refused:
        assert {error.field for error in refused.errors} <= {"amount", "currency"}  # noqa: PT017 - either outcome is fine
    else:
        assert 0 <= money.amount_minor <= MAX_MINOR
