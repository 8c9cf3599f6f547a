"""How often something may be done: so many times in so long, for each of whom it counts."""

import hashlib
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

    def give_back(self, key: str) -> None:
        """It was not done after all."""
        if key in self.full_at:
            self.full_at[key] -= self.each

    def forget(self, key: str) -> None:
        self.full_at.pop(key, None)


class SignInLimits:
    """How often somebody may fail to sign in, from one origin and at one address, whether anybody has it or not.

    Links and identity providers are never limited by address, so that nobody can be locked out by others. `recorded`
    bounds what of failed attempts goes into the log, where everything stays for good.
    """

    def __init__(self) -> None:
        period = timedelta(minutes=15)
        self.wrong_from = Limit(50, period)
        self.wrong_at = Limit(10, period)
        self.recorded = Limit(100, period, keys=1)

    def wait(self, origin: str, address: str | None, now: datetime) -> int:
        """The seconds until this origin may try this address, or no address in particular; 0 if it may now."""
        at = 0 if address is None else self.wrong_at.wait(folded(address), now)
        return max(at, self.wrong_from.wait(origin, now))

    def begin(self, origin: str, address: str | None, now: datetime) -> None:
        """Counts as failed until it is said to be otherwise: many at once must not all get through."""
        self.wrong_from.count(origin, now)
        if address is not None:
            self.wrong_at.count(folded(address), now)

    def succeed(self, origin: str, address: str) -> None:
        """Whoever knows the password has made the mistakes before; that says nothing about others of the origin."""
        self.wrong_from.give_back(origin)
        self.wrong_at.forget(folded(address))

    def undecided(self, origin: str, address: str) -> None:
        """Nobody knows whether it would have failed."""
        self.wrong_from.give_back(origin)
        self.wrong_at.give_back(folded(address))


def folded(address: str) -> str:
    """Short, however long it was; and names nobody."""
    return hashlib.blake2b(address.encode(), digest_size=16).hexdigest()


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
