"""The form of a new policy version: what stands in it, and what it asks for."""

from datetime import datetime
from typing import Any

import msgspec
from starlette.datastructures import FormData

from api.inputs import in_utc
from api.pages.routing import field_of
from api.policy import policy_command, settings_view
from workflow.desk import AddPolicy
from workflow.errors import bad_field
from workflow.policy import GroundKind, PolicyVersion, version_in_force
from workflow.roles import APPROVERS, in_order
from workflow.timezones import zone

NUMBERS = ("window_days", "reopening_days", "first_answer_hours", "next_update_days", "retention_days")
SPARE_TIERS = 2  # rows beyond those there are, to add some without a script
MOST_TIERS = 30  # that are looked for in what was sent; the policy allows fewer

# What a setting is called, and what it does.
LABELS: dict[str, tuple[str, str]] = {
    "window_days": ("Days for a full refund", "after the purchase, while nothing was delivered (P5)"),
    "reopening_days": ("Days to reopen", "a case that was closed"),
    "first_answer_hours": ("Hours to the first answer", "by a person"),
    "next_update_days": ("Days between updates", "to the client"),
    "retention_days": ("Days that personal data are kept", "after a case was closed"),
    "timezone": ("Time zone", "in which days are counted"),
    "grounds": ("Grounds for a refund", "that count once they are verified (P6)"),
    "tiers": ("Who approves", "by amount, in any currency; the last tier is without limit"),
}


def filled(settings: dict[str, Any]) -> dict[str, Any]:
    """With what stands in the form at first: the settings of a version."""
    return {
        **{name: str(settings[name]) for name in NUMBERS},
        "timezone": settings["timezone"],
        "grounds": list(settings["grounds"]),
        "tiers": with_spare([tier | {"count": str(tier["count"])} for tier in settings["tiers"]]),
        "effective_from": "",
    }


def as_sent(form: FormData) -> dict[str, Any]:
    """With what stood in it when it was sent."""
    return {
        **{name: field_of(form, name) for name in (*NUMBERS, "timezone", "effective_from")},
        "grounds": [one for one in form.getlist("grounds") if isinstance(one, str)],
        "tiers": with_spare(tiers_in(form)),
    }


def with_spare(tiers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*tiers, *({"up_to": None, "roles": [], "count": ""} for _ in range(SPARE_TIERS))]


def tiers_in(form: FormData) -> list[dict[str, Any]]:
    """Rows in which something stands."""
    rows = [
        {
            "up_to": field_of(form, f"tier{row}.up_to") or None,
            "roles": [one for one in form.getlist(f"tier{row}.roles") if isinstance(one, str)],
            "count": field_of(form, f"tier{row}.count"),
        }
        for row in range(MOST_TIERS)
    ]
    return [one for one in rows if any(one.values())]


def asked_for(form: FormData, policies: tuple[PolicyVersion, ...], now: datetime) -> AddPolicy:
    """Raises BadInput naming what makes no sense, or that nothing would change."""
    if field_of(form, "seen") != str(policies[-1].version):
        raise bad_field(
            "settings", f"version {policies[-1].version} was added meanwhile: compare before you send again"
        )
    current = version_in_force(policies, now)
    known, sent = plain(settings_view(current.settings)), as_sent(form)
    wanted = {
        **{name: number(sent[name]) for name in NUMBERS},
        "timezone": sent["timezone"],
        "grounds": sent["grounds"],
        "tiers": [one | {"count": number(one["count"])} for one in tiers_in(form)],
    }
    changes = {name: value for name, value in wanted.items() if value != known[name]}
    if not changes:
        raise bad_field("settings", f"are those of version {current.version}, which is in force")
    return policy_command(policies, changes, moment(sent["effective_from"], current.settings.timezone), now)


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """As a form can say them: with lists for tuples."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(settings))
    return found


def number(text: str) -> int | str:
    """As one, where it is one: what is none the policy refuses."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else text


MAX_DIGITS = 9


def moment(text: str, timezone: str) -> datetime | None:
    """As a browser's field for a day and a time says it: in the desk's zone."""
    if not text:
        return None
    try:
        return in_utc(datetime.fromisoformat(text).replace(tzinfo=zone(timezone)))
    except (ValueError, OverflowError):
        raise bad_field("effective_from", "has to be a day and a time, such as 2027-01-31T09:00") from None


def said(errors: list[dict[str, str]]) -> list[str]:
    """Each error as a sentence that names its field as the form does."""
    return [f"{named(one['field'])} {one['message']}" for one in errors]


def named(path: str) -> str:
    name = path.removeprefix("settings.")
    if name.startswith("tiers["):
        row, _, part = name.removeprefix("tiers[").partition("]")
        return f"Tier {int(row) + 1}{part.replace('.', ', ').replace('_', ' ')}:" if row.isdigit() else "Who approves:"
    label, _ = LABELS.get(name, (name.replace("_", " ").capitalize(), ""))
    return f"{label}:"


GROUNDS = tuple(GroundKind)
TIER_ROLES = in_order(APPROVERS)
