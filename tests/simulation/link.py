"""What lies between a process and the brokers: latency, and times when nothing gets through."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.simulation.clock import Clock


class Link:
    """The way to the brokers and back.

    What is under way when the link is cut waits until it is whole again, as TCP and librdkafka's
    retries have it. What a process has not put on the wire yet when it is suspended goes on when it
    wakes up; when it dies, never.
    """

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self.cut = False
        self.halted_at: float | None = None
        self.dead = False
        self._waiting: list[Callable[[], None]] = []
        self._last = 0.0

    def out(self, seconds: float, what: Callable[[], None]) -> None:
        """Something goes to the brokers and is there after so many seconds."""
        now = self._clock.now
        on_wire = now + seconds * self._rng.random()
        self._clock.after(seconds, lambda: self._arrive(on_wire, what))

    def back(self, seconds: float, what: Callable[[], None]) -> None:
        """Something comes back from the brokers."""
        self._clock.after(seconds, lambda: self._return(what))

    def mend(self) -> None:
        """What waited goes on, in its order, before anything that is sent from now on."""
        waiting, self._waiting = self._waiting, []
        for what in waiting:
            self._clock.after(0.0, what)

    def _arrive(self, on_wire: float, what: Callable[[], None]) -> None:
        if self.dead and (self.halted_at is None or self.halted_at < on_wire):
            return
        if self.cut or (self.halted_at is not None and self.halted_at < on_wire and not self.dead):
            self._waiting.append(lambda: self._arrive(on_wire, what))
        else:
            what()

    def _return(self, what: Callable[[], None]) -> None:
        if self.cut:
            self._waiting.append(lambda: self._return(what))
        else:
            what()
