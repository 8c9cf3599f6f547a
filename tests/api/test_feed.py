"""Following the log: at once where there is something, and after a while where there is not."""

import asyncio
import time

import pytest

from tests.api.driving import Service, an_inquiry, done, wrong_fields


async def test_whoever_waits_for_the_next_event_gets_it_when_it_happens(service: Service) -> None:
    first = done(await service.lou.get("/v1/events", limit=1000))
    assert [one["position"] for one in first["items"]] == [*range(1, first["next"] + 1)]

    waiting = asyncio.create_task(service.lou.get("/v1/events", after=first["next"], wait=10))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    done(await service.ana.post("/v1/cases", an_inquiry()), 201)

    answer = done(await asyncio.wait_for(waiting, 5))
    assert [one["event"]["type"] for one in answer["items"]] == ["opened"]
    assert answer["next"] == first["next"] + 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_nobody_waits_for_longer_than_they_said_nor_where_there_is_something(service: Service) -> None:
    end = done(await service.lou.get("/v1/events", limit=1000))["next"]
    began = time.monotonic()
    assert done(await service.lou.get("/v1/events", after=end, wait=1)) == {"items": [], "next": end}
    assert 1 <= time.monotonic() - began < 5
    assert done(await service.lou.get("/v1/events", after=end - 1, wait=10))["next"] == end
    assert time.monotonic() - began < 5
    assert wrong_fields(await service.lou.get("/v1/events", wait=11)) == ["wait"]
