"""Limits as values with a number: how many requests a second, how many at once, until when not.

Every limit is asked with the time in hand (`Instant.mono`, seconds) and answers at once; none of
them waits. A destination has all of its gates in `Gates`, and every attempt, a retry too, passes
them. What each of them is stands in a module of its own: `token_bucket` and `learned_rate`,
`concurrency`, `hold_gate`, `retry_budget`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol

from consumer.concurrency import Concurrency
from consumer.hold_gate import GateState, HoldGate
from consumer.learned_rate import LearnedRate
from consumer.retry_budget import RetryBudget
from consumer.token_bucket import TokenBucket

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


class Gates:
    """The gates of one destination: rate, concurrency, hold. Every attempt passes all of them.

    What comes back for an attempt goes to all of them, too. All times are seconds by a clock that
    never goes back.
    """

    def __init__(self, requests_per_second: float, max_concurrency: int) -> None:
        self._requests_per_second = requests_per_second
        self.bucket = TokenBucket(requests_per_second)
        self.rate = LearnedRate(requests_per_second)
        self.concurrency = Concurrency(max_concurrency)
        self.hold = HoldGate()
        self.budget = RetryBudget()
        self.in_flight = 0
        self.failures = 0
        """Attempts in a row that failed, whatever the gate: none was let in since."""
        self.failing: str | None = None
        """Why the last of them did."""

    def ready_at(self, now: float) -> float:
        """When the next request may go: `now`, a later time, or infinity (an answer must come)."""
        if self.in_flight >= self.concurrency.limit:
            return math.inf
        at = self.hold.ready_at(now)
        return at if at > now else self.bucket.ready_at(now)

    def start(self, now: float) -> None:
        """A request goes; to be called when `ready_at` said now."""
        self.bucket.take()
        self.hold.starts(now)
        self.in_flight += 1
        self.concurrency.started(self.in_flight)

    def finish(self, started: float) -> None:
        """A request begun at `started` is over; what came of it follows."""
        self.in_flight -= 1
        self.hold.ended(started)

    def accepted(self, now: float, started: float) -> bool:
        """A request begun at `started` was accepted; whether that opened the gate."""
        self.budget.accepted()
        self.concurrency.answered(now - started, now)
        return self.let_in(now, started)

    def let_in(self, now: float, started: float) -> bool:
        """A request begun at `started` was let in, whatever TikTok thinks of its events.

        Whether that opened the gate.
        """
        self.failures, self.failing = 0, None
        opened = self.hold.open(started)
        if opened:
            self.budget.opened()
        self.rate.accepted(now, started)
        self.bucket.change(self.rate.current, now)
        return opened

    def refused(
        self,
        state: GateState,
        reason: str,
        pause: float,
        now: float,
        started: float,
        *,
        own: bool = True,
    ) -> None:
        """A request begun at `started` was refused for all of the destination.

        One that is not its `own`, but another's with the same token, shuts the gate and says
        nothing about the rate: each learns from its own throttles, which come the more the more of
        the app's limit it takes. A throttle takes no places away: the rate keeps what is in the air
        within bounds, and places lost to stray ones would be few where some answers hang.
        """
        self.hold.close(state, reason, pause, now, started)
        if not own:
            self.rate.paused(now, started)
        elif state is GateState.THROTTLED and self.rate.throttled(now, started, pause):
            self.bucket.change(self.rate.current, now)

    def failed(
        self, reason: str, pause: float, now: float, started: float, *, slow: bool, asked: bool
    ) -> None:
        """A request begun at `started` failed, and will be repeated.

        The gate closes for `pause` seconds where failures have used up what may fail, or where
        TikTok `asked` for the pause. `slow`: its answer was waited for in vain.
        """
        self.failures, self.failing = self.failures + 1, reason
        if slow:
            self.concurrency.answered(now - started, now)
        if not self.hold.is_open:
            self.hold.probe_failed(pause, now, started)
            return
        self.budget.failed()
        if self.budget.spent or asked:
            self.hold.close(GateState.THROTTLED, reason, pause, now, started)
            self.concurrency.refused(now, started)

    def share(self, part: float, now: float) -> None:
        """This part of the destination's requests is ours to make: above 0, 1 at most."""
        ceiling = self._requests_per_second * part
        if ceiling != self.rate.ceiling:
            self.rate.scale(ceiling)
            self.bucket.change(self.rate.current, now)


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

    @property
    def pressed(self) -> bool:
        """Whether more than half is taken: a source paused now would not flow again."""
        return self.events * 2 > self.max_events or self.bytes * 2 > self.max_bytes

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
        if self.full and not self.pressed:
            self.full = False
