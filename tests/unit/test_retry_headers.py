"""A parked record is the original and a block of headers, which is not believed unread."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.event import Headers, Instant, Item, Origin, Record, TopicPartition, TraceIds
from consumer.offsets import CommitOffset
from consumer.retry_headers import (
    LARGEST_OFFSET,
    MOST_REPLAYS,
    Came,
    origin_of,
    restore,
    retry_headers,
    retry_record,
)
from tests.support.state_world import ready_partition

SOURCE = TopicPartition("conversions", 7)
RETRY = TopicPartition("group-1.conversions.retry", 7)
NOW = Instant(5.0, 1_790_000_000_123_456_789)
NO_TRACE = TraceIds(0, 0, 0, False, "")
NAMES = [
    "retry.source.topic",
    "retry.source.partition",
    "retry.source.offset",
    "retry.first_unknown_at",
    "retry.replay.count",
    "retry.parked_at",
]

values = st.none() | st.binary(max_size=12)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [*NAMES, "retry.attempt", "retry.", "retry", "dlq.reason", "traceparent"]
)
any_headers = st.lists(st.tuples(names, values), max_size=8).map(tuple)
times = st.integers(0, NOW.wall_ms)


def source_item(headers: Headers = (), *, offset: int = 42, timestamp: int = -1) -> Item:
    """An item as it was read from the source."""
    record = Record(*SOURCE, offset, timestamp, b"k", b"v", headers)
    return Item(record, NOW, NO_TRACE, ready_partition(SOURCE, 0, CommitOffset(0)))


def read_back(headers: Headers, *, offset: int = 3, now_ms: int = NOW.wall_ms) -> Item:
    """An item as it comes by the retry topic with these headers."""
    beside = ready_partition(SOURCE, 0, CommitOffset(0))
    owner = ready_partition(RETRY, 0, CommitOffset(0), beside=beside)
    item = Item(Record(*RETRY, offset, -1, b"k", b"v", headers), NOW, NO_TRACE, owner)
    restore(item, now_ms)
    return item


def came(*headers: tuple[str, bytes | None]) -> Came:
    """What a record with these headers says of itself."""
    return origin_of(Record(*RETRY, 3, -1, None, None, headers), SOURCE, NOW.wall_ms)


def test_every_header_of_the_contract_is_there_with_its_value() -> None:
    """Behind the original's own, in this order; a time only where TikTok may have the event."""
    item = source_item((("h", b"1"), ("h", None)), timestamp=1_780_000_000_000)
    item.first_unknown_ms, item.replay_count = 1_789_999_999_007, 2
    produce = retry_record(item, 9, RETRY.topic, NOW)
    assert (produce.handle, produce.topic, produce.partition) == (9, *RETRY)
    assert (produce.key, produce.value, produce.timestamp) == (b"k", b"v", 1_780_000_000_000)
    assert produce.headers == (
        ("h", b"1"),
        ("h", None),
        ("retry.source.topic", b"conversions"),
        ("retry.source.partition", b"7"),
        ("retry.source.offset", b"42"),
        ("retry.first_unknown_at", b"2026-09-21T14:13:19.007Z"),
        ("retry.replay.count", b"2"),
        ("retry.parked_at", b"2026-09-21T14:13:20.123Z"),
    )
    item.first_unknown_ms = None
    said = [name for name, _ in retry_record(item, 9, RETRY.topic, NOW).headers[2:]]
    assert said == [name for name in NAMES if name != "retry.first_unknown_at"]


@given(any_headers, st.none() | times, st.integers(0, MOST_REPLAYS), st.integers(0, LARGEST_OFFSET))
def test_what_was_parked_comes_back_whole_however_often_it_is_parked(
    headers: Headers, first_unknown_ms: int | None, replays: int, offset: int
) -> None:
    """The original's headers byte for byte, those called `retry.*` included; nothing piles up."""
    item = source_item(headers, offset=offset)
    for place in range(3):
        item.first_unknown_ms, item.replay_count = first_unknown_ms, replays
        produce = retry_record(item, 1, RETRY.topic, NOW)
        ours = len(NAMES) - (first_unknown_ms is None)
        assert produce.headers[:-ours] == headers
        item = read_back(produce.headers, offset=place)
        assert item.origin == Origin(*SOURCE, offset, headers, NOW.wall_ms)
        assert (item.first_unknown_ms, item.replay_count) == (first_unknown_ms, replays)
        assert item.record.offset == place


@given(st.none() | times, times)
def test_a_block_is_read_as_it_was_written(first_unknown_ms: int | None, parked_ms: int) -> None:
    """To the millisecond, for any time up to now."""
    block = retry_headers(
        *SOURCE, 5, first_unknown_ms=first_unknown_ms, replay_count=1, parked_ms=parked_ms
    )
    assert came(*block) == Came(Origin(*SOURCE, 5, (), parked_ms), first_unknown_ms, 1)


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"retry.source.offset": b"-1"},
        {"retry.source.offset": b"1" * 20},
        {"retry.source.offset": b"9223372036854775808"},
        {"retry.source.offset": b"9" * 1_000_000},
        {"retry.source.offset": "\N{ARABIC-INDIC DIGIT THREE}".encode()},
        {"retry.source.offset": b"1_0"},
        {"retry.source.offset": b" 1"},
        {"retry.source.offset": b""},
        {"retry.source.offset": None},
        {"retry.source.partition": b"8"},
        {"retry.source.partition": None},
        {"retry.source.topic": b"others"},
        {"retry.source.topic": b"\xff\xfe"},
        {"retry.source.topic": None},
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_a_place_that_cannot_be_right_is_none(
    place: dict[str, bytes | None],
    before: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    """The record's own place stands for it, wholly; other headers are not touched by it."""
    good: dict[str, bytes | None] = {
        "retry.source.topic": b"conversions",
        "retry.source.partition": b"7",
        "retry.source.offset": b"42",
    }
    said = tuple((good | place).items()) if place else ()
    other = ("h", b"1")
    found = came(other, *said) if before else came(*said, other)
    assert found == Came(Origin(*RETRY, 3, (other,), 0), None, 0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"2026-09-21T14:13:20.122Z", NOW.wall_ms - 1),
        (b"2026-09-21T14:13:20.124Z", NOW.wall_ms),
        (b"9999-12-31T23:59:59.999Z", NOW.wall_ms),
        (b"1970-01-01T00:00:00.000Z", 0),
        (b"1969-12-31T23:59:59.999Z", None),
        (b"0001-01-01T00:00:00.000Z", None),
        (b"2026-02-30T00:00:00.000Z", None),
        (b"2026-09-21T14:13:20.122+", None),
        (b"2026-09-21T14:13:20Z", None),
        (b"\xff" * 23 + b"Z", None),
        ("\N{FULLWIDTH DIGIT TWO}026-09-21T14:13:20.1Z".encode(), None),
        (b"Z" * 1_000_000, None),
        (b"", None),
        (None, None),
    ],
)
def test_a_time_is_read_strictly_and_never_lies_ahead(
    value: bytes | None, expected: int | None
) -> None:
    """A clock that ran ahead does not lengthen a limit; what is not readable is none."""
    found = came(("retry.first_unknown_at", value), ("retry.parked_at", value))
    assert found.first_unknown_ms == expected
    assert found.origin.parked_ms == (expected or 0)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (b"3", 3),
        (b"1000000", 1_000_000),
        (b"1000001", 0),
        (b"-3", 0),
        (b"9" * 5000, 0),
        (b"0x3", 0),
        (None, 0),
    ],
)
def test_a_count_of_replays_is_bounded(value: bytes | None, count: int) -> None:
    """Python itself refuses to convert 5,000 digits; here they are never asked for."""
    assert came(("retry.replay.count", value)).replay_count == count


def test_the_last_header_of_a_name_counts_where_the_block_is_not_whole() -> None:
    """A header of another's behind the block: ours are found by name, the others stay in order."""
    block = retry_headers(*SOURCE, 42, first_unknown_ms=None, replay_count=1, parked_ms=NOW.wall_ms)
    spoof = ("retry.source.offset", b"41")
    found = came(("a", b"1"), spoof, *block, ("traceparent", b"00"))
    headers = (("a", b"1"), ("traceparent", b"00"))
    assert found == Came(Origin(*SOURCE, 42, headers, NOW.wall_ms), None, 1)


def test_an_original_with_headers_of_our_names_does_not_speak_for_us() -> None:
    """It gets them back, and only the block behind them is read."""
    theirs = retry_headers("others", 1, 1, first_unknown_ms=0, replay_count=99, parked_ms=0)
    item = source_item(theirs)
    back = read_back(retry_record(item, 1, RETRY.topic, NOW).headers)
    assert back.origin == Origin(*SOURCE, 42, theirs, NOW.wall_ms)
    assert (back.first_unknown_ms, back.replay_count) == (None, 0)


def test_a_record_of_the_source_is_not_restored() -> None:
    """Headers of these names on a source record are its producer's, and mean nothing."""
    with pytest.raises(TypeError, match="retry topic"):
        restore(source_item(), NOW.wall_ms)


def test_no_headers_at_all_make_reading_fail() -> None:
    """Mutated blocks, 5,000 of a seed: every answer is within its bounds, others' headers stay."""
    rng = random.Random(4)
    pieces = [b"", b"0", b"7", b"conversions", b"9" * 400, b"-1", b"\x00", b"\xed\xa0\x80", None]
    pieces += [
        b"2026-09-21T14:13:20.123Z",
        b"2999-01-01T00:00:00.000Z",
        "\N{ARABIC-INDIC DIGIT SEVEN}".encode(),
    ]
    for _ in range(5_000):
        chosen = rng.choices([*NAMES, "h", "retry", "retry.x"], k=rng.randrange(10))
        headers = tuple((name, rng.choice(pieces)) for name in chosen)
        origin, first_unknown_ms, replays = came(*headers)
        assert (origin.topic, origin.partition) in {SOURCE, RETRY}
        assert 0 <= origin.offset <= LARGEST_OFFSET
        assert 0 <= origin.parked_ms <= NOW.wall_ms
        assert first_unknown_ms is None or 0 <= first_unknown_ms <= NOW.wall_ms
        assert 0 <= replays <= MOST_REPLAYS
        others = [header for header in headers if not header[0].startswith("retry.")]
        assert [h for h in origin.headers if not h[0].startswith("retry.")] == others
