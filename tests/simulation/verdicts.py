"""How a broken promise ends a run, and what is noted so that two runs can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.clock import Clock


class Violation(Exception):  # noqa: N818  it is a finding, not an error of the program
    """A promise was broken: which one, how, and after how many simulated seconds."""

    def __init__(self, invariant: str, detail: str, at: float) -> None:
        super().__init__(f"{invariant}: {detail} (after {at:.3f} s)")
        self.invariant = invariant
        self.detail = detail
        self.at = at


class Notes:
    """What happened in a run: its trace, as one number."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.trace = 0

    def fail(self, invariant: str, detail: str) -> NoReturn:
        """An invariant does not hold.

        Raises:
            Violation: always.
        """
        raise Violation(invariant, detail, self._clock.now)

    def note(self, *numbers: int) -> None:
        """Something happened; two runs of one schedule note the same."""
        self.trace = hash((self.trace, *numbers, int(self._clock.now * 1e6)))


def fingerprint(parts: Sequence[object]) -> int:
    """A number for a coarse state; the same in every process."""
    value = 0
    for part in parts:
        number = part if isinstance(part, int) else _number(part)
        value = (value * _FACTOR ^ number) & _MASK
    return value


def _number(part: object) -> int:
    known = _NUMBERS.get(part)
    if known is None:
        known = _NUMBERS[part] = crc32(str(part).encode())
    return known


_FACTOR, _MASK = 1_000_003, 0xFFFFFFFFFFFFFFFF
_NUMBERS: dict[object, int] = {}
