"""Puts what the log says into sentences, and into values that people read."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

import msgspec

from api import views as v
from api.pages.showing import moment, money, words
from workflow import events as e
from workflow.cases import Case
from workflow.money import Money
from workflow.states import MailKind, RemedyKind, Verdict

Names = Mapping[str, Mapping[str, str]]
"""Name and address of everybody, by their id."""


class Kind(StrEnum):
    """What an event is to a reader of its case."""

    STATE = "state"  # moves the case
    MONEY = "money"  # what is proposed, approved and paid
    FACTS = "facts"
    TALK = "talk"  # with the client, and among us
    KEEPING = "keeping"  # whose case it is, what it belongs to, what is kept of it
    DESK = "desk"  # no case's


KIND_WORDS = {
    Kind.STATE: "moves the case",
    Kind.MONEY: "money",
    Kind.FACTS: "facts",
    Kind.TALK: "conversation",
    Kind.KEEPING: "housekeeping",
    Kind.DESK: "the desk",
}

KINDS: dict[type[e.EventData], Kind] = {
    **dict.fromkeys((e.Opened,), Kind.STATE),
    **dict.fromkeys(
        (
            e.Proposed,
            e.VerdictGiven,
            e.PayoutBegun,
            e.PayoutFailed,
            e.ProposalWithdrawn,
            e.PaymentReversed,
        ),
        Kind.MONEY,
    ),
    **dict.fromkeys(
        (e.PurchaseChanged, e.GroundRecorded, e.GroundVerified, e.Recategorized, e.RequestedAtCorrected), Kind.FACTS
    ),
    **dict.fromkeys(
        (
            e.NoteAdded,
            e.MessageReceived,
            e.MessageSent,
            e.MessageBounced,
            e.OfferAnswered,
            e.AnswerWaived,
            e.AttachmentAdded,
        ),
        Kind.TALK,
    ),
    **dict.fromkeys(
        (
            e.SlotsProposed,
            e.ConsultationMoved,
            e.ConsultationAttended,
            e.Assigned,
            e.ParticipantsSet,
            e.Linked,
            e.ClientLinkIssued,
            e.ClientLinkRevoked,
            e.HoldPlaced,
            e.HoldReleased,
            e.ErasureRequested,
            e.Erased,
        ),
        Kind.KEEPING,
    ),
}


def kind_of(recorded: e.Recorded) -> Kind:
    return Kind.STATE if recorded.event.trigger is not None else KINDS.get(type(recorded.data), Kind.DESK)


# Who.

PARTS = {
    "mail": "Incoming mail",
    "operator": "The operator",
    "payments": "The payment provider",
    "stripe": "Stripe",
    "granting": "The granting system",
    "sign-in": "Sign-in",
    "erasures": "Erasing on schedule",
    "timers": "The clock",
}


def who(actor: str, names: Names) -> str:
    """Of an actor as events name them: `person:3f…`, `system:mail`."""
    kind, _, name = actor.partition(":")
    if kind == "person":
        return person(name, names)
    if kind == "client":
        return "The client"
    return PARTS.get(name, f"The desk ({name})")


def person(person_id: str, names: Names) -> str:
    return names.get(person_id, {}).get("name") or f"somebody ({person_id[:8]})"


# What they did: the rest of a sentence that begins with who.


def did(recorded: e.Recorded, names: Names) -> str:
    for part in (did_to_case, did_with_money, said, did_to_desk):
        if (told := part(recorded, names)) is not None:
            return told
    return words(recorded.event.type)


def did_to_case(recorded: e.Recorded, names: Names) -> str | None:  # noqa: C901, PLR0912 - one arm for each type
    actor = recorded.event.actor
    match recorded.data:
        case e.Opened(category=category):
            return f"opened the case, about {words(category)}"
        case e.InvestigationStarted(assignee=assignee) if actor == f"person:{assignee}":
            return "took the case on"
        case e.InvestigationStarted(assignee=assignee):
            return f"gave the case to {person(assignee, names)} to investigate"
        case e.Assigned(assignee=None):
            return "left the case without an owner"
        case e.Assigned(assignee=str() as assignee) if actor == f"person:{assignee}":
            return "took the case over"
        case e.Assigned(assignee=str() as assignee):
            return f"gave the case to {person(assignee, names)}"
        case e.AdjustmentOffered(answer_by=answer_by):
            return f"offered an adjustment, to be answered by {day(answer_by)}"
        case e.ConsultationScheduled(starts_at=starts_at, minutes=minutes, host=host):
            return f"booked {minutes} minutes with {person(host, names)} on {minute(starts_at)}"
        case e.ConsultationMoved(starts_at=starts_at, minutes=minutes):
            return f"moved the consultation to {minute(starts_at)}, {minutes} minutes"
        case e.SlotsProposed(slots=slots, minutes=minutes, host=host):
            return f"proposed {len(slots)} times for {minutes} minutes with {person(host, names)}"
        case e.ConsultationAttended(attended=attended):
            return "recorded that the client came" if attended else "recorded that the client did not come"
        case e.CompensationIssued(proposal=proposal, confirmation=confirmation):
            return f"granted the compensation {proposal}" + (f", as {isolated(confirmation)}" if confirmation else "")
        case e.Refunded(amount=amount, payment_reference=reference):
            return f"confirmed that {sum_of(amount)} went back, as payment {isolated(reference)}"
        case e.Resumed(reason_code=code):
            return f"took the case up again: {words(code)}"
        case e.Closed(resolution=resolution):
            return f"closed the case: {words(resolution)}"
        case e.Reopened():
            return "opened the case again"
        case e.Recategorized(category=category):
            return f"said that the case is about {words(category)}"
        case e.RequestedAtCorrected(requested_at=requested_at):
            return f"corrected when the request was made, to {minute(requested_at)}"
        case e.ParticipantsSet(count=count):
            return f"set whose mail counts as the client's: {count} besides them"
        case e.Linked(kind=kind):
            return "linked another case" if kind == "related" else "linked the case that this one repeats"
        case e.ClientLinkIssued(expires_at=expires_at, letters=True):
            return f"put a link to the client's page into letters, until {minute(expires_at)}"
        case e.ClientLinkIssued(expires_at=expires_at):
            return f"made a link by which the client sees the case, until {minute(expires_at)}"
        case e.ClientLinkRevoked(link=link):
            return f"revoked the client's link {link}"
        case e.HoldPlaced():
            return "placed a legal hold: nothing may be erased"
        case e.HoldReleased():
            return "released the legal hold"
        case e.ErasureRequested(due_at=due_at):
            return "took down that the client's data are to go" + (f", due {minute(due_at)}" if due_at else "")
        case e.Erased(texts=texts, files=files):
            return f"erased {texts} texts and {files} files"
        case _:
            return None


def did_with_money(recorded: e.Recorded, _: Names) -> str | None:
    match recorded.data:
        case e.PurchaseChanged(purchase=purchase, change=change):
            return PURCHASE_CHANGES.get(change, f"{change} of {{}}").format(isolated(purchase.reference))
        case e.GroundRecorded(kind=kind, affected=affected):
            return f"wrote down a claim: {words(kind)}, {sum_of(affected)}"
        case e.GroundVerified(ground=ground, verified=verified):
            return f"found that the claim {ground} is {'' if verified else 'not '}so"
        case e.Proposed(remedy=RemedyKind.REFUND, amount=amount):
            return f"proposed to refund {sum_of(amount)}"
        case e.Proposed(kind=kind, amount=amount):
            return f"proposed a compensation worth {sum_of(amount)}" + (f": {words(kind)}" if kind else "")
        case e.VerdictGiven(proposal=proposal, verdict=Verdict.APPROVE, complete=complete):
            return f"approved the proposal {proposal}" + ("" if complete else "; it needs one more")
        case e.VerdictGiven(proposal=proposal):
            return f"refused the proposal {proposal}"
        case e.PayoutBegun(proposal=proposal, amount=amount):
            return f"began to pay {sum_of(amount)} for the proposal {proposal}"
        case e.PayoutFailed(proposal=proposal):
            return f"reported that the payment for the proposal {proposal} failed"
        case e.ProposalWithdrawn(proposal=proposal):
            return f"withdrew the proposal {proposal}"
        case e.PaymentReversed(amount=amount):
            return f"recorded that {sum_of(amount)} came back"
        case _:
            return None


PURCHASE_CHANGES = {
    "linked": "linked the purchase {}",
    "facts": "changed the facts of the purchase {}",
    "check": "checked the purchase {} against the books",
    "sums": "brought the sums of the purchase {} up to date",
}


def said(recorded: e.Recorded, _: Names) -> str | None:
    match recorded.data:
        case e.NoteAdded():
            return "wrote a note"
        case e.MessageReceived() if recorded.event.actor.startswith("person:"):
            return "wrote down what the client said"
        case e.MessageReceived() if recorded.event.actor.startswith("client:"):
            return "wrote on their page"
        case e.MessageReceived():
            return "brought a message of the client"
        case e.OfferAnswered(accepted=accepted):
            return "accepted the offer" if accepted else "declined the offer"
        case e.MessageSent(awaits_reply=awaits, letter=letter) if recorded.event.actor.startswith("person:"):
            what = f", a letter of the kind {words(letter)}" if letter else ""
            return f"wrote to the client{what}" + (", and waits for an answer" if awaits else "")
        case e.MessageSent():
            return "acknowledged the client's message"
        case e.MessageBounced(message=message, mail=mail):
            return f"brought {returned(mail, message)} back: it did not reach the client"
        case e.AnswerWaived(message=message):
            return f"said that the message {message} needs no answer"
        case e.AttachmentAdded(size=size):
            return f"added a file of {size:,} bytes"
        case _:
            return None


def returned(letter: MailKind, message: str) -> str:
    match letter:
        case MailKind.MESSAGE:
            return f"the letter {message}"
        case MailKind.ACKNOWLEDGEMENT:
            return f"the acknowledgement of {message}"
        case MailKind.INVITATION:
            return f"the invitation of event {message.removeprefix('m')}"


def did_to_desk(recorded: e.Recorded, names: Names) -> str | None:  # noqa: C901, PLR0912 - one arm for each type
    about = recorded.event.chain.rpartition(":")[2]
    match recorded.data:
        case e.AttemptRefused(command=command, trigger=trigger):
            return f"was refused: {attempt(trigger or command)}"
        case e.MailSetAside(reason=reason):
            return f"set a mail aside: {words(reason)}"
        case e.CaseRead(what=what, version=version):
            return f"read a case at version {version}: {words(what)}"
        case e.ExportTaken(what=what, format=form, personal=personal):
            return f"took {what} away as {form}" + (", with texts" if personal else "")
        case e.SampleDrawn(drawn=drawn, population=population):
            return f"drew {drawn} of {population} cases at random"
        case e.EffectSettled(kind=kind, outcome=outcome):
            return EFFECTS_ENDED[outcome].format(EFFECTS[kind])
        case e.EffectRetried(kind=kind):
            return f"had {EFFECTS[kind]} tried again"
        case e.FindingOpened(severity=severity):
            return f"recorded a finding ({severity})"
        case e.FindingAnswered():
            return "answered a finding"
        case e.FindingClosed():
            return "closed a finding"
        case e.DeskCreated(timezone=timezone):
            return f"set up the desk, in the time zone {timezone}"
        case e.LifecycleAdopted():
            return "adopted a lifecycle"
        case e.PolicyAdded(version=version):
            return f"added version {version.version} of the policy"
        case e.SigningKeyAnnounced():
            return "announced the key that signs from now on"
        case e.WebhookAdded(url=url):
            return f"added a webhook, to {url}"
        case e.WebhookChanged(url=url, active=active, reason=reason):
            return f"{'changed' if active else 'switched off'} the webhook to {url}" + (
                f": {words(reason)}" if reason else ""
            )
        case e.WebhookSecretRotated(generation=generation):
            return f"made secret {generation} of a webhook"
        case e.WebhookRemoved():
            return "removed a webhook"
        case e.WebhookPinged():
            return "sent a ping to a webhook"
        case e.WebhookReplayed(deliveries=deliveries):
            return f"sent {deliveries:,} earlier events to a webhook again"
        case e.PersonAdded():
            return f"added {person(about, names)}"
        case e.RolesSet(roles=roles):
            return f"set the roles of {person(about, names)}: {', '.join(roles) or 'none'}"
        case e.PersonDisabled():
            return f"disabled {person(about, names)}"
        case e.TokenCreated(kind=kind):
            return f"gave {person(about, names)} a {TOKENS[kind]}"
        case e.TokenRevoked():
            return f"took a token or session back from {person(about, names)}"
        case e.PasswordSet():
            return f"set a password for {person(about, names)}"
        case e.IdentityLinked():
            return f"linked {person(about, names)} to an identity provider"
        case e.IdentityUnlinked():
            return f"unlinked {person(about, names)} from an identity provider"
        case _:
            return None


def attempt(name: str) -> str:
    """A trigger, or a command: `GiveVerdict` becomes `give verdict`."""
    return words(name) if " " in name else words(PART_OF_NAME.sub(" ", name).lower())


PART_OF_NAME = re.compile(r"(?<=[a-z])(?=[A-Z])")
TOKENS = {
    "api": "token for the API",
    "session": "session",
    "link": "link to sign in",
    "calendar": "calendar to subscribe to",
}

EFFECTS = {
    "acknowledge": "an acknowledgement",
    "letter": "a letter",
    "invite": "an invitation",
    "pay": "a payment",
    "webhook": "a webhook",
}
EFFECTS_ENDED = {
    "done": "delivered {}",
    "withheld": "withheld {}",
    "dead": "could not deliver {}",
    "cancelled": "called {} off",
}

TYPES = {name: words(name) for name in sorted(e.EVENT_TYPES)}


# Times, sums, references.


def minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%-d %b %Y, %H:%M} UTC"


def day(text: str) -> str:
    return f"{date.fromisoformat(text):%-d %b %Y}"


def to_the_millisecond(at: datetime | str) -> str:
    then = moment(at).astimezone(UTC)
    return f"{then:%-d %b %Y %H:%M:%S}.{then.microsecond // 1000:03} UTC"


def sum_of(amount: Money) -> str:
    return money(v.money(amount))


# Values of a case, field by field.

ACTORS = frozenset({"assignee", "recorded_by", "verified_by", "proposed_by", "by", "host"})
EVENTS = frozenset({"answers", "client_messages", "verified_seq"})


class Values:
    """Puts what a field of a case holds into words; `case` says in which currency its sums are."""

    def __init__(self, case: Case, names: Names) -> None:
        self.case = case
        self.names = names

    def label(self, path: str) -> str:
        """`purchase.refunded_minor` becomes `purchase, refunded`."""
        return words(path.replace("_minor", "")).replace("[", " ").replace("]", "").replace(".", ", ")

    def value(self, path: str, value: Any) -> Any:
        """A text, a list of these, or a dictionary of them by label; None where there is nothing."""
        field = path.rpartition(".")[2]
        match value:
            case None | "" | [] | ():
                return None
            case bool():
                return "yes" if value else "no"
            case int() if field.endswith("_minor"):
                return sum_of(Money(value, self.currency(path)))
            case int():
                return f"event {value}" if field in EVENTS else f"{value}"
            case {"amount_minor": int() as minor, "currency": str() as currency}:
                return sum_of(Money(minor, currency))
            case dict():
                inner = {name: self.value(f"{path}.{name}", part) for name, part in value.items()}
                return {self.label(name): part for name, part in inner.items() if part is not None} or None
            case list() | tuple():
                return [self.value(path, part) for part in value]
            case str() if field in ACTORS:
                return who(value, self.names) if ":" in value else person(value, self.names)
            case str() if is_time(value):
                return to_the_millisecond(value)
            case str() if field in {"state", "status", "kind", "remedy", "resolution", "category"}:
                return words(value)
            case _:
                return str(value)

    def currency(self, path: str) -> str:
        """Of the ground or purchase that the path leads into."""
        for one in self.case.grounds:
            if path.startswith(f"grounds[{one.id}]"):
                return one.affected.currency
        if self.case.purchase is not None:
            return self.case.purchase.paid.currency
        return next((one.amount.currency for one in self.case.proposals), "EUR")


def is_time(text: str) -> bool:
    if len(text) < len("2026-03-05T10:00:00Z") or text[10:11] != "T":
        return False
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def isolated(text: str) -> str:
    """What somebody wrote, in whatever direction it runs, within a sentence of ours (Unicode UAX 9, FSI and PDI)."""
    return f"\u2068{text}\u2069"


def joined(names: Sequence[str]) -> str:
    """Such as `Ana, Bo and Lou`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def as_json(value: Any) -> str:
    """What a field of a row holds, whatever it is."""
    return "nothing" if value is None else msgspec.json.encode(value).decode()


FILTERS = {"attempt": attempt, "json": as_json, "millisecond": to_the_millisecond, "who": who}
