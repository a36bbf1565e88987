"""`python -m tests.fuzz`: hostile events through route and mapping, checked by TikTok's rules."""

from __future__ import annotations

import sys
import time
from itertools import islice
from multiprocessing import Pool
from pprint import pformat

import click

from tests.fuzz.campaign import Figures, event, fuzz

CHUNK = 5_000


@click.command()
@click.option("--events", default=100_000, show_default=True, help="How many.")
@click.option("--seed", default=1, show_default=True, help="Draws the same events again.")
@click.option("--workers", default=2, show_default=True, help="Processes.")
@click.option("--show", type=int, help="Print the event of this number, and what becomes of it.")
def main(events: int, seed: int, workers: int, show: int | None) -> None:
    """Changes one to three fields of events of every source, and sees what becomes of them.

    Example: python -m tests.fuzz --events 100000
    """
    if show is not None:
        drawn = event(seed, show)
        click.echo(f"{drawn.source} event with other {', '.join(drawn.changed)}")
        click.echo(pformat(drawn.event, sort_dicts=False))
        figures = fuzz(seed, [show])
    else:
        began = time.monotonic()
        figures = _all(events, seed, workers)
        click.echo(f"seed {seed}, {time.monotonic() - began:.0f} s")
    for line in figures.lines():
        click.echo(line)
    for number, problem in islice(figures.found, 20):
        click.echo(f"  --show {number}: {problem}")
    sys.exit(1 if figures.found else 0)


def _all(events: int, seed: int, workers: int) -> Figures:
    chunks = [range(at, min(at + CHUNK, events)) for at in range(0, events, CHUNK)]
    total = Figures()
    with Pool(workers) as pool:
        for figures in pool.starmap(fuzz, zip([seed] * len(chunks), chunks, strict=True)):
            total.events += figures.events
            total.outcomes += figures.outcomes
            total.warned += figures.warned
            total.found += figures.found
    return total


if __name__ == "__main__":
    main()
