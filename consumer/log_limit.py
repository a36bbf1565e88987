"""Keeps a flood of like log lines from being one."""

from __future__ import annotations


class LogLimit:
    """Lets through so many lines of a kind in so many seconds, and counts the others.

    Args:
        lines: lines of a kind within a period.
        seconds: the length of a period.
    """

    def __init__(self, lines: int, seconds: float) -> None:
        self._lines = lines
        self._seconds = seconds
        self._periods: dict[str, tuple[float, int]] = {}

    def skipped(self, kind: str, now: float) -> int | None:
        """Asks for one line: None means no; else how many went unsaid in the period before.

        `kind` comes from a closed list; `now` is in seconds and never goes back.
        """
        began, asked = self._periods.get(kind, (-float("inf"), 0))
        if now - began >= self._seconds:
            self._periods[kind] = now, 1
            return max(asked - self._lines, 0)
        self._periods[kind] = began, asked + 1
        return 0 if asked < self._lines else None
