"""The lease: for how long after a proof of membership an attempt may start.

A member of a group that was stopped, or cut off from the broker, does not know that its partitions
belong to somebody else by now. So an attempt starts only while the last successful commit is so
young that the broker cannot have given the partitions away before the attempt has ended. The time
of a proof is that of its request, by a clock that runs on through suspension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def lease_seconds(session_timeout: float, request_timeout: float) -> float:
    """How long a proof holds: session time-out - request time-out - margin, in seconds.

    The margin is a tenth of the session time-out, and at least a second. Not positive: there is no
    time at which an attempt could start.
    """
    return session_timeout - request_timeout - margin_seconds(session_timeout)


def margin_seconds(session_timeout: float) -> float:
    """What clocks, queues and the network may take on top, in seconds."""
    return max(session_timeout / 10, 1.0)


def takeover_seconds(session_timeout: float, request_timeout: float, *, static: bool) -> float:
    """After how long a request of an owner that vanished has surely ended, in seconds.

    The broker gives a partition away when the session of its owner is over, and with it the lease.
    Only the place of a static member (`group.instance.id`) is taken at once: its lease may still
    hold.
    """
    wait = request_timeout + margin_seconds(session_timeout)
    return max(session_timeout, wait) if static else wait


@dataclass(slots=True)
class Lease:
    """The proof of membership of this process; times in seconds.

    `proved_at` is when the last successful commit was asked for; None before the first of a
    membership. `ended_at` is when the last membership was over.
    """

    seconds: float
    proved_at: float | None = None
    ended_at: float = -math.inf

    def prove(self, asked_at: float) -> None:
        """A commit that was asked for at this time has succeeded."""
        if asked_at >= self.ended_at and (self.proved_at is None or asked_at > self.proved_at):
            self.proved_at = asked_at

    def end(self, now: float) -> None:
        """The membership is over: a new one has to be proven, by a later commit."""
        self.proved_at, self.ended_at = None, now

    def holds(self, now: float) -> bool:
        """Whether an attempt may start."""
        return self.proved_at is not None and now < self.proved_at + self.seconds

    def renew_at(self) -> float:
        """When to ask for the next proof: every few seconds, several times in a lease."""
        if self.proved_at is None:
            return float("-inf")
        return self.proved_at + min(self.seconds / 4, _RENEW_SECONDS)


_RENEW_SECONDS = 5.0
