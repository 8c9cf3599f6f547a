"""`casework sample` and `casework report` tell what the service tells, from the database alone."""

import json

import pytest

from api.reports import REPORTS
from tests.api.driving import Json, Service, done
from tests.api.test_reports import a_bit_of_everything
from tests.databases import raw_sql
from tests.processes import casework


def printed(url: str, *arguments: str, code: int = 0) -> Json:
    ran = casework(*arguments, url=url)
    assert (ran.returncode, ran.stderr) == (code, "")
    view: Json = json.loads(ran.stdout)
    return view


async def test_reports_are_those_of_the_service(service: Service, desk_url: str) -> None:
    await a_bit_of_everything(service)
    position = done(await service.lou.get("/v1/events", limit=1000))["next"]

    for name in REPORTS:
        served = done(await service.audrey.get(f"/v1/reports/{name}", position=position))
        assert printed(desk_url, "report", name, "--position", str(position)) == served


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_options_are_the_parameters_of_the_service(service: Service, desk_url: str) -> None:
    await a_bit_of_everything(service)

    assert printed(desk_url, "report", "near-tiers", "--percent", "0")["groups"] == []
    assert printed(desk_url, "report", "duties", "--to", "2026-01-01T00:00:00Z")["items"] == []
    for arguments, why in (
        (["shoe-sizes"], "give one of duties, near-tiers"),
        (["duties", "--percent", "5"], "--percent"),
        (["duties", "--from", "yesterday"], "--from"),
    ):
        ran = casework("report", *arguments, url=desk_url)
        assert ran.returncode == 2
        assert why in " ".join(ran.stderr.split())


async def test_a_sample_is_drawn_again(service: Service, desk_url: str) -> None:
    for _ in range(5):
        await service.ana.open()
    sample = done(await service.audrey.post("/v1/samples", {"size": 2, "strata": ["state"]}), 201)
    await service.ana.open()

    assert printed(desk_url, "sample", sample["id"]) == sample
    unknown = casework("sample", "unknown", url=desk_url)
    assert (unknown.returncode, unknown.stderr) == (1, "casework: there is no such sample\n")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_sample_that_does_not_come_out_as_recorded_ends_with_1(service: Service, desk_url: str) -> None:
    case = await service.ana.open()
    sample = done(await service.audrey.post("/v1/samples", {"size": 1}), 201)
    with raw_sql(desk_url) as raw:
        raw.run("DROP TRIGGER events_are_never_changed")
        raw.run("UPDATE events SET hash = ?1 WHERE chain = ?2", "0" * 64, f"case:{case['id']}")

    ran = casework("sample", sample["id"], url=desk_url)

    assert (ran.returncode, json.loads(ran.stdout)["matches"]) == (1, False)
