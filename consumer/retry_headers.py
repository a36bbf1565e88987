"""Records of the retry topic: the original, and in headers behind it where it came from.

The original's key, value, timestamp and headers come first and stay byte for byte. Ours follow as
one block, always in this order and always the last headers of the record:

    retry.source.topic | retry.source.partition | retry.source.offset   the first source
    retry.first_unknown_at   since when TikTok may have the event; only where it may
    retry.replay.count       how often it was replayed from a dead letter
    retry.parked_at          since when it has stood at this place of the retry topic

Because the block is known by its place, an original that carried headers of these names comes back
with them: only the block at the end is ours. A record that does not end with the whole block was
not written by this program, or something added to its headers: then the last header of each name
counts, and whatever is called `retry.*` is taken as ours and left out of the original.

What is read back is untrusted input (spring-kafka GH-4493: hostile replay headers broke a
consumer). Reading never raises; a value that cannot be right is as good as none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from consumer.event import Origin
from consumer.messages import Produce

if TYPE_CHECKING:
    from consumer.event import Headers, Instant, Item, Record, TopicPartition

PREFIX = "retry."
TOPIC = "retry.source.topic"
PARTITION = "retry.source.partition"
OFFSET = "retry.source.offset"
FIRST_UNKNOWN = "retry.first_unknown_at"
REPLAYS = "retry.replay.count"
PARKED = "retry.parked_at"

MOST_REPLAYS = 1_000_000
"""A count of replays above this is none: nobody replays a record so often."""

LARGEST_OFFSET = 2**63 - 1
"""Kafka's offsets are signed 64-bit numbers."""


class Came(NamedTuple):
    """What a record of the retry topic says of itself.

    `first_unknown_ms`: since when TikTok may have the event (milliseconds, never in the future);
    None where it cannot have it.
    """

    origin: Origin
    first_unknown_ms: int | None
    replay_count: int


def retry_record(item: Item, handle: int, topic: str, now: Instant) -> Produce:
    """The record that parks an item in the retry topic, at the number of its own partition.

    An item that came by the retry topic keeps its first source; its block is replaced, so nothing
    piles up however often it is parked.
    """
    record = item.record
    origin = item.origin
    source, original = (record, record.headers) if origin is None else (origin, origin.headers)
    ours = retry_headers(
        source.topic,
        source.partition,
        source.offset,
        first_unknown_ms=item.first_unknown_ms,
        replay_count=item.replay_count,
        parked_ms=now.wall_ms,
    )
    return Produce(
        handle,
        topic,
        record.key,
        record.value,
        original + ours,
        record.timestamp,
        record.partition,
    )


def retry_headers(
    topic: str,
    partition: int,
    offset: int,
    *,
    first_unknown_ms: int | None,
    replay_count: int,
    parked_ms: int,
) -> Headers:
    """The block behind the original's headers, for a first source; times in epoch milliseconds."""
    unknown = () if first_unknown_ms is None else ((FIRST_UNKNOWN, _rfc3339(first_unknown_ms)),)
    return (
        (TOPIC, topic.encode()),
        (PARTITION, b"%d" % partition),
        (OFFSET, b"%d" % offset),
        *unknown,
        (REPLAYS, b"%d" % replay_count),
        (PARKED, _rfc3339(parked_ms)),
    )


def restore(item: Item, now_ms: int) -> None:
    """Gives an item that came by the retry topic back what was known when it was parked.

    Its owner must be a partition of the retry topic, which is read beside a source partition.
    """
    beside = item.owner.beside
    if beside is None:
        raise TypeError("only a partition of the retry topic holds parked records")
    came = origin_of(item.record, beside.tp, now_ms)
    item.origin, item.first_unknown_ms, item.replay_count = came


def origin_of(record: Record, source: TopicPartition, now_ms: int) -> Came:
    """What a retry record's headers say; never raises, whatever they hold.

    `source` is the source partition whose events belong at the record's place. A place that is not
    whole, or names another topic or partition, is none: the record's own place stands for it. A
    time in the future is taken as `now_ms`; one that is not readable is none, and a record that
    does not say since when it has been parked has been there for ever (0).
    """
    original, block = _split(record.headers)
    said = dict(block)  # of headers with one name the last one counts
    offset = _number(said.get(OFFSET), LARGEST_OFFSET)
    number = _number(said.get(PARTITION), _LARGEST_PARTITION)
    if offset is None or number != source.partition or said.get(TOPIC) != source.topic.encode():
        place = record.topic, record.partition, record.offset
    else:
        place = source.topic, source.partition, offset
    parked_ms = _time(said.get(PARKED), now_ms)
    return Came(
        Origin(*place, original, 0 if parked_ms is None else parked_ms),
        _time(said.get(FIRST_UNKNOWN), now_ms),
        _number(said.get(REPLAYS), MOST_REPLAYS) or 0,
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LARGEST_PARTITION = 2**31 - 1
_DIGITS = len(str(LARGEST_OFFSET))
_TIME_BYTES = len("2026-09-21T14:13:20.123Z")
_BLOCK = (TOPIC, PARTITION, OFFSET, REPLAYS, PARKED)
_BLOCK_UNKNOWN = (TOPIC, PARTITION, OFFSET, FIRST_UNKNOWN, REPLAYS, PARKED)


def _split(headers: Headers) -> tuple[Headers, Headers]:
    """The original's headers, and what is to be read as ours."""
    for block in (_BLOCK_UNKNOWN, _BLOCK):
        at = len(headers) - len(block)
        if at >= 0 and tuple([name for name, _ in headers[at:]]) == block:
            return headers[:at], headers[at:]
    original = tuple([header for header in headers if not header[0].startswith(PREFIX)])
    return original, tuple([header for header in headers if header[0].startswith(PREFIX)])


def _number(value: bytes | None, largest: int) -> int | None:
    """A number as we write it, digits only; None for anything else."""
    # Bounded before it is converted: the time for that grows with the square of the digits.
    if value is None or not value.isdigit() or len(value) > _DIGITS:
        return None
    number = int(value)
    return number if number <= largest else None


def _time(value: bytes | None, now_ms: int) -> int | None:
    """A time as we write it (RFC 3339, UTC, milliseconds), at most `now_ms`; None for another."""
    if value is None or len(value) != _TIME_BYTES or not value.endswith(b"Z"):
        return None
    try:
        moment = datetime.fromisoformat(value.decode("ascii"))
    except ValueError:  # of the decoder, too
        return None
    millis = (moment - _EPOCH) // _MILLISECOND
    return min(millis, now_ms) if millis >= 0 else None


def _rfc3339(epoch_ms: int) -> bytes:
    text = (_EPOCH + epoch_ms * _MILLISECOND).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z").encode()
