"""What can be asked of a case: one frozen type for each command, and the data that each trigger takes."""

from datetime import date, datetime

import msgspec

from workflow.cases import NewAttachment, Proposal, Purchase, RemedyGiven
from workflow.money import Money
from workflow.policy import Category, Decision, Facts, GroundKind
from workflow.states import (
    CompensationKind,
    Direction,
    LetterKind,
    LinkKind,
    MailKind,
    RemedyKind,
    Resolution,
    ResumeReason,
    Trigger,
    Verdict,
)


class TriggerData(msgspec.Struct, frozen=True, kw_only=True):
    """The base of the data that a trigger takes."""


class InvestigateData(TriggerData, frozen=True, kw_only=True):
    assignee: str | None = None  # the actor, if absent


class OfferAdjustmentData(TriggerData, frozen=True, kw_only=True):
    description: str
    answer_by: date  # in the desk's zone


class ScheduleConsultationData(TriggerData, frozen=True, kw_only=True):
    starts_at: datetime
    minutes: int
    channel: str
    slot_of: int | None = None  # the seq of the event that proposed this slot, where the client picks it


class IssueCompensationData(TriggerData, frozen=True, kw_only=True):
    proposal: str | None
    confirmation: str = ""  # what the system that granted it knows it by; no person states one


class RefundData(TriggerData, frozen=True, kw_only=True):
    proposal: str | None
    payment_reference: str


class ResumeData(TriggerData, frozen=True, kw_only=True):
    reason_code: ResumeReason
    payment_reference: str = ""  # of the payment that a provider takes back; a person means the last one


class CloseData(TriggerData, frozen=True, kw_only=True):
    resolution: Resolution
    duplicate_of: str | None = None


class ReopenData(TriggerData, frozen=True, kw_only=True):
    pass


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all commands."""


class NewLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link by which the client sees the case, for letters to them.

    `link_id` names it in the log; `secret_hash` (SHA-256 of the secret) is kept beside the log.
    """

    link_id: str
    secret_hash: str
    expires_at: datetime


class OpenCase(Command, frozen=True, kw_only=True):
    case_id: str
    mail_tag: str
    subject: str
    message: str
    client_name: str
    client_email: str
    category: Category
    received_at: datetime | None = None  # now, if absent
    purchase: Purchase | None = None
    purchase_reference: str | None = None  # a known one, to link
    follows: str | None = None
    unverified_of: str | None = None
    silent: bool = False  # the client is not told: an archive is read in, or the sender may not be who they seem
    message_id: str = ""  # of the client's mail, so that ours can be threaded below it
    attachments: tuple[NewAttachment, ...] = ()
    link: NewLink | None = None


class Fire(Command, frozen=True, kw_only=True):
    trigger: Trigger
    reason: str
    data: TriggerData


class RecordPurchase(Command, frozen=True, kw_only=True):
    """Facts as the books have them; or the reference of a known purchase alone, to link it."""

    purchase: Purchase | None = None
    reference: str | None = None


class CheckPurchase(Command, frozen=True, kw_only=True):
    reason: str


class RecordGround(Command, frozen=True, kw_only=True):
    kind: GroundKind
    affected: Money
    statement: str


class VerifyGround(Command, frozen=True, kw_only=True):
    ground: str
    verified: bool
    evidence: str


class Propose(Command, frozen=True, kw_only=True):
    remedy: RemedyKind
    amount: Money
    reason: str
    kind: CompensationKind | None = None
    grounds: tuple[str, ...] = ()


class GiveVerdict(Command, frozen=True, kw_only=True):
    proposal: str
    verdict: Verdict
    digest: str
    reason: str


class BeginPayout(Command, frozen=True, kw_only=True):
    proposal: str
    reason: str


class FailPayout(Command, frozen=True, kw_only=True):
    proposal: str
    reason: str


class ReversePayment(Command, frozen=True, kw_only=True):
    """The money of a settled refund came back, and the state of its case does not rest on it (any more).

    A provider names the payment, and takes back only its own.
    """

    proposal: str
    reason: str
    payment_reference: str = ""


class WithdrawProposal(Command, frozen=True, kw_only=True):
    proposal: str
    reason: str


class Assign(Command, frozen=True, kw_only=True):
    assignee: str | None
    reason: str = ""


class Recategorize(Command, frozen=True, kw_only=True):
    category: Category
    reason: str = ""


class CorrectRequestedAt(Command, frozen=True, kw_only=True):
    requested_at: datetime
    reason: str


class SetParticipants(Command, frozen=True, kw_only=True):
    """Whose mail counts as the client's, beside the client's own address."""

    participants: tuple[str, ...]


class AddNote(Command, frozen=True, kw_only=True):
    text: str


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded facts that a letter of this kind states; letters with equal ones state the same."""

    kind: LetterKind
    remedy: RemedyGiven | None = None
    proposal: Proposal | None = None  # that was settled
    paid: Money | None = None  # for the purchase
    decision: Decision | None = None
    facts: Facts | None = None  # that the decision saw
    resolution: Resolution | None = None
    closed_at: datetime | None = None
    reopens_until: datetime | None = None


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """What a message was drafted as: from the event `basis`, which recorded what it `states`.

    Without the latter, that event had been superseded already when the message came.
    """

    kind: LetterKind
    basis: int
    language: str
    states: Basis | None


class AddMessage(Command, frozen=True, kw_only=True):
    """`letter` and `link` go with a message to the client."""

    direction: Direction
    text: str
    awaits_reply: bool = False
    subject: str = ""
    sender: str = ""
    message_id: str = ""  # of the client's mail, as in OpenCase
    attachments: tuple[NewAttachment, ...] = ()
    letter: Letter | None = None
    link: NewLink | None = None


class RecordBounce(Command, frozen=True, kw_only=True):
    """A letter to the client came back undelivered.

    `message` is `m<seq>` by the event that set it in motion: the message itself, what was acknowledged, or what a
    consultation was booked or called off by.
    """

    message: str
    mail: MailKind = MailKind.MESSAGE
    reason: str = ""


class AnswerOffer(Command, frozen=True, kw_only=True):
    """The client takes the offer that they have read, or does not; `offer` is the seq of the event that made it."""

    offer: int
    accepted: bool
    text: str = ""


class ProposeSlots(Command, frozen=True, kw_only=True):
    """Times at which a consultation could be: the client picks one. Nothing is booked yet."""

    slots: tuple[datetime, ...]
    minutes: int
    channel: str
    text: str = ""
    link: NewLink | None = None


class MoveConsultation(Command, frozen=True, kw_only=True):
    starts_at: datetime
    minutes: int
    channel: str
    reason: str


class RecordAttendance(Command, frozen=True, kw_only=True):
    """Whether the client came to the consultation; said again, it corrects what was said before."""

    attended: bool
    text: str = ""


class WaiveAnswer(Command, frozen=True, kw_only=True):
    message: str
    reason: str


class AddAttachment(Command, frozen=True, kw_only=True):
    attachment: NewAttachment


class LinkCase(Command, frozen=True, kw_only=True):
    kind: LinkKind
    case: str


class IssueClientLink(Command, frozen=True, kw_only=True):
    """`link_id` names the link in the log; `secret_hash` (SHA-256 of the secret) is kept beside it."""

    link_id: str
    secret_hash: str
    expires_at: datetime


class RevokeClientLink(Command, frozen=True, kw_only=True):
    link_id: str
    reason: str = ""


class PlaceHold(Command, frozen=True, kw_only=True):
    """Nothing of the case is erased until the hold is released: a court, an ombudsman or an auditor needs it."""

    reason: str


class ReleaseHold(Command, frozen=True, kw_only=True):
    reason: str


class Erase(Command, frozen=True, kw_only=True):
    """Delete the personal data of the case: at once if nobody need keep them any more, else as soon as that is so.

    `legal_basis` stays in the log for good. `override` does not wait; `reapplies` names, by its event's hash, the
    erasure that a restored backup has undone. `mail` is the chain of a mail that was set aside, where that is what
    goes: it belongs to no case, so nobody has to keep it.
    """

    legal_basis: str
    reason: str = ""
    override: bool = False
    reapplies: str = ""
    mail: str = ""


# The data types by trigger; each transition's row in the table names its own.
TRIGGER_DATA: dict[Trigger, type[TriggerData]] = {
    Trigger.INVESTIGATE: InvestigateData,
    Trigger.OFFER_ADJUSTMENT: OfferAdjustmentData,
    Trigger.SCHEDULE_CONSULTATION: ScheduleConsultationData,
    Trigger.ISSUE_COMPENSATION: IssueCompensationData,
    Trigger.REFUND: RefundData,
    Trigger.RESUME: ResumeData,
    Trigger.CLOSE: CloseData,
    Trigger.REOPEN: ReopenData,
}
