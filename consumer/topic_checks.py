"""One own topic as the broker shows it: made, extended, or judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from consumer.own_topics import Purpose
from consumer.topic_rules import faults, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from consumer.topic_rules import Setting, Spans

REPLICAS: Final = 3
"""An own topic is kept as often as its source, and at least as often as this where the cluster has
the brokers: what it holds, the source no longer tells."""


class Topic(NamedTuple):
    """How many partitions a topic has, and how often the one that is kept least is kept."""

    partitions: int
    replicas: int


class Cluster(NamedTuple):
    """The topics that may be seen, and how many brokers there are."""

    topics: Mapping[str, Topic]
    brokers: int


class TopicProblem(NamedTuple):
    """Why the consumer must not work with this topic, and what to do about it."""

    topic: str
    what: str
    how_to_mend: str

    def __str__(self) -> str:
        """One line, with the remedy."""
        return f"{self.topic}: {self.what}: {self.how_to_mend}"


class TopicMaker(Protocol):
    """Makes and extends topics; each call returns why it could not, None where it could."""

    def create(self, name: str, topic: Topic, config: Mapping[str, str]) -> str | None:
        """Makes a topic with these settings."""

    def extend(self, name: str, partitions: int) -> str | None:
        """Gives a topic more partitions, so many in all."""


@dataclass(frozen=True, slots=True)
class CheckRules:
    """What holds for all own topics.

    `servers` is for the commands that are told. `create` says whether topics are made and extended
    (`kafka.create_topics`) or only asked for.
    """

    servers: str
    spans: Spans
    create: bool


@dataclass(frozen=True, slots=True)
class OwnTopicCheck:
    """An own topic, the source topics it belongs to, and what the broker tells of them."""

    name: str
    purpose: Purpose
    sources: Sequence[str]
    rules: CheckRules
    cluster: Cluster
    configs: Mapping[str, Mapping[str, str]]

    def problems(
        self, maker: TopicMaker, warn: Callable[[str, str], None]
    ) -> Iterator[TopicProblem]:
        """Makes, extends or judges it; `warn` takes the topic and what is not good about it."""
        topics = self.cluster.topics
        sources = [topics[source] for source in self.sources if source in topics]
        if not sources:
            return
        partitions = max(topic.partitions for topic in sources)
        replicas = max(topic.replicas for topic in sources)
        replicas = max(replicas, min(REPLICAS, self.cluster.brokers))
        there = topics.get(self.name)
        if there is None:
            yield from self._made(Topic(partitions, replicas), maker)
            return
        # Whoever reads receipts may have chosen their number, and goes by their keys.
        if there.partitions < partitions and self.purpose is not Purpose.RECEIPTS:
            yield from self._extended(partitions, maker)
        if there.replicas < replicas:
            warn(
                self.name,
                f"is kept {there.replicas} times, not {replicas}: what a lost broker had of it may"
                " be lost too: raise it with kafka-reassign-partitions.sh",
            )
        for fault in faults(self._settings(there.replicas), self.configs.get(self.name, {})):
            change = (
                f"{self._command('configs')} --alter --entity-type topics --entity-name {self.name}"
                f" --add-config {fault.setting.name}={fault.setting.value}"
            )
            if fault.serious:
                yield TopicProblem(self.name, fault.what, change)
            else:
                warn(self.name, f"{fault.what}: {change}")

    def _made(self, topic: Topic, maker: TopicMaker) -> Iterator[TopicProblem]:
        # Older brokers refuse settings they do not know: those they tell of are the ones they do.
        known = {key for source in self.sources for key in self.configs.get(source, {})}
        config = {
            setting.name: setting.value
            for setting in self._settings(topic.replicas)
            if not setting.recent or setting.name in known
        }
        command = (
            f"{self._command('topics')} --create --topic {self.name}"
            f" --partitions {topic.partitions} --replication-factor {topic.replicas}"
        ) + "".join(f" --config {key}={value}" for key, value in config.items())
        if not self.rules.create:
            yield TopicProblem(self.name, "does not exist, and kafka.create_topics is off", command)
        elif (why := maker.create(self.name, topic, config)) is not None:
            yield TopicProblem(self.name, f"could not be created ({why})", command)

    def _extended(self, partitions: int, maker: TopicMaker) -> Iterator[TopicProblem]:
        what = f"has fewer partitions than its source ({partitions})"
        if self.rules.create:
            why = maker.extend(self.name, partitions)
            if why is None:
                return
            what = f"{what} and could not be extended ({why})"
        # A letter goes where its key says: with fewer partitions there is still one for it.
        if self.purpose is not Purpose.DEAD_LETTER:
            command = f"{self._command('topics')} --alter --topic {self.name}"
            yield TopicProblem(self.name, what, f"{command} --partitions {partitions}")

    def _settings(self, replicas: int) -> list[Setting]:
        sources = [self.configs[source] for source in self.sources if source in self.configs]
        return settings_of(self.purpose, self.rules.spans, sources, replicas)

    def _command(self, what: str) -> str:
        return f"kafka-{what}.sh --bootstrap-server {self.rules.servers}"
