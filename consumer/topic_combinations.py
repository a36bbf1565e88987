"""Rules about the names of topics: what is read, what is this program's own, and that they differ.

A pattern's topics are not known before the broker is asked; `consumer.topics` checks those.
Messages never quote a name: it may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from consumer.own_topics import Purpose, is_topic_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from consumer.configfile import Path
    from consumer.settings import Config


class Finding(NamedTuple):
    """A rule that does not hold.

    `path` is the key to change; `looked_at` are the other keys the rule read.
    """

    path: Path
    message: str
    looked_at: tuple[Path, ...] = ()


_NAME: Final = "letters, digits, dot, dash and underscore, at most 249"
_GROUP: Final[Path] = ("kafka", "group_id")
_TOPICS: Final[Path] = ("kafka", "topics")
_KEYS: Final[Mapping[Purpose, Path]] = {
    Purpose.STATE: ("dedup", "state_topic"),
    Purpose.RETRY: ("retry_topic",),
    Purpose.DEAD_LETTER: ("dead_letter", "topic"),
    Purpose.RECEIPTS: ("receipts", "topic"),
}
"""The key that names the topic for a purpose."""


def topic_findings(config: Config) -> Iterator[Finding]:
    """What is wrong with the names of topics."""
    named = [topic for topic in config.kafka.topics if not topic.startswith("^")]
    own = _own(config, named)
    seen: set[str] = set()
    for index, topic in enumerate(config.kafka.topics):
        problem = _source_problem(topic, seen, own)
        seen.add(topic)
        if problem:
            yield Finding((*_TOPICS, index), problem, (_GROUP, *_KEYS.values()))
    yield from _partition_numbers(config, named)
    yield from _default_names(config, named)
    yield from _collisions(config, own)


def _own(config: Config, sources: Sequence[str]) -> dict[str, list[Purpose]]:
    """Own topics as far as their names are known, and what each would be for."""
    named = [pair for source in sources for pair in config.own_topics().of(source).items()]
    own: dict[str, list[Purpose]] = {}
    for purpose, name in (*named, *_configured(config).items()):
        if purpose not in own.setdefault(name, []):
            own[name].append(purpose)
    return own


def _configured(config: Config) -> dict[Purpose, str]:
    names = config.own_topics()
    given = {
        Purpose.STATE: names.state,
        Purpose.RETRY: names.retry,
        Purpose.DEAD_LETTER: names.dead_letter,
        Purpose.RECEIPTS: names.receipts,
    }
    return {purpose: name for purpose, name in given.items() if name is not None}


def _source_problem(topic: str, seen: set[str], own: Mapping[str, Sequence[Purpose]]) -> str | None:
    if topic in seen:
        return "is listed twice"
    if not topic.startswith("^"):
        if not is_topic_name(topic):
            return f"is no topic name: {_NAME}"
        matched = own.get(topic)
    else:
        try:
            pattern = re.compile(topic)
        except re.error:
            return "is no regular expression"
        matched = next((purposes for name, purposes in own.items() if pattern.match(name)), None)
    if matched:
        return f"matches this program's own {matched[0]} topic, which would be read as a source"
    return None


def _partition_numbers(config: Config, sources: Sequence[str]) -> Iterator[Finding]:
    """State and retry topics have their source's partition numbers, each with one owner."""
    if len(config.kafka.topics) == len(sources) == 1:
        return
    for purpose in _configured(config):
        if purpose in (Purpose.STATE, Purpose.RETRY):
            yield Finding(
                _KEYS[purpose],
                "can be set only with one source topic, named in full: partitions of several "
                "topics would share a number there, and have different owners; leave it out",
                (_TOPICS,),
            )


def _default_names(config: Config, sources: Sequence[str]) -> Iterator[Finding]:
    """Default names are made of the group's and the source's: Kafka must take them."""
    own, given = config.own_topics(), _configured(config)
    default = [purpose for purpose in (Purpose.STATE, Purpose.RETRY) if purpose not in given]
    # Of a pattern's topics nothing is known but that their names have at least one letter.
    known = [source for source in sources if is_topic_name(source)] or ["x"]
    names = [own.of(source)[purpose] for source in known for purpose in default]
    if not all(map(is_topic_name, names)):
        alone = len(config.kafka.topics) == len(sources) == 1
        keys = " and ".join(".".join(map(str, _KEYS[purpose])) for purpose in default)
        instead = f"set {keys}, or choose" if alone else "choose"
        yield Finding(
            _GROUP,
            f"makes no names for this program's own topics, `<group>.<topic>.dedup` and `.retry`: "
            f"{_NAME}; {instead} another group",
            (_TOPICS, *_KEYS.values()),
        )
    for index, source in enumerate(config.kafka.topics):
        if is_topic_name(source) and not is_topic_name(own.dead_letter_of(source)):
            yield Finding(
                (*_TOPICS, index),
                "leaves no room for its dead-letter topic's name, `<topic>.dlq`: set "
                "dead_letter.topic",
                (_KEYS[Purpose.DEAD_LETTER],),
            )


def _collisions(config: Config, own: Mapping[str, Sequence[Purpose]]) -> Iterator[Finding]:
    """Every own topic is one of its own: what one deletes or compacts, another needs."""
    given = _configured(config)
    for purposes in own.values():
        if len(purposes) == 1:
            continue
        # Default names differ by their ends, so one of those that meet is configured.
        blamed = [purpose for purpose in purposes if purpose in given][-1]
        other = next(purpose for purpose in purposes if purpose is not blamed)
        yield Finding(
            _KEYS[blamed],
            f"is this program's own {other} topic as well: each needs one of its own",
            (_GROUP, _TOPICS, *(path for path in _KEYS.values() if path != _KEYS[blamed])),
        )
