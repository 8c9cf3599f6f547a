"""The words of the lifecycle: states, triggers and the codes that go with them."""

from enum import StrEnum


class CaseState(StrEnum):
    OPENED = "opened"  # received and acknowledged, nobody has picked it up
    INVESTIGATING = "investigating"  # somebody owns it and is establishing the facts
    ADJUSTMENT_OFFERED = "adjustment_offered"  # the client has been offered a change to the service
    CONSULTATION_SCHEDULED = "consultation_scheduled"  # a slot is booked, not merely suggested
    COMPENSATION_ISSUED = "compensation_issued"  # the credit has been granted
    REFUNDED = "refunded"  # the money has left, not merely been promised
    CLOSED = "closed"  # nothing more is owed; can be reopened for a while


class Trigger(StrEnum):
    INVESTIGATE = "investigate"
    OFFER_ADJUSTMENT = "offer_adjustment"
    SCHEDULE_CONSULTATION = "schedule_consultation"
    ISSUE_COMPENSATION = "issue_compensation"
    REFUND = "refund"
    RESUME = "resume"
    CLOSE = "close"
    REOPEN = "reopen"


class ResumeReason(StrEnum):
    DECLINED = "declined"
    NO_SHOW = "no_show"
    INSUFFICIENT = "insufficient"
    NEW_INFORMATION = "new_information"
    PAYMENT_FAILED = "payment_failed"  # the money came back


class Resolution(StrEnum):
    EXPLAINED = "explained"
    NO_REFUND_DUE = "no_refund_due"
    REMEDY_ACCEPTED = "remedy_accepted"
    WITHDRAWN = "withdrawn"
    NO_RESPONSE = "no_response"
    DUPLICATE = "duplicate"
    SPAM = "spam"


REMEDY_STATES = (
    CaseState.ADJUSTMENT_OFFERED,
    CaseState.CONSULTATION_SCHEDULED,
    CaseState.COMPENSATION_ISSUED,
    CaseState.REFUNDED,
)

RESOLUTIONS: dict[CaseState, tuple[Resolution, ...]] = {
    CaseState.OPENED: (Resolution.WITHDRAWN, Resolution.DUPLICATE, Resolution.SPAM),
    CaseState.INVESTIGATING: (
        Resolution.EXPLAINED,
        Resolution.NO_REFUND_DUE,
        Resolution.WITHDRAWN,
        Resolution.NO_RESPONSE,
        Resolution.DUPLICATE,
        Resolution.SPAM,
    ),
    **dict.fromkeys(REMEDY_STATES, (Resolution.REMEDY_ACCEPTED, Resolution.WITHDRAWN, Resolution.NO_RESPONSE)),
}

# Nobody owes a junk mail or a second copy an answer of its own.
NEEDS_NO_ANSWER = frozenset({Resolution.DUPLICATE, Resolution.SPAM})


class RemedyKind(StrEnum):
    ADJUSTMENT = "adjustment"
    CONSULTATION = "consultation"
    COMPENSATION = "compensation"
    REFUND = "refund"


class CompensationKind(StrEnum):
    SERVICE_CREDIT = "service_credit"
    EXTRA_SERVICE = "extra_service"
    DISCOUNT = "discount"


class ProposalStatus(StrEnum):
    PROPOSED = "proposed"
    APPROVED = "approved"
    PAYING = "paying"  # a payout has begun: the amount is reserved, the money may be on its way
    SETTLED = "settled"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    VOID = "void"  # what it rested on has changed; propose again


class Verdict(StrEnum):
    APPROVE = "approve"
    REFUSE = "refuse"


class Direction(StrEnum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"


class MailKind(StrEnum):
    """What leaves for the client by mail."""

    MESSAGE = "message"  # of a person (also with times to pick from), or an automatic one that is kept
    ACKNOWLEDGEMENT = "acknowledgement"  # that their inquiry has arrived
    INVITATION = "invitation"  # to a consultation, or its end


class LetterKind(StrEnum):
    """The letters that can be drafted from what was recorded, one for each outcome."""

    ADJUSTMENT = "adjustment"
    CONSULTATION = "consultation"
    COMPENSATION = "compensation"
    REFUND_FULL = "refund_full"
    REFUND_PART = "refund_part"
    NO_REFUND = "no_refund"
    CLOSING = "closing"


class LinkKind(StrEnum):
    RELATED = "related"
    DUPLICATE = "duplicate"
