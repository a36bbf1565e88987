from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("100ms", 0.1),
        ("10s", 10.0),
        ("1.5m", 90.0),
        ("48h", 172_800.0),
        ("7d", 604_800.0),
        (" 5 s ", 5.0),
    ],
)
def test_a_duration_is_a_number_with_its_unit(text: str, seconds: float) -> None:
    """Each unit means its seconds, exactly, and white space does not matter."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1 week", "1h30m", "1S", "1e3s", "9" * 40])
def test_what_is_no_duration_is_refused_without_being_quoted(text: str) -> None:
    """The refusal teaches the form; the text could be a secret in the wrong place."""
    with pytest.raises(ValueError, match=r"ms, s, m, h or d") as refused:
        parse_duration(text)
    assert len(text) < 10 or text not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("1KiB", 1024), ("1.5KiB", 1536), ("64MiB", 67_108_864), ("2GiB", 2_147_483_648)],
)
def test_a_size_counts_in_powers_of_1024(text: str, size: int) -> None:
    """KiB, MiB and GiB mean what they say."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "1", "1KB", "1mib", "-1B", "one MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """`1MB` could be a million bytes or 1,048,576: it is refused, not guessed."""
    with pytest.raises(ValueError, match="KiB"):
        parse_size(text)


def test_a_size_with_a_part_of_a_byte_is_refused() -> None:
    """Half a byte is a typing error."""
    with pytest.raises(ValueError, match="whole number of bytes"):
        parse_size("0.5B")


@given(st.integers(min_value=1, max_value=10**12))
def test_a_duration_written_and_read_is_the_same(milliseconds: int) -> None:
    """`format_duration` loses nothing down to the millisecond."""
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


@given(st.integers(min_value=1, max_value=2**50))
def test_a_size_written_and_read_is_the_same(size: int) -> None:
    """`format_size` loses nothing."""
    assert parse_size(format_size(size)) == size
