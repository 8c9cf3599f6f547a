"""Who may do what: roles, the people and machines that hold them, and the rights that do not depend on a trigger."""

from enum import StrEnum
from functools import cache

import msgspec


class Role(StrEnum):
    AGENT = "agent"  # works cases
    LEAD = "lead"  # an agent's rights; assigns, approves in the first tier, sees insights
    APPROVER = "approver"  # approves and settles
    AUDITOR = "auditor"  # reads everything, changes no case
    ADMIN = "admin"  # people, tokens, settings, policy; no case work by that role alone
    SYSTEM = "system"  # timers, mail, payment providers, the operator's command line
    CLIENT = "client"  # only their own case


class TokenKind(StrEnum):
    """What a token is good for."""

    API = "api"  # sent with each request over HTTP
    SESSION = "session"  # a browser's cookie
    LINK = "link"  # signs in once, and becomes a session
    CALENDAR = "calendar"  # reads one's own consultations, and nothing else


STAFF_ROLES = (Role.AGENT, Role.LEAD, Role.APPROVER, Role.AUDITOR, Role.ADMIN)

WORKERS = frozenset({Role.AGENT, Role.LEAD})
SETTLERS = frozenset({Role.APPROVER, Role.SYSTEM})
# A person lets money go; a payment provider only reports how a begun payout ended, and that its own came back.
PAYERS = frozenset({Role.APPROVER})
APPROVERS = frozenset({Role.LEAD, Role.APPROVER})
# Whoever approves or settles may also write down what they found on the way.
RECORDERS = frozenset({Role.AGENT, Role.LEAD, Role.APPROVER})
INTAKE = RECORDERS | {Role.SYSTEM}
CLIENTS = frozenset({Role.CLIENT})
SYSTEMS = frozenset({Role.SYSTEM})
# Who lets a client see their case; the system is the operator's command line, and later the mail that tells of it.
LINKERS = WORKERS | {Role.SYSTEM}
READERS = frozenset({Role.AGENT, Role.LEAD, Role.APPROVER, Role.AUDITOR})
OVERSEERS = frozenset({Role.LEAD, Role.AUDITOR})
ADMINS = frozenset({Role.ADMIN})
AUDITORS = frozenset({Role.AUDITOR})
# A legal hold keeps what somebody outside has a right to find; erasing is for whoever answers for personal data.
HOLDERS = frozenset({Role.LEAD, Role.ADMIN})
ERASERS = frozenset({Role.ADMIN, Role.SYSTEM})
EVERYONE = frozenset(STAFF_ROLES)


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever gives a command. `id` is a pseudonym: a random person id, or the name of a part of the system."""

    kind: str  # "person", "system" or "client"
    id: str
    roles: frozenset[Role]

    @property
    def key(self) -> str:
        """As events name the actor: `person:3f…`, `system:mail`."""
        return f"{self.kind}:{self.id}"

    def may(self, roles: frozenset[Role]) -> bool:
        return not self.roles.isdisjoint(roles)


def system_actor(part: str) -> Actor:
    return Actor(kind="system", id=part, roles=frozenset({Role.SYSTEM}))


@cache
def in_order(roles: frozenset[Role]) -> tuple[Role, ...]:
    """Roles as people list them, so that two answers about the same thing read the same."""
    return tuple(role for role in Role if role in roles)
