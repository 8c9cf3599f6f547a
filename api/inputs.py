"""What requests may say. Strict: an unknown field, a wrong type or an impossible value is named and refused."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from workflow import commands as c
from workflow.cases import Purchase
from workflow.errors import InvalidMoney
from workflow.money import MINOR_DIGITS, PLAIN_DECIMAL, Money, parse_money
from workflow.policy import Category, GroundKind
from workflow.states import (
    CompensationKind,
    Direction,
    LetterKind,
    LinkKind,
    RemedyKind,
    Resolution,
    ResumeReason,
    Trigger,
    Verdict,
)

# Whether the address exists is for mail servers to say.
EMAIL = re.compile(r"[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f]{1,64}@[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f]{1,190}")

# A media type without parameters.
KIND = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}", re.ASCII)

RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def storable(text: str) -> str:
    """NUL and lone surrogates can be stored by neither database nor shown by any page."""
    if "\x00" in text:
        raise ValueError("holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a character") from None
    return text


def not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def is_email(text: str) -> str:
    if not EMAIL.fullmatch(text):
        raise ValueError("is not an e-mail address")
    return text.lower()


def is_rfc3339(value: Any) -> Any:
    if not isinstance(value, str) or not RFC3339.fullmatch(value):
        raise ValueError("has to be an RFC 3339 time with an offset, such as 2026-03-05T10:00:00+01:00")
    return value


def in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


def is_iso_date(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        raise ValueError("has to be a date such as 2026-03-05")
    return value


# What a text may be is checked from the left: its length before what is in it.
Storable = AfterValidator(storable)
Text = Annotated[str, StringConstraints(strict=True, max_length=500), Storable]
Line = Annotated[Text, AfterValidator(not_blank)]
Reason = Annotated[str, StringConstraints(strict=True, max_length=10_000), Storable, AfterValidator(not_blank)]
Message = Annotated[str, StringConstraints(strict=True, max_length=200_000), Storable, AfterValidator(not_blank)]
Email = Annotated[
    str,
    StringConstraints(strict=True, max_length=254),
    Storable,
    AfterValidator(is_email),
    Field(json_schema_extra={"format": "email"}),
]
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(
        is_rfc3339, json_schema_input_type=Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    ),
    AfterValidator(in_utc),
]
Day = Annotated[
    date,
    BeforeValidator(is_iso_date, json_schema_input_type=Annotated[str, Field(json_schema_extra={"format": "date"})]),
]
Identifier = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=100), Storable]


Minutes = Annotated[int, Field(strict=True, ge=1, le=1440)]


# Kept for good, so nothing that names somebody: not an address, at least.
NO_ADDRESS = r"^[^@]*$"
LegalBasis = Annotated[
    str,
    StringConstraints(strict=True, max_length=200, pattern=NO_ADDRESS),
    Storable,
    AfterValidator(not_blank),
]
ErasureReason = Annotated[
    str,
    StringConstraints(strict=True, max_length=10_000, pattern=NO_ADDRESS),
    Storable,
    AfterValidator(not_blank),
]


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MoneyIn(Input):
    """What the pattern lets through can still be finer than the currency allows, or more than is kept exactly."""

    amount: Annotated[str, StringConstraints(strict=True, max_length=40), Storable] = Field(
        examples=["1200.00"], json_schema_extra={"pattern": f"^{PLAIN_DECIMAL.pattern}$"}
    )
    currency: Annotated[str, StringConstraints(strict=True, max_length=3), Storable] = Field(
        examples=["EUR"], json_schema_extra={"enum": [*sorted(MINOR_DIGITS)]}
    )

    @model_validator(mode="after")
    def is_money(self) -> "MoneyIn":
        try:
            parse_money(self.amount, self.currency)
        except InvalidMoney as invalid:
            raise ValueError(f"{invalid.errors[0].field} {invalid.errors[0].message}") from None
        return self

    @property
    def money(self) -> Money:
        return parse_money(self.amount, self.currency)


class PurchaseIn(Input):
    """The six facts as the books have them."""

    reference: Line
    package: Line
    paid: MoneyIn
    purchased_at: Moment
    service_started_at: Moment | None
    deliverables_provided_at: Moment | None

    @property
    def purchase(self) -> Purchase:
        return Purchase(
            reference=self.reference,
            package=self.package,
            paid=self.paid.money,
            purchased_at=self.purchased_at,
            service_started_at=self.service_started_at,
            deliverables_provided_at=self.deliverables_provided_at,
        )


class PurchaseReferenceIn(Input):
    """The reference alone, to link a purchase that the desk knows."""

    reference: Line


FACTS, REFERENCE = "<facts>", "<reference>"
PURCHASE_FORMS = frozenset({FACTS, REFERENCE})


def purchase_form(value: Any) -> str:
    return REFERENCE if isinstance(value, dict) and value.keys() == {"reference"} else FACTS


AnyPurchaseIn = Annotated[
    Annotated[PurchaseIn, Tag(FACTS)] | Annotated[PurchaseReferenceIn, Tag(REFERENCE)],
    Discriminator(purchase_form),
]


class ClientIn(Input):
    name: Annotated[str, StringConstraints(strict=True, max_length=200), Storable]
    email: Email


class CaseIn(Input):
    """An inquiry, as it came by telephone, letter or another system."""

    subject: Annotated[str, StringConstraints(strict=True, max_length=2_000), Storable]
    message: Annotated[str, StringConstraints(strict=True, max_length=200_000), Storable]
    client: ClientIn
    category: Category
    received_at: Moment | None = Field(default=None, description="when the request reached the agency; now, if absent")
    purchase: AnyPurchaseIn | None = None


# Transitions: the trigger says which data belong to it.


class InvestigateDataIn(Input):
    assignee: Identifier | None = Field(default=None, description="a person's id or address; the actor, if absent")


class OfferAdjustmentDataIn(Input):
    description: Reason
    answer_by: Day = Field(description="the last day for an answer, in the desk's time zone")


class ScheduleConsultationDataIn(Input):
    starts_at: Moment
    minutes: Minutes
    channel: Line


class IssueCompensationDataIn(Input):
    proposal: Identifier | None


class RefundDataIn(Input):
    proposal: Identifier | None
    payment_reference: Line


class ResumeDataIn(Input):
    reason_code: ResumeReason


class CloseDataIn(Input):
    resolution: Resolution
    duplicate_of: Identifier | None = None


class ReopenDataIn(Input):
    pass


class InvestigateIn(Input):
    trigger: Literal[Trigger.INVESTIGATE]
    reason: Reason
    data: InvestigateDataIn = InvestigateDataIn(assignee=None)


class OfferAdjustmentIn(Input):
    trigger: Literal[Trigger.OFFER_ADJUSTMENT]
    reason: Reason
    data: OfferAdjustmentDataIn


class ScheduleConsultationIn(Input):
    trigger: Literal[Trigger.SCHEDULE_CONSULTATION]
    reason: Reason
    data: ScheduleConsultationDataIn


class IssueCompensationIn(Input):
    trigger: Literal[Trigger.ISSUE_COMPENSATION]
    reason: Reason
    data: IssueCompensationDataIn


class RefundIn(Input):
    trigger: Literal[Trigger.REFUND]
    reason: Reason
    data: RefundDataIn


class ResumeIn(Input):
    trigger: Literal[Trigger.RESUME]
    reason: Reason
    data: ResumeDataIn


class CloseIn(Input):
    trigger: Literal[Trigger.CLOSE]
    reason: Reason
    data: CloseDataIn


class ReopenIn(Input):
    trigger: Literal[Trigger.REOPEN]
    reason: Reason
    data: ReopenDataIn = ReopenDataIn()


TransitionIn = Annotated[
    InvestigateIn
    | OfferAdjustmentIn
    | ScheduleConsultationIn
    | IssueCompensationIn
    | RefundIn
    | ResumeIn
    | CloseIn
    | ReopenIn,
    Field(discriminator="trigger"),
]


def trigger_data(body: TransitionIn) -> c.TriggerData:
    """The domain's form of a transition's data: the fields are the same."""
    return c.TRIGGER_DATA[body.trigger](**body.data.__dict__)


# Facts, grounds, proposals.


class ReasonIn(Input):
    reason: Reason


class GroundIn(Input):
    kind: GroundKind
    affected: MoneyIn
    statement: Reason


class VerificationIn(Input):
    verified: Annotated[bool, Field(strict=True)]
    evidence: Reason = Field(description="what shows it, or shows that it is not so")


class ProposalIn(Input):
    remedy: Literal[RemedyKind.REFUND, RemedyKind.COMPENSATION]
    amount: MoneyIn
    reason: Reason
    kind: CompensationKind | None = Field(default=None, description="of a compensation")
    grounds: Annotated[list[Identifier], Field(max_length=100)] | None = Field(
        default=None, description="those that a refund consumes; all verified ones, if absent"
    )


class VerdictIn(Input):
    verdict: Verdict
    digest: Annotated[str, StringConstraints(strict=True, max_length=100), Storable] = Field(
        description="of the proposal that was read"
    )
    reason: Reason


# The case itself and the conversation.


class AssigneeIn(Input):
    assignee: Identifier | None = Field(description="a person's id or address; null for nobody")
    reason: Annotated[str, StringConstraints(strict=True, max_length=10_000), Storable] = ""


class CategoryIn(Input):
    category: Category
    reason: Annotated[str, StringConstraints(strict=True, max_length=10_000), Storable] = ""


class RequestedAtIn(Input):
    requested_at: Moment
    reason: Reason


class ParticipantsIn(Input):
    participants: Annotated[list[Email], Field(max_length=50)] = Field(
        description="whose mail counts as the client's, beside the client's own address"
    )


class NoteIn(Input):
    text: Message


class MessageIn(Input):
    text: Message
    direction: Direction = Field(description="outbound: to the client; inbound: from them, by telephone or letter")
    awaits_reply: Annotated[bool, Field(strict=True)] = False


class SlotsIn(Input):
    slots: Annotated[list[Moment], Field(min_length=1, max_length=20)] = Field(
        description="when it could begin, each at a full minute"
    )
    minutes: Minutes
    channel: Line
    text: Annotated[str, StringConstraints(strict=True, max_length=10_000), Storable] = Field(
        default="", description="to the client, beside the slots"
    )


class ConsultationIn(Input):
    starts_at: Moment
    minutes: Minutes
    channel: Line
    reason: Reason


class AttendanceIn(Input):
    attended: Annotated[bool, Field(strict=True)]
    text: Annotated[str, StringConstraints(strict=True, max_length=10_000), Storable] = ""


class LetterIn(Input):
    """What the message was drafted as, as `letters` of the case said it."""

    kind: LetterKind
    basis: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)] = Field(
        description="the seq of the event that the draft rests on"
    )
    language: Annotated[str, StringConstraints(strict=True, max_length=35), Storable]


class NewMessageIn(MessageIn):
    subject: Annotated[str, StringConstraints(strict=True, max_length=2_000), Storable] = Field(
        default="", description="of the mail; the case's own, if absent"
    )
    letter: LetterIn | None = Field(
        default=None, description="refused where the case's record does not say any more what the letter rests on"
    )


class LinkIn(Input):
    kind: LinkKind
    case: Identifier
