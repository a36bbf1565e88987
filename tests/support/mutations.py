"""Events of which one field got another value: any that its type allows."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from tests.support.events import EVENT_TIME_MS, SCHEMA, values

HOSTILE_TEXTS = [
    "",
    " ",
    "\x00",
    "\u202e",
    "a@b.example",
    "%61%40b.example",
    "x" * 5_000,
    "😀",
    "İ",
    "-",
    "0" * 64,
    "F" * 64,
    "00000000-0000-0000-0000-000000000000",
    "null",
    "10.0.0.1",
    "en_US",
]
_TIMES = st.sampled_from([-(2**63), -1, 0, EVENT_TIME_MS, 2**63 - 1])
_LONGS = st.sampled_from([-(2**63), -1, 0, 1, 2**53 + 1, 2**63 - 1])
_TEXTS = st.sampled_from(HOSTILE_TEXTS)


def _named(schema: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Every named type of the schema."""
    if isinstance(schema, list):
        for branch in schema:
            _named(branch, found)
    elif isinstance(schema, dict):
        if "name" in schema:
            found[schema["name"]] = schema
        for field in schema.get("fields", ()):
            _named(field["type"], found)
        for key in ("items", "values"):
            _named(schema.get(key), found)
    return found


_NAMES = _named(SCHEMA, {})


def _record_of(schema: Any) -> dict[str, Any] | None:
    for branch in schema if isinstance(schema, list) else [schema]:
        if isinstance(branch, dict) and branch.get("type") == "record":
            return branch
    return None


def _leaves(record: dict[str, Any], path: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
    """Every field that is no record, and the records themselves, with their types."""
    found: dict[tuple[str, ...], Any] = {}
    for field in record["fields"]:
        at = (*path, field["name"])
        found[at] = field["type"]
        inner = _record_of(field["type"])
        if inner is not None:
            found |= _leaves(inner, at)
    return found


FIELDS = _leaves(SCHEMA, ())
"""The type of every field of an event, by its path."""


def _values(schema: Any) -> st.SearchStrategy[Any]:
    """Values of a type, the awkward ones often."""
    branches = schema if isinstance(schema, list) else [schema]
    chosen = [values(schema, dict(_NAMES))]
    for branch in branches:
        kind = branch.get("type") if isinstance(branch, dict) else branch
        if kind == "string":
            chosen.append(_TEXTS)
        elif kind == "long":
            chosen.append(_TIMES if isinstance(branch, dict) else _LONGS)
        elif kind == "array" and branch["items"] == "string":
            chosen.append(st.lists(_TEXTS, max_size=3))
        elif kind == "map":
            texts = st.dictionaries(_TEXTS, _TEXTS | _LONGS | st.floats(), max_size=4)
            chosen.append(texts)
    return st.one_of(chosen)


@st.composite
def mutated(draw: st.DrawFn, event: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path of the field that changed, with dots, and the event."""
    path = draw(st.sampled_from(sorted(FIELDS)))
    changed = copy.deepcopy(event)
    holder = changed
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = draw(_values(FIELDS[path]))
    return ".".join(path), changed
