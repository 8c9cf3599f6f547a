"""Folds the events of a chain back into the case they tell of: at any version, at any moment."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from workflow import events as e
from workflow.cases import (
    Approval,
    Case,
    ClientLink,
    ErasureRequest,
    Ground,
    Link,
    Pointer,
    Proposal,
    ProposedSlots,
    RemedyGiven,
    pointer,
)
from workflow.errors import BrokenHistory
from workflow.states import CaseState, ProposalStatus, RemedyKind, ResumeReason, Verdict

Changes = dict[str, Any]


def replay(history: Iterable[e.Recorded]) -> Case | None:
    """The case after these events, oldest first; None for no events. Raises BrokenHistory."""
    case = None
    for recorded in history:
        case = evolve(case, recorded)
    return case


def evolve(case: Case | None, recorded: e.Recorded) -> Case:
    """The case after one more event of its chain."""
    event = recorded.event
    if isinstance(recorded.data, e.Opened):
        if case is not None:
            raise BrokenHistory(event.chain, event.seq, "the case is opened a second time")
        return opened(recorded, recorded.data)
    if case is None:
        raise BrokenHistory(event.chain, event.seq, "the chain does not begin with an opened case")
    change = CHANGES.get(event.type)
    if change is None:
        raise BrokenHistory(event.chain, event.seq, f"{event.type} is no event of a case")
    changes = change(case, recorded, recorded.data)
    if event.trigger is not None:
        changes["state"] = CaseState(str(event.state_after))
        if case.proposed_slots is not None:  # nobody waits for a pick any more, but for something else perhaps
            waiting = {} if "waiting_since" in changes else no_longer_waiting(case, recorded.at)
            changes = {**waiting, **changes, "slots": UNSET}
    changes["version"] = event.seq
    changes["head"] = recorded.hash
    changes["changed_at"] = recorded.at
    return replace(case, **changes)


def opened(recorded: e.Recorded, data: e.Opened) -> Case:
    event, at = recorded.event, recorded.at
    email = pointer(event.seq, "client_email")
    return Case(
        id=event.chain.removeprefix("case:"),
        number=data.number,
        mail_tag=data.mail_tag,
        version=event.seq,
        head=recorded.hash,
        state=CaseState.OPENED,
        category=data.category,
        received_at=data.received_at,
        opened_at=at,
        changed_at=at,
        subject=pointer(event.seq, "subject"),
        title=pointer(event.seq, "title" if "title" in event.personal else "subject"),
        client_name=pointer(event.seq, "client_name"),
        client_email=email,
        participants=(email,),
        first_answer_due=data.first_answer_due,
        update_due=data.update_due,
        follows=data.follows,
        unverified_of=data.unverified_of,
    )


# Transitions.


def investigation_started(_: Case, __: e.Recorded, data: e.InvestigationStarted) -> Changes:
    return {"assignee": data.assignee}


def adjustment_offered(case: Case, recorded: e.Recorded, data: e.AdjustmentOffered) -> Changes:
    remedy = given(recorded, RemedyKind.ADJUSTMENT, description=here(recorded, "description"), answer_by=data.answer_by)
    return {
        "remedies": (*case.remedies, remedy),
        "offer_due": data.answer_due,
        "waiting_since": case.waiting_since or recorded.at,
    }


def consultation_scheduled(case: Case, recorded: e.Recorded, data: e.ConsultationScheduled) -> Changes:
    remedy = given(
        recorded,
        RemedyKind.CONSULTATION,
        starts_at=data.starts_at,
        minutes=data.minutes,
        channel=here(recorded, "channel"),
        host=data.host,
    )
    return {"remedies": (*case.remedies, remedy)}


def compensation_issued(case: Case, recorded: e.Recorded, data: e.CompensationIssued) -> Changes:
    confirmed = {"confirmation": data.confirmation} if data.confirmation else {}
    remedy = given(recorded, RemedyKind.COMPENSATION, proposal=data.proposal, **confirmed)
    return {
        "remedies": (*case.remedies, remedy),
        "proposals": with_proposal(case, data.proposal, status=ProposalStatus.SETTLED),
    }


def refunded(case: Case, recorded: e.Recorded, data: e.Refunded) -> Changes:
    by_ground = {share.ground: share.amount_minor for share in data.shares}
    return {
        "remedies": (*case.remedies, given(recorded, RemedyKind.REFUND, proposal=data.proposal)),
        "proposals": with_proposal(
            case,
            data.proposal,
            status=ProposalStatus.SETTLED,
            shares=data.shares,
            payment_reference=data.payment_reference,
        ),
        "grounds": tuple(
            replace(ground, refunded_minor=ground.refunded_minor + by_ground.get(ground.id, 0))
            for ground in case.grounds
        ),
    }


def resumed(case: Case, recorded: e.Recorded, data: e.Resumed) -> Changes:
    *before, last = case.remedies
    return {
        **no_longer_waiting(case, recorded.at),
        "remedies": (*before, replace(last, ended=data.reason_code.value)),
        "offer_due": None,
        "update_due": data.update_due,
    }


def closed(case: Case, recorded: e.Recorded, data: e.Closed) -> Changes:
    return {
        "closed_at": recorded.at,
        "resolution": data.resolution,
        "first_answer_due": None,
        "update_due": None,
        "offer_due": None,
        "waiting_since": None,
        "proposals": tuple(
            replace(one, status=ProposalStatus.WITHDRAWN) if one.id in data.withdrawn else one for one in case.proposals
        ),
    }


def reopened(_: Case, __: e.Recorded, data: e.Reopened) -> Changes:
    return {"closed_at": None, "resolution": None, "update_due": data.update_due, "mail_after_closing": UNSET}


# Facts and money.


def purchase_changed(case: Case, _: e.Recorded, data: e.PurchaseChanged) -> Changes:
    return {"purchase": data.purchase, "proposals": voided(case, data.voids)}


def ground_recorded(case: Case, recorded: e.Recorded, data: e.GroundRecorded) -> Changes:
    ground = Ground(
        id=f"g{recorded.event.seq}",
        kind=data.kind,
        affected=data.affected,
        statement=here(recorded, "statement"),
        recorded_by=recorded.event.actor,
    )
    return {"grounds": (*case.grounds, ground), "proposals": voided(case, data.voids)}


def ground_verified(case: Case, recorded: e.Recorded, data: e.GroundVerified) -> Changes:
    grounds = tuple(
        replace(
            ground,
            verified=data.verified,
            verified_by=recorded.event.actor,
            verified_seq=recorded.event.seq,
            evidence=here(recorded, "evidence"),
        )
        if ground.id == data.ground
        else ground
        for ground in case.grounds
    )
    return {"grounds": grounds, "proposals": voided(case, data.voids)}


def proposed(case: Case, recorded: e.Recorded, data: e.Proposed) -> Changes:
    proposal = Proposal(
        id=f"p{recorded.event.seq}",
        remedy=data.remedy,
        amount=data.amount,
        reason=here(recorded, "reason"),
        proposed_by=recorded.event.actor,
        proposed_at=recorded.at,
        digest=recorded.hash,
        kind=data.kind,
        grounds=data.grounds,
        judgement=data.judgement,
    )
    return {"proposals": (*case.proposals, proposal)}


def verdict_given(case: Case, recorded: e.Recorded, data: e.VerdictGiven) -> Changes:
    if data.verdict is Verdict.REFUSE:
        return {"proposals": with_proposal(case, data.proposal, status=ProposalStatus.REFUSED)}
    approval = Approval(by=recorded.event.actor, roles=data.roles, at=recorded.at, reason=here(recorded, "reason"))
    status = ProposalStatus.APPROVED if data.complete else ProposalStatus.PROPOSED
    return {
        "proposals": tuple(
            replace(one, approvals=(*one.approvals, approval), status=status) if one.id == data.proposal else one
            for one in case.proposals
        )
    }


def payout_begun(case: Case, _: e.Recorded, data: e.PayoutBegun) -> Changes:
    return {"proposals": with_proposal(case, data.proposal, status=ProposalStatus.PAYING)}


def payout_failed(case: Case, _: e.Recorded, data: e.PayoutFailed) -> Changes:
    return {
        "proposals": tuple(
            replace(one, status=status_after_failed_payout(one)) if one.id == data.proposal else one
            for one in case.proposals
        )
    }


def status_after_failed_payout(proposal: Proposal) -> ProposalStatus:
    """As before the payout, unless what the proposal rested on changed while the money was on its way."""
    if proposal.outdated:
        return ProposalStatus.VOID
    return ProposalStatus.APPROVED if proposal.approvals else ProposalStatus.PROPOSED


def proposal_withdrawn(case: Case, _: e.Recorded, data: e.ProposalWithdrawn) -> Changes:
    return {"proposals": with_proposal(case, data.proposal, status=ProposalStatus.WITHDRAWN)}


def payment_reversed(case: Case, _: e.Recorded, data: e.PaymentReversed) -> Changes:
    """The money came back: the grounds are as unpaid as before, and the proposal is spent.

    On a closed case it waits for somebody like mail that came since.
    """
    proposal = case.proposal(data.proposal)
    by_ground = {share.ground: share.amount_minor for share in proposal.shares} if proposal else {}
    returned = {"mail_after_closing": True} if case.state is CaseState.CLOSED else {}
    return {
        **returned,
        "remedies": tuple(
            replace(one, ended=ResumeReason.PAYMENT_FAILED.value)
            if one.proposal == data.proposal and one.ended is None
            else one
            for one in case.remedies
        ),
        "proposals": with_proposal(case, data.proposal, status=ProposalStatus.VOID),
        "grounds": tuple(
            replace(ground, refunded_minor=ground.refunded_minor - by_ground.get(ground.id, 0))
            for ground in case.grounds
        ),
    }


# The case itself and the conversation.


def assigned(_: Case, __: e.Recorded, data: e.Assigned) -> Changes:
    return {"assignee": data.assignee}


def recategorized(case: Case, _: e.Recorded, data: e.Recategorized) -> Changes:
    return {"category": data.category, "proposals": voided(case, data.voids)}


def requested_at_corrected(case: Case, _: e.Recorded, data: e.RequestedAtCorrected) -> Changes:
    return {"received_at": data.requested_at, "proposals": voided(case, data.voids)}


def participants_set(case: Case, recorded: e.Recorded, data: e.ParticipantsSet) -> Changes:
    others = (here(recorded, f"participant_{index}") for index in range(data.count))
    return {"participants": (case.client_email, *others)}


def nothing_else(_: Case, __: e.Recorded, ___: e.EventData) -> Changes:
    return {}


def message_received(case: Case, recorded: e.Recorded, data: e.MessageReceived) -> Changes:
    return the_client_spoke(case, recorded, data.update_due)


def offer_answered(case: Case, recorded: e.Recorded, data: e.OfferAnswered) -> Changes:
    """A word of the client's like a message, with or without further ones."""
    remedies = tuple(replace(one, accepted=data.accepted) if one.seq == data.offer else one for one in case.remedies)
    return {**the_client_spoke(case, recorded, data.update_due), "remedies": remedies, "offer_due": None}


def the_client_spoke(case: Case, recorded: e.Recorded, update_due: datetime) -> Changes:
    changes: Changes = {
        "client_messages": (*case.client_messages, recorded.event.seq),
        "answers": (),
        "answer_waived": False,
        **no_longer_waiting(case, recorded.at),
    }
    if case.state is CaseState.CLOSED:
        changes["mail_after_closing"] = True
    else:
        changes["update_due"] = update_due
    return changes


def message_sent(case: Case, recorded: e.Recorded, data: e.MessageSent) -> Changes:
    if not recorded.event.actor.startswith("person:"):
        return {}
    changes: Changes = {
        "answers": (*case.answers, recorded.event.seq),
        "first_answer_due": None,
        "mail_after_closing": UNSET,
    }
    if case.state is not CaseState.CLOSED:
        changes["update_due"] = data.update_due
        if case.waiting_since is not None or data.awaits_reply:
            changes["waiting_since"] = recorded.at  # the clock of the update starts anew with the letter
    return changes


def message_bounced(case: Case, recorded: e.Recorded, data: e.MessageBounced) -> Changes:
    """The client never read it. Where it was the only answer, they stand unanswered again, and owe no reply."""
    if data.update_due is None:
        return {}
    answers = tuple(seq for seq in case.answers if f"m{seq}" != data.message)
    if answers:
        return {"answers": answers}
    if case.state is CaseState.CLOSED:
        return {"answers": answers, "mail_after_closing": True}
    return {"answers": answers, **no_longer_waiting(case, recorded.at), "update_due": data.update_due}


def answer_waived(case: Case, _: e.Recorded, data: e.AnswerWaived) -> Changes:
    if data.message != f"m{case.client_wrote_seq}":
        return {}
    return {"answer_waived": True, "first_answer_due": None, "mail_after_closing": UNSET}


def linked(case: Case, _: e.Recorded, data: e.Linked) -> Changes:
    return {"links": (*case.links, Link(kind=data.kind, case=data.case))}


# Consultations, beside their booking.


def slots_proposed(case: Case, recorded: e.Recorded, data: e.SlotsProposed) -> Changes:
    """An answer by a person like a message, which waits for one in turn."""
    slots = ProposedSlots(
        seq=recorded.event.seq,
        at=recorded.at,
        slots=data.slots,
        minutes=data.minutes,
        channel=here(recorded, "channel"),
        host=data.host,
        text=here(recorded, "remark") if "remark" in recorded.event.personal else None,
    )
    return {
        "slots": slots,
        "answers": (*case.answers, recorded.event.seq),
        "first_answer_due": None,
        "waiting_since": recorded.at,
        "update_due": data.update_due,
    }


def consultation_moved(case: Case, recorded: e.Recorded, data: e.ConsultationMoved) -> Changes:
    *before, last = case.remedies
    moved = replace(
        last,
        starts_at=data.starts_at,
        minutes=data.minutes,
        host=data.host,
        channel=here(recorded, "channel"),
        moved=(*last.moves, recorded.at),
        attended=UNSET,
    )
    return {"remedies": (*before, moved)}


def consultation_attended(case: Case, _: e.Recorded, data: e.ConsultationAttended) -> Changes:
    *before, last = case.remedies
    return {"remedies": (*before, replace(last, attended=data.attended))}


# The links by which the client sees the case.


def client_link_issued(case: Case, recorded: e.Recorded, data: e.ClientLinkIssued) -> Changes:
    link = ClientLink(
        id=data.link, commitment=data.commitment, expires_at=data.expires_at, letters=data.letters or UNSET
    )
    return {"client_links": (*(one for one in case.issued_links if one.is_good(recorded.at)), link)}


def client_link_revoked(case: Case, _: e.Recorded, data: e.ClientLinkRevoked) -> Changes:
    return {"client_links": tuple(one for one in case.issued_links if one.id != data.link) or UNSET}


# What is kept of the client.


def hold_placed(_: Case, recorded: e.Recorded, __: e.HoldPlaced) -> Changes:
    return {"hold": here(recorded, "reason")}


def hold_released(_: Case, __: e.Recorded, ___: e.HoldReleased) -> Changes:
    return {"hold": UNSET}


def erasure_requested(_: Case, recorded: e.Recorded, data: e.ErasureRequested) -> Changes:
    return {"erasure": ErasureRequest(seq=recorded.event.seq, legal_basis=data.legal_basis)}


def erased(case: Case, recorded: e.Recorded, data: e.Erased) -> Changes:
    """There is nobody left who could come by a link."""
    done = (*case.carried_out_erasures, data.reapplies or recorded.hash)
    return {"erasure": UNSET, "erasures": done, "client_links": UNSET}


# What several of them do.


def here(recorded: e.Recorded, field: str) -> Pointer:
    return pointer(recorded.event.seq, field)


def given(recorded: e.Recorded, kind: RemedyKind, **facts: Any) -> RemedyGiven:
    return RemedyGiven(kind=kind, seq=recorded.event.seq, at=recorded.at, **facts)


def with_proposal(case: Case, proposal_id: str, **changes: Any) -> tuple[Proposal, ...]:
    return tuple(replace(one, **changes) if one.id == proposal_id else one for one in case.proposals)


def voided(case: Case, voids: tuple[str, ...]) -> tuple[Proposal, ...]:
    """Void for good; but money that is on its way stays on its way, and only its failure would leave it void."""
    if not voids:
        return case.proposals
    return tuple(
        one
        if one.id not in voids
        else replace(one, outdated=True)
        if one.status is ProposalStatus.PAYING
        else replace(one, status=ProposalStatus.VOID)
        for one in case.proposals
    )


def no_longer_waiting(case: Case, at: datetime) -> Changes:
    """Deadlines stood still while the client was waited for: they move by as long as that took."""
    if case.waiting_since is None:
        return {}
    pause = at - case.waiting_since
    return {
        "waiting_since": None,
        "first_answer_due": case.first_answer_due and case.first_answer_due + pause,
        "update_due": case.update_due and case.update_due + pause,
    }


CHANGES: dict[str, Callable[[Case, e.Recorded, Any], Changes]] = {
    "investigation_started": investigation_started,
    "adjustment_offered": adjustment_offered,
    "consultation_scheduled": consultation_scheduled,
    "compensation_issued": compensation_issued,
    "refunded": refunded,
    "resumed": resumed,
    "closed": closed,
    "reopened": reopened,
    "purchase_changed": purchase_changed,
    "ground_recorded": ground_recorded,
    "ground_verified": ground_verified,
    "proposed": proposed,
    "verdict_given": verdict_given,
    "payout_begun": payout_begun,
    "payout_failed": payout_failed,
    "proposal_withdrawn": proposal_withdrawn,
    "payment_reversed": payment_reversed,
    "assigned": assigned,
    "recategorized": recategorized,
    "requested_at_corrected": requested_at_corrected,
    "participants_set": participants_set,
    "note_added": nothing_else,
    "message_received": message_received,
    "message_sent": message_sent,
    "message_bounced": message_bounced,
    "offer_answered": offer_answered,
    "answer_waived": answer_waived,
    "slots_proposed": slots_proposed,
    "consultation_moved": consultation_moved,
    "consultation_attended": consultation_attended,
    "attachment_added": nothing_else,
    "linked": linked,
    "client_link_issued": client_link_issued,
    "client_link_revoked": client_link_revoked,
    "hold_placed": hold_placed,
    "hold_released": hold_released,
    "erasure_requested": erasure_requested,
    "erased": erased,
}
