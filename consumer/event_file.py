"""The file with one event that `preview` and `send` are given: read, parsed, still unjudged."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from consumer.errors import InputError

STANDARD_INPUT: Final = "-"
_ONE = "one event is taken, as one JSON object"


def read_event_file(name: str) -> dict[str, Any]:
    """The JSON object in a file; `-` reads standard input.

    Raises:
        InputError: it cannot be read, is no JSON, or is not one object.
    """
    shown = "standard input" if name == STANDARD_INPUT else name
    try:
        content = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).read_bytes()
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "cannot be read"
        raise InputError(shown, f"{reason}; name a file with an event, or - to read one") from error
    return parse_event(content, shown)


def parse_event(content: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `content`; `name` stands for it in what is said of it.

    Stricter than Python's own reader: no `NaN`, and no key twice, of which one would be lost.

    Raises:
        InputError: it is no JSON, or not one object.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(name, "is not UTF-8 text") from error
    if not text.strip():
        raise InputError(name, f"is empty; {_ONE}")
    try:
        document = json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            problem = f"holds more than one JSON document; {_ONE}"
        else:
            problem = f"is no JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        raise InputError(name, problem) from None
    except (ValueError, RecursionError) as error:
        problem = str(error) if isinstance(error, _NotJsonError) else "it cannot be read"
        raise InputError(name, f"is no JSON: {problem}") from None
    if isinstance(document, list):
        raise InputError(name, f"holds a list of {len(document)}; {_ONE}")
    if not isinstance(document, dict):
        raise InputError(name, f"holds no object; {_ONE}")
    return document


class _NotJsonError(ValueError):
    """What Python's reader would let pass."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NotJsonError(f"the key {twice!a} is given twice in one object")
    return read


def _no_number(constant: str) -> float:
    raise _NotJsonError(f"{constant} is no number of JSON")
