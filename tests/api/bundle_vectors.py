"""Writes what is in tests/api/bundles, to try a second verifier with: `python -m tests.api.bundle_vectors`.

Each is what `index.json` says: with this key and these checkpoints a verifier finds fault with exactly these levels.
Most of the wrong ones are signed with the desk's own key, so that nothing else is wrong with them.
"""

import base64
import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from api.casework_verify import ORDER
from storage.notes import Signer
from tests.databases import migrate, sqlite_url
from tests.storage.full_desk import fill
from tests.storage.proofs import Log, Proofs, log_file, proofs_of
from workflow.canonical import canonical

FOLDER = Path(__file__).parent / "bundles"
CHAIN = "case:D"  # opened with a file, investigated, answered, closed


def changed(bundle: Any, change: Callable[[Any], object]) -> Any:
    other = copy.deepcopy(bundle)
    change(other)
    return other


def close_at_once(events: list[Any]) -> None:
    """From where it was opened to a remedy, which no lifecycle allows."""
    (step,) = (one for one in events if one["type"] == "investigation_started")
    step |= {"type": "compensation_issued", "trigger": "issue_compensation"}


def cut_off(bundle: Any) -> None:
    del bundle["case"][-1]
    bundle["openings"] = [one for one in bundle["openings"] if one["seq"] <= len(bundle["case"])]


def with_another_signature(bundle: Any) -> None:
    """The same one in the other encoding that a lax verifier takes: S + L for S (RFC 8032 §5.1.7)."""
    text, _, signature = bundle["head"].rpartition(" ")
    octets = base64.b64decode(signature)
    response = int.from_bytes(octets[-32:], "little") + ORDER
    octets = octets[:-32] + response.to_bytes(32, "little")
    bundle["head"] = f"{text} {base64.b64encode(octets).decode()}\n"


def altered(bodies: list[bytes], number: int, **changes: Any) -> list[bytes]:
    """With other values in an event, which none of those after it know of."""
    event = json.loads(bodies[number]) | changes
    return [*bodies[:number], canonical(event), *bodies[number + 1 :]]


def last_steps(bodies: list[bytes]) -> list[int]:
    """The events of cases that nothing has happened to since a transition."""
    last = {json.loads(body)["chain"]: number for number, body in enumerate(bodies)}
    return [number for number in last.values() if "trigger" in json.loads(bodies[number])]


def files(proofs: Proofs) -> dict[str, bytes]:
    log, whole = proofs.log, json.loads(proofs.whole)

    def signed(change: Callable[[Any], object]) -> bytes:
        return log.resigned(changed(whole, change))

    bodies, second = proofs.bodies, log.rotated(1)
    third = second.rotated(2)
    file = log_file(bodies, log)
    first, *lines = file.splitlines(keepends=True)
    leaves = [*log.leaves]
    leaves[1] = bytes(32)
    rewritten = Log(leaves, log.signer)
    return {
        "key": f"{log.key}\n".encode(),
        "another-key": f"{Signer('another', bytes(32)).verifier}\n".encode(),
        "checkpoint-3": str(log.checkpoint(3)).encode(),
        "checkpoint-4": str(log.checkpoint(4)).encode(),
        "checkpoint-3-of-a-rewritten-log": str(rewritten.checkpoint(3)).encode(),
        "whole.json": proofs.whole,
        "redacted.json": proofs.redacted,
        "blank.json": proofs.whole.replace(b'"casework_bundle":1', b'"casework_bundle": 1'),
        "name-twice.json": proofs.whole.replace(b'"casework_bundle":1', b'"casework_bundle":1,"casework_bundle":1'),
        "unknown-field.json": signed(lambda one: one.update(comment="nothing to see")),
        "altered-event.json": signed(lambda one: one["case"][-1]["event"].update(actor="person:bo")),
        "altered-node.json": signed(lambda one: one["nodes"].__setitem__(0, "A" * 43 + "=")),
        "altered-opening.json": signed(lambda one: one["openings"][0].update(value="another")),
        "missing-event.json": signed(lambda one: one["case"].__delitem__(2)),
        "illegal-transition.json": log.forged(proofs.evidence, close_at_once),
        "cut-off.json": canonical(changed(whole, cut_off)),
        "another-encoding-of-a-signature.json": canonical(changed(whole, with_another_signature)),
        "second-key": f"{second.key}\n".encode(),
        "two-keys-later.json": third.bundle(proofs.evidence),
        "not-introduced.json": Log(log.leaves, third.signer).bundle(proofs.evidence),
        "whole.jsonl": file,
        "two-keys-later.jsonl": log_file(bodies, third),
        "not-introduced.jsonl": log_file(bodies, Log(log.leaves, third.signer)),
        "blank.jsonl": file.replace(b'"seq":2', b'"seq": 2', 1),
        "no-end.jsonl": file[:-1],
        "missing-event.jsonl": log_file(bodies[:5] + bodies[6:], log),
        "altered-event.jsonl": log_file(altered(bodies, 1, actor="person:bo"), log),
        "illegal-transition.jsonl": log_file(altered(bodies, last_steps(bodies)[-1], trigger="refund"), log),
        "cut-off.jsonl": file.removesuffix(bodies[-1] + b"\n"),
        "swapped.jsonl": b"".join([first, *lines[:3], lines[4], lines[3], *lines[5:]]),
    }


def trial(file: str, *fails: str, key: str | None = "key", checkpoints: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"file": file, "key": key, "checkpoints": checkpoints, "fails": fails}


INDEX = [
    trial("whole.json"),
    trial("whole.json", key=None),
    trial("whole.json", checkpoints=("checkpoint-3",)),
    trial("whole.json", "signature", key="another-key"),
    trial("whole.json", "consistency", checkpoints=("checkpoint-4",)),
    trial("whole.json", "consistency", checkpoints=("checkpoint-3-of-a-rewritten-log",)),
    trial("redacted.json"),
    trial("blank.json", "form"),
    trial("name-twice.json", "form"),
    trial("unknown-field.json", "form"),
    trial("altered-event.json", "inclusion"),
    trial("altered-node.json", "inclusion"),
    trial("altered-opening.json", "openings"),
    trial("missing-event.json", "chain", "openings"),
    trial("illegal-transition.json", "lifecycle"),
    trial("cut-off.json", "completeness"),
    trial("another-encoding-of-a-signature.json", "completeness"),
    trial("two-keys-later.json"),
    trial("two-keys-later.json", key="second-key"),
    trial("two-keys-later.json", "signature", key="another-key"),
    trial("not-introduced.json", "signature"),
    trial("whole.jsonl"),
    trial("whole.jsonl", key=None),
    trial("whole.jsonl", checkpoints=("checkpoint-3", "checkpoint-4")),
    trial("whole.jsonl", "signature", key="another-key"),
    trial("whole.jsonl", "consistency", checkpoints=("checkpoint-3-of-a-rewritten-log",)),
    trial("two-keys-later.jsonl", checkpoints=("checkpoint-3",)),
    trial("not-introduced.jsonl", "signature"),
    trial("blank.jsonl", "form"),
    trial("no-end.jsonl", "form"),
    trial("missing-event.jsonl", "chain"),
    trial("altered-event.jsonl", "chain"),
    trial("illegal-transition.jsonl", "lifecycle"),
    trial("cut-off.jsonl", "inclusion", "completeness"),
    trial("swapped.jsonl", "inclusion"),
]


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        proofs = proofs_of(fill(migrate(sqlite_url(Path(folder, "casework.db")))), CHAIN)
    for name, content in files(proofs).items():
        (FOLDER / name).write_bytes(content)
    (FOLDER / "index.json").write_text(json.dumps(INDEX, indent=1) + "\n")


if __name__ == "__main__":
    main()
