"""What is installed is what pyproject.toml asks for; seen without a network."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def pins(name: str) -> dict[str, str]:
    """The version of each package in a file of `requirements/`."""
    return dict(re.findall(r"(?m)^([a-z0-9-]+)==([^\s;]+)", (ROOT / "requirements" / name).read_text("utf-8")))


def asked_for(group: str) -> Iterator[Requirement]:
    """The dependencies of casework itself, and of a group with those that it includes."""
    yield from map(Requirement, PROJECT["project"]["dependencies"])
    for entry in PROJECT["dependency-groups"][group]:
        if isinstance(entry, str):
            yield Requirement(entry)
        else:
            yield from asked_for(entry["include-group"])


@pytest.mark.parametrize(("name", "group"), [("run.txt", "build"), ("dev.txt", "dev")])
def test_every_dependency_is_pinned_at_a_version_that_the_project_accepts(name: str, group: str) -> None:
    pinned = pins(name)

    out_of_step = [
        str(wanted)
        for wanted in asked_for(group)
        if (version := pinned.get(canonicalize_name(wanted.name))) is None or version not in wanted.specifier
    ]

    assert out_of_step == [], "make pins brings them into step"


def test_tests_run_with_the_very_versions_that_serve() -> None:
    assert pins("run.txt").items() <= pins("dev.txt").items()
