"""Forms made from what a request may say: each field follows from its type in `api.inputs`, so none is declared twice.

Fields are named by their path, as errors name them: `data.answer_by`, `affected.amount`.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, tzinfo
from functools import cache
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import FormData

from api.inputs import MoneyIn
from api.routing import field_errors
from workflow.errors import BadInput

MOST_ON_ONE_LINE = 500  # characters; whatever may be longer gets several lines

Model = TypeVar("Model", bound=BaseModel)


class Choice(msgspec.Struct, frozen=True):
    value: str
    text: str


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """`kind` is what a person sees: text, long, number, date, moment, money, email, choice, answer, tick, or several.

    An `answer` is yes or no and has to be given; a `tick` may be left out. `ticks`, `moments` and `lines` are several;
    `lines` are texts, one on each line.
    """

    name: str
    kind: str
    required: bool
    nullable: bool = False
    hint: str = ""
    most: int | None = None  # characters, or the highest number
    least: int | None = None
    choices: tuple[Choice, ...] = ()

    @property
    def label(self) -> str:
        return self.name.rpartition(".")[2].replace("_", " ").capitalize()


@cache
def fields_of(model: type[BaseModel]) -> tuple[Field, ...]:
    """In the order of the model; what belongs together in it stands together."""
    schema = model.model_json_schema()
    return tuple(fields_in(schema, schema.get("$defs", {}), ""))


def fields_in(schema: dict[str, Any], definitions: dict[str, Any], path: str) -> Iterator[Field]:
    required = schema.get("required", ())
    for name, declared in schema["properties"].items():
        said = resolved(declared, definitions)
        if "const" in said:
            continue  # says which form this is
        if said.get("type") == "object" and said.get("title") != MoneyIn.__name__:
            yield from fields_in(said, definitions, f"{path}{name}.")
        else:
            yield field_of(said, path + name, required=name in required)


def resolved(declared: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Without references; `nullable` says that there may be nothing."""
    if (variants := declared.get("anyOf")) is not None:
        given = next(one for one in variants if one.get("type") != "null")
        return {**resolved(given, definitions), **declared, "nullable": True}
    if (reference := declared.get("$ref")) is not None:
        return {**definitions[reference.rpartition("/")[2]], **declared}
    return declared


def field_of(said: dict[str, Any], name: str, *, required: bool) -> Field:
    nullable = bool(said.get("nullable"))
    return Field(
        name=name,
        kind=kind_of(said, required=required),
        required=required and not nullable,
        nullable=nullable,
        hint=said.get("description", "") if said.get("title") != MoneyIn.__name__ else "",
        most=said.get("maxLength", said.get("maximum")),
        least=said.get("minimum"),
        choices=tuple(Choice(value, value.replace("_", " ")) for value in said.get("enum", ())),
    )


def kind_of(said: dict[str, Any], *, required: bool) -> str:
    match said:
        case {"enum": _}:
            return "choice"
        case {"type": "object"}:
            return "money"
        case {"type": "boolean"}:
            return "answer" if required else "tick"
        case {"type": "integer"}:
            return "number"
        case {"type": "array"}:
            return {"email": "lines", "date-time": "moments"}.get(said["items"].get("format", ""), "ticks")
        case {"format": form}:
            return {"date": "date", "date-time": "moment", "email": "email"}[str(form)]
        case _:
            return "long" if said.get("maxLength", 0) > MOST_ON_ONE_LINE else "text"


# Back from the form.


def read(
    model: type[Model], form: FormData, zone: tzinfo, *, fixed: Mapping[str, Any], was: Mapping[str, str]
) -> Model:
    """What the form says, as the API would take it. Raises BadInput naming the fields.

    `fixed` is what the page itself knows, by path. `was` are times that stood in the form, by path: a browser shows
    them to the minute, and one that nobody changed stays as exact as it is.
    """
    body: dict[str, Any] = {}
    for field in fields_of(model):
        if field.name not in fixed:
            put(body, field, value_of(field, form, zone, was.get(field.name)))
    for path, value in fixed.items():
        at(body, path)[path.rpartition(".")[2]] = value
    try:
        return TypeAdapter(model).validate_json(msgspec.json.encode(body))
    except ValidationError as invalid:
        raise BadInput(*field_errors(invalid)) from invalid


def put(body: dict[str, Any], field: Field, value: Any) -> None:
    inside = at(body, field.name)  # made even where nothing comes into it
    if value is None and not field.nullable:
        return
    inside[field.name.rpartition(".")[2]] = value


def at(body: dict[str, Any], path: str) -> dict[str, Any]:
    for part in path.split(".")[:-1]:
        body = body.setdefault(part, {})
    return body


def value_of(field: Field, form: FormData, zone: tzinfo, was: str | None) -> Any:
    given = text_in(form, field.name)
    match field.kind:
        case "tick":
            return bool(given)
        case "answer":
            return {"yes": True, "no": False}.get(given)
        case "ticks":
            return [one for one in form.getlist(field.name) if isinstance(one, str)] or None
        case "lines":
            return given.split()
        case "moments":
            times = [one.strip() for one in form.getlist(field.name) if isinstance(one, str)]
            return [in_zone(one, zone) for one in times if one]
        case "money":
            return {part: text_in(form, f"{field.name}.{part}") for part in ("amount", "currency")}
        case "number":
            return int(given) if given.isascii() and given.isdigit() and len(given) < MAX_DIGITS else given or None
        case "moment" if given:
            return was if was and given == shown(was, zone) else in_zone(given, zone)
        case "text" | "long" if field.required:
            return given
        case _:
            return given or None


MAX_DIGITS = 12


def text_in(form: FormData, name: str) -> str:
    """With plain line ends and without space around it."""
    value = form.get(name)
    return value.replace("\r\n", "\n").strip() if isinstance(value, str) else ""


def in_zone(given: str, zone: tzinfo) -> str:
    """With the offset of the zone then; what is no time is handed on, for the model to refuse."""
    try:
        moment = datetime.fromisoformat(given)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return given


def shown(moment: datetime | str, zone: tzinfo) -> str:
    """As a browser's field for a day and a time takes it."""
    moment = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    with suppress(OverflowError):  # at either end of the calendar
        moment = moment.astimezone(zone)
    return moment.replace(tzinfo=None).isoformat(timespec="minutes")
