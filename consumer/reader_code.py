"""What a generated reader is and calls: the parts of Avro's binary encoding that are rare or long.

The generated source (`reader_source`) is straight-line code for the common case. It never checks
that a slice lies inside the value, because it need not: positions only grow, so whoever reads
past the end either fails at the next byte or returns an end beyond the value's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NoReturn

Read = Callable[[bytes, int], tuple[Any, int]]
"""Reads the value that starts at a position; returns it and the position after it.

The end must be compared with the value's length: one beyond it is a truncated value.

Raises:
    Unresolvable: the value is sound, but what it holds has no place in the reader's schema.
    IndexError, struct.error: the value ends too early.
    Corrupt, KeyError, UnicodeDecodeError: it is no Avro value of the writer's schema.
"""

_SHIFTS = range(7, 64, 7)
_LONG_BITS = 64


class Corrupt(Exception):  # noqa: N818  the finding's own name
    """Bytes that no writer of the schema writes."""


class Unresolvable(Exception):  # noqa: N818  the finding's own name
    """A union branch or an enum symbol that the reader's schema does not have."""


def wide(value: bytes, pos: int) -> tuple[int, int]:
    """Read a variable-length number of two bytes or more, not yet zig-zag decoded.

    Returns it with the position of its **last** byte, where a number of one byte would stand:
    the generated code steps over that byte in both cases.

    Raises:
        Corrupt: it has more than 64 bits.
    """
    number = value[pos] & 127
    for shift in _SHIFTS:
        pos += 1
        byte = value[pos]
        if byte < 128:  # noqa: PLR2004  the continuation bit
            number |= byte << shift
            if number >> _LONG_BITS:
                break
            return number, pos
        number |= (byte & 127) << shift
    raise Corrupt


def span(value: bytes, pos: int) -> tuple[int, int]:
    """Start and end of text whose length takes two bytes or more, or is negative.

    Raises:
        Corrupt: the length is negative or has more than 64 bits.
    """
    low, high = value[pos], value[pos + 1]
    if low & 1:
        raise Corrupt
    if high < 128 <= low:  # noqa: PLR2004  the continuation bit
        start = pos + 2
        return start, start + ((low & 127 | high << 7) >> 1)
    size, pos = wide(value, pos)
    return pos + 1, pos + 1 + (size >> 1)


def corrupt() -> NoReturn:
    """Refuse the value: an index or a count in it is out of range."""
    raise Corrupt


def unresolvable() -> NoReturn:
    """Refuse the value: it holds what the reader's schema has no place for."""
    raise Unresolvable


def loaded(source: str, constants: dict[str, Any]) -> Read:
    """Compile a generated reader: `read` in `source`, over `constants` and the functions here."""
    scope: dict[str, Any] = {
        "__builtins__": {"range": range, "len": len, "float": float},
        "wide": wide,
        "span": span,
        "corrupt": corrupt,
        "unresolvable": unresolvable,
        "float_at": struct.Struct("<f").unpack_from,
        "double_at": struct.Struct("<d").unpack_from,
        **constants,
    }
    exec(compile(source, "<generated Avro reader>", "exec"), scope)  # noqa: S102  the source is ours: a schema adds only numbers and escaped literals
    read: Read = scope["read"]
    return read
