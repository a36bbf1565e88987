"""What is fetched of a state partition, cut into the chunks that are asked for; no I/O.

A chunk ends by the position that fetching has reached, never by the offset of a last record:
markers of transactions and what compaction removed take offsets too.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from consumer.messages import StateChunk
from consumer.state_records import KEY_BYTES, MOST_KEYS

if TYPE_CHECKING:
    from consumer.messages import ReadState, StateRecord

MOST_RECORDS: Final = 256
"""Records in one chunk."""

MOST_BYTES: Final = MOST_KEYS * KEY_BYTES
"""Bytes of values in one chunk; a single record may be larger."""

DOUBTS: Final = 2
"""How often the broker has to say that the log ends early before that is believed: a partition's
new leader may not know for a moment how far its log is replicated."""


class PartitionReading:
    """One state partition, from the first offset asked for: what was fetched and not handed out.

    Attributes:
        read: what is asked for just now; None between two chunks.
        next: where the next chunk begins; None until the broker has told the log's ends.
        position: how far fetching has got. Every record between `next` and it is buffered.
        buffered: bytes of the values that are buffered.
    """

    def __init__(self, read: ReadState) -> None:
        self.read: ReadState | None = read
        self.next: int | None = None
        self.position = 0
        self.buffered = 0
        self._records: deque[StateRecord] = deque()
        self._low = self._high = 0
        self._at_end = False
        self._doubts = 0

    def __repr__(self) -> str:
        """How far it is."""
        return f"<PartitionReading {self.next}..{self.position} of {self._low}..{self._high}>"

    @property
    def needs_ends(self) -> bool:
        """Whether the broker is to be asked for the log's ends before anything can be answered."""
        if self.read is None:
            return False
        exhausted = self._at_end and not self._records and self.position < self.read.end
        return self.next is None or exhausted

    @property
    def wants_records(self) -> bool:
        """Whether there is something to fetch at `position`, as far as is known."""
        return self.next is not None and not self._at_end

    def goes_on_with(self, read: ReadState) -> bool:
        """Whether this is the next read: it begins where the last chunk ended."""
        return self.read is None and self.next is not None and read.start == self.next

    def told_ends(self, low: int, high: int) -> None:
        """Learn the log start and the log end (the offset of the record that is still to come)."""
        self._low, self._high = low, high
        if self.next is None or self.next < low:
            asked = self.read.start if self.read is not None else None
            self.next = self.position = max(low, self.next or asked or 0)
        self._at_end = self.position >= high
        self._doubts = self._doubts + 1 if self._at_end else 0
        if self._doubts >= DOUBTS:
            # Above the end: truncated, or another topic. What that means is the engine's to say.
            self.next = self.position = min(self.position, high)

    def take(self, record: StateRecord) -> None:
        """Buffer a fetched record; one that was fetched before is left out."""
        if record.offset >= self.position:
            self._records.append(record)
            self.buffered += len(record.value or b"")
            self.position = record.offset + 1
            self._at_end, self._doubts = False, 0

    def reached_end(self, offset: int) -> None:
        """Fetching came to the log's end, beyond markers and gaps."""
        if offset >= self.position:
            self.position, self._at_end = offset, True

    def lose_position(self) -> None:
        """The broker has no record at `position` any more: begin again where chunks ended."""
        self._records.clear()
        self.buffered = 0
        self.position = self.next or 0
        self._at_end = True

    def chunk(self) -> StateChunk | None:
        """The answer to what is asked, if there is one by now; nothing is asked any more then."""
        read = self.read
        if read is None or self.next is None:
            return None
        taken = self._cut(read.end)
        reached = self._records[0].offset if self._records else self.position
        next_offset = max(self.next, min(reached, read.end))
        if next_offset == self.next < read.end and self._doubts < DOUBTS:
            return None
        self.read, self.next, self._doubts = None, next_offset, 0
        return StateChunk(taken, next_offset, self._low, max(self._high, self.position))

    def _cut(self, end: int) -> list[StateRecord]:
        taken: list[StateRecord] = []
        records, size = self._records, 0
        while records and records[0].offset < end and len(taken) < MOST_RECORDS:
            bytes_of_it = len(records[0].value or b"")
            if taken and size + bytes_of_it > MOST_BYTES:
                break
            size += bytes_of_it
            taken.append(records.popleft())
        self.buffered -= size
        return taken
