"""More than a hundred thousand hostile inputs: commit metadata, state records, retry headers.

What others may have written, or a bit that flipped: read without an exception, and never as
something that was not said. The inputs are the same in every run.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from consumer.commit_metadata import (
    Span,
    binding,
    decode,
    encode,
    is_of_another_topic,
    settled_spans,
)
from consumer.event import Headers, Record, TopicPartition
from consumer.retry_headers import LARGEST_OFFSET, MOST_REPLAYS, origin_of, retry_headers
from consumer.state_records import KEY_BYTES, Kind, StateValue, split
from consumer.state_records import decode as decode_state
from consumer.state_records import encode as encode_state

if TYPE_CHECKING:
    from collections.abc import Sequence

INPUTS = 36_000
OURS, OTHERS = binding("cluster", "topic"), binding("cluster", "another topic")
SOURCE, RETRY = TopicPartition("conversions", 3), TopicPartition("group.conversions.retry", 3)
NOW_MS = 1_790_000_000_000


class Mutator:
    """Turns well-formed inputs into hostile ones: flips, cuts, splices, noise, several at once."""

    def __init__(self, seed: int, originals: Sequence[bytes]) -> None:
        self.rng = random.Random(seed)
        self.originals = originals
        self.kinds = (self.flip, self.cut, self.splice, self.repeat, self.insert, self.noise)

    def next(self) -> bytes:
        """The next input."""
        value = self.rng.choice(self.originals)
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            value = self.rng.choice(self.kinds)(value)
        return value

    def flip(self, value: bytes) -> bytes:
        """One bit is another."""
        if not value:
            return value
        changed = bytearray(value)
        changed[self.at(value)] ^= 1 << int(self.rng.random() * 8)
        return bytes(changed)

    def cut(self, value: bytes) -> bytes:
        """A part is missing: the end, the beginning, or a piece within."""
        start, end = sorted((self.at(value), self.at(value)))
        return self.rng.choice((value[:end], value[start:], value[:start] + value[end:]))

    def splice(self, value: bytes) -> bytes:
        """The beginning of this and the end of another."""
        other = self.rng.choice(self.originals)
        return value[: self.at(value)] + other[self.at(other) :]

    def repeat(self, value: bytes) -> bytes:
        """A part comes twice."""
        start, end = sorted((self.at(value), self.at(value)))
        return value[:end] + value[start:]

    def insert(self, value: bytes) -> bytes:
        """Something is in between."""
        at = self.at(value)
        return value[:at] + self.rng.randbytes(1 + int(self.rng.random() * 20)) + value[at:]

    def noise(self, value: bytes) -> bytes:
        """Nothing of it is left but its length."""
        return self.rng.randbytes(len(value))

    def at(self, value: bytes) -> int:
        """A place in it."""
        return int(self.rng.random() * len(value))


def test_hostile_commit_metadata_never_lets_a_record_be_skipped() -> None:
    """It is one of those that were written for this offset and topic, or says nothing."""
    rng = random.Random(1)
    written: dict[str, Sequence[Span]] = {}
    for bound_to in (OURS, OTHERS):
        for base in (1000, 2**40):
            for number in range(12):
                unsettled = [base, *sorted(rng.sample(range(base + 1, base + 400), number * 4))]
                text = encode(base, settled_spans(base, unsettled, base + 400), bound_to)
                written[text] = decode(text, base, bound_to)
    ours = [spans for text, spans in written.items() if decode(text, 1000, OURS)]
    assert len(ours) == 12
    mutator = Mutator(2, [text.encode() for text in written])
    believed = of_another = 0
    for _ in range(INPUTS):
        text = mutator.next().decode("latin-1")
        of_another += is_of_another_topic(text, OURS)
        if spans := decode(text, 1000, OURS):
            believed += 1
            assert spans in ours
    assert max(believed, of_another) < INPUTS / 100, "only what a change left whole"


def test_hostile_state_records_say_nothing_that_does_not_stand_in_them() -> None:
    """Whole records of ours, or nothing; of a cut one only keys that were in it."""
    rng = random.Random(3)
    values = []
    for number in range(60):
        kind = Kind(1 + number % 6)
        value = StateValue(kind, rng.randbytes(16), OURS, rng.randrange(2**40))
        if kind is Kind.GROWN:
            value = value._replace(time_ms=NOW_MS, partitions=12)
        elif kind not in {Kind.OPEN, Kind.CLOSED}:
            keys = rng.randbytes(KEY_BYTES * rng.randrange(12))
            value = value._replace(time_ms=NOW_MS, keys=keys)
        values.append(value)
    mutator = Mutator(4, [encode_state(value) for value in values])
    read = 0
    for _ in range(INPUTS):
        raw = mutator.next()
        found = decode_state(raw)
        if found is not None:
            read += 1
            assert encode_state(found) == raw
    assert INPUTS / 100 < read < INPUTS
    for value in values:
        whole = encode_state(value)
        for length in range(len(whole)):
            found = decode_state(whole[:length])
            if found is not None:
                assert split(value.keys)[: len(found.keys) // KEY_BYTES] == split(found.keys)


def hostile_headers(rng: random.Random, mutator: Mutator, block: Headers) -> Headers:
    """The headers of a parked record, changed: values, names, order, number."""
    headers = [("h", b"1"), ("retry.own", b"x"), *block]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = int(rng.random() * len(headers))
        name, value = headers[at]
        drawn = rng.random()
        if drawn < 0.5:
            headers[at] = name, mutator.next()
        elif drawn < 0.6:
            headers[at] = name, None
        elif drawn < 0.7:
            headers[at] = name.swapcase() if drawn < 0.65 else "retry." + name, value
        elif drawn < 0.8:
            headers.insert(int(rng.random() * len(headers)), (name, mutator.next()))
        elif drawn < 0.9:
            headers.append(headers.pop(at))
        elif len(headers) > 1:
            del headers[at]
    return tuple(headers)


def test_hostile_retry_headers_are_within_all_bounds_and_invent_nothing() -> None:
    """A place is the record's own or one of its source partition; times are past, counts small."""
    rng = random.Random(5)
    blocks = [
        retry_headers(
            *SOURCE,
            offset,
            first_unknown_ms=None if offset % 2 else NOW_MS - offset,
            replay_count=offset % 5,
            parked_ms=NOW_MS - 1000,
        )
        for offset in (0, 1, 77, 2**40, LARGEST_OFFSET)
    ]
    mutator = Mutator(6, [value for block in blocks for _, value in block if value is not None])
    for _ in range(INPUTS):
        headers = hostile_headers(rng, mutator, rng.choice(blocks))
        came = origin_of(Record(*RETRY, 9, -1, None, None, headers), SOURCE, NOW_MS)
        topic, partition, offset, original, parked_ms = came.origin
        assert (topic, partition, offset) == (*RETRY, 9) or (topic, partition) == SOURCE
        assert 0 <= offset <= LARGEST_OFFSET
        assert 0 <= parked_ms <= NOW_MS
        assert came.first_unknown_ms is None or 0 <= came.first_unknown_ms <= NOW_MS
        assert 0 <= came.replay_count <= MOST_REPLAYS
        given = iter(headers)
        assert all(header in given for header in original), "some of those given, in their order"
