"""What the group's member finds out about partitions that it takes over, and those beside them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from consumer.event import TopicPartition
from consumer.fetching import Owned
from consumer.partition_reader import IDS_TIMEOUT
from consumer.position import Earliest
from consumer.source_events import AssignedPartition
from consumer.source_positions import PositionFinder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.partition_reader import PartitionReader
    from consumer.source_events import SourceSettings
    from consumer.source_positions import Found
    from consumer.topic_ids import TopicIds


class TakenOver(NamedTuple):
    """The partitions of one assignment, each of the source followed by the one beside it.

    `assigned` is for the listener, the rest for the threads that read them. `has_offset` names
    those that the group has an offset for.
    """

    sources: Mapping[TopicPartition, Owned]
    retries: Mapping[TopicPartition, Owned]
    has_offset: frozenset[TopicPartition]
    assigned: list[AssignedPartition]


class TakeOvers:
    """Asks the broker through the member's client; blocks, so it lives on the member's thread."""

    def __init__(self, settings: SourceSettings, ids: TopicIds, reader: PartitionReader) -> None:
        self._position_timeout = settings.position_timeout
        self._own_topics = settings.own_topics
        self._ids = ids
        self._positions = reader.positions
        self._retry_positions = PositionFinder(reader.consumer, Earliest(), may_be_missing=True)

    def beside(self, tp: TopicPartition) -> TopicPartition:
        """The partition of the retry topic that belongs to a source partition."""
        return TopicPartition(self._own_topics.retry_of(tp.topic), tp.partition)

    def find(
        self,
        tps: list[TopicPartition],
        epoch: int,
        known: Mapping[TopicPartition, Found] | None = None,
    ) -> TakenOver:
        """Find out where partitions of the source begin, unless it is `known`, and those beside."""
        deadline = time.monotonic() + self._position_timeout
        source_of = {self.beside(tp): tp for tp in tps}
        states = {self._own_topics.state_of(tp.topic) for tp in tps}
        topics = states.union(tp.topic for tp in (*tps, *source_of))
        bindings = self._ids.bindings(topics, IDS_TIMEOUT)
        found = dict(known or {})
        unknown = [tp for tp in tps if tp not in found]
        found |= self._positions.find(unknown, bindings, deadline)
        found |= self._retry_positions.find(source_of, bindings, deadline)
        owned = {
            tp: Owned(
                epoch=epoch,
                position=one.position.offset,
                hold=one.position.hold,
                high=one.high,
                start_unknown=one.unknown,
                bound_to=bindings.get(tp.topic),
                beside=source_of.get(tp),
            )
            for tp, one in found.items()
        }
        return TakenOver(
            {tp: owned[tp] for tp in tps},
            {tp: owned[tp] for tp in source_of},
            frozenset(tp for tp, one in found.items() if one.committed is not None),
            [
                self._assigned(tp, found[tp], owned[tp], bindings)
                for source in tps
                for tp in (source, self.beside(source))
            ],
        )

    def _assigned(
        self, tp: TopicPartition, found: Found, owned: Owned, bindings: Mapping[str, bytes]
    ) -> AssignedPartition:
        state_bound_to = None
        if owned.beside is None:
            state_bound_to = bindings.get(self._own_topics.state_of(tp.topic))
        return AssignedPartition(
            tp,
            found.position.offset,
            found.committed,
            found.position.hold,
            found.position.lost,
            found.metadata,
            owned.bound_to,
            owned.beside,
            state_bound_to,
        )
