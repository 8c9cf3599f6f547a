"""Drafts of letters over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api.cases import ASKED
from api.letters.drafting import drafts, require_language, writing_about
from api.letters.languages import languages
from api.routing import Answer, DeskRoute, ReadCall, reads
from storage import cases, people
from workflow.roles import READERS
from workflow.states import LetterKind

router = APIRouter(prefix="/v1/cases", tags=["cases"], route_class=DeskRoute)


class LettersQuery(i.Input):
    language: i.Text | None = Field(
        default=None, description="such as `en`; that of the client, if absent and recognised, or the desk's"
    )


class DraftView(TypedDict):
    """`basis` is the seq of the event that the letter rests on; it goes back with the message."""

    kind: LetterKind
    subject: str
    text: str
    language: str
    basis: int


class LanguageView(TypedDict):
    code: str
    name: str


class LettersView(TypedDict):
    items: list[DraftView]
    language: str
    languages: list[LanguageView]


@router.get("/{case_id}/letters", response_model=LettersView, responses=ASKED)
@reads(READERS)
async def list_letters(call: ReadCall, case_id: str, query: Annotated[LettersQuery, Query()]) -> Response:
    """The letters that the case's record supports now, drafted from it, to be read over and sent as a message."""
    if query.language is not None:
        require_language(query.language, "language")
    desk, now = call.desk, call.desk.clock()
    case, history = await cases.with_history(desk.database, case_id)
    writing = writing_about(
        case,
        history,
        await cases.texts_of(desk.database, case_id),
        context=await desk.context(),
        settings=desk.settings,
        now=now,
        language=query.language,
    )
    reader = call.caller.actor.id
    names = await people.names_by_id(desk.database, [reader])
    await desk.record_read(call, case_id, case.version, "letters")
    view = LettersView(
        items=[
            DraftView(kind=one.kind, subject=one.subject, text=one.text, language=one.language, basis=one.basis)
            for one in drafts(writing, now, names.get(reader, {}).get("name", ""))
        ],
        language=writing.words.language.code,
        languages=[LanguageView(code=one.code, name=one.name) for one in languages().values()],
    )
    return Answer(view, headers={"etag": f'"{case.version}"', "cache-control": "no-store"})
