"""Whether values of one Avro schema can be read as another: Avro's schema resolution, by types.

Resolution as in the Avro specification ("Schema Resolution"): names without namespaces, aliases
of the reader, defaults, and the widening of numbers. What only a value can tell (the branch of a
union, the symbol of an enum) is taken to fit if some value does.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  a NamedTuple's field types are evaluated
from typing import Any, NamedTuple

Schema = Any
"""An Avro schema as parsed JSON: a name, a list (union) or a dict."""

NAMED_TYPES = frozenset({"record", "error", "enum", "fixed"})
_RECORDS = frozenset({"record", "error"})

_WIDENS: Mapping[str, frozenset[str]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}


def mismatch(
    writer: Schema,
    reader: Schema,
    writer_names: Mapping[str, Schema],
    reader_names: Mapping[str, Schema],
) -> str | None:
    """Why no value of `writer` can be read as `reader`, or None if some can.

    Both are as fastavro parsed them, with the named types they define or refer to.
    """
    return _Resolution(writer_names, reader_names).differs(writer, reader, "")


def read_as(
    writer: Schema,
    reader: Schema,
    writer_names: Mapping[str, Schema],
    reader_names: Mapping[str, Schema],
) -> Schema | None:
    """What a value of `writer`, no union, is read as: `reader` or its first branch that fits.

    It fits as fastavro has it: by type and name, records and unions not looked into. None where
    nothing fits.
    """
    resolution = _Resolution(writer_names, reader_names)
    reader = named(reader, reader_names)
    branches = reader if isinstance(reader, list) else [reader]
    fitting = (branch for branch in branches if resolution.fits(writer, branch))
    return named(next(fitting, None), reader_names)


def named(schema: Schema, names: Mapping[str, Schema]) -> Schema:
    """The definition of a type that is given by its name; any other schema as it is."""
    return names.get(schema, schema) if isinstance(schema, str) else schema


def kind(schema: Schema) -> str:
    """The type's name; `{"type": "long"}` is `long`."""
    while isinstance(schema, dict):
        schema = schema["type"]
    return str(schema)


def starts_with_null(writer: Schema) -> bool:
    """Whether a zero byte says null: Avro's way to write an optional field."""
    return isinstance(writer, list) and bool(writer) and kind(writer[0]) == "null"


def unqualified(name: str) -> str:
    """A type's name without its namespace."""
    return name.rsplit(".", 1)[-1]


class _Resolution(NamedTuple):
    writer_names: Mapping[str, Schema]
    reader_names: Mapping[str, Schema]

    def differs(self, writer: Schema, reader: Schema, path: str) -> str | None:
        writer, reader = named(writer, self.writer_names), named(reader, self.reader_names)
        if isinstance(writer, list):
            fits = any(self.differs(branch, reader, path) is None for branch in writer)
            return None if fits else _cannot(writer, reader, path)
        if isinstance(reader, list):
            return self._union(writer, reader, path)
        written, read = kind(writer), kind(reader)
        if written != read:
            return None if read in _WIDENS.get(written, ()) else _cannot(writer, reader, path)
        if written in NAMED_TYPES:
            return self._named(writer, reader, path)
        if written in {"array", "map"}:
            inner = "items" if written == "array" else "values"
            return self.differs(writer[inner], reader[inner], path)
        return None

    def fits(self, writer: Schema, reader: Schema) -> bool:
        writer, reader = named(writer, self.writer_names), named(reader, self.reader_names)
        if isinstance(writer, list) or isinstance(reader, list):
            return True
        written, read = kind(writer), kind(reader)
        if written != read:
            return read in _WIDENS.get(written, ())
        if written in NAMED_TYPES:
            return _same_name(writer, reader)
        if written in {"array", "map"}:
            inner = "items" if written == "array" else "values"
            return self.fits(writer[inner], reader[inner])
        return True

    def _union(self, writer: Schema, reader: list[Schema], path: str) -> str | None:
        """The reason of the branch that was meant: the one of the writer's own kind and name."""
        reasons = [self.differs(writer, branch, path) for branch in reader]
        if None in reasons:
            return None
        deeper = [reason for reason in reasons if not str(reason).startswith(f"{_at(path)}:")]
        return deeper[0] if deeper else _cannot(writer, reader, path)

    def _named(self, writer: Schema, reader: Schema, path: str) -> str | None:
        if not _same_name(writer, reader):
            return _cannot(writer, reader, path)
        if writer["type"] not in _RECORDS:
            return None
        fields = {field["name"]: field["type"] for field in writer["fields"]}
        for field in reader["fields"]:
            inner = f"{path}.{field['name']}" if path else field["name"]
            names_read = (field["name"], *field.get("aliases", ()))
            name = next((name for name in names_read if name in fields), None)
            if name is not None:
                reason = self.differs(fields[name], field["type"], inner)
                if reason is not None:
                    return reason
            elif "default" not in field:
                return f"field {inner}: missing, and it has no default"
        return None


def _same_name(writer: Schema, reader: Schema) -> bool:
    names = {unqualified(reader["name"]), *reader.get("aliases", ())}
    return not names.isdisjoint({writer["name"], unqualified(writer["name"])})


def _cannot(writer: Schema, reader: Schema, path: str) -> str:
    return f"{_at(path)}: {_called(writer)} does not resolve to {_called(reader)}"


def _at(path: str) -> str:
    return f"field {path}" if path else "the record"


def _called(schema: Schema) -> str:
    if isinstance(schema, list):
        return " or ".join(_called(branch) for branch in schema)
    return str(schema.get("name", schema["type"])) if isinstance(schema, dict) else str(schema)
