"""What the trace of an event and of a request says, as plain values.

One CONSUMER span per event, from its receipt to its outcome, and one CLIENT span per HTTP attempt;
each names the other by links. Names and attributes follow OpenTelemetry's semantic conventions
for messaging, Kafka and HTTP; what is ours begins with `tiktok.`. No attribute holds a person's
data. A span's parts come from separate functions, because what many events have in common
(`shape`) is encoded once.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from consumer.event import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from consumer.event import Attempt, Consent, Item, Reason, TraceIds

AttributeValue = str | bool | int | tuple[str, ...]
Attributes = tuple[tuple[str, AttributeValue], ...]


class SpanKind(IntEnum):
    """The kinds in use, with OTLP's numbers."""

    CLIENT = 3
    CONSUMER = 5


class SpanEvent(NamedTuple):
    """Something that happened at a time (nanoseconds since the epoch) within a span."""

    name: str
    time_ns: int
    attributes: Attributes = ()


class Span(NamedTuple):
    """A finished span. `error` is the status description; None leaves the status unset.

    A parent, where there is one, always is another process's: it came in a header.
    """

    name: str
    kind: SpanKind
    ids: TraceIds
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: tuple[SpanEvent, ...]
    links: Sequence[TraceIds]
    error: str | None


Shape = tuple[
    str,
    int,
    Outcome | None,
    "Reason | None",
    str | None,
    str | None,
    int,
    tuple[str, ...] | None,
    "Consent | None",
    tuple[str, ...] | None,
    str | None,
]
"""What an event's span has in common with many others; hashable. See `shape`."""


class Endpoint(NamedTuple):
    """Where requests go, as spans say it: no user, no query."""

    url: str
    address: str
    port: int


def endpoint(url: str) -> Endpoint:
    """The endpoint of a URL that configuration has checked."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    netloc = f"[{host}]" if ":" in host else host
    shown = netloc if parts.port is None else f"{netloc}:{parts.port}"
    return Endpoint(f"{parts.scheme}://{shown}{parts.path}", host, port)


# The span of an event


def event_span(item: Item, group: str) -> Span:
    """The span of a settled item; `group` is the consumer group's name."""
    common = shape(item)
    settled = item.settled or item.received
    return Span(
        span_name(common),
        SpanKind.CONSUMER,
        item.trace,
        item.received.wall_ns,
        settled.wall_ns,
        shape_attributes(common, group) + own_attributes(item) + answer_attributes(item.attempts),
        station_events(item) + attempt_events(item.attempts),
        attempt_links(item.attempts),
        span_error(common),
    )


def shape(item: Item) -> Shape:
    """What an item's span has in common with many others: few values over a long time."""
    mapped = item.mapped
    topic, partition, *_ = item.record
    keys, removed = (None, None) if mapped is None else (mapped.match_keys, mapped.removed)
    return (
        topic,
        partition,
        item.outcome,
        item.reason,
        item.event,
        item.event_source_id,
        item.attempt_count,
        keys,
        item.consent,
        removed,
        item.field,
    )


def span_name(common: Shape) -> str:
    """The name of the span of an event."""
    return f"process {common[0]}"


def span_error(common: Shape) -> str | None:
    """The status description: the reason of a dead letter; other outcomes are no errors."""
    _, _, outcome, reason, *_ = common
    if outcome is not Outcome.DEAD_LETTERED:
        return None
    return reason.value if reason is not None else outcome.value


def shape_attributes(common: Shape, group: str) -> Attributes:
    """The attributes that events of the same shape share."""
    topic, partition, outcome, reason, event, source_id, attempts, keys, consent, removed, field = (
        common
    )
    return _present(
        ("messaging.system", "kafka"),
        ("messaging.operation.type", "process"),
        ("messaging.operation.name", "process"),
        ("messaging.destination.name", topic),
        ("messaging.destination.partition.id", str(partition)),
        ("messaging.consumer.group.name", group),
        ("tiktok.event", event),
        ("tiktok.event_source_id", source_id),
        ("tiktok.outcome", outcome and outcome.value),
        ("tiktok.reason", reason and reason.value),
        ("tiktok.field", field),
        ("tiktok.attempts", attempts),
        ("tiktok.match_keys", keys),
        ("error.type", span_error(common)),
        *(_consent_attributes(consent, removed or ()) if consent is not None else ()),
    )


def own_attributes(item: Item) -> Attributes:
    """The attributes that are the item's own. `detail` is free of personal data by contract."""
    return _present(
        ("messaging.kafka.offset", item.record.offset),
        ("tiktok.event_id", item.event_id),
        ("tiktok.detail", item.detail),
    )


def answer_attributes(attempts: tuple[Attempt, ...]) -> Attributes:
    """What TikTok answered last."""
    if not attempts:
        return ()
    last = attempts[-1]
    return _present(("tiktok.code", last.code), ("tiktok.request_id", last.request_id))


def station_events(item: Item) -> tuple[SpanEvent, ...]:
    """The stations that the item has passed before it was sent, with their times."""
    passed = (
        ("decode", item.decoded_ns),
        ("dedup", item.deduplicated_ns),
        ("batch", 0 if item.batched is None else item.batched.wall_ns),
    )
    return tuple(SpanEvent(name, time_ns) for name, time_ns in passed if time_ns)


def attempt_events(attempts: tuple[Attempt, ...]) -> tuple[SpanEvent, ...]:
    """The start of each attempt, with what came of it."""
    return tuple(
        SpanEvent(
            "attempt",
            attempt.started.wall_ns,
            _present(
                ("tiktok.attempt.number", attempt.number), ("tiktok.verdict", attempt.verdict)
            ),
        )
        for attempt in attempts
    )


def attempt_links(attempts: tuple[Attempt, ...]) -> tuple[TraceIds, ...]:
    """The spans of the attempts; none where tracing was off."""
    return tuple(attempt.trace for attempt in attempts if attempt.trace.trace_id)


def _consent_attributes(
    consent: Consent, removed: tuple[str, ...]
) -> Iterable[tuple[str, AttributeValue | None]]:
    return (
        ("tiktok.consent.marketing", consent.marketing.value),
        ("tiktok.consent.ad_user_data", consent.ad_user_data.value),
        ("tiktok.consent.ad_personalization", consent.ad_personalization.value),
        ("tiktok.consent.region", consent.region),
        ("tiktok.consent.cmp_version", consent.cmp_version),
        ("tiktok.consent.limited_data_use", consent.limited_data_use),
        ("tiktok.consent.removed", removed),
    )


# The span of an HTTP attempt

_FIRST_ERROR_STATUS = 400


def attempt_span(attempt: Attempt, to: Endpoint) -> Span:
    """The span of a finished attempt, linked with every sampled event in it."""
    ended = attempt.ended or attempt.started
    failure = _failure(attempt)
    return Span(
        "POST",
        SpanKind.CLIENT,
        attempt.trace,
        attempt.started.wall_ns,
        ended.wall_ns,
        _present(
            ("http.request.method", "POST"),
            ("server.address", to.address),
            ("server.port", to.port),
            ("url.full", to.url),
            ("http.response.status_code", attempt.http_status),
            ("http.request.resend_count", attempt.number - 1 if attempt.number > 1 else None),
            ("error.type", failure),
            ("messaging.batch.message_count", attempt.events),
            ("tiktok.event_source_id", attempt.destination.event_source_id),
            ("tiktok.code", attempt.code),
            ("tiktok.request_id", attempt.request_id),
            ("tiktok.verdict", attempt.verdict),
        ),
        (),
        attempt.linked,
        None if failure is None else attempt.verdict or failure,
    )


def _failure(attempt: Attempt) -> str | None:
    """`error.type` by the HTTP conventions: a low-cardinality name, None for success.

    TikTok reports most errors with HTTP 200, so its code speaks where the status does not.
    """
    if attempt.error is not None:
        return attempt.error
    if attempt.http_status is not None and attempt.http_status >= _FIRST_ERROR_STATUS:
        return str(attempt.http_status)
    if attempt.verdict in (None, "accepted"):
        return None
    return str(attempt.code) if attempt.code is not None else attempt.verdict


def _present(*pairs: tuple[str, AttributeValue | None]) -> Attributes:
    return tuple((key, value) for key, value in pairs if value is not None)
