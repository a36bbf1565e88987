from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.position import TRUNCATED, At, Earliest, Latest, Position, start_position

LOGS = st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda ends: (min(ends), max(ends)))
STARTS = st.one_of(st.just(Earliest()), st.just(Latest()), st.integers(0, 60).map(At))


@given(committed=st.integers(0, 60), log=LOGS, start=STARTS)
@settings(max_examples=200)
def test_a_committed_offset_is_never_passed_without_saying_what_was_lost(
    committed: int, log: tuple[int, int], start: Earliest | Latest | At
) -> None:
    """Reading goes on at the committed offset, or says which offsets no longer exist."""
    low, high = log
    position = start_position(committed, low, high, start)
    assert position.offset >= committed
    assert position.offset == committed or position.lost == (committed, position.offset)


@given(committed=st.integers(0, 60), log=LOGS, start=STARTS)
@settings(max_examples=200)
def test_a_position_is_readable_or_held(
    committed: int, log: tuple[int, int], start: Earliest | Latest | At
) -> None:
    """A position that is not held lies within the log, where the broker answers a fetch."""
    low, high = log
    position = start_position(committed, low, high, start)
    assert position.hold == TRUNCATED or low <= position.offset <= high
    assert (position.hold == TRUNCATED) == (committed > high)


@given(log=LOGS, start=STARTS)
@settings(max_examples=100)
def test_a_group_without_an_offset_begins_within_the_log(
    log: tuple[int, int], start: Earliest | Latest | At
) -> None:
    """Whatever the configuration says, a new group begins at a readable offset and loses none."""
    low, high = log
    position = start_position(None, low, high, start)
    assert low <= position.offset <= high
    assert (position.hold, position.lost) == (None, None)


@given(committed=st.integers(0, 60), log=LOGS, start=STARTS)
@settings(max_examples=100)
def test_the_configured_start_means_nothing_to_a_group_with_an_offset(
    committed: int, log: tuple[int, int], start: Earliest | Latest | At
) -> None:
    """`kafka.start` counts only where there is no committed offset."""
    assert start_position(committed, *log, start) == start_position(committed, *log, Earliest())


def test_a_new_group_begins_where_the_configuration_says() -> None:
    """Earliest is the log start, latest the log end, a time the offset found for it."""
    assert start_position(None, 3, 9, Earliest()) == Position(3)
    assert start_position(None, 3, 9, Latest()) == Position(9)
    assert start_position(None, 3, 9, At(5)) == Position(5)


def test_a_time_before_the_log_begins_at_its_start() -> None:
    """Retention may have moved the log start past the offset that was found a moment ago."""
    assert start_position(None, 3, 9, At(1)) == Position(3)


def test_records_deleted_before_they_were_read_are_named() -> None:
    """A committed offset below the log start goes on there and names the lost range."""
    assert start_position(2, 5, 9, Latest()) == Position(5, lost=(2, 5))


def test_an_offset_above_the_log_end_is_held_there() -> None:
    """A truncated log is held at the wanted offset, because no other is right."""
    assert start_position(12, 0, 9, Earliest()) == Position(12, hold=TRUNCATED)


def test_the_log_end_itself_can_be_read_from() -> None:
    """A group that has read everything goes on with the next record."""
    assert start_position(9, 0, 9, Earliest()) == Position(9)
