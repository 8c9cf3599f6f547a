"""Verification as a report for programs, and on schedule beside a service that serves."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from api.settings import Settings
from api.verifying import Verified, keep, last_result, result_file, scheduled, verdict
from tests.api.driving import Service, done
from tests.databases import raw_sql
from tests.processes import casework, key_folder, serving

LETTER = "From: una@example.com\nTo: support@localhost\nSubject: The banners\nMessage-ID: <1@x>\n\nThey never ran.\n"
PATIENCE_SECONDS = 60


@pytest.fixture
def filled_url(empty_url: str, tmp_path: Path) -> str:
    letter = tmp_path / "letter.eml"
    letter.write_text(LETTER, "utf-8")
    casework("migrate", url=empty_url)
    assert casework("import-mail", letter, url=empty_url).returncode == 0
    return empty_url


def drift(url: str) -> None:
    with raw_sql(url) as raw:
        raw.run(
            "UPDATE cases SET category = 'delay', body = replace(body, '\"waiting_since\":null', '\"waiting_since\":1')"
        )


# The report.


def test_the_report_tells_programs_what_drifted_field_by_field(filled_url: str) -> None:
    clean = casework("verify", "--json", url=filled_url)
    drift(filled_url)

    found = casework("verify", "--json", url=filled_url)

    assert (clean.returncode, found.returncode) == (0, 1)
    report = json.loads(clean.stdout)
    assert (report["fault_count"], report["faults"], report["counts"]["cases"]) == (0, [], 1)
    (fault,) = json.loads(found.stdout)["faults"]
    assert fault["chain"].startswith("case:")
    assert fault["seq"] == 1
    assert fault["drift"] == [
        {"field": "category", "stored": "delay", "logged": "other"},
        {"field": "body.waiting_since", "stored": 1, "logged": None},
    ]


def test_the_report_tells_people_what_drifted_too(filled_url: str) -> None:
    drift(filled_url)

    found = casework("verify", url=filled_url)

    assert "category: stored is delay, the log says other" in found.stderr
    assert "body.waiting_since: stored is 1, the log says nothing" in found.stderr


# On schedule.


def settings_of(tmp_path: Path, **more: Any) -> Settings:
    return Settings(database_url=f"sqlite:///{tmp_path}/desk.db", **more)


def test_a_service_verifies_while_it_serves_and_says_what_it_found(filled_url: str) -> None:
    drift(filled_url)

    with serving(url=filled_url, verify_every="1") as service:
        ready = until_verified(service.url)
        metrics = httpx2.get(f"{service.url}/metrics").text
        assert service.stop() == 0

    found = ready["verification"]
    assert (found["ok"], found["faults"]) == (False, 1)
    assert "the row is not what the log says in category" in found["first"]
    assert any(found["first"] in one for one in ready["warnings"])
    assert ready["status"] == "ready"
    assert "casework_verified_faults 1.0" in metrics
    at = next(line for line in metrics.splitlines() if line.startswith("casework_verified_timestamp_seconds "))
    assert float(at.split()[1]) > 1e9


def until_verified(url: str) -> Any:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while (ready := httpx2.get(f"{url}/readyz").json())["verification"] is None:
        assert time.monotonic() < ends_at, ready
        time.sleep(0.1)
    return ready


@pytest.mark.parametrize("backend", ["sqlite"])
def test_what_was_verified_lately_is_not_verified_again_at_the_next_start(filled_url: str) -> None:
    settings = Settings(database_url=filled_url, key_folder=key_folder(filled_url), verify_every=24)
    lately = Verified(at=datetime.now(UTC).isoformat(), ok=True, seconds=1.0, events=7)
    keep(result_file(settings), lately)

    with serving(url=filled_url, verify_every="24") as service:
        ready = until_verified(service.url)
        time.sleep(1)
        assert httpx2.get(f"{service.url}/readyz").json()["verification"] == ready["verification"]

    assert ready["verification"] == msgspec.to_builtins(lately)


def test_a_service_that_is_stopped_does_not_wait_for_a_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.verifying.COMMAND", ("sleep", "60"))
    settings = settings_of(tmp_path, verify_every=1)
    began = time.monotonic()

    with scheduled(settings):
        time.sleep(0.3)

    assert time.monotonic() - began < 5
    assert last_result(settings) is None


def test_nothing_is_verified_unless_it_is_asked_for(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    keep(result_file(settings), Verified(at="2026-03-05T12:00:00Z", ok=True, seconds=1.0))

    with scheduled(settings):
        assert last_result(settings) is None


async def test_a_service_that_does_not_verify_has_nothing_to_say_of_it(service: Service) -> None:
    assert done(await service.signed_in(None).get("/readyz"))["verification"] is None


def test_a_verification_that_could_not_be_made_is_no_good_news() -> None:
    found = verdict("2026-03-05T12:00:00Z", 1.0, b"", b"Traceback\ncasework: the database cannot be used: gone\n")

    assert not found.ok
    assert found.first == "it could not be verified: casework: the database cannot be used: gone"


def test_a_folder_that_cannot_be_written_to_does_not_make_it_verify_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = tmp_path / "runs"
    monkeypatch.setattr("api.verifying.COMMAND", ("sh", "-c", f"echo . >> {counter}"))

    with scheduled(settings_of(tmp_path, verify_every=1, key_folder=tmp_path / "nowhere")):
        time.sleep(1)

    assert counter.read_text("utf-8").count(".") == 1


def test_the_time_between_verifications_is_more_than_nothing() -> None:
    for hours in (0, -1):
        with pytest.raises(ValueError, match="greater than 0"):
            Settings(verify_every=hours)
    assert timedelta(hours=Settings(verify_every=0.5).verify_every or 0) == timedelta(minutes=30)
