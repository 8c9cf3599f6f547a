"""Published files that lie beside the repository: a machine without them skips what needs them, CI has them."""

import os
from pathlib import Path
from typing import NoReturn

import pytest

SHARED = Path(__file__).parents[2] / "shared"


def shared_path(name: str) -> Path:
    """The file or folder `name` of the published ones; without it the test is skipped, and fails in CI."""
    path = SHARED / name
    if not path.exists():
        lacking(f"../shared/{name}")
    return path


def lacking(what: str) -> NoReturn:
    """End a test that cannot run because the machine has no `what`: CI lacks nothing."""
    reason = f"this machine has no {what}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
