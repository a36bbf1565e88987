"""Where a group begins that has no position, and where one goes on whose position is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.support.pipeline_world import fresh_purchase

if TYPE_CHECKING:
    from consumer.sandbox.samples import Sample
    from tests.support.pipeline_world import PipelineWorld

OLD, NEW = range(30), range(100, 120)


def samples(world: PipelineWorld, numbers: range, age: timedelta = timedelta()) -> list[Sample]:
    """Events whose records are that old."""
    milliseconds = age // timedelta(milliseconds=1)
    return [
        sample._replace(timestamp=sample.timestamp - milliseconds)
        for sample in (world.sample(fresh_purchase(number)) for number in numbers)
    ]


def delivered(world: PipelineWorld) -> set[str]:
    """The event_ids that TikTok has taken."""
    return {event.identity.event_id for event in world.emulator.accepted()}


def ids(numbers: range) -> set[str]:
    return {fresh_purchase(number)["event_id"] for number in numbers}


def test_a_new_group_begins_at_the_earliest_record(world: PipelineWorld) -> None:
    """The default: nothing that Kafka still has is left out."""
    world.produce(samples(world, OLD))
    with world.consumer() as consumer:
        consumer.until_settled(len(OLD))
        assert consumer.terminate().exit_code == 0
    assert delivered(world) == ids(OLD)


def test_a_new_group_may_begin_at_the_latest_record(world: PipelineWorld) -> None:
    """And stays there: what comes while it is stopped is not skipped."""
    config = world.config(kafka={"start": "latest"})
    world.produce(samples(world, OLD), 0)
    with world.consumer(config) as consumer:
        consumer.until(
            lambda: world.committed() == {0: len(OLD), 1: 0, 2: 0, 3: 0}, "at the log's ends"
        )
        assert consumer.terminate().exit_code == 0
    world.produce(samples(world, NEW))
    with world.consumer(config) as consumer:
        consumer.until_settled(len(NEW))
        assert consumer.terminate().exit_code == 0
    assert delivered(world) == ids(NEW)


def test_a_new_group_may_begin_at_a_time(world: PipelineWorld) -> None:
    """Records from before it are left out, those from then on are read."""
    world.produce(samples(world, OLD, timedelta(hours=2)))
    world.produce(samples(world, NEW))
    begin = datetime.now(UTC) - timedelta(hours=1)
    config = world.config(kafka={"start": begin.isoformat()})
    with world.consumer(config) as consumer:
        consumer.until_settled(len(NEW))
        assert consumer.terminate().exit_code == 0
    assert delivered(world) == ids(NEW)
    assert world.committed() == world.ledger.ends


def test_a_range_that_retention_deleted_is_reported(world: PipelineWorld) -> None:
    """The group goes on at the log start; how much it never read is counted."""
    world.produce(samples(world, OLD), 0)
    with world.consumer() as consumer:
        consumer.until_settled(len(OLD))
        assert consumer.terminate().exit_code == 0
    world.produce(samples(world, NEW), 0)
    world.kafka.delete_records(world.topic, {0: len(OLD) + 15})

    with world.consumer() as consumer:
        consumer.until_settled(len(NEW) - 15)
        lost = consumer.metric("tiktok_events_lost_range_total", topic=world.topic, partition="0")
        assert consumer.terminate().exit_code == 0

    assert lost == 15
    assert delivered(world) == ids(OLD) | ids(range(115, 120))
    assert world.committed() == world.ledger.ends


def test_a_position_beyond_the_log_holds_its_partition(world: PipelineWorld) -> None:
    """Which of the log's records were read before cannot be known, so it waits and says so."""
    world.produce(samples(world, OLD), 0)
    world.produce(samples(world, NEW), 1)
    with world.consumer() as consumer:
        consumer.until_settled(len(OLD) + len(NEW))
        assert consumer.terminate().exit_code == 0
    world.commit({0: 1000})

    with world.consumer() as consumer:
        consumer.until_status(lambda s: s.paused == {0: "truncated"}, "held")
        assert consumer.terminate().exit_code == 0
    assert world.committed()[0] == 1000


def test_a_topic_that_was_made_again_is_read_from_its_start(world: PipelineWorld) -> None:
    """While the consumer was away; its offsets of the old topic skip nothing of the new one."""
    world.produce(samples(world, OLD))
    with world.consumer() as consumer:
        consumer.until_settled(len(OLD))
        assert consumer.terminate().exit_code == 0
    world.kafka.delete_topic(world.topic)
    world.kafka.create_topic(world.topic)
    world.produce(samples(world, NEW))
    with world.consumer() as consumer:
        consumer.until_settled(len(NEW))
        assert consumer.terminate().exit_code == 0
    assert delivered(world) == ids(OLD) | ids(NEW)
