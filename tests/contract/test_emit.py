"""The emitter does the same on the embedded broker and on a real Kafka."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, the stubs forget it
    AdminClient,
    NewPartitions,
)

from consumer.messages import Acknowledged, Produce
from consumer.sandbox.broker import EmbeddedBroker
from tests.support.clusters import PARTITIONS, Cluster, Embedded, Real
from tests.support.emitting import emitted, emitting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.event import Headers
    from tests.support.kafka import RealKafka

_NUMBERS = itertools.count()
_SOON = {
    "topic.metadata.propagation.max.ms": "1000",
    "topic.metadata.refresh.interval.ms": "500",
}


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(params=["embedded", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    if request.param == "embedded":
        return Embedded(request.getfixturevalue("embedded"))
    return Real(request.getfixturevalue("kafka"))


@pytest.fixture
def topic(cluster: Cluster) -> str:
    name = f"emit-{next(_NUMBERS)}"
    cluster.create(name)
    return name


async def test_an_emitted_record_is_the_same_byte_for_byte(cluster: Cluster, topic: str) -> None:
    """Key, value, headers (repeated, empty, null) and timestamp arrive as they were given."""
    headers: Headers = (("h", b"1"), ("h", b""), ("n", None), ("ü", b"\x00\xff"))
    letters = [
        Produce(1, topic, b"\x00key", b"\x00\xffvalue", headers, 1_700_000_000_123),
        Produce(2, topic, None, None, (), 1_700_000_000_456),
        Produce(3, topic, b"", b"", (), 1_700_000_000_789),
    ]
    acknowledged = await emitted(cluster.bootstrap_servers, letters)
    assert sorted((a.handle, a.error) for a in acknowledged) == [(n, None) for n in (1, 2, 3)]
    read = {r.timestamp: (r.key, r.value, r.headers) for r in cluster.read_all(topic)}
    assert read == {
        letter.timestamp: (letter.key, letter.value, letter.headers) for letter in letters
    }


async def test_a_record_goes_to_the_partition_it_names(cluster: Cluster, topic: str) -> None:
    """State and retry records belong to the source's partition number, whatever their key."""
    records = [Produce(n, topic, b"one key", b"%d" % n, (), -1, n % PARTITIONS) for n in range(40)]
    assert {a.error for a in await emitted(cluster.bootstrap_servers, records)} == {None}
    assert {(r.partition, r.value) for r in cluster.read_all(topic)} == {
        (n % PARTITIONS, b"%d" % n) for n in range(40)
    }


async def test_records_without_a_partition_go_by_their_key(cluster: Cluster, topic: str) -> None:
    """Dead letters of one key stay together."""
    records = [Produce(n, topic, b"key-%d" % (n % 7), b"v", (), -1) for n in range(70)]
    await emitted(cluster.bootstrap_servers, records)
    places: dict[bytes | None, set[int]] = {}
    for record in cluster.read_all(topic):
        places.setdefault(record.key, set()).add(record.partition)
    assert len(places) == 7
    assert all(len(partitions) == 1 for partitions in places.values())


async def test_reports_tell_the_offsets_in_the_order_of_the_log(
    cluster: Cluster, topic: str
) -> None:
    """Partition by partition, the reports are the log: what was given first is told first."""
    async with emitting(cluster.bootstrap_servers) as running:
        for n in range(2000):
            running.emitter.produce([Produce(n, topic, None, b"%d" % n, (), -1, n % PARTITIONS)])
            if n % 100 == 0:
                await asyncio.sleep(0.005)
    for partition in range(PARTITIONS):
        told = [(a.offset, a.handle) for a in running.reports if a.handle % PARTITIONS == partition]
        assert told == [(offset, offset * PARTITIONS + partition) for offset in range(500)]


async def test_more_records_than_the_queue_takes_are_all_acknowledged(
    cluster: Cluster, topic: str
) -> None:
    """A full queue keeps records waiting; none is dropped and the loop is never blocked."""
    letters = [Produce(n, topic, b"%d" % n, b"x" * 100, (), -1) for n in range(2000)]
    small = {"queue.buffering.max.messages": "100"}
    acknowledged = await emitted(cluster.bootstrap_servers, letters, **small)
    assert sorted((a.handle, a.error) for a in acknowledged) == [(n, None) for n in range(2000)]
    assert len(cluster.read_all(topic)) == 2000


async def test_a_record_that_is_too_large_fails_alone(cluster: Cluster, topic: str) -> None:
    """A record above the size limit comes back as `too_large`; its neighbours arrive."""
    letters = [
        Produce(1, topic, None, b"small", (), -1),
        Produce(2, topic, None, b"x" * 20_000_000, (), -1),
        Produce(3, topic, None, b"small", (), -1),
    ]
    reports = await emitted(cluster.bootstrap_servers, letters)
    assert {each.handle: each.error for each in reports} == {1: None, 2: "too_large", 3: None}
    assert len(cluster.read_all(topic)) == 2


async def test_a_partition_that_does_not_exist_is_reported_at_once(
    cluster: Cluster, topic: str
) -> None:
    """It blames no neighbour, and the report says what is missing and what to do."""
    records = [
        Produce(n, topic, None, b"v", (), -1, partition) for n, partition in [(1, 0), (2, 9)]
    ]
    by_handle = {a.handle: a for a in await emitted(cluster.bootstrap_servers, records)}
    assert by_handle[1] == Acknowledged(1, offset=0)
    assert by_handle[2].error == "retriable"
    assert f"{topic}/9" in (by_handle[2].detail or "")
    assert "create" in (by_handle[2].detail or "")


async def test_a_topic_that_does_not_exist_is_reported(kafka: RealKafka) -> None:
    """An unknown topic is a result to try again, never an exception, and blames no neighbour."""
    topic = kafka.create_topic(f"emit-{next(_NUMBERS)}")
    records = [
        Produce(1, "emit-unknown", None, b"v", (), -1),
        Produce(2, topic, None, b"v", (), -1),
    ]
    reports = await emitted(kafka.bootstrap_servers, records, **_SOON)
    by_handle = {a.handle: a for a in reports}
    assert by_handle[2] == Acknowledged(2, offset=0)
    assert by_handle[1].error == "retriable"
    assert "create" in (by_handle[1].detail or "")


async def test_a_topic_deleted_under_us_is_reported_and_used_again_when_it_is_back(
    kafka: RealKafka,
) -> None:
    """The producer does not remember for ever that the topic was gone, nor its old offsets."""
    topic = kafka.create_topic(f"emit-{next(_NUMBERS)}")
    record = Produce(1, topic, None, b"v", (), -1, 0)
    async with emitting(kafka.bootstrap_servers, **_SOON) as running:
        assert [(await running.produced([record]))[0].offset for _ in range(3)] == [0, 1, 2]
        kafka.delete_topic(topic)
        (gone,) = await running.produced([record])
        assert gone.error == "retriable"
        assert "create the topic again" in (gone.detail or "")
        kafka.create_topic(topic)
        assert await running.produced_at_last(record) == 0


async def test_a_partition_added_to_a_topic_in_use_is_found(kafka: RealKafka) -> None:
    """Our own topics grow with their source while the program runs."""
    topic = kafka.create_topic(f"emit-{next(_NUMBERS)}", 1)
    async with emitting(kafka.bootstrap_servers, **_SOON) as running:
        await running.produced([Produce(1, topic, None, b"v", (), -1, 0)])
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        admin.create_partitions([NewPartitions(topic, 2)])[topic].result(10)
        assert await running.produced_at_last(Produce(2, topic, None, b"v", (), -1, 1)) == 0


async def test_a_broker_that_was_killed_costs_no_record(kafka: RealKafka) -> None:
    """What was on its way when the broker died is written once it is back, in order, once."""
    topic = kafka.create_topic(f"emit-{next(_NUMBERS)}", 1)
    async with emitting(kafka.bootstrap_servers) as running:
        running.emitter.produce([Produce(n, topic, None, b"%d" % n, (), -1, 0) for n in range(99)])
        kafka.kill()
        try:
            running.emitter.produce([Produce(99, topic, None, b"99", (), -1, 0)])
        finally:
            await asyncio.to_thread(kafka.restart)
    assert [(a.handle, a.error) for a in running.reports] == [(n, None) for n in range(100)]
    assert [r.value for r in kafka.read_all(topic)] == [b"%d" % n for n in range(100)]
