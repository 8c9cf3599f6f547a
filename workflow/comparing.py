"""What differs between two values of one kind, field by field: a case at two points, a row and what it should be."""

from collections.abc import Iterator
from typing import Any

import msgspec


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """`path` is such as `purchase.checked` or `grounds[g5].verified`; what is absent is None, as what is empty."""

    path: str
    before: Any
    after: Any


def changes(before: object, after: object) -> tuple[Change, ...]:
    """In the order of the fields. What only one of the two has, such as a new ground, is one change as a whole."""
    return tuple(differing("", msgspec.to_builtins(before), msgspec.to_builtins(after)))


def differing(path: str, before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    parts = parts_of(before), parts_of(after)
    if None not in parts and (found := [*between(path, *parts)]):
        yield from found
    else:
        yield Change(path=path, before=before, after=after)


Parts = dict[str, Any]


def between(path: str, before: Parts | None, after: Parts | None) -> Iterator[Change]:
    before, after = before or {}, after or {}
    for part in before | after:
        yield from differing((path + part).removeprefix("."), before.get(part), after.get(part))


def parts_of(value: Any) -> Parts | None:
    """By what follows their path; None where the value has no parts, or none that could be told apart."""
    match value:
        case dict():
            return {f".{name}": part for name, part in value.items()}
        case list() | tuple() if all(isinstance(one, dict) for one in value):
            parts = {f"[{one.get('id', one.get('seq', index))}]": one for index, one in enumerate(value)}
            return parts if len(parts) == len(value) else None
        case _:
            return None
