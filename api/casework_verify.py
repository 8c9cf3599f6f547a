"""Verifies what Casework hands out, without Casework: casework_verify.py FILE [--key FILE] [--checkpoint FILE …].

FILE is a bundle, which says what happened to one case and proves it, or a whole log; docs/bundle.md and docs/log.md
describe them. This program needs Python 3.11 or later and nothing else, trusts nothing that it can work out for itself,
and takes for a bundle or a log only the one way in which one can be written, so that no byte of it can change unseen.

Exit codes: 0 everything that could be checked holds, 1 something is wrong, 2 wrong usage. Without --key the signatures
are checked under the key that the bundle itself names, which anybody could have made: "signer not authenticated".
"""

import argparse
import base64
import binascii
import gc
import hashlib
import hmac
import json
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

MAX_BUNDLE_BYTES = 100_000_000
MAX_EVENT_BYTES = 65_535
MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 50
MAX_SIGNATURES = 100
MAX_LINE = 1000
MAX_LATEST = 3000
ZEROS = "0" * 64
NEVER = MAX_INTEGER + 1
"""After every index."""


class Wrong(Exception):
    """Something that a desk cannot have written; the text says where and what."""


# Levels. Each is checked by itself, whatever became of the others.


class Key(NamedTuple):
    """Who signs: a name and an Ed25519 public key."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n\x01" + self.public).digest()[:4]


class Held(NamedTuple):
    """A signed checkpoint from the auditor's own files."""

    file: str
    note: str


class Outcome(NamedTuple):
    level: str
    verdict: str
    text: str


HOLDS, FAILS, UNKNOWN, SKIPPED = "holds", "FAILS", "unknown", "-"


def verify(data: bytes, trusted: Sequence[Key] = (), held: Sequence[Held] = ()) -> Iterator[Outcome]:
    """The outcome of every level for the file's bytes."""
    try:
        bundle = read_bundle(data)
    except Wrong as wrong:
        yield Outcome("form", FAILS, str(wrong))
        yield from (Outcome(level, SKIPPED, "not checked: the file is no bundle") for level in LEVELS)
        return
    yield Outcome("form", HOLDS, f"{len(data)} canonical bytes: {events_counted(bundle)}")
    yield from outcomes(LEVELS, bundle, trusted, held)


def outcomes(
    levels: "dict[str, Check]", subject: Any, trusted: Sequence[Key], held: Sequence[Held]
) -> Iterator[Outcome]:
    for level, check in levels.items():
        try:
            yield Outcome(level, *check(subject, trusted, held))
        except Wrong as wrong:
            yield Outcome(level, FAILS, str(wrong))


Verdict = tuple[str, str]


def check_inclusion(bundle: Any, _trusted: object, _held: object) -> Verdict:
    """Every event is in the tree of the checkpoint, at its index (RFC 9162 §2.1.3)."""
    _, size, root = checkpoint_of(bundle)
    nodes = list(map(from_base64, bundle["nodes"]))
    for name in CHAINS:
        last = -1
        for placed in bundle[name]:
            event, index = placed["event"], placed["index"]
            at = f"{event['chain']} event {event['seq']}"
            if index <= last:
                raise Wrong(f"{at}: stands in the log before its predecessor")
            if max(placed["proof"], default=0) >= len(nodes):
                raise Wrong(f"{at}: its proof names a node that is not there")
            proof = [nodes[number] for number in placed["proof"]]
            if included_root(index, size, bytes.fromhex(hash_of(event)), proof) != root:
                raise Wrong(f"{at}: is not what the log has at index {index}")
            last = index
    return HOLDS, f"every event is in the log of {size} events"


def check_chain(bundle: Any, _trusted: object, _held: object) -> Verdict:
    """Every event follows the one before it: by hash, number, state and time."""
    log = bundle["case"][0]["event"]["log"]
    for name, known_as in CHAINS.items():
        chain = bundle[name][0]["event"]["chain"]
        if not re.fullmatch(known_as, chain):
            raise Wrong(f"{name}: {chain} is no such chain")
        last = BEGINNING
        for placed in bundle[name]:
            event = placed["event"]
            at = f"{chain} event {last.seq + 1}"
            if (event["chain"], event["seq"]) != (chain, last.seq + 1):
                raise Wrong(f"{at}: is missing; {event['chain']} event {event['seq']} stands there")
            common = event["at"], event["request"]
            try:
                check_next(last, End(event["seq"], event["prev"], event["state_before"], *common))
            except Wrong as wrong:
                raise Wrong(f"{at}: {wrong}") from None
            if event["log"] != log:
                raise Wrong(f"{at}: is of another log")
            last = End(event["seq"], hash_of(event), event["state_after"], *common)
    return HOLDS, "every event follows the one before it, from the first one on"


class End(NamedTuple):
    """Of an event what the next one has to agree with; or of that one, what has to agree."""

    seq: int
    hash: str
    state: str | None
    at: str
    request: str


BEGINNING = End(0, ZEROS, None, "", "")


def check_next(last: End, following: End) -> None:
    if following.seq != last.seq + 1:
        raise Wrong(f"is missing; event {following.seq} stands there")
    if following.hash != last.hash:
        raise Wrong(f"does not follow the event before it: it names the hash {following.hash}")
    if following.state != last.state:
        raise Wrong("does not start from the state that the event before it led to")
    if following.at < last.at or (following.at == last.at and following.request != last.request):
        raise Wrong("is not later than the event before it")


def check_lifecycle(bundle: Any, _trusted: object, _held: object) -> Verdict:
    """Every transition is a step of the lifecycle that its event names, with every guard of that step."""
    lifecycles = logged_lifecycles(bundle)
    policies = logged_policies(bundle)
    transitions = 0
    for placed in bundle["case"]:
        event = placed["event"]
        at = f"{event['chain']} event {event['seq']}"
        logged, steps = lifecycles.get(event["lifecycle"], (NEVER, {}))
        if placed["index"] < max(logged, policies.get(event["policy"], NEVER)):
            raise Wrong(f"{at}: the lifecycle or policy that it names had not been logged")
        step = event["type"], event.get("trigger"), event["state_before"], event["state_after"]
        check_step(at, step, event.get("guards"), steps, is_first=event["seq"] == 1)
        transitions += step[1] is not None
    return HOLDS, f"{transitions} transitions, each a step of the lifecycle that was logged before it"


def check_step(at: str, step: tuple[Any, ...], said: Any, steps: "Steps", *, is_first: bool) -> None:
    """That an event of a case, of a type, with a trigger, from a state to a state, is one that its lifecycle has."""
    kind, trigger, before, after = step
    if TRIGGERS.get(kind) != trigger:
        raise Wrong(f"{at}: {kind} is not what the trigger {trigger} leads to")
    if trigger is None:
        if after != ("opened" if is_first else before):
            raise Wrong(f"{at}: without a trigger nothing leads from {before} to {after}")
        return
    guards = steps.get((trigger, before, after))
    if guards is None:
        raise Wrong(f"{at}: its lifecycle has no {trigger} from {before} to {after}")
    if said != dict.fromkeys(guards, True):
        raise Wrong(f"{at}: its lifecycle has other guards for {trigger} from {before}")


def check_signature(bundle: Any, trusted: Sequence[Key], _held: object) -> Verdict:
    return signed(bundle, bundle["case"][0]["event"]["log"], trusted)


def signed(document: Any, log: str, trusted: Sequence[Key]) -> Verdict:
    """The checkpoint is signed with the key that the file names; and that one, or one that led to it, is trusted."""
    key = parsed_key(document["key"])
    origin = checkpoint_of(document)[0]
    if origin != key.name or origin.partition("/")[0] != log:
        raise Wrong(f"checkpoint: is of {origin}, signed as {key.name}, and the events are of {log}")
    opened_note("checkpoint", document["checkpoint"], [key], alone=True)
    named = document["key"]
    for number, one in reversed([*enumerate(document["introductions"])]):
        text = opened_note(f"introductions[{number}]", one["statement"], [parsed_key(one["key"])], alone=True)
        if text != f"{origin}\nis signed from now on by {named}\n":
            raise Wrong(f"introductions[{number}]: does not introduce {named}")
        named = one["key"]
    if not trusted:
        return UNKNOWN, f"signer not authenticated: no --key to compare {document['key']} with"
    if key in trusted:
        return HOLDS, f"signed by {key.name}, whose key you trust"
    if any(one in trusted for one in introducers(document)):
        return HOLDS, f"signed by {key.name}, with a key to which one leads that you trust"
    if other := next((one.name for one in trusted if one.name.partition("/")[0] == log and one.name != origin), None):
        raise Wrong(
            f"key: you trust one of {other}, and the log goes on as {origin}: its desk gave up what it had signed"
        )
    raise Wrong(f"key: {document['key']} is none of those that you trust, and was introduced by none of them")


def check_consistency(bundle: Any, trusted: Sequence[Key], held: Sequence[Held]) -> Verdict:
    """The log goes on from every checkpoint that the auditor already holds (RFC 9162 §2.1.4)."""
    _, size, root = checkpoint_of(bundle)
    earlier = {0: EMPTY_ROOT, size: root}
    for one in bundle["consistency"]:
        first, first_root, proof = one["size"], from_base64(one["root"]), list(map(from_base64, one["proof"]))
        if not 0 < first < size or consistent_roots(first, size, first_root, proof) != (first_root, root):
            raise Wrong(f"consistency: the log does not go on from the {first} events that it names")
        earlier[first] = first_root
    return goes_on(bundle, earlier, trusted, held)


def goes_on(document: Any, earlier: dict[int, bytes], trusted: Sequence[Key], held: Sequence[Held]) -> Verdict:
    """Every checkpoint that is held is one of these roots."""
    origin, size, _ = checkpoint_of(document)
    keys = [*trusted, parsed_key(document["key"]), *introducers(document)]
    for file, note in held:
        held_origin, held_size, held_root = parsed_checkpoint(file, opened_note(file, note, keys))
        if held_origin != origin:
            raise Wrong(f"{file}: is of another log, {held_origin}")
        if held_size > size:
            raise Wrong(f"{file}: has {held_size} events, more than the {size} of this file: ask for a new one")
        if held_size not in earlier:
            raise Wrong(f"{file}: the file proves nothing about {held_size} events: ask for one since={held_size}")
        if earlier[held_size] != held_root:
            raise Wrong(f"{file}: the log does not go on from it: of its first {held_size} events some are others now")
    if not held:
        return SKIPPED, "no checkpoint was given to compare with (--checkpoint)"
    return HOLDS, f"the log goes on from the checkpoints that you hold: {len(held)}"


def check_openings(bundle: Any, _trusted: object, _held: object) -> Verdict:
    """Every personal field that is opened is the one that its event committed to."""
    committed = {
        (placed["event"]["seq"], field): digest
        for placed in bundle["case"]
        for field, digest in placed["event"]["personal"].items()
    }
    opened = set()
    for one in bundle["openings"]:
        name = one["seq"], one["field"]
        at = f"{bundle['case'][0]['event']['chain']} event {one['seq']}: the field {one['field']}"
        if name in opened:
            raise Wrong(f"{at} is opened twice")
        if name not in committed:
            raise Wrong(f"{at} is none that it speaks of")
        value = one["value"].encode() if "value" in one else from_base64(one["base64"])
        if hmac.digest(bytes.fromhex(one["salt"]), value, "sha256").hex() != committed[name]:
            raise Wrong(f"{at} is not what it was when the event was written")
        opened.add(name)
    rest = len(committed) - len(opened)
    return HOLDS, f"{len(opened)} personal fields are as they were; {rest} are erased or withheld"


def check_completeness(bundle: Any, _trusted: object, _held: object) -> Verdict:
    """The desk has signed which event was the last of the case, and the rest of this file: nothing was cut off."""
    opened_note("head", bundle["head"], [parsed_key(bundle["key"])], alone=True)
    origin, size, _ = checkpoint_of(bundle)
    last = bundle["case"][-1]["event"]
    rest = canonical({name: part for name, part in bundle.items() if name != "head"})
    found = [HEAD, origin, last["chain"], str(last["seq"]), hash_of(last), str(size), hashlib.sha256(rest).hexdigest()]
    for line, said, is_so in zip(HEAD_LINES, head_of(bundle), found, strict=True):
        if said != is_so:
            raise Wrong(f"{last['chain']} event {last['seq']}: the desk has signed the {line} {said}, not {is_so}")
    return HOLDS, f"the desk has signed that event {last['seq']} was the last one when the log had {size}"


Check = Callable[[Any, Sequence[Key], Sequence[Held]], Verdict]
LEVELS: dict[str, Check] = {
    "inclusion": check_inclusion,
    "chain": check_chain,
    "lifecycle": check_lifecycle,
    "signature": check_signature,
    "consistency": check_consistency,
    "openings": check_openings,
    "completeness": check_completeness,
}


# A whole log: its lines are read once, and only what later ones depend on is remembered of them.


class Block(NamedTuple):
    """Some lines, the first of which has this number, with their leaf hashes and what they say."""

    line: int
    bodies: list[bytes]
    hashes: list[str]
    rows: "Sequence[Row]"
    rules: Sequence[Any]


class Log(NamedTuple):
    """What has come of reading it. `said` tells how each level that looks at every line has fared."""

    header: Any
    name: str
    size: int
    roots: dict[int, bytes]
    said: "dict[str, str | Wrong]"


def verify_log(
    first_line: bytes, stream: BinaryIO, trusted: Sequence[Key] = (), held: Sequence[Held] = ()
) -> Iterator[Outcome]:
    """The outcome of every level."""
    try:
        log = follow(read_header(first_line), stream, held)
    except Wrong as wrong:
        yield Outcome("form", FAILS, str(wrong))
        yield from (Outcome(level, SKIPPED, "not checked: the file is no log") for level in LOG_LEVELS)
        return
    yield Outcome("form", HOLDS, f"{log.size} events of {log.name}, each a line of canonical bytes")
    yield from outcomes(LOG_LEVELS, log, trusted, held)


def follow(header: Any, stream: BinaryIO, held: Sequence[Held]) -> Log:
    tree = Tree({checkpoint_of(header)[1], *sizes_of(held)})
    name = ""
    said: dict[str, str | Wrong] = {}
    with closing(sqlite3.connect("")) as file:  # which has no name, and ends with this program
        levels: dict[str, Chains | Rules] = {"chain": Chains(file), "lifecycle": Rules()}
        for block in read_blocks(stream):
            name = name or block.rows[0][LOG_NAME]
            tree.extend(list(map(bytes.fromhex, block.hashes)))
            for level, one in levels.items():
                if level not in said:
                    try:
                        one.follow(block)
                    except Wrong as wrong:
                        said[level] = wrong
    if not name:
        raise Wrong("has no events")
    summaries: dict[str, str | Wrong] = {level: one.summary for level, one in levels.items()}
    return Log(header, name, tree.size, tree.roots, summaries | said)


def sizes_of(held: Sequence[Held]) -> Iterator[int]:
    for one in held:
        with suppress(Wrong):  # which is said where they are compared
            yield checkpoint_of({"checkpoint": one.note})[1]


def followed(level: str) -> "Check":
    def check(log: Log, _trusted: object, _held: object) -> Verdict:
        said = log.said[level]
        if isinstance(said, Wrong):
            raise said
        return HOLDS, said

    return check


class Chains:
    """Every event follows the one before it in its chain, as in a bundle.

    Where each chain has got to is remembered of the latest ones here, and of the others in a temporary file.
    """

    def __init__(self, file: sqlite3.Connection) -> None:
        self.log = ""
        self.count = 0
        self.latest: dict[str, tuple[int, str, str | None, str, str]] = {}  # as End says, and made faster
        self.others = file
        self.others.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA cache_size = -500")
        self.others.execute(f"CREATE TABLE ends (chain TEXT PRIMARY KEY, {', '.join(End._fields)}) WITHOUT ROWID")
        self.is_spilt = False

    @property
    def summary(self) -> str:
        return f"every event follows the one before it: {self.count} chains"

    def follow(self, block: Block) -> None:
        latest, line = self.latest, block.line
        self.log = self.log or block.rows[0][LOG_NAME]
        for digest, row in zip(block.hashes, block.rows, strict=True):
            at, chain, _, _, log, _, _, prev, request, seq, after, before, _, _ = row
            last = latest.pop(chain, None) or self.recall(chain)
            last_seq, last_hash, state, last_at, _ = last
            number = int(seq)
            if prev != last_hash or number != last_seq + 1 or before != state or at <= last_at:
                try:
                    check_next(End(*last), End(number, prev, before, at, request))
                except Wrong as wrong:
                    raise Wrong(f"line {line}: {chain} event {last_seq + 1}: {wrong}") from None
            if log != self.log:
                raise Wrong(f"line {line}: {chain} event {number}: is of another log")
            latest[chain] = number, digest, after, at, request
            line += 1
        if len(latest) > MAX_LATEST:
            self.spill()

    def recall(self, chain: str) -> tuple[int, str, str | None, str, str]:
        found = None
        if self.is_spilt:
            query = f"SELECT {', '.join(End._fields)} FROM ends WHERE chain = ?"  # noqa: S608 - names
            found = self.others.execute(query, (chain,)).fetchone()
        self.count += found is None
        return found or BEGINNING

    def spill(self) -> None:
        """Let those go that nothing has happened to for longest."""
        rows = [(chain, *self.latest.pop(chain)) for chain in [*islice(self.latest, len(self.latest) // 2)]]
        self.others.executemany("INSERT OR REPLACE INTO ends VALUES (?, ?, ?, ?, ?, ?)", rows)
        self.is_spilt = True


class Rules:
    """Every transition is a step of the lifecycle that its event names, and that was logged before it."""

    def __init__(self) -> None:
        self.lifecycles: dict[str, Steps] = {}
        self.policies: set[str] = set()
        self.transitions = 0

    @property
    def summary(self) -> str:
        return f"{self.transitions} transitions, each a step of the lifecycle that was logged before it"

    def follow(self, block: Block) -> None:
        for number, (row, rules) in enumerate(zip(block.rows, block.rules, strict=True)):
            _, chain, _, lifecycle, _, _, policy, _, _, seq, after, before, trigger, kind = row
            if chain.startswith("desk:"):
                try:
                    self.learn(chain, block.bodies[number])
                except Wrong as wrong:
                    raise Wrong(f"line {block.line + number}: {wrong}") from None
            elif lifecycle not in self.lifecycles or policy not in self.policies:
                at = f"line {block.line + number}: {chain} event {seq}"
                raise Wrong(f"{at}: the lifecycle or policy that it names had not been logged")
            if not chain.startswith("case:"):
                if (trigger, before, after) != (None, None, None):
                    raise Wrong(f"line {block.line + number}: {chain} event {seq}: only cases have states and triggers")
            elif trigger is not None or before != after or before is None or kind in TRIGGERS:
                at = f"line {block.line + number}: {chain} event {seq}"
                step, steps = (kind, trigger, before, after), self.lifecycles[lifecycle]
                check_step(at, step, rules.get("guards"), steps, is_first=seq == "1")
                self.transitions += trigger is not None

    def learn(self, chain: str, body: bytes) -> None:
        event = json.loads(body)
        if chain == CHAINS["settings"] and event["type"] == "lifecycle_adopted":
            name, steps = adopted_lifecycle(event)
            self.lifecycles.setdefault(name, steps)
        if chain == CHAINS["policy"]:
            self.policies.add(str(added_policy(event)))


def check_log_inclusion(log: Log, _trusted: object, _held: object) -> Verdict:
    """The lines are the leaves of the tree whose root was signed (RFC 9162 §2.1.1)."""
    _, size, root = checkpoint_of(log.header)
    if size not in log.roots:
        raise Wrong(f"the root over the checkpoint's {size} events does not follow from {log.size}")
    if log.roots[size] != root:
        raise Wrong(f"the first {size} events are not those whose root was signed")
    return HOLDS, f"the root that was signed is that of these {size} events"


def check_log_signature(log: Log, trusted: Sequence[Key], _held: object) -> Verdict:
    return signed(log.header, log.name, trusted)


def check_log_consistency(log: Log, trusted: Sequence[Key], held: Sequence[Held]) -> Verdict:
    """Its first events are those of every checkpoint that the auditor already holds."""
    return goes_on(log.header, log.roots, trusted, held)


def check_log_completeness(log: Log, _trusted: object, _held: object) -> Verdict:
    """Every event is there that the log had when the checkpoint was signed, and no other."""
    size = checkpoint_of(log.header)[1]
    if log.size != size:
        raise Wrong(f"line {min(log.size, size) + 2}: the checkpoint is of {size} events, and the file has {log.size}")
    return HOLDS, f"the log had {size} events when the checkpoint was signed"


LOG_LEVELS: dict[str, Check] = {
    "chain": followed("chain"),
    "lifecycle": followed("lifecycle"),
    "inclusion": check_log_inclusion,
    "signature": check_log_signature,
    "consistency": check_log_consistency,
    "completeness": check_log_completeness,
}


# The file: one canonical JSON text (RFC 8785 without floats), and nothing in it that is not named here.


HASH = re.compile("[0-9a-f]{64}")
NODE = re.compile("[A-Za-z0-9+/]{43}=")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
NAME = re.compile("[a-z0-9_]+")

EVENT: dict[Any, Any] = {
    "v": 1,
    "log": str,
    "chain": str,
    "seq": int,
    "prev": HASH,
    "type": str,
    "state_before": (str, None),
    "state_after": (str, None),
    "trigger?": str,
    "lifecycle": HASH,
    "policy": int,
    "guards?": {...: bool},
    "at": TIME,
    "actor": str,
    "via": str,
    "request": str,
    "data": dict,
    "personal": {...: HASH},
}
INTRODUCTION = {"key": str, "statement": str}
PLACED: dict[Any, Any] = {"event": EVENT, "index": int, "proof": [int]}
BUNDLE = {
    "casework_bundle": 1,
    "key": str,
    "introductions": [INTRODUCTION],
    "checkpoint": str,
    "head": str,
    "case": [PLACED],
    "settings": [PLACED],
    "policy": [PLACED],
    "nodes": [NODE],
    "consistency": [{"size": int, "root": NODE, "proof": [NODE]}],
    "openings": [{"seq": int, "field": str, "salt": HASH, "value?": str, "base64?": str}],
}

CHAINS = {"case": "case:.+", "settings": "desk:settings", "policy": "desk:policy"}

# What each transition's event comes of; no other event has a trigger.
TRIGGERS = {
    "investigation_started": "investigate",
    "adjustment_offered": "offer_adjustment",
    "consultation_scheduled": "schedule_consultation",
    "compensation_issued": "issue_compensation",
    "refunded": "refund",
    "resumed": "resume",
    "closed": "close",
    "reopened": "reopen",
}

HEAD = "casework head of a case"
HEAD_LINES = ("kind of statement", "log", "chain", "last event", "hash", "size of the log", "rest of the file")


def read_bundle(data: bytes) -> Any:
    if len(data) > MAX_BUNDLE_BYTES:
        raise Wrong(f"more than {MAX_BUNDLE_BYTES} bytes")
    bundle = read_canonical(data)
    fit(bundle, BUNDLE, "the bundle")
    for name in CHAINS:
        if not bundle[name]:
            raise Wrong(f"{name}: has no events")
        for placed in bundle[name]:
            if len(canonical(placed["event"])) > MAX_EVENT_BYTES:
                raise Wrong(f"{placed['event']['chain']} event {placed['event']['seq']}: is too large")
    for one in bundle["openings"]:
        if ("value" in one) == ("base64" in one):
            raise Wrong("openings: each has a value, as text or in base64")
    check_names(bundle)
    head_of(bundle)
    return bundle


def check_names(document: Any) -> None:
    """That the keys are keys, and the checkpoint is one."""
    parsed_key(document["key"])
    introducers(document)
    checkpoint_of(document)


def read_canonical(data: bytes) -> Any:
    try:
        value = json.loads(data.decode())
        check_profile(value, MAX_DEPTH)
        again = canonical(value)
    except (ValueError, RecursionError, MemoryError) as unfit:  # no JSON, no UTF-8, no end
        raise Wrong(f"no JSON as casework writes it: {type(unfit).__name__}: {unfit}") from None
    if again != data:
        at = next(
            (place for place, pair in enumerate(zip(again, data, strict=False)) if pair[0] != pair[1]), len(again)
        )
        raise Wrong(f"byte {at}: written in another way than the one canonical one")
    return value


def check_profile(value: Any, depth: int) -> None:
    """Raises Wrong for what RFC 8785 would allow, and an event may not hold."""
    match value:
        case dict() | list() if depth == 0:
            raise Wrong("lists in lists, or objects in objects, without end")
        case dict():
            for name, one in value.items():
                if not NAME.fullmatch(name):
                    raise Wrong(f"the name {name!r}")
                check_profile(one, depth - 1)
        case list():
            for one in value:
                check_profile(one, depth - 1)
        case float():
            raise Wrong("a number that is no integer")
        case int() if abs(value) > MAX_INTEGER:
            raise Wrong("an integer beyond 2^53-1")
        case str() if "\x00" in value:
            raise Wrong("a NUL character")


def canonical(value: Any) -> bytes:
    """What RFC 8785 says, for values that `check_profile` lets pass."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def fit(value: Any, shape: Any, at: str) -> None:
    """Raises Wrong unless the value is of this shape: `?` marks what may be missing, `...` stands for any name."""
    match shape:
        case dict():
            expect(type(value) is dict, at, "an object")
            if ... in shape:
                shape = dict.fromkeys(value, shape[...])
            known = {name.removesuffix("?"): part for name, part in shape.items()}
            for name in value:
                expect(name in known, at, f"without {name!r}")
            for name in shape:
                expect(name.endswith("?") or name in value, at, f"with {name!r}")
            for name, one in value.items():
                fit(one, known[name], f"{at}: {name}")
        case [part]:
            expect(type(value) is list, at, "a list")
            for number, one in enumerate(value):
                fit(one, part, f"{at}[{number}]")
        case re.Pattern():
            expect(type(value) is str and shape.fullmatch(value) is not None, at, f"written as {shape.pattern}")
        case (kind, None):
            expect(value is None or type(value) is kind, at, f"{kind.__name__} or null")
        case type() if shape is int:
            expect(type(value) is int and value >= 0, at, "a number, not negative")
        case type():
            expect(type(value) is shape, at, f"a {shape.__name__}")
        case _:
            expect(type(value) is type(shape) and value == shape, at, repr(shape))


def expect(is_so: bool, at: str, what: str) -> None:  # noqa: FBT001 - reads like assert
    if not is_so:
        raise Wrong(f"{at} should be {what}")


def hash_of(event: Any) -> str:
    """Its name: SHA-256 of 0x00 and its canonical bytes, which is also its leaf in the tree (RFC 6962)."""
    return hashlib.sha256(b"\x00" + canonical(event)).hexdigest()


def events_counted(bundle: Any) -> str:
    return ", ".join(f"{len(bundle[name])} events of {bundle[name][0]['event']['chain']}" for name in CHAINS)


# The rules, from the events that logged them.


Steps = dict[tuple[str, str, str], list[str]]
"""The guards of each step of a lifecycle, by trigger, source and target."""


def logged_lifecycles(bundle: Any) -> dict[str, tuple[int, Steps]]:
    """By the hash that events name: where it was logged first, and its steps."""
    found: dict[str, tuple[int, Steps]] = {}
    for placed in bundle["settings"]:
        if placed["event"]["type"] == "lifecycle_adopted":
            name, steps = adopted_lifecycle(placed["event"])
            found.setdefault(name, (placed["index"], steps))
    return found


def adopted_lifecycle(event: Any) -> tuple[str, Steps]:
    at = f"{event['chain']} event {event['seq']}"
    fit(event["data"], {"lifecycle": HASH, "table": [EDGE]}, at)
    name, table = event["data"]["lifecycle"], event["data"]["table"]
    if hashlib.sha256(canonical(table)).hexdigest() != name:
        raise Wrong(f"{at}: the lifecycle's name is not the hash of its table")
    return name, {(row["trigger"], row["source"], row["target"]): row["guards"] for row in table}


EDGE = {"trigger": str, "source": str, "target": str, "roles": [str], "guards": [str]}


def logged_policies(bundle: Any) -> dict[int, int]:
    """By the number that events name: where that version of the policy was logged."""
    return {added_policy(placed["event"]): placed["index"] for placed in bundle["policy"]}


def added_policy(event: Any) -> int:
    seq: int = event["seq"]
    version = event["data"].get("version")
    if event["type"] != "policy_added" or type(version) is not dict or version.get("version") != seq:
        raise Wrong(f"{event['chain']} event {seq}: is not version {seq} of the policy")
    return seq


# The lines of a log.


LOG_MARK = b'{"casework_log":'
HEADER: dict[Any, Any] = {"casework_log": 1, "key": str, "introductions": [INTRODUCTION], "checkpoint": str}
MAX_HEADER_BYTES = 1_000_000
BLOCK_BYTES = 1 << 15  # what is made of them stays in the processor's cache

TEXT = r'[^"\\\x00-\x1f]*'
NUMBER = "(?:0|[1-9][0-9]{0,14})"
ENTRY = f'"{NAME.pattern}":"{HASH.pattern}"'
PLAIN = re.compile(
    rf'\{{"actor":"{TEXT}","at":"({TIME.pattern})","chain":"({TEXT})",("data":\{{.*\}}),'
    rf'"lifecycle":"({HASH.pattern})","log":"({TEXT})",'
    rf'"personal":(\{{(?:{ENTRY}(?:,{ENTRY})*)?\}}),'
    rf'"policy":({NUMBER}),"prev":"({HASH.pattern})","request":"({TEXT})","seq":({NUMBER}),'
    rf'"state_after":(?:null|"({TEXT})"),"state_before":(?:null|"({TEXT})"),'
    rf'(?:"trigger":"({TEXT})",)?"type":"({TEXT})","v":1,"via":"{TEXT}"\}}'
)
"""How nearly all events are written, whatever stands between the braces of data and guards."""

Row = tuple[Any, ...]
"""What PLAIN finds, all of it text: at, chain, data and guards as they are written, lifecycle, log, personal as it is
written, policy, prev, request, seq, state_after, state_before, trigger, type."""
DATA, LOG_NAME, PERSONAL = 2, 4, 5


def read_header(line: bytes) -> Any:
    if not line.endswith(b"\n"):
        raise Wrong("line 1: does not end")
    try:
        header = read_canonical(line[:-1])
        fit(header, HEADER, "the first line")
        check_names(header)
    except Wrong as wrong:
        raise Wrong(f"line 1: {wrong}") from None
    return header


def read_blocks(stream: BinaryIO) -> Iterator[Block]:
    """All further lines. What they are hashed from is their bytes, without the line break."""
    line, rest = 2, b""
    while piece := stream.read(BLOCK_BYTES):
        whole, line_break, more = piece.rpartition(b"\n")
        if line_break:
            bodies = (rest + whole).split(b"\n")
            hashes = [hashlib.sha256(b"\x00" + body).hexdigest() for body in bodies]
            yield Block(line, bodies, hashes, *read_lines(line, bodies))
            line, rest = line + len(bodies), b""
        rest += more
        if len(rest) > MAX_EVENT_BYTES:
            raise Wrong(f"line {line}: is too large")
    if rest:
        raise Wrong(f"line {line}: does not end")


def read_lines(line: int, bodies: list[bytes]) -> tuple[Sequence[Row], Sequence[Any]]:
    """What they say, and of each the object of its data and guards.

    The quick way of reading lets nothing pass that `read_event` would not.
    """
    texts, rows, rules = zip(*map(read_quickly, bodies), strict=True)
    if all(texts) and is_canonical(texts, rules):
        return rows, rules
    read = []
    for number, (body, text, row, one) in enumerate(zip(bodies, texts, rows, rules, strict=True), line):
        try:
            read.append((row, one) if text and is_canonical([text], [one]) else read_event(body))
        except Wrong as wrong:
            raise Wrong(f"line {number}: {wrong}") from None
    return [row for row, _ in read], [one for _, one in read]


def is_canonical(texts: Sequence[str], values: Sequence[Any]) -> bool:
    """Each text is that of one object, so that they cannot make up for one another."""
    return ENCODER.encode(values) == f"[{','.join(texts)}]"


def read_quickly(body: bytes) -> tuple[str, Row, Any]:
    """UNREAD where that is not enough.

    Outside of data and guards the bytes are then canonical. They are everywhere if the text is what the object would be
    written as, which is left to do: of many it is quicker.
    """
    try:
        match = PLAIN.fullmatch(body.decode())
        if match is not None:
            row = match.groups()
            text, personal = f"{{{row[DATA]}}}", row[PERSONAL]
            rules, end = DECODER.raw_decode(text)
            if (
                end == len(text)
                and (len(rules) == 1 or are_guards(rules))
                and ("," not in personal or are_sorted(personal.split('"')[1::4]))
                and "\\u0000" not in text
                and text.count("{") + text.count("[") < MAX_DEPTH
                and len(body) <= MAX_EVENT_BYTES
            ):
                return text, row, rules
    except (ValueError, RecursionError):
        pass
    return UNREAD


UNREAD: tuple[str, Row, Any] = ("", (), None)


def are_guards(rules: Any) -> bool:
    guards = rules.get("guards")
    return len(rules) == 2 and type(guards) is dict and {*map(type, guards.values())} <= {bool}  # noqa: PLR2004 - data


def are_sorted(names: list[str]) -> bool:
    return names == sorted({*names})


def read_event(body: bytes) -> tuple[Row, Any]:
    if len(body) > MAX_EVENT_BYTES:
        raise Wrong("is too large")
    event = read_canonical(body)
    fit(event, EVENT, "the event")
    row = (
        *(event["at"], event["chain"], "", event["lifecycle"], event["log"], "", str(event["policy"]), event["prev"]),
        *(event["request"], str(event["seq"]), event["state_after"], event["state_before"]),
        *(event.get("trigger"), event["type"]),
    )
    return row, {name: event[name] for name in ("data", "guards") if name in event}


def with_known_names(found: dict[str, Any]) -> dict[str, Any]:
    if not found.keys() <= known_names:
        if not all(map(NAME.fullmatch, found)):
            raise ValueError
        if len(known_names) < MAX_KNOWN:
            known_names.update(found)
    return found


class Integers(dict[str, int]):
    """By how they are written, as far as they have been met."""

    def __missing__(self, text: str) -> int:
        number = int(text)
        if abs(number) > MAX_INTEGER:
            raise ValueError
        if len(self) < MAX_KNOWN:
            self[text] = number
        return number


def refused(text: str) -> NoReturn:
    raise ValueError(text)


MAX_KNOWN = 1000
known_names: set[str] = set()
DECODER = json.JSONDecoder(
    object_hook=with_known_names, parse_int=Integers().__getitem__, parse_float=refused, parse_constant=refused
)
ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


# The tree: RFC 6962, RFC 9162.


EMPTY_ROOT = hashlib.sha256().digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def included_root(index: int, size: int, leaf: bytes, proof: Iterable[bytes]) -> bytes | None:
    """The root that RFC 9162 §2.1.3.2 leads to; None if the proof is too short or too long for this place."""
    if index >= size:
        return None
    place, last, root = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return None
        if place & 1 or place == last:
            root = node_hash(sibling, root)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        place, last = place >> 1, last >> 1
    return root if last == 0 else None


class Tree:
    """A growing tree, of which only the nodes are kept that still wait for their sibling: one of a level.

    `roots` are those at the sizes that were asked for, as soon as it has grown so far.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        self.size = 0
        self.sizes = sorted({*sizes} - {0})
        self.roots = {0: EMPTY_ROOT}
        self.waiting: list[bytes | None] = []

    def extend(self, leaves: list[bytes]) -> None:
        while self.sizes and self.sizes[0] <= self.size + len(leaves):
            count = self.sizes[0] - self.size
            self.add(leaves[:count])
            self.roots[self.sizes.pop(0)] = self.root()
            leaves = leaves[count:]
        self.add(leaves)

    def add(self, nodes: list[bytes]) -> None:
        self.size += len(nodes)
        level = 0
        while nodes:
            if level == len(self.waiting):
                self.waiting.append(None)
            if (first := self.waiting[level]) is not None:
                nodes = [first, *nodes]
            self.waiting[level] = nodes[-1] if len(nodes) & 1 else None
            nodes = [node_hash(left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=False)]
            level += 1

    def root(self) -> bytes:
        top = None
        for node in self.waiting:
            if node is not None:
                top = node if top is None else node_hash(node, top)
        return EMPTY_ROOT if top is None else top


def consistent_roots(first: int, second: int, first_root: bytes, proof: list[bytes]) -> tuple[bytes, bytes] | None:
    """The roots of both sizes that RFC 9162 §2.1.4.2 leads to, for 0 < first < second; None as above."""
    path = [first_root, *proof] if first & (first - 1) == 0 else proof
    if not proof:
        return None
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if place & 1 or place == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    return (old, new) if last == 0 else None


# Signed notes, checkpoints and keys: C2SP signed-note and tlog-checkpoint.


SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
CHECKPOINT = re.compile(r"(\S+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n")


def opened_note(at: str, note: str, keys: Sequence[Key], *, alone: bool = False) -> str:
    """The note's text, if one of these keys has signed it: what others have signed besides is theirs to say."""
    text, blank, rest = note.rpartition("\n\n")
    lines = rest.split("\n")
    if not blank or not text or lines.pop() != "" or not lines or re.search("[\x00-\x09\x0b-\x1f]", note):
        raise Wrong(f"{at}: is no signed note")
    if len(lines) > (1 if alone else MAX_SIGNATURES):
        raise Wrong(f"{at}: has {len(lines)} signatures")
    text += "\n"
    signed = False
    for line in lines:
        match = SIGNATURE.fullmatch(line)
        if match is None:
            raise Wrong(f"{at}: a line of its signatures is none")
        name, octets = match[1], from_base64(match[2])
        key = next((one for one in keys if (one.name, one.id) == (name, octets[:4])), None)
        if key is not None and not ed25519_verified(key.public, text.encode(), octets[4:]):
            raise Wrong(f"{at}: the signature of {name} is not that of its text")
        signed = signed or key is not None
    if not signed:
        raise Wrong(f"{at}: is not signed by {' or '.join(one.name for one in keys)}")
    return text


def parsed_checkpoint(at: str, text: str) -> tuple[str, int, bytes]:
    """Origin, size and root."""
    match = CHECKPOINT.fullmatch(text)
    if match is None:
        raise Wrong(f"{at}: has other lines than origin, size and root")
    return match[1], int(match[2]), from_base64(match[3])


def checkpoint_of(bundle: Any) -> tuple[str, int, bytes]:
    return parsed_checkpoint("checkpoint", bundle["checkpoint"].rpartition("\n\n")[0] + "\n")


def head_of(bundle: Any) -> list[str]:
    """The lines of the statement that the desk has signed; HEAD_LINES names them."""
    lines: list[str] = bundle["head"].rpartition("\n\n")[0].split("\n")
    if len(lines) != len(HEAD_LINES):
        raise Wrong("head: is no statement about a case's last event")
    return lines


def introducers(document: Any) -> list[Key]:
    """The keys that signed before: each has introduced the next one."""
    return [parsed_key(one["key"]) for one in document["introductions"]]


def parsed_key(text: str) -> Key:
    """From `name+id+key`."""
    name, _, rest = text.partition("+")
    identity, _, encoded = rest.partition("+")
    octets = from_base64(encoded)
    key = Key(name, octets[1:])
    if not re.fullmatch(r"[^\s+]+", name) or len(octets) != 33 or octets[0] != 1 or key.id.hex() != identity:  # noqa: PLR2004
        raise Wrong("key: is no Ed25519 verifier key of a signed note")
    return key


def from_base64(text: str) -> bytes:
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if base64.b64encode(octets).decode() != text:
        raise Wrong(f"{text[:50]!r} is no standard base64")
    return octets


# Ed25519: RFC 8032 §5.1. Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.


P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQUARE_ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)
BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
BASE_Y = 46316835694926478169428394003475163141307993866256225615783033603165251855960
BASE: Point = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def ed25519_verified(public: bytes, message: bytes, signature: bytes) -> bool:
    """Strictly, after §5.1.7: one encoding of every value, no key of small order, the equation without the cofactor."""
    if len(signature) != 64 or len(public) != 32:  # noqa: PLR2004 - as RFC 8032 says
        return False
    key, commitment = decoded_point(public), decoded_point(signature[:32])
    response = int.from_bytes(signature[32:], "little")
    if key is None or commitment is None or response >= ORDER or same(times(8, key), NEUTRAL):
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    return same(times(response, BASE), plus(commitment, times(challenge, key)))


def decoded_point(octets: bytes) -> Point | None:
    """§5.1.3; None if the octets encode no point, or not in the one way."""
    number = int.from_bytes(octets, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQUARE_ROOT_OF_MINUS_1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def plus(one: Point, other: Point) -> Point:
    """§5.1.4."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(factor: int, point: Point) -> Point:
    result = NEUTRAL
    while factor:
        if factor & 1:
            result = plus(result, point)
        point = plus(point, point)
        factor >>= 1
    return result


def same(one: Point, other: Point) -> bool:
    return (one[0] * other[2] - other[0] * one[2]) % P == 0 == (one[1] * other[2] - other[1] * one[2]) % P


# The command.


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="casework-verify", description="Verify what Casework hands out, offline.")
    parser.add_argument("file", metavar="FILE", help="a bundle, or a whole log, as `casework` or the API gave it")
    parser.add_argument("--key", metavar="FILE", help="the verifier keys that you trust, one a line")
    parser.add_argument(
        "--checkpoint", metavar="FILE", nargs="+", action="extend", default=[], help="checkpoints that you hold"
    )
    chosen = parser.parse_args()
    try:
        trusted = trusted_in(chosen.key) if chosen.key else []
        held = [one for file in chosen.checkpoint for one in held_in(file)]
        with Path(chosen.file).open("rb") as stream:
            gc.disable()  # nothing here refers to itself, and looking for it takes a tenth of the time
            found = list(verify_file(stream, trusted, held))
    except OSError as failure:
        parser.error(shown(f"{failure.filename or chosen.file}: {failure.strerror}"))
    except sqlite3.Error as failure:
        parser.error(f"the temporary file: {failure}")
    except MemoryError:
        parser.error(shown(f"{chosen.file}: there is not enough memory for it"))
    except Wrong as failure:
        parser.error(shown(str(failure)))
    try:
        code = report(found)
        if sys.stdout is not None:  # as where it was closed
            sys.stdout.flush()
    except OSError as failure:  # whoever reads our output wants no more of it; Python would try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(failure, BrokenPipeError):
            parser.error(f"the output: {failure.strerror}")
        code = 1
    sys.exit(code)


def trusted_in(file: str) -> list[Key]:
    try:
        keys = [parsed_key(one) for one in text_in(file).split()]
    except Wrong as wrong:
        raise Wrong(f"{file}: {wrong}") from None
    if not keys:
        raise Wrong(f"{file}: holds no key")
    return keys


def held_in(file: str) -> list[Held]:
    """One, or several with a blank line between them, as `casework checkpoint publish --to` adds them to a file."""
    try:
        found = re.split("(?<=\n)\n(?=[^\n—])", text_in(file))
    except Wrong as wrong:
        raise Wrong(f"{file}: {wrong}") from None
    return [Held(file if len(found) == 1 else f"{file}, number {at}", one) for at, one in enumerate(found, 1)]


def text_in(file: str) -> str:
    try:
        return read(file).decode()
    except UnicodeDecodeError as unfit:
        raise Wrong(f"no UTF-8: {unfit}") from None


def verify_file(stream: BinaryIO, trusted: Sequence[Key] = (), held: Sequence[Held] = ()) -> Iterator[Outcome]:
    """Of a log or a bundle, whichever it is."""
    line = stream.readline(MAX_HEADER_BYTES)
    if line.startswith(LOG_MARK):
        return verify_log(line, stream, trusted, held)
    return verify(line + stream.read(MAX_BUNDLE_BYTES), trusted, held)


def read(file: str) -> bytes:
    with Path(file).open("rb") as stream:
        return stream.read(MAX_BUNDLE_BYTES + 1)


def report(outcomes: Sequence[Outcome]) -> int:
    """Print every level and the first fault; the exit code."""
    for level, verdict, text in outcomes:
        say(f"{level:14}{verdict:9}{text}")
    first = next((one for one in outcomes if one.verdict == FAILS), None)
    if first is not None:
        say(f"WRONG: {first.text}")
        return 1
    unknown = any(one.verdict == UNKNOWN for one in outcomes)
    say("everything that could be checked holds; signer not authenticated" if unknown else "everything holds")
    return 0


def say(line: str) -> None:
    print(shown(line[:MAX_LINE]))  # noqa: T201 - its output


def shown(line: str) -> str:
    """What a file says, or is named, must not steer a terminal, nor stop where it cannot be shown."""
    return "".join(one if " " <= one <= "~" else ascii(one)[1:-1] for one in line)


if __name__ == "__main__":
    main()
