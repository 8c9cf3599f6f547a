"""Puts together what proves one case to somebody who trusts nobody here; docs/bundle.md describes the file."""

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from storage import notes
from storage.checkpoints import NEWEST, Signed
from storage.database import asking
from storage.events import recorded
from storage.keys import CannotSign, Introduction, announced_signer, announcements, introductions
from storage.merkle import GetNode, consistency_proof, inclusion_proof, root
from storage.notes import Checkpoint, Note, Signature, Signer, Verifier
from storage.sequencer import Sequencer
from storage.tree import Tree
from workflow.canonical import canonical, leaf_hash
from workflow.cases import chain_of
from workflow.desk import POLICY_CHAIN, SETTINGS_CHAIN
from workflow.errors import CaseworkError, NotFound
from workflow.events import LifecycleAdopted, Recorded

BUNDLE_FORMAT = 1
HEAD = "casework head of a case"
MAX_FILE_BYTES = 50_000_000
"""So much evidence in one bundle: in base64 it stays below what the verifier reads."""


class TooLarge(CaseworkError):
    """The case has more evidence files than fit into one bundle; each can still be had by itself."""


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """An event's very text, and the index of its leaf in the tree."""

    body: str
    index: int


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a commitment was made to. The content of a file is bytes."""

    seq: int
    field: str
    salt: bytes
    value: str | bytes


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A case's events, and the beginnings of the chains that logged the rules that they were decided under."""

    case: tuple[Placed, ...]
    settings: tuple[Placed, ...]
    policy: tuple[Placed, ...]
    openings: tuple[Opening, ...]


async def bundle_of(
    sequencer: Sequencer, case_id: str, *, redacted: bool = False, files: bool = False, since: Iterable[int] = ()
) -> bytes:
    """The file about a case as it stands now, under the newest checkpoint that covers it, or a new one.

    Raises NotFound, TooLarge, CannotSign, BrokenTree or Unavailable.
    """
    database, keys, chain = sequencer.database, sequencer.keys, chain_of(case_id)
    if keys is None:
        raise CannotSign("this process has no signing key")
    with asking():
        signed = await database.run(lambda connection: covering(connection, chain))
    signed = signed or await sequencer.settle()
    if signed is None:
        raise NotFound("case")
    note, size = Note.parse(signed.note.encode()), signed.size

    def put_together(connection: Connection) -> bytes:
        history = announcements(connection)
        signer = announced_signer(keys, history)
        found = evidence(connection, chain, size, redacted=redacted, files=files)
        introduced = introductions(history, signer.verifier)
        return bundle(found, note, Tree(connection).node, signer, since, introduced=introduced)

    with asking():
        return await database.run(put_together)


def covering(connection: Connection, chain: str) -> Signed | None:
    """The newest checkpoint, if it is of the key in use, and of a log in which the chain was as long as it is."""
    announced, row = announcements(connection), connection.execute(NEWEST).first()
    if not announced or row is None:
        return None
    signed = Signed(**row._mapping)  # noqa: SLF001 - the row by its names
    if not signatures_of(Note.parse(signed.note.encode()), Verifier.parse(announced[-1].vkey)):
        return None
    is_longer = connection.execute(BEYOND, {"chain": chain, "size": signed.size}).first() is not None
    return None if is_longer else signed


# What is in the database.


PLACED = text(
    "SELECT body, hash, position - 1 FROM events JOIN positions ON event_id = id"
    " WHERE chain = :chain AND position <= :size ORDER BY seq"
)
BEYOND = text(
    "SELECT 1 FROM events LEFT JOIN positions ON event_id = id"
    " WHERE chain = :chain AND (position IS NULL OR position > :size) LIMIT 1"
)
TEXTS = text("SELECT seq, field, salt, value FROM personal WHERE chain = :chain AND seq <= :last")
FILE_BYTES = text("SELECT coalesce(sum(length(content)), 0) FROM attachments WHERE case_id = :case AND seq <= :last")
FILES = text("SELECT seq, 'content', salt, content FROM attachments WHERE case_id = :case AND seq <= :last")


def evidence(connection: Connection, chain: str, size: int, *, redacted: bool = False, files: bool = False) -> Evidence:
    """What the first `size` events of the log say of the case, with its texts unless redacted, and its files if wanted.

    Raises NotFound or TooLarge.
    """
    case = placed(connection, chain, size)
    if not case:
        raise NotFound("case")
    lifecycles = {one.event.lifecycle for one, _ in case}
    settings = placed(connection, SETTINGS_CHAIN, size)
    adopted = [
        at
        for at, (one, _) in enumerate(settings, 1)
        if isinstance(one.data, LifecycleAdopted) and one.data.lifecycle in lifecycles
    ]
    policy = placed(connection, POLICY_CHAIN, size)
    place = {"chain": chain, "case": chain.partition(":")[2], "last": len(case)}
    rows = [] if redacted else connection.execute(TEXTS, place).all()
    if files and not redacted:
        if connection.execute(FILE_BYTES, place).scalar_one() > MAX_FILE_BYTES:
            raise TooLarge(f"the files of this case have more than {MAX_FILE_BYTES} bytes")
        rows = [*rows, *connection.execute(FILES, place)]
    openings = (Opening(seq=seq, field=field, salt=salt, value=value) for seq, field, salt, value in rows)
    return Evidence(
        case=tuple(one for _, one in case),
        settings=tuple(one for _, one in settings[: max(adopted, default=1)]),
        policy=tuple(one for _, one in policy[: max(one.event.policy for one, _ in case)]),
        openings=tuple(sorted(openings, key=lambda one: (one.seq, one.field))),
    )


def placed(connection: Connection, chain: str, size: int) -> list[tuple[Recorded, Placed]]:
    rows = connection.execute(PLACED, {"chain": chain, "size": size})
    return [(recorded(body, digest), Placed(body=body, index=index)) for body, digest, index in rows]


# What is handed out.


def bundle(
    evidence: Evidence,
    checkpoint: Note,
    get_node: GetNode,
    signer: Signer,
    since: Iterable[int] = (),
    *,
    introduced: Sequence[Introduction] = (),
) -> bytes:
    """The file. The checkpoint is signed by `signer`, and no older than the evidence.

    `since` are sizes of checkpoints that the reader holds, of which it proves that the log goes on from them;
    `introduced` says how earlier keys led to this one.
    Raises Unsigned if the checkpoint is another key's.
    """
    verifier = signer.verifier
    note = Note(checkpoint.text, signatures_of(checkpoint, verifier))
    notes.verify(note, [verifier])
    signed = Checkpoint.parse(note.text)
    nodes: dict[bytes, int] = {}

    def proved(one: Placed) -> dict[str, Any]:
        proof = inclusion_proof(get_node, one.index, signed.size)
        numbers = [nodes.setdefault(node, len(nodes)) for node in proof]
        return {"event": msgspec.Raw(one.body.encode()), "index": one.index, "proof": numbers}

    rest = {
        "casework_bundle": BUNDLE_FORMAT,
        "key": str(verifier),
        "introductions": introduced,
        "checkpoint": str(note),
        "case": [proved(one) for one in evidence.case],
        "settings": [proved(one) for one in evidence.settings],
        "policy": [proved(one) for one in evidence.policy],
        "nodes": list(map(in_base64, nodes)),
        "consistency": [
            {
                "size": size,
                "root": in_base64(root(get_node, size)),
                "proof": list(map(in_base64, consistency_proof(get_node, size, signed.size))),
            }
            for size in sorted(set(since))
            if 0 < size < signed.size
        ],
        "openings": list(map(opened, evidence.openings)),
    }
    head = notes.sign(head_text(evidence, signed, digest_of(rest)), signer)
    return canonical(rest | {"head": str(head)})


def signatures_of(note: Note, verifier: Verifier) -> tuple[Signature, ...]:
    return tuple(one for one in note.signatures if (one.name, one.key_id) == (verifier.name, verifier.id))


def opened(one: Opening) -> dict[str, Any]:
    value = {"value": one.value} if isinstance(one.value, str) else {"base64": in_base64(one.value)}
    return {"seq": one.seq, "field": one.field, "salt": bytes(one.salt).hex(), **value}


def digest_of(rest: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(rest)).hexdigest()


def head_text(evidence: Evidence, checkpoint: Checkpoint, digest: str) -> str:
    """What is signed of the case's last event, and of the rest of the file. Its first line is no log's name."""
    last = evidence.case[-1].body.encode()
    event = msgspec.json.decode(last)
    lines = (HEAD, checkpoint.origin, event["chain"], event["seq"], leaf_hash(last), checkpoint.size, digest)
    return "".join(f"{line}\n" for line in lines)


def in_base64(octets: bytes) -> str:
    return b64encode(octets).decode()
