"""Makes a failing schedule smaller: what is left is what it takes to break the promise.

A schedule with less in it is another run: what takes how long is drawn anew from there on. So
where a smaller one holds, it gets a second chance with other luck.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation.run import run

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule

MOST_RUNS = 800
_SMALL = 12
"""Records and faults of a story that is short enough as it is."""

_CHANCES = 3
"""How often a schedule that is not small is tried with other luck."""


class Shrunk(NamedTuple):
    """A schedule that fails like the one it was made of, and how many runs that took."""

    schedule: Schedule
    runs: int


def shrink(schedule: Schedule, invariant: str, bug: str | None = None) -> Shrunk:
    """Takes away faults, records and members for as long as the same invariant fails."""
    shrinking = _Shrinking(schedule, invariant, bug)
    shrinking.exhaust()
    for luck in range(1, _CHANCES + 1):
        best = shrinking.best
        if len(best.appends) + len(best.troubles) <= _SMALL:
            break
        shrinking.luck = luck
        shrinking.exhaust()
    return Shrunk(shrinking.best, shrinking.runs)


class _Shrinking:
    """The best schedule so far. With `luck` every candidate has that luck, or the best one's."""

    def __init__(self, schedule: Schedule, invariant: str, bug: str | None) -> None:
        self._invariant = invariant
        self._bug = bug
        self.best = schedule
        self.luck = schedule.luck
        self.runs = 0

    def exhaust(self) -> None:
        """Takes away whatever can be, until nothing can."""
        before = None
        while self.best is not before and self.runs < MOST_RUNS:
            before = self.best
            self._take_away("troubles")
            self._take_away("appends")
            self._simplify()

    def _try(self, candidate: Schedule) -> bool:
        """Whether a schedule fails in the same way; then it is the best one."""
        for luck in dict.fromkeys((candidate.luck, self.luck)):
            if self.runs >= MOST_RUNS:
                return False
            self.runs += 1
            lucky = replace(candidate, luck=luck)
            found = run(lucky, bug=self._bug).violation
            if found is not None and found.invariant == self._invariant:
                self.best = lucky
                return True
        return False

    def _take_away(self, what: str) -> None:
        """Halves, quarters, ... single ones, wherever they are not needed."""
        size = len(getattr(self.best, what))
        while size > 0:
            at = 0
            while at < len(parts := getattr(self.best, what)):
                changed: dict[str, Any] = {what: (*parts[:at], *parts[at + size :])}
                if not self._try(replace(self.best, **changed)):
                    at += size
            size //= 2

    def _simplify(self) -> None:
        """A plainer configuration and shorter faults."""
        for name, values in _PLAIN.items():
            for value in values:
                if getattr(self.best.setup, name) == value:
                    break
                changed: dict[str, Any] = {name: value}
                if self._try(replace(self.best, setup=replace(self.best.setup, **changed))):
                    break
        for index in range(len(self.best.troubles)):
            while (trouble := self.best.troubles[index]).seconds > 1.0:
                shorter = trouble._replace(seconds=float(int(trouble.seconds / 2)))
                troubles = list(self.best.troubles)
                troubles[index] = shorter
                if not self._try(replace(self.best, troubles=tuple(troubles))):
                    break


_PLAIN: dict[str, tuple[Any, ...]] = {
    "processes": (1, 2),
    "partitions": (1, 2, 3),
    "pixels": (1, 2),
    "wall_skew": (0.0,),
    "shared_token": (False,),
    "static_members": (False,),
    "batch_events": (1, 4),
    "max_in_flight_events": (4, 8, 24),
    "chunk": (4,),
    "park_after": (5.0,),
    "retry_max": (10.0,),
}
"""What a configuration is made plainer in, the plainest value first."""
