"""Tells how the demo gets on: bars that move on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

_PER_SECOND = 10


class Narrator(Protocol):
    """Whom the demo tells what happens."""

    def say(self, text: str) -> None:
        """Something has happened: a line that stays."""

    def now(self, text: str) -> None:
        """What is going on: shown while it does."""

    def produced(self, events: int) -> None:
        """So many events are in Kafka."""

    def settled(self, events: int) -> None:
        """So many events have their outcome and are committed."""


@contextmanager
def narrator(console: Console, total: int) -> Iterator[Narrator]:
    """A narrator for a demo of `total` events, as this console can show it."""
    if not console.is_terminal:
        yield PlainNarrator(console)
        return
    live = LiveNarrator(console, total)
    with live.shown():
        yield live


class PlainNarrator:
    """A line for each thing that happens; no bars."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._now = ""

    def say(self, text: str) -> None:
        """Prints it with the seconds since the beginning."""
        stamp = f"{time.monotonic() - self._began:5.1f} s  "
        self._console.print(stamp + text, markup=False, highlight=False, soft_wrap=True)

    def now(self, text: str) -> None:
        """Prints it once, as the same thing is said over and over."""
        if text != self._now:
            self._now = text
            self.say(text)

    def produced(self, events: int) -> None:
        """Is not told line by line."""

    def settled(self, events: int) -> None:
        """Is not told line by line."""


class LiveNarrator:
    """Two bars and what is going on below the lines that stay."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._began = time.monotonic()
        self._now = Text(style="cyan")
        self._bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=36),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._produced = self._bars.add_task("produced", total=total)
        self._settled = self._bars.add_task("settled", total=total)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the bars for the length of the context; afterwards only the lines are left."""
        shown = Group(self._bars, self._now)
        with Live(shown, console=self._console, refresh_per_second=_PER_SECOND, transient=True):
            yield

    def say(self, text: str) -> None:
        """Prints it above the bars."""
        stamp = Text(f"{time.monotonic() - self._began:5.1f} s  ", style="dim")
        self._console.print(stamp + Text(text))

    def now(self, text: str) -> None:
        """Shows it below the bars."""
        self._now.plain = text

    def produced(self, events: int) -> None:
        """Moves the first bar."""
        self._bars.update(self._produced, completed=events)

    def settled(self, events: int) -> None:
        """Moves the second bar."""
        self._bars.update(self._settled, completed=events)
