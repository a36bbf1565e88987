"""What all rounds of a run share: brokers, a proxy before one of them, and a schema registry.

The broker is always started here, from Apache Kafka's own jars: it is going to be killed.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.support import kafka
from tests.support.kafka_local import LocalKafka
from tests.support.pipeline_world import SCHEMA_TEXT
from tests.support.sandbox_threads import run_registry
from tests.support.tcp_proxy import TcpProxy, run_proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.kafka import RealKafka

_START_SECONDS = 60.0


@dataclass(frozen=True)
class Cluster:
    """A running Kafka. `proxy` stands before its only node, None where there are three."""

    kafka: RealKafka
    local: LocalKafka
    nodes: int
    proxy: TcpProxy | None

    @property
    def front(self) -> str:
        """`host:port` for clients that are to come through the proxy."""
        assert self.proxy is not None
        return f"127.0.0.1:{self.proxy.port}"

    def restore(self) -> None:
        """Starts the nodes that are down and mends the network, and waits for that."""
        if self.proxy is not None:
            self.proxy.heal()
        self.kafka.restart()


class Arena:
    """Where rounds are played. One cluster runs at a time, started when a round asks for it.

    Args:
        folder: for the rounds' files, one folder each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._cluster: Cluster | None = None
        self._cluster_stack = ExitStack()
        self.registry_url = ""
        self.schema_id = 0

    def __enter__(self) -> Self:
        registry = self._stack.enter_context(run_registry())
        self.registry_url = registry.url
        self.schema_id = registry.register("conversions-value", SCHEMA_TEXT)
        self._stack.callback(self._end_cluster)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cluster(self, nodes: int) -> Cluster:
        """The cluster of so many nodes; one of another size is ended first."""
        if self._cluster is None or self._cluster.nodes != nodes:
            self._end_cluster()
            self._cluster = self._start(nodes)
        return self._cluster

    def _start(self, nodes: int) -> Cluster:
        stack = self._cluster_stack
        proxy = stack.enter_context(run_proxy()) if nodes == 1 else None
        local = LocalKafka(nodes, None if proxy is None else proxy.port)
        if proxy is not None:
            proxy.target_port = local.front
        running = kafka.wait_for(local)
        stack.callback(running.stop)
        deadline = time.monotonic() + _START_SECONDS
        while running.nodes < nodes:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{running.nodes} of {nodes} nodes after {_START_SECONDS:g} s")
            time.sleep(0.1)
        return Cluster(running, local, nodes, proxy)

    def _end_cluster(self) -> None:
        self._cluster = None
        self._cluster_stack.close()
