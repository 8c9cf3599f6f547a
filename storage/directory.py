"""What every decision needs to know of the desk: its people, its policies, who follows it, its name."""

from datetime import datetime

import msgspec

from storage.submissions import Row
from workflow.people import Person
from workflow.policy import PolicyVersion
from workflow.roles import Actor
from workflow.webhooks import Webhooks


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """One consistent reading of the database."""

    log: str
    timezone: str
    policies: tuple[PolicyVersion, ...]
    policy_head: tuple[int, str, datetime]  # seq, hash and time of the last event of the policy's chain
    people: dict[str, Person]
    webhooks: Webhooks = Webhooks()
    listeners: dict[str, tuple[str, ...]] = {}  # the ids of endpoints by the types they hear of

    @property
    def policy_version(self) -> int:
        return self.policies[-1].version

    def actor(self, actor: Actor, token: str | None, now: datetime) -> Actor | None:
        """The actor with the roles they hold now; None if they may not act any more."""
        if actor.kind != "person":
            return actor
        person = self.people.get(actor.id)
        if person is None or not person.may_act(token, now):
            return None
        return person.as_actor()


def directory_of(desk: Row, policies: list[Row], people: list[Row], policy_head: Row) -> Directory:
    """From rows: (log, timezone, the webhooks' body, if any); (body) each by version; (body) each; (seq, hash, at)."""
    seq, head, at = policy_head
    log, timezone, followed = desk
    webhooks = msgspec.json.decode(followed, type=Webhooks) if followed else Webhooks()
    everybody = [msgspec.json.decode(body, type=Person) for (body,) in people]
    return Directory(
        log=log,
        timezone=timezone,
        policies=tuple(msgspec.json.decode(body, type=PolicyVersion) for (body,) in policies),
        policy_head=(seq, head, datetime.fromisoformat(at)),
        people={person.id: person for person in everybody},
        webhooks=webhooks,
        listeners=webhooks.listeners(),
    )


# What `directory_of` takes, in its order; the same on both databases.
DIRECTORY_QUERIES = (
    "SELECT log, timezone, (SELECT body FROM webhooks) FROM desk",
    "SELECT body FROM policies ORDER BY version",
    "SELECT body FROM people",
    "SELECT seq, hash, at FROM events WHERE chain = 'desk:policy' ORDER BY seq DESC LIMIT 1",
)
