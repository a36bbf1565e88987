"""Where the source begins, and where it goes on when its position is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError

from consumer.event import TopicPartition
from consumer.position import TRUNCATED, Latest
from consumer.source import CommitOffset, StartTime
from consumer.source_positions import POSITION_UNKNOWN
from tests.support.clusters import PARTITIONS
from tests.support.faulty_broker import FaultyBroker, Request
from tests.support.faulty_cluster import FaultyCluster
from tests.support.listener import Listener, reading
from tests.support.members import EPOCH_MS, member, records, values

if TYPE_CHECKING:
    from tests.support.clusters import Cluster, Real
    from tests.support.kafka import RealKafka


async def test_a_restarted_member_goes_on_where_the_group_had_committed(
    cluster: Cluster, topic: str, protocol: str
) -> None:
    """What the stop commits is where the next start begins, and its metadata comes back."""
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic, protocol=protocol)
    async with reading(settings) as (_, first):
        await first.until(lambda: len(first.records) == 40)
    assert cluster.committed(settings.group_id, topic) == dict.fromkeys(range(4), (10, "drained"))
    cluster.produce(topic, records(topic, 8, first=40))
    async with reading(settings) as (_, second):
        await second.until(lambda: len(second.records) == 8)
        assert {(a.position, a.committed, a.metadata) for a in second.sources.values()} == {
            (10, 10, "drained")
        }
    assert values(second.records) == values(records(topic, 8, first=40))


async def test_a_new_group_that_starts_at_the_end_commits_that_when_it_begins(
    cluster: Cluster, topic: str
) -> None:
    """A crash before the first settled record must not move the start to a later log end."""
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic, start=Latest())
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.sources) == PARTITIONS)
        await until_committed(cluster, settings.group_id, topic, dict.fromkeys(range(4), 10))
        cluster.produce(topic, records(topic, 4, first=40))
        await heard.until(lambda: len(heard.records) == 4)
        assert heard.results == []
    assert values(heard.records) == values(records(topic, 4, first=40))


async def test_the_start_that_a_new_group_commits_is_the_one_it_was_told(
    cluster: Cluster, topic: str
) -> None:
    """The listener may know better where to begin than the configuration; none is committed before.

    A start committed too early would be believed after a crash.
    """
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic, start=Latest())
    async with reading(settings, Listener(resume_at_once=False)) as (source, heard):
        await heard.until(lambda: len(heard.sources) == PARTITIONS)
        await asyncio.sleep(1.5)
        assert cluster.committed(settings.group_id, topic) == {}
        source.resume(TopicPartition(topic, 1), 3)
        await heard.until(lambda: len(heard.records) == 7)
        await until_committed(cluster, settings.group_id, topic, {1: 3})


async def until_committed(
    cluster: Cluster, group: str, topic: str, offsets: dict[int, int]
) -> None:
    async with asyncio.timeout(10):
        while {p: o for p, (o, _) in cluster.committed(group, topic).items()} != offsets:  # noqa: ASYNC110  the broker tells nobody by itself
            await asyncio.sleep(0.1)


async def test_a_new_group_can_start_at_a_time(real: Real, name: str) -> None:
    """`kafka.start` as a time begins with the first record of that time (mock clusters cannot)."""
    real.create(name)
    real.produce(name, records(name, 40))
    async with reading(member(real, name, start=StartTime(EPOCH_MS + 32))) as (_, heard):
        await heard.until(lambda: len(heard.records) == 8)
    assert values(heard.records) == values(records(name, 8, first=32))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_reading_waits_for_a_position_that_the_broker_does_not_tell(protocol: str) -> None:
    """Resumed before the position is known, nothing is skipped: it begins where the group stood."""
    with FaultyBroker() as broker:
        topic = broker.create("t", 1)
        tp = TopicPartition(topic, 0)
        cluster = FaultyCluster(broker, protocol)
        cluster.produce(topic, 0, [b"v%d" % n for n in range(10)])
        async with reading(member(cluster, topic)) as (source, heard):
            await heard.until(lambda: len(heard.records) == 10)
            heard.next[tp] = 4  # what the stop commits
        broker.refuse(Request.LIST_OFFSETS, *[KafkaError.UNKNOWN] * 200)
        impatient = member(cluster, topic, position_timeout=0.3, recheck_interval=0.2)
        async with reading(impatient) as (source, heard):
            await heard.until(lambda: tp in heard.owned)
            assert heard.owned[tp].hold == POSITION_UNKNOWN
            source.commit({tp: CommitOffset(0)}, 1)
            await heard.until(lambda: (tp, 0, POSITION_UNKNOWN, 1) in heard.answers)
            assert heard.records == []
            broker.relent(Request.LIST_OFFSETS)
            await heard.until(lambda: len(heard.records) == 6)
            assert heard.changes == [(tp, 4, None, None)]
        assert [r.offset for r in heard.records] == list(range(4, 10))


async def test_an_offset_above_the_log_end_is_held_until_somebody_sets_another(
    cluster: Cluster, topic: str
) -> None:
    """A truncated partition is not read, also not when its log has grown past the offset again."""
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic, recheck_interval=0.2)
    tp = TopicPartition(topic, 3)
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 40)
        heard.next[tp] = 15  # what the stop commits
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.sources) == PARTITIONS)
        assert {a.tp: a.hold for a in heard.sources.values() if a.hold} == {tp: TRUNCATED}
        cluster.produce(topic, records(topic, 40, first=40))
        await heard.until(lambda: len(heard.records) == 30)
        await asyncio.sleep(1.0)
        assert not [change for change in heard.changes if change.tp.topic == topic]
        heard.next[tp] = 10  # what the stop commits: somebody has decided
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 10)
        assert {r.offset for r in heard.records if r.partition == 3} == set(range(10, 20))


async def test_a_topic_that_is_made_again_is_read_from_its_start(
    kafka: RealKafka, real: Real, name: str
) -> None:
    """Offsets of a deleted topic say nothing about the new one."""
    real.create(name)
    real.produce(name, records(name, 20))
    async with reading(member(real, name, recheck_interval=0.2)) as (_, heard):
        await heard.until(lambda: len(heard.records) == 20)
        heard.records.clear()
        kafka.delete_topic(name)
        real.create(name)
        real.produce(name, records(name, 8))
        await heard.until(lambda: len(heard.records) == 8)
        assert heard.lost, "what was read of the old topic is nobody's any more"


async def test_a_topic_that_is_made_again_unseen_is_read_from_its_start_all_the_same(
    kafka: RealKafka, real: Real, name: str
) -> None:
    """It has grown past the position before that is fetched again, which gives no error."""
    real.create(name)
    real.produce(name, records(name, 20))
    settings = member(real, name, topic_check_interval=4.0)
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.records) == 20)
        source.pause(list(heard.sources))
        await asyncio.sleep(0.2)
        heard.records.clear()
        kafka.delete_topic(name)
        real.create(name)
        real.produce(name, records(name, 200))
        for tp in heard.sources:
            source.resume(tp, 5)
        await heard.until(lambda: len(heard.lost) == PARTITIONS)
        heard.records.clear()
        await heard.until(lambda: len(heard.records) == 200)


async def test_records_deleted_before_they_were_read_are_reported(
    kafka: RealKafka, real: Real, name: str
) -> None:
    """Retention that overtakes the group is named with its range, and reading goes on."""
    real.create(name)
    real.produce(name, records(name, 40))
    settings = member(real, name)
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 40)
    real.produce(name, records(name, 40, first=40))
    kafka.delete_records(name, {0: 14})
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 36)
        assert {a.tp.partition: a.lost for a in heard.sources.values() if a.lost} == {0: (10, 14)}


async def test_retention_that_overtakes_a_running_member_is_reported(
    kafka: RealKafka, real: Real, name: str
) -> None:
    """A paused partition whose records were deleted goes on at the log start and says so."""
    real.create(name)
    tp = TopicPartition(name, 0)
    real.produce(name, records(name, 40))
    async with reading(member(real, name)) as (source, heard):
        await heard.until(lambda: len(heard.records) == 40)
        source.pause([tp])
        real.produce(name, records(name, 40, first=40))
        await heard.until(lambda: len(heard.records) == 70)
        kafka.delete_records(name, {0: 15})
        source.resume(tp, 10)
        await heard.until(lambda: bool(heard.changes))
        assert heard.changes == [(tp, 15, None, (10, 15))]
        await heard.until(lambda: len(heard.records) == 75)
