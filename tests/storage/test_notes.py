"""Notes and checkpoints are those of C2SP, and each has one way of being written."""

import base64
import hashlib
import re
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import example, given
from hypothesis import strategies as st

from storage.notes import (
    BadNote,
    BadSignature,
    Checkpoint,
    Note,
    Signature,
    Signer,
    Unsigned,
    Verifier,
    sign,
    verify,
)

# The example of C2SP's signed-note, which is that of Go's package of the same name.
EXAMPLE_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
EXAMPLE_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
EXAMPLE_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
EXAMPLE = (
    EXAMPLE_TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)

# The example of the text itself, c2sp.org/signed-note, under "Verifier keys".
SPECIFIED_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPECIFIED = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)

# The example of c2sp.org/tlog-checkpoint, to which no key is given.
SPECIFIED_CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa"
    " Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)

ANNE, BEA = (Signer(name, bytes([number]) * 32) for number, name in enumerate(("anne.example/log", "bea"), 1))
TEXT = "one\n\ntwo\n"


@pytest.mark.parametrize(("example", "key"), [(EXAMPLE, EXAMPLE_KEY), (SPECIFIED, SPECIFIED_KEY)])
def test_the_published_examples_verify(example: str, key: str) -> None:
    note = Note.parse(example.encode())

    assert note.text == example.partition("\n\n")[0] + "\n"
    assert str(note) == example
    assert verify(note, [Verifier.parse(key)]) == (Verifier.parse(key),)
    assert str(Verifier.parse(key)) == key


def test_the_published_checkpoint_is_read() -> None:
    note = Note.parse(SPECIFIED_CHECKPOINT.encode())
    root = bytes.fromhex("0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62")

    assert str(note) == SPECIFIED_CHECKPOINT
    assert [(one.name, one.key_id) for one in note.signatures] == [
        ("example.com/behind-the-sofa", bytes.fromhex("033de0ae"))
    ]
    assert Checkpoint.parse(note.text) == Checkpoint("example.com/behind-the-sofa", 20852163, root)
    assert str(Checkpoint.parse(note.text)) == note.text


def test_the_published_example_comes_out_when_it_is_signed_again() -> None:
    signer = Signer.parse(EXAMPLE_SECRET)

    assert str(signer.verifier) == EXAMPLE_KEY
    assert signer.private_text() == EXAMPLE_SECRET
    assert str(sign(EXAMPLE_TEXT, signer)) == EXAMPLE


# Keys.


def test_keys_are_read_as_they_were_written() -> None:
    signer = Signer.generate("log.example")

    assert Verifier.parse(str(signer.verifier)) == signer.verifier
    assert Signer.parse(signer.private_text()).verifier == signer.verifier
    assert Signer.generate("log.example").verifier != signer.verifier


def test_a_signer_does_not_show_its_secret() -> None:
    secret = ANNE.private_text().rpartition("+")[2]

    assert secret not in f"{ANNE!r} {ANNE}"


def resealed(name: str, key: bytes) -> str:
    """A verifier key whose id is right, whatever the rest is."""
    identity = hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8]
    return f"{name}+{identity}+{base64.b64encode(key).decode()}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        EXAMPLE_KEY.replace("c74f20a3", "c74f20a4"),
        EXAMPLE_KEY.replace("c74f20a3", "C74F20A3"),
        EXAMPLE_KEY.replace("PeterNeumann", "PeterNeuman"),
        EXAMPLE_KEY.replace("PeterNeumann", ""),
        EXAMPLE_KEY + "\n",
        EXAMPLE_KEY[:-1],
        EXAMPLE_KEY + "=",
        EXAMPLE_SECRET,
        resealed("Peter Neumann", b"\x01" + bytes(32)),
        resealed("Peter", b"\x01" + bytes(31)),
        resealed("Peter", b"\x02" + bytes(32)),
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(BadNote):
        Verifier.parse(text)


@pytest.mark.parametrize("text", ["", EXAMPLE_KEY, EXAMPLE_SECRET[:-4], EXAMPLE_SECRET.replace("c74f20a3", "c74f20a4")])
def test_what_is_no_private_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(BadNote) as refused:
        Signer.parse(text)

    assert "AYEKFALVFGyNhPJE" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\tb", "a\u00a0b", "a\u2003b", "a\n"])
def test_a_key_has_no_such_name(name: str) -> None:
    with pytest.raises(BadNote, match="no name of a key"):
        Signer(name, bytes(32))


# Notes.


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])), st.lists(st.sampled_from((ANNE, BEA)), min_size=1))
def test_a_note_is_read_as_it_was_signed(text: str, signers: list[Signer]) -> None:
    note = sign(f"{text}\n{text}\n", *signers)

    assert Note.parse(str(note).encode()) == note
    assert set(verify(note, [ANNE.verifier, BEA.verifier])) == {one.verifier for one in signers}


def test_signatures_of_keys_that_nobody_knows_say_nothing() -> None:
    note = sign(TEXT, ANNE, BEA)

    assert verify(note, [BEA.verifier]) == (BEA.verifier,)
    with pytest.raises(Unsigned):
        verify(note, [])
    with pytest.raises(Unsigned):
        verify(note, [Signer("bea", bytes(32)).verifier])  # the name alone makes no key


def test_a_signature_under_a_known_key_that_does_not_hold_spoils_the_note() -> None:
    good, forged = sign(TEXT, ANNE, BEA).signatures
    note = Note(TEXT, (good, Signature(forged.name, forged.key_id, good.signature)))

    with pytest.raises(BadSignature, match="bea"):
        verify(note, [ANNE.verifier, BEA.verifier])
    with pytest.raises(BadSignature):
        verify(Note("other\n", (good,)), [ANNE.verifier])
    with pytest.raises(BadSignature):
        verify(Note(TEXT, (Signature(good.name, good.key_id, good.signature[:-1]),)), [ANNE.verifier])


SIGNED = str(sign(TEXT, ANNE))


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        TEXT + "\n",
        SIGNED[:-1],
        SIGNED + "\n",
        SIGNED.replace("\n", "\r\n"),
        SIGNED.replace("— ", "- "),
        SIGNED.replace("— ", "—"),
        SIGNED.replace("— ", "—\u00a0"),
        SIGNED.replace("— ", "—  "),
        SIGNED.replace("one", "one\x00"),
        SIGNED.replace("one", "one\t"),
        SIGNED.replace("anne", "an+ne"),
        SIGNED + "a line\n",
        SIGNED + "— bea AAAAAA==\n",  # no longer than the id of a key
        SIGNED + "— bea AAAAAAB=\n",  # bits that mean nothing
        SIGNED + "— bea AAAA AAA=\n",
        SIGNED + "— bea AAAAAAA\n",
        SIGNED.rpartition("\n— ")[0] + "— bea AAAAAAA=\n" * 101,
        "\n" + SIGNED.partition("\n\n— ")[2],
        "x" * 1_000_000 + SIGNED,
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(BadNote):
        Note.parse(note.encode())


def test_a_text_that_cannot_be_a_notes_is_not_signed() -> None:
    for text in ("", "no end", "a\rb\n", "a\x1fb\n"):
        with pytest.raises(BadNote):
            sign(text, ANNE)


@given(st.integers(0, 8 * len(SIGNED.encode()) - 1))
def test_no_bit_of_a_note_can_change_unseen(bit: int) -> None:
    changed = bytearray(SIGNED.encode())
    changed[bit // 8] ^= 1 << bit % 8

    with pytest.raises(BadNote):
        verify(Note.parse(bytes(changed)), [ANNE.verifier])


# A second implementation, over bytes and with one regular expression for the whole note.

WHOLE = re.compile(rb"(?P<text>(?:[^\n]*\n)+)\n(?P<lines>(?:\xe2\x80\x94 [^\n]*\n)+)", re.DOTALL)
LINE = re.compile(r"— (?P<name>[^\s+]+) (?P<signature>(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)")


def signed_text(note: bytes, name: str, public: bytes) -> str | None:
    """The text, if the only signature is the key's and holds; else nothing."""
    if (whole := WHOLE.fullmatch(note)) is None or any(one < 32 and one != 10 for one in note):
        return None
    try:
        line = LINE.fullmatch(whole["lines"].decode().removesuffix("\n"))
        if line is None or line["name"] != name or whole["text"].decode().encode() != whole["text"]:
            return None
        signature = base64.b64decode(line["signature"])
        assert base64.b64encode(signature).decode() == line["signature"]
        assert signature[:4] == hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
        Ed25519PublicKey.from_public_bytes(public).verify(signature[4:], whole["text"])
    except Exception:  # noqa: BLE001 - whatever it is, it is no good note
        return None
    return whole["text"].decode()


PIECES = st.sampled_from(
    [
        "\n",
        "\n\n",
        "— ",
        " ",
        "+",
        "=",
        "one",
        "anne.example/log",
        SIGNED,
        SIGNED.rsplit(maxsplit=1)[-1],
        "\r",
        "\x00",
        "é",
        "AAAA",
    ]
)


@given(st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join))
@example(SIGNED)
@example("\n\n" + SIGNED)
def test_both_implementations_take_the_same_for_a_note(text: str) -> None:
    note = text.encode(errors="replace")

    assert taken(lambda: Note.parse(note)) == signed_text(note, ANNE.verifier.name, ANNE.verifier.public)


@given(st.integers(0, len(SIGNED.encode())), st.integers(0, 3), st.binary(max_size=3))
def test_both_implementations_take_the_same_for_a_note_that_was_changed(at: int, removed: int, added: bytes) -> None:
    whole = SIGNED.encode()
    note = whole[:at] + added + whole[at + removed :]

    assert taken(lambda: Note.parse(note)) == signed_text(note, ANNE.verifier.name, ANNE.verifier.public)


def taken(parse: Callable[[], Note]) -> str | None:
    try:
        note = parse()
        verify(note, [ANNE.verifier])
    except BadNote:
        return None
    return note.text if len(note.signatures) == 1 else None


# Checkpoints.

EMPTY = hashlib.sha256().digest()


@given(st.integers(0, 10**18), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_is_read_as_it_was_written(size: int, root: bytes) -> None:
    checkpoint = Checkpoint("anne.example/log", size, root)

    assert Checkpoint.parse(str(checkpoint)) == checkpoint


def test_a_checkpoint_has_three_lines() -> None:
    assert str(Checkpoint("anne.example/log", 0, EMPTY)) == (
        "anne.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log\n1\n",
        "log\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "log\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nextension\n",
        "log\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n",
        "log\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
        "log\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuA==\n",
        "\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "log\n01\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "log\n-1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "log\n+1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "log\n1 \n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "log\n\u0661\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "log\n10000000000000000000\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(BadNote):
        Checkpoint.parse(text)
