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

Stray throttles, which come at any rate, say nothing about it: `noise` tells which do. One that it
explains only pauses. As soon as it is known that some are stray, the rate goes back to where it was
before they were believed, and searches on. From then on a throttle that is believed is one of many:
the rate goes down further, which also shows how many are left there.

A throttle that costs a long pause is risked the more seldom: `PAUSES` times its length, up to that
of `LONGEST_PAUSE`. What was learned is forgotten when the configured ceiling has not been throttled
for `FORGET_SECONDS`.
"""

from __future__ import annotations

import math
from collections import deque

from consumer.noise import Noise

SETTLE_SECONDS = 20.0
"""From a throttle until about its rate is tried again."""

SETTLE_REQUESTS = 100.0
"""The same in requests, where that takes longer."""

LONGEST_SETTLE_SECONDS = 40.0
"""Of these: a limit of one request in a while that is lifted is found within two minutes."""

PAUSES = 20.0
"""The same as a multiple of the pause that the throttle cost, where that is longer."""

LONGEST_PAUSE = 60.0
"""Of these: an hour that was asked for once must not keep the rate down for days."""

FORGET_SECONDS = 60.0
"""After the last throttle, at the earliest."""

FEWEST_GUESSED = 4.0
"""Requests a second that a first throttle leaves at least: it may be a stray one while there was
hardly anything to send."""

_DEPTH = 0.07
"""How far below the plateau a throttle takes the rate; as far above it, it is twice as late."""
_DEPTH_IN_NOISE = 0.2
"""The same where noise is known: deep enough to see what is left without the limit."""
_DIP = 0.9
"""Below so much of the plateau it is."""
_PLATEAU = 0.98
"""Of the rate at which a throttle came: a bit more than the limit, since it was exceeded."""
_EARLY = 0.94
"""The same where it came early: then the limit lies lower, and what had been saved up hid it."""
_OF_MANY = 0.87
"""The same where noise is known, so that it took many throttles to tell."""
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
        self._noise = Noise()
        self._accepted: deque[float] = deque()
        self._searching = True
        self._guessed = False
        self._found_at = ceiling
        self._plateau = ceiling
        self._depth = _DEPTH
        self._settle_seconds = SETTLE_SECONDS
        self._open_since: float | None = None
        # The last throttle, which shut the gate
        self._cut_at = -math.inf
        self._cut_rate = ceiling
        self._is_believed = False
        self._is_shut = False
        self._shut_seconds = 0.0

    @property
    def current(self) -> float:
        """The rate in force."""
        return self.ceiling if self.learned is None else min(self.ceiling, self.learned)

    def scale(self, ceiling: float) -> None:
        """The ceiling is another one because our share of the work is: so is what was learned."""
        factor = ceiling / self.ceiling
        self.ceiling = ceiling
        self._plateau *= factor
        self._found_at *= factor
        self._cut_rate *= factor
        self._noise.doubt()
        if self.learned is not None:
            self.learned *= factor

    def accepted(self, now: float, started: float) -> None:
        """An answer came that is no throttle, to a request begun at `started`."""
        self._note_passed(now, started)
        if self._is_shut and started > self._cut_at:
            self._reopen(now)
        open_seconds = self._open_seconds(now)
        self._accepted.append(open_seconds)
        self._forget(open_seconds)
        if self.learned is None:
            return
        if not self._is_shut and self._open_since is not None:
            self._grow(now - self._open_since, self.learned)
        elif self._open_since is None and self._guessed:
            # Was in the air with the one that was throttled: it is part of what was taken.
            self.learned = max(self.learned, min(self._measured, self._plateau))
        if self.learned >= self.ceiling and now - self._cut_at > FORGET_SECONDS:
            self.learned, self._searching, self._noise = None, True, Noise()

    def throttled(self, now: float, started: float, pause: float) -> bool:
        """A request begun at `started` was throttled; nothing goes for `pause` seconds.

        Whether it is believed. Requests that were in the air together are one throttle, but all of
        them together may be more than noise explains.
        """
        if started <= self._cut_at:
            if self._is_believed or not self._noise.struck(
                self._cut_rate, dip=False, new=self.learned is None
            ):
                return False
        elif self._is_shut:
            # A probe: the limit is still used up, or it is a stray one. That says nothing new.
            self._shut_seconds += now - self._cut_at
            self._cut_at = now
            return False
        else:
            believed = self._noise.struck(
                self.current, dip=self._is_dip(self.current), new=self.learned is None
            )
            self._shut(now)
            if not believed:
                return False
        self._is_believed = True
        self._cut(now, pause)
        return True

    def paused(self, now: float, started: float) -> None:
        """Nothing goes for a while because of another's request, begun at `started`."""
        if started > self._cut_at and not self._is_shut:
            self._shut(now)

    def _shut(self, now: float) -> None:
        self._cut_rate = self.current
        self._cut_at, self._is_shut, self._is_believed = now, True, False

    def _reopen(self, now: float) -> None:
        self._shut_seconds += now - self._cut_at
        self._is_shut = False
        if self._open_since is None:
            self._open_since = now

    def _note_passed(self, now: float, started: float) -> None:
        noise, was_known = self._noise, self._noise.known
        rate = self._cut_rate if started <= self._cut_at else self.current
        noise.passed(now, rate, dip=self._is_dip(rate), new=self.learned is None)
        if noise.known and not was_known and self.learned is not None:
            self._searching = True
            self.learned = max(self.learned, min(self._found_at, self.ceiling))

    def _is_dip(self, rate: float) -> bool:
        return not self._searching and rate < _DIP * self._plateau

    def _cut(self, now: float, pause: float) -> None:
        """A throttle was believed."""
        rate, open_since = self.current, self._open_since
        self._open_since = None
        if self._searching:
            self._found_at = rate
        self._forget(self._open_seconds(now))
        if self.learned is None or open_since is None:
            self._guessed, self._plateau = True, rate
            self.learned = min(rate, max(self._measured, FEWEST_GUESSED))
            return
        seconds, known = now - open_since, self._noise.known
        idle = seconds >= self._window and self._measured < _USED * rate and not known
        self._plateau = self._plateau_after(seconds, rate)
        self._depth = _DEPTH_IN_NOISE if known else _DEPTH
        self.learned = self._plateau * (1.0 - self._depth)
        requests = min(SETTLE_REQUESTS / rate, LONGEST_SETTLE_SECONDS)
        full = max(SETTLE_SECONDS, PAUSES * min(pause, LONGEST_PAUSE), requests)
        longer = full * _FIRST_SETTLE if self._searching else self._settle_seconds * 2
        self._settle_seconds = min(longer, full)
        # Where the rate was not used, the throttle says little about it.
        self._searching, self._guessed = idle, False

    def _plateau_after(self, seconds: float, rate: float) -> float:
        """Where the curve levels after a throttle at this rate, so many seconds after it opened."""
        if self._searching:
            least = rate * _FOUND
        elif self._noise.known:
            return max(rate * _OF_MANY, _LEAST)
        else:
            least = rate * (_PLATEAU if seconds > self._settle_seconds / 2 else _EARLY)
        measured = self._measured
        if seconds < self._window:
            return least  # too soon to have measured anything
        if measured < _USED * rate:
            return max(measured, rate * _UNUSED, _LEAST)
        return max(min(measured, rate * _PLATEAU), least) if self._searching else least

    @property
    def _measured(self) -> float:
        """What was accepted in a second, of late."""
        return len(self._accepted) / self._window

    @property
    def _window(self) -> float:
        """Seconds over which the accepted rate is measured: long enough for some requests."""
        return min(max(_SHORTEST_WINDOW, _WINDOW_REQUESTS / self.current), _LONGEST_WINDOW)

    def _open_seconds(self, now: float) -> float:
        """For how long requests could go, up to now: what is accepted is measured by that clock."""
        return (self._cut_at if self._is_shut else now) - self._shut_seconds

    def _forget(self, open_seconds: float) -> None:
        accepted, since = self._accepted, open_seconds - self._window
        while accepted and accepted[0] < since:
            accepted.popleft()

    def _grow(self, seconds: float, rate: float) -> None:
        """So many seconds after the last throttle was over. What is known gets old, used or not."""
        if not self._searching:
            way = seconds / self._settle_seconds - 1.0
            height = self._depth if way < 0.0 else _DEPTH
            self.learned = self._plateau * (1.0 + height * way**3)
            self._searching = way > _SEARCH_AGAIN
        else:
            self.learned = min(rate * (1.0 + min(_GROWTH / rate, 0.5)), self.ceiling)
