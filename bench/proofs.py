"""How fast the log is sequenced, exported and verified, and a bundle made: `python -m bench.proofs [--events N]`.

The bundle is of a case with 20 events that lie far apart in the log, which shares as little of its proofs as can be.
A log is verified by a process of its own; what is made up for it is what `bench.verifying` makes up.
"""

import argparse
import asyncio
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice, zip_longest
from pathlib import Path

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection

from api import casework_verify
from api.exporting import whole_log
from bench.verifying import AT_ONCE, SIZES, START, made_up, make_desk, stories
from storage import bundles, notes
from storage import whole_log as logs
from storage.bundles import Evidence, Opening, Placed
from storage.database import open_database
from storage.desk import ensure_desk
from storage.keys import KeyFolder, ensure_key, log_of
from storage.merkle import HASH_BYTES, GetNode, Range
from storage.notes import Checkpoint, Signer
from storage.sequencer import Sequencer

SIZE = 1_000_000
EVENTS = 20
TIMES = 25
DESK_EVENTS = 100_000
SETTINGS_EVENTS, POLICY_EVENTS = 2, 1


def rules(folder: Path) -> list[str]:
    """The events with which every desk begins."""

    def bodies(connection: Connection) -> list[str]:
        ensure_desk(connection, "UTC", START)
        rows = connection.exec_driver_sql("SELECT body FROM events ORDER BY chain DESC, seq").scalars()
        return list(rows)

    async def make() -> list[str]:
        database = open_database(f"sqlite:///{folder / 'casework.db'}")
        await database.upgrade()
        found = await database.run(bodies)
        await database.close()
        return found

    return asyncio.run(make())


def a_case(size: int, folder: Path) -> Evidence:
    """One whose events lie as far apart as they can."""
    first, *more = rules(folder)
    log = msgspec.json.decode(first)["log"]
    story = max(stories(), key=len)
    told = list(islice(made_up(story, 1, log), EVENTS))
    assert len(told) == EVENTS
    apart = (size - 10) // EVENTS
    return Evidence(
        case=tuple(
            Placed(body=str(event[-1]), index=10 + number * apart + number % 7)
            for number, (_, event, _) in enumerate(told)
        ),
        settings=tuple(Placed(body=body, index=index) for index, body in enumerate([first, *more][:SETTINGS_EVENTS])),
        policy=tuple(Placed(body=body, index=SETTINGS_EVENTS) for body in more[-POLICY_EVENTS:]),
        openings=tuple(
            Opening(seq=seq, field=field, salt=salt, value=value)
            for _, _, personal in told
            for _, seq, field, salt, value in sorted(personal)
        ),
    )


def a_tree(leaves: dict[int, bytes], size: int) -> tuple[Range, GetNode]:
    """Over these leaves, and made-up ones everywhere else."""
    tree, levels = Range(), [bytearray() for _ in range(size.bit_length())]
    for index in range(size):
        leaf = leaves.get(index) or hashlib.sha256(index.to_bytes(8, "big")).digest()
        for level, node in enumerate(tree.append(leaf)):
            levels[level] += node
    return tree, lambda level, index: bytes(levels[level][HASH_BYTES * index : HASH_BYTES * (index + 1)])


def milliseconds(work: Callable[[], object]) -> float:
    """The median of a few times."""
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def lines(size: int, folder: Path) -> Iterator[bytes]:
    """A log of about this size, many of whose cases are worked on side by side."""
    first = rules(folder)
    log, told = msgspec.json.decode(first[0])["log"], stories()
    yield from (body.encode() for body in first)
    numbers = range(1001, 1001 + size * len(told) // sum(map(len, told)))
    for start in numbers[::AT_ONCE]:
        together = range(start, min(start + AT_ONCE, numbers.stop))
        for step in zip_longest(*(made_up(told[number % len(told)], number, log) for number in together)):
            yield from (str(one[1][-1]).encode() for one in step if one is not None)


def make_log(size: int, folder: Path) -> tuple[int, Path, Path]:
    """How many events, the file, and that of its key."""
    events, log, key = folder / "events", folder / "log", folder / "log.verifier"
    tree = Range()
    with events.open("wb") as stream:
        for body in lines(size, folder):
            tree.append(hashlib.sha256(b"\x00" + body).digest())
            stream.write(body + b"\n")
    with events.open("rb") as stream, log.open("wb") as whole:
        signer = Signer.generate(msgspec.json.decode(stream.readline())["log"])
        checkpoint = notes.sign(str(Checkpoint(signer.verifier.name, tree.size, tree.root())), signer)
        whole.write(logs.header(checkpoint, signer.verifier).encode())
        stream.seek(0)
        while block := stream.read(1 << 20):
            whole.write(block)
    key.write_text(str(signer.verifier))
    return tree.size, log, key


def measure_log(size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        events, log, key = make_log(size, Path(name))
        command = [sys.executable, "-m", "bench.log", str(log), "--key", str(key)]
        done = subprocess.run(command, check=True, capture_output=True)
        assert done.stdout.endswith(b"everything holds\n"), done.stdout
    took = json.loads(done.stderr)
    each = took["seconds"] / events
    print(
        f"{events:10,}{1 / each:12,.0f}{1e6 * each:14.1f}{1e6 * took['cpu'] / events:10.1f}{took['MB']:10.1f}",
        flush=True,
    )


async def measure_desk(size: int, folder: Path) -> tuple[int, float, float]:
    """How many events, and how many seconds it takes to sequence them and then to export them."""
    path = folder / "desk.db"
    await make_desk(path, size)
    database = open_database(f"sqlite:///{path}")
    await ensure_key(database, folder, START + timedelta(days=1))
    sequencer = Sequencer(database, KeyFolder(folder, await log_of(database)))
    began = time.perf_counter()
    grown = await sequencer.grow()
    sequenced = time.perf_counter()
    with (folder / "exported").open("wb") as stream:
        async for block in whole_log(sequencer):
            stream.write(block)
    exported = time.perf_counter()
    await database.close()
    return grown, sequenced - began, exported - sequenced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=SIZE, help="in the log")
    size: int = parser.parse_args().events
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = a_case(size, folder)
        placed = (*found.case, *found.settings, *found.policy)
        leaves = {one.index: hashlib.sha256(b"\x00" + one.body.encode()).digest() for one in placed}
        tree, get_node = a_tree(leaves, size)
        signer = Signer.generate(msgspec.json.decode(found.case[0].body)["log"])
        checkpoint = notes.sign(str(Checkpoint(signer.verifier.name, size, tree.root())), signer)
        bundle = bundles.bundle(found, checkpoint, get_node, signer)
        redacted = bundles.bundle(replace(found, openings=()), checkpoint, get_node, signer)
        key = casework_verify.parsed_key(str(signer.verifier))
        for one in (bundle, redacted):
            assert [
                level.text for level in casework_verify.verify(one, [key]) if level.verdict == casework_verify.FAILS
            ] == []
        (folder / "bundle").write_bytes(bundle)
        (folder / "key").write_text(str(signer.verifier))
        command = [sys.executable, "-I", casework_verify.__file__, str(folder / "bundle"), "--key", str(folder / "key")]
        print(f"a case of {len(found.case)} events in a log of {size:,}, with {len(found.openings)} texts")
        print(f"  bundle          {len(bundle):10,} bytes")
        print(f"  redacted        {len(redacted):10,} bytes")
        print(f"  made in         {milliseconds(lambda: bundles.bundle(found, checkpoint, get_node, signer)):10.1f} ms")
        print(f"  verified in     {milliseconds(lambda: list(casework_verify.verify(bundle, [key]))):10.1f} ms")
        started = milliseconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        print(f"  with the start  {started:10.1f} ms")
    with tempfile.TemporaryDirectory() as name:
        events, sequenced, exported = asyncio.run(measure_desk(min(size, DESK_EVENTS), Path(name)))
        print(f"a log of {events:,} events, on SQLite")
        print(f"  sequenced       {events / sequenced:10,.0f} events/s")
        print(f"  exported        {events / exported:10,.0f} events/s")
    print(f"{'events':>10}{'verified/s':>12}{'s a million':>14}{'cpu':>10}{'peak MB':>10}")
    for events in [one for one in SIZES if one < size] + [size]:
        measure_log(events)


if __name__ == "__main__":
    main()
