"""From settled items to a receiver: settings, retries, limits and what is dropped, on sockets."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from consumer.errors import ConfigError
from consumer.event import (
    Attempt,
    Destination,
    EventSource,
    Instant,
    Item,
    Outcome,
    Record,
    TopicPartition,
    TraceIds,
)
from consumer.export import ExportThread
from consumer.metrics import Metrics
from consumer.otlp_http import wire_of_sdk
from consumer.sdk_spans import SdkExport
from consumer.span_writer import SpanWriter
from consumer.spans import endpoint
from consumer.telemetry import Telemetry
from consumer.tracing import NO_TRACE
from tests.support.otlp import Answer, OtlpReceiver
from tests.support.state_world import ready_partition

DESTINATION = Destination(EventSource.WEB, "C9ABC1234567890DEFGH")
TP = TopicPartition("conversions", 0)
PRODUCER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No OTEL_* variable of the machine reaches a test; spans go out without delay."""
    for name in [name for name in os.environ if name.startswith(("OTEL_", "REQUESTS_", "CURL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    return monkeypatch


def telemetry() -> Telemetry:
    return Telemetry.from_environment(
        service_version="1.0", group="group", endpoint_url="https://tiktok.example/track/"
    )


def settled(trace: TraceIds, offset: int = 7, *attempts: Attempt) -> Item:
    record = Record("conversions", 0, offset, 1_700_000_000_000, None, b"", ())
    item = Item(
        record, Instant(1.0, 1_700_000_000_100_000_000), trace, ready_partition(TP, 0, None)
    )
    item.event_id, item.outcome = f"event-{offset}", Outcome.DELIVERED
    item.attempts, item.attempt_count = attempts, len(attempts)
    item.settled = Instant(2.0, 1_700_000_001_000_000_000)
    return item


def attempt(trace: TraceIds, *linked: TraceIds) -> Attempt:
    return Attempt(
        number=1,
        destination=DESTINATION,
        test_event_code=None,
        trace=trace,
        started=Instant(1.0, 1_700_000_000_200_000_000),
        events=len(linked),
        request_bytes=10,
        linked=linked,
        ended=Instant(1.2, 1_700_000_000_400_000_000),
        http_status=200,
        code=0,
        request_id="20260101",
        verdict="accepted",
    )


def dropped(told: Telemetry) -> dict[str, int]:
    return {labels[0]: count for labels, count in told.metrics.spans_dropped.values().items()}


def exported(told: Telemetry) -> int:
    return told.metrics.spans_exported.values()[()]


def test_producer_event_and_request_are_one_picture(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    """The event's span hangs on the producer's, and event and request link to each other."""
    with OtlpReceiver() as receiver:
        clean_environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        clean_environment.setenv("OTEL_SERVICE_NAME", "shop-events")
        told = telemetry()
        trace = told.tracer.begin((("traceparent", PRODUCER.encode()),))
        sent = attempt(told.tracer.request(sampled=True), trace)
        told.attempt_finished(sent)
        told.settled([settled(trace, 7, sent)])
        receiver.wait(lambda r: len(r.spans) == 2)
        asyncio.run(told.close(5.0))
    by_name = {span.name: span for span in receiver.spans}
    event, request = by_name["process conversions"], by_name["POST"]
    assert (event.trace_id, event.parent_span_id) == (PRODUCER[3:35], PRODUCER[36:52])
    assert event.links == ((request.trace_id, request.span_id),)
    assert request.links == ((event.trace_id, event.span_id),)
    assert (event.kind, request.kind) == (5, 3)
    assert event.attributes["tiktok.event_id"] == "event-7"
    assert event.resource["service.name"] == "shop-events"
    assert exported(told) == 2
    assert dropped(told) == {}


def test_nothing_is_traced_unless_a_variable_says_so() -> None:
    """Without any exporter setting an identity costs nothing and no thread is started."""
    before = threading.active_count()
    told = telemetry()
    assert told.tracer.begin((("traceparent", PRODUCER.encode()),)) is NO_TRACE
    assert told.tracer.request(sampled=True) is NO_TRACE
    told.settled([settled(NO_TRACE)])
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "variables", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}]
)
def test_tracing_can_be_switched_off(
    clean_environment: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """The SDK's own switches win over a configured endpoint."""
    clean_environment.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces")
    for name, value in variables.items():
        clean_environment.setenv(name, value)
    assert telemetry().tracer.begin(()) is NO_TRACE


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_receiver_is_asked_again(clean_environment: pytest.MonkeyPatch, status: int) -> None:
    """The statuses that OTLP calls retryable cost no span."""
    with OtlpReceiver(answers=[Answer(status, {"Retry-After": "1"})]) as receiver:
        clean_environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        told = telemetry()
        began = time.monotonic()
        told.settled([settled(told.tracer.begin(()))])
        receiver.wait(lambda r: len(r.spans) == 1)
        asyncio.run(told.close(5.0))
    assert time.monotonic() - began >= 1.0
    assert (exported(told), dropped(told), receiver.requests) == (1, {}, 2)


def test_a_refusal_is_final_and_counted(clean_environment: pytest.MonkeyPatch) -> None:
    """A receiver that calls the request wrong is not asked again; the spans count as dropped."""
    with OtlpReceiver(answers=[Answer(400)]) as receiver:
        clean_environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        told = telemetry()
        told.settled([settled(told.tracer.begin(())) for _ in range(3)])
        asyncio.run(told.close(5.0))
    assert (exported(told), dropped(told), receiver.requests) == (0, {"refused": 3}, 1)


def test_spans_that_the_receiver_rejects_are_counted(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    """A partial success counts both: what was taken and what was not."""
    with OtlpReceiver(answers=[Answer(rejected=2)]) as receiver:
        clean_environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        told = telemetry()
        told.settled([settled(told.tracer.begin(())) for _ in range(5)])
        asyncio.run(told.close(5.0))
    assert (exported(told), dropped(told)) == (3, {"rejected": 2})


def test_a_receiver_that_is_away_never_blocks_and_is_counted_at_the_end(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    """Settling goes on at full speed; shutdown keeps its deadline; every span is accounted for."""
    clean_environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    told = telemetry()
    began = time.monotonic()
    for _ in range(20):
        told.settled([settled(told.tracer.begin(())) for _ in range(10)])
    assert time.monotonic() - began < 0.5
    asyncio.run(told.close(1.0))
    assert time.monotonic() - began < 3.0
    assert exported(told) == 0
    assert sum(dropped(told).values()) == 200


def test_a_receiver_that_hangs_at_shutdown_is_counted(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    """Spans in the air when the time is up count as dropped, once, whatever comes of them."""
    with OtlpReceiver(latency=1.5) as receiver:
        clean_environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        told = telemetry()
        told.settled([settled(told.tracer.begin(())) for _ in range(4)])
        time.sleep(0.2)
        began = time.monotonic()
        asyncio.run(told.close(0.3))
        assert time.monotonic() - began < 1.0
        receiver.wait(lambda r: len(r.spans) == 4)
        time.sleep(0.1)
    assert (exported(told), dropped(told)) == (0, {"shutdown": 4})


def test_a_full_queue_drops_and_counts(clean_environment: pytest.MonkeyPatch) -> None:
    """What exceeds `OTEL_BSP_MAX_QUEUE_SIZE` is dropped under its own reason."""
    clean_environment.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    with OtlpReceiver(latency=0.3) as receiver:
        clean_environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        told = telemetry()
        for _ in range(10):
            told.settled([settled(told.tracer.begin(())) for _ in range(5)])
        asyncio.run(told.close(5.0))
    assert exported(told) == len(receiver.spans)
    assert exported(told) + dropped(told)["queue_full"] == 50
    assert set(dropped(told)) == {"queue_full"}


def test_shutdown_brings_out_what_waits(clean_environment: pytest.MonkeyPatch) -> None:
    """A span that waits for company leaves at once when the process ends."""
    clean_environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    with OtlpReceiver() as receiver:
        clean_environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        told = telemetry()
        told.settled([settled(told.tracer.begin(()))])
        asyncio.run(told.close(5.0))
    assert len(receiver.spans) == 1


@pytest.mark.parametrize("compression", ["gzip", "deflate", "none"])
def test_settings_are_the_sdks_own(clean_environment: pytest.MonkeyPatch, compression: str) -> None:
    """Headers, compression and path come from the variables as the SDK's exporter reads them."""
    with OtlpReceiver() as receiver:
        clean_environment.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.endpoint}/in")
        clean_environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop%20one")
        clean_environment.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
        told = telemetry()
        told.settled([settled(told.tracer.begin(()))])
        asyncio.run(told.close(5.0))
    assert len(receiver.spans) == 1
    headers = receiver.headers[0]
    assert headers["x-tenant"] == "shop one"
    assert headers["content-type"] == "application/x-protobuf"
    assert headers.get("content-encoding", "none") == compression


def test_time_out_and_certificates_are_the_sdks_own(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    """What the SDK's exporter would give its session is what ours gets."""
    clean_environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example:4318")
    clean_environment.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "3")
    clean_environment.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/ca.pem")
    clean_environment.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/etc/client.pem")
    clean_environment.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/etc/client.key")
    wire = wire_of_sdk()
    assert wire.url == "https://collector.example:4318/v1/traces"
    assert (wire.timeout, wire.verify) == (3.0, "/etc/ca.pem")
    assert wire.cert == ("/etc/client.pem", "/etc/client.key")


def test_the_console_exporter_takes_spans(clean_environment: pytest.MonkeyPatch) -> None:
    """An exporter named by `OTEL_TRACES_EXPORTER` is found, started and given the spans."""
    clean_environment.setenv("OTEL_TRACES_EXPORTER", "console")
    told = telemetry()
    told.settled([settled(told.tracer.begin(()))])
    asyncio.run(told.close(5.0))
    assert (exported(told), dropped(told)) == (1, {})


def test_any_other_exporter_gets_the_same_spans() -> None:
    """An exporter of the SDK's kind sees event and request as OTLP would."""
    kept = InMemorySpanExporter()
    metrics = Metrics()
    resource, scope = Resource({"service.name": "shop"}), InstrumentationScope("tiktok-events")
    thread = ExportThread(SdkExport(kept, resource, scope), metrics, delay=0.02)
    writer = SpanWriter("group", endpoint("https://tiktok.example/track/"), None, [thread])
    trace = TraceIds(1, 2, 3, sampled=True, trace_state="")
    sent = attempt(TraceIds(4, 5, 0, sampled=True, trace_state=""), trace)
    writer.attempt(sent)
    writer.events([settled(trace, 4711, sent)])
    thread.close(5.0)
    request, event = kept.get_finished_spans()
    assert event.context is not None
    assert event.parent is not None
    assert (event.context.trace_id, event.parent.span_id) == (1, 3)
    assert dict(event.attributes or {})["messaging.kafka.offset"] == 4711
    assert [link.context.span_id for link in event.links] == [5]
    assert [link.context.span_id for link in request.links] == [2]
    assert event.resource is resource


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "nonsense"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_METRICS_EXPORTER", "nonsense"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_TRACES_SAMPLER", "nonsense"),
    ],
)
def test_a_wrong_variable_is_named(
    clean_environment: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """A setting that cannot be followed stops the start and names the variable."""
    clean_environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    clean_environment.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        telemetry()


def test_metrics_go_out_by_otlp(clean_environment: pytest.MonkeyPatch) -> None:
    """Counters, gauges and histograms reach the receiver under OpenTelemetry names."""
    with OtlpReceiver() as receiver:
        clean_environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        clean_environment.delenv("OTEL_METRICS_EXPORTER")
        clean_environment.setenv("OTEL_TRACES_EXPORTER", "none")
        told = telemetry()
        told.consumed("conversions", 3)
        told.metrics.in_flight.set(2)
        told.settled([settled(NO_TRACE)])
        asyncio.run(told.close(5.0))
    metrics = {
        metric.name: metric
        for metric in receiver.metrics[-1].resource_metrics[0].scope_metrics[0].metrics
    }
    consumed = metrics["tiktok_events.consumed"]
    assert consumed.unit == "{record}"
    assert consumed.sum.data_points[0].as_int == 3
    assert metrics["tiktok_events.in_flight"].gauge.data_points[0].as_int == 2
    assert metrics["tiktok_events.end_to_end"].histogram.data_points[0].count == 1
    assert metrics["tiktok_events.end_to_end"].unit == "s"
