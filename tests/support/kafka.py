"""A real Kafka for the tests, wherever one can be had.

`KAFKA_BOOTSTRAP_SERVERS` if set; else a container where Docker answers; else Apache Kafka (KRaft)
from Maven Central's jars with this machine's Java. A missing broker fails the run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol, cast

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    ElectionType,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, the stubs forget it
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from consumer.event import Headers, Record
from tests.support.kafka_local import VERSION, LocalKafka

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_IMAGE = "confluentinc/cp-kafka:8.1.0"
_START_TIMEOUT = 60.0
_TIMEOUT = 20.0


class Broker(Protocol):
    """A running broker, of whatever origin."""

    bootstrap_servers: str
    description: str

    def kill(self) -> None:
        """End it as SIGKILL does; its data stays."""

    def restart(self) -> None:
        """Start it again on the same port and data."""

    def stop(self) -> None:
        """End it for good."""


class RealKafka:
    """A real broker and what tests ask of it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})

    def __repr__(self) -> str:
        return f"<RealKafka {self.description}>"

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`."""
        return self._broker.bootstrap_servers

    @property
    def description(self) -> str:
        """Which broker this is, for the reader of a test run."""
        return self._broker.description

    def kill(self) -> None:
        """Kill the broker without warning; its data stays."""
        self._broker.kill()

    def restart(self) -> None:
        """Start the killed broker again on its data and port; returns when it answers."""
        self._broker.restart()
        _wait_until_it_answers(self.bootstrap_servers)

    def stop(self) -> None:
        """End the broker for good."""
        self._broker.stop()

    def create_topic(
        self,
        name: str,
        partitions: int = 4,
        config: Mapping[str, str] | None = None,
        replication: int = 1,
    ) -> str:
        """Create a topic and wait until it can be used; returns its name."""
        new = NewTopic(name, partitions, replication, config=dict(config or {}))
        self._admin.create_topics([new], operation_timeout=_TIMEOUT)[name].result(_TIMEOUT)
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            topic = self._admin.list_topics(timeout=_TIMEOUT).topics.get(name)
            found = list(topic.partitions.values()) if topic else []
            if len(found) == partitions and all(p.leader >= 0 for p in found):
                return name
            time.sleep(0.05)
        raise TimeoutError(f"{name} has no leaders after {_TIMEOUT} s")

    def delete_topic(self, name: str) -> None:
        """Delete a topic."""
        self._admin.delete_topics([name], operation_timeout=_TIMEOUT)[name].result(_TIMEOUT)

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Move the log start of partitions up, as retention does."""
        offsets = [TopicPartition(topic, p, o) for p, o in before.items()]
        for answer in self._admin.delete_records(offsets).values():
            answer.result(_TIMEOUT)

    def topic_config(self, name: str) -> dict[str, str]:
        """A topic's effective configuration."""
        resource = ConfigResource(ResourceType.TOPIC, name)
        entries = self._admin.describe_configs([resource])[resource].result(_TIMEOUT)
        return {key: entry.value for key, entry in entries.items() if entry.value is not None}

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 where it does not exist."""
        found = self._admin.list_topics(timeout=_TIMEOUT).topics.get(topic)
        return len(found.partitions) if found else 0

    def ends(self, topic: str) -> dict[int, int]:
        """The next offset of each partition; empty where the topic does not exist."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the stubs forget it
        asked = {TopicPartition(topic, p): latest for p in range(self.partitions(topic))}
        answers = self._admin.list_offsets(asked) if asked else {}
        return {tp.partition: answer.result(_TIMEOUT).offset for tp, answer in answers.items()}

    @property
    def nodes(self) -> int:
        """How many brokers are up, as one of them says."""
        return len(self._admin.list_topics(timeout=_TIMEOUT).brokers)

    def leaders(self, topic: str) -> dict[int, int]:
        """The node that leads each partition; -1 where none does."""
        found = self._admin.list_topics(topic, timeout=_TIMEOUT).topics[topic].partitions
        return {number: partition.leader for number, partition in found.items()}

    def elect_preferred_leaders(self) -> None:
        """Gives each partition back to the node that is its first choice."""
        self._admin.elect_leaders(ElectionType.PREFERRED).result(_TIMEOUT)

    def set_group_config(self, group: str, **config: str) -> None:
        """Changes a group's own settings on the broker (dots as underscores)."""
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
        self._admin.incremental_alter_configs([resource])[resource].result(_TIMEOUT)

    def produce(self, topic: str, records: Iterable[Record]) -> None:
        """Write records to the partitions they name; their offsets are ignored."""
        writer = self.writer()
        writer.write(topic, records)
        writer.flush()

    def writer(self) -> Writer:
        """For writing again and again, by one producer."""
        return Writer(self.bootstrap_servers)

    def read_all(self, topic: str) -> list[Record]:
        """Every record of a topic, by partition and offset."""
        consumer = self._consumer(f"reads-all-{uuid.uuid4()}")
        try:
            ends = {
                p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=_TIMEOUT)
                for p in range(self.partitions(topic))
            }
            consumer.assign([TopicPartition(topic, p, low) for p, (low, _) in ends.items()])
            missing = {p for p, (low, high) in ends.items() if high > low}
            records: list[Record] = []
            deadline = time.monotonic() + _TIMEOUT
            while missing:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{topic}: partitions {missing} were not read to the end")
                records += [_record(m) for m in consumer.consume(1000, 0.2)]
                # By position and not by count: markers of transactions take offsets too.
                reached = consumer.position([TopicPartition(topic, p) for p in missing])
                missing = {r.partition for r in reached if r.offset < ends[r.partition][1]}
        finally:
            consumer.close()
        return sorted(records, key=lambda r: (r.partition, r.offset))

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """Offset and metadata the group has committed, by partition; the others are absent."""
        consumer = self._consumer(group)
        try:
            asked = [TopicPartition(topic, p) for p in range(self.partitions(topic))]
            answers = consumer.committed(asked, timeout=_TIMEOUT)
        finally:
            consumer.close()
        return {a.partition: (a.offset, a.metadata or "") for a in answers if a.offset >= 0}

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Set a group's offsets, as an operator does while it has no member."""
        wanted = [TopicPartition(topic, p, offset) for p, offset in offsets.items()]
        asked = ConsumerGroupTopicPartitions(group, wanted)
        answers = self._admin.alter_consumer_group_offsets([asked])[group].result(_TIMEOUT)
        refused = [tp.error for tp in answers.topic_partitions if tp.error is not None]
        if refused:
            raise RuntimeError(f"{group}: offsets not set: {refused[0]}")

    def _consumer(self, group: str) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "log_level": 0,
            }
        )


class Writer:
    """Writes records in their order, each partition's as they come."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "linger.ms": 5,
                # A retry must not change the order: tests know records by their offsets.
                "enable.idempotence": True,
                "log_level": 0,
            }
        )
        self._failed: list[str] = []

    def write(self, topic: str, records: Iterable[Record]) -> None:
        """Hand records over, to the partitions they name; the topics they name are ignored."""
        producer, on_delivery = self._producer, self._acknowledged
        for record in records:
            while True:
                try:
                    producer.produce(
                        topic,
                        record.value,
                        record.key,
                        partition=record.partition,
                        timestamp=max(record.timestamp, 0),
                        headers=list(record.headers),
                        on_delivery=on_delivery,
                    )
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
            producer.poll(0)

    def flush(self) -> None:
        """Return when the broker has everything.

        Raises:
            RuntimeError: it has not taken some of it.
        """
        unsent = self._producer.flush(_TIMEOUT)
        if unsent or self._failed:
            raise RuntimeError(f"{unsent} unsent, {len(self._failed)} refused: {self._failed[:1]}")

    def _acknowledged(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed.append(str(error))


def start() -> RealKafka:
    """Start or find a broker.

    Raises:
        RuntimeError: There is none to be had; the text says what is missing.
    """
    broker: Broker
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        broker = _Given(servers)
    elif _docker_answers():
        broker = _Container()
    else:
        broker = LocalKafka()
    return wait_for(broker)


def wait_for(broker: Broker) -> RealKafka:
    """A broker that has been started, as soon as it answers; one that does not is ended."""
    try:
        _wait_until_it_answers(broker.bootstrap_servers)
    except TimeoutError:
        broker.stop()
        raise
    return RealKafka(broker)


def choice() -> str:
    """Which broker `start` is going to use."""
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return f"given, {servers}"
    if _docker_answers():
        return f"container {_IMAGE}"
    return f"Apache Kafka {VERSION} (KRaft) from Maven Central"


class _Given:
    def __init__(self, servers: str) -> None:
        self.bootstrap_servers = servers
        self.description = f"given Kafka at {servers}"

    def kill(self) -> None:
        raise RuntimeError("a broker that was given is not ours to kill: unset the variable")

    def restart(self) -> None:
        raise RuntimeError("a broker that was given is not ours to restart: unset the variable")

    def stop(self) -> None:
        """Leave it running: it is not ours."""


class _Container:
    def __init__(self) -> None:
        from testcontainers.kafka import KafkaContainer  # noqa: PLC0415  slow, and rarely needed

        self._container = KafkaContainer(_IMAGE).with_kraft()
        self._container.start()
        self.bootstrap_servers: str = self._container.get_bootstrap_server()
        self.description = f"{_IMAGE} in Docker at {self.bootstrap_servers}"

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def restart(self) -> None:
        self._container.get_wrapped_container().start()

    def stop(self) -> None:
        self._container.stop()


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)
    return asked.returncode == 0


def _wait_until_it_answers(servers: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
            if admin.list_topics(timeout=2).brokers:
                return
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no Kafka at {servers} after {_START_TIMEOUT} s") from error


def _record(message: Any) -> Record:
    if (error := message.error()) is not None:
        raise RuntimeError(f"reading failed: {error}")
    headers = cast("Headers", tuple(message.headers() or ()))
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        headers,
    )
