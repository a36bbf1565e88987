"""From where a restart has to read the state topic again, although the store has what was accepted.

The store keeps what was accepted, not what was only attempted. So the log is read again from the
first announcement of which an event may still be without an outcome: our own ones, those of owners
before, whose events are read again from the source or the retry topic, and those of events that
ended without an outcome (given up, say), as long as another record with the key would count twice.
Those of the last two kinds would keep the floor down for days: now and then they are announced once
more, at the end of the log, and the floor rises to there.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from consumer.offsets import Partition


class _Announced(NamedTuple):
    """An `attempted` record, and the last source offset of the events in it."""

    offset: int
    owner: Partition
    last: int


class Floor:
    """The lowest offset of a state partition that a restart needs."""

    def __init__(self) -> None:
        self._earlier: int | None = None  # here or later are attempts that nobody here is about
        self._announced: deque[_Announced] = deque()
        self._rises_to: int | None = None  # when they are all announced once more; None: it stays
        self._saying_again: set[int] = set()  # handles of the records that do so

    def begin(self, offset: int | None) -> None:
        """The log is read from here; None: from its start, wherever that is."""
        self._earlier = offset
        self._rises_to = None

    def foreign(self, offset: int) -> None:
        """Somebody else announced at this offset."""
        self._rises_to = None
        if self._earlier is None:
            self._earlier = offset

    def announced(self, offset: int, lasts: Mapping[Partition, int]) -> None:
        """We announced at this offset events up to these of their partitions."""
        self._drop_settled()
        for owner, last in lasts.items():
            insort(self._announced, _Announced(offset, owner, last), key=attrgetter("offset"))

    def left(self) -> None:
        """An event of ours is about to end without an outcome."""
        self._rises_to = None
        if self._announced:
            first = self._announced[0].offset
            self._earlier = first if self._earlier is None else min(first, self._earlier)

    def behind(self, position: int) -> int:
        """How many offsets are read again for attempts that nobody here is about."""
        return 0 if self._earlier is None else position - self._earlier

    @property
    def is_rising(self) -> bool:
        """Whether attempts are being announced once more."""
        return bool(self._saying_again)

    def say_again(self, position: int, handles: Iterable[int]) -> None:
        """These attempts are about to be announced once more, at this offset or later."""
        self._rises_to = position
        self._saying_again.update(handles)
        self._rise()

    def said_again(self, handle: int) -> bool:
        """A record of ours has its turn; whether it says such attempts."""
        if handle not in self._saying_again:
            return False
        self._saying_again.discard(handle)
        self._rise()
        return True

    def unsaid(self, handle: int) -> bool:
        """A record of ours was not appended; whether it would have said such attempts."""
        if handle not in self._saying_again:
            return False
        self._saying_again.discard(handle)
        self._rises_to = None
        return True

    def _rise(self) -> None:
        """When all of them are said. They were all there are, if nothing came since."""
        if self._saying_again:
            return
        if self._rises_to is not None and self._earlier is not None:
            self._earlier = max(self._rises_to, self._earlier)
        self._rises_to = None

    def below(self, position: int, *, may_rise: bool) -> int:
        """The floor of a store that has reached this position.

        `may_rise`: its owner works, and no attempts matter but those of events that it is about.
        """
        self._drop_settled()
        if may_rise:
            self._earlier = None
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
