"""Questions about booked consultations: whose time is taken, and what somebody has to hold."""

from datetime import datetime

import msgspec
from sqlalchemy import bindparam, select

from storage.database import Database
from storage.tables import CaseRow, ConsultationRow, PersonalRow, columns
from storage.writer import case_decoder
from workflow.cases import Case
from workflow.events import at_text
from workflow.guards import Slot

BOOKED, CASES, PERSONAL = columns(ConsultationRow), columns(CaseRow), columns(PersonalRow)

OF_HOST = (BOOKED.host == bindparam("host"), BOOKED.ends_at > bindparam("after"))
SLOTS = select(BOOKED.case_id, BOOKED.starts_at, BOOKED.ends_at).where(*OF_HOST).order_by(BOOKED.starts_at)
HELD = select(CASES.body).where(CASES.id == BOOKED.case_id, *OF_HOST).order_by(BOOKED.starts_at, CASES.id)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A case whose consultation is booked; `channel` None: the text was erased."""

    case: Case
    channel: str | None


async def calendar(database: Database, host: str, after: datetime) -> tuple[Slot, ...]:
    """What is booked of somebody's time and ends after this."""
    rows = await database.rows(SLOTS, {"host": host, "after": at_text(after)})
    return tuple(
        Slot(case=case_id, starts_at=datetime.fromisoformat(starts_at), ends_at=datetime.fromisoformat(ends_at))
        for case_id, starts_at, ends_at in rows
    )


async def held_by(database: Database, host: str, after: datetime) -> list[Held]:
    """The consultations of somebody that end after this, the soonest first."""
    parameters = {"host": host, "after": at_text(after)}
    found = [case_decoder.decode(body) for (body,) in await database.rows(HELD, parameters)]
    texts = select(PERSONAL.chain, PERSONAL.seq, PERSONAL.value).where(
        PERSONAL.field == "channel", PERSONAL.chain.in_([one.chain for one in found])
    )
    channels = {(chain, f"{seq}/channel"): value for chain, seq, value in await database.rows(texts)}
    return [Held(case=one, channel=channels.get((one.chain, one.remedies[-1].channel or ""))) for one in found]
