"""The tree is the one of RFC 6962 and RFC 9162, whatever its size, and only what is true of it can be proved."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    TILE_WIDTH,
    GetNode,
    Range,
    bundled_entries,
    consistency_proof,
    cover,
    entry_bundle,
    grown_tiles,
    inclusion_proof,
    leaf_hash,
    node_hash,
    nodes_in_tiles,
    parsed_tile_path,
    root,
    tile_path,
    tile_width,
    verify_consistency,
    verify_inclusion,
)
from workflow.canonical import leaf_hash as event_hash

SIZES = range(1, 65)

# The reference tree of Certificate Transparency: its leaves, and its root at each size from 1 on, as the test data of
# transparency-dev/merkle and of other implementations of RFC 6962 publish them.
PUBLISHED_LEAVES = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)
PUBLISHED_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
REFERENCE = [leaf_hash(bytes.fromhex(one)) for one in PUBLISHED_LEAVES]

# The proofs that transparency-dev/merkle publishes of that tree, in testdata/inclusion and testdata/consistency, with
# every way in which they are spoilt there: by index and size, and by both sizes, the hashes of each.
PUBLISHED_INCLUSIONS = {
    (0, 1): (),
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
    (1, 5): (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
PUBLISHED_CONSISTENCIES = {
    (1, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
    (6, 7): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
}


# A second implementation, slow and straight from the definitions of RFC 9162 §2.1, over lists of leaf hashes.


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def half(number: int) -> int:
    """The largest power of two smaller than the number."""
    power = 1
    while power * 2 < number:
        power *= 2
    return power


def mth(leaves: Sequence[bytes]) -> bytes:
    match len(leaves):
        case 0:
            return sha256()
        case 1:
            return leaves[0]
        case number:
            k = half(number)
            return sha256(b"\x01", mth(leaves[:k]), mth(leaves[k:]))


def path(place: int, leaves: Sequence[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = half(len(leaves))
    if place < k:
        return [*path(place, leaves[:k]), mth(leaves[k:])]
    return [*path(place - k, leaves[k:]), mth(leaves[:k])]


def subproof(first: int, leaves: Sequence[bytes], *, known: bool = True) -> list[bytes]:
    if first == len(leaves):
        return [] if known else [mth(leaves)]
    k = half(len(leaves))
    if first <= k:
        return [*subproof(first, leaves[:k], known=known), mth(leaves[k:])]
    return [*subproof(first - k, leaves[k:], known=False), mth(leaves[:k])]


# Trees to look at.


def some_leaves(number: int) -> list[bytes]:
    return [leaf_hash(str(one).encode()) for one in range(number)]


def nodes_of(leaves: Sequence[bytes]) -> GetNode:
    """As a store would keep them: whatever a growing tree has completed, each once."""
    kept: dict[tuple[int, int], bytes] = {}
    tree = Range()
    for place, leaf in enumerate(leaves):
        for level, node in enumerate(tree.append(leaf)):
            assert (level, place >> level) not in kept
            kept[level, place >> level] = node
    return lambda level, index: kept[level, index]


LEAVES = some_leaves(SIZES[-1])
NODES = nodes_of(LEAVES)


def test_the_leaf_is_the_hash_that_the_event_has_anyway() -> None:
    assert leaf_hash(b"body").hex() == event_hash(b"body")


def test_the_reference_tree_has_its_published_roots() -> None:
    nodes = nodes_of(REFERENCE)

    assert [root(nodes, size).hex() for size in range(1, 9)] == list(PUBLISHED_ROOTS)
    assert root(nodes, 0) == EMPTY_ROOT == hashlib.sha256().digest()


@pytest.mark.parametrize("size", [0, *SIZES])
def test_a_root_is_what_its_definition_says(size: int) -> None:
    grown = Range()
    for leaf in LEAVES[:size]:
        grown.append(leaf)

    assert root(NODES, size) == grown.root() == Range.of(NODES, size).root() == mth(LEAVES[:size])


def test_a_tree_grows_on_from_any_size_it_had() -> None:
    for size in SIZES:
        grown = Range.of(NODES, size)
        for leaf in LEAVES[size:]:
            grown.append(leaf)
        assert grown.root() == mth(LEAVES)


def test_a_growing_tree_refuses_nodes_that_are_not_those_of_its_size() -> None:
    with pytest.raises(ValueError, match="a tree of 3 leaves is made of 2"):
        Range(3, [EMPTY_ROOT])


@pytest.mark.parametrize("size", SIZES)
def test_inclusion_proofs_are_what_their_definition_says_and_hold_for_nothing_else(size: int) -> None:
    leaves, found = LEAVES[:size], root(NODES, size)
    for index in range(size):
        proof = inclusion_proof(NODES, index, size)
        assert proof == path(index, leaves)
        for claimed in range(size + 2):
            assert verify_inclusion(leaves[index], claimed, size, proof, found) == (claimed == index)
        assert not verify_inclusion(leaves[index], index, size, [*proof, found], found)
        assert not verify_inclusion(LEAVES[index - 1], index, size, proof, found)


@pytest.mark.parametrize("second", SIZES)
def test_consistency_proofs_are_what_their_definition_says_and_hold_for_nothing_else(second: int) -> None:
    found = root(NODES, second)
    for first in range(1, second + 1):
        proof = consistency_proof(NODES, first, second)
        assert proof == subproof(first, LEAVES[:second])
        for claimed in range(second + 2):
            holds = verify_consistency(claimed, second, proof, mth(LEAVES[:first]), found)
            assert holds == (claimed == first)
        for dropped in range(len(proof)):
            shorter = proof[:dropped] + proof[dropped + 1 :]
            assert not verify_consistency(first, second, shorter, mth(LEAVES[:first]), found)


def test_there_is_no_proof_for_what_is_not_there() -> None:
    for index, size in ((-1, 3), (3, 3), (0, 0)):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_proof(NODES, index, size)
    for first, second in ((0, 3), (4, 3), (-1, 3)):
        with pytest.raises(ValueError, match="nothing to prove"):
            consistency_proof(NODES, first, second)


def test_nothing_is_consistent_with_an_empty_tree() -> None:
    assert not verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    assert not verify_consistency(0, 3, [], EMPTY_ROOT, root(NODES, 3))
    assert not verify_inclusion(EMPTY_ROOT, 0, 0, [], EMPTY_ROOT)


def test_what_is_no_hash_is_part_of_no_proof() -> None:
    assert not verify_inclusion(b"", 0, 1, [], b"")
    assert not verify_consistency(1, 2, [b""], b"", sha256(b"\x01"))


# What is published of these proofs.


def test_leaves_and_nodes_are_hashed_as_published() -> None:
    """By transparency-dev/merkle, in the tests of rfc6962."""
    assert leaf_hash(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert node_hash(b"N123", b"N456").hex() == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"


@pytest.mark.parametrize(("index", "size"), PUBLISHED_INCLUSIONS)
def test_published_inclusion_proofs_hold_and_the_ways_of_spoiling_them_do_not(index: int, size: int) -> None:
    leaf, found = REFERENCE[index], bytes.fromhex(PUBLISHED_ROOTS[size - 1])
    proof = [*map(bytes.fromhex, PUBLISHED_INCLUSIONS[index, size])]
    assert inclusion_proof(nodes_of(REFERENCE[:size]), index, size) == proof
    assert verify_inclusion(leaf, index, size, proof, found)

    for claimed in (index - 1, index + 1, index ^ 2):
        assert not verify_inclusion(leaf, claimed, size, proof, found)
    for claimed in (size * 2, size // 2):
        assert not verify_inclusion(leaf, index, claimed, proof, found)
    for other in (b"WrongLeaf", sha256(b"WrongLeaf"), EMPTY_ROOT, b""):
        assert not verify_inclusion(other, index, size, proof, found)
        assert not verify_inclusion(leaf, index, size, proof, other)
    for spoilt in spoilt_proofs(proof, found, leaf):
        assert not verify_inclusion(leaf, index, size, spoilt, found)


@pytest.mark.parametrize(("first", "second"), PUBLISHED_CONSISTENCIES)
def test_published_consistency_proofs_hold_and_the_ways_of_spoiling_them_do_not(first: int, second: int) -> None:
    one, two = (bytes.fromhex(PUBLISHED_ROOTS[size - 1]) for size in (first, second))
    proof = [*map(bytes.fromhex, PUBLISHED_CONSISTENCIES[first, second])]
    assert consistency_proof(nodes_of(REFERENCE[:second]), first, second) == proof
    assert verify_consistency(first, second, proof, one, two)

    for claimed in (first - 1, first + 1, first ^ 2):
        assert not verify_consistency(claimed, second, proof, one, two)
    for claimed in (second * 2, second // 2):
        assert not verify_consistency(first, claimed, proof, one, two)
    assert not verify_consistency(first, second, proof, two, one)
    assert not verify_consistency(first, second, proof, sha256(b"WrongRoot"), two)
    assert not verify_consistency(first, second, proof, one, sha256(b"WrongRoot"))
    assert not verify_consistency(first, second, [], one, two)
    for spoilt in spoilt_proofs(proof, one, two):
        assert not verify_consistency(first, second, spoilt, one, two)


def spoilt_proofs(proof: list[bytes], *strangers: bytes) -> Iterator[list[bytes]]:
    for stranger in (*strangers, b"", b"garbage"):
        for place in range(len(proof) + 1):
            yield [*proof[:place], stranger, *proof[place:]]
    for place, node in enumerate(proof):
        yield proof[:place] + proof[place + 1 :]
        for bit in range(8 * HASH_BYTES):
            flipped = bytearray(node)
            flipped[bit // 8] ^= 1 << bit % 8
            yield [*proof[:place], bytes(flipped), *proof[place + 1 :]]


# Larger trees, against the second implementation.


@given(st.integers(1, 700), st.data())
def test_proofs_in_larger_trees_are_the_second_implementations(size: int, data: st.DataObject) -> None:
    leaves = some_leaves(size)
    nodes, found = nodes_of(leaves), mth(leaves)
    index = data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(1, size))

    assert root(nodes, size) == found
    assert inclusion_proof(nodes, index, size) == path(index, leaves)
    assert consistency_proof(nodes, first, size) == subproof(first, leaves)
    assert verify_inclusion(leaves[index], index, size, path(index, leaves), found)
    assert verify_consistency(first, size, subproof(first, leaves), mth(leaves[:first]), found)


# Tiles.


def test_tiles_are_named_as_tlog_tiles_says() -> None:
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path(0, 273, 17) == "tile/0/273.p/17"
    assert tile_path(None, 0) == "tile/entries/000"
    assert tile_path(3, 1000, 255) == "tile/3/x001/000.p/255"


@given(st.none() | st.integers(0, 63), st.integers(0, 2**56), st.integers(1, TILE_WIDTH))
def test_the_path_of_a_tile_is_read_as_it_was_written(level: int | None, index: int, width: int) -> None:
    assert parsed_tile_path(tile_path(level, index, width)) == (level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0",
        "tile/0/",
        "tile/0/1",
        "tile/0/0001",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/00/001",
        "tile/64/001",
        "tile/-1/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/017",
        "tile/0/001.p/",
        "tile/0/001.p",
        "tile/0/001\n",
        "tile/0/\u0660\u0660\u0661",
        "/tile/0/001",
        "tile/entries/001/",
        "tile/Entries/001",
        "tile/0/" + "x001/" * 30 + "001",
    ],
)
def test_a_tile_has_no_other_path(path: str) -> None:
    with pytest.raises(ValueError, match="names no tile"):
        parsed_tile_path(path)


def tiles_of(leaves: Sequence[bytes]) -> tuple[Callable[[int, int, int], bytes], list[tuple[int, int]]]:
    """Full and partial tiles straight from their definition, and which of them have been asked for."""
    asked = []

    def get_tile(level: int, index: int, width: int) -> bytes:
        asked.append((level, index))
        covered = TILE_WIDTH**level
        start = index * TILE_WIDTH * covered
        return b"".join(mth(leaves[at : at + covered]) for at in range(start, start + width * covered, covered))

    return get_tile, asked


@pytest.mark.parametrize("size", [1, 5, 255, 256, 257, 512, 700])
def test_every_complete_node_is_found_in_the_tiles(size: int) -> None:
    leaves = some_leaves(size)
    get_tile, asked = tiles_of(leaves)
    get_node = nodes_in_tiles(get_tile, size)

    for level in range(size.bit_length()):
        for index in range(size >> level):
            assert get_node(level, index) == mth(leaves[index << level : (index + 1) << level])
        with pytest.raises(IndexError):
            get_node(level, size >> level)

    assert len(asked) == len(set(asked))
    assert root(get_node, size) == mth(leaves)


def test_the_tiles_that_grow_are_those_whose_width_does() -> None:
    for old, new in ((0, 0), (0, 1), (1, 255), (255, 256), (256, 300), (300, 300), (65535, 65536), (1000, 200_000)):
        grown = [
            (level, index, tile_width(level, index, new))
            for level in range(4)
            for index in range(1000)
            if tile_width(level, index, new) > max(0, tile_width(level, index, old))
        ]
        assert list(grown_tiles(old, new)) == grown


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_entries_come_out_of_their_bundle_as_they_went_in(entries: list[bytes]) -> None:
    bundle = entry_bundle(entries)

    assert bundled_entries(bundle) == entries
    cuts = {len(entry_bundle(entries[:number])) for number in range(len(entries) + 1)}
    for length in set(range(len(bundle))) - cuts:
        with pytest.raises(ValueError, match="cut off"):
            bundled_entries(bundle[:length])


def test_an_entry_follows_its_length_as_two_bytes() -> None:
    assert entry_bundle([b"ab", b""]) == b"\x00\x02ab\x00\x00"
    assert len(entry_bundle([b"x" * 65_535])) == 65_537
    with pytest.raises(OverflowError):
        entry_bundle([b"x" * 65_536])


def test_a_range_is_covered_by_complete_nodes_alone() -> None:
    for end in range(65):
        for start in range(end + 1):
            covered = [leaf for level, index in cover(start, end) for leaf in range(index << level, index + 1 << level)]
            assert covered == list(range(start, end))
