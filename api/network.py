"""Where the desk may be made to send something by what somebody has typed in: to public addresses, and nowhere else.

A name is looked up once, what it means is looked at, and the connection goes to exactly that: another answer a moment
later changes nothing. (RFC 6890 and the registries of special-purpose addresses it began.)
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from workflow.errors import CaseworkError

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

LOOKUP_SECONDS = 5.0

NOT_PUBLIC: tuple[IPNetwork, ...] = tuple(
    ip_network(one)
    for one in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by the customers of a carrier
        "127.0.0.0/8",
        "168.63.129.16/32",  # what tells a machine at Azure about itself
        "169.254.0.0/16",  # link-local, and what tells a machine elsewhere about itself
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "3fff::/20",
    )
)
GLOBAL_UNICAST = IPv6Network("2000::/3")  # whatever is none of it is loopback, local, multicast, or of no use yet
NAT64, SIX_TO_FOUR = IPv6Network("64:ff9b::/96"), IPv6Network("2002::/16")


class Unreachable(CaseworkError):
    """`code` says why; the text finishes the sentence that the URL begins."""

    code = "unreachable"


class NoSuchHost(Unreachable):
    code = "name_not_found"


class OffLimits(Unreachable):
    code = "address_refused"


async def looked_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, in the order in which to try them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Network:
    """`allowed` are addresses to which things may be sent although they are not public, and without TLS."""

    def __init__(self, allowed: Iterable[IPNetwork] = (), resolve: Resolve = looked_up) -> None:
        self.allowed = tuple(allowed)
        self.resolve = resolve

    async def addresses(self, url: str) -> tuple[IPAddress, ...]:
        """Where the URL leads, each address once. Raises NoSuchHost; and OffLimits if any of them may not be reached.

        Whoever answers with one public address and one that is not has no good reason to.
        """
        parts = urlsplit(url)
        host, is_secure = parts.hostname or "", parts.scheme == "https"
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                names = await self.resolve(host, parts.port or (443 if is_secure else 80))
        except (OSError, UnicodeError) as failure:  # a TimeoutError is an OSError
            raise NoSuchHost("names a host that cannot be found") from failure
        found = tuple(dict.fromkeys(ip_address(one) for one in names))
        if not found:
            raise NoSuchHost("names a host that has no address")
        for address in found:
            if not (self.is_allowed(address) or (is_secure and is_public(address))):
                raise OffLimits(REFUSED if is_secure else UNSAFE)
        return found

    def is_allowed(self, address: IPAddress) -> bool:
        return any(one in network for one in (address, embedded(address)) for network in self.allowed)


REFUSED = "leads to an address that is not public (CASEWORK_WEBHOOK_NETWORKS can allow it)"
UNSAFE = "has to begin with https:// (CASEWORK_WEBHOOK_NETWORKS can allow other addresses of one's own network)"


def embedded(address: IPAddress) -> IPAddress:
    """The IPv4 address that is meant by one of IPv6, where that is so."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in SIX_TO_FOUR and address.sixtofour is not None:
        return address.sixtofour
    return address


def is_public(address: IPAddress) -> bool:
    meant = embedded(address)
    if isinstance(meant, IPv6Address) and meant not in GLOBAL_UNICAST:
        return False
    return not any(meant in network for network in NOT_PUBLIC)
