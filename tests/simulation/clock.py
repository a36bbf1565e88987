"""The simulated clock: what is to happen, in the order of its times."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """One time for everybody, in seconds from the beginning; it moves from event to event.

    What is due at the same time happens in the order in which it was put there, so that a run can
    be repeated.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Something is to happen at a time; what lies in the past happens now."""
        self._order += 1
        heapq.heappush(self._queue, (max(when, self.now), self._order, what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Something is to happen so many seconds from now."""
        self._order += 1
        heapq.heappush(self._queue, (self.now + seconds, self._order, what))

    def run(self, until: float) -> None:
        """Lets everything happen that is due until then."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, what = heapq.heappop(queue)
            self.events += 1
            what()
        self.now = until
