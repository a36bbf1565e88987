"""Tells a throttle that comes whatever the rate is from one that comes of the rate.

TikTok throttles now and then for reasons of its own. Taken for a limit, one such answer in forty
would drive a rate down to nothing, because it comes at the lower rate again. So:

- What TikTok has taken proves a limit of at least that: so many requests within so many seconds,
  pauses included, with `SAVED` more for what a server may have saved up. A throttle at a rate below
  what is *proved* is no sign of that rate: it is a stray one, and counted as noise.
- While no limit was ever met, one alone is not believed either: more than `MOST` are owed soon
  where a limit lies far below, because many of the requests in the air are throttled.
- While no noise is known, any other throttle is believed at once.
- Once noise is known, throttles are only believed that it does not explain. Each is a debt, of
  which each accepted request pays off a part: `TIMES` the share that is noise, at most `DENSE`.
  More than `MOST` owed is a limit. Below what is proved that holds from the beginning, at `DENSE`:
  so a limit that was lowered is noticed. What was proved before is proved no more then, and half
  of the debt is left, so that a limit which is far lower is not met `MOST` times at each step.

How much is noise is the share of throttles below the proved rate, and in the dip after a cut, where
it is far below the rate that was too high. It is forgotten over some hundred requests there.
"""

from __future__ import annotations

import math

MOST = 5.0
"""Throttles owed that noise still explains: with `TIMES` the true share, it hides a limit for long,
and owes more about once in ten thousand requests."""

TIMES = 2.0
"""The share that is noise, so many times over, is what noise explains."""

DENSE = 0.15
"""Share of throttles that is no noise, wherever it comes."""

SPARSE = 0.08
"""Share of throttles that may be noise while no limit was ever met: `new`. One that lies far below
the rate shows at once by many, of the requests that are in the air."""

ENOUGH, TOO_FEW = 0.9, 0.3
"""From so many stray throttles on, as far as not forgotten, noise is known; until so few are left.
"""

SAVED = 1.0
"""Seconds' worth of requests that a server lets pass at once after a rest."""

PROOF_SECONDS = 30.0
"""Over which what is taken proves something; then anew."""

_KEPT = 0.9
"""Of what was proved, after that time: limits change."""
_FEWEST_TRIALS = 50.0
_HORIZON_REQUESTS, _HORIZON_SECONDS = 400.0, 60.0
_SLOWER = 0.1
"""Speed of forgetting where nothing can be learned about noise."""


class Noise:
    """What is known of a destination's stray throttles. Rates are requests a second."""

    def __init__(self) -> None:
        self.known = False
        """Whether stray throttles come."""
        self._count = 0.0
        self._trials = 0.0
        self._owed = 0.0
        # Since something is owed: it may turn out to have been the limit
        self._open_count = self._open_trials = 0
        self._proved = 0.0
        self._since = -math.inf
        self._taken = 0
        self._best = 0.0

    @property
    def proved(self) -> float:
        """The rate that TikTok has shown to take."""
        return max(self._proved, self._best)

    def passed(self, now: float, rate: float, *, dip: bool, new: bool = False) -> None:
        """At `now` (seconds) it is known that a request was taken which went at this rate.

        `dip`: far below a rate that was too high.
        """
        self._prove(now)
        below = self._is_below(rate, dip=dip)
        horizon = max(_HORIZON_REQUESTS, _HORIZON_SECONDS * rate)
        kept = 1.0 - (1.0 if below else _SLOWER) / horizon
        self._trials *= kept
        self._count *= kept
        self._open_trials += below
        if self._owed:
            self._pay(below=below, new=new)
        if not self._owed:
            self._trials += self._open_trials
            self._count += self._open_count
            self._open_trials = self._open_count = 0
        self.known = self._count > (TOO_FEW if self.known else ENOUGH)

    def struck(self, rate: float, *, dip: bool, new: bool = False) -> bool:
        """A request that went at this rate was throttled; whether that is because of the rate."""
        self._owed += 1.0
        below = self._is_below(rate, dip=dip)
        self._open_count += below
        if self._owed > MOST:
            self._owed = MOST / 2
            self._open_trials = self._open_count = 0
            self.doubt()
            return True
        return not self.known and not below and not new

    def doubt(self) -> None:
        """The limit, or our part of it, is another one: nothing is proved."""
        self._proved = self._best = 0.0
        self._since = -math.inf

    def _is_below(self, rate: float, *, dip: bool) -> bool:
        return rate < self.proved or (dip and self.known)

    def _pay(self, *, below: bool, new: bool) -> None:
        share = SPARSE if new and not self.known else DENSE
        if self.known and not below:
            explained = (self._count + 1.0) / max(self._trials, _FEWEST_TRIALS)
            share = min(DENSE, TIMES * explained)
        self._owed = max(0.0, self._owed - share)

    def _prove(self, now: float) -> None:
        if now - self._since > PROOF_SECONDS:
            self._proved = max(self._best, self._proved * _KEPT)
            self._since, self._taken, self._best = now, 0, 0.0
        self._taken += 1
        self._best = max(self._best, self._taken / (now - self._since + SAVED))
