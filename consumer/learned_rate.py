"""The rate that a destination takes, learned from what it accepts and when it throttles.

TikTok publishes no limit that can be relied on, so the configured ceiling is only an upper bound.
Until the first throttle there is no other. From then on the rate follows what was accepted in the
last seconds before a throttle, which is the hidden limit or near to it:

- *searching* (nothing is known yet, or what was known has become too low): fast growth with what
  is accepted, until the next throttle. So a stray throttle is made good within seconds.
- *settled*: a little below the rate at which the throttle came, back to nearly that within
  `SETTLE_SECONDS`, slower the nearer, and then beyond it, slowly at first (the curve of CUBIC,
  RFC 9438). A limit that stays is so met about once in half a minute; one that was raised is
  found by searching again.

A throttle that costs a long pause is risked the more seldom: `PAUSES` times its length. What was
learned is forgotten when the configured ceiling has not been throttled for `FORGET_SECONDS`.
"""

from __future__ import annotations

import math
from collections import deque

SETTLE_SECONDS = 20.0
"""From a throttle until about its rate is tried again."""

SETTLE_REQUESTS = 100.0
"""The same in requests, where that takes longer."""

PAUSES = 20.0
"""The same as a multiple of the pause that the throttle cost, where that is longer."""

FORGET_SECONDS = 60.0
"""After the last throttle, at the earliest."""

FEWEST_GUESSED = 4.0
"""Requests a second that a first throttle leaves at least: it may be a stray one while there was
hardly anything to send."""

_DEPTH = 0.07
"""How far below the plateau a throttle takes the rate; as far above it, it is twice as late."""
_PLATEAU = 0.98
"""Of the rate at which a throttle came: a bit more than the limit, since it was exceeded."""
_EARLY = 0.94
"""The same where it came early: then the limit lies lower, and what had been saved up hid it."""
_FOUND = 0.8
"""The same in a search, at least: it goes far beyond the limit before the answer comes."""
_GROWTH = 0.75
"""Of a search, a second; at most a quarter with one request."""
_USED = 0.75
"""Share of the rate from which on it counts as used, so that a throttle says something about it."""
_UNUSED = 0.7
"""Of the rate at which a throttle came, at least, where it was not used: others take their part."""
_SEARCH_AGAIN = 1.5
"""Times `SETTLE_SECONDS` beyond the plateau."""
_FIRST_SETTLE = 0.125
"""Of the full time, after a search: what it found may be far off."""
_LEAST = 0.05
_SHORTEST_WINDOW, _LONGEST_WINDOW, _WINDOW_REQUESTS = 1.0, 30.0, 20.0


class LearnedRate:
    """Requests a second that may go to a destination: `current`, never above `ceiling`.

    All times are seconds by a clock that never goes back.
    """

    def __init__(self, ceiling: float) -> None:
        self.ceiling = ceiling
        self.learned: float | None = None
        """What was learned; None while no throttle says anything."""
        self._accepted: deque[float] = deque()
        self._searching = True
        self._guessed = False
        self._plateau = ceiling
        self._settle_seconds = SETTLE_SECONDS
        self._cut_at = -math.inf
        self._open_since: float | None = None

    @property
    def current(self) -> float:
        """The rate in force."""
        return self.ceiling if self.learned is None else min(self.ceiling, self.learned)

    def scale(self, ceiling: float) -> None:
        """The ceiling is another one because our share of the work is: so is what was learned."""
        factor = ceiling / self.ceiling
        self.ceiling = ceiling
        self._plateau *= factor
        if self.learned is not None:
            self.learned *= factor

    def accepted(self, now: float, started: float) -> None:
        """An answer came that is no throttle, to a request begun at `started`."""
        self._accepted.append(now)
        self._forget(now)
        if self.learned is None:
            return
        if self._open_since is None:
            if started > self._cut_at:
                self._open_since = now
            elif self._guessed:
                # Was in the air with the one that was throttled: it is part of what was taken.
                measured = len(self._accepted) / self._window
                self.learned = max(self.learned, min(measured, self._plateau))
        else:
            self._grow(now - self._open_since, self.learned)
        if self.learned >= self.ceiling and now - self._cut_at > FORGET_SECONDS:
            self.learned, self._searching = None, True

    def throttled(self, now: float, started: float, pause: float) -> None:
        """A request begun at `started` was throttled; nothing goes for `pause` seconds.

        Requests that were in the air together are one throttle.
        """
        if started <= self._cut_at:
            return
        rate, open_since = self.current, self._open_since
        self._cut_at, self._open_since = now, None
        if self.learned is not None and open_since is None:
            return  # a probe: the limit is still used up, which says nothing about the rate
        self._forget(now)
        if self.learned is None or open_since is None:
            self._guessed, self._plateau = True, rate
            measured = len(self._accepted) / self._window
            self.learned = min(rate, max(measured, FEWEST_GUESSED))
            return
        self._plateau = self._plateau_after(now - open_since, rate)
        self.learned = self._plateau * (1.0 - _DEPTH)
        full = max(SETTLE_SECONDS, PAUSES * pause, SETTLE_REQUESTS / rate)
        longer = full * _FIRST_SETTLE if self._searching else self._settle_seconds * 2
        self._settle_seconds = min(longer, full)
        self._searching = self._guessed = False

    def _plateau_after(self, seconds: float, rate: float) -> float:
        """Where the curve levels after a throttle at this rate, so many seconds after it opened."""
        if self._searching:
            least = rate * _FOUND
        else:
            least = rate * (_PLATEAU if seconds > self._settle_seconds / 2 else _EARLY)
        measured = len(self._accepted) / self._window
        if seconds < self._window:
            return least  # too soon to have measured anything
        if measured < _USED * rate:
            return max(measured, rate * _UNUSED, _LEAST)
        return max(min(measured, rate * _PLATEAU), least) if self._searching else least

    @property
    def _window(self) -> float:
        """Seconds over which the accepted rate is measured: long enough for some requests."""
        return min(max(_SHORTEST_WINDOW, _WINDOW_REQUESTS / self.current), _LONGEST_WINDOW)

    def _forget(self, now: float) -> None:
        accepted, since = self._accepted, now - self._window
        while accepted and accepted[0] < since:
            accepted.popleft()

    def _grow(self, seconds: float, rate: float) -> None:
        """So many seconds after the last throttle was over. What is known gets old, used or not."""
        if not self._searching:
            way = seconds / self._settle_seconds - 1.0
            self.learned = self._plateau * (1.0 + _DEPTH * way**3)
            self._searching = way > _SEARCH_AGAIN
        else:
            self.learned = min(rate * (1.0 + min(_GROWTH / rate, 0.5)), self.ceiling)
