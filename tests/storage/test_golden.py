"""Logs that earlier releases wrote are read as they are, replayed to the same cases, and proved by the same notes."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from sqlalchemy import Connection

from api import casework_verify
from storage.auditing import drawn
from storage.chains import Known
from storage.database import open_database
from storage.events import recorded as decoded
from storage.events import verified
from storage.notes import Checkpoint, Note, Verifier, verify
from storage.reviewing import reviews
from storage.sealing import EVENT_COLUMNS
from storage.sequencer import Sequencer
from storage.tree import Tree
from tests.databases import raw_sql
from tests.storage.recording import FOLDER, chains_of, digest_of, replayed
from workflow.canonical import canonical
from workflow.events import EVENT_TYPES, SampleDrawn

# Each recording with the digest of all it holds. A new one is added; none is ever made again.
RECORDINGS = {
    "0.1.0": "dbf8ce37c81989ace15822064116b32a4855326ade2040525d19a5efa37c4493",
    "0.2.0": "ed8fef3d8779bb9234227a7a3aafc26bb589c95dd986dd70ef05bd4aae4648b7",
    "0.3.0": "005b923959c600861c2ffa0f22ad284c128f55095bcc02bcec8bfd6ce175f5dd",
}


@pytest.fixture(params=RECORDINGS)
def recording(request: pytest.FixtureRequest) -> Path:
    return FOLDER / str(request.param)


class Line(msgspec.Struct):
    """`event` are the very bytes that were hashed."""

    hash: str
    event: msgspec.Raw


def log_in(recording: Path) -> list[tuple[str, str]]:
    """Hashes and bodies."""
    lines = msgspec.json.Decoder(Line).decode_lines((recording / "log.jsonl").read_bytes())
    return [(one.hash, bytes(one.event).decode()) for one in lines]


def test_no_recording_is_ever_changed() -> None:
    assert {folder.name: digest_of(folder) for folder in FOLDER.iterdir()} == RECORDINGS


def test_every_type_of_event_is_recorded_with_every_field_that_it_can_have() -> None:
    events = [msgspec.json.decode(body) for name in RECORDINGS for _, body in log_in(FOLDER / name)]

    recorded = {place for event in events for place in places(event["data"], event["type"])}
    assert recorded == {place for name, data in EVENT_TYPES.items() for place in fields(data, name)}


def places(data: Any, path: str) -> Iterator[str]:
    """The path of each field in it."""
    yield path
    match data:
        case dict():
            for name, part in data.items():
                yield from places(part, f"{path}.{name}")
        case list():
            for part in data:
                yield from places(part, path)


def fields(kind: Any, path: str) -> Iterator[str]:
    """The path of each field that a type has."""
    yield path
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for name, hint in get_type_hints(kind).items():
            yield from fields(hint, f"{path}.{name}")
    for part in get_args(kind):
        yield from fields(part, path)


def test_every_chain_is_whole_and_follows_the_rules_that_were_logged(recording: Path) -> None:
    rows = log_in(recording)
    chains = {name: [*verified(bodies, name)] for name, bodies in chains_of(rows).items()}
    known = Known()
    for one in (event for chain in chains.values() for event in chain):
        known.learn(one)

    for one in (event for chain in chains.values() for event in chain):
        known.check(one.event)
    assert sum(map(len, chains.values())) == len(rows)


def test_what_the_chains_led_to_then_they_lead_to_now(recording: Path) -> None:
    then = [msgspec.json.decode(line) for line in (recording / "replayed.jsonl").read_bytes().splitlines()]
    now = [msgspec.json.decode(canonical(one)) for one in replayed(log_in(recording))]

    assert [one["chain"] for one in now] == [one["chain"] for one in then]
    for recorded, again in zip(then, now, strict=True):
        assert again | {"state": as_known_then(recorded["state"], again["state"])} == recorded, recorded["chain"]


def as_known_then(then: Any, now: Any) -> Any:
    """Without what only later releases know of a case."""
    match then, now:
        case dict(), dict():
            return {name: as_known_then(then[name], part) for name, part in now.items() if name in then}
        case list(), list() if len(then) == len(now):
            return [as_known_then(*pair) for pair in zip(then, now, strict=True)]
        case _:
            return now


def test_what_is_compared_with_is_all_that_was_known_then() -> None:
    then = {"state": "opened", "grounds": [{"id": "g1"}]}

    assert as_known_then(then, {"state": "opened", "grounds": [{"id": "g1", "new": 1}], "new": 1}) == then
    for now in ({"state": "opened"}, {"state": "closed", "grounds": [{"id": "g1"}]}, then | {"grounds": []}):
        assert as_known_then(then, now) != then


async def test_a_database_of_today_takes_the_log_and_comes_to_the_same_decisions_samples_and_roots(
    recording: Path, database_url: str
) -> None:
    rows = log_in(recording)
    with raw_sql(database_url) as raw:
        for digest, body in rows:
            for edge in edges_of(body):
                raw.run(ADD_EDGE, *edge)
            raw.run(ADD_EVENT, *row_of(digest, body))
    database = open_database(database_url)
    await Sequencer(database).settle()

    for chain in chains_of(rows):
        if chain.startswith("case:"):
            found = await reviews(database, chain.removeprefix("case:"))
            assert [one.differences for one in found if not one.is_equal] == []
    for one in (decoded(body, digest) for digest, body in rows):
        if isinstance(one.data, SampleDrawn):
            assert (await drawn(database, one.data.plan, one.data.position)).digest == one.data.digest
    for signed in (Checkpoint.parse(note.text) for note in checkpoints(recording)):
        assert await database.run(partial(root, size=signed.size)) == signed.root
    await database.close()


def root(connection: Connection, size: int) -> bytes:
    return Tree(connection).root(size)


NAMES = ", ".join(f'"{column}"' for column in EVENT_COLUMNS)
MARKS = ", ".join(f"?{number}" for number, _ in enumerate(EVENT_COLUMNS, 1))
ADD_EVENT = f"INSERT INTO events ({NAMES}) VALUES ({MARKS})"
ADD_EDGE = 'INSERT INTO lifecycle_edges (lifecycle, "trigger", source, target) VALUES (?1, ?2, ?3, ?4)'


def edges_of(body: str) -> list[tuple[str, str, str, str]]:
    """What a lifecycle allows from now on, if that is what the event is about."""
    event = msgspec.json.decode(body)
    if event["type"] != "lifecycle_adopted":
        return []
    data = event["data"]
    return [(data["lifecycle"], one["trigger"], one["source"], one["target"]) for one in data["table"]]


def row_of(digest: str, body: str) -> list[Any]:
    """What stands beside a body, in the order of EVENT_COLUMNS."""
    event = msgspec.json.decode(body)
    is_first = event["seq"] == 1
    beside = {
        **event,
        "prev_seq": None if is_first else event["seq"] - 1,
        "prev_hash": None if is_first else event["prev"],
        "state_before": None if is_first else event["state_before"] or "",
        "state_after": event["state_after"] or "",
        "trigger": event.get("trigger"),
        "hash": digest,
        "body": body,
    }
    return [beside[column] for column in EVENT_COLUMNS]


def checkpoints(recording: Path) -> list[Note]:
    return [Note.parse(file.read_bytes()) for file in sorted(recording.glob("checkpoint-*"))]


def test_checkpoints_are_still_signed_by_the_keys_that_the_log_announced(recording: Path) -> None:
    keys = [Verifier.parse(line) for line in (recording / "keys").read_text().splitlines()]
    announced = [
        Verifier.parse(event["data"]["vkey"])
        for event in (msgspec.json.decode(body) for _, body in log_in(recording))
        if event["type"] == "signing_key_announced"
    ]

    assert announced == keys
    assert {one for note in checkpoints(recording) for one in verify(note, keys)} == {*keys}


def test_bundles_and_logs_that_were_handed_out_still_verify(recording: Path) -> None:
    for one in msgspec.json.decode((recording / "proofs.json").read_bytes()):
        file, *held = (str(recording / name) for name in (one["file"], *one["checkpoints"]))
        command = [sys.executable, "-I", str(casework_verify.__file__), file, "--key", str(recording / "keys")]
        done = subprocess.run([*command, "--checkpoint", *held], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
