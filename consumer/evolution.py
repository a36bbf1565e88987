"""Which writer schemas can be read as ours, judged once per schema instead of once per record.

A schema comes from a registry or a file and its values from strangers. fastavro reads natively
and trusts both: a schema that contains itself lets a few kilobytes of hostile bytes overflow the
C stack, and an array whose items take no bytes lets ten bytes ask for billions of items. Such
schemas are refused here, so that `decode` needs no check of its own per record.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import fastavro
from fastavro.schema import SchemaParseException, UnknownType, to_parsing_canonical_form

from consumer.reader_code import Read, loaded
from consumer.reader_source import Unsupported, generate
from consumer.resolution import NAMED_TYPES, Schema, mismatch, unqualified

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_DEPTH = 64
MAX_NODES = 10_000
_DETAIL_CHARS = 300

_NESTING = frozenset({"type", "items", "values", "fields"})
_NOT_PHYSICAL = frozenset({"logicalType", "doc"})
_NOT_WRITTEN = _NOT_PHYSICAL | {"default"}
_LEAST_BYTES = {"null": 0, "float": 4, "double": 8}


class UnusableSchema(Exception):  # noqa: N818  the finding's own name
    """A writer schema that is not Avro, not safe to read, or does not resolve to ours."""

    def __init__(self, detail: str) -> None:
        self.detail = detail[:_DETAIL_CHARS]
        super().__init__(self.detail)


class Reading(NamedTuple):
    """How to read values of one writer schema.

    `read` is the reader generated for it, None where the schema is beyond the generator: then
    fastavro reads, with `writer` and `reader` (None where it is the writer's own).
    """

    writer: Schema
    reader: Schema | None
    read: Read | None

    @property
    def generated(self) -> bool:
        """Whether values are read by generated code, about three times as fast as otherwise."""
        return self.read is not None


class Evolution:
    """Turns writer schemas into readings, given the schema that values are read as.

    Logical types are taken off both sides: times stay integers, which is four times as fast as
    making them `datetime`, and Avro resolves by the underlying type anyway.
    """

    def __init__(self, reader: Schema) -> None:
        self._raw = reader
        self._names: dict[str, Any] = {}
        self._reader = fastavro.parse_schema(_physical(reader), self._names)
        self._canonical = to_parsing_canonical_form(_written(reader))

    def reading(self, schemas: Sequence[Schema]) -> Reading:
        """Judge a writer schema; the ones it refers to come first, it comes last.

        Raises:
            UnusableSchema: it cannot be read, or not as ours; the detail says why.
        """
        if not schemas:
            raise UnusableSchema("no schema was given")
        names: dict[str, Any] = {}
        try:
            for schema in schemas:
                _check_depth(schema)
            for schema in schemas[:-1]:
                fastavro.parse_schema(_written(schema), names)
            writer = fastavro.parse_schema(_written(schemas[-1]), names)
        except UnknownType as error:
            raise UnusableSchema(f"type {error.name} is not defined") from error
        except (SchemaParseException, KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnusableSchema(f"not an Avro schema ({type(error).__name__})") from error
        _Size(names).of(writer, ())
        why_not = mismatch(writer, self._reader, names, self._names)
        if why_not is not None:
            raise UnusableSchema(why_not)
        _check_time_unit(schemas[-1])
        # With the same canonical form every field is there under its own name, so neither
        # aliases nor defaults matter and resolution, half the cost of a read, can be left out.
        if len(schemas) == 1 and to_parsing_canonical_form(_written(schemas[0])) == self._canonical:
            return Reading(writer, None, _generated(writer, self._reader, names, self._names))
        reader, reader_names = self._reader_for(names)
        return Reading(writer, reader, _generated(writer, reader, names, reader_names))

    def _reader_for(self, writer_names: Mapping[str, Any]) -> tuple[Schema, Mapping[str, Any]]:
        """Our schema without aliases that this writer uses beside the field's own name; its names.

        fastavro would give both writer fields to the one reader field and fail on each record.
        """
        written = {
            unqualified(name): {field["name"] for field in schema["fields"]}
            for name, schema in writer_names.items()
            if "fields" in schema
        }
        clashes = {
            (unqualified(name), field["name"])
            for name, schema in self._names.items()
            for field in schema.get("fields", ())
            if field["name"] in (there := written.get(unqualified(name), set()))
            and there.intersection(field.get("aliases", ()))
        }
        if not clashes:
            return self._reader, self._names
        names: dict[str, Any] = {}
        reader = fastavro.parse_schema(_without_aliases(_physical(self._raw), clashes), names)
        return reader, names


def _generated(
    writer: Schema, reader: Schema, names: Mapping[str, Any], reader_names: Mapping[str, Any]
) -> Read | None:
    try:
        return loaded(*generate(writer, reader, names, reader_names))
    except Unsupported:
        return None


def parse(text: str) -> Schema:
    """Read a schema's JSON text.

    Raises:
        UnusableSchema: the text is no JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableSchema(f"the schema is no JSON ({type(error).__name__})") from error


def fingerprint(schema: Schema) -> bytes:
    """CRC-64-AVRO of the schema's parsing canonical form, as single-object encoding carries it."""
    canonical = to_parsing_canonical_form(_written(schema))
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))


def _physical(schema: Schema, dropped: frozenset[str] = _NOT_PHYSICAL) -> Schema:
    """The schema without logical types and documentation."""
    if isinstance(schema, list):
        return [_physical(branch, dropped) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _physical(value, dropped) if key in _NESTING else value
        for key, value in schema.items()
        if key not in dropped
    }


def _written(schema: Schema) -> Schema:
    """A writer schema as far as reading needs it: its defaults, even wrong ones, do not matter."""
    return _physical(schema, _NOT_WRITTEN)


def _without_aliases(schema: Schema, clashes: set[tuple[str, str]], within: str = "") -> Schema:
    if isinstance(schema, list):
        return [_without_aliases(branch, clashes, within) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    inner = unqualified(schema["name"]) if "fields" in schema else within
    return {
        key: _without_aliases(value, clashes, inner) if key in _NESTING else value
        for key, value in schema.items()
        if key != "aliases" or (within, schema.get("name")) not in clashes
    }


def _check_depth(schema: Schema, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise UnusableSchema(f"the schema is nested more than {MAX_DEPTH} deep")
    children = schema.values() if isinstance(schema, dict) else schema
    if isinstance(schema, dict | list):
        for child in children:
            _check_depth(child, depth + 1)


def _check_time_unit(schema: Schema) -> None:
    """Refuse an event_time that says it is no milliseconds: it would be read 1,000 times off."""
    for field in schema.get("fields", ()) if isinstance(schema, dict) else ():
        if field["name"] == "event_time" and isinstance(field["type"], dict):
            unit = field["type"].get("logicalType", "timestamp-millis")
            if unit != "timestamp-millis":
                raise UnusableSchema(f"event_time is {unit}: timestamp-millis is needed")


class _Size:
    """The fewest bytes a value takes and the parts it has; refuses what is not safe to read."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self._known: dict[str, tuple[int, int]] = {}

    def of(self, schema: Schema, within: tuple[str, ...]) -> tuple[int, int]:
        if isinstance(schema, list):
            sizes = [self.of(branch, within) for branch in schema]
            return 1 + min((s[0] for s in sizes), default=0), 1 + sum(s[1] for s in sizes)
        if isinstance(schema, str):
            if schema in within:
                raise UnusableSchema(f"type {schema} contains itself: its depth has no bound")
            named = self._names.get(schema)
            return self.of(named, within) if named is not None else (_LEAST_BYTES.get(schema, 1), 1)
        kind = schema["type"]
        if kind in NAMED_TYPES:
            name = schema["name"]
            if name not in self._known:
                self._known[name] = self._named(schema, (*within, name))
            return self._known[name]
        if kind in {"array", "map"}:
            least, parts = self.of(schema["items" if kind == "array" else "values"], within)
            if kind == "array" and least == 0:
                raise UnusableSchema(
                    "an array has items that take no bytes: its length has no bound"
                )
            return 1, 1 + parts
        return self.of(kind, within)

    def _named(self, schema: Schema, within: tuple[str, ...]) -> tuple[int, int]:
        if schema["type"] == "enum":
            return 1, 1
        if schema["type"] == "fixed":
            return schema["size"], 1
        sizes = [self.of(field["type"], within) for field in schema["fields"]]
        parts = 1 + sum(size[1] for size in sizes)
        if parts > MAX_NODES:
            raise UnusableSchema(f"a value has more than {MAX_NODES} parts")
        return sum(size[0] for size in sizes), parts
