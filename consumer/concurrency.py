"""How many requests a destination has in the air at once: adapted to how it answers.

Additive increase, multiplicative decrease: one more with each round of answers in which the limit
was reached and the answers came as fast as usual; fewer after failures that shut the gate, and
while answers take `TOLERANCE` times as long as usual. What is usual is learned: at once where
answers become faster, in minutes where they become slower, so that a destination which has become
slow for good gets its places back. Slowness alone never takes more than a part of the places away:
it may have any cause but us. Where answers stay slow with so few left, it had: then they are the
usual ones at once.
"""

from __future__ import annotations

import math

TOLERANCE = 2.0
"""Answers that take so many times as long as usual are slow."""

USUAL_SECONDS = 120.0
"""In about this time slower answers become the usual ones."""

LEAST_SHARE = 0.125
"""Of the configured limit: left however slow the answers are."""

_AFTER_REFUSAL = 0.7
_WHILE_SLOW = 0.8
_MOST_OF_A_ROUND = 10
_ROUNDS_AT_LEAST = 10
"""Of slow answers: the first of them were asked for when more was in the air."""
_NOISE_SECONDS = 0.05


class Concurrency:
    """The limit of one destination, between 1 and `most`; it begins at `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._limit = float(most)
        self._usual: float | None = None
        self._usual_at = 0.0
        self._answers = 0
        self._seconds = 0.0
        self._reached = False
        self._rounds_at_least = 0
        self._cut_at = -math.inf

    @property
    def limit(self) -> int:
        """Requests that may be in the air."""
        return int(self._limit)

    def started(self, in_flight: int) -> None:
        """A request goes; so many are in the air with it."""
        if in_flight >= self.limit:
            self._reached = True

    def answered(self, seconds: float, now: float) -> None:
        """An answer that says something about speed took so long: an acceptance, or a time-out."""
        self._answers += 1
        self._seconds += seconds
        if self._answers < min(self.limit, _MOST_OF_A_ROUND):
            return
        mean, reached = self._seconds / self._answers, self._reached
        self._answers, self._seconds, self._reached = 0, 0.0, False
        if self._is_slow(mean):
            self._cut(mean)
        else:
            self._rounds_at_least = 0
            if reached:
                self._limit = min(self._limit + 1.0, float(self.most))
        self._learn(mean, now)

    def refused(self, now: float, started: float) -> None:
        """A request begun at `started` failed at a gate that closes by it.

        Those in the air with it count once. Times are seconds by a clock that never goes back.
        """
        if started > self._cut_at:
            self._cut_at = now
            self._limit = max(1.0, self._limit * _AFTER_REFUSAL)

    def _cut(self, seconds: float) -> None:
        """A round of slow answers is over."""
        least = max(1.0, self.most * LEAST_SHARE)
        self._rounds_at_least = self._rounds_at_least + 1 if self._limit <= least else 0
        self._limit = max(self._limit * _WHILE_SLOW, min(self._limit, least))
        if self._rounds_at_least >= _ROUNDS_AT_LEAST:
            self._usual = seconds

    def _is_slow(self, seconds: float) -> bool:
        usual = self._usual
        return usual is not None and seconds > max(usual * TOLERANCE, usual + _NOISE_SECONDS)

    def _learn(self, seconds: float, now: float) -> None:
        if self._usual is None or seconds < self._usual:
            self._usual = seconds if self._usual is None else (self._usual + seconds) / 2
        else:
            share = -math.expm1((self._usual_at - now) / USUAL_SECONDS)
            self._usual += (seconds - self._usual) * share
        self._usual_at = now
