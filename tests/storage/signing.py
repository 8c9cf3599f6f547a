"""A desk whose log is signed: on a database of its own, with a folder for its key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from storage.checkpoints import Signed
from storage.database import Database, open_database
from storage.keys import KeyFolder, ensure_key, log_of
from storage.sequencer import Sequencer
from storage.verify import verify
from tests.workflow.builders import NOON


class SignedDesk:
    def __init__(self, database: Database, keys: KeyFolder) -> None:
        self.database = database
        self.keys = keys
        self.sequencer = Sequencer(database, keys, lambda: NOON)

    async def settle(self) -> Signed:
        signed = await self.sequencer.settle()
        assert signed is not None
        return signed

    async def faults(self, folder: Path | None = None) -> list[str]:
        """What verifying finds, with the checkpoint that is kept outside."""
        return [str(one) for one in (await verify(self.database, folder=folder or self.keys.folder)).faults]


@asynccontextmanager
async def signed_desk(url: str, folder: Path) -> AsyncIterator[SignedDesk]:
    """Over a database in which there is a desk; its key is made, if there is none."""
    database = open_database(url)
    try:
        await ensure_key(database, folder, NOON)
        yield SignedDesk(database, KeyFolder(folder, await log_of(database)))
    finally:
        await database.close()
