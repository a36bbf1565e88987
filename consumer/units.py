"""Durations and sizes as a person writes them: `250ms`, `48h`, `1MiB`.

A duration needs its unit, because a bare number reads as seconds to one person and as milliseconds
to the next. A size may be a bare number: of bytes. Sizes are powers of 1,024 and say so.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

DURATION_PATTERN: Final = r"^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$"
"""A duration as a regular expression (also stated in the JSON Schema)."""

SIZE_PATTERN: Final = r"^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB)$"
"""A size as a regular expression (also stated in the JSON Schema)."""

_SECONDS: Final = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
_BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_LONGEST_WRITTEN: Final = 32


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `500ms`, `10s`, `1.5m`, `48h`, `7d`.

    Raises:
        ValueError: it is none; the text says what one looks like and does not quote the input.
    """
    match = re.match(DURATION_PATTERN, text.strip()) if len(text) <= _LONGEST_WRITTEN else None
    if match is None:
        raise ValueError(
            "must be a duration: a number with its unit ms, s, m, h or d, for example 500ms or 48h"
        )
    return float(Fraction(match[1]) * _SECONDS[match[2]])


def parse_size(text: str) -> int:
    """Bytes in a size such as `1MiB`, `512KiB`, `100B`.

    Raises:
        ValueError: it is none, or no whole number of bytes; the input is not quoted.
    """
    match = re.match(SIZE_PATTERN, text.strip()) if len(text) <= _LONGEST_WRITTEN else None
    if match is None:
        raise ValueError(
            "must be a size: a number with its unit B, KiB, MiB or GiB (powers of 1,024), "
            "for example 1MiB"
        )
    size = Fraction(match[1]) * _BYTES[match[2]]
    if size.denominator != 1:
        raise ValueError("must be a whole number of bytes")
    return int(size)


def format_duration(seconds: float) -> str:
    """The shortest duration with a whole number that means these seconds (`172800.0` → `2d`).

    Durations finer than a millisecond are rounded to one.
    """
    milliseconds = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(milliseconds, int(_SECONDS[unit] * 1000))
        if count and not rest:
            return f"{count}{unit}"
    return f"{milliseconds}ms"


def format_size(size: int) -> str:
    """The shortest size with a whole number that means these bytes (`1048576` → `1MiB`)."""
    for unit in ("GiB", "MiB", "KiB"):
        count, rest = divmod(size, _BYTES[unit])
        if count and not rest:
            return f"{count}{unit}"
    return f"{size}B"
