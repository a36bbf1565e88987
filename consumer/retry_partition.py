"""A partition of the retry topic: what may be in it that was not read yet, and when it is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from consumer.event import Destination
    from consumer.offsets import Partition

RETRY_WAITING = "retry_waiting"
"""Hold reason: as many parked events were read as may wait for destinations that are shut."""

PROBES, CROWD = -3, -4
"""Handles count from 1; these stand for one partition's events, and for those of all together."""


class RetryPartition:
    """What is known of a retry partition of ours.

    What lies between its position and its end, as last seen, may be anybody's (an earlier owner's,
    a replay's), but for the events that we put there ourselves since we took it over. `last` has
    for each destination the offset of the last of those.

    `stuck` counts the events read of it that wait for shut destinations, without those that are on
    their way back to its tail, which are `leaving`. `seen` is its position when they were counted.
    """

    __slots__ = ("_end", "_unknown_below", "last", "leaving", "partition", "seen", "stuck")

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.last: dict[Destination, int] = {}
        self.stuck = 0
        self.leaving = 0
        self.seen = -1
        self._end: int | None = None
        self._unknown_below = 0

    def __repr__(self) -> str:
        """Coordinates and counts."""
        return f"<RetryPartition {self.partition!r} stuck={self.stuck} leaving={self.leaving}>"

    def reaches(self, high: int, *, writing: bool) -> None:
        """Its end was seen. While we are `writing`, what is new there may be our own."""
        if self._end is None or (high > self._end and not writing):
            self._end = self._unknown_below = high

    def put(self, offset: int, destination: Destination) -> None:
        """We put an event there. What lies between it and the end known before is not ours."""
        if self._end is None or offset > self._end:
            self._unknown_below = offset
        self._end = max(offset + 1, self._end or 0)
        self.last[destination] = max(offset, self.last.get(destination, offset))

    def may_hold(self, destinations: AbstractSet[Destination]) -> bool:
        """Whether an event of one of these may be among what was not read yet."""
        position = self.partition.position
        if position < self._unknown_below:
            return bool(destinations)
        return any(at >= position and d in destinations for d, at in self.last.items())

    def blocks(self, limit: int) -> bool:
        """Whether it is not read on, or will not be, with `limit` events that may wait."""
        return self.stuck >= limit or RETRY_WAITING in self.partition.holds

    def hold_or_release(self, limit: int) -> None:
        """Holds it when `limit` events of it wait, until half of them have gone."""
        if self.stuck >= limit:
            self.partition.hold(RETRY_WAITING, PROBES)
        elif self.stuck * 2 <= limit:
            self.partition.release(RETRY_WAITING, PROBES)
