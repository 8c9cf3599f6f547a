"""What holds for every test."""

import pytest
from hypothesis import settings

# A machine that is busy with other tests is slow, not wrong.
settings.register_profile("unhurried", parent=settings(), deadline=None)
settings.load_profile("unhurried")

# They take longest, mostly waiting: begun last, one of them would keep everybody waiting.
FIRST = (
    "test_crashes.py",
    "test_dying.py",
    "test_serving.py",
    "test_exports.py",
    "test_openapi.py",
    "test_verifying.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in FIRST)
