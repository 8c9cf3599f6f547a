"""Who has which case open: here, and in other processes as far as they call it out. The log knows nothing of it."""

import os
from collections import Counter
from collections.abc import Callable

import msgspec

GRACE_SECONDS = 2.0  # whoever loads a page anew has not left
ALIVE_SECONDS = 15.0
SILENT_SECONDS = 40.0  # of a process: nobody looks there any more
MOST_PEOPLE = 100  # in one call, which must not be longer than 8,000 bytes


class Call(msgspec.Struct, omit_defaults=True, rename={"sender": "from"}):
    """One process to the others: who looks at a case there; that it is still there; that it is not."""

    sender: str
    case: str = ""
    people: tuple[str, ...] = ()
    asks: bool = False  # who looks at this case where you are?
    gone: bool = False


decoder = msgspec.json.Decoder(Call)


class Presence:
    """`tell` reaches the other processes; `now` is in seconds. `settle` is to be called every second or so."""

    def __init__(self, tell: Callable[[str], None], now: Callable[[], float]) -> None:
        self.tell = tell
        self.now = now
        self.me = os.urandom(8).hex()
        self.open: dict[str, Counter[str]] = {}  # by case: how many pages each person has open
        self.leaving: dict[tuple[str, str], float] = {}  # case and person: since when no page is open
        self.elsewhere: dict[str, dict[str, tuple[str, ...]]] = {}  # by process, by case, for the cases looked at here
        self.heard_at: dict[str, float] = {}
        self.changed: set[str] = set()
        self.alive_at = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nobody looks at anything here, nor did a moment ago."""
        return not self.open

    def here(self, case: str) -> tuple[str, ...]:
        return tuple(sorted(self.open.get(case, ())))

    def of(self, case: str) -> set[str]:
        """The ids of everybody who looks at a case."""
        return {*self.here(case), *(one for cases in self.elsewhere.values() for one in cases.get(case, ()))}

    def come(self, case: str, person: str) -> None:
        is_first = case not in self.open
        people = self.open.setdefault(case, Counter())
        people[person] += 1
        self.changed.add(case)  # for whoever came to hear of the others
        if self.leaving.pop((case, person), None) is None and people[person] == 1:
            self.call(case, asks=is_first)

    def go(self, case: str, person: str) -> None:
        self.open[case][person] -= 1
        if not self.open[case][person]:
            self.leaving[case, person] = self.now()

    def call(self, case: str, *, asks: bool = False) -> None:
        self.send(Call(sender=self.me, case=case, people=self.here(case)[:MOST_PEOPLE], asks=asks))

    def call_all(self) -> None:
        """After calls may have been missed."""
        for case in self.open:
            self.call(case, asks=True)

    def leave(self) -> None:
        """The process is about to end."""
        self.send(Call(sender=self.me, gone=True))

    def send(self, call: Call) -> None:
        self.tell(msgspec.json.encode(call).decode())

    def hear(self, said: str) -> None:
        try:
            call = decoder.decode(said)
        except msgspec.MsgspecError:
            return  # somebody else's
        if call.sender == self.me:
            return
        if call.gone:
            self.forget(call.sender)
            return
        if call.sender in self.heard_at:
            self.heard_at[call.sender] = self.now()
        if call.case in self.open:
            self.heard_at[call.sender] = self.now()
            self.elsewhere.setdefault(call.sender, {})[call.case] = call.people
            self.changed.add(call.case)
            if call.asks:
                self.call(call.case)

    def forget(self, process: str) -> None:
        self.changed.update(self.elsewhere.pop(process, ()))
        self.heard_at.pop(process, None)

    def settle(self) -> set[str]:
        """The cases at which other people look than at the last time."""
        now = self.now()
        for (case, person), since in list(self.leaving.items()):
            if now - since >= GRACE_SECONDS:
                del self.leaving[case, person], self.open[case][person]
                self.changed.add(case)
                self.call(case)
                if not self.open[case]:
                    self.close(case)
        for process, heard_at in list(self.heard_at.items()):
            if now - heard_at >= SILENT_SECONDS:
                self.forget(process)
        if self.open and now - self.alive_at >= ALIVE_SECONDS:
            self.alive_at = now
            self.send(Call(sender=self.me))
        changed, self.changed = self.changed, set()
        return changed

    def close(self, case: str) -> None:
        """Nobody looks at it here, so nobody here has to know who does elsewhere."""
        del self.open[case]
        for cases in self.elsewhere.values():
            cases.pop(case, None)
