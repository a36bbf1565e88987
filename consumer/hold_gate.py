"""The gate of a destination that takes nothing for a while: closed, then open for one probe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class GateState(StrEnum):
    """Whether a destination takes requests."""

    OPEN = "open"
    THROTTLED = "throttled"
    HELD = "held"


@dataclass(slots=True)
class HoldGate:
    """Closed until a time, then open for one probe; a probe that succeeds opens it.

    `failures` counts the closings and the probes in vain since it was open, one for all requests
    that were in the air together. All times are seconds by a clock that never goes back.
    """

    state: GateState = GateState.OPEN
    reason: str | None = None
    until: float = 0.0
    failures: int = 0
    _closed_at: float = -math.inf
    _renewed_at: float = -math.inf
    _probe: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests pass without being probes."""
        return self.state is GateState.OPEN

    def ready_at(self, now: float) -> float:
        """When a request may go; infinity while a probe is out."""
        if self.state is GateState.OPEN:
            return now
        return math.inf if self._probe is not None else max(now, self.until)

    def starts(self, now: float) -> None:
        """A request goes."""
        if self.state is not GateState.OPEN:
            self._probe = now

    def ended(self, started: float) -> None:
        """A request that started at `started` is over. To be called before what came of it."""
        if started == self._probe:
            self._probe = None

    def close(
        self, state: GateState, reason: str, pause: float, now: float, started: float
    ) -> None:
        """A request that started at `started` was refused: nothing goes for `pause` seconds.

        It may be another destination's. A request from before the last closing says nothing new,
        but may ask for a longer pause. So does one from the same instant: the probe goes later,
        whatever the pause. One from before the token was renewed says nothing at all.
        """
        if started <= self._renewed_at:
            return
        if started > self._closed_at:
            self.failures += 1
            self._closed_at = now
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
        if self.state is not GateState.OPEN and started > self._closed_at:
            self.failures += 1
            self.until = now + pause

    def open(self, started: float) -> bool:
        """A request begun at `started` was let in by TikTok; whether that opened the gate."""
        if self.state is GateState.OPEN or started <= self._closed_at:
            return False
        self.state, self.reason = GateState.OPEN, None
        self.until, self.failures, self._probe = 0.0, 0, None
        return True

    def renew(self, now: float) -> None:
        """What closed it may be over (another token is there): a probe may go at once.

        Not more than a probe: the new token may be as wrong as the old one.
        """
        if self.state is not GateState.OPEN:
            self._closed_at = self._renewed_at = self.until = now
            self.failures, self._probe = 0, None
