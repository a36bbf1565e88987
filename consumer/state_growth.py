"""What the other partitions of a state topic have, where its source has grown.

A key may have been in any of them before, and its producers are in ours now: what was accepted
there counts here, too.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from consumer.event import TopicPartition
from consumer.messages import Marks
from consumer.state_records import Kind, decode

if TYPE_CHECKING:
    from consumer.event import Instant
    from consumer.messages import StateChunk
    from consumer.state_records import StateValue


class Growth:
    """The reading of the others, one after the other, each from its start.

    Args:
        own: Our partition of the state topic.
        window_ms: For so many milliseconds an acceptance, and what is said of growth, counts.
    """

    def __init__(self, own: TopicPartition, window_ms: int) -> None:
        self._own = own
        self._window_ms = window_ms
        self._told: tuple[int, int] | None = None  # where our log says so, and how many there are
        self._left: deque[TopicPartition] = deque()
        self.next_offset: int | None = None
        """What of the one that is read comes next; None: its start."""

    @property
    def is_told(self) -> bool:
        """Whether our log says of growth, and not all of the others are read."""
        return self._told is not None

    @property
    def reading(self) -> TopicPartition | None:
        """The one that is to be read now."""
        return self._left[0] if self._left else None

    def tell(self, offset: int, value: StateValue, now: Instant) -> None:
        """Our log says at this offset that the source has grown."""
        if now.wall_ms - value.time_ms < self._window_ms:
            self._told = offset, value.partitions

    def begin(self) -> bool:
        """Begins to read what there is to be read; false if that is nothing."""
        if self._told is not None:
            topic, own = self._own
            self._left = deque(TopicPartition(topic, p) for p in range(self._told[1]) if p != own)
        if not self._left:
            self._told = None
        return bool(self._left)

    def stop(self) -> None:
        """The memory is taken over anew, and so is this."""
        self._left.clear()
        self.next_offset = None

    def read(self, chunk: StateChunk, now: Instant) -> list[Marks]:
        """What was accepted in another partition, as far as it is not too old."""
        self.next_offset = chunk.next_offset
        if not chunk.records and chunk.next_offset >= chunk.log_end:
            self._left.popleft()
            self.next_offset = None
            if not self._left:
                self._told = None
        oldest = now.wall_ms - self._window_ms
        return [
            Marks(accepted_ms, value.keys)
            for _, timestamp, raw in chunk.records
            if (value := decode(raw)) is not None and value.kind is Kind.ACCEPTED
            if (accepted_ms := max(value.time_ms, timestamp)) > oldest and value.keys
        ]

    def before(self, position: int) -> int:
        """Not beyond where the log says of growth: after a crash that is to be read again."""
        return position if self._told is None else min(position, self._told[0])
