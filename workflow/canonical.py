"""The one encoding of an event: canonical JSON (RFC 8785 without floats), and the hash that names it."""

import hashlib
from collections.abc import Iterable
from typing import Annotated

import msgspec

ZEROS = "0" * 64
MAX_BYTES = 65_535
MAX_INTEGER = 2**53 - 1

Integer = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
"""One that every reader of JSON keeps exactly; what an event holds is declared as such."""

_encoder = msgspec.json.Encoder(order="sorted", decimal_format="string")
_leaf = hashlib.sha256(b"\x00")


def canonical(value: object) -> bytes:
    """Sorted keys, no blanks, UTF-8. Where `faults_of` finds none these are the bytes of RFC 8785."""
    return _encoder.encode(value)


def canonical_together(values: Iterable[object]) -> bytearray:
    """The canonical bytes of each, one after the other."""
    together = bytearray()
    for value in values:
        _encoder.encode_into(value, together, -1)
    return together


def leaf_hash(body: bytes) -> str:
    """SHA-256 of 0x00 and the body: the chain's link, the RFC 6962 leaf and the caller's receipt in one."""
    digest = _leaf.copy()  # cheaper than to begin anew
    digest.update(body)
    return digest.hexdigest()


def faults_of(value: object) -> str | None:
    """Why a decoded body breaks the profile, if it does; its canonical encoding is the caller's to compare."""
    match value:
        case bool() | None:
            return None
        case int():
            return None if -MAX_INTEGER <= value <= MAX_INTEGER else "an integer is beyond 2^53-1"
        case float():
            return "a float"
        case str():
            return "a NUL character" if "\x00" in value else None
        case list():
            return next((fault for one in value if (fault := faults_of(one))), None)
        case dict():
            for key, one in value.items():
                if not (key.isascii() and key.replace("_", "a").isalnum() and key == key.lower()):
                    return f"the key {key!r}"
                if fault := faults_of(one):
                    return fault
            return None
        case _:
            return f"a {type(value).__name__}"
