"""A token bucket: so many requests a second, evenly, with little at once."""

from __future__ import annotations

import math

BURST_SECONDS = 0.01
"""Beside one request, this many seconds' worth may go at once: a wake-up that comes late by as much
costs no place."""


class TokenBucket:
    """A ceiling of `rate` requests a second."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._tokens = self.capacity
        self._counted_at = -math.inf

    @property
    def capacity(self) -> float:
        """How many requests may go at once."""
        return 1.0 + self.rate * BURST_SECONDS

    def change(self, rate: float, now: float) -> None:
        """From now on (seconds) the ceiling is another one."""
        if rate != self.rate:
            self._refill(now)
            self.rate = rate
            self._tokens = min(self._tokens, self.capacity)

    def ready_at(self, now: float) -> float:
        """When a request may go: `now` or later."""
        self._refill(now)
        return now if self._tokens >= 1.0 else now + (1.0 - self._tokens) / self.rate

    def take(self) -> None:
        """Takes the place of one request. To be called when `ready_at` said now."""
        self._tokens -= 1.0

    def _refill(self, now: float) -> None:
        elapsed = now - self._counted_at
        if elapsed > 0:
            # A tiny surplus, so that waking exactly at `ready_at` finds a whole token.
            gained = min(elapsed * self.rate + 1e-9, self.capacity)
            self._tokens = min(self.capacity, self._tokens + gained)
            self._counted_at = now
