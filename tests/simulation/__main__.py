"""`python -m tests.simulation`: the engine in a simulated world, under many schedules of faults."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING

import click

from tests.simulation import caught
from tests.simulation.campaign import MOST_SEEDS, Figures, campaign, catch_again, hunt
from tests.simulation.drawing import EVENTS, FEWEST_FAULTS, draw
from tests.simulation.mutations import PLANTED
from tests.simulation.run import run
from tests.simulation.story import command, explain, tell

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

STORIES = 3
"""Of so many broken promises the stories are told, at once; of the others what to type for it."""

EVERY = 10.0
"""Seconds between two lines about the progress."""


@click.command()
@click.option("--schedules", default=10_000, show_default=True, help="How many.")
@click.option("--seconds", default=math.inf, help="Begin no further one after so many seconds.")
@click.option("--seed-base", type=int, help="The first seed; by the clock if not given.")
@click.option("--workers", default=2, show_default=True, help="Processes.")
@click.option("--seed", type=int, help="Play this one; where a promise is broken, tell its story.")
@click.option("--whole", is_flag=True, help="With --seed: the whole story, not made shorter.")
@click.option("--bug", type=click.Choice(sorted(PLANTED)), help="With --seed: plant this bug.")
@click.option("--bugs", is_flag=True, help="Plant every bug there is, and see it caught.")
@click.option("--hunt", "hunting", is_flag=True, help="Find a seed for every bug; keep them.")
def main(  # noqa: PLR0917  the command's options
    schedules: int,
    seconds: float,
    seed_base: int | None,
    workers: int,
    seed: int | None,
    whole: bool,  # noqa: FBT001  a flag of the command
    bug: str | None,
    bugs: bool,  # noqa: FBT001  a flag of the command
    hunting: bool,  # noqa: FBT001  a flag of the command
) -> None:
    """Plays schedules of records, answers and faults to the engines of several processes.

    Example: python -m tests.simulation --schedules 500
    """
    if seed is not None:
        sys.exit(_replay(seed, bug, whole=whole))
    if bugs:
        sys.exit(_plant(workers))
    if hunting:
        sys.exit(_hunt(workers))
    base = int(time.time()) * 1000 if seed_base is None else seed_base
    sys.exit(_simulate(range(base, base + schedules), seconds, workers))


def _simulate(seeds: range, seconds: float, workers: int) -> int:
    click.echo(f"Schedules from seed {seeds.start} on, {workers} at a time.")
    began = told = time.monotonic()
    stories = 0

    def progress(part: Figures, figures: Figures) -> None:
        nonlocal told, stories
        for seed, what in sorted(part.violations.items()):
            click.echo(f"PROMISE BROKEN, seed {seed}: {what}\n  again: {command(seed)}")
            if stories < STORIES:
                stories += 1
                click.echo("\n" + "\n".join(explain(draw(seed)).lines) + "\n")
        now = time.monotonic()
        if now - told >= EVERY:
            told = now
            broken = len(figures.violations)
            click.echo(f"{now - began:6.0f} s  {figures.schedules:,} schedules, {broken} broken")

    figures = campaign(seeds, seconds, workers, progress)
    for line in _report(figures, time.monotonic() - began):
        click.echo(line)
    return 1 if figures.violations or _is_thin(figures) else 0


def _is_thin(figures: Figures) -> bool:
    """Whether a schedule had less in it than it is said to have."""
    return figures.fewest_events < EVENTS or figures.fewest_faults < FEWEST_FAULTS


def _report(figures: Figures, seconds: float) -> Iterator[str]:
    counts, faults = figures.counts, figures.starting_with("fault")
    outcomes = ("delivered", "duplicate", "suppressed", "dead_lettered", "parked")
    done = ("requests", "assigned", "commits", "taken again")
    yield f"{figures.schedules:,} schedules in {seconds:.0f} s, {len(figures.violations)} broken"
    yield f"{figures.events:,} records: " + _listed(counts, outcomes)
    yield f"{figures.steps:,} steps: " + _listed(counts, done)
    yield f"{len(figures.states):,} distinct states"
    least = f"{figures.fewest_events} records and {figures.fewest_faults} faults"
    asked = f"asked for: {EVENTS} and {FEWEST_FAULTS}"
    yield f"every schedule had at least {least} ({asked})" + (
        ": TOO FEW" if _is_thin(figures) else ""
    )
    yield f"{sum(faults.values()):,} faults:"
    yield from _table(faults)
    yield "of these TikTok:"
    yield from _table(figures.starting_with("TikTok"))
    yield "events sent again, because nobody knew whether TikTok had them:"
    yield from _table(figures.repeats)
    yield f"{counts['crossed']:12,}  while another's late acceptance was on its way"
    if figures.violations:
        yield f"BROKEN, seeds {', '.join(map(str, sorted(figures.violations)))}"


def _listed(counts: Counter[str], names: Iterable[str]) -> str:
    return ", ".join(f"{counts[name]:,} {name}" for name in names)


def _table(counts: Counter[str]) -> Iterator[str]:
    return (f"{number:12,}  {name}" for name, number in counts.most_common())


def _replay(seed: int, bug: str | None, *, whole: bool) -> int:
    schedule = draw(seed)
    for line in tell(schedule, bug) if whole else explain(schedule, bug).lines:
        click.echo(line)
    return 0 if run(schedule, bug=bug).violation is None else 1


def _plant(workers: int) -> int:
    escaped = len(PLANTED)
    for known, again in catch_again(caught.read(), workers):
        escaped -= again
        what = f"seed {known.seed}: {known.invariant}" if again else "NOT CAUGHT any more (--hunt)"
        click.echo(f"{PLANTED[known.bug].sentence}: {what}")
    click.echo(f"{len(PLANTED)} planted bugs, {escaped} not caught")
    return 1 if escaped else 0


def _hunt(workers: int) -> int:
    """What is caught as before stays; for the rest seeds are looked for, and kept one by one."""
    before = [known for known in caught.read() if known.bug in PLANTED]
    found = {known.bug: known for known, again in catch_again(before, workers) if again}
    for bug, one in hunt([bug for bug in PLANTED if bug not in found], workers):
        if one is None:
            click.echo(f"{PLANTED[bug].sentence}: NOT CAUGHT by {MOST_SEEDS:,} schedules")
        else:
            click.echo(f"{PLANTED[bug].sentence}: seed {one.seed}: {one.invariant}")
            found[bug] = one
            caught.write(found[bug] for bug in PLANTED if bug in found)
    return 0 if len(found) == len(PLANTED) else 1


if __name__ == "__main__":
    main()
