"""The bytes of an event are those of RFC 8785, and its hash is a leaf of RFC 6962."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from tests.workflow.builders import a_desk
from workflow.canonical import MAX_INTEGER, canonical, faults_of, leaf_hash
from workflow.events import EVENT_TYPES, Recorded, at_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
KEYS = st.from_regex(r"[a-z0-9_]+", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_keeps_to_the_profile_is_encoded_as_rfc_8785_says(value: object) -> None:
    assert faults_of(value) is None
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # any JSON value


def test_control_characters_quotes_and_letters_beyond_the_basic_plane_are_encoded_as_rfc_8785_says() -> None:
    every = "".join(map(chr, range(1, 0x100))) + "\u2028\u2029\ufeff\U0001f600"

    assert canonical({every: every}) == rfc8785.dumps({every: every})


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"amount": 1.0}, "a float"),
        ([MAX_INTEGER + 1], "an integer is beyond 2^53-1"),
        ([-MAX_INTEGER - 1], "an integer is beyond 2^53-1"),
        ({"text": "a\x00b"}, "a NUL character"),
        ({"deep": [{"Key": 1}]}, "the key 'Key'"),
        ({"schlüssel": 1}, "the key 'schlüssel'"),
        ({"a-b": 1}, "the key 'a-b'"),
        ({"": 1}, "the key ''"),
        ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, "a datetime"),
    ],
)
def test_what_breaks_the_profile_is_told(value: object, fault: str) -> None:
    assert faults_of(value) == fault


def test_the_hash_is_the_leaf_of_rfc_6962() -> None:
    # The hash of the empty leaf, as RFC 6962 implementations publish it in their test vectors.
    assert leaf_hash(b"") == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


def test_an_event_is_kept_with_sorted_keys_and_no_blanks() -> None:
    opened: Recorded = a_desk().histories["A"][0]
    body = canonical(opened.event)

    assert body.startswith(b'{"actor":"system:mail","at":"2026-03-05T12:00:00.000000Z","chain":"case:A","data":{')
    assert body == rfc8785.dumps(json.loads(body))
    assert leaf_hash(body) == opened.hash


def test_moments_are_written_so_that_texts_sort_as_times_do() -> None:
    noon_in_kyiv = datetime(2026, 3, 5, 12, tzinfo=timezone(timedelta(hours=2)))

    assert at_text(noon_in_kyiv) == "2026-03-05T10:00:00.000000Z"
    assert at_text(noon_in_kyiv) < at_text(noon_in_kyiv + timedelta(microseconds=1))


def test_whatever_an_event_holds_besides_texts_is_kept_exactly_by_every_reader_of_json() -> None:
    def held(part: Any) -> Iterator[Any]:
        yield part
        for name in ("fields", "types", "item_types"):
            for one in getattr(part, name, ()):
                yield from held(getattr(one, "type", one))
        for name in ("item_type", "key_type", "value_type"):
            if (one := getattr(part, name, None)) is not None:
                yield from held(one)

    for data in EVENT_TYPES.values():
        for kind in held(msgspec.inspect.type_info(data)):
            assert not isinstance(kind, msgspec.inspect.FloatType | msgspec.inspect.AnyType)
            if isinstance(kind, msgspec.inspect.IntType):
                assert (kind.ge, kind.le) == (-MAX_INTEGER, MAX_INTEGER)
