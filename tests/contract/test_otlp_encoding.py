"""Our OTLP bytes against the SDK's encoder, for the same spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from consumer.event import TraceIds
from consumer.otlp import Envelope, attribute, encode_span
from consumer.otlp_events import EventSpans
from consumer.sdk_spans import readable_span
from consumer.spans import Span, SpanEvent, SpanKind, attempt_span, endpoint, event_span
from tests.support.items import attempts, identities, items

if TYPE_CHECKING:
    from consumer.event import Attempt, Item

RESOURCE = Resource(
    {"service.name": "tiktok-events", "n": 3, "ratio": 0.25, "on": True, "list": ("a", "b")}
)
SCOPE = InstrumentationScope("tiktok-events", "1.2.3")
ENVELOPE = Envelope(RESOURCE.attributes, ("tiktok-events", "1.2.3"))
ENDPOINT = endpoint("https://user:secret@business-api.tiktok.com/open_api/v1.3/event/track/?q=1")
many = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def parsed(*encoded: bytes) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.ParseFromString(ENVELOPE.request(encoded))
    return request


def by_sdk(*values: Span) -> ExportTraceServiceRequest:
    return encode_spans([readable_span(value, RESOURCE, SCOPE) for value in values])


@many
@given(st.lists(items(), min_size=1, max_size=4))
def test_event_spans_equal_the_sdks_field_by_field(settled: list[Item]) -> None:
    """Whatever became of the items, their spans read back as the SDK would have written them."""
    encoded, count = EventSpans("group").encode(settled)
    assert count == len(settled)
    assert parsed(encoded) == by_sdk(*(event_span(item, "group") for item in settled))


@many
@given(attempts)
def test_attempt_spans_equal_the_sdks_field_by_field(attempt: Attempt) -> None:
    """The span of an HTTP attempt, links and status included, is what the SDK would write."""
    span = attempt_span(attempt, ENDPOINT)
    assert parsed(encode_span(span)) == by_sdk(span)


@many
@given(items())
def test_the_short_way_and_the_long_way_of_an_event_span_agree(item: Item) -> None:
    """The encoder for many items writes the same span as the encoder for any span."""
    encoded, _ = EventSpans("group").encode([item])
    assert parsed(encoded) == parsed(encode_span(event_span(item, "group")))


@given(st.integers(min_value=0, max_value=2**63 - 1), identities())
@settings(max_examples=100)
def test_every_offset_and_time_survives(number: int, ids: TraceIds) -> None:
    """Numbers of any size come back from the bytes as they were."""
    span = Span(
        "name",
        SpanKind.CLIENT,
        ids,
        number,
        number,
        (("n", number), ("negative", -number)),
        (SpanEvent("event", number, (("yes", True), ("no", False))),),
        (),
        None,
    )
    assert parsed(encode_span(span)) == by_sdk(span)


def test_a_request_span_keeps_all_links_of_a_full_batch() -> None:
    """A batch of 1,000 events has 1,000 links; the SDK's own spans would keep 128."""
    links = [TraceIds(n, n, 0, sampled=True, trace_state="") for n in range(1, 1001)]
    span = Span("POST", SpanKind.CLIENT, links[0], 1, 2, (), (), links, None)
    request = parsed(encode_span(span))
    assert len(request.resource_spans[0].scope_spans[0].spans[0].links) == 1000
    assert request == by_sdk(span)


@given(items(trace=TraceIds(1, 1, 0, sampled=False, trace_state="")))
@settings(max_examples=5)
def test_unsampled_items_write_nothing(item: Item) -> None:
    """An item that is not sampled leaves no bytes."""
    assert EventSpans("group").encode([item]) == (b"", 0)


def test_a_type_that_otlp_lacks_is_refused() -> None:
    """An attribute of an unknown type is a defect, and not written as something else."""
    with pytest.raises(TypeError, match="no attribute of type set"):
        attribute(9, "key", {1})


def test_text_without_a_utf8_form_costs_no_span() -> None:
    """A lone surrogate becomes a question mark; the request still parses."""
    span = Span(
        "\ud800",
        SpanKind.CLIENT,
        TraceIds(1, 1, 0, sampled=True, trace_state=""),
        1,
        2,
        (),
        (),
        (),
        None,
    )
    assert parsed(encode_span(span)).resource_spans[0].scope_spans[0].spans[0].name == "?"
