"""Metrics in OpenTelemetry's data model, exported on a thread.

Names follow OpenTelemetry's habit (`tiktok_events.consumed`, unit apart), chosen so that its
translation to Prometheus gives the fixed names back. Sums and histograms are cumulative, or
deltas where `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` says `delta` or `lowmemory`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Gauge as GaugeData
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.export import Sum as SumData

from consumer.instruments import Counter, Distribution, Gauge, Histogram

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from consumer.instruments import Labels
    from consumer.metrics import Metrics

logger = logging.getLogger(__name__)


class _Snapshot(NamedTuple):
    """What the sums and histograms were at a time."""

    at_ns: int
    sums: dict[tuple[str, Labels], int]
    spreads: dict[tuple[str, Labels], Distribution]


class MetricsDataBuilder:
    """The metrics in OpenTelemetry's data model.

    Args:
        metrics: what to read.
        resource: who we are.
        scope: the instrumentation scope.
        started_ns: since when the sums count, nanoseconds since the epoch.
        delta: whether each export counts from the one before.
    """

    def __init__(
        self,
        metrics: Metrics,
        resource: Resource,
        scope: InstrumentationScope,
        *,
        started_ns: int,
        delta: bool,
    ) -> None:
        self._metrics = metrics
        self._resource = resource
        self._scope = scope
        self._temporality = (
            AggregationTemporality.DELTA if delta else AggregationTemporality.CUMULATIVE
        )
        self._delta = delta
        self._accepted = _Snapshot(started_ns, {}, {})
        self._built = self._accepted

    def build(self, now_ns: int) -> MetricsData:
        """What there is to tell since the last accepted export; empty metrics are left out."""
        self._built = _Snapshot(now_ns, {}, {})
        built = [self._metric(one, now_ns) for one in self._metrics.declared()]
        scoped = ScopeMetrics(self._scope, [metric for metric in built if metric], "")
        return MetricsData([ResourceMetrics(self._resource, [scoped], "")])

    def accepted(self) -> None:
        """The receiver took what was built last: deltas count from there on."""
        if self._delta:
            self._accepted = self._built

    def _metric(self, instrument: Counter | Gauge | Histogram, now_ns: int) -> Metric | None:
        data: SumData | GaugeData | HistogramData
        match instrument:
            case Counter():
                data = SumData(
                    [
                        NumberDataPoint(
                            _named(instrument, key),
                            self._accepted.at_ns,
                            now_ns,
                            self._since_last(instrument.name, key, value),
                        )
                        for key, value in instrument.values().items()
                    ],
                    self._temporality,
                    is_monotonic=True,
                )
            case Gauge():
                data = GaugeData(
                    [
                        NumberDataPoint(_named(instrument, key), 0, now_ns, value)
                        for key, value in instrument.values().items()
                    ]
                )
            case Histogram():
                data = HistogramData(
                    [
                        self._distribution(instrument, key, series, now_ns)
                        for key, series in instrument.values().items()
                    ],
                    self._temporality,
                )
        if not data.data_points:
            return None
        return Metric(otlp_name(instrument), instrument.meaning, instrument.unit, data)

    def _since_last(self, name: str, key: Labels, value: int) -> int:
        self._built.sums[name, key] = value
        return value - self._accepted.sums.get((name, key), 0)

    def _distribution(
        self, instrument: Histogram, key: Labels, series: Distribution, now_ns: int
    ) -> HistogramDataPoint:
        buckets, total = series.buckets, series.sum
        self._built.spreads[instrument.name, key] = series
        before = self._accepted.spreads.get((instrument.name, key))
        if before is not None:
            buckets = tuple(now - then for now, then in zip(buckets, before.buckets, strict=True))
            total -= before.sum
        return HistogramDataPoint(
            _named(instrument, key),
            self._accepted.at_ns,
            now_ns,
            sum(buckets),
            total,
            buckets,
            series.bounds,
            # The extremes are not kept; OTLP has them optional, the SDK's type does not say so.
            min=None,  # type: ignore[arg-type]  # see above
            max=None,  # type: ignore[arg-type]  # see above
        )


def otlp_name(instrument: Counter | Gauge | Histogram) -> str:
    """The OpenTelemetry name, which its translation turns into the Prometheus name again."""
    name = instrument.name.removeprefix("tiktok_events_").removesuffix("_total")
    suffix = {"s": "_seconds", "By": "_bytes"}.get(instrument.unit, "")
    return f"tiktok_events.{name.removesuffix(suffix)}"


def _named(instrument: Counter | Gauge | Histogram, key: Labels) -> dict[str, str]:
    return dict(zip(instrument.labels, key, strict=True))


class PeriodicExport:
    """Exports the metrics every `interval` seconds (`OTEL_METRIC_EXPORT_INTERVAL`), and at last."""

    def __init__(
        self, exporter: MetricExporter, builder: MetricsDataBuilder, interval: float
    ) -> None:
        self._exporter = exporter
        self._builder = builder
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metric-export", daemon=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """One last export, for so many seconds at most. Blocks."""
        self._stop.set()
        self._thread.join(max(seconds, 0.0))

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._export()
        self._export()
        self._exporter.shutdown()

    def _export(self) -> None:
        try:
            result = self._exporter.export(self._builder.build(time.time_ns()))
        except Exception:
            # An exporter of somebody else's making; the next interval tries again.
            logger.exception("the metric exporter failed")
            return
        if result is MetricExportResult.SUCCESS:
            self._builder.accepted()
        else:
            logger.warning("metrics could not be exported; the next export makes up for it")


def prefers_delta() -> bool:
    """Whether the environment asks for deltas instead of cumulative sums."""
    preference = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "")
    return preference.strip().lower() in ("delta", "lowmemory")
