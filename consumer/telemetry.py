"""What the process tells about itself: counts, spans and a few log lines, a chunk at a time.

`Telemetry.from_environment` puts the parts together as the `OTEL_*` variables say. The path calls
`consumed`, `settled` and `attempt_finished`; each is one plain loop over its chunk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from consumer import otel, otlp_http
from consumer.errors import ConfigError, Problem
from consumer.event import Outcome, Reason
from consumer.export import ExportThread
from consumer.log_limit import LogLimit
from consumer.metric_export import MetricsDataBuilder, PeriodicExport, prefers_delta
from consumer.metrics import Metrics
from consumer.otlp import Envelope
from consumer.sdk_spans import SdkExport
from consumer.span_writer import SpanWriter
from consumer.spans import endpoint
from consumer.tracing import Tracer
from consumer.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.resources import Resource

    from consumer.event import Attempt, Item
    from consumer.instruments import Labels

logger = logging.getLogger(__name__)

SCOPE = "tiktok-events"
"""The instrumentation scope's name."""

MOST_EVENT_NAMES = 200
"""Event names that metrics tell apart; later ones count as `other`, so that labels stay few."""

_CUSTOM = "properties.custom"
_REPEATED = frozenset({Kind.RETRY.value, Kind.THROTTLED.value, Kind.HELD.value})


class Telemetry:
    """Counts and traces what the path reports. Used from the event loop's thread.

    Attributes:
        tracer: draws span identities.
        metrics: every metric; the pipeline sets the gauges.
    """

    def __init__(
        self,
        tracer: Tracer,
        metrics: Metrics,
        writer: SpanWriter,
        exports: Sequence[PeriodicExport] = (),
    ) -> None:
        self.tracer = tracer
        self.metrics = metrics
        self._writer = writer
        self._exports = exports
        self._event_names: set[str] = set()
        self._letters = LogLimit(lines=10, seconds=60.0)

    @classmethod
    def from_environment(cls, *, service_version: str, group: str, endpoint_url: str) -> Telemetry:
        """Telemetry as OpenTelemetry's environment variables configure it; see `otel.py`.

        Raises:
            ConfigError: a variable names what is not installed, or cannot be read.
        """
        parts = otel.trace_parts()
        metrics = Metrics()
        resource = otel.resource(service_version)
        scope = InstrumentationScope(SCOPE, service_version)
        writer = _span_writer(metrics, resource, scope, group, endpoint_url)
        tracer = Tracer(*parts, enabled=bool(writer.threads))
        return cls(tracer, metrics, writer, _metric_exports(metrics, resource, scope))

    def consumed(self, topic: str, records: int) -> None:
        """Records were read from a topic."""
        self.metrics.consumed.add(records, (topic,))

    def settled(self, items: Sequence[Item]) -> None:
        """Items have their outcome: they are counted, traced, and dead letters logged."""
        outcomes: dict[tuple[Outcome | None, Reason | None, str | None], int] = {}
        matched: dict[tuple[str, tuple[str, ...]], int] = {}
        seconds: list[float] = []
        for item in items:
            mapped = item.mapped
            if mapped is None:
                key = (item.outcome, item.reason, item.event_source_id)
            else:
                key = (item.outcome, item.reason, mapped.destination.event_source_id)
                event = (mapped.event, mapped.match_keys)
                matched[event] = matched.get(event, 0) + 1
                if mapped.warnings:
                    self._count_warnings(item)
            outcomes[key] = outcomes.get(key, 0) + 1
            settled, timestamp = item.settled or item.received, item.record.timestamp
            since = timestamp * 1_000_000 if timestamp >= 0 else item.received.wall_ns
            seconds.append((settled.wall_ns - since) / 1e9 if settled.wall_ns > since else 0.0)
            if item.outcome is Outcome.DEAD_LETTERED:
                self._log_letter(item)
        self.metrics.end_to_end_seconds.observe_many(seconds)
        for (outcome, reason, source_id), count in outcomes.items():
            self.metrics.settled.add(count, _settled_labels(outcome, reason, source_id))
        for (name, keys), count in matched.items():
            self._count_match_keys(name, keys, count)
        self._writer.events(items)

    def attempt_finished(self, attempt: Attempt) -> None:
        """A request is over: it is counted and traced."""
        metrics = self.metrics
        ended = attempt.ended or attempt.started
        cause = _cause(attempt)
        labels = (attempt.destination.event_source_id, cause)
        metrics.requests.add(1, labels)
        if attempt.alert:
            metrics.alerts.add(1, labels)
        metrics.request_seconds.observe(max(ended.mono - attempt.started.mono, 0.0), labels)
        metrics.batch_events.observe(attempt.events)
        if attempt.verdict in _REPEATED:
            metrics.retries.add(attempt.events, (cause,))
        for why, events in attempt.repeats.items():
            metrics.repeats.add(events, (attempt.destination.event_source_id, why))
        self._writer.attempt(attempt)

    async def close(self, seconds: float) -> None:
        """Brings out what waits, for so many seconds at most; the rest is counted as dropped."""
        closing = [*self._writer.threads, *self._exports]
        await asyncio.gather(*(asyncio.to_thread(one.close, seconds) for one in closing))

    def _count_warnings(self, item: Item) -> None:
        for warning in item.mapped.warnings if item.mapped is not None else ():
            # The names of custom properties are the users' own, and any number of them.
            field = _CUSTOM if warning.field.startswith(_CUSTOM) else warning.field
            self.metrics.warnings.add(1, (field,))

    def _count_match_keys(self, name: str, keys: tuple[str, ...], count: int) -> None:
        if name not in self._event_names:
            if len(self._event_names) < MOST_EVENT_NAMES:
                self._event_names.add(name)
            else:
                name = "other"
        self.metrics.match_keys_events.add(count, (name,))
        for key in keys:
            self.metrics.match_keys.add(count, (name, key))

    def _log_letter(self, item: Item) -> None:
        now = item.settled or item.received
        reason = item.reason.value if item.reason is not None else ""
        skipped = self._letters.skipped(reason, now.mono)
        if skipped is None:
            return
        record, trace = item.record, item.trace
        logger.warning(
            "event dead-lettered: %s",
            reason,
            extra={
                "event_id": item.event_id,
                "trace_id": f"{trace.trace_id:032x}" if trace.trace_id else None,
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "reason": reason,
                "field": item.field,
                "detail": item.detail,
                "not_logged": skipped or None,
            },
        )


def _settled_labels(
    outcome: Outcome | None, reason: Reason | None, source_id: str | None
) -> Labels:
    # An id that no destination has is any text somebody sent: too many for a label.
    known = source_id is not None and reason is not Reason.UNKNOWN_DESTINATION
    return (
        outcome.value if outcome is not None else "",
        reason.value if reason is not None else "",
        source_id if known and source_id is not None else "",
    )


def _cause(attempt: Attempt) -> str:
    if attempt.code is not None:
        return str(attempt.code)
    return attempt.error or f"http_{attempt.http_status}"


def _span_writer(
    metrics: Metrics,
    resource: Resource,
    scope: InstrumentationScope,
    group: str,
    endpoint_url: str,
) -> SpanWriter:
    otlp = None
    others = []
    delay = otel.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5.0)
    spans = otel.positive("OTEL_BSP_MAX_QUEUE_SIZE", float("inf"))
    for name in otel.exporter_names("traces"):
        if name == otel.OTLP_HTTP and not otlp_http.has_credential_provider():
            envelope = Envelope(
                resource.attributes, (scope.name, scope.version or ""), resource.schema_url
            )
            sender = otlp_http.OtlpHttp(envelope, otlp_http.wire_of_sdk())
            otlp = ExportThread(sender, metrics, delay=delay, max_spans=spans)
        else:
            make = otel.load("opentelemetry_traces_exporter", name, "OTEL_TRACES_EXPORTER")
            exporter = SdkExport(make(), resource, scope)
            others.append(ExportThread(exporter, metrics, delay=delay, max_spans=spans))
    return SpanWriter(group, endpoint(endpoint_url), otlp, others)


def _metric_exports(
    metrics: Metrics, resource: Resource, scope: InstrumentationScope
) -> Sequence[PeriodicExport]:
    interval = otel.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60.0)
    exports = []
    for name in otel.exporter_names("metrics"):
        if name == "prometheus":
            continue  # /metrics of the admin server is just that
        make = otel.load("opentelemetry_metrics_exporter", name, "OTEL_METRICS_EXPORTER")
        if not (isinstance(make, type) and issubclass(make, MetricExporter)):
            problem = Problem("OTEL_METRICS_EXPORTER", f"{name!r} is no push exporter")
            raise ConfigError((problem,))
        builder = MetricsDataBuilder(
            metrics, resource, scope, started_ns=time.time_ns(), delta=prefers_delta()
        )
        exports.append(PeriodicExport(make(), builder, interval))
    return exports
