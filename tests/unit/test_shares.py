"""What a destination takes is shared among the members of the group by their partitions."""

from __future__ import annotations

from consumer.batch import BatchLimits
from consumer.event import Destination, EventSource
from tests.support.world import OTHER_PIXEL, PIXEL, TOPIC, World, event, ok

PIXELS = tuple(Destination(EventSource.WEB, i) for i in (PIXEL, OTHER_PIXEL))


def ceilings(world: World) -> set[float]:
    """The ceilings of all destinations."""
    return {queue.gates.rate.ceiling for queue in world.delivery.queues.values()}


def test_the_ceiling_is_shared_by_the_partitions_that_a_member_owns() -> None:
    """Two of eight partitions are a quarter of it; what was learned is shared alike."""
    world = World(destinations=PIXELS, requests_per_second=40.0)
    engine = world.engine
    world.assign(0)
    assert ceilings(world) == {40.0}, "nobody has said how many there are"
    world._do(engine.source_partitions({TOPIC: 8}, world.clock.now))
    assert ceilings(world) == {5.0}
    world.assign(1)
    assert ceilings(world) == {10.0}
    world.lose(0)
    assert ceilings(world) == {5.0}
    world._do(engine.source_partitions({TOPIC: 8, "more": 12}, world.clock.now))
    assert ceilings(world) == {2.0}
    world.lose(1)
    assert ceilings(world) == {2.0}, "what is still in flight goes as before"
    world.assign(*range(8))
    assert ceilings(world) == {16.0}


def test_a_partition_of_the_retry_topic_is_no_share() -> None:
    """It is read beside its source partition, not in another one's place."""
    world = World(parks=True, requests_per_second=40.0)
    world._do(world.engine.source_partitions({TOPIC: 2}, world.clock.now))
    world.take_over(0)
    assert ceilings(world) == {20.0}


def test_members_together_never_exceed_the_ceiling() -> None:
    """Eight partitions, three members, one TikTok: at most the configured rate arrives there."""
    times: list[float] = []
    for number, partitions in enumerate([(0, 1, 2), (3, 4, 5), (6, 7)]):
        world = World(
            requests_per_second=20.0,
            batch=BatchLimits(max_events=1),
            max_concurrency=100,
            process=b"process%d" % number,
        )
        world.answer = lambda _request, at=world.clock: times.append(at.mono) or ok()  # type: ignore[misc]  # list.append gives None
        world._do(world.engine.source_partitions({TOPIC: 8}, world.clock.now))
        world.assign(*partitions)
        for partition in partitions:
            world.produce(*(event(f"{partition}-{n}") for n in range(40)), partition=partition)
        world.run(10.0)
    times.sort()
    assert 190 <= len(times) <= 215
    assert all(times[n + 26] - times[n] >= 1.0 for n in range(len(times) - 26))
