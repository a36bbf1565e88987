"""One event's way through Kafka and TikTok, as an OTLP receiver sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.event import Reason
from consumer.sandbox.rules import REJECT_MARKER
from tests.support.otlp import OtlpReceiver
from tests.support.pipeline_world import fresh_purchase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.consumer_process import Ended
    from tests.support.otlp import ReceivedSpan
    from tests.support.pipeline_world import PipelineWorld

CLIENT, CONSUMER = 3, 5
GOOD = 300
REJECTED, INVALID = GOOD, GOOD + 1

SpanId = tuple[str, str]


def producers_span(number: int) -> SpanId:
    """The span in which the shop produced this event: trace id and span id."""
    return f"{0xABC000 + number:032x}", f"{0xDEF000 + number:016x}"


def traceparent(trace_id: str, span_id: str) -> bytes:
    return f"00-{trace_id}-{span_id}-01".encode()


class Seen:
    """What the receiver has of a run over 300 good events, one rejected and one invalid."""

    def __init__(self, world: PipelineWorld, spans: list[ReceivedSpan], ended: Ended) -> None:
        self.world = world
        self.ended = ended
        self.requests = sorted((s for s in spans if s.kind == CLIENT), key=lambda s: s.start_ns)
        self._events = [s for s in spans if s.kind == CONSUMER]

    def event(self, number: int) -> ReceivedSpan:
        """The span of an event, found by its producer's span."""
        trace_id, parent = producers_span(number)
        (found,) = (s for s in self._events if (s.trace_id, s.parent_span_id) == (trace_id, parent))
        return found


def identity(span: ReceivedSpan) -> SpanId:
    return span.trace_id, span.span_id


@pytest.fixture
def seen(world: PipelineWorld) -> Iterator[Seen]:
    samples = []
    for number in range(GOOD + 2):
        event = fresh_purchase(number)
        reason = None
        if number == REJECTED:
            event["properties"]["custom"] = {REJECT_MARKER: True}
            reason = Reason.REJECTED
        elif number == INVALID:
            event["page"] = None
            reason = Reason.INVALID
        headers = (("shop", b"north"), ("traceparent", traceparent(*producers_span(number))))
        samples.append(world.sample(event, reason, headers))
    world.produce(samples, partition=0)
    with OtlpReceiver() as receiver:
        # The batch closes when the good events and the rejected one are in it.
        config = world.config(batching={"max_events": GOOD + 1, "linger": "60s"})
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_SERVICE_NAME": "shop-delivery",
        }
        with world.consumer(config, environ) as consumer:
            consumer.until_settled(GOOD + 2)
            ended = consumer.terminate()
        yield Seen(world, receiver.spans, ended)


def test_the_trace_leads_from_the_producer_to_the_dead_letter(seen: Seen) -> None:
    """Producer's span, event's span, request's span and back, and on in the dead letter."""
    world, requests = seen.world, seen.requests

    assert seen.ended.exit_code == 0
    # TikTok refuses the first request for one event's sake: it is asked about alone, the rest goes.
    sizes = [r.attributes["messaging.batch.message_count"] for r in requests]
    assert sizes == [GOOD + 1, 1, GOOD]
    first, alone, second = map(identity, requests)
    everybody = {identity(seen.event(number)) for number in range(GOOD + 1)}
    assert set(requests[0].links) == everybody
    assert set(requests[1].links) == {identity(seen.event(REJECTED))}
    assert set(requests[2].links) == everybody - {identity(seen.event(REJECTED))}
    for number in range(GOOD):
        span = seen.event(number)
        assert span.name == f"process {world.topic}"
        assert span.links == (first, second)
        assert span.attributes["tiktok.outcome"] == "delivered"
        assert span.attributes["messaging.kafka.offset"] == number
        assert not span.is_error
    assert seen.event(REJECTED).links == (first, alone)
    assert seen.event(INVALID).links == ()
    assert world.ledger.letter_findings(world.letters()) == []
    carried = {
        dict(letter.headers)["dlq.reason"]: dict(letter.headers)["dlq.traceparent"]
        for letter in world.letters()
    }
    assert carried == {
        b"rejected": traceparent(*identity(seen.event(REJECTED))),
        b"invalid": traceparent(*identity(seen.event(INVALID))),
    }


def test_spans_tell_what_tiktok_said(seen: Seen) -> None:
    """TikTok's request ids and codes are on both sides of the link, the resource names us."""
    refused, alone, accepted = seen.requests
    told = {seen.request_id: seen.code for seen in seen.world.emulator.requests()}

    for request, code in ((refused, 40002), (alone, 40002), (accepted, 0)):
        assert request.attributes["tiktok.code"] == code
        assert told[request.attributes["tiktok.request_id"]] == code
        assert request.attributes["url.full"] == seen.world.emulator.url
        assert request.start_ns < request.end_ns
    assert refused.is_error
    assert not accepted.is_error
    delivered, rejected = seen.event(0), seen.event(REJECTED)
    assert delivered.attributes["tiktok.request_id"] == accepted.attributes["tiktok.request_id"]
    assert rejected.attributes["tiktok.request_id"] == alone.attributes["tiktok.request_id"]
    assert rejected.is_error
    assert rejected.attributes["tiktok.reason"] == "rejected"
    assert [name for name, _, _ in delivered.events] == [
        "decode", "dedup", "batch", "attempt", "attempt",
    ]  # fmt: skip
    assert delivered.start_ns <= refused.start_ns < accepted.end_ns <= delivered.end_ns
    assert delivered.resource["service.name"] == "shop-delivery"
