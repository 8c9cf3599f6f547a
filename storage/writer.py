"""What both databases' writers share: their promise, and how rows become entries."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from storage.batch import UNCACHED_FIELDS, Entry, Repeat
from storage.cache import Cache
from storage.directory import Directory
from storage.submissions import Receipt, Row, Submission
from workflow.cases import Case, chain_of

Clock = Callable[[], datetime]
Answer = Receipt | Repeat | Exception

case_decoder = msgspec.json.Decoder(Case)

BULKY = tuple(sorted(UNCACHED_FIELDS))


class Writer(Protocol):
    """Makes commands durable. The only thing that changes a case, a person, a purchase or the log."""

    cache: Cache

    async def open(self) -> None: ...

    async def commit(self, submissions: Sequence[Submission]) -> list[Answer]:
        """One answer for each submission, in order, none before it is durable."""
        ...

    async def forget_keys(self, lifetime: timedelta) -> None:
        """Drop the idempotency keys that are older."""
        ...

    async def clear_journal(self) -> bool:
        """Rid the write-ahead log of what was erased, as far as that is ours; False if it has to be tried again."""
        ...

    async def directory(self) -> Directory:
        """The desk's people and policies as they are stored now."""
        ...

    async def close(self) -> None: ...


def entries_of(cases: Iterable[Row], texts: Iterable[Row]) -> Iterable[Entry]:
    """From rows (body) of cases and (chain, seq, field, value) of their texts."""
    by_chain: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for chain, seq, field, value in texts:
        by_chain[chain][f"{seq}/{field}"] = value
    for (body,) in cases:
        case = case_decoder.decode(body)
        yield Entry(case=case, texts=by_chain[chain_of(case.id)], stored_version=case.version)
