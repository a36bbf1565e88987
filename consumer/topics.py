"""The consumer's own topics: created when missing, checked, extended when their source grows.

Each source topic has three: its state topic, its retry topic and its dead-letter topic. The first
two have a partition for each of the source's; what was accepted and what waits belongs to the owner
of the source partition with the same number. Receipts, where they are written, have one topic for
all.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, NamedTuple

from consumer.own_topics import is_topic_name
from consumer.topic_admin import TopicAdmin, in_daemon_thread
from consumer.topic_checks import CheckRules, OwnTopicCheck, TopicProblem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from consumer.own_topics import OwnTopics, Purpose
    from consumer.topic_checks import Cluster, Topic
    from consumer.topic_rules import Spans

_log = logging.getLogger(__name__)

REQUEST_SECONDS = 15.0
"""For each answer of the broker."""


class Grown(NamedTuple):
    """A source topic has more partitions than before: its keys may be in other ones now."""

    topic: str
    before: int
    now: int


class Ensured(NamedTuple):
    """What a look at the topics has found: what must be mended, and which sources have grown."""

    problems: Sequence[TopicProblem] = ()
    grown: Sequence[Grown] = ()


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


class TopicKeeper:
    """Makes sure of the own topics: before the start, and every minute or so while it runs.

    Args:
        properties: The user's for librdkafka, `bootstrap.servers` and security included.
        topics: The subscription; entries with `^` are patterns.
        own: The names of the own topics.
        spans: How long what is in them counts.
        create: Whether a missing topic is created and a small one extended
            (`kafka.create_topics`), or is a problem.
        timeout: Seconds to wait for each answer of the broker, not for all.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        topics: Sequence[str],
        own: OwnTopics,
        spans: Spans,
        *,
        create: bool,
        timeout: float = REQUEST_SECONDS,
    ) -> None:
        self._properties = properties
        self._topics = topics
        self._own = own
        self._rules = CheckRules(properties.get("bootstrap.servers", ""), spans, create=create)
        self._timeout = timeout
        self._off: set[str] = set()
        self._told: set[tuple[str, str]] = set()
        self._seen: dict[str, int] = {}
        self._all_well: Mapping[str, Topic] | None = None

    @property
    def partitions(self) -> Mapping[str, int]:
        """How many partitions each source topic had at the last look."""
        return dict(self._seen)

    async def ensure(self) -> Ensured:
        """Looks at the topics, makes and extends what is missing.

        To call it again costs one question to the broker while nothing has changed. A source that
        has grown is told once. One that grew while no member ran is recognised by its state topic:
        it has fewer partitions, or some that nobody has written to yet.

        Raises:
            ConfigError: librdkafka refuses a property; it tells them one by one.
            StartError: The broker does not answer.
        """
        return await in_daemon_thread(self._ensure)

    def _ensure(self) -> Ensured:
        admin = TopicAdmin(self._properties, self._timeout, self._off)
        cluster = admin.look()
        sources = self._sources(cluster)
        owned = self._owned(sources)
        names = [name for name, _ in owned]
        seen = {n: cluster.topics[n] for n in (*sources, *names) if n in cluster.topics}
        if seen == self._all_well:
            return Ensured()
        self._all_well = None
        problems = [
            *subscription_problems(self._topics, names),
            *_unusable(owned),
            *_shared(owned),
        ]
        if problems:
            return Ensured(problems)
        configs = admin.configs(seen)
        for (name, purpose), of in owned.items():
            check = OwnTopicCheck(name, purpose, of, self._rules, cluster, configs)
            problems += check.problems(admin, self._warn)
        admin.wait_for_leaders()
        if not problems:
            self._all_well = seen
        return Ensured(problems, list(self._grown(sources, cluster, admin)))

    def _sources(self, cluster: Cluster) -> list[str]:
        names: dict[str, None] = {}
        for entry in self._topics:
            if entry.startswith("^"):
                names |= dict.fromkeys(sorted(n for n in cluster.topics if re.search(entry, n)))
            else:
                names[entry] = None
                if entry not in cluster.topics:
                    self._warn(entry, "not there yet; neither are its own topics")
        return list(names)

    def _owned(self, sources: Iterable[str]) -> dict[tuple[str, Purpose], list[str]]:
        """Own topics, each with the source topics it belongs to."""
        owned: dict[tuple[str, Purpose], list[str]] = {}
        for source in sources:
            for purpose, name in self._own.of(source).items():
                owned.setdefault((name, purpose), []).append(source)
        return owned

    def _grown(
        self, sources: Iterable[str], cluster: Cluster, admin: TopicAdmin
    ) -> Iterator[Grown]:
        for source in sources:
            if (topic := cluster.topics.get(source)) is None:
                continue
            before = self._seen.get(source)
            if before is None:
                before = self._remembered(source, topic.partitions, cluster, admin)
            self._seen[source] = topic.partitions
            if before < topic.partitions:
                yield Grown(source, before, topic.partitions)

    def _remembered(self, source: str, partitions: int, cluster: Cluster, admin: TopicAdmin) -> int:
        """How many partitions a source had when somebody last worked on it, by its state topic."""
        name = self._own.state_of(source)
        state = cluster.topics.get(name)
        if state is None:
            return partitions
        return admin.written(name, min(state.partitions, partitions))

    def _warn(self, topic: str, what: str) -> None:
        if (topic, what) not in self._told:
            self._told.add((topic, what))
            _log.warning("%s: %s", topic, what)


def _unusable(owned: Iterable[tuple[str, Purpose]]) -> Iterator[TopicProblem]:
    for name, purpose in owned:
        if not is_topic_name(name):
            yield TopicProblem(
                name,
                f"Kafka takes no topic of this name, which the {purpose} topic would have",
                "choose a shorter kafka.group_id",
            )


def _shared(owned: Iterable[tuple[str, Purpose]]) -> Iterator[TopicProblem]:
    """A configured name may be one that follows from the name of a pattern's topic."""
    first: dict[str, Purpose] = {}
    for name, purpose in owned:
        if first.setdefault(name, purpose) is not purpose:
            yield TopicProblem(
                name,
                f"is the {first[name]} topic and the {purpose} topic: each needs one of its own",
                "choose another name where it is configured",
            )
