"""Questions about proposals over all cases: which of them can still be decided, or paid."""

from sqlalchemy import bindparam, select

from storage.cases import CASES
from storage.database import Database
from storage.tables import OpenProposalRow, columns
from storage.writer import case_decoder
from workflow.cases import Case

OPEN = columns(OpenProposalRow)

# In the order of their ids, which is that of opening: a limit always leaves out the same ones.
FIRST_OPENED = select(OPEN.case_id).distinct().order_by(OPEN.case_id).limit(bindparam("limit"))
SOME = select(CASES.body).where(CASES.id.in_(FIRST_OPENED))
# Without the bodies, which would be sorted along.
MOST_URGENT = (
    select(CASES.id)
    .where(CASES.id.in_(select(OPEN.case_id)))
    .order_by(CASES.next_deadline.is_(None), CASES.next_deadline, CASES.number)
    .limit(bindparam("limit"))
)
BODIES = select(CASES.id, CASES.body).where(CASES.id.in_(bindparam("ids", expanding=True)))


async def some_with_open_ones(database: Database, limit: int) -> list[Case]:
    """Cases with a proposal that can still be decided or paid, in no order."""
    return [case_decoder.decode(body) for (body,) in await database.rows(SOME, {"limit": limit})]


async def with_open_ones(database: Database, limit: int) -> list[Case]:
    """The same, the most urgent first."""
    ids = [case_id for (case_id,) in await database.rows(MOST_URGENT, {"limit": limit})]
    rows = await database.rows(BODIES, {"ids": ids}) if ids else ()
    bodies = {row.id: row.body for row in rows}
    return [case_decoder.decode(bodies[case_id]) for case_id in ids if case_id in bodies]
