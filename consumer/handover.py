"""Partitions on their way to another member: drained by a deadline, or as far as can be.

A drain ends when everything has its outcome, at its deadline, or as soon as all that is left waits
for something beyond the deadline: a rebalance is not held up for a destination that is held.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from consumer.event import Item
    from consumer.messages import Released
    from consumer.offsets import Partition

CLOSE_GRACE = 0.5
"""Seconds that a hand-over which is done with everything else waits for its last words."""

LOOK_SECONDS = 0.1
"""How often a drain looks whether what is left can still move."""


@dataclass(slots=True, eq=False)
class HandOver:
    """Partitions that are to be handed over together, by a deadline (seconds)."""

    partitions: list[Partition]
    deadline: float
    handle: int


@dataclass(slots=True, eq=False)
class Closing:
    """Partitions let go of, handed over when these records are acknowledged, or at a time."""

    handles: set[int]
    deadline: float
    released: Released


class Closings:
    """Hand-overs that wait for their last words: that nothing of theirs is in the air.

    The next owner waits where it was not told. So the words are waited for, but not for long.
    """

    def __init__(self) -> None:
        self._waiting: list[Closing] = []

    def begin(self, handles: set[int], released: Released, *, deadline: float, now: float) -> None:
        """Partitions were let go of; these records say so (times in seconds)."""
        self._waiting.append(Closing(handles, max(deadline, now + CLOSE_GRACE), released))

    def acknowledged(self, handle: int) -> None:
        """The broker has one of the records."""
        for closing in self._waiting:
            closing.handles.discard(handle)

    def ended(self, now: float) -> list[Released]:
        """What can be handed over now."""
        done = [one for one in self._waiting if not one.handles or now >= one.deadline]
        self._waiting = [one for one in self._waiting if one not in done]
        return [one.released for one in done]

    def wake_at(self) -> float:
        """When the next is handed over in any case: seconds, infinity for none."""
        return min((one.deadline for one in self._waiting), default=math.inf)


class HandOvers:
    """The hand-overs under way.

    `stuck` names the items that cannot settle before a deadline (seconds), whatever happens.
    """

    def __init__(self, stuck: Callable[[float, float], Iterable[Item]]) -> None:
        self._stuck = stuck
        self._under_way: list[HandOver] = []
        self._look_at = math.inf

    def begin(self, hand_over: HandOver, now: float) -> None:
        """Partitions drain from now on."""
        self._under_way.append(hand_over)
        self._look_at = now

    def ended(self, now: float) -> list[HandOver]:
        """Those that are drained, or cannot be drained before their deadline."""
        if not self._under_way:
            return []
        look = now >= self._look_at
        ended = [one for one in self._under_way if self._has_ended(one, now, look=look)]
        self._under_way = [one for one in self._under_way if one not in ended]
        if not self._under_way:
            self._look_at = math.inf
        elif look:
            self._look_at = now + LOOK_SECONDS
        return ended

    def wake_at(self) -> float:
        """When to look again: seconds, infinity for not at all."""
        return self._look_at

    def _has_ended(self, one: HandOver, now: float, *, look: bool) -> bool:
        left = [partition for partition in one.partitions if partition.active and partition.pending]
        if not left or now >= one.deadline:
            return True
        return look and not self._can_move(left, one.deadline, now)

    def _can_move(self, left: list[Partition], deadline: float, now: float) -> bool:
        """Whether anything unsettled of these partitions can still settle by the deadline."""
        stuck: Counter[Partition] = Counter()
        for item in self._stuck(deadline, now):
            stuck[item.owner] += 1
            for waiter in item.waiters or ():
                stuck[waiter.owner] += 1
        return any(len(partition.pending) > stuck[partition] for partition in left)
