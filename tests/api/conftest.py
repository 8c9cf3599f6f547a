"""Tests of the service get one that runs, on each of the two databases, with everybody at their desk."""

import os
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.api.driving import Clock, Service, running
from tests.api.paying import PAID, SALE, Till, a_paying_desk
from tests.api.stripe_standin import StripeStandIn, open_for_business

HERE = Path(__file__).parent


@pytest.fixture
async def service(desk_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Service]:
    async with running(desk_url, clock, key_folder=tmp_path / "keys") as service:
        yield service


@pytest.fixture
def standin() -> Iterator[StripeStandIn]:
    with open_for_business() as standin:
        standin.sell(SALE, PAID)
        yield standin


@pytest.fixture
async def till(desk_url: str, clock: Clock, standin: StripeStandIn, tmp_path: Path) -> AsyncIterator[Till]:
    async with a_paying_desk(desk_url, clock, standin, tmp_path) as service:
        yield Till(service, standin)


# What these are about lies above the database: each of their tests runs on one of the two, the one half here, the other
# there. What is asked and kept runs on both wherever it is tested, here and in tests/storage.
ABOVE_THE_DATABASE = re.compile(
    r"test_(attachments|audit|auditing_commands|carrying_out|cases|cli|client_links|erasures|exports|findings_api|history"
    r"|idempotency|live|logs|mail_intake|oidc|payment_hooks|people|policy_api|posting|publishing|reconciling"
    r"|replay_command|replays|reports|roles|routing|samples|verifying|webhook_delivery|webhooks)\.py"
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All of them on both: TEST_BOTH=true."""
    left_out = [] if os.environ.get("TEST_BOTH") == "true" else [one for one in items if is_of_the_other_half(one)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [one for one in items if one not in set(left_out)]


def is_of_the_other_half(item: pytest.Item) -> bool:
    if HERE not in item.path.parents or not ABOVE_THE_DATABASE.fullmatch(item.path.name):
        return False
    if not isinstance(item, pytest.Function) or "backend" not in getattr(getattr(item, "callspec", None), "params", {}):
        return False
    if any("backend" in one.args[0] for one in item.iter_markers("parametrize")):
        return False
    chosen = ("sqlite", "postgresql")[zlib.crc32(item.originalname.encode()) % 2]
    return item.callspec.params["backend"] != chosen
