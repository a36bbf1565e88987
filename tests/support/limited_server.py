"""Servers that take so many requests a second, by several rules, and a client of one of them."""

from __future__ import annotations

import heapq
import math
import random
from typing import TYPE_CHECKING, NamedTuple, Protocol

from consumer.hold_gate import GateState
from consumer.learned_rate import LearnedRate
from consumer.limits import Gates, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable


class Limiter(Protocol):
    """Says of each request whether it is within the limit."""

    def takes(self, now: float) -> bool:
        """Whether one more fits now (seconds)."""


class Bucket:
    """A token bucket that holds so many seconds' worth, a request at least."""

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate = rate
        self._most = self._left = max(1.0, rate * seconds)
        self._since = 0.0

    def takes(self, now: float) -> bool:
        """As `Limiter.takes`."""
        self._left = min(self._most, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class SlidingWindow:
    """So many requests in any second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._taken: list[float] = []

    def takes(self, now: float) -> bool:
        """As `Limiter.takes`."""
        self._taken = [at for at in self._taken if at > now - 1.0]
        if len(self._taken) >= self._rate:
            return False
        self._taken.append(now)
        return True


class FixedWindow:
    """So many requests in each second by the clock."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._second, self._taken = -1, 0

    def takes(self, now: float) -> bool:
        """As `Limiter.takes`."""
        if int(now) != self._second:
            self._second, self._taken = int(now), 0
        self._taken += 1
        return self._taken <= self._rate


LIMITERS: dict[str, Callable[[float], Limiter]] = {
    "a second's worth at once": lambda rate: Bucket(rate, 1.0),
    "a tenth of a second's worth at once": lambda rate: Bucket(rate, 0.1),
    "any second": SlidingWindow,
    "each second by the clock": FixedWindow,
}


class Unlearned(LearnedRate):
    """A rate that learns nothing from a throttle, which only pauses. To compare with."""

    def throttled(self, now: float, started: float, pause: float) -> bool:  # noqa: ARG002  as that of `LearnedRate`
        """Not believed, ever."""
        return False


def unlearning(requests_per_second: float, max_concurrency: int) -> Gates:
    """Gates with such a rate."""
    gates = Gates(requests_per_second, max_concurrency)
    gates.rate = Unlearned(requests_per_second)
    return gates


class Heard(NamedTuple):
    """When an answer came, and whether it was a throttle."""

    at: float
    throttled: bool


class Client:
    """Sends as much as the gates of a destination let through. Answers take 120 to 230 ms."""

    def __init__(self, gates: Gates, limiter: Limiter, *, seed: int = 1) -> None:
        self.gates = gates
        self.limiter = limiter
        self.retry_after: float | None = None
        self.demand = math.inf
        """Requests a second that there are to send."""
        self.slower = 1.0
        """Times as long as usual that answers take."""
        self.noise = 0.0
        """Share of the requests that are throttled whatever the limit is."""
        self.heard: list[Heard] = []
        self.now = 0.0
        self._rng = random.Random(seed)
        self._air: list[tuple[float, float, bool]] = []
        self._policy = RetryPolicy()
        self._next_due = 0.0

    def run(self, until: float) -> None:
        """Lets time pass."""
        while True:
            at = max(self.gates.ready_at(self.now), self._next_due)
            if self._air and self._air[0][0] <= at:
                if self._air[0][0] > until:
                    break
                self._hear(*heapq.heappop(self._air))
            elif at > until:
                break
            else:
                self._send(at)
        self.now = until

    def used(self, since: float, rate: float) -> float:
        """The share of what a limit allows that was accepted from some time on."""
        return self.accepted(since) / (rate * (self.now - since))

    def accepted(self, since: float) -> int:
        """How many were accepted from some time on."""
        return sum(heard.at >= since and not heard.throttled for heard in self.heard)

    def throttled(self, since: float) -> float:
        """The share of throttles among the answers from some time on."""
        answers = [heard.throttled for heard in self.heard if heard.at >= since]
        return sum(answers) / len(answers)

    def throttle(self) -> None:
        """A throttle out of the blue: to a request that goes now."""
        self._refuse(self.now - 1e-6)

    def _send(self, at: float) -> None:
        # A loop that has other things to do wakes up late.
        self.now = at + 0.002 * self._rng.random()
        if self.gates.ready_at(self.now) > self.now:
            return
        self._next_due = max(self._next_due, self.now - 1.0) + 1.0 / self.demand
        self.gates.start(self.now)
        seconds = (0.12 + 0.11 * self._rng.random()) * self.slower
        taken = self.limiter.takes(self.now + 0.03)
        if self.noise and self._rng.random() < self.noise:
            taken = False
        heapq.heappush(self._air, (self.now + seconds, self.now, taken))

    def _hear(self, at: float, started: float, taken: bool) -> None:  # noqa: FBT001  as it was put there
        self.now = at
        self.heard.append(Heard(at, not taken))
        self.gates.finish(started)
        if taken:
            self.gates.accepted(at, started)
        else:
            self._refuse(started)

    def _refuse(self, started: float) -> None:
        pause = self.retry_after
        if pause is None:
            failures = self.gates.hold.next_failure(started)
            pause = max(0.05, self._policy.pause(failures, self._rng))
        self.gates.refused(GateState.THROTTLED, "throttled", pause, self.now, started)
