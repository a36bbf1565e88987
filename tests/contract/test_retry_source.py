"""Partitions of the retry topic are read, committed and handed over beside those of the source."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from consumer.commit_metadata import binding
from consumer.event import TopicPartition
from consumer.position import TRUNCATED
from consumer.retry_source import retry_properties
from consumer.source import SLICE, CommitOffset
from consumer.source_positions import POSITION_UNKNOWN
from tests.support.clusters import PARTITIONS
from tests.support.listener import Listener, reading
from tests.support.members import member, records, values

if TYPE_CHECKING:
    from consumer.event import Record
    from tests.support.clusters import Cluster, Real
    from tests.support.kafka import RealKafka


@pytest.fixture
def retry(cluster: Cluster, topic: str) -> str:
    """The retry topic beside `topic`, made already."""
    name = member(cluster, topic).own_topics.retry_of(topic)
    cluster.create(name)
    return name


def of(read: list[Record], topic: str) -> list[Record]:
    return [record for record in read if record.topic == topic]


async def test_each_source_partition_brings_its_retry_partition_along(
    cluster: Cluster, topic: str, retry: str, protocol: str
) -> None:
    """Right after it, where the group stands in it, at the log start where it does not."""
    cluster.produce(topic, records(topic, 40))
    cluster.produce(retry, records(retry, 80))
    settings = member(cluster, topic, protocol=protocol)
    async with reading(settings) as (_, first):
        await first.until(lambda: len(first.records) == 120)
        assert [(a.tp, a.beside) for a in first.assigned[1::2]] == [
            (TopicPartition(retry, a.tp.partition), a.tp) for a in first.assigned[::2]
        ]
        assert {(a.position, a.committed) for a in first.retries.values()} == {(0, None)}
    assert cluster.committed(settings.group_id, retry) == dict.fromkeys(range(4), (20, "drained"))
    cluster.produce(retry, records(retry, 8, first=80))
    async with reading(settings) as (_, second):
        await second.until(lambda: len(second.records) == 8)
        assert {(a.position, a.committed, a.metadata) for a in second.retries.values()} == {
            (20, 20, "drained")
        }
    assert values(second.records) == values(records(retry, 8, first=80))


async def test_retry_partitions_are_read_in_order_and_in_slices_after_their_first_resume(
    cluster: Cluster, topic: str, retry: str
) -> None:
    """As those of the source: nothing before, from where it says, the loop has its turn between."""
    cluster.produce(retry, records(retry, 1000))
    async with reading(member(cluster, topic), Listener(resume_at_once=False)) as (source, heard):
        await heard.until(lambda: len(heard.retries) == PARTITIONS)
        await asyncio.sleep(1.0)
        assert heard.records == []
        source.resume(TopicPartition(retry, 2), 50)
        await heard.until(lambda: len(heard.records) == 200)
        for partition in (0, 1, 3):
            source.resume(TopicPartition(retry, partition), 0)
        await heard.until(lambda: len(heard.records) == 950)
    for partition in range(PARTITIONS):
        offsets = [r.offset for r in heard.records if r.partition == partition]
        assert offsets == list(range(50 if partition == 2 else 0, 250))
    assert max(heard.slices) <= SLICE


async def test_pause_and_flow_hold_retry_partitions_as_they_hold_the_sources(
    cluster: Cluster, topic: str, retry: str
) -> None:
    """A paused one stands still while everything else is read; a closed flow stops them all."""
    paused = TopicPartition(retry, 1)
    async with reading(member(cluster, topic)) as (source, heard):
        await heard.until(lambda: len(heard.retries) == PARTITIONS)
        source.pause([paused, TopicPartition(topic, 0)])
        await asyncio.sleep(0.2)
        cluster.produce(retry, records(retry, 40))
        cluster.produce(topic, records(topic, 40))
        await heard.until(lambda: len(heard.records) == 60)
        await asyncio.sleep(0.3)
        assert len(heard.records) == 60
        source.flow(open=False)
        await asyncio.sleep(0.2)
        source.resume(paused, 0)
        source.resume(TopicPartition(topic, 0), 0)
        await asyncio.sleep(1.3)
        assert len(heard.records) == 60
        source.flow(open=True)
        await heard.until(lambda: len(heard.records) == 80)
    assert values(of(heard.records, retry)) == values(records(retry, 40))


async def test_retry_partitions_are_committed_by_the_member(
    cluster: Cluster, topic: str, retry: str, protocol: str
) -> None:
    """With offset, metadata and a result, in one commit with those of the source."""
    settings = member(cluster, topic, protocol=protocol)
    one, other = TopicPartition(topic, 1), TopicPartition(retry, 1)
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.owned) == 2 * PARTITIONS)
        source.commit({one: CommitOffset(0, "s"), other: CommitOffset(0, "r")}, 1)
        await heard.until(lambda: len(heard.results) == 2)
        assert set(heard.answers) == {(one, 0, None, 1), (other, 0, None, 1)}
        assert cluster.committed(settings.group_id, topic)[1] == (0, "s")
        assert cluster.committed(settings.group_id, retry)[1] == (0, "r")
        await heard.until(lambda: heard.highs.keys() >= {one, other})


async def test_a_retry_topic_that_is_not_there_yet_is_read_once_it_is(
    cluster: Cluster, topic: str
) -> None:
    """Until then its partitions are held, and the source's are read without delay."""
    settings = member(cluster, topic, recheck_interval=0.2)
    retry = settings.own_topics.retry_of(topic)
    cluster.produce(topic, records(topic, 40))
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.records) == 40)
        assert {a.hold for a in heard.retries.values()} == {POSITION_UNKNOWN}
        early = TopicPartition(retry, 0)
        source.commit({early: CommitOffset(3)}, 1)
        await heard.until(lambda: (early, 3, POSITION_UNKNOWN, 1) in heard.answers)
        cluster.create(retry)
        cluster.produce(retry, records(retry, 40))
        await heard.until(lambda: len(heard.records) == 80)
        assert {(c.tp.topic, c.position, c.hold) for c in heard.changes} == {(retry, 0, None)}
        source.commit({early: CommitOffset(3)}, 2)
        await heard.until(lambda: (early, 3, None, 2) in heard.answers)


async def test_retry_partitions_are_handed_over_with_the_sources(
    hand_over: tuple[Cluster, str], name: str
) -> None:
    """Committed before they move; while they drain, nothing of them is given to the listener."""
    cluster, protocol = hand_over
    settings = member(cluster, name, protocol=protocol)
    retry = settings.own_topics.retry_of(name)
    cluster.create(name)
    cluster.create(retry)
    cluster.produce(retry, records(retry, 400))
    slow = Listener()
    slow.drain_seconds = 1.0
    async with reading(settings, slow) as (_, first):
        await first.until(lambda: len(first.records) == 400)
        async with reading(settings) as (_, second):
            await first.until(lambda: first.is_draining, timeout=30)
            cluster.produce(retry, records(retry, 400, first=400))
            await second.until(lambda: len(second.retries) == 2, timeout=30)
            assert first.owned.keys().isdisjoint(second.owned)
            await first.until(lambda: len(first.records) == 600)
            await second.until(lambda: len(second.records) == 200)
            assert {a.committed for a in second.retries.values()} == {100}
    assert values([*first.records, *second.records]) == values(records(retry, 800))


async def test_a_retry_offset_above_the_log_end_is_held(
    cluster: Cluster, topic: str, retry: str
) -> None:
    """As in the source: nobody can say which of the records were read."""
    cluster.produce(retry, records(retry, 40))
    settings = member(cluster, topic, recheck_interval=0.2)
    tp = TopicPartition(retry, 3)
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 40)
        heard.next[tp] = 15  # what the stop commits
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.retries) == PARTITIONS)
        assert {a.tp: a.hold for a in heard.retries.values() if a.hold} == {tp: TRUNCATED}
        cluster.produce(retry, records(retry, 40, first=40))
        await heard.until(lambda: len(heard.records) == 30)
        await asyncio.sleep(0.5)
        assert heard.changes == []


async def test_retry_records_deleted_before_they_were_read_are_reported(
    kafka: RealKafka, real: Real, name: str
) -> None:
    """At the assignment and under way, each with its range."""
    settings = member(real, name)
    retry = settings.own_topics.retry_of(name)
    real.create(name)
    real.create(retry)
    real.produce(retry, records(retry, 40))
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 40)
    real.produce(retry, records(retry, 40, first=40))
    kafka.delete_records(retry, {0: 14})
    tp = TopicPartition(retry, 1)
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.records) == 36)
        assert {a.tp.partition: a.lost for a in heard.retries.values() if a.lost} == {0: (10, 14)}
        source.pause([tp])
        real.produce(retry, records(retry, 40, first=80))
        await heard.until(lambda: len(heard.records) == 66)
        kafka.delete_records(retry, {1: 25})
        source.resume(tp, 20)
        await heard.until(lambda: bool(heard.changes))
        assert heard.changes == [(tp, 25, None, (20, 25))]
        await heard.until(lambda: len(heard.records) == 71)


async def test_a_retry_topic_that_is_made_again_is_read_from_its_start(
    kafka: RealKafka, real: Real, name: str
) -> None:
    """The source partition stays where it is; its retry partition is taken over anew."""
    settings = member(real, name, recheck_interval=0.2)
    retry = settings.own_topics.retry_of(name)
    real.create(name)
    real.create(retry)
    real.produce(retry, records(retry, 20))
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 20)
        kafka.delete_topic(retry)
        real.create(retry)
        heard.records.clear()
        real.produce(retry, records(retry, 8))
        await heard.until(lambda: len(heard.records) == 8, 30)
        assert {tp.topic for tp in heard.lost} == {retry}
        assert len(heard.owned) == 2 * PARTITIONS


async def test_partitions_of_a_source_topic_that_is_made_again_keep_their_retry_partitions(
    kafka: RealKafka, real: Real, name: str
) -> None:
    """Both are taken over anew, the retry partition where the group stands in it."""
    settings = member(real, name, recheck_interval=0.2)
    retry = settings.own_topics.retry_of(name)
    real.create(name)
    real.create(retry)
    real.produce(name, records(name, 20))
    real.produce(retry, records(retry, 20))
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.records) == 40)
        source.commit({tp: CommitOffset(5) for tp in heard.retries}, 1)
        await heard.until(lambda: len(heard.results) == PARTITIONS)
        kafka.delete_topic(name)
        real.create(name)
        real.produce(name, records(name, 8))
        heard.records.clear()
        await heard.until(lambda: len(of(heard.records, name)) == 8, 30)
        await heard.until(lambda: len(heard.owned) == 2 * PARTITIONS, 30)
        real.produce(retry, records(retry, 8, first=20))
        await heard.until(lambda: len(of(heard.records, retry)) == 8)


async def test_the_second_client_is_no_member(
    kafka: RealKafka, real: Real, name: str, protocol: str
) -> None:
    """Not even one with the same instance id: the group has one member, and nobody is fenced."""
    instance = {"group.instance.id": f"{name}-one"}
    settings = member(real, name, protocol=protocol, properties=instance)
    retry = settings.own_topics.retry_of(name)
    real.create(name)
    real.create(retry)
    real.produce(retry, records(retry, 40))
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 40)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        group = admin.describe_consumer_groups([settings.group_id])[settings.group_id].result()
        assert len(group.members) == 1
        assert heard.errors == []


async def test_both_are_read_on_after_the_broker_was_away(
    kafka: RealKafka, real: Real, name: str, protocol: str
) -> None:
    """Killed and started again: nothing is skipped, repeated or given up."""
    patient = {"session.timeout.ms": "45000"}
    settings = member(real, name, protocol=protocol, properties=patient)
    retry = settings.own_topics.retry_of(name)
    real.create(name)
    real.create(retry)
    real.produce(name, records(name, 40))
    real.produce(retry, records(retry, 40))
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 80)
        kafka.kill()
        await asyncio.sleep(1.0)
        kafka.restart()
        real.produce(name, records(name, 40, first=40))
        real.produce(retry, records(retry, 40, first=40))
        await heard.until(lambda: len(heard.records) >= 160, 30)
        await asyncio.sleep(0.5)
        assert values(of(heard.records, name)) == values(records(name, 80))
        assert values(of(heard.records, retry)) == values(records(retry, 80))
        assert heard.errors == []


def test_the_second_client_has_no_property_of_a_membership() -> None:
    """An instance id of its own would fence the member."""
    given = {"group.instance.id": "one", "group.protocol": "consumer", "sasl.username": "me"}
    complete = retry_properties(given, "g")
    assert complete.keys().isdisjoint({"group.instance.id", "group.protocol"})
    assert (complete["group.id"], complete["sasl.username"]) == ("g", "me")


async def test_topics_are_tied_to_their_ids(kafka: RealKafka, real: Real, name: str) -> None:
    """Those of the source to their own and the state topic's, the others to their own alone."""
    settings = member(real, name)
    own = settings.own_topics
    names = [name, own.retry_of(name), own.state_of(name)]
    for each in names:
        real.create(each)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    cluster_id = admin.list_topics(timeout=10).cluster_id  # type: ignore[attr-defined]  # the stubs forget it
    told = admin.describe_topics(TopicCollection(names))
    source, retry, state = (
        binding(cluster_id, str(told[each].result().topic_id)) for each in names
    )
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.owned) == 2 * PARTITIONS)
        assert {(a.bound_to, a.state_bound_to) for a in heard.sources.values()} == {(source, state)}
        assert {(a.bound_to, a.state_bound_to) for a in heard.retries.values()} == {(retry, None)}
