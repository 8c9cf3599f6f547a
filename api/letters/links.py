"""The links to the client's page that letters show.

Nobody is told their secrets but who reads the letters, and nothing keeps them: whoever has the desk's key makes them
anew, at every attempt to send one.
"""

import base64
import hmac
import secrets
from datetime import datetime, timedelta

from storage.people import secret_hash
from workflow.cases import Case
from workflow.commands import NewLink
from workflow.people import token_commitment

GOOD_FOR = timedelta(days=90)


def new_link_for_letters(key: bytes, now: datetime) -> NewLink:
    link_id = secrets.token_hex(8)
    return NewLink(link_id=link_id, secret_hash=secret_hash(secret_of(key, link_id)), expires_at=now + GOOD_FOR)


def secret_of(key: bytes, link_id: str) -> str:
    """256 bits that only this desk can make."""
    return base64.urlsafe_b64encode(hmac.digest(key, f"client link {link_id}".encode(), "sha256")).decode().rstrip("=")


def link_in_letters(case: Case, key: bytes, now: datetime) -> str | None:
    """The path of the newest one that is good; None without one, or where it was made under another key."""
    for link in reversed(case.issued_links):
        if link.letters is True and link.is_good(now):
            secret = secret_of(key, link.id)
            if token_commitment(secret_hash(secret)) == link.commitment:
                return f"/c/{secret}"
    return None
