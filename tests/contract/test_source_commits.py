"""Commits: only those that were asked for, each with its result, also while partitions drain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError

from consumer.event import TopicPartition
from consumer.kafka_properties import consumer_properties
from consumer.retry_source import retry_properties
from consumer.source import NOT_OWNED, CommitOffset
from tests.support.clusters import PARTITIONS
from tests.support.faulty_broker import FaultyBroker, Request
from tests.support.faulty_cluster import FaultyCluster
from tests.support.listener import Listener, reading
from tests.support.members import member, records

if TYPE_CHECKING:
    from tests.support.clusters import Cluster, Real
    from tests.support.kafka import RealKafka


async def test_commits_report_their_results_and_keep_their_metadata(
    cluster: Cluster, topic: str
) -> None:
    """A commit comes back as a result, and the broker keeps offset and metadata."""
    cluster.produce(topic, records(topic, 40))
    settings = member(cluster, topic)
    tp = TopicPartition(topic, 1)
    async with reading(settings) as (source, heard):
        await heard.until(lambda: len(heard.records) == 40)
        source.commit({tp: CommitOffset(7, "v1:3+2")}, 1)
        await heard.until(lambda: (tp, 7, None, 1) in heard.answers)
        assert cluster.committed(settings.group_id, topic)[1] == (7, "v1:3+2")


async def test_a_commit_for_a_partition_that_is_not_owned_is_refused(
    cluster: Cluster, topic: str
) -> None:
    """A late result of an assignment that has ended moves no offset of the group."""
    foreign = TopicPartition(topic, 99)
    async with reading(member(cluster, topic)) as (source, heard):
        await heard.until(lambda: len(heard.sources) == PARTITIONS)
        source.commit({foreign: CommitOffset(5)}, 1)
        await heard.until(lambda: (foreign, 5, NOT_OWNED, 1) in heard.answers)


async def test_the_same_offset_committed_again_reaches_the_broker(
    kafka: RealKafka, real: Real, name: str, protocol: str
) -> None:
    """A commit proves that the member is one, also when it says nothing new."""
    real.create(name)
    tp = TopicPartition(name, 1)
    async with reading(member(real, name, protocol=protocol)) as (source, heard):
        await heard.until(lambda: len(heard.sources) == PARTITIONS)
        source.commit({tp: CommitOffset(0, "m")}, 0)
        await heard.until(lambda: len(heard.results) == 1)
        before = written_by_groups(kafka)
        for again in range(1, 6):
            source.commit({tp: CommitOffset(0, "m")}, again)
            await heard.until(lambda again=again: len(heard.results) == again + 1)
        assert written_by_groups(kafka) - before >= 5
    assert heard.answers[:6] == [(tp, 0, None, number) for number in range(6)]


def written_by_groups(kafka: RealKafka) -> int:
    """How many records the broker has written about groups and their offsets."""
    return sum(kafka.ends("__consumer_offsets").values())


async def test_commits_are_answered_while_partitions_drain(
    hand_over: tuple[Cluster, str], name: str
) -> None:
    """However long a drain takes, the member can prove that it is one."""
    cluster, protocol = hand_over
    cluster.create(name)
    settings = member(cluster, name, protocol=protocol)
    slow = Listener()
    slow.drain_seconds = 2.5
    async with reading(settings, slow) as (source, first):
        await first.until(lambda: len(first.sources) == PARTITIONS)
        async with reading(settings):
            await first.until(lambda: first.is_draining, timeout=30)
            kept, leaving = TopicPartition(name, 0), TopicPartition(name, 3)
            for offset in range(1, 6):
                source.commit({kept: CommitOffset(offset), leaving: CommitOffset(offset)}, offset)
                await first.until(lambda offset=offset: len(first.results) == 2 * offset, 1.0)
            assert first.is_draining
            await first.until(lambda: not first.is_draining)
    assert set(first.answers[:10]) == {
        (tp, offset, None, offset) for tp in (kept, leaving) for offset in range(1, 6)
    }


@pytest.mark.parametrize(
    ("protocol", "error"),
    [
        ("classic", KafkaError.REBALANCE_IN_PROGRESS),
        ("classic", KafkaError.ILLEGAL_GENERATION),
        ("classic", KafkaError.UNKNOWN_MEMBER_ID),
        ("consumer", KafkaError.REBALANCE_IN_PROGRESS),
        ("consumer", KafkaError.STALE_MEMBER_EPOCH),
        ("consumer", KafkaError.UNKNOWN_MEMBER_ID),
    ],
)
async def test_a_commit_error_of_a_rebalance_is_a_result_and_reading_goes_on(
    protocol: str, error: int
) -> None:
    """It ends neither the thread nor the membership, and the next commit is made."""
    with FaultyBroker() as broker:
        cluster = FaultyCluster(broker, protocol)
        topic = broker.create("t", 1)
        tp = TopicPartition(topic, 0)
        async with reading(member(cluster, topic)) as (source, heard):
            await heard.until(lambda: bool(heard.sources))
            cluster.produce(topic, 0, [b"one"])
            await heard.until(lambda: len(heard.records) == 1)
            broker.refuse(Request.OFFSET_COMMIT, *[error] * 10)
            source.commit({tp: CommitOffset(1)}, 1)
            await heard.until(lambda: len(heard.results) == 1)
            assert (heard.results[0].error is not None, heard.results[0].retriable) == (True, True)
            broker.relent(Request.OFFSET_COMMIT)
            cluster.produce(topic, 0, [b"two"])
            await heard.until(lambda: b"two" in [r.value for r in heard.records], 30)
            source.commit({tp: CommitOffset(2)}, 2)
            await heard.until(lambda: (tp, 2, None, 2) in heard.answers)
            assert heard.errors == []


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_the_complete_configuration_of_both_clients_commits_nothing_by_itself(
    protocol: str,
) -> None:
    """Whatever else is set: no automatic commit, no automatic store, no automatic position."""
    given = {"group.protocol": protocol, "auto.commit.interval.ms": "100"}
    for complete in (consumer_properties(given, "g"), retry_properties(given, "g")):
        assert complete["enable.auto.commit"] == "false"
        assert complete["enable.auto.offset.store"] == "false"
        assert complete["auto.offset.reset"] == "error"


async def test_the_groups_offsets_do_not_move_by_themselves(
    real: Real, name: str, protocol: str
) -> None:
    """What was read and is not settled stays uncommitted, also when the reader has gone."""
    real.create(name)
    settings = member(real, name, protocol=protocol, properties={"auto.commit.interval.ms": "100"})
    retry = settings.own_topics.retry_of(name)
    real.create(retry)
    real.produce(name, records(name, 40))
    real.produce(retry, records(retry, 40))
    starts = dict.fromkeys(range(PARTITIONS), (0, ""))
    async with reading(settings) as (_, heard):
        await heard.until(lambda: len(heard.records) == 80)
        await asyncio.sleep(1.5)
        assert real.committed(settings.group_id, name) == starts
        assert real.committed(settings.group_id, retry) == starts
        for tp in heard.owned:
            heard.next[tp] = 0  # what the stop commits
    assert {o for o, _ in real.committed(settings.group_id, name).values()} == {0}
    assert {o for o, _ in real.committed(settings.group_id, retry).values()} == {0}
