"""How answers look on a terminal: tables, histories, progress bars.

What clients wrote comes from strangers: none of it may steer the terminal, and none of it is taken for markup.
"""

import shlex
import sys
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text
from sqlalchemy import func, select

from storage.cases import POSITIONS
from storage.database import Database, utc_now
from workflow import events as e
from workflow.cases import Case, Ground, Pointer, Proposal, Purchase, RemedyGiven, case_number_text
from workflow.comparing import Change, differing
from workflow.deadlines import deadlines
from workflow.money import Money
from workflow.people import Person
from workflow.reviewing import Review
from workflow.states import CaseState, MailKind, RemedyKind

if TYPE_CHECKING:
    from api.demo import Pass
    from api.erasures import ErasureView
    from api.mail_intake import Summary
    from api.reconciling import Difference
    from api.replaying import Reasons, Replay, Stretched
    from storage.cuts import Cut
    from storage.verify import Report

ERASED = "(erased)"
MOST_CHARACTERS = 280  # of one text in a history
MOST_DIFFERENCES = 200  # on a terminal
WIDEST = 140  # columns: longer lines are hard to follow
REPLACED = "\N{REPLACEMENT CHARACTER}"
# They would change the order in which the rest of the line is read.
REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """On one line, without control characters."""
    return "".join(
        REPLACED if unicodedata.category(one) in {"Cc", "Cs"} or one in REORDERING else one
        for one in " ".join(text.split())
    )


def words(name: str) -> str:
    return name.replace("_", " ")


def out() -> Console:
    console = Console(markup=False, highlight=False, emoji=False)
    console.width = min(console.width, WIDEST)
    return console


def plain_table(*columns: Column | str) -> Table:
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


# Progress, on terminals only.


@contextmanager
def bar(title: str, *further: TextColumn | BarColumn | MofNCompleteColumn | TimeRemainingColumn) -> Iterator[Progress]:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), *further)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(title, total=None)
        yield progress


@contextmanager
def steps_shown(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar, and what to tell it: how many steps are done, and of how many."""
    with bar(title, BarColumn(), MofNCompleteColumn()) as progress:
        task = progress.task_ids[0]
        yield lambda done, total: progress.update(task, completed=done, total=total)


async def events_shown(database: Database, title: str) -> AbstractContextManager[Callable[[int], None]]:
    """A bar that has an idea of how many events there are, and what to tell it: how many are done."""
    counted = await database.first(select(func.max(POSITIONS.position)))
    total = (counted and counted[0]) or 0

    @contextmanager
    def shown() -> Iterator[Callable[[int], None]]:
        with bar(title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as progress:
            task = progress.task_ids[0]
            yield lambda done: progress.update(task, completed=done, total=max(done, total))

    return shown()


@contextmanager
def rows_shown(title: str) -> Iterator[Callable[[int], None]]:
    with bar(title) as progress:
        task = progress.task_ids[0]
        yield lambda done: progress.update(task, description=f"{title}: {done:,} rows")


@contextmanager
def mails_shown() -> Iterator[Callable[["Summary"], None]]:
    with bar("Importing") as progress:
        task = progress.task_ids[0]
        yield lambda summary: progress.update(task, description=f"Importing: {counted(summary)}")


# What commands answer.


def say(text: str, *, wrong: bool = False) -> None:
    (sys.stderr if wrong else sys.stdout).write(f"{'casework: ' if wrong else ''}{printable(text)}\n")


def counted(summary: "Summary") -> str:
    kinds = [f"{count} {words(kind)}" for kind, count in summary.counts.items()]
    problems = [f"{len(summary.problems)} not taken in"] if summary.problems else []
    return ", ".join(["1 mail" if summary.mails == 1 else f"{summary.mails} mails", *kinds, *problems])


def print_summary(summary: "Summary") -> None:
    say(counted(summary))
    for problem in summary.problems:
        say(problem, wrong=True)


def print_report(report: "Report") -> None:
    found = ", ".join(f"{count} {words(kind)}" for kind, count in report.counts.items())
    say(f"{found}: {'something is wrong' if report.fault_count else 'all as it was written'}")
    for warning in report.warnings:
        say(warning, wrong=True)
    for fault in report.faults:
        say(str(fault), wrong=True)
        for one in fault.drift:
            say(f"  {one.field}: stored is {value_text(one.stored)}, the log says {value_text(one.logged)}", wrong=True)
    if more := report.fault_count - len(report.faults):
        say(f"and {more} more", wrong=True)


async def print_differences(found: AsyncIterator["Difference"], *, as_json: bool) -> int:
    """How many there were. In a pipe each is a line of its own, as soon as it is known."""
    console, table, count = out(), plain_table("What", "Reference", "Case", "Ledger", "Other side"), 0
    async for one in found:
        count += 1
        cells = (words(one.what), one.reference, f"{one.case} {one.proposal}".strip(), one.ledger, one.other)
        if as_json:
            sys.stdout.write(f"{msgspec.json.encode(one).decode()}\n")
        elif not console.is_terminal:
            sys.stdout.write("\t".join(map(printable, cells)) + "\n")
        elif count <= MOST_DIFFERENCES:
            table.add_row(*map(printable, cells))
    if as_json:
        return count
    if table.row_count:
        console.print(table)
    if count > MOST_DIFFERENCES and console.is_terminal:
        say(f"and {count - MOST_DIFFERENCES:,} more")
    say(f"{count:,} differences" if count else "no differences", wrong=bool(count))
    return count


def print_erasures(erasures: Sequence["ErasureView"], also_in: Sequence[str], otherwise: str) -> None:
    for one in erasures:
        match one["outcome"]:
            case "erased":
                said = f"erased {one.get('texts', 0)} texts and {one.get('files', 0)} files"
            case "scheduled":
                due_at = one.get("due_at")
                said = f"will be erased on {minute(due_at)}" if due_at else "will be erased when it has been closed"
                said += " UTC" if due_at else " for as long as it has to be kept"
            case "nothing":
                said = "nothing is left to erase"
            case _:
                said = "; ".join(refusal["text"] for refusal in one["refusals"])
        say(f"{one['number'] or 'mail that was set aside'}: {said}", wrong=one["outcome"] == "refused")
    if not erasures:
        say(otherwise)
    for case_id in also_in:
        say(f"the address takes part in the case {case_id} of somebody else, and goes when that is erased")


def print_tokens(people: Sequence[Person], names: dict[str, dict[str, str]]) -> None:
    table = plain_table("id", "whose", "roles", "until")
    for person in people:
        for token in person.tokens:
            email = printable(names.get(person.id, {}).get("email", ERASED))
            until = minute(token.expires_at) if token.expires_at else "revoked"
            table.add_row(token.id, Text(email), ", ".join(person.roles), until)
    console = out()
    console.width = max(console.width, console.measure(table).maximum)  # for a script to read: never wrapped
    console.print(table)


def print_passes(passes: Sequence["Pass"], url: str) -> None:
    console = out()
    for said, ways in (
        ("Open one of these in a browser; each signs in once:", [f"{url}/sign-in/{one.link}" for one in passes]),
        ("Tokens for the API:", [one.token for one in passes]),
    ):
        lines = [f"  {one.roles:9} {one.name:7} {way}" for one, way in zip(passes, ways, strict=True)]
        console.print(Text("\n".join(["", said, "", *lines])), soft_wrap=True)
    for one in passes[:1]:
        header, example = f"Authorization: Bearer {one.token}", f"{url}/v1/cases?limit=3"
        command = f"curl -H {shlex.quote(header)} {shlex.quote(example)}"
        console.print(Text(f"\nFor example, as {one.name}:\n\n  {command}\n"), soft_wrap=True)


# A case's history, and the case.


def print_replay(replay: "Replay") -> None:
    out().print(replay_shown(replay))


def replay_shown(replay: "Replay") -> RenderableType:
    telling = Telling(replay)
    return Group(
        telling.heading(),
        Padding(telling.history(), (1, 0)),
        telling.as_it_stood(),
        Padding(telling.conclusion(), (1, 0, 0, 0)),
    )


class Telling:
    """Puts one case into words."""

    def __init__(self, replay: "Replay") -> None:
        self.replay = replay
        self.case: Case = replay.entry.case

    # Above.

    def heading(self) -> RenderableType:
        case = self.case
        title = Text.assemble(
            (case_number_text(case.number), "bold"), "  ", (self.text(case.title) or "(no subject)", "bold")
        )
        return Group(title, Text(f"{words(case.state)} · {case.category} · {self.client()}"))

    def client(self) -> str:
        return f"{self.text(self.case.client_name)} <{self.text(self.case.client_email)}>"

    # The history.

    def history(self) -> Table:
        table = plain_table(
            Column("#", justify="right"),
            Column("when (UTC)", width=10),
            Column("who", ratio=4, overflow="fold"),
            Column("what", ratio=7, overflow="fold"),
            Column("why", ratio=8, overflow="fold"),
        )
        table.expand = True
        for one in self.replay.history:
            table.add_row(
                str(one.event.seq),
                f"{one.at:%Y-%m-%d %H:%M:%S}",
                Text(self.who(one.event.actor)),
                Text(self.what(one), style="bold" if one.event.trigger else ""),
                Text(self.why(one.event)),
            )
        return table

    def who(self, key: str) -> str:
        if key in self.replay.names:
            return printable(self.replay.names[key])
        kind, _, name = key.partition(":")
        return name if kind == "system" else key

    def what(self, one: e.Recorded) -> str:
        event, detail = one.event, self.detail(one)
        name = words(event.type)
        if event.trigger is not None:
            name = f"{words(event.trigger)}: {words(str(event.state_before))} → {words(str(event.state_after))}"
        return f"{name}; {detail}" if detail and event.trigger else f"{name}: {detail}" if detail else name

    def detail(self, one: e.Recorded) -> str:  # noqa: C901, PLR0912 - one arm for each type of event
        match one.data:
            case e.Opened(category=category) | e.Recategorized(category=category):
                return category
            case e.InvestigationStarted(assignee=assignee) | e.Assigned(assignee=assignee):
                key = f"person:{assignee}"
                return "nobody" if assignee is None else self.who(key) if key != one.event.actor else ""
            case e.AdjustmentOffered(answer_by=answer_by):
                return f"answer by {answer_by}"
            case e.ConsultationScheduled(starts_at=starts_at, minutes=minutes):
                return f"{minute(starts_at)}, {minutes} minutes"
            case e.ConsultationMoved(starts_at=starts_at, minutes=minutes):
                return f"{minute(starts_at)}, {minutes} minutes"
            case e.SlotsProposed(slots=slots, minutes=minutes):
                return f"{len(slots)} slots from {minute(slots[0])}, {minutes} minutes"
            case e.ConsultationAttended(attended=attended):
                return "the client came" if attended else "the client did not come"
            case e.CompensationIssued(proposal=proposal, confirmation=confirmation):
                return f"{proposal}, {printable(confirmation)}" if confirmation else proposal
            case e.PayoutFailed(proposal=proposal):
                return proposal
            case e.Refunded(proposal=proposal, amount=amount, payment_reference=reference):
                return f"{amount} for {proposal}, {printable(reference)}"
            case e.PayoutBegun(proposal=proposal, amount=amount) | e.PaymentReversed(proposal=proposal, amount=amount):
                return f"{amount} for {proposal}"
            case e.Resumed(reason_code=code) | e.Closed(resolution=code):
                return words(code)
            case e.PurchaseChanged(purchase=purchase, change=change):
                return f"{printable(purchase.reference)}, {change}"
            case e.GroundRecorded(kind=kind, affected=affected):
                return f"g{one.event.seq} {words(kind)}, {affected}"
            case e.GroundVerified(ground=ground, verified=verified):
                return f"{ground} {'is so' if verified else 'is not so'}"
            case e.Proposed(remedy=remedy, amount=amount):
                return f"p{one.event.seq} {remedy} {amount}"
            case e.VerdictGiven(proposal=proposal, verdict=verdict, complete=complete):
                return f"{verdict} {proposal}" + (", complete" if complete else "")
            case e.ProposalWithdrawn(proposal=proposal):
                return proposal
            case e.RequestedAtCorrected(requested_at=requested_at):
                return minute(requested_at)
            case e.MessageSent(awaits_reply=awaits, letter=letter):
                return ", ".join([*([words(letter)] if letter else []), *(["awaits a reply"] if awaits else [])])
            case e.AnswerWaived(message=message):
                return message
            case e.MessageBounced(message=message, mail=mail):
                return message if mail is MailKind.MESSAGE else f"{mail} of {message}"
            case e.OfferAnswered(accepted=accepted):
                return "accepted" if accepted else "declined"
            case e.ClientLinkIssued(link=link, expires_at=expires_at):
                return f"{link}, until {minute(expires_at)}"
            case e.ClientLinkRevoked(link=link):
                return link
            case e.AttachmentAdded(size=size):
                return f"{self.text(f'{one.event.seq}/name')}, {size:,} bytes"
            case e.Linked(kind=kind, case=case):
                return f"{kind} {case}"
            case e.ErasureRequested(due_at=due_at):
                return f"due {minute(due_at)}" if due_at else "due when it has been closed for as long as it is kept"
            case e.Erased(texts=texts, files=files, reapplies=reapplies):
                return f"{texts} texts, {files} files{', again after a restore' if reapplies else ''}"
            case _:
                return ""

    def why(self, event: e.Event) -> str:
        """The reason that was given; for what is said rather than done, what was said."""
        for field in ("reason", "statement", "evidence", "remark", "text", "message"):
            if field in event.personal:
                return shortened(self.text(f"{event.seq}/{field}"))
        return ""

    # The case.

    def as_it_stood(self) -> Table:
        table = Table.grid(Column(style="dim"), Column(ratio=1, overflow="fold"), padding=(0, 2, 0, 0), expand=True)
        for label, values in self.facts():
            for index, value in enumerate(values):
                table.add_row("" if index else label, Text(value))
        return table

    def facts(self) -> Iterator[tuple[str, list[str]]]:
        case = self.case
        yield "state", [self.state()]
        yield "assignee", [self.who(f"person:{case.assignee}") if case.assignee else "nobody"]
        yield "client", [self.client()]
        yield "received", [f"{minute(case.received_at)}, opened {minute(case.opened_at)}"]
        yield "answer", [self.answer()]
        yield "due", [*self.dues()] or ["nothing"]
        yield "purchase", [*self.purchase(case.purchase)] if case.purchase else ["none recorded"]
        yield "grounds", [self.ground(one) for one in case.grounds]
        yield "proposals", [self.proposal(one) for one in case.proposals]
        yield "remedies", [self.remedy(one) for one in case.remedies]
        yield "links", [*self.links()]

    def state(self) -> str:
        arrival = next(one for one in reversed(self.replay.history) if one.event.state_before != one.event.state_after)
        resolution = f" as {words(self.case.resolution)}" if self.case.resolution else ""
        return f"{words(self.case.state)}{resolution} since {minute(arrival.at)}"

    def answer(self) -> str:
        said = "the client has been answered" if self.case.is_answered else "the client has not been answered"
        waiting = self.case.waiting_since
        return said + (f"; waiting for them since {minute(waiting)}" if waiting else "")

    def dues(self) -> Iterator[str]:
        is_now = self.replay.matches is not None
        for one in deadlines(self.case):
            late = " (overdue)" if is_now and not one.paused and one.due_at < utc_now() else ""
            yield f"{words(one.kind)} by {minute(one.due_at)}{' (paused)' if one.paused else late}"

    def purchase(self, purchase: Purchase) -> Iterator[str]:
        def sum_of(minor: int) -> Money:
            return Money(minor, purchase.paid.currency)

        what = f"{printable(purchase.reference)}, {printable(purchase.package)}"
        yield f"{what}: {purchase.paid} on {minute(purchase.purchased_at)}"
        started, provided = purchase.service_started_at, purchase.deliverables_provided_at
        yield f"service started {minute(started) if started else 'not yet'}"
        yield f"deliverables provided {minute(provided) if provided else 'not yet'}"
        left = purchase.paid.amount_minor - purchase.refunded_minor - purchase.reserved_minor
        yield (
            f"{'checked' if purchase.checked else 'not checked'}; refunded {sum_of(purchase.refunded_minor)},"
            f" reserved {sum_of(purchase.reserved_minor)}, left {sum_of(left)}"
        )

    def ground(self, ground: Ground) -> str:
        found = "not examined"
        if ground.verified_by is not None:
            verdict = "verified" if ground.verified else "found not to be so"
            found = f"{verdict} by {self.who(ground.verified_by)}"
        back = f", {Money(ground.refunded_minor, ground.affected.currency)} refunded" if ground.refunded_minor else ""
        return f"{ground.id} {words(ground.kind)}, {ground.affected}{back}; {found}"

    def proposal(self, proposal: Proposal) -> str:
        kind = f" ({words(proposal.kind)})" if proposal.kind else ""
        clauses = f" under {', '.join(proposal.judgement.clauses)}" if proposal.judgement else ""
        rests_on = f" on {', '.join(proposal.grounds)}" if proposal.grounds else ""
        approvals = "".join(f"; approved by {self.who(one.by)}" for one in proposal.approvals)
        paid = f"; {printable(proposal.payment_reference)}" if proposal.payment_reference else ""
        return (
            f"{proposal.id} {proposal.remedy}{kind} of {proposal.amount}{clauses}{rests_on}: {proposal.status};"
            f" proposed by {self.who(proposal.proposed_by)}{approvals}{paid}"
        )

    def remedy(self, remedy: RemedyGiven) -> str:
        match remedy.kind:
            case RemedyKind.ADJUSTMENT:
                what = f"{self.text_or_erased(remedy.description)}; answer by {remedy.answer_by}"
            case RemedyKind.CONSULTATION:
                host = self.who(f"person:{remedy.host}")
                starts = minute(remedy.starts_at) if remedy.starts_at else ""
                what = f"{starts}, {remedy.minutes} minutes, {self.text_or_erased(remedy.channel)}, with {host}"
            case _:
                what = remedy.proposal or ""
        ended = f"; ended: {words(remedy.ended)}" if remedy.ended else ""
        return f"{remedy.kind} of {minute(remedy.at)}: {what}{ended}"

    def links(self) -> Iterator[str]:
        yield from (f"{one.kind}: {one.case}" for one in self.case.links)
        if self.case.follows:
            yield f"continues {self.case.follows}"
        if self.case.unverified_of:
            yield f"from an unverified sender about {self.case.unverified_of}"

    # Below.

    def conclusion(self) -> Text:
        match self.replay.matches:
            case True:
                return Text("The log leads to the case as it is stored.", style="green")
            case False:
                return Text("The log does not lead to the case as it is stored.", style="bold red")
            case None:
                return Text(f"So the case stood at version {self.case.version}, by its log alone.")

    # Texts.

    def text(self, pointer: Pointer) -> str:
        return printable(self.replay.texts.get(pointer, ERASED))

    def text_or_erased(self, pointer: Pointer | None) -> str:
        return self.text(pointer) if pointer else ERASED


def shortened(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


# The difference between two points.


def print_difference(found: "Stretched") -> None:
    from api.replaying import resolved  # noqa: PLC0415 - only this command needs it

    difference, between = found.difference, found.stretch.between
    table = plain_table(
        Column("what", ratio=3, overflow="fold"),
        Column("before", ratio=4, overflow="fold"),
        Column("after", ratio=4, overflow="fold"),
    )
    table.expand = True
    for one in (part for whole in difference.changes for part in in_parts(whole)):
        values = (resolved(one.path, value, difference.texts, ERASED) for value in (one.before, one.after))
        table.add_row(Text(one.path), *(Text(shortened(value_text(value))) for value in values))
    telling = Telling(found.as_replay)
    out().print(
        Group(
            Text(
                f"{case_number_text(difference.after.number)} from version {difference.before.version}"
                f" to version {difference.after.version}",
                style="bold",
            ),
            Padding(telling.history() if between else Text("nothing happened"), (1, 0)),
            table if difference.changes else Text("No fact changed."),
        )
    )


def in_parts(change: Change) -> Iterator[Change]:
    """What is new as a whole is easier read part by part."""
    is_whole = isinstance(change.before, dict) or isinstance(change.after, dict)
    return differing(change.path, change.before or {}, change.after or {}) if is_whole else iter((change,))


def value_text(value: Any) -> str:
    """A value as it stands in the log, on one line."""
    match value:
        case None:
            return "nothing"
        case str():
            return printable(value)
        case _:
            return printable(msgspec.json.encode(value).decode())


# Why.


def print_reasons(found: "Reasons") -> None:
    console = out()
    for review in found.reviews:
        console.print(Padding(Group(*reasons_shown(review, found)), (0, 0, 1, 0)))
    wrong = [str(one.seq) for one in found.reviews if not one.is_equal]
    if wrong:
        text = f"NOT WHAT WAS RECORDED, when made again: {', '.join(wrong)}."
        console.print(Text(text, style="bold red"))
    else:
        console.print(Text(f"Made again, {len(found.reviews)} of {len(found.reviews)} are as recorded.", style="green"))


def reasons_shown(review: Review, found: "Reasons") -> Iterator[RenderableType]:
    event = review.recorded.event
    what = words(event.type)
    if event.trigger is not None:
        what = f"{words(event.trigger)}: {words(str(event.state_before))} → {words(str(event.state_after))}"
    who = found.names.get(event.actor, event.actor)
    yield Text(f"{event.seq}  {what}", style="bold")
    table = Table.grid(Column(style="dim"), Column(ratio=1, overflow="fold"), padding=(0, 2, 0, 0), expand=True)
    for label, value in reasons_of(review, found):
        table.add_row(label, Text(printable(value)))
    roles = ", ".join(review.roles) or "none"
    yield Text(f"   {event.at[:19].replace('T', ' ')} by {printable(who.partition(' (')[0])}, then {roles}")
    yield Padding(table, (0, 0, 0, 3))


def reasons_of(review: Review, found: "Reasons") -> Iterator[tuple[str, str]]:
    """What the decision rested on, by what it is."""
    yield "reason", shortened(found.texts.get(f"{review.seq}/reason", ERASED))
    if (facts := review.facts) is not None:
        purchase = facts.purchase
        bought = f"{purchase.paid} paid on {minute(purchase.purchased_at)}" if purchase else "no purchase"
        yield "facts", f"{facts.category}, requested {minute(facts.requested_at)}; {bought}; {facts.refunded} refunded"
        for ground in facts.grounds:
            found_so = "verified" if ground.verified else "not verified"
            yield "ground", f"{words(ground.kind)}, {ground.affected}, {found_so}"
    yield "policy", f"version {review.policy.version} was in force"
    if (judged := review.decision) is not None and review.judged_by is not None:
        texts = {one.id: one.text for one in review.judged_by.clauses}
        yield "judged", f"by version {judged.policy}: {words(judged.refund)} refund, at most {judged.maximum}"
        for clause in judged.clauses:
            yield clause, texts.get(clause, "")
        for reason in judged.reasons:
            yield "because", reason.text
    for guard in review.guards:
        yield "guard", f"{words(guard.guard)}: {guard.refusal.text if guard.refusal else 'yes'}"
    for approval in review.approvals:
        who = found.names.get(approval.by, approval.by).partition(" (")[0]
        yield "approved", f"by {who} ({', '.join(approval.roles)}) on {minute(approval.at)}"
    if review.is_equal:
        yield "again", "as recorded"
    for one in review.differences:
        recorded, again = value_text(one.before), value_text(one.after)
        yield "AGAIN", f"{one.path}: recorded {recorded}, but made again {again}"


# How all cases stood.


async def print_cut(
    stood: AsyncIterator[Case], counts: Mapping[CaseState, int], cut: "Cut", names: Mapping[str, str]
) -> None:
    """A line for each case as it comes, so that their number does not matter."""
    columns = "{:<10} {:<22} {:>7}  {:<20} {:>18} {:>18} {:>18}"
    sys.stdout.write(columns.format("case", "state", "version", "assignee", "paid", "refunded", "reserved") + "\n")
    async for case in stood:
        who = names.get(f"person:{case.assignee}", case.assignee).partition(" (")[0] if case.assignee else "nobody"
        sums: tuple[str, ...] = ("", "", "")
        if (purchase := case.purchase) is not None:
            minors = purchase.refunded_minor, purchase.reserved_minor
            sums = str(purchase.paid), *(str(Money(one, purchase.paid.currency)) for one in minors)
        row = columns.format(case_number_text(case.number), words(case.state), case.version, printable(who), *sums)
        sys.stdout.write(row.rstrip() + "\n")
    so_many = ", ".join(f"{count} {words(state)}" for state, count in counts.items() if count)
    say(f"at position {cut.position}: {so_many or 'no case'}")
