"""Reads the log back: strictly, since what it says is evidence."""

from collections.abc import Iterable

import msgspec

from workflow.canonical import ZEROS, canonical, leaf_hash
from workflow.errors import BrokenHistory
from workflow.events import EVENT_TYPES, Event, Recorded

event_decoder = msgspec.json.Decoder(Event)


def recorded(body: str, digest: str) -> Recorded:
    """An event as stored, trusting the database; `storage.verify` does not."""
    event = event_decoder.decode(body)
    return Recorded(event=event, data=msgspec.convert(event.data, EVENT_TYPES[event.type]), hash=digest)


def verified(bodies: Iterable[tuple[str, str]], chain: str) -> Iterable[Recorded]:
    """The events of one chain from (body, hash) in order, each checked against its bytes and its predecessor.

    Raises BrokenHistory naming the first event that is wrong.
    """
    prev, state, seq, at = ZEROS, None, 0, ""
    for body, digest in bodies:
        seq += 1
        raw = body.encode()
        try:
            event = event_decoder.decode(raw)
            data = msgspec.convert(event.data, EVENT_TYPES[event.type])
        except (msgspec.MsgspecError, KeyError) as unreadable:
            raise BrokenHistory(chain, seq, f"cannot be read: {unreadable}") from unreadable
        if leaf_hash(raw) != digest:
            raise BrokenHistory(chain, seq, "the hash is not the body's")
        if canonical(event) != raw:
            raise BrokenHistory(chain, seq, "the body is not in canonical form")
        if event.chain != chain or event.seq != seq:
            raise BrokenHistory(chain, seq, f"the body says it is {event.chain} event {event.seq}")
        if event.prev != prev:
            raise BrokenHistory(chain, seq, "does not follow the event before it")
        if event.state_before != state:
            raise BrokenHistory(chain, seq, "does not start from the state that the event before it led to")
        if event.at < at:  # the events of one command share their time
            raise BrokenHistory(chain, seq, "is earlier than the event before it")
        yield Recorded(event=event, data=data, hash=digest)
        prev, state, at = digest, event.state_after, event.at
