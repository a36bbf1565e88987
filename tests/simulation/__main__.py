"""`python -m tests.simulation`: many schedules, one of them again, or the planted bugs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from multiprocessing import Pool

import click

from tests.simulation.drawing import draw
from tests.simulation.mutations import PLANTED, planted
from tests.simulation.run import Result, run

EVERY = 5.0
"""Seconds between two lines about the progress."""

SEEDS_FOR_A_BUG = 400
"""Within so many schedules every planted bug must be caught."""


def play(seed: int) -> Result:
    """One schedule."""
    return run(draw(seed))


def catch(name: str) -> tuple[str, int | None, str]:
    """The first seed that catches a planted bug, and what it says."""
    with planted(name):
        for seed in range(SEEDS_FOR_A_BUG):
            try:
                found = play(seed).violation
            except Exception as error:  # noqa: BLE001  a broken engine may break in any way
                return name, seed, f"{type(error).__name__}: {error}"
            if found is not None:
                return name, seed, str(found)
    return name, None, ""


@click.command()
@click.option("--schedules", default=10_000, show_default=True, help="How many.")
@click.option("--seconds", type=float, help="Begin no further schedule after so many seconds.")
@click.option("--seed-base", type=int, help="The first seed; drawn from the clock if not given.")
@click.option("--seed", type=int, help="Play this one and tell its story.")
@click.option("--bugs", is_flag=True, help="Plant every bug there is, and see it caught.")
@click.option("--workers", default=2, show_default=True)
def main(  # noqa: PLR0917  the command's options
    schedules: int,
    seconds: float | None,
    seed_base: int | None,
    seed: int | None,
    bugs: bool,  # noqa: FBT001  a flag of the command
    workers: int,
) -> None:
    """Plays schedules of records, answers and faults to the engines of several processes.

    Example: python -m tests.simulation --schedules 500
    """
    if seed is not None:
        sys.exit(1 if run(draw(seed), click.echo).violation else 0)
    if bugs:
        sys.exit(plant(workers))
    base = int(time.time()) if seed_base is None else seed_base
    sys.exit(simulate(range(base, base + schedules), seconds, workers))


def simulate(seeds: range, seconds: float | None, workers: int) -> int:
    """Plays many schedules; 1 where one of them broke a promise."""
    began = told = time.monotonic()
    counts, repeats = Counter[str](), Counter[str]()
    states: set[int] = set()
    played = events = 0
    broken: list[Result] = []
    with Pool(workers) as pool:
        for result in pool.imap_unordered(play, seeds, chunksize=4):
            played, events = played + 1, events + result.events
            counts += result.counts
            repeats += result.repeats
            states |= result.states
            if result.violation is not None:
                broken.append(result)
                click.echo(f"seed {result.seed}: {result.violation}")
            if time.monotonic() - told > EVERY:
                told = time.monotonic()
                click.echo(f"{told - began:6.0f} s  {played:,} schedules, {len(broken)} broken")
            if seconds is not None and time.monotonic() - began > seconds:
                break  # leaving the pool ends its workers
    faults = {name: number for name, number in counts.items() if name.startswith("fault: ")}
    click.echo(
        f"{played:,} schedules from seed {seeds.start}: {events:,} events, "
        f"{sum(faults.values()):,} faults, {len(states):,} distinct states, "
        f"{time.monotonic() - began:.0f} s; {len(broken)} broken"
    )
    for name, number in sorted(faults.items(), key=lambda fault: -fault[1]):
        click.echo(f"{number:10,}  {name.removeprefix('fault: ')}")
    click.echo("Sent again, because it was not known whether TikTok had it:")
    for name, number in repeats.most_common():
        click.echo(f"{number:10,}  {name}")
    for result in broken[:3]:
        click.echo(f"Its story: python -m tests.simulation --seed {result.seed}")
    return 1 if broken else 0


def plant(workers: int) -> int:
    """Plants every bug; 1 where one of them is not caught."""
    escaped = 0
    with Pool(workers) as pool:
        for name, seed, said in pool.imap_unordered(catch, PLANTED):
            escaped += seed is None
            what = "NOT CAUGHT" if seed is None else f"seed {seed}: {said[:100]}"
            click.echo(f"{PLANTED[name].sentence}: {what}")
    click.echo(f"{len(PLANTED)} planted bugs, {escaped} not caught")
    return 1 if escaped else 0


if __name__ == "__main__":
    main()
