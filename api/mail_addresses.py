"""Addresses as mail servers take them."""

import re

import msgspec

MAX_LOCAL, MAX_DOMAIN = 64, 253  # octets, RFC 5321 §4.5.3.1

LETTERS = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-"
ATOM = f"[{LETTERS}]+"
DOT_ATOM = re.compile(rf"{ATOM}(?:\.{ATOM})*")
DOTTED = re.compile(f"[.{LETTERS}]+")  # one class: nested repetitions would take forever to say no
HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)


class Unmailable(Exception):
    """No mail can be sent to such an address."""


class Mailbox(msgspec.Struct, frozen=True):
    """An address as an envelope takes it: the host in ASCII, the rest quoted where it has to be."""

    local: str
    host: str

    @property
    def address(self) -> str:
        local = self.local if DOT_ATOM.fullmatch(self.local) else f'"{self.local}"'
        return f"{local}@{self.host}"

    @property
    def is_ascii(self) -> bool:
        return self.local.isascii()

    def with_tag(self, tag: str) -> "Mailbox":
        return Mailbox(f"{self.local}+{tag}", self.host)


def mailbox_of(address: str) -> Mailbox:
    """Raises Unmailable. Two dots in a row are against the rules, and exist."""
    local, _, domain = address.strip().rpartition("@")
    host = host_of(domain)
    if len(local) > MAX_LOCAL or not DOTTED.fullmatch(local) or not local.isprintable():
        raise Unmailable
    if len(local.encode()) > MAX_LOCAL:
        raise Unmailable
    return Mailbox(local, host)


def host_of(domain: str) -> str:
    """In ASCII, as the domain name system has it (RFC 5891). Raises Unmailable."""
    if not domain.isascii():
        import idna  # noqa: PLC0415 - its tables take memory, and few domains need them

        try:
            domain = idna.encode(domain, uts46=True).decode()
        except idna.IDNAError as unfit:
            raise Unmailable from unfit
    if not HOST.fullmatch(domain) or len(domain) > MAX_DOMAIN:
        raise Unmailable
    return domain


def is_own(address: str, support: str) -> bool:
    """Whether it is the desk's own, with a tag or without. Raises Unmailable where the desk's can be none."""
    own = mailbox_of(support.lower())
    local, _, domain = address.lower().rpartition("@")
    return domain in {own.host, support.lower().rpartition("@")[2]} and f"{local}+".startswith(f"{own.local}+")
