"""Metrics: declared once, counted by the chunk, read by Prometheus and OpenTelemetry."""

from __future__ import annotations

import re
from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.parser import text_string_to_metric_families

from consumer.exposition import PrometheusText
from consumer.instruments import Counter, Gauge, Histogram, UndeclaredMetricError
from consumer.metric_export import MetricsDataBuilder, otlp_name
from consumer.metrics import Metrics

FIXED = {
    "tiktok_events_consumed_total": ("topic",),
    "tiktok_events_settled_total": ("outcome", "reason", "event_source_id"),
    "tiktok_events_in_flight": (),
    "tiktok_events_batch_events": (),
    "tiktok_events_request_seconds": ("event_source_id", "code"),
    "tiktok_events_end_to_end_seconds": (),
    "tiktok_events_destination_state": ("event_source_id", "state"),
    "tiktok_events_consumer_lag": ("topic", "partition"),
    "tiktok_events_dedup_entries": ("topic", "partition"),
    "tiktok_events_repeats_total": ("event_source_id", "cause"),
    "tiktok_events_parked_total": ("event_source_id",),
    "tiktok_events_retry_lag": ("topic", "partition"),
    "tiktok_events_lease_held": (),
}


def builder(metrics: Metrics, *, delta: bool) -> MetricsDataBuilder:
    return MetricsDataBuilder(
        metrics, Resource({}), InstrumentationScope("test"), started_ns=1, delta=delta
    )


def points(built: MetricsDataBuilder, now: int) -> dict[str, list[object]]:
    scope = built.build(now).resource_metrics[0].scope_metrics[0]
    return {metric.name: list(metric.data.data_points) for metric in scope.metrics}


@pytest.mark.parametrize(("name", "labels"), FIXED.items())
def test_the_fixed_names_and_labels_are_declared(name: str, labels: tuple[str, ...]) -> None:
    """Dashboards and alerts rely on these."""
    assert Metrics().named(name).labels == labels


def test_an_undeclared_metric_is_an_error() -> None:
    """A name that stands nowhere cannot be counted."""
    with pytest.raises(UndeclaredMetricError, match="nonsense_total"):
        Metrics().named("tiktok_events_nonsense_total")


def test_a_label_too_many_or_too_few_is_an_error() -> None:
    """Series of one metric always have the same labels."""
    metrics = Metrics()
    with pytest.raises(UndeclaredMetricError):
        metrics.consumed.add(1)
    with pytest.raises(UndeclaredMetricError):
        metrics.in_flight.set(1, ("too", "many"))
    with pytest.raises(UndeclaredMetricError):
        metrics.consumer_lag.replace({("topic",): 1})
    with pytest.raises(UndeclaredMetricError):
        metrics.request_seconds.observe(1.0)


@pytest.mark.parametrize("metric", Metrics().declared(), ids=lambda metric: metric.name)
def test_every_metric_says_what_it_means(metric: Counter | Gauge | Histogram) -> None:
    """Name, unit and meaning are in the form that Prometheus and OpenTelemetry expect."""
    assert re.fullmatch(r"tiktok_events_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == isinstance(metric, Counter)
    assert metric.meaning.endswith(".")
    assert metric.unit
    assert (metric.unit == "s") == metric.name.endswith("_seconds")
    assert otlp_name(metric).startswith("tiktok_events.")


def test_a_counter_never_shrinks() -> None:
    """A negative count is a defect."""
    with pytest.raises(ValueError, match="only grows"):
        Metrics().consumed.add(-1, ("t",))


@given(st.lists(st.floats(min_value=0, max_value=2000), max_size=50), st.integers(0, 50))
@settings(max_examples=50)
def test_a_histogram_counts_each_value_once_wherever_the_chunks_end(
    values: list[float], cut: int
) -> None:
    """Chunk by chunk or all at once gives the same buckets, each value in the right one."""
    metrics = Metrics()
    metrics.batch_events.observe_many(values[:cut])
    metrics.batch_events.observe_many(values[cut:])
    found = metrics.batch_events.values()[()]
    expected = [0] * (len(found.bounds) + 1)
    for value in values:
        expected[bisect_left(found.bounds, value)] += 1
    assert list(found.buckets) == expected
    assert found.observed == len(values)
    assert found.sum == pytest.approx(sum(values))


def test_replacing_a_gauge_ends_what_is_gone() -> None:
    """The lag of a partition that was handed over is no longer told."""
    metrics = Metrics()
    metrics.consumer_lag.set(5, ("t", "0"))
    metrics.consumer_lag.replace({("t", "1"): 7})
    assert metrics.consumer_lag.values() == {("t", "1"): 7}


def test_prometheus_reads_back_what_was_counted() -> None:
    """The text is parsed by Prometheus' own parser into the same numbers."""
    metrics = Metrics()
    metrics.consumed.add(3, ('a "b"\n',))
    metrics.in_flight.set(4)
    metrics.request_seconds.observe_many([0.02, 0.2, 99.0], ("pixel", "0"))
    body, content_type = PrometheusText(metrics).render()
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert content_type.startswith("text/plain")
    [consumed] = families["tiktok_events_consumed"].samples
    assert (consumed.name, consumed.labels, consumed.value) == (
        "tiktok_events_consumed_total",
        {"topic": 'a "b"\n'},
        3,
    )
    assert families["tiktok_events_in_flight"].samples[0].value == 4
    seconds = {
        (sample.name.rpartition("_")[2], sample.labels.get("le")): sample.value
        for sample in families["tiktok_events_request_seconds"].samples
    }
    assert seconds["bucket", "0.01"] == 0
    assert seconds["bucket", "0.025"] == 1
    assert seconds["bucket", "0.2"] == 2
    assert seconds["bucket", "+Inf"] == seconds["count", None] == 3
    assert seconds["sum", None] == pytest.approx(99.22)


def test_openmetrics_is_given_to_who_asks_for_it() -> None:
    """A scraper that accepts OpenMetrics gets it."""
    body, content_type = PrometheusText(Metrics()).render("application/openmetrics-text")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_cumulative_sums_are_told_whole_each_time() -> None:
    """By default each export has the sums since the start."""
    metrics = Metrics()
    built = builder(metrics, delta=False)
    metrics.consumed.add(3, ("t",))
    assert points(built, 10)["tiktok_events.consumed"][0].value == 3  # type: ignore[attr-defined]  the SDK types points by kind
    built.accepted()
    metrics.consumed.add(2, ("t",))
    [point] = points(built, 20)["tiktok_events.consumed"]
    assert (point.value, point.start_time_unix_nano) == (5, 1)  # type: ignore[attr-defined]  the SDK types points by kind


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12))
@settings(max_examples=50)
def test_deltas_add_up_to_the_sum_whatever_exports_fail(steps: list[tuple[int, bool]]) -> None:
    """A delta that did not arrive is part of the next one: accepted deltas lose nothing."""
    metrics = Metrics()
    built = builder(metrics, delta=True)
    arrived = spread = 0
    for now, (count, accepted) in enumerate([*steps, (1, True)], start=2):
        metrics.consumed.add(count, ("t",))
        metrics.batch_events.observe_many([1.0] * count)
        data = points(built, now)
        if accepted:
            built.accepted()
            arrived += data["tiktok_events.consumed"][0].value  # type: ignore[attr-defined]  the SDK types points by kind
            spread += data["tiktok_events.batch_events"][0].count  # type: ignore[attr-defined]  the SDK types points by kind
    total = sum(count for count, _ in steps) + 1
    assert (arrived, spread) == (total, total)
