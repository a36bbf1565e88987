"""Tells a stray throttle, which comes at any rate, from one that comes of the rate.

TikTok throttles now and then for reasons of its own. Taken for a limit, one such answer in forty
would drive a rate down to nothing, because it comes at the lower rate again.

*Debt.* Each throttle adds one to what is owed, and each accepted request pays a part of one off: as
much as may be explained without a limit. More than `MOST` owed is more than that: a throttle that
is always believed, after which nothing is proved any more. Half of the debt is left, so that a
limit which is far lower is not met `MOST` times at each step.

*Proof.* What TikTok has taken proves a limit of at least that: so many requests within so many
seconds, pauses included, with `SAVED` more for what a server may have saved up.

Which throttle is believed, and what each accepted request pays off, depends on what is known:

=====================================  =================================  ==================
while                                  a throttle is believed             pays off
=====================================  =================================  ==================
no limit was ever met (`new`)          by the debt alone                  `SPARSE`
no noise is known                      at once; below proof, by the debt  `DENSE`
noise is known                         by the debt alone                  `TIMES` the noise,
                                                                          at most `DENSE`
the same, below proof or in a dip      by the debt alone                  `DENSE`
=====================================  =================================  ==================

*Noise* is the share of throttles where no limit can be their cause: at rates below what is proved,
and in the dip after a cut, far below the rate that was too high. It counts once its debt is paid,
and is forgotten over some hundred requests there.
"""

from __future__ import annotations

import math

MOST = 5.0
"""Throttles owed that noise still explains."""

TIMES = 2.5
"""The share that is noise, so many times over, is what noise explains. With twice, one throttle in
twenty owes more than `MOST` so often that the rate does not recover in between; with three times, a
limit is hidden for longer."""

DENSE = 0.15
"""Share of throttles that is no noise, wherever it comes."""

SPARSE = 0.005
"""Share of throttles that is let be while no limit was ever met: `new`. If it were higher, a limit
just below the ceiling would never be learned, and where each of its throttles costs a pause of two
seconds, a third of it would be used."""

ENOUGH, TOO_FEW = 0.9, 0.3
"""Stray throttles, as far as not forgotten: noise is known from `ENOUGH` on, until `TOO_FEW` are
left."""

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
