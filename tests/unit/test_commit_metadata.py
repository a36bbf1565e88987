"""The metadata of a commit: what is settled above the committed offset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from consumer.commit_metadata import (
    MOST_BYTES,
    PREFIX,
    Span,
    binding,
    decode,
    encode,
    is_of_another_topic,
    settled_spans,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = binding("cluster", "topic")
OTHERS = binding("cluster", "topic created anew")

offsets = st.integers(0, 2**62)


def written(base: int, unsettled: list[int], position: int, bound_to: bytes = OURS) -> str:
    return encode(base, settled_spans(base, unsettled, position), bound_to)


def settled_offsets(spans: Sequence[Span]) -> set[int]:
    return {offset for span in spans for offset in range(span.start, span.end)}


@given(
    base=offsets,
    gaps=st.lists(st.integers(1, 400), max_size=80),
    beyond=st.integers(0, 50),
)
def test_what_is_encoded_comes_back(base: int, gaps: list[int], beyond: int) -> None:
    """Every settled offset above the base is found again, and no unsettled one among them."""
    unsettled = [base]
    for gap in gaps:
        unsettled.append(unsettled[-1] + gap)
    position = unsettled[-1] + 1 + beyond
    metadata = written(base, unsettled, position)
    expected = set(range(base, position)) - set(unsettled)
    assert settled_offsets(decode(metadata, base, OURS)) == expected


@given(st.integers(0, 2**40), st.integers(2000, 6000), st.integers(2, 1000))
def test_the_longest_prefix_that_fits_is_kept(base: int, count: int, step: int) -> None:
    """Metadata stays within Kafka's limit, and what is left out is left out from the end."""
    unsettled = [base + n * step for n in range(count)]
    position = unsettled[-1] + 2
    metadata = written(base, unsettled, position)
    assert len(metadata) <= MOST_BYTES
    spans = decode(metadata, base, OURS)
    complete = [Span(n + 1, n + step) for n in unsettled[:-1]] + [Span(position - 1, position)]
    assert spans == complete[: len(spans)]
    assert len(spans) >= min(len(complete), 1000)


def test_a_commit_without_progress_above_it_tells_its_topic_alone() -> None:
    """Nothing settled above the offset: nothing is read back."""
    assert decode(written(0, [0, 1, 2], 3), 0, OURS) == []
    assert decode(written(7, [], 7), 7, OURS) == []
    assert decode("", 0, OURS) == ()


def test_metadata_of_another_topic_cluster_or_offset_is_ignored() -> None:
    """The binding and the base offset have to be ours."""
    metadata = written(5, [5], 9)
    assert decode(metadata, 5, OURS) == [Span(6, 9)]
    assert decode(metadata, 5, OTHERS) == ()
    assert decode(metadata, 4, OURS) == ()


def test_metadata_tells_a_topic_that_was_made_again_from_another_cluster() -> None:
    """Another topic id on this cluster; what another cluster wrote says nothing."""
    metadata = written(5, [5], 9)
    assert not is_of_another_topic(metadata, OURS)
    assert is_of_another_topic(metadata, OTHERS)
    assert not is_of_another_topic(metadata, binding("another cluster", "topic"))
    assert not is_of_another_topic("", OURS)
    assert not is_of_another_topic("t1.somebody's", OURS)


@given(st.text() | st.binary().map(lambda b: PREFIX + b.hex()) | st.text().map(PREFIX.__add__))
def test_hostile_metadata_is_ignored(metadata: str) -> None:
    """Whatever somebody wrote there, nothing is skipped for it and nothing raised."""
    assert decode(metadata, 0, OURS) == ()


@given(st.data())
def test_damaged_metadata_is_ignored(data: st.DataObject) -> None:
    """One changed character is enough."""
    metadata = written(5, [5, 9, 14], 20)
    at = data.draw(st.integers(0, len(metadata) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != metadata[at]))
    damaged = metadata[:at] + other + metadata[at + 1 :]
    assert decode(damaged, 5, OURS) in ((), decode(metadata, 5, OURS))
