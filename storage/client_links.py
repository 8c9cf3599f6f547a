"""The links by which clients see their cases: which case a secret opens."""

from sqlalchemy import bindparam, select

from storage.database import Database
from storage.tables import CaseRow, ClientLinkRow, columns
from storage.writer import case_decoder
from workflow.cases import Case

CASES, LINKS = columns(CaseRow), columns(ClientLinkRow)

BY_SECRET = select(CASES.body, LINKS.id).where(LINKS.case_id == CASES.id, LINKS.hash == bindparam("digest"))


async def by_secret(database: Database, digest: str) -> tuple[Case, str] | None:
    """The case, and the id of the link that leads to it. Whether that is still good, the case knows."""
    row = await database.first(BY_SECRET, {"digest": digest})
    return (case_decoder.decode(row[0]), row[1]) if row else None
