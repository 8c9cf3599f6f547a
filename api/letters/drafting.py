"""Drafts of letters: which can be written about a case now, and what each says in a language."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from api.letters.composing import Draft, Writing, draft
from api.letters.languages import Words, languages, recognised
from api.settings import Settings
from storage import cases
from workflow.cases import Case
from workflow.commands import Letter
from workflow.errors import bad_field
from workflow.events import MessageReceived, OfferAnswered, Opened, Recorded
from workflow.guards import Context
from workflow.letters import bases, basis_of, rests_on
from workflow.states import LetterKind

if TYPE_CHECKING:
    from api.routing import Call


def drafts(writing: Writing, now: datetime, signed_by: str) -> list[Draft]:
    """One of each kind that the record supports now."""
    found = bases(writing.case, writing.context, now).values()
    return [one for basis in found if (one := draft(writing, basis, signed_by)) is not None]


def writing_about(
    case: Case,
    history: Sequence[Recorded],
    texts: Mapping[str, str],
    *,
    context: Context,
    settings: Settings,
    now: datetime,
    language: str | None = None,
) -> Writing:
    """In this language, or in the one that the client is heard to write."""
    known = languages()
    if language is None or language not in known:
        language = recognised(said_by_client(history, texts), settings.language)
    return Writing(
        case=case,
        history=history,
        texts=texts,
        context=context,
        words=Words(known[language], context.settings_now(now).timezone),
        organisation=settings.organisation,
    )


def said_by_client(history: Sequence[Recorded], texts: Mapping[str, str]) -> Iterator[str]:
    """What they wrote last comes first. What a colleague wrote down for them is in the colleague's language."""
    for one in reversed(history):
        is_written_down = isinstance(one.data, MessageReceived) and one.event.actor.startswith("person:")
        if isinstance(one.data, Opened | MessageReceived | OfferAnswered) and not is_written_down:
            for field in ("text", "message", "subject"):
                yield texts.get(f"{one.event.seq}/{field}", "")


def require_language(code: str, field: str) -> None:
    """Raises BadInput."""
    if code not in languages():
        raise bad_field(field, f"is none that letters are written in: {', '.join(languages())}")


async def letter_of(call: "Call", case_id: str, kind: LetterKind, basis: int, language: str) -> Letter:
    """What a message says it was drafted as. Raises BadInput and NotFound.

    Whether the record still says so is decided with the message, on the case as it stands then.
    """
    require_language(language, "letter.language")
    case, history = await cases.with_history(call.desk.database, case_id)
    context = await call.desk.context()
    is_latest = basis == rests_on(kind, history)
    states = basis_of(kind, case, context, call.desk.clock()) if is_latest else None
    return Letter(kind=kind, basis=basis, language=language, states=states)
