"""A case's history as its page tells it: each event a sentence, with the reason that was given."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from api.pages.showing import words
from api.pages.telling import Names, did, isolated, person, sum_of, who
from api.views import ERASED
from workflow import events as e

MOST_CHARACTERS = 280  # of a reason


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One event: `who` and `what` make a sentence, `why` is the reason that was given, shortened."""

    seq: int
    at: str
    who: str
    what: str
    why: str
    request: str


class History:
    """`names` and `texts` are the people's and the case's; `cases` are the numbers of others that are named, by id."""

    def __init__(
        self, recorded: Sequence[e.Recorded], texts: Mapping[str, str], names: Names, cases: Mapping[str, str]
    ) -> None:
        self.recorded = recorded
        self.texts = texts
        self.names = names
        self.cases = cases
        self.parts = dict(parts_of(recorded))
        self.told = [self.tell(one) for one in recorded]

    def tell(self, one: e.Recorded) -> Told:
        event = one.event
        return Told(
            seq=event.seq,
            at=event.at,
            who=self.who(event.actor),
            what=f"{did(one, self.names)}{self.further(one)}",
            why=self.why(event),
            request=event.request,
        )

    def further(self, one: e.Recorded) -> str:
        """Which other case an event names, and which proposals ended with it."""
        other = getattr(one.data, "case", None) or getattr(one.data, "duplicate_of", None)
        named = f" ({self.cases.get(other, 'another')})" if other else ""
        ended = getattr(one.data, "voids", ()) or getattr(one.data, "withdrawn", ())
        return f"{named}; with that ended {' and '.join(ended)}" if ended else named

    def why(self, event: e.Event) -> str:
        for field in ("reason", "statement", "evidence", "description", "remark", "name"):
            if field in event.personal:
                return shortened(self.texts.get(f"{event.seq}/{field}", ERASED))
        return ""

    def who(self, key: str) -> str:
        """Of an actor as events name them, fit to stand within a sentence."""
        return isolated(who(key, self.names))

    def person(self, person_id: str) -> str:
        return isolated(person(person_id, self.names))

    def named(self, part: str) -> str:
        """A ground or a proposal by its id: `billing error of 590.00 EUR (g5)`."""
        return f"{self.parts[part]} ({part})" if part in self.parts else part

    def about(self, field: str, part: str) -> list[Told]:
        """The events that name a part in this field, oldest first."""
        both = zip(self.told, self.recorded, strict=True)
        return [told for told, one in both if getattr(one.data, field, None) == part]

    def last(self, kind: type[e.EventData], **of: object) -> Told | None:
        """The latest event of a type whose data are these."""
        for told, one in zip(reversed(self.told), reversed(self.recorded), strict=True):
            if isinstance(one.data, kind) and all(getattr(one.data, name) == value for name, value in of.items()):
                return told
        return None


def parts_of(recorded: Sequence[e.Recorded]) -> Iterator[tuple[str, str]]:
    for one in recorded:
        match one.data:
            case e.GroundRecorded(kind=kind, affected=affected):
                yield f"g{one.event.seq}", f"{words(kind)} of {sum_of(affected)}"
            case e.Proposed(remedy=remedy, amount=amount, kind=kind):
                yield f"p{one.event.seq}", f"{words(kind or remedy)} of {sum_of(amount)}"


def shortened(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
