"""Running the desk: people and their ways in, the policy, and how the desk itself is doing."""

import secrets
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.async_api import ViewportSize, expect

from api.verifying import Verified, result_file
from storage import people
from storage.schema import HEAD
from tests.api.driving import Clock, Service, done, refused, running
from tests.pages.browsing import DESKTOP, PHONE, Site, picture, require_accessible, require_tidy, sign_in
from tests.pages.forms import HERE, get, post

NARROW: ViewportSize = {"width": 320, "height": 640}
PAGES = ("/admin", "/admin/people/ana", "/admin/policy", "/admin/health")
HOSTILE = {
    "markup": "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>",
    "right to left": "\u202eأحمد بن علي\u202c שלום",
    "as long as may be": "W" * 500,
}


async def known(service: Service, email: str) -> Any:
    person = await people.by_email(service.desk.database, email)
    assert person is not None
    return person


# In a browser.


async def test_an_admin_adds_somebody_and_hands_them_a_link_that_signs_them_in(site: Site) -> None:
    page = await site.visit("adam")
    await page.goto("/")
    await page.wait_for_url("**/admin")  # what an admin alone can see comes first
    await expect(page.get_by_role("navigation", name="Main").get_by_role("link")).to_have_text(["Admin", "Deliveries"])
    await expect(page.get_by_role("search")).to_have_count(0)
    await page.get_by_label("Name").fill("Kim أحمد O'Hara")
    await page.get_by_label("Address").fill("Kim@Step-Into.example")
    await page.get_by_label("agent").check()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Kim أحمد O'Hara")
    await expect(page.get_by_role("status")).to_contain_text("have no way in yet")

    await page.get_by_role("button", name="Make a link").click()
    link = await page.get_by_label("The link").input_value()
    assert link.startswith(f"{site.url}/sign-in/")
    await page.reload()
    await expect(page.get_by_label("The link")).to_have_value(link)  # the same form again: the same link
    await expect(page.get_by_role("region", name="How they sign in").get_by_role("listitem")).to_have_count(1)
    await page.get_by_role("link", name="← People").click()
    await page.get_by_role("link", name="Kim أحمد O'Hara").click()
    await expect(page.get_by_label("The link")).to_have_count(0)

    kim = await site.visit()
    await kim.goto(link)
    await kim.get_by_role("button", name="Sign in").click()
    await kim.wait_for_url("**/queue")
    await page.reload()
    sessions = page.get_by_role("region", name="Sessions")
    await expect(sessions.get_by_role("listitem")).to_have_count(1)
    await sessions.get_by_role("button", name="End").click()
    await expect(sessions).to_contain_text("Not signed in anywhere")
    await kim.reload()
    await kim.wait_for_url("**/sign-in?next=*")


async def test_roles_are_set_and_count_at_once(site: Site) -> None:
    site.allow("403|422")
    cleo = await site.visit("cleo")
    await cleo.goto("/approvals")
    page = await site.visit("adam", java_script_enabled=False)
    await page.goto("/admin/people/cleo")
    await page.get_by_label("approver").uncheck()
    await page.get_by_role("button", name="Set roles").click()
    await expect(page.get_by_role("alert")).to_contain_text("Nothing was changed")
    await page.get_by_label("auditor").check()
    await page.get_by_role("button", name="Set roles").click()
    await expect(page.get_by_role("status")).to_contain_text("from their very next request on")
    await expect(page.get_by_label("auditor")).to_be_checked()
    await cleo.reload()
    await expect(cleo.locator("main")).to_contain_text("this is for: lead, approver")


async def test_a_token_is_made_shown_once_and_revoked(site: Site) -> None:
    page = await site.visit("adam")
    await page.goto("/admin/people/bo")
    await page.get_by_label("Good for days").fill("30")
    await page.get_by_role("button", name="Make a token").click()
    token = await page.get_by_label("The token").input_value()
    assert done(await site.service.signed_in(token).get("/v1/me"))["id"] == "bo"
    tokens = page.get_by_role("region", name="Tokens for the API")
    await expect(tokens.get_by_role("listitem").nth(0)).to_contain_text("made just now, by Adam · until 4 Apr 2026")
    await tokens.get_by_role("listitem").nth(0).get_by_role("button").click()
    await expect(page.get_by_role("status")).to_contain_text("It has ended")
    refused(await site.service.signed_in(token).get("/v1/me"), 401, "unauthorized")


async def test_whoever_is_disabled_is_out_and_stays_on_the_list(site: Site) -> None:
    bo = await site.visit("bo")
    await bo.goto("/queue")
    page = await site.visit("adam")
    await page.goto("/admin/people/bo")
    await page.get_by_label("Why").fill("left")
    await page.get_by_role("button", name="Disable Bo").click()
    await expect(page.get_by_role("status")).to_contain_text("can do nothing any more")
    await expect(page.get_by_role("button", name="Set roles")).to_have_count(0)
    await page.goto("/admin")
    await expect(page.get_by_role("row").last).to_contain_text("Bo")
    await expect(page.get_by_role("row").last).to_contain_text("disabled")
    await bo.reload()
    await bo.wait_for_url("**/sign-in?next=*")


async def test_a_version_of_the_policy_is_added_and_what_is_wrong_with_one_is_said(site: Site) -> None:
    site.allow("422")
    page = await site.visit("adam")
    await page.goto("/admin/policy")
    await page.get_by_label("Days for a full refund").fill("14")
    await page.get_by_role("group", name="Tier 2").get_by_label("Up to").fill("100")
    await page.get_by_role("button", name="Add this version").click()
    await expect(page.get_by_role("alert")).to_contain_text("Tier 2, up to: has to be above zero and above the tier")
    await expect(page.get_by_label("Days for a full refund")).to_have_value("14")

    tier = page.get_by_role("group", name="Tier 2")
    await tier.get_by_label("Up to").fill("9000.00")
    await tier.get_by_label("lead").check()
    await page.get_by_label("undelivered part").uncheck()
    await page.get_by_role("button", name="Add this version").click()
    await expect(page.get_by_role("status")).to_have_text("The version is recorded.")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Policy version 2")
    await expect(page.locator("dl.settings").first).to_contain_text("up to 9000.00: 1 × lead or approver")
    settings = done(await site.service.adam.get("/v1/policy"))["items"][-1]["settings"]
    assert (settings["window_days"], settings["grounds"]) == (14, ["billing_error", "technical_failure"])
    assert settings["tiers"][2] == {"up_to": None, "roles": ["approver"], "count": 2}


async def test_health_says_in_words_what_readyz_says(site: Site) -> None:
    page = await site.visit("adam")
    await page.goto("/admin/health")
    await expect(page.get_by_role("heading", name="Verification")).to_be_visible()
    await expect(page.get_by_text("None is made on schedule.")).to_be_visible()
    await expect(page.get_by_text(f"SQLite, schema {HEAD}")).to_be_visible()


async def test_a_verification_that_found_something_stands_out(desk_url: str, clock: Clock, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    async with running(desk_url, clock, key_folder=folder, verify_every=24, database_url=desk_url) as service:
        assert "Made every 24.0 hours; none has ended yet." in (await get(service, "/admin/health", "adam")).text
        found = Verified(at="2026-03-05T11:00:00Z", ok=False, seconds=3, events=9, faults=1, first="<b>case:A</b> 3")
        result_file(service.desk.settings).write_bytes(msgspec.json.encode(found))
        text = (await get(service, "/admin/health", "adam")).text
    assert "&lt;b&gt;case:A&lt;/b&gt; 3" in text
    assert "1 found wrong:" in text
    assert "should be looked into" in text


@pytest.mark.parametrize("path", PAGES)
async def test_the_pages_are_tidy_and_accessible(site: Site, path: str) -> None:
    for number, name in enumerate(HOSTILE.values()):
        await post(site.service, "/admin/people", "adam", name=name, email=f"{number}@w.example", roles="agent")
    page = await site.visit("adam")
    for size in (DESKTOP, PHONE, NARROW):
        await page.set_viewport_size(size)
        await page.goto(path)
        await require_tidy(page)
        await picture(page, f"{path.strip('/').replace('/', '-')}-{size['width']}")
    await require_accessible(page)


# By hand.


@pytest.mark.parametrize("who", ["ana", "lou", "cleo", "audrey"])
async def test_nobody_but_an_admin_sees_or_changes_anything(service: Service, who: str) -> None:
    for path in PAGES:
        assert (await get(service, path, who)).status_code == 403
    attempts = {
        "/admin/people": {"name": "Kim", "email": "kim@step-into.example", "roles": "admin"},
        f"/admin/people/{who}/roles": {"roles": "admin"},
        "/admin/people/adam/disabling": {"reason": "mine now"},
        "/admin/people/adam/links": {},
        "/admin/people/adam/tokens": {},
        "/admin/people/adam/tokens/token-adam/revocation": {},
        "/admin/people/adam/sessions/ending": {},
        "/admin/people/adam/identities": {"issuer": "https://x.example", "subject": "1"},
        "/admin/people/adam/identities/1/unlinking": {},
        "/admin/policy": {"seen": "1", "window_days": "99"},
    }
    for path, form in attempts.items():
        assert (await post(service, path, who, **form)).status_code == 403
    refusals = done(await service.lou.get("/v1/refusals?limit=100"))["items"]
    assert [one["command"] for one in refusals if one["actor"] == f"person:{who}"].count("POST /admin/people") == 1
    assert len([one for one in refusals if one["actor"] == f"person:{who}"]) == len(attempts)
    assert done(await service.adam.get("/v1/me"))["roles"] == ["admin"]


async def test_whoever_is_signed_out_is_asked_to_sign_in(service: Service) -> None:
    for path in PAGES:
        assert (await service.client.get(f"{HERE}{path}")).headers["location"].startswith("/sign-in?next=%2Fadmin")
    answer = await service.client.post(
        f"{HERE}/admin/people/adam/links", data={"x": "1"}, headers={"sec-fetch-site": "same-origin"}
    )
    assert answer.headers["location"] == "/sign-in"


async def test_no_page_of_an_admin_tells_of_a_case(service: Service) -> None:
    await service.ana.open(subject="canary subject", client={"name": "canary name", "email": "canary@example.com"})
    for path in (*PAGES, "/account"):
        answer = await get(service, path, "adam")
        assert answer.status_code == 200
        assert "canary" not in answer.text


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": " "}, "Name: must not be blank"),
    "a long name": ({"name": "x" * 10_000}, "Name:"),
    "no address": ({"email": "kim"}, "Address: is not an e-mail address"),
    "somebody else's address": ({"email": "BO@step-into.example"}, "Address: is somebody&#39;s already"),
    "no role": ({"roles": []}, "Roles:"),
    "a role of machines": ({"roles": "system"}, "Roles:"),
    "a role that is none": ({"roles": "king"}, "Roles[0]:"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_with_somebody_new_is_said_and_what_was_typed_is_kept(service: Service, wrong: str) -> None:
    changes, said = WRONG[wrong]
    form = {"name": "Kim", "email": "kim@step-into.example", "roles": ["agent", "lead"]} | changes
    answer = await post(service, "/admin/people", "adam", **form)
    assert answer.status_code == 422
    assert said in answer.text
    assert f'value="{form["email"]}"' in answer.text
    assert len(await people.everybody(service.desk.database)) == 8


async def test_what_no_database_can_hold_is_refused(service: Service) -> None:
    answer = await post(service, "/admin/people", "adam", name="a\x00b", email="kim@step-into.example", roles="agent")
    assert answer.status_code == 422
    assert "holds a NUL character" in answer.text


@pytest.mark.parametrize("name", HOSTILE)
async def test_whatever_somebody_is_called_is_shown_as_text(service: Service, name: str) -> None:
    answer = await post(service, "/admin/people", "adam", name=HOSTILE[name], email="x@x.example", roles="agent")
    assert answer.status_code == 303
    person = await known(service, "x@x.example")
    for path in ("/admin", f"/admin/people/{person.id}"):
        text = (await get(service, path, "adam")).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text


async def test_a_form_that_is_sent_twice_is_carried_out_once(service: Service) -> None:
    key = secrets.token_hex(16)
    form = {"name": "Kim", "email": "kim@step-into.example", "roles": "agent", "key": key}
    answers = [await post(service, "/admin/people", "adam", **form) for _ in range(2)]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    shown = [await post(service, "/admin/people/bo/tokens", "adam", days="3", key=key) for _ in range(2)]
    tokens = [one.text.partition('aria-label="The token"')[0].rpartition('value="')[2] for one in shown]
    assert tokens[0] == tokens[1]
    assert tokens[0].startswith("cw_")
    assert len([one for one in (await known(service, "bo@step-into.example")).tokens if one.id != "token-bo"]) == 1


async def test_what_somebody_is_told_once_is_kept_nowhere(service: Service) -> None:
    answer = await post(service, "/admin/people/bo/links", "adam")
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    secret = answer.text.partition("/sign-in/")[2].partition('"')[0]
    assert len(secret) > 40
    for path in (*PAGES, "/admin/people/bo"):
        assert secret not in (await get(service, path, "adam")).text
    assert secret not in (await service.audrey.get("/v1/events?limit=1000")).text


async def test_a_link_leads_to_where_people_reach_the_desk(desk_url: str, clock: Clock, tmp_path: Path) -> None:
    public = {"key_folder": tmp_path / "keys", "public_url": "https://desk.example/"}
    async with running(desk_url, clock, **public) as service:
        answer = await post(service, "/admin/people/bo/links", "adam")
    assert 'value="https://desk.example/sign-in/' in answer.text


async def test_an_identity_is_linked_once_and_unlinked(service: Service) -> None:
    form = {"issuer": "https://id.step-into.example", "subject": "<b>248289761001</b>"}
    assert (await post(service, "/admin/people/bo/identities", "adam", **form)).status_code == 303
    taken = await post(service, "/admin/people/ana/identities", "adam", **form)
    assert taken.status_code == 422
    assert "Subject: is somebody&#39;s already" in taken.text
    assert "&lt;b&gt;248289761001&lt;/b&gt;" in (await get(service, "/admin/people/bo", "adam")).text
    secret = await sign_in(service, "bo")
    ((identity, _, _),) = await people.identities_of(service.desk.database, "bo")
    path = f"/admin/people/bo/identities/{identity}/unlinking"
    assert (await post(service, path, "adam")).headers["location"].endswith("done=unlinked")
    assert (await post(service, path, "adam")).status_code == 303
    assert await people.by_token(service.desk.database, people.secret_hash(secret)) is None
    for issuer, subject in (("id.example", "1"), ("https://x.example", "é"), ("https://x.example", "a\x00b"), ("", "")):
        wrong = await post(service, "/admin/people/bo/identities", "adam", issuer=issuer, subject=subject)
        assert wrong.status_code == 422


async def test_all_sessions_of_somebody_are_ended_and_ones_own_goes_on(service: Service) -> None:
    await sign_in(service, "bo")
    assert (await post(service, "/admin/people/bo/sessions/ending", "adam")).status_code == 303
    assert (await known(service, "bo@step-into.example")).sessions == ()
    assert (await post(service, "/admin/people/adam/sessions/ending", "adam")).status_code == 303
    assert (await get(service, "/admin", "adam")).status_code == 200


async def test_nobody_is_found_who_is_not_there(service: Service) -> None:
    for person in ("nobody", "x" * 5000, "%00", "..%2f..", "' OR 1=1"):
        assert (await get(service, f"/admin/people/{person}", "adam")).status_code == 404
        assert (await post(service, f"/admin/people/{person}/links", "adam")).status_code == 404
    assert (await post(service, "/admin/people/bo/tokens/nothing/revocation", "adam")).status_code == 303
    for days in ("0", "-3", "x", "99999", "1e3"):
        assert (await post(service, "/admin/people/bo/tokens", "adam", days=days)).status_code == 422


POLICY = {
    "seen": "1",
    "window_days": "7",
    "reopening_days": "30",
    "first_answer_hours": "24",
    "next_update_days": "7",
    "retention_days": "1096",
    "timezone": "UTC",
    "grounds": ["billing_error", "technical_failure", "undelivered_part"],
    "tier0.up_to": "500.00",
    "tier0.roles": ["lead", "approver"],
    "tier0.count": "1",
    "tier1.up_to": "5000.00",
    "tier1.roles": ["approver"],
    "tier1.count": "1",
    "tier2.up_to": "",
    "tier2.roles": ["approver"],
    "tier2.count": "2",
}
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing differs": ({}, "are those of version 1, which is in force"),
    "another was added": ({"seen": "0", "window_days": "8"}, "was added meanwhile"),
    "no number": ({"window_days": "a week"}, "Days for a full refund:"),
    "a number too large": ({"window_days": "999999999999"}, "Days for a full refund:"),
    "none": ({"reopening_days": "0"}, "Days to reopen: has to be between 1"),
    "no zone": ({"timezone": "Mars/Olympus"}, "Time zone:"),
    "no grounds": ({"grounds": []}, "Grounds for a refund: has to name at least one kind"),
    "a ground that is none": ({"grounds": ["rain"]}, "Grounds"),
    "no last tier": ({"tier2.up_to": "9000"}, "Who approves: have to end with one without limit"),
    "nobody approves": ({"tier1.roles": []}, "Tier 2, roles: has to name some of"),
    "a role that never approves": ({"tier1.roles": ["agent"]}, "Tier 2, roles:"),
    "no approvals": ({"tier0.count": "0"}, "Tier 1, count: has to be between 1"),
    "many approvals": ({"tier0.count": ""}, "Tier 1, count:"),
    "a time that is none": ({"effective_from": "soon", "window_days": "8"}, "has to be a day and a time"),
    "in the past": ({"effective_from": "2026-03-01T09:00", "window_days": "8"}, "must not be in the past"),
    "beyond the calendar": ({"effective_from": "99999-12-31T23:59", "window_days": "8"}, "has to be a day and a time"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_version_that_makes_no_sense_is_not_added(service: Service, fault: str) -> None:
    changes, said = FAULTS[fault]
    answer = await post(service, "/admin/policy", "adam", **POLICY | changes)
    assert answer.status_code == 422, answer.text
    assert said in answer.text
    assert len(done(await service.adam.get("/v1/policy"))["items"]) == 1


async def test_a_version_begins_when_it_is_said_in_the_desks_zone(service: Service) -> None:
    answer = await post(service, "/admin/policy", "adam", **POLICY | {"timezone": "Europe/Kyiv"})
    assert answer.status_code == 303
    changes = {"seen": "2", "timezone": "Europe/Kyiv", "window_days": "10", "effective_from": "2026-07-01T09:00"}
    assert (await post(service, "/admin/policy", "adam", **POLICY | changes)).status_code == 303
    versions = done(await service.adam.get("/v1/policy"))["items"]
    assert versions[-1]["effective_from"] == "2026-07-01T06:00:00Z"
    assert versions[1]["in_force"]
    assert "Version 3, from 1 Jul 2026, 06:00 UTC" in (await get(service, "/admin/policy", "adam")).text


async def test_a_tier_more_is_a_row_more(service: Service) -> None:
    rows = {
        "tier2.up_to": "20000",
        "tier2.count": "2",
        "tier4.up_to": "",
        "tier4.roles": ["approver"],
        "tier4.count": "3",
    }
    assert (await post(service, "/admin/policy", "adam", **POLICY | rows)).status_code == 303
    tiers = done(await service.adam.get("/v1/policy"))["items"][-1]["settings"]["tiers"]
    assert [(one["up_to"], one["count"]) for one in tiers] == [("500.00", 1), ("5000.00", 1), ("20000", 2), (None, 3)]
