"""Python source as it is written down: lines, blocks, constants, and Avro's primitives in them.

In generated code `value` is the record's bytes and `pos` the next one to read. An emitter's
`ahead` is how many bytes after `pos` its value starts: a union's tag is not stepped over on its
own, which saves an addition per field.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_LINES = 5_000
"""Of generated source; our own schema takes about 800. It bounds the time to learn a schema."""
MAX_DEPTH = 40
"""Of blocks in each other; Python allows 100 indentations."""
MAX_LOOPS = 8
"""Of arrays and maps in each other, two loops each; Python allows 20."""
MAX_BRANCHES = 16
"""Of a union; its comparisons nest in Python's syntax tree, whose depth is bounded too."""

_SHORTEST_RUN, _LONGEST_RUN = 3, 32


class Unsupported(Exception):  # noqa: N818  the finding's own name
    """Schemas that are too large or too rare for generated code."""


class Field(NamedTuple):
    """A written field: whether a zero byte is a null that needs no code, and how to emit it."""

    nullable: bool
    emit: Callable[[], None]


class Text:
    """Source in the making: `lines`, and the `constants` that it names."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self._depth = 0
        self._loops = 0
        self._variables = 0

    def line(self, text: str) -> None:
        """Add a line to the innermost block."""
        if len(self.lines) >= MAX_LINES:
            raise Unsupported(f"more than {MAX_LINES} lines")
        self.lines.append(" " * self._depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Open a block: lines added inside belong to it."""
        if self._depth >= MAX_DEPTH:
            raise Unsupported(f"more than {MAX_DEPTH} blocks in each other")
        self.line(head)
        self._depth += 1
        yield
        self._depth -= 1

    def variable(self, name: str) -> str:
        """A variable that no other part of the source uses."""
        self._variables += 1
        return f"{name}{self._variables}"

    def constant(self, value: Any) -> str:
        """The name under which the source finds a value, which need not have a literal."""
        name = f"C{len(self.constants)}"
        self.constants[name] = value
        return name

    def step(self, count: int) -> None:
        """Step over bytes."""
        if count:
            self.line(f"pos += {count}")

    def number(self, name: str, ahead: int = 0) -> None:
        """Read a number as it is written; most counts and small numbers take one byte."""
        self.step(ahead)
        self.line(f"{name} = value[pos]")
        self.line(f"if {name} > 127: {name}, pos = wide(value, pos)")
        self.line("pos += 1")

    def length(self, ahead: int = 0) -> None:
        """Put `start` and `pos` around text: one test tells lengths under 64 from all others."""
        self.line(f"size = value[{at(ahead)}]")
        self.line(f"if size & 129: start, pos = span(value, {at(ahead)})")
        self.line(f"else: start = {at(ahead + 1)}; pos = start + (size >> 1)")

    def branches(self, emitters: dict[int, Callable[[], None]], quiet: Sequence[int]) -> None:
        """Read a union's index and emit its branches, which start 1 ahead; refuse other indices.

        `quiet` are those that only the tag is to be stepped over for; they are tested last.
        """
        if len(emitters) > MAX_BRANCHES:
            raise Unsupported(f"a union of more than {MAX_BRANCHES} branches")
        self.line("tag = value[pos]")
        self.line("if tag > 127: tag, pos = wide(value, pos)")
        word = "if"
        for index, emit in emitters.items():
            with self.block(f"{word} tag == {2 * index}:"):
                emit()
            word = "elif"
        for index in quiet:
            self.line(f"{word} tag == {2 * index}: pos += 1")
            word = "elif"
        self.line("else: corrupt()" if word == "elif" else "corrupt()")

    @contextmanager
    def items(self, *, by_size: bool = False) -> Iterator[None]:
        """Open the loop over the items of an array or map, in blocks.

        A negative count is followed by the block's bytes, which `by_size` steps over at once. A
        count of more items than bytes left is refused before any is read: every item takes a byte
        at least, though the code for one that nobody wants may not look at it.
        """
        if self._loops >= MAX_LOOPS:
            raise Unsupported(f"more than {MAX_LOOPS} arrays and maps in each other")
        self._loops += 1
        count = self.variable("count")
        self.number(count)
        with self.block(f"while {count}:"):
            with self.block(f"if {count} & 1:"):
                if by_size:
                    self.length()
                    self.line(f"{count} = 0")
                else:
                    self.number("raw")
            self.line(f"{count} = {count} + 1 >> 1")
            self.line(f"if {count} > len(value) - pos: corrupt()")
            with self.block(f"for _ in range({count}):"):
                yield
            self.number(count)
        self._loops -= 1

    def fields(self, fields: Sequence[Field]) -> None:
        """Emit fields in their order; nullable ones that follow each other are tested together."""
        run: list[Field] = []
        for field in fields:
            if not field.nullable or len(run) == _LONGEST_RUN:
                self._run(run)
                run = []
            if field.nullable:
                run.append(field)
            else:
                field.emit()
        self._run(run)

    def _run(self, fields: Sequence[Field]) -> None:
        """Most fields are null in most events: a run of nulls is one comparison, or two of half."""
        count = len(fields)
        if count < _SHORTEST_RUN:
            for field in fields:
                field.emit()
            return
        self.line(f"if value[pos:pos + {count}] == {bytes(count)!r}: pos += {count}")
        with self.block("else:"):
            self._run(fields[: count // 2])
            self._run(fields[count // 2 :])


def at(ahead: int) -> str:
    """The expression for a position after `pos`."""
    return f"pos + {ahead}" if ahead else "pos"
