"""What other systems tell the desk: believed if it is signed, and with one effect however often and late it comes."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from standardwebhooks import Webhook

from api.carrying_out import Done, Needless
from api.payouts import pay
from tests.api.driving import Clock, Json, Service, refused, running, wrong_fields
from tests.api.paying import SALE, Till
from tests.api.stripe_standin import StripeStandIn
from tests.storage.desks import a_submission
from tests.workflow.builders import (
    ANA,
    CLEO,
    DIRK,
    MAIL,
    a_letter,
    an_opening,
    approves,
    begins,
    closing,
    euros,
    firing,
    proposes_credit,
)
from workflow.states import CaseState, Resolution, Trigger

PATH = "/v1/payments/stripe"


async def deliver(till: Till, message: Json, **signing: Any) -> Response:
    body, headers = till.standin.signed(message, **signing)
    return await till.service.client.post(PATH, content=body, headers=headers)


async def test_a_refund_is_confirmed_by_a_message_before_anybody_asks_again(till: Till) -> None:
    till.standin.outcome = "pending"
    await till.begun()
    effect = await till.claim()
    await pay(till.desk, effect)

    answer = await deliver(till, till.standin.settle("re_1", "succeeded"))

    assert (answer.status_code, answer.json()) == (200, {"payments": 1})
    case = await till.case()
    assert (case.state, case.proposals[-1].payment_reference) == (CaseState.REFUNDED, "re_1")
    assert await pay(till.desk, effect) == Done(reference="re_1")
    assert (await till.types()).count("refunded") == 1


async def test_messages_that_come_twice_late_and_in_any_order_have_one_effect(till: Till) -> None:
    """Every message about three refunds: one that is paid, one that fails, one that is paid and comes back."""
    till.standin.outcome = "pending"
    for number, case_id in enumerate("ABC", 1):
        await till.begun(case_id)
        effect = await till.claim()
        await pay(till.desk, effect)
        assert f"re_{number}" in till.standin.refunds
    till.standin.settle("re_1", "succeeded")
    till.standin.settle("re_2", "failed", "declined")
    till.standin.settle("re_3", "succeeded")
    await deliver(till, till.standin.messages[-1])
    assert (await till.case("C")).state is CaseState.REFUNDED
    till.standin.settle("re_3", "failed", "expired_or_canceled_card")
    messages = till.standin.messages * 4
    random.Random(7).shuffle(messages)

    answers = await asyncio.gather(*(deliver(till, one) for one in messages))

    assert {one.status_code for one in answers} == {200}
    histories = {case_id: await till.types(case_id) for case_id in "ABC"}
    assert [histories["A"].count(one) for one in ("refunded", "payout_failed", "payment_reversed")] == [1, 0, 0]
    assert [histories["B"].count(one) for one in ("refunded", "payout_failed", "payment_reversed")] == [0, 1, 0]
    assert [histories["C"].count(one) for one in ("refunded", "payout_failed", "payment_reversed")] == [1, 0, 1]
    assert [(await till.case(one)).state.value for one in "ABC"] == ["refunded", "investigating", "investigating"]
    case = await till.case()
    assert case.purchase is not None
    assert (case.purchase.refunded_minor, case.purchase.reserved_minor) == (300_00, 0)


async def test_money_that_comes_back_after_closing_is_put_right_and_shown(till: Till) -> None:
    await till.begun()
    assert await till.work() == Done(reference="re_1")
    await till.do(ANA, a_letter(), "A")
    await till.do(ANA, closing(Resolution.REMEDY_ACCEPTED), "A")

    await deliver(till, till.standin.settle("re_1", "failed", "lost_or_stolen_card"))

    case = await till.case()
    assert (case.state, case.has_new_mail) == (CaseState.CLOSED, True)
    assert case.purchase is not None
    assert case.purchase.refunded_minor == 0
    assert [one["case"] for one in await reversals(till)] == ["A"]


async def reversals(till: Till) -> list[Json]:
    items = (await till.service.cleo.get("/v1/cases/A/events")).json()["items"]
    return [{"case": "A", **one} for one in items if one["type"] == "payment_reversed"]


async def test_a_failure_of_the_first_payout_that_comes_late_does_not_end_the_second(till: Till) -> None:
    till.standin.outcome = "pending"
    proposal = await till.begun()
    await pay(till.desk, await till.claim())
    failed = till.standin.settle("re_1", "failed", "declined")
    till.service.clock.advance(days=1)
    assert await till.work() == Needless(code="payout_failed")
    await till.do(DIRK, begins(proposal), "A")
    effect = await till.claim()
    await pay(till.desk, effect)

    await deliver(till, failed)

    case = await till.case()
    assert case.payout_under_way is not None
    await deliver(till, till.standin.settle("re_2", "succeeded"))
    assert (await till.case()).proposals[-1].payment_reference == "re_2"


async def test_refunds_that_the_desk_has_not_asked_for_are_left_for_reconciliation(till: Till) -> None:
    await till.begun()
    till.standin.refund_by_hand(SALE, 5_00)
    other = till.standin.new_refund({"payment_intent": SALE, "amount": 1_00, "metadata": {"casework_log": "another"}})
    before = await till.types()

    for message in till.standin.messages:
        assert (await deliver(till, message)).json() == {"payments": 0}
    assert other["id"] in till.standin.refunds
    assert await till.types() == before


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_message_about_a_refund_that_cannot_be_read_is_to_come_again(till: Till) -> None:
    till.standin.outcome = "pending"
    await till.begun()
    await pay(till.desk, await till.claim())
    message = till.standin.settle("re_1", "succeeded")
    refund = till.standin.refunds.pop("re_1")

    answer = await deliver(till, message)

    refused(answer, 503, "payment_not_shown")
    assert answer.headers["retry-after"]
    till.standin.refunds["re_1"] = refund
    assert (await deliver(till, message)).json() == {"payments": 1}
    assert (await till.case()).state is CaseState.REFUNDED


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_what_is_not_signed_by_stripe_or_too_old_or_garbled_has_no_effect(till: Till) -> None:
    till.standin.outcome = "pending"
    await till.begun()
    await pay(till.desk, await till.claim())
    message = till.standin.settle("re_1", "succeeded")
    body, headers = till.standin.signed(message)
    before, asked = await till.types(), len(till.standin.asked)

    for answer in (
        await deliver(till, message, secret="whsec_another"),
        await deliver(till, message, age=600),
        await till.service.client.post(PATH, content=body),
        await till.service.client.post(PATH, content=body.replace(b"succeeded", b"pending"), headers=headers),
        *[
            await till.service.client.post(PATH, content=body, headers=dict[str, Any]({"stripe-signature": wrong}))
            for wrong in ("", "t=1", "t=x,v1=y", "v1=", "=", b"t=1,v1=\xff", ",,,", "t=99999999999999999999,v1=00")
        ],
        *[
            await till.service.client.post(PATH, content=wrong, headers=till.standin.signed(message)[1])
            for wrong in (b"", b"{}", b"\xff\xfe", b"null")
        ],
    ):
        refused(answer, 400, "not_signed")
    too_much = await till.service.client.post(PATH, content=b" " * 300_000, headers=headers)
    refused(too_much, 413, "too_large")
    assert await till.types() == before
    assert len(till.standin.asked) == asked


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "message",
    [
        {},
        {"object": "event"},
        [],
        "text",
        None,
        {"object": "event", "type": "refund.updated"},
        {"object": "event", "type": "refund.updated", "data": {"object": {"id": 7}}},
        {"object": "event", "type": ["refund.updated"], "data": []},
    ],
)
async def test_what_is_signed_and_makes_no_sense_is_refused(message: Any, till: Till) -> None:
    refused(await deliver(till, message), 400, "not_signed")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_message_is_sent_again_where_the_provider_cannot_be_asked(till: Till) -> None:
    await till.begun()
    assert await till.work() == Done(reference="re_1")
    provider: Any = till.desk.payments
    provider.client = provider.client.__class__("sk_wrong", base_addresses={"api": till.standin.url})

    answer = await deliver(till, till.standin.settle("re_1", "failed", "declined"))

    refused(answer, 503, "provider_silent")
    assert (await till.case()).state is CaseState.REFUNDED


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_where_people_pay_nobody_listens_to_stripe(service: Service) -> None:
    refused(await service.client.post(PATH, content=b"{}"), 404, "not_found")
    refused(await service.client.post(CONFIRMATIONS, content=b"{}"), 404, "not_found")


# Compensations.

CONFIRMATIONS = "/v1/compensations/confirmations"
SECRET = "whsec_" + "c2VjcmV0IHRoYXQgdGhlIGdyYW50aW5nIHN5c3RlbSBoYXM="


@pytest.fixture
async def granting(desk_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Till]:
    """Where a credit of 50.00 EUR has been approved in the case A, as p7."""
    async with running(desk_url, clock, granting_secret=SECRET, key_folder=tmp_path) as service:
        till = Till(service, StripeStandIn())
        await till.desk.ledger.submit(a_submission(MAIL, an_opening("A"), None))
        await till.do(ANA, firing(Trigger.INVESTIGATE), "A")
        yield till


async def credit(till: Till) -> Json:
    """What the granting system says of it."""
    case = await till.do(ANA, proposes_credit(euros("50.00")), "A")
    proposal = case.proposals[-1]
    await till.do(CLEO, approves(proposal), "A")
    return {"case": "A", "proposal": proposal.id, "reference": "credit-7"}


async def confirm(
    till: Till, told: Any, *, secret: str = SECRET, age: timedelta = timedelta(), number: str = "msg_1"
) -> Response:
    body = told if isinstance(told, str) else json.dumps(told)
    at = datetime.now(UTC) - age
    headers = {
        "webhook-id": number,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(number, at, body),
    }
    return await till.service.client.post(CONFIRMATIONS, content=body.encode(), headers=headers)


async def test_a_compensation_is_issued_when_the_granting_system_says_that_it_has_been(granting: Till) -> None:
    told = await credit(granting)

    first, again = await asyncio.gather(confirm(granting, told), confirm(granting, told))
    late = await confirm(granting, told, number="msg_2")

    for answer in (first, again, late):
        assert (answer.status_code, answer.json()) == (200, told)
    case = await granting.case()
    assert (case.state, case.remedies[-1].confirmation) == (CaseState.COMPENSATION_ISSUED, "credit-7")
    (event,) = [
        one
        for one in (await granting.service.cleo.get("/v1/cases/A/events")).json()["items"]
        if one["type"] == "compensation_issued"
    ]
    assert event["actor"] == "system:granting"
    refused(await confirm(granting, told | {"reference": "credit-8"}), 409, "no_such_transition")


async def test_a_compensation_that_was_not_approved_is_not_issued_whoever_says_so(granting: Till) -> None:
    case = await granting.do(ANA, proposes_credit(euros("50.00")), "A")
    told = {"case": "A", "proposal": case.proposals[-1].id, "reference": "credit-7"}

    refused(await confirm(granting, told), 409, "guard_refused")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_confirmation_that_is_not_signed_or_old_or_makes_no_sense_is_refused(granting: Till) -> None:
    told = await credit(granting)
    other = "whsec_" + "YW5vdGhlciBzZWNyZXQgdGhhdCBub2JvZHkgdHJ1c3Rz"

    refused(await confirm(granting, told, secret=other), 400, "not_signed")
    refused(await confirm(granting, told, age=timedelta(minutes=10)), 400, "not_signed")
    refused(await confirm(granting, told, age=timedelta(minutes=-10)), 400, "not_signed")
    body = json.dumps(told).encode()
    for wrong in ("", "v1", "v1,", b"v1,\xff", "v2,AAAA", "v1,AAAA v1", ",,"):
        headers: dict[str, Any] = {
            "webhook-id": "m",
            "webhook-timestamp": str(datetime.now(UTC).timestamp()),
            "webhook-signature": wrong,
        }
        refused(await granting.service.client.post(CONFIRMATIONS, content=body, headers=headers), 400, "not_signed")
    refused(await granting.service.client.post(CONFIRMATIONS, content=b"\xff"), 400, "not_signed")

    assert wrong_fields(await confirm(granting, told | {"reference": "ana@example.com"})) == ["reference"]
    assert wrong_fields(await confirm(granting, told | {"reference": " "})) == ["reference"]
    assert wrong_fields(await confirm(granting, told | {"who": "me"})) == ["who"]
    assert wrong_fields(await confirm(granting, told | {"proposal": "p99"})) == ["data.proposal"]
    assert wrong_fields(await confirm(granting, "{")) == ["body"]
    refused(await confirm(granting, told | {"case": "nowhere"}), 404, "not_found")
    assert (await granting.case()).state is CaseState.INVESTIGATING


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_no_person_says_what_a_compensation_was_granted_as(granting: Till) -> None:
    told = await credit(granting)

    answer = await granting.service.ana.fire(
        "A", "issue_compensation", proposal=told["proposal"], confirmation="credit-7"
    )

    assert wrong_fields(answer) == ["data.confirmation"]
