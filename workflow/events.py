"""What the log can say: one frozen type of data for each type of event, and the envelope around them.

The data hold no personal text; personal fields travel beside them and enter the event as commitments.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from workflow.canonical import Integer
from workflow.cases import Judgement, NewAttachment, Purchase, Share
from workflow.money import Money
from workflow.policy import Category, GroundKind, PolicyVersion
from workflow.roles import Role, TokenKind
from workflow.sampling import Plan
from workflow.states import (
    CaseState,
    CompensationKind,
    LetterKind,
    LinkKind,
    MailKind,
    RemedyKind,
    Resolution,
    ResumeReason,
    Trigger,
    Verdict,
)


class EventData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The base of all event data. Defaults are left out of the stored bytes."""


# Transitions: one type per trigger, in the past tense.


class InvestigationStarted(EventData, frozen=True, kw_only=True, omit_defaults=True):
    assignee: str


class AdjustmentOffered(EventData, frozen=True, kw_only=True, omit_defaults=True):
    answer_by: str  # the last day, by the desk's calendar
    answer_due: datetime  # the end of that day


class ConsultationScheduled(EventData, frozen=True, kw_only=True, omit_defaults=True):
    starts_at: datetime
    minutes: Integer
    host: str
    slot_of: Integer | None = None  # the seq of the event that proposed it, where the client has picked it


class CompensationIssued(EventData, frozen=True, kw_only=True, omit_defaults=True):
    proposal: str
    confirmation: str = ""  # what the system that granted it knows it by, if one said so


class Refunded(EventData, frozen=True, kw_only=True, omit_defaults=True):
    proposal: str
    amount: Money
    payment_reference: str
    shares: tuple[Share, ...] = ()


class Resumed(EventData, frozen=True, kw_only=True, omit_defaults=True):
    reason_code: ResumeReason
    update_due: datetime
    payment_reference: str = ""  # of the payment that its provider took back


class Closed(EventData, frozen=True, kw_only=True, omit_defaults=True):
    resolution: Resolution
    duplicate_of: str | None = None
    withdrawn: tuple[str, ...] = ()  # proposals that end with the case


class Reopened(EventData, frozen=True, kw_only=True, omit_defaults=True):
    update_due: datetime


# Facts and money.


class Opened(EventData, frozen=True, kw_only=True, omit_defaults=True):
    number: Integer
    mail_tag: str
    category: Category
    received_at: datetime
    first_answer_due: datetime
    update_due: datetime
    follows: str | None = None  # the closed case that this one continues
    unverified_of: str | None = None  # the case that the sender referred to without being one of its participants
    silent: bool = False  # the client is not told of it


class PurchaseChanged(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """The full facts, written to every linked case. `change` is linked, facts, check or sums."""

    purchase: Purchase
    change: str
    voids: tuple[str, ...] = ()


class GroundRecorded(EventData, frozen=True, kw_only=True, omit_defaults=True):
    kind: GroundKind
    affected: Money
    voids: tuple[str, ...] = ()


class GroundVerified(EventData, frozen=True, kw_only=True, omit_defaults=True):
    ground: str
    verified: bool
    voids: tuple[str, ...] = ()


class Proposed(EventData, frozen=True, kw_only=True, omit_defaults=True):
    remedy: RemedyKind
    amount: Money
    kind: CompensationKind | None = None
    grounds: tuple[str, ...] = ()
    judgement: Judgement | None = None


class VerdictGiven(EventData, frozen=True, kw_only=True, omit_defaults=True):
    proposal: str
    verdict: Verdict
    digest: str
    roles: tuple[Role, ...]
    complete: bool = False  # with this approval the proposal has all it needs


class PayoutBegun(EventData, frozen=True, kw_only=True, omit_defaults=True):
    proposal: str
    amount: Money


class PayoutFailed(EventData, frozen=True, kw_only=True, omit_defaults=True):
    proposal: str


class ProposalWithdrawn(EventData, frozen=True, kw_only=True, omit_defaults=True):
    proposal: str


class PaymentReversed(EventData, frozen=True, kw_only=True, omit_defaults=True):
    proposal: str
    amount: Money
    payment_reference: str = ""  # of the payment that its provider took back


# The case itself and the conversation.


class Assigned(EventData, frozen=True, kw_only=True, omit_defaults=True):
    assignee: str | None = None


class Recategorized(EventData, frozen=True, kw_only=True, omit_defaults=True):
    category: Category
    voids: tuple[str, ...] = ()


class RequestedAtCorrected(EventData, frozen=True, kw_only=True, omit_defaults=True):
    requested_at: datetime
    voids: tuple[str, ...] = ()


class ParticipantsSet(EventData, frozen=True, kw_only=True, omit_defaults=True):
    count: Integer


class NoteAdded(EventData, frozen=True, kw_only=True, omit_defaults=True):
    pass


class MessageReceived(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """From the client: by mail, on the case's own page, or by phone or letter as an agent wrote it down."""

    update_due: datetime


class MessageSent(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """To the client. Only a person's letter answers; an automatic one is merely kept.

    One that was drafted from the record names its kind, the event on which it rests, and its language.
    """

    update_due: datetime
    awaits_reply: bool = False
    letter: LetterKind | None = None
    basis: Integer | None = None
    language: str | None = None


class MessageBounced(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A letter to the client came back; `message` and `letter` as in the command.

    `update_due` is when they have to hear from us instead; absent where the letter answered nothing that is open.
    """

    message: str
    mail: MailKind = MailKind.MESSAGE
    update_due: datetime | None = None


class OfferAnswered(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """By the client; `offer` is the seq of the event that made it. What they write with it is a message of theirs."""

    offer: Integer
    accepted: bool
    update_due: datetime


class AnswerWaived(EventData, frozen=True, kw_only=True, omit_defaults=True):
    message: str


class AttachmentAdded(EventData, frozen=True, kw_only=True, omit_defaults=True):
    attachment: str
    content_type: str
    size: Integer
    problem: str | None = None
    message: str | None = None


class Linked(EventData, frozen=True, kw_only=True, omit_defaults=True):
    kind: LinkKind
    case: str


# Consultations, beside their booking.


class SlotsProposed(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """The client is asked to pick one; `host` has agreed to each, and none is held for them."""

    slots: tuple[datetime, ...]
    minutes: Integer
    host: str
    update_due: datetime


class ConsultationMoved(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """The booked one, to another time or channel."""

    starts_at: datetime
    minutes: Integer
    host: str


class ConsultationAttended(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the client came; the latest one counts."""

    attended: bool


# The links by which a client sees the case.


class ClientLinkIssued(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """With it, links of the case that have run out are no longer kept. `letters`: the desk writes it into letters."""

    link: str
    commitment: str
    expires_at: datetime
    letters: bool = False


class ClientLinkRevoked(EventData, frozen=True, kw_only=True, omit_defaults=True):
    link: str


# What is kept of a client, and for how long.


class HoldPlaced(EventData, frozen=True, kw_only=True, omit_defaults=True):
    pass


class HoldReleased(EventData, frozen=True, kw_only=True, omit_defaults=True):
    pass


class ErasureRequested(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """`due_at` as the policy had it then; absent while the case is open, which has to be closed first."""

    legal_basis: str
    retention_days: Integer
    due_at: datetime | None = None


class ErasedField(msgspec.Struct, frozen=True, kw_only=True):
    """`seqs` are the events of which it was deleted, such as `1-3,7`."""

    field: str
    seqs: str


class Erased(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """Every personal field up to the event `through` is gone; `fields` list those that there were, if not too many."""

    legal_basis: str
    through: Integer
    texts: Integer
    files: Integer
    fields: tuple[ErasedField, ...] = ()
    overridden: bool = False  # it was not due
    reapplies: str = ""  # the hash of the `erased` event that a restored backup did not have


# Chains of one event: what was refused, mail that opened nothing, what auditors read and drew, what became of effects.


class AttemptRefused(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """`case` is absent where the attempt concerned none."""

    code: str
    command: str
    case: str | None = None
    version: Integer | None = None
    trigger: Trigger | None = None
    refusals: tuple[str, ...] = ()


class MailSetAside(EventData, frozen=True, kw_only=True, omit_defaults=True):
    reason: str


class CaseRead(EventData, frozen=True, kw_only=True, omit_defaults=True):
    case: str
    version: Integer
    what: str


class EffectOutcome(StrEnum):
    DONE = "done"  # the other side has it
    WITHHELD = "withheld"  # it was not to happen (any more)
    DEAD = "dead"  # it cannot be brought about: somebody has to look at it
    CANCELLED = "cancelled"  # by a person


class ExportTaken(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """`what` is events or cases, `only` the filter as a query string."""

    what: str
    format: str
    personal: bool = False
    only: str = ""


class SampleDrawn(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """The cases follow from `plan` and the log up to `position`; `digest` is what has to come of it again.

    `given` says that the auditor chose the seed.
    """

    plan: Plan
    position: Integer
    population: Integer
    drawn: Integer
    digest: str
    given: bool = False


class EffectSettled(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """What became of an effect of the event `seq` of a chain, after so many attempts.

    `reference` is what the other side knows it by, `reason` the code of why it did not happen; `case` is absent where
    the event is no case's.
    """

    chain: str
    seq: Integer
    kind: str
    outcome: EffectOutcome
    attempts: Integer
    target: str = ""
    case: str | None = None
    reference: str = ""
    reason: str = ""


class EffectRetried(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """By a person: it is tried again as if for the first time, under the name that the other side knows it by."""

    chain: str
    seq: Integer
    kind: str
    target: str = ""
    case: str | None = None


# Endpoints of systems that follow the desk, and what an admin has sent there.


class WebhookAdded(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """`types` are those of `workflow.webhooks` that it hears of."""

    webhook: str
    url: str
    types: tuple[str, ...]
    description: str = ""


class WebhookChanged(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """Everything as it is from now on. `reason` is the code of why the desk itself has changed it."""

    webhook: str
    url: str
    types: tuple[str, ...]
    active: bool
    description: str = ""
    reason: str = ""


class WebhookSecretRotated(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """From now on the secret of this generation signs, and beside it until then the one before."""

    webhook: str
    generation: Integer
    previous_until: datetime


class WebhookRemoved(EventData, frozen=True, kw_only=True, omit_defaults=True):
    webhook: str


class WebhookPinged(EventData, frozen=True, kw_only=True, omit_defaults=True):
    webhook: str


class WebhookReplayed(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """What it hears of is sent once more, of the events after one position of the log through another."""

    webhook: str
    after: Integer
    through: Integer
    deliveries: Integer


# What an auditor finds, in a chain for each finding.


class Severity(StrEnum):
    OBSERVATION = "observation"
    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


class FindingOpened(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """About the event `seq` of the case, whose hash is `event`."""

    seq: Integer
    event: str
    severity: Severity


class FindingAnswered(EventData, frozen=True, kw_only=True, omit_defaults=True):
    pass


class FindingClosed(EventData, frozen=True, kw_only=True, omit_defaults=True):
    pass


# The desk: people, tokens, policy, settings.


class DeskCreated(EventData, frozen=True, kw_only=True, omit_defaults=True):
    timezone: str


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a transition table, as it is logged."""

    trigger: Trigger
    source: CaseState
    target: CaseState
    roles: tuple[Role, ...]
    guards: tuple[str, ...]


class LifecycleAdopted(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """The transition table that later events name by its hash."""

    lifecycle: str
    table: tuple[Edge, ...]


class PolicyAdded(EventData, frozen=True, kw_only=True, omit_defaults=True):
    version: PolicyVersion


class SigningKeyAnnounced(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """The key that signs checkpoints from now on, under the name that the log has in them.

    The first is only announced. After that, a key of the same origin is announced in a `statement` signed by the one
    before it; another origin begins where the last one's checkpoint, if there was any, had to be `abandoned`.
    """

    origin: str
    vkey: str
    statement: str = ""
    abandoned: str = ""


class PersonAdded(EventData, frozen=True, kw_only=True, omit_defaults=True):
    roles: tuple[Role, ...]


class RolesSet(EventData, frozen=True, kw_only=True, omit_defaults=True):
    roles: tuple[Role, ...]


class PersonDisabled(EventData, frozen=True, kw_only=True, omit_defaults=True):
    pass


class TokenCreated(EventData, frozen=True, kw_only=True, omit_defaults=True):
    token: str
    commitment: str
    kind: TokenKind = TokenKind.API
    expires_at: datetime | None = None


class TokenRevoked(EventData, frozen=True, kw_only=True, omit_defaults=True):
    token: str


class PasswordSet(EventData, frozen=True, kw_only=True, omit_defaults=True):
    commitment: str


class FilterSaved(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A list of cases that a person asks for again and again; `shared` with everybody."""

    filter: str
    shared: bool = False


class FilterRemoved(EventData, frozen=True, kw_only=True, omit_defaults=True):
    filter: str


class IdentityLinked(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """Whom an identity provider knows by this signs in as this person. Who that is stands beside the log."""

    identity: str
    commitment: str


class IdentityUnlinked(EventData, frozen=True, kw_only=True, omit_defaults=True):
    identity: str


EVENT_TYPES: dict[str, type[EventData]] = {
    "investigation_started": InvestigationStarted,
    "adjustment_offered": AdjustmentOffered,
    "consultation_scheduled": ConsultationScheduled,
    "compensation_issued": CompensationIssued,
    "refunded": Refunded,
    "resumed": Resumed,
    "closed": Closed,
    "reopened": Reopened,
    "opened": Opened,
    "purchase_changed": PurchaseChanged,
    "ground_recorded": GroundRecorded,
    "ground_verified": GroundVerified,
    "proposed": Proposed,
    "verdict_given": VerdictGiven,
    "payout_begun": PayoutBegun,
    "payout_failed": PayoutFailed,
    "proposal_withdrawn": ProposalWithdrawn,
    "payment_reversed": PaymentReversed,
    "assigned": Assigned,
    "recategorized": Recategorized,
    "requested_at_corrected": RequestedAtCorrected,
    "participants_set": ParticipantsSet,
    "note_added": NoteAdded,
    "message_received": MessageReceived,
    "message_sent": MessageSent,
    "message_bounced": MessageBounced,
    "offer_answered": OfferAnswered,
    "answer_waived": AnswerWaived,
    "slots_proposed": SlotsProposed,
    "consultation_moved": ConsultationMoved,
    "consultation_attended": ConsultationAttended,
    "attachment_added": AttachmentAdded,
    "linked": Linked,
    "client_link_issued": ClientLinkIssued,
    "client_link_revoked": ClientLinkRevoked,
    "hold_placed": HoldPlaced,
    "hold_released": HoldReleased,
    "erasure_requested": ErasureRequested,
    "erased": Erased,
    "refused": AttemptRefused,
    "mail_set_aside": MailSetAside,
    "case_read": CaseRead,
    "export_taken": ExportTaken,
    "sample_drawn": SampleDrawn,
    "effect_settled": EffectSettled,
    "effect_retried": EffectRetried,
    "webhook_added": WebhookAdded,
    "webhook_changed": WebhookChanged,
    "webhook_secret_rotated": WebhookSecretRotated,
    "webhook_removed": WebhookRemoved,
    "webhook_pinged": WebhookPinged,
    "webhook_replayed": WebhookReplayed,
    "finding_opened": FindingOpened,
    "finding_answered": FindingAnswered,
    "finding_closed": FindingClosed,
    "desk_created": DeskCreated,
    "lifecycle_adopted": LifecycleAdopted,
    "policy_added": PolicyAdded,
    "signing_key_announced": SigningKeyAnnounced,
    "person_added": PersonAdded,
    "roles_set": RolesSet,
    "person_disabled": PersonDisabled,
    "token_created": TokenCreated,
    "token_revoked": TokenRevoked,
    "password_set": PasswordSet,
    "filter_saved": FilterSaved,
    "filter_removed": FilterRemoved,
    "identity_linked": IdentityLinked,
    "identity_unlinked": IdentityUnlinked,
}
TYPE_NAMES = {data: name for name, data in EVENT_TYPES.items()}


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An event that has been decided and not yet been given its place in a chain.

    `chain` None means the chain of the case that the command was about.
    """

    data: EventData
    personal: dict[str, str] = {}
    trigger: Trigger | None = None
    state_after: CaseState | None = None  # None: unchanged
    guards: dict[str, bool] | None = None
    chain: str | None = None
    attachment: NewAttachment | None = None  # its content goes to storage, a commitment to it into the event

    @property
    def type(self) -> str:
        return TYPE_NAMES[type(self.data)]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of a recorded event, field by field as DESIGN.md §3 lists them; its canonical bytes are what is kept.

    `at` is UTC with six decimals; `data` is the type's EventData (plain JSON when read); `personal` maps each
    personal field to its commitment.
    """

    v: Integer
    log: str
    chain: str
    seq: Integer
    prev: str
    type: str
    state_before: str | None
    state_after: str | None
    lifecycle: str
    policy: Integer
    at: str
    actor: str
    via: str
    request: str
    data: Any
    personal: dict[str, str]
    trigger: str | None = None
    guards: dict[str, bool] | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event in its place: the envelope, its typed data, and the hash of its canonical bytes."""

    event: Event
    data: EventData
    hash: str

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.event.at)


def at_text(moment: datetime) -> str:
    """UTC with six decimals and a Z, so that texts sort as times do."""
    text: str = msgspec.to_builtins(moment.astimezone(UTC))  # with six decimals or none, six times as fast as isoformat
    return text if moment.microsecond else f"{text[:-1]}.000000Z"
