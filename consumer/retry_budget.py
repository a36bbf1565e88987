"""How many failures a destination may have before it counts as sick.

A failure (a time-out, a broken connection, an error on TikTok's side) is repeated. One here and
there costs nothing; but where most attempts fail, repeating each of them by its own back-off while
new ones go out as well would hammer a sick destination, and fill the process with its events. So
failures are paid for: with what acceptances earn, and with a reserve. When it is used up, the
destination's gate closes: one probe at a time, by the back-off, until one is accepted.

Over any time, the attempts that fail at an open gate are at most `SHARE` of the accepted ones, and
`RESERVE`, and what each opening of the gate lends.
"""

from __future__ import annotations

SHARE = 0.2
"""Failures that one acceptance pays for."""

RESERVE = 10.0
"""Failures in a row that a destination without trouble so far may have."""

LENT = 2.0
"""Failures in a row that one may have which has just been let in again."""


class RetryBudget:
    """What one destination has left."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = RESERVE

    @property
    def spent(self) -> bool:
        """Whether the next failure cannot be paid for."""
        return self._left < 1.0

    def accepted(self) -> None:
        """An attempt was accepted."""
        self._left = min(RESERVE, self._left + SHARE)

    def failed(self) -> None:
        """An attempt failed, and will be repeated."""
        self._left = max(0.0, self._left - 1.0)

    def opened(self) -> None:
        """The gate has opened again."""
        self._left = max(self._left, LENT)
