"""Systems that follow the desk: which endpoints there are, what each hears of, and what it is told.

An endpoint's secret is nowhere: whoever has the desk's own can work it out, from the endpoint's id and the generation.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from workflow import events as e
from workflow.canonical import Integer
from workflow.cases import case_number_text, chain_of
from workflow.commands import Command
from workflow.deciding import forbid_unless
from workflow.errors import BrokenHistory, NotFound, bad_field
from workflow.events import Draft, EventData, Recorded
from workflow.money import Money
from workflow.roles import ADMINS, Actor, Role
from workflow.states import Verdict

WEBHOOKS_CHAIN = "desk:webhooks"

MAX_WEBHOOKS = 20  # each event that all of them hear of is delivered that many times
MAX_URL_CHARACTERS = 2000
OVERLAP = timedelta(hours=24)  # in which a receiver takes over a new secret

PING = "casework.ping"


# What is told.


class Telling(NamedTuple):
    """The type of message that an event makes, and which of its data go along: never a text, never a secret."""

    type: str
    fields: tuple[str, ...] = ()


ALLOWED, REFUSED = "casework.transition.allowed", "casework.transition.refused"

BY_EVENT: dict[type[EventData], Telling] = {
    e.Opened: Telling("casework.case.opened", ("category", "received_at", "follows", "unverified_of")),
    e.InvestigationStarted: Telling(ALLOWED, ("assignee",)),
    e.AdjustmentOffered: Telling(ALLOWED, ("answer_by",)),
    e.ConsultationScheduled: Telling(ALLOWED, ("starts_at", "minutes", "host")),
    e.CompensationIssued: Telling(ALLOWED, ("proposal",)),
    e.Refunded: Telling(ALLOWED, ("proposal", "amount")),
    e.Resumed: Telling(ALLOWED, ("reason_code",)),
    e.Closed: Telling(ALLOWED, ("resolution", "duplicate_of")),
    e.Reopened: Telling(ALLOWED),
    e.Proposed: Telling("casework.proposal.made", ("remedy", "amount", "kind")),
    e.ProposalWithdrawn: Telling("casework.proposal.withdrawn", ("proposal",)),
    e.PayoutBegun: Telling("casework.payout.begun", ("proposal", "amount")),
    e.PayoutFailed: Telling("casework.payout.failed", ("proposal",)),
    e.PaymentReversed: Telling("casework.payment.reversed", ("proposal", "amount")),
    e.MessageReceived: Telling("casework.message.received"),
    e.MessageSent: Telling("casework.message.sent", ("awaits_reply",)),
    e.MessageBounced: Telling("casework.message.bounced", ("message",)),
    e.WebhookPinged: Telling(PING, ("webhook",)),
}
VERDICTS = {
    Verdict.APPROVE: Telling("casework.proposal.approved", ("proposal", "complete")),
    Verdict.REFUSE: Telling("casework.proposal.refused", ("proposal",)),
}
ATTEMPT_FIELDS = ("code", "command", "trigger", "refusals")
ATTEMPTS = {True: Telling(REFUSED, ATTEMPT_FIELDS), False: Telling("casework.attempt.refused", ATTEMPT_FIELDS)}

TYPES = tuple(sorted({one.type for one in (*BY_EVENT.values(), *VERDICTS.values(), *ATTEMPTS.values())} - {PING}))
"""What an endpoint can ask to hear of. It hears of a ping whatever it asked for."""

# In which the types above are found: by these the log is looked through.
EVENTS_TOLD = (*(e.TYPE_NAMES[data] for data in BY_EVENT), "verdict_given", "refused")


def telling_of(data: EventData) -> Telling | None:
    match data:
        case e.VerdictGiven(verdict=verdict):
            return VERDICTS[verdict]
        case e.AttemptRefused(command=command, trigger=trigger):
            return ATTEMPTS[trigger is not None or command == "Fire"]
        case _:
            return BY_EVENT.get(type(data))


def webhook_type_of(recorded: Recorded) -> str | None:
    """One at most, so that no endpoint hears of an event twice."""
    telling = telling_of(recorded.data)
    return telling.type if telling else None


def case_told_of(recorded: Recorded) -> str | None:
    """The id of the case that the event is about."""
    chain = recorded.event.chain
    if chain.startswith(chain_of("")):
        return chain.removeprefix(chain_of(""))
    return recorded.data.case if isinstance(recorded.data, e.AttemptRefused) else None


def told(recorded: Recorded, number: int | None) -> dict[str, Any]:
    """What a message says of an event; `number` is that of its case. What does not apply is left out."""
    event, data = recorded.event, recorded.data
    telling = telling_of(data)
    facts: dict[str, Any] = {
        "case": case_told_of(recorded),
        "number": case_number_text(number) if number is not None else None,
        "version": data.version if isinstance(data, e.AttemptRefused) else event.seq,
        "event": event.type,
        "trigger": event.trigger,
        "state_before": event.state_before,
        "state_after": event.state_after,
        "actor": event.actor,
        "via": event.via,
    }
    facts |= {field: plain(getattr(data, field)) for field in (telling.fields if telling else ())}
    facts["receipt"] = {"chain": event.chain, "seq": event.seq, "hash": recorded.hash}
    if facts["case"] is None:
        facts["version"] = None
    return {name: value for name, value in facts.items() if value is not None}


def plain(value: object) -> Any:
    if isinstance(value, Money):
        return {"amount": value.decimal_text(), "currency": value.currency}
    return msgspec.to_builtins(value)


# The endpoints.


class Retiring(msgspec.Struct, frozen=True, kw_only=True):
    """A generation of secrets that still signs, beside the one after it."""

    generation: Integer
    until: datetime


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    url: str
    types: tuple[str, ...]
    description: str
    added_at: datetime
    active: bool = True
    reason: str = ""  # the code of why the desk itself has switched it off
    generation: Integer = 1
    retiring: Retiring | None = None

    def generations(self, now: datetime) -> tuple[int, ...]:
        """Of the secrets that sign now, the newest first."""
        if self.retiring is None or self.retiring.until <= now:
            return (self.generation,)
        return (self.generation, self.retiring.generation)


class Webhooks(msgspec.Struct, frozen=True, kw_only=True):
    """All endpoints, as the chain `desk:webhooks` leaves them; version 0 is before its first event."""

    version: Integer = 0
    head: str | None = None
    changed_at: datetime | None = None
    endpoints: tuple[Webhook, ...] = ()

    def one(self, webhook_id: str) -> Webhook | None:
        return next((one for one in self.endpoints if one.id == webhook_id), None)

    def listeners(self) -> dict[str, tuple[str, ...]]:
        """The ids of those that hear of each type."""
        heard: dict[str, tuple[str, ...]] = {}
        for one in self.endpoints:
            for kind in one.types if one.active else ():
                heard[kind] = (*heard.get(kind, ()), one.id)
        return heard


class AddWebhook(Command, frozen=True, kw_only=True):
    """`webhook_id` is random."""

    webhook_id: str
    url: str
    types: tuple[str, ...]
    description: str = ""


class ChangeWebhook(Command, frozen=True, kw_only=True):
    """Everything as it shall be."""

    webhook_id: str
    url: str
    types: tuple[str, ...]
    active: bool
    description: str = ""


class DisableWebhook(Command, frozen=True, kw_only=True):
    """By the desk itself, once nobody is there any more at this URL; `reason` is a code."""

    webhook_id: str
    url: str
    reason: str


class RotateWebhookSecret(Command, frozen=True, kw_only=True):
    webhook_id: str


class RemoveWebhook(Command, frozen=True, kw_only=True):
    webhook_id: str


class PingWebhook(Command, frozen=True, kw_only=True):
    webhook_id: str


class Place(NamedTuple):
    """Where an event stands; `at` is its time."""

    chain: str
    seq: int
    at: str


class ReplayWebhook(Command, frozen=True, kw_only=True):
    """Send once more what the endpoint hears of: these events, which are all of those after `after` up to `through`."""

    webhook_id: str
    after: int
    through: int
    places: tuple[Place, ...]


WebhookCommand = AddWebhook | ChangeWebhook | DisableWebhook | RotateWebhookSecret | RemoveWebhook
SendCommand = PingWebhook | ReplayWebhook

DISABLERS = frozenset({Role.SYSTEM})


def decide_webhook(webhooks: Webhooks, command: WebhookCommand, actor: Actor, now: datetime) -> Draft | None:
    """None if everything is so already. Raises Forbidden, NotFound or BadInput."""
    forbid_unless(actor, DISABLERS if isinstance(command, DisableWebhook) else ADMINS, command)
    if isinstance(command, AddWebhook):
        if webhooks.one(command.webhook_id) is not None:
            raise bad_field("webhook_id", "is one of this desk already")
        if len(webhooks.endpoints) >= MAX_WEBHOOKS:
            raise bad_field("url", f"is one too many: a desk has no more than {MAX_WEBHOOKS}, so remove another first")
        check(command.url, command.types)
        data = e.WebhookAdded(
            webhook=command.webhook_id,
            url=command.url,
            types=in_order(command.types),
            description=command.description,
        )
        return Draft(data=data)
    found = known(webhooks, command.webhook_id)
    if isinstance(command, RotateWebhookSecret):
        rotated = e.WebhookSecretRotated(
            webhook=found.id, generation=found.generation + 1, previous_until=now + OVERLAP
        )
        return Draft(data=rotated)
    if isinstance(command, RemoveWebhook):
        return Draft(data=e.WebhookRemoved(webhook=found.id))
    changed = changed_as_asked(found, command)
    if changed == found:
        return None
    return Draft(
        data=e.WebhookChanged(
            webhook=found.id,
            url=changed.url,
            types=changed.types,
            active=changed.active,
            description=changed.description,
            reason=changed.reason,
        )
    )


def changed_as_asked(found: Webhook, command: ChangeWebhook | DisableWebhook) -> Webhook:
    """Raises BadInput."""
    if isinstance(command, DisableWebhook):
        is_meant = found.active and found.url == command.url
        return replace(found, active=False, reason=command.reason) if is_meant else found
    check(command.url, command.types)
    return replace(
        found,
        url=command.url,
        types=in_order(command.types),
        active=command.active,
        description=command.description,
        reason="" if command.active else found.reason,
    )


def decide_sending(webhooks: Webhooks, command: SendCommand, actor: Actor) -> tuple[str, Draft]:
    """The kind of chain, and its only event. Raises Forbidden, NotFound or BadInput."""
    forbid_unless(actor, ADMINS, command)
    if not known(webhooks, command.webhook_id).active:
        raise bad_field("webhook", "is switched off")
    if isinstance(command, PingWebhook):
        return "ping", Draft(data=e.WebhookPinged(webhook=command.webhook_id))
    data = e.WebhookReplayed(
        webhook=command.webhook_id, after=command.after, through=command.through, deliveries=len(command.places)
    )
    return "replay", Draft(data=data)


def known(webhooks: Webhooks, webhook_id: str) -> Webhook:
    found = webhooks.one(webhook_id)
    if found is None:
        raise NotFound("webhook")
    return found


def check(url: str, types: tuple[str, ...]) -> None:
    """What makes no sense wherever the desk stands. Raises BadInput."""
    fault = fault_of(url)
    if fault is not None:
        raise bad_field("url", fault)
    unknown = [one for one in types if one not in TYPES]
    if unknown or not types:
        raise bad_field("types", f"{unknown[0]} is no type of event" if unknown else "has to name at least one")


# Narrower than any URL: what two libraries could read differently is none.
URL = re.compile(
    r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:[/?][^#\\]*)?", re.IGNORECASE | re.ASCII
)
MAX_PORT = 65_535


def fault_of(url: str) -> str | None:
    if len(url) > MAX_URL_CHARACTERS:
        return f"is longer than {MAX_URL_CHARACTERS} characters"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "has to be written in ASCII (an international name as xn--…), without blanks"
    authority = re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0]
    if "@" in authority:
        return "must not hold a user name or password: everything that is sent is signed instead"
    found = URL.fullmatch(url)
    if found is None or not 0 < int(found["port"] or 1) <= MAX_PORT:
        return "has to be an https:// URL with a host, without # or \\"
    return None


def in_order(types: Iterable[str]) -> tuple[str, ...]:
    """Each once, as the list of all has them."""
    return tuple(one for one in TYPES if one in set(types))


def replay_webhooks(history: Iterable[Recorded]) -> Webhooks:
    webhooks = Webhooks()
    for recorded in history:
        webhooks = evolve_webhooks(webhooks, recorded)
    return webhooks


def evolve_webhooks(webhooks: Webhooks | None, recorded: Recorded) -> Webhooks:
    """The endpoints after one more event of their chain."""
    event, data = recorded.event, recorded.data
    before = webhooks or Webhooks()
    if isinstance(data, e.WebhookAdded):
        if before.one(data.webhook) is not None:
            raise BrokenHistory(event.chain, event.seq, "the endpoint is added a second time")
        added = Webhook(
            id=data.webhook, url=data.url, types=data.types, description=data.description, added_at=recorded.at
        )
        endpoints: tuple[Webhook, ...] = (*before.endpoints, added)
    elif isinstance(data, e.WebhookChanged | e.WebhookSecretRotated | e.WebhookRemoved):
        if before.one(data.webhook) is None:
            raise BrokenHistory(event.chain, event.seq, "there is no such endpoint")
        endpoints = tuple(
            after for one in before.endpoints for after in (changed_by(data, one) if one.id == data.webhook else (one,))
        )
    else:
        raise BrokenHistory(event.chain, event.seq, f"{event.type} is no event of the endpoints")
    return Webhooks(version=event.seq, head=recorded.hash, changed_at=recorded.at, endpoints=endpoints)


def changed_by(data: e.WebhookChanged | e.WebhookSecretRotated | e.WebhookRemoved, one: Webhook) -> tuple[Webhook, ...]:
    """The endpoint as it is then; nothing once it is removed."""
    match data:
        case e.WebhookChanged():
            return (
                replace(
                    one,
                    url=data.url,
                    types=data.types,
                    active=data.active,
                    description=data.description,
                    reason=data.reason,
                ),
            )
        case e.WebhookSecretRotated():
            retiring = Retiring(generation=one.generation, until=data.previous_until)
            return (replace(one, generation=data.generation, retiring=retiring),)
        case e.WebhookRemoved():
            return ()
