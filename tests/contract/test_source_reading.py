"""How the source reads: once, in order, in slices, and not while it is told not to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from consumer.event import TopicPartition
from consumer.source import SLICE
from tests.support.clusters import PARTITIONS
from tests.support.listener import Listener, reading
from tests.support.members import member, records, values
from tests.support.raw_producer import produce_with_header

if TYPE_CHECKING:
    from tests.support.clusters import Cluster, Real


async def test_every_record_is_read_once_and_in_order(
    cluster: Cluster, topic: str, protocol: str
) -> None:
    """All records of all partitions come, those of a partition in the order of its offsets."""
    cluster.produce(topic, records(topic, 2000))
    async with reading(member(cluster, topic, protocol=protocol, chunk_size=100)) as (_, heard):
        await heard.until(lambda: len(heard.records) >= 2000)
        await heard.until(lambda: sum(heard.highs.values()) == 2000)
    for partition in range(PARTITIONS):
        offsets = [r.offset for r in heard.records if r.partition == partition]
        assert offsets == list(range(500))
    assert values(heard.records) == values(records(topic, 2000))


async def test_nothing_is_read_before_the_first_resume(cluster: Cluster, topic: str) -> None:
    """The owner of a partition has things to do before it reads; then it says where to begin."""
    cluster.produce(topic, records(topic, 40))
    listener = Listener(resume_at_once=False)
    async with reading(member(cluster, topic), listener) as (source, heard):
        await heard.until(lambda: len(heard.sources) == PARTITIONS)
        source.pause(list(heard.owned))
        await asyncio.sleep(1.5)
        assert heard.records == []
        source.resume(TopicPartition(topic, 1), 4)
        await heard.until(lambda: len(heard.records) == 6)
        source.resume(TopicPartition(topic, 2), 0)
        await heard.until(lambda: len(heard.records) == 16)
    assert [(r.partition, r.offset) for r in heard.records] == [
        *((1, offset) for offset in range(4, 10)),
        *((2, offset) for offset in range(10)),
    ]


@pytest.mark.parametrize("pause_after", [0.0, 0.001, 0.01, 0.1, 0.4])
async def test_a_pause_soon_after_the_first_resume_skips_and_repeats_nothing(
    cluster: Cluster, topic: str, pause_after: float
) -> None:
    """A partition stopped before, while or after its first records come goes on where it was."""
    cluster.produce(topic, records(topic, 2000))
    listener = Listener(resume_at_once=False)
    settings = member(cluster, topic, chunk_size=50)
    async with reading(settings, listener) as (source, heard):
        await heard.until(lambda: len(heard.sources) == PARTITIONS)
        for _ in range(3):
            for tp in heard.sources:
                source.resume(tp, 0)
            await asyncio.sleep(pause_after)
            source.pause(list(heard.sources))
        for tp in heard.sources:
            source.resume(tp, 0)
        await heard.until(lambda: len(heard.records) >= 2000)
    for partition in range(PARTITIONS):
        offsets = [r.offset for r in heard.records if r.partition == partition]
        assert offsets == list(range(500))


async def test_a_paused_partition_stands_still_and_loses_nothing(
    cluster: Cluster, topic: str
) -> None:
    """While one partition is paused the others flow; resumed, it goes on where it stopped."""
    cluster.produce(topic, records(topic, 400))
    paused = TopicPartition(topic, 2)
    async with reading(member(cluster, topic)) as (source, heard):
        await heard.until(lambda: len(heard.records) == 400)
        source.pause([paused])
        await asyncio.sleep(0.2)
        cluster.produce(topic, records(topic, 400, first=400))
        await heard.until(lambda: len(heard.records) == 700)
        await asyncio.sleep(0.3)
        assert heard.next[paused] == 100
        source.resume(paused, 100)
        await heard.until(lambda: len(heard.records) == 800)
    assert values(heard.records) == values(records(topic, 800))


async def test_the_log_end_of_a_paused_partition_is_told_on(cluster: Cluster, topic: str) -> None:
    """Its lag grows, and that is to be seen."""
    paused = TopicPartition(topic, 2)
    settings = member(cluster, topic, recheck_interval=0.2)
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.sources) == PARTITIONS)
        source.pause([paused])
        cluster.produce(topic, records(topic, 40))
        await heard.until(lambda: heard.highs.get(paused) == 10)
        assert heard.next[paused] == 0


@pytest.mark.parametrize("closed_for", [0.3, 1.5])
async def test_a_closed_flow_stands_still_and_loses_nothing(
    cluster: Cluster, topic: str, closed_for: float
) -> None:
    """Neither a short shortage nor one long enough to fetch nothing loses or repeats."""
    async with reading(member(cluster, topic)) as (source, heard):
        await heard.until(lambda: len(heard.sources) == PARTITIONS)
        source.flow(open=False)
        await asyncio.sleep(0.1)
        cluster.produce(topic, records(topic, 400))
        await asyncio.sleep(closed_for)
        assert len(heard.records) == 0
        source.flow(open=True)
        await heard.until(lambda: len(heard.records) >= 400)
        await asyncio.sleep(0.2)
    assert values(heard.records) == values(records(topic, 400))


@pytest.mark.parametrize("how", ["paused", "closed"])
async def test_a_member_that_reads_nothing_is_polled_on_and_keeps_its_partitions(
    real: Real, name: str, protocol: str, how: str
) -> None:
    """Longer than the session and poll time-outs: no record comes, and the group waits for it."""
    real.create(name)
    real.produce(name, records(name, 40))
    limits = {"session.timeout.ms": "2000", "max.poll.interval.ms": "2000"}
    settings = member(real, name, protocol=protocol, properties=limits)
    async with reading(settings, Listener(resume_at_once=how == "closed")) as (source, heard):
        source.flow(open=how == "paused")
        await heard.until(lambda: len(heard.sources) == PARTITIONS)
        await asyncio.sleep(3.5)
        assert (heard.records, heard.lost, heard.revoked) == ([], [], [])
        source.flow(open=True)
        for tp in heard.sources:
            source.resume(tp, 0)
        await heard.until(lambda: len(heard.records) == 40)
        assert (heard.lost, heard.revoked) == ([], [])


async def test_a_read_reaches_the_loop_in_slices_in_order(cluster: Cluster, topic: str) -> None:
    """The loop gets its turn between slices of one read, however many records that read had."""
    cluster.produce(topic, records(topic, 1000))
    async with reading(member(cluster, topic, chunk_size=500)) as (_, heard):
        await heard.until(lambda: len(heard.records) == 1000)
    assert max(heard.slices) == SLICE
    assert sum(heard.slices) == 1000


async def test_a_header_name_that_is_no_text_costs_the_headers_and_not_the_source(
    cluster: Cluster, topic: str
) -> None:
    """Anybody may write such a record; it must not end every consumer that comes to it."""
    # Enough before it that the interpreter has specialised what it runs for every record.
    cluster.produce(topic, records(topic, 400))
    produce_with_header(cluster.bootstrap_servers, topic, 0, b"odd", b"bad\xff")
    cluster.produce(topic, records(topic, 1))
    async with reading(member(cluster, topic)) as (_, heard):
        await heard.until(lambda: len(heard.records) == 402)
    assert [r.headers for r in heard.records] == [()] * 402
    after = [r.value for r in heard.records if r.partition == 0][-2:]
    assert after == [b"odd", b"v0"]


async def test_a_defect_of_the_listener_stops_the_source(cluster: Cluster, topic: str) -> None:
    """Records that could not be taken are not followed by others, and nothing is committed."""
    cluster.produce(topic, records(topic, 400))
    settings = member(cluster, topic)
    listener = Listener()
    listener.refuse_records = True
    async with reading(settings, listener) as (_, heard):
        await heard.until(lambda: bool(heard.errors))
        assert isinstance(heard.errors[0].__cause__, ValueError)
        listener.refuse_records = False
        await asyncio.sleep(0.5)
        assert heard.records == []
    # Nothing of the records that were refused; the start of a group without an offset, for the
    # partitions whose start was found before the source stopped.
    committed = cluster.committed(settings.group_id, topic)
    assert set(committed.values()) <= {(0, "")}
