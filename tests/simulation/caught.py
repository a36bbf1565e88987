"""Which seed catches which planted bug: data of the suite, in `caught.txt`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_FILE = Path(__file__).with_name("caught.txt")


class Caught(NamedTuple):
    """A planted bug, the first seed that catches it, and the invariant that it breaks there."""

    bug: str
    seed: int
    invariant: str


def read() -> list[Caught]:
    """What was found by the last hunt."""
    rows = (line.split(" | ") for line in _FILE.read_text().splitlines())
    return [Caught(bug, int(seed), invariant) for bug, seed, invariant in rows]


def write(found: Iterable[Caught]) -> None:
    """Keeps what a hunt has found."""
    _FILE.write_text("".join(f"{bug} | {seed} | {what}\n" for bug, seed, what in found))
