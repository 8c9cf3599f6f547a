"""Reports: facts about who did what, each from the log at one position."""

from typing import Any

import pytest

from tests.api.driving import Clock, Json, Service, a_purchase, day, done, euros, refused, wrong_fields
from tests.api.routes import REPORTS


async def report(service: Service, name: str, **query: Any) -> Json:
    answer: Json = done(await service.audrey.get(f"/v1/reports/{name}", **query))
    return answer


async def a_proposal(service: Service, amount: str, reference: str) -> tuple[Json, Json]:
    """Ana's, for what Bo has verified."""
    case = await service.ana.investigate(purchase=a_purchase(reference))
    await service.ana.add(case["id"], "purchase/checks", reason="seen")
    claim = {"kind": "billing_error", "affected": euros(amount), "statement": "charged twice"}
    ground = await service.ana.add(case["id"], "grounds", **claim)
    await service.bo.add(case["id"], f"grounds/{ground['id']}/verifications", verified=True, evidence="statement")
    refund = {"remedy": "refund", "amount": euros(amount), "reason": "charged twice"}
    return case, await service.ana.add(case["id"], "proposals", **refund)


async def approve(service: Service, case: Json, proposal: Json) -> None:
    verdict = {"verdict": "approve", "reason": "due", "digest": proposal["digest"]}
    await service.cleo.add(case["id"], f"proposals/{proposal['id']}/verdicts", **verdict)


async def a_paid_refund(service: Service, amount: str = "300.00", reference: str = "D-1") -> Json:
    case, proposal = await a_proposal(service, amount, reference)
    await approve(service, case, proposal)
    await service.dirk.add(case["id"], f"proposals/{proposal['id']}/payouts", reason="due")
    done(await service.dirk.fire(case["id"], "refund", proposal=proposal["id"], payment_reference="T-1"))
    return case


async def test_who_had_which_part_in_each_payment(service: Service) -> None:
    case = await a_paid_refund(service)

    found = await report(service, "duties")

    (item,) = found["items"]
    assert (item["case"], item["number"], item["amount"]) == (case["id"], case["number"], euros("300.00"))
    assert (item["proposed_by"], item["begun_by"], item["settled_by"]) == ("person:ana", "person:dirk", "person:dirk")
    assert [one["by"] for one in item["approvals"]] == ["person:cleo"]
    assert item["evidence_by"] == ["person:ana", "person:bo"]
    assert item["rule"] == {"policy": 1, "roles": ["lead", "approver"], "count": 1}
    assert (item["clause"], item["same"], item["missing_approvals"], item["breach"]) == ("P6", [], 0, False)
    assert item["receipt"].startswith(f"case:{case['id']}/")
    assert found["breaches"] == 0


async def test_refunds_near_a_tier_are_grouped_by_who_proposed_them(service: Service) -> None:
    for number, amount in enumerate(("495.00", "450.00", "449.99", "500.01")):
        await a_proposal(service, amount, f"D-{number}")

    found, nearer = await report(service, "near-tiers"), await report(service, "near-tiers", percent=1)

    (group,) = found["groups"]
    assert (group["proposed_by"], group["count"], found["percent"]) == ("person:ana", 2, 10)
    assert {(one["amount"]["amount"], one["limit"]) for one in group["items"]} == {
        ("495.00", "500.00"),
        ("450.00", "500.00"),
    }
    assert [one["amount"]["amount"] for one in nearer["groups"][0]["items"]] == ["495.00"]


async def test_a_refund_that_was_refused_against_the_policy_is_an_override(service: Service) -> None:
    case, proposal = await a_proposal(service, "300.00", "D-1")
    verdict = {"verdict": "refuse", "reason": "no", "digest": proposal["digest"]}
    await service.cleo.add(case["id"], f"proposals/{proposal['id']}/verdicts", **verdict)
    done(await service.lou.put(f"/v1/cases/{case['id']}/requested-at", {"requested_at": day(-1), "reason": "mail"}))

    items = (await report(service, "overrides"))["items"]

    assert [(one["kind"], one["by"], one["case"]) for one in items] == [
        ("allowed_refund_refused", "person:cleo", case["id"]),
        ("requested_at_corrected", "person:lou", case["id"]),
    ]


async def test_approvals_that_became_void_are_told_with_what_made_them_so(service: Service) -> None:
    case, proposal = await a_proposal(service, "300.00", "D-1")
    await approve(service, case, proposal)
    done(await service.ana.put(f"/v1/cases/{case['id']}/category", {"category": "other"}))

    (item,) = (await report(service, "voided-approvals"))["items"]

    assert (item["proposal"], item["type"], item["by"]) == (proposal["id"], "recategorized", "person:ana")
    assert [one["by"] for one in item["approvals"]] == ["person:cleo"]


async def test_refusals_are_counted_for_each_person_and_reason(service: Service) -> None:
    case = await service.ana.open()
    for _ in range(3):
        await service.ana.fire(case["id"], "close", resolution="explained")
    await service.adam.get(f"/v1/cases/{case['id']}")

    items = (await report(service, "refusals"))["items"]

    by_ana = {one["reason"]: one["count"] for one in items if one["actor"] == "person:ana"}
    assert set(by_ana.values()) == {3}
    assert items[0]["actor"] == "person:ana"
    (by_adam,) = [one for one in items if one["actor"] == "person:adam"]
    assert (by_adam["code"], by_adam["reason"], by_adam["count"], by_adam["cases"]) == ("forbidden", "role", 1, 1)


async def a_bit_of_everything(service: Service) -> None:
    await a_paid_refund(service, "495.00", "D-1")
    case, proposal = await a_proposal(service, "300.00", "D-2")
    await approve(service, case, proposal)
    done(await service.lou.put(f"/v1/cases/{case['id']}/requested-at", {"requested_at": day(-1), "reason": "mail"}))
    refused(await service.audrey.post(f"/v1/cases/{case['id']}/notes", {"text": "!"}), 403, "forbidden")


@pytest.mark.parametrize("name", REPORTS)
async def test_a_report_is_of_a_period(name: str, service: Service, clock: Clock) -> None:
    await a_bit_of_everything(service)
    end = day(1)
    clock.advance(days=2)

    everything, inside = await report(service, name), await report(service, name, **{"from": day(0), "to": end})
    before, after = await report(service, name, to=day(-1)), await report(service, name, **{"from": end})

    def found(answer: Json) -> list[Json]:
        items: list[Json] = answer["groups"] if name == "near-tiers" else answer["items"]
        return items

    assert found(everything) == found(inside) != []
    assert found(before) == found(after) == []


@pytest.mark.parametrize("name", REPORTS)
async def test_a_report_stays_what_it_was_at_its_position(name: str, service: Service) -> None:
    await a_bit_of_everything(service)
    first = await report(service, name)
    await a_paid_refund(service, "490.00", "D-9")
    case, proposal = await a_proposal(service, "300.00", "D-8")
    await approve(service, case, proposal)
    done(await service.lou.put(f"/v1/cases/{case['id']}/requested-at", {"requested_at": day(-1), "reason": "mail"}))
    refused(await service.audrey.post(f"/v1/cases/{case['id']}/notes", {"text": "!"}), 403, "forbidden")

    again, now = await report(service, name, position=first["position"]), await report(service, name)

    assert again == first
    assert now != first


async def test_what_makes_no_sense_is_refused(service: Service) -> None:
    assert wrong_fields(await service.audrey.get("/v1/reports/duties", position=10**9)) == ["position"]
    assert wrong_fields(await service.audrey.get("/v1/reports/near-tiers", percent=101)) == ["percent"]
    assert wrong_fields(await service.audrey.get("/v1/reports/refusals", **{"from": "yesterday"})) == ["from"]
