"""Where the log of a partition begins and ends, by the broker's word.

Not by `get_watermark_offsets`: that sends two questions and takes the answers as they come, and
where the one for the start fails in passing (a leader that moved), it reports the end as the start
as well, without an error. Every record would seem to have been deleted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from consumer.event import TopicPartition

_EARLIEST: Final = -2
_LATEST: Final = -1
"""Kafka's ListOffsets takes these in the place of a time."""

_TIMED_OUT: Final = KafkaError._TIMED_OUT  # noqa: SLF001  the client's public name for the code


def log_ends(consumer: Consumer, tp: TopicPartition, timeout: float) -> tuple[int, int]:
    """The offset of the first record, and of the one that is still to come; equal in an empty log.

    With `isolation.level: read_committed` the end is that of the committed records. Blocks for
    `timeout` seconds at most.

    Raises:
        KafkaException: There is no answer, or an error for an answer; `args[0]` is a `KafkaError`.
    """
    deadline = time.monotonic() + timeout
    low = _offset(consumer, tp, _EARLIEST, timeout)
    return low, _offset(consumer, tp, _LATEST, max(deadline - time.monotonic(), 0.0))


def _offset(consumer: Consumer, tp: TopicPartition, which: int, timeout: float) -> int:
    asked = KafkaPartition(tp.topic, tp.partition, which)
    (answer,) = consumer.offsets_for_times([asked], timeout=timeout)
    if answer.error is not None:
        raise KafkaException(answer.error)
    if answer.offset < 0:
        raise KafkaException(KafkaError(_TIMED_OUT))
    return answer.offset
