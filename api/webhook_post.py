"""One request to addresses that have been looked at, of whose answer the head is all that counts.

No redirect is followed, no proxy asked, and nothing that is configured around us counts.
"""

import ssl
from collections.abc import Iterable, Sequence
from functools import cache

import httpcore2
from httpcore2 import AsyncNetworkStream

from api.network import IPAddress

MAX_TRIED = 3  # of the addresses that a name has
SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class Unanswered(Exception):
    """No answer that could be read. `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


async def post(url: str, addresses: Sequence[IPAddress], headers: dict[str, str], body: bytes) -> tuple[int, str]:
    """The status of the answer, and its Retry-After. Raises Unanswered."""
    try:
        async with (
            httpcore2.AsyncConnectionPool(ssl_context=trust(), network_backend=Pinned(addresses)) as pool,
            # What the answer holds is never read, so that there can be no end to it.
            pool.stream("POST", url, headers=[*headers.items()], content=body) as response,
        ):
            given = {name.lower(): value for name, value in response.headers}
            return response.status, given.get(b"retry-after", b"").decode("ascii", "replace").strip()
    except httpcore2.TimeoutException as slow:
        raise Unanswered("timed_out") from slow
    except httpcore2.ConnectError as failure:
        raise Unanswered(why_not_connected(failure)) from failure
    except httpcore2.NetworkError as failure:
        raise Unanswered("connection_lost") from failure
    except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as strange:
        raise Unanswered("answer_unreadable") from strange


def why_not_connected(failure: BaseException) -> str:
    """By what lies below it: the libraries in between know only that there is no connection."""
    below: BaseException | None = failure
    while below is not None:
        if isinstance(below, ssl.SSLError):
            return "certificate_refused" if isinstance(below, ssl.SSLCertVerificationError) else "tls_failed"
        below = below.__cause__ or below.__context__
    return "connection_failed"


@cache
def trust() -> ssl.SSLContext:
    """The machine's own authorities; SSL_CERT_FILE names others."""
    return httpcore2.default_ssl_context()


class Pinned(httpcore2.AnyIOBackend):
    """Connects to these addresses, whatever the name leads to by now; whoever is there has to prove the name."""

    def __init__(self, addresses: Iterable[IPAddress]) -> None:
        self.addresses = [*addresses][:MAX_TRIED]

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - it has been looked up
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as it is called
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> AsyncNetworkStream:
        failure: Exception = httpcore2.ConnectError("there is no address")
        for address in self.addresses:
            try:
                return await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as unreachable:
                failure = unreachable
        raise failure
