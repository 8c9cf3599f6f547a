"""Approvals: decisions that wait for somebody, one after the other, each with all that it rests on."""

import secrets
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.responses import RedirectResponse, Response

from api import inputs as i
from api import views as v
from api.approving import Waiting, seen, waiting
from api.errors import PreconditionRequired, problem_of
from api.pages.frame import desk_page
from api.pages.reading import read_as
from api.pages.routing import PageCall, Pages
from api.pages.telling import Names, Values, did, who
from api.replaying import differing, resolved, stretch_of
from storage import cases, people
from storage.batch import Entry
from workflow.cases import Case, Proposal, case_number_text
from workflow.commands import AddNote, GiveVerdict
from workflow.comparing import Change, changes
from workflow.deadlines import next_due
from workflow.errors import BadInput, NotFound, Refused, StaleVersion, WrongDigest
from workflow.events import NoteAdded, Recorded
from workflow.guards import Context, GuardContext, missing_approvals
from workflow.policy import Clause, tier_of
from workflow.roles import APPROVERS

pages = Pages()

SHOWN = 50  # cases
Failure = BadInput | Refused | StaleVersion
History = Sequence[tuple[Recorded, str]]


@pages.get("/approvals", APPROVERS)
async def approvals(call: PageCall) -> Response:
    """All that waits, and one of it in full: the one that the address names, or else the most urgent."""
    return await show(call, call.request.query_params.get("at", "").replace("\x00", ""))


@pages.post("/approvals/{case_id}/{proposal_id}", APPROVERS)
async def give_verdict(call: PageCall, case_id: str, proposal_id: str) -> Response:
    """Bound to what was on the screen; the next one follows."""
    case, proposal = await named(call, case_id, proposal_id)
    place, following = place_of(case, proposal), await after(call, proposal)
    if call.expected is None:
        raise PreconditionRequired
    try:
        given = read_as(
            i.VerdictIn, verdict=call.field("verdict"), digest=call.field("digest"), reason=call.field("reason")
        )
        verdict = GiveVerdict(proposal=proposal.id, verdict=given.verdict, digest=given.digest, reason=given.reason)
        await call.desk.submit(call, verdict, case_id)
    except (BadInput, Refused, StaleVersion) as failure:
        return await show(call, place, failure)
    return RedirectResponse(f"/approvals?{urlencode(following | {'done': place})}", HTTPStatus.SEE_OTHER)


@pages.post("/approvals/{case_id}/{proposal_id}/question", APPROVERS)
async def ask_back(call: PageCall, case_id: str, proposal_id: str) -> Response:
    """A note on the case that says whom it asks about what: colleagues read it there, and clients never."""
    case, proposal = await named(call, case_id, proposal_id)
    place, names = place_of(case, proposal), await people.names(call.desk.database)
    try:
        asked = read_as(i.NoteIn, text=call.field("text")).text
        proposer = who(proposal.proposed_by, names)
        text = f"A question to {proposer} about the {proposal.remedy} of {proposal.amount} ({proposal.id}):\n{asked}"
        await call.desk.submit(call, AddNote(text=text), case_id)
    except (BadInput, Refused) as failure:
        return await show(call, place, failure)
    return RedirectResponse(f"/approvals?{urlencode({'at': place, 'asked': place})}", HTTPStatus.SEE_OTHER)


async def named(call: PageCall, case_id: str, proposal_id: str) -> tuple[Case, Proposal]:
    """Raises NotFound."""
    entry = await cases.one(call.desk.database, case_id)
    proposal = entry.case.proposal(proposal_id) if entry else None
    if entry is None or proposal is None:
        raise NotFound("proposal")
    return entry.case, proposal


async def after(call: PageCall, proposal: Proposal) -> dict[str, str]:
    """Where to go on, once this one is decided: by the list as it stood before."""
    mine = [one for one in await waiting(call.desk, call.caller.actor, SHOWN) if not one.refusals]
    digests = [one.proposal.digest for one in mine]
    if proposal.digest not in digests[:-1]:
        return {}
    following = mine[digests.index(proposal.digest) + 1]
    return {"at": place_of(following.case, following.proposal)}


def place_of(case: Case, proposal: Proposal) -> str:
    return f"{case_number_text(case.number)}/{proposal.id}"


# The page.


async def show(call: PageCall, place: str, failure: Failure | None = None) -> Response:
    listed = await waiting(call.desk, call.caller.actor, SHOWN)
    listed.sort(key=lambda one: bool(one.refusals))  # what can be decided comes first, each part by its urgency
    names = await people.names(call.desk.database)
    rows = await rows_of(call, listed, names)
    place = place or (rows[0]["place"] if rows else "")
    problem, headers = problem_of(failure, call.request_id) if failure else (None, {})
    asked = call.request.query_params
    return await desk_page(
        call,
        "approvals.html",
        here="/approvals",
        status=problem["status"] if problem else HTTPStatus.OK,
        headers=headers,
        now=call.desk.clock(),
        key=secrets.token_hex(16),
        rows=rows,
        place=place,
        steps=steps(rows, place),
        one=await in_full(call, place, names),
        done=await in_brief(call, asked.get("done", ""), names),
        was_asked=bool(place) and asked.get("asked") == place,
        problem=problem,
        changed=await changed_since(call, place, names) if isinstance(failure, StaleVersion | WrongDigest) else None,
        typed={"reason": call.field("reason"), "text": call.field("text")},
    )


async def rows_of(call: PageCall, listed: Sequence[Waiting], names: Names) -> list[dict[str, Any]]:
    chains = list({one.case.chain for one in listed})
    texts: dict[str, dict[str, str]] = {chain: {} for chain in chains}
    for chain, seq, field, value in await cases.short_texts(call.desk.database, chains) if chains else ():
        texts[chain][f"{seq}/{field}"] = value
    return [
        {
            "place": place_of(one.case, one.proposal),
            "title": v.text(texts[one.case.chain], one.case.title),
            "client": v.text(texts[one.case.chain], one.case.client_name),
            "amount": v.money(one.proposal.amount),
            "remedy": one.proposal.kind or one.proposal.remedy,
            "clauses": one.proposal.judgement.clauses if one.proposal.judgement else (),
            "proposer": who(one.proposal.proposed_by, names),
            "due": next_due(one.case),
            "why_not": [refusal.text for refusal in one.refusals],
        }
        for one in listed
    ]


def steps(rows: Sequence[dict[str, Any]], place: str) -> dict[str, str]:
    """To the one before, and to the next one."""
    places = [one["place"] for one in rows]
    if place not in places:
        return {"before": "", "next": "", "at": ""}
    at = places.index(place)
    return {
        "before": places[at - 1] if at else "",
        "next": places[at + 1] if at + 1 < len(places) else "",
        "at": f"{at + 1} of {len(places)}",
    }


async def at_place(call: PageCall, place: str) -> tuple[Entry, Proposal] | None:
    number, _, proposal_id = place.replace("\x00", "").partition("/")
    case_id = await cases.find(call.desk.database, number) if proposal_id else None
    entry = await cases.one(call.desk.database, case_id) if case_id else None
    proposal = entry.case.proposal(proposal_id) if entry else None
    return (entry, proposal) if entry and proposal else None


async def in_brief(call: PageCall, place: str, names: Names) -> dict[str, Any] | None:
    """What became of a proposal that was decided just now, as it is recorded."""
    found = await at_place(call, place)
    if found is None:
        return None
    entry, proposal = found
    context = await call.desk.context()
    missing = missing_approvals(proposal, context.settings_now(call.desk.clock())) if proposal.is_open else 0
    return {
        "place": place,
        "amount": v.money(proposal.amount),
        "remedy": proposal.kind or proposal.remedy,
        "status": proposal.status,
        "missing": missing,
        "mine": [v.text(entry.texts, one.reason) for one in proposal.approvals if one.by == call.caller.actor.key],
        "proposer": who(proposal.proposed_by, names),
    }


async def in_full(call: PageCall, place: str, names: Names) -> dict[str, Any] | None:
    """All that somebody needs to decide, and the very text that is decided on."""
    found = await at_place(call, place)
    if found is None:
        return None
    entry, proposal = found
    case, desk, context, now = entry.case, call.desk, await call.desk.context(), call.desk.clock()
    await desk.record_read(call, case.id, case.version, "proposal")
    view = v.case_view(entry, call.caller.actor, now, context)
    missing = missing_approvals(proposal, context.settings_now(now)) if proposal.is_open else 0
    shown = next(one for one in view["proposals"] if one["id"] == proposal.id)
    history = await cases.events(desk.database, case.id)
    proposed = int(proposal.id[1:])  # p7 is what event 7 proposed
    ctx = GuardContext(case=case, actor=call.caller.actor, now=now, context=context, proposal=proposal)
    return {
        "case": view,
        "proposal": shown,
        "grounds": [one for one in view["grounds"] if one["id"] in proposal.grounds],
        "clauses": clauses_of(proposal, context),
        "tier": tier_of(proposal.amount, context.settings_now(now)),
        "missing": missing,
        "provider": desk.payments.name.capitalize() if desk.payments and proposal == case.payout_under_way else "",
        "waiting": seen(ctx, missing),
        "due": next_due(case),
        "can_approve": [who(f"person:{one}", names) for one in shown["can_approve"]],
        "names": {key: who(key, names) for key in people_in(case)},
        "notes": await notes_after(call, history, proposed, names),
        "files": sum(recorded.event.type == "attachment_added" for recorded, _ in history),
        "body": next((pretty(body) for recorded, body in history if recorded.event.seq == proposed), ""),
    }


def clauses_of(proposal: Proposal, context: Context) -> list[Clause]:
    """As they stood in the version of the policy that the proposal was judged by."""
    judgement = proposal.judgement
    if judgement is None:
        return []
    version = next(one for one in context.policies if one.version == judgement.policy)
    return [one for one in version.clauses if one.id in judgement.clauses]


def people_in(case: Case) -> set[str]:
    found = {one.by for proposal in case.proposals for one in proposal.approvals}
    found |= {one.proposed_by for one in case.proposals}
    return found | {by for one in case.grounds for by in (one.recorded_by, one.verified_by) if by}


async def notes_after(call: PageCall, history: History, seq: int, names: Names) -> list[dict[str, Any]]:
    """What colleagues have written since then: questions, and what was answered."""
    notes = [one for one, _ in history if isinstance(one.data, NoteAdded) and one.event.seq > seq]
    texts = await cases.texts_of(call.desk.database, history[0][0].event.chain.partition(":")[2]) if notes else {}
    return [
        {
            "by": who(one.event.actor, names),
            "at": one.event.at,
            "text": texts.get(f"{one.event.seq}/text", v.ERASED),
        }
        for one in notes
    ]


def pretty(body: str) -> str:
    return msgspec.json.format(body, indent=2)


# What is other than it was on the screen.


async def changed_since(call: PageCall, place: str, names: Names) -> dict[str, Any] | None:
    """Since the version that was seen, field by field; or from the proposal whose digest was sent to this one."""
    found = await at_place(call, place)
    if found is None:
        return None
    entry, proposal = found
    case, texts = entry.case, entry.texts
    other = next((one for one in case.proposals if one.digest == call.field("digest")), None)
    if call.field("digest") != proposal.digest:
        return {
            "events": [],
            "other": place_of(case, other) if other else "",
            "fields": [*in_words(changes(other, proposal), case, texts, names)] if other else [],
        }
    seen_version = max(call.expected or {0})
    if not 0 < seen_version <= case.version:
        return None
    stretch = await stretch_of(call.desk.database, case.id, str(seen_version), None)
    difference = await differing(call.desk.database, stretch)
    return {
        "events": [
            {"who": who(one.event.actor, names), "did": did(one, names), "at": one.event.at}
            for one, _ in stretch.between
        ],
        "other": "",
        "fields": [*in_words(difference.changes, case, difference.texts, names)],
    }


UNSAID = frozenset({"digest", "id", "answers", "client_messages"})


def in_words(found: Sequence[Change], case: Case, texts: dict[str, str], names: Names) -> Iterator[dict[str, str]]:
    values = Values(case, names)
    for one in found:
        if one.path not in UNSAID:
            before, now = (
                plain(values.value(one.path, resolved(one.path, value, texts, v.ERASED)))
                for value in (one.before, one.after)
            )
            yield {"what": values.label(one.path.removesuffix(".amount_minor")), "before": before, "after": now}


def plain(value: Any) -> str:
    match value:
        case None:
            return "—"
        case dict():
            return "; ".join(f"{name}: {plain(part)}" for name, part in value.items())
        case list():
            return ", ".join(map(plain, value))
        case _:
            return str(value)
