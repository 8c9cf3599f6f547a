"""The desk as it stands after the commands decided so far, and the rows that make it so.

A batch is what one transaction will write. Each command is decided against the state that the ones before it left;
a refused one leaves nothing behind but the record of the attempt.
"""

import uuid
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from storage.directory import Directory
from storage.sealing import Circumstances, Sealed, seal
from storage.submissions import (
    DuplicateMail,
    KeyReused,
    Receipt,
    Row,
    Submission,
    Unauthorized,
)
from workflow import commands as c
from workflow import events as e
from workflow.canonical import canonical
from workflow.cases import Case, Purchase, booked_slot, chain_of, host_of
from workflow.deadlines import next_due
from workflow.deciding import decide, erase_mail, forbid_unless, require_target, roles_of
from workflow.desk import POLICY_CHAIN, AddPolicy, DrawSample, SingleCommand, decide_policy, single_event
from workflow.effects import LETTERS, EffectKind, effects_of, lane_of, letter_name, targets_of
from workflow.errors import NotFound, Refused, StaleVersion, bad_field
from workflow.events import Draft, Recorded, at_text
from workflow.findings import (
    FINDINGS,
    AnswerFinding,
    CloseFinding,
    Finding,
    FindingCommand,
    OpenFinding,
    decide_finding,
    evolve_finding,
    finding_chain,
    findings_of,
)
from workflow.guards import Context, Slot
from workflow.people import (
    AddPerson,
    CreateToken,
    DisablePerson,
    LinkIdentity,
    Person,
    PersonCommand,
    SetPassword,
    SignIn,
    UnlinkIdentity,
    decide_person,
    evolve_person,
    person_chain,
)
from workflow.policy import version_in_force
from workflow.replaying import evolve
from workflow.roles import AUDITORS, Actor
from workflow.settling import CancelEffect, EffectCommand, Pending, RetryEffect, SettleEffect, decide_effect
from workflow.states import ResumeReason, Trigger
from workflow.webhooks import (
    WEBHOOKS_CHAIN,
    PingWebhook,
    SendCommand,
    WebhookCommand,
    Webhooks,
    decide_sending,
    decide_webhook,
    evolve_webhooks,
    webhook_type_of,
)

MICROSECOND = timedelta(microseconds=1)

# Bulky, or shown by no answer about the case itself.
UNCACHED_FIELDS = frozenset({"text", "message", "message_id"})

LETTER_KINDS = ", ".join(f"'{kind}'" for kind in sorted(LETTERS))  # as SQL lists them

# Which effects are planned where nobody says otherwise: none that nothing would carry out.
NO_EFFECTS: frozenset[EffectKind] = frozenset()

# The texts that a search looks into.
FOUND_BY: dict[type[e.EventData], tuple[str, ...]] = {
    e.Opened: ("subject", "message", "client_name", "client_email"),
    e.MessageReceived: ("subject", "text"),
    e.OfferAnswered: ("text",),
    e.SlotsProposed: ("remark",),
    e.MessageSent: ("subject", "text"),
}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A case with the texts it points at, as it is stored at `stored_version` (0: not yet)."""

    case: Case
    texts: dict[str, str]
    stored_version: int


# Whether an address is somebody's; the index finds it, the chain says that it is no client's.
KNOWN_ADDRESS = "SELECT 1 FROM personal WHERE field = 'email' AND value = {} AND chain LIKE 'desk:person:%'"


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a command must know beyond its own case. Where this is empty, versions alone guard the write."""

    purchases: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()  # which of them exist
    kept: bool = False  # which of the case's texts and files have not been erased
    finding: str = ""  # the chain of one, which this adds to
    mail: str = ""  # the chain of one that was set aside, and what is kept of it
    effect: int = 0  # of the outbox
    payment: bool = False  # whether the payment provider has been asked for the case's refund

    @property
    def nothing(self) -> bool:
        return self == NOTHING


# Of which identity a provider's issuer and subject are.
KNOWN_IDENTITY = "SELECT id FROM identities WHERE issuer = {} AND subject = {}"


# The chains of a case's findings. With the place of the case's id.
FINDINGS_OF = f"""
    SELECT chain FROM events WHERE type = 'finding_opened'
    AND substr(chain, 1, {len(FINDINGS) + 1} + length({{0}})) = '{FINDINGS}' || {{0}} || ':'
"""  # noqa: S608 - places

# An effect as `effect_of` takes it. With the place of what its number has to be.
EFFECT = """
    SELECT o.id, o.chain, o.seq, o.kind, o.target, o.status, o.fence, e.body FROM outbox AS o
    JOIN events AS e ON e.chain = o.chain AND e.seq = o.seq WHERE o.id {}
"""

# The payments of a case that may be made, and how often each has been claimed. With the place of the case's chain.
PAYMENTS = "SELECT fence FROM outbox WHERE chain = {} AND kind = 'pay' AND status = 'waiting'"

# Of one chain, oldest first. With the place of its name.
HISTORY = "SELECT body, hash FROM events WHERE chain = {} ORDER BY seq"

# What an erasure has to find; the reasons of erasures themselves stay. With the places of a chain and of a case's id.
CAN_GO = """NOT EXISTS (
        SELECT 1 FROM events WHERE events.chain = personal.chain AND events.seq = personal.seq AND type = 'erased'
    )"""
KEPT = f"""
    SELECT seq, field FROM personal WHERE chain = {{0}} AND {CAN_GO}
    UNION ALL SELECT seq, 'content' FROM attachments WHERE case_id = {{1}}
    UNION ALL SELECT seq, 'finding.' || field FROM personal WHERE chain IN ({FINDINGS_OF.format("{1}")}) ORDER BY 1, 2
"""  # noqa: S608 - places

NOTHING = Needs()


def needs_of(submission: Submission, case: Case | None) -> Needs:
    command = submission.command
    recorded = (case.purchase.reference,) if case and case.purchase else ()
    if isinstance(command, c.Fire):
        slot_of = getattr(command.data, "slot_of", None)
        return needs_to_fire(command, recorded, host_of(case, submission.actor.id, slot_of))
    match command:
        case c.OpenCase() | c.RecordPurchase():
            named = named_purchase(command)
            return Needs(purchases=tuple({*recorded, *((named,) if named else ())}))
        case c.FailPayout():
            return Needs(purchases=recorded, payment=True)
        case c.CheckPurchase() | c.BeginPayout() | c.ReversePayment():
            return Needs(purchases=recorded)
        case c.LinkCase(case=other):
            return Needs(cases=(other,))
        case c.MoveConsultation() if case is not None and (slot := booked_slot(case)) is not None:
            return Needs(hosts=slot[:1])
        case c.Erase(mail=mail):
            return Needs(mail=mail) if mail else Needs(kept=True)
        case SettleEffect() | RetryEffect() | CancelEffect():
            return Needs(effect=command.effect)
        case OpenFinding() | AnswerFinding() | CloseFinding():
            return Needs(finding=finding_chain(str(submission.case_id), command.finding_id))
        case _:
            return NOTHING


def needs_to_fire(command: c.Fire, recorded: tuple[str, ...], host: str) -> Needs:
    """`recorded` is the case's purchase, `host` who would hold a consultation."""
    match command.trigger, command.data:
        case Trigger.REFUND, _:
            return Needs(purchases=recorded, payment=True)
        case Trigger.RESUME, c.ResumeData(reason_code=ResumeReason.PAYMENT_FAILED):
            return Needs(purchases=recorded)
        case Trigger.SCHEDULE_CONSULTATION, _:
            return Needs(hosts=(host,))
        case Trigger.CLOSE, c.CloseData(duplicate_of=str(other)):
            return Needs(cases=(other,))
        case _:
            return NOTHING


def named_purchase(command: c.OpenCase | c.RecordPurchase) -> str | None:
    """The reference that a command gives, with the purchase's facts or alone."""
    alone = command.purchase_reference if isinstance(command, c.OpenCase) else command.reference
    return command.purchase.reference if command.purchase else alone


class Loaded(msgspec.Struct, kw_only=True):
    """What was read for a batch, under whatever protects the reading."""

    directory: Directory
    entries: dict[str, Entry] = msgspec.field(default_factory=dict)
    purchases: dict[str, Purchase] = msgspec.field(default_factory=dict)
    linked: dict[str, set[str]] = msgspec.field(default_factory=dict)  # purchase → case ids
    slots: dict[str, list[Slot]] = msgspec.field(default_factory=dict)  # host → booked consultations
    known_cases: set[str] = msgspec.field(default_factory=set)
    kept: dict[str, list[tuple[int, str]]] = msgspec.field(default_factory=dict)  # chain → (seq, field), see KEPT
    findings: dict[str, Finding] = msgspec.field(default_factory=dict)  # by chain
    mails: dict[str, list[Recorded]] = msgspec.field(default_factory=dict)  # set aside; their events by chain
    effects: dict[int, Pending] = msgspec.field(default_factory=dict)  # of the outbox, by number
    asked: dict[str, bool] = msgspec.field(default_factory=dict)  # chain → whether the provider is asked for a refund
    keys: dict[str, Row] = msgspec.field(default_factory=dict)  # key → (fingerprint, chain, seq, version)
    mail_refs: set[str] = msgspec.field(default_factory=set)  # which of those that are to be remembered are known
    known_addresses: set[str] = msgspec.field(default_factory=set)  # which of those of new people are somebody's
    known_identities: dict[tuple[str, str], str] = msgspec.field(default_factory=dict)  # issuer, subject → id
    next_number: int = 0


class Batch:
    """Decides submissions one after the other and gathers what is to be written."""

    def __init__(self, loaded: Loaded, now: datetime, effects: frozenset[EffectKind] = NO_EFFECTS) -> None:
        self.loaded = loaded
        self.now = now
        self.planned = effects
        self.decided_people: set[str] = set()  # whose version the write depends on
        self.changed: dict[str, Entry] = {}  # case id → as it will be; the version it replaces in `replaces`
        self.replaces: dict[str, int] = {}
        self.people: dict[str, Person] = {}
        self.purchases: dict[str, Purchase] = {}
        self.bookings: dict[str, Slot | None] = {}
        self.hosts: dict[str, str] = {}
        self.proposals: dict[tuple[str, str], bool] = {}  # case id and proposal → whether it is open from now on
        self.events: list[Row] = []
        self.personal: list[Row] = []
        self.attachments: list[Row] = []
        self.outbox: list[Row] = []
        self.effects: dict[int, Pending] = {}  # of the outbox, as they stand from now on
        self.keys: list[Row] = []
        self.mail_refs: list[Row] = []
        self.tokens: list[Row] = []
        self.revoked_tokens: list[Row] = []
        self.passwords: list[Row] = []
        self.client_links: list[Row] = []
        self.ended_links: list[Row] = []
        self.identities: list[Row] = []
        self.unlinked_identities: list[Row] = []
        self.policies: list[Row] = []
        self.webhooks: Webhooks | None = None  # as they are from now on, if this batch changes them
        self.again: list[Row] = []  # effects to be carried out once more, under the names they had
        self.erasures: dict[str, Case | None] = {}  # chain of which all that was stored before goes → the case, if any
        self.erased_at: set[tuple[str, int]] = set()  # the places of the events that say so
        self.words: dict[int, list[str]] = {}  # case number → texts to be found by
        self.new_numbers: set[int] = set()

    def submit(self, submission: Submission) -> "Receipt | Repeat":
        """Raises what the command's refusal is; a refused attempt is part of the batch."""
        actor = self.loaded.directory.actor(submission.actor, submission.token, self.now)
        if actor is None:
            raise Unauthorized
        if actor.kind == "person":
            self.decided_people.add(actor.id)
        key = submission.key
        if key is not None and (known := self.loaded.keys.get(key.hash)) is not None:
            fingerprint, chain, seq, version = known
            if fingerprint != key.fingerprint:
                raise KeyReused
            return Repeat(chain=chain, seq=seq, version=version)
        if any(ref.startswith("mail:") and ref in self.loaded.mail_refs for ref in submission.mail_refs):
            raise DuplicateMail
        try:
            for kind, carry_out in CHANGES:
                if isinstance(submission.command, kind):
                    return carry_out(self, submission, submission.command, actor)
            return self.change_case(submission, actor)
        except Refused as refused:
            self.record_attempt(submission, actor, refused)
            raise

    # Cases.

    def entry(self, case_id: str | None) -> Entry | None:
        if case_id is None:
            return None
        return self.changed.get(case_id) or self.loaded.entries.get(case_id)

    def change_case(self, submission: Submission, actor: Actor) -> Receipt:
        command = submission.command
        if isinstance(command, c.Erase) and command.mail:
            return self.erase_mail(submission, command, actor)
        entry = self.entry(submission.case_id)
        case = entry.case if entry else None
        if case is None and not isinstance(command, c.OpenCase):
            raise NotFound("case")
        if case is not None:
            require_target(case, command)
        if case is not None and submission.expected is not None and case.version not in submission.expected:
            forbid_unless(actor, roles_of(command, case, actor), command)  # 403 comes before 412
            raise StaleVersion(case.version)
        at = max(self.now, case.changed_at + MICROSECOND) if case else self.now
        drafts = decide(case, self.context(submission, case), command, actor, at)
        case_id = command.case_id if isinstance(command, c.OpenCase) else str(submission.case_id)
        before = case.version if case else 0
        recorded = self.record(drafts, chain_of(case_id), submission, actor)
        if (link := link_of(command)) is not None and any(isinstance(one.data, e.ClientLinkIssued) for one in recorded):
            self.client_links.append((link.secret_hash, link.link_id, case_id))
        self.loaded.next_number += isinstance(command, c.OpenCase)
        after = self.changed.get(case_id) or entry
        if after is None:
            raise NotFound("case")
        seq = before + 1
        self.remember(submission, after.case.chain, seq, after.case.version)
        self.remember_mail(submission, case_id)
        return Receipt(case=after.case, texts=after.texts, events=recorded, seq=seq)

    def context(self, submission: Submission, case: Case | None) -> Context:
        needs, loaded, command = needs_of(submission, case), self.loaded, submission.command
        if isinstance(command, c.Fire) and isinstance(command.data, c.InvestigateData) and command.data.assignee:
            self.decided_people.add(command.data.assignee)
        if isinstance(command, c.Assign) and command.assignee:
            self.decided_people.add(command.assignee)
        if needs is NOTHING:
            return Context(
                policies=loaded.directory.policies, people=loaded.directory.people, next_number=loaded.next_number
            )
        named = named_purchase(command) if isinstance(command, c.OpenCase | c.RecordPurchase) else None
        known = self.purchases.get(named) or loaded.purchases.get(named) if named else None
        own = case.purchase.reference if case and case.purchase and needs.purchases else None
        linked = loaded.linked.get(own, set()) - {submission.case_id} if own else set()
        return Context(
            policies=loaded.directory.policies,
            people=loaded.directory.people,
            next_number=loaded.next_number,
            known_purchase=known,
            linked=tuple(entry.case for one in sorted(linked) if (entry := self.entry(one)) is not None),
            calendar=tuple(
                slot for host in needs.hosts for slot in loaded.slots.get(host, ()) if slot.case != submission.case_id
            ),
            known_cases=frozenset(loaded.known_cases),
            provider_is_asked=bool(case and needs.payment and loaded.asked.get(case.chain)),
            kept=self.kept(case) if case and needs.kept else (),
        )

    def kept(self, case: Case) -> tuple[tuple[int, str], ...]:
        """What can be erased of the case: what is stored, and what this batch has added to it."""
        new = [(seq, field) for chain, seq, field, *_ in self.personal if chain == case.chain]
        found = [
            (seq, f"finding.{field}")
            for chain, seq, field, *_ in self.personal
            if chain.startswith(findings_of(case.id))
        ]
        files = [(seq, "content") for _, case_id, seq, *_ in self.attachments if case_id == case.id]
        said = [(seq, field) for seq, field in new if (case.chain, seq) not in self.erased_at]
        return (*self.loaded.kept.get(case.chain, ()), *said, *files, *found)

    def record(
        self, drafts: tuple[Draft, ...], own_chain: str, submission: Submission, actor: Actor
    ) -> tuple[Recorded, ...]:
        """Seal the drafts into their chains, all or none; answers with the own chain's events."""
        chains = {draft.chain or own_chain for draft in drafts}
        heads = [entry.case.changed_at for chain in chains if (entry := self.entry(case_id_of(chain))) is not None]
        at = max([self.now, *(head + MICROSECOND for head in heads)])  # shared by all events of the command
        circumstances = self.circumstances(submission, actor, at)
        steps: list[tuple[Sealed, Draft, Case]] = []
        cases: dict[str, Case] = {}
        for draft in drafts:
            chain = draft.chain or own_chain
            entry = self.entry(case_id_of(chain))
            case = cases.get(chain) or (entry.case if entry else None)
            sealed = (
                seal(draft, circumstances, chain, case.version + 1, case.head, case.state)
                if case
                else seal(draft, circumstances, chain, 1, None, None)
            )
            cases[chain] = evolve(case, sealed.recorded)
            steps.append((sealed, draft, cases[chain]))
        # Only now: an event that cannot be sealed leaves nothing behind of those before it.
        for sealed, draft, case in steps:
            self.keep(sealed, draft, case)
        return tuple(sealed.recorded for sealed, _, _ in steps if sealed.recorded.event.chain == own_chain)

    def keep(self, sealed: Sealed, draft: Draft, case: Case) -> None:
        """Gather the rows of one event of a case, and move the case on to what it is now."""
        recorded, entry = sealed.recorded, self.entry(case.id)
        self.keep_rows(sealed, draft, case.id)
        texts = {
            f"{recorded.event.seq}/{field}": value
            for field, value in draft.personal.items()
            if field not in UNCACHED_FIELDS
        }
        known = entry.texts if entry else {}
        self.list_proposals(entry.case if entry else None, case)
        if isinstance(recorded.data, e.Erased):
            gone = {f"{seq}/{field}" for seq, field in self.kept(case)}
            known = {at: text for at, text in known.items() if at not in gone}
        texts = {**known, **texts} if texts else known
        if entry is not None:
            self.ended_links.extend((one.id,) for one in entry.case.issued_links if one not in case.issued_links)
        stored = entry.stored_version if entry else 0
        self.replaces.setdefault(case.id, stored)
        self.changed[case.id] = Entry(case=case, texts=texts, stored_version=stored)
        self.follow_up(case, recorded, draft)

    def follow_up(self, case: Case, recorded: Recorded, draft: Draft) -> None:
        """What other tables learn from the event."""
        data = recorded.data
        for kind in effects_of(recorded):
            if kind in self.planned:
                for target in targets_of(kind):
                    self.plan(recorded, kind, target)
                if kind in LETTERS:
                    self.mail_refs.append((letter_ref(letter_name(case.mail_tag, recorded.hash, kind)), case.id))
        if isinstance(data, e.PurchaseChanged):
            self.purchases[data.purchase.reference] = data.purchase
            for sharing in self.loaded.linked.values():
                sharing.discard(case.id)
            self.loaded.linked.setdefault(data.purchase.reference, set()).add(case.id)
        if isinstance(data, e.Opened):
            self.new_numbers.add(case.number)
        if isinstance(data, e.Erased):
            self.erase(case)
        found_by = FOUND_BY.get(type(data), ())
        texts = [draft.personal[field] for field in found_by if field in draft.personal]
        if texts:
            self.words.setdefault(case.number, []).extend(texts)
        if draft.trigger is not None or isinstance(data, e.ConsultationMoved):
            self.book(case)

    def plan(self, recorded: Recorded, kind: EffectKind, target: str = "") -> None:
        """In the order of OUTBOX_COLUMNS."""
        event = recorded.event
        lane = lane_of(kind, event.chain, target)
        self.outbox.append((event.chain, event.seq, kind.value, target, lane, event.at, at_text(self.now)))

    def list_proposals(self, before: Case | None, case: Case) -> None:
        if not case.proposals:
            return
        was_open, is_open = before.open_proposals if before else frozenset(), case.open_proposals
        self.proposals |= {(case.id, one): one in is_open for one in was_open ^ is_open}

    def erase(self, case: Case) -> None:
        """Nothing that is stored of the case, or that this batch was about to store, is left but what says so."""
        place = (case.chain, case.version)
        self.erasures[case.chain] = case
        self.erased_at.add(place)
        self.loaded.kept[case.chain] = []
        self.personal = [
            row
            for row in self.personal
            if row[:2] in self.erased_at or not (row[0] == case.chain or row[0].startswith(findings_of(case.id)))
        ]
        self.attachments = [row for row in self.attachments if row[1] != case.id]
        self.mail_refs = [row for row in self.mail_refs if row[1] != case.id]
        self.outbox = [row for row in self.outbox if row[0] != case.chain or row[2] not in LETTERS]
        if case.number in self.new_numbers:
            self.words[case.number] = []
        else:
            self.words.pop(case.number, None)

    def book(self, case: Case) -> None:
        slot = booked_slot(case)
        for slots in self.loaded.slots.values():
            slots[:] = [one for one in slots if one.case != case.id]
        if slot is not None:
            host, starts_at, ends_at = slot
            self.hosts[case.id] = host
            booked = Slot(case=case.id, starts_at=starts_at, ends_at=ends_at)
            self.bookings[case.id] = booked
            self.loaded.slots.setdefault(host, []).append(booked)
        elif any(remedy.starts_at for remedy in case.remedies):
            self.bookings[case.id] = None

    def remember(self, submission: Submission, chain: str, seq: int, version: int) -> None:
        if submission.key is not None:
            row = (submission.key.fingerprint, chain, seq, version)
            self.loaded.keys[submission.key.hash] = row
            self.keys.append((submission.key.hash, *row, at_text(self.now)))

    def remember_mail(self, submission: Submission, case_id: str | None) -> None:
        new = [ref for ref in submission.mail_refs if ref not in self.loaded.mail_refs]
        self.mail_refs.extend((ref, case_id) for ref in new)
        self.loaded.mail_refs.update(new)

    # People.

    def change_person(self, submission: Submission, command: PersonCommand, actor: Actor) -> Receipt:
        person_id, directory = command.person_id, self.loaded.directory
        before = person = directory.people.get(person_id)
        drafts = decide_person(person, command, actor, self.now)
        if isinstance(command, AddPerson) and command.email in self.loaded.known_addresses:
            raise bad_field("email", "is somebody's already")
        if isinstance(command, LinkIdentity) and self.is_taken(command):
            raise bad_field("subject", "is somebody's already")
        at = max(self.now, person.changed_at + MICROSECOND) if person else self.now
        circumstances = self.circumstances(submission, actor, at)
        chain = person_chain(person_id)
        recorded: list[Recorded] = []
        for draft in drafts:
            sealed = (
                seal(draft, circumstances, chain, person.version + 1, person.head, "")
                if person
                else seal(draft, circumstances, chain, 1, None, None)
            )
            self.keep_rows(sealed, draft, None)
            person = evolve_person(person, sealed.recorded)
            recorded.append(sealed.recorded)
        if person is None:
            raise NotFound("person")
        self.people[person_id] = person
        self.loaded.directory = msgspec.structs.replace(directory, people={**directory.people, person_id: person})
        self.note_credentials(command, before, recorded)
        self.remember(submission, chain, (before.version if before else 0) + 1, person.version)
        return Receipt(person=person, events=tuple(recorded), seq=person.version)

    def is_taken(self, command: LinkIdentity) -> bool:
        known = self.loaded.known_identities.get((command.issuer, command.subject))
        return known is not None and (known,) not in self.unlinked_identities

    def note_credentials(self, command: PersonCommand, before: Person | None, recorded: list[Recorded]) -> None:
        self.revoked_tokens.extend((one.data.token,) for one in recorded if isinstance(one.data, e.TokenRevoked))
        match command:
            case AddPerson():
                self.loaded.known_addresses.add(command.email)
            case CreateToken():
                self.tokens.append((command.secret_hash, command.token_id, command.person_id))
            case SignIn():
                self.tokens.append((command.secret_hash, command.session_id, command.person_id))
            case SetPassword():
                self.passwords.append((command.person_id, command.password_hash))
            case LinkIdentity(identity_id=identity, issuer=issuer, subject=subject):
                self.identities.append((identity, command.person_id, issuer, subject, command.salt))
                self.loaded.known_identities[issuer, subject] = identity
            case UnlinkIdentity():
                self.unlinked_identities.append((command.identity_id,))
            case DisablePerson():
                self.revoked_tokens.extend((token.id,) for token in (before.tokens if before else ()))
                self.unlinked_identities.extend((one.id,) for one in (before.identities if before else ()))

    # Findings.

    def change_finding(self, submission: Submission, command: FindingCommand, actor: Actor) -> Receipt:
        """Beside the case, which stays as it is."""
        entry = self.entry(submission.case_id)
        if entry is None:
            raise NotFound("case")
        chain = finding_chain(entry.case.id, command.finding_id)
        finding = self.loaded.findings.get(chain)
        draft = decide_finding(finding, command, actor)
        at = max(self.now, finding.changed_at + MICROSECOND) if finding else self.now
        circumstances = self.circumstances(submission, actor, at)
        sealed = (
            seal(draft, circumstances, chain, finding.version + 1, finding.head, "")
            if finding
            else seal(draft, circumstances, chain, 1, None, None)
        )
        self.keep_rows(sealed, draft, None)
        finding = evolve_finding(finding, sealed.recorded)
        self.loaded.findings[chain] = finding
        self.remember(submission, chain, finding.version, finding.version)
        return Receipt(finding=finding, events=(sealed.recorded,), seq=finding.version)

    # Effects.

    def change_effect(self, submission: Submission, command: EffectCommand, actor: Actor) -> Receipt:
        effect = self.effects.get(command.effect) or self.loaded.effects.get(command.effect)
        if effect is None:
            raise NotFound("effect")
        draft, self.effects[effect.id] = decide_effect(effect, command, actor, self.planned)
        receipt = self.append_single("effect", draft, submission, actor)
        self.remember(submission, receipt.events[0].event.chain, 1, 1)
        return receipt

    # Chains of one event.

    def record_attempt(self, submission: Submission, actor: Actor, refused: Refused) -> None:
        command = submission.command
        entry = self.entry(submission.case_id)
        data = e.AttemptRefused(
            code=refused.code,
            command=type(command).__name__,
            case=submission.case_id if entry else None,
            version=entry.case.version if entry else None,
            trigger=command.trigger if isinstance(command, c.Fire) else None,
            refusals=tuple(refusal.code for refusal in refused.refusals),
        )
        self.append_single("refusal", Draft(data=data), submission, actor)

    def add_single(self, submission: Submission, command: SingleCommand, actor: Actor) -> Receipt:
        if isinstance(command, DrawSample):
            forbid_unless(actor, AUDITORS, command)
        receipt = self.append_single(*single_event(command), submission, actor)
        self.remember(submission, receipt.events[0].event.chain, 1, 1)
        return receipt

    def append_single(self, kind: str, draft: Draft, submission: Submission, actor: Actor) -> Receipt:
        """An event that is a chain by itself."""
        circumstances = self.circumstances(submission, actor, self.now)
        sealed = seal(draft, circumstances, f"{kind}:{uuid.uuid4()}", 1, None, None)
        self.keep_rows(sealed, draft, None)
        self.remember_mail(submission, None)
        return Receipt(events=(sealed.recorded,), seq=1)

    def erase_mail(self, submission: Submission, command: c.Erase, actor: Actor) -> Receipt:
        """Of one that was set aside: its chain has a second event then."""
        chain, history = command.mail, self.loaded.mails.get(command.mail)
        if not history or not isinstance(history[0].data, e.MailSetAside):
            raise NotFound("mail")
        last = history[-1]
        seq = last.event.seq + 1
        draft = erase_mail(history, tuple(self.loaded.kept.get(chain, ())), command, actor)
        if draft is None:
            self.remember(submission, chain, seq, last.event.seq)
            return Receipt(seq=seq)
        circumstances = self.circumstances(submission, actor, max(self.now, last.at + MICROSECOND))
        sealed = seal(draft, circumstances, chain, seq, last.hash, "")
        self.erasures[chain] = None
        self.personal = [row for row in self.personal if row[0] != chain]
        self.keep_rows(sealed, draft, None)
        self.loaded.kept[chain] = []
        history.append(sealed.recorded)
        self.remember(submission, chain, seq, seq)
        return Receipt(events=(sealed.recorded,), seq=seq)

    # The policy.

    def add_policy(self, submission: Submission, command: AddPolicy, actor: Actor) -> Receipt:
        directory = self.loaded.directory
        draft, version = decide_policy(directory.policies, command, actor, self.now)
        seq, head, before = directory.policy_head
        at = max(self.now, before + MICROSECOND)
        circumstances = self.circumstances(submission, actor, at)
        sealed = seal(draft, circumstances, POLICY_CHAIN, seq + 1, head, "")
        self.keep_rows(sealed, draft, None)
        self.policies.append((version.version, canonical(version).decode()))
        self.loaded.directory = msgspec.structs.replace(
            directory, policies=(*directory.policies, version), policy_head=(seq + 1, sealed.recorded.hash, at)
        )
        self.remember(submission, POLICY_CHAIN, seq + 1, seq + 1)
        return Receipt(events=(sealed.recorded,), seq=seq + 1)

    # Who follows the desk.

    def change_webhooks(self, submission: Submission, command: WebhookCommand, actor: Actor) -> Receipt:
        directory = self.loaded.directory
        before = directory.webhooks
        at = max(self.now, before.changed_at + MICROSECOND) if before.changed_at else self.now
        draft = decide_webhook(before, command, actor, at)
        if draft is None:
            self.remember(submission, WEBHOOKS_CHAIN, before.version + 1, before.version)
            return Receipt(webhooks=before, seq=before.version + 1)
        circumstances = self.circumstances(submission, actor, at)
        seq = before.version + 1
        state = "" if before.version else None
        sealed = seal(draft, circumstances, WEBHOOKS_CHAIN, seq, before.head, state)
        self.keep_rows(sealed, draft, None)
        self.webhooks = evolve_webhooks(before, sealed.recorded)
        self.loaded.directory = msgspec.structs.replace(
            directory, webhooks=self.webhooks, listeners=self.webhooks.listeners()
        )
        self.remember(submission, WEBHOOKS_CHAIN, seq, seq)
        return Receipt(webhooks=self.webhooks, events=(sealed.recorded,), seq=seq)

    def send_to_webhook(self, submission: Submission, command: SendCommand, actor: Actor) -> Receipt:
        kind, draft = decide_sending(self.loaded.directory.webhooks, command, actor)
        receipt = self.append_single(kind, draft, submission, actor)
        if isinstance(command, PingWebhook):
            self.plan(receipt.events[0], EffectKind.WEBHOOK, command.webhook_id)
        else:
            due_at = at_text(self.now)
            self.again.extend(
                (
                    *(place.chain, place.seq, EffectKind.WEBHOOK.value, command.webhook_id),
                    *(lane_of(EffectKind.WEBHOOK, place.chain, command.webhook_id), place.at, due_at),
                )
                for place in command.places
            )
        self.remember(submission, receipt.events[0].event.chain, 1, 1)
        return receipt

    def announce(self, recorded: Recorded) -> None:
        """To every endpoint that hears of such events: in the transaction that records them, or not at all."""
        kind = webhook_type_of(recorded)
        for webhook_id in self.loaded.directory.listeners.get(kind, ()) if kind else ():
            self.plan(recorded, EffectKind.WEBHOOK, webhook_id)

    # Rows.

    def circumstances(self, submission: Submission, actor: Actor, at: datetime) -> Circumstances:
        return Circumstances(
            log=self.loaded.directory.log,
            policy=version_in_force(self.loaded.directory.policies, at).version,
            at=at,
            actor=actor.key,
            via=submission.via,
            request=submission.request,
        )

    def keep_rows(self, sealed: Sealed, draft: Draft, case_id: str | None) -> None:
        self.events.append(sealed.event)
        self.personal.extend(sealed.personal)
        if draft.attachment is not None:
            seq = sealed.recorded.event.seq
            salt, content = sealed.attachment_salt, draft.attachment.content
            self.attachments.append((draft.attachment.id, case_id, seq, salt, content))
        if self.loaded.directory.listeners:
            self.announce(sealed.recorded)

    def case_rows(self) -> list[tuple[int, Row]]:
        """The version that each changed case replaces (0: none), and its row in the order of CASE_COLUMNS."""
        return [(self.replaces[case_id], case_row(entry.case)) for case_id, entry in self.changed.items()]

    def person_rows(self) -> list[Row]:
        return [(person.id, person.version, canonical(person).decode()) for person in self.people.values()]

    def webhooks_rows(self) -> list[Row]:
        webhooks = self.webhooks
        return [(1, webhooks.version, canonical(webhooks).decode())] if webhooks else []

    def purchase_rows(self) -> list[Row]:
        return [
            (
                purchase.reference,
                purchase.paid.currency,
                purchase.paid.amount_minor,
                purchase.refunded_minor,
                purchase.reserved_minor,
                canonical(purchase).decode(),
            )
            for purchase in self.purchases.values()
        ]

    def booking_rows(self) -> list[Row]:
        return [
            (slot.case, self.hosts[slot.case], at_text(slot.starts_at), at_text(slot.ends_at))
            for slot in self.bookings.values()
            if slot is not None
        ]

    def ended_bookings(self) -> list[Row]:
        return [(case_id,) for case_id, slot in self.bookings.items() if slot is None]

    def opened_proposals(self) -> list[Row]:
        return [place for place, is_open in self.proposals.items() if is_open]

    def ended_proposals(self) -> list[Row]:
        return [place for place, is_open in self.proposals.items() if not is_open]

    def entries_written(self) -> Iterable[Entry]:
        """What is stored once the batch is durable."""
        for entry in self.changed.values():
            yield Entry(case=entry.case, texts=entry.texts, stored_version=entry.case.version)

    def effect_rows(self) -> list[Row]:
        """Status, fence and when it is due from now on; its number, and the fence that it had."""
        before, now = self.loaded.effects, at_text(self.now)
        return [(one.status, one.fence, now, number, before[number].fence) for number, one in self.effects.items()]

    @property
    def is_empty(self) -> bool:
        return not (self.events or self.keys)


# What is no case's.
CHANGES: tuple[tuple[Any, Callable[[Batch, Submission, Any, Actor], Receipt]], ...] = (
    (PersonCommand, Batch.change_person),
    (AddPolicy, Batch.add_policy),
    (WebhookCommand, Batch.change_webhooks),
    (SendCommand, Batch.send_to_webhook),
    (FindingCommand, Batch.change_finding),
    (EffectCommand, Batch.change_effect),
    (SingleCommand, Batch.add_single),
)


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier request with the same key and body did this; its answer is rendered anew from that version."""

    chain: str
    seq: int
    version: int


def link_of(command: c.Command) -> c.IssueClientLink | c.NewLink | None:
    """The link that a command brings along; whether it is made, `decide` says."""
    if isinstance(command, c.IssueClientLink):
        return command
    return command.link if isinstance(command, c.OpenCase | c.AddMessage) else None


def letter_ref(name: str) -> str:
    """What a mail that answers a letter of ours, or returns it, finds the case by; `name` as `letter_name` has it."""
    return f"ours:{name}"


OUTBOX_COLUMNS = ("chain", "seq", "kind", "target", "lane", "at", "due_at")

# What is to be carried out once more, if it is settled, under the name that the other side knows it by.
AGAIN = """
    ON CONFLICT (chain, seq, kind, target) DO UPDATE
    SET status = 'waiting', fence = outbox.fence + 1, due_at = excluded.due_at, failures = 0
    WHERE outbox.status <> 'waiting'
"""


def effect_of(row: Row) -> Pending:
    """From a row of EFFECT."""
    number, chain, seq, kind, target, status, fence, body = row
    return Pending(
        id=number,
        chain=chain,
        seq=seq,
        kind=EffectKind(kind),
        target=target,
        case=case_of(chain, body),
        status=status,
        fence=fence,
    )


def case_of(chain: str, body: str) -> str | None:
    """Which case an event is about: its chain's, or the one that it names."""
    if chain.startswith(chain_of("")):
        return case_id_of(chain)
    named = msgspec.json.decode(body)["data"].get("case")
    return str(named) if named else None


# What a case is filed under, and what every event changes.
FILED_COLUMNS = ("category", "assignee", "received_at", "purchase")
MOVING_COLUMNS = ("version", "head", "state", "waiting", "changed_at", "next_deadline", "body")
CASE_COLUMNS = ("id", "number", "mail_tag", *FILED_COLUMNS, *MOVING_COLUMNS)


def case_row(case: Case) -> Row:
    due = next_due(case)
    return (
        case.id,
        case.number,
        case.mail_tag,
        *filed_under(case),
        case.version,
        case.head,
        case.state.value,
        case.waiting_since is not None,
        at_text(case.changed_at),
        at_text(due) if due else None,
        canonical(case).decode(),
    )


def filed_under(case: Case) -> Row:
    """FILED_COLUMNS."""
    reference = case.purchase.reference if case.purchase else None
    return (case.category.value, case.assignee, at_text(case.received_at), reference)


def case_id_of(chain: str) -> str:
    return chain.removeprefix("case:")
