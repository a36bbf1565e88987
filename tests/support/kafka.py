"""A real Kafka for the tests, wherever one can be had.

`KAFKA_BOOTSTRAP_SERVERS` if set; else a container where Docker answers; else Apache Kafka (KRaft)
from Maven Central's jars with this machine's Java. A missing broker fails the run.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, the stubs forget it
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from consumer.event import Headers, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSION = "4.1.1"
_IMAGE = "confluentinc/cp-kafka:8.1.0"
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "kafka" / VERSION
_START_TIMEOUT = 60.0
_TIMEOUT = 20.0

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

_PROPERTIES = """process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.coordinator.rebalance.protocols=classic,consumer
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=500
log.retention.ms=-1
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=2
"""


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
        self, name: str, partitions: int = 4, config: Mapping[str, str] | None = None
    ) -> str:
        """Create a topic and wait until it can be used; returns its name."""
        new = NewTopic(name, partitions, 1, config=dict(config or {}))
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

    def produce(self, topic: str, records: Iterable[Record]) -> None:
        """Write records to the partitions they name; their offsets are ignored."""
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "linger.ms": 5,
                # A retry must not change the order: tests know records by their offsets.
                "enable.idempotence": True,
                "log_level": 0,
            }
        )
        failed: list[str] = []

        def acknowledged(error: object, _message: object) -> None:
            if error is not None:
                failed.append(str(error))

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
                        on_delivery=acknowledged,
                    )
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
            producer.poll(0)
        unsent = producer.flush(_TIMEOUT)
        if unsent or failed:
            raise RuntimeError(f"{topic}: {unsent} unsent, {len(failed)} refused: {failed[:1]}")

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
        broker = _Local()
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


class _Local:
    def __init__(self) -> None:
        jars = _jars()
        port, controller_port = _free_ports(2)
        self._directory = Path(tempfile.mkdtemp(prefix="kafka-for-tests-"))
        self._config = self._directory / "server.properties"
        self._config.write_text(
            _PROPERTIES.format(
                port=port, controller_port=controller_port, data=self._directory / "data"
            )
        )
        self._java = [
            "java", "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-cp", f"{jars}/*",
        ]  # fmt: skip
        self.bootstrap_servers = f"127.0.0.1:{port}"
        self.description = f"Apache Kafka {VERSION} (KRaft) from Maven Central on port {port}"
        storage = ["kafka.tools.StorageTool", "format", "--standalone", "-c", str(self._config)]
        subprocess.run(
            [*self._java, *storage, "-t", str(uuid.uuid4())],
            check=True,
            capture_output=True,
            timeout=_START_TIMEOUT,
        )
        self._process = self._run()

    def _run(self) -> subprocess.Popen[bytes]:
        with (self._directory / "kafka.log").open("ab") as log:
            return subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self._config)], stdout=log, stderr=log
            )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        self._process = self._run()

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)
    return asked.returncode == 0


def _jars() -> Path:
    """Kafka and what it depends on, from Maven's repository; fetched once."""
    jars = _CACHE / "jars"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may start at once
        if not jars.exists():
            (_CACHE / "pom.xml").write_text(_POM)
            fetched = _CACHE / "fetched"
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
            done = subprocess.run(
                ["mvn", "-q", "-B", *goal, "-DincludeScope=runtime"],
                cwd=_CACHE,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            if done.returncode:
                raise RuntimeError(f"Maven could not fetch Kafka {VERSION}:\n{done.stdout[-2000:]}")
            fetched.rename(jars)
    return jars


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


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
