"""Runs one schedule and says what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.verdicts import Violation
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.simulation.schedule import Schedule


class Result(NamedTuple):
    """What came of a run. `trace` is the same whenever the same schedule is run."""

    seed: int
    violation: Violation | None
    trace: int
    events: int
    counts: Counter[str]
    repeats: Counter[str]
    states: frozenset[int]
    seconds: float


def run(schedule: Schedule, tell: Callable[[str], None] | None = None) -> Result:
    """Runs a schedule. `tell` takes its story, sentence by sentence."""
    world = World(schedule, tell)
    violation = None
    try:
        world.run()
    except Violation as found:
        violation = found
        world.tell(f"VIOLATION: {found}")
    judge = world.judge
    return Result(
        schedule.seed,
        violation,
        judge.notes.trace,
        len(schedule.appends),
        judge.counts,
        judge.repeats,
        frozenset(judge.states),
        world.clock.now,
    )
