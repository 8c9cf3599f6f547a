"""Signs what the log is at some moment, and never two things that contradict each other.

The last checkpoint is kept outside the database before anybody else is shown it: a database that was rolled back, or
rewritten, no longer agrees with it.
"""

import asyncio
from datetime import datetime

import msgspec
from sqlalchemy import Connection, text

from storage import merkle, notes
from storage.database import Database
from storage.keys import ADOPT, CannotSign, KeyFolder, announced_signer, announcements
from storage.notes import Checkpoint, Note
from storage.tree import Tree, length
from workflow.events import at_text


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint as it is handed out: `note` is the whole signed text."""

    origin: str
    size: int
    root: str
    note: str
    at: str


NEWEST = text("SELECT origin, size, root, note, at FROM checkpoints ORDER BY id DESC LIMIT 1")
COVERING = text(
    "SELECT origin, size, root, note, at FROM checkpoints WHERE size >= :position ORDER BY size, id LIMIT 1"
)
STORED = text("SELECT 1 FROM checkpoints WHERE origin = :origin AND size = :size")
STORE = text("INSERT INTO checkpoints (origin, size, root, note, at) VALUES (:origin, :size, :root, :note, :at)")


async def newest(database: Database) -> Signed | None:
    row = await database.first(NEWEST)
    return Signed(**row._mapping) if row else None  # noqa: SLF001 - the row by its names


async def covering(database: Database, position: int) -> Signed | None:
    """The first one over the event at this position."""
    row = await database.first(COVERING, {"position": position})
    return Signed(**row._mapping) if row else None  # noqa: SLF001 - the row by its names


async def sign(database: Database, keys: KeyFolder, now: datetime) -> None:
    """Sign a checkpoint if the tree has grown since the last one. One process at a time. Raises CannotSign, BrokenTree.

    Cut off after any step, it goes on from there the next time.
    """
    keys.look()
    async with keys.locked():
        keys.settle(await database.run(announcements))
        kept = keys.kept()
        note = await database.run(lambda connection: next_note(connection, keys, kept))
        if note is None:
            return
        if note != kept:
            await asyncio.to_thread(keys.keep, note)
        elif await database.run(lambda connection: is_stored(connection, Checkpoint.parse(note.text))):
            return  # a transaction that writes nothing would still wait for its turn
        await database.transact(lambda connection: store(connection, note, now))


def next_note(connection: Connection, keys: KeyFolder, kept: Note) -> Note | None:
    """What comes after the checkpoint that is kept: that one again, if the tree is the same.

    None while the tree, which is made anew after a restore, has not come that far again.
    """
    tree = Tree(connection)
    last = Checkpoint.parse(kept.text)
    if tree.size < last.size <= length(connection):
        return None
    if fault := contradiction(tree, last):
        raise CannotSign(f"{fault}. {ADOPT}")
    signer = announced_signer(keys, announcements(connection))
    if last.origin != signer.verifier.name:
        raise CannotSign(f"the last checkpoint, {keys.checkpoint}, is of another origin, {last.origin}. {ADOPT}")
    if tree.size == last.size:
        return kept
    return notes.sign(str(Checkpoint(last.origin, tree.size, tree.root(tree.size))), signer)


def contradiction(tree: Tree, last: Checkpoint) -> str | None:
    """Why the tree cannot be a later one of the log that this checkpoint was signed for."""
    if tree.size < last.size:
        return (
            f"the log has shrunk: a checkpoint over {last.size} events was signed, and there are {tree.size}."
            " Events were cut off, or this is an older database"
        )
    if last.size == 0:
        return None
    proof, root = tree.consistency(last.size, tree.size), tree.root(tree.size)
    if merkle.verify_consistency(last.size, tree.size, proof, last.root, root):
        return None
    return f"the log was rewritten: its first {last.size} events are not those for which a checkpoint was signed"


def store(connection: Connection, note: Note, now: datetime) -> None:
    """Let others see it, if it is not there yet."""
    checkpoint = Checkpoint.parse(note.text)
    if not is_stored(connection, checkpoint):
        values = {"root": checkpoint.root.hex(), "note": str(note), "at": at_text(now)}
        connection.execute(STORE, {"origin": checkpoint.origin, "size": checkpoint.size} | values)


def is_stored(connection: Connection, checkpoint: Checkpoint) -> bool:
    """Or is the one that is kept before anything is signed, which nobody is shown."""
    place = {"origin": checkpoint.origin, "size": checkpoint.size}
    return checkpoint.size == 0 or connection.execute(STORED, place).first() is not None
