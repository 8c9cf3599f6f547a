"""Passwords: what is asked of a new one, what is kept of it, and whether one is right.

Argon2id with the library's own costs (64 MiB, three passes, RFC 9106); a few at a time, since that is memory too.
"""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from workflow.errors import bad_field
from workflow.people import SetPassword

MIN_CHARACTERS = 12
MAX_CHARACTERS = 1000
MIN_DIFFERENT = 5
AT_ONCE = 4

# Along these nobody has to think, in either direction; each leads on into itself.
ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "1234567890",
    "0123456789",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
)
# Alone, or with digits and signs around them, these are tried first.
WORDS = frozenset(
    {
        "admin",
        "administrator",
        "casework",
        "changeme",
        "iloveyou",
        "letmein",
        "passwort",
        "password",
        "qwerty",
        "secret",
    }
    | {"support", "welcome"}
)

hasher = PasswordHasher()
threads = ThreadPoolExecutor(AT_ONCE, "passwords")


@cache
def nobodys() -> str:
    """Checked where there is no such person, so that an answer takes as long."""
    return hasher.hash(secrets.token_hex(16))


async def password_command(person_id: str, password: str, *known: str) -> SetPassword:
    """The command that sets it; `known` is what others know of the person. Raises BadInput."""
    if len(password) < MIN_CHARACTERS:
        raise bad_field("password", f"has to be at least {MIN_CHARACTERS} characters long")
    if len(password) > MAX_CHARACTERS:
        raise bad_field("password", f"may be at most {MAX_CHARACTERS} characters long")
    if is_tried_first(password, *known):
        raise bad_field("password", "is one of those that are tried first: take several words that do not go together")
    kept = await asyncio.get_running_loop().run_in_executor(threads, hasher.hash, password)
    return SetPassword(person_id=person_id, password_hash=kept)


def is_tried_first(password: str, *known: str) -> bool:
    """Whether it is on everybody's list, or what a machine makes of such lists (NIST SP 800-63B §5.1.1.2)."""
    plain = password.casefold()
    core = plain.strip("".join(one for one in set(plain) if not one.isalpha()))
    names = {part for one in known for part in (one.casefold(), *one.casefold().replace("@", " ").split())}
    return (
        plain in common()
        or core in WORDS | names
        or len(set(plain)) < MIN_DIFFERENT
        or plain in (plain * 2)[1:-1]  # the same thing several times over
        or any(plain in row * 4 or plain[::-1] in row * 4 for row in ROWS)
    )


@cache
def common() -> frozenset[str]:
    lines = Path(__file__).with_name("common_passwords.txt").read_text("utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


async def is_password(password: str, kept: str | None) -> bool:
    """Whether it is the one that `kept` was made from; without one, false after the same time."""
    return await asyncio.get_running_loop().run_in_executor(threads, matches, kept, password[:MAX_CHARACTERS])


def matches(kept: str | None, password: str) -> bool:
    try:
        hasher.verify(kept or nobodys(), password)
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None
