"""The values that travel the path: a Kafka record, the event in it, and what became of it.

Everything here is data. A step adds its finding to the item and never edits what an earlier
step wrote; the original bytes stay untouched from the source to the dead-letter topic.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.offsets import Partition

Headers = tuple[tuple[str, bytes | None], ...]
"""Kafka headers in their order; names may repeat, values may be null."""


class TopicPartition(NamedTuple):
    """A partition of a Kafka topic."""

    topic: str
    partition: int


class Record(NamedTuple):
    """A Kafka record as it was read; nothing of it is ever changed.

    `timestamp` is in milliseconds since the epoch, or -1 where the record carries none.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def __repr__(self) -> str:
        """Coordinates; never the value."""
        return f"<Record {self.topic}/{self.partition}@{self.offset}>"


class Origin(NamedTuple):
    """Where an event of the retry topic came from first, and which of its headers were its own.

    `parked_ms`: since when it has stood at its place in the retry topic (milliseconds).
    """

    topic: str
    partition: int
    offset: int
    headers: Headers
    parked_ms: int


class Instant(NamedTuple):
    """A point in time by two clocks, taken together by the shell and handed to the engine.

    `mono` counts seconds and never jumps, also not through suspension of the machine: gates,
    deadlines and back-off use it. `wall_ns` is nanoseconds since the epoch: event age, the
    deduplication window and spans use it.
    """

    mono: float
    wall_ns: int

    @property
    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self.wall_ns // 1_000_000


class EventSource(StrEnum):
    """Where events come from, in TikTok's words (`event_source`)."""

    WEB = "web"
    APP = "app"
    OFFLINE = "offline"
    CRM = "crm"

    __hash__ = str.__hash__  # Enum's own is Python code, and a source is looked up per event


class Outcome(StrEnum):
    """The one thing that becomes of a record."""

    DELIVERED = "delivered"
    DUPLICATE = "duplicate"
    SUPPRESSED = "suppressed"
    DEAD_LETTERED = "dead_lettered"

    __hash__ = str.__hash__  # as above, and outcomes are counted per event


class Reason(StrEnum):
    """Why an outcome came about. The dead-letter reasons are a closed list."""

    UNDECODABLE = "undecodable"
    SCHEMA_UNKNOWN = "schema_unknown"
    INVALID = "invalid"
    UNKNOWN_DESTINATION = "unknown_destination"
    TOO_OLD = "too_old"
    IN_FUTURE = "in_future"
    TOO_LARGE = "too_large"
    REJECTED = "rejected"
    RETRIES_EXHAUSTED = "retries_exhausted"

    CONSENT = "consent"
    FILTER = "filter"
    TOMBSTONE = "tombstone"
    REWOUND = "rewound"

    PARTIAL = "partial"

    __hash__ = str.__hash__  # as above


DEAD_LETTER_REASONS = frozenset(
    {
        Reason.UNDECODABLE,
        Reason.SCHEMA_UNKNOWN,
        Reason.INVALID,
        Reason.UNKNOWN_DESTINATION,
        Reason.TOO_OLD,
        Reason.IN_FUTURE,
        Reason.TOO_LARGE,
        Reason.REJECTED,
        Reason.RETRIES_EXHAUSTED,
    }
)


class ConsentState(StrEnum):
    """A person's answer for one purpose; `UNKNOWN` is read by the `consent.missing` setting."""

    UNKNOWN = "UNKNOWN"
    GRANTED = "GRANTED"
    DENIED = "DENIED"


class Consent(NamedTuple):
    """What consent allows for one event, after the rules for missing answers and regions.

    The three states are as the event gave them. `send` is false where marketing is denied and the
    rules say suppress; `strip_user_data` takes the identifiers out; `limited_data_use` is the flag
    to send, or None to leave it out.
    """

    marketing: ConsentState
    ad_user_data: ConsentState
    ad_personalization: ConsentState
    region: str | None
    cmp_version: str | None
    send: bool
    strip_user_data: bool
    limited_data_use: bool | None


@dataclass(frozen=True, slots=True, eq=False)
class Destination:
    """A pixel, app or event set, as the path needs it: no token, no wire.

    `event_names` maps an event's name to the name to send (GA4 defaults and overrides, complete);
    a name that is not in it goes as it is. `allow_events` holds names as sent; empty allows all.
    `max_age_ms` is how old an event may be.
    """

    event_source: EventSource
    event_source_id: str
    test_event_code: str | None = None
    event_names: Mapping[str, str] = dataclass_field(default_factory=dict)
    allow_events: frozenset[str] = frozenset()
    max_age_ms: int = 7 * 24 * 3600 * 1000


class FieldWarning(NamedTuple):
    """A field that could not be right and was left out, or a hint; never holds the value."""

    field: str
    message: str


class Mapped(NamedTuple):
    """An event in TikTok's form, ready for a batch.

    `event` is the name as sent; `body` is its JSON element of `data[]`; `match_keys` names the
    identifiers in it (`consumer.identity.MATCH_KEYS`);
    `removed` names the fields that consent took out (paths such as `user.email`).
    """

    destination: Destination
    event: str
    event_id: str
    event_time_ms: int
    test_event_code: str | None
    body: bytes
    match_keys: tuple[str, ...]
    consent: Consent
    removed: tuple[str, ...]
    warnings: tuple[FieldWarning, ...]

    def __repr__(self) -> str:
        """What and where to; never the body."""
        return f"<Mapped {self.event} for {self.destination.event_source_id}>"


class Suppressed(NamedTuple):
    """An event that is not sent, on purpose."""

    reason: Reason
    consent: Consent | None = None


class Refused(NamedTuple):
    """An event that cannot be sent as it is; `detail` says why and never quotes personal data.

    `consent` is what was decided before, where that came to be asked.
    """

    reason: Reason
    detail: str
    field: str | None = None
    consent: Consent | None = None


class TraceIds(NamedTuple):
    """Identity of a span, drawn before the span is written. `parent_span_id` 0 means a root."""

    trace_id: int
    span_id: int
    parent_span_id: int
    sampled: bool
    trace_state: str

    @property
    def traceparent(self) -> str | None:
        """The span as a W3C `traceparent`; None where there is no tracing."""
        if not self.trace_id:
            return None
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{'01' if self.sampled else '00'}"


@dataclass(slots=True, eq=False)
class Attempt:
    """One HTTP request: many items share it. Filled in when the answer is judged.

    `verdict` is the verdict's name; `error` is `timeout`, `connection` or None. `events` is the
    number of events in the request and `linked` the sampled ones' span identities. `repeats` counts
    the events in it that TikTok may have taken before, by why that is not known. `alert` says that
    somebody has to look at the answer. `sent_as`: what of it was mapped anew for the next attempt,
    under a stricter consent, as it is in this one.
    """

    number: int
    destination: Destination
    test_event_code: str | None
    trace: TraceIds
    started: Instant
    events: int
    request_bytes: int
    linked: Sequence[TraceIds] = ()
    ended: Instant | None = None
    http_status: int | None = None
    code: int | None = None
    request_id: str | None = None
    verdict: str | None = None
    error: str | None = None
    alert: bool = False
    repeats: Mapping[str, int] = dataclass_field(default_factory=dict)
    sent_as: dict[Item, Mapped] = dataclass_field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Item:
    """A record on its way, with what each station found. Exactly one outcome ends it.

    `event_id`, `event` and `event_source_id` are known once the value is decoded; `event` is the
    name as sent once it is mapped. `attempts` keeps at most the latest `ATTEMPTS_KEPT`;
    `attempt_count` counts all. `first_unknown_ms` is the time of the first attempt whose outcome
    is unknown (wall clock, milliseconds) and `unknown_cause` why it is; `replay_count` how often it
    was replayed. `origin` is the source record's place where the record itself came by the retry
    topic; `announced` says that the state topic knows of its attempts. `accepted_ms` is when
    TikTok accepted its key (wall clock, milliseconds): from it, or before it.
    """

    record: Record
    received: Instant
    trace: TraceIds
    owner: Partition
    event_id: str | None = None
    event: str | None = None
    event_source_id: str | None = None
    mapped: Mapped | None = None
    key: bytes = b""
    decoded_ns: int = 0
    deduplicated_ns: int = 0
    batched: Instant | None = None
    attempts: tuple[Attempt, ...] = ()
    attempt_count: int = 0
    first_unknown_ms: int | None = None
    unknown_cause: str | None = None
    replay_count: int = 0
    origin: Origin | None = None
    announced: bool = False
    waiters: list[Item] | None = None
    outcome: Outcome | None = None
    reason: Reason | None = None
    detail: str | None = None
    field: str | None = None
    consent: Consent | None = None
    accepted_ms: int | None = None
    settled: Instant | None = None

    @property
    def is_pending(self) -> bool:
        """Whether its record still has to end: not parked, not done with, not another owner's."""
        return self.owner.active and self.owner.pending.get(self.record.offset) is self

    @property
    def first_source(self) -> Record | Origin:
        """Where the event was read first: not the retry topic, unless nothing else is known."""
        return self.record if self.origin is None else self.origin

    @property
    def tiktok_code(self) -> int | None:
        """The code of TikTok's last answer."""
        return self.attempts[-1].code if self.attempts else None

    @property
    def request_id(self) -> str | None:
        """The request id of TikTok's last answer."""
        return self.attempts[-1].request_id if self.attempts else None

    @property
    def http_status(self) -> int | None:
        """The HTTP status of TikTok's last answer."""
        return self.attempts[-1].http_status if self.attempts else None

    def __repr__(self) -> str:
        """Coordinates and outcome; never the value."""
        r = self.record
        return f"<Item {r.topic}/{r.partition}@{r.offset} {self.outcome or 'in flight'}>"


ATTEMPTS_KEPT = 16
