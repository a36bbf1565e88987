"""The consumer's own topics: created when missing, checked at the start.

A broker that does not know an administrative call, or does not allow it, does not keep the
consumer from running: the check that needs the call is off, and the log says so once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, the stubs forget it
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from consumer.errors import StartError
from consumer.kafka_errors import refused_properties
from consumer.kafka_properties import admin_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import KafkaError
    from confluent_kafka.admin import TopicMetadata  # type: ignore[attr-defined]  # as above

_log = logging.getLogger(__name__)
T = TypeVar("T")

DEAD_LETTER_HEADROOM: Final = 64 * 1024
"""Bytes by which a dead-letter topic's records may be larger than the source's: the headers."""

_UNAVAILABLE: Final = frozenset(
    {
        "_UNSUPPORTED_FEATURE",
        "UNSUPPORTED_VERSION",
        "TOPIC_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
    }
)
_NO_CONTROLLER: Final = "its controller is not among its brokers"
_SIZE: Final = "max.message.bytes"
_KEEPS_TIMES: Final = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.after.max.ms": str(2**63 - 1),
}
"""A letter has its original's timestamp, whatever that is. A broker takes none that is more than
an hour ahead, unless the topic says so."""


class TopicProblem(NamedTuple):
    """Why the consumer must not start with this topic, and what to do about it."""

    topic: str
    what: str
    how_to_mend: str

    def __str__(self) -> str:
        """One line, with the remedy."""
        return f"{self.topic}: {self.what}: {self.how_to_mend}"


def subscription_problems(topics: Sequence[str], own: Sequence[str]) -> list[TopicProblem]:
    """Find own topics that the subscription would read; an entry with `^` is a pattern."""
    return [
        TopicProblem(
            name,
            f"kafka.topics has {entry!r}, which reads the consumer's own topic",
            "subscribe to the source alone",
        )
        for entry in topics
        for name in own
        if entry == name or (entry.startswith("^") and re.search(entry, name))
    ]


async def ensure_topics(
    properties: Mapping[str, str],
    topics: Sequence[str],
    dead_letter_topic: Callable[[str], str],
    *,
    create: bool,
    timeout: float = 15.0,  # noqa: ASYNC109  seconds for each request to the broker, not for all
) -> list[TopicProblem]:
    """Make sure that every source topic has its dead-letter topic.

    Args:
        properties: The user's for librdkafka, `bootstrap.servers` and security included.
        topics: The subscription; entries with `^` are patterns.
        dead_letter_topic: The name of a source topic's dead-letter topic.
        create: Whether a missing topic is created (`kafka.create_topics`), or is a problem.
        timeout: Seconds to wait for each answer.

    Returns:
        What must be mended before the start; empty when all is well.

    Raises:
        ConfigError: librdkafka refuses a property; it tells them one by one.
        StartError: The broker does not answer.
    """
    check = _Check(properties, timeout, create=create)
    return await in_daemon_thread(lambda: check.run(topics, dead_letter_topic))


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


class _Check:
    def __init__(self, properties: Mapping[str, str], timeout: float, *, create: bool) -> None:
        self._servers = properties.get("bootstrap.servers", "")
        try:
            self._admin = AdminClient(
                admin_properties(properties), logger=logging.getLogger("consumer.kafka")
            )
        except KafkaException as error:
            raise refused_properties(error) from None
        self._timeout = timeout
        self._create = create
        self._administers = True
        self._off: set[str] = set()

    def run(
        self, topics: Sequence[str], dead_letter_topic: Callable[[str], str]
    ) -> list[TopicProblem]:
        existing = self._existing()
        sources = [
            name
            for entry in topics
            for name in (
                sorted(n for n in existing if re.search(entry, n))
                if entry.startswith("^")
                else [entry]
            )
        ]
        own: dict[str, list[str]] = {}
        for source in sources:
            own.setdefault(dead_letter_topic(source), []).append(source)
        problems = subscription_problems(topics, list(own))
        if not problems:
            configs = self._configs(sorted({*sources, *own} & existing.keys()))
            for name, of in own.items():
                problems += self._ensure(name, of, existing, configs)
        return problems

    def _ensure(
        self,
        name: str,
        sources: list[str],
        existing: Mapping[str, TopicMetadata],
        configs: Mapping[str, Mapping[str, str]],
    ) -> list[TopicProblem]:
        sizes = [int(configs[s][_SIZE]) for s in sources if _SIZE in configs.get(s, {})]
        if name in existing:
            return self._checked(name, max(sizes, default=0), configs.get(name, {}))
        found = [existing[source] for source in sources if source in existing]
        if not found:
            _log.warning("%s: not there yet; neither is its dead-letter topic", ", ".join(sources))
            return []
        partitions = max(len(topic.partitions) for topic in found)
        replicas = max(len(p.replicas) for topic in found for p in topic.partitions.values())
        config = {_SIZE: str(max(sizes) + DEAD_LETTER_HEADROOM)} if sizes else {}
        # Older brokers refuse settings they do not know: those they tell of are the ones they do.
        known = {key for source in sources for key in configs.get(source, {})}
        config |= {key: value for key, value in _KEEPS_TIMES.items() if key in known}
        return self._created(name, partitions, replicas, config)

    def _checked(
        self, name: str, source_size: int, config: Mapping[str, str]
    ) -> list[TopicProblem]:
        problems: list[TopicProblem] = []
        alter = (
            f"kafka-configs.sh --bootstrap-server {self._servers} --alter"
            f" --entity-type topics --entity-name {name} --add-config"
        )
        if "compact" in config.get("cleanup.policy", ""):
            problems.append(
                TopicProblem(
                    name,
                    "compaction would delete dead letters",
                    f"{alter} cleanup.policy=delete",
                )
            )
        size = int(config.get(_SIZE, source_size + DEAD_LETTER_HEADROOM))
        enlarge = f"{alter} {_SIZE}={source_size + DEAD_LETTER_HEADROOM}"
        if size < source_size:
            problems.append(TopicProblem(name, "takes smaller records than its source", enlarge))
        elif size < source_size + DEAD_LETTER_HEADROOM:
            _log.warning("%s: the largest dead letters lose optional headers: %s", name, enlarge)
        return problems

    def _created(
        self, name: str, partitions: int, replicas: int, config: dict[str, str]
    ) -> list[TopicProblem]:
        command = (
            f"kafka-topics.sh --bootstrap-server {self._servers} --create --topic {name}"
            f" --partitions {partitions} --replication-factor {replicas}"
        ) + "".join(f" --config {key}={value}" for key, value in config.items())
        if not self._create:
            return [TopicProblem(name, "does not exist, and kafka.create_topics is off", command)]
        if not self._administers:
            self._say_off("creating topics", _NO_CONTROLLER)
            return []
        new = NewTopic(name, partitions, replicas, config=config)
        futures = self._admin.create_topics([new], request_timeout=self._timeout)
        try:
            futures[name].result()
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            if cause.name() == "TOPIC_ALREADY_EXISTS":
                return []
            if cause.name() in {"_UNSUPPORTED_FEATURE", "UNSUPPORTED_VERSION"}:
                self._say_off("creating topics", cause.name())
                return []
            return [TopicProblem(name, f"could not be created ({cause.name()})", command)]
        _log.info("Created topic %s with %d partitions", name, partitions)
        return []

    def _existing(self) -> dict[str, TopicMetadata]:
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
        return dict(cluster.topics)

    def _configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Configurations of the topics whose configuration the broker tells."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        if not self._administers:
            self._say_off("checking topic settings", _NO_CONTROLLER)
        if not resources or not self._administers:
            return {}
        configs: dict[str, dict[str, str]] = {}
        answers = self._admin.describe_configs(resources, request_timeout=self._timeout)
        for resource, answer in answers.items():
            try:
                entries = answer.result()
            except KafkaException as error:
                cause: KafkaError = error.args[0]
                if cause.name() not in _UNAVAILABLE:
                    raise StartError(
                        f"Kafka does not describe {resource.name} ({cause.name()})", "try again"
                    ) from error
                self._say_off("checking topic settings", cause.name())
            else:
                configs[resource.name] = {
                    key: entry.value for key, entry in entries.items() if entry.value is not None
                }
        return configs

    def _say_off(self, check: str, cause: str) -> None:
        if check not in self._off:
            self._off.add(check)
            _log.warning("The broker does not serve %s (%s): left out", check, cause)
