from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.event import TopicPartition
from consumer.messages import ReadState, StateChunk, StateRecord
from consumer.state_chunks import MOST_BYTES, MOST_RECORDS, PartitionReading

TP = TopicPartition("state", 0)


def asked(start: int | None, end: int) -> ReadState:
    return ReadState(1, TP, start, end)


def record(offset: int, size: int = 1) -> StateRecord:
    return StateRecord(offset, 1000 + offset, bytes(size))


def answer(reading: PartitionReading) -> StateChunk:
    """The chunk that must be there by now."""
    chunk = reading.chunk()
    assert chunk is not None
    return chunk


def read_to_the_end(
    log: list[StateRecord], low: int, high: int, read: ReadState, fetches: list[int]
) -> list[StateChunk]:
    """Plays the fetcher: the log's ends when they are asked for, records a few at a time."""
    reading = PartitionReading(read)
    chunks: list[StateChunk] = []
    ahead = iter(fetches * (len(log) + 10))
    for _ in range(10 * (len(log) + 10)):
        if reading.needs_ends:
            reading.told_ends(low, high)
        if (chunk := reading.chunk()) is not None:
            chunks.append(chunk)
            stuck = len(chunks) > 1 and chunk.next_offset == chunks[-2].next_offset
            if chunk.next_offset >= read.end or stuck:
                return chunks
            again = asked(chunk.next_offset, read.end)
            assert reading.goes_on_with(again)
            reading.read = again
            continue
        if reading.wants_records:
            coming = [r for r in log if r.offset >= reading.position][: next(ahead)]
            for fetched in coming:
                reading.take(fetched)
            if not [r for r in log if r.offset >= reading.position]:
                reading.reached_end(high)
    raise AssertionError("no end was reached")


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[StateRecord], int, int]:
    """A log with gaps (markers, compaction), its start and its end."""
    low = draw(st.integers(0, 20))
    offset, log = low, []
    for _ in range(draw(st.integers(0, 30))):
        offset += draw(st.sampled_from([0, 0, 0, 1, 2, 9]))
        size = draw(st.sampled_from([0, 1, 40_000, MOST_BYTES, MOST_BYTES + 1]))
        log.append(record(offset, size))
        offset += 1
    return log, low, offset + draw(st.sampled_from([0, 0, 1, 3]))


@given(
    logs=logs(),
    start=st.none() | st.integers(0, 120),
    length=st.integers(0, 120),
    fetches=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_the_chunks_of_a_read_are_the_log_between_its_offsets(
    logs: tuple[list[StateRecord], int, int], start: int | None, length: int, fetches: list[int]
) -> None:
    """Each record once and in order, whatever gaps there are and however it is fetched.

    It ends at the offset asked for, or where the log does.
    """
    log, low, high = logs
    end = (start or 0) + length
    chunks = read_to_the_end(log, low, high, asked(start, end), fetches)
    begin = max(low, start or 0)
    read = [r for chunk in chunks for r in chunk.records]
    assert read == [r for r in log if begin <= r.offset < end]
    offsets = [chunk.next_offset for chunk in chunks]
    assert offsets == sorted(offsets)
    assert offsets[-1] >= min(end, high) or offsets[-1] == high
    for chunk in chunks:
        assert len(chunk.records) <= MOST_RECORDS
        size = sum(len(r.value or b"") for r in chunk.records)
        assert size <= MOST_BYTES or len(chunk.records) == 1
        assert all(r.offset < chunk.next_offset for r in chunk.records)
        assert chunk.log_start == low
        assert chunk.log_end >= high


def test_the_end_of_the_log_is_believed_when_it_was_told_twice() -> None:
    """A new leader may not know at once how far its log is replicated."""
    reading = PartitionReading(asked(3, 9))
    reading.told_ends(0, 3)
    assert reading.chunk() is None
    assert reading.needs_ends
    reading.told_ends(0, 3)
    assert answer(reading) == ([], 3, 0, 3)


def test_a_log_that_grew_in_between_is_read() -> None:
    """The first word about its end was early."""
    reading = PartitionReading(asked(3, 5))
    reading.told_ends(0, 3)
    reading.told_ends(0, 5)
    assert reading.wants_records
    reading.take(record(3))
    reading.take(record(4))
    assert [r.offset for r in answer(reading).records] == [3, 4]


def test_a_start_above_the_end_is_answered_with_the_end() -> None:
    """Nothing is read and nothing reset: the true ends are told."""
    reading = PartitionReading(asked(50, 60))
    reading.told_ends(2, 10)
    reading.told_ends(2, 10)
    assert answer(reading) == ([], 10, 2, 10)


def test_a_lost_position_begins_again_where_chunks_ended() -> None:
    """What was fetched ahead of it and not handed out is fetched again, as the log is now."""
    reading = PartitionReading(asked(0, 9))
    reading.told_ends(0, 9)
    reading.take(record(0))
    assert answer(reading).next_offset == 1
    reading.read = asked(1, 9)
    reading.lose_position()
    assert reading.needs_ends
    reading.told_ends(4, 9)
    reading.take(record(4))
    chunk = answer(reading)
    assert ([r.offset for r in chunk.records], chunk.log_start) == ([4], 4)


def test_buffered_records_that_were_lost_are_not_handed_out() -> None:
    """A truncated log has other records at these offsets, or none."""
    reading = PartitionReading(asked(0, 9))
    reading.told_ends(0, 9)
    reading.take(record(0, 100))
    reading.lose_position()
    assert (reading.buffered, reading.position) == (0, 0)
    assert reading.chunk() is None


def test_a_record_that_comes_again_is_left_out() -> None:
    """A fetcher that begins anew may bring what is known already."""
    reading = PartitionReading(asked(0, 3))
    reading.told_ends(0, 3)
    for offset in (0, 1, 0, 1, 2):
        reading.take(record(offset))
    assert [r.offset for r in answer(reading).records] == [0, 1, 2]


def test_a_read_from_elsewhere_does_not_go_on() -> None:
    """Only a read that begins at the last chunk's end does; one without a start never."""
    reading = PartitionReading(asked(0, 9))
    assert not reading.goes_on_with(asked(0, 9))
    reading.told_ends(0, 9)
    reading.take(record(0))
    answer(reading)
    assert reading.goes_on_with(asked(1, 9))
    assert not reading.goes_on_with(asked(2, 9))
    assert not reading.goes_on_with(asked(None, 9))
