"""The mock cluster with faults to order, as a group's member and its tests see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Consumer, Producer, TopicPartition

if TYPE_CHECKING:
    from tests.support.faulty_broker import FaultyBroker

_TIMEOUT = 15.0


class FaultyCluster:
    """What is asked of it beside the faults; those are ordered of the `broker` itself."""

    session_timeout_ms = "4500"

    def __init__(self, broker: FaultyBroker, protocol: str = "consumer") -> None:
        self.broker = broker
        self.bootstrap_servers = broker.bootstrap_servers
        self.protocol = protocol

    def produce(self, topic: str, partition: int, values: list[bytes]) -> None:
        """Write records to a partition."""
        producer = Producer({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        for value in values:
            producer.produce(topic, value, partition=partition)
        if producer.flush(_TIMEOUT):
            raise TimeoutError(f"{topic}/{partition} did not take the records")

    def committed(self, group: str, tp: TopicPartition) -> int | None:
        """The offset that the group has committed for a partition."""
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap_servers, "group.id": group, "log_level": 0}
        )
        try:
            (found,) = consumer.committed([tp], timeout=_TIMEOUT)
        finally:
            consumer.close()
        return found.offset if found.offset >= 0 else None
