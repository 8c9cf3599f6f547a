"""Takes mail in: a letter opens a case, joins one, is known already, or is set aside with the reason."""

import asyncio
import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from functools import partial
from hashlib import sha256
from pathlib import Path

import asyncpg
import msgspec
import structlog

from api.desk import Desk, new_case_id, new_mail_tag
from api.errors import problem_of
from api.inputs import KIND
from api.mail_files import Found, NoMail, Unread, mails_in
from api.mail_parsing import Attachment, Limits, Mail, UnreadableMail, parse_mail
from storage import cases
from storage import mail as mails
from storage.batch import Entry, letter_ref
from storage.database import Database, SqliteDatabase
from storage.sqlite import driver
from storage.submissions import DuplicateMail, OutcomeUnknown, Unavailable
from workflow.cases import NewAttachment
from workflow.commands import AddMessage, Command, OpenCase, RecordBounce
from workflow.desk import SetMailAside
from workflow.effects import LETTERS, EffectKind, effects_of, letter_name
from workflow.errors import CaseworkError
from workflow.events import MessageBounced
from workflow.guards import GuardContext, within_reopening_days
from workflow.policy import Category
from workflow.roles import system_actor
from workflow.states import Direction, MailKind

log = structlog.get_logger()

PART = "mail"  # of the system, as the log names it

FURTHER_ATTEMPTS = 2
CANNOT_NOW = (Unavailable, OutcomeUnknown)
# A mail tag that is taken already, a commit whose answer was lost: everything is looked up anew.
TRY_AGAIN = (*CANNOT_NOW, driver.IntegrityError, asyncpg.IntegrityConstraintViolationError)

SHORT_BYTES = 100_000

MAX_REFERENCES = 1_000  # the latest; more are no thread
MAX_SUBJECT_CHARACTERS = 2_000
MAX_NAME_CHARACTERS = 200
MAX_SET_ASIDE_CHARACTERS = 20_000
MAX_MESSAGE_ID_CHARACTERS = 500  # of a longer one no mail program could make a header line
EARLIEST_YEAR = 1970  # an earlier time of receipt is a broken clock


# A letter of ours by its Message-ID. What stands behind the @ may have changed with the desk's address since.
OUR_LETTER = re.compile(r"<(c\.[0-9a-f]{32})@[^<>]*>")
LETTER_OF = {
    EffectKind.ACKNOWLEDGE: MailKind.ACKNOWLEDGEMENT,
    EffectKind.LETTER: MailKind.MESSAGE,
    EffectKind.INVITE: MailKind.INVITATION,
}
# Answered by machines as well, so that no machine of ours writes to them.
NOBODY_READS = re.compile(r"postmaster|root|daemon|abuse")


class Outcome(StrEnum):
    OPENED = "opened"
    JOINED = "joined"
    BOUNCED = "bounced"  # a letter of ours, shown on its case
    DUPLICATE = "duplicate"
    SET_ASIDE = "set_aside"


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a mail: the case that it opened, joined or told of a bounce, or why it was set aside."""

    outcome: Outcome
    case_id: str | None = None
    reason: str | None = None


async def take_in(
    desk: Desk, raw: bytes, *, arrived_at: datetime, trust_dates: bool = False, silent: bool = False
) -> Taken:
    """Deliver one mail, durably. Delivered again, at the same time or years later, it has no second effect.

    `silent`: the client is not told of a case that it opens.
    Raises Unavailable, OutcomeUnknown or the database's own error when the desk cannot take it now: whatever is
    raised, keep the mail and deliver it again.
    """
    try:
        for _ in range(FURTHER_ATTEMPTS):
            with suppress(*TRY_AGAIN):
                return await deliver(desk, raw, arrived_at, trust_dates=trust_dates, silent=silent)
        return await deliver(desk, raw, arrived_at, trust_dates=trust_dates, silent=silent)
    except DuplicateMail:
        return Taken(outcome=Outcome.DUPLICATE)


async def deliver(desk: Desk, raw: bytes, arrived_at: datetime, *, trust_dates: bool, silent: bool) -> Taken:
    """Raises DuplicateMail as well."""
    read = partial(
        parse_mail,
        raw,
        arrived_at=arrived_at,
        support_address=desk.settings.support_address,
        trusted_host=desk.settings.mail_host,
        trust_dates=trust_dates,
        limits=Limits(attachment_bytes=desk.settings.max_attachment_bytes),
    )
    try:
        # The hop to a thread costs more than reading a short letter; a long one must not hold up the desk.
        mail = read() if len(raw) <= SHORT_BYTES else await asyncio.to_thread(read)
    except UnreadableMail as unreadable:
        return await set_raw_aside(desk, raw, unreadable.reason)
    itself = mail_ref(mail.digest)
    named = [ref for one in (*reversed(mail.references),)[:MAX_REFERENCES] for ref in refs_of(one)]
    known = await mails.remembered(desk.database, (itself, *named))
    if itself in known:
        raise DuplicateMail
    place = await place_of(desk, mail, [known.get(ref) for ref in named])
    reason = mail.automatic or (None if mail.sender else "no_sender")
    if reason == "calendar_reply" and mail.sender and place.joins is not None:
        reason = None  # nobody is acknowledged who joins, so that no two machines can answer each other
    if reason is not None:
        bounced = await returned_letter(desk, mail)
        return await note_bounce(desk, mail, bounced) if bounced else await set_aside(desk, aside(mail, reason), itself)
    try:
        return await keep(desk, mail, place, silent=silent)
    except (DuplicateMail, *CANNOT_NOW):
        raise
    except CaseworkError as refusal:
        code = problem_of(refusal, "")[0]["code"]
        log.warning("mail_refused", code=code)
        return await set_aside(desk, aside(mail, f"refused: {code}"), itself)


def mail_ref(digest: bytes) -> str:
    """What the very same mail is recognised by."""
    return f"mail:{digest.hex()}"


def id_ref(message_id: str) -> str:
    """What a mail that refers to this Message-ID finds its case by."""
    return f"id:{sha256(message_id.encode()).hexdigest()}"


def refs_of(message_id: str) -> tuple[str, ...]:
    """By what a Message-ID may be remembered: as a letter of ours, or as a mail that arrived."""
    ours = OUR_LETTER.fullmatch(message_id)
    return (letter_ref(ours[1]), id_ref(message_id)) if ours else (id_ref(message_id),)


# Where a letter belongs.


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The case that a letter joins; or what the case that it opens has to do with another one."""

    joins: str | None = None
    follows: str | None = None
    unverified_of: str | None = None


async def place_of(desk: Desk, mail: Mail, referred_to: Iterable[str | None]) -> Place:
    """By the cases that it refers to, latest first, and by its tags; they count only for a participant of the case.

    Whoever forges a sender may know a tag as well, so such a mail is never taken for a participant's.
    """
    tagged = await mails.tagged(desk.database, mail.tags) if mail.tags else {}
    candidates = dict.fromkeys(filter(None, (*referred_to, *map(tagged.get, mail.tags))))
    for case_id in candidates:
        entry = await cases.one(desk.database, case_id)
        if entry is not None and not mail.forged and mail.sender in participants_of(entry):
            open_to_it = await still_takes_mail(desk, entry)
            return Place(joins=case_id) if open_to_it else Place(follows=case_id)
    return Place(unverified_of=next(iter(candidates), None))


def participants_of(entry: Entry) -> set[str]:
    """Lower-cased; without those that were erased."""
    return {entry.texts[one].lower() for one in entry.case.participants if one in entry.texts}


async def still_takes_mail(desk: Desk, entry: Entry) -> bool:
    """For as long as somebody could reopen it."""
    now, context = desk.clock(), await desk.context()
    asked = GuardContext(case=entry.case, actor=system_actor(PART), now=now, context=context)
    return within_reopening_days(asked) is None


# What is done with it.


async def keep(desk: Desk, mail: Mail, place: Place, *, silent: bool) -> Taken:
    message_id = mail.message_id or ""
    message_id = message_id if len(message_id) <= MAX_MESSAGE_ID_CHARACTERS else ""
    attachments = tuple(evidence(one) for one in mail.attachments)
    subject = mail.subject[:MAX_SUBJECT_CHARACTERS]
    command: Command
    if place.joins is not None:
        command = AddMessage(
            direction=Direction.INBOUND,
            text=mail.text,
            subject=subject,
            sender=mail.sender,
            message_id=message_id,
            attachments=attachments,
        )
    else:
        command = OpenCase(
            case_id=new_case_id(desk.clock()),
            mail_tag=new_mail_tag(),
            subject=subject,
            message=mail.text,
            client_name=mail.sender_name[:MAX_NAME_CHARACTERS],
            client_email=mail.sender,
            category=Category.OTHER,  # what it is about is for a person to say
            received_at=received_at(mail, desk.clock()),
            follows=place.follows,
            unverified_of=place.unverified_of,
            silent=silent or mail.forged or NOBODY_READS.fullmatch(mail.sender.partition("@")[0]) is not None,
            message_id=message_id,
            attachments=attachments,
        )
    refs = (mail_ref(mail.digest), *([id_ref(mail.message_id)] if mail.message_id else []))
    receipt = await desk.submit_as_system(PART, command, place.joins, via="mail", mail_refs=refs)
    outcome = Outcome.OPENED if place.joins is None else Outcome.JOINED
    return Taken(outcome=outcome, case_id=receipt.case.id if receipt.case else None)


def evidence(attachment: Attachment) -> NewAttachment:
    kind = attachment.content_type
    return NewAttachment(
        id=str(uuid.uuid4()),
        name=attachment.name,
        content_type=kind if KIND.fullmatch(kind) else "application/octet-stream",
        content=attachment.content,
        problem=attachment.problem,
    )


def received_at(mail: Mail, now: datetime) -> datetime:
    """Never in the future, whatever a mail server's clock says."""
    return now if mail.received_at.year < EARLIEST_YEAR else min(mail.received_at, now)


def aside(mail: Mail, reason: str) -> SetMailAside:
    subject, text = mail.subject[:MAX_SUBJECT_CHARACTERS], mail.text[:MAX_SET_ASIDE_CHARACTERS]
    return SetMailAside(reason=reason, sender=mail.sender, subject=subject, text=text)


async def set_raw_aside(desk: Desk, raw: bytes, reason: str) -> Taken:
    """For mail that cannot be read, or taken in: with its beginning, as far as it can be shown."""
    beginning = raw[:MAX_SET_ASIDE_CHARACTERS].decode(errors="replace").replace("\0", "\ufffd")
    command = SetMailAside(reason=reason, sender="", subject="", text=beginning)
    return await set_aside(desk, command, mail_ref(sha256(raw).digest()))


async def set_aside(desk: Desk, command: SetMailAside, itself: str) -> Taken:
    await desk.submit_as_system(PART, command, via="mail", mail_refs=(itself,))
    return Taken(outcome=Outcome.SET_ASIDE, reason=command.reason)


# Letters of ours that come back.


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """A letter of ours; `message` and `letter` as `RecordBounce` has them."""

    case_id: str
    message: str
    letter: MailKind


async def returned_letter(desk: Desk, mail: Mail) -> Returned | None:
    """The first of those that the mail returns which is ours, unless its case knows already.

    Only its readers know a letter's name, so nothing else has to be proved; who returned it says little.
    """
    names = [found[1] for one in mail.bounced[:MAX_REFERENCES] if (found := OUR_LETTER.fullmatch(one))]
    known = await mails.remembered(desk.database, map(letter_ref, names)) if names else {}
    for name in names:
        case_id = known.get(letter_ref(name))
        letter = await letter_named(desk, case_id, name) if case_id else None
        if letter is not None:
            return letter
    return None


async def letter_named(desk: Desk, case_id: str, name: str) -> Returned | None:
    """None where it is known to have come back."""
    entry = await cases.one(desk.database, case_id)
    history = [one for one, _ in await cases.events(desk.database, case_id)] if entry else []
    known = {(one.data.message, one.data.mail) for one in history if isinstance(one.data, MessageBounced)}
    for one in history:
        for kind in LETTERS & {*effects_of(one)}:
            if entry is not None and letter_name(entry.case.mail_tag, one.hash, kind) == name:
                found = Returned(case_id=case_id, message=f"m{one.event.seq}", letter=LETTER_OF[kind])
                return None if (found.message, found.letter) in known else found
    return None


async def note_bounce(desk: Desk, mail: Mail, returned: Returned) -> Taken:
    command = RecordBounce(message=returned.message, mail=returned.letter, reason=mail.bounce_reason)
    await desk.submit_as_system(PART, command, returned.case_id, via="mail", mail_refs=(mail_ref(mail.digest),))
    return Taken(outcome=Outcome.BOUNCED, case_id=returned.case_id)


# Many at once.


class Summary(msgspec.Struct, kw_only=True):
    """What became of the mails so far.

    `problems` says which files and mails could not be taken in, and why; `skipped` are files that are no mail.
    """

    counts: Counter[Outcome] = msgspec.field(default_factory=Counter)
    problems: list[str] = msgspec.field(default_factory=list)
    skipped: list[str] = msgspec.field(default_factory=list)

    @property
    def mails(self) -> int:
        return self.counts.total() + len(self.problems)


async def import_mail(
    desk: Desk,
    paths: Iterable[Path],
    *,
    trust_dates: bool,
    acknowledge: bool = False,
    progress: Callable[[Summary], None] = lambda _: None,
) -> Summary:
    """Deliver the mails under these paths, one after the other, so that an answer finds the case of what it answers.

    Who wrote them is not told unless asked to `acknowledge`: an archive may have been answered years ago. `progress`
    is called after each. A mail that fails stops none of the others; importing all of them again is safe.
    """
    summary = Summary()
    spared = files_of(desk.database)
    for path in paths:
        for found in mails_in(path, spared=spared):
            match found:
                case Unread():
                    summary.problems.append(f"{found.where}: {found.problem}")
                case NoMail():
                    summary.skipped.append(found.where)
                case Found():
                    await import_one(desk, found, summary, trust_dates=trust_dates, silent=not acknowledge)
            progress(summary)
    return summary


def files_of(database: Database) -> frozenset[str]:
    """A process that opens and closes the file of a SQLite database once more loses its locks on it."""
    if not isinstance(database, SqliteDatabase):
        return frozenset()
    file = os.path.realpath(database.path)
    return frozenset(f"{file}{suffix}" for suffix in ("", "-wal", "-shm", "-journal"))


async def import_one(desk: Desk, found: Found, summary: Summary, *, trust_dates: bool, silent: bool) -> None:
    try:
        taken = await take_in(desk, found.raw, arrived_at=desk.clock(), trust_dates=trust_dates, silent=silent)
    except Exception as failure:
        log.exception("mail_import_failed")
        summary.problems.append(f"{found.where}: {str(failure) or type(failure).__name__}")
    else:
        summary.counts[taken.outcome] += 1
