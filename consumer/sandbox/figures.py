"""Figures out of a consumer's `/metrics`: the few that the demo's summary shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_END_TO_END = "tiktok_events_end_to_end_seconds_bucket"
_REPEATS = "tiktok_events_repeats_total"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one consumer process has counted.

    `end_to_end` are the cumulative buckets of the seconds from a record's Kafka timestamp to its
    outcome, by upper bound; `repeats` counts events sent again although the attempt before may
    have counted, by cause.
    """

    end_to_end: Mapping[float, float] = field(default_factory=dict)
    repeats: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_metrics(cls, text: str) -> Figures:
        """Reads Prometheus text; what is not there yet is nothing."""
        buckets: dict[float, float] = {}
        repeats: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == _END_TO_END:
                    buckets[float(sample.labels["le"])] = sample.value
                elif sample.name == _REPEATS:
                    repeats[sample.labels["cause"]] += int(sample.value)
        return cls(buckets, dict(repeats))


def together(figures: Iterable[Figures]) -> Figures:
    """The figures of several processes as if they had been one."""
    buckets: Counter[float] = Counter()
    repeats: Counter[str] = Counter()
    for one in figures:
        for bound, count in one.end_to_end.items():
            buckets[bound] += count  # type: ignore[assignment]  # floats are added as well
        repeats.update(one.repeats)
    return Figures(dict(buckets), dict(repeats))


def quantile(buckets: Mapping[float, float], share: float, most: float) -> float | None:
    """About below which value this share (0 to 1) of the observations lies; None without any.

    Linear within a bucket, as Prometheus' `histogram_quantile`. `most` is what no observation can
    have exceeded: the last buckets are wide, and without it a guess could be above all of them.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    wanted = share * buckets[bounds[-1]]
    lower = below = 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= wanted and count > below:
            upper = max(min(bound, most), lower)
            guess = lower + (upper - lower) * (wanted - below) / (count - below)
            return min(guess, upper)  # rounding can take it one step above
        lower, below = bound, count
    return lower
