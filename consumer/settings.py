"""The settings: one typed, frozen tree, each key with its meaning, unit and default.

The classes are the sections of the configuration file and the source of its JSON Schema; the text
below a key is its description there. Durations are seconds (`float`) here and `10s` in the file,
sizes are bytes (`int`) here and `1MiB` there. Rules about several keys stand in
`consumer.combinations`; reading the file and the environment, in `consumer.config`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, model_validator

from consumer.event import EventSource
from consumer.kafka_properties import uses_broker_assignment
from consumer.lease import lease_seconds
from consumer.own_topics import OwnTopics
from consumer.secret import MASK, SecretSource, is_secret_property
from consumer.settingtypes import (
    BatchCount,
    Count,
    Duration,
    Flag,
    Names,
    OptionalCountry,
    OptionalName,
    OptionalPath,
    OptionalText,
    Paths,
    Port,
    Properties,
    Rate,
    Ratio,
    Regions,
    Size,
    Start,
    Text,
    Texts,
    Topics,
    Url,
    duration,
    size,
)

DEFAULT_SESSION_TIMEOUT: Final = 45.0
"""Seconds: librdkafka's default of `session.timeout.ms`."""

DEFAULT_MAX_POLL_INTERVAL: Final = 300.0
"""Seconds: librdkafka's default of `max.poll.interval.ms`."""


class Section(BaseModel):
    """A section of the file: frozen, unknown keys refused, all default when it is empty."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        validate_by_name=False,
        validate_by_alias=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_if_empty(cls, value: Any) -> Any:
        return {} if value is None else value


class KafkaSettings(Section):
    """Where events are read from and dead letters are written to."""

    bootstrap_servers: Text = "localhost:9092"
    """Brokers to ask first: `host:port`, several with commas."""
    group_id: Text = "tiktok-events"
    """Consumer group; also part of the names of this program's own topics, which take letters,
    digits, dot, dash and underscore."""
    topics: Topics = ("conversions",)
    """Source topics; one that begins with `^` is a regular expression."""
    start: Start = "earliest"
    """Where to begin when the group has no position yet: `earliest`, `latest`, or an RFC 3339
    time."""
    create_topics: Flag = True
    """Create this program's own topics when they are missing; `false`: refuse to start and say
    the command that creates them."""
    commit_interval: Duration = duration("1s")
    """How often settled offsets are committed. A commit also proves membership of the group, and
    requests are sent only for a while after such a proof."""
    properties: Properties = Field(default_factory=dict)
    """librdkafka properties passed on as they are: `security.protocol`, `sasl.*`, `ssl.*`,
    `group.protocol`, ... Those that would break a promise are refused."""

    @field_serializer("properties")
    def _mask(self, properties: Mapping[str, str]) -> dict[str, str]:
        return {
            name: MASK if is_secret_property(name) else value for name, value in properties.items()
        }

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """The fields, with the secrets among the properties masked."""
        shown = {**dict(self), "properties": self._mask(self.properties)}
        return list(shown.items())

    @property
    def consumer_protocol(self) -> bool:
        """Whether the group uses the protocol of KIP-848 (`group.protocol: consumer`)."""
        return uses_broker_assignment(self.properties)

    @property
    def session_timeout(self) -> float | None:
        """Seconds without a heartbeat until the broker takes a member for dead.

        None under KIP-848, where it is the group's own setting and the broker has to be asked.
        """
        if self.consumer_protocol:
            return None
        return self._milliseconds("session.timeout.ms", DEFAULT_SESSION_TIMEOUT)

    @property
    def max_poll_interval(self) -> float:
        """Seconds a member may take between polls, and so for handing over in a rebalance."""
        return self._milliseconds("max.poll.interval.ms", DEFAULT_MAX_POLL_INTERVAL)

    def _milliseconds(self, name: str, default: float) -> float:
        value = self.properties.get(name, "")
        return int(value) / 1000 if re.fullmatch(r"[0-9]+", value) else default


class RegistryAuth(Section):
    """How to sign in at the schema registry: user name and password, or a bearer token."""

    username: Text | None = None
    """User name for HTTP Basic authentication."""
    password: SecretSource | None = None
    """Password for HTTP Basic authentication: `{env: NAME}` or `{file: PATH}`."""
    token: SecretSource | None = None
    """Bearer token: `{env: NAME}` or `{file: PATH}`."""


class SchemaSettings(Section):
    """How the bytes of a record are read."""

    encoding: Literal["confluent", "single_object", "raw"] = "confluent"
    """`confluent`: wire format with the id of a registered schema. `single_object`: Avro
    single-object encoding. `raw`: Avro without a header, written with `file`'s schema."""
    registry_url: Url = "http://localhost:8081"
    """Schema registry (Confluent-compatible API); several for fail-over with commas."""
    registry_auth: RegistryAuth | None = None
    """How to sign in there; null for an open registry."""
    registry_ca: OptionalPath = None
    """PEM file with the authorities to trust for the registry; null: the system's."""
    registry_timeout: Duration = duration("10s")
    """How long one request to the registry may take."""
    unknown_after: Duration = duration("5m")
    """For how long the registry must say that a schema id does not exist before its records are
    dead-lettered as `schema_unknown`: a schema may be on its way."""
    file: OptionalPath = None
    """`raw` only: Avro schema the records were written with; null: this program's own."""
    files: Paths = ()
    """`single_object` only: further Avro schemas that writers use, beside this program's own."""


class DestinationSettings(Section):
    """A pixel, app or event set that events go to."""

    event_source_id: Text
    """Pixel code (web), TikTok app id (app) or event set id (offline, crm). Put digits in
    quotes."""
    event_source: EventSource = EventSource.WEB
    """TikTok's name for where the events come from, which says what an event holds: `web`, `app`,
    `offline` or `crm`."""
    access_token: SecretSource
    """Events API access token, by its place: `{env: NAME}` or `{file: PATH}`."""
    test_event_code: OptionalText = None
    """Marks every request as a test, visible in TikTok Events Manager; null for real events."""
    event_names: Names = Field(default_factory=dict)
    """Event names to send instead, over the defaults for GA4 names: `{purchase: Purchase}`."""
    allow_events: Texts = ()
    """Event names that may go; the others are suppressed as `filter`. Empty: all. Names are those
    that are sent; `purchase` stands for what it is mapped to."""
    max_age: Duration | None = None
    """Over `events.max_age` for this destination; null: as there."""


class TikTokSettings(Section):
    """TikTok's Events API."""

    endpoint: Url = "https://business-api.tiktok.com/open_api/v1.3/event/track/"
    """Where events are posted. TikTok requires the trailing slash."""
    timeout: Duration = duration("10s")
    """How long one request may take until its outcome counts as unknown."""


class BatchingSettings(Section):
    """When a batch is closed: by the first of these."""

    max_events: BatchCount = 1000
    """Events in a request; TikTok refuses more than 1,000."""
    max_bytes: Size = size("1MiB")
    """Bytes of a request's events; an event larger than this alone is `too_large`."""
    linger: Duration = duration("250ms")
    """How long the first event of a batch waits for more."""


class LimitSettings(Section):
    """Bounds. At a limit the source is paused; nothing is dropped."""

    requests_per_second: Rate = 50.0
    """Ceiling of requests per second to one destination, shared among the members of the group by
    the partitions they own. Below it, what TikTok takes is learned."""
    max_concurrency: Count = 32
    """Requests in the air to one destination at most; fewer while it throttles, fails or is
    slow."""
    max_in_flight_events: Count = 20000
    """Events read and not settled yet."""
    max_in_flight_bytes: Size = size("64MiB")
    """Bytes of the records read and not settled yet."""


class RetrySettings(Section):
    """Repeating what may succeed later: exponential back-off with full jitter."""

    initial: Duration = duration("500ms")
    """Upper bound of the first wait; each further one doubles it."""
    max: Duration = duration("60s")
    """Upper bound of any wait."""
    give_up_after: Duration = duration("24h")
    """From an event's first attempt with an unknown outcome to its dead letter
    (`retries_exhausted`). Below `dedup.window`: inside TikTok's own window a repeat is harmless."""


class DedupSettings(Section):
    """Which events were accepted already."""

    window: Duration = duration("48h")
    """How long an accepted event is remembered. TikTok's own window is 48 hours."""
    directory: Path = Field(default=Path("state"), json_schema_extra={"default": "./state"})
    """Directory of the local store, relative to the working directory; one folder a partition. It
    is a copy of the state topic: without it a start takes longer, and nothing is forgotten."""
    state_topic: OptionalName = None
    """Topic that remembers the accepted events, partition by partition, for whoever takes one
    over; null: `<group>.<topic>.dedup`. To be set only with one source topic, and for one group."""
    rekey: Flag = False
    """Route records by their deduplication key first, for topics that are keyed otherwise."""
    on_rewind: Literal["suppress", "resend"] = "suppress"
    """What becomes of records that got their outcome longer ago than the window and are read again
    because somebody reset the group's offsets. `suppress`: they are not sent (`rewound`).
    `resend`: they are sent again, and count again at TikTok."""


class EventSettings(Section):
    """Which events may go."""

    max_age: Duration = duration("7d")
    """Older events are dead-lettered as `too_old`."""
    max_future: Duration = duration("10m")
    """Events further ahead of the clock are dead-lettered as `in_future`."""
    newer_names: Flag = False
    """Map `purchase` to `Purchase` and `generate_lead` to `Lead` instead of the older
    `CompletePayment` and `SubmitForm`. It must be the name the pixel sends. App events always have
    TikTok's app names (`Purchase`, `GenerateLead`)."""


class IdentitySettings(Section):
    """How identifiers are normalised before they are hashed."""

    default_phone_region: OptionalCountry = None
    """ISO 3166-1 country for phone numbers without a country code; null: those are left out."""
    lowercase_external_id: Flag = False
    """Lower-case external ids; they must equal what the pixel sends."""


class ConsentSettings(Section):
    """What a person's answers allow."""

    missing: Literal["denied", "granted"] = "denied"
    """How an event without a consent record, or with `UNKNOWN`, is read."""
    on_marketing_denied: Literal["suppress", "strip"] = "suppress"
    """`suppress`: the event is not sent. `strip`: it goes without the person's identifiers."""
    on_ad_user_data_denied: Literal["strip", "suppress"] = "strip"
    """`strip`: the event goes without email, phone, external id, names and zip. `suppress`: it is
    not sent."""
    forward_signals: Flag = True
    """Send the known states as custom properties `ad_user_data` and `ad_personalization`."""
    limited_data_use_regions: Regions = ()
    """ISO 3166-1 or -2 regions where a denied `ad_personalization` sets `limited_data_use`; `US`
    covers `US-CA`."""


class DeadLetterSettings(Section):
    """Where records go that cannot be delivered."""

    topic: OptionalName = None
    """Dead-letter topic for all source topics; null: `<topic>.dlq` for each."""
    max_ratio: Ratio | None = None
    """Share of dead letters above which to stop; null: never stop."""


class ReceiptSettings(Section):
    """A record of each outcome, for analysis and for proof of consent."""

    topic: OptionalName = None
    """Topic of the receipts of all source topics, in the source's encoding; null: none are
    written."""


class AdminSettings(Section):
    """Health, metrics and status over HTTP."""

    host: Text = "127.0.0.1"
    """Address to listen on; `0.0.0.0` opens it to the network."""
    port: Port = 8080
    """Port to listen on; 0 takes a free one."""
    token: SecretSource | None = None
    """Token that requests which change something must carry, by its place."""


class Config(Section):
    """The whole configuration of tiktok-events."""

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    """Where events are read from and dead letters are written to."""
    schema_: SchemaSettings = Field(default_factory=SchemaSettings, alias="schema")
    """How the bytes of a record are read."""
    destinations: tuple[DestinationSettings, ...] = Field(min_length=1)
    """Pixels, apps and event sets that events go to."""
    default_destination: OptionalText = None
    """`event_source_id` for events that name none; null: those are dead-lettered as
    `unknown_destination` unless there is only one that fits."""
    tiktok: TikTokSettings = Field(default_factory=TikTokSettings)
    """TikTok's Events API."""
    batching: BatchingSettings = Field(default_factory=BatchingSettings)
    """When a batch is closed."""
    limits: LimitSettings = Field(default_factory=LimitSettings)
    """Bounds; at a limit the source is paused."""
    retry: RetrySettings = Field(default_factory=RetrySettings)
    """Repeating what may succeed later."""
    dedup: DedupSettings = Field(default_factory=DedupSettings)
    """Which events were accepted already."""
    retry_topic: OptionalName = None
    """Topic of events that wait for a destination which is held or throttled for long, so that
    others go on; null: `<group>.<topic>.retry`. To be set only with one source topic."""
    events: EventSettings = Field(default_factory=EventSettings)
    """Which events may go."""
    identity: IdentitySettings = Field(default_factory=IdentitySettings)
    """How identifiers are normalised before they are hashed."""
    consent: ConsentSettings = Field(default_factory=ConsentSettings)
    """What a person's answers allow."""
    dead_letter: DeadLetterSettings = Field(default_factory=DeadLetterSettings)
    """Where records go that cannot be delivered."""
    receipts: ReceiptSettings = Field(default_factory=ReceiptSettings)
    """A record of each outcome, for analysis and for proof of consent."""
    admin: AdminSettings = Field(default_factory=AdminSettings)
    """Health, metrics and status over HTTP."""
    workers: Count = 1
    """Processes that share the work as members of the group."""
    shutdown_timeout: Duration = duration("25s")
    """How long a stop (SIGTERM, SIGINT) or a hand-over may take to settle what is in flight."""

    def lease(self, session_timeout: float) -> float:
        """Seconds after a proof of group membership in which an attempt may still start.

        Not positive: no lease is left. See `consumer.lease`.
        """
        return lease_seconds(session_timeout, self.tiktok.timeout)

    def own_topics(self) -> OwnTopics:
        """The names of this program's own topics."""
        return OwnTopics(
            self.kafka.group_id,
            self.dedup.state_topic,
            self.retry_topic,
            self.dead_letter.topic,
            self.receipts.topic,
        )

    @property
    def longest_max_age(self) -> float:
        """Seconds after which no event goes any more, whatever its destination."""
        return max(self.events.max_age, *(d.max_age or 0.0 for d in self.destinations))

    def masked(self) -> dict[str, Any]:
        """The effective configuration as it would stand in a file, passwords masked.

        Secrets named by their place show the place; durations and sizes carry their units.
        """
        shown: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        return shown
