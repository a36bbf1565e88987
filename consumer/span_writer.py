"""Writes the spans of settled events and finished attempts to every configured exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.otlp import encode_span
from consumer.otlp_events import EventSpans
from consumer.spans import attempt_span, event_span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.event import Attempt, Item
    from consumer.export import ExportThread
    from consumer.spans import Endpoint, Span

_SLICE = 256
"""Items encoded at once: about a quarter of a request, so that the queue's parts stay small."""

_SPAN_BYTES = 2048
"""About what a span that is not encoded yet weighs in memory."""


class SpanWriter:
    """Only sampled spans are written; without exporters nothing is done at all.

    Args:
        group: the consumer group's name.
        endpoint: where requests go.
        otlp: the thread that sends encoded spans, where OTLP over HTTP is configured.
        others: the threads of any other exporters, which take spans as values.
    """

    def __init__(
        self,
        group: str,
        endpoint: Endpoint,
        otlp: ExportThread[bytes] | None,
        others: Sequence[ExportThread[Sequence[Span]]],
    ) -> None:
        self._group = group
        self._endpoint = endpoint
        self._encoder = EventSpans(group)
        self._otlp = otlp
        self._others = others

    @property
    def threads(self) -> Sequence[ExportThread[bytes] | ExportThread[Sequence[Span]]]:
        """All the threads, to be closed in the end."""
        return (self._otlp, *self._others) if self._otlp is not None else self._others

    def events(self, items: Sequence[Item]) -> None:
        """Writes the spans of settled items."""
        if self._otlp is not None:
            for start in range(0, len(items), _SLICE):
                encoded, count = self._encoder.encode(items[start : start + _SLICE])
                if count:
                    self._otlp.put(encoded, count, len(encoded))
        if self._others:
            written = [event_span(item, self._group) for item in items if item.trace.sampled]
            self._put_others(written)

    def attempt(self, attempt: Attempt) -> None:
        """Writes the span of a finished attempt."""
        if not attempt.trace.sampled or not (self._otlp or self._others):
            return
        span = attempt_span(attempt, self._endpoint)
        if self._otlp is not None:
            encoded = encode_span(span)
            self._otlp.put(encoded, 1, len(encoded))
        self._put_others([span])

    def _put_others(self, written: Sequence[Span]) -> None:
        if written:
            for thread in self._others:
                thread.put(written, len(written), len(written) * _SPAN_BYTES)
