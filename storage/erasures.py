"""Keeps what was erased from coming back, and carries out what was scheduled.

Before a desk serves, every erasure of the journal that its database does not know of is carried out again: the database
is an older backup then.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from msgspec.structs import replace
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from storage import people
from storage.database import Database, asking
from storage.events import recorded
from storage.journal import CannotErase, Entry, Journal, entry_of, journal_faults, undone
from storage.ledger import Ledger
from storage.sqlite import driver
from storage.submissions import Receipt, Submission
from storage.writer import Clock, case_decoder
from workflow.cases import Case
from workflow.commands import Erase
from workflow.errors import CaseworkError, Refused
from workflow.policy import PolicyVersion, version_in_force
from workflow.roles import Actor, system_actor

log = structlog.get_logger()

TIMER = system_actor("timer")
JOURNAL = system_actor("journal")

FORGET_SECONDS = 2.0
DUE_SECONDS = 60.0

EXPECTED: tuple[type[Exception], ...] = (CaseworkError, SQLAlchemyError, OSError, driver.Error)


# Questions.

ERASED = text("SELECT body, hash FROM events WHERE type = 'erased' ORDER BY id")
OF_CLIENT = text("SELECT chain FROM personal WHERE field = 'client_email' AND value = :email ORDER BY chain")
SET_ASIDE = text(
    "SELECT chain FROM personal WHERE chain LIKE 'set_aside:%' AND field = 'sender' AND value = :email ORDER BY chain"
)
SET_ASIDE_UNREAD = text(
    "SELECT chain, value FROM personal AS said WHERE chain LIKE 'set_aside:%' AND field = 'text' AND EXISTS ("
    "SELECT 1 FROM personal WHERE chain = said.chain AND field = 'sender' AND value = '') ORDER BY chain"
)
TAKES_PART = text(
    "SELECT DISTINCT chain FROM personal AS one WHERE chain LIKE 'case:%' AND value = :email"
    " AND (field = 'sender' OR field LIKE 'participant%') AND NOT EXISTS (SELECT 1 FROM personal AS own"
    " WHERE own.chain = one.chain AND own.field = 'client_email' AND own.value = :email) ORDER BY chain"
)
REQUESTED = text(
    "SELECT body FROM cases WHERE id IN (SELECT substr(chain, 6) FROM events WHERE type = 'erasure_requested')"
    " AND body LIKE '%\"erasure\":{%' ORDER BY number"
)
SINCE = text(
    "SELECT position, chain FROM positions JOIN events ON event_id = id"
    " WHERE type = 'erased' AND position > :after ORDER BY position"
)
LAST_POSITION = text("SELECT coalesce(max(position), 0) FROM positions")


def logged(connection: Connection) -> tuple[Entry, ...]:
    """What the journal should hold, by the log."""
    return tuple(entry_of(recorded(*row)) for row in connection.execute(ERASED))


async def cases_of(database: Database, email: str) -> list[str]:
    """The ids of the client's cases, oldest first; none of which everything is erased."""
    return [chain.removeprefix("case:") for (chain,) in await database.rows(OF_CLIENT, {"email": email.lower()})]


async def mails_of(database: Database, email: str) -> list[str]:
    """The chains of the mails of theirs that were set aside; also of those without a sender that name the address."""
    sent = [chain for (chain,) in await database.rows(SET_ASIDE, {"email": email.lower()})]
    named = re.compile(rf"(?<![\w.+-]){re.escape(email)}(?![\w-])", re.IGNORECASE)
    return sent + [chain for chain, said in await database.rows(SET_ASIDE_UNREAD) if named.search(said)]


async def also_in(database: Database, email: str) -> list[str]:
    """The ids of the cases of others that this address takes part in."""
    return [chain.removeprefix("case:") for (chain,) in await database.rows(TAKES_PART, {"email": email.lower()})]


async def due(database: Database, policies: tuple[PolicyVersion, ...], now: datetime) -> list[Case]:
    """The cases of which an erasure was asked for that nothing delays any more."""
    days = version_in_force(policies, now).settings.kept_days
    cases = [case_decoder.decode(body) for (body,) in await database.rows(REQUESTED)]
    return [
        case for case in cases if not case.is_held and (due_at := case.erasure_due(days)) is not None and due_at <= now
    ]


def aimed(command: Erase, target: str) -> tuple[Erase, str | None]:
    """The command, and the case that it is about, if any: `target` is its id, or the chain of a set-aside mail."""
    return (replace(command, mail=target), None) if is_mail(target) else (command, target)


def is_mail(target: str) -> bool:
    return target.startswith("set_aside:")


class Erasures:
    """One in each process, beside its ledger."""

    def __init__(self, database: Database, ledger: Ledger, clock: Clock) -> None:
        self.database = database
        self.ledger = ledger
        self.clock = clock
        self.position = 0
        self.is_clear = True  # the write-ahead log, of what was erased
        self.closing = False
        self.task: asyncio.Task[None] | None = None

    async def open(self, journal: Journal) -> None:
        """Make good what a restored backup has undone, and only then begin to watch."""
        ((self.position,),) = await self.database.rows(LAST_POSITION)
        await self.reconcile(journal)
        self.task = asyncio.create_task(self.run(), name="erasures")

    async def close(self) -> None:
        self.closing = True  # a step that is cancelled may end with another error
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def reconcile(self, journal: Journal) -> None:
        """Let the journal know what the log knows, and the log what the journal knows."""
        known = await self.database.run(logged)
        self.ledger.journal = journal
        # Made anew where something has been erased, it would hide that erasures are lost that this database may lack.
        journal.may_begin = not known
        if not known and not journal.exists():
            return
        try:
            entries = journal.entries()
            journal.add(one for one in known if one.event not in {each.event for each in entries})
        except (CannotErase, OSError) as fault:  # told by /readyz, and nothing more is erased
            log.warning("erasures_not_journalled", failure=str(fault))
            return
        for one in undone(entries, known):
            await self.again(one)

    async def again(self, entry: Entry) -> None:
        if not await is_there(self.database, entry.chain):
            return  # the backup is older than that
        command, case_id = aimed(Erase(legal_basis=entry.legal_basis, reapplies=entry.key), entry.target)
        await self.submit(command, case_id, JOURNAL)
        log.warning("erased_again", case=entry.target, erasure=entry.key)

    async def carry_out_due(self) -> list[tuple[Case, Receipt]]:
        """What has become due, each case with what was recorded of it."""
        policies = (await people.directory(self.database)).policies
        done = []
        for case in await due(self.database, policies, self.clock()):
            request = case.erasure_request
            if request is None:
                continue
            try:
                receipt = await self.submit(Erase(legal_basis=request.legal_basis), case.id, TIMER)
            except Refused:  # a hold was placed meanwhile
                continue
            done.append((case, receipt))
        return done

    async def submit(self, command: Erase, case_id: str | None, actor: Actor) -> Receipt:
        submission = Submission(command=command, actor=actor, via="timer", request=str(uuid.uuid4()), case_id=case_id)
        outcome = await self.ledger.submit(submission)
        if not isinstance(outcome, Receipt):
            raise TypeError("only a request with a key is answered from the log")
        return outcome

    async def forget(self) -> None:
        """Drop what was erased, by other processes too, from this one's memory and from the write-ahead log."""
        with asking():
            for position, chain in await self.database.rows(SINCE, {"after": self.position}):
                self.ledger.writer.cache.drop(chain.removeprefix("case:"))
                self.position = position
                self.is_clear = False
        if not self.is_clear:
            self.is_clear = await self.ledger.writer.clear_journal()

    async def run(self) -> None:
        due_at = 0.0
        while not self.closing:
            await self.attempt(self.forget)
            if time.monotonic() >= due_at:
                due_at = time.monotonic() + DUE_SECONDS
                await self.attempt(self.carry_out_due)
            if not self.closing:
                await asyncio.sleep(FORGET_SECONDS)

    @staticmethod
    async def attempt(step: Callable[[], Awaitable[object]]) -> None:
        try:
            await step()
        except Exception as failure:  # whatever it is, it is tried again at the next turn
            bug = None if isinstance(failure, EXPECTED) else failure
            said = str(failure) if isinstance(failure, CaseworkError) else repr(failure)
            log.warning("erasures_wait", failure=said, exc_info=bug)


async def said_of_journal(database: Database, journal: Journal) -> list[str]:
    """What an operator who has restored a backup should know."""
    known = await database.run(logged)
    faults = journal_faults(journal, known)
    if faults or not journal.exists():
        return faults
    try:
        lacking = {one.chain for one in undone(journal.entries(), known)}
    except CannotErase as fault:
        return [str(fault)]
    waiting = [one for one in lacking if await is_there(database, one)]
    said = "what was erased since then is erased again before the desk serves; cases and set-aside mails concerned:"
    return [f"{said} {len(waiting)}"] if waiting else []


async def is_there(database: Database, chain: str) -> bool:
    query = text("SELECT 1 FROM events WHERE chain = :chain AND seq = 1")
    return await database.first(query, {"chain": chain}) is not None


async def renew_journal(database: Database, journal: Journal) -> int:
    """Make a journal of what the log knows, where there is none. Answers with how many erasures. Raises CannotErase."""
    known = await database.run(logged)
    try:
        journal.make(known)
    except FileExistsError:
        raise CannotErase(f"there is a journal of erasures, {journal.path}: it is never replaced") from None
    return len(known)
