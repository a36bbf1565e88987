"""How fast marks are rebuilt, and what they take then: `python -m tests.bench.rebuild`.

State records as owners write them are decoded and marked, in chunks as the state reader makes them,
by a process on one core, which RocksDB's own threads share. CPU time counts them all, until nothing
is left to be merged; what it takes to make the records up is left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from tests.bench.process import Cores, MeasuredProcess
from tests.bench.report import Goal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEYS = 10_000_000
PARTITIONS = (1, 8)
"""Over how many partitions the keys are spread: a run each."""

_MB = 1024 * 1024
_MICROS_A_KEY = 2.0
_LOOK_UP_MICROS = 1.0
_RSS_MB = 300.0
_SLOWEST = 50_000
"""Keys a second below which a run is taken for stuck."""


class Rebuilt(NamedTuple):
    """What a run took.

    `seconds` passed until the last mark was written, `cpu_seconds` were spent until all was
    merged. `call_ms` are the median, the 99th percentile and the slowest of the calls that marked
    a chunk. `rss` is what the process holds with all keys on disk and after look-ups, in bytes,
    `peak_rss` the most it ever held. `unknown_micros` and `known_micros` are per key looked up;
    `open_seconds` is what opening all stores took after an orderly end.
    """

    keys: int
    partitions: int
    seconds: float
    cpu_seconds: float
    call_ms: tuple[float, float, float]
    rss: int
    peak_rss: int
    disk_bytes: int
    unknown_micros: float
    known_micros: float
    open_seconds: float

    @property
    def micros_a_key(self) -> float:
        """CPU microseconds per key."""
        return self.cpu_seconds / self.keys * 1e6

    def goals(self) -> list[Goal]:
        """What is aimed at."""
        where = f"{self.partitions} partition{'s' if self.partitions > 1 else ''}"
        return [
            Goal(f"CPU per key rebuilt, {where}", self.micros_a_key, _MICROS_A_KEY, " µs"),
            Goal(f"unknown key looked up, {where}", self.unknown_micros, _LOOK_UP_MICROS, " µs"),
            Goal(f"memory, {where}", self.peak_rss / _MB, _RSS_MB, " MB"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Every figure."""
        goals = [{**goal._asdict(), "met": goal.met} for goal in self.goals()]
        return {**self._asdict(), "micros_a_key": self.micros_a_key, "goals": goals}


def measure(keys: int, partitions: int, cores: Cores) -> Rebuilt:
    """A run in a process of its own, in a folder that is gone afterwards."""
    with TemporaryDirectory(prefix="bench-rebuild-") as folder:
        command = (
            *(sys.executable, "-m", "tests.bench.rebuild_run"),
            *(str(keys), str(partitions), str(Path(folder) / "state")),
        )
        with MeasuredProcess(command, Path(folder), cores.measured) as process:
            usage = process.wait(60.0 + keys / _SLOWEST)
            figures = json.loads(process.log_lines()[-1])
    figures["call_ms"] = tuple(figures["call_ms"])
    return Rebuilt(keys=keys, partitions=partitions, peak_rss=usage.peak_rss, **figures)


def lines(runs: Sequence[Rebuilt]) -> Iterator[str]:
    """The runs as a table, the goals below it."""
    yield (
        f"{'rebuild':24}{'keys/s CPU':>12}{'keys/s':>11}{'call ms':>8}{'p99':>6}{'max':>6}"
        f"{'µs unknown':>12}{'µs known':>10}{'RSS MB':>8}{'peak MB':>9}{'disk MB':>9}{'open s':>8}"
    )
    for run in runs:
        median, p99, slowest = run.call_ms
        yield (
            f"{f'{run.keys:,} in {run.partitions}':24}{run.keys / run.cpu_seconds:12,.0f}"
            f"{run.keys / run.seconds:11,.0f}{median:8.1f}{p99:6.0f}{slowest:6.0f}"
            f"{run.unknown_micros:12.2f}{run.known_micros:10.2f}{run.rss / _MB:8.0f}"
            f"{run.peak_rss / _MB:9.0f}{run.disk_bytes / _MB:9.0f}{run.open_seconds:8.2f}"
        )
    yield "CPU: of all threads, until all tables were merged. keys/s: passed until the last mark."
    yield ""
    for run in runs:
        yield from map(str, run.goals())


@click.command()
@click.option("--keys", type=click.IntRange(min=10_000), default=KEYS, show_default=True)
def rebuild(keys: int) -> None:
    """Measure how fast the local store is rebuilt, and its memory with all keys in it."""
    if sys.platform != "linux":
        raise click.ClickException("CPU time, memory and cores are measured the Linux way")
    cores = Cores.of_this_machine()
    for line in lines([measure(keys, partitions, cores) for partitions in PARTITIONS]):
        click.echo(line)


if __name__ == "__main__":
    rebuild()
