"""What others verify the log with: checkpoints, tiles and entries as C2SP says, and proofs."""

import pytest
import structlog

from storage import notes
from storage.keys import announcements, ensure_key, rotate
from storage.merkle import (
    GetNode,
    bundled_entries,
    nodes_in_tiles,
    root,
    tile_path,
    verify_consistency,
    verify_inclusion,
)
from storage.notes import Checkpoint, Note, Verifier
from tests.api.driving import Clock, Service, done, refused, running
from tests.databases import raw_sql
from tests.storage.test_verify import undefended
from workflow.canonical import leaf_hash


@pytest.fixture
async def signed(service: Service) -> Service:
    """More than one full tile, under a checkpoint."""
    case = await service.ana.investigate()
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    for _ in range(270):
        await service.ana.add(case["id"], "notes", text="rang")
    await service.desk.sequencer.settle()
    return service


async def checkpoint_of(service: Service) -> Checkpoint:
    """The newest one, signed by a key that the log has announced."""
    note = Note.parse((await service.audrey.get("/audit/checkpoint")).content)
    history = await service.desk.database.run(announcements)
    notes.verify(note, [Verifier.parse(one.vkey) for one in history])
    return Checkpoint.parse(note.text)


async def nodes_of(service: Service, size: int) -> GetNode:
    """Out of tiles that were fetched, as a client does."""
    tiles: dict[tuple[int, int, int], bytes] = {}
    for level in range(2):
        width = size >> 8 * level
        for index in range((width + 255) // 256):
            one = (level, index, min(256, width - 256 * index))
            tiles[one] = (await service.audrey.get(f"/audit/{tile_path(*one)}")).content
    return nodes_in_tiles(lambda *one: tiles[one], size)


async def test_tiles_lead_to_the_root_that_was_signed(signed: Service) -> None:
    checkpoint = await checkpoint_of(signed)

    nodes = await nodes_of(signed, checkpoint.size)

    assert checkpoint.size > 256
    assert root(nodes, checkpoint.size) == checkpoint.root


async def test_entries_are_the_bytes_that_were_hashed_and_hold_nothing_personal(signed: Service) -> None:
    size = (await checkpoint_of(signed)).size
    nodes = await nodes_of(signed, size)

    entries: list[bytes] = []
    for index, width in ((0, 256), (1, size - 256)):
        response = await signed.audrey.get(f"/audit/{tile_path(None, index, width)}")
        entries += bundled_entries(response.content)

    assert [leaf_hash(body) for body in entries] == [nodes(0, index).hex() for index in range(size)]
    feed = done(await signed.audrey.get("/v1/events", limit=1000))["items"]
    assert [body.decode() for body in entries] == [item["event"]["body"] for item in feed]
    assert b"una" not in b"".join(entries)


async def test_a_checkpoint_is_never_cached_and_a_tile_for_ever(signed: Service) -> None:
    checkpoint = await signed.audrey.get("/audit/checkpoint")
    tiles = [
        await signed.audrey.get(f"/audit/tile/{tile}") for tile in ("0/000", "0/001.p/2", "entries/000", "1/000.p/1")
    ]

    assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
    assert checkpoint.headers["cache-control"] == "no-cache"
    for one in tiles:
        assert one.status_code == 200
        assert one.headers["content-type"] == "application/octet-stream"
        assert one.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert [len(one.content) // 32 for one in tiles[:2]] == [256, 2]


NOWHERE = (
    "0/001",  # not full yet
    "0/001.p/255",
    "0/002.p/1",
    "1/000",
    "1/000.p/2",
    "2/000.p/1",
    "entries/001",
    "entries/001.p/255",
    "64/000",
    "00/000",
    "0/0",
    "0/000.p/0",
    "0/000.p/256",
    "0/000.p/01",
    "0/x000/000",
    "0/x000/001.p/1",
    "0/x999/x999/x999/x999/x999/x999/999",
    "0/%2e%2e/%2e%2e/checkpoint",
    "entries/-01",
    "0/٠٠٠",  # noqa: RUF001 - digits, but others
    "",
)


@pytest.mark.parametrize("tile", NOWHERE)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_tile_that_the_tree_does_not_have_is_not_found(tile: str, signed: Service) -> None:
    assert (await signed.audrey.get(f"/audit/tile/{tile}")).status_code == 404


async def test_before_anything_is_signed_there_is_no_checkpoint(service: Service) -> None:
    refused(await service.audrey.get("/audit/checkpoint"), 404, "not_found")


# Proofs.


async def test_an_event_is_proved_to_be_in_the_tree(signed: Service) -> None:
    checkpoint = await checkpoint_of(signed)

    for position in (1, 2, 256, 257, checkpoint.size):
        told = done(await signed.audrey.get("/audit/proofs/inclusion", position=position, size=checkpoint.size))

        proof = [bytes.fromhex(one) for one in told["proof"]]
        leaf = bytes.fromhex(told["leaf"])
        assert verify_inclusion(leaf, told["index"], told["size"], proof, checkpoint.root)
        assert (told["index"], told["root"]) == (position - 1, checkpoint.root.hex())


async def test_a_tree_is_proved_to_go_on_from_an_earlier_one(signed: Service) -> None:
    checkpoint = await checkpoint_of(signed)

    for first in (1, 255, 256, checkpoint.size):
        told = done(await signed.audrey.get("/audit/proofs/consistency", **{"from": first, "to": checkpoint.size}))

        roots = [bytes.fromhex(told[name]) for name in ("first_root", "second_root")]
        assert verify_consistency(first, checkpoint.size, [bytes.fromhex(one) for one in told["proof"]], *roots)
        assert roots[1] == checkpoint.root


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_what_is_not_in_the_tree_is_not_proved(signed: Service) -> None:
    size = (await checkpoint_of(signed)).size
    for path, field in (
        (f"inclusion?position={size + 1}", "position"),
        (f"inclusion?position=2&size={size + 1}", "size"),
        ("inclusion?position=3&size=2", "position"),
        ("inclusion?position=0", "position"),
        ("inclusion", "position"),
        ("consistency?from=3&to=2", "from"),
        (f"consistency?from=3&to={size + 1}", "to"),
        ("consistency?from=0&to=1", "from"),
        ("consistency?first=1", "first"),
    ):
        problem = refused(await signed.audrey.get(f"/audit/proofs/{path}"), 422, "invalid")

        assert field in {one["field"] for one in problem["errors"]}, path


# Who reads it.


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_desk_can_show_its_log_to_everybody(signed: Service, desk_url: str, clock: Clock) -> None:
    folder = signed.desk.settings.keys_in
    nobody = signed.signed_in(None)
    paths = ("checkpoint", "tile/0/000", "tile/entries/000", "proofs/inclusion?position=1", "proofs/consistency?from=1")
    for path in paths:
        refused(await nobody.get(f"/audit/{path}"), 401, "unauthorized")
        assert (await signed.ana.get(f"/audit/{path}")).status_code == 403

    async with running(desk_url, clock, key_folder=folder, public_audit_log=True) as service:
        stranger = service.signed_in(None)
        assert [(await stranger.get(f"/audit/{path}")).status_code for path in paths] == [200] * len(paths)
        tile = await stranger.get("/audit/tile/0/000")
        assert tile.headers["cache-control"] == "public, max-age=31536000, immutable"
        refused(await stranger.get("/audit/tile/9/999"), 404, "not_found")
        refused(await stranger.get("/audit/proofs/inclusion?position=0"), 422, "invalid")
        refused(await stranger.get("/v1/cases"), 401, "unauthorized")
        assert (await service.signed_in("cw_wrong").get("/audit/checkpoint")).status_code == 200


# What was broken.


async def test_a_tree_that_was_broken_is_told_and_logged(signed: Service, desk_url: str) -> None:
    with raw_sql(desk_url) as raw, undefended(raw):
        raw.run("DELETE FROM tiles WHERE level = 0 AND n = 0")

    for path in ("tile/0/000", "proofs/inclusion?position=1", "proofs/consistency?from=1"):
        with structlog.testing.capture_logs() as records:
            response = await signed.audrey.get(f"/audit/{path}")

        assert "casework verify" in refused(response, 503, "broken_log")["detail"]
        (said,) = (one for one in records if one["event"] == "log_is_broken")
        assert (said["failure"], said["request_id"]) == (
            "the tree is broken: tile/0/000 is missing",
            response.headers["x-request-id"],
        )


async def test_a_history_that_cannot_be_is_told(service: Service, desk_url: str) -> None:
    case_id = (await service.ana.investigate())["id"]
    await service.desk.sequencer.catch_up()  # which must not be half-way while nothing else can go on
    with raw_sql(desk_url) as raw, undefended(raw):
        raw.run("DELETE FROM positions WHERE event_id IN (SELECT id FROM events WHERE type = 'opened')")
        raw.run("DELETE FROM pending_events")
        raw.run("DELETE FROM events WHERE type = 'opened'")

    for path in ("difference?from=1", "decisions"):
        refused(await service.audrey.get(f"/v1/cases/{case_id}/{path}"), 503, "broken_log")


# How it is doing.


async def test_readiness_and_metrics_tell_of_the_tree_and_of_why_nothing_is_signed(signed: Service) -> None:
    nobody = signed.signed_in(None)
    checkpoint = await checkpoint_of(signed)
    ready = done(await nobody.get("/readyz"))
    assert ready["log"]["waiting"] == 0
    assert ready["log"]["checkpoint"]["size"] == checkpoint.size
    assert "casework_events_waiting 0.0" in (await nobody.get("/metrics")).text

    await signed.ana.open()
    await rotate(signed.desk.database, signed.desk.settings.keys_in, signed.clock())
    signed.desk.sequencer.keys.key.chmod(0o644)  # type: ignore[union-attr]
    await signed.desk.sequencer.attempt("checkpoints", signed.desk.sequencer.sign)

    ready = done(await nobody.get("/readyz"))
    assert ready["status"] == "ready"
    assert any("chmod 600" in warning for warning in ready["warnings"])
