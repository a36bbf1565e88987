"""Spans as the SDK's own `ReadableSpan`, for exporters other than OTLP over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from consumer import spans
from consumer.export import Exported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from consumer.event import TraceIds
    from consumer.export import Patience

_KINDS = {spans.SpanKind.CLIENT: SpanKind.CLIENT, spans.SpanKind.CONSUMER: SpanKind.CONSUMER}
_UNSET = Status(StatusCode.UNSET)
_EXPORT_BATCH = 512


def readable_span(
    span: spans.Span, resource: Resource, scope: InstrumentationScope
) -> ReadableSpan:
    """The same span as the SDK would have made it, links beyond its limit of 128 included."""
    ids = span.ids
    return ReadableSpan(
        name=span.name,
        context=_context(ids, ids.span_id, is_remote=False),
        parent=_context(ids, ids.parent_span_id, is_remote=True) if ids.parent_span_id else None,
        resource=resource,
        attributes=dict(span.attributes),
        events=[
            Event(event.name, dict(event.attributes), timestamp=event.time_ns)
            for event in span.events
        ],
        links=[Link(_context(link, link.span_id, is_remote=False)) for link in span.links],
        kind=_KINDS[span.kind],
        status=_UNSET if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=scope,
    )


def _context(ids: TraceIds, span_id: int, *, is_remote: bool) -> SpanContext:
    flags = TraceFlags.SAMPLED if ids.sampled else TraceFlags.DEFAULT
    state = TraceState.from_header([ids.trace_state]) if ids.trace_state else None
    return SpanContext(ids.trace_id, span_id, is_remote, TraceFlags(flags), state)


class SdkExport:
    """Any span exporter of OpenTelemetry's, given lists of spans as it knows them.

    Args:
        exporter: the SDK's, or one that is installed beside it.
        resource: who we are.
        scope: the instrumentation scope of all spans.
    """

    def __init__(
        self, exporter: SpanExporter, resource: Resource, scope: InstrumentationScope
    ) -> None:
        self._exporter = exporter
        self._resource = resource
        self._scope = scope

    def export(
        self, payloads: Sequence[Sequence[spans.Span]], spans_given: int, patience: Patience
    ) -> Exported:
        """Exports in parts of 512 spans, the SDK's own batch size.

        What the exporter fails to take is counted as refused: trying again is its own business.
        """
        readable = [
            readable_span(span, self._resource, self._scope)
            for payload in payloads
            for span in payload
        ]
        exported = 0
        for start in range(0, spans_given, _EXPORT_BATCH):
            if patience.left() <= 0:
                return Exported(exported, {"shutdown": spans_given - exported})
            part = readable[start : start + _EXPORT_BATCH]
            if self._exporter.export(part) is SpanExportResult.SUCCESS:
                exported += len(part)
        refused = spans_given - exported
        return Exported(exported, {"refused": refused} if refused else {})

    def close(self) -> None:
        """Shuts the exporter down."""
        self._exporter.shutdown()
