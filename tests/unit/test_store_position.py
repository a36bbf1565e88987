"""A local store's position is believed only where everything below it is sure to be there."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from consumer.commit_metadata import binding
from consumer.messages import Reached
from consumer.state_records import UNBOUND
from consumer.store_position import CLEAN, KEY, Position, Standing, decode, encode, judge, place

OFFSETS = st.integers(0, 2**63 - 1)
SIXTEEN = st.binary(min_size=16, max_size=16)
CLUSTERS = st.sampled_from(["one", "two"])
BINDINGS = st.builds(binding, CLUSTERS, CLUSTERS) | st.just(UNBOUND)
REACHED = st.builds(
    Reached, OFFSETS, OFFSETS, OFFSETS, SIXTEEN, st.lists(SIXTEEN, max_size=5).map(tuple)
)
POSITIONS = st.builds(Position, BINDINGS, SIXTEEN | st.just(CLEAN), REACHED)
HERE = place("boot", 1, 2)


@given(POSITIONS)
def test_a_position_comes_back_as_it_was_written(position: Position) -> None:
    """Its members too, in their order."""
    assert decode(encode(position)) == position


@given(POSITIONS, st.data())
def test_a_changed_value_is_damage(position: Position, data: st.DataObject) -> None:
    """Every bit of it counts: the checksum covers them all."""
    raw = bytearray(encode(position))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    assert decode(bytes(raw)) is None
    assert judge(bytes(raw), position.state_bound_to, HERE) == (Standing.DAMAGED, None)


@given(POSITIONS, st.data())
def test_a_value_of_another_length_is_damage(position: Position, data: st.DataObject) -> None:
    """Cut anywhere, or with something behind it."""
    raw = encode(position)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    assert decode(cut) is None
    assert decode(raw + data.draw(st.binary(min_size=1, max_size=40))) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(raw: bytes) -> None:
    """Whatever stands there, there is an answer, and no position out of nothing."""
    assert judge(raw, UNBOUND, HERE) == (Standing.DAMAGED, None)


@given(REACHED, BINDINGS, st.sampled_from([CLEAN, HERE]))
def test_a_position_of_this_state_topic_and_place_is_valid(
    reached: Reached, bound_to: bytes, written_on: bytes
) -> None:
    """After an orderly end, or in the directory it was written in, since the machine started."""
    raw = encode(Position(bound_to, written_on, reached))
    assert judge(raw, bound_to, HERE) == (Standing.VALID, reached)


@given(REACHED, BINDINGS, st.tuples(st.sampled_from(["boot", "next"]), OFFSETS, OFFSETS))
def test_a_position_written_in_use_elsewhere_or_before_is_uncertain(
    reached: Reached, bound_to: bytes, where: tuple[str, int, int]
) -> None:
    """Another start of the machine, another disk, another directory: each is enough."""
    assume(where != ("boot", 1, 2))
    raw = encode(Position(bound_to, place(*where), reached))
    assert judge(raw, bound_to, HERE) == (Standing.UNCERTAIN, None)


@given(POSITIONS, BINDINGS)
def test_a_position_in_another_log_is_none(position: Position, bound_to: bytes) -> None:
    """Another cluster's marks are foreign; where only the topic differs, or is not known, not."""
    before = position.state_bound_to
    assume(before != bound_to)
    told = UNBOUND not in (before, bound_to)
    expected = Standing.FOREIGN if told and before[:8] != bound_to[:8] else Standing.OTHER_TOPIC
    assert judge(encode(position), bound_to, HERE) == (expected, None)


def test_where_there_is_no_value_the_directory_is_new() -> None:
    """So it is with one that was filled before positions were kept."""
    assert judge(None, UNBOUND, HERE) == (Standing.NEW, None)


def test_no_key_of_an_event_can_meet_the_position() -> None:
    """Keys have 16 bytes."""
    assert len(KEY) != 16
