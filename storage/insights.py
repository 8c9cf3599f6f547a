"""What leads ask of the whole desk: the log, read on into a survey, and what the rows of all cases tell."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import NamedTuple

from sqlalchemy import bindparam, select, text

from storage.batch import Entry
from storage.cases import CASES, EVENTS, POSITIONS, short_texts
from storage.cuts import end_of_log
from storage.database import Database
from storage.events import DECODERS, recorded
from storage.sequencer import Sequencer
from storage.writer import case_decoder, entries_of
from workflow.events import Recorded, at_text
from workflow.insights import TYPES, Survey

SLICE = 500  # positions: a few milliseconds, in which on SQLite nobody else is answered
PATIENCE_SECONDS = 0.25

# A cross join, since SQLite would begin with the types, of which the log holds more than any slice of it.
NEXT = text(
    "SELECT position, type, body, hash FROM positions CROSS JOIN events"
    " WHERE id = event_id AND position > :after AND position <= :until AND type IN :types ORDER BY position"
).bindparams(bindparam("types", list(TYPES), expanding=True))


class Insights:
    """One in each process. Somebody who asks has it read on; what takes longer goes on after they have an answer.

    A large log is so read in the background after the first question, in slices between which others get their turns.
    """

    def __init__(self, database: Database, sequencer: Sequencer) -> None:
        self.database = database
        self.sequencer = sequencer
        self.reader: Reader | None = None

    async def ask(self, zone: tzinfo, patience: float = PATIENCE_SECONDS) -> tuple[Survey, int]:
        """The survey by the days of a zone, and the end of the log: further than the survey where that is late.

        Raises Unavailable, BrokenHistory.
        """
        await self.sequencer.catch_up()
        end = await end_of_log(self.database)
        if self.reader is None or not self.reader.is_good_for(zone):
            await self.close()
            self.reader = Reader(self.database, zone)
        reader, deadline = self.reader, time.monotonic() + patience
        while reader.survey.position < end:
            left = deadline - time.monotonic()
            await reader.go_on(max(left, 0))
            if left <= 0:
                break
        return reader.survey, end

    async def close(self) -> None:
        """Once the slice at hand is read."""
        reader, self.reader = self.reader, None
        if reader is not None:
            await reader.close()


class Reader:
    """Reads the log into a survey, from where it got to the end, and again when it is asked to go on."""

    def __init__(self, database: Database, zone: tzinfo) -> None:
        self.database = database
        self.survey = Survey(zone)
        self.task: asyncio.Task[None] | None = None
        self.is_over = False  # also where a slice was cut off: nobody knows which of it was taken in

    def is_good_for(self, zone: tzinfo) -> bool:
        return self.survey.zone is zone and not self.is_over

    async def go_on(self, seconds: float) -> None:
        """For so long, if the end is not reached before. Raises what the reading does."""
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self.read(), name="insights")
        done, _ = await asyncio.wait({self.task}, timeout=seconds)
        for task in done:
            task.result()

    async def read(self) -> None:
        survey = self.survey
        try:
            while not self.is_over and survey.position < (end := await end_of_log(self.database)):
                began = time.monotonic()
                until = min(survey.position + SLICE, end)
                rows = await self.database.rows(NEXT, {"after": survey.position, "until": until})
                for position, kind, body, digest in rows:
                    event = DECODERS[kind].decode(body)
                    survey.take(position, Recorded(event=event, data=event.data, hash=digest))
                survey.position = until
                if until < end:
                    await asyncio.sleep(time.monotonic() - began)  # half of the time is for others
        except BaseException:
            self.is_over = True
            raise

    async def close(self) -> None:
        self.is_over = True
        if self.task is not None:
            await asyncio.gather(self.task, return_exceptions=True)


# What is so now.


class Load(NamedTuple):
    """Of one assignee, or of nobody: cases that are not closed. `late` are overdue, `waiting` for the client.

    A case can be both: an offer that was not answered in time.
    """

    assignee: str | None
    open: int
    late: int
    waiting: int
    both: int


# The state is spelled out, so that the index of these very cases serves.
LOADS = text(
    "SELECT assignee, count(*),"
    " sum(CASE WHEN next_deadline < :now THEN 1 ELSE 0 END),"
    " sum(CASE WHEN waiting THEN 1 ELSE 0 END),"
    " sum(CASE WHEN waiting AND next_deadline < :now THEN 1 ELSE 0 END)"
    " FROM cases WHERE state <> 'closed' GROUP BY assignee"
)


async def loads(database: Database, now: datetime) -> list[Load]:
    """The heaviest first."""
    rows = [Load(*row) for row in await database.rows(LOADS, {"now": at_text(now)})]
    return sorted(rows, key=lambda one: (-one.open, one.assignee or ""))


# What is behind the numbers.


async def numbered(database: Database, numbers: Sequence[int]) -> dict[int, Entry]:
    """The cases with these numbers, as they are stored, with their short texts."""
    if not numbers:
        return {}
    rows = await database.rows(select(CASES.body).where(CASES.number.in_(sorted({*numbers}))))
    chains = [case_decoder.decode(body).chain for (body,) in rows]
    entries = entries_of([(body,) for (body,) in rows], await short_texts(database, chains))
    return {entry.case.number: entry for entry in entries}


async def placed(database: Database, positions: Sequence[int]) -> dict[int, Recorded]:
    """The events at these positions of the log."""
    if not positions:
        return {}
    query = select(POSITIONS.position, EVENTS.body, EVENTS.hash).where(EVENTS.id == POSITIONS.event_id)
    rows = await database.rows(query.where(POSITIONS.position.in_(sorted({*positions}))))
    return {position: recorded(body, digest) for position, body, digest in rows}
