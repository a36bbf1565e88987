"""A partition's log in the simulated broker: offsets, gaps, replication, retention, truncation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from consumer.event import Headers


class Entry(NamedTuple):
    """A record in a log; `timestamp` in milliseconds is what a reader is told."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    appended_ms: int


class Log:
    """Records by offset, with gaps where offsets were taken by something else.

    Readers see what lies below `high`, which all replicas have; what lies above it may yet vanish.
    """

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.start = 0
        self.end = 0
        self.high = 0

    def append(  # the parts of a record
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers, now_ms: int
    ) -> Entry:
        """The leader takes a record; it is replicated by `replicate`."""
        entry = Entry(self.end, timestamp, key, value, headers, now_ms)
        self.entries[self.end] = entry
        self.end += 1
        return entry

    def replicate(self, through: int) -> None:
        """All replicas have what lies below this offset."""
        self.high = max(self.high, min(through, self.end))

    def skip(self, offsets: int) -> bool:
        """Offsets are taken by markers of transactions; not while replicas are behind."""
        if self.high != self.end:
            return False
        self.end += offsets
        self.high = self.end
        return True

    def change_leader(self) -> list[Entry]:
        """What not all replicas had is gone; it comes back, so that its producers write it anew."""
        lost = [self.entries.pop(o) for o in range(self.high, self.end) if o in self.entries]
        self.end = self.high
        return lost

    def truncate(self, end: int) -> None:
        """The log loses its tail, although all replicas had it (an unclean election)."""
        for offset in range(end, self.end):
            self.entries.pop(offset, None)
        self.end = self.high = end
        self.start = min(self.start, end)

    def delete_before(self, offset: int) -> None:
        """Retention deletes what lies below an offset."""
        for old in range(self.start, min(offset, self.high)):
            self.entries.pop(old, None)
        self.start = max(self.start, min(offset, self.high))

    def delete_older(self, oldest_ms: int) -> None:
        """Retention deletes what was appended before a time (milliseconds)."""
        at = self.start
        while at < self.high:
            entry = self.entries.get(at)
            if entry is not None and entry.appended_ms >= oldest_ms:
                break
            at += 1
        self.delete_before(at)

    def read(self, start: int, end: int, most: int) -> tuple[list[Entry], int]:
        """At most so many records from `start` on, below `end`; and where to go on."""
        found: list[Entry] = []
        entries, at, end = self.entries, max(start, self.start), min(end, self.high)
        while at < end and len(found) < most:
            entry = entries.get(at)
            if entry is not None:
                found.append(entry)
            at += 1
        return found, at
