"""Gives decided events their place in a chain: body, hash, commitments."""

import hmac
import os
import re
from datetime import datetime

import msgspec

from storage.submissions import Row
from workflow.canonical import MAX_BYTES, ZEROS, canonical, leaf_hash
from workflow.events import Draft, Event, Recorded, at_text
from workflow.lifecycle import LIFECYCLE

EVENT_FORMAT = 1


# An escaped NUL that is not itself the escape of a backslash.
ESCAPED_NUL = b"\\u0000"
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class UnfitBody(ValueError):
    """An event that is too large or holds a NUL: a limit further out has failed."""


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """What the events of one command share."""

    log: str
    policy: int
    at: datetime
    actor: str
    via: str
    request: str


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded event and the rows that keep it: `event` in the column order of EVENT_COLUMNS."""

    recorded: Recorded
    event: Row
    personal: tuple[Row, ...]
    attachment_salt: bytes | None


EVENT_COLUMNS = (
    "chain",
    "seq",
    "prev_seq",
    "prev_hash",
    "state_before",
    "state_after",
    "trigger",
    "type",
    "lifecycle",
    "at",
    "hash",
    "body",
)


def commitment(salt: bytes, value: bytes) -> str:
    return hmac.digest(salt, value, "sha256").hex()


def seal(  # noqa: PLR0917 - the last four are one place in a chain
    draft: Draft, circumstances: Circumstances, chain: str, seq: int, prev: str | None, state_before: str | None
) -> Sealed:
    """`prev` and `state_before` are None exactly for the first event of a chain."""
    commitments: dict[str, str] = {}
    personal: list[Row] = []
    if draft.personal:
        salts = os.urandom(32 * len(draft.personal))
        for index, (field, value) in enumerate(draft.personal.items()):
            salt = salts[32 * index : 32 * index + 32]
            commitments[field] = commitment(salt, value.encode())
            personal.append((chain, seq, field, salt, value))
    attachment_salt = None
    if draft.attachment is not None:
        attachment_salt = os.urandom(32)
        commitments["content"] = commitment(attachment_salt, draft.attachment.content)
    state_after = draft.state_after or state_before
    event = Event(
        v=EVENT_FORMAT,
        log=circumstances.log,
        chain=chain,
        seq=seq,
        prev=prev or ZEROS,
        type=draft.type,
        state_before=state_before or None,
        state_after=state_after or None,
        lifecycle=LIFECYCLE,
        policy=circumstances.policy,
        at=at_text(circumstances.at),
        actor=circumstances.actor,
        via=circumstances.via,
        request=circumstances.request,
        data=draft.data,
        personal=commitments,
        trigger=draft.trigger,
        guards=draft.guards,
    )
    body = canonical(event)
    if len(body) > MAX_BYTES or (ESCAPED_NUL in body and NUL.search(body)):
        raise UnfitBody
    digest = leaf_hash(body)
    row = (
        chain,
        seq,
        seq - 1 if seq > 1 else None,
        prev,
        state_before,
        state_after or "",
        draft.trigger,
        draft.type,
        LIFECYCLE,
        event.at,
        digest,
        body.decode(),
    )
    recorded = Recorded(event=event, data=draft.data, hash=digest)
    return Sealed(recorded=recorded, event=row, personal=tuple(personal), attachment_salt=attachment_salt)
