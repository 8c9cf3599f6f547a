"""The tree over the log: RFC 6962 hashes, roots and proofs, and the C2SP tiles that a tree is kept in. Pure.

Nodes are named by level and index: node (0, i) is the hash of leaf i, node (l, i) the root over the 2^l leaves from
i·2^l. Only complete nodes are ever kept: they never change again, and everything else follows from them.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count

GetNode = Callable[[int, int], bytes]
"""The hash of the complete node at (level, index)."""

GetTile = Callable[[int, int, int], bytes]
"""The hashes, one after the other, of the tile at (level, index) with this width."""

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


# Roots.


def cover(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The fewest complete nodes over the leaves from `start` up to `end`, left to right."""
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield level, start >> level
        start += 1 << level


def span_root(get_node: GetNode, start: int, end: int) -> bytes:
    """The root over leaves `start` up to `end`, as it stands in every tree of which they are a node.

    They are one if `start` is a multiple of the least power of two that is not below their number.
    """
    return joined([get_node(level, index) for level, index in cover(start, end)])


def root(get_node: GetNode, size: int) -> bytes:
    """The root of the first `size` leaves, MTH of RFC 9162 §2.1.1."""
    return span_root(get_node, 0, size)


def joined(hashes: Sequence[bytes]) -> bytes:
    """The root over neighbouring nodes, each lower than the one before it."""
    if not hashes:
        return EMPTY_ROOT
    *rest, top = hashes
    for left in reversed(rest):
        top = node_hash(left, top)
    return top


class Range:
    """A growing tree, of which only the complete nodes are kept that its root is made of: at most 64, for any size."""

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """`hashes` are those of `cover(0, size)`."""
        self.size = size
        self.hashes = list(hashes)
        if len(self.hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves is made of {size.bit_count()} complete nodes")

    @classmethod
    def of(cls, get_node: GetNode, size: int) -> "Range":
        return cls(size, (get_node(level, index) for level, index in cover(0, size)))

    def append(self, leaf: bytes) -> list[bytes]:
        """Add the hash of the next leaf. Answers with the nodes that it completes, one of each level from 0 up.

        If it is leaf i, the one of level l has the index i >> l.
        """
        completed = [leaf]
        index = self.size
        while index & 1:
            leaf = node_hash(self.hashes.pop(), leaf)
            completed.append(leaf)
            index >>= 1
        self.hashes.append(leaf)
        self.size += 1
        return completed

    def root(self) -> bytes:
        return joined(self.hashes)


# Proofs.


def split(size: int) -> int:
    """Where a tree of this size parts: the largest power of two below it."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(get_node: GetNode, index: int, size: int) -> list[bytes]:
    """That leaf `index` is in the tree of `size` leaves: PATH of RFC 9162 §2.1.3.1."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + split(end - start)
        if index < middle:
            proof.append(span_root(get_node, middle, end))
            end = middle
        else:
            proof.append(span_root(get_node, start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(get_node: GetNode, first: int, second: int) -> list[bytes]:
    """That the tree of `second` leaves begins with the one of `first`: PROOF of RFC 9162 §2.1.4.1."""
    if not 0 < first <= second:
        raise ValueError(f"nothing to prove between trees of {first} and {second}")
    proof: list[bytes] = []
    start, end = 0, second
    while first < end:
        middle = start + split(end - start)
        if first <= middle:
            proof.append(span_root(get_node, middle, end))
            end = middle
        else:
            proof.append(span_root(get_node, start, middle))
            start = middle
    if start:  # otherwise the earlier tree is a node of the later one, and its root is known
        proof.append(span_root(get_node, start, end))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> bool:
    """RFC 9162 §2.1.3.2; `leaf` is the leaf's hash, `expected` the root."""
    if not 0 <= index < size or not are_hashes(leaf, expected, *proof):
        return False
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and found == expected


def verify_consistency(first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes) -> bool:
    """RFC 9162 §2.1.4.2. Of an empty tree nothing can be proved, so nothing is consistent with it."""
    if first == second:
        return first > 0 and not proof and first_root == second_root
    if not 0 < first < second or not proof or not are_hashes(first_root, second_root, *proof):
        return False
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def are_hashes(*values: bytes) -> bool:
    """Nothing shorter or longer may stand where a hash does: two could pass for one."""
    return all(len(value) == HASH_BYTES for value in values)


# Tiles, as C2SP's tlog-tiles keeps and names them: the tile (l, n) holds the nodes of level 8l from 256n.

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
MAX_TILE_LEVEL = 63
MAX_TILE_PATH = len("tile/entries/x018/x446/x744/x073/x709/x551/615.p/255")


def tile_width(level: int, index: int, size: int) -> int:
    """How many hashes the tile has in a tree of this size; of none it has 0 or less."""
    return min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - TILE_WIDTH * index)


def grown_tiles(old: int, new: int) -> Iterator[tuple[int, int, int]]:
    """Level, index and width of each tile that has more hashes in the tree of size `new` than in that of `old`."""
    for level in count():
        first, last = (size >> TILE_HEIGHT * level for size in (old, new))
        if last == 0:
            return
        if first < last:
            for index in range(first >> TILE_HEIGHT, (last - 1 >> TILE_HEIGHT) + 1):
                yield level, index, tile_width(level, index, new)


def nodes_in_tiles(get_tile: GetTile, size: int) -> GetNode:
    """The complete nodes of the tree of `size` leaves, out of its tiles, each asked for once."""
    tiles: dict[tuple[int, int], bytes] = {}

    def get_node(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index, place = divmod(index << height, TILE_WIDTH)
        name = tile_level, tile_index
        if not 0 <= (index + 1) << level <= size:
            raise IndexError(f"a tree of {size} has no complete node {level}, {index}")
        if name not in tiles:
            tiles[name] = get_tile(*name, tile_width(*name, size))
        tile = tiles[name][HASH_BYTES * place : HASH_BYTES * (place + (1 << height))]
        return perfect_root([tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)])

    return get_node


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of neighbouring nodes of one level."""
    while len(hashes) > 1:
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def tile_path(level: int | None, index: int, width: int = TILE_WIDTH) -> str:
    """Such as `tile/0/x001/x234/067.p/12`; level None is the entries'."""
    digits = f"{index:0{-(-len(str(index)) // 3) * 3}}"
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join([f"x{one}" for one in groups[:-1]] + groups[-1:])
    partial = f".p/{width}" if width < TILE_WIDTH else ""
    return f"tile/{'entries' if level is None else level}/{name}{partial}"


TILE_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([0-9]{1,3}))?", re.ASCII)


def parsed_tile_path(path: str) -> tuple[int | None, int, int]:
    """Level, index and width. Raises ValueError for what `tile_path` does not say."""
    match = TILE_PATH.fullmatch(path)
    if match is None or len(path) > MAX_TILE_PATH:
        raise ValueError(f"{path!r} names no tile")
    level, name, width = match.groups()
    tile = None if level == "entries" else int(level), int(re.sub("[x/]", "", name)), int(width or TILE_WIDTH)
    if tile_path(*tile) != path or tile[2] == 0 or (tile[0] or 0) > MAX_TILE_LEVEL:
        raise ValueError(f"{path!r} names no tile")
    return tile


def entry_bundle(entries: Iterable[bytes]) -> bytes:
    """Entries of at most 65,535 bytes, each after its length as a big-endian uint16."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def bundled_entries(bundle: bytes) -> list[bytes]:
    """Raises ValueError if the last one is not whole."""
    entries, at = [], 0
    while at < len(bundle):
        start = at + 2
        at = start + int.from_bytes(bundle[at:start], "big")
        if start > len(bundle) or at > len(bundle):
            raise ValueError("the bundle is cut off")
        entries.append(bundle[start:at])
    return entries
