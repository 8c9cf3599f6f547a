"""The desk's own beginnings: its name, its zone, the lifecycle and the first policy, as the first events of the log."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, text

from storage.sealing import EVENT_COLUMNS, Circumstances, Sealed, seal
from workflow.canonical import canonical
from workflow.desk import POLICY_CHAIN, SETTINGS_CHAIN
from workflow.errors import CaseworkError
from workflow.events import DeskCreated, Draft, LifecycleAdopted, PolicyAdded
from workflow.lifecycle import LIFECYCLE, LOGGED_TABLE
from workflow.policy import first_version
from workflow.roles import system_actor
from workflow.timezones import zone

OPERATOR = system_actor("operator")
MICROSECOND = timedelta(microseconds=1)


class TimezoneChanged(CaseworkError):
    """The desk was created with another zone: days that were counted would be counted anew."""


def ensure_desk(connection: Connection, timezone: str, now: datetime) -> None:
    """Create the desk if there is none, and log the lifecycle of this release if it is new. Safe to repeat."""
    zone(timezone)
    if connection.dialect.name == "sqlite":
        connection.execute(text("BEGIN IMMEDIATE"))
    else:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('casework desk'))"))
    try:
        create_or_update(connection, timezone, now)
    except BaseException:
        if connection.dialect.name == "sqlite":
            connection.execute(text("ROLLBACK"))
        raise
    if connection.dialect.name == "sqlite":
        connection.execute(text("COMMIT"))


def create_or_update(connection: Connection, timezone: str, now: datetime) -> None:
    desk = connection.execute(text("SELECT log, timezone FROM desk")).first()
    if desk is not None and desk.timezone != timezone:
        raise TimezoneChanged(
            f"this desk was created in the time zone {desk.timezone}, but CASEWORK_TIMEZONE says {timezone}."
            " Set it back, or add a policy version with another zone (casework policy add)."
        )
    log = desk.log if desk else str(uuid.uuid4())
    if desk is not None:  # whatever the clock says, what is told now comes after what was told before
        last = select_last(connection, SETTINGS_CHAIN)
        now = max(now, datetime.fromisoformat(last.at) + MICROSECOND) if last else now
    circumstances = Circumstances(log=log, policy=1, at=now, actor=OPERATOR.key, via="cli", request=str(uuid.uuid4()))
    if desk is None:
        connection.execute(
            text("INSERT INTO desk (id, log, timezone) VALUES (1, :log, :timezone)"), {"log": log, "timezone": timezone}
        )
        append(connection, circumstances, SETTINGS_CHAIN, Draft(data=DeskCreated(timezone=timezone)))
        version = first_version(timezone)
        append(connection, circumstances, POLICY_CHAIN, Draft(data=PolicyAdded(version=version)))
        connection.execute(
            text("INSERT INTO policies (version, body) VALUES (:version, :body)"),
            {"version": version.version, "body": canonical(version).decode()},
        )
    known = text("SELECT 1 FROM lifecycle_edges WHERE lifecycle = :lifecycle")
    if connection.execute(known, {"lifecycle": LIFECYCLE}).first() is None:
        connection.execute(
            text(
                "INSERT INTO lifecycle_edges (lifecycle, trigger, source, target)"
                " VALUES (:l, :trigger, :source, :target)"
            ),
            [
                {"l": LIFECYCLE, "trigger": row.trigger.value, "source": row.source.value, "target": row.target.value}
                for row in LOGGED_TABLE
            ],
        )
        adopted = LifecycleAdopted(lifecycle=LIFECYCLE, table=LOGGED_TABLE)
        append(connection, circumstances, SETTINGS_CHAIN, Draft(data=adopted))


def select_last(connection: Connection, chain: str) -> Row[*tuple[Any, ...]] | None:
    return connection.execute(
        text("SELECT seq, hash, at FROM events WHERE chain = :chain ORDER BY seq DESC LIMIT 1"), {"chain": chain}
    ).first()


def append(connection: Connection, circumstances: Circumstances, chain: str, draft: Draft) -> Sealed:
    last = select_last(connection, chain)
    sealed = (
        seal(draft, circumstances, chain, last.seq + 1, last.hash, "")
        if last
        else seal(draft, circumstances, chain, 1, None, None)
    )
    names, marks = ", ".join(f'"{one}"' for one in EVENT_COLUMNS), ", ".join(f":{one}" for one in EVENT_COLUMNS)
    connection.execute(
        text(f"INSERT INTO events ({names}) VALUES ({marks})"),  # noqa: S608 - names of columns, no input
        dict(zip(EVENT_COLUMNS, sealed.event, strict=True)),
    )
    return sealed
