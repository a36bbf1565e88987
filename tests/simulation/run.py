"""Runs one schedule and says what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.mutations import planted
from tests.simulation.verdicts import Violation
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.simulation.schedule import Schedule
    from tests.simulation.world import Told


class Result(NamedTuple):
    """What came of a run. `trace` is the same whenever the same schedule is run.

    `events` are the records that were produced, `faults` those that found somebody to meet them,
    `steps` what happened at all.
    """

    seed: int
    violation: Violation | None
    trace: int
    events: int
    faults: int
    steps: int
    counts: Counter[str]
    repeats: Counter[str]
    states: frozenset[int]


def run(
    schedule: Schedule, tell: Callable[[Told], None] | None = None, *, bug: str | None = None
) -> Result:
    """Runs a schedule, with a bug planted or none; `tell` takes its story, sentence by sentence.

    What an engine raises breaks a promise, too: it would end the process, again and again.
    """
    world = World(schedule, tell)
    violation = None
    with planted(bug):
        try:
            world.run()
        except Violation as found:
            violation = found
        except Exception as error:  # noqa: BLE001  whatever a broken engine may raise
            detail = f"{type(error).__name__}: {error}"
            violation = Violation("no defect", detail, world.clock.now)
            violation.__cause__ = error
    if violation is not None:
        world.tell(f"PROMISE BROKEN: {violation}")
    judge = world.judge
    return Result(
        schedule.seed,
        violation,
        judge.notes.trace,
        len(judge.truth.sources),
        world.troubles.met,
        world.clock.events,
        judge.counts,
        judge.attempts.repeats,
        frozenset(judge.states),
    )
