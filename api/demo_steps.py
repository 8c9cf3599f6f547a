"""The words in which the demonstration desk's stories are told: who does what, and when.

Times are a day relative to the day of creation and a time of day in UTC: `-3 09:30` is half past nine three days
before.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from api.desk import MAIL_TAG_ALPHABET
from workflow import commands as c
from workflow.cases import Case, NewAttachment, Proposal, Purchase
from workflow.money import Money, parse_money
from workflow.policy import Category, GroundKind
from workflow.states import (
    CompensationKind,
    Direction,
    LinkKind,
    RemedyKind,
    Resolution,
    ResumeReason,
    Trigger,
    Verdict,
)

MAIL = "mail"  # the part of the system that brings the clients' letters


class Scene:
    """What a step can refer to: its case as it stands, other cases and people by name, and the calendar."""

    def __init__(self, name: str, midnight: datetime, id_of: Callable[[str], str]) -> None:
        self.name = name
        self.midnight = midnight
        self.id_of = id_of
        self.opened: Case | None = None

    @property
    def case(self) -> Case:
        if self.opened is None:
            raise LookupError(f"{self.name} is not open yet")
        return self.opened

    @property
    def proposal(self) -> Proposal:
        return self.case.proposals[-1]

    def moment(self, when: str) -> datetime:
        return moment_of(when, self.midnight)


def moment_of(when: str, midnight: datetime) -> datetime:
    """`midnight` is the one with which the day of creation begins."""
    day, clock = when.split()
    hours, minutes = clock.split(":")
    return midnight + timedelta(days=int(day), hours=int(hours), minutes=int(minutes))


Doing = Callable[[Scene], c.Command]


class Step(msgspec.Struct, frozen=True):
    when: str
    who: str
    does: Doing
    is_refused: bool = False  # by the rules; the attempt is remembered


class Story(msgspec.Struct, frozen=True):
    """One case, by a name of its own. Its first step opens it."""

    name: str
    steps: tuple[Step, ...]


def story(name: str, *steps: Step) -> Story:
    return Story(name, steps)


def on(when: str, who: str, does: Doing) -> Step:
    return Step(when, who, does)


def tries(when: str, who: str, does: Doing) -> Step:
    return Step(when, who, does, is_refused=True)


def money(amount: str) -> Money:
    return parse_money(*amount.split())


# What clients do, or somebody writes down for them.


class Buying(msgspec.Struct, frozen=True):
    reference: str
    package: str
    paid: str
    at: str
    started: str | None = None
    delivered: str | None = None

    def facts(self, scene: Scene) -> Purchase:
        return Purchase(
            reference=self.reference,
            package=self.package,
            paid=money(self.paid),
            purchased_at=scene.moment(self.at),
            service_started_at=scene.moment(self.started) if self.started else None,
            deliverables_provided_at=scene.moment(self.delivered) if self.delivered else None,
        )


def asks(
    name: str,
    email: str,
    category: Category,
    subject: str,
    message: str,
    *,
    bought: Buying | str | None = None,
    received: str | None = None,
    unverified_of: str | None = None,
) -> Doing:
    """Opens the case. `bought` is a purchase with its facts, or the reference of a known one."""
    return lambda scene: c.OpenCase(
        case_id=scene.id_of(scene.name),
        mail_tag=mail_tag(scene.name),
        subject=subject,
        message=message,
        client_name=name,
        client_email=email,
        category=category,
        received_at=scene.moment(received) if received else None,
        purchase=bought.facts(scene) if isinstance(bought, Buying) else None,
        purchase_reference=bought if isinstance(bought, str) else None,
        unverified_of=scene.id_of(unverified_of) if unverified_of else None,
    )


def mail_tag(name: str) -> str:
    """Always the same one: a demonstration has nothing to guard."""
    return "".join(MAIL_TAG_ALPHABET[byte % 32] for byte in sha256(name.encode()).digest()[:8])


def writes(text: str) -> Doing:
    return lambda _: c.AddMessage(direction=Direction.INBOUND, text=text)


# What the desk's people find out.


def investigates(reason: str, assignee: str | None = None) -> Doing:
    return lambda scene: c.Fire(
        trigger=Trigger.INVESTIGATE,
        reason=reason,
        data=c.InvestigateData(assignee=scene.id_of(assignee) if assignee else None),
    )


def records(bought: Buying) -> Doing:
    return lambda scene: c.RecordPurchase(purchase=bought.facts(scene))


def checks(reason: str) -> Doing:
    return lambda _: c.CheckPurchase(reason=reason)


def states(kind: GroundKind, affected: str, statement: str) -> Doing:
    return lambda _: c.RecordGround(kind=kind, affected=money(affected), statement=statement)


def finds(evidence: str, *, verified: bool = True) -> Doing:
    """Judges the ground that was stated last."""
    return lambda scene: c.VerifyGround(ground=scene.case.grounds[-1].id, verified=verified, evidence=evidence)


def attaches(name: str, content_type: str, content: bytes) -> Doing:
    return lambda scene: c.AddAttachment(
        attachment=NewAttachment(
            id=scene.id_of(f"{name} of {scene.name}"), name=name, content_type=content_type, content=content
        )
    )


def notes(text: str) -> Doing:
    return lambda _: c.AddNote(text=text)


def assigns(assignee: str, reason: str) -> Doing:
    return lambda scene: c.Assign(assignee=scene.id_of(assignee), reason=reason)


def recategorizes(category: Category, reason: str) -> Doing:
    return lambda _: c.Recategorize(category=category, reason=reason)


def corrects_receipt(when: str, reason: str) -> Doing:
    return lambda scene: c.CorrectRequestedAt(requested_at=scene.moment(when), reason=reason)


def links(kind: LinkKind, other: str) -> Doing:
    return lambda scene: c.LinkCase(kind=kind, case=scene.id_of(other))


# What they answer.


def answers(text: str, *, awaits_reply: bool = False) -> Doing:
    return lambda _: c.AddMessage(direction=Direction.OUTBOUND, text=text, awaits_reply=awaits_reply)


def bounces(reason: str) -> Doing:
    """The last answer comes back."""
    return lambda scene: c.RecordBounce(message=f"m{scene.case.answers[-1]}", reason=reason)


def needs_no_answer(reason: str) -> Doing:
    return lambda scene: c.WaiveAnswer(message=f"m{scene.case.client_wrote_seq}", reason=reason)


# What they offer, and what becomes of it. Where nothing is named, the latest proposal is meant.


def offers(description: str, answer_by: str, reason: str) -> Doing:
    return lambda scene: c.Fire(
        trigger=Trigger.OFFER_ADJUSTMENT,
        reason=reason,
        data=c.OfferAdjustmentData(description=description, answer_by=scene.moment(answer_by).date()),
    )


def books(starts_at: str, minutes: int, channel: str, reason: str) -> Doing:
    return lambda scene: c.Fire(
        trigger=Trigger.SCHEDULE_CONSULTATION,
        reason=reason,
        data=c.ScheduleConsultationData(starts_at=scene.moment(starts_at), minutes=minutes, channel=channel),
    )


def proposes_times(starts_at: tuple[str, ...], minutes: int, channel: str, text: str) -> Doing:
    return lambda scene: c.ProposeSlots(
        slots=tuple(scene.moment(one) for one in starts_at), minutes=minutes, channel=channel, text=text
    )


def proposes_refund(amount: str, reason: str) -> Doing:
    return lambda _: c.Propose(remedy=RemedyKind.REFUND, amount=money(amount), reason=reason)


def proposes(kind: CompensationKind, amount: str, reason: str) -> Doing:
    return lambda _: c.Propose(remedy=RemedyKind.COMPENSATION, kind=kind, amount=money(amount), reason=reason)


def approves(reason: str) -> Doing:
    return gives(Verdict.APPROVE, reason)


def refuses(reason: str) -> Doing:
    return gives(Verdict.REFUSE, reason)


def gives(verdict: Verdict, reason: str) -> Doing:
    return lambda scene: c.GiveVerdict(
        proposal=scene.proposal.id, verdict=verdict, digest=scene.proposal.digest, reason=reason
    )


def begins_payout(reason: str) -> Doing:
    return lambda scene: c.BeginPayout(proposal=scene.proposal.id, reason=reason)


def fails_payout(reason: str) -> Doing:
    return lambda scene: c.FailPayout(proposal=scene.proposal.id, reason=reason)


def refunds(payment_reference: str, reason: str) -> Doing:
    return lambda scene: c.Fire(
        trigger=Trigger.REFUND,
        reason=reason,
        data=c.RefundData(proposal=scene.proposal.id, payment_reference=payment_reference),
    )


def compensates(reason: str) -> Doing:
    return lambda scene: c.Fire(
        trigger=Trigger.ISSUE_COMPENSATION,
        reason=reason,
        data=c.IssueCompensationData(proposal=scene.proposal.id),
    )


def resumes(reason_code: ResumeReason, reason: str) -> Doing:
    return lambda _: c.Fire(trigger=Trigger.RESUME, reason=reason, data=c.ResumeData(reason_code=reason_code))


def closes(resolution: Resolution, reason: str, duplicate_of: str | None = None) -> Doing:
    return lambda scene: c.Fire(
        trigger=Trigger.CLOSE,
        reason=reason,
        data=c.CloseData(resolution=resolution, duplicate_of=scene.id_of(duplicate_of) if duplicate_of else None),
    )


def reopens(reason: str) -> Doing:
    return lambda _: c.Fire(trigger=Trigger.REOPEN, reason=reason, data=c.ReopenData())
