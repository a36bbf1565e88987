"""Apache Kafka (KRaft) as processes of this machine, from Maven Central's jars: one node or three.

Each node is broker and controller at once. Nodes can be killed and started again on their data.
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

VERSION = "4.1.1"
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "kafka" / VERSION
_START_TIMEOUT = 60.0

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
node.id={node_id}
listeners={listeners},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,FRONT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replication}
transaction.state.log.replication.factor={replication}
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor={replication}
share.coordinator.state.topic.min.isr=1
group.coordinator.rebalance.protocols=classic,consumer
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=500
log.retention.ms=-1
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=200
log.initial.task.delay.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=2
"""


class LocalKafka:
    """A cluster of this machine, begun when it is made; `kafka.start` wraps it for the tests.

    Args:
        nodes: how many; with three, offsets and transactions are kept three times.
        front_port: where something in front of the only node listens and forwards to `front`.
            Clients that come that way are told this address, and stay on it.
    """

    def __init__(self, nodes: int = 1, front_port: int | None = None) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="kafka-for-tests-"))
        self._java = [
            "java", "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-cp", f"{jars()}/*",
        ]  # fmt: skip
        ports = _free_ports(2 * nodes + 1)
        self._ports, controllers, (front,) = ports[:nodes], ports[nodes:-1], ports[-1:]
        self.front = front
        """The port to which the thing in front forwards."""
        voters = ",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(controllers, 1))
        self._configs = []
        for node_id, (port, controller) in enumerate(zip(self._ports, controllers, strict=True), 1):
            listeners = advertised = f"PLAINTEXT://127.0.0.1:{port}"
            if front_port is not None:
                listeners += f",FRONT://127.0.0.1:{front}"
                advertised += f",FRONT://127.0.0.1:{front_port}"
            config = self._directory / f"node-{node_id}.properties"
            config.write_text(
                _PROPERTIES.format(
                    node_id=node_id,
                    listeners=listeners,
                    advertised=advertised,
                    controller_port=controller,
                    voters=voters,
                    replication=min(nodes, 3),
                    data=self._directory / f"data-{node_id}",
                )
            )
            self._configs.append(config)
        self.bootstrap_servers = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        size = f"{nodes} nodes" if nodes > 1 else "one node"
        self.description = f"Apache Kafka {VERSION} (KRaft) from Maven Central, {size}"
        self._format()
        self._processes = [self._run(number) for number in range(nodes)]

    def kill(self) -> None:
        """Ends every node as SIGKILL does; the data stays."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def restart(self) -> None:
        """Starts every node that does not run, on its port and data."""
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                self._processes[number] = self._run(number)

    def kill_node(self, node_id: int) -> None:
        """Ends one node as SIGKILL does. Ids count from 1, as Kafka's metadata names them."""
        process = self._processes[node_id - 1]
        process.kill()
        process.wait()

    def stop(self) -> None:
        """Ends every node for good; nothing is left."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _format(self) -> None:
        cluster = str(uuid.uuid4())
        tool = [*self._java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c"]
        begun = [
            subprocess.Popen([*tool, config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for config in self._configs
        ]
        for process in begun:
            printed, _ = process.communicate(timeout=_START_TIMEOUT)
            if process.returncode:
                raise RuntimeError(f"Kafka's storage could not be made:\n{printed.decode()}")

    def _run(self, number: int) -> subprocess.Popen[bytes]:
        with (self._directory / f"node-{number + 1}.log").open("ab") as log:
            return subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self._configs[number])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


def jars() -> Path:
    """Kafka and what it depends on, from Maven's repository; fetched once.

    Raises:
        RuntimeError: Maven could not fetch them.
    """
    found = _CACHE / "jars"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may start at once
        if not found.exists():
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
            fetched.rename(found)
    return found


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
