"""Cases over HTTP: opening one, its facts and money, transitions with their reasons, letters and notes."""

import re
from typing import Any

import pytest

from tests.api.driving import (
    Json,
    Service,
    a_fresh_purchase,
    a_purchase,
    an_inquiry,
    day,
    done,
    euros,
    reasons,
    refused,
    wrong_fields,
)
from workflow.states import CaseState, Trigger

on_one_database = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


# Opening.


async def test_a_case_is_opened_with_all_that_is_known_of_it(service: Service) -> None:
    purchase = a_purchase()
    response = await service.ana.post(
        "/v1/cases", an_inquiry(purchase=purchase, received_at="2026-03-04T09:30:00+02:00")
    )

    case = done(response, 201)
    assert response.headers["location"] == f"/v1/cases/{case['id']}"
    assert response.headers["etag"] == f'"{case["version"]}"'
    assert await service.bo.read(case["id"]) == case
    assert (case["number"], case["state"], case["version"]) == ("C-1001", "opened", 2)
    assert re.fullmatch(r"\[#[0-9A-HJKMNP-TV-Z]{8}\]", case["mail_tag"])
    assert (case["subject"], case["title"], case["category"]) == ("The banners", "The banners", "billing")
    assert case["client"] == {"name": "Una", "email": "una@example.com"}
    assert (case["participants"], case["assignee"]) == (["una@example.com"], None)
    assert case["received_at"] == "2026-03-04T07:30:00Z"
    assert case["purchase"] == {
        "reference": "D-1",
        "package": "launch",
        "paid": euros("2000.00"),
        "purchased_at": "2026-02-03T12:00:00Z",
        "service_started_at": "2026-02-05T12:00:00Z",
        "deliverables_provided_at": "2026-02-13T12:00:00Z",
        "checked": False,
        "refunded": euros("0.00"),
        "reserved": euros("0.00"),
        "left": euros("2000.00"),
    }
    assert (case["grounds"], case["proposals"], case["remedies"], case["waiting"]) == ([], [], [], False)
    assert {one["kind"] for one in case["deadlines"]} == {"first_answer", "next_update"}
    assert [one["trigger"] for one in case["transitions"]] == list(Trigger)


async def test_numbers_rise_and_tags_cannot_be_guessed_from_one_another(service: Service) -> None:
    cases = [await service.ana.open() for _ in range(5)]

    assert [case["number"] for case in cases] == [f"C-{number}" for number in range(1001, 1006)]
    assert len({case["mail_tag"] for case in cases}) == 5


async def test_an_empty_subject_stays_empty_and_the_title_is_what_a_person_reads(service: Service) -> None:
    case = await service.ana.open(subject="", message="\n  Where are\tmy banners?\n")
    assert (case["subject"], case["title"]) == ("", "Where are my banners?")

    case = await service.ana.open(subject="", message="")
    assert (case["subject"], case["title"]) == ("", "(no subject)")


@on_one_database
@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"subject": None}, ["subject"]),
        ({"subject": "x" * 2001}, ["subject"]),
        ({"message": 5}, ["message"]),
        ({"client": None}, ["client"]),
        ({"client": {"name": "Una"}}, ["client.email"]),
        ({"client": {"name": "Una", "email": "una"}}, ["client.email"]),
        ({"client": {"name": "Una", "email": "una@example.com\nBcc: all@example.com"}}, ["client.email"]),
        ({"category": "weather"}, ["category"]),
        ({"received_at": day(1)}, ["received_at"]),
        ({"received_at": "2026-03-05T10:00:00"}, ["received_at"]),
        ({"received_at": "2026-03-05"}, ["received_at"]),
        ({"received_at": 1772000000}, ["received_at"]),
        ({"received_at": "2026-02-30T10:00:00Z"}, ["received_at"]),
        ({"received_at": "2026-03-05T24:30:00Z"}, ["received_at"]),
        ({"purchase": {}}, ["purchase." + name for name in a_purchase()]),
        ({"purchase": {"reference": " "}}, ["purchase.reference"]),
        ({"purchase": a_purchase(paid="5.00")}, ["purchase.paid"]),
        ({"purchase": a_purchase(purchased_at=None)}, ["purchase.purchased_at"]),
        ({"purchase": a_purchase(purchased_at=day(1))}, ["received_at"]),
        ({"client": 5, "subject": 5, "category": 5}, ["subject", "client", "category"]),
    ],
    ids=str,
)
async def test_what_is_wrong_with_an_inquiry_is_named(changes: Json, fields: list[str], service: Service) -> None:
    assert wrong_fields(await service.ana.post("/v1/cases", an_inquiry(**changes))) == fields


@on_one_database
@pytest.mark.parametrize(
    ("amount", "currency", "told"),
    [
        ("1200.00", "EUR", "1200.00"),
        ("1200", "EUR", "1200.00"),
        ("1200.5", "EUR", "1200.50"),
        ("0", "EUR", "0.00"),
        ("48000", "JPY", "48000"),
        ("1.234", "KWD", "1.234"),
        ("90071992547409.91", "EUR", "90071992547409.91"),
    ],
)
async def test_money_is_told_with_all_decimals_of_its_currency(
    amount: str, currency: str, told: str, service: Service
) -> None:
    case = await service.ana.open(purchase=a_purchase(paid={"amount": amount, "currency": currency}))

    assert case["purchase"]["paid"] == {"amount": told, "currency": currency}
    assert case["purchase"]["left"] == {"amount": told, "currency": currency}


@on_one_database
@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("1.234", "EUR"),
        ("1.000", "EUR"),
        ("48000.0", "JPY"),
        ("-1.00", "EUR"),
        ("+1.00", "EUR"),
        ("1,00", "EUR"),
        ("1e3", "EUR"),
        ("١٢", "EUR"),
        ("", "EUR"),
        (".5", "EUR"),
        ("NaN", "EUR"),
        ("90071992547409.92", "EUR"),
        ("1.00", "eur"),
        ("1.00", "XAU"),
        ("1.00", "ABC"),
        ("1.00", ""),
    ],
)
async def test_money_that_cannot_be_paid_is_refused(amount: str, currency: str, service: Service) -> None:
    purchase = a_purchase(paid={"amount": amount, "currency": currency})

    (field,) = wrong_fields(await service.ana.post("/v1/cases", an_inquiry(purchase=purchase)))

    assert field.startswith("purchase.paid")


@on_one_database
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("2026-03-05T10:00:00Z", "2026-03-05T10:00:00Z"),
        ("2026-03-05t10:00:00z", "2026-03-05T10:00:00Z"),
        ("2026-03-05 10:00:00+00:00", "2026-03-05T10:00:00Z"),
        ("2026-03-05T15:30:00+05:30", "2026-03-05T10:00:00Z"),
        ("2026-03-04T22:15:00-11:45", "2026-03-05T10:00:00Z"),
        ("2026-03-05T10:00:00.123456Z", "2026-03-05T10:00:00.123456Z"),
        ("2026-03-05T10:00:00.5Z", "2026-03-05T10:00:00.500000Z"),
        ("0800-01-01T00:00:00+00:00", "0800-01-01T00:00:00Z"),
    ],
)
async def test_times_come_with_an_offset_and_are_told_in_utc(given: str, told: str, service: Service) -> None:
    case = await service.ana.open(received_at=given)

    assert case["received_at"] == told
    assert done(await service.ana.get("/v1/cases", overdue="true"))["items"] in (
        [],
        [{**listed(case), "overdue": True}],
    )


def listed(case: Json) -> Json:
    """The case as a list shows it."""
    shown = ("id", "number", "version", "state", "title", "category", "client", "assignee", "received_at", "changed_at")
    due = case["deadlines"][0]["due_at"]
    return {name: case[name] for name in shown} | {
        "amount": case["purchase"] and case["purchase"]["paid"],
        "answered": case["answered"],
        "waiting": case["waiting"],
        "next_deadline": f"{due[:-1]}.000000Z" if "." not in due else due,
    }


# Purchases.


async def test_the_same_facts_link_a_known_purchase(service: Service) -> None:
    first = await service.ana.open(purchase=a_purchase())
    done(await service.ana.post(f"/v1/cases/{first['id']}/purchase/checks", {"reason": "seen"}), 201)

    second = await service.ana.open(purchase=a_purchase(purchased_at="2026-02-03T13:00:00+01:00", paid=euros("2000")))

    assert second["purchase"] == first["purchase"] | {"checked": True}


async def test_the_reference_alone_links_a_known_purchase_and_names_no_unknown_one(service: Service) -> None:
    first = await service.ana.open(purchase=a_purchase())

    assert (await service.ana.open(purchase={"reference": "D-1"}))["purchase"] == first["purchase"]
    unknown = await service.ana.post("/v1/cases", an_inquiry(purchase={"reference": "D-2"}))
    assert wrong_fields(unknown) == ["purchase.reference"]
    assert len(done(await service.ana.get("/v1/cases"))["items"]) == 2


async def test_other_facts_for_a_known_purchase_are_refused_and_named(service: Service) -> None:
    await service.ana.open(purchase=a_purchase())
    case = await service.ana.open()
    others = a_purchase(paid=euros("2000.01"), service_started_at=None)

    problem = refused(await service.ana.post("/v1/cases", an_inquiry(purchase=others)), 409, "purchase_differs")
    assert [one["field"] for one in problem["errors"]] == ["purchase.paid", "purchase.service_started_at"]
    problem = refused(await service.ana.put(f"/v1/cases/{case['id']}/purchase", others), 409, "purchase_differs")
    assert [one["field"] for one in problem["errors"]] == ["paid", "service_started_at"]
    assert done(await service.lou.get("/v1/refusals"))["items"] == []


async def test_what_happens_to_a_shared_purchase_is_told_in_both_cases(service: Service) -> None:
    first, second = [await service.ana.investigate(purchase=a_fresh_purchase()) for _ in range(2)]
    case_id = first["id"]
    await service.ana.add(case_id, "purchase/checks", reason="seen")
    proposal = await service.ana.add(case_id, "proposals", remedy="refund", amount=euros("2000.00"), reason="P5")
    await service.cleo.add(case_id, f"proposals/{proposal['id']}/payouts", reason="go")
    facts = a_fresh_purchase(package="launch and care")
    done(await service.bo.put(f"/v1/cases/{second['id']}/purchase", facts, if_match="*"))
    await service.dirk.read(case_id)
    done(await service.dirk.fire(case_id, "refund", proposal=proposal["id"], payment_reference="T-1"))

    one, other = await service.ana.read(case_id), await service.ana.read(second["id"])
    assert one["purchase"] == other["purchase"]
    assert (one["purchase"]["package"], one["purchase"]["checked"]) == ("launch and care", False)
    assert (one["purchase"]["refunded"], one["purchase"]["left"]) == (euros("2000.00"), euros("0.00"))
    changes = []
    for case in (one, other):
        history = done(await service.ana.get(f"/v1/cases/{case['id']}/events"))["items"]
        changes.append([event["data"]["change"] for event in history if event["type"] == "purchase_changed"])
        assert done(await service.ana.get(f"/v1/cases/{case['id']}/replay"))["matches_stored"]
    assert changes == [["linked", "check", "sums", "facts", "sums"]] * 2


async def test_facts_are_changed_within_what_has_been_paid_out(service: Service) -> None:
    case = await service.ana.investigate(purchase=a_fresh_purchase())
    path = f"/v1/cases/{case['id']}/purchase"
    await service.ana.add(case["id"], "purchase/checks", reason="seen")
    proposal = await service.ana.add(case["id"], "proposals", remedy="refund", amount=euros("2000.00"), reason="P5")
    await service.cleo.add(case["id"], f"proposals/{proposal['id']}/payouts", reason="go")

    assert reasons(await service.ana.put(path, a_fresh_purchase(paid=euros("1999.99")))) == ["paid_covers_refunds"]
    dollars = {"amount": "2000.00", "currency": "USD"}
    assert reasons(await service.ana.put(path, a_fresh_purchase(paid=dollars))) == ["currency_is_fixed"]
    assert reasons(await service.ana.put(path, a_fresh_purchase("D-9"))) == ["reference_is_fixed"]
    assert done(await service.ana.put(path, a_fresh_purchase(paid=euros("2000.01"))))["purchase"]["left"] == euros(
        "0.01"
    )


# Proposals.


async def test_a_proposal_is_answered_with_who_can_approve_it(service: Service) -> None:
    case = await service.ana.investigate(purchase=a_purchase())
    case_id = case["id"]
    await service.ana.add(case_id, "purchase/checks", reason="seen")
    ground = await service.bo.add(case_id, "grounds", kind="billing_error", affected=euros("300.00"), statement="twice")
    verified = await service.cleo.add(case_id, f"grounds/{ground['id']}/verifications", verified=True, evidence="seen")

    response = await service.ana.post(
        f"/v1/cases/{case_id}/proposals", {"remedy": "refund", "amount": euros("300"), "reason": "charged twice"}
    )

    proposal = done(response, 201)
    assert response.headers["audit-receipt"].endswith(f"/{proposal['digest']}")
    assert response.headers["etag"] == '"7"'
    assert (verified["verified"], verified["verified_by"], verified["recorded_by"]) == (
        True,
        "person:cleo",
        "person:bo",
    )
    assert (proposal["id"], proposal["status"], proposal["proposed_by"]) == ("p7", "proposed", "person:ana")
    assert (proposal["amount"], proposal["grounds"], proposal["reason"]) == (
        euros("300.00"),
        [ground["id"]],
        "charged twice",
    )
    assert (proposal["approvals_needed"], proposal["can_approve"], proposal["warnings"]) == (
        1,
        ["dirk", "eli", "lou"],
        [],
    )
    decision = proposal["decision"]
    assert (decision["refund"], decision["maximum"]) == ("partial", euros("300.00"))
    assert (decision["clauses"], decision["needs_approval"], decision["policy"]) == (["P6"], True, 1)
    assert (await service.bo.read(case_id))["proposals"] == [proposal]


async def test_a_proposal_warns_when_too_few_could_approve_it(service: Service) -> None:
    for name in ("dirk", "eli"):
        done(await service.adam.post(f"/v1/people/{name}/disabling", {"reason": "left"}), 201)
    case = await service.ana.investigate()

    credit = {"remedy": "compensation", "kind": "discount", "amount": euros("5000.01"), "reason": "sorry"}
    proposal = await service.ana.add(case["id"], "proposals", **credit)

    assert (proposal["approvals_needed"], proposal["can_approve"]) == (2, ["cleo"])
    assert len(proposal["warnings"]) == 1


@on_one_database
@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"remedy": "adjustment"}, ["remedy"]),
        ({"amount": euros("0.00")}, ["amount.amount"]),
        ({"amount": {"amount": "5.00", "currency": "USD"}}, ["amount.currency"]),
        ({"kind": "discount"}, ["kind"]),
        ({"remedy": "compensation"}, ["kind"]),
        ({"grounds": ["g9"]}, ["grounds[0]"]),
        ({"grounds": "g1"}, ["grounds"]),
        ({"reason": " "}, ["reason"]),
    ],
    ids=str,
)
async def test_what_is_wrong_with_a_proposal_is_named(changes: Json, fields: list[str], service: Service) -> None:
    case = await service.ana.investigate(purchase=a_purchase())
    body = {"remedy": "refund", "amount": euros("5.00"), "reason": "due"} | changes

    assert wrong_fields(await service.ana.post(f"/v1/cases/{case['id']}/proposals", body)) == fields


async def test_a_verdict_is_given_on_the_proposal_that_was_read(service: Service) -> None:
    case = await service.ana.investigate()
    credit = {"remedy": "compensation", "kind": "discount", "amount": euros("5.00"), "reason": "sorry"}
    one, other = [await service.ana.add(case["id"], "proposals", **credit) for _ in range(2)]
    path = f"/v1/cases/{case['id']}/proposals/{one['id']}/verdicts"

    wrong = await service.cleo.post(path, {"verdict": "approve", "digest": other["digest"], "reason": "fine"})
    assert [reason["code"] for reason in refused(wrong, 409, "wrong_digest")["refusals"]] == ["digest_matches"]
    approved = done(
        await service.cleo.post(path, {"verdict": "approve", "digest": one["digest"], "reason": "fine"}), 201
    )
    assert (approved["status"], approved["approvals_needed"]) == ("approved", 0)
    assert [(approval["by"], approval["reason"]) for approval in approved["approvals"]] == [("person:cleo", "fine")]
    again = await service.cleo.post(path, {"verdict": "refuse", "digest": one["digest"], "reason": "after all"})
    assert done(again, 201)["status"] == "refused"


async def test_the_maximum_holds_for_two_payouts_that_are_begun_at_once(service: Service) -> None:
    cases = []
    for _ in range(2):
        case = await service.ana.investigate(purchase=a_purchase())
        cases.append(case["id"])
        claim = {"kind": "undelivered_part", "affected": euros("1500.00"), "statement": "never came"}
        ground = await service.ana.add(case["id"], "grounds", **claim)
        await service.bo.add(case["id"], f"grounds/{ground['id']}/verifications", verified=True, evidence="list")
    await service.ana.add(cases[0], "purchase/checks", reason="seen")
    paths = []
    for case_id in cases:
        service.seen[case_id] = "*"
        refund = {"remedy": "refund", "amount": euros("1500.00"), "reason": "due"}
        proposal = await service.ana.add(case_id, "proposals", **refund)
        verdict = {"verdict": "approve", "digest": proposal["digest"], "reason": "due"}
        await service.eli.add(case_id, f"proposals/{proposal['id']}/verdicts", **verdict)
        paths.append(f"/v1/cases/{case_id}/proposals/{proposal['id']}/payouts")

    first = await service.cleo.post(paths[0], {"reason": "go"}, if_match="*")
    second = await service.dirk.post(paths[1], {"reason": "go"}, if_match="*")

    assert done(first, 201)["status"] == "paying"
    assert reasons(second) == ["within_maximum"]


# Transitions.

NEEDS = {
    "investigate": [],
    "offer_adjustment": ["description", "answer_by"],
    "schedule_consultation": ["starts_at", "minutes", "channel"],
    "issue_compensation": ["proposal"],
    "refund": ["proposal", "payment_reference"],
    "resume": ["reason_code"],
    "close": ["resolution"],
    "reopen": [],
}
TARGETS = {
    "investigate": "investigating",
    "offer_adjustment": "adjustment_offered",
    "schedule_consultation": "consultation_scheduled",
    "issue_compensation": "compensation_issued",
    "refund": "refunded",
    "resume": "investigating",
    "close": "closed",
    "reopen": "investigating",
}


async def test_every_trigger_is_listed_with_what_it_needs_and_why_it_may_not_be_fired(service: Service) -> None:
    case = await service.ana.investigate()

    response = await service.ana.get(f"/v1/cases/{case['id']}/transitions")

    listed = {one["trigger"]: one for one in done(response)}
    assert response.headers["etag"] == f'"{case["version"]}"'
    assert {name: one["needs"] for name, one in listed.items()} == NEEDS
    assert {name: one["target"] for name, one in listed.items()} == TARGETS
    assert list(listed) == list(Trigger)
    assert {name for name, one in listed.items() if one["allowed"]} == {
        "offer_adjustment", "schedule_consultation", "close",
    }  # fmt: skip
    assert {name for name, one in listed.items() if not one["refusals"]} == {
        name for name, one in listed.items() if one["allowed"]
    }
    codes = {name: [why["code"] for why in one["refusals"]] for name, one in listed.items()}
    assert codes["investigate"] == codes["reopen"] == ["no_such_transition"]
    assert codes["refund"][:3] == ["role", "there_is_a_purchase", "proposal_is_approved"]
    why = next(one for one in listed["refund"]["refusals"] if one["code"] == "there_is_a_purchase")
    assert (why["clause"], why["who"], bool(why["text"])) == ("P4", [], True)
    assert listed["refund"]["refusals"][0]["who"] == ["approver", "system"]


async def test_what_is_listed_as_allowed_is_what_the_service_then_does(service: Service) -> None:
    answer = {"text": "So it is.", "direction": "outbound"}
    data: dict[str, Json] = {
        "offer_adjustment": {"description": "another audience", "answer_by": "2026-03-20"},
        "schedule_consultation": {"starts_at": day(2), "minutes": 30, "channel": "telephone"},
        "resume": {"reason_code": "declined"},
        "close": {"resolution": "remedy_accepted"},
    }

    case = await service.ana.open()
    for wanted in ("investigate", "offer_adjustment", "resume", "schedule_consultation", "close", "reopen"):
        await service.ana.add(case["id"], "messages", **answer)
        for person in (service.ana, service.cleo, service.audrey):
            allowed = {one["trigger"]: one["allowed"] for one in (await person.read(case["id"]))["transitions"]}
            assert allowed[wanted] == (person is not service.cleo and person.token == service.ana.token)
        case = done(await service.ana.fire(case["id"], wanted, **data.get(wanted, {})))
        assert case["state"] == TARGETS[wanted]


async def test_a_trigger_that_the_state_does_not_have_is_refused_with_those_it_has(service: Service) -> None:
    case = await service.ana.open()

    problem = refused(await service.ana.fire(case["id"], "reopen"), 409, "no_such_transition")

    assert problem["allowed"] == ["investigate", "close"]
    assert [one["code"] for one in problem["refusals"]] == ["no_such_transition"]


async def test_a_guard_tells_every_reason_at_once_with_the_clause_and_who_could(service: Service) -> None:
    case = await service.ana.investigate(purchase=a_purchase())
    claim = {"kind": "billing_error", "affected": euros("300.00"), "statement": "twice"}
    await service.ana.add(case["id"], "grounds", **claim)
    credit = {"remedy": "compensation", "kind": "discount", "amount": euros("5.00"), "reason": "sorry"}
    proposal = await service.cleo.add(case["id"], "proposals", **credit)

    response = await service.cleo.fire(case["id"], "refund", proposal=proposal["id"], payment_reference="T-1")

    why = {one["code"]: one for one in refused(response, 409, "guard_refused")["refusals"]}
    assert set(why) == {
        "proposal_is_of_this_remedy", "proposal_is_approved", "settled_by_another_person", "facts_are_checked",
    }  # fmt: skip
    assert (why["facts_are_checked"]["clause"], why["facts_are_checked"]["who"]) == ("P3", ["agent", "lead"])
    assert (why["settled_by_another_person"]["clause"], why["settled_by_another_person"]["who"]) == ("P6", ["approver"])


@on_one_database
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["trigger"]),
        ({"trigger": None}, ["trigger"]),
        ({"trigger": "refunded"}, ["trigger"]),
        ({"trigger": "reopen"}, ["reason"]),
        ({"trigger": "reopen", "reason": "\t"}, ["reason"]),
        ({"trigger": "reopen", "reason": "r", "data": None}, ["data"]),
        ({"trigger": "reopen", "reason": "r", "data": {"resolution": "spam"}}, ["data.resolution"]),
        ({"trigger": "close", "reason": "r"}, ["data"]),
        ({"trigger": "close", "reason": "r", "data": {}}, ["data.resolution"]),
        ({"trigger": "close", "reason": "r", "data": {"resolution": "won"}}, ["data.resolution"]),
        (
            {"trigger": "close", "reason": "r", "data": {"resolution": "explained", "duplicate_of": "x"}},
            ["data.duplicate_of"],
        ),
        (
            {"trigger": "close", "reason": "r", "data": {"resolution": "duplicate", "duplicate_of": "x"}},
            ["data.duplicate_of"],
        ),
        ({"trigger": "resume", "reason": "r", "data": {"reason_code": "tired"}}, ["data.reason_code"]),
        (
            {"trigger": "offer_adjustment", "reason": "r", "data": {"description": "d", "answer_by": "2026-03-04"}},
            ["data.answer_by"],
        ),
        (
            {"trigger": "offer_adjustment", "reason": "r", "data": {"description": "d", "answer_by": "2026-02-30"}},
            ["data.answer_by"],
        ),
        (
            {"trigger": "offer_adjustment", "reason": "r", "data": {"description": "", "answer_by": "9999-12-31"}},
            ["data.description"],
        ),
        (
            {
                "trigger": "schedule_consultation",
                "reason": "r",
                "data": {"starts_at": day(0), "minutes": 5, "channel": "c"},
            },
            ["data.starts_at"],
        ),
        (
            {
                "trigger": "schedule_consultation",
                "reason": "r",
                "data": {"starts_at": day(1), "minutes": 0, "channel": " "},
            },
            ["data.minutes", "data.channel"],
        ),
        (
            {
                "trigger": "schedule_consultation",
                "reason": "r",
                "data": {"starts_at": day(1), "minutes": 5.0, "channel": "c"},
            },
            ["data.minutes"],
        ),
        ({"trigger": "issue_compensation", "reason": "r", "data": {"proposal": "p9"}}, ["data.proposal"]),
        ({"trigger": "issue_compensation", "reason": "r", "data": {}}, ["data.proposal"]),
    ],
    ids=str,
)
async def test_what_is_wrong_with_a_transition_is_named(body: Json, fields: list[str], service: Service) -> None:
    case = await service.ana.investigate()

    assert wrong_fields(await service.ana.post(f"/v1/cases/{case['id']}/transitions", body)) == fields


async def test_two_who_move_a_case_at_once_do_not_both_succeed(service: Service) -> None:
    case = await service.ana.open()

    first = await service.ana.post(f"/v1/cases/{case['id']}/transitions", {"trigger": "investigate", "reason": "r"})
    second = await service.bo.post(
        f"/v1/cases/{case['id']}/transitions",
        {"trigger": "investigate", "reason": "r"},
        if_match=f'"{case["version"]}"',
    )

    assert done(first)["assignee"] == "ana"
    refused(second, 412, "stale_version")


async def test_a_case_is_investigated_by_whoever_is_named(service: Service) -> None:
    cases = [await service.ana.open() for _ in range(3)]

    assert done(await service.ana.fire(cases[0]["id"], "investigate", assignee="bo"))["assignee"] == "bo"
    by_address = await service.lou.fire(cases[1]["id"], "investigate", assignee="Bo@Step-Into.example")
    assert done(by_address)["assignee"] == "bo"
    for nobody in ("nobody", "nobody@example.com", "adam", "audrey@step-into.example"):
        assert reasons(await service.lou.fire(cases[2]["id"], "investigate", assignee=nobody)) == [
            "assignee_works_cases"
        ]


async def test_nobody_holds_two_consultations_at_once(service: Service) -> None:
    one, other = [await service.ana.investigate() for _ in range(2)]
    slot: Json = {"starts_at": day(2), "minutes": 60, "channel": "telephone"}
    case = done(await service.ana.fire(one["id"], "schedule_consultation", **slot))

    assert reasons(await service.ana.fire(other["id"], "schedule_consultation", **slot)) == [
        "no_other_consultation_overlaps"
    ]
    (remedy,) = case["remedies"]
    assert (remedy["kind"], remedy["host"], remedy["channel"], remedy["minutes"]) == (
        "consultation",
        "ana",
        "telephone",
        60,
    )
    done(await service.ana.fire(one["id"], "resume", reason_code="no_show"))
    assert (
        done(await service.ana.fire(other["id"], "schedule_consultation", **slot))["state"] == "consultation_scheduled"
    )


# The case itself.


async def test_a_category_is_changed_and_a_lead_corrects_when_the_request_was_made(service: Service) -> None:
    case = await service.ana.open(purchase=a_purchase())
    path = f"/v1/cases/{case['id']}"

    assert done(await service.ana.put(f"{path}/category", {"category": "delay"}))["category"] == "delay"
    correction = {"requested_at": "2026-03-01T10:00:00+01:00", "reason": "the postmark"}
    assert done(await service.lou.put(f"{path}/requested-at", correction))["received_at"] == "2026-03-01T09:00:00Z"
    for wrong in (day(1), day(-31)):
        assert wrong_fields(await service.lou.put(f"{path}/requested-at", correction | {"requested_at": wrong})) == [
            "requested_at"
        ]


async def test_participants_are_the_client_and_whoever_is_named(service: Service) -> None:
    case = await service.ana.open()
    path = f"/v1/cases/{case['id']}/participants"

    named = done(await service.ana.put(path, {"participants": ["Bea@Example.org", "bea@example.org"]}, if_match=None))
    assert named["participants"] == ["una@example.com", "bea@example.org"]
    assert done(await service.ana.put(path, {"participants": []}))["participants"] == ["una@example.com"]
    assert wrong_fields(await service.ana.put(path, {"participants": ["a@b.example", "bea"]})) == ["participants[1]"]
    assert wrong_fields(await service.ana.put(path, {"participants": ["a@b.example"] * 51})) == ["participants"]


async def test_cases_are_linked_to_other_cases_that_there_are(service: Service) -> None:
    case, other = [await service.ana.open() for _ in range(2)]
    path = f"/v1/cases/{case['id']}/links"
    link = {"kind": "related", "case": other["id"]}

    assert done(await service.ana.post(path, link, if_match=None), 201) == link
    assert (await service.ana.read(case["id"]))["links"] == [link]
    for wrong in (case["id"], "nowhere"):
        assert wrong_fields(await service.ana.post(path, link | {"case": wrong})) == ["case"]
    assert wrong_fields(await service.ana.post(path, link | {"kind": "friend"})) == ["kind"]


# The conversation.


async def test_a_conversation_is_told_from_the_inquiry_on_and_without_notes(service: Service) -> None:
    case = await service.ana.open()
    path = f"/v1/cases/{case['id']}"
    note = done(await service.ana.post(f"{path}/notes", {"text": "sounds angry"}, if_match=None), 201)
    sent = done(
        await service.ana.post(
            f"{path}/messages", {"text": "We look.", "direction": "outbound", "awaits_reply": True}, if_match=None
        ),
        201,
    )
    taken = done(
        await service.bo.post(f"{path}/messages", {"text": "Good.", "direction": "inbound"}, if_match=None), 201
    )

    response = await service.ana.get(f"{path}/messages")

    told: list[Any] = done(response)
    assert response.headers["etag"] == '"4"'
    assert (note["id"], note["text"], note["by"], note["at"][:19]) == (
        "n2",
        "sounds angry",
        "person:ana",
        "2026-03-05T12:00:00",
    )
    assert told[1:] == [sent, taken]
    assert [(one["id"], one["direction"], one["text"], one["by"]) for one in told] == [
        ("m1", "inbound", "They never ran.", "person:ana"),
        ("m3", "outbound", "We look.", "person:ana"),
        ("m4", "inbound", "Good.", "person:bo"),
    ]
    assert [(one["subject"], one["awaits_reply"]) for one in told] == [
        ("The banners", False),
        (None, True),
        (None, False),
    ]
    assert "angry" not in (await service.ana.get(path)).text


async def test_a_message_that_awaits_a_reply_makes_the_case_wait_until_it_comes(service: Service) -> None:
    case = await service.ana.open()
    letter = {"text": "Which banner?", "direction": "outbound", "awaits_reply": True}
    await service.ana.add(case["id"], "messages", **letter)
    waiting = await service.ana.read(case["id"])
    service.clock.advance(days=2)
    await service.ana.add(case["id"], "messages", text="The red one.", direction="inbound")
    answered = await service.ana.read(case["id"])

    assert (waiting["waiting"], waiting["waiting_since"][:19]) == (True, "2026-03-05T12:00:00")
    assert [(one["kind"], one["paused"]) for one in waiting["deadlines"]] == [("next_update", True)]
    assert (answered["waiting"], answered["waiting_since"], answered["answered"]) == (False, None, False)
    assert wrong_fields(
        await service.ana.post(f"/v1/cases/{case['id']}/messages", letter | {"direction": "inbound"})
    ) == ["awaits_reply"]


async def test_a_message_that_needs_no_answer_is_said_to_need_none(service: Service) -> None:
    case = await service.ana.open()
    path = f"/v1/cases/{case['id']}/messages"

    waived = done(await service.ana.post(f"{path}/m1/no-answer-needed", {"reason": "only thanks"}, if_match=None), 201)

    assert waived["answered"]
    assert waived["id"] == case["id"]
    refused(await service.ana.post(f"{path}/m9/no-answer-needed", {"reason": "only thanks"}), 404, "not_found")
    assert wrong_fields(await service.ana.post(f"{path}/m1/no-answer-needed", {"reason": ""})) == ["reason"]


async def test_a_letter_to_a_closed_case_is_kept_and_moves_nothing(service: Service) -> None:
    case = await service.ana.open()
    done(await service.ana.fire(case["id"], "close", resolution="spam"))

    await service.ana.add(case["id"], "messages", text="I am real!", direction="inbound")
    await service.ana.add(case["id"], "notes", text="oh")

    assert (await service.ana.read(case["id"]))["state"] == CaseState.CLOSED
    assert reasons(await service.ana.put(f"/v1/cases/{case['id']}/category", {"category": "delay"})) == ["case_is_open"]
