"""Out-of-order completions in a commit's metadata, so that a restart does not redo them.

A commit says "everything below this offset is settled". What is settled above it, because a
slower record holds the offset back, is written into the metadata beside the offset: run lengths
of unsettled and settled offsets in turn, beginning with the committed offset itself.

    "t1." + base64url( cluster (8) | topic (8) | base offset | run | run | ... | CRC-32 (4) )

Numbers are LEB128. The first 16 bytes are digests of cluster id and topic id, so that metadata
that was translated to another cluster, or outlived its topic, is not believed. Metadata that does
not match in every respect is ignored: it may be anybody's, and unlisted only means unsettled.

Metadata of this cluster and another topic id tells one thing more: the topic was deleted and made
again since, and the offset beside it says nothing about the topic of today.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PREFIX = "t1."
MOST_BYTES = 4096
"""Kafka's own default limit (`offset.metadata.max.bytes`)."""

_ID_BYTES = 8
_BINDING_BYTES = 2 * _ID_BYTES
_CHECKSUM_BYTES = 4
_PAYLOAD_BYTES = (MOST_BYTES - len(PREFIX)) // 4 * 3
_LONGEST_NUMBER = 10


class Span(NamedTuple):
    """Settled offsets from `start` up to but not including `end`."""

    start: int
    end: int


def binding(cluster_id: str, topic_id: str) -> bytes:
    """What ties metadata to one topic of one cluster."""
    return b"".join(
        blake2b(text.encode(), digest_size=_ID_BYTES).digest() for text in (cluster_id, topic_id)
    )


def is_of_another_topic(metadata: str, bound_to: bytes) -> bool:
    """Whether the metadata was written for this cluster, but for a topic that is no more."""
    content = _content(metadata)
    return content is not None and is_recreated(content[:_BINDING_BYTES], bound_to)


def is_recreated(before: bytes, bound_to: bytes) -> bool:
    """Whether a topic that was bound `before` is another one now, on the same cluster."""
    return before[:_ID_BYTES] == bound_to[:_ID_BYTES] and before != bound_to


def settled_spans(base: int, unsettled: Iterable[int], position: int) -> Iterator[Span]:
    """The settled offsets from `base` to `position`, given the unsettled ones in rising order."""
    at = base
    for offset in unsettled:
        if offset > at:
            yield Span(at, offset)
        at = offset + 1
    if position > at:
        yield Span(at, position)


def encode(base: int, settled: Iterable[Span], bound_to: bytes) -> str:
    """The metadata for committing `base`, with the settled spans above it in rising order.

    What does not fit is left out from the end.
    """
    payload = bytearray(bound_to)
    _append(payload, base)
    complete = len(payload)
    at = base
    for start, end in _joined(settled):
        _append(payload, start - at)
        _append(payload, end - start)
        if len(payload) > _PAYLOAD_BYTES - _CHECKSUM_BYTES:
            break
        complete, at = len(payload), end
    del payload[complete:]
    payload += binascii.crc32(payload).to_bytes(_CHECKSUM_BYTES, "big")
    return PREFIX + urlsafe_b64encode(payload).decode()


def decode(metadata: str, base: int, bound_to: bytes) -> Sequence[Span]:
    """The settled spans above a committed offset; none where the metadata is not ours, whole."""
    content = _content(metadata)
    if content is None or content[:_BINDING_BYTES] != bound_to:
        return ()
    numbers = _numbers(content[_BINDING_BYTES:])
    if numbers is None or len(numbers) % 2 == 0 or numbers[0] != base:
        return ()
    if 0 in numbers[2::2] or 0 in numbers[3::2]:
        return ()  # only the first run, of unsettled offsets, may be empty
    spans = []
    at = base
    for unsettled, settled in zip(numbers[1::2], numbers[2::2], strict=True):
        spans.append(Span(at + unsettled, at + unsettled + settled))
        at += unsettled + settled
    return spans


def _content(metadata: str) -> bytes | None:
    """What the metadata holds, if it is in our form and undamaged."""
    if not metadata.startswith(PREFIX) or len(metadata) > MOST_BYTES:
        return None
    try:
        payload = urlsafe_b64decode(metadata[len(PREFIX) :].encode("ascii"))
    except (ValueError, binascii.Error):
        return None
    content, checksum = payload[:-_CHECKSUM_BYTES], payload[-_CHECKSUM_BYTES:]
    undamaged = binascii.crc32(content).to_bytes(_CHECKSUM_BYTES, "big") == checksum
    return content if undamaged else None


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    """The same spans, those that touch made one."""
    last: Span | None = None
    for span in spans:
        if last is not None and span.start == last.end:
            last = Span(last.start, span.end)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last


def _append(payload: bytearray, number: int) -> None:
    while number > 0x7F:  # noqa: PLR2004  seven bits a byte
        payload.append(number & 0x7F | 0x80)
        number >>= 7
    payload.append(number)


def _numbers(content: bytes) -> list[int] | None:
    numbers, number, shift = [], 0, 0
    for byte in content:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift >= 7 * _LONGEST_NUMBER:
                return None
        else:
            numbers.append(number)
            number, shift = 0, 0
    return None if shift else numbers
