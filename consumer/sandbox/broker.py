"""A Kafka broker inside this process, which other processes on this machine can join.

It is librdkafka's mock cluster: real sockets and Kafka's protocol, no Java. It serves produce
(idempotent too), fetch, consumer groups, commits with metadata and watermarks. It keeps everything
in memory and knows no topic administration: topics appear on first use with four partitions. A
partition holds 5 MiB; what does not fit pushes the oldest records out, which `produce` refuses to
leave unnoticed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Self, cast

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from consumer.event import Headers, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from confluent_kafka import KafkaError, Message

    _Acknowledged = Callable[[KafkaError | None, Message], None]

PARTITIONS = 4
"""Partitions of every topic of the mock cluster."""

PARTITION_BYTES = 5 * 1024 * 1024
"""What a partition holds, as stored: compressed record batches."""

_TIMEOUT = 15.0
_ANY_PARTITION = -1
_NOW = 0


class NewRecord(NamedTuple):
    """A record to produce.

    `timestamp` is in milliseconds, -1 for now. Without a `partition` the key chooses one, as with
    Kafka's Java clients (murmur2).
    """

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = -1
    partition: int | None = None


class BrokerError(Exception):
    """The embedded broker did not do what it was asked to; the text says what to change."""


class EmbeddedBroker:
    """The broker's life and the little that the demo and the tests ask of it from outside."""

    def __init__(self) -> None:
        self._producer: Producer | None = None
        self._bootstrap_servers = ""

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, for any Kafka client on this machine; empty before `start`."""
        return self._bootstrap_servers

    def start(self) -> None:
        """Starts the broker on a free port of the loopback interface.

        Raises:
            BrokerError: it does not answer.
        """
        # The cluster lives as long as the client that was created with this property.
        self._producer = Producer(
            {
                "test.mock.num.brokers": 1,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": 5,
                "log_level": 0,
            }
        )
        try:
            brokers = self._producer.list_topics(timeout=_TIMEOUT).brokers
        except KafkaException as error:
            raise BrokerError(f"the embedded broker does not answer: {error}") from error
        self._bootstrap_servers = ",".join(f"{b.host}:{b.port}" for b in brokers.values())

    def stop(self) -> None:
        """Ends the broker; whatever it held is gone. Stopping twice does no harm."""
        if self._producer is not None:
            self._producer.close()
        self._producer = None
        self._bootstrap_servers = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def produce(self, topic: str, records: Iterable[NewRecord]) -> int:
        """Writes records and waits until the broker has them all; returns how many.

        Raises:
            BrokerError: a record was refused, or a partition overflowed and has lost its oldest.
        """
        producer = self._running()
        failed: list[str] = []

        def acknowledged(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(str(error))

        count = 0
        for record in records:
            _enqueue(producer, topic, record, acknowledged)
            count += 1
        if producer.flush(_TIMEOUT):
            raise BrokerError("the embedded broker did not take all records in time")
        if failed:
            raise BrokerError(f"{len(failed)} records were refused, first: {failed[0]}")
        self._refuse_overflow(topic)
        return count

    def read_all(self, topic: str) -> list[Record]:
        """Every record of a topic, partition by partition in the order of the log.

        Raises:
            BrokerError: the records did not come in time.
        """
        consumer = self._consumer("reads-all")
        try:
            ends = self._watermarks(consumer, topic)
            missing = sum(high - low for low, high in ends.values())
            consumer.assign([TopicPartition(topic, p, low) for p, (low, _) in ends.items()])
            records: list[Record] = []
            deadline = time.monotonic() + _TIMEOUT
            while len(records) < missing:
                if time.monotonic() > deadline:
                    raise BrokerError(f"{topic}: {len(records)} of {missing} records came in time")
                records += map(_record, consumer.consume(1000, 0.2))
        finally:
            consumer.close()
        return sorted(
            (r for r in records if r.offset < ends[r.partition][1]),
            key=lambda r: (r.partition, r.offset),
        )

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str | None]]:
        """Offset and metadata that a group has committed, by partition; the others are absent."""
        consumer = self._consumer(group)
        try:
            asked = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
            return {
                answer.partition: (answer.offset, answer.metadata)
                for answer in consumer.committed(asked, timeout=_TIMEOUT)
                if answer.offset >= 0
            }
        finally:
            consumer.close()

    def _running(self) -> Producer:
        if self._producer is None:
            raise BrokerError("the embedded broker is not running: call start() first")
        return self._producer

    def _consumer(self, group: str) -> Consumer:
        self._running()
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap_servers,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "log_level": 0,
            }
        )

    def _watermarks(self, consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
        """First and next offset of each partition. Asking for a topic creates it."""
        self._running().list_topics(topic, timeout=_TIMEOUT)
        return {
            partition: consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=_TIMEOUT
            )
            for partition in range(PARTITIONS)
        }

    def _refuse_overflow(self, topic: str) -> None:
        consumer = self._consumer("watches-capacity")
        try:
            starts = {p: low for p, (low, _) in self._watermarks(consumer, topic).items()}
        finally:
            consumer.close()
        if any(starts.values()):
            lost = sum(starts.values())
            raise BrokerError(
                f"{topic}: {lost} records were pushed out, since a partition holds"
                f" {PARTITION_BYTES} bytes: produce fewer or smaller records"
            )


def _enqueue(
    producer: Producer, topic: str, record: NewRecord, acknowledged: _Acknowledged
) -> None:
    while True:
        try:
            producer.produce(
                topic,
                record.value,
                record.key,
                partition=_ANY_PARTITION if record.partition is None else record.partition,
                timestamp=max(record.timestamp, _NOW),
                headers=list(record.headers),
                on_delivery=acknowledged,
            )
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _record(message: Message) -> Record:
    if (error := message.error()) is not None:
        raise BrokerError(f"reading failed: {error}")
    _, timestamp = message.timestamp()
    # The client gives read headers as a list of name and bytes; its type covers produced ones too.
    headers = cast("list[tuple[str, bytes | None]] | None", message.headers())
    return Record(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        timestamp,
        message.key(),
        message.value(),
        tuple(headers or ()),
    )
