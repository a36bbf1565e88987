"""TikTok's limits of requests per second: of an app and of a pixel, both at once.

A request that one of them refuses costs nothing in the other. How a real limit counts is not
documented; a token bucket whose size is a setting comes near to all that have been seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.sandbox.answers import APP_THROTTLED, PIXEL_THROTTLED

if TYPE_CHECKING:
    from consumer.sandbox.faults import Scenario


class _Bucket:
    """A token bucket, full at first. A rate of 0 lets nothing through."""

    __slots__ = ("_left", "_rate", "_since", "_size")

    def __init__(self, rate: float, burst_seconds: float, now: float) -> None:
        self._rate = rate
        self._size = max(rate * burst_seconds, 1.0) if rate else 0.0
        self._left = self._size
        self._since = now

    def has_one(self, now: float) -> bool:
        """Whether one more request fits now."""
        self._left = min(self._left + (now - self._since) * self._rate, self._size)
        self._since = now
        return self._left >= 1.0

    def take(self) -> None:
        """Counts a request that fits."""
        self._left -= 1.0


class RateLimits:
    """The limits that a scenario sets. `now` is in seconds by a clock that does not jump."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def refusal(self, app: str, event_source_id: str, now: float) -> int | None:
        """The code of the limit that a request runs into; None where it passes, and is counted."""
        scenario = self._scenario
        of_app = self._bucket("app", app, scenario.app_rates.get(app, scenario.app_rate), now)
        of_pixel = self._bucket(
            "pixel",
            event_source_id,
            scenario.pixel_rates.get(event_source_id, scenario.pixel_rate),
            now,
        )
        if of_app is not None and not of_app.has_one(now):
            return APP_THROTTLED
        if of_pixel is not None and not of_pixel.has_one(now):
            return PIXEL_THROTTLED
        for bucket in (of_app, of_pixel):
            if bucket is not None:
                bucket.take()
        return None

    def _bucket(self, scope: str, name: str, rate: float | None, now: float) -> _Bucket | None:
        if rate is None:
            return None
        bucket = self._buckets.get((scope, name))
        if bucket is None:
            bucket = _Bucket(rate, self._scenario.burst_seconds, now)
            self._buckets[scope, name] = bucket
        return bucket
