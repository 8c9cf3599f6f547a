"""Reads the log back: strictly, since what it says is evidence."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from storage.sealing import ESCAPED_NUL, EVENT_FORMAT
from workflow.canonical import MAX_BYTES, ZEROS, canonical, faults_of, leaf_hash
from workflow.errors import BrokenHistory
from workflow.events import EVENT_TYPES, Event, EventData, Recorded

event_decoder = msgspec.json.Decoder(Event)

# What reading raises: it is no JSON, or of another type, or lists in lists without end.
UNFIT = (ValueError, RecursionError)


def recorded(body: str, digest: str) -> Recorded:
    """An event as stored, trusting the database; `storage.verify` does not."""
    event = event_decoder.decode(body)
    return Recorded(event=event, data=msgspec.convert(event.data, EVENT_TYPES[event.type]), hash=digest)


def verified(bodies: Iterable[tuple[str, str]], chain: str) -> Iterator[Recorded]:
    """The events of one chain from (body, hash) in order, each checked against its bytes and its predecessor.

    Raises BrokenHistory naming the first event that is wrong.
    """
    last = None
    for body, digest in bodies:
        last = next_event(last, chain, body.encode(errors="surrogatepass"), digest)  # what is no UTF-8 is found out
        yield last


def next_event(last: Recorded | None, chain: str, body: bytes, digest: str) -> Recorded:
    """The event of these bytes, if it can be the one after `last` in its chain. Raises BrokenHistory."""
    seq = last.event.seq + 1 if last else 1
    if leaf_hash(body) != digest:
        raise BrokenHistory(chain, seq, "the hash is not the body's")
    try:
        event = strictly(body)
    except UNFIT as unfit:
        raise BrokenHistory(chain, seq, f"the body is not as casework writes it: {unfit}") from unfit
    if fault := misplaced(last, chain, event):
        raise BrokenHistory(chain, seq, fault)
    return Recorded(event=event, data=event.data, hash=digest)


def misplaced(last: Recorded | None, chain: str, event: Event) -> str | None:
    """Why this event cannot be the one after `last` in its chain."""
    if last is None:
        seq, prev, state, at, request = 1, ZEROS, None, "", ""
    else:
        before = last.event
        seq, prev, state, at, request = before.seq + 1, last.hash, before.state_after, before.at, before.request
    if (event.chain, event.seq) != (chain, seq):
        return f"the body says that it is {event.chain} event {event.seq}"
    if event.prev != prev:
        return "does not follow the event before it"
    if event.state_before != state:
        return "does not start from the state that the event before it led to"
    if event.at < at or (event.at == at and event.request != request):  # the events of one command share their time
        return "is not later than the event before it"
    return None


def strictly(body: bytes) -> Event:
    """The event that these very bytes are the canonical form of, its data typed. Raises one of UNFIT.

    It is read as what an event of its type can be and encoded again, so that nothing unknown, left out, repeated or
    written in another way comes back as it was.
    """
    decoder = DECODERS.get(type_decoder.decode(body).type)
    if decoder is None:
        raise ValueError("its type is unknown")
    event = decoder.decode(body)
    if canonical(event) != body:
        raise ValueError("it is not in canonical form")
    if fault := breach(event, body):
        raise ValueError(fault)
    return event


def breach(event: Event, body: bytes) -> str | None:
    """What an event may not hold though it comes back as it was."""
    if event.v != EVENT_FORMAT:
        return f"the format {event.v} is unknown"
    if WRITTEN_TIME.fullmatch(event.at) is None:
        return f"{event.at!r} is not how a time is written"
    if len(body) > MAX_BYTES:
        return f"more than {MAX_BYTES} bytes"
    return faults_of(msgspec.json.decode(body))


WRITTEN_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


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


def clean(bodies: Sequence[bytes], together: bytes, fields: Mapping[str, Sequence[Any]]) -> bool:
    """Whether no event of these has a breach, by one look at all of them; `fields` are their fields as columns.

    Their types leave no room for another: whatever an event holds is a text, a boolean or an `Integer`.
    """
    return (
        {*fields["v"]} == {EVENT_FORMAT}
        and {*map(len, fields["at"])} == {len(ZERO_TIME)}
        and "".join(fields["at"]).translate(TO_ZEROS) == ZERO_TIME * len(bodies)
        and max(map(len, bodies)) <= MAX_BYTES
        and (b"\\" not in together or ESCAPED_NUL not in together)
        and all(map(KEY.fullmatch, set().union(*fields["personal"])))
    )


ZERO_TIME = "0000-00-00T00:00:00.000000Z"
TO_ZEROS = str.maketrans("123456789", "000000000")
KEY = re.compile("[a-z0-9_]+")
