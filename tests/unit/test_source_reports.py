from __future__ import annotations

import asyncio

from consumer.event import Record, TopicPartition
from consumer.fetching import Stamped
from consumer.offsets import CommitOffset
from consumer.source_events import AssignedPartition, PositionChange
from consumer.source_reports import SourceReports
from tests.support.listener import Listener

SOURCE, RETRY = TopicPartition("t", 0), TopicPartition("g.t.retry", 0)


class Reported:
    """A listener and the reports to it, with a source partition and the one beside it owned."""

    def __init__(self) -> None:
        self.listener = Listener(resume_at_once=False)
        self.halts = 0
        self.reports = SourceReports(self.listener, asyncio.get_running_loop(), self._halt)
        self.assign(1)

    def _halt(self) -> None:
        self.halts += 1

    def assign(self, epoch: int) -> None:
        """Assign both."""
        self.reports.assigned(
            epoch,
            [AssignedPartition(SOURCE, 0, 0), AssignedPartition(RETRY, 0, 0, beside=SOURCE)],
        )

    def retried(self, offset: int, epoch: int) -> None:
        """Let a record of the retry partition come that was read in an assignment."""
        record = Record(*RETRY, offset, -1, None, None, ())
        self.reports.retried([record], [Stamped(RETRY, epoch)])()

    @property
    def offsets(self) -> list[int]:
        """The records that the listener was given."""
        return [record.offset for record in self.listener.records]


async def turns() -> None:
    """Let the loop take what was posted."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_records_of_an_assignment_that_has_ended_do_not_arrive() -> None:
    """The retry topic's thread may have read them before it heard of it."""
    world = Reported()
    await turns()
    world.retried(1, epoch=1)
    world.reports.lost([SOURCE])
    await turns()
    world.retried(2, epoch=1)
    world.assign(2)
    await turns()
    world.retried(3, epoch=1)
    world.retried(4, epoch=2)
    assert world.offsets == [1, 4]
    assert world.listener.lost == [SOURCE]


async def test_of_several_partitions_only_those_that_ended_are_left_out() -> None:
    """A slice may hold records of both kinds."""
    world = Reported()
    other, beside = TopicPartition("t", 1), TopicPartition("g.t.retry", 1)
    world.reports.assigned(
        2, [AssignedPartition(other, 0, 0), AssignedPartition(beside, 0, 0, beside=other)]
    )
    world.reports.lost([SOURCE])
    await turns()
    read = [Record(*tp, 5, -1, None, None, ()) for tp in (RETRY, beside, RETRY)]
    world.reports.retried(read, [Stamped(RETRY, 1), Stamped(beside, 2)])()
    assert [(r.topic, r.partition) for r in world.listener.records] == [beside]


async def test_no_record_of_the_retry_topic_arrives_while_its_partition_drains() -> None:
    """The listener is told to settle what it has, and would get more."""
    world = Reported()
    world.listener.drain_seconds = 0.01
    await turns()
    answer = asyncio.wrap_future(world.reports.drain([Stamped(SOURCE, 1)]))
    await turns()
    world.retried(1, epoch=1)
    assert world.reports.stamped(RETRY) == Stamped(RETRY, 1), "it is committed until it is gone"
    assert await answer == dict.fromkeys([SOURCE, RETRY], CommitOffset(0, "drained"))
    world.retried(2, epoch=1)
    assert world.offsets == []
    assert world.reports.stamped(RETRY) == Stamped(RETRY, -1)


async def test_a_drain_that_was_given_up_leaves_a_partition_that_came_back_alone() -> None:
    """By the time a cancelled drain ends, its partitions may be owned again."""
    world = Reported()
    world.listener.drain_seconds = 30.0
    await turns()
    answer = world.reports.drain([Stamped(SOURCE, 1)])
    await turns()
    answer.cancel()
    world.reports.lost([SOURCE])
    world.assign(2)
    await turns()
    world.retried(1, epoch=2)
    assert world.offsets == [1]
    assert world.listener.lost == [SOURCE]
    assert world.reports.stamped(SOURCE) == Stamped(SOURCE, 2)


async def test_a_drain_that_a_blocked_loop_begins_too_late_takes_nothing() -> None:
    """All of it was posted while the loop stood still: the partition that came back stays."""
    world = Reported()
    await turns()
    answer = world.reports.drain([Stamped(SOURCE, 1)])
    answer.cancel()
    world.reports.lost([SOURCE])
    world.assign(2)
    await turns()
    await turns()
    world.retried(1, epoch=2)
    assert world.offsets == [1]
    assert world.listener.revoked == []
    assert world.listener.owned.keys() == {SOURCE, RETRY}


async def test_a_position_of_an_assignment_that_has_ended_does_not_arrive() -> None:
    """Nor does one of a partition that is not owned at all."""
    world = Reported()
    await turns()
    change = PositionChange(RETRY, 5, None, None)
    world.reports.position_changed(Stamped(RETRY, 1), change)
    world.reports.position_changed(Stamped(RETRY, 0), change._replace(position=6))
    world.reports.position_changed(Stamped(TopicPartition("t", 9), 1), change)
    world.reports.high_watermarks({RETRY: 8, TopicPartition("t", 9): 9})
    await turns()
    assert world.listener.changes == [change]
    assert world.listener.highs == {RETRY: 8}


async def test_a_retry_partition_taken_over_anew_is_lost_and_assigned_in_one_turn() -> None:
    """Unless its source partition has gone meanwhile: then there is nothing to own."""
    world = Reported()
    await turns()
    anew = AssignedPartition(RETRY, 0, None, beside=SOURCE)
    world.reports.begun_anew(Stamped(RETRY, 1), 3, anew)
    world.reports.begun_anew(Stamped(RETRY, 1), 4, anew)
    await turns()
    assert world.listener.lost == [RETRY]
    assert world.listener.owned.keys() == {SOURCE, RETRY}
    world.retried(1, epoch=1)
    world.retried(2, epoch=3)
    assert world.offsets == [2]
    world.reports.lost([SOURCE])
    await turns()
    assert world.listener.owned == {}


async def test_nothing_arrives_after_something_that_was_not_taken() -> None:
    """Whatever came next would leave a gap: reading halts, and the listener is told once."""
    world = Reported()
    await turns()
    world.listener.refuse_records = True
    world.retried(1, epoch=1)
    world.listener.refuse_records = False
    world.retried(2, epoch=1)
    world.reports.high_watermarks({RETRY: 8})
    await turns()
    assert (world.offsets, world.listener.highs, world.halts) == ([], {}, 1)
    assert [error.what for error in world.listener.errors] == ["the source stopped on ValueError"]
    assert await asyncio.wrap_future(world.reports.drain([Stamped(SOURCE, 1)])) == {}
