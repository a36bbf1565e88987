"""A dead letter is the original byte for byte, and says in headers what happened."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.deadletter import DETAIL_BYTES, IDENTITY_BYTES, DeadLetters
from consumer.event import (
    DEAD_LETTER_REASONS,
    Attempt,
    Destination,
    EventSource,
    Headers,
    Instant,
    Item,
    Reason,
    Record,
    Refused,
    TopicPartition,
    TraceIds,
)
from consumer.offsets import CommitOffset
from consumer.retry_headers import restore, retry_record
from tests.support.state_world import ready_partition
from tests.support.world import PIXEL, World, code, event

NOW = Instant(5.0, 1_790_000_000_123_456_789)
TRACE = TraceIds(0xABC, 0xDEF, 0, True, "")
LETTERS = DeadLetters("group-1/0.1.0")
TABLE = [
    "dlq.version",
    "dlq.reason",
    "dlq.detail",
    "dlq.field",
    "dlq.source.topic",
    "dlq.source.partition",
    "dlq.source.offset",
    "dlq.source.timestamp",
    "dlq.event_id",
    "dlq.event",
    "dlq.event_source_id",
    "dlq.tiktok.code",
    "dlq.tiktok.request_id",
    "dlq.http.status",
    "dlq.attempts",
    "dlq.failed_at",
    "dlq.consumer",
    "dlq.replay.count",
    "dlq.traceparent",
    "__connect.errors.topic",
    "__connect.errors.partition",
    "__connect.errors.offset",
    "__connect.errors.exception.message",
]


def item(
    *,
    key: bytes | None = b"k",
    value: bytes | None = b"v",
    headers: Headers = (),
    timestamp: int = 1_780_000_000_000,
) -> Item:
    """An item of a record, as it is after decoding and two attempts."""
    record = Record("conversions", 7, 42, timestamp, key, value, headers)
    destination = Destination(EventSource.WEB, PIXEL)
    attempt = Attempt(2, destination, None, TRACE, NOW, 1, 100)
    attempt.code, attempt.http_status, attempt.request_id = 40002, 200, "req-9"
    owner = ready_partition(TopicPartition("conversions", 7), 0, CommitOffset(0))
    made = Item(record, NOW, TRACE, owner)
    made.event_id, made.event, made.event_source_id = "order-1", "CompletePayment", PIXEL
    made.attempts, made.attempt_count = (attempt,), 2
    return made


def text(headers: Headers) -> dict[str, str]:
    """Headers as a reader sees them: the last of a name."""
    return {name: (value or b"").decode(errors="replace") for name, value in headers}


REFUSED = Refused(Reason.REJECTED, "not a valid string", "event_id")


def test_every_header_of_the_contract_is_there_with_its_value() -> None:
    """Names, order and values, for a reader in any language."""
    letter = LETTERS.letter(item(), REFUSED, 1, NOW)
    assert [name for name, _ in letter.headers] == TABLE
    assert text(letter.headers) == {
        "dlq.version": "1",
        "dlq.reason": "rejected",
        "dlq.detail": "not a valid string",
        "dlq.field": "event_id",
        "dlq.source.topic": "conversions",
        "dlq.source.partition": "7",
        "dlq.source.offset": "42",
        "dlq.source.timestamp": "1780000000000",
        "dlq.event_id": "order-1",
        "dlq.event": "CompletePayment",
        "dlq.event_source_id": PIXEL,
        "dlq.tiktok.code": "40002",
        "dlq.tiktok.request_id": "req-9",
        "dlq.http.status": "200",
        "dlq.attempts": "2",
        "dlq.failed_at": "2026-09-21T14:13:20.123Z",
        "dlq.consumer": "group-1/0.1.0",
        "dlq.replay.count": "0",
        "dlq.traceparent": "00-00000000000000000000000000000abc-0000000000000def-01",
        "__connect.errors.topic": "conversions",
        "__connect.errors.partition": "7",
        "__connect.errors.offset": "42",
        "__connect.errors.exception.message": "rejected: not a valid string",
    }


def test_what_is_not_known_has_no_header() -> None:
    """A record that could not even be decoded names neither event nor answer."""
    made = item(timestamp=-1)
    made.event_id = made.event = made.event_source_id = None
    made.attempts, made.attempt_count = (), 0
    made.trace = TraceIds(0, 0, 0, False, "")
    letter = LETTERS.letter(made, Refused(Reason.UNDECODABLE, "no event"), 1, NOW)
    assert set(TABLE) - {name for name, _ in letter.headers} == {
        "dlq.field",
        "dlq.source.timestamp",
        "dlq.event_id",
        "dlq.event",
        "dlq.event_source_id",
        "dlq.tiktok.code",
        "dlq.tiktok.request_id",
        "dlq.http.status",
        "dlq.traceparent",
    }
    assert text(letter.headers)["dlq.attempts"] == "0"
    assert letter.timestamp == -1


ANY_HEADERS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(TABLE),
        st.none() | st.binary(max_size=8),
    ),
    max_size=6,
).map(tuple)


@given(
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=50),
    headers=ANY_HEADERS,
    timestamp=st.integers(-1, 2**43),
)
def test_the_original_is_kept_byte_for_byte(
    key: bytes | None, value: bytes | None, headers: Headers, timestamp: int
) -> None:
    """Its headers come first and stay, ours follow and are the last of their names."""
    made = item(key=key, value=value, headers=headers, timestamp=timestamp)
    letter = LETTERS.letter(made, REFUSED, 9, NOW)
    for one in (letter, LETTERS.without_optional_headers(letter, made)):
        assert (one.handle, one.topic) == (9, "conversions.dlq")
        assert (one.key, one.value, one.timestamp) == (key, value, timestamp)
        assert one.headers[: len(headers)] == headers
        assert text(one.headers)["dlq.reason"] == "rejected"
        assert text(one.headers)["dlq.replay.count"] == "0"
        assert text(one.headers)["dlq.source.offset"] == "42"


def test_the_shortened_letter_keeps_what_names_its_reason_and_source() -> None:
    """Six short headers that a replay cannot do without."""
    made = item(headers=(("dlq.detail", b"from a replay"),))
    letter = LETTERS.without_optional_headers(LETTERS.letter(made, REFUSED, 1, NOW), made)
    assert [name for name, _ in letter.headers] == [
        "dlq.detail",
        "dlq.version",
        "dlq.reason",
        "dlq.source.topic",
        "dlq.source.partition",
        "dlq.source.offset",
        "dlq.replay.count",
    ]


@given(st.text(max_size=2000), st.text(max_size=2000), st.sampled_from(sorted(DEAD_LETTER_REASONS)))
def test_no_text_makes_a_header_long_or_the_letter_fail(
    detail: str, event_id: str, reason: Reason
) -> None:
    """Cut at a character, within its bytes; lone surrogates, which UTF-8 has not, included."""
    made = item()
    made.event_id = event_id * 3
    letter = LETTERS.letter(made, Refused(reason, detail * 3), 1, NOW)
    headers = dict(letter.headers)
    assert len(headers["dlq.detail"] or b"") <= DETAIL_BYTES == 1024
    assert len(headers["dlq.event_id"] or b"") <= IDENTITY_BYTES
    said = text(letter.headers)
    assert said["dlq.reason"] == reason.value
    assert said["__connect.errors.exception.message"] == f"{reason.value}: {said['dlq.detail']}"


def test_a_cut_does_not_split_a_character() -> None:
    """1,024 bytes hold 512 letters of two bytes, or one byte less of three."""
    for letter_bytes, kept in (("é", 512), ("€", 341), ("a", 1024)):
        letter = LETTERS.letter(item(), Refused(Reason.INVALID, letter_bytes * 5000), 1, NOW)
        assert text(letter.headers)["dlq.detail"] == letter_bytes * kept


def by_the_retry_topic(made: Item, *, headers: Headers | None = None) -> Item:
    """The same item after it was parked and read again, at another offset."""
    produce = retry_record(made, 1, "group-1.conversions.retry", NOW)
    retry = TopicPartition("group-1.conversions.retry", 7)
    owner = ready_partition(retry, 0, CommitOffset(0), beside=made.owner.source)
    read = Record(
        *retry,
        3,
        produce.timestamp,
        produce.key,
        produce.value,
        produce.headers if headers is None else headers,
    )
    back = replace(made, record=read, owner=owner)
    restore(back, NOW.wall_ms)
    return back


@given(headers=ANY_HEADERS, replays=st.integers(0, 9), times=st.integers(1, 3))
def test_a_parked_event_leaves_the_letter_it_would_have_left(
    headers: Headers, replays: int, times: int
) -> None:
    """The first source, the original's headers, nothing of the retry topic; shortened as well."""
    made = item(headers=headers)
    made.replay_count = replays
    back = made
    for _ in range(times):
        back = by_the_retry_topic(back)
    letter, same = LETTERS.letter(made, REFUSED, 1, NOW), LETTERS.letter(back, REFUSED, 1, NOW)
    assert same == letter
    assert LETTERS.without_optional_headers(same, back) == LETTERS.without_optional_headers(
        letter, made
    )


def test_an_event_of_unknown_origin_is_named_by_its_place_in_the_retry_topic() -> None:
    """Somebody put it there without saying from where: its letter goes to the source's topic."""
    headers = (("retry.source.topic", b"others"), ("h", b"1"), ("retry.source.offset", b"1"))
    letter = LETTERS.letter(by_the_retry_topic(item(), headers=headers), REFUSED, 1, NOW)
    assert letter.topic == "conversions.dlq"
    said = text(letter.headers)
    assert [said[f"dlq.source.{name}"] for name in ("topic", "partition", "offset")] == [
        "group-1.conversions.retry",
        "7",
        "3",
    ]
    assert not any(name.startswith("retry.") for name, _ in letter.headers)


def test_the_topic_may_be_configured() -> None:
    """One topic for all sources, else each source has its own."""
    assert DeadLetters("c").topic_of("orders") == "orders.dlq"
    assert replace(LETTERS, topic="all.dead").topic_of("orders") == "all.dead"


def test_the_reasons_are_a_closed_list() -> None:
    """Tools match on these words."""
    assert {reason.value for reason in DEAD_LETTER_REASONS} == {
        "undecodable",
        "schema_unknown",
        "invalid",
        "unknown_destination",
        "too_old",
        "in_future",
        "too_large",
        "rejected",
        "retries_exhausted",
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"no event", "undecodable"),
        (event(event_source_id="nobody"), "unknown_destination"),
        (event(event_time=1_000), "too_old"),
        (event(event_time=1_890_000_000_000), "in_future"),
        (event(""), "invalid"),
        (event(page={"url": "https://s.example/" + "x" * 200_000}), "too_large"),
        (event("refused"), "rejected"),
    ],
)
def test_each_way_to_fail_has_its_reason(value: bytes, reason: str) -> None:
    """From the record to the letter, with the coordinates of the source."""
    world = World(answer=lambda _request: code(40002, "Invalid value for data.0.x: no."))
    world.assign(3)
    world.produce(None, value, partition=3)
    world.run(1.0)
    (letter,) = world.letters
    headers = text(letter.headers)
    assert headers["dlq.reason"] == reason
    assert (headers["dlq.source.partition"], headers["dlq.source.offset"]) == ("3", "1")
    assert (letter.key, letter.value, letter.headers[0]) == (b"k", value, ("h", b"1"))
    assert world.outcomes(3) == {0: "suppressed:tombstone", 1: f"dead_lettered:{reason}"}
