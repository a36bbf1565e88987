"""When offsets are committed, and what became of it.

One commit is in the air at a time. A failed one (a rebalance, say) leaves its partitions to the
next; one that is never answered is given up after a while.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from consumer.messages import Commit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumer.event import TopicPartition
    from consumer.offsets import CommitOffset, Partition
    from consumer.source_events import CommitResult

ANSWER_LOST_SECONDS = 60.0
"""After this long without an answer a commit is made again."""


class Commits:
    """The commits of one process, at most every `interval` seconds."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next_at = -math.inf
        self._asked_at: float | None = None
        self._asked: dict[TopicPartition, tuple[Partition, CommitOffset]] = {}

    def due(self, partitions: Iterable[Partition], now: float) -> Commit | None:
        """The commit to make now (seconds), if it is time and anything has progressed."""
        if now < self._next_at:
            return None
        if self._asked_at is not None:
            if now < self._asked_at + ANSWER_LOST_SECONDS:
                return None
            for unanswered, _ in self._asked.values():
                unanswered.progressed = True
        self._next_at = now + self._interval
        self._asked = {
            partition.tp: (partition, offset)
            for partition in partitions
            if partition.progressed
            and not partition.draining
            and (offset := partition.to_commit()) is not None
        }
        if not self._asked:
            return None
        self._asked_at = now
        return Commit({tp: asked for tp, (_, asked) in self._asked.items()})

    def answered(self, results: Iterable[CommitResult]) -> None:
        """What became of commits.

        Only the answer to the commit that this assignment asked for says anything about it: an
        earlier assignment's, or one that the source made by itself, changes nothing.
        """
        for result in results:
            asked = self._asked.get(result.tp)
            if asked is None or asked[1].offset != result.offset:
                continue
            del self._asked[result.tp]
            if result.error is None:
                asked[0].committed = asked[1]
            else:
                asked[0].progressed = True
        if not self._asked:
            self._asked_at = None

    def wake_at(self, partitions: Iterable[Partition]) -> float:
        """When `due` has something to do: seconds, infinity for not before an input."""
        if self._asked_at is not None:
            return self._asked_at + ANSWER_LOST_SECONDS
        return self._next_at if any(p.progressed for p in partitions) else math.inf
