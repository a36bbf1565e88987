"""From where a restart has to read the state topic again, although the store has what was accepted.

The store keeps what was accepted, not what was only attempted. So the log is read again from the
first announcement of which an event may still be without an outcome: our own ones, and those of
owners before, whose events are read again from the source or the retry topic.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.event import Item
    from consumer.offsets import Partition


class _Announced(NamedTuple):
    """An `attempted` record, and the last source offset of the events in it."""

    offset: int
    owner: Partition
    last: int


class Floor:
    """The lowest offset of a state partition that a restart needs.

    `owners` is the live list of the partitions whose events are remembered there: the source's
    and the retry topic's.
    """

    def __init__(self, owners: Sequence[Partition]) -> None:
        self._owners = owners
        self._earlier: int | None = None  # of an earlier owner, until its attempts are over
        self._inherited = False  # whether an earlier owner left attempts without an outcome
        self._ends: list[tuple[Partition, int]] = []
        self._parked: dict[Partition, int] = {}  # up to where events with such attempts stand
        self._announced: deque[_Announced] = deque()

    def begin(self, offset: int | None) -> None:
        """The log is read from here; None: from its start, wherever that is."""
        self._earlier = offset

    def foreign(self, offset: int) -> None:
        """Somebody else announced at this offset."""
        if self._earlier is None:
            self._earlier = offset
        self._ends.clear()

    def inherit(self) -> None:
        """An earlier owner left attempts without an outcome: their events will be read again."""
        self._inherited = True

    def announced(self, offset: int, lasts: Mapping[Partition, int]) -> None:
        """We announced at this offset events up to these of their partitions."""
        self._drop_settled()
        for owner, last in lasts.items():
            insort(self._announced, _Announced(offset, owner, last), key=attrgetter("offset"))

    def parked(self, item: Item, retry: Partition, offset: int) -> None:
        """An event that TikTok may have stands in the retry topic: the floor waits for it there."""
        if self._earlier is not None:
            self._parked[retry] = max(offset, self._parked.get(retry, offset))
        for at, (begun, owner, last) in enumerate(self._announced):
            if owner is item.owner and last >= item.record.offset:
                there = _Announced(begun, retry, offset)
                if at + 1 < len(self._announced) and self._announced[at + 1][:2] == there[:2]:
                    last = max(offset, self._announced[at + 1].last)  # noqa: PLW2901  they share it
                    self._announced[at + 1] = there._replace(last=last)
                else:
                    self._announced.insert(at + 1, there)
                break

    def below(self, position: int, *, ready: bool) -> int:
        """The floor of a store that has reached this position; `ready`: its owner works."""
        self._drop_settled()
        if ready and self._earlier is not None and self._has_caught_up():
            self._earlier = None
            self._parked.clear()
        floor = position if self._earlier is None else min(position, self._earlier)
        return min(floor, self._announced[0].offset) if self._announced else floor

    def close(self) -> None:
        """The partition is no longer ours."""
        self._announced.clear()

    def _drop_settled(self) -> None:
        """Announces are of no more interest when all up to the last of their events has settled."""
        while self._announced:
            _, owner, last = self._announced[0]
            if owner.active and owner.watermark <= last:
                break
            self._announced.popleft()

    def _has_caught_up(self) -> bool:
        """Whether all that an earlier owner may have attempted has been read again and settled."""
        if any(retry.active and retry.watermark <= at for retry, at in self._parked.items()):
            return False
        if not self._inherited:
            return True
        if not self._ends:
            # A partition of a retry topic that was made again has a successor.
            owners = [owner for owner in self._owners if owner.active]
            if any(owner.high is None for owner in owners):
                return False
            self._ends = [(owner, owner.high or 0) for owner in owners]
        return all(owner.watermark >= end for owner, end in self._ends if owner.active)
