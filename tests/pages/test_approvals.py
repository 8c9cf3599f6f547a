"""Approvals: what waits for whom, and decisions that are bound to what was on the screen."""

import secrets
from typing import Any

import pytest
from playwright.async_api import ViewportSize, expect

from api import approving
from tests.api.driving import Json, Service, a_purchase, done, euros
from tests.pages.browsing import DESKTOP, PHONE, Site, picture, require_accessible, require_tidy
from tests.pages.forms import HERE, get, post

NARROW: ViewportSize = {"width": 320, "height": 640}
HOSTILE = {
    "markup": "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>",
    "right to left": "\u202eأحمد بن علي\u202c שלום",
    "as long as may be": "W" * 9_900,
}


async def a_proposal(service: Service, amount: str = "300.00", **changes: Any) -> Json:
    """A refund of an error that Bo has verified, proposed by Ana; with its case's `number`, `case` and `place`."""
    reference = f"D-{secrets.token_hex(4)}"
    opened = {"subject": "Charged twice", "purchase": a_purchase(reference, paid=euros("20000.00"))} | changes
    case = await service.ana.investigate(**opened)
    await service.ana.add(case["id"], "purchase/checks", reason="compared with the books")
    ground = await service.ana.add(
        case["id"], "grounds", kind="billing_error", affected=euros("9000.00"), statement="the second debit"
    )
    await service.bo.add(case["id"], f"grounds/{ground['id']}/verifications", verified=True, evidence="bank statement")
    proposal = await service.ana.add(
        case["id"], "proposals", remedy="refund", amount=euros(amount), reason="The error is ours."
    )
    return with_place(proposal, case)


def with_place(proposal: Json, case: Json) -> Json:
    return proposal | {"case": case["id"], "number": case["number"], "place": f"{case['number']}/{proposal['id']}"}


async def a_credit(service: Service, amount: str = "50.00", *, by: str = "ana") -> Json:
    case = await service.ana.investigate(subject="No reply for days")
    proposal = await getattr(service, by).add(
        case["id"],
        "proposals",
        remedy="compensation",
        kind="service_credit",
        amount=euros(amount),
        reason="For the trouble.",
    )
    return with_place(proposal, case)


async def read(service: Service, proposal: Json) -> Json:
    case = await service.lou.read(proposal["case"])
    found: Json = next(one for one in case["proposals"] if one["id"] == proposal["id"])
    return found | {"version": case["version"]}


async def decide(service: Service, proposal: Json, who: str = "cleo", **form: Any) -> Any:
    """The answer to a form that says all it has to, but for what is said otherwise."""
    version = str((await service.lou.read(proposal["case"]))["version"])
    usual = {"verdict": "approve", "digest": proposal["digest"], "version": version, "reason": "It is due."}
    return await post(service, f"/approvals/{proposal['case']}/{proposal['id']}", who, **usual | form)


# In a browser.


async def test_one_after_the_other_is_approved_or_refused_each_with_a_reason(site: Site) -> None:
    first, second, third = [await a_proposal(site.service, amount) for amount in ("100.00", "200.00", "300.00")]
    page = await site.visit("cleo")
    await page.goto("/queue")
    nav = page.get_by_role("navigation", name="Main")
    await nav.get_by_role("link", name="Approvals 3").click()
    await expect(page.get_by_role("heading", level=2).first).to_have_text("100.00 EUR refund")
    detail = page.get_by_role("region", name="One in full")
    for said in (
        "by Ana, just now",
        "1 approval by lead or approver (tier up to 500.00)",
        "The error is ours.",
        "at most 9,000.00 EUR, by version 1",
        "P6",
        "recorded by Ana: the second debit",
        "Verified by Bo: bank statement",
        "paid 20,000.00 EUR",
        "in 1 day",
    ):
        await expect(detail).to_contain_text(said)
    await detail.get_by_text("Exactly what is approved").click()
    await expect(detail.locator("pre")).to_contain_text('"amount_minor": 10000')
    await expect(detail).to_contain_text(first["digest"])

    await page.get_by_label("Why").fill("It is due.")
    await page.get_by_role("button", name="Approve 100.00 EUR").click()

    await expect(page.get_by_role("status")).to_contain_text("Approved: the refund of 100.00 EUR")
    await expect(page.get_by_role("status")).to_contain_text("It can be settled now.")
    await expect(page.get_by_role("heading", level=2).first).to_have_text("200.00 EUR refund")  # the next one
    await expect(nav).to_contain_text("Approvals 2")
    await page.keyboard.press("j")
    await expect(page.get_by_role("heading", level=2).first).to_have_text("300.00 EUR refund")
    await page.get_by_label("Why").fill("The contract says otherwise.")
    await page.get_by_role("button", name="Refuse").click()
    await expect(page.get_by_role("status")).to_contain_text("Refused: the refund of 300.00 EUR")
    await expect(page.get_by_role("heading", level=2).first).to_have_text("200.00 EUR refund")

    statuses = [(await read(site.service, one))["status"] for one in (first, second, third)]
    assert statuses == ["approved", "proposed", "refused"]
    events = done(await site.service.lou.get(f"/v1/cases/{third['case']}/events"))["items"]
    assert (events[-1]["via"], events[-1]["texts"]["reason"]) == ("page", "The contract says otherwise.")


async def test_what_somebody_may_not_approve_stands_below_with_the_reason(site: Site) -> None:
    await a_proposal(site.service, "600.00")
    await a_credit(site.service, by="lou")
    mine = await a_credit(site.service)
    page = await site.visit("lou")
    await page.goto("/approvals")
    await expect(page.get_by_role("navigation", name="Main")).to_contain_text("Approvals 1")
    await expect(page.get_by_role("heading", name="Waiting for you 1")).to_be_visible()
    await expect(page.get_by_role("heading", name="Waiting for others 2")).to_be_visible()
    await expect(page.locator("main")).to_contain_text("600.00 EUR is above what your role may approve")
    await expect(page.locator("main")).to_contain_text("you proposed this; somebody else must approve it")
    await expect(page.get_by_role("button", name="Approve 50.00 EUR")).to_be_enabled()

    await page.get_by_role("link", name="600.00 EUR").click()
    await expect(page.get_by_role("button", name="Approve 600.00 EUR")).to_be_disabled()
    await expect(page.get_by_role("button", name="Approve 600.00 EUR")).to_have_accessible_description(
        "Not yours to approve 600.00 EUR is above what your role may approve P6 for: approver"
        " These can: Cleo, Dirk, Eli"
    )
    await expect(page.get_by_role("button", name="Refuse")).to_be_enabled()  # nobody has to be an approver for that
    await page.get_by_label("Why").fill("Too much.")
    await page.get_by_role("button", name="Refuse").click()
    await expect(page.get_by_role("status")).to_contain_text("Refused: the refund of 600.00 EUR")
    await expect(page.get_by_role("heading", level=2).first).to_have_text("50.00 EUR service credit")
    assert (await read(site.service, mine))["status"] == "proposed"


async def test_two_approvers_are_two_people(site: Site) -> None:
    proposal = await a_proposal(site.service, "8000.00")
    page = await site.visit("cleo", java_script_enabled=False)
    await page.goto("/approvals")
    await page.get_by_label("Why").fill("Logs and contract agree.")
    await page.get_by_role("button", name="Approve 8,000.00 EUR").click()
    await expect(page.get_by_role("status")).to_contain_text("1 more approval is needed")
    await expect(page.get_by_role("heading", name="Waiting for you 0")).to_be_visible()
    await expect(page.locator("main")).to_contain_text("you have approved this already")

    other = await site.visit("dirk")
    await other.goto("/approvals")
    detail = other.get_by_role("region", name="One in full")
    await expect(detail).to_contain_text("2 approvals by approver (the highest tier), 1 more")
    await expect(detail).to_contain_text("by Cleo, just now: Logs and contract agree.")
    await other.get_by_label("Why").fill("So do I.")
    await other.get_by_role("button", name="Approve 8,000.00 EUR").click()
    await expect(other.get_by_role("status")).to_contain_text("It can be settled now.")
    await expect(other.get_by_role("heading", name="Nothing waits for approval")).to_be_visible()
    assert (await read(site.service, proposal))["status"] == "approved"


async def test_a_question_stands_on_the_case_and_its_answer_beside_the_proposal(site: Site) -> None:
    proposal = await a_proposal(site.service)
    page = await site.visit("cleo", java_script_enabled=False)
    await page.goto("/approvals")
    await page.get_by_text("Ask back").click()
    await page.get_by_label("Question to").fill("Which of the two debits?")
    await page.get_by_role("button", name="Ask", exact=True).click()
    await expect(page.get_by_role("status")).to_contain_text("Your question stands on the case as a note")
    await expect(page.locator("main")).to_contain_text(
        f"A question to Ana about the refund of 300.00 EUR ({proposal['id']}): Which of the two debits?"
    )
    await site.service.ana.add(proposal["case"], "notes", text="The second one.")
    await page.reload()
    await expect(page.locator("main")).to_contain_text("The second one.")
    assert (await read(site.service, proposal))["status"] == "proposed"
    messages = done(await site.service.ana.get(f"/v1/cases/{proposal['case']}/messages"))
    assert "debits" not in str(messages)


async def test_a_case_that_changed_meanwhile_is_shown_anew_and_the_reason_kept(site: Site) -> None:
    proposal = await a_proposal(site.service)
    site.allow("412")
    page = await site.visit("cleo")
    await page.goto("/approvals")
    await page.get_by_label("Why").fill("It is due.")
    await site.service.bo.add(proposal["case"], "notes", text="They rang.")
    done(await site.service.lou.put(f"/v1/cases/{proposal['case']}/assignee", {"assignee": "bo"}, if_match="*"))
    await page.get_by_role("button", name="Approve 300.00 EUR").click()

    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("The case has changed. Nothing was decided.")
    await expect(alert).to_contain_text("Bo wrote a note")
    await expect(alert.get_by_role("row").nth(1)).to_have_text("assigneeAnaBo")
    await expect(page.get_by_label("Why")).to_have_value("It is due.")
    await require_accessible(page)
    await picture(page, "approvals-stale")

    await page.get_by_role("button", name="Approve 300.00 EUR").click()
    await expect(page.get_by_role("status")).to_contain_text("Approved")


async def test_a_proposal_that_became_void_cannot_be_approved_any_more(site: Site) -> None:
    proposal = await a_proposal(site.service)
    site.allow("409|412")
    page = await site.visit("cleo")
    await page.goto("/approvals")
    case = await site.service.ana.read(proposal["case"])
    facts = {
        key: case["purchase"][key]
        for key in ("reference", "paid", "purchased_at", "service_started_at", "deliverables_provided_at")
    }
    done(
        await site.service.ana.put(
            f"/v1/cases/{proposal['case']}/purchase", facts | {"package": "larger"}, if_match="*"
        )
    )
    await page.get_by_label("Why").fill("It is due.")
    await page.get_by_role("button", name="Approve 300.00 EUR").click()
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("purchase, package")
    await expect(alert.get_by_role("row", name="purchase, package")).to_contain_text("larger")
    await expect(alert.get_by_role("row", name="status")).to_contain_text("void")
    await expect(page.get_by_role("button", name="Approve")).to_be_disabled()
    await page.goto("/approvals")
    await expect(page.get_by_role("heading", name="Nothing waits for approval")).to_be_visible()
    await page.goto(f"/approvals?at={proposal['place']}")
    await expect(page.get_by_role("region", name="One in full")).to_contain_text("Statusvoid")
    await expect(page.get_by_role("button", name="Approve")).to_have_count(0)


async def test_what_comes_to_wait_meanwhile_is_listed_and_what_is_being_decided_stays(site: Site) -> None:
    first = await a_proposal(site.service)
    page = await site.visit("cleo")
    await page.goto("/approvals")
    await page.get_by_label("Why").fill("It is due.")
    second = await a_proposal(site.service, "44.00")
    await expect(page.get_by_role("heading", name="Waiting for you 2")).to_be_visible(timeout=15_000)
    await expect(page.get_by_role("link", name=second["place"])).to_be_visible()
    await expect(page.get_by_role("heading", level=2).first).to_have_text("300.00 EUR refund")
    await expect(page.get_by_label("Why")).to_have_value("It is due.")
    await page.get_by_role("button", name="Approve 300.00 EUR").click()
    await expect(page.get_by_role("status")).to_contain_text("Approved: the refund of 300.00 EUR")
    assert (await read(site.service, first))["status"] == "approved"


async def test_the_page_is_tidy_and_accessible_empty_and_crowded_and_by_keyboard(site: Site) -> None:
    page = await site.visit("cleo")
    await page.goto("/approvals")
    await require_accessible(page)
    await picture(page, "approvals-empty")
    for text in HOSTILE.values():
        await a_proposal(
            site.service, subject=text[:1999], client={"name": text[:200], "email": "una@example.com"}, message=text
        )
    proposal = await a_proposal(site.service, "8000.00")
    path = f"/approvals/{proposal['case']}/{proposal['id']}/question"
    await post(site.service, path, "cleo", text=HOSTILE["markup"])
    for size in (DESKTOP, PHONE, NARROW):
        await page.set_viewport_size(size)
        for place in ("", f"?at={proposal['place']}"):
            await page.goto(f"/approvals{place}")
            await require_tidy(page)
            await picture(page, f"approvals-{size['width']}{'-one' if place else ''}")
    await require_accessible(page)

    await page.set_viewport_size(DESKTOP)
    await page.goto("/approvals")
    await page.get_by_label("Why").focus()
    await page.keyboard.type("It is due.")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("Approved")


# By hand.


@pytest.mark.parametrize("who", ["ana", "audrey", "adam"])
async def test_whoever_gives_no_verdicts_sees_none_and_is_recorded_trying(service: Service, who: str) -> None:
    proposal = await a_proposal(service)
    assert (await get(service, "/approvals", who)).status_code == 403
    assert (await decide(service, proposal, who)).status_code == 403
    answer = await post(service, f"/approvals/{proposal['case']}/{proposal['id']}/question", who, text="?")
    assert answer.status_code == 403
    assert (await read(service, proposal))["status"] == "proposed"
    commands = [one["command"] for one in done(await service.lou.get("/v1/refusals"))["items"]]
    assert commands.count("POST /approvals/{case_id}/{proposal_id}") == 1
    if who != "adam":
        assert "Approvals" not in (await get(service, "/queue", who)).text


async def test_whoever_is_signed_out_is_asked_to_sign_in(service: Service) -> None:
    assert (await service.client.get(f"{HERE}/approvals?at=C-1/p7")).headers["location"] == (
        "/sign-in?next=%2Fapprovals%3Fat%3DC-1%2Fp7"
    )


async def test_another_digest_than_the_proposals_is_refused_and_what_differs_said(service: Service) -> None:
    proposal = await a_proposal(service)
    other = await service.ana.add(
        proposal["case"], "proposals", remedy="refund", amount=euros("200.00"), reason="Only this."
    )
    answer = await decide(service, proposal, digest=other["digest"])
    assert answer.status_code == 409
    assert "The proposal is another one" in answer.text
    assert f"was the proposal {proposal['number']}/{other['id']}" in answer.text
    assert '<th scope="row">amount</th><td dir="auto">200.00 EUR</td><td dir="auto">300.00 EUR</td>' in answer.text
    assert ">It is due.</textarea>" in answer.text
    for digest in ("", "0" * 64, "<script>", "x" * 100, "x" * 10_000):
        answer = await decide(service, proposal, digest=digest)
        assert answer.status_code in {409, 422}
    assert (await read(service, proposal))["status"] == "proposed"
    codes = [one["code"] for one in done(await service.lou.get("/v1/refusals"))["items"]]
    assert codes.count("wrong_digest") == 5


async def test_a_verdict_without_a_reason_or_a_version_is_none(service: Service) -> None:
    proposal = await a_proposal(service)
    for reason in ("", "   \n ", "x" * 10_001):
        answer = await decide(service, proposal, reason=reason)
        assert answer.status_code == 422
        assert "Reason:" in answer.text
    assert (await decide(service, proposal, verdict="maybe")).status_code == 422
    assert (await decide(service, proposal, version="")).status_code == 428
    assert (await decide(service, proposal, version="99")).status_code == 412
    assert (await decide(service, proposal, version="1")).status_code == 412
    answer = await post(service, f"/approvals/{proposal['case']}/{proposal['id']}/question", "cleo", text=" ")
    assert answer.status_code == 422
    assert (await read(service, proposal))["status"] == "proposed"


async def test_a_form_that_is_sent_twice_decides_once(service: Service) -> None:
    proposal = await a_proposal(service, "8000.00")
    key, version = secrets.token_hex(16), str((await read(service, proposal))["version"])
    answers = [await decide(service, proposal, key=key, version=version) for _ in range(2)]
    assert [one.status_code for one in answers] == [303, 303]
    assert len((await read(service, proposal))["approvals"]) == 1
    path = f"/approvals/{proposal['case']}/{proposal['id']}/question"
    for _ in range(2):
        assert (await post(service, path, "cleo", text="Why?", key=key)).status_code == 303
    history = done(await service.lou.get(f"/v1/cases/{proposal['case']}/events"))["items"]
    assert [one["type"] for one in history].count("note_added") == 1


@pytest.mark.parametrize("text", HOSTILE)
async def test_whatever_people_wrote_is_shown_as_text(service: Service, text: str) -> None:
    hostile = HOSTILE[text]
    proposal = await a_proposal(service, subject=hostile[:1999], client={"name": hostile[:200], "email": "u@x.example"})
    await decide(service, proposal, "lou", reason=hostile, digest="wrong")
    await post(service, f"/approvals/{proposal['case']}/{proposal['id']}/question", "cleo", text=hostile)
    answer = await decide(service, proposal, reason=hostile, digest="0" * 64)
    assert answer.status_code == 409
    for shown in (answer.text, (await get(service, "/approvals", "cleo")).text):
        assert "<script>alert" not in shown
        assert "<img src=x" not in shown


async def test_nothing_is_found_that_is_not_there(service: Service) -> None:
    proposal = await a_proposal(service)
    for place in ("C-9999/p1", "x", "/", "C-1001/", "%00", "C-1001/p99", "'/'", "C-1001/" + "p" * 3000):
        answer = await get(service, f"/approvals?at={place}&done={place}&asked={place}", "cleo")
        assert answer.status_code == 200
    for case, name in (("nothing", "p1"), (proposal["case"], "p99"), ("%00", "p1"), ("x" * 3000, "p1")):
        assert (await post(service, f"/approvals/{case}/{name}", "cleo", version="1")).status_code == 404
        assert (await post(service, f"/approvals/{case}/{name}/question", "cleo", text="?")).status_code == 404


async def test_more_than_can_be_counted_is_said_to_be_more(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approving, "COUNTED", 1)
    monkeypatch.setattr(approving, "LOOKED_AT", 3)
    cleo = next(one for one in (await service.desk.context()).people.values() if one.id == "cleo").as_actor()
    counts = [await approving.count(service.desk, cleo)]
    for _ in range(3):
        await a_credit(service)
        counts.append(await approving.count(service.desk, cleo))
    assert counts == ["", "1", "1+", "1+"]
    monkeypatch.setattr(approving, "COUNTED", 99)
    assert await approving.count(service.desk, cleo) == "3+"  # there may be others that were not looked at


async def test_a_tier_that_was_raised_asks_for_further_approvals(service: Service) -> None:
    proposal = await a_proposal(service)
    assert (await decide(service, proposal)).status_code == 303
    assert "Nothing waits for approval" in (await get(service, "/approvals", "dirk")).text
    tiers = [{"up_to": None, "roles": ["approver"], "count": 2}]
    done(await service.adam.post("/v1/policy", {"settings": {"tiers": tiers}}), 201)
    assert "2 approvals by approver" in (await get(service, "/approvals", "dirk")).text
