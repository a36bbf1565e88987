"""Receipts: a record of each outcome in a topic of their own, for whoever asks what became of what.

Identified by the place of the source record and its replay count: one may be there twice, none is
missing below the committed offset. Nothing in one is a person's data.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro

from consumer.deadletter import IDENTITY_BYTES, cut
from consumer.encode import confluent_framing
from consumer.messages import Produce

if TYPE_CHECKING:
    from consumer.event import Consent, Headers, Item, TraceIds

TRACE_STATE_BYTES = 512
"""The longest `tracestate` that goes along: W3C asks nobody to carry a longer one."""


class Receipts:
    """Makes receipts.

    Args:
        topic: Where they go, chosen there by the event_id.
        schema: `schemas/delivery_receipt.avsc`.
        consumer: Group and version of this program.
        framing: What stands before each Avro value, by the source's encoding.
    """

    def __init__(
        self, topic: str, schema: dict[str, Any], consumer: str, framing: bytes = b""
    ) -> None:
        self.topic = topic
        self.schema = schema
        self._parsed = fastavro.parse_schema(schema)
        self._consumer = consumer
        self._framing = framing

    def registered(self, schema_id: int) -> None:
        """The registry has the schema under this id: receipts are in Confluent's wire format."""
        self._framing = confluent_framing(schema_id)

    def receipt(self, item: Item, handle: int) -> Produce:
        """The receipt of an item that has its outcome."""
        stream = BytesIO()
        stream.write(self._framing)
        fields = _fields(item)
        fields["consumer"] = self._consumer
        fastavro.schemaless_writer(stream, self._parsed, fields)
        key = fields["event_id"]
        return Produce(
            handle,
            self.topic,
            None if key is None else key.encode(),
            stream.getvalue(),
            _context(item.trace),
            fields["settled_at"],
        )


def _fields(item: Item) -> dict[str, Any]:
    """What a receipt says, by the names of its schema's fields."""
    mapped, attempts, settled = item.mapped, item.attempts, item.settled or item.received
    last = attempts[-1] if attempts else None
    place = item.first_source
    consent = item.consent
    return {
        "event_id": _short(item.event_id),
        "event": _short(item.event),
        "event_source_id": _short(item.event_source_id),
        "outcome": item.outcome and item.outcome.value,
        "reason": item.reason and item.reason.value,
        "field": _short(item.field),
        "detail": _short(item.detail),
        "tiktok_code": last and last.code,
        "request_id": last and _short(last.request_id),
        "http_status": last and last.http_status,
        "attempts": item.attempt_count,
        "batch_events": last and last.events,
        # What the state topic tells may be of a clock that was ahead, or of none.
        "accepted_at": item.accepted_ms and min(item.accepted_ms, settled.wall_ms),
        "match_keys": () if mapped is None else mapped.match_keys,
        "consent": consent and _consent(consent, () if mapped is None else mapped.removed),
        "event_time": mapped and mapped.event_time_ms,
        "consumed_at": item.received.wall_ms,
        "settled_at": settled.wall_ms,
        "source_topic": place.topic,
        "source_partition": place.partition,
        "source_offset": place.offset,
        "replay_count": item.replay_count,
    }


def _consent(consent: Consent, removed: tuple[str, ...]) -> dict[str, Any]:
    return {
        "marketing": consent.marketing.value,
        "ad_user_data": consent.ad_user_data.value,
        "ad_personalization": consent.ad_personalization.value,
        "region": _short(consent.region),
        "cmp_version": _short(consent.cmp_version),
        "limited_data_use": consent.limited_data_use,
        "fields_removed": removed,
    }


def _short(text: str | None) -> str | None:
    """What came with the event may be of any length; a receipt is small."""
    if text is None or len(text) <= IDENTITY_BYTES // 4:
        return text
    return cut(text, IDENTITY_BYTES).decode()


def _context(trace: TraceIds) -> Headers:
    """The event's span, for whoever goes on from its receipt."""
    parent = trace.traceparent
    if parent is None:
        return ()
    state = trace.trace_state if len(trace.trace_state) <= TRACE_STATE_BYTES else ""
    named = (("traceparent", parent), ("tracestate", state))
    return tuple((name, value.encode()) for name, value in named if value)
