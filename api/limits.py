"""How often something may be done: so many times in so long, for each of whom it counts."""

import ipaddress
from collections import OrderedDict
from datetime import datetime, timedelta
from math import ceil

from starlette.requests import Request

KEYS = 10_000
IPV6_NETWORK = 64  # one household or server has all addresses of it


class Limit:
    """Up to `count` at once, and as many again over `period`. Whoever was heard of longest ago is forgotten first.

    Each process counts for itself.
    """

    def __init__(self, count: int, period: timedelta, keys: int = KEYS) -> None:
        self.each = period / count
        self.period = period
        self.keys = keys
        self.full_at: OrderedDict[str, datetime] = OrderedDict()  # when as much as ever may be done again

    def wait(self, key: str, now: datetime) -> int:
        """The seconds until it may be done; 0 if it may be done now."""
        return max(0, ceil((self.known(key, now) + self.each - self.period - now).total_seconds()))

    def known(self, key: str, now: datetime) -> datetime:
        """Never further ahead than it could be: the clock may have been set back."""
        return min(max(self.full_at.get(key, now), now), now + self.period)

    def count(self, key: str, now: datetime) -> None:
        """It is done."""
        self.full_at[key] = self.known(key, now) + self.each
        self.full_at.move_to_end(key)
        if len(self.full_at) > self.keys:
            self.full_at.popitem(last=False)

    def take(self, key: str, now: datetime) -> int:
        """As `wait`, and counts it if it may be done."""
        seconds = self.wait(key, now)
        if not seconds:
            self.count(key, now)
        return seconds


class ClientLimits:
    """How often who may come to clients' pages. Guessing is hopeless; this keeps it from being a burden to others."""

    def __init__(self) -> None:
        period = timedelta(minutes=10)
        self.wrong = Limit(60, period)
        self.reads_from = Limit(1_200, period)
        self.reads_by = Limit(600, period)
        self.writes_from = Limit(100, period)
        self.writes_by = Limit(20, period)


def origin_of(request: Request) -> str:
    """Where a request comes from, as far as that can be told: an address, or the network that somebody has whole."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), IPV6_NETWORK), strict=False))
    return str(address)
