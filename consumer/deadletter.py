"""Dead letters: the original record byte for byte, and headers that say what happened.

The original's headers come first and stay as they are; ours follow. A reader takes the last
header of a name, so headers that come back with a replayed record cannot speak for us. An event
that came by the retry topic leaves no trace of that: its letter names its first source, and the
headers that parking added are gone.
The `__connect.errors.*` headers are Kafka Connect's, for tools that know them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from consumer.messages import Produce

if TYPE_CHECKING:
    from consumer.event import Headers, Instant, Item, Refused

DETAIL_BYTES = 1024
"""The longest `dlq.detail`."""

IDENTITY_BYTES = 1024
"""The longest value of a header that repeats something of the event."""


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Makes dead letters. `topic` None means `<source topic>.dlq`; `consumer` is group/version."""

    consumer: str
    topic: str | None = None

    def topic_of(self, source_topic: str) -> str:
        """Where the dead letters of a source topic go."""
        return self.topic or f"{source_topic}.dlq"

    def letter(self, item: Item, refused: Refused, handle: int, now: Instant) -> Produce:
        """The dead letter of an item that was refused."""
        record = item.record
        headers = _original_headers(item) + self._headers(item, refused, now)
        return Produce(
            handle,
            self.topic_of(item.owner.source.tp.topic),
            record.key,
            record.value,
            headers,
            record.timestamp,
        )

    def without_optional_headers(self, letter: Produce, item: Item) -> Produce:
        """The same letter with only what names its reason and source.

        For a broker that refuses the record as too large.
        """
        original = len(_original_headers(item))
        kept = tuple(h for h in letter.headers[original:] if h[0] in _NEEDED)
        return letter._replace(headers=letter.headers[:original] + kept)

    def _headers(self, item: Item, refused: Refused, now: Instant) -> Headers:
        source, timestamp = item.first_source, item.record.timestamp
        detail = cut(refused.detail, DETAIL_BYTES).decode()
        named: tuple[tuple[str, str | int | None], ...] = (
            ("dlq.version", 1),
            ("dlq.reason", refused.reason.value),
            ("dlq.detail", detail),
            ("dlq.field", refused.field),
            ("dlq.source.topic", source.topic),
            ("dlq.source.partition", source.partition),
            ("dlq.source.offset", source.offset),
            ("dlq.source.timestamp", timestamp if timestamp >= 0 else None),
            ("dlq.event_id", item.event_id),
            ("dlq.event", item.event),
            ("dlq.event_source_id", item.event_source_id),
            ("dlq.tiktok.code", item.tiktok_code),
            ("dlq.tiktok.request_id", item.request_id),
            ("dlq.http.status", item.http_status),
            ("dlq.attempts", item.attempt_count),
            ("dlq.failed_at", _rfc3339(now)),
            ("dlq.consumer", self.consumer),
            ("dlq.replay.count", item.replay_count),
            ("dlq.traceparent", item.trace.traceparent),
            ("__connect.errors.topic", source.topic),
            ("__connect.errors.partition", source.partition),
            ("__connect.errors.offset", source.offset),
            ("__connect.errors.exception.message", f"{refused.reason.value}: {detail}"),
        )
        return tuple(
            (name, cut(str(value), _LONGEST.get(name, IDENTITY_BYTES)))
            for name, value in named
            if value is not None
        )


_NEEDED = frozenset(
    {
        "dlq.version",
        "dlq.reason",
        "dlq.source.topic",
        "dlq.source.partition",
        "dlq.source.offset",
        "dlq.replay.count",
    }
)


_LONGEST = {"__connect.errors.exception.message": DETAIL_BYTES + 64}  # the reason stands before it


def _original_headers(item: Item) -> Headers:
    return item.record.headers if item.origin is None else item.origin.headers


def cut(text: str, size: int) -> bytes:
    """The text as at most `size` bytes of UTF-8, cut at a character; never raises."""
    encoded = text.encode("utf-8", "replace")
    return encoded if len(encoded) <= size else encoded[:size].decode("utf-8", "ignore").encode()


def _rfc3339(now: Instant) -> str:
    moment = datetime.fromtimestamp(now.wall_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
