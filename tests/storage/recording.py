"""Records a desk's whole log as this release writes it: `python -m tests.storage.recording NAME`.

It makes tests/storage/golden/NAME, named after the release, in which every type of event occurs, and prints the digest
that belongs into test_golden.py. It is made once, when something new can be logged or is logged in another form, and
never again: what it holds has to be read for ever.
"""

import argparse
import asyncio
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import text

from storage import auditing, cases, keys, outbox
from storage.bundles import bundle_of
from storage.chains import fold_of
from storage.events import verified
from storage.keys import KeyFolder, log_of
from storage.sequencer import Sequencer
from storage.tree import length
from storage.whole_log import log_lines
from tests.databases import migrate, sqlite_url
from tests.storage.desks import NOTE, OPERATOR, Office, an_office
from tests.storage.full_desk import EVIDENCE
from tests.workflow.builders import (
    ANA,
    AUDREY,
    BO,
    CHECK,
    CLEO,
    DIRK,
    ELI,
    LOU,
    MAIL,
    MONEY_CAME_BACK,
    NOON,
    PROVIDER,
    UNA,
    a_fresh_purchase,
    a_letter,
    a_link,
    a_purchase,
    answers,
    approves,
    begins,
    closing,
    euros,
    fails,
    firing,
    from_the_client,
    moves,
    picks,
    proposes,
    proposes_credit,
    proposes_slots,
    refunds,
    refuses,
    restates,
    verifies,
)
from workflow import commands as c
from workflow.canonical import canonical, leaf_hash
from workflow.cases import Case, Ground, Proposal
from workflow.desk import AddPolicy, DrawSample, RecordExport, RecordRead, SetMailAside
from workflow.effects import EffectKind
from workflow.errors import Forbidden
from workflow.events import EffectOutcome, SampleDrawn, Severity, at_text
from workflow.findings import AnswerFinding, CloseFinding, OpenFinding
from workflow.guards import Context
from workflow.letters import basis_of, rests_on
from workflow.people import (
    CreateToken,
    DisablePerson,
    LinkIdentity,
    RemoveFilter,
    RevokeToken,
    SaveFilter,
    SetPassword,
    SetRoles,
    SignIn,
    UnlinkIdentity,
)
from workflow.policy import Category, GroundKind, Settings
from workflow.roles import Actor, Role, system_actor
from workflow.sampling import Allocation, Only, Plan, StratifiedBy
from workflow.settling import CancelEffect, RetryEffect, SettleEffect
from workflow.states import CaseState, LetterKind, LinkKind, MailKind, Resolution, ResumeReason, Trigger
from workflow.webhooks import (
    AddWebhook,
    ChangeWebhook,
    DisableWebhook,
    PingWebhook,
    Place,
    RemoveWebhook,
    ReplayWebhook,
    RotateWebhookSecret,
)

FOLDER = Path(__file__).parent / "golden"
RETENTION = timedelta(days=3 * 366)


class Clock:
    now = NOON

    def __call__(self) -> datetime:
        return self.now


class Story:
    """What happens to one case, a few minutes apart."""

    def __init__(self, office: Office, clock: Clock, case_id: str) -> None:
        self.office = office
        self.clock = clock
        self.id = case_id

    async def open(self, **changes: Any) -> None:
        await self.office.open(self.id, **changes)

    async def do(self, actor: Actor, *commands: c.Command) -> Case:
        """The case as these leave it."""
        for command in commands:
            self.clock.now += timedelta(minutes=7)
            await self.office.submit(actor, command, self.id)
        return await self.office.case(self.id)

    async def ground(self, amount: str) -> Ground:
        error = c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=euros(amount), statement="charged twice")
        return (await self.do(ANA, error)).grounds[-1]

    async def propose(self, command: c.Propose, *verdicts: Actor) -> Proposal:
        """Approved by these."""
        proposal = (await self.do(ANA, command)).proposals[-1]
        for one in verdicts:
            await self.do(one, approves(proposal))
        return proposal

    async def letter(self, kind: LetterKind) -> c.AddMessage:
        """Drafted from what is recorded, with a link to the case."""
        history = [one for one, _ in await cases.events(self.office.database, self.id)]
        basis = rests_on(kind, history)
        assert basis is not None
        # What an offer says does not depend on the policy.
        states = basis_of(kind, await self.office.case(self.id), Context(policies=(), people={}), self.clock.now)
        link = c.NewLink(link_id=f"l-{self.id}", secret_hash=f"#l-{self.id}", expires_at=self.clock.now + RETENTION)
        return a_letter(letter=c.Letter(kind=kind, basis=basis, language="en", states=states), link=link)


# What happens.


async def people_come_and_go(office: Office) -> None:
    for token, expires_at in (("t-ana", NOON + RETENTION), ("t-old", None)):
        created = CreateToken(person_id=ANA.id, token_id=token, secret_hash=f"#{token}", expires_at=expires_at)
        await office.submit(OPERATOR, created, None)
    await office.submit(OPERATOR, RevokeToken(person_id=ANA.id, token_id="t-old"), None)
    await people_sign_in(office)
    await office.submit(OPERATOR, SetRoles(person_id=LOU.id, roles=(Role.AGENT, Role.LEAD)), None)
    await office.submit(OPERATOR, DisablePerson(person_id=ELI.id), None)


async def people_sign_in(office: Office) -> None:
    for person, identity in ((ANA, "i-ana"), (LOU, "i-lou")):
        linked = LinkIdentity(
            person_id=person.id,
            identity_id=identity,
            issuer="https://id.step-into.example",
            subject=person.id,
            salt=identity.encode() * 6,
        )
        await office.submit(OPERATOR, linked, None)
    session = SignIn(
        person_id=ANA.id, session_id="s-ana", secret_hash="#s-ana", expires_at=NOON + RETENTION, identity="i-ana"
    )
    await office.submit(OPERATOR, session, None)
    await office.submit(OPERATOR, SetPassword(person_id=ANA.id, password_hash="$argon2id$as-the-library-writes"), None)
    await office.submit(OPERATOR, UnlinkIdentity(person_id=LOU.id, identity_id="i-lou"), None)
    for name, shared in (("f-mine", False), ("f-all", True)):
        kept = SaveFilter(person_id=LOU.id, filter_id=name, name="Big refunds", query="sort=-number", shared=shared)
        await office.submit(LOU, kept, None)
    await office.submit(LOU, RemoveFilter(person_id=LOU.id, filter_id="f-mine"), None)


async def a_refund_is_paid_in_the_end(refunded: Story, duplicate: Story) -> None:
    """Three proposals are void, one refused, one withdrawn; of the last the payment fails once, and comes back once."""
    await refunded.open(subject="The banners / Баннеры", message="They never ran. \U0001f3ab")
    await duplicate.open(purchase=None, purchase_reference="D-1")
    await refunded.do(ANA, firing(Trigger.INVESTIGATE), CHECK, c.AddAttachment(attachment=EVIDENCE))
    await refunded.do(BO, verifies(await refunded.ground("300.00")))
    await refunded.propose(proposes(euros("300.00")), CLEO)
    another = await refunded.ground("1.00")
    await refunded.propose(proposes(euros("300.00")))
    await refunded.do(BO, verifies(another))
    await refunded.propose(proposes(euros("300.00")))
    await refunded.do(ANA, restates((await refunded.office.case(refunded.id)).purchase, package="larger"), CHECK)
    await refunded.do(CLEO, refuses(await refunded.propose(proposes(euros("250.00")))))
    withdrawn = await refunded.propose(proposes(euros("290.00")))
    await refunded.do(ANA, c.WithdrawProposal(proposal=withdrawn.id, reason="a slip"))
    proposal = await refunded.propose(proposes(euros("300.00")), CLEO)
    await refunded.do(DIRK, begins(proposal), fails(proposal), begins(proposal), refunds(proposal), MONEY_CAME_BACK)
    proposal = await refunded.propose(proposes(euros("300.00")), CLEO)
    await refunded.do(DIRK, refunds(proposal))
    await duplicate.do(ANA, c.LinkCase(kind=LinkKind.RELATED, case=refunded.id))
    await duplicate.do(ANA, closing(Resolution.DUPLICATE, duplicate_of=refunded.id))
    await refunded.do(ANA, a_letter(awaits_reply=True))
    await refunded.do(MAIL, from_the_client("Thank you!"))
    await refunded.do(ANA, a_letter("You are welcome."), closing(Resolution.REMEDY_ACCEPTED))


async def everything_else_is_tried(story: Story) -> None:
    """An adjustment and a consultation do not help, a credit does; then the case is opened once more."""
    await story.open(category=Category.RESULTS, purchase=a_purchase(reference="D-4"))
    await story.do(LOU, c.Assign(assignee=BO.id, reason="she knows the client"))
    await story.do(BO, firing(Trigger.INVESTIGATE), CHECK)
    offered = await story.do(BO, a_link(), firing(Trigger.OFFER_ADJUSTMENT))
    await story.do(BO, await story.letter(LetterKind.ADJUSTMENT))
    await story.do(UNA, answers(offered, accepted=False, text="We would rather talk."))
    await story.do(BO, c.RevokeClientLink(link_id=UNA.id, reason="she has lost it"))
    await story.do(BO, firing(Trigger.RESUME, reason_code=ResumeReason.DECLINED))
    starts_at = (story.clock.now + timedelta(days=3)).replace(minute=0, second=0, microsecond=0)
    proposed = await story.do(
        BO, a_link(), proposes_slots(starts_at, starts_at + timedelta(hours=2), text="Which one?")
    )
    await story.do(UNA, picks(proposed, starts_at))
    await story.do(BO, moves(starts_at + timedelta(hours=1)))
    story.clock.now = starts_at + timedelta(hours=2)
    await story.do(BO, c.RecordAttendance(attended=False, text="nobody answered"))
    await story.do(BO, firing(Trigger.RESUME, reason_code=ResumeReason.NO_SHOW))
    credit = await story.propose(proposes_credit(euros("50.00")), CLEO)
    confirmed = firing(Trigger.ISSUE_COMPENSATION, proposal=credit.id, confirmation="CR-1")
    await story.do(system_actor("granting"), confirmed)
    await story.do(BO, a_letter(), closing(Resolution.REMEDY_ACCEPTED), firing(Trigger.REOPEN))


async def mail_comes_and_goes(story: Story) -> None:
    """Until what is kept of the client is erased, years later, when neither a hold nor the policy forbids it."""
    photo = replace(EVIDENCE, id="photo")
    purchase = a_fresh_purchase(reference="D-2")
    await story.open(attachments=(photo,), purchase=purchase, message_id="<1@home.example>")
    await story.do(MAIL, c.RecordBounce(message="m1", mail=MailKind.ACKNOWLEDGEMENT, reason="mailbox full"))
    await story.do(ANA, firing(Trigger.INVESTIGATE), CHECK, c.AddNote(text="rang, nobody answered"))
    await story.propose(proposes(euros("590.00")))
    await story.do(LOU, c.CorrectRequestedAt(requested_at=NOON - timedelta(hours=2), reason="it came by post"))
    await story.propose(proposes(euros("590.00")))
    await story.do(ANA, c.Recategorize(category=Category.CANCELLATION, reason="they want to leave"))
    await story.do(ANA, c.SetParticipants(participants=("una@home.example",)))
    sent = (await story.do(ANA, a_letter())).version
    await story.do(MAIL, c.RecordBounce(message=f"m{sent}", reason="no such mailbox"))
    reply = replace(
        from_the_client("Forget it."),
        subject="Re: the banners",
        sender="una@home.example",
        message_id="<2@home.example>",
    )
    received = (await story.do(MAIL, reply)).version
    await story.do(ANA, c.WaiveAnswer(message=f"m{received}", reason="they only say so"))
    await story.do(LOU, c.PlaceHold(reason="the court asks"), c.ReleaseHold(reason="the court has decided"))
    await story.do(OPERATOR, c.Erase(legal_basis="GDPR Art. 17(1)(a)", reason="they ask"))
    await story.propose(proposes(euros("590.00")))
    await story.do(ANA, closing(Resolution.WITHDRAWN))


async def under_a_later_policy(story: Story) -> None:
    await story.office.submit(OPERATOR, AddPolicy(settings=Settings(window_days=14, retention_days=1096)), None)
    story.clock.now += timedelta(days=3)
    bought = story.clock.now - timedelta(days=1)
    await story.open(purchase=a_fresh_purchase(reference="D-3", purchased_at=bought))
    await story.do(ANA, firing(Trigger.INVESTIGATE), CHECK)
    await a_provider_pays_and_takes_back(story)


async def a_provider_pays_and_takes_back(story: Story) -> None:
    """Twice: from a case that is refunded by it, and from one that has been closed since."""
    proposal = await story.propose(proposes(euros("590.00")))
    await story.do(CLEO, begins(proposal))
    await story.do(PROVIDER, firing(Trigger.REFUND, proposal=proposal.id, payment_reference="RE-1"))
    came_back = firing(Trigger.RESUME, reason_code=ResumeReason.PAYMENT_FAILED, payment_reference="RE-1")
    await story.do(PROVIDER, came_back)
    proposal = await story.propose(proposes(euros("590.00")))
    await story.do(CLEO, begins(proposal))
    await story.do(PROVIDER, firing(Trigger.REFUND, proposal=proposal.id, payment_reference="RE-2"))
    await story.do(ANA, a_letter(), closing(Resolution.REMEDY_ACCEPTED))
    reversal = c.ReversePayment(proposal=proposal.id, reason="the account is closed", payment_reference="RE-2")
    await story.do(PROVIDER, reversal)


async def an_erasure_does_not_wait(story: Story) -> None:
    await story.open(attachments=(replace(EVIDENCE, id="letter"),), purchase=None)
    await story.do(LOU, firing(Trigger.INVESTIGATE), a_letter(), closing())
    at_once = c.Erase(legal_basis="GDPR Art. 17(1)(b)", reason="they ask", override=True)
    await story.do(OPERATOR, at_once)
    await story.do(LOU, NOTE)  # stands for what an older backup has brought back
    await story.do(OPERATOR, replace(at_once, reapplies=leaf_hash(b"what was recorded after that backup")))


async def others_write_too(follows: Story, unverified: Story) -> None:
    unreadable = replace(EVIDENCE, id="unreadable", problem="cut_off")
    await follows.open(follows="refunded", purchase=None, attachments=(unreadable,))
    await unverified.open(unverified_of="refunded", purchase=None, silent=True)
    await unverified.do(BO, closing(Resolution.SPAM))
    await unverified.do(OPERATOR, c.Erase(legal_basis="GDPR Art. 17(1)(d)", reason="it is no client"))


async def others_follow(office: Office) -> None:
    """One system after another; the second says in the end that it is gone."""
    types = ("casework.case.opened", "casework.transition.allowed")
    for name in ("crm", "books"):
        added = AddWebhook(webhook_id=name, url=f"https://{name}.example/hook", types=types, description=name)
        await office.submit(OPERATOR, added, None)
    for command in (
        RotateWebhookSecret(webhook_id="crm"),
        ChangeWebhook(webhook_id="crm", url="https://crm.example/", types=types[:1], active=True, description="CRM"),
        PingWebhook(webhook_id="crm"),
        ReplayWebhook(webhook_id="crm", after=0, through=20, places=(Place("case:refunded", 1, at_text(NOON)),)),
        RemoveWebhook(webhook_id="crm"),
    ):
        await office.submit(OPERATOR, command, None)
    gone = DisableWebhook(webhook_id="books", url="https://books.example/hook", reason="gone")
    await office.submit(system_actor("webhooks"), gone, None)


async def effects_come_about(office: Office, clock: Clock) -> None:
    """All that wait: one after the other in each lane. What cannot be brought about is retried once."""
    acknowledgement, *_ = await outbox.listed(office.database, kind=EffectKind.ACKNOWLEDGE, status="waiting")
    await office.submit(OPERATOR, CancelEffect(effect=acknowledgement.id, reason="they were told by phone"), None)
    retried = set()
    while claimed := await outbox.claim(
        office.database, frozenset(EffectKind), clock.now, lease=timedelta(minutes=2), limit=100
    ):
        for effect in claimed:
            settled = SettleEffect(effect=effect.id, fence=effect.fence, **OUTCOMES[effect.kind])
            if effect.kind is EffectKind.WEBHOOK and effect.id not in retried:
                settled = replace(settled, outcome=EffectOutcome.DEAD, reference="", reason="refused")
            await office.submit(system_actor("outbox"), settled, None)
            if settled.outcome is EffectOutcome.DEAD:
                retried.add(effect.id)
                await office.submit(OPERATOR, RetryEffect(effect=effect.id, reason="it is up again"), None)


OUTCOMES: dict[EffectKind, dict[str, Any]] = {
    EffectKind.ACKNOWLEDGE: {"outcome": EffectOutcome.DONE, "reference": "250 2.0.0 queued"},
    EffectKind.LETTER: {"outcome": EffectOutcome.DONE, "reference": "250 2.0.0 queued"},
    EffectKind.INVITE: {"outcome": EffectOutcome.WITHHELD, "reason": "superseded"},
    EffectKind.PAY: {"outcome": EffectOutcome.DONE, "reference": "RE-1"},
    EffectKind.WEBHOOK: {"outcome": EffectOutcome.DONE, "reference": "204"},
}


async def others_look_on(office: Office) -> None:
    await office.submit(MAIL, SetMailAside(reason="a newsletter", sender="x@y.example", subject="Sale", text="!"), None)
    await office.submit(AUDREY, RecordRead(case="refunded", version=1, what="the case"), None)
    await office.submit(AUDREY, RecordExport(what="cases", format="csv", personal=True, only="state=closed"), None)
    await a_finding_is_answered(office)
    await samples_are_drawn(office)
    for nobody_may in (NOTE, firing(Trigger.INVESTIGATE)):
        with suppress(Forbidden):
            await office.submit(AUDREY, nobody_may, "refunded")


async def a_finding_is_answered(office: Office) -> None:
    """The first is closed, the second waits."""
    (opened, _), *_, (last, _) = await cases.events(office.database, "refunded")
    for name, about in (("first", opened), ("second", last)):
        finding = OpenFinding(
            finding_id=name, seq=about.event.seq, event=about.hash, severity=Severity.MINOR, text="why so late?"
        )
        await office.submit(AUDREY, finding, "refunded")
    await office.submit(ANA, AnswerFinding(finding_id="first", text="it came on a Sunday"), "refunded")
    await office.submit(AUDREY, CloseFinding(finding_id="first", text="so it did"), "refunded")


async def samples_are_drawn(office: Office) -> None:
    strata = (StratifiedBy.STATE, StratifiedBy.AMOUNT, StratifiedBy.AGENT)
    opened = Only(
        state=CaseState.CLOSED,
        category=Category.BILLING,
        assignee=ANA.id,
        opened_from=NOON,
        opened_until=NOON + RETENTION,
    )
    of_each = Plan(seed="5eed", size=1, allocation=Allocation.PER_STRATUM, strata=(StratifiedBy.STATE,), only=opened)
    position = await office.database.run(length)
    for plan in (Plan(seed="5eed", size=3, strata=strata, bounds=("100.00",)), of_each):
        sample = await auditing.drawn(office.database, plan, position)
        drawn = SampleDrawn(
            plan=plan,
            position=position,
            population=sample.population,
            drawn=len(sample.cases),
            digest=sample.digest,
            given=plan is of_each,
        )
        await office.submit(AUDREY, DrawSample(sample=drawn), None)


class Recording:
    """`files` by name. `proofs` says with which checkpoints each bundle, and the whole log, verifies."""

    def __init__(self, office: Office, clock: Clock, sequencer: Sequencer) -> None:
        self.office = office
        self.clock = clock
        self.sequencer = sequencer
        self.files: dict[str, bytes] = {}
        self.proofs: list[dict[str, Any]] = []
        self.signed: list[tuple[str, int]] = []  # by whom, and how many events

    def story(self, case_id: str) -> Story:
        return Story(self.office, self.clock, case_id)

    async def sign(self) -> None:
        signed = await self.sequencer.settle()
        assert signed is not None
        self.signed.append((signed.origin, signed.size))
        self.files[f"checkpoint-{len(self.signed)}"] = signed.note.encode()

    @property
    def held(self) -> dict[str, int]:
        """The checkpoints of the last origin, with their sizes."""
        last, _ = self.signed[-1]
        return {f"checkpoint-{n}": size for n, (origin, size) in enumerate(self.signed, 1) if origin == last}

    def prove(self, name: str, content: bytes) -> None:
        self.files[name] = content
        self.proofs.append({"file": name, "checkpoints": [*self.held]})

    async def bundle(self, case_id: str, **how: bool) -> bytes:
        """The case as the last checkpoint has it, going on from the earlier ones."""
        return await bundle_of(self.sequencer, case_id, since=self.held.values(), **how)

    async def happen(self) -> None:
        """With three keys one after the other: the second is introduced by the first, the third goes on without it."""
        database, folder, clock = self.office.database, self.folder, self.clock
        await keys.ensure_key(database, folder, clock())
        await people_come_and_go(self.office)
        await a_refund_is_paid_in_the_end(self.story("refunded"), self.story("duplicate"))
        await self.sign()
        await keys.rotate(database, folder, clock())
        await everything_else_is_tried(self.story("reopened"))
        await mail_comes_and_goes(self.story("erased"))
        await under_a_later_policy(self.story("later"))
        await an_erasure_does_not_wait(self.story("erased-at-once"))
        await others_write_too(self.story("follows"), self.story("unverified"))
        await others_look_on(self.office)
        await others_follow(self.office)
        await effects_come_about(self.office, clock)
        await self.sign()
        self.prove("refunded.bundle", await self.bundle("refunded", files=True))
        self.prove("refunded-redacted.bundle", await self.bundle("refunded", redacted=True))
        await keys.adopt(database, folder, clock())
        clock.now += RETENTION
        await self.office.do(OPERATOR, c.Erase(legal_basis="GDPR Art. 17(1)(a)"), "erased")
        await self.sign()
        self.prove("erased.bundle", await self.bundle("erased", files=True))
        self.prove("whole.log", "".join([line async for line in log_lines(self.sequencer)]).encode())

    @property
    def folder(self) -> Path:
        assert self.sequencer.keys is not None
        return self.sequencer.keys.folder


async def recorded(url: str, folder: Path) -> dict[str, bytes]:
    """All files of a recording, made on the migrated database at this URL."""
    clock = Clock()
    async with an_office(url, clock, effects=frozenset(EffectKind)) as office:
        keys_in = KeyFolder(folder, await log_of(office.database))
        recording = Recording(office, clock, Sequencer(office.database, keys_in, clock))
        await recording.happen()
        announced = await office.database.run(keys.announcements)
        rows = await office.database.run(lambda connection: [tuple(row) for row in connection.execute(LOG)])
    return recording.files | {
        "proofs.json": msgspec.json.format(msgspec.json.encode(recording.proofs), indent=1) + b"\n",
        "keys": "".join(f"{one.vkey}\n" for one in announced).encode(),
        "log.jsonl": b"".join(f'{{"hash":"{digest}","event":{body}}}\n'.encode() for digest, body in rows),
        "replayed.jsonl": b"".join(canonical(one) + b"\n" for one in replayed(rows)),
    }


# What is kept of it.

LOG = text("SELECT hash, body FROM positions JOIN events ON id = event_id ORDER BY position")

Rows = Sequence[tuple[str, str]]
"""Hashes and bodies, in the order of the log."""


def chains_of(rows: Rows) -> dict[str, list[tuple[str, str]]]:
    chains: dict[str, list[tuple[str, str]]] = {}
    for digest, body in rows:
        chains.setdefault(msgspec.json.decode(body)["chain"], []).append((body, digest))
    return chains


def replayed(rows: Rows) -> Iterator[dict[str, Any]]:
    """The case, person, … that each chain leads to, where it leads to something. Raises BrokenHistory."""
    for chain, bodies in sorted(chains_of(rows).items()):
        state: Any = None
        for one in verified(bodies, chain):
            state = fold_of(chain)(state, one)
        if state is not None:
            yield {"chain": chain, "state": state}


def digest_of(recording: Path) -> str:
    """Of all its files."""
    digest = hashlib.sha256()
    for file in sorted(recording.iterdir()):
        digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="the release, such as 0.1.0")
    recording = FOLDER / parser.parse_args().name
    with tempfile.TemporaryDirectory() as folder:
        url = migrate(sqlite_url(Path(folder, "casework.db")))
        files = asyncio.run(recorded(url, Path(folder, "keys")))
    recording.mkdir(parents=True)  # what was recorded before stays as it is
    for name, content in files.items():
        (recording / name).write_bytes(content)
    sys.stdout.write(f"{digest_of(recording)}\n")


if __name__ == "__main__":
    main()
