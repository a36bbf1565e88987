"""What the settings of the consumer's own topics have to be, and what breaks where they are not.

A topic that is missing is made with all of these. One that exists is judged: a setting under which
a promise would be broken keeps the consumer from starting, the others are worth a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from consumer.own_topics import Purpose
from consumer.state_records import KEY_BYTES, MOST_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

DAY_MS: Final = 24 * 3600 * 1000

HEADROOM: Final = 64 * 1024
"""Bytes by which records of a retry or dead-letter topic may be larger than the source's: the
headers that are added."""

STATE_RECORD_BYTES: Final = 2 * MOST_KEYS * KEY_BYTES
"""What a state topic must take at least: the keys of our largest record, and as much again for
what surrounds them."""

RECEIPT_BYTES: Final = 16 * 1024
"""What a receipts topic must take at least: none has more, whatever the event."""

_DEFAULT_MESSAGE_BYTES: Final = 1024 * 1024
_ENOUGH_REPLICAS: Final = 3
"""With as many, one may be away and two still acknowledge."""

SIZE: Final = "max.message.bytes"
RETENTION: Final = "retention.ms"
_ANY_TIME: Final = str(2**63 - 1)


@dataclass(frozen=True, slots=True)
class Spans:
    """How long what is in the own topics counts, in seconds.

    `window`: for how long an accepted key is remembered (`dedup.window`). `max_age`: how old an
    event may become while it waits; the largest of `events.max_age` and every destination's.
    """

    window: float
    max_age: float


class Setting(NamedTuple):
    """A setting of a topic and the value that a new topic gets.

    `keeps` says whether a value keeps the promises; `breaks` what it breaks otherwise. `suits`
    says whether it is good as well; `lacks` what is wrong with it otherwise. `recent`: brokers
    before Kafka 3.6 do not know it, and refuse to make a topic with it.
    """

    name: str
    value: str
    keeps: Callable[[str], bool] | None = None
    breaks: str = ""
    suits: Callable[[str], bool] | None = None
    lacks: str = ""
    recent: bool = False


class Fault(NamedTuple):
    """A setting of an existing topic that should be another one.

    `serious`: a promise would be broken.
    """

    setting: Setting
    what: str
    serious: bool


def settings_of(
    purpose: Purpose, spans: Spans, sources: Iterable[Mapping[str, str]], replicas: int
) -> list[Setting]:
    """The settings of an own topic.

    Args:
        purpose: What it is for.
        spans: How long its records count.
        sources: The settings of the source topics it belongs to, as far as they are told.
        replicas: How often each of its partitions is kept.
    """
    told = list(sources)
    settings = [_cleanup(purpose)]
    match purpose:
        case Purpose.STATE:
            settings += _state(spans)
        case Purpose.RETRY:
            settings += [
                *_original_times(purpose),
                *_retry_retention(spans, told),
                *_size(purpose, told),
            ]
        case Purpose.DEAD_LETTER:
            settings += [*_original_times(purpose), *_size(purpose, told)]
        case Purpose.RECEIPTS:
            settings.append(_receipt_size())
    if replicas >= _ENOUGH_REPLICAS:
        settings.append(
            Setting(
                "min.insync.replicas",
                "2",
                suits=lambda value: int(value) > 1,
                lacks="what a single broker has acknowledged can be lost with it",
            )
        )
    return settings


def faults(settings: Iterable[Setting], found: Mapping[str, str]) -> Iterator[Fault]:
    """What is wrong with the settings of an existing topic; what is not told is not judged."""
    for setting in settings:
        value = found.get(setting.name)
        if value is None:
            continue
        if setting.keeps is not None and not setting.keeps(value):
            yield Fault(setting, setting.breaks, serious=True)
        elif setting.suits is not None and not setting.suits(value):
            yield Fault(setting, setting.lacks, serious=False)


_COMPACTED: Final = {
    Purpose.STATE: "a compacted topic refuses records without a key",
    Purpose.RETRY: "compaction would delete events that wait",
    Purpose.DEAD_LETTER: "compaction would delete dead letters",
    Purpose.RECEIPTS: "a compacted topic refuses receipts of records without an event_id",
}


def _cleanup(purpose: Purpose) -> Setting:
    return Setting(
        "cleanup.policy", "delete", lambda value: "compact" not in value, _COMPACTED[purpose]
    )


def _state(spans: Spans) -> Iterator[Setting]:
    window_ms = int(spans.window * 1000)
    yield Setting(
        "message.timestamp.type",
        "LogAppendTime",
        lambda value: value == "LogAppendTime",
        "a producer's wrong clock would delete accepted keys before dedup.window has passed",
    )
    yield Setting(
        RETENTION,
        str(window_ms + DAY_MS),
        _at_least(window_ms),
        "accepted keys would be deleted before dedup.window has passed",
        _at_least(window_ms + DAY_MS),
        "accepted keys are kept for less than a day beyond dedup.window",
    )
    yield _any_amount("accepted keys would be deleted because they are many")
    # A segment is deleted as a whole, when the last of it is old enough: short ones keep what has
    # to be read at a takeover near the window.
    segment_ms = max(min(window_ms // 8, 6 * 3600 * 1000), 10 * 60 * 1000)
    yield Setting("segment.ms", str(segment_ms))
    yield Setting(
        SIZE,
        str(_DEFAULT_MESSAGE_BYTES),
        lambda value: int(value) >= STATE_RECORD_BYTES,
        f"it must take records of {STATE_RECORD_BYTES} bytes",
    )


def _original_times(purpose: Purpose) -> Iterator[Setting]:
    """Its records have their originals' timestamps, whatever these are.

    A broker takes none that is more than an hour ahead, unless the topic says so.
    """
    yield Setting(
        "message.timestamp.type",
        "CreateTime",
        None if purpose is Purpose.DEAD_LETTER else lambda value: value == "CreateTime",
        "events that waited would lose their timestamps",
    )
    for end in ("before", "after"):
        yield Setting(f"message.timestamp.{end}.max.ms", _ANY_TIME, recent=True)


def _retry_retention(spans: Spans, sources: Iterable[Mapping[str, str]]) -> Iterator[Setting]:
    """Retention counts from the original's timestamp, which may be older than the event.

    So an event is kept at least as long as its source would have kept it.
    """
    least = int(spans.max_age * 1000) + DAY_MS
    kept = [int(source[RETENTION]) for source in sources if RETENTION in source]
    wanted = -1 if -1 in kept else max([least, *kept])
    yield Setting(
        RETENTION,
        str(wanted),
        _at_least(least),
        "events that wait would be deleted before a day beyond events.max_age has passed",
        _at_least(wanted),
        "events that wait may be deleted earlier than in their source topic",
    )
    yield _any_amount("events that wait would be deleted because they are many")


def _size(purpose: Purpose, sources: Iterable[Mapping[str, str]]) -> Iterator[Setting]:
    sizes = [int(source[SIZE]) for source in sources if SIZE in source]
    if not sizes:
        return
    largest = max(sizes)
    yield Setting(
        SIZE,
        str(largest + HEADROOM),
        lambda value: int(value) >= largest,
        "takes smaller records than its source",
        lambda value: int(value) >= largest + HEADROOM,
        "the largest dead letters lose optional headers"
        if purpose is Purpose.DEAD_LETTER
        else "the largest events wait in memory alone",
    )


def _receipt_size() -> Setting:
    return Setting(
        SIZE,
        str(_DEFAULT_MESSAGE_BYTES),
        lambda value: int(value) >= RECEIPT_BYTES,
        f"it must take records of {RECEIPT_BYTES} bytes",
    )


def _any_amount(breaks: str) -> Setting:
    return Setting("retention.bytes", "-1", lambda value: int(value) < 0, breaks)


def _at_least(least_ms: int) -> Callable[[str], bool]:
    def holds(value: str) -> bool:
        found = int(value)
        return found < 0 or 0 <= least_ms <= found

    return holds
