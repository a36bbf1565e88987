"""What may be committed: never past a record that has no outcome."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.event import Instant, Item, Record, TopicPartition, TraceIds
from consumer.offsets import CommitOffset, Partition
from tests.support.state_world import ready_partition

TP = TopicPartition("conversions", 3)
NO_TRACE = TraceIds(0, 0, 0, False, "")


def taken(partition: Partition, offset: int) -> bool:
    """Whether the partition takes a record with this offset."""
    record = Record(TP.topic, TP.partition, offset, -1, None, b"", ())
    return partition.take(Item(record, Instant(0.0, 0), NO_TRACE, partition))


@given(st.data())
def test_the_watermark_is_the_lowest_unsettled_offset_in_any_order_of_settling(
    data: st.DataObject,
) -> None:
    """Offsets with gaps (compaction, transaction markers), settled in any order, some twice."""
    offsets = sorted(data.draw(st.sets(st.integers(10, 200), min_size=1, max_size=30)))
    partition = ready_partition(TP, 10, CommitOffset(10))
    for offset in offsets:
        assert taken(partition, offset)
    unsettled = set(offsets)
    order = data.draw(st.permutations(offsets))
    for offset in order:
        assert partition.settle(offset)
        unsettled.discard(offset)
        assert partition.watermark == min(unsettled, default=offsets[-1] + 1)
        again = data.draw(st.sampled_from(order))
        if again not in unsettled:
            assert not partition.settle(again)
    assert partition.watermark == partition.position == offsets[-1] + 1
    assert partition.unsettled_span == 0


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(0, 20))
def test_a_record_is_taken_once_and_in_rising_order(offsets: list[int], start: int) -> None:
    """What lies below the position (fetched twice, or before the start) is not taken."""
    partition = ready_partition(TP, start, CommitOffset(start))
    position = start
    for offset in offsets:
        assert taken(partition, offset) == (offset >= position)
        position = max(position, offset + 1)
    assert partition.position == position
    assert list(partition.pending) == sorted(partition.pending)


def test_settling_an_unknown_offset_changes_nothing() -> None:
    """A result for what this assignment never took finds nothing to settle."""
    partition = ready_partition(TP, 5, CommitOffset(5))
    assert taken(partition, 5)
    assert not partition.settle(4)
    assert not partition.settle(6)
    assert partition.watermark == 5


def test_only_news_is_committed() -> None:
    """The same offset is not committed again, and a start without a commit is one."""
    assert ready_partition(TP, 7, CommitOffset(7)).to_commit() is None
    fresh = ready_partition(TP, 7, None)
    said = [fresh.progressed, fresh.to_commit(), fresh.progressed]
    assert said == [True, CommitOffset(7, ""), False]
    moved = ready_partition(TP, 9, CommitOffset(7))
    assert moved.progressed, "the log start was above the committed offset"


def test_a_hold_ends_with_the_last_that_waited_for_it() -> None:
    """Each reason is counted by what waits, and one reason does not end another."""
    partition = ready_partition(TP, 0, CommitOffset(0))
    partition.hold("store", 1)
    partition.hold("store", 2)
    partition.hold("store", 2)
    partition.hold("letter", 3)
    partition.release("store", 1)
    partition.release("store", 9)
    assert set(partition.holds) == {"store", "letter"}
    partition.release("store", 2)
    assert set(partition.holds) == {"letter"}
    partition.release("letter", 3)
    partition.release("letter", 3)
    assert not partition.holds


def test_the_span_of_what_is_unsettled_counts_from_the_first_unsettled_record() -> None:
    """How far the position is ahead of what may be committed."""
    partition = ready_partition(TP, 0, CommitOffset(0))
    for offset in (0, 1, 2, 3):
        taken(partition, offset)
    partition.settle(0)
    partition.settle(2)
    assert (partition.watermark, partition.unsettled_span) == (1, 3)
    assert repr(partition) == "<Partition conversions/3 active position=4 pending=2>"
