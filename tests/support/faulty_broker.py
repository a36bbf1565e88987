"""librdkafka's mock cluster with faults to order: refusals, late answers, brokers that go away.

The embedded broker of the demo is the same cluster without the orders, which Python's client does
not offer; they are given here by calls as C.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import TYPE_CHECKING, Self

from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.support.librdkafka import library, new_producer

if TYPE_CHECKING:
    from types import TracebackType

_EVERY_BROKER = -1
_TIMEOUT = 15.0


class Request(IntEnum):
    """Kafka's numbers of the requests that faults are ordered for."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    INIT_PRODUCER_ID = 22


class FaultyBroker:
    """A mock cluster; brokers are numbered from 1."""

    def __init__(self, brokers: int = 1) -> None:
        self._library = library()
        self._owner = new_producer(self._library, {"log_level": "0"})
        self._cluster = ctypes.c_void_p(
            self._library.rd_kafka_mock_cluster_new(self._owner, brokers)
        )
        found: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.bootstrap_servers = found.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._owner)

    def create(self, topic: str, partitions: int = 4) -> str:
        """Create a topic that every broker has a copy of; returns its name."""
        self._do("topic_create", topic.encode(), partitions, 1)
        return topic

    def values(self, topic: str, partition: int) -> list[bytes | None]:
        """The values of a partition, in the order of its log."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": "reads",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
        consumer.assign([TopicPartition(topic, partition, 0)])
        values: list[bytes | None] = []
        try:
            while True:
                message = consumer.poll(_TIMEOUT)
                if message is None:
                    raise TimeoutError(f"{topic}/{partition} was not read in {_TIMEOUT} s")
                if (error := message.error()) is None:
                    values.append(message.value())
                elif error.code() == KafkaError._PARTITION_EOF:
                    return values
        finally:
            consumer.close()

    def refuse(self, request: Request, *errors: int) -> None:
        """Answer the next requests of a kind with these errors, one each (`KafkaError` codes).

        `KafkaError._TRANSPORT` closes the connection instead.
        """
        codes = [ctypes.c_int(error) for error in errors]
        self._library.rd_kafka_mock_push_request_errors(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(codes)), *codes
        )

    def relent(self, request: Request) -> None:
        """Refuse requests of a kind no more."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, ctypes.c_int16(request))

    def answer_late(self, request: Request, milliseconds: int, broker: int = 1) -> None:
        """Do what the next request of a kind asks for, and answer it so much later."""
        delay = (ctypes.c_int(KafkaError.NO_ERROR), ctypes.c_int(milliseconds))
        self._do(
            "broker_push_request_error_rtts",
            broker,
            ctypes.c_int16(request),
            ctypes.c_size_t(1),
            *delay,
        )

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Make a broker the leader of a partition; -1 leaves it without one."""
        self._do("partition_set_leader", topic.encode(), partition, broker)

    def take_down(self, broker: int = _EVERY_BROKER) -> None:
        """Close the connections of a broker, or of all, and accept no others."""
        self._do("broker_set_down", broker)

    def bring_up(self, broker: int = _EVERY_BROKER) -> None:
        """Accept connections again."""
        self._do("broker_set_up", broker)

    def _do(self, order: str, *arguments: object) -> None:
        refused = getattr(self._library, f"rd_kafka_mock_{order}")(self._cluster, *arguments)
        if refused:
            raise RuntimeError(f"{order}: librdkafka's error {refused}")
