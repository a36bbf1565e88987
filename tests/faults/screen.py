"""What a person sees of a run: a line for each round, and on a terminal how far it has come."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from tests.faults.results import Result, RoundId

_EVERY: Final = 60.0
"""Seconds between two lines about a round under way, where there is no terminal."""


class Screen:
    """Writes to standard error, as the table on standard output may go to a file."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._number = 0
        self._console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
        self._name = ""
        self._said = 0.0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begins(self, round_id: RoundId) -> None:
        """A round begins."""
        self._name = f"{round_id.scenario} {round_id.number} ({round_id.protocol})"
        self._said = time.monotonic()
        if self._bar is not None:
            self._bar.reset(self._task, description=self._name)

    def progress(self, done: int, of: int) -> None:
        """How many events of a round have been accepted."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=of)
        elif time.monotonic() - self._said > _EVERY:
            self._said = time.monotonic()
            self._console.print(f"         {self._name}: {done:,} of {of:,} events")

    def ended(self, result: Result) -> None:
        """A round is over."""
        self._number += 1
        verdict = "[red]BROKEN[/]" if result.broken else "held"
        happened = ", ".join(f"{number} {kind}" for kind, number in result.incidents.items())
        repeats = sum(result.excused.values())
        self._console.print(
            f"{self._number:>4}/{self._rounds} {result.id.scenario} {result.id.number}"
            f" ({result.id.protocol}): {verdict}; {result.records:,} events in"
            f" {result.seconds:.0f} s; {happened or 'no incident'}; lost {result.lost}, repeated:"
            f" {result.known} known, {repeats} unknown; longest pause {result.longest_pause:.1f} s",
            soft_wrap=True,
        )
        for line in (*result.remarks, *result.findings):
            self._console.print(f"           {line}", markup=False, soft_wrap=True)
