"""Which destinations are too slow for what comes, so that their backlog must not stop the others.

A destination that takes requests, but fewer than its events would fill, has a backlog that grows
until it is all that the process may hold. It counts as slow while the bounds are pressed, more than
its share waits, and the oldest has waited for longer than `SLOW_SECONDS`, for its turn or for an
answer. One that keeps pace has its turn in a fraction of that, however busy the process is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.event import Destination, Instant
    from consumer.limits import InFlight
    from consumer.queues import Queue

SLOW_SECONDS = 1.5
"""For so long the oldest event of a slow destination has waited."""

LOOK_SECONDS = 0.05
"""Between two looks."""


class Slowness:
    """Knows which destinations are slow: `destinations`.

    One is from more than its share waiting (of the events, or of the bytes where these are what is
    short) until half of that is left.
    """

    def __init__(self, share_events: int, share_bytes: int) -> None:
        self._share_events = share_events
        self._share_bytes = share_bytes
        self._look_at = -math.inf
        self.destinations: set[Destination] = set()

    def watch(self, now: Instant, queues: Mapping[Destination, Queue], load: InFlight) -> None:
        """Looks at the queues; `load` is what the process holds."""
        if not (load.pressed or self.destinations) or now.mono < self._look_at:
            return
        self._look_at = now.mono + LOOK_SECONDS
        for destination, queue in queues.items():
            share = self._share_of(queue, load)
            if share <= _ENOUGH:
                self.destinations.discard(destination)
            elif load.pressed and share > 1.0 and queue.longest_wait(now) > SLOW_SECONDS:
                self.destinations.add(destination)

    def _share_of(self, queue: Queue, load: InFlight) -> float:
        """What waits for a destination, in its shares."""
        events = sum([len(items) for items in queue.waiting()]) / self._share_events
        if load.bytes * 2 <= load.max_bytes:
            return events
        values = [item.record.value or b"" for items in queue.waiting() for item in items]
        return max(events, sum(map(len, values)) / self._share_bytes)


_ENOUGH = 0.5
