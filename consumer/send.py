"""Produces one event to a source topic, as a producer of the shop would.

The value is in the configured encoding. In Confluent's, the schema of the topic's subject is used
where it can carry the event, so that nothing in the registry changes; ours is registered only for
a subject that has no schema yet, or when it is asked for: a new version of a subject that belongs
to producers is theirs to make.

The key is the event_id, and chooses the partition as Kafka's Java clients do. Copies of an event
have to reach one partition to be known as copies.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from confluent_kafka import KafkaException, Producer

from consumer import compose, encode
from consumer.app import registry_of
from consumer.errors import InputError, SendError
from consumer.evolution import UnusableSchema, parse
from consumer.kafka_errors import refused_properties
from consumer.kafka_properties import producer_properties
from consumer.messages import Produce, RegistryUnavailable, SchemaFound
from consumer.produce_errors import failed
from consumer.schemas import load_schema
from consumer.topic_admin import TopicAdmin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import KafkaError, Message

    from consumer.config import Config
    from consumer.decode import Decoder
    from consumer.registry import Registry

_BROKER_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.2
_REGISTER: Final = "register the event schema there with --register"


class Sent(NamedTuple):
    """Where an event was written, acknowledged by all replicas in sync.

    `schema_id` is the registry's id of its schema, None without a registry; `registered` tells
    that the schema was added for it.
    """

    topic: str
    partition: int
    offset: int
    schema_id: int | None
    registered: bool


class _Encoded(NamedTuple):
    value: bytes
    schema_id: int | None = None
    registered: bool = False


def send(
    config: Config,
    environ: Mapping[str, str],
    event: dict[str, Any],
    *,
    topic: str | None,
    register: bool,
) -> Sent:
    """Produces an event and waits for the broker's acknowledgement. Blocks.

    Args:
        config: the configuration.
        environ: the environment, for the registry's secrets.
        event: a complete event, as decoded.
        topic: the source topic; None takes the only one.
        register: add our schema to the topic's subject where the one there cannot carry the event.

    Raises:
        InputError: the topic is no source topic, or one has to be chosen.
        SendError: the event was not produced, or nobody knows.
        StartError: the broker does not answer.
        SecretError: the registry's password or token cannot be read.
    """
    properties = {
        **config.kafka.properties,
        "bootstrap.servers": config.kafka.bootstrap_servers,
    }
    there = TopicAdmin(properties, _BROKER_SECONDS, set()).look().topics
    chosen = source_topic(topic, config.kafka.topics, there)
    encoded = asyncio.run(_encoded(config, environ, event, chosen, register=register))
    record = Produce(0, chosen, event["event_id"].encode(), encoded.value, (), -1)
    partition, offset = _produce(record, properties)
    return Sent(chosen, partition, offset, encoded.schema_id, encoded.registered)


def source_topic(asked: str | None, configured: Iterable[str], there: Iterable[str]) -> str:
    """The topic to produce to: one that the consumer reads, and that is there.

    A topic that is not there is never asked for: many brokers would create it.

    Raises:
        InputError: it is none of those, or several are and none was asked for.
        SendError: the topic is not there.
    """
    existing, listed = set(there), list(configured)
    sources = {name for name in listed if not name.startswith("^")}
    patterns = [name for name in listed if name.startswith("^")]
    sources |= {name for name in existing if any(re.search(p, name) for p in patterns)}
    if asked is None and len(sources) != 1:
        names = ", ".join(sorted(sources) or listed)
        raise InputError("--topic", f"choose the source topic: {names}")
    chosen = asked if asked is not None else next(iter(sources))
    if chosen not in sources:
        names = ", ".join(listed)
        raise InputError("--topic", f"{chosen} is not read by this configuration ({names})")
    if chosen not in existing:
        raise SendError(f"topic {chosen} is not there", "create it, or correct kafka.topics")
    return chosen


async def _encoded(
    config: Config, environ: Mapping[str, str], event: dict[str, Any], topic: str, *, register: bool
) -> _Encoded:
    decoder = compose.decoder(config)
    ours = load_schema("conversion_event")
    try:
        if config.schema_.encoding == "raw":
            schema = next(iter(compose.writer_schemas(config)), ours)
            return _Encoded(encode.raw(event, schema, decoder))
        if config.schema_.encoding == "single_object":
            return _Encoded(encode.single_object(event, ours, decoder))
    except encode.Unencodable as error:
        raise SendError(
            f"the schema cannot carry this event: {error.detail}", "change it"
        ) from None
    registry = registry_of(config.schema_, environ)
    try:
        return await _confluent(registry, event, f"{topic}-value", decoder, register=register)
    finally:
        await registry.close()


async def _confluent(
    registry: Registry, event: dict[str, Any], subject: str, decoder: Decoder, *, register: bool
) -> _Encoded:
    found = await registry.latest(subject)
    if isinstance(found, RegistryUnavailable):
        raise SendError(f"the schema registry: {found.detail}", "nothing was produced")
    if found is not None:
        try:
            value = await _by_schema(registry, event, found, decoder)
        except encode.Unencodable as error:
            if not register:
                raise SendError(
                    f"the schema of {subject} cannot carry this event: {error.detail}", _REGISTER
                ) from None
        else:
            return _Encoded(value, found)
    ours = load_schema("conversion_event")
    added = await registry.register(subject, json.dumps(ours))
    if isinstance(added, RegistryUnavailable):
        raise SendError(
            f"the event schema was not registered as {subject}: {added.detail}",
            "let this user register schemas, or have it registered by somebody who may",
        )
    decoder.learn(added, [json.dumps(ours)])
    return _Encoded(encode.confluent(event, added, [ours], decoder), added, registered=True)


async def _by_schema(
    registry: Registry, event: dict[str, Any], schema_id: int, decoder: Decoder
) -> bytes:
    """The event by a schema of the registry's.

    Raises:
        Unencodable: it cannot be read as our events, or not carry this one.
        SendError: the registry does not tell it.
    """
    answer = await registry.fetch(schema_id)
    if isinstance(answer, RegistryUnavailable):
        raise SendError(f"the schema registry: {answer.detail}", "nothing was produced")
    if not isinstance(answer, SchemaFound):
        raise encode.Unencodable("it is no Avro schema")
    try:
        decoder.learn(schema_id, answer.schemas)
        schemas = [parse(text) for text in answer.schemas]
    except UnusableSchema as error:
        raise encode.Unencodable(error.detail) from None
    return encode.confluent(event, schema_id, schemas, decoder)


def _produce(record: Produce, properties: Mapping[str, str]) -> tuple[int, int]:
    """Partition and offset of the record, once the broker has it."""
    reports: list[tuple[KafkaError | None, Message]] = []
    complete = {
        "partitioner": "murmur2_random",
        **producer_properties(properties),
        "logger": logging.getLogger("consumer.kafka"),
    }
    try:
        producer = Producer(complete)
    except (KafkaException, ValueError, TypeError) as error:
        raise refused_properties(error) from None
    try:
        producer.produce(
            record.topic,
            record.value,
            record.key,
            on_delivery=lambda error, message: reports.append((error, message)),
        )
        while not reports:  # librdkafka's delivery time-out ends it
            producer.poll(_POLL_SECONDS)
    except KafkaException as error:
        raise _not_produced(record, error.args[0]) from None
    refusal, message = reports[0]
    if refusal is not None:
        raise _not_produced(record, refusal)
    return message.partition() or 0, message.offset() or 0


def _not_produced(record: Produce, error: KafkaError) -> SendError:
    detail = failed(record, error.name(), None).detail or error.name()
    return SendError(detail, "the event was not acknowledged")
