"""The spans of events as OTLP bytes, at a few microseconds each.

Equal to `encode_span(event_span(item))` field by field, and made of the same parts, but what many
events have in common is encoded once: the attributes of a shape, and what the attempts of a batch
left behind (their span events, their links, TikTok's answer).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from consumer.otlp import (
    attribute,
    encode_attributes,
    encode_event,
    encode_ids,
    encode_links,
    encode_status,
    encode_text,
    field,
    varint,
)
from consumer.spans import (
    answer_attributes,
    attempt_events,
    attempt_links,
    shape,
    shape_attributes,
    span_error,
    span_name,
    station_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumer.event import Attempt, Item
    from consumer.spans import Shape

_MOST_SHAPES = 8192

_ROOT = Struct(">2s16s2sQ6s")
_CHILD = Struct(">2s16s2sQ2sQ6s")
_ROOT_FLAGS = b"\x85\x01\x00\x01\x00\x00"
_CHILD_FLAGS = b"\x85\x01\x00\x03\x00\x00"
_TIMES = Struct("<sQsQ")
_TIMES_AND_STATIONS = Struct("<sQsQ3sQ8s3sQ7s3sQ7s")
_DECODE, _DEDUP, _BATCH = b"\x12\x06decode", b"\x12\x05dedup", b"\x12\x05batch"
_SIX, _FIVE = b"\x5a\x11\x09", b"\x5a\x10\x09"  # 11 events, of 17 and 16 bytes: 1 time_unix_nano

_KNOWN_LENGTHS = 4096
_SPAN_STARTS = tuple(b"\x12" + varint(length) for length in range(_KNOWN_LENGTHS))
"""A span's field tag and length, by its length."""

_SHORT = 100
_EVENT_ID = "tiktok.event_id"
_ID_STARTS = tuple(
    attribute(9, _EVENT_ID, "x" * length)[: -length or None] for length in range(_SHORT)
)
"""The attribute up to the event_id itself, by the length of the event_id."""

_OFFSET = "messaging.kafka.offset"
_LOW_BITS = 14
_LOW = (1 << _LOW_BITS) - 1
_LOW_VARINTS = b"".join(bytes((low & 0x7F | 0x80, low >> 7 | 0x80)) for low in range(_LOW + 1))
"""The first two bytes of the varint of a number with these low 14 bits and more above them."""


class EventSpans:
    """Writes the spans of settled items.

    Args:
        group: the consumer group's name.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._shapes: dict[Shape, bytes] = {}
        self._offsets: dict[int, tuple[bytes, bytes]] = {}

    def encode(self, items: Iterable[Item]) -> tuple[bytes, int]:
        """The spans of the sampled ones of these items as bytes, and how many there are."""
        shapes, offsets, written = self._shapes, self._offsets, []
        answers: dict[tuple[Attempt, ...], bytes] = {}
        attempts: tuple[Attempt, ...] | None = None
        answer = b""
        for item in items:
            trace_id, span_id, parent_id, sampled, state = item.trace
            if not sampled:
                continue
            if state:
                ids = encode_ids(item.trace)
            elif parent_id:
                ids = _CHILD.pack(
                    b"\x0a\x10", trace_id.to_bytes(16, "big"), b"\x12\x08", span_id,
                    b"\x22\x08", parent_id, _CHILD_FLAGS,
                )  # fmt: skip
            else:
                ids = _ROOT.pack(
                    b"\x0a\x10", trace_id.to_bytes(16, "big"), b"\x12\x08", span_id, _ROOT_FLAGS
                )
            common = shape(item)
            shared = shapes.get(common) or self._encode_shape(common)
            offset = item.record[2]
            known = offsets.get(offset >> _LOW_BITS) or self._encode_offset(offset)
            at = (offset & _LOW) << 1
            event_id = item.event_id
            own = encode_text(event_id) if event_id is not None else None
            if item.attempts is not attempts:
                attempts = item.attempts
                found = answers.get(attempts)
                answer = answers[attempts] = _encode_answer(attempts) if found is None else found
            content = b"".join(
                (
                    ids,
                    shared,
                    known[0] + _LOW_VARINTS[at : at + 2] + known[1]
                    if offset > _LOW
                    else attribute(9, _OFFSET, offset),
                    b""
                    if own is None
                    else _ID_STARTS[len(own)] + own
                    if len(own) < _SHORT
                    else attribute(9, _EVENT_ID, event_id),
                    b"" if item.detail is None else attribute(9, "tiktok.detail", item.detail),
                    _encode_times(item),
                    answer,
                )
            )
            size = len(content)
            written.append(_SPAN_STARTS[size] if size < _KNOWN_LENGTHS else b"\x12" + varint(size))
            written.append(content)
        return b"".join(written), len(written) // 2

    def _encode_shape(self, common: Shape) -> bytes:
        shared = (
            field(5, encode_text(span_name(common)))
            + b"\x30\x05"  # 6 kind: CONSUMER
            + encode_attributes(shape_attributes(common, self._group))
            + encode_status(span_error(common))
        )
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        self._shapes[common] = shared
        return shared

    def _encode_offset(self, offset: int) -> tuple[bytes, bytes]:
        """The attribute around an offset's low 14 bits: what stands before and after them."""
        whole = attribute(9, _OFFSET, offset | _LOW)
        high = varint(offset >> _LOW_BITS)
        known = whole[: -len(high) - 2], high
        if len(self._offsets) >= _MOST_SHAPES:
            self._offsets.clear()
        self._offsets[offset >> _LOW_BITS] = known
        return known


def _encode_times(item: Item) -> bytes:
    decoded, deduplicated = item.decoded_ns, item.deduplicated_ns
    batched = 0 if item.batched is None else item.batched[1]
    start = item.received[1]
    end = start if item.settled is None else item.settled[1]
    if decoded and deduplicated and batched:
        return _TIMES_AND_STATIONS.pack(
            b"\x39", start, b"\x41", end,
            _SIX, decoded, _DECODE, _FIVE, deduplicated, _DEDUP, _FIVE, batched, _BATCH,
        )  # fmt: skip
    times = _TIMES.pack(b"\x39", start, b"\x41", end)
    return times + b"".join(map(encode_event, station_events(item)))


def _encode_answer(attempts: tuple[Attempt, ...]) -> bytes:
    return (
        encode_attributes(answer_attributes(attempts))
        + b"".join(map(encode_event, attempt_events(attempts)))
        + encode_links(attempt_links(attempts))
    )
