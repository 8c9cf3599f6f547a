"""The RFC 6962 tree over the log, kept in tiles: leaf i is the hash of the event at position i + 1.

Everything here is done in the caller's transaction. Only `extend` writes, and writes nothing but tiles.
"""

from collections import defaultdict

from sqlalchemy import Connection, text

from storage import merkle
from storage.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Range, nodes_in_tiles, tile_path
from workflow.errors import CaseworkError

PASS_SIZE = 2048
"""At most so many events are taken in at once: some ten milliseconds, in which on SQLite nothing else is written."""

LOCK = text("SELECT pg_advisory_xact_lock(hashtext('casework tree'))")
LAST_TILE = text("SELECT n, length(hashes) FROM tiles WHERE level = 0 ORDER BY n DESC LIMIT 1")
TILE = text("SELECT hashes FROM tiles WHERE level = :level AND n = :n")
LENGTH = text("SELECT max(position) FROM positions")
WAITING = text("SELECT count(*) FROM pending_events")
LEAVES = text(
    "SELECT position, hash FROM positions JOIN events ON id = event_id"
    " WHERE position > :size AND position <= :end ORDER BY position"
)
LEAF = text("SELECT hash FROM positions JOIN events ON id = event_id WHERE position = :size")
BODIES = text(
    "SELECT body FROM positions JOIN events ON id = event_id"
    " WHERE position > :start AND position <= :end ORDER BY position"
)
GROW = text("UPDATE tiles SET hashes = :hashes WHERE level = :level AND n = :n")
ADD = text("INSERT INTO tiles (level, n, hashes) VALUES (:level, :n, :hashes)")


class BrokenTree(CaseworkError):
    """What is stored is no tree over this log: `casework verify` says where it was altered."""


class Tree:
    """As it stands when it is made: what is added later is not looked at."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        index, octets = connection.execute(LAST_TILE).first() or (0, 0)
        self.size: int = index * TILE_WIDTH + octets // HASH_BYTES
        self.node = nodes_in_tiles(self.tile, self.size)

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The first hashes of a tile. Raises BrokenTree if it has fewer."""
        hashes: bytes = self.connection.execute(TILE, {"level": level, "n": index}).scalar() or b""
        if len(hashes) < width * HASH_BYTES:
            raise BrokenTree(f"the tree is broken: {tile_path(level, index, width)} is missing")
        return bytes(hashes[: width * HASH_BYTES])

    def root(self, size: int) -> bytes:
        return merkle.root(self.node, size)

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """Raises ValueError if the event at this position is not among the first `size`."""
        return merkle.inclusion_proof(self.node, position - 1, size)

    def consistency(self, first: int, second: int) -> list[bytes]:
        return merkle.consistency_proof(self.node, first, second)

    def entries(self, index: int, width: int) -> list[bytes]:
        """The bodies of the events whose hashes are in the tile (0, index)."""
        start = index * TILE_WIDTH
        rows = self.connection.execute(BODIES, {"start": start, "end": start + width}).scalars()
        return [body.encode() for body in rows]


def length(connection: Connection) -> int:
    """How many events have a position."""
    return connection.execute(LENGTH).scalar() or 0


def lag(connection: Connection) -> int:
    """How many events are in the log, and not yet in the tree."""
    waiting: int = connection.execute(WAITING).scalar_one()
    return length(connection) + waiting - Tree(connection).size


def extend(connection: Connection) -> int:
    """One pass: take in the next events that have a position, and answer with how many they were.

    All of it happens or nothing; who comes second finds it done. Raises BrokenTree.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(LOCK)
    tree = Tree(connection)
    if tree.size and connection.execute(LEAF, {"size": tree.size}).scalar() != tree.node(0, tree.size - 1).hex():
        raise BrokenTree(f"the log is broken: the event that the tree has at position {tree.size} is gone, or another")
    edge = Range.of(tree.node, tree.size)
    added: defaultdict[int, list[bytes]] = defaultdict(list)
    for position, digest in connection.execute(LEAVES, {"size": tree.size, "end": tree.size + PASS_SIZE}):
        if position != edge.size + 1:
            raise BrokenTree(f"the log is broken: no event has the position {edge.size + 1}")
        for level, node in enumerate(edge.append(bytes.fromhex(digest))[::TILE_HEIGHT]):
            added[level].append(node)
    for level, nodes in added.items():
        write(connection, tree, level, nodes)
    return edge.size - tree.size


def write(connection: Connection, tree: Tree, level: int, nodes: list[bytes]) -> None:
    """Add these nodes at the end of a level: to its last tile, and to new ones after it."""
    index, width = divmod(tree.size >> TILE_HEIGHT * level, TILE_WIDTH)
    hashes = tree.tile(level, index, width) + b"".join(nodes) if width else b"".join(nodes)
    tiles = [
        {"level": level, "n": index + at // TILE_BYTES, "hashes": hashes[at : at + TILE_BYTES]}
        for at in range(0, len(hashes), TILE_BYTES)
    ]
    if width:
        connection.execute(GROW, tiles.pop(0))
    if tiles:
        connection.execute(ADD, tiles)


TILE_BYTES = TILE_WIDTH * HASH_BYTES
