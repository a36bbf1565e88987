"""From configuration to the engine: every deciding object, built from plain values.

No I/O but reading the schema files that the configuration names.
"""

from __future__ import annotations

import itertools
import random
import secrets
from typing import TYPE_CHECKING, Any

import orjson

from consumer import __version__
from consumer.batch import ENVELOPE_BYTES, BatchLimits
from consumer.consent import ConsentRules, OnDenied
from consumer.deadletter import DeadLetters
from consumer.decode import Decoder, Encoding, UnusableSchema
from consumer.dedup import Keys
from consumer.deliver import Delivery
from consumer.encode import single_object_framing
from consumer.engine import Engine, EngineSettings
from consumer.errors import ConfigError, Problem
from consumer.event import ConsentState, Destination
from consumer.identity import IdentityRules
from consumer.intake import Intake
from consumer.lease import takeover_seconds
from consumer.limits import RetryPolicy
from consumer.memory import Memory
from consumer.names import allowed_names, default_event_names
from consumer.park_choice import ParkingSettings
from consumer.parking import Parking
from consumer.payload import Mapper
from consumer.queues import DeliverySettings
from consumer.receipt import Receipts
from consumer.route import Routes
from consumer.schema_wait import SchemaWaits
from consumer.schemas import load_schema
from consumer.settings import DEFAULT_SESSION_TIMEOUT
from consumer.settle import Settlement
from consumer.state_phases import StateRules
from consumer.state_records import MEMBER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from consumer.config import Config
    from consumer.event import Headers, TraceIds
    from consumer.settings import DestinationSettings


def destination(settings: DestinationSettings, config: Config) -> Destination:
    """A destination as the path needs it."""
    defaults = default_event_names(settings.event_source, newer=config.events.newer_names)
    names = {**defaults, **settings.event_names}
    max_age = config.events.max_age if settings.max_age is None else settings.max_age
    return Destination(
        settings.event_source,
        settings.event_source_id,
        settings.test_event_code,
        names,
        allowed_names(settings.allow_events, names),
        int(max_age * 1000),
    )


def destinations(config: Config) -> dict[Destination, DestinationSettings]:
    """All destinations, each with the settings it was made of."""
    return {destination(settings, config): settings for settings in config.destinations}


def dead_letters(config: Config) -> DeadLetters:
    """What makes dead letters, and names their topics."""
    return DeadLetters(_consumer(config), config.dead_letter.topic)


def receipts_of(config: Config) -> Receipts | None:
    """What makes receipts, in the source's encoding; None where none are written.

    In Confluent's, `registered` has to be told the schema's id before the first one.
    """
    if config.receipts.topic is None:
        return None
    schema = load_schema("delivery_receipt")
    single_object = Encoding(config.schema_.encoding) is Encoding.SINGLE_OBJECT
    framing = single_object_framing(schema) if single_object else b""
    return Receipts(config.receipts.topic, schema, _consumer(config), framing)


def _consumer(config: Config) -> str:
    return f"{config.kafka.group_id}/{__version__}"


def decoder(config: Config) -> Decoder:
    """The decoder of the source's encoding.

    Raises:
        ConfigError: a schema file cannot be read, or not as ours.
    """
    encoding = Encoding(config.schema_.encoding)
    try:
        return Decoder(encoding, load_schema("conversion_event"), writer_schemas(config))
    except UnusableSchema as error:
        keys = ", ".join(_writer_files(config))
        raise ConfigError((Problem(keys, error.detail),)) from None


def writer_schemas(config: Config) -> list[dict[str, Any]]:
    """The schemas that the configuration says writers use, in their files.

    Raises:
        ConfigError: a file cannot be read as a schema.
    """
    return [_schema_file(key, path) for key, path in _writer_files(config).items()]


def _writer_files(config: Config) -> dict[str, Path]:
    """The files with writers' schemas, by their key."""
    schema = config.schema_
    if schema.encoding == "raw" and schema.file is not None:
        return {"schema.file": schema.file}
    if schema.encoding == "single_object":
        return {f"schema.files[{n}]": path for n, path in enumerate(schema.files)}
    return {}


def _schema_file(key: str, path: Path) -> dict[str, Any]:
    try:
        schema = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ConfigError((Problem(key, f"{path} cannot be read as JSON: {error}"),)) from None
    if not isinstance(schema, dict):
        raise ConfigError((Problem(key, f"{path} holds no Avro record"),))
    return schema


def engine(
    config: Config,
    targets: dict[Destination, DestinationSettings],
    *,
    begin_trace: Callable[[Headers], TraceIds],
    request_trace: Callable[[bool], TraceIds],
    receipts: Receipts | None = None,
) -> Engine:
    """The engine of one process.

    Raises:
        ConfigError: a schema file cannot be used.
    """
    groups: dict[str, int] = {}
    rng = random.Random()  # noqa: S311  jitter, not a secret
    handles = itertools.count(1)
    values = decoder(config)
    session_timeout = config.kafka.session_timeout or DEFAULT_SESSION_TIMEOUT
    return Engine(
        EngineSettings(
            window=config.dedup.window,
            max_in_flight_events=config.limits.max_in_flight_events,
            max_in_flight_bytes=config.limits.max_in_flight_bytes,
            commit_interval=config.kafka.commit_interval,
            session_timeout=session_timeout,
            request_timeout=config.tiktok.timeout,
            static_member="group.instance.id" in config.kafka.properties,
            resend_rewound=config.dedup.on_rewind == "resend",
        ),
        intake=Intake(values, routes(config, targets), mapper(config), Keys()),
        schemas=SchemaWaits(values, config.schema_.unknown_after),
        delivery=Delivery(
            targets,
            DeliverySettings(
                BatchLimits(
                    config.batching.max_events,
                    config.batching.max_bytes,
                    config.batching.linger,
                ),
                RetryPolicy(config.retry.initial, config.retry.max, config.retry.give_up_after),
                config.limits.requests_per_second,
                config.limits.max_concurrency,
            ).sharing(config.limits.max_in_flight_events, len(targets)),
            # An app-level throttle concerns all destinations whose token comes from one place.
            token_group={
                d: groups.setdefault(settings.access_token.place, len(groups))
                for d, settings in targets.items()
            },
            draw=request_trace,
            rng=rng,
        ),
        settlement=Settlement(dead_letters(config), handles, receipts),
        memory=Memory(
            config.own_topics(),
            StateRules(
                window_ms=int(config.dedup.window * 1000),
                takeover_wait=takeover_seconds(
                    session_timeout,
                    config.tiktok.timeout,
                    static="group.instance.id" in config.kafka.properties,
                ),
            ),
            secrets.token_bytes(MEMBER_BYTES),
            handles,
        ),
        parking=Parking(
            ParkingSettings(
                config.limits.max_in_flight_events,
                config.limits.max_in_flight_bytes,
                tail_after=config.retry.max,
                oldest=config.longest_max_age,
            ),
            len(targets),
            handles,
        ),
        handles=handles,
        begin_trace=begin_trace,
        rng=rng,
    )


def routes(config: Config, targets: Iterable[Destination]) -> Routes:
    """How events find their destination among these."""
    return Routes(list(targets), config.default_destination)


def mapper(config: Config) -> Mapper:
    """What makes TikTok's form of an event, or says why it is not sent."""
    consent, identity = config.consent, config.identity
    missing = ConsentState.DENIED if consent.missing == "denied" else ConsentState.GRANTED
    return Mapper(
        consent=ConsentRules(
            missing=missing,
            on_marketing_denied=OnDenied(consent.on_marketing_denied),
            on_ad_user_data_denied=OnDenied(consent.on_ad_user_data_denied),
            forward_signals=consent.forward_signals,
            limited_data_use_regions=frozenset(consent.limited_data_use_regions),
        ),
        identity=IdentityRules(
            default_phone_region=identity.default_phone_region,
            lowercase_external_id=identity.lowercase_external_id,
        ),
        max_future_ms=int(config.events.max_future * 1000),
        max_body_bytes=config.batching.max_bytes - ENVELOPE_BYTES,
    )
