"""An auditor takes away what proves a case, and the desk keeps a record of it."""

import json
from pathlib import Path

import pytest

from api.casework_verify import FAILS, Held, parsed_key, verify
from storage import bundles
from storage.keys import announcements, ensure_key, rotate
from tests.api.driving import Clock, Json, Person, Service, done, refused, wrong_fields
from tests.api.routes import a_furnished_case
from tests.databases import raw_sql, sqlite_url
from tests.processes import ROOT, casework
from tests.storage.proofs import disarm

LETTER = (
    b"From: Una <una@example.com>\nTo: support@localhost\nMessage-ID: <1@x>\nSubject: The banners\n\nThey never ran.\n"
)


@pytest.fixture
async def service(service: Service) -> Service:
    """With a signing key."""
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    return service


async def keys(service: Service) -> list[str]:
    return [one.vkey for one in await service.desk.database.run(announcements)]


async def taken(person: Person, case_id: str, **query: object) -> bytes:
    response = await person.get(f"/v1/cases/{case_id}/bundle", **query)
    done(response)
    return response.content


async def faults(service: Service, bundle: bytes, *checkpoints: str) -> list[str]:
    trusted = [parsed_key(one) for one in await keys(service)]
    held = [Held("checkpoint", one) for one in checkpoints]
    return [one.text for one in verify(bundle, trusted, held) if one.verdict == FAILS]


async def test_a_bundle_of_a_case_as_it_stands_verifies(service: Service) -> None:
    case_id = (await a_furnished_case(service))["case_id"]

    response = await service.lou.get(f"/v1/cases/{case_id}/bundle")

    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-disposition"] == f'attachment; filename="case-{case_id}.bundle.json"'
    assert response.headers["cache-control"] == "no-store"
    assert await faults(service, response.content) == []
    case = await service.lou.read(case_id)
    assert done(response)["case"][-1]["event"]["seq"] == case["version"]


async def test_a_case_that_has_gone_on_since_the_last_checkpoint_gets_another(service: Service) -> None:
    case_id = (await service.ana.open())["id"]
    first, again = [await taken(service.lou, case_id) for _ in range(2)]
    await service.ana.add(case_id, "notes", text="called back")
    later = await taken(service.lou, case_id)

    assert first == again
    assert json.loads(later)["case"][-1]["event"]["type"] == "note_added"
    assert await faults(service, later) == []


async def test_the_redacted_form_and_the_one_with_files_are_had_by_asking(service: Service) -> None:
    case_id = (await a_furnished_case(service))["case_id"]
    plain, redacted, whole = [
        await taken(service.audrey, case_id, **query) for query in ({}, {"redacted": True}, {"files": True})
    ]

    for one in (plain, redacted, whole):
        assert await faults(service, one) == []
    assert "una@example.com" in plain.decode()
    assert json.loads(redacted)["openings"] == []
    assert "una@example.com" not in redacted.decode()
    assert "MTIgTWFyY2g6IDMwMC4wMCB0d2ljZQ==" in whole.decode()
    assert "MTIgTWFyY2g6IDMwMC4wMCB0d2ljZQ==" not in plain.decode()


async def test_more_evidence_than_fits_is_said_to_be_too_much(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    case_id = (await a_furnished_case(service))["case_id"]
    monkeypatch.setattr(bundles, "MAX_FILE_BYTES", 10)

    assert wrong_fields(await service.lou.get(f"/v1/cases/{case_id}/bundle", files=True)) == ["files"]


async def test_it_proves_that_the_log_goes_on_from_a_checkpoint_that_somebody_holds(service: Service) -> None:
    case_id = (await service.ana.open())["id"]
    held = json.loads(await taken(service.audrey, case_id))["checkpoint"]
    size = int(held.split("\n")[1])
    await service.ana.add(case_id, "notes", text="called back")

    assert await faults(service, await taken(service.audrey, case_id, since=size), held) == []
    assert await faults(service, await taken(service.audrey, case_id), held) != []


async def test_a_bundle_is_signed_with_the_key_in_use(service: Service, clock: Clock) -> None:
    case_id = (await service.ana.open())["id"]
    assert json.loads(await taken(service.lou, case_id))["key"] == (await keys(service))[0]
    clock.advance(minutes=1)
    await rotate(service.desk.database, service.desk.settings.keys_in, clock())

    later = await taken(service.lou, case_id)

    assert json.loads(later)["key"] == (await keys(service))[1]
    assert await faults(service, later) == []


async def test_whoever_takes_a_bundle_away_is_recorded(service: Service) -> None:
    case = await service.ana.open()
    for person in (service.audrey, service.lou):
        await taken(person, case["id"])

    feed = done(await service.lou.get("/v1/events", limit=1000))["items"]
    reads = [one["event"] for one in feed if one["event"]["type"] == "case_read"]
    assert [(one["actor"], one["data"]) for one in reads] == [
        (actor, {"case": case["id"], "version": case["version"], "what": "bundle"})
        for actor in ("person:audrey", "person:lou")
    ]


async def test_a_bundle_is_for_leads_and_auditors(service: Service) -> None:
    path = f"/v1/cases/{(await service.ana.open())['id']}/bundle"

    for person in (service.ana, service.cleo, service.adam):
        refused(await person.get(path), 403, "forbidden")
    refused(await service.signed_in(None).get(path), 401, "unauthorized")
    refused(await service.lou.get("/v1/cases/unknown/bundle"), 404, "not_found")
    for query in ({"redacted": "maybe"}, {"since": 0}, {"since": "x"}, {"unknown": 1}):
        refused(await service.lou.get(path, **query), 422, "invalid")


async def test_without_its_key_the_desk_gives_no_bundle_and_says_so(service: Service) -> None:
    case_id = (await service.ana.open())["id"]
    (key,) = service.desk.settings.keys_in.glob("*.key")
    key.unlink()

    problem: Json = refused(await service.lou.get(f"/v1/cases/{case_id}/bundle"), 503, "cannot_sign")

    assert str(key.parent) not in json.dumps(problem)


async def test_an_event_that_was_changed_in_the_database_is_named(service: Service, desk_url: str) -> None:
    case_id = (await service.ana.open())["id"]
    await service.ana.add(case_id, "notes", text="called back")
    await taken(service.lou, case_id)
    with raw_sql(desk_url) as raw:
        disarm(raw)
        raw.run("UPDATE events SET body = replace(body, 'person:ana', 'person:bo') WHERE type = 'note_added'")

    (fault, *_) = await faults(service, await taken(service.lou, case_id))

    assert fault.startswith(f"case:{case_id} event 2: is not what the log has")


# The command.


def test_casework_bundle_writes_a_file_that_casework_verify_takes(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "desk.db")
    (tmp_path / "letter.eml").write_bytes(LETTER)
    for command in (("migrate",), ("import-mail", tmp_path / "letter.eml")):
        assert casework(*command, url=url).returncode == 0
    (tmp_path / "key").write_text(casework("key", "show", url=url).stdout)
    made = [
        casework("bundle", "C-1001", *options, "--output", tmp_path / name, url=url)
        for name, options in (("whole", ()), ("redacted", ("--redacted",)), ("with files", ("--files", "--since", "2")))
    ]

    assert [(one.returncode, one.stdout) for one in made] == [(0, "")] * 3
    for name in ("whole", "redacted", "with files"):
        bundle = (tmp_path / name).read_bytes()
        trusted = [parsed_key((tmp_path / "key").read_text().strip())]
        assert [one for one in verify(bundle, trusted) if one.verdict == FAILS] == []
        assert (b"They never ran." in bundle) == (name != "redacted")
    assert casework("verify", url=url).returncode == 0


def test_casework_bundle_knows_only_cases_that_there_are(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "desk.db")
    assert casework("migrate", url=url).returncode == 0

    done = casework("bundle", "C-1", url=url)

    assert (done.returncode, done.stdout) == (1, "")
    assert "case: C-1" in done.stderr


def test_casework_verify_is_installed_as_a_command() -> None:
    assert 'casework-verify = "api.casework_verify:main"' in (ROOT / "pyproject.toml").read_text()
