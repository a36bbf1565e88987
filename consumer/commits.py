"""When offsets are committed, and what became of it.

One commit is in the air at a time. A failed one (a rebalance, say) leaves its partitions to the
next; one that is not answered in time is made again. A successful one proves that this process
was a member of the group when it was asked for.
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

ANSWER_SECONDS = 15.0
"""After this long without an answer a commit is made again."""

_REMEMBERED = 64
"""Commits whose time is known; the answer to one before that many proves nothing."""


class Commits:
    """The commits of one process, at most every `interval` seconds."""

    def __init__(self, interval: float, answer_within: float = ANSWER_SECONDS) -> None:
        self._interval = interval
        self._answer_within = answer_within
        self._next_at = -math.inf
        self._asked_at: float | None = None
        self._asked: dict[TopicPartition, tuple[Partition, CommitOffset]] = {}
        self._number = 0
        self._times: dict[int, float] = {}

    def due(
        self, partitions: Iterable[Partition], now: float, *, prove: bool = False
    ) -> Commit | None:
        """The commit to make now (seconds), if it is time and anything has progressed.

        To `prove` membership also what has not progressed is committed, as it stands.
        """
        if now < self._next_at:
            return None
        if self._asked_at is not None:
            if now < self._asked_at + self._answer_within:
                return None
            for unanswered, _ in self._asked.values():
                unanswered.progressed = True
        self._asked = {
            partition.tp: (partition, offset)
            for partition in partitions
            if (prove or (partition.progressed and not partition.draining))
            and partition.may_commit
            and (offset := partition.to_commit(repeated=prove)) is not None
        }
        if not self._asked:
            self._asked_at = None
            return None
        self._asked_at, self._next_at = now, now + self._interval
        self._number += 1
        self._times[self._number] = now
        self._times.pop(self._number - _REMEMBERED, None)
        return Commit({tp: asked for tp, (_, asked) in self._asked.items()}, self._number)

    def answered(self, results: Iterable[CommitResult]) -> float | None:
        """What became of commits; since when membership is proven by it (seconds), if it is.

        What an earlier commit or assignment asked for, or the source by itself, says nothing about
        the offsets; but a commit that was asked for here proves membership, however late.
        """
        proved: float | None = None
        for result in results:
            asked_at = self._times.get(result.number or 0)
            if result.error is None and asked_at is not None:
                proved = asked_at if proved is None else max(proved, asked_at)
            if result.number != self._number or result.tp not in self._asked:
                continue
            partition, offset = self._asked.pop(result.tp)
            if result.error is None:
                partition.committed = offset
            else:
                partition.progressed = True
        if not self._asked:
            self._asked_at = None
        return proved

    def forget(self, tp: TopicPartition) -> None:
        """A partition is no longer ours: what is said of its offsets concerns nobody."""
        self._asked.pop(tp, None)
        if not self._asked:
            self._asked_at = None

    def wake_at(self, partitions: Iterable[Partition], prove_at: float) -> float:
        """When `due` has something to do: seconds, infinity for not before an input.

        Membership is to be proven at `prove_at`.
        """
        if self._asked_at is not None:
            return max(self._next_at, self._asked_at + self._answer_within)
        if any(p.progressed and p.may_commit and not p.draining for p in partitions):
            return self._next_at
        return max(self._next_at, prove_at)
