"""What is around the auditors' pages, and how they read what is asked of them."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from api.errors import problem_of
from api.pages.frame import desk_page
from api.pages.routing import PageCall
from api.routing import field_errors
from storage import cases, people
from workflow.errors import BadInput, CaseworkError, NotFound
from workflow.roles import ADMINS, OVERSEERS, READERS, Role

M = TypeVar("M", bound=BaseModel)

MAX_DIGITS = 15
HERE = "/audit-desk"
PLACES: tuple[tuple[str, str, frozenset[Role]], ...] = (
    ("Overview", HERE, OVERSEERS),
    ("Cases", f"{HERE}/cases", READERS),
    ("Feed", f"{HERE}/feed", READERS),
    ("Refused", f"{HERE}/refused", OVERSEERS),
    ("Reads", f"{HERE}/reads", OVERSEERS),
    ("Changes", f"{HERE}/changes", OVERSEERS | ADMINS),
    ("Set aside", f"{HERE}/set-aside", READERS),
    ("Findings", f"{HERE}/findings", READERS),
    ("Samples", f"{HERE}/samples", OVERSEERS),
    ("Reports", f"{HERE}/reports", OVERSEERS),
    ("Take away", f"{HERE}/take-away", OVERSEERS),
)


async def audit_page(call: PageCall, template: str, *, here: str, status: int = 200, **facts: Any) -> Response:
    response = await desk_page(
        call,
        template,
        here=HERE,
        places=[
            {"text": text, "url": url, "here": url == here}
            for text, url, roles in PLACES
            if call.caller.actor.may(roles)
        ],
        now=call.desk.clock(),
        oversees=call.caller.actor.may(OVERSEERS),
        **facts,
    )
    response.status_code = status
    return response


def asked(model: type[M], call: PageCall) -> M:
    """What stands in the address; a field that was left empty is not asked for. Raises BadInput."""
    return read(model, {name: value for name, value in call.request.query_params.items() if value.strip()})


def read(model: type[M], given: dict[str, Any]) -> M:
    """Raises BadInput."""
    try:
        return model.model_validate(given)
    except ValidationError as invalid:
        raise BadInput(*field_errors(invalid)) from invalid


def whole(text: str) -> int | None:
    """The number that these digits are, if they are some, and no more than any number here has."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS else None


async def case_named(call: PageCall, name: str) -> str:
    """The id of a case by its number or id. Raises NotFound."""
    case_id = await cases.find(call.desk.database, name)
    if case_id is None:
        raise NotFound("case")
    return case_id


async def names_of_people(call: PageCall) -> dict[str, dict[str, str]]:
    return await people.names(call.desk.database)


def told_of(failure: CaseworkError, call: PageCall) -> tuple[int, list[str]]:
    """The status that the API would answer with, and every reason as a sentence."""
    problem, _ = problem_of(failure, call.request_id)
    reasons = [f"{one['field']}: {one['message']}" for one in problem.get("errors", [])]
    return problem["status"], reasons + [one["text"] for one in problem.get("refusals", [])]
