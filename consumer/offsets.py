"""Offsets: what was taken from a partition, what of it is unsettled, and what may be committed.

The committed offset never passes a record that has no outcome yet. Everything is counted by
offset and by assignment: results that belong to an earlier assignment of the same partition find
their `Partition` inactive and change nothing.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from consumer.commit_metadata import Span, decode, encode, settled_spans

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumer.event import Item, TopicPartition
    from consumer.source_events import AssignedPartition
    from consumer.state_log import StateLog


class CommitOffset(NamedTuple):
    """What is committed for a partition: the next offset to read, and metadata beside it."""

    offset: int
    metadata: str = ""


class Partition:
    """One assignment of one partition to this process, from assigned to handed over.

    `position` is the next offset to take, `high` the end of the partition as last seen. `holds`
    has the reasons for which the partition is paused, each with the handles of what waits; it
    flows again when the last of them ends. `progressed` says that there may be more to commit.
    `settled` are spans above the first position that have their outcome already, by the metadata
    of the commit it came from; `bound_to` ties our own metadata to the topic, None writes none.

    `state` is the memory of what was accepted. A partition of the retry topic shares it with the
    source partition that it is read `beside`, and which names it as its `retry`. `waiting` are
    items that are looked up when the memory is complete.
    """

    __slots__ = (
        "_bound_to",
        "_is_new",
        "_settled",
        "active",
        "beside",
        "committed",
        "draining",
        "high",
        "holds",
        "pending",
        "position",
        "progressed",
        "retry",
        "start_unknown",
        "state",
        "tp",
        "waiting",
    )

    def __init__(
        self,
        tp: TopicPartition,
        position: int,
        committed: CommitOffset | None,
        settled: Iterable[Span] = (),
        bound_to: bytes | None = None,
        *,
        state: StateLog,
        beside: Partition | None = None,
    ) -> None:
        self.tp = tp
        self.state = state
        self.beside = beside
        self.retry: Partition | None = None
        self.waiting: list[Item] = []
        self._settled = deque(settled)
        self._bound_to = bound_to
        self.position = position
        self.committed = committed
        self.high: int | None = None
        self.pending: dict[int, Item] = {}
        self.holds: dict[str, set[int]] = {}
        self.progressed = committed is None or committed.offset != position
        self.active = True
        self.draining = False
        self._is_new = False
        self.start_unknown = False

    @classmethod
    def taken_over(
        cls, one: AssignedPartition, state: StateLog, beside: Partition | None = None
    ) -> Partition:
        """A partition just assigned, with what the commit it comes from tells of it."""
        committed = None if one.committed is None else CommitOffset(one.committed, one.metadata)
        settled: Iterable[Span] = ()
        if one.bound_to is not None and one.committed == one.position:
            settled = decode(one.metadata, one.position, one.bound_to)
        partition = cls(
            one.tp, one.position, committed, settled, one.bound_to, state=state, beside=beside
        )
        if beside is not None:
            beside.retry = partition
        state.owners.append(partition)
        partition._is_new = one.committed is None and one.hold is None
        partition.start_unknown = one.committed is None and one.hold is not None
        return partition

    def __repr__(self) -> str:
        """Coordinates and state."""
        state = "active" if self.active else "handed over"
        name = f"{self.tp.topic}/{self.tp.partition}"
        return f"<Partition {name} {state} position={self.position} pending={len(self.pending)}>"

    def begin_at(self, settled_through: int) -> None:
        """Reading may begin: a group that has no offset any more goes on where it had come to.

        Where the broker tells no ids the topic may be another one by now, and is read as it stands.
        """
        if self._is_new and settled_through and self._bound_to is not None:
            self.position = settled_through
            self.progressed = True
        self._is_new = False

    def take(self, item: Item) -> bool:
        """Takes a record; false where it has its outcome, or was taken before (fetched twice)."""
        offset = item.record.offset
        if offset < self.position:
            return False
        self.position = offset + 1
        if self._settled and self._was_settled(offset):
            self.progressed = True
            return False
        self.pending[offset] = item
        return True

    def settle(self, offset: int) -> bool:
        """A record has its outcome; false where it had one already. Settling twice is harmless."""
        self.progressed = True
        return self.pending.pop(offset, None) is not None

    def hold(self, reason: str, handle: int) -> None:
        """Something of this partition waits: it is paused for this reason."""
        self.holds.setdefault(reason, set()).add(handle)

    def release(self, reason: str, handle: int) -> None:
        """What waited goes on; the reason ends with the last that waited for it."""
        waiting = self.holds.get(reason)
        if waiting is not None:
            waiting.discard(handle)
            if not waiting:
                del self.holds[reason]

    @property
    def watermark(self) -> int:
        """The offset to commit: all records below it are settled."""
        # Offsets are taken in rising order, so the first unsettled one is the lowest.
        return next(iter(self.pending), self.position)

    @property
    def unsettled_span(self) -> int:
        """How many offsets lie between the watermark and the position."""
        return self.position - self.watermark

    @property
    def source(self) -> Partition:
        """The source partition: itself, or the one it is read beside."""
        return self if self.beside is None else self.beside

    @property
    def may_commit(self) -> bool:
        """Whether its position is settled: a group without one may have to go on elsewhere.

        Not so in the retry topic, so that there is always something to prove membership with. Of
        one whose start the broker has not told the position is a guess: far below the group's.
        """
        if self.start_unknown:
            return False
        return self.committed is not None or self.state.ready or self.beside is not None

    def to_commit(self, *, repeated: bool = False) -> CommitOffset | None:
        """What to commit now; None where it would say nothing new, unless `repeated`."""
        self.progressed = False
        commit = CommitOffset(self.watermark, self._metadata())
        return None if commit == self.committed and not repeated else commit

    def _metadata(self) -> str:
        if self._bound_to is None:
            return ""
        base, position = self.watermark, self.position
        ahead = (Span(max(span.start, position), span.end) for span in self._settled)
        spans = chain(
            settled_spans(base, self.pending, position),
            (span for span in ahead if span.start < span.end),
        )
        return encode(base, spans, self._bound_to)

    def _was_settled(self, offset: int) -> bool:
        while self._settled and self._settled[0].end <= offset:
            self._settled.popleft()
        return bool(self._settled) and self._settled[0].start <= offset
