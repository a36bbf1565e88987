"""Limits as values with a number: how many requests a second, how many at once, until when not.

Every limit is asked with the time in hand (`Instant.mono`, seconds) and answers at once; none of
them waits. A destination has all three of its gates in `Gates`, and every attempt, a retry too,
passes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from consumer.event import Instant


class Random(Protocol):
    """A source of uniform numbers in [0, 1): seeded in a simulation."""

    def random(self) -> float:
        """The next number."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How attempts are repeated: seconds. `give_up_after` counts from the first unknown outcome."""

    initial: float = 0.5
    maximum: float = 60.0
    give_up_after: float = 24 * 3600.0

    def pause(self, failures: int, rng: Random) -> float:
        """Exponential back-off with full jitter after `failures` failures in a row (from 1)."""
        ceiling = min(self.maximum, self.initial * 2.0 ** min(failures - 1, 32))
        return ceiling * rng.random()


def retry_after_seconds(header: str | None, now: Instant) -> float | None:
    """Seconds that a `Retry-After` header asks for, in either form (RFC 9110); None if unreadable.

    More than an hour is taken as an hour, so that a broken clock on the other side ends.
    """
    if header is None:
        return None
    text = header.strip()
    try:
        if text.isascii() and text.isdigit():
            seconds = float(text[:10])
        else:
            seconds = parsedate_to_datetime(text).timestamp() - now.wall_ns / 1e9
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


_LONGEST_RETRY_AFTER = 3600.0


class TokenBucket:
    """A ceiling of `rate` requests a second; a tenth of a second's worth may go at once."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._capacity = max(1.0, rate / 10)
        self._tokens = self._capacity
        self._counted_at = -math.inf

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
            gained = min(elapsed * self.rate + 1e-9, self._capacity)
            self._tokens = min(self._capacity, self._tokens + gained)
            self._counted_at = now


class GateState(StrEnum):
    """Whether a destination takes requests."""

    OPEN = "open"
    THROTTLED = "throttled"
    HELD = "held"


@dataclass(slots=True)
class HoldGate:
    """Closed until a time, then open for one probe; a probe that succeeds opens it.

    `failures` counts the closings in a row, one for all requests that were in the air together.
    """

    state: GateState = GateState.OPEN
    reason: str | None = None
    until: float = 0.0
    failures: int = 0
    _closed_at: float = -math.inf
    _probing: bool = False

    def ready_at(self, now: float) -> float:
        """When a request may go; infinity while a probe is out."""
        if self.state is GateState.OPEN:
            return now
        return math.inf if self._probing else max(now, self.until)

    def starts(self) -> None:
        """A request goes."""
        if self.state is not GateState.OPEN:
            self._probing = True

    def close(
        self, state: GateState, reason: str, pause: float, now: float, started: float
    ) -> None:
        """A request that started at `started` was refused: nothing goes for `pause` seconds.

        A request from before the last closing says nothing new, but may ask for a longer pause.
        So does one from the same instant: the probe goes later, whatever the pause.
        """
        if started > self._closed_at:
            self.failures += 1
            self._closed_at = now
            self._probing = False
            self.until = now + pause
        else:
            self.until = max(self.until, now + pause)
        if self.state is not GateState.HELD or state is GateState.HELD:
            self.state, self.reason = state, reason

    def next_failure(self, started: float) -> int:
        """The number in a row that a refusal of a request begun at `started` has."""
        return self.failures + 1 if started > self._closed_at else max(self.failures, 1)

    def probe_failed(self, pause: float, now: float, started: float) -> None:
        """A probe came to nothing (a time-out, say): the next one after `pause` seconds."""
        if self._probing and started > self._closed_at:
            self._probing = False
            self.until = now + pause

    def open(self, started: float) -> None:
        """A request that started at `started` was let in by TikTok."""
        if self.state is not GateState.OPEN and started > self._closed_at:
            self.state, self.reason = GateState.OPEN, None
            self.until, self.failures, self._probing = 0.0, 0, False


@dataclass(slots=True)
class Gates:
    """The gates of one destination: rate, concurrency, hold."""

    bucket: TokenBucket
    concurrency: int
    hold: HoldGate = field(default_factory=HoldGate)
    in_flight: int = 0

    def ready_at(self, now: float) -> float:
        """When the next request may go: `now`, a later time, or infinity (an answer must come)."""
        if self.in_flight >= self.concurrency:
            return math.inf
        at = self.hold.ready_at(now)
        return at if at > now else self.bucket.ready_at(now)

    def start(self) -> None:
        """A request goes; to be called when `ready_at` said now."""
        self.bucket.take()
        self.hold.starts()
        self.in_flight += 1

    def finish(self) -> None:
        """A request is over, whatever came of it."""
        self.in_flight -= 1


@dataclass(slots=True)
class InFlight:
    """What the process holds, against its bounds: full at 100 %, taking again at 50 %.

    Pausing a source throws its prefetch away, so it is done seldom and for long.
    """

    max_events: int
    max_bytes: int
    events: int = 0
    bytes: int = 0
    full: bool = False

    def add(self, events: int, size: int) -> None:
        """Records were taken from the source."""
        self.events += events
        self.bytes += size
        if self.events >= self.max_events or self.bytes >= self.max_bytes:
            self.full = True

    def remove(self, events: int, size: int) -> None:
        """Records were settled or given up."""
        self.events -= events
        self.bytes -= size
        if self.full and self.events * 2 <= self.max_events and self.bytes * 2 <= self.max_bytes:
            self.full = False
