"""The server's side of a connection: an open stream, which has no end of its own, must not hold up the server's."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.live import Watcher


class Connection(HttpToolsProtocol):
    """As uvicorn's; a stream finds it in its scope."""

    stream: Watcher | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.stream = None
        self.scope["connection"] = self  # type: ignore[typeddict-unknown-key]

    def shutdown(self) -> None:
        super().shutdown()
        if self.stream is not None:
            self.stream.end()
            if self.flow.write_paused:
                self.drop()

    def drop(self) -> None:
        """Without waiting for somebody who reads no more."""
        self.transport.abort()
