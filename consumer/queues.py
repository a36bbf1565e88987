"""What waits for a destination: open batches, ready ones, and those that back off."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from consumer.batch import Batch, BatchLimits, Lane
from consumer.limits import Gates, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.event import Destination, Instant, Item


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Limits of delivery. All but the first two hold for a destination.

    `max_events_in_air`: with as many events in the air no further request goes, so that a
    destination which stops answering leaves the others their part of what the process may hold;
    `max_events_late`: the same while its answers are late.
    """

    batch: BatchLimits = field(default_factory=BatchLimits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    requests_per_second: float = 50.0
    max_concurrency: int = 32
    max_events_in_air: float = math.inf
    max_events_late: float = math.inf

    def sharing(self, max_in_flight_events: int, destinations: int) -> DeliverySettings:
        """These settings where so many destinations share what may be in flight.

        A quarter of it is in the air to one destination at most; to all that answer late together,
        another quarter, so that with what waits for them (`parking`) a paused source flows again.
        """
        if destinations == 1:
            return self
        quarter = max_in_flight_events / 4
        return replace(self, max_events_in_air=quarter, max_events_late=quarter / destinations)


LATE_SECONDS = 1.5
"""An answer that takes longer is late: TikTok's usual ones take a quarter of a second. So is its
destination, from when the answer is not there until another one comes in time."""


class Queue:
    """What waits for one destination: open batches, ready ones, and those that back off."""

    def __init__(self, destination: Destination, settings: DeliverySettings) -> None:
        self.destination = destination
        self.gates = Gates(settings.requests_per_second, settings.max_concurrency)
        self.lanes: dict[str | None, Lane] = {}
        self.ready: deque[Batch] = deque()
        self.retrying: list[tuple[float, int, Batch]] = []
        self.announcing = 0
        self.events_in_air = 0
        self._air: dict[int, tuple[float, int]] = {}
        self._is_late = False
        self._max_events_in_air = settings.max_events_in_air
        self._max_events_late = settings.max_events_late
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
            not self.gates.hold.is_open
            or self.gates.in_flight + self.announcing >= self.gates.concurrency.limit
        ):
            return math.inf
        if self._air and self._is_too_much(now):
            return math.inf
        return self.gates.ready_at(now)

    def goes(self, handle: int, events: int, now: float) -> None:
        """A request of so many events goes (seconds); to be called when `ready_at` said now."""
        self._air[handle] = now, events
        self.events_in_air += events
        self.gates.start(now)

    def came_back(self, handle: int, now: float) -> None:
        """That request is over; what came of it follows."""
        started, events = self._air.pop(handle)
        self.events_in_air -= events
        self._is_late = now - started > LATE_SECONDS
        self.gates.finish(started)

    def opened(self, now: float) -> None:
        """The gate has opened again (seconds): what backs off need not wait any longer."""
        self.retrying = [(min(at, now), order, batch) for at, order, batch in self.retrying]
        heapq.heapify(self.retrying)

    def _is_too_much(self, now: float) -> bool:
        """Whether the next batch beside those in the air would be more than may be there."""
        oldest, _ = next(iter(self._air.values()))
        late = self._is_late or now - oldest > LATE_SECONDS
        most = self._max_events_late if late else self._max_events_in_air
        return self.events_in_air + (len(self.ready[0].items) if self.ready else 1) > most

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

    def longest_wait(self, now: Instant) -> float:
        """Seconds for which the oldest batch has waited, for its turn or for its answer."""
        since = min([started for started, _ in self._air.values()], default=now.mono)
        batches = itertools.chain(
            itertools.islice(self.ready, 1), (batch for _, _, batch in self.retrying)
        )
        batched = [batch.items[0].batched or now for batch in batches]
        return now.mono - min([since, *(instant.mono for instant in batched)])

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
