"""Questions about mail: what has arrived before, and which cases a letter names."""

from collections.abc import Iterable

from sqlalchemy import select

from storage.database import Database
from storage.tables import CaseRow, MailRefRow, columns

REFS, CASES = columns(MailRefRow), columns(CaseRow)


async def remembered(database: Database, refs: Iterable[str]) -> dict[str, str | None]:
    """Those of the references that a mail was remembered by, each with its case; None where it was set aside."""
    query = select(REFS.key, REFS.case_id).where(REFS.key.in_(list(refs)))
    return {row.key: row.case_id for row in await database.rows(query)}


async def tagged(database: Database, tags: Iterable[str]) -> dict[str, str]:
    """The case of each mail tag that a case has."""
    query = select(CASES.mail_tag, CASES.id).where(CASES.mail_tag.in_(list(tags)))
    return {row.mail_tag: row.id for row in await database.rows(query)}
