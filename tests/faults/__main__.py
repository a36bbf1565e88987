"""Faults on the real thing: `python -m tests.faults`.

The installed command runs against real Apache Kafka and the TikTok emulator while processes are
killed and stopped, members come and go, brokers die, the network is cut, answers are withheld and
disks are full. What was produced is compared with what TikTok has taken. Ends with exit code 1
where an event was lost, a known acceptance was repeated, or anything else was not as promised.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from tempfile import mkdtemp

import click

from tests.faults.arena import Arena
from tests.faults.plan import SCENARIOS, plan
from tests.faults.results import Result, ResultsFile, Totals, table
from tests.faults.screen import Screen
from tests.faults.umpire import exit_code, play, play_all


@click.command()
@click.option("--scenario", "names", multiple=True, type=click.Choice(list(SCENARIOS)))
@click.option("--events", type=click.IntRange(min=1), help="About so many in total.")
@click.option("--minutes", type=float, help="Begin no further round after so many minutes.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--slice", "brief", is_flag=True, help="One short round of each scenario.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep results there, and leave out the rounds that are there already.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures.")
@click.option("--list", "only_list", is_flag=True, help="Say what the scenarios are, and end.")
def faults(
    *,
    names: tuple[str, ...],
    events: int | None,
    minutes: float | None,
    seed: int,
    resume: Path | None,
    json_file: Path | None,
    brief: bool,
    only_list: bool,
) -> None:
    """Trouble the consumer in every way there is, and settle the accounts."""
    if only_list:
        for scenario in SCENARIOS.values():
            click.echo(f"{scenario.name:13} {scenario.says}")
        return
    chosen = [SCENARIOS[name] for name in dict.fromkeys(names or SCENARIOS)]
    rounds = list(plan(chosen, seed=seed, brief=brief, events=events))
    folder = Path(mkdtemp(prefix="faults-"))
    # As with Ctrl-C: processes, brokers and mounts are ended on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with Screen(len(rounds)) as screen, Arena(folder) as arena:
        results = play_all(
            rounds,
            ResultsFile(resume),
            lambda round_id: play(arena, SCENARIOS[round_id.scenario], round_id, screen.progress),
            screen,
            float("inf") if minutes is None else minutes * 60,
        )
    if not any(folder.iterdir()):
        folder.rmdir()
    _report(results, json_file)
    sys.exit(exit_code(results))


def _report(results: list[Result], json_file: Path | None) -> None:
    for line in table(results):
        click.echo(line)
    if json_file is not None:
        figures = {
            "version": sorted({result.id.version for result in results}),
            "total": Totals.of("all", results).to_json(),
            "scenarios": [
                Totals.of(name, [r for r in results if r.id.scenario == name]).to_json()
                for name in dict.fromkeys(result.id.scenario for result in results)
            ],
        }
        json_file.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    faults()
