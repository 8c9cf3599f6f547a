"""Writes letters from what was recorded: nothing stands in one that the log does not say, or the language's file.

Pure: a case, its texts and a language go in, a text comes out. What an agent makes of a draft is theirs.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime

import msgspec

from api.letters.languages import Words
from workflow.cases import Case, Proposal, ProposedSlots, case_number_text
from workflow.commands import Basis
from workflow.events import Opened, Recorded
from workflow.guards import Context
from workflow.letters import rests_on
from workflow.money import Money
from workflow.policy import CLAUSES, ClauseId, Facts, PolicyVersion, ReasonCode, Refund
from workflow.states import LetterKind

MAX_SUBJECT = 78
CONTROLS = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")
REPLY = re.compile(r"^(?:(?:re|aw|wg|fw|fwd|відп|vs|sv)\s*:\s*)+", re.IGNORECASE)


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A letter for somebody to read over; `basis` is the seq of the event that it rests on."""

    kind: LetterKind
    subject: str
    text: str
    language: str
    basis: int


class Writing(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that letters about one case are written from."""

    case: Case
    history: Sequence[Recorded]
    texts: Mapping[str, str]
    context: Context
    words: Words
    organisation: str

    @property
    def number(self) -> str:
        return case_number_text(self.case.number)

    @property
    def policy(self) -> PolicyVersion:
        return self.context.policy_for(self.case)

    def policy_version(self, number: int) -> PolicyVersion:
        return next((one for one in self.context.policies if one.version == number), self.policy)


def draft(writing: Writing, basis: Basis, signed_by: str) -> Draft | None:
    """The letter of the basis's kind; None where what it rests on has been erased or is not in the history."""
    seq = rests_on(basis.kind, writing.history)
    paragraphs = [*LETTERS[basis.kind](writing, basis)]
    if seq is None or None in paragraphs:
        return None
    return Draft(
        kind=basis.kind,
        subject=subject_of(writing),
        text="\n\n".join(
            [
                greeting(writing.words, writing.texts.get(writing.case.client_name, "")),
                *(one for one in paragraphs if one),
                signature(writing, signed_by),
            ]
        ),
        language=writing.words.language.code,
        basis=seq,
    )


# Around every letter.


def subject_of(writing: Writing, *, automatic: bool = False) -> str:
    """On one line, with the tag by which an answer finds the case.

    What somebody wrote in the subject goes to whatever address they gave: an automatic mail repeats nothing of it.
    """
    case, words = writing.case, writing.words
    ours = words("subject", number=writing.number)
    if automatic:
        return tagged(ours, case.mail_tag)
    said = one_line(writing.texts.get(case.subject, "")) or ours
    return tagged(f"Re: {shortened(REPLY.sub('', said))}", case.mail_tag)


def tagged(subject: str, mail_tag: str) -> str:
    """The subject on one line, with the case's tag; it is put in again where somebody has taken it out."""
    tag, said = f"[#{mail_tag}]", one_line(subject)
    return said if tag.lower() in said.lower() else f"{said} {tag}".strip()


def one_line(text: str) -> str:
    return CONTROLS.sub(" ", text).strip()


def shortened(text: str) -> str:
    return text if len(text) <= MAX_SUBJECT else text[: MAX_SUBJECT - 1].rstrip() + "…"


def greeting(words: Words, name: str) -> str:
    name = one_line(name)
    return words("greeting.name", name=name) if name else words("greeting")


def signature(writing: Writing, signed_by: str) -> str:
    return "\n".join(filter(None, (writing.words("sign_off"), one_line(signed_by), writing.organisation)))


def footer(writing: Writing, url: str | None) -> str:
    """What the desk adds below a person's letter; the address of the client's page is kept nowhere."""
    lines = [writing.words("footer.answer", number=writing.number)]
    if url is not None:
        lines.append(writing.words("footer.link", url=url))
    return "\n".join(lines)


# The acknowledgement.


def acknowledgement(writing: Writing, opened: Opened, url: str | None) -> str:
    """That the inquiry has arrived, what happens next and by when. It repeats nothing that the client wrote."""
    words = writing.words
    paragraphs = [
        words("greeting"),
        words("acknowledgement.thanks", number=writing.number),
        words("acknowledgement.next", due=words.moment(opened.first_answer_due)),
        *([f"{words('acknowledgement.link')}\n{url}"] if url is not None else []),
        words("acknowledgement.add", tag=f"[#{opened.mail_tag}]"),
        signature(writing, ""),
        words("acknowledgement.automatic"),
    ]
    return "\n\n".join(paragraphs)


# Times for a consultation, of which the client picks one.


def slots(writing: Writing, proposed: ProposedSlots, free: Iterable[datetime], url: str | None) -> str | None:
    """What somebody has proposed, with what they say to it, and how to pick: on the client's page, or by a reply.

    None where it has been erased.
    """
    words, texts = writing.words, writing.texts
    if proposed.channel not in texts:
        return None
    pick = f"{words('slots.pick')}\n{url}\n{words('slots.reply')}" if url is not None else words("slots.answer")
    paragraphs = [
        greeting(words, writing.texts.get(writing.case.client_name, "")),
        texts.get(proposed.text or ""),
        listed(words("slots.times", number=writing.number), map(words.moment, free)),
        words("consultation.long", minutes=proposed.minutes)
        + "\n"
        + words("consultation.how", channel=texts[proposed.channel]),
        pick,
        words("slots.others"),
        signature(writing, ""),
    ]
    return "\n\n".join(one for one in paragraphs if one)


# One letter per outcome, paragraph by paragraph; None stands for a text that has been erased.

Paragraphs = Iterator[str | None]


def adjustment(writing: Writing, basis: Basis) -> Paragraphs:
    words, offer = writing.words, basis.remedy
    if offer is None or offer.description is None or offer.answer_by is None:
        yield None
        return
    yield words("adjustment.intro", number=writing.number)
    yield writing.texts.get(offer.description)
    yield words("adjustment.answer", until=words.day(date.fromisoformat(offer.answer_by)))
    yield words("adjustment.results")
    yield rules(writing, writing.policy, ClauseId.P3, ClauseId.P7)


def consultation(writing: Writing, basis: Basis) -> Paragraphs:
    words, booked = writing.words, basis.remedy
    if booked is None or booked.starts_at is None or booked.channel is None or booked.channel not in writing.texts:
        yield None
        return
    yield words("consultation.intro", number=writing.number)
    yield "\n".join(
        (
            words("consultation.when", starts=words.moment(booked.starts_at)),
            words("consultation.long", minutes=booked.minutes),
            words("consultation.how", channel=writing.texts[booked.channel]),
        )
    )
    yield words("consultation.change")
    yield rules(writing, writing.policy, ClauseId.P3)


def compensation(writing: Writing, basis: Basis) -> Paragraphs:
    words, proposal = writing.words, basis.proposal
    if proposal is None or proposal.kind is None:
        yield None
        return
    yield words("compensation.intro", number=writing.number)
    yield words(f"compensation.{proposal.kind}", amount=words.money(proposal.amount))
    reason = writing.texts.get(proposal.reason)
    yield reason and f"{words('compensation.why')}\n{reason}"
    yield rules(writing, writing.policy, ClauseId.P3)
    yield words("compensation.else")


def refund(writing: Writing, basis: Basis) -> Paragraphs:
    words, proposal, remedy = writing.words, basis.proposal, basis.remedy
    if proposal is None or remedy is None or basis.paid is None or proposal.judgement is None:
        yield None
        return
    judgement = proposal.judgement
    version = writing.policy_version(judgement.policy)
    paid = words.money(basis.paid)
    yield words(f"{basis.kind}.intro", number=writing.number, amount=words.money(proposal.amount), paid=paid)
    yield shares(writing, proposal)
    yield " ".join(
        (
            words("refund.payment", at=words.day(remedy.at), reference=proposal.payment_reference),
            words("refund.expect"),
        )
    )
    if ReasonCode.BEFORE_DELIVERY in judgement.reasons:
        reason = reason_text(writing, version, ReasonCode.BEFORE_DELIVERY, judgement.facts, judgement.maximum)
        yield f"{words('refund.why')}\n{reason}"
    yield rules(writing, version, *(ClauseId(one) for one in judgement.clauses))


def shares(writing: Writing, proposal: Proposal) -> str:
    """Which part of the amount each ground carries; empty where the whole payment goes back whatever went wrong."""
    words, lines = writing.words, []
    for share in proposal.shares:
        if (ground := writing.case.ground(share.ground)) is not None:
            amount = words.money(Money(share.amount_minor, proposal.amount.currency))
            lines.append(words("refund.share", ground=words(f"ground.{ground.kind}"), amount=amount))
    return listed(words("refund.shares"), lines) if lines else ""


def no_refund(writing: Writing, basis: Basis) -> Paragraphs:
    words, decision, facts = writing.words, basis.decision, basis.facts
    if decision is None or facts is None or decision.refund is not Refund.NONE:
        yield None
        return
    version = writing.policy_version(decision.policy)
    reasons = [reason_text(writing, version, one.code, facts, decision.maximum) for one in decision.reasons]
    yield listed(words("no_refund.intro", number=writing.number, requested=words.day(facts.requested_at)), reasons)
    yield listed(words("no_refund.clauses"), [rule(writing, version, one) for one in decision.clauses])
    yield listed(words("no_refund.remedies"), [words(f"remedy.{one}") for one in decision.remedies])
    yield words("no_refund.else")


def closing(writing: Writing, basis: Basis) -> Paragraphs:
    words = writing.words
    if basis.resolution is None or basis.reopens_until is None:
        yield None
        return
    yield words(f"closing.{basis.resolution}", number=writing.number)
    yield words("closing.reopen", until=words.moment(basis.reopens_until))


LETTERS: dict[LetterKind, Callable[[Writing, Basis], Paragraphs]] = {
    LetterKind.ADJUSTMENT: adjustment,
    LetterKind.CONSULTATION: consultation,
    LetterKind.COMPENSATION: compensation,
    LetterKind.REFUND_FULL: refund,
    LetterKind.REFUND_PART: refund,
    LetterKind.NO_REFUND: no_refund,
    LetterKind.CLOSING: closing,
}


# Reasons and clauses in plain words.


def reason_text(writing: Writing, version: PolicyVersion, code: ReasonCode, facts: Facts, maximum: Money | None) -> str:
    """As the policy gives the reason in English, in the letter's language."""
    words, settings, purchase = writing.words, version.settings, facts.purchase
    dates = {"requested": words.day(facts.requested_at), "days": settings.window_days}
    if purchase is not None:
        dates |= {"purchased": words.day(purchase.purchased_at), "paid": words.money(purchase.paid)}
    kinds = tuple(settings.grounds)
    match code:
        case ReasonCode.NOTHING_LEFT if purchase is not None and not purchase.paid.amount_minor:
            return words("reason.nothing_paid")
        case ReasonCode.BEFORE_DELIVERY:
            started = purchase.service_started_at if purchase else None
            missing = "not_started" if started is None or started > facts.requested_at else "nothing_provided"
            return words(f"reason.{code}.{missing}", **dates)
        case ReasonCode.GROUND_VERIFIED:
            verified = {one.kind for one in facts.grounds if one.verified}
            grounds = named(words, (one for one in kinds if one in verified))
            if maximum is None or not maximum.amount_minor:
                return words("reason.ground_verified.settled", grounds=grounds)
            return words("reason.ground_verified", grounds=grounds, amount=words.money(maximum))
        case ReasonCode.GROUND_UNVERIFIED:
            unverified = {one.kind for one in facts.grounds if not one.verified}
            return words(f"reason.{code}", grounds=named(words, (one for one in kinds if one in unverified)))
        case ReasonCode.NO_GROUND:
            return words(f"reason.{code}", grounds=named(words, kinds))
        case _:
            return words(f"reason.{code}", **dates)


def named(words: Words, kinds: Iterable[str]) -> str:
    return "; ".join(words(f"ground.{kind}") for kind in kinds)


def rules(writing: Writing, version: PolicyVersion, *ids: ClauseId) -> str:
    return "\n".join((writing.words("rules"), *(rule(writing, version, one) for one in ids)))


def rule(writing: Writing, version: PolicyVersion, clause_id: ClauseId) -> str:
    return writing.words("rule", clause=clause_id.value, text=clause(writing, version, clause_id))


def clause(writing: Writing, version: PolicyVersion, clause_id: ClauseId) -> str:
    """In the letter's language; a desk that has worded the clause itself is quoted instead."""
    said = next(one.text for one in version.clauses if one.id == clause_id)
    usual = next(one.text for one in CLAUSES if one.id == clause_id)
    if said != usual:
        return said
    return writing.words(f"clause.{clause_id}", days=version.settings.window_days)


def listed(head: str, lines: Iterable[str]) -> str:
    return "\n".join((head, *(f"- {one}" for one in lines)))
