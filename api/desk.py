"""One running desk: its database, its ledger, and what every endpoint asks of them."""

import hmac
import re
import secrets
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request

from api.errors import Stale
from api.letters.links import new_link_for_letters
from api.letters.post import Post
from api.limits import ClientLimits, SignInLimits
from api.live import Live
from api.network import Network
from api.oidc import provider_of
from api.payments import payments_of
from api.settings import Settings
from storage import cases, people, schema
from storage.batch import Repeat
from storage.database import Database, utc_now
from storage.directory import Directory
from storage.erasures import Erasures, logged
from storage.insights import Insights
from storage.journal import Journal, journal_faults
from storage.keys import KeyFolder
from storage.ledger import Ledger
from storage.outbox import is_payment_asked
from storage.sequencer import Sequencer
from storage.submissions import OutcomeUnknown, Receipt, Submission, Unauthorized, Unavailable
from workflow.cases import Case, chain_of
from workflow.commands import AddMessage, Command, OpenCase, ProposeSlots
from workflow.desk import RecordRead, RecordRefusal
from workflow.errors import StaleVersion
from workflow.findings import FINDINGS, replay_finding
from workflow.guards import Context
from workflow.people import person_chain, replay_person
from workflow.roles import Actor, Role, TokenKind, system_actor
from workflow.states import Direction
from workflow.webhooks import WEBHOOKS_CHAIN, replay_webhooks

if TYPE_CHECKING:
    from api.receiving import Receiving
    from api.routing import Call

DIRECTORY_SECONDS = 1.0
SELF_CHECK_SECONDS = 60.0
KNOWN_TOKENS = 10_000

ANY_VERSION = frozenset({-1})
"""What `If-Match: *` stands for."""

ETAG = re.compile(r'(W/)?"([^"]*)"')
VERSION = re.compile(r"[1-9][0-9]{0,8}")


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and by which token."""

    actor: Actor
    token: str | None = None


class Desk:
    def __init__(self, settings: Settings, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings = settings
        self.secret = settings.secret or secrets.token_bytes()  # without one, nothing is recognised after a restart
        self.database = database
        self.clock = clock
        self.ledger = Ledger(database.writer(clock, settings.effects))
        self.sequencer = Sequencer(database, clock=clock)
        self.erasures = Erasures(database, self.ledger, clock)
        self.insights = Insights(database, self.sequencer)
        self.live = Live(database, clock)
        self.ledger.after_commit = self.live.ring
        self.sign_in_limits = SignInLimits()
        self.provider = provider_of(settings, clock)
        self.receiving: Receiving | None = None  # where this process receives mail
        self.post = Post(settings, database)
        self.payments = payments_of(settings)
        self.network = Network(settings.webhook_networks)
        self.callers: OrderedDict[str, Caller] = OrderedDict()
        self.client_limits = ClientLimits()
        self.known_directory: Directory | None = None
        self.directory_read_at = 0.0
        self.ready = False
        self.faults: tuple[str, ...] = ()
        self.checked_at = -SELF_CHECK_SECONDS

    async def open(self) -> None:
        await self.ledger.open()
        name = (await self.directory()).log
        # Before anybody is answered: what is there may be an older backup.
        await self.erasures.open(Journal(self.settings.erasures_in, name))
        self.sequencer.keys = KeyFolder(self.settings.keys_in, name)
        await self.sequencer.open()
        self.ready = True

    async def close(self) -> None:
        self.ready = False
        await self.post.close()
        if self.payments is not None:
            await self.payments.close()
        await self.insights.close()
        await self.live.close()
        await self.sequencer.close()
        await self.erasures.close()
        await self.ledger.close()
        await self.database.close()

    # Who asks.

    async def caller(self, request: Request, *, fresh: bool) -> Caller:
        """By bearer token. Reads ask the database each time; the ledger checks for itself what it is handed."""
        secret = secret_of(request)
        if not secret:
            raise Unauthorized
        digest = people.secret_hash(secret)
        if not fresh and (known := self.callers.get(digest)) is not None:
            return known
        found = await people.by_token(self.database, digest)
        if found is None or not found[0].may_use(found[1], TokenKind.API, self.clock()):
            self.callers.pop(digest, None)
            raise Unauthorized
        person, token = found
        caller = Caller(actor=person.as_actor(), token=token)
        self.callers[digest] = caller
        if len(self.callers) > KNOWN_TOKENS:
            self.callers.popitem(last=False)
        return caller

    # What everybody needs to know.

    async def directory(self) -> Directory:
        """The people and policies, at most a second old; what the ledger decides on is its own and exact."""
        now = time.monotonic()
        if self.known_directory is None or now - self.directory_read_at > DIRECTORY_SECONDS:
            self.directory_read_at = now  # one request reads it anew; the others need not wait
            self.known_directory = await people.directory(self.database)
        return self.known_directory

    def forget_directory(self) -> None:
        """After a change that the next answer has to show."""
        self.known_directory = None

    async def context(self, case: Case | None = None) -> Context:
        """With what is known of the payment of this case, if it has one under way."""
        directory = await self.directory()
        is_paying = self.payments is not None and case is not None and case.payout_under_way is not None
        return Context(
            policies=directory.policies,
            people=directory.people,
            provider_is_asked=is_paying and case is not None and await is_payment_asked(self.database, case.chain),
        )

    async def person_id(self, name: str | None) -> str | None:
        """A person's id from their id or address; unknown names are left for the rules to refuse."""
        if name is None or "@" not in name:
            return name
        person = await people.by_email(self.database, name)
        return person.id if person else name

    async def version_of(self, case_id: str) -> int | None:
        return await cases.version_of(self.database, case_id)

    def fingerprint(self, body: bytes) -> str:
        return hmac.digest(self.secret, body, "sha256").hex()

    async def self_check(self) -> tuple[str, ...]:
        """What weakens the database's defences, at most a minute old."""
        now = time.monotonic()
        if now - self.checked_at > SELF_CHECK_SECONDS:
            self.faults = (*await self.database.run(schema.faults), *await self.journal_faults())
            self.checked_at = now
        return self.faults

    async def journal_faults(self) -> list[str]:
        journal = self.ledger.journal
        return journal_faults(journal, await self.database.run(logged)) if journal else []

    # Changes.

    async def submit(self, call: "Call", command: Command, case_id: str | None = None) -> Receipt:
        """Hand the command to the ledger; a repeated request gets its first outcome, read back from the log."""
        expected = call.expected
        submission = Submission(
            command=self.with_link(command),
            actor=call.caller.actor,
            token=call.caller.token,
            via=call.via,
            request=call.request_id,
            case_id=case_id,
            expected=None if expected == ANY_VERSION else expected,
            key=call.key,
        )
        outcome = await self.ledger.submit(submission)
        call.carried_out = True
        return await self.first_outcome(outcome) if isinstance(outcome, Repeat) else outcome

    async def submit_as_system(
        self,
        part: str,
        command: Command,
        case_id: str | None = None,
        *,
        via: str,
        admin: bool = False,
        mail_refs: tuple[str, ...] = (),
        expected: int | None = None,
    ) -> Receipt:
        """For the desk's own machinery and the operator's command line.

        Only on the version `expected`, if one is given. Raises StaleVersion.
        """
        actor = system_actor(part)
        if admin:
            actor = msgspec.structs.replace(actor, roles=actor.roles | {Role.ADMIN})
        submission = Submission(
            command=self.with_link(command),
            actor=actor,
            via=via,
            request=str(uuid.uuid4()),
            case_id=case_id,
            expected=None if expected is None else frozenset({expected}),
            mail_refs=mail_refs,
        )
        outcome = await self.ledger.submit(submission)
        return await self.first_outcome(outcome) if isinstance(outcome, Repeat) else outcome

    def with_link(self, command: Command) -> Command:
        """With a link to the client's page, if the command leads to a letter that can show it."""
        if not (self.settings.smtp_url and self.settings.public_url):
            return command
        if isinstance(command, OpenCase | ProposeSlots) or (
            isinstance(command, AddMessage) and command.direction is Direction.OUTBOUND
        ):
            return msgspec.structs.replace(command, link=new_link_for_letters(self.secret, self.clock()))
        return command

    async def first_outcome(self, repeat: Repeat) -> Receipt:
        """What the first request was answered with, from the log as it stood then."""
        found = await cases.events_of(self.database, repeat.chain, until=repeat.version)
        history = tuple(one for one, _ in found)
        caused = tuple(one for one in history if one.event.seq >= repeat.seq)
        receipt = Receipt(events=caused, seq=repeat.seq, repeated=True)
        if repeat.chain.startswith(chain_of("")):
            entry = await cases.stood(self.database, history)
            return msgspec.structs.replace(receipt, case=entry.case, texts=entry.texts)
        if repeat.chain.startswith(person_chain("")):
            return msgspec.structs.replace(receipt, person=replay_person(history))
        if repeat.chain.startswith(FINDINGS):
            return msgspec.structs.replace(receipt, finding=replay_finding(history))
        if repeat.chain == WEBHOOKS_CHAIN:
            return msgspec.structs.replace(receipt, webhooks=replay_webhooks(history))
        return receipt

    # Refusals and reads that are recorded.

    async def record_refusal(self, call: "Call", refusal: RecordRefusal) -> None:
        await self.submit_event(call, refusal)

    async def record_read(self, call: "Call", case_id: str, version: int, what: str) -> None:
        """Reads of a case by an auditor leave a trace of their own."""
        if Role.AUDITOR in call.caller.actor.roles:
            await self.submit_event(call, RecordRead(case=case_id, version=version, what=what))

    async def submit_event(self, call: "Call", command: Command) -> None:
        submission = Submission(
            command=command,
            actor=call.caller.actor,
            token=call.caller.token,
            via=call.via,
            request=call.request_id,
        )
        try:
            await self.ledger.submit(submission)
        except OutcomeUnknown as lost:
            raise Unavailable from lost  # a record about the request is in doubt, and no change that it asked for

    # Failures.

    async def explain(self, failure: Exception, request: Request) -> Exception:
        """Say what happened since the version that a late caller had seen; forget a token that is no good."""
        if isinstance(failure, Unauthorized):
            self.callers.pop(people.secret_hash(secret_of(request)), None)
        case_id = request.path_params.get("case_id")
        if not isinstance(failure, StaleVersion) or case_id is None:
            return failure
        seen = max((one for one in versions_in(request.headers.get("if-match", "")) if one >= 0), default=0)
        return Stale(failure.current, await cases.types_since(self.database, case_id, seen))


def secret_of(request: Request) -> str:
    """The bearer token, empty without one."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def versions_in(if_match: str) -> frozenset[int]:
    """The versions that a client names as seen; weak and unknown tags match none (RFC 9110 §13.1.1)."""
    if if_match.strip() == "*":
        return ANY_VERSION
    return frozenset(int(tag) for weak, tag in ETAG.findall(if_match) if not weak and VERSION.fullmatch(tag))


def new_case_id(now: datetime) -> str:
    """A UUID of version 7 (RFC 9562): 74 random bits, in the order of opening.

    Cases that are worked on together were mostly opened together, and so lie together in every index.
    """
    milliseconds = int(now.timestamp() * 1000) & (1 << 48) - 1
    random = secrets.randbits(74)
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | random >> 62 << 64 | 2 << 62 | random & (1 << 62) - 1))


MAIL_TAG_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: nothing to mix up


def new_mail_tag() -> str:
    """40 random bits that a mail has to carry to join a case without a known Message-ID."""
    return "".join(secrets.choice(MAIL_TAG_ALPHABET) for _ in range(8))
