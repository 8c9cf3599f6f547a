"""What a client may see of their case, and nothing else: made of what was recorded, in words of one language.

Whatever is not named here never reaches a client: neither who works on it nor what colleagues wrote or found.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from api import views as v
from api.pages.client_words import Words
from workflow.cases import Case, ProposedSlots, RemedyGiven, case_number_text
from workflow.deadlines import DeadlineKind, deadlines
from workflow.events import AttachmentAdded, ConsultationScheduled, OfferAnswered, Recorded
from workflow.guards import Context, GuardContext, Slot, overlapping, within_reopening_days
from workflow.policy import Category, ClauseId
from workflow.roles import CLIENTS, Actor
from workflow.states import CaseState, Direction, RemedyKind, Resolution, ResumeReason

SHOWN_MESSAGES = 40
SLOT_FORMAT = "%Y%m%dT%H%MZ"  # in addresses


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """`until` is the last day for an answer, `seq` what the answer has to name."""

    seq: int
    text: str
    at: str
    until: str


class Time(msgspec.Struct, frozen=True, kw_only=True):
    """A proposed time; `name` is its place in addresses."""

    starts_at: datetime
    name: str
    when: str
    is_free: bool


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """What can be picked from; `seq` is what the pick has to name."""

    seq: int
    minutes: int
    channel: str
    text: str
    times: tuple[Time, ...]

    @property
    def any_free(self) -> bool:
        return any(one.is_free for one in self.times)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A message from the client or to them. `answer` is what it says to an offer, `notes` what else was recorded."""

    is_theirs: bool
    who: str
    at: datetime
    when: str
    text: str
    answer: str = ""
    notes: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    text: str
    notes: tuple[str, ...] = ()


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The whole page. `asked` is what they are asked to answer, if anything is.

    `offer` is what they can take now, `offered` what was offered last and can be answered no more; `earlier` are the
    messages before those that are shown.
    """

    number: str
    subject: str
    where: tuple[str, ...]
    offered: str | None
    given: tuple[str, ...]
    next: tuple[str, ...]
    asked: str | None
    offer: Offer | None
    slots: Times | None
    may_write: bool
    said: tuple[Said, ...]
    earlier: int
    rules: tuple[Rule, ...]
    policy: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Of something that the client did on this page. `what` is message, accepted, declined or picked."""

    number: str
    what: str
    seq: int
    at: datetime
    when: str
    fingerprint: str
    text: str
    offer: str | None
    appointment: str = ""


class Seeing:
    """One case, at one moment, in one language."""

    def __init__(
        self,
        *,
        case: Case,
        history: Sequence[Recorded],
        texts: dict[str, str],
        context: Context,
        words: Words,
        organisation: str,
        now: datetime,
        taken: Sequence[Slot] = (),
    ) -> None:
        """`taken` is what is booked of the time of whoever has proposed slots."""
        self.taken = taken
        self.case = case
        self.history = history
        self.texts = texts
        self.context = context
        self.words = words
        self.organisation = organisation
        self.now = now

    def seen(self, *, all_messages: bool = False) -> Seen:
        case, said = self.case, tuple(self.said())
        hidden = 0 if all_messages else max(0, len(said) - SHOWN_MESSAGES)
        return Seen(
            number=case_number_text(case.number),
            subject=self.text(case.title),
            where=(*self.where(), *self.waits()),
            offered=self.offered_before(),
            given=tuple(self.given()),
            next=tuple(self.next()),
            asked=self.asked(),
            offer=self.offer(),
            slots=self.slots(),
            may_write=self.may_write,
            said=said[hidden:],
            earlier=hidden,
            rules=tuple(self.rules()),
            policy=self.context.policy_for(case).version,
        )

    @property
    def last(self) -> RemedyGiven:
        """The latest remedy; only of a case that has had one."""
        return self.case.remedies[-1]

    @property
    def may_write(self) -> bool:
        """For as long as the case could be taken up again; what comes later becomes a case of its own."""
        client = Actor(kind="client", id="", roles=CLIENTS)
        asked = GuardContext(case=self.case, actor=client, now=self.now, context=self.context)
        return within_reopening_days(asked) is None

    # Where it stands.

    def where(self) -> Iterator[str]:
        case, words = self.case, self.words
        match case.state:
            case CaseState.OPENED:
                asked = "" if case.waiting_since is None else ".asked"
                yield words(f"where.opened{asked}", received=words.day(case.received_at))
            case CaseState.INVESTIGATING:
                yield self.investigating()
            case CaseState.ADJUSTMENT_OFFERED:
                yield self.offered()
            case CaseState.CONSULTATION_SCHEDULED:
                yield words(f"where.consultation_scheduled{self.over()}", **self.appointment(self.last))
            case CaseState.COMPENSATION_ISSUED:
                yield words("where.compensation_issued", **self.payment(self.last))
            case CaseState.REFUNDED:
                yield words("where.refunded", **self.payment(self.last))
            case CaseState.CLOSED if case.resolution is not None and case.closed_at is not None:
                yield words(f"where.closed.{case.resolution}", closed=words.day(case.closed_at))

    def over(self) -> str:
        """What became of the consultation, as far as that was recorded."""
        if isinstance(self.last.attended, bool):
            return ".attended" if self.last.attended else ".missed"
        return "" if self.now < self.ends_at() else ".past"

    def investigating(self) -> str:
        if not self.case.remedies:
            return self.words("where.investigating")
        if self.last.ended == ResumeReason.PAYMENT_FAILED:
            return self.words("where.investigating.payment_failed", **self.payment(self.last))
        return self.words("where.investigating.again")

    def offered(self) -> str:
        words, offer = self.words, self.last
        if isinstance(offer.accepted, bool):
            answer = "accepted" if offer.accepted else "declined"
            return words(f"where.adjustment_offered.{answer}", answered=self.answered(offer))
        if self.case.offer_due is not None and self.now > self.case.offer_due:
            return words("where.adjustment_offered.over", until=words.day(self.case.offer_due))
        return words("where.adjustment_offered")

    def waits(self) -> Iterator[str]:
        """For an answer to something else than an offer that says so itself."""
        if self.case.waiting_since is not None and self.case.open_offer is None:
            yield self.words("where.slots" if self.case.proposed_slots else "where.waiting")

    def answered(self, offer: RemedyGiven) -> str:
        """When the client answered it."""
        answers = (
            one.at for one in self.history if isinstance(one.data, OfferAnswered) and one.data.offer == offer.seq
        )
        return self.words.day(next(answers))

    def ends_at(self) -> datetime:
        return (self.last.starts_at or self.now) + timedelta(minutes=self.last.minutes or 0)

    def appointment(self, remedy: RemedyGiven) -> dict[str, object]:
        starts_at, channel = remedy.starts_at or remedy.at, remedy.channel
        return {
            "starts": self.words.moment(starts_at),
            "minutes": remedy.minutes,
            "channel": self.text(channel) if channel else "",
        }

    def payment(self, remedy: RemedyGiven) -> dict[str, object]:
        """What was granted or paid, and when it was recorded."""
        proposal = self.case.proposal(remedy.proposal)
        kind = proposal.kind if proposal else None
        return {
            "amount": self.words.money(proposal.amount) if proposal else "",
            "at": self.words.day(remedy.at),
            "what": self.words(f"kind.{kind}") if kind else "",
            "What": self.words(f"Kind.{kind}") if kind else "",
        }

    # What was given, and holds.

    def given(self) -> Iterator[str]:
        for remedy in self.case.remedies:
            if remedy.ended is None:
                yield from self.held(remedy)

    def held(self, remedy: RemedyGiven) -> Iterator[str]:
        words = self.words
        match remedy.kind:
            case RemedyKind.REFUND | RemedyKind.COMPENSATION:
                yield words(f"given.{remedy.kind}", **self.payment(remedy))
            case RemedyKind.CONSULTATION:
                yield words("given.consultation", **self.appointment(remedy))
            case RemedyKind.ADJUSTMENT if self.case.resolution is Resolution.REMEDY_ACCEPTED:
                yield words("given.adjustment", at=words.day(remedy.at))
            case _:
                pass

    # What happens next.

    def next(self) -> Iterator[str]:
        case, words = self.case, self.words
        if case.state is CaseState.CLOSED:
            yield self.after_closing()
            return
        if case.state is CaseState.CONSULTATION_SCHEDULED and self.now < self.ends_at():
            yield words("next.consultation", **self.appointment(self.last))
        if case.state in {CaseState.COMPENSATION_ISSUED, CaseState.REFUNDED}:
            yield words("next.settled")
        if case.waiting_since is not None:
            yield words("next.waiting")
            return
        due = {one.kind: one.due_at for one in deadlines(case)}
        for kind in (DeadlineKind.FIRST_ANSWER, DeadlineKind.NEXT_UPDATE):
            if kind in due:
                late = ".late" if due[kind] < self.now else ""
                yield words(f"next.{kind}{late}", due=words.moment(due[kind]))
                return

    def after_closing(self) -> str:
        days = self.context.settings_now(self.now).reopening_days
        if not self.may_write or self.case.closed_at is None:
            return self.words("next.ended")
        return self.words("next.closed", until=self.words.day(self.case.closed_at + timedelta(days=days)))

    # What is expected of them.

    def asked(self) -> str | None:
        if self.case.waiting_since is None or self.offer() is not None or self.case.proposed_slots is not None:
            return None
        if self.case.open_offer is not None:
            return self.words("needs.offer.over")
        return self.words("needs.answer", asked=self.words.day(self.case.waiting_since))

    def offer(self) -> Offer | None:
        """That can still be answered."""
        offer, due = self.case.open_offer, self.case.offer_due
        if offer is None or due is None or self.now > due:
            return None
        return Offer(
            seq=offer.seq,
            text=self.offer_text(offer),
            at=self.words.day(offer.at),
            until=self.words.day(due),
        )

    # Slots for a consultation.

    def slots(self) -> Times | None:
        proposed = self.case.proposed_slots
        if proposed is None:
            return None
        return Times(
            seq=proposed.seq,
            minutes=proposed.minutes,
            channel=self.text(proposed.channel),
            text=self.text(proposed.text) if proposed.text else "",
            times=tuple(self.times(proposed)),
        )

    def times(self, proposed: ProposedSlots) -> Iterator[Time]:
        for starts_at in proposed.slots:
            is_free = starts_at > self.now and overlapping(starts_at, proposed.minutes, self.taken) is None
            name, when = starts_at.strftime(SLOT_FORMAT), self.words.moment(starts_at)
            yield Time(starts_at=starts_at, name=name, when=when, is_free=is_free)

    def picked(self, offer: int, starts_at: datetime) -> int | None:
        """The event by which a client has picked this slot of this proposal."""
        for one in self.history:
            data = one.data
            if isinstance(data, ConsultationScheduled) and (data.slot_of, data.starts_at) == (offer, starts_at):
                return one.event.seq if one.event.actor.startswith("client:") else None
        return None

    def offered_before(self) -> str | None:
        if self.case.state is not CaseState.ADJUSTMENT_OFFERED or self.offer() is not None:
            return None
        return self.offer_text(self.last)

    def offer_text(self, offer: RemedyGiven) -> str:
        return self.text(offer.description) if offer.description else ""

    # What was said.

    def said(self) -> Iterator[Said]:
        files = Counter(one.data.message for one in self.history if isinstance(one.data, AttachmentAdded))
        for one in v.messages_of(self.history, self.texts):
            at, seq = datetime.fromisoformat(one["at"]), one["id"].removeprefix("m")
            is_kept = not one["text"] or any(f"{seq}/{field}" in self.texts for field in ("text", "message"))
            yield Said(
                is_theirs=one["direction"] is Direction.INBOUND,
                who=self.who(one),
                at=at,
                when=self.words.moment(at),
                text=one["text"] if is_kept else self.words("message.erased"),
                answer=self.answer(one),
                notes=tuple(self.notes(files[one["id"]], is_lost="bounced" in one)),
            )

    def who(self, message: v.MessageView) -> str:
        """Never anybody's name; those who want to be known sign what they write."""
        by = message["by"].partition(":")[0]
        if message["direction"] is Direction.INBOUND:
            return self.words("message.you.noted" if by == "person" else "message.you")
        return self.words("message.us" if by == "person" else "message.us.automatic", organisation=self.organisation)

    def answer(self, message: v.MessageView) -> str:
        if "accepts" not in message:
            return ""
        return self.words("message.accepted" if message["accepts"] else "message.declined")

    def notes(self, files: int, *, is_lost: bool) -> Iterator[str]:
        if files:
            yield self.words("message.files", count=files)
        if is_lost:
            yield self.words("message.bounced")

    # The rules.

    def rules(self) -> Iterator[Rule]:
        """Chosen by what the inquiry is about, never by what was found: that is told in letters."""
        version = self.context.policy_for(self.case)
        wanted = {*ALWAYS, *ALSO.get(self.case.category, ())}
        decided = set(self.deciding())
        for clause in version.clauses:
            if clause.id in wanted | decided:
                notes = []
                if clause.id is ClauseId.P5:
                    notes.append(self.words("rules.window", days=version.settings.window_days))
                if clause.id in decided:
                    notes.append(self.words("rules.decided"))
                yield Rule(id=clause.id, text=clause.text, notes=tuple(notes))

    def deciding(self) -> Iterator[str]:
        """The clauses of refunds that were made."""
        for remedy in self.case.remedies:
            proposal = self.case.proposal(remedy.proposal)
            if remedy.ended is None and proposal is not None and proposal.judgement is not None:
                yield from proposal.judgement.clauses

    # Receipts.

    def receipt(self, seq: int) -> Receipt | None:
        """Of what the client did here; None for anything else."""
        found = next((one for one in self.history if one.event.seq == seq), None)
        if found is None or not found.event.actor.startswith("client:"):
            return None
        what, offer = "message", None
        if isinstance(found.data, OfferAnswered):
            what = "accepted" if found.data.accepted else "declined"
            offer = next(self.offer_text(one) for one in self.case.remedies if one.seq == found.data.offer)
        appointment = ""
        if isinstance(found.data, ConsultationScheduled):
            what, starts = "picked", self.words.moment(found.data.starts_at)
            channel = self.text(f"{seq}/channel")
            appointment = self.words("receipt.appointment", starts=starts, minutes=found.data.minutes, channel=channel)
        return Receipt(
            number=case_number_text(self.case.number),
            appointment=appointment,
            what=what,
            seq=seq,
            at=found.at,
            when=self.words.moment(found.at),
            fingerprint=fingerprint(found.hash),
            text=self.texts.get(f"{seq}/text", ""),
            offer=offer,
        )

    def text(self, pointer: str) -> str:
        return self.texts.get(pointer, self.words("message.erased"))


# P4 with its two exceptions decides every case, whatever it is about.
ALWAYS = (ClauseId.P3, ClauseId.P4, ClauseId.P5, ClauseId.P6, ClauseId.P9)
ALSO: dict[Category, tuple[ClauseId, ...]] = {
    Category.CANCELLATION: (ClauseId.P1,),
    Category.RESULTS: (ClauseId.P7, ClauseId.P8),
    Category.DELAY: (ClauseId.P2, ClauseId.P8),
    Category.MISCOMMUNICATION: (ClauseId.P2, ClauseId.P8),
    Category.OTHER: (ClauseId.P2,),
}


def fingerprint(digest: str) -> str:
    """The first 64 bits, as people read them out: `3f9a 12bc 77de 01aa`."""
    return " ".join(digest[at : at + 4] for at in range(0, 16, 4))
