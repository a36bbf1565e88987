"""Where a log begins and ends, on the embedded broker, on a real Kafka, and with faults."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from consumer.event import Record, TopicPartition
from consumer.log_ends import log_ends
from consumer.sandbox.broker import EmbeddedBroker
from tests.support.clusters import Cluster, Embedded, Real
from tests.support.faulty_broker import FaultyBroker, Request
from tests.support.raw_producer import TransactionalProducer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.kafka import RealKafka

_NUMBERS = itertools.count()
READ_COMMITTED = {"isolation.level": "read_committed"}


@pytest.fixture(params=["embedded", "real"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if request.param == "real":
        yield Real(request.getfixturevalue("kafka"))
    else:
        with EmbeddedBroker() as broker:
            yield Embedded(broker)


@contextlib.contextmanager
def consuming(bootstrap_servers: str, **properties: str) -> Iterator[Consumer]:
    properties |= {"isolation.level": properties.get("isolation.level", "read_uncommitted")}
    consumer = Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": "g", "log_level": 0, **properties}
    )
    try:
        yield consumer
    finally:
        consumer.close()


def write(cluster: Cluster | RealKafka, tp: TopicPartition, number: int) -> None:
    cluster.produce(tp.topic, [Record(*tp, 0, -1, None, b"%d" % n, ()) for n in range(number)])


def becomes(consumer: Consumer, tp: TopicPartition, ends: tuple[int, int]) -> bool:
    """Whether these are the ends within seconds: leaders and markers come a moment later."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        with contextlib.suppress(KafkaException):
            if log_ends(consumer, tp, 5.0) == ends:
                return True
        time.sleep(0.05)
    return False


def test_the_ends_of_an_empty_log_and_of_a_full_one(cluster: Cluster) -> None:
    """Equal in an empty one; else the first record's offset, and the next one to be written."""
    tp = TopicPartition(f"ends-{next(_NUMBERS)}", 2)
    cluster.create(tp.topic)
    with consuming(cluster.bootstrap_servers) as consumer:
        assert becomes(consumer, tp, (0, 0))
        write(cluster, tp, 7)
        assert log_ends(consumer, tp, 5.0) == (0, 7)


def test_the_ends_move_with_retention_and_stop_before_open_transactions(kafka: RealKafka) -> None:
    """For a reader of committed records the log ends where a transaction is still open."""
    tp = TopicPartition(kafka.create_topic(f"ends-{next(_NUMBERS)}"), 1)
    write(kafka, tp, 7)
    kafka.delete_records(tp.topic, {1: 3})
    transactions = TransactionalProducer(kafka.bootstrap_servers, *tp)
    transactions.begin([b"open"])
    with (
        consuming(kafka.bootstrap_servers) as everything,
        consuming(kafka.bootstrap_servers, **READ_COMMITTED) as committed,
    ):
        assert log_ends(everything, tp, 5.0) == (3, 8)
        assert log_ends(committed, tp, 5.0) == (3, 7)
        transactions.commit()
        assert becomes(committed, tp, (3, 9))


def test_a_partition_that_does_not_exist_has_no_ends(kafka: RealKafka) -> None:
    """An error, and no made-up pair."""
    with consuming(kafka.bootstrap_servers) as consumer:
        for tp in (
            TopicPartition("ends-none", 0),
            TopicPartition(kafka.create_topic(f"ends-{next(_NUMBERS)}"), 99),
        ):
            with pytest.raises(KafkaException) as caught:
                log_ends(consumer, tp, 5.0)
            assert isinstance(caught.value.args[0], KafkaError)


@pytest.mark.parametrize(
    "error",
    [
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TRANSPORT,
    ],
)
def test_a_question_that_fails_is_an_error_and_never_a_wrong_end(error: int) -> None:
    """A full log must not look like one whose records were all deleted."""
    with FaultyBroker() as broker:
        tp = TopicPartition(broker.create("ends"), 0)
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        for _ in range(7):
            producer.produce(tp.topic, b"v", partition=tp.partition)
        assert not producer.flush(15)
        with consuming(broker.bootstrap_servers) as consumer:
            assert log_ends(consumer, tp, 5.0) == (0, 7)
            answered = 0
            for failing in range(12):
                broker.refuse(Request.LIST_OFFSETS, *[error] * (failing % 3))
                try:
                    assert log_ends(consumer, tp, 2.0) == (0, 7)
                    answered += 1
                except KafkaException:
                    broker.relent(Request.LIST_OFFSETS)
            assert answered >= 4 or error == KafkaError._TRANSPORT


def test_a_late_answer_is_none() -> None:
    """The caller is not kept for longer than it said."""
    with FaultyBroker() as broker:
        tp = TopicPartition(broker.create("ends"), 0)
        with consuming(broker.bootstrap_servers) as consumer:
            assert becomes(consumer, tp, (0, 0))
            broker.answer_late(Request.LIST_OFFSETS, 1500)
            with pytest.raises(KafkaException) as caught:
                log_ends(consumer, tp, 0.3)
            assert caught.value.args[0].name() == "_TIMED_OUT"
