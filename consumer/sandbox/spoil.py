"""Ways to spoil an event, one for each dead-letter reason that a record can earn by itself."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, Protocol

from fastavro import parse_schema, schemaless_writer

from consumer.event import Reason
from consumer.sandbox.rules import REJECT_MARKER
from consumer.schemas import load_schema

if TYPE_CHECKING:
    from random import Random

_MAGIC = 0
_UNKNOWN_SCHEMA_ID = 2_000_000_000
_NOBODYS_PIXEL = "C9NOBODYS00000000000"
_HOUR_MS = 3_600_000
_ESCAPED_LENGTH = 6
_ESCAPED = "\x01"


class Limits(Protocol):
    """The consumer's limits that a spoilt event oversteps."""

    @property
    def now_ms(self) -> int:
        """The present, in milliseconds since the epoch."""

    @property
    def max_age_ms(self) -> int:
        """How old an event may be."""

    @property
    def max_future_ms(self) -> int:
        """How far ahead of the clock an event may be."""

    @property
    def max_event_bytes(self) -> int:
        """How long an event's JSON may be."""


class Encoder:
    """Writes events as Kafka carries them: Confluent's wire format around Avro."""

    def __init__(self, schema_id: int) -> None:
        self._prefix = struct.pack(">bI", _MAGIC, schema_id)
        self._schema = parse_schema(load_schema("conversion_event"))

    def encode(self, fields: dict[str, Any]) -> bytes:
        """The record value of an event; absent fields are null."""
        buffer = io.BytesIO()
        buffer.write(self._prefix)
        schemaless_writer(buffer, self._schema, fields)
        return buffer.getvalue()


def spoil(
    fields: dict[str, Any], reason: Reason, limits: Limits, encoder: Encoder, draw: Random
) -> bytes:
    """The record value of an event that must end as a dead letter for this reason.

    Changes `fields` where the event itself is what is wrong.

    Raises:
        ValueError: no record earns this reason by itself.
    """
    match reason:
        case Reason.UNDECODABLE:
            return _corrupt(encoder.encode(fields), draw)
        case Reason.SCHEMA_UNKNOWN:
            return struct.pack(">bI", _MAGIC, _UNKNOWN_SCHEMA_ID) + encoder.encode(fields)[5:]
        case Reason.INVALID:
            _invalidate(fields, draw)
        case Reason.UNKNOWN_DESTINATION:
            fields["event_source_id"] = _NOBODYS_PIXEL
        case Reason.TOO_OLD:
            fields["event_time"] = limits.now_ms - limits.max_age_ms - _HOUR_MS
        case Reason.IN_FUTURE:
            fields["event_time"] = limits.now_ms + limits.max_future_ms + 24 * _HOUR_MS
        case Reason.REJECTED:
            _custom(fields)[REJECT_MARKER] = True
        case Reason.TOO_LARGE:
            # Avro writes a control character as one byte, JSON as six: small in Kafka, too large
            # for TikTok.
            times = limits.max_event_bytes // _ESCAPED_LENGTH + 1
            _custom(fields)["notes"] = _ESCAPED * times
        case _:
            raise ValueError(f"no record earns the reason {reason} by itself")
    return encoder.encode(fields)


def _corrupt(value: bytes, draw: Random) -> bytes:
    """Bytes that no reader can make sense of, each kind as likely as the next."""
    kinds = (
        b"",
        b"{" + value[1:],
        value[:3],
        value[: draw.randrange(6, len(value))],
        value + b"\x00",
        value[:5] + b"\xff" * 24,
    )
    return draw.choice(kinds)


def _invalidate(fields: dict[str, Any], draw: Random) -> None:
    """Takes away, or contradicts, something that TikTok requires of a web event."""
    kind = draw.randrange(4)
    if kind == 0:
        fields["page"] = None
    elif kind == 1:
        fields["event_id"] = ""
    elif kind == 2:  # noqa: PLR2004  the third of four kinds
        fields["event_source"] = "app"
    else:
        fields["user"] = {**fields["user"], "ip": "10.0.0.7"}
        fields["limited_data_use"] = True


def _custom(fields: dict[str, Any]) -> dict[str, Any]:
    """The custom properties of an event, made where there are none."""
    properties = fields["properties"] = dict(fields["properties"] or {})
    custom: dict[str, Any] = dict(properties.get("custom") or {})
    properties["custom"] = custom
    return custom
