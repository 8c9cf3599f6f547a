"""What the processes over one database call to each other in passing. Nothing of it is kept, and some may be missed."""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import asyncpg

from storage.postgres_writer import LOST
from storage.submissions import Unavailable

GROWN = "casework_grown"  # the log has: said by whoever numbers events, never by their writers
LOOKING = "casework_looking"  # who has which case open
CHANNELS = (GROWN, LOOKING)

APPLICATION_NAME = "casework live"
CONNECT_SECONDS = 3.0
COMMAND_SECONDS = 5.0

Hear = Callable[[str, str], None]


class Signals(Protocol):
    """One process's ear and mouth. What is heard comes by channel and text, one's own calls too."""

    def tell(self, channel: str, said: str) -> None:
        """With the next `tend`."""
        ...

    async def tend(self) -> bool:
        """Call what is to be told; True if others may have called unheard until now. Raises Unavailable."""
        ...

    async def close(self) -> None: ...


class Silence:
    """SQLite serves one process at a time: there is nobody to tell."""

    def tell(self, channel: str, said: str) -> None:
        pass

    async def tend(self) -> bool:
        return False

    async def close(self) -> None:
        pass


class PostgresSignals:
    """LISTEN and NOTIFY on a connection of its own, made anew when it is lost."""

    def __init__(self, url: str, hear: Hear) -> None:
        self.url = url
        self.hear = hear
        self.waiting: deque[tuple[str, str]] = deque()
        self.connection: asyncpg.Connection[Any] | None = None

    def tell(self, channel: str, said: str) -> None:
        self.waiting.append((channel, said))

    async def tend(self) -> bool:
        is_new = self.connection is None or self.connection.is_closed()
        try:
            connection = await self.listening()
            while self.waiting:
                await connection.execute("SELECT pg_notify($1, $2)", *self.waiting[0])
                self.waiting.popleft()
        except (*LOST, asyncpg.PostgresError) as failure:
            self.hang_up()
            raise Unavailable(str(failure)) from failure
        return is_new

    async def listening(self) -> "asyncpg.Connection[Any]":
        if self.connection is not None and not self.connection.is_closed():
            return self.connection
        self.waiting.clear()  # things are otherwise by now: whoever told them tells them anew
        self.connection = connection = await asyncpg.connect(
            self.url,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            server_settings={"application_name": APPLICATION_NAME, "jit": "off"},
        )
        for channel in CHANNELS:
            await connection.add_listener(channel, lambda _, __, where, said: self.hear(str(where), str(said)))
        return connection

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.terminate()

    async def close(self) -> None:
        """After what was told last, if it can be said."""
        if self.connection is None or self.connection.is_closed():
            return
        try:
            await self.tend()
            await self.connection.close(timeout=CONNECT_SECONDS)
        except (Unavailable, *LOST):
            self.hang_up()
