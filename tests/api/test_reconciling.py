"""The ledger compared with the provider's and with the bank's: each difference by its name, and no other."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from api.payouts import pay
from api.reconciling import Difference, What, with_provider, with_statement
from storage.database import utc_now
from tests.api.driving import Clock
from tests.api.paying import PAID, SALE, Till
from tests.api.stripe_standin import KEY, StripeStandIn
from tests.processes import casework
from tests.workflow.builders import DIRK, firing, refunds
from workflow.errors import BadInput
from workflow.states import ResumeReason, Trigger

OTHER_SALE = "pi_2"


@pytest.fixture
def standin(standin: StripeStandIn) -> StripeStandIn:
    standin.sell(OTHER_SALE, PAID)
    return standin


@pytest.fixture
def clock() -> Clock:
    """The provider's, which is the real one."""
    return Clock(utc_now() - timedelta(minutes=10))


async def differences(till: Till, *, days_later: float = 0) -> list[tuple[What, str]]:
    """Each with its reference, or its case where it has none."""
    provider, now = till.desk.payments, till.service.clock() + timedelta(days=days_later)
    assert provider is not None
    log = (await till.desk.directory()).log
    found = [one async for one in with_provider(till.desk.database, provider, log, None, now)]
    return [(one.what, one.reference or one.case) for one in found]


async def paid(till: Till, case_id: str = "A") -> None:
    await till.begun(case_id)
    await till.work()


async def test_what_was_paid_through_the_desk_agrees_with_the_provider(till: Till) -> None:
    await paid(till)
    await paid(till, "B")
    till.standin.outcome = "failed"
    await paid(till, "C")
    till.standin.outcome = "pending"
    await till.begun("D")
    await pay(till.desk, await till.claim())

    assert await differences(till) == []
    assert await differences(till, days_later=2) == [(What.UNDER_WAY, "D")]


async def test_each_difference_is_named(till: Till) -> None:
    for case_id in "ABCDEF":
        await paid(till, case_id)
    refunds_made = till.standin.refunds
    del refunds_made["re_1"]  # A
    refunds_made["re_2"]["amount"] += 1
    refunds_made["re_3"]["currency"] = "usd"
    refunds_made["re_4"]["status"] = "failed"
    by_hand = till.standin.refund_by_hand(OTHER_SALE, 7_00)
    metadata = refunds_made["re_5"]["metadata"]
    again = till.standin.new_refund({"payment_intent": SALE, "amount": 300_00, "metadata": metadata})
    till.standin.new_refund(
        {"payment_intent": SALE, "amount": 1_00, "metadata": metadata | {"casework_log": "another"}}
    )

    assert sorted(await differences(till)) == sorted(
        [
            (What.MISSING, "re_1"),
            (What.AMOUNT, "re_2"),
            (What.CURRENCY, "re_3"),
            (What.STATUS, "re_4"),
            (What.DOUBLE, "re_5"),
            (What.DOUBLE, again["id"]),
            (What.UNKNOWN, again["id"]),
            (What.UNKNOWN, by_hand["id"]),
        ]
    )


async def test_money_that_came_back_is_no_difference_and_one_that_stayed_away_is(till: Till) -> None:
    await paid(till)
    reversal = firing(Trigger.RESUME, reason_code=ResumeReason.PAYMENT_FAILED)
    await till.do(DIRK, reversal, "A")

    assert await differences(till) == [(What.STATUS, "re_1")]
    till.standin.settle("re_1", "failed", "declined")
    assert await differences(till) == []


async def test_many_refunds_are_read_page_by_page(till: Till) -> None:
    for _ in range(230):
        till.standin.refund_by_hand(OTHER_SALE, 1_00)

    assert len(await differences(till)) == 230
    assert till.standin.asked.count("GET /v1/refunds") == 3


# Statements.


async def statement(till: Till, file: Path, *rows: str) -> list[Difference]:
    write(file, "\n".join(["\ufeffBooked,payment_reference,amount,currency", *rows]))
    now = till.service.clock()
    return [one async for one in with_statement(till.desk.database, file, None, now)]


async def test_a_bank_statement_is_compared_the_same_way(till: Till, tmp_path: Path) -> None:
    for number, case_id in enumerate("ABCDE"):
        proposal = await till.approved(case_id)
        fired = refunds(proposal)
        data = {"proposal": proposal.id, "payment_reference": f"TR-{number}"}
        await till.do(DIRK, firing(Trigger.REFUND, **data) if number else fired, case_id)
    await till.begun("F")
    file = tmp_path / "statement.csv"

    found = await statement(
        till,
        file,
        "2026-03-05,TR-1,-300.00,eur",
        "2026-03-05,TR-2,299.99,EUR",
        "2026-03-06,TR-3,300.00,USD",
        '2026-03-06,"TR-4",300.00,EUR',
        "2026-03-06,TR-4,300.00,EUR",
        "2026-03-06,TR-9,10.00,EUR",
    )

    # TR-1 was confirmed twice: by the first case as well as by the second.
    named = {(one.what, one.reference, one.case) for one in found}
    assert named == {
        (What.DOUBLE, "TR-1", "A"),
        (What.DOUBLE, "TR-1", "B"),
        (What.AMOUNT, "TR-2", "C"),
        (What.CURRENCY, "TR-3", "D"),
        (What.DOUBLE, "TR-4", ""),
        (What.UNKNOWN, "TR-9", ""),
    }
    (amount,) = (one for one in found if one.what is What.AMOUNT)
    assert amount.ledger.startswith("300.00 EUR paid ")
    assert amount.other.startswith("299.99 EUR booked")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("2026-03-05,TR-1,12.345,EUR", "statement, line 2"),
        ("2026-03-05,TR-1,12.00,XXX", "statement, line 2"),
        ("2026-03-05,,12.00,EUR", "statement, line 2"),
        ("2026-03-05", "statement, line 2"),
    ],
)
async def test_a_line_that_makes_no_sense_is_named(row: str, field: str, till: Till, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as bad:
        await statement(till, tmp_path / "statement.csv", row)

    assert [one.field for one in bad.value.errors] == [field]


def write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


# The command.


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_the_command_says_each_difference_and_exits_with_one(
    till: Till, desk_url: str, standin: StripeStandIn, tmp_path: Path
) -> None:
    await paid(till)
    settings = {"payments": "stripe", "stripe_key": KEY, "stripe_url": standin.url}
    same = casework("reconcile", url=desk_url, **settings)
    assert (same.returncode, same.stdout.strip()) == (0, "no differences"), same.stderr
    standin.refunds["re_1"]["amount"] -= 1

    lines = casework("reconcile", url=desk_url, **settings)
    as_json = casework("reconcile", "--json", "--since", "2020-01-31", url=desk_url, **settings)

    assert (lines.returncode, as_json.returncode) == (1, 1)
    proposal = (await till.case()).proposals[-1].id
    assert lines.stdout.splitlines()[0].split("\t")[:3] == ["amount", "re_1", f"A {proposal}"]
    (found,) = map(json.loads, as_json.stdout.splitlines())
    assert (found["what"], found["reference"], found["case"]) == ("amount", "re_1", "A")
    nowhere = casework("reconcile", url=desk_url)
    assert nowhere.returncode == 2
    assert "--statement" in nowhere.stderr
    away = casework("reconcile", url=desk_url, **(settings | {"stripe_url": "http://127.0.0.1:1"}))
    assert (away.returncode, "gives no answer" in away.stderr) == (1, True)
    write(tmp_path / "bad.csv", "a,b\n")
    bad = casework("reconcile", "--statement", tmp_path / "bad.csv", url=desk_url)
    assert (bad.returncode, "has no column" in bad.stderr) == (1, True)
