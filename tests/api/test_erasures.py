"""Whoever answers for personal data erases them; a hold and the time they have to be kept stand in the way."""

from pathlib import Path
from typing import Any

import pytest

from api.casework_verify import FAILS, parsed_key, verify
from storage.keys import announcements, ensure_key
from tests.api.driving import Json, Person, Service, an_inquiry, done, reasons, refused, wrong_fields
from tests.databases import sqlite_url
from tests.processes import casework, serving
from workflow.desk import SetMailAside
from workflow.policy import RETENTION_DAYS

ZAPHOD = {"name": "Zaphod", "email": "zaphod@secret.example"}
BASIS = "GDPR Art. 17(1)(a)"


def asking(**changes: Any) -> Json:
    return {"client": ZAPHOD["email"], "legal_basis": BASIS, "reason": "asked by telephone"} | changes


async def erase(person: Person, *, key: str | None = None, **changes: Any) -> list[Json]:
    items: list[Json] = done(await person.post("/v1/erasures", asking(**changes), key=key), 201)["items"]
    return items


async def a_closed_case(service: Service, **changes: Any) -> Json:
    case = await service.ana.open(client=ZAPHOD, message="Zaphod wants his money", **changes)
    form = {"file": ("zaphod.txt", b"Zaphod was charged twice", "text/plain")}
    done(await service.ana.send("POST", f"/v1/cases/{case['id']}/attachments", files=form), 201)
    await service.ana.read(case["id"])
    closed: Json = done(await service.ana.fire(case["id"], "close", resolution="spam"))
    return closed


async def test_what_was_erased_reads_erased_wherever_it_is_shown(service: Service) -> None:
    case = await a_closed_case(service)
    path = f"/v1/cases/{case['id']}"
    service.clock.advance(days=RETENTION_DAYS + 1)

    (item,) = await erase(service.adam)

    assert (item["case"], item["outcome"], item["texts"], item["files"]) == (case["id"], "erased", 6, 1)
    shown = await service.ana.read(case["id"])
    assert (shown["subject"], shown["client"]) == ("erased", {"name": "erased", "email": "erased"})
    (message,) = done(await service.ana.get(f"{path}/messages"))
    assert message["text"] == "erased"
    (file,) = done(await service.ana.get(f"{path}/attachments"))
    assert file["name"] == "erased"
    refused(await service.ana.get(f"{path}/attachments/{file['id']}"), 404, "not_found")
    told = done(await service.ana.get(f"{path}/events"))
    assert told["items"][0]["texts"]["message"] == "erased"
    replayed = done(await service.ana.get(f"{path}/replay", version=1))
    assert (replayed["case"]["subject"], replayed["matches_stored"]) == ("erased", True)
    assert done(await service.ana.get("/v1/cases", q="zaphod"))["items"] == []
    assert "aphod" not in told["items"][-1]["body"]


async def test_an_erasure_is_listed_without_personal_data(service: Service) -> None:
    case = await a_closed_case(service)
    (scheduled,) = await erase(service.adam)
    (erased,) = await erase(service.adam, override=True)

    for reader in (service.lou, service.audrey, service.adam):
        last, first = done(await reader.get("/v1/erasures"))["items"]
        assert (first["type"], first["receipt"]) == ("erasure_requested", scheduled["receipt"])
        assert (last["type"], last["receipt"], last["overridden"]) == ("erased", erased["receipt"], True)
        assert (last["case"], last["legal_basis"], last["actor"]) == (case["id"], BASIS, "person:adam")
        assert last["fields"]["client_email"] == "1"
        assert "aphod" not in str([last, first])
    page = done(await service.lou.get("/v1/erasures", limit=1))
    assert [one["type"] for one in page["items"]] == ["erased"]
    rest = done(await service.lou.get("/v1/erasures", limit=1, cursor=page["next"]))
    assert ([one["type"] for one in rest["items"]], rest["next"]) == (["erasure_requested"], None)


async def test_an_erasure_is_scheduled_for_the_day_from_which_nothing_has_to_be_kept(service: Service) -> None:
    closed = await a_closed_case(service)
    opened = await service.ana.open(client=ZAPHOD)

    first, second = await erase(service.adam)

    assert {first["case"]: first["outcome"], second["case"]: second["outcome"]} == {
        closed["id"]: "scheduled",
        opened["id"]: "scheduled",
    }
    by_case = {one["case"]: one for one in (first, second)}
    assert by_case[opened["id"]]["due_at"] is None
    asked = (await service.ana.read(closed["id"]))["erasure"]
    assert asked == {"legal_basis": BASIS, "due_at": by_case[closed["id"]]["due_at"]}
    service.clock.advance(days=RETENTION_DAYS + 1)
    await service.desk.erasures.carry_out_due()
    assert (await service.ana.read(closed["id"]))["subject"] == "erased"
    assert (await service.ana.read(opened["id"]))["subject"] != "erased"


async def test_a_hold_refuses_with_its_reason_and_who_can_release_it(service: Service) -> None:
    case = await a_closed_case(service)
    path = f"/v1/cases/{case['id']}/hold"
    held = done(await service.lou.put(path, {"reason": "the ombudsman asks for it"}))
    assert (held["held"], held["version"]) == (True, case["version"] + 1)
    assert (await service.ana.read(case["id"]))["hold"] == "the ombudsman asks for it"

    answer = await service.adam.post("/v1/erasures", asking(override=True))

    (refusal,) = refused(answer, 409, "guard_refused")["refusals"]
    assert (refusal["code"], refusal["who"]) == ("no_hold_stands", ["lead", "admin"])
    assert (await service.ana.read(case["id"]))["subject"] == "The banners"
    done(await service.adam.post(f"{path}/release", {"reason": "it has decided"}), 201)
    assert reasons(await service.adam.post(f"{path}/release", {"reason": "again"})) == ["a_hold_stands"]
    (item,) = await erase(service.adam, override=True)
    assert item["outcome"] == "erased"


async def test_one_case_under_a_hold_does_not_keep_the_others(service: Service) -> None:
    held, free = await a_closed_case(service), await a_closed_case(service)
    done(await service.lou.put(f"/v1/cases/{held['id']}/hold", {"reason": "the ombudsman asks for it"}))

    items = {one["case"]: one for one in await erase(service.adam, override=True)}

    assert (items[held["id"]]["outcome"], items[free["id"]]["outcome"]) == ("refused", "erased")
    assert [one["code"] for one in items[held["id"]]["refusals"]] == ["no_hold_stands"]


@pytest.mark.parametrize("name", ["ana", "lou", "cleo", "audrey"])
async def test_only_an_admin_erases_and_the_attempt_is_recorded(name: str, service: Service) -> None:
    await a_closed_case(service)

    answer = await getattr(service, name).post("/v1/erasures", asking())

    (refusal,) = refused(answer, 403, "forbidden")["refusals"]
    assert refusal["who"] == ["admin", "system"]
    assert done(await service.lou.get("/v1/refusals"))["items"][0]["command"] == "Erase"


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"legal_basis": "zaphod@secret.example asked"}, ["legal_basis"]),
        ({"legal_basis": " "}, ["legal_basis"]),
        ({"reason": ""}, ["reason"]),
        ({"reason": "zaphod@secret.example\nrang"}, ["reason"]),
        ({"override": "yes"}, ["override"]),
        ({"client": "Zaphod"}, ["client"]),
        ({"because": "x"}, ["because"]),
    ],
)
async def test_what_makes_no_sense_is_named(changes: Json, fields: list[str], service: Service) -> None:
    assert wrong_fields(await service.adam.post("/v1/erasures", asking(**changes))) == fields


async def test_a_client_or_a_case_that_there_is_is_named(service: Service) -> None:
    case = await a_closed_case(service)

    refused(await service.adam.post("/v1/erasures", asking(case=case["number"])), 422, "invalid")
    assert await erase(service.adam, client="nobody@example.com") == []
    assert wrong_fields(await service.adam.post("/v1/erasures", asking(client=None, case="C-9999"))) == ["case"]
    (item,) = await erase(service.adam, client=None, case=case["number"], override=True)
    assert (item["case"], item["outcome"]) == (case["id"], "erased")


async def test_the_same_request_again_gets_the_same_answer_though_the_address_is_gone(service: Service) -> None:
    for _ in range(3):
        await a_closed_case(service)
    first = await erase(service.adam, key="k-1", override=True)
    assert [one["outcome"] for one in first] == ["erased"] * 3

    assert await erase(service.adam, key="k-1", override=True) == first

    other = await service.adam.post("/v1/erasures", asking(override=False), key="k-1")
    refused(other, 422, "idempotency_key_reused")
    assert await erase(service.adam, override=True) == []


async def test_mail_that_was_set_aside_is_erased_and_who_else_has_the_address_is_told(service: Service) -> None:
    aside = SetMailAside(reason="auto_submitted", sender=ZAPHOD["email"], subject="Away", text="Zaphod is away")
    await service.desk.submit_as_system("mail", aside, via="mail")
    own = await service.ana.open(client=ZAPHOD)
    other = await service.ana.open()
    participants = {"participants": ["una@example.com", ZAPHOD["email"]]}
    done(await service.ana.put(f"/v1/cases/{other['id']}/participants", participants))

    first = done(await service.adam.post("/v1/erasures", asking(override=True), key="k-3"), 201)

    assert [(one["case"], one["outcome"], one.get("texts")) for one in first["items"]] == [
        (own["id"], "erased", 4),
        (None, "erased", 3),
    ]
    assert first["also_in"] == [other["id"]]
    assert done(await service.ana.get("/v1/set-aside"))["items"][0] | {"at": ""} == {
        "at": "",
        "reason": "auto_submitted",
        **dict.fromkeys(("sender", "subject", "text"), "erased"),
    }
    assert done(await service.adam.get("/v1/erasures"))["items"][0]["case"] is None
    assert done(await service.adam.post("/v1/erasures", asking(override=True), key="k-3"), 201) == first


async def test_an_earlier_request_under_a_key_is_answered_without_what_was_erased(service: Service) -> None:
    inquiry = an_inquiry(client=ZAPHOD)
    case = done(await service.ana.post("/v1/cases", inquiry, key="k-2"), 201)
    await erase(service.adam, override=True)

    again = done(await service.ana.post("/v1/cases", inquiry, key="k-2"), 201)

    assert (again["id"], again["client"]["email"], again["version"]) == (case["id"], "erased", 1)


async def test_what_an_agent_writes_after_an_erasure_is_answered_without_what_was_erased(service: Service) -> None:
    case = await service.ana.open(client=ZAPHOD)
    await erase(service.adam, override=True)
    await service.ana.read(case["id"])

    moved = done(await service.ana.fire(case["id"], "investigate"))

    assert moved["client"] == {"name": "erased", "email": "erased"}


async def test_a_journal_that_is_gone_is_told_and_nothing_is_erased(service: Service, tmp_path: Path) -> None:
    await a_closed_case(service)
    await erase(service.adam, override=True)
    await a_closed_case(service)
    (journal,) = (tmp_path / "keys").glob("*.erasures")
    assert b"aphod" not in journal.read_bytes()
    journal.unlink()
    service.desk.checked_at = float("-inf")

    warnings = done(await service.adam.get("/readyz"))["warnings"]

    assert any("journal of erasures" in one for one in warnings)
    assert service.desk.ledger.journal is not None
    service.desk.ledger.journal.may_begin = False  # as after a restart
    refused(await service.adam.post("/v1/erasures", asking(override=True)), 503, "cannot_erase")


async def test_bundles_of_before_and_after_both_verify(service: Service) -> None:
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    case = await a_closed_case(service)
    path = f"/v1/cases/{case['id']}/bundle"
    before = (await service.lou.get(path, files="true")).content

    await erase(service.adam, override=True)

    after = (await service.lou.get(path, files="true")).content
    assert (b"Zaphod" in before, b"Zaphod" in after) == (True, False)
    trusted = [parsed_key(one.vkey) for one in await service.desk.database.run(announcements)]
    assert [one for bundle in (before, after) for one in verify(bundle, trusted) if one.verdict == FAILS] == []


# The command.

LETTER = b"""From: Zaphod <zaphod@secret.example>
To: support@localhost
Message-ID: <1@secret.example>
Subject: Zaphod's banners

They never ran, says Zaphod.
"""


def a_desk_with_a_letter(folder: Path) -> str:
    url = sqlite_url(folder / "desk.db")
    (folder / "letter.eml").write_bytes(LETTER)
    for command in (("migrate",), ("import-mail", folder / "letter.eml")):
        assert casework(*command, url=url).returncode == 0
    return url


def holds_something(folder: Path, name: str) -> bool:
    return any(b"zaphod" in one.read_bytes().lower() for one in folder.glob(f"{name}*"))


def test_casework_erase_and_nothing_comes_back_with_an_older_backup(tmp_path: Path) -> None:
    url, older = a_desk_with_a_letter(tmp_path), sqlite_url(tmp_path / "older.db")
    keys: dict[str, Any] = {"key_folder": str(tmp_path)}
    assert casework("backup", tmp_path / "backup", url=url).returncode == 0

    done = casework("erase", "Zaphod@secret.example", "--override", url=url)

    assert (done.returncode, done.stdout) == (0, "C-1001: erased 5 texts and 0 files\n")
    assert not holds_something(tmp_path, "desk.db")
    assert casework("verify", url=url).returncode == 0
    again = casework("erase", "Zaphod@secret.example", "--override", url=url)
    assert (again.returncode, again.stdout) == (0, "no case or mail is kept under this address: nothing to erase\n")

    restored = casework("restore", tmp_path / "backup", url=older, **keys)
    assert "what was erased since then is erased again before the desk serves" in restored.stdout
    assert holds_something(tmp_path, "older.db")
    assert "before the desk serves" in casework("verify", url=older, **keys).stderr
    with serving(url=older, **keys) as service:
        assert service.wait_for(lambda one: one["event"] == "erased_again")
        assert service.url
        assert service.stop() == 0
    assert not holds_something(tmp_path, "older.db")
    assert "(erased)" in casework("replay", "C-1001", url=older, **keys).stdout
    assert casework("checkpoint", "adopt", url=older, **keys).returncode == 0
    proved = casework("verify", url=older, **keys)
    assert (proved.returncode, proved.stderr) == (0, "")
    again = casework("erase", "--case", "C-1001", "--override", url=older, **keys)
    assert (again.returncode, again.stdout) == (0, "C-1001: nothing is left to erase\n")


def test_casework_erase_schedules_what_has_to_be_kept_and_carries_out_what_is_due(tmp_path: Path) -> None:
    url = a_desk_with_a_letter(tmp_path)

    asked = casework("erase", "zaphod@secret.example", url=url)

    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout == "C-1001: will be erased when it has been closed for as long as it has to be kept\n"
    due = casework("erase", "--due", url=url)
    assert (due.returncode, due.stdout) == (0, "nothing is due\n")
    assert holds_something(tmp_path, "desk.db")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "name a client or a --case"),
        (("zaphod@secret.example", "--due"), 2, "name a client or a --case"),
        (("zaphod@secret.example", "--basis", "asked by zaphod@secret.example"), 2, "must not hold an address"),
        (("zaphod@secret.example", "--reason", "zaphod@secret.example rang"), 2, "must not hold an address"),
        (("--case", "C-7"), 1, "case: is no case of this desk"),
    ],
)
def test_casework_erase_says_what_it_needs(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    refused = casework("erase", *arguments, url=sqlite_url(tmp_path / "desk.db"))

    assert (refused.returncode, said in " ".join(refused.stderr.replace("│", " ").split())) == (code, True)


def test_casework_erase_makes_a_journal_anew_that_is_lost(tmp_path: Path) -> None:
    url = a_desk_with_a_letter(tmp_path)
    assert casework("erase", "zaphod@secret.example", "--override", url=url).returncode == 0
    (journal,) = tmp_path.glob("*.erasures")
    before = journal.read_bytes()
    journal.unlink()
    assert casework("verify", url=url).returncode == 1

    assert casework("erase", "--renew-journal", url=url).stdout == "the journal of erasures has 1 of them\n"

    (renewed,) = tmp_path.glob("*.erasures")
    assert (renewed.read_bytes(), casework("verify", url=url).returncode) == (before, 0)
