"""The replay of one case, for auditors: step by step, between two points, proved, and judged again."""

import hmac
import secrets
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple

import structlog
from pydantic import Field
from starlette.responses import RedirectResponse, Response

from api import inputs as i
from api import views as v
from api.bundles import BundleQuery, bundle
from api.findings import FindingIn, finding_view, opening
from api.pages import standing
from api.pages.audit_frame import HERE, asked, audit_page, case_named, names_of_people, read, told_of, whole
from api.pages.rendering import page
from api.pages.routing import PageCall, Pages
from api.pages.telling import KIND_WORDS, Kind, Names, Values, did, kind_of, to_the_millisecond, who
from api.replaying import POINT_FIELDS, resolved, version_at
from api.reviewing import WhyView, reviewed, why_view
from diagrams.path import path_diagram
from diagrams.svg import as_svg
from storage import auditing, cases, checkpoints
from storage.batch import Entry
from storage.events import UNFIT
from storage.reviewing import reviews, roles_then
from storage.verify_case import verify_case
from workflow.cases import Case, case_number_text
from workflow.comparing import changes
from workflow.errors import BadInput, BrokenHistory, CaseworkError, GuardRefused, NotFound
from workflow.events import Recorded, Severity
from workflow.replaying import evolve
from workflow.reviewing import is_decision
from workflow.roles import AUDITORS, OVERSEERS, READERS

log = structlog.get_logger()
pages = Pages()

CASES = f"{HERE}/cases"
CASE = CASES + "/{name}"
SHOWN_FINDINGS = 200

# What reading a log can come to that somebody has tampered with.
UNREADABLE: tuple[type[Exception], ...] = (BrokenHistory, KeyError, *UNFIT)


class StepQuery(i.Input):
    """Each point is a version, or an instant, as the API takes them. `seen` is what the player was opened with."""

    at: i.Text | None = None
    start: i.Text | None = Field(default=None, alias="from")
    seen: int | None = Field(default=None, ge=1, le=2**31 - 1)
    mark: i.Text = ""


# The player.


@pages.get(CASE, READERS)
async def player(call: PageCall, name: str) -> Response:
    """The case as it stood after the event `at`, and what that recorded; with `from`, against that one instead."""
    return await shown(call, await case_named(call, name), asked(StepQuery, call))


async def shown(
    call: PageCall, case_id: str, query: StepQuery, *, status: int = 200, said: dict[str, Any] | None = None
) -> Response:
    """`said` is what was typed into the form for a finding, and why it was not taken."""
    try:
        history = await cases.events(call.desk.database, case_id)
        total = len(history)
        step = await step_of(call, case_id, history, query, total)
    except UNREADABLE as broken:
        return await unreadable(call, case_id, broken)
    await call.desk.record_read(call, case_id, total, "replay")
    names = await names_of_people(call)
    return await audit_page(
        call,
        "replay.html",
        here=CASES,
        status=status,
        step=step,
        ticks=[tick_of(one, names) for one, _ in history],
        kinds=[(kind, text) for kind, text in KIND_WORDS.items() if kind is not Kind.DESK],
        steps=f"{step['url']}/step?seen={total}&mark={mark_of(call, case_id, total)}",
        **finding_form(call, said),
    )


@pages.get(f"{CASE}/step", READERS)
async def fragment(call: PageCall, name: str) -> Response:
    """The very same for one more step, to be put in place of the one before."""
    case_id, query = await case_named(call, name), asked(StepQuery, call)
    try:
        history = await cases.events(call.desk.database, case_id)
        total = min(query.seen or len(history), len(history))
        step = await step_of(call, case_id, history[:total], query, len(history))
    except UNREADABLE as broken:
        return await unreadable(call, case_id, broken)
    # Who opened the player was recorded as reading all there was by then; nobody else has its mark.
    if not hmac.compare_digest(query.mark.encode(), mark_of(call, case_id, total).encode()):
        await call.desk.record_read(call, case_id, step["at"], "replay")
    return page("replay_step.html", step=step, csrf=call.csrf, **finding_form(call, None))


def mark_of(call: PageCall, case_id: str, version: int) -> str:
    said = f"replay {call.caller.token} {case_id} {version}"
    return hmac.digest(call.desk.secret, said.encode(), "sha256").hex()[:32]


def finding_form(call: PageCall, said: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "finds": call.caller.actor.may(AUDITORS),
        "severities": list(Severity),
        "key": secrets.token_hex(16),
        "said": said or {"severity": "", "text": "", "reasons": []},
    }


async def unreadable(call: PageCall, case_id: str, broken: Exception) -> Response:
    """What is stored cannot be replayed: that is said, and verifying says where."""
    log.error("history_unreadable", case=case_id, request_id=call.request_id, exc_info=broken)
    said = broken.fault if isinstance(broken, BrokenHistory) else str(broken)
    seq = broken.seq if isinstance(broken, BrokenHistory) else None
    number = case_number_text(await cases.number_of(call.desk.database, case_id))
    return await audit_page(
        call,
        "replay_unreadable.html",
        here=CASES,
        status=HTTPStatus.SERVICE_UNAVAILABLE.value,
        number=number,
        said=said,
        seq=seq,
    )


# One step.


class Tick(NamedTuple):
    seq: int
    kind: Kind
    kind_words: str
    who: str
    did: str
    at: str
    exact: str


def tick_of(one: Recorded, names: Names) -> Tick:
    event, kind = one.event, kind_of(one)
    return Tick(
        seq=event.seq,
        kind=kind,
        kind_words=KIND_WORDS[kind],
        who=who(event.actor, names),
        did=did(one, names),
        at=event.at,
        exact=to_the_millisecond(event.at),
    )


async def step_of(
    call: PageCall, case_id: str, history: Sequence[tuple[Recorded, str]], query: StepQuery, latest: int
) -> dict[str, Any]:
    """All that a step shows. Raises NotFound, BadInput, or one of UNREADABLE."""
    if not history:
        raise NotFound("case")
    database, names = call.desk.database, await names_of_people(call)
    at = version_at([*history], "at", query.at) if query.at else len(history)
    start = version_at([*history], "from", query.start) if query.start else None
    recorded, body = history[at - 1]
    stood = folded([one for one, _ in history])
    before = stood[at - 2] if at > 1 else None
    texts = await cases.texts_of(database, case_id)
    telling = Telling(call, texts, names)
    case, compared = stood[at - 1], stood[start - 1] if start is not None and start <= at else before
    now = await telling.sections(case, history[at - 1][0])
    if compared is not None:
        then = await telling.sections(compared, history[compared.version - 1][0])
        now = standing.marked(then, now)
    number = case_number_text(case.number)
    url = f"{CASES}/{number}"
    return {
        "url": url,
        "case": f"/cases/{number}",
        "number": number,
        "title": v.text(texts, case.title),
        "at": at,
        "start": start,
        "total": len(history),
        "latest": latest,
        "sections": now,
        "state": case.state,
        "tick": tick_of(recorded, names),
        "event": v.event_view(recorded, body, texts),
        "diagram": as_svg(path_diagram([one for one, _ in history], seen=at), styled=False),
        "differences": telling.differences(before, case),
        "comparison": telling.comparison(stood, history, min(start, at), max(start, at)) if start else None,
        "together": [tick_of(one, names) for one, _ in history if caused_together(one, recorded)],
        **await place_of(call, recorded),
        "why": await why(call, case_id, recorded, texts),
        "names": names,
        "findings": await findings_about(call, case_id, recorded),
        "oversees": call.caller.actor.may(OVERSEERS),
    }


def folded(history: Sequence[Recorded]) -> list[Case]:
    """The case after each of these events. Raises BrokenHistory, or what comes of events that do not fit."""
    found: list[Case] = []
    case: Case | None = None
    for one in history:
        try:
            case = evolve(case, one)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as misfit:
            place = one.event.chain, one.event.seq
            raise BrokenHistory(*place, f"does not fit what came before it: {misfit!r}") from misfit
        found.append(case)
    return found


class Telling:
    """One case in words: with its texts, its people, and the policies of the desk."""

    def __init__(self, call: PageCall, texts: dict[str, str], names: Names) -> None:
        self.call = call
        self.texts = texts
        self.names = names

    async def sections(self, case: Case, last: Recorded) -> tuple[standing.Section, ...]:
        """The case as it stood at the moment of its last event."""
        entry = Entry(case=case, texts=self.texts, stored_version=case.version)
        context = await self.call.desk.context()
        return standing.sections(v.case_view(entry, self.call.caller.actor, last.at, context), self.names)

    def differences(self, before: Case | None, after: Case) -> list[dict[str, Any]]:
        """Field by field; nothing for the first event, which makes the case."""
        if before is None:
            return []
        values = Values(after, self.names)
        return [
            {
                "path": one.path,
                "label": values.label(one.path),
                "before": values.value(one.path, resolved(one.path, one.before, self.texts, v.ERASED)),
                "after": values.value(one.path, resolved(one.path, one.after, self.texts, v.ERASED)),
            }
            for one in changes(before, after)
            if one.path not in POINT_FIELDS
        ]

    def comparison(
        self, stood: Sequence[Case], history: Sequence[tuple[Recorded, str]], first: int, last: int
    ) -> dict[str, Any]:
        between = [tick_of(one, self.names) for one, _ in history[first:last]]
        return {
            "first": first,
            "last": last,
            "rows": self.differences(stood[first - 1], stood[last - 1]),
            "events": between,
        }


def caused_together(one: Recorded, other: Recorded) -> bool:
    """By one command: its events share their request and their time."""
    return (one.event.request, one.event.at) == (other.event.request, other.event.at) and one is not other


async def place_of(call: PageCall, recorded: Recorded) -> dict[str, Any]:
    """Where the event stands in the log, and which checkpoint was the first to cover it."""
    desk, event = call.desk, recorded.event
    await desk.sequencer.catch_up()
    position = await cases.position_of(desk.database, event.chain, event.seq)
    covering = await checkpoints.covering(desk.database, position) if position is not None else None
    roles = await roles_then(desk.database, event.actor, position)
    return {"position": position, "covering": covering, "roles": [str(one) for one in roles]}


async def why(call: PageCall, case_id: str, recorded: Recorded, texts: dict[str, str]) -> WhyView | None:
    """Of a decision: what it rested on, and what comes of it when it is made again."""
    if not is_decision(recorded):
        return None
    (found,) = await reviews(call.desk.database, case_id, recorded.event.seq)
    return why_view(found, texts)


async def findings_about(call: PageCall, case_id: str, recorded: Recorded) -> list[Any]:
    found = await auditing.findings(
        call.desk.database, case_id=case_id, is_open=None, before=None, limit=SHOWN_FINDINGS
    )
    return [finding_view(one) for one in found if one.finding.event == recorded.hash]


# Proved.


@pages.get(f"{CASE}/verification", OVERSEERS)
async def verification(call: PageCall, name: str) -> Response:
    """Everything that the log says of this case is worked out again, now, level by level."""
    case_id, desk = await case_named(call, name), call.desk
    version = await desk.version_of(case_id)
    await desk.record_read(call, case_id, version or 0, "verification")
    with suppress(CaseworkError):  # what keeps the log from being signed is told below
        await desk.sequencer.settle()
    report = await verify_case(desk.database, case_id, desk.settings.keys_in)
    number = case_number_text(await cases.number_of(desk.database, case_id))
    return await audit_page(call, "replay_verification.html", here=CASES, report=report, number=number, levels=LEVELS)


class LevelWords(NamedTuple):
    title: str
    done: str


LEVELS = {
    "bytes": LevelWords("Bytes", "Every event was read, written again, and compared byte by byte with what is stored."),
    "hashes": LevelWords("Hashes", "The SHA-256 of every event's bytes was worked out again."),
    "chain": LevelWords("Chain", "Every event has to name the hash, number and state of the one before it."),
    "rules": LevelWords("Rules", "Every change of state has to be a step of the lifecycle as it was logged by then."),
    "row": LevelWords(
        "The case as shown", "All events were replayed and compared, field by field, with what is stored."
    ),
    "tree": LevelWords(
        "In the signed log", "A proof that the signed tree holds it was made for every event, and checked."
    ),
    "signature": LevelWords("Signature", "The newest checkpoint was checked under the key that the log announced."),
    "outside": LevelWords("Kept outside", "The log was compared with the checkpoint that no database can take back."),
    "texts": LevelWords("Texts and files", "Every text and file has to open the commitment that its event made to it."),
}


# Judged again.


@pages.get(f"{CASE}/decisions", READERS)
async def decisions(call: PageCall, name: str) -> Response:
    """Every decision of the case with what it rested on, and whether it is the same when made again."""
    case_id = await case_named(call, name)
    try:
        found, _ = await reviewed(call, case_id, None)
    except UNREADABLE as broken:
        return await unreadable(call, case_id, broken)
    texts, names = await cases.texts_of(call.desk.database, case_id), await names_of_people(call)
    return await audit_page(
        call,
        "replay_decisions.html",
        here=CASES,
        number=case_number_text(await cases.number_of(call.desk.database, case_id)),
        items=[(tick_of(one.recorded, names), why_view(one, texts)) for one in found],
        differing=sum(not one.is_equal for one in found),
        names=names,
    )


# To take away.


@pages.get(f"{CASE}/bundle", OVERSEERS)
async def take_bundle(call: PageCall, name: str) -> Response:
    """The file that proves the case to somebody who trusts nobody here; recorded as the API records it."""
    return await bundle(call, await case_named(call, name), asked(BundleQuery, call))


# A finding about a step.


@pages.post(f"{CASE}/findings", AUDITORS)
async def open_finding(call: PageCall, name: str) -> Response:
    """Attach what was found to the event that is shown."""
    case_id = await case_named(call, name)
    try:
        names = ("hash", "severity", "text")
        given = {"seq": whole(call.field("seq")) or 0} | {name: call.field(name) for name in names}
        receipt = await call.desk.submit(call, await opening(call, case_id, read(FindingIn, given)), case_id)
    except (BadInput, GuardRefused) as refused:
        status, reasons = told_of(refused, call)
        said = {"severity": call.field("severity"), "text": call.field("text"), "reasons": reasons}
        seq = whole(call.field("seq"))
        return await shown(call, case_id, StepQuery(at=str(seq) if seq else None), status=status, said=said)
    finding_id = receipt.finding.id if receipt.finding is not None else ""
    return RedirectResponse(f"{HERE}/findings/{case_id}/{finding_id}", HTTPStatus.SEE_OTHER)
