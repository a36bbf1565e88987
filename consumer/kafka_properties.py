"""librdkafka's configuration: what the user may set, what the promises demand, what is left out.

The user's `kafka.properties` go to every client. A property on which a promise rests is not the
user's to set; the reason stands beside it, so that a refusal can say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Properties = Mapping[str, str]

_OWN_KEY: Final = "it has a key of its own in the configuration file"
_NO_CALLBACK: Final = "callbacks cannot be configured from a file"
_NO_SKIP: Final = "records would be skipped or committed before they are settled"
_NO_LOSS: Final = "an unacknowledged or reordered dead letter could be lost"

FORBIDDEN_PROPERTIES: Final[Mapping[str, str]] = {
    "bootstrap.servers": f"{_OWN_KEY} (kafka.bootstrap_servers)",
    "metadata.broker.list": f"{_OWN_KEY} (kafka.bootstrap_servers)",
    "group.id": f"{_OWN_KEY} (kafka.group_id)",
    "enable.auto.commit": f"{_NO_SKIP}: only settled records are committed",
    "auto.commit.enable": f"{_NO_SKIP}: only settled records are committed",
    "auto.commit.interval.ms": f"{_NO_SKIP}: only settled records are committed",
    "enable.auto.offset.store": f"{_NO_SKIP}: only settled records are committed",
    "offset.store.method": f"{_NO_SKIP}: only settled records are committed",
    "auto.offset.reset": f"{_NO_SKIP}: kafka.start says where a new group begins",
    "partition.assignment.strategy": "hand-over without a stop needs cooperative-sticky",
    "group.protocol.type": "only Kafka's own consumer groups are spoken",
    "group.remote.assignor": "the broker's own assignor hands partitions over one by one",
    "enable.partition.eof": "the end of a partition is no record",
    "isolation.level": "records of aborted transactions were never events",
    "enable.idempotence": f"{_NO_LOSS}: the producer is idempotent",
    "enable.gapless.guarantee": f"{_NO_LOSS}: a fatal producer is the caller's to replace",
    "acks": f"{_NO_LOSS}: the producer waits for all replicas in sync",
    "request.required.acks": f"{_NO_LOSS}: the producer waits for all replicas in sync",
    "retries": f"{_NO_LOSS}: only the delivery time-out ends an attempt",
    "message.send.max.retries": f"{_NO_LOSS}: only the delivery time-out ends an attempt",
    "max.in.flight": f"{_NO_LOSS}: the idempotent producer sets it",
    "max.in.flight.requests.per.connection": f"{_NO_LOSS}: the idempotent producer sets it",
    "delivery.report.only.error": f"{_NO_LOSS}: offsets wait for acknowledgements",
    "transactional.id": "dead letters are not produced in transactions",
    "test.mock.num.brokers": "a mock cluster holds nothing durably",
    "test.mock.broker.rtt": "a mock cluster holds nothing durably",
    "plugin.library.paths": "foreign code would run in the consumer's process",
    "opaque": _NO_CALLBACK,
    "error_cb": _NO_CALLBACK,
    "log_cb": _NO_CALLBACK,
    "stats_cb": _NO_CALLBACK,
    "throttle_cb": _NO_CALLBACK,
    "oauth_cb": _NO_CALLBACK,
    "on_commit": _NO_CALLBACK,
    "on_delivery": _NO_CALLBACK,
    "dr_cb": _NO_CALLBACK,
    "dr_msg_cb": _NO_CALLBACK,
    "rebalance_cb": _NO_CALLBACK,
    "offset_commit_cb": _NO_CALLBACK,
    "logger": _NO_CALLBACK,
    "default.topic.config": _NO_CALLBACK,
}
"""Properties refused in `kafka.properties`, each with the reason to give."""

_CLASSIC_ONLY: Final = frozenset(
    {
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "partition.assignment.strategy",
        "group.protocol.type",
    }
)
"""Refused by librdkafka under the protocol of KIP-848, where the broker owns these settings."""

_GROUP_ONLY: Final = frozenset(
    {
        "group.instance.id",
        "group.protocol",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "coordinator.query.interval.ms",
        "allow.auto.create.topics",
        "check.crcs",
    }
)
"""Known to consumers alone, as are all `fetch.*` and `queued.*`; others answer with a warning."""

_PRODUCER_ONLY: Final = frozenset(
    {
        "linger.ms",
        "batch.size",
        "batch.num.messages",
        "compression.codec",
        "compression.type",
        "compression.level",
        "delivery.timeout.ms",
        "message.timeout.ms",
        "request.timeout.ms",
        "partitioner",
        "sticky.partitioning.linger.ms",
    }
)
"""Known to producers alone, as are all `queue.*`; a consumer answers them with a warning."""

_CONSUMER_DEFAULTS: Final = {
    "client.id": "tiktok-events",
    # Pausing throws the prefetched records away, and they count towards the process's memory.
    "queued.max.messages.kbytes": "16384",
    "fetch.max.bytes": "16777216",
    # The default of one second is made for large queues: a small one would run dry meanwhile.
    "fetch.queue.backoff.ms": "20",
    # Finds topics and partitions that are created later without waiting for five minutes.
    "topic.metadata.refresh.interval.ms": "30000",
}

_PRODUCER_DEFAULTS: Final = {
    "client.id": "tiktok-events",
    "linger.ms": "5",
    "delivery.timeout.ms": "30000",
    "queue.buffering.max.kbytes": "32768",
    # The client's own limit (1 MB) would refuse letters that the topic takes: the topic decides.
    "message.max.bytes": "16777216",
    # A broker refuses a batch as a whole when it is above the topic's limit: small batches keep
    # a large letter from taking its neighbours along. One record alone may exceed this.
    "batch.size": "131072",
    "compression.type": "lz4",
    # Soon knows partitions that our own topics were given while they are in use.
    "topic.metadata.refresh.interval.ms": "10000",
    # Soon says that a topic is gone, instead of waiting for it; the record is tried again anyway.
    "topic.metadata.propagation.max.ms": "5000",
}


def uses_broker_assignment(properties: Properties) -> bool:
    """Whether the group speaks the protocol of KIP-848 (`group.protocol: consumer`)."""
    return properties.get("group.protocol", "classic").lower() == "consumer"


def consumer_properties(properties: Properties, group_id: str) -> dict[str, str]:
    """Complete configuration of the group's member, without callbacks."""
    complete = _CONSUMER_DEFAULTS | {
        name: value
        for name, value in properties.items()
        if name not in _PRODUCER_ONLY and not name.startswith("queue.")
    }
    complete |= {
        "group.id": group_id,
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        "auto.offset.reset": "error",
        "enable.partition.eof": "false",
        "isolation.level": "read_committed",
    }
    if uses_broker_assignment(properties):
        return {name: value for name, value in complete.items() if name not in _CLASSIC_ONLY}
    return complete | {"partition.assignment.strategy": "cooperative-sticky"}


def state_reader_properties(properties: Properties, group_id: str) -> dict[str, str]:
    """Complete configuration of the consumer that reads the state topic outside of the group.

    The end of a partition is told, since a read may end there, and so is a position that the log
    does not have. Its queue is small: partitions wait in it while others are worked on.
    """
    complete = _CONSUMER_DEFAULTS | {
        name: value
        for name, value in properties.items()
        if name not in _GROUP_ONLY and name not in _PRODUCER_ONLY and not name.startswith("queue.")
    }
    return complete | {
        "group.id": group_id,
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        "auto.offset.reset": "error",
        "enable.partition.eof": "true",
        "isolation.level": "read_uncommitted",
        "queued.max.messages.kbytes": "8192",
        "fetch.max.bytes": "4194304",
        "max.partition.fetch.bytes": "524288",
        # How long the broker keeps a fetch at the log's end: the end is told only after it.
        "fetch.wait.max.ms": "25",
    }


def producer_properties(properties: Properties) -> dict[str, str]:
    """Complete configuration of the idempotent producer, without callbacks."""
    complete = _PRODUCER_DEFAULTS | {
        name: value for name, value in properties.items() if not _is_consumers(name)
    }
    return complete | {"acks": "all", "enable.idempotence": "true"}


def admin_properties(properties: Properties) -> dict[str, str | int | float | bool]:
    """Configuration of an administrative client: connection and security only."""
    return {
        name: value
        for name, value in properties.items()
        if not _is_consumers(name) and name not in _PRODUCER_ONLY and not name.startswith("queue.")
    }


def _is_consumers(name: str) -> bool:
    return name in _GROUP_ONLY or name.startswith(("fetch.", "queued.", "max.partition.fetch."))
