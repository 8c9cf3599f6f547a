"""What one reader can do on the case page: the forms, what stands in them, and the reasons where there is none."""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, tzinfo
from functools import cached_property
from typing import Any

import msgspec
from msgspec.structs import replace
from starlette.datastructures import FormData

from api import views as v
from api.errors import FieldProblem, Problem, problem_of
from api.letters.composing import Draft, Writing
from api.letters.drafting import drafts, writing_about
from api.pages.case_actions import ACTIONS, LETTER_FIELDS, TRANSITIONS, Action
from api.pages.forms import Choice, Field, fields_of, shown, text_in
from api.pages.history import History
from api.pages.routing import PageCall
from api.pages.showing import words
from api.pages.telling import sum_of
from storage.batch import Entry
from storage.cases import Neighbour
from workflow import commands as c
from workflow import events as e
from workflow.cases import Case, case_number_text
from workflow.errors import ImpossibleFacts, Refusal
from workflow.guards import Context, judge
from workflow.lifecycle import TRANSITIONS as TABLE
from workflow.money import Money
from workflow.permissions import why_not
from workflow.policy import Decision
from workflow.roles import WORKERS, Role
from workflow.states import CaseState, ProposalStatus, RemedyKind, Resolution, ResumeReason, Trigger
from workflow.timezones import zone

SOME = 4  # people that are named before the others are counted
USUAL_CURRENCY = "EUR"  # where a case has no money yet
LEADS = frozenset({Role.LEAD})
NOT_ENDED = frozenset({ProposalStatus.PROPOSED, ProposalStatus.APPROVED, ProposalStatus.PAYING})
NEVER_OF_THIS_STATE = frozenset({"resolution_fits_state", "payment_failed_only_from_refunded"})

# What would satisfy a guard, and the form or the part of the page where that is done.
SATISFIED: dict[str, tuple[str, str]] = {
    "client_is_answered": ("reply, or say why no answer is needed", "reply"),
    "there_is_a_purchase": ("record the purchase", "purchase"),
    "facts_are_checked": ("check the purchase", "check"),
    "facts_are_possible": ("correct the purchase", "purchase"),
    "proposal_is_approved": ("see the proposals", "proposals"),
    "proposal_is_not_void": ("propose again", "propose-refund"),
    "within_maximum": ("see what the policy says", "policy"),
    "no_payout_under_way": ("see the payout", "proposals"),
    "provider_confirms_a_begun_payout": ("see the proposals", "proposals"),
    "payment_is_not_with_the_provider": ("see the payout", "proposals"),
    "case_is_open": ("reopen it", "reopen"),
    "within_reopening_days": ("link the new case", "link"),
    "no_show_was_not_attended": ("correct it", "attendance"),
    "client_has_not_come": ("correct it", "attendance"),
}
# Where that is proposed which a trigger carries out.
PROPOSED_BY = {Trigger.REFUND: "propose-refund", Trigger.ISSUE_COMPENSATION: "propose-compensation"}
PARTS_OF_THE_PAGE = frozenset({"proposals", "policy"})

# What a field is called, where its name in the API is not what a person would say; and what else there is to say.
LABELS: dict[str, tuple[str, str]] = {
    "reply/text": ("To the client", ""),
    "note/text": ("For colleagues only", ""),
    "message/text": ("What the client said or wrote", ""),
    "no-answer/reason": ("Why it needs none", ""),
    "check/reason": ("What it was compared with", ""),
    "data.description": ("What is offered", ""),
    "data.assignee": ("Who investigates", ""),
    "data.channel": ("How", "by phone, by video, in person"),
    "data.duplicate_of": ("Of which case", "its number, only for a duplicate"),
    "data.reason_code": ("What happened", ""),
    "data.resolution": ("How it ended", ""),
    "data.payment_reference": ("Reference of the payment", ""),
    "affected": ("Amount affected", "how much of the price it concerns"),
    "statement": ("What the client says", ""),
    "verified": ("What was found", ""),
    "slots": ("When it could begin", "as many as you like to offer; the client picks one by their link"),
    "starts_at": ("New time", ""),
    "channel": ("How", "by phone, by video, in person"),
    "attended": ("The client came", ""),
    "propose-slots/text": ("To the client", "beside the times"),
    "attendance/text": ("What is to be said about it", ""),
    "evidence": ("What shows it", "or shows that it is not so"),
    "paid": ("Amount paid", ""),
    "purchased_at": ("Purchased", ""),
    "service_started_at": ("Service started", "empty: not yet"),
    "deliverables_provided_at": ("Deliverables provided", "empty: not yet"),
    "assignee": ("Who", ""),
    "requested_at": ("When the request reached us", ""),
    "participants": ("Addresses", "one on each line, beside the client's own"),
    "case": ("Which case", "its number, such as C-1042"),
    "kind": ("Kind", ""),
    "grounds": ("Grounds", "that it repays; all of them, if none is ticked"),
    "awaits_reply": ("We wait for their answer", "deadlines stand still until they write"),
}


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All that a page is made from, as it was at one moment."""

    case: Case
    history: tuple[e.Recorded, ...]
    texts: dict[str, str]
    names: dict[str, dict[str, str]]
    neighbours: list[Neighbour]
    context: Context
    now: datetime

    @property
    def zone(self) -> tzinfo:
        return zone(self.zone_name)

    @property
    def zone_name(self) -> str:
        return self.context.settings_now(self.now).timezone

    @property
    def entry(self) -> Entry:
        return Entry(case=self.case, texts=self.texts, stored_version=self.case.version)

    @property
    def number(self) -> str:
        return case_number_text(self.case.number)

    @property
    def times(self) -> dict[str, str]:
        """The times that stand in forms, by field, as exact as they are."""
        moments: dict[str, datetime | None] = {"requested_at": self.case.received_at}
        if (purchase := self.case.purchase) is not None:
            for name in ("purchased_at", "service_started_at", "deliverables_provided_at"):
                moments[name] = getattr(purchase, name)
        if (booked := self.case.consultation) is not None:
            moments["starts_at"] = booked.starts_at
        return {name: moment.isoformat() for name, moment in moments.items() if moment is not None}


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """A form that was not carried out, and why."""

    action: Action
    part: str
    form: FormData
    failure: Exception

    @property
    def id(self) -> str:
        return form_id(self.action, self.part)


def form_id(action: Action, part: str) -> str:
    return f"{action.name}-{part}" if part else action.name


# What templates are given.


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal as people read it: `who` could do it instead, `satisfied` says what to do, at `link` on this page.

    Of what another state is needed for, `sources` are these states.
    """

    code: str
    text: str
    sources: tuple[CaseState, ...] = ()
    clause: str | None = None
    who: str = ""
    satisfied: str = ""
    link: str = ""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a form with what stands in it."""

    field: Field
    id: str
    label: str
    hint: str
    choices: tuple[Choice, ...]
    values: tuple[str, ...]
    currency: str
    errors: tuple[str, ...]

    @property
    def value(self) -> str:
        return self.values[0] if self.values else ""


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can be done; with `refused`, that cannot be done now."""

    id: str
    url: str
    title: str
    button: str
    shortcut: str
    fields: tuple[Shown, ...]
    part: str
    version: int | None
    key: str
    refused: tuple[Why, ...]
    draft: str
    letter: tuple[tuple[str, str], ...]  # what a drafted reply brings along unseen
    takes_file: bool
    is_above: bool  # it came back: it stands at the top of the page, with what was typed


class CaseForms:
    """The forms of one case, for one reader, at one moment."""

    def __init__(self, call: PageCall, found: Standing, left: Returned | None) -> None:
        self.found = found
        self.left = left
        self.asked = call.request.query_params
        self.settings_of_desk = call.desk.settings
        self.provider = call.desk.payments.name.capitalize() if call.desk.payments else ""  # of payments
        self.case = found.case
        self.actor = call.caller.actor
        self.now = found.now
        self.context = found.context
        numbers = {one.id: case_number_text(one.number) for one in found.neighbours}
        self.history = History(found.history, found.texts, found.names, numbers)
        self.view = v.case_view(found.entry, self.actor, found.now, found.context)
        self.problem: Problem | None = problem_of(left.failure, call.request_id)[0] if left else None
        self.decision, self.impossible = judged(found.case, found.context)

    def form(
        self,
        action: Action,
        part: str = "",
        *,
        values: Mapping[str, tuple[str, ...]] | None = None,
        choices: Mapping[str, tuple[Choice, ...]] | None = None,
        refused: Iterable[Refusal] | None = None,
        hints: Mapping[str, str] | None = None,
    ) -> Form | None:
        """None if it is nothing for this reader; with reasons, if it is nothing for now."""
        if not self.actor.may(action.roles):
            return None
        if refused is None:
            refused = self.refusals(self.trial(action, part))
        return Form(
            id=self.id_of(action, part),
            url=f"/cases/{self.found.number}/{action.name}",
            title=self.title(action),
            button=action.button or self.title(action),
            shortcut=action.key,
            fields=tuple(self.fields(action, part, values or {}, choices or {}, hints or {})),
            part=part,
            version=self.case.version if action.moving else None,
            key=secrets.token_hex(16),
            refused=self.whys(refused),
            draft=f"{self.actor.id}:{self.case.id}:{action.name}" if action.has_draft else "",
            letter=self.letter_fields(action, part),
            takes_file=action.name == "file",
            is_above=self.back(action, part) is not None,
        )

    def title(self, action: Action) -> str:
        pays = action.name == "begin-payout" and self.provider
        return f"Pay it back through {self.provider}" if pays else action.title

    def fields(
        self,
        action: Action,
        part: str,
        values: Mapping[str, tuple[str, ...]],
        choices: Mapping[str, tuple[Choice, ...]],
        hints: Mapping[str, str],
    ) -> Iterator[Shown]:
        """The reason comes last: it is about all the rest."""
        back = self.back(action, part)
        errors = self.problem.get("errors", []) if back and self.problem else []
        for field in sorted(fields_of(action.model), key=lambda one: one.name == "reason"):
            if field.name in action.fixed or (field.kind == "ticks" and not choices.get(field.name)):
                continue
            label, hint = LABELS.get(f"{action.name}/{field.name}") or LABELS.get(field.name, (field.label, ""))
            yield Shown(
                field=replace(field, required=True) if field.name in action.needs else field,
                id=f"{self.id_of(action, part)}.{field.name}",
                label=label,
                hint=self.hint(field, hint, hints.get(field.name, "")),
                choices=choices.get(field.name, field.choices),
                values=typed(field, back.form) if back else values.get(field.name, ()),
                currency=text_in(back.form, f"{field.name}.currency") if back else self.currency,
                errors=tuple(one["message"] for one in errors if concerns(field.name, one)),
            )

    def letter_fields(self, action: Action, part: str) -> tuple[tuple[str, str], ...]:
        """Of the letter that fills the reply, or of the one that filled the form which came back."""
        if action.name != "reply":
            return ()
        if (back := self.back(action, part)) is not None:
            return tuple((name, said) for name in LETTER_FIELDS if (said := text_in(back.form, name)))
        if (chosen := self.letter) is None:
            return ()
        return tuple(zip(LETTER_FIELDS, (chosen.kind.value, str(chosen.basis), chosen.language), strict=True))

    @cached_property
    def writing(self) -> Writing:
        """In the language that the page was asked for, or the client's."""
        return writing_about(
            self.case,
            self.found.history,
            self.found.texts,
            context=self.context,
            settings=self.settings_of_desk,
            now=self.now,
            language=self.asked.get("language"),
        )

    @cached_property
    def letters(self) -> list[Draft]:
        """Those that can be drafted now, signed by whoever looks."""
        return drafts(self.writing, self.now, self.found.names.get(self.actor.id, {}).get("name", ""))

    @property
    def letter(self) -> Draft | None:
        """The one that was asked for, to stand in the reply."""
        return next((one for one in self.letters if one.kind == self.asked.get("letter")), None)

    def back(self, action: Action, part: str) -> Returned | None:
        """What was typed into this form, if it is the one that came back."""
        return self.left if self.left is not None and self.left.id == form_id(action, part) else None

    def id_of(self, action: Action, part: str) -> str:
        """Another one for the form that came back: it stays when the page is brought up to date and shows a new one."""
        came_back = self.back(action, part) is not None
        return f"returned.{form_id(action, part)}" if came_back else form_id(action, part)

    def hint(self, field: Field, *said: str) -> str:
        zone_name = f"time in {self.found.zone_name}" if field.kind in {"moment", "moments"} else ""
        return "; ".join(filter(None, (*said, zone_name)))

    @property
    def currency(self) -> str:
        if self.case.purchase is not None:
            return self.case.purchase.paid.currency
        return self.case.grounds[0].affected.currency if self.case.grounds else USUAL_CURRENCY

    def filled(self, action: Action) -> dict[str, Any]:
        """What stands in a form at first, and what there is to choose from."""
        case, times = self.case, self.found.times
        match action.name:
            case "purchase" if case.purchase is not None:
                bought = case.purchase
                moments = {name: (shown(at, self.found.zone),) for name, at in times.items() if name != "requested_at"}
                values = {
                    "reference": (bought.reference,),
                    "package": (bought.package,),
                    "paid": (bought.paid.decimal_text(),),
                }
                return {"values": values | moments}
            case "requested-at":
                return {"values": {"requested_at": (shown(times["requested_at"], self.found.zone),)}}
            case "category":
                return {"values": {"category": (case.category.value,)}}
            case "participants":
                others = [self.found.texts[one] for one in case.participants[1:] if one in self.found.texts]
                return {"values": {"participants": ("\n".join(others),)}}
            case "assign":
                nobody = Choice("", "nobody") if self.actor.may(LEADS) else None
                able = [one for one in self.workers() if self.actor.may(LEADS) or one.value == self.actor.id]
                chosen = (case.assignee or "",) if self.actor.may(LEADS) else (self.actor.id,)
                return {"values": {"assignee": chosen}, "choices": {"assignee": (*filter(None, (nobody,)), *able)}}
            case "move-consultation" if (booked := case.consultation) is not None:
                channel = self.found.texts.get(booked.channel or "", "")
                values = {"minutes": (f"{booked.minutes}",), "channel": (channel,)}
                return {"values": values | {"starts_at": (shown(times["starts_at"], self.found.zone),)}}
            case "propose-refund":
                return self.refund_filled()
            case _ if action in TRANSITIONS:
                return self.transition_filled(Trigger(action.fixed["trigger"]))
            case _:
                return {}

    def workers(self) -> list[Choice]:
        """Whom a case can be given to."""
        able = [one for one in self.context.people.values() if one.active and not WORKERS.isdisjoint(one.roles)]
        choices = [Choice(one.id, self.name(one.id) + (" (you)" if one.id == self.actor.id else "")) for one in able]
        return sorted(choices, key=lambda one: (one.value != self.actor.id, one.text))

    def refund_filled(self) -> dict[str, Any]:
        decision = self.decision
        recognised = self.context.policy_for(self.case).settings.grounds
        grounds = [one for one in self.case.grounds if one.verified and one.kind in recognised]
        if decision is None or decision.maximum is None:
            return {}
        most = self.most(decision)
        if not decision.needs_approval:
            return {"values": {"amount": (most.decimal_text(),)}}
        names = tuple(Choice(one.id, self.history.named(one.id)) for one in grounds)
        return {"choices": {"grounds": names}, "hints": {"amount": f"at most {sum_of(most)}"}}

    def most(self, decision: Decision) -> Money:
        """What the policy allows, less what is on its way already."""
        if decision.maximum is None or self.case.purchase is None:
            return Money(0, self.currency)
        left = decision.maximum.amount_minor - self.case.purchase.reserved_minor
        return Money(max(0, left), decision.maximum.currency)

    def transition_filled(self, trigger: Trigger) -> dict[str, Any]:
        """Of what a trigger takes, only what would pass can be chosen; what would not is said."""
        match trigger:
            case Trigger.INVESTIGATE:
                others = [one for one in self.workers() if one.value != self.actor.id]
                return {"choices": {"data.assignee": (Choice("", "you"), *others)}}
            case Trigger.CLOSE:
                tried = {one.value: c.CloseData(resolution=one) for one in Resolution}
                return self.choosing("data.resolution", trigger, tried)
            case Trigger.RESUME:
                reasons = {one.value: c.ResumeData(reason_code=one) for one in ResumeReason}
                return self.choosing("data.reason_code", trigger, reasons)
            case Trigger.REFUND:
                refunds = self.open_proposals(RemedyKind.REFUND)
                paid = {one: c.RefundData(proposal=one, payment_reference="-") for one in refunds}
                filled = self.choosing("data.proposal", trigger, paid)
                elsewhere = f"only of money that did not leave through {self.provider}"
                filled["hints"] |= {"data.payment_reference": elsewhere} if self.provider else {}
                return filled
            case Trigger.ISSUE_COMPENSATION:
                granted = {
                    one: c.IssueCompensationData(proposal=one) for one in self.open_proposals(RemedyKind.COMPENSATION)
                }
                return self.choosing("data.proposal", trigger, granted)
            case _:
                return {}

    def open_proposals(self, remedy: RemedyKind) -> list[str]:
        return [one.id for one in self.case.proposals if one.remedy is remedy and one.status in NOT_ENDED]

    def choosing(self, field: str, trigger: Trigger, tried: Mapping[str, c.TriggerData]) -> dict[str, Any]:
        fitting: list[Choice] = []
        refused: dict[str, list[str]] = {}
        for value, data in tried.items():
            refusals = self.refusals(c.Fire(trigger=trigger, reason="-", data=data))
            name = self.history.named(value) if field == "data.proposal" else words(value)
            if not refusals:
                fitting.append(Choice(value, name))
            elif refusals[0].code not in NEVER_OF_THIS_STATE:
                refused.setdefault("; ".join(one.text for one in refusals), []).append(name)
        hints = [f"not {', '.join(names)}: {reason}" for reason, names in refused.items()]
        return {
            "choices": {field: tuple(fitting)},
            "values": {field: (fitting[0].value,)} if len(fitting) == 1 else {},
            "hints": {field: "; ".join(hints)},
        }

    # Why not.

    def refusals(self, command: c.Command | None) -> tuple[Refusal, ...]:
        return why_not(self.case, command, self.actor, self.now, self.context) if command is not None else ()

    def trial(self, action: Action, part: str) -> c.Command | None:
        some = Money(1, self.currency)
        soon = (self.now + timedelta(days=1)).replace(second=0, microsecond=0)
        if action.name == "propose-slots":
            return c.ProposeSlots(slots=(soon,), minutes=1, channel="-")
        if action.name == "move-consultation":
            return c.MoveConsultation(starts_at=soon, minutes=1, channel="-", reason="-")
        if action.name == "propose-refund" and self.decision is not None:
            some = max(some, self.most(self.decision), key=lambda one: one.amount_minor)
        return action.trial(self.case, part, some) if action.trial else None

    def whys(self, refusals: Iterable[Refusal], trigger: Trigger | None = None) -> tuple[Why, ...]:
        """All of them; where one thing would satisfy several, it is said once."""
        found: list[Why] = []
        for one in refusals:
            why = self.why(one)
            sources = tuple(row.source for row in TABLE if row.trigger is trigger)
            if why.code == "no_such_transition" and len(sources) < len(CaseState) - 1:
                why = replace(why, sources=sources)
            elif why.code == "case_is_investigated":
                why = replace(why, sources=(CaseState.INVESTIGATING,), clause=None, who="")
            elif why.code == "proposal_is_approved" and trigger in PROPOSED_BY and not self.approvers(one):
                why = replace(why, satisfied="propose one", link=f"#{PROPOSED_BY[trigger]}")
            found.append(replace(why, satisfied="") if why.link in {before.link for before in found} else why)
        return tuple(found)

    def why(self, refusal: Refusal) -> Why:
        satisfied, target = SATISFIED.get(refusal.code, ("", ""))
        is_open = target in PARTS_OF_THE_PAGE or (target in ACTIONS and self.actor.may(ACTIONS[target].roles))
        return Why(
            code=refusal.code,
            text="Not for your role" if refusal.code == "role" else f"{refusal.text[:1].upper()}{refusal.text[1:]}",
            clause=refusal.clause,
            who=self.able(refusal),
            satisfied=satisfied if is_open else "",
            link=f"#{target}" if is_open else "",
        )

    def able(self, refusal: Refusal) -> str:
        """Who could do it, by name; roles where nobody has them."""
        if waiting := self.approvers(refusal):
            return self.people(waiting)
        roles = frozenset(refusal.who) - {Role.SYSTEM}
        if not roles:
            return ""
        found = [one.id for one in self.context.people.values() if one.active and not roles.isdisjoint(one.roles)]
        if refusal.code.endswith("by_another_person"):
            found = [one for one in found if one != self.actor.id]
        return self.people(found) or f"nobody here is {' or '.join(sorted(roles))}; somebody who is"

    def approvers(self, refusal: Refusal) -> set[str]:
        """Who can give the approvals that a proposal lacks."""
        if refusal.code != "proposal_is_approved" or Role.APPROVER not in refusal.who:
            return set()
        return {one for proposal in self.view["proposals"] for one in proposal["can_approve"]}

    def people(self, ids: Iterable[str]) -> str:
        """Such as `Cleo, Dirk or 3 others`; whoever looks comes first."""
        them = sorted(ids, key=lambda one: (one != self.actor.id, self.name(one)))
        names = ["you" if one == self.actor.id else self.history.person(one) for one in them]
        shown_names = names if len(names) <= SOME else [*names[: SOME - 1], f"{len(names) - SOME + 1} others"]
        return " or ".join(filter(None, (", ".join(shown_names[:-1]), *shown_names[-1:])))

    def name(self, person_id: str) -> str:
        return self.found.names.get(person_id, {}).get("name", v.ERASED)


def judged(case: Case, context: Context) -> tuple[Decision | None, str]:
    """What the policy says of the facts as they stand, or why they cannot be true."""
    try:
        return judge(case, context), ""
    except ImpossibleFacts as impossible:
        return None, str(impossible)


def concerns(name: str, error: FieldProblem) -> bool:
    """Whether an error is about this field or a part of it."""
    return error["field"] == name or error["field"].startswith((f"{name}.", f"{name}["))


def typed(field: Field, form: FormData) -> tuple[str, ...]:
    """What was sent, to stand in the field again."""
    if field.kind in {"ticks", "moments"}:
        return tuple(one for one in form.getlist(field.name) if isinstance(one, str))
    return (text_in(form, f"{field.name}.amount" if field.kind == "money" else field.name),)
