"""The languages that letters are written in: one file each, beside this one, found by being there."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from functools import cache
from pathlib import Path
from string import Formatter

import msgspec

from workflow.money import Money
from workflow.timezones import zone

FOLDER = Path(__file__).parent
READ_CHARACTERS = 4_000  # of what somebody wrote: enough to hear a language
FEWEST_HITS = 3
CLEARLY = 1.3  # as often as the language that comes second

WORD = re.compile(r"[^\W\d_]+")
QUOTED = re.compile(r"^\s*>.*$", re.MULTILINE)
ADDRESS = re.compile(r"\S+(?:@|://)\S+")


class Formats(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How dates and amounts are written; the months as they stand in a date, the first one first."""

    months: tuple[str, ...]
    day: str
    moment: str
    money: str
    thousands: str
    decimal: str


class Language(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`words` are its commonest; with `letters` it alone is written, and with those in `never` it is not."""

    code: str  # a BCP 47 language tag, and the file's name
    name: str  # as whoever speaks it calls it
    words: str
    letters: str
    never: str
    formats: Formats
    texts: dict[str, str]

    def placeholders(self) -> dict[str, set[str]]:
        """What each text may name, by its key."""
        formats = {name: str(getattr(self.formats, name)) for name in ("day", "moment", "money")}
        return {key: fields_of(text) for key, text in (self.texts | formats).items()}


def fields_of(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def codes(folder: Path = FOLDER) -> list[str]:
    """Of the languages that there are."""
    return sorted(path.stem for path in folder.glob("*.toml"))


@cache
def languages(folder: Path = FOLDER) -> Mapping[str, Language]:
    """By code. Whoever adds a language adds its file."""
    found = (msgspec.toml.decode(path.read_bytes(), type=Language) for path in sorted(folder.glob("*.toml")))
    return {one.code: one for one in found}


class Words:
    """One language as letters speak it, with times in the desk's zone."""

    def __init__(self, language: Language, timezone: str) -> None:
        self.language = language
        self.formats = language.formats
        self.timezone = timezone
        self.zone = zone(timezone)

    def __call__(self, key: str, **facts: object) -> str:
        return self.language.texts[key].format(**facts)

    def money(self, amount: Money) -> str:
        whole, _, fraction = amount.decimal_text().partition(".")
        text = f"{int(whole):,}".replace(",", self.formats.thousands)
        return self.formats.money.format(
            amount=f"{text}{self.formats.decimal}{fraction}" if fraction else text, currency=amount.currency
        )

    def day(self, when: datetime | date) -> str:
        local = when.astimezone(self.zone).date() if isinstance(when, datetime) else when
        return self.formats.day.format(day=local.day, month=self.formats.months[local.month - 1], year=local.year)

    def moment(self, when: datetime) -> str:
        time = f"{when.astimezone(self.zone):%H:%M}"
        return self.formats.moment.format(day=self.day(when), time=time, zone=self.timezone)


# Which language somebody writes.


def recognised(texts: Iterable[str], default: str, known: Mapping[str, Language] | None = None) -> str:
    """The code of the language that these are written in, what was quoted left aside; `default` where it is unclear."""
    known = languages() if known is None else known
    said = "\n".join(QUOTED.sub("", text) for text in texts)[:READ_CHARACTERS]
    heard = Counter(WORD.findall(ADDRESS.sub(" ", said).lower()))
    scores = Counter({code: score(language, heard) for code, language in known.items()})
    (first, most), (_, second) = [*scores.most_common(2), ("", 0), ("", 0)][:2]
    return first if most >= FEWEST_HITS and most >= CLEARLY * max(0, second) else default


def score(language: Language, heard: Counter[str]) -> int:
    """How often its words occur, or words with its own letters, less those with letters that it does not have."""
    common, own, foreign = common_words(language.words), {*language.letters}, {*language.never}
    return sum(
        count * ((word in common) + (not own.isdisjoint(word)) - (not foreign.isdisjoint(word)))
        for word, count in heard.items()
    )


@cache
def common_words(words: str) -> frozenset[str]:
    return frozenset(words.split())
