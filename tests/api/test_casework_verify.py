"""The verifier takes for a bundle only what a desk has written, finds every change, and says what is wrong."""

import asyncio
import base64
import copy
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from api import casework_verify
from api.casework_verify import (
    FAILS,
    HOLDS,
    MAX_BUNDLE_BYTES,
    ORDER,
    SKIPPED,
    UNKNOWN,
    Held,
    P,
    parsed_key,
    verify,
    verify_file,
)
from api.publishing import append_to
from storage import bundles
from storage.chains import TRIGGERS
from storage.checkpoints import Signed
from storage.notes import Signer
from tests.api.bundle_vectors import CHAIN, FOLDER, INDEX, cut_off, files
from tests.databases import copy_sqlite, migrate, sqlite_url
from tests.storage.desks import NOTE, Office, an_office
from tests.storage.full_desk import fill
from tests.storage.proofs import Log, Proofs, proofs_of
from tests.workflow.builders import ANA
from workflow.canonical import canonical

LEVELS = ["form", *casework_verify.LEVELS]
MUTATIONS = int(os.environ.get("TEST_MUTATIONS", "4000"))


@pytest.fixture(scope="module")
def proofs(sqlite_template: str, tmp_path_factory: pytest.TempPathFactory) -> Proofs:
    """A case with 21 events on a desk on which a bit of everything has happened."""
    url = fill(copy_sqlite(sqlite_template, tmp_path_factory.mktemp("full") / "casework.db"))

    async def more_happens() -> None:
        async with an_office(url) as office:
            await take_notes(office)

    asyncio.run(more_happens())
    return proofs_of(url)


async def take_notes(office: Office) -> None:
    for _ in range(6):
        await office.do(ANA, NOTE)


def outcomes(bundle: bytes, key: str | None, *checkpoints: str) -> dict[str, tuple[str, str]]:
    trusted = [parsed_key(key)] if key else []
    held = [Held(f"checkpoint {number}", note) for number, note in enumerate(checkpoints, 1)]
    return {one.level: (one.verdict, one.text) for one in verify(bundle, trusted, held)}


def verdicts(bundle: bytes, key: str | None, *checkpoints: str) -> dict[str, str]:
    return {level: verdict for level, (verdict, _) in outcomes(bundle, key, *checkpoints).items()}


def faults(bundle: bytes, key: str | None, *checkpoints: str) -> dict[str, str]:
    found = outcomes(bundle, key, *checkpoints)
    return {level: text for level, (verdict, text) in found.items() if verdict == FAILS}


def is_found(bundle: bytes, key: str | None) -> bool:
    """Whether any level fails; the first one is enough."""
    return any(one.verdict == FAILS for one in verify(bundle, [parsed_key(key)] if key else []))


# What holds.


def test_each_level_of_a_good_bundle_holds_by_itself(proofs: Proofs) -> None:
    checkpoint = str(proofs.log.checkpoint(8))

    assert verdicts(proofs.whole, proofs.key, checkpoint) == dict.fromkeys(LEVELS, HOLDS)


def test_the_redacted_form_verifies_the_same(proofs: Proofs) -> None:
    whole, redacted = (outcomes(one, proofs.key) for one in (proofs.whole, proofs.redacted))

    assert {level: verdict for level, (verdict, _) in whole.items()} == verdicts(proofs.redacted, proofs.key)
    assert "They never ran." in proofs.whole.decode()
    assert "They never ran." not in proofs.redacted.decode()
    committed = int(whole["openings"][1].partition(" ")[0])
    assert redacted["openings"][1] == f"0 personal fields are as they were; {committed} are erased or withheld"


def test_without_a_trusted_key_everything_but_the_signer_is_checked(proofs: Proofs) -> None:
    found = outcomes(proofs.whole, None)

    assert found["signature"][0] == UNKNOWN
    assert found["signature"][1].startswith("signer not authenticated")
    expected = dict.fromkeys(LEVELS, HOLDS) | {"signature": UNKNOWN, "consistency": SKIPPED}
    assert verdicts(proofs.whole, None) == expected


def test_the_verifier_knows_what_the_workflow_knows() -> None:
    assert TRIGGERS == casework_verify.TRIGGERS
    assert bundles.HEAD == casework_verify.HEAD


# Checkpoints that the auditor holds.


def test_the_log_goes_on_from_every_checkpoint_that_the_bundle_has_a_proof_for(proofs: Proofs) -> None:
    for size in (0, 3, 8, proofs.log.size):
        assert verdicts(proofs.whole, proofs.key, str(proofs.log.checkpoint(size)))["consistency"] == HOLDS


@pytest.mark.parametrize(
    ("size", "what"), [(4, "proves nothing about 4 events"), (200, "more than the 66 of this file")]
)
def test_a_checkpoint_that_the_bundle_proves_nothing_about_is_not_passed_over(
    proofs: Proofs, size: int, what: str
) -> None:
    log = Log([bytes(32)] * size, proofs.log.signer)

    assert what in faults(proofs.whole, proofs.key, str(log.checkpoint()))["consistency"]


@pytest.mark.parametrize("size", [3, 8])
def test_a_log_that_was_rewritten_since_a_checkpoint_was_signed_is_found(proofs: Proofs, size: int) -> None:
    leaves = [*proofs.log.leaves]
    leaves[1] = bytes(32)
    other = Log(leaves, proofs.log.signer)

    found = faults(proofs.whole, proofs.key, str(other.checkpoint(size)))

    assert set(found) == {"consistency"}
    assert "the log does not go on from it" in found["consistency"]


def test_a_checkpoint_of_another_log_or_signer_is_none_to_compare_with(proofs: Proofs) -> None:
    name = proofs.log.signer.verifier.name
    for signer, what in ((Signer("other", bytes(32)), "is not signed by"), (Signer(name, bytes(32)), "is not signed")):
        foreign = str(Log(proofs.log.leaves, signer).checkpoint(8))
        assert what in faults(proofs.whole, proofs.key, foreign)["consistency"]
    other = Log(proofs.log.leaves, Signer("other", bytes(32)))
    held = [Held("checkpoint", str(other.checkpoint(8)))]
    trusted = [parsed_key(proofs.key), parsed_key(other.key)]
    assert "checkpoint: is of another log, other" in {one.text for one in verify(proofs.whole, trusted, held)}
    unsigned = str(proofs.log.checkpoint(8)).replace("\n8\n", "\n3\n")
    assert "the signature of" in faults(proofs.whole, proofs.key, unsigned)["consistency"]
    assert "is no signed note" in faults(proofs.whole, proofs.key, "nothing")["consistency"]


def test_what_witnesses_have_signed_besides_is_theirs_to_say(proofs: Proofs) -> None:
    note = proofs.log.checkpoint(8)
    seen = str(note) + str(Signer("witness", bytes(32)).signature(note.text))

    assert verdicts(proofs.whole, proofs.key, seen)["consistency"] == HOLDS


# Changes by whoever has the file.


def test_no_byte_of_a_bundle_can_change_unseen(proofs: Proofs) -> None:
    chance = random.Random(os.environ.get("TEST_SEED", "bundle"))
    for key in (proofs.key, None):
        for number in range(MUTATIONS // 2):
            changed = mutated(proofs.whole, chance)
            assert is_found(changed, key), f"mutation {number} of seed bundle"


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Another file, near this one."""
    changed = bytearray(data)
    at = chance.randrange(len(data))
    match chance.randrange(8):
        case 0 | 1:
            changed[at] ^= 1 << chance.randrange(8)
        case 2 | 3:
            changed[at] = chance.choice(b'0123456789abcdefABCDEF"\\{}[],:+/= \n')
        case 4:
            del changed[at : at + chance.choice((1, 1, 2, 44))]
        case 5:
            changed[at:at] = chance.choice((b" ", b"0", b"\\n", b"\\u0041", b"a", b'"', b"\n", changed[at : at + 20]))
        case 6:
            other = chance.randrange(len(data))
            changed[at], changed[other] = changed[other], changed[at]
        case _:
            changed = changed[:at] if chance.random() < 0.1 else changed + chance.choice((b"\n", b" ", b"\x00", b"{}"))
    return bytes(changed) if changed != data else mutated(data, chance)


def test_nothing_in_a_bundle_can_be_added_removed_repeated_or_moved_unseen(proofs: Proofs) -> None:
    found = [is_found(canonical(changed), None) for changed in rearranged(json.loads(proofs.whole))]

    assert all(found)
    assert len(found) > 1000


def rearranged(bundle: Any) -> Iterator[Any]:
    """The bundle with one thing in it another one."""
    for path in paths_in(bundle):
        for change in (drop, repeat, reverse, empty, rename, another):
            changed = copy.deepcopy(bundle)
            holder = changed
            for step in path[:-1]:
                holder = holder[step]
            change(holder, path[-1])
            if changed != bundle:
                yield changed


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """To everything in the bundle, except that one text of many is enough of its kind."""
    if path:
        yield path
    if isinstance(value, dict):
        for name in value:
            yield from paths_in(value[name], (*path, name))
    if isinstance(value, list):
        for number in {0, len(value) // 2, len(value) - 1} if value else ():
            yield from paths_in(value[number], (*path, number))


def drop(holder: Any, name: Any) -> None:
    del holder[name]


def repeat(holder: Any, name: Any) -> None:
    if isinstance(holder, list):
        holder.insert(name, holder[name])
    else:
        holder[f"{name}_again"] = holder[name]


def reverse(holder: Any, name: Any) -> None:
    if isinstance(holder[name], list):
        holder[name].reverse()


def empty(holder: Any, name: Any) -> None:
    holder[name] = type(holder[name])() if holder[name] is not None else ""


def rename(holder: Any, name: Any) -> None:
    if isinstance(holder, dict):
        holder[name[:-1] or "a"] = holder.pop(name)


def another(holder: Any, name: Any) -> None:
    match holder[name]:
        case bool():
            holder[name] = not holder[name]
        case int():
            holder[name] += 1
        case str():
            holder[name] += "a"
        case None:
            holder[name] = "opened"


ONE = b'"casework_bundle":1'
REWRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "with a line break": lambda data: data + b"\n",
    "with a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "in UTF-16": lambda data: data.decode().encode("utf-16"),
    "with blanks": lambda data: json.dumps(json.loads(data), sort_keys=True, ensure_ascii=False).encode(),
    "with lines": lambda data: json.dumps(json.loads(data), sort_keys=True, indent=0, ensure_ascii=False).encode(),
    "unsorted": lambda data: b'{"key":%b,' % canonical(json.loads(data)["key"]) + data[1:],
    "with one key twice": lambda data: data.replace(ONE, ONE + b"," + ONE),
    "with a fraction": lambda data: data.replace(ONE, ONE + b".0"),
    "with an exponent": lambda data: data.replace(ONE, ONE + b"e0"),
    "with true for 1": lambda data: data.replace(ONE, ONE[:-1] + b"true"),
    "with text for a number": lambda data: data.replace(ONE, ONE[:-1] + b'"1"'),
    "with less than nothing": lambda data: data.replace(b'"index":0', b'"index":-0', 1),
    "with an escaped letter": lambda data: data.replace(b"case:A", b"case:\\u0041", 1),
    "with an escaped slash": lambda data: data.replace(b"application/pdf", b"application\\/pdf", 1),
    "in ASCII": lambda data: data.replace("Баннеры".encode(), json.dumps("Баннеры")[1:-1].encode()),
    "with a capital": lambda data: data.replace(ONE, b'"Casework_bundle":1'),
    "with an empty name": lambda data: data.replace(b'"guards":{', b'"guards":{"":true,', 1),
    "with nothing for what is not there": lambda data: data.replace(b'"type":"note', b'"trigger":null,"type":"note', 1),
}


def test_without_the_statement_about_the_file_something_could_be_left_out_unseen(
    proofs: Proofs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above see what they look for only because the verifier does."""
    bundle = json.loads(proofs.whole)
    cut_off(bundle)
    del bundle["openings"][0], bundle["consistency"][0]
    assert is_found(canonical(bundle), proofs.key)

    monkeypatch.delitem(casework_verify.LEVELS, "completeness")

    assert not is_found(canonical(bundle), proofs.key)


@pytest.mark.parametrize("how", REWRITTEN)
def test_the_same_values_written_in_another_way_are_no_bundle(proofs: Proofs, how: str) -> None:
    changed = REWRITTEN[how](proofs.whole)

    assert changed != proofs.whole
    assert set(faults(changed, proofs.key)) == {"form"}


# Changes by whoever has the desk's key as well, but cannot change the log that was signed.


def test_a_desk_cannot_sign_an_event_that_is_not_in_its_log(proofs: Proofs) -> None:
    bundle = json.loads(proofs.whole)
    for part in ("case", "settings", "policy"):
        for number, placed in enumerate(bundle[part]):
            for name, value in placed["event"].items():
                if isinstance(value, str):
                    changed = copy.deepcopy(bundle)
                    changed[part][number]["event"][name] = value[:-1] + ("0" if value[-1:] != "0" else "1")
                    found = faults(proofs.log.resigned(changed), proofs.key)
                    assert found.keys() & {"form", "inclusion"}, (part, number, name)
                    if "inclusion" in found and name != "chain":
                        event = placed["event"]
                        assert found["inclusion"].startswith(f"{event['chain']} event {event['seq']}: is not what")


@pytest.mark.parametrize("part", ["case", "settings", "policy"])
def test_a_desk_cannot_leave_out_an_event(proofs: Proofs, part: str) -> None:
    bundle = json.loads(proofs.whole)
    for number in range(len(bundle[part]) - 1):
        changed = copy.deepcopy(bundle)
        del changed[part][number]
        found = faults(proofs.log.resigned(changed), proofs.key)
        assert f"event {number + 1}: is missing" in found["chain"]


def test_a_desk_cannot_give_an_event_another_place(proofs: Proofs) -> None:
    bundle = json.loads(proofs.whole)
    for placed, other in zip(bundle["case"], bundle["case"][1:], strict=False):
        for index in (placed["index"] - 1, placed["index"] + 1, other["index"], proofs.log.size, 2**53 - 1):
            changed = copy.deepcopy(bundle)
            changed["case"][placed["event"]["seq"] - 1]["index"] = index
            found = faults(proofs.log.resigned(changed), proofs.key)
            assert f"case:A event {placed['event']['seq']}: " in found["inclusion"]


def test_a_desk_cannot_prove_with_other_hashes(proofs: Proofs) -> None:
    bundle = json.loads(proofs.whole)
    for number in range(len(bundle["nodes"])):
        changed = copy.deepcopy(bundle)
        changed["nodes"][number] = "A" * 43 + "="
        assert "inclusion" in faults(proofs.log.resigned(changed), proofs.key)
        del changed["nodes"][number]
        assert "inclusion" in faults(proofs.log.resigned(changed), proofs.key)


def test_a_desk_cannot_open_a_field_to_something_else(proofs: Proofs) -> None:
    bundle = json.loads(proofs.whole)
    for number, opening in enumerate(bundle["openings"]):
        value = "value" if "value" in opening else "base64"
        for name, other in (("seq", 2), ("field", "other"), ("salt", "0" * 64), (value, "AAAA")):
            changed = copy.deepcopy(bundle)
            changed["openings"][number][name] = other
            assert set(faults(proofs.log.resigned(changed), proofs.key)) == {"openings"}


def test_a_desk_cannot_say_that_it_goes_on_from_another_log(proofs: Proofs) -> None:
    bundle = json.loads(proofs.whole)
    for number, one in enumerate(bundle["consistency"]):
        for name, other in (("size", one["size"] + 1), ("size", 0), ("root", "A" * 43 + "="), ("proof", [])):
            changed = copy.deepcopy(bundle)
            changed["consistency"][number][name] = other
            assert set(faults(proofs.log.resigned(changed), proofs.key)) == {"consistency"}


# What a desk has signed, and should not have.


def forge_refund(events: list[Any]) -> None:
    """Straight from where it was opened, which no lifecycle allows."""
    del events[2:]
    events[1] |= {"type": "refunded", "trigger": "refund", "state_after": "refunded", "guards": {}}


def test_a_transition_that_the_logged_lifecycle_does_not_have_is_found(proofs: Proofs) -> None:
    found = faults(proofs.log.forged(proofs.evidence, forge_refund), proofs.key)

    assert set(found) - {"openings"} == {"lifecycle"}
    assert found["lifecycle"] == "case:A event 2: its lifecycle has no refund from opened to refunded"


def at_investigation(events: list[Any]) -> Any:
    return next(one for one in events if one["type"] == "investigation_started")


Change = Callable[[list[Any]], object]
AGAINST_THE_RULES: dict[str, Change] = {
    "is not what the trigger None leads to": lambda events: at_investigation(events).pop("trigger"),
    "is not what the trigger close leads to": lambda events: at_investigation(events).update(trigger="close"),
    "has other guards for investigate from": lambda events: at_investigation(events).pop("guards"),
    "other guards for investigate from": lambda events: at_investigation(events).update(guards={}),
    "guards for investigate from": lambda events: at_investigation(events)["guards"].update(assignee_works_cases=False),
    "for investigate from": lambda events: at_investigation(events)["guards"].update(more=True),
    "event 1: without a trigger": lambda events: events[0].update(state_after="closed"),
    "event 2: without a trigger": lambda events: events[1].update(state_after="closed"),
    "event 4: the lifecycle or policy": lambda events: events[3].update(lifecycle="0" * 64),
    "4: the lifecycle or policy": lambda events: events[3].update(policy=3),
}


@pytest.mark.parametrize("what", AGAINST_THE_RULES)
def test_what_the_rules_do_not_allow_is_found_though_it_was_signed(proofs: Proofs, what: str) -> None:
    found = faults(proofs.log.forged(proofs.evidence, AGAINST_THE_RULES[what]), proofs.key)

    assert what in found["lifecycle"]
    assert found.keys() <= {"lifecycle", "chain"}


OUT_OF_LINE: dict[str, Change] = {
    "case:A event 5: is missing; case:B event 5 stands there": lambda events: events[4].update(chain="case:B"),
    "case:A event 5: is missing; case:A event 6 stands there": lambda events: events[4].update(seq=6),
    "case:A event 5: is not later": lambda events: events[4].update(at="2020-01-01T00:00:00.000000Z"),
    "case:A event 5: does not start from the state": lambda events: events[4].update(state_before="closed"),
    "case:A event 1: does not start from the state": lambda events: events[0].update(state_before="opened"),
    "case:A event 5: is of another log": lambda events: events[4].update(log="another"),
}


@pytest.mark.parametrize("what", OUT_OF_LINE)
def test_what_does_not_follow_is_found_though_it_was_signed(proofs: Proofs, what: str) -> None:
    found = faults(proofs.log.forged(proofs.evidence, OUT_OF_LINE[what]), proofs.key)

    assert found["chain"].startswith(what)


def test_a_lifecycle_is_the_one_whose_hash_it_is_named_by(proofs: Proofs) -> None:
    bundle = json.loads(proofs.whole)
    bundle["settings"][1]["event"]["data"]["table"][0]["guards"] = []

    found = faults(proofs.log.resigned(bundle), proofs.key)

    assert found["lifecycle"] == "desk:settings event 2: the lifecycle's name is not the hash of its table"


def settings_for_policy(bundle: Any) -> None:
    bundle["policy"] = bundle["settings"]


def one_opened_twice(bundle: Any) -> None:
    bundle["openings"].append(bundle["openings"][0])


def opened_to_nothing(bundle: Any) -> None:
    del bundle["openings"][0]["value"]


def opened_to_two_things(bundle: Any) -> None:
    bundle["openings"][0]["base64"] = ""


def another_policy_version(bundle: Any) -> None:
    bundle["policy"][0]["event"]["data"]["version"]["version"] = 2


def a_huge_event(bundle: Any) -> None:
    bundle["case"][5]["event"]["data"]["text"] = "x" * 65_535


def signed_by_another_as_well(bundle: Any) -> None:
    text = bundle["checkpoint"].partition("\n\n")[0] + "\n"
    bundle["checkpoint"] += str(Signer("witness", bytes(32)).signature(text))


def with_a_line_that_says_nothing(bundle: Any) -> None:
    bundle["checkpoint"] = bundle["checkpoint"].replace("\u2014", "-")


def with_a_key_of_another_kind(bundle: Any) -> None:
    name, identity, _ = bundle["key"].split("+", 2)
    bundle["key"] = f"{name}+{identity}+{base64.b64encode(b'2' + bytes(32)).decode()}"


def with_a_key_that_is_cut_off(bundle: Any) -> None:
    name, identity, _ = bundle["key"].split("+", 2)
    bundle["key"] = f"{name}+{identity}+AA="


def without_settings(bundle: Any) -> None:
    bundle["settings"] = []


MISMADE: dict[str, tuple[Callable[[Any], None], str]] = {
    "policy: desk:settings is no such chain": (settings_for_policy, "chain"),
    "is opened twice": (one_opened_twice, "openings"),
    "openings: each has a value": (opened_to_nothing, "form"),
    "openings: each has a value, as text or in base64": (opened_to_two_things, "form"),
    "desk:policy event 1: is not version 1 of the policy": (another_policy_version, "lifecycle"),
    "case:A event 6: is too large": (a_huge_event, "form"),
    "checkpoint: has 2 signatures": (signed_by_another_as_well, "signature"),
    "checkpoint: a line of its signatures is none": (with_a_line_that_says_nothing, "signature"),
    "key: is no Ed25519 verifier key": (with_a_key_of_another_kind, "form"),
    "'AA=' is no standard base64": (with_a_key_that_is_cut_off, "form"),
    "settings: has no events": (without_settings, "form"),
}


@pytest.mark.parametrize("what", MISMADE)
def test_a_bundle_that_a_desk_has_put_together_wrongly_is_found(proofs: Proofs, what: str) -> None:
    change, level = MISMADE[what]
    bundle = json.loads(proofs.whole)
    change(bundle)

    assert what in faults(proofs.log.resigned(bundle), proofs.key)[level]


def test_a_log_in_which_an_event_comes_before_its_predecessor_is_found(proofs: Proofs) -> None:
    *case, last, other = proofs.evidence.case
    swapped = (*case, replace(last, index=other.index), replace(other, index=last.index))
    leaves = [*proofs.log.leaves]
    leaves[last.index], leaves[other.index] = leaves[other.index], leaves[last.index]
    log = Log(leaves, proofs.log.signer)

    found = faults(log.bundle(replace(proofs.evidence, case=swapped)), proofs.key)

    assert found == {"inclusion": "case:A event 21: stands in the log before its predecessor"}


def test_a_log_signs_under_its_own_name_or_one_below_it(proofs: Proofs) -> None:
    name = proofs.log.signer.verifier.name
    for origin, fails in ((f"{name}/2026-03-05T12:00:00.000000Z", set()), ("another", {"signature"})):
        log = Log(proofs.log.leaves, Signer(origin, bytes(32)))
        assert set(faults(log.bundle(proofs.evidence), log.key)) == fails


def test_a_note_with_more_signatures_than_anybody_needs_is_refused(proofs: Proofs) -> None:
    note = proofs.log.checkpoint(8)
    repeated = str(note) + 100 * str(note.signatures[0])

    assert "has 101 signatures" in faults(proofs.whole, proofs.key, repeated)["consistency"]


def test_a_bundle_whose_end_was_cut_off_is_not_what_the_desk_has_signed(proofs: Proofs) -> None:
    bundle = json.loads(proofs.whole)
    cut_off(bundle)

    found = faults(canonical(bundle), proofs.key)

    assert set(found) == {"completeness"}
    assert found["completeness"].startswith("case:A event 20: the desk has signed the last event 21, not 20")


def test_another_signer_than_the_trusted_one_is_found(proofs: Proofs) -> None:
    mallory = Log(proofs.log.leaves, Signer(proofs.log.signer.verifier.name, bytes(32)))
    forgery = mallory.bundle(proofs.evidence)

    assert set(faults(forgery, proofs.key)) == {"signature"}
    assert verdicts(forgery, None)["signature"] == UNKNOWN


def test_a_statement_of_another_bundle_does_not_go_with_this_one(proofs: Proofs) -> None:
    bundle = json.loads(proofs.whole) | {"head": json.loads(proofs.redacted)["head"]}

    assert set(faults(canonical(bundle), proofs.key)) == {"completeness"}


def test_neither_a_checkpoint_nor_a_statement_stands_for_the_other(proofs: Proofs) -> None:
    bundle = json.loads(proofs.whole)
    for other, what in (
        ({"checkpoint": bundle["head"]}, "checkpoint: has other lines than origin, size and root"),
        ({"head": bundle["checkpoint"]}, "head: is no statement about a case's last event"),
    ):
        assert faults(canonical(bundle | other), proofs.key) == {"form": what}


# Whatever is handed to it: an answer, and no traceback.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_anything_at_all_gets_an_answer(data: bytes) -> None:
    assert set(faults(data, None)) == {"form"}


def test_what_is_nested_too_deeply_is_no_bundle() -> None:
    for depth, what in ((50, "the bundle should be an object"), (51, "lists in lists")):
        assert what in faults(b"[" * depth + b"]" * depth, None)["form"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b"[" * 60 + b"]" * 60,
        b"9" * 1_000_000,
        b"-9007199254740992",
        b"1e999999999",
        b"NaN",
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\x00"',
        b'"\\u0000"',
        b"\xff" * 1000,
        b"null",
        b"{}",
    ],
)
def test_what_is_made_to_break_a_parser_does_not(data: bytes) -> None:
    assert set(faults(data, None)) == {"form"}


def test_a_bundle_that_ends_anywhere_gets_an_answer(proofs: Proofs) -> None:
    for end in range(0, len(proofs.whole), 97):
        assert set(faults(proofs.whole[:end], None)) == {"form"}


@given(st.data())
def test_a_bundle_with_anything_in_any_place_gets_an_answer(proofs: Proofs, data: st.DataObject) -> None:
    bundle = json.loads(proofs.whole)
    path = data.draw(st.sampled_from(list(paths_in(bundle))))
    holder = bundle
    for step in path[:-1]:
        holder = holder[step]
    before = copy.deepcopy(holder[path[-1]])
    holder[path[-1]] = data.draw(JSON | st.sampled_from([2**53 - 1, 2**64, "", [], {}, [[]], {"value": {}}, "A" * 44]))
    changed = json.dumps(bundle, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")

    assert is_found(changed, None) or json.dumps(holder[path[-1]]) == json.dumps(before)


# Bundles that are kept, so that others can try a verifier of their own.


@pytest.mark.parametrize("trial", INDEX, ids=str)
def test_a_bundle_that_is_kept_has_the_faults_that_are_said_of_it(trial: dict[str, Any]) -> None:
    trusted = [parsed_key((FOLDER / trial["key"]).read_text().strip())] if trial["key"] else []
    held = [Held(name, (FOLDER / name).read_text()) for name in trial["checkpoints"]]

    with (FOLDER / trial["file"]).open("rb") as file:
        found = [*verify_file(file, trusted, held)]

    assert {one.level for one in found if one.verdict == FAILS} == {*trial["fails"]}


def test_what_is_kept_is_what_would_be_made_now(tmp_path: Path) -> None:
    assert json.loads((FOLDER / "index.json").read_text()) == json.loads(json.dumps(INDEX))
    url = fill(migrate(sqlite_url(tmp_path / "casework.db")))
    assert {one.name for one in FOLDER.iterdir()} == {"index.json", *files(proofs_of(url, CHAIN))}


# Ed25519.

# RFC 8032 §7.1: TEST 1, 2, 3 and SHA(abc), as (public key, message, signature).
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd"
            "454d4423643ce80e2a9ac94fa54ca49f"
        ),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
            "3dca179c138ac17ad9bef1177331a704"
        ),
    ),
]


@pytest.mark.parametrize("vector", RFC_8032)
def test_the_signatures_of_rfc_8032_hold_and_no_bit_of_them_can_change(vector: tuple[str, str, str]) -> None:
    public, message, signature = map(bytes.fromhex, vector)
    assert casework_verify.ed25519_verified(public, message, signature)

    for bit in range(0, 512, 7):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        assert not casework_verify.ed25519_verified(public, message, bytes(changed))
    assert not casework_verify.ed25519_verified(public, message + b"\x00", signature)


def in_bytes(number: int) -> bytes:
    return number.to_bytes(32, "little")


def test_a_signature_has_one_encoding() -> None:
    public, message, signature = map(bytes.fromhex, RFC_8032[1])
    response = int.from_bytes(signature[32:], "little")

    assert not casework_verify.ed25519_verified(public, message, signature[:32] + in_bytes(response + ORDER))
    for length in (0, 63, 65):
        assert not casework_verify.ed25519_verified(public, message, (signature + b"\x00")[:length])
    assert not casework_verify.ed25519_verified(public[:31], message, signature)


@pytest.mark.parametrize("y", [P, P + 1, 2**255 - 1, 1 | 1 << 255, (P - 1) | 1 << 255, 2])
def test_a_point_has_one_encoding(y: int) -> None:
    """Beyond the field, of x = 0 with a sign, or of no point at all (RFC 8032 §5.1.3)."""
    assert casework_verify.decoded_point(in_bytes(y)) is None


@pytest.mark.parametrize("y", [0, 1, P - 1])
def test_a_key_of_small_order_signs_nothing(y: int) -> None:
    """Under the neutral element S = 0 and R = A would do for every message."""
    assert casework_verify.decoded_point(in_bytes(y)) is not None
    for commitment in (y, 1):
        signature = in_bytes(commitment) + bytes(32)
        assert not casework_verify.ed25519_verified(in_bytes(y), b"anything", signature)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=99), st.integers(0, 767), st.booleans())
def test_ed25519_agrees_with_another_implementation(
    seed: bytes,
    message: bytes,
    bit: int,
    is_changed: bool,
) -> None:
    signer = Signer("name", seed)
    octets = bytearray(signer.key.sign(message) + signer.verifier.public)
    if is_changed:
        octets[bit // 8] ^= 1 << bit % 8
    signature, public = bytes(octets[:64]), bytes(octets[64:])
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        expected = True
    except InvalidSignature:
        expected = False

    assert casework_verify.ed25519_verified(public, message, signature) == expected == (not is_changed)


# The command, as an auditor runs it: the one file, without Casework.


@pytest.fixture
def desktop(proofs: Proofs, tmp_path: Path) -> Path:
    shutil.copy(casework_verify.__file__, tmp_path / "casework_verify.py")
    (tmp_path / "bundle.json").write_bytes(proofs.whole)
    (tmp_path / "redacted.json").write_bytes(proofs.redacted)
    (tmp_path / "key").write_text(f"{Signer('old', bytes(32)).verifier}\n{proofs.key}\n")
    for size in (3, 4, 8):
        (tmp_path / f"checkpoint-{size}").write_text(str(proofs.log.checkpoint(size)))
    return tmp_path


def run(desktop: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-I", "-S", "-W", "error", "casework_verify.py", *arguments]
    done = subprocess.run(command, cwd=desktop, capture_output=True, check=False, text=True, env={"LC_ALL": "C"})
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_the_verifier_runs_without_casework(desktop: Path) -> None:
    code, said = run(desktop, "bundle.json", "--key", "key", "--checkpoint", "checkpoint-3", "checkpoint-8")

    assert code == 0
    assert [line.split()[:2] for line in said.splitlines()[:-1]] == [[level, HOLDS] for level in LEVELS]
    assert said.endswith("everything holds\n")


def test_without_a_key_the_answer_says_so_and_the_code_is_that_of_what_was_checked(desktop: Path) -> None:
    code, said = run(desktop, "redacted.json")

    assert code == 0
    assert said.endswith("everything that could be checked holds; signer not authenticated\n")


def test_the_first_fault_is_named_and_the_code_is_1(desktop: Path, proofs: Proofs) -> None:
    (desktop / "bundle.json").write_bytes(proofs.whole.replace(b'"actor":"person:bo"', b'"actor":"person:ed"', 1))

    case = json.loads(proofs.whole)["case"]
    for key in ((), ("--key", "key")):
        code, said = run(desktop, "bundle.json", *key)
        assert code == 1
        seq = next(one["event"]["seq"] for one in case if one["event"]["actor"] == "person:bo")
        assert f"WRONG: case:A event {seq}: is not what the log has at index" in said.splitlines()[-1]


def test_checkpoints_can_be_named_one_by_one(desktop: Path) -> None:
    code, said = run(
        desktop, "--checkpoint", "checkpoint-3", "--checkpoint", "checkpoint-4", "--key", "key", "bundle.json"
    )

    assert code == 1
    assert said.splitlines()[-1].startswith("WRONG: checkpoint-4: the file proves nothing about 4 events")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nowhere.json",),
        (".",),
        ("bundle.json", "redacted.json"),
        ("bundle.json", "--key", "nowhere"),
        ("bundle.json", "--key", "bundle.json"),
        ("bundle.json", "--key", "empty"),
        ("bundle.json", "--key", "noise"),
        ("bundle.json", "--checkpoint", "nowhere"),
        ("bundle.json", "--checkpoint", "noise"),
        ("bundle.json", "--unknown"),
    ],
)
def test_wrong_usage_is_told_and_the_code_is_2(desktop: Path, arguments: tuple[str, ...]) -> None:
    (desktop / "empty").touch()
    (desktop / "noise").write_bytes(b"\xff\xfe\x00")

    assert run(desktop, *arguments)[0] == 2


def test_a_file_without_end_is_not_read_to_its_end(desktop: Path) -> None:
    with (desktop / "large.json").open("wb") as stream:
        stream.truncate(100 * MAX_BUNDLE_BYTES)

    code, said = run(desktop, "large.json")

    assert code == 1
    assert said.splitlines()[-1] == f"WRONG: more than {MAX_BUNDLE_BYTES} bytes"


def test_what_a_file_says_does_not_steer_a_terminal(desktop: Path, proofs: Proofs) -> None:
    bundle = json.loads(proofs.whole)
    bundle["case"][3]["event"]["chain"] = "case:\u001b[2J\u0430" + "x" * 100_000
    (desktop / "bundle.json").write_bytes(canonical(bundle))

    code, said = run(desktop, "bundle.json")

    assert code == 1
    assert said.isascii()
    assert "\x1b" not in said
    assert max(map(len, said.splitlines())) < 2000


def test_whoever_stops_reading_the_answer_gets_no_traceback(desktop: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-I", "casework_verify.py", "bundle.json"]
    done = subprocess.run(command, cwd=desktop, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)

    assert done.returncode == 1
    assert done.stderr == b""


def test_an_answer_that_cannot_be_written_is_told_without_a_traceback(desktop: Path) -> None:
    command = [sys.executable, "-I", "casework_verify.py", "bundle.json"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, cwd=desktop, stdout=full, stderr=subprocess.PIPE, check=False)
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command], cwd=desktop, stderr=subprocess.PIPE, check=False
    )

    assert done.returncode == 2
    assert done.stderr.endswith(b"error: the output: No space left on device\n")
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_a_file_to_which_checkpoints_were_published_holds_several(desktop: Path, proofs: Proofs) -> None:
    file = desktop / "published"
    for size in (3, 8):
        append_to(file, Signed(origin="", size=size, root="", note=str(proofs.log.checkpoint(size)), at=""))

    code, said = run(desktop, "bundle.json", "--key", "key", "--checkpoint", "published")
    assert code == 0
    assert "the checkpoints that you hold: 2" in said

    file.write_text(file.read_text().replace("\n8\n", "\n7\n"))
    code, said = run(desktop, "bundle.json", "--key", "key", "--checkpoint", "published")
    assert code == 1
    assert "WRONG: published, number 2: the signature of" in said


def test_the_file_that_is_no_use_is_the_one_that_is_named(desktop: Path) -> None:
    (desktop / "noise").write_bytes(b"\xff\xfe\x00")

    code, said = run(desktop, "bundle.json", "--key", "key", "--checkpoint", "noise")

    assert code == 2
    assert "error: noise: no UTF-8" in said


def test_a_file_that_is_more_than_there_is_memory_for_is_told(desktop: Path) -> None:
    with (desktop / "large.json").open("wb") as stream:
        stream.truncate(MAX_BUNDLE_BYTES)
    command = f"ulimit -v 150000; exec {sys.executable} -I -S casework_verify.py large.json"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=desktop, capture_output=True, check=False, text=True)

    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
