"""An event in plain JSON, as a person writes it, as the event that Avro would have given.

The names are the schema's, its aliases included, and unions stand without a tag: a text is the
text, not `{"string": "..."}`. Times are ISO 8601 with their offset, or milliseconds since the
epoch. A whole number where text is expected becomes that text, since ids are often written as
numbers; any other value of a wrong type is wrong. What may be absent and is becomes null.

The schema itself is walked, so a field that is added to it is known here.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from consumer.event import FieldWarning, Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_LONGS: Final = range(-(2**63), 2**63)
_SECONDS: Final = range(10**8, 10**11)
"""As milliseconds these would be times between 1970 and 1973: surely seconds were meant."""

_LOOKS_LIKE_SECONDS: Final = "looks like seconds since the epoch; milliseconds are expected"
_ALIKE: Final = 0.7
_SHORTEST_PART: Final = 3

_WORDS: Final[Mapping[str, str]] = {
    "boolean": "true or false",
    "long": "a whole number",
    "double": "a number",
    "string": "text",
    "array": "a list",
    "map": "an object of names and values",
    "record": "an object",
    "time": "a time: ISO 8601 with its offset, such as 2026-01-31T16:20:00Z, or milliseconds since"
    " the epoch",
}


class PlainEvent(NamedTuple):
    """What a plain event came to.

    `event` is complete: every field of the schema, null where nothing was said. It is None where
    `problems` (in the order of the schema) make it no event. `warnings` name what is unknown and
    ignored. Neither quotes a value.
    """

    event: dict[str, Any] | None
    problems: tuple[Refused, ...]
    warnings: tuple[FieldWarning, ...]


class PlainForm:
    """Reads plain events by an Avro schema: a record of what the event schema is made of."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._named: dict[str, dict[str, Any]] = {}
        self._paths: dict[str, list[str]] = {}
        self._learn(schema, "")

    def read(self, document: Mapping[str, Any]) -> PlainEvent:
        """Read a JSON object, its numbers as `int` and `float`."""
        reading = _Reading(self._named, self._paths)
        event = reading.record(self._schema, document, "")
        problems = tuple(reading.problems)
        return PlainEvent(None if problems else event, problems, tuple(reading.warnings))

    def _learn(self, schema: Any, path: str) -> None:
        """Note named types, and where each field name stands."""
        for branch in schema if isinstance(schema, list) else [schema]:
            if not isinstance(branch, dict):
                continue
            if "name" in branch:
                self._named[branch["name"]] = branch
            self._learn(branch.get("items"), path)
            for field in branch.get("fields", ()):
                inner = _below(path, field["name"])
                self._paths.setdefault(field["name"], []).append(inner)
                self._learn(field["type"], inner)


class _Reading:
    """One event on its way, with what was found wrong so far."""

    def __init__(
        self, named: Mapping[str, dict[str, Any]], paths: Mapping[str, Sequence[str]]
    ) -> None:
        self._named = named
        self._paths = paths
        self._readers: Mapping[str, Callable[[Any, Any, str], Any]] = {
            "record": self.record,
            "array": self._array,
            "map": self._map,
            "enum": self._enum,
            "time": self._time,
            "string": self._text,
            "long": self._long,
            "double": self._double,
            "boolean": lambda _branch, value, _path: value,
        }
        self.problems: list[Refused] = []
        self.warnings: list[FieldWarning] = []

    def record(self, schema: dict[str, Any], given: Mapping[str, Any], path: str) -> dict[str, Any]:
        known: set[str] = set()
        record: dict[str, Any] = {}
        for field in schema["fields"]:
            name = field["name"]
            key = next((k for k in (name, *field.get("aliases", ())) if k in given), name)
            known.add(key)
            record[name] = self._value(field["type"], given.get(key), _below(path, name))
        self.warnings += (self._unknown(key, path, schema) for key in given if key not in known)
        return record

    def _value(self, schema: Any, value: Any, path: str) -> Any:
        """The value of the first branch that takes it; null, and a problem, where none does."""
        branches = [
            self._named.get(branch, branch) if isinstance(branch, str) else branch
            for branch in (schema if isinstance(schema, list) else [schema])
        ]
        if value is None:
            if "null" not in branches:
                self._wrong(path, "is required")
            return None
        for branch in branches:
            if _takes(_kind(branch), value):
                return self._readers[_kind(branch)](branch, value, path)
        self._wrong(path, _expected(branches, value))
        return None

    def _array(self, branch: Any, value: list[Any], path: str) -> list[Any]:
        return [
            self._value(branch["items"], item, _below(path, str(place)))
            for place, item in enumerate(value)
        ]

    def _map(self, branch: Any, value: Mapping[str, Any], path: str) -> dict[str, Any]:
        return {
            self._text(branch, key, path): self._value(branch["values"], item, _below(path, key))
            for key, item in value.items()
        }

    def _enum(self, branch: Any, value: str, path: str) -> str:
        if value not in branch["symbols"]:
            self._wrong(path, f"must be one of {', '.join(branch['symbols'])}")
        return value

    def _time(self, branch: Any, value: int | str, path: str) -> int | None:
        if isinstance(value, int):
            if value in _SECONDS:
                self.warnings.append(FieldWarning(path, _LOOKS_LIKE_SECONDS))
            return self._long(branch, value, path)
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            self._wrong(path, f"must be {_WORDS['time']}")
            return None
        if time.tzinfo is None:
            self._wrong(path, "needs its offset from UTC: end it with Z, or with one like +01:00")
            return None
        return (time - _EPOCH) // _MILLISECOND

    def _long(self, _branch: Any, value: int, path: str) -> int:
        if value not in _LONGS:
            self._wrong(path, "does not fit into 64 bits")
        return value

    def _double(self, _branch: Any, value: float, path: str) -> float:
        try:
            return float(value)
        except OverflowError:
            self._wrong(path, "is too large a number")
            return 0.0

    def _text(self, _branch: Any, value: str | int, path: str) -> str:
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self._wrong(path, "is no valid Unicode: half of a surrogate pair stands in it")
        return text

    def _wrong(self, path: str, detail: str) -> None:
        self.problems.append(Refused(Reason.INVALID, detail, _printable(path)))

    def _unknown(self, key: str, path: str, schema: dict[str, Any]) -> FieldWarning:
        siblings = [field["name"] for field in schema["fields"]]
        meant = [_below(path, name) for name in _meant(key, siblings)]
        meant = meant or list(self._paths.get(key, ()))
        hint = f"; did you mean {' or '.join(meant)}?" if meant else ""
        shown = _printable(_below(path, key))
        return FieldWarning(shown, f"is no field of an event and is ignored{hint}")


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _meant(key: str, names: Sequence[str]) -> list[str]:
    """The names that somebody who wrote `key` may have had in mind."""
    parts = [
        name
        for name in names
        if (key in name or name in key) and min(len(key), len(name)) >= _SHORTEST_PART
    ]
    return parts or difflib.get_close_matches(key, names, n=1, cutoff=_ALIKE)


def _printable(path: str) -> str:
    """A path that any terminal takes: names in it may come with the event."""
    return "".join(char if char.isprintable() else "\ufffd" for char in path)


def _kind(branch: Any) -> str:
    """The Avro type of a branch; a time in milliseconds is a kind of its own."""
    if isinstance(branch, str):
        return branch
    if branch.get("logicalType") == "timestamp-millis":
        return "time"
    inner = branch["type"]
    return _kind(inner) if isinstance(inner, dict) else str(inner)


def _takes(kind: str, value: Any) -> bool:
    """Whether a value of JSON is one of this kind; how large or which one does not matter yet."""
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int):
        return kind in ("long", "double", "string", "time")
    if isinstance(value, str):
        return kind in ("string", "enum", "time")
    if isinstance(value, float):
        return kind == "double"
    return kind == "array" if isinstance(value, list) else kind in ("record", "map")


def _expected(branches: Sequence[Any], value: Any) -> str:
    kinds = [kind for branch in branches if (kind := _kind(branch)) != "null"]
    words = dict.fromkeys(_phrases(branches))
    text = f"must be {' or '.join(words)}"
    if isinstance(value, dict) and len(value) == 1 and set(value) <= {*kinds, *_WORDS}:
        text += f", written plainly, not as {{{next(iter(value))!r}: ...}}"
    return text


def _phrases(branches: Sequence[Any]) -> Iterator[str]:
    for branch in branches:
        kind = _kind(branch)
        if kind == "enum":
            yield f"one of {', '.join(branch['symbols'])}"
        elif kind == "array":
            items = _kind(branch["items"])
            yield f"a list of {'objects' if items == 'record' else _WORDS[items]}"
        elif kind != "null":
            yield _WORDS[kind]
