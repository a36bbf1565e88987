"""Fetches the state partitions that are asked for; everything here runs on the reader's thread.

It has the group's id but is no member: it is given partitions by hand, never joins, never commits.
What is fetched ahead of a chunk waits here, within bounds, so that the next one needs no seek.

Transactions are not waited for (`read_uncommitted`). None of ours are in the state topic, and a
stranger's that was left open would hide our own records behind it for as long as it stays open.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumer.kafka_errors import POSITION_ERRORS, refused_properties
from consumer.kafka_properties import state_reader_properties
from consumer.log_ends import log_ends
from consumer.messages import StateRecord
from consumer.state_chunks import PartitionReading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import KafkaError

    from consumer.event import TopicPartition
    from consumer.messages import ReadState, StateChunk

PATIENCE: Final = 10.0
"""Seconds after which a read that the broker does not answer fails."""

AHEAD_BYTES: Final = 2 << 20
"""What is fetched of a partition that nobody asks for just now, before fetching it stops."""

IDLE: Final = 5.0
"""Seconds after which a partition that nobody asks for is let go."""

_WAIT_FOR_RECORDS: Final = 0.01
_RECORDS_AT_ONCE: Final = 256
_QUIET: Final = 1.0
_ASK_TIMEOUT: Final = 1.0
_ASK_PAUSE: Final = 0.25
_ASK_PAUSE_MAX: Final = 2.0

_FOUND: Final = "LEADER_NOT_AVAILABLE"
_GONE: Final = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION"})
_HOPELESS: Final[Mapping[str, str]] = {
    **dict.fromkeys(_GONE, "does not exist: restart the consumer, or create the topic again"),
    "TOPIC_AUTHORIZATION_FAILED": "grant the principal the right to describe and read the topic",
}
"""Errors that going on does not cure, and what does: the read fails at once."""


@dataclass(slots=True)
class _Partition:
    """A partition that is being read. Times are monotonic, in seconds.

    `fetched` tells whether librdkafka has it. `since` is when it was last asked for or answered.
    The broker may be asked for the log's ends from `ask_at` on; `pause` is what is waited when it
    does not answer. `trouble` is the last error.
    """

    tp: TopicPartition
    reading: PartitionReading
    since: float
    fetched: bool = False
    ask_at: float = 0.0
    pause: float = _ASK_PAUSE
    trouble: str | None = None


class StateFetcher:
    """The consumer, and how far each partition is. See `StateReader` for the answers.

    Raises:
        ConfigError: librdkafka refused a property.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        group_id: str,
        answer: Callable[[ReadState, StateChunk], None],
        fail: Callable[[ReadState, str], None],
        *,
        patience: float = PATIENCE,
    ) -> None:
        self._answer = answer
        self._fail = fail
        self._patience = patience
        self._partitions: dict[tuple[str | None, int | None], _Partition] = {}
        self._ask_after = 0.0
        self._trouble: str | None = None
        config: dict[str, object] = {
            **state_reader_properties(properties, group_id),
            "error_cb": self._on_error,
            "logger": logging.getLogger("consumer.kafka"),
        }
        try:
            self._consumer = Consumer(config)
        except (KafkaException, ValueError, TypeError) as error:
            raise refused_properties(error) from None

    @property
    def may_wait(self) -> float:
        """How long nothing needs to be done if nothing is asked for, in seconds."""
        asked = [p for p in self._partitions.values() if p.reading.read is not None]
        if not asked:
            return _QUIET
        return 0.0 if any(p.fetched for p in asked) else _WAIT_FOR_RECORDS

    def begin(self, read: ReadState) -> None:
        """Take a read; it goes on where the last one ended, or begins anew elsewhere."""
        now = time.monotonic()
        partition = self._partitions.get(read.tp)
        if partition is not None and partition.reading.goes_on_with(read):
            partition.reading.read = read
            partition.since = now
        else:
            self.forget(read.tp)
            self._partitions[read.tp] = _Partition(read.tp, PartitionReading(read), now)

    def forget(self, tp: TopicPartition) -> None:
        """Read a partition no further."""
        partition = self._partitions.pop(tp, None)
        if partition is not None:
            self._let_go(partition)

    def step(self) -> None:
        """Answer what can be answered and fetch what comes, for a few milliseconds."""
        now = time.monotonic()
        for partition in list(self._partitions.values()):
            self._advance(partition, now)
        self._fetch()

    def close(self) -> None:
        """Let everything go."""
        self._partitions.clear()
        self._consumer.close()

    # One partition

    def _advance(self, partition: _Partition, now: float) -> None:
        reading, read = partition.reading, partition.reading.read
        if read is None:
            if now - partition.since > IDLE:
                self.forget(partition.tp)
            elif partition.fetched and reading.buffered > AHEAD_BYTES:
                self._let_go(partition)
            return
        if reading.needs_ends and now >= max(partition.ask_at, self._ask_after):
            self._ask_for_ends(partition)
            if self._partitions.get(partition.tp) is not partition:
                return
        chunk = reading.chunk()
        if chunk is not None:
            partition.since, partition.trouble = now, None
            if chunk.next_offset >= read.end:
                self.forget(partition.tp)
            self._answer(read, chunk)
        elif now - partition.since > self._patience:
            why = partition.trouble or self._trouble or "it said nothing"
            self._give_up(partition, f"the broker has not answered in {self._patience:g} s ({why})")
        elif (
            not partition.fetched and reading.wants_records and reading.buffered <= AHEAD_BYTES // 2
        ):
            start = KafkaPartition(*partition.tp, reading.position)
            self._consumer.incremental_assign([start])
            partition.fetched = True

    def _ask_for_ends(self, partition: _Partition) -> None:
        """Ask the broker where the log begins and ends. Blocks, for a second at most.

        A leader that is away answers nobody: after a question in vain some time goes to those
        partitions that can be read.
        """
        try:
            low, high = log_ends(self._consumer, partition.tp, _ASK_TIMEOUT)
        except KafkaException as error:
            self._hear(partition, error.args[0])
            now = time.monotonic()
            partition.ask_at = now + partition.pause
            partition.pause = min(2 * partition.pause, _ASK_PAUSE_MAX)
            self._ask_after = now + _ASK_PAUSE
        else:
            partition.reading.told_ends(low, high)
            partition.ask_at, partition.pause = time.monotonic() + _ASK_PAUSE, _ASK_PAUSE
            self._trouble = None

    def _let_go(self, partition: _Partition) -> None:
        """Take a partition from librdkafka; what is buffered of it stays."""
        if partition.fetched:
            partition.fetched = False
            self._consumer.incremental_unassign([KafkaPartition(*partition.tp)])

    def _give_up(self, partition: _Partition, why: str) -> None:
        """End the read of a partition, and with it all that is known: the next one begins anew."""
        self.forget(partition.tp)
        if partition.reading.read is not None:
            self._fail(partition.reading.read, f"{partition.tp[0]}/{partition.tp[1]}: {why}")

    # What comes of all partitions

    def _fetch(self) -> None:
        waited_for = any(
            p.fetched and p.reading.read is not None for p in self._partitions.values()
        )
        messages = self._consumer.consume(1, _WAIT_FOR_RECORDS if waited_for else 0.0)
        if messages:
            self._trouble = None
            messages += self._consumer.consume(_RECORDS_AT_ONCE, 0.0)
        for message in messages:
            partition = self._partitions.get((message.topic(), message.partition()))
            offset, error = message.offset(), message.error()
            if partition is None or not partition.fetched or offset is None:
                continue
            if error is None:
                _, timestamp = message.timestamp()
                partition.reading.take(StateRecord(offset, timestamp, message.value()))
            elif error.name() == "_PARTITION_EOF":
                partition.reading.reached_end(offset)
            elif error.name() in POSITION_ERRORS or error.name() in _GONE:
                self._let_go(partition)
                partition.reading.lose_position()
                partition.ask_at = time.monotonic() + _ASK_PAUSE
            else:
                self._hear(partition, error)

    def _hear(self, partition: _Partition, error: KafkaError) -> None:
        """Note what is wrong with a partition; where going on is no use, end its read."""
        partition.trouble = error.name()
        if partition.trouble in _GONE:
            partition.trouble = self._look_up(partition.tp, partition.trouble)
        why = _HOPELESS.get(partition.trouble)
        if why is not None:
            self._give_up(partition, f"{partition.trouble}: {why}")

    def _look_up(self, tp: TopicPartition, error: str) -> str:
        """What is wrong with a partition that is said not to exist, by the broker's own word.

        librdkafka says it of one that has no leader just now, too, and of one that the topic was
        given since the client looked last. Blocks as `_ask_for_ends` does.
        """
        try:
            topic = self._consumer.list_topics(tp.topic, timeout=_ASK_TIMEOUT).topics.get(tp.topic)
        except KafkaException as failure:
            return str(failure.args[0].name())
        if topic is None or topic.error is not None:
            return error if topic is None else topic.error.name()
        found = topic.partitions.get(tp.partition)
        if found is None:
            return error
        return found.error.name() if found.error is not None else _FOUND

    def _on_error(self, error: KafkaError) -> None:
        # librdkafka logs it and tries again by itself.
        self._trouble = error.name()
