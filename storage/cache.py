"""The cases that were touched last, as they are stored: what saves the ledger most of its reads."""

from collections import OrderedDict

from storage.batch import Entry


class Cache:
    """Least recently used first out. Never trusted alone: every write is conditional on the versions it rests on."""

    def __init__(self, capacity: int = 4096) -> None:
        self.capacity = capacity
        self.entries: OrderedDict[str, Entry] = OrderedDict()

    def get(self, case_id: str) -> Entry | None:
        entry = self.entries.get(case_id)
        if entry is not None:
            self.entries.move_to_end(case_id)
        return entry

    def put(self, entry: Entry) -> None:
        self.entries[entry.case.id] = entry
        self.entries.move_to_end(entry.case.id)
        if len(self.entries) > self.capacity:
            self.entries.popitem(last=False)

    def drop(self, case_id: str) -> None:
        self.entries.pop(case_id, None)

    def clear(self) -> None:
        self.entries.clear()
