"""Records of the state topic: what is written is read, and what is not ours says nothing."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.state_records import (
    BINDING_BYTES,
    KEY_BYTES,
    MEMBER_BYTES,
    MOST_PARTITIONS,
    UNBOUND,
    VERSION,
    Kind,
    StateValue,
    decode,
    encode,
    split,
)

MEMBER, BINDING = b"m" * MEMBER_BYTES, b"b" * BINDING_BYTES
HEAD = 2 + MEMBER_BYTES + BINDING_BYTES + 8
WITH_KEYS = (Kind.ACCEPTED, Kind.ATTEMPTED, Kind.REFUSED)
CONTROLS = (Kind.OPEN, Kind.CLOSED)

times = st.integers(0, 2**64 - 1)
members = st.binary(min_size=MEMBER_BYTES, max_size=MEMBER_BYTES)
bindings = st.binary(min_size=BINDING_BYTES, max_size=BINDING_BYTES)
keys = st.lists(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), max_size=5).map(b"".join)


@st.composite
def state_values(draw: st.DrawFn) -> StateValue:
    """Anything that we may write."""
    kind = draw(st.sampled_from(Kind))
    value = StateValue(kind, draw(members), draw(bindings), draw(times))
    if kind in WITH_KEYS:
        return value._replace(time_ms=draw(times), keys=draw(keys))
    if kind is Kind.GROWN:
        return value._replace(time_ms=draw(times), partitions=draw(st.integers(0, MOST_PARTITIONS)))
    return value


@settings(max_examples=400)
@given(state_values())
def test_what_is_written_is_read(value: StateValue) -> None:
    """Every kind with every field, and nothing of it more than the format has."""
    assert decode(encode(value)) == value


@settings(max_examples=500)
@given(state_values(), st.data())
def test_a_record_that_is_cut_or_longer_says_nothing_of_other_keys(
    value: StateValue, data: st.DataObject
) -> None:
    """Only whole keys at the end may be missing or more; any other length is none of ours."""
    raw = encode(value)
    length = data.draw(st.integers(0, len(raw) + 2 * KEY_BYTES))
    changed = raw[:length] + bytes(max(0, length - len(raw)))
    found = decode(changed)
    if value.kind in WITH_KEYS and length >= HEAD + 8 and (length - HEAD - 8) % KEY_BYTES == 0:
        assert found == value._replace(keys=changed[HEAD + 8 :])
    else:
        assert found == (value if length == len(raw) else None)


@settings(max_examples=1000)
@given(st.binary(max_size=120))
def test_bytes_that_are_not_ours_never_raise_and_are_read_as_they_stand(raw: bytes) -> None:
    """Whatever is taken for a record is one: written again it gives the same bytes."""
    found = decode(raw)
    assert found is None or encode(found) == raw


@given(st.integers(0, 255), st.integers(0, 255))
def test_another_version_or_kind_is_ignored(version: int, kind: int) -> None:
    """What a later version says is not guessed at."""
    raw = bytes([version, kind]) + encode(StateValue(Kind.OPEN, MEMBER, BINDING, 7))[2:]
    known = version == VERSION and kind in {int(one) for one in CONTROLS}
    assert (decode(raw) is not None) is known


def test_a_tombstone_says_nothing() -> None:
    """Somebody may delete records by key; ours have none, and a null value is no record."""
    assert decode(None) is None
    assert decode(b"") is None


@pytest.mark.parametrize("kind", CONTROLS)
def test_ownership_records_hold_neither_time_nor_keys(kind: Kind) -> None:
    """Whose they are and how far the source was settled is all they say."""
    value = StateValue(kind, MEMBER, UNBOUND, 12, time_ms=99, keys=b"k" * KEY_BYTES)
    assert decode(encode(value)) == StateValue(kind, MEMBER, UNBOUND, 12)


def test_the_bytes_are_those_of_the_format() -> None:
    """Records outlive the process that wrote them: later versions must find them as they are."""
    head = bytes([1]), MEMBER, BINDING, pack(">Q", 5)
    key = bytes(range(KEY_BYTES))
    accepted = StateValue(Kind.ACCEPTED, MEMBER, BINDING, 5, 1_790_000_000_000, key)
    assert encode(accepted) == (
        head[0] + b"\x03" + b"".join(head[1:]) + pack(">Q", 1_790_000_000_000) + key
    )
    assert encode(StateValue(Kind.OPEN, MEMBER, BINDING, 5)) == head[0] + b"\x01" + b"".join(
        head[1:]
    )
    assert [int(kind) for kind in Kind] == [1, 2, 3, 4, 5, 6]
    grown = StateValue(Kind.GROWN, MEMBER, BINDING, 5, 6, b"", 7)
    assert encode(grown)[HEAD:] == pack(">QI", 6, 7)


@given(st.lists(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), max_size=20))
def test_keys_are_split_as_they_were_joined(several: list[bytes]) -> None:
    """One after the other, without separators."""
    assert split(b"".join(several)) == several


@given(state_values())
def test_a_record_never_shows_its_keys(value: StateValue) -> None:
    """Logs and tracebacks say how many there are."""
    text = repr(value._replace(keys=b"k" * KEY_BYTES * 3))
    assert text == f"<StateValue {value.kind.name.lower()} keys=3>"
