"""Logs as trees in memory, signed with a key of the test's own: the one of a real database, and forged ones."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from storage import bundles, defences, notes, whole_log
from storage.bundles import Evidence, Placed
from storage.keys import Introduction, statement_of
from storage.merkle import Range
from storage.notes import Checkpoint, Note, Signer
from tests.databases import RawSql, run_sync
from workflow.canonical import ZEROS, canonical, leaf_hash

LEAVES = text("SELECT hash FROM positions JOIN events ON id = event_id ORDER BY position")
BODIES = text("SELECT body FROM positions JOIN events ON id = event_id ORDER BY position")
LOG = text("SELECT log FROM desk")
SEED = bytes(range(32))


class Log:
    """What its leaves and its signer make of it."""

    def __init__(self, leaves: Sequence[bytes], signer: Signer, introduced: Sequence[Introduction] = ()) -> None:
        self.leaves = leaves
        self.signer = signer
        self.introduced = introduced
        self.key = str(signer.verifier)
        self.tree = Range()
        self.roots = [self.tree.root()]
        self.nodes: dict[tuple[int, int], bytes] = {}
        for index, leaf in enumerate(leaves):
            for level, node in enumerate(self.tree.append(leaf)):
                self.nodes[level, index >> level] = node
            self.roots.append(self.tree.root())

    @classmethod
    def of(cls, connection: Connection) -> "Log":
        leaves = [bytes.fromhex(digest) for digest in connection.execute(LEAVES).scalars()]
        return cls(leaves, Signer(connection.execute(LOG).scalar_one(), SEED))

    @property
    def size(self) -> int:
        return self.tree.size

    def node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def checkpoint(self, size: int | None = None) -> Note:
        size = self.size if size is None else size
        return notes.sign(str(Checkpoint(self.signer.verifier.name, size, self.roots[size])), self.signer)

    def bundle(self, evidence: Evidence, size: int | None = None, since: Iterable[int] = ()) -> bytes:
        checkpoint = self.checkpoint(size)
        return bundles.bundle(evidence, checkpoint, self.node, self.signer, since, introduced=self.introduced)

    def rotated(self, seed: int) -> "Log":
        """Signed from now on with another key, which this one's introduces."""
        name, signer = self.signer.verifier.name, Signer(self.signer.verifier.name, bytes([seed] * 32))
        statement = notes.sign(statement_of(name, str(signer.verifier)), self.signer)
        return Log(self.leaves, signer, (*self.introduced, Introduction(self.key, str(statement))))

    def forged(self, evidence: Evidence, change: Callable[[list[Any]], object]) -> bytes:
        """The bundle of another log, in which the case's events are those that `change` makes of them.

        They are linked and signed as if they had been written so.
        """
        events = [msgspec.json.decode(one.body) for one in evidence.case]
        change(events)
        prev, leaves, case = ZEROS, list(self.leaves), []
        for event, one in zip(events, evidence.case, strict=False):
            body = canonical(event | {"prev": prev})
            prev = leaf_hash(body)
            leaves[one.index] = bytes.fromhex(prev)
            case.append(Placed(body=body.decode(), index=one.index))
        log = Log(leaves, self.signer)
        return log.bundle(msgspec.structs.replace(evidence, case=tuple(case)))

    def resigned(self, bundle: dict[str, Any]) -> bytes:
        """The bundle with a head that says that the rest is what the desk has signed, whatever it is."""
        rest = {name: part for name, part in bundle.items() if name != "head"}
        size = int(bundle["checkpoint"].split("\n")[1])
        checkpoint = Checkpoint(self.signer.verifier.name, size, b"")
        body = canonical(bundle["case"][-1]["event"]).decode()
        evidence = Evidence(case=(Placed(body=body, index=0),), settings=(), policy=(), openings=())
        text = bundles.head_text(evidence, checkpoint, bundles.digest_of(rest))
        return canonical(rest | {"head": str(notes.sign(text, self.signer))})


def log_file(bodies: Iterable[bytes], log: Log) -> bytes:
    """The whole log as it is exported, signed as `log` is, if these were its events."""
    lines = [*bodies]
    signed = Log([bytes.fromhex(leaf_hash(line)) for line in lines], log.signer)
    header = whole_log.header(signed.checkpoint(), log.signer.verifier, log.introduced)
    return header.encode() + b"".join(line + b"\n" for line in lines)


class Proofs:
    """What an auditor was given at some moment, and the log that it came from."""

    def __init__(self, connection: Connection, chain: str) -> None:
        self.log = Log.of(connection)
        self.key = self.log.key
        self.bodies = [body.encode() for body in connection.execute(BODIES).scalars()]
        self.evidence = bundles.evidence(connection, chain, self.log.size, files=True)
        self.whole = self.log.bundle(self.evidence, since=(3, 8))
        self.redacted = self.log.bundle(msgspec.structs.replace(self.evidence, openings=()))


def proofs_of(url: str, chain: str = "case:A") -> Proofs:
    return run_sync(url, lambda connection: Proofs(connection, chain))


def disarm(raw: RawSql) -> None:
    """Take down what would refuse a change of the log."""
    if raw.dialect == "sqlite":
        for trigger in defences.SQLITE_TRIGGERS:
            raw.run(f"DROP TRIGGER {trigger.name}")
        return
    for table in ("events", "personal", "positions"):
        raw.run(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    for check in defences.POSTGRESQL_CHECKS:
        raw.run(f"ALTER TABLE {check.place} DROP CONSTRAINT IF EXISTS {check.name}")
