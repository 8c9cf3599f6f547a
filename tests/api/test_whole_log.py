"""The whole log as a file: the verifier takes it only as a desk has written it, and names the line that is wrong."""

import io
import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import casework_verify as verifier
from api.casework_verify import (
    FAILS,
    HOLDS,
    SKIPPED,
    UNKNOWN,
    Held,
    Wrong,
    parsed_key,
    read_event,
    read_lines,
    read_quickly,
    verify_file,
)
from storage.keys import adopt, announcements, ensure_key, rotate
from storage.notes import Signer
from tests.api.driving import Clock, Service, refused
from tests.api.routes import a_furnished_case
from tests.databases import copy_sqlite, sqlite_url
from tests.processes import casework
from tests.storage.full_desk import fill
from tests.storage.proofs import Log, Proofs, log_file, proofs_of
from workflow.canonical import ZEROS, canonical, leaf_hash

LEVELS = ["form", *verifier.LOG_LEVELS]
MUTATIONS = int(os.environ.get("TEST_MUTATIONS", "4000"))

Change = Callable[[Any], object]


@pytest.fixture(scope="module")
def proofs(sqlite_template: str, tmp_path_factory: pytest.TempPathFactory) -> Proofs:
    """A desk on which a bit of everything has happened."""
    return proofs_of(fill(copy_sqlite(sqlite_template, tmp_path_factory.mktemp("full") / "casework.db")))


@pytest.fixture(scope="module")
def whole(proofs: Proofs) -> bytes:
    return log_file(proofs.bodies, proofs.log)


def outcomes(file: bytes, keys: Sequence[str], *checkpoints: str) -> dict[str, tuple[str, str]]:
    held = [Held(f"checkpoint {number}", note) for number, note in enumerate(checkpoints, 1)]
    found = verify_file(io.BytesIO(file), [*map(parsed_key, keys)], held)
    return {one.level: (one.verdict, one.text) for one in found}


def faults(file: bytes, key: str | None, *checkpoints: str) -> dict[str, str]:
    found = outcomes(file, [key] if key else [], *checkpoints)
    return {level: text for level, (verdict, text) in found.items() if verdict == FAILS}


def is_found(file: bytes, key: str | None = None) -> bool:
    return any(one.verdict == FAILS for one in verify_file(io.BytesIO(file), [parsed_key(key)] if key else []))


# What holds.


def test_each_level_of_a_good_log_holds_by_itself(proofs: Proofs, whole: bytes) -> None:
    found = outcomes(whole, [proofs.key], str(proofs.log.checkpoint(8)))

    assert {level: verdict for level, (verdict, _) in found.items()} == dict.fromkeys(LEVELS, HOLDS)
    chains = {json.loads(body)["chain"] for body in proofs.bodies}
    assert found["chain"][1].endswith(f": {len(chains)} chains")


def test_without_a_trusted_key_everything_but_the_signer_is_checked(whole: bytes) -> None:
    found = outcomes(whole, [])

    assert found["signature"][1].startswith("signer not authenticated")
    expected = dict.fromkeys(LEVELS, HOLDS) | {"signature": UNKNOWN, "consistency": SKIPPED}
    assert {level: verdict for level, (verdict, _) in found.items()} == expected


def test_every_checkpoint_that_was_ever_signed_can_be_compared_with_the_log(proofs: Proofs, whole: bytes) -> None:
    every = [str(proofs.log.checkpoint(size)) for size in range(proofs.log.size + 1)]

    assert outcomes(whole, [proofs.key], *every)["consistency"][0] == HOLDS


@pytest.mark.parametrize("size", [1, 7, 700, 1 << 16])
def test_it_does_not_matter_how_many_bytes_are_read_at_once(
    whole: bytes, proofs: Proofs, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "BLOCK_BYTES", size)

    assert faults(whole, proofs.key) == {}
    assert [*faults(whole[:-1], proofs.key)] == ["form"]
    number = len(proofs.bodies) // 2
    assert f"line {number + 2}: " in faults(without(proofs, number, whole), proofs.key)["chain"]


def without(proofs: Proofs, number: int, whole: bytes) -> bytes:
    return whole.replace(proofs.bodies[number] + b"\n", b"")


# Changes by whoever has the file.


def test_no_byte_of_a_log_can_change_unseen(proofs: Proofs, whole: bytes) -> None:
    chance = random.Random(os.environ.get("TEST_SEED", "log"))
    for number in range(MUTATIONS // 2):
        assert is_found(mutated(whole, chance), proofs.key if number % 2 else None), f"mutation {number}"


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Another file, near this one."""
    changed = bytearray(data)
    at = chance.randrange(data.index(b"\n") if chance.random() < 0.1 else len(data))  # the first line as well
    match chance.randrange(8):
        case 0 | 1:
            changed[at] ^= 1 << chance.randrange(8)
        case 2 | 3:
            changed[at] = chance.choice(b'0123456789abcdefABCDEF"\\{}[],:+/= \n\r')
        case 4:
            del changed[at : at + chance.choice((1, 1, 2, 44, 1000))]
        case 5:
            changed[at:at] = chance.choice((b" ", b"0", b"\\n", b"\\u0041", b"a", b'"', b"\n", changed[at : at + 20]))
        case 6:
            other = chance.randrange(len(data))
            changed[at], changed[other] = changed[other], changed[at]
        case _:
            changed = changed[:at] if chance.random() < 0.3 else changed + chance.choice((b"\n", b" ", b"\x00", b"{}"))
    return bytes(changed) if changed != data else mutated(data, chance)


def test_no_line_of_a_log_can_change_or_move_unseen(proofs: Proofs, whole: bytes) -> None:
    chance = random.Random(os.environ.get("TEST_SEED", "lines"))
    for number in range(MUTATIONS // 2):
        lines = whole.splitlines(keepends=True)
        rearrange(lines, chance)
        assert is_found(b"".join(lines), proofs.key if number % 2 else None), f"mutation {number}"


def rearrange(lines: list[bytes], chance: random.Random) -> None:
    """Other lines, and never the same ones."""
    before = [*lines]
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    match chance.randrange(8):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[other])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines.insert(at, lines.pop(other))
        case 4:
            del lines[at:]
        case 5:
            lines[at] = another_value(lines[at], chance)
        case 6:
            lines[at] = rewritten(lines[at], chance)
        case _:
            relink(lines, at, chance)
    if lines == before:
        rearrange(lines, chance)


def another_value(line: bytes, chance: random.Random) -> bytes:
    """Of one field, as canonically written as before."""
    value = json.loads(line)
    name = chance.choice([*value])
    match value[name]:
        case str() as text:
            value[name] = text[:-1] + chance.choice("0123456789abcdefZ")
        case int():
            value[name] += 1
        case None:
            value[name] = "opened"
        case _:
            del value[name]
    return canonical(value) + b"\n"


def rewritten(line: bytes, chance: random.Random) -> bytes:
    """The same value in other bytes."""
    value = json.loads(line)
    match chance.randrange(5):
        case 0:
            return json.dumps(value, sort_keys=True).encode() + b"\n"
        case 1:
            return canonical(dict(sorted(value.items(), reverse=True))).replace(b":", b": ", 1) + b"\n"
        case 2:
            return line[:-1] + b"\r\n"
        case 3:
            name = chance.choice([*value])
            said = canonical({name: value[name]})[1:-1]
            return line.replace(said, said + b"," + said, 1)
        case _:
            return line.replace(b"s", b"\\u0073", 1)


def relink(lines: list[bytes], at: int, chance: random.Random) -> None:
    """An event is another one, and all that come after it in its chain name its new hash."""
    if at:
        lines[at] = canonical(json.loads(lines[at]) | {"actor": f"person:{chance.randrange(10)}"}) + b"\n"
        link(lines, at)


def link(lines: list[bytes], start: int) -> None:
    chain, prev = json.loads(lines[start])["chain"], leaf_hash(lines[start].rstrip(b"\n"))
    for number in range(start + 1, len(lines)):
        event = json.loads(lines[number])
        if event["chain"] == chain:
            lines[number] = canonical(event | {"prev": prev}) + b"\n"
            prev = leaf_hash(lines[number].rstrip(b"\n"))


def test_an_event_that_is_left_out_is_named(proofs: Proofs, whole: bytes) -> None:
    last = {json.loads(body)["chain"]: number for number, body in enumerate(proofs.bodies)}
    for number, body in enumerate(proofs.bodies):
        event = json.loads(body)
        found = faults(without(proofs, number, whole), proofs.key)
        assert found.keys() >= {"inclusion", "completeness"}
        if last[event["chain"]] != number:
            assert f"{event['chain']} event {event['seq']}: is missing" in found["chain"]


def test_a_log_that_is_cut_off_or_goes_on_is_not_complete(proofs: Proofs, whole: bytes) -> None:
    size = proofs.log.size
    short, long = without(proofs, size - 1, whole), whole + proofs.bodies[-1] + b"\n"

    assert faults(short, proofs.key) == {
        "inclusion": f"the root over the checkpoint's {size} events does not follow from {size - 1}",
        "completeness": f"line {size + 1}: the checkpoint is of {size} events, and the file has {size - 1}",
    }
    assert faults(long, proofs.key)["completeness"].startswith(f"line {size + 2}: ")
    assert "inclusion" not in faults(long, proofs.key)


# Changes by whoever has the desk's key as well.


def forged(proofs: Proofs, change: Change, number: int, *, linked: bool = True) -> bytes:
    """The log with another event, signed by its desk as if it were so."""
    lines = [body + b"\n" for body in proofs.bodies]
    event = json.loads(lines[number])
    change(event)
    lines[number] = canonical(event) + b"\n"
    if linked:
        link(lines, number)
    return log_file([line[:-1] for line in lines], proofs.log)


def at_type(proofs: Proofs, kind: str) -> int:
    return next(number for number, body in enumerate(proofs.bodies) if json.loads(body)["type"] == kind)


def test_an_event_whose_successors_name_another_hash_is_found_though_it_was_signed(proofs: Proofs) -> None:
    number = at_type(proofs, "investigation_started")
    event = json.loads(proofs.bodies[number])

    found = faults(forged(proofs, lambda one: one.update(actor="person:bo"), number, linked=False), proofs.key)

    assert set(found) == {"chain"}
    assert f"{event['chain']} event {event['seq'] + 1}: does not follow the event before it" in found["chain"]


def test_a_log_that_was_rewritten_as_a_whole_contradicts_the_checkpoints_that_others_hold(proofs: Proofs) -> None:
    number = at_type(proofs, "investigation_started")
    file = forged(proofs, lambda one: one.update(actor="person:bo"), number)

    assert faults(file, proofs.key) == {}
    assert faults(file, proofs.key, str(proofs.log.checkpoint(number))) == {}
    found = faults(file, proofs.key, str(proofs.log.checkpoint(number + 1)))
    assert set(found) == {"consistency"}
    assert f"of its first {number + 1} events some are others now" in found["consistency"]


def test_another_signer_than_the_trusted_one_is_found(proofs: Proofs) -> None:
    mallory = Log([], Signer(proofs.log.signer.verifier.name, bytes(32)))

    assert set(faults(log_file(proofs.bodies, mallory), proofs.key)) == {"signature"}


def test_a_log_is_signed_under_the_name_that_its_events_have(proofs: Proofs) -> None:
    for origin, fails in ((f"{proofs.log.signer.verifier.name}/1", set()), ("another", {"signature"})):
        log = Log([], Signer(origin, bytes(32)))
        assert set(faults(log_file(proofs.bodies, log), log.key)) == fails


AGAINST_THE_RULES: dict[str, tuple[str, str, Change]] = {
    "is not what the trigger None leads to": ("lifecycle", "closed", lambda one: one.pop("trigger")),
    "has other guards for": ("lifecycle", "closed", lambda one: one.update(guards={})),
    "other guards for": ("lifecycle", "closed", lambda one: one.pop("guards")),
    "its lifecycle has no close from": ("lifecycle", "closed", lambda one: one.update(state_after="opened")),
    "without a trigger nothing leads from None": ("lifecycle", "opened", lambda one: one.update(state_after=None)),
    "without a trigger nothing leads": ("lifecycle", "message_received", lambda one: one.update(state_after="closed")),
    "only cases have states and triggers": ("lifecycle", "person_added", lambda one: one.update(trigger="close")),
    "only cases have states": ("lifecycle", "person_added", lambda one: one.update(state_after="opened")),
    "that it names had not been logged": ("lifecycle", "message_received", lambda one: one.update(policy=9)),
    "it names had not been logged": ("lifecycle", "refused", lambda one: one.update(lifecycle=ZEROS)),
    "the lifecycle's name is not": ("lifecycle", "lifecycle_adopted", lambda one: one["data"].update(lifecycle=ZEROS)),
    "is not version 1 of the policy": ("lifecycle", "policy_added", lambda one: one.update(type="desk_created")),
    "is missing; event 9 stands there": ("chain", "closed", lambda one: one.update(seq=9)),
    "is not later than": ("chain", "closed", lambda one: one.update(at="2020-01-01T00:00:00.000000Z")),
    "does not start from the state": ("chain", "closed", lambda one: one.update(state_before="closed")),
    "does not start from": ("chain", "person_added", lambda one: one.update(state_before="opened")),
    "is of another log": ("chain", "closed", lambda one: one.update(log="another")),
}


@pytest.mark.parametrize("what", AGAINST_THE_RULES)
def test_what_the_rules_do_not_allow_is_named_though_it_was_signed(proofs: Proofs, what: str) -> None:
    level, kind, change = AGAINST_THE_RULES[what]
    number = at_type(proofs, kind)
    event = json.loads(proofs.bodies[number])

    found = faults(forged(proofs, change, number), proofs.key)[level]

    assert what in found
    assert found.startswith(f"line {number + 2}: {event['chain']} event {event['seq']}: ")


MISWRITTEN: dict[str, tuple[bytes, bytes]] = {
    "a fraction": (b'"data":{', b'"data":{"a":1.5,'),
    "not a number": (b'"data":{', b'"data":{"a":NaN,'),
    "an exponent": (b'"data":{', b'"data":{"a":1e5,'),
    "less than nothing": (b'"data":{', b'"data":{"a":-0,'),
    "too large an integer": (b'"data":{', b'"data":{"a":9007199254740992,'),
    "a NUL": (b'"data":{', b'"data":{"a":"\\u0000",'),
    "half a letter": (b'"data":{', b'"data":{"a":"\\ud800",'),
    "an escaped letter": (b'"data":{', b'"data":{"a":"\\u0041",'),
    "a capital name": (b'"data":{', b'"data":{"A":1,'),
    "a blank": (b'"data":{', b'"data": {'),
    "a name twice": (b'"data":{', b'"data":{"a":1,"a":1,'),
    "names out of order": (b'"data":{', b'"data":{"b":1,"a":1,'),
    "too deep": (b'"data":{', b'"data":{"a":' + b"[" * 49 + b"]" * 49 + b","),
    "too long": (b'"data":{', b'"data":{"a":"' + b"x" * 65_000 + b'",'),
    "a field more": (b'"lifecycle":', b'"guilds":{},"lifecycle":'),
    "guards that are none": (b'"lifecycle":', b'"guards":{"a":1},"lifecycle":'),
    "guards that are no object": (b'"lifecycle":', b'"guards":[{}],"lifecycle":'),
    "a field less": (b'"via":', b'"vii":'),
    "another version": (b'"v":1', b'"v":2'),
    "true for 1": (b'"v":1', b'"v":true'),
    "a number for a text": (b'"actor":"', b'"actor":1,"":"'),
    "a time of another form": (b'Z","chain"', b'+00:00","chain"'),
    "a leading zero": (b'"seq":', b'"seq":0'),
    "less than one": (b'"seq":', b'"seq":-'),
    "a commitment that is none": (b'"personal":{', b'"personal":{"a":"00",'),
    "no commitment": (b'"personal":{', b'"personal":{"a":null,'),
    "commitments out of order": (b'"personal":{', b'"personal":{"zz":"%b",' % (b"0" * 64)),
    "a commitment twice": (b'"personal":{', b'"personal":{"text":"%b",' % (b"0" * 64)),
}


@pytest.mark.parametrize("what", MISWRITTEN)
def test_what_no_event_looks_like_is_named_though_it_was_signed(proofs: Proofs, what: str) -> None:
    before, after = MISWRITTEN[what]
    number = next(
        at for at, body in enumerate(proofs.bodies) if b'"update_due"' in body and b'"personal":{"text"' in body
    )
    bodies = [*proofs.bodies]
    bodies[number] = bodies[number].replace(before, after)
    assert bodies != proofs.bodies

    found = faults(log_file(bodies, proofs.log), proofs.key)

    assert set(found) == {"form"}
    assert found["form"].startswith(f"line {number + 2}: ")


FIRST_LINES: dict[str, Change] = {
    "should be without 'comment'": lambda one: one.update(comment="nothing to see"),
    "should be with 'introductions'": lambda one: one.pop("introductions"),
    "casework_log should be 1": lambda one: one.update(casework_log=2),
    "is no Ed25519 verifier key": lambda one: one.update(key=one["key"][:-4] + "AAA="),
    "has other lines than origin": lambda one: one.update(checkpoint="nothing\n\n"),
}


@pytest.mark.parametrize("what", FIRST_LINES)
def test_a_first_line_of_another_form_is_named(whole: bytes, what: str) -> None:
    first, _, rest = whole.partition(b"\n")
    header = json.loads(first)
    FIRST_LINES[what](header)

    found = faults(canonical(header) + b"\n" + rest, None)

    assert set(found) == {"form"}
    assert found["form"].startswith("line 1: ")
    assert what in found["form"]


@pytest.mark.parametrize("rest", [b"", b"\n", b"{}\n", b"null\n", b"\xff\n", b"[" * 60_000 + b"\n", b"x" * 200_000])
def test_what_is_made_to_break_the_reader_gets_an_answer(whole: bytes, rest: bytes) -> None:
    first, *_ = whole.splitlines(keepends=True)

    assert set(faults(first + rest, None)) == {"form"}
    assert set(faults(first[:-1], None)) == {"form"}


# Two ways of reading a line.


def test_the_quick_way_of_reading_lets_nothing_pass_that_the_thorough_one_would_not(proofs: Proofs) -> None:
    chance = random.Random(os.environ.get("TEST_SEED", "quick"))
    taken = 0
    for _ in range(MUTATIONS):
        line = mutated(chance.choice(proofs.bodies) + b"\n", chance).rstrip(b"\n")
        taken += agrees(line)
    assert taken > 0
    assert all(map(agrees, proofs.bodies))


def agrees(line: bytes) -> bool:
    """Whether it is taken at all; both ways say the same of it."""
    try:
        (row, said) = read_event(line)
    except Wrong:
        with pytest.raises(Wrong):
            read_lines(2, [line])
        return False
    ((quick_row,), (quick_said,)) = read_lines(2, [line])
    assert [one for at, one in enumerate(quick_row) if at not in (verifier.DATA, verifier.PERSONAL)] == [
        one for at, one in enumerate(row) if at not in (verifier.DATA, verifier.PERSONAL)
    ]
    assert quick_said == said
    return True


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z0-9_]+", fullmatch=True), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.from_regex("[a-z0-9_]+", fullmatch=True), VALUES, max_size=3), TEXTS)
def test_whatever_an_event_may_hold_is_taken(proofs: Proofs, data: Any, text: str) -> None:
    event = json.loads(proofs.bodies[-1]) | {"data": data, "actor": text, "chain": text, "request": text}

    assert agrees(canonical(event))


def test_all_that_a_desk_commonly_writes_is_read_quickly(proofs: Proofs) -> None:
    slowly = {json.loads(body)["type"] for body in proofs.bodies if not read_quickly(body)[0]}

    assert slowly <= {"lifecycle_adopted", "policy_added"}


def test_one_line_is_not_taken_for_two(proofs: Proofs) -> None:
    """Of several lines only what they amount to, put together, is compared."""
    one, two, three, *_ = proofs.bodies
    cut = three.index(b",")
    for lines in ([one + b"," + two, three[:cut], three[cut + 1 :]], [one, two + b"," + three], [b""], [one, b"", two]):
        with pytest.raises(Wrong):
            read_lines(2, lines)


# What is remembered.


def test_chains_that_had_to_be_put_aside_are_followed_all_the_same(
    proofs: Proofs, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "BLOCK_BYTES", 700)
    expected = [faults(without(proofs, number, whole), proofs.key) for number in range(len(proofs.bodies))]
    twice = whole + b"".join(body + b"\n" for body in proofs.bodies)

    monkeypatch.setattr(verifier, "MAX_LATEST", 1)

    assert faults(whole, proofs.key) == {}
    assert expected == [faults(without(proofs, number, whole), proofs.key) for number in range(len(proofs.bodies))]
    assert f"line {len(proofs.bodies) + 2}: " in faults(twice, proofs.key)["chain"]


def single_events(proofs: Proofs, count: int) -> bytes:
    """Of a desk at which much was refused, each time in a chain of its own."""
    attempt = json.loads(proofs.bodies[at_type(proofs, "refused")])
    rules = [body for body in proofs.bodies if json.loads(body)["chain"] in {"desk:settings", "desk:policy"}]
    more = [canonical(attempt | {"chain": f"refusal:{number}"}) for number in range(count)]
    return log_file([*rules, *more], proofs.log)


def test_verifying_takes_no_more_memory_for_a_longer_log(proofs: Proofs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "MAX_LATEST", 100)
    monkeypatch.setattr(verifier, "BLOCK_BYTES", 1 << 14)
    short, long = [io.BytesIO(single_events(proofs, count)) for count in (500, 5000)]

    assert peak(long) < 1.2 * peak(short)


def peak(file: io.BytesIO) -> int:
    tracemalloc.start()
    try:
        assert [one.text for one in verify_file(file) if one.verdict == FAILS] == []
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Other keys.


def signatures(log: Log, proofs: Proofs, *keys: str) -> Iterator[tuple[str, str]]:
    """What is said of the signature, in a log and in a bundle."""
    for file in (log_file(proofs.bodies, log), log.bundle(proofs.evidence)):
        yield outcomes(file, keys)["signature"]


def test_whoever_trusts_an_earlier_key_follows_it_to_the_one_in_use(proofs: Proofs) -> None:
    first = proofs.log
    second = first.rotated(1)
    third = second.rotated(2)

    for key in (first.key, second.key):
        for found in signatures(third, proofs, key):
            assert found == (
                HOLDS,
                f"signed by {third.signer.verifier.name}, with a key to which one leads that you trust",
            )
    for found in signatures(third, proofs, third.key):
        assert found[1].endswith("whose key you trust")
    for found in signatures(third, proofs):
        assert found[0] == UNKNOWN


def test_checkpoints_that_were_signed_with_an_earlier_key_are_still_good(proofs: Proofs) -> None:
    log = proofs.log.rotated(1)
    held = str(proofs.log.checkpoint(8))

    assert faults(log_file(proofs.bodies, log), log.key, held) == {}
    assert faults(log.bundle(proofs.evidence, since=(8,)), log.key, held) == {}


def test_a_key_that_no_trusted_one_has_introduced_is_not_trusted(proofs: Proofs) -> None:
    log = Log(proofs.log.leaves, Signer(proofs.log.signer.verifier.name, bytes([1] * 32)))

    for verdict, text in signatures(log, proofs, proofs.key):
        assert verdict == FAILS
        assert text == f"key: {log.key} is none of those that you trust, and was introduced by none of them"


def test_after_a_checkpoint_was_given_up_it_is_said_why_the_old_key_does_not_do(proofs: Proofs) -> None:
    name = f"{proofs.log.signer.verifier.name}/2026-03-05T12:00:00.000000Z"
    log = Log(proofs.log.leaves, Signer(name, bytes([1] * 32)))

    for verdict, text in signatures(log, proofs, proofs.key):
        assert verdict == FAILS
        assert text.startswith(
            f"key: you trust one of {proofs.log.signer.verifier.name}, and the log goes on as {name}"
        )


BAD_INTRODUCTIONS: dict[str, Callable[[list[Any]], object]] = {
    "introductions[0]: does not introduce": lambda all_of_them: all_of_them.pop(),
    "introductions[1]: does not introduce": lambda all_of_them: all_of_them.reverse(),
    "introductions[2]: does not introduce": lambda all_of_them: all_of_them.append(all_of_them[0]),
    "introductions[0]: is not signed by": lambda all_of_them: all_of_them[0].update(key=all_of_them[1]["key"]),
    "introductions[0]: the signature of": lambda all_of_them: all_of_them[0].update(
        statement=all_of_them[0]["statement"].replace("from", "From")
    ),
}


@pytest.mark.parametrize("what", BAD_INTRODUCTIONS)
def test_introductions_that_do_not_lead_to_the_key_are_found(proofs: Proofs, what: str) -> None:
    log = proofs.log.rotated(1).rotated(2)
    whole, bundle = log_file(proofs.bodies, log), json.loads(log.bundle(proofs.evidence))
    first, _, rest = whole.partition(b"\n")
    header = json.loads(first)
    for document in (header, bundle):
        BAD_INTRODUCTIONS[what](document["introductions"])

    for file in (canonical(header) + b"\n" + rest, log.resigned(bundle)):
        for key in (proofs.key, log.key):
            assert what in faults(file, key)["signature"]


# How it is had.


async def test_auditors_take_the_whole_log_away_and_are_recorded_in_it(service: Service) -> None:
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    await a_furnished_case(service)

    response = await service.audrey.get("/v1/exports/log")

    assert response.headers["content-type"] == "application/jsonl"
    assert response.headers["content-disposition"] == 'attachment; filename="casework-log.jsonl"'
    assert "una@example.com" not in response.text
    (key,) = [one.vkey for one in await service.desk.database.run(announcements)]
    assert faults(response.content, key) == {}
    taken = json.loads(response.content.splitlines()[-1])
    assert (taken["actor"], taken["data"]) == ("person:audrey", {"format": "jsonl", "what": "log"})
    refused(await service.ana.get("/v1/exports/log"), 403, "forbidden")


async def test_a_log_is_followed_through_a_change_of_its_key(service: Service, clock: Clock) -> None:
    folder = service.desk.settings.keys_in
    await ensure_key(service.desk.database, folder, service.clock())
    for _ in range(2):
        clock.advance(minutes=1)
        await rotate(service.desk.database, folder, clock())
    case_id = (await service.ana.open())["id"]
    files = [(await service.lou.get(path)).content for path in ("/v1/exports/log", f"/v1/cases/{case_id}/bundle")]

    for one in await service.desk.database.run(announcements):
        assert [faults(file, one.vkey) for file in files] == [{}, {}]


async def test_after_an_older_state_was_adopted_the_old_key_does_not_do_and_the_new_one_does(
    service: Service, clock: Clock
) -> None:
    folder = service.desk.settings.keys_in
    await ensure_key(service.desk.database, folder, service.clock())
    clock.advance(minutes=1)
    await adopt(service.desk.database, folder, clock())
    old, new = [one.vkey for one in await service.desk.database.run(announcements)]

    file = (await service.lou.get("/v1/exports/log")).content

    assert faults(file, new) == {}
    assert "gave up what it had signed" in faults(file, old)["signature"]


async def test_without_its_key_the_desk_says_so_before_the_first_byte(service: Service) -> None:
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    (key,) = service.desk.settings.keys_in.glob("*.key")
    key.unlink()

    refused(await service.lou.get("/v1/exports/log"), 503, "cannot_sign")


def test_casework_export_log_writes_a_file_that_casework_verify_takes(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "desk.db")
    assert casework("migrate", url=url).returncode == 0
    (tmp_path / "key").write_text(casework("key", "show", url=url).stdout)

    done = casework("export", "log", "--output", tmp_path / "log", url=url)

    assert (done.returncode, done.stdout) == (0, "")
    for data, code, said in (
        ((tmp_path / "log").read_bytes(), 0, "everything holds"),
        ((tmp_path / "log").read_bytes()[:-1], 1, "WRONG: line "),
    ):
        (tmp_path / "log").write_bytes(data)
        command = [sys.executable, "-I", verifier.__file__, str(tmp_path / "log"), "--key", str(tmp_path / "key")]
        verified = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (verified.returncode, verified.stderr) == (code, "")
        assert verified.stdout.splitlines()[-1].startswith(said)
    assert casework("export", "log", "--personal", url=url).returncode == 2
