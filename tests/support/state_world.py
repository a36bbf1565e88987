"""The state topic and the local stores of a small world: in memory, answering at once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumer.messages import StateChunk, StateRecord
from consumer.offsets import CommitOffset, Partition
from consumer.state_log import StateLog
from consumer.state_phases import StateRules
from consumer.state_records import StateValue, decode, encode, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.event import TopicPartition
    from consumer.messages import Marks, Reached, ReadState

CHUNK = 5
"""Records in one chunk: few, so that a rebuild takes several."""


def ready_partition(
    tp: TopicPartition, position: int, committed: CommitOffset | None, **fields: object
) -> Partition:
    """A partition whose memory is complete."""
    state = StateLog(tp, "state", bytes(16), None, None, StateRules(), itertools.count(1))
    state.ready = True
    partition = Partition(tp, position, committed, state=state, **fields)  # type: ignore[arg-type]  # as given
    state.owners.append(partition)
    return partition


@dataclass
class StateTopic:
    """The partitions of state topics: records by offset, which may have gaps (markers)."""

    logs: dict[TopicPartition, dict[int, StateRecord]] = field(default_factory=dict)
    starts: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)

    def append(self, tp: TopicPartition, value: bytes | None, now_ms: int) -> int:
        """Appends a record; its offset."""
        offset = self.ends.get(tp, 0)
        self.logs.setdefault(tp, {})[offset] = StateRecord(offset, now_ms, value)
        self.ends[tp] = offset + 1
        return offset

    def add(self, tp: TopicPartition, value: StateValue, now_ms: int) -> int:
        """Appends a record that says this; its offset."""
        return self.append(tp, encode(value), now_ms)

    def skip(self, tp: TopicPartition, offsets: int = 1) -> None:
        """Offsets without a record, as the markers of transactions leave them."""
        self.ends[tp] = self.ends.get(tp, 0) + offsets

    def delete_before(self, tp: TopicPartition, offset: int) -> None:
        """Retention deletes what lies below an offset."""
        self.starts[tp] = offset
        self.logs[tp] = {o: r for o, r in self.logs.get(tp, {}).items() if o >= offset}

    def truncate(self, tp: TopicPartition, offset: int) -> None:
        """The log loses what lies from an offset on (an unclean leader election)."""
        self.ends[tp] = offset
        self.logs[tp] = {o: r for o, r in self.logs.get(tp, {}).items() if o < offset}

    def chunk(self, wanted: ReadState) -> StateChunk:
        """What a read gets."""
        _, tp, start, end = wanted
        low, high = self.starts.get(tp, 0), self.ends.get(tp, 0)
        at = low if start is None else max(start, low)
        if at > high:
            return StateChunk((), high, low, high)
        records: list[StateRecord] = []
        log = self.logs.get(tp, {})
        while at < min(end, high) and len(records) < CHUNK:
            if at in log:
                records.append(log[at])
            at += 1
        return StateChunk(records, at, low, high)

    def values(self, tp: TopicPartition) -> list[StateValue]:
        """What its records say, those that are ours."""
        records = self.logs.get(tp, {}).values()
        return [value for r in records if (value := decode(r.value)) is not None]


@dataclass
class MemoryStores:
    """The local stores: keys with their acceptance, and how far each has come."""

    keys: dict[tuple[TopicPartition, bytes], int] = field(default_factory=dict)
    reached: dict[TopicPartition, Reached] = field(default_factory=dict)

    def mark(self, tp: TopicPartition, marks: Sequence[Marks], reached: Reached) -> None:
        """Writes acceptances, and how far the store has come with them."""
        for accepted_ms, keys in marks:
            self.keys.update({(tp, key): accepted_ms for key in split(keys)})
        self.reached[tp] = reached

    def wipe(self, tp: TopicPartition) -> None:
        """The directory is gone."""
        self.keys = {key: at for key, at in self.keys.items() if key[0] != tp}
        self.reached.pop(tp, None)
