"""Asks the broker what `position` needs to know: committed offsets and the ends of the logs."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumer.commit_metadata import decode, is_of_another_topic
from consumer.kafka_errors import MISSING_TOPIC_ERRORS
from consumer.log_ends import log_ends
from consumer.position import TRUNCATED, At, Earliest, Latest, Position, start_position

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import Consumer, KafkaError

    from consumer.event import TopicPartition
    from consumer.source_events import StartTime

_log = logging.getLogger(__name__)

POSITION_UNKNOWN: Final = "position_unknown"
"""Hold reason: the broker has not said yet where this partition begins or where the group stood."""

_REQUEST_TIMEOUT: Final = 5.0
_LOG_TIMEOUT: Final = 2.0
_RETRY_AFTER: Final = 0.2
_LITTLE_PATIENCE: Final = 1.0


class Found(NamedTuple):
    """What the broker said of one partition, and where to read it from.

    `committed` is None where the group has no offset, and meaningless while the position is held
    as unknown. `high` is the log end.
    """

    position: Position
    committed: int | None = None
    metadata: str = ""
    high: int = 0

    @property
    def unknown(self) -> bool:
        """Whether the broker has not said it yet."""
        return self.position.hold == POSITION_UNKNOWN


_NOT_FOUND: Final = Found(Position(0, hold=POSITION_UNKNOWN))


class PositionFinder:
    """Finds where partitions are to be read from; blocks, so it lives on a consumer's thread.

    The consumer needs no membership: its group id is enough to ask for committed offsets. Where
    topics `may_be_missing`, what is not there is not waited for, and the rest not for long.
    """

    def __init__(
        self,
        consumer: Consumer,
        start: Earliest | Latest | StartTime,
        *,
        may_be_missing: bool = False,
    ) -> None:
        self._consumer = consumer
        self._start = start
        self._may_be_missing = may_be_missing
        self._missing: set[TopicPartition] = set()

    def find(
        self,
        partitions: Iterable[TopicPartition],
        bindings: Mapping[str, bytes],
        deadline: float,
    ) -> dict[TopicPartition, Found]:
        """Find the positions of partitions that the group does not stand at yet.

        `bindings` ties topics to commit metadata, as far as the broker tells their ids.

        A partition whose position the broker does not tell by the `deadline` (monotonic seconds)
        is held as `POSITION_UNKNOWN`: an assignment must not block the group for as long as a
        broker is away.
        """
        found = dict.fromkeys(partitions, _NOT_FOUND)
        wanted = list(found)
        if self._may_be_missing:
            deadline = min(deadline, time.monotonic() + _LITTLE_PATIENCE)
        while wanted:
            self._missing.clear()
            found |= self._find_once(wanted, bindings, deadline)
            wanted = [tp for tp in wanted if found[tp].unknown and tp not in self._missing]
            if not wanted or time.monotonic() + _RETRY_AFTER > deadline:
                break
            time.sleep(_RETRY_AFTER)
        return found

    def _find_once(
        self, wanted: list[TopicPartition], bindings: Mapping[str, bytes], deadline: float
    ) -> dict[TopicPartition, Found]:
        found: dict[TopicPartition, Found] = {}
        try:
            committed = self._committed(wanted, deadline)
        except KafkaException as error:
            _log.warning("The broker does not tell where the group stood: %s", error.args[0])
            return found
        for tp, stood in committed.items():
            try:
                found[tp] = self._found(tp, stood, bindings.get(tp.topic), deadline)
            except KafkaException as exception:
                # A partition without a leader says nothing about the others.
                self._tell(tp, exception.args[0])
                if time.monotonic() > deadline:
                    break
        return found

    def move(self, tp: TopicPartition, wanted: int, timeout: float) -> tuple[Position, int]:
        """Say where to go on when reading had got to `wanted`; the second value is the log end.

        Raises:
            KafkaException: The broker did not answer within `timeout` seconds.
        """
        low, high = self._watermarks(tp, time.monotonic() + timeout)
        return start_position(wanted, low, high, Earliest()), high

    def log_end(self, tp: TopicPartition, timeout: float) -> int:
        """The offset that the partition's next record will get.

        Raises:
            KafkaException: The broker did not answer within `timeout` seconds.
        """
        return self._watermarks(tp, time.monotonic() + timeout)[1]

    def _committed(
        self, partitions: list[TopicPartition], deadline: float
    ) -> dict[TopicPartition, tuple[int | None, str]]:
        asked = [KafkaPartition(tp.topic, tp.partition) for tp in partitions]
        answers = self._consumer.committed(asked, timeout=_remaining(deadline))
        committed: dict[TopicPartition, tuple[int | None, str]] = {}
        for tp, answer in zip(partitions, answers, strict=True):
            if answer.error is not None:
                self._tell(tp, answer.error)
            else:
                offset = answer.offset if answer.offset >= 0 else None
                committed[tp] = (offset, answer.metadata or "")
        return committed

    def _tell(self, tp: TopicPartition, error: KafkaError) -> None:
        if self._may_be_missing and error.name() in MISSING_TOPIC_ERRORS:
            self._missing.add(tp)
        else:
            _log.warning("No position of %s/%d: %s", *tp, error)

    def _found(
        self,
        tp: TopicPartition,
        committed: tuple[int | None, str],
        bound_to: bytes | None,
        deadline: float,
    ) -> Found:
        offset, metadata = committed
        low, high = self._watermarks(tp, deadline)
        if bound_to is not None and is_of_another_topic(metadata, bound_to):
            _log.warning("%s was deleted and made again: %s/%d begins at its start", tp[0], *tp)
            return Found(Position(low), None, "", high)
        start: Earliest | Latest | At
        if isinstance(self._start, Earliest | Latest) or offset is not None:
            start = self._start if isinstance(self._start, Latest) else Earliest()
        else:
            start = At(self._at_time(tp, self._start.timestamp_ms, high, deadline))
        position = start_position(offset, low, high, start)
        if offset is not None and _settled_above(high, offset, metadata, bound_to):
            position = Position(offset, hold=TRUNCATED)
        return Found(position, offset, metadata, high)

    def _watermarks(self, tp: TopicPartition, deadline: float) -> tuple[int, int]:
        return log_ends(self._consumer, tp, min(_remaining(deadline), _LOG_TIMEOUT))

    def _at_time(self, tp: TopicPartition, timestamp_ms: int, high: int, deadline: float) -> int:
        asked = [KafkaPartition(tp.topic, tp.partition, timestamp_ms)]
        (answer,) = self._consumer.offsets_for_times(asked, timeout=_remaining(deadline))
        if answer.error is not None:
            raise KafkaException(answer.error)
        # No record is that young: begin with the next one.
        return answer.offset if answer.offset >= 0 else high


def _settled_above(high: int, committed: int, metadata: str, bound_to: bytes | None) -> bool:
    """Whether records above the log end were settled: it has lost some, as with a lost offset."""
    spans = () if bound_to is None else decode(metadata, committed, bound_to)
    return bool(spans) and spans[-1].end > high


def _remaining(deadline: float) -> float:
    return min(max(deadline - time.monotonic(), 0.1), _REQUEST_TIMEOUT)
