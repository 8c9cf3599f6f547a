"""Passwords: what is asked of a new one, what is kept of it, and whether one is right.

Argon2id with the library's own costs (64 MiB, three passes, RFC 9106); a few at a time, since that is memory too.
"""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from workflow.errors import bad_field
from workflow.people import SetPassword

MIN_CHARACTERS = 12
MAX_CHARACTERS = 1000
AT_ONCE = 4

hasher = PasswordHasher()
threads = ThreadPoolExecutor(AT_ONCE, "passwords")


@cache
def nobodys() -> str:
    """Checked where there is no such person, so that an answer takes as long."""
    return hasher.hash(secrets.token_hex(16))


async def password_command(person_id: str, password: str) -> SetPassword:
    """The command that sets it. Raises BadInput."""
    if len(password) < MIN_CHARACTERS:
        raise bad_field("password", f"has to be at least {MIN_CHARACTERS} characters long")
    if len(password) > MAX_CHARACTERS:
        raise bad_field("password", f"may be at most {MAX_CHARACTERS} characters long")
    kept = await asyncio.get_running_loop().run_in_executor(threads, hasher.hash, password)
    return SetPassword(person_id=person_id, password_hash=kept)


async def is_password(password: str, kept: str | None) -> bool:
    """Whether it is the one that `kept` was made from; without one, false after the same time."""
    return await asyncio.get_running_loop().run_in_executor(threads, matches, kept, password[:MAX_CHARACTERS])


def matches(kept: str | None, password: str) -> bool:
    try:
        hasher.verify(kept or nobodys(), password)
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None
