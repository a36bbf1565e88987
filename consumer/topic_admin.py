"""The few administrative questions to a broker, with what happens where it does not answer them.

A broker that does not know an administrative call, or does not allow it, does not keep the
consumer from running: what needs the call is off, and the log says so once. Everything here
blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar, cast

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, the stubs forget it
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from consumer.errors import StartError
from consumer.kafka_errors import refused_properties
from consumer.kafka_properties import admin_properties
from consumer.topic_checks import Cluster, Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from confluent_kafka import KafkaError
    from confluent_kafka.admin import ListOffsetsResultInfo  # type: ignore[attr-defined]  # as above

_log = logging.getLogger(__name__)
T = TypeVar("T")

_UNKNOWN_CALL: Final = frozenset({"_UNSUPPORTED_FEATURE", "UNSUPPORTED_VERSION"})
_FORBIDDEN_CALL: Final = frozenset({"TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"})
_NO_CONTROLLER: Final = "its controller is not among its brokers"
_LEADER_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.1
_NEW_SECONDS: Final = 600.0
"""For so long after the first record of a topic, members may still be about to write to it."""

_DONE_ALREADY: Final = frozenset({"TOPIC_ALREADY_EXISTS", "INVALID_PARTITIONS"})
"""Another member was quicker. The next look shows what there is."""


class TopicAdmin:
    """An administrative client for one look at the broker.

    Args:
        properties: The user's for librdkafka, `bootstrap.servers` and security included.
        timeout: Seconds to wait for each answer.
        off: What has been said to be off; grows.

    Raises:
        ConfigError: librdkafka refuses a property; it tells them one by one.
    """

    def __init__(self, properties: Mapping[str, str], timeout: float, off: set[str]) -> None:
        self._servers = properties.get("bootstrap.servers", "")
        try:
            self._admin = AdminClient(
                admin_properties(properties), logger=logging.getLogger("consumer.kafka")
            )
        except KafkaException as error:
            raise refused_properties(error) from None
        self._timeout = timeout
        self._off = off
        self._administers = True
        self._made: dict[str, int] = {}

    def look(self) -> Cluster:
        """What there is.

        Raises:
            StartError: the broker does not answer.
        """
        try:
            # All topics at once: to ask for one by name would create it where the broker does so.
            cluster = self._admin.list_topics(timeout=self._timeout)
        except KafkaException as error:
            raise StartError(
                f"Kafka at {self._servers} does not answer ({error.args[0].name()})",
                "check kafka.bootstrap_servers and the security settings",
                passing=True,
            ) from error
        # A controller that is not among the brokers can never be asked: librdkafka would wait
        # for it until the time-out. None at all (-1) is an election, which is worth the wait.
        self._administers = cluster.controller_id < 0 or cluster.controller_id in cluster.brokers
        topics = {
            name: Topic(
                len(topic.partitions),
                min((len(p.replicas) for p in topic.partitions.values()), default=0),
            )
            for name, topic in cluster.topics.items()
            if topic.partitions
        }
        return Cluster(topics, len(cluster.brokers))

    def configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Settings of the topics whose settings the broker tells.

        Raises:
            StartError: the broker does not answer.
        """
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in sorted(names)]
        if not resources or self._cannot("checking topic settings"):
            return {}
        configs: dict[str, dict[str, str]] = {}
        answers = self._admin.describe_configs(resources, request_timeout=self._timeout)
        for resource, answer in answers.items():
            try:
                entries = answer.result()
            except KafkaException as error:
                cause: KafkaError = error.args[0]
                if cause.name() not in _UNKNOWN_CALL | _FORBIDDEN_CALL:
                    raise StartError(
                        f"Kafka does not describe {resource.name} ({cause.name()})",
                        "try again",
                        passing=cause.retriable(),
                    ) from error
                self._say_off("checking topic settings", cause.name())
            else:
                configs[resource.name] = {
                    key: entry.value for key, entry in entries.items() if entry.value is not None
                }
        return configs

    def written(self, name: str, partitions: int) -> int:
        """How many of a topic's partitions have been written to, those after them never.

        All of them where nobody can say, or where no record is old: then the topic itself is new,
        and members that have just started are about to write.
        """
        tps = [TopicPartition(name, number) for number in range(partitions)]
        ends = self._offsets(tps, OffsetSpec.latest())  # type: ignore[no-untyped-call]  # the stubs forget it
        written = [tp for tp, end in zip(tps, ends, strict=False) if end.offset > 0]
        if not ends or not written or written[-1] == tps[-1]:
            return partitions
        firsts = self._offsets(written, OffsetSpec.for_timestamp(0))
        recent = (time.time() - _NEW_SECONDS) * 1000
        if all(first.timestamp > recent for first in firsts):
            return partitions
        return int(written[-1].partition) + 1

    def _offsets(
        self, tps: Sequence[TopicPartition], spec: OffsetSpec
    ) -> list[ListOffsetsResultInfo]:
        """What the broker says of each partition; nothing unless it does of all."""
        answers = self._admin.list_offsets(dict.fromkeys(tps, spec), request_timeout=self._timeout)
        try:
            return [answers[tp].result() for tp in tps]
        except KafkaException:
            return []

    def create(self, name: str, topic: Topic, config: Mapping[str, str]) -> str | None:
        """Makes a topic; returns why it could not be made, None where it is there or will be."""
        if self._cannot("creating topics"):
            return None  # such a broker makes topics when they are first used, or the use fails
        new = NewTopic(name, topic.partitions, topic.replicas, config=dict(config))
        futures = self._admin.create_topics(
            [new], operation_timeout=self._timeout, request_timeout=self._timeout
        )
        error = _error_of(futures[name])
        if error is None:
            self._made[name] = topic.partitions
            _log.info("Created topic %s with %d partitions", name, topic.partitions)
        elif error.name() in _UNKNOWN_CALL:
            self._say_off("creating topics", error.name())
            return None
        return _why(error)

    def extend(self, name: str, partitions: int) -> str | None:
        """Gives a topic more partitions; returns why it could not."""
        if not self._administers:
            return _NO_CONTROLLER
        futures = self._admin.create_partitions(
            [NewPartitions(name, partitions)],
            operation_timeout=self._timeout,
            request_timeout=self._timeout,
        )
        error = _error_of(futures[name])
        if error is None:
            self._made[name] = partitions
            _log.info("Extended topic %s to %d partitions", name, partitions)
        return _why(error)

    def wait_for_leaders(self) -> None:
        """Waits a little until what was made can be used; it is no harm if it cannot yet."""
        deadline = time.monotonic() + _LEADER_SECONDS
        while self._made and time.monotonic() < deadline:
            with contextlib.suppress(KafkaException):
                topics = self._admin.list_topics(timeout=self._timeout).topics
                for name, partitions in list(self._made.items()):
                    led = topics[name].partitions.values() if name in topics else ()
                    if sum(partition.leader >= 0 for partition in led) >= partitions:
                        del self._made[name]
            if self._made:
                time.sleep(_LOOK_SECONDS)

    def _cannot(self, call: str) -> bool:
        if not self._administers:
            self._say_off(call, _NO_CONTROLLER)
        return not self._administers

    def _say_off(self, call: str, cause: str) -> None:
        if call not in self._off:
            self._off.add(call)
            _log.warning("The broker does not serve %s (%s): left out", call, cause)


def _error_of(future: Future[None]) -> KafkaError | None:
    try:
        future.result()
    except KafkaException as error:
        return cast("KafkaError", error.args[0])
    return None


def _why(error: KafkaError | None) -> str | None:
    if error is None or error.name() in _DONE_ALREADY:
        return None
    return f"{error.name()}: {error.str()}"


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Does blocking work on a thread that nobody waits for when the process ends.

    A request to a broker that is away blocks until its time-out; asyncio would join its own
    threads before it lets the process go.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast("T", result))

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  it is raised where the work was asked for
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="kafka-admin", daemon=True).start()
    return await done
