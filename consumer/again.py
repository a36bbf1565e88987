"""What is tried again later: actions that failed, each with growing pauses, until they succeed."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.limits import Random, RetryPolicy
    from consumer.messages import Action


class Again:
    """Actions put up for another try. `patience` gives the pauses, `rng` their jitter."""

    def __init__(self, patience: RetryPolicy, rng: Random) -> None:
        self._patience = patience
        self._rng = rng
        self._later: list[tuple[float, int, Action]] = []
        self._order = itertools.count()
        self._failures: Counter[int] = Counter()

    def at(self, when: float, action: Action) -> None:
        """Puts an action up for a time (seconds)."""
        heapq.heappush(self._later, (when, next(self._order), action))

    def failed(self, handle: int, action: Action, now: float) -> None:
        """An action failed: it is put up again, later with every failure of its handle."""
        self._failures[handle] += 1
        self.at(now + self._patience.pause(self._failures[handle], self._rng), action)

    def succeeded(self, handle: int) -> None:
        """An action is done with, whichever way: its failures are forgotten."""
        self._failures.pop(handle, None)

    def due(self, now: float) -> Iterator[Action]:
        """The actions whose time has come, in order; each comes once."""
        while self._later and self._later[0][0] <= now:
            yield heapq.heappop(self._later)[2]

    def beyond(self, deadline: float) -> Iterator[Action]:
        """The actions that will not be tried before a deadline (seconds)."""
        return (action for at, _, action in self._later if at > deadline)

    def wake_at(self) -> float:
        """When the next action is due: seconds, infinity for none."""
        return self._later[0][0] if self._later else math.inf
