"""What waits for a destination: open batches, ready ones, and those that back off."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumer.batch import Batch, BatchLimits, Lane
from consumer.limits import Gates, GateState, RetryPolicy, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.event import Destination, Item


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Limits of delivery. `requests_per_second` and `max_concurrency` hold for a destination."""

    batch: BatchLimits = field(default_factory=BatchLimits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    requests_per_second: float = 50.0
    max_concurrency: int = 32


class Queue:
    """What waits for one destination: open batches, ready ones, and those that back off."""

    def __init__(self, destination: Destination, settings: DeliverySettings) -> None:
        self.destination = destination
        self.gates = Gates(TokenBucket(settings.requests_per_second), settings.max_concurrency)
        self.lanes: dict[str | None, Lane] = {}
        self.ready: deque[Batch] = deque()
        self.retrying: list[tuple[float, int, Batch]] = []
        self.announcing = 0
        self._batch_limits = settings.batch

    def lane(self, test_event_code: str | None) -> Lane:
        """The lane of a test code; made when first asked for."""
        lane = self.lanes.get(test_event_code)
        if lane is None:
            lane = Lane(self.destination, test_event_code, self._batch_limits)
            self.lanes[test_event_code] = lane
        return lane

    def ready_at(self, now: float) -> float:
        """When the next batch may go: `now`, a later time, or infinity (something must come).

        Batches that are being announced have their places already, also that of a probe.
        """
        if self.announcing and (
            self.gates.hold.state is not GateState.OPEN
            or self.gates.in_flight + self.announcing >= self.gates.concurrency
        ):
            return math.inf
        return self.gates.ready_at(now)

    def close_due(self, now: float) -> None:
        """Closes batches whose linger is over, where they can go at once.

        Behind others, or at a closed gate, they wait anyway: there they go on growing. Lanes of
        passing test codes are forgotten.
        """
        if self.ready or self.ready_at(now) > now:
            return
        for code, lane in list(self.lanes.items()):
            if (batch := lane.due(now)) is not None:
                self.ready.append(batch)
            if not lane.items and code != self.destination.test_event_code:
                del self.lanes[code]  # codes come with the events: any number of them

    def close_all(self) -> None:
        """Closes every open batch, whatever its age."""
        self.ready.extend(b for lane in self.lanes.values() if (b := lane.close()) is not None)

    def waiting(self) -> Iterator[list[Item]]:
        """Every list of events that waits here, open batches included."""
        yield from (lane.items for lane in self.lanes.values())
        yield from (batch.items for batch in self.ready)
        yield from (batch.items for _, _, batch in self.retrying)

    def wake_at(self, now: float) -> float:
        """When something can go on without an input: seconds, infinity for never."""
        if self.ready:
            at = self.ready_at(now)
        else:
            due = (lane.due_at for lane in self.lanes.values() if lane.due_at is not None)
            at = min(due, default=math.inf)
            if at < math.inf:
                at = max(at, self.ready_at(now))
        if self.retrying:
            at = min(at, self.retrying[0][0])
        return at

    def idle(self) -> bool:
        """Whether nothing waits here."""
        return not self.ready and not self.retrying
