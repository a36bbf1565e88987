"""Life in the group: members come, go, come back, and stand in for each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from consumer.errors import SourceError
from consumer.event import TopicPartition
from consumer.group_session import GroupSession
from tests.support.clusters import PARTITIONS, Embedded
from tests.support.listener import Listener, reading
from tests.support.members import member, records, values

if TYPE_CHECKING:
    from consumer.sandbox.broker import EmbeddedBroker
    from consumer.source import SourceSettings
    from tests.support.clusters import Cluster, Real
    from tests.support.kafka import RealKafka


async def test_a_second_member_takes_partitions_over_after_they_drained(
    hand_over: tuple[Cluster, str], name: str
) -> None:
    """Revoked partitions are committed before they move, so that nothing is read twice or never."""
    cluster, protocol = hand_over
    cluster.create(name)
    cluster.produce(name, records(name, 400))
    settings = member(cluster, name, protocol=protocol)
    slow = Listener()
    slow.drain_seconds = 0.3
    async with reading(settings, slow) as (_, first):
        await first.until(lambda: len(first.records) == 400)
        async with reading(settings) as (_, second):
            await second.until(lambda: len(second.sources) == 2, timeout=30)
            assert len(first.revoked) == 2
            assert first.owned.keys().isdisjoint(second.owned)
            cluster.produce(name, records(name, 400, first=400))
            await first.until(lambda: len(first.records) == 600)
            await second.until(lambda: len(second.records) == 200)
    assert values([*first.records, *second.records]) == values(records(name, 800))


async def test_a_partition_that_was_paused_reads_again_after_it_returned(
    real: Real, name: str, protocol: str
) -> None:
    """A pause ends with the assignment it was ordered for."""
    real.create(name)
    settings = member(real, name, protocol=protocol)
    async with reading(settings) as (source, first):
        await first.until(lambda: len(first.sources) == PARTITIONS)
        source.pause(list(first.owned))
        async with reading(settings) as (_, second):
            await second.until(lambda: len(second.sources) == 2, timeout=30)
        await first.until(lambda: len(first.sources) == PARTITIONS, timeout=30)
        returned = set(first.revoked)
        real.produce(name, records(name, 40))
        await first.until(lambda: len(first.records) == 20)
        assert {TopicPartition(r.topic, r.partition) for r in first.records} == returned


async def test_what_was_taken_over_and_not_begun_goes_to_the_next_member(
    real: Real, name: str, protocol: str
) -> None:
    """A partition may leave before it was ever read: no offset is committed for it."""
    real.create(name)
    real.produce(name, records(name, 40))
    settings = member(real, name, protocol=protocol)
    async with reading(settings, Listener(resume_at_once=False)) as (_, first):
        await first.until(lambda: len(first.sources) == PARTITIONS)
        async with reading(settings) as (_, second):
            await second.until(lambda: len(second.records) == 20, timeout=30)
            assert len(first.sources) == 2
    assert first.records == []


async def test_what_does_not_drain_in_time_goes_to_the_next_member_uncommitted(
    hand_over: tuple[Cluster, str], name: str
) -> None:
    """The group waits no longer than it has to; what was in flight is read again."""
    cluster, protocol = hand_over
    cluster.create(name)
    cluster.produce(name, records(name, 40))
    settings = member(cluster, name, protocol=protocol, revoke_timeout=1.0)
    stuck = Listener()
    stuck.drain_seconds = 60.0
    async with reading(settings, stuck) as (_, first):
        await first.until(lambda: len(first.records) == 40)
        async with reading(settings) as (_, second):
            await second.until(lambda: len(second.records) == 20, timeout=30)
            assert {a.committed for a in second.sources.values()} == {0}


async def test_a_static_member_that_restarts_gets_its_partitions_back_without_a_rebalance(
    real: Real, name: str, protocol: str
) -> None:
    """Within the session time-out nobody else notices."""
    real.create(name)

    def static(instance: str) -> SourceSettings:
        return member(
            real, name, protocol=protocol, properties={"group.instance.id": f"{name}-{instance}"}
        )

    async with reading(static("a")) as (_, other):
        async with reading(static("b")) as (_, before):
            await before.until(lambda: len(before.sources) == 2, timeout=30)
            await other.until(lambda: len(other.sources) == 2, timeout=30)
            mine = set(before.sources)
        heard_before = (len(other.assigned), len(other.revoked), len(other.lost))
        async with reading(static("b")) as (_, after):
            await after.until(lambda: bool(after.sources), timeout=30)
            assert set(after.sources) == mine
            real.produce(name, records(name, 40))
            await other.until(lambda: len(other.records) == 20)
            await after.until(lambda: len(after.records) == 20)
            assert (len(other.assigned), len(other.revoked), len(other.lost)) == heard_before


async def test_two_members_with_one_instance_id_do_not_run_at_once(
    real: Real, name: str, protocol: str
) -> None:
    """One of the two ends with a reason that says what to change; the other one reads on."""
    real.create(name)
    settings = member(
        real, name, protocol=protocol, properties={"group.instance.id": f"{name}-one"}
    )
    async with reading(settings) as (_, first):
        await first.until(lambda: len(first.sources) == PARTITIONS)
        async with reading(settings) as (_, second):
            async with asyncio.timeout(30):
                while not (first.errors or second.errors):  # noqa: ASYNC110  either may be told
                    await asyncio.sleep(0.1)
            ((error,),) = [heard.errors for heard in (first, second) if heard.errors]
            assert isinstance(error, SourceError)
            assert "group.instance.id" in error.how_to_mend
            running = second if first.errors else first
            real.produce(name, records(name, 40))
            await running.until(lambda: len(running.records) == 40, timeout=30)


async def test_the_session_time_out_that_the_broker_owns_is_told_before_the_partitions(
    kafka: RealKafka, real: Real, name: str
) -> None:
    """Under KIP-848 it is the group's own setting: how long a proof of membership holds."""
    real.create(name)
    settings = member(real, name, protocol="consumer")
    kafka.set_group_config(settings.group_id, consumer_session_timeout_ms="7500")
    async with reading(settings) as (_, heard):
        await heard.until(lambda: bool(heard.assigned))
        assert heard.session_timeouts == [(7.5, "before any partition")]


async def test_a_session_time_out_that_was_changed_is_told_again(
    kafka: RealKafka, real: Real, name: str
) -> None:
    """And one that stayed is not."""
    session = GroupSession({"bootstrap.servers": real.bootstrap_servers}, f"readers-of-{name}")
    assert [session.news(5.0), session.news(5.0)] == [45.0, None]
    kafka.set_group_config(f"readers-of-{name}", consumer_session_timeout_ms="9000")
    assert [session.news(5.0), session.news(5.0)] == [9.0, None]


async def test_a_session_time_out_that_is_not_told_is_taken_for_kafkas_default(
    embedded: EmbeddedBroker, name: str
) -> None:
    """An old or locked-down broker, or the demo's, does not answer the question."""
    cluster = Embedded(embedded)
    cluster.create(name)
    async with reading(member(cluster, name, protocol="consumer")) as (_, heard):
        await heard.until(lambda: bool(heard.assigned))
        assert heard.session_timeouts == [(45.0, "before any partition")]


async def test_a_session_time_out_that_the_client_owns_is_not_told(real: Real, name: str) -> None:
    """Under the classic protocol it is in the configuration."""
    real.create(name)
    async with reading(member(real, name, protocol="classic")) as (_, heard):
        await heard.until(lambda: bool(heard.assigned))
        assert heard.session_timeouts == []
