"""Forms that move cases, one or several at once: their fields are those of the trigger's own data."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import Any, get_args

import msgspec
from pydantic import BaseModel
from starlette.datastructures import FormData

from api import inputs as i
from api import views as v
from api.errors import FieldProblem
from api.pages.forms import Choice, Field, fields_of, read, text_in
from api.pages.routing import PageCall
from api.pages.showing import words
from storage import cases, people
from workflow import commands as c
from workflow.cases import Case
from workflow.guards import Context
from workflow.lifecycle import BY_SOURCE, TRANSITIONS
from workflow.permissions import NEEDS
from workflow.roles import WORKERS, Actor, Role
from workflow.states import RESOLUTIONS, CaseState, RemedyKind, Resolution, ResumeReason, Trigger

FORMS: dict[Trigger, type[BaseModel]] = {
    get_args(form.model_fields["trigger"].annotation)[0]: form for form in get_args(get_args(i.TransitionIn)[0])
}
LABELS = {
    "assignee": "Who",
    "data.answer_by": "To be answered by",
    "data.assignee": "Who investigates",
    "data.channel": "How",
    "data.description": "What is offered",
    "data.duplicate_of": "Of which case",
    "data.payment_reference": "Reference of the payment",
    "data.reason_code": "What happened",
    "data.resolution": "How it ended",
}
HINTS = {
    "data.channel": "by phone, by video, in person",
    "data.duplicate_of": "its number, only for a duplicate",
}
DUPLICATE = Choice(Resolution.DUPLICATE.value, words(Resolution.DUPLICATE))
REMEDIES = {Trigger.REFUND: RemedyKind.REFUND, Trigger.ISSUE_COMPENSATION: RemedyKind.COMPENSATION}


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a form with what stands in it."""

    field: Field
    id: str
    label: str
    hint: str
    choices: tuple[Choice, ...]
    values: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def value(self) -> str:
        return self.values[0] if self.values else ""


class People(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a form can name, and for whom it is made."""

    actor: Actor
    context: Context
    names: dict[str, dict[str, str]]

    def name(self, person_id: str | None) -> str:
        return self.names.get(person_id or "", {}).get("name", v.ERASED)

    def workers(self) -> list[Choice]:
        """Whom a case can be given to, whoever looks before all others."""
        able = [one.id for one in self.context.people.values() if one.active and not WORKERS.isdisjoint(one.roles)]
        able.sort(key=lambda one: (one != self.actor.id, self.name(one).casefold()))
        return [Choice(one, self.name(one) + (" (you)" if one == self.actor.id else "")) for one in able]


async def people_of(call: PageCall) -> People:
    context = await call.desk.context()
    names = await people.names_of(call.desk.database, context.people.values())
    return People(actor=call.caller.actor, context=context, names=names)


def triggers_for_many() -> Iterator[Trigger]:
    """Those that need nothing said of each case by itself: whatever has to be given is one of a few codes."""
    for trigger, model in FORMS.items():
        kinds = {field.name: field.kind for field in fields_of(model)}
        if all(kinds[f"data.{name}"] == "choice" for name in NEEDS[trigger]):
            yield trigger


def trigger_between(source: CaseState, target: CaseState) -> Trigger | None:
    return next((row.trigger for row in TRANSITIONS if row.source is source and row.target is target), None)


def choices_for(trigger: Trigger, moved: Sequence[Case], them: People) -> dict[str, tuple[Choice, ...]]:
    """What there is to choose from, by field: what no case could take is not offered."""
    match trigger:
        case Trigger.INVESTIGATE:
            others = [one for one in them.workers() if one.value != them.actor.id]
            return {"data.assignee": (Choice("", "you"), *others)}
        case Trigger.CLOSE:
            fitting = {one for case in moved for one in RESOLUTIONS.get(case.state, ())}
            return {"data.resolution": tuple(Choice(one.value, words(one)) for one in Resolution if one in fitting)}
        case Trigger.RESUME:
            rows = [row for case in moved if (row := BY_SOURCE.get((case.state, trigger))) is not None]
            may = [
                one
                for one in ResumeReason
                if any(them.actor.may(row.roles_for(c.ResumeData(reason_code=one))) for row in rows)
                and (one is not ResumeReason.PAYMENT_FAILED or any(row.source is CaseState.REFUNDED for row in rows))
            ]
            return {"data.reason_code": tuple(Choice(one.value, words(one)) for one in may)}
        case Trigger.REFUND | Trigger.ISSUE_COMPENSATION:
            proposals = [one for case in moved for one in case.proposals if one.remedy is REMEDIES[trigger]]
            return {
                "data.proposal": tuple(
                    Choice(one.id, f"{one.amount.decimal_text()} {one.amount.currency}, {words(one.status)}")
                    for one in proposals
                )
            }
        case _:
            return {}


def fields_with(
    model: type[BaseModel],
    choices: Mapping[str, tuple[Choice, ...]],
    *,
    typed: FormData | None = None,
    errors: Iterable[FieldProblem] = (),
    zone_name: str = "",
) -> list[Shown]:
    """The reason comes last: it is about all the rest."""
    wrong = [*errors]
    shown = []
    for field in sorted(fields_of(model), key=lambda one: one.name == "reason"):
        if field.name == "data.duplicate_of" and not any(
            one.value == "duplicate" for one in choices["data.resolution"]
        ):
            continue
        options = choices.get(field.name, field.choices)
        hints = (HINTS.get(field.name, ""), f"time in {zone_name}" if field.kind == "moment" and zone_name else "")
        values: tuple[str, ...] = (text_in(typed, field.name),) if typed is not None else ()
        if typed is None and field.required and len(options) == 1:
            values = (options[0].value,)
        shown.append(
            Shown(
                field=field,
                id=f"move.{field.name}",
                label=LABELS.get(field.name, field.label),
                hint="; ".join(filter(None, hints)),
                choices=options,
                values=values,
                errors=tuple(one["message"] for one in wrong if one["field"] == field.name),
            )
        )
    return shown


async def command_in(call: PageCall, trigger: Trigger, zone: tzinfo) -> c.Fire:
    """What the form says. Raises BadInput."""
    body: Any = read(FORMS[trigger], call.form, zone, fixed={"trigger": trigger.value}, was={})
    data = i.trigger_data(body)
    if isinstance(data, c.CloseData) and data.duplicate_of is not None:
        # People say numbers; a name of no case is left for the rules to refuse.
        found = await cases.find(call.desk.database, data.duplicate_of.strip())
        data = msgspec.structs.replace(data, duplicate_of=found or data.duplicate_of)
    return c.Fire(trigger=trigger, reason=body.reason, data=data)


def assignment_in(call: PageCall, zone: tzinfo) -> c.Assign:
    """Raises BadInput."""
    body = read(i.AssigneeIn, call.form, zone, fixed={}, was={})
    return c.Assign(assignee=body.assignee, reason=body.reason)


def assignees(them: People) -> dict[str, tuple[Choice, ...]]:
    nobody = (Choice("", "nobody"),) if Role.LEAD in them.actor.roles else ()
    able = [one for one in them.workers() if nobody or one.value == them.actor.id]
    return {"assignee": (*able, *nobody)}
