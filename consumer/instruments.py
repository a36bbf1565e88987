"""What a metric is made of: counters, gauges and histograms that count whole chunks.

Aggregation is ours, because the path counts per chunk and not per event: a counter is a
dictionary of integers, a histogram a list of bucket counts. Every instrument may be used from any
thread. Which metrics there are stands in `metrics.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Labels = tuple[str, ...]
"""Label values, in the order of the instrument's label names."""


class UndeclaredMetricError(LookupError):
    """A metric was asked for that is declared nowhere, or a label that it does not have."""


class Instrument:
    """What counters, gauges and histograms share: a name, its meaning, and its labels.

    Attributes:
        name: in Prometheus form.
        meaning: one sentence; the help text of the exposition.
        unit: in UCUM, as OpenTelemetry asks for (`s`, `{event}`).
        labels: label names.
    """

    __slots__ = ("_lock", "labels", "meaning", "name", "unit")

    def __init__(self, name: str, meaning: str, unit: str, labels: Labels = ()) -> None:
        self.name = name
        self.meaning = meaning
        self.unit = unit
        self.labels = labels
        self._lock = Lock()

    def _check(self, labels: Labels) -> Labels:
        if len(labels) != len(self.labels):
            raise UndeclaredMetricError(
                f"{self.name} has the labels {self.labels}, and was given {len(labels)}"
            )
        return labels

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Counter(Instrument):
    """A sum that only grows."""

    __slots__ = ("_values",)

    def __init__(self, name: str, meaning: str, unit: str, labels: Labels = ()) -> None:
        super().__init__(name, meaning, unit, labels)
        self._values: dict[Labels, int] = {}

    def add(self, n: int, labels: Labels = ()) -> None:
        """Adds `n`, which is not negative.

        Raises:
            UndeclaredMetricError: the labels are not as many as declared.
            ValueError: `n` is negative.
        """
        if n < 0:
            raise ValueError(f"{self.name} only grows")
        with self._lock:
            known = self._values.get(labels)
            self._values[self._check(labels) if known is None else labels] = (known or 0) + n

    def values(self) -> Mapping[Labels, int]:
        """A snapshot. A counter without labels is there from the start, at 0."""
        with self._lock:
            return self._values.copy() if self._values or self.labels else {(): 0}


class Gauge(Instrument):
    """A value as it is now."""

    __slots__ = ("_values",)

    def __init__(self, name: str, meaning: str, unit: str, labels: Labels = ()) -> None:
        super().__init__(name, meaning, unit, labels)
        self._values: dict[Labels, float] = {}

    def set(self, value: float, labels: Labels = ()) -> None:
        """Sets one series.

        Raises:
            UndeclaredMetricError: the labels are not as many as declared.
        """
        with self._lock:
            self._values[self._check(labels)] = value

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Sets all series at once; those not in `values` end (a partition that was handed over).

        Raises:
            UndeclaredMetricError: the labels are not as many as declared.
        """
        fresh = {self._check(labels): value for labels, value in values.items()}
        with self._lock:
            self._values = fresh

    def values(self) -> Mapping[Labels, float]:
        """A snapshot."""
        with self._lock:
            return self._values.copy()


class Distribution(NamedTuple):
    """One series of a histogram. `buckets` has one count more than `bounds`: the rest."""

    bounds: tuple[float, ...]
    buckets: tuple[int, ...]
    sum: float

    @property
    def observed(self) -> int:
        """How many values were observed."""
        return sum(self.buckets)


class Histogram(Instrument):
    """How values are distributed: a value counts in the first bucket whose bound is not below it.

    Attributes:
        bounds: upper bounds, rising; what is above the last is counted too.
    """

    __slots__ = ("_values", "bounds")

    def __init__(
        self, name: str, meaning: str, unit: str, bounds: tuple[float, ...], labels: Labels = ()
    ) -> None:
        super().__init__(name, meaning, unit, labels)
        self.bounds = bounds
        self._values: dict[Labels, tuple[list[int], float]] = {}

    def observe(self, value: float, labels: Labels = ()) -> None:
        """Counts one value; see `observe_many`."""
        self.observe_many((value,), labels)

    def observe_many(self, values: Iterable[float], labels: Labels = ()) -> None:
        """Counts the values of a chunk.

        Raises:
            UndeclaredMetricError: the labels are not as many as declared.
        """
        bounds = self.bounds
        with self._lock:
            known = self._values.get(labels)
            if known is None:
                known = [0] * (len(bounds) + 1), 0.0
                labels = self._check(labels)
            buckets, total = known
            for value in values:
                buckets[bisect_left(bounds, value)] += 1
                total += value
            self._values[labels] = buckets, total

    def values(self) -> Mapping[Labels, Distribution]:
        """A snapshot."""
        with self._lock:
            return {
                labels: Distribution(self.bounds, tuple(buckets), total)
                for labels, (buckets, total) in self._values.items()
            }
