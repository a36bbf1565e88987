"""Every metric the process has, declared once: name, kind, unit, meaning, labels.

Names are in Prometheus form and fixed; units are UCUM's, as OpenTelemetry asks for.
`exposition.py` writes them as Prometheus text, `metric_export.py` in OpenTelemetry's data model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.instruments import Counter, Gauge, Histogram, UndeclaredMetricError

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bucket bounds for a request's time; TikTok's usual answer comes after 120 to 230 ms."""

LONG_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0)
"""Bucket bounds for an event's whole way, which may include a held destination."""

BATCH_SIZES = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 750.0, 1000.0)
"""Bucket bounds for the events of a request; TikTok takes 1,000."""


class Metrics:
    """The metrics of one process, as attributes; `named` finds one by its full name."""

    def __init__(self) -> None:
        self._declared: dict[str, Counter | Gauge | Histogram] = {}
        count, gauge, spread = self._counter, self._gauge, self._histogram
        partition = ("topic", "partition")
        destination = ("event_source_id",)

        self.consumed = count("consumed_total", "Records read from Kafka.", "{record}", "topic")
        self.settled = count(
            "settled_total",
            "Records with their outcome; the reason is empty where none applies.",
            "{event}",
            "outcome",
            "reason",
            *destination,
        )
        self.in_flight = gauge("in_flight", "Events read and not yet settled.", "{event}")
        self.in_flight_bytes = gauge(
            "in_flight_bytes", "Bytes of the records in flight, against their limit.", "By"
        )
        self.end_to_end_seconds = spread(
            "end_to_end_seconds",
            "From the record's Kafka timestamp (without one: from its receipt) to its outcome.",
            "s",
            LONG_SECONDS,
        )
        self.match_keys = count(
            "match_keys_total",
            "Events settled that carried an identifier, by event name and identifier.",
            "{event}",
            "event",
            "key",
        )
        self.match_keys_events = count(
            "match_keys_events_total",
            "Mapped events settled, by event name: what tiktok_events_match_keys_total is part of.",
            "{event}",
            "event",
        )
        self.warnings = count(
            "warnings_total",
            "Fields that could not be right and were left out, or hints, by field.",
            "{field}",
            "field",
        )

        self.batch_events = spread("batch_events", "Events of a request.", "{event}", BATCH_SIZES)
        self.requests = count(
            "requests_total",
            "HTTP attempts, by TikTok's code, else http_<status>, timeout or connection.",
            "{request}",
            *destination,
            "code",
        )
        self.request_seconds = spread(
            "request_seconds",
            "From sending a request to its answer, or to giving it up.",
            "s",
            SECONDS,
            *destination,
            "code",
        )
        self.alerts = count(
            "alerts_total",
            "Answers that somebody has to look at, by TikTok's code, else http_<status>.",
            "{request}",
            *destination,
            "code",
        )
        self.retries = count(
            "retries_total",
            "Events that go into another attempt, by the cause: a code, http_<status>, timeout.",
            "{event}",
            "cause",
        )
        self.repeats = count(
            "repeats_total",
            "Events sent again although TikTok may have them, by why that is not known.",
            "{event}",
            *destination,
            "cause",
        )
        self.requests_in_flight = gauge(
            "requests_in_flight", "HTTP attempts without an answer yet.", "{request}", *destination
        )
        self.concurrency_limit = gauge(
            "concurrency_limit",
            "HTTP attempts a destination may have at once.",
            "{request}",
            *destination,
        )
        self.rate_limit = gauge(
            "rate_limit",
            "Requests a second that a destination may get from this process, as learned so far.",
            "{request}/s",
            *destination,
        )
        self.destination_state = gauge(
            "destination_state",
            "1 for the state a destination is in (open, throttled, held), 0 for the others.",
            "1",
            *destination,
            "state",
        )
        self.destination_failures = gauge(
            "destination_failures",
            "Attempts in a row that failed: a destination may be open, and take nothing.",
            "{request}",
            *destination,
        )

        self.parked = count(
            "parked_total",
            "Events put into the retry topic to wait for their destination there.",
            "{event}",
            *destination,
        )
        self.lease_held = gauge(
            "lease_held",
            "1 while membership of the group is proven and requests may start, 0 while it is not.",
            "1",
        )

        self.consumer_lag = gauge(
            "consumer_lag",
            "Records of a source topic between the first unsettled one and the end of the log.",
            "{record}",
            *partition,
        )
        self.retry_lag = gauge(
            "retry_lag",
            "Records of the retry topic that wait: from the first unsettled one to its end.",
            "{record}",
            *partition,
        )
        self.unsettled_span = gauge(
            "unsettled_span",
            "Offsets between the commit position and the last record read.",
            "{record}",
            *partition,
        )
        self.pauses = count("pauses_total", "Partitions paused, by reason.", "{pause}", "reason")
        self.lost_range = count(
            "lost_range_total",
            "Offsets that Kafka had deleted before they could be read.",
            "{record}",
            *partition,
        )
        self.dedup_entries = gauge(
            "dedup_entries",
            "Accepted keys in the local store, estimated.",
            "{key}",
            *partition,
        )
        self.dedup_rebuild_read = gauge(
            "dedup_rebuild_read",
            "Records of the state topic read so far, while a partition's memory is put together.",
            "{record}",
            *partition,
        )
        self.dedup_rebuild_records = gauge(
            "dedup_rebuild_records",
            "Records of the state topic to be read before the partition can begin.",
            "{record}",
            *partition,
        )

        self.spans_exported = count(
            "spans_exported_total", "Spans that an exporter took.", "{span}"
        )
        self.spans_dropped = count(
            "spans_dropped_total",
            "Spans that no exporter took: queue_full, refused, rejected, unreachable, shutdown.",
            "{span}",
            "reason",
        )

    def named(self, name: str) -> Counter | Gauge | Histogram:
        """The metric of this full name.

        Raises:
            UndeclaredMetricError: no such metric is declared.
        """
        try:
            return self._declared[name]
        except KeyError:
            raise UndeclaredMetricError(f"no metric {name!r} is declared in metrics.py") from None

    def declared(self) -> Iterable[Counter | Gauge | Histogram]:
        """All metrics in the order of their declaration."""
        return self._declared.values()

    def _counter(self, name: str, meaning: str, unit: str, *labels: str) -> Counter:
        counter = Counter(f"tiktok_events_{name}", meaning, unit, labels)
        self._declare(counter)
        return counter

    def _gauge(self, name: str, meaning: str, unit: str, *labels: str) -> Gauge:
        gauge = Gauge(f"tiktok_events_{name}", meaning, unit, labels)
        self._declare(gauge)
        return gauge

    def _histogram(
        self, name: str, meaning: str, unit: str, bounds: tuple[float, ...], *labels: str
    ) -> Histogram:
        histogram = Histogram(f"tiktok_events_{name}", meaning, unit, bounds, labels)
        self._declare(histogram)
        return histogram

    def _declare(self, instrument: Counter | Gauge | Histogram) -> None:
        if instrument.name in self._declared:
            raise ValueError(f"{instrument.name} is declared twice")
        self._declared[instrument.name] = instrument
