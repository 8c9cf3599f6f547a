"""What is handed to the ledger, and what it answers."""

from typing import Any

import msgspec

from workflow.cases import Case
from workflow.commands import Command
from workflow.errors import CaseworkError
from workflow.events import Recorded
from workflow.findings import Finding
from workflow.people import Person
from workflow.roles import Actor
from workflow.webhooks import Webhooks


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """An idempotency key in its scope: `hash` over actor, method, path and key; `fingerprint` of the request's body."""

    hash: str
    fingerprint: str


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One command, by whom, on which case.

    A person acts with the roles they hold when the ledger decides, and only while `token` is theirs.
    `expected` are the versions that the caller accepts as current; None accepts any.
    `mail_refs` are remembered with the case, so that later mail finds it and the same mail has no second effect.
    """

    command: Command
    actor: Actor
    via: str
    request: str
    case_id: str | None = None
    token: str | None = None
    expected: frozenset[int] | None = None
    key: Key | None = None
    mail_refs: tuple[str, ...] = ()


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A durable outcome: the case as the command left it, its texts by pointer, and the case's events it caused.

    `seq` is the first of those events (the one that would be next, if nothing had to change); `person` is set for
    commands about people, `finding` for those about findings, `webhooks` for those that change endpoints, and none of
    them for the policy's. `repeated` says that
    an earlier request with the same key did it.
    """

    case: Case | None = None
    texts: dict[str, str] = {}
    events: tuple[Recorded, ...] = ()
    seq: int = 0
    person: Person | None = None
    finding: Finding | None = None
    webhooks: Webhooks | None = None
    repeated: bool = False

    @property
    def audit_receipt(self) -> str | None:
        """`<chain>/<seq>/<hash>` of the last event."""
        if not self.events:
            return None
        last = self.events[-1]
        return f"{last.event.chain}/{last.event.seq}/{last.hash}"


Outcome = Receipt | Exception


class Unauthorized(CaseworkError):
    """The token was revoked, has run out, or its person was disabled."""


class KeyReused(CaseworkError):
    """The idempotency key was used for another body."""


class DuplicateMail(CaseworkError):
    """The very same mail has arrived before."""


class OutcomeUnknown(CaseworkError):
    """The answer to COMMIT was lost and the database cannot be asked what became of it."""


class Unavailable(CaseworkError):
    """The database cannot take the command now; nothing was written."""


class OutOfReach(Unavailable):
    """The database cannot be reached, or somebody else keeps it to themselves: it takes no command at all."""


Row = tuple[Any, ...]
