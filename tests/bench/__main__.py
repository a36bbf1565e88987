"""What an event costs: `python -m tests.bench`.

The product and the floor read the same records from the same broker on the same machine, one
after the other. Decisive is the CPU time of the process, not the time that passes. A benchmark is
no test: it exits 0 whether the goals are met or missed. The machine should do nothing else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from tests.bench import rebuild, report, stations
from tests.bench.process import Cores
from tests.bench.product import OFF, SAMPLED, TRACED
from tests.bench.runs import PARTITIONS, prepared
from tests.bench.servers import ANSWER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.bench.runs import Bench, Run

_STATION_EVENTS = 4000


@click.command()
@click.option("--events", type=click.IntRange(min=1000), default=200_000, show_default=True)
@click.option(
    "--keys",
    type=click.IntRange(min=10_000),
    default=rebuild.KEYS,
    show_default=True,
    help="Marks in the local store whose rebuild is measured.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write every figure there."
)
@click.option(
    "--profile", is_flag=True, help="Instead of comparing, show where the main thread's time goes."
)
def bench(events: int, keys: int, json_file: Path | None, *, profile: bool) -> None:
    """Measure what an event costs, in the product and in the floor below it."""
    if sys.platform != "linux":
        raise click.ClickException("CPU time, memory and cores are measured the Linux way")
    click.echo(f"producing {events:,} records …", err=True)
    with prepared(events) as ready:
        _say([*_setting(ready), ""])
        figures = _profile(ready) if profile else _compare(ready)
    if not profile:
        figures["rebuild"] = _rebuild(keys)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def _setting(ready: Bench) -> Iterable[str]:
    yield (
        f"{ready.events:,} records, {ready.distinct:,} different events, {ready.value_bytes:.0f}"
        f" bytes a value, {PARTITIONS} partitions; TikTok answers after {ANSWER_MS:.0f} ms"
    )
    yield f"{ready.kafka.description}"
    measured, others = (",".join(map(str, sorted(cores))) for cores in ready.cores)
    yield f"measured process on core {measured}, everything else on core {others}"


def _compare(ready: Bench) -> dict[str, object]:
    found = report.Comparison(
        floor=_measuring("floor", ready.floor),
        sampled=_measuring(SAMPLED.name, lambda: ready.product(SAMPLED)),
        traced=_measuring(TRACED.name, lambda: ready.product(TRACED)),
        untraced=_measuring(OFF.name, lambda: ready.product(OFF)),
        floor_again=_measuring("floor again", ready.floor),
    )
    with TemporaryDirectory(prefix="bench-stations-") as folder:
        alone = stations.measure(_STATION_EVENTS, Path(folder))
    _say([*report.comparison_lines(found), ""])
    _say([*report.thread_lines(found), ""])
    _say(report.station_lines(alone))
    return {
        "events": ready.events,
        "value_bytes": ready.value_bytes,
        "kafka": ready.kafka.description,
        **found.to_json(),
        "stations": [station._asdict() for station in alone],
    }


def _rebuild(keys: int) -> list[dict[str, object]]:
    cores = Cores.of_this_machine()
    runs = []
    for number in rebuild.PARTITIONS:
        click.echo(f"measuring: rebuild, {number} partitions …", err=True)
        runs.append(rebuild.measure(keys, number, cores))
    _say(["", *rebuild.lines(runs)])
    return [run.to_json() for run in runs]


def _measuring(name: str, run: Callable[[], Run]) -> Run:
    click.echo(f"measuring: {name} …", err=True)
    return run()


def _profile(ready: Bench) -> dict[str, object]:
    functions = ready.profile(TRACED)
    _say(report.profile_lines(functions, ready.events))
    return {"events": ready.events, "functions": [one._asdict() for one in functions]}


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


if __name__ == "__main__":
    bench()
