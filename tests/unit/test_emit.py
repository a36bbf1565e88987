from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from consumer.emit import REPORTS_AT_ONCE, Emitter
from consumer.messages import Acknowledged, Produce
from consumer.produce_errors import failed
from consumer.produce_lanes import TOPIC_BYTES, Lane, hand_over, size_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

FATAL = KafkaError(KafkaError._FATAL, "out of order", True)


class Message(NamedTuple):
    """What is read of a delivery report."""

    at: int | None

    def offset(self) -> int | None:
        """Where the broker wrote the record, if it told."""
        return self.at


class FakeProducer:
    """Reports on each record at the next poll, with the error that its plan has for it.

    Offsets count from 100, in the order of the records that succeed.
    """

    def __init__(
        self, plan: Callable[[str], KafkaError | None] = lambda _: None, capacity: int = 1000
    ) -> None:
        self.produced: list[str] = []
        self.timestamps: list[int] = []
        self.partitions: list[int] = []
        self.next_offset: int | None = 100
        self.refusal: Exception | None = None
        self.broken: Exception | None = None
        self.stuck: set[str] = set()
        self._plan = plan
        self._capacity = capacity
        self._waiting: deque[tuple[str, Any]] = deque()

    def produce(
        self,
        topic: str,
        *_: Any,
        on_delivery: Any = None,
        timestamp: int = 0,
        partition: int = -1,
        **__: Any,
    ) -> None:
        """Queue a record, or raise where the queue is full."""
        if self.refusal is not None:
            raise self.refusal
        if len(self._waiting) >= self._capacity:
            raise BufferError
        self.produced.append(topic)
        self.timestamps.append(timestamp)
        self.partitions.append(partition)
        self._waiting.append((topic, on_delivery))

    def poll(self, timeout: float = 0) -> int:
        """Report on what is queued; raise what is fatal, as the client does."""
        del timeout
        if self.broken is not None:
            raise self.broken
        served, stuck = len(self._waiting), self.stuck  # the test may change it meanwhile
        for _ in range(served):
            topic, on_delivery = self._waiting.popleft()
            if topic in stuck:
                self._waiting.append((topic, on_delivery))
                continue
            error = self._plan(topic)
            on_delivery(error, Message(self.next_offset))
            if error is None and self.next_offset is not None:
                self.next_offset += 1
        return served

    def purge(self) -> None:
        """Report on what is queued as given up."""
        self.broken = None
        while self._waiting:
            _, on_delivery = self._waiting.popleft()
            on_delivery(KafkaError(KafkaError._PURGE_QUEUE), Message(None))


def letters(*topics: str) -> list[Produce]:
    return [Produce(n, topic, None, b"v", (), -1) for n, topic in enumerate(topics)]


class Reports:
    """What an emitter has reported."""

    def __init__(self) -> None:
        self.reports: list[Acknowledged] = []
        self._came = asyncio.Event()

    def take(self, reports: Sequence[Acknowledged]) -> None:
        """Write reports down."""
        self.reports += reports
        self._came.set()

    async def until(self, number: int) -> None:
        """Wait for so many."""
        async with asyncio.timeout(5):
            while len(self.reports) < number:
                self._came.clear()
                await self._came.wait()


@contextlib.asynccontextmanager
async def emitting(
    make: Callable[[dict[str, Any]], FakeProducer], heard: Reports
) -> AsyncIterator[Emitter]:
    emitter = Emitter({}, heard.take, asyncio.get_running_loop(), make)
    emitter.start()
    yield emitter
    assert await emitter.stop(5.0)


async def acknowledged(
    producers: list[FakeProducer], produced: list[Produce]
) -> list[Acknowledged]:
    heard = Reports()
    ahead = iter(producers)
    async with emitting(lambda _: next(ahead), heard) as emitter:
        emitter.produce(produced)
    return heard.reports


def written(*handles: int) -> list[Acknowledged]:
    """Reports with the offsets that a fake producer gives."""
    return [Acknowledged(handle, offset=100 + n) for n, handle in enumerate(handles)]


async def test_a_fatal_producer_is_replaced_and_nothing_is_lost() -> None:
    """What the fatal producer did not deliver goes out through the next one, without a report."""
    first = FakeProducer(lambda topic: FATAL if topic != "a" else None)
    second = FakeProducer()
    reports = await acknowledged([first, second], letters("a", "b", "c"))
    assert reports == [*written(0), *written(1, 2)]
    assert second.produced == ["b", "c"]


async def test_a_producer_that_is_fatal_without_a_report_is_replaced() -> None:
    """The client tells it by an exception out of `poll`, which must not end the thread."""
    first, second = FakeProducer(), FakeProducer()
    first.broken = KafkaException(FATAL)
    assert await acknowledged([first, second], letters("a", "b")) == written(0, 1)


async def test_a_producer_found_fatal_while_queueing_is_replaced() -> None:
    """A record that a fatal producer does not take is not the record's fault."""
    first, second = FakeProducer(), FakeProducer()
    first.refusal = KafkaException(KafkaError(KafkaError._FATAL))
    assert await acknowledged([first, second], letters("a", "b")) == written(0, 1)


async def test_records_that_go_again_keep_their_order_before_those_that_waited() -> None:
    """The order within a partition survives the producer."""
    first = FakeProducer(lambda _: FATAL, capacity=2)
    second = FakeProducer()
    reports = await acknowledged([first, second], letters("a", "a", "a", "a"))
    assert first.produced == ["a", "a"]
    assert reports == written(0, 1, 2, 3)


async def test_a_defect_of_the_thread_is_a_report_for_everything() -> None:
    """Records given before it and after it wait for no report in vain."""
    producer, heard = FakeProducer(), Reports()
    producer.broken = ValueError("a defect")
    async with emitting(lambda _: producer, heard) as emitter:
        emitter.produce(letters("a"))
        await heard.until(1)
        emitter.produce([Produce(7, "a", None, b"v", (), -1)])
        await heard.until(2)
    assert [(a.handle, a.error) for a in heard.reports] == [(0, "retriable"), (7, "retriable")]
    assert "restart" in (heard.reports[1].detail or "")


async def test_a_full_queue_keeps_records_in_order() -> None:
    """What does not fit waits and goes out in the order in which it came."""
    producer = FakeProducer(capacity=1)
    reports = await acknowledged([producer], letters("a", "a", "a", "a"))
    assert reports == written(0, 1, 2, 3)


async def test_a_record_does_not_overtake_one_of_its_topic_that_waits() -> None:
    """Also where it is small enough for the room that the waiting one did not fit into."""
    producer, heard = FakeProducer(), Reports()
    producer.stuck = {"a"}
    async with emitting(lambda _: producer, heard) as emitter:
        for handle, size in enumerate((TOPIC_BYTES * 3 // 4, TOPIC_BYTES // 2, 1)):
            emitter.produce([Produce(handle, "a", None, bytes(size), (), -1)])
        producer.stuck = set()
    assert heard.reports == written(0, 1, 2)


async def test_a_topic_that_takes_nothing_does_not_keep_the_others_out() -> None:
    """Dead letters to a topic that is gone fill their part of the queue, not all of it."""
    producer = FakeProducer()
    producer.stuck = {"gone"}
    heard = Reports()
    large = [Produce(n, "gone", None, bytes(TOPIC_BYTES // 4), (), -1) for n in range(10)]
    async with emitting(lambda _: producer, heard) as emitter:
        emitter.produce(large)
        emitter.produce([Produce(99, "state", None, b"v", (), -1, 3)])
        await heard.until(1)
        assert [a.handle for a in heard.reports] == [99]
        assert producer.produced.count("gone") == 4
        producer.stuck = set()
    assert [a.handle for a in heard.reports] == [99, *range(10)]


async def test_a_record_goes_to_its_partition_or_by_its_key() -> None:
    """No partition is the client's -1: the key decides."""
    producer = FakeProducer()
    await acknowledged([producer], [letters("a")[0], Produce(1, "a", None, b"v", (), -1, 5)])
    assert producer.partitions == [-1, 5]


async def test_an_offset_that_is_not_told_is_none() -> None:
    """A broker that had the record already says so without an offset."""
    producer = FakeProducer()
    producer.next_offset = None
    assert await acknowledged([producer], letters("a")) == [Acknowledged(0)]
    producer = FakeProducer()
    producer.next_offset = -1001
    assert await acknowledged([producer], letters("a")) == [Acknowledged(0)]


async def test_many_reports_reach_the_loop_in_slices_and_in_order() -> None:
    """The loop gets its turn between them, and a stop waits for the last of them."""
    sizes: list[int] = []
    reports: list[Acknowledged] = []

    def take(some: Sequence[Acknowledged]) -> None:
        time.sleep(0.02)  # a loop that is busy: the thread has ended meanwhile
        sizes.append(len(some))
        reports.extend(some)

    emitter = Emitter({}, take, asyncio.get_running_loop(), lambda _: FakeProducer())
    emitter.start()
    emitter.produce(letters(*["a"] * 1000))
    assert await emitter.stop(5.0)
    assert reports == written(*range(1000))
    assert max(sizes) <= REPORTS_AT_ONCE


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, "too_large", ""),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "retriable", "right to write"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "retriable", "create the topic again"),
        (KafkaError._UNKNOWN_TOPIC, "retriable", "create the topic again"),
        (KafkaError.NOT_ENOUGH_REPLICAS, "retriable", "min.insync.replicas"),
        (KafkaError._MSG_TIMED_OUT, "retriable", "written or not"),
        (KafkaError.KAFKA_STORAGE_ERROR, "retriable", "KAFKA_STORAGE_ERROR"),
    ],
)
async def test_an_error_is_a_report_of_its_kind(code: int, kind: str, advice: str) -> None:
    """Only a record's size is its own fault; whatever else goes wrong, it is tried again."""
    producer = FakeProducer(lambda topic: KafkaError(code) if topic == "b" else None)
    first, second = await acknowledged([producer], letters("a", "b"))
    assert first == Acknowledged(0, offset=100)
    assert (second.handle, second.error, second.offset) == (1, kind, None)
    assert (second.detail or "").startswith("b: ")
    assert advice in (second.detail or "")


async def test_what_is_refused_before_it_is_queued_is_a_report() -> None:
    """A partition that is known not to exist; its neighbours have theirs."""
    producer = FakeProducer()
    producer.refusal = KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
    (report,) = await acknowledged([producer], [Produce(1, "a", None, b"v", (), -1, 9)])
    assert report.error == "retriable"
    assert (report.detail or "").startswith("a/9: _UNKNOWN_PARTITION: ")


async def test_a_time_that_the_broker_refuses_is_left_out() -> None:
    """A record from the future must not hold its partition until that future has come."""
    refusals = iter([KafkaError(KafkaError.INVALID_TIMESTAMP), None])
    producer = FakeProducer(lambda _: next(refusals))
    (letter,) = letters("a")
    assert await acknowledged([producer], [letter._replace(timestamp=2**61)]) == written(0)
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


def test_a_report_says_nothing_of_the_record() -> None:
    """Key, value and headers are a person's data; the topic and the error are not."""
    record = Produce(1, "t", b"CANARY", b"CANARY", (("CANARY", b"CANARY"),), -1, 2)
    for name in ("_MSG_TIMED_OUT", "WHATEVER", "MSG_SIZE_TOO_LARGE"):
        report = failed(record, name, "_TRANSPORT")
        assert "CANARY" not in repr(report)
        assert (report.detail or "").endswith("(_TRANSPORT)")


@given(
    sizes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, TOPIC_BYTES * 2)), max_size=40),
    room=st.integers(0, 30),
)
def test_lanes_keep_their_order_and_their_bounds(sizes: list[tuple[int, int]], room: int) -> None:
    """Each topic goes in order, above its bound only with one record, and as far as there is room.

    What is left waits because its topic or the whole queue is full.
    """
    lanes = {topic: Lane() for topic in "abcd"}
    sent: dict[str, list[int]] = {topic: [] for topic in lanes}
    for n, (which, size) in enumerate(sizes):
        topic = "abcd"[which]
        lanes[topic].backlog.append(Produce(n, topic, None, bytes(size), (), -1))

    def give(lane: Lane, record: Produce) -> bool:
        if sum(map(len, sent.values())) >= room or not lane.takes(size_of(record)):
            return False
        lane.given += size_of(record)
        sent[record.topic].append(record.handle)
        return True

    hand_over(list(lanes.values()), give)
    full = sum(map(len, sent.values())) >= room
    for topic, lane in lanes.items():
        given = [n for n, (which, _) in enumerate(sizes) if "abcd"[which] == topic]
        assert sent[topic] + [record.handle for record in lane.backlog] == given
        assert lane.given <= TOPIC_BYTES or len([n for n in sent[topic] if sizes[n][1]]) == 1
        if lane.backlog:
            assert full or not lane.takes(size_of(lane.backlog[0]))
