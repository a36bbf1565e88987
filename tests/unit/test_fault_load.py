"""The fault harness's load: cheap to make, and still exactly what a shop would have produced."""

from __future__ import annotations

from io import BytesIO

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.load import LETTERS, USUAL, Fate, Load, event_id_of, event_of
from tests.support.events import SCHEMA

NOW_MS = 1_764_000_000_000
SCHEMA_ID = 7
PARSED = fastavro.parse_schema(SCHEMA)


def loaded(count: int, seed: int = 1, partitions: int = 4) -> Load:
    load = Load(seed, SCHEMA_ID, partitions, NOW_MS)
    list(load.records(load.more(count)))
    return load


def decoded(value: bytes) -> dict[str, object]:
    stream = BytesIO(value)
    assert stream.read(5) == b"\x00" + SCHEMA_ID.to_bytes(4, "big")
    event = fastavro.schemaless_reader(stream, PARSED, None)
    assert not stream.read()
    assert isinstance(event, dict)
    return event


def test_a_patched_event_is_a_whole_one_with_its_own_id() -> None:
    """What is put together from three pieces reads back as the event of that number."""
    load = loaded(300)
    for number in load.with_fate(Fate.DELIVERED):
        event = decoded(load.record(number).value or b"")
        identity = load.identity(number)
        assert event["event_id"] == identity.event_id == event_id_of(number).decode()
        assert event["event_source_id"] == identity.event_source_id == load.source_of(number)
        assert event_of(identity.event_id) == number


def test_a_repeat_is_its_original_in_the_same_partition() -> None:
    """Key, value and partition are those of an earlier record that has to be delivered."""
    load = loaded(5_000)
    repeats = list(load.with_fate(Fate.REPEAT))
    assert repeats
    for number in repeats:
        original = load.originals[number]
        first, again = load.record(original), load.record(number)
        assert original < number
        assert load.fates[original] == Fate.DELIVERED
        assert (first.key, first.value, first.partition) == (
            again.key,
            again.value,
            again.partition,
        )


@pytest.mark.parametrize("fate", list(LETTERS))
def test_a_spoilt_record_is_spoilt_in_one_way(fate: Fate) -> None:
    """What is to be undecodable cannot be read; the others can, and lack what they need."""
    load = loaded(2_000)
    values = [load.record(number).value or b"" for number in load.with_fate(fate)]
    assert values
    for value in values:
        if fate is Fate.UNDECODABLE:
            with pytest.raises((EOFError, IndexError)):
                decoded(value)
        elif fate is Fate.INVALID:
            assert decoded(value)["page"] is None
        else:
            assert str(decoded(value)["event_source_id"]).startswith("C9NOBODY")


@given(seed=st.integers(0, 2**32), partitions=st.integers(1, 8), more=st.lists(st.integers(0, 60)))
def test_the_log_has_every_record_once_in_its_place(
    seed: int, partitions: int, more: list[int]
) -> None:
    """However often more is asked for, each record is in the partition of its event, in order."""
    load = Load(seed, SCHEMA_ID, partitions, NOW_MS)
    for count in more:
        list(load.records(load.more(count)))
    logged = sorted(number for log in load.log for number in log)
    assert logged == list(range(sum(more))) == list(range(len(load.fates)))
    for partition, log in enumerate(load.log):
        assert list(log) == sorted(log)
        assert {load.originals[number] % partitions for number in log} <= {partition}
    assert load.ends == {p: len(log) for p, log in enumerate(load.log)}


def test_the_same_seed_gives_the_same_records() -> None:
    """A round can be made again from its number."""
    one, two, other = loaded(500), loaded(500), loaded(500, seed=2)
    assert [one.record(n) for n in range(500)] == [two.record(n) for n in range(500)]
    assert bytes(one.fates) != bytes(other.fates)


def test_the_usual_mix_is_a_whole() -> None:
    """The shares of the fates add up to everything."""
    assert sum(USUAL.values()) == pytest.approx(1.0)
    assert set(USUAL) == set(Fate)
