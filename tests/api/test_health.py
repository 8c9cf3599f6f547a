"""How the service is doing, what it says of itself in logs and metrics, and what it says of a bug."""

import gc
from collections.abc import Iterator

import httpx2
import pytest
import structlog
from fastapi import FastAPI

from api.app import create_app
from api.settings import Settings
from tests.api.driving import SETTINGS, Service, an_inquiry, done, refused, token_of
from tests.databases import raw_sql


@pytest.fixture
def collector() -> Iterator[None]:
    """The service sets up the garbage collector of its process, which here is the tests'."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collector")
async def test_the_service_starts_and_stops_with_its_desk(desk_url: str) -> None:
    app = create_app(Settings.model_validate(SETTINGS | {"database_url": desk_url}))
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://desk.example") as client,
    ):
        headers = {"authorization": f"Bearer {token_of('ana')}"}
        case = done(await client.post("/v1/cases", json=an_inquiry(), headers=headers), 201)
        assert done(await client.get(f"/v1/cases/{case['id']}", headers=headers)) == case
        assert done(await client.get("/readyz"))["status"] == "ready"

    response = await client_of(app).get("/readyz")
    assert (response.status_code, response.json()["status"]) == (503, "shutting_down")
    assert int(response.headers["retry-after"]) > 0


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://desk.example")


async def test_the_service_says_that_it_is_alive_and_ready(service: Service, backend: str) -> None:
    nobody = service.signed_in(None)

    assert done(await nobody.get("/healthz")) == {"status": "alive"}
    ready = done(await nobody.get("/readyz"))
    assert (ready["status"], ready["database"]) == ("ready", backend)
    assert ready["schema"]
    assert (ready["journal"] is None) == (backend == "postgresql")


async def test_metrics_count_by_route_and_tell_of_nobody(service: Service) -> None:
    case = await service.ana.open()
    done(await service.ana.get("/v1/cases", q="una secretly"))
    refused(await service.ana.get("/v1/cases/nowhere"), 404, "not_found")
    refused(await service.ana.get("/somewhere/else"), 404, "not_found")

    response = await service.signed_in(None).get("/metrics")

    assert response.headers["content-type"].startswith("text/plain")
    for line in (
        'casework_requests_total{method="POST",route="/v1/cases",status="201"}',
        'casework_requests_total{method="GET",route="/v1/cases/{case_id}",status="404"}',
        'casework_requests_total{method="GET",route="unknown",status="404"}',
        'casework_request_seconds_bucket{le="0.5",route="/v1/cases"}',
    ):
        assert line in response.text
    for word in (case["id"], "secretly", "somewhere", "una"):
        assert word not in response.text


async def test_the_log_names_route_and_actor_and_nothing_that_was_asked_or_said(service: Service) -> None:
    with structlog.testing.capture_logs() as records:
        response = await service.ana.post("/v1/cases", an_inquiry(subject="my secret"))
        done(await service.ana.get("/v1/cases", q="secret"))

    one, other = (record for record in records if record["event"] == "request")
    assert (one["method"], one["route"], one["status"], one["actor"]) == ("POST", "/v1/cases", 201, "person:ana")
    assert one["request_id"] == response.headers["x-request-id"]
    assert other["route"] == "/v1/cases"
    assert not any(word in str(records) for word in ("secret", "una", service.ana.token or ""))


async def test_a_bug_is_logged_and_told_without_what_it_held(service: Service, desk_url: str) -> None:
    with raw_sql(desk_url) as raw:
        raw.run("ALTER TABLE cases RENAME TO cases_elsewhere")

    with structlog.testing.capture_logs() as records:
        response = await service.ana.get("/v1/cases", q="una")

    problem = refused(response, 500, "internal")
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}
    assert "cases_elsewhere" not in response.text
    assert "SELECT" not in response.text
    (failed,) = (record for record in records if record["event"] == "request_failed")
    assert (failed["request_id"], failed["route"], failed["exc_info"]) == (problem["request_id"], "/v1/cases", True)
