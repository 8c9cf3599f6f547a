"""The whole log as one file, under a signed checkpoint of it, as docs/log.md describes it."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from sqlalchemy import Connection

from storage.bundles import signatures_of
from storage.checkpoints import Signed
from storage.database import asking
from storage.exports import export
from storage.keys import CannotSign, Introduction, announcements, introductions
from storage.notes import Note, Verifier
from storage.sequencer import Sequencer
from workflow.canonical import canonical

LOG_FORMAT = 1


async def log_lines(sequencer: Sequencer) -> AsyncGenerator[str]:
    """The lines of the file, which holds everything that was acknowledged by now.

    What there is to say against it is raised before the first: CannotSign, BrokenTree or Unavailable.
    """
    signed = await sequencer.settle()
    if signed is None or sequencer.keys is None:
        raise CannotSign("this process has no signing key, and the log no checkpoint")

    def first(connection: Connection) -> str:
        return first_line(connection, signed)

    with asking():
        yield await sequencer.database.run(first)
    async with export(sequencer.database) as found:
        async for body in found.bodies(signed.size):
            yield f"{body}\n"


def first_line(connection: Connection, signed: Signed) -> str:
    """By whichever key has signed the checkpoint."""
    history, note = announcements(connection), Note.parse(signed.note.encode())
    for one in reversed(history):
        verifier = Verifier.parse(one.vkey)
        if found := signatures_of(note, verifier):
            return header(Note(note.text, found), verifier, introductions(history, verifier))
    raise CannotSign("the newest checkpoint is signed by no key that the log has announced")


def header(checkpoint: Note, verifier: Verifier, introduced: Sequence[Introduction] = ()) -> str:
    fields: dict[str, Any] = {"key": str(verifier), "introductions": introduced, "checkpoint": str(checkpoint)}
    return canonical({"casework_log": LOG_FORMAT, **fields}).decode() + "\n"
