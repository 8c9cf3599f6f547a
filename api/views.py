"""What answers say: cases, events and people as JSON, each shape written down once as a TypedDict.

A text that has been erased reads "erased".
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NotRequired, cast

import msgspec
from typing_extensions import TypedDict

from api.errors import RefusalBody
from storage.batch import Entry
from workflow.cases import Case, Ground, Pointer, Proposal, ProposedSlots, Purchase, RemedyGiven, case_number_text
from workflow.deadlines import DeadlineKind, deadlines
from workflow.events import (
    AttachmentAdded,
    MessageBounced,
    MessageReceived,
    MessageSent,
    OfferAnswered,
    Opened,
    Recorded,
)
from workflow.guards import Context, missing_approvals, who_can_approve
from workflow.money import Money
from workflow.people import Person
from workflow.permissions import Permission, permissions
from workflow.policy import Category, ClauseId, Decision, GroundKind, ReasonCode, Refund
from workflow.roles import Actor, Role
from workflow.states import (
    CaseState,
    CompensationKind,
    Direction,
    LetterKind,
    LinkKind,
    MailKind,
    ProposalStatus,
    RemedyKind,
    Resolution,
    Trigger,
)

ERASED = "erased"


class MoneyView(TypedDict):
    amount: str
    currency: str


class ClientView(TypedDict):
    name: str
    email: str


class PurchaseView(TypedDict):
    reference: str
    package: str
    paid: MoneyView
    purchased_at: datetime
    service_started_at: datetime | None
    deliverables_provided_at: datetime | None
    checked: bool
    refunded: MoneyView
    reserved: MoneyView
    left: MoneyView


class GroundView(TypedDict):
    id: str
    kind: GroundKind
    affected: MoneyView
    statement: str
    recorded_by: str
    verified: bool
    verified_by: str | None
    evidence: str | None
    refunded: MoneyView


class ReasonView(TypedDict):
    code: ReasonCode
    text: str


class DecisionView(TypedDict):
    refund: Refund
    maximum: NotRequired[MoneyView]
    needs_approval: bool
    clauses: list[ClauseId]
    reasons: list[ReasonView]
    remedies: list[RemedyKind]
    policy: int


class JudgementView(TypedDict):
    """The policy's decision that a proposal rests on, as it was recorded."""

    refund: str
    maximum: NotRequired[MoneyView]
    needs_approval: bool
    clauses: list[str]
    reasons: list[str]
    policy: int


class ApprovalView(TypedDict):
    by: str
    at: datetime
    reason: str


class ProposalView(TypedDict):
    id: str
    remedy: RemedyKind
    kind: CompensationKind | None
    amount: MoneyView
    grounds: list[str]
    reason: str
    proposed_by: str
    proposed_at: datetime
    digest: str
    status: ProposalStatus
    decision: JudgementView | None
    approvals: list[ApprovalView]
    approvals_needed: int
    can_approve: list[str]
    warnings: list[str]
    payment_reference: str | None


class RemedyView(TypedDict):
    kind: RemedyKind
    at: datetime
    proposal: str | None
    description: str | None
    answer_by: str | None
    starts_at: datetime | None
    minutes: int | None
    channel: str | None
    host: str | None
    accepted: bool | None
    moved: list[datetime]
    attended: bool | None
    ended: str | None
    confirmation: str | None  # what the system that granted a compensation knows it by


class SlotsView(TypedDict):
    """Times for a consultation that the client can pick from."""

    slots: list[datetime]
    minutes: int
    channel: str
    text: str | None
    host: str
    at: datetime


class DeadlineView(TypedDict):
    kind: DeadlineKind
    due_at: datetime
    paused: bool
    overdue: bool


class PermissionView(TypedDict):
    trigger: Trigger
    target: CaseState
    allowed: bool
    needs: list[str]
    refusals: list[RefusalBody]


class LinkView(TypedDict):
    kind: LinkKind
    case: str


class ClientLinkView(TypedDict):
    """By which the client sees the case; nobody can be told its secret again."""

    id: str
    expires_at: datetime


class ErasureRequestView(TypedDict):
    """`due_at` is null while the case is open."""

    legal_basis: str
    due_at: datetime | None


class CaseView(TypedDict):
    id: str
    number: str
    mail_tag: str
    version: int
    state: CaseState
    subject: str
    title: str
    category: Category
    client: ClientView
    participants: list[str]
    assignee: str | None
    received_at: datetime
    opened_at: datetime
    changed_at: datetime
    purchase: PurchaseView | None
    grounds: list[GroundView]
    proposals: list[ProposalView]
    remedies: list[RemedyView]
    slots: SlotsView | None
    links: list[LinkView]
    client_links: list[ClientLinkView]
    follows: str | None
    unverified_of: str | None
    answered: bool
    waiting: bool
    waiting_since: datetime | None
    deadlines: list[DeadlineView]
    overdue: bool
    closed_at: datetime | None
    resolution: Resolution | None
    hold: str | None
    erasure: ErasureRequestView | None
    transitions: list[PermissionView]


def case_view(entry: Entry, actor: Actor, now: datetime, context: Context) -> CaseView:
    """The case for one reader at one moment: what they may do is part of it."""
    case, texts = entry.case, entry.texts
    due = [
        DeadlineView(kind=one.kind, due_at=one.due_at, paused=one.paused, overdue=not one.paused and one.due_at < now)
        for one in deadlines(case)
    ]
    return {
        "id": case.id,
        "number": case_number_text(case.number),
        "mail_tag": f"[#{case.mail_tag}]",
        "version": case.version,
        "state": case.state,
        "subject": text(texts, case.subject),
        "title": text(texts, case.title),
        "category": case.category,
        "client": {"name": text(texts, case.client_name), "email": text(texts, case.client_email)},
        "participants": [text(texts, one) for one in case.participants],
        "assignee": case.assignee,
        "received_at": case.received_at,
        "opened_at": case.opened_at,
        "changed_at": case.changed_at,
        "purchase": purchase_view(case.purchase) if case.purchase else None,
        "grounds": [ground_view(one, texts) for one in case.grounds],
        "proposals": [proposal_view(case, one, texts, now, context) for one in case.proposals],
        "remedies": [remedy_view(one, texts) for one in case.remedies],
        "slots": slots_view(case.proposed_slots, texts) if case.proposed_slots else None,
        "links": [{"kind": one.kind, "case": one.case} for one in case.links],
        "client_links": [{"id": one.id, "expires_at": one.expires_at} for one in case.issued_links],
        "follows": case.follows,
        "unverified_of": case.unverified_of,
        "answered": case.is_answered,
        "waiting": case.waiting_since is not None,
        "waiting_since": case.waiting_since,
        "deadlines": due,
        "overdue": any(one["overdue"] for one in due),
        "closed_at": case.closed_at,
        "resolution": case.resolution,
        "hold": text(texts, case.hold) if isinstance(case.hold, str) else None,
        "erasure": erasure_view(case, context.settings_now(now).kept_days),
        "transitions": permission_views(permissions(case, actor, now, context)),
    }


def erasure_view(case: Case, kept_days: int) -> ErasureRequestView | None:
    asked = case.erasure_request
    return {"legal_basis": asked.legal_basis, "due_at": case.erasure_due(kept_days)} if asked else None


def purchase_view(purchase: Purchase) -> PurchaseView:
    left = purchase.paid.amount_minor - purchase.refunded_minor - purchase.reserved_minor
    return {
        "reference": purchase.reference,
        "package": purchase.package,
        "paid": money(purchase.paid),
        "purchased_at": purchase.purchased_at,
        "service_started_at": purchase.service_started_at,
        "deliverables_provided_at": purchase.deliverables_provided_at,
        "checked": purchase.checked,
        "refunded": minor(purchase.refunded_minor, purchase.paid.currency),
        "reserved": minor(purchase.reserved_minor, purchase.paid.currency),
        "left": minor(left, purchase.paid.currency),
    }


def ground_view(ground: Ground, texts: dict[str, str]) -> GroundView:
    return {
        "id": ground.id,
        "kind": ground.kind,
        "affected": money(ground.affected),
        "statement": text(texts, ground.statement),
        "recorded_by": ground.recorded_by,
        "verified": ground.verified,
        "verified_by": ground.verified_by,
        "evidence": text_or_none(texts, ground.evidence),
        "refunded": minor(ground.refunded_minor, ground.affected.currency),
    }


def proposal_view(
    case: Case, proposal: Proposal, texts: dict[str, str], now: datetime, context: Context
) -> ProposalView:
    missing = missing_approvals(proposal, context.settings_now(now)) if proposal.is_open else 0
    able = who_can_approve(case, proposal, context, now)
    warnings = []
    if len(able) < missing:
        warnings.append(f"{missing} more approvals are needed, and only {len(able)} people could give one")
    judgement: JudgementView | None = None
    if proposal.judgement is not None:
        judged = proposal.judgement
        judgement = {
            "refund": judged.refund,
            "needs_approval": judged.needs_approval,
            "clauses": list(judged.clauses),
            "reasons": list(judged.reasons),
            "policy": judged.policy,
        }
        if judged.maximum is not None:
            judgement["maximum"] = money(judged.maximum)
    return {
        "id": proposal.id,
        "remedy": proposal.remedy,
        "kind": proposal.kind,
        "amount": money(proposal.amount),
        "grounds": list(proposal.grounds),
        "reason": text(texts, proposal.reason),
        "proposed_by": proposal.proposed_by,
        "proposed_at": proposal.proposed_at,
        "digest": proposal.digest,
        "status": proposal.status,
        "decision": judgement,
        "approvals": [{"by": one.by, "at": one.at, "reason": text(texts, one.reason)} for one in proposal.approvals],
        "approvals_needed": missing,
        "can_approve": list(able),
        "warnings": warnings,
        "payment_reference": proposal.payment_reference,
    }


def remedy_view(remedy: RemedyGiven, texts: dict[str, str]) -> RemedyView:
    return {
        "kind": remedy.kind,
        "at": remedy.at,
        "proposal": remedy.proposal,
        "description": text_or_none(texts, remedy.description),
        "answer_by": remedy.answer_by,
        "starts_at": remedy.starts_at,
        "minutes": remedy.minutes,
        "channel": text_or_none(texts, remedy.channel),
        "host": remedy.host,
        "accepted": remedy.accepted if isinstance(remedy.accepted, bool) else None,
        "moved": list(remedy.moves),
        "attended": remedy.attended if isinstance(remedy.attended, bool) else None,
        "ended": remedy.ended,
        "confirmation": remedy.confirmation if isinstance(remedy.confirmation, str) else None,
    }


def slots_view(proposed: ProposedSlots, texts: dict[str, str]) -> SlotsView:
    return {
        "slots": list(proposed.slots),
        "minutes": proposed.minutes,
        "channel": text(texts, proposed.channel),
        "text": text_or_none(texts, proposed.text),
        "host": proposed.host,
        "at": proposed.at,
    }


def permission_views(answers: Sequence[Permission]) -> list[PermissionView]:
    """A Permission is encoded as it stands: its fields are the view's."""
    return cast("list[PermissionView]", answers)


def decision_view(decision: Decision) -> DecisionView:
    view: DecisionView = {
        "refund": decision.refund,
        "needs_approval": decision.needs_approval,
        "clauses": list(decision.clauses),
        "reasons": [{"code": one.code, "text": one.text} for one in decision.reasons],
        "remedies": list(decision.remedies),
        "policy": decision.policy,
    }
    if decision.maximum is not None:
        view["maximum"] = money(decision.maximum)
    return view


# Lists.


class ListedCaseView(TypedDict):
    id: str
    number: str
    version: int
    state: CaseState
    title: str
    category: Category
    client: ClientView
    assignee: str | None
    received_at: datetime
    changed_at: datetime
    amount: MoneyView | None
    answered: bool
    waiting: bool
    next_deadline: str | None
    overdue: bool


class CaseListView(TypedDict):
    items: list[ListedCaseView]
    next: str | None


def listed_case_view(entry: Entry, next_deadline: str | None, now: datetime) -> ListedCaseView:
    case, texts = entry.case, entry.texts
    return {
        "id": case.id,
        "number": case_number_text(case.number),
        "version": case.version,
        "state": case.state,
        "title": text(texts, case.title),
        "category": case.category,
        "client": {"name": text(texts, case.client_name), "email": text(texts, case.client_email)},
        "assignee": case.assignee,
        "received_at": case.received_at,
        "changed_at": case.changed_at,
        "amount": money(case.purchase.paid) if case.purchase else None,
        "answered": case.is_answered,
        "waiting": case.waiting_since is not None,
        "next_deadline": next_deadline,
        "overdue": next_deadline is not None and datetime.fromisoformat(next_deadline) < now,
    }


# Events.


class EventView(TypedDict):
    """An event with its texts; `body` is the very text that was hashed."""

    chain: str
    seq: int
    type: str
    trigger: NotRequired[str]
    state_before: str | None
    state_after: str | None
    at: str
    actor: str
    via: str
    request: str
    policy: int
    lifecycle: str
    guards: NotRequired[dict[str, bool]]
    data: dict[str, Any]
    texts: NotRequired[dict[str, str]]
    hash: str
    prev: str
    body: str


class EventListView(TypedDict):
    items: list[EventView]
    next: NotRequired[int]


class FeedEventView(TypedDict):
    position: int
    event: EventView


class FeedView(TypedDict):
    items: list[FeedEventView]
    next: int


def event_view(recorded: Recorded, body: str, texts: dict[str, str] | None) -> EventView:
    """`texts` maps pointers to what is kept of the chain's texts; None leaves texts out."""
    event = recorded.event
    view: EventView = {
        "chain": event.chain,
        "seq": event.seq,
        "type": event.type,
        "state_before": event.state_before,
        "state_after": event.state_after,
        "at": event.at,
        "actor": event.actor,
        "via": event.via,
        "request": event.request,
        "policy": event.policy,
        "lifecycle": event.lifecycle,
        "data": msgspec.to_builtins(event.data),
        "hash": recorded.hash,
        "prev": event.prev,
        "body": body,
    }
    if texts is not None:
        fields = (field for field in event.personal if field != "content")
        view["texts"] = {field: texts.get(f"{event.seq}/{field}", ERASED) for field in fields}
    if event.trigger is not None:
        view["trigger"] = event.trigger
    if event.guards is not None:
        view["guards"] = event.guards
    return view


# The conversation and its evidence.


class MessageView(TypedDict):
    id: str
    direction: Direction
    subject: str | None
    text: str
    at: str
    by: str
    awaits_reply: bool
    accepts: NotRequired[bool]  # an offer, of the client's answer to one
    bounced: NotRequired[bool]  # it came back to us undelivered
    acknowledgement_bounced: NotRequired[bool]  # our acknowledgement of it did
    letter: NotRequired[LetterKind]  # of one that was drafted from the record
    language: NotRequired[str]


class NoteView(TypedDict):
    id: str
    text: str
    at: str
    by: str


class AttachmentView(TypedDict):
    id: str
    name: str
    content_type: str
    size: int
    problem: str | None
    message: str | None
    at: str


def messages_of(history: Sequence[Recorded], texts: dict[str, str]) -> list[MessageView]:
    """The conversation, oldest first; the inquiry itself is its first message.

    An answer to an offer is one too, with or without further words.
    """
    views: list[MessageView] = []
    bounced = {(one.data.message, one.data.mail) for one in history if isinstance(one.data, MessageBounced)}
    for one in history:
        event, data = one.event, one.data
        if not isinstance(data, Opened | MessageReceived | MessageSent | OfferAnswered):
            continue
        field = "message" if isinstance(data, Opened) else "text"
        view: MessageView = {
            "id": f"m{event.seq}",
            "direction": Direction.OUTBOUND if isinstance(data, MessageSent) else Direction.INBOUND,
            "subject": texts.get(f"{event.seq}/subject", ERASED) if "subject" in event.personal else None,
            "text": texts.get(f"{event.seq}/{field}", ERASED) if field in event.personal else "",
            "at": event.at,
            "by": event.actor,
            "awaits_reply": isinstance(data, MessageSent) and data.awaits_reply,
        }
        if isinstance(data, OfferAnswered):
            view["accepts"] = data.accepted
        if (view["id"], MailKind.MESSAGE) in bounced:
            view["bounced"] = True
        if (view["id"], MailKind.ACKNOWLEDGEMENT) in bounced:
            view["acknowledgement_bounced"] = True
        if isinstance(data, MessageSent) and data.letter is not None:
            view["letter"] = data.letter
            view["language"] = str(data.language)
        views.append(view)
    return views


def attachments_of(history: Sequence[Recorded], texts: dict[str, str]) -> list[AttachmentView]:
    return [
        {
            "id": data.attachment,
            "name": texts.get(f"{one.event.seq}/name", ERASED),
            "content_type": data.content_type,
            "size": data.size,
            "problem": data.problem,
            "message": data.message,
            "at": one.event.at,
        }
        for one in history
        if isinstance(data := one.data, AttachmentAdded)
    ]


# People.


class PersonView(TypedDict):
    id: str
    name: str
    email: str
    roles: list[Role]
    active: bool


def person_view(person: Person, names: dict[str, str]) -> PersonView:
    return {
        "id": person.id,
        "name": names.get("name", ERASED),
        "email": names.get("email", ERASED),
        "roles": list(person.roles),
        "active": person.active,
    }


# Small parts.


def money(value: Money) -> MoneyView:
    return {"amount": value.decimal_text(), "currency": value.currency}


def minor(amount_minor: int, currency: str) -> MoneyView:
    return money(Money(amount_minor, currency))


def text(texts: dict[str, str], pointer: Pointer) -> str:
    return texts.get(pointer, ERASED)


def text_or_none(texts: dict[str, str], pointer: Pointer | None) -> str | None:
    return text(texts, pointer) if pointer is not None else None
