"""Letters as tests read them: about a small desk's case, in every language."""

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

from msgspec.structs import asdict

from api.letters.composing import Draft, Writing, draft
from api.letters.languages import Words, languages
from tests.workflow.builders import Desk
from workflow.cases import Case, case_number_text
from workflow.guards import Context
from workflow.letters import basis_of
from workflow.money import Money
from workflow.states import LetterKind

TEXTS = {
    "subject": "The banners",
    "client_name": "Una Quill",
    "client_email": "una@example.com",
    "description": "another audience",
    "channel": "by phone",
    "reason": "for the trouble",
}


class Kept(Mapping[str, str]):
    """What would be kept beside the log of a desk in memory, which keeps no texts: by field."""

    def __getitem__(self, pointer: str) -> str:
        return TEXTS[pointer.partition("/")[2]]

    def __iter__(self) -> Iterator[str]:
        return iter(TEXTS)

    def __len__(self) -> int:
        return len(TEXTS)


def about(desk: Desk, language: str = "en", case_id: str = "A", **changes: Any) -> Writing:
    facts: dict[str, Any] = {
        "case": desk.cases[case_id],
        "history": desk.histories[case_id],
        "texts": Kept(),
        "context": context_of(desk),
        "words": Words(languages()[language], "Europe/Kyiv"),
        "organisation": "Step-Into",
    }
    return Writing(**(facts | changes))


def context_of(desk: Desk) -> Context:
    return Context(policies=desk.policies, people=desk.people)


def drafted(desk: Desk, kind: LetterKind, language: str = "en", case_id: str = "A") -> Draft | None:
    writing = about(desk, language, case_id)
    basis = basis_of(kind, writing.case, writing.context, desk.now)
    return draft(writing, basis, "Ana") if basis is not None else None


def letter(desk: Desk, kind: LetterKind, language: str = "en", case_id: str = "A") -> str:
    written = drafted(desk, kind, language, case_id)
    assert written is not None
    return written.text


# What may stand in a letter in figures.


def recorded_figures(case: Case, words: Words, **more: object) -> list[str]:
    """Every amount, date and reference that the case holds, as the language writes it; the longest first."""
    found = {case_number_text(case.number), case.mail_tag, words.timezone}
    for one in everything_in([case, *more.values()]):
        match one:
            case Money():
                found.add(words.money(one))
            case datetime():
                found |= {words.day(one), words.moment(one)}
            case str() if re.fullmatch(r"\d{4}-\d\d-\d\d", one):
                found.add(words.day(date.fromisoformat(one)))
            case str() | int() if not isinstance(one, bool):
                found.add(str(one))
    if case.purchase is not None:
        currency = case.purchase.paid.currency
        minors = {one for one in everything_in([case]) if isinstance(one, int) and not isinstance(one, bool)}
        found |= {words.money(Money(one, currency)) for one in minors}
    return sorted(found - {""}, key=len, reverse=True)


def everything_in(value: Any) -> Iterator[object]:
    yield value
    if isinstance(value, Mapping):
        value = list(value.values())
    if hasattr(value, "__struct_fields__"):
        value = list(asdict(value).values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from everything_in(one)


CLAUSE = re.compile(r"\bP[1-9]\b")


def unrecorded(text: str, figures: list[str]) -> list[str]:
    """The figures in a text that stand for nothing recorded."""
    for one in figures:
        text = re.sub(rf"(?<!\d){re.escape(one)}(?!\d)", " ", text)
    return re.findall(r"\S*\d\S*", CLAUSE.sub(" ", text))
