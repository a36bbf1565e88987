from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError

from consumer.emit import Emitter
from consumer.messages import Acknowledged, Produce

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeProducer:
    """Reports on each record at the next poll, with the error that its plan has for it."""

    def __init__(self, plan: Callable[[str], KafkaError | None], capacity: int = 1000) -> None:
        self.produced: list[str] = []
        self.timestamps: list[int] = []
        self._plan = plan
        self._capacity = capacity
        self._waiting: list[tuple[str, Any]] = []

    def produce(
        self, topic: str, *_: Any, on_delivery: Any = None, timestamp: int = 0, **__: Any
    ) -> None:
        """Queue a record, or raise where the queue is full."""
        if len(self._waiting) >= self._capacity:
            raise BufferError
        self.produced.append(topic)
        self.timestamps.append(timestamp)
        self._waiting.append((topic, on_delivery))

    def poll(self, timeout: float = 0) -> int:
        """Report on what is queued."""
        del timeout
        waiting, self._waiting = self._waiting, []
        for topic, on_delivery in waiting:
            on_delivery(self._plan(topic), None)
        return len(waiting)

    def purge(self) -> None:
        """Report on what is queued as given up."""
        for _, on_delivery in self._waiting:
            on_delivery(KafkaError(KafkaError._PURGE_QUEUE), None)
        self._waiting = []


def letters(*topics: str) -> list[Produce]:
    return [Produce(n, topic, None, b"v", (), -1) for n, topic in enumerate(topics)]


async def acknowledged(
    producers: list[FakeProducer], produced: list[Produce]
) -> list[Acknowledged]:
    reports: list[Acknowledged] = []
    ahead = iter(producers)
    emitter = Emitter({}, reports.extend, asyncio.get_running_loop(), lambda _: next(ahead))
    emitter.start()
    emitter.produce(produced)
    assert await emitter.stop(5.0)
    return sorted(reports)


async def test_a_fatal_producer_is_replaced_and_nothing_is_lost() -> None:
    """What the fatal producer did not deliver goes out through the next one, without a report."""
    fatal = KafkaError(KafkaError._FATAL, "out of order", True)
    first = FakeProducer(lambda topic: fatal if topic != "a" else None)
    second = FakeProducer(lambda _: None)
    reports = await acknowledged([first, second], letters("a", "b", "c"))
    assert reports == [Acknowledged(n) for n in range(3)]
    assert sorted(second.produced) == ["b", "c"]


async def test_a_full_queue_keeps_records_in_order() -> None:
    """What does not fit waits and goes out in the order in which it came."""
    producer = FakeProducer(lambda _: None, capacity=1)
    reports = await acknowledged([producer], letters("a", "b", "c", "d"))
    assert producer.produced == ["a", "b", "c", "d"]
    assert reports == [Acknowledged(n) for n in range(4)]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, "too_large"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "retriable"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "retriable"),
        (KafkaError._MSG_TIMED_OUT, "retriable"),
    ],
)
async def test_an_error_is_a_report_of_its_kind(code: int, kind: str) -> None:
    """Only a record's size is its own fault; whatever else goes wrong, it is tried again."""
    producer = FakeProducer(lambda topic: KafkaError(code) if topic == "b" else None)
    first, second = await acknowledged([producer], letters("a", "b"))
    assert first == Acknowledged(0)
    assert (second.handle, second.error) == (1, kind)


async def test_a_time_that_the_broker_refuses_is_left_out() -> None:
    """A record from the future must not hold its partition until that future has come."""
    refusals = iter([KafkaError(KafkaError.INVALID_TIMESTAMP), None])
    producer = FakeProducer(lambda _: next(refusals))
    (letter,) = letters("a")
    assert await acknowledged([producer], [letter._replace(timestamp=2**61)]) == [Acknowledged(0)]
    assert producer.timestamps == [2**61, 0]


async def test_neighbours_of_a_refused_time_keep_theirs() -> None:
    """The broker refuses a batch as a whole: a time of the past is tried again as it is."""
    producer = FakeProducer(lambda _: KafkaError(KafkaError.INVALID_TIMESTAMP))
    (report,) = await acknowledged([producer], [letters("a")[0]._replace(timestamp=1)])
    assert report.error == "retriable"
    assert producer.timestamps == [1]


async def test_a_record_without_a_time_is_refused_once() -> None:
    """What was given no time any more and is refused again is a report, not a loop."""
    producer = FakeProducer(lambda _: KafkaError(KafkaError.INVALID_TIMESTAMP))
    (report,) = await acknowledged([producer], [letters("a")[0]._replace(timestamp=2**61)])
    assert report.error == "retriable"
    assert producer.timestamps == [2**61, 0]
