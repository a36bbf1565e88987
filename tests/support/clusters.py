"""The broker of the demo and a real Kafka, as one kind of thing that tests ask the same of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from consumer.sandbox.broker import EmbeddedBroker, NewRecord

if TYPE_CHECKING:
    from consumer.event import Record
    from tests.support.kafka import RealKafka

PARTITIONS = 4


class Cluster(Protocol):
    """What these tests ask of a broker."""

    bootstrap_servers: str
    session_timeout_ms: str
    protocol: str

    def create(self, topic: str) -> None:
        """Create a topic with `PARTITIONS` partitions."""

    def produce(self, topic: str, records: list[Record]) -> None:
        """Write records to the partitions they name."""

    def read_all(self, topic: str) -> list[Record]:
        """Every record of a topic, by partition and offset."""

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """Offset and metadata the group has committed, by partition."""


class Embedded:
    """The broker of the demo: librdkafka's mock cluster."""

    # The mock cluster waits three seconds before a classic group's first assignment, and the
    # session time-out less a second in each further rebalance; under KIP-848 it does not wait.
    session_timeout_ms = "4500"
    protocol = "consumer"

    def __init__(self, broker: EmbeddedBroker) -> None:
        self._broker = broker
        self.bootstrap_servers = broker.bootstrap_servers

    def create(self, topic: str) -> None:
        """Create a topic."""
        self._broker.read_all(topic)  # asking creates it

    def produce(self, topic: str, records: list[Record]) -> None:
        """Write records."""
        self._broker.produce(
            topic,
            [NewRecord(r.key, r.value, r.headers, r.timestamp, r.partition) for r in records],
        )

    def read_all(self, topic: str) -> list[Record]:
        """Read everything."""
        return self._broker.read_all(topic)

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """Ask for the group's offsets."""
        found = self._broker.committed(group, topic)
        return {p: (offset, metadata or "") for p, (offset, metadata) in found.items()}


class Real:
    """A real Kafka."""

    session_timeout_ms = "6000"
    protocol = "classic"

    def __init__(self, kafka: RealKafka) -> None:
        self._kafka = kafka
        self.bootstrap_servers = kafka.bootstrap_servers

    def create(self, topic: str) -> None:
        """Create a topic."""
        self._kafka.create_topic(topic, PARTITIONS)

    def produce(self, topic: str, records: list[Record]) -> None:
        """Write records."""
        self._kafka.produce(topic, records)

    def read_all(self, topic: str) -> list[Record]:
        """Read everything."""
        return self._kafka.read_all(topic)

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """Ask for the group's offsets."""
        return self._kafka.committed(group, topic)
