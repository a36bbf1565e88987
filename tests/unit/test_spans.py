"""What the spans of events and requests say."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings

from consumer.event import (
    Attempt,
    Consent,
    ConsentState,
    Destination,
    EventSource,
    FieldWarning,
    Instant,
    Item,
    Mapped,
    Outcome,
    Reason,
    Record,
    TopicPartition,
    TraceIds,
)
from consumer.spans import Endpoint, SpanKind, attempt_span, endpoint, event_span
from tests.support.items import attempts, items
from tests.support.state_world import ready_partition

DESTINATION = Destination(EventSource.WEB, "C9ABC1234567890DEFGH")
CONSENT = Consent(
    marketing=ConsentState.GRANTED,
    ad_user_data=ConsentState.DENIED,
    ad_personalization=ConsentState.UNKNOWN,
    region="US-CA",
    cmp_version="2.1",
    send=True,
    strip_user_data=True,
    limited_data_use=None,
)
TO = Endpoint("https://tiktok.example/track/", "tiktok.example", 443)


def delivered() -> Item:
    sent = Attempt(
        number=2,
        destination=DESTINATION,
        test_event_code=None,
        trace=TraceIds(9, 8, 0, sampled=True, trace_state=""),
        started=Instant(2.0, 400),
        events=1,
        request_bytes=100,
        ended=Instant(2.5, 500),
        http_status=200,
        code=0,
        request_id="r-1",
        verdict="accepted",
    )
    item = Item(
        Record("conversions", 3, 42, 0, b"alice@example.com", b"", ()),
        Instant(1.0, 100),
        TraceIds(1, 2, 3, sampled=True, trace_state=""),
        ready_partition(TopicPartition("conversions", 3), 42, None),
    )
    item.event_id, item.event, item.event_source_id = "e-1", "Purchase", "C9ABC1234567890DEFGH"
    item.mapped = Mapped(
        destination=DESTINATION,
        event="Purchase",
        event_id="e-1",
        event_time_ms=0,
        test_event_code=None,
        body=b"",
        match_keys=("ip", "ttclid"),
        consent=CONSENT,
        removed=("user.email",),
        warnings=(FieldWarning("user.phone", "left out"),),
    )
    item.consent = CONSENT
    item.decoded_ns, item.deduplicated_ns, item.batched = 110, 120, Instant(0.0, 130)
    item.attempts, item.attempt_count = (sent,), 2
    item.outcome, item.settled = Outcome.DELIVERED, Instant(3.0, 600)
    return item


def test_an_events_span_tells_its_whole_way() -> None:
    """Times, stations, outcome, consent and answer of a delivered event are all in its span."""
    item = delivered()
    span = event_span(item, "group")
    assert (span.name, span.kind) == ("process conversions", SpanKind.CONSUMER)
    assert (span.start_ns, span.end_ns, span.ids, span.error) == (100, 600, item.trace, None)
    assert dict(span.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "conversions",
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "group",
        "messaging.kafka.offset": 42,
        "tiktok.event": "Purchase",
        "tiktok.event_id": "e-1",
        "tiktok.event_source_id": "C9ABC1234567890DEFGH",
        "tiktok.outcome": "delivered",
        "tiktok.attempts": 2,
        "tiktok.match_keys": ("ip", "ttclid"),
        "tiktok.consent.marketing": "GRANTED",
        "tiktok.consent.ad_user_data": "DENIED",
        "tiktok.consent.ad_personalization": "UNKNOWN",
        "tiktok.consent.region": "US-CA",
        "tiktok.consent.cmp_version": "2.1",
        "tiktok.consent.removed": ("user.email",),
        "tiktok.code": 0,
        "tiktok.request_id": "r-1",
    }
    assert [(event.name, event.time_ns) for event in span.events] == [
        ("decode", 110),
        ("dedup", 120),
        ("batch", 130),
        ("attempt", 400),
    ]
    assert dict(span.events[-1].attributes) == {
        "tiktok.attempt.number": 2,
        "tiktok.verdict": "accepted",
    }
    assert span.links == (item.attempts[0].trace,)


@pytest.mark.parametrize("limited", [True, False, None])
def test_an_events_span_tells_whether_the_use_of_its_data_is_limited(
    limited: bool | None,  # noqa: FBT001  a column of the table
) -> None:
    """As it was decided; nothing where there is no such flag to send."""
    item = delivered()
    item.consent = CONSENT._replace(limited_data_use=limited)
    told = dict(event_span(item, "group").attributes)
    assert told.get("tiktok.consent.limited_data_use") is limited


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(Outcome.SUPPRESSED, Reason.CONSENT), (Outcome.DEAD_LETTERED, Reason.INVALID)],
)
def test_an_unsent_events_span_tells_its_consent(outcome: Outcome, reason: Reason) -> None:
    """What was decided before it came to nothing is why, or stays of interest."""
    item = delivered()
    item.mapped, item.consent = None, CONSENT
    item.outcome, item.reason = outcome, reason
    told = dict(event_span(item, "group").attributes)
    assert told["tiktok.consent.ad_user_data"] == "DENIED"
    assert (told["tiktok.consent.region"], told["tiktok.consent.cmp_version"]) == ("US-CA", "2.1")


def test_a_dead_letter_is_an_error_with_its_reason() -> None:
    """Only dead letters are errors; the status names the reason, the attributes where and why."""
    item = delivered()
    item.outcome, item.reason = Outcome.DEAD_LETTERED, Reason.REJECTED
    item.detail, item.field = "not a valid string", "event_id"
    span = event_span(item, "group")
    assert span.error == "rejected"
    told = dict(span.attributes)
    assert told["tiktok.reason"] == told["error.type"] == "rejected"
    assert (told["tiktok.detail"], told["tiktok.field"]) == ("not a valid string", "event_id")


@given(items())
@settings(max_examples=60)
def test_only_dead_letters_are_errors(item: Item) -> None:
    """A duplicate or a suppressed event went as it should."""
    is_error = event_span(item, "group").error is not None
    assert is_error == (item.outcome is Outcome.DEAD_LETTERED)


@given(items())
@settings(max_examples=60)
def test_no_attribute_is_repeated_or_empty(item: Item) -> None:
    """Every attribute stands once, and none without a value."""
    keys = [key for key, _ in event_span(item, "group").attributes]
    assert len(keys) == len(set(keys))
    assert None not in dict(event_span(item, "group").attributes).values()


def test_the_records_key_and_value_are_in_no_span() -> None:
    """A key may be a person's address: it is no attribute."""
    assert "alice" not in repr(event_span(delivered(), "group"))


def test_a_requests_span_names_the_answer() -> None:
    """URL, status, TikTok's code and request id, and the number of events are in the span."""
    linked = [TraceIds(n, n, 0, sampled=True, trace_state="") for n in range(1, 300)]
    sent = dataclasses.replace(
        delivered().attempts[0], linked=linked, events=299, code=40100, verdict="throttled"
    )
    span = attempt_span(sent, TO)
    assert (span.name, span.kind, span.start_ns, span.end_ns) == ("POST", SpanKind.CLIENT, 400, 500)
    assert span.links == linked
    assert dict(span.attributes) == {
        "http.request.method": "POST",
        "server.address": "tiktok.example",
        "server.port": 443,
        "url.full": "https://tiktok.example/track/",
        "http.response.status_code": 200,
        "http.request.resend_count": 1,
        "error.type": "40100",
        "messaging.batch.message_count": 299,
        "tiktok.event_source_id": "C9ABC1234567890DEFGH",
        "tiktok.code": 40100,
        "tiktok.request_id": "r-1",
        "tiktok.verdict": "throttled",
    }
    assert span.error == "throttled"


@given(attempts)
@settings(max_examples=60)
def test_a_request_is_an_error_unless_it_was_accepted(attempt: Attempt) -> None:
    """A failure always says of what type it is, and an accepted request has none."""
    span = attempt_span(attempt, TO)
    assert (span.error is None) == ("error.type" not in dict(span.attributes))
    well = attempt.error is None and (attempt.http_status or 200) < 400
    if well and attempt.verdict == "accepted":
        assert span.error is None
    if attempt.verdict == "rejected":
        assert span.error is not None


def test_an_endpoint_shows_no_user_and_no_query() -> None:
    """What a URL may hold of secrets is not shown."""
    shown = endpoint("https://user:secret@tiktok.example:8443/track/?token=1#x")
    assert shown == Endpoint("https://tiktok.example:8443/track/", "tiktok.example", 8443)
    assert endpoint("http://[::1]/t") == Endpoint("http://[::1]/t", "::1", 80)
