"""What auditors look at over all cases: the log and its state, what was refused, read, changed, found and drawn."""

import secrets
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from pydantic import Field
from starlette.responses import RedirectResponse, Response

from api import exports
from api import inputs as i
from api import views as v
from api.audit import proof_of
from api.auditing import CHANGES, READS, noted, person_of
from api.cases import ListQuery, listed_cases
from api.exporting import Format, Order, What
from api.feed import PageQuery, mail_set_aside, refused_attempts
from api.findings import FindingsQuery, SayingIn, finding_view
from api.pages.audit_frame import HERE, asked, audit_page, names_of_people, read, told_of, whole
from api.pages.replaying import Tick, tick_of
from api.pages.routing import PageCall, Pages
from api.pages.telling import TYPES, Names
from api.reports import REPORTS, Report, ReportView
from api.reports import asked as report_asked
from api.routing import Answer
from api.samples import SampleIn, again, draw, entry_view
from api.verifying import last_result
from storage import auditing, cases, checkpoints
from storage.auditing import Told
from storage.cases import Sought
from storage.keys import announcements
from workflow.cases import case_number_text, chain_of
from workflow.errors import BadInput, NotFound, Refused, bad_field
from workflow.events import CaseRead, Recorded
from workflow.findings import FINDING_ROLES, FINDINGS, AnswerFinding, CloseFinding, FindingCommand, decide_finding
from workflow.policy import Category
from workflow.roles import ADMINS, AUDITORS, OVERSEERS, READERS
from workflow.sampling import Allocation, StratifiedBy
from workflow.states import CaseState

pages = Pages()

ROWS = 50
LATEST = 8
COUNTED = 99
CASE_CHAIN = chain_of("")


# Where an auditor begins.


@pages.get(HERE, OVERSEERS)
async def overview(call: PageCall) -> Response:
    """The state of the log, what happened last, and what there is to do here and elsewhere."""
    desk, names = call.desk, await names_of_people(call)
    await desk.sequencer.catch_up()
    latest, _ = await cases.latest(desk.database, Sought(), None, LATEST)
    announced = await desk.database.run(announcements)
    found = await auditing.findings(desk.database, case_id=None, is_open=True, before=None, limit=COUNTED + 1)
    refused = await refused_attempts(call, PageQuery(limit=LATEST))
    return await audit_page(
        call,
        "audit_overview.html",
        here=HERE,
        events=await entries(call, latest, names),
        checkpoint=await checkpoints.newest(desk.database),
        lag=await desk.sequencer.lag(),
        key=announced[-1].vkey if announced else None,
        faults=[*desk.sequencer.faults.values(), *await desk.self_check()],
        verified=last_result(desk.settings),
        open_findings=f"{COUNTED}+" if len(found) > COUNTED else f"{len(found)}",
        refused=refused["items"],
        numbers=await numbers(call, (one["case"] for one in refused["items"])),
        names=names,
        draws=call.caller.actor.may(AUDITORS),
    )


# Cases.


@pages.get(f"{HERE}/cases", READERS)
async def list_cases(call: PageCall) -> Response:
    """Cases by number, words and filters, to be replayed."""
    given = call.request.query_params
    query = asked(ListQuery, call)
    items, cursor = await listed_cases(call, query)
    return await audit_page(
        call,
        "audit_cases.html",
        here=f"{HERE}/cases",
        items=items,
        names=await names_of_people(call),
        asked={"q": "", "state": "", "category": "", "assignee": ""} | dict(given),
        states=list(CaseState),
        categories=list(Category),
        more=further(call, cursor=cursor),
    )


def further(call: PageCall, **place: Any) -> str | None:
    """The address of the next page, if there is one."""
    if None in place.values():
        return None
    return f"{call.request.url.path}?{urlencode(dict(call.request.query_params) | place)}"


# The feed.


class FeedQuery(i.Input):
    before: int | None = Field(default=None, ge=1, le=2**53)
    type: i.Text | None = None
    actor: i.Text | None = None
    chain: i.Text | None = None


@pages.get(f"{HERE}/feed", READERS)
async def feed(call: PageCall) -> Response:
    """Every event of the desk, newest first, by its position in the log."""
    query, database = asked(FeedQuery, call), call.desk.database
    await call.desk.sequencer.catch_up()
    names = await names_of_people(call)
    actors = {f"person:{one}": said.get("name", "") for one, said in names.items()} | SYSTEM_ACTORS
    chain = query.chain
    if chain is not None and (case_id := await cases.find(database, chain.strip())) is not None:
        chain = chain_of(case_id)
    sought = Sought(
        kind=query.type if query.type in TYPES else None,
        actor=query.actor if query.actor in actors else None,
        chain=chain,
    )
    found, before = await cases.latest(database, sought, query.before, ROWS)
    return await audit_page(
        call,
        "audit_feed.html",
        here=f"{HERE}/feed",
        events=await entries(call, found, names),
        asked={"type": "", "actor": "", "chain": ""} | dict(call.request.query_params),
        types=TYPES,
        actors=sorted(actors.items(), key=lambda one: one[1].casefold()),
        more=further(call, before=before),
    )


SYSTEM_ACTORS = {"system:": "the desk itself", "client:": "clients"}


async def entries(
    call: PageCall, found: Iterable[tuple[int, Recorded]], names: Names
) -> list[tuple[int, Tick, str, str]]:
    """Of each event its position, what it says, which case or chain it is about, and where it is shown."""
    found = [*found]
    known = await numbers(call, (case_of(one) for _, one in found))
    told = []
    for position, one in found:
        chain, number = one.event.chain, known.get(case_of(one) or "")
        is_in_case = number is not None and chain.startswith(CASE_CHAIN)
        url = f"{HERE}/cases/{number}?at={one.event.seq}" if is_in_case else f"{HERE}/events/{position}"
        told.append((position, tick_of(one, names), number or chain.partition(":")[0], url))
    return told


def case_of(recorded: Recorded) -> str | None:
    """The id of the case that an event is about, if it is about one."""
    chain = recorded.event.chain
    if chain.startswith(CASE_CHAIN):
        return chain.removeprefix(CASE_CHAIN)
    if chain.startswith(FINDINGS):
        return chain.removeprefix(FINDINGS).partition(":")[0]
    case_id: str | None = getattr(recorded.data, "case", None)
    return case_id


async def numbers(call: PageCall, ids: Iterable[str | None]) -> dict[str, str]:
    """The numbers of these cases, as people say them, by id."""
    found = await cases.numbers_of(call.desk.database, (one for one in ids if one is not None))
    return {case_id: case_number_text(number) for case_id, number in found.items()}


@pages.get(f"{HERE}/events/{{position}}", OVERSEERS)
async def event(call: PageCall, position: str) -> Response:
    """One event of the log: its bytes, and the proof that the tree holds it."""
    place = whole(position)
    found = await cases.feed(call.desk.database, place - 1, 1) if place else []
    if not found or found[0][0] != place:
        raise NotFound("event")
    place, recorded, body = found[0]
    names = await names_of_people(call)
    signed = await checkpoints.newest(call.desk.database)
    is_covered = signed is not None and place <= signed.size
    ((_, tick, name, url),) = await entries(call, [(place, recorded)], names)
    return await audit_page(
        call,
        "audit_event.html",
        here=f"{HERE}/feed",
        position=place,
        tick=tick,
        name=name,
        url=url,
        event=v.event_view(recorded, body, None),
        proof=await proof_of(call, place, signed.size) if signed is not None and is_covered else None,
        checkpoint=signed,
    )


# What was refused, read, changed and set aside.


@pages.get(f"{HERE}/refused", OVERSEERS)
async def refused(call: PageCall) -> Response:
    """Attempts that the rules refused."""
    found = await refused_attempts(call, asked(PageQuery, call))
    return await audit_page(
        call,
        "audit_refused.html",
        here=f"{HERE}/refused",
        items=found["items"],
        numbers=await numbers(call, (one["case"] for one in found["items"])),
        names=await names_of_people(call),
        more=further(call, cursor=found["next"]),
    )


@pages.get(f"{HERE}/reads", OVERSEERS)
async def reads(call: PageCall) -> Response:
    """What auditors have read of cases, and what anybody has taken away."""
    return await noted_page(call, "reads", READS)


@pages.get(f"{HERE}/changes", OVERSEERS | ADMINS)
async def changes(call: PageCall) -> Response:
    """Every change of people, roles, tokens, policy, lifecycle, keys and settings."""
    return await noted_page(call, "changes", CHANGES)


async def noted_page(call: PageCall, name: str, kinds: tuple[str, ...]) -> Response:
    found, following = await noted(call, kinds, asked(PageQuery, call))
    names = await names_of_people(call)
    read_cases = [one.data.case for one in found if isinstance(one.data, CaseRead)]
    known = await numbers(call, read_cases)
    return await audit_page(
        call,
        "audit_noted.html",
        here=f"{HERE}/{name}",
        name=name,
        items=[
            {
                "tick": tick_of(one, names),
                "via": one.event.via,
                "number": known.get(one.data.case) if isinstance(one.data, CaseRead) else None,
                "version": one.data.version if isinstance(one.data, CaseRead) else None,
                "person": person_of(one),
                "receipt": f"{one.event.chain}/{one.event.seq}/{one.hash}",
            }
            for one in found
        ],
        more=further(call, cursor=following),
    )


@pages.get(f"{HERE}/set-aside", READERS)
async def set_aside(call: PageCall) -> Response:
    """Mail that opened nothing."""
    found = await mail_set_aside(call, asked(PageQuery, call))
    return await audit_page(
        call,
        "audit_set_aside.html",
        here=f"{HERE}/set-aside",
        items=found["items"],
        more=further(call, cursor=found["next"]),
    )


# Findings.


@pages.get(f"{HERE}/findings", READERS)
async def findings(call: PageCall) -> Response:
    """What was found, newest first: in one case or in all, still open or closed."""
    query, database = asked(FindingsQuery, call), call.desk.database
    case_id = await cases.find(database, query.case) if query.case is not None else None
    if query.case is not None and case_id is None:
        raise bad_field("case", "is no case of this desk")
    is_open = None if query.status is None else query.status == "open"
    found = await auditing.findings(
        database, case_id=case_id, is_open=is_open, before=query.cursor, limit=query.limit + 1
    )
    shown = found[: query.limit]
    return await audit_page(
        call,
        "audit_findings.html",
        here=f"{HERE}/findings",
        items=[finding_view(one) for one in shown],
        numbers=await numbers(call, (one.finding.case for one in shown)),
        names=await names_of_people(call),
        asked={"status": "", "case": ""} | dict(call.request.query_params),
        more=further(call, cursor=shown[-1].place if len(found) > query.limit else None),
        finds=call.caller.actor.may(AUDITORS),
    )


FINDING = f"{HERE}/findings/{{case_id}}/{{finding_id}}"
SAYINGS: Mapping[str, type[AnswerFinding | CloseFinding]] = {"answers": AnswerFinding, "closing": CloseFinding}


@pages.get(FINDING, READERS)
async def finding(call: PageCall, case_id: str, finding_id: str) -> Response:
    """One finding, with what was answered, and what can be said."""
    return await finding_page(call, case_id, finding_id)


async def finding_page(
    call: PageCall, case_id: str, finding_id: str, *, status: int = 200, said: Mapping[str, Any] | None = None
) -> Response:
    """`said` is what was typed, under which name, and why it was not taken."""
    told = await auditing.finding(call.desk.database, case_id, finding_id)
    if told is None:
        raise NotFound("finding")
    return await audit_page(
        call,
        "audit_finding.html",
        here=f"{HERE}/findings",
        status=status,
        one=finding_view(told),
        seq=told.finding.seq,
        number=case_number_text(await cases.number_of(call.desk.database, case_id)),
        names=await names_of_people(call),
        why_not={name: why_not(call, told, command) for name, command in SAYINGS.items()},
        said=said or {"way": "", "text": "", "reasons": []},
        key=secrets.token_hex(16),
    )


def why_not(call: PageCall, told: Told, command: type[AnswerFinding | CloseFinding]) -> list[str]:
    """What forbids whoever looks to say this, whatever the words."""
    asked_for: FindingCommand = command(finding_id=told.finding.id, text="?")
    try:
        decide_finding(told.finding, asked_for, call.caller.actor)
    except Refused as refused:
        return [one.text for one in refused.refusals]
    return []


@pages.post(f"{FINDING}/answers", FINDING_ROLES[AnswerFinding])
async def answer_finding(call: PageCall, case_id: str, finding_id: str) -> Response:
    """Say what there is to say to it."""
    return await say(call, case_id, finding_id, "answers")


@pages.post(f"{FINDING}/closing", FINDING_ROLES[CloseFinding])
async def close_finding(call: PageCall, case_id: str, finding_id: str) -> Response:
    """Close it, with the conclusion."""
    return await say(call, case_id, finding_id, "closing")


async def say(call: PageCall, case_id: str, finding_id: str, way: str) -> Response:
    try:
        saying = read(SayingIn, {"text": call.field("text")})
        await call.desk.submit(call, SAYINGS[way](finding_id=finding_id, text=saying.text), case_id)
    except (BadInput, Refused) as failure:
        status, reasons = told_of(failure, call)
        said = {"way": way, "text": call.field("text"), "reasons": reasons}
        return await finding_page(call, case_id, finding_id, status=status, said=said)
    return RedirectResponse(f"{HERE}/findings/{case_id}/{finding_id}", HTTPStatus.SEE_OTHER)


# Samples.


@pages.get(f"{HERE}/samples", OVERSEERS)
async def samples(call: PageCall) -> Response:
    """What was drawn by whom, and the form to draw."""
    return await samples_page(call)


async def samples_page(
    call: PageCall, *, status: int = 200, said: Mapping[str, Any] | None = None, reasons: Iterable[str] = ()
) -> Response:
    found, following = await noted(call, ("sample_drawn",), asked(PageQuery, call))
    return await audit_page(
        call,
        "audit_samples.html",
        here=f"{HERE}/samples",
        status=status,
        items=[entry_view(one) for one in found],
        names=await names_of_people(call),
        more=further(call, cursor=following),
        draws=call.caller.actor.may(AUDITORS),
        said={"size": "10", "allocation": "", "strata": [], "seed": "", "state": "", "category": ""} | dict(said or {}),
        reasons=[*reasons],
        allocations=list(Allocation),
        strata=list(StratifiedBy),
        states=list(CaseState),
        categories=list(Category),
        key=secrets.token_hex(16),
    )


@pages.post(f"{HERE}/samples", AUDITORS)
async def draw_sample(call: PageCall) -> Response:
    """Draw cases at random, in a way that can be repeated."""
    names = ("size", "allocation", "seed", "state", "category")
    typed = {name: call.field(name) for name in names} | {"strata": [str(one) for one in call.form.getlist("strata")]}
    given: dict[str, Any] = {name: value for name, value in typed.items() if value}
    if (size := whole(call.field("size"))) is not None:
        given["size"] = size
    given["strata"] = tuple(typed["strata"])
    try:
        recorded, _ = await draw(call, read(SampleIn, given))
    except (BadInput, Refused) as failure:
        status, reasons = told_of(failure, call)
        return await samples_page(call, status=status, said=typed, reasons=reasons)
    return RedirectResponse(f"{HERE}/samples/{recorded.event.chain.partition(':')[2]}", HTTPStatus.SEE_OTHER)


@pages.get(f"{HERE}/samples/{{sample_id}}", OVERSEERS)
async def sample(call: PageCall, sample_id: str) -> Response:
    """The sample, drawn again from the log as it was at its position."""
    return await audit_page(
        call,
        "audit_sample.html",
        here=f"{HERE}/samples",
        one=await again(call.desk.database, sample_id),
        names=await names_of_people(call),
    )


# Reports.

REPORT_WORDS = {
    "duties": ("Separation of duties", "Who proposed, approved, began and settled each payment."),
    "near-tiers": ("Close to a limit", "Refunds proposed for a tier's limit or a little below it, by who did so."),
    "overrides": ("Overrides", "Where a person decided otherwise than the policy would by itself."),
    "voided-approvals": ("Void approvals", "Approvals that a later change of facts made void, and which."),
    "refusals": ("Refusals", "How often each person's attempts were refused, and why."),
}


@pages.get(f"{HERE}/reports", OVERSEERS)
async def list_reports(call: PageCall) -> Response:
    """Which reports there are."""
    return await audit_page(call, "audit_reports.html", here=f"{HERE}/reports", reports=REPORT_WORDS)


@pages.get(f"{HERE}/reports/{{name}}", OVERSEERS)
async def report(call: PageCall, name: str) -> Response:
    """One report, from the log as it stands or stood; with `format=json` as a file."""
    if name not in REPORTS:
        raise NotFound("report")
    said = {key: value for key, value in call.request.query_params.items() if value.strip()}
    as_file = said.pop("format", "") == "json"
    wanted = report_asked(name, {key: moment_at(key, value) for key, value in said.items()})
    found: ReportView = await REPORTS[name](await Report.of(call.desk.database, call.desk.sequencer, wanted))
    if as_file:
        return Answer(found, headers={"content-disposition": f'attachment; filename="casework-{name}.json"'})
    return await audit_page(
        call,
        "audit_report.html",
        here=f"{HERE}/reports",
        name=name,
        words_of=REPORT_WORDS[name],
        found=found,
        names=await names_of_people(call),
        asked={"from": "", "to": "", "position": ""} | dict(call.request.query_params),
        file=f"{call.request.url.path}?{urlencode(said | {'format': 'json', 'position': found['position']})}",
    )


DAY_LENGTH = len("2026-03-05")


def moment_at(name: str, value: str) -> str:
    """A day, as a form gives it, begins at midnight UTC."""
    return f"{value}T00:00:00Z" if name in {"from", "to"} and len(value) == DAY_LENGTH else value


# To take away.


@pages.get(f"{HERE}/take-away", OVERSEERS)
async def take_away(call: PageCall) -> Response:
    """What can be taken away as files, and how it is checked elsewhere."""
    return await audit_page(
        call,
        "audit_take_away.html",
        here=f"{HERE}/take-away",
        formats=list(Format),
        states=list(CaseState),
        categories=list(Category),
        checkpoint=await checkpoints.newest(call.desk.database),
    )


@pages.get(f"{HERE}/exports/{{what}}", OVERSEERS)
async def export(call: PageCall, what: str) -> Response:
    """The same files as over the API; whoever takes them away is recorded."""
    if what not in set(What):
        raise NotFound("export")
    said = {name: value for name, value in call.request.query_params.items() if value.strip()}
    order = Order(what=What.LOG) if what == What.LOG else exports.asked(What(what), said)
    return await exports.download(call, order)


@pages.get(f"{HERE}/checkpoint", OVERSEERS)
async def checkpoint(call: PageCall) -> Response:
    """The newest checkpoint, to be held by somebody else."""
    signed = await checkpoints.newest(call.desk.database)
    if signed is None:
        raise NotFound("checkpoint")
    headers = {"content-disposition": f'attachment; filename="checkpoint-{signed.size}.txt"'}
    return Response(signed.note, headers=headers, media_type="text/plain; charset=utf-8")
