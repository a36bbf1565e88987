"""A small compiler: two Avro schemas to the Python source that reads one's values as the other.

fastavro walks the schema for every value; here it is walked once. What is left per value is
straight-line code, two to five times as fast, with the resolution of schemas already done.

A writer's schema is a stranger's text, so none of it gets into the source: field names are the
reader's, as escaped literals; symbols and defaults travel as constants; all else is numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from consumer.reader_skip import FIXED_BYTES, Skipper
from consumer.reader_text import Field, Text, Unsupported, at
from consumer.resolution import Schema, kind, named, read_as, starts_with_null

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Source", "Unsupported", "generate"]


class Source(NamedTuple):
    """Python source that defines `read(value, pos)`, and the constants that it names."""

    text: str
    constants: dict[str, Any]


class _Into(NamedTuple):
    """Where a value goes: a statement around an expression. `null`: null is there already."""

    before: str
    after: str = ""
    null: bool = False

    def __call__(self, expression: str) -> str:
        return f"{self.before}{expression}{self.after}"


def generate(
    writer: Schema,
    reader: Schema,
    writer_names: Mapping[str, Schema],
    reader_names: Mapping[str, Schema],
) -> Source:
    """Write the reader for values of `writer` that are read as `reader`.

    Both as fastavro parsed them, not recursive, and no array of items that take no bytes.

    Raises:
        Unsupported: the source would be too long or too deep, or the reader's schema has what
            ours has not (fixed, defaults that are not plain).
    """
    text = Text()
    with text.block("def read(value, pos):"):
        _Compiler(text, writer_names, reader_names).value(writer, reader, _Into("result = "))
        text.line("return result, pos")
    return Source("\n".join(text.lines) + "\n", text.constants)


class _Compiler:
    def __init__(
        self, text: Text, writer_names: Mapping[str, Schema], reader_names: Mapping[str, Schema]
    ) -> None:
        self._text = text
        self._writer_names = writer_names
        self._reader_names = reader_names
        self._skipper = Skipper(text, writer_names)

    def value(self, writer: Schema, reader: Schema, into: _Into, ahead: int = 0) -> None:
        """Read a value of `writer` as `reader`."""
        writer = named(writer, self._writer_names)
        if isinstance(writer, list):
            self._text.step(ahead)
            self._union(writer, reader, into)
            return
        chosen = self._read_as(writer, reader)
        if kind(writer) == "error":
            raise Unsupported("errors belong to protocols")
        if chosen is None:
            self._text.line("unresolvable()")
        elif isinstance(writer, dict) and writer["type"] in _COMPLEX:
            self._text.step(ahead)
            _COMPLEX[writer["type"]](self, writer, chosen, into)
        else:
            self._plain(kind(writer), kind(chosen), into, ahead)

    def _read_as(self, writer: Schema, reader: Schema) -> Schema | None:
        return read_as(writer, reader, self._writer_names, self._reader_names)

    def _plain(self, written: str, read: str, into: _Into, ahead: int) -> None:
        text = self._text
        match written:
            case "null":
                text.step(ahead)
                if not into.null:
                    text.line(into("None"))
            case "boolean":
                text.line(into(f"value[{at(ahead)}] != 0"))
                text.step(ahead + FIXED_BYTES[written])
            case "int" | "long":
                text.number("raw", ahead)
                number = "(raw >> 1) ^ -(raw & 1)"
                text.line(into(f"float({number})" if read in {"float", "double"} else number))
            case "float" | "double":
                text.line(into(f"{written}_at(value, {at(ahead)})[0]"))
                text.step(ahead + FIXED_BYTES[written])
            case "string" | "bytes":
                text.length(ahead)
                # A string is UTF-8 or it is refused, even where the reader wants its bytes.
                decoded = "" if written == read == "bytes" else ".decode()"
                encoded = ".encode()" if (written, read) == ("string", "bytes") else ""
                text.line(into(f"value[start:pos]{decoded}{encoded}"))
            case _:
                raise Unsupported(f"type {written}")

    def _enum(self, writer: Schema, reader: Schema, into: _Into) -> None:
        """Symbols stand in a table under their index as it is written, resolved beforehand."""
        table: dict[int, str] = {}
        unknown: set[int] = set()
        for index, symbol in enumerate(writer["symbols"]):
            if symbol in reader["symbols"]:
                table[2 * index] = symbol
            elif reader.get("default"):
                table[2 * index] = reader["default"]
            else:
                unknown.add(2 * index)
        self._text.number("raw")
        if unknown:
            self._text.line(f"if raw in {self._text.constant(frozenset(unknown))}: unresolvable()")
        self._text.line(into(f"{self._text.constant(table)}[raw]"))

    def _array(self, writer: Schema, reader: Schema, into: _Into) -> None:
        """Items gather in a list of their own: what they are stored to may be an expression."""
        items = self._text.variable("items")
        self._text.line(f"{items} = []")
        with self._text.items():
            self.value(writer["items"], reader["items"], _Into(f"{items}.append(", ")"))
        self._text.line(into(items))

    def _map(self, writer: Schema, reader: Schema, into: _Into) -> None:
        """A key that comes twice has the later value, as in fastavro."""
        entries, key = self._text.variable("entries"), self._text.variable("key")
        self._text.line(f"{entries} = {{}}")
        with self._text.items():
            self._text.length()
            self._text.line(f"{key} = value[start:pos].decode()")
            self.value(writer["values"], reader["values"], _Into(f"{entries}[{key}] = "))
        self._text.line(into(entries))

    def _union(self, writer: list[Schema], reader: Schema, into: _Into) -> None:
        """One comparison per branch; a null that is there already costs only its tag."""
        quiet = [
            index
            for index, branch in enumerate(writer)
            if into.null and kind(branch) == "null" and self._read_as(branch, reader) is not None
        ]
        self._text.branches(
            {
                index: lambda b=branch: self.value(b, reader, into, ahead=1)  # type: ignore[misc]  # mypy infers no lambda with a default
                for index, branch in enumerate(writer)
                if index not in quiet
            },
            quiet,
        )

    def _record(self, writer: Schema, reader: Schema, into: _Into) -> None:
        """Copy a template of all the reader's fields, and store what is not null over it."""
        fields = {field["name"]: field for field in reader["fields"]}
        targets = {alias: f for f in fields.values() for alias in f.get("aliases", ())} | fields
        missing = dict(fields)
        record = self._text.variable("record")
        plan = []
        for field in writer["fields"]:
            target = targets.get(field["name"])
            if target is None:
                plan.append(self._skipper.field(field["type"]))
            elif missing.pop(target["name"], None) is None:
                raise Unsupported("two fields of the writer are one of the reader")
            else:
                plan.append(self._field(field["type"], target, record))
        if any("default" not in field for field in missing.values()):
            self._text.line("unresolvable()")
            return
        template = {name: missing.get(name, {}).get("default") for name in fields}
        if any(isinstance(default, dict | list) for default in template.values()):
            raise Unsupported("a default that is not plain: records would share it")
        self._text.line(f"{record} = {self._text.constant(template.copy)}()")
        self._text.fields(plan)
        self._text.line(into(record))

    def _field(self, writer: Schema, target: Schema, record: str) -> Field:
        into = _Into(f"{record}[{target['name']!a}] = ", null=True)
        nullable = starts_with_null(writer) and self._read_as("null", target["type"]) is not None
        return Field(nullable, lambda: self.value(writer, target["type"], into))


_COMPLEX: Mapping[str, Callable[[_Compiler, Schema, Schema, _Into], None]] = {
    "enum": _Compiler._enum,  # noqa: SLF001  this module's own
    "array": _Compiler._array,  # noqa: SLF001  as above
    "map": _Compiler._map,  # noqa: SLF001  as above
    "record": _Compiler._record,  # noqa: SLF001  as above
}
