from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, cast

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumer.commit_metadata import Span, binding, encode
from consumer.event import TopicPartition
from consumer.position import TRUNCATED, Earliest, Latest, Position
from consumer.source_positions import POSITION_UNKNOWN, Found, PositionFinder

if TYPE_CHECKING:
    import pytest
    from confluent_kafka import Consumer

TPS = [TopicPartition("t", number) for number in range(3)]
EARLIEST = -2
UNKNOWN = Found(Position(0, hold=POSITION_UNKNOWN))


class FakeConsumer:
    """Logs from 3 to 9; the group stands at 5. `refused` says what is answered how often with."""

    def __init__(self, refused: dict[TopicPartition, list[int]] | None = None) -> None:
        self.refused = refused or {}
        self.metadata = ""
        self.asked: list[TopicPartition] = []

    def committed(self, asked: list[KafkaPartition], timeout: float) -> list[KafkaPartition]:
        """Where the group stands."""
        assert timeout > 0
        return [KafkaPartition(p.topic, p.partition, 5, self.metadata) for p in asked]

    def offsets_for_times(
        self, asked: list[KafkaPartition], timeout: float
    ) -> list[KafkaPartition]:
        """The start (-2) or the end (-1) of a log, or the next planned error."""
        assert timeout > 0
        (partition,) = asked
        tp = TopicPartition(partition.topic, partition.partition)
        if partition.offset == EARLIEST:
            self.asked.append(tp)
        if errors := self.refused.get(tp):
            raise KafkaException(KafkaError(errors.pop(0)))
        return [KafkaPartition(*tp, 3 if partition.offset == EARLIEST else 9)]


def find(
    consumer: FakeConsumer, seconds: float = 1.0, *, may_be_missing: bool = False
) -> dict[TopicPartition, Found]:
    finder = PositionFinder(cast("Consumer", consumer), Latest(), may_be_missing=may_be_missing)
    return finder.find(TPS, {}, time.monotonic() + seconds)


def test_a_partition_without_a_leader_keeps_no_other_from_being_found() -> None:
    """It is held alone, whatever the order in which they are asked for."""
    consumer = FakeConsumer({TPS[0]: [KafkaError.LEADER_NOT_AVAILABLE] * 99})
    assert find(consumer, 0.3) == {
        TPS[0]: UNKNOWN,
        TPS[1]: Found(Position(5), 5, "", 9),
        TPS[2]: Found(Position(5), 5, "", 9),
    }


def test_what_is_not_told_at_first_is_asked_for_again() -> None:
    """A leader is elected in a moment; only the rest is asked for."""
    consumer = FakeConsumer({TPS[1]: [KafkaError.LEADER_NOT_AVAILABLE]})
    assert {found.position for found in find(consumer).values()} == {Position(5)}
    assert consumer.asked == [*TPS, TPS[1]]


def test_a_topic_that_may_be_missing_is_asked_for_again_where_it_is_not() -> None:
    """A leader that has moved tells itself in a moment."""
    consumer = FakeConsumer({TPS[1]: [KafkaError.FENCED_LEADER_EPOCH]})
    found = find(consumer, may_be_missing=True)
    assert {one.position for one in found.values()} == {Position(5)}


def test_a_topic_that_may_be_missing_is_not_waited_for_nor_complained_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An assignment must not wait for it: it is looked for again later."""
    consumer = FakeConsumer({tp: [KafkaError._UNKNOWN_PARTITION] * 9 for tp in TPS})
    with caplog.at_level(logging.WARNING):
        assert find(consumer, may_be_missing=True) == dict.fromkeys(TPS, UNKNOWN)
    assert consumer.asked == TPS
    assert caplog.records == []


def test_an_offset_in_a_topic_of_the_same_name_that_is_no_more_means_nothing() -> None:
    """Its metadata tells: the topic of today is read from its start."""
    consumer = FakeConsumer()
    consumer.metadata = encode(5, [], binding("cluster", "before"))
    finder = PositionFinder(cast("Consumer", consumer), Earliest())
    today = {"t": binding("cluster", "today")}
    found = finder.find(TPS, today, time.monotonic() + 1.0)
    assert found == dict.fromkeys(TPS, Found(Position(3), None, "", 9))


def test_a_log_that_ends_below_what_was_settled_is_truncated() -> None:
    """Also where the committed offset is still there: its metadata tells of records above."""
    consumer = FakeConsumer()
    bound_to = binding("cluster", "topic")
    for end, hold in ((9, None), (10, TRUNCATED)):
        consumer.metadata = encode(5, [Span(7, end)], bound_to)
        finder = PositionFinder(cast("Consumer", consumer), Latest())
        found = finder.find(TPS[:1], {"t": bound_to}, time.monotonic() + 1.0)
        assert found[TPS[0]].position == Position(5, hold=hold)
