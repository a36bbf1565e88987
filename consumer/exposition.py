"""Metrics as Prometheus text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from consumer.instruments import Counter, Distribution, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric as MetricFamily

    from consumer.metrics import Metrics


class PrometheusText:
    """The metrics as a scraper reads them."""

    def __init__(self, metrics: Metrics) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Families(metrics))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body for a scraper that accepts these media types, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Families(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[MetricFamily]:
        for instrument in self._metrics.declared():
            yield _family(instrument)


def _family(instrument: Counter | Gauge | Histogram) -> MetricFamily:
    name, meaning, labels = instrument.name, instrument.meaning, instrument.labels
    match instrument:
        case Counter():
            counter = CounterMetricFamily(name, meaning, labels=labels)
            for key, count in instrument.values().items():
                counter.add_metric(key, count)
            return counter
        case Gauge():
            gauge = GaugeMetricFamily(name, meaning, labels=labels)
            for key, value in instrument.values().items():
                gauge.add_metric(key, value)
            return gauge
        case Histogram():
            histogram = HistogramMetricFamily(name, meaning, labels=labels)
            for key, series in instrument.values().items():
                histogram.add_metric(key, _cumulative(series), series.sum)
            return histogram


def _cumulative(series: Distribution) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    count = 0
    bounds = [*(str(bound) for bound in series.bounds), "+Inf"]
    for bound, n in zip(bounds, series.buckets, strict=True):
        count += n
        buckets.append((bound, count))
    return buckets
