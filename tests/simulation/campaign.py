"""Many schedules, on all cores: what was done, what was found; and the planted bugs."""

from __future__ import annotations

import gc
import math
import multiprocessing
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tests.simulation.caught import Caught
from tests.simulation.drawing import draw
from tests.simulation.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tests.simulation.schedule import Schedule

_AT_ONCE = 20
"""Schedules that a worker runs before it reports."""

MOST_SEEDS = 2000
"""So many schedules a planted bug may take to be caught."""


@dataclass(slots=True)
class Figures:
    """What a campaign has done so far. `violations` are texts by seed.

    `fewest_events` and `fewest_faults` are those of the schedules that had the least of them.
    """

    schedules: int = 0
    events: int = 0
    steps: int = 0
    fewest_events: float = math.inf
    fewest_faults: float = math.inf
    counts: Counter[str] = field(default_factory=Counter)
    repeats: Counter[str] = field(default_factory=Counter)
    states: set[int] = field(default_factory=set)
    violations: dict[int, str] = field(default_factory=dict)

    def add(self, other: Figures) -> None:
        """Another part of the same campaign is done."""
        self.schedules += other.schedules
        self.events += other.events
        self.steps += other.steps
        self.fewest_events = min(self.fewest_events, other.fewest_events)
        self.fewest_faults = min(self.fewest_faults, other.fewest_faults)
        self.counts += other.counts
        self.repeats += other.repeats
        self.states |= other.states
        self.violations |= other.violations

    def starting_with(self, word: str) -> Counter[str]:
        """The counts whose names begin with a word and a colon, by what follows."""
        start = f"{word}: "
        counts = self.counts.items()
        return Counter({k.removeprefix(start): n for k, n in counts if k.startswith(start)})


def play(seeds: Iterable[int]) -> Figures:
    """Runs the schedules of some seeds, one after the other."""
    figures = Figures()
    for seed in seeds:
        result = run(draw(seed))
        figures.schedules += 1
        figures.events += result.events
        figures.steps += result.steps
        figures.fewest_events = min(figures.fewest_events, result.events)
        figures.fewest_faults = min(figures.fewest_faults, result.faults)
        figures.counts += result.counts
        figures.repeats += result.repeats
        figures.states |= result.states
        if result.violation is not None:
            figures.violations[seed] = str(result.violation)
    return figures


def campaign(
    seeds: Sequence[int], seconds: float, workers: int, progress: Callable[[Figures, Figures], None]
) -> Figures:
    """Runs the schedules of these seeds; none is begun after so many seconds.

    `progress` is called with what was done since the last time, and with all that was done.
    """
    figures = Figures()
    until = time.monotonic() + seconds
    parts = [seeds[at : at + _AT_ONCE] for at in range(0, len(seeds), _AT_ONCE)]
    with multiprocessing.Pool(workers, _spare_collections) as pool:
        for part in pool.imap_unordered(play, parts):
            figures.add(part)
            progress(part, figures)
            if time.monotonic() >= until:
                break  # leaving the pool ends its workers
    return figures


def _spare_collections() -> None:
    """Lets a worker look for cycles seldom: the worlds of a few runs are small, and soon gone."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def hunt(bugs: Iterable[str], workers: int) -> Iterator[tuple[str, Caught | None]]:
    """For each planted bug a seed that catches it; None where many do not."""
    with multiprocessing.Pool(workers) as pool:
        yield from pool.imap(_surest, bugs)


def _surest(bug: str) -> tuple[str, Caught | None]:
    """Of the first few seeds that catch a bug the one that does so most often.

    A change of the engine gives a schedule another course: what catches a bug with any luck does
    so for long.
    """
    best: tuple[int, Caught | None] = 0, None
    look_at = MOST_SEEDS
    for seed in range(MOST_SEEDS):
        if seed >= look_at or best[0] > _LUCK:
            break
        schedule = draw(seed)
        violation = run(schedule, bug=bug).violation
        if violation is None or run(schedule).violation is not None:
            continue
        caught = Caught(bug, seed, violation.invariant)
        sure = 1 + sum(_breaks(replace(schedule, luck=n + 1), caught) for n in range(_LUCK))
        if sure > best[0]:
            best = sure, caught
        look_at = min(look_at, 2 * seed + _LOOK_ON)
    return bug, best[1]


_LUCK = 4
"""Other courses of a schedule that are tried."""

_LOOK_ON = 20


def _breaks(schedule: Schedule, known: Caught) -> bool:
    violation = run(schedule, bug=known.bug).violation
    return violation is not None and violation.invariant == known.invariant


def catch_again(known: Iterable[Caught], workers: int) -> Iterator[tuple[Caught, bool]]:
    """Whether each known seed still catches its bug, and holds without it."""
    with multiprocessing.Pool(workers) as pool:
        yield from pool.imap(is_caught, known)


def is_caught(known: Caught) -> tuple[Caught, bool]:
    """Whether a schedule holds, and breaks the same promise as ever with its bug planted."""
    schedule = draw(known.seed)
    return known, _breaks(schedule, known) and run(schedule).violation is None
