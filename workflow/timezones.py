"""Time zones by name, from the pinned database and never the machine's own, so that dates agree on every machine."""

from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from workflow.errors import UnknownTimeZone


@cache
def zone(name: str) -> ZoneInfo:
    """The zone of a listed name such as `Europe/Kyiv`. Raises UnknownTimeZone for anything else, paths included."""
    if name not in zone_names():
        raise UnknownTimeZone
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as data:
        return ZoneInfo.from_file(data, key=name)


@cache
def zone_names() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text("ascii").split())
