"""A bug to plant: one place of the engine, broken in one small way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Original = Callable[..., Any]


class Bug(NamedTuple):
    """What is broken: the place by owner and name, and what takes its place there.

    `broken` is given what stands there, and returns what is to stand there while it is planted.
    """

    sentence: str
    owner: Any
    name: str
    broken: Callable[[Any], Any]
