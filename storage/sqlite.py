"""SQLite as Casework needs it: the safest library at hand, and every connection set up alike."""

from pathlib import Path
from typing import Any

from workflow.canonical import leaf_hash

try:
    import pysqlite3.dbapi2 as driver  # type: ignore[import-not-found,import-untyped,unused-ignore]
except ImportError:  # no wheel for this machine
    import sqlite3 as driver

__all__ = ["JOURNAL_MODE", "WAL_IS_SAFE", "connect", "driver", "is_statement_wrong"]

# Earlier libraries can corrupt a WAL database that several connections use.
WAL_IS_SAFE = driver.sqlite_version_info >= (3, 51, 3)
JOURNAL_MODE = "WAL" if WAL_IS_SAFE else "DELETE"


def connect(path: Path | str, *, busy_timeout_ms: int = 5000) -> Any:
    """A connection in autocommit mode: transactions begin where the code says so.

    FULL: an acknowledged write survives a power cut. Recursive triggers: INSERT OR REPLACE would otherwise delete
    unseen by the triggers that refuse deletion.
    """
    connection = driver.connect(
        str(path), isolation_level=None, check_same_thread=False, timeout=busy_timeout_ms / 1000
    )
    connection.create_function("casework_leaf_hash", 1, lambda body: leaf_hash(body.encode()), deterministic=True)
    for pragma in (
        f"journal_mode = {JOURNAL_MODE}",
        "synchronous = FULL",
        "foreign_keys = ON",
        "recursive_triggers = ON",
        "secure_delete = ON",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").close()
    return connection


def is_statement_wrong(failure: object) -> bool:
    """Whether a statement of ours is at fault rather than the database, both of which SQLite calls operational."""
    return getattr(failure, "sqlite_errorname", None) == "SQLITE_ERROR"
