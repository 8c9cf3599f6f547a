"""Carries out what letters an event asks for: the acknowledgement of an inquiry, a person's message, times to pick."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import structlog

from api.carrying_out import Hopeless, Needless, NotYet, Result
from api.letters.composing import Writing, acknowledgement, footer, slots, subject_of, tagged
from api.letters.drafting import writing_about
from api.letters.links import link_in_letters
from api.mail_addresses import Unmailable, is_own, mailbox_of
from api.mail_building import Content, build, message_id
from storage import acknowledgements, cases, consultations
from storage.outbox import Effect
from workflow.cases import Case, chain_of
from workflow.effects import EffectKind, letter_name
from workflow.events import MessageReceived, MessageSent, Opened, Recorded, SlotsProposed
from workflow.guards import overlapping
from workflow.states import Resolution

if TYPE_CHECKING:
    from api.desk import Desk

log = structlog.get_logger()

APART = timedelta(hours=1)  # acknowledgements to one address
LATER, TOO_LATE = timedelta(minutes=5), timedelta(hours=24)  # beyond the hourly ceiling
NOT_ACKNOWLEDGED = frozenset({Resolution.SPAM, Resolution.DUPLICATE})


async def acknowledge(desk: "Desk", effect: Effect) -> Result:
    """Tell a client that their inquiry has arrived. Once an hour for each address, whoever claims to write from it."""
    if not await desk.post.may_acknowledge(desk.clock()):
        waited = desk.clock() - effect.at
        return Needless(code="too_late") if waited > TOO_LATE else NotYet(after=max(LATER, waited / 4))
    found = await found_for(desk, effect)
    if not isinstance(found, Letter):
        return found
    opened = found.recorded.data
    if not isinstance(opened, Opened):
        return Needless(code="nothing_to_acknowledge")
    if found.writing.case.resolution in NOT_ACKNOWLEDGED:
        return Needless(code=f"closed_as_{found.writing.case.resolution}")
    if await acknowledgements.has_earlier(desk.database, effect, found.address.lower(), effect.at - APART):
        return Needless(code="acknowledged_lately")
    desk.post.acknowledged()
    text = acknowledgement(found.writing, opened, found.url)
    return await send(desk, found, subject_of(found.writing, automatic=True), text, is_automatic=True)


async def letter(desk: "Desk", effect: Effect) -> Result:
    """Bring the client what somebody wrote to them, or proposed."""
    found = await found_for(desk, effect)
    if not isinstance(found, Letter):
        return found
    writing, seq = found.writing, found.recorded.event.seq
    if isinstance(found.recorded.data, SlotsProposed):
        return await slots_letter(desk, found)
    text = writing.texts.get(f"{seq}/text")
    if text is None:
        return Needless(code="erased")
    subject = tagged(writing.texts.get(f"{seq}/subject", "") or subject_of(writing), writing.case.mail_tag)
    return await send(desk, found, subject, f"{text}\n\n{footer(writing, found.url)}")


async def slots_letter(desk: "Desk", found: "Letter") -> Result:
    """Bring the client the times that they can pick from, those that still stand when it leaves.

    They stand until others are proposed, one is booked or the case goes another way; and each of them while it lies
    ahead and nothing else is booked with its host. If none is left, somebody has to propose others.
    """
    writing, now = found.writing, desk.clock()
    proposed = writing.case.proposed_slots
    if proposed is None or proposed.seq != found.recorded.event.seq:
        return Needless(code="slots_replaced")
    taken = await consultations.calendar(desk.database, proposed.host, now)
    free = [one for one in proposed.slots if one > now and overlapping(one, proposed.minutes, taken) is None]
    text = slots(writing, proposed, free, found.url)
    if text is None:
        return Needless(code="erased")
    if not free:
        return Hopeless(code="no_slot_is_free")
    # The link stands where the client is asked to pick.
    return await send(desk, found, subject_of(writing), f"{text}\n\n{footer(writing, None)}")


# What they have in common.


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """What a letter that an event asks for is made from. `url` is where the client sees their case, if anywhere."""

    kind: EffectKind
    recorded: Recorded
    writing: Writing
    address: str
    url: str | None


async def found_for(desk: "Desk", effect: Effect) -> "Letter | Result":
    """Or why there is to be none."""
    case, history = await cases.with_history(desk.database, effect.chain.removeprefix(chain_of("")))
    texts = await cases.texts_of(desk.database, case.id)
    if not 0 < effect.seq <= len(history):
        return Needless(code="nothing_recorded")
    recorded = history[effect.seq - 1]
    if case.client_email not in texts:
        return Needless(code="erased")
    address = texts[case.client_email].strip()
    if not address:
        return Needless(code="no_address")
    try:
        if is_own(address, desk.settings.support_address):
            return Needless(code="own_address")
        mailbox_of(address)
    except Unmailable:
        return Hopeless(code="unmailable_address")
    return Letter(
        kind=effect.kind,
        recorded=recorded,
        writing=writing_about(
            case,
            history[: effect.seq],
            texts,
            context=await desk.context(),
            settings=desk.settings,
            now=desk.clock(),
            language=language_of(recorded),
        ),
        address=address,
        url=url_of(desk, case),
    )


def language_of(recorded: Recorded) -> str | None:
    """That a letter was drafted in."""
    return recorded.data.language if isinstance(recorded.data, MessageSent) else None


def url_of(desk: "Desk", case: Case) -> str | None:
    path = link_in_letters(case, desk.secret, desk.clock())
    return f"{desk.settings.public_url.rstrip('/')}{path}" if path and desk.settings.public_url else None


async def send(desk: "Desk", found: Letter, subject: str, text: str, *, is_automatic: bool = False) -> Result:
    settings, case, recorded = desk.settings, found.writing.case, found.recorded
    thread = [*conversation(found.writing, settings.support_address)]
    content = Content(
        name=letter_name(case.mail_tag, recorded.hash, found.kind),
        subject=subject,
        text=text,
        language=found.writing.words.language.code,
        thread=[one for one, _ in thread],
        answers=next((one for one, is_theirs in reversed(thread) if is_theirs), ""),
        is_automatic=is_automatic,
    )
    mail = build(
        content,
        to=found.address,
        support=settings.support_address,
        tag=case.mail_tag,
        organisation=settings.organisation,
        at=desk.clock(),
    )
    return await desk.post.send(mail)


def conversation(writing: Writing, support: str) -> Iterator[tuple[str, bool]]:
    """The Message-IDs before this letter, oldest first, and whether each is of the client's."""
    tag, *earlier = writing.case.mail_tag, *writing.history
    last = earlier.pop()
    for one in (*earlier, last):
        seq, data = one.event.seq, one.data
        if isinstance(data, Opened | MessageReceived) and (theirs := writing.texts.get(f"{seq}/message_id")):
            yield theirs, True
        if one is last:
            return
        if isinstance(data, Opened) and not data.silent:
            yield message_id(letter_name(tag, one.hash, EffectKind.ACKNOWLEDGE), support), False
        if isinstance(data, MessageSent | SlotsProposed):
            yield message_id(letter_name(tag, one.hash, EffectKind.LETTER), support), False
