"""Reads the log back: strictly, since what it says is evidence."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import cast

import msgspec
from msgspec.structs import astuple

from storage.sealing import EVENT_FORMAT, NUL
from workflow.canonical import MAX_BYTES, ZEROS, canonical, faults_of, leaf_hash
from workflow.errors import BrokenHistory
from workflow.events import EVENT_TYPES, Event, EventData, Recorded

event_decoder = msgspec.json.Decoder(Event)


def recorded(body: str, digest: str) -> Recorded:
    """An event as stored, trusting the database; `storage.verify` does not."""
    event = event_decoder.decode(body)
    return Recorded(event=event, data=msgspec.convert(event.data, EVENT_TYPES[event.type]), hash=digest)


def verified(bodies: Iterable[tuple[str, str]], chain: str) -> Iterator[Recorded]:
    """The events of one chain from (body, hash) in order, each checked against its bytes and its predecessor.

    Raises BrokenHistory naming the first event that is wrong.
    """
    links = Links(chain)
    for text, digest in bodies:
        body = text.encode(errors="surrogatepass")  # which is no UTF-8 then, and found out
        yield links.follow(body, digest)


class Links:
    """How far a chain has been followed, and so what its next event has to start from."""

    __slots__ = ("at", "chain", "head", "request", "seq", "state")

    def __init__(self, chain: str) -> None:
        self.chain = chain
        self.seq = 0
        self.head = ZEROS
        self.state: str | None = None
        self.at = self.request = ""

    def follow(self, body: bytes, digest: str, kind: str | None = None) -> Recorded:
        """The event of these bytes, if it can be next; `kind` is its type, where known. Raises BrokenHistory."""
        seq = self.seq + 1
        if leaf_hash(body) != digest:
            raise BrokenHistory(self.chain, seq, "the hash is not the body's")
        try:
            event = strictly(body, kind)
        except ValueError as unfit:
            raise BrokenHistory(self.chain, seq, f"the body is not as casework writes it: {unfit}") from unfit
        # One call for all fields: millions of events are followed.
        _, _, chain, own, prev, _, before, after, _, _, at, _, _, request, data, _, _, _ = astuple(event)
        if (chain, own, prev, before) != (self.chain, seq, self.head, self.state):
            raise BrokenHistory(self.chain, seq, self.misfit(event))
        if at <= self.at and (at < self.at or request != self.request):  # the events of one command share their time
            raise BrokenHistory(self.chain, seq, "is not later than the event before it")
        self.seq, self.head, self.state, self.at, self.request = seq, digest, after, at, request
        return Recorded(event=event, data=data, hash=digest)

    def misfit(self, event: Event) -> str:
        if (event.chain, event.seq) != (self.chain, self.seq + 1):
            return f"the body says that it is {event.chain} event {event.seq}"
        if event.prev != self.head:
            return "does not follow the event before it"
        return "does not start from the state that the event before it led to"


def strictly(body: bytes, kind: str | None = None) -> Event:
    """The event that these very bytes are the canonical form of, with typed data. Raises ValueError.

    It is read as what an event of its type can be and encoded again, so that nothing unknown, left out, repeated or
    written in another way comes back as it was.
    """
    decoder = DECODERS.get(kind or type_decoder.decode(body).type)
    if decoder is None:
        raise ValueError("its type is unknown")
    event = decoder.decode(body)
    try:
        again = canonical(event)
    except OverflowError as beyond:
        raise ValueError("an integer is beyond 2^53-1") from beyond
    if again != body:
        raise ValueError("it is not in canonical form")
    if fault := breach(event, body):
        raise ValueError(fault)
    return event


def breach(event: Event, body: bytes) -> str | None:
    """What an event may not hold though it comes back as it was. A quick look lets nearly every one pass."""
    if event.v != EVENT_FORMAT:
        return f"the format {event.v} is unknown"
    if WRITTEN_TIME.fullmatch(event.at) is None:
        return f"{event.at!r} is not how a time is written"
    if len(body) > MAX_BYTES:
        return f"more than {MAX_BYTES} bytes"
    if b"\\" in body and NUL.search(body):
        return "a NUL character"
    if event.type in WITH_NUMBERS and LONG_NUMBER.search(body) and (fault := faults_of(msgspec.json.decode(body))):
        return fault
    for field in event.personal:
        if not is_key(field):
            return f"the key {field!r}"
    return None


@lru_cache(1000)
def is_key(text: str) -> bool:
    return re.fullmatch("[a-z0-9_]+", text) is not None


WRITTEN_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")

# An integer beyond the profile has as many digits; so may a text have. Most types of events hold no integer.
LONG_NUMBER = re.compile(rb":-?[0-9]{16}")
WITH_NUMBERS = {name for name, data in EVENT_TYPES.items() if "IntType" in repr(msgspec.inspect.type_info(data))}


class Typed(msgspec.Struct):
    type: str


type_decoder = msgspec.json.Decoder(Typed)


def event_with(data: type[EventData]) -> type[Event]:
    """The envelope around one type of data, so that one call reads both."""
    struct = msgspec.defstruct(
        f"{data.__name__}Event",
        [("data", data)],
        bases=(Event,),
        frozen=True,
        kw_only=True,
        omit_defaults=True,
        forbid_unknown_fields=True,
    )
    return cast("type[Event]", struct)


DECODERS = {name: msgspec.json.Decoder(event_with(data)) for name, data in EVENT_TYPES.items()}
