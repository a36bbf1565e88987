"""What the benchmark says: a table to read, and the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.profiler import Function
    from tests.bench.runs import Run
    from tests.bench.stations import Station

_MB = 1024 * 1024
_TOP = 25
_SMALL_SHARE = 0.01

_RATIO_SAMPLED = 1.7
_RATIO_TRACED = 2.0
_PEAK_RSS_MB = 250.0


class Goal(NamedTuple):
    """A figure and what it should be at most."""

    name: str
    figure: float
    at_most: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.figure <= self.at_most

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.name}: {self.figure:.2f}{self.unit}, goal at most"
            f" {self.at_most:g}{self.unit}: {'met' if self.met else 'missed'}"
        )


class Comparison(NamedTuple):
    """All runs on the same data: the floor before and after the product in its ways of tracing."""

    floor: Run
    sampled: Run
    traced: Run
    untraced: Run
    floor_again: Run

    @property
    def floor_micros(self) -> float:
        """CPU microseconds per event of the floor, the mean of both runs."""
        return (self.floor.micros_per_event + self.floor_again.micros_per_event) / 2

    @property
    def drift(self) -> float:
        """By how much the second floor differs from the first: what the machine did meanwhile."""
        return self.floor_again.micros_per_event / self.floor.micros_per_event - 1

    def ratio(self, run: Run) -> float:
        """A run's cost in floors."""
        return run.micros_per_event / self.floor_micros

    def goals(self) -> list[Goal]:
        """What is aimed at."""
        peak = max(self.sampled.peak_rss, self.traced.peak_rss) / _MB
        return [
            Goal(f"ratio, {self.sampled.name}", self.ratio(self.sampled), _RATIO_SAMPLED),
            Goal(f"ratio, {self.traced.name}", self.ratio(self.traced), _RATIO_TRACED),
            Goal("peak memory", peak, _PEAK_RSS_MB, " MB"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Every figure."""
        return {
            "runs": {
                name: {
                    **run._asdict(),
                    "micros_per_event": run.micros_per_event,
                    "events_per_second": run.events_per_second,
                    "ratio": self.ratio(run),
                }
                for name, run in zip(self._fields, self, strict=True)
            },
            "floor_micros": self.floor_micros,
            "drift": self.drift,
            "goals": [{**goal._asdict(), "met": goal.met} for goal in self.goals()],
        }


def comparison_lines(found: Comparison) -> Iterator[str]:
    """The comparison as a table, the goals below it."""
    yield (
        f"{'':24}{'CPU s':>8}{'start-up':>10}{'µs/event':>10}{'ratio':>7}{'events/s':>10}"
        f"{'wall s':>8}{'peak MB':>9}{'requests':>10}{'spans':>9}{'OTLP MB':>9}"
    )
    for run in found:
        yield (
            f"{run.name:24}{run.cpu_seconds:8.2f}{run.startup_cpu_seconds:10.2f}"
            f"{run.micros_per_event:10.1f}{found.ratio(run):7.2f}{run.events_per_second:10,.0f}"
            f"{run.seconds:8.1f}{run.peak_rss / _MB:9.0f}{run.requests:10,}{run.spans:9,}"
            f"{run.otlp_bytes / _MB:9.1f}"
        )
    yield "CPU: user and system time of all threads. µs/event, ratio, events/s (on one core):"
    yield "without start-up, which was measured on an empty topic."
    yield ""
    yield f"floor: {found.floor_micros:.1f} µs/event; the second run took {found.drift:+.1%}"
    expected = found.traced.records + found.traced.requests
    yield f"spans received, {found.traced.name}: {found.traced.spans:,} of {expected:,}"
    yield from map(str, found.goals())


def thread_lines(runs: Sequence[Run]) -> Iterator[str]:
    """Which threads the CPU time went to, in µs per event, start-up included."""
    kinds = sorted({kind for run in runs for kind in run.threads})
    yield f"{'threads, µs/event':24}" + "".join(f"{kind:>16}" for kind in kinds)
    for run in runs:
        cells = (run.threads.get(kind, 0.0) / run.delivered * 1e6 for kind in kinds)
        yield f"{run.name:24}" + "".join(f"{cell:16.1f}" for cell in cells)


def station_lines(stations: Sequence[Station]) -> Iterator[str]:
    """What each station costs, on one thread without network."""
    yield f"{'stations, µs/event':40}{'product':>9}{'floor':>9}"
    for station in stations:
        of_floor = "" if station.floor is None else f"{station.floor:9.1f}"
        yield f"{station.name:40}{station.product:9.1f}{of_floor:>9}"


def profile_lines(functions: Sequence[Function], events: int) -> Iterator[str]:
    """The functions with the most own time, in µs per record, below their modules.

    A module's time is that of all its functions, of these or not; other people's packages count
    as one module each.
    """
    total = sum(function.seconds for function in functions)
    modules: dict[str, list[Function]] = {}
    for function in functions:
        modules.setdefault(_module(function), []).append(function)
    top = set(functions[:_TOP])
    micros = total / events * 1e6
    yield f"main thread, start-up included: {total:.2f} s of CPU, {micros:.1f} µs a record"
    for name, its in sorted(modules.items(), key=lambda m: -sum(f.seconds for f in m[1])):
        seconds = sum(function.seconds for function in its)
        if seconds < total * _SMALL_SHARE and top.isdisjoint(its):
            continue
        yield f"{seconds / events * 1e6:7.1f} {seconds / total:5.1%}  {name}"
        for function in its:
            if function in top:
                yield f"{function.seconds / events * 1e6:25.1f}  {function.name}"


def _module(function: Function) -> str:
    package, _, _ = function.module.partition(".")
    return function.module if package == "consumer" else package
