"""A case as its log tells it: frozen values, no personal data, only pointers to it."""

from datetime import datetime, timedelta

import msgspec

from workflow.canonical import Integer
from workflow.money import Money
from workflow.policy import Category, Facts, GroundFacts, GroundKind, PurchaseFacts
from workflow.states import (
    CaseState,
    CompensationKind,
    LinkKind,
    ProposalStatus,
    RemedyKind,
    Resolution,
)

Pointer = str
"""Where a personal text is kept: `<seq>/<field>` in the case's own chain, such as `1/subject`."""


def pointer(seq: int, field: str) -> Pointer:
    return f"{seq}/{field}"


class Purchase(msgspec.Struct, frozen=True, kw_only=True):
    """What was bought, as the books have it, and what was paid back on it over all its cases."""

    reference: str
    package: str
    paid: Money
    purchased_at: datetime
    service_started_at: datetime | None = None
    deliverables_provided_at: datetime | None = None
    checked: bool = False
    refunded_minor: Integer = 0
    reserved_minor: Integer = 0

    @property
    def facts(self) -> PurchaseFacts:
        return PurchaseFacts(
            paid=self.paid,
            purchased_at=self.purchased_at,
            service_started_at=self.service_started_at,
            deliverables_provided_at=self.deliverables_provided_at,
        )

    @property
    def has_moved_money(self) -> bool:
        return self.refunded_minor + self.reserved_minor > 0

    def states_the_same_as(self, other: "Purchase") -> bool:
        """Whether the six facts agree; the check and the sums do not count."""
        return (self.reference, self.package, self.facts) == (other.reference, other.package, other.facts)


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    kind: GroundKind
    affected: Money
    statement: Pointer
    recorded_by: str
    verified: bool = False
    verified_by: str | None = None
    verified_seq: Integer = 0  # orders the grounds that a proposal consumes
    evidence: Pointer | None = None
    refunded_minor: Integer = 0

    @property
    def left_minor(self) -> int:
        return self.affected.amount_minor - self.refunded_minor


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    by: str
    roles: tuple[str, ...]
    at: datetime
    reason: Pointer


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a refund that one ground carries."""

    ground: str
    amount_minor: Integer


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy said of a proposal, and the facts it saw, so that it can be judged again."""

    policy: Integer
    refund: str
    maximum: Money | None
    needs_approval: bool
    clauses: tuple[str, ...]
    reasons: tuple[str, ...]
    facts: Facts


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    remedy: RemedyKind  # compensation or refund
    amount: Money
    reason: Pointer
    proposed_by: str
    proposed_at: datetime
    digest: str  # the hash of its `proposed` event: what an approver approves
    status: ProposalStatus = ProposalStatus.PROPOSED
    kind: CompensationKind | None = None
    grounds: tuple[str, ...] = ()
    judgement: Judgement | None = None  # of refunds
    approvals: tuple[Approval, ...] = ()
    outdated: bool = False  # facts changed while its payout was under way: a failed payout leaves it void
    shares: tuple[Share, ...] = ()
    payment_reference: str | None = None

    @property
    def needs_approval(self) -> bool:
        return self.judgement is None or self.judgement.needs_approval

    @property
    def is_open(self) -> bool:
        return self.status in {ProposalStatus.PROPOSED, ProposalStatus.APPROVED}


class RemedyGiven(msgspec.Struct, frozen=True, kw_only=True):
    """A remedy that was offered, booked, granted or paid, and how it ended if it did not hold."""

    kind: RemedyKind
    seq: Integer
    at: datetime
    proposal: str | None = None
    description: Pointer | None = None
    answer_by: str | None = None
    starts_at: datetime | None = None
    minutes: Integer | None = None
    channel: Pointer | None = None
    host: str | None = None
    ended: str | None = None
    # Of an offer that the client has answered; left out where it is unset, as below.
    accepted: bool | msgspec.UnsetType = msgspec.UNSET
    # Of a consultation: when it was moved, and whether the client came.
    moved: tuple[datetime, ...] | msgspec.UnsetType = msgspec.UNSET
    attended: bool | msgspec.UnsetType = msgspec.UNSET
    confirmation: str | msgspec.UnsetType = msgspec.UNSET  # what the system that granted a compensation knows it by

    @property
    def ends_at(self) -> datetime | None:
        """Of a consultation."""
        return self.starts_at + timedelta(minutes=self.minutes or 0) if self.starts_at else None

    @property
    def moves(self) -> tuple[datetime, ...]:
        return () if isinstance(self.moved, msgspec.UnsetType) else self.moved


class ProposedSlots(msgspec.Struct, frozen=True, kw_only=True):
    """Times for a consultation that the client can pick from; `host` has agreed to each."""

    seq: Integer
    at: datetime
    slots: tuple[datetime, ...]
    minutes: Integer
    channel: Pointer
    host: str
    text: Pointer | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True):
    kind: LinkKind
    case: str


class ClientLink(msgspec.Struct, frozen=True, kw_only=True):
    """A secret address at which the client sees this case and no other, without an account.

    The secret itself is nowhere, its hash is the database's; `commitment` is to that hash.
    """

    id: str
    commitment: str
    expires_at: datetime
    letters: bool | msgspec.UnsetType = msgspec.UNSET  # set where the desk writes it into letters to the client

    def is_good(self, now: datetime) -> bool:
        return now < self.expires_at


class ErasureRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody has the right that the client's data go, as soon as they need no longer be kept."""

    seq: Integer
    legal_basis: str


class NewAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence: `content` is kept apart from the log, which holds a commitment to it."""

    id: str  # random
    name: str
    content_type: str
    content: bytes
    problem: str | None = None


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """`version` is the seq of the last event, `head` its hash."""

    id: str
    number: Integer
    mail_tag: str
    version: Integer
    head: str
    state: CaseState
    category: Category
    received_at: datetime
    opened_at: datetime
    changed_at: datetime
    subject: Pointer
    title: Pointer
    client_name: Pointer
    client_email: Pointer
    participants: tuple[Pointer, ...]
    assignee: str | None = None
    purchase: Purchase | None = None
    grounds: tuple[Ground, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    remedies: tuple[RemedyGiven, ...] = ()
    links: tuple[Link, ...] = ()
    follows: str | None = None  # the closed case that this one continues
    unverified_of: str | None = None  # the case its sender referred to without being one of its participants
    # Where the conversation stands.
    client_messages: tuple[int, ...] = (1,)  # what the client wrote, oldest first, by seq
    answers: tuple[int, ...] = ()  # letters by a person since then, also with times to pick, that have not bounced
    answer_waived: bool = False
    waiting_since: datetime | None = None  # for the client
    # What is due; none of these while nothing is.
    first_answer_due: datetime | None = None
    update_due: datetime | None = None
    offer_due: datetime | None = None
    closed_at: datetime | None = None
    resolution: Resolution | None = None
    # Most cases have none of these; left out where they are unset, they change no row that was written before.
    hold: Pointer | msgspec.UnsetType = msgspec.UNSET  # why nothing may be erased
    erasure: ErasureRequest | msgspec.UnsetType = msgspec.UNSET  # the one that has been asked for and is not due yet
    erasures: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET  # the hashes of those that were carried out
    client_links: tuple[ClientLink, ...] | msgspec.UnsetType = msgspec.UNSET  # not revoked; may have run out
    mail_after_closing: bool | msgspec.UnsetType = msgspec.UNSET  # nobody has answered what came since it was closed
    slots: ProposedSlots | msgspec.UnsetType = msgspec.UNSET  # those that can be picked

    @property
    def is_held(self) -> bool:
        return not isinstance(self.hold, msgspec.UnsetType)

    @property
    def erasure_request(self) -> ErasureRequest | None:
        return None if isinstance(self.erasure, msgspec.UnsetType) else self.erasure

    @property
    def carried_out_erasures(self) -> tuple[str, ...]:
        return () if isinstance(self.erasures, msgspec.UnsetType) else self.erasures

    @property
    def issued_links(self) -> tuple[ClientLink, ...]:
        return () if isinstance(self.client_links, msgspec.UnsetType) else self.client_links

    @property
    def proposed_slots(self) -> ProposedSlots | None:
        return None if isinstance(self.slots, msgspec.UnsetType) else self.slots

    def erasure_due(self, kept_days: int) -> datetime | None:
        """From when on its personal data may go; None while it is open."""
        return None if self.closed_at is None else self.closed_at + timedelta(days=kept_days)

    @property
    def chain(self) -> str:
        return chain_of(self.id)

    @property
    def client_wrote_seq(self) -> int:
        return self.client_messages[-1]

    @property
    def is_answered(self) -> bool:
        return bool(self.answers) or self.answer_waived

    @property
    def has_new_mail(self) -> bool:
        """Whether the client, or a letter or money of theirs that came back, waits for somebody to answer."""
        return not self.is_answered if self.closed_at is None else self.mail_after_closing is True

    @property
    def payout_under_way(self) -> Proposal | None:
        return next((one for one in self.proposals if one.status is ProposalStatus.PAYING), None)

    @property
    def open_proposals(self) -> frozenset[str]:
        """Those that can still be decided, or paid."""
        return frozenset([one.id for one in self.proposals if one.is_open])

    @property
    def facts(self) -> Facts:
        """The facts a decision sees, as they stand."""
        purchase = self.purchase
        return Facts(
            requested_at=self.received_at,
            category=self.category,
            purchase=purchase.facts if purchase else None,
            refunded=Money(amount_minor=purchase.refunded_minor, currency=purchase.paid.currency) if purchase else None,
            grounds=tuple(
                GroundFacts(
                    kind=ground.kind,
                    verified=ground.verified,
                    affected=ground.affected,
                    refunded=Money(amount_minor=ground.refunded_minor, currency=ground.affected.currency),
                )
                for ground in self.grounds
            ),
        )

    def proposal(self, proposal_id: str | None) -> Proposal | None:
        return next((one for one in self.proposals if one.id == proposal_id), None)

    def ground(self, ground_id: str) -> Ground | None:
        return next((one for one in self.grounds if one.id == ground_id), None)

    def client_link(self, link_id: str) -> ClientLink | None:
        return next((one for one in self.issued_links if one.id == link_id), None)

    @property
    def open_offer(self) -> RemedyGiven | None:
        """The adjustment that the client has been offered and has not answered."""
        if self.state is not CaseState.ADJUSTMENT_OFFERED:
            return None
        last = self.remedies[-1]
        return last if isinstance(last.accepted, msgspec.UnsetType) else None

    @property
    def consultation(self) -> RemedyGiven | None:
        """The one that is booked."""
        return self.remedies[-1] if self.state is CaseState.CONSULTATION_SCHEDULED else None


def chain_of(case_id: str) -> str:
    return f"case:{case_id}"


def case_number_text(number: int) -> str:
    """As people say it: C-1042. Names a case, joins nothing (a number can be guessed)."""
    return f"C-{number}"


def booked_slot(case: Case) -> tuple[str, datetime, datetime] | None:
    """Host, start and end of the consultation that the case holds in somebody's calendar, if it does."""
    holds = case.state is CaseState.CONSULTATION_SCHEDULED or case.resolution is Resolution.REMEDY_ACCEPTED
    if not holds or not case.remedies:
        return None
    last = case.remedies[-1]
    if last.host is None or last.starts_at is None or last.minutes is None:
        return None
    return last.host, last.starts_at, last.starts_at + timedelta(minutes=last.minutes)


def host_of(case: Case | None, actor: str, slot_of: int | None = None) -> str:
    """Who holds a consultation that is booked now: who has agreed to the slot, else the owner, else who books it."""
    proposed = case.proposed_slots if case else None
    if proposed is not None and proposed.seq == slot_of:
        return proposed.host
    return (case.assignee if case else None) or actor
