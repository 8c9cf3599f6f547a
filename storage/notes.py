"""Signed notes and checkpoints as C2SP's signed-note and tlog-checkpoint say, signed with Ed25519. Pure.

What is read is read strictly: only the one way in which a thing is written is taken for it.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = b"\x01"  # the signature type, first byte of every key
KEY_BYTES = 32
ID_BYTES = 4
MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100
CHECKPOINT_LINES = 3
SIGNATURE_MARK = "\u2014 "  # an em dash and a blank begin each line of a signature
CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
PRIVATE = "PRIVATE+KEY+"


class BadNote(ValueError):
    """It is no signed note, no checkpoint, or no key: the text says which and why."""


class BadSignature(BadNote):
    """A signature under a known key that the key has not made."""


class Unsigned(BadNote):
    """None of the known keys has signed it."""


# Keys.


def key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public).digest()[:ID_BYTES]


def checked_name(name: str) -> str:
    """A name of a key is not empty and has neither blanks nor a plus."""
    if not name or "+" in name or any(map(str.isspace, name)):
        raise BadNote(f"{name!r} is no name of a key")
    return name


class Verifier(msgspec.Struct, frozen=True):
    """A name and the Ed25519 public key that signs under it."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        return key_id(self.name, self.public)

    def __str__(self) -> str:
        """The verifier key, `name+id+key`, as other tools take it."""
        return f"{self.name}+{self.id.hex()}+{in_base64(ED25519 + self.public)}"

    @classmethod
    def parse(cls, text: str) -> "Verifier":
        """Raises BadNote."""
        name, identity, key = key_parts(text)
        if key_id(name, key) != identity:
            raise BadNote("the verifier key's id is not that of its name and key")
        return cls(name, key)

    def signed(self, text: str, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class Signer:
    """A name and the Ed25519 private key that signs under it. It does not show the key when printed."""

    def __init__(self, name: str, seed: bytes) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = Verifier(checked_name(name), self.key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> "Signer":
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> "Signer":
        """What `private_text` says. Raises BadNote."""
        if not text.startswith(PRIVATE):
            raise BadNote("this is no private key of a note")
        name, identity, seed = key_parts(text.removeprefix(PRIVATE))
        signer = cls(name, seed)
        if signer.verifier.id != identity:
            raise BadNote("the private key's id is not that of its name and key")
        return signer

    def private_text(self) -> str:
        """The secret, `PRIVATE+KEY+name+id+seed`, as other tools for signed notes keep it."""
        seed = in_base64(ED25519 + self.key.private_bytes_raw())
        return f"{PRIVATE}{self.verifier.name}+{self.verifier.id.hex()}+{seed}"

    def signature(self, text: str) -> "Signature":
        return Signature(self.verifier.name, self.verifier.id, self.key.sign(text.encode()))


def key_parts(text: str) -> tuple[str, bytes, bytes]:
    name, _, rest = text.partition("+")
    identity, _, encoded = rest.partition("+")
    key = from_base64(encoded)
    if not re.fullmatch("[0-9a-f]{8}", identity) or len(key) != 1 + KEY_BYTES or key[:1] != ED25519:
        raise BadNote("this is no Ed25519 key of a note")
    return checked_name(name), bytes.fromhex(identity), key[1:]


# Notes.


class Signature(msgspec.Struct, frozen=True):
    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{SIGNATURE_MARK}{self.name} {in_base64(self.key_id + self.signature)}\n"


class Note(msgspec.Struct, frozen=True):
    """A text, with the line break at its end, and the signatures under it, of whatever keys."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(map(str, self.signatures))

    @classmethod
    def parse(cls, note: bytes) -> "Note":
        """Verifies no signature. Raises BadNote."""
        if len(note) > MAX_NOTE_BYTES:
            raise BadNote("the note is too long")
        try:
            whole = checked_text(note.decode())
        except UnicodeDecodeError:
            raise BadNote("the note is not UTF-8") from None
        text, blank, signatures = whole.rpartition("\n\n")
        if not blank or not signatures:
            raise BadNote("the note has no text or no signature")
        lines = signatures[:-1].split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise BadNote("the note has too many signatures")
        return cls(text + "\n", tuple(map(parsed_signature, lines)))


def checked_text(text: str) -> str:
    if not text.endswith("\n") or CONTROL.search(text):
        raise BadNote("a note ends each line with a line break, and holds no other control characters")
    return text


def parsed_signature(line: str) -> Signature:
    if not line.startswith(SIGNATURE_MARK):
        raise BadNote("a line of the note's signatures is none")
    name, _, encoded = line.removeprefix(SIGNATURE_MARK).partition(" ")
    signed = from_base64(encoded)
    if len(signed) <= ID_BYTES:
        raise BadNote("a signature of the note is too short")
    return Signature(checked_name(name), signed[:ID_BYTES], signed[ID_BYTES:])


def sign(text: str, *signers: Signer) -> Note:
    """Raises BadNote if there can be no note of this text."""
    return Note(checked_text(text), tuple(signer.signature(text) for signer in signers))


def verify(note: Note, verifiers: Iterable[Verifier]) -> tuple[Verifier, ...]:
    """The known keys that have signed it, at least one; signatures of other keys say nothing.

    Raises BadSignature or Unsigned.
    """
    known = {(one.name, one.id): one for one in verifiers}
    signed: dict[Verifier, None] = {}
    for signature in note.signatures:
        verifier = known.get((signature.name, signature.key_id))
        if verifier is None:
            continue
        if not verifier.signed(note.text, signature.signature):
            raise BadSignature(f"the signature of {signature.name} is not that of this text")
        signed[verifier] = None
    if not signed:
        raise Unsigned("no known key has signed the note")
    return tuple(signed)


# Checkpoints.


class Checkpoint(msgspec.Struct, frozen=True):
    """The size and root that a log, named by its origin, had at some moment."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        """The text of the note. It has no extension lines, and with some it is not taken for one of ours."""
        return f"{self.origin}\n{self.size}\n{in_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Raises BadNote."""
        lines = checked_text(text)[:-1].split("\n")
        if len(lines) != CHECKPOINT_LINES:
            raise BadNote("a checkpoint has three lines: origin, size, root")
        origin, size, encoded = lines
        if not origin or not re.fullmatch("0|[1-9][0-9]{0,18}", size):
            raise BadNote("the checkpoint's origin is empty, or its size no number")
        root = from_base64(encoded)
        if len(root) != hashlib.sha256().digest_size:
            raise BadNote("the checkpoint's root is no SHA-256")
        return cls(origin, int(size), root)


def in_base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def from_base64(text: str) -> bytes:
    """Raises BadNote for anything but the one standard encoding, padded and without stray bits."""
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        octets = None
    if octets is None or in_base64(octets) != text:
        raise BadNote("this is no standard base64")
    return octets
