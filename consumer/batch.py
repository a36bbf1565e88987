"""Batches: events that may share a request, closed by number, size or age.

TikTok's request carries source, source id and test code once (and the token goes with the
destination), so a batch holds only events that agree in them. At most 1,000 events a request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consumer.event import Destination, Item

ENVELOPE_BYTES = 512
"""Room in `max_bytes` for what surrounds the events of a request."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch closes: `linger` in seconds, counted from its first event."""

    max_events: int = 1000
    max_bytes: int = 1 << 20
    linger: float = 0.25


@dataclass(slots=True, eq=False)
class Trail:
    """What all parts of one refused request share. `misled`: a place it named was a wrong one."""

    misled: bool = False


@dataclass(slots=True, eq=False)
class Batch:
    """Events that go in one request, in the order they came.

    `failures` counts attempts that ended in a retry, so back-off grows; a part of a split batch
    starts again at 0, because it is a new request to TikTok. `doubted`: the memory of one of its
    partitions was in question meanwhile, so its events are looked up again before they are sent.
    `named`: its only event was named as the guilty one of a larger batch.
    """

    destination: Destination
    test_event_code: str | None
    items: list[Item]
    failures: int = 0
    doubted: bool = False
    named: bool = False
    trail: Trail = field(default_factory=Trail)

    def halves(self) -> tuple[Batch, Batch]:
        """Two new batches, for finding a guilty event by bisection."""
        middle = len(self.items) // 2
        return self.part(self.items[:middle]), self.part(self.items[middle:])

    def part(self, items: list[Item]) -> Batch:
        """A new batch of some of these events."""
        return Batch(
            self.destination, self.test_event_code, items, doubted=self.doubted, trail=self.trail
        )


class Lane:
    """The open batch of one destination and test code."""

    def __init__(
        self, destination: Destination, test_event_code: str | None, limits: BatchLimits
    ) -> None:
        self._destination = destination
        self._test_event_code = test_event_code
        self._max_events = limits.max_events
        self._max_bytes = limits.max_bytes - ENVELOPE_BYTES
        self._linger = limits.linger
        self.items: list[Item] = []
        self._bytes = 0
        self.due_at: float | None = None

    def add(self, item: Item, size: int, now: float) -> Batch | None:
        """Adds an event of `size` bytes; the batch that is thereby closed comes back.

        An event that would burst `max_bytes` closes the batch before it and opens the next one.
        """
        closed = None
        size += 1  # the comma
        if self._bytes + size > self._max_bytes and self.items:
            closed = self.close()
        self.items.append(item)
        self._bytes += size
        if len(self.items) < self._max_events:
            if self.due_at is None:
                self.due_at = now + self._linger
            return closed
        if closed is None:
            return self.close()
        self.due_at = now  # two batches closed at once: batches of one event; this one is due
        return closed

    def due(self, now: float) -> Batch | None:
        """The open batch, if its time has come (`now` in seconds)."""
        return self.close() if self.due_at is not None and now >= self.due_at else None

    def close(self) -> Batch | None:
        """The open batch, whatever its age; None if there is none."""
        items = self.items
        self.items, self._bytes, self.due_at = [], 0, None
        return Batch(self._destination, self._test_event_code, items) if items else None
