"""The README says what is so."""

import re
from pathlib import Path

from typer.main import get_command

from api.cli import cli
from api.settings import Settings
from diagrams.lifecycle import lifecycle_diagram
from diagrams.svg import as_svg

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_picture_of_the_lifecycle_is_drawn_from_the_table_of_today() -> None:
    assert (ROOT / "docs" / "lifecycle.svg").read_text().strip() == as_svg(lifecycle_diagram()).strip()


def test_it_names_every_setting() -> None:
    named = set(re.findall(r"CASEWORK_([A-Z_]+)", README))

    assert named == {name.upper() for name in Settings.model_fields}


def test_every_command_it_names_exists_and_none_is_missing() -> None:
    commands = set(get_command(cli).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"`casework ([a-z-]+)", README))

    assert named >= commands
    assert named <= commands


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)", README) + re.findall(r'src="([^"]+)"', README):
        assert (ROOT / target).exists(), target


def test_the_files_that_decisions_name_as_proof_are_there() -> None:
    for decision in (ROOT / "docs" / "decisions").glob("0*.md"):
        proof = decision.read_text().partition("**Proof.**")[2]
        named = re.findall(r"`([a-z_/]+\.(?:py|md))`", proof)

        assert named, decision.name
        assert [name for name in named if not (ROOT / name).exists()] == [], decision.name
