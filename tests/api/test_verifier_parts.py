"""The verifier's own tree, notes and canonical JSON are those of everybody else, though it shares no line with them."""

import base64
from collections.abc import Callable
from typing import TypeVar

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from api.casework_verify import (
    EMPTY_ROOT,
    Key,
    Tree,
    Wrong,
    consistent_roots,
    included_root,
    opened_note,
    parsed_checkpoint,
    parsed_key,
    read_canonical,
)
from storage.notes import BadNote, Checkpoint
from tests.storage.test_merkle import (
    PUBLISHED_CONSISTENCIES,
    PUBLISHED_INCLUSIONS,
    PUBLISHED_ROOTS,
    REFERENCE,
    mth,
    path,
    some_leaves,
    spoilt_proofs,
    subproof,
)
from tests.storage.test_notes import (
    ANNE,
    EXAMPLE,
    EXAMPLE_KEY,
    EXAMPLE_TEXT,
    PIECES,
    SIGNED,
    SPECIFIED,
    SPECIFIED_CHECKPOINT,
    SPECIFIED_KEY,
    signed_text,
)
from tests.workflow.test_canonical import VALUES

T = TypeVar("T")

KEY = Key(ANNE.verifier.name, ANNE.verifier.public)
ROOTS = [*map(bytes.fromhex, PUBLISHED_ROOTS)]


def taken(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Wrong:
        return None


# The tree.


@pytest.mark.parametrize(("index", "size"), PUBLISHED_INCLUSIONS)
def test_published_inclusion_proofs_lead_to_the_published_root_and_spoilt_ones_do_not(index: int, size: int) -> None:
    leaf, found = REFERENCE[index], ROOTS[size - 1]
    proof = [*map(bytes.fromhex, PUBLISHED_INCLUSIONS[index, size])]
    assert included_root(index, size, leaf, proof) == found

    assert all(included_root(claimed, size, leaf, proof) != found for claimed in (index + 1, index ^ 2))
    assert all(included_root(index, claimed, leaf, proof) != found for claimed in (size * 2, size // 2))
    assert all(included_root(index, size, leaf, spoilt) != found for spoilt in spoilt_proofs(proof, found, leaf))


@pytest.mark.parametrize(("first", "second"), PUBLISHED_CONSISTENCIES)
def test_published_consistency_proofs_lead_to_both_published_roots_and_spoilt_ones_do_not(
    first: int, second: int
) -> None:
    roots = one, two = ROOTS[first - 1], ROOTS[second - 1]
    proof = [*map(bytes.fromhex, PUBLISHED_CONSISTENCIES[first, second])]
    assert consistent_roots(first, second, one, proof) == roots

    assert all(consistent_roots(claimed, second, one, proof) != roots for claimed in (first + 1, first ^ 2) if claimed)
    assert consistent_roots(first, second * 2, one, proof) != roots
    assert all(consistent_roots(first, second, one, spoilt) != roots for spoilt in spoilt_proofs(proof, one, two))


def test_the_reference_tree_grows_to_its_published_roots() -> None:
    tree = Tree(range(9))
    tree.extend(REFERENCE)

    assert tree.roots == dict(enumerate([EMPTY_ROOT, *ROOTS]))


@given(st.integers(1, 300), st.data())
def test_trees_and_proofs_are_those_of_the_definitions(size: int, data: st.DataObject) -> None:
    leaves = some_leaves(size)
    index, first = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    at_once = data.draw(st.integers(1, size))
    tree = Tree([first])
    for start in range(0, size, at_once):
        tree.extend(leaves[start : start + at_once])

    assert (tree.root(), tree.roots[first]) == (mth(leaves), mth(leaves[:first]))
    assert included_root(index, size, leaves[index], path(index, leaves)) == tree.root()
    if first < size:
        roots = consistent_roots(first, size, mth(leaves[:first]), subproof(first, leaves))
        assert roots == (tree.roots[first], tree.root())


# Notes.


@pytest.mark.parametrize(
    ("note", "key", "text"),
    [(EXAMPLE, EXAMPLE_KEY, EXAMPLE_TEXT), (SPECIFIED, SPECIFIED_KEY, "This is an example message.\n")],
)
def test_published_notes_are_opened_with_their_published_keys(note: str, key: str, text: str) -> None:
    assert opened_note("note", note, [parsed_key(key)]) == text


def test_the_published_checkpoint_is_read() -> None:
    text = SPECIFIED_CHECKPOINT.rpartition("\n\n")[0] + "\n"
    known = Checkpoint.parse(text)

    assert parsed_checkpoint("checkpoint", text) == (known.origin, known.size, known.root)


@given(st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join))
@example(SIGNED)
@example("\n\n" + SIGNED)
def test_a_note_is_what_another_implementation_takes_for_one(text: str) -> None:
    note = text.encode(errors="replace")

    assert_is_taken_alike(note)


@given(st.integers(0, len(SIGNED.encode())), st.integers(0, 3), st.binary(max_size=3))
def test_so_is_one_that_was_changed(at: int, removed: int, added: bytes) -> None:
    whole = SIGNED.encode()

    assert_is_taken_alike(whole[:at] + added + whole[at + removed :])


def assert_is_taken_alike(note: bytes) -> None:
    try:
        text = note.decode()
    except UnicodeDecodeError:
        assert signed_text(note, KEY.name, KEY.public) is None
        return
    assert taken(lambda: opened_note("note", text, [KEY], alone=True)) == signed_text(note, KEY.name, KEY.public)


LINES = st.sampled_from(["anne.example/log", "0", "01", "7", "9" * 16, "AAAA", "", " ", "٣", ANNE.verifier.name])
ROOT = st.binary(min_size=31, max_size=33) | st.just(bytes(32))


@given(st.lists(LINES, max_size=4), ROOT, st.sampled_from(["\n", "", "\n\n", "\r\n"]))
def test_a_checkpoint_is_what_another_implementation_takes_for_one(lines: list[str], root: bytes, end: str) -> None:
    text = "\n".join([*lines, base64.b64encode(root).decode()]) + end
    try:
        known = Checkpoint.parse(text)
    except BadNote:
        expected = None
    else:  # the name of a log has no blanks, and is the origin
        expected = None if " " in known.origin else (known.origin, known.size, known.root)

    assert taken(lambda: parsed_checkpoint("checkpoint", text)) == expected


# Canonical JSON.


@given(VALUES)
def test_what_rfc_8785_says_is_read(value: object) -> None:
    assert read_canonical(rfc8785.dumps(value)) == value  # type: ignore[arg-type]  # any JSON value


@given(VALUES, st.data())
def test_nothing_else_is_read(value: object, data: st.DataObject) -> None:
    """Whatever is read is, byte for byte, how RFC 8785 writes it."""
    octets = bytearray(rfc8785.dumps(value))  # type: ignore[arg-type]  # any JSON value
    at = data.draw(st.integers(0, len(octets)))
    octets[at : at + data.draw(st.integers(0, 2))] = data.draw(
        st.binary(max_size=2) | st.sampled_from([b" ", b"0", b"-", b"e1", b".0", b"\\", b"\\u0061", b"[", b"}", b'"'])
    )
    read = taken(lambda: [read_canonical(bytes(octets))])

    assert read is None or rfc8785.dumps(read[0]) == bytes(octets)
