"""The reader of the state topic does the same on the embedded broker and on a real Kafka."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, the stubs forget it
    AdminClient,
    NewPartitions,
)

from consumer.event import Record, TopicPartition
from consumer.sandbox.broker import EmbeddedBroker
from consumer.state_chunks import MOST_BYTES, MOST_RECORDS
from tests.support.clusters import PARTITIONS, Cluster, Embedded, Real
from tests.support.raw_producer import TransactionalProducer
from tests.support.state_reads import ReadFailedError, state_reads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.messages import StateRecord
    from tests.support.kafka import RealKafka

_NUMBERS = itertools.count()
ABOUT_NOW = 1_750_000_000_000


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
    name = f"state-{next(_NUMBERS)}"
    cluster.create(name)
    return name


@pytest.fixture
def real_topic(kafka: RealKafka) -> str:
    return kafka.create_topic(f"state-real-{next(_NUMBERS)}")


def write(cluster: Cluster | RealKafka, tp: TopicPartition, values: list[bytes]) -> None:
    cluster.produce(
        tp.topic, [Record(*tp, 0, ABOUT_NOW + n, None, value, ()) for n, value in enumerate(values)]
    )


def numbered(first: int, end: int) -> list[bytes]:
    return [b"%d" % n for n in range(first, end)]


def offsets(records: list[StateRecord]) -> list[int]:
    return [record.offset for record in records]


async def test_a_partition_is_read_from_its_start_to_the_offset_asked_for(
    cluster: Cluster, topic: str
) -> None:
    """Every record once, in order, with its bytes and its time; not one beyond the end."""
    tp = TopicPartition(topic, 1)
    write(cluster, tp, numbered(0, 1000))
    async with state_reads(cluster.bootstrap_servers) as reads:
        chunks = await reads.chunks(tp, None, 900)
    records = [record for chunk in chunks for record in chunk.records]
    assert records == [(n, ABOUT_NOW + n, b"%d" % n) for n in range(900)]
    assert chunks[-1].next_offset == 900
    assert {(chunk.log_start, chunk.log_end) for chunk in chunks} == {(0, 1000)}
    assert all(len(chunk.records) <= MOST_RECORDS for chunk in chunks)


async def test_a_chunk_is_bounded_in_bytes_and_a_large_record_comes_alone(
    cluster: Cluster, topic: str
) -> None:
    """The loop gets slices of a few milliseconds, whatever the size of the records."""
    tp = TopicPartition(topic, 0)
    sizes = [60_000, 60_000, 60_000, 500_000, 10, 10]
    write(cluster, tp, [bytes(size) for size in sizes])
    async with state_reads(cluster.bootstrap_servers) as reads:
        chunks = await reads.chunks(tp, 0, 6)
    read = [[len(record.value or b"") for record in chunk.records] for chunk in chunks]
    assert [size for chunk in read for size in chunk] == sizes
    assert all(sum(chunk) <= MOST_BYTES or len(chunk) == 1 for chunk in read)
    assert [60_000, 60_000] in read
    assert [500_000] in read


async def test_several_partitions_are_read_at_once(cluster: Cluster, topic: str) -> None:
    """None of them waits for another to be done."""
    tps = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    for tp in tps:
        write(cluster, tp, [bytes(1000)] * 2000)
    async with state_reads(cluster.bootstrap_servers) as reads:
        first = await asyncio.gather(*(reads.chunk(tp, None, 2000) for tp in tps))
        assert [chunk.records[0].offset for chunk in first] == [0] * PARTITIONS
        rest = await asyncio.gather(
            *(reads.records(tp, c.next_offset, 2000) for tp, c in zip(tps, first, strict=True))
        )
    for chunk, records in zip(first, rest, strict=True):
        assert offsets([*chunk.records, *records]) == list(range(2000))


async def test_a_read_may_begin_anywhere_whatever_was_read_before(
    cluster: Cluster, topic: str
) -> None:
    """What was fetched ahead of an earlier read never gets into a later one."""
    tp = TopicPartition(topic, 2)
    write(cluster, tp, [bytes(2000)] * 1500)
    rng = random.Random(7)
    async with state_reads(cluster.bootstrap_servers) as reads:
        for _ in range(25):
            start = rng.randrange(1500)
            end = rng.randrange(start + 1, 1501)
            chunks = [await reads.chunk(tp, start, end)]
            if rng.random() < 0.5 and chunks[0].next_offset < end:
                chunks.append(await reads.chunk(tp, chunks[0].next_offset, end))
            if rng.random() < 0.3:
                reads.reader.forget(tp)
            read = [offset for chunk in chunks for offset in offsets(list(chunk.records))]
            assert read == list(range(start, chunks[-1].next_offset))


async def test_a_log_that_ends_early_is_an_answer(cluster: Cluster, topic: str) -> None:
    """An empty partition, and one with less than is asked for: the caller learns where it ends."""
    empty, short = TopicPartition(topic, 0), TopicPartition(topic, 1)
    write(cluster, short, numbered(0, 10))
    async with state_reads(cluster.bootstrap_servers) as reads:
        assert await reads.chunk(empty, None, 5) == ([], 0, 0, 0)
        some, none = await reads.chunks(short, 3, 50)
    assert offsets(list(some.records)) == list(range(3, 10))
    assert none == ([], 10, 0, 10)


async def test_an_offset_above_the_log_end_is_an_answer_and_no_reset(
    cluster: Cluster, topic: str
) -> None:
    """A truncated log must not be taken for one that was never read: the caller decides."""
    tp = TopicPartition(topic, 3)
    write(cluster, tp, numbered(0, 10))
    async with state_reads(cluster.bootstrap_servers) as reads:
        assert await reads.chunk(tp, 500, 600) == ([], 10, 0, 10)
        assert await reads.chunk(tp, 10, 600) == ([], 10, 0, 10)
        write(cluster, tp, numbered(10, 12))
        assert offsets(await reads.records(tp, 10, 12)) == [10, 11]


async def test_records_that_come_while_the_end_is_doubted_are_read(
    cluster: Cluster, topic: str
) -> None:
    """An owner reads until it meets its own record, which it has only just written."""
    tp = TopicPartition(topic, 0)
    write(cluster, tp, numbered(0, 5))
    async with state_reads(cluster.bootstrap_servers) as reads:
        await reads.chunk(tp, 0, 8)
        waiting = reads.ask(tp, 5, 8)
        await asyncio.to_thread(write, cluster, tp, numbered(5, 8))
        assert offsets(list((await waiting).records)) == [5, 6, 7]


async def test_a_forgotten_partition_is_answered_no_more_and_can_be_read_again(
    cluster: Cluster, topic: str
) -> None:
    """A rebalance in the middle of a rebuild leaves nothing behind, in either order."""
    tp, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
    write(cluster, tp, [bytes(1000)] * 3000)
    write(cluster, other, numbered(0, 10))
    async with state_reads(cluster.bootstrap_servers) as reads:
        for _ in range(10):
            first = await reads.chunk(tp, None, 3000)
            forgotten = reads.ask(tp, first.next_offset, 3000)
            reads.reader.forget(tp)
            assert offsets(await reads.records(other, 0, 10)) == list(range(10))
            assert not forgotten.done()
            replaced = reads.ask(tp, 0, 3000)
            assert offsets(await reads.records(tp, 1000, 3000)) == list(range(1000, 3000))
            assert not replaced.done()
        assert offsets(await reads.records(tp, None, 3000)) == list(range(3000))
    assert set(reads.answered.values()) == {1}


async def test_nothing_is_answered_after_a_stop(cluster: Cluster, topic: str) -> None:
    """The engine is gone by then."""
    tp = TopicPartition(topic, 0)
    async with state_reads(cluster.bootstrap_servers) as reads:
        waiting = reads.ask(tp, 0, 5)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    assert not reads.answered


@pytest.mark.parametrize("last", ["committed", "aborted"])
async def test_a_log_that_ends_with_a_marker_is_read_to_its_end(
    kafka: RealKafka, real_topic: str, last: str
) -> None:
    """Markers of transactions take offsets and are no records: the position passes them."""
    tp = TopicPartition(real_topic, 0)
    write(kafka, tp, numbered(0, 3))
    transactions = TransactionalProducer(kafka.bootstrap_servers, *tp)
    transactions.begin([b"3", b"4"])  # offsets 3 and 4, the marker is 5
    transactions.commit()
    transactions.begin([b"6", b"7"])  # the marker is 8
    if last == "aborted":
        transactions.abort()
    else:
        transactions.commit()
    async with state_reads(kafka.bootstrap_servers) as reads:
        for start in (None, 3, 5, 8):
            chunks = await reads.chunks(tp, start, 9)
            read = [record.offset for chunk in chunks for record in chunk.records]
            assert read == [offset for offset in (0, 1, 2, 3, 4, 6, 7) if offset >= (start or 0)]
            assert (chunks[-1].next_offset, chunks[-1].log_end) == (9, 9)
        assert await reads.chunk(tp, 9, 12) == ([], 9, 0, 9)


async def test_a_strangers_open_transaction_does_not_hide_our_records(
    kafka: RealKafka, real_topic: str
) -> None:
    """It may stay open for ever; an owner that waited for it would never begin."""
    tp = TopicPartition(real_topic, 0)
    transactions = TransactionalProducer(kafka.bootstrap_servers, *tp)
    transactions.begin([b"open"])
    write(kafka, tp, [b"ours"])
    async with state_reads(kafka.bootstrap_servers) as reads:
        records = await reads.records(tp, None, 2)
    assert [record.value for record in records] == [b"open", b"ours"]
    transactions.abort()


async def test_what_retention_has_deleted_is_passed_over(kafka: RealKafka, real_topic: str) -> None:
    """A start below the log start, and one that falls below it in the middle of reading."""
    tp = TopicPartition(real_topic, 0)
    write(kafka, tp, [bytes(2000)] * 4000)
    async with state_reads(kafka.bootstrap_servers) as reads:
        kafka.delete_records(real_topic, {0: 100})
        for start in (None, 0, 50, 100):
            chunk = await reads.chunk(tp, start, 4000)
            assert (chunk.records[0].offset, chunk.log_start) == (100, 100)
        kafka.delete_records(real_topic, {0: 3990})
        chunks = await reads.chunks(tp, chunk.next_offset, 4000)
        read = [record.offset for chunk in chunks for record in chunk.records]
        # What had been fetched by then may still come; after it, what is left.
        assert read == sorted(read)
        assert read[-10:] == list(range(3990, 4000))
        assert chunks[-1].next_offset == 4000


async def test_a_partition_that_lost_all_its_records_is_read_to_its_end(
    kafka: RealKafka, real_topic: str
) -> None:
    """Retention may take everything; offsets go on from where they were."""
    tp = TopicPartition(real_topic, 0)
    write(kafka, tp, numbered(0, 10))
    kafka.delete_records(real_topic, {0: 10})
    async with state_reads(kafka.bootstrap_servers) as reads:
        assert await reads.chunk(tp, None, 10) == ([], 10, 10, 10)
        write(kafka, tp, [b"10"])
        assert offsets(await reads.records(tp, 4, 11)) == [10]


async def test_a_gap_left_by_compaction_is_passed_over(kafka: RealKafka) -> None:
    """Somebody's cleanup.policy must not leave an owner waiting for an offset that is gone."""
    compacted = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0"}
    topic = kafka.create_topic(f"state-real-{next(_NUMBERS)}", 1, compacted)
    tp = TopicPartition(topic, 0)
    for _ in range(3):
        kafka.produce(topic, [Record(*tp, 0, -1, b"k", b"%d" % n, ()) for n in range(10)])
        await asyncio.sleep(0.2)  # a new segment: the last one is not compacted
    async with state_reads(kafka.bootstrap_servers) as reads:
        async with asyncio.timeout(60):
            while len(read := await reads.records(tp, None, 30)) > 20:
                kafka.produce(topic, [Record(*tp, 0, -1, b"other", b"v", ())])
                await asyncio.sleep(0.5)
        assert offsets(read) == sorted(offsets(read))
        for end in range(1, 30, 3):
            chunks = await reads.chunks(tp, 0, end)
            assert chunks[-1].next_offset == end


async def test_a_topic_that_does_not_exist_is_a_failure_that_says_so(
    kafka: RealKafka, real_topic: str
) -> None:
    """Deleted or never made: the engine's operator learns what to do, at once."""
    tp = TopicPartition(real_topic, 0)
    write(kafka, tp, [bytes(1000)] * 2000)
    async with state_reads(kafka.bootstrap_servers) as reads:
        with pytest.raises(ReadFailedError, match=r"state-none/0: .*create the topic again"):
            await reads.chunk(TopicPartition("state-none", 0), None, 5)
        with pytest.raises(ReadFailedError, match=r"/9: .*create the topic again"):
            await reads.chunk(TopicPartition(real_topic, 9), None, 5)
        chunk = await reads.chunk(tp, None, 2000)
        kafka.delete_topic(real_topic)
        with pytest.raises(ReadFailedError, match="create the topic again"):
            await reads.records(tp, chunk.next_offset, 3000)
        kafka.create_topic(real_topic)
        write(kafka, tp, numbered(0, 5))
        assert offsets(await reads.records(tp, None, 5)) == list(range(5))


async def test_a_partition_added_to_a_topic_that_was_read_is_found(kafka: RealKafka) -> None:
    """Our own topics grow with their source while the program runs."""
    topic = kafka.create_topic(f"state-real-{next(_NUMBERS)}", 1)
    write(kafka, TopicPartition(topic, 0), numbered(0, 5))
    async with state_reads(kafka.bootstrap_servers) as reads:
        assert len(await reads.records(TopicPartition(topic, 0), None, 5)) == 5
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        admin.create_partitions([NewPartitions(topic, 2)])[topic].result(10)
        write(kafka, TopicPartition(topic, 1), numbered(0, 3))
        assert offsets(await reads.records(TopicPartition(topic, 1), None, 3)) == [0, 1, 2]


async def test_a_broker_killed_in_the_middle_costs_time_only(
    kafka: RealKafka, real_topic: str
) -> None:
    """The read goes on where it was once the broker is back; nothing is left out or doubled."""
    tp = TopicPartition(real_topic, 0)
    write(kafka, tp, [bytes(10_000)] * 3000)
    async with state_reads(kafka.bootstrap_servers, patience=60.0) as reads:
        chunks = [await reads.chunk(tp, None, 3000)]
        kafka.kill()
        try:
            while (ahead := reads.ask(tp, chunks[-1].next_offset, 3000)) is not None:
                done, _ = await asyncio.wait([ahead], timeout=1.5)
                if not done:
                    break
                chunks.append(ahead.result())
        finally:
            await asyncio.to_thread(kafka.restart)
        chunks.append(await ahead)
        chunks += await reads.chunks(tp, chunks[-1].next_offset, 3000)
    assert [r.offset for chunk in chunks for r in chunk.records] == list(range(3000))
