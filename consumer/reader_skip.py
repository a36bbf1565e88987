"""The source that steps over written values nobody wants, without making them.

What would make a wanted value corrupt does so here too: a length below nothing, an index out of
range, an end beyond the value's. Only that text is UTF-8 is not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.reader_text import Field, Text, Unsupported
from consumer.resolution import Schema, kind, named, starts_with_null

if TYPE_CHECKING:
    from collections.abc import Mapping

FIXED_BYTES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
"""Bytes of the types whose values all take the same."""


class Skipper:
    """Emits into `text` what skips values of a writer's schema with these named types."""

    def __init__(self, text: Text, names: Mapping[str, Schema]) -> None:
        self._text = text
        self._names = names

    def skip(self, writer: Schema, ahead: int = 0) -> None:
        """Step over a value of `writer`.

        Raises:
            Unsupported: the source gets too long or too deep, or the type is no type of Avro's.
        """
        writer = named(writer, self._names)
        size = self._fixed_bytes(writer)
        if size is not None:
            self._text.step(ahead + size)
        elif isinstance(writer, list):
            self._text.step(ahead)
            self._union(writer)
        elif kind(writer) in {"string", "bytes"}:
            self._text.length(ahead)
        elif kind(writer) in {"int", "long", "enum"}:
            self._text.number("raw", ahead)
            if kind(writer) == "enum":
                self._text.line(f"if raw & 1 or raw >= {2 * len(writer['symbols'])}: corrupt()")
        else:
            self._text.step(ahead)
            self._nested(writer)

    def _union(self, writer: list[Schema]) -> None:
        self._text.branches(
            {index: lambda b=branch: self.skip(b, ahead=1) for index, branch in enumerate(writer)},  # type: ignore[misc]  # mypy infers no lambda with a default
            quiet=(),
        )

    def _nested(self, writer: Schema) -> None:
        """A block of items that tells its bytes is stepped over at once, as fastavro does."""
        match kind(writer):
            case "array":
                with self._text.items(by_size=True):
                    self.skip(writer["items"])
            case "map":
                with self._text.items(by_size=True):
                    self._text.length()
                    self.skip(writer["values"])
            case "record":
                self._text.fields([self.field(field["type"]) for field in writer["fields"]])
            case other:
                raise Unsupported(f"type {other}")

    def field(self, writer: Schema) -> Field:
        """A field of a record that is stepped over."""
        return Field(starts_with_null(writer), lambda: self.skip(writer))

    def _fixed_bytes(self, writer: Schema) -> int | None:
        """How many bytes every value of a type takes, if that is one number."""
        writer = named(writer, self._names)
        if isinstance(writer, list):
            return None
        if kind(writer) == "fixed":
            return int(writer["size"])
        if kind(writer) != "record":
            return FIXED_BYTES.get(kind(writer))
        sizes = [self._fixed_bytes(field["type"]) for field in writer["fields"]]
        return None if None in sizes else sum(size or 0 for size in sizes)
